//! From noised cells to the table that was asked for: post-processing that anyone can repeat.
//!
//! A release holds integers; this turns them into counts, sums and means with 95 % intervals, sorts and cuts the rows.
//! Everything here is computed from public values (the released cells, the plan, the variance of the noise), so it
//! costs nothing (post-processing: Dwork and Roth 2014, Proposition 2.1), and floating point is good enough: nothing
//! here is signed. Intervals of ratios are Fieller's (1954).
//!
//! **Does not** cover sampling error, or what clamping and the limits per person leave out: the intervals speak about
//! noise. Counts and sums are not forced to be positive: unforced they can be added up without bias.
//!
//! Assumes nothing of the cells: any integers give finite answers.

use std::cmp::Ordering;

use cohortium_dp::interval::{Interval, NoisyCell, cell_interval, ratio_interval, z_for_level};
use cohortium_dp::noise::NoiseError;
use cohortium_messages::{Decimal, Measure, Order, Output, OutputColumn, Plan, Value};
use serde::{Deserialize, Serialize};

use crate::{Priced, groups_below_minimum};

/// The answer to a query, as JSON:
///
/// ```json
/// {"columns": ["sex", "mean_chol"],
///  "rows": [[{"key": {"number": "0"}}, {"estimate": {"value": 261.3, "low": 255.1, "high": 267.8}}],
///           [{"key": null},            {"estimate": {"value": 240.0, "low": 0.0, "high": 600.0}}]]}
/// ```
///
/// A key is a boolean, a text, `{"number": "…"}` or null (no value recorded). Where a group counts fewer persons than the
/// agreement demands, every number of its row is `{"suppressed": {"fewer_than": 10}}`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answer {
    /// The headings.
    pub columns: Vec<String>,
    /// The rows; each has one cell per heading.
    pub rows: Vec<Vec<AnswerCell>>,
}

/// A cell of the answer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AnswerCell {
    /// A group key; `None` stands for "no value recorded".
    Key(Option<Value>),
    /// A number with the noise that is in it. All three are finite and `low ≤ value ≤ high`.
    Estimate {
        /// The estimate.
        value: f64,
        /// Lower end of the 95 % interval.
        low: f64,
        /// Upper end of the 95 % interval.
        high: f64,
    },
    /// A number that is not shown: by its noised count, the group has too few persons.
    Suppressed {
        /// How many persons a group must count to be shown.
        fewer_than: u32,
    },
}

/// How wide an interval will be, for a dry run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpectedError {
    /// The heading of the output.
    pub output: String,
    /// Half the width of the 95 % interval, in the unit of the output.
    pub half_width: f64,
    /// For how many rows that holds.
    pub per: Per,
}

/// For how many rows an expected error holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Per {
    /// For every cell, however many rows it counts.
    #[serde(rename = "cell")]
    Cell,
    /// For a mean over 1000 counted rows; over ten times as many it is a tenth.
    #[serde(rename = "1000 rows")]
    ThousandRows,
}

impl std::fmt::Display for Per {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cell => "cell",
            Self::ThousandRows => "1000 rows",
        })
    }
}

/// Why cells are no answer to the plan. Whoever hands them in must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AnswerError {
    /// Too few or too many cells.
    #[error("the release has {found} cells, the plan {expected}: they do not belong together")]
    Cells {
        /// What the plan has.
        expected: usize,
        /// What was handed in.
        found: usize,
    },
    /// A number of survivors that the agreement excludes.
    #[error(transparent)]
    Survivors(#[from] NoiseError),
    /// Excluded by `check`. Ours to fix.
    #[error("internal: a checked plan refers to a measure of the wrong kind")]
    Plan,
}

