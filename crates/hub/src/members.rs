//! Who is here: joining with an invitation, the directory, offers of datasets, who acts for whom, halves of pairwise secrets.

use std::collections::VecDeque;

use cohortium_ledger::{KeyKind, VerifierKey};
use cohortium_messages::{
    Directory, Document, Envelope, Hash, HubEntry, InboxItem, Name, Offer, PairwiseCiphertext, Principal,
    PrincipalKind, PublicKey, Reply, ResearcherEntry, RosterEntry, Staff,
};
use cohortium_store::Table;
use serde::{Deserialize, Serialize};

use crate::hub::{Changes, Hub, No, json, no, open, own, refusal};
use crate::records::{MEMBERS, OFFER_SIZES, OFFERS, PAIRWISE, STAFF, USED_INVITATIONS};

/// What the hub keeps of an invitation: a file named by the hash of its secret, so that the hub's disk lets nobody in.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct InvitationRecord {
    pub name: Name,
    pub researcher: bool,
}

/// How many bytes of records one page of the directory carries, unless the first alone has more.
const MAX_PAGE_BYTES: usize = 8 << 20;
/// How many datasets one organisation offers at a time, and how many bytes these offers have together, unless one alone has
/// more: a schema of some hundreds of columns has some tens of thousands. The newest stay.
const MAX_OFFERS: usize = 64;
const MAX_OFFERED_BYTES: u64 = 1 << 20;
/// What the directory is made of, in the order in which it is told.
const DIRECTORY: [(Table, &str); 4] = [(MEMBERS, "organisation/"), (MEMBERS, "researcher/"), (STAFF, ""), (OFFERS, "")];

