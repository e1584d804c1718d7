//! A plan in words: what is computed, about whom, in which groups, and how it differs from another plan.
//!
//! The words are made from the plan, which is what runs, and never from the SQL that stands beside it.

use std::collections::BTreeSet;

use cohortium_messages::{
    Analysis, Arithmetic, Comparison, DatasetTerms, Decimal, Measure, Modifier, Name, Output, OutputColumn, Plan,
    Predicate, Purpose, Scalar, Value,
};

use crate::output::plain;

/// How many values of a list are said.
const MAX_SAID: usize = 20;

/// What is asked, in a few sentences.
pub fn question(plan: &Plan, terms: &DatasetTerms) -> String {
    let computed: Vec<String> = plan.outputs.iter().filter_map(|output| computed(plan, output)).collect();
    let mut text = format!("From dataset {}: {}", plan.dataset, listed(&computed, "and"));
    if !plan.group_by.is_empty() {
        let groups: Vec<String> = plan.group_by.iter().map(ToString::to_string).collect();
        text.push_str(&format!(", for each value of {}", listed(&groups, "and")));
    }
    text.push_str(&match &plan.filter {
        None => String::from(". All rows count."),
        Some(filter) => format!(". Only rows count where {}.", predicate(filter, false)),
    });
    text.push_str(&format!(
        " One person counts in at most {} with at most {} in each.",
        counted(plan.bounding.max_groups, "group"),
        counted(plan.bounding.max_rows, "row")
    ));
    if terms.minimum_cohort > 0 {
        text.push_str(&format!(" A group that counts fewer than {} persons is not shown.", terms.minimum_cohort));
    }
    if plan.limit.is_some() {
        text.push_str(&format!(" Of the answer {} is shown.", shown_rows(plan)));
    }
    text
}

/// The conditions on rows, in words.
pub fn filter(plan: &Plan) -> String {
    plan.filter.as_ref().map_or_else(|| String::from("all rows"), |filter| predicate(filter, false))
}

/// What kinds of computation a plan has.
pub fn analyses(plan: &Plan) -> BTreeSet<Analysis> {
    let kinds = plan.outputs.iter().filter_map(|output| match output.value {
        OutputColumn::Count(_) => Some(Analysis::Count),
        OutputColumn::Key(_) => None,
        OutputColumn::Mean { .. } => Some(Analysis::Mean),
        OutputColumn::Sum(_) => Some(Analysis::Sum),
    });
    kinds.collect()
}

/// What is different in `new` from `old`, a line each, but the price. Nothing: the same question.
pub fn differences(old: &Plan, new: &Plan) -> Vec<String> {
    let mut lines = Vec::new();
    let mut changed = |what: &str, old: String, new: String| {
        if old != new {
            lines.push(format!("{what}: was {old}; is {new}"));
        }
    };
    let outputs = |plan: &Plan| {
        let computed: Vec<String> = plan.outputs.iter().filter_map(|output| computed(plan, output)).collect();
        listed(&computed, "and")
    };
    changed("computed", outputs(old), outputs(new));
    changed("rows", filter(old), filter(new));
    changed("groups", groups(old), groups(new));
    let bounding = |plan: &Plan| {
        let (groups, rows) = (counted(plan.bounding.max_groups, "group"), counted(plan.bounding.max_rows, "row"));
        format!("at most {groups} per person, {rows} in each")
    };
    changed("one person", bounding(old), bounding(new));
    changed("rows of the answer", shown_rows(old), shown_rows(new));
    changed("repetition", old.draw.to_string(), new.draw.to_string());
    changed("agreement", old.agreement.short(), new.agreement.short());
    // What has no words here is said to be different all the same: order, headings, how a measure is scaled.
    let rest = Plan { agreement: new.agreement, rho: new.rho, ..old.clone() };
    if lines.is_empty() && rest != *new {
        lines.push(String::from("order, headings or another detail: compare the exact plans"));
    }
    lines
}

