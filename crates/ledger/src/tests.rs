//! What others computed, what a crash leaves, and what an adversary would change.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cohortium_store::{Batch, MemoryStore, Store, StoreError, Table};
use data_encoding::HEXLOWER;
use proptest::prelude::*;
use serde_json::Value;

use crate::files::Files;
use crate::log::{HEADS, LEAVES};
use crate::tile::{Tile, TileKind};
use crate::*;

// ---------------------------------------------------------------- notes

/// Two keys of one name have the same id, found among some 2^16 of each kind. The one that stands first claimed the other's
/// line, and the note was refused.
#[test]
fn repro_a_line_is_by_the_key_that_verifies_it() {
    let name = "north.example/witness";
    let seed = std::array::from_fn(|place| place.checked_sub(24).map_or(0, |place| 14_734u64.to_be_bytes()[place]));
    let signer = SignerKey::from_seed(name, KeyKind::Witness, &seed).unwrap();
    let mut bytes = [0; 1312];
    bytes[1304..].copy_from_slice(&87_031u64.to_be_bytes());
    let other = VerifierKey::new(name, KeyKind::WitnessMlDsa44, &bytes).unwrap();
    assert_eq!(other.id(), signer.verifier().id());
    let text = "hub.example/log\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n";
    let note = Note::new(text, vec![signer.cosign(text, 7).unwrap()]).unwrap();
    for (keys, place) in
        [([other.clone(), signer.verifier().clone()], 1), ([signer.verifier().clone(), other.clone()], 0)]
    {
        assert_eq!(note.verify(&keys), Ok(vec![(place, Some(7))]));
    }
    assert!(matches!(note.verify(&[other]), Err(NoteError::BadSignature { .. })));
}

// ---------------------------------------------------------------- vectors

fn vectors(file: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vectors/ledger").join(file);
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn list<'a>(value: &'a Value, name: &str) -> &'a Vec<Value> {
    let list = value[name].as_array().unwrap();
    assert!(!list.is_empty(), "{name}");
    list
}

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap()
}

fn hex(value: &Value) -> Vec<u8> {
    HEXLOWER.decode(value.as_str().unwrap().as_bytes()).unwrap()
}

fn hash(value: &Value) -> Hash {
    hex(value).try_into().unwrap()
}

fn hashes(value: &Value) -> Vec<Hash> {
    value.as_array().unwrap().iter().map(hash).collect()
}

fn keys(value: &Value) -> Vec<VerifierKey> {
    list(value, "vkeys").iter().map(|vkey| VerifierKey::parse(vkey.as_str().unwrap()).unwrap()).collect()
}

fn assert_error<T, E: std::fmt::Display>(result: Result<T, E>, case: &Value) {
    let defect = text(case, "defect");
    let error = result.err().unwrap_or_else(|| panic!("{defect} was accepted")).to_string();
    let expected = case["error"].as_str().unwrap_or_default();
    assert!(error.contains(expected), "{defect}: {error}");
}

// ---------------------------------------------------------------- tree

/// The tree as the RFC defines it, recursively over all leaves: slow, and written without looking at `tree`.
fn naive_root(leaves: &[Hash]) -> Hash {
    match leaves {
        [] => tree::empty_root(),
        [leaf] => *leaf,
        _ => {
            let half = leaves.len().next_power_of_two() / 2;
            tree::node_hash(&naive_root(&leaves[..half]), &naive_root(&leaves[half..]))
        }
    }
}

fn leaves(count: u64) -> Vec<Hash> {
    (0..count).map(|index| tree::leaf_hash(&entry(index))).collect()
}

fn nodes(leaves: &[Hash]) -> impl FnMut(u32, u64) -> Result<Hash, TreeError> {
    move |level, index| {
        let width = 1usize << level;
        let start = usize::try_from(index).unwrap() * width;
        Ok(naive_root(&leaves[start..start + width]))
    }
}

#[test]
fn roots_and_proofs_are_those_of_the_reference_tree() {
    let merkle = vectors("merkle.json");
    let leaves: Vec<Hash> = list(&merkle, "leaves").iter().map(|leaf| tree::leaf_hash(&hex(leaf))).collect();
    let roots = hashes(&merkle["roots"]);
    let mut frontier = Frontier::new();
    for (size, root) in roots.iter().enumerate() {
        assert_eq!(frontier.root(), *root, "{size}");
        let _ = leaves.get(size).map(|leaf| frontier.append(*leaf).unwrap());
    }
    for case in list(&merkle, "inclusion") {
        let (index, size) = (case["index"].as_u64().unwrap(), case["size"].as_u64().unwrap());
        let proof = tree::inclusion_proof(index, size, &mut nodes(&leaves)).unwrap();
        assert_eq!(proof, hashes(&case["proof"]), "{case}");
        tree::verify_inclusion(
            &leaves[usize::try_from(index).unwrap()],
            index,
            size,
            &proof,
            &roots[usize::try_from(size).unwrap()],
        )
        .unwrap();
    }
    for case in list(&merkle, "consistency") {
        let (old, new) = (case["old"].as_u64().unwrap(), case["new"].as_u64().unwrap());
        let proof = tree::consistency_proof(old, new, &mut nodes(&leaves)).unwrap();
        assert_eq!(proof, hashes(&case["proof"]), "{case}");
        tree::verify_consistency(
            old,
            new,
            &roots[usize::try_from(old).unwrap()],
            &roots[usize::try_from(new).unwrap()],
            &proof,
        )
        .unwrap();
    }
}

#[test]
fn bad_proofs_are_refused_for_their_defect() {
    let bad = vectors("merkle_bad.json");
    for case in list(&bad, "inclusion") {
        let (index, size) = (case["index"].as_u64().unwrap(), case["size"].as_u64().unwrap());
        assert_error(
            tree::verify_inclusion(&hash(&case["leaf"]), index, size, &hashes(&case["proof"]), &hash(&case["root"])),
            case,
        );
    }
    for case in list(&bad, "consistency") {
        let (old, new) = (case["old"].as_u64().unwrap(), case["new"].as_u64().unwrap());
        let (old_root, new_root) = (hash(&case["old_root"]), hash(&case["new_root"]));
        assert_error(tree::verify_consistency(old, new, &old_root, &new_root, &hashes(&case["proof"])), case);
    }
}

