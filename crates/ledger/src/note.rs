//! Signed text: C2SP signed-note v1.0.0.
//!
//! A note is text, an empty line, and signature lines `— <key name> base64(key id ‖ signature)`. The idea and the format
//! come from Go's checksum database (Cox, 2019). Everything is parsed strictly and must re-encode to the same bytes, so
//! there is one way to write a note: no bit of it can be changed without changing its meaning.
//!
//! What it does not do: know what a signature is over; that is [`crate::key`].
//!
//! Adversary: whoever sends notes. Sizes and numbers of lines are bounded before anything is decoded.

use std::fmt;

use data_encoding::BASE64;

use crate::key::VerifierKey;

/// Largest note, in bytes (512 KiB). 100 witnesses with two keys each and names of 255 bytes need 387 kB: an ML-DSA-44
/// line has 3,252 bytes and the name, an Ed25519 line 108 and the name. Go's package reads up to 1,000,000.
pub const NOTE_BYTES_MAX: usize = 512 << 10;

/// Most signatures on a note: the log and 100 witnesses with two keys each, as many as a secure sum has members. The
/// specification demands at least 16. Go's package reads up to 100: for its readers, [`crate::SignedCheckpoint::with_only`]
/// leaves out what no quorum needs.
pub const SIGNATURES_MAX: usize = 201;

/// Longest key name or origin, in bytes (the length byte of newer cosignature formats allows 255).
pub const NAME_BYTES_MAX: usize = 255;

/// Latest time a cosignature can carry, in seconds since 1970 (tlog-cosignature: at most 2^63 - 1).
pub const TIME_S_MAX: u64 = i64::MAX.cast_unsigned();

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
    /// A cosignature whose signer does not say when, and therefore not that the tree was the largest it had seen.
    #[error("peer: the cosignature of {name} states no time")]
    NoTime {
        /// The key's name.
        name: String,
    },
    /// An ML-DSA-44 cosignature is over a tree head, and the text is none.
    #[error("peer: {name} cosigns tree heads, and the text is none")]
    NotACheckpoint {
        /// The key's name.
        name: String,
    },
    /// A key was used for what it is not for.
    #[error("caller: {name} is a key of another kind")]
    WrongKind {
        /// The key's name.
        name: String,
    },
    /// A time that a cosignature cannot carry.
    #[error("caller: a cosignature cannot state the time {0} s")]
    Time(u64),
}

/// One signature line, not verified. Its text form has no newline.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoteSignature {
    name: String,
    id: [u8; 4],
    bytes: Vec<u8>,
}

impl NoteSignature {
    /// A line by the key with this name and id, over whatever that key signed.
    pub(crate) fn new(name: &str, id: [u8; 4], bytes: Vec<u8>) -> Result<NoteSignature, NoteError> {
        check_name(name).map_err(NoteError::Malformed)?;
        if bytes.is_empty() {
            return Err(NoteError::Malformed("a signature is empty"));
        }
        Ok(NoteSignature { name: name.to_owned(), id, bytes })
    }

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
        let bytes =
            BASE64.decode(encoded.as_bytes()).map_err(|_| NoteError::Malformed("a signature is not strict base64"))?;
        let (id, bytes) =
            bytes.split_first_chunk::<4>().ok_or(NoteError::Malformed("a signature is shorter than its key id"))?;
        let signature = NoteSignature::new(name, *id, bytes.to_vec())?;
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

    /// The signature without the key id: 64 bytes for a log; for a witness, 8 bytes of time and 64 or 2,420 more.
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
    /// Lines by other keys are ignored, as the specification demands. An id has four bytes, so one name may have two keys with
    /// the same: of those that a line claims to be by, it is by the one that verifies it.
    ///
    /// # Errors
    /// [`NoteError::BadSignature`] if any line that claims to be by some of the keys is by none of them;
    /// [`NoteError::DuplicateSignature`] if a key signed twice.
    pub fn verify(&self, keys: &[VerifierKey]) -> Result<Vec<(usize, Option<u64>)>, NoteError> {
        let mut signed = Vec::new();
        for signature in &self.signatures {
            let (mut signer, mut failed) = (None, None);
            for (position, key) in keys.iter().enumerate().filter(|(_, key)| key.claims(signature)) {
                match key.verify(&self.text, signature) {
                    Ok(time_s) => {
                        signer = Some((position, time_s));
                        break;
                    }
                    Err(error) => failed = Some(error),
                }
            }
            let Some((position, time_s)) = signer else {
                failed.map_or(Ok(()), Err)?;
                continue;
            };
            if signed.iter().any(|(earlier, _)| *earlier == position) {
                return Err(NoteError::DuplicateSignature { name: signature.name().to_owned() });
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

pub(crate) fn check_text(text: &str) -> Result<(), NoteError> {
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
