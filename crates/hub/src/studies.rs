//! Agreements at the hub: signatures are collected until all custodians have signed, then the study begins.
//!
//! An amendment is collected beside the agreement in force and takes its place when it is complete; a signature cannot be
//! withdrawn, and the custodian who regrets one signs no other. Old versions are kept by hash: for rounds that go on under
//! them, for answers that were given, and for entries that name them.
//!
//! **Adversary.** A custodian can propose what nobody else wants to sign, to whom it likes. So one proposes few at a time,
//! of bounded length, and what not all have signed in time is dropped. What was dropped is never signed again under the same
//! hash: signatures on it are still about, of custodians who may have thought better of it since.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_messages::{
    Agreement, Author, Envelope, Fact, Hash, InboxItem, Name, Principal, Reply, RevocationSubject, StudyRecord,
    Timestamp, Verified, canonical_bytes,
};
use cohortium_store::Batch;

use crate::entries::{names, open_alone};
use crate::hub::{Changes, Hub, No, json, no, own, parse, refusal};
use crate::records::{AGREEMENTS, DRAFTS, DROPPED, Draft, PROPOSALS, Proposal, STUDIES};
use crate::tasks::has_part;

/// How many first agreements that one custodian proposed may wait for signatures, and how many amendments of one study.
const MAX_PROPOSALS: usize = 4;
/// How long these may be together, as signed envelopes: one of the greatest length that an agreement may have.
const MAX_PROPOSED_BYTES: u64 = 6 << 20;
/// How many first agreements one custodian proposes in a day: each stays in the log for ever.
const MAX_STUDIES_A_DAY: u32 = 20;
/// How many amendments one custodian proposes in a day, of all its studies: each stays in the log and in the store for ever.
const MAX_AMENDMENTS_A_DAY: u32 = 20;
/// How many agreements are kept in memory as they were verified; then all are forgotten, and verified again when asked for.
const MAX_VERSIONS: usize = 256;
/// How long a first agreement waits for signatures.
const MAX_DRAFT_DAYS: i64 = 30;
/// How often the hub looks for those that waited too long, in seconds.
const SWEEP_S: i64 = 3600;
/// How many bytes of records one answer carries, unless the first alone has more.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// How many bytes the record of one study may have with what is being signed of it: an answer has 64 MiB.
const MAX_RECORD_BYTES: usize = 24 << 20;
/// How many records are in memory at a time while they are looked through.
const RECORDS_AT_ONCE: usize = 8;

impl Hub {
    /// Takes a custodian's signature. The first one proposes the agreement, the last one begins the study, or puts an
    /// amendment in the place of the agreement that it amends.
    pub(crate) fn sign_agreement(
        &mut self,
        from: &Name,
        envelope: &Envelope,
        entry: &Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let claims = envelope.peek::<Agreement>().map_err(|error| refusal("malformed", error.to_string()))?;
        let (agreement, hash) = (claims.claims(), claims.hash());
        let Some(party) = agreement.party(from) else {
            return no("denied", format!("{from} is not a party of this agreement"));
        };
        self.demand_joined(agreement)?;
        if agreement.hub != self.entry() {
            return no("denied", String::from("the agreement names another hub"));
        }
        cohortium_policy::log_terms(agreement).map_err(|error| refusal("malformed", error.to_string()))?;
        // Others may have signed beside this custodian: the one document that several sign. It is logged as it came, and
        // every reader puts the signatures of all copies together: nothing else may stand there, which would take their room.
        if envelope.signed_only_by(&agreement.custodian_keys()) != *envelope {
            return no(
                "malformed",
                String::from("beside the signatures of its custodians, one of each, stands something else"),
            );
        }
        let signed = envelope.open::<Agreement>(&party.agreement_key);
        let signed = signed.map_err(|error| refusal("signature", error.to_string()))?;
        let logged = open_alone(entry, &signed)?;
        let logged = logged.entry();
        let body = Hash::of(&canonical_bytes(envelope).map_err(own)?);
        let says_so =
            matches!(&logged.fact, Fact::Agreement { body: b, revision: r } if *b == body && *r == agreement.revision);
        if !says_so || logged.author != Author::Custodian(from.clone()) {
            return no(
                "malformed",
                String::from("the log entry does not say that this custodian signed this agreement"),
            );
        }
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        changes.bodies.push(canonical_bytes(envelope).map_err(own)?);
        let study = agreement.study.as_str();
        if self.store.get(DROPPED, &format!("{study}/{hash}")).map_err(own)?.is_some() {
            let why = format!("agreement {} was being signed and was dropped; propose a text of its own", hash.short());
            return no("denied", why);
        }
        match self.record::<StudyRecord>(STUDIES, study)? {
            Some(known) if known.agreement.clone().merge_signatures(envelope).is_ok() => {
                let Some(merged) = merge(&known.agreement, envelope)? else { return Ok(Reply::Accepted) };
                self.put_first(changes, agreement, merged, now)
            }
            Some(known) if known.complete => self.amend(changes, from, agreement, hash, envelope, now),
            Some(_) => {
                no("conflict", format!("another draft of study {study} is being signed; use another study name"))
            }
            None if agreement.revision == 1 => {
                self.draft(&mut changes.batch, from, agreement, (hash, envelope), now)?;
                self.put_first(changes, agreement, envelope.clone(), now)
            }
            None => no("conflict", format!("there is no study {study} here whose agreement could be amended")),
        }
    }

