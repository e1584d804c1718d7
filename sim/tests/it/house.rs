//! What a node owes its own house: what people and the custodian said holds, reaches the hub's log, and is not undone.

use cohortium_dp::RunState as Charge;
use cohortium_messages::{
    Agreement, Analysis, ApprovalClass, Author, Call, Entry, Envelope, Fact, Hash, InboxItem, IncidentRecord,
    IncidentStep, Name, Notification, Party, PersonEntry, RevocationSubject, Role, RoundStep, TaskState, Timestamp,
    canonical_bytes,
};
use cohortium_node::home::Home;
use cohortium_node::{DeskItem, Heard, JournalRecord, RunState};
use cohortium_sim::{Asked, Fate, Folder, World, keys};

use crate::common::{
    HOSPITALS, PEOPLE, ask_people, charge, config_with_people, cut_off, demand_promises, journal, log_entries, log_of,
    own_log, run_state, yes,
};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn freeze(frozen: bool) -> Fact {
    Fact::Freeze { frozen, why: String::from("somebody called") }
}

fn no(asked: &Asked) -> Fact {
    let (plan, why) = (asked.plan.hash().unwrap(), String::from("looked again"));
    Fact::Approval { approved: false, plan, task: asked.hash, why }
}

fn refusal(heard: Heard) -> String {
    match heard {
        Heard::Refused(why) => why,
        other => panic!("{other:?}"),
    }
}

/// The custodian of `hospital` takes something back at the desk.
fn take_back(world: &mut World, hospital: &str, subject: RevocationSubject) -> Heard {
    let fact = Fact::Revocation { subject, why: String::from("stolen") };
    let key = keys::organisation(world.seed(), hospital).agreement;
    let entry = world.signed(Author::Custodian(name(hospital)), fact, &key).unwrap();
    world.lay_on_desk(hospital, entry).unwrap()
}

fn said_yes(world: &mut World, names: &[&str], asked: &Asked) {
    for name in names {
        assert!(matches!(world.say(name, "stella", yes(asked)).unwrap(), Heard::Acted(_)), "{name}");
    }
}

fn kinds(world: &mut World) -> Vec<&'static str> {
    log_entries(world).iter().map(|entry| entry.fact.kind()).collect()
}

// ------------------------------------------------------------------ what is said reaches the log

/// A hub whose memory of requests was full said "limit", and the node took that for the last word on a freeze.
#[test]
fn repro_a_hub_that_asks_to_wait_loses_nothing() {
    let mut world = World::new(config_with_people(1301)).unwrap();
    let asked = ask_people(&mut world);
    world.between_node_and_hub(|node, _| if node.as_str() == "a" { Fate::Later } else { Fate::Deliver });
    said_yes(&mut world, &["a"], &asked);
    world.say("a", "otto", freeze(true)).unwrap();
    let before = kinds(&mut world);
    for _ in 0..3 {
        world.run_until_quiet().unwrap();
        world.restart("a").unwrap();
    }
    assert_eq!(kinds(&mut world), before, "nothing arrives while the hub has no room");
    assert!(world.wire.refusals.iter().any(|(node, refused)| node.as_str() == "a" && refused.code == "later"));
    world.honest_again();
    world.run_until_quiet().unwrap();
    let after = kinds(&mut world);
    assert_eq!(after.iter().filter(|kind| **kind == "freeze").count(), 1, "{after:?}");
    let place = |wanted| after.iter().position(|kind| *kind == wanted).unwrap();
    assert!(place("approval") < place("freeze"), "in the order in which it was said: {after:?}");
    demand_promises(&world);
}

/// Others learnt what people said only with the permit, which may be days later or never.
#[test]
fn what_people_said_is_laid_before_the_hub_when_it_is_heard() {
    let mut config = config_with_people(1302);
    config.approval.as_mut().unwrap().needed = 2;
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    said_yes(&mut world, &["a"], &asked);
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Waiting));
    assert_eq!(kinds(&mut world).iter().filter(|kind| **kind == "approval").count(), 1);
    // And stands there once, though the permit carries it too.
    for name in HOSPITALS {
        world.say(name, "stefan", yes(&asked)).unwrap();
    }
    said_yes(&mut world, &["b", "c"], &asked);
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Released);
    assert_eq!(kinds(&mut world).iter().filter(|kind| **kind == "approval").count(), 6);
}

/// Lets so many hours pass in steps, in which nodes and hub talk.
fn hours(world: &mut World, count: i64) {
    for _ in 0..6 * count {
        world.advance(600).unwrap();
        world.run_until_quiet().unwrap();
    }
}