/// What is said about a key that stands for somebody already.
const KEY_TAKEN: &str =
    "a key of this entry, or its name, is another's here or stands in two roles: make keys of your own";

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
                self.demand_own_keys(&claims)?;
                format!("organisation/{}", from.name)
            }
            PrincipalKind::Researcher => {
                let claims =
                    entry.peek::<ResearcherEntry>().map_err(|error| refusal("malformed", error.to_string()))?;
                let claims = open::<ResearcherEntry>(entry, &claims.claims().key)?;
                if claims.researcher != from.name {
                    return no("denied", String::from("the entry carries another name"));
                }
                self.demand_own_key(&claims)?;
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

    /// Demands that no key of an organisation that joins is this hub's, another member's, or in two of its own roles, and
    /// its name not that of this hub's log: a key under two names would make one of their cosignatures count for the other.
    /// Nor may two of its keys have one id on the lines of notes: no reader could tell such lines apart.
    fn demand_own_keys(&self, entry: &RosterEntry) -> Result<(), No> {
        let own = entry.signing_keys();
        let again = own.iter().enumerate().any(|(place, key)| own.iter().take(place).any(|earlier| earlier == key));
        let is_hubs = entry.organisation == self.config.name || own.iter().any(|key| self.is_own_key(key));
        let others = self.entries::<RosterEntry>("organisation/")?;
        let is_members = others
            .iter()
            .filter(|other| other.organisation != entry.organisation)
            .any(|other| entry.shares_a_key_with(other));
        let researchers = self.entries::<ResearcherEntry>("researcher/")?;
        if has_one_id_twice(entry)? {
            return no("denied", String::from("two keys of this entry have the same id in notes: make other keys"));
        }
        match again || is_hubs || is_members || researchers.iter().any(|other| own.contains(&other.key)) {
            true => no("denied", String::from(KEY_TAKEN)),
            false => Ok(()),
        }
    }

    /// The same of a researcher.
    fn demand_own_key(&self, entry: &ResearcherEntry) -> Result<(), No> {
        let organisations = self.entries::<RosterEntry>("organisation/")?;
        let researchers = self.entries::<ResearcherEntry>("researcher/")?;
        let is_taken = self.is_own_key(&entry.key)
            || organisations.iter().any(|other| other.signing_keys().contains(&entry.key))
            || researchers.iter().any(|other| other.researcher != entry.researcher && other.key == entry.key);
        if is_taken { no("denied", String::from(KEY_TAKEN)) } else { Ok(()) }
    }

    fn is_own_key(&self, key: &PublicKey) -> bool {
        let HubEntry { log_key, message_key, .. } = self.entry();
        [log_key, message_key].contains(key)
    }

    /// All members of a kind. They were invited one by one, and this is asked when another one comes.
    fn entries<T: Document + Clone>(&self, kind: &str) -> Result<Vec<T>, No> {
        let records = self.store.scan(MEMBERS, kind, None, usize::MAX).map_err(own)?;
        let entry = |bytes: &[u8]| -> Result<T, No> {
            Ok(crate::hub::parse::<Envelope>(bytes)?.peek::<T>().map_err(own)?.claims().clone())
        };
        records.iter().map(|(_, bytes)| entry(bytes)).collect()
    }

    /// A page of the directory: what comes after the place where the page before ended, as much as fits into an answer.
    pub(crate) fn directory(&self, after: Option<&str>) -> Result<Reply, No> {
        let (mut directory, mut size) = (Directory::default(), 0);
        let (first, mut after) = after.and_then(|after| after.split_once(':')).unwrap_or(("0", ""));
        let first: usize = first.parse().map_err(|_| refusal("malformed", "no page of the directory ends there"))?;
        let mut last;
        for (part, (table, prefix)) in DIRECTORY.into_iter().enumerate().skip(first) {
            loop {
                let place = Some(after).filter(|after| !after.is_empty());
                let Some((key, bytes)) = self.store.scan(table, prefix, place, 1).map_err(own)?.pop() else { break };
                size += bytes.len();
                if size > MAX_PAGE_BYTES && size > bytes.len() {
                    directory.next = Some(format!("{part}:{after}"));
                    return Ok(Reply::Directory(directory));
                }
                let list = match part {
                    0 => &mut directory.organisations,
                    1 => &mut directory.researchers,
                    2 => &mut directory.staff,
                    _ => &mut directory.offers,
                };
                list.push(crate::hub::parse(&bytes)?);
                last = key;
                after = &last;
            }
            after = "";
        }
        Ok(Reply::Directory(directory))
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

    /// Takes an offer of a dataset. It stands in the place of the one before of the same dataset; where there are too many,
    /// the oldest go.
    pub(crate) fn offer(&mut self, from: &Name, offer: &Envelope) -> Result<Reply, No> {
        let verified = open::<Offer>(offer, &self.organisation(from)?.message_key)?;
        if verified.organisation != *from {
            return no("denied", String::from("the offer carries another organisation's name"));
        }
        let mut changes = Changes::default();
        let bytes = json(offer)?;
        let mut sizes: VecDeque<(Name, u64)> = self.record(OFFER_SIZES, from.as_str())?.unwrap_or_default();
        sizes.retain(|(dataset, _)| *dataset != verified.dataset);
        sizes.push_back((verified.dataset.clone(), bytes.len() as u64));
        let is_too_much = |sizes: &VecDeque<(Name, u64)>| {
            let together: u64 = sizes.iter().map(|(_, bytes)| *bytes).fold(0, u64::saturating_add);
            sizes.len() > 1 && (sizes.len() > MAX_OFFERS || together > MAX_OFFERED_BYTES)
        };
        while is_too_much(&sizes)
            && let Some((oldest, _)) = sizes.pop_front()
        {
            changes.batch.delete(OFFERS, &format!("{oldest}/{from}"));
        }
        changes.batch.put(OFFER_SIZES, from.as_str(), json(&sizes)?);
        changes.batch.put(OFFERS, &format!("{}/{from}", verified.dataset), bytes);
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

/// Whether two keys with which an organisation signs notes, those of its log and of its witness, have the same four-byte id:
/// some 2^16 keys of one's own are enough to find two.
fn has_one_id_twice(entry: &RosterEntry) -> Result<bool, No> {
    let id = |kind: KeyKind, key: &[u8]| -> Result<[u8; 4], No> {
        let key = VerifierKey::new(entry.organisation.as_str(), kind, key);
        Ok(key.map_err(|error| refusal("malformed", error.to_string()))?.id())
    };
    let log = id(KeyKind::Log, entry.log_key.as_bytes())?;
    let witness = id(KeyKind::Witness, entry.witness_key.as_bytes())?;
    let second = id(KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes())?;
    Ok(log == witness || log == second || witness == second)
}
