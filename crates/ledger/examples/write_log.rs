//! Writes a log with 300 entries, cosigned by two witnesses, for checks by other people's tools.
//!
//! `cargo run -p cohortium-ledger --example write_log -- DIR` prints the verifier keys: the log's, then the witnesses'.
//! The keys are made from fixed seeds and protect nothing.

use cohortium_ledger::{KeyKind, Log, SignerKey};
use cohortium_store::{Batch, MemoryStore, Store as _};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let dir = std::env::args_os().nth(1).ok_or("say where to write: write_log DIR")?;
    let log_key = SignerKey::from_seed("example-hub", KeyKind::Log, &[1; 32])?;
    let witnesses = [
        SignerKey::from_seed("first-hospital", KeyKind::Witness, &[2; 32])?,
        SignerKey::from_seed("second-hospital", KeyKind::Witness, &[3; 32])?,
    ];
    let mut store = MemoryStore::new();
    let mut log = Log::open(dir.as_ref(), &store, &log_key)?;
    for start in (0..300).step_by(50) {
        let entries: Vec<Vec<u8>> = (start..start + 50).map(|n| format!("entry number {n}").into_bytes()).collect();
        let mut batch = Batch::new();
        let staged = log.stage(&entries, &mut batch)?;
        store.commit(batch)?;
        log.apply(staged, &store, &log_key)?;
    }
    let verifiers: Vec<_> = witnesses.iter().map(|witness| witness.verifier().clone()).collect();
    let mut head = log.checkpoint().clone();
    for (witness, time_s) in witnesses.iter().zip([1_700_000_000, 1_700_000_060]) {
        head = head.with_cosignature(witness.cosign(head.note().text(), time_s)?, &verifiers)?;
    }
    log.set_cosigned(head.to_string().as_bytes(), &verifiers)?;
    println!("{}", log_key.verifier());
    for verifier in &verifiers {
        println!("{verifier}");
    }
    Ok(())
}
