//! A clipping bound that follows the data, at the price of one more cell.
//!
//! Andrew, Thakkar, McMahan, Ramaswamy 2021 ("Differentially Private Learning with Adaptive Clipping"): besides its clipped
//! vector everyone contributes one bit, whether the vector fitted the bound C; from the noisy share b̃ of those that did
//! the bound moves towards the quantile γ, C ← C·exp(−η·(b̃ − γ)).
//!
//! **The bit is a cell of the same vector.** It is +w or −w instead of 1 or 0. One person who comes or goes then moves
//! the sum by w, where a bit of height 2w would move it by 2w: this is the shift by 1/2 of the paper, without halves. With
//! one noise variance σ² in all cells the whole is *one* Gaussian vector of squared sensitivity C² + w². In the paper's
//! terms σ_b = σ/2w, and z_Δ = (z^−2 − (2σ_b)^−2)^(−1/2) says the same: C²/σ² = (C² + w²)/σ² − w²/σ².
//! A person who is *replaced* moves the vector by up to 2C and the bit by 2w: four times the square.
//!
//! **Integers.** The bound is kept with 32 binary places and moved by an exponential enclosed in integers, so that all nodes
//! hold the same bound. The share is clamped to [0, 1], which is post-processing and bounds a step by e^η.
//!
//! Does not: add noise. The vector goes through [`super::Gaussian`] or [`super::DistributedGaussian`] with the variance of the
//! [`ClipRound`]. Assumes a public, roughly right number of persons: a wrong one costs accuracy, not privacy.

use dashu::integer::UBig;

use super::cost::{concentrated_curve, price_of};
use super::fixed::{BITS, exp_neg};
use super::{MechanismError, check_range};
use crate::accounting::Relation;
use crate::price::{NanoNats, Price, sigma2_for_rho};

/// Largest bound, lattice steps.
pub const MAX_BOUND: u64 = 1 << 40;
/// A part in a million.
const PPM: u64 = 1_000_000;
/// Largest rate η: a step is then at most e^10.
const MAX_RATE_PPM: u32 = 10_000_000;
/// Largest number of persons.
const MAX_PERSONS: u64 = 1 << 40;
/// Binary places of the bound.
const PLACES: usize = 32;

/// How a bound starts and moves. All of it is public.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClipConfig {
    /// The first bound C, lattice steps.
    pub first_bound: u64,
    /// The bound never falls below this, lattice steps.
    pub smallest_bound: u64,
    /// The bound never rises above this, lattice steps.
    pub largest_bound: u64,
    /// γ: the share of persons whose vectors should fit, in parts per million, below a million.
    pub quantile_ppm: u32,
    /// η: how fast the bound moves, in parts per million; the paper uses 200,000.
    pub rate_ppm: u32,
    /// w/C: the weight of the bit, in parts per million; 50,000 cost a quarter of a percent of the price.
    pub bit_share_ppm: u32,
    /// How many persons contribute in a round, as publicly expected.
    pub persons: u64,
    /// Which data sets are neighbours.
    pub relation: Relation,
}

/// The state machine of the bound.
#[derive(Clone, Debug, PartialEq)]
pub struct AdaptiveClip {
    config: ClipConfig,
    /// C·2^32.
    bound: u128,
}

/// What holds for one round; made by [`AdaptiveClip::round`] alone, so that bound, weight and sensitivity agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClipRound {
    bound: u64,
    weight: u64,
    delta2_squared: u128,
}

impl AdaptiveClip {
    /// Starts at the first bound.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`]; [`MechanismError::Unfit`] unless the bounds are in order.
    pub fn new(config: ClipConfig) -> Result<Self, MechanismError> {
        check_range("smallest_bound", config.smallest_bound, MAX_BOUND)?;
        check_range("largest_bound", config.largest_bound, MAX_BOUND)?;
        check_range("persons", config.persons, MAX_PERSONS)?;
        check_range("rate_ppm", u64::from(config.rate_ppm), u64::from(MAX_RATE_PPM))?;
        check_range("quantile_ppm", u64::from(config.quantile_ppm), PPM - 1)?;
        check_range("bit_share_ppm", u64::from(config.bit_share_ppm), PPM)?;
        if !(config.smallest_bound..=config.largest_bound).contains(&config.first_bound) {
            return Err(MechanismError::Unfit {
                reason: "the first bound is not between the smallest and the largest",
            });
        }
        Ok(Self { config, bound: u128::from(config.first_bound) << PLACES })
    }

