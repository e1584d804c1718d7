//! The Skellam distribution: the difference of two Poisson variables of the same mean.
//!
//! It is closed under sums, unlike the discrete Gaussian (Agarwal, Kairouz, Liu 2021, "The Skellam Mechanism for
//! Differentially Private Federated Learning"): the sum of draws of variances σ_i² is a draw of variance Σσ_i². The same
//! property draws it here: a Poisson of large mean is a sum of n Poissons of an n-th of it, from one table.
//!
//! Limits: one table serves means up to 2^20, where it has 20,000 words and takes about 10 ms to set up; beyond, a draw
//! needs 2·⌈σ²/2^21⌉ table look-ups, at most 1024.

use rand_core::CryptoRng;

use super::table::{Law, Table};
use super::{SamplerError, Variance};

/// Largest variance of a Skellam draw, lattice steps squared: 512 pairs of table look-ups.
pub(super) const MAX_SKELLAM_VARIANCE: u64 = 1 << 30;
/// Largest mean of one table.
const MAX_TABLE_MEAN: u128 = 1 << 20;

/// A Skellam distribution made ready for many draws.
pub struct SkellamSampler {
    table: Table,
    pairs: u32,
}

impl SkellamSampler {
    /// Prepares draws of this variance, each Poisson having half of it as its mean.
    ///
    /// # Errors
    /// [`SamplerError::Skellam`] above 2^30 lattice steps squared.
    pub fn new(variance: Variance) -> Result<Self, SamplerError> {
        let (num, den) = (variance.num(), variance.den());
        let twice = 2 * u128::from(den);
        let pairs = u128::from(num).div_ceil(twice * MAX_TABLE_MEAN);
        match u32::try_from(pairs) {
            Ok(pairs) if u128::from(num) <= u128::from(den) * u128::from(MAX_SKELLAM_VARIANCE) => {
                Ok(Self { table: Table::new(Law::Poisson { num, den: twice * u128::from(pairs) }), pairs })
            }
            _ => Err(SamplerError::Skellam { num, den }),
        }
    }

    /// One draw, P(x) = e^−σ²·I_|x|(σ²) on the integers. |result| < 2^31.
    ///
    /// Promise: exact up to 2^−300 for a uniform generator. Proven (inversion to 320 digits; Poissons add up).
    pub fn draw<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> i64 {
        // Each look-up is below 2^21, and there are at most 2^9 pairs.
        (0..self.pairs).map(|_| self.table.draw(rng) as i64 - self.table.draw(rng) as i64).sum()
    }

    /// Replaces every cell by a draw, in order.
    ///
    /// Promise: as [`SkellamSampler::draw`], independent for a uniform generator.
    pub fn fill<R: CryptoRng + ?Sized>(&self, rng: &mut R, cells: &mut [i64]) {
        cells.iter_mut().for_each(|cell| *cell = self.draw(rng));
    }
}
