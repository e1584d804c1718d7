//! The witness protocol: requests as bytes, several logs in one store, nothing signed before it is durable.

use cohortium_ledger::witness::WITNESSED_LOGS;
use cohortium_ledger::{AddCheckpoint, Note, WitnessBook, WitnessError};
use cohortium_store::{Batch, MemoryStore, Store as _, StoreError};

use crate::world::{HUB, TIME_S, World, cosigner, entry, keys, log_key};

const PEER: &str = "southside-log";

fn book() -> WitnessBook {
    WitnessBook::new([HUB, PEER].map(|origin| log_key(origin).verifier().clone())).unwrap()
}

fn request(world: &World, old_size: u64) -> AddCheckpoint {
    AddCheckpoint { old_size, proof: world.consistency(old_size), note: world.log.checkpoint().to_string() }
}

/// Check, commit, cosign: what a witness does for one request.
fn ask(store: &mut MemoryStore, request: &AddCheckpoint) -> Result<usize, WitnessError> {
    let mut batch = Batch::new();
    let staged = book().add_checkpoint(store, request, &mut batch)?;
    store.commit(batch)?;
    Ok(staged.cosign(store, &cosigner("northside"), TIME_S)?.len())
}

#[test]
fn two_logs_are_followed_in_one_store() {
    let mut store = MemoryStore::new();
    let mut worlds = [World::new(HUB), World::new(PEER)];
    for (which, from, to) in [(0, 0, 3), (1, 0, 40), (0, 3, 300), (1, 40, 41)] {
        let world = &mut worlds[which];
        world.append((from..to).map(entry).collect());
        assert_eq!(ask(&mut store, &request(world, from)).unwrap(), 2, "a line for each key");
        assert_eq!(book().witness(&store, world.log.origin()).unwrap().size(), to);
    }
    let [mut hub, _] = worlds;
    assert_eq!(ask(&mut store, &request(&hub, 300)).unwrap(), 2, "asked again about the latest head");
    assert_eq!(store.scan(WITNESSED_LOGS, "", None, 10).unwrap().len(), 2);
    // The lines are what the log can publish.
    let mut batch = Batch::new();
    let staged = book().add_checkpoint(&store, &request(&hub, 300), &mut batch).unwrap();
    let lines = staged.cosign(&store, &cosigner("northside"), TIME_S).unwrap();
    let all = [hub.log.checkpoint().note().signatures(), &lines].concat();
    let note = Note::new(hub.log.checkpoint().note().text(), all).unwrap().to_string();
    assert_eq!(hub.log.set_cosigned(note.as_bytes(), &keys()).unwrap().note().signatures().len(), 3);
}

/// A witness knows a log by its name and its key: a head of one log does not move another.
#[test]
fn a_head_of_one_log_is_not_one_of_the_other() {
    let mut store = MemoryStore::new();
    let mut hub = World::with_entries(3);
    ask(&mut store, &request(&hub, 0)).unwrap();
    hub.append(vec![entry(3)]);
    let stolen = request(&hub, 3).note.replacen("hub\n", "southside-log\n", 1);
    let error = ask(&mut store, &AddCheckpoint { old_size: 0, proof: vec![], note: stolen }).unwrap_err();
    assert_eq!((error.status(), error.to_string()), (403, format!("peer: not signed by {PEER}")));
    assert_eq!(book().witness(&store, PEER).unwrap().size(), 0);
}

#[test]
fn nothing_is_signed_before_it_is_durable() {
    let (mut store, hub) = (MemoryStore::new(), World::with_entries(3));
    let mut batch = Batch::new();
    let staged = book().add_checkpoint(&store, &request(&hub, 0), &mut batch).unwrap();
    let error = staged.cosign(&store, &cosigner("northside"), TIME_S).unwrap_err();
    assert!(matches!(error, WitnessError::NotCommitted { .. }), "{error}");
    assert_eq!((error.status(), book().witness(&store, HUB).unwrap().size()), (500, 0));

    // A crash between commit and answer: the request comes again and is answered.
    let staged = book().add_checkpoint(&store, &request(&hub, 0), &mut Batch::new()).unwrap();
    store.commit(batch).unwrap();
    drop(staged);
    let mut store = store.restarted();
    let error = ask(&mut store, &request(&hub, 0)).unwrap_err();
    assert_eq!((error.status(), error.latest_size()), (409, Some(3)));
    assert_eq!(ask(&mut store, &request(&hub, 3)).unwrap(), 2);
}

