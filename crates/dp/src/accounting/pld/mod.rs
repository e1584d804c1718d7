//! Privacy-loss distributions: the tightest accounting there is for a composition that is fixed in advance.
//!
//! The privacy loss of an outcome is ln(P(o)/Q(o)); its distribution under P decides δ at every ε, and losses of
//! independent releases add up, so a composition is a convolution (Sommer, Meiser, Mohammadi 2019). The numbers here
//! are *upper bounds*: losses go onto a grid by Connect-the-Dots (Doroshenko et al. 2022, arXiv 2207.04380), what is
//! cut off counts as infinite loss, and a bound of the rounding error of the transforms is added (`compose.rs`).
//!
//! | file | one line |
//! |---|---|
//! | `pmf.rs` | one direction on the grid, and how masses come onto it |
//! | `mechanisms.rs` | the pairs of distributions of the mechanisms we know |
//! | `compose.rs` | ε and δ of a multiset of mechanisms by one tilted transform |
//!
//! Two data sets give two directions (a person leaves, a person joins); ε is the larger of both. The neighbouring
//! relation is a type, and distributions of different relations do not compose:
//!
//! ```compile_fail,E0308
//! use cohortium_dp::accounting::pld::{Composition, Grid, Pld};
//! use cohortium_dp::accounting::{AddRemove, Replace};
//! let grid = Grid::new(1e-4).unwrap();
//! let mut both = Composition::<AddRemove>::new(grid);
//! both.add(&Pld::<Replace>::sampled_gaussian(grid, 0.01, 1.0).unwrap(), 10).unwrap();
//! ```
//!
//! Does not: know adaptivity limits. The composition (which mechanisms, how often) must be fixed before the first
//! release, although each query may depend on earlier answers. Assumes continuous noise where a mechanism says so;
//! an implementation on integers has the `discrete_` distributions.

mod compose;
mod mechanisms;
mod pmf;

pub use compose::Composition;

use core::marker::PhantomData;
use std::sync::Arc;

use thiserror::Error;

use self::pmf::{Cells, Pmf};
use super::Adjacency;

/// Most cells of one distribution or of one window: 2^24 of 8 bytes are 128 MiB.
pub(crate) const MAX_CELLS: usize = 1 << 24;
/// Most compositions in total. Beyond, the bound of the rounding error says nothing any more.
pub const MAX_COMPOSITIONS: u64 = 1_000_000_000;
/// Smallest δ that is answered. Masses are accurate far below, but the square of e-folds in a window is not.
pub const MIN_DELTA: f64 = 1e-50;
/// Mass per mechanism that may be moved to infinite loss, unless [`Grid::with_tail`] says otherwise.
const DEFAULT_TAIL: f64 = 1e-24;

/// The grid h·Z of losses, and how much of a tail may be given up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    pub(crate) interval: f64,
    pub(crate) tail: f64,
}

impl Grid {
    /// A grid of this interval, nats. 1e-4 is the custom; finer is tighter and slower.
    ///
    /// # Errors
    /// [`PldError::Argument`] unless 1e-9 ≤ interval ≤ 1.
    pub fn new(interval: f64) -> Result<Self, PldError> {
        within("discretization", interval, 1e-9, 1.0)?;
        Ok(Self { interval, tail: DEFAULT_TAIL })
    }

    /// The same with another mass per mechanism that may count as infinite loss; at least 1e-200, at most 1e-6.
    #[must_use]
    pub fn with_tail(self, tail: f64) -> Self {
        Self { interval: self.interval, tail: if tail.is_nan() { DEFAULT_TAIL } else { tail.clamp(1e-200, 1e-6) } }
    }

    /// The interval, nats.
    pub fn interval(self) -> f64 {
        self.interval
    }
}

/// The privacy-loss distribution of one release, as an upper bound, in both directions.
#[derive(Clone, Debug)]
pub struct Pld<A: Adjacency> {
    grid: Grid,
    forward: Arc<Pmf>,
    /// `None` where both directions are the same.
    reverse: Option<Arc<Pmf>>,
    relation: PhantomData<A>,
}

