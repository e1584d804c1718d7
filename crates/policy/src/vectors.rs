//! Vectors for other implementations: agreements for JSON Schema validators, compiled policies for other Cedars.
//!
//! `COHORTIUM_WRITE_VECTORS=1` writes them again; `tests/interop/agreement_schema.py` and `tests/interop/cedar.py` read
//! them.

use std::path::PathBuf;

use cohortium_messages::{Agreement, Document as _};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clause::{Asked, Clause};
use crate::compile::{SCHEMA, compile};
use crate::decide::{FactValue, judge_asked, values};
use crate::draft::parse;
use crate::fixtures::World;
use crate::random::{self, Draw};

fn root(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

fn stored(path: &str, text: String) -> String {
    if std::env::var_os("COHORTIUM_WRITE_VECTORS").is_some() {
        std::fs::write(root(path), &text).unwrap();
    }
    let found = std::fs::read_to_string(root(path)).unwrap_or_default();
    assert!(found == text, "{path} is not what the code makes now: COHORTIUM_WRITE_VECTORS=1 writes it again");
    found
}

const GOOD: [&str; 3] = ["good", "good-automatic", "good-everything"];

/// What the good drafts become.
fn agreements() -> Vec<(&'static str, Agreement)> {
    let world = World::new(3);
    let made = |name| {
        let text = std::fs::read_to_string(root(&format!("tests/data/vectors/agreement/{name}.toml"))).unwrap();
        (name, world.resolve(&parse(&text).unwrap()).unwrap())
    };
    GOOD.into_iter().map(made).collect()
}

/// An edit of a good agreement's JSON: at a pointer, another value or (without one) nothing.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Edit {
    name: String,
    of: String,
    at: String,
    to: Option<Value>,
}

fn edited(mut value: Value, Edit { at, to, name, .. }: &Edit) -> Value {
    let (parent, key) = at.rsplit_once('/').unwrap();
    let parent = value.pointer_mut(parent).unwrap_or_else(|| panic!("{name}: nothing at {at}"));
    match (parent, to) {
        (Value::Object(map), Some(to)) => drop(map.insert(key.to_owned(), to.clone())),
        (Value::Object(map), None) => drop(map.remove(key).unwrap()),
        (Value::Array(items), Some(to)) => items[key.parse::<usize>().unwrap()] = to.clone(),
        (other, _) => panic!("{name}: {other}"),
    }
    value
}

#[test]
fn agreements_as_they_are_signed() {
    for (name, agreement) in agreements() {
        let text = stored(
            &format!("tests/data/vectors/agreement/{name}.json"),
            serde_json::to_string_pretty(&agreement).unwrap() + "\n",
        );
        let again: Agreement = serde_json::from_str(&text).unwrap();
        again.check().unwrap();
        assert_eq!(again, agreement, "{name}");
    }
    let text = std::fs::read_to_string(root("tests/data/vectors/agreement/bad-shapes.json")).unwrap();
    let bad: Vec<Edit> = serde_json::from_str(&text).unwrap();
    assert!(bad.len() >= 40, "{}", bad.len());
    for edit in bad {
        let path = format!("tests/data/vectors/agreement/{}.json", edit.of);
        let good: Value = serde_json::from_str(&std::fs::read_to_string(root(&path)).unwrap()).unwrap();
        let bad = edited(good, &edit);
        // What is read and printed back otherwise is not canonical, and no envelope with it opens.
        let is_canonical = |agreement: &Agreement| serde_json::to_value(agreement).is_ok_and(|again| again == bad);
        let read = serde_json::from_value::<Agreement>(bad.clone());
        assert!(!read.is_ok_and(|agreement| agreement.check().is_ok() && is_canonical(&agreement)), "{}", edit.name);
    }
}

/// A good agreement has every key that its schema knows, and the schema knows every key that it has.
#[test]
fn the_schema_has_the_keys_of_the_code() {
    let text = std::fs::read_to_string(root("docs/schema/agreement.v2.schema.json")).unwrap();
    let schema: Value = serde_json::from_str(&text).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for (name, agreement) in agreements() {
        same_keys(&schema, &schema, &serde_json::to_value(&agreement).unwrap(), name, &mut seen);
    }
    let known = known_keys(&schema);
    assert_eq!(known.difference(&seen).collect::<Vec<_>>(), Vec::<&String>::new(), "keys that no vector has");
}

