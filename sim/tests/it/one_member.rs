//! What one invited member, or one researcher, can do to everybody else at a hub: make it lie still, grow without end, or
//! forget what matters. Nothing, says each test by its name.

use std::collections::BTreeSet;

use cohortium_ledger::{KeyKind, SignerKey, VerifierKey};
use cohortium_messages::{
    Agreement, Author, Call, Directory, Entry, Envelope, Fact, Hash, Name, Offer, Plan, PublicKey, Refused, Reply,
    RevocationSubject, RosterEntry, StudyRecord, canonical_bytes,
};
use cohortium_node::{DeskItem, Heard};
use cohortium_policy::watch::Rules;
use cohortium_sim::{DATASET, SimError, World, keys};
use data_encoding::BASE64;

use crate::common::{HOSPITALS, QUESTION, config, config_with_people, demand_promises, log_entries, world};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The code of a refusal.
fn code<T: std::fmt::Debug>(answer: Result<T, SimError>) -> String {
    match answer {
        Err(SimError::Refused(Refused { code, .. })) => code,
        other => panic!("no refusal: {other:?}"),
    }
}

/// The entry of a member of the world.
fn entry_of(world: &World, member: &str) -> RosterEntry {
    keys::organisation(world.seed(), member).entry(&name(member))
}

/// Nobody's round waits, and the log is sound.
fn demand_all_goes_on(world: &mut World) {
    world.run_until_quiet().unwrap();
    world.ask(QUESTION, "1").unwrap();
    world.run_until_quiet().unwrap();
    assert!(world.hub.is_up());
    demand_promises(world);
    cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
}

/// A member signed the agreement of a study with an organisation that it had made up. That one became a witness of the
/// log, of whom the hub had no keys: no cosignature was taken any more, of nobody.
#[test]
fn repro_a_study_with_an_invented_party_stops_nobody() {
    let mut world = world(2101);
    let ghost = keys::organisation(2101, "ghost");
    let c = keys::organisation(2101, "c");
    let entries = [entry_of(&world, "c"), ghost.entry(&name("ghost"))];
    let agreement = world.other_study("ghost-study", &entries).unwrap();
    let call = world.signature(&agreement, (&name("c"), &c.agreement), &[&ghost.agreement]).unwrap();
    assert_eq!(code(world.call_as_node("c", call)), "unknown");
    // Nor a member's name with keys that the signer made.
    let entries = [entry_of(&world, "c"), ghost.entry(&name("b"))];
    let agreement = world.other_study("false-study", &entries).unwrap();
    let call = world.signature(&agreement, (&name("c"), &c.agreement), &[&ghost.agreement]).unwrap();
    assert_eq!(code(world.call_as_node("c", call)), "denied");
    demand_all_goes_on(&mut world);
}

/// A newcomer brought a witness key of another member as its own. In the first study with it the lines under the newest
/// head did not go together any more, which the hub took for trouble of its own: every node that cosigned heard so, tried
/// again, and sent nothing else.
#[test]
fn repro_a_copied_witness_key_is_not_taken() {
    let mut world = world(2102);
    let (own, honest) = (keys::organisation(2102, "mallory"), entry_of(&world, "a"));
    let mallory = own.entry(&name("mallory"));
    let copies = [
        RosterEntry { witness_key: honest.witness_key, ..mallory.clone() },
        RosterEntry { witness_ml_dsa_key: honest.witness_ml_dsa_key.clone(), ..mallory.clone() },
        RosterEntry { log_key: honest.witness_key, ..mallory.clone() },
        RosterEntry { kem_key: honest.kem_key.clone(), ..mallory.clone() },
        RosterEntry { message_key: world.hub.entry.log_key, ..mallory.clone() },
        RosterEntry { message_key: world.researcher_key().public(), ..mallory.clone() },
        RosterEntry { message_key: mallory.log_key, ..mallory.clone() },
        RosterEntry { organisation: name("hub"), ..mallory.clone() },
    ];
    for copy in &copies {
        assert_eq!(code(world.join_organisation(copy, &own.identity)), "denied");
    }
    world.join_organisation(&mallory, &own.identity).unwrap();
    // An agreement in which a key stands for two is none.
    let twice = [honest, copies[1].clone()];
    assert!(cohortium_messages::Document::check(&world.other_study("copied-study", &twice).unwrap()).is_err());
    let agreement = world.other_study("honest-study", &[entry_of(&world, "b"), mallory]).unwrap();
    let b = keys::organisation(2102, "b");
    let call = world.signature(&agreement, (&name("b"), &b.agreement), &[&own.agreement]).unwrap();
    world.call_as_node("b", call).unwrap();
    demand_all_goes_on(&mut world);
}

