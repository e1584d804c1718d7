//! `cohortium account`: what was spent at a node and what is left.

use std::path::Path;

use clap::Subcommand;
use cohortium_dp::account::Scope;
use cohortium_messages::Name;
use serde::Serialize;

use crate::output::{Failure, Output, table};
use crate::session::open_view;

#[derive(Subcommand)]
pub enum Command {
    /// Show the accounts of this node's datasets
    Show {
        /// Only this dataset
        dataset: Option<Name>,
    },
}

/// One budget of a dataset: its total, a study's share, a researcher's share.
#[derive(Debug, Clone, Serialize)]
pub struct Line {
    pub dataset: Name,
    /// δ of the epsilons in this line.
    pub delta: f64,
    pub epsilon_budget: f64,
    pub epsilon_left: f64,
    /// Sequence number of the account's last entry.
    pub entries: u64,
    pub scope: String,
}

pub fn run(command: &Command, home: &Path, output: &Output) -> Result<(), Failure> {
    let Command::Show { dataset } = command;
    let mut lines = lines(home)?;
    if let Some(dataset) = dataset {
        lines.retain(|line| line.dataset == *dataset);
        if lines.is_empty() {
            return Err(Failure::usage(format!("this node has no dataset `{dataset}`")));
        }
    }
    output.result(&serde_json::json!({ "accounts": lines }), || {
        let rows = lines.iter().map(|line| {
            vec![
                line.dataset.to_string(),
                line.scope.clone(),
                format!("{:.3}", line.epsilon_budget),
                format!("{:.3}", line.epsilon_left),
                format!("{:e}", line.delta),
                line.entries.to_string(),
            ]
        });
        table(&["dataset", "budget of", "ε budget", "ε left", "δ", "entries"], rows)
    })
}

/// Every budget at a node.
pub fn lines(home: &Path) -> Result<Vec<Line>, Failure> {
    let view = open_view(home)?;
    let agreements = view.agreements()?;
    let mut lines = Vec::new();
    for (record, account) in view.accounts()? {
        let mut push = |scope: &Scope, shown: String, epsilon_budget: f64, delta: f64| {
            if let Some(epsilon_left) = account.remaining_epsilon_of(scope) {
                let (dataset, entries) = (record.name.clone(), account.sequence());
                lines.push(Line { dataset, delta, epsilon_budget, epsilon_left, entries, scope: shown });
            }
        };
        push(&Scope::Dataset, String::from("everyone"), record.epsilon.to_f64(), record.delta.to_f64());
        for (agreement, _) in agreements.iter().filter(|(agreement, _)| agreement.dataset(&record.name).is_some()) {
            let (study, terms) = (&agreement.study, &agreement.budgets);
            let delta = terms.delta.to_f64();
            push(&Scope::Study(study.to_string()), format!("study {study}"), terms.epsilon_total.to_f64(), delta);
            for researcher in agreement.researchers.iter().map(|terms| &terms.entry.researcher) {
                let scope = format!("{study}/{researcher}");
                let shown = format!("{researcher} in {study}");
                push(&Scope::Researcher(scope), shown, terms.epsilon_per_researcher.to_f64(), delta);
            }
        }
    }
    Ok(lines)
}