#[test]
fn all_proofs_up_to_seventy_hold_and_only_where_they_belong() {
    let leaves = leaves(70);
    let roots: Vec<Hash> = (0..=70).map(|size| naive_root(&leaves[..size])).collect();
    for size in 0..=70u64 {
        let root = roots[usize::try_from(size).unwrap()];
        let frontier = Frontier::read(size, &mut nodes(&leaves)).unwrap();
        assert_eq!(frontier.root(), root);
        assert_eq!(Frontier::from_parts(size, frontier.roots().to_vec()).unwrap(), frontier);
        for index in 0..size {
            let leaf = &leaves[usize::try_from(index).unwrap()];
            let proof = tree::inclusion_proof(index, size, &mut nodes(&leaves)).unwrap();
            tree::verify_inclusion(leaf, index, size, &proof, &root).unwrap();
            for other in (0..size).filter(|other| *other != index) {
                tree::verify_inclusion(leaf, other, size, &proof, &root).unwrap_err();
            }
        }
        for old in 0..=size {
            let old_root = &roots[usize::try_from(old).unwrap()];
            let proof = tree::consistency_proof(old, size, &mut nodes(&leaves)).unwrap();
            tree::verify_consistency(old, size, old_root, &root, &proof).unwrap();
            for other in (0..=size).filter(|other| *other != old) {
                let lie = tree::verify_consistency(old, size, &roots[usize::try_from(other).unwrap()], &root, &proof);
                assert!(lie.is_err(), "{other} passed for {old} of {size}");
            }
        }
    }
    assert!(tree::inclusion_proof(7, 7, &mut nodes(&leaves)).is_err());
    assert!(tree::consistency_proof(8, 7, &mut nodes(&leaves)).is_err());
    assert!(Frontier::from_parts(7, vec![tree::empty_root(); 2]).is_err());
    assert!(Frontier::from_parts(u64::MAX, vec![tree::empty_root(); 64]).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn verifiers_take_anything(
        index in any::<u64>(), size in any::<u64>(), proof in prop::collection::vec(any::<[u8; 32]>(), 0..70), leaf in any::<[u8; 32]>(),
    ) {
        prop_assert!(tree::verify_inclusion(&leaf, index, size, &proof, &tree::empty_root()).is_err());
        if index != 0 {
            prop_assert!(tree::verify_consistency(index, size, &leaf, &tree::empty_root(), &proof).is_err());
        }
    }

    #[test]
    fn parsers_take_anything(bytes in prop::collection::vec(any::<u8>(), 0..300), words in "[\\n — a+/=0-9A-Z]{0,80}") {
        for bytes in [bytes.as_slice(), words.as_bytes()] {
            if let Ok(note) = Note::parse(bytes) {
                prop_assert_eq!(note.to_string().into_bytes(), bytes.to_vec());
            }
            for width in [0, 1, 256, 1000] {
                if let Some(entries) = tile::parse_bundle(bytes, width) {
                    prop_assert_eq!(tile::encode_bundle(&entries).unwrap(), bytes);
                }
            }
        }
        let _ = (Checkpoint::parse(&words), VerifierKey::parse(&words), NoteSignature::parse(&words), Tile::parse(&words));
    }
}

// ---------------------------------------------------------------- notes, checkpoints, tiles

#[test]
fn notes_of_others_are_read_and_verified_alike() {
    for case in list(&vectors("notes.json"), "notes") {
        let note = Note::parse(text(case, "note").as_bytes()).unwrap();
        assert_eq!(note.to_string(), text(case, "note"));
        let expected: Vec<(usize, Option<u64>)> = serde_json::from_value(case["signed"].clone()).unwrap();
        assert_eq!(note.verify(&keys(case)).unwrap(), expected, "{}", text(case, "name"));
    }
}

#[test]
fn the_specification_example_of_a_cosigned_checkpoint_is_read() {
    let example = &vectors("notes.json")["specification_cosignature"];
    let note = Note::parse(text(example, "note").as_bytes()).unwrap();
    let checkpoint = Checkpoint::parse(note.text()).unwrap();
    assert_eq!((checkpoint.origin(), checkpoint.size()), (text(example, "origin"), example["size"].as_u64().unwrap()));
    assert_eq!(note.signatures()[0].bytes().len(), 64);
    let cosignature = note.signatures()[1].bytes();
    assert_eq!(cosignature.len(), 72);
    assert_eq!(u64::from_be_bytes(cosignature[..8].try_into().unwrap()), example["time_s"].as_u64().unwrap());
}

#[test]
fn our_signatures_are_those_of_the_independent_implementation() {
    let notes = vectors("notes.json");
    let expected = list(&notes, "notes").iter().find(|case| text(case, "name") == "two_cosignatures").unwrap();
    let body = Note::parse(text(expected, "note").as_bytes()).unwrap().text().to_owned();
    let lines = vec![
        log_key().sign(&body).unwrap(),
        witness_key(0).cosign(&body, 1_790_000_000).unwrap(),
        witness_key(1).cosign(&body, 1_790_000_060).unwrap(),
    ];
    assert_eq!(Note::new(&body, lines).unwrap().to_string(), text(expected, "note"));
    assert_eq!(keys(expected), [witness_key(1), log_key(), witness_key(0)].map(|key| key.verifier().clone()));
}

#[test]
fn bad_notes_are_refused_for_their_defect() {
    for case in list(&vectors("notes_bad.json"), "notes") {
        let verified = Note::parse(text(case, "note").as_bytes()).and_then(|note| note.verify(&keys(case)));
        assert_error(verified, case);
    }
    let long = format!("{}\n\n\u{2014} a AAAAAAA=\n", "x".repeat(note::NOTE_BYTES_MAX));
    assert!(matches!(Note::parse(long.as_bytes()), Err(NoteError::TooLarge { .. })));
    assert_eq!(Note::parse(b"\xff\n\n"), Err(NoteError::Malformed("not UTF-8")));
}

#[test]
fn bad_verifier_keys_are_refused() {
    for case in list(&vectors("vkeys_bad.json"), "vkeys") {
        assert_error(VerifierKey::parse(text(case, "vkey")), case);
    }
    let vkey = log_key().verifier().to_string();
    assert_eq!(VerifierKey::parse(&vkey).unwrap().to_string(), vkey);
}

#[test]
fn a_key_does_only_what_it_is_for() {
    let wrong = |result: Result<NoteSignature, NoteError>| matches!(result, Err(NoteError::WrongKind { .. }));
    assert!(wrong(witness_key(0).sign("text\n")));
    assert!(wrong(log_key().cosign("text\n", 1)));
    assert!(matches!(log_key().sign("no newline"), Err(NoteError::Malformed(_))));
    assert!(matches!(witness_key(0).cosign("text\n", 1 << 63), Err(NoteError::Time(_))));
    assert!(SignerKey::from_seed("a b", KeyKind::Log, &[1; 32]).is_err());
}

#[test]
fn checkpoints_have_one_form() {
    let checkpoints = vectors("checkpoints.json");
    for case in list(&checkpoints, "good") {
        let checkpoint = Checkpoint::parse(text(case, "text")).unwrap();
        assert_eq!(checkpoint.to_string(), text(case, "text"));
        assert_eq!((checkpoint.origin(), checkpoint.size()), (text(case, "origin"), case["size"].as_u64().unwrap()));
        assert_eq!(*checkpoint.root(), hash(&case["root"]));
    }
    for case in list(&checkpoints, "bad") {
        assert_error(Checkpoint::parse(text(case, "text")), case);
    }
}

#[test]
fn a_quorum_counts_each_witness_once_and_the_log_never() {
    let head = Checkpoint::new(ORIGIN, 3, naive_root(&leaves(3))).unwrap();
    let alone = SignedCheckpoint::sign(head, &log_key()).unwrap();
    let witnesses = witnesses(3);
    let cosign = |signed: &SignedCheckpoint, number: u8| {
        signed
            .with_cosignature(
                witness_key(number).cosign(signed.note().text(), 100 + u64::from(number)).unwrap(),
                &witnesses,
            )
            .unwrap()
    };
    let one = cosign(&alone, 1);
    let two = cosign(&cosign(&one, 1), 2);
    assert_eq!(two.note().signatures().len(), 3, "a second cosignature replaces the first");
    let quorum = two.verify_quorum(&witnesses, 2).unwrap();
    let found: Vec<(&str, u64)> = quorum.cosigned_by().iter().map(|by| (by.witness.name(), by.time_s)).collect();
    assert_eq!(found, [("south.example/witness", 101), ("west.example/witness", 102)]);
    assert_eq!(quorum.checkpoint(), two.checkpoint());
    assert_eq!(two.verify_quorum(&witnesses, 3), Err(CheckpointError::NoQuorum { needed: 3, found: 2 }));
    assert_eq!(two.without_cosignatures().unwrap(), alone);

    let unusable = |list: Vec<VerifierKey>| matches!(two.verify_quorum(&list, 1), Err(CheckpointError::Witnesses(_)));
    let other_name = VerifierKey::new("other", KeyKind::Witness, witnesses[1].public_key()).unwrap();
    let own_key = VerifierKey::new("other", KeyKind::Witness, log_key().verifier().public_key()).unwrap();
    assert!(unusable(vec![witnesses[1].clone(), witnesses[1].clone()]));
    assert!(unusable(vec![witnesses[1].clone(), other_name]));
    assert!(unusable(vec![own_key]));
    assert!(unusable(vec![log_key().verifier().clone()]));
    assert!(matches!(two.verify_quorum(&witnesses, 0), Err(CheckpointError::Witnesses(_))));
    assert!(matches!(two.demand_known_signers(&witnesses[..2]), Err(CheckpointError::UnknownSigner { .. })));

    let stranger = SignerKey::from_seed("x", KeyKind::Witness, &[9; 32]).unwrap().cosign(two.note().text(), 1).unwrap();
    assert!(matches!(two.with_cosignature(stranger, &witnesses), Err(CheckpointError::UnknownSigner { .. })));
    let other_log = SignerKey::from_seed("hub.example/other", KeyKind::Log, &[1; 32]).unwrap();
    assert!(matches!(
        SignedCheckpoint::sign(two.checkpoint().clone(), &other_log),
        Err(CheckpointError::WrongOrigin { .. })
    ));
    let same_name = SignerKey::from_seed(ORIGIN, KeyKind::Log, &[8; 32]).unwrap();
    let opened = SignedCheckpoint::open(two.to_string().as_bytes(), same_name.verifier());
    assert!(matches!(opened, Err(CheckpointError::Note(NoteError::NotSigned { .. }))));
}

#[test]
fn tiles_have_the_names_and_bytes_of_the_specification() {
    let tiles = vectors("tiles.json");
    for case in list(&tiles, "paths") {
        let level = u8::try_from(case["level"].as_u64().unwrap()).unwrap();
        let kind = if text(case, "kind") == "entries" { TileKind::Entries } else { TileKind::Hashes(level) };
        let width = u16::try_from(case["width"].as_u64().unwrap()).unwrap();
        let tile = Tile::new(kind, text(case, "index").parse().unwrap(), width).unwrap();
        assert_eq!(tile.path(), text(case, "path"));
        assert_eq!(Tile::parse(text(case, "path")), Some(tile));
    }
    for case in list(&tiles, "bad_paths") {
        assert_eq!(Tile::parse(text(case, "path")), None, "{}", text(case, "defect"));
    }
    for case in list(&tiles, "bundles") {
        let entries: Vec<Vec<u8>> = list(case, "entries").iter().map(hex).collect();
        assert_eq!(tile::encode_bundle(&entries).unwrap(), hex(&case["bytes"]));
        assert_eq!(tile::parse_bundle(&hex(&case["bytes"]), u16::try_from(entries.len()).unwrap()).unwrap(), entries);
    }
    for case in list(&tiles, "bad_bundles") {
        let width = u16::try_from(case["width"].as_u64().unwrap()).unwrap();
        assert_eq!(tile::parse_bundle(&hex(&case["bytes"]), width), None, "{}", text(case, "defect"));
    }
    assert_eq!(tile::encode_bundle(&[vec![0; 65_536]]), None);
}

#[test]
fn trees_have_the_tiles_of_the_specification() {
    for case in list(&vectors("tiles.json"), "trees") {
        let size = case["size"].as_u64().unwrap();
        let mut expected = Vec::new();
        for (row, counts) in case["rows"].as_object().unwrap() {
            let kind = row.parse().map_or(TileKind::Entries, TileKind::Hashes);
            let (full, partial) = (counts[0].as_u64().unwrap(), u16::try_from(counts[1].as_u64().unwrap()).unwrap());
            expected.extend((0..full).map(|index| Tile::new(kind, index, 256).unwrap()));
            expected.extend(Tile::new(kind, full, partial));
        }
        let mut found: Vec<Tile> = tile::tiles(size).collect();
        let mut partial: Vec<Tile> = found.iter().copied().filter(Tile::is_partial).collect();
        let mut listed: Vec<Tile> = tile::partial_tiles(size).collect();
        for tiles in [&mut expected, &mut found, &mut partial, &mut listed] {
            tiles.sort();
        }
        assert_eq!(found, expected, "{size}");
        assert_eq!(partial, listed, "{size}");
    }
    assert_eq!(
        tile::tiles(u64::MAX).take(1000).count(),
        1000,
        "a lie about the size costs nothing until it is followed"
    );
}

// ---------------------------------------------------------------- a log on disk

const ORIGIN: &str = "hub.example/log";
const ACCOUNT: Table = Table::new("account");

fn log_key() -> SignerKey {
    SignerKey::from_seed(ORIGIN, KeyKind::Log, &[1; 32]).unwrap()
}

fn witness_key(number: u8) -> SignerKey {
    let name = ["north.example/witness", "south.example/witness", "west.example/witness"][usize::from(number)];
    SignerKey::from_seed(name, KeyKind::Witness, &[number + 2; 32]).unwrap()
}

fn witnesses(count: u8) -> Vec<VerifierKey> {
    (0..count).map(|number| witness_key(number).verifier().clone()).collect()
}

fn entry(index: u64) -> Vec<u8> {
    format!("entry {index}").into_bytes()
}

fn entries(from: u64, count: u64) -> Vec<Vec<u8>> {
    (from..from + count).map(entry).collect()
}

/// A directory that goes away with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Scratch {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let name = format!("cohortium-ledger-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        // In memory where there is such a place: crashes are simulated here, the disk only makes them slow.
        let memory = Path::new("/dev/shm");
        let path = if memory.is_dir() { memory.to_owned() } else { std::env::temp_dir() }.join(name);
        std::fs::create_dir_all(&path).unwrap();
        Scratch(path)
    }

    fn log(&self) -> PathBuf {
        self.0.join("log")
    }

    fn copy_log(&self) -> Scratch {
        let copy = Scratch::new();
        for file in files::list(&self.log()).unwrap() {
            let target = copy.log().join(&file);
            std::fs::create_dir_all(target.parent().unwrap()).unwrap();
            std::fs::copy(self.log().join(&file), target).unwrap();
        }
        copy
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn append(log: &mut Log, store: &mut MemoryStore, entries: &[Vec<u8>]) -> Result<SignedCheckpoint, LogError> {
    let mut batch = Batch::new();
    let staged = log.stage(entries, &mut batch)?;
    store.commit(batch)?;
    log.apply(staged, store, &log_key())
}

fn verify(scratch: &Scratch) -> Result<VerifiedLog, VerifyError> {
    verify_directory(&scratch.log(), log_key().verifier(), &[], 0)
}

#[test]
fn a_log_grows_by_any_steps_into_the_same_directory() {
    let (one, many) = (Scratch::new(), Scratch::new());
    let (mut one_store, mut many_store) = (MemoryStore::new(), MemoryStore::new());
    let mut one_log = Log::open(&one.log(), &one_store, &log_key()).unwrap();
    let mut many_log = Log::open(&many.log(), &many_store, &log_key()).unwrap();
    append(&mut one_log, &mut one_store, &entries(0, 600)).unwrap();
    for count in [1, 1, 253, 1, 1, 255, 1, 87] {
        let from = many_log.size();
        append(&mut many_log, &mut many_store, &entries(from, count)).unwrap();
        assert_eq!(many_log.root(), naive_root(&leaves(from + count)));
        let verified = verify(&many).unwrap();
        assert_eq!(verified.entries(), entries(0, from + count));
        assert_eq!(verified.checkpoint(), many_log.checkpoint());
    }
    let listed = files::list(&one.log()).unwrap();
    assert_eq!(listed, files::list(&many.log()).unwrap());
    for file in listed {
        assert_eq!(
            std::fs::read(one.log().join(&file)).unwrap(),
            std::fs::read(many.log().join(&file)).unwrap(),
            "{file}"
        );
    }
}

#[test]
fn a_log_of_seventy_thousand_entries_has_three_levels_and_right_proofs() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 65_000)).unwrap();
    append(&mut log, &mut store, &entries(65_000, 5_000)).unwrap();
    let leaves = leaves(70_000);
    let root = naive_root(&leaves);
    assert_eq!(log.root(), root);
    for (index, size) in
        [(0, 1), (0, 70_000), (69_999, 70_000), (65_535, 65_536), (65_536, 65_537), (300, 69_888), (12_345, 54_321)]
    {
        let proof = log.inclusion_proof(index, size).unwrap();
        let root = naive_root(&leaves[..usize::try_from(size).unwrap()]);
        assert_eq!(log.root_at(size).unwrap(), root);
        assert_eq!(log.entry(index).unwrap(), entry(index));
        tree::verify_inclusion(&leaves[usize::try_from(index).unwrap()], index, size, &proof, &root).unwrap();
        let proof = log.consistency_proof(size, 70_000).unwrap();
        tree::verify_consistency(size, 70_000, &root, &log.root(), &proof).unwrap();
    }
    assert_eq!(verify(&scratch).unwrap().entries().len(), 70_000);
    for outside in [70_000, u64::MAX] {
        assert!(matches!(log.entry(outside), Err(LogError::Tree(_))));
        assert!(matches!(log.inclusion_proof(outside, 70_000), Err(LogError::Tree(_))));
        assert!(matches!(log.inclusion_proof(0, outside.saturating_add(1)), Err(LogError::Tree(_))));
        assert!(matches!(log.consistency_proof(0, outside.saturating_add(1)), Err(LogError::Tree(_))));
    }
}

