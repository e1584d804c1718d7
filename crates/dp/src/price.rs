//! The currency: what a release costs, as a Rényi curve on a fixed grid of orders, in exact integers.
//!
//! Rényi differential privacy (Mironov 2017) adds up along adaptive sequences order by order. A [`Price`] is the
//! divergence at each order of [`ORDERS`] plus a δ for releases that hide keys below a threshold. Prices are part
//! of the protocol: researcher, hub and every node compute them and must agree to the last digit, so no floating
//! point is used and every rounding is against ourselves. A new grid is a new [`GRID_VERSION`].
//!
//! The mechanism priced here is a *sum of discrete Gaussians*, which is not a discrete Gaussian. With noise of total
//! variance σ² in d cells and joint L2 sensitivity Δ, divergence at order α is at most
//!
//! ```text
//! α/2 · (Δ/σ + τ·√d)²,   τ = 10 · Σ_{k=1..n−1} exp(−2π²·σ_i²·k/(k+1))
//! ```
//!
//! (Kairouz, Liu, Steinke 2021, arXiv 2102.06387, third bound of the theorem on the sum of n discrete Gaussians of
//! scale σ_i ≥ 1/2; proven there.)
//!
//! **Unequal variances** (components differ). The theorem comes from one lemma on two summands: the sum of discrete
//! Gaussians of variances a, b ≥ 1/4 is within 5·exp(−2π²·ab/(a+b)), in maximum divergence either way, of the discrete
//! Gaussian of variance a + b. Adding variances v_1, v_2, … one after the other, S_k = v_1 + … + v_k, gives
//! τ = 10·Σ_k exp(−2π²·S_k·v_{k+1}/(S_k + v_{k+1})), and the rest of the proof only uses that number. With equal
//! variances it is the formula above. Since ab/(a+b) rises in both, the smallest variance for all is an upper bound.
//! Argued; checked by exact enumeration in the tests.
//!
//! Does not: compute sensitivity, or know about subsampling. Assumes that the caller's Δ² is right.

use core::fmt;

use dashu::base::SquareRoot;
use dashu::integer::UBig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::noise::NoisePlan;

/// Version of [`ORDERS`] and of the pricing rules; a party refuses prices of a version it does not know.
pub const GRID_VERSION: u32 = 1;
/// Number of orders.
pub const ORDER_COUNT: usize = 26;
/// The Rényi orders α as (numerator, denominator).
///
/// The best order for total cost ρ (at α = 1) and target δ is about 1 + √(ln(1/δ)/ρ). From ρ = 200 (useless) to
/// ρ = 1.5e-5 (one small count in a budget of ε = 0.03) at δ = 1e-6 that is 1.25 to 1000. Neighbours differ by a
/// factor of at most 1.5, so missing the best order costs at most about 2 % of ε. More orders would each cost a share
/// of δ in the account.
pub const ORDERS: [(u64, u64); ORDER_COUNT] = [
    (5, 4),
    (3, 2),
    (7, 4),
    (2, 1),
    (5, 2),
    (3, 1),
    (4, 1),
    (5, 1),
    (6, 1),
    (8, 1),
    (10, 1),
    (12, 1),
    (16, 1),
    (20, 1),
    (24, 1),
    (32, 1),
    (48, 1),
    (64, 1),
    (96, 1),
    (128, 1),
    (192, 1),
    (256, 1),
    (384, 1),
    (512, 1),
    (768, 1),
    (1024, 1),
];

/// Largest integer that every JSON reader keeps exactly (RFC 7493, section 2.2): the limit of both units below.
pub const MAX_JSON_INTEGER: u64 = (1 << 53) - 1;

