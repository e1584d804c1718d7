//! Rényi curves: what a mechanism costs at every real order, how costs add, and what they mean as (ε, δ).
//!
//! Rényi differential privacy (Mironov 2017) is the accounting that composes by adding numbers, adaptively, and that the
//! account enforces on a fixed grid of orders ([`crate::price`]). Here it is at all real orders in `f64`, for reports and
//! for planning, with the mechanisms for which a curve is proven: each constructor names its source. Privacy-loss
//! distributions ([`super::pld`]) are tighter for a composition that is fixed in advance; curves remain for what they
//! cannot do, such as trees, selection among many runs, and prices.
//!
//! **Noise multipliers** are standard deviation (Laplace: scale) over sensitivity, and sensitivity means the largest
//! change between neighbours *under the adjacency of the curve's type*. Replacing a person may move an answer twice as
//! far as removing one.
//!
//! **Rounding** is upwards: every cost is raised by a bound on its own rounding. Costs are computed with `libm` and
//! operations that IEEE 754 rounds exactly, so that two machines find the same bits: the functions that return a
//! [`Price`] may be charged to an account.
//!
//! Does not: bound sensitivities, draw noise or check that sampling was uniform. Assumes that the set of sampled persons
//! stays hidden. Subsampled curves exist for Poisson sampling under [`AddRemove`] and for sampling without replacement
//! under [`Replace`], where they are proven; other pairs do not compile.

use core::marker::PhantomData;

use libm::{ceil, exp, expm1, log, log1p};
use thiserror::Error;

use super::sampled;
use super::special::{ln_binomial, log_add, log_sub, minimise};
use super::{AddRemove, Adjacency, Replace};
use crate::price::{AttoDelta, Curve, GRID_VERSION, MAX_JSON_INTEGER, NanoNats, ORDERS, Price};

/// Different mechanisms in one curve; equal ones count once. An ε asks each of them some hundred times: 256 subsampled
/// ones take 0.2 s, measured, and nested selections ask again.
pub const MAX_PARTS: usize = 256;
/// How often one mechanism may be repeated in one step.
pub const MAX_STEPS: u64 = 1_000_000_000_000;
/// Largest order.
pub const MAX_ORDER: f64 = 1e9;

/// Selections among runs that are themselves selections.
const MAX_NESTING: u32 = 4;
/// Orders minus one that conversions look at, before refining around the best.
const LEAST_EXCESS: f64 = 1e-4;
const LARGEST_EXCESS: f64 = 1e8;
/// Eight per decade: neighbours differ by a third, and the golden section does the rest.
const GRID_POINTS: u32 = 97;
/// Above the rounding of the dozen operations of a closed form, relative.
const HAIR: f64 = 1e-13;
/// Integer orders up to this are summed for sampling without replacement.
const MAX_SUMMED_ORDER: f64 = 2048.0;

/// The Rényi divergence between neighbours as a function of the order, for a composition of mechanisms.
///
/// Curves of different adjacency do not mix:
///
/// ```compile_fail
/// use cohortium_dp::accounting::{AddRemove, Replace, rdp::RdpCurve};
/// let removed = RdpCurve::<AddRemove>::gaussian(1.0)?;
/// let replaced = RdpCurve::<Replace>::gaussian(1.0)?;
/// removed.compose(&replaced)?;
/// # Ok::<(), cohortium_dp::accounting::rdp::RdpError>(())
/// ```
///
/// ```
/// use cohortium_dp::accounting::{AddRemove, rdp::RdpCurve};
/// let training = RdpCurve::<AddRemove>::sampled_gaussian(0.01, 1.0)?.repeat(1000)?;
/// let all = training.compose(&RdpCurve::laplace(10.0)?)?;
/// assert!(all.epsilon(1e-5)? < 2.2);
/// # Ok::<(), cohortium_dp::accounting::rdp::RdpError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct RdpCurve<A: Adjacency> {
    parts: Vec<Part>,
    adjacency: PhantomData<A>,
}

impl<A: Adjacency> RdpCurve<A> {
    /// A mechanism that releases nothing.
    pub fn zero() -> Self {
        Self { parts: Vec::new(), adjacency: PhantomData }
    }

    /// The Gaussian mechanism; α/(2s²) for noise multiplier s. Proven (Mironov 2017, Corollary 3).
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless the noise multiplier is positive and finite.
    pub fn gaussian(noise_multiplier: f64) -> Result<Self, RdpError> {
        positive("noise_multiplier", noise_multiplier)?;
        Self::linear(0.5 / (noise_multiplier * noise_multiplier))
    }

    /// The discrete Gaussian of scale parameter σ on integers; `noise_multiplier` is σ over the integer sensitivity.
    ///
    /// Bounded by the continuous one of the same multiplier. Proven for one draw per cell and a joint L2 sensitivity
    /// (Canonne, Kamath, Steinke 2020, Theorem 4); not for the sum of several draws, see [`crate::price`].
    ///
    /// # Errors
    /// As [`RdpCurve::gaussian`].
    pub fn discrete_gaussian(noise_multiplier: f64) -> Result<Self, RdpError> {
        Self::gaussian(noise_multiplier)
    }

    /// A ρ-zero-concentrated mechanism: ρα by definition (Bun and Steinke 2016, Definition 1.1).
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless ρ is finite and not negative.
    pub fn zcdp(rho: f64) -> Result<Self, RdpError> {
        if rho == 0.0 {
            return Ok(Self::zero());
        }
        positive("rho", rho)?;
        Self::linear(rho)
    }

    /// The Laplace mechanism; `noise_multiplier` is its scale over the L1 sensitivity. Proven (Mironov 2017, Table II).
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless the noise multiplier is positive and finite.
    pub fn laplace(noise_multiplier: f64) -> Result<Self, RdpError> {
        positive("noise_multiplier", noise_multiplier)?;
        let epsilon = 1.0 / noise_multiplier;
        positive("noise_multiplier", epsilon)?;
        Ok(Self::one(Mechanism::Laplace { epsilon }))
    }

    /// The discrete Laplace (two-sided geometric) mechanism, P(x) ∝ exp(−parameter·|x|) on integers, in one cell of
    /// integer sensitivity. Exact sum of geometric series. Proven (elementary; the shift by the whole sensitivity is the
    /// worst because the divergence grows with the shift).
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless the parameter is positive and finite and the sensitivity positive.
    pub fn discrete_laplace(parameter: f64, sensitivity: u32) -> Result<Self, RdpError> {
        positive("parameter", parameter)?;
        if sensitivity == 0 {
            return Err(RdpError::Parameter { field: "sensitivity", allowed: "a positive integer" });
        }
        if sensitivity == 1 {
            // Then it is the randomized response of that ε, exactly.
            return Self::pure(parameter);
        }
        Ok(Self::one(Mechanism::DiscreteLaplace { parameter, sensitivity: f64::from(sensitivity) }))
    }

    /// Any ε-differentially private mechanism: at most the randomized response of that ε, and never more than ε or
    /// αε²/2. Proven (Bun and Steinke 2016, Proposition 3.3).
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless ε is finite and not negative.
    pub fn pure(epsilon: f64) -> Result<Self, RdpError> {
        if epsilon == 0.0 {
            return Ok(Self::zero());
        }
        positive("epsilon", epsilon)?;
        Ok(Self::one(Mechanism::TwoPoint { weight: 1.0 / (1.0 + exp(-epsilon)), ln_ratio: epsilon }))
    }