#[test]
fn a_lost_directory_is_made_again_from_the_records() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 1500)).unwrap();
    let before = scratch.copy_log();
    std::fs::remove_dir_all(scratch.log()).unwrap();
    let log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    assert_eq!(log.size(), 1500);
    for file in files::list(&before.log()).unwrap() {
        assert_eq!(
            std::fs::read(before.log().join(&file)).unwrap(),
            std::fs::read(scratch.log().join(&file)).unwrap(),
            "{file}"
        );
    }
    verify(&scratch).unwrap();
}

#[test]
fn limits_and_order_are_kept() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    let mut batch = Batch::new();
    for refused in [vec![], vec![vec![0; 65_536]], vec![vec![]; 65_537]] {
        assert!(matches!(log.stage(&refused, &mut batch), Err(LogError::Limit { .. })));
    }
    assert!(batch.is_empty(), "a refusal leaves the caller's batch alone");
    append(&mut log, &mut store, &[vec![], vec![0; 65_535]]).unwrap();
    assert_eq!(log.entry(1).unwrap().len(), 65_535);

    let never_committed = log.stage(&entries(2, 1), &mut Batch::new()).unwrap();
    assert!(matches!(log.apply(never_committed, &store, &log_key()), Err(LogError::NotCommitted)));

    let (mut first, mut second) = (Batch::new(), Batch::new());
    let staged = log.stage(&entries(2, 1), &mut first).unwrap();
    let loser = log.stage(&entries(7, 1), &mut second).unwrap();
    assert_eq!((staged.first_index(), staged.head().0), (2, 3));
    second.put(ACCOUNT, "spent", vec![1]);
    store.commit(first).unwrap();
    assert!(matches!(store.commit(second), Err(StoreError::Conflict { table: "ledger_heads", .. })));
    assert_eq!(store.get(ACCOUNT, "spent").unwrap(), None, "the caller's records stand and fall with the entry");
    assert!(matches!(log.apply(loser, &store, &log_key()), Err(LogError::NotCommitted)));
    let other_key = SignerKey::from_seed(ORIGIN, KeyKind::Log, &[7; 32]).unwrap();
    assert!(matches!(log.apply(staged, &store, &other_key), Err(LogError::WrongKey { .. })));
    assert_eq!(Log::open(&scratch.log(), &store, &log_key()).unwrap().size(), 3);
    verify(&scratch).unwrap();
}

