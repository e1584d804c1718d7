//! What a task takes from the budgets of this house: before it is permitted as it would be, afterwards as it was.

use cohortium_dp::account::{Reservation, Scope};
use cohortium_dp::{Account, Next};
use cohortium_messages::Budgets as BudgetTerms;
use cohortium_node::view::View;
use cohortium_query::Priced;
use serde::Serialize;

use crate::desk::Case;
use crate::output::Failure;

/// One budget before and after.
#[derive(Serialize)]
pub struct Budget {
    /// Whose.
    pub of: String,
    pub total: f64,
    pub left: f64,
    /// What would be left; nothing where this task is in it already, or cannot be paid.
    pub after: Option<f64>,
}

/// Every budget that a task draws on.
pub struct Budgets {
    pub each: Vec<Budget>,
    /// What became of the price, where it was reserved here.
    pub account: Option<cohortium_dp::RunState>,
    /// Why the budgets do not suffice, where they do not.
    pub unpaid: Option<String>,
}

impl Budgets {
    pub fn of(view: &View, case: &Case, priced: Option<&Priced>) -> Result<Self, Failure> {
        let Some((record, account)) = view.accounts()?.into_iter().find(|(record, _)| record.name == case.run.dataset)
        else {
            let unpaid = Some(String::from("this node has no such dataset"));
            return Ok(Self { each: Vec::new(), account: None, unpaid });
        };
        let (after, unpaid) = match priced {
            Some(priced) => paid(&account, case, priced),
            None => (None, None),
        };
        let terms = in_force(view, case)?;
        let (study, researcher) = (&case.run.study, &case.run.researcher);
        let scopes = [
            (Scope::Dataset, format!("dataset {}, everyone", record.name), record.epsilon),
            (Scope::Study(study.to_string()), format!("study {study}"), terms.epsilon_total),
            (
                Scope::Researcher(format!("{study}/{researcher}")),
                format!("{researcher} in {study}"),
                terms.epsilon_per_researcher,
            ),
        ];
        let each = scopes.into_iter().filter_map(|(scope, of, total)| {
            let left = account.remaining_epsilon_of(&scope)?;
            let after = after.as_ref().and_then(|after| after.remaining_epsilon_of(&scope));
            Some(Budget { of, total: total.to_f64(), left, after })
        });
        Ok(Self { each: each.collect(), account: account.state(&case.hash.to_string(), 0), unpaid })
    }
}

/// What the study's agreement says now: what is left is counted by it, whatever revision the task was asked under.
fn in_force(view: &View, case: &Case) -> Result<BudgetTerms, Failure> {
    let held = view.agreements()?.into_iter().map(|(agreement, _)| agreement);
    let now = held.into_iter().find(|agreement| agreement.study == case.run.study);
    Ok(now.map_or_else(|| case.agreement.budgets.clone(), |agreement| agreement.budgets))
}

/// The account as it would be with this task's price reserved; or why it cannot be. Nothing is written.
fn paid(account: &Account, case: &Case, priced: &Priced) -> (Option<Account>, Option<String>) {
    let reservation = Reservation {
        researcher: format!("{}/{}", case.run.study, case.run.researcher),
        study: case.run.study.to_string(),
        task: case.hash.to_string(),
        round: 0,
        price: priced.price().clone(),
        time: None,
    };
    match account.reserve(&reservation) {
        Ok(Next::Write(entry)) => {
            let mut after = account.clone();
            let applied = after.apply(&entry).is_ok();
            (applied.then_some(after), None)
        }
        Ok(Next::Already(_)) => (None, None),
        Err(refusal) => (None, Some(refusal.to_string())),
    }
}
