//! The agreement read directly, for this room's tests: what compiled policies must agree with.
//!
//! Written from the documentation of the clauses, clause by clause, with none of the compiler's code.

use std::collections::BTreeSet;

use cohortium_messages::{Agreement, AnalysisTerms, ColumnRole, Decimal, Name, ReleaseMode};

use crate::approval::Approval;
use crate::clause::{Asked, Clause};

/// Whether every clause holds.
pub(crate) fn permits(agreement: &Agreement, asked: &Asked) -> bool {
    Clause::COMPILED.into_iter().all(|clause| holds(clause, agreement, asked))
}

/// Reads the agreement directly, sharing nothing with the compiler but the list of clauses.
pub(crate) fn holds(clause: Clause, agreement: &Agreement, asked: &Asked) -> bool {
    let terms = agreement.dataset(&asked.dataset);
    let schema = terms.map(|terms| &terms.schema);
    let columns = |role, used: &BTreeSet<Name>| {
        schema.is_some_and(|s| used.iter().all(|name| s.column(name).is_some_and(|c| c.allows(role))))
    };
    let costs_at_most = |epsilon: Decimal| i128::from(asked.epsilon_micro) * 1000 <= epsilon.nano();
    let of_each = |limit: &dyn Fn(&AnalysisTerms) -> bool| {
        asked.analyses.iter().all(|analysis| agreement.analysis(*analysis).is_none_or(limit))
    };
    match clause {
        Clause::InForce => agreement.is_in_force(asked.now),
        Clause::Phase => {
            agreement.phases.is_empty()
                || agreement.phase(asked.now).is_some_and(|phase| {
                    asked.analyses.iter().all(|a| phase.analyses.contains(a)) && costs_at_most(phase.epsilon_per_query)
                })
        }
        Clause::Researcher => agreement.researcher(&asked.researcher).is_some(),
        Clause::Purpose => agreement.purposes.iter().any(|granted| granted.permits(&asked.purpose)),
        Clause::Conditions => agreement.conditions.iter().all(|c| asked.affirms.contains(&c.modifier)),
        Clause::Dataset => terms.is_some(),
        Clause::ReleaseMode => terms.is_some_and(|terms| terms.mode == ReleaseMode::Noised),
        Clause::ColumnsFilter => columns(ColumnRole::Filter, &asked.filter_columns),
        Clause::ColumnsGroup => columns(ColumnRole::Group, &asked.group_columns),
        Clause::ColumnsAggregate => columns(ColumnRole::Aggregate, &asked.aggregate_columns),
        Clause::Analyses => asked.analyses.iter().all(|analysis| agreement.analysis(*analysis).is_some()),
        Clause::Cells => of_each(&|terms| asked.cells <= u64::from(terms.max_cells)),
        Clause::MinimumCohort => terms.is_some_and(|terms| terms.minimum_cohort == 0 || asked.counts_groups),
        Clause::Participants => agreement.participants().iter().eq(&asked.participants),
        Clause::Threshold => asked.participants.len() >= agreement.secure_sum.threshold as usize,
        Clause::PricePerQuery => costs_at_most(agreement.budgets.epsilon_per_query),
        Clause::PricePerAnalysis => of_each(&|terms| costs_at_most(terms.max_epsilon)),
        Clause::NotRevoked => !asked.revoked,
        Clause::Contribution => schema
            .is_some_and(|s| asked.max_rows <= s.max_rows_per_person && asked.max_groups <= s.max_groups_per_person),
        Clause::Frozen => !asked.frozen,
        Clause::Approval => match &asked.approval {
            None => true,
            Some(Approval::Automatic(_)) => {
                let automatic = &agreement.approval.automatic;
                automatic.approved_plans || !automatic.classes.is_empty()
            }
            Some(Approval::ByPeople(people)) => {
                agreement.approval.needed > 0 && people.len() >= agreement.approval.needed as usize
            }
            Some(Approval::Missing { .. } | Approval::Impossible | Approval::RefusedBy { .. }) => false,
        },
        Clause::Evaluation | Clause::Evidence => true,
    }
}
