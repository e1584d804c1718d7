//! What people and custodians decide, as the hub carries it: both cosignatures, amendments, revocations, entries that
//! come alone, approvals, and heads of members' logs. What the hub says about it binds nobody; that nodes act on it is
//! told elsewhere.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use cohortium_ledger::{Checkpoint, KeyKind, Note, NoteSignature, SignedCheckpoint, SignerKey};
use cohortium_messages::{
    Agreement, Author, Call, Entry, Envelope, Fact, Hash, InboxItem, IncidentStep, Name, PersonEntry, Reply,
    RevocationSubject, Role, RosterEntry, RoundStep, Staff, StudyRecord, TaskState, canonical_bytes,
};
use cohortium_policy::watch::Rules;
use cohortium_policy::{LogTerms, log_policy, verify_inclusion};
use cohortium_sim::{Asked, Fate, SimError, World, keys};

use crate::common::{HOSPITALS, QUESTION, config, log_entries, log_of, world};

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// A small world under an agreement with other terms.
fn world_with(seed: u64, terms: fn(&mut Agreement, u64)) -> World {
    let mut config = config(seed, 30);
    config.terms = terms;
    World::new(config).unwrap()
}

/// A steward and a privacy officer for each hospital.
fn with_people(agreement: &mut Agreement, seed: u64) {
    for party in &mut agreement.parties {
        let organisation = party.entry.organisation.clone();
        let entry = |person: &str, role| PersonEntry {
            key: keys::person(seed, organisation.as_str(), person).key.public(),
            person: name(person),
            role,
        };
        party.people = vec![entry("paula", Role::PrivacyOfficer), entry("stella", Role::Steward)];
    }
}

fn code<T: std::fmt::Debug>(reply: Result<T, SimError>) -> String {
    match reply {
        Err(SimError::Refused(refused)) => refused.code,
        other => format!("{other:?}"),
    }
}

fn study(world: &mut World, member: &str) -> StudyRecord {
    match world.call_as_node(member, Call::Studies { after: None }).unwrap() {
        Reply::Studies(studies) => studies.into_iter().next().unwrap(),
        other => panic!("{other:?}"),
    }
}

/// Asks, and stops when the task waits for the permit of this node.
fn asked_up_to_permit_of(world: &mut World, silent: &'static str) -> Asked {
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    crate::common::cut_off(world, &["a", "b", "c"], |item| matches!(item, InboxItem::Shares { .. }));
    world.between_hub_and_node(move |node, item| match item {
        InboxItem::Task { .. } if node.as_str() == silent => Fate::Lose,
        _ => Fate::Deliver,
    });
    world.run_until_quiet().unwrap();
    asked
}

/// Items in a node's inbox at the hub that it has not fetched and handled.
fn waiting(world: &World, node: &str) -> Vec<InboxItem> {
    let inbox = world.hub.disk.table("inbox").unwrap();
    let theirs = inbox.iter().filter(|(key, _)| key.starts_with(&format!("{node}/")));
    theirs.map(|(_, item)| serde_json::from_slice(item).unwrap()).collect()
}

/// Every item that a node is handed, from now on.
fn watch_items(world: &mut World) -> Rc<RefCell<Vec<(Name, InboxItem)>>> {
    let items = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&items);
    world.between_hub_and_node(move |node, item| {
        kept.borrow_mut().push((node.clone(), item.clone()));
        Fate::Deliver
    });
    items
}

// Both keys of a witness.

fn post_quantum(agreement: &mut Agreement, _: u64) {
    let parties: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
    let terms = LogTerms { post_quantum: true, quorum: 3 };
    agreement.log_policy = log_policy(&agreement.hub, &parties, agreement.secure_sum, terms).unwrap().to_string();
}

/// Every cosignature on the hub's heads goes out as this makes it from the head's text and the Ed25519 line.
fn cosign_with(world: &mut World, lines: impl Fn(&Name, &str, &str) -> Vec<String> + 'static) {
    let heads: Rc<RefCell<BTreeMap<u64, String>>> = Rc::default();
    let seen = Rc::clone(&heads);
    world.between_hub_and_node(move |_, item| {
        if let InboxItem::Checkpoint { note, .. } = item {
            let text = Note::parse(note.as_bytes()).unwrap().text().to_owned();
            seen.borrow_mut().insert(Checkpoint::parse(&text).unwrap().size(), text);
        }
        Fate::Deliver
    });
    world.between_node_and_hub(move |node, call| {
        if let Call::Post { step: RoundStep::Cosigned { lines: sent, origin, size } } = call
            && origin.as_str() == "hub"
        {
            let text = heads.borrow().get(size).cloned();
            if let (Some(text), Some(first)) = (text, sent.first().cloned()) {
                *sent = lines(node, &text, &first);
            }
        }
        Fate::Deliver
    });
}

/// The line of a witness's second key on this head.
fn second_line(seed: u64, node: &Name, text: &str) -> String {
    let secrets = keys::organisation(seed, node.as_str());
    let key = SignerKey::from_seed(node.as_str(), KeyKind::WitnessMlDsa44, &secrets.witness_ml_dsa).unwrap();
    key.cosign(text, 1_795_305_600).unwrap().to_string()
}

