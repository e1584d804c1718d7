//! A plan in words: what is computed, about whom, in which groups, and how it differs from another plan.
//!
//! The words are made from the plan, which is what runs, and never from the SQL that stands beside it. People who decide on a
//! task and people who read afterwards what was asked are told the same.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_messages::{
    Analysis, Arithmetic, Comparison, DatasetTerms, Decimal, Measure, Modifier, Name, Order, Output, OutputColumn,
    Party, Plan, Predicate, Purpose, Scalar, Value, ascii_json, plain,
};

/// How many values of a list are said.
const MAX_SAID: usize = 20;
/// How many characters of an exact plan are shown around the place where two part.
const EXCERPT: usize = 80;

/// What is asked, in a few sentences.
#[must_use]
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
    text.push_str(&match (plan.bounding.max_groups, plan.bounding.max_rows) {
        (1, 1) => String::from(" Each person counts once."),
        (groups, rows) => format!(
            " One person counts in at most {} with at most {} in each.",
            counted(groups, "group"),
            counted(rows, "row")
        ),
    });
    let persons = terms.minimum_cohort;
    match (persons, plan.bounding.max_rows) {
        (0, _) => {}
        (_, 1) => text.push_str(&format!(" A group whose noisy count is below {persons} is not shown.")),
        (_, rows) => text.push_str(&format!(
            " A group whose noisy count is below {} rows ({} with {rows} each) is not shown.",
            u64::from(persons) * u64::from(rows),
            counted(persons, "person")
        )),
    }
    if plan.limit.is_some() {
        text.push_str(&format!(" Of the answer {} is shown.", shown_rows(plan)));
    }
    text
}

/// The conditions on rows, in words.
#[must_use]
pub fn filter(plan: &Plan) -> String {
    plan.filter.as_ref().map_or_else(|| String::from("all rows"), |filter| predicate(filter, false))
}

/// What kinds of computation a plan has.
#[must_use]
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
///
/// Parts are compared as values and said in words: where the words are the same and the values are not, the line shows the
/// place in the exact plan at which they part.
#[must_use]
pub fn differences(old: &Plan, new: &Plan) -> Vec<String> {
    let each = |what, said: fn(&Plan) -> String, exact: fn(&Plan) -> String| {
        let (exact_old, exact_new) = (exact(old), exact(new));
        if exact_old == exact_new {
            return None;
        }
        let (old, new) = (said(old), said(new));
        Some(if old == new {
            format!("{what}: the words are the same, the plan is not: {}", parting(&exact_old, &exact_new))
        } else {
            format!("{what}: was {old}; is {new}")
        })
    };
    let parts = [
        each("dataset", |plan| plan.dataset.to_string(), |plan| exact(&plan.dataset)),
        each("computed", said_outputs, |plan| {
            let values: Vec<&OutputColumn> = plan.outputs.iter().map(|output| &output.value).collect();
            exact(&(values, &plan.measures))
        }),
        each("headings", headings, headings),
        each("rows", filter, |plan| exact(&plan.filter)),
        each("groups", groups, |plan| exact(&plan.group_by)),
        each("one person", bounding, |plan| exact(&plan.bounding)),
        each("order", order, |plan| exact(&plan.order_by)),
        each("rows of the answer", shown_rows, |plan| exact(&plan.limit)),
        each("repetition", |plan| plan.draw.to_string(), |plan| exact(&plan.draw)),
        each("agreement", |plan| plan.agreement.short(), |plan| exact(&plan.agreement)),
        each("version of the plan", |plan| plan.version.to_string(), |plan| exact(&plan.version)),
    ];
    parts.into_iter().flatten().chain(changed_lists(old, new)).collect()
}

/// A part of a plan to the last character.
fn exact<T: serde::Serialize>(part: &T) -> String {
    // Every part of a plan is written as JSON; should one not be, it is no other's equal.
    serde_json::to_string(part).map_or_else(|error| error.to_string(), |json| ascii_json(&json))
}

