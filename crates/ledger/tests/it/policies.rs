//! The text of a policy, and what it demands.

use cohortium_ledger::log_policy::{DEPTH_MAX, GROUPS_MAX, WITNESSES_MAX};
use cohortium_ledger::{KeyKind, LogPolicy, PolicyError, SignerKey};

use crate::world::{HUB, MEMBERS, TIME_S, World, cosigned, cosigner, log_key, member, policy};

fn vkey(name: &str) -> String {
    cosigner(name).verifiers()[0].to_string()
}

/// A policy over witnesses a, b, c and d, from its groups and quorum.
fn over_four(rules: &str) -> LogPolicy {
    let mut text = format!("log {}\n", log_key(HUB).verifier());
    for name in ["a", "b", "c", "d"] {
        text.push_str(&format!("witness {name} {}\n", vkey(name)));
    }
    text.push_str(rules);
    let policy = LogPolicy::parse(text.as_bytes()).unwrap();
    assert_eq!(policy.to_string(), text);
    policy
}

/// Every subset of four witnesses, against what a reader of the rule would say.
#[test]
fn rules_mean_what_they_say() {
    type Expected = fn(bool, bool, bool, bool) -> bool;
    let cases: [(&str, Expected); 8] = [
        ("quorum c\n", |_, _, c, _| c),
        ("group g all a b c\nquorum g\n", |a, b, c, _| a && b && c),
        ("group g any a b c\nquorum g\n", |a, b, c, _| a || b || c),
        ("group g 2 a b c\nquorum g\n", |a, b, c, _| u8::from(a) + u8::from(b) + u8::from(c) >= 2),
        ("group x all a b\ngroup y any c d\ngroup g all x y\nquorum g\n", |a, b, c, d| (a && b) && (c || d)),
        ("group x all a b\ngroup g 2 x c d\nquorum g\n", |a, b, c, d| {
            u8::from(a && b) + u8::from(c) + u8::from(d) >= 2
        }),
        ("group x any a b\ngroup y all x c\ngroup z any y d\nquorum z\n", |a, b, c, d| ((a || b) && c) || d),
        ("group unused all a b\ngroup g 1 c d\nquorum g\n", |_, _, c, d| c || d),
    ];
    let world = World::with_entries(3);
    for (rules, expected) in cases {
        let policy = over_four(rules);
        for subset in 0..16u8 {
            let has = [0, 1, 2, 3].map(|bit| subset >> bit & 1 == 1);
            let names: Vec<&str> =
                ["a", "b", "c", "d"].into_iter().zip(has).filter_map(|(name, has)| has.then_some(name)).collect();
            let head = cosigned(world.log.checkpoint(), &names, TIME_S);
            let met = policy.is_met(&head);
            assert_eq!(met.is_ok(), expected(has[0], has[1], has[2], has[3]), "{rules} {names:?}");
            if let Ok(met) = met {
                assert_eq!(met.cosigned_by().len(), names.len());
            }
        }
    }
}

#[test]
fn the_policy_of_an_agreement_has_one_text() {
    let text = policy().to_string();
    let shape: Vec<String> = text
        .lines()
        .map(|line| line.split(' ').map(|word| word.split('+').next().unwrap()).collect::<Vec<_>>().join(" "))
        .collect();
    assert_eq!(
        shape,
        [
            "log hub",
            "witness northside/ed25519 northside",
            "witness northside/ml-dsa-44 northside",
            "group northside all northside/ed25519 northside/ml-dsa-44",
            "witness southside/ed25519 southside",
            "witness southside/ml-dsa-44 southside",
            "group southside all southside/ed25519 southside/ml-dsa-44",
            "witness westside westside",
            "group members 2 northside southside westside",
            "quorum members",
        ]
    );
    let parsed = LogPolicy::parse(text.as_bytes()).unwrap();
    assert_eq!((parsed.to_string(), &parsed), (text.clone(), &policy()));
    let mut turned = MEMBERS.map(member);
    turned.reverse();
    assert_eq!(LogPolicy::of_members(log_key(HUB).verifier(), &turned, 2).unwrap(), policy());
    assert_eq!(policy().flat_quorum().unwrap(), (2, MEMBERS.map(member).to_vec()));
    assert_eq!(policy().logs().collect::<Vec<_>>(), [log_key(HUB).verifier()]);
    assert_eq!(policy().witnesses().count(), 5);
}

/// What means nearly the same, or the same, is not the shape that an agreement states.
#[test]
fn only_the_exact_shape_is_a_flat_quorum() {
    let text = policy().to_string();
    let edits: [(&str, &str); 9] = [
        ("group members 2 ", "group members all "),
        ("group members 2 ", "group members any "),
        (" northside southside westside", " southside northside westside"),
        (" all northside/ed25519 northside/ml-dsa-44", " any northside/ed25519 northside/ml-dsa-44"),
        (" all northside/ed25519 northside/ml-dsa-44", " 2 northside/ed25519 northside/ml-dsa-44"),
        (" all northside/ed25519 northside/ml-dsa-44", " all northside/ml-dsa-44 northside/ed25519"),
        (" all northside/ed25519 northside/ml-dsa-44", " all northside/ed25519"),
        ("quorum members", "quorum northside"),
        ("quorum members", "quorum none"),
    ];
    for (from, to) in edits {
        let other = LogPolicy::parse(text.replacen(from, to, 1).as_bytes()).unwrap();
        assert_ne!(other, policy());
        assert!(other.flat_quorum().is_none(), "{to}");
    }
    let second_log = format!("log {}\n{text}", log_key("another").verifier());
    assert!(LogPolicy::parse(second_log.as_bytes()).unwrap().flat_quorum().is_none());
    let with_url = text.replacen("\nwitness", " https://hub.example\nwitness", 1);
    assert!(LogPolicy::parse(with_url.as_bytes()).unwrap().flat_quorum().is_none());
}

