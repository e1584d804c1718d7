//! Members that go silent, at every step: the round goes on without them as long as `t` are left, and nobody loses a
//! price or gives away a sum by it.

use cohortium_dp::{EntryKind, RunState as Charge};
use cohortium_messages::{Call, InboxItem, Name, RoundStep, TaskState, TaskStatus};
use cohortium_node::RunState;
use cohortium_sim::{Asked, Config, Fate, SimError, World, people};

use crate::common::{account_kinds, charge, cut_off, demand_promises, demand_restartable, log_of, run_state};

const NAMES: [&str; 4] = ["a", "b", "c", "d"];
const SQL: &str = "SELECT COUNT(*) AS persons FROM heart";

/// Four hospitals of 10, 100, 1000 and 3000 patients, of whom three suffice: who is in a sum can be read off it.
fn world(seed: u64) -> World {
    println!("seed {seed}");
    let hospitals = NAMES.iter().zip([10, 100, 1000, 3000]);
    let hospitals = hospitals.map(|(name, n)| ((*name).to_owned(), people::csv(&people::patients(seed, name, n))));
    let config = Config { threshold: 3, ..Config::new(seed, hospitals.collect(), people::SCHEMA) };
    World::new(config).unwrap()
}

fn ask(world: &mut World) -> (Asked, TaskStatus) {
    let asked = world.prepare(SQL, "8", 0).unwrap();
    world.submit(&asked).unwrap();
    let status = world.settle(&asked).unwrap();
    (asked, status)
}

/// The answer is the count over these members. ε = 8 leaves noise of a standard deviation below 2; 20 is far outside.
fn demand_count(world: &World, asked: &Asked, status: &TaskStatus, members: &[&str]) {
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    let answered = world.verify(asked, status).unwrap();
    let names: Vec<&str> = answered.release.survivors.iter().map(Name::as_str).collect();
    assert_eq!(names, members);
    let sizes = [("a", 10.0), ("b", 100.0), ("c", 1000.0), ("d", 3000.0)];
    let truth: f64 = sizes.iter().filter(|(name, _)| members.contains(name)).map(|(_, size)| size).sum();
    let counted = answered.cells[0] as f64 / answered.priced.lattice() as f64;
    assert!((counted - truth).abs() < 20.0, "{counted} instead of {truth}");
}

/// What an auditor finds, in words.
fn findings(world: &World) -> Vec<String> {
    let report = cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
    report.findings.into_iter().map(|finding| finding.text).collect()
}

/// An auditor finds nothing missing and nothing out of place.
fn demand_clean_audit(world: &World) {
    let report = cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
    assert_eq!(report.findings, []);
}

fn goes_silent_at(at: fn(&InboxItem) -> bool, expected: &[&str], state: RunState, left_with: Charge) {
    let mut world = world(801);
    cut_off(&mut world, &["b"], at);
    let (asked, status) = ask(&mut world);
    demand_count(&world, &asked, &status, expected);
    demand_promises(&world);
    // Until it comes back, an auditor is told that its price is open.
    let open = findings(&world);
    if expected.contains(&"b") {
        assert!(open.is_empty(), "{open:?}");
    } else {
        let [open] = open.as_slice() else { panic!("{open:?}") };
        assert!(open.starts_with("b permitted") && open.contains("answered without it"), "{open}");
    }
    // It comes back, finds that the round is over, and what it paid is in the log.
    world.honest_again();
    world.run_until_quiet().unwrap();
    assert_eq!(run_state(&world, "b", asked.hash), Some(state));
    assert_eq!(charge(&world, "b", asked.hash), Some(left_with));
    assert_eq!(world.machine("b").unwrap().reads().is_empty(), left_with == Charge::Refunded);
    let log = log_of(&mut world, asked.hash);
    for name in NAMES {
        assert_eq!(log.iter().filter(|line| **line == format!("{name} price")).count(), 1, "{name}: {log:?}");
    }
    demand_clean_audit(&world);
    demand_restartable(&mut world);
    let (asked, status) = {
        let asked = world.prepare(SQL, "8", 1).unwrap();
        world.submit(&asked).unwrap();
        let status = world.settle(&asked).unwrap();
        (asked, status)
    };
    demand_count(&world, &asked, &status, &NAMES);
}

#[test]
fn before_it_masks() {
    let at = |item: &InboxItem| matches!(item, InboxItem::Shares { .. });
    goes_silent_at(at, &["a", "c", "d"], RunState::Void, Charge::Refunded);
}

#[test]
fn before_it_signs() {
    goes_silent_at(|item| matches!(item, InboxItem::Survivors { .. }), &NAMES, RunState::Released, Charge::Spent);
}

#[test]
fn before_it_reveals() {
    goes_silent_at(|item| matches!(item, InboxItem::Signatures { .. }), &NAMES, RunState::Released, Charge::Spent);
}

