//! That one entry is in a log, as one text file: C2SP tlog-proof (`c2sp.org/tlog-proof@v1`), usually kept as
//! `….tlog-proof`.
//!
//! Why this exists. A custodian should be able to keep the proof that a decision was logged beside the decision, and to
//! show it years later to someone who has neither the log nor our program: the file, the entry and a
//! [`LogPolicy`] suffice.
//!
//! ```text
//! c2sp.org/tlog-proof@v1
//! extra ZXh0cmE=
//! index 73894
//! gSKyXoYZUgZ6jduWYrkDOARinOMGJveXjgMkBTcdPlQ=
//!
//! hub
//! 109482
//! sFodV/vSp5O8n9a8QpW6PRY97tfOSW5bsc2Xl/EQi08=
//!
//! — hub …
//! — northside …
//! ```
//!
//! What it does not do: say when the entry was logged (cosignatures state when a head was seen), or whether it was
//! revoked later. `extra` is not signed by anyone.
//!
//! Adversary: whoever hands over the file. It parses to one value and back to the same bytes, or not at all. Promise of
//! [`LogProof::verify`] (proven, RFC 6962 with SHA-256 collision resistant; given that the policy holds): the entry is at
//! that index in the log under a head that the policy's quorum cosigned.

use std::fmt;

use data_encoding::BASE64;

use crate::checkpoint::{Checkpoint, CheckpointError, QuorumCheckpoint, SignedCheckpoint};
use crate::log_policy::{LogPolicy, PolicyError};
use crate::note::{NOTE_BYTES_MAX, Note};
use crate::tree::{self, Hash, TreeError};

/// Most extra data, in bytes (64 KiB): enough for an entry.
pub const EXTRA_BYTES_MAX: usize = 64 << 10;

/// Most hashes: a tree of 2^62 entries is 62 levels high.
pub const PATH_HASHES_MAX: usize = 63;

/// Longest proof, in bytes.
pub const PROOF_BYTES_MAX: usize = NOTE_BYTES_MAX + EXTRA_BYTES_MAX / 3 * 4 + PATH_HASHES_MAX * 45 + 128;

const FIRST_LINE: &str = "c2sp.org/tlog-proof@v1";

/// Why a proof is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The bytes are not a proof as the specification writes it.
    #[error("peer: malformed log proof: {0}")]
    Malformed(&'static str),
    /// There is too much of something.
    #[error("peer: log proof over its limit of {limit} {what}")]
    TooLarge {
        /// Of what, in its unit.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The checkpoint in it is malformed.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The head is not signed and cosigned as the policy demands.
    #[error(transparent)]
    Policy(#[from] PolicyError),
    /// The entry is not at that index under that head.
    #[error("peer: entry {index} is not proven: {source}")]
    NotIncluded {
        /// The index that the proof claims.
        index: u64,
        /// What is wrong.
        source: TreeError,
    },
}

/// A proof, well formed, not verified. [`fmt::Display`] writes the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogProof {
    extra: Vec<u8>,
    index: u64,
    path: Vec<Hash>,
    note: Note,
}

/// Evidence that an entry is in a log under a head that a quorum cosigned. Made only by [`LogProof::verify`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProvenEntry {
    index: u64,
    leaf: Hash,
    head: QuorumCheckpoint,
}

impl ProvenEntry {
    /// Its index in the log.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The leaf hash of the entry.
    pub fn leaf(&self) -> &Hash {
        &self.leaf
    }

    /// The head, and who cosigned it when.
    pub fn head(&self) -> &QuorumCheckpoint {
        &self.head
    }
}

impl LogProof {
    /// Puts a proof together from an inclusion proof for the entry at `index` under this head. `extra` may be empty.
    ///
    /// # Errors
    /// [`ProofError::TooLarge`] for extra data or a path over its limit, [`ProofError::Malformed`] for an index that is not
    /// under the head.
    pub fn new(index: u64, path: Vec<Hash>, head: &SignedCheckpoint, extra: &[u8]) -> Result<LogProof, ProofError> {
        LogProof { extra: extra.to_vec(), index, path, note: head.note().clone() }.checked()
    }

