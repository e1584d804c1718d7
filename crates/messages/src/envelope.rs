//! Signed documents: DSSE envelopes (Dead Simple Signing Envelope v1.0.2) around canonical JSON.
//!
//! The signature covers the payload *type* as well as the payload (DSSE's pre-authentication encoding), so a signature
//! on one kind of document is no signature on another. [`Verified`] is evidence: holding one means that the signature
//! of the key that was asked for has been checked, the type was right, the payload was canonical and within its limit.

use data_encoding::BASE64;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::{CanonicalError, Hash, PublicKey, SigningKey, canonical_bytes};

/// A kind of document that is signed.
pub trait Document: Serialize + DeserializeOwned {
    /// The payload type in the envelope, `application/vnd.cohortium.<kind>.v<version>+json`.
    const TYPE: &'static str;
    /// The longest payload that is read.
    const MAX_BYTES: usize;

    /// What must hold between the fields, beyond what their types say. Checked whenever a document is read or signed.
    ///
    /// # Errors
    /// In words, what is wrong.
    fn check(&self) -> Result<(), String> {
        Ok(())
    }
}

/// A DSSE envelope: payload type, payload, signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Envelope {
    payload: String,
    #[serde(rename = "payloadType")]
    payload_type: String,
    signatures: Vec<Signature>,
}

/// Both texts have one length each, so that the size of an envelope follows from its payload and the number of signatures.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "UncheckedSignature")]
struct Signature {
    keyid: String,
    sig: String,
}

/// A signature as it was written, before its lengths are checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UncheckedSignature {
    keyid: String,
    sig: String,
}

impl TryFrom<UncheckedSignature> for Signature {
    type Error = EnvelopeError;
    fn try_from(unchecked: UncheckedSignature) -> Result<Self, EnvelopeError> {
        let UncheckedSignature { keyid, sig } = unchecked;
        if keyid.len() == KEY_ID_CHARS && sig.len() == SIGNATURE_CHARS {
            Ok(Self { keyid, sig })
        } else {
            Err(EnvelopeError::Malformed("a key id or a signature has another length than ours"))
        }
    }
}