fn other_head() -> String {
    Checkpoint::new("hub", 1, [7; 32]).unwrap().to_string()
}

#[test]
fn a_head_counts_with_both_keys_where_the_agreement_says_so() {
    const SEED: u64 = 1001;
    let base = world_with(SEED, post_quantum);
    let mut world = base.fork().unwrap();
    cosign_with(&mut world, |node, text, first| vec![first.to_owned(), second_line(SEED, node, text)]);
    let answered = world.ask(QUESTION, "1").unwrap();
    assert_eq!(answered.release.survivors.len(), 3);
    let published = std::fs::read(world.hub.log_dir().join("checkpoint")).unwrap();
    assert_eq!(Note::parse(&published).unwrap().signatures().len(), 1 + 2 * HOSPITALS.len());

    // One member with one key is none: the task is not shown to anybody.
    let mut world = base.fork().unwrap();
    cosign_with(&mut world, |node, text, first| match node.as_str() {
        "b" => vec![first.to_owned()],
        _ => vec![first.to_owned(), second_line(SEED, node, text)],
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Expired);
    assert_eq!(log_of(&mut world, asked.hash), ["rosa task", "hub failure"]);
}

/// which lines a member sends, and the code with which they are refused
#[test]
fn lines_that_are_not_by_this_member_are_refused() {
    const SEED: u64 = 1002;
    let mut base = world_with(SEED, |_, _| ());
    let asked = base.prepare(QUESTION, "1", 0).unwrap();
    base.submit(&asked).unwrap();
    type Lines = fn(&str, &str) -> Vec<String>;
    let cases: [(&str, Lines, &str); 6] = [
        ("none", |_, _| Vec::new(), "malformed"),
        ("the second alone", |text, _| vec![second_line(SEED, &name("b"), text)], "signature"),
        ("the first twice", |_, first| vec![first.to_owned(), first.to_owned()], "signature"),
        ("another's second", |text, first| vec![first.to_owned(), second_line(SEED, &name("a"), text)], "signature"),
        (
            "the second of another head",
            |_, first| vec![first.to_owned(), second_line(SEED, &name("b"), &other_head())],
            "signature",
        ),
        (
            "three",
            |text, first| {
                let second = second_line(SEED, &name("b"), text);
                vec![first.to_owned(), second.clone(), second]
            },
            "malformed",
        ),
    ];
    for (case, lines, expected) in cases {
        let mut world = base.fork().unwrap();
        cosign_with(&mut world, move |node, text, first| match node.as_str() {
            "b" => lines(text, first),
            _ => vec![first.to_owned()],
        });
        world.run_until_quiet().unwrap();
        let refusals: Vec<(&str, &str)> =
            world.wire.refusals.iter().map(|(node, refused)| (node.as_str(), refused.code.as_str())).collect();
        assert_eq!(refusals.first(), Some(&("b", expected)), "{case}");
    }
}

// Amendments.

#[test]
fn an_amendment_stands_beside_the_agreement_until_all_have_signed() {
    let mut world = world(1003);
    let first = world.agreement().hash();
    let asked = asked_up_to_permit_of(&mut world, "c");
    let next = world.amended(|next| next.retention_days = 30);
    let rival = world.amended(|next| next.retention_days = 40);
    world.sign("a", &next).unwrap();
    world.sign("b", &rival).unwrap();
    world.sign("b", &next).unwrap();
    world.sign("a", &next).unwrap(); // again: nothing new
    world.run_until_quiet().unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Proposed);
    let record = study(&mut world, "c");
    assert_eq!((record.complete, record.amendments.len()), (true, 2));
    assert_eq!(record.agreement.peek::<Agreement>().unwrap().hash(), first);
    let signatures: Vec<usize> = record.amendments.iter().map(Envelope::signature_count).collect();
    assert_eq!(signatures.iter().sum::<usize>(), 3);

    let items = watch_items(&mut world);
    world.sign("c", &next).unwrap();
    let status = world.status(asked.hash).unwrap();
    assert_eq!(status.state, TaskState::Failed);
    assert!(status.why.starts_with("amended: study heart-study is now under revision 2"), "{}", status.why);
    assert_eq!(log_of(&mut world, asked.hash), ["rosa task", "hub failure", "a permit", "b permit"]);
    let record = study(&mut world, "a");
    assert_eq!((record.complete, record.amendments.len()), (true, 0));
    assert_eq!(record.agreement.peek::<Agreement>().unwrap().claims(), &next);
    assert_eq!(code(world.sign("c", &rival)), "conflict");
    assert_eq!(code(world.sign("a", &rival)), "conflict");
    world.sign("b", &next).unwrap(); // again: it is the one in force
    world.run_until_quiet().unwrap();
    for member in HOSPITALS {
        let told = items.borrow().iter().any(|(node, item)| {
            matches!(item, InboxItem::Agreement { agreement } if node.as_str() == member
                && agreement.peek::<Agreement>().unwrap().claims().revision == 2)
        });
        assert!(told, "{member}");
    }
    let revisions = log_entries(&mut world).into_iter().filter_map(|entry| match entry.fact {
        Fact::Agreement { revision, .. } => Some(revision),
        _ => None,
    });
    assert_eq!(revisions.collect::<Vec<u32>>(), [1, 1, 1, 2, 2, 2, 2]);
    // What was asked under the version before it is another plan now, and is not mistaken for one of this version.
    world.restart("hub").unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Failed);
}

