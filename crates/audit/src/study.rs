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
    CheckpointError, KeyKind, PolicyError, VerifiedLog, VerifierKey, VerifyError, verify_directory,
    verify_directory_under,
};
use cohortium_messages::{Agreement, Author, Envelope, Fact, Hash, Name, PublicKey, Verified};
use cohortium_policy::{Direction, Policy, agreed_log_policy, diff, open_agreement};

use crate::body::{Bodies, unverified_agreements};
use crate::leaf::Leaf;
use crate::outcome::{FindingKind, Findings, StudyReport};
use crate::{AuditError, unusable};

/// A revision of a study's agreement that entries can be judged by.
pub(crate) struct Study {
    /// What its custodians signed.
    pub agreement: Verified<Agreement>,
    /// The entry of the last of its custodians: from then on it is in force.
    pub from: u64,
    /// Whether it was handed in, and not found in the log.
    pub given: bool,
    /// The message key by which each party was first known: an account is one account, also when an amendment states
    /// another key.
    houses: BTreeMap<Name, PublicKey>,
    /// The agreement in a form that can be evaluated.
    pub policy: Policy,
    /// The entry with which the next revision came into force, and its number.
    pub replaced: Option<(u64, u32)>,
}

impl Study {
    /// What the report says of it.
    pub(crate) fn report(&self) -> StudyReport {
        StudyReport {
            agreement: self.agreement.hash(),
            from: self.from,
            given: self.given,
            revision: self.agreement.revision,
            study: self.agreement.study.clone(),
        }
    }

    /// The message key by which a party was first known.
    pub(crate) fn house(&self, party: &Name) -> Option<PublicKey> {
        self.houses.get(party).copied()
    }

    /// Demands that an entry stands where its agreement is in force. What was asked before an amendment ends under the
    /// agreement that it began under, and a member may speak before it has heard of one: only questions must be under
    /// the new one at once.
    pub(crate) fn demand_in_force(&self, leaf: &Leaf) -> Result<(), AuditError> {
        let fact = &leaf.claims().fact;
        let revision = self.agreement.revision;
        match self.replaced {
            _ if matches!(fact, Fact::Agreement { .. }) => Ok(()),
            _ if leaf.index < self.from => {
                let why =
                    format!("stands before revision {revision} of its agreement is in force, at entry {}", self.from);
                Err(crate::at(leaf.index, why))
            }
            Some((from, next)) if matches!(fact, Fact::Task { .. }) && leaf.index > from => {
                let why = format!("asks under revision {revision}, which revision {next} replaced at entry {from}");
                Err(crate::at(leaf.index, why))
            }
            _ => Ok(()),
        }
    }
}

/// The key of a log.
pub(crate) fn log_key(name: &str, key: &PublicKey) -> Result<VerifierKey, AuditError> {
    VerifierKey::new(name, KeyKind::Log, key.as_bytes()).map_err(unusable)
}

/// Verifies the directory as the log of the agreement's hub, under a head that meets the log policy of the agreement, or of
/// an amendment that more than `c` of its custodians signed, so that at least one of them is honest.
///
/// Members of other studies cosign the same head, and members sign with a second key that this policy may not ask for. Such
/// signatures are neither needed nor trusted, but must be by somebody: where the head has some, the agreements in the
/// directory say who these may be.
pub(crate) fn verify_log(dir: &Path, given: &Verified<Agreement>) -> Result<VerifiedLog, AuditError> {
    let policy = agreed_log_policy(given).map_err(unusable)?;
    match verify_directory_under(dir, &policy) {
        Err(
            VerifyError::Checkpoint(CheckpointError::UnknownSigner { .. })
            | VerifyError::Policy(PolicyError::NotMet { .. }),
        ) => {}
        verified => return Ok(verified?),
    }
    let complete = unverified_complete(dir);
    let log = log_key(given.hub.hub.as_str(), &given.hub.log_key)?;
    let verified = verify_directory(dir, &log, &with_other_witnesses(given, &complete)?, 0)?;
    let Err(not_met) = policy.is_met(verified.checkpoint()) else { return Ok(verified) };
    let mut last = given.clone();
    while let Some((_, next)) = complete.iter().find(|(envelope, next)| amends(&last, envelope, next)) {
        if agreed_log_policy(next).is_ok_and(|policy| policy.is_met(verified.checkpoint()).is_ok()) {
            return Ok(verified);
        }
        last = next.clone();
    }
    Err(VerifyError::from(not_met).into())
}

/// Whether `next` amends `last`, and more custodians of `last` signed it than may collude.
fn amends(last: &Verified<Agreement>, envelope: &Envelope, next: &Verified<Agreement>) -> bool {
    let signed = last.custodian_keys().into_iter().filter(|key| envelope.open::<Agreement>(key).is_ok()).count();
    follows(last, next) && next.hub == last.hub && signed > last.secure_sum.colluders as usize
}

fn follows(last: &Verified<Agreement>, next: &Agreement) -> bool {
    next.previous == Some(last.hash())
        && Some(next.revision) == last.revision.checked_add(1)
        && next.study == last.study
}

