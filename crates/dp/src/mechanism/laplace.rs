//! Noise for a vector of bounded L1 sensitivity: a promise in ε alone, without any δ.
//!
//! The discrete Laplace or two-sided geometric mechanism (Ghosh, Roughgarden, Sundararajan 2009), drawn exactly with a
//! rational scale (Canonne, Kamath, Steinke 2020). Best for one or a few cells; from about nine cells per person
//! [`super::Gaussian`] needs less noise.
//!
//! Does not: bound contributions. Assumes that the caller's L1 sensitivity is right, over all cells together.

use dashu::integer::UBig;
use rand_core::CryptoRng;

use super::cost::{NANO, laplace_curve, nano_above, price_of};
use super::{MAX_EPSILON_NANO, MechanismError, add_to_each, check_range, laplace_scale};
use crate::price::{AttoDelta, NanoNats, Price};
use crate::raw::Raw;
use crate::sampler::{Scale, discrete_laplace};

/// The discrete Laplace mechanism: P(noise = x) ∝ exp(−|x|/t) in every cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Laplace {
    l1: u64,
    scale: Scale,
    price: Price,
}

impl Laplace {
    /// From the L1 sensitivity and the scale t, both in lattice steps.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`]; also where ε = Δ1/t is above [`MAX_EPSILON_NANO`].
    pub fn new(l1_sensitivity: u64, scale: Scale) -> Result<Self, MechanismError> {
        check_range("l1_sensitivity", l1_sensitivity, super::MAX_MAGNITUDE.unsigned_abs())?;
        let epsilon_num = UBig::from(l1_sensitivity) * scale.den();
        let curve = laplace_curve(&epsilon_num, &UBig::from(scale.num()), l1_sensitivity, 1);
        Self { l1: l1_sensitivity, scale, price: price_of(curve) }.checked()
    }

    /// For a person who moves at most `cells` cells by at most `step` each: the same ε as an L1 sensitivity of
    /// `cells`·`step`, at a lower price, because R_α is convex in the shift of one cell.
    ///
    /// # Errors
    /// As [`Laplace::new`].
    pub fn with_cells(cells: u64, step: u64, scale: Scale) -> Result<Self, MechanismError> {
        check_range("cells", cells, super::MAX_MAGNITUDE.unsigned_abs())?;
        check_range("step", step, super::MAX_MAGNITUDE.unsigned_abs() / cells)?;
        let curve = laplace_curve(&(UBig::from(step) * scale.den()), &UBig::from(scale.num()), step, cells);
        Self { l1: cells * step, scale, price: price_of(curve) }.checked()
    }

    /// Refuses noise that is next to none: it would hand out the raw values in all but name.
    fn checked(self) -> Result<Self, MechanismError> {
        check_range("epsilon, in units of 1e-9", self.epsilon().get(), MAX_EPSILON_NANO)?;
        Ok(self)
    }

    /// From the L1 sensitivity in lattice steps and the ε to spend: the scale is Δ1/ε exactly.
    ///
    /// # Errors
    /// As [`Laplace::new`], and [`MechanismError::Sampler`] if the scale does not fit.
    pub fn with_epsilon(l1_sensitivity: u64, epsilon: NanoNats) -> Result<Self, MechanismError> {
        Self::new(l1_sensitivity, laplace_scale(l1_sensitivity, epsilon.get())?)
    }

    /// Adds noise to every cell.
    ///
    /// Promise: given integers whose L1 distance between neighbours is at most Δ1, returns values that are
    /// (Δ1/t)-differentially private and cost [`Laplace::price`]; never the raw ones. Proven (Ghosh, Roughgarden,
    /// Sundararajan 2009; curve in the text of `mechanism::cost`), up to the 2^−300 of the sampler.
    #[must_use = "the release is paid for"]
    pub fn release(&self, raw: Raw<Vec<i64>>, rng: &mut dyn CryptoRng) -> Vec<i64> {
        add_to_each(raw.into_inner(), || discrete_laplace(rng, self.scale))
    }

    /// The exact Rényi curve, rounded up; no δ.
    pub fn price(&self) -> Price {
        self.price.clone()
    }

