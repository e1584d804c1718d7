//! The Merkle tree of RFC 6962, section 2.1: hashes, roots and the two proofs, as pure functions.
//!
//! Leaves and inner nodes are hashed with different first bytes, so that no inner node can be passed off as an entry.
//! A tree over `n` leaves splits at the largest power of two below `n`; all *complete* subtrees of two to the `level`
//! leaves, aligned, are "nodes" `(level, index)` and never change once their leaves exist. Everything else (the ragged
//! right edge, proofs for older sizes) is computed from nodes, which the caller reads from wherever it keeps them.
//!
//! Verification follows the loops of RFC 9162, sections 2.1.3.2 and 2.1.4.2, which fix the length of a proof exactly: a
//! proof with a hash too many is as wrong as one with a hash too few.
//!
//! Adversary: whoever supplies proofs, sizes and roots. Promise (proven, RFC 6962 with SHA-256 collision resistant): if
//! [`verify_inclusion`] accepts, the leaf is at that index in every tree with that root and size; if
//! [`verify_consistency`] accepts, the old tree is a prefix of the new one.

use sha2::{Digest, Sha256};

/// A SHA-256 hash: of a leaf, a node, a tree or a body.
pub type Hash = [u8; 32];

/// Largest tree this crate accepts, in leaves: 2^62. Bounds every shift and every proof (at most 63 hashes).
pub const SIZE_MAX: u64 = 1 << 62;

/// Why a proof does not hold or cannot be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TreeError {
    /// Index or size outside the tree, or a tree larger than [`SIZE_MAX`].
    #[error("caller: {what} {value} is outside the tree (limit {limit})")]
    OutOfRange {
        /// What is out of range.
        what: &'static str,
        /// Its value.
        value: u64,
        /// The limit.
        limit: u64,
    },
    /// The proof has the wrong number of hashes for its sizes.
    #[error("peer: the proof has the wrong number of hashes")]
    ProofLength,
    /// The proof leads to another root.
    #[error("peer: the proof does not lead to the root")]
    RootMismatch,
    /// The parts of a frontier do not fit its size.
    #[error("operator: a stored tree edge does not fit its size")]
    FrontierShape,
}

/// The hash of an entry: SHA-256(0x00 ‖ entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new_with_prefix([0]).chain_update(entry).finalize().into()
}

/// The hash of an inner node: SHA-256(0x01 ‖ left ‖ right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new_with_prefix([1]).chain_update(left).chain_update(right).finalize().into()
}

/// The root of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// The plain SHA-256 of a body, which is also its name.
pub fn body_hash(body: &[u8]) -> Hash {
    Sha256::digest(body).into()
}

/// The right edge of a growing tree: the roots of its complete subtrees, largest first. Appending costs one leaf hash and
/// on average one node hash; the root costs at most 62.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frontier {
    size: u64,
    roots: Vec<Hash>,
}

impl Frontier {
    /// The edge of the empty tree.
    pub fn new() -> Frontier {
        Frontier::default()
    }

    /// Puts together an edge from its stored parts.
    ///
    /// # Errors
    /// [`TreeError::FrontierShape`] unless there is one root per set bit of `size`; [`TreeError::OutOfRange`] above [`SIZE_MAX`].
    pub fn from_parts(size: u64, roots: Vec<Hash>) -> Result<Frontier, TreeError> {
        check_size("tree size", size)?;
        if roots.len() != usize_of(size.count_ones()) {
            return Err(TreeError::FrontierShape);
        }
        Ok(Frontier { size, roots })
    }

    /// The edge of the tree of the first `size` leaves, read from nodes.
    ///
    /// # Errors
    /// What `node` returns, and [`TreeError::OutOfRange`].
    pub fn read<E: From<TreeError>>(
        size: u64,
        node: &mut dyn FnMut(u32, u64) -> Result<Hash, E>,
    ) -> Result<Frontier, E> {
        check_size("tree size", size)?;
        let mut roots = Vec::new();
        let mut start = 0u64;
        for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
            roots.push(node(level, start >> level)?);
            start += 1 << level;
        }
        Ok(Frontier { size, roots })
    }

    /// Adds the next leaf.
    ///
    /// # Errors
    /// [`TreeError::OutOfRange`] when the tree is full.
    pub fn append(&mut self, leaf: Hash) -> Result<(), TreeError> {
        check_size("tree size", self.size + 1)?;
        let mut hash = leaf;
        // Each trailing one bit of the size is a complete subtree of the same height as the one in hand.
        for _ in 0..self.size.trailing_ones() {
            let left = self.roots.pop().ok_or(TreeError::FrontierShape)?;
            hash = node_hash(&left, &hash);
        }
        self.roots.push(hash);
        self.size += 1;
        Ok(())
    }

    /// Number of leaves.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The roots of the complete subtrees, largest first.
    pub fn roots(&self) -> &[Hash] {
        &self.roots
    }

    /// The root of the whole tree.
    pub fn root(&self) -> Hash {
        self.roots.iter().rev().copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }
}

/// The root of the tree of the first `size` leaves.
///
/// # Errors
/// What `node` returns, and [`TreeError::OutOfRange`].
pub fn root<E: From<TreeError>>(size: u64, node: &mut dyn FnMut(u32, u64) -> Result<Hash, E>) -> Result<Hash, E> {
    Frontier::read(size, node).map(|frontier| frontier.root())
}

