//! What nodes notice: tasks that the house's rules find remarkable, and logs of other members that contradict themselves.

use std::collections::BTreeSet;

use cohortium_ledger::{KeyKind, Log, SignedCheckpoint, SignerKey, VerifierKey};
use cohortium_messages::{Call, Entry, Fact, Hash, InboxItem, Name, RoundStep};
use cohortium_node::{AccessRecord, Evidence, RunState};
use cohortium_policy::watch::{Rule, Rules};
use cohortium_sim::{World, keys};
use cohortium_store::{Batch, Store as _};

use crate::common::{HOSPITALS, QUESTION, config, config_with_people, own_log, run_state};

fn alerts(world: &World, name: &str) -> Vec<(String, bool)> {
    let alert = |entry: Entry| match entry.fact {
        Fact::Alert { froze, rule, .. } => Some((rule, froze)),
        _ => None,
    };
    own_log(world, name).into_iter().filter_map(alert).collect()
}

fn work_at_all_hours() -> Rules {
    Rules { work_begins_hour: 0, work_ends_hour: 0, ..Rules::default() }
}

#[test]
fn a_remarkable_task_is_in_the_own_log_and_told_to_the_hub() {
    let mut config = config(1201, 30);
    config.rules = Some(work_at_all_hours());
    let mut world = World::new(config).unwrap();
    world.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
    let first = [(String::from("first-pair"), false)];
    assert_eq!(alerts(&world, "a"), first);
    world.ask("SELECT COUNT(*) AS n FROM heart WHERE age > 30", "1").unwrap();
    assert_eq!(alerts(&world, "a"), [first[0].clone(), (String::from("differencing"), false)]);
    let told = world.wire.left.iter().filter(|(node, call)| node.as_str() == "a" && matches!(call, Call::Log { .. }));
    assert_eq!(told.count(), 2);
    // A house without rules is told nothing.
    let mut quiet = World::new(crate::common::config(1201, 30)).unwrap();
    quiet.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
    assert!(alerts(&quiet, "a").is_empty());
}

/// A rule that freezes stops the study with the very task that it noticed, until a privacy officer looked.
#[test]
fn a_rule_that_freezes_stops_the_study_with_the_task_it_noticed() {
    let mut config = config_with_people(1202);
    config.rules = Some(Rules { freeze: BTreeSet::from([Rule::FirstPair]), ..work_at_all_hours() });
    config.approval = None;
    let mut world = World::new(config).unwrap();
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    let status = world.settle(&asked).unwrap();
    assert!(status.clauses.iter().any(|clause| clause.ends_with("heart-study/frozen")), "{:?}", status.clauses);
    assert!(HOSPITALS.iter().all(|name| world.machine(name).unwrap().reads().is_empty()));
    assert_eq!(alerts(&world, "a"), [(String::from("first-pair"), true)]);
    let study = world.agreement().study.clone();
    let frozen = |world: &World| world.machine("a").unwrap().node().unwrap().stopped(&study).unwrap();
    assert!(frozen(&world).unwrap().why.starts_with("alert first-pair"));
    world.advance(1).unwrap();
    world.say("a", "paula", Fact::Freeze { frozen: false, why: String::from("we talked") }).unwrap();
    assert_eq!(frozen(&world), None);
}

#[test]
fn a_burst_of_refusals_is_noticed_at_the_refusal() {
    let mut config = config(1203, 30);
    config.rules = Some(Rules { burst_refusals: 2, ..work_at_all_hours() });
    config.hospitals[0].epsilon = String::from("0.001");
    let mut world = World::new(config).unwrap();
    for draw in 0..3 {
        let asked = world.prepare(QUESTION, "1", draw).unwrap();
        world.submit(&asked).unwrap();
        world.settle(&asked).unwrap();
        assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Refused));
    }
    let bursts = alerts(&world, "a").into_iter().filter(|(rule, _)| rule == "burst-of-refusals").count();
    assert_eq!(bursts, 1, "once, at the number itself: {:?}", alerts(&world, "a"));
}