/// Several commits under one publication: until then the directory shows the old tree, and afterwards it is, byte for byte,
/// what one publication per commit makes; a crash in between loses nothing that was committed.
#[test]
fn many_commits_share_one_publication() {
    for published in [true, false] {
        let (one_by_one, at_once) = (Scratch::new(), Scratch::new());
        let (mut store, mut other) = (MemoryStore::new(), MemoryStore::new());
        let mut reference = Log::open(&one_by_one.log(), &store, &log_key()).unwrap();
        let mut log = Log::open(&at_once.log(), &other, &log_key()).unwrap();
        append(&mut log, &mut other, &entries(0, 200)).unwrap();
        append(&mut reference, &mut store, &entries(0, 200)).unwrap();
        let old = log.checkpoint().to_string();
        for (first, count) in [(200, 55), (255, 1), (256, 44), (300, 3)] {
            let new = entries(first, count);
            append(&mut reference, &mut store, &new).unwrap();
            let mut batch = Batch::new();
            let staged = log.stage(&new, &mut batch).unwrap();
            other.commit(batch).unwrap();
            log.adopt(staged, &other).unwrap();
            assert_eq!((log.size(), log.root()), (reference.size(), reference.root()));
        }
        assert_eq!((log.published_size(), log.checkpoint().to_string()), (200, old), "nothing is shown yet");
        assert!(log.entry(200).is_err() && log.inclusion_proof(0, 201).is_err() && log.entry(199).is_ok());
        assert_eq!(verify(&at_once).unwrap().entries(), entries(0, 200));
        if published {
            assert_eq!(log.publish(&other, &log_key()).unwrap().checkpoint(), reference.checkpoint().checkpoint());
            let again = log.publish(&other, &log_key()).unwrap();
            assert_eq!(again.checkpoint().size(), 303, "with nothing new, the head stays");
        } else {
            drop(log);
            log = Log::open(&at_once.log(), &other.restarted(), &log_key()).unwrap();
        }
        assert_eq!((log.size(), log.published_size()), (303, 303));
        let files = |scratch: &Scratch| files::list(&scratch.log()).unwrap();
        assert_eq!(files(&at_once), files(&one_by_one));
        assert_eq!(verify(&at_once).unwrap().entries(), verify(&one_by_one).unwrap().entries());
    }
}

/// What was adopted is signed only while the store still says that it is committed.
#[test]
fn a_head_that_the_records_lost_is_not_signed() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 2)).unwrap();
    let mut batch = Batch::new();
    let staged = log.stage(&entries(2, 1), &mut batch).unwrap();
    let before = store.clone();
    store.commit(batch).unwrap();
    log.adopt(staged, &store).unwrap();
    assert!(matches!(log.publish(&before, &log_key()), Err(LogError::NotCommitted)));
    assert_eq!(verify(&scratch).unwrap().entries(), entries(0, 2));
}

#[test]
fn two_logs_share_a_store() {
    let (left, right) = (Scratch::new(), Scratch::new());
    let mut store = MemoryStore::new();
    // A name that continues the other one, to tempt the prefix scan.
    let inner_key = SignerKey::from_seed("hub.example/log/0", KeyKind::Log, &[5; 32]).unwrap();
    let mut outer = Log::open(&left.log(), &store, &log_key()).unwrap();
    let inner = Log::open(&right.log(), &store, &inner_key).unwrap();
    let mut batch = Batch::new();
    let _ = inner.stage(&entries(100, 3), &mut batch).unwrap();
    store.commit(batch).unwrap();
    append(&mut outer, &mut store, &entries(0, 5)).unwrap();
    std::fs::remove_dir_all(left.log()).unwrap();
    assert_eq!(Log::open(&left.log(), &store, &log_key()).unwrap().root(), naive_root(&leaves(5)));
    assert_eq!(Log::open(&right.log(), &store, &inner_key).unwrap().size(), 3);
}

