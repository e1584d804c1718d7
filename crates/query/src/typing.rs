//! What the parts of a plan are: types, the columns they read, their ranges, and the one error for what does not fit.
//!
//! The same functions serve the planner (which explains to a person) and the check at every node (which believes
//! nothing), so the two cannot drift apart. Everything walks the plan recursively and assumes that
//! [`cohortium_messages::Plan::check_shape`] or the planner's own limit has bounded the depth.

use std::collections::BTreeSet;

use cohortium_messages::{
    Column, ColumnType, Comparison, DatasetTerms, Measure, Name, Predicate, Scalar, Schema, Value,
};

use crate::range::{Range, RangeError, Scale};

/// Something that plans cannot express or that does not fit the dataset. Whoever wrote the query must act.
///
/// Shown as one line. It repeats words of the query, never anything about rows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what}: {instead}")]
pub struct Unsupported {
    /// What is not supported, by name.
    pub what: String,
    /// What to write instead.
    pub instead: String,
}

impl Unsupported {
    pub(crate) fn new(what: impl AsRef<str>, instead: impl AsRef<str>) -> Self {
        Self { what: one_line(what.as_ref()), instead: one_line(instead.as_ref()) }
    }
}

/// The longest text that an error repeats, so that a long query does not fill a screen or a log.
const MAX_SHOWN: usize = 400;

/// Control characters would break the line (or a terminal); they become spaces.
fn one_line(text: &str) -> String {
    text.chars().take(MAX_SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// The type of a value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Boolean,
    Number,
    Text,
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Boolean => "true or false",
            Self::Number => "a number",
            Self::Text => "a text",
        })
    }
}

/// The column of that name, unless it is the one that tells persons apart.
///
/// # Errors
/// When there is none, or it is the person column.
pub(crate) fn column<'a>(terms: &'a DatasetTerms, name: &Name) -> Result<&'a Column, Unsupported> {
    let column = terms.schema.column(name).ok_or_else(|| {
        Unsupported::new(format!("dataset `{}` has no column `{name}`", terms.name), "see its schema")
    })?;
    if terms.schema.person.as_ref() == Some(name) {
        return Err(Unsupported::new(
            format!("column `{name}` tells persons apart and is never asked about"),
            "COUNT(*) counts rows",
        ));
    }
    Ok(column)
}

/// The type of a scalar, after checking every part of it.
///
/// # Errors
/// Unknown columns and arithmetic on anything but numbers.
pub(crate) fn kind_of(scalar: &Scalar, terms: &DatasetTerms) -> Result<Kind, Unsupported> {
    match scalar {
        Scalar::Column(name) => Ok(match column(terms, name)?.kind {
            ColumnType::Boolean => Kind::Boolean,
            ColumnType::Decimal | ColumnType::Integer => Kind::Number,
            ColumnType::Text => Kind::Text,
        }),
        Scalar::Literal(value) => Ok(kind_of_value(value)),
        Scalar::Arithmetic { left, right, .. } => {
            for part in [left, right] {
                let kind = kind_of(part, terms)?;
                if kind != Kind::Number {
                    return Err(Unsupported::new(
                        format!("arithmetic on {} which is {kind}", shown(part)),
                        "use number columns and numbers",
                    ));
                }
            }
            Ok(Kind::Number)
        }
    }
}

/// Checks the types in a condition.
///
/// # Errors
/// Unknown columns, comparisons of different types or by size of what has none, empty lists.
pub(crate) fn check_predicate(predicate: &Predicate, terms: &DatasetTerms) -> Result<(), Unsupported> {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) if parts.is_empty() => {
            Err(Unsupported::new("a condition without parts", "leave it out"))
        }
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().try_for_each(|part| check_predicate(part, terms)),
        Predicate::Not(part) => check_predicate(part, terms),
        Predicate::IsMissing(of) => kind_of(of, terms).map(|_| ()),
        Predicate::Compare { left, operator, right } => {
            let kind = kind_of(left, terms)?;
            must_match(left, kind, right, kind_of(right, terms)?)?;
            let by_size = !matches!(operator, Comparison::Equal | Comparison::NotEqual);
            if by_size && kind != Kind::Number {
                return Err(Unsupported::new(
                    format!("comparing {} by size, which is {kind}", shown(left)),
                    "use =, <> or IN",
                ));
            }
            Ok(())
        }
        Predicate::In { of, values } => {
            if values.is_empty() {
                return Err(Unsupported::new("an empty IN list", "list at least one value"));
            }
            let kind = kind_of(of, terms)?;
            values
                .iter()
                .try_for_each(|value| must_match(of, kind, &Scalar::Literal(value.clone()), kind_of_value(value)))
        }
    }
}

/// Adds the columns that a scalar reads.
pub(crate) fn columns_of_scalar(scalar: &Scalar, into: &mut BTreeSet<Name>) {
    match scalar {
        Scalar::Column(name) => {
            into.insert(name.clone());
        }
        Scalar::Literal(_) => {}
        Scalar::Arithmetic { left, right, .. } => {
            columns_of_scalar(left, into);
            columns_of_scalar(right, into);
        }
    }
}

