//! What the order of the hub's log decides: words that cross on their way, words that must not be said, and an auditor who
//! finds nothing wrong with anybody who did nothing wrong. Every story ends with an audit.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::rc::Rc;

use cohortium_messages::{
    Author, Call, Entry, Envelope, Fact, Hash, InboxItem, Name, Reply, RevocationSubject, RoundStep, TaskState,
    TaskStatus, canonical_bytes,
};
use cohortium_node::Heard;
use cohortium_policy::watch::{Rule, Rules};
use cohortium_sim::{Asked, Fate, SimError, World, keys};

use crate::common::{
    HOSPITALS, QUESTION, ask_people, config, config_with_people, demand_promises, log_entries, log_of, world, yes,
};

/// The log is what an auditor accepts, and accuses nobody.
pub fn demand_accepted(world: &mut World) {
    world.run_until_quiet().unwrap(); // what is new in the log is cosigned
    let audited = cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope());
    assert!(audited.is_ok(), "{:?}", audited.err().map(|error| error.to_string()));
    demand_promises(world);
}

/// A member lays an entry before the hub, whatever its node thinks of it; the code of the refusal, if it is refused.
fn lay(world: &mut World, member: &str, entry: Envelope) -> Result<(), String> {
    match world.call_as_node(member, Call::Log { body: None, entry }) {
        Ok(Reply::Accepted) => Ok(()),
        Err(SimError::Refused(refused)) => Err(refused.code),
        other => panic!("{other:?}"),
    }
}

fn lay_word(world: &mut World, member: &str, person: &str, fact: Fact) -> Result<(), String> {
    let entry = world.said(member, person, fact).unwrap();
    lay(world, member, entry)
}

fn revoke(world: &mut World, member: &str, subject: RevocationSubject) {
    let fact = Fact::Revocation { subject, why: String::from("we change our mind") };
    let key = keys::organisation(world.seed(), member).agreement;
    let entry = world.signed(Author::Custodian(Name::new(member).unwrap()), fact, &key).unwrap();
    lay(world, member, entry).unwrap();
}

fn no(asked: &Asked) -> Fact {
    let (plan, why) = (asked.plan.hash().unwrap(), String::from("a mistake"));
    Fact::Approval { approved: false, plan, task: asked.hash, why }
}

fn freeze(frozen: bool) -> Fact {
    Fact::Freeze { frozen, why: String::from("to look at it") }
}

fn key_of(world: &World, member: &str, person: &str) -> RevocationSubject {
    RevocationSubject::Key(keys::person(world.seed(), member, person).key.public())
}

/// At these members a steward says yes to what was asked.
fn approve(world: &mut World, members: &[&str], asked: &Asked) {
    for member in members {
        let heard = world.say(member, "stella", yes(asked)).unwrap();
        assert!(matches!(heard, Heard::Acted(_)), "{member}: {heard:?}");
    }
    world.run_until_quiet().unwrap();
}

/// Nothing that these members post in a round arrives, until the network is honest again.
fn hold_back(world: &mut World, members: &'static [&'static str]) {
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Permitted { .. } } if members.contains(&node.as_str()) => Fate::Lose,
        _ => Fate::Deliver,
    });
}

/// How a task ended, as a member sees it.
fn ended(world: &mut World, asked: &Asked) -> TaskStatus {
    for _ in 0..4 {
        world.run_until_quiet().unwrap();
        let call = Call::Status { known: 0, task: asked.hash, wait_ms: 0 };
        let Reply::Status(status) = world.call_as_node("b", call).unwrap() else { panic!("another reply") };
        if status.state.is_terminal() {
            return status;
        }
        let wait_s = status.remaining_s.unwrap_or_default();
        world.advance(i64::from(wait_s) + 1).unwrap();
    }
    panic!("the task reaches no end");
}

/// Whether the end of a task stands in the log before every permit of it.
fn permits_follow_the_end(world: &mut World, asked: &Asked) -> bool {
    let log = log_of(world, asked.hash);
    let end = log.iter().position(|line| line.ends_with("failure") || line.ends_with("refusal")).unwrap();
    let permit = log.iter().position(|line| line.ends_with("permit"));
    permit.is_none_or(|permit| end < permit)
}

