//! The parts of an agreement: each says what one kind of clause holds on to.
//!
//! A part knows what must hold inside itself; what must hold between parts is [`Agreement::validate`](crate::Agreement)'s.

use serde::{Deserialize, Serialize};

use crate::{AgreementError, Decimal, MAX_CELLS, Name, ReleaseMode, Role, Schema, Timestamp};

/// A dataset and how it may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetTerms {
    /// A group whose noised count is below this is not shown; 0 shows every group.
    pub minimum_cohort: u32,
    /// Whether answers from it carry noise, or are exact under disclosure control: never both.
    pub mode: ReleaseMode,
    /// The name used after `FROM`.
    pub name: Name,
    /// Columns, bounds, domains, roles, and limits of contribution.
    pub schema: Schema,
}

/// A kind of computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    /// `COUNT(*)` and `COUNT(x)`.
    Count,
    /// `AVG(x)`.
    Mean,
    /// `SUM(x)`.
    Sum,
}

impl std::fmt::Display for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Mean => "mean",
            Self::Sum => "sum",
        })
    }
}

/// A kind of computation and the range of its parameters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AnalysisTerms {
    /// Which kind.
    pub analysis: Analysis,
    /// The most cells that an answer with it may have, over all groups and measures.
    pub max_cells: u32,
    /// The most that a task with it may cost, as the ε it would cost alone; `epsilon_per_query` holds beside it.
    pub max_epsilon: Decimal,
}

/// How a node comes to run a task that its policy permits. Nothing is approved by default: without a class that covers
/// the task and without the approvals of people, it does not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalTerms {
    /// What runs without asking a person.
    pub automatic: AutomaticApproval,
    /// Whether each node keeps its masked vector back until a person there has looked at what leaves.
    pub hold: bool,
    /// How many different people must approve at each node; none of them is the one who asks. 0 means that nobody can:
    /// what is not approved automatically is refused.
    pub needed: u32,
    /// The roles whose approval counts.
    pub roles: Vec<Role>,
    /// How long a task waits for people at each step before it expires, hours.
    pub wait_hours: u32,
}

/// What is approved without asking a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AutomaticApproval {
    /// Whether a plan that people at this node have approved once is approved again by its hash.
    pub approved_plans: bool,
    /// Tasks of these classes are approved. One class suffices.
    pub classes: Vec<ApprovalClass>,
}

/// A class of tasks: all four must hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalClass {
    /// Only these kinds of computation.
    pub analyses: Vec<Analysis>,
    /// Only over these datasets.
    pub datasets: Vec<Name>,
    /// At most so many cells.
    pub max_cells: u32,
    /// At most so much ε.
    pub max_epsilon: Decimal,
}

/// What may be spent, per dataset and node, in (ε, δ).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// δ of every ε in this agreement, at least 10^-9 and at most 0.009.
    pub delta: Decimal,
    /// What one query may cost at most, as the ε it would cost alone.
    pub epsilon_per_query: Decimal,
    /// What one researcher may spend at each node.
    pub epsilon_per_researcher: Decimal,
    /// What the whole study may spend at each node.
    pub epsilon_total: Decimal,
}

/// Parameters of the secure sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureSumTerms {
    /// `c`: how many members may pool everything with the hub and still learn nothing beyond the paid price.
    pub colluders: u32,
    /// `t`: how many must survive a round, sign the survivor set and reveal. `2t > n + c`.
    pub threshold: u32,
}

/// The most that an attack on a model may achieve before the model may leave: rates and advantages from 0 to 1. They
/// bind training; a query is protected by its price alone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttackThresholds {
    /// Attribute inference: accuracy above that of guessing from the other attributes.
    pub attribute_advantage: Decimal,
    /// Membership inference: true-positive less false-positive rate (Yeom et al. 2018).
    pub membership_advantage: Decimal,
    /// Reconstruction: share of records rebuilt.
    pub reconstruction_rate: Decimal,
}

/// A phase of the project: what may be done while it lasts. Rights of phases narrow those of the agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProjectPhase {
    /// Which kinds of computation.
    pub analyses: Vec<Analysis>,
    /// What one query may cost.
    pub epsilon_per_query: Decimal,
    /// From when.
    pub from: Timestamp,
    /// Which phase.
    pub kind: PhaseKind,
    /// Until when.
    pub until: Timestamp,
}

/// The phases of a project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PhaseKind {
    /// The planned analyses are carried out.
    Analyse,
    /// Looking around: what is there, is it enough.
    Explore,
    /// Last numbers for a publication.
    Publish,
}

impl std::fmt::Display for PhaseKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Analyse => "analyse",
            Self::Explore => "explore",
            Self::Publish => "publish",
        })
    }
}

/// Who owns what, and on which terms it may be passed on. Words for people: software cannot enforce them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ownership {
    /// Who owns the data.
    pub data: String,
    /// Who owns models that come out.
    pub models: String,
    /// On which terms results and models may be passed on.
    pub passing_on: String,
    /// Who owns the results.
    pub results: String,
}

