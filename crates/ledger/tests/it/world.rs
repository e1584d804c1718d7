//! A hub with a log, and three hospitals that witness it: two with both kinds of keys, one with the first kind only.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use cohortium_ledger::{
    Checkpoint, Cosigner, Hash, KeyKind, Log, LogPolicy, Note, NoteSignature, PolicyMember, SignedCheckpoint,
    SignerKey, VerifierKey, Witness,
};
use cohortium_store::{Batch, MemoryStore, Store as _};
use sha2::{Digest as _, Sha256};

pub const HUB: &str = "hub";
pub const TIME_S: u64 = 1_790_000_000;

pub fn log_key(origin: &str) -> SignerKey {
    SignerKey::from_seed(origin, KeyKind::Log, &Sha256::digest(origin).into()).unwrap()
}

/// The keys of a hospital, made from its name.
pub fn cosigner(name: &str) -> Cosigner {
    let seed = |kind: &str| Sha256::digest(format!("{kind} {name}")).into();
    let first = SignerKey::from_seed(name, KeyKind::Witness, &seed("ed25519")).unwrap();
    let second = SignerKey::from_seed(name, KeyKind::WitnessMlDsa44, &seed("ml-dsa-44")).unwrap();
    Cosigner::new(first, (name != "westside").then_some(second)).unwrap()
}

pub fn member(name: &str) -> PolicyMember {
    let keys = cosigner(name).verifiers();
    PolicyMember { name: name.to_owned(), ed25519: keys[0].clone(), ml_dsa_44: keys.get(1).cloned() }
}

pub const MEMBERS: [&str; 3] = ["northside", "southside", "westside"];

/// Two of the three.
pub fn policy() -> LogPolicy {
    LogPolicy::of_members(log_key(HUB).verifier(), &MEMBERS.map(member), 2).unwrap()
}

pub fn keys() -> Vec<VerifierKey> {
    MEMBERS.iter().flat_map(|name| cosigner(name).verifiers()).collect()
}

pub fn entry(index: u64) -> Vec<u8> {
    format!("entry number {index}").into_bytes()
}

/// A directory that goes away with the test; in memory where there is such a place.
pub struct Scratch(PathBuf);

impl Scratch {
    pub fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("cohortium-ledger-it-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let memory = Path::new("/dev/shm");
        let path = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A log in a directory, with the store that decides what is in it.
pub struct World {
    pub scratch: Scratch,
    pub store: MemoryStore,
    pub log: Log,
}

impl World {
    pub fn new(origin: &str) -> World {
        let (scratch, store) = (Scratch::new(), MemoryStore::new());
        let log = Log::open(scratch.path(), &store, &log_key(origin)).unwrap();
        World { scratch, store, log }
    }

    /// The hub's log with so many entries.
    pub fn with_entries(count: u64) -> World {
        let mut world = World::new(HUB);
        world.append((0..count).map(entry).collect());
        world
    }

    pub fn append(&mut self, entries: Vec<Vec<u8>>) -> SignedCheckpoint {
        let mut batch = Batch::new();
        let staged = self.log.stage(&entries, &mut batch).unwrap();
        self.store.commit(batch).unwrap();
        self.log.apply(staged, &self.store, &log_key(self.log.origin())).unwrap()
    }

    /// Publishes the head with the cosignatures of these hospitals.
    pub fn cosign(&mut self, names: &[&str]) -> SignedCheckpoint {
        let head = cosigned(&self.log.checkpoint().without_cosignatures().unwrap(), names, TIME_S);
        self.log.set_cosigned(head.to_string().as_bytes(), &keys()).unwrap()
    }

    pub fn consistency(&self, old: u64) -> Vec<Hash> {
        self.log.consistency_proof(old, self.log.size()).unwrap()
    }
}

/// One line for each key of the hospital.
pub fn lines(text: &str, name: &str, time_s: u64) -> Vec<NoteSignature> {
    let log = log_key(text.lines().next().unwrap());
    let head = SignedCheckpoint::sign(Checkpoint::parse(text).unwrap(), &log).unwrap().to_string();
    let pending = Witness::new(log.verifier().clone()).add_checkpoint(0, &[], head.as_bytes()).unwrap();
    pending.sign_with(&cosigner(name), time_s).unwrap().0
}

/// The head with the cosignatures of these hospitals added.
pub fn cosigned(head: &SignedCheckpoint, names: &[&str], time_s: u64) -> SignedCheckpoint {
    let text = head.note().text();
    let mut all = head.note().signatures().to_vec();
    all.extend(names.iter().flat_map(|name| lines(text, name, time_s)));
    let note = Note::new(text, all).unwrap();
    SignedCheckpoint::open(note.to_string().as_bytes(), head.log_key()).unwrap()
}
