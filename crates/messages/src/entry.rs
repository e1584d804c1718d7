//! Entries of the transparency log: small, signed by their authors, and free of personal data.
//!
//! An entry says *that* something was decided, by whom and about which documents, which it names by hash; the documents
//! themselves are kept beside the log and can be erased without breaking a proof. The kinds are a closed list.

use cohortium_dp::AccountEntry;
use serde::{Deserialize, Serialize};

use crate::{Document, Hash, Name, Timestamp};

/// All kinds of entries, as they stand in the log.
pub const ENTRY_KINDS: [&str; 7] = ["agreement", "failure", "permit", "price", "refusal", "release", "task"];

/// An entry of the log. Signed by its author's key: a custodian's agreement key for `agreement`, a node's message key
/// for `permit`, `price` and its `refusal`, the researcher's key for `task`, the hub's message key for the rest.
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
    /// A researcher.
    Researcher(Name),
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
    /// The task ended without an answer, for a reason that lies in no one's policy.
    Failure {
        /// Why, in words.
        reason: String,
        /// Which.
        task: Hash,
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

impl Fact {
    /// The kind, as it stands in the log.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Agreement { .. } => "agreement",
            Self::Failure { .. } => "failure",
            Self::Permit { .. } => "permit",
            Self::Price { .. } => "price",
            Self::Refusal { .. } => "refusal",
            Self::Release { .. } => "release",
            Self::Task { .. } => "task",
        }
    }

    /// The document beside the log, if there is one.
    #[must_use]
    pub const fn body(&self) -> Option<Hash> {
        match self {
            Self::Agreement { body, .. } | Self::Release { body, .. } | Self::Task { body, .. } => Some(*body),
            Self::Failure { .. } | Self::Permit { .. } | Self::Price { .. } | Self::Refusal { .. } => None,
        }
    }

    /// The task the entry is about, if it is about one.
    #[must_use]
    pub const fn task(&self) -> Option<Hash> {
        match self {
            Self::Agreement { .. } => None,
            Self::Failure { task, .. }
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