/// The table that a plan asks for, from the released cells.
///
/// `cells` are in lattice steps in the order of [`crate::Layout`]; `total_variance` is that of the noise in each, in
/// lattice steps squared.
///
/// Promise: given released values only, returns what follows from them; no private value goes in, so none can come out.
///
/// # Errors
/// [`AnswerError::Cells`] when the cells are not those of the plan.
pub fn answer(priced: &Priced, cells: &[i64], total_variance: u128) -> Result<Answer, AnswerError> {
    let (plan, layout) = (priced.plan(), priced.layout());
    if cells.len() != layout.cells() {
        return Err(AnswerError::Cells { expected: layout.cells(), found: cells.len() });
    }
    let scale = Noise { steps: priced.lattice() as f64, variance: total_variance, z: z() };
    // `check` makes no layout without measures, so no chunk is empty.
    let groups = (0u32..).zip(layout.groups.iter().zip(cells.chunks(layout.measures.max(1))));
    let (fewer_than, suppressed) = (priced.facts().minimum_cohort, groups_below_minimum(priced, cells)?);
    let mut rows = groups
        .map(|(position, (key, cells))| {
            let is_shown = suppressed.binary_search(&position).is_err();
            let cell = |output: &Output| match &output.value {
                OutputColumn::Key(_) => scale.cell(plan, output, key, cells),
                _ if is_shown => scale.cell(plan, output, key, cells),
                _ => Ok(AnswerCell::Suppressed { fewer_than }),
            };
            plan.outputs.iter().map(cell).collect()
        })
        .collect::<Result<Vec<Vec<AnswerCell>>, _>>()?;
    rows.sort_by(|a, b| compare_rows(&plan.order_by, a, b));
    if let Some(limit) = plan.limit {
        rows.truncate(limit as usize);
    }
    Ok(Answer { columns: plan.outputs.iter().map(|output| output.name.clone()).collect(), rows })
}

/// How wide the 95 % intervals of a plan will be when `survivors` nodes remain; group keys are left out.
///
/// Means depend on how many rows they count: the number is for 1000, for the worst place of the mean in its range.
///
/// # Errors
/// [`AnswerError::Survivors`] for a number of survivors that the agreement excludes.
pub fn expected_error(priced: &Priced, survivors: u32) -> Result<Vec<ExpectedError>, AnswerError> {
    let plan = priced.plan();
    let variance = priced.noise().remaining_total_variance(survivors)?;
    let steps = priced.lattice() as f64;
    // In units of one row or of one half range.
    let half_width = cell_interval(0.0, variance, z()).high / steps;
    let mut errors = Vec::new();
    for output in &plan.outputs {
        let (half_width, per) = match &output.value {
            OutputColumn::Key(_) => continue,
            OutputColumn::Count(_) => (half_width, Per::Cell),
            OutputColumn::Sum(sum) => (half_width * centred(plan, *sum)?.1.to_f64(), Per::Cell),
            OutputColumn::Mean { sum, .. } => {
                // The error of S/N at N = 1000 is √(1 + (S/N)²) times that of S alone, and |S/N| ≤ 1.
                let ratio = (half_width * std::f64::consts::SQRT_2 / 1000.0).min(1.0);
                (ratio * centred(plan, *sum)?.1.to_f64(), Per::ThousandRows)
            }
        };
        errors.push(ExpectedError { output: output.name.clone(), half_width, per });
    }
    Ok(errors)
}

/// What an estimate needs beside its cells.
struct Noise {
    /// W.
    steps: f64,
    variance: u128,
    z: f64,
}

impl Noise {
    fn cell(
        &self,
        plan: &Plan,
        output: &Output,
        key: &[Option<Value>],
        cells: &[i64],
    ) -> Result<AnswerCell, AnswerError> {
        let cell = |position: u32| cells.get(position as usize).map(|c| *c as f64).ok_or(AnswerError::Plan);
        match &output.value {
            OutputColumn::Key(name) => {
                let position = plan.group_by.iter().position(|column| column == name).ok_or(AnswerError::Plan)?;
                Ok(AnswerCell::Key(key.get(position).ok_or(AnswerError::Plan)?.clone()))
            }
            OutputColumn::Count(count) => Ok(self.linear(cell(*count)?, 1.0)),
            OutputColumn::Sum(sum) => Ok(self.linear(cell(*sum)?, centred(plan, *sum)?.1.to_f64())),
            OutputColumn::Mean { count, sum } => {
                let (centre, half_range) = centred(plan, *sum)?;
                Ok(self.mean(cell(*sum)?, cell(*count)?, centre.to_f64(), half_range.to_f64()))
            }
        }
    }

