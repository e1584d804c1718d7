//! Noise for a vector of bounded joint L2 sensitivity, in one place or as a sum of many nodes' shares.
//!
//! The discrete Gaussian mechanism (Canonne, Kamath, Steinke 2020, Theorem 4; independent cells add up). The central form is
//! [`Gaussian`]; [`DistributedGaussian`] only ties a [`NoisePlan`] to its sensitivity and price, so that a reader finds it
//! next to the others: the noise itself is in [`crate::noise`], the price of a sum in [`crate::price`].
//!
//! Does not: bound contributions. Assumes that the caller's squared L2 sensitivity is right, over all cells together.

use dashu::integer::UBig;
use rand_core::CryptoRng;

use super::cost::{concentrated_curve, price_of};
use super::{MechanismError, add_to_each, check_noise};
use crate::noise::{NoisePlan, NoiseSeeds, Noised, add_noise};
use crate::price::{NanoNats, Price, PriceError, plan_price, sigma2_for_rho};
use crate::raw::Raw;
use crate::sampler::{GaussianSampler, Variance};

/// The discrete Gaussian mechanism: P(noise = x) ∝ exp(−x²/2σ²) in every cell.
#[derive(Clone, Debug, PartialEq)]
pub struct Gaussian {
    variance: Variance,
    price: Price,
}

impl Gaussian {
    /// From the squared joint L2 sensitivity and the variance σ², both in lattice steps squared.
    ///
    /// # Errors
    /// [`MechanismError::Zero`]; [`MechanismError::TooLarge`] for noise that is next to none.
    pub fn new(delta2_squared: u128, variance: Variance) -> Result<Self, MechanismError> {
        if delta2_squared == 0 {
            return Err(MechanismError::Zero { field: "delta2_squared" });
        }
        // ρ = Δ²/(2·num/den).
        let curve =
            concentrated_curve(&(UBig::from(delta2_squared) * variance.den()), &(UBig::from(variance.num()) * 2u64));
        Ok(Self { variance, price: check_noise(price_of(curve))? })
    }

    /// With the smallest whole variance whose cost at order α is at most ρ·α.
    ///
    /// # Errors
    /// As [`Gaussian::new`], and [`MechanismError::Price`] or [`MechanismError::Sampler`] if the variance does not fit.
    pub fn with_rho(delta2_squared: u128, rho: NanoNats) -> Result<Self, MechanismError> {
        Self::new(delta2_squared, Variance::new(sigma2_for_rho(delta2_squared, rho)?)?)
    }

    /// Adds noise to every cell.
    ///
    /// Promise: given integers whose squared L2 distance between neighbours is at most Δ², returns values that are
    /// Δ²/2σ²-concentrated private and cost [`Gaussian::price`]; never the raw ones. Proven (Canonne, Kamath, Steinke
    /// 2020, Theorem 4 in each cell), up to the 2^−300 of the sampler. There is no ε without a δ.
    #[must_use = "the release is paid for"]
    pub fn release(&self, raw: Raw<Vec<i64>>, rng: &mut dyn CryptoRng) -> Vec<i64> {
        let sampler = GaussianSampler::new(self.variance);
        add_to_each(raw.into_inner(), || sampler.draw(rng))
    }

    /// α·Δ²/2σ² at every order, rounded up.
    pub fn price(&self) -> Price {
        self.price.clone()
    }

    /// The parameter σ² in lattice steps squared. Public, for error bars.
    pub fn variance(&self) -> Variance {
        self.variance
    }
}

/// One node's part of a sum that carries Gaussian noise before anyone sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct DistributedGaussian {
    plan: NoisePlan,
    cells: usize,
    price: Price,
}

impl DistributedGaussian {
    /// For vectors of `cells` cells with a joint squared L2 sensitivity, noised as the plan says.
    ///
    /// # Errors
    /// [`MechanismError::Price`] if an argument is zero or the lattice too coarse; [`MechanismError::Noise`] if there are
    /// more cells than are noised at once.
    pub fn new(delta2_squared: u128, cells: usize, plan: NoisePlan) -> Result<Self, MechanismError> {
        plan.check_work(cells)?;
        let dims = u64::try_from(cells).map_err(|_| PriceError::TooMuchNoise)?;
        let price = plan_price(delta2_squared, &plan, dims)?;
        Ok(Self { plan, cells, price })
    }