/// Its announcement is lost on the way until the round is over: it is not in the sum, and its price is logged later.
#[test]
fn while_it_announces_its_vector() {
    let mut world = world(802);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "b" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let (asked, status) = ask(&mut world);
    demand_count(&world, &asked, &status, &["a", "c", "d"]);
    assert!(!log_of(&mut world, asked.hash).contains(&"b price".to_owned()));
    world.honest_again();
    world.run_until_quiet().unwrap();
    let log = log_of(&mut world, asked.hash);
    assert_eq!(log.iter().filter(|line| *line == "b price").count(), 1, "{log:?}");
    demand_clean_audit(&world);
}

/// Two of four are one too many: void; who has read is charged, and who comes back does not read.
#[test]
fn below_the_threshold_the_round_is_void() {
    let mut world = world(803);
    cut_off(&mut world, &["b", "c"], |item| matches!(item, InboxItem::Shares { .. }));
    let (asked, status) = ask(&mut world);
    assert_eq!(status.state, TaskState::Expired);
    assert!(status.why.contains("no answer in time from b, c"), "{}", status.why);
    assert_eq!(world.wire.reveals(), 0);
    world.honest_again();
    world.run_until_quiet().unwrap();
    for name in ["a", "d"] {
        assert_eq!(account_kinds(&world, name, asked.hash), [EntryKind::Reserve, EntryKind::Reading, EntryKind::Spend]);
    }
    for name in ["b", "c"] {
        assert_eq!(account_kinds(&world, name, asked.hash), [EntryKind::Reserve, EntryKind::Refund]);
        assert!(world.machine(name).unwrap().reads().is_empty());
    }
    demand_promises(&world);
    demand_clean_audit(&world);
}

/// A member that does not deal ends the round before anyone reads: fewer participants are another round.
#[test]
fn without_its_shares_nobody_reads() {
    let mut world = world(804);
    cut_off(&mut world, &["d"], |item| matches!(item, InboxItem::Task { .. }));
    let (asked, status) = ask(&mut world);
    assert_eq!(status.state, TaskState::Expired);
    assert!(NAMES.iter().all(|name| world.machine(name).unwrap().reads().is_empty()));
    assert_eq!(charge(&world, "a", asked.hash), Some(Charge::Refunded));
}

/// Who comes back within the time of the phase takes part.
#[test]
fn a_member_that_comes_back_in_time_is_in_the_sum() {
    let mut world = world(805);
    cut_off(&mut world, &["b"], |item| matches!(item, InboxItem::Shares { .. }));
    let asked = world.prepare(SQL, "8", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(world.status(asked.hash).unwrap().awaited, [Name::new("b").unwrap()]);
    world.advance(30).unwrap();
    world.honest_again();
    let status = world.settle(&asked).unwrap();
    demand_count(&world, &asked, &status, &NAMES);
}

/// A node that never fetched its shares, at a hub that does not take them back, learns from what follows that it need not
/// read.
#[test]
fn a_node_without_shares_is_told_by_the_set_or_by_the_release() {
    for told_by_the_set in [true, false] {
        let mut world = world(807);
        world.between_hub_and_node(move |node, item| match item {
            _ if node.as_str() != "b" => Fate::Deliver,
            InboxItem::Shares { .. } | InboxItem::Void { .. } => Fate::Withhold,
            InboxItem::Survivors { .. } if !told_by_the_set => Fate::Withhold,
            _ => Fate::Deliver,
        });
        let (asked, status) = ask(&mut world);
        demand_count(&world, &asked, &status, &["a", "c", "d"]);
        assert_eq!(charge(&world, "b", asked.hash), Some(Charge::Refunded), "by the set: {told_by_the_set}");
        assert!(world.machine("b").unwrap().reads().is_empty());
        let log = log_of(&mut world, asked.hash);
        assert_eq!(log.iter().filter(|line| *line == "b price").count(), 1, "{log:?}");
        demand_promises(&world);
        demand_clean_audit(&world);
    }
}

/// A member that was left out cannot be talked into the sum afterwards, nor can a member in it sign another set.
#[test]
fn a_late_vector_is_not_taken() {
    let mut world = world(806);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "b" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let (asked, status) = ask(&mut world);
    demand_count(&world, &asked, &status, &["a", "c", "d"]);
    world.honest_again();
    world.run_until_quiet().unwrap();
    let late = world.wire.left.iter().find_map(|(node, call)| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "b" => Some(call.clone()),
        _ => None,
    });
    // Said again, it changes nothing; and nobody asks for its bytes.
    let again = world.call_as_node("b", late.unwrap());
    assert!(matches!(again, Ok(cohortium_messages::Reply::Accepted) | Err(SimError::Refused(_))), "{again:?}");
    assert_eq!(world.status(asked.hash).unwrap(), status);
}
