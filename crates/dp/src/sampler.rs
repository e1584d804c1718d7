//! Exact integer samplers: no floating point, no approximation of the tails that anyone could observe.
//!
//! From Canonne, Kamath, Steinke 2020, "The Discrete Gaussian for Differential Privacy": Algorithm 1
//! (Bernoulli of exp(−γ)), Algorithm 2 (discrete Laplace), Algorithm 3 (discrete Gaussian). Floating-point
//! noise leaks through its low-order bits (Mironov 2012); integers do not.
//!
//! Cost: 0.2 to 0.5 µs per Gaussian (σ² from 1 to 2^40, one busy core, measured when written).
//!
//! Does not: run in constant time. Its time depends on the random bits, never on data, but someone who measures
//! it learns a little about the noise; answers must leave in time buckets.
//! Assumes: the generator's output cannot be told from uniform. A peer may choose a seed; it can bias its own
//! noise that way (it is counted as a colluder), but cannot make the sampler panic, overflow or loop for ever.
//!
//! # Why `u128` cannot overflow
//!
//! With σ² ≤ 2^40 the scale is t = ⌊σ⌋ + 1 ≤ 2^20 + 1. The geometric part of the Laplace sampler is cut at
//! `TAIL_STEPS` = 1024, so |Y| < 1025·t < 2^31. The acceptance test of Algorithm 3 is
//! γ = (|Y|·t − σ²)² / (2·σ²·t²): |Y|·t < 2^52, hence the numerator is below 2^104; the denominator is at most
//! 2·2^40·(2^20 + 1)² < 2^82. Algorithm 1 multiplies the denominator by k ≤ `SERIES_STEPS` = 64: below 2^88.
//!
//! # How exact
//!
//! Every loop has a limit, so that the functions are total even over a broken generator. With a good one the
//! limits are hit with probability at most e^−1024 (tail), 1/64! < 1e-88 (series), 2^−256 (one uniform draw) and
//! 0.6^4096 (attempts): together below 1e-80 per sample, which no δ can see.
//!
//! # Wire format
//!
//! [`gaussian_vector`] must give the same numbers on every machine and in every version, because seeds are
//! revealed so that others can subtract the noise. The generator is ChaCha20 with the seed as key, 64-bit counter
//! and 64-bit nonce both zero; its keystream is read as consecutive little-endian 64-bit words:
//!
//! * *uniform below N*: N = 1 reads nothing. Otherwise, with b the bit length of N − 1: one word if b ≤ 64, else
//!   two (low word first), keep the low b bits; if the result is ≥ N, repeat. (After 256 repeats: 0.)
//! * *Bernoulli(a/b)*: uniform below b, true if < a.
//! * *B(a, b)* for a ≤ b (Bernoulli of exp(−a/b)): for k = 1, 2, … draw Bernoulli(a/(b·k)); at the first false
//!   return whether k is odd. (After k = 64: false.)
//! * *E(a, b)* for any a: while a ≥ b: draw B(1, 1), if false return false, else a ← a − b; then B(a, b).
//! * *Laplace(t)*: U uniform below t; D = E(U, t), if false start again; V = number of B(1, 1) that are true before
//!   the first false (if it reaches 1024: start again); S = uniform below 2; X = U + t·V; if S = 1 and X = 0 start
//!   again; return −X if S = 1, else X.
//! * *Gaussian(σ²)*: t = ⌊√σ²⌋ + 1; Y = Laplace(t); E((|Y|·t − σ²)², 2·σ²·t²), if false start again; return Y.
//!
//! Coordinates follow one another without padding. A vector is pinned in the tests.

use chacha20::ChaCha20Rng;
use rand_core::{CryptoRng, SeedableRng};
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Largest variance of one draw, lattice steps squared: the overflow proof above is written for it.
pub const MAX_VARIANCE: u64 = 1 << 40;
/// Largest scale of a discrete Laplace draw: ⌊√[`MAX_VARIANCE`]⌋ + 1.
pub const MAX_SCALE: u64 = (1 << 20) + 1;
/// Longest vector: 2^24 cells are 128 MiB of noise, more than one round should carry.
pub const MAX_LEN: usize = 1 << 24;

/// Cut of the geometric tail: exceeded with probability e^−1024.
const TAIL_STEPS: u64 = 1024;
/// Cut of the series of Algorithm 1: exceeded with probability 1/64!.
const SERIES_STEPS: u128 = 64;
/// Rejections in one uniform draw, each of probability below 1/2.
const MAX_REJECTIONS: u32 = 256;
/// Attempts of a rejection sampler, each accepted with probability above 0.4.
const MAX_ATTEMPTS: u32 = 4096;