    /// What both curves cost together, also when the second mechanism is chosen after seeing the first answer.
    /// Proven (Mironov 2017, Proposition 1).
    ///
    /// # Errors
    /// [`RdpError::TooMany`] above [`MAX_PARTS`] different mechanisms or [`MAX_STEPS`] of one.
    pub fn compose(&self, other: &Self) -> Result<Self, RdpError> {
        let mut sum = self.clone();
        for part in &other.parts {
            sum.add(part.clone())?;
        }
        Ok(sum)
    }

    /// What `steps` repetitions cost.
    ///
    /// # Errors
    /// [`RdpError::TooMany`] above [`MAX_STEPS`] of one mechanism.
    pub fn repeat(&self, steps: u64) -> Result<Self, RdpError> {
        if steps == 0 {
            return Ok(Self::zero());
        }
        let mut repeated = Self::zero();
        for part in &self.parts {
            let times = part.times.checked_mul(steps).filter(|times| *times <= MAX_STEPS);
            let times = times.ok_or(RdpError::TooMany { what: "steps", limit: MAX_STEPS })?;
            repeated.parts.push(Part { mechanism: part.mechanism.clone(), times });
        }
        Ok(repeated)
    }

    /// The best of a random number of runs of this mechanism, of which only the best is released.
    ///
    /// Promise: given that every run satisfies this curve and that the number of runs is drawn as `runs` says, returns a
    /// curve of releasing the largest of their outputs in an order fixed beforehand, for example the least loss; never of
    /// another rule, which could tell how often something came up. Proven (Papernot and Steinke 2022, Theorem 2); the second
    /// order of the theorem is chosen here, and every choice is valid.
    ///
    /// # Errors
    /// [`RdpError::TooMany`] if selections are nested too deeply.
    pub fn select_best(&self, runs: &Runs) -> Result<Self, RdpError> {
        let nesting = self.parts.iter().map(|part| part.mechanism.nesting()).max().unwrap_or(0) + 1;
        if nesting > MAX_NESTING {
            return Err(RdpError::TooMany { what: "nested selections", limit: u64::from(MAX_NESTING) });
        }
        let second = |excess: f64| runs.second_term(1.0 + excess, self.cost(1.0 + excess));
        let (least, _) = minimise(second, LEAST_EXCESS, LARGEST_EXCESS, GRID_POINTS);
        let constant = round_up(least);
        Ok(Self::one(Mechanism::Selected { base: self.parts.clone(), constant, ln_mean: runs.ln_mean(), nesting }))
    }

    /// The divergence at one order, nats, rounded up.
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless 1 < order ≤ [`MAX_ORDER`].
    pub fn at(&self, order: f64) -> Result<f64, RdpError> {
        if !(order > 1.0 && order <= MAX_ORDER) {
            return Err(RdpError::Parameter { field: "order", allowed: "above 1, at most 1e9" });
        }
        Ok(self.cost(order))
    }

    /// The least ε at `delta` that the curve gives, rounded up.
    ///
    /// ε = R(α) + ln((α − 1)/α) − (ln δ + ln α)/(α − 1) (Canonne, Kamath, Steinke 2020, Proposition 12; Balle et al. 2020,
    /// Theorem 21), least over a grid of orders and then around the best. Promise: the composition is (ε, δ)-differentially
    /// private. Proven; every order is valid, so the search only decides how tight it is.
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless 0 < δ < 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64, RdpError> {
        self.epsilon_and_order(delta).map(|(epsilon, _)| epsilon)
    }

    /// As [`RdpCurve::epsilon`], with the order that was best.
    ///
    /// # Errors
    /// As [`RdpCurve::epsilon`].
    pub fn epsilon_and_order(&self, delta: f64) -> Result<(f64, f64), RdpError> {
        probability("delta", delta)?;
        if self.parts.is_empty() {
            return Ok((0.0, MAX_ORDER));
        }
        let ln_delta = log(delta);
        let at_excess = |excess: f64| {
            let order = 1.0 + excess;
            self.cost(order) + log(excess / order) - (ln_delta + log1p(excess)) / excess
        };
        let (least, excess) = minimise(at_excess, LEAST_EXCESS, LARGEST_EXCESS, GRID_POINTS);
        Ok((round_up(least.max(0.0)), 1.0 + excess))
    }

    /// The least δ at `epsilon` that the curve gives, rounded up: e^((α−1)(R(α)−ε))·(1 − 1/α)^α/(α − 1), least over the
    /// orders. Sources and promise as [`RdpCurve::epsilon`].
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless ε is finite and not negative.
    pub fn delta(&self, epsilon: f64) -> Result<f64, RdpError> {
        if !(epsilon >= 0.0 && epsilon.is_finite()) {
            return Err(RdpError::Parameter { field: "epsilon", allowed: "finite and not negative" });
        }
        if self.parts.is_empty() {
            return Ok(0.0);
        }
        let at_excess = |excess: f64| {
            let order = 1.0 + excess;
            excess * (self.cost(order) - epsilon) + order * log(excess / order) - log(excess)
        };
        let (least, excess) = minimise(at_excess, LEAST_EXCESS, LARGEST_EXCESS, GRID_POINTS);
        // The exponent is rounded in proportion to its parts.
        let parts = excess * (self.cost(1.0 + excess) + epsilon) + least.abs();
        let slack = 1e-12 + 8.0 * f64::EPSILON * parts;
        Ok(exp(least + slack).min(1.0) + f64::MIN_POSITIVE)
    }

    /// The curve on the account's grid of orders, rounded up, as something that can be charged.
    ///
    /// Promise: at every order of [`ORDERS`] at least this curve, in 1e-9 nats; the same number on every machine.
    pub fn price(&self) -> Price {
        grid_price(|order| self.cost(order))
    }

    fn linear(slope: f64) -> Result<Self, RdpError> {
        // A multiplier so small or large that its square leaves the range.
        positive("noise", slope)?;
        Ok(Self::one(Mechanism::Linear { slope }))
    }

    fn one(mechanism: Mechanism) -> Self {
        Self { parts: vec![Part { mechanism, times: 1 }], adjacency: PhantomData }
    }

    fn add(&mut self, part: Part) -> Result<(), RdpError> {
        if let Some(same) = self.parts.iter_mut().find(|known| known.mechanism == part.mechanism) {
            let times = same.times.checked_add(part.times).filter(|times| *times <= MAX_STEPS);
            same.times = times.ok_or(RdpError::TooMany { what: "steps", limit: MAX_STEPS })?;
            return Ok(());
        }
        if self.parts.len() >= MAX_PARTS {
            return Err(RdpError::TooMany { what: "different mechanisms", limit: MAX_PARTS as u64 });
        }
        self.parts.push(part);
        Ok(())
    }

    fn cost(&self, order: f64) -> f64 {
        sum_of(&self.parts, order)
    }
}

impl RdpCurve<AddRemove> {
    /// The Gaussian mechanism on a Poisson sample: every person takes part independently with probability `rate`.
    ///
    /// Real orders, exact but for rounding, by the integral of Mironov, Talwar, Zhang 2019 (Theorems 4 and 5). At orders
    /// where that takes too many steps, the curve without sampling, which is never less. Proven; the accuracy of the
    /// integral is argued. For continuous noise: sampled noise on a lattice is another mechanism.
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless 0 ≤ rate ≤ 1 and the noise multiplier is positive and finite.
    pub fn sampled_gaussian(rate: f64, noise_multiplier: f64) -> Result<Self, RdpError> {
        rate_in_unit("rate", rate)?;
        positive("noise_multiplier", noise_multiplier)?;
        if rate == 0.0 {
            return Ok(Self::zero());
        }
        let unsampled = Self::gaussian(noise_multiplier)?;
        if rate == 1.0 {
            return Ok(unsampled);
        }
        Ok(Self::one(Mechanism::SampledGaussian { rate, noise_multiplier }))
    }
}

