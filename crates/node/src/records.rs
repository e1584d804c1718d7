//! What a node remembers: the tables of its store and the shape of their records.
//!
//! Records are JSON, so that the organisation's own auditor can open the store with `sqlite3`. Secrets of a round are
//! the exception: one opaque field, gone when the round ends.

use cohortium_messages::{Call, Envelope, Hash, Name, RoundContext, Schema, Timestamp};
use cohortium_store::Table;
use serde::{Deserialize, Serialize};

/// Account entries, by dataset and sequence number.
pub(crate) const ACCOUNT: Table = Table::new("account");
/// Agreements in force or past, by study.
pub(crate) const AGREEMENTS: Table = Table::new("agreements");
/// Pairwise chains, by agreement and peer. Secret.
pub(crate) const CHAINS: Table = Table::new("chains");
/// What leaves, by sequence number.
pub(crate) const JOURNAL: Table = Table::new("journal");
/// Single facts: how far the inbox was handled and the journal was sent, why the node halted.
pub(crate) const META: Table = Table::new("meta");
/// Offers as last journaled, by dataset.
pub(crate) const OFFERS: Table = Table::new("offers");
/// Releases of tasks that this node took part in, by task.
pub(crate) const RELEASES: Table = Table::new("releases");
/// Runs, by task.
pub(crate) const RUNS: Table = Table::new("runs");
/// Bytes of masked vectors, by SHA-256, until they are sent.
pub(crate) const VECTORS: Table = Table::new("vectors");
/// What this node witnessed of the hub's log.
pub(crate) const WITNESS: Table = Table::new("witness");

/// A dataset of this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetRecord {
    /// δ of the total budget.
    pub delta: cohortium_messages::Decimal,
    /// What was drawn for the salt of the commitment: with the house's own salt, an auditor can be shown this one.
    pub draw: Hash,
    /// ε that all studies and researchers together may spend.
    pub epsilon: cohortium_messages::Decimal,
    /// The dataset's name.
    pub name: Name,
    /// Its declared shape.
    pub schema: Schema,
    /// The salted commitment to its rows.
    pub snapshot: Hash,
}

/// Where a run stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// Permitted; the price is reserved, shares are sent.
    Permitted,
    /// Rows may have been read.
    Reading,
    /// The masked vector is in the journal.
    Masked,
    /// The survivor set is signed.
    Signed,
    /// Shares are revealed.
    Revealed,
    /// The round goes on without this node, whose vector came too late.
    LeftOut,
    /// The answer is out.
    Released,
    /// This node refused.
    Refused,
    /// The round was void.
    Void,
}

impl std::fmt::Display for RunState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Permitted => "permitted",
            Self::Reading => "reading",
            Self::Masked => "masked",
            Self::Signed => "signed",
            Self::Revealed => "revealed",
            Self::LeftOut => "left out",
            Self::Released => "released",
            Self::Refused => "refused",
            Self::Void => "void",
        })
    }
}

/// One node's execution of one task.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunRecord {
    /// When the task reached this node.
    pub began_at: Timestamp,
    /// The round, once permitted.
    pub context: Option<RoundContext>,
    /// The dataset asked about.
    pub dataset: Name,
    /// SHA-256 of the masked vector, once made.
    pub masked: Option<Hash>,
    /// The secrets of the round, opaque, while it lasts.
    pub(crate) member: Option<String>,
    /// Index of the task's entry in the hub's log: the order in which tasks were asked.
    pub position: u64,
    /// The number of the account's entry that says that rows may have been read, once they may.
    pub(crate) reading_at: Option<u64>,
    /// Who asks.
    pub researcher: Name,
    /// The commitment to the rows as they were when the task was permitted.
    pub snapshot: Option<Hash>,
    /// Where it stands.
    pub state: RunState,
    /// The study.
    pub study: Name,
    /// Who is in the sum, as signed.
    pub survivors: Vec<Name>,
    /// The signed task.
    pub task: Envelope,
    /// In words: what is waited for, or why it ended.
    pub why: String,
}

/// One thing that left or will leave.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JournalRecord {
    /// The call that carries it.
    pub call: Call,
    /// The kind of [`crate::Outgoing`].
    pub kind: String,
    /// When it was made.
    pub made_at: Timestamp,
    /// The task it belongs to.
    pub task: Option<Hash>,
    /// The vector whose bytes follow the call.
    pub vector: Option<Hash>,
    /// What it means that this leaves.
    pub words: String,
}
