//! What a node remembers: the tables of its store and the shape of their records.
//!
//! Records are JSON, so that the organisation's own auditor can open the store with `sqlite3`. Secrets of a round are
//! the exception: one opaque field, gone when the round ends.

use std::collections::BTreeSet;

use cohortium_messages::{Call, Envelope, Hash, Name, RoundContext, Schema, Timestamp};
use cohortium_store::Table;
use serde::{Deserialize, Serialize};

/// Who asked or changed what, by number: a help for the house, and no promise to others.
pub(crate) const ACCESS: Table = Table::new("access");
/// Account entries, by dataset and sequence number.
pub(crate) const ACCOUNT: Table = Table::new("account");
/// The agreement in force of each study, by study.
pub(crate) const AGREEMENTS: Table = Table::new("agreements");
/// Alerts that this node raised, as log entries, by number.
pub(crate) const ALERTS: Table = Table::new("alerts");
/// Pairwise chains, by agreement and peer. Secret.
pub(crate) const CHAINS: Table = Table::new("chains");
/// That the house's custodian consents to an amendment: its entries, by agreement.
pub(crate) const CONSENTS: Table = Table::new("consents");
/// What the logs of others showed that contradicts what they showed before, by log.
pub(crate) const EVIDENCE: Table = Table::new("evidence");
/// Entries from the desk that were acted upon, by their hash.
pub(crate) const HEARD: Table = Table::new("heard");
/// What is made and waits for a person to let it out, by task.
pub(crate) const HELD: Table = Table::new("held");
/// Incidents that were opened here: the last step of each, by name.
pub(crate) const INCIDENTS: Table = Table::new("incidents");
/// Amendments that were not let in, by study, revision and hash.
pub(crate) const KEPT: Table = Table::new("kept_amendments");
/// What leaves, by sequence number.
pub(crate) const JOURNAL: Table = Table::new("journal");
/// What was laid before the hub and is not yet shown to be in its log, by hash of the entry.
pub(crate) const LAID: Table = Table::new("laid");
/// Single facts: how far the inbox was handled and the journal was sent, why the node halted, how long lists are.
pub(crate) const META: Table = Table::new("meta");
/// What other members let the study know: their entries, by study and number.
pub(crate) const NEWS: Table = Table::new("news");
/// Offers as last journaled, by dataset.
pub(crate) const OFFERS: Table = Table::new("offers");
/// Releases of tasks that this node took part in, by task.
pub(crate) const RELEASES: Table = Table::new("releases");
/// What custodians took back: their entries, by agreement and hash of the entry.
pub(crate) const REVOCATIONS: Table = Table::new("revocations");
/// Runs, by task.
pub(crate) const RUNS: Table = Table::new("runs");
/// Tasks that were not refused, as the rules of watching see them, by study and number. Refused ones are apart: they cost
/// nothing, and are not to push out what was answered.
pub(crate) const SEEN: Table = Table::new("seen");
/// Refused tasks, as the rules of watching see them, by study and number.
pub(crate) const SEEN_REFUSED: Table = Table::new("seen_refused");
/// What stopped a study here or set it going again: entries, by study and number.
pub(crate) const STOPS: Table = Table::new("stops");
/// Bytes of masked vectors, by SHA-256, until they are sent.
pub(crate) const VECTORS: Table = Table::new("vectors");
/// Every agreement that was ever in force here, by hash: runs end under the one they began under.
pub(crate) const VERSIONS: Table = Table::new("agreement_versions");
/// What this node witnessed of the logs of others.
pub(crate) const WITNESS: Table = Table::new("witness");
/// What people here said about tasks: their entries, by agreement, plan and hash of the entry.
pub(crate) const WORDS: Table = Table::new("words");

/// How many records a numbered list keeps: the newest.
pub(crate) fn kept(table: Table) -> Option<u64> {
    match table {
        ACCESS => Some(100_000),
        ALERTS | NEWS => Some(10_000),
        SEEN | SEEN_REFUSED => Some(1_000),
        _ => None,
    }
}

/// What a person or a custodian lays on a node's desk: what they say, signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeskItem {
    /// The document that the entry names, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Envelope>,
    /// The log entry.
    pub entry: Envelope,
}

/// What became of something that lay on the desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// It is in the node's log and has its effect: which.
    Acted(String),
    /// It was acted upon before; nothing changed.
    Before,
    /// It changes nothing, and why. Whoever laid it there must act.
    Refused(String),
}

/// Something that somebody asked for, did or changed at this node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccessRecord {
    /// When, by this house's clock.
    pub at: Timestamp,
    /// What became of it, in words.
    pub outcome: String,
    /// What.
    pub what: String,
    /// Who says so: what was not checked when this was written is called claimed.
    pub who: String,
}

/// What contradicts what a log showed before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// When.
    pub at: Timestamp,
    /// The head that this node had cosigned.
    pub known: String,
    /// Whether both heads carry the log's signature and cannot both be true.
    pub proven: bool,
    /// The head that was shown now.
    pub shown: String,
    /// What is wrong.
    pub why: String,
}

/// What is made and may leave only when a person has looked at it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeldRecord {
    /// SHA-256 of the call in canonical JSON: what a person names who lets it out.
    pub message: Hash,
    /// What would leave.
    pub record: JournalRecord,
}

/// An entry that was laid before the hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LaidRecord {
    /// Under which agreement.
    pub agreement: Hash,
    /// When, by this house's clock.
    pub at: Timestamp,
    /// The same by the time that this node has waited, seconds.
    pub laid_s: u64,
    /// Since when it is late, by that time.
    pub late_s: Option<u64>,
    /// Why the hub refused it, if it did.
    pub refused: Option<String>,
    /// About which study.
    pub study: Name,
    /// About which task, if about one.
    pub task: Option<Hash>,
    /// What it is, in words.
    pub what: String,
}

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
    /// The policy permits it, and people are asked: nothing is reserved or promised.
    Waiting,
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
            Self::Waiting => "waiting",
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
    /// What the rules of watching noticed about it.
    #[serde(default)]
    pub alarms: Vec<String>,
    /// What people here said about it: their entries.
    #[serde(default)]
    pub approvals: Vec<Envelope>,
    /// When the task reached this node.
    pub began_at: Timestamp,
    /// The round, once the policy permits it.
    pub context: Option<RoundContext>,
    /// The dataset asked about.
    pub dataset: Name,
    /// SHA-256 of the masked vector, once made.
    pub masked: Option<Hash>,
    /// The secrets of the round, opaque, while it lasts.
    pub(crate) member: Option<String>,
    /// Other members whose nodes permit the same plan, as far as the hub told.
    #[serde(default)]
    pub permitted_by: BTreeSet<Name>,
    /// Index of the task's entry in the hub's log: the order in which tasks were asked.
    pub position: u64,
    /// The number of the account's entry that says that rows may have been read, once they may.
    pub(crate) reading_at: Option<u64>,
    /// Who asks.
    pub researcher: Name,
    /// The shares that were dealt while people are asked. Nothing of them has left.
    #[serde(default)]
    pub(crate) shares: Option<Envelope>,
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
    /// Why the hub refused it for good, if it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
    /// The task it belongs to.
    pub task: Option<Hash>,
    /// The vector whose bytes follow the call.
    pub vector: Option<Hash>,
    /// Why it did not leave, if something forbade it before it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withdrawn: Option<String>,
    /// What it means that this leaves.
    pub words: String,
}
