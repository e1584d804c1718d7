//! One suite for every implementation: what holds for memory must hold for SQLite, and the other way round.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use proptest::prelude::*;

use crate::*;

const ALPHA: Table = Table::new("alpha");
const BETA: Table = Table::new("beta");

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("cohortium-store-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn file(&self) -> PathBuf {
        self.0.join("home.sqlite")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn on_both(check: fn(&mut dyn Store)) {
    check(&mut MemoryStore::new());
    check(&mut Arc::new(Mutex::new(MemoryStore::new())));
    let scratch = Scratch::new();
    check(&mut SqliteStore::open(&scratch.file()).unwrap());
}

fn batch(fill: impl FnOnce(&mut Batch) -> &mut Batch) -> Batch {
    let mut batch = Batch::new();
    fill(&mut batch);
    batch
}

fn keys(found: Vec<(String, Vec<u8>)>) -> Vec<String> {
    found.into_iter().map(|(key, _)| key).collect()
}

#[test]
fn what_was_put_is_there_until_deleted() {
    on_both(|store| {
        store
            .commit(batch(|b| b.put(ALPHA, "k", vec![1]).put(BETA, "k", vec![2]).put(ALPHA, "empty", vec![])))
            .unwrap();
        assert_eq!(store.get(ALPHA, "k").unwrap(), Some(vec![1]));
        assert_eq!(store.get(BETA, "k").unwrap(), Some(vec![2]));
        assert_eq!(store.get(ALPHA, "empty").unwrap(), Some(vec![]));
        assert_eq!(store.get(ALPHA, "K").unwrap(), None);
        store.commit(batch(|b| b.put(ALPHA, "k", vec![3]).delete(ALPHA, "absent").delete(BETA, "k"))).unwrap();
        assert_eq!(store.get(ALPHA, "k").unwrap(), Some(vec![3]));
        assert_eq!(store.get(BETA, "k").unwrap(), None);
    });
}

#[test]
fn puts_and_deletes_happen_in_order() {
    on_both(|store| {
        store
            .commit(batch(|b| {
                b.put(ALPHA, "a", vec![1]).delete(ALPHA, "a").put(ALPHA, "b", vec![1]).put(ALPHA, "b", vec![2])
            }))
            .unwrap();
        assert_eq!(store.get(ALPHA, "a").unwrap(), None);
        assert_eq!(store.get(ALPHA, "b").unwrap(), Some(vec![2]));
    });
}

#[test]
fn a_failed_expectation_writes_nothing_and_names_the_record() {
    on_both(|store| {
        store.commit(batch(|b| b.put(ALPHA, "head", vec![1]))).unwrap();
        let attempts = [
            batch(|b| b.put(ALPHA, "x", vec![9]).expect(ALPHA, "head", vec![2])),
            batch(|b| b.put(ALPHA, "x", vec![9]).expect_absent(ALPHA, "head")),
            batch(|b| b.delete(ALPHA, "head").expect_absent(ALPHA, "head")),
        ];
        for attempt in attempts {
            let error = store.commit(attempt).unwrap_err();
            assert!(matches!(error, StoreError::Conflict { table: "alpha", ref key } if key == "head"), "{error}");
            assert_eq!(store.get(ALPHA, "x").unwrap(), None);
            assert_eq!(store.get(ALPHA, "head").unwrap(), Some(vec![1]));
        }
        let error = store.commit(batch(|b| b.expect(BETA, "none", vec![]))).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { table: "beta", .. }), "{error}");
    });
}

#[test]
fn expectations_that_hold_let_the_batch_through() {
    on_both(|store| {
        store.commit(batch(|b| b.expect_absent(ALPHA, "head").put(ALPHA, "head", vec![1]))).unwrap();
        store.commit(batch(|b| b.put(ALPHA, "head", vec![2]).expect(ALPHA, "head", vec![1]))).unwrap();
        assert_eq!(store.get(ALPHA, "head").unwrap(), Some(vec![2]));
        store.commit(Batch::new()).unwrap();
    });
}

