//! The clauses of an agreement, as a refusal names them, and the facts about a task that they are decided on.
//!
//! Names and order of the clauses are part of what the log and the researcher see (`study/clause`): a renamed clause is
//! a breaking change. This file decides nothing; the decision is Cedar's, over policies made in `compile.rs`.

use std::collections::BTreeSet;

use cohortium_messages::{Agreement, Analysis, AnalysisTerms, ColumnRole, Modifier, Name, Purpose, Timestamp};

use crate::approval::Approval;

/// What a task can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    /// The agreement is in force at the time of the decision.
    InForce,
    /// The time of the decision lies in a phase that allows such a task at such a price.
    Phase,
    /// Whoever asks is a researcher of the agreement.
    Researcher,
    /// The purpose is covered by one that the data were given for.
    Purpose,
    /// Whoever asks affirms every condition of the agreement.
    Conditions,
    /// The dataset is one of the agreement's.
    Dataset,
    /// Answers from the dataset carry noise: what plans of this version make.
    ReleaseMode,
    /// Every column in `WHERE` may be filtered by.
    ColumnsFilter,
    /// Every column in `GROUP BY` may be grouped by.
    ColumnsGroup,
    /// Every column in an aggregate may be aggregated.
    ColumnsAggregate,
    /// Every kind of computation is permitted.
    Analyses,
    /// The answer has at most as many cells as each of its kinds of computation may have.
    Cells,
    /// Where groups of too few are not shown, every group is counted.
    MinimumCohort,
    /// Exactly the parties take part.
    Participants,
    /// At least as many take part as the secure sum needs.
    Threshold,
    /// The price is at most what one query may cost.
    PricePerQuery,
    /// The price is at most what each of its kinds of computation may cost.
    PricePerAnalysis,
    /// Neither the agreement nor the researcher's key has been taken back, as far as is known here.
    NotRevoked,
    /// One person contributes no more than the dataset's limits.
    Contribution,
    /// Nobody has stopped the study here.
    Frozen,
    /// The task is approved automatically or by enough people, where that is decided.
    Approval,
    /// The policies could be evaluated, all of them, without an error. Not a policy: a check on the evaluation.
    Evaluation,
    /// Task, checked plan, approvals and agreement belong together. Not a policy: a check on what was handed in.
    Evidence,
}

impl Clause {
    /// The clauses that are compiled to policies, in the order in which a refusal lists them.
    pub const COMPILED: [Self; 21] = [
        Self::InForce,
        Self::Phase,
        Self::Researcher,
        Self::Purpose,
        Self::Conditions,
        Self::Dataset,
        Self::ReleaseMode,
        Self::ColumnsFilter,
        Self::ColumnsGroup,
        Self::ColumnsAggregate,
        Self::Analyses,
        Self::Cells,
        Self::MinimumCohort,
        Self::Participants,
        Self::Threshold,
        Self::PricePerQuery,
        Self::PricePerAnalysis,
        Self::NotRevoked,
        Self::Contribution,
        Self::Frozen,
        Self::Approval,
    ];

    /// The name under which a refusal lists it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Phase => "phase",
            Self::Researcher => "researcher",
            Self::Purpose => "purpose",
            Self::Conditions => "conditions",
            Self::Dataset => "dataset",
            Self::ReleaseMode => "release-mode",
            Self::ColumnsFilter => "columns-filter",
            Self::ColumnsGroup => "columns-group",
            Self::ColumnsAggregate => "columns-aggregate",
            Self::Analyses => "analyses",
            Self::Cells => "cells",
            Self::MinimumCohort => "minimum-cohort",
            Self::Participants => "participants",
            Self::Threshold => "threshold",
            Self::PricePerQuery => "price-per-query",
            Self::PricePerAnalysis => "price-per-analysis",
            Self::NotRevoked => "not-revoked",
            Self::Contribution => "contribution",
            Self::Frozen => "frozen",
            Self::Approval => "approval",
            Self::Evaluation => "evaluation",
            Self::Evidence => "evidence",
        }
    }

    /// The policy's id in Cedar.
    pub(crate) fn policy_id(self) -> String {
        format!("clause/{}", self.name())
    }
}

