//! Amendments at a node: what follows from the agreement in force takes its place, and nothing else does.

use cohortium_dp::EntryKind;
use cohortium_messages::{Agreement, Envelope, Fact, Hash, InboxItem, Party, TaskState};
use cohortium_node::RunState;
use cohortium_sim::{World, keys};

use crate::common::{
    HOSPITALS, QUESTION, account_kinds, ask_people, config_with_people, cut_off, demand_promises, run_state, spent,
    world, yes,
};

/// Shows an agreement to nodes as the hub does when it is complete. Returns what each did not accept.
fn show(world: &mut World, names: &[&str], agreement: &Envelope) -> Vec<Option<String>> {
    let item = InboxItem::Agreement { agreement: agreement.clone() };
    names.iter().map(|name| world.inject(name, &item).unwrap()).collect()
}

#[test]
fn an_amendment_that_follows_takes_the_place_and_one_that_does_not_is_refused() {
    let mut world = world(1101);
    let other = Hash::of(b"another agreement");
    type Edit<'a> = &'a dyn Fn(&mut Agreement);
    let cases: [(&str, Edit<'_>); 4] = [
        ("skips a revision", &|agreement| agreement.revision = 3),
        ("is of the same revision", &|agreement| {
            agreement.revision = 1;
            agreement.previous = None;
        }),
        ("amends another agreement", &|agreement| agreement.previous = Some(other)),
        ("names another hub", &|agreement| agreement.hub.message_key = keys::hub(7).1.public()),
    ];
    for (what, edit) in cases {
        let (_, envelope) = world
            .signed_amendment(|agreement| {
                agreement.title.push_str(" amended");
                edit(agreement);
            })
            .unwrap();
        let said = show(&mut world, &["b"], &envelope);
        assert!(said[0].is_some(), "a node takes an amendment that {what}");
    }
    let (agreement, envelope) =
        world.signed_amendment(|agreement| agreement.budgets.epsilon_total = 600.into()).unwrap();
    // Without its own custodian's signature a node takes nothing.
    let mut unsigned = Envelope::sign(&*agreement, &keys::organisation(1101, "a").agreement).unwrap();
    unsigned.also_sign(&keys::organisation(1101, "c").agreement).unwrap();
    assert!(show(&mut world, &["b"], &unsigned)[0].is_some());
    assert_eq!(show(&mut world, &HOSPITALS, &envelope), [None, None, None]);
    assert_eq!(show(&mut world, &HOSPITALS, &envelope), [None, None, None], "again changes nothing");
    // And the one before does not come back.
    let old = world.agreement_envelope().clone();
    let said = show(&mut world, &["b"], &old);
    assert!(said[0].as_ref().unwrap().contains("does not follow"), "{said:?}");
}

/// What was masked goes on under its own version; what was permitted and not read is not read, and refunded.
#[test]
fn runs_end_under_the_agreement_they_began_under() {
    let mut world = world(1102);
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Shares { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "b", asked.hash), Some(RunState::Masked));
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));
    let (_, envelope) = world.signed_amendment(|agreement| agreement.budgets.epsilon_total = 600.into()).unwrap();
    assert_eq!(show(&mut world, &HOSPITALS, &envelope), [None, None, None]);
    world.honest_again();
    let status = world.settle(&asked).unwrap();
    assert_ne!(status.state, TaskState::Released);
    assert!(world.wire.reported("a", "was amended"), "{:?}", world.wire.reports);
    assert!(world.machine("a").unwrap().reads().is_empty());
    world.run_until_quiet().unwrap();
    assert_eq!(account_kinds(&world, "a", asked.hash), [EntryKind::Reserve, EntryKind::Refund]);
    assert_eq!(account_kinds(&world, "b", asked.hash), [EntryKind::Reserve, EntryKind::Reading, EntryKind::Spend]);
    demand_promises(&world);
}