impl RdpCurve<Replace> {
    /// The Gaussian mechanism on a uniformly random subset of fixed size, a share `rate` of a public number of persons.
    ///
    /// Proven (Wang, Balle, Kasiviswanathan 2019, Theorem 9, with ε(∞) = ∞) at integer orders; between them by convexity
    /// of (α − 1)·R(α) (there, Corollary 10). An upper bound, not tight. Above order 2048 the curve without sampling.
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless 0 ≤ rate ≤ 1 and the noise multiplier is positive and finite.
    pub fn gaussian_without_replacement(rate: f64, noise_multiplier: f64) -> Result<Self, RdpError> {
        rate_in_unit("rate", rate)?;
        positive("noise_multiplier", noise_multiplier)?;
        if rate == 0.0 {
            return Ok(Self::zero());
        }
        let unsampled = Self::gaussian(noise_multiplier)?;
        if rate == 1.0 {
            return Ok(unsampled);
        }
        Ok(Self::one(Mechanism::WithoutReplacement { rate, noise_multiplier }))
    }

    /// All prefix sums of a stream by trees with Gaussian noise in every node, each person in one leaf of one tree.
    ///
    /// A person is in as many nodes as the tallest tree has levels, ⌈log2(steps + 1)⌉. Proven (Kairouz, McMahan, Song,
    /// Thakkar, Thakurta, Xu 2021, "Practical and private (deep) learning without sampling or shuffling", appendix D).
    /// Removing a person would move all later ones by a leaf; replacing keeps their places, hence this adjacency. If a
    /// person may only be replaced by an empty one, the sensitivity of a node is the clipping bound, else twice that.
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless the noise multiplier is positive and finite and some tree has a step.
    pub fn gaussian_tree(noise_multiplier: f64, step_counts: &[u64]) -> Result<Self, RdpError> {
        let levels = u64::BITS - step_counts.iter().copied().max().unwrap_or(0).leading_zeros();
        if levels == 0 {
            return Err(RdpError::Parameter { field: "step_counts", allowed: "at least one that is positive" });
        }
        Self::gaussian(noise_multiplier)?.repeat(u64::from(levels))
    }

    /// Randomized response over `buckets` values: with probability `noise_parameter` a uniform value, else the true one.
    ///
    /// Exact, two distributions that differ in two values. Proven (Mironov 2017, Proposition 5, for two buckets).
    ///
    /// # Errors
    /// [`RdpError::Parameter`] unless 0 < noise parameter ≤ 1 and there is a bucket.
    pub fn randomized_response(noise_parameter: f64, buckets: u32) -> Result<Self, RdpError> {
        if !(noise_parameter > 0.0 && noise_parameter <= 1.0) {
            return Err(RdpError::Parameter { field: "noise_parameter", allowed: "above 0, at most 1" });
        }
        if buckets == 0 {
            return Err(RdpError::Parameter { field: "buckets", allowed: "a positive integer" });
        }
        if buckets == 1 || noise_parameter == 1.0 {
            return Ok(Self::zero());
        }
        let k = f64::from(buckets);
        let weight = 1.0 - noise_parameter + noise_parameter / k;
        let ratio_less_one = k * (1.0 - noise_parameter) / noise_parameter;
        positive("noise_parameter", ratio_less_one)?;
        Ok(Self::one(Mechanism::TwoPoint { weight, ln_ratio: log1p(ratio_less_one) }))
    }
}

/// How many runs a selection makes: truncated negative binomial, P(k) ∝ (1 − γ)^k·Π_{l<k}(l + η)/(l + 1) for k ≥ 1.
///
/// η = 1 is geometric, η = 0 logarithmic; smaller η and γ spread wider (Papernot and Steinke 2022, Definition 1).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Runs {
    shape: f64,
    gamma: f64,
}

impl Runs {
    /// # Errors
    /// [`RdpError::Parameter`] unless −1 < η ≤ 1e6 and 1e-12 ≤ γ ≤ 1.
    pub fn new(shape: f64, gamma: f64) -> Result<Self, RdpError> {
        if !(shape > -1.0 && shape <= 1e6) {
            return Err(RdpError::Parameter { field: "shape", allowed: "above -1, at most 1e6" });
        }
        if !(1e-12..=1.0).contains(&gamma) {
            return Err(RdpError::Parameter { field: "gamma", allowed: "1e-12 to 1" });
        }
        Ok(Self { shape, gamma })
    }

    /// The expected number of runs: η(1 − γ)/(γ(1 − γ^η)), or (1/γ − 1)/ln(1/γ) for η = 0.
    pub fn mean(&self) -> f64 {
        exp(self.ln_mean())
    }

    /// ln of the mean, in logarithms because γ^η overflows for η < 0 only in its inverse; rounded up.
    fn ln_mean(&self) -> f64 {
        let ln_inverse = -log(self.gamma);
        if ln_inverse == 0.0 {
            return 0.0;
        }
        let x = self.shape * ln_inverse;
        // x/(1 − e^(−x)), which is 1 at 0.
        let factor = if x.abs() < 1e-8 { 1.0 + 0.5 * x } else { x / -expm1(-x) };
        (log((1.0 - self.gamma) / ln_inverse * factor) + ln_inverse).max(0.0) * (1.0 + HAIR) + HAIR
    }

    /// (1 + η)·((1 − 1/λ)·cost + ln(1/γ)/λ): what the theorem adds for its second order λ.
    fn second_term(&self, order: f64, cost: f64) -> f64 {
        (1.0 + self.shape) * ((1.0 - 1.0 / order) * cost - log(self.gamma) / order)
    }
}

/// Price of `steps` releases of a Poisson-subsampled Gaussian, on the account's grid, rounded up.
///
/// `rate` is (numerator, denominator); `delta2_squared` and `sigma2` are in one unit squared.
///
/// Promise: given that every person takes part in each step independently with probability `rate`, that removing one
/// moves the sum by at most √`delta2_squared` in L2, and continuous Gaussian noise of variance at least `sigma2`, returns
/// at every order an upper bound of the Rényi divergence of all steps together; never less, never more than without
/// sampling but for rounding, and the same on every machine. Proven (Mironov, Talwar, Zhang 2019) but for the bound on the error of the
/// integral, which is argued (`sampled.rs` in the source) and multiplied: the cost is raised by that bound, by 1e-9
/// of itself and by 1e-12 nats before it is rounded up. Noise on a lattice costs more; this does not say how much.
///
/// # Errors
/// [`RdpError::Parameter`] for a rate above one or a zero where there must be none; [`RdpError::TooMany`] above
/// [`MAX_STEPS`].
pub fn subsampled_gaussian_price(
    rate: (u64, u64),
    delta2_squared: u128,
    sigma2: u64,
    steps: u64,
) -> Result<Price, RdpError> {
    let (numerator, denominator) = rate;
    if denominator == 0 || numerator > denominator {
        return Err(RdpError::Parameter { field: "rate", allowed: "a fraction from 0 to 1" });
    }
    if delta2_squared == 0 || sigma2 == 0 {
        return Err(RdpError::Parameter { field: "delta2_squared and sigma2", allowed: "positive" });
    }
    // Three roundings in each; a conversion, a division or a root is off by half a unit in the last place.
    let q = if numerator == denominator { 1.0 } else { raise(numerator as f64 / denominator as f64).min(1.0) };
    let multiplier = (sigma2 as f64 / delta2_squared as f64).sqrt() * (1.0 - 4.0 * f64::EPSILON);
    let q = if numerator == 0 { 0.0 } else { q };
    Ok(RdpCurve::<AddRemove>::sampled_gaussian(q, multiplier)?.repeat(steps)?.price())
}