    /// Reads a proof.
    ///
    /// # Errors
    /// [`ProofError::Malformed`], [`ProofError::TooLarge`] or [`ProofError::Checkpoint`], unless it is exactly what
    /// [`fmt::Display`] writes.
    pub fn parse(bytes: &[u8]) -> Result<LogProof, ProofError> {
        if bytes.len() > PROOF_BYTES_MAX {
            return Err(ProofError::TooLarge { what: "bytes", limit: PROOF_BYTES_MAX });
        }
        let bad = ProofError::Malformed;
        let whole = std::str::from_utf8(bytes).map_err(|_| bad("not UTF-8"))?;
        let (head, note) = whole.split_once("\n\n").ok_or(bad("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(FIRST_LINE) {
            return Err(bad("the first line is not c2sp.org/tlog-proof@v1"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            None => Vec::new(),
            Some(extra) => {
                lines.next();
                parse_extra(extra)?
            }
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(bad("no index line"))?;
        let index = index.parse().map_err(|_| bad("the index is not a number"))?;
        let path = lines.take(PATH_HASHES_MAX + 1).map(parse_hash).collect::<Result<_, _>>()?;
        let note = Note::parse(note.as_bytes()).map_err(CheckpointError::from)?;
        let proof = LogProof { extra, index, path, note }.checked()?;
        if proof.to_string() != whole {
            return Err(bad("not in its one form"));
        }
        Ok(proof)
    }

    /// Verifies that this entry is where the proof says, under a head that satisfies the policy.
    ///
    /// # Errors
    /// [`ProofError::Policy`] when the head is not signed and cosigned as it must be, [`ProofError::NotIncluded`].
    pub fn verify(&self, entry: &[u8], policy: &LogPolicy) -> Result<ProvenEntry, ProofError> {
        let head = policy.is_met(&policy.open(self.note.to_string().as_bytes())?)?;
        let (leaf, checkpoint) = (tree::leaf_hash(entry), head.checkpoint());
        tree::verify_inclusion(&leaf, self.index, checkpoint.size(), &self.path, checkpoint.root())
            .map_err(|source| ProofError::NotIncluded { index: self.index, source })?;
        Ok(ProvenEntry { index: self.index, leaf, head })
    }

    /// The index that the proof claims.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// The extra data; nobody signed it. Empty if there is none.
    pub fn extra(&self) -> &[u8] {
        &self.extra
    }

    /// The signed head, not verified.
    pub fn note(&self) -> &Note {
        &self.note
    }

    fn checked(self) -> Result<LogProof, ProofError> {
        if self.extra.len() > EXTRA_BYTES_MAX {
            return Err(ProofError::TooLarge { what: "bytes of extra data", limit: EXTRA_BYTES_MAX });
        }
        if self.path.len() > PATH_HASHES_MAX {
            return Err(ProofError::TooLarge { what: "hashes", limit: PATH_HASHES_MAX });
        }
        if self.index >= Checkpoint::parse(self.note.text())?.size() {
            return Err(ProofError::Malformed("the index is not under the head"));
        }
        Ok(self)
    }
}

impl fmt::Display for LogProof {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{FIRST_LINE}")?;
        if !self.extra.is_empty() {
            writeln!(out, "extra {}", BASE64.encode(&self.extra))?;
        }
        writeln!(out, "index {}", self.index)?;
        self.path.iter().try_for_each(|hash| writeln!(out, "{}", BASE64.encode(hash)))?;
        write!(out, "\n{}", self.note)
    }
}

/// Extra data, of which there must be some where there is such a line.
fn parse_extra(text: &str) -> Result<Vec<u8>, ProofError> {
    let bytes = BASE64.decode(text.as_bytes()).map_err(|_| ProofError::Malformed("extra is not strict base64"))?;
    if bytes.is_empty() { Err(ProofError::Malformed("an extra line without data")) } else { Ok(bytes) }
}

fn parse_hash(line: &str) -> Result<Hash, ProofError> {
    let bytes = BASE64.decode(line.as_bytes()).ok().and_then(|bytes| Hash::try_from(bytes).ok());
    bytes.ok_or(ProofError::Malformed("a line of the path is not a hash in strict base64"))
}
