//! The discrete Gaussian: many draws at one variance from a table, or one draw without preparation.
//!
//! **Many.** Up to σ² = 256, one lazy inversion of a table of all integers. Above, the table holds the non-negative half
//! of a narrower Gaussian of σ²/k², and a draw x from it is widened to z = kx + y with y uniform below k, kept with
//! probability exp(−y(y + 2kx)/2σ²), given a sign, and dropped if it is a negative zero (Ducas, Durmus, Lepoint,
//! Lyubashevsky 2013, "Lattice Signatures and Bimodal Gaussians", section 6). Here k is the least power of two with
//! σ²/k² ≤ 256, so that y and the sign are digits of one word, and σ/k is above 8, so that 95 % are kept.
//! Why it is right: exp(−(kx)²/2σ²)·exp(−y(y + 2kx)/2σ²) = exp(−z²/2σ²), and each z ≥ 0 is one kx + y.
//!
//! **One.** Canonne, Kamath, Steinke 2020, Algorithm 3: a discrete Laplace of scale t = ⌊σ⌋ + 1, kept with probability
//! exp(−(|Y| − σ²/t)²/2σ²). With σ² = p/q that exponent is (|Y|·t·q − p)²/(2·p·q·t²).
//!
//! Sizes: the table gives x ≤ 22·16 (320 digits), so z < k·(22·16 + 2) < 2^25 and y(y + 2kx) < 2^42, and the exponent is
//! below 3.

use dashu::integer::UBig;
use rand_core::CryptoRng;

use super::bernoulli::{EXPONENT_BITS, bernoulli_exp, bernoulli_exp_big, exceeds};
use super::laplace::laplace;
use super::table::{Law, Table};
use super::{MAX_ATTEMPTS, Variance};
use crate::exact::Probability;

/// Largest variance that is drawn from one table, which then has 2·9.5·16 = 304 words: setting up stays below 0.1 ms.
const MAX_NARROW: u128 = 256;
/// Attempts at widening, each kept with probability above 0.9: all fail with probability below 2^−425.
const MAX_WIDENINGS: u32 = 128;
/// Digits of [`Wide::slope`] beyond those of an exponent: with y(y + 2kx) < 2^42 its error stays below 2^−52.
const SLOPE_BITS: u32 = 36;

/// A discrete Gaussian made ready for many draws.
///
/// Setting up takes 25 to 65 µs, a draw 0.011 µs up to σ² = 256 and 0.032 µs above; [`discrete_gaussian`] takes 0.15 to
/// 0.26 µs (one core, a million draws from ChaCha20, measured when written).
pub struct GaussianSampler(Shape);

enum Shape {
    Narrow(Table),
    Wide(Wide),
}

struct Wide {
    base: Table,
    /// k = 2^shift.
    shift: u32,
    /// 1/(2σ²) in units of 2^−94, rounded down.
    slope: u128,
    variance: Variance,
}

impl GaussianSampler {
    /// Prepares draws of this variance.
    pub fn new(variance: Variance) -> Self {
        let (num, den) = (variance.num(), u128::from(variance.den()));
        let shift = (0..=16).find(|shift| u128::from(num) <= (MAX_NARROW * den) << (2 * shift)).unwrap_or(16);
        if shift == 0 {
            return Self(Shape::Narrow(Table::new(Law::Gaussian { num, den })));
        }
        let slope = (UBig::from(den) << (EXPONENT_BITS + SLOPE_BITS) as usize) / (UBig::from(num) << 1);
        // 2σ² > 512, hence below 2^85.
        let slope = u128::try_from(slope).unwrap_or(u128::MAX);
        let base = Table::new(Law::HalfGaussian { num, den: den << (2 * shift) });
        Self(Shape::Wide(Wide { base, shift, slope, variance }))
    }

