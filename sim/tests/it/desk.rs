//! What people say at the desk of their node: approvals, what they let out, freezes, revocations; and what is refused.

use cohortium_dp::{EntryKind, RunState as Charge};
use cohortium_messages::{
    Author, Entry, Envelope, Fact, Hash, InboxItem, IncidentRecord, IncidentStep, Name, Notification,
    RevocationSubject, Role, RoundStep, TaskState, Timestamp,
};
use cohortium_node::{DeskItem, Heard, HeldRecord, RunState};
use cohortium_sim::{Config, World, keys};

use crate::common::{
    HOSPITALS, QUESTION, account_kinds, account_sequence, ask_people, charge, config_with_people, cut_off,
    demand_promises, demand_restartable, log_entries, own_log, own_log_of, run_state, yes,
};

fn world(seed: u64) -> World {
    World::new(config_with_people(seed)).unwrap()
}

fn no(asked: &cohortium_sim::Asked) -> Fact {
    Fact::Approval {
        approved: false,
        plan: asked.plan.hash().unwrap(),
        task: asked.hash,
        why: String::from("not for this purpose"),
    }
}

fn freeze(frozen: bool) -> Fact {
    Fact::Freeze { frozen, why: String::from("somebody called") }
}

fn refusal(heard: Heard) -> String {
    match heard {
        Heard::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

fn said_yes(world: &mut World, asked: &cohortium_sim::Asked) {
    for name in HOSPITALS {
        assert!(matches!(world.say(name, "stella", yes(asked)).unwrap(), Heard::Acted(_)), "{name}");
    }
}

#[test]
fn a_task_waits_for_people_and_is_answered_when_each_house_says_yes() {
    let mut world = world(1001);
    let asked = ask_people(&mut world);
    for name in HOSPITALS {
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Waiting));
        assert_eq!(account_sequence(&world, name), 0, "{name}: nothing is reserved while people are asked");
        assert!(own_log_of(&world, name, asked.hash).is_empty(), "{name}: nothing is promised");
    }
    demand_restartable(&mut world);
    said_yes(&mut world, &asked);
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    world.verify(&asked, &status).unwrap();
    for name in HOSPITALS {
        assert_eq!(own_log_of(&world, name, asked.hash), ["approval", "permit", "price"]);
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Released));
    }
    demand_promises(&world);
    demand_restartable(&mut world);
    for name in HOSPITALS {
        let machine = world.machine(name).unwrap();
        let agreements = std::slice::from_ref(world.agreement());
        let report = cohortium_audit::verify_own_log(&machine.log_dir(), &machine.name, agreements).unwrap();
        assert_eq!((report.entries["approval"], report.findings.len()), (1, 0));
    }
}

#[test]
fn one_no_refuses_and_the_others_are_told() {
    let mut world = world(1002);
    let asked = ask_people(&mut world);
    world.say("a", "stella", yes(&asked)).unwrap();
    world.run_until_quiet().unwrap();
    assert!(matches!(world.say("b", "paula", no(&asked)).unwrap(), Heard::Acted(_)));
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Refused);
    assert!(status.clauses.contains(&String::from("b: heart-study/approval")), "{:?}", status.clauses);
    assert!(status.why.contains("not for this purpose"), "{}", status.why);
    assert_eq!(own_log_of(&world, "b", asked.hash), ["approval", "refusal"]);
    assert_eq!(charge(&world, "a", asked.hash), Some(Charge::Refunded));
    assert_eq!(run_state(&world, "c", asked.hash), Some(RunState::Void), "who waited need not decide any more");
    let late = refusal(world.say("c", "stella", yes(&asked)).unwrap());
    assert!(late.contains("nobody is asked"), "{late}");
    demand_promises(&world);
}

/// Every later task moves the pairwise chains on; a task that waits has its keys by then.
#[test]
fn what_waits_is_not_overtaken_by_what_does_not() {
    let mut config = config_with_people(1003);
    config.approval.as_mut().unwrap().automatic.classes = vec![cohortium_messages::ApprovalClass {
        analyses: vec![cohortium_messages::Analysis::Count],
        datasets: vec![Name::new("heart").unwrap()],
        max_cells: 100,
        max_epsilon: 10.into(),
    }];
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    let count = world.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
    assert_eq!(count.cells.len(), 1);
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Waiting));
    said_yes(&mut world, &asked);
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Released);
    demand_promises(&world);
}