    /// Adds this node's share.
    ///
    /// Promise: as [`add_noise`]: only the *sum* over the honest survivors is private at
    /// [`DistributedGaussian::price`], not this vector: mask it. Proven for equal shares, argued for unequal
    /// ([`crate::price`]).
    ///
    /// # Errors
    /// [`MechanismError::Shape`] for another number of cells; [`MechanismError::Noise`] for another plan's seeds.
    pub fn add_share(&self, raw: Raw<Vec<i64>>, seeds: &NoiseSeeds) -> Result<Noised, MechanismError> {
        if raw.len() != self.cells {
            return Err(MechanismError::Shape { expected: self.cells, found: raw.len() });
        }
        Ok(add_noise(raw, &self.plan, seeds)?)
    }

    /// What the released total costs each of the nodes' persons.
    pub fn price(&self) -> Price {
        self.price.clone()
    }

    /// How the noise is divided.
    pub fn plan(&self) -> &NoisePlan {
        &self.plan
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::gaussian_price;
    use crate::testing::seeded;

    #[test]
    fn one_gaussian_costs_what_a_sum_of_one_costs() {
        for (delta2, sigma2) in [(1u128, 5u64), (1, 3), (7, 1 << 20), (1 << 50, 1 << 40)] {
            let price = Gaussian::new(delta2, Variance::new(sigma2).unwrap()).unwrap().price();
            assert_eq!(price, gaussian_price(delta2, sigma2, 1, sigma2, 1).unwrap(), "{delta2} {sigma2}");
        }
        // Half the variance of 3 is 3/2: α/(2·1.5) at α = 2.
        let price = Gaussian::new(1, Variance::ratio(3, 2).unwrap()).unwrap().price();
        assert_eq!(price.curve.orders()[3].get(), 666_666_667);
    }

    #[test]
    fn the_variance_for_a_price_is_enough_and_no_more() {
        let rho = NanoNats::new(12_345_678);
        let gaussian = Gaussian::with_rho(49, rho).unwrap();
        assert!(gaussian.price().curve.orders()[3].get() <= 2 * rho.get());
        let less = Variance::new(gaussian.variance().num() - 1).unwrap();
        assert!(Gaussian::new(49, less).unwrap().price().curve.orders()[3].get() > 2 * rho.get());
    }

    #[test]
    fn impossible_parameters_are_refused() {
        assert!(Gaussian::new(0, Variance::new(1).unwrap()).is_err());
        assert!(Gaussian::with_rho(1, NanoNats::ZERO).is_err());
        assert!(Gaussian::with_rho(u128::MAX, NanoNats::new(1)).is_err());
        assert!(Gaussian::with_rho(1 << 50, NanoNats::new(1)).is_err());
        // 5/4·Δ²/2σ² is a thousand nats at Δ²/σ² = 1600; with a variance of 2^−40 every draw is zero.
        for (delta2, num, den) in [(1601u128, 1, 1), (1, 1, 1 << 40), (u128::MAX, 1 << 40, 1)] {
            let found = Gaussian::new(delta2, Variance::ratio(num, den).unwrap());
            assert!(matches!(found, Err(MechanismError::TooLarge { .. })), "{delta2} {num}/{den}");
        }
        assert!(Gaussian::new(1600, Variance::new(1).unwrap()).is_ok());
    }

    #[test]
    fn shares_go_through_the_plan() {
        let plan = NoisePlan::new(1000, 4, 3, 1).unwrap();
        let node = DistributedGaussian::new(9, 2, plan.clone()).unwrap();
        assert_eq!(node.price(), plan_price(9, &plan, 2).unwrap());
        let seeds = NoiseSeeds::draw(&plan, &mut seeded(81));
        assert_eq!(node.add_share(Raw::new(vec![1, 2]), &seeds).unwrap().values().len(), 2);
        assert!(matches!(node.add_share(Raw::new(vec![1]), &seeds), Err(MechanismError::Shape { .. })));
        // Refused before anything is charged, not when the noise is to be drawn.
        let wide = NoisePlan::new(1 << 40, 256, 2, 1).unwrap();
        assert!(matches!(DistributedGaussian::new(9, (1 << 24) + 1, wide), Err(MechanismError::Noise(_))));
    }
}
