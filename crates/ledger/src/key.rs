//! Keys of logs and witnesses, with their names: C2SP signed-note v1.0.0 (type 0x01) and C2SP tlog-cosignature v1.1
//! (types 0x04, Ed25519, and 0x06, ML-DSA-44).
//!
//! A key's text form (a *vkey*) is `name+hex(key id)+base64(type ‖ public key)`. Its id is the start of a hash over name,
//! type and key: a hint for finding the key of a line, never taken as proof of anything.
//!
//! What is signed: a log signs the text of a note. An Ed25519 cosignature is over `cosignature/v1`, a time and the text; it
//! does not contain the witness's name, so that one key under two names would make one signature count for both. An
//! ML-DSA-44 cosignature is over a binary structure (label `subtree/v1`) that contains the witness's name, the time and
//! the tree head.
//!
//! What it does not do: private keys have no text form; they are made from 32 seed bytes that the caller keeps. Statements
//! about subtrees, which the ML-DSA-44 format could make, are neither made nor accepted: a time of 0 is refused.
//!
//! Adversary: whoever sends keys and signatures. Ed25519 verification is the strict one (RFC 8032 with small-order keys
//! and non-canonical points refused), and an ML-DSA-44 signature has one encoding, so that a signature cannot be altered
//! into another valid one.

use std::fmt;
use std::sync::Arc;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::checkpoint::Checkpoint;
use crate::ml_dsa_44;
use crate::note::{NoteError, NoteSignature, TIME_S_MAX, check_name, check_text};

/// Longest vkey, in bytes: a name of 255 bytes and an ML-DSA-44 key.
pub const VKEY_BYTES_MAX: usize = 255 + 1 + 8 + 1 + 1752;

const ED25519_SIGNATURE_BYTES: usize = 64;

/// What a key is for. The kind is part of the key id, so that one key pair used for two purposes would have two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Type 0x01, Ed25519: signs note text; the kind of a log.
    Log,
    /// Type 0x04, Ed25519: signs `cosignature/v1`, a time and note text; the first kind of a witness.
    Witness,
    /// Type 0x06, ML-DSA-44: signs `subtree/v1`, the witness's name, a time and a tree head; the second kind of a witness.
    WitnessMlDsa44,
}

impl KeyKind {
    /// Whether keys of this kind cosign.
    pub fn is_witness(self) -> bool {
        matches!(self, KeyKind::Witness | KeyKind::WitnessMlDsa44)
    }

    fn type_byte(self) -> u8 {
        match self {
            KeyKind::Log => 0x01,
            KeyKind::Witness => 0x04,
            KeyKind::WitnessMlDsa44 => 0x06,
        }
    }

    fn from_type_byte(byte: u8) -> Result<KeyKind, NoteError> {
        match byte {
            0x01 => Ok(KeyKind::Log),
            0x04 => Ok(KeyKind::Witness),
            0x06 => Ok(KeyKind::WitnessMlDsa44),
            _ => Err(NoteError::BadKey("signature type other than 0x01 (log), 0x04 and 0x06 (cosignatures)")),
        }
    }
}

/// A public key with its name and kind. [`fmt::Display`] writes the vkey.
#[derive(Clone, Debug)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    id: [u8; 4],
    key: PublicKey,
}

#[derive(Clone, Debug)]
enum PublicKey {
    Ed25519(VerifyingKey),
    MlDsa44(Arc<ml_dsa_44::PublicKey>),
}

impl PartialEq for VerifierKey {
    fn eq(&self, other: &VerifierKey) -> bool {
        self.name == other.name && self.kind == other.kind && self.public_key() == other.public_key()
    }
}

impl Eq for VerifierKey {}

impl VerifierKey {
    /// Takes a public key under a name: 32 bytes of Ed25519, or 1,312 of ML-DSA-44.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] for an empty, long, spaced or `+` name, for the wrong number of bytes, and for an Ed25519 point
    /// that is no key or of small order.
    pub fn new(name: &str, kind: KeyKind, public_key: &[u8]) -> Result<VerifierKey, NoteError> {
        check_name(name).map_err(NoteError::BadKey)?;
        let key = match kind {
            KeyKind::Log | KeyKind::Witness => PublicKey::Ed25519(ed25519_key(public_key)?),
            KeyKind::WitnessMlDsa44 => {
                let key = ml_dsa_44::PublicKey::new(public_key);
                PublicKey::MlDsa44(Arc::new(key.ok_or(NoteError::BadKey("an ML-DSA-44 public key has 1312 bytes"))?))
            }
        };
        Ok(VerifierKey { name: name.to_owned(), kind, id: key_id(name, kind, public_key), key })
    }