fn withheld(world: &World) -> Vec<String> {
    let alert = |entry: Entry| match entry.fact {
        Fact::Alert { rule, why, froze: true, .. } if rule == "withheld" => Some(why),
        _ => None,
    };
    own_log(world, "a").into_iter().filter_map(alert).collect()
}

/// A hub took a freeze and its end, said so, and logged neither: nobody noticed.
#[test]
fn repro_a_hub_that_logs_nothing_of_what_it_took_is_noticed() {
    const COUNT: &str = "SELECT COUNT(*) AS n FROM heart";
    for is_honest in [false, true] {
        let mut config = config_with_people(1303);
        let approval = config.approval.as_mut().unwrap();
        approval.automatic.classes = vec![ApprovalClass {
            analyses: vec![Analysis::Count],
            datasets: vec![name("heart")],
            max_cells: 100,
            max_epsilon: 10.into(),
        }];
        let mut world = World::new(config).unwrap();
        if !is_honest {
            world.between_hub_and_node(|node, item| match item {
                InboxItem::Logged { .. } if node.as_str() == "a" => Fate::Withhold,
                _ => Fate::Deliver,
            });
        }
        world.say("a", "otto", freeze(true)).unwrap();
        world.advance(10).unwrap();
        world.say("a", "paula", freeze(false)).unwrap();
        hours(&mut world, 25);
        assert!(withheld(&world).is_empty(), "nothing else was proven, so nothing is late");
        world.ask(COUNT, "1").unwrap();
        hours(&mut world, 2);
        let study = world.agreement().study.clone();
        let stopped = world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap();
        match (is_honest, withheld(&world).as_slice()) {
            (true, []) => assert_eq!(stopped, None),
            (false, [why]) => {
                assert!(why.contains("freeze by") && why.contains("and 1 more"), "{why}");
                assert!(stopped.unwrap().why.contains("withheld"));
            }
            (_, found) => panic!("honest {is_honest}: {found:?}"),
        }
    }
}

// ------------------------------------------------------------------ what was stopped or taken back goes no further

/// Puts someone before the hub who keeps `a`'s calls back, so that the hub learns nothing of what is said there.
fn mute(world: &mut World) {
    world.between_node_and_hub(|node, _| if node.as_str() == "a" { Fate::Lose } else { Fate::Deliver });
}

fn steps_in_journal(world: &World, wanted: fn(&RoundStep) -> bool) -> usize {
    let is_wanted = |call: &Call| matches!(call, Call::Post { step } if wanted(step));
    journal(world, "a").iter().filter(|call| is_wanted(call)).count()
}

/// After its own custodian took the agreement back, a node still signed who is in the sum, and revealed.
#[test]
fn repro_after_a_revocation_at_home_nothing_is_signed_or_revealed() {
    type Way<'a> = &'a dyn Fn(&mut World);
    let rosa = |world: &mut World| {
        let key = world.researcher_key().public();
        take_back(world, "a", RevocationSubject::Key(key));
    };
    let ways: [(&str, Way<'_>); 3] = [
        ("the agreement", &|world| drop(take_back(world, "a", RevocationSubject::Agreement))),
        ("the researcher's key", &rosa),
        ("a freeze", &|world| drop(world.say("a", "otto", freeze(true)).unwrap())),
    ];
    for (what, stop) in ways {
        // Before it signs who is in the sum.
        let mut world = World::new(config_with_people(1304)).unwrap();
        let asked = ask_people(&mut world);
        cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Survivors { .. }));
        said_yes(&mut world, &HOSPITALS, &asked);
        world.run_until_quiet().unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Masked), "{what}");
        mute(&mut world);
        stop(&mut world);
        let set = InboxItem::Survivors { survivors: HOSPITALS.map(name).to_vec(), task: asked.hash };
        world.inject("a", &set).unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::LeftOut), "{what}");
        assert_eq!(charge(&world, "a", asked.hash), Some(Charge::Spent), "{what}");
        assert_eq!(steps_in_journal(&world, |step| matches!(step, RoundStep::Survivors { .. })), 0, "{what}");

        // Between its signature and its reveal.
        let mut world = World::new(config_with_people(1305)).unwrap();
        let asked = ask_people(&mut world);
        cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Signatures { .. }));
        said_yes(&mut world, &HOSPITALS, &asked);
        world.run_until_quiet().unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Signed), "{what}");
        let sets: Vec<Envelope> = world
            .wire
            .left
            .iter()
            .filter_map(|(_, call)| match call {
                Call::Post { step: RoundStep::Survivors { set } } => Some(set.clone()),
                _ => None,
            })
            .collect();
        mute(&mut world);
        stop(&mut world);
        world.inject("a", &InboxItem::Signatures { sets, task: asked.hash }).unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::LeftOut), "{what}");
        assert_eq!(steps_in_journal(&world, |step| matches!(step, RoundStep::Revealed { .. })), 0, "{what}");
        demand_promises(&world);
    }
}