    /// Bound, weight and sensitivity of this round.
    pub fn round(&self) -> ClipRound {
        // Between smallest_bound ≥ 1 and MAX_BOUND, so it fits.
        let bound = u64::try_from(self.bound >> PLACES).unwrap_or(MAX_BOUND).clamp(1, MAX_BOUND);
        let weight = (u128::from(bound) * u128::from(self.config.bit_share_ppm)).div_ceil(u128::from(PPM));
        let weight = u64::try_from(weight).unwrap_or(bound).clamp(1, bound);
        // Both squares are below 2^80.
        let square = u128::from(bound).pow(2) + u128::from(weight).pow(2);
        let delta2_squared = match self.config.relation {
            Relation::AddOrRemoveOne => square,
            Relation::ReplaceOne => 4 * square,
        };
        ClipRound { bound, weight, delta2_squared }
    }

    /// Moves the bound by what was released: the noisy sum of all bit cells.
    ///
    /// Promise: post-processing of a released number; the same on every machine. Proven.
    pub fn update(&mut self, noisy_bits: i64) {
        // b̃ = (sum/(w·n) + 1)/2, as num/den with den = 2·w·n < 2^82.
        let full = i128::from(self.round().weight) * i128::from(self.config.persons);
        let num = (i128::from(noisy_bits) + full).clamp(0, 2 * full).unsigned_abs();
        let den = (2 * full).unsigned_abs();
        let ClipConfig { quantile_ppm, rate_ppm, smallest_bound, largest_bound, .. } = self.config;
        // η·|b̃ − γ|, all over one denominator.
        let (share, target) = (UBig::from(num) * PPM, UBig::from(den) * quantile_ppm);
        let too_many = share > target;
        let gap = if too_many { share - target } else { target - share };
        let factor = exp_neg(&(gap * rate_ppm), &(UBig::from(den) * PPM * PPM)).lower;
        let old = UBig::from(self.bound);
        // The exponent is at most 10, so the factor is far from zero; were it zero, the largest bound would result.
        let moved = match () {
            () if too_many => (old * factor) >> BITS,
            () if factor.is_zero() => UBig::from(u128::MAX),
            () => (old << BITS) / factor,
        };
        let moved = u128::try_from(moved).unwrap_or(u128::MAX);
        self.bound = moved.clamp(u128::from(smallest_bound) << PLACES, u128::from(largest_bound) << PLACES);
    }
}

impl ClipRound {
    /// C, lattice steps.
    pub fn bound(&self) -> u64 {
        self.bound
    }

    /// w, lattice steps.
    pub fn weight(&self) -> u64 {
        self.weight
    }

    /// Joint squared L2 sensitivity of vector and bit, lattice steps squared.
    pub fn delta2_squared(&self) -> u128 {
        self.delta2_squared
    }

    /// One person's part of the vector: clipped to the bound, with the bit as its last cell.
    ///
    /// Promise: given any integers, returns cells of squared L2 norm at most C² + w², so that the sum over persons has the
    /// sensitivity of this round; never noise. Proven: every coordinate is scaled by C/⌈norm⌉ and cut towards zero.
    pub fn contribution(&self, gradient: &[i64]) -> Vec<i64> {
        // Coordinates beyond ±2^40 are cut there first, so that 2^24 squares fit in 128 bits; the sum saturates anyway.
        let cut = |x: &i64| x.unsigned_abs().min(MAX_BOUND);
        let square = gradient.iter().fold(0u128, |sum, x| sum.saturating_add(u128::from(cut(x)).pow(2)));
        let bound = u128::from(self.bound);
        let fits = square <= bound * bound;
        let norm = square.isqrt();
        let norm = if norm * norm < square { norm + 1 } else { norm };
        let scaled = |x: &i64| {
            let size = u128::from(cut(x));
            let size = if fits { size } else { size * bound / norm.max(1) };
            // At most 2^40.
            let size = i64::try_from(size).unwrap_or(0);
            if *x < 0 { -size } else { size }
        };
        let weight = i64::try_from(self.weight).unwrap_or(0);
        gradient.iter().map(scaled).chain([if fits { weight } else { -weight }]).collect()
    }

    /// The smallest σ² for which vector and bit together cost at most ρ·α, lattice steps squared.
    ///
    /// # Errors
    /// [`MechanismError::Price`] if ρ is zero or σ² does not fit.
    pub fn sigma2(&self, rho: NanoNats) -> Result<u64, MechanismError> {
        Ok(sigma2_for_rho(self.delta2_squared, rho)?)
    }