/// Draws a vector of independent discrete Gaussians from a seed: the same seed gives the same noise everywhere.
///
/// Promise: given a uniform secret seed used for this one vector only, returns `len` draws from N_Z(0, σ²), never
/// anything that depends on data. Proven (Canonne, Kamath, Steinke 2020, Theorem 24) up to the generator and 1e-80.
///
/// # Errors
/// [`SamplerError::TooLong`] above [`MAX_LEN`] cells.
pub fn gaussian_vector(seed: &Seed, variance: Variance, len: usize) -> Result<Vec<i64>, SamplerError> {
    if len > MAX_LEN {
        return Err(SamplerError::TooLong { len });
    }
    let mut rng = ChaCha20Rng::from_seed(seed.0);
    Ok((0..len).map(|_| discrete_gaussian(&mut rng, variance)).collect())
}

/// One draw from the discrete Gaussian: P(x) ∝ exp(−x²/2σ²) on the integers. |result| < 2^31.
///
/// Promise: exact up to 1e-80 for a uniform generator. Proven (Algorithm 3).
pub fn discrete_gaussian<R: CryptoRng + ?Sized>(rng: &mut R, variance: Variance) -> i64 {
    let sigma2 = u128::from(variance.0);
    let t = variance.0.isqrt() + 1;
    let den = 2 * sigma2 * u128::from(t) * u128::from(t);
    for _ in 0..MAX_ATTEMPTS {
        let y = laplace(rng, t);
        let gap = (u128::from(y.unsigned_abs()) * u128::from(t)).abs_diff(sigma2);
        if bernoulli_exp(rng, gap * gap, den) {
            return y;
        }
    }
    0
}

/// One draw from the discrete Laplace: P(x) ∝ exp(−|x|/t) on the integers. |result| < 2^31.
///
/// Promise: exact up to 1e-80 for a uniform generator. Proven (Algorithm 2).
pub fn discrete_laplace<R: CryptoRng + ?Sized>(rng: &mut R, scale: Scale) -> i64 {
    laplace(rng, scale.0)
}

/// A positive integer variance in lattice steps squared, at most [`MAX_VARIANCE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Variance(u64);

impl Variance {
    /// # Errors
    /// [`SamplerError::Variance`] unless 1 ≤ `sigma2` ≤ [`MAX_VARIANCE`].
    pub fn new(sigma2: u64) -> Result<Self, SamplerError> {
        if (1..=MAX_VARIANCE).contains(&sigma2) { Ok(Self(sigma2)) } else { Err(SamplerError::Variance { sigma2 }) }
    }

    /// The variance, lattice steps squared.
    pub fn get(self) -> u64 {
        self.0
    }
}

/// A positive integer scale of a discrete Laplace in lattice steps, at most [`MAX_SCALE`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scale(u64);

