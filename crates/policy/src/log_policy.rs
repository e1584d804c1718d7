//! Whose cosignatures make a head of the hub's log count, as the agreement states it, and what follows for one entry.
//!
//! The agreement carries a policy in the format others read (C2SP tlog-policy): the hub's log key, one witness per party
//! with the keys of its roster entry, and a quorum of `q` of them. Any other policy, however sensible, is refused: the
//! one text that follows from hub, parties, `q` and `post_quantum` is written again and compared.
//!
//! `2q > n + c`: any two quorums share more than `c` witnesses, so that at least one honest witness saw both heads, and
//! `c` colluders with the hub cannot show two histories (Syta et al. 2016, section IV; the counting is that of the
//! survivor set, Bonawitz et al. 2017). `q > c`: colluders alone are no quorum.
//!
//! Assumes: a hostile hub, and at most `c` witnesses who cosign what they must not.

use std::fmt::Write as _;

use cohortium_ledger::tree::{leaf_hash, verify_inclusion as verify_path};
use cohortium_ledger::{CheckpointError, KeyKind, NoteError, SignedCheckpoint, TreeError, VerifierKey};
use cohortium_messages::{
    Agreement, CanonicalError, Envelope, Hash, HubEntry, Inclusion, MlDsaPublicKey, Name, RosterEntry, SecureSumTerms,
    canonical_bytes,
};
use data_encoding::{BASE64, HEXLOWER};
use serde::{Deserialize, Serialize};

/// Whose cosignatures are needed, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogTerms {
    /// Whether a party counts only with both its signatures: Ed25519 and ML-DSA-44.
    pub post_quantum: bool,
    /// How many parties must have cosigned a head: `c < q ≤ n` and `2q > n + c`.
    pub quorum: u32,
}

/// Why a log policy is not the agreement's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogPolicyError {
    /// Too few or too many.
    #[error(
        "log.quorum: with {organisations} organisations and colluders = {colluders}, quorum = {quorum} must satisfy \
         2·quorum > organisations + colluders, colluders < quorum and quorum ≤ organisations"
    )]
    Quorum {
        /// `c`.
        colluders: u32,
        /// `n`.
        organisations: usize,
        /// `q`.
        quorum: u32,
    },
    /// Another text than follows from the agreement.
    #[error(
        "log_policy is not the policy of this hub's log key and these parties' witness keys with one quorum of parties"
    )]
    Other,
    /// A key that no log or witness can have.
    #[error("log_policy: {0}")]
    Key(#[from] NoteError),
}

/// The policy that an agreement carries: hub, one witness per party in the order of the agreement, quorum.
///
/// # Errors
/// [`LogPolicyError::Quorum`], or a key that cannot be used.
pub fn log_policy_text(
    hub: &HubEntry,
    parties: &[&RosterEntry],
    secure_sum: SecureSumTerms,
    terms: LogTerms,
) -> Result<String, LogPolicyError> {
    let (n, c, q) = (parties.len(), secure_sum.colluders, terms.quorum);
    let (wide_n, wide_c, wide_q) = (n as u64, u64::from(c), u64::from(q));
    if wide_q <= wide_c || wide_q > wide_n || 2 * wide_q <= wide_n.saturating_add(wide_c) {
        return Err(LogPolicyError::Quorum { colluders: c, organisations: n, quorum: q });
    }
    // No name of an organisation has a slash, so nothing here can collide with one.
    let mut text = format!("log {}\n", log_key(hub)?);
    for entry in parties {
        let (name, key) = (&entry.organisation, witness_key(entry)?);
        if terms.post_quantum {
            let second = ml_dsa_vkey(name, &entry.witness_ml_dsa_key);
            let _ = write!(text, "witness {name}/ed25519 {key}\nwitness {name}/ml-dsa-44 {second}\n");
            let _ = writeln!(text, "group {name} all {name}/ed25519 {name}/ml-dsa-44");
        } else {
            let _ = writeln!(text, "witness {name} {key}");
        }
    }
    let names: Vec<&str> = parties.iter().map(|entry| entry.organisation.as_str()).collect();
    let _ = write!(text, "group members/quorum {q} {}\nquorum members/quorum\n", names.join(" "));
    Ok(text)
}

/// What the agreement's log policy demands, if it is the one that follows from the agreement's own parties.
///
/// Promise: given any agreement, returns terms only if its log policy names exactly its hub's log key and exactly its
/// parties' witness keys, with a quorum that `c` colluders cannot split. Argued: equality with the text that is written
/// from those keys.
///
/// # Errors
/// [`LogPolicyError`]: whoever drafted the agreement must act.
pub fn log_terms(agreement: &Agreement) -> Result<LogTerms, LogPolicyError> {
    let mut lines = agreement.log_policy.lines();
    let quorum =
        lines.find_map(|line| line.strip_prefix("group members/quorum ")).and_then(|rest| rest.split(' ').next());
    let quorum = quorum.and_then(|quorum| quorum.parse().ok()).ok_or(LogPolicyError::Other)?;
    let post_quantum = agreement.log_policy.lines().any(|line| line.contains(" all "));
    let terms = LogTerms { post_quantum, quorum };
    let parties: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
    if log_policy_text(&agreement.hub, &parties, agreement.secure_sum, terms)? == agreement.log_policy {
        Ok(terms)
    } else {
        Err(LogPolicyError::Other)
    }
}

