//! A log that this process writes: entries in the record store, the published tree in a directory.
//!
//! The record store decides what is in the log; the directory (`checkpoint`, `tile/…`, `body/…`) is what others see, and
//! can be made again from the records. An entry often has to become durable together with other records of the same
//! process (an account entry, a task's state), so staging only *adds* to the caller's batch.
//!
//! # The steps, and what a crash after each leaves
//!
//! 1. [`Log::put_body`]: the body is durable under its hash. A crash leaves a body nobody refers to: harmless.
//! 2. [`Log::stage`] adds to a batch: the new leaves, the new head, and the expectation that the head is still the old one.
//!    Nothing is durable yet: a crash leaves nothing.
//! 3. The caller commits the batch: the compare-and-swap. From here on the entries *are* in the log and in no other
//!    order; of two writers one gets a conflict. A crash leaves the directory behind the records.
//!    [`Log::adopt`] then asks the store whether that is so, and more may be staged on top: many commits, each with its
//!    caller's own records, can wait for one publication.
//! 4. [`Log::publish`] asks the store whether the head is committed, and signs it: nothing is signed that is not. It writes
//!    bundles and tiles, flushed, to their places. All are new names or contain the same bytes as before (a partial tile has
//!    its width in its name), so the old tree stays readable. A crash leaves extra tiles beside a complete older tree.
//! 5. `publish` replaces `checkpoint`, when all tiles are durable. A crash leaves narrower partial tiles that the new tree
//!    does not need.
//! 6. `publish` removes those and returns.
//!
//! [`Log::apply`] is steps 3 (the question) to 6 at once. [`Log::open`] runs steps 4 to 6 from wherever the directory
//! stands, by the same functions. It is how a log is opened at all, so recovery is the normal path; after an error in
//! `publish` the log must be opened again. A directory *ahead* of the records is refused: someone put back old records, and
//! going on from them would fork the log.
//!
//! What it does not do: ask witnesses (the caller collects cosignatures and hands them to [`Log::set_cosigned`]); keep
//! anything secret (bodies that must not be read by others do not belong beside a published log, or are erased).
//!
//! Adversary: none on this machine. Damage that is met is reported, not repaired in silence; others find it with
//! [`crate::verify`].

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cohortium_store::{Batch, Store, StoreError, Table, sequence_key};
use data_encoding::{BASE64, HEXLOWER};

use crate::checkpoint::{Checkpoint, CheckpointError, SignedCheckpoint};
use crate::files::{FileError, Files};
use crate::key::{SignerKey, VerifierKey};
use crate::log_proof::{LogProof, ProofError};
use crate::note::NOTE_BYTES_MAX;
use crate::tile::{self, ENTRY_BYTES_MAX, TILE_WIDTH, Tile, TileKind};
use crate::tree::{self, Frontier, Hash, TreeError};

/// The heads of logs: key = origin; value = checkpoint text, then the frontier, one base64 hash per line.
pub const HEADS: Table = Table::new("ledger_heads");

/// The leaves of logs: key = origin, a space (which no origin has), sequence key of the index; value = the entry.
pub const LEAVES: Table = Table::new("ledger_leaves");

/// Most entries in one batch.
pub const STAGE_ENTRIES_MAX: usize = 65_536;

/// Largest body, in bytes (16 MiB): a signed document with its evidence. Models and tables are named by hash in it.
pub const BODY_BYTES_MAX: u64 = 16 << 20;

/// Leaves read at a time when a directory is brought up to date: at most 64 MiB in memory.
const REPLAY_ENTRIES: u64 = 1024;

pub(crate) const CHECKPOINT_FILE: &str = "checkpoint";