/// 2π²/ln 2 = 28.477658…, rounded down: exp(−2π²h) ≤ 2^−(this·h).
const TWO_PI_SQUARED_IN_BITS: (u128, u128) = (284_776, 10_000);
/// Terms of τ smaller than this power of two are counted as this: 2^−96 ≈ 1.3e-29.
const TAU_BITS: u32 = 96;
/// Variances above this make terms of τ that are below 2^−96 anyway; the cap keeps products small.
const TAU_VARIANCE_CAP: u128 = 1 << 20;
/// Terms of τ computed one by one within a group of equal variances; the rest are bounded by the last of them.
const TAU_WALK: u64 = 64;
/// τ√d relative to Δ/σ is held in units of 1e-18, rounded up.
const RATIO_UNIT: u64 = 1_000_000_000_000_000_000;
/// Above 1 % the lattice is too coarse: choose a finer fixed-point scale instead of paying for the lattice.
const MAX_RATIO: u64 = RATIO_UNIT / 100;
const NANO: u64 = 1_000_000_000;

/// Price of one vector of cells to which the honest parties add `terms` discrete Gaussians of variance at least
/// `term_variance` each, which must be enough to make up `sigma2` together. For unequal shares see [`plan_price`].
///
/// Promise: given a vector whose joint squared L2 sensitivity is `delta2_squared` (lattice steps squared) in `dims`
/// cells, returns at every order an upper bound of the Rényi divergence between neighbouring data sets; never less.
/// Proven for equal variances (Kairouz, Liu, Steinke 2021), argued for unequal (module text).
///
/// # Errors
/// [`PriceError::Zero`] if an argument is zero; [`PriceError::Contradiction`] if `terms`·`term_variance` is below
/// `sigma2`, because then the noise may be less than it is priced for; [`PriceError::LatticeTooCoarse`] if τ√d exceeds
/// 1 % of Δ/σ.
pub fn gaussian_price(
    delta2_squared: u128,
    sigma2: u64,
    terms: u32,
    term_variance: u64,
    dims: u64,
) -> Result<Price, PriceError> {
    if terms == 0 || term_variance == 0 {
        return Err(PriceError::Zero { field: "terms or term_variance" });
    }
    let together = u128::from(terms) * u128::from(term_variance);
    if together < u128::from(sigma2) {
        return Err(PriceError::Contradiction { together, sigma2 });
    }
    let tau = tau_over_ten(&[(term_variance, u64::from(terms))]);
    checked_price(delta2_squared, sigma2, &tau, dims)
}

/// Price of one vector noised by a [`NoisePlan`], in the worst case over how many survive.
///
/// Promise: as [`gaussian_price`], against `plan.colluders()` participants who subtract their own noise and against
/// whoever chooses the survivors. Every survivor set gives the same guaranteed σ²; the worst τ is taken. Argued.
///
/// # Errors
/// [`PriceError::Zero`], [`PriceError::LatticeTooCoarse`].
pub fn plan_price(delta2_squared: u128, plan: &NoisePlan, dims: u64) -> Result<Price, PriceError> {
    checked_price(delta2_squared, plan.sigma2(), &plan_tau(plan), dims)
}

/// The smallest σ² with Δ²/(2σ²) ≤ ρ, lattice steps squared: how much noise a price per order of ρ asks for.
///
/// The price itself is dearer by what the lattice adds (at most 2 %), so a caller that must stay within ρ·α checks.
///
/// # Errors
/// [`PriceError::Zero`] if an argument is zero; [`PriceError::TooMuchNoise`] if σ² does not fit.
pub fn sigma2_for_rho(delta2_squared: u128, rho: NanoNats) -> Result<u64, PriceError> {
    if delta2_squared == 0 || rho.0 == 0 {
        return Err(PriceError::Zero { field: "delta2_squared or rho" });
    }
    let sigma2 = ceil_div(UBig::from(delta2_squared) * NANO, UBig::from(rho.0) * 2u64);
    u64::try_from(sigma2).map_err(|_| PriceError::TooMuchNoise)
}

