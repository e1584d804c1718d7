//! What nodes, custodians and researchers call the hub for, and what it answers.
//!
//! Everyone calls out and nobody calls in: a node asks for its inbox and waits. Requests are signed by the caller,
//! answers by the hub and bound to the request, so a TLS-terminating proxy changes nothing about who said what.
//! Whatever the hub relays carries its author's own signature as well, and is checked against the agreement.

use serde::{Deserialize, Serialize};

use crate::{Document, Envelope, Hash, Name, Purpose, SealedShare, Timestamp};

/// A signed request: by an organisation's message key (its identity key when joining), or a researcher's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// What for.
    pub call: Call,
    /// Who calls.
    pub from: Principal,
    /// 32 random bytes: the answer repeats them.
    pub nonce: Hash,
    /// The protocol version.
    pub protocol: u32,
    /// When, by the caller's clock; the hub refuses what is far from its own.
    pub time: Timestamp,
}

impl Document for Request {
    const TYPE: &'static str = "application/vnd.cohortium.request.v1+json";
    const MAX_BYTES: usize = 6 << 20;
}

/// A signed answer: by the hub's message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Response {
    /// The request's nonce.
    pub nonce: Hash,
    /// What the hub answers.
    pub reply: Result<Reply, Refused>,
}

impl Document for Response {
    const TYPE: &'static str = "application/vnd.cohortium.response.v1+json";
    const MAX_BYTES: usize = 64 << 20;
}

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Principal {
    /// As what.
    pub kind: PrincipalKind,
    /// Under which name.
    pub name: Name,
}

/// In which capacity someone calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PrincipalKind {
    /// An organisation's node or its custodian.
    Organisation,
    /// A researcher.
    Researcher,
}

/// What the hub is called for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Call {
    /// Who is here, and what is offered: a page of it.
    Directory {
        /// Where the page before ended, [`Directory::next`]; nothing for the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<String>,
    },
    /// Items for the calling node after the one numbered `after`; waits up to `wait_ms` for one.
    Inbox {
        /// The number of the last item that was handled; 0 at first.
        after: u64,
        /// How long to wait.
        wait_ms: u32,
    },
    /// Joins, with an invitation's secret.
    Join {
        /// The caller's own entry (roster entry or researcher entry), self-signed.
        entry: Envelope,
        /// The invitation's secret.
        secret: Hash,
    },
    /// Lays an entry before the hub's log that is about no single round: a custodian's revocation, a person's freeze, a
    /// node's alert, a step of an incident. Members of the study get it with the proof that it is in the log.
    Log {
        /// The document that the entry names, where it names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Envelope>,
        /// The signed entry.
        entry: Envelope,
    },
    /// Offers a dataset, or renews the offer.
    Offer {
        /// The signed offer.
        offer: Envelope,
    },
    /// A node's half of a pairwise secret, for a peer.
    Pairwise {
        /// The signed message.
        message: Envelope,
    },
    /// A message of a round.
    Post {
        /// The message.
        step: RoundStep,
    },
    /// The release of the same plan on the same data, if there is one.
    Released {
        /// The plan.
        plan: Hash,
        /// What the answer is for.
        purpose: Purpose,
        /// The study.
        study: Name,
    },
    /// Proposes an agreement or adds a custodian's signature.
    Sign {
        /// The agreement, with at least the caller's signature.
        agreement: Envelope,
        /// The caller's log entry.
        entry: Envelope,
    },
    /// Who acts for the calling organisation.
    Staff {
        /// The signed list.
        staff: Envelope,
    },
    /// The studies that concern the caller, in the order of their names: a page of them, which is empty after the last.
    Studies {
        /// The last study of the page before; nothing for the first.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        after: Option<Name>,
    },
    /// Asks a question.
    Submit {
        /// The researcher's log entry.
        entry: Envelope,
        /// The signed task.
        task: Envelope,
    },
    /// The newest tasks: a researcher's own, or those of an organisation's studies.
    Tasks {
        /// How many at most; the hub has a limit of its own, [`MAX_TASKS_LISTED`].
        last: u32,
    },
    /// The head of the calling node's own log, for the members of its studies to cosign.
    Witness {
        /// Consistency from `old_size` to the checkpoint.
        consistency: Vec<Hash>,
        /// The checkpoint as a signed note.
        note: String,
        /// The size from which consistency is shown.
        old_size: u64,
    },
    /// How a task stands; waits up to `wait_ms` for it to change from `known`.
    Status {
        /// The step that the caller already knows.
        known: u32,
        /// Which task.
        task: Hash,
        /// How long to wait.
        wait_ms: u32,
    },
}

