//! Who is here: joining with an invitation, the directory, offers of datasets, who acts for whom, halves of pairwise secrets.

use cohortium_messages::{
    Directory, Envelope, Hash, InboxItem, Name, Offer, PairwiseCiphertext, Principal, PrincipalKind, Reply,
    ResearcherEntry, RosterEntry, Staff,
};
use serde::{Deserialize, Serialize};

use crate::hub::{Changes, Hub, No, json, no, open, own, refusal};
use crate::records::{MEMBERS, OFFERS, PAIRWISE, STAFF, USED_INVITATIONS};

/// What the hub keeps of an invitation: a file named by the hash of its secret, so that the hub's disk lets nobody in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationRecord {
    pub name: Name,
    pub researcher: bool,
}

impl Hub {
    /// Lets an invited newcomer in, once.
    pub(crate) fn join(&mut self, from: &Principal, entry: &Envelope, secret: Hash) -> Result<Reply, No> {
        let file = self.config.invitations.join(format!("{}.json", Hash::of(secret.as_bytes())));
        let unknown = || refusal("unknown", "this invitation is not known here: ask the hub's operator for one");
        let bytes = std::fs::read(&file).map_err(|_| unknown())?;
        let invitation: InvitationRecord = crate::hub::parse(&bytes)?;
        let is_researcher = from.kind == PrincipalKind::Researcher;
        if invitation.name != from.name || invitation.researcher != is_researcher {
            return no("denied", format!("this invitation is for {}", invitation.name));
        }
        let key = match from.kind {
            PrincipalKind::Organisation => {
                let claims = entry.peek::<RosterEntry>().map_err(|error| refusal("malformed", error.to_string()))?;
                let claims = open::<RosterEntry>(entry, &claims.claims().identity_key)?;
                if claims.organisation != from.name {
                    return no("denied", String::from("the roster entry carries another name"));
                }
                format!("organisation/{}", from.name)
            }
            PrincipalKind::Researcher => {
                let claims =
                    entry.peek::<ResearcherEntry>().map_err(|error| refusal("malformed", error.to_string()))?;
                let claims = open::<ResearcherEntry>(entry, &claims.claims().key)?;
                if claims.researcher != from.name {
                    return no("denied", String::from("the entry carries another name"));
                }
                format!("researcher/{}", from.name)
            }
        };
        match self.record::<Envelope>(MEMBERS, &key)? {
            Some(known) if known == *entry => return Ok(Reply::Accepted),
            Some(_) => return no("conflict", format!("{} has joined before, with other keys", from.name)),
            None => {}
        }
        let used = Hash::of(secret.as_bytes()).to_string();
        let mut changes = Changes::default();
        changes.batch.expect_absent(USED_INVITATIONS, &used);
        changes.batch.put(USED_INVITATIONS, &used, json(&from.name)?);
        changes.batch.put(MEMBERS, &key, json(entry)?);
        if self.store.get(USED_INVITATIONS, &used).map_err(own)?.is_some() {
            return no("conflict", String::from("this invitation has been used"));
        }
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    pub(crate) fn directory(&self) -> Result<Reply, No> {
        let list = |table, prefix: &str| -> Result<Vec<Envelope>, No> {
            let records = self.store.scan(table, prefix, None, 10_000).map_err(own)?;
            records.iter().map(|(_, bytes)| crate::hub::parse(bytes)).collect()
        };
        Ok(Reply::Directory(Directory {
            offers: list(OFFERS, "")?,
            organisations: list(MEMBERS, "organisation/")?,
            researchers: list(MEMBERS, "researcher/")?,
            staff: list(STAFF, "")?,
        }))
    }

    /// Who acts for an organisation, as it says itself. The last list counts; agreements carry what was true when they were
    /// signed.
    pub(crate) fn staff(&mut self, from: &Name, staff: &Envelope) -> Result<Reply, No> {
        let verified = open::<Staff>(staff, &self.organisation(from)?.message_key)?;
        if verified.organisation != *from {
            return no("denied", String::from("the list is in another organisation's name"));
        }
        let mut changes = Changes::default();
        changes.batch.put(STAFF, from.as_str(), json(staff)?);
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    pub(crate) fn offer(&mut self, from: &Name, offer: &Envelope) -> Result<Reply, No> {
        let verified = open::<Offer>(offer, &self.organisation(from)?.message_key)?;
        if verified.organisation != *from {
            return no("denied", String::from("the offer carries another organisation's name"));
        }
        let mut changes = Changes::default();
        changes.batch.put(OFFERS, &format!("{}/{from}", verified.dataset), json(offer)?);
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    /// The snapshot that an organisation offers of a dataset at present.
    pub(crate) fn offered_snapshot(&self, dataset: &Name, organisation: &Name) -> Result<Option<Hash>, No> {
        let offer: Option<Envelope> = self.record(OFFERS, &format!("{dataset}/{organisation}"))?;
        offer.map(|offer| Ok(offer.peek::<Offer>().map_err(own)?.claims().snapshot)).transpose()
    }

    /// Passes a half of a pairwise secret on. The first one for a pair counts.
    pub(crate) fn pairwise(&mut self, from: &Name, message: &Envelope) -> Result<Reply, No> {
        let verified = open::<PairwiseCiphertext>(message, &self.organisation(from)?.message_key)?;
        let agreement = self.agreement_by_hash(verified.agreement)?;
        if verified.from != *from || agreement.party(from).is_none() || agreement.party(&verified.to).is_none() {
            return no("denied", String::from("sender and receiver must be members of the study"));
        }
        let key = format!("{}/{from}/{}", verified.agreement, verified.to);
        match self.record::<Envelope>(PAIRWISE, &key)? {
            Some(known) if known == *message => return Ok(Reply::Accepted),
            Some(_) => return no("conflict", String::from("another half was sent for this pair before")),
            None => {}
        }
        let mut changes = Changes::default();
        changes.batch.put(PAIRWISE, &key, json(message)?);
        changes.inbox.push((verified.to.clone(), InboxItem::Pairwise { message: message.clone() }));
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }
}