/// A newcomer had looked among some 2^16 keys for two whose ids in notes are the same. Readers that take a line for that of
/// the first key which claims it then refused every head with its lines.
#[test]
fn repro_two_witness_keys_with_one_id_are_not_taken() {
    let mut world = world(2111);
    let own = keys::organisation(2111, "mallory");
    let (mut seed, mut second) = ([0; 32], [0; 1312]);
    seed[24..].copy_from_slice(&93_045u64.to_be_bytes());
    second[1304..].copy_from_slice(&43_642u64.to_be_bytes());
    let first = SignerKey::from_seed("mallory", KeyKind::Witness, &seed).unwrap().verifier().clone();
    let second_id = VerifierKey::new("mallory", KeyKind::WitnessMlDsa44, &second).unwrap().id();
    assert_eq!(first.id(), second_id);
    let mallory = RosterEntry {
        witness_key: PublicKey::from_bytes(first.public_key().try_into().unwrap()).unwrap(),
        witness_ml_dsa_key: BASE64.encode(&second).try_into().unwrap(),
        ..own.entry(&name("mallory"))
    };
    assert_eq!(code(world.join_organisation(&mallory, &own.identity)), "denied");
    world.join_organisation(&own.entry(&name("mallory")), &own.identity).unwrap();
}

/// All callers shared one memory of nonces: a hundred thousand cheap calls by any of them, and everybody heard `limit`,
/// which nodes took for the last word on what they had to say. Now who calls too much waits, and it alone; and a call that
/// must wait is taken later in the same bytes.
#[test]
fn repro_a_full_hub_loses_no_revocation() {
    let mut world = world(2103);
    world.join_researcher("mallory").unwrap();
    let mut calls = 0;
    let full = loop {
        match world.call_as("mallory", Call::Tasks { last: 1 }) {
            Ok(_) => calls += 1,
            full => break full,
        }
    };
    assert_eq!((code(full), calls), (String::from("later"), 10_000));
    // The house knows who it was, and her calls have pushed nobody else's out.
    let known = world.hub.access(20_000).unwrap();
    assert!(known.iter().any(|call| call.known && call.outcome == "later"), "{:?}", known.first());
    assert!(known.iter().any(|call| call.known && call.who.name.as_str() == "a"));
    assert!(known.iter().filter(|call| call.who.name.as_str() == "mallory").count() <= 5000 + 256);
    let subject = RevocationSubject::Agreement;
    let fact = Fact::Revocation { subject, why: String::from("we have found a mistake") };
    let key = keys::organisation(2103, "a").agreement;
    let entry = world.signed(Author::Custodian(name("a")), fact, &key).unwrap();
    world.call_as_node("a", Call::Log { body: None, entry: entry.clone() }).unwrap();
    assert!(world.index_of(&entry).is_ok());
    // Ten minutes later there is room again.
    world.advance(601).unwrap();
    world.call_as("mallory", Call::Tasks { last: 1 }).unwrap();
}