// ------------------------------------------------------------------ members witness one another

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The head that `from` showed last, as it is shown to who has cosigned nothing of its log.
fn relayed_first(world: &World, from: &str) -> InboxItem {
    let InboxItem::PeerCheckpoint { note, .. } = relayed(world, from) else { panic!("no head") };
    InboxItem::PeerCheckpoint { consistency: Vec::new(), note, old_size: 0 }
}

/// The head that `from` showed last, as the hub relays it.
fn relayed(world: &World, from: &str) -> InboxItem {
    let shown = world.wire.left.iter().rev().find_map(|(node, call)| match call {
        Call::Witness { consistency, note, old_size } if node.as_str() == from => {
            Some((consistency.clone(), note.clone(), *old_size))
        }
        _ => None,
    });
    let (consistency, note, old_size) = shown.unwrap();
    InboxItem::PeerCheckpoint { consistency, note, old_size }
}

/// What `from` last said about the log of `of`.
fn said_about(world: &World, from: &str, of: &str) -> Option<RoundStep> {
    world.wire.left.iter().rev().find_map(|(node, call)| match call {
        Call::Post { step: step @ (RoundStep::Cosigned { origin, .. } | RoundStep::Stale { origin, .. }) }
            if node.as_str() == from && origin.as_str() == of =>
        {
            Some(step.clone())
        }
        _ => None,
    })
}

/// A world in which nodes show their heads, and the hub relays nothing by itself that these tests do not hand over.
fn witnesses(seed: u64) -> World {
    let mut config = config(seed, 30);
    config.members_witness = true;
    let mut world = World::new(config).unwrap();
    world.between_hub_and_node(|_, item| match item {
        InboxItem::PeerCheckpoint { .. } | InboxItem::PeerCosigned { .. } => cohortium_sim::Fate::Withhold,
        _ => cohortium_sim::Fate::Deliver,
    });
    world.ask(QUESTION, "1").unwrap();
    world
}

#[test]
fn members_cosign_one_anothers_logs_with_both_keys() {
    let mut world = witnesses(1204);
    let item = relayed_first(&world, "a");
    assert_eq!(world.inject("b", &item).unwrap(), None);
    world.run_until_quiet().unwrap();
    let Some(RoundStep::Cosigned { lines, size, .. }) = said_about(&world, "b", "a") else { panic!("no cosignature") };
    assert_eq!(lines.len(), 2);
    let cosigned = InboxItem::PeerCosigned { from: name("b"), lines: lines.clone(), size };
    assert_eq!(world.inject("a", &cosigned).unwrap(), None);
    let a = world.machine("a").unwrap();
    let note = std::fs::read(a.log_dir().join("checkpoint")).unwrap();
    let log = VerifierKey::new("a", KeyKind::Log, a.secrets.log.public().as_bytes()).unwrap();
    let entry = keys::organisation(1204, "b").entry(&name("b"));
    let both = [
        VerifierKey::new("b", KeyKind::Witness, entry.witness_key.as_bytes()).unwrap(),
        VerifierKey::new("b", KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes()).unwrap(),
    ];
    for key in &both {
        let head = SignedCheckpoint::open(&note, &log).unwrap();
        assert!(
            head.verify_quorum(std::slice::from_ref(key), 1).is_ok()
                || String::from_utf8_lossy(&note).contains("\u{2014} b ")
        );
    }
    assert_eq!(String::from_utf8_lossy(&note).matches("\u{2014} b ").count(), 2);
    // Another's lines, and lines for another head, are refused.
    let forged = InboxItem::PeerCosigned { from: name("c"), lines, size };
    assert!(world.inject("a", &forged).unwrap().unwrap().contains("not by c's witness keys"));
    // The same head again says nothing new and is no news.
    let left = world.wire.left.len();
    assert_eq!(world.inject("b", &item).unwrap(), None);
    world.run_until_quiet().unwrap();
    assert_eq!(world.wire.left.len(), left);
}