/// The studies that are known: the given one, and those whose agreement stands complete beside the log; of each all
/// revisions.
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
    let mut by_name: BTreeMap<Name, Vec<Verified<Agreement>>> = BTreeMap::new();
    let others = logged.into_iter().filter(|(hash, _)| *hash != given_hash);
    let others = others.filter_map(|(_, envelope)| open_agreement(&envelope).ok());
    for agreement in others.filter(|agreement| agreement.hub == hub).chain([given]) {
        by_name.entry(agreement.study.clone()).or_default().push(agreement);
    }
    let mut studies = BTreeMap::new();
    for revisions in by_name.into_values() {
        for study in in_order(revisions, given_hash, leaves, findings)? {
            studies.insert(study.agreement.hash(), Rc::new(study));
        }
    }
    Ok(studies)
}

/// The revisions of one study, each of which must follow the one before.
fn in_order(
    mut revisions: Vec<Verified<Agreement>>,
    given: Hash,
    leaves: &[Leaf],
    findings: &mut Findings,
) -> Result<Vec<Study>, AuditError> {
    revisions.sort_by_key(|agreement| agreement.revision);
    let mut studies: Vec<Study> = Vec::new();
    for agreement in revisions {
        let from = in_force_from(&agreement, leaves);
        let known = studies.last().map(|last| last.houses.clone()).unwrap_or_default();
        if let Some(last) = studies.last_mut() {
            if !follows(&last.agreement, &agreement) || from <= last.from {
                return Err(unusable(format!(
                    "the log holds two complete agreements of the study {}, and revision {} does not follow revision {}",
                    agreement.study, agreement.revision, last.agreement.revision
                )));
            }
            last.replaced = Some((from, agreement.revision));
            findings.push(FindingKind::Amendment, Some(from), amended(&last.agreement, &agreement));
        }
        let party = |party: &cohortium_messages::Party| {
            let name = party.entry.organisation.clone();
            let key = known.get(&name).copied().unwrap_or(party.entry.message_key);
            (name, key)
        };
        let (houses, given) = (agreement.parties.iter().map(party).collect(), agreement.hash() == given);
        let policy = match cohortium_policy::compile(&agreement) {
            Ok(policy) => policy,
            Err(error) if given => return Err(unusable(error)),
            // Nobody can act under it; its entries are listed.
            Err(_) => continue,
        };
        studies.push(Study { agreement, from, given, houses, policy, replaced: None });
    }
    Ok(studies)
}

/// The entry of the last of an agreement's custodians, each by the first that it has.
fn in_force_from(agreement: &Verified<Agreement>, leaves: &[Leaf]) -> u64 {
    let first = |party: Name| {
        let author = Author::Custodian(party);
        let says_so = |leaf: &&Leaf| signs(leaf, agreement) && leaf.claims().author == author;
        leaves.iter().find(says_so).map(|leaf| leaf.index)
    };
    agreement.participants().into_iter().filter_map(first).max().unwrap_or_default()
}

fn signs(leaf: &Leaf, agreement: &Verified<Agreement>) -> bool {
    leaf.claims().agreement == agreement.hash() && matches!(leaf.claims().fact, Fact::Agreement { .. })
}

/// What an amendment changes, in a sentence.
fn amended(old: &Agreement, new: &Agreement) -> String {
    let changes = diff(old, new);
    let count = |direction| changes.iter().filter(|change| change.direction == direction).count();
    format!(
        "revision {} of the agreement of study {} is in force from here: {} changes widen, {} narrow, {} are words",
        new.revision,
        new.study,
        count(Direction::Widens),
        count(Direction::Narrows),
        count(Direction::Changes)
    )
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
        let says_so = |leaf: &&Leaf| signs(leaf, given) && leaf.claims().author == author;
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
pub(crate) fn witness_keys(agreement: &Agreement) -> Result<Vec<VerifierKey>, AuditError> {
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
fn with_other_witnesses(
    given: &Agreement,
    complete: &[(Envelope, Verified<Agreement>)],
) -> Result<Vec<VerifierKey>, AuditError> {
    let mut witnesses = witness_keys(given)?;
    for (_, other) in complete.iter().filter(|(_, agreement)| agreement.hub == given.hub) {
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
fn unverified_complete(dir: &Path) -> Vec<(Envelope, Verified<Agreement>)> {
    let mut merged: BTreeMap<Hash, Envelope> = BTreeMap::new();
    for copy in unverified_agreements(dir) {
        let Ok(claims) = copy.peek::<Agreement>() else { continue };
        match merged.get_mut(&claims.hash()) {
            // Copies of one payload merge; anything else is left to the audit proper.
            Some(known) => drop(known.merge_signatures(&copy)),
            None => drop(merged.insert(claims.hash(), copy)),
        }
    }
    let opened = merged.into_values().map(|envelope| (open_agreement(&envelope), envelope));
    opened.filter_map(|(agreement, envelope)| Some((envelope, agreement.ok()?))).collect()
}
