//! Signed text: C2SP signed-note v1.0.0, with Ed25519 signatures (type 0x01) and cosignatures (type 0x04,
//! C2SP tlog-cosignature v1).
//!
//! A note is text, an empty line, and signature lines `— <key name> base64(key id ‖ signature)`. The idea and the format
//! come from Go's checksum database (Cox, 2019). Everything is parsed strictly and must re-encode to the same bytes, so
//! there is one way to write a note: no bit of it can be changed without changing its meaning.
//!
//! What it does not do: ML-DSA (type 0x06) waits for an audited implementation; a key of another type is refused by name,
//! never ignored. Private keys have no text form here: they are made from 32 seed bytes that the caller keeps.
//!
//! Adversary: whoever sends notes. Sizes are bounded; Ed25519 verification is the strict one (RFC 8032 with small-order
//! keys and non-canonical points refused), so a signature cannot be altered into another valid one. A key id is a
//! hint of four bytes and is never taken as proof of anything.

use std::fmt;

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

/// Largest note, in bytes. A checkpoint with 100 cosignatures (about 400 bytes each with long names) is 40 kB.
pub const NOTE_BYTES_MAX: usize = 64 << 10;

/// Most signatures on a note: 100 organisations as witnesses, and room. The specification demands at least 16.
pub const SIGNATURES_MAX: usize = 128;

/// Longest key name or origin, in bytes (the length byte of newer cosignature formats allows 255).
pub const NAME_BYTES_MAX: usize = 255;

/// Latest time a cosignature can carry, in seconds since 1970 (tlog-cosignature: at most 2^63 - 1).
pub const TIME_S_MAX: u64 = i64::MAX.cast_unsigned();

const SIGNATURE_BYTES: usize = 64;

/// Why a note, key or signature is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// The bytes are not a note as the specification writes it.
    #[error("peer: malformed note: {0}")]
    Malformed(&'static str),
    /// The note or one of its parts is over its limit.
    #[error("peer: note over its limit of {limit} {what}")]
    TooLarge {
        /// What there is too much of, in its unit.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A key is not usable: bad name, unknown type, wrong id, bad point.
    #[error("operator: unusable key: {0}")]
    BadKey(&'static str),
    /// A known key's name and id stand on a signature that does not verify.
    #[error("peer: the signature of {name} does not verify")]
    BadSignature {
        /// The key's name.
        name: String,
    },
    /// The same key signed twice.
    #[error("peer: {name} signed more than once")]
    DuplicateSignature {
        /// The key's name.
        name: String,
    },
    /// The key that must have signed did not.
    #[error("peer: not signed by {name}")]
    NotSigned {
        /// The key's name.
        name: String,
    },
    /// A key was used for what it is not for.
    #[error("caller: {name} is a key of the other kind")]
    WrongKind {
        /// The key's name.
        name: String,
    },
    /// A time that a cosignature cannot carry.
    #[error("caller: time {0} s is later than a cosignature can say")]
    Time(u64),
}

/// What a key is for. The kind is part of the key id, so that one key pair used for both would have two ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Type 0x01: signs note text; the kind of a log.
    Log,
    /// Type 0x04: signs `cosignature/v1`, a time and note text; the kind of a witness.
    Witness,
}

impl KeyKind {
    fn type_byte(self) -> u8 {
        match self {
            KeyKind::Log => 0x01,
            KeyKind::Witness => 0x04,
        }
    }

    fn from_type_byte(byte: u8) -> Result<KeyKind, NoteError> {
        match byte {
            0x01 => Ok(KeyKind::Log),
            0x04 => Ok(KeyKind::Witness),
            _ => Err(NoteError::BadKey("signature type other than 0x01 (Ed25519) and 0x04 (cosignature/v1)")),
        }
    }
}

/// A public key with its name and kind. Its text form (a *vkey*) is `name+hex(key id)+base64(type ‖ public key)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierKey {
    name: String,
    kind: KeyKind,
    id: [u8; 4],
    key: VerifyingKey,
}

