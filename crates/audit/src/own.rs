//! A node's own log: what its house decided and what its people said, for the house itself.
//!
//! No quorum is asked for: what counts among organisations stands in the hub's log. But cosignatures that are there must be
//! by parties of an agreement that the house holds.

use std::path::Path;

use cohortium_ledger::{VerifiedLog, verify_signed_directory};
use cohortium_messages::{Agreement, Author, Fact, Name, RosterEntry, Verified};

use crate::account::Books;
use crate::body::Bodies;
use crate::leaf::{self, Leaf};
use crate::outcome::{FindingKind, Findings, LogReport, OwnLogReport, count_kinds};
use crate::{AuditError, at, head, unusable};

/// A node's own log under its own signature.
pub(crate) struct OwnLog {
    /// Whose it is, as the last of the agreements that name it states its keys.
    pub house: RosterEntry,
    pub leaves: Vec<Leaf>,
    pub log: VerifiedLog,
}

impl OwnLog {
    /// Reads the log in `dir`. No author but the log itself is checked.
    pub(crate) fn open<'a>(
        dir: &Path,
        organisation: &Name,
        agreements: impl DoubleEndedIterator<Item = &'a Agreement> + Clone,
    ) -> Result<Self, AuditError> {
        let house = agreements.clone().rev().find_map(|agreement| agreement.party(organisation).cloned());
        let house = house.ok_or_else(|| unusable(format!("none has {organisation} as a party")))?;
        let signed = verify_signed_directory(dir, &head::log_key(organisation.as_str(), &house.log_key)?)?;
        let leaves = leaf::read_all(signed.entries())?;
        Ok(Self { house, leaves, log: head::cosigned(signed, agreements)? })
    }
}

/// Verifies a node's own log: its signature, its tree, that every entry is this house's (its node's, its custodian's, or one
/// of its people's, as the agreements name them), and that the account entries in it are one chain. `agreements` are all that
/// the house holds, of all studies and revisions, the oldest first: what a person says under one that is not among them
/// cannot be judged.
///
/// # Errors
/// The first thing that is wrong. The node's operator must act.
pub fn verify_own_log(
    dir: &Path,
    organisation: &Name,
    agreements: &[Verified<Agreement>],
) -> Result<OwnLogReport, AuditError> {
    let OwnLog { house, leaves, log } = OwnLog::open(dir, organisation, agreements.iter().map(|known| &**known))?;
    let mut books = Books::default();
    let mut findings = Findings::default();
    for leaf in &leaves {
        let (index, claims) = (leaf.index, leaf.claims());
        match (&claims.author, &claims.fact) {
            (Author::Node(name), Fact::Permit { .. } | Fact::Price { .. } | Fact::Refusal { .. })
                if name == organisation =>
            {
                books.take_own(index, &leaf.open_with(&house.message_key)?, &house)?;
            }
            (Author::Node(name), Fact::Alert { .. }) if name == organisation => {
                leaf.open_with(&house.message_key)?;
            }
            (Author::Custodian(name), Fact::Revocation { .. }) if name == organisation => {
                leaf.open_with(&house.agreement_key)?;
            }
            (Author::Person { organisation: theirs, person }, _) if theirs == organisation => {
                match agreements.iter().find(|known| known.hash() == claims.agreement) {
                    Some(agreement) => drop(leaf.open(agreement)?),
                    None => {
                        let text =
                            format!("{person} speaks under another agreement, which was not handed in: not judged");
                        findings.push(FindingKind::NotCovered, Some(index), text);
                    }
                }
            }
            _ => {
                return Err(at(index, format!("is no decision of {organisation}, and nothing that its people say")));
            }
        }
    }
    // Only incidents name documents here: whatever else lies beside them belongs to nothing.
    Bodies::new(dir, log.bodies()).check_all(&leaves)?;
    let sequences = books.finish_own(&mut findings)?;
    Ok(OwnLogReport {
        entries: count_kinds(&leaves),
        log: LogReport::of(&log),
        sequences,
        findings: findings.into_list(),
    })
}
