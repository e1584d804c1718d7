//! What an audit found, for people and for programs.
//!
//! Texts that others wrote (reasons, clauses) are shortened, and freed of what moves a cursor or hides text, before they
//! stand here: a report is printed on terminals.

use std::collections::BTreeMap;

use cohortium_ledger::{KeyKind, VerifiedLog};
use cohortium_messages::{Author, Decimal, ENTRY_KINDS, Fact, Hash, Name, Role, Timestamp, plain};
use serde::Serialize;

use crate::leaf::Leaf;

/// What [`verify`](crate::verify) found in a log that keeps every rule, or that only members break who contradict their own
/// accounts ([`AuditError::Members`](crate::AuditError::Members)).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// For each node, dataset and study, what was spent.
    pub accounts: Vec<AccountReport>,
    /// How many entries there are of each kind.
    pub entries: BTreeMap<&'static str, u64>,
    /// What should be known.
    pub findings: Vec<Finding>,
    /// The log's head.
    pub log: LogReport,
    /// The studies whose entries were checked.
    pub studies: Vec<StudyReport>,
    /// Every task of these studies, in the order of the log.
    pub tasks: Vec<TaskReport>,
}

/// What [`verify_own_log`](crate::verify_own_log) found in a node's log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OwnLogReport {
    /// How many entries there are of each kind.
    pub entries: BTreeMap<&'static str, u64>,
    /// What breaks no rule and should be known.
    pub findings: Vec<Finding>,
    /// The log's head.
    pub log: LogReport,
    /// For each dataset, the sequence number of the last account entry in the log.
    pub sequences: BTreeMap<String, u64>,
}

/// The head of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LogReport {
    /// The signed note as it stands in the directory, cosignatures included.
    pub checkpoint: String,
    /// Who cosigned it, and when by their own clocks.
    pub cosigned_by: Vec<Cosigner>,
    /// The log's name.
    pub origin: String,
    /// The root of the tree.
    pub root: Hash,
    /// How many entries.
    pub size: u64,
}

/// Who cosigned, with one key or both, each checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cosigner {
    /// With which of its keys: `ed25519`, `ml-dsa-44`.
    pub keys: Vec<&'static str>,
    /// Whose.
    pub organisation: String,
    /// When, by its own clock: the first of its cosignatures.
    pub time: Timestamp,
}

/// A revision of a study's agreement, whose entries were checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StudyReport {
    /// The agreement (hash of its payload).
    pub agreement: Hash,
    /// The entry of the last of its custodians: from then on it is in force, until the next revision.
    pub from: u64,
    /// Whether it is the one that was handed in; if not, it was found in the log, and nobody compared its keys.
    pub given: bool,
    /// Which revision.
    pub revision: u32,
    /// Its name.
    pub study: Name,
}

/// A task: asked by a researcher of the agreement, and at most permitted, paid and released by its rules.
///
/// Checked: the document is signed by its researcher; the plan fits the agreement and its price follows from it; each
/// permit is for this plan at this price and the policy permits the task at the time of the permit; what became of the
/// price follows its permit. If released: once, at last, with the policy's permit for the time of asking, every
/// participant's permit, every survivor's spent price and receipt, for the rows that it permitted and the round that
/// this very log position makes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskReport {
    /// What people said about it, in the order of the log.
    pub approvals: Vec<ApprovalReport>,
    /// When it was asked, by the researcher's clock.
    pub asked_at: Timestamp,
    /// The dataset.
    pub dataset: Name,
    /// The index of its entry in the log.
    pub entry: u64,
    /// What it costs alone at each node, as ε in units of 10^-6 at the agreement's δ; nothing if its plan does not fit.
    pub epsilon_micro: Option<u64>,
    /// How it ended.
    pub outcome: Outcome,
    /// The plan.
    pub plan: Hash,
    /// Who asked.
    pub researcher: Name,
    /// Under which study.
    pub study: Name,
    /// SHA-256 of the task's payload: what it is called by.
    pub task: Hash,
}

/// A person's yes or no to a task at an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ApprovalReport {
    /// Yes or no.
    pub approved: bool,
    /// The index of its entry in the log.
    pub entry: u64,
    /// Where.
    pub organisation: Name,
    /// Who.
    pub person: Name,
    /// In which role.
    pub role: Role,
    /// When, by the person's clock.
    pub time: Timestamp,
    /// The rationale.
    pub why: String,
}

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", tag = "state")]
pub enum Outcome {
    /// Without an answer, for a reason that lies in no one's policy.
    Failed {
        /// Why, as the hub says.
        reason: String,
    },
    /// Not yet.
    Open,
    /// Somebody's policy or account said no.
    Refused {
        /// Every failing clause, as `who: study/clause`.
        clauses: Vec<String>,
    },
    /// With an answer.
    Released {
        /// The index of its entry in the log.
        entry: u64,
        /// SHA-256 of the release's payload.
        release: Hash,
        /// How many groups are not shown, because by their noised counts they have too few persons.
        suppressed: u64,
    },
}

/// The account of one dataset at one node, as far as one study goes.
///
/// Checked: every statement about the account (in permits, in prices, in receipts) belongs to one chain of entries; each
/// run goes from reserved to read and spent, or to refunded; what is charged stayed within the agreement's budgets for
/// the study and for each researcher; and it is the sum of the prices that follow from the plans of the study's tasks. The
/// house's own cap for the dataset stands in no agreement and is not checked.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AccountReport {
    /// Whether the node contradicts itself about its accounts. Then a finding says where, and nothing that it says of them
    /// is believed: what was spent is the sum of all prices that it ever signed, refunds not counted.
    pub contradicted: bool,
    /// The dataset.
    pub dataset: Name,
    /// ε of everything that the study spent or reserved there, at the agreement's δ, rounded up.
    pub epsilon_spent: f64,
    /// What it may spend.
    pub epsilon_total: Decimal,
    /// Whose node.
    pub node: Name,
    /// The sequence number of the last account entry (of any study) that the log speaks of.
    pub sequence: u64,
    /// The study.
    pub study: Name,
}