/// Why an entry is not shown to be in the log. The hub must act, except where the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum InclusionError {
    /// The agreement's own log policy is not right. The custodians must act.
    #[error(transparent)]
    Policy(#[from] LogPolicyError),
    /// The head is not the hub's, or too few have cosigned it.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path does not lead from the entry to the head.
    #[error(transparent)]
    Path(#[from] TreeError),
    /// Cosignatures of a kind that cannot be checked here. The operator must update.
    #[error("operator: the agreement demands ML-DSA-44 cosignatures, which this version cannot check")]
    PostQuantum,
    /// The entry has no canonical form. Ours to fix.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// Evidence that an entry is in the hub's log under a head that a quorum of the parties cosigned. Made by
/// [`verify_inclusion`] alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Included {
    cosigned_by: Vec<Name>,
    entry: Hash,
    index: u64,
    size: u64,
}

impl Included {
    /// The parties whose cosignatures were counted, sorted.
    #[must_use]
    pub fn cosigned_by(&self) -> &[Name] {
        &self.cosigned_by
    }

    /// Which entry: the SHA-256 of its envelope in canonical form.
    #[must_use]
    pub const fn entry(&self) -> Hash {
        self.entry
    }

    /// The position of the entry.
    #[must_use]
    pub const fn index(&self) -> u64 {
        self.index
    }

    /// How many entries the head covers.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }
}

/// Whether an entry is in the hub's log, as far as the agreement's parties vouch for it.
///
/// Promise: given what the hub shows, returns only if the very envelope is a leaf under a head that the hub's log key
/// signed and that at least the agreed quorum of parties cosigned; never on the hub's word. A node that wants its own
/// cosignature among them looks at [`Included::cosigned_by`].
///
/// # Errors
/// The first thing that does not hold.
pub fn verify_inclusion(
    agreement: &Agreement,
    entry: &Envelope,
    inclusion: &Inclusion,
) -> Result<Included, InclusionError> {
    let terms = log_terms(agreement)?;
    if terms.post_quantum {
        return Err(InclusionError::PostQuantum);
    }
    let log = log_key(&agreement.hub)?;
    let witnesses = agreement.parties.iter().map(|party| witness_key(&party.entry)).collect::<Result<Vec<_>, _>>()?;
    let head = SignedCheckpoint::open(inclusion.note.as_bytes(), &log)?;
    let quorum = usize::try_from(terms.quorum).unwrap_or(usize::MAX);
    let witnessed = head.verify_quorum(&witnesses, quorum)?;
    let path: Vec<[u8; 32]> = inclusion.path.iter().map(|hash| *hash.as_bytes()).collect();
    let bytes = canonical_bytes(entry)?;
    let (size, root) = (head.checkpoint().size(), head.checkpoint().root());
    verify_path(&leaf_hash(&bytes), inclusion.index, size, &path, root)?;
    let mut cosigned_by: Vec<Name> = witnessed
        .cosigned_by()
        .iter()
        .filter_map(|witnessed| {
            let named = |entry: &&RosterEntry| entry.organisation.as_str() == witnessed.witness.name();
            agreement.parties.iter().map(|party| &party.entry).find(named)
        })
        .map(|entry| entry.organisation.clone())
        .collect();
    cosigned_by.sort();
    Ok(Included { cosigned_by, entry: Hash::of(&bytes), index: inclusion.index, size })
}

impl From<NoteError> for InclusionError {
    fn from(error: NoteError) -> Self {
        Self::Policy(LogPolicyError::Key(error))
    }
}

fn log_key(hub: &HubEntry) -> Result<VerifierKey, NoteError> {
    VerifierKey::new(hub.hub.as_str(), KeyKind::Log, hub.log_key.as_bytes())
}

fn witness_key(entry: &RosterEntry) -> Result<VerifierKey, NoteError> {
    VerifierKey::new(entry.organisation.as_str(), KeyKind::Witness, entry.witness_key.as_bytes())
}

/// The text form of an ML-DSA-44 cosigning key (signed-note, "verifier keys"; tlog-cosignature: type 0x06).
fn ml_dsa_vkey(name: &Name, key: &MlDsaPublicKey) -> String {
    const TYPE: &[u8] = &[0x06];
    let id = Hash::of(&[name.as_str().as_bytes(), b"\n", TYPE, key.as_bytes()].concat());
    let id = HEXLOWER.encode(id.as_bytes().first_chunk::<4>().unwrap_or(&[0; 4]));
    format!("{name}+{id}+{}", BASE64.encode(&[TYPE, key.as_bytes()].concat()))
}
