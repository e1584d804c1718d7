//! A hub that cheats, one trick per story: nothing comes out, nobody sends a second vector, and whoever was to be
//! cheated says why. The hub has its own keys, everything that was ever sent, and where the story says so a
//! researcher's or one member's keys.

use std::cell::RefCell;
use std::rc::Rc;

use cohortium_dp::RunState as Charge;
use cohortium_messages::{
    Call, Envelope, Hash, InboxItem, Inclusion, Name, PairwiseCiphertext, RoundShares, RoundStep, SealedShare,
    SurvivorSet, Task, TaskState, canonical_bytes,
};
use cohortium_node::RunState;
use cohortium_sim::{Asked, Fate, Hospital, World, keys};
use data_encoding::BASE64;

use crate::common::{
    HOSPITALS, QUESTION, account_sequence, charge, config, demand_no_answer, demand_promises, run_state, spent, world,
};

/// What passed between hub and nodes, for later use.
type Stash<T> = Rc<RefCell<Vec<T>>>;
/// What someone on the network does to a message, with its name.
type Edit<T> = (&'static str, fn(&mut T));
/// Makes a false half of a pairwise secret out of the true one and one that was meant for another.
type Maker = fn(&PairwiseCiphertext, &Envelope) -> Envelope;

// ---------------------------------------------------------------- the task

#[test]
fn an_altered_plan_has_no_signature() {
    let base = world(501);
    let edits: [Edit<serde_json::Value>; 3] = [
        ("less noise", |task| task["plan"]["rho"] = 900_000_000.into()),
        ("another column", |task| task["plan"]["group_by"][0] = "stage".into()),
        ("fewer members", |task| task["participants"] = serde_json::json!(["a", "b"])),
    ];
    for (what, edit) in edits {
        let mut world = base.fork().unwrap();
        world.between_hub_and_node(move |_, item| {
            if let InboxItem::Task { task, .. } = item {
                *task = altered(task, edit);
            }
            Fate::Deliver
        });
        let asked = asked(&mut world);
        for name in HOSPITALS {
            assert!(world.wire.reported(name, "no valid signature"), "{what}: {:?}", world.wire.reports);
            assert_eq!(account_sequence(&world, name), 0, "{what}");
        }
        assert!(world.wire.masked().is_empty());
        demand_no_answer(&mut world, &asked);
    }
}

#[test]
fn a_task_signed_by_someone_else_is_not_the_researchers() {
    let base = world(502);
    let others = [keys::hub(502).1, keys::organisation(502, "a").message, keys::researcher(502, "mallory").key];
    for key in others {
        let mut world = base.fork().unwrap();
        world.between_hub_and_node(move |_, item| {
            if let InboxItem::Task { task, .. } = item {
                *task = Envelope::sign(task.peek::<Task>().unwrap().claims(), &key).unwrap();
            }
            Fate::Deliver
        });
        let asked = asked(&mut world);
        assert!(HOSPITALS.iter().all(|name| world.wire.reported(name, "no valid signature")));
        assert!(HOSPITALS.iter().all(|name| run_state(&world, name, asked.hash).is_none()));
        demand_no_answer(&mut world, &asked);
    }
}

#[test]
fn a_finished_task_that_is_shown_again_does_nothing() {
    let mut world = world(503);
    let items = stash(&mut world);
    let asked = asked(&mut world);
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Released);
    world.honest_again();
    let before = (world.wire.left.len(), HOSPITALS.map(|name| account_sequence(&world, name)));
    for (node, item) in items.borrow().iter().filter(|(_, item)| is_of_a_round(item)) {
        assert_eq!(world.inject(node.as_str(), item).unwrap(), None);
    }
    // And once more under another place in the log, which the hub can make by logging the entry a second time.
    let void = InboxItem::Void { reason: String::from("try again"), task: asked.hash };
    for name in HOSPITALS {
        world.inject(name, &void).unwrap();
    }
    world.run_until_quiet().unwrap();
    assert_eq!((world.wire.left.len(), HOSPITALS.map(|name| account_sequence(&world, name))), before);
    assert!(HOSPITALS.iter().all(|name| run_state(&world, name, asked.hash) == Some(RunState::Released)));
    demand_promises(&world);
}

