//! What people and custodians said that holds until something else is said: whether a study stands still here, and what
//! was taken back.
//!
//! Both are computed from stored entries whenever they are asked for, so that there is no second truth beside them. A stop
//! survives amendments: it is about the study at this node, not about a text. What was taken back under a revision is taken
//! back for what still runs under an earlier one; whether it holds for the next is said in `agreements`.
//!
//! Assumes: entries were checked when they were taken in (the desk, the inbox).

use std::collections::BTreeMap;
use std::collections::btree_map::Entry as Slot;

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
    Ok(stops(store, study, agreement)?.pop())
}

/// Everything that stopped a study at this home since it last went on, oldest first; nothing where it goes on.
pub(crate) fn stops(
    store: &dyn Store,
    study: &Name,
    agreement: impl Fn(Hash) -> Result<Verified<Agreement>, NodeError>,
) -> Result<Vec<Stopped>, NodeError> {
    let mut stops = Vec::new();
    let mut taken_back: BTreeMap<Hash, Revoked> = BTreeMap::new();
    for (_, bytes) in store.scan(STOPS, &format!("{study}/"), None, usize::MAX).map_err(own)? {
        let envelope = parse::<Envelope>(&bytes)?;
        let under = agreement(envelope.peek::<Entry>().map_err(own)?.claims().agreement)?;
        let authored = open_entry(&envelope, &under).map_err(own)?;
        let taken_back = match taken_back.entry(under.hash()) {
            Slot::Occupied(known) => known.into_mut(),
            Slot::Vacant(unknown) => unknown.insert(revoked(store, &under, &agreement)?),
        };
        match authored.stop(taken_back) {
            Some(Stop::Begins(_)) => stops.push(Stopped::by(authored.entry())),
            Some(Stop::Ends(_)) => stops.clear(),
            Some(Stop::EndsInVain(_)) | None => {}
        }
    }
    Ok(stops)
}

/// What custodians have taken back of an agreement or of a later revision of it, as far as is known at this home.
pub(crate) fn revoked(
    store: &dyn Store,
    agreement: &Verified<Agreement>,
    by_hash: impl Fn(Hash) -> Result<Verified<Agreement>, NodeError>,
) -> Result<Revoked, NodeError> {
    let mut entries = Vec::new();
    for (_, bytes) in store.scan(REVOCATIONS, "", None, usize::MAX).map_err(own)? {
        let envelope = parse::<Envelope>(&bytes)?;
        let claims = envelope.peek::<Entry>().map_err(own)?;
        if claims.claims().study == agreement.study {
            let under = by_hash(claims.claims().agreement)?;
            if under.revision >= agreement.revision {
                entries.push(open_entry(&envelope, &under).map_err(own)?);
            }
        }
    }
    Ok(Revoked::from_entries(&entries))
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
        revoked(&*self.store, agreement, |hash| self.agreement_by_hash(hash))
    }

    /// Why nothing more may be signed, revealed or let out for a task that `researcher` asked under this agreement, if
    /// anything forbids it.
    pub(crate) fn forbids(
        &self,
        agreement: &Verified<Agreement>,
        researcher: &Name,
    ) -> Result<Option<String>, NodeError> {
        if let Some(why) = self.halted()? {
            return Ok(Some(format!("this node has stopped: {why}")));
        }
        if let Some(stopped) = self.stopped(&agreement.study)? {
            return Ok(Some(format!("the study stands still here ({})", stopped.why)));
        }
        let revoked = self.revoked(agreement)?;
        if revoked.agreement() {
            return Ok(Some(String::from("the agreement was taken back")));
        }
        let key = agreement.researcher(researcher).map(|entry| entry.key);
        Ok(key.is_some_and(|key| revoked.key(&key)).then(|| format!("the key of {researcher} was taken back")))
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

    /// Demands that the author of a revocation has not said the same before: it holds once, and is logged once.
    pub(crate) fn demand_not_taken_back(
        &self,
        agreement: &Verified<Agreement>,
        entry: &Entry,
    ) -> Result<(), NodeError> {
        let stored = self.store.scan(REVOCATIONS, &format!("{}/", agreement.hash()), None, usize::MAX).map_err(own)?;
        for (_, bytes) in stored {
            let before = parse::<Envelope>(&bytes)?;
            let before = before.peek::<Entry>().map_err(own)?;
            let is_same = match (&before.claims().fact, &entry.fact) {
                (Fact::Revocation { subject: before, .. }, Fact::Revocation { subject, .. }) => before == subject,
                _ => false,
            };
            if is_same && before.claims().author == entry.author {
                return Err(peer("this was taken back before, and holds"));
            }
        }
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
        if proven.is_ok() {
            self.note_proven(&mut changes.batch, agreement.hash(), envelope)?;
        }
        changes.append.push((NEWS, format!("{}/", agreement.study), json(envelope)?));
        self.commit(changes, now)?;
        proven.map(drop).map_err(|error| peer(format!("taken in, but the hub does not show it to be logged: {error}")))
    }
}
