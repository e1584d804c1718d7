//! Opening a sum, chunk by chunk: what the hub has left to do once enough members have revealed.
//!
//! Everything that is secret in the round has come together in [`crate::Coordinator::unmasker`]; what remains is
//! arithmetic that any chunk can go through on its own (Bonawitz et al. 2017, figure 4, round 4). So vectors may lie in
//! files, and memory is one chunk of each survivor.
//!
//! Does not: read files, or check again that bytes are those that were announced (they were hashed when they came).

use std::num::NonZeroUsize;
use std::ops::Range;
use std::thread;

use cohortium_dp::{NoisePlan, NoiseStream, RevealedSeed};
use cohortium_messages::{Name, Ring};

use crate::keystream::{CHUNK_ELEMENTS, Mask, Masker, Sign, Word, Z32, Z64, Z128};
use crate::{Inconsistency, MpcError};

/// Elements whose excess noise is drawn between two starts of threads: 2^16 cells of one component take 2 ms.
const BATCH_ELEMENTS: usize = 1 << 16;

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
    /// As [`Self::excess_stream`] and [`ExcessStream::next`].
    pub fn excess_noise(&self, threads: NonZeroUsize) -> Result<Vec<i64>, MpcError> {
        let mut total = vec![0; self.elements];
        let mut stream = self.excess_stream(threads)?;
        for batch in total.chunks_mut(BATCH_ELEMENTS) {
            stream.next(batch)?;
        }
        Ok(total)
    }

    /// The excess noise of all survivors together, for vectors that do not fit in memory: from the first element on, in
    /// chunks of any lengths. Survivors are divided over up to `threads` threads.
    ///
    /// # Errors
    /// [`MpcError::Noise`] when seeds and plan do not belong together.
    pub fn excess_stream(&self, threads: NonZeroUsize) -> Result<ExcessStream, MpcError> {
        let survivors = crate::member::count(&self.survivors)?;
        let each = self.excess.len().div_ceil(threads.get()).max(1);
        let share = |of: &[Excess]| {
            let seeds = of.iter().map(|excess| excess.seeds.as_slice());
            NoiseStream::in_excess(&self.noise, survivors, seeds)
        };
        Ok(ExcessStream { shares: self.excess.chunks(each).map(share).collect::<Result<_, _>>()? })
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
        let mut sums = vec![0; self.bytes_of(chunk).len()];
        self.add_all(&mut sums, vectors);
        self.open(chunk, &mut sums, excess)
    }

    /// Nothing added up yet: the bytes of a whole vector of zeros.
    pub(crate) fn zero(&self) -> Vec<u8> {
        vec![0; self.elements * self.ring.bytes() as usize]
    }

    /// Adds a whole vector.
    pub(crate) fn add(&self, sums: &mut [u8], vector: &[u8]) -> Result<(), MpcError> {
        if sums.len() != vector.len() {
            return Err(MpcError::Length { expected: sums.len() as u64, found: vector.len() as u64 });
        }
        self.add_all(sums, &[vector]);
        Ok(())
    }

    /// Opens all chunks of the survivors' vectors added up, with excess noise taken off.
    pub(crate) fn open_all(&self, sums: &mut [u8], threads: NonZeroUsize) -> Result<Vec<i64>, MpcError> {
        let mut cells = Vec::with_capacity(self.elements);
        let excess = self.excess_noise(threads)?;
        let chunks = sums.chunks_mut(CHUNK_ELEMENTS * self.ring.bytes() as usize);
        for (chunk, (sums, excess)) in chunks.zip(excess.chunks(CHUNK_ELEMENTS)).enumerate() {
            for sum in self.open(chunk, sums, excess)? {
                cells.push(i64::try_from(sum).map_err(|_| MpcError::TooWide)?);
            }
        }
        Ok(cells)
    }

    fn add_all(&self, sums: &mut [u8], vectors: &[&[u8]]) {
        match self.ring {
            Ring::Z32 => add_vectors::<Z32>(sums, vectors),
            Ring::Z64 => add_vectors::<Z64>(sums, vectors),
            Ring::Z128 => add_vectors::<Z128>(sums, vectors),
        }
    }

    /// Takes masks and excess noise off one chunk of the survivors' vectors added up.
    fn open(&self, chunk: usize, sums: &mut [u8], excess: &[i64]) -> Result<Vec<i128>, MpcError> {
        match self.ring {
            Ring::Z32 => self.open_in::<Z32>(chunk, sums, excess),
            Ring::Z64 => self.open_in::<Z64>(chunk, sums, excess),
            Ring::Z128 => self.open_in::<Z128>(chunk, sums, excess),
        }
    }

    fn open_in<W: Word>(&self, chunk: usize, sums: &mut [u8], excess: &[i64]) -> Result<Vec<i128>, MpcError> {
        Masker::new(&self.masks, self.ring, excess.len()).add::<W>(chunk as u64, sums)?;
        let mut noise = vec![0; sums.len()];
        W::write(excess, &mut noise);
        W::add(sums, &noise, Sign::Minus);
        Ok(W::read(sums))
    }
}

/// Two vectors in one pass over the sums.
fn add_vectors<W: Word>(sums: &mut [u8], vectors: &[&[u8]]) {
    for vectors in vectors.chunks(2) {
        match vectors {
            [one, other] => W::add_two(sums, [one, other], Sign::Plus),
            rest => rest.iter().for_each(|one| W::add(sums, one, Sign::Plus)),
        }
    }
}

/// The excess noise of all survivors, drawn on from chunk to chunk. Made by [`Unmasker::excess_stream`].
pub struct ExcessStream {
    /// One for each thread.
    shares: Vec<NoiseStream>,
}

impl ExcessStream {
    /// Overwrites `values` with the next ones. Each call starts its threads anew, some 20 µs each: a few thousand elements
    /// at least make that pay. Beside `values`, each further thread holds as many.
    ///
    /// # Errors
    /// [`MpcError::Threads`] when the system starts none. After that the stream is of no more use.
    pub fn next(&mut self, values: &mut [i64]) -> Result<(), MpcError> {
        values.fill(0);
        let len = values.len();
        let Some((mine, others)) = self.shares.split_first_mut() else { return Ok(()) };
        thread::scope(|scope| {
            let mut working = Vec::with_capacity(others.len());
            for share in others {
                let draw = move || {
                    let mut noise = vec![0; len];
                    share.add_to(&mut noise);
                    noise
                };
                working.push(thread::Builder::new().spawn_scoped(scope, draw).map_err(|_| MpcError::Threads)?);
            }
            mine.add_to(values);
            for thread in working {
                let noise = thread.join().map_err(|_| MpcError::Internal("a thread that draws noise ended"))?;
                // At most 100 members' noise, each below 2^29.
                values.iter_mut().zip(noise).for_each(|(total, noise)| *total = total.wrapping_add(noise));
            }
            Ok(())
        })
    }
}
