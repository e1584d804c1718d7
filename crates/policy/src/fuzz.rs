//! Hostile bytes against everything in this room that reads: nothing panics, and nothing is permitted that a direct reading
//! denies.
//!
//! Each case follows from one seed, which proptest prints. Agreements and drafts are good ones in which bytes or values
//! were changed, so that most of what is tried gets past the first check.

use cedar_policy::RestrictedExpression;
use cohortium_messages::{Agreement, Document as _, canonical_bytes};
use proptest::prelude::*;
use serde_json::Value;

use crate::clause::Clause;
use crate::compile::compile;
use crate::decide::{facts, judge, judge_asked};
use crate::diff::{Direction, diff};
use crate::draft::parse;
use crate::fixtures::{World, start};
use crate::interpreter::permits;
use crate::log_policy::log_terms;
use crate::random::{self, Draw};
use crate::{describe, lint};

fn world() -> &'static World {
    static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
    WORLD.get_or_init(|| World::new(4))
}

/// Changes up to three bytes, or cuts, or doubles a stretch.
fn spoil(bytes: &mut Vec<u8>, draw: &mut Draw) {
    for _ in 0..=draw.below(3) {
        if bytes.is_empty() {
            return;
        }
        let at = draw.below(bytes.len());
        match draw.below(5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..bytes.len().min(at + 1 + draw.below(40)))),
            2 => bytes.insert(at, draw.below(256) as u8),
            3 => bytes.extend_from_within(at..bytes.len().min(at + draw.below(200))),
            _ => bytes[at] = *draw.pick(b"\"{}[]:,09-.eE\\\0\xff \n#='tn"),
        }
    }
}

/// Changes one value somewhere in a document, into something of the same or another kind.
fn spoil_value(value: &mut Value, draw: &mut Draw) {
    let hostile = [
        Value::Null,
        Value::Bool(true),
        Value::from(-1),
        Value::from(u64::MAX),
        Value::from(0.5),
        Value::from("999999999999999"),
        Value::from("0.000000001"),
        Value::from(""),
        Value::from("x\"}\n\u{202e}\0"),
        Value::from("2026-12-22T00:00:00Z"),
        Value::from("GRU"),
        Value::from(Vec::<Value>::new()),
        Value::Object(serde_json::Map::new()),
    ];
    match value {
        Value::Object(map) if !map.is_empty() && !draw.one_in(8) => {
            // Keys and names are most of an agreement's text, and seldom survive a change.
            let mut key = String::new();
            for _ in 0..3 {
                key.clone_from(map.keys().nth(draw.below(map.len())).unwrap());
                if !["parties", "hub", "log_policy", "researchers", "name"].contains(&key.as_str()) {
                    break;
                }
            }
            match draw.below(30) {
                0 => drop(map.remove(&key)),
                1 => drop(map.insert(format!("{key}s"), Value::Null)),
                _ => spoil_value(map.get_mut(&key).unwrap(), draw),
            }
        }
        Value::Array(items) if !items.is_empty() && !draw.one_in(8) => {
            let at = draw.below(items.len());
            match draw.below(6) {
                0 => drop(items.remove(at)),
                1 => items.push(items[at].clone()),
                2 => items.reverse(),
                _ => spoil_value(&mut items[at], draw),
            }
        }
        Value::Number(number) if draw.one_in(2) => {
            let number = number.as_u64().unwrap_or_default();
            *value =
                Value::from(draw.pick(&[number.saturating_add(1), number.saturating_sub(1), 0, 1 << 32]).to_owned());
        }
        Value::String(text) if text.parse::<f64>().is_ok() && !draw.one_in(4) => {
            *value = Value::from(*draw.pick(&["0", "0.000001", "0.01", "0.5", "1", "1.5", "5", "10", "-1", "1001"]));
        }
        Value::String(text) if text.ends_with('Z') && !draw.one_in(4) => {
            *value = Value::from(*draw.pick(&["2026-11-21T23:59:59Z", "2026-11-22T00:00:01Z", "2027-01-01T00:00:00Z"]));
        }
        _ => *value = draw.pick(&hostile).clone(),
    }
}