#[test]
fn comments_blanks_and_urls_are_read() {
    let log = log_key(HUB).verifier().to_string();
    let text = format!(
        "# who we believe\n\n \t# more\n\tlog  {log}\thttps://hub.example/log \nwitness K\u{f6}ln {}\nquorum K\u{f6}ln\n# end\n",
        vkey("a")
    );
    let policy = LogPolicy::parse(text.as_bytes()).unwrap();
    let canonical = format!("log {log} https://hub.example/log\nwitness K\u{f6}ln {}\nquorum K\u{f6}ln\n", vkey("a"));
    assert_eq!(policy.to_string(), canonical);
    assert_eq!(LogPolicy::parse(canonical.as_bytes()).unwrap(), policy);
}

#[test]
fn who_is_missing_is_named() {
    let mut world = World::with_entries(3);
    let head = world.cosign(&["westside"]);
    let error = policy().is_met(&head).unwrap_err();
    assert_eq!(
        error.to_string(),
        "peer: members is not met: 1 of 2 cosigned; not by: northside/ed25519, northside/ml-dsa-44, \
         southside/ed25519, southside/ml-dsa-44"
    );
    let head = world.cosign(&["northside", "westside"]);
    let names: Vec<String> =
        policy().is_met(&head).unwrap().cosigned_by().iter().map(|by| by.witness.name().to_owned()).collect();
    assert_eq!(names, ["northside", "northside", "westside"]);
    // One of the two keys is not enough.
    let one_key = [member("northside").ed25519, member("westside").ed25519];
    let error = policy().is_met(&head.with_only(&one_key).unwrap()).unwrap_err();
    assert!(error.to_string().contains("1 of 2 cosigned; not by: northside/ml-dsa-44, southside"), "{error}");
}

#[test]
fn a_policy_without_a_quorum_opens_heads_and_is_evidence_of_nothing() {
    let mut world = World::with_entries(3);
    let head = world.cosign(&MEMBERS);
    let policy = over_four("quorum none\n");
    assert_eq!(policy.open(head.to_string().as_bytes()).unwrap(), head);
    assert_eq!(policy.is_met(&head), Err(PolicyError::NothingDemanded));
}

/// Two keys of one log during a rotation: either may have signed, and a line that claims to be by either must verify.
#[test]
fn a_log_may_have_two_keys() {
    let other = SignerKey::from_seed(HUB, KeyKind::Log, &[77; 32]).unwrap();
    let text = format!("log {}\n{}", other.verifier(), policy());
    let policy = LogPolicy::parse(text.as_bytes()).unwrap();
    let mut world = World::with_entries(3);
    let head = world.cosign(&["northside", "westside"]);
    assert_eq!(policy.open(head.to_string().as_bytes()).unwrap(), head);
    policy.is_met(&head).unwrap();
    let mut lines = vec![other.sign("another text\n").unwrap()];
    lines.extend(head.note().signatures().to_vec());
    let note = cohortium_ledger::Note::new(head.note().text(), lines).unwrap();
    let error = policy.open(note.to_string().as_bytes()).unwrap_err();
    assert!(error.to_string().contains("the signature of hub does not verify"), "{error}");
}

#[test]
fn limits_are_kept_and_reached() {
    let deep = |groups: usize| {
        let mut rules = "group g0 all a\n".to_owned();
        for level in 1..groups {
            rules.push_str(&format!("group g{level} all g{}\n", level - 1));
        }
        let log = log_key(HUB).verifier().to_string();
        format!("log {log}\nwitness a {}\n{rules}quorum g{}\n", vkey("a"), groups - 1)
    };
    LogPolicy::parse(deep(DEPTH_MAX).as_bytes()).unwrap();
    let error = LogPolicy::parse(deep(DEPTH_MAX + 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("16 levels of groups"), "{error}");
    let many = |count: usize| {
        let mut text = String::new();
        for number in 0..count {
            let key = SignerKey::from_seed("w", KeyKind::Witness, &[u8::try_from(number).unwrap(); 32]).unwrap();
            text.push_str(&format!("witness w{number} {}\ngroup g{number} all w{number}\n", key.verifier()));
        }
        format!("{text}quorum g0\n")
    };
    assert_eq!(WITNESSES_MAX, GROUPS_MAX);
    LogPolicy::parse(many(WITNESSES_MAX).as_bytes()).unwrap();
    let error = LogPolicy::parse(many(WITNESSES_MAX + 1).as_bytes()).unwrap_err();
    assert!(error.to_string().contains("limit of 201 witnesses"), "{error}");
}