/// Price of releasing the best of a random number of runs, each of which would cost `base`.
///
/// Promise: as [`RdpCurve::select_best`], with both orders of the theorem on the account's grid, rounded up, the same on
/// every machine: "report only the best one" has a price, and this is it. It is worth nothing for another number of runs:
/// [`crate::mechanism::PrivateSelection`] draws the number that it prices.
///
/// # Errors
/// [`RdpError::ApproximatePrice`] if `base` hides keys at a δ: the theorem is about pure Rényi curves;
/// [`RdpError::Parameter`] if it was computed on another grid.
pub fn selection_price(base: &Price, runs: &Runs) -> Result<Price, RdpError> {
    if base.delta != AttoDelta::ZERO {
        return Err(RdpError::ApproximatePrice);
    }
    if base.version != GRID_VERSION {
        return Err(RdpError::Parameter { field: "the version of the price", allowed: "the one of this grid" });
    }
    let at_grid: Vec<(f64, f64)> = ORDERS
        .iter()
        .zip(base.curve.orders())
        .map(|((num, den), cost)| {
            let cost = if cost.is_unbounded() { f64::INFINITY } else { cost.as_nats() };
            (*num as f64 / *den as f64, cost)
        })
        .collect();
    let constant = at_grid.iter().map(|(order, cost)| runs.second_term(*order, *cost)).fold(f64::INFINITY, f64::min);
    let ln_mean = runs.ln_mean();
    let selected = |(order, cost): &(f64, f64)| cost + constant + ln_mean / (order - 1.0);
    // The divergence rises with the order, so the bound of any larger order holds as well.
    Ok(grid_price(|order| {
        at_grid.iter().filter(|(larger, _)| *larger >= order).map(selected).fold(f64::INFINITY, f64::min)
    }))
}

/// The least noise multiplier with which `steps` Poisson-subsampled Gaussian releases stay within ε at δ.
///
/// Promise: returns a multiplier whose curve gives at most `epsilon_target` at `delta`; it was computed and compared. The
/// least one to 1e-9, if the curve falls with noise as it should. Proven, as [`RdpCurve::epsilon`].
///
/// # Errors
/// [`RdpError::Parameter`] for a target or a schedule without a meaning; [`RdpError::OutOfReach`] if even a multiplier of
/// 1e9 is too little.
pub fn noise_for_schedule(rate: f64, steps: u64, epsilon_target: f64, delta: f64) -> Result<f64, RdpError> {
    const LEAST: f64 = 0.01;
    const MOST: f64 = 1e9;
    positive("epsilon", epsilon_target)?;
    probability("delta", delta)?;
    let within = |multiplier: f64| -> Result<bool, RdpError> {
        let curve = RdpCurve::<AddRemove>::sampled_gaussian(rate, multiplier)?.repeat(steps)?;
        Ok(curve.epsilon(delta)? <= epsilon_target)
    };
    if within(LEAST)? {
        return Ok(LEAST);
    }
    let (mut short, mut enough) = (LEAST, 1.0);
    while !within(enough)? {
        short = enough;
        enough *= 4.0;
        if enough > MOST {
            return Err(RdpError::OutOfReach);
        }
    }
    // From a factor of 100 to 1e-9 in 33 halvings of the logarithm.
    for _ in 0..40 {
        if enough <= short * (1.0 + 1e-9) {
            break;
        }
        let middle = (short * enough).sqrt();
        if within(middle)? {
            enough = middle;
        } else {
            short = middle;
        }
    }
    Ok(enough)
}

/// Why there is no curve.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RdpError {
    /// An argument is outside its range.
    #[error("caller: {field} must be {allowed}")]
    Parameter {
        /// Which.
        field: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// More than a limit.
    #[error("caller: more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Selection is not proven for approximate curves.
    #[error("caller: a release with a δ of its own cannot be selected among runs")]
    ApproximatePrice,
    /// No noise is enough.
    #[error("caller: no noise multiplier up to 1e9 meets this target; take fewer steps or a larger epsilon")]
    OutOfReach,
}

#[derive(Clone, Debug, PartialEq)]
struct Part {
    mechanism: Mechanism,
    times: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Mechanism {
    /// slope·α.
    Linear {
        slope: f64,
    },
    Laplace {
        epsilon: f64,
    },
    DiscreteLaplace {
        parameter: f64,
        sensitivity: f64,
    },
    /// Two distributions that swap the probabilities `weight` and `weight`·e^−`ln_ratio` of two values.
    TwoPoint {
        weight: f64,
        ln_ratio: f64,
    },
    SampledGaussian {
        rate: f64,
        noise_multiplier: f64,
    },
    WithoutReplacement {
        rate: f64,
        noise_multiplier: f64,
    },
    /// base + constant + ln_mean/(α − 1).
    Selected {
        base: Vec<Part>,
        constant: f64,
        ln_mean: f64,
        nesting: u32,
    },
}

impl Mechanism {
    fn nesting(&self) -> u32 {
        if let Self::Selected { nesting, .. } = self { *nesting } else { 0 }
    }

