//! Agreements at the hub: signatures are collected until all custodians have signed, then the study begins.
//!
//! An amendment is collected beside the agreement in force and takes its place when it is complete; a signature cannot be
//! withdrawn, and the custodian who regrets one signs no other. Old versions are kept by hash: for rounds that go on under
//! them, for answers that were given, and for entries that name them.

use std::collections::BTreeSet;

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Hash, InboxItem, Name, Principal, Reply, StudyRecord, Timestamp,
    Verified, canonical_bytes,
};

use crate::hub::{Changes, Hub, No, json, no, open, own, parse, refusal};
use crate::records::{AGREEMENTS, PROPOSALS, Proposal, STUDIES};
use crate::tasks::has_part;

/// How many amendments of one study that one custodian proposed may wait for signatures.
const MAX_PROPOSALS: usize = 4;

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
        if *party != self.organisation(from)? {
            return no("denied", format!("the agreement does not carry the keys with which {from} joined"));
        }
        if agreement.hub != self.entry() {
            return no("denied", String::from("the agreement names another hub"));
        }
        cohortium_policy::log_terms(agreement).map_err(|error| refusal("malformed", error.to_string()))?;
        // Others may have signed beside this custodian: the one document that several sign.
        envelope.open::<Agreement>(&party.agreement_key).map_err(|error| refusal("signature", error.to_string()))?;
        let logged = open::<Entry>(entry, &party.agreement_key)?;
        let body = Hash::of(&canonical_bytes(envelope).map_err(own)?);
        let says_so =
            matches!(&logged.fact, Fact::Agreement { body: b, revision: r } if *b == body && *r == agreement.revision);
        if !says_so || logged.author != Author::Custodian(from.clone()) || logged.agreement != hash {
            return no(
                "malformed",
                String::from("the log entry does not say that this custodian signed this agreement"),
            );
        }
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        changes.bodies.push(canonical_bytes(envelope).map_err(own)?);
        let envelope = envelope.signed_only_by(&agreement.custodian_keys());
        let study = agreement.study.as_str();
        match self.record::<StudyRecord>(STUDIES, study)? {
            Some(known) if known.agreement.clone().merge_signatures(&envelope).is_ok() => {
                let Some(merged) = merge(&known.agreement, &envelope, agreement)? else { return Ok(Reply::Accepted) };
                self.put_first(changes, agreement, merged, now)
            }
            Some(known) if known.complete => self.amend(changes, from, agreement, hash, &envelope, now),
            Some(_) => {
                no("conflict", format!("another draft of study {study} is being signed; use another study name"))
            }
            None if agreement.revision == 1 => self.put_first(changes, agreement, envelope, now),
            None => no("conflict", format!("there is no study {study} here whose agreement could be amended")),
        }
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
        let mut proposal = match self.record::<Proposal>(PROPOSALS, &key)? {
            Some(mut known) => {
                let Some(merged) = merge(&known.agreement, signed, agreement)? else { return Ok(Reply::Accepted) };
                known.agreement = merged;
                known
            }
            None => {
                self.demand_may_propose(from, &current)?;
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
        proposal.agreement = proposal.agreement.signed_only_by(&agreement.custodian_keys());
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
        self.commit(changes)?;
        self.end_overtaken(now)?;
        Ok(Reply::Accepted)
    }

    /// Only a custodian of the agreement in force proposes to change it, and not without end.
    fn demand_may_propose(&self, from: &Name, current: &Agreement) -> Result<(), No> {
        if current.party(from).is_none() {
            return no(
                "denied",
                format!("a party of the agreement in force proposes its amendment, and {from} is none"),
            );
        }
        let proposals = self.proposals(&current.study)?;
        let own = proposals.iter().filter(|proposal| proposal.proposer == *from).count();
        if own >= MAX_PROPOSALS {
            return no("limit", format!("{own} amendments that {from} proposed wait for signatures already"));
        }
        Ok(())
    }

    fn proposals(&self, study: &Name) -> Result<Vec<Proposal>, No> {
        let records = self.store.scan(PROPOSALS, &format!("{study}/"), None, usize::MAX).map_err(own)?;
        records.iter().map(|(_, bytes)| parse(bytes)).collect()
    }

    /// The studies in which the caller has a part, or would have one under an amendment that is being signed.
    pub(crate) fn studies_of(&self, from: &Principal) -> Result<Reply, No> {
        let mut studies = Vec::new();
        for mut record in self.studies()? {
            let proposals = self.proposals(&record.study)?;
            record.amendments = proposals.into_iter().map(|proposal| proposal.agreement).collect();
            let mut concerns = false;
            for envelope in record.amendments.iter().chain([&record.agreement]) {
                concerns |= has_part(from, envelope.peek::<Agreement>().map_err(own)?.claims());
            }
            if concerns {
                let in_force = record.agreement.peek::<Agreement>().map_err(own)?.hash();
                record.revocations = self.revocation_entries(in_force)?;
                studies.push(record);
            }
        }
        Ok(Reply::Studies(studies))
    }

    fn studies(&self) -> Result<Vec<StudyRecord>, No> {
        let records = self.store.scan(STUDIES, "", None, 10_000).map_err(own)?;
        records.iter().map(|(_, bytes)| parse(bytes)).collect()
    }

    /// The agreement of a study that has begun.
    pub(crate) fn agreement(&self, study: &Name) -> Result<Verified<Agreement>, No> {
        let stored = self.store.get(STUDIES, study.as_str()).map_err(own)?;
        let stored = stored.ok_or_else(|| refusal("unknown", format!("there is no study {study} here")))?;
        if let Some((_, agreement)) = self.checked.borrow().agreements.get(study).filter(|(known, _)| *known == stored)
        {
            return Ok(agreement.clone());
        }
        match parse::<StudyRecord>(&stored)? {
            record if record.complete => {
                let keys = record.agreement.peek::<Agreement>().map_err(own)?.claims().custodian_keys();
                let agreement = record.agreement.open_all::<Agreement>(&keys).map_err(own)?;
                self.checked.borrow_mut().agreements.insert(study.clone(), (stored, agreement.clone()));
                Ok(agreement)
            }
            _ => no("denied", format!("study {study} waits for custodians' signatures")),
        }
    }

    pub(crate) fn complete_studies(&self) -> Result<Vec<Verified<Agreement>>, No> {
        self.studies()?.iter().filter(|record| record.complete).map(|record| self.agreement(&record.study)).collect()
    }

    /// An agreement under which a study is or was.
    pub(crate) fn agreement_by_hash(&self, hash: Hash) -> Result<Verified<Agreement>, No> {
        if let Some(agreement) = self.checked.borrow().versions.get(&hash) {
            return Ok(agreement.clone());
        }
        let envelope: Option<Envelope> = self.record(AGREEMENTS, &hash.to_string())?;
        let envelope = envelope.ok_or_else(|| refusal("unknown", "no study here is under this agreement"))?;
        let keys = envelope.peek::<Agreement>().map_err(own)?.claims().custodian_keys();
        let agreement = envelope.open_all::<Agreement>(&keys).map_err(own)?;
        self.checked.borrow_mut().versions.insert(hash, agreement.clone());
        Ok(agreement)
    }
}

/// The signatures collected so far and this custodian's, one for each custodian; nothing if they are the same as before.
/// Whatever else stands in an envelope is left out: there is room for so many signatures and no more, and who fills it
/// with junk must not keep the others' out.
fn merge(known: &Envelope, signed: &Envelope, agreement: &Agreement) -> Result<Option<Envelope>, No> {
    let mut merged = known.clone();
    merged.merge_signatures(signed).map_err(own)?;
    let merged = merged.signed_only_by(&agreement.custodian_keys());
    Ok((merged.signature_count() > known.signature_count()).then_some(merged))
}