/// Why a log cannot be opened, read or extended.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// A key, checkpoint or cosignature is wrong.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// An index or size outside the log.
    #[error(transparent)]
    Tree(#[from] TreeError),
    /// A proof cannot be written.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// A batch or body outside its limit.
    #[error("caller: {what} is outside its limit of {limit}")]
    Limit {
        /// What is too long or too many.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// A published file is missing or is not what the log wrote.
    #[error(
        "operator: {file} is missing or damaged; move `tile` and `checkpoint` away to have them made again from the records"
    )]
    Damaged {
        /// Path relative to the log's directory.
        file: String,
    },
    /// The records of the log do not fit together.
    #[error("operator: the records of log {origin} are damaged at entry {index}")]
    RecordsDamaged {
        /// The log.
        origin: String,
        /// The first entry that is missing; 0 if it is the head that is wrong.
        index: u64,
    },
    /// The directory and the records hold different books; at most one of them is the one that was signed.
    #[error(
        "operator: directory and records of log {origin} lead to different trees of {size} entries; one of them was replaced"
    )]
    Diverged {
        /// The log.
        origin: String,
        /// Entries in the records.
        size: u64,
    },
    /// Old records were put back. Continuing would sign a second history.
    #[error(
        "operator: the checkpoint has {published} entries but the records only {committed}; an older record store was put back"
    )]
    RecordsBehind {
        /// Entries in the signed checkpoint.
        published: u64,
        /// Entries in the record store.
        committed: u64,
    },
    /// `adopt` or `publish` without the commit, or out of order.
    #[error("caller: these entries are not the committed next ones; open the log again")]
    NotCommitted,
    /// The cosigned checkpoint is not of the current tree.
    #[error("caller: a checkpoint of {given} entries cannot replace the one of {current}")]
    OtherHead {
        /// Entries in the checkpoint given.
        given: u64,
        /// Entries in the log.
        current: u64,
    },
    /// The signing key is not this log's.
    #[error("caller: the key named {name} is not this log's")]
    WrongKey {
        /// Its name.
        name: String,
    },
}

/// A log, as this process last left it. One per directory.
pub struct Log {
    files: Files,
    key: VerifierKey,
    /// The tree of all committed entries.
    frontier: Frontier,
    published: SignedCheckpoint,
    /// Committed entries that the directory does not show yet, in order.
    unpublished: Vec<Vec<u8>>,
}

/// Entries that are in a batch but not yet in the tree. Dropping it after the commit loses nothing: [`Log::open`] finds the
/// entries in the records.
#[must_use = "after the commit, adopt or apply it"]
pub struct Staged {
    from: u64,
    entries: Vec<Vec<u8>>,
    frontier: Frontier,
    head: Vec<u8>,
}

impl Staged {
    /// The index the first of the entries will have.
    pub fn first_index(&self) -> u64 {
        self.from
    }

    /// The tree head once these entries are in: (size, root).
    pub fn head(&self) -> (u64, Hash) {
        (self.frontier.size(), self.frontier.root())
    }
}

impl Log {
    /// Opens the log named by the signer's key, making it if it is new, and brings the directory up to date with the
    /// records (steps 4 to 6).
    ///
    /// # Errors
    /// [`LogError`]. Nothing is signed unless the tree in the directory has the committed root.
    pub fn open(dir: &Path, store: &dyn Store, signer: &SignerKey) -> Result<Log, LogError> {
        Log::recover(Files::new(dir), store, signer)
    }

    /// Adds entries to the caller's batch (step 2).
    ///
    /// # Errors
    /// [`LogError::Limit`] for an entry over [`ENTRY_BYTES_MAX`], and for none or more than [`STAGE_ENTRIES_MAX`] entries.
    pub fn stage(&self, entries: &[Vec<u8>], batch: &mut Batch) -> Result<Staged, LogError> {
        if entries.is_empty() || entries.len() > STAGE_ENTRIES_MAX {
            return Err(LogError::Limit {
                what: "number of entries in a batch (at least 1)",
                limit: STAGE_ENTRIES_MAX as u64,
            });
        }
        if entries.iter().any(|entry| entry.len() > ENTRY_BYTES_MAX) {
            return Err(LogError::Limit { what: "length in bytes of an entry", limit: ENTRY_BYTES_MAX as u64 });
        }
        let mut frontier = self.frontier.clone();
        for entry in entries {
            batch.put(LEAVES, &leaf_key(self.origin(), frontier.size()), entry.clone());
            frontier.append(tree::leaf_hash(entry))?;
        }
        match self.size() {
            0 => batch.expect_absent(HEADS, self.origin()),
            _ => batch.expect(HEADS, self.origin(), encode_head(self.origin(), &self.frontier)?),
        };
        let head = encode_head(self.origin(), &frontier)?;
        batch.put(HEADS, self.origin(), head.clone());
        Ok(Staged { from: self.size(), entries: entries.to_vec(), frontier, head })
    }