/// A researcher who helps the hub signs two tasks; one node is shown one of them, the others the other.
#[test]
fn two_tasks_in_one_round_do_not_open_to_one_another() {
    let mut world = world(504);
    let one = world.prepare("SELECT COUNT(*) AS n FROM heart", "1", 0).unwrap();
    let two = world.prepare("SELECT COUNT(*) AS n FROM heart WHERE age > 90", "1", 0).unwrap();
    let (first, second) = (one.hash, two.hash);
    world.between_hub_and_node(move |node, item| match task_of(item) {
        Some(task) if task == first && node.as_str() == "b" => Fate::Withhold,
        Some(task) if task == second && node.as_str() != "b" => Fate::Withhold,
        _ => Fate::Deliver,
    });
    world.submit(&one).unwrap();
    world.submit(&two).unwrap();
    world.run_until_quiet().unwrap();
    assert!(
        run_state(&world, "a", first) == Some(RunState::Permitted)
            && run_state(&world, "b", second) == Some(RunState::Permitted)
    );

    // All three have dealt shares. The hub hands them out as if they were of one round.
    let dealt: Vec<SealedShare> = dealt(&world).into_iter().flat_map(|shares| shares.shares).collect();
    for (name, task) in [("a", first), ("b", second), ("c", first)] {
        let shares = dealt.iter().filter(|share| share.to.as_str() == name).cloned().collect();
        let report = world.inject(name, &InboxItem::Shares { shares, task }).unwrap();
        assert!(report.is_some_and(|why| why.contains("do not open")), "{name}");
    }
    assert!(world.wire.masked().is_empty());
    assert!(HOSPITALS.iter().all(|name| world.machine(name).unwrap().reads().is_empty()));
    demand_no_answer(&mut world, &one);
    demand_no_answer(&mut world, &two);
}

/// The hub calls the round void after the vectors are out, and begins the same task again.
#[test]
fn a_void_round_is_not_run_again() {
    let mut world = world(505);
    let items = stash_and_withhold(&mut world, |item| matches!(item, InboxItem::Survivors { .. }));
    let asked = asked(&mut world);
    assert_eq!(world.wire.masked().len(), 3);
    let void = InboxItem::Void { reason: String::from("it did not work"), task: asked.hash };
    for name in HOSPITALS {
        world.inject(name, &void).unwrap();
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Void));
        assert_eq!(charge(&world, name, asked.hash), Some(Charge::Spent), "what was read is paid");
    }
    for (node, item) in items.borrow().iter().filter(|(_, item)| is_of_a_round(item)) {
        assert_eq!(world.inject(node.as_str(), item).unwrap(), None);
    }
    assert_eq!(world.wire.masked().len(), 3, "no node made another vector");
    assert!(HOSPITALS.iter().all(|name| world.machine(name).unwrap().reads().len() == 1));
    demand_no_answer(&mut world, &asked);
}

/// A hub that leaves an item out and goes on counting is noticed; the node takes nothing in until the item comes.
#[test]
fn a_gap_in_the_inbox_is_noticed() {
    let mut world = world(515);
    let items = stash(&mut world);
    world.ask(QUESTION, "1").unwrap();
    let commits = world.machine("a").unwrap().disk.commits();
    for (_, item) in items.borrow().iter().filter(|(node, _)| node.as_str() == "a") {
        let refused = world.inject_after_a_gap("a", item).unwrap_err().to_string();
        assert!(refused.contains("items are missing"), "{refused}");
    }
    assert_eq!(world.machine("a").unwrap().disk.commits(), commits, "nothing was taken in");
    world.ask(QUESTION, "1").unwrap();
}

