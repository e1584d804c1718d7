//! The exact pooled answer, for the demonstration alone: it owns all the data and may look.
//!
//! A plan evaluated naively over the organisations' CSV files, with the same clamping to bounds and the same logic of
//! missing values, and without noise, masks or budgets. It shares no code with the engine, so that it can disagree.

use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;

use cohortium_messages::{
    Arithmetic, Column, ColumnType, Comparison, Measure, Name, OutputColumn, Plan, Predicate, Scalar, Schema, Value,
};

use cohortium_node::home::CsvOptions;

use crate::output::Failure;

type Row<'a> = HashMap<&'a Name, Option<Value>>;

/// For every group of the plan, in the plan's order, the exact value of every output; keys are left out.
pub fn evaluate(
    plan: &Plan,
    groups: &[Vec<Option<Value>>],
    schema: &Schema,
    options: &CsvOptions,
    files: &[PathBuf],
) -> Result<Vec<Vec<Option<f64>>>, Failure> {
    let columns = columns(plan);
    let mut sums = vec![vec![0.0; plan.measures.len()]; groups.len()];
    for file in files {
        for row in rows(file, schema, options, &columns)? {
            if plan.filter.as_ref().is_none_or(|filter| holds(filter, &row) == Some(true)) {
                let key: Vec<Option<Value>> =
                    plan.group_by.iter().map(|name| row.get(name).cloned().flatten()).collect();
                if let Some(sums) = groups.iter().position(|group| *group == key).and_then(|at| sums.get_mut(at)) {
                    for (sum, measure) in sums.iter_mut().zip(&plan.measures) {
                        *sum += contribution(measure, &row, schema);
                    }
                }
            }
        }
    }
    Ok(sums.iter().map(|sums| plan.outputs.iter().map(|output| show(&output.value, plan, sums)).collect()).collect())
}

/// What one row adds to a measure, in the measure's own unit.
fn contribution(measure: &Measure, row: &Row<'_>, schema: &Schema) -> f64 {
    match measure {
        Measure::Rows => 1.0,
        Measure::Present { of } => f64::from(u8::from(value(of, row).is_some())),
        Measure::CentredSum { centre, of, .. } => {
            number(of, row, Some(schema)).map_or(0.0, |value| value - centre.to_f64())
        }
    }
}

fn show(output: &OutputColumn, plan: &Plan, sums: &[f64]) -> Option<f64> {
    let sum = |at: u32| sums.get(at as usize).copied();
    match output {
        OutputColumn::Key(_) => None,
        OutputColumn::Count(at) | OutputColumn::Sum(at) => sum(*at),
        OutputColumn::Mean { count, sum: at } => {
            let centre = match plan.measures.get(*at as usize)? {
                Measure::CentredSum { centre, .. } => centre.to_f64(),
                _ => 0.0,
            };
            sum(*count).filter(|count| *count > 0.0).zip(sum(*at)).map(|(count, sum)| centre + sum / count)
        }
    }
}

/// A number from a row; columns clamped to their bounds where `bounds` says so.
fn number(scalar: &Scalar, row: &Row<'_>, bounds: Option<&Schema>) -> Option<f64> {
    match scalar {
        Scalar::Literal(Value::Number(value)) => Some(value.to_f64()),
        Scalar::Literal(_) => None,
        Scalar::Column(name) => {
            let Some(Value::Number(value)) = row.get(name).cloned().flatten() else { return None };
            let clamp = bounds.and_then(|schema| schema.column(name)).and_then(|column| column.bounds);
            Some(clamp.map_or(value.to_f64(), |[low, high]| value.to_f64().clamp(low.to_f64(), high.to_f64())))
        }
        Scalar::Arithmetic { left, operator, right } => {
            let (left, right) = (number(left, row, bounds)?, number(right, row, bounds)?);
            let value = match operator {
                Arithmetic::Add => left + right,
                Arithmetic::Subtract => left - right,
                Arithmetic::Multiply => left * right,
                Arithmetic::Divide => left / right,
            };
            value.is_finite().then_some(value)
        }
    }
}

/// A condition in three-valued logic: `None` is "unknown".
fn holds(predicate: &Predicate, row: &Row<'_>) -> Option<bool> {
    match predicate {
        Predicate::And(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| holds(part, row)).collect();
            if parts.contains(&Some(false)) { Some(false) } else { all_known(&parts, true) }
        }
        Predicate::Or(parts) => {
            let parts: Vec<_> = parts.iter().map(|part| holds(part, row)).collect();
            if parts.contains(&Some(true)) { Some(true) } else { all_known(&parts, false) }
        }
        Predicate::Not(part) => holds(part, row).map(|value| !value),
        Predicate::IsMissing(of) => Some(value(of, row).is_none()),
        Predicate::In { of, values } => value(of, row).map(|value| values.iter().any(|v| same(v, &value))),
        Predicate::Compare { left, operator, right } => {
            let (left, right) = (value(left, row)?, value(right, row)?);
            let order = compare(&left, &right)?;
            Some(match operator {
                Comparison::Equal => order.is_eq(),
                Comparison::NotEqual => order.is_ne(),
                Comparison::Less => order.is_lt(),
                Comparison::LessOrEqual => order.is_le(),
                Comparison::Greater => order.is_gt(),
                Comparison::GreaterOrEqual => order.is_ge(),
            })
        }
    }
}

