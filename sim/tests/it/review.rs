//! What a hostile reading of the code found, one test each, so that it stays repaired.

use cohortium_dp::{AccountEntry, EntryKind, RunState as Charge};
use cohortium_messages::{
    Call, Document, Entry, Envelope, Fact, Hash, InboxItem, MaskedHeader, Name, Receipt, Reply, RoundShares, RoundStep,
    TaskState,
};
use cohortium_node::RunState;
use cohortium_sim::{Config, Fate, STUDY, Seen, SimError, World, keys, people};

use crate::common::{HOSPITALS, QUESTION, account_kinds, charge, cut_off, demand_promises, log_of, run_state, world};

/// Whoever was invited to the hub could read every study, every task and every stored answer.
#[test]
fn repro_a_stranger_to_a_study_sees_nothing_of_it() {
    let mut world = world(701);
    let answered = world.ask(QUESTION, "1").unwrap();
    world.join_researcher("mallory").unwrap();
    let plan = answered.priced.plan_hash();
    let stored = Call::Released { plan, purpose: "HMB".parse().unwrap(), study: Name::new(STUDY).unwrap() };
    let status = Call::Status { known: 0, task: answered.task, wait_ms: 0 };

    assert!(
        matches!(world.call_as("rosa", Call::Studies { after: None }), Ok(Reply::Studies(studies)) if studies.len() == 1)
    );
    assert!(matches!(world.call_as("rosa", stored.clone()), Ok(Reply::Released(Some(_)))));
    assert!(
        matches!(world.call_as("mallory", Call::Studies { after: None }), Ok(Reply::Studies(studies)) if studies.is_empty())
    );
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

/// Says the same document with an edit, under the key of a dishonest member.
fn forge<T: Document + Clone>(seed: u64, member: &str, envelope: &Envelope, edit: impl FnOnce(&mut T)) -> Envelope {
    let mut document = envelope.peek::<T>().unwrap().claims().clone();
    edit(&mut document);
    Envelope::sign(&document, &keys::organisation(seed, member).message).unwrap()
}

/// The log is what an auditor accepts, and the hub works.
fn demand_sound(world: &mut World) {
    assert!(world.hub.is_up());
    let audited = cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope());
    assert!(audited.is_ok(), "{:?}", audited.err().map(|error| error.to_string()));
    world.honest_again();
    world.run_until_quiet().unwrap();
    world.ask(QUESTION, "1").unwrap();
}

/// Signatures that nobody asked for stood in an envelope beside the one that was checked. The hub stored it all, could not
/// log it (a leaf has 65,535 bytes), and ended for good at the deadline.
#[test]
fn repro_junk_signatures_do_not_stop_the_hub() {
    const SEED: u64 = 711;
    for kind in ["permit", "price", "header", "receipt", "shares", "set", "reveal", "refusal"] {
        let mut world = world(SEED);
        world.between_node_and_hub(move |node, call| {
            let Call::Post { step } = call else { return Fate::Deliver };
            if node.as_str() != "c" {
                return Fate::Deliver;
            }
            if let ("refusal", RoundStep::Permitted { entry, .. }) = (kind, &*step) {
                let entry = forge::<Entry>(SEED, "c", entry, |entry| {
                    let (clauses, task) = (Vec::new(), entry.fact.task().unwrap());
                    entry.fact = Fact::Refusal { clauses, task, why: String::from("no") };
                });
                *step = RoundStep::Refused { approvals: Vec::new(), entry };
            }
            let stuffed = match (kind, step) {
                ("permit", RoundStep::Permitted { entry, .. }) | ("price", RoundStep::Masked { entry, .. }) => entry,
                ("refusal", RoundStep::Refused { entry, .. }) => entry,
                ("header", RoundStep::Masked { header, .. }) => header,
                ("receipt", RoundStep::Masked { receipt, .. }) => receipt,
                ("shares", RoundStep::Permitted { shares, .. }) => shares,
                ("set", RoundStep::Survivors { set }) => set,
                ("reveal", RoundStep::Revealed { reveal }) => reveal,
                _ => return Fate::Deliver,
            };
            for other in 0..100 {
                stuffed.also_sign(&keys::researcher(other, "junk").key).unwrap();
            }
            Fate::Deliver
        });
        let asked = world.prepare(QUESTION, "1", 0).unwrap();
        world.submit(&asked).unwrap();
        let status = world.settle(&asked).unwrap();
        assert_eq!(status.state, TaskState::Expired, "{kind}");
        let refused = |(node, refused): &(Name, cohortium_messages::Refused)| {
            node.as_str() == "c" && refused.code == "malformed" && refused.why.contains("101 signatures")
        };
        assert!(world.wire.refusals.iter().any(refused), "{kind}: {:?}", world.wire.refusals);
        demand_sound(&mut world);
    }
}