fn groups(plan: &Plan) -> String {
    let groups: Vec<String> = plan.group_by.iter().map(ToString::to_string).collect();
    if groups.is_empty() { String::from("none") } else { groups.join(", ") }
}

fn shown_rows(plan: &Plan) -> String {
    plan.limit.map_or_else(|| String::from("all"), |limit| format!("at most {}", counted(limit, "row")))
}

fn counted(number: u32, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{number} {what}s") }
}

/// One output in words; a key of a group is none.
fn computed(plan: &Plan, output: &Output) -> Option<String> {
    let measure = |position: u32| plan.measures.get(position as usize);
    match output.value {
        OutputColumn::Key(_) => None,
        OutputColumn::Count(count) => Some(match measure(count) {
            Some(Measure::Present { of }) => format!("how many rows have a value of {}", scalar(of)),
            _ => String::from("how many rows there are"),
        }),
        OutputColumn::Mean { sum, .. } => Some(format!("the mean of {}", summed(measure(sum)))),
        OutputColumn::Sum(sum) => Some(format!("the sum of {}", summed(measure(sum)))),
    }
}

/// What is summed, and between which bounds each value is held.
fn summed(measure: Option<&Measure>) -> String {
    let Some(Measure::CentredSum { centre, half_range, of }) = measure else { return String::from("(nothing)") };
    let size = half_range.to_f64();
    let (low, high) = (centre.to_f64() - size, centre.to_f64() + size);
    if *centre == Decimal::ZERO {
        // A sum is centred at 0: its bounds are those of the size.
        return format!("{} (each value held to at most {half_range} in size)", scalar(of));
    }
    format!("{} (each value held between {low} and {high})", scalar(of))
}

fn scalar(scalar: &Scalar) -> String {
    match scalar {
        Scalar::Column(name) => name.to_string(),
        Scalar::Literal(literal) => value(literal),
        Scalar::Arithmetic { left, operator, right } => {
            let sign = match operator {
                Arithmetic::Add => "+",
                Arithmetic::Divide => "/",
                Arithmetic::Multiply => "*",
                Arithmetic::Subtract => "-",
            };
            format!("({} {sign} {})", self::scalar(left), self::scalar(right))
        }
    }
}

fn value(literal: &Value) -> String {
    match literal {
        Value::Text(text) => format!("“{}”", plain(text)),
        other => other.to_string(),
    }
}

/// A condition in words; in brackets where it stands inside another.
fn predicate(condition: &Predicate, inside: bool) -> String {
    let several = |parts: &[Predicate], word: &str| {
        let parts: Vec<String> = parts.iter().map(|part| predicate(part, true)).collect();
        let text = parts.join(&format!(" {word} "));
        if inside && parts.len() > 1 { format!("({text})") } else { text }
    };
    match condition {
        Predicate::And(parts) if parts.is_empty() => String::from("anything holds"),
        Predicate::Or(parts) if parts.is_empty() => String::from("nothing holds"),
        Predicate::And(parts) => several(parts, "and"),
        Predicate::Or(parts) => several(parts, "or"),
        Predicate::Compare { left, operator, right } => {
            let word = match operator {
                Comparison::Equal => "is",
                Comparison::Greater => "is above",
                Comparison::GreaterOrEqual => "is at least",
                Comparison::Less => "is below",
                Comparison::LessOrEqual => "is at most",
                Comparison::NotEqual => "is not",
            };
            format!("{} {word} {}", scalar(left), scalar(right))
        }
        Predicate::In { of, values } => {
            let said: Vec<String> = values.iter().take(MAX_SAID).map(value).collect();
            let more = match values.len().saturating_sub(MAX_SAID) {
                0 => String::new(),
                more => format!(" or {more} more (the SQL has them all)"),
            };
            format!("{} is one of {}{more}", scalar(of), said.join(", "))
        }
        Predicate::IsMissing(of) => format!("{} has no value recorded", scalar(of)),
        Predicate::Not(part) => match &**part {
            Predicate::IsMissing(of) => format!("{} has a value recorded", scalar(of)),
            other => format!("it is not so that {}", predicate(other, true)),
        },
    }
}