/// Where everything is automatic, nobody could let a vector out that a freeze had held back, though the freeze had ended.
#[test]
fn repro_a_vector_that_nobody_holds_back_leaves_when_the_study_goes_on() {
    let mut config = config_with_people(1326);
    config.approval = None;
    let mut world = World::new(config).unwrap();
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "a" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = ask_people(&mut world);
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Masked));
    let held = |world: &World| world.machine("a").unwrap().disk.table("held").unwrap().len();
    world.say("a", "otto", freeze(true)).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(held(&world), 1);
    world.honest_again();
    world.restart("a").unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!((held(&world), run_state(&world, "a", asked.hash)), (1, Some(RunState::Masked)), "it stands still");
    assert!(matches!(world.say("a", "paula", freeze(false)).unwrap(), Heard::Acted(_)));
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    assert_eq!(held(&world), 0);
    demand_promises(&world);
}

/// A freeze that was said and heard by a clock that ran a day ahead could not be ended for a day.
#[test]
fn repro_a_stop_of_tomorrow_can_be_ended_today() {
    let mut world = World::new(config_with_people(1327)).unwrap();
    let ahead = world.clock().plus_seconds(86_400);
    let dated = |world: &World, who: &str, fact: Fact, time: Timestamp| {
        let (agreement, study) = (world.agreement().hash(), world.agreement().study.clone());
        let author = Author::Person { organisation: name("a"), person: name(who) };
        let entry = Entry { agreement, author, fact, study, time };
        let entry = Envelope::sign(&entry, &keys::person(1327, "a", who).key).unwrap();
        DeskItem { body: None, entry }
    };
    let early = dated(&world, "paula", freeze(false), world.clock());
    let stop = dated(&world, "otto", freeze(true), ahead);
    assert!(matches!(world.machine_mut("a").unwrap().hear(&stop, ahead).unwrap(), Heard::Acted(_)));
    world.advance(3_600).unwrap();
    // What was said long before may have been said before the stop too.
    let now = world.clock();
    let heard = world.machine_mut("a").unwrap().hear(&early, now).unwrap();
    assert!(refusal(heard).contains("after what it ends"));
    let end = dated(&world, "paula", freeze(false), now);
    let heard = world.machine_mut("a").unwrap().hear(&end, now.plus_seconds(5)).unwrap();
    assert!(matches!(heard, Heard::Acted(_)), "{heard:?}");
    let study = world.agreement().study.clone();
    assert!(world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap().is_none());
}

/// A vector that was made and not yet sent left after the study was stopped.
#[test]
fn repro_a_vector_that_has_not_left_stays_when_the_study_stops() {
    let mut world = World::new(config_with_people(1306)).unwrap();
    let asked = ask_people(&mut world);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "a" => Fate::Lose,
        _ => Fate::Deliver,
    });
    said_yes(&mut world, &HOSPITALS, &asked);
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Masked));
    // Whoever kept it from arriving saw it leave; from now on it does not.
    let left = |world: &World| world.wire.masked().iter().filter(|header| header.from == name("a")).count();
    let before = left(&world);
    world.say("a", "otto", freeze(true)).unwrap();
    world.honest_again();
    let status = world.settle(&asked).unwrap();
    assert_eq!(left(&world), before, "{}", status.why);
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Void), "three of three are needed");
    let records = world.machine("a").unwrap().disk.table("journal").unwrap();
    let records: Vec<JournalRecord> = records.iter().map(|(_, r)| serde_json::from_slice(r).unwrap()).collect();
    let withdrawn: Vec<&str> =
        records.iter().filter(|record| record.withdrawn.is_some()).map(|record| record.kind.as_str()).collect();
    assert_eq!(withdrawn, ["masked vector and receipt"]);
    assert!(records.iter().any(|record| record.kind == "settlement"), "what was paid is said");
    let paid = log_entries(&mut world)
        .into_iter()
        .any(|entry| matches!(entry.fact, Fact::Price { .. }) && entry.author == Author::Node(name("a")));
    assert!(paid, "and logged");
    demand_promises(&world);
}