    /// Takes in entries whose batch was committed (step 3). They are in the log, and others see them after
    /// [`Log::publish`].
    ///
    /// # Errors
    /// [`LogError::NotCommitted`], which leaves everything as it was; [`LogError::Store`].
    pub fn adopt(&mut self, staged: Staged, store: &dyn Store) -> Result<(), LogError> {
        if staged.from != self.size() || store.get(HEADS, self.origin())?.as_ref() != Some(&staged.head) {
            return Err(LogError::NotCommitted);
        }
        self.frontier = staged.frontier;
        self.unpublished.extend(staged.entries);
        Ok(())
    }

    /// Shows everything that was adopted (steps 4 to 6) under one new signed head, which is returned; the old one where
    /// nothing was. The store is asked whether the head is committed: an uncommitted one is never signed.
    ///
    /// # Errors
    /// [`LogError`]. The entries are in the log all the same, and the log must be opened again.
    pub fn publish(&mut self, store: &dyn Store, signer: &SignerKey) -> Result<SignedCheckpoint, LogError> {
        if self.unpublished.is_empty() {
            return Ok(self.published.clone());
        }
        if store.get(HEADS, self.origin())? != Some(encode_head(self.origin(), &self.frontier)?) {
            return Err(LogError::NotCommitted);
        }
        let shown = self.published_size();
        let tail = tail(&self.files, shown, &self.unpublished)?;
        let (signed, checkpoint) = sign_head(&self.key, &self.frontier, signer)?;
        // The tiles are durable in their places before the checkpoint is in its own.
        self.files.write(&[&tail, &[checkpoint]])?;
        self.published = signed;
        self.unpublished.clear();
        self.sweep(tile::partial_tiles(shown).collect())?;
        Ok(self.published.clone())
    }

    /// [`Log::adopt`] and [`Log::publish`].
    ///
    /// # Errors
    /// Theirs.
    pub fn apply(
        &mut self,
        staged: Staged,
        store: &dyn Store,
        signer: &SignerKey,
    ) -> Result<SignedCheckpoint, LogError> {
        self.adopt(staged, store)?;
        self.publish(store, signer)
    }

    /// Makes a body durable beside the log (step 1) and returns its name, which is its SHA-256. Doing so twice is fine.
    ///
    /// # Errors
    /// [`LogError::Limit`] over [`BODY_BYTES_MAX`], [`LogError::File`].
    pub fn put_body(&mut self, body: &[u8]) -> Result<Hash, LogError> {
        if u64::try_from(body.len()).map_or(true, |length| length > BODY_BYTES_MAX) {
            return Err(LogError::Limit { what: "length in bytes of a body", limit: BODY_BYTES_MAX });
        }
        let hash = tree::body_hash(body);
        // Written even if it is there: whoever put it may have died before its name was flushed.
        self.files.write(&[&[(body_file(&hash), body.to_vec())]])?;
        Ok(hash)
    }

    /// The body with this hash, or `None` if it was never put or was erased.
    ///
    /// # Errors
    /// [`LogError::File`]. The bytes are returned as found; compare their hash before believing them.
    pub fn body(&self, hash: &Hash) -> Result<Option<Vec<u8>>, LogError> {
        Ok(self.files.read(&body_file(hash), BODY_BYTES_MAX)?)
    }

