//! Entries of the transparency log: small, signed by their authors, and free of personal data.
//!
//! An entry says *that* something was decided, by whom and about which documents, which it names by hash; the documents
//! themselves are kept beside the log and can be erased without breaking a proof. The kinds are a closed list.

use std::fmt;

use cohortium_dp::AccountEntry;
use serde::{Deserialize, Serialize};

use crate::{Document, Hash, Name, PublicKey, Timestamp};

/// All kinds of entries, as they stand in the log.
pub const ENTRY_KINDS: [&str; 13] = [
    "agreement",
    "alert",
    "approval",
    "dispatch",
    "failure",
    "freeze",
    "incident",
    "permit",
    "price",
    "refusal",
    "release",
    "revocation",
    "task",
];

/// An entry of the log. Signed by its author's key: a custodian's agreement key for `agreement` and `revocation`, a
/// node's message key for `permit`, `price`, its `alert` and its `refusal`, a person's key for `approval`, `dispatch`,
/// `freeze` and `incident`, the researcher's key for `task`, the hub's message key for the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The agreement (hash of its payload) under which it happened.
    pub agreement: Hash,
    /// Who says so.
    pub author: Author,
    /// What is said.
    pub fact: Fact,
    /// The study.
    pub study: Name,
    /// When, by the author's clock.
    pub time: Timestamp,
}

/// Who signs an entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Author {
    /// An organisation as custodian.
    Custodian(Name),
    /// The hub.
    Hub(Name),
    /// An organisation's node.
    Node(Name),
    /// A person who acts for an organisation.
    Person {
        /// Which organisation.
        organisation: Name,
        /// Who.
        person: Name,
    },
    /// A researcher.
    Researcher(Name),
}

/// Who speaks, as people read it.
impl fmt::Display for Author {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Custodian(name) => write!(f, "the custodian of {name}"),
            Self::Hub(name) if name.as_str() == "hub" => f.write_str("the hub"),
            Self::Hub(name) => write!(f, "the hub {name}"),
            Self::Node(name) => write!(f, "the node of {name}"),
            Self::Person { organisation, person } => write!(f, "{person} of {organisation}"),
            Self::Researcher(name) => write!(f, "the researcher {name}"),
        }
    }
}

/// What an entry says. `body` is the SHA-256 of the document's envelope as kept beside the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Fact {
    /// The author signed the agreement of this entry.
    Agreement {
        /// The agreement as the author signed it.
        body: Hash,
        /// Which revision.
        revision: u32,
    },
    /// The author, a node or the hub, noticed something that a person should look at.
    Alert {
        /// Whether the study is frozen at this node because of it; never at a hub, which has nothing to freeze.
        froze: bool,
        /// Which rule, as listed in the documentation.
        rule: String,
        /// The task that it is about, if it is about one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        task: Option<Hash>,
        /// What was seen and what it may mean, in words. Speaks of tasks and messages, never of rows.
        why: String,
    },
    /// The author, a person, approves or refuses a task at their organisation's node.
    Approval {
        /// Yes or no.
        approved: bool,
        /// What exactly.
        plan: Hash,
        /// Which.
        task: Hash,
        /// The rationale.
        why: String,
    },
    /// The author, a person, has looked at what their node holds back for a task and lets it out.
    Dispatch {
        /// SHA-256 of the call that may leave, in canonical JSON.
        message: Hash,
        /// Which.
        task: Hash,
    },
    /// The task ended without an answer, for a reason that lies in no one's policy.
    Failure {
        /// Why, in words.
        reason: String,
        /// Which.
        task: Hash,
    },
    /// The author, a person, stops the study at their organisation's node, or sets it going again.
    Freeze {
        /// Stops (`true`) or sets going again.
        frozen: bool,
        /// Why.
        why: String,
    },
    /// A step in dealing with an incident.
    Incident {
        /// What is recorded with this step.
        body: Hash,
        /// Which incident: a name that the organisation gave it.
        incident: Name,
        /// Which step.
        step: IncidentStep,
    },
    /// The author's own policy permits the task, and the price is reserved in its account.
    Permit {
        /// The account entry that reserves the price.
        account: Box<AccountEntry>,
        /// The commitment to the rows that will be read.
        snapshot: Hash,
        /// What is permitted.
        plan: Hash,
        /// Which.
        task: Hash,
    },
    /// What became of the reserved price: read and spent, or refunded.
    Price {
        /// The account entries, in order.
        account: Vec<AccountEntry>,
        /// Which.
        task: Hash,
    },
    /// The author refuses the task.
    Refusal {
        /// Every clause that failed, as `study/clause`.
        clauses: Vec<String>,
        /// Which.
        task: Hash,
        /// In words, for the researcher.
        why: String,
    },
    /// The answer.
    Release {
        /// The release document.
        body: Hash,
        /// SHA-256 of its payload.
        release: Hash,
        /// Which.
        task: Hash,
    },
    /// The author, a custodian, takes back the agreement of this entry, or a key that it names. At the author's own node
    /// it holds at once, elsewhere from when it is known.
    Revocation {
        /// What.
        subject: RevocationSubject,
        /// Why.
        why: String,
    },
    /// The author asks.
    Task {
        /// The task document.
        body: Hash,
        /// What is asked.
        plan: Hash,
        /// SHA-256 of the task's payload: what the task is called by.
        task: Hash,
    },
}

