//! What a hostile reading of the code found, one test each, so that it stays repaired.

use cohortium_dp::{EntryKind, RunState as Charge};
use cohortium_messages::{Call, InboxItem, Name, Reply, TaskState};
use cohortium_node::RunState;
use cohortium_sim::{STUDY, SimError, World, people};

use crate::common::{HOSPITALS, QUESTION, account_kinds, charge, cut_off, demand_promises, run_state, world};

/// Whoever was invited to the hub could read every study, every task and every stored answer.
#[test]
fn repro_a_stranger_to_a_study_sees_nothing_of_it() {
    let mut world = world(701);
    let answered = world.ask(QUESTION, "1").unwrap();
    world.join_researcher("mallory").unwrap();
    let plan = answered.priced.plan_hash();
    let stored = Call::Released { plan, purpose: "HMB".parse().unwrap(), study: Name::new(STUDY).unwrap() };
    let status = Call::Status { known: 0, task: answered.task, wait_ms: 0 };

    assert!(matches!(world.call_as("rosa", Call::Studies), Ok(Reply::Studies(studies)) if studies.len() == 1));
    assert!(matches!(world.call_as("rosa", stored.clone()), Ok(Reply::Released(Some(_)))));
    assert!(matches!(world.call_as("mallory", Call::Studies), Ok(Reply::Studies(studies)) if studies.is_empty()));
    for call in [stored, status] {
        let answer = world.call_as("mallory", call);
        assert!(matches!(&answer, Err(SimError::Refused(refused)) if refused.code == "denied"), "{answer:?}");
    }
}

/// A stored answer was shown for a purpose that the agreement does not permit.
#[test]
fn repro_a_stored_answer_is_not_shown_for_another_purpose() {
    let mut world = world(702);
    let plan = world.ask(QUESTION, "1").unwrap().priced.plan_hash();
    for (purpose, is_shown) in [("HMB", true), ("GRU", false)] {
        let call = Call::Released { plan, purpose: purpose.parse().unwrap(), study: Name::new(STUDY).unwrap() };
        let Reply::Released(stored) = world.call_as("rosa", call).unwrap() else { panic!("another reply") };
        assert_eq!(stored.is_some(), is_shown, "{purpose}");
    }
}

/// Rows that were taken in after the permit were read under it.
#[test]
fn repro_rows_replaced_after_the_permit_are_not_read() {
    let mut world = world(703);
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Shares { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));

    let others = people::csv(&people::patients(7031, "a", 30));
    world.machine_mut("a").unwrap().replace_rows(&others).unwrap();
    world.honest_again();
    let status = world.settle(&asked).unwrap();
    assert_ne!(status.state, TaskState::Released);
    assert!(world.machine("a").unwrap().reads().is_empty());
    assert_eq!(account_kinds(&world, "a", asked.hash), [EntryKind::Reserve, EntryKind::Refund]);
    demand_promises(&world);
    world.ask(QUESTION, "1").unwrap();
}

/// A node that had stopped believing the hub went on with the rounds that were open.
#[test]
fn repro_a_halted_node_reads_nothing_more_of_an_open_round() {
    let mut base = world(704);
    let known = base.hub_log().unwrap().size();
    let (mut world, mut fork) = (base.fork().unwrap(), base.fork().unwrap());
    cut_off(&mut world, &["a"], |item| matches!(item, InboxItem::Shares { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Permitted));

    // Another hub with the same keys went another way: its head cannot be proven to extend what the node has seen,
    // which is everything up to the task.
    fork.ask(QUESTION, "2").unwrap();
    let item = fork.checkpoint_item(known + 1).unwrap();
    let report = world.inject("a", &item).unwrap().unwrap();
    assert!(report.contains("is not proven to extend"), "{report}");
    assert!(world.machine("a").unwrap().node().unwrap().halted().unwrap().is_some());
    world.honest_again();
    let status = world.settle(&asked).unwrap();
    assert_ne!(status.state, TaskState::Released);
    assert!(world.machine("a").unwrap().reads().is_empty());
    demand_promises(&world);
}

/// A run of which the hub never spoke again kept its reservation for ever.
#[test]
fn repro_a_run_that_the_hub_forgot_is_given_up_after_a_day() {
    for (what, state, left_with) in
        [("shares", RunState::Permitted, Charge::Refunded), ("survivors", RunState::Masked, Charge::Spent)]
    {
        let mut world = world(705);
        let at: fn(&InboxItem) -> bool = if what == "shares" {
            |item| matches!(item, InboxItem::Shares { .. })
        } else {
            |item| matches!(item, InboxItem::Survivors { .. })
        };
        cut_off(&mut world, &HOSPITALS, at);
        let asked = world.prepare(QUESTION, "1", 0).unwrap();
        world.submit(&asked).unwrap();
        world.run_until_quiet().unwrap();
        world.give_up_old_runs("a").unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(state), "{what}: not yet");
        for _ in 0..25 {
            world.advance(3600).unwrap();
        }
        world.give_up_old_runs("a").unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Void), "{what}");
        assert_eq!(charge(&world, "a", asked.hash), Some(left_with), "{what}");
        demand_promises(&world);
    }
}

/// One researcher could fill the hub with tasks that nobody had answered.
#[test]
fn repro_a_researcher_has_at_most_sixteen_tasks_under_way() {
    let mut world = world(706);
    let all: Vec<_> = (0..17).map(|draw| world.prepare(QUESTION, "0.1", draw).unwrap()).collect();
    let (last, fitting) = all.split_last().unwrap();
    for asked in fitting {
        world.submit(asked).unwrap();
    }
    let refused = world.submit(last);
    assert!(matches!(&refused, Err(SimError::Refused(refused)) if refused.code == "limit"), "{refused:?}");
    // The limit is on tasks under way, not on questions.
    assert_eq!(world.settle(&all[0]).unwrap().state, TaskState::Released);
    assert!(World::submit(&mut world, last).is_ok());
}