// ---------------------------------------------------------------- the log

/// Two histories: another hub with the same keys goes on from the same point with another task.
#[test]
fn a_forked_log_halts_the_node() {
    let base = world(506);
    for longer in [false, true] {
        let (mut world, mut fork) = (base.fork().unwrap(), base.fork().unwrap());
        let known = world.hub_log().unwrap().size();
        world.prepare(QUESTION, "1", 0).and_then(|asked| world.ask_prepared(&asked)).unwrap();
        let size = world.hub_log().unwrap().size();
        assert!(size > known);
        for draw in 0..=u32::from(longer) {
            fork.prepare(QUESTION, "2", draw).and_then(|asked| fork.ask_prepared(&asked)).unwrap();
        }
        // The same size with another root is a fork; more entries come with a proof that cannot be right.
        let item = fork.checkpoint_item(if longer { size } else { known }).unwrap();
        let report = world.inject("a", &item).unwrap().unwrap();
        let words = if longer { "is not proven to extend" } else { "signed two different trees" };
        assert!(report.contains(words), "{report}");
        demand_halted(&mut world, "a");
    }
}

#[test]
fn a_log_that_goes_back_halts_the_node() {
    let mut world = world(507);
    let items = stash(&mut world);
    world.ask(QUESTION, "1").unwrap();
    world.honest_again();
    let checkpoints = items.borrow();
    let mut checkpoints =
        checkpoints.iter().filter(|(node, item)| node.as_str() == "b" && matches!(item, InboxItem::Checkpoint { .. }));
    let (_, oldest) = checkpoints.next().unwrap();
    let report = world.inject("b", oldest).unwrap().unwrap();
    assert!(report.contains("after one of"), "{report}");
    demand_halted(&mut world, "b");
}

#[test]
fn a_task_that_is_not_proven_to_be_logged_does_not_run() {
    let base = world(508);
    let edits: [Edit<Inclusion>; 6] = [
        ("no path", |inclusion| inclusion.path.clear()),
        ("another index", |inclusion| inclusion.index = inclusion.index.wrapping_sub(1)),
        ("an index outside", |inclusion| inclusion.index = u64::MAX),
        ("a path that is too long", |inclusion| inclusion.path.extend([Hash::of(b"x"); 64])),
        ("no cosignatures", |inclusion| inclusion.note = without_signatures_of(&inclusion.note, &HOSPITALS)),
        ("one cosignature missing", |inclusion| inclusion.note = without_signatures_of(&inclusion.note, &["b"])),
    ];
    for (what, edit) in edits {
        let mut world = base.fork().unwrap();
        world.between_hub_and_node(move |_, item| {
            if let InboxItem::Task { inclusion, .. } = item {
                edit(inclusion);
            }
            Fate::Deliver
        });
        let asked = asked(&mut world);
        for name in HOSPITALS {
            assert!(world.wire.reports.iter().any(|report| report.node.as_str() == name), "{what}: {name}");
            assert_eq!(run_state(&world, name, asked.hash), None, "{what}");
        }
        demand_no_answer(&mut world, &asked);
    }
}

#[test]
fn a_proof_for_another_entry_proves_nothing() {
    let mut world = world(509);
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    let other = world.prepare(QUESTION, "1", 1).unwrap();
    world.between_hub_and_node(|_, item| match item {
        InboxItem::Task { .. } => Fate::Withhold,
        _ => Fate::Deliver,
    });
    world.submit(&asked).unwrap();
    world.submit(&other).unwrap();
    world.run_until_quiet().unwrap();
    let place = world.index_of(&other.entry).unwrap();
    // The other task's entry with the other task's proof; this task's entry with the other's proof.
    for (entry, words) in [(&other.entry, "about something else"), (&asked.entry, "")] {
        let item = world.task_item(&asked.task, entry, place).unwrap();
        let report = world.inject("a", &item).unwrap().unwrap();
        assert!(report.contains(words), "{report}");
    }
    assert_eq!(run_state(&world, "a", asked.hash), None);
    demand_no_answer(&mut world, &asked);
    demand_no_answer(&mut world, &other);
}