/// A head shown from another size than was cosigned last gets the size back, and the member shows it from there.
#[test]
fn a_stale_head_is_answered_with_the_size_and_shown_again() {
    let mut world = witnesses(1205);
    let InboxItem::PeerCheckpoint { note, .. } = relayed(&world, "a") else { panic!("no head") };
    let stale = InboxItem::PeerCheckpoint { consistency: Vec::new(), note, old_size: 1 };
    let report = world.inject("b", &stale).unwrap().unwrap();
    assert!(report.contains("was cosigned up to 0"), "{report}");
    world.run_until_quiet().unwrap();
    let Some(RoundStep::Stale { size: 0, .. }) = said_about(&world, "b", "a") else { panic!("no conflict") };
    let answer = InboxItem::PeerCosigned { from: name("b"), lines: Vec::new(), size: 0 };
    assert_eq!(world.inject("a", &answer).unwrap(), None);
    world.run_until_quiet().unwrap();
    let again = relayed(&world, "a");
    assert!(matches!(&again, InboxItem::PeerCheckpoint { old_size: 0, .. }));
    let shown = world.wire.left.len();
    assert_eq!(world.inject("a", &answer).unwrap(), None);
    world.run_until_quiet().unwrap();
    assert_eq!(world.wire.left.len(), shown, "once for each size");
    assert_eq!(world.inject("b", &again).unwrap(), None);
    world.run_until_quiet().unwrap();
    assert!(matches!(said_about(&world, "b", "a"), Some(RoundStep::Cosigned { .. })));
}

/// Another log in the name of `a`: as many entries as its own or as given, and none of them its own.
fn forged_log(world: &World, size: u64) -> (cohortium_sim::Folder, Log) {
    let seed = world.machine("a").unwrap().secrets.log.expose_seed();
    let signer = SignerKey::from_seed("a", KeyKind::Log, &seed).unwrap();
    let (folder, mut store) = (cohortium_sim::Folder::new().unwrap(), cohortium_store::MemoryStore::default());
    let mut log = Log::open(folder.path(), &store, &signer).unwrap();
    let leaves: Vec<Vec<u8>> = (0..size).map(|number| number.to_string().into_bytes()).collect();
    let mut batch = Batch::new();
    let staged = log.stage(&leaves, &mut batch).unwrap();
    store.commit(batch).unwrap();
    log.apply(staged, &store, &signer).unwrap();
    (folder, log)
}

fn shown(log: &Log, old_size: u64) -> InboxItem {
    let proof = log.consistency_proof(old_size, log.size()).unwrap();
    let note = log.checkpoint().without_cosignatures().unwrap().to_string();
    InboxItem::PeerCheckpoint { consistency: proof.into_iter().map(Hash::from_bytes).collect(), note, old_size }
}

/// Whatever a member shows that does not extend what was cosigned stops the study here, once, with the evidence kept; two
/// signed heads of one size are never forgiven.
#[test]
fn a_member_that_rewrites_its_log_is_caught() {
    for (what, proven) in [("fork", true), ("rewrite", false), ("rollback", false)] {
        let mut world = witnesses(1206);
        let good = relayed_first(&world, "a");
        assert_eq!(world.inject("b", &good).unwrap(), None);
        world.run_until_quiet().unwrap();
        let Some(RoundStep::Cosigned { size, .. }) = said_about(&world, "b", "a") else { panic!("no cosignature") };
        let (_folder, log) = forged_log(
            &world,
            match what {
                "fork" => size,
                "rewrite" => size + 3,
                _ => size - 1,
            },
        );
        let item = shown(&log, if what == "rewrite" { size } else { 0 });
        let report = world.inject("b", &item).unwrap();
        assert!(report.is_some(), "{what}");
        assert_eq!(alerts(&world, "b"), [(String::from("log-of-member"), true)], "{what}");
        assert!(world.inject("b", &item).unwrap().is_some());
        assert_eq!(alerts(&world, "b").len(), 1, "{what}: once");
        let evidence = world.machine("b").unwrap().disk.table("evidence").unwrap();
        let evidence: Evidence = serde_json::from_slice(&evidence[0].1).unwrap();
        assert_eq!(evidence.proven, proven, "{what}");
        assert!(evidence.known.starts_with("a\n") && evidence.shown.starts_with("a\n"));
        let study = world.agreement().study.clone();
        let node = world.machine("b").unwrap().node().unwrap();
        assert!(node.stopped(&study).unwrap().unwrap().why.contains("log-of-member"), "{what}");
        // What `a` shows honestly afterwards is cosigned, unless it was proven to lie.
        world.run_until_quiet().unwrap();
        let (name, draw) = ("SELECT COUNT(*) AS n FROM heart", 1);
        let asked = world.prepare(name, "1", draw).unwrap();
        world.submit(&asked).unwrap();
        world.settle(&asked).unwrap();
        assert_eq!(run_state(&world, "b", asked.hash), Some(RunState::Refused), "{what}");
    }
}

