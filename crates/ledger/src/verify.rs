//! The auditor: a directory of files, believed only as far as it can be recomputed from the entries up.
//!
//! Given a log's directory, its key and its witnesses, everything is computed anew: leaf hashes from the entry bundles,
//! every hash tile, the root, the signatures on the checkpoint. The directory must be exactly the current tree: a file
//! more, a file less or a byte changed in any file is an error that names the file.
//!
//! What it does not do: judge what the entries say, or whether bodies that are gone were rightly erased. It cannot see
//! that a whole directory is an older state of the same log, unless it is given a newer head to compare with
//! ([`VerifiedLog::extends`]).
//!
//! Adversary: whoever had the directory in hand, the log's keeper included. Stricter than the signed-note specification in
//! one point: a signature by an unknown key is an error, not ignored, because bytes that nobody can check could be
//! changed by anybody.

use std::collections::BTreeSet;
use std::path::Path;

use data_encoding::HEXLOWER;

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint, Witnessed};
use crate::files::{self, FileError};
use crate::key::VerifierKey;
use crate::log::{BODY_BYTES_MAX, CHECKPOINT_FILE, body_file, perfect_root};
use crate::log_policy::{LogPolicy, PolicyError};
use crate::note::NOTE_BYTES_MAX;
use crate::tile::{self, BUNDLE_BYTES_MAX, HASH_BYTES, TILE_WIDTH, Tile, TileKind};
use crate::tree::{self, Frontier, Hash, TreeError};

/// What is wrong with a directory. Names the file, and the entry where there is one.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A file cannot be read, is too long, or is not a plain file.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file that the tree needs is not there.
    #[error("log: {file} is missing")]
    Missing {
        /// Path relative to the directory.
        file: String,
    },
    /// A file that no part of the log accounts for.
    #[error("log: {file} does not belong to the log")]
    Unexpected {
        /// Path relative to the directory.
        file: String,
    },
    /// A file that does not parse.
    #[error("log: {file} is malformed")]
    Malformed {
        /// Path relative to the directory.
        file: String,
    },
    /// The checkpoint is malformed, or not signed or cosigned as it must be.
    #[error("log: checkpoint: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// The checkpoint does not satisfy the policy.
    #[error("log: checkpoint: {0}")]
    Policy(#[from] PolicyError),
    /// An entry is not the one in the tree.
    #[error("log: entry {index} in {bundle} does not have the hash in {tile}")]
    Entry {
        /// Index of the first such entry in the file.
        index: u64,
        /// The file with the entry.
        bundle: String,
        /// The file with its hash.
        tile: String,
    },
    /// A tile above the leaves does not follow from those below.
    #[error("log: hash {position} of {tile} does not follow from the tiles below")]
    Tile {
        /// Position of the first such hash in the file.
        position: usize,
        /// The file.
        tile: String,
    },
    /// The entries have another root than the one signed.
    #[error("log: the entries do not have the root in checkpoint")]
    Root,
    /// A body that is not what its name says.
    #[error("log: {file} does not have the hash in its name")]
    Body {
        /// Path relative to the directory.
        file: String,
    },
    /// The tree is larger than any this program handles.
    #[error(transparent)]
    Tree(#[from] TreeError),
}

/// A log of which every byte has been verified. Made only by [`verify_directory`],
/// [`verify_directory_under`] and [`SignedLog::cosigned_among`].
#[derive(Clone, Debug)]
pub struct VerifiedLog {
    entries: Vec<Vec<u8>>,
    leaves: Vec<Hash>,
    checkpoint: SignedCheckpoint,
    cosigned_by: Vec<Witnessed>,
    bodies: BTreeSet<Hash>,
}

impl VerifiedLog {
    /// All entries, in order.
    pub fn entries(&self) -> &[Vec<u8>] {
        &self.entries
    }

    /// The signed head.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.checkpoint
    }

    /// Which of the witnesses cosigned the head, and when.
    pub fn cosigned_by(&self) -> &[Witnessed] {
        &self.cosigned_by
    }

    /// The bodies that are there, by hash.
    pub fn bodies(&self) -> &BTreeSet<Hash> {
        &self.bodies
    }

    /// Whether this log extends (or is) a tree head seen elsewhere: in a receipt, a permit, an earlier audit.
    pub fn extends(&self, earlier: &Checkpoint) -> bool {
        let size = usize::try_from(earlier.size()).ok();
        let Some(leaves) = size.and_then(|size| self.leaves.get(..size)) else { return false };
        let mut frontier = Frontier::new();
        let grown = leaves.iter().try_for_each(|leaf| frontier.append(*leaf));
        earlier.origin() == self.checkpoint.checkpoint().origin() && grown.is_ok() && frontier.root() == *earlier.root()
    }
}

