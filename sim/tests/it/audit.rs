//! An auditor who was not there: the log of an eventful world passes, and one changed byte anywhere does not.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cohortium_audit::{Outcome, verify, verify_own_log};
use cohortium_messages::{InboxItem, Name};
use cohortium_sim::{World, keys};
use rand_core::Rng as _;

use crate::common::{HOSPITALS, QUESTION, config, cut_off, spent};

#[test]
fn an_eventful_world_passes_its_audit() {
    let world = eventful_world(801);
    let report = verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
    assert_eq!(report.findings, [], "everything is settled");
    let outcomes = report.tasks.iter().map(|task| match task.outcome {
        Outcome::Failed { .. } => "failed",
        Outcome::Open => "open",
        Outcome::Refused { .. } => "refused",
        Outcome::Released { .. } => "released",
    });
    let outcomes: Vec<&str> = outcomes.collect();
    assert_eq!(outcomes, ["released", "refused", "refused", "failed", "failed", "released"]);
    for (name, account) in HOSPITALS.iter().zip(&report.accounts) {
        assert_eq!(account.node.as_str(), *name);
        assert!((account.epsilon_spent - spent(&world, name)).abs() < 0.001, "{name}");
    }
    for name in HOSPITALS {
        let (dir, name) = (world.machine(name).unwrap().log_dir(), Name::new(name).unwrap());
        verify_own_log(&dir, &name, std::slice::from_ref(world.agreement())).unwrap();
    }
}

/// Three positions in every file, and about 300 more, spread by size.
#[test]
fn one_changed_byte_fails_the_audit() {
    const SEED: u64 = 802;
    const POSITIONS: usize = 300;
    let mut world = World::new(config(SEED, 10)).unwrap();
    world.ask(QUESTION, "1").unwrap();
    let refused = world.prepare(QUESTION, "100", 0).unwrap();
    world.ask_prepared(&refused).err().unwrap();
    world.run_until_quiet().unwrap();
    let dir = world.hub.log_dir();
    verify(&dir, world.agreement_envelope()).unwrap();

    let files = files(&dir);
    let total: usize = files.values().map(Vec::len).sum();
    let mut rng = keys::generator(SEED, "positions");
    let mut tried = 0;
    for (file, bytes) in &files {
        let share = 3 + POSITIONS * bytes.len() / total;
        for _ in 0..share {
            let position = rng.next_u64() as usize % bytes.len();
            let mut changed = bytes.clone();
            changed[position] ^= 1 << (rng.next_u32() % 8);
            std::fs::write(file, &changed).unwrap();
            let verdict = verify(&dir, world.agreement_envelope());
            assert!(verdict.is_err(), "byte {position} of {} was changed", file.display());
            tried += 1;
        }
        for shorter in [&bytes[..bytes.len() - 1], &[]] {
            std::fs::write(file, shorter).unwrap();
            assert!(verify(&dir, world.agreement_envelope()).is_err(), "{} was cut", file.display());
        }
        std::fs::remove_file(file).unwrap();
        assert!(verify(&dir, world.agreement_envelope()).is_err(), "{} was removed", file.display());
        std::fs::write(file, bytes).unwrap();
    }
    assert!(tried >= POSITIONS, "{tried}");
    std::fs::write(dir.join("note"), "hello").unwrap();
    assert!(verify(&dir, world.agreement_envelope()).is_err(), "a file was added");
    std::fs::remove_file(dir.join("note")).unwrap();
    verify(&dir, world.agreement_envelope()).unwrap();
}

/// Answers, a refusal by the hub, one by a house that cannot pay while others have reserved, a round in which nobody
/// had read, one that was void after two had read, and an answer after all that.
fn eventful_world(seed: u64) -> World {
    let mut config = config(seed, 10);
    config.hospitals[2].epsilon = String::from("4");
    let mut world = World::new(config).unwrap();
    world.ask(QUESTION, "1").unwrap();
    let too_dear = world.prepare(QUESTION, "100", 0).unwrap();
    world.ask_prepared(&too_dear).err().unwrap();
    world.ask(QUESTION, "6").err().unwrap();
    let silences: [fn(&InboxItem) -> bool; 2] =
        [|item| matches!(item, InboxItem::Task { .. }), |item| matches!(item, InboxItem::Shares { .. })];
    for silence in silences {
        cut_off(&mut world, &["b"], silence);
        world.ask(QUESTION, "0.5").err().unwrap();
        world.honest_again();
        world.run_until_quiet().unwrap();
    }
    world.ask("SELECT COUNT(*) AS n FROM heart WHERE age > 50", "0.5").unwrap();
    world.run_until_quiet().unwrap();
    world
}

fn files(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.insert(entry.path(), std::fs::read(entry.path()).unwrap());
        }
    }
    found
}