/// Vectors were kept by their hash alone: a member that announced one vector in two rounds had it erased in the second
/// when the first was over, and at the deadline the hub ended for good.
#[test]
fn repro_one_vector_announced_in_two_rounds() {
    const SEED: u64 = 712;
    let mut world = world(SEED);
    let mut first: Option<Hash> = None;
    world.between_node_and_hub(move |node, call| {
        let Call::Post { step: RoundStep::Masked { header, receipt, .. } } = call else { return Fate::Deliver };
        if node.as_str() == "c" {
            let sha256 = *first.get_or_insert(header.peek::<MaskedHeader>().unwrap().claims().sha256);
            *header = forge::<MaskedHeader>(SEED, "c", header, |header| header.sha256 = sha256);
            *receipt = forge::<Receipt>(SEED, "c", receipt, |receipt| receipt.masked = sha256);
        }
        Fate::Deliver
    });
    let asked: Vec<_> = (0..2).map(|draw| world.prepare(QUESTION, "1", draw).unwrap()).collect();
    asked.iter().for_each(|asked| drop(world.submit(asked).unwrap()));
    let ends: Vec<_> = asked.iter().map(|asked| world.settle(asked).unwrap()).collect();
    assert!(ends.iter().any(|end| end.state == TaskState::Released), "{ends:?}");
    // The bytes that were announced for the other round never came: c is named, though it had announced them.
    let expired = ends.iter().find(|end| end.state == TaskState::Expired).unwrap();
    assert!(expired.why.starts_with("no answer in time from c ("), "{}", expired.why);
    demand_sound(&mut world);
}

/// What an entry says about the account.
fn accounts(entry: &mut Entry) -> Vec<&mut AccountEntry> {
    match &mut entry.fact {
        Fact::Permit { account, .. } => vec![account],
        Fact::Price { account, .. } => account.iter_mut().collect(),
        other => panic!("{} has no account entry", other.kind()),
    }
}

