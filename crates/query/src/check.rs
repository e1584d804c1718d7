//! What a node does with a plan from a stranger: believe nothing, derive everything, and say what it costs.
//!
//! A plan says what is summed and how it is scaled; [`check`] derives the scale again from the bounds in the signed
//! agreement, then the sensitivity, the noise and the price. The result is [`Priced`], which only this function can
//! make: whoever holds one holds the evidence that the plan fits the agreement's schema and costs what it says.
//!
//! # Sensitivity
//!
//! Neighbours: one person's rows are all there or not there (add/remove). The engine keeps at most `max_groups` groups
//! of a person, chosen without looking at other persons, and clamps each measure of a person in a group to
//! ±`max_rows`·W, where W is the lattice: the integer that stands for 1. A person therefore changes at most
//! `max_groups`·`measures` cells, each by at most `max_rows`·W, and nobody else's contribution, so that
//!
//! ```text
//! Δ² = max_groups · measures · max_rows² · W²
//! ```
//!
//! bounds the squared L2 distance (Wilson et al. 2020, section 3, for the bounding; all cells are one vector with one
//! joint bound). Proven, given that the engine does what it says; a test there removes a person and measures. A person
//! who has rows at several nodes counts once at each: the promise is per node.
//!
//! # Lattice
//!
//! Values are rounded to multiples of 1/W before they are summed, so W should be large; but noise grows with it. W is
//! the largest power of two from 2^6 to 2^20 for which
//!
//! * σ² = ⌈Δ²/(2ρ)⌉ is at most 2^40, the largest variance of the exact sampler;
//! * `max_rows`·W is at most 2^24: then a cell of 100 nodes with 2^31 persons each stays below 2^62, inside 64 bits.
//!
//! Rounding changes a row by at most half a step, so N different rows move a sum by about √(N/12) steps. W stops below
//! 2^20 only where the next power would break a limit: then σ is at least about 2^19 steps, or `max_rows`·W is above
//! 2^23 and σ above 2^23/√(2ρ) steps; for ρ ≤ 1 both are beyond the rounding of 10^12 rows. (Rows that are all alike
//! can round the same way: at most 1/(2W) of the half range in a mean.) Below 2^6 that last number would pass 1 %
//! while noise already drowns everything: such a price buys no answer worth having, and is refused.
//!
//! # What is not decided here
//!
//! Whether the columns may be used so, and whether the price may be paid: [`Facts`] lists what `policy` needs to
//! decide. The cells of all measures are released, so a mean gives away its sum and its count, at the one price.
//!
//! Assumes: the agreement passed its own validation and signatures.

use std::collections::BTreeSet;
use std::sync::Arc;

use cohortium_dp::noise::NoiseError;
use cohortium_dp::price::{PriceError, epsilon, sigma2_for_rho};
use cohortium_dp::sampler::MAX_VARIANCE;
use cohortium_dp::{NoisePlan, Price, plan_price};
use cohortium_messages::{
    Agreement, Analysis, Bounding, DatasetTerms, Hash, MAX_CELLS, Measure, Name, Output, OutputColumn, PLAN_VERSION,
    PROTOCOL_VERSION, Plan, PlanShapeError, RING_BITS, ReleaseMode, RoundContext, Scalar, Value,
};

use crate::range::Scale;
use crate::suppress::counts;
use crate::typing::{
    self, Unsupported, check_predicate, columns_of_predicate, columns_of_scalar, count_of, kind_of, mean_scale,
    sum_scale,
};