#[test]
fn an_approved_plan_runs_by_itself_the_next_time_where_the_agreement_says_so() {
    for (again, state) in [(true, RunState::Released), (false, RunState::Waiting)] {
        let mut config = config_with_people(1004);
        config.approval.as_mut().unwrap().automatic.approved_plans = again;
        let mut world = World::new(config).unwrap();
        let first = ask_people(&mut world);
        said_yes(&mut world, &first);
        world.settle(&first).unwrap();
        let second = ask_people(&mut world);
        assert_eq!(first.plan, second.plan);
        assert_eq!(run_state(&world, "a", second.hash), Some(state), "approved_plans: {again}");
    }
}

/// Two must approve: one alone leaves the task waiting, and cannot be two.
#[test]
fn two_approvals_are_two_people() {
    let mut config = config_with_people(1005);
    config.approval.as_mut().unwrap().needed = 2;
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    assert_eq!(world.say("a", "stella", yes(&asked)).unwrap(), Heard::Acted(String::from("one person must approve")));
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Waiting));
    let mut again = yes(&asked);
    if let Fact::Approval { why, .. } = &mut again {
        why.push_str(" twice");
    }
    let why = refusal(world.say("a", "stella", again).unwrap());
    assert!(why.contains("second word of stella"), "{why}");
    world.say("a", "stefan", yes(&asked)).unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));
    assert_eq!(own_log_of(&world, "a", asked.hash), ["approval", "approval", "permit"]);
}

/// What is laid on the desk of `a`, and a part of the sentence with which it is refused. Nothing changes by any of it.
#[test]
fn what_cannot_be_acted_on_is_refused_in_words_and_changes_nothing() {
    const SEED: u64 = 1006;
    let mut world = world(SEED);
    let asked = ask_people(&mut world);
    let other = Hash::of(b"something else");
    let approval = |edit: &dyn Fn(&mut bool, &mut Hash, &mut Hash)| {
        let (mut approved, mut plan, mut task) = (true, asked.plan.hash().unwrap(), asked.hash);
        edit(&mut approved, &mut plan, &mut task);
        Fact::Approval { approved, plan, task, why: String::from("agreed") }
    };
    let name = |text: &str| Name::new(text).unwrap();
    let person = |hospital: &str, person: &str| Author::Person { organisation: name(hospital), person: name(person) };
    let key = |hospital: &str, person: &str| keys::person(SEED, hospital, person).key;
    let house = keys::organisation(SEED, "a");
    let permit_like = Fact::Refusal { clauses: Vec::new(), task: asked.hash, why: String::from("no") };
    let mut twice = world.said("a", "stella", yes(&asked)).unwrap();
    twice.also_sign(&key("a", "stefan")).unwrap();
    let mut ahead = world.fork().unwrap();
    ahead.advance(7_200).unwrap();
    let dispatch = Fact::Dispatch { message: other, task: asked.hash };
    let incident = Fact::Incident { body: other, incident: name("lost-laptop"), step: IncidentStep::Open };
    let revocation = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("enough") };
    let cases: Vec<(Envelope, &str)> = vec![
        (world.said("a", "otto", yes(&asked)).unwrap(), "operator and may not do this"),
        (world.said("a", "nobody", yes(&asked)).unwrap(), "does not know the author"),
        (world.said("b", "stella", yes(&asked)).unwrap(), "nothing to say at the desk of a"),
        (world.signed(person("a", "stella"), yes(&asked), &key("b", "stella")).unwrap(), "signature"),
        (world.signed(person("a", "stella"), yes(&asked), &key("a", "stefan")).unwrap(), "signature"),
        (world.signed(Author::Node(name("a")), yes(&asked), &house.message).unwrap(), "cannot be the author"),
        (world.signed(Author::Custodian(name("a")), yes(&asked), &house.agreement).unwrap(), "cannot be the author"),
        (world.signed(Author::Node(name("a")), permit_like, &house.message).unwrap(), "nothing to say at the desk"),
        (world.said("a", "stella", approval(&|_, plan, _| *plan = other)).unwrap(), "another plan"),
        (world.said("a", "stella", approval(&|_, _, task| *task = other)).unwrap(), "no task"),
        (twice, "one signature"),
        (ahead.said("a", "stella", yes(&asked)).unwrap(), "set the clock"),
        (world.said("a", "stella", dispatch).unwrap(), "nothing is held back"),
        (world.said("a", "paula", freeze(false)).unwrap(), "does not stand still"),
        (world.said("a", "stella", freeze(false)).unwrap(), "steward and may not do this"),
        (world.said("a", "paula", incident.clone()).unwrap(), "the record of the incident is missing"),
        (world.said("a", "stella", incident).unwrap(), "steward and may not do this"),
        (world.said("a", "paula", revocation.clone()).unwrap(), "cannot be the author"),
        (
            world.signed(Author::Custodian(name("b")), revocation, &keys::organisation(SEED, "b").agreement).unwrap(),
            "nothing to say at the desk of a",
        ),
    ];
    let (log, account) = (own_log(&world, "a").len(), account_sequence(&world, "a"));
    for (entry, part) in cases {
        let why = refusal(world.lay_on_desk("a", entry).unwrap());
        assert!(why.contains(part), "{why} / {part}");
        assert_eq!((own_log(&world, "a").len(), account_sequence(&world, "a")), (log, account), "{part}");
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Waiting), "{part}");
    }
    let now = world.clock();
    let node = world.machine_mut("a").unwrap();
    for garbage in [&b""[..], b"{}", b"[1,2,3]", &[0xff; 100]] {
        let item = serde_json::from_slice::<DeskItem>(garbage);
        assert!(item.is_err());
        assert!(matches!(node.hear_bytes(garbage, now).unwrap(), Heard::Refused(_)));
    }
    // Who asks may not be the one who says yes, whatever the agreement: the same key cannot even stand in it.
    let access = world.machine("a").unwrap().disk.table("access").unwrap();
    assert!(access.len() >= 19, "every word at the desk is in the access log: {}", access.len());
}