    /// Erases a body; the entry that names its hash stays, and every proof with it.
    ///
    /// # Errors
    /// [`LogError::File`].
    pub fn erase_body(&mut self, hash: &Hash) -> Result<(), LogError> {
        Ok(self.files.remove(&body_file(hash))?)
    }

    /// Replaces the published checkpoint by the same head with cosignatures. Cosignatures that are not by one of the
    /// witnesses are dropped, so that no byte is published that nobody can check.
    ///
    /// # Errors
    /// [`LogError::OtherHead`] when the log has moved on, [`LogError::Checkpoint`] when a signature is wrong.
    pub fn set_cosigned(&mut self, note: &[u8], witnesses: &[VerifierKey]) -> Result<SignedCheckpoint, LogError> {
        let given = SignedCheckpoint::open(note, &self.key)?;
        if given.checkpoint() != self.published.checkpoint() {
            return Err(LogError::OtherHead { given: given.checkpoint().size(), current: self.published_size() });
        }
        let cosigned = given.with_only(witnesses)?;
        let _ = cosigned.cosigned_by(witnesses)?;
        self.files.write(&[&[(CHECKPOINT_FILE.to_owned(), cosigned.to_string().into_bytes())]])?;
        self.published = cosigned;
        Ok(self.published.clone())
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        self.key.name()
    }

    /// Number of entries: those that the directory shows, and those that only the records hold yet.
    pub fn size(&self) -> u64 {
        self.frontier.size()
    }

    /// Number of entries that the directory shows. What follows about entries and proofs is about these.
    pub fn published_size(&self) -> u64 {
        self.published.checkpoint().size()
    }

    /// Root of the tree of all entries.
    pub fn root(&self) -> Hash {
        self.frontier.root()
    }