impl Scale {
    /// # Errors
    /// [`SamplerError::Scale`] unless 1 ≤ `scale` ≤ [`MAX_SCALE`].
    pub fn new(scale: u64) -> Result<Self, SamplerError> {
        if (1..=MAX_SCALE).contains(&scale) { Ok(Self(scale)) } else { Err(SamplerError::Scale { scale }) }
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
    #[error("caller: variance {sigma2} is outside 1..={MAX_VARIANCE} lattice steps squared")]
    Variance {
        /// What was asked for.
        sigma2: u64,
    },
    /// The caller asked for a scale outside the proven range.
    #[error("caller: scale {scale} is outside 1..={MAX_SCALE} lattice steps")]
    Scale {
        /// What was asked for.
        scale: u64,
    },
    /// The caller asked for too long a vector.
    #[error("caller: {len} cells are more than the limit of {MAX_LEN}")]
    TooLong {
        /// What was asked for.
        len: usize,
    },
}

fn laplace<R: CryptoRng + ?Sized>(rng: &mut R, t: u64) -> i64 {
    for _ in 0..MAX_ATTEMPTS {
        // Below t ≤ 2^20 + 1, so it fits; the conversion cannot fail.
        let u = uniform_below(rng, u128::from(t)) as u64;
        if !bernoulli_exp(rng, u128::from(u), u128::from(t)) {
            continue;
        }
        let mut v = 0;
        while v < TAIL_STEPS && bernoulli_exp_unit(rng, 1, 1) {
            v += 1;
        }
        if v == TAIL_STEPS {
            continue;
        }
        let negative = uniform_below(rng, 2) == 1;
        // Below 1025·t < 2^31.
        let magnitude = (u + t * v) as i64;
        if negative && magnitude == 0 {
            continue; // zero has one sign, or it would come twice as often
        }
        return if negative { -magnitude } else { magnitude };
    }
    0
}

/// True with probability exp(−num/den), for den ≥ 1.
fn bernoulli_exp<R: CryptoRng + ?Sized>(rng: &mut R, num: u128, den: u128) -> bool {
    let mut rest = num;
    // At most num/den < 2^23 turns within the limits, and each goes on with probability 1/e.
    while rest >= den {
        if !bernoulli_exp_unit(rng, 1, 1) {
            return false;
        }
        rest -= den;
    }
    bernoulli_exp_unit(rng, rest, den)
}

/// True with probability exp(−num/den), for num ≤ den.
fn bernoulli_exp_unit<R: CryptoRng + ?Sized>(rng: &mut R, num: u128, den: u128) -> bool {
    for k in 1..=SERIES_STEPS {
        if uniform_below(rng, den * k) >= num {
            return k % 2 == 1;
        }
    }
    false
}

/// Uniform on 0..n, for n ≥ 1.
fn uniform_below<R: CryptoRng + ?Sized>(rng: &mut R, n: u128) -> u128 {
    if n <= 1 {
        return 0;
    }
    let top = n - 1;
    // The same draw in one word where it suffices, only faster than in 128 bits.
    if let Ok(top) = u64::try_from(top) {
        let mask = u64::MAX >> top.leading_zeros();
        let drawn = (0..MAX_REJECTIONS).map(|_| rng.next_u64() & mask).find(|drawn| *drawn <= top);
        return u128::from(drawn.unwrap_or(0));
    }
    let mask = u128::MAX >> top.leading_zeros();
    let mut two_words = || u128::from(rng.next_u64()) | u128::from(rng.next_u64()) << 64;
    (0..MAX_REJECTIONS).map(|_| two_words() & mask).find(|drawn| *drawn <= top).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::interval::normal_quantile;
    use crate::testing::{CRITICAL_RATE, chi_squared, gaussian_pmf, laplace_pmf, seeded, statistic_is_alarming};
    use core::convert::Infallible;
    use rand_core::{TryCryptoRng, TryRng};

    const SAMPLES: usize = 400_000;

    #[test]
    fn gaussian_agrees_with_its_exact_pmf() {
        for (seed, sigma2) in [(1u8, 1u64), (2, 2), (3, 3), (4, 10), (5, 100), (6, 12_345), (7, 1 << 20)] {
            let mut rng = seeded(seed);
            let variance = Variance::new(sigma2).unwrap();
            let samples: Vec<i64> = (0..SAMPLES).map(|_| discrete_gaussian(&mut rng, variance)).collect();
            let test = chi_squared(&samples, &gaussian_pmf(sigma2 as f64));
            assert!(!test.alarming(), "seed {seed}, σ² {sigma2}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
        }
    }

    #[test]
    fn laplace_agrees_with_its_exact_pmf() {
        for (seed, t) in [(11u8, 1u64), (12, 2), (13, 7), (14, 1000)] {
            let mut rng = seeded(seed);
            let scale = Scale::new(t).unwrap();
            let samples: Vec<i64> = (0..SAMPLES).map(|_| discrete_laplace(&mut rng, scale)).collect();
            let test = chi_squared(&samples, &laplace_pmf(t as f64));
            assert!(!test.alarming(), "seed {seed}, t {t}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
        }
    }

    /// At the limits the pmf cannot be tabulated; twenty cells of equal normal probability are exact to 1e-6 there.
    #[test]
    fn gaussian_at_the_largest_variance_fills_normal_cells_evenly() {
        let (seed, cells) = (21u8, 20usize);
        let mut rng = seeded(seed);
        let variance = Variance::new(MAX_VARIANCE).unwrap();
        let cuts: Vec<f64> =
            (1..cells).map(|i| normal_quantile(i as f64 / cells as f64) * (MAX_VARIANCE as f64).sqrt()).collect();
        let mut counts = vec![0f64; cells];
        for _ in 0..SAMPLES {
            let x = discrete_gaussian(&mut rng, variance) as f64;
            counts[cuts.iter().filter(|cut| **cut < x).count()] += 1.0;
        }
        let expected = SAMPLES as f64 / cells as f64;
        let statistic: f64 = counts.iter().map(|n| (n - expected).powi(2) / expected).sum();
        assert!(!statistic_is_alarming(statistic, cells - 1), "seed {seed}: {statistic}");
    }

    /// The instrument must be seen to fail: each of these samplers has a mistake that was made somewhere before.
    #[test]
    fn wrong_samplers_are_flagged() {
        let mut rng = seeded(31);
        let mut uniform = move || (rand_core::Rng::next_u64(&mut rng) >> 11) as f64 / (1u64 << 53) as f64;
        let mut rounded_normal = |sigma: f64| {
            let radius = (-2.0 * (1.0 - uniform()).ln()).sqrt();
            (sigma * radius * (core::f64::consts::TAU * uniform()).cos()).round() as i64
        };
        let rounded: Vec<i64> = (0..SAMPLES).map(|_| rounded_normal(1.2)).collect();
        assert!(chi_squared(&rounded, &gaussian_pmf(1.44)).alarming(), "rounded float normal passed");

        let mut rng = seeded(32);
        let two_zeros: Vec<i64> = (0..SAMPLES)
            .map(|_| {
                let x = discrete_laplace(&mut rng, Scale::new(3).unwrap());
                if x.unsigned_abs() == 1 && uniform_below(&mut rng, 16) == 0 { 0 } else { x }
            })
            .collect();
        assert!(chi_squared(&two_zeros, &laplace_pmf(3.0)).alarming(), "zero drawn too often passed");

        let mut rng = seeded(33);
        let off_by_two_percent: Vec<i64> =
            (0..SAMPLES).map(|_| discrete_gaussian(&mut rng, Variance::new(102).unwrap())).collect();
        assert!(chi_squared(&off_by_two_percent, &gaussian_pmf(100.0)).alarming(), "σ² 102 passed for 100");
    }

    /// The wire format. Computed independently, from the description at the top of this file alone.
    #[test]
    fn seeded_vectors_are_pinned() {
        let counting: [u8; 32] = core::array::from_fn(|i| i as u8);
        let cases: [([u8; 32], u64, &[i64]); 4] = [
            ([0; 32], 1, &[0, 2, 1, -1, 0, 0, 0, 1, 1, 1, 0, 0]),
            ([0; 32], 100, &[3, -11, -13, 7, -11, 24, 0, 4, 14, -4, 13, 8]),
            (counting, 1_000_000, &[-1314, -864, 1494, -541, -2155, 355, 765, -664]),
            (counting, MAX_VARIANCE, &[795_435, 1_575_027, 743_194, -2_090_646, 88_117, -1_714_533]),
        ];
        for (seed, sigma2, expected) in cases {
            let drawn =
                gaussian_vector(&Seed::from_bytes(seed), Variance::new(sigma2).unwrap(), expected.len()).unwrap();
            assert_eq!(drawn, expected, "σ² {sigma2}");
        }
    }

    #[test]
    fn parameters_outside_the_proof_are_refused() {
        assert!(Variance::new(0).is_err());
        assert!(Variance::new(MAX_VARIANCE + 1).is_err());
        assert!(Scale::new(0).is_err());
        assert!(Scale::new(MAX_SCALE + 1).is_err());
        let seed = Seed::from_bytes([0; 32]);
        let variance = Variance::new(1).unwrap();
        assert_eq!(gaussian_vector(&seed, variance, MAX_LEN + 1), Err(SamplerError::TooLong { len: MAX_LEN + 1 }));
    }

    /// A generator that is stuck must not hang, overflow or panic us.
    #[test]
    fn stuck_generators_end() {
        for word in [0, 1, u64::MAX, 1 << 63] {
            let mut rng = Stuck(word);
            for sigma2 in [1, 7, MAX_VARIANCE] {
                let x = discrete_gaussian(&mut rng, Variance::new(sigma2).unwrap());
                assert!(x.unsigned_abs() < 1 << 31);
            }
        }
    }

    struct Stuck(u64);
    impl TryRng for Stuck {
        type Error = Infallible;
        fn try_next_u32(&mut self) -> Result<u32, Infallible> {
            Ok(self.0 as u32)
        }
        fn try_next_u64(&mut self) -> Result<u64, Infallible> {
            Ok(self.0)
        }
        fn try_fill_bytes(&mut self, dst: &mut [u8]) -> Result<(), Infallible> {
            dst.fill(self.0 as u8);
            Ok(())
        }
    }
    impl TryCryptoRng for Stuck {}
}