/// Why an envelope is refused. The party that sent it must act, except for [`EnvelopeError::Canonical`], which is ours.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Another kind of document.
    #[error("expected a document of type {expected}, found {found}")]
    Type {
        /// What was asked for.
        expected: &'static str,
        /// What the envelope says.
        found: String,
    },
    /// Longer than this kind of document may be.
    #[error("a document of type {kind} may have at most {limit} bytes")]
    TooLong {
        /// The payload type.
        kind: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The payload or a signature is not base64.
    #[error("the envelope is not valid DSSE: {0}")]
    Malformed(&'static str),
    /// No valid signature by this key.
    #[error("no valid signature by key {key_id} ({kind})")]
    Signature {
        /// The key that should have signed.
        key_id: String,
        /// The payload type.
        kind: &'static str,
    },
    /// The payload is not what this kind of document looks like.
    #[error("the document is not a valid {kind}: {why}")]
    Content {
        /// The payload type.
        kind: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The payload says the right thing in bytes that are not canonical.
    #[error("the document of type {0} is not in canonical form (RFC 8785)")]
    NotCanonical(&'static str),
    /// We could not serialise our own document.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// What [`PublicKey::key_id`] gives.
const KEY_ID_CHARS: usize = 16;
/// An Ed25519 signature of 64 bytes in base64.
const SIGNATURE_CHARS: usize = 88;
/// The most signatures an envelope may carry: one for each organisation, and room to spare.
const MAX_SIGNATURES: usize = 128;

impl Envelope {
    /// Signs `document` with `key`.
    ///
    /// # Errors
    /// When the document is longer than its kind allows.
    pub fn sign<T: Document>(document: &T, key: &SigningKey) -> Result<Self, EnvelopeError> {
        document.check().map_err(|why| EnvelopeError::Content { kind: T::TYPE, why })?;
        let payload = canonical_bytes(document)?;
        if payload.len() > T::MAX_BYTES {
            return Err(EnvelopeError::TooLong { kind: T::TYPE, limit: T::MAX_BYTES });
        }
        let mut envelope =
            Self { payload: BASE64.encode(&payload), payload_type: T::TYPE.to_owned(), signatures: Vec::new() };
        envelope.push_signature(&payload, key);
        Ok(envelope)
    }

    /// Adds `key`'s signature beside those that are there; signing twice changes nothing.
    ///
    /// # Errors
    /// When the payload cannot be decoded.
    pub fn also_sign(&mut self, key: &SigningKey) -> Result<(), EnvelopeError> {
        let payload = self.payload_bytes()?;
        if !self.is_signed_by(&key.public()) {
            self.push_signature(&payload, key);
        }
        Ok(())
    }

    /// Takes over the signatures that `other` has on the same payload and this one lacks.
    ///
    /// # Errors
    /// When the two carry different documents.
    pub fn merge_signatures(&mut self, other: &Self) -> Result<(), EnvelopeError> {
        if (&self.payload, &self.payload_type) != (&other.payload, &other.payload_type) {
            return Err(EnvelopeError::Malformed("the two envelopes carry different documents"));
        }
        for signature in &other.signatures {
            if !self.signatures.contains(signature) && self.signatures.len() < MAX_SIGNATURES {
                self.signatures.push(signature.clone());
            }
        }
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        Ok(())
    }

    /// The same document with one valid signature of each of these keys that has one, and nothing beside.
    #[must_use]
    pub fn signed_only_by(&self, keys: &[PublicKey]) -> Self {
        let (payload, payload_type) = (self.payload.clone(), self.payload_type.clone());
        let mut kept = Self { payload, payload_type, signatures: Vec::new() };
        if let Ok(payload) = self.payload_bytes() {
            let message = pre_authentication_encoding(&self.payload_type, &payload);
            kept.signatures.extend(keys.iter().filter_map(|key| self.signature_by(key, &message)).cloned());
        }
        kept.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
        kept.signatures.dedup();
        kept
    }

    /// Whether there is a valid signature by `key`.
    #[must_use]
    pub fn is_signed_by(&self, key: &PublicKey) -> bool {
        let Ok(payload) = self.payload_bytes() else { return false };
        self.signature_by(key, &pre_authentication_encoding(&self.payload_type, &payload)).is_some()
    }

    /// The document, once the signature of `key` on it has been checked.
    ///
    /// # Errors
    /// When type, length, signature, shape or canonical form are wrong.
    pub fn open<T: Document>(&self, key: &PublicKey) -> Result<Verified<T>, EnvelopeError> {
        self.open_all(std::slice::from_ref(key))
    }

    /// The document, once the signatures of *all* `keys` on it have been checked.
    ///
    /// # Errors
    /// When type, length, any signature, shape or canonical form are wrong, or when no key is asked for.
    pub fn open_all<T: Document>(&self, keys: &[PublicKey]) -> Result<Verified<T>, EnvelopeError> {
        let (document, payload_hash) = self.parse::<T>()?;
        if keys.is_empty() {
            return Err(EnvelopeError::Malformed("nobody's signature was asked for"));
        }
        match keys.iter().find(|key| !self.is_signed_by(key)) {
            Some(missing) => Err(EnvelopeError::Signature { key_id: missing.key_id(), kind: T::TYPE }),
            None => Ok(Verified { document, payload_hash }),
        }
    }

    /// The document before any signature is checked: to find out who claims to have signed it, and for nothing else.
    ///
    /// # Errors
    /// When type, length, shape or canonical form are wrong.
    pub fn peek<T: Document>(&self) -> Result<Unverified<T>, EnvelopeError> {
        let (document, payload_hash) = self.parse::<T>()?;
        Ok(Unverified { document, payload_hash })
    }

    /// The document that was peeked at in this very envelope, once the signature of `key` on it has been checked: what
    /// [`Envelope::open`] gives, without reading the document a second time.
    ///
    /// # Errors
    /// When the document is not the one in this envelope, or the signature is wrong.
    pub fn confirm<T: Document>(&self, claimed: Unverified<T>, key: &PublicKey) -> Result<Verified<T>, EnvelopeError> {
        let Unverified { document, payload_hash } = claimed;
        // Type and hash fix what was read: the same bytes as the same kind of document are the same document.
        if self.payload_type != T::TYPE || Hash::of(&self.payload_bytes()?) != payload_hash {
            return Err(EnvelopeError::Malformed("it does not carry the document that was read"));
        }
        if self.is_signed_by(key) {
            Ok(Verified { document, payload_hash })
        } else {
            Err(EnvelopeError::Signature { key_id: key.key_id(), kind: T::TYPE })
        }
    }

    /// The payload type the envelope claims.
    #[must_use]
    pub fn payload_type(&self) -> &str {
        &self.payload_type
    }

    /// How long the payload is as text, in bytes.
    #[must_use]
    pub const fn size(&self) -> usize {
        self.payload.len()
    }

    /// How many signatures there are, valid or not.
    #[must_use]
    pub fn signature_count(&self) -> usize {
        self.signatures.len()
    }

    fn parse<T: Document>(&self) -> Result<(T, Hash), EnvelopeError> {
        if self.payload_type != T::TYPE {
            let found = self.payload_type.chars().take(80).filter(|c| !c.is_control()).collect();
            return Err(EnvelopeError::Type { expected: T::TYPE, found });
        }
        if self.payload.len() > T::MAX_BYTES.saturating_mul(4) / 3 + 4 || self.signatures.len() > MAX_SIGNATURES {
            return Err(EnvelopeError::TooLong { kind: T::TYPE, limit: T::MAX_BYTES });
        }
        let payload = self.payload_bytes()?;
        let document: T = serde_json::from_slice(&payload)
            .map_err(|error| EnvelopeError::Content { kind: T::TYPE, why: error.to_string() })?;
        document.check().map_err(|why| EnvelopeError::Content { kind: T::TYPE, why })?;
        if canonical_bytes(&document)? != payload {
            return Err(EnvelopeError::NotCanonical(T::TYPE));
        }
        Ok((document, Hash::of(&payload)))
    }

    /// The first valid signature by `key` on `message`, which is what this envelope's signatures are made over.
    fn signature_by(&self, key: &PublicKey, message: &[u8]) -> Option<&Signature> {
        let key_id = key.key_id();
        self.signatures.iter().take(MAX_SIGNATURES).filter(|signature| signature.keyid == key_id).find(|signature| {
            let Ok(bytes) = BASE64.decode(signature.sig.as_bytes()) else { return false };
            bytes.as_slice().try_into().is_ok_and(|bytes: &[u8; 64]| key.verifies(message, bytes))
        })
    }

    fn payload_bytes(&self) -> Result<Vec<u8>, EnvelopeError> {
        BASE64.decode(self.payload.as_bytes()).map_err(|_| EnvelopeError::Malformed("the payload is not base64"))
    }

    fn push_signature(&mut self, payload: &[u8], key: &SigningKey) {
        let sig = BASE64.encode(&key.sign_bytes(&pre_authentication_encoding(&self.payload_type, payload)));
        self.signatures.push(Signature { keyid: key.public().key_id(), sig });
        self.signatures.sort_by(|a, b| a.keyid.cmp(&b.keyid));
    }
}

/// DSSE's PAE: `"DSSEv1" SP LEN(type) SP type SP LEN(body) SP body`.
fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    bytes.extend_from_slice(payload);
    bytes
}

/// A document whose signatures have been checked. Can only be made by [`Envelope::open`] and [`Envelope::open_all`].
#[derive(Debug, Clone)]
pub struct Verified<T> {
    document: T,
    payload_hash: Hash,
}

impl<T> Verified<T> {
    /// SHA-256 of the signed payload: what the document is called by.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.payload_hash
    }

    /// The document alone, when the evidence is no longer needed.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.document
    }
}

impl<T> std::ops::Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.document
    }
}

