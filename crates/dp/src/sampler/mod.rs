//! Exact integer samplers: no floating point, and no approximation that anyone could observe.
//!
//! Floating-point noise leaks through its low-order bits (Mironov 2012); integers do not. Every decision here compares
//! a real probability with uniform binary digits that are read only as far as the comparison needs them.
//!
//! | sampler | law on the integers | method |
//! |---|---|---|
//! | [`gaussian_vector`], [`GaussianSampler`] | exp(−x²/2σ²), many at one σ² | lazy inversion of a table; for large σ² widened by Ducas, Durmus, Lepoint, Lyubashevsky 2013, section 6 |
//! | [`discrete_gaussian`] | exp(−x²/2σ²), one | Canonne, Kamath, Steinke 2020, Algorithm 3 |
//! | [`discrete_laplace`] | exp(−\|x\|/t) | the same, Algorithm 2 |
//! | [`truncated_geometric`] | exp(−\|x\|/t), given \|x\| ≤ bound | rejection; the law is that of Desfontaines, Voss, Gipson, Mandayam 2022 |
//! | [`SkellamSampler`] | difference of two Poissons | sums of draws from one table |
//! | [`bernoulli_exp`] | true with probability exp(−num/den) | one comparison |
//!
//! Does not: run in constant time. Its time depends on the random bits, never on data, but someone who measures
//! it learns a little about the noise; answers must leave in time buckets.
//! Assumes: the generator's output cannot be told from uniform. A peer may choose a seed; it can bias its own
//! noise that way (it is counted as a colluder), but cannot make a sampler panic, overflow or loop for ever.
//!
//! # How exact
//!
//! Probabilities are cut after 320 binary digits, and every loop has a limit, so that the functions are total even over
//! a broken generator. With a good one, the cuts are met with probability below 2^−300 (digits), e^−1024 (tail of the
//! Laplace), 2^−256 (one uniform draw) and 2^−420 (attempts) per sample, which no δ can see.
//!
//! What [`gaussian_vector`] makes of a seed is a wire format, `docs/spec/noise.md`, because seeds are revealed so that
//! others can subtract the noise. The other samplers owe nobody the same numbers tomorrow.

mod bernoulli;
mod gaussian;
mod laplace;
mod skellam;
mod table;

use chacha20::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

pub use bernoulli::bernoulli_exp;
pub(crate) use bernoulli::uniform_below;
pub use gaussian::{GaussianSampler, discrete_gaussian};
pub use laplace::{discrete_laplace, truncated_geometric};
pub use skellam::SkellamSampler;

/// Largest variance of a Gaussian draw, lattice steps squared: the bounds of `gaussian.rs` are written for it.
pub const MAX_VARIANCE: u64 = 1 << 40;
/// The smallest variance and the smallest scale are one over this; below, every draw is zero anyway.
pub const MAX_DIVISOR: u64 = 1 << 40;
/// Largest scale of a discrete Laplace draw, lattice steps: with the tail cut at 1024 scales a draw stays below 2^51.
pub const MAX_SCALE: u64 = 1 << 40;
/// Longest vector: 2^24 cells are 128 MiB of noise, more than one round should carry.
pub const MAX_LEN: usize = 1 << 24;

/// Attempts of a rejection sampler, each accepted with probability above 0.3: all fail with probability below 2^−520.
const MAX_ATTEMPTS: u32 = 1024;

/// Draws a vector of independent discrete Gaussians from a seed: the same seed gives the same noise everywhere.
///
/// Promise: given a uniform secret seed used for this one vector only, returns `len` draws from N_Z(0, σ²), never
/// anything that depends on data. Proven ([`GaussianSampler`]) up to the generator and 2^−300 per cell.
///
/// # Errors
/// [`SamplerError::TooLong`] above [`MAX_LEN`] cells.
pub fn gaussian_vector(seed: &Seed, variance: Variance, len: usize) -> Result<Vec<i64>, SamplerError> {
    if len > MAX_LEN {
        return Err(SamplerError::TooLong { len });
    }
    let mut noise = vec![0; len];
    GaussianSampler::new(variance).fill(&mut ChaCha20Rng::from_seed(seed.0), &mut noise);
    Ok(noise)
}

/// A positive rational variance in lattice steps squared, from 1/[`MAX_DIVISOR`] to [`MAX_VARIANCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variance(Ratio);

impl Variance {
    /// A whole variance.
    ///
    /// # Errors
    /// [`SamplerError::Variance`] unless 1 ≤ `sigma2` ≤ [`MAX_VARIANCE`].
    pub fn new(sigma2: u64) -> Result<Self, SamplerError> {
        Self::ratio(sigma2, 1)
    }

