//! An answer that becomes more precise until it will do: what an easy question leaves over goes back to the account.
//!
//! The same values are released with fresh Gaussian noise of the same variance, draw after draw, and the mean of j draws has
//! variance σ²/j. Rényi costs add, so j draws cost what one release with σ²/j would have cost: for Gaussian noise nothing
//! is lost by going step by step. Whether to go on may depend on everything released so far, because a fully adaptive
//! filter charges each draw before it is made (Feldman and Zrnic 2021; Whitehouse, Ramdas, Rogers, Wu 2023; Rogers,
//! Samorodnitsky, Wu, Ramdas 2023, "Adaptive Privacy Composition for Accuracy-first Mechanisms"). It must not depend on
//! anything else, and [`Refinement`] gives nothing else away.
//!
//! A schedule reserves [`Refinement::max_draws`] rounds of [`Refinement::price_per_draw`], draws them down one by one and
//! gives back [`Refinement::draws_unused`].
//!
//! **Interleaving.** Each draw is a release of its own: it is charged by itself, and remembers nothing but the sealed values
//! and what was released. So draws may alternate with other releases under the same adaptive filter. To charge a whole
//! refinement as one mechanism, and leave draws open while others run, takes concurrent composition instead: for Rényi
//! divergence of a fixed order it holds as well (Lyu 2022; Haney et al. 2023; `sparse.rs` in the source says more).
//!
//! Does not: charge. Assumes that the account was charged before each [`Refinement::draw`].

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::gaussian::Gaussian;
use super::{MAX_MAGNITUDE, MechanismError, check_range};
use crate::price::Price;
use crate::raw::Raw;
use crate::sampler::Variance;

/// Most draws of one refinement: the mean is then 32 times as precise as one draw.
pub const MAX_DRAWS: u32 = 1 << 10;

/// Raw values, sealed, and the mean of what was released of them. No `Debug`, no `Clone`; the values are overwritten when
/// dropped.
pub struct Refinement {
    values: Zeroizing<Vec<i64>>,
    gaussian: Gaussian,
    max_draws: u32,
    estimate: Estimate,
}

/// What was released so far: everything here is public.
#[derive(Clone, Debug, PartialEq)]
pub struct Estimate {
    sums: Vec<i128>,
    draws: u32,
    variance: Variance,
}

impl Refinement {
    /// Takes in the raw values. Nothing is drawn and nothing is owed yet.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`] unless 1 ≤ `max_draws` ≤ [`MAX_DRAWS`].
    pub fn start(raw: Raw<Vec<i64>>, gaussian: Gaussian, max_draws: u32) -> Result<Self, MechanismError> {
        check_range("max_draws", u64::from(max_draws), u64::from(MAX_DRAWS))?;
        let mut values = Zeroizing::new(raw.into_inner());
        for value in values.iter_mut() {
            *value = (*value).clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE);
        }
        let estimate = Estimate { sums: vec![0; values.len()], draws: 0, variance: gaussian.variance() };
        Ok(Self { values, gaussian, max_draws, estimate })
    }

    /// Makes one more draw, or `None` when all are made.
    ///
    /// Promise: given that each draw was charged [`Refinement::price_per_draw`], everything returned so far is within the
    /// sum of those prices, also if the caller stops by looking at it; never the raw values. Proven (adaptive composition:
    /// Feldman and Zrnic 2021, Theorem 4.3; each draw by [`Gaussian::release`]).
    pub fn draw(&mut self, rng: &mut dyn CryptoRng) -> Option<&Estimate> {
        if self.estimate.draws >= self.max_draws {
            return None;
        }
        let released = self.gaussian.release(Raw::new(self.values.to_vec()), rng);
        self.estimate.absorb(&released);
        Some(&self.estimate)
    }

    /// What was released so far.
    pub fn estimate(&self) -> &Estimate {
        &self.estimate
    }

    /// What one draw costs. Charge it first.
    pub fn price_per_draw(&self) -> Price {
        self.gaussian.price()
    }

    /// Most draws.
    pub fn max_draws(&self) -> u32 {
        self.max_draws
    }

    /// Draws that were not made: their price may be given back once the refinement is over.
    pub fn draws_unused(&self) -> u32 {
        self.max_draws.saturating_sub(self.estimate.draws)
    }
}

impl Estimate {
    /// From numbers that were released, each the sum of as many draws, wherever they were drawn.
    pub fn from_released(sums: Vec<i128>, draws: u32, variance: Variance) -> Self {
        Self { sums, draws, variance }
    }