/// A node says that it has noticed something: one entry of the log.
fn alert(world: &World, member: &str, number: u32, froze: bool) -> Call {
    let fact = Fact::Alert { froze, rule: String::from("first-pair"), task: None, why: number.to_string() };
    let key = keys::organisation(world.seed(), member).message;
    Call::Log { body: None, entry: world.signed(Author::Node(name(member)), fact, &key).unwrap() }
}

fn raise(world: &mut World, member: &str, number: u32, froze: bool) -> Result<Reply, SimError> {
    let call = alert(world, member, number, froze);
    world.call_as_node(member, call)
}

/// A member that cosigned nothing left a record for each head, and for each of the others' lines on it, until it came
/// back: then all were erased at once, which after some thousand heads was more than a batch may hold, and the node whose
/// cosignature completed the head heard of trouble for ever.
#[test]
fn repro_a_witness_that_returns_late_blocks_nobody() {
    let mut world = world(2104);
    world.machine_mut("c").unwrap().online = false;
    let waiting = |world: &World| {
        let count = |table| world.hub.disk.table(table).unwrap().len();
        (count("checkpoints"), count("cosignatures"))
    };
    for number in 0..300 {
        raise(&mut world, "a", number, false).unwrap();
        if number == 150 {
            world.run_until_quiet().unwrap();
        }
    }
    let (heads, lines) = waiting(&world);
    assert!(heads == 256 && lines <= 2 * 256, "{heads} heads, {lines} lines");
    world.machine_mut("c").unwrap().online = true;
    demand_all_goes_on(&mut world);
    let (heads, _) = waiting(&world);
    assert!(heads < 256, "{heads} heads");
}

/// The whole directory, page by page, and how many pages it has.
fn directory(world: &mut World) -> (Directory, usize) {
    let (mut all, mut pages) = (Directory::default(), 0);
    loop {
        let call = Call::Directory { after: all.next.take() };
        let Reply::Directory(page) = world.call_as_node("a", call).unwrap() else { panic!("another reply") };
        all.offers.extend(page.offers);
        all.organisations.extend(page.organisations);
        all.researchers.extend(page.researchers);
        all.staff.extend(page.staff);
        all.next = page.next;
        pages += 1;
        if all.next.is_none() {
            return (all, pages);
        }
    }
}

/// All that a member hears of studies.
fn studies(world: &mut World, member: &str) -> Vec<StudyRecord> {
    let mut all: Vec<StudyRecord> = Vec::new();
    loop {
        let after = all.last().map(|record| record.study.clone());
        match world.call_as_node(member, Call::Studies { after }).unwrap() {
            Reply::Studies(page) if page.is_empty() => return all,
            Reply::Studies(page) => all.extend(page),
            other => panic!("{other:?}"),
        }
    }
}

/// A first agreement between two members that one of them proposes.
fn propose(world: &mut World, study: &str, (proposer, other): (&str, &str)) -> Result<Reply, SimError> {
    let entries = [entry_of(world, proposer), entry_of(world, other)];
    let agreement = world.other_study(study, &entries).unwrap();
    let key = keys::organisation(world.seed(), proposer).agreement;
    let call = world.signature(&agreement, (&name(proposer), &key), &[]).unwrap();
    world.call_as_node(proposer, call)
}

