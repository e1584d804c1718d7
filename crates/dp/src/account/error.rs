//! Why the account refuses, and who must act.

use thiserror::Error;

use super::entry::{ENTRY_VERSION, EntryKind, MAX_NAME_LEN, MAX_ROUNDS, RunState};
use super::{MAX_ENTRIES, Shortfall};
use crate::price::GRID_VERSION;

/// Why a reservation is refused. The researcher must ask for less, or the custodians must widen a budget.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// Some budgets do not suffice.
    #[error("researcher: over budget: {}", listed(shortfalls))]
    OverBudget {
        /// Every scope that falls short.
        shortfalls: Vec<Shortfall>,
    },
    /// The same (task, round) is in the book on other terms.
    #[error("researcher: this task and round were reserved with another price, study, researcher or number of rounds")]
    Conflict,
    /// Not a schedule.
    #[error("caller: a schedule has 1 to {MAX_ROUNDS} rounds and is reserved at round 0")]
    Rounds,
    /// The price was computed on a grid we do not know.
    #[error("caller: price version {found} is unknown here; this account speaks version {GRID_VERSION}")]
    PriceVersion {
        /// What the price says.
        found: u32,
    },
    /// A field is malformed.
    #[error("caller: {field} must be 1 to {MAX_NAME_LEN} characters of printable ASCII")]
    Form {
        /// Which.
        field: &'static str,
    },
    /// The book is full, or would be once every open run has its entries.
    #[error("operator: the account has reached {MAX_ENTRIES} entries; open a new dataset version")]
    Full,
}

/// Why an entry does not fit the book.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AccountError {
    /// A gap or a repetition.
    #[error("operator: account entry {found} where {expected} must follow: the book is incomplete or out of order")]
    Sequence {
        /// What must follow.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The chain is broken.
    #[error("operator: account entry {sequence} does not continue the chain: the book was altered or rolled back")]
    Previous {
        /// Which entry.
        sequence: u64,
    },
    /// An entry of another account.
    #[error("operator: account entry {sequence} belongs to another dataset")]
    OtherDataset {
        /// Which entry.
        sequence: u64,
    },
    /// An entry of rules we do not know.
    #[error("operator: account entry version {found} is unknown here; this is version {ENTRY_VERSION}")]
    Version {
        /// What the entry says.
        found: u32,
    },
    /// A later entry names another price, study, researcher or number of rounds.
    #[error("operator: account entry {sequence} differs in price, study, researcher or rounds from its reservation")]
    Terms {
        /// Which entry.
        sequence: u64,
    },
    /// An illegal step.
    #[error("caller: {kind:?} is not possible for a run in state {from:?}")]
    Transition {
        /// Where the run stands; `None` if it was never reserved.
        from: Option<RunState>,
        /// What was asked.
        kind: EntryKind,
    },
    /// No such run.
    #[error("caller: this task and round were never reserved")]
    UnknownRun,
    /// A round of a schedule out of its turn.
    #[error("caller: the rounds of a schedule run in order, one at a time; round {next} is next")]
    Order {
        /// The round whose turn it is.
        next: u32,
    },
    /// A refund of one round of a schedule, or a cancellation of single runs.
    #[error("caller: a schedule is cancelled as a whole, a single run is refunded")]
    NotThisWay,
    /// A snapshot that contradicts itself or belongs elsewhere.
    #[error("operator: the snapshot is unusable ({reason}); replay the entries instead")]
    Snapshot {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// A reservation that must be refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An entry could not be encoded.
    #[error("us: an account entry could not be encoded")]
    Encoding,
}

fn listed(shortfalls: &[Shortfall]) -> String {
    shortfalls.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}