#[test]
fn what_was_heard_is_not_heard_again() {
    let mut world = world(1007);
    let stop = world.said("a", "otto", freeze(true)).unwrap();
    let study = Name::new("heart-study").unwrap();
    assert!(matches!(world.lay_on_desk("a", stop.clone()).unwrap(), Heard::Acted(_)));
    world.advance(10).unwrap();
    world.say("a", "paula", freeze(false)).unwrap();
    let frozen = |world: &World| world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap();
    assert_eq!(frozen(&world), None);
    let log = own_log(&world, "a").len();
    // Whoever can write into the folder lays the old word there once more.
    assert_eq!(world.lay_on_desk("a", stop).unwrap(), Heard::Before);
    assert_eq!(frozen(&world), None);
    assert_eq!(own_log(&world, "a").len(), log);
}

fn holding(seed: u64) -> Config {
    let mut config = config_with_people(seed);
    config.approval.as_mut().unwrap().hold = true;
    config
}

fn held(world: &World, name: &str) -> Option<HeldRecord> {
    let records = world.machine(name).unwrap().disk.table("held").unwrap();
    records.first().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap())
}

#[test]
fn what_is_held_back_leaves_when_somebody_has_looked_and_as_they_saw_it() {
    let mut world = World::new(holding(1008)).unwrap();
    let asked = ask_people(&mut world);
    said_yes(&mut world, &asked);
    world.run_until_quiet().unwrap();
    assert!(world.wire.masked().is_empty(), "nothing leaves that nobody has looked at");
    for name in HOSPITALS {
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Masked));
        assert_eq!(charge(&world, name, asked.hash), Some(Charge::Spent));
    }
    demand_restartable(&mut world);
    let wrong = Fact::Dispatch { message: Hash::of(b"another"), task: asked.hash };
    let why = refusal(world.say("a", "stella", wrong).unwrap());
    assert!(why.contains("another message"), "{why}");
    for name in HOSPITALS {
        let message = held(&world, name).unwrap().message;
        world.say(name, "stella", Fact::Dispatch { message, task: asked.hash }).unwrap();
        assert!(held(&world, name).is_none());
    }
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    world.verify(&asked, &status).unwrap();
    assert_eq!(own_log_of(&world, "a", asked.hash), ["approval", "permit", "price", "dispatch"]);
    demand_promises(&world);
}