#[test]
fn scan_is_ascending_bounded_and_resumable() {
    on_both(|store| {
        let names = ["a", "a/1", "a/2", "a/3", "a0", "b", "\u{e9}", "z"];
        store
            .commit(batch(|b| names.iter().rev().fold(b, |b, name| b.put(ALPHA, name, name.as_bytes().to_vec()))))
            .unwrap();
        store.commit(batch(|b| b.put(BETA, "a/9", vec![]))).unwrap();
        let scan = |prefix, after, limit| keys(store.scan(ALPHA, prefix, after, limit).unwrap());
        assert_eq!(scan("", None, 100), ["a", "a/1", "a/2", "a/3", "a0", "b", "z", "\u{e9}"]);
        assert_eq!(scan("a/", None, 100), ["a/1", "a/2", "a/3"]);
        assert_eq!(scan("a/", None, 2), ["a/1", "a/2"]);
        assert_eq!(scan("a/", Some("a/2"), 2), ["a/3"]);
        assert_eq!(scan("a/", Some("a"), 1), ["a/1"]);
        assert_eq!(scan("a/", Some("b"), 1), Vec::<String>::new());
        assert_eq!(scan("a", None, 0), Vec::<String>::new());
        assert_eq!(store.scan(ALPHA, "z", None, 1).unwrap(), [("z".to_owned(), b"z".to_vec())]);
    });
}

#[test]
fn limits_refuse_before_writing() {
    on_both(|store| {
        let long = "k".repeat(KEY_BYTES_MAX + 1);
        for key in ["", "nul\0", long.as_str()] {
            let error = store.commit(batch(|b| b.put(ALPHA, "ok", vec![]).put(ALPHA, key, vec![]))).unwrap_err();
            assert!(matches!(error, StoreError::Limit { .. }), "{error}");
        }
        let error = store.commit(batch(|b| b.put(ALPHA, "big", vec![0; VALUE_BYTES_MAX + 1]))).unwrap_err();
        assert!(matches!(error, StoreError::Limit { .. }), "{error}");
        let many = batch(|b| (0..=BATCH_OPERATIONS_MAX).fold(b, |b, _| b.delete(ALPHA, "k")));
        assert!(matches!(store.commit(many).unwrap_err(), StoreError::Limit { .. }));
        assert_eq!(store.get(ALPHA, "ok").unwrap(), None);
        store.commit(batch(|b| b.put(ALPHA, &"k".repeat(KEY_BYTES_MAX), vec![]))).unwrap();
    });
}

#[test]
fn sequence_keys_sort_as_numbers() {
    let numbers = [0, 1, 9, 10, 255, 256, u64::from(u32::MAX), u64::MAX];
    let keys: Vec<String> = numbers.iter().map(|number| sequence_key(*number)).collect();
    assert!(keys.is_sorted());
    assert!(keys.iter().all(|key| key.len() == 16));
    assert_eq!(sequence_key(26), "000000000000001a");
}

#[test]
fn a_simulated_crash_keeps_what_was_committed() {
    let mut store = MemoryStore::new();
    store.crash_after(1);
    store.commit(batch(|b| b.put(ALPHA, "k", vec![1]))).unwrap();
    for _ in 0..2 {
        let error = store.commit(batch(|b| b.put(ALPHA, "k", vec![2]))).unwrap_err();
        assert!(matches!(error, StoreError::Crashed));
    }
    let mut again = store.restarted();
    assert_eq!(again.get(ALPHA, "k").unwrap(), Some(vec![1]));
    again.commit(batch(|b| b.put(ALPHA, "k", vec![3]))).unwrap();
    assert_eq!(store.get(ALPHA, "k").unwrap(), Some(vec![1]), "a copy of a disk is not the disk");
}