impl<A: Adjacency> Pld<A> {
    fn symmetric(grid: Grid, cells: &Cells) -> Self {
        Self { grid, forward: Arc::new(cells.forward()), reverse: None, relation: PhantomData }
    }

    fn two_sided(grid: Grid, cells: &Cells) -> Self {
        let reverse = Some(Arc::new(cells.reverse()));
        Self { grid, forward: Arc::new(cells.forward()), reverse, relation: PhantomData }
    }

    /// The interval of the grid, nats.
    pub fn interval(&self) -> f64 {
        self.grid.interval
    }

    /// δ at an ε ≥ 0.
    ///
    /// Promise: given the mechanism this was made of, returns a δ for which it is (ε, δ)-private; never a smaller
    /// one than the truth by more than a relative 1e-12. Proven (Doroshenko et al. 2022) up to rounding.
    ///
    /// # Errors
    /// [`PldError::Argument`] unless ε is finite and not negative.
    pub fn delta(&self, epsilon: f64) -> Result<f64, PldError> {
        within("epsilon", epsilon, 0.0, f64::MAX)?;
        let at = |pmf: &Arc<Pmf>| pmf.delta(self.grid.interval, epsilon);
        Ok(self.reverse.as_ref().map_or(0.0, at).max(at(&self.forward)))
    }

    /// The smallest ε at a δ; infinite if more mass than δ has infinite loss.
    ///
    /// Promise: as [`Pld::delta`].
    ///
    /// # Errors
    /// [`PldError::Argument`] unless [`MIN_DELTA`] ≤ δ < 1.
    pub fn epsilon(&self, delta: f64) -> Result<f64, PldError> {
        within("delta", delta, MIN_DELTA, 1.0 - f64::EPSILON)?;
        let at = |pmf: &Arc<Pmf>| pmf.epsilon(self.grid.interval, delta);
        Ok(self.reverse.as_ref().map_or(0.0, at).max(at(&self.forward)))
    }
}

/// A number as people write it: not fifty zeros.
fn short(value: f64) -> String {
    let is_plain = value == 0.0 || (1e-4..1e7).contains(&value.abs());
    if is_plain { value.to_string() } else { format!("{value:e}") }
}

/// Why a distribution or a composition cannot be had.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum PldError {
    /// An argument is out of range or not a number.
    #[error("caller: {field} = {} must be from {} to {}", short(*value), short(*low), short(*high))]
    Argument {
        /// Which.
        field: &'static str,
        /// What was given.
        value: f64,
        /// Smallest allowed.
        low: f64,
        /// Largest allowed.
        high: f64,
    },
    /// Masses are negative, not numbers, or sum to something else than one; or lengths differ.
    #[error("caller: {field} must be probabilities that sum to 1, at most {most} of them, and fit each other")]
    Probabilities {
        /// Which.
        field: &'static str,
        /// Longest allowed.
        most: usize,
    },
    /// Losses spread over more cells than fit.
    #[error("caller: losses spread over {nats:.3e} nats, too many cells of {interval}; use a coarser discretisation")]
    TooWide {
        /// The spread.
        nats: f64,
        /// The interval of the grid.
        interval: f64,
    },
    /// Parts of a composition are on different grids.
    #[error("caller: all parts of a composition must have the same discretisation ({expected}, not {found})")]
    Grids {
        /// The grid of the composition.
        expected: f64,
        /// The grid of the part.
        found: f64,
    },
    /// More compositions than are answered.
    #[error("caller: more than {MAX_COMPOSITIONS} compositions, or none")]
    Compositions,
    /// Rounding or cut-off mass would decide the answer.
    #[error("caller: delta = {delta:e} is below what this composition resolves ({floor:e}); use a larger delta")]
    Unresolved {
        /// The δ asked for.
        delta: f64,
        /// The mass that is cut off or may be rounding.
        floor: f64,
    },
}

/// Checks a closed range; NaN is outside of every range.
pub(crate) fn within(field: &'static str, value: f64, low: f64, high: f64) -> Result<(), PldError> {
    if value >= low && value <= high { Ok(()) } else { Err(PldError::Argument { field, value, low, high }) }
}