/// The round ends before somebody let it out: it never leaves, it stays paid, and the hub's log says so.
#[test]
fn what_is_held_back_too_long_never_leaves_and_stays_paid() {
    let mut world = World::new(holding(1009)).unwrap();
    let asked = ask_people(&mut world);
    said_yes(&mut world, &asked);
    world.run_until_quiet().unwrap();
    let message = held(&world, "a").unwrap().message;
    for _ in 0..4 {
        world.advance(49 * 3600).unwrap();
        world.run_until_quiet().unwrap();
    }
    for name in HOSPITALS {
        assert!(held(&world, name).is_none(), "{name}");
        assert_eq!(account_kinds(&world, name, asked.hash), [EntryKind::Reserve, EntryKind::Reading, EntryKind::Spend]);
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Void));
    }
    let why = refusal(world.say("a", "stella", Fact::Dispatch { message, task: asked.hash }).unwrap());
    assert!(why.contains("nothing is held back"), "{why}");
    assert!(world.wire.masked().is_empty());
    let prices = log_entries(&mut world).into_iter().filter(|entry| entry.fact.kind() == "price").count();
    assert_eq!(prices, 3, "what was paid stands in the hub's log");
    demand_promises(&world);
}

#[test]
fn a_frozen_study_permits_nothing_reads_nothing_and_lets_nothing_out() {
    let mut world = World::new(holding(1010)).unwrap();
    // One task held back at `a`, one permitted there and not yet read.
    let first = ask_people(&mut world);
    said_yes(&mut world, &first);
    world.run_until_quiet().unwrap();
    let message = held(&world, "a").unwrap().message;
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Shares { .. }));
    let second = world.prepare(QUESTION, "1", 1).unwrap();
    world.submit(&second).unwrap();
    world.run_until_quiet().unwrap();
    said_yes(&mut world, &second);
    world.run_until_quiet().unwrap();
    let reads = world.machine("a").unwrap().reads().len();
    assert!(matches!(world.say("a", "otto", freeze(true)).unwrap(), Heard::Acted(_)));
    world.honest_again();
    world.run_until_quiet().unwrap();
    assert_eq!(world.machine("a").unwrap().reads().len(), reads, "no row is read in a frozen study");
    assert_eq!(run_state(&world, "a", second.hash), Some(RunState::Permitted));
    let why = refusal(world.say("a", "stella", Fact::Dispatch { message, task: first.hash }).unwrap());
    assert!(why.contains("stands still"), "{why}");
    let third = world.prepare(QUESTION, "1", 2).unwrap();
    world.submit(&third).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", third.hash), Some(RunState::Refused));
    let status = world.status(third.hash).unwrap();
    assert!(status.clauses.contains(&String::from("a: heart-study/frozen")), "{:?}", status.clauses);
    world.restart("a").unwrap();
    let study = Name::new("heart-study").unwrap();
    assert!(world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap().unwrap().why.contains("otto of a"));
    // Only a privacy officer sets it going again, and only after it stopped.
    let why = refusal(world.say("a", "otto", freeze(false)).unwrap());
    assert!(why.contains("may not do this"), "{why}");
    world.advance(1).unwrap();
    assert!(matches!(world.say("a", "paula", freeze(false)).unwrap(), Heard::Acted(_)));
    assert!(matches!(world.say("a", "stella", Fact::Dispatch { message, task: first.hash }).unwrap(), Heard::Acted(_)));
    for _ in 0..4 {
        world.advance(49 * 3600).unwrap();
        world.run_until_quiet().unwrap();
    }
    assert_eq!(account_kinds(&world, "a", second.hash), [EntryKind::Reserve, EntryKind::Refund]);
    demand_promises(&world);
}

/// A task that waits when the study is stopped is refused when somebody says yes to it: it is decided on anew.
#[test]
fn a_yes_in_a_frozen_study_is_decided_on_as_things_stand() {
    let mut world = world(1011);
    let asked = ask_people(&mut world);
    world.say("a", "stella", freeze(true)).unwrap();
    world.say("a", "stella", yes(&asked)).unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Refused));
    assert_eq!(account_sequence(&world, "a"), 0);
}