/// Something that a reader should know. All but contradictions break no rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The entry it is about, if it is about one.
    pub entry: Option<u64>,
    /// What kind of thing.
    pub kind: FindingKind,
    /// In words.
    pub text: String,
}

/// The kinds of findings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A custodian's signature on the agreement has no entry of its own.
    Agreement,
    /// A node noticed something that a person should look at.
    Alert,
    /// The agreement was amended.
    Amendment,
    /// A member's word against its own: it signed two books for one account, or spent more than was agreed.
    Contradiction,
    /// A person stopped the study at an organisation, or set it going again.
    Freeze,
    /// Account entries that the log does not show; tasks whose end a node has not told can account for them.
    Gap,
    /// A step in dealing with an incident.
    Incident,
    /// Entries that were not checked: their agreement is not signed by all, or names another hub.
    NotCovered,
    /// Signatures on an agreement or amendment that not all of its custodians have signed.
    Proposal,
    /// A refusal by the hub that the agreement does not ask for.
    Refusal,
    /// A custodian took back the agreement or a key.
    Revocation,
    /// A node permitted a task that ended without an answer or was answered without it, and has not said what became of
    /// the price.
    Unsettled,
}

impl LogReport {
    pub(crate) fn of(log: &VerifiedLog) -> Self {
        let head = log.checkpoint().checkpoint();
        let mut cosigned_by: Vec<Cosigner> = Vec::new();
        for by in log.cosigned_by() {
            let (organisation, key) = (by.witness.name(), key_name(by.witness.kind()));
            let time = Timestamp::from_seconds(i64::try_from(by.time_s).unwrap_or(i64::MAX));
            match cosigned_by.iter_mut().find(|known| known.organisation == organisation) {
                Some(known) => known.keys.push(key),
                None => cosigned_by.push(Cosigner { keys: vec![key], organisation: organisation.to_owned(), time }),
            }
        }
        Self {
            checkpoint: log.checkpoint().to_string(),
            cosigned_by,
            origin: head.origin().to_owned(),
            root: Hash::from_bytes(*head.root()),
            size: head.size(),
        }
    }
}

/// How many entries there are of each kind; every kind is named.
pub(crate) fn count_kinds(leaves: &[Leaf]) -> BTreeMap<&'static str, u64> {
    let mut counts: BTreeMap<&'static str, u64> = ENTRY_KINDS.into_iter().map(|kind| (kind, 0)).collect();
    for leaf in leaves {
        *counts.entry(leaf.claims().fact.kind()).or_default() += 1;
    }
    counts
}

/// Findings while they are collected.
#[derive(Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    /// By agreement, its entries that are not checked.
    not_covered: BTreeMap<Hash, NotCovered>,
}

/// Entries under one agreement that are not checked.
struct NotCovered {
    count: u64,
    first: u64,
    /// Which revision it is, by those of its entries that say that a custodian signs it.
    revision: Option<u32>,
    /// How many of them say so.
    signatures: u64,
    study: Name,
}

impl Findings {
    pub(crate) fn push(&mut self, kind: FindingKind, entry: Option<u64>, text: String) {
        self.list.push(Finding { entry, kind, text: printable(&text) });
    }

    /// Notes an entry that cannot be judged.
    pub(crate) fn not_covered(&mut self, leaf: &Leaf) {
        let claims = leaf.claims();
        let found = self.not_covered.entry(claims.agreement).or_insert_with(|| NotCovered {
            count: 0,
            first: leaf.index,
            revision: None,
            signatures: 0,
            study: claims.study.clone(),
        });
        found.count += 1;
        if let Fact::Agreement { revision, .. } = claims.fact {
            found.revision = Some(revision);
            found.signatures += 1;
        }
    }

    pub(crate) fn into_list(mut self) -> Vec<Finding> {
        for (agreement, NotCovered { count, first, revision, signatures, study }) in
            std::mem::take(&mut self.not_covered)
        {
            let agreement = agreement.short();
            let (kind, text) = match revision {
                Some(revision) if signatures == count => {
                    let what = if revision > 1 { "amendment" } else { "agreement" };
                    let text = format!(
                        "study {study}: {what} {agreement} (revision {revision}) is proposed and not signed by all custodians \
                         ({count} so far): it is not in force"
                    );
                    (FindingKind::Proposal, text)
                }
                _ => {
                    let text = format!(
                        "{count} entries of study {study} stand under an agreement ({agreement}) that the log does not hold \
                         signed by all custodians and for this hub: they were not checked"
                    );
                    (FindingKind::NotCovered, text)
                }
            };
            self.push(kind, Some(first), text);
        }
        self.list.sort_by_key(|finding| finding.entry);
        self.list
    }
}

/// The most characters of another's text in a report.
const CHARS_MAX: usize = 2_000;

/// Another's text, fit to be printed.
pub(crate) fn printable(text: &str) -> String {
    plain(text).chars().take(CHARS_MAX).collect()
}

/// Who speaks, in a word.
pub(crate) fn who(author: &Author) -> &Name {
    match author {
        Author::Custodian(name) | Author::Hub(name) | Author::Node(name) | Author::Researcher(name) => name,
        Author::Person { person, .. } => person,
    }
}

/// What a cosigner's key is called.
const fn key_name(kind: KeyKind) -> &'static str {
    match kind {
        KeyKind::WitnessMlDsa44 => "ml-dsa-44",
        KeyKind::Log | KeyKind::Witness => "ed25519",
    }
}