/// A member could offer as much as it liked, and propose agreements to whom it liked, as long as they may be: then the
/// directory, or the list of another's studies, was longer than any answer. Names that it took stayed taken.
#[test]
fn repro_offers_and_drafts_of_one_member_are_bounded() {
    let mut world = world(2105);
    let schema = world.agreement().datasets[0].schema.clone();
    let message = keys::organisation(2105, "c").message;
    let offered = |world: &mut World| {
        let (all, pages) = directory(world);
        assert_eq!((all.organisations.len(), all.researchers.len(), pages), (3, 1, 1));
        let offers = all.offers.into_iter().map(|offer| (offer.peek::<Offer>().unwrap().claims().clone(), offer));
        let of_c: Vec<_> = offers.filter(|(claims, _)| claims.organisation == name("c")).collect();
        of_c
    };
    let first = offered(&mut world).pop().unwrap();
    assert_eq!(first.0.dataset.as_str(), DATASET);
    for number in 0..70 {
        let (dataset, organisation) = (name(&format!("d{number}")), name("c"));
        let offer = Offer { dataset, organisation, schema: schema.clone(), snapshot: Hash::of(b"rows") };
        let offer = Envelope::sign(&offer, &message).unwrap();
        world.call_as_node("c", Call::Offer { offer }).unwrap();
    }
    // The newest stay, and what is offered again is the newest.
    world.call_as_node("c", Call::Offer { offer: first.1 }).unwrap();
    let newest: BTreeSet<Name> = offered(&mut world).into_iter().map(|(claims, _)| claims.dataset).collect();
    let expected = (7..70).map(|number| name(&format!("d{number}"))).chain([name(DATASET)]);
    assert_eq!(newest, expected.collect());

    let before = studies(&mut world, "b").len();
    for number in 0..4 {
        propose(&mut world, &format!("wanted-{number}"), ("c", "b")).unwrap();
    }
    assert_eq!(code(propose(&mut world, "wanted-4", ("c", "b"))), "limit");
    assert_eq!(studies(&mut world, "b").len(), before + 4);
    // Who would have used such a name waits for a month. Then the text that was never signed is gone for good.
    assert_eq!(code(propose(&mut world, "wanted-0", ("a", "b"))), "conflict");
    world.advance(31 * 86_400).unwrap();
    assert_eq!(studies(&mut world, "b").len(), before);
    assert_eq!(code(propose(&mut world, "wanted-0", ("c", "b"))), "denied");
    propose(&mut world, "wanted-0", ("a", "b")).unwrap();
    assert_eq!(studies(&mut world, "b").len(), before + 1);
    demand_all_goes_on(&mut world);
}

/// Refused tasks cost nothing and were not counted: somebody could fill the log with them, and pushed what had been
/// answered out of the tasks that the rules look back at.
#[test]
fn repro_refused_tasks_are_bounded_and_do_not_empty_the_window() {
    let mut config = config(2106, 30);
    config.watch = Some(Rules::default());
    let mut world = World::new(config).unwrap();
    world.ask("SELECT COUNT(*) AS n FROM heart WHERE age > 50", "1").unwrap();
    let read = |world: &World| world.hub.disk.reads("tasks");
    // A question about a dataset that is in no agreement: refused before any clause is looked at.
    let plan = Plan { dataset: name("other"), ..world.prepare(QUESTION, "1", 0).unwrap().plan };
    let mut refused = 0;
    loop {
        let before = read(&world);
        let asked = world.sign_task(plan.clone(), QUESTION).unwrap();
        match world.submit(&asked) {
            Err(SimError::Refused(Refused { code, .. })) if code == "denied" => refused += 1,
            other => break assert_eq!(code(other), "limit"),
        }
        // Nor is every task before it read for each.
        assert!(read(&world) - before <= 3, "{} records read", read(&world) - before);
    }
    assert_eq!(refused, 999);
    world.advance(86_400).unwrap();
    let near = world.ask("SELECT COUNT(*) AS n FROM heart WHERE age > 50 AND sex = 'f'", "1").unwrap().task;
    let said = log_entries(&mut world).into_iter().filter_map(|entry| match (entry.author, entry.fact) {
        (Author::Hub(_), Fact::Alert { rule, task, .. }) => Some((rule, task)),
        _ => None,
    });
    let said: Vec<_> = said.collect();
    assert!(said.contains(&(String::from("differencing"), Some(near))), "{said:?}");
    assert_eq!(said.iter().filter(|(rule, _)| rule == "burst-of-refusals").count(), 1);
    cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
}