// ------------------------------------------------------------------ approvals

/// Where one is needed, the yes permitted the task here at once, and a no that came after it was not taken, though the
/// task still waited for people elsewhere.
#[test]
fn repro_the_only_yes_can_be_turned_into_a_no() {
    let mut world = World::new(config_with_people(1324)).unwrap();
    let asked = ask_people(&mut world);
    said_yes(&mut world, &["a"], &asked);
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));
    world.run_until_quiet().unwrap();
    world.advance(60).unwrap();
    let words = world.say("a", "stella", no(&asked)).unwrap();
    assert!(matches!(&words, Heard::Acted(words) if words.contains("not read")), "{words:?}");
    assert!(refusal(world.say("a", "stefan", yes(&asked)).unwrap()).contains("nobody is asked"));
    world.run_until_quiet().unwrap();
    said_yes(&mut world, &["b", "c"], &asked);
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Failed, "{}: {:?}", status.why, log_of(&mut world, asked.hash));
    world.run_until_quiet().unwrap();
    for node in HOSPITALS {
        assert!(world.machine(node).unwrap().reads().is_empty(), "{node}");
        assert_eq!(charge(&world, node, asked.hash), Some(Charge::Refunded), "{node}");
    }
    demand_promises(&world);
    crate::order::demand_accepted(&mut world);
}

/// The no came too late for the hub to end the task, and the shares lay there already: the rows are not read.
#[test]
fn a_no_between_permit_and_shares_keeps_the_rows_unread() {
    let mut world = World::new(config_with_people(1325)).unwrap();
    let asked = ask_people(&mut world);
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Shares { .. }));
    said_yes(&mut world, &HOSPITALS, &asked);
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));
    assert!(matches!(world.say("a", "stella", no(&asked)).unwrap(), Heard::Acted(_)));
    world.honest_again();
    assert_ne!(world.settle(&asked).unwrap().state, TaskState::Released);
    assert!(world.machine("a").unwrap().reads().is_empty());
    demand_promises(&world);
}

/// With two needed, one who had said yes could not take it back, and the second yes ran the task.
#[test]
fn repro_a_yes_can_be_turned_into_a_no() {
    let mut config = config_with_people(1307);
    config.approval.as_mut().unwrap().needed = 2;
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    said_yes(&mut world, &["a"], &asked);
    world.advance(60).unwrap();
    let words = world.say("a", "stella", no(&asked)).unwrap();
    assert!(matches!(&words, Heard::Acted(words) if words.contains("refused")), "{words:?}");
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Refused));
    assert!(refusal(world.say("a", "stefan", yes(&asked)).unwrap()).contains("nobody is asked"));
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Refused);
    let said = log_entries(&mut world).into_iter().filter(|entry| entry.fact.kind() == "approval").count();
    assert_eq!(said, 2, "both words are in the hub's log");
}

/// A stolen key approved a task, and so its plan: after the key was taken back, the task was taken for one whose plan had
/// been approved before, and the rows were read.
#[test]
fn repro_a_stolen_approval_does_not_approve_its_plan() {
    let mut config = config_with_people(1308);
    config.approval.as_mut().unwrap().automatic.approved_plans = true;
    let mut world = World::new(config).unwrap();
    let asked = ask_people(&mut world);
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Shares { .. }));
    said_yes(&mut world, &HOSPITALS, &asked);
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));
    let stella = keys::person(1308, "a", "stella").key.public();
    assert!(matches!(take_back(&mut world, "a", RevocationSubject::Key(stella)), Heard::Acted(_)));
    world.honest_again();
    world.settle(&asked).unwrap();
    assert!(world.machine("a").unwrap().reads().is_empty(), "nobody whose word counts approved it");
    // Nor does it run the next time.
    let again = ask_people(&mut world);
    assert_eq!(again.plan, asked.plan);
    assert_eq!(run_state(&world, "a", again.hash), Some(RunState::Waiting));
}

/// A node took a yes long after the hub had stopped waiting.
#[test]
fn repro_a_yes_after_the_time_for_people_is_not_taken() {
    let mut world = World::new(config_with_people(1309)).unwrap();
    let asked = ask_people(&mut world);
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Void { .. }));
    world.advance(48 * 3_600 + 1).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Waiting), "it was not told");
    let why = refusal(world.say("a", "stella", yes(&asked)).unwrap());
    assert!(why.contains("for 48 hours"), "{why}");
}

