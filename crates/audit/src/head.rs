//! Which head of a log counts, and which agreements the log records.
//!
//! A head counts when it meets the log policy of the agreement that was handed in, or of an amendment that more than `c` of
//! its custodians signed, so that at least one of them is honest. Members of other studies cosign the same head, and
//! members sign with a second key that a policy may not ask for. Such lines are neither needed nor trusted, but must be by
//! somebody: who that may be, the agreements say that the log records.
//!
//! Agreements are read only from what `agreement` entries name, and of each copy only the signatures of its own custodians
//! are taken, each once: what else a custodian, or whoever held the directory, put into an envelope keeps nobody's signature
//! out of it. A key stands for itself, and hides none of the same name.
//!
//! Adversary: whoever had the directory in hand. Nothing here is checked against its author yet but the agreements
//! themselves, by the keys that they state; who those people are is the reader's to know.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cohortium_ledger::{
    KeyKind, NoteSignature, PolicyError, SignedLog, VerifiedLog, VerifierKey, VerifyError, verify_signed_directory,
};
use cohortium_messages::{Agreement, Envelope, Fact, Hash, PublicKey, RosterEntry, Verified};
use cohortium_policy::{agreed_log_policy, open_agreement};

use crate::body::Bodies;
use crate::leaf::{self, Leaf};
use crate::{AuditError, unusable};

/// A log under a head that counts.
pub(crate) struct Head {
    /// The amendments, in order, that lead from the agreement that was handed in to the one whose log policy the head meets;
    /// none if it is that one itself.
    pub amended: Vec<Complete>,
    /// Every agreement of this hub that the log records with all signatures.
    pub complete: Vec<Complete>,
    pub leaves: Vec<Leaf>,
    pub log: VerifiedLog,
}

/// An agreement that all its custodians signed.
#[derive(Clone)]
pub(crate) struct Complete {
    pub agreement: Verified<Agreement>,
    /// With their signatures and nothing else.
    pub envelope: Envelope,
}

/// The key of a log.
pub(crate) fn log_key(name: &str, key: &PublicKey) -> Result<VerifierKey, AuditError> {
    VerifierKey::new(name, KeyKind::Log, key.as_bytes()).map_err(unusable)
}

/// Verifies the directory as the log of the agreement's hub, under a head that counts.
pub(crate) fn verify_log(dir: &Path, given: &Verified<Agreement>) -> Result<Head, AuditError> {
    let policy = agreed_log_policy(given).map_err(unusable)?;
    let signed = verify_signed_directory(dir, &log_key(given.hub.hub.as_str(), &given.hub.log_key)?)?;
    let leaves = leaf::read_all(signed.entries())?;
    let complete = recorded(&leaves, &Bodies::new(dir, signed.bodies()))?;
    let complete: Vec<Complete> = complete.into_iter().filter(|other| other.agreement.hub == given.hub).collect();
    let members = complete.iter().map(|other| &*other.agreement);
    let log = cosigned(signed, std::iter::once(&**given).chain(members))?;
    let amended = match policy.is_met(log.checkpoint()) {
        Ok(_) => Vec::new(),
        Err(not_met) => met_by_amendment(given, &complete, &log, not_met)?,
    };
    Ok(Head { amended, complete, leaves, log })
}

/// The log, whose head nobody may have cosigned but the parties of these agreements.
pub(crate) fn cosigned<'a>(
    signed: SignedLog,
    agreements: impl Iterator<Item = &'a Agreement>,
) -> Result<VerifiedLog, AuditError> {
    // Only keys that a line could be by: there are few lines, and a log may hold many agreements.
    let lines = signed.checkpoint().note().signatures();
    let names: BTreeSet<&str> = lines.iter().map(NoteSignature::name).collect();
    let parties = agreements.flat_map(|agreement| &agreement.parties);
    let mut known: Vec<VerifierKey> = Vec::new();
    for party in parties.filter(|party| names.contains(party.entry.organisation.as_str())) {
        for key in witness_keys(&party.entry) {
            if lines.iter().any(|line| key.claims(line)) && !known.contains(&key) {
                known.push(key);
            }
        }
    }
    Ok(signed.cosigned_among(&known)?)
}

/// A party's witness keys. One that is no key, in an agreement that others made, is nobody's.
fn witness_keys(entry: &RosterEntry) -> impl Iterator<Item = VerifierKey> {
    let name = entry.organisation.as_str();
    let keys = [
        VerifierKey::new(name, KeyKind::Witness, entry.witness_key.as_bytes()),
        VerifierKey::new(name, KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes()),
    ];
    keys.into_iter().filter_map(Result::ok)
}

/// The amendments that lead to one whose log policy the head meets.
fn met_by_amendment(
    given: &Verified<Agreement>,
    complete: &[Complete],
    log: &VerifiedLog,
    not_met: PolicyError,
) -> Result<Vec<Complete>, AuditError> {
    let (mut last, mut amended) = (given, Vec::new());
    while let Some(next) = complete.iter().find(|next| amends(last, next)) {
        amended.push(next.clone());
        if agreed_log_policy(&next.agreement).is_ok_and(|policy| policy.is_met(log.checkpoint()).is_ok()) {
            return Ok(amended);
        }
        last = &next.agreement;
    }
    Err(VerifyError::from(not_met).into())
}

/// Whether `next` amends `last`, and more custodians of `last` signed it than may collude.
fn amends(last: &Verified<Agreement>, next: &Complete) -> bool {
    let signed = last.custodian_keys().iter().filter(|key| next.envelope.is_signed_by(key)).count();
    follows(last, &next.agreement)
        && next.agreement.hub == last.hub
        && signed > usize::try_from(last.secure_sum.colluders).unwrap_or(usize::MAX)
}

/// Whether `next` is the revision after `last`.
pub(crate) fn follows(last: &Verified<Agreement>, next: &Agreement) -> bool {
    next.previous == Some(last.hash())
        && Some(next.revision) == last.revision.checked_add(1)
        && next.study == last.study
}

/// Every agreement that the log records with the signatures of all its custodians, put together from all copies.
fn recorded(leaves: &[Leaf], bodies: &Bodies<'_>) -> Result<Vec<Complete>, AuditError> {
    let mut recorded: BTreeMap<Hash, Envelope> = BTreeMap::new();
    for leaf in leaves {
        let Fact::Agreement { body, .. } = &leaf.claims().fact else { continue };
        let copy = bodies.envelope(leaf.index, *body)?;
        // What is no agreement is refused where documents are compared with their entries.
        let Ok(claims) = copy.peek::<Agreement>() else { continue };
        let custodians = claims.claims().custodian_keys();
        let mut merged = copy.signed_only_by(&custodians);
        if let Some(known) = recorded.get(&claims.hash()) {
            merged.merge_signatures(known).map_err(|error| crate::at(leaf.index, error.to_string()))?;
            merged = merged.signed_only_by(&custodians);
        }
        recorded.insert(claims.hash(), merged);
    }
    let opened = recorded.into_values().map(|envelope| (open_agreement(&envelope), envelope));
    Ok(opened.filter_map(|(agreement, envelope)| Some(Complete { agreement: agreement.ok()?, envelope })).collect())
}