    /// ε = Δ1/t, rounded up.
    pub fn epsilon(&self) -> NanoNats {
        nano_above(UBig::from(self.l1) * self.scale.den() * NANO, UBig::from(self.scale.num()))
    }

    /// None.
    pub fn delta(&self) -> AttoDelta {
        AttoDelta::ZERO
    }

    /// The scale t in lattice steps. Public, for error bars.
    pub fn scale(&self) -> Scale {
        self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::MAX_JSON_INTEGER;
    use crate::testing::seeded;

    #[test]
    fn scales_and_promises_belong_together() {
        for (l1, nano, num, den) in [(1u64, NANO, 1u64, 1u64), (3, NANO / 2, 6, 1), (1, 3 * NANO, 1, 3)] {
            let laplace = Laplace::with_epsilon(l1, NanoNats::new(nano)).unwrap();
            assert_eq!((laplace.scale().num(), laplace.scale().den()), (num, den));
            assert_eq!((laplace.epsilon().get(), laplace.delta()), (nano, AttoDelta::ZERO));
            assert!(laplace.price().curve.orders().iter().all(|cost| cost.get() <= nano));
        }
        assert_eq!(Laplace::new(1, Scale::new(3).unwrap()).unwrap().epsilon().get(), 333_333_334);
    }

    /// The scale is 2^40/4, within its limit, though 2^40 times 1e9 is beyond 64 bits.
    #[test]
    fn repro_large_sensitivities_fit_with_a_plain_epsilon() {
        let laplace = Laplace::with_epsilon(1 << 40, NanoNats::new(4 * NANO)).unwrap();
        assert_eq!((laplace.scale().num(), laplace.scale().den(), laplace.epsilon().get()), (1 << 38, 1, 4 * NANO));
    }

    #[test]
    fn small_moves_of_many_cells_cost_less_than_one_large_move() {
        let scale = Scale::new(10).unwrap();
        let (spread, whole) = (Laplace::with_cells(10, 1, scale).unwrap(), Laplace::new(10, scale).unwrap());
        assert_eq!(spread.epsilon(), whole.epsilon());
        for (a, b) in spread.price().curve.orders().iter().zip(whole.price().curve.orders()) {
            assert!(a <= b);
        }
        // At order 2: ten times about 0.01, against about 0.4.
        let at_two = [&spread, &whole].map(|m| m.price().curve.orders()[3].as_nats());
        assert!(at_two[0] < 0.1 && at_two[1] > 0.3, "{at_two:?}");
        assert!(Laplace::with_cells(0, 1, scale).is_err() && Laplace::with_cells(1 << 60, 2, scale).is_err());
    }

    #[test]
    fn impossible_parameters_are_refused() {
        assert!(Laplace::new(0, Scale::new(1).unwrap()).is_err());
        for (l1, nano) in [(0, 1), (1, 0), (1 << 40, 1), (u64::MAX, NANO), (1, MAX_JSON_INTEGER)] {
            assert!(Laplace::with_epsilon(l1, NanoNats::new(nano)).is_err(), "{l1} {nano}");
        }
    }

    /// Noise of scale 2^−40 is zero in every draw: `release` was a way to read raw values.
    #[test]
    fn repro_noise_that_is_none_is_refused() {
        let limit = MechanismError::TooLarge { field: "epsilon, in units of 1e-9", limit: MAX_EPSILON_NANO };
        for (l1, num, den) in [(1, 1, 1 << 40), (1001, 1, 1), (1 << 60, 1 << 40, 1)] {
            assert_eq!(Laplace::new(l1, Scale::ratio(num, den).unwrap()), Err(limit.clone()), "{l1} {num}/{den}");
        }
        assert!(Laplace::new(1000, Scale::new(1).unwrap()).is_ok());
        assert_eq!(Laplace::with_cells(11, 100, Scale::new(1).unwrap()), Err(limit));
    }

    #[test]
    fn extremes_are_clamped() {
        let laplace = Laplace::with_epsilon(1, NanoNats::new(1)).unwrap();
        let released = laplace.release(Raw::new(vec![i64::MIN, i64::MAX]), &mut seeded(80));
        assert!(released[0] < -(1 << 59) && released[1] > 1 << 59, "seed 80: {released:?}");
    }
}