/// A log of which every file is what its key signed. Who cosigned its head has not been looked at: the log itself may say
/// who can have. Made only by [`verify_signed_directory`].
#[derive(Clone, Debug)]
pub struct SignedLog(VerifiedLog);

impl SignedLog {
    /// All entries, in order.
    pub fn entries(&self) -> &[Vec<u8>] {
        self.0.entries()
    }

    /// The bodies that are there, by hash.
    pub fn bodies(&self) -> &BTreeSet<Hash> {
        self.0.bodies()
    }

    /// The signed head, its cosignatures not looked at.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        self.0.checkpoint()
    }

    /// The log, every line of whose head is its own or by one of these keys ([`SignedCheckpoint::signers_among`]). Whose
    /// cosignatures count is the reader's to ask next ([`LogPolicy::is_met`]).
    ///
    /// # Errors
    /// [`VerifyError::Checkpoint`] for a line by nobody known.
    pub fn cosigned_among(self, known: &[VerifierKey]) -> Result<VerifiedLog, VerifyError> {
        let cosigned_by = self.0.checkpoint.signers_among(known)?;
        Ok(VerifiedLog { cosigned_by, ..self.0 })
    }
}

/// Verifies that a directory is the log that its key signed, to the last byte, leaving the cosignatures to
/// [`SignedLog::cosigned_among`].
///
/// # Errors
/// [`VerifyError`]: the first thing that is wrong.
pub fn verify_signed_directory(dir: &Path, log: &VerifierKey) -> Result<SignedLog, VerifyError> {
    verify_files(dir, |note| Ok((SignedCheckpoint::open(note, log)?, Vec::new()))).map(SignedLog)
}

/// Verifies a log's directory. `quorum` is how many of the witnesses must have cosigned the head; with 0 the log's own
/// signature is enough (a node's private log before its first exchange). Reads only; never writes or repairs.
///
/// # Errors
/// [`VerifyError`]: the first thing that is wrong.
pub fn verify_directory(
    dir: &Path,
    log: &VerifierKey,
    witnesses: &[VerifierKey],
    quorum: usize,
) -> Result<VerifiedLog, VerifyError> {
    verify_files(dir, |note| {
        let checkpoint = SignedCheckpoint::open(note, log)?;
        checkpoint.demand_known_signers(witnesses)?;
        let cosigned_by = match quorum {
            0 => checkpoint.cosigned_by(witnesses)?,
            _ => checkpoint.verify_quorum(witnesses, quorum)?.cosigned_by().to_vec(),
        };
        Ok((checkpoint, cosigned_by))
    })
}

/// Verifies a log's directory, whose head must satisfy the policy and be signed by nobody whom the policy does not list.
///
/// # Errors
/// [`VerifyError`]: the first thing that is wrong.
pub fn verify_directory_under(dir: &Path, policy: &LogPolicy) -> Result<VerifiedLog, VerifyError> {
    verify_files(dir, |note| {
        let checkpoint = policy.open(note)?;
        // The keys whose lines were verified: this log's, not those of other logs in the policy.
        let logs = policy.logs().filter(|log| log.name() == checkpoint.checkpoint().origin());
        let known: Vec<VerifierKey> = logs.chain(policy.witnesses()).cloned().collect();
        checkpoint.demand_known_signers(&known)?;
        let cosigned_by = policy.is_met(&checkpoint)?.cosigned_by().to_vec();
        Ok((checkpoint, cosigned_by))
    })
}

/// Verifies a directory, given how its checkpoint is.
fn verify_files(
    dir: &Path,
    open: impl FnOnce(&[u8]) -> Result<(SignedCheckpoint, Vec<Witnessed>), VerifyError>,
) -> Result<VerifiedLog, VerifyError> {
    let mut unseen = files::list(dir)?;
    let (checkpoint, cosigned_by) = open(&take(dir, &mut unseen, CHECKPOINT_FILE, NOTE_BYTES_MAX as u64)?)?;
    let (entries, leaves) = verify_tree(dir, &mut unseen, checkpoint.checkpoint())?;
    let bodies = verify_bodies(dir, &mut unseen)?;
    match unseen.pop_first() {
        Some(file) => Err(VerifyError::Unexpected { file }),
        None => Ok(VerifiedLog { entries, leaves, checkpoint, cosigned_by, bodies }),
    }
}

