//! Opening a sum, chunk by chunk: what the hub has left to do once enough members have revealed.
//!
//! Everything that is secret in the round has come together in [`crate::Coordinator::unmasker`]; what remains is
//! arithmetic that any chunk can go through on its own (Bonawitz et al. 2017, figure 4, round 4). So vectors may lie in
//! files, and memory is one chunk of each survivor.
//!
//! Does not: read files, check again that bytes are those that were announced (they were hashed when they came), or
//! draw excess noise for vectors longer than `dp` draws at once.

use std::ops::Range;

use cohortium_dp::{NoisePlan, RevealedSeed, excess_noise};
use cohortium_messages::{Name, Ring};

use crate::keystream::{CHUNK_ELEMENTS, Mask, Masker, Sign, Word, Z32, Z64, Z128};
use crate::{Inconsistency, MpcError};

/// The masks and the excess noise of one round, ready to be taken off.
///
/// Promise: evidence that at least `t` members signed its survivor set and that every mask it takes off is the one that
/// was committed to. Made by [`crate::Coordinator::unmasker`] alone. It opens the sum and nothing else: without a
/// survivor's vector, what comes out of that chunk is uniform. Argued in the specification.
pub struct Unmasker {
    pub(crate) ring: Ring,
    pub(crate) elements: usize,
    pub(crate) survivors: Vec<Name>,
    pub(crate) masks: Vec<Mask>,
    pub(crate) noise: NoisePlan,
    pub(crate) excess: Vec<Excess>,
    pub(crate) noise_variance: u128,
    pub(crate) inconsistencies: Vec<Inconsistency>,
}

/// The noise of one survivor that is in excess: what it revealed and what it was committed to.
pub struct Excess {
    /// Whose noise.
    pub of: Name,
    /// Its components, in rising order.
    pub seeds: Vec<RevealedSeed>,
}

impl Unmasker {
    /// How many chunks a vector has.
    #[must_use]
    pub const fn chunks(&self) -> usize {
        self.elements.div_ceil(CHUNK_ELEMENTS)
    }

    /// The elements of a chunk; empty beyond the last.
    #[must_use]
    pub fn elements_of(&self, chunk: usize) -> Range<usize> {
        let at = |chunk: usize| chunk.saturating_mul(CHUNK_ELEMENTS).min(self.elements);
        at(chunk)..at(chunk.saturating_add(1))
    }

    /// Where the bytes of a chunk lie in every vector.
    #[must_use]
    pub fn bytes_of(&self, chunk: usize) -> Range<usize> {
        let Range { start, end } = self.elements_of(chunk);
        let width = self.ring.bytes() as usize;
        start.saturating_mul(width)..end.saturating_mul(width)
    }

    /// Whose vectors are in the sum, sorted: the order in which [`Self::unmask`] takes them.
    #[must_use]
    pub fn survivors(&self) -> &[Name] {
        &self.survivors
    }

    /// The variance of the noise that is left in each sum, lattice steps squared.
    #[must_use]
    pub const fn noise_variance(&self) -> u128 {
        self.noise_variance
    }

    /// Revealed shares that were wrong and were not needed.
    #[must_use]
    pub fn inconsistencies(&self) -> &[Inconsistency] {
        &self.inconsistencies
    }

    /// The seeds of the noise to be taken off, checked against their commitments. Empty when nothing is in excess.
    #[must_use]
    pub fn excess(&self) -> &[Excess] {
        &self.excess
    }

    /// The excess noise of all survivors together, one value for each element of the whole vector, lattice steps.
    ///
    /// # Errors
    /// [`MpcError::Noise`] for vectors longer than `dp` draws at once.
    pub fn excess_noise(&self) -> Result<Vec<i64>, MpcError> {
        let survivors = crate::member::count(&self.survivors)?;
        let mut total = vec![0i64; self.elements];
        for Excess { seeds, .. } in &self.excess {
            let noise = excess_noise(&self.noise, survivors, seeds, self.elements)?;
            // At most 100 members' noise, each below 2^39.
            total.iter_mut().zip(noise).for_each(|(total, noise)| *total = total.wrapping_add(noise));
        }
        Ok(total)
    }

    /// The noised sums of one chunk. `vectors` are the chunk's bytes of every survivor, in the order of
    /// [`Self::survivors`]; `excess` is the chunk's excess noise of all of them together, zeros where there is none.
    ///
    /// # Errors
    /// [`MpcError::Length`] when there are other vectors, bytes or values than the chunk has.
    pub fn unmask(&self, chunk: usize, vectors: &[&[u8]], excess: &[i64]) -> Result<Vec<i128>, MpcError> {
        let len = |expected: usize, found: usize| match expected == found {
            true => Ok(()),
            false => Err(MpcError::Length { expected: expected as u64, found: found as u64 }),
        };
        len(self.survivors.len(), vectors.len())?;
        len(self.elements_of(chunk).len(), excess.len())?;
        for vector in vectors {
            len(self.bytes_of(chunk).len(), vector.len())?;
        }
        match self.ring {
            Ring::Z32 => self.open::<Z32>(chunk, vectors, excess),
            Ring::Z64 => self.open::<Z64>(chunk, vectors, excess),
            Ring::Z128 => self.open::<Z128>(chunk, vectors, excess),
        }
    }

    fn open<W: Word>(&self, chunk: usize, vectors: &[&[u8]], excess: &[i64]) -> Result<Vec<i128>, MpcError> {
        let mut sum = vec![0; excess.len() * W::BYTES];
        let pairs = vectors.chunks(2);
        for vectors in pairs {
            match vectors {
                [one, other] => W::add_two(&mut sum, [one, other], Sign::Plus),
                rest => rest.iter().for_each(|one| W::add(&mut sum, one, Sign::Plus)),
            }
        }
        Masker::new(&self.masks, self.ring).add::<W>(chunk as u64, &mut sum)?;
        let mut noise = vec![0; sum.len()];
        W::write(excess, &mut noise);
        W::add(&mut sum, &noise, Sign::Minus);
        Ok(W::read(&sum))
    }
}