/// `a, b and c`.
fn listed(items: &[String], word: &str) -> String {
    match items {
        [] => String::from("nothing"),
        [one] => one.clone(),
        [first @ .., last] => format!("{} {word} {last}", first.join(", ")),
    }
}

/// What a purpose means.
pub fn purpose(purpose: &Purpose) -> String {
    match purpose {
        Purpose::DiseaseSpecific(code) => format!("DS:{code}: research on the disease {code} alone"),
        Purpose::GeneralResearch => String::from("GRU: any research"),
        Purpose::HealthMedicalBiomedical => String::from("HMB: health, medical or biomedical research"),
        Purpose::NoRestriction => String::from("NRES: any use"),
        Purpose::PopulationOrigins => String::from("POA: research into origins or ancestry of populations"),
    }
}

/// What a condition means that whoever asks has affirmed.
pub fn affirmed(modifiers: &[Modifier]) -> String {
    let words = |modifier: &Modifier| {
        let (code, meaning) = modifier.words();
        format!("{code} ({meaning})")
    };
    if modifiers.is_empty() {
        return String::from("none: the agreement has no conditions");
    }
    modifiers.iter().map(words).collect::<Vec<_>>().join("; ")
}

/// The columns that a plan touches: name, how it is used.
pub fn columns(plan: &Plan) -> Vec<(Name, Vec<&'static str>)> {
    let (mut filtered, mut computed) = (BTreeSet::new(), BTreeSet::new());
    if let Some(filter) = &plan.filter {
        in_predicate(filter, &mut filtered);
    }
    for measure in &plan.measures {
        if let Measure::CentredSum { of, .. } | Measure::Present { of } = measure {
            in_scalar(of, &mut computed);
        }
    }
    let grouped: BTreeSet<Name> = plan.group_by.iter().cloned().collect();
    let all: BTreeSet<&Name> = filtered.iter().chain(&computed).chain(&grouped).collect();
    let uses = |name: &Name| {
        let uses = [("counted or summed", &computed), ("groups by it", &grouped), ("chooses rows", &filtered)];
        uses.into_iter().filter(|(_, names)| names.contains(name)).map(|(word, _)| word).collect()
    };
    all.into_iter().map(|name| (name.clone(), uses(name))).collect()
}

fn in_predicate(condition: &Predicate, names: &mut BTreeSet<Name>) {
    match condition {
        Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| in_predicate(part, names)),
        Predicate::Compare { left, right, .. } => {
            in_scalar(left, names);
            in_scalar(right, names);
        }
        Predicate::In { of, .. } | Predicate::IsMissing(of) => in_scalar(of, names),
        Predicate::Not(part) => in_predicate(part, names),
    }
}

