//! What people and custodians say: approvals, freezes, what is taken back, amendments. Good logs, and one thing wrong.

use cohortium_audit::{Attester, AttesterPart, AuditError, FindingKind, Outcome, export, verify};
use cohortium_ledger::{KeyKind, SignerKey};
use cohortium_messages::{
    Agreement, ApprovalTerms, AutomaticApproval, Envelope, Fact, Hash, IncidentStep, ReleaseDocument,
    RevocationSubject, Role, canonical_bytes, encode_cells,
};
use cohortium_policy::LogTerms;

use crate::hostile::republish;
use crate::world::*;

const APPROVAL_A: usize = 4;
const FIRST_PERMIT: usize = 7;
const FIRST_PRICE: usize = 10;
const ANSWER: usize = 13;

/// At each node one steward must say yes.
fn by_people(agreement: &mut Agreement) {
    agreement.approval = ApprovalTerms {
        automatic: AutomaticApproval { approved_plans: false, classes: Vec::new() },
        hold: false,
        needed: 1,
        roles: vec![Role::Steward],
        wait_hours: 1,
    };
}

fn asked_by_people() -> Story {
    let world = World::new(by_people);
    let mut accounts = [account(), account(), account()];
    let task = world.task("first", "HMB");
    let mut lines = world.agreed(&world.agreement, &[0, 1, 2]);
    lines.push(world.asked(&task, &world.researcher.key));
    let (plan, hash) = (task.plan.hash().unwrap(), hash_of(&task));
    let yes = Fact::Approval { approved: true, plan, task: hash, why: String::from("it is what we agreed on") };
    lines.extend((0..3).map(|house| world.line(Key::Person(house, STELLA), yes.clone(), None)));
    lines.extend((0..3).map(|house| world.permit(house, &mut accounts[house], &task)));
    lines.extend((0..3).map(|house| world.spent(house, &mut accounts[house], &task)));
    lines.push(world.released(&task, &accounts, |_| ()));
    Story { lines, world }
}

fn insert(story: &mut Story, at: usize, key: Key, fact: Fact) {
    let line = story.world.line(key, fact, None);
    story.lines.insert(at, line);
}

fn freeze(frozen: bool) -> Fact {
    Fact::Freeze { frozen, why: String::from("to look at it") }
}

fn taken(subject: RevocationSubject) -> Fact {
    Fact::Revocation { subject, why: String::from("it was stolen") }
}

fn approval(story: &mut Story) -> (&mut bool, &mut Hash, &mut Hash) {
    match &mut story.lines[APPROVAL_A].entry.fact {
        Fact::Approval { approved, plan, task, .. } => (approved, plan, task),
        other => panic!("{} is no approval", other.kind()),
    }
}

fn no_of_stella(story: &Story) -> Line {
    let mut word = story.lines[APPROVAL_A].clone();
    if let Fact::Approval { approved, .. } = &mut word.entry.fact {
        *approved = false;
    }
    word
}

/// The hub says that the task failed, here, and nothing is answered.
fn end(story: &mut Story, at: usize) {
    let task = *approval(story).2;
    story.lines.truncate(FIRST_PRICE);
    insert(story, at, Key::Hub, Fact::Failure { reason: String::from("no answer in time"), task });
}

fn by(story: &mut Story, key: Key) {
    story.lines[APPROVAL_A].key = key;
    story.lines[APPROVAL_A].entry.author = story.world.author(key);
}

#[test]
fn approvals_are_reported() {
    let report = asked_by_people().verify().unwrap();
    let said: Vec<_> = report.tasks[0].approvals.iter().map(|a| (a.organisation.as_str(), a.person.as_str())).collect();
    assert_eq!(said, [("a", "stella"), ("b", "stella"), ("c", "stella")]);
    assert!(matches!(report.tasks[0].outcome, Outcome::Released { entry: 13, .. }) && report.findings.is_empty());
}