// ---------------------------------------------------------------- the round

#[test]
fn swapped_shares_do_not_open() {
    let base = world(510);
    let edits: [Edit<Vec<SealedShare>>; 5] = [
        ("swapped", |shares| {
            let first = shares[0].ciphertext.clone();
            shares[0].ciphertext = std::mem::replace(&mut shares[1].ciphertext, first);
        }),
        ("senders exchanged", |shares| {
            let first = shares[0].from.clone();
            shares[0].from = std::mem::replace(&mut shares[1].from, first);
        }),
        ("one missing", |shares| shares.truncate(1)),
        ("one twice", |shares| shares[1] = shares[0].clone()),
        ("for another", |shares| shares[0].to = shares[1].from.clone()),
    ];
    for (what, edit) in edits {
        let mut world = base.fork().unwrap();
        world.between_hub_and_node(move |node, item| {
            if let (InboxItem::Shares { shares, .. }, "a") = (item, node.as_str()) {
                edit(shares);
            }
            Fate::Deliver
        });
        let asked = asked(&mut world);
        assert!(world.wire.reports.iter().any(|report| report.node.as_str() == "a"), "{what}");
        assert!(world.machine("a").unwrap().reads().is_empty(), "{what}: shares are checked before rows are read");
        assert!(world.wire.masked().iter().all(|header| header.from.as_str() != "a"), "{what}");
        demand_no_answer(&mut world, &asked);
        assert_eq!(spent(&world, "a"), 0.0, "{what}");
    }
}

#[test]
fn a_smaller_survivor_set_is_not_signed() {
    let base = world(511);
    let edits: [fn(&mut Vec<Name>); 4] = [
        |survivors| survivors.truncate(2),
        |survivors| survivors.reverse(),
        |survivors| survivors.push(Name::new("mallory").unwrap()),
        Vec::clear,
    ];
    for edit in edits {
        let mut world = base.fork().unwrap();
        world.between_hub_and_node(move |_, item| {
            if let InboxItem::Survivors { survivors, .. } = item {
                edit(survivors);
            }
            Fate::Deliver
        });
        let asked = asked(&mut world);
        assert!(HOSPITALS.iter().all(|name| world.wire.reported(name, "survivor set")), "{:?}", world.wire.reports);
        assert!(world.wire.survivor_sets().is_empty());
        demand_no_answer(&mut world, &asked);
        assert!(HOSPITALS.iter().all(|name| charge(&world, name, asked.hash) == Some(Charge::Spent)));
    }
}

/// Four members of whom three suffice, and a hub that leaves one out whose vector it has. Each signs one set at most, and
/// whoever was told that it is not in the sum has forgotten how: there is one sum, or none.
#[test]
fn a_member_that_is_left_out_takes_part_in_no_other_set() {
    let mut config = config(514, 10);
    config.hospitals.push(Hospital { name: String::from("d"), ..config.hospitals[0].clone() });
    config.threshold = 3;
    let mut world = World::new(config).unwrap();
    world.between_hub_and_node(|_, item| {
        if let InboxItem::Survivors { survivors, .. } = item {
            survivors.truncate(3);
        }
        Fate::Deliver
    });
    let asked = asked(&mut world);
    let everyone: Vec<Name> = ["a", "b", "c", "d"].map(|name| Name::new(name).unwrap()).to_vec();
    assert_eq!(world.wire.survivor_sets().len(), 3);
    assert!(world.wire.survivor_sets().iter().all(|set| set.survivors == everyone[..3]));
    assert_eq!(run_state(&world, "d", asked.hash), Some(RunState::LeftOut));
    // Now the hub would like to have the other sum as well.
    world.honest_again();
    let item = InboxItem::Survivors { survivors: everyone, task: asked.hash };
    for name in ["a", "b", "c", "d"] {
        world.inject(name, &item).unwrap();
    }
    world.run_until_quiet().unwrap();
    assert_eq!(world.wire.survivor_sets().len(), 3);
    demand_no_answer(&mut world, &asked);
}