    /// Demands that every party has joined, with the keys that the agreement carries for it. A party that nobody knows, or a
    /// member's name with other keys, would become a witness of this log under keys that stand for nobody.
    fn demand_joined(&self, agreement: &Agreement) -> Result<(), No> {
        for entry in agreement.parties.iter().map(|party| &party.entry) {
            let name = &entry.organisation;
            if *entry != self.organisation(name)? {
                return no("denied", format!("the agreement does not carry the keys with which {name} joined"));
            }
        }
        Ok(())
    }

    /// Notes who proposes a first agreement and since when it waits, unless that custodian has enough of them waiting.
    fn draft(
        &self,
        batch: &mut Batch,
        from: &Name,
        agreement: &Agreement,
        (hash, envelope): (Hash, &Envelope),
        now: Timestamp,
    ) -> Result<(), No> {
        let bytes = json(envelope)?.len() as u64;
        let drafts = self.drafts()?.into_iter().filter(|(_, draft)| draft.proposer == *from);
        demand_few(from, bytes, drafts.map(|(_, draft)| draft.bytes))?;
        self.count(batch, &format!("first agreements that {from} proposed"), MAX_STUDIES_A_DAY, now)?;
        let draft = Draft { at: now, bytes, hash, proposer: from.clone() };
        batch.put(DRAFTS, agreement.study.as_str(), json(&draft)?);
        Ok(())
    }

    fn drafts(&self) -> Result<Vec<(String, Draft)>, No> {
        let records = self.store.scan(DRAFTS, "", None, usize::MAX).map_err(own)?;
        records.into_iter().map(|(study, bytes)| Ok((study, parse(&bytes)?))).collect()
    }

    /// Drops first agreements that not all have signed in time, once in a while: their names are free again.
    pub(crate) fn drop_old_drafts(&mut self, now: Timestamp) -> Result<(), No> {
        if now < self.next_sweep {
            return Ok(());
        }
        let mut batch = Batch::new();
        for (study, draft) in self.drafts()? {
            if draft.at.plus_seconds(MAX_DRAFT_DAYS * 86_400) <= now {
                batch.delete(DRAFTS, &study).delete(STUDIES, &study);
                batch.put(DROPPED, &format!("{study}/{}", draft.hash), Vec::new());
            }
        }
        if !batch.is_empty() {
            self.store.commit(batch).map_err(own)?;
        }
        self.next_sweep = now.plus_seconds(SWEEP_S);
        Ok(())
    }

    /// Drops the amendments of a study that wait for signatures, when a custodian takes back the agreement in force or one
    /// of its keys that they name as well: who signed them before may not have known. What is to hold is proposed in a text
    /// of its own, and signed anew.
    pub(crate) fn drop_proposals(
        &self,
        batch: &mut Batch,
        agreement: &Verified<Agreement>,
        subject: &RevocationSubject,
    ) -> Result<(), No> {
        if self.agreement(&agreement.study)?.hash() != agreement.hash() {
            return Ok(());
        }
        for (_, proposal) in self.proposals(&agreement.study)? {
            let claims = proposal.agreement.peek::<Agreement>().map_err(own)?;
            let is_meant = match subject {
                RevocationSubject::Agreement => true,
                RevocationSubject::Key(key) => names(claims.claims(), key),
            };
            if is_meant {
                let key = format!("{}/{}", agreement.study, claims.hash());
                batch.delete(PROPOSALS, &key).put(DROPPED, &key, Vec::new());
            }
        }
        Ok(())
    }

