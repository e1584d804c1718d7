//! A crash at every commit while people and custodians speak: approvals, what is let out, freezes, revocations, amendments.
//!
//! Each story is told once for every commit that a party makes in it, with the machine stopped there. What was not taken
//! in is said again in the same bytes (the file still lies on the desk, the command is given once more). Afterwards it
//! holds as if nothing had happened, and stands once in each log.

use cohortium_messages::{Author, Envelope, Fact, Hash, Name, RevocationSubject, TaskState};
use cohortium_node::{HeldRecord, RunState};
use cohortium_sim::{SimError, World, keys};

use crate::common::{
    HOSPITALS, QUESTION, ask_people, config_with_people, demand_promises, demand_restartable, disk, is_down,
    log_entries, own_log, own_log_of, run_state, yes,
};

/// Tells a story with a crash of `victim` at its first commit, its second, and so on to the last; there must be `least`.
fn at_every_commit(
    base: &World,
    victim: &str,
    least: u64,
    act: impl Fn(&mut World) -> Result<(), SimError>,
    demand: impl Fn(&mut World),
) {
    for commit in 1.. {
        let mut world = base.fork().unwrap();
        disk(&world, victim).crash_at(commit);
        let acted = act(&mut world);
        world.run_until_quiet().unwrap();
        let has_crashed = is_down(&world, victim);
        assert!(acted.is_ok() || has_crashed, "{victim} at commit {commit}: {acted:?}");
        demand_promises(&world);
        world.restart(victim).unwrap();
        if acted.is_err() {
            act(&mut world).unwrap();
        }
        world.run_until_quiet().unwrap();
        println!("{victim} at commit {commit}");
        demand(&mut world);
        demand_promises(&world);
        if !has_crashed {
            demand_restartable(&mut world);
            demand(&mut world);
            assert!(commit > least, "{victim} makes {} commits in this story", commit - 1);
            break;
        }
    }
}

/// How often a node's own log and the hub's hold an entry of this kind.
fn logged(world: &mut World, name: &str, kind: &str) -> (usize, usize) {
    let own = own_log(world, name).into_iter().filter(|entry| entry.fact.kind() == kind).count();
    (own, log_entries(world).into_iter().filter(|entry| entry.fact.kind() == kind).count())
}

fn lay(world: &mut World, words: &[(&str, Envelope)]) -> Result<(), SimError> {
    words.iter().try_for_each(|(name, word)| world.lay_on_desk(name, word.clone()).map(drop))
}

#[test]
fn a_crash_at_every_commit_of_an_approval() {
    let mut base = World::new(config_with_people(1601)).unwrap();
    let asked = ask_people(&mut base);
    let words = HOSPITALS.map(|name| (name, base.said(name, "stella", yes(&asked)).unwrap()));
    for (victim, least) in [("a", 6), ("hub", 10)] {
        at_every_commit(
            &base,
            victim,
            least,
            |world| lay(world, &words),
            |world| {
                let status = world.settle(&asked).unwrap();
                assert_eq!(status.state, TaskState::Released, "{}", status.why);
                assert_eq!(own_log_of(world, "a", asked.hash), ["approval", "permit", "price"]);
                assert_eq!(logged(world, "a", "approval"), (1, 3));
            },
        );
    }
}

#[test]
fn a_crash_at_every_commit_of_letting_out() {
    let mut config = config_with_people(1602);
    config.approval.as_mut().unwrap().hold = true;
    let mut base = World::new(config).unwrap();
    let asked = ask_people(&mut base);
    for name in HOSPITALS {
        base.say(name, "stella", yes(&asked)).unwrap();
    }
    base.run_until_quiet().unwrap();
    let words = HOSPITALS.map(|name| {
        let held = base.machine(name).unwrap().disk.table("held").unwrap();
        let held: HeldRecord = serde_json::from_slice(&held.first().unwrap().1).unwrap();
        (name, base.said(name, "stella", Fact::Dispatch { message: held.message, task: asked.hash }).unwrap())
    });
    for (victim, least) in [("b", 3), ("hub", 8)] {
        at_every_commit(
            &base,
            victim,
            least,
            |world| lay(world, &words),
            |world| {
                let status = world.settle(&asked).unwrap();
                assert_eq!(status.state, TaskState::Released, "{}", status.why);
                world.verify(&asked, &status).unwrap();
                assert_eq!(logged(world, "b", "dispatch").0, 1);
            },
        );
    }
}

#[test]
fn a_crash_at_every_commit_of_a_freeze() {
    let mut base = World::new(config_with_people(1603)).unwrap();
    let asked = ask_people(&mut base);
    let stop = Fact::Freeze { frozen: true, why: String::from("somebody called") };
    let words = [("a", base.said("a", "otto", stop).unwrap())];
    let study = base.agreement().study.clone();
    for (victim, least) in [("a", 1), ("hub", 1)] {
        at_every_commit(
            &base,
            victim,
            least,
            |world| lay(world, &words),
            |world| {
                let node = world.machine("a").unwrap().node().unwrap();
                assert!(node.stopped(&study).unwrap().unwrap().why.contains("otto of a"));
                assert_eq!(logged(world, "a", "freeze"), (1, 1));
                world.say("a", "stella", yes(&asked)).unwrap();
                assert_eq!(run_state(world, "a", asked.hash), Some(RunState::Refused));
            },
        );
    }
}

#[test]
fn a_crash_at_every_commit_of_a_revocation() {
    let mut base = World::new(config_with_people(1604)).unwrap();
    let asked = ask_people(&mut base);
    let next = base.prepare(QUESTION, "1", 1).unwrap();
    let fact = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("enough") };
    let author = Author::Custodian(Name::new("a").unwrap());
    let words = [("a", base.signed(author, fact, &keys::organisation(1604, "a").agreement).unwrap())];
    for (victim, least) in [("a", 1), ("b", 1), ("hub", 2)] {
        at_every_commit(
            &base,
            victim,
            least,
            |world| lay(world, &words),
            |world| {
                assert_eq!(logged(world, "a", "revocation"), (1, 1));
                for name in HOSPITALS {
                    let state = run_state(world, name, asked.hash);
                    assert!(matches!(state, Some(RunState::Void | RunState::Refused)), "{name}: {state:?}");
                }
                drop(world.submit(&next)); // refused the first time; known to be, from then on
                assert_eq!(world.status(next.hash).unwrap().state, TaskState::Refused);
            },
        );
    }
}

#[test]
fn a_crash_at_every_commit_of_an_amendment() {
    let base = World::new(crate::common::config(1605, 10)).unwrap();
    let next = base.amended(|agreement| agreement.title.push_str(" amended"));
    let hash = Hash::of(&cohortium_messages::canonical_bytes(&next).unwrap());
    for (victim, least) in [("b", 3), ("hub", 5)] {
        at_every_commit(
            &base,
            victim,
            least,
            |world| HOSPITALS.iter().try_for_each(|name| world.sign(name, &next)),
            |world| {
                if world.agreement().hash() != hash {
                    world.adopt(&next).unwrap();
                    world.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
                }
                // The first agreement and the amendment, signed by each custodian once.
                let signed = log_entries(world).into_iter().filter(|entry| entry.fact.kind() == "agreement").count();
                assert_eq!(signed, 6);
            },
        );
    }
}