// ------------------------------------------------------------------ amendments

fn show(world: &mut World, node: &str, agreement: &Envelope) -> Option<String> {
    world.inject(node, &InboxItem::Agreement { agreement: agreement.clone() }).unwrap()
}

fn revision(world: &World, node: &str) -> u32 {
    let records = world.machine(node).unwrap().disk.table("agreements").unwrap();
    let envelope: Envelope = serde_json::from_slice(&records[0].1).unwrap();
    envelope.peek::<Agreement>().unwrap().claims().revision
}

/// What the custodian of `a` lays on the desk when it signs an amendment.
fn consent(world: &World, amendment: Hash) -> Envelope {
    let entry = Entry {
        agreement: amendment,
        author: Author::Custodian(name("a")),
        fact: Fact::Agreement { body: Hash::of(b"as signed"), revision: 2 },
        study: world.agreement().study.clone(),
        time: world.clock(),
    };
    Envelope::sign(&entry, &keys::organisation(world.seed(), "a").agreement).unwrap()
}

/// An amendment that was half signed when the custodian took the agreement back put it in force again.
#[test]
fn repro_an_amendment_signed_before_does_not_undo_a_revocation() {
    let stella = |seed| RevocationSubject::Key(keys::person(seed, "a", "stella").key.public());
    for (subject, seed) in [(RevocationSubject::Agreement, 1310), (stella(1311), 1311)] {
        let mut world = World::new(config_with_people(seed)).unwrap();
        let (amended, envelope) = world.signed_amendment(|agreement| agreement.title.push_str(" amended")).unwrap();
        let early = consent(&world, amended.hash());
        world.advance(86_400).unwrap();
        assert!(matches!(take_back(&mut world, "a", subject), Heard::Acted(_)));
        world.advance(86_400).unwrap();
        for _ in 0..2 {
            let why = show(&mut world, "a", &envelope).unwrap();
            assert!(why.contains("would undo what a took back"), "{why}");
            assert_eq!(revision(&world, "a"), 1);
            // That it signed before says nothing new.
            world.lay_on_desk("a", early.clone()).unwrap();
        }
        // Others' custodians have not taken anything back, and go on.
        assert_eq!(show(&mut world, "b", &envelope), None);
        // Nobody else can say it in this custodian's place.
        let claims = consent(&world, amended.hash()).peek::<Entry>().unwrap().claims().clone();
        let forged = Envelope::sign(&claims, &keys::organisation(seed, "b").agreement).unwrap();
        refusal(world.lay_on_desk("a", forged).unwrap());
        assert_eq!(revision(&world, "a"), 1);
        // The custodian signs it again, knowing what it took back: what was kept comes into force.
        let late = consent(&world, amended.hash());
        let words = world.lay_on_desk("a", late).unwrap();
        assert!(matches!(&words, Heard::Acted(words) if words.contains("is in force here")), "{words:?}");
        assert_eq!(revision(&world, "a"), 2);
        world.restart("a").unwrap();
    }
}

/// A revision that was kept stood in the way of every later one: a house that had taken a key back was stranded, even
/// when all signed a text without that key, or without the house.
#[test]
fn repro_a_revision_after_one_that_was_kept_comes_into_force() {
    let alerts = |world: &World| {
        let entries = own_log(world, "a").into_iter();
        entries.filter(|entry| matches!(&entry.fact, Fact::Alert { rule, .. } if rule == "amendment-kept")).count()
    };
    for seed in [1320, 1321, 1322] {
        let mut world = World::new(config_with_people(seed)).unwrap();
        let (second, envelope) = world.signed_amendment(|agreement| agreement.title.push_str(" amended")).unwrap();
        let third = world.signed_amendment(|agreement| {
            (agreement.revision, agreement.previous) = (3, Some(second.hash()));
            for party in agreement.parties.iter_mut().filter(|party| party.entry.organisation == name("a")) {
                party.people.retain(|person| person.person != name("stella"));
            }
        });
        let (third, third_envelope) = third.unwrap();
        // Signed before the key was taken back: that says nothing about it.
        world.lay_on_desk("a", consent(&world, third.hash())).unwrap();
        world.advance(60).unwrap();
        let stella = RevocationSubject::Key(keys::person(seed, "a", "stella").key.public());
        assert!(matches!(take_back(&mut world, "a", stella), Heard::Acted(_)));
        for _ in 0..2 {
            assert!(show(&mut world, "a", &envelope).unwrap().contains("would undo"));
            assert_eq!(alerts(&world), 1, "its people are told, once");
        }
        if seed == 1322 {
            let (_, without) = world
                .signed_amendment(|agreement| {
                    (agreement.revision, agreement.previous) = (3, Some(second.hash()));
                    agreement.parties.retain(|party: &Party| party.entry.organisation != name("a"));
                    agreement.secure_sum.threshold = 2;
                })
                .unwrap();
            assert_eq!(show(&mut world, "a", &without), None);
            assert!(world.machine("a").unwrap().disk.table("agreements").unwrap().is_empty(), "it has left");
            continue;
        }
        world.advance(60).unwrap();
        let word = consent(&world, third.hash());
        let show_third = |world: &mut World| show(world, "a", &third_envelope);
        if seed == 1320 {
            assert!(show_third(&mut world).unwrap().contains("does not follow"));
            assert_eq!(revision(&world, "a"), 1);
            world.lay_on_desk("a", word).unwrap();
        } else {
            world.lay_on_desk("a", word).unwrap();
            assert_eq!(show_third(&mut world), None);
        }
        assert_eq!(revision(&world, "a"), 3);
        assert!(world.machine("a").unwrap().disk.table("kept_amendments").unwrap().is_empty());
        assert!(show(&mut world, "a", &envelope).unwrap().contains("does not follow"), "and the one before stays out");
        world.restart("a").unwrap();
    }
}

