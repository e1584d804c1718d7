//! What a step costs must not grow with what happened before it, and what waits must not grow with how long it waits.
//! Nothing here measures time: records are counted.

use cohortium_messages::{Author, Call, Entry, Envelope, Fact, Hash, Reply, RoundStep, TaskState, canonical_bytes};
use cohortium_sim::{Config, Fate, SimError, World, keys, people};

use crate::common::{QUESTION, config, demand_promises, world};

/// A world of this many hospitals.
fn world_of(seed: u64, members: usize) -> World {
    println!("seed {seed}, {members} members");
    let names = (0..members).map(|number| format!("h{number:02}"));
    let hospitals = names.map(|name| (name.clone(), people::csv(&people::patients(seed, &name, 20))));
    World::new(Config::new(seed, hospitals.collect(), people::SCHEMA)).unwrap()
}

/// The hub made the state of a round anew from all its messages for each message that came, and read all vectors with
/// it: with n members some 4 n² messages and n² vectors. Now every message is read again a fixed number of times, most
/// of them when the sum is opened.
#[test]
fn repro_a_message_of_a_round_does_not_read_those_before_it() {
    let counts = |members: usize| {
        let mut world = world_of(911, members);
        world.ask(QUESTION, "1").unwrap();
        demand_promises(&world);
        (world.hub.disk.reads("round_messages"), world.hub.disk.reads("vectors"))
    };
    for members in [3, 6, 12] {
        let (messages, vectors) = counts(members);
        let members = members as u64;
        // To log all permits when the last one comes: n; a permit beside its price: n; a
        // header beside its bytes: n; all signatures, when the last one comes: n - 1; to open the sum: 4 n; for the
        // release, prices and signatures: 2 n.
        assert_eq!(messages, 10 * members - 1, "{members} members");
        // To open the sum, and to find what is to be erased.
        assert_eq!(vectors, 2 * members, "{members} members");
    }
}

/// A hub that was started again makes the state of the round once.
#[test]
fn a_hub_started_again_reads_the_messages_of_a_round_once() {
    let mut world = world(912);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Survivors { .. } } if node.as_str() == "c" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    world.restart("hub").unwrap();
    world.honest_again();
    let before = world.hub.disk.reads("round_messages");
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    // 3 shares, 3 vectors, 2 sets; all sets for those who signed: 2; to open: 12; for the release: 6.
    assert_eq!(world.hub.disk.reads("round_messages") - before, 8 + 2 + 12 + 6);
}

/// The entry about a price was found by reading the whole account.
#[test]
fn repro_a_price_does_not_read_the_whole_account() {
    let mut world = world(913);
    let mut reads = Vec::new();
    for draw in 0..6 {
        let before = world.machine("a").unwrap().disk.reads("account");
        let asked = world.prepare(QUESTION, "1", draw).unwrap();
        world.ask_prepared(&asked).unwrap();
        reads.push(world.machine("a").unwrap().disk.reads("account") - before);
    }
    assert_eq!(reads, [1; 6]);
}

/// Every head of the log, and the end of every task, waited in the inbox of a node that was gone for good.
#[test]
fn repro_the_inbox_of_a_node_that_is_gone_does_not_grow() {
    let mut world = world(914);
    world.machine_mut("c").unwrap().online = false;
    let waiting = |world: &World| {
        let inbox = world.hub.disk.table("inbox").unwrap();
        inbox.iter().filter(|(key, _)| key.starts_with("c/")).count()
    };
    let mut most = 0;
    for draw in 0..30 {
        let asked = world.prepare(QUESTION, "1", draw).unwrap();
        world.submit(&asked).unwrap();
        let status = world.settle(&asked).unwrap();
        assert_eq!(status.state, TaskState::Expired);
        assert!(status.why.starts_with("no answer in time from c ("), "{}", status.why);
        most = most.max(waiting(&world));
    }
    assert_eq!((most, waiting(&world)), (8, 8));
    // It comes back: what waits leads it to the newest head, though the log grows further while it is being shown.
    world.machine_mut("c").unwrap().online = true;
    let answered = world.ask(QUESTION, "1").unwrap();
    assert_eq!(answered.release.survivors.len(), 3);
    assert_eq!((world.wire.reports.len(), waiting(&world)), (0, 0));
    demand_promises(&world);
}

