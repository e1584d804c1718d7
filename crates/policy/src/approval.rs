//! Whether a task that the policy permits may also run at a node: automatically, because people said yes, or not yet.
//!
//! The terms stand in the agreement ([`cohortium_messages::ApprovalTerms`]): classes of tasks that run by themselves,
//! plans that people have approved before, and how many people in which roles must say yes at *each* node. Whoever asks
//! does not approve (separation of duty: Saltzer and Schroeder 1975, principle e), and one refusal refuses.
//!
//! Only a node knows what its people said, and only later does anyone else, from the log. So the outcome is evidence,
//! [`Approvals`], about one task at one organisation; a hub that decides beforehand has none.
//!
//! Does not: wait, remind, or expire anything (the node does); look at what leaves (`hold` and dispatch are the node's).
//!
//! Assumes: entries were opened by [`crate::open_entry`]; the caller shows all that it has. A node that hides a refusal of
//! its own people deceives its own house.

use std::collections::BTreeSet;

use cohortium_messages::{Agreement, ApprovalClass, Fact, Hash, Name, PersonEntry, Task, Verified};
use cohortium_query::Priced;

use crate::entries::{Authored, Revoked};

/// How a task stands with the people of one organisation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Approval {
    /// It runs without asking anybody.
    Automatic(Automatic),
    /// These people said yes, sorted: as many as are needed or more.
    ByPeople(Vec<Name>),
    /// Not enough people said yes so far, and nobody said no.
    Missing {
        /// How many did.
        have: u32,
        /// How many must.
        needed: u32,
    },
    /// No class covers it, and the agreement names nobody who could say yes.
    Impossible,
    /// Somebody said no.
    RefusedBy {
        /// Who.
        person: Name,
        /// Why, in their words.
        why: String,
    },
}

/// Why a task runs without asking anybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Automatic {
    /// It is of a class of the agreement: the position in `approval.automatic.classes`.
    Class(usize),
    /// People here have approved the same plan before.
    Plan,
}

/// How one task stands with the people of one organisation, as evidence. Made by [`approvals`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Approvals {
    agreement: Hash,
    organisation: Name,
    outcome: Approval,
    plan: Hash,
    task: Hash,
}

/// How a task stands with the people of `organisation`.
///
/// Promise: given entries whose authors were checked, counts as yes only what different people of this organisation said
/// about this very task and plan, in a role that the agreement counts, with keys that were not taken back, and none of
/// them by name or key the one who asks; and returns a yes never when one of those who may approve said no. Argued, and
/// tested case by case.
///
/// `approved_plans` are the plans that people at this organisation approved before, under this agreement; it counts only
/// where the agreement says so. Entries about other things are passed over.
#[must_use]
pub fn approvals(
    agreement: &Verified<Agreement>,
    organisation: &Name,
    task: &Verified<Task>,
    priced: &Priced,
    entries: &[Authored],
    approved_plans: &BTreeSet<Hash>,
    revoked: &Revoked,
) -> Approvals {
    let said = said_here(agreement, organisation, task, priced, entries, revoked);
    let outcome = outcome(agreement, priced, &said, approved_plans);
    Approvals {
        agreement: agreement.hash(),
        organisation: organisation.clone(),
        outcome,
        plan: priced.plan_hash(),
        task: task.hash(),
    }
}

impl Approvals {
    /// Under which agreement.
    #[must_use]
    pub const fn agreement(&self) -> Hash {
        self.agreement
    }

    /// Whose people.
    #[must_use]
    pub const fn organisation(&self) -> &Name {
        &self.organisation
    }

    /// How it stands.
    #[must_use]
    pub const fn outcome(&self) -> &Approval {
        &self.outcome
    }

    /// About which plan.
    #[must_use]
    pub const fn plan(&self) -> Hash {
        self.plan
    }

    /// About which task.
    #[must_use]
    pub const fn task(&self) -> Hash {
        self.task
    }
}

impl Approval {
    /// Whether the task may run.
    #[must_use]
    pub const fn is_given(&self) -> bool {
        matches!(self, Self::Automatic(_) | Self::ByPeople(_))
    }

    /// Whether waiting for people may help.
    #[must_use]
    pub const fn may_wait(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// A yes or a no about this task, by somebody of this organisation who may say it.
struct Said<'a> {
    approved: bool,
    person: &'a PersonEntry,
    why: String,
}

fn said_here<'a>(
    agreement: &'a Verified<Agreement>,
    organisation: &Name,
    task: &Verified<Task>,
    priced: &Priced,
    entries: &[Authored],
    revoked: &Revoked,
) -> Vec<Said<'a>> {
    let asks = agreement.researcher(&task.researcher).map(|entry| entry.key);
    let is_whoever_asks =
        |person: &PersonEntry| person.person == task.researcher || asks.is_some_and(|key| key == person.key);
    let said = entries.iter().filter_map(|authored| {
        let Fact::Approval { approved, plan, task: about, why } = &authored.entry().fact else { return None };
        let (name, person) = authored.person(agreement)?;
        let counts = name == organisation
            && *about == task.hash()
            && *plan == priced.plan_hash()
            && authored.entry().agreement == agreement.hash()
            && person.role.may_approve()
            && !revoked.key(&person.key)
            && !is_whoever_asks(person);
        counts.then(|| Said { approved: *approved, person, why: why.clone() })
    });
    said.collect()
}

fn outcome(agreement: &Agreement, priced: &Priced, said: &[Said<'_>], approved_plans: &BTreeSet<Hash>) -> Approval {
    let terms = &agreement.approval;
    if let Some(no) = said.iter().find(|said| !said.approved) {
        return Approval::RefusedBy { person: no.person.person.clone(), why: no.why.clone() };
    }
    if let Some(position) = terms.automatic.classes.iter().position(|class| covers(class, priced)) {
        return Approval::Automatic(Automatic::Class(position));
    }
    if terms.automatic.approved_plans && approved_plans.contains(&priced.plan_hash()) {
        return Approval::Automatic(Automatic::Plan);
    }
    let counted = said.iter().filter(|said| terms.roles.contains(&said.person.role));
    let names: BTreeSet<&Name> = counted.map(|said| &said.person.person).collect();
    let have = u32::try_from(names.len()).unwrap_or(u32::MAX);
    match terms.needed {
        0 => Approval::Impossible,
        needed if have < needed => Approval::Missing { have, needed },
        _ => Approval::ByPeople(names.into_iter().cloned().collect()),
    }
}

/// Whether a class covers what the plan asks: all four must hold.
pub(crate) fn covers(class: &ApprovalClass, priced: &Priced) -> bool {
    let facts = priced.facts();
    facts.analyses.iter().all(|analysis| class.analyses.contains(analysis))
        && class.datasets.contains(&facts.dataset)
        && facts.cells <= u64::from(class.max_cells)
        // In 10^-9, exactly: ε is rounded up, so the comparison is against the one who asks.
        && i128::from(facts.epsilon_micro) * 1000 <= class.max_epsilon.nano()
}