impl VerifierKey {
    /// Takes a 32-byte Ed25519 public key under a name.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] for an empty, long, spaced or `+` name and for a point that is no key or of small order.
    pub fn new(name: &str, kind: KeyKind, public_key: &[u8; 32]) -> Result<VerifierKey, NoteError> {
        check_name(name).map_err(NoteError::BadKey)?;
        let key = VerifyingKey::from_bytes(public_key).map_err(|_| NoteError::BadKey("not an Ed25519 public key"))?;
        if key.is_weak() {
            return Err(NoteError::BadKey("public key of small order"));
        }
        Ok(VerifierKey { name: name.to_owned(), kind, id: key_id(name, kind, public_key), key })
    }

    /// Reads a vkey.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] unless it is exactly the text that this key is written as.
    pub fn parse(vkey: &str) -> Result<VerifierKey, NoteError> {
        let mut parts = vkey.splitn(3, '+');
        let (Some(name), Some(_), Some(encoded)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(NoteError::BadKey("a vkey is name+id+key"));
        };
        let bytes = BASE64.decode(encoded.as_bytes()).map_err(|_| NoteError::BadKey("key part is not base64"))?;
        let (kind, public_key) = bytes.split_first().ok_or(NoteError::BadKey("key part is empty"))?;
        let public_key =
            <[u8; 32]>::try_from(public_key).map_err(|_| NoteError::BadKey("an Ed25519 public key has 32 bytes"))?;
        let key = VerifierKey::new(name, KeyKind::from_type_byte(*kind)?, &public_key)?;
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

    /// The Ed25519 public key.
    pub fn public_key(&self) -> &[u8; 32] {
        self.key.as_bytes()
    }

    /// Whether the line claims to be by this key. Proves nothing yet.
    pub fn claims(&self, signature: &NoteSignature) -> bool {
        signature.name == self.name && signature.id == self.id
    }

    /// Checks a signature line over this text. Returns the time a cosignature states, in seconds since 1970; for a log
    /// signature, `None`.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`], whatever is wrong with it.
    pub fn verify(&self, text: &str, signature: &NoteSignature) -> Result<Option<u64>, NoteError> {
        self.verify_bytes(text, signature).ok_or_else(|| NoteError::BadSignature { name: self.name.clone() })
    }

    fn verify_bytes(&self, text: &str, signature: &NoteSignature) -> Option<Option<u64>> {
        if !self.claims(signature) {
            return None;
        }
        match self.kind {
            KeyKind::Log => {
                let bytes = <[u8; SIGNATURE_BYTES]>::try_from(signature.bytes.as_slice()).ok()?;
                self.key.verify_strict(text.as_bytes(), &Signature::from_bytes(&bytes)).ok()?;
                Some(None)
            }
            KeyKind::Witness => {
                let (time, bytes) = signature.bytes.split_first_chunk::<8>()?;
                let bytes = <[u8; SIGNATURE_BYTES]>::try_from(bytes).ok()?;
                let time_s = u64::from_be_bytes(*time);
                let message = cosigned_message(text, time_s).ok()?;
                self.key.verify_strict(message.as_bytes(), &Signature::from_bytes(&bytes)).ok()?;
                Some(Some(time_s))
            }
        }
    }
}

impl fmt::Display for VerifierKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = vec![self.kind.type_byte()];
        bytes.extend_from_slice(self.public_key());
        write!(out, "{}+{}+{}", self.name, HEXLOWER.encode(&self.id), BASE64.encode(&bytes))
    }
}

/// A private key with its name and kind. Not printable, not comparable; overwritten when dropped.
///
/// One key, one name: the cosigned bytes do not contain the name, so the same key under two names would let one
/// signature count for both.
pub struct SignerKey {
    verifier: VerifierKey,
    key: SigningKey,
}