#[test]
fn bodies_are_kept_by_hash_and_can_be_erased() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    let hash = log.put_body(b"a signed document").unwrap();
    assert_eq!(log.put_body(b"a signed document").unwrap(), hash);
    append(&mut log, &mut store, &[hash.to_vec()]).unwrap();
    assert_eq!(log.body(&hash).unwrap().unwrap(), b"a signed document");
    assert!(verify(&scratch).unwrap().bodies().contains(&hash));
    log.erase_body(&hash).unwrap();
    log.erase_body(&hash).unwrap();
    assert_eq!(log.body(&hash).unwrap(), None);
    assert!(verify(&scratch).unwrap().bodies().is_empty());
    let too_long = vec![0; usize::try_from(log::BODY_BYTES_MAX).unwrap() + 1];
    assert!(matches!(log.put_body(&too_long), Err(LogError::Limit { .. })));
}

#[test]
fn cosignatures_are_published_only_for_the_current_head() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    let old = append(&mut log, &mut store, &entries(0, 3)).unwrap();
    let signed = append(&mut log, &mut store, &entries(3, 1)).unwrap();
    let stranger = SignerKey::from_seed("x", KeyKind::Witness, &[9; 32]).unwrap();
    let text = signed.note().text();
    let mut lines = signed.note().signatures().to_vec();
    lines.extend([stranger.cosign(text, 5).unwrap(), witness_key(0).cosign(text, 6).unwrap()]);
    let cosigned = Note::new(text, lines).unwrap().to_string();

    assert!(matches!(
        log.set_cosigned(old.to_string().as_bytes(), &witnesses(2)),
        Err(LogError::OtherHead { given: 3, current: 4 })
    ));
    let published = log.set_cosigned(cosigned.as_bytes(), &witnesses(2)).unwrap();
    assert_eq!(published.note().signatures().len(), 2, "the stranger's line is dropped");
    let again = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    assert_eq!(again.checkpoint(), &published, "opening keeps cosignatures");
    let verified = verify_directory(&scratch.log(), log_key().verifier(), &witnesses(2), 1).unwrap();
    assert_eq!(verified.cosigned_by().iter().map(|by| by.time_s).collect::<Vec<_>>(), [6]);
    let too_few = verify_directory(&scratch.log(), log_key().verifier(), &witnesses(2), 2);
    assert!(matches!(too_few, Err(VerifyError::Checkpoint(CheckpointError::NoQuorum { needed: 2, found: 1 }))));

    assert!(verified.extends(old.checkpoint()) && verified.extends(signed.checkpoint()));
    assert!(!verified.extends(&Checkpoint::new(ORIGIN, 3, naive_root(&leaves(2))).unwrap()));
    assert!(!verified.extends(&Checkpoint::new("other", 3, naive_root(&leaves(3))).unwrap()));
    assert!(!verified.extends(&Checkpoint::new(ORIGIN, 5, naive_root(&leaves(5))).unwrap()));

    let broken = witness_key(0).cosign("another text\n", 6).unwrap();
    let note = Note::new(text, vec![signed.note().signatures()[0].clone(), broken]).unwrap();
    assert!(matches!(log.set_cosigned(note.to_string().as_bytes(), &witnesses(2)), Err(LogError::Checkpoint(_))));
}

// ---------------------------------------------------------------- crashes and put-back state

/// What a process does: open, then batches. Stops at the first error, as a crashed machine does.
fn live(scratch: &Scratch, store: &mut MemoryStore, steps: &Arc<AtomicU64>) -> Result<(), LogError> {
    let mut files = Files::new(&scratch.log());
    files.steps_left = Some(Arc::clone(steps));
    let mut log = Log::recover(files, store, &log_key())?;
    log.put_body(b"body")?;
    for count in [3, 252, 2, 30] {
        let from = log.size();
        append(&mut log, store, &entries(from, count))?;
        log.erase_body(&tree::body_hash(b"never there"))?;
    }
    Ok(())
}

/// After any crash the log opens with a committed size, verifies, and goes on.
fn check_recovery(scratch: &Scratch, store: &MemoryStore, crash: &str) {
    let mut store = store.restarted();
    let seen = std::fs::read(scratch.log().join("checkpoint")).ok();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap_or_else(|error| panic!("{crash}: {error}"));
    let size = log.size();
    assert!([0, 3, 255, 257, 287].contains(&size), "{crash}: {size}");
    assert_eq!(
        store.scan(LEAVES, "", None, 1000).unwrap().len() as u64,
        size,
        "{crash}: all committed entries, no others"
    );
    let verified = verify(scratch).unwrap_or_else(|error| panic!("{crash}: {error}"));
    assert_eq!(verified.entries(), entries(0, size), "{crash}");
    if let Some(seen) = seen {
        let seen = SignedCheckpoint::open(&seen, log_key().verifier()).unwrap();
        assert!(verified.extends(seen.checkpoint()), "{crash}: what was published before stays true");
    }
    append(&mut log, &mut store, &entries(size, 3)).unwrap();
    assert_eq!(verify(scratch).unwrap().entries(), entries(0, size + 3), "{crash}");
}

#[test]
fn a_crash_at_any_file_step_leaves_a_log_that_opens() {
    let steps_needed = {
        let (scratch, steps) = (Scratch::new(), Arc::new(AtomicU64::new(u64::MAX)));
        live(&scratch, &mut MemoryStore::new(), &steps).unwrap();
        u64::MAX - steps.load(Ordering::SeqCst)
    };
    assert!(steps_needed > 100, "{steps_needed} steps: the crashes are injected nowhere");
    for step in 0..steps_needed {
        let (scratch, mut store) = (Scratch::new(), MemoryStore::new());
        live(&scratch, &mut store, &Arc::new(AtomicU64::new(step))).unwrap_err();
        check_recovery(&scratch, &store, &format!("crash at file step {step}"));
    }
}

#[test]
fn a_crash_during_recovery_is_recovered_from() {
    for step in 0.. {
        let (scratch, mut store) = (Scratch::new(), MemoryStore::new());
        let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
        append(&mut log, &mut store, &entries(0, 3)).unwrap();
        let mut batch = Batch::new();
        let _ = log.stage(&entries(3, 284), &mut batch).unwrap();
        store.commit(batch).unwrap();
        let mut files = Files::new(&scratch.log());
        files.steps_left = Some(Arc::new(AtomicU64::new(step)));
        let finished = Log::recover(files, &store, &log_key()).is_ok();
        check_recovery(&scratch, &store, &format!("crash at step {step} of recovery"));
        if finished {
            assert!(step > 10, "recovery took only {step} steps");
            return;
        }
    }
}

#[test]
fn a_crash_at_any_commit_leaves_a_log_that_opens() {
    for commits in 0..4 {
        let (scratch, mut store) = (Scratch::new(), MemoryStore::new());
        store.crash_after(commits);
        let error = live(&scratch, &mut store, &Arc::new(AtomicU64::new(u64::MAX))).unwrap_err();
        assert!(matches!(error, LogError::Store(StoreError::Crashed)));
        check_recovery(&scratch, &store, &format!("crash at commit {commits}"));
    }
}