    /// One draw: P(x) ∝ exp(−x²/2σ²) on the integers. |result| < 2^25.
    ///
    /// Promise: exact up to 2^−300 for a uniform generator. Proven (module text; each comparison to 320 digits).
    #[inline]
    pub fn draw<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        match &self.0 {
            Shape::Narrow(table) => signed(table.draw(rng)),
            Shape::Wide(wide) => wide.draw(rng),
        }
    }

    /// Replaces every cell by a draw, in order.
    ///
    /// Promise: as [`GaussianSampler::draw`], independent for a uniform generator.
    pub fn fill<R: CryptoRng + ?Sized>(&self, rng: &mut R, cells: &mut [i64]) {
        match &self.0 {
            Shape::Narrow(table) => cells.iter_mut().for_each(|cell| *cell = signed(table.draw(rng))),
            Shape::Wide(wide) => cells.iter_mut().for_each(|cell| *cell = wide.draw(rng)),
        }
    }
}

impl Wide {
    #[inline]
    fn draw<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        for _ in 0..MAX_WIDENINGS {
            let x = self.base.draw(rng) << self.shift;
            let word = rng.next_u64();
            let y = word & ((1 << self.shift) - 1);
            let negative = word >> 63 == 1;
            let keep = rng.next_u64();
            let square = y * (y + 2 * x);
            let exponent = (u128::from(square) * self.slope) >> SLOPE_BITS;
            if !exceeds(u64::try_from(exponent).ok(), keep).unwrap_or_else(|| self.settle(square, keep, rng)) {
                continue;
            }
            let z = (x + y) as i64;
            if negative && z == 0 {
                continue; // zero has one sign, or it would come twice as often
            }
            return if negative { -z } else { z };
        }
        0
    }

    /// Bernoulli of exp(−square/2σ²) for a first word that does not decide.
    #[cold]
    fn settle<R: CryptoRng + ?Sized>(&self, square: u64, word: u64, rng: &mut R) -> bool {
        let num = UBig::from(square) * self.variance.den();
        Probability::exp_neg(&num, &(UBig::from(self.variance.num()) << 1)).draw_from(word, rng)
    }
}

/// 0, 1, −1, 2, −2, … by index.
#[inline]
fn signed(index: u64) -> i64 {
    let magnitude = index.div_ceil(2) as i64;
    if index.is_multiple_of(2) { -magnitude } else { magnitude }
}

/// One draw from the discrete Gaussian: P(x) ∝ exp(−x²/2σ²) on the integers. |result| < 2^31.
///
/// From about three hundred draws at one variance on, [`GaussianSampler`] is faster.
///
/// Promise: exact up to 2^−300 for a uniform generator. Proven (Algorithm 3).
pub fn discrete_gaussian<R: CryptoRng + ?Sized>(rng: &mut R, variance: Variance) -> i64 {
    let (num, den) = (u128::from(variance.num()), u128::from(variance.den()));
    let t = u64::try_from(num / den).map_or(0, u64::isqrt) + 1;
    let wide_t = u128::from(t);
    // |Y| ≤ 1025·t < 2^31, t ≤ 2^20 + 1, den < 2^64: below 2^115. Which arithmetic is used depends on the variance only.
    let largest = (1025 * wide_t * wide_t * den).max(num);
    let squares = (largest < 1 << 64).then(|| (2 * num).checked_mul(den)?.checked_mul(wide_t * wide_t)).flatten();
    for _ in 0..MAX_ATTEMPTS {
        let y = laplace(rng, t, 1);
        let gap = (u128::from(y.unsigned_abs()) * wide_t * den).abs_diff(num);
        let keep = match squares {
            Some(squares) => bernoulli_exp(rng, gap * gap, squares),
            None => {
                let squares = UBig::from(2 * num) * den * wide_t * wide_t;
                bernoulli_exp_big(rng, &(UBig::from(gap) * gap), &squares)
            }
        };
        if keep {
            return y;
        }
    }
    0
}