/// ε at a given δ for an accumulated curve: the best order of the grid, rounded up by a hair.
///
/// ε = ε_α + ln((α−1)/α) − (ln δ + ln α)/(α−1) (Canonne, Kamath, Steinke 2020, Proposition 12; Balle et al. 2020,
/// Theorem 21). Proven for a curve fixed in advance. Returns infinity unless 0 < δ < 1, zero for a curve of zeros.
pub fn epsilon(curve: &Curve, delta: f64) -> f64 {
    if !(delta > 0.0 && delta < 1.0) {
        return f64::INFINITY;
    }
    if curve.orders().iter().all(|cost| cost.0 == 0) {
        return 0.0;
    }
    let at_order = |((num, den), cost): (&(u64, u64), &NanoNats)| {
        let alpha = *num as f64 / *den as f64;
        let cost = if cost.is_unbounded() { f64::INFINITY } else { cost.as_nats() };
        cost + ((alpha - 1.0) / alpha).ln() - (delta.ln() + alpha.ln()) / (alpha - 1.0)
    };
    let best = ORDERS.iter().zip(curve.orders()).map(at_order).fold(f64::INFINITY, f64::min);
    // 1e-12 is far above the rounding of a dozen f64 operations and far below what anyone reads.
    (best * (1.0 + 1e-12) + 1e-12).max(0.0)
}

/// An amount of Rényi divergence or of ε in units of 1e-9 nats, at most [`MAX_JSON_INTEGER`].
///
/// The largest value means "unbounded": sums stop there, and no budget reaches it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct NanoNats(u64);

impl NanoNats {
    /// Nothing.
    pub const ZERO: Self = Self(0);
    /// More than any budget.
    pub const UNBOUNDED: Self = Self(MAX_JSON_INTEGER);

    /// From units of 1e-9; larger values become [`NanoNats::UNBOUNDED`].
    pub const fn new(nano: u64) -> Self {
        Self(if nano > MAX_JSON_INTEGER { MAX_JSON_INTEGER } else { nano })
    }

    /// In units of 1e-9.
    pub fn get(self) -> u64 {
        self.0
    }

    /// Whether this is the value that no budget reaches.
    pub fn is_unbounded(self) -> bool {
        self == Self::UNBOUNDED
    }

    /// In nats, for reports.
    pub fn as_nats(self) -> f64 {
        self.0 as f64 / NANO as f64
    }
}

impl TryFrom<u64> for NanoNats {
    type Error = PriceError;
    fn try_from(nano: u64) -> Result<Self, PriceError> {
        if nano <= MAX_JSON_INTEGER { Ok(Self(nano)) } else { Err(PriceError::TooLarge { unit: "1e-9 nats" }) }
    }
}

impl fmt::Display for NanoNats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_unbounded() {
            return f.write_str("unbounded");
        }
        write!(f, "{}.{:09}", self.0 / NANO, self.0 % NANO)
    }
}

/// A probability δ in units of 1e-18, at most [`MAX_JSON_INTEGER`], that is 0.9 %: a larger δ promises nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64")]
pub struct AttoDelta(u64);

impl AttoDelta {
    /// Nothing.
    pub const ZERO: Self = Self(0);

    /// From units of 1e-18.
    ///
    /// # Errors
    /// [`PriceError::TooLarge`] above [`MAX_JSON_INTEGER`].
    pub fn new(atto: u64) -> Result<Self, PriceError> {
        if atto <= MAX_JSON_INTEGER { Ok(Self(atto)) } else { Err(PriceError::TooLarge { unit: "1e-18" }) }
    }

    /// In units of 1e-18.
    pub fn get(self) -> u64 {
        self.0
    }

    /// As a probability, for reports.
    pub fn as_probability(self) -> f64 {
        self.0 as f64 / RATIO_UNIT as f64
    }
}

impl TryFrom<u64> for AttoDelta {
    type Error = PriceError;
    fn try_from(atto: u64) -> Result<Self, PriceError> {
        Self::new(atto)
    }
}

/// Rényi divergence at each order of [`ORDERS`]; a JSON array of [`ORDER_COUNT`] integers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Curve([NanoNats; ORDER_COUNT]);

impl Curve {
    /// A curve from its values, in the order of [`ORDERS`].
    pub const fn new(values: [NanoNats; ORDER_COUNT]) -> Self {
        Self(values)
    }