/// What is taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RevocationSubject {
    /// The whole agreement.
    Agreement,
    /// A researcher's or person's key, wherever the agreement names it.
    Key(PublicKey),
}

/// The steps of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentStep {
    /// Something was done about it.
    Action,
    /// It is over.
    Close,
    /// Somebody became aware: the clock of GDPR Art. 33 starts.
    Open,
}

impl Fact {
    /// The kind, as it stands in the log.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Agreement { .. } => "agreement",
            Self::Alert { .. } => "alert",
            Self::Approval { .. } => "approval",
            Self::Dispatch { .. } => "dispatch",
            Self::Failure { .. } => "failure",
            Self::Freeze { .. } => "freeze",
            Self::Incident { .. } => "incident",
            Self::Permit { .. } => "permit",
            Self::Price { .. } => "price",
            Self::Refusal { .. } => "refusal",
            Self::Release { .. } => "release",
            Self::Revocation { .. } => "revocation",
            Self::Task { .. } => "task",
        }
    }

    /// The document beside the log, if there is one.
    #[must_use]
    pub const fn body(&self) -> Option<Hash> {
        match self {
            Self::Agreement { body, .. }
            | Self::Incident { body, .. }
            | Self::Release { body, .. }
            | Self::Task { body, .. } => Some(*body),
            Self::Alert { .. }
            | Self::Approval { .. }
            | Self::Dispatch { .. }
            | Self::Failure { .. }
            | Self::Freeze { .. }
            | Self::Permit { .. }
            | Self::Price { .. }
            | Self::Refusal { .. }
            | Self::Revocation { .. } => None,
        }
    }

    /// The task the entry is about, if it is about one.
    #[must_use]
    pub const fn task(&self) -> Option<Hash> {
        match self {
            Self::Agreement { .. } | Self::Freeze { .. } | Self::Incident { .. } | Self::Revocation { .. } => None,
            Self::Alert { task, .. } => *task,
            Self::Approval { task, .. }
            | Self::Dispatch { task, .. }
            | Self::Failure { task, .. }
            | Self::Permit { task, .. }
            | Self::Price { task, .. }
            | Self::Refusal { task, .. }
            | Self::Release { task, .. }
            | Self::Task { task, .. } => Some(*task),
        }
    }
}

impl Document for Entry {
    const TYPE: &'static str = "application/vnd.cohortium.entry.v1+json";
    /// A log leaf holds at most 65,535 bytes (C2SP tlog-tiles); base64 and the envelope take a third and some.
    const MAX_BYTES: usize = 40_000;
}