/// The end of a freeze that a stolen key said does not count once the key is taken back; what it stopped stays stopped.
#[test]
fn a_key_that_is_taken_back_sets_nothing_going() {
    let mut world = world(1012);
    let study = Name::new("heart-study").unwrap();
    let asked = ask_people(&mut world);
    world.say("a", "otto", freeze(true)).unwrap();
    world.advance(5).unwrap();
    world.say("a", "paula", freeze(false)).unwrap();
    let frozen = |world: &World| world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap().is_some();
    assert!(!frozen(&world));
    revoke(&mut world, "a", RevocationSubject::Key(keys::person(1012, "a", "paula").key.public()));
    assert!(frozen(&world), "what she ended stands again");
    let why = refusal(world.say("a", "paula", yes(&asked)).unwrap());
    assert!(why.contains("was taken back"), "{why}");
    world.advance(5).unwrap();
    assert!(matches!(world.say("a", "paula", freeze(true)).unwrap(), Heard::Acted(_)), "stopping is heard from anyone");
}

fn revoke(world: &mut World, hospital: &str, subject: RevocationSubject) -> Envelope {
    let key = keys::organisation(world.seed(), hospital).agreement;
    let author = Author::Custodian(Name::new(hospital).unwrap());
    let entry = world.signed(author, Fact::Revocation { subject, why: String::from("enough") }, &key).unwrap();
    assert!(matches!(world.lay_on_desk(hospital, entry.clone()).unwrap(), Heard::Acted(_)));
    entry
}

/// What a custodian takes back holds at the own node at once, and at another as soon as its signature arrives, even from a
/// hub that cannot show that it logged it.
#[test]
fn what_a_custodian_takes_back_holds_here_at_once_and_elsewhere_when_it_arrives() {
    for (seed, subject) in [
        (1013, RevocationSubject::Agreement),
        (1014, RevocationSubject::Key(keys::researcher(1014, cohortium_sim::RESEARCHER).key.public())),
    ] {
        let mut world = world(seed);
        // Nobody hears of it from the hub.
        world.between_node_and_hub(|_, call| match call {
            cohortium_messages::Call::Log { .. } => cohortium_sim::Fate::Lose,
            _ => cohortium_sim::Fate::Deliver,
        });
        let waiting = ask_people(&mut world);
        let entry = revoke(&mut world, "a", subject);
        world.say("a", "stella", yes(&waiting)).unwrap();
        assert_eq!(run_state(&world, "a", waiting.hash), Some(RunState::Refused));
        let refused = own_log(&world, "a").into_iter().find_map(|entry| match entry.fact {
            Fact::Refusal { clauses, .. } => Some(clauses),
            _ => None,
        });
        assert_eq!(refused.unwrap(), ["heart-study/not-revoked"]);
        // Another member's node hears of it with a proof of something else.
        let inclusion = world.inclusion_of(0).unwrap();
        let report = world.inject("b", &InboxItem::Logged { body: None, entry, inclusion }).unwrap();
        assert!(report.unwrap().contains("taken in"));
        world.say("b", "stella", yes(&waiting)).unwrap();
        assert_eq!(run_state(&world, "b", waiting.hash), Some(RunState::Refused));
    }
}

/// A revocation that another's key signed, or that somebody says who is no custodian, takes nothing back.
#[test]
fn a_forged_revocation_takes_nothing_back() {
    let mut world = world(1015);
    let asked = ask_people(&mut world);
    let inclusion = world.inclusion_of(0).unwrap();
    let fact = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("enough") };
    let name = |text: &str| Name::new(text).unwrap();
    let hub = keys::hub(1015).1;
    for (author, key) in [
        (Author::Custodian(name("a")), keys::organisation(1015, "b").agreement),
        (Author::Custodian(name("a")), keys::organisation(1015, "a").message),
        (Author::Hub(name("hub")), hub),
        (Author::Node(name("a")), keys::organisation(1015, "a").message),
    ] {
        let entry = world.signed(author, fact.clone(), &key).unwrap();
        let item = InboxItem::Logged { body: None, entry, inclusion: inclusion.clone() };
        assert!(world.inject("b", &item).unwrap().is_some());
    }
    world.say("b", "stella", yes(&asked)).unwrap();
    assert_eq!(run_state(&world, "b", asked.hash), Some(RunState::Permitted));
}

