//! What was found wrong when the world was first run, one test each, so that it stays repaired.

use cohortium_dp::RunState as Charge;
use cohortium_messages::{
    Author, Call, Entry, Envelope, Fact, InboxItem, Name, RoundShares, RoundStep, Task, TaskState,
};
use cohortium_node::RunState;
use cohortium_sim::{Fate, SimError, World, keys};

use crate::common::{HOSPITALS, QUESTION, charge, config, cut_off, demand_promises, log_of, run_state, world};

/// The hub died between storing the last vector and asking for signatures: nobody asked any more, and the round waited
/// for its deadline.
#[test]
fn repro_a_hub_that_dies_after_the_last_vector_asks_for_signatures_all_the_same() {
    let mut world = world(601);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } if node.as_str() == "c" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    world.honest_again();
    // The announcement and the vector are two commits; the third asks.
    world.hub.disk.crash_at(3);
    world.run_until_quiet().unwrap();
    assert!(!world.hub.is_up());
    assert_eq!(world.hub.disk.table("vectors").unwrap().len(), 3);
    world.restart("hub").unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Released);
}

/// A refusal that a node sent again after a crash was logged again.
#[test]
fn repro_a_refusal_that_comes_twice_is_logged_once() {
    let mut world = world_with_a_poor_house(602);
    let asked = world.prepare(QUESTION, "3", 0).unwrap();
    world.ask_prepared(&asked).err().unwrap();
    let before = log_of(&mut world, asked.hash);
    let refusal =
        world.wire.left.iter().find(|(_, call)| matches!(call, Call::Post { step: RoundStep::Refused { .. } }));
    let (_, call) = refusal.unwrap().clone();
    world.call_as_node("c", call).unwrap();
    assert_eq!(log_of(&mut world, asked.hash), before);
}

