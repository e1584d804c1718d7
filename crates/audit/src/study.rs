//! What entries are judged by: agreements that all their custodians signed, and the keys that these state.
//!
//! One agreement is handed in and believed. The log of a hub holds other studies too, whose accounts at the nodes are the
//! same: their agreements are put together from the copies that the log records (`head`). A study whose agreement is not signed
//! by all (it may never be) has no keys that anybody vouches for; its entries are listed, not judged.

use std::collections::BTreeMap;
use std::rc::Rc;

use cohortium_messages::{Agreement, Author, Fact, Hash, Name, PublicKey, Verified};
use cohortium_policy::{Direction, Policy, diff};

use crate::head::{Complete, follows};
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

/// The studies that are known: the given one, and those whose agreement the log records complete; of each all revisions.
pub(crate) fn known(
    given: Verified<Agreement>,
    leaves: &[Leaf],
    complete: &[Complete],
    findings: &mut Findings,
) -> Result<BTreeMap<Hash, Rc<Study>>, AuditError> {
    let given_hash = given.hash();
    if !leaves.iter().any(|leaf| signs(leaf, &given)) {
        return Err(unusable("this log does not record it: bring the agreement and the log of one hub together"));
    }
    note_missing_custodians(&given, leaves, findings);
    let mut by_name: BTreeMap<Name, Vec<Verified<Agreement>>> = BTreeMap::new();
    let others = complete.iter().map(|other| other.agreement.clone()).filter(|other| other.hash() != given_hash);
    for agreement in others.chain([given]) {
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