    /// The divergence at one order, before the hair that [`sum_of`] adds.
    fn cost(&self, order: f64) -> f64 {
        match self {
            Self::Linear { slope } => slope * order,
            Self::Laplace { epsilon } => laplace_cost(*epsilon, order),
            Self::DiscreteLaplace { parameter, sensitivity } => discrete_laplace_cost(*parameter, *sensitivity, order),
            Self::TwoPoint { weight, ln_ratio } => two_point_cost(*weight, *ln_ratio, order),
            Self::SampledGaussian { rate, noise_multiplier } => sampled_cost(*rate, *noise_multiplier, order),
            Self::WithoutReplacement { rate, noise_multiplier } => {
                without_replacement_cost(*rate, *noise_multiplier, order)
            }
            Self::Selected { base, constant, ln_mean, .. } => sum_of(base, order) + constant + ln_mean / (order - 1.0),
        }
    }
}

/// Every summand is raised by [`HAIR`] of itself, and so is the sum for its own rounding.
fn sum_of(parts: &[Part], order: f64) -> f64 {
    let sum: f64 = parts.iter().map(|part| part.mechanism.cost(order) * (1.0 + HAIR) * part.times as f64).sum();
    // What is too small for an f64 is not nothing.
    let least = if parts.is_empty() { 0.0 } else { f64::MIN_POSITIVE };
    sum * (1.0 + f64::EPSILON * (parts.len() as f64 + 4.0)) + least
}

/// ε + ln(1 − (α−1)/(2α−1)·(1 − e^(−(2α−1)ε)))/(α−1): Table II with the dominant exponential taken out.
fn laplace_cost(epsilon: f64, order: f64) -> f64 {
    let above = order - 1.0;
    let twice = order + above;
    let exact = epsilon + log1p(above * expm1(-twice * epsilon) / twice) / above;
    never_above_pure(exact + 8.0 * f64::EPSILON * epsilon, epsilon, order)
}

/// With t = e^−a, s = e^(−(2α−1)a) and sensitivity d, the sum over the integers is e^((α−1)ad)·B/(1 + t), where
/// B = 1 + s^d + (1 − t)·(s + s² + … + s^(d−1)): left of both peaks, right of both, and between them.
fn discrete_laplace_cost(parameter: f64, sensitivity: f64, order: f64) -> f64 {
    let above = order - 1.0;
    let epsilon = parameter * sensitivity;
    let exponent = (order + above) * parameter;
    let one_less_t = -expm1(-parameter);
    let between = -expm1(-exponent * (sensitivity - 1.0)) / -expm1(-exponent) * exp(-exponent);
    // B/(1 + t) − 1, never positive but for rounding.
    let less_one = (exp(-exponent * sensitivity) - exp(-parameter) + one_less_t * between) / (1.0 + exp(-parameter));
    let exact = epsilon + log1p(less_one) / above;
    never_above_pure(exact + 16.0 * f64::EPSILON * (epsilon + 1.0 / above), epsilon, order)
}

/// What is ε-differentially private costs at most min(ε, αε²/2) (Bun and Steinke 2016, Proposition 3.3).
fn never_above_pure(cost: f64, epsilon: f64, order: f64) -> f64 {
    cost.min(epsilon).min(0.5 * order * epsilon * epsilon)
}

/// The moment minus one is w·(e^((α−1)L) − 1)·(1 − e^(−αL)), which factors because what one value loses the other gains.
fn two_point_cost(weight: f64, ln_ratio: f64, order: f64) -> f64 {
    let above = order - 1.0;
    let grown = above * ln_ratio;
    let lost = -expm1(-order * ln_ratio);
    let ln_moment = if grown < 30.0 {
        log1p(weight * expm1(grown) * lost)
    } else {
        log_add(0.0, log_sub(grown, 0.0) + log(weight * lost))
    };
    (ln_moment / above).min(ln_ratio)
}

fn sampled_cost(rate: f64, noise_multiplier: f64, order: f64) -> f64 {
    let unsampled = 0.5 * order / (noise_multiplier * noise_multiplier);
    let Some(moment) = sampled::ln_moment(rate, noise_multiplier, order) else {
        return unsampled;
    };
    ((moment.value + moment.error) / (order - 1.0)).min(unsampled)
}

fn without_replacement_cost(rate: f64, noise_multiplier: f64, order: f64) -> f64 {
    let half_precision = 0.5 / (noise_multiplier * noise_multiplier);
    let unsampled = order * half_precision;
    let top = ceil(order);
    if top > MAX_SUMMED_ORDER {
        return unsampled;
    }
    let below = top - 1.0;
    let share = order - below;
    let upper = without_replacement_moment(rate, half_precision, top);
    let lower = if below > 1.0 { without_replacement_moment(rate, half_precision, below) } else { 0.0 };
    let moment = (1.0 - share) * lower + share * upper;
    // A sum of up to 2048 terms whose logarithms are right to 1e-13 and their own size times 1e-15.
    let error = 1e-12 + 1e-14 * moment;
    (moment * (1.0 + error) / (order - 1.0)).min(unsampled)
}

/// ln of Theorem 9's bound at an integer order ≥ 2.
fn without_replacement_moment(rate: f64, half_precision: f64, order: f64) -> f64 {
    let second = 2.0 * half_precision;
    // min(4·(e^ε(2) − 1), 2·e^ε(2)).
    let least = if second < 1.0 { (4.0 * expm1(second)).min(2.0 * exp(second)) } else { 2.0 };
    let ln_second = if second < 1.0 { log(least) } else { log(least) + second };
    let mut ln_excess = ln_second + 2.0 * log(rate) + ln_binomial(order, 2.0);
    for j in 3..=order as u32 {
        let j = f64::from(j);
        let term = log(2.0) + (j - 1.0) * j * half_precision + j * log(rate) + ln_binomial(order, j);
        ln_excess = log_add(ln_excess, term);
    }
    if ln_excess < 0.0 { log1p(exp(ln_excess)) } else { log_add(0.0, ln_excess) }
}

/// Costs at the account's orders, in 1e-9 nats, raised by 1e-9 of themselves and 1e-12 nats, then rounded up.
fn grid_price<F: Fn(f64) -> f64>(cost: F) -> Price {
    let at_order = |(num, den): (u64, u64)| {
        let cost = cost(num as f64 / den as f64);
        if cost == 0.0 {
            return NanoNats::ZERO;
        }
        let nano = ceil((cost * (1.0 + 1e-9) + 1e-12) * 1e9);
        // Also where the comparison has no answer.
        if nano < MAX_JSON_INTEGER as f64 { NanoNats::new(nano as u64) } else { NanoNats::UNBOUNDED }
    };
    Price { curve: Curve::new(ORDERS.map(at_order)), delta: AttoDelta::ZERO, version: GRID_VERSION }
}

/// Far above the rounding of a conversion, far below what anyone reads.
fn round_up(x: f64) -> f64 {
    x * (1.0 + 1e-12) + 1e-12
}

fn raise(x: f64) -> f64 {
    x * (1.0 + 4.0 * f64::EPSILON)
}

fn positive(field: &'static str, x: f64) -> Result<(), RdpError> {
    if x > 0.0 && x.is_finite() { Ok(()) } else { Err(RdpError::Parameter { field, allowed: "positive and finite" }) }
}

fn probability(field: &'static str, x: f64) -> Result<(), RdpError> {
    if x > 0.0 && x < 1.0 {
        Ok(())
    } else {
        Err(RdpError::Parameter { field, allowed: "between 0 and 1, without them" })
    }
}

fn rate_in_unit(field: &'static str, x: f64) -> Result<(), RdpError> {
    if (0.0..=1.0).contains(&x) { Ok(()) } else { Err(RdpError::Parameter { field, allowed: "from 0 to 1" }) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::gaussian;

    fn close(found: f64, expected: f64, relative: f64) -> bool {
        (found - expected).abs() <= relative * expected.abs()
    }

    fn sampled(rate: f64, noise_multiplier: f64, steps: u64) -> RdpCurve<AddRemove> {
        RdpCurve::sampled_gaussian(rate, noise_multiplier).unwrap().repeat(steps).unwrap()
    }

    fn gaussians(noise_multiplier: f64, steps: u64) -> RdpCurve<AddRemove> {
        RdpCurve::gaussian(noise_multiplier).unwrap().repeat(steps).unwrap()
    }

    fn laplaces(noise_multiplier: f64, steps: u64) -> RdpCurve<AddRemove> {
        RdpCurve::laplace(noise_multiplier).unwrap().repeat(steps).unwrap()
    }

    /// ε by privacy-loss distribution (a tight value) and by Rényi curve on a coarser grid, computed with dp-accounting
    /// 0.6.0: ours must lie between.
    #[test]
    fn epsilon_lies_between_the_tight_value_and_a_coarser_grid() {
        let mixed = gaussians(2.0, 1).compose(&laplaces(4.0, 5)).unwrap().compose(&sampled(0.02, 1.2, 200)).unwrap();
        let cases = [
            ("G1", gaussians(1.0, 1), 1e-5, 4.377_178_100_024_93, 4.728_507_067_217_623),
            ("G3", gaussians(1.0, 100), 1e-6, 96.717_271_964_263_76, 100.721_478_611_044_12),
            ("G5", gaussians(10.0, 1000), 1e-6, 19.423_656_477_106_3, 20.551_991_629_803_823),
            // Exactly 1 + 2·ln(1 − 1e-6), which the distribution on a grid misses by 5e-11.
            ("L1", laplaces(1.0, 1), 1e-6, 0.999_997_999_998_999, 1.005_075_140_188_246_7),
            ("L3", laplaces(10.0, 100), 1e-6, 4.692_667_438_647_5, 4.984_173_965_049_364),
            ("L5", laplaces(5.0, 50), 1e-9, 8.077_938_291_480_526, 8.327_325_622_823_288),
            ("SG1", sampled(0.01, 1.0, 1000), 1e-5, 1.828_243_645_585_509_1, 2.101_366_525_420_273),
            (
                "SG3",
                sampled(0.004_266_666_666_666_667, 1.3, 3510),
                1e-5,
                0.863_806_996_107_004_7,
                0.953_757_286_648_858_5,
            ),
            ("SG5", sampled(0.2, 0.5, 3), 0.155_94, 0.999_925_084_864_410_7, 2.960_407_682_837_275_6),
            ("H1", mixed, 1e-6, 3.521_679_726_478_742_3, 3.747_690_461_858_909),
            ("narrow", sampled(0.001, 0.6, 5000), 1e-6, 2.748_422_885_749_705_3, 3.627_430_776_260_334),
            ("rare", sampled(1e-5, 2.0, 1_000_000), 1e-8, 0.090_897_740_100_799_17, 0.215_177_508_727_244_86),
            ("wide", sampled(0.3, 20.0, 400), 1e-5, 1.136_116_041_480_801_1, 1.240_350_766_040_658_3),
            ("nearly all", sampled(0.9, 3.0, 10), 1e-5, 4.206_883_579_748_617, 4.557_070_130_746_524),
            ("long", sampled(0.02, 50.0, 100_000), 1e-7, 0.576_491_175_667_883, 0.613_539_448_361_695_8),
        ];
        for (name, curve, delta, tight, coarse) in cases {
            let (found, order) = curve.epsilon_and_order(delta).unwrap();
            assert!(
                found >= tight && found <= coarse * (1.0 + 1e-3),
                "{name}: {tight} {found} {coarse}, order {order}"
            );
            let back = curve.delta(found).unwrap();
            assert!(close(back, delta, 1e-6), "{name}: δ {back:e} at that ε, not {delta:e}");
        }
    }

    /// Computed with dp-accounting 0.6.0 under its relation "replace by an empty record".
    #[test]
    fn trees_cost_their_height() {
        let tree = RdpCurve::gaussian_tree(5.0, &[400, 400, 400, 400]).unwrap();
        let found = tree.epsilon(1e-6).unwrap();
        assert!(found <= 2.954_502_711_922_123_7 * (1.0 + 1e-6) && found > 2.95, "{found}");
        for (steps, levels) in [(1u64, 1.0), (2, 2.0), (3, 2.0), (4, 3.0), (400, 9.0), (511, 9.0), (512, 10.0)] {
            let cost = RdpCurve::gaussian_tree(1.0, &[1, steps]).unwrap().at(2.0).unwrap();
            assert!(close(cost, levels, 1e-12), "{steps}: {cost}");
        }
        assert!(RdpCurve::gaussian_tree(5.0, &[]).is_err() && RdpCurve::gaussian_tree(5.0, &[0]).is_err());
    }

    /// Sampled Gaussian: computed with mpmath at 40 digits from the integral. Laplace and randomized response: computed
    /// with dp-accounting 0.6.0.
    #[test]
    fn single_orders_agree_with_others() {
        for (rate, noise_multiplier, order, expected) in [
            (1e-9, 1.0, 1.25, 1.073_926_140_610_233e-18),
            (1e-6, 0.5, 2.5, 6.703_109_400_829_02e-11),
            (0.001, 0.8, 1.5, 2.816_464_568_332_646_6e-6),
            (0.01, 1.0, 1.001, 8.389_802_499_267_92e-5),
            (0.01, 1.0, 5.5, 0.000_524_695_667_330_309_1),
            (0.01, 1.0, 40.25, 15.402_500_637_298_838),
            (0.004_266_666_666_666_667, 1.3, 12.7, 9.798_852_634_718_08e-5),
            (0.2, 0.5, 1.75, 0.713_797_182_642_539_4),
            (0.5, 2.0, 3.3, 0.123_561_432_419_802_87),
            (0.9, 10.0, 100.5, 0.437_561_689_052_755_9),
            (0.99, 0.3, 1.25, 6.897_968_169_770_974),
            (1e-4, 0.2, 2.2, 10.614_378_435_588_463),
            (1e-9, 0.05, 1.3, 170.199_181_373_232_2),
            // Where u leaves the range of `f64` before α − 1 times its logarithm is large.
            (0.5, 0.02, 1.01, 1_192.492_463_638_892_6),
            (0.001, 200.0, 3000.7, 3.751_202_836_215_052e-8),
            (1e-12, 5.0, 700.5, 1.429_397_366_129_698_7e-23),
            (1e-15, 0.25, 1.0001, 4.426_232_605_841_241e-24),
        ] {
            let found = sampled(rate, noise_multiplier, 1).at(order).unwrap();
            let above = found / expected - 1.0;
            assert!((0.0..1e-11).contains(&above), "{rate} {noise_multiplier} {order}: {found:e}, {above:e} above");
        }
        for (noise_multiplier, order, expected) in [
            (2.0, 1.5, 0.155_977_878_485_739_52),
            (1.0, 1.01, 0.371_159_228_689_057_15),
            (10.0, 50.0, 0.086_060_251_536_185_88),
            (0.05, 3.0, 19.744_587_188_117_006),
        ] {
            let found = laplaces(noise_multiplier, 1).at(order).unwrap();
            assert!(close(found, expected, 1e-12), "Laplace {noise_multiplier} {order}: {found}");
        }
        for (noise, buckets, order, expected) in [
            (0.3, 4, 2.5, 2.169_378_129_116_256),
            (0.9, 2, 1.2, 0.024_041_976_086_141_15),
            (0.01, 100, 30.0, 9.200_047_960_748_25),
        ] {
            let found = RdpCurve::randomized_response(noise, buckets).unwrap().at(order).unwrap();
            assert!(close(found, expected, 1e-12), "response {noise} {buckets} {order}: {found}");
        }
        // At order 2 Theorem 9 is what dp-accounting computes; above, it tightens the sum for Gaussian noise.
        for (rate, multiplier, order, theirs, allowed) in [
            (0.01, 1.0, 2.0, 0.000_543_508_638_109_433_1, 1e-9),
            (0.01, 1.0, 5.5, 0.001_659_642_706_991_639_7, 0.5),
            (0.1, 2.0, 2.0, 0.011_296_964_989_239_874, 1e-9),
            (0.1, 2.0, 64.0, 5.671_869_741_409_612, 0.01),
        ] {
            let found = RdpCurve::gaussian_without_replacement(rate, multiplier).unwrap().at(order).unwrap();
            let above = found / theirs - 1.0;
            assert!((-1e-12..allowed).contains(&above), "without replacement {rate} {order}: {above:e} above");
        }
    }

    /// By enumeration of all probabilities.
    #[test]
    fn the_discrete_laplace_curve_is_the_sum_over_the_integers() {
        for parameter in [0.01, 0.3, 1.0, 4.0] {
            for sensitivity in [1u32, 2, 3, 17] {
                for order in [1.01, 1.5, 2.0, 7.3, 40.0] {
                    let above = order - 1.0;
                    let shift = i64::from(sensitivity);
                    let reach = (60.0 / parameter) as i64 + 2 * shift;
                    let mass = (1.0 - exp(-parameter)) / (1.0 + exp(-parameter));
                    let sum: f64 = (-reach..=reach + shift)
                        .map(|x| {
                            let exponent = order * (x - shift).abs() as f64 - above * x.abs() as f64;
                            mass * exp(-parameter * exponent - parameter * f64::from(sensitivity) * above)
                        })
                        .sum();
                    let expected = (log(sum) + parameter * f64::from(sensitivity) * above) / above;
                    let found =
                        RdpCurve::<AddRemove>::discrete_laplace(parameter, sensitivity).unwrap().at(order).unwrap();
                    let gap = found - expected;
                    assert!(gap > -1e-12 && gap < 1e-10, "{parameter} {sensitivity} {order}: {found} {expected}");
                }
            }
        }
    }

    /// What is proven about every mechanism: rises with the order, and pure ones stay below ε and αε²/2.
    #[test]
    fn curves_rise_with_the_order_and_stay_below_their_bounds() {
        let curves = [
            sampled(0.01, 1.0, 1),
            sampled(0.3, 0.4, 7),
            laplaces(3.0, 1),
            RdpCurve::pure(0.7).unwrap(),
            RdpCurve::discrete_laplace(0.2, 5).unwrap(),
            gaussians(4.0, 1)
                .select_best(&Runs::new(1.0, 0.1).unwrap())
                .unwrap()
                .compose(&sampled(0.01, 1.0, 9))
                .unwrap(),
        ];
        for (index, curve) in curves.iter().enumerate().take(5) {
            let mut last = 0.0;
            for step in 0..400 {
                let order = 1.0 + 1e-4 * exp(0.05 * f64::from(step));
                let now = curve.at(order).unwrap();
                assert!(now >= last * (1.0 - 1e-9), "curve {index}, order {order}: {now} after {last}");
                last = now;
            }
        }
        for (index, curve) in curves.iter().enumerate() {
            let epsilons: Vec<f64> = [1e-12, 1e-9, 1e-6, 1e-3, 0.3].map(|delta| curve.epsilon(delta).unwrap()).to_vec();
            assert!(epsilons.windows(2).all(|pair| pair[0] >= pair[1]), "curve {index}: {epsilons:?}");
        }
        for epsilon in [1e-6, 0.01, 1.0, 30.0] {
            for order in [1.0001, 2.0, 30.0, 1e6] {
                let pure = RdpCurve::<AddRemove>::pure(epsilon).unwrap().at(order).unwrap();
                let laplace = laplaces(1.0 / epsilon, 1).at(order).unwrap();
                let bound = epsilon.min(0.5 * order * epsilon * epsilon) * (1.0 + 1e-12);
                assert!(laplace <= pure * (1.0 + 1e-9) && pure <= bound, "{epsilon} {order}: {laplace} {pure} {bound}");
            }
        }
    }

    #[test]
    fn composition_adds_and_repeats() {
        let sum = gaussians(2.0, 3).compose(&gaussians(2.0, 1)).unwrap();
        assert_eq!(sum, gaussians(2.0, 4));
        assert!(close(sum.at(7.0).unwrap(), 3.5, 1e-12));
        assert_eq!(gaussians(2.0, 3).repeat(0).unwrap(), RdpCurve::zero());
        assert_eq!(RdpCurve::<AddRemove>::zero().epsilon(1e-6).unwrap(), 0.0);
        assert_eq!(RdpCurve::<AddRemove>::zero().delta(0.0).unwrap(), 0.0);
        assert!(gaussians(2.0, MAX_STEPS).repeat(2).is_err() && gaussians(2.0, 1).repeat(MAX_STEPS + 1).is_err());
        let epsilon = gaussians(3.0, 1).epsilon(1e-6).unwrap();
        let zcdp = gaussian::zcdp_epsilon(1.0 / 18.0, 1e-6);
        assert!(close(epsilon, zcdp, 1e-9), "{epsilon} {zcdp}");
    }

    /// Computed with dp-accounting 0.6.0 (its grid of orders is coarser).
    #[test]
    fn selections_agree_with_others() {
        for (noise, shape, gamma, expected) in [
            (5.0, 1.0, 0.1, 1.813_568_988_372_425),
            (5.0, 0.0, 0.026_918_259_589_001_53, 1.513_252_361_173_529_6),
            (8.0, 0.5, 0.005_366_274_289_553_984, 1.255_706_288_966_783_8),
        ] {
            let runs = Runs::new(shape, gamma).unwrap();
            let found = gaussians(noise, 1).select_best(&runs).unwrap().epsilon(1e-6).unwrap();
            assert!(found <= expected * (1.0 + 1e-6) && found > expected * 0.99, "{noise} {shape}: {found} {expected}");
        }
    }

    #[test]
    fn the_mean_number_of_runs_is_the_sum_of_its_series() {
        for shape in [-0.5, 0.0, 1e-9, 0.5, 1.0, 3.0] {
            for gamma in [0.02, 0.3, 0.999_999, 1.0] {
                let (mut weight, mut total, mut weighted) = (1.0, 0.0, 0.0);
                for k in 1..4000 {
                    let k = f64::from(k);
                    total += weight;
                    weighted += k * weight;
                    weight *= (1.0 - gamma) * (k + shape) / (k + 1.0);
                }
                let found = Runs::new(shape, gamma).unwrap().mean();
                assert!(close(found, weighted / total, 1e-8), "{shape} {gamma}: {found} {}", weighted / total);
            }
        }
    }

    /// A whole selection by enumeration: runs are randomized responses, the largest bit is released. Its divergence is
    /// computed from the generating function of the number of runs and must not exceed the bound; a bound without the
    /// term of the second order would be exceeded.
    #[test]
    fn selections_cost_no_more_than_their_bound() {
        let mut exceeded = 0;
        for epsilon in [0.1, 1.0, 3.0] {
            for (shape, gamma) in [(1.0, 0.1), (0.5, 0.01), (-0.5, 0.2), (4.0, 0.02)] {
                let runs = Runs::new(shape, gamma).unwrap();
                let base = RdpCurve::<AddRemove>::pure(epsilon).unwrap();
                let bound = base.select_best(&runs).unwrap();
                let none = |p: f64| {
                    let at = |x: f64| libm::pow(1.0 - (1.0 - gamma) * x, -shape);
                    (at(1.0 - p) - 1.0) / (libm::pow(gamma, -shape) - 1.0)
                };
                let likely = 1.0 / (1.0 + exp(-epsilon));
                let (p, q) = (none(likely), none(1.0 - likely));
                for order in [1.1, 2.0, 5.0, 30.0] {
                    for (p, q) in [(p, q), (q, p)] {
                        let both = libm::pow(p / q, order) * q + libm::pow((1.0 - p) / (1.0 - q), order) * (1.0 - q);
                        let exact = log(both) / (order - 1.0);
                        assert!(exact <= bound.at(order).unwrap(), "{epsilon} {shape} {gamma} {order}: {exact}");
                        exceeded += usize::from(exact > base.at(order).unwrap());
                    }
                }
            }
        }
        assert!(exceeded > 5, "the unselected curve was exceeded {exceeded} times only: this test shows nothing");
    }

    #[test]
    fn prices_are_the_curve_rounded_up() {
        for (rate, delta2_squared, sigma2, steps) in [
            ((1u64, 100u64), 1u128, 1u64, 1000u64),
            ((64, 15_000), 100, 169, 3510),
            ((1, 3), 7, 1000, 12),
            ((1, 1), 4, 9, 2),
        ] {
            let price = subsampled_gaussian_price(rate, delta2_squared, sigma2, steps).unwrap();
            let multiplier = (sigma2 as f64 / delta2_squared as f64).sqrt();
            let curve = sampled(rate.0 as f64 / rate.1 as f64, multiplier, steps);
            for ((num, den), cost) in ORDERS.iter().zip(price.curve.orders()) {
                let exact = curve.at(*num as f64 / *den as f64).unwrap();
                let above = cost.as_nats() - exact;
                assert!(
                    above >= 0.0 && above <= 1.1e-9 + 2e-9 * exact,
                    "{rate:?} {num}/{den}: {above:e} above {exact}"
                );
            }
        }
        // Pinned: parties that compute a price must find the same digits.
        let pinned = subsampled_gaussian_price((1, 100), 1, 1, 1000).unwrap();
        let expected: [u64; ORDERS.len()] = [
            105_398_006,
            127_253_744,
            149_388_848,
            171_813_423,
            217_575_333,
            264_637_575,
            363_154_050,
            468_667_243,
            583_498_150,
            893_643_909,
            38_270_418_934,
            978_011_719_004,
            3_087_850_786_785,
            5_152_453_024_831,
            7_194_605_041_114,
            11_246_275_948_296,
            19_296_847_488_929,
            27_321_731_901_877,
            43_346_354_381_721,
            59_358_568_690_810,
            91_370_719_066_723,
            123_376_770_446_477,
            187_382_806_058_371,
            251_385_817_990_697,
            379_388_826_060_214,
            507_390_328_688_821,
        ];
        assert_eq!(pinned.curve.orders().map(NanoNats::get), expected);
        let nothing = subsampled_gaussian_price((0, 5), 1, 1, 100).unwrap();
        assert_eq!(nothing.curve, Curve::default());
        let huge = subsampled_gaussian_price((1, 2), u128::MAX, 1, MAX_STEPS).unwrap();
        assert!(huge.curve.orders().iter().all(|cost| cost.is_unbounded()));
        for (rate, delta2_squared, sigma2, steps) in
            [((1, 0), 1, 1, 1), ((2, 1), 1, 1, 1), ((1, 2), 0, 1, 1), ((1, 2), 1, 0, 1), ((1, 2), 1, 1, MAX_STEPS + 1)]
        {
            assert!(subsampled_gaussian_price(rate, delta2_squared, sigma2, steps).is_err(), "{rate:?}");
        }
    }

    #[test]
    fn selection_prices_cover_the_selected_curve() {
        let runs = Runs::new(1.0, 0.05).unwrap();
        let base = gaussians(6.0, 1);
        let price = selection_price(&base.price(), &runs).unwrap();
        let curve = base.select_best(&runs).unwrap();
        let mut last = 0.0;
        for ((num, den), cost) in ORDERS.iter().zip(price.curve.orders()) {
            let order = *num as f64 / *den as f64;
            // The grid has fewer second orders to choose from, but also the bound of larger orders.
            let best = (0..2000).map(|i| curve.at(order + 0.05 * f64::from(i)).unwrap()).fold(f64::INFINITY, f64::min);
            assert!(cost.as_nats() >= best && cost.as_nats() <= best * 1.1, "order {order}: {cost} {best}");
            assert!(cost.as_nats() >= last);
            last = cost.as_nats();
        }
        let mut approximate = base.price();
        approximate.delta = AttoDelta::new(1).unwrap();
        assert_eq!(selection_price(&approximate, &runs), Err(RdpError::ApproximatePrice));
        // Otherwise a price of an unknown grid would come out as one of ours, and be charged.
        let foreign = Price { version: GRID_VERSION + 1, ..base.price() };
        assert!(matches!(selection_price(&foreign, &runs), Err(RdpError::Parameter { .. })));
    }

    /// αε²/2 underflows here, and the price was zero.
    #[test]
    fn repro_tiny_costs_are_not_free() {
        for curve in [RdpCurve::<AddRemove>::pure(1e-200).unwrap(), laplaces(1e200, 1)] {
            assert!(curve.price().curve.orders().iter().all(|cost| cost.get() == 1), "{curve:?}");
        }
        assert_eq!(RdpCurve::<AddRemove>::zero().price().curve, Curve::default());
    }

    #[test]
    fn noise_for_a_schedule_meets_its_target() {
        for (rate, steps, target, delta) in [(0.01, 1000, 2.0, 1e-5), (1.0, 5, 0.5, 1e-6), (0.2, 3, 40.0, 1e-5)] {
            let noise = noise_for_schedule(rate, steps, target, delta).unwrap();
            assert!(sampled(rate, noise, steps).epsilon(delta).unwrap() <= target, "{rate} {steps}: {noise}");
            assert!(sampled(rate, noise * 0.999_9, steps).epsilon(delta).unwrap() > target, "{rate} {steps}: {noise}");
        }
        assert_eq!(noise_for_schedule(0.0, 1000, 2.0, 1e-5), Ok(0.01));
        assert_eq!(noise_for_schedule(1.0, MAX_STEPS, 1e-9, 1e-5), Err(RdpError::OutOfReach));
    }

    #[test]
    fn arguments_without_a_meaning_are_refused() {
        for bad in [f64::NAN, f64::INFINITY, -1.0, 0.0, 1e-200] {
            assert!(RdpCurve::<AddRemove>::gaussian(bad).is_err(), "{bad}");
            assert!(RdpCurve::<AddRemove>::sampled_gaussian(0.5, bad).is_err(), "{bad}");
            assert!(RdpCurve::gaussian_without_replacement(0.5, bad).is_err(), "{bad}");
            assert!(Runs::new(1.0, bad).is_err(), "{bad}");
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(RdpCurve::<AddRemove>::laplace(bad).is_err(), "{bad}");
            assert!(RdpCurve::<AddRemove>::discrete_laplace(bad, 2).is_err(), "{bad}");
            assert!(RdpCurve::<AddRemove>::pure(bad).is_err(), "{bad}");
            assert!(RdpCurve::<AddRemove>::zcdp(bad).is_err(), "{bad}");
            assert!(RdpCurve::<AddRemove>::sampled_gaussian(bad, 1.0).is_err(), "{bad}");
            assert!(RdpCurve::randomized_response(bad, 2).is_err(), "{bad}");
            assert!(Runs::new(bad, 0.5).is_err(), "{bad}");
            assert!(gaussians(1.0, 1).at(bad).is_err() && gaussians(1.0, 1).epsilon(bad).is_err(), "{bad}");
            assert!(gaussians(1.0, 1).delta(bad).is_err(), "{bad}");
            assert!(noise_for_schedule(bad, 1, 1.0, 1e-5).is_err() && noise_for_schedule(0.1, 1, bad, 1e-5).is_err());
        }
        let message = gaussians(1.0, 1).at(1.0).unwrap_err().to_string();
        assert_eq!(message, "caller: order must be above 1, at most 1e9");
    }

    #[test]
    fn limits_are_kept() {
        let mut nested = gaussians(3.0, 1);
        for _ in 0..MAX_NESTING {
            nested = nested.select_best(&Runs::new(1.0, 0.5).unwrap()).unwrap();
        }
        assert!(nested.select_best(&Runs::new(1.0, 0.5).unwrap()).is_err());
        let mut many = RdpCurve::<AddRemove>::zero();
        many.parts = (0..MAX_PARTS as u64)
            .map(|i| Part { mechanism: Mechanism::Linear { slope: 1.0 + i as f64 }, times: 1 })
            .collect();
        assert!(many.compose(&gaussians(1.0, 1)).is_err());
    }
}