    /// The first agreement of a study, with one signature more.
    fn put_first(
        &mut self,
        mut changes: Changes,
        agreement: &Agreement,
        signed: Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        if signed.open_all::<Agreement>(&agreement.custodian_keys()).is_ok() {
            return self.put_in_force(changes, agreement, signed, BTreeSet::new(), now);
        }
        let record = StudyRecord::new(signed, false, &agreement.study);
        changes.batch.put(STUDIES, agreement.study.as_str(), json(&record)?);
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    /// A signature on an amendment: of the agreement in force, by which it stays until the amendment has them all. Several
    /// may be on their way; the one that is complete first is in force, and the others have nothing left to amend.
    fn amend(
        &mut self,
        mut changes: Changes,
        from: &Name,
        agreement: &Agreement,
        hash: Hash,
        signed: &Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let (study, current) = (&agreement.study, self.agreement(&agreement.study)?);
        if agreement.previous != Some(current.hash()) || Some(agreement.revision) != current.revision.checked_add(1) {
            let (revision, short) = (current.revision, current.hash().short());
            let why = format!(
                "study {study} is under revision {revision}, {short}: an amendment names it as `previous` and is the revision \
                 after it"
            );
            return no("conflict", why);
        }
        let key = format!("{study}/{hash}");
        let proposal = match self.record::<Proposal>(PROPOSALS, &key)? {
            Some(mut known) => {
                let Some(merged) = merge(&known.agreement, signed)? else { return Ok(Reply::Accepted) };
                known.agreement = merged;
                known
            }
            None => {
                self.demand_may_propose(from, &current, json(signed)?.len() as u64)?;
                let what = format!("amendments that {from} proposed");
                self.count(&mut changes.batch, &what, MAX_AMENDMENTS_A_DAY, now)?;
                Proposal { agreement: signed.clone(), proposer: from.clone() }
            }
        };
        if proposal.agreement.open_all::<Agreement>(&agreement.custodian_keys()).is_ok() {
            for (key, _) in self.store.scan(PROPOSALS, &format!("{study}/"), None, usize::MAX).map_err(own)? {
                changes.batch.delete(PROPOSALS, &key);
            }
            let members = current.participants().into_iter().collect();
            return self.put_in_force(changes, agreement, proposal.agreement, members, now);
        }
        changes.batch.put(PROPOSALS, &key, json(&proposal)?);
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    /// Puts an agreement that all custodians signed in force, and tells its members and those of the one before it. What
    /// runs under the one before and has not begun to read ends.
    fn put_in_force(
        &mut self,
        mut changes: Changes,
        agreement: &Agreement,
        signed: Envelope,
        mut members: BTreeSet<Name>,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let verified = signed.open_all::<Agreement>(&agreement.custodian_keys()).map_err(own)?;
        members.extend(agreement.participants());
        for node in members {
            changes.inbox.push((node, InboxItem::Agreement { agreement: signed.clone() }));
        }
        changes.batch.put(AGREEMENTS, &verified.hash().to_string(), json(&signed)?);
        let record = StudyRecord::new(signed, true, &agreement.study);
        changes.batch.put(STUDIES, agreement.study.as_str(), json(&record)?);
        changes.batch.delete(DRAFTS, agreement.study.as_str());
        self.knows(Some((&agreement.study, verified.hash())));
        // The log grows with this commit, and the new members are asked to cosign that.
        if let Err(no) = self.commit(changes) {
            self.knows(None);
            return Err(no);
        }
        self.end_overtaken(now)?;
        Ok(Reply::Accepted)
    }

    /// Only a custodian of the agreement in force proposes to change it, and not without end.
    fn demand_may_propose(&self, from: &Name, current: &Agreement, bytes: u64) -> Result<(), No> {
        if current.party(from).is_none() {
            return no(
                "denied",
                format!("a party of the agreement in force proposes its amendment, and {from} is none"),
            );
        }
        let proposals = self.proposals(&current.study)?;
        let own = proposals.into_iter().filter(|(_, proposal)| proposal.proposer == *from);
        demand_few(from, bytes, own.map(|(bytes, _)| bytes as u64))
    }

    /// The amendments of a study that wait for signatures, the shortest first, each with its length as a record.
    fn proposals(&self, study: &Name) -> Result<Vec<(usize, Proposal)>, No> {
        let mut records = self.store.scan(PROPOSALS, &format!("{study}/"), None, usize::MAX).map_err(own)?;
        records.sort_by_key(|(_, bytes)| bytes.len());
        records.iter().map(|(_, bytes)| Ok((bytes.len(), parse(bytes)?))).collect()
    }

    /// The studies in which the caller has a part, or would have one under an amendment that is being signed, in the order
    /// of their names: those after the one named, as many as fit into an answer.
    pub(crate) fn studies_of(&self, from: &Principal, after: Option<&Name>) -> Result<Reply, No> {
        let (mut page, mut size) = (Vec::new(), 0);
        let mut after = after.map(ToString::to_string);
        loop {
            let records = self.store.scan(STUDIES, "", after.as_deref(), RECORDS_AT_ONCE).map_err(own)?;
            let Some((last, _)) = records.last() else { return Ok(Reply::Studies(page)) };
            after = Some(last.clone());
            for (_, bytes) in records {
                let Some((record, bytes)) = self.study_of(from, &bytes)? else { continue };
                size += bytes;
                if size > MAX_PAGE_BYTES && !page.is_empty() {
                    return Ok(Reply::Studies(page));
                }
                page.push(record);
            }
        }
    }

    /// A study with what is being signed of it and what was taken back, and about how long that is; nothing if the caller
    /// has no part in it. What would make the record too long for any answer is left out, the longest amendments first.
    fn study_of(&self, from: &Principal, stored: &[u8]) -> Result<Option<(StudyRecord, usize)>, No> {
        let mut record: StudyRecord = parse(stored)?;
        let claims = record.agreement.peek::<Agreement>().map_err(own)?;
        // Of most studies nothing more is read.
        let mut proposals = None;
        if !has_part(from, claims.claims()) {
            let known = self.proposals(&record.study)?;
            let mut concerns = false;
            for (_, proposal) in &known {
                concerns |= has_part(from, proposal.agreement.peek::<Agreement>().map_err(own)?.claims());
            }
            if !concerns {
                return Ok(None);
            }
            proposals = Some(known);
        }
        let mut size = stored.len();
        for envelope in self.revocation_entries(claims.hash())? {
            size += json(&envelope)?.len();
            if size <= MAX_RECORD_BYTES {
                record.revocations.push(envelope);
            }
        }
        let proposals = proposals.map_or_else(|| self.proposals(&record.study), Ok)?;
        for (bytes, proposal) in proposals {
            size += bytes;
            if size <= MAX_RECORD_BYTES {
                record.amendments.push(proposal.agreement);
            }
        }
        Ok(Some((record, size)))
    }

    /// The agreement of a study that has begun.
    pub(crate) fn agreement(&self, study: &Name) -> Result<Verified<Agreement>, No> {
        self.read_in_force()?;
        // Out of the cell first: what follows may write into it.
        let known = self.checked.borrow().in_force.as_ref().and_then(|in_force| in_force.get(study).copied());
        if let Some(hash) = known {
            return self.agreement_by_hash(hash);
        }
        match self.store.get(STUDIES, study.as_str()).map_err(own)? {
            Some(_) => no("denied", format!("study {study} waits for custodians' signatures")),
            None => no("unknown", format!("there is no study {study} here")),
        }
    }

    /// What some look at every agreement in force finds.
    pub(crate) fn in_force<T>(&self, mut look: impl FnMut(&Verified<Agreement>) -> Option<T>) -> Result<Vec<T>, No> {
        self.read_in_force()?;
        let hashes: Vec<Hash> = self.checked.borrow().in_force.iter().flat_map(BTreeMap::values).copied().collect();
        let mut found = Vec::new();
        for hash in hashes {
            self.read_version(hash)?;
            found.extend(self.checked.borrow().versions.get(&hash).and_then(&mut look));
        }
        Ok(found)
    }

    /// Notes that an agreement is in force now, and that others cosign the log; or, with none, that what is known of that must
    /// be read again.
    fn knows(&self, agreement: Option<(&Name, Hash)>) {
        let mut checked = self.checked.borrow_mut();
        checked.witnesses = None;
        match (agreement, &mut checked.in_force) {
            (Some((study, hash)), Some(in_force)) => {
                in_force.insert(study.clone(), hash);
            }
            _ => checked.in_force = None,
        }
    }

    /// Makes known what the agreement of each study that has begun is called by, by reading all studies once.
    fn read_in_force(&self) -> Result<(), No> {
        if self.checked.borrow().in_force.is_some() {
            return Ok(());
        }
        let (mut in_force, mut after) = (BTreeMap::new(), None);
        loop {
            let records = self.store.scan(STUDIES, "", after.as_deref(), RECORDS_AT_ONCE).map_err(own)?;
            let Some((last, _)) = records.last() else { break };
            after = Some(last.clone());
            for (_, bytes) in records {
                let record: StudyRecord = parse(&bytes)?;
                if record.complete {
                    let hash = record.agreement.peek::<Agreement>().map_err(own)?.hash();
                    in_force.insert(record.study, hash);
                }
            }
        }
        self.checked.borrow_mut().in_force = Some(in_force);
        Ok(())
    }

    /// An agreement under which a study is or was.
    pub(crate) fn agreement_by_hash(&self, hash: Hash) -> Result<Verified<Agreement>, No> {
        self.read_version(hash)?;
        let known = self.checked.borrow().versions.get(&hash).cloned();
        known.ok_or_else(|| own("an agreement that was read is not known"))
    }

    /// Makes an agreement known that is or was in force, by verifying it once.
    fn read_version(&self, hash: Hash) -> Result<(), No> {
        if self.checked.borrow().versions.contains_key(&hash) {
            return Ok(());
        }
        let envelope: Option<Envelope> = self.record(AGREEMENTS, &hash.to_string())?;
        let envelope = envelope.ok_or_else(|| refusal("unknown", "no study here is under this agreement"))?;
        let keys = envelope.peek::<Agreement>().map_err(own)?.claims().custodian_keys();
        let agreement = envelope.open_all::<Agreement>(&keys).map_err(own)?;
        let versions = &mut self.checked.borrow_mut().versions;
        if versions.len() >= MAX_VERSIONS {
            versions.clear();
        }
        versions.insert(hash, agreement);
        Ok(())
    }
}

/// Demands that one custodian has few proposals waiting, and not too long ones, with one more of so many bytes.
fn demand_few(from: &Name, bytes: u64, waiting: impl Iterator<Item = u64>) -> Result<(), No> {
    let (mut count, mut together) = (0, bytes);
    for bytes in waiting {
        count += 1;
        together = together.saturating_add(bytes);
    }
    if count >= MAX_PROPOSALS || (count > 0 && together > MAX_PROPOSED_BYTES) {
        return no("limit", format!("{count} agreements that {from} proposed wait for signatures already"));
    }
    Ok(())
}

/// The signatures collected so far and those of another copy; nothing if they are the same as before. Of one custodian one
/// signature is kept.
fn merge(known: &Envelope, signed: &Envelope) -> Result<Option<Envelope>, No> {
    let mut merged = known.clone();
    merged.merge_signatures(signed).map_err(own)?;
    let keys = merged.peek::<Agreement>().map_err(own)?.claims().custodian_keys();
    let merged = merged.signed_only_by(&keys);
    Ok((merged.signature_count() > known.signature_count()).then_some(merged))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// lengths of what waits, length of one more, whether it is taken
    #[test]
    fn what_one_custodian_proposes_is_bounded_in_number_and_length() {
        let from = Name::new("northside").unwrap();
        for (waiting, bytes, is_taken) in [
            (vec![], 100, true),
            // One alone may be as long as an agreement may be.
            (vec![], MAX_PROPOSED_BYTES + 1, true),
            (vec![100; 3], 100, true),
            (vec![100; 4], 100, false),
            (vec![MAX_PROPOSED_BYTES - 100], 100, true),
            (vec![MAX_PROPOSED_BYTES - 100], 101, false),
            (vec![u64::MAX, u64::MAX], 1, false),
        ] {
            let taken = demand_few(&from, bytes, waiting.iter().copied());
            assert_eq!(taken.is_ok(), is_taken, "{waiting:?}, then {bytes}");
        }
    }
}