    /// What vector and bit cost together, as one Gaussian vector of this variance in every cell. Sums of several nodes'
    /// noises are priced by [`crate::price::plan_price`] from [`ClipRound::delta2_squared`].
    ///
    /// # Errors
    /// [`MechanismError::Zero`] if σ² is zero.
    pub fn price(&self, sigma2: u64) -> Result<Price, MechanismError> {
        if sigma2 == 0 {
            return Err(MechanismError::Zero { field: "sigma2" });
        }
        Ok(price_of(concentrated_curve(&UBig::from(self.delta2_squared), &(UBig::from(sigma2) * 2u64))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config() -> ClipConfig {
        ClipConfig {
            first_bound: 1000,
            smallest_bound: 10,
            largest_bound: 1_000_000,
            quantile_ppm: 500_000,
            rate_ppm: 200_000,
            bit_share_ppm: 50_000,
            persons: 100,
            relation: Relation::AddOrRemoveOne,
        }
    }

    #[test]
    fn the_bound_moves_as_the_formula_says() {
        // w = 50, n = 100: the full sum is 5000.
        for (sum, exponent) in [(5000i64, -0.1f64), (-5000, 0.1), (0, 0.0), (2500, -0.05), (i64::MAX, -0.1)] {
            let mut clip = AdaptiveClip::new(config()).unwrap();
            clip.update(sum);
            let expected = (1000.0 * exponent.exp() + 1e-6).floor() as u64;
            assert_eq!(clip.round().bound, expected, "{sum}");
        }
    }

    /// Persons with norms 1..=200: the bound settles near their median.
    #[test]
    fn the_bound_finds_the_quantile() {
        let mut clip = AdaptiveClip::new(ClipConfig { persons: 200, ..config() }).unwrap();
        for _ in 0..200 {
            let round = clip.round();
            clip.update((1..=200).map(|norm| *round.contribution(&[norm]).last().unwrap()).sum());
        }
        let bound = clip.round().bound;
        assert!((95..=105).contains(&bound), "{bound}");
    }

    #[test]
    fn the_joint_price_is_the_one_of_the_paper() {
        let clip = AdaptiveClip::new(config()).unwrap();
        let round = clip.round();
        assert_eq!((round.bound, round.weight, round.delta2_squared), (1000, 50, 1_002_500));
        let sigma2 = 4_000_000u64;
        // z_Δ = σ/C and σ_b = σ/2w; z is what the joint release is worth.
        let (z_delta, sigma_b) = (2.0f64, 2000.0 / 100.0);
        let z = (z_delta.powi(-2) + (2.0f64 * sigma_b).powi(-2)).powf(-0.5);
        let at_two = round.price(sigma2).unwrap().curve.orders()[3].as_nats();
        assert!((at_two - 1.0 / (z * z)).abs() < 1e-8, "{at_two}");
        let replace = AdaptiveClip::new(ClipConfig { relation: Relation::ReplaceOne, ..config() }).unwrap();
        assert_eq!(replace.round().delta2_squared, 4 * 1_002_500);
        let rho = NanoNats::new(10_000_000);
        let sigma2 = round.sigma2(rho).unwrap();
        assert!(round.price(sigma2).unwrap().curve.orders()[3].get() <= 2 * rho.get());
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let zero = 0;
        let bad = [
            ClipConfig { first_bound: 5, ..config() },
            ClipConfig { smallest_bound: zero, ..config() },
            ClipConfig { largest_bound: MAX_BOUND + 1, ..config() },
            ClipConfig { persons: zero, ..config() },
            ClipConfig { quantile_ppm: 1_000_000, ..config() },
            ClipConfig { rate_ppm: 10_000_001, ..config() },
            ClipConfig { bit_share_ppm: 1_000_001, ..config() },
        ];
        for (i, config) in bad.into_iter().enumerate() {
            assert!(AdaptiveClip::new(config).is_err(), "case {i}");
        }
        assert!(AdaptiveClip::new(config()).unwrap().round().price(0).is_err());
    }

    proptest! {
        #[test]
        fn contributions_keep_the_promised_norm(gradient in prop::collection::vec(-(1i64 << 50)..1 << 50, 0..20), small in prop::collection::vec(-900i64..900, 0..6)) {
            let round = AdaptiveClip::new(config()).unwrap().round();
            for vector in [gradient, small] {
                let cells = round.contribution(&vector);
                prop_assert_eq!(cells.len(), vector.len() + 1);
                let square: u128 = cells.iter().map(|x| u128::from(x.unsigned_abs()).pow(2)).sum();
                prop_assert!(square <= round.delta2_squared);
                let fitted = vector.iter().map(|x| u128::from(x.unsigned_abs()).pow(2)).sum::<u128>() <= 1_000_000;
                prop_assert_eq!(cells.last() == Some(&50), fitted);
                prop_assert!(!fitted || cells[..vector.len()] == vector[..]);
            }
        }

        #[test]
        fn any_released_number_leaves_a_bound_within_limits(sums in prop::collection::vec(any::<i64>(), 0..12)) {
            let mut clip = AdaptiveClip::new(config()).unwrap();
            for sum in sums {
                clip.update(sum);
                prop_assert!((10..=1_000_000).contains(&clip.round().bound));
            }
        }
    }
}