/// Losing the power is worse than stopping: what was not flushed is gone. So everything that is done to the disk is
/// watched: no file gets its name before its contents are flushed, the checkpoint not before the directories of all tiles
/// are, and when the receipt is given no name is left unflushed.
#[test]
fn nothing_is_named_before_it_is_flushed() {
    let (scratch, mut store) = (Scratch::new(), MemoryStore::new());
    let mut files = Files::new(&scratch.log());
    let done = Arc::new(std::sync::Mutex::new(Vec::new()));
    files.done = Some(Arc::clone(&done));
    let mut log = Log::recover(files, &store, &log_key()).unwrap();
    let (mut names, mut checkpoints) = (0, 0);
    for count in [255, 2, 700] {
        done.lock().unwrap().clear();
        let from = log.size();
        append(&mut log, &mut store, &entries(from, count)).unwrap();
        let (mut flushed, mut unflushed) = (Vec::new(), Vec::new());
        for (what, path) in done.lock().unwrap().drain(..) {
            match what {
                "make" => unflushed.push(path.parent().unwrap().to_owned()),
                "flush" => {
                    unflushed.retain(|directory| *directory != path);
                    flushed.push(path);
                }
                "rename" => {
                    assert!(flushed.contains(&path), "{} has a name before its contents are flushed", path.display());
                    if path.ends_with("checkpoint") {
                        assert!(unflushed.is_empty(), "the checkpoint comes before {unflushed:?}");
                        checkpoints += 1;
                    }
                    unflushed.push(path.parent().unwrap().to_owned());
                    names += 1;
                }
                _ => {}
            }
        }
        assert!(unflushed.is_empty(), "a receipt before {unflushed:?}");
    }
    assert_eq!(checkpoints, 3);
    assert!(names > 15, "{names} names: nothing was watched");
}

/// What is on the disk, seen from outside: which step of the crash story of `log` was the last to be finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Finished {
    /// Neither body nor entry.
    Nothing,
    /// Step 1: the body is there.
    Body,
    /// Step 3: the entry is in the records; the directory shows the old tree.
    Committed,
    /// Step 4: all tiles of the new tree are there, the checkpoint is the old one.
    Tiles,
    /// Step 5: the checkpoint is the new one; outgrown tiles are left.
    Checkpoint,
    /// Step 6: the directory is exactly the new tree.
    Swept,
}

fn finished(scratch: &Scratch, store: &MemoryStore) -> Finished {
    let found = files::list(&scratch.log()).unwrap();
    let committed = store.scan(LEAVES, "", None, 1000).unwrap().len();
    if committed < 257 {
        let body = found.contains(&log::body_file(&tree::body_hash(b"body")));
        return if body { Finished::Body } else { Finished::Nothing };
    }
    let published =
        SignedCheckpoint::open(&std::fs::read(scratch.log().join("checkpoint")).unwrap(), log_key().verifier());
    let is_new = published.unwrap().checkpoint().size() == 257;
    let has_all = tile::tiles(257).all(|tile| found.contains(&tile.path()));
    let is_swept = !tile::partial_tiles(255).any(|tile| found.contains(&tile.path()));
    assert!(has_all || !is_new, "a checkpoint whose tiles are not there");
    match (has_all, is_new, is_swept) {
        (_, true, true) => Finished::Swept,
        (_, true, false) => Finished::Checkpoint,
        (true, ..) => Finished::Tiles,
        (false, ..) => Finished::Committed,
    }
}

/// The crash story, step by step: the machine stops before each thing it does to the disk, and before and after the
/// commit. Every stage of the story is met, in its order; at each the readers of the directory have a whole tree, the old
/// one or the new one; and opening leads to the committed tree with the body, and to nothing else.
#[test]
fn each_step_of_the_crash_story_is_recovered_from() {
    let before = || {
        let (scratch, mut store) = (Scratch::new(), MemoryStore::new());
        let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
        append(&mut log, &mut store, &entries(0, 255)).unwrap();
        (scratch, store)
    };
    let mut met = Vec::new();
    for step in 0.. {
        let (scratch, mut store) = before();
        let mut files = Files::new(&scratch.log());
        let steps = Arc::new(AtomicU64::new(u64::MAX));
        files.steps_left = Some(Arc::clone(&steps));
        let mut log = Log::recover(files, &store, &log_key()).unwrap();
        steps.store(step, Ordering::SeqCst);
        // The receipt is given only when all of this is done.
        let receipt = log
            .put_body(b"body")
            .map_err(|_| ())
            .and_then(|_| append(&mut log, &mut store, &entries(255, 2)).map_err(|_| ()));
        drop(log);
        let stage = finished(&scratch, &store);
        assert!(receipt.is_err() || stage == Finished::Swept, "a receipt after {stage:?}");
        met.push(stage);

        let seen = std::fs::read(scratch.log().join("checkpoint")).unwrap();
        let seen = SignedCheckpoint::open(&seen, log_key().verifier()).unwrap();
        let recovered = Log::open(&scratch.log(), &store, &log_key()).unwrap();
        let size = if stage < Finished::Committed { 255 } else { 257 };
        assert_eq!((recovered.size(), recovered.root()), (size, naive_root(&leaves(size))), "step {step}: {stage:?}");
        let verified = verify(&scratch).unwrap();
        assert!(verified.extends(seen.checkpoint()), "step {step}: what a reader saw before stays true");
        assert_eq!(verified.bodies().len(), usize::from(stage > Finished::Nothing), "step {step}: {stage:?}");
        if receipt.is_ok() {
            break;
        }
    }
    assert!(met.is_sorted(), "{met:?}");
    met.dedup();
    use Finished::{Body, Checkpoint, Committed, Nothing, Swept, Tiles};
    assert_eq!(met, [Nothing, Body, Committed, Tiles, Checkpoint, Swept]);
}

/// Steps 2 and 3: an entry that is staged is nowhere until its batch is committed, and then it is in the log whatever
/// becomes of the process.
#[test]
fn a_crash_around_the_commit_leaves_all_or_nothing() {
    for is_committed in [false, true] {
        let (scratch, mut store) = (Scratch::new(), MemoryStore::new());
        let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
        append(&mut log, &mut store, &entries(0, 3)).unwrap();
        let mut batch = Batch::new();
        let staged = log.stage(&entries(3, 2), &mut batch).unwrap();
        batch.put(ACCOUNT, "spent", vec![1]);
        if is_committed {
            store.commit(batch).unwrap();
        }
        drop((staged, log));
        let store = store.restarted();
        let log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
        let size = if is_committed { 5 } else { 3 };
        assert_eq!((log.size(), log.root()), (size, naive_root(&leaves(size))));
        assert_eq!(store.get(ACCOUNT, "spent").unwrap().is_some(), is_committed);
        assert_eq!(verify(&scratch).unwrap().entries(), entries(0, size));
    }
}

#[test]
fn old_records_put_back_are_refused() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 3)).unwrap();
    let backup = store.clone();
    append(&mut log, &mut store, &entries(3, 1)).unwrap();
    let error = Log::open(&scratch.log(), &backup, &log_key()).err().unwrap();
    assert!(matches!(error, LogError::RecordsBehind { published: 4, committed: 3 }), "{error}");
}

#[test]
fn other_records_are_never_signed_over() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 3)).unwrap();
    for count in [3, 4] {
        let (elsewhere, mut other) = (Scratch::new(), MemoryStore::new());
        let mut fork = Log::open(&elsewhere.log(), &other, &log_key()).unwrap();
        append(&mut fork, &mut other, &entries(50, count)).unwrap();
        let before = std::fs::read(scratch.log().join("checkpoint")).unwrap();
        let copy = scratch.copy_log();
        let error = Log::open(&copy.log(), &other, &log_key()).err().unwrap();
        assert!(matches!(error, LogError::Diverged { .. }), "{error}");
        assert_eq!(std::fs::read(copy.log().join("checkpoint")).unwrap(), before);
    }
}