/// A node that ended between remembering its custodian's word and acting on it never acted on it.
#[test]
fn repro_a_crash_loses_no_word_about_an_amendment() {
    let mut base = World::new(config_with_people(1323)).unwrap();
    let (second, envelope) = base.signed_amendment(|agreement| agreement.title.push_str(" amended")).unwrap();
    let stella = RevocationSubject::Key(keys::person(1323, "a", "stella").key.public());
    assert!(matches!(take_back(&mut base, "a", stella), Heard::Acted(_)));
    assert!(show(&mut base, "a", &envelope).unwrap().contains("would undo"));
    base.advance(60).unwrap();
    let word = consent(&base, second.hash());
    for commit in 1.. {
        let mut world = base.fork().unwrap();
        world.machine("a").unwrap().disk.crash_at(commit);
        let has_crashed = world.lay_on_desk("a", word.clone()).is_err();
        if has_crashed {
            world.restart("a").unwrap();
            world.lay_on_desk("a", word.clone()).unwrap(); // the file still lies there
        }
        assert_eq!(revision(&world, "a"), 2, "commit {commit}");
        if !has_crashed {
            assert!(commit > 3, "a word and an amendment make more commits than {commit}");
            break;
        }
    }
}

/// An amendment that no longer names a key which was taken back undoes nothing; and what is taken back under the revision
/// before it, when it is in force already, is to be said again.
#[test]
fn an_amendment_without_the_key_that_was_taken_back_is_taken_in() {
    let mut world = World::new(config_with_people(1312)).unwrap();
    let stella = RevocationSubject::Key(keys::person(1312, "a", "stella").key.public());
    assert!(matches!(take_back(&mut world, "a", stella.clone()), Heard::Acted(_)));
    let twice = take_back(&mut world, "a", stella);
    assert!(matches!(twice, Heard::Before), "the same words: {twice:?}");
    let (_, envelope) = world
        .signed_amendment(|agreement| {
            for party in agreement.parties.iter_mut().filter(|party| party.entry.organisation == name("a")) {
                party.people.retain(|person| person.person != name("stella"));
            }
        })
        .unwrap();
    assert_eq!(show(&mut world, "a", &envelope), None);
    assert_eq!(revision(&world, "a"), 2);
    let why = refusal(take_back(&mut world, "a", RevocationSubject::Agreement));
    assert!(why.contains("no longer in force"), "{why}");
}

/// A party that was replaced by another held on to the study, and could never join it again.
#[test]
fn repro_a_party_that_is_replaced_leaves_and_can_come_back() {
    let mut world = World::new(config_with_people(1313)).unwrap();
    let swap = |agreement: &mut Agreement, gone: &str, come: &str| {
        agreement.parties.retain(|party: &Party| party.entry.organisation != name(gone));
        let entry = keys::organisation(1313, come).entry(&name(come));
        let person = |(who, role): &(&str, Role)| keys::person(1313, come, who).entry(&name(who), *role);
        let mut people: Vec<PersonEntry> = PEOPLE.iter().map(person).collect();
        people.sort_by(|a, b| a.person.cmp(&b.person));
        agreement.parties.push(Party { entry, people });
    };
    let (second, envelope) = world.signed_amendment(|agreement| swap(agreement, "c", "d")).unwrap();
    assert_eq!(show(&mut world, "c", &envelope), None);
    assert!(world.machine("c").unwrap().disk.table("agreements").unwrap().is_empty(), "it has left");
    world.take_agreement(second, envelope);
    let (_, envelope) = world.signed_amendment(|agreement| swap(agreement, "d", "c")).unwrap();
    assert_eq!(show(&mut world, "c", &envelope), None);
    assert_eq!(revision(&world, "c"), 3);
}

