//! What entries are judged by: agreements that all their custodians signed, and the keys that these state.
//!
//! One agreement is handed in and believed. The log of a hub holds other studies too, whose accounts at the nodes are the
//! same: their agreements are put together from the signed copies beside the log. A study whose agreement is not signed
//! by all (it may never be) has no keys that anybody vouches for; its entries are listed, not judged.

use std::collections::BTreeMap;
use std::path::Path;
use std::rc::Rc;

use cohortium_ledger::note::SIGNATURES_MAX;
use cohortium_ledger::{
    CheckpointError, KeyKind, VerifiedLog, VerifierKey, VerifyError, verify_directory, verify_directory_under,
};
use cohortium_messages::{Agreement, Author, Envelope, Fact, Hash, PublicKey, Verified};
use cohortium_policy::{Policy, agreed_log_policy, open_agreement};

use crate::body::{Bodies, unverified_agreements};
use crate::leaf::Leaf;
use crate::outcome::{FindingKind, Findings, StudyReport};
use crate::{AuditError, unusable};

/// A study that entries can be judged by.
pub(crate) struct Study {
    /// What its custodians signed.
    pub agreement: Verified<Agreement>,
    /// Whether it was handed in, and not found in the log.
    given: bool,
    /// The agreement in a form that can be evaluated.
    pub policy: Policy,
}

impl Study {
    /// What the report says of it.
    pub(crate) fn report(&self) -> StudyReport {
        StudyReport {
            agreement: self.agreement.hash(),
            given: self.given,
            revision: self.agreement.revision,
            study: self.agreement.study.clone(),
        }
    }
}

/// The key of a log.
pub(crate) fn log_key(name: &str, key: &PublicKey) -> Result<VerifierKey, AuditError> {
    VerifierKey::new(name, KeyKind::Log, key.as_bytes()).map_err(unusable)
}

/// Verifies the directory as the log of the agreement's hub, under a head that meets the agreement's log policy.
///
/// Members of other studies cosign the same head, and members sign with a second key that this policy may not ask for. Such
/// signatures are neither needed nor trusted, but must be by somebody: where the head has some, the agreements in the
/// directory say who these may be.
pub(crate) fn verify_log(dir: &Path, given: &Agreement) -> Result<VerifiedLog, AuditError> {
    let policy = agreed_log_policy(given).map_err(unusable)?;
    match verify_directory_under(dir, &policy) {
        Err(VerifyError::Checkpoint(CheckpointError::UnknownSigner { .. })) => {}
        verified => return Ok(verified?),
    }
    let log = log_key(given.hub.hub.as_str(), &given.hub.log_key)?;
    let verified = verify_directory(dir, &log, &with_other_witnesses(dir, given)?, 0)?;
    policy.is_met(verified.checkpoint()).map_err(VerifyError::from)?;
    Ok(verified)
}

/// The studies that are known: the given one, and those whose agreement stands complete beside the log.
pub(crate) fn known(
    given: Verified<Agreement>,
    leaves: &[Leaf],
    bodies: &Bodies<'_>,
    findings: &mut Findings,
) -> Result<BTreeMap<Hash, Rc<Study>>, AuditError> {
    let (given_hash, hub) = (given.hash(), given.hub.clone());
    let logged = collect(leaves, bodies)?;
    if !logged.contains_key(&given_hash) {
        return Err(unusable("this log does not record it: bring the agreement and the log of one hub together"));
    }
    note_missing_custodians(&given, leaves, findings);
    let policy = cohortium_policy::compile(&given).map_err(unusable)?;
    let mut studies = BTreeMap::from([(given_hash, Rc::new(Study { agreement: given, given: true, policy }))]);
    for (hash, envelope) in logged.into_iter().filter(|(hash, _)| *hash != given_hash) {
        let Ok(agreement) = open_agreement(&envelope) else { continue };
        if studies.values().any(|study| study.agreement.study == agreement.study) {
            return Err(unusable(format!("the log holds two complete agreements of the study {}", agreement.study)));
        }
        match cohortium_policy::compile(&agreement) {
            Ok(policy) if agreement.hub == hub => {
                studies.insert(hash, Rc::new(Study { agreement, given: false, policy }));
            }
            _ => {}
        }
    }
    Ok(studies)
}