/// The race of the specification: two requests are checked against one state; the second commit gets a conflict, and
/// neither rolls the other back or is signed without being the latest.
#[test]
fn of_two_requests_at_once_one_gets_a_conflict() {
    let (mut store, mut hub) = (MemoryStore::new(), World::with_entries(3));
    ask(&mut store, &request(&hub, 0)).unwrap();
    hub.append(vec![entry(3)]);
    let small = request(&hub, 3);
    hub.append(vec![entry(4), entry(5)]);
    let large = request(&hub, 3);
    let (mut first, mut second) = (Batch::new(), Batch::new());
    let staged_small = book().add_checkpoint(&store, &small, &mut first).unwrap();
    let staged_large = book().add_checkpoint(&store, &large, &mut second).unwrap();
    store.commit(second).unwrap();
    assert!(matches!(store.commit(first), Err(StoreError::Conflict { table: "ledger_witnessed", .. })));
    let not_signed = staged_small.cosign(&store, &cosigner("northside"), TIME_S);
    assert!(matches!(not_signed, Err(WitnessError::NotCommitted { .. })));
    assert_eq!(staged_large.cosign(&store, &cosigner("northside"), TIME_S).unwrap().len(), 2);
    assert_eq!(book().witness(&store, HUB).unwrap().size(), 6);
}

#[test]
fn a_request_has_one_form() {
    let hub = World::with_entries(70);
    let good = request(&hub, 5);
    let body = good.to_string();
    assert_eq!(AddCheckpoint::parse(body.as_bytes()).unwrap(), good);
    assert!(body.starts_with("old 5\n"));
    let first = body.lines().nth(1).unwrap();
    let edits = [
        (body.replacen("old 5", "old 05", 1), "one form"),
        (body.replacen("old 5", "old +5", 1), "one form"),
        (body.replacen("old 5", "old -5", 1), "not a number"),
        (body.replacen("old 5", "old 18446744073709551616", 1), "not a number"),
        (body.replacen("old 5", "size 5", 1), "not the old size"),
        (body.replacen("old 5\n", "", 1), "not the old size"),
        (body.replacen('\n', "\r\n", 1), "not a number"),
        (body.replacen(first, "AAAA", 1), "not a hash"),
        (body.replacen(first, &format!("{first}\n{}", vec![first; 63].join("\n")), 1), "63 hashes"),
        (body.replace("\n\n", "\n"), "no empty line"),
        (format!("\u{feff}{body}"), "not the old size"),
        ("old 5\n".repeat(200_000), "too long"),
    ];
    for (edited, expected) in edits {
        let error = AddCheckpoint::parse(edited.as_bytes()).unwrap_err();
        assert!(error.to_string().contains(expected) && error.status() == 400, "{expected}: {error}");
    }
    assert!(AddCheckpoint::parse(b"old \xff\n\n").unwrap_err().to_string().contains("UTF-8"));
}

#[test]
fn a_book_has_each_log_once() {
    let log = |origin: &str| log_key(origin).verifier().clone();
    let refused = |logs: Vec<_>| WitnessBook::new(logs).unwrap_err().to_string();
    assert!(refused(vec![log(HUB), log(HUB)]).contains("two logs of one name"));
    assert!(refused(vec![keys()[0].clone()]).contains("not a log's"));
    assert!(refused((0..129).map(|n| log(&format!("log-{n}"))).collect()).contains("128 logs"));
}
