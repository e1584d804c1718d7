//! The book nobody can rewrite: an append-only log whose every state is one signed line, checkable offline.
//!
//! Why this exists. What was asked, permitted, spent, refused and released must stay written, also when the one who
//! keeps the book would rather it did not. So entries are leaves of a Merkle tree (Merkle 1987; as used for certificates
//! by Laurie, Langley and Kasper, RFC 6962, 2013), its head is a signed checkpoint, and others (witnesses) cosign a head
//! only when they have seen that it extends every head they cosigned before (Syta et al., "Keeping authorities honest or
//! bust", 2016).
//!
//! Formats are the ones others use and can check: C2SP signed-note, tlog-checkpoint, tlog-cosignature (Ed25519 and
//! ML-DSA-44), tlog-witness, tlog-policy, tlog-proof and tlog-tiles. They are written here, small and exact: the crates `signed_note` and `tlog_tiles` 0.2 link a second
//! generation of the dalek and digest crates and know neither cosignatures nor witnesses.
//!
//! | file | what it holds |
//! |---|---|
//! | [`tree`] | hashes, roots, inclusion and consistency proofs; no files, no keys |
//! | [`note`] | signed text |
//! | [`key`] | keys of logs and witnesses, and what each signs |
//! | [`checkpoint`] | a tree head, signed; a quorum of cosignatures as evidence |
//! | [`tile`] | names and bytes of the files in which a tree is published |
//! | [`log`] | a log that this process writes: records, tiles, checkpoint, crash story |
//! | [`witness`] | what a witness remembers and when it may cosign; one book for several logs |
//! | [`log_policy`] | which logs are believed and who must have cosigned, as a text |
//! | [`log_proof`] | that one entry is in a log, as one file |
//! | [`verify`] | the auditor: a directory of files, believed only as far as it can be recomputed |
//!
//! Adversary. The keeper of a log may be malicious: to readers and witnesses nothing counts but signatures and
//! recomputed hashes. What remains is that a keeper may omit an entry before it is logged, and may show different books
//! to two groups if each contains a full quorum of dishonest witnesses (`2q > n + c` in the agreement excludes it).
//! Entries are bytes here; that they are signed by their authors and mean something is checked by others.

pub mod checkpoint;
mod files;
pub mod key;
pub mod log;
pub mod log_policy;
pub mod log_proof;
mod ml_dsa_44;
pub mod note;
#[cfg(test)]
mod tests;
pub mod tile;
pub mod tree;
pub mod verify;
pub mod witness;

pub use checkpoint::{Checkpoint, CheckpointError, QuorumCheckpoint, SignedCheckpoint, Witnessed};
pub use key::{KeyKind, SignerKey, VerifierKey};
pub use log::{Log, LogError, Staged};
pub use log_policy::{LogPolicy, PolicyError, PolicyMember};
pub use log_proof::{LogProof, ProofError, ProvenEntry};
pub use note::{Note, NoteError, NoteSignature};
pub use tree::{Frontier, Hash, TreeError};
pub use verify::{
    SignedLog, VerifiedLog, VerifyError, verify_directory, verify_directory_under, verify_signed_directory,
};
pub use witness::{AddCheckpoint, Cosigner, PendingCosignature, StagedHead, Witness, WitnessBook, WitnessError};