#[test]
fn damaged_records_and_tiles_are_reported() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 5)).unwrap();

    let mut gap = store.clone();
    let mut batch = Batch::new();
    batch.delete(LEAVES, &format!("{ORIGIN} {:016x}", 2));
    gap.commit(batch).unwrap();
    let error = Log::open(&Scratch::new().log(), &gap, &log_key()).err().unwrap();
    assert!(matches!(error, LogError::RecordsDamaged { index: 2, .. }), "{error}");

    let mut head = store.clone();
    let mut batch = Batch::new();
    let value = String::from_utf8(store.get(HEADS, ORIGIN).unwrap().unwrap()).unwrap();
    batch.put(HEADS, ORIGIN, value.replacen("\n5\n", "\n4\n", 1).into_bytes());
    head.commit(batch).unwrap();
    let error = Log::open(&Scratch::new().log(), &head, &log_key()).err().unwrap();
    assert!(matches!(error, LogError::RecordsDamaged { .. }), "{error}");

    let tile = scratch.log().join("tile/0/000.p/5");
    std::fs::write(&tile, [0; 160]).unwrap();
    let error = Log::open(&scratch.log(), &store, &log_key()).err().unwrap();
    assert!(matches!(error, LogError::Damaged { .. }), "{error}");
    std::fs::remove_file(&tile).unwrap();
    let error = Log::open(&scratch.log(), &store, &log_key()).err().unwrap();
    assert!(matches!(error, LogError::Damaged { ref file } if file == "tile/0/000.p/5"), "{error}");
}

// ---------------------------------------------------------------- the auditor

/// A log of a few entries with a body and two cosignatures.
fn small_log() -> Scratch {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    log.put_body(b"body").unwrap();
    append(&mut log, &mut store, &entries(0, 5)).unwrap();
    cosign(&mut log);
    scratch
}

fn cosign(log: &mut Log) {
    let mut cosigned = log.checkpoint().clone();
    for number in 0..2 {
        let line = witness_key(number).cosign(cosigned.note().text(), 1_790_000_000).unwrap();
        cosigned = cosigned.with_cosignature(line, &witnesses(2)).unwrap();
    }
    log.set_cosigned(cosigned.to_string().as_bytes(), &witnesses(2)).unwrap();
}

/// With a quorum of one of two, so that damage to one cosignature is not hidden by a missing quorum.
fn audit(scratch: &Scratch) -> Result<VerifiedLog, VerifyError> {
    verify_directory(&scratch.log(), log_key().verifier(), &witnesses(2), 1)
}

#[test]
fn a_change_of_any_bit_of_any_file_is_noticed() {
    let scratch = small_log();
    audit(&scratch).unwrap();
    let mut flipped = 0;
    for file in files::list(&scratch.log()).unwrap() {
        let path = scratch.log().join(&file);
        let original = std::fs::read(&path).unwrap();
        for position in 0..original.len() {
            // The lowest bit, the one between upper and lower case, the one outside ASCII.
            for bit in [0, 5, 7] {
                let mut changed = original.clone();
                changed[position] ^= 1 << bit;
                std::fs::write(&path, &changed).unwrap();
                assert!(audit(&scratch).is_err(), "{file}: bit {bit} of byte {position} may be changed");
                flipped += 1;
            }
            let mut shorter = original.clone();
            shorter.remove(position);
            std::fs::write(&path, &shorter).unwrap();
            assert!(audit(&scratch).is_err(), "{file}: byte {position} may be removed");
        }
        for added in [0, b'\n', b'='] {
            std::fs::write(&path, [original.as_slice(), &[added]].concat()).unwrap();
            assert!(audit(&scratch).is_err(), "{file}: byte {added} may be added");
        }
        std::fs::write(&path, &original).unwrap();
        let moved = scratch.log().join(format!("{file}x"));
        std::fs::rename(&path, &moved).unwrap();
        assert!(audit(&scratch).is_err(), "{file} may be renamed");
        std::fs::rename(&moved, &path).unwrap();
    }
    assert!(flipped > 1500, "{flipped} bits: some files were not there");
    audit(&scratch).unwrap();
}

#[test]
fn errors_name_the_file_and_the_entry() {
    let scratch = Scratch::new();
    let mut store = MemoryStore::new();
    let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
    append(&mut log, &mut store, &entries(0, 600)).unwrap();
    log.put_body(b"body").unwrap();
    let body = log::body_file(&tree::body_hash(b"body"));
    let change = |file: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let copy = scratch.copy_log();
        let path = copy.log().join(file);
        let mut bytes = std::fs::read(&path).unwrap();
        change(&mut bytes);
        std::fs::write(&path, bytes).unwrap();
        verify(&copy).unwrap_err()
    };
    // "entry 300" is the 45th of its bundle; each entry here takes 2 + 9 bytes.
    let altered = |bytes: &mut Vec<u8>| bytes[44 * 11 + 10] ^= 1;
    let error = change("tile/entries/001", &altered);
    assert_eq!(error.to_string(), "log: entry 300 in tile/entries/001 does not have the hash in tile/0/001");
    let error = change("tile/0/002.p/88", &|bytes| bytes[87 * 32] ^= 1);
    assert!(matches!(error, VerifyError::Entry { index: 599, .. }), "{error}");
    let error = change("tile/1/000.p/2", &|bytes| bytes[32] ^= 1);
    assert!(matches!(error, VerifyError::Tile { position: 1, ref tile } if tile == "tile/1/000.p/2"), "{error}");
    let error = change("tile/0/000", &|bytes| bytes.truncate(8191));
    assert!(matches!(error, VerifyError::Malformed { ref file } if file == "tile/0/000"), "{error}");
    let error = change("tile/0/000", &|bytes| bytes.push(0));
    assert!(matches!(error, VerifyError::File(ref at) if at.file == "tile/0/000"), "{error}");
    let error = change("tile/entries/000", &|bytes| bytes[0] = 1);
    assert!(matches!(error, VerifyError::Malformed { ref file } if file == "tile/entries/000"), "{error}");
    let error = change(&body, &|bytes| bytes[0] ^= 1);
    assert!(matches!(error, VerifyError::Body { ref file } if *file == body), "{error}");
    let error = change("checkpoint", &|bytes| bytes[20] ^= 1);
    assert!(matches!(error, VerifyError::Checkpoint(_)), "{error}");
}

/// The keeper alters an entry and makes all tiles anew, but cannot sign the old head over them.
#[test]
fn a_rewritten_book_does_not_have_the_signed_root() {
    let (honest, rewritten) = (Scratch::new(), Scratch::new());
    for (scratch, first) in [(&honest, 0), (&rewritten, 1)] {
        let mut store = MemoryStore::new();
        let mut log = Log::open(&scratch.log(), &store, &log_key()).unwrap();
        append(&mut log, &mut store, &entries(first, 300)).unwrap();
    }
    std::fs::copy(honest.log().join("checkpoint"), rewritten.log().join("checkpoint")).unwrap();
    assert!(matches!(verify(&rewritten), Err(VerifyError::Root)));
}

#[test]
fn nothing_may_be_missing_and_nothing_may_be_left_over() {
    let scratch = small_log();
    for file in files::list(&scratch.log()).unwrap() {
        let copy = scratch.copy_log();
        std::fs::remove_file(copy.log().join(&file)).unwrap();
        match audit(&copy) {
            Ok(_) => assert!(file.starts_with("body/"), "{file} may be missing"),
            Err(error) => {
                assert!(matches!(error, VerifyError::Missing { file: ref named } if *named == file), "{error}")
            }
        }
    }
    let left_over = [
        "tile/0/000.p/4",
        "tile/entries/000.p/4",
        "tile/0/000",
        "tile/1/000.p/1",
        "note.txt",
        "body/abc",
        ".staging/next",
        "body/x/y",
    ];
    for file in left_over {
        let copy = scratch.copy_log();
        std::fs::create_dir_all(copy.log().join(file).parent().unwrap()).unwrap();
        std::fs::write(copy.log().join(file), "").unwrap();
        let error = audit(&copy).unwrap_err();
        assert!(matches!(error, VerifyError::Unexpected { file: ref named } if named == file), "{error}");
    }
    #[cfg(unix)]
    {
        let copy = scratch.copy_log();
        std::fs::rename(copy.log().join("checkpoint"), copy.0.join("elsewhere")).unwrap();
        std::os::unix::fs::symlink(copy.0.join("elsewhere"), copy.log().join("checkpoint")).unwrap();
        assert!(matches!(audit(&copy), Err(VerifyError::File(ref at)) if at.file == "checkpoint"));
    }
    let upper = scratch.copy_log();
    let body = log::body_file(&tree::body_hash(b"body"));
    std::fs::rename(upper.log().join(&body), upper.log().join(body.replace("body/", "").to_uppercase())).unwrap();
    assert!(matches!(audit(&upper), Err(VerifyError::Unexpected { .. })));
    assert!(matches!(
        verify_directory(&scratch.0.join("nowhere"), log_key().verifier(), &[], 0),
        Err(VerifyError::File(_))
    ));
}