/// The audit path of leaf `index` in the tree of the first `size` leaves (RFC 6962, 2.1.1), leaf side first.
///
/// # Errors
/// What `node` returns, and [`TreeError::OutOfRange`].
pub fn inclusion_proof<E: From<TreeError>>(
    index: u64,
    size: u64,
    node: &mut dyn FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    check_size("tree size", size)?;
    check_index(index, size)?;
    let (mut start, mut end) = (0, size);
    let mut path = Vec::new();
    while end - start > 1 {
        let middle = start + split(end - start);
        if index < middle {
            path.push(range_root(middle, end, node)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, node)?);
            start = middle;
        }
    }
    path.reverse();
    Ok(path)
}

/// The proof that the tree of `old` leaves is a prefix of the tree of `new` leaves (RFC 6962, 2.1.2). Empty when `old` is 0
/// or equals `new`.
///
/// # Errors
/// What `node` returns, and [`TreeError::OutOfRange`].
pub fn consistency_proof<E: From<TreeError>>(
    old: u64,
    new: u64,
    node: &mut dyn FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Vec<Hash>, E> {
    check_size("new size", new)?;
    check_old(old, new)?;
    if old == 0 || old == new {
        return Ok(Vec::new());
    }
    let (mut start, mut end) = (0, new);
    let mut path = Vec::new();
    while end != old {
        let middle = start + split(end - start);
        if old <= middle {
            path.push(range_root(middle, end, node)?);
            end = middle;
        } else {
            path.push(range_root(start, middle, node)?);
            start = middle;
        }
    }
    // The old tree's own root is left out when it is a node: the verifier has it.
    if start != 0 {
        path.push(range_root(start, end, node)?);
    }
    path.reverse();
    Ok(path)
}

/// Checks that `leaf` (a leaf hash) is entry `index` of the tree with this size and root.
///
/// # Errors
/// [`TreeError`]; on any error nothing is known about the leaf.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, proof: &[Hash], root: &Hash) -> Result<(), TreeError> {
    check_size("tree size", size)?;
    check_index(index, size)?;
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in proof {
        if last == 0 {
            return Err(TreeError::ProofLength);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // Levels at which this node has no neighbour are skipped: it is carried up unhashed.
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(TreeError::ProofLength);
    }
    same_root(&hash, root)
}

/// Checks that the tree with the old size and root is a prefix of the tree with the new size and root.
///
/// # Errors
/// [`TreeError`]; on any error nothing is known about the relation of the two.
pub fn verify_consistency(
    old: u64,
    new: u64,
    old_root: &Hash,
    new_root: &Hash,
    proof: &[Hash],
) -> Result<(), TreeError> {
    check_size("new size", new)?;
    check_old(old, new)?;
    if old == 0 || old == new {
        if !proof.is_empty() {
            return Err(TreeError::ProofLength);
        }
        if old == 0 {
            same_root(old_root, &empty_root())?;
        }
        return if old == new { same_root(old_root, new_root) } else { Ok(()) };
    }
    let skipped = (old - 1).trailing_ones();
    let (mut node, mut last) = ((old - 1) >> skipped, (new - 1) >> skipped);
    let (first, rest) =
        if old.is_power_of_two() { (old_root, proof) } else { proof.split_first().ok_or(TreeError::ProofLength)? };
    let (mut old_hash, mut new_hash) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return Err(TreeError::ProofLength);
        }
        if node & 1 == 1 || node == last {
            old_hash = node_hash(sibling, &old_hash);
            new_hash = node_hash(sibling, &new_hash);
            while node & 1 == 0 && node != 0 {
                (node, last) = (node >> 1, last >> 1);
            }
        } else {
            new_hash = node_hash(&new_hash, sibling);
        }
        (node, last) = (node >> 1, last >> 1);
    }
    if last != 0 {
        return Err(TreeError::ProofLength);
    }
    same_root(&old_hash, old_root).and_then(|()| same_root(&new_hash, new_root))
}

/// The root of leaves `start..end`, a range as the recursive definition of the tree makes it: `start` is a multiple of the
/// largest power of two that fits in its length.
fn range_root<E: From<TreeError>>(
    start: u64,
    end: u64,
    node: &mut dyn FnMut(u32, u64) -> Result<Hash, E>,
) -> Result<Hash, E> {
    let length = end - start;
    if length.is_power_of_two() {
        let level = length.trailing_zeros();
        return node(level, start >> level);
    }
    let middle = start + split(length);
    let left = range_root(start, middle, node)?;
    let right = range_root(middle, end, node)?;
    Ok(node_hash(&left, &right))
}

/// The largest power of two strictly below `length`, for `length >= 2`.
fn split(length: u64) -> u64 {
    1 << (u64::BITS - 1 - (length - 1).leading_zeros())
}

fn same_root(found: &Hash, expected: &Hash) -> Result<(), TreeError> {
    if found == expected { Ok(()) } else { Err(TreeError::RootMismatch) }
}

pub(crate) fn check_size(what: &'static str, size: u64) -> Result<(), TreeError> {
    if size > SIZE_MAX { Err(TreeError::OutOfRange { what, value: size, limit: SIZE_MAX }) } else { Ok(()) }
}

fn check_index(index: u64, size: u64) -> Result<(), TreeError> {
    if index >= size { Err(TreeError::OutOfRange { what: "entry index", value: index, limit: size }) } else { Ok(()) }
}

fn check_old(old: u64, new: u64) -> Result<(), TreeError> {
    if old > new { Err(TreeError::OutOfRange { what: "old size", value: old, limit: new }) } else { Ok(()) }
}

fn usize_of(small: u32) -> usize {
    usize::try_from(small).unwrap_or(usize::MAX)
}
