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
//! | [`Skellam`] | a vector, from its L1 and L2 sensitivity; any number of shares | Rényi curve; proven |
//! | [`KeySelection`] | which keys exist, with noisy counts or without | ε or Rényi curve, and δ; proven |
//! | [`PermuteAndFlip`], [`ExponentialMechanism`], [`NoisyMax`] | the index of a good candidate | ε, pure; proven |
//! | [`SparseVector`] | which of many queries exceed a threshold, paid per "above" | ε per round, pure; proven |
//! | [`AdaptiveClip`] | how many values were clipped, as one more cell of a vector | Rényi curve; proven |
//! | [`PrivateSelection`] | the best of a secret random number of runs of another mechanism | Rényi curve; proven |
//! | [`Refinement`] | the same answer ever more precisely, until it will do | Rényi curve per draw; proven |
//!
//! **Neighbours** differ by one person being there or not, unless a type says otherwise. Where one person may be
//! *replaced* the caller gives the sensitivity of that, which is up to twice as large.
//!
//! **Decisions** (is this above the threshold, which candidate wins) are functions of their own, apart from the draw. They
//! are public so that a test bench can enumerate every noise value against the code that runs; `tests/enumeration`
//! does, and shows that it notices wrong ones.
//!
//! ```
//! use chacha20::ChaCha20Rng;
//! use cohortium_dp::mechanism::{Laplace, MechanismError};
//! use cohortium_dp::{NanoNats, Raw};
//! use rand_core::SeedableRng;
//!
//! // One person changes one of four counts by one; ε = 1/2.
//! let mechanism = Laplace::with_epsilon(1, NanoNats::new(500_000_000))?;
//! let price = mechanism.price(); // for Account::reserve, before the rows are read
//! assert!(price.curve.orders().iter().all(|cost| *cost <= mechanism.epsilon()));
//!
//! let mut rng = ChaCha20Rng::from_seed([1; 32]); // a node hands in its operating system's
//! let released = mechanism.release(Raw::new(vec![120, 33, 0, 7]), &mut rng);
//! assert_eq!(released.len(), 4);
//! # Ok::<(), MechanismError>(())
//! ```
//!
//! Does not: bound what a person contributes, read rows, charge an account, or run in constant time.

mod best;
mod choice;
mod clip;
mod cost;
mod fixed;
mod gaussian;
mod laplace;
mod refine;
mod selection;
mod skellam;
mod sparse;

pub use best::{MAX_RUNS_DENOMINATOR, PrivateSelection};
pub use choice::{ExponentialMechanism, MAX_CANDIDATES, NoisyMax, PermuteAndFlip, Scores};
pub use clip::{AdaptiveClip, ClipConfig, ClipRound, MAX_BOUND};
pub use gaussian::{DistributedGaussian, Gaussian};
pub use laplace::Laplace;
pub use refine::{Estimate, MAX_DRAWS, Refinement};
pub use selection::{KeyBounds, KeySelection, MAX_KEYS_PER_PERSON, MAX_MIN_FREQUENCY, MAX_TABLE};
pub use skellam::Skellam;
pub use sparse::{MAX_ROUNDS, SparseAnswer, SparseVector, SparseVectorRun};

use thiserror::Error;

use crate::accounting::rdp::RdpError;
use crate::noise::NoiseError;
use crate::price::{Price, PriceError};
use crate::sampler::{SamplerError, Scale};

/// Values are clamped to this magnitude before noise, so that adding cannot overflow. A projection onto a fixed interval
/// makes no difference larger, so sensitivities stand.
pub const MAX_MAGNITUDE: i64 = 1 << 60;
/// Largest ε of one mechanism, in units of 1e-9: a thousand nats promise nothing.
pub const MAX_EPSILON_NANO: u64 = 1_000_000_000_000;

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
    /// The noise cannot be drawn.
    #[error(transparent)]
    Sampler(#[from] SamplerError),
    /// The noise of a node cannot be made.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// There is no curve.
    #[error(transparent)]
    Rdp(#[from] RdpError),
}

/// Refuses zero and what is above a limit.
fn check_range(field: &'static str, value: u64, limit: u64) -> Result<(), MechanismError> {
    if value == 0 {
        return Err(MechanismError::Zero { field });
    }
    if value > limit { Err(MechanismError::TooLarge { field, limit }) } else { Ok(()) }
}

/// Refuses noise that is next to none: at order 5/4, the lowest, a thousand nats promise nothing, and what is released
/// would be the raw values in all but name.
fn check_noise(price: Price) -> Result<Price, MechanismError> {
    let lowest = price.curve.orders().first().map_or(u64::MAX, |cost| cost.get());
    check_range("the price at order 5/4, in units of 1e-9 nats", lowest, MAX_EPSILON_NANO)?;
    Ok(price)
}

/// The scale sensitivity/ε of discrete Laplace noise, for an ε in units of 1e-9.
fn laplace_scale(sensitivity: u64, epsilon_nano: u64) -> Result<Scale, MechanismError> {
    check_range("epsilon, in units of 1e-9", epsilon_nano, MAX_EPSILON_NANO)?;
    // The unit of ε in lowest terms, so that a sensitivity of 2^40 fits with an ε that has few digits.
    let unit = Scale::ratio(cost::NANO, epsilon_nano)?;
    let num = sensitivity
        .checked_mul(unit.num())
        .ok_or(MechanismError::TooLarge { field: "sensitivity", limit: u64::MAX / cost::NANO })?;
    Ok(Scale::ratio(num, unit.den())?)
}

/// Clamps every value and adds one draw to each.
fn add_to_each(mut values: Vec<i64>, mut draw: impl FnMut() -> i64) -> Vec<i64> {
    for value in &mut values {
        // Cannot saturate: see MAX_MAGNITUDE and the limits of the draws.
        *value = (*value).clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE).saturating_add(draw());
    }
    values
}
