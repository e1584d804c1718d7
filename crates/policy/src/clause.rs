//! The clauses of an agreement, as a refusal names them, and the facts about a task that they are decided on.
//!
//! Names and order of the clauses are part of what the log and the researcher see (`study/clause`): a renamed clause is
//! a breaking change. This file decides nothing; the decision is Cedar's, over policies made in `compile.rs`.

use std::collections::BTreeSet;

use cohortium_messages::{Agreement, Analysis, ColumnRole, Name, Purpose, Timestamp};

/// What a task can fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Clause {
    /// The agreement is in force at the time of the decision.
    InForce,
    /// Whoever asks is a researcher of the agreement.
    Researcher,
    /// The purpose is covered by one that the data were given for.
    Purpose,
    /// The dataset is one of the agreement's.
    Dataset,
    /// Every column in `WHERE` may be filtered by.
    ColumnsFilter,
    /// Every column in `GROUP BY` may be grouped by.
    ColumnsGroup,
    /// Every column in an aggregate may be aggregated.
    ColumnsAggregate,
    /// Every kind of computation is permitted.
    Analyses,
    /// Exactly the parties take part.
    Participants,
    /// At least as many take part as the secure sum needs.
    Threshold,
    /// The price is at most what one query may cost.
    PricePerQuery,
    /// No custodian has revoked the agreement here.
    NotRevoked,
    /// One person contributes no more than the dataset's limits.
    Contribution,
    /// The policies could be evaluated, all of them, without an error. Not a policy: a check on the evaluation.
    Evaluation,
    /// Task, checked plan and agreement belong together. Not a policy: a check on what was handed in.
    Evidence,
}

impl Clause {
    /// The clauses that are compiled to policies, in the order in which a refusal lists them.
    pub const COMPILED: [Self; 13] = [
        Self::InForce,
        Self::Researcher,
        Self::Purpose,
        Self::Dataset,
        Self::ColumnsFilter,
        Self::ColumnsGroup,
        Self::ColumnsAggregate,
        Self::Analyses,
        Self::Participants,
        Self::Threshold,
        Self::PricePerQuery,
        Self::NotRevoked,
        Self::Contribution,
    ];

    /// The name under which a refusal lists it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::InForce => "in-force",
            Self::Researcher => "researcher",
            Self::Purpose => "purpose",
            Self::Dataset => "dataset",
            Self::ColumnsFilter => "columns-filter",
            Self::ColumnsGroup => "columns-group",
            Self::ColumnsAggregate => "columns-aggregate",
            Self::Analyses => "analyses",
            Self::Participants => "participants",
            Self::Threshold => "threshold",
            Self::PricePerQuery => "price-per-query",
            Self::NotRevoked => "not-revoked",
            Self::Contribution => "contribution",
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
    pub aggregate_columns: BTreeSet<Name>,
    pub analyses: BTreeSet<Analysis>,
    pub dataset: Name,
    /// The ε that the task alone would cost at the agreement's δ, in 10^-6, rounded up.
    pub epsilon_micro: u64,
    pub filter_columns: BTreeSet<Name>,
    pub group_columns: BTreeSet<Name>,
    pub max_groups: u32,
    pub max_rows: u32,
    pub now: Timestamp,
    pub participants: BTreeSet<Name>,
    pub purpose: Purpose,
    pub researcher: Name,
    pub revoked: bool,
}

/// The requested purpose and every one that would cover it: a task is for a permitted purpose when the agreement
/// grants at least one of these (DUO: DS < HMB < GRU).
pub(crate) fn purpose_and_broader(purpose: &Purpose) -> Vec<String> {
    let broader = [Purpose::HealthMedicalBiomedical, Purpose::GeneralResearch];
    let mut texts = vec![purpose.to_string()];
    texts.extend(broader.iter().filter(|other| *other != purpose && other.permits(purpose)).map(ToString::to_string));
    texts
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
            format!("the study permits {}, and the task computes {}", join(&agreement.analyses), join(&asked.analyses))
        }
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
        Clause::NotRevoked => String::from("the agreement has been revoked here"),
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
        Clause::Evidence => String::from("the task, its checked plan and the agreement do not belong together"),
    }
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

    /// The computed set covers exactly what `Purpose::permits` says, both ways.
    #[test]
    fn broader_purposes_agree_with_the_hierarchy() {
        let all: Vec<Purpose> = ["GRU", "HMB", "DS:MONDO:1", "DS:MONDO:2"].iter().map(|p| p.parse().unwrap()).collect();
        for requested in &all {
            let covering = purpose_and_broader(requested);
            for granted in &all {
                assert_eq!(
                    covering.contains(&granted.to_string()),
                    granted.permits(requested),
                    "{granted} {requested}"
                );
            }
        }
    }

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