/// The facts about a task that the clauses are decided on: all of them public, none computed from rows.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub affirms: BTreeSet<Modifier>,
    pub aggregate_columns: BTreeSet<Name>,
    pub analyses: BTreeSet<Analysis>,
    /// Nothing where it is not decided: only a node knows what its people said.
    pub approval: Option<Approval>,
    pub cells: u64,
    /// Whether the plan counts every group.
    pub counts_groups: bool,
    pub dataset: Name,
    /// The ε that the task alone would cost at the agreement's δ, in 10^-6, rounded up.
    pub epsilon_micro: u64,
    pub filter_columns: BTreeSet<Name>,
    /// False where it is not decided.
    pub frozen: bool,
    pub group_columns: BTreeSet<Name>,
    pub max_groups: u32,
    pub max_rows: u32,
    pub now: Timestamp,
    pub participants: BTreeSet<Name>,
    pub purpose: Purpose,
    pub researcher: Name,
    pub revoked: bool,
}

/// Why a clause fails, in words for the researcher. Speaks of the agreement and the task only.
pub(crate) fn explain(clause: Clause, agreement: &Agreement, asked: &Asked) -> String {
    let schema = agreement.dataset(&asked.dataset).map(|terms| &terms.schema);
    let columns = |role: ColumnRole, used: &BTreeSet<Name>, place: &str| {
        let wrong = used
            .iter()
            .filter(|name| !schema.and_then(|schema| schema.column(name)).is_some_and(|column| column.allows(role)));
        format!("in `{}` these may not be used {place}: {}", asked.dataset, join(wrong))
    };
    match clause {
        Clause::InForce => format!(
            "the agreement is in force from {} until {}, and it is {}",
            agreement.valid_from, agreement.valid_until, asked.now
        ),
        Clause::Researcher => format!("`{}` is not a researcher of this study", asked.researcher),
        Clause::Purpose => {
            format!("the data were given for {}, and the task is for {}", join(&agreement.purposes), asked.purpose)
        }
        Clause::Dataset => format!(
            "the study has no dataset `{}`, only {}",
            asked.dataset,
            join(agreement.datasets.iter().map(|terms| &terms.name))
        ),
        Clause::ColumnsFilter => columns(ColumnRole::Filter, &asked.filter_columns, "in WHERE (role filter)"),
        Clause::ColumnsGroup => columns(ColumnRole::Group, &asked.group_columns, "in GROUP BY (role group)"),
        Clause::ColumnsAggregate => {
            columns(ColumnRole::Aggregate, &asked.aggregate_columns, "in an aggregate (role aggregate)")
        }
        Clause::Analyses => {
            let permitted = agreement.analyses.iter().map(|terms| terms.analysis);
            format!("the study permits {}, and the task computes {}", join(permitted), join(&asked.analyses))
        }
        Clause::Approval => explain_approval(asked),
        Clause::Cells => {
            let limits = limits(agreement, asked, |terms| terms.max_cells.to_string());
            format!("the answer would have {} cells, and may have at most {limits}", asked.cells)
        }
        Clause::Conditions => {
            let stated = agreement.conditions.iter().filter(|stated| !asked.affirms.contains(&stated.modifier));
            let missing = stated.map(|stated| format!("{} ({})", stated.modifier, shorten(&stated.detail)));
            format!("whoever asks must affirm these conditions, and the task does not: {}", join(missing))
        }
        Clause::Frozen => String::from("the study is stopped here until the privacy officer sets it going again"),
        Clause::MinimumCohort => format!(
            "in `{}` a group is shown only if it counts {} persons or more, so that the task must count: add COUNT(*)",
            asked.dataset,
            agreement.dataset(&asked.dataset).map_or(0, |terms| terms.minimum_cohort)
        ),
        Clause::Phase => explain_phase(agreement, asked),
        Clause::PricePerAnalysis => {
            let limits = limits(agreement, asked, |terms| terms.max_epsilon.to_string());
            format!("the task costs epsilon {}, and may cost at most {limits}", micro(asked.epsilon_micro))
        }
        Clause::ReleaseMode => format!(
            "`{}` is in exact mode, and this version answers with noise only: the custodians must agree otherwise",
            asked.dataset
        ),
        Clause::Participants => format!(
            "exactly the study's organisations take part ({}), and the task names {}",
            join(agreement.participants()),
            join(&asked.participants)
        ),
        Clause::Threshold => format!(
            "at least {} organisations must take part, and the task names {}",
            agreement.secure_sum.threshold,
            asked.participants.len()
        ),
        Clause::PricePerQuery => format!(
            "one query may cost epsilon {} at most, and this one costs {}",
            agreement.budgets.epsilon_per_query,
            micro(asked.epsilon_micro)
        ),
        Clause::NotRevoked => String::from("the agreement or the researcher's key has been revoked"),
        Clause::Contribution => match schema {
            Some(schema) => format!(
                "in `{}` one person counts in at most {} groups with at most {} rows in each, and the plan asks for {} and {}",
                asked.dataset,
                schema.max_groups_per_person,
                schema.max_rows_per_person,
                asked.max_groups,
                asked.max_rows
            ),
            None => format!("no limits of contribution are agreed for `{}`", asked.dataset),
        },
        Clause::Evaluation => String::from(
            "the policy could not be evaluated without an error, which counts as no: the operator should report this",
        ),
        Clause::Evidence => {
            String::from("the task, its checked plan, its approvals and the agreement do not belong together")
        }
    }
}