    /// The values, in the order of [`ORDERS`].
    pub fn orders(&self) -> &[NanoNats; ORDER_COUNT] {
        &self.0
    }

    /// The curve of both together (Mironov 2017, Proposition 1), order by order; `None` if a sum leaves the range.
    pub fn checked_add(&self, other: &Self) -> Option<Self> {
        let mut sum = self.clone();
        for (total, cost) in sum.0.iter_mut().zip(&other.0) {
            *total = NanoNats::try_from(total.0.checked_add(cost.0)?).ok()?;
        }
        Some(sum)
    }
}

/// What one release costs. Fields stand in alphabetical order, so that compact JSON is canonical (RFC 8785).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// Rényi divergence per order.
    pub curve: Curve,
    /// δ of keys that are hidden below a threshold; zero where there are none.
    pub delta: AttoDelta,
    /// [`GRID_VERSION`] under which it was computed.
    pub version: u32,
}

/// Why something cannot be priced.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PriceError {
    /// An argument that must be positive is zero.
    #[error("caller: {field} must be positive")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// The terms do not add up to the variance that is to be priced.
    #[error("caller: terms of variance {together} together cannot make up a variance of {sigma2}")]
    Contradiction {
        /// Number of terms times the smallest variance of one.
        together: u128,
        /// The variance that was to be priced.
        sigma2: u64,
    },
    /// The noise per term is too narrow for the lattice.
    #[error(
        "caller: the lattice is too coarse: its own cost exceeds 1 % of the noise's; \
         choose a finer fixed-point scale (more lattice steps per unit)"
    )]
    LatticeTooCoarse,
    /// The noise asked for cannot be represented.
    #[error("caller: this price needs more noise than fits; pay more or use a coarser fixed-point scale")]
    TooMuchNoise,
    /// A number on the wire is out of range.
    #[error("peer: integer in units of {unit} is above 2^53 - 1")]
    TooLarge {
        /// Which unit.
        unit: &'static str,
    },
}

fn checked_price(delta2_squared: u128, sigma2: u64, tau_over_ten: &UBig, dims: u64) -> Result<Price, PriceError> {
    if delta2_squared == 0 || sigma2 == 0 || dims == 0 {
        return Err(PriceError::Zero { field: "delta2_squared, sigma2 or dims" });
    }
    let ratio = lattice_ratio(delta2_squared, sigma2, tau_over_ten, dims);
    if ratio > UBig::from(MAX_RATIO) {
        return Err(PriceError::LatticeTooCoarse);
    }
    Ok(price_with_ratio(delta2_squared, sigma2, &ratio))
}

/// α/2·Δ²/σ²·(1 + r)² at every order, each rounded up once; r in units of 1e-18.
fn price_with_ratio(delta2_squared: u128, sigma2: u64, ratio: &UBig) -> Price {
    let stretch = UBig::from(RATIO_UNIT) + ratio;
    let num = UBig::from(delta2_squared) * &stretch * &stretch * NANO;
    let den = UBig::from(sigma2) * 2u64 * RATIO_UNIT * RATIO_UNIT;
    let at_order = |(alpha_num, alpha_den): (u64, u64)| {
        let cost = ceil_div(&num * alpha_num, &den * alpha_den);
        u64::try_from(cost).map_or(NanoNats::UNBOUNDED, NanoNats::new)
    };
    Price { curve: Curve(ORDERS.map(at_order)), delta: AttoDelta::ZERO, version: GRID_VERSION }
}

/// r = τ√d·σ/Δ in units of 1e-18, rounded up.
fn lattice_ratio(delta2_squared: u128, sigma2: u64, tau_over_ten: &UBig, dims: u64) -> UBig {
    let tau = tau_over_ten * 10u64;
    let num = &tau * &tau * dims * sigma2 * RATIO_UNIT * RATIO_UNIT;
    let den = UBig::from(delta2_squared) << (2 * TAU_BITS as usize);
    let square = ceil_div(num, den);
    let root = square.sqrt();
    if &root * &root < square { root + 1u64 } else { root }
}