/// Member `c` helps the hub with its key, and signs whatever is wanted.
#[test]
fn signatures_on_another_set_open_nothing() {
    const SEED: u64 = 512;
    let base = world(SEED);
    let edits: [Edit<Vec<Envelope>>; 5] = [
        ("another set", |sets| resign(sets, |set| set.survivors.truncate(2))),
        ("another round", |sets| resign(sets, |set| set.context = Hash::of(b"another"))),
        ("in another's name", |sets| resign(sets, |set| set.from = Name::new("b").unwrap())),
        ("one missing", |sets| sets.truncate(2)),
        ("one twice", |sets| sets[2] = sets[0].clone()),
    ];
    for (what, edit) in edits {
        let mut world = base.fork().unwrap();
        world.between_hub_and_node(move |_, item| {
            if let InboxItem::Signatures { sets, .. } = item {
                edit(sets);
            }
            Fate::Deliver
        });
        let asked = asked(&mut world);
        for name in HOSPITALS {
            assert!(world.wire.reports.iter().any(|report| report.node.as_str() == name), "{what}: {name}");
        }
        demand_no_answer(&mut world, &asked);
    }

    /// Changes what `c` signed, and signs it with `c`'s key.
    fn resign(sets: &mut [Envelope], edit: fn(&mut SurvivorSet)) {
        let mut set = sets[2].peek::<SurvivorSet>().unwrap().claims().clone();
        edit(&mut set);
        sets[2] = Envelope::sign(&set, &keys::organisation(SEED, "c").message).unwrap();
    }
}

/// The hub puts itself between two members when they agree on their secret.
#[test]
fn a_swapped_pairwise_ciphertext_makes_no_secret() {
    const SEED: u64 = 513;
    let base = World::joined(config(SEED, 10)).unwrap();
    let makers: [(&str, Maker); 3] = [
        ("of another pair", |_, for_c| for_c.clone()),
        ("signed by the hub", |claims, _| Envelope::sign(claims, &keys::hub(SEED).1).unwrap()),
        ("made by another member", |claims, for_c| {
            let other = for_c.peek::<PairwiseCiphertext>().unwrap().claims().ciphertext.clone();
            let claims = PairwiseCiphertext { ciphertext: other, ..claims.clone() };
            Envelope::sign(&claims, &keys::organisation(SEED, "c").message).unwrap()
        }),
    ];
    for (what, make) in makers {
        let mut world = base.fork().unwrap();
        let for_c: Stash<Envelope> = Stash::default();
        let seen = Rc::clone(&for_c);
        world.between_node_and_hub(move |node, call| {
            if let (Call::Pairwise { message }, "a") = (&*call, node.as_str()) {
                let claims = message.peek::<PairwiseCiphertext>().unwrap();
                if claims.claims().to.as_str() == "c" {
                    seen.borrow_mut().push(message.clone());
                }
            }
            Fate::Deliver
        });
        let known = Rc::clone(&for_c);
        world.between_hub_and_node(move |node, item| {
            if let (InboxItem::Pairwise { message }, "b") = (item, node.as_str()) {
                let claims = message.peek::<PairwiseCiphertext>().unwrap();
                if claims.claims().from.as_str() == "a" {
                    let Some(for_c) = known.borrow().first().cloned() else { return Fate::Lose };
                    *message = make(claims.claims(), &for_c);
                }
            }
            Fate::Deliver
        });
        world.sign_all().unwrap();
        world.run_until_quiet().unwrap();
        assert!(world.wire.reports.iter().any(|report| report.node.as_str() == "b"), "{what}");
        let asked = asked(&mut world);
        let status = demand_no_answer(&mut world, &asked);
        assert_eq!(status.clauses, ["b: heart-study/round"], "{what}");
        assert!(status.why.contains("no pairwise secret with a"), "{what}: {}", status.why);
        assert!(HOSPITALS.iter().all(|name| spent(&world, name) == 0.0), "{what}");
    }
}

