//! The ratchet on a pairwise secret: one key for each position of the hub's log, each of which comes out once.
//!
//! The symmetric-key ratchet of Perrin and Marlinspike 2016, "The Double Ratchet Algorithm", section 2.2, indexed by
//! log positions instead of messages: both sides agree on the index because it is public and logged. Old states are
//! overwritten, so whoever copies a running node's chains learns nothing of the rounds that are over.
//!
//! That does not help against theft of the long-term key-agreement key: with it and the recorded ciphertext, the member
//! that decapsulated can make the chain again from its first position.
//!
//! It does not heal: whoever copies the state can follow it until a new agreement makes a new pairwise secret. And it
//! cannot defend against restoring an old copy of the whole disk: the owner must never run from a restored copy
//! (masks would be used twice); the account head in receipts shows others that it happened.

use cohortium_messages::{Hash, Name};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::MpcError;
use crate::schedule::{self, CHAIN_STEP, Key, ROUND_KEY};

/// How far a chain goes in one step: 2^24 log entries are more than a federation writes between two of its tasks,
/// and take a few seconds to go through.
pub const MAX_JUMP: u64 = 1 << 24;

/// The first byte of a stored chain.
const STATE_VERSION: u8 = 1;
/// Version, position, key.
const STATE_BYTES: usize = 1 + 8 + 32;

/// The pairwise secret with one peer under one agreement, ratcheted forward.
///
/// Promise: given a position at or after the one it stands at, makes the key of that position available to this crate
/// once; never that of an earlier one. Argued: HKDF-Expand is a one-way step and the old key is overwritten.
///
/// It does not print:
/// ```compile_fail,E0277
/// fn show(chain: cohortium_mpc::Chain) { println!("{:?}", chain); }
/// ```
/// and cannot be copied:
/// ```compile_fail,E0599
/// fn copy(chain: &cohortium_mpc::Chain) -> cohortium_mpc::Chain { cohortium_mpc::Chain::clone(chain) }
/// ```
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Chain {
    position: u64,
    key: [u8; 32],
}

impl Chain {
    /// A chain at position 0.
    pub(crate) fn new(key: &Key) -> Self {
        Self { position: 0, key: **key }
    }

    /// The first position whose key can still be derived.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Moves on to `position`; the keys of all positions before it are gone for good.
    ///
    /// # Errors
    /// [`MpcError::Replayed`] backwards, [`MpcError::Jump`] for more than [`MAX_JUMP`]. The chain stays where it was.
    pub fn advance(&mut self, position: u64) -> Result<(), MpcError> {
        self.check(position)?;
        while self.position < position {
            let next = schedule::derive(&self.key, CHAIN_STEP, &[])?;
            self.key.copy_from_slice(&*next);
            self.position += 1;
        }
        Ok(())
    }

    /// Derives the secret of the round at `position` and moves past it.
    pub(crate) fn round_secret(&mut self, position: u64) -> Result<PairRoundSecret, MpcError> {
        self.advance(position)?;
        let secret = schedule::derive(&self.key, ROUND_KEY, &[])?;
        self.advance(position.saturating_add(1))?;
        Ok(PairRoundSecret(secret))
    }

    /// A second copy to work on, so that a step that fails leaves the first untouched. One of the two must be dropped.
    pub(crate) fn working_copy(&self) -> Self {
        Self { position: self.position, key: self.key }
    }

    /// The state for the owner's store and for nothing else. Write it before anything derived from it leaves.
    #[must_use]
    pub fn to_secret_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(STATE_BYTES));
        bytes.push(STATE_VERSION);
        bytes.extend_from_slice(&self.position.to_be_bytes());
        bytes.extend_from_slice(&self.key);
        bytes
    }

    /// Reads what [`Self::to_secret_bytes`] wrote.
    ///
    /// # Errors
    /// [`MpcError::State`] when it did not.
    pub fn from_secret_bytes(bytes: &[u8]) -> Result<Self, MpcError> {
        let Some((&STATE_VERSION, rest)) = bytes.split_first() else {
            return Err(MpcError::State("the chain is of an unknown version"));
        };
        let wrong = MpcError::State("the chain has the wrong length");
        let (position, key) = rest.split_first_chunk::<8>().ok_or(wrong.clone())?;
        Ok(Self { position: u64::from_be_bytes(*position), key: key.try_into().map_err(|_| wrong)? })
    }

    fn check(&self, position: u64) -> Result<(), MpcError> {
        match position.checked_sub(self.position) {
            None => Err(MpcError::Replayed { position, stands_at: self.position }),
            Some(jump) if jump > MAX_JUMP => Err(MpcError::Jump { position, stands_at: self.position }),
            Some(_) => Ok(()),
        }
    }
}

/// What two members share for one round. Everything pairwise in the round comes from it.
pub(crate) struct PairRoundSecret(Key);

impl PairRoundSecret {
    /// The mask key `k_ij`: the same on both sides.
    pub(crate) fn mask_key(&self, context: &Hash, me: &Name, peer: &Name) -> Result<Key, MpcError> {
        schedule::mask_key(&self.0, context, me, peer)
    }

    /// The key that seals shares from `from` to `to`.
    pub(crate) fn seal_key(&self, context: &Hash, from: &Name, to: &Name) -> Result<Key, MpcError> {
        schedule::seal_key(&self.0, context, from, to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        Chain::new(&Zeroizing::new([7; 32]))
    }

    #[test]
    fn a_position_comes_out_once_and_only_forwards() {
        let mut chain = chain();
        let first = chain.round_secret(5).unwrap();
        assert_eq!(chain.position(), 6);
        for old in [0, 4, 5] {
            assert_eq!(chain.round_secret(old).err(), Some(MpcError::Replayed { position: old, stands_at: 6 }));
        }
        assert!(*first.0 != *chain.round_secret(6).unwrap().0);
    }

    #[test]
    fn the_key_of_a_position_does_not_depend_on_the_way_there() {
        let (mut slow, mut fast) = (chain(), chain());
        for position in 1..=9 {
            slow.advance(position).unwrap();
        }
        slow.round_secret(9).unwrap();
        assert!(*slow.round_secret(12).unwrap().0 == *fast.round_secret(12).unwrap().0);
    }

    #[test]
    fn a_jump_beyond_the_limit_is_refused_and_changes_nothing() {
        let mut chain = chain();
        for position in [MAX_JUMP + 1, u64::MAX] {
            assert_eq!(chain.advance(position).err(), Some(MpcError::Jump { position, stands_at: 0 }));
        }
        assert!(*chain.to_secret_bytes() == *self::chain().to_secret_bytes());
        let mut last = Chain { position: u64::MAX, key: [0; 32] };
        assert_eq!(
            last.round_secret(u64::MAX - 1).err().map(|error| matches!(error, MpcError::Replayed { .. })),
            Some(true)
        );
    }

    #[test]
    fn state_bytes_round_trip_and_bad_ones_are_refused() {
        let mut chain = chain();
        chain.advance(3).unwrap();
        let bytes = chain.to_secret_bytes();
        let mut again = Chain::from_secret_bytes(&bytes).unwrap();
        assert!(*again.round_secret(3).unwrap().0 == *chain.round_secret(3).unwrap().0);
        let mut version = bytes.to_vec();
        version[0] = 2;
        for bad in [&[][..], &bytes[..40], &[&bytes[..], &[0]].concat(), &version] {
            assert!(matches!(Chain::from_secret_bytes(bad), Err(MpcError::State(_))));
        }
    }
}