/// A hub relayed a wrong proof once, a privacy officer looked and let the study go on: from then on the member could rewrite
/// its log, and nobody was told.
#[test]
fn repro_a_member_that_rewrites_its_log_after_a_false_alarm_is_caught() {
    let mut config = config_with_people(1210);
    config.members_witness = true;
    config.approval = None;
    let mut world = World::new(config).unwrap();
    world.between_hub_and_node(|_, item| match item {
        InboxItem::PeerCheckpoint { .. } | InboxItem::PeerCosigned { .. } => cohortium_sim::Fate::Withhold,
        _ => cohortium_sim::Fate::Deliver,
    });
    world.ask(QUESTION, "1").unwrap();
    let good = relayed_first(&world, "a");
    assert_eq!(world.inject("b", &good).unwrap(), None);
    world.run_until_quiet().unwrap();
    let Some(RoundStep::Cosigned { size, .. }) = said_about(&world, "b", "a") else { panic!("no cosignature") };
    let study = world.agreement().study.clone();
    let stopped = |world: &World| world.machine("b").unwrap().node().unwrap().stopped(&study).unwrap();
    for (number, grown) in [(1, 3), (2, 5), (3, 5)] {
        let (_folder, log) = forged_log(&world, size + grown);
        let item = shown(&log, size);
        for _ in 0..3 {
            assert!(world.inject("b", &item).unwrap().is_some());
        }
        let raised = alerts(&world, "b").iter().filter(|(rule, _)| rule == "log-of-member").count();
        assert_eq!(raised, number, "once for each time that the study went on");
        assert!(stopped(&world).is_some());
        world.advance(1).unwrap();
        world.say("b", "paula", Fact::Freeze { frozen: false, why: String::from("we asked the hub") }).unwrap();
        assert_eq!(stopped(&world), None);
    }
    let evidence = world.machine("b").unwrap().disk.table("evidence").unwrap();
    let shown: BTreeSet<String> =
        evidence.iter().map(|(_, bytes)| serde_json::from_slice::<Evidence>(bytes).unwrap().shown).collect();
    assert_eq!(shown.len(), 2, "both heads are kept");
}

/// A hub that speaks in members' names, with other sizes each time, filled the node's journal.
#[test]
fn repro_what_is_relayed_about_heads_does_not_fill_the_journal() {
    let mut world = witnesses(1211);
    let heads = |world: &World| {
        let is_head =
            |call: &&Call| matches!(call, Call::Witness { .. } | Call::Post { step: RoundStep::Stale { .. } });
        crate::common::journal(world, "a").iter().filter(is_head).count()
    };
    let before = heads(&world);
    let rows = |world: &World| world.machine("a").unwrap().disk.table("meta").unwrap().len();
    let rows_before = rows(&world);
    for number in 0..100 {
        for from in ["b", "x"] {
            let said = InboxItem::PeerCosigned { from: name(from), lines: Vec::new(), size: number % 2 };
            let report = world.inject("a", &said).unwrap();
            assert_eq!(report.is_some(), from == "x", "{report:?}");
        }
        let InboxItem::PeerCheckpoint { note, .. } = relayed(&world, "b") else { panic!("no head") };
        let stale = InboxItem::PeerCheckpoint { consistency: Vec::new(), note, old_size: 1 };
        assert!(world.inject("a", &stale).unwrap().is_some());
    }
    assert!(heads(&world) - before <= 9, "{}", heads(&world) - before);
    assert!(rows(&world) - rows_before <= 2);
    // Later it answers again.
    let before = heads(&world);
    world.advance(60).unwrap();
    let said = InboxItem::PeerCosigned { from: name("b"), lines: Vec::new(), size: 1 };
    world.inject("a", &said).unwrap();
    assert_eq!(heads(&world), before + 1);
}