// ------------------------------------------------------------------ the desk as a folder, and incidents

fn record(step: IncidentStep, aware_at: Option<Timestamp>) -> IncidentRecord {
    IncidentRecord {
        aware_at,
        incident: name("lost-laptop"),
        notification: Notification::default(),
        step,
        study: name("heart-study"),
        what: String::from("a laptop is missing"),
    }
}

fn on_record(world: &World, body: &Envelope, incident: &str, step: IncidentStep) -> DeskItem {
    let hash = Hash::of(&canonical_bytes(body).unwrap());
    let fact = Fact::Incident { body: hash, incident: name(incident), step };
    DeskItem { body: Some(body.clone()), entry: world.said("a", "paula", fact).unwrap() }
}

/// One entry whose record was none ended all that read the house's incidents afterwards.
#[test]
fn repro_what_is_no_step_of_an_incident_is_not_taken_from_the_desk() {
    let mut world = World::new(config_with_people(1314)).unwrap();
    let now = world.clock();
    let paula = keys::person(1314, "a", "paula").key;
    let stella = keys::person(1314, "a", "stella").key;
    let open = Envelope::sign(&record(IncidentStep::Open, Some(now)), &paula).unwrap();
    let by_another = Envelope::sign(&record(IncidentStep::Open, Some(now)), &stella).unwrap();
    let action = Envelope::sign(&record(IncidentStep::Action, None), &paula).unwrap();
    let mut twice = open.clone();
    twice.also_sign(&stella).unwrap();
    let no_record = world.said("a", "paula", freeze(true)).unwrap();
    let log = own_log(&world, "a").len();
    for (what, item) in [
        ("no record", on_record(&world, &no_record, "lost-laptop", IncidentStep::Open)),
        ("by another", on_record(&world, &by_another, "lost-laptop", IncidentStep::Open)),
        ("two signatures", on_record(&world, &twice, "lost-laptop", IncidentStep::Open)),
        ("another name", on_record(&world, &open, "lost-phone", IncidentStep::Open)),
        ("another step", on_record(&world, &open, "lost-laptop", IncidentStep::Close)),
        ("never opened", on_record(&world, &action, "lost-laptop", IncidentStep::Action)),
    ] {
        refusal(world.machine_mut("a").unwrap().hear(&item, now).unwrap());
        assert_eq!(own_log(&world, "a").len(), log, "{what}");
    }
    for (body, step) in [(&open, IncidentStep::Open), (&action, IncidentStep::Action)] {
        let item = on_record(&world, body, "lost-laptop", step);
        assert!(matches!(world.machine_mut("a").unwrap().hear(&item, now).unwrap(), Heard::Acted(_)));
    }
    world.advance(1).unwrap();
    let again = on_record(&world, &open, "lost-laptop", IncidentStep::Open);
    let why = refusal(world.machine_mut("a").unwrap().hear(&again, now).unwrap());
    assert!(why.contains("was opened before"), "{why}");
}

/// While the node was down, one person said yes and another no: which of them counted followed from their hashes.
#[test]
fn repro_a_no_on_the_desk_is_heard_before_a_yes() {
    let mut world = World::new(config_with_people(1741)).unwrap();
    let asked = ask_people(&mut world);
    for order in [[true, false], [false, true]] {
        let folder = Folder::new().unwrap();
        let home = Home::new(folder.path());
        let mut laid = Vec::new();
        for approved in order {
            let Fact::Approval { plan, task, why, .. } = yes(&asked) else { panic!("a yes is an approval") };
            let who = if approved { "stella" } else { "paula" };
            for seconds in 0..8 {
                let why = format!("{why} {seconds}");
                let entry = world.said("a", who, Fact::Approval { approved, plan, task, why }).unwrap();
                laid.push(home.lay_on_desk(&DeskItem { body: None, entry }).unwrap());
            }
            world.advance(1).unwrap();
        }
        let heard: Vec<bool> = home
            .on_desk()
            .unwrap()
            .iter()
            .map(|item| {
                let item: DeskItem = serde_json::from_slice(item.bytes.as_ref().unwrap()).unwrap();
                let entry = item.entry.peek::<Entry>().unwrap().claims().clone();
                matches!(entry.fact, Fact::Approval { approved: true, .. })
            })
            .collect();
        assert_eq!(heard, [[false; 8], [true; 8]].concat());
        let item = home.on_desk().unwrap().remove(0);
        home.put_aside(&item, "not now").unwrap();
        let refused = home.refused_on_desk().unwrap().remove(0).0;
        let is_waited_for = |path: &std::path::PathBuf| path.file_name() == refused.file_name();
        assert!(laid.iter().any(is_waited_for), "it keeps the name by which it is waited for");
    }
}

