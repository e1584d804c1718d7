//! Agreements at the hub: signatures are collected until all custodians have signed, then the study begins.

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Hash, InboxItem, Name, Principal, Reply, StudyRecord, Verified,
    canonical_bytes,
};

use crate::hub::{Changes, Hub, No, json, no, open, own, parse, refusal};
use crate::records::STUDIES;
use crate::tasks::has_part;

impl Hub {
    /// Takes a custodian's signature. The first one proposes the agreement, the last one begins the study.
    pub(crate) fn sign_agreement(&mut self, from: &Name, envelope: &Envelope, entry: &Envelope) -> Result<Reply, No> {
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
        let merged = self.merge(agreement, envelope)?;
        let already = self.record::<StudyRecord>(STUDIES, agreement.study.as_str())?;
        if already.is_some_and(|known| known.agreement == merged) {
            return Ok(Reply::Accepted);
        }
        let complete = merged.open_all::<Agreement>(&agreement.custodian_keys()).is_ok();
        let record = StudyRecord { agreement: merged.clone(), complete, study: agreement.study.clone() };
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        changes.bodies.push(canonical_bytes(envelope).map_err(own)?);
        changes.batch.put(STUDIES, agreement.study.as_str(), json(&record)?);
        if complete {
            for node in agreement.participants() {
                changes.inbox.push((node, InboxItem::Agreement { agreement: merged.clone() }));
            }
        }
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    /// The envelope with the custodians' signatures collected so far, or a refusal if another agreement is in the way.
    /// Whatever else stands in an envelope is left out: there is room for so many signatures and no more, and who fills it
    /// with junk must not keep the others' out.
    fn merge(&self, agreement: &Agreement, envelope: &Envelope) -> Result<Envelope, No> {
        let envelope = &envelope.signed_only_by(&agreement.custodian_keys());
        let Some(mut known) = self.record::<StudyRecord>(STUDIES, agreement.study.as_str())? else {
            return Ok(envelope.clone());
        };
        let is_same = known.agreement.merge_signatures(envelope).is_ok();
        match (is_same, known.complete) {
            (true, _) => Ok(known.agreement),
            (false, true) => no("conflict", format!("study {} is under another agreement", agreement.study)),
            (false, false) => no(
                "conflict",
                format!("another draft of study {} is being signed; use another study name", agreement.study),
            ),
        }
    }

    /// The studies in which the caller has a part.
    pub(crate) fn studies_of(&self, from: &Principal) -> Result<Reply, No> {
        let mut studies = Vec::new();
        for record in self.studies()? {
            if has_part(from, record.agreement.peek::<Agreement>().map_err(own)?.claims()) {
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

    pub(crate) fn agreement_by_hash(&self, hash: Hash) -> Result<Verified<Agreement>, No> {
        let agreements = self.complete_studies()?;
        let found = agreements.into_iter().find(|agreement| agreement.hash() == hash);
        found.ok_or_else(|| refusal("unknown", "no study here is under this agreement"))
    }
}
