//! Writes a log with 300 entries, cosigned by three witnesses, and what belongs to it, for checks by other people's tools.
//!
//! `cargo run -p cohortium-ledger --example write_log -- DIR` writes
//!
//! | file | what it holds |
//! |---|---|
//! | `log/` | the log; its checkpoint is cosigned with all keys of all witnesses |
//! | `older` | a checkpoint of its first 200 entries |
//! | `fork/` | another log of 300 entries that the same key signed and nobody cosigned; it differs from entry 150 on |
//! | `policy` | the log, its witnesses, and that two of three must have cosigned |
//! | `N.tlog-proof` | the proof of entry N, which is the text `entry number N`, for a few N |
//!
//! and prints the verifier keys: the log's, then the witnesses'. The keys are made from fixed seeds and protect nothing.

use std::error::Error;
use std::path::Path;

use cohortium_ledger::{
    Cosigner, KeyKind, Log, LogPolicy, PolicyMember, SignedCheckpoint, SignerKey, VerifierKey, Witness,
};
use cohortium_store::{Batch, MemoryStore, Store as _};

const ENTRIES: usize = 300;
const FORKED_AT: usize = 150;
const OLDER: usize = 200;
const PROVEN: [u64; 6] = [0, 1, 128, 255, 256, 299];

fn main() -> Result<(), Box<dyn Error>> {
    let dir = std::env::args_os().nth(1).ok_or("say where to write: write_log DIR")?;
    let dir = Path::new(&dir);
    let log_key = SignerKey::from_seed("example-hub", KeyKind::Log, &[1; 32])?;
    let witnesses =
        [witness("first-hospital", 2, Some(12))?, witness("second-hospital", 3, Some(13))?, witness("third", 4, None)?];
    let members = witnesses.iter().map(as_member).collect::<Option<Vec<_>>>().ok_or("a witness without a key")?;
    let policy = LogPolicy::of_members(log_key.verifier(), &members, 2)?;

    let (mut log, older) = write(&dir.join("log"), &log_key, |number| format!("entry number {number}"))?;
    std::fs::write(dir.join("older"), older.to_string())?;
    write(&dir.join("fork"), &log_key, |number| {
        if number < FORKED_AT { format!("entry number {number}") } else { format!("another entry {number}") }
    })?;
    cosign(&mut log, &policy, &witnesses)?;
    std::fs::write(dir.join("policy"), policy.to_string())?;
    for index in PROVEN {
        let extra = if index % 2 == 0 { Vec::new() } else { log.entry(index)? };
        std::fs::write(dir.join(format!("{index}.tlog-proof")), log.prove(index, &extra)?.to_string())?;
    }
    println!("{}", log_key.verifier());
    policy.witnesses().for_each(|key| println!("{key}"));
    Ok(())
}

fn witness(name: &str, first: u8, second: Option<u8>) -> Result<Cosigner, Box<dyn Error>> {
    let second = second.map(|seed| SignerKey::from_seed(name, KeyKind::WitnessMlDsa44, &[seed; 32])).transpose()?;
    Ok(Cosigner::new(SignerKey::from_seed(name, KeyKind::Witness, &[first; 32])?, second)?)
}

fn as_member(witness: &Cosigner) -> Option<PolicyMember> {
    let mut keys = witness.verifiers().into_iter();
    let ed25519 = keys.next()?;
    Some(PolicyMember { name: ed25519.name().to_owned(), ed25519, ml_dsa_44: keys.next() })
}

/// Writes a log, and returns it with an older head.
fn write(
    dir: &Path,
    key: &SignerKey,
    entry: impl Fn(usize) -> String,
) -> Result<(Log, SignedCheckpoint), Box<dyn Error>> {
    let mut store = MemoryStore::new();
    let mut log = Log::open(dir, &store, key)?;
    let mut older = log.checkpoint().clone();
    for start in (0..ENTRIES).step_by(50) {
        let entries: Vec<Vec<u8>> = (start..start + 50).map(|number| entry(number).into_bytes()).collect();
        let mut batch = Batch::new();
        let staged = log.stage(&entries, &mut batch)?;
        store.commit(batch)?;
        let head = log.apply(staged, &store, key)?;
        if start + 50 == OLDER {
            older = head;
        }
    }
    Ok((log, older))
}

fn cosign(log: &mut Log, policy: &LogPolicy, witnesses: &[Cosigner]) -> Result<(), Box<dyn Error>> {
    let keys: Vec<VerifierKey> = policy.witnesses().cloned().collect();
    let mut head = log.checkpoint().clone();
    for (witness, time_s) in witnesses.iter().zip([1_700_000_000, 1_700_000_060, 1_700_000_120]) {
        let blank = Witness::new(head.log_key().clone());
        let pending = blank.add_checkpoint(0, &[], head.to_string().as_bytes())?;
        for line in pending.sign_with(witness, time_s)?.0 {
            head = head.with_cosignature(line, &keys)?;
        }
    }
    log.set_cosigned(head.to_string().as_bytes(), &keys)?;
    Ok(())
}