    /// Takes in one released vector.
    fn absorb(&mut self, released: &[i64]) {
        for (sum, value) in self.sums.iter_mut().zip(released) {
            // At most 2^10 values of 63 bits: far from the limit.
            *sum = sum.saturating_add(i128::from(*value));
        }
        self.draws += 1;
    }

    /// The sum of the draws in every cell; divided by [`Estimate::draws`] it is the answer.
    pub fn sums(&self) -> &[i128] {
        &self.sums
    }

    /// The mean of the draws in every cell; empty before the first.
    pub fn means(&self) -> Vec<f64> {
        let draws = f64::from(self.draws);
        if self.draws == 0 { Vec::new() } else { self.sums.iter().map(|sum| *sum as f64 / draws).collect() }
    }

    /// How many draws there are.
    pub fn draws(&self) -> u32 {
        self.draws
    }

    /// √(σ²/j), lattice steps; infinity before the first draw.
    pub fn standard_error(&self) -> f64 {
        (self.variance.num() as f64 / self.variance.den() as f64 / f64::from(self.draws)).sqrt()
    }

    /// Whether in every cell z standard errors are at most the given share of the mean: a stopping rule that looks only at
    /// what was released. A cell whose true value is zero never gets there.
    ///
    /// Promise: post-processing. The answer is not exact where it decides: stopping favours large estimates, by at most
    /// about the error that was asked for.
    pub fn is_within(&self, share: f64, z: f64) -> bool {
        let reach = z * self.standard_error();
        self.draws > 0 && self.means().iter().all(|mean| reach <= share * mean.abs())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::NanoNats;
    use crate::testing::seeded;

    #[test]
    fn easy_questions_stop_early() {
        // σ = 50 per draw; 3 σ/√j ≤ 10 % of the value: at 10,000 one draw will do, at 500 it takes 9 or so.
        for (seed, value, fewest, most) in [(111u8, 10_000i64, 1, 1), (112, 500, 4, 20), (113, 0, 64, 64)] {
            let gaussian = Gaussian::new(1, Variance::new(2500).unwrap()).unwrap();
            let mut refinement = Refinement::start(Raw::new(vec![value]), gaussian, 64).unwrap();
            let mut rng = seeded(seed);
            while refinement.draw(&mut rng).is_some_and(|estimate| !estimate.is_within(0.1, 3.0)) {}
            let draws = refinement.estimate().draws();
            assert!((fewest..=most).contains(&draws), "seed {seed}: {draws}");
            assert_eq!(draws + refinement.draws_unused(), 64);
        }
    }

    #[test]
    fn many_draws_are_precise_and_end() {
        let gaussian = Gaussian::new(1, Variance::new(10_000).unwrap()).unwrap();
        let mut refinement = Refinement::start(Raw::new(vec![77, i64::MAX]), gaussian, MAX_DRAWS).unwrap();
        let mut rng = seeded(114);
        while refinement.draw(&mut rng).is_some() {}
        let estimate = refinement.estimate();
        assert_eq!((estimate.draws(), estimate.standard_error()), (1024, 3.125));
        // Six standard errors: a false-alarm rate of 2e-9.
        assert!((estimate.means()[0] - 77.0).abs() < 6.0 * 3.125, "seed 114: {:?}", estimate.means());
    }

    /// A draw of variance σ² costs 1/j of one release of variance σ²/j, so j of them cost the same.
    #[test]
    fn going_step_by_step_costs_nothing_extra() {
        let (j, sigma2) = (8u64, 800u64);
        let one = Gaussian::new(1, Variance::new(sigma2).unwrap()).unwrap();
        let refinement = Refinement::start(Raw::new(vec![0]), one, 8).unwrap();
        let at_once = Gaussian::new(1, Variance::new(sigma2 / j).unwrap()).unwrap();
        for (step, whole) in refinement.price_per_draw().curve.orders().iter().zip(at_once.price().curve.orders()) {
            assert!(j * step.get() >= whole.get() && j * step.get() <= whole.get() + j);
        }
        assert!(at_once.price().curve.orders()[3] <= NanoNats::new(10_000_000));
    }

    #[test]
    fn impossible_parameters_are_refused() {
        for draws in [0, MAX_DRAWS + 1] {
            let gaussian = Gaussian::new(1, Variance::new(1).unwrap()).unwrap();
            assert!(Refinement::start(Raw::new(vec![0]), gaussian, draws).is_err());
        }
    }
}