/// A message of a round, from a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RoundStep {
    /// The policy permits the task and a person is asked; the node has promised nothing yet.
    AwaitingApproval {
        /// The task.
        task: Hash,
    },
    /// Cosignatures on a checkpoint: lines of a signed note, one for each of the node's witness keys.
    Cosigned {
        /// The lines.
        lines: Vec<String>,
        /// Whose log.
        origin: Name,
        /// The tree size that was cosigned.
        size: u64,
    },
    /// The node does not cosign: the size from which it was shown consistency is not the one it cosigned last. The
    /// conflict of C2SP tlog-witness, which carries the size.
    Stale {
        /// Whose log.
        origin: Name,
        /// The size that the node cosigned last.
        size: u64,
    },
    /// The node permits the task: its log entry, and its deposit and shares.
    Permitted {
        /// What people at the node said about it: their entries.
        approvals: Vec<Envelope>,
        /// The log entry.
        entry: Envelope,
        /// The round's shares.
        shares: Envelope,
    },
    /// The node refuses the task.
    Refused {
        /// What people at the node said about it: their entries.
        approvals: Vec<Envelope>,
        /// The log entry.
        entry: Envelope,
    },
    /// The node announces its masked vector, and accounts for what it spent; the bytes follow.
    Masked {
        /// The log entry of the price.
        entry: Envelope,
        /// The signed header.
        header: Envelope,
        /// The receipt.
        receipt: Envelope,
    },
    /// The node signed the survivor set.
    Survivors {
        /// The signed set.
        set: Envelope,
    },
    /// The node reveals what opens the sum.
    Revealed {
        /// The reveal.
        reveal: Envelope,
    },
    /// The round was void: what became of the reserved price.
    Settled {
        /// The log entry of the price.
        entry: Envelope,
    },
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Reply {
    /// Done.
    Accepted,
    /// The directory.
    Directory(Directory),
    /// Numbered items, in order.
    Inbox(Vec<(u64, InboxItem)>),
    /// A release, or nothing.
    Released(Option<TaskStatus>),
    /// How a task stands.
    Status(TaskStatus),
    /// Studies.
    Studies(Vec<StudyRecord>),
    /// Tasks, the newest first.
    Tasks(Vec<TaskSummary>),
    /// The announced vector is wanted, from this byte on; nothing more when it equals the length.
    Vector {
        /// How many bytes are there.
        have: u64,
        /// Where the bytes are to be put. Only who announced the vector is told: the bytes themselves are not signed, and
        /// nobody else can put anything there.
        ticket: Hash,
    },
}

/// Why the hub does not do what it was asked. The caller must act unless the code is `internal`.
///
/// Two codes are not final: after `later` and `clock` the same call may be made again, after a pause or with the clock set,
/// and whoever has something to say keeps it until then. All others are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(deny_unknown_fields)]
#[error("{why}")]
pub struct Refused {
    /// Every failing clause, when a policy refuses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clauses: Vec<String>,
    /// A stable word: `signature`, `unknown`, `denied`, `conflict`, `limit`, `malformed`, `clock`, `later`, `internal`.
    pub code: String,
    /// In words.
    pub why: String,
}