/// What a house's rules notice is brought about by those who ask, and counted towards what the house may say: after enough
/// of it the hub took no freeze of that house any more, for that day, and after some months for ever.
#[test]
fn repro_alerts_do_not_use_up_a_houses_freezes() {
    let mut world = World::new(config_with_people(2107)).unwrap();
    let taken = (0..1100).take_while(|number| raise(&mut world, "a", *number, false).is_ok()).count();
    assert_eq!(taken, 1000);
    raise(&mut world, "a", 2000, true).unwrap();
    let freeze = Fact::Freeze { frozen: true, why: String::from("somebody floods us") };
    let entry = world.said("a", "paula", freeze).unwrap();
    world.call_as_node("a", Call::Log { body: None, entry }).unwrap();
    world.advance(86_400).unwrap();
    raise(&mut world, "a", 3000, false).unwrap();
}

/// A house's clock ran a day ahead when somebody stopped a study there. The hub asked for the same bytes again until the day
/// was over, and whatever the house said after it waited behind.
#[test]
fn repro_a_clock_that_ran_ahead_holds_nothing_up() {
    let mut world = World::new(config_with_people(2112)).unwrap();
    let ahead = |world: &World, seconds: i64| {
        let (agreement, study) = (world.agreement().hash(), world.agreement().study.clone());
        let author = Author::Person { organisation: name("a"), person: name("otto") };
        let fact = Fact::Freeze { frozen: true, why: String::from("we look at it") };
        let entry = Entry { agreement, author, fact, study, time: world.clock().plus_seconds(seconds) };
        Envelope::sign(&entry, &keys::person(2112, "a", "otto").key).unwrap()
    };
    for (seconds, answer) in [(601, "denied"), (600, "clock"), (301, "clock")] {
        let entry = ahead(&world, seconds);
        assert_eq!(code(world.call_as_node("a", Call::Log { body: None, entry })), answer, "{seconds}");
    }
    let (item, then) = (DeskItem { body: None, entry: ahead(&world, 86_400) }, world.clock().plus_seconds(86_400));
    let heard = world.machine_mut("a").unwrap().hear(&item, then).unwrap();
    assert!(matches!(heard, Heard::Acted(_)), "{heard:?}");
    let fact = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("we have found a mistake") };
    let entry = world.signed(Author::Custodian(name("a")), fact, &keys::organisation(2112, "a").agreement).unwrap();
    world.lay_on_desk("a", entry.clone()).unwrap();
    world.run_until_quiet().unwrap();
    assert!(world.index_of(&entry).is_ok(), "what was said after it is in the log");
    assert!(world.index_of(&item.entry).is_err());
    // And the house can read in its journal that the stop never reached the others.
    let journal = world.machine("a").unwrap().disk.table("journal").unwrap();
    let refused =
        journal.iter().filter(|(_, record)| String::from_utf8_lossy(record).contains("\"refused\":\"signed with"));
    assert_eq!(refused.count(), 1);
}

/// Two custodians had signed an amendment when the first took back the agreement in force. The hub put the amendment in
/// force with the last signature, and the study went on.
#[test]
fn repro_the_hub_lets_no_amendment_undo_a_revocation() {
    let mut world = world(2108);
    let amendment = world.amended(|agreement| agreement.budgets.epsilon_total = 600.into());
    world.sign("a", &amendment).unwrap();
    world.sign("b", &amendment).unwrap();
    let fact = Fact::Revocation { subject: RevocationSubject::Agreement, why: String::from("we have found a mistake") };
    let entry = world.signed(Author::Custodian(name("a")), fact, &keys::organisation(2108, "a").agreement).unwrap();
    world.call_as_node("a", Call::Log { body: None, entry }).unwrap();
    assert!(studies(&mut world, "c")[0].amendments.is_empty());
    // Neither the last one's signature nor the first ones' again.
    for member in ["c", "b"] {
        assert_eq!(code(world.sign(member, &amendment)), "denied");
    }
    // Another text begins with no signature at all.
    let anew = world.amended(|agreement| agreement.budgets.epsilon_total = 601.into());
    world.sign("c", &anew).unwrap();
    world.run_until_quiet().unwrap();
    assert_eq!(studies(&mut world, "c")[0].amendments[0].signature_count(), 1);
    assert!(world.ask(QUESTION, "1").is_err());
    world.run_until_quiet().unwrap();
    cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
}

