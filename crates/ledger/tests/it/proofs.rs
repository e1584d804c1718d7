//! One entry's proof as a file.

use cohortium_ledger::log_proof::EXTRA_BYTES_MAX;
use cohortium_ledger::{LogProof, ProofError};

use crate::world::{World, entry, policy};

#[test]
fn every_entry_is_proven_by_its_file() {
    let mut world = World::with_entries(300);
    world.cosign(&["northside", "westside"]);
    let policy = policy();
    for (index, extra) in [(0, "".as_bytes()), (1, b"x"), (255, b"\0\n\xff"), (256, b""), (299, b"entry")] {
        let proof = world.log.prove(index, extra).unwrap();
        let file = proof.to_string();
        let read = LogProof::parse(file.as_bytes()).unwrap();
        assert_eq!((&read, read.to_string(), read.extra()), (&proof, file.clone(), extra));
        let proven = read.verify(&entry(index), &policy).unwrap();
        assert_eq!((proven.index(), proven.head().checkpoint().size()), (index, 300));
        assert_eq!(proven.head().cosigned_by().len(), 3);
        assert!(matches!(read.verify(&entry(index + 1), &policy), Err(ProofError::NotIncluded { .. })));
        assert_eq!(file.starts_with("c2sp.org/tlog-proof@v1\nextra "), !extra.is_empty());
    }
    assert!(world.log.prove(300, b"").is_err());
    assert!(world.log.prove(0, &vec![0; EXTRA_BYTES_MAX]).is_ok());
    assert!(world.log.prove(0, &vec![0; EXTRA_BYTES_MAX + 1]).unwrap_err().to_string().contains("extra data"));
}

#[test]
fn a_log_of_one_entry_has_an_empty_path() {
    let mut world = World::with_entries(1);
    world.cosign(&["northside", "southside"]);
    let file = world.log.prove(0, b"").unwrap().to_string();
    assert!(file.starts_with("c2sp.org/tlog-proof@v1\nindex 0\n\nhub\n1\n"), "{file}");
    LogProof::parse(file.as_bytes()).unwrap().verify(&entry(0), &policy()).unwrap();
}