/// Every agreement that the log records, with the signatures of all its copies put together.
fn collect(leaves: &[Leaf], bodies: &Bodies<'_>) -> Result<BTreeMap<Hash, Envelope>, AuditError> {
    let mut logged: BTreeMap<Hash, Envelope> = BTreeMap::new();
    for leaf in leaves {
        let Fact::Agreement { body, .. } = &leaf.claims().fact else { continue };
        let copy = bodies.envelope(leaf.index, *body)?;
        match logged.get_mut(&leaf.claims().agreement) {
            Some(known) => known.merge_signatures(&copy).map_err(|error| crate::at(leaf.index, error.to_string()))?,
            None => {
                logged.insert(leaf.claims().agreement, copy);
            }
        }
    }
    Ok(logged)
}

/// The agreement is signed by all; whose own entry about that is not in the log is worth knowing.
fn note_missing_custodians(given: &Verified<Agreement>, leaves: &[Leaf], findings: &mut Findings) {
    for party in given.participants() {
        let author = Author::Custodian(party.clone());
        let says_so = |leaf: &&Leaf| {
            let claims = leaf.claims();
            claims.author == author && claims.agreement == given.hash() && claims.fact.kind() == "agreement"
        };
        if leaves.iter().find(says_so).is_none() {
            findings.push(
                FindingKind::Agreement,
                None,
                format!("{party} signed the agreement of study {}, but the log has no entry of it", given.study),
            );
        }
    }
}

/// The parties' witness keys, both of each.
fn witness_keys(agreement: &Agreement) -> Result<Vec<VerifierKey>, AuditError> {
    let mut keys = Vec::new();
    for party in &agreement.parties {
        let (entry, name) = (&party.entry, party.entry.organisation.as_str());
        for (kind, key) in [
            (KeyKind::Witness, entry.witness_key.as_bytes().as_slice()),
            (KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes()),
        ] {
            keys.push(VerifierKey::new(name, kind, key).map_err(unusable)?);
        }
    }
    Ok(keys)
}

/// The witnesses of `given`, and those of other complete agreements of the same hub; no key twice, and no name with two
/// keys of one kind.
fn with_other_witnesses(dir: &Path, given: &Agreement) -> Result<Vec<VerifierKey>, AuditError> {
    let mut witnesses = witness_keys(given)?;
    for other in unverified_complete(dir).iter().filter(|agreement| agreement.hub == given.hub) {
        for key in witness_keys(other)? {
            let is_new = |known: &VerifierKey| {
                (known.name(), known.kind()) != (key.name(), key.kind()) && known.public_key() != key.public_key()
            };
            // A note carries no more signatures than this, so more signers are of no use.
            if witnesses.len() < SIGNATURES_MAX && witnesses.iter().all(is_new) {
                witnesses.push(key);
            }
        }
    }
    Ok(witnesses)
}

/// Agreements beside the log that all their custodians signed, before anything about the directory is checked.
fn unverified_complete(dir: &Path) -> Vec<Verified<Agreement>> {
    let mut merged: BTreeMap<Hash, Envelope> = BTreeMap::new();
    for copy in unverified_agreements(dir) {
        let Ok(claims) = copy.peek::<Agreement>() else { continue };
        match merged.get_mut(&claims.hash()) {
            // Copies of one payload merge; anything else is left to the audit proper.
            Some(known) => drop(known.merge_signatures(&copy)),
            None => drop(merged.insert(claims.hash(), copy)),
        }
    }
    merged.values().filter_map(|envelope| open_agreement(envelope).ok()).collect()
}
