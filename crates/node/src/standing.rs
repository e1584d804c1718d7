//! What people and custodians said that holds until something else is said: whether a study stands still here, and what
//! was taken back.
//!
//! Both are computed from stored entries whenever they are asked for, so that there is no second truth beside them. A stop
//! survives amendments: it is about the study at this node, not about a text.
//!
//! Assumes: entries were checked when they were taken in (the desk, the inbox).

use cohortium_messages::{Agreement, Entry, Envelope, Fact, Hash, Inclusion, Name, Timestamp, Verified};
use cohortium_policy::{Revoked, Stop, open_entry};
use cohortium_store::Store;

use crate::node::{Changes, Node, NodeError, entry_hash, json, own, parse, peer};
use crate::records::{NEWS, REVOCATIONS, STOPS};

/// Why a study stands still.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stopped {
    /// When the last thing that stopped it was said, by its author's clock.
    pub since: Timestamp,
    /// Who or what stopped it and why.
    pub why: String,
}

/// Why a study stands still at this home, if it does: the last of all stops and ends of stops decides, in the order in
/// which they were taken in ([`Stop`]). A key that is taken back takes with it the ends of stops that it said before.
/// `agreement` finds the agreements by their hashes.
pub(crate) fn stopped(
    store: &dyn Store,
    study: &Name,
    agreement: impl Fn(Hash) -> Result<Verified<Agreement>, NodeError>,
) -> Result<Option<Stopped>, NodeError> {
    let mut stopped = None;
    for (_, bytes) in store.scan(STOPS, &format!("{study}/"), None, usize::MAX).map_err(own)? {
        let envelope = parse::<Envelope>(&bytes)?;
        let agreement = agreement(envelope.peek::<Entry>().map_err(own)?.claims().agreement)?;
        let authored = open_entry(&envelope, &agreement).map_err(own)?;
        match authored.stop(&revoked(store, &agreement)?) {
            Some(Stop::Begins(_)) => stopped = Some(Stopped::by(authored.entry())),
            Some(Stop::Ends(_)) => stopped = None,
            Some(Stop::EndsInVain(_)) | None => {}
        }
    }
    Ok(stopped)
}

/// What custodians have taken back of an agreement, as far as is known at this home.
pub(crate) fn revoked(store: &dyn Store, agreement: &Verified<Agreement>) -> Result<Revoked, NodeError> {
    let stored = store.scan(REVOCATIONS, &format!("{}/", agreement.hash()), None, usize::MAX).map_err(own)?;
    let entries = stored.iter().map(|(_, bytes)| open_entry(&parse(bytes)?, agreement).map_err(own));
    Ok(Revoked::from_entries(&entries.collect::<Result<Vec<_>, _>>()?))
}

impl Stopped {
    fn by(entry: &Entry) -> Self {
        let why = match &entry.fact {
            Fact::Alert { rule, why, .. } => format!("alert {rule}: {why}"),
            Fact::Freeze { why, .. } => format!("{}: {why}", entry.author),
            _ => entry.author.to_string(),
        };
        Self { since: entry.time, why }
    }
}

impl Node {
    /// Why a study stands still here, if it does.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn stopped(&self, study: &Name) -> Result<Option<Stopped>, NodeError> {
        stopped(&*self.store, study, |hash| self.agreement_by_hash(hash))
    }

    pub(crate) fn revoked(&self, agreement: &Verified<Agreement>) -> Result<Revoked, NodeError> {
        revoked(&*self.store, agreement)
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