/// Adds the columns that a condition reads.
pub(crate) fn columns_of_predicate(predicate: &Predicate, into: &mut BTreeSet<Name>) {
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| columns_of_predicate(part, into)),
        Predicate::Not(part) => columns_of_predicate(part, into),
        Predicate::IsMissing(of) | Predicate::In { of, .. } => columns_of_scalar(of, into),
        Predicate::Compare { left, right, .. } => {
            columns_of_scalar(left, into);
            columns_of_scalar(right, into);
        }
    }
}

/// How a summed value is scaled: the only `centre` and `half_range` that a plan may carry for it.
///
/// # Errors
/// When the value is no number, reads no column, has no bounds, or has only one possible value.
pub(crate) fn sum_scale(of: &Scalar, terms: &DatasetTerms) -> Result<Scale, Unsupported> {
    range_of_aggregate(of, terms)?.sum_scale().ok_or_else(|| one_value_only(of))
}

/// As [`sum_scale`], for a mean.
///
/// # Errors
/// As [`sum_scale`].
pub(crate) fn mean_scale(of: &Scalar, terms: &DatasetTerms) -> Result<Scale, Unsupported> {
    range_of_aggregate(of, terms)?.mean_scale().ok_or_else(|| one_value_only(of))
}

/// What counts the rows where `of` has a value: all rows, where it cannot be missing. Sharing one count with
/// `COUNT(*)` makes the vector shorter and so the noise smaller.
pub(crate) fn count_of(of: &Scalar, schema: &Schema) -> Measure {
    let never_missing = match of {
        Scalar::Column(name) => schema.column(name).is_some_and(|column| !column.nullable),
        Scalar::Literal(_) => true,
        Scalar::Arithmetic { .. } => false,
    };
    if never_missing { Measure::Rows } else { Measure::Present { of: of.clone() } }
}

fn kind_of_value(value: &Value) -> Kind {
    match value {
        Value::Boolean(_) => Kind::Boolean,
        Value::Number(_) => Kind::Number,
        Value::Text(_) => Kind::Text,
    }
}

fn must_match(left: &Scalar, left_kind: Kind, right: &Scalar, right_kind: Kind) -> Result<(), Unsupported> {
    if left_kind == right_kind {
        return Ok(());
    }
    Err(Unsupported::new(
        format!("comparing {} which is {left_kind} with {} which is {right_kind}", shown(left), shown(right)),
        "compare values of one type; texts stand in single quotes",
    ))
}

fn range_of_aggregate(of: &Scalar, terms: &DatasetTerms) -> Result<Range, Unsupported> {
    let kind = kind_of(of, terms)?;
    if kind != Kind::Number {
        return Err(Unsupported::new(
            format!("a sum or mean of {} which is {kind}", shown(of)),
            "use COUNT(*) with WHERE or GROUP BY",
        ));
    }
    let mut columns = BTreeSet::new();
    columns_of_scalar(of, &mut columns);
    if columns.is_empty() {
        return Err(Unsupported::new("a sum or mean of a constant", "use COUNT(*) and multiply the answer"));
    }
    range_of(of, terms)
}

fn range_of(scalar: &Scalar, terms: &DatasetTerms) -> Result<Range, Unsupported> {
    match scalar {
        Scalar::Literal(Value::Number(number)) => Ok(Range::exactly(*number)),
        Scalar::Literal(_) => Err(Unsupported::new(format!("a range of {}", shown(scalar)), "use numbers")),
        Scalar::Column(name) => match column(terms, name)?.bounds {
            Some([low, high]) => Ok(Range::new(low, high)),
            None => Err(Unsupported::new(
                format!("a sum or mean of column `{name}`, which has no bounds in the agreement"),
                "use a column with declared bounds, or COUNT",
            )),
        },
        Scalar::Arithmetic { left, operator, right } => {
            range_of(left, terms)?.apply(*operator, range_of(right, terms)?).map_err(|error| match error {
                RangeError::DivisorMayBeZero => Unsupported::new(
                    format!("dividing by {} whose range contains 0", shown(right)),
                    "divide by something whose bounds exclude 0, or divide the answers",
                ),
                RangeError::TooLarge => Unsupported::new(
                    "an expression that may be beyond 1000000000000000",
                    "sum a smaller expression and compute the rest from the answer",
                ),
            })
        }
    }
}

fn one_value_only(of: &Scalar) -> Unsupported {
    Unsupported::new(
        format!("a sum or mean of {} which has only one possible value, or too wide a range", shown(of)),
        "use COUNT(*), or a narrower expression",
    )
}

/// A scalar in words that a person recognises.
fn shown(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Column(name) => format!("column `{name}`"),
        Scalar::Literal(Value::Text(text)) => format!("'{text}'"),
        Scalar::Literal(value) => value.to_string(),
        Scalar::Arithmetic { .. } => String::from("an expression"),
    }
}