fn in_scalar(scalar: &Scalar, names: &mut BTreeSet<Name>) {
    match scalar {
        Scalar::Arithmetic { left, right, .. } => {
            in_scalar(left, names);
            in_scalar(right, names);
        }
        Scalar::Column(name) => drop(names.insert(name.clone())),
        Scalar::Literal(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{Bounding, Hash, Order, PLAN_VERSION};

    use super::*;

    fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    fn column(text: &str) -> Scalar {
        Scalar::Column(name(text))
    }

    fn number(value: i32) -> Scalar {
        Scalar::Literal(Value::Number(value.into()))
    }

    fn compare(left: &str, operator: Comparison, right: i32) -> Predicate {
        Predicate::Compare { left: column(left), operator, right: number(right) }
    }

    /// The mean age of each sex.
    fn mean_age(filter: Option<Predicate>) -> Plan {
        let of = column("age");
        let (centre, half_range) = (60.into(), 60.into());
        Plan {
            agreement: Hash::of(b"agreement"),
            bounding: Bounding { max_groups: 1, max_rows: 2 },
            dataset: name("patients"),
            draw: 0,
            filter,
            group_by: vec![name("sex")],
            limit: None,
            measures: vec![Measure::CentredSum { centre, half_range, of: of.clone() }, Measure::Present { of }],
            order_by: Vec::new(),
            outputs: vec![
                Output { name: String::from("sex"), value: OutputColumn::Key(name("sex")) },
                Output { name: String::from("mean"), value: OutputColumn::Mean { count: 1, sum: 0 } },
                Output { name: String::from("n"), value: OutputColumn::Count(1) },
            ],
            rho: cohortium_dp::NanoNats::new(1_000_000),
            version: PLAN_VERSION,
        }
    }

    /// A condition, and how it reads.
    #[test]
    fn conditions_read_as_sentences() {
        let old = compare("age", Comparison::GreaterOrEqual, 65);
        let cases = [
            (old.clone(), "age is at least 65"),
            (Predicate::IsMissing(column("sex")), "sex has no value recorded"),
            (Predicate::Not(Box::new(Predicate::IsMissing(column("sex")))), "sex has a value recorded"),
            (
                Predicate::And(vec![
                    old.clone(),
                    Predicate::Or(vec![compare("a", Comparison::Less, 1), compare("b", Comparison::NotEqual, 2)]),
                ]),
                "age is at least 65 and (a is below 1 or b is not 2)",
            ),
            (
                Predicate::Not(Box::new(Predicate::And(vec![old.clone(), old]))),
                "it is not so that (age is at least 65 and age is at least 65)",
            ),
            (
                Predicate::In {
                    of: column("town"),
                    values: vec![Value::Text("a\u{1b}[2Jb".to_owned()), Value::Boolean(true)],
                },
                "town is one of “a\u{fffd}[2Jb”, true",
            ),
            (Predicate::And(Vec::new()), "anything holds"),
            (Predicate::Or(Vec::new()), "nothing holds"),
            (
                Predicate::Compare {
                    left: Scalar::Arithmetic {
                        left: Box::new(column("a")),
                        operator: Arithmetic::Divide,
                        right: Box::new(number(2)),
                    },
                    operator: Comparison::Greater,
                    right: column("b"),
                },
                "(a / 2) is above b",
            ),
        ];
        for (condition, words) in cases {
            assert_eq!(predicate(&condition, false), words);
        }
        let many = Predicate::In { of: column("a"), values: vec![Value::Boolean(true); 25] };
        assert!(predicate(&many, false).ends_with("true or 5 more (the SQL has them all)"));
    }

    #[test]
    fn a_question_names_what_is_computed_and_what_is_different() {
        let plan = mean_age(Some(compare("age", Comparison::Less, 90)));
        let computed: Vec<String> = plan.outputs.iter().filter_map(|output| computed(&plan, output)).collect();
        let expected = ["the mean of age (each value held between 0 and 120)", "how many rows have a value of age"];
        assert_eq!(computed, expected);
        assert_eq!(analyses(&plan), [Analysis::Count, Analysis::Mean].into());
        let uses =
            |text: &str| columns(&plan).into_iter().find(|(known, _)| *known == name(text)).map(|(_, uses)| uses);
        assert_eq!(uses("age"), Some(vec!["counted or summed", "chooses rows"]));
        assert_eq!(uses("sex"), Some(vec!["groups by it"]));

        assert_eq!(differences(&plan, &plan), Vec::<String>::new());
        let ordered = Plan { order_by: vec![Order { descending: true, output: 1 }], ..plan.clone() };
        assert_eq!(differences(&plan, &ordered), ["order, headings or another detail: compare the exact plans"]);
        let other = Plan { draw: 1, group_by: Vec::new(), limit: Some(1), ..mean_age(None) };
        assert_eq!(
            differences(&plan, &other),
            [
                "rows: was age is below 90; is all rows",
                "groups: was sex; is none",
                "rows of the answer: was all; is at most 1 row",
                "repetition: was 0; is 1",
            ]
        );
    }
}