impl SignerKey {
    /// Makes the key from its 32 secret bytes (RFC 8032 seed). The caller overwrites its copy.
    ///
    /// # Errors
    /// [`NoteError::BadKey`] for a bad name.
    pub fn from_seed(name: &str, kind: KeyKind, seed: &[u8; 32]) -> Result<SignerKey, NoteError> {
        let key = SigningKey::from_bytes(seed);
        let verifier = VerifierKey::new(name, kind, key.verifying_key().as_bytes())?;
        Ok(SignerKey { verifier, key })
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
        self.demand(KeyKind::Log)?;
        check_text(text)?;
        Ok(self.line(self.key.sign(text.as_bytes()).to_bytes().to_vec()))
    }

    /// Cosigns note text as a witness, at a time in seconds since 1970.
    ///
    /// # Errors
    /// [`NoteError::WrongKind`] for a log key, [`NoteError::Malformed`] for text that cannot be in a note,
    /// [`NoteError::Time`] beyond [`TIME_S_MAX`].
    pub fn cosign(&self, text: &str, time_s: u64) -> Result<NoteSignature, NoteError> {
        self.demand(KeyKind::Witness)?;
        check_text(text)?;
        let signature = self.key.sign(cosigned_message(text, time_s)?.as_bytes());
        Ok(self.line([time_s.to_be_bytes().as_slice(), &signature.to_bytes()].concat()))
    }

    fn demand(&self, kind: KeyKind) -> Result<(), NoteError> {
        if self.verifier.kind == kind { Ok(()) } else { Err(NoteError::WrongKind { name: self.verifier.name.clone() }) }
    }

    fn line(&self, bytes: Vec<u8>) -> NoteSignature {
        NoteSignature { name: self.verifier.name.clone(), id: self.verifier.id, bytes }
    }
}

/// One signature line, not verified. Its text form has no newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// Reads a line without its newline.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] unless it is exactly what [`fmt::Display`] writes.
    pub fn parse(line: &str) -> Result<NoteSignature, NoteError> {
        if line.len() > NOTE_BYTES_MAX {
            return Err(NoteError::TooLarge { what: "bytes", limit: NOTE_BYTES_MAX });
        }
        let rest = line
            .strip_prefix("\u{2014} ")
            .ok_or(NoteError::Malformed("a signature line starts with an em dash and a space"))?;
        let (name, encoded) =
            rest.split_once(' ').ok_or(NoteError::Malformed("a signature line has a name and a signature"))?;
        check_name(name).map_err(NoteError::Malformed)?;
        let bytes =
            BASE64.decode(encoded.as_bytes()).map_err(|_| NoteError::Malformed("a signature is not strict base64"))?;
        let (id, bytes) =
            bytes.split_first_chunk::<4>().ok_or(NoteError::Malformed("a signature is shorter than its key id"))?;
        if bytes.is_empty() {
            return Err(NoteError::Malformed("a signature is empty"));
        }
        let signature = NoteSignature { name: name.to_owned(), id: *id, bytes: bytes.to_vec() };
        if signature.to_string() != line {
            return Err(NoteError::Malformed("a signature line is not in its one form"));
        }
        Ok(signature)
    }

    /// The name of the key that claims to have signed.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key that claims to have signed.
    pub fn id(&self) -> [u8; 4] {
        self.id
    }

    /// The signature without the key id: 64 bytes for a log, time and 64 bytes for a witness.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for NoteSignature {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "\u{2014} {} {}", self.name, BASE64.encode(&[self.id.as_slice(), &self.bytes].concat()))
    }
}

/// Text with at least one signature line, well formed, not verified. Its text form is the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    text: String,
    signatures: Vec<NoteSignature>,
}

impl Note {
    /// Puts a note together.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] or [`NoteError::TooLarge`] when the text cannot be in a note or there is no signature.
    pub fn new(text: &str, signatures: Vec<NoteSignature>) -> Result<Note, NoteError> {
        check_text(text)?;
        if signatures.is_empty() {
            return Err(NoteError::Malformed("a note has at least one signature"));
        }
        if signatures.len() > SIGNATURES_MAX {
            return Err(NoteError::TooLarge { what: "signatures", limit: SIGNATURES_MAX });
        }
        let note = Note { text: text.to_owned(), signatures };
        check_length(note.to_string().len()).map(|()| note)
    }