/// A file with a long name could not be put aside, because the reason's name was longer: the node ended, at each start.
#[test]
fn repro_a_long_name_on_the_desk_stops_nothing() {
    let folder = Folder::new().unwrap();
    let home = Home::new(folder.path());
    let desk = folder.path().join("desk");
    std::fs::create_dir_all(&desk).unwrap();
    std::fs::write(desk.join(format!("{}.json", "x".repeat(240))), b"{}").unwrap();
    let item = home.on_desk().unwrap().pop().unwrap();
    home.put_aside(&item, "this is no signed entry").unwrap();
    assert!(!home.is_desk_laid());
    let refused = home.refused_on_desk().unwrap();
    assert_eq!(refused[0].1, "this is no signed entry");
}

/// What could not be put aside was looked at again and again, so that nothing behind it was heard, and no inbox was read.
#[test]
fn repro_what_cannot_be_put_aside_does_not_hide_what_lies_behind_it() {
    let folder = Folder::new().unwrap();
    let home = Home::new(folder.path());
    let desk = folder.path().join("desk");
    std::fs::create_dir_all(&desk).unwrap();
    std::fs::write(desk.join("refused"), b"a file where a folder should be").unwrap();
    let junk = |number: u32| desk.join(format!("0-{number:03}.json"));
    for number in 0..65 {
        std::fs::write(junk(number), b"{}").unwrap();
    }
    let world = World::new(config_with_people(1328)).unwrap();
    let entry = world.said("a", "otto", freeze(true)).unwrap();
    let path = home.lay_on_desk(&DeskItem { body: None, entry }).unwrap();
    let mut heard = 0;
    for _ in 0..3 {
        for item in home.on_desk().unwrap() {
            let bytes = item.bytes.as_ref().unwrap();
            if serde_json::from_slice::<DeskItem>(bytes).is_ok() {
                heard += 1;
                home.clear_from_desk(&item).unwrap();
            } else {
                home.put_aside(&item, "this is no signed entry").unwrap_err();
            }
        }
    }
    assert!(heard == 1 && !path.exists(), "the freeze is heard, once");
    assert!(!home.is_desk_laid(), "and the rest does not keep the node from its inbox");
    // What is written anew is looked at anew.
    let file = std::fs::File::options().write(true).open(junk(7)).unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    assert!(home.is_desk_laid());
    assert_eq!(home.on_desk().unwrap().len(), 1);
}

/// Where a thousand refused items lay already, the next was thrown away without a word, and whoever waited took it for done.
#[test]
fn repro_the_newest_refused_item_is_kept_with_its_reason() {
    let folder = Folder::new().unwrap();
    let home = Home::new(folder.path());
    let (desk, refused) = (folder.path().join("desk"), folder.path().join("desk").join("refused"));
    std::fs::create_dir_all(&refused).unwrap();
    for number in 0..1_000 {
        for end in ["", ".txt"] {
            let path = refused.join(format!("{number:04}.json{end}"));
            std::fs::write(&path, b"old").unwrap();
            let age = std::time::UNIX_EPOCH + std::time::Duration::from_secs(number);
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(age).unwrap();
        }
    }
    let file = format!("{}.json", Hash::of(b"an entry"));
    std::fs::write(desk.join(&file), b"{}").unwrap();
    let item = home.on_desk().unwrap().pop().unwrap();
    home.put_aside(&item, "not now").unwrap();
    let kept = home.refused_on_desk().unwrap();
    assert_eq!(kept.len(), 1_000);
    assert!(kept.iter().any(|(path, why)| path.ends_with(&file) && why == "not now"));
    assert!(!refused.join("0000.json").exists() && !refused.join("0000.json.txt").exists(), "the oldest went");
    assert!(refused.join("0001.json").exists());
}