    /// A count (unit 1) or a sum (unit half range).
    fn linear(&self, cell: f64, unit: f64) -> AnswerCell {
        let Interval { low, high } = cell_interval(cell, self.variance, self.z);
        let scaled = |steps: f64| steps / self.steps * unit;
        AnswerCell::Estimate { value: scaled(cell), low: scaled(low), high: scaled(high) }
    }

    /// A mean, held to its range. Where the noised count is not above zero, nothing is known: the middle, give or
    /// take everything.
    fn mean(&self, sum: f64, count: f64, centre: f64, half_range: f64) -> AnswerCell {
        let bounds = Interval { low: -1.0, high: 1.0 };
        let noisy = |value| NoisyCell { value, variance: self.variance as f64 };
        let (ratio, interval) = if count > 0.0 {
            ((sum / count).clamp(-1.0, 1.0), ratio_interval(noisy(sum), noisy(count), self.z, bounds))
        } else {
            (0.0, bounds)
        };
        let placed = |ratio: f64| centre + half_range * ratio;
        AnswerCell::Estimate {
            value: placed(ratio),
            low: placed(interval.low.min(ratio)),
            high: placed(interval.high.max(ratio)),
        }
    }
}

/// Centre and half range of a centred sum.
fn centred(plan: &Plan, position: u32) -> Result<(Decimal, Decimal), AnswerError> {
    match plan.measures.get(position as usize) {
        Some(Measure::CentredSum { centre, half_range, .. }) => Ok((*centre, *half_range)),
        _ => Err(AnswerError::Plan),
    }
}

/// The normal factor of 95 %; the fallback is the same number, should the level ever be refused.
fn z() -> f64 {
    z_for_level(0.95).unwrap_or(1.959_964)
}

/// The first sort key that tells the rows apart decides; the sort is stable, so otherwise the order of groups stays.
fn compare_rows(order_by: &[Order], a: &[AnswerCell], b: &[AnswerCell]) -> Ordering {
    let by_key = |order: &Order| match (a.get(order.output as usize), b.get(order.output as usize)) {
        (Some(a), Some(b)) => compare_cells(a, b, order.descending),
        _ => Ordering::Equal,
    };
    order_by.iter().map(by_key).find(|ordering| ordering.is_ne()).unwrap_or(Ordering::Equal)
}

/// Missing keys and suppressed numbers come last in either direction.
fn compare_cells(a: &AnswerCell, b: &AnswerCell, descending: bool) -> Ordering {
    let directed = |ordering: Ordering| if descending { ordering.reverse() } else { ordering };
    match (a, b) {
        (AnswerCell::Key(Some(a)), AnswerCell::Key(Some(b))) => directed(a.cmp(b)),
        (AnswerCell::Key(a), AnswerCell::Key(b)) => a.is_none().cmp(&b.is_none()),
        (AnswerCell::Estimate { value: a, .. }, AnswerCell::Estimate { value: b, .. }) => directed(a.total_cmp(b)),
        (AnswerCell::Suppressed { .. }, AnswerCell::Suppressed { .. }) => Ordering::Equal,
        (_, AnswerCell::Suppressed { .. }) => Ordering::Less,
        (AnswerCell::Suppressed { .. }, _) => Ordering::Greater,
        // Excluded: one column has no keys and numbers.
        (AnswerCell::Key(_), AnswerCell::Estimate { .. }) => Ordering::Less,
        (AnswerCell::Estimate { .. }, AnswerCell::Key(_)) => Ordering::Greater,
    }
}