/// What was said while a's permit was on its way, and what becomes of the task then: whoever signed what, the hub sees the
/// order, ends the task, and an auditor accuses nobody.
#[test]
fn repro_what_an_audit_forbids_of_permits_is_not_logged() {
    type Meanwhile = fn(&mut World, &Asked);
    let cases: [(&str, Meanwhile, &str); 7] = [
        ("its own person stops the study", |w, _| lay_word(w, "a", "otto", freeze(true)).unwrap(), "stopped here"),
        (
            "its node says that it stopped the study",
            |w, _| {
                let fact = Fact::Alert { froze: true, rule: "x".to_owned(), task: None, why: "x".to_owned() };
                let key = keys::organisation(w.seed(), "a").message;
                let entry = w.signed(Author::Node(Name::new("a").unwrap()), fact, &key).unwrap();
                lay(w, "a", entry).unwrap();
            },
            "stopped here",
        ),
        (
            "its own custodian takes back the agreement",
            |w, _| revoke(w, "a", RevocationSubject::Agreement),
            "has revoked the agreement",
        ),
        (
            "its own custodian takes back the researcher's key",
            |w, _| revoke(w, "a", RevocationSubject::Key(w.researcher_key().public())),
            "has revoked the key of rosa",
        ),
        (
            "its own custodian takes back the steward's key",
            |w, _| revoke(w, "a", key_of(w, "a", "stella")),
            "0 of 1 people have approved",
        ),
        (
            "another custodian takes back the steward's key",
            |w, _| revoke(w, "c", key_of(w, "a", "stella")),
            "0 of 1 people have approved",
        ),
        (
            "the steward says no after all",
            |w, asked| {
                let yes = w.said("a", "stella", yes(asked)).unwrap();
                let _ = lay(w, "a", yes); // the node may have told of it before
                lay_word(w, "a", "stella", no(asked)).unwrap();
            },
            "stella refuses: a mistake",
        ),
    ];
    let mut base = World::new(config_with_people(1601)).unwrap();
    let asked = ask_people(&mut base);
    for (case, meanwhile, words) in cases {
        for late in [&["a"][..], &["b"]] {
            // Either a's permit comes after the word, or it waits at the hub for b's, which does.
            let mut world = base.fork().unwrap();
            match late {
                ["a"] => hold_back(&mut world, &["a"]),
                _ => hold_back(&mut world, &["b"]),
            }
            // No node hears of the word before the permits are in.
            world.between_hub_and_node(|_, item| match item {
                InboxItem::Logged { .. } | InboxItem::Void { .. } => Fate::Lose,
                _ => Fate::Deliver,
            });
            approve(&mut world, &HOSPITALS, &asked);
            meanwhile(&mut world, &asked);
            world.honest_again();
            let status = ended(&mut world, &asked);
            assert_eq!(status.state, TaskState::Failed, "{case}: {}", status.why);
            assert!(status.why.contains(words), "{case}: {}", status.why);
            assert!(permits_follow_the_end(&mut world, &asked), "{case}: {:?}", log_of(&mut world, asked.hash));
            assert_eq!(world.wire.reveals(), 0, "{case}");
            demand_accepted(&mut world);
        }
    }
}

/// A permit that stands on nobody's word, and on no plan that was ever approved; what its people said is kept from the hub.
#[test]
fn repro_a_permit_that_nobody_approved_ends_the_task() {
    for again in [false, true] {
        let mut config = config_with_people(1602);
        config.approval.as_mut().unwrap().automatic.approved_plans = again;
        let mut world = World::new(config).unwrap();
        let asked = ask_people(&mut world);
        world.between_node_and_hub(|node, call| {
            match call {
                Call::Log { entry, .. } if node.as_str() == "a" && is_approval(entry) => {
                    *call = Call::Directory { after: None }
                }
                Call::Post { step: RoundStep::Permitted { approvals, .. } } if node.as_str() == "a" => {
                    approvals.clear()
                }
                _ => {}
            }
            Fate::Deliver
        });
        approve(&mut world, &["a"], &asked);
        let status = ended(&mut world, &asked);
        assert_eq!(status.state, TaskState::Failed, "{}", status.why);
        assert!(status.why.contains("0 of 1 people have approved"), "{}", status.why);
        assert!(permits_follow_the_end(&mut world, &asked));
        demand_accepted(&mut world);
    }
}