#[test]
fn signatures_by_strangers_and_other_keys_are_refused() {
    let scratch = small_log();
    let unknown = verify_directory(&scratch.log(), log_key().verifier(), &witnesses(1), 1);
    assert!(
        matches!(unknown, Err(VerifyError::Checkpoint(CheckpointError::UnknownSigner { ref name })) if name == "south.example/witness")
    );
    let other = SignerKey::from_seed(ORIGIN, KeyKind::Log, &[7; 32]).unwrap();
    let unsigned = verify_directory(&scratch.log(), other.verifier(), &witnesses(2), 1);
    assert!(matches!(unsigned, Err(VerifyError::Checkpoint(CheckpointError::Note(NoteError::NotSigned { .. })))));
}

// ---------------------------------------------------------------- witnesses

fn head(count: u64) -> SignedCheckpoint {
    SignedCheckpoint::sign(Checkpoint::new(ORIGIN, count, naive_root(&leaves(count))).unwrap(), &log_key()).unwrap()
}

fn proof(old: u64, new: u64) -> Vec<Hash> {
    tree::consistency_proof(old, new, &mut nodes(&leaves(new))).unwrap()
}

fn bytes(signed: &SignedCheckpoint) -> Vec<u8> {
    signed.to_string().into_bytes()
}

#[test]
fn a_witness_follows_a_log_that_only_grows() {
    let mut witness = Witness::new(log_key().verifier().clone());
    assert_eq!(witness.state(), None);
    for (old, new) in [(0, 0), (0, 1), (1, 1), (1, 5), (5, 64), (64, 70)] {
        let pending = witness.add_checkpoint(old, &proof(old, new), &bytes(&head(new))).unwrap();
        let state = pending.state();
        let (line, next) = pending.sign(&witness_key(0), 1_790_000_000 + new).unwrap();
        let cosigned = head(new).with_cosignature(line, &witnesses(1)).unwrap();
        assert_eq!(cosigned.verify_quorum(&witnesses(1), 1).unwrap().cosigned_by()[0].time_s, 1_790_000_000 + new);
        assert_eq!(Witness::from_state(log_key().verifier().clone(), &state).unwrap(), next);
        assert_eq!((next.size(), next.state()), (new, Some(state)));
        witness = next;
    }
}

#[test]
fn a_witness_does_not_cosign_a_fork_a_rollback_or_an_unproven_head() {
    let fresh = Witness::new(log_key().verifier().clone());
    let at_five = Witness::from_state(log_key().verifier().clone(), &bytes(&head(5))).unwrap();
    let fork = |size: u64| {
        SignedCheckpoint::sign(Checkpoint::new(ORIGIN, size, naive_root(&leaves(69)[..3])).unwrap(), &log_key())
            .unwrap()
    };

    match at_five.add_checkpoint(5, &[], &bytes(&fork(5))) {
        Err(WitnessError::Fork { known, shown }) => assert_eq!((*known, *shown), (head(5), fork(5))),
        other => panic!("{other:?}"),
    }
    // Also when the log pretends not to know what we have.
    assert!(matches!(at_five.add_checkpoint(0, &[], &bytes(&fork(5))), Err(WitnessError::Fork { .. })));
    assert!(matches!(
        at_five.add_checkpoint(3, &[], &bytes(&head(4))),
        Err(WitnessError::Rollback { known: 5, shown: 4 })
    ));
    assert!(matches!(at_five.add_checkpoint(5, &[], &bytes(&head(4))), Err(WitnessError::BadRequest(_))));
    assert!(matches!(at_five.add_checkpoint(0, &[], &bytes(&head(9))), Err(WitnessError::Conflict { size: 5 })));
    assert!(matches!(
        at_five.add_checkpoint(6, &proof(6, 9), &bytes(&head(9))),
        Err(WitnessError::Conflict { size: 5 })
    ));
    assert!(matches!(fresh.add_checkpoint(5, &proof(5, 9), &bytes(&head(9))), Err(WitnessError::Conflict { size: 0 })));
    assert!(matches!(
        at_five.add_checkpoint(5, &proof(5, 9), &bytes(&fork(9))),
        Err(WitnessError::Inconsistent { old: 5, .. })
    ));
    assert!(matches!(at_five.add_checkpoint(5, &[], &bytes(&head(9))), Err(WitnessError::Inconsistent { .. })));
    assert!(matches!(fresh.add_checkpoint(0, &[[0; 32]], &bytes(&head(9))), Err(WitnessError::Inconsistent { .. })));
    assert!(matches!(at_five.add_checkpoint(5, &[[0; 32]; 64], &bytes(&head(9))), Err(WitnessError::BadRequest(_))));

    let other_key = SignerKey::from_seed(ORIGIN, KeyKind::Log, &[7; 32]).unwrap();
    let forged = SignedCheckpoint::sign(head(9).checkpoint().clone(), &other_key).unwrap();
    assert!(matches!(at_five.add_checkpoint(5, &proof(5, 9), &bytes(&forged)), Err(WitnessError::Checkpoint(_))));
    assert!(Witness::from_state(log_key().verifier().clone(), &bytes(&forged)).is_err());
    let pending = at_five.add_checkpoint(5, &proof(5, 9), &bytes(&head(9))).unwrap();
    assert!(matches!(pending.sign(&log_key(), 1), Err(NoteError::WrongKind { .. })), "a log key does not cosign");
}

/// The hub shows each half of the witnesses its own book; neither book gets a quorum.
#[test]
fn a_split_view_gets_no_quorum() {
    let witnesses = witnesses(3);
    let mut states: Vec<Witness> =
        (0..3).map(|_| Witness::from_state(log_key().verifier().clone(), &bytes(&head(5))).unwrap()).collect();
    let mut other = leaves(9);
    other[7] = tree::leaf_hash(b"another decision");
    let other_head =
        SignedCheckpoint::sign(Checkpoint::new(ORIGIN, 9, naive_root(&other)).unwrap(), &log_key()).unwrap();
    let other_proof = tree::consistency_proof(5, 9, &mut nodes(&other)).unwrap();
    let mut books = [(head(9), proof(5, 9)), (other_head, other_proof)];
    // Everybody is asked for both books; the third witness for the second book first.
    for (number, shown) in [(0u8, 0), (0, 1), (1, 0), (1, 1), (2, 1), (2, 0)] {
        let (book, proof) = &mut books[shown];
        let state = &mut states[usize::from(number)];
        if let Ok(pending) = state.add_checkpoint(5, proof, &bytes(book)) {
            let (line, next) = pending.sign(&witness_key(number), 1).unwrap();
            *state = next;
            *book = book.with_cosignature(line, &witnesses).unwrap();
        }
    }
    let [(left, _), (right, _)] = books;
    let counts = [&left, &right].map(|book| book.cosigned_by(&witnesses).unwrap().len());
    assert_eq!(counts, [2, 1]);
    left.verify_quorum(&witnesses, 2).unwrap();
    assert!(matches!(right.verify_quorum(&witnesses, 2), Err(CheckpointError::NoQuorum { .. })));
}