impl Refused {
    /// Whether the same call will be refused whenever it is made. Where a clock is wrong or the hub has no room just now,
    /// it is made again later, in the same bytes.
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self.code.as_str(), "clock" | "later")
    }
}

/// Who is here, or a page of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Directory {
    /// Where the next page begins; nothing on the last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Signed offers.
    pub offers: Vec<Envelope>,
    /// Self-signed roster entries.
    pub organisations: Vec<Envelope>,
    /// Self-signed researcher entries.
    pub researchers: Vec<Envelope>,
    /// Who acts for the organisations: signed lists.
    pub staff: Vec<Envelope>,
}

/// A study at the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StudyRecord {
    /// The agreement in force, or the first one with the signatures collected so far.
    pub agreement: Envelope,
    /// Amendments that are being signed, with the signatures collected so far.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub amendments: Vec<Envelope>,
    /// Whether all custodians signed.
    pub complete: bool,
    /// What custodians have taken back of the agreement in force: their entries, in the order of the log.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocations: Vec<Envelope>,
    /// The study.
    pub study: Name,
}

impl StudyRecord {
    /// A study of which nothing is being amended and nothing was taken back.
    #[must_use]
    pub fn new(agreement: Envelope, complete: bool, study: &Name) -> Self {
        let study = study.clone();
        Self { agreement, amendments: Vec::new(), complete, revocations: Vec::new(), study }
    }
}

/// An item in a node's inbox.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum InboxItem {
    /// All custodians have signed: the study begins.
    Agreement {
        /// The agreement with all signatures.
        agreement: Envelope,
    },
    /// The hub's log has grown: check and cosign.
    Checkpoint {
        /// Consistency from `old_size` to the checkpoint.
        consistency: Vec<Hash>,
        /// The checkpoint as a signed note.
        note: String,
        /// The size that the node cosigned last.
        old_size: u64,
    },
    /// An entry of the hub's log that concerns the study, with the proof that it is in the log.
    Logged {
        /// The document that it names, where it names one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        body: Option<Envelope>,
        /// The entry.
        entry: Envelope,
        /// The proof.
        inclusion: Inclusion,
    },
    /// A peer's half of a pairwise secret.
    Pairwise {
        /// The signed message.
        message: Envelope,
    },
    /// The log of a member has grown: check and cosign.
    PeerCheckpoint {
        /// Consistency from `old_size` to the checkpoint.
        consistency: Vec<Hash>,
        /// The checkpoint as a signed note.
        note: String,
        /// The size from which consistency is shown.
        old_size: u64,
    },
    /// What a member made of this node's own checkpoint: its lines, or the size it cosigned last if that was another.
    PeerCosigned {
        /// The member.
        from: Name,
        /// The lines; none where the checkpoint was stale.
        lines: Vec<String>,
        /// The tree size that the lines are for, or that the member cosigned last.
        size: u64,
    },
    /// Another member permits the task: its log entry.
    Permitted {
        /// The entry.
        entry: Envelope,
        /// The task.
        task: Hash,
    },
    /// The task was answered.
    Released {
        /// The signed release.
        release: Envelope,
        /// The task.
        task: Hash,
    },
    /// All shares for this node are here: read, noise, mask, send.
    Shares {
        /// The shares, one from every other member.
        shares: Vec<SealedShare>,
        /// The task.
        task: Hash,
    },
    /// `t` or more members signed a survivor set: reveal.
    Signatures {
        /// The signed sets.
        sets: Vec<Envelope>,
        /// The task.
        task: Hash,
    },
    /// All vectors that will come are here: sign who is in the sum.
    Survivors {
        /// The proposed set.
        survivors: Vec<Name>,
        /// The task.
        task: Hash,
    },
    /// A task, with the proof that it is in the log.
    Task {
        /// The researcher's log entry.
        entry: Envelope,
        /// The proof.
        inclusion: Inclusion,
        /// The signed task.
        task: Envelope,
    },
    /// The round is void.
    Void {
        /// Why.
        reason: String,
        /// The task.
        task: Hash,
    },
}