/// Two exact texts where they part.
fn parting(old: &str, new: &str) -> String {
    let same = old.chars().zip(new.chars()).take_while(|(old, new)| old == new).count();
    let from = same.saturating_sub(EXCERPT / 2);
    let excerpt = |text: &str| {
        let before = if from > 0 { "…" } else { "" };
        let shown: String = text.chars().skip(from).take(EXCERPT).collect();
        let after = if text.chars().count() > from + EXCERPT { "…" } else { "" };
        format!("{before}{shown}{after}")
    };
    format!("was {}; is {}", excerpt(old), excerpt(new))
}

/// What was added to and taken from lists of which not every value is said.
fn changed_lists(old: &Plan, new: &Plan) -> Vec<String> {
    let (old, new) = (lists(old), lists(new));
    let none = BTreeSet::new();
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    let line = |of: &String| {
        let (old, new) = (old.get(of).unwrap_or(&none), new.get(of).unwrap_or(&none));
        let is_said = old.len().max(new.len()) <= MAX_SAID;
        let several = |values: Vec<&String>| match values.len().saturating_sub(MAX_SAID) {
            _ if values.is_empty() => String::from("nothing"),
            0 => values.into_iter().cloned().collect::<Vec<_>>().join(", "),
            more => {
                let first: Vec<String> = values.into_iter().take(MAX_SAID).cloned().collect();
                format!("{} and {more} more", first.join(", "))
            }
        };
        let (added, gone) = (several(new.difference(old).collect()), several(old.difference(new).collect()));
        (old != new && !is_said).then(|| format!("the list for {of}: added {added}; taken away {gone}"))
    };
    names.into_iter().filter_map(line).collect()
}

/// The values of all lists in the conditions of a plan, by what is compared with them.
fn lists(plan: &Plan) -> BTreeMap<String, BTreeSet<String>> {
    fn collect(condition: &Predicate, lists: &mut BTreeMap<String, BTreeSet<String>>) {
        match condition {
            Predicate::And(parts) | Predicate::Or(parts) => parts.iter().for_each(|part| collect(part, lists)),
            Predicate::In { of, values } => {
                lists.entry(scalar(of)).or_default().extend(values.iter().map(value));
            }
            Predicate::Not(part) => collect(part, lists),
            Predicate::Compare { .. } | Predicate::IsMissing(_) => {}
        }
    }
    let mut found = BTreeMap::new();
    plan.filter.iter().for_each(|filter| collect(filter, &mut found));
    found
}

fn said_outputs(plan: &Plan) -> String {
    let computed: Vec<String> = plan.outputs.iter().filter_map(|output| computed(plan, output)).collect();
    listed(&computed, "and")
}

fn headings(plan: &Plan) -> String {
    plan.outputs.iter().map(|output| quoted(&output.name)).collect::<Vec<_>>().join(", ")
}

fn bounding(plan: &Plan) -> String {
    let (groups, rows) = (counted(plan.bounding.max_groups, "group"), counted(plan.bounding.max_rows, "row"));
    format!("at most {groups} per person, {rows} in each")
}

fn order(plan: &Plan) -> String {
    let by = |order: &Order| {
        let output = usize::try_from(order.output).ok().and_then(|place| plan.outputs.get(place));
        let name = output.map_or_else(|| String::from("(nothing)"), |output| quoted(&output.name));
        if order.descending { format!("{name}, the largest first") } else { name }
    };
    let by: Vec<String> = plan.order_by.iter().map(by).collect();
    if by.is_empty() { String::from("none") } else { format!("by {}", by.join(", then ")) }
}

fn groups(plan: &Plan) -> String {
    let groups: Vec<String> = plan.group_by.iter().map(ToString::to_string).collect();
    if groups.is_empty() { String::from("none") } else { groups.join(", ") }
}

fn shown_rows(plan: &Plan) -> String {
    plan.limit.map_or_else(|| String::from("all"), |limit| format!("at most {}", counted(limit, "row")))
}