/// what is signed, by whom, and the code of the refusal
#[test]
fn what_does_not_amend_the_agreement_in_force_is_refused() {
    let mut world = world(1004);
    let two = world.amended(|_| ());
    let three = Agreement { revision: 3, ..two.clone() };
    let beside = Agreement { previous: Some(Hash::of(b"another")), ..two.clone() };
    let first_again = Agreement { retention_days: 30, ..(**world.agreement()).clone() };
    let elsewhere = Agreement { study: name("other-study"), ..two.clone() };
    let without_a = world.amended(|next| {
        next.parties.retain(|party| party.entry.organisation.as_str() != "a");
        next.secure_sum.threshold = 2;
        let parties: Vec<&RosterEntry> = next.parties.iter().map(|party| &party.entry).collect();
        let terms = LogTerms { post_quantum: false, quorum: 2 };
        next.log_policy = log_policy(&next.hub, &parties, next.secure_sum, terms).unwrap().to_string();
    });
    for (case, agreement, by, expected) in [
        ("a revision is left out", &three, "a", "conflict"),
        ("of another agreement", &beside, "a", "conflict"),
        ("a first one again", &first_again, "a", "conflict"),
        ("of a study that is not here", &elsewhere, "a", "conflict"),
        ("by who is no party of it", &without_a, "a", "denied"),
    ] {
        assert_eq!(code(world.sign(by, agreement)), expected, "{case}");
    }
    for number in 0..5 {
        let next = world.amended(|next| next.retention_days = 10 + number);
        let expected = if number < 4 { "Ok(())" } else { "limit" };
        assert_eq!(code(world.sign("a", &next)), expected, "{number}");
    }
    let by_b = world.amended(|next| next.retention_days = 100);
    world.sign("b", &by_b).unwrap();
    world.run_until_quiet().unwrap();
    world.ask(QUESTION, "1").unwrap();
}