fn is_approval(entry: &Envelope) -> bool {
    matches!(entry.peek::<Entry>().unwrap().claims().fact, Fact::Approval { .. })
}

/// What people say a second time, or when all is over. Each step: who says what, and the code of the refusal.
#[test]
fn repro_words_an_audit_forbids_are_not_logged() {
    let mut world = World::new(config_with_people(1603)).unwrap();
    let asked = ask_people(&mut world);
    let (yes, no) = (yes(&asked), no(&asked));
    let said: [(&str, &Fact, Result<(), &str>); 6] = [
        ("stella", &yes, Ok(())),
        ("stella", &yes, Err("conflict")),
        ("stella", &no, Ok(())),
        ("stella", &yes, Err("conflict")),
        ("stella", &no, Err("conflict")),
        ("stefan", &yes, Ok(())),
    ];
    for (person, fact, expected) in said {
        world.advance(1).unwrap(); // the same words at another time are other words
        assert_eq!(
            lay_word(&mut world, "a", person, fact.clone()),
            expected.map_err(str::to_owned),
            "{person} {fact:?}"
        );
        demand_accepted(&mut world);
    }
    // With a yes that must not follow a no, a permit is not taken either.
    world.advance(1).unwrap();
    let third = world.said("a", "stella", yes.clone()).unwrap();
    let fact = Fact::Refusal { clauses: Vec::new(), task: asked.hash, why: String::from("no") };
    let key = keys::organisation(world.seed(), "a").message;
    let entry = world.signed(Author::Node(Name::new("a").unwrap()), fact, &key).unwrap();
    let step = RoundStep::Refused { approvals: vec![third], entry: entry.clone() };
    let refused = world.call_as_node("a", Call::Post { step });
    assert!(matches!(&refused, Err(SimError::Refused(refused)) if refused.code == "conflict"), "{refused:?}");
    world.call_as_node("a", Call::Post { step: RoundStep::Refused { approvals: Vec::new(), entry } }).unwrap();
    assert_eq!(ended(&mut world, &asked).state, TaskState::Refused);
    assert_eq!(lay_word(&mut world, "b", "stella", yes).unwrap_err(), "denied", "nobody is asked any more");
    demand_accepted(&mut world);

    let answered = ask_people(&mut world);
    approve(&mut world, &HOSPITALS, &answered);
    assert_eq!(ended(&mut world, &answered).state, TaskState::Released);
    let late = Fact::Approval {
        approved: true,
        plan: answered.plan.hash().unwrap(),
        task: answered.hash,
        why: String::from("fine"),
    };
    assert_eq!(lay_word(&mut world, "a", "stefan", late).unwrap_err(), "denied");
    demand_accepted(&mut world);
}

/// A yes becomes a no while two must say yes: the second yes does not make it run.
#[test]
fn repro_a_no_in_the_log_outweighs_what_was_said_before() {
    let mut config = config_with_people(1604);
    config.approval.as_mut().unwrap().needed = 2;
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    lay_word(&mut world, "a", "stella", yes(&asked)).unwrap();
    lay_word(&mut world, "a", "stella", no(&asked)).unwrap();
    for member in HOSPITALS {
        for person in ["stella", "stefan"] {
            world.say(member, person, yes(&asked)).unwrap();
        }
    }
    let status = ended(&mut world, &asked);
    assert_ne!(status.state, TaskState::Released);
    assert_eq!(world.wire.reveals(), 0);
    demand_accepted(&mut world);
}