/// A number of things: `1 row`, `2 rows`.
#[must_use]
pub fn counted(number: u32, what: &str) -> String {
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
        OutputColumn::Mean { sum, .. } => {
            Some(format!("the mean of {}, and with it how many values it is the mean of", summed(measure(sum))))
        }
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
        Value::Text(text) => quoted(text),
        other => other.to_string(),
    }
}

/// A text in quotation marks, so that no two texts read the same: with what hides as JSON writes it.
fn quoted(text: &str) -> String {
    if plain(text) == text && !text.contains(['“', '”']) { format!("“{text}”") } else { exact(&text) }
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
                more => format!(" or {more} more (the exact plan has them all)"),
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

/// A no that ended a task, taken from the hub's words for how it ended.
pub struct Refusal {
    /// Who, with role and house.
    pub by: String,
    /// Whether a person said it; otherwise a node decided by the agreement.
    pub is_word: bool,
    /// The reason that was given.
    pub why: String,
}

/// What the policy says of a study that stands still at a node.
const STOPPED: &str = "the study is stopped here until the privacy officer sets it going again";

/// Who said no to a task and why, where the hub's words for how it ended tell that: `NODE refuses: …`.
#[must_use]
pub fn refusal(parties: &[Party], why: &str) -> Option<Refusal> {
    let (member, rest) = why.split_once(" refuses: ")?;
    let party = parties.iter().find(|party| party.entry.organisation.as_str() == member)?;
    if let Some((name, reason)) = rest.split_once(" refuses: ")
        && let Some(person) = party.people.iter().find(|person| person.person.as_str() == name)
    {
        let by = format!("{name}, {} of {member}", person.role);
        return Some(Refusal { by, is_word: true, why: reason.to_owned() });
    }
    let officers = party.people.iter().filter(|person| person.role.may_unfreeze());
    let officers: Vec<&str> = officers.map(|person| person.person.as_str()).collect();
    let stopped = format!(
        "the study is stopped at {member} until a privacy officer there ({}) sets it going again",
        officers.join(", ")
    );
    Some(Refusal { by: format!("the node of {member}"), is_word: false, why: rest.replace(STOPPED, &stopped) })
}

/// How a task ended, with who said no where that can be told.
#[must_use]
pub fn how_it_ended(parties: &[Party], why: &str) -> String {
    match refusal(parties, why) {
        Some(Refusal { by, is_word: true, why }) => format!("{by}, said no: {why}"),
        Some(Refusal { by, why, .. }) => format!("{by} says no: {why}"),
        None => why.to_owned(),
    }
}

/// What a purpose means.
#[must_use]
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
#[must_use]
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
#[must_use]
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
    use chacha20::ChaCha20Rng;
    use cohortium_messages::{Bounding, Hash, Order, OrganisationSecrets, PLAN_VERSION, PersonSecrets, Role};
    use rand_core::SeedableRng as _;

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
                "town is one of \"a\\u001b[2Jb\", true",
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
        assert!(predicate(&many, false).ends_with("true or 5 more (the exact plan has them all)"));
    }

    /// What the hub says of a task that ended, and what people read.
    #[test]
    fn a_no_is_said_once_with_who_and_where() {
        let mut rng = ChaCha20Rng::from_seed([12; 32]);
        let keys = OrganisationSecrets::generate(&mut rng);
        let people = [("paula", Role::PrivacyOfficer), ("stella", Role::Steward)];
        let people = people.map(|(who, role)| PersonSecrets::generate(&mut rng).entry(&name(who), role));
        let parties = [Party { entry: keys.entry(&name("riverbank")), people: people.to_vec() }];
        let stopped = format!("riverbank refuses: {STOPPED}");
        for (why, words) in [
            ("riverbank refuses: stella refuses: No, not this", "stella, steward of riverbank, said no: No, not this"),
            ("riverbank refuses: over budget", "the node of riverbank says no: over budget"),
            ("nowhere refuses: stella refuses: no", "nowhere refuses: stella refuses: no"),
            ("too few answered in time", "too few answered in time"),
            (
                stopped.as_str(),
                "the node of riverbank says no: the study is stopped at riverbank until a privacy officer there (paula) sets it \
                 going again",
            ),
        ] {
            assert_eq!(how_it_ended(&parties, why), words);
        }
    }

    #[test]
    fn a_question_names_what_is_computed_and_what_is_different() {
        let plan = mean_age(Some(compare("age", Comparison::Less, 90)));
        let computed: Vec<String> = plan.outputs.iter().filter_map(|output| computed(&plan, output)).collect();
        let expected = [
            "the mean of age (each value held between 0 and 120), and with it how many values it is the mean of",
            "how many rows have a value of age",
        ];
        assert_eq!(computed, expected);
        assert_eq!(analyses(&plan), [Analysis::Count, Analysis::Mean].into());
        let uses =
            |text: &str| columns(&plan).into_iter().find(|(known, _)| *known == name(text)).map(|(_, uses)| uses);
        assert_eq!(uses("age"), Some(vec!["counted or summed", "chooses rows"]));
        assert_eq!(uses("sex"), Some(vec!["groups by it"]));

        assert_eq!(differences(&plan, &plan), Vec::<String>::new());
        let ordered = Plan { order_by: vec![Order { descending: true, output: 1 }], ..plan.clone() };
        assert_eq!(differences(&plan, &ordered), ["order: was none; is by “mean”, the largest first"]);
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

    /// Two lists whose first twenty values are the same, and another draw: the cohort changed, and nothing said so.
    #[test]
    fn repro_a_cohort_that_changed_beyond_what_is_said_is_different() {
        let among = |last: &str, more: &[&str]| {
            let towns = (0..20).map(|number| format!("town {number:02}"));
            let values = towns.chain([last.to_owned()]).chain(more.iter().map(|more| (*more).to_owned()));
            Predicate::In { of: column("town"), values: values.map(Value::Text).collect() }
        };
        let plan = |filter: Predicate, draw| Plan { draw, ..mean_age(Some(filter)) };
        let old = plan(among("x", &[]), 0);
        let found = differences(&old, &plan(among("y", &[]), 1));
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("rows: the words are the same, the plan is not: was …"), "{found:?}");
        assert!(found[0].contains(",\"x\"]") && found[0].contains(",\"y\"]"), "{found:?}");
        assert_eq!(found[1..], ["repetition: was 0; is 1", "the list for town: added “y”; taken away “x”"]);
        // The words differ in a number alone, and the value that was swapped is named.
        let found = differences(&old, &plan(among("y", &["z"]), 0));
        assert!(found.iter().any(|line| line.ends_with("added “y”, “z”; taken away “x”")), "{found:?}");
    }

    /// What cannot be seen is written out: two literals that look alike are not said alike.
    #[test]
    fn repro_texts_that_look_alike_are_said_apart() {
        let is = |text: &str| {
            let right = Scalar::Literal(Value::Text(text.to_owned()));
            mean_age(Some(Predicate::Compare { left: column("town"), operator: Comparison::Equal, right }))
        };
        let looks = ["ab", "a\u{200b}b", "a\u{200c}b", "a  b", "a b", "a”, “b"];
        for (place, old) in looks.iter().enumerate() {
            for new in &looks[place + 1..] {
                let found = differences(&is(old), &is(new));
                assert!(found.len() == 1 && found[0].starts_with("rows: was town is"), "{old:?} {new:?}: {found:?}");
            }
        }
        assert_eq!(filter(&is("a\u{200b}b")), "town is \"a\\u200bb\"");
        let renamed = |name: &str| {
            let mut plan = mean_age(None);
            plan.outputs[1].name = name.to_owned();
            plan
        };
        assert_eq!(differences(&renamed("mean"), &renamed("n")).len(), 1);
    }
}