    /// The published head, with the cosignatures collected so far.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.published
    }

    /// The entry at an index.
    ///
    /// # Errors
    /// [`LogError::Tree`] beyond the end, [`LogError::Damaged`], [`LogError::File`].
    pub fn entry(&self, index: u64) -> Result<Vec<u8>, LogError> {
        let outside = || TreeError::OutOfRange { what: "entry index", value: index, limit: self.published_size() };
        let tile = tile::tile_at(TileKind::Entries, index / TILE_WIDTH, self.published_size()).ok_or_else(outside)?;
        let mut entries = read_bundle(&self.files, tile)?;
        let position = usize::try_from(index % TILE_WIDTH).ok().filter(|position| *position < entries.len());
        Ok(entries.swap_remove(position.ok_or_else(outside)?))
    }

    /// The proof that the entry at `index` is in the tree of the first `size` entries, for [`tree::verify_inclusion`].
    ///
    /// # Errors
    /// [`LogError::Tree`] outside the log, [`LogError::Damaged`], [`LogError::File`].
    pub fn inclusion_proof(&self, index: u64, size: u64) -> Result<Vec<Hash>, LogError> {
        self.demand_size(size)?;
        tree::inclusion_proof(index, size, &mut NodeReader::new(&self.files, self.published_size()).into_function())
    }

    /// The file that proves the entry at `index` under the published head with the cosignatures it has by now, for
    /// [`LogProof::verify`].
    ///
    /// # Errors
    /// As [`Log::inclusion_proof`]; [`LogError::Proof`] for too much extra data.
    pub fn prove(&self, index: u64, extra: &[u8]) -> Result<LogProof, LogError> {
        let path = self.inclusion_proof(index, self.published_size())?;
        Ok(LogProof::new(index, path, &self.published, extra)?)
    }

    /// The proof that the tree of `old` entries is a prefix of the one of `new`, for [`tree::verify_consistency`].
    ///
    /// # Errors
    /// [`LogError::Tree`] outside the log, [`LogError::Damaged`], [`LogError::File`].
    pub fn consistency_proof(&self, old: u64, new: u64) -> Result<Vec<Hash>, LogError> {
        self.demand_size(new)?;
        tree::consistency_proof(old, new, &mut NodeReader::new(&self.files, self.published_size()).into_function())
    }

    /// The root of the tree of the first `size` entries.
    ///
    /// # Errors
    /// [`LogError::Tree`] outside the log, [`LogError::Damaged`], [`LogError::File`].
    pub fn root_at(&self, size: u64) -> Result<Hash, LogError> {
        self.demand_size(size)?;
        tree::root(size, &mut NodeReader::new(&self.files, self.published_size()).into_function())
    }

    /// [`Log::open`] over given files, so that tests can end the world at any step.
    pub(crate) fn recover(files: Files, store: &dyn Store, signer: &SignerKey) -> Result<Log, LogError> {
        files.prepare()?;
        let key = signer.verifier().clone();
        let committed = read_head(store, key.name())?;
        let published = read_published(&files, &key)?;
        let size = published.as_ref().map_or(0, |published| published.checkpoint().size());
        if size > committed.size() {
            return Err(LogError::RecordsBehind { published: size, committed: committed.size() });
        }
        let mut frontier = Frontier::read(size, &mut NodeReader::new(&files, size).into_function())?;
        if published.as_ref().is_some_and(|published| *published.checkpoint().root() != frontier.root()) {
            return Err(LogError::Damaged { file: CHECKPOINT_FILE.to_owned() });
        }
        replay(&files, store, key.name(), &mut frontier, &committed)?;
        let published = match published {
            Some(published) if size == committed.size() => published,
            _ => {
                let (signed, checkpoint) = sign_head(&key, &frontier, signer)?;
                files.write(&[&[checkpoint]])?;
                signed
            }
        };
        let log = Log { files, key, frontier, published, unpublished: Vec::new() };
        let found = log.files.list()?;
        log.sweep(found.iter().filter_map(|file| Tile::parse(file)).filter(Tile::is_partial).collect())?;
        Ok(log)
    }

    /// Step 6: removes those of the given partial tiles that the current tree has outgrown.
    fn sweep(&self, partial: Vec<Tile>) -> Result<(), LogError> {
        let needed: BTreeSet<Tile> = tile::partial_tiles(self.published_size()).collect();
        for outgrown in partial.iter().filter(|tile| !needed.contains(tile)) {
            self.files.remove(&outgrown.path())?;
        }
        Ok(())
    }

    fn demand_size(&self, size: u64) -> Result<(), LogError> {
        if size <= self.published_size() {
            return Ok(());
        }
        Err(TreeError::OutOfRange { what: "tree size", value: size, limit: self.published_size() }.into())
    }
}

/// A path relative to the log's directory, and the bytes that belong there.
type NewFile = (String, Vec<u8>);

const NOTE_MAX: u64 = NOTE_BYTES_MAX as u64;

pub(crate) fn body_file(hash: &Hash) -> String {
    format!("body/{}", HEXLOWER.encode(hash))
}

/// For step 5: the tree's head, signed, and as the file that publishes it.
fn sign_head(
    key: &VerifierKey,
    frontier: &Frontier,
    signer: &SignerKey,
) -> Result<(SignedCheckpoint, NewFile), LogError> {
    if signer.verifier() != key {
        return Err(LogError::WrongKey { name: signer.verifier().name().to_owned() });
    }
    let signed = SignedCheckpoint::sign(Checkpoint::new(key.name(), frontier.size(), frontier.root())?, signer)?;
    let bytes = signed.to_string().into_bytes();
    Ok((signed, (CHECKPOINT_FILE.to_owned(), bytes)))
}

/// Step 4 for a whole directory: applies leaves from the records until the tree has the committed size, and demands that
/// it has the committed root too.
fn replay(
    files: &Files,
    store: &dyn Store,
    origin: &str,
    frontier: &mut Frontier,
    committed: &Frontier,
) -> Result<(), LogError> {
    while frontier.size() < committed.size() {
        let count = REPLAY_ENTRIES.min(committed.size() - frontier.size());
        let entries = read_leaves(store, origin, frontier.size(), count)?;
        files.write(&[&tail(files, frontier.size(), &entries)?])?;
        for entry in &entries {
            frontier.append(tree::leaf_hash(entry))?;
        }
    }
    if frontier == committed {
        return Ok(());
    }
    Err(LogError::Diverged { origin: origin.to_owned(), size: committed.size() })
}