// ---------------------------------------------------------------- tools

/// Submits the question and lets everything happen that happens at once.
fn asked(world: &mut World) -> Asked {
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    asked
}

/// The node believes this hub no more: it says why, and a new task does not run.
fn demand_halted(world: &mut World, name: &str) {
    assert!(world.machine(name).unwrap().node().unwrap().halted().unwrap().is_some());
    world.restart(name).unwrap();
    let reads = world.machine(name).unwrap().reads().len();
    let reveals = world.wire.reveals();
    let asked = world.prepare(QUESTION, "1", 7).unwrap();
    world.submit(&asked).unwrap();
    let status = world.settle(&asked).unwrap();
    assert_ne!(status.state, TaskState::Released);
    assert_eq!(world.machine(name).unwrap().reads().len(), reads);
    assert_eq!(world.wire.reveals(), reveals);
    demand_promises(world);
}

/// Everything that the hub sends to nodes from now on.
fn stash(world: &mut World) -> Stash<(Name, InboxItem)> {
    stash_and_withhold(world, |_| false)
}

fn stash_and_withhold(world: &mut World, withhold: fn(&InboxItem) -> bool) -> Stash<(Name, InboxItem)> {
    let items = Stash::default();
    let stash: Stash<(Name, InboxItem)> = Rc::clone(&items);
    world.between_hub_and_node(move |node, item| {
        if withhold(item) {
            return Fate::Withhold;
        }
        stash.borrow_mut().push((node.clone(), item.clone()));
        Fate::Deliver
    });
    items
}

fn is_of_a_round(item: &InboxItem) -> bool {
    task_of(item).is_some()
}

fn task_of(item: &InboxItem) -> Option<Hash> {
    match item {
        InboxItem::Task { task, .. } => Some(task.peek::<Task>().unwrap().hash()),
        InboxItem::Released { task, .. }
        | InboxItem::Permitted { task, .. }
        | InboxItem::Shares { task, .. }
        | InboxItem::Signatures { task, .. }
        | InboxItem::Survivors { task, .. }
        | InboxItem::Void { task, .. } => Some(*task),
        InboxItem::Agreement { .. }
        | InboxItem::Checkpoint { .. }
        | InboxItem::Logged { .. }
        | InboxItem::Pairwise { .. }
        | InboxItem::PeerCheckpoint { .. }
        | InboxItem::PeerCosigned { .. } => None,
    }
}

/// The deposits and shares that left the nodes.
fn dealt(world: &World) -> Vec<RoundShares> {
    let shares = world.wire.left.iter().filter_map(|(_, call)| match call {
        Call::Post { step: RoundStep::Permitted { shares, .. } } => Some(shares),
        _ => None,
    });
    shares.map(|shares| shares.peek::<RoundShares>().unwrap().claims().clone()).collect()
}

/// The same signatures on another payload.
fn altered(envelope: &Envelope, edit: fn(&mut serde_json::Value)) -> Envelope {
    let mut outer = serde_json::to_value(envelope).unwrap();
    let payload = BASE64.decode(outer["payload"].as_str().unwrap().as_bytes()).unwrap();
    let mut payload = serde_json::from_slice(&payload).unwrap();
    edit(&mut payload);
    outer["payload"] = BASE64.encode(&canonical_bytes(&payload).unwrap()).into();
    serde_json::from_value(outer).unwrap()
}

/// The note without the signature lines of these names.
fn without_signatures_of(note: &str, names: &[&str]) -> String {
    let is_of = |line: &str| names.iter().any(|name| line.starts_with(&format!("\u{2014} {name} ")));
    note.lines().filter(|line| !is_of(line)).map(|line| format!("{line}\n")).collect()
}