fn explain_phase(agreement: &Agreement, asked: &Asked) -> String {
    match agreement.phase(asked.now) {
        Some(phase) => format!(
            "in the phase {} until {} the study permits {} at epsilon {} per query at most, and the task computes {} \
             at {}",
            phase.kind,
            phase.until,
            join(&phase.analyses),
            phase.epsilon_per_query,
            join(&asked.analyses),
            micro(asked.epsilon_micro)
        ),
        None => format!("the study is in none of its phases at {}", asked.now),
    }
}

fn explain_approval(asked: &Asked) -> String {
    match &asked.approval {
        Some(Approval::Missing { have, needed }) => {
            format!("{have} of {needed} people have approved the task here so far")
        }
        Some(Approval::RefusedBy { person, why }) => format!("{person} refuses: {}", shorten(why)),
        Some(Approval::Impossible) => String::from(
            "no class of automatic approval covers the task, and the study names nobody who could approve it",
        ),
        // What was given can fail only where it is not what the agreement's own terms say.
        Some(Approval::Automatic(_) | Approval::ByPeople(_)) | None => {
            String::from("the approval is not one that the agreement allows")
        }
    }
}

/// What each kind of computation in the task is limited to.
fn limits(agreement: &Agreement, asked: &Asked, limit: impl Fn(&AnalysisTerms) -> String) -> String {
    let terms = agreement.analyses.iter().filter(|terms| asked.analyses.contains(&terms.analysis));
    join(terms.map(|terms| format!("{} for {}", limit(terms), terms.analysis)))
}

/// Free text of people, cut so that it fits into a log entry, and without control characters.
pub(crate) fn shorten(text: &str) -> String {
    const SHOWN: usize = 400;
    text.chars().take(SHOWN).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

/// `a, b, c`, or `nothing`. At most twenty are shown: the text goes into a log entry of limited size.
pub(crate) fn join<T: std::fmt::Display>(items: impl IntoIterator<Item = T>) -> String {
    const SHOWN: usize = 20;
    let items: Vec<String> = items.into_iter().map(|item| item.to_string()).collect();
    match items.len() {
        0 => String::from("nothing"),
        count if count <= SHOWN => items.join(", "),
        count => format!("{} and {} more", items.into_iter().take(SHOWN).collect::<Vec<_>>().join(", "), count - SHOWN),
    }
}

/// Millionths as a decimal number.
fn micro(value: u64) -> String {
    let text = format!("{}.{:06}", value / 1_000_000, value % 1_000_000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_different_and_numbers_are_readable() {
        let names: BTreeSet<&str> = Clause::COMPILED.iter().map(|clause| clause.name()).collect();
        assert_eq!(names.len(), Clause::COMPILED.len());
        for (value, text) in [(0, "0"), (1, "0.000001"), (1_000_000, "1"), (10_250_000, "10.25")] {
            assert_eq!(micro(value), text);
        }
        assert_eq!(join(0..22), "0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19 and 2 more");
        assert_eq!(join([0; 0]), "nothing");
    }
}