#[test]
fn an_incident_is_in_the_own_log_with_its_record_and_goes_nowhere() {
    let mut world = world(1016);
    let now: Timestamp = world.clock();
    let record = IncidentRecord {
        aware_at: Some(now),
        incident: Name::new("lost-laptop").unwrap(),
        notification: Notification::default(),
        step: IncidentStep::Open,
        study: world.agreement().study.clone(),
        what: String::from("a laptop is missing"),
    };
    let record = Envelope::sign(&record, &keys::person(1016, "a", "paula").key).unwrap();
    let body = Hash::of(&cohortium_messages::canonical_bytes(&record).unwrap());
    let incident = Fact::Incident { body, incident: Name::new("lost-laptop").unwrap(), step: IncidentStep::Open };
    let entry = world.said("a", "paula", incident).unwrap();
    let left = world.wire.left.len();
    let item = DeskItem { body: Some(record), entry };
    assert!(matches!(world.machine_mut("a").unwrap().hear(&item, now).unwrap(), Heard::Acted(_)));
    world.run_until_quiet().unwrap();
    assert_eq!(own_log(&world, "a").last().unwrap().fact.kind(), "incident");
    assert!(world.machine("a").unwrap().log_dir().join("body").join(body.to_string()).exists());
    assert_eq!(world.wire.left.len(), left, "an incident's record stays in the house");
}

/// A crash at every commit of a node between what two people say: each word counts once, and the task is answered.
#[test]
fn a_crash_at_every_commit_of_an_approval() {
    let mut config = config_with_people(1017);
    config.approval.as_mut().unwrap().hold = true;
    let mut base = World::new(config).unwrap();
    let asked = ask_people(&mut base);
    let approval = base.said("b", "stella", yes(&asked)).unwrap();
    for commit in 1.. {
        let mut world = base.fork().unwrap();
        world.machine("b").unwrap().disk.crash_at(commit);
        let heard = world.lay_on_desk("b", approval.clone());
        let mut has_crashed = heard.is_err();
        if has_crashed {
            world.restart("b").unwrap();
            let again = world.lay_on_desk("b", approval.clone()).unwrap(); // the file still lies there
            assert!(matches!(again, Heard::Acted(_) | Heard::Before), "{again:?}");
        }
        for name in ["a", "c"] {
            world.say(name, "stella", yes(&asked)).unwrap();
        }
        world.run_until_quiet().unwrap();
        if !world.machine("b").unwrap().is_up() {
            has_crashed = true;
            world.restart("b").unwrap();
            world.run_until_quiet().unwrap();
        }
        world.machine("b").unwrap().disk.restart();
        for name in HOSPITALS {
            let message = held(&world, name).unwrap().message;
            world.say(name, "stella", Fact::Dispatch { message, task: asked.hash }).unwrap();
        }
        let status = world.settle(&asked).unwrap();
        assert_eq!(status.state, TaskState::Released, "commit {commit}: {}", status.why);
        assert_eq!(own_log_of(&world, "b", asked.hash), ["approval", "permit", "price", "dispatch"], "commit {commit}");
        demand_promises(&world);
        if !has_crashed {
            assert!(commit > 5, "an approval and a reading make more commits than {commit}");
            break;
        }
    }
}

/// Roles in the wrong place: the agreement counts privacy officers only.
#[test]
fn a_role_that_the_agreement_does_not_count_says_no_but_not_yes() {
    let mut config = config_with_people(1018);
    config.approval.as_mut().unwrap().roles = vec![Role::PrivacyOfficer];
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    let why = refusal(world.say("a", "stella", yes(&asked)).unwrap());
    assert!(why.contains("stella is steward, and here only privacy officer counts"), "{why}");
    assert!(matches!(world.say("a", "stella", no(&asked)).unwrap(), Heard::Acted(_)));
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Refused));
}