fn same_keys(all: &Value, schema: &Value, value: &Value, at: &str, seen: &mut std::collections::BTreeSet<String>) {
    let schema = match schema.get("$ref").and_then(Value::as_str) {
        Some(reference) => all.pointer(reference.trim_start_matches('#')).unwrap(),
        None => schema,
    };
    match value {
        Value::Object(map) if schema.get("properties").is_some() => {
            assert_eq!(schema["additionalProperties"], Value::Bool(false), "{at}");
            for (key, value) in map {
                let of_key = schema["properties"].get(key).unwrap_or_else(|| panic!("{at}/{key} is not in the schema"));
                seen.insert(key.clone());
                same_keys(all, of_key, value, &format!("{at}/{key}"), seen);
            }
            for required in schema["required"].as_array().unwrap() {
                assert!(map.contains_key(required.as_str().unwrap()), "{at} has no {required}");
            }
        }
        Value::Array(items) => {
            items.iter().for_each(|item| same_keys(all, &schema["items"], item, &format!("{at}/-"), seen));
        }
        _ => {}
    }
}

fn known_keys(schema: &Value) -> std::collections::BTreeSet<String> {
    match schema {
        Value::Object(map) => {
            let own =
                map.get("properties").and_then(Value::as_object).into_iter().flat_map(|keys| keys.keys().cloned());
            own.chain(map.values().flat_map(known_keys)).filter(|key| key != "number").collect()
        }
        Value::Array(items) => items.iter().flat_map(known_keys).collect(),
        _ => Default::default(),
    }
}

/// A compiled policy and what it decides.
struct Compiled {
    cases: Vec<Case>,
    policies: String,
    schema: String,
}

#[derive(Serialize)]
struct Case {
    context: Value,
    dataset: String,
    /// The ids of the policies that forbid it; none means: permitted.
    failing: Vec<String>,
    researcher: String,
}

/// The facts as every Cedar takes them.
fn facts_as_json(asked: &Asked) -> Value {
    let value = |value| match value {
        FactValue::Bool(value) => Value::from(value),
        FactValue::Long(value) => Value::from(value),
        FactValue::Set(words) => Value::from(words),
        FactValue::Text(word) => Value::from(word),
    };
    values(asked).into_iter().map(|(name, found)| (name.to_owned(), value(found))).collect()
}

/// JSON in which a changed case is a changed line.
fn one_case_per_line(compiled: &[Compiled]) -> String {
    let one = |Compiled { cases, policies, schema }: &Compiled| {
        let cases: Vec<String> = cases.iter().map(|case| serde_json::to_string(case).unwrap()).collect();
        let (policies, schema) = (Value::from(policies.as_str()), Value::from(schema.as_str()));
        format!("{{\"policies\": {policies},\n\"schema\": {schema},\n\"cases\": [\n{}\n]}}", cases.join(",\n"))
    };
    format!("[{}]\n", compiled.iter().map(one).collect::<Vec<_>>().join(",\n"))
}

/// Random tasks near what three agreements permit, and the clauses that each fails.
#[test]
fn policies_and_what_they_decide() {
    let world = World::new(3);
    let mut compiled = Vec::new();
    let (mut permitted, mut failed) = (0, std::collections::BTreeSet::new());
    for (seed, (_, agreement)) in (0..).zip(agreements()) {
        let policy = compile(&world.signed_again(&agreement)).unwrap();
        let mut draw = Draw::seeded(seed);
        let mut case = || {
            let asked: Asked = random::asked(&agreement, &mut draw);
            let failing = judge_asked(&policy.policies, &policy.schema, &asked);
            permitted += usize::from(failing.is_empty());
            failed.extend(failing.iter().copied());
            Case {
                context: facts_as_json(&asked),
                dataset: asked.dataset.to_string(),
                failing: failing.iter().map(|clause| clause.policy_id()).collect(),
                researcher: asked.researcher.to_string(),
            }
        };
        let cases = (0..80).map(|_| case()).collect();
        let policies = policy.cedar_text().strip_prefix(SCHEMA).unwrap().to_owned();
        compiled.push(Compiled { cases, policies, schema: SCHEMA.to_owned() });
    }
    assert!(permitted >= 20, "{permitted}");
    assert!(failed.len() + 1 >= Clause::COMPILED.len(), "{failed:?}");
    stored("tests/data/vectors/agreement/cedar.json", one_case_per_line(&compiled));
}