/// For step 4: the bundles and tiles that the entries from index `from` on begin, widen or fill. Everything below `from`
/// must be in its files.
fn tail(files: &Files, from: u64, entries: &[Vec<u8>]) -> Result<Vec<NewFile>, LogError> {
    let mut writes = Vec::new();
    let before = tile::tile_at(TileKind::Entries, from / TILE_WIDTH, from)
        .map_or(Ok(Vec::new()), |tile| read_bundle(files, tile))?;
    let bundled: Vec<&Vec<u8>> = before.iter().chain(entries).collect();
    for (index, chunk) in (from / TILE_WIDTH..).zip(bundled.chunks(256)) {
        let too_long = LogError::Limit { what: "length in bytes of an entry", limit: ENTRY_BYTES_MAX as u64 };
        writes.push((tile_name(TileKind::Entries, index, chunk.len())?, tile::encode_bundle(chunk).ok_or(too_long)?));
    }
    let (mut level, mut start) = (0u8, from);
    let mut fresh: Vec<Hash> = entries.iter().map(|entry| tree::leaf_hash(entry)).collect();
    while !fresh.is_empty() {
        let kind = TileKind::Hashes(level);
        let mut hashes =
            tile::tile_at(kind, start / TILE_WIDTH, from).map_or(Ok(Vec::new()), |tile| read_hashes(files, tile))?;
        hashes.append(&mut fresh);
        for (index, chunk) in (start / TILE_WIDTH..).zip(hashes.chunks(256)) {
            writes.push((tile_name(kind, index, chunk.len())?, tile::encode_hashes(chunk)));
            if chunk.len() == 256 {
                fresh.extend(perfect_root(chunk));
            }
        }
        (level, start) = (level + 1, start / TILE_WIDTH);
    }
    Ok(writes)
}

fn tile_name(kind: TileKind, index: u64, width: usize) -> Result<String, LogError> {
    let tile = u16::try_from(width).ok().and_then(|width| Tile::new(kind, index, width));
    tile.map(|tile| tile.path()).ok_or(LogError::Limit { what: "tile width", limit: TILE_WIDTH })
}

/// The root over a power of two of nodes of one level; `None` for no nodes.
pub(crate) fn perfect_root(nodes: &[Hash]) -> Option<Hash> {
    let mut row = nodes.to_vec();
    while row.len() > 1 {
        row = row.as_chunks::<2>().0.iter().map(|[left, right]| tree::node_hash(left, right)).collect();
    }
    row.pop()
}

/// Reads nodes from the tiles of a tree of `size` entries, each tile once.
struct NodeReader<'a> {
    files: &'a Files,
    size: u64,
    tiles: BTreeMap<Tile, Vec<Hash>>,
}

impl<'a> NodeReader<'a> {
    fn new(files: &'a Files, size: u64) -> NodeReader<'a> {
        NodeReader { files, size, tiles: BTreeMap::new() }
    }

    fn into_function(mut self) -> impl FnMut(u32, u64) -> Result<Hash, LogError> + 'a {
        move |level, index| self.node(level, index)
    }

    fn node(&mut self, level: u32, index: u64) -> Result<Hash, LogError> {
        let outside = || LogError::Tree(TreeError::OutOfRange { what: "node index", value: index, limit: self.size });
        let (height, level) = (level % 8, u8::try_from(level / 8).map_err(|_| outside())?);
        let first = index.checked_mul(1 << height).ok_or_else(outside)?;
        let tile = tile::tile_at(TileKind::Hashes(level), first / TILE_WIDTH, self.size).ok_or_else(outside)?;
        if !self.tiles.contains_key(&tile) {
            self.tiles.insert(tile, read_hashes(self.files, tile)?);
        }
        let hashes = self.tiles.get(&tile).map(Vec::as_slice).unwrap_or_default();
        let position = usize::try_from(first % TILE_WIDTH).map_err(|_| outside())?;
        hashes.get(position..position + (1 << height)).and_then(perfect_root).ok_or_else(outside)
    }
}