/// A custodian's entry about an agreement, in the name of another study.
#[test]
fn repro_an_entry_in_the_name_of_another_study_is_not_logged() {
    let mut world = world(1605);
    let next = world.amended(|next| next.retention_days = 30);
    let key = keys::organisation(world.seed(), "a").agreement;
    let envelope = Envelope::sign(&next, &key).unwrap();
    let body = Hash::of(&canonical_bytes(&envelope).unwrap());
    let right = Entry {
        agreement: Hash::of(&canonical_bytes(&next).unwrap()),
        author: Author::Custodian(Name::new("a").unwrap()),
        fact: Fact::Agreement { body, revision: next.revision },
        study: next.study.clone(),
        time: world.clock(),
    };
    let wrong = [
        Entry { study: Name::new("another").unwrap(), ..right.clone() },
        Entry { agreement: Hash::of(b"another"), ..right.clone() },
        Entry { author: Author::Custodian(Name::new("b").unwrap()), ..right.clone() },
        Entry { fact: Fact::Agreement { body, revision: 7 }, ..right.clone() },
    ];
    let sign = |world: &mut World, entry: &Entry| {
        let call = Call::Sign { agreement: envelope.clone(), entry: Envelope::sign(entry, &key).unwrap() };
        world.call_as_node("a", call)
    };
    for entry in &wrong {
        let answer = sign(&mut world, entry);
        let is_refused =
            matches!(&answer, Err(SimError::Refused(no)) if no.code == "signature" || no.code == "malformed");
        assert!(is_refused, "{entry:?}: {answer:?}");
        demand_accepted(&mut world);
    }
    sign(&mut world, &right).unwrap();
    demand_accepted(&mut world);
}

/// Two tasks with one plan: while b and c have not permitted the first, the second trips a rule that freezes the study at a.
/// a's permit of the first and its alert are of the same second, and the permit was there before.
#[test]
fn repro_a_permit_in_the_second_of_an_alert_is_no_error() {
    let mut config = config(1606, 30);
    let freeze = BTreeSet::from([Rule::IdenticalPlan]);
    config.rules =
        Some(Rules { freeze, identical_plans: 2, work_begins_hour: 0, work_ends_hour: 0, ..Rules::default() });
    let mut world = World::new(config).unwrap();
    let late = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&late);
    // b's and c's permits are late; what they send after them is not.
    world.between_node_and_hub(move |node, call| {
        if matches!(call, Call::Post { step: RoundStep::Permitted { .. } }) && node.as_str() != "a" {
            kept.borrow_mut().push((node.clone(), std::mem::replace(call, Call::Directory { after: None })));
        }
        Fate::Deliver
    });
    let asked = [0, 0].map(|draw| {
        let asked = world.prepare(QUESTION, "1", draw).unwrap();
        world.submit(&asked).unwrap();
        world.run_until_quiet().unwrap();
        asked
    });
    let froze = |entry: &Entry| matches!(entry.fact, Fact::Alert { froze: true, .. });
    assert!(log_entries(&mut world).iter().any(froze), "the alert is in the log before any permit");
    world.honest_again();
    for (node, call) in late.take() {
        world.call_as_node(node.as_str(), call).unwrap();
    }
    let status = ended(&mut world, &asked[0]);
    assert_eq!(status.state, TaskState::Failed, "{}", status.why);
    assert!(status.why.contains("does not stand on what the log holds"), "{}", status.why);
    assert!(permits_follow_the_end(&mut world, &asked[0]));
    assert_eq!(ended(&mut world, &asked[1]).state, TaskState::Refused);
    demand_accepted(&mut world);
}