/// A round in which somebody may have read goes on under its own version.
#[test]
fn who_has_masked_goes_on_under_the_version_before() {
    let mut world = world(1005);
    world.between_node_and_hub(|_, call| match call {
        Call::Post { step: RoundStep::Survivors { .. } } => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    let next = world.amended(|next| next.retention_days = 30);
    for member in HOSPITALS {
        world.sign(member, &next).unwrap();
    }
    world.honest_again();
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    world.verify(&asked, &status).unwrap();
}

#[test]
fn a_crash_at_every_commit_of_an_amendment() {
    let mut base = world(1006);
    let asked = asked_up_to_permit_of(&mut base, "c");
    base.honest_again();
    let next = base.amended(|next| next.retention_days = 30);
    base.sign("a", &next).unwrap();
    base.sign("b", &next).unwrap();
    for commit in 1.. {
        let mut world = base.fork().unwrap();
        world.machine_mut("c").unwrap().online = false;
        world.hub.disk.crash_at(commit);
        let signed = world.sign("c", &next);
        let has_crashed = !world.hub.is_up();
        world.restart("hub").unwrap();
        if signed.is_err() {
            world.sign("c", &next).unwrap();
        }
        world.advance(1).unwrap();
        assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Failed, "commit {commit}");
        assert_eq!(study(&mut world, "a").agreement.peek::<Agreement>().unwrap().claims(), &next);
        if !has_crashed {
            assert!(commit > 2);
            break;
        }
    }
}

// Entries that come alone.

fn alert(task: Option<Hash>, why: &str) -> Fact {
    Fact::Alert { froze: false, rule: String::from("differencing"), task, why: why.to_owned() }
}

#[test]
fn an_entry_is_logged_once_and_shown_to_all_members_with_its_proof() {
    let mut world = world_with(1007, with_people);
    let items = watch_items(&mut world);
    let a = keys::organisation(world.seed(), "a");
    let paula = keys::person(world.seed(), "a", "paula").key;
    let person = Author::Person { organisation: name("a"), person: name("paula") };
    let document = Staff { organisation: name("a"), people: Vec::new() };
    let document = Envelope::sign(&document, &paula).unwrap();
    let body = Hash::of(&canonical_bytes(&document).unwrap());
    let incident = Fact::Incident { body, incident: name("lost-laptop"), step: IncidentStep::Open };
    let why = String::from("to look at it");
    let calls = [
        (None, world.entry(Author::Node(name("a")), alert(None, "x"), &a.message).unwrap()),
        (None, world.entry(person.clone(), Fact::Freeze { frozen: true, why }, &paula).unwrap()),
        (Some(document), world.entry(person, incident, &paula).unwrap()),
    ];
    let before = world.hub_log().unwrap().size();
    for (body, entry) in &calls {
        for _ in 0..2 {
            world.call_as_node("a", Call::Log { body: body.clone(), entry: entry.clone() }).unwrap();
        }
    }
    world.run_until_quiet().unwrap();
    assert_eq!(world.hub_log().unwrap().size() - before, 3);
    let items = items.borrow();
    for member in HOSPITALS {
        let shown: Vec<_> = items.iter().filter(|(node, _)| node.as_str() == member).collect();
        let shown = shown.into_iter().filter_map(|(_, item)| match item {
            InboxItem::Logged { body, entry, inclusion } => {
                verify_inclusion(world.agreement(), entry, inclusion).unwrap();
                Some((body.clone(), entry.clone()))
            }
            _ => None,
        });
        assert_eq!(shown.collect::<Vec<_>>(), calls, "{member}");
    }
}

/// the entry, who brings it, and the code of the refusal
#[test]
fn what_a_member_must_not_lay_before_the_log_is_refused() {
    let mut world = world_with(1008, with_people);
    let answered = world.ask(QUESTION, "1").unwrap();
    world.run_until_quiet().unwrap();
    let (a, b) = (keys::organisation(world.seed(), "a"), keys::organisation(world.seed(), "b"));
    let [paula, stella] = ["paula", "stella"].map(|person| keys::person(world.seed(), "a", person).key);
    let (node, why) = (Author::Node(name("a")), || String::from("x"));
    let person = Author::Person { organisation: name("a"), person: name("stella") };
    let entry = |author: &Author, fact: Fact, key| world.entry(author.clone(), fact, key).unwrap();
    let mut twice = entry(&node, alert(None, "x"), &a.message);
    twice.also_sign(&b.message).unwrap();
    let approval = |plan| Fact::Approval { approved: true, plan, task: answered.task, why: why() };
    let failure = Fact::Failure { reason: why(), task: answered.task };
    let incident = Fact::Incident { body: Hash::of(b"x"), incident: name("x"), step: IncidentStep::Open };
    let dispatch = Fact::Dispatch { message: Hash::of(b"x"), task: answered.task };
    let stranger = RevocationSubject::Key(b.message.public());
    let cases = [
        ("another's node", entry(&Author::Node(name("b")), alert(None, "x"), &b.message), "denied"),
        ("another key", entry(&node, alert(None, "x"), &b.message), "signature"),
        ("two signatures", twice, "malformed"),
        ("a task that is not here", entry(&node, alert(Some(Hash::of(b"x")), "x"), &a.message), "unknown"),
        (
            "a refusal",
            entry(&node, Fact::Refusal { clauses: Vec::new(), task: answered.task, why: why() }, &a.message),
            "malformed",
        ),
        ("the hub's part", entry(&node, failure, &a.message), "signature"),
        ("what concerns the house alone", entry(&person, dispatch, &stella), "malformed"),
        ("a steward ends a freeze", entry(&person, Fact::Freeze { frozen: false, why: why() }, &stella), "signature"),
        (
            "no document",
            entry(&Author::Person { organisation: name("a"), person: name("paula") }, incident, &paula),
            "malformed",
        ),
        ("another plan", entry(&person, approval(Hash::of(b"x")), &stella), "denied"),
        (
            "a key of nobody",
            entry(&Author::Custodian(name("a")), Fact::Revocation { subject: stranger, why: why() }, &a.agreement),
            "unknown",
        ),
        (
            "a node revokes",
            entry(&node, Fact::Revocation { subject: RevocationSubject::Agreement, why: why() }, &a.message),
            "signature",
        ),
    ];
    let good = entry(&person, approval(answered.release.plan), &stella);
    let (bodied, stray) = (entry(&node, alert(None, "y"), &a.message), entry(&node, alert(None, "x"), &a.message));
    let before = world.hub_log().unwrap().size();
    for (case, entry, expected) in cases {
        assert_eq!(code(world.call_as_node("a", Call::Log { body: None, entry })), expected, "{case}");
    }
    assert_eq!(code(world.call_as_node("a", Call::Log { body: Some(stray), entry: bodied })), "malformed");
    assert_eq!(code(world.call_as_researcher(Call::Log { body: None, entry: good.clone() })), "denied");
    assert_eq!(world.hub_log().unwrap().size(), before);
    assert_eq!(code(world.call_as_node("a", Call::Log { body: None, entry: good })), "denied", "the task has ended");
}

#[test]
fn one_member_cannot_flood_the_log() {
    let mut world = world(1009);
    let a = keys::organisation(world.seed(), "a");
    let entry =
        |world: &World, why: String| world.entry(Author::Node(name("a")), alert(None, &why), &a.message).unwrap();
    for number in 0..1000 {
        let entry = entry(&world, number.to_string());
        world.call_as_node("a", Call::Log { body: None, entry }).unwrap();
    }
    let one_more = entry(&world, String::from("one more"));
    assert_eq!(code(world.call_as_node("a", Call::Log { body: None, entry: one_more.clone() })), "limit");
    // What the custodian takes back is not kept out, nor what others say.
    let b = keys::organisation(world.seed(), "b");
    let theirs = world.entry(Author::Node(name("b")), alert(None, "x"), &b.message).unwrap();
    world.call_as_node("b", Call::Log { body: None, entry: theirs }).unwrap();
    world.advance(86_400).unwrap();
    world.call_as_node("a", Call::Log { body: None, entry: one_more }).unwrap();
}

// What custodians take back.

fn revoke(world: &mut World, member: &str, subject: RevocationSubject) -> Result<Reply, SimError> {
    let key = keys::organisation(world.seed(), member).agreement;
    let fact = Fact::Revocation { subject, why: String::from("we change our mind") };
    let entry = world.entry(Author::Custodian(name(member)), fact, &key)?;
    world.call_as_node(member, Call::Log { body: None, entry })
}

#[test]
fn a_revoked_agreement_ends_what_has_not_been_read_and_begins_nothing() {
    let mut world = world(1010);
    let asked = asked_up_to_permit_of(&mut world, "c");
    revoke(&mut world, "b", RevocationSubject::Agreement).unwrap();
    let status = world.status(asked.hash).unwrap();
    assert_eq!(status.state, TaskState::Failed);
    assert_eq!(status.why, "taken back: a custodian has revoked the agreement of study heart-study");
    let entries = log_entries(&mut world);
    let position = |kind: &str| entries.iter().position(|entry| entry.fact.kind() == kind).unwrap();
    assert!(position("revocation") < position("failure"));
    world.advance(1).unwrap(); // the same words again, at another time, are another entry
    assert_eq!(code(revoke(&mut world, "b", RevocationSubject::Agreement)), "conflict");
    revoke(&mut world, "a", RevocationSubject::Agreement).unwrap();
    world.restart("hub").unwrap();
    let again = world.prepare(QUESTION, "1", 1).unwrap();
    match world.submit(&again) {
        Err(SimError::Refused(refused)) => assert_eq!(refused.clauses, ["heart-study/not-revoked"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(log_of(&mut world, again.hash), ["rosa task", "hub refusal"]);
    let record = study(&mut world, "c");
    let said: Vec<Author> =
        record.revocations.iter().map(|entry| entry.peek::<Entry>().unwrap().claims().author.clone()).collect();
    assert_eq!(said, [Author::Custodian(name("b")), Author::Custodian(name("a"))]);
}

#[test]
fn a_revoked_key_opens_nothing_of_its_study() {
    let mut world = world(1011);
    let answered = world.ask("SELECT COUNT(*) AS n FROM heart", "1").unwrap();
    let asked = asked_up_to_permit_of(&mut world, "c");
    let key = RevocationSubject::Key(world.researcher_key().public());
    revoke(&mut world, "a", key).unwrap();
    let list = |world: &mut World| match world.call_as_researcher(Call::Tasks { last: 10 }).unwrap() {
        Reply::Tasks(tasks) => tasks.len(),
        other => panic!("{other:?}"),
    };
    assert_eq!(list(&mut world), 0);
    for task in [asked.hash, answered.task] {
        assert_eq!(code(world.status(task)), "denied");
    }
    let again = world.prepare(QUESTION, "1", 1).unwrap();
    let before = world.hub_log().unwrap().size();
    match world.submit(&again) {
        Err(SimError::Refused(refused)) => assert_eq!(refused.clauses, ["heart-study/not-revoked"]),
        other => panic!("{other:?}"),
    }
    assert_eq!(world.hub_log().unwrap().size(), before, "who may not ask does not make the log longer");
    let Reply::Status(status) =
        world.call_as_node("a", Call::Status { known: 0, task: asked.hash, wait_ms: 0 }).unwrap()
    else {
        panic!();
    };
    assert_eq!(
        (status.state, status.why.as_str()),
        (TaskState::Failed, "taken back: a custodian has revoked the key of rosa")
    );
    // An amendment is a new agreement: it says anew who may ask.
    let next = world.amended(|next| next.retention_days = 30);
    for member in HOSPITALS {
        world.sign(member, &next).unwrap();
    }
    world.adopt(&next).unwrap();
    assert_eq!(study(&mut world, "a").revocations, []);
    let anew = world.prepare(QUESTION, "1", 2).unwrap();
    assert_eq!(world.submit(&anew).unwrap().state, TaskState::Proposed);
}

// Approval by people.

/// People are asked for what no class covers; here a class covers everything, so that nodes need nobody and the test can
/// say at which of them people are asked all the same.
fn with_approval(agreement: &mut Agreement, seed: u64) {
    with_people(agreement, seed);
    agreement.approval.needed = 1;
    agreement.approval.roles = vec![Role::Steward];
    agreement.approval.wait_hours = 48;
}

#[test]
fn a_task_waits_for_people_and_they_see_who_has_permitted() {
    let mut world = world_with(1012, with_approval);
    let asked = asked_up_to_permit_of(&mut world, "c");
    let awaiting = Call::Post { step: RoundStep::AwaitingApproval { task: asked.hash } };
    assert_eq!(code(world.call_as_node("a", awaiting.clone())), "conflict", "it has permitted");
    for _ in 0..2 {
        world.call_as_node("c", awaiting.clone()).unwrap();
    }
    let status = world.status(asked.hash).unwrap();
    assert_eq!(status.state, TaskState::AwaitingApproval);
    assert_eq!((status.awaited, status.why.as_str()), (vec![name("c")], "waiting for people to approve at c"));
    assert_eq!(status.remaining_s, Some(48 * 3600));
    let permitted = waiting(&world, "c").into_iter().filter_map(|item| match item {
        InboxItem::Permitted { entry, task } if task == asked.hash => {
            Some(entry.peek::<Entry>().unwrap().claims().author.clone())
        }
        _ => None,
    });
    assert_eq!(permitted.collect::<Vec<_>>(), [Author::Node(name("a")), Author::Node(name("b"))]);

    // Longer than any phase, and still waiting: then a steward says yes, and the node permits with what she said.
    world.advance(40 * 3600).unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::AwaitingApproval);
    let stella = keys::person(world.seed(), "c", "stella").key;
    let fact =
        Fact::Approval { approved: true, plan: asked.plan.hash().unwrap(), task: asked.hash, why: String::from("yes") };
    let author = Author::Person { organisation: name("c"), person: name("stella") };
    let approval = world.entry(author, fact, &stella).unwrap();
    let said = approval.clone();
    world.honest_again();
    world.between_node_and_hub(move |node, call| {
        if let Call::Post { step: RoundStep::Permitted { approvals, .. } } = call
            && node.as_str() == "c"
        {
            *approvals = vec![said.clone()];
        }
        Fate::Deliver
    });
    let status = world.settle(&asked).unwrap();
    assert_eq!(status.state, TaskState::Released, "{}", status.why);
    let log = log_of(&mut world, asked.hash);
    assert_eq!(log[..5], ["rosa task", "stella approval", "a permit", "b permit", "c permit"]);
    // The node tells of it once more: it is in the log.
    let before = world.hub_log().unwrap().size();
    world.call_as_node("c", Call::Log { body: None, entry: approval }).unwrap();
    assert_eq!(world.hub_log().unwrap().size(), before);
}

#[test]
fn people_are_not_waited_for_without_end() {
    let mut world = world_with(1013, with_approval);
    let asked = asked_up_to_permit_of(&mut world, "c");
    world.call_as_node("c", Call::Post { step: RoundStep::AwaitingApproval { task: asked.hash } }).unwrap();
    world.advance(48 * 3600 + 1).unwrap();
    let status = world.status(asked.hash).unwrap();
    assert_eq!(status.state, TaskState::Expired);
    assert_eq!(status.why, "no answer in time from c (waiting for people to approve at c)");
    let nobody = self::world(1014);
    let mut world = nobody;
    let asked = asked_up_to_permit_of(&mut world, "c");
    let awaiting = Call::Post { step: RoundStep::AwaitingApproval { task: asked.hash } };
    assert_eq!(code(world.call_as_node("c", awaiting)), "denied", "the agreement asks nobody");
}

/// Nothing is covered by a class: a permit needs its people.
#[test]
fn a_permit_without_the_approvals_that_it_needs_is_refused() {
    let mut world = world_with(1015, |agreement, seed| {
        with_approval(agreement, seed);
        agreement.approval.automatic.classes.clear();
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    // What nodes answer to a task that people must approve, they answer elsewhere.
    crate::common::cut_off(&mut world, &["a", "b", "c"], |item| matches!(item, InboxItem::Task { .. }));
    world.run_until_quiet().unwrap();
    let a = keys::organisation(world.seed(), "a");
    let stella = keys::person(world.seed(), "b", "stella").key;
    let approval =
        Fact::Approval { approved: true, plan: asked.plan.hash().unwrap(), task: asked.hash, why: String::new() };
    let of_b =
        world.entry(Author::Person { organisation: name("b"), person: name("stella") }, approval, &stella).unwrap();
    let refusal = Fact::Refusal { clauses: Vec::new(), task: asked.hash, why: String::from("no") };
    let refusal = world.entry(Author::Node(name("a")), refusal, &a.message).unwrap();
    let step = RoundStep::Refused { approvals: vec![of_b], entry: refusal };
    assert_eq!(code(world.call_as_node("a", Call::Post { step })), "malformed", "another's people");
}

#[test]
fn held_vectors_are_waited_for_as_long_as_people() {
    let mut world = world_with(1016, |agreement, seed| {
        with_approval(agreement, seed);
        agreement.approval.hold = true;
    });
    world.between_node_and_hub(|_, call| match call {
        Call::Post { step: RoundStep::Masked { .. } } => Fate::Lose,
        _ => Fate::Deliver,
    });
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    world.advance(40 * 3600).unwrap();
    assert_eq!(world.status(asked.hash).unwrap().state, TaskState::Running);
}

// Heads of members' logs.

/// A head of a's log with this many entries, signed by it; another `salt`, another history.
fn head(world: &World, size: u64, salt: u8) -> String {
    let seed = keys::organisation(world.seed(), "a").log.expose_seed();
    let key = SignerKey::from_seed("a", KeyKind::Log, &seed).unwrap();
    SignedCheckpoint::sign(Checkpoint::new("a", size, [salt; 32]).unwrap(), &key).unwrap().to_string()
}

fn heads_waiting(world: &World, node: &str) -> Vec<(String, u64)> {
    let items = waiting(world, node).into_iter().filter_map(|item| match item {
        InboxItem::PeerCheckpoint { note, old_size, .. } => Some((note, old_size)),
        _ => None,
    });
    items.collect()
}

fn show(world: &mut World, note: &str, old_size: u64) -> Result<Reply, SimError> {
    let consistency = vec![Hash::of(b"path")];
    world.call_as_node("a", Call::Witness { consistency, note: note.to_owned(), old_size })
}

fn answer(world: &mut World, node: &str, lines: &[&str], size: u64) -> Result<Reply, SimError> {
    let origin = name("a");
    let step = match lines {
        [] => RoundStep::Stale { origin, size },
        _ => RoundStep::Cosigned { lines: lines.iter().map(ToString::to_string).collect(), origin, size },
    };
    world.call_as_node(node, Call::Post { step })
}

fn cosigned_waiting(world: &World) -> Vec<(String, usize, u64)> {
    let items = waiting(world, "a").into_iter().filter_map(|item| match item {
        InboxItem::PeerCosigned { from, lines, size } => Some((from.to_string(), lines.len(), size)),
        _ => None,
    });
    items.collect()
}

#[test]
fn heads_of_a_members_log_reach_its_peers_and_their_answers_come_back() {
    let mut world = world(1017);
    for node in ["a", "b", "c"] {
        world.machine_mut(node).unwrap().online = false;
    }
    let heads: Vec<String> = (1..=4).map(|number| head(&world, 1000 + number, 1)).collect();
    // Only the newest that was not shown waits.
    show(&mut world, &heads[0], 0).unwrap();
    show(&mut world, &heads[1], 0).unwrap();
    for node in ["b", "c"] {
        assert_eq!(heads_waiting(&world, node), [(heads[1].clone(), 0)], "{node}");
    }
    assert_eq!(heads_waiting(&world, "a"), []);
    // What b was shown stays, and what comes after it stands behind it.
    let after = world.machine("b").unwrap().node().unwrap().inbox_cursor().unwrap();
    world.call_as_node("b", Call::Inbox { after, wait_ms: 0 }).unwrap();
    show(&mut world, &heads[2], 1001).unwrap();
    assert_eq!(heads_waiting(&world, "b"), [(heads[1].clone(), 0), (heads[2].clone(), 1001)]);
    assert_eq!(heads_waiting(&world, "c"), [(heads[2].clone(), 1001)]);
    // Answers are passed on once for each head that was shown, and others not at all.
    answer(&mut world, "b", &["line"], 1002).unwrap();
    answer(&mut world, "b", &["line"], 1002).unwrap();
    answer(&mut world, "b", &["line"], 1001).unwrap();
    answer(&mut world, "b", &["line", "second"], 1003).unwrap();
    answer(&mut world, "c", &[], 7).unwrap();
    answer(&mut world, "c", &[], 7).unwrap();
    let (b, c) = (String::from("b"), String::from("c"));
    assert_eq!(cosigned_waiting(&world), [(b.clone(), 1, 1002), (b, 2, 1003), (c, 0, 7)]);
    // Shown again for c's sake, and b has cosigned this very head; one that contradicts it must reach b.
    show(&mut world, &heads[2], 7).unwrap();
    assert_eq!(heads_waiting(&world, "b").len(), 2);
    let forked = head(&world, 1003, 2);
    show(&mut world, &forked, 7).unwrap();
    assert_eq!(heads_waiting(&world, "b").last(), Some(&(forked, 7)));
}

/// what a sends as a head of its log, and the code of the refusal
#[test]
fn what_is_no_head_of_the_callers_log_is_not_carried() {
    let mut world = world(1018);
    let good = head(&world, 1000, 1);
    let key = SignerKey::from_seed("a", KeyKind::Log, &[9; 32]).unwrap();
    let by_another = SignedCheckpoint::sign(Checkpoint::new("a", 9, [1; 32]).unwrap(), &key).unwrap().to_string();
    let witness = SignerKey::from_seed("b", KeyKind::Witness, &[9; 32]).unwrap();
    let text = Note::parse(good.as_bytes()).unwrap().text().to_owned();
    let line: NoteSignature = witness.cosign(&text, 1).unwrap();
    for (case, note, old_size, expected) in [
        ("another key", by_another, 0, "malformed"),
        ("a line beside its own", format!("{good}{line}\n"), 0, "malformed"),
        ("from a later size", good.clone(), 1001, "malformed"),
        ("no note", String::from("x"), 0, "malformed"),
        ("long", "x".repeat(2000), 0, "limit"),
    ] {
        assert_eq!(code(show(&mut world, &note, old_size)), expected, "{case}");
    }
    let long = vec![Hash::of(b"path"); 65];
    assert_eq!(code(world.call_as_node("a", Call::Witness { consistency: long, note: good, old_size: 0 })), "limit");
    let line = "x".repeat(5000);
    assert_eq!(code(answer(&mut world, "b", &[&line], 1000)), "malformed");
}

// Who acts for whom.

#[test]
fn who_acts_for_an_organisation_stands_in_the_directory() {
    let mut world = world(1019);
    let people = |count: usize| {
        let entry = |number| PersonEntry {
            key: keys::person(1019, "a", &format!("p{number}")).key.public(),
            person: name(&format!("p{number}")),
            role: Role::Steward,
        };
        (0..count).map(entry).collect()
    };
    let list = |organisation: &str, count, by: &str| {
        let staff = Staff { organisation: name(organisation), people: people(count) };
        Envelope::sign(&staff, &keys::organisation(1019, by).message).unwrap()
    };
    assert_eq!(code(world.call_as_node("a", Call::Staff { staff: list("a", 1, "b") })), "signature");
    assert_eq!(code(world.call_as_node("a", Call::Staff { staff: list("b", 1, "a") })), "denied");
    for count in [1, 2] {
        world.call_as_node("a", Call::Staff { staff: list("a", count, "a") }).unwrap();
    }
    let Reply::Directory(directory) = world.call_as_researcher(Call::Directory { after: None }).unwrap() else {
        panic!()
    };
    assert_eq!(directory.staff, [list("a", 2, "a")]);
}

// What the hub notices.

#[test]
fn the_hub_says_in_the_log_what_is_remarkable_about_a_task() {
    let mut config = config(1021, 30);
    config.watch = Some(Rules { work_begins_hour: 0, work_ends_hour: 0, ..Rules::default() });
    let mut world = World::new(config).unwrap();
    let items = watch_items(&mut world);
    let rules = |world: &mut World| {
        let entries = log_entries(world).into_iter().filter_map(|entry| match (entry.author, entry.fact) {
            (Author::Hub(_), Fact::Alert { froze: false, rule, task, .. }) => Some((task.unwrap(), rule)),
            _ => None,
        });
        entries.collect::<Vec<_>>()
    };
    let first = world.ask("SELECT COUNT(*) AS n FROM heart WHERE sex = 'f'", "1").unwrap().task;
    assert_eq!(rules(&mut world), [(first, String::from("first-pair"))]);
    assert_eq!(log_of(&mut world, first)[..3], ["rosa task", "hub alert", "a permit"]);
    world.ask("SELECT COUNT(*) AS n FROM heart WHERE age > 50", "1").unwrap();
    let near = world.ask("SELECT COUNT(*) AS n FROM heart WHERE sex = 'f' AND age = 93", "1").unwrap().task;
    let expected = [(first, String::from("first-pair")), (near, String::from("differencing"))];
    assert_eq!(rules(&mut world), expected);
    world.run_until_quiet().unwrap();
    for member in HOSPITALS {
        let told = items
            .borrow()
            .iter()
            .filter(|(node, item)| {
                node.as_str() == member
                    && matches!(item, InboxItem::Logged { entry, inclusion, .. }
                if verify_inclusion(world.agreement(), entry, inclusion).is_ok())
            })
            .count();
        assert_eq!(told, 2, "{member}");
    }
}

// Who called.

#[test]
fn the_hub_notes_who_called_for_what_and_what_came_of_it() {
    let mut world = world(1020);
    let task = Hash::of(b"x");
    assert_eq!(code(world.status(task)), "unknown");
    world.call_as_node("a", Call::Directory { after: None }).unwrap();
    assert_eq!(code(world.call_as("nobody", Call::Directory { after: None })), "unknown");
    let newest = |world: &mut World, last| {
        let accesses = world.hub.access(last).unwrap();
        let shown = accesses
            .into_iter()
            .map(|access| (access.who.name.to_string(), access.call, access.what, access.outcome, access.known));
        shown.collect::<Vec<_>>()
    };
    let row = |who: &str, call: &str, what, outcome: &str, known| {
        (who.to_owned(), call.to_owned(), what, outcome.to_owned(), known)
    };
    let expected = [
        row("nobody", "directory", None, "unknown", false),
        row("a", "directory", None, "ok", true),
        row("rosa", "status", Some(task.to_string()), "unknown", true),
    ];
    assert_eq!(newest(&mut world, 3), expected);
    world.advance(1).unwrap();
    world.restart("hub").unwrap();
    let durable = newest(&mut world, 1000);
    for row in expected {
        assert_eq!(durable.iter().filter(|known| **known == row).count(), 1, "{row:?}");
    }
    // Polls that find nothing leave nothing.
    let before = world.hub.access(1000).unwrap().len();
    world.run_until_quiet().unwrap();
    assert_eq!(world.hub.access(1000).unwrap().len(), before);
}