/// The largest τ/10 over the possible numbers of survivors.
fn plan_tau(plan: &NoisePlan) -> UBig {
    let tau_of = |survivors: u32| {
        let honest = u64::from(survivors - plan.colluders());
        let kept = plan.kept_by(survivors);
        let variances = kept.iter().filter_map(|component| plan.components().get(*component));
        let mut groups: Vec<(u64, u64)> = variances.filter(|v| **v > 0).map(|v| (*v, honest)).collect();
        // Wide ones first: what is narrow is then added to something wide, which keeps τ small.
        groups.sort_unstable_by(|a, b| b.cmp(a));
        tau_over_ten(&groups)
    };
    (plan.threshold()..=plan.participants()).map(tau_of).max().unwrap_or_default()
}

/// An upper bound of τ/10 in units of 2^−96, for groups of (variance ≥ 1, count) added in the order given.
fn tau_over_ten(groups: &[(u64, u64)]) -> UBig {
    let mut total = UBig::ZERO;
    let mut summed: u128 = 0;
    for (variance, count) in groups {
        let mut left = *count;
        if summed == 0 && left > 0 {
            summed = u128::from(*variance);
            left -= 1;
        }
        let walked = left.min(TAU_WALK);
        for _ in 0..walked {
            total += lattice_term(summed, *variance);
            // Saturates at a value far above the cap that lattice_term applies.
            summed = summed.saturating_add(u128::from(*variance));
        }
        // Later terms are smaller: the exponent rises with what is summed.
        total += lattice_term(summed, *variance) * (left - walked);
        summed = summed.saturating_add(u128::from(*variance) * u128::from(left - walked));
    }
    total
}

/// exp(−2π²·S·v/(S+v)) rounded up to a power of two, in units of 2^−96. At most a factor 2 too large.
fn lattice_term(summed: u128, variance: u64) -> UBig {
    let (s, v) = (summed.min(TAU_VARIANCE_CAP), u128::from(variance).min(TAU_VARIANCE_CAP));
    // Products stay below 2^19·2^40; s + v ≥ 1 because no variance is zero.
    let bits = TWO_PI_SQUARED_IN_BITS.0 * s * v / (TWO_PI_SQUARED_IN_BITS.1 * (s + v).max(1));
    let bits = u32::try_from(bits).map_or(TAU_BITS, |bits| bits.min(TAU_BITS));
    UBig::ONE << (TAU_BITS - bits) as usize
}

