//! What people and custodians said that holds until something else is said: whether a study stands still here, and what
//! was taken back.
//!
//! Both are computed from stored entries whenever they are asked for, so that there is no second truth beside them. A stop
//! survives amendments: it is about the study at this node, not about a text.
//!
//! Assumes: entries were checked when they were taken in (the desk, the inbox).

use cohortium_messages::{Agreement, Author, Entry, Envelope, Fact, Inclusion, Name, Timestamp, Verified};
use cohortium_policy::{Revoked, open_entry};

use crate::node::{Changes, Node, NodeError, entry_hash, json, own, parse, peer};
use crate::records::{NEWS, REVOCATIONS, STOPS};

/// Why a study stands still.
pub(crate) struct Stopped {
    /// When the last thing that stopped it was said, by its author's clock.
    pub since: Timestamp,
    /// Who or what stopped it and why.
    pub why: String,
}

impl Node {
    /// Why a study stands still here, if it does.
    ///
    /// Promise: given all stops and ends of stops in the order in which they were taken in, returns nothing only if no
    /// stop stands after the last end that a person said whose key was not taken back. Tested case by case.
    pub(crate) fn stopped(&self, study: &Name) -> Result<Option<Stopped>, NodeError> {
        let mut stopped = None;
        for (_, bytes) in self.store.scan(STOPS, &format!("{study}/"), None, usize::MAX).map_err(own)? {
            let claims = parse::<Envelope>(&bytes)?.peek::<Entry>().map_err(own)?;
            let entry = claims.claims();
            match &entry.fact {
                Fact::Alert { rule, why, .. } => {
                    stopped = Some(Stopped { since: entry.time, why: format!("alert {rule}: {why}") });
                }
                Fact::Freeze { frozen: true, why } => {
                    stopped = Some(Stopped { since: entry.time, why: format!("{}: {why}", speaker(&entry.author)) });
                }
                Fact::Freeze { frozen: false, .. } if self.speaks_with_a_live_key(entry)? => stopped = None,
                _ => {}
            }
        }
        Ok(stopped)
    }

    /// Why a study stands still here, if it does: for people.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn frozen(&self, study: &Name) -> Result<Option<String>, NodeError> {
        Ok(self.stopped(study)?.map(|stopped| stopped.why))
    }

    fn speaks_with_a_live_key(&self, entry: &Entry) -> Result<bool, NodeError> {
        let agreement = self.agreement_by_hash(entry.agreement)?;
        let Author::Person { organisation, person } = &entry.author else { return Ok(false) };
        let Some(person) = agreement.person(organisation, person) else { return Ok(false) };
        Ok(!self.revoked(&agreement)?.key(&person.key))
    }

    /// What custodians have taken back of an agreement, as far as is known here.
    pub(crate) fn revoked(&self, agreement: &Verified<Agreement>) -> Result<Revoked, NodeError> {
        let stored = self.store.scan(REVOCATIONS, &format!("{}/", agreement.hash()), None, usize::MAX).map_err(own)?;
        let entries = stored.iter().map(|(_, bytes)| open_entry(&parse(bytes)?, agreement).map_err(own));
        Ok(Revoked::from_entries(&entries.collect::<Result<Vec<_>, _>>()?))
    }

    /// Makes a custodian's revocation hold here.
    pub(crate) fn put_revocation(
        &self,
        changes: &mut Changes,
        agreement: &Verified<Agreement>,
        entry: &Envelope,
    ) -> Result<(), NodeError> {
        let key = format!("{}/{}", agreement.hash(), entry_hash(entry)?);
        changes.batch.put(REVOCATIONS, &key, json(entry)?);
        Ok(())
    }

    /// An entry of the hub's log that another member made. A custodian's revocation holds from now on: its signature
    /// suffices, because a hub that cannot prove that it logged it must not be able to keep it from holding. Anything else is
    /// kept for people, if it is shown to be in the log.
    pub(crate) fn on_logged(
        &mut self,
        envelope: &Envelope,
        inclusion: &Inclusion,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let claims = envelope.peek::<Entry>().map_err(peer)?;
        let agreement = self.agreement_by_hash(claims.claims().agreement)?;
        let authored = open_entry(envelope, &agreement).map_err(peer)?;
        let proven = cohortium_policy::verify_inclusion(&agreement, envelope, inclusion);
        let mut changes = Changes::default();
        match &authored.entry().fact {
            Fact::Revocation { .. } => self.put_revocation(&mut changes, &agreement, envelope)?,
            _ => drop(proven.as_ref().map_err(peer)?),
        }
        changes.append.push((NEWS, format!("{}/", agreement.study), json(envelope)?));
        self.commit(changes, now)?;
        proven.map(drop).map_err(|error| peer(format!("taken in, but the hub does not show it to be logged: {error}")))
    }
}

/// Who speaks, in words.
pub(crate) fn speaker(author: &Author) -> String {
    match author {
        Author::Custodian(name) => format!("the custodian of {name}"),
        Author::Hub(name) => format!("the hub {name}"),
        Author::Node(name) => format!("the node of {name}"),
        Author::Person { organisation, person } => format!("{person} of {organisation}"),
        Author::Researcher(name) => format!("the researcher {name}"),
    }
}