/// Each case does one thing to a good log; the audit accepts it, or names the entry and the reason.
#[test]
fn what_people_and_custodians_say_is_judged() {
    type Edit = fn(&mut Story);
    // Where it is named, and how; nothing if it is accepted.
    type Expected = Option<(u64, &'static str)>;
    let cases: [(&str, Edit, Expected); 34] = [
        ("untouched", |_| (), None),
        ("no approval", |s| drop(s.lines.remove(APPROVAL_A)), Some((6, "heart-study/approval"))),
        ("of another house", |s| by(s, Key::Person(1, STEFAN)), Some((7, "heart-study/approval"))),
        ("in a role that does not count", |s| by(s, Key::Person(0, PAULA)), Some((7, "heart-study/approval"))),
        ("in a role that may not", |s| by(s, Key::Person(0, OTTO)), Some((4, "may not do this"))),
        ("by the node itself", |s| by(s, Key::Node(0)), Some((4, "may not say so"))),
        ("by the one who asks", |s| by(s, Key::Researcher), Some((4, "may not say so"))),
        ("key swapped across roles", |s| s.lines[4].key = Key::Person(0, OTTO), Some((4, "not signed by"))),
        ("key of the node", |s| s.lines[4].key = Key::Node(0), Some((4, "not signed by"))),
        ("key of the custodian", |s| s.lines[4].key = Key::Custodian(0), Some((4, "not signed by"))),
        ("replayed for another task", |s| *approval(s).2 = Hash::of(b"x"), Some((4, "does not hold before it"))),
        ("about another plan", |s| *approval(s).1 = Hash::of(b"x"), Some((4, "another plan"))),
        ("a no", |s| *approval(s).0 = false, Some((7, "heart-study/approval"))),
        ("said twice", |s| s.lines.insert(7, s.lines[4].clone()), Some((7, "second word of stella of a"))),
        ("after the permit", |s| s.lines.swap(4, 7), Some((4, "heart-study/approval"))),
        (
            "with a key that its own custodian took back before",
            |s| {
                let key = s.world.people[0][STELLA].public();
                insert(s, 4, Key::Custodian(0), taken(RevocationSubject::Key(key)));
            },
            Some((8, "heart-study/approval")),
        ),
        (
            "with a key that another custodian took back before, whether the node had heard or not",
            |s| {
                let key = s.world.people[0][STELLA].public();
                insert(s, 4, Key::Custodian(1), taken(RevocationSubject::Key(key)));
            },
            Some((8, "heart-study/approval")),
        ),
        (
            "with a key that was taken back when all had permitted",
            |s| {
                let key = s.world.people[0][STELLA].public();
                insert(s, FIRST_PRICE, Key::Custodian(0), taken(RevocationSubject::Key(key)));
            },
            None,
        ),
        ("a yes that became a no", |s| s.lines.insert(7, no_of_stella(s)), Some((8, "heart-study/approval"))),
        ("a yes that became a no when all had permitted", |s| s.lines.insert(FIRST_PRICE, no_of_stella(s)), None),
        (
            "a no that became a yes",
            |s| {
                let yes = s.lines[APPROVAL_A].clone();
                s.lines[APPROVAL_A] = no_of_stella(s);
                s.lines.insert(7, yes);
            },
            Some((7, "second word of stella of a about this task")),
        ),
        (
            "about an answered task",
            |s| s.lines.push(s.world.line(Key::Person(0, STEFAN), s.lines[APPROVAL_A].entry.fact.clone(), None)),
            Some((14, "was released before, at entry 13; the hub must not log that")),
        ),
        (
            "about a task that had failed",
            |s| {
                end(s, FIRST_PERMIT);
                let word = s.lines.remove(APPROVAL_A);
                s.lines.push(word);
            },
            Some((10, "a task that had ended; the hub must not log that")),
        ),
        (
            "permits after the end of the task are for the account alone",
            |s| {
                end(s, FIRST_PERMIT);
                s.lines.drain(APPROVAL_A..FIRST_PERMIT);
                insert(s, 4, Key::Person(0, OTTO), freeze(true));
                insert(s, 4, Key::Custodian(0), taken(RevocationSubject::Agreement));
            },
            None,
        ),
        (
            "permitted after the own custodian took the agreement back",
            |s| insert(s, 4, Key::Custodian(0), taken(RevocationSubject::Agreement)),
            Some((8, "the custodian of a took back the agreement at entry 4; the hub must not log that")),
        ),
        (
            "released after another custodian took the agreement back",
            |s| insert(s, ANSWER, Key::Custodian(1), taken(RevocationSubject::Agreement)),
            Some((14, "releases although the custodian of b took back the agreement")),
        ),
        (
            "released after the researcher's key was taken back",
            |s| {
                let key = s.world.researcher.key.public();
                insert(s, ANSWER, Key::Custodian(2), taken(RevocationSubject::Key(key)));
            },
            Some((14, "took back the key of the researcher rosa")),
        ),
        (
            "taken back by a node",
            |s| insert(s, 4, Key::Node(0), taken(RevocationSubject::Agreement)),
            Some((4, "may not")),
        ),
        (
            "permitted while frozen",
            |s| insert(s, 4, Key::Person(0, OTTO), freeze(true)),
            Some((8, "stands still there since entry 4")),
        ),
        ("frozen elsewhere, permitted before", |s| insert(s, ANSWER, Key::Person(1, OTTO), freeze(true)), None),
        (
            "frozen and set going again",
            |s| {
                insert(s, 4, Key::Person(0, OTTO), freeze(true));
                insert(s, 5, Key::Person(0, PAULA), freeze(false));
            },
            None,
        ),
        (
            "set going again by a steward",
            |s| {
                insert(s, 4, Key::Person(0, OTTO), freeze(true));
                insert(s, 5, Key::Person(0, STELLA), freeze(false));
            },
            Some((5, "may not do this")),
        ),
        (
            "set going again with a key that was taken back",
            |s| {
                let key = s.world.people[0][PAULA].public();
                insert(s, 4, Key::Person(0, OTTO), freeze(true));
                insert(s, 5, Key::Custodian(0), taken(RevocationSubject::Key(key)));
                insert(s, 6, Key::Person(0, PAULA), freeze(false));
            },
            Some((10, "stands still there since entry 4")),
        ),
        (
            "permitted after an alert that froze",
            |s| {
                let (rule, why) = (String::from("repeated"), String::from("asked again and again"));
                insert(s, 4, Key::Node(0), Fact::Alert { froze: true, rule, task: None, why });
            },
            Some((8, "stands still there since entry 4")),
        ),
    ];
    let mut story = asked_by_people();
    let good = story.lines.clone();
    for (defect, edit, expected) in &cases {
        story.lines.clone_from(&good);
        // What is inserted stands after the question: its place is the round's context.
        edit(&mut story);
        match (story.verify(), expected) {
            (Ok(_), None) => {}
            (Err(AuditError::Entry { index, why }), Some((place, words))) => {
                assert!(index == *place && why.contains(words), "{defect}: entry {index}: {why}");
            }
            (found, _) => panic!("{defect}: {found:?}"),
        }
    }
    let refused = cases.iter().filter(|(_, _, expected)| expected.is_some()).count();
    println!("hostile: {refused} cases of people and custodians");
}

/// An answer is refused or given whatever the clocks say: dates are their authors' own, and the order is the log's.
#[test]
fn repro_a_permit_in_the_second_of_an_alert_is_no_error() {
    let (rule, why) = (String::from("repeated"), String::from("asked again and again"));
    let alert = Fact::Alert { froze: true, rule, task: None, why };
    for seconds in [-30, 0, 30] {
        let mut story = asked_by_people();
        insert(&mut story, FIRST_PRICE, Key::Node(0), alert.clone());
        story.lines[FIRST_PRICE].entry.time = start().plus_seconds(60 + seconds);
        let report = story.verify().unwrap();
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
        assert_eq!(found, [(FindingKind::Alert, Some(FIRST_PRICE as u64))], "{seconds}");

        let mut story = asked_by_people();
        insert(&mut story, FIRST_PERMIT, Key::Node(0), alert.clone());
        story.lines[FIRST_PERMIT].entry.time = start().plus_seconds(60 + seconds);
        let error = story.verify().unwrap_err().to_string();
        let words = "the study stands still there since entry 7; the hub must not log that";
        assert!(error.contains("entry 8") && error.contains(words), "{seconds}: {error}");
    }
}

/// Where the agreement says that an approved plan counts again: a second task with the plan of the first, permitted
/// without a word about it; what the log holds before its permits, and whether they stand.
#[test]
fn a_plan_counts_as_approved_by_the_words_before_the_permit() {
    let mut world = World::new(|agreement| {
        by_people(agreement);
        agreement.approval.automatic.approved_plans = true;
    });
    let (first, second) = (world.task("first", "HMB"), world.task("second", "HMB"));
    let (plan, task) = (first.plan.hash().unwrap(), hash_of(&first));
    let word = |world: &World, approved| {
        let fact = Fact::Approval { approved, plan, task, why: String::from("x") };
        world.line(Key::Person(0, STELLA), fact, None)
    };
    let mut lines = world.agreed(&world.agreement, &[0, 1, 2]);
    lines.extend([&first, &second].map(|task| world.asked(task, &world.researcher.key)));
    let key = world.people[0][STELLA].public();
    let lost = world.line(Key::Custodian(1), taken(RevocationSubject::Key(key)), None);
    let (yes, no) = (word(&world, true), word(&world, false));
    let cases = [
        ("a yes in a task that still waits", vec![yes.clone()], true),
        ("nothing", vec![], false),
        ("a yes that became a no", vec![yes.clone(), no], false),
        ("a yes by a key that was taken back since", vec![yes, lost], false),
    ];
    for (case, words, stands) in cases {
        let mut lines = lines.clone();
        lines.extend(words);
        let permit = lines.len() as u64;
        lines.push(world.permit(0, &mut account(), &second));
        let story = Story { lines, world };
        match (story.verify(), stands) {
            (Ok(_), true) => {}
            (Err(AuditError::Entry { index, why }), false) => {
                assert!(index == permit && why.contains("heart-study/approval"), "{case}: entry {index}: {why}");
            }
            (found, _) => panic!("{case}: {found:?}"),
        }
        world = story.world;
    }
}

/// Who looked at a crate saw neither the answer, nor who approved it and why, nor the budget, nor who the attester is.
#[test]
fn repro_a_crate_for_eyes_shows_the_answer_who_approved_it_and_who_attests() {
    let (story, scratch) = (asked_by_people(), Scratch::new());
    let world = &story.world;
    let release = hash_of(&opened::<cohortium_messages::ReleaseDocument>(&story.lines[story.lines.len() - 1]));
    let log = story.write();
    for (key, out, part, says) in [
        (
            &world.people[0][PAULA],
            "of-a",
            AttesterPart::Of(name("a")),
            "is a person of a, which takes part in the study",
        ),
        (world.key(Key::Hub), "stranger", AttesterPart::Unknown, "The agreement does not name the key of mallory"),
    ] {
        let (out, attester) = (scratch.0.join(out), name("mallory"));
        let attester = Attester { at: start(), key, name: &attester };
        let exported = export(&log.0, &world.envelope, release, &out, &attester).unwrap();
        assert_eq!(exported.attester, part);
        let preview = String::from_utf8(files(&out)["data/ro-crate-preview.html"].clone()).unwrap();
        for expected in [
            says,
            "<h2>The answer</h2><table>",
            "stella of a (steward) approved at ",
            "it is what we agreed on",
            "From dataset heart: how many rows there are",
            "The question cost",
            "<td>10</td>",
        ] {
            assert!(preview.contains(expected), "{expected}");
        }
    }
}

#[test]
fn alerts_incidents_and_revocations_are_findings_and_stand_on_the_page() {
    let mut story = asked_by_people();
    let (rule, why) = (String::from("repeated"), String::from("asked <again>"));
    insert(&mut story, 14, Key::Node(1), Fact::Alert { froze: false, rule, task: None, why });
    let record = Envelope::sign(&story.world.task("any document", "HMB"), &story.world.people[0][PAULA]).unwrap();
    let bytes = canonical_bytes(&record).unwrap();
    let fact = Fact::Incident { body: Hash::of(&bytes), incident: name("lost-laptop"), step: IncidentStep::Open };
    let line = story.world.line(Key::Person(0, PAULA), fact, Some(bytes));
    story.lines.push(line);
    insert(&mut story, 16, Key::Custodian(2), taken(RevocationSubject::Agreement));
    let report = story.verify().unwrap();
    let found: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
    let expected =
        [(FindingKind::Alert, Some(14)), (FindingKind::Incident, Some(15)), (FindingKind::Revocation, Some(16))];
    assert_eq!(found, expected);
    let html = cohortium_audit::report(&story.write().0, &story.world.envelope).unwrap().html;
    for words in
        ["asked &lt;again&gt;", "the incident lost-laptop", "takes back the agreement", "it is what we agreed on"]
    {
        assert!(html.contains(words), "{words}");
    }
    story.lines[15].body = None;
    let error = story.verify().unwrap_err().to_string();
    assert!(error.contains("entry 15") && error.contains("is missing"), "{error}");
}

/// The next revision of an agreement, by the same keys.
pub fn amend(first: &World, edit: impl FnOnce(&mut Agreement)) -> World {
    World::new(|agreement| {
        (agreement.revision, agreement.previous) = (2, Some(first.agreement.hash()));
        edit(agreement);
    })
}

/// One task is answered under revision 1, then all sign revision 2, and another is asked under that.
pub fn amended(edit: impl FnOnce(&mut Agreement)) -> (Story, World) {
    let first = World::new(|_| ());
    let second = amend(&first, edit);
    let mut accounts = [account(), account(), account()];
    let (one, two) = (first.task("first", "HMB"), second.task("second", "HMB"));
    let mut lines = first.agreed(&first.agreement, &[0, 1, 2]);
    lines.push(first.asked(&one, &first.researcher.key));
    lines.extend((0..3).map(|house| first.permit(house, &mut accounts[house], &one)));
    lines.extend((0..3).map(|house| first.spent(house, &mut accounts[house], &one)));
    lines.push(first.released(&one, &accounts, |_| ()));
    lines.extend(second.agreed(&second.agreement, &[0, 1, 2]));
    lines.push(second.asked(&two, &second.researcher.key));
    lines.extend((0..3).map(|house| second.permit(house, &mut accounts[house], &two)));
    (Story { lines, world: first }, second)
}

#[test]
fn an_amended_study_is_covered_from_any_revision() {
    let (story, second) = amended(|agreement| agreement.budgets.epsilon_total = 9.into());
    for envelope in [&story.world.envelope, &second.envelope] {
        let report = verify(&story.write().0, envelope).unwrap();
        let revisions: Vec<_> = report.studies.iter().map(|study| (study.revision, study.from)).collect();
        assert!(revisions.len() == 2 && revisions.contains(&(1, 2)) && revisions.contains(&(2, 13)), "{revisions:?}");
        assert_eq!(report.tasks.len(), 2);
        assert_eq!(report.accounts.len(), 3);
        assert!(report.accounts.iter().all(|account| account.epsilon_total == 9.into()));
        let found: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
        assert_eq!(found, [(FindingKind::Amendment, Some(13))]);
        let html = cohortium_audit::report(&story.write().0, envelope).unwrap().html;
        assert!(html.contains("narrows") && html.contains("10 becomes 9"));
    }
}

#[test]
fn what_does_not_belong_to_the_revision_in_force_is_named() {
    // Rolled back: asked under the first after the second is in force.
    let (mut story, _) = amended(|_| ());
    let late = story.world.task("late", "HMB");
    let line = story.world.asked(&late, &story.world.researcher.key);
    story.lines.push(line);
    let error = story.verify().unwrap_err().to_string();
    assert!(error.contains("entry 18: asks under revision 1, which revision 2 replaced at entry 13"), "{error}");
    // Too early: asked under the second before all signed it.
    let (mut story, _) = amended(|_| ());
    story.lines.swap(13, 14);
    let error = story.verify().unwrap_err().to_string();
    assert!(error.contains("entry 13: stands before revision 2"), "{error}");
    // A second revision that amends another first one.
    let (story, _) = amended(|agreement| agreement.previous = Some(Hash::of(b"another")));
    let error = story.verify().unwrap_err().to_string();
    assert!(error.contains("revision 2 does not follow revision 1"), "{error}");
}

/// One task costs about 0.27, two about 0.39. What was spent before stays spent; what comes after must fit.
#[test]
fn budgets_are_replayed_under_the_caps_in_force() {
    for (limit, fits) in [("0.2", false), ("0.3", false), ("0.5", true)] {
        let (story, _) = amended(|agreement| {
            agreement.budgets.epsilon_per_query = limit.parse().unwrap();
            agreement.budgets.epsilon_per_researcher = limit.parse().unwrap();
            agreement.budgets.epsilon_total = limit.parse().unwrap();
        });
        match story.verify() {
            Ok(_) => assert!(fits, "{limit}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!fits && text.contains("entry 15") && text.contains("over budget"), "{limit}: {text}");
            }
        }
    }
}

#[test]
fn groups_that_count_too_few_must_be_left_out() {
    let mut story = Story::with(|agreement| agreement.datasets[0].minimum_cohort = 10, |_| ());
    let error = story.verify().unwrap_err().to_string();
    assert!(error.contains("entry 10") && error.contains("suppressed groups"), "{error}");
    let hidden = |document: &mut ReleaseDocument| {
        (document.cells, document.suppressed) = (encode_cells(&[0, 0]), vec![0, 1]);
    };
    republish(&mut story, hidden);
    let report = story.verify().unwrap();
    assert!(
        matches!(report.tasks[0].outcome, Outcome::Released { suppressed: 2, .. }),
        "{:?}",
        report.tasks[0].outcome
    );
    republish(&mut story, |document| document.suppressed = vec![0]);
    let error = story.verify().unwrap_err().to_string();
    assert!(error.contains("suppressed groups"), "{error}");
}

/// Where the log policy asks for both keys, a member counts with both alone. Which of them sign, and what is said.
#[test]
fn both_keys_of_a_quorum_must_have_signed() {
    use KeyKind::{Witness, WitnessMlDsa44};
    let story = Story::with(
        |agreement| {
            let terms = LogTerms { post_quantum: true, quorum: 3 };
            agreement.log_policy = policy_of(&agreement.hub, &agreement.parties, agreement.secure_sum, terms);
        },
        |_| (),
    );
    let all = [(0, Witness), (0, WitnessMlDsa44), (1, Witness), (1, WitnessMlDsa44), (2, Witness), (2, WitnessMlDsa44)];
    let verify_with = |keys: &[(usize, KeyKind)]| {
        let signers: Vec<SignerKey> = keys.iter().map(|(house, kind)| signer(&story, *house, *kind)).collect();
        let scratch = Scratch::new();
        let bodies: Vec<&[u8]> = story.lines.iter().filter_map(|line| line.body.as_deref()).collect();
        write_log(&scratch, "hub", &story.world.log_key, &story.leaves(), &bodies, |head| cosigned_by(head, &signers));
        verify(&scratch.0, &story.world.envelope)
    };
    let report = verify_with(&all).unwrap();
    assert_eq!(report.log.cosigned_by.len(), 3);
    assert!(report.log.cosigned_by.iter().all(|by| by.keys == ["ed25519", "ml-dsa-44"]));
    for missing in 0..all.len() {
        let keys: Vec<_> = all.iter().enumerate().filter(|(place, _)| *place != missing).map(|(_, key)| *key).collect();
        let error = verify_with(&keys).unwrap_err().to_string();
        assert!(error.contains("2 of 3 cosigned"), "{missing}: {error}");
    }
}

fn signer(story: &Story, house: usize, kind: KeyKind) -> SignerKey {
    let (name, keys) = &story.world.houses[house];
    let seed = if kind == KeyKind::Witness { keys.witness.expose_seed() } else { keys.witness_ml_dsa.clone() };
    SignerKey::from_seed(name.as_str(), kind, &seed).unwrap()
}