#[test]
fn what_waits_for_people_ends_when_the_agreement_is_amended() {
    let mut world = World::new(config_with_people(1103)).unwrap();
    let asked = ask_people(&mut world);
    let (_, envelope) = world.signed_amendment(|agreement| agreement.title.push_str(" amended")).unwrap();
    show(&mut world, &["a"], &envelope);
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Void));
    let heard = world.say("a", "stella", yes(&asked)).unwrap();
    assert!(format!("{heard:?}").contains("nobody is asked"), "{heard:?}");
    // A freeze said under the old agreement is not heard: people may have left with it.
    let stop = Fact::Freeze { frozen: true, why: String::from("late") };
    let heard = world.say("a", "otto", stop.clone()).unwrap();
    assert!(format!("{heard:?}").contains("no longer in force"), "{heard:?}");
    let (agreement, envelope) = world.signed_amendment(|agreement| agreement.title.push_str(" amended")).unwrap();
    world.take_agreement(agreement, envelope);
    let study = world.agreement().study.clone();
    world.say("a", "otto", stop).unwrap();
    // And what stopped the study stops it under the next one too.
    let (_, next) = world.signed_amendment(|agreement| agreement.title.push_str(" again")).unwrap();
    assert_eq!(show(&mut world, &["a"], &next), [None]);
    assert!(world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap().is_some());
}

/// Smaller caps may be spent already: the book is the same, and nothing more is permitted.
#[test]
fn a_smaller_budget_counts_what_was_spent_before() {
    let mut world = world(1104);
    world.ask(QUESTION, "2").unwrap();
    let before = spent(&world, "a");
    let (_, envelope) = world
        .signed_amendment(|agreement| {
            agreement.budgets.epsilon_per_query = 1.into();
            agreement.budgets.epsilon_per_researcher = 1.into();
            agreement.budgets.epsilon_total = 1.into();
        })
        .unwrap();
    assert_eq!(show(&mut world, &HOSPITALS, &envelope), [None, None, None]);
    assert!((spent(&world, "a") - before).abs() < 1e-9, "the history stays");
    world.restart("a").unwrap();
    assert!((spent(&world, "a") - before).abs() < 1e-9);
    let study = cohortium_dp::account::Scope::Study(world.agreement().study.to_string());
    let account = world.machine("a").unwrap().node().unwrap();
    let account = account.account(&cohortium_messages::Name::new("heart").unwrap()).unwrap();
    assert!(account.remaining_epsilon_of(&study).unwrap() <= 0.0);
}

/// Who leaves holds no agreement any more; strangers cannot make anyone leave.
#[test]
fn who_is_left_out_stops_and_strangers_leave_nobody_out() {
    let mut world = world(1105);
    let without_c = |agreement: &mut Agreement| {
        agreement.parties.retain(|party: &Party| party.entry.organisation.as_str() != "c");
        agreement.secure_sum.threshold = 2;
    };
    // A hub makes up hospitals of its own.
    let stranger = keys::organisation(4_711, "a");
    let (agreement, _) = world.signed_amendment(without_c).unwrap();
    let mut forged = (*agreement).clone();
    forged.parties.retain(|party| party.entry.organisation.as_str() == "b");
    let other = keys::organisation(4_712, "x");
    for (name, keys) in [("a", &stranger), ("x", &other)] {
        let entry = keys.entry(&cohortium_messages::Name::new(name).unwrap());
        forged.parties.push(Party { entry, people: Vec::new() });
    }
    forged.parties.retain(|party| party.entry.organisation.as_str() != "b");
    let entries: Vec<_> = forged.parties.iter().map(|party| &party.entry).collect();
    let terms = cohortium_policy::LogTerms { post_quantum: false, quorum: 2 };
    forged.log_policy =
        cohortium_policy::log_policy(&forged.hub, &entries, forged.secure_sum, terms).unwrap().to_string();
    let mut envelope = Envelope::sign(&forged, &stranger.agreement).unwrap();
    envelope.also_sign(&other.agreement).unwrap();
    let said = show(&mut world, &["c"], &envelope);
    assert!(said[0].as_ref().unwrap().contains("strangers"), "{said:?}");
    world.ask(QUESTION, "1").unwrap();
    // The others leave it out.
    let (_, envelope) = world.signed_amendment(without_c).unwrap();
    assert_eq!(show(&mut world, &["c"], &envelope), [None]);
    let asked = world.prepare("SELECT COUNT(*) AS n FROM heart", "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "c", asked.hash), None);
    assert!(world.wire.reported("c", "holds no agreement"), "{:?}", world.wire.reports);
    // The hub shows the first agreement once more: everyone signed it, and it is over.
    let old = world.agreement_envelope().clone();
    let said = show(&mut world, &["c"], &old);
    assert!(said[0].as_ref().unwrap().contains("left study heart-study with revision 2"), "{said:?}");
}