    /// Reads a vkey.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] unless it is exactly the text that this key is written as.
    pub fn parse(vkey: &str) -> Result<VerifierKey, NoteError> {
        if vkey.len() > VKEY_BYTES_MAX {
            return Err(NoteError::BadKey("a vkey has at most 2017 bytes"));
        }
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(_), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadKey("a vkey is name+id+key"));
        };
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| NoteError::BadKey("key part is not base64"))?;
        let (kind, public_key) = bytes.split_first().ok_or(NoteError::BadKey("key part is empty"))?;
        let key = VerifierKey::new(name, KeyKind::from_type_byte(*kind)?, public_key)?;
        if key.to_string() != vkey {
            return Err(NoteError::BadKey("the id is not the one of this name and key"));
        }
        Ok(key)
    }

    /// The name on its signature lines; for a log, also its origin.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What the key is for.
    pub fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The four-byte hint on its signature lines.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The public key: 32 bytes of Ed25519, or 1,312 of ML-DSA-44.
    pub fn public_key(&self) -> &[u8] {
        match &self.key {
            PublicKey::Ed25519(key) => key.as_bytes(),
            PublicKey::MlDsa44(key) => key.as_bytes(),
        }
    }

    /// Whether the line claims to be by this key. Proves nothing yet.
    pub fn claims(&self, signature: &NoteSignature) -> bool {
        signature.name() == self.name && signature.id() == self.id
    }

    /// Checks a signature line over this text. Returns the time a cosignature states, in seconds since 1970; for a log
    /// signature, `None`.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`], whatever is wrong with it; [`NoteError::NoTime`] for an ML-DSA-44 cosignature of time 0,
    /// whose signer does not say that the tree was the largest it had seen; [`NoteError::NotACheckpoint`] when the text has
    /// no tree head that an ML-DSA-44 cosignature could be about.
    pub fn verify(&self, text: &str, signature: &NoteSignature) -> Result<Option<u64>, NoteError> {
        let bad = || NoteError::BadSignature { name: self.name.clone() };
        if !self.claims(signature) {
            return Err(bad());
        }
        if self.kind == KeyKind::Log {
            return if self.has_signed(text.as_bytes(), signature.bytes()) { Ok(None) } else { Err(bad()) };
        }
        let (time, bytes) = signature.bytes().split_first_chunk::<8>().ok_or_else(bad)?;
        let time_s = u64::from_be_bytes(*time);
        if time_s > TIME_S_MAX {
            return Err(bad());
        }
        let message = self.cosigned_message(text, time_s)?;
        if !self.has_signed(&message, bytes) {
            return Err(bad());
        }
        if self.kind == KeyKind::WitnessMlDsa44 && time_s == 0 {
            return Err(NoteError::NoTime { name: self.name.clone() });
        }
        Ok(Some(time_s))
    }

    fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.key {
            PublicKey::Ed25519(key) => <[u8; ED25519_SIGNATURE_BYTES]>::try_from(signature)
                .is_ok_and(|bytes| key.verify_strict(message, &Signature::from_bytes(&bytes)).is_ok()),
            PublicKey::MlDsa44(key) => {
                signature.len() == ml_dsa_44::SIGNATURE_BYTES && key.has_signed(message, signature)
            }
        }
    }

    /// What a cosignature of this key at this time is over.
    fn cosigned_message(&self, text: &str, time_s: u64) -> Result<Vec<u8>, NoteError> {
        match self.key {
            PublicKey::Ed25519(_) => Ok(format!("cosignature/v1\ntime {time_s}\n{text}").into_bytes()),
            PublicKey::MlDsa44(_) => {
                let head =
                    Checkpoint::parse(text).map_err(|_| NoteError::NotACheckpoint { name: self.name.clone() })?;
                subtree_message(&self.name, time_s, &head).ok_or(NoteError::BadKey("a name is over 255 bytes"))
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = [&[self.kind.type_byte()], self.public_key()].concat();
        write!(out, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id), BASE64.encode(&bytes))
    }
}

/// A private key with its name and kind. Not printable, not comparable; overwritten when dropped.
///
/// One key, one name: an Ed25519 cosignature does not contain the name, so the same key under two names would let one
/// signature count for both.
pub struct SignerKey {
    verifier: VerifierKey,
    key: SecretKey,
}

enum SecretKey {
    Ed25519(SigningKey),
    MlDsa44(ml_dsa_44::SecretKey),
}