/// A document whose signatures have *not* been checked.
#[derive(Debug, Clone)]
pub struct Unverified<T> {
    document: T,
    payload_hash: Hash,
}

impl<T> Unverified<T> {
    /// What the document claims.
    #[must_use]
    pub const fn claims(&self) -> &T {
        &self.document
    }

    /// SHA-256 of the payload.
    #[must_use]
    pub const fn hash(&self) -> Hash {
        self.payload_hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Note {
        text: String,
    }
    impl Document for Note {
        const TYPE: &'static str = "application/vnd.cohortium.test-note.v1+json";
        const MAX_BYTES: usize = 64;
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Other {
        text: String,
    }
    impl Document for Other {
        const TYPE: &'static str = "application/vnd.cohortium.test-other.v1+json";
        const MAX_BYTES: usize = 64;
    }

    fn key(seed: u8) -> SigningKey {
        SigningKey::generate(&mut ChaCha20Rng::from_seed([seed; 32]))
    }

    fn note(text: &str) -> Note {
        Note { text: text.to_owned() }
    }

    /// Each case edits a good envelope (as JSON) into a bad one named after its defect.
    #[test]
    fn what_was_peeked_at_is_confirmed_by_its_own_envelope_alone() {
        let note = |text: &str| Note { text: text.to_owned() };
        let signed = Envelope::sign(&note("a"), &key(1)).unwrap();
        let peeked = || signed.peek::<Note>().unwrap();
        let confirmed = signed.confirm(peeked(), &key(1).public()).unwrap();
        assert_eq!(
            (&*confirmed, confirmed.hash()),
            (&note("a"), signed.open::<Note>(&key(1).public()).unwrap().hash())
        );
        assert!(matches!(signed.confirm(peeked(), &key(2).public()), Err(EnvelopeError::Signature { .. })));
        let another = Envelope::sign(&note("b"), &key(1)).unwrap();
        assert!(matches!(another.confirm(peeked(), &key(1).public()), Err(EnvelopeError::Malformed(_))));
        let as_other = Envelope::sign(&Other { text: "a".to_owned() }, &key(1)).unwrap();
        assert!(matches!(as_other.confirm(peeked(), &key(1).public()), Err(EnvelopeError::Malformed(_))));
    }

    #[test]
    fn good_opens_and_each_defect_is_refused() {
        let (alice, mallory) = (key(1), key(2));
        let good = Envelope::sign(&note("hello"), &alice).unwrap();
        assert_eq!(good.open::<Note>(&alice.public()).unwrap().text, "hello");

        assert!(matches!(good.open::<Note>(&mallory.public()), Err(EnvelopeError::Signature { .. })));
        assert!(matches!(good.open::<Other>(&alice.public()), Err(EnvelopeError::Type { .. })));
        assert!(matches!(Envelope::sign(&note(&"x".repeat(60)), &alice), Err(EnvelopeError::TooLong { .. })));

        type Edit<'a> = (&'a str, &'a dyn Fn(&mut Envelope));
        let cases: [Edit<'_>; 6] = [
            ("payload_changed", &|e| e.payload = BASE64.encode(br#"{"text":"hellp"}"#)),
            ("payload_not_canonical", &|e| {
                let spaced = br#"{"text": "hello"}"#;
                *e = Envelope { payload: BASE64.encode(spaced), payload_type: Note::TYPE.into(), signatures: vec![] };
                e.push_signature(spaced, &key(1));
            }),
            ("unknown_field", &|e| {
                let extra = br#"{"more":1,"text":"hello"}"#;
                *e = Envelope { payload: BASE64.encode(extra), payload_type: Note::TYPE.into(), signatures: vec![] };
                e.push_signature(extra, &key(1));
            }),
            ("type_swapped", &|e| e.payload_type = Other::TYPE.into()),
            ("signature_stripped", &|e| e.signatures.clear()),
            ("signature_truncated", &|e| e.signatures[0].sig.truncate(40)),
        ];
        for (defect, edit) in cases {
            let mut bad = good.clone();
            edit(&mut bad);
            assert!(bad.open::<Note>(&alice.public()).is_err(), "{defect}");
        }
    }

    /// The same vectors are checked with PyPI's `securesystemslib` in `tests/interop/dsse.py`. `COHORTIUM_WRITE_VECTORS=1`
    /// writes them again.
    #[test]
    fn vectors_for_other_implementations() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vectors/dsse");
        let (alice, mallory) = (key(1), key(2));
        let good = Envelope::sign(&note("hello"), &alice).unwrap();
        let edited = |edit: &dyn Fn(&mut Envelope)| {
            let mut envelope = good.clone();
            edit(&mut envelope);
            envelope
        };
        let mut both = good.clone();
        both.also_sign(&mallory).unwrap();
        let vectors = [
            ("good", good.clone(), true),
            ("good_two_signatures", both, true),
            ("bad_payload_changed", edited(&|e| e.payload = BASE64.encode(br#"{"text":"hellp"}"#)), false),
            ("bad_type_changed", edited(&|e| e.payload_type = Other::TYPE.into()), false),
            ("bad_signed_by_another", Envelope::sign(&note("hello"), &mallory).unwrap(), false),
        ];
        for (name, envelope, valid) in vectors {
            let path = format!("{directory}/{name}.json");
            let key = BASE64.encode(alice.public().as_bytes());
            let vector = serde_json::json!({"publicKey": key, "envelope": envelope, "valid": valid});
            if std::env::var_os("COHORTIUM_WRITE_VECTORS").is_some() {
                std::fs::create_dir_all(directory).unwrap();
                std::fs::write(&path, serde_json::to_string_pretty(&vector).unwrap() + "\n").unwrap();
            }
            let stored: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
            assert_eq!(stored, vector, "{name}");
            let envelope: Envelope = serde_json::from_value(stored["envelope"].clone()).unwrap();
            assert_eq!(envelope.is_signed_by(&alice.public()), valid, "{name}");
        }
    }

    /// What is not checked as a signature must not carry anything either: envelopes are stored and logged as they came.
    #[test]
    fn a_key_id_or_signature_of_another_length_is_not_read() {
        let good = serde_json::to_value(Envelope::sign(&note("hello"), &key(1)).unwrap()).unwrap();
        assert!(serde_json::from_value::<Envelope>(good.clone()).is_ok());
        let long = "A".repeat(70_000);
        for (field, value) in [("keyid", ""), ("keyid", &long), ("sig", "AAAA"), ("sig", &long)] {
            let mut bad = good.clone();
            bad["signatures"][0][field] = value.into();
            assert!(serde_json::from_value::<Envelope>(bad).is_err(), "{field} of {} characters", value.len());
        }
        let mut bad = good;
        bad["signatures"][0]["more"] = "x".into();
        assert!(serde_json::from_value::<Envelope>(bad).is_err(), "an unknown field");
    }

    #[test]
    fn all_signatures_are_demanded_and_merging_collects_them() {
        let (alice, bob) = (key(1), key(2));
        let mut first = Envelope::sign(&note("ours"), &alice).unwrap();
        let keys = [alice.public(), bob.public()];
        assert!(first.open_all::<Note>(&keys).is_err());
        let mut second = Envelope::sign(&note("ours"), &bob).unwrap();
        second.also_sign(&bob).unwrap();
        assert_eq!(second.signature_count(), 1);
        first.merge_signatures(&second).unwrap();
        assert!(first.open_all::<Note>(&keys).is_ok());
        assert!(first.merge_signatures(&Envelope::sign(&note("theirs"), &bob).unwrap()).is_err());
        assert!(first.open_all::<Note>(&[]).is_err());
    }
}
