//! One page per study for whoever answers for privacy: who, what was asked, what was refused and why, what was released,
//! what it cost, and whether all of it was verified.
//!
//! The page is one file of HTML: no script, no font, no picture from elsewhere, so that it can be archived, printed and
//! opened on a machine without a network. Its numbers come from the same examination as [`verify`](crate::verify), on the
//! same files; it is not signed, and whoever doubts it runs the audit again and compares the bytes.
//!
//! | file | what it says |
//! |---|---|
//! | `page` | the order of the page |
//! | `verdict` | the box at its top: whether the log verified, and what happened in a few lines |
//! | `noted` | alerts, stops, incidents, what was taken back |
//! | `broken` | the page of a log that breaks a rule |
//! | `asked` | the tasks, one by one |
//! | `chart` | how the budgets were spent, as pictures |
//! | `words` | clauses in words |
//!
//! **Privacy.** Everything here stands in the log or beside it: signed documents, and released cells with their noise. Nothing
//! else about rows is known to an auditor. A released table is shown up to a limit of rows.
//!
//! **Adversary.** Researchers, members and the hub write titles, SQL, purposes and reasons: all of it is text and stays text
//! (`markup`). They date their entries by their own clocks: pictures follow the order of the log, which nobody dates.

pub(crate) mod asked;
mod broken;
pub(crate) mod chart;
mod noted;
mod page;
mod verdict;
mod words;

use std::path::Path;

use cohortium_messages::Envelope;
use cohortium_policy::open_agreement;

use crate::AuditError;
use crate::examine::Examined;

/// A page, and whether it may be shown as evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page {
    /// The whole file.
    pub html: String,
    /// Whether nothing is wrong. If not, the page says so at its top: the log breaks a rule, members contradict their own
    /// accounts, or entries of the study could not be checked.
    pub verified: bool,
    /// What is wrong, where the log breaks a rule; then the page says that and nothing else.
    pub wrong: Option<String>,
}

/// Writes the page of the study whose agreement is handed in, from the hub's log in `dir`.
///
/// Given a log that [`verify`](crate::verify) accepts, or refuses for no more than that members contradict their own
/// accounts or that entries of the study could not be checked, returns what happened in this study alone; given another,
/// what is wrong with it and the entry of this study that is. Always in the same bytes; never another study's tasks, and
/// never more of rows than the released cells. Argued: the page is made from what was examined, and holds no clock.
///
/// # Errors
/// Where not all custodians signed the agreement: there is no study whose page it could be.
pub fn report(dir: &Path, agreement: &Envelope) -> Result<Page, AuditError> {
    let given = open_agreement(agreement).map_err(crate::unusable)?;
    let written = Examined::new(dir, agreement).and_then(|examined| page::write(&examined));
    Ok(written.unwrap_or_else(|error| broken::write(dir, &given, &error)))
}
