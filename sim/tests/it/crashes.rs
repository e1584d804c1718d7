//! A crash at every commit: one query, and one party's disk fails at its first commit, its second, and so on to the
//! last. At the crash and after the restart every promise holds, and the query is answered all the same.

use cohortium_dp::{EntryKind, RunState as Charge};
use cohortium_messages::TaskState;
use cohortium_sim::{SimError, World};

use crate::common::{
    HOSPITALS, QUESTION, account_kinds, charge, demand_promises, demand_restartable, disk, is_down, log_of, world,
};

#[test]
fn a_crash_of_a_node_at_every_commit() {
    let crashes = crash_from(&world(301), "b", 1, 1);
    assert!(crashes >= 15, "a query makes more commits at a node than {crashes}");
}

/// The hub makes many commits, so that its stories are told by two tests, side by side.
#[test]
fn a_crash_of_the_hub_at_every_odd_commit() {
    let crashes = crash_from(&world(302), "hub", 1, 2);
    assert!(crashes >= 15, "a query makes more commits at the hub than twice {crashes}");
}

#[test]
fn a_crash_of_the_hub_at_every_even_commit() {
    let crashes = crash_from(&world(302), "hub", 2, 2);
    assert!(crashes >= 15, "a query makes more commits at the hub than twice {crashes}");
}

/// Crashes in the joining of two secrets, and in taking an agreement into force, are crashes like any other. The node
/// is the middle one in the order of names: it makes one secret and takes another.
#[test]
fn a_crash_at_every_commit_of_the_beginning() {
    let base = World::joined(crate::common::config(303, 10)).unwrap();
    for victim in ["b", "hub"] {
        for commit in 1.. {
            let mut world = base.fork().unwrap();
            disk(&world, victim).crash_at(commit);
            let signed = world.sign_all();
            world.run_until_quiet().unwrap();
            let has_crashed = is_down(&world, victim);
            world.restart(victim).unwrap(); // whose disk works from now on, crash or no crash
            if signed.is_err() {
                world.sign_all().unwrap(); // a custodian whose call failed makes it again
            }
            world.run_until_quiet().unwrap();
            world.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
            demand_promises(&world);
            if !has_crashed {
                assert!(commit > 4, "{victim}");
                break;
            }
        }
    }
}

/// Crashes at this commit and at every `step`-th after it, until there is none; returns how often.
fn crash_from(base: &World, victim: &str, first: u64, step: usize) -> usize {
    (first..).step_by(step).take_while(|commit| crash(base, victim, *commit)).count()
}

/// One story; returns whether the crash happened.
fn crash(base: &World, victim: &str, commit: u64) -> bool {
    let mut world = base.fork().unwrap();
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    disk(&world, victim).crash_at(commit);
    let submitted = world.submit(&asked);
    world.run_until_quiet().unwrap();
    let has_crashed = is_down(&world, victim);
    demand_promises(&world);
    if has_crashed {
        world.restart(victim).unwrap();
        if matches!(submitted, Err(SimError::Down(_))) {
            world.submit(&asked).unwrap(); // the researcher's call failed, so it is made again
        }
    }
    let before = world.clock();
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{victim} at commit {commit}: {}", status.why);
    assert_eq!(world.clock(), before, "{victim} at commit {commit}: nobody had to wait for a deadline");
    world.verify(&asked, &status).unwrap();
    demand_promises(&world);
    for name in HOSPITALS {
        let kinds = [EntryKind::Reserve, EntryKind::Reading, EntryKind::Spend];
        assert_eq!(account_kinds(&world, name, asked.hash), kinds, "{victim} at commit {commit}");
        assert_eq!(charge(&world, name, asked.hash), Some(Charge::Spent));
    }
    let log = log_of(&mut world, asked.hash);
    assert_eq!(log.len(), 8, "{victim} at commit {commit}: each thing is logged once: {log:?}");
    if commit.is_multiple_of(8) {
        demand_restartable(&mut world);
    }
    has_crashed
}