/// Checks a plan against the agreement and derives its layout, sensitivity, noise and price.
///
/// Promise: given any plan and a valid agreement, returns a price that the release of `layout().cells()` cells with
/// the noise of `noise()` costs at most, for add/remove of one person at one node; never less, and never from anything
/// that the plan says about its own bounds. Sensitivity proven in the module text; price as in `dp`.
///
/// # Errors
/// [`PlanError`]: the maker of the plan must act, except where the message says otherwise.
pub fn check(plan: &Plan, agreement: &Agreement, agreement_hash: Hash) -> Result<Priced, PlanError> {
    if plan.version != PLAN_VERSION {
        return Err(PlanError::Version(plan.version));
    }
    plan.check_shape()?;
    if plan.agreement != agreement_hash {
        return Err(PlanError::Agreement { expected: agreement_hash, found: plan.agreement });
    }
    let terms = agreement.dataset(&plan.dataset).ok_or_else(|| PlanError::Dataset(plan.dataset.clone()))?;
    if let Some(filter) = &plan.filter {
        check_predicate(filter, terms)?;
    }
    let domains = group_domains(plan, terms)?;
    let groups = cells_within_limit(&domains, plan.measures.len())?;
    check_bounding(plan, terms, groups)?;
    check_measures(plan, terms)?;
    check_outputs(plan, terms)?;

    let lattice = Lattice::choose(plan)?;
    let (n, t, c) = parties(agreement);
    let noise = NoisePlan::new(lattice.sigma2, n, t, c)?;
    let layout = Layout { groups: cartesian_product(&domains), measures: plan.measures.len() };
    let price = plan_price(lattice.sensitivity2, &noise, layout.cells() as u64)?;
    let facts = facts(plan, terms, layout.cells() as u64, epsilon_micro(&price, agreement));
    let plan_hash = plan.hash().map_err(|_| PlanError::Hash)?;
    Ok(Priced { evidence: Arc::new(Evidence { plan: plan.clone(), plan_hash, layout, lattice, noise, price, facts }) })
}

/// A plan that fits its agreement, with everything derived from the two. Evidence: only [`check`] makes one.
#[derive(Debug, Clone)]
pub struct Priced {
    evidence: Arc<Evidence>,
}

#[derive(Debug)]
struct Evidence {
    plan: Plan,
    plan_hash: Hash,
    layout: Layout,
    lattice: Lattice,
    noise: NoisePlan,
    price: Price,
    facts: Facts,
}

impl Priced {
    /// The plan.
    #[must_use]
    pub fn plan(&self) -> &Plan {
        &self.evidence.plan
    }

    /// The plan's hash.
    #[must_use]
    pub fn plan_hash(&self) -> Hash {
        self.evidence.plan_hash
    }

    /// Which cell is which.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.evidence.layout
    }

    /// W: the integer that stands for 1, a power of two from 2^6 to 2^20.
    #[must_use]
    pub fn lattice(&self) -> u64 {
        self.evidence.lattice.steps
    }

    /// Δ², the squared L2 sensitivity to one person, in lattice steps squared.
    #[must_use]
    pub fn sensitivity2(&self) -> u128 {
        self.evidence.lattice.sensitivity2
    }

    /// σ², the variance that nobody can take off, per cell, in lattice steps squared.
    #[must_use]
    pub fn sigma2(&self) -> u64 {
        self.evidence.lattice.sigma2
    }

    /// How the noise is divided over the nodes.
    #[must_use]
    pub fn noise(&self) -> &NoisePlan {
        &self.evidence.noise
    }

    /// What the release costs at each node.
    #[must_use]
    pub fn price(&self) -> &Price {
        &self.evidence.price
    }

    /// The context of the one round in which a task runs this plan. Every party derives it on its own: whoever derives
    /// another gets masks that do not cancel. `position` is the index of the task in the hub's log.
    #[must_use]
    pub fn round_context(&self, agreement: &Agreement, task: Hash, position: u64) -> RoundContext {
        RoundContext {
            agreement: self.plan().agreement,
            colluders: agreement.secure_sum.colluders,
            // At most MAX_CELLS, which is far below.
            elements: u32::try_from(self.layout().cells()).unwrap_or(u32::MAX),
            mode: ReleaseMode::Noised,
            participants: agreement.participants(),
            plan: self.plan_hash(),
            position,
            protocol: PROTOCOL_VERSION,
            ring_bits: RING_BITS,
            round: 0,
            sigma2: self.sigma2(),
            task,
            threshold: agreement.secure_sum.threshold,
        }
    }

    /// What the policy decides upon.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.evidence.facts
    }
}

/// Which cell of the vector is which: the measures of the first group, then those of the second, and so on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    /// The group keys, one value per group column in the plan's order; `None` is the group of missing values. The
    /// cartesian product of the columns' values, first column slowest. One empty key where nothing is grouped.
    pub groups: Vec<Vec<Option<Value>>>,
    /// How many measures.
    pub measures: usize,
}

impl Layout {
    /// How many cells the vector has.
    #[must_use]
    pub fn cells(&self) -> usize {
        self.groups.len() * self.measures
    }
}