/// What a witness was shown it may have handled, though it has not said so yet: the next head gets a number of its own.
#[test]
fn a_head_that_was_shown_is_not_replaced() {
    let mut world = world(915);
    // Far more heads than may wait, all of them shown.
    for draw in 0..4 {
        let asked = world.prepare(QUESTION, "1", draw).unwrap();
        world.ask_prepared(&asked).unwrap();
    }
    // Member c cosigns the head of one question, and is cut off before it asks for more. Then comes another head.
    let asked = [4, 5].map(|draw| world.prepare(QUESTION, "1", draw).unwrap());
    world.submit(&asked[0]).unwrap();
    assert!(world.turn("c").unwrap());
    world.machine_mut("c").unwrap().online = false;
    world.submit(&asked[1]).unwrap();
    world.run_until_quiet().unwrap();
    world.machine_mut("c").unwrap().online = true;
    for asked in &asked {
        assert_eq!(world.settle(asked).unwrap().state, TaskState::Released);
    }
    assert!(world.wire.reports.is_empty(), "{:?}", world.wire.reports);
}

/// Whoever signed first could fill the envelope of an agreement with junk: it has room for 128 signatures, and the other
/// custodians' were left out. The study could never begin; and when the hub kept the custodians' signatures only, the body
/// beside its log was still what had come, and an auditor who put all bodies together had no room for the others'.
#[test]
fn repro_a_body_full_of_junk_hides_no_agreement() {
    const SEED: u64 = 916;
    let mut world = World::joined(config(SEED, 10)).unwrap();
    let (agreement, key) = (world.agreement().clone(), &world.machine("a").unwrap().secrets.agreement);
    let mut envelope = Envelope::sign(&*agreement, key).unwrap();
    for junk in 0..60 {
        envelope.also_sign(&keys::researcher(junk, "junk").key).unwrap();
    }
    // Others carry the name of a custodian's key: copies of that key's id over another's signature.
    let mut value = serde_json::to_value(&envelope).unwrap();
    let custodian = world.machine("b").unwrap().secrets.agreement.public().key_id();
    let signatures = value["signatures"].as_array_mut().unwrap();
    for place in 0..60 {
        let mut copy = signatures[place].clone();
        copy["keyid"] = serde_json::Value::String(custodian.clone());
        signatures.push(copy);
    }
    let envelope: Envelope = serde_json::from_value(value).unwrap();
    assert_eq!(envelope.signature_count(), 121);
    let entry = Entry {
        agreement: agreement.hash(),
        author: Author::Custodian(world.machine("a").unwrap().name.clone()),
        fact: Fact::Agreement { body: Hash::of(&canonical_bytes(&envelope).unwrap()), revision: agreement.revision },
        study: agreement.study.clone(),
        time: world.clock(),
    };
    let entry = Envelope::sign(&entry, key).unwrap();
    let refused = world.call_as_node("a", Call::Sign { agreement: envelope, entry });
    assert!(matches!(refused, Err(SimError::Refused(refused)) if refused.code == "malformed"));
    world.sign_all().unwrap();
    let Reply::Studies(studies) = world.call_as_node("b", Call::Studies { after: None }).unwrap() else {
        panic!("another reply")
    };
    assert!(studies[0].complete);
    assert_eq!(studies[0].agreement.signature_count(), 3);
    world.run_until_quiet().unwrap();
    world.ask(QUESTION, "1").unwrap();
    cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
}

/// A list of tasks has a limit, and shows nobody what it has no part in.
#[test]
fn tasks_are_listed_to_those_who_have_a_part() {
    let mut world = world(917);
    let asked: Vec<Hash> = (0..3)
        .map(|draw| {
            let asked = world.prepare(QUESTION, "1", draw).unwrap();
            world.ask_prepared(&asked).unwrap().task
        })
        .collect();
    world.join_researcher("mallory").unwrap();
    let list = |reply: Result<Reply, SimError>| match reply.unwrap() {
        Reply::Tasks(tasks) => tasks.into_iter().map(|task| task.task).collect::<Vec<_>>(),
        other => panic!("{other:?}"),
    };
    let newest_first = [asked[2], asked[1], asked[0]];
    assert_eq!(list(world.call_as("rosa", Call::Tasks { last: 10 })), newest_first);
    assert_eq!(list(world.call_as("rosa", Call::Tasks { last: 2 })), newest_first[..2]);
    assert_eq!(list(world.call_as_node("b", Call::Tasks { last: u32::MAX })), newest_first);
    assert_eq!(list(world.call_as("mallory", Call::Tasks { last: 10 })), []);
}