/// The hub logged what members said without the checks that an audit makes: one lie, and the audit of the whole log failed
/// for ever.
#[test]
fn repro_what_an_audit_forbids_is_not_logged() {
    const SEED: u64 = 713;
    enum Lie {
        Permit(fn(&mut Entry)),
        Price(fn(&mut Entry)),
        Receipt(fn(&mut Receipt)),
    }
    let refund = |entry: &mut Entry| {
        let Fact::Price { account, .. } = &mut entry.fact else { panic!("a price says something else") };
        account.remove(0);
        account[0].kind = EntryKind::Refund;
    };
    let nothing = |entry: &mut Entry| {
        let Fact::Price { account, .. } = &mut entry.fact else { panic!("a price says something else") };
        account.clear();
    };
    let lies = [
        ("permit_out_of_force", Lie::Permit(|e| e.time = e.time.plus_seconds(-100 * 86_400))),
        ("permit_that_reserves_nothing", Lie::Permit(|e| accounts(e)[0].kind = EntryKind::Refund)),
        ("permit_at_another_price", Lie::Permit(|e| accounts(e)[0].price.curve = cohortium_dp::Curve::default())),
        ("price_of_nothing", Lie::Price(nothing)),
        ("price_given_back_with_a_vector", Lie::Price(refund)),
        ("price_of_another_size", Lie::Price(|e| accounts(e)[1].price.curve = cohortium_dp::Curve::default())),
        ("price_for_another", Lie::Price(|e| accounts(e)[1].researcher.push('x'))),
        ("price_with_another_number", Lie::Price(|e| accounts(e)[1].sequence += 1)),
        ("price_before_its_reservation", Lie::Price(|e| accounts(e)[0].sequence = 1)),
        ("receipt_of_another_head", Lie::Receipt(|r| r.account_head = Hash::of(b"another"))),
        ("receipt_of_another_number", Lie::Receipt(|r| r.account_sequence += 1)),
        ("receipt_of_another_agreement", Lie::Receipt(|r| r.agreement = Hash::of(b"another"))),
        ("receipt_of_another_round", Lie::Receipt(|r| r.context = Hash::of(b"another"))),
        ("receipt_of_another_dataset", Lie::Receipt(|r| r.dataset = Name::new("another").unwrap())),
        ("receipt_of_another_vector", Lie::Receipt(|r| r.masked = Hash::of(b"another"))),
        ("receipt_of_another_plan", Lie::Receipt(|r| r.plan = Hash::of(b"another"))),
        ("receipt_of_other_rows", Lie::Receipt(|r| r.snapshot = Hash::of(b"another"))),
        ("receipt_of_another_task", Lie::Receipt(|r| r.task = Hash::of(b"another"))),
    ];
    let mut base = world(SEED);
    base.ask(QUESTION, "1").unwrap(); // so that the account has numbers before those of this story
    for (name, lie) in lies {
        let mut world = base.fork().unwrap();
        world.between_node_and_hub(move |node, call| {
            let Call::Post { step } = call else { return Fate::Deliver };
            match (&lie, step) {
                _ if node.as_str() != "c" => {}
                (Lie::Permit(lie), RoundStep::Permitted { entry, .. })
                | (Lie::Price(lie), RoundStep::Masked { entry, .. }) => *entry = forge::<Entry>(SEED, "c", entry, lie),
                (Lie::Receipt(lie), RoundStep::Masked { receipt, .. }) => {
                    *receipt = forge::<Receipt>(SEED, "c", receipt, lie);
                }
                _ => {}
            }
            Fate::Deliver
        });
        let asked = world.prepare(QUESTION, "2", 0).unwrap();
        world.submit(&asked).unwrap();
        // What is on the task's terms and not permitted ends the task; the rest is refused, and waited for in vain.
        let is_on_terms = name == "permit_out_of_force";
        let state = if is_on_terms { TaskState::Failed } else { TaskState::Expired };
        assert_eq!(world.settle(&asked).unwrap().state, state, "{name}");
        let refused = world.wire.refusals.iter().any(|(node, no)| node.as_str() == "c" && no.code == "malformed");
        assert_eq!(refused, !is_on_terms, "{name}: {:?}", world.wire.refusals);
        demand_sound(&mut world);
    }
}

