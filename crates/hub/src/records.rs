//! What a hub remembers: the tables of its store and the shape of a task's record. It holds no secret of anyone.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_messages::{Analysis, Envelope, Hash, Inclusion, Name, Phase, Progress, Task, TaskState, Timestamp};
use cohortium_policy::watch::Seen;
use cohortium_store::{Table, sequence_key};
use serde::{Deserialize, Serialize};

use crate::hub::{No, own};

/// All agreements under which a study is or was, by hash.
pub(crate) const AGREEMENTS: Table = Table::new("agreements");
/// Tasks in the order in which they were asked, the newest first: by researcher, and by study.
pub(crate) const ASKED: Table = Table::new("asked");
/// Documents that belong beside the log and may not be files there yet, by number.
pub(crate) const BODIES: Table = Table::new("bodies");
/// Checkpoints that wait for cosignatures, by size.
pub(crate) const CHECKPOINTS: Table = Table::new("checkpoints");
/// The size of the largest head that each witness has cosigned.
pub(crate) const COSIGNED: Table = Table::new("cosigned");
/// First agreements that are being signed, by study: [`Draft`].
pub(crate) const DRAFTS: Table = Table::new("drafts");
/// Agreements that were being signed and will not be, by study and hash.
pub(crate) const DROPPED: Table = Table::new("dropped_agreements");
/// Items for each node, by node and number.
pub(crate) const INBOX: Table = Table::new("inbox");
/// The number of the last item for each node.
pub(crate) const INBOX_HEADS: Table = Table::new("inbox_heads");
/// Log entries that a node made about a task that had ended, by task, node and kind: each is logged once.
pub(crate) const LATE: Table = Table::new("late_entries");
/// The lines by which each witness cosigned the heads that wait, by size and witness.
pub(crate) const LINES: Table = Table::new("cosignatures");
/// The index of each entry that came alone or with a permit, by agreement and hash: each is logged once.
pub(crate) const LOGGED: Table = Table::new("logged");
/// Roster entries of organisations and entries of researchers, by kind and name.
pub(crate) const MEMBERS: Table = Table::new("members");
/// The signed messages of rounds, by task, kind and member.
pub(crate) const MESSAGES: Table = Table::new("round_messages");
/// Offers, by dataset and organisation.
pub(crate) const OFFERS: Table = Table::new("offers");
/// How many bytes of offers each organisation has here, by dataset; by organisation.
pub(crate) const OFFER_SIZES: Table = Table::new("offer_sizes");
/// Halves of pairwise secrets, by agreement and pair.
pub(crate) const PAIRWISE: Table = Table::new("pairwise");
/// What each member was shown of another's log, by log and member.
pub(crate) const PEERS: Table = Table::new("peers");
/// Amendments that are being signed, by study and hash.
pub(crate) const PROPOSALS: Table = Table::new("proposals");
/// In which tasks people spoke about a plan, by agreement, plan, organisation and the task's place in the log backwards:
/// where the agreement says that plans that were approved count again.
pub(crate) const PLANS: Table = Table::new("plans_spoken_of");
/// How much of what was done today, by whom: [`crate::quotas`].
pub(crate) const QUOTAS: Table = Table::new("quotas");
/// Tasks that were released, by study and plan.
pub(crate) const RELEASED: Table = Table::new("released");
/// Releases and their log entries, by task.
pub(crate) const RELEASES: Table = Table::new("releases");
/// What custodians took back, by agreement and index in the log.
pub(crate) const REVOCATIONS: Table = Table::new("revocations");
/// What the rules see of earlier tasks, the newest first: by study, those not refused, and by researcher, those refused.
pub(crate) const SEEN: Table = Table::new("seen_tasks");
/// Who acts for which organisation, by organisation: signed lists.
pub(crate) const STAFF: Table = Table::new("staff");
/// Since which entry a study stands still at an organisation, by study and organisation.
pub(crate) const STOPS: Table = Table::new("stops");
/// The agreement of each study that is in force, or the first one while it is being signed, by study.
pub(crate) const STUDIES: Table = Table::new("studies");
/// Tasks that still wait for something, by hash: what has to be looked at when something arrives or time passes.
pub(crate) const OPEN_TASKS: Table = Table::new("open_tasks");
/// Tasks, by hash.
pub(crate) const TASKS: Table = Table::new("tasks");
/// Invitations that were used, by the hash of their secret.
pub(crate) const USED_INVITATIONS: Table = Table::new("used_invitations");
/// Entries that members will be told of under the next cosigned head, by agreement and index.
pub(crate) const UNTOLD: Table = Table::new("untold_entries");
/// Announced vectors on their way, by task and member.
pub(crate) const UPLOADS: Table = Table::new("uploads");
/// Masked vectors of rounds under way in the pieces in which they came, by task, member and offset: two may have the same
/// bytes.
pub(crate) const VECTORS: Table = Table::new("vectors");
/// The size of the last checkpoint put into each witness's inbox.
pub(crate) const WITNESSED: Table = Table::new("witnessed");
/// What people said about a task, by task, organisation and index in the log.
pub(crate) const WORDS: Table = Table::new("words");

/// A kind of signed message that a member sends in a round.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Its log entry that permits, and what its people said: [`Permission`].
    Permit,
    /// What opens the sum.
    Reveal,
    /// Its signature on the survivor set.
    Set,
    /// The round's shares, which come with the permit.
    Shares,
    /// The header of its masked vector, the receipt and the log entry of the price.
    Vector,
}

impl Kind {
    /// What is of no use any more when a round is over. Permits and prices are: more may be said about them later.
    pub(crate) const OF_THE_ROUND: [Self; 3] = [Self::Reveal, Self::Set, Self::Shares];
}

