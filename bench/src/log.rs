//! `crates/ledger` on a disk: entries per second that are durable when counted, the tree of a large log, one proof.
//!
//! Durability is bought in waiting, so that wall time is stated beside processor time wherever something is flushed, and
//! how long the disk takes for one flush is stated first. The store is the one of a hub, SQLite with `synchronous=FULL`;
//! the directory is `target/bench-log` below the current one, which must be on a disk and not in memory.
//!
//! The log that is verified is put together from a store in memory: what is measured is reading it. Its entries are bytes;
//! what it takes to judge real ones is measured by `audit`.

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use chacha20::ChaCha20Rng;
use cohortium_ledger::{
    Cosigner, KeyKind, Log, LogPolicy, LogProof, PolicyMember, SignedCheckpoint, SignerKey, Witness,
    verify_directory_under,
};
use cohortium_store::{Batch, MemoryStore, SqliteStore, Store};
use rand_core::{Rng, SeedableRng};

use crate::clock::{median, timed};

/// Bytes of an entry: a permit is about so long.
const ENTRY_BYTES: usize = 700;
/// Entries appended for each size of batch.
const APPENDED: usize = 16_384;
/// Commits of one entry each, which is what a hub does with a task.
const SINGLE: usize = 400;
/// Commits of one entry each that share a head.
const TOGETHER: usize = 64;
/// Entries of the log that is audited.
const AUDITED: u64 = 1_000_000;
/// Times a log is audited.
const AUDITS: usize = 3;
/// Entries that are proven.
const PROVEN: usize = 500;
/// Members of the policy, each with two keys, of whom this many must have cosigned.
const MEMBERS: (usize, usize) = (10, 7);
/// Rounds of signing and verifying.
const SIGNED: u64 = 500;
/// When everything here is cosigned, in seconds since 1970.
const TIME_S: u64 = 1_790_000_000;

pub fn run() -> Result<(), String> {
    println!("{:<66}{:>12}{:>14}   goal", "", "wall", "processor");
    let home = Home::new()?;
    flush(home.path())?;
    for batch in [1, 64, 256] {
        append(home.path(), batch)?;
    }
    commit_alone(home.path())?;
    signatures()?;
    audit_and_prove(home.path())
}

/// A directory that goes away afterwards.
struct Home(PathBuf);

impl Home {
    fn new() -> Result<Home, String> {
        let path = PathBuf::from("target/bench-log");
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(words)?;
        Ok(Home(path))
    }

    fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// What the disk asks for one flush of a new file of 4 KiB: the unit in which everything durable is paid.
fn flush(home: &Path) -> Result<(), String> {
    let mut times = Vec::new();
    for number in 0..50 {
        let start = Instant::now();
        let mut file = File::create(home.join(format!("flush-{number}"))).map_err(words)?;
        file.write_all(&[7; 4096]).and_then(|()| file.sync_all()).map_err(words)?;
        times.push(start.elapsed().as_secs_f64());
    }
    row("the disk: a new file of 4 KiB, flushed, ms", format!("{:.2}", median(&times) * 1e3), "", "");
    Ok(())
}

/// Entries by the hub's way: one batch committed with synchronous=FULL, then tiles and checkpoint in their files.
fn append(home: &Path, batch: usize) -> Result<(), String> {
    let total = if batch == 1 { SINGLE } else { APPENDED };
    let home = home.join(format!("batch-{batch}"));
    std::fs::create_dir_all(&home).map_err(words)?;
    let (mut store, key) = (SqliteStore::open(&home.join("store")).map_err(words)?, log_key()?);
    let mut log = Log::open(&home.join("log"), &store, &key).map_err(words)?;
    let mut rng = ChaCha20Rng::from_seed([1; 32]);
    let batches: Vec<Vec<Vec<u8>>> = (0..total / batch).map(|_| entries(&mut rng, batch)).collect();
    let (mut walls, start) = (Vec::new(), Instant::now());
    let (done, seconds) = timed(|| {
        batches.iter().try_for_each(|entries| {
            let start = Instant::now();
            put(&mut log, &mut store, &key, entries)?;
            walls.push(start.elapsed().as_secs_f64());
            Ok::<(), String>(())
        })
    });
    done?;
    let wall = start.elapsed().as_secs_f64();
    let name = format!("{total} entries of {ENTRY_BYTES} bytes in batches of {batch}, entries/s");
    let goal = if batch == 1 { "" } else { ">= 2000 by the clock" };
    row(&name, format!("{:.0}", total as f64 / wall), &format!("{:.0}", total as f64 / seconds), goal);
    row("    the median batch, ms", format!("{:.2}", median(&walls) * 1e3), "", "");
    Ok(())
}

/// Entries that are committed one by one, as different callers bring them, and shown together: each is durable by a
/// single flush, and the files of the tree are paid once for all.
fn commit_alone(home: &Path) -> Result<(), String> {
    let home = home.join("alone");
    std::fs::create_dir_all(&home).map_err(words)?;
    let (mut store, key) = (SqliteStore::open(&home.join("store")).map_err(words)?, log_key()?);
    let mut log = Log::open(&home.join("log"), &store, &key).map_err(words)?;
    let all = entries(&mut ChaCha20Rng::from_seed([2; 32]), TOGETHER * 16);
    let start = Instant::now();
    let (done, seconds) = timed(|| {
        all.chunks(TOGETHER).try_for_each(|together| {
            for entry in together {
                let mut batch = Batch::new();
                let staged = log.stage(std::slice::from_ref(entry), &mut batch).map_err(words)?;
                store.commit(batch).map_err(words)?;
                log.adopt(staged, &store).map_err(words)?;
            }
            log.publish(&store, &key).map(drop).map_err(words)
        })
    });
    done?;
    let (total, wall) = (all.len() as f64, start.elapsed().as_secs_f64());
    let name = format!("{total} entries, each its own commit, {TOGETHER} to a head, entries/s");
    row(&name, format!("{:.0}", total / wall), &format!("{:.0}", total / seconds), "");
    Ok(())
}

fn put(log: &mut Log, store: &mut dyn Store, key: &SignerKey, entries: &[Vec<u8>]) -> Result<(), String> {
    let mut batch = Batch::new();
    let staged = log.stage(entries, &mut batch).map_err(words)?;
    store.commit(batch).map_err(words)?;
    log.apply(staged, store, key).map(drop).map_err(words)
}

/// What a cosignature of each kind costs.
fn signatures() -> Result<(), String> {
    let text =
        SignedCheckpoint::sign(cohortium_ledger::Checkpoint::new("hub", 7, [7; 32]).map_err(words)?, &log_key()?)
            .map_err(words)?;
    let text = text.note().text();
    for (name, kind) in [("Ed25519", KeyKind::Witness), ("ML-DSA-44", KeyKind::WitnessMlDsa44)] {
        let key = SignerKey::from_seed("northside", kind, &[3; 32]).map_err(words)?;
        let lines: Result<Vec<_>, _> = (0..SIGNED).map(|round| key.cosign(text, TIME_S + round)).collect();
        let lines = lines.map_err(words)?;
        let (signed, sign_s) = timed(|| (0..SIGNED).try_for_each(|round| key.cosign(text, TIME_S + round).map(drop)));
        signed.map_err(words)?;
        let (verified, verify_s) =
            timed(|| lines.iter().try_for_each(|line| key.verifier().verify(text, line).map(drop)));
        verified.map_err(words)?;
        let micros = |seconds: f64| format!("{:.0}", seconds / SIGNED as f64 * 1e6);
        row(&format!("{name}: a cosignature, µs"), "", &micros(sign_s), "");
        row(&format!("{name}: verifying one, µs"), "", &micros(verify_s), "");
    }
    Ok(())
}

fn audit_and_prove(home: &Path) -> Result<(), String> {
    let (dir, key) = (home.join("audited"), log_key()?);
    let (policy, witnesses) = members(&key)?;
    let mut store = MemoryStore::new();
    let mut log = Log::open(&dir, &store, &key).map_err(words)?;
    let mut rng = ChaCha20Rng::from_seed([2; 32]);
    while log.size() < AUDITED {
        let count = (AUDITED - log.size()).min(65_536);
        put(&mut log, &mut store, &key, &entries(&mut rng, usize::try_from(count).map_err(words)?))?;
    }
    drop(store);
    cosign(&mut log, &policy, &witnesses)?;
    prove(&log, &policy, &mut rng)?;
    let (mut walls, mut seconds) = (Vec::new(), Vec::new());
    for _ in 0..AUDITS {
        let start = Instant::now();
        let (audited, processor_s) = timed(|| verify_directory_under(&dir, &policy).map(|log| log.entries().len()));
        walls.push(start.elapsed().as_secs_f64());
        seconds.push(processor_s);
        if audited.map_err(words)? as u64 != AUDITED {
            return Err("the audit read another log".to_owned());
        }
    }
    let name = format!("verifying the log of {AUDITED} entries offline, s (median of {AUDITS})");
    row(&name, format!("{:.1}", median(&walls)), &format!("{:.1}", median(&seconds)), "< 20 s on one core");
    Ok(())
}

/// One entry's proof: made from the tiles on the disk, written as a file; read again and verified under the policy.
fn prove(log: &Log, policy: &LogPolicy, rng: &mut ChaCha20Rng) -> Result<(), String> {
    let (mut make, mut check, mut both, mut bytes) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for _ in 0..PROVEN {
        let index = rng.next_u64() % log.size();
        let start = Instant::now();
        let (file, make_s) = timed(|| log.prove(index, &[]).map(|proof| proof.to_string()));
        let file = file.map_err(words)?;
        let entry = log.entry(index).map_err(words)?;
        let (proven, check_s) = timed(|| LogProof::parse(file.as_bytes())?.verify(&entry, policy));
        proven.map_err(words)?;
        both.push(start.elapsed().as_secs_f64());
        make.push(make_s);
        check.push(check_s);
        bytes = file.len();
    }
    let millis = |times: &[f64]| format!("{:.2}", median(times) * 1e3);
    let (members, quorum) = MEMBERS;
    row(&format!("one of {AUDITED} entries: its proof from the tiles, ms"), "", &millis(&make), "");
    let name = format!("    verifying it ({quorum} of {members} members, two keys each, {bytes} bytes), ms");
    row(&name, "", &millis(&check), "");
    row("    both, and reading the entry, ms (medians)", millis(&both), "", "<= 5");
    Ok(())
}

fn members(log: &SignerKey) -> Result<(LogPolicy, Vec<Cosigner>), String> {
    let (mut members, mut witnesses) = (Vec::new(), Vec::new());
    for number in 0..MEMBERS.0 {
        let (name, seed) = (format!("hospital-{number}"), [u8::try_from(number + 10).map_err(words)?; 32]);
        let first = SignerKey::from_seed(&name, KeyKind::Witness, &seed).map_err(words)?;
        let second = SignerKey::from_seed(&name, KeyKind::WitnessMlDsa44, &seed).map_err(words)?;
        let (ed25519, ml_dsa_44) = (first.verifier().clone(), Some(second.verifier().clone()));
        witnesses.push(Cosigner::new(first, Some(second)).map_err(words)?);
        members.push(PolicyMember { name, ed25519, ml_dsa_44 });
    }
    let policy = LogPolicy::of_members(log.verifier(), &members, MEMBERS.1).map_err(words)?;
    Ok((policy, witnesses))
}

/// Publishes the head with the cosignatures of as many members as must have cosigned.
fn cosign(log: &mut Log, policy: &LogPolicy, witnesses: &[Cosigner]) -> Result<(), String> {
    let keys: Vec<_> = policy.witnesses().cloned().collect();
    let mut head = log.checkpoint().clone();
    for witness in witnesses.iter().take(MEMBERS.1) {
        let blank = Witness::new(head.log_key().clone());
        let pending = blank.add_checkpoint(0, &[], head.to_string().as_bytes()).map_err(words)?;
        for line in pending.sign_with(witness, TIME_S).map_err(words)?.0 {
            head = head.with_cosignature(line, &keys).map_err(words)?;
        }
    }
    log.set_cosigned(head.to_string().as_bytes(), &keys).map(drop).map_err(words)
}

fn entries(rng: &mut ChaCha20Rng, count: usize) -> Vec<Vec<u8>> {
    let entry = |_| {
        let mut entry = vec![0; ENTRY_BYTES];
        rng.fill_bytes(&mut entry);
        entry
    };
    (0..count).map(entry).collect()
}

fn log_key() -> Result<SignerKey, String> {
    SignerKey::from_seed("hub", KeyKind::Log, &[1; 32]).map_err(words)
}

pub fn row(name: &str, wall: impl Display, processor: &str, goal: &str) {
    println!("{name:<66}{wall:>12}{processor:>14}   {goal}");
}

pub fn words(error: impl Display) -> String {
    error.to_string()
}
