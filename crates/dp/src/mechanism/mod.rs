//! Mechanisms: noise, sensitivity, price and promise in one small type each.
//!
//! A sampler knows nothing about people and an account nothing about noise. A mechanism ties them: its constructor takes
//! the sensitivity and the parameters and checks them, `release` takes a sealed [`Raw`](crate::Raw) and lets out only
//! what may be seen, and `price` is what the account must be charged *before*. All numbers are integers or quotients of
//! integers; prices and thresholds come out alike on every machine and err against ourselves.
//!
//! | type | releases | promise |
//! |---|---|---|
//! | [`Laplace`] | a vector, from its L1 sensitivity | ε, pure; proven |
//! | [`Gaussian`] | a vector, from its joint L2 sensitivity | Rényi curve; proven |
//! | [`DistributedGaussian`] | one node's share of a sum that nobody sees before noise | Rényi curve; argued for unequal shares |
//! | [`KeySelection`] | which keys exist, with noisy counts or without | ε or Rényi curve, and δ; proven |
//! | [`PermuteAndFlip`], [`ExponentialMechanism`], [`NoisyMax`] | the index of a good candidate | ε, pure; proven |
//! | [`SparseVector`] | which of many queries exceed a threshold, paid per "above" | ε per round, pure; proven |
//! | [`AdaptiveClip`] | how many values were clipped, as one more cell of a vector | Rényi curve; proven |
//! | [`Refinement`] | the same answer ever more precisely, until it will do | Rényi curve per draw; proven |
//!
//! **Neighbours** differ by one person being there or not, unless a type says otherwise. Where one person may be
//! *replaced* the caller gives the sensitivity of that, which is up to twice as large.
//!
//! **Decisions** (is this above the threshold, which candidate wins) are functions of their own, apart from the draw. They
//! are public so that a test bench can enumerate every noise value against the code that runs; `tests/enumeration`
//! does, and shows that it notices wrong ones.
//!
//! Does not: bound what a person contributes, read rows, charge an account, or run in constant time.

mod choice;
mod clip;
mod cost;
mod draw;
mod fixed;
mod gaussian;
mod laplace;
mod refine;
mod selection;
mod sparse;

pub use choice::{ExponentialMechanism, MAX_CANDIDATES, NoisyMax, PermuteAndFlip, Scores};
pub use clip::{AdaptiveClip, ClipConfig, ClipRound};
pub use gaussian::{DistributedGaussian, Gaussian};
pub use laplace::Laplace;
pub use refine::{Estimate, Refinement};
pub use selection::{KeyBounds, KeySelection};
pub use sparse::{SparseAnswer, SparseVector, SparseVectorRun};

use thiserror::Error;

use crate::noise::NoiseError;
use crate::price::PriceError;

/// Values are clamped to this magnitude before noise, so that adding cannot overflow. A projection onto a fixed interval
/// makes no difference larger, so sensitivities stand.
pub const MAX_MAGNITUDE: i64 = crate::noise::MAX_RAW_MAGNITUDE;
/// Largest scale of discrete Laplace noise: its draws stay below 2^51.
pub const MAX_LAPLACE_SCALE: u64 = 1 << 40;
/// Largest numerator of a variance; the proof that the Gaussian draw cannot overflow is written for it.
pub const MAX_VARIANCE_NUM: u64 = 1 << 48;
/// Largest denominator of a variance.
pub const MAX_VARIANCE_DEN: u64 = 1 << 32;
/// Largest ε of one mechanism, in units of 1e-9: a thousand nats promise nothing.
pub const MAX_EPSILON_NANO: u64 = 1_000_000_000_000;

/// A positive quotient of integers, in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ratio {
    num: u64,
    den: u64,
}

impl Ratio {
    /// num/den.
    ///
    /// # Errors
    /// [`MechanismError::Zero`] if either is zero.
    pub fn new(num: u64, den: u64) -> Result<Self, MechanismError> {
        if num == 0 || den == 0 {
            return Err(MechanismError::Zero { field: "num or den" });
        }
        let common = gcd(num, den);
        Ok(Self { num: num / common, den: den / common })
    }

    /// The numerator.
    pub fn num(self) -> u64 {
        self.num
    }

    /// The denominator.
    pub fn den(self) -> u64 {
        self.den
    }

    /// For reports.
    pub fn as_f64(self) -> f64 {
        self.num as f64 / self.den as f64
    }

    /// An integer; zero is taken for one.
    pub(crate) fn whole(n: u64) -> Self {
        Self { num: n.max(1), den: 1 }
    }
}

/// Why a mechanism cannot be made or used as asked.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MechanismError {
    /// An argument that must be positive is zero.
    #[error("caller: {field} must be positive")]
    Zero {
        /// Which.
        field: &'static str,
    },
    /// An argument is above what the proofs are written for.
    #[error("caller: {field} is above its limit of {limit}")]
    TooLarge {
        /// Which.
        field: &'static str,
        /// The limit.
        limit: u64,
    },
    /// Two arguments do not fit each other.
    #[error("caller: {reason}")]
    Unfit {
        /// What does not fit.
        reason: &'static str,
    },
    /// The number of cells or candidates is not the one that the mechanism was made for.
    #[error("caller: made for {expected} cells, given {found}")]
    Shape {
        /// What it was made for.
        expected: usize,
        /// What was given.
        found: usize,
    },
    /// The noise cannot be priced.
    #[error(transparent)]
    Price(#[from] PriceError),
    /// The noise of a node cannot be made.
    #[error(transparent)]
    Noise(#[from] NoiseError),
}

/// Refuses zero and what is above a limit.
fn check_range(field: &'static str, value: u64, limit: u64) -> Result<(), MechanismError> {
    if value == 0 {
        return Err(MechanismError::Zero { field });
    }
    if value > limit { Err(MechanismError::TooLarge { field, limit }) } else { Ok(()) }
}

/// The scale sensitivity/ε of discrete Laplace noise, for an ε in units of 1e-9.
fn laplace_scale(sensitivity: u64, epsilon_nano: u64) -> Result<Ratio, MechanismError> {
    check_range("epsilon, in units of 1e-9", epsilon_nano, MAX_EPSILON_NANO)?;
    let num = sensitivity
        .checked_mul(cost::NANO)
        .ok_or(MechanismError::TooLarge { field: "sensitivity", limit: u64::MAX / cost::NANO })?;
    check_laplace_scale(Ratio::new(num, epsilon_nano)?)
}

fn check_laplace_scale(scale: Ratio) -> Result<Ratio, MechanismError> {
    if scale.num().div_ceil(scale.den()) > MAX_LAPLACE_SCALE {
        return Err(MechanismError::TooLarge { field: "scale", limit: MAX_LAPLACE_SCALE });
    }
    Ok(scale)
}

fn check_variance(variance: Ratio) -> Result<Ratio, MechanismError> {
    check_range("numerator of the variance", variance.num(), MAX_VARIANCE_NUM)?;
    check_range("denominator of the variance", variance.den(), MAX_VARIANCE_DEN)?;
    Ok(variance)
}

/// Clamps every value and adds one draw to each.
fn add_to_each(mut values: Vec<i64>, mut draw: impl FnMut() -> i64) -> Vec<i64> {
    for value in &mut values {
        // Cannot saturate: see MAX_MAGNITUDE and the limits of the draws.
        *value = (*value).clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE).saturating_add(draw());
    }
    values
}

fn gcd(a: u64, b: u64) -> u64 {
    let (mut a, mut b) = (a, b);
    // Euclid's algorithm ends after fewer than 100 steps on 64 bits, and never divides by zero.
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a.max(1)
}