/// A node that had permitted could refuse afterwards, and the permits were logged a second time.
#[test]
fn repro_a_node_does_not_refuse_what_it_permitted() {
    let mut world = world_with_a_poor_house(603);
    let poor = world.prepare(QUESTION, "3", 0).unwrap();
    world.ask_prepared(&poor).err().unwrap();
    world.between_hub_and_node(|_, item| match item {
        InboxItem::Survivors { .. } => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "0.5", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    let before = log_of(&mut world, asked.hash);
    // Member c says in its own name that it refuses.
    let entry = Entry {
        agreement: world.agreement().hash(),
        author: Author::Node(Name::new("c").unwrap()),
        fact: Fact::Refusal { clauses: Vec::new(), task: asked.hash, why: String::from("no more") },
        study: world.agreement().study.clone(),
        time: world.clock(),
    };
    let entry = Envelope::sign(&entry, &keys::organisation(603, "c").message).unwrap();
    let refused = world.call_as_node("c", Call::Post { step: RoundStep::Refused { approvals: Vec::new(), entry } });
    assert!(matches!(refused, Err(SimError::Refused(refused)) if refused.code == "conflict"));
    assert_eq!(log_of(&mut world, asked.hash), before);
}

/// A node reserved and permitted while another had refused already: its refund was logged, its reservation was not.
#[test]
fn repro_a_permit_that_comes_after_the_end_is_logged() {
    let mut world = world_with_a_poor_house(604);
    cut_off(&mut world, &["a", "b"], |item| matches!(item, InboxItem::Task { .. }));
    let asked = world.prepare(QUESTION, "3", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Refused);
    world.honest_again();
    world.run_until_quiet().unwrap();
    let mut log = log_of(&mut world, asked.hash);
    log.sort();
    assert_eq!(log, ["a permit", "a price", "b permit", "b price", "c refusal", "rosa task"]);
}

/// A round that became void while it was being opened lost the prices of those who had opened their part.
#[test]
fn repro_prices_of_a_round_that_ends_while_it_is_opened_are_logged() {
    for late in [false, true] {
        let mut world = world(605);
        cut_off(&mut world, &["c"], |item| matches!(item, InboxItem::Signatures { .. }));
        if late {
            // Nor does b's reveal arrive before the end.
            world.between_node_and_hub(|node, call| match call {
                Call::Post { step: RoundStep::Revealed { .. } } if node.as_str() == "b" => Fate::Lose,
                _ => Fate::Deliver,
            });
        }
        let asked = world.prepare(QUESTION, "1", 0).unwrap();
        world.submit(&asked).unwrap();
        assert_eq!(world.settle(&asked).unwrap().state, TaskState::Expired);
        world.honest_again();
        world.run_until_quiet().unwrap();
        let log = log_of(&mut world, asked.hash);
        for name in HOSPITALS {
            let prices = log.iter().filter(|line| **line == format!("{name} price")).count();
            assert_eq!(prices, 1, "{name}: {log:?}");
        }
        demand_promises(&world);
    }
}

/// The release is decided on as of the time in the task: a task dated outside the agreement ended in the hub's own
/// error, after everyone had paid.
#[test]
fn repro_a_task_with_a_wrong_date_is_refused_before_anyone_pays() {
    let mut world = world(606);
    let honest = world.prepare(QUESTION, "1", 0).unwrap();
    let task = honest.task.peek::<Task>().unwrap().claims().clone();
    for seconds in [-10 * 86_400, 301, -301] {
        let mut task = task.clone();
        task.asked_at = world.clock().plus_seconds(seconds);
        let asked = world.sign_as_asked(task).unwrap();
        assert!(
            matches!(world.submit(&asked), Err(SimError::Refused(refused)) if refused.code == "clock"),
            "{seconds}"
        );
    }
    // Near enough to the hub's clock, but before the agreement: refused by its clause.
    let mut config = config(606, 10);
    config.valid_s = 100;
    let mut world = World::new(config).unwrap();
    let mut task = world.prepare(QUESTION, "1", 0).unwrap().task.peek::<Task>().unwrap().claims().clone();
    task.asked_at = world.clock().plus_seconds(150);
    let asked = world.sign_as_asked(task).unwrap();
    let refused = world.submit(&asked);
    assert!(matches!(&refused, Err(SimError::Refused(refused)) if refused.clauses == ["heart-study/in-force"]));
}

/// A member could send shares in another member's name, and the other's own were refused then.
#[test]
fn repro_a_member_speaks_only_for_itself() {
    const SEED: u64 = 607;
    let mut world = world(SEED);
    world.between_node_and_hub(|node, call| {
        if let (Call::Post { step: RoundStep::Permitted { shares, .. } }, "c") = (call, node.as_str()) {
            let mut forged = shares.peek::<RoundShares>().unwrap().claims().clone();
            forged.from = Name::new("a").unwrap();
            forged.shares.iter_mut().for_each(|share| share.from = Name::new("a").unwrap());
            *shares = Envelope::sign(&forged, &keys::organisation(SEED, "c").message).unwrap();
        }
        Fate::Deliver
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    let [(node, refused)] = world.wire.refusals.as_slice() else { panic!("{:?}", world.wire.refusals) };
    assert_eq!((node.as_str(), refused.why.as_str()), ("c", "c cannot speak for a"));
}

/// A member that spoke of a task whose plan cannot be priced made the hub fail as if its own store were broken.
#[test]
fn repro_words_about_an_unpriceable_task_do_not_bring_the_hub_down() {
    let mut world = world(608);
    world.ask(QUESTION, "1").unwrap();
    let mut permits = world.wire.left.iter().filter_map(|(node, call)| match call {
        Call::Post { step: RoundStep::Permitted { entry, shares, .. } } if node.as_str() == "c" => {
            Some((entry, shares))
        }
        _ => None,
    });
    let (permit, shares) = permits.next_back().map(|(entry, shares)| (entry.clone(), shares.clone())).unwrap();
    let mut plan = world.prepare(QUESTION, "1", 0).unwrap().plan;
    plan.measures.clear();
    let asked = world.sign_task(plan, QUESTION).unwrap();
    assert!(matches!(world.submit(&asked), Err(SimError::Refused(_))));

    let mut entry = permit.peek::<Entry>().unwrap().claims().clone();
    let Fact::Permit { task, .. } = &mut entry.fact else { panic!("a permit says something else") };
    *task = asked.hash;
    let key = keys::organisation(608, "c").message;
    let entry = Envelope::sign(&entry, &key).unwrap();
    let answer =
        world.call_as_node("c", Call::Post { step: RoundStep::Permitted { approvals: Vec::new(), entry, shares } });
    assert!(matches!(answer, Err(SimError::Refused(_))), "{answer:?}");
    assert!(world.hub.is_up());
}

/// Several tasks under way at once: the pairwise keys only move forward, so the order must be that of the log.
#[test]
fn tasks_asked_at_once_are_all_answered() {
    let mut world = world(609);
    let asked: Vec<_> = (0..5).map(|draw| world.prepare(QUESTION, "1", draw).unwrap()).collect();
    for asked in &asked {
        world.submit(asked).unwrap();
    }
    for asked in &asked {
        let status = world.settle(asked).unwrap();
        assert_eq!(status.state, TaskState::Released, "{}", status.why);
        world.verify(asked, &status).unwrap();
    }
    demand_promises(&world);
}

fn world_with_a_poor_house(seed: u64) -> World {
    let mut config = config(seed, 10);
    config.hospitals[2].epsilon = String::from("1");
    World::new(config).unwrap()
}

/// A run that had revealed waited for a release for ever when too few others revealed and the round was void. Found by
/// `schedules`, seeds 58 and 107.
#[test]
fn repro_a_run_that_revealed_is_over_when_the_round_is_void() {
    let mut world = world(609);
    cut_off(&mut world, &["c"], |item| matches!(item, InboxItem::Signatures { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Expired);
    world.honest_again();
    world.run_until_quiet().unwrap();
    for name in HOSPITALS {
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Void), "{name}");
        assert_eq!(charge(&world, name, asked.hash), Some(Charge::Spent), "{name}");
    }
    demand_promises(&world);
}

/// A hub that died while it released an answer left the file of that release beside the log. The one that it made after
/// its start had another date: no entry named the first, and the audit failed. Found by `schedules`, seed 482.
#[test]
fn repro_a_hub_that_dies_at_a_release_leaves_no_file_that_nothing_names() {
    let mut world = world(610);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Revealed { .. } } if node.as_str() == "c" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    world.honest_again();
    // The last reveal is one commit, the release another.
    world.hub.disk.crash_at(2);
    world.run_until_quiet().unwrap();
    assert!(!world.hub.is_up());
    world.advance(1).unwrap_err();
    world.restart("hub").unwrap();
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Released);
    let report = cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
    assert_eq!(report.findings, []);
}