/// Everything that reads an agreement, on one that nobody has checked; what is valid and signed is compiled and decides.
fn read_everything(bytes: &[u8], draw: &mut Draw) {
    let Ok(agreement) = serde_json::from_slice::<Agreement>(bytes) else { return };
    let _ = (describe(&agreement), lint(&agreement, start()), log_terms(&agreement));
    let (there, back) = (diff(&world().agreement, &agreement), diff(&agreement, &world().agreement));
    assert!(there.is_empty() == (agreement == *world().agreement) && there.is_empty() == back.is_empty());
    let keys = |agreement: &Agreement| agreement.custodian_keys();
    if agreement.check().is_err() || keys(&agreement) != keys(&world().agreement) {
        return;
    }
    let policy = compile(&world().signed_again(&agreement)).unwrap();
    for _ in 0..8 {
        let asked = random::asked(&agreement, draw);
        let permitted = judge_asked(&policy.policies, &policy.schema, &asked).is_empty();
        assert_eq!(permitted, permits(&agreement, &asked), "{asked:?}");
        let widens = there.iter().any(|change| change.direction == Direction::Widens);
        assert!(widens || !permitted || permits(&world().agreement, &asked), "{there:?} {asked:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn agreements_with_spoilt_bytes(seed: u64) {
        let mut draw = Draw::seeded(seed);
        let mut bytes = canonical_bytes(&*world().agreement).unwrap();
        spoil(&mut bytes, &mut draw);
        read_everything(&bytes, &mut draw);
    }

    #[test]
    fn agreements_with_spoilt_values(seed: u64) {
        let mut draw = Draw::seeded(seed);
        let mut value = serde_json::to_value(&*world().agreement).unwrap();
        for _ in 0..=draw.below(2) {
            spoil_value(&mut value, &mut draw);
        }
        read_everything(value.to_string().as_bytes(), &mut draw);
    }

    /// Lines are taken out, doubled, swapped, given another's value, or spoilt. What resolves is an agreement with its own
    /// log policy.
    #[test]
    fn drafts_with_spoilt_lines(seed: u64) {
        let mut draw = Draw::seeded(seed);
        let mut lines: Vec<String> = World::draft_once().lines().map(String::from).collect();
        for _ in 0..=draw.below(3) {
            let (at, other) = (draw.below(lines.len()), draw.below(lines.len()));
            match draw.below(5) {
                0 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[other].clone()),
                2 => lines.swap(at, other),
                3 => {
                    let value = lines[other].split_once('=').map(|(_, value)| value.to_owned());
                    let key = lines[at].split_once('=').map(|(key, _)| key.to_owned());
                    if let (Some(key), Some(value)) = (key, value) {
                        lines[at] = format!("{key}={value}");
                    }
                }
                _ => {
                    let mut bytes = lines[at].clone().into_bytes();
                    spoil(&mut bytes, &mut draw);
                    lines[at] = String::from_utf8_lossy(&bytes).into_owned();
                }
            }
        }
        let three = World::draft_world();
        if let Ok(draft) = parse(&lines.join("\n")) && let Ok(agreement) = three.resolve(&draft) {
            agreement.check().unwrap();
            assert_eq!(log_terms(&agreement).unwrap(), draft.log);
            let _ = (describe(&agreement), lint(&agreement, start()));
        }
    }

    /// A fact that is missing, doubled, of another type or too many: no evaluation, no permit.
    #[test]
    fn contexts_that_do_not_fit_are_refused(seed: u64) {
        thread_local! {
            static POLICY: crate::Policy = compile(&world().agreement).unwrap();
        }
        let mut draw = Draw::seeded(seed);
        let asked = random::asked(&world().agreement, &mut draw);
        let (long, text) = (RestrictedExpression::new_long, |text: &str| RestrictedExpression::new_string(text.into()));
        let hostile = [
            (long(i64::MIN), "long"),
            (text("true"), "text"),
            (RestrictedExpression::new_bool(false), "bool"),
            (RestrictedExpression::new_set([]), "set"),
            (RestrictedExpression::new_set([long(1)]), "set of longs"),
            (RestrictedExpression::new_set([text("a"), long(1)]), "mixed set"),
            (RestrictedExpression::new_decimal("1.0"), "decimal"),
            (RestrictedExpression::new_record([(String::from("a"), long(1))]).unwrap(), "record"),
        ];
        let mut all = facts(&asked);
        let at = draw.below(all.len());
        let fits = match draw.below(4) {
            0 => {
                all.remove(at);
                false
            }
            1 => {
                all.push((String::from("extra"), long(1)));
                false
            }
            2 => {
                all.push(all[at].clone());
                false
            }
            _ => {
                let (value, is) = draw.pick(&hostile);
                all[at].1 = value.clone();
                kind(&all[at].0) == *is
            }
        };
        POLICY.with(|policy| {
            let failing = judge(&policy.policies, &policy.schema, &asked.researcher, &asked.dataset, all);
            assert!(fits || failing == [Clause::Evaluation], "{failing:?}");
        });
    }
}

/// The type of a fact, by its name.
fn kind(fact: &str) -> &'static str {
    match fact {
        "approval" => "text",
        "approvers" | "cells" | "epsilon_micro" | "max_groups" | "max_rows" | "now" | "participant_count" => "long",
        "counts_groups" | "frozen" | "revoked" => "bool",
        _ => "set",
    }
}
