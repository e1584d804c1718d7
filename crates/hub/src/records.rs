//! What a hub remembers: the tables of its store and the shape of a task's record. It holds no secret of anyone.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_messages::{Envelope, Hash, Inclusion, Name, TaskState, TaskStatus, Timestamp};
use cohortium_store::Table;
use serde::{Deserialize, Serialize};

/// Checkpoints that wait for cosignatures, by size.
pub(crate) const CHECKPOINTS: Table = Table::new("checkpoints");
/// Items for each node, by node and number.
pub(crate) const INBOX: Table = Table::new("inbox");
/// The number of the last item for each node.
pub(crate) const INBOX_HEADS: Table = Table::new("inbox_heads");
/// Log entries that a node made about a task that had ended, by task, node and kind: each is logged once.
pub(crate) const LATE: Table = Table::new("late_entries");
/// Roster entries of organisations and entries of researchers, by kind and name.
pub(crate) const MEMBERS: Table = Table::new("members");
/// Offers, by dataset and organisation.
pub(crate) const OFFERS: Table = Table::new("offers");
/// Halves of pairwise secrets, by agreement and pair.
pub(crate) const PAIRWISE: Table = Table::new("pairwise");
/// Tasks that were released, by study and plan.
pub(crate) const RELEASED: Table = Table::new("released");
/// Agreements and their signatures, by study.
pub(crate) const STUDIES: Table = Table::new("studies");
/// Tasks that still wait for something, by hash: what has to be looked at when something arrives or time passes.
pub(crate) const OPEN_TASKS: Table = Table::new("open_tasks");
/// Tasks, by hash.
pub(crate) const TASKS: Table = Table::new("tasks");
/// Invitations that were used, by the hash of their secret.
pub(crate) const USED_INVITATIONS: Table = Table::new("used_invitations");
/// Masked vectors of rounds under way, by task and member: two may have the same bytes.
pub(crate) const VECTORS: Table = Table::new("vectors");
/// The size of the last checkpoint put into each witness's inbox.
pub(crate) const WITNESSED: Table = Table::new("witnessed");

/// What a task waits for, inside its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Phase {
    /// For the cosignatures of all members on a head that contains the task.
    Witnesses,
    /// For permits and shares.
    Permits,
    /// For masked vectors.
    Vectors,
    /// For signatures on the survivor set.
    Signatures,
    /// For reveals.
    Reveals,
    /// For nothing.
    Ended,
}

/// A task at the hub.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskRecord {
    /// The agreement under which it runs.
    pub agreement: Hash,
    /// Whose announced vector is here in full.
    #[serde(default)]
    pub arrived: BTreeSet<Name>,
    /// Every failing clause, when refused.
    pub clauses: Vec<String>,
    /// When the present phase ends without an answer.
    pub deadline: Timestamp,
    /// The researcher's log entry.
    pub entry: Envelope,
    /// Announced vectors: header, receipt and log entry of the price.
    pub headers: BTreeMap<Name, (Envelope, Envelope, Envelope)>,
    /// The proof for the release.
    pub inclusion: Option<Inclusion>,
    /// All members of the study, sorted.
    pub participants: Vec<Name>,
    /// Log entry and shares of each node that permits.
    pub permits: BTreeMap<Name, (Envelope, Envelope)>,
    /// What it waits for.
    pub phase: Phase,
    /// Index of the task's entry in the log.
    pub position: u64,
    /// The release, its log entry and that entry's index.
    pub release: Option<(Envelope, Envelope, u64)>,
    /// What survivors reveal.
    pub reveals: BTreeMap<Name, Envelope>,
    /// Signatures on the survivor set.
    pub sets: BTreeMap<Name, Envelope>,
    /// The number of each member's item with its shares, in its inbox.
    #[serde(default)]
    pub shares_at: BTreeMap<Name, u64>,
    /// Where it is.
    pub state: TaskState,
    /// Counts changes.
    pub step: u32,
    /// The study.
    pub study: Name,
    /// Who is in the sum, once that is fixed; sorted.
    pub survivors: Vec<Name>,
    /// The signed task.
    pub task: Envelope,
    /// What is waited for, or why it ended.
    pub why: String,
}

impl TaskRecord {
    /// Whether it still waits for something: the next message, or the proof that its release is in the log.
    pub(crate) const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ended) || (self.release.is_some() && self.inclusion.is_none())
    }

    /// What the researcher and the members may know of it.
    pub(crate) fn status(&self, task: Hash) -> TaskStatus {
        TaskStatus {
            awaited: self.awaited(),
            clauses: self.clauses.clone(),
            inclusion: self.inclusion.clone(),
            question: None,
            release: self.release.as_ref().map(|(release, ..)| release.clone()),
            release_entry: self.release.as_ref().map(|(_, entry, _)| entry.clone()),
            state: self.state,
            step: self.step,
            task,
            why: self.why.clone(),
        }
    }

    /// Who has not yet delivered what the present phase waits for.
    pub(crate) fn awaited(&self) -> Vec<Name> {
        let is_awaited = |name: &&Name| match self.phase {
            Phase::Witnesses => true,
            Phase::Permits => !self.permits.contains_key(*name),
            Phase::Vectors => !self.arrived.contains(*name),
            Phase::Signatures => self.survivors.contains(name) && !self.sets.contains_key(*name),
            Phase::Reveals => self.sets.contains_key(*name) && !self.reveals.contains_key(*name),
            Phase::Ended => false,
        };
        self.participants.iter().filter(is_awaited).cloned().collect()
    }
}