/// Who is asked learns which other members' nodes permit the same plan, from what those signed and nothing else.
#[test]
fn who_is_asked_sees_who_else_permits() {
    let mut world = world(1019);
    let asked = ask_people(&mut world);
    world.between_hub_and_node(|_, item| match item {
        InboxItem::Permitted { .. } => cohortium_sim::Fate::Withhold,
        _ => cohortium_sim::Fate::Deliver,
    });
    world.say("b", "stella", yes(&asked)).unwrap();
    world.run_until_quiet().unwrap();
    let permit = world.wire.left.iter().find_map(|(node, call)| match call {
        cohortium_messages::Call::Post { step: RoundStep::Permitted { entry, .. } } if node.as_str() == "b" => {
            Some(entry.clone())
        }
        _ => None,
    });
    let permit = permit.unwrap();
    let by = |world: &World| world.machine("a").unwrap().node().unwrap().run(asked.hash).unwrap().unwrap().permitted_by;
    let claims = permit.peek::<Entry>().unwrap().claims().clone();
    let forged = Envelope::sign(&claims, &keys::organisation(1019, "c").message).unwrap();
    for (entry, task) in [(forged, asked.hash), (asked.entry.clone(), asked.hash)] {
        assert!(world.inject("a", &InboxItem::Permitted { entry, task }).unwrap().is_some());
        assert!(by(&world).is_empty());
    }
    assert_eq!(world.inject("a", &InboxItem::Permitted { entry: permit, task: asked.hash }).unwrap(), None);
    assert_eq!(by(&world).into_iter().map(|name| name.to_string()).collect::<Vec<_>>(), ["b"]);
}

/// The folder: whole items only, so many and so long; what is refused lies beside with the reason.
#[test]
fn the_desk_is_a_folder_with_limits() {
    let folder = cohortium_sim::Folder::new().unwrap();
    let home = cohortium_node::home::Home::new(folder.path());
    assert!(!home.is_desk_laid() && home.on_desk().unwrap().is_empty());
    let mut world = world(1020);
    let entry = world.said("a", "otto", freeze(true)).unwrap();
    let path = home.lay_on_desk(&DeskItem { body: None, entry: entry.clone() }).unwrap();
    assert!(home.is_desk_laid() && path.exists());
    let desk = folder.path().join("desk");
    std::fs::write(desk.join("half.staged"), b"{").unwrap();
    std::fs::write(desk.join("long.json"), vec![b' '; (64 << 10) + 1]).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", desk.join("link.json")).unwrap();
    let items = home.on_desk().unwrap();
    assert_eq!(items.len(), 2, "half a file and a link are not there");
    let now = world.clock();
    for item in &items {
        match &item.bytes {
            Ok(bytes) => {
                let heard = world.machine_mut("a").unwrap().hear_bytes(bytes, now).unwrap();
                assert!(matches!(heard, Heard::Acted(_)));
                home.clear_from_desk(item).unwrap();
            }
            Err(why) => home.put_aside(item, why).unwrap(),
        }
    }
    assert!(!home.is_desk_laid() && !path.exists());
    let refused = home.refused_on_desk().unwrap();
    assert_eq!(refused.len(), 1);
    assert!(refused[0].1.contains("more than 65536 bytes"), "{refused:?}");
    for number in 0..70 {
        std::fs::write(desk.join(format!("{number}.json")), b"{}").unwrap();
    }
    assert_eq!(home.on_desk().unwrap().len(), 64);
    let words = "x".repeat(3_900);
    let (_, agreement) = world
        .signed_amendment(|agreement| {
            let owners = &mut agreement.ownership;
            for text in [&mut owners.data, &mut owners.models, &mut owners.passing_on, &mut owners.results] {
                words.clone_into(text);
            }
            for number in 0..60 {
                let name = Name::new(format!("r{number}")).unwrap();
                let entry = keys::researcher(1020, name.as_str()).entry(&name);
                agreement.researchers.push(cohortium_messages::ResearcherTerms { entry });
            }
            let risk = &mut agreement.risk_acceptance;
            for text in [&mut agreement.title, &mut agreement.purpose_text, &mut risk.accepted_by, &mut risk.statement]
            {
                words.clone_into(text);
            }
        })
        .unwrap();
    let long = DeskItem { body: Some(agreement), entry };
    let bytes = serde_json::to_vec(&long).unwrap().len();
    assert!(home.lay_on_desk(&long).is_err(), "{bytes} bytes are too long for a desk");
    // The rules of watching: defaults without a file, and an error that names the file where it says something else.
    assert_eq!(home.rules().unwrap(), cohortium_policy::watch::Rules::default());
    std::fs::write(folder.path().join("watch.toml"), "freeze = [\"differencing\"]").unwrap();
    assert_eq!(home.rules().unwrap().freeze.len(), 1);
    std::fs::write(folder.path().join("watch.toml"), "freeze = [\"everything\"]").unwrap();
    assert!(home.rules().unwrap_err().to_string().contains("watch.toml"));
}