/// Two members with a study of their own amended it without end, and each text stayed in the log, in the store and in the
/// hub's memory.
#[test]
fn repro_amendments_of_two_members_are_bounded() {
    let mut world = world(2112);
    let (b, c) = (keys::organisation(2112, "b"), keys::organisation(2112, "c"));
    let entries = [entry_of(&world, "b"), entry_of(&world, "c")];
    let mut agreement = world.other_study("their-study", &entries).unwrap();
    let sign = |world: &mut World, agreement: &Agreement| {
        let call = world.signature(agreement, (&name("c"), &c.agreement), &[&b.agreement]).unwrap();
        world.call_as_node("c", call)
    };
    sign(&mut world, &agreement).unwrap();
    let next = |agreement: &mut Agreement| {
        agreement.previous = Some(Hash::of(&canonical_bytes(agreement).unwrap()));
        agreement.revision += 1;
    };
    for _ in 0..20 {
        next(&mut agreement);
        sign(&mut world, &agreement).unwrap();
    }
    next(&mut agreement);
    assert_eq!(code(sign(&mut world, &agreement)), "limit");
    // Tomorrow there is room again.
    world.advance(86_400).unwrap();
    sign(&mut world, &agreement).unwrap();
    demand_all_goes_on(&mut world);
}

/// Calls that come at the same time share a head of the log, and each is answered for itself.
#[test]
fn calls_that_are_answered_together_share_a_head() {
    let mut world = world(2109);
    let heads = |world: &World| world.hub.disk.table("checkpoints").unwrap().len();
    let (size, before) = (world.hub_log().unwrap().size(), heads(&world));
    let mut calls: Vec<(&str, Call)> = Vec::new();
    for number in 0..8 {
        calls.extend(HOSPITALS.map(|member| (member, alert(&world, member, number, false))));
    }
    calls.push(("b", alert(&world, "a", 9, false)));
    calls.push(("a", alert(&world, "a", 0, false)));
    let mut answers: Vec<Result<Reply, SimError>> = world.call_together(calls).unwrap();
    // The last is known already, and the one before speaks for another.
    assert!(matches!(answers.pop(), Some(Ok(Reply::Accepted))));
    assert_eq!(code(answers.pop().unwrap()), "denied");
    assert!(answers.len() == 24 && answers.iter().all(Result::is_ok), "{answers:?}");
    assert_eq!((world.hub_log().unwrap().size(), heads(&world)), (size + 24, before + 1));
    demand_all_goes_on(&mut world);
}

/// At whatever commit the hub ends while it answers calls together: nobody is answered, the log has what was committed,
/// and whoever calls again is heard, once.
#[test]
fn a_crash_between_calls_that_are_answered_together_loses_nothing() {
    let base = world(2110);
    for commit in [1, 4, 6, 7] {
        let mut world = base.fork().unwrap();
        let size = world.hub_log().unwrap().size();
        let calls: Vec<(&str, Call)> = (0..5).map(|number| ("a", alert(&world, "a", number, false))).collect();
        world.hub.disk.crash_at(commit);
        // Five commits, and one for the witnesses' inboxes.
        assert_eq!(world.call_together(calls.clone()).is_ok(), commit == 7, "commit {commit}");
        if commit < 7 {
            assert!(!world.hub.is_up());
            world.restart("hub").unwrap();
            assert_eq!(world.hub_log().unwrap().size(), size + commit.min(6) - 1);
        }
        world.hub.disk.restart();
        let answers = world.call_together(calls).unwrap();
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert_eq!(world.hub_log().unwrap().size(), size + 5);
        demand_all_goes_on(&mut world);
    }
}