/// Recomputes the tree from the bundles and compares every tile and the root.
fn verify_tree(
    dir: &Path,
    unseen: &mut BTreeSet<String>,
    head: &Checkpoint,
) -> Result<(Vec<Vec<u8>>, Vec<Hash>), VerifyError> {
    let (mut entries, mut leaves) = (Vec::new(), Vec::new());
    let mut rows: Vec<Vec<Hash>> = Vec::new();
    for tile in tile::tiles(head.size()) {
        match tile.kind() {
            TileKind::Entries => {
                let bytes = take(dir, unseen, &tile.path(), BUNDLE_BYTES_MAX)?;
                let bundle = tile::parse_bundle(&bytes, tile.width())
                    .ok_or_else(|| VerifyError::Malformed { file: tile.path() })?;
                leaves.extend(bundle.iter().map(|entry| tree::leaf_hash(entry)));
                entries.extend(bundle);
            }
            TileKind::Hashes(level) => {
                let level = usize::from(level);
                if rows.len() == level {
                    // The row above: one hash for each full tile of the row below. Level 0 comes from the entries.
                    let row = rows.last().map(|below| below.chunks_exact(256).filter_map(perfect_root).collect());
                    rows.push(row.unwrap_or_else(|| leaves.clone()));
                }
                compare_tile(dir, unseen, tile, rows.get(level).map(Vec::as_slice).unwrap_or_default(), head.size())?;
            }
        }
    }
    let mut frontier = Frontier::new();
    leaves.iter().try_for_each(|leaf| frontier.append(*leaf))?;
    if frontier.size() != head.size() || frontier.root() != *head.root() {
        return Err(VerifyError::Root);
    }
    Ok((entries, leaves))
}

fn compare_tile(
    dir: &Path,
    unseen: &mut BTreeSet<String>,
    tile: Tile,
    row: &[Hash],
    size: u64,
) -> Result<(), VerifyError> {
    let path = tile.path();
    let bytes = take(dir, unseen, &path, TILE_WIDTH * HASH_BYTES as u64)?;
    let found =
        tile::parse_hashes(&bytes, tile.width()).ok_or_else(|| VerifyError::Malformed { file: path.clone() })?;
    let first = usize::try_from(tile.index() * TILE_WIDTH).unwrap_or(usize::MAX);
    let expected = row.iter().skip(first).map(Some).chain(std::iter::repeat(None));
    let Some(position) = found.iter().zip(expected).position(|(found, expected)| Some(found) != expected) else {
        return Ok(());
    };
    if tile.kind() != TileKind::Hashes(0) {
        return Err(VerifyError::Tile { position, tile: path });
    }
    let bundle = tile::tile_at(TileKind::Entries, tile.index(), size).map(|bundle| bundle.path()).unwrap_or_default();
    Err(VerifyError::Entry { index: tile.index() * TILE_WIDTH + position as u64, bundle, tile: path })
}

fn verify_bodies(dir: &Path, unseen: &mut BTreeSet<String>) -> Result<BTreeSet<Hash>, VerifyError> {
    let files: Vec<String> = unseen.iter().filter(|file| file.starts_with("body/")).cloned().collect();
    let mut bodies = BTreeSet::new();
    for file in files {
        let named = file.strip_prefix("body/").and_then(|name| HEXLOWER.decode(name.as_bytes()).ok());
        let Some(named) = named.and_then(|bytes| Hash::try_from(bytes).ok()).filter(|hash| body_file(hash) == file)
        else {
            return Err(VerifyError::Unexpected { file });
        };
        if tree::body_hash(&take(dir, unseen, &file, BODY_BYTES_MAX)?) != named {
            return Err(VerifyError::Body { file });
        }
        bodies.insert(named);
    }
    Ok(bodies)
}

/// Reads a file that must be there, and accounts for it.
fn take(dir: &Path, unseen: &mut BTreeSet<String>, file: &str, bytes_max: u64) -> Result<Vec<u8>, VerifyError> {
    let listed = unseen.remove(file);
    let bytes = if listed { files::read(dir, file, bytes_max)? } else { None };
    bytes.ok_or_else(|| VerifyError::Missing { file: file.to_owned() })
}