fn read_hashes(files: &Files, tile: Tile) -> Result<Vec<Hash>, LogError> {
    let bytes = files.read(&tile.path(), TILE_WIDTH * tile::HASH_BYTES as u64)?;
    bytes
        .and_then(|bytes| tile::parse_hashes(&bytes, tile.width()))
        .ok_or_else(|| LogError::Damaged { file: tile.path() })
}

fn read_bundle(files: &Files, tile: Tile) -> Result<Vec<Vec<u8>>, LogError> {
    let bytes = files.read(&tile.path(), tile::BUNDLE_BYTES_MAX)?;
    bytes
        .and_then(|bytes| tile::parse_bundle(&bytes, tile.width()))
        .ok_or_else(|| LogError::Damaged { file: tile.path() })
}

fn read_published(files: &Files, key: &VerifierKey) -> Result<Option<SignedCheckpoint>, LogError> {
    let bytes = files.read(CHECKPOINT_FILE, NOTE_MAX)?;
    Ok(bytes.map(|bytes| SignedCheckpoint::open(&bytes, key)).transpose()?)
}

fn leaf_key(origin: &str, index: u64) -> String {
    format!("{origin} {}", sequence_key(index))
}

/// `count` leaves from index `from` on, all of which must be there.
fn read_leaves(store: &dyn Store, origin: &str, from: u64, count: u64) -> Result<Vec<Vec<u8>>, LogError> {
    let after = from.checked_sub(1).map(|index| leaf_key(origin, index));
    let limit = usize::try_from(count).unwrap_or(usize::MAX);
    let found = store.scan(LEAVES, &format!("{origin} "), after.as_deref(), limit)?;
    let gap = (from..from + count).zip(found.iter().map(Some).chain(std::iter::repeat(None)));
    let gap = gap.into_iter().find(|(index, leaf)| leaf.is_none_or(|(key, _)| *key != leaf_key(origin, *index)));
    match gap {
        Some((index, _)) => Err(LogError::RecordsDamaged { origin: origin.to_owned(), index }),
        None => Ok(found.into_iter().map(|(_, entry)| entry).collect()),
    }
}

fn encode_head(origin: &str, frontier: &Frontier) -> Result<Vec<u8>, LogError> {
    let mut text = Checkpoint::new(origin, frontier.size(), frontier.root())?.to_string();
    for root in frontier.roots() {
        text.push_str(&BASE64.encode(root));
        text.push('\n');
    }
    Ok(text.into_bytes())
}

/// The committed tree's edge; the empty tree's when there is no record.
fn read_head(store: &dyn Store, origin: &str) -> Result<Frontier, LogError> {
    match store.get(HEADS, origin)? {
        None => Ok(Frontier::new()),
        Some(bytes) => {
            decode_head(origin, &bytes).ok_or_else(|| LogError::RecordsDamaged { origin: origin.to_owned(), index: 0 })
        }
    }
}

fn decode_head(origin: &str, bytes: &[u8]) -> Option<Frontier> {
    let lines: Vec<&str> = std::str::from_utf8(bytes).ok()?.lines().collect();
    let size = lines.get(1)?.parse().ok()?;
    let hash = |line: &&str| BASE64.decode(line.as_bytes()).ok().and_then(|bytes| Hash::try_from(bytes).ok());
    let frontier = Frontier::from_parts(size, lines.get(3..)?.iter().map(hash).collect::<Option<_>>()?).ok()?;
    // Origin, root and the one spelling are all compared at once.
    encode_head(origin, &frontier).is_ok_and(|again| again == bytes).then_some(frontier)
}