fn ceil_div(num: UBig, den: UBig) -> UBig {
    (num + &den - 1u64) / den
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{convolve, gaussian_pmf};

    #[test]
    fn single_discrete_gaussian_costs_alpha_over_two_sigma_squared() {
        let price = gaussian_price(1, 5, 1, 5, 1).unwrap();
        for ((num, den), cost) in ORDERS.iter().zip(price.curve.orders()) {
            assert_eq!(cost.get(), (num * 100_000_000).div_ceil(*den), "order {num}/{den}");
        }
    }

    #[test]
    fn prices_are_rounded_up() {
        // α/(2·3)·1e9 at α = 2: 333,333,333.3…
        assert_eq!(gaussian_price(1, 3, 1, 3, 1).unwrap().curve.orders()[3].get(), 333_333_334);
        // Two terms of variance 1,000,000: τ is 10·2^−96; r must still be at least one unit.
        let two = gaussian_price(1, 2_000_000, 2, 1_000_000, 1).unwrap();
        assert_eq!(two.curve.orders()[3].get(), 501);
    }

    #[test]
    fn coarse_lattices_and_zeros_are_refused() {
        assert_eq!(gaussian_price(1, 2, 2, 1, 1_000_000), Err(PriceError::LatticeTooCoarse));
        assert!(gaussian_price(1, 8, 2, 4, 1_000_000).is_ok());
        for (d2, s2, n, v, d) in [(0, 1, 1, 1, 1), (1, 0, 1, 1, 1), (1, 1, 0, 1, 1), (1, 1, 1, 0, 1), (1, 1, 1, 1, 0)] {
            assert!(matches!(gaussian_price(d2, s2, n, v, d), Err(PriceError::Zero { .. })));
        }
        let dear = gaussian_price(u128::MAX, 1, 1, 1, 1).unwrap();
        assert!(dear.curve.orders().iter().all(|cost| cost.is_unbounded()));
    }

    /// Ten terms of variance 1 were priced as if they had 1000: a hundred times too cheap.
    #[test]
    fn repro_terms_that_do_not_add_up_are_refused() {
        for (sigma2, terms, term_variance, fits) in
            [(1000, 10, 1, false), (1000, 10, 100, true), (1001, 10, 100, false), (u64::MAX, u32::MAX, u64::MAX, true)]
        {
            let found = gaussian_price(1, sigma2, terms, term_variance, 1);
            let refused = PriceError::Contradiction { together: u128::from(terms) * u128::from(term_variance), sigma2 };
            assert!(found.is_err() || fits, "{sigma2} {terms} {term_variance}");
            assert_eq!(found == Err(refused), !fits, "{sigma2} {terms} {term_variance}");
        }
    }

    /// τ against the formula in floating point: never below, at most twice.
    #[test]
    fn tau_bounds_the_formula() {
        for (n, v) in [(2u32, 1u64), (3, 1), (5, 2), (10, 1), (100, 1), (1000, 2)] {
            let exact: f64 = (1..n)
                .map(|k| (-2.0 * core::f64::consts::PI.powi(2) * v as f64 * k as f64 / (k + 1) as f64).exp())
                .sum();
            let bound = as_f64(&tau_over_ten(&[(v, u64::from(n))])) / 2f64.powi(TAU_BITS as i32);
            assert!((exact..=2.0 * exact).contains(&bound), "n {n} v {v}: {bound:e} for {exact:e}");
            // r = 10·τ'·√d·σ/Δ with Δ² = 9, d = 16, σ² = n·v.
            let ratio = as_f64(&lattice_ratio(9, u64::from(n) * v, &tau_over_ten(&[(v, u64::from(n))]), 16)) / 1e18;
            let exact_ratio = 10.0 * exact * 4.0 * (f64::from(n) * v as f64).sqrt() / 3.0;
            assert!((exact_ratio..=2.0 * exact_ratio).contains(&ratio), "n {n} v {v}: {ratio:e} for {exact_ratio:e}");
        }
        assert_eq!(tau_over_ten(&[(7, 1)]), UBig::ZERO);
    }

    /// Equal groups and unequal groups agree; the smallest variance for all bounds the unequal.
    #[test]
    fn smallest_variance_bounds_unequal_ones() {
        assert_eq!(tau_over_ten(&[(3, 2), (3, 3)]), tau_over_ten(&[(3, 5)]));
        assert!(tau_over_ten(&[(9, 2), (2, 3)]) <= tau_over_ten(&[(2, 5)]));
        let plan = NoisePlan::new(1000, 6, 4, 1).unwrap();
        let smallest = plan.components().iter().copied().min().unwrap();
        let of_smallest = checked_price(1, 1000, &tau_over_ten(&[(smallest, 15)]), 9).unwrap();
        assert_eq!(plan_price(1, &plan, 9).unwrap(), of_smallest);
    }

    #[test]
    fn sigma2_for_rho_is_the_smallest() {
        for (d2, rho) in [(1u128, 100_000_000u64), (1 << 40, 1_000), (7, 333), (1, 3_000_000_000)] {
            let s2 = sigma2_for_rho(d2, NanoNats::new(rho)).unwrap();
            let within = |s2: u64| d2 * 1_000_000_000 <= 2 * u128::from(rho) * u128::from(s2);
            assert!(within(s2) && (s2 == 1 || !within(s2 - 1)), "Δ² {d2} ρ {rho}: {s2}");
        }
        assert!(sigma2_for_rho(0, NanoNats::new(1)).is_err());
        assert!(sigma2_for_rho(1, NanoNats::ZERO).is_err());
        assert_eq!(sigma2_for_rho(u128::MAX, NanoNats::new(1)), Err(PriceError::TooMuchNoise));
    }

    /// ε from ρ by the optimal conversion over all real orders (published formula, minimised numerically). The grid
    /// may be up to 3 % above and never below.
    #[test]
    fn epsilon_agrees_with_optimal_conversion() {
        for (rho, delta, optimal) in [
            (0.001, 1e-6, 0.182_895_377),
            (0.05, 1e-6, 1.471_594_751),
            (0.1, 1e-6, 2.142),
            (0.5, 1e-5, 4.728_386_985),
            (2.63, 1e-10, 17.430_584_487),
        ] {
            let curve = Curve::new(ORDERS.map(|(n, d)| NanoNats::new((rho * 1e9 * n as f64 / d as f64) as u64 + 1)));
            let got = epsilon(&curve, delta);
            assert!((optimal - 5e-4..=optimal * 1.03).contains(&got), "ρ {rho} δ {delta}: {got} for {optimal}");
        }
        assert_eq!(epsilon(&Curve::default(), 1e-6), 0.0);
        for delta in [0.0, 1.0, -1.0, f64::NAN] {
            assert_eq!(epsilon(&gaussian_price(1, 5, 1, 5, 1).unwrap().curve, delta), f64::INFINITY);
        }
    }

    /// Exact enumeration: divergence between a sum of discrete Gaussians and itself shifted by one is within the
    /// price at every order, and ε(δ) within the exact one; a price for half the sensitivity is not.
    #[test]
    fn prices_bound_the_exact_divergence() {
        let sums: [&[u64]; 7] = [&[1], &[1, 1], &[1; 5], &[2, 2, 2], &[2, 2, 2, 1, 1, 1], &[4, 1], &[50, 3, 3]];
        for variances in sums {
            let log_p = variances.iter().map(|v| log_gaussian_pmf(*v)).reduce(|a, b| log_convolve(&a, &b)).unwrap();
            let groups: Vec<(u64, u64)> = variances.iter().map(|v| (*v, 1)).collect();
            let (sigma2, tau) = (variances.iter().sum(), tau_over_ten(&groups));
            let price = price_with_ratio(1, sigma2, &lattice_ratio(1, sigma2, &tau, 1));
            let too_cheap = price_with_ratio(1, 4 * sigma2, &UBig::ZERO);
            for (i, (num, den)) in ORDERS.iter().enumerate() {
                let exact = renyi_divergence_to_shifted(&log_p, *num as f64 / *den as f64);
                let asked = price.curve.orders()[i].as_nats();
                assert!(exact <= asked + 1e-9, "{variances:?} order {num}/{den}: {exact} above {asked}");
                assert!(exact > too_cheap.curve.orders()[i].as_nats(), "{variances:?}: an unscaled sensitivity passed");
            }
            let pmf = variances.iter().map(|v| gaussian_pmf(*v as f64)).reduce(|a, b| convolve(&a, &b)).unwrap();
            let eps = epsilon(&price.curve, 1e-6);
            assert!(hockey_stick_to_shifted(&pmf, eps) <= 1e-6, "{variances:?}");
        }
    }

    /// The same for what a plan leaves over its honest survivors.
    #[test]
    fn plan_price_bounds_the_exact_divergence_for_every_survivor_count() {
        let plan = NoisePlan::new(7, 6, 4, 1).unwrap();
        let price = price_with_ratio(1, 7, &lattice_ratio(1, 7, &plan_tau(&plan), 1));
        for survivors in 4u32..=6 {
            let kept = plan.kept(survivors).unwrap().into_iter().map(|component| &plan.components()[component]);
            let per_node =
                kept.filter(|v| **v > 0).map(|v| log_gaussian_pmf(*v)).reduce(|a, b| log_convolve(&a, &b)).unwrap();
            let honest = (0..survivors - 1).map(|_| per_node.clone()).reduce(|a, b| log_convolve(&a, &b)).unwrap();
            for ((num, den), cost) in ORDERS.iter().zip(price.curve.orders()) {
                let exact = renyi_divergence_to_shifted(&honest, *num as f64 / *den as f64);
                assert!(exact <= cost.as_nats() + 1e-9, "u {survivors} order {num}/{den}: {exact} above {cost}");
            }
        }
    }

    #[test]
    fn wire_form_is_strict() {
        let price = gaussian_price(1, 5, 1, 5, 1).unwrap();
        let text = serde_json::to_string(&price).unwrap();
        assert!(text.starts_with(r#"{"curve":[125000000,150000000,"#) && text.ends_with(r#"],"delta":0,"version":1}"#));
        assert_eq!(serde_json::from_str::<Price>(&text).unwrap(), price);
        let bad = [
            ("too few orders", text.replacen("125000000,", "", 1)),
            ("too many orders", text.replacen("125000000,", "125000000,1,", 1)),
            ("negative", text.replacen("125000000", "-1", 1)),
            ("fraction", text.replacen("125000000", "1.5", 1)),
            ("above 2^53 - 1", text.replacen("125000000", "9007199254740992", 1)),
            ("unknown field", text.replacen("\"delta\"", "\"extra\":1,\"delta\"", 1)),
            ("delta above 2^53 - 1", text.replacen("\"delta\":0", "\"delta\":9007199254740992", 1)),
        ];
        for (name, text) in bad {
            assert!(serde_json::from_str::<Price>(&text).is_err(), "{name}");
        }
        assert_eq!(NanoNats::new(1_250_000_001).to_string(), "1.250000001");
        assert_eq!(NanoNats::UNBOUNDED.to_string(), "unbounded");
    }

    #[test]
    fn curves_add_order_by_order() {
        let curve = gaussian_price(1, 5, 1, 5, 1).unwrap().curve;
        let twice = curve.checked_add(&curve).unwrap();
        assert_eq!(twice.orders()[3].get(), 400_000_000);
        let full = Curve::new([NanoNats::UNBOUNDED; ORDER_COUNT]);
        assert_eq!(full.checked_add(&curve), None);
    }

    /// Reach of the enumeration: order α looks at outcomes near −α, where the mass is exp(−α²/2σ²), hence logarithms.
    const REACH: i64 = 1100;

    fn log_gaussian_pmf(sigma2: u64) -> Vec<f64> {
        let weight = |x: i64| -((x * x) as f64) / (2.0 * sigma2 as f64);
        let norm = (-REACH..=REACH).map(|x| weight(x).exp()).sum::<f64>().ln();
        (-REACH..=REACH).map(|x| weight(x) - norm).collect()
    }

    fn log_convolve(a: &[f64], b: &[f64]) -> Vec<f64> {
        let r = REACH;
        let at = |x: i64| {
            let pairs = (-r).max(x - r)..=r.min(x + r);
            log_sum(pairs.map(|i| a[(i + r) as usize] + b[(x - i + r) as usize]))
        };
        (-r..=r).map(at).collect()
    }

    fn renyi_divergence_to_shifted(log_p: &[f64], alpha: f64) -> f64 {
        let terms = log_p.windows(2).map(|w| alpha * w[0] + (1.0 - alpha) * w[1]);
        let back = log_p.windows(2).map(|w| alpha * w[1] + (1.0 - alpha) * w[0]);
        log_sum(terms).max(log_sum(back)) / (alpha - 1.0)
    }

    fn hockey_stick_to_shifted(pmf: &[f64], eps: f64) -> f64 {
        let shifted = core::iter::once(&0.0).chain(pmf.iter());
        pmf.iter().chain(core::iter::once(&0.0)).zip(shifted).map(|(p, q)| (p - eps.exp() * q).max(0.0)).sum()
    }

    fn log_sum(terms: impl Iterator<Item = f64> + Clone) -> f64 {
        let top = terms.clone().fold(f64::NEG_INFINITY, f64::max);
        top + terms.map(|t| (t - top).exp()).sum::<f64>().ln()
    }

    fn as_f64(n: &UBig) -> f64 {
        n.to_string().parse().unwrap()
    }
}
