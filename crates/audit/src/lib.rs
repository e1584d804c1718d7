//! What anyone can repeat offline, from files alone: the hub's log, and the agreement that its custodians signed.
//!
//! Why this exists. Hub, nodes and researchers each say what they did; whoever was not there should not have to believe
//! them. [`verify`] starts from one thing that people compared by hand (the agreement, with everyone's keys) and repeats
//! the rest: the Merkle tree and its cosignatures, every author's signature, every document beside the log, every
//! decision of the policy, every price, every account, every release. No server, no network, no secret. The idea that
//! an accountable system is one whose log lets a stranger recompute its decisions is Haeberlen, Kouznetsov and Druschel's
//! (2007, "PeerReview: Practical Accountability for Distributed Systems"), with a tree in place of their chains.
//!
//! | file | what it repeats |
//! |---|---|
//! | `leaf` | an entry is canonical, and signed by the author it names under the key that the agreement states |
//! | `body` | a document beside the log is there, is the one that its entry names, and is named by an entry |
//! | `head` | the log's head counts: enough members cosigned it, and everybody who did is known |
//! | `study` | which agreements are signed by all their custodians: what entries are judged by |
//! | `standing` | what holds until something else is said: approvals, freezes, revocations |
//! | `task` | the way of each task: asked, permitted, paid, released; or refused, or failed |
//! | `account` | each node's account: one chain, no more spent than agreed, the sum of its tasks' prices |
//! | `examine` | all of this, in order |
//! | `outcome` | what was found, for programs |
//! | `own` | a node's own log, for its house |
//! | [`export`](mod@export) | the evidence of one release as a folder that other people's tools read |
//! | [`incident`] | incidents of a house, from its node's own log |
//! | [`report`](mod@report) | one page per study, for a privacy officer |
//!
//! **What is wrong and what is merely missing.** An [`AuditError`] says that somebody did what the agreement forbids, or
//! that files were changed; it names the file or the entry, and the audit ends there. One kind of wrong is a member's
//! alone: what it signs about its own accounts. It cannot be known when it is logged, and must not keep the others from
//! their audit: everything else is still judged, and [`AuditError::Members`] holds the whole report. A [`Finding`] is
//! something that an honest party may leave behind (a node that is offline and has not said what became of a price) and
//! that a reader should know. Nothing is passed over in silence.
//!
//! **What this does not do.** It cannot see whether the released numbers are the sum (only the nodes together know), nor
//! whether a node read the rows that its snapshot commits to. It cannot see what was never logged, nor that a whole
//! directory is an older state of the log: compare its size with a receipt or an earlier report. Clocks in entries are
//! their authors' own. Documents that were erased after their retention are reported as missing. When a
//! node heard of another custodian's revocation is not in the log, so its permits after that are not held against it.
//!
//! **Adversary.** Whoever had the directory in hand, the hub included; researchers; up to `c` organisations. The agreement
//! that is handed in is believed: it must be the one whose fingerprint the reader has compared. Agreements of *other*
//! studies are taken from the log itself: that they are signed by all their parties is checked, who those are is not.
//! Nothing in the files can panic, and whatever is read is bounded in size.

mod account;
mod body;
mod examine;
pub mod export;
mod head;
pub mod incident;
mod leaf;
mod markup;
mod outcome;
mod own;
pub mod report;
mod standing;
mod study;
mod task;

use std::path::Path;

use cohortium_ledger::VerifyError;
use cohortium_messages::{Envelope, Name};

pub use outcome::{
    AccountReport, ApprovalReport, AuditReport, Cosigner, Finding, FindingKind, LogReport, Outcome, OwnLogReport,
    StudyReport, TaskReport,
};

pub use export::{Attester, AttesterPart, ExportError, Exported, export};
pub use incident::{ExportedIncident, House, HubLog, Incident, Incidents, PassedOver, Step, export_incident};
pub use own::verify_own_log;
pub use report::{Page, report};

use examine::Examined;

/// Why a log must not be believed.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The agreement cannot carry an audit of this log. Whoever handed it in must bring the right one, or its custodians
    /// must mend it.
    #[error("agreement: {why}")]
    Agreement {
        /// What is wrong with it.
        why: String,
    },
    /// The directory is not the log that was signed and cosigned. Names the file.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// An entry must not be there, or not here. Its author, whose signature is on it, or the hub, who logged it, must
    /// answer for it.
    #[error("log: entry {index}: {why}")]
    Entry {
        /// Which, from 0.
        index: u64,
        /// What is wrong.
        why: String,
    },
    /// A document beside the log belongs to no entry. The hub's operator must erase it (a crash may leave one) or
    /// explain it.
    #[error("log: {file}: {why}")]
    Body {
        /// Path relative to the directory.
        file: String,
        /// What is wrong.
        why: String,
    },
    /// Entries of the study could not be checked, and nothing else is wrong: the log does not hold the agreement that they
    /// are under with the signatures of all its custodians. The hub must show it; a reader who has it hands that one in.
    #[error(
        "log: {count} entries of study {study} were not checked, the first at {first}: the log does not hold their agreement signed by all its custodians"
    )]
    NotCovered {
        /// How many; what custodians only propose is not counted.
        count: u64,
        /// The first of them.
        first: u64,
        /// Everything that was found.
        report: Box<AuditReport>,
        /// The study.
        study: Name,
    },
    /// Members contradict their own accounts, and nothing else is wrong. They must answer for it; the report says who, and
    /// what else there is.
    #[error("log: {first}")]
    Members {
        /// The first contradiction, in words: the entry, and whose word it is.
        first: String,
        /// Everything that was found.
        report: Box<AuditReport>,
    },
}

/// Verifies the hub's log in `dir` against an agreement, offline.
///
/// Given a directory and an agreement, returns a report only if every custodian signed the agreement, as many parties
/// cosigned the log's head as its log policy asks, or that of an amendment that all custodians signed, every byte of the
/// directory is accounted for, and every entry of every study whose agreement is known keeps the rules of [the tasks](TaskReport) and of [the accounts](AccountReport); never on anybody's word.
/// Argued: Ed25519 and SHA-256 under the agreement's keys, and each rule is the one that hub and nodes themselves keep.
/// Reads only.
///
/// # Errors
/// The first thing that is wrong: see [`AuditError`] for who must act.
pub fn verify(dir: &Path, agreement: &Envelope) -> Result<AuditReport, AuditError> {
    let examined = Examined::new(dir, agreement)?;
    let report = examined.report();
    let first = report.findings.iter().find(|finding| finding.kind == FindingKind::Contradiction);
    match first.map(|finding| format!("entry {}: {}", finding.entry.unwrap_or_default(), finding.text)) {
        Some(first) => Err(AuditError::Members { first, report: Box::new(report) }),
        None => examined.demand_covered().map(|()| report),
    }
}

/// An error at an entry.
fn at(index: u64, why: impl Into<String>) -> AuditError {
    AuditError::Entry { index, why: outcome::printable(&why.into()) }
}

/// An agreement that cannot be used.
fn unusable(why: impl std::fmt::Display) -> AuditError {
    AuditError::Agreement { why: outcome::printable(&why.to_string()) }
}
