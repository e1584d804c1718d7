//! Both kinds of cosignatures: what is signed, byte for byte, and that a note of sixty witnesses fits.

use cohortium_ledger::note::{NOTE_BYTES_MAX, TIME_S_MAX};
use cohortium_ledger::{
    Checkpoint, CheckpointError, Cosigner, KeyKind, LogPolicy, Note, NoteError, NoteSignature, PolicyMember,
    SignedCheckpoint, SignerKey, VerifierKey,
};
use ml_dsa::{MlDsa44, Signature, SigningKey, Verifier as _};

use crate::world::{HUB, TIME_S, World, cosigned, cosigner, keys, log_key, member};

fn ml_dsa_key(name: &str, seed: u8) -> SignerKey {
    SignerKey::from_seed(name, KeyKind::WitnessMlDsa44, &[seed; 32]).unwrap()
}

fn head(size: u64) -> Checkpoint {
    Checkpoint::new(HUB, size, [7; 32]).unwrap()
}

/// tlog-cosignature's `cosigned_message`, written down once more from the specification.
#[test]
fn an_ml_dsa_cosignature_is_over_the_structure_of_the_specification() {
    let key = ml_dsa_key("northside", 9);
    let line = key.cosign(&head(20_852_163).to_string(), 1_679_315_147).unwrap();
    assert_eq!(line.bytes().len(), 8 + 2420);
    assert_eq!(line.bytes()[..8], 1_679_315_147u64.to_be_bytes());
    let message = [
        b"subtree/v1\n\0".as_slice(),
        b"\x09northside",
        &[0, 0, 0, 0, 0x64, 0x18, 0x50, 0xcb],
        b"\x03hub",
        &[0; 8],
        &[0, 0, 0, 0, 1, 0x3e, 0x2d, 0xc3],
        &[7; 32],
    ]
    .concat();
    let signature = Signature::<MlDsa44>::try_from(&line.bytes()[8..]).unwrap();
    let public: &ml_dsa::VerifyingKey<MlDsa44> = &SigningKey::<MlDsa44>::from_seed(&[9; 32].into()).as_ref().clone();
    public.verify(&message, &signature).unwrap();
    assert_eq!(key.verifier().public_key(), public.encode().as_slice());
}

#[test]
fn a_key_of_each_kind_is_printed_and_read() {
    for key in keys() {
        let vkey = key.to_string();
        assert!(vkey.len() <= cohortium_ledger::key::VKEY_BYTES_MAX);
        assert_eq!(VerifierKey::parse(&vkey).unwrap(), key);
        let expected = if key.kind() == KeyKind::Witness { 32 } else { 1312 };
        assert_eq!(key.public_key().len(), expected);
    }
    let longest = ml_dsa_key(&"n".repeat(255), 1).verifier().to_string();
    assert_eq!(longest.len(), cohortium_ledger::key::VKEY_BYTES_MAX);
    assert!(VerifierKey::parse(&longest).is_ok());
    let kinds: Vec<KeyKind> = keys().iter().map(VerifierKey::kind).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == KeyKind::WitnessMlDsa44).count(), 2);
}

#[test]
fn what_an_ml_dsa_key_does_not_sign() {
    let (key, text) = (ml_dsa_key("northside", 9), head(3).to_string());
    assert!(matches!(key.sign(&text), Err(NoteError::WrongKind { .. })));
    assert_eq!(key.cosign(&text, 0), Err(NoteError::Time(0)));
    assert_eq!(key.cosign(&text, TIME_S_MAX + 1), Err(NoteError::Time(1 << 63)));
    assert!(key.cosign(&text, TIME_S_MAX).is_ok());
    assert!(matches!(key.cosign("not a head\n", 1), Err(NoteError::NotACheckpoint { .. })));
    let line = key.cosign(&text, 1).unwrap();
    assert_eq!(key.verifier().verify(&text, &line), Ok(Some(1)));
    assert!(matches!(key.verifier().verify("not a head\n", &line), Err(NoteError::NotACheckpoint { .. })));
}

/// A subtree statement, which says nothing about the largest tree, is no cosignature to us.
#[test]
fn a_cosignature_that_states_no_time_is_refused_though_it_verifies() {
    let text = head(3).to_string();
    let message =
        [b"subtree/v1\n\0\x09northside".as_slice(), &[0; 8], b"\x03hub", &[0; 8], &3u64.to_be_bytes(), &[7; 32]];
    let secret = SigningKey::<MlDsa44>::from_seed(&[9; 32].into());
    let signature = ml_dsa::Signer::sign(&secret, &message.concat()).encode();
    let verifier = ml_dsa_key("northside", 9).verifier().clone();
    let encode = |bytes: &[u8]| data_encoding::BASE64.encode(bytes);
    let line =
        format!("\u{2014} northside {}", encode(&[verifier.id().as_slice(), &[0; 8], signature.as_slice()].concat()));
    let line = NoteSignature::parse(&line).unwrap();
    assert_eq!(verifier.verify(&text, &line), Err(NoteError::NoTime { name: "northside".to_owned() }));
}