/// What a plan touches and costs, for the policy to decide upon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The dataset.
    pub dataset: Name,
    /// The columns in the filter.
    pub filter_columns: BTreeSet<Name>,
    /// The columns grouped by.
    pub group_columns: BTreeSet<Name>,
    /// The columns in what is summed or counted.
    pub aggregate_columns: BTreeSet<Name>,
    /// The kinds of answers. A mean counts as a mean only, though its sum and its count are released with it.
    pub analyses: BTreeSet<Analysis>,
    /// How many cells the answer has, over all groups and measures.
    pub cells: u64,
    /// Whether the plan counts every group, so that a group of too few can be left out.
    pub counts_groups: bool,
    /// The ε that this price alone costs at the agreement's δ, in units of 10^-6, rounded up.
    pub epsilon_micro: u64,
    /// A group that counts fewer persons than this is not shown; 0 shows every group. From the agreement.
    pub minimum_cohort: u32,
}

/// Why a plan is refused before any policy looks at it. The maker of the plan must act unless the text says otherwise.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Not a version we know.
    #[error("plan version {0} is not known here (this is version {PLAN_VERSION}): update, or plan again")]
    Version(u32),
    /// Too deep or too long.
    #[error(transparent)]
    Shape(#[from] PlanShapeError),
    /// Made under another agreement.
    #[error("the plan was made under agreement {}, here applies {}: plan again", found.short(), expected.short())]
    Agreement {
        /// The one in force here.
        expected: Hash,
        /// The one in the plan.
        found: Hash,
    },
    /// No such dataset.
    #[error("the agreement has no dataset `{0}`")]
    Dataset(Name),
    /// Something does not fit the schema.
    #[error(transparent)]
    Unsupported(#[from] Unsupported),
    /// A column is grouped by twice.
    #[error("column `{0}` is grouped by twice")]
    GroupTwice(Name),
    /// The answer would have too many cells.
    #[error("the answer would have more than {MAX_CELLS} cells: group by fewer columns or ask for less at once")]
    Cells,
    /// A limit of contribution is zero or above the schema's.
    #[error("bounding.{field} = {found} must be between 1 and {limit}")]
    Bounding {
        /// Which.
        field: &'static str,
        /// What the plan says.
        found: u32,
        /// What the schema allows.
        limit: u32,
    },
    /// Nothing is summed.
    #[error("the plan sums nothing: at least one measure is needed")]
    NoMeasures,
    /// The scale of a measure is not the one that follows from the bounds.
    #[error("measures[{position}]: centre and half_range are not those that follow from the agreement's bounds")]
    Scale {
        /// Which.
        position: usize,
    },
    /// A measure occurs twice.
    #[error("measures[{position}] occurs twice: one is enough")]
    MeasureTwice {
        /// The later one.
        position: usize,
    },
    /// A measure is released but not shown, so that no clause of the agreement could speak about it.
    #[error("measures[{position}] is used by no output")]
    MeasureUnused {
        /// Which.
        position: usize,
    },
    /// An output refers to something of the wrong kind, or to nothing.
    #[error("outputs[{position}]: {why}")]
    Output {
        /// Which.
        position: usize,
        /// What is wrong.
        why: &'static str,
    },
    /// A sort key refers to nothing.
    #[error("order_by refers to output {0}, which does not exist")]
    Order(u32),
    /// The price buys more noise than answer.
    #[error("the price is too small for this query: raise epsilon, or ask for fewer measures or groups per person")]
    PriceTooSmall,
    /// The parties of the agreement cannot make the noise. The custodians must act.
    #[error("custodians: the agreement's parties cannot make the noise: {0}")]
    Noise(#[from] NoiseError),
    /// The price cannot be computed.
    #[error("the price cannot be computed: {0}")]
    Price(#[from] PriceError),
    /// The plan has no canonical form. Ours to fix: no plan can cause it.
    #[error("internal: the plan has no canonical form")]
    Hash,
}

/// Bounds of the lattice, as powers of two; see the module text.
const LATTICE_BITS: std::ops::RangeInclusive<u32> = 6..=20;
/// The most lattice steps that one person may add to one cell.
const MAX_CONTRIBUTION: u128 = 1 << 24;

/// W with what follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lattice {
    steps: u64,
    sensitivity2: u128,
    sigma2: u64,
}

impl Lattice {
    /// The finest lattice within the limits of the module text.
    fn choose(plan: &Plan) -> Result<Self, PlanError> {
        LATTICE_BITS.rev().find_map(|bits| Self::of(plan, 1 << bits)).ok_or(PlanError::PriceTooSmall)
    }

    fn of(plan: &Plan, steps: u64) -> Option<Self> {
        let contribution = u128::from(plan.bounding.max_rows) * u128::from(steps);
        if contribution > MAX_CONTRIBUTION {
            return None;
        }
        // At most 2^32 groups · 2^8 measures · (2^24)²: below 2^88.
        let cells = u128::from(plan.bounding.max_groups) * plan.measures.len() as u128;
        let sensitivity2 = cells * contribution * contribution;
        let sigma2 = sigma2_for_rho(sensitivity2, plan.rho).ok()?;
        (sigma2 <= MAX_VARIANCE).then_some(Self { steps, sensitivity2, sigma2 })
    }
}

/// For each group column its possible keys.
fn group_domains(plan: &Plan, terms: &DatasetTerms) -> Result<Vec<Vec<Option<Value>>>, PlanError> {
    let mut seen = BTreeSet::new();
    plan.group_by
        .iter()
        .map(|name| {
            if !seen.insert(name) {
                return Err(PlanError::GroupTwice(name.clone()));
            }
            group_values(terms, name).map_err(PlanError::from)
        })
        .collect()
}

/// The possible keys of one group column.
///
/// # Errors
/// When the column is unknown or its domain is not declared.
pub(crate) fn group_values(terms: &DatasetTerms, name: &Name) -> Result<Vec<Option<Value>>, Unsupported> {
    let values = typing::column(terms, name)?.group_values();
    // A nullable column without a domain would have the one group of missing values.
    if values.iter().all(Option::is_none) {
        return Err(Unsupported::new(
            format!("GROUP BY `{name}`, whose values are not declared in the agreement"),
            "group by a column with a domain, or use WHERE",
        ));
    }
    Ok(values)
}

/// How many groups there are, if all cells together are few enough.
pub(crate) fn cells_within_limit(domains: &[Vec<Option<Value>>], measures: usize) -> Result<u32, PlanError> {
    let groups = domains.iter().try_fold(1usize, |groups, domain| groups.checked_mul(domain.len()));
    match groups {
        Some(groups) if groups.checked_mul(measures).is_some_and(|cells| cells <= MAX_CELLS) => {
            u32::try_from(groups).map_err(|_| PlanError::Cells)
        }
        _ => Err(PlanError::Cells),
    }
}

fn cartesian_product(domains: &[Vec<Option<Value>>]) -> Vec<Vec<Option<Value>>> {
    domains.iter().fold(vec![Vec::new()], |groups, domain| {
        let longer = |group: Vec<Option<Value>>| {
            domain.iter().map(move |value| group.iter().chain([value]).cloned().collect::<Vec<_>>())
        };
        groups.into_iter().flat_map(longer).collect()
    })
}

fn check_bounding(plan: &Plan, terms: &DatasetTerms, groups: u32) -> Result<(), PlanError> {
    let Bounding { max_groups, max_rows } = plan.bounding;
    for (field, found, limit) in [
        ("max_groups", max_groups, terms.schema.max_groups_per_person.min(groups)),
        ("max_rows", max_rows, terms.schema.max_rows_per_person),
    ] {
        if !(1..=limit).contains(&found) {
            return Err(PlanError::Bounding { field, found, limit });
        }
    }
    Ok(())
}

fn check_measures(plan: &Plan, terms: &DatasetTerms) -> Result<(), PlanError> {
    if plan.measures.is_empty() {
        return Err(PlanError::NoMeasures);
    }
    for (position, measure) in plan.measures.iter().enumerate() {
        if plan.measures.iter().take(position).any(|earlier| earlier == measure) {
            return Err(PlanError::MeasureTwice { position });
        }
        match measure {
            Measure::Rows => {}
            Measure::Present { of } => {
                kind_of(of, terms)?;
            }
            Measure::CentredSum { of, .. } => {
                // One of the two suffices: a value that is always the same may be summed but has no mean.
                let derived = [sum_scale(of, terms), mean_scale(of, terms)];
                if let [Err(error), Err(_)] = derived {
                    return Err(error.into());
                }
                if !derived.into_iter().flatten().any(|scale| has_scale(measure, scale)) {
                    return Err(PlanError::Scale { position });
                }
            }
        }
    }
    Ok(())
}

fn has_scale(measure: &Measure, scale: Scale) -> bool {
    matches!(measure, Measure::CentredSum { centre, half_range, .. }
        if *centre == scale.centre && *half_range == scale.half_range)
}

fn check_outputs(plan: &Plan, terms: &DatasetTerms) -> Result<(), PlanError> {
    let mut used = vec![false; plan.measures.len()];
    for (position, output) in plan.outputs.iter().enumerate() {
        check_output(plan, terms, output).map_err(|why| PlanError::Output { position, why })?;
        for measure in measures_of(&output.value) {
            if let Some(used) = used.get_mut(measure as usize) {
                *used = true;
            }
        }
    }
    if let Some(position) = used.iter().position(|used| !used) {
        return Err(PlanError::MeasureUnused { position });
    }
    match plan.order_by.iter().find(|order| order.output as usize >= plan.outputs.len()) {
        Some(order) => Err(PlanError::Order(order.output)),
        None => Ok(()),
    }
}

fn check_output(plan: &Plan, terms: &DatasetTerms, output: &Output) -> Result<(), &'static str> {
    if output.name.is_empty() || output.name.chars().any(char::is_control) {
        return Err("a heading must not be empty or contain control characters");
    }
    let measure = |position: u32| plan.measures.get(position as usize);
    match &output.value {
        OutputColumn::Key(name) if plan.group_by.contains(name) => Ok(()),
        OutputColumn::Key(_) => Err("a key must be a group column"),
        OutputColumn::Count(count) => match measure(*count) {
            Some(Measure::Rows | Measure::Present { .. }) => Ok(()),
            _ => Err("a count must refer to a counting measure"),
        },
        OutputColumn::Sum(sum) => match scaled_sum(measure(*sum), |of| sum_scale(of, terms)) {
            Some(_) => Ok(()),
            None => Err("a sum must refer to a sum centred at 0"),
        },
        OutputColumn::Mean { count, sum } => match scaled_sum(measure(*sum), |of| mean_scale(of, terms)) {
            // The divisor must count what was summed, or the answer would be called a mean and be something else.
            Some(of) if measure(*count) == Some(&count_of(of, &terms.schema)) => Ok(()),
            Some(_) => Err("a mean must be divided by the count of what it sums"),
            None => Err("a mean must refer to a sum centred in the middle of its range"),
        },
    }
}

/// What is summed, if the measure is a sum with just this scale.
fn scaled_sum(measure: Option<&Measure>, scale: impl Fn(&Scalar) -> Result<Scale, Unsupported>) -> Option<&Scalar> {
    let measure = measure?;
    match measure {
        Measure::CentredSum { of, .. } => has_scale(measure, scale(of).ok()?).then_some(of),
        Measure::Present { .. } | Measure::Rows => None,
    }
}

fn measures_of(value: &OutputColumn) -> Vec<u32> {
    match value {
        OutputColumn::Key(_) => Vec::new(),
        OutputColumn::Count(position) | OutputColumn::Sum(position) => vec![*position],
        OutputColumn::Mean { count, sum } => vec![*count, *sum],
    }
}

fn parties(agreement: &Agreement) -> (u32, u32, u32) {
    // More parties than a `u32` holds are beyond any agreement; the noise plan refuses the number.
    let n = u32::try_from(agreement.parties.len()).unwrap_or(u32::MAX);
    (n, agreement.secure_sum.threshold, agreement.secure_sum.colluders)
}

fn facts(plan: &Plan, terms: &DatasetTerms, cells: u64, epsilon_micro: u64) -> Facts {
    let (mut filter_columns, mut aggregate_columns) = (BTreeSet::new(), BTreeSet::new());
    if let Some(filter) = &plan.filter {
        columns_of_predicate(filter, &mut filter_columns);
    }
    for measure in &plan.measures {
        match measure {
            Measure::CentredSum { of, .. } | Measure::Present { of } => columns_of_scalar(of, &mut aggregate_columns),
            Measure::Rows => {}
        }
    }
    let analyses = plan.outputs.iter().filter_map(|output| match output.value {
        OutputColumn::Key(_) => None,
        OutputColumn::Count(_) => Some(Analysis::Count),
        OutputColumn::Sum(_) => Some(Analysis::Sum),
        OutputColumn::Mean { .. } => Some(Analysis::Mean),
    });
    Facts {
        dataset: plan.dataset.clone(),
        filter_columns,
        group_columns: plan.group_by.iter().cloned().collect(),
        aggregate_columns,
        analyses: analyses.collect(),
        cells,
        counts_groups: plan.measures.iter().any(counts),
        epsilon_micro,
        minimum_cohort: terms.minimum_cohort,
    }
}

/// ε in millionths. A conversion from floating point saturates: an infinite ε becomes the largest number.
fn epsilon_micro(price: &Price, agreement: &Agreement) -> u64 {
    (epsilon(&price.curve, agreement.budgets.delta.to_f64()) * 1e6).ceil() as u64
}