#[test]
fn a_handle_keeps_the_disk_when_the_machine_is_gone() {
    let disk = Arc::new(Mutex::new(MemoryStore::new()));
    let mut machine: Box<dyn Store> = Box::new(Arc::clone(&disk));
    machine.commit(batch(|b| b.put(ALPHA, "k", vec![1]))).unwrap();
    drop(machine);
    assert_eq!(disk.get(ALPHA, "k").unwrap(), Some(vec![1]));
}

#[test]
fn a_reopened_file_has_every_record() {
    let scratch = Scratch::new();
    let mut store = SqliteStore::open(&scratch.file()).unwrap();
    for number in 0..50u64 {
        store.commit(batch(|b| b.put(ALPHA, &sequence_key(number), number.to_be_bytes().to_vec()))).unwrap();
    }
    let before = store.scan(ALPHA, "", None, 100).unwrap();
    drop(store);
    let store = SqliteStore::open(&scratch.file()).unwrap();
    assert_eq!(before.len(), 50);
    assert_eq!(store.scan(ALPHA, "", None, 100).unwrap(), before);
}

/// Copying the files of an open store is what a power cut leaves behind.
#[test]
fn files_copied_at_any_commit_open_with_exactly_the_committed_records() {
    let scratch = Scratch::new();
    let mut store = SqliteStore::open(&scratch.file()).unwrap();
    for number in 0..5u64 {
        store.commit(batch(|b| b.put(ALPHA, &sequence_key(number), vec![7; 5000]))).unwrap();
        let copy = Scratch::new();
        for file in std::fs::read_dir(&scratch.0).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), copy.0.join(file.file_name())).unwrap();
        }
        let found = SqliteStore::open(&copy.file()).unwrap().scan(ALPHA, "", None, 100).unwrap();
        assert_eq!(found, store.scan(ALPHA, "", None, 100).unwrap());
        assert_eq!(found.len() as u64, number + 1);
    }
}

#[test]
fn one_home_has_one_owner() {
    let scratch = Scratch::new();
    let owner = SqliteStore::open(&scratch.file()).unwrap();
    let error = SqliteStore::open(&scratch.file()).err().unwrap();
    assert!(matches!(error, StoreError::InUse { .. }), "{error}");
    assert!(error.to_string().contains("another process has this home open"));
    drop(owner);
    SqliteStore::open(&scratch.file()).unwrap();
}

#[test]
fn a_newer_or_foreign_file_is_refused_and_left_alone() {
    let scratch = Scratch::new();
    drop(SqliteStore::open(&scratch.file()).unwrap());
    rusqlite::Connection::open(scratch.file()).unwrap().pragma_update(None, "user_version", 2).unwrap();
    let error = SqliteStore::open(&scratch.file()).err().unwrap();
    assert!(matches!(error, StoreError::NewerFormat { found: 2, known: 1, .. }), "{error}");

    let foreign = Scratch::new();
    rusqlite::Connection::open(foreign.file()).unwrap().execute_batch("CREATE TABLE other (x)").unwrap();
    assert!(matches!(SqliteStore::open(&foreign.file()).err().unwrap(), StoreError::NotAStore { .. }));

    let text = Scratch::new();
    std::fs::write(text.file(), "not a database, but long enough that nobody takes it for an empty one").unwrap();
    assert!(matches!(SqliteStore::open(&text.file()).err().unwrap(), StoreError::NotAStore { .. }));
    assert!(matches!(SqliteStore::open(&text.0.join("no/such")).err().unwrap(), StoreError::Io { .. }));
}