/// The proof that an entry is in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Inclusion {
    /// The entry's index.
    pub index: u64,
    /// The checkpoint with the quorum's cosignatures.
    pub note: String,
    /// The audit path.
    pub path: Vec<Hash>,
}

/// Where a task is on its way. Every task reaches one of the last four.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TaskState {
    /// Logged, waiting for cosignatures and permits.
    Proposed,
    /// Waiting for a steward.
    AwaitingApproval,
    /// All nodes permit.
    Approved,
    /// In the round.
    Running,
    /// Answered.
    Released,
    /// Refused by a policy or an account.
    Refused,
    /// Ended by an error.
    Failed,
    /// Ended by a deadline.
    Expired,
}

impl TaskState {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        matches!(self, Self::Released | Self::Refused | Self::Failed | Self::Expired)
    }
}

impl std::fmt::Display for TaskState {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Proposed => "proposed",
            Self::AwaitingApproval => "awaiting_approval",
            Self::Approved => "approved",
            Self::Running => "running",
            Self::Released => "released",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Expired => "expired",
        })
    }
}

/// The step of a task that the hub waits for. The first five come in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The cosignatures of all members on a head of the log that contains the task.
    Witnesses,
    /// Permits and shares.
    Permits,
    /// Masked vectors.
    Vectors,
    /// Signatures on the survivor set.
    Signatures,
    /// Reveals.
    Reveals,
    /// Nothing more.
    Ended,
}

impl Phase {
    /// The steps of a task in their order.
    pub const STEPS: [Self; 5] = [Self::Witnesses, Self::Permits, Self::Vectors, Self::Signatures, Self::Reveals];
}

/// The steps of a task that a member has done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Which steps, in their order.
    pub done: Vec<Phase>,
    /// Who.
    pub member: Name,
}

/// How many tasks one answer lists at most: with [`MAX_LISTED_SQL_CHARS`] this keeps the answer below a megabyte.
pub const MAX_TASKS_LISTED: u32 = 200;

/// How much of each question's text a list of tasks shows.
pub const MAX_LISTED_SQL_CHARS: usize = 400;

/// One task in a list. What the hub says; [`Call::Status`] shows the signed question.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskSummary {
    /// When it was asked, as the researcher signed it.
    pub asked_at: Timestamp,
    /// The dataset.
    pub dataset: Name,
    /// What it waits for.
    pub phase: Phase,
    /// Who asked.
    pub researcher: Name,
    /// The beginning of the question's text.
    pub sql: String,
    /// Where it is.
    pub state: TaskState,
    /// The study.
    pub study: Name,
    /// The task.
    pub task: Hash,
    /// In words: what is waited for, or why it ended.
    pub why: String,
}

/// How a task stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TaskStatus {
    /// Who is awaited.
    pub awaited: Vec<Name>,
    /// Every failing clause, when refused.
    pub clauses: Vec<String>,
    /// When the present phase ends, by the hub's clock; nothing once the task has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Timestamp>,
    /// The proof that the release is in the log, when released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inclusion: Option<Inclusion>,
    /// The release, when released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release: Option<Envelope>,
    /// The release's log entry, when released.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub release_entry: Option<Envelope>,
    /// What each member has done, sorted by name.
    pub members: Vec<Progress>,
    /// What it waits for.
    pub phase: Phase,
    /// The signed task itself: who looks at it may not have asked.
    pub question: Envelope,
    /// How many seconds are left until the deadline.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remaining_s: Option<u32>,
    /// Where it is.
    pub state: TaskState,
    /// Counts changes.
    pub step: u32,
    /// Who is in the sum, sorted, once that is fixed.
    pub survivors: Vec<Name>,
    /// The task.
    pub task: Hash,
    /// How many members must be in the sum, by the agreement.
    pub threshold: u32,
    /// In words: what is waited for, or why it ended.
    pub why: String,
}