/// Refused tasks cost nothing: they were kept in one list with the others, and pushed them out of it.
#[test]
fn repro_refused_tasks_do_not_push_out_what_was_answered() {
    let mut config = config(1212, 30);
    config.rules = Some(work_at_all_hours());
    config.hospitals[0].epsilon = String::from("1.5");
    let mut world = World::new(config).unwrap();
    world.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
    let asked = world.prepare(QUESTION, "2", 1).unwrap();
    world.submit(&asked).unwrap();
    world.settle(&asked).unwrap();
    assert_eq!(run_state(&world, "a", asked.hash), Some(RunState::Refused));
    let disk = &world.machine("a").unwrap().disk;
    for table in ["seen", "seen_refused"] {
        assert_eq!(disk.table(table).unwrap().len(), 1, "{table}");
    }
}

/// The hub's log: everything halts, and every study here is marked.
#[test]
fn a_hub_that_rewrites_its_log_is_in_the_own_log() {
    let mut world = World::new(config(1207, 30)).unwrap();
    world.ask(QUESTION, "1").unwrap();
    let seed = keys::hub(1207).0.expose_seed();
    let signer = SignerKey::from_seed("hub", KeyKind::Log, &seed).unwrap();
    let (folder, mut store) = (cohortium_sim::Folder::new().unwrap(), cohortium_store::MemoryStore::default());
    let mut log = Log::open(folder.path(), &store, &signer).unwrap();
    let mut batch = Batch::new();
    let staged = log.stage(&[b"another history".to_vec()], &mut batch).unwrap();
    store.commit(batch).unwrap();
    log.apply(staged, &store, &signer).unwrap();
    let note = log.checkpoint().without_cosignatures().unwrap().to_string();
    let item = InboxItem::Checkpoint { consistency: Vec::new(), note, old_size: 0 };
    assert!(world.inject("a", &item).unwrap().is_some());
    assert!(world.machine("a").unwrap().node().unwrap().halted().unwrap().is_some());
    assert_eq!(alerts(&world, "a"), [(String::from("log-of-hub"), true)]);
    let told = |call: &Call| matches!(call, Call::Log { .. });
    assert!(!world.wire.left.iter().any(|(_, call)| told(call)), "nobody is told through a hub that lies");
}

#[test]
fn strangers_have_no_log_here() {
    let mut world = witnesses(1208);
    let InboxItem::PeerCheckpoint { note, .. } = relayed(&world, "a") else { panic!("no head") };
    for (origin, part) in [("x", "no other member"), ("b", "no other member"), ("", "name"), ("../a", "name")] {
        let note = note.replacen("a\n", &format!("{origin}\n"), 1);
        let item = InboxItem::PeerCheckpoint { consistency: Vec::new(), note, old_size: 0 };
        let report = world.inject("b", &item).unwrap().unwrap();
        assert!(report.contains(part), "{origin}: {report}");
    }
    // In the name of another member, whose key did not sign it.
    let note = note.replacen("a\n", "c\n", 1);
    let item = InboxItem::PeerCheckpoint { consistency: Vec::new(), note, old_size: 0 };
    assert!(world.inject("b", &item).unwrap().is_some());
    assert!(alerts(&world, "b").is_empty(), "nobody is accused by what they did not sign");
    assert!(said_about(&world, "b", "c").is_none());
}

#[test]
fn the_access_log_tells_who_asked_what_and_what_became_of_it() {
    let mut world = World::new(config_with_people(1209)).unwrap();
    let asked = crate::common::ask_people(&mut world);
    world.say("a", "otto", crate::common::yes(&asked)).unwrap();
    let records = world.machine("a").unwrap().disk.table("access").unwrap();
    let records: Vec<AccessRecord> = records.iter().map(|(_, bytes)| serde_json::from_slice(bytes).unwrap()).collect();
    let words: Vec<String> = records.iter().map(|r| format!("{}: {}: {}", r.who, r.what, r.outcome)).collect();
    let has = |parts: [&str; 3]| words.iter().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(["the hub", "an agreement of study heart-study", "taken in"]), "{words:?}");
    assert!(has(["the researcher rosa (claimed)", "task ", "taken in"]), "{words:?}");
    assert!(has(["otto of a", "approval at the desk", "refused: "]), "{words:?}");
}