impl SignerKey {
    /// Makes the key from its 32 secret bytes (RFC 8032's seed, or FIPS 204's ξ). The caller overwrites its copy, and uses
    /// a seed for one key only.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] for a bad name.
    pub fn from_seed(name: &str, kind: KeyKind, seed: &[u8; 32]) -> Result<SignerKey, NoteError> {
        let (key, public_key) = match kind {
            KeyKind::Log | KeyKind::Witness => {
                let key = SigningKey::from_bytes(seed);
                let public_key = key.verifying_key().as_bytes().to_vec();
                (SecretKey::Ed25519(key), public_key)
            }
            KeyKind::WitnessMlDsa44 => {
                let key = ml_dsa_44::SecretKey::from_seed(seed);
                let public_key = key.public_key_bytes();
                (SecretKey::MlDsa44(key), public_key)
            }
        };
        Ok(SignerKey { verifier: VerifierKey::new(name, kind, &public_key)?, key })
    }

    /// The public half.
    pub fn verifier(&self) -> &VerifierKey {
        &self.verifier
    }

    /// Signs note text as a log.
    ///
    /// # Errors
    /// [`NoteError::WrongKind`] for a witness key, [`NoteError::Malformed`] for text that cannot be in a note.
    pub fn sign(&self, text: &str) -> Result<NoteSignature, NoteError> {
        self.demand(self.verifier.kind == KeyKind::Log)?;
        check_text(text)?;
        self.line(self.sign_bytes(text.as_bytes())?)
    }

    /// Cosigns note text as a witness, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`NoteError::WrongKind`] for a log key, [`NoteError::Malformed`] for text that cannot be in a note,
    /// [`NoteError::Time`] beyond [`TIME_S_MAX`] and, for an ML-DSA-44 key, for 0; [`NoteError::NotACheckpoint`] for an
    /// ML-DSA-44 key and text that is no tree head.
    pub fn cosign(&self, text: &str, time_s: u64) -> Result<NoteSignature, NoteError> {
        self.demand(self.verifier.kind.is_witness())?;
        check_text(text)?;
        if time_s > TIME_S_MAX || (time_s == 0 && self.verifier.kind == KeyKind::WitnessMlDsa44) {
            return Err(NoteError::Time(time_s));
        }
        let signature = self.sign_bytes(&self.verifier.cosigned_message(text, time_s)?)?;
        self.line([time_s.to_be_bytes().as_slice(), &signature].concat())
    }

    fn sign_bytes(&self, message: &[u8]) -> Result<Vec<u8>, NoteError> {
        match &self.key {
            SecretKey::Ed25519(key) => Ok(key.sign(message).to_bytes().to_vec()),
            SecretKey::MlDsa44(key) => {
                key.sign(message).ok_or(NoteError::BadKey("signing failed: a fault of the machine"))
            }
        }
    }

    fn demand(&self, is_right: bool) -> Result<(), NoteError> {
        if is_right { Ok(()) } else { Err(NoteError::WrongKind { name: self.verifier.name.clone() }) }
    }

    fn line(&self, bytes: Vec<u8>) -> Result<NoteSignature, NoteError> {
        NoteSignature::new(&self.verifier.name, self.verifier.id, bytes)
    }
}

fn ed25519_key(bytes: &[u8]) -> Result<VerifyingKey, NoteError> {
    let bytes = bytes.try_into().map_err(|_| NoteError::BadKey("an Ed25519 public key has 32 bytes"))?;
    let key = VerifyingKey::from_bytes(bytes).map_err(|_| NoteError::BadKey("not an Ed25519 public key"))?;
    if key.is_weak() { Err(NoteError::BadKey("public key of small order")) } else { Ok(key) }
}

fn key_id(name: &str, kind: KeyKind, public_key: &[u8]) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(name).chain_update([b'\n', kind.type_byte()]).chain_update(public_key).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

/// The structure `cosigned_message` of tlog-cosignature for a whole tree: integers big end first, names after their length
/// in one byte. `None` when a name does not fit that byte.
fn subtree_message(cosigner: &str, time_s: u64, head: &Checkpoint) -> Option<Vec<u8>> {
    let mut message = b"subtree/v1\n\0".to_vec();
    message.push(u8::try_from(cosigner.len()).ok()?);
    message.extend_from_slice(cosigner.as_bytes());
    message.extend_from_slice(&time_s.to_be_bytes());
    message.push(u8::try_from(head.origin().len()).ok()?);
    message.extend_from_slice(head.origin().as_bytes());
    message.extend_from_slice(&0u64.to_be_bytes());
    message.extend_from_slice(&head.size().to_be_bytes());
    message.extend_from_slice(head.root());
    Some(message)
}
