//! Names and bytes of the files in which a tree is published: C2SP tlog-tiles.
//!
//! Hashes are kept in tiles of 256 (the idea is from Cox and Valsorda, "Transparent logs for skeptical clients", 2019):
//! tile `N` at level `L` holds the nodes `(8·L, 256·N ..)`. A full tile never changes, so any file server can serve a log
//! and any mirror can keep it; the rightmost tile of a level is *partial* and carries its width in its name. Entries are
//! kept in bundles of the same widths, each entry with a two-byte length before it.
//!
//! What it does not do: it reads and writes no files, and allows no pruning.
//!
//! Adversary: file names and bundle bytes come from a directory that anyone may have touched. Both parse to one value
//! and back to the same bytes, or not at all.

use crate::tree::Hash;

/// Hashes in a full tile and entries in a full bundle.
pub const TILE_WIDTH: u64 = 256;

/// Longest entry, in bytes: its length is written in two bytes.
pub const ENTRY_BYTES_MAX: usize = 0xffff;

/// Bytes of a hash.
pub(crate) const HASH_BYTES: usize = 32;

/// Largest bundle, in bytes.
pub(crate) const BUNDLE_BYTES_MAX: u64 = TILE_WIDTH * (2 + ENTRY_BYTES_MAX as u64);

/// Levels of tiles in the largest tree: 8 levels of 8 bits each.
const LEVELS: u8 = 8;

/// What a tile holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TileKind {
    /// Entries, with their lengths.
    Entries,
    /// Hashes of nodes `8 · level` levels above the leaves; the level is at most 63.
    Hashes(u8),
}

/// One file of a tree: which tile, and how much of it there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    kind: TileKind,
    index: u64,
    width: u16,
}

impl Tile {
    /// The tile, unless the level is above 63 or the width is not 1 to 256.
    pub fn new(kind: TileKind, index: u64, width: u16) -> Option<Tile> {
        let level_exists = !matches!(kind, TileKind::Hashes(level) if level > 63);
        (level_exists && (1..=256).contains(&width)).then_some(Tile { kind, index, width })
    }

    /// Reads a path relative to the log's directory; `None` unless it is exactly what [`Tile::path`] writes.
    pub fn parse(path: &str) -> Option<Tile> {
        let (kind, rest) = path.strip_prefix("tile/")?.split_once('/')?;
        let kind = if kind == "entries" { TileKind::Entries } else { TileKind::Hashes(kind.parse().ok()?) };
        let (groups, width) = match rest.rsplit_once(".p/") {
            Some((groups, width)) => (groups, width.parse().ok()?),
            None => (rest, 256),
        };
        let index = groups.split('/').try_fold(0u64, |index, group| {
            let group: u64 = group.strip_prefix('x').unwrap_or(group).parse().ok()?;
            index.checked_mul(1000)?.checked_add(group)
        })?;
        Tile::new(kind, index, width).filter(|tile| tile.path() == path)
    }

    /// The path relative to the log's directory: `tile/<L>/<N>[.p/<W>]`, `N` in groups of three digits of which all but
    /// the last begin with `x`.
    pub fn path(&self) -> String {
        let mut groups = format!("{:03}", self.index % 1000);
        let mut rest = self.index / 1000;
        while rest > 0 {
            groups = format!("x{:03}/{groups}", rest % 1000);
            rest /= 1000;
        }
        let partial = if self.is_partial() { format!(".p/{}", self.width) } else { String::new() };
        match self.kind {
            TileKind::Entries => format!("tile/entries/{groups}{partial}"),
            TileKind::Hashes(level) => format!("tile/{level}/{groups}{partial}"),
        }
    }

    /// What it holds.
    pub fn kind(&self) -> TileKind {
        self.kind
    }

    /// Its position in its level.
    pub fn index(&self) -> u64 {
        self.index
    }

    /// How many hashes or entries it holds, 1 to 256.
    pub fn width(&self) -> u16 {
        self.width
    }

    /// Whether it may still grow.
    pub fn is_partial(&self) -> bool {
        self.width < 256
    }
}

/// The tile of this kind and index in a tree of `size` entries; `None` if that tree has nothing there.
pub fn tile_at(kind: TileKind, index: u64, size: u64) -> Option<Tile> {
    let start = index.checked_mul(TILE_WIDTH)?;
    let width = items(kind, size).saturating_sub(start).min(TILE_WIDTH);
    Tile::new(kind, index, u16::try_from(width).ok()?)
}

/// All tiles of a tree of `size` entries: bundles, then hash tiles from level 0 up. Lazy, because the size may be a lie.
pub fn tiles(size: u64) -> impl Iterator<Item = Tile> {
    kinds().flat_map(move |kind| {
        (0..items(kind, size).div_ceil(TILE_WIDTH)).filter_map(move |index| tile_at(kind, index, size))
    })
}

/// The partial tiles of a tree of `size` entries: at most one per kind.
pub fn partial_tiles(size: u64) -> impl Iterator<Item = Tile> {
    kinds().filter_map(move |kind| tile_at(kind, items(kind, size) / TILE_WIDTH, size))
}

/// The bytes of a bundle: each entry after its length in two bytes, big end first. `None` if an entry is too long.
pub fn encode_bundle(entries: &[impl AsRef<[u8]>]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    for entry in entries {
        bytes.extend_from_slice(&u16::try_from(entry.as_ref().len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(entry.as_ref());
    }
    Some(bytes)
}

/// Exactly `width` entries from the bytes of a bundle; `None` if there are more, fewer, or bytes left over.
pub fn parse_bundle(bytes: &[u8], width: u16) -> Option<Vec<Vec<u8>>> {
    let mut rest = bytes;
    let mut entries = Vec::new();
    for _ in 0..width {
        let (length, tail) = rest.split_first_chunk::<2>()?;
        let (entry, tail) = tail.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        entries.push(entry.to_vec());
        rest = tail;
    }
    rest.is_empty().then_some(entries)
}

/// The bytes of a hash tile.
pub fn encode_hashes(hashes: &[Hash]) -> Vec<u8> {
    hashes.concat()
}

/// Exactly `width` hashes from the bytes of a tile.
pub fn parse_hashes(bytes: &[u8], width: u16) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_BYTES>();
    (rest.is_empty() && hashes.len() == usize::from(width)).then(|| hashes.to_vec())
}

/// How many hashes or entries of this kind a tree of `size` entries has.
fn items(kind: TileKind, size: u64) -> u64 {
    match kind {
        TileKind::Entries => size,
        TileKind::Hashes(level) => size.checked_shr(8 * u32::from(level)).unwrap_or(0),
    }
}

fn kinds() -> impl Iterator<Item = TileKind> {
    std::iter::once(TileKind::Entries).chain((0..LEVELS).map(TileKind::Hashes))
}