    /// The variance num/den.
    ///
    /// # Errors
    /// [`SamplerError::Variance`] unless 1/[`MAX_DIVISOR`] ≤ num/den ≤ [`MAX_VARIANCE`].
    pub fn ratio(num: u64, den: u64) -> Result<Self, SamplerError> {
        Ratio::within(num, den, MAX_VARIANCE).map(Self).ok_or(SamplerError::Variance { num, den })
    }

    /// Numerator in lowest terms, lattice steps squared.
    pub fn num(self) -> u64 {
        self.0.num
    }

    /// Denominator in lowest terms.
    pub fn den(self) -> u64 {
        self.0.den
    }
}

/// A positive rational scale of a discrete Laplace in lattice steps, from 1/[`MAX_DIVISOR`] to [`MAX_SCALE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(Ratio);

impl Scale {
    /// A whole scale.
    ///
    /// # Errors
    /// [`SamplerError::Scale`] unless 1 ≤ `scale` ≤ [`MAX_SCALE`].
    pub fn new(scale: u64) -> Result<Self, SamplerError> {
        Self::ratio(scale, 1)
    }

    /// The scale num/den: for ε = a/b and sensitivity Δ that is Δ·b/a.
    ///
    /// # Errors
    /// [`SamplerError::Scale`] unless 1/[`MAX_DIVISOR`] ≤ num/den ≤ [`MAX_SCALE`].
    pub fn ratio(num: u64, den: u64) -> Result<Self, SamplerError> {
        Ratio::within(num, den, MAX_SCALE).map(Self).ok_or(SamplerError::Scale { num, den })
    }

    /// Numerator in lowest terms, lattice steps.
    pub fn num(self) -> u64 {
        self.0.num
    }

    /// Denominator in lowest terms.
    pub fn den(self) -> u64 {
        self.0.den
    }
}

/// A positive fraction in lowest terms, so that equal values are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ratio {
    num: u64,
    den: u64,
}

impl Ratio {
    fn within(num: u64, den: u64, most: u64) -> Option<Self> {
        let (wide_num, wide_den) = (u128::from(num), u128::from(den));
        if num == 0 || den == 0 || wide_num > wide_den * u128::from(most) {
            return None;
        }
        if wide_den > wide_num * u128::from(MAX_DIVISOR) {
            return None;
        }
        // Euclid: at most 93 turns for 64 bits.
        let (mut a, mut b) = (num, den);
        while b > 0 {
            (a, b) = (b, a % b);
        }
        Some(Self { num: num / a, den: den / a })
    }
}

/// The 32 bytes that a noise vector grows from. Whoever holds them can subtract the noise.
///
/// No `Debug`, no `Serialize`, no `Clone`, overwritten when dropped. One seed makes one vector.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Seed([u8; 32]);

impl Seed {
    /// Draws a fresh seed.
    pub fn draw(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Self([0; 32]);
        rng.fill_bytes(&mut seed.0);
        seed
    }

    /// Takes over bytes that were kept or revealed.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The secret bytes: with them anyone can remove this noise. For journals, commitments and agreed reveals only.
    pub fn expose_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// What a caller can get wrong about a draw.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SamplerError {
    /// The caller asked for a variance outside the proven range.
    #[error("caller: variance {num}/{den} is outside 1/{MAX_DIVISOR} to {MAX_VARIANCE} lattice steps squared")]
    Variance {
        /// Numerator of what was asked for.
        num: u64,
        /// Denominator of what was asked for.
        den: u64,
    },
    /// The caller asked for a scale outside the proven range.
    #[error("caller: scale {num}/{den} is outside 1/{MAX_DIVISOR} to {MAX_SCALE} lattice steps")]
    Scale {
        /// Numerator of what was asked for.
        num: u64,
        /// Denominator of what was asked for.
        den: u64,
    },
    /// The caller asked for Skellam noise that would need too many Poisson draws.
    #[error("caller: Skellam variance {num}/{den} is above {} lattice steps squared", skellam::MAX_SKELLAM_VARIANCE)]
    Skellam {
        /// Numerator of what was asked for.
        num: u64,
        /// Denominator of what was asked for.
        den: u64,
    },
    /// The caller asked for too long a vector.
    #[error("caller: {len} cells are more than the limit of {MAX_LEN}")]
    TooLong {
        /// What was asked for.
        len: usize,
    },
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod vectors;