/// Who accepted the remaining risk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskAcceptance {
    /// Name and office of the person.
    pub accepted_by: String,
    /// In which words.
    pub statement: String,
}

/// The most classes of automatic approval, and the most phases.
const MAX_ITEMS: usize = 64;
/// The longest that a task may wait for people: a year.
const MAX_WAIT_HOURS: u32 = 8_784;

impl AnalysisTerms {
    /// Checks the ranges.
    pub(crate) fn check(&self) -> Result<(), AgreementError> {
        check_cells("analyses.max_cells", self.max_cells)?;
        check_epsilon("analyses.max_epsilon", self.max_epsilon)
    }
}

impl ApprovalTerms {
    /// Every task that the policy permits and the account can pay runs without asking a person.
    #[must_use]
    pub fn everything_automatic(datasets: Vec<Name>, max_epsilon: Decimal) -> Self {
        let analyses = vec![Analysis::Count, Analysis::Mean, Analysis::Sum];
        let class =
            ApprovalClass { analyses, datasets, max_cells: u32::try_from(MAX_CELLS).unwrap_or(u32::MAX), max_epsilon };
        Self {
            automatic: AutomaticApproval { approved_plans: false, classes: vec![class] },
            hold: false,
            needed: 0,
            roles: Vec::new(),
            wait_hours: 1,
        }
    }

    /// Whether a person may ever be waited for.
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        self.hold || self.needed > 0
    }

    pub(crate) fn check(&self) -> Result<(), AgreementError> {
        if self.automatic.classes.len() > MAX_ITEMS {
            return Err(AgreementError::TooMany("approval.automatic.classes", MAX_ITEMS));
        }
        for class in &self.automatic.classes {
            if class.analyses.is_empty() || class.datasets.is_empty() {
                return Err(AgreementError::Empty("approval.automatic.classes"));
            }
            check_cells("approval.automatic.classes.max_cells", class.max_cells)?;
            check_epsilon("approval.automatic.classes.max_epsilon", class.max_epsilon)?;
        }
        if self.needed == 0 && self.automatic.classes.is_empty() {
            return Err(AgreementError::Approval("nothing could ever be approved: needed is 0 and there is no class"));
        }
        if self.roles.iter().any(|role| !role.may_approve()) {
            return Err(AgreementError::Approval("only stewards and privacy officers can approve"));
        }
        if (1..=MAX_WAIT_HOURS).contains(&self.wait_hours) {
            Ok(())
        } else {
            Err(AgreementError::Approval("wait_hours must be between 1 and 8784"))
        }
    }
}

impl AttackThresholds {
    pub(crate) fn check(&self) -> Result<(), AgreementError> {
        let all = [self.attribute_advantage, self.membership_advantage, self.reconstruction_rate];
        let is_rate = |rate: &Decimal| *rate >= Decimal::ZERO && *rate <= Decimal::from(1);
        if all.iter().all(is_rate) { Ok(()) } else { Err(AgreementError::AttackThresholds) }
    }
}

impl Ownership {
    /// The texts, for the checks that all free texts go through.
    pub(crate) fn texts(&self) -> [(&'static str, &String); 4] {
        [
            ("ownership.data", &self.data),
            ("ownership.models", &self.models),
            ("ownership.passing_on", &self.passing_on),
            ("ownership.results", &self.results),
        ]
    }
}

/// Phases lie one after the other inside the term. Between them nothing may be asked.
pub(crate) fn check_phases(phases: &[ProjectPhase], from: Timestamp, until: Timestamp) -> Result<(), AgreementError> {
    if phases.len() > MAX_ITEMS {
        return Err(AgreementError::TooMany("phases", MAX_ITEMS));
    }
    for phase in phases {
        if phase.from >= phase.until || phase.from < from || phase.until > until {
            return Err(AgreementError::Phases("each phase must begin before it ends, inside the agreement's term"));
        }
        if phase.analyses.is_empty() {
            return Err(AgreementError::Empty("phases.analyses"));
        }
        check_epsilon("phases.epsilon_per_query", phase.epsilon_per_query)?;
    }
    let in_order = phases.array_windows().all(|[a, b]| a.until <= b.from);
    if in_order { Ok(()) } else { Err(AgreementError::Phases("phases must stand in order and must not overlap")) }
}

/// What an account can hold exactly (`dp::Budget`): above nothing, at most a thousand nats.
pub(crate) fn check_epsilon(what: &'static str, epsilon: Decimal) -> Result<(), AgreementError> {
    if epsilon > Decimal::ZERO && epsilon <= Decimal::from(1000) { Ok(()) } else { Err(AgreementError::Epsilon(what)) }
}

fn check_cells(what: &'static str, cells: u32) -> Result<(), AgreementError> {
    if (1..=MAX_CELLS).contains(&(cells as usize)) { Ok(()) } else { Err(AgreementError::Cells(what)) }
}