/// A member's log entry that permits, and what its people said.
pub(crate) type Permission = (Envelope, Vec<Envelope>);

/// Where a member's message is kept.
pub(crate) fn message_key(task: Hash, kind: Kind, node: &str) -> String {
    let kind = match kind {
        Kind::Permit => "permit",
        Kind::Reveal => "reveal",
        Kind::Set => "set",
        Kind::Shares => "shares",
        Kind::Vector => "vector",
    };
    format!("{task}/{kind}/{node}")
}

/// Where the piece of a member's masked vector that begins at this byte is kept. With no offset, what all keys of its
/// pieces begin with.
pub(crate) fn piece_key(task: Hash, node: &Name, offset: Option<u64>) -> String {
    format!("{task}/{node}/{}", offset.map(sequence_key).unwrap_or_default())
}

/// A first agreement that is being signed, beside its record in [`STUDIES`].
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Draft {
    /// When it came, by the hub's clock.
    pub at: Timestamp,
    /// How long it is.
    pub bytes: u64,
    /// What it is called by.
    pub hash: Hash,
    /// Who signed first.
    pub proposer: Name,
}

/// An amendment that is being signed.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Proposal {
    /// The agreement with the signatures collected so far.
    pub agreement: Envelope,
    /// Who signed first.
    pub proposer: Name,
}

/// An announced vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Announced {
    /// How many bytes it has.
    pub bytes: u64,
    /// What they hash to.
    pub sha256: Hash,
}

/// An announced vector on its way.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upload {
    /// How many bytes are here.
    pub have: u64,
    /// How often all of them came and were not those that were announced.
    pub spoilt: u32,
}

/// A task at the hub. It says who has sent what; the messages themselves, which are much larger, have records of their
/// own ([`MESSAGES`]), so that the next message of a round does not cost reading all before it.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TaskRecord {
    /// The agreement under which it runs.
    pub agreement: Hash,
    /// Which kinds of computation; none for a task that was refused at once.
    pub analyses: BTreeSet<Analysis>,
    /// Who announced which vector.
    pub announced: BTreeMap<Name, Announced>,
    /// Whose announced vector is here in full, with the hash that was announced.
    pub arrived: BTreeSet<Name>,
    /// Where people are asked.
    pub asking: BTreeSet<Name>,
    /// Every failing clause, when refused.
    pub clauses: Vec<String>,
    /// The hash of the round's context, by which its messages call it; none for a task that was refused at once.
    pub context: Option<Hash>,
    /// When the present phase ends without an answer.
    pub deadline: Timestamp,
    /// The researcher's log entry.
    pub entry: Envelope,
    /// The proof for the release.
    pub inclusion: Option<Inclusion>,
    /// All members of the study, sorted.
    pub participants: Vec<Name>,
    /// Who permits.
    pub permitted: BTreeSet<Name>,
    /// What it waits for.
    pub phase: Phase,
    /// Index of the task's entry in the log.
    pub position: u64,
    /// The index of the release's log entry, once there is a release ([`RELEASES`]).
    pub released_at: Option<u64>,
    /// Who revealed.
    pub revealed: BTreeSet<Name>,
    /// What the rules see of it, if there are rules.
    #[serde(default)]
    pub seen: Option<Seen>,
    /// The number of each member's item with its shares, in its inbox.
    pub shares_at: BTreeMap<Name, u64>,
    /// Who signed the survivor set.
    pub signed: BTreeSet<Name>,
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

/// The size of the largest head that each member has cosigned.
pub(crate) type Cosigned = BTreeMap<Name, u64>;

impl TaskRecord {
    /// The plan, as the task names it.
    pub(crate) fn plan(&self) -> Result<Hash, No> {
        self.task.peek::<Task>().map_err(own)?.claims().plan.hash().map_err(own)
    }

    /// Where people are asked and have not answered.
    pub(crate) fn still_asking(&self) -> Vec<Name> {
        self.asking.difference(&self.permitted).cloned().collect()
    }

    /// Whether it still waits for something: the next message, or the proof that its release is in the log.
    pub(crate) const fn is_open(&self) -> bool {
        !matches!(self.phase, Phase::Ended) || (self.released_at.is_some() && self.inclusion.is_none())
    }

    /// What each member has done.
    pub(crate) fn progress(&self, cosigned: &Cosigned) -> Vec<Progress> {
        let done =
            |member: &Name| Phase::STEPS.into_iter().filter(|step| self.has_done(member, *step, cosigned)).collect();
        self.participants.iter().map(|member| Progress { done: done(member), member: member.clone() }).collect()
    }

    /// Who has not yet delivered what the present phase waits for.
    pub(crate) fn awaited(&self, cosigned: &Cosigned) -> Vec<Name> {
        let is_awaited = |name: &&Name| match self.phase {
            Phase::Signatures => self.survivors.contains(name) && !self.signed.contains(*name),
            Phase::Reveals => self.signed.contains(*name) && !self.revealed.contains(*name),
            Phase::Ended => false,
            step => !self.has_done(name, step, cosigned),
        };
        self.participants.iter().filter(is_awaited).cloned().collect()
    }

    fn has_done(&self, member: &Name, step: Phase, cosigned: &Cosigned) -> bool {
        match step {
            Phase::Witnesses => cosigned.get(member).is_some_and(|size| *size > self.position),
            Phase::Permits => self.permitted.contains(member),
            Phase::Vectors => self.arrived.contains(member),
            Phase::Signatures => self.signed.contains(member),
            Phase::Reveals => self.revealed.contains(member),
            Phase::Ended => false,
        }
    }
}
