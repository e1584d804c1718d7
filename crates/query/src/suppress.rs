//! Groups of too few: which groups of an answer are not shown.
//!
//! Custodians may state for a dataset how many persons a group must count to be shown (the minimum cell of statistical
//! disclosure control: Hundepool et al. 2012, "Statistical Disclosure Control", section 4.2). Noise protects a person
//! whatever the size of the group; what this adds is that nobody publishes a number about three people that is mostly
//! noise. It looks at noised counts only, so it costs nothing (post-processing: Dwork and Roth 2014, Proposition 2.1).
//!
//! Plans count rows, and custodians speak of persons: one person has at most `max_rows` rows in a group, so a group
//! with `minimum · max_rows` rows holds at least `minimum` persons, up to the noise.
//!
//! Does not: promise that a group that is shown holds that many. The count is noised, and may be too large by chance.

use cohortium_messages::Measure;

use crate::{AnswerError, Priced};

/// The positions of the groups that are not shown, in order.
///
/// `cells` are in lattice steps in the order of [`crate::Layout`], with noise. A group counts as much as its smallest
/// counting measure; a plan that does not count its groups over a dataset with a minimum shows none.
///
/// Applied to cells in which these groups were replaced by zeros, it returns the same positions.
///
/// Promise: given released values only, returns what follows from them; no private value goes in, so none can come out.
///
/// # Errors
/// [`AnswerError::Cells`] when the cells are not those of the plan.
pub fn groups_below_minimum(priced: &Priced, cells: &[i64]) -> Result<Vec<u32>, AnswerError> {
    let layout = priced.layout();
    if cells.len() != layout.cells() {
        return Err(AnswerError::Cells { expected: layout.cells(), found: cells.len() });
    }
    let minimum = priced.facts().minimum_cohort;
    if minimum == 0 {
        return Ok(Vec::new());
    }
    // At most 2^32 · 2^16 · 2^20.
    let least = i128::from(minimum) * i128::from(priced.plan().bounding.max_rows) * i128::from(priced.lattice());
    // `check` makes no layout without measures, so no chunk is empty.
    let groups = (0u32..).zip(cells.chunks(layout.measures.max(1)));
    let is_too_small = |cells: &[i64]| {
        let counted = priced.plan().measures.iter().zip(cells).filter(|(measure, _)| counts(measure));
        counted.map(|(_, cell)| i128::from(*cell)).min().is_none_or(|count| count < least)
    };
    Ok(groups.filter(|(_, cells)| is_too_small(cells)).map(|(position, _)| position).collect())
}

/// Whether the measure says how many rows there are.
pub(crate) fn counts(measure: &Measure) -> bool {
    matches!(measure, Measure::Present { .. } | Measure::Rows)
}
