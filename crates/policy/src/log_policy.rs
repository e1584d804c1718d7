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

use cohortium_ledger::tree::{leaf_hash, verify_inclusion as verify_path};
use cohortium_ledger::{KeyKind, LogPolicy, NoteError, PolicyError, PolicyMember, TreeError, VerifierKey};
use cohortium_messages::{
    Agreement, CanonicalError, Envelope, Hash, HubEntry, Inclusion, Name, RosterEntry, SecureSumTerms, canonical_bytes,
};
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
    /// No policy, or keys and names that cannot stand in one.
    #[error("log_policy: {0}")]
    Policy(#[from] PolicyError),
}

/// The policy of an agreement: hub, one witness per party, quorum.
///
/// # Errors
/// [`LogPolicyError::Quorum`], or a key that cannot be used.
pub fn log_policy(
    hub: &HubEntry,
    parties: &[&RosterEntry],
    secure_sum: SecureSumTerms,
    terms: LogTerms,
) -> Result<LogPolicy, LogPolicyError> {
    let (n, c, q) = (parties.len(), secure_sum.colluders, terms.quorum);
    let (wide_n, wide_c, wide_q) = (n as u64, u64::from(c), u64::from(q));
    if wide_q <= wide_c || wide_q > wide_n || 2 * wide_q <= wide_n.saturating_add(wide_c) {
        return Err(LogPolicyError::Quorum { colluders: c, organisations: n, quorum: q });
    }
    let log = VerifierKey::new(hub.hub.as_str(), KeyKind::Log, hub.log_key.as_bytes()).map_err(unusable)?;
    let members = parties.iter().map(|entry| member(entry, terms.post_quantum)).collect::<Result<Vec<_>, _>>()?;
    Ok(LogPolicy::of_members(&log, &members, q as usize)?)
}

/// The policy that an agreement carries, if it is the one that follows from the agreement's own parties.
///
/// Promise: given any agreement, returns a policy only if it names exactly its hub's log key and exactly its parties'
/// witness keys, with a quorum that `c` colluders cannot split. Argued: equality with the text that is written from those
/// keys.
///
/// # Errors
/// [`LogPolicyError`]: whoever drafted the agreement must act.
pub fn agreed_log_policy(agreement: &Agreement) -> Result<LogPolicy, LogPolicyError> {
    let policy = LogPolicy::parse(agreement.log_policy.as_bytes())?;
    let terms = terms_of(&policy)?;
    let parties: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
    let again = log_policy(&agreement.hub, &parties, agreement.secure_sum, terms)?;
    if again.to_string() == agreement.log_policy { Ok(policy) } else { Err(LogPolicyError::Other) }
}

/// What the agreement's log policy demands.
///
/// # Errors
/// As [`agreed_log_policy`].
pub fn log_terms(agreement: &Agreement) -> Result<LogTerms, LogPolicyError> {
    terms_of(&agreed_log_policy(agreement)?)
}

fn terms_of(policy: &LogPolicy) -> Result<LogTerms, LogPolicyError> {
    let (quorum, members) = policy.flat_quorum().ok_or(LogPolicyError::Other)?;
    let quorum = u32::try_from(quorum).map_err(|_| LogPolicyError::Other)?;
    Ok(LogTerms { post_quantum: members.iter().any(|member| member.ml_dsa_44.is_some()), quorum })
}

/// A party as a witness, with the keys of its roster entry.
fn member(entry: &RosterEntry, post_quantum: bool) -> Result<PolicyMember, LogPolicyError> {
    let name = entry.organisation.as_str();
    let second = || VerifierKey::new(name, KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes());
    Ok(PolicyMember {
        name: name.to_owned(),
        ed25519: VerifierKey::new(name, KeyKind::Witness, entry.witness_key.as_bytes()).map_err(unusable)?,
        ml_dsa_44: post_quantum.then(second).transpose().map_err(unusable)?,
    })
}

fn unusable(error: NoteError) -> LogPolicyError {
    LogPolicyError::Policy(error.into())
}

/// Why an entry is not shown to be in the log. The hub must act, except where the message says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum InclusionError {
    /// The agreement's own log policy is not right. The custodians must act.
    #[error(transparent)]
    Agreement(#[from] LogPolicyError),
    /// The head is not the hub's, or too few have cosigned it.
    #[error(transparent)]
    Head(#[from] PolicyError),
    /// The path does not lead from the entry to the head.
    #[error(transparent)]
    Path(#[from] TreeError),
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
    let policy = agreed_log_policy(agreement)?;
    let head = policy.is_met(&policy.open(inclusion.note.as_bytes())?)?;
    let path: Vec<[u8; 32]> = inclusion.path.iter().map(|hash| *hash.as_bytes()).collect();
    let bytes = canonical_bytes(entry)?;
    let (size, root) = (head.checkpoint().size(), head.checkpoint().root());
    verify_path(&leaf_hash(&bytes), inclusion.index, size, &path, root)?;
    let cosigned = |key: &VerifierKey| head.cosigned_by().iter().any(|witnessed| witnessed.witness == *key);
    let (_, members) = policy.flat_quorum().ok_or(LogPolicyError::Other)?;
    let counted = members.iter().filter(|member| cosigned(&member.ed25519) && member.ml_dsa_44.iter().all(cosigned));
    let cosigned_by = counted.filter_map(|member| member.name.parse().ok()).collect(); // names of parties, so they parse
    Ok(Included { cosigned_by, entry: Hash::of(&bytes), index: inclusion.index, size })
}