/// b takes back the key of a's privacy officer, a has not heard of it, and she ends a stop there: a goes on, and the hub and
/// every auditor know that the study stands still at a. Nobody is accused.
#[test]
fn repro_a_stop_ended_with_a_key_that_others_took_back_accuses_nobody() {
    let mut world = World::new(config_with_people(1607)).unwrap();
    assert!(matches!(world.say("a", "otto", freeze(true)).unwrap(), Heard::Acted(_)));
    world.run_until_quiet().unwrap();
    world.between_hub_and_node(|node, item| match item {
        InboxItem::Logged { .. } if node.as_str() == "a" => Fate::Withhold,
        _ => Fate::Deliver,
    });
    let taken = key_of(&world, "a", "paula");
    revoke(&mut world, "b", taken);
    assert!(matches!(world.say("a", "paula", freeze(false)).unwrap(), Heard::Acted(_)));
    let asked = ask_people(&mut world);
    approve(&mut world, &HOSPITALS, &asked);
    let status = ended(&mut world, &asked);
    assert_eq!(status.state, TaskState::Failed, "{}", status.why);
    assert!(status.why.contains("the permit of a") && status.why.contains("stopped"), "{}", status.why);
    demand_accepted(&mut world);
}

/// At a the plan of the first task counts as approved while b and c have not answered it; the second task, with the same
/// plan, is permitted by all before the first. And again, when the word at a has lost its key in between.
#[test]
fn repro_a_plan_approved_in_a_task_that_still_waits_elsewhere_passes_the_audit() {
    let mut config = config_with_people(1608);
    config.approval.as_mut().unwrap().automatic.approved_plans = true;
    let mut base = World::new(config).unwrap();
    let first = ask_people(&mut base);
    approve(&mut base, &["a"], &first);
    for is_taken_back in [false, true] {
        let mut world = base.fork().unwrap();
        if is_taken_back {
            world.between_hub_and_node(|node, item| match item {
                InboxItem::Logged { .. } if node.as_str() == "a" => Fate::Lose,
                _ => Fate::Deliver,
            });
        }
        let second = ask_people(&mut world);
        assert_eq!(first.plan, second.plan);
        if is_taken_back {
            let key = key_of(&world, "a", "stella");
            revoke(&mut world, "c", key);
            world.honest_again();
        }
        approve(&mut world, &["b", "c"], &second);
        let status = ended(&mut world, &second);
        let expected = if is_taken_back { TaskState::Failed } else { TaskState::Released };
        assert_eq!(status.state, expected, "{}", status.why);
        demand_accepted(&mut world);
        let end = ended(&mut world, &first);
        assert_ne!(end.state, TaskState::Released, "nobody else was asked again: {}", end.why);
        demand_accepted(&mut world);
    }
}

/// A crash at every commit of a revocation while the last reveal is on its way. After the restart that reveal comes before
/// anything else: what was taken back is not released.
#[test]
fn repro_a_crash_after_a_revocation_releases_nothing() {
    let mut base = world(1609);
    let asked = base.prepare(QUESTION, "1", 0).unwrap();
    base.submit(&asked).unwrap();
    base.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Revealed { .. } } if node.as_str() == "c" => Fate::Lose,
        _ => Fate::Deliver,
    });
    base.run_until_quiet().unwrap();
    assert_eq!(base.status(asked.hash).unwrap().state, TaskState::Running);
    let fact = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("enough") };
    let key = keys::organisation(base.seed(), "b").agreement;
    let entry = base.signed(Author::Custodian(Name::new("b").unwrap()), fact, &key).unwrap();
    let mut crashes = 0;
    for commit in 1.. {
        let mut world = base.fork().unwrap();
        world.hub.disk.crash_at(commit);
        let answer = world.call_as_node("b", Call::Log { body: None, entry: entry.clone() });
        let has_crashed = !world.hub.is_up();
        assert_eq!(answer.is_err(), has_crashed, "{answer:?}");
        world.restart("hub").unwrap();
        let is_logged = log_entries(&mut world).iter().any(|entry| entry.fact.kind() == "revocation");
        crashes += usize::from(has_crashed && is_logged);
        // c's journal goes first.
        assert!(world.turn("c").unwrap());
        let status = ended(&mut world, &asked);
        let expected = if is_logged { TaskState::Failed } else { TaskState::Released };
        assert_eq!(status.state, expected, "commit {commit}: {}", status.why);
        demand_accepted(&mut world);
        if !has_crashed {
            break;
        }
    }
    assert!(crashes > 0, "no crash came between the revocation and the end of the task");
}