#[test]
fn the_two_keys_of_a_witness_fit_together() {
    let first = || SignerKey::from_seed("northside", KeyKind::Witness, &[1; 32]).unwrap();
    let log = || SignerKey::from_seed("northside", KeyKind::Log, &[1; 32]).unwrap();
    assert!(Cosigner::new(first(), Some(ml_dsa_key("northside", 2))).is_ok());
    assert!(matches!(Cosigner::new(log(), None), Err(NoteError::WrongKind { .. })));
    assert!(matches!(Cosigner::new(ml_dsa_key("northside", 2), None), Err(NoteError::WrongKind { .. })));
    assert!(matches!(Cosigner::new(first(), Some(first())), Err(NoteError::WrongKind { .. })));
    assert!(matches!(Cosigner::new(first(), Some(ml_dsa_key("southside", 2))), Err(NoteError::BadKey(_))));
}

#[test]
fn two_keys_of_one_witness_are_not_two_witnesses() {
    let mut world = World::with_entries(3);
    let head = world.cosign(&["northside", "southside"]);
    assert_eq!(head.note().signatures().len(), 5);
    assert_eq!(head.cosigned_by(&keys()).unwrap().len(), 4);
    assert!(matches!(head.verify_quorum(&keys(), 2), Err(CheckpointError::Witnesses(what)) if what.contains("policy")));
    let first: Vec<VerifierKey> = keys().into_iter().filter(|key| key.kind() == KeyKind::Witness).collect();
    assert_eq!(head.verify_quorum(&first, 2).unwrap().cosigned_by().len(), 2);
    // Asked again, a witness gives other lines (another time); they take the place of the first.
    let again = cosigned(&head.without_cosignatures().unwrap(), &["northside"], TIME_S + 1);
    let mut replaced = head.clone();
    for line in &again.note().signatures()[1..] {
        replaced = replaced.with_cosignature(line.clone(), &keys()).unwrap();
    }
    let times: Vec<u64> = replaced.cosigned_by(&keys()).unwrap().iter().map(|by| by.time_s).collect();
    assert_eq!(times, [TIME_S, TIME_S, TIME_S + 1, TIME_S + 1]);
}

/// The longest names, both kinds of keys: within our limits, and what Go's package reads is left when asked for.
#[test]
fn a_note_by_a_hundred_witnesses_with_two_keys_fits() {
    let members: Vec<PolicyMember> = (0..100).map(|number| member(&format!("{number:0>255}"))).collect();
    let log = SignerKey::from_seed(HUB, KeyKind::Log, &[1; 32]).unwrap();
    let head = SignedCheckpoint::sign(head(1 << 40), &log).unwrap();
    let mut lines = head.note().signatures().to_vec();
    for number in 0..100 {
        let witness = cohortium_ledger::Witness::new(log.verifier().clone());
        let pending = witness.add_checkpoint(0, &[], head.to_string().as_bytes()).unwrap();
        lines.extend(pending.sign_with(&cosigner(&format!("{number:0>255}")), TIME_S).unwrap().0);
    }
    let note = Note::new(head.note().text(), lines).unwrap();
    let bytes = note.to_string().into_bytes();
    assert!((380_000..NOTE_BYTES_MAX).contains(&bytes.len()), "{}", bytes.len());
    let policy = LogPolicy::of_members(log.verifier(), &members, 67).unwrap();
    let full = policy.open(&bytes).unwrap();
    assert_eq!(policy.is_met(&full).unwrap().cosigned_by().len(), 200);

    let forty: Vec<VerifierKey> =
        members.iter().take(40).flat_map(|m| [Some(m.ed25519.clone()), m.ml_dsa_44.clone()]).flatten().collect();
    let fewer = full.with_only(&forty).unwrap();
    assert!(fewer.note().signatures().len() <= 100 && fewer.to_string().len() < 1_000_000, "what Go's package reads");
    let quorum_of_forty = LogPolicy::of_members(log.verifier(), &members, 40).unwrap();
    assert_eq!(quorum_of_forty.is_met(&fewer).unwrap().cosigned_by().len(), 80);
    assert_eq!(log_key(HUB).verifier().name(), HUB);
}