fn all_known(parts: &[Option<bool>], value: bool) -> Option<bool> {
    parts.iter().all(Option::is_some).then_some(value)
}

/// A value for comparing: what was recorded, or the result of arithmetic.
#[derive(Clone)]
enum Found {
    Number(f64),
    Other(Value),
}

fn value(scalar: &Scalar, row: &Row<'_>) -> Option<Found> {
    let recorded = match scalar {
        Scalar::Literal(value) => Some(value.clone()),
        Scalar::Column(name) => Some(row.get(name).cloned().flatten()?),
        Scalar::Arithmetic { .. } => None,
    };
    match recorded {
        Some(Value::Number(value)) => Some(Found::Number(value.to_f64())),
        Some(other) => Some(Found::Other(other)),
        None => number(scalar, row, None).map(Found::Number),
    }
}

fn same(listed: &Value, found: &Found) -> bool {
    match (listed, found) {
        (Value::Number(listed), Found::Number(found)) => listed.to_f64() == *found,
        (listed, Found::Other(found)) => listed == found,
        _ => false,
    }
}

fn compare(left: &Found, right: &Found) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Found::Number(left), Found::Number(right)) => left.partial_cmp(right),
        (Found::Other(left), Found::Other(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

/// The columns that a plan looks at; the others need not be read.
fn columns(plan: &Plan) -> BTreeSet<Name> {
    let mut found: BTreeSet<Name> = plan.group_by.iter().cloned().collect();
    for measure in &plan.measures {
        if let Measure::CentredSum { of, .. } | Measure::Present { of } = measure {
            of_scalar(of, &mut found);
        }
    }
    if let Some(filter) = &plan.filter {
        of_predicate(filter, &mut found);
    }
    found
}

fn of_scalar(scalar: &Scalar, found: &mut BTreeSet<Name>) {
    match scalar {
        Scalar::Column(name) => {
            found.insert(name.clone());
        }
        Scalar::Literal(_) => {}
        Scalar::Arithmetic { left, right, .. } => {
            of_scalar(left, found);
            of_scalar(right, found);
        }
    }
}

fn of_predicate(predicate: &Predicate, found: &mut BTreeSet<Name>) {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| of_predicate(part, found)),
        Predicate::Not(part) => of_predicate(part, found),
        Predicate::IsMissing(of) | Predicate::In { of, .. } => of_scalar(of, found),
        Predicate::Compare { left, right, .. } => {
            of_scalar(left, found);
            of_scalar(right, found);
        }
    }
}

fn rows<'a>(
    file: &PathBuf,
    schema: &'a Schema,
    options: &CsvOptions,
    columns: &BTreeSet<Name>,
) -> Result<Vec<Row<'a>>, Failure> {
    let shown = |error: csv::Error| Failure::usage(format!("{}: {error}", file.display()));
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(options.header)
        .delimiter(options.delimiter)
        .trim(csv::Trim::All)
        .from_path(file)
        .map_err(shown)?;
    let names: Vec<String> = match &options.columns {
        Some(columns) => columns.iter().map(ToString::to_string).collect(),
        None => reader.headers().map_err(shown)?.iter().map(str::to_owned).collect(),
    };
    let wanted: Vec<(usize, &Column)> = names
        .iter()
        .enumerate()
        .filter_map(|(at, name)| Some((at, schema.columns.iter().find(|column| column.name.as_str() == name)?)))
        .filter(|(_, column)| columns.contains(&column.name))
        .collect();
    let row = |record: csv::StringRecord| {
        let cells = wanted
            .iter()
            .map(|(at, column)| (&column.name, parse(column, record.get(*at).unwrap_or_default(), &options.missing)));
        cells.collect()
    };
    reader.records().map(|record| record.map(row).map_err(shown)).collect()
}

fn parse(column: &Column, text: &str, missing: &[String]) -> Option<Value> {
    if text.is_empty() || missing.iter().any(|token| token == text) {
        return None;
    }
    let value = match column.kind {
        ColumnType::Boolean => Value::Boolean(matches!(text, "true" | "1" | "TRUE" | "True")),
        ColumnType::Text => Value::Text(text.to_owned()),
        ColumnType::Integer | ColumnType::Decimal => {
            let text = if text.starts_with('.') { format!("0{text}") } else { text.to_owned() };
            Value::Number(text.trim_end_matches('.').parse().ok()?)
        }
    };
    match &column.domain {
        Some(domain) if !domain.contains(&value) => None,
        _ => Some(value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_is_neither_true_nor_false() {
        let name = Name::new("x").unwrap();
        let row: Row<'_> = HashMap::from([(&name, None)]);
        let compare = Predicate::Compare {
            left: Scalar::Column(name.clone()),
            operator: Comparison::Equal,
            right: Scalar::Literal(Value::Number(1.into())),
        };
        assert_eq!(holds(&compare, &row), None);
        assert_eq!(holds(&Predicate::Not(Box::new(compare.clone())), &row), None);
        assert_eq!(
            holds(&Predicate::Or(vec![compare, Predicate::IsMissing(Scalar::Column(name.clone()))]), &row),
            Some(true)
        );
    }
}