#[cfg(unix)]
#[test]
fn nobody_else_may_read_the_files() {
    use std::os::unix::fs::PermissionsExt;
    let scratch = Scratch::new();
    std::fs::write(scratch.file(), "").unwrap();
    std::fs::set_permissions(scratch.file(), std::fs::Permissions::from_mode(0o644)).unwrap();
    let mut store = SqliteStore::open(&scratch.file()).unwrap();
    store.commit(batch(|b| b.put(ALPHA, "k", vec![1]))).unwrap();
    let modes: Vec<u32> = std::fs::read_dir(&scratch.0)
        .unwrap()
        .map(|file| file.unwrap().metadata().unwrap().permissions().mode() & 0o777)
        .collect();
    assert!(modes.len() >= 2, "the file and its write-ahead log");
    assert!(modes.iter().all(|mode| *mode == 0o600), "{modes:?}");
}

fn any_key() -> impl Strategy<Value = String> {
    prop::sample::select(vec!["a", "ab", "b", "a/0", "a/1", "\u{e9}", ""]).prop_map(str::to_owned)
}

fn any_operation() -> impl Strategy<Value = Operation> {
    let table = prop::sample::select(vec![ALPHA, BETA]);
    let value = prop::collection::vec(0u8..2, 0..2);
    (0..8u8, table, any_key(), value).prop_map(|(kind, table, key, value)| match kind {
        0..=3 => Operation::Put { table, key, value },
        4 | 5 => Operation::Delete { table, key },
        6 => Operation::ExpectAbsent { table, key },
        _ => Operation::Expect { table, key, value },
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn memory_and_sqlite_agree(
        batches in prop::collection::vec(prop::collection::vec(any_operation(), 0..5), 0..20),
        prefix in any_key(), after in prop::option::of(any_key()), limit in 0usize..6,
    ) {
        let scratch = Scratch::new();
        let (mut memory, mut sqlite) = (MemoryStore::new(), SqliteStore::open(&scratch.file()).unwrap());
        for operations in batches {
            let batch = Batch { operations, ..Batch::default() };
            let (left, right) = (memory.commit(batch.clone()), sqlite.commit(batch));
            prop_assert_eq!(left.map_err(|e| e.to_string()), right.map_err(|e| e.to_string()));
        }
        for table in [ALPHA, BETA] {
            prop_assert_eq!(memory.scan(table, "", None, 100).unwrap(), sqlite.scan(table, "", None, 100).unwrap());
            let after = after.as_deref();
            prop_assert_eq!(memory.scan(table, &prefix, after, limit).unwrap(), sqlite.scan(table, &prefix, after, limit).unwrap());
        }
    }
}

#[test]
fn a_reader_sees_what_is_committed_and_cannot_write() {
    let dir = Scratch::new();
    let path = dir.file();
    let mut writer = SqliteStore::open(&path).unwrap();
    let mut batch = Batch::new();
    batch.put(Table::new("t"), "k", b"v".to_vec());
    writer.commit(batch.clone()).unwrap();
    let mut reader = SqliteStore::open_read_only(&path).unwrap();
    assert_eq!(reader.get(Table::new("t"), "k").unwrap().as_deref(), Some(&b"v"[..]));
    assert!(reader.commit(batch).is_err());
    assert!(SqliteStore::open_read_only(&path.with_extension("none")).is_err());
}

#[test]
fn what_was_forgotten_is_in_no_file() {
    let scratch = Scratch::new();
    let mut store = SqliteStore::open(&scratch.file()).unwrap();
    let secret = b"a-secret-of-a-round-that-is-over";
    let mut batch = Batch::new();
    batch.put(ALPHA, "run", secret.to_vec());
    store.commit(batch).unwrap();
    let is_in_a_file = || {
        std::fs::read_dir(scratch.file().parent().unwrap())
            .unwrap()
            .any(|file| std::fs::read(file.unwrap().path()).unwrap().windows(secret.len()).any(|w| w == secret))
    };
    assert!(is_in_a_file(), "the instrument finds it while it is there");
    let mut batch = Batch::new();
    batch.put(ALPHA, "run", b"over".to_vec());
    batch.forget_overwritten();
    store.commit(batch).unwrap();
    assert!(!is_in_a_file());
}
