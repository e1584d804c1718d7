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
use super::special::{ln_binomial, log_add, minimise};
use super::{AddRemove, Adjacency, Replace};
use crate::price::{AttoDelta, Curve, GRID_VERSION, MAX_JSON_INTEGER, NanoNats, ORDERS, Price};

/// Different mechanisms in one curve; equal ones count once.
pub const MAX_PARTS: usize = 10_000;
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
    /// curve of choosing and releasing one of them by any rule that sees only their outputs. Proven (Papernot and Steinke
    /// 2022, Theorem 2); the second order of the theorem is chosen here, and every choice is valid.
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
        let (least, _) = minimise(at_excess, LEAST_EXCESS, LARGEST_EXCESS, GRID_POINTS);
        // The exponent is rounded in proportion to its parts, which at the best order are within a few times its size.
        let slack = 1e-12 * (1.0 + least.abs());
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
/// sampling, and the same on every machine. Proven (Mironov, Talwar, Zhang 2019) but for the bound on the error of the
/// integral, which is argued ([`super::sampled`] in the source) and multiplied: the cost is raised by that bound, by 1e-9
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
/// every machine: "report only the best one" has a price, and this is it.
///
/// # Errors
/// [`RdpError::ApproximatePrice`] if `base` hides keys at a δ: the theorem is about pure Rényi curves.
pub fn selection_price(base: &Price, runs: &Runs) -> Result<Price, RdpError> {
    if base.delta != AttoDelta::ZERO {
        return Err(RdpError::ApproximatePrice);
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
    sum * (1.0 + f64::EPSILON * (parts.len() as f64 + 4.0))
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
        log_add(0.0, grown + log1p(-exp(-grown)) + log(weight * lost))
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