/// A member could log the price of a task that it had never permitted.
#[test]
fn repro_a_price_without_a_permit_is_not_logged() {
    const SEED: u64 = 714;
    let mut world = world(SEED);
    world.between_node_and_hub(|node, call| match call {
        Call::Post { step: RoundStep::Permitted { .. } } if node.as_str() == "c" => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Expired);
    let permit = world.wire.left.iter().find_map(|(node, call)| match call {
        Call::Post { step: RoundStep::Permitted { entry, .. } } if node.as_str() == "c" => Some(entry.clone()),
        _ => None,
    });
    let price = forge::<Entry>(SEED, "c", &permit.unwrap(), |entry| {
        let mut refund = accounts(entry)[0].clone();
        (refund.kind, refund.previous) = (EntryKind::Refund, refund.hash_hex().unwrap());
        refund.sequence += 1;
        entry.fact = Fact::Price { account: vec![refund], task: asked.hash };
    });
    let answer = world.call_as_node("c", Call::Post { step: RoundStep::Settled { entry: price } });
    assert!(matches!(&answer, Err(SimError::Refused(no)) if no.why == "c has not permitted this task"), "{answer:?}");
    assert!(!log_of(&mut world, asked.hash).contains(&String::from("c price")));
    // What it has truly done belongs in the log, however late it comes.
    world.honest_again();
    world.run_until_quiet().unwrap();
    let log = log_of(&mut world, asked.hash);
    assert!(log.ends_with(&[String::from("c permit"), String::from("c price")]), "{log:?}");
    demand_sound(&mut world);
}

/// Deadlines went on while the hub was down: its first look after a pause ended every round under way.
#[test]
fn repro_a_pause_of_the_hub_ends_no_round() {
    let mut world = world(715);
    cut_off(&mut world, &["c"], |item| matches!(item, InboxItem::Shares { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    world.hub.disk.crash_at(1);
    assert!(world.advance(3600).is_err() && !world.hub.is_up());
    world.restart("hub").unwrap();
    world.advance(50).unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Running);
    world.honest_again();
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Released);
    demand_promises(&world);
}

/// Cosignatures and permits shared one deadline: a slow witness left the nodes no time to permit.
#[test]
fn repro_permits_have_their_own_time() {
    let mut world = world(716);
    cut_off(&mut world, &["b"], |item| matches!(item, InboxItem::Checkpoint { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    world.advance(50).unwrap();
    cut_off(&mut world, &["c"], |item| matches!(item, InboxItem::Task { .. }));
    world.run_until_quiet().unwrap();
    world.advance(50).unwrap();
    assert_eq!(world.status(asked.hash).unwrap().awaited, [Name::new("c").unwrap()]);
    world.honest_again();
    assert_eq!(world.settle(&asked).unwrap().state, TaskState::Released);
}

/// Permits and the end of a round whose members hold different keys were two commits: a crash in between lost the reason.
#[test]
fn repro_a_crash_does_not_lose_who_holds_different_keys() {
    const SEED: u64 = 717;
    let base = world(SEED);
    for commit in 1..5 {
        let mut world = base.fork().unwrap();
        world.between_node_and_hub(|node, call| match call {
            Call::Post { step: RoundStep::Permitted { .. } } if node.as_str() == "c" => Fate::Lose,
            _ => Fate::Deliver,
        });
        let asked = world.prepare(QUESTION, "1", 0).unwrap();
        world.submit(&asked).unwrap();
        world.run_until_quiet().unwrap();
        world.between_node_and_hub(|node, call| {
            if let (Call::Post { step: RoundStep::Permitted { shares, .. } }, "c") = (call, node.as_str()) {
                *shares = forge::<RoundShares>(SEED, "c", shares, |shares| {
                    shares.mask_key_commitments[0] = Hash::of(b"another key");
                });
            }
            Fate::Deliver
        });
        world.hub.disk.crash_at(commit);
        world.run_until_quiet().unwrap();
        world.restart("hub").unwrap();
        let status = world.settle(&asked).unwrap();
        assert_eq!(status.state, TaskState::Failed, "a crash at commit {commit}: {}", status.why);
        assert!(status.why.contains("a and c hold different keys"), "a crash at commit {commit}: {}", status.why);
        demand_sound(&mut world);
    }
}

/// A hub that was started again between two pieces of a vector had lost the first, and the node took that for its last
/// word. Now pieces are durable one by one.
#[test]
fn repro_a_hub_started_again_between_two_pieces_has_the_first() {
    const SEED: u64 = 718;
    println!("seed {SEED}");
    let domain: Vec<String> = (0..600).map(|code| code.to_string()).collect();
    let schema = format!(
        "max_groups_per_person = 1\nmax_rows_per_person = 1\n[[columns]]\nname = \"code\"\ntype = \"integer\"\n\
         roles = [\"group\"]\ndomain = [{}]\n",
        domain.join(", ")
    );
    let hospitals = HOSPITALS.map(|name| (name.to_owned(), String::from("code\n1\n2\n")));
    let mut world = World::new(Config::new(SEED, hospitals.to_vec(), &schema)).unwrap();
    let asked = world.prepare("SELECT code, COUNT(*) AS n FROM heart GROUP BY code", "2", 0).unwrap();
    world.wire.hub_restarts_after = Some(1);
    world.submit(&asked).unwrap();
    let status = world.settle(&asked).unwrap();
    assert_eq!((status.state, world.wire.hub_restarts_after), (TaskState::Released, None), "{}", status.why);
    // 600 cells of 8 bytes are three pieces for each of three members, and none was sent twice.
    let pieces = world.wire.seen.iter().filter(|seen| matches!(seen, Seen::Vector { .. })).count();
    assert_eq!(pieces, 3 * 3);
    demand_promises(&world);
}