    /// Reads a note.
    ///
    /// # Errors
    /// [`NoteError::Malformed`] or [`NoteError::TooLarge`], unless it is exactly what [`fmt::Display`] writes.
    pub fn parse(bytes: &[u8]) -> Result<Note, NoteError> {
        check_length(bytes.len())?;
        let whole = std::str::from_utf8(bytes).map_err(|_| NoteError::Malformed("not UTF-8"))?;
        // The last empty line separates text and signatures; the text keeps its own final newline.
        let blank = whole.rfind("\n\n").ok_or(NoteError::Malformed("no empty line between text and signatures"))?;
        let (text, lines) = whole.split_at_checked(blank + 1).ok_or(NoteError::Malformed("not UTF-8"))?;
        let lines = lines.strip_prefix('\n').and_then(|lines| lines.strip_suffix('\n'));
        let lines = lines.ok_or(NoteError::Malformed("the last signature line does not end in a newline"))?;
        let signatures =
            lines.split('\n').take(SIGNATURES_MAX + 1).map(NoteSignature::parse).collect::<Result<_, _>>()?;
        let note = Note::new(text, signatures)?;
        if note.to_string() != whole {
            return Err(NoteError::Malformed("not in its one form"));
        }
        Ok(note)
    }

    /// The signed text. Not to be believed before a signature was verified.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The signature lines in order.
    pub fn signatures(&self) -> &[NoteSignature] {
        &self.signatures
    }

    /// Which of these keys signed: (position in `keys`, time of a cosignature in seconds since 1970), in order of lines.
    /// Lines by other keys are ignored, as the specification demands.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if any line that claims to be by one of the keys is not;
    /// [`NoteError::DuplicateSignature`] if a key signed twice.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Vec<(usize, Option<u64>)>, NoteError> {
        let mut signed = Vec::new();
        for signature in &self.signatures {
            let Some((position, key)) = keys.iter().enumerate().find(|(_, key)| key.claims(signature)) else {
                continue;
            };
            let time_s = key.verify(&self.text, signature)?;
            if signed.iter().any(|(earlier, _)| *earlier == position) {
                return Err(NoteError::DuplicateSignature { name: key.name.clone() });
            }
            signed.push((position, time_s));
        }
        Ok(signed)
    }
}

impl fmt::Display for Note {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{}\n{}\n",
            self.text,
            self.signatures.iter().map(NoteSignature::to_string).collect::<Vec<_>>().join("\n")
        )
    }
}

/// Why a name cannot stand on a signature line, if it cannot.
pub(crate) fn check_name(name: &str) -> Result<(), &'static str> {
    if name.is_empty() || name.len() > NAME_BYTES_MAX {
        return Err("a key name has 1 to 255 bytes");
    }
    if name.chars().any(|c| c.is_whitespace() || c.is_control() || c == '+') {
        return Err("a key name has no space, control character or plus sign");
    }
    Ok(())
}

fn check_text(text: &str) -> Result<(), NoteError> {
    check_length(text.len())?;
    if !text.ends_with('\n') {
        return Err(NoteError::Malformed("the text does not end in a newline"));
    }
    if text.chars().any(|c| c < ' ' && c != '\n') {
        return Err(NoteError::Malformed("the text has a control character"));
    }
    Ok(())
}

fn check_length(length: usize) -> Result<(), NoteError> {
    if length > NOTE_BYTES_MAX { Err(NoteError::TooLarge { what: "bytes", limit: NOTE_BYTES_MAX }) } else { Ok(()) }
}

fn key_id(name: &str, kind: KeyKind, public_key: &[u8; 32]) -> [u8; 4] {
    let hash =
        Sha256::new().chain_update(name).chain_update([b'\n', kind.type_byte()]).chain_update(public_key).finalize();
    let [a, b, c, d, ..] = <[u8; 32]>::from(hash);
    [a, b, c, d]
}

fn cosigned_message(text: &str, time_s: u64) -> Result<String, NoteError> {
    if time_s > TIME_S_MAX {
        return Err(NoteError::Time(time_s));
    }
    Ok(format!("cosignature/v1\ntime {time_s}\n{text}"))
}
