//! `cohortium audit`: check offline what happened. Needs files only: no server, no key of anyone.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_audit::{AccountReport, AuditReport, Finding, LogReport, Outcome, OwnLogReport, TaskReport};
use cohortium_messages::{Envelope, Name};

use crate::output::{Failure, Output, table};
use crate::query::micro;

#[derive(Subcommand)]
pub enum Command {
    /// Check a log against a signed agreement: the hub's, or with --node a node's own
    Verify {
        /// The log's directory: `checkpoint`, `tile/`, `body/` (default: `log` in --home)
        #[arg(long)]
        log: Option<PathBuf>,
        /// The signed agreement, as `study show STUDY --out FILE` writes it
        #[arg(long)]
        agreement: PathBuf,
        /// The log is this node's own, not the hub's
        #[arg(long)]
        node: Option<Name>,
    },
}

pub fn run(command: &Command, home: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let Command::Verify { log, agreement, node } = command;
    let log = log.clone().or_else(|| home.map(|home| home.join("log")));
    let log = log.ok_or_else(|| Failure::usage("say which log: --log DIR (or --home of the hub)"))?;
    let progress = output.progress("checking");
    match node {
        None => {
            let report = verify(&log, agreement)?;
            drop(progress);
            output.result(&report, || format!("The log keeps every rule.\n{}", summary(&report)))
        }
        Some(node) => {
            let report = verify_own(&log, agreement, node)?;
            drop(progress);
            output.result(&report, || format!("{node}'s own log keeps every rule.\n{}", own_summary(&report)))
        }
    }
}

/// Checks a hub's log directory against a signed agreement in a file.
pub fn verify(log: &Path, agreement: &Path) -> Result<AuditReport, Failure> {
    cohortium_audit::verify(log, &read(agreement)?).map_err(Failure::not_verified)
}

fn verify_own(log: &Path, agreement: &Path, node: &Name) -> Result<OwnLogReport, Failure> {
    let agreement = cohortium_policy::open_agreement(&read(agreement)?).map_err(Failure::not_verified)?;
    let entry =
        agreement.party(node).ok_or_else(|| Failure::usage(format!("{node} is not a party of this agreement")))?;
    cohortium_audit::verify_own_log(log, entry).map_err(Failure::not_verified)
}

fn read(agreement: &Path) -> Result<Envelope, Failure> {
    let text = std::fs::read(agreement).map_err(|error| Failure::usage(format!("{}: {error}", agreement.display())))?;
    serde_json::from_slice(&text)
        .map_err(|_| Failure::not_verified(format!("{} is no signed agreement", agreement.display())))
}

/// What was checked and found, in words.
pub fn summary(report: &AuditReport) -> String {
    let mut text = head(&report.log, report.entries.iter().map(|(kind, count)| format!("{count} {kind}")));
    let tasks = report.tasks.iter().map(task_row);
    if !report.tasks.is_empty() {
        let _ =
            writeln!(text, "{}", table(&["entry", "task", "asked", "researcher", "dataset", "ε", "outcome"], tasks));
    }
    if !report.accounts.is_empty() {
        let _ = writeln!(
            text,
            "{}",
            table(&["node", "dataset", "study", "ε spent", "of"], report.accounts.iter().map(account_row))
        );
    }
    text + &findings(&report.findings)
}

fn own_summary(report: &OwnLogReport) -> String {
    head(&report.log, report.entries.iter().map(|(kind, count)| format!("{count} {kind}")))
        + &findings(&report.findings)
}

fn head(log: &LogReport, entries: impl Iterator<Item = String>) -> String {
    let cosigners: Vec<&str> = log.cosigned_by.iter().map(|cosigner| cosigner.organisation.as_str()).collect();
    let cosigned = if cosigners.is_empty() { String::new() } else { format!(", cosigned by {}", cosigners.join(", ")) };
    format!("Log `{}`: {} entries ({}){cosigned}.\n", log.origin, log.size, entries.collect::<Vec<_>>().join(", "))
}

fn task_row(task: &TaskReport) -> Vec<String> {
    let outcome = match &task.outcome {
        Outcome::Failed { reason } => format!("failed: {reason}"),
        Outcome::Open => String::from("open"),
        Outcome::Refused { clauses } => format!("refused: {}", clauses.join(", ")),
        Outcome::Released { entry, .. } => format!("released at entry {entry}"),
    };
    vec![
        task.entry.to_string(),
        task.task.short(),
        task.asked_at.to_string(),
        task.researcher.to_string(),
        task.dataset.to_string(),
        task.epsilon_micro.map_or_else(|| String::from("–"), |epsilon| format!("{:.3}", micro(epsilon))),
        outcome,
    ]
}

fn account_row(account: &AccountReport) -> Vec<String> {
    vec![
        account.node.to_string(),
        account.dataset.to_string(),
        account.study.to_string(),
        format!("{:.3}", account.epsilon_spent),
        account.epsilon_total.to_string(),
    ]
}

fn findings(findings: &[Finding]) -> String {
    let line = |finding: &Finding| match finding.entry {
        Some(entry) => format!("Note on entry {entry}: {}\n", finding.text),
        None => format!("Note: {}\n", finding.text),
    };
    findings.iter().map(line).collect()
}
