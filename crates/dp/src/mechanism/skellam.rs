//! Skellam noise: the difference of two Poissons, for sums of shares of which it is not known how many will come.
//!
//! Agarwal, Kairouz, Liu 2021, "The Skellam Mechanism for Differentially Private Federated Learning" (arXiv 2110.04995).
//! Independent Skellams add up to a Skellam, so a sum of shares costs what one Skellam of their total variance costs,
//! without the τ of a sum of discrete Gaussians ([`crate::price`]), however small each share is.
//!
//! Does not: bound contributions. Assumes that the caller's L1 and L2 sensitivities are right, over all cells together.

use dashu::integer::UBig;
use rand_core::CryptoRng;

use super::cost::{NANO, nano_above, price_of};
use super::{MechanismError, add_to_each, check_noise};
use crate::price::{Curve, ORDERS, Price};
use crate::raw::Raw;
use crate::sampler::{SkellamSampler, Variance};

/// The Skellam mechanism: P(noise = x) = e^−μ·I_|x|(μ) in every cell, of variance μ.
#[derive(Clone, Debug, PartialEq)]
pub struct Skellam {
    variance: Variance,
    price: Price,
}

impl Skellam {
    /// From the L1 sensitivity (lattice steps), the squared joint L2 sensitivity and the variance of a cell's noise (both
    /// in lattice steps squared). For a sum of shares the variance is that of the shares which no colluder knows.
    ///
    /// # Errors
    /// [`MechanismError::Zero`]; [`MechanismError::Unfit`] when no integer vector has these two sensitivities;
    /// [`MechanismError::TooLarge`] for noise that is next to none.
    pub fn new(delta1: u64, delta2_squared: u128, variance: Variance) -> Result<Self, MechanismError> {
        for (field, value) in [("delta1", u128::from(delta1)), ("delta2_squared", delta2_squared)] {
            if value == 0 {
                return Err(MechanismError::Zero { field });
            }
        }
        // For integers ‖x‖₁ ≤ ‖x‖₂² ≤ ‖x‖₁²; the first may be loose bounds, the second may not.
        if delta2_squared > u128::from(delta1) * u128::from(delta1) {
            return Err(MechanismError::Unfit { reason: "delta2_squared is above the square of delta1" });
        }
        let at_order = |(num, den): (u64, u64)| cost_at(num.div_ceil(den), delta1, delta2_squared, variance);
        Ok(Self { variance, price: check_noise(price_of(Curve::new(ORDERS.map(at_order))))? })
    }

    /// Adds noise to every cell.
    ///
    /// Promise: given integers whose L1 and squared L2 distances between neighbours are at most the two sensitivities,
    /// returns values that cost [`Skellam::price`]; never the raw ones. Proven (Agarwal, Kairouz, Liu 2021, Theorem 3.5),
    /// up to the 2^−300 of the sampler. There is no ε without a δ.
    ///
    /// # Errors
    /// [`MechanismError::Sampler`] for a variance above what the sampler can draw; the raw values are dropped.
    pub fn release(&self, raw: Raw<Vec<i64>>, rng: &mut dyn CryptoRng) -> Result<Vec<i64>, MechanismError> {
        let sampler = SkellamSampler::new(self.variance)?;
        Ok(add_to_each(raw.into_inner(), || sampler.draw(rng)))
    }

    /// At order α, with a = ⌈α⌉: a·Δ₂²/2μ + min(((2a−1)·Δ₂² + 6Δ₁)/4μ², 3Δ₁/2μ), rounded up.
    ///
    /// The theorem is about whole orders; divergence does not fall with the order (van Erven, Harremoës 2014, Theorem 3),
    /// so the next whole one bounds those between.
    pub fn price(&self) -> Price {
        self.price.clone()
    }

    /// The variance μ in lattice steps squared. Public, for error bars.
    pub fn variance(&self) -> Variance {
        self.variance
    }
}

/// The bound at a whole order, over the common denominator 4·num² of μ = num/den.
fn cost_at(order: u64, delta1: u64, delta2_squared: u128, variance: Variance) -> crate::price::NanoNats {
    let (num, den) = (UBig::from(variance.num()), UBig::from(variance.den()));
    let (delta1, delta2_squared) = (UBig::from(delta1), UBig::from(delta2_squared));
    let gaussian = &delta2_squared * 2u64 * order * &num * &den;
    let fine = (&delta2_squared * (2 * order - 1) + &delta1 * 6u64) * &den * &den;
    let coarse = delta1 * 6u64 * &num * den;
    nano_above((gaussian + fine.min(coarse)) * NANO, &num * &num * 4u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seeded;

    /// The published formula in floating point.
    #[test]
    fn the_price_is_the_published_bound() {
        for (delta1, delta2_squared, num, den) in
            [(1, 1u128, 4u64, 1u64), (10, 30, 1000, 7), (3, 9, 1 << 20, 1), (5, 5, 1, 3)]
        {
            let mechanism = Skellam::new(delta1, delta2_squared, Variance::ratio(num, den).unwrap()).unwrap();
            let (l1, l2, mu) = (delta1 as f64, delta2_squared as f64, num as f64 / den as f64);
            for ((num, den), cost) in ORDERS.iter().zip(mechanism.price().curve.orders()) {
                let a = (*num as f64 / *den as f64).ceil();
                let lattice = (((2.0 * a - 1.0) * l2 + 6.0 * l1) / (4.0 * mu * mu)).min(1.5 * l1 / mu);
                let bound = a * l2 / (2.0 * mu) + lattice;
                let nano = cost.get() as f64 * 1e-9;
                assert!(nano >= bound * (1.0 - 1e-12) && nano <= bound * (1.0 + 1e-12) + 1e-9, "{a}: {nano} {bound}");
            }
        }
    }

    #[test]
    fn released_values_carry_noise_of_the_variance() {
        // Mean of squares over 100,000 draws of variance 16: 6σ is 16·6·√(2/n) ≈ 0.43, a false alarm in 5e8.
        let (seed, n) = (61u8, 100_000);
        let mechanism = Skellam::new(1, 1, Variance::new(16).unwrap()).unwrap();
        let released = mechanism.release(Raw::new(vec![0; n]), &mut seeded(seed)).unwrap();
        let square: f64 = released.iter().map(|x| (*x as f64).powi(2)).sum::<f64>() / n as f64;
        assert!((square - 16.0).abs() < 0.5, "seed {seed}: {square}");
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let variance = Variance::new(4).unwrap();
        for (delta1, delta2_squared) in [(0, 1u128), (1, 0), (2, 5)] {
            assert!(Skellam::new(delta1, delta2_squared, variance).is_err(), "{delta1} {delta2_squared}");
        }
        let wide = Skellam::new(1, 1, Variance::new(1 << 31).unwrap()).unwrap();
        assert!(wide.release(Raw::new(vec![0]), &mut seeded(62)).is_err());
        let nothing = Variance::ratio(1, 1 << 40).unwrap();
        for (delta1, delta2_squared, variance) in [(u64::MAX, u128::MAX >> 1, variance), (1, 1, nothing)] {
            let found = Skellam::new(delta1, delta2_squared, variance);
            assert!(matches!(found, Err(MechanismError::TooLarge { .. })), "{delta1} {delta2_squared}");
        }
    }
}
