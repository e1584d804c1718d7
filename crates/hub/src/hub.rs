//! The hub's state: signed requests in, signed answers out, and an inbox for every node.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use cohortium_ledger::log::BODY_BYTES_MAX;
use cohortium_ledger::{KeyKind, Log, LogError, SignerKey};
use cohortium_messages::{
    Agreement, Call, Document, Envelope, EnvelopeError, Hash, HubEntry, InboxItem, Name, PROTOCOL_VERSION, Principal,
    PrincipalKind, PublicKey, Refused, Reply, Request, ResearcherEntry, Response, RosterEntry, SigningKey, Timestamp,
    Verified,
};
use cohortium_policy::Revoked;
use cohortium_policy::watch::Rules;
use cohortium_store::{Batch, Store, StoreError, Table, sequence_key};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::access::{self, Access};
use crate::book::Witnesses;
use crate::live::Live;
use crate::nonces::{MAX_OF_ONE, Nonces, Taken};
use crate::records::{BODIES, INBOX, INBOX_HEADS, MEMBERS};

/// The hub's own store, log or keys fail. Its operator must act.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct HubError(pub String);

/// What a hub is given at start.
pub struct HubConfig {
    /// Where invitations are kept as files named by the hash of their secret.
    pub invitations: PathBuf,
    /// Signs the log's checkpoints.
    pub log_key: SigningKey,
    /// Signs answers and releases.
    pub message_key: SigningKey,
    /// The hub's name and the origin of its log.
    pub name: Name,
    /// How long a phase of a task may take, in seconds, before the round goes on without those who did not come, or is
    /// void where fewer than `t` did.
    pub phase_timeout_s: u32,
    /// What is remarkable about a task; nothing is looked for without.
    pub watch: Option<Rules>,
}

/// What was checked once and need not be checked again while this process lives. Parsing an agreement means checking a
/// lattice key per party and a signature per custodian; a round asks for it dozens of times.
#[derive(Default)]
pub(crate) struct Checked {
    /// By study: what the agreement in force is called by, for all studies that have begun.
    pub in_force: Option<BTreeMap<Name, Hash>>,
    /// A member's keys never change.
    pub organisations: HashMap<Name, RosterEntry>,
    /// By agreement: what was taken back of it.
    pub revoked: HashMap<Hash, Revoked>,
    /// By hash: agreements under which a study is or was.
    pub versions: HashMap<Hash, Verified<Agreement>>,
    /// Who is asked to cosign the log.
    pub witnesses: Option<Witnesses>,
}

/// A hub.
pub struct Hub {
    /// Calls that are not written down yet.
    pub(crate) accesses: Vec<Access>,
    /// Bodies that are files and still have a copy in the store.
    bodies_in_files: Vec<String>,
    pub(crate) checked: RefCell<Checked>,
    pub(crate) config: HubConfig,
    pub(crate) log: Log,
    pub(crate) log_signer: SignerKey,
    /// What failed, once something of this hub's own has: nothing is done any more then.
    failed: Option<String>,
    /// The sizes of the heads that wait for cosignatures.
    pub(crate) heads: BTreeSet<u64>,
    /// Whether lines came that are not beside the published head yet.
    pub(crate) has_new_lines: bool,
    /// Whether what is committed is shown later, with what other calls commit.
    is_gathering: bool,
    /// Whether [`Hub::wake`] is done.
    is_awake: bool,
    /// Rounds under way, by task.
    pub(crate) live: HashMap<Hash, Live>,
    /// When first agreements that wait for signatures are looked at next.
    pub(crate) next_sweep: Timestamp,
    nonces: Nonces,
    pub(crate) store: Box<dyn Store>,
    /// From which the addresses of announced vectors follow.
    pub(crate) ticket_key: Hash,
    /// The tasks of addresses that were found before, by the hash of the address.
    pub(crate) tickets: HashMap<Hash, Hash>,
    /// Bodies whose entries are durable, and which are no files yet, with the keys of their copies in the store.
    unpublished_bodies: Vec<(String, Vec<u8>)>,
    /// The numbers of heads in each witness's inbox that it was not shown yet, as far as this process put them there.
    pub(crate) unshown_heads: HashMap<Name, Vec<u64>>,
    /// The number of the last head of another member's log in each inbox, by who is shown it and whose log it is, where
    /// this process put it there and has not shown it yet.
    pub(crate) unshown_peers: HashMap<(Name, Name), u64>,
}

/// Why a request is not granted: the caller's doing, or the hub's own trouble.
pub(crate) enum No {
    Refused(Refused),
    Own(HubError),
}

/// What should become true at once.
#[derive(Default)]
pub(crate) struct Changes {
    /// Records.
    pub batch: Batch,
    /// Documents kept beside the log.
    pub bodies: Vec<Vec<u8>>,
    /// Entries for the log.
    pub entries: Vec<Envelope>,
    /// Items for nodes.
    pub inbox: Vec<(Name, InboxItem)>,
}

/// How far a caller's clock may be off.
pub(crate) const MAX_CLOCK_SKEW_S: i64 = 300;
/// How many bytes of items one answer carries, unless the first alone has more.
const MAX_INBOX_BYTES: usize = 8 << 20;
/// How many bytes of answers wait to be given together, unless the first alone has more.
const MAX_ANSWERED_BYTES: usize = 16 << 20;
/// How many items one answer carries at most.
const MAX_ITEMS: usize = 64;

impl Hub {
    /// Opens a hub over its store and the directory of its log.
    ///
    /// # Errors
    /// When records are damaged or the keys do not fit them.
    pub fn open(config: HubConfig, store: Box<dyn Store>, log_dir: &Path) -> Result<Self, HubError> {
        let log_signer = SignerKey::from_seed(config.name.as_str(), KeyKind::Log, &config.log_key.expose_seed())
            .map_err(own_error)?;
        let log = Log::open(log_dir, &*store, &log_signer).map_err(own_error)?;
        let (checked, heads) = (RefCell::default(), Self::stored_heads(&*store)?);
        let ticket_key = crate::uploads::ticket_key(&config.message_key);
        let mut hub = Self {
            accesses: Vec::new(),
            bodies_in_files: Vec::new(),
            checked,
            config,
            failed: None,
            // The process before may have ended before it could show the lines that it had.
            has_new_lines: true,
            heads,
            is_gathering: false,
            is_awake: false,
            live: HashMap::new(),
            log,
            log_signer,
            next_sweep: Timestamp::from_seconds(0),
            nonces: Nonces::default(),
            store,
            ticket_key,
            tickets: HashMap::new(),
            unpublished_bodies: Vec::new(),
            unshown_heads: HashMap::new(),
            unshown_peers: HashMap::new(),
        };
        hub.unpublished_bodies = hub.store.scan(BODIES, "", None, usize::MAX).map_err(own_error)?;
        hub.publish()?;
        hub.queue_checkpoints()?;
        Ok(hub)
    }

    /// The hub's public keys.
    #[must_use]
    pub fn entry(&self) -> HubEntry {
        HubEntry {
            hub: self.config.name.clone(),
            log_key: self.config.log_key.public(),
            message_key: self.config.message_key.public(),
        }
    }

    /// Answers one signed request. Whatever arrives, the answer is a signed envelope.
    ///
    /// # Errors
    /// When the hub's own store or log fails.
    pub fn answer(&mut self, request: &Envelope, now: Timestamp) -> Result<Envelope, HubError> {
        let answer = self.answer_all(std::slice::from_ref(request), now)?.pop();
        answer.ok_or_else(|| HubError(String::from("a request has no answer")))
    }

    /// Answers signed requests in their order, all or the first of them: as many as have answers that may be in memory at
    /// a time, and one at least. Each is durable by a commit of its own; the log is shown once, under one head with the
    /// entries of all, and no answer is given before. After a crash in between the log holds what was committed, nobody
    /// was answered, and who asks again is told so.
    ///
    /// # Errors
    /// When the hub's own store or log fails: then none is answered.
    pub fn answer_all(&mut self, requests: &[Envelope], now: Timestamp) -> Result<Vec<Envelope>, HubError> {
        self.unless_failed(|hub| {
            hub.wake(now)?;
            let (mut answers, mut size) = (Vec::new(), 0);
            hub.is_gathering = true;
            for request in requests {
                let answer = hub.answer_one(request, now)?;
                size += answer.size();
                answers.push(answer);
                if size > MAX_ANSWERED_BYTES {
                    break;
                }
            }
            hub.is_gathering = false;
            hub.publish()?;
            Ok(answers)
        })
    }

    /// Takes a step, unless one has failed before. What became of a commit that failed is not known, and what this process
    /// has in memory may not be what is durable: only opening the hub again says. So it must end, and does nothing until then.
    pub(crate) fn unless_failed<T>(
        &mut self,
        step: impl FnOnce(&mut Self) -> Result<T, HubError>,
    ) -> Result<T, HubError> {
        if let Some(why) = &self.failed {
            return Err(HubError(format!("this hub has failed and must be started again: {why}")));
        }
        let done = step(self);
        if let Err(HubError(why)) = &done {
            self.failed = Some(why.clone());
        }
        done
    }

    fn answer_one(&mut self, request: &Envelope, now: Timestamp) -> Result<Envelope, HubError> {
        let claims = match request.peek::<Request>() {
            Ok(claims) => claims,
            Err(error) => return self.sign(Hash::of(&[]), Err(refused("malformed", error.to_string()))),
        };
        let claims = claims.claims();
        let signed = self.demand_signature(request, claims);
        // A join is signed with a key that it brings along, which says nothing about who sent it.
        let is_join = matches!(claims.call, Call::Join { .. });
        let known = signed.is_ok() && !is_join;
        let reply = match signed.and_then(|()| self.admit(claims, now)) {
            Ok(()) => self.dispatch(claims, now),
            Err(no) => Err(no),
        };
        let reply = match reply {
            Ok(reply) => Ok(reply),
            Err(No::Refused(refused)) => Err(refused),
            Err(No::Own(error)) => return Err(error),
        };
        let known = known || (is_join && reply.is_ok());
        // A poll that finds nothing new comes again and again.
        if !reply.as_ref().is_ok_and(|reply| Self::would_wait(&claims.call, reply)) {
            let (call, what) = access::words(&claims.call);
            let outcome = reply.as_ref().map_or_else(|refused| refused.code.clone(), |_| String::from("ok"));
            let who = claims.from.clone();
            self.note_access(Access { at: now, call: call.to_owned(), known, outcome, what, who })?;
        }
        self.sign(claims.nonce, reply)
    }

    /// Signs an answer. One that is too long to be read is the caller's trouble, and not this hub's.
    pub(crate) fn sign(&self, nonce: Hash, reply: Result<Reply, Refused>) -> Result<Envelope, HubError> {
        let sign = |reply| Envelope::sign(&Response { nonce, reply }, &self.config.message_key);
        match sign(reply) {
            Err(error @ EnvelopeError::TooLong { .. }) => sign(Err(refused("limit", error.to_string()))),
            signed => signed,
        }
        .map_err(own_error)
    }

    /// What this process does before anything else: it gives every open task the whole time of its phase again, because
    /// nobody could answer while the hub was down; and it ends what a crash left open although it was taken back, before
    /// anybody can go on with it.
    pub(crate) fn wake(&mut self, now: Timestamp) -> Result<(), HubError> {
        if !self.is_awake {
            self.renew_deadlines(now).map_err(in_own_words)?;
            self.end_overtaken(now).map_err(in_own_words)?;
            self.is_awake = true;
        }
        Ok(())
    }

    /// Ends what has waited too long. Called about once a second.
    ///
    /// # Errors
    /// When the hub's own store or log fails.
    pub fn tick(&mut self, now: Timestamp) -> Result<(), HubError> {
        self.unless_failed(|hub| hub.tick_once(now))
    }

    fn tick_once(&mut self, now: Timestamp) -> Result<(), HubError> {
        self.nonces.forget_before(now);
        self.write_accesses()?;
        self.look_for_witnesses_that_left();
        self.queue_checkpoints()?;
        self.wake(now)?;
        self.drop_old_drafts(now).map_err(in_own_words)?;
        self.expire_tasks(now).map_err(in_own_words)
    }

    /// Whether a long poll with this call should wait for something new.
    #[must_use]
    pub fn would_wait(call: &Call, reply: &Reply) -> bool {
        match (call, reply) {
            (Call::Inbox { .. }, Reply::Inbox(items)) => items.is_empty(),
            (Call::Status { known, .. }, Reply::Status(status)) => status.step == *known && !Self::is_final(status),
            _ => false,
        }
    }

    fn is_final(status: &cohortium_messages::TaskStatus) -> bool {
        status.state.is_terminal() && (status.release.is_none() || status.inclusion.is_some())
    }

    /// Demands that the caller is who it says.
    fn demand_signature(&self, envelope: &Envelope, claims: &Request) -> Result<(), No> {
        let key = match &claims.call {
            Call::Join { entry, .. } => joining_key(entry, &claims.from)?,
            _ => self.member_key(&claims.from)?,
        };
        match envelope.open::<Request>(&key) {
            Ok(_) => Ok(()),
            Err(_) => no("signature", format!("the request is not signed by the key of {}", claims.from.name)),
        }
    }

    /// Demands a protocol version we speak, a clock near ours and a fresh nonce.
    fn admit(&mut self, claims: &Request, now: Timestamp) -> Result<(), No> {
        if claims.protocol != PROTOCOL_VERSION {
            return no(
                "malformed",
                format!("this hub speaks protocol version {PROTOCOL_VERSION}, not {}", claims.protocol),
            );
        }
        if (claims.time.seconds() - now.seconds()).abs() > MAX_CLOCK_SKEW_S {
            return no("clock", format!("your clock says {}, this hub's says {now}: set your clock", claims.time));
        }
        if matches!(claims.call, Call::Join { .. }) {
            return Ok(()); // anyone can sign a join with a key of its own; the invitation's secret decides, and works once
        }
        match self.nonces.take(&claims.from, claims.nonce, now.plus_seconds(2 * MAX_CLOCK_SKEW_S)) {
            Taken::Fresh => Ok(()),
            Taken::Full => no("later", format!("{MAX_OF_ONE} requests in ten minutes; the next must wait")),
            Taken::Used => no("conflict", String::from("this request was made before")),
        }
    }

    /// Lets the same long poll be looked at again: its nonce was used by itself.
    pub fn forget_nonce(&mut self, request: &Request) {
        self.nonces.forget(&request.from, &request.nonce);
    }

    fn dispatch(&mut self, request: &Request, now: Timestamp) -> Result<Reply, No> {
        let from = &request.from;
        match &request.call {
            Call::Directory { after } => self.directory(after.as_deref()),
            Call::Inbox { after, .. } => self.inbox(organisation(from)?, *after),
            Call::Join { entry, secret } => self.join(from, entry, *secret),
            Call::Staff { staff } => self.staff(organisation(from)?, staff),
            Call::Log { body, entry } => self.log_entry(organisation(from)?, entry, body.as_ref(), now),
            Call::Offer { offer } => self.offer(organisation(from)?, offer),
            Call::Pairwise { message } => self.pairwise(organisation(from)?, message),
            Call::Post { step } => self.post(organisation(from)?, step, now),
            Call::Released { plan, purpose, study } => self.released(from, *plan, purpose, study, now),
            Call::Sign { agreement, entry } => self.sign_agreement(organisation(from)?, agreement, entry, now),
            Call::Studies { after } => self.studies_of(from, after.as_ref()),
            Call::Submit { entry, task } => self.submit(from, task, entry, now),
            Call::Status { task, .. } => self.status(from, *task, now),
            Call::Tasks { last } => self.tasks_of(from, *last),
            Call::Witness { consistency, note, old_size } => {
                self.witness(organisation(from)?, note, *old_size, consistency)
            }
        }
    }

    /// The key that a member's requests must be signed with.
    fn member_key(&self, from: &Principal) -> Result<PublicKey, No> {
        match from.kind {
            PrincipalKind::Organisation => Ok(self.organisation(&from.name)?.message_key),
            PrincipalKind::Researcher => Ok(self.researcher(&from.name)?.key),
        }
    }

    /// A member organisation's entry.
    pub(crate) fn organisation(&self, name: &Name) -> Result<RosterEntry, No> {
        if let Some(entry) = self.checked.borrow().organisations.get(name) {
            return Ok(entry.clone());
        }
        let envelope: Option<Envelope> = self.record(MEMBERS, &format!("organisation/{name}"))?;
        let envelope = envelope.ok_or_else(|| refusal("unknown", format!("{name} has not joined this hub")))?;
        let entry = envelope.peek::<RosterEntry>().map_err(own)?.claims().clone();
        self.checked.borrow_mut().organisations.insert(name.clone(), entry.clone());
        Ok(entry)
    }

    /// A member researcher's entry.
    pub(crate) fn researcher(&self, name: &Name) -> Result<ResearcherEntry, No> {
        let envelope: Option<Envelope> = self.record(MEMBERS, &format!("researcher/{name}"))?;
        let envelope = envelope.ok_or_else(|| refusal("unknown", format!("{name} has not joined this hub")))?;
        Ok(envelope.peek::<ResearcherEntry>().map_err(own)?.claims().clone())
    }

    /// Items after the one numbered `after`, which with all before it has been handled and is forgotten here.
    fn inbox(&mut self, node: &Name, after: u64) -> Result<Reply, No> {
        let prefix = format!("{node}/");
        let from = format!("{prefix}{}", sequence_key(after));
        let mut handled = Batch::new();
        for (key, _) in
            self.store.scan(INBOX, &prefix, None, MAX_ITEMS).map_err(own)?.into_iter().filter(|(k, _)| *k <= from)
        {
            handled.delete(INBOX, &key);
        }
        if !handled.is_empty() {
            self.store.commit(handled).map_err(own)?;
        }
        let records = self.store.scan(INBOX, &prefix, Some(&from), MAX_ITEMS).map_err(own)?;
        let mut items = Vec::new();
        let mut size = 0;
        for (number, (_, bytes)) in (after + 1..).zip(records) {
            size += bytes.len();
            if size > MAX_INBOX_BYTES && !items.is_empty() {
                break; // the rest comes with the next call
            }
            items.push((number, parse(&bytes)?));
        }
        if let Some((last, _)) = items.last() {
            self.unshown_heads.entry(node.clone()).or_default().retain(|number| number > last);
            self.unshown_peers.retain(|(peer, _), number| peer != node || *number > *last);
        }
        Ok(Reply::Inbox(items))
    }

    /// Makes everything in `changes` durable: bodies, records, inbox items and log entries in one commit; and shows it, or
    /// leaves that to the end of the calls that are answered together.
    ///
    /// A crash before the commit leaves nothing; after it, [`Hub::open`] does what is missing. A body is never a file
    /// before its entry is durable: what the hub says after a crash may be another body, and an auditor would find one
    /// that no entry names. What is too long for log or store is refused, and nothing of it is true then.
    pub(crate) fn commit(&mut self, changes: Changes) -> Result<(), No> {
        let Changes { mut batch, bodies, entries, inbox } = changes;
        for key in &self.bodies_in_files {
            batch.delete(BODIES, key);
        }
        let mut unpublished = Vec::new();
        for (number, body) in (self.log.size()..).zip(bodies) {
            if body.len() as u64 > BODY_BYTES_MAX {
                return no("limit", format!("a document beside the log has at most {BODY_BYTES_MAX} bytes"));
            }
            batch.put(BODIES, &sequence_key(number), body.clone());
            unpublished.push((sequence_key(number), body));
        }
        self.put_items(&mut batch, inbox)?;
        let leaves = entries.iter().map(cohortium_messages::canonical_bytes).collect::<Result<Vec<_>, _>>();
        let leaves = leaves.map_err(own)?;
        let staged = match leaves.as_slice() {
            [] => None,
            leaves => Some(self.log.stage(leaves, &mut batch).map_err(log_trouble)?),
        };
        self.store.commit(batch).map_err(store_trouble)?;
        self.bodies_in_files.clear();
        self.unpublished_bodies.extend(unpublished);
        if let Some(staged) = staged {
            self.log.adopt(staged, &*self.store).map_err(own)?;
        }
        if self.is_gathering { Ok(()) } else { Ok(self.publish()?) }
    }

    /// Shows what is durable: bodies become files, then the log's tiles and head, then the head goes into the witnesses'
    /// inboxes, and what was cosigned meanwhile beside the head. The next commit forgets the bodies' copies in the store.
    fn publish(&mut self) -> Result<(), HubError> {
        for (key, body) in std::mem::take(&mut self.unpublished_bodies) {
            self.log.put_body(&body).map_err(own_error)?;
            self.bodies_in_files.push(key);
        }
        if self.log.published_size() < self.log.size() {
            self.log.publish(&*self.store, &self.log_signer).map_err(own_error)?;
            self.queue_checkpoints()?;
        }
        if std::mem::take(&mut self.has_new_lines) { self.publish_lines() } else { Ok(()) }
    }

    /// Numbers the items and adds them to the batch.
    pub(crate) fn put_items(&self, batch: &mut Batch, inbox: Vec<(Name, InboxItem)>) -> Result<(), HubError> {
        let mut heads: BTreeMap<Name, u64> = BTreeMap::new();
        for (node, item) in inbox {
            let stored: Option<u64> = self.record(INBOX_HEADS, node.as_str()).map_err(|_| damaged())?;
            let head = heads.entry(node.clone()).or_insert_with(|| stored.unwrap_or(0));
            *head += 1;
            batch.put(INBOX, &inbox_key(&node, *head), json(&item)?);
        }
        for (node, head) in heads {
            batch.put(INBOX_HEADS, node.as_str(), json(&head)?);
        }
        Ok(())
    }

    pub(crate) fn record<T: DeserializeOwned>(&self, table: Table, key: &str) -> Result<Option<T>, No> {
        self.store.get(table, key).map_err(own)?.map(|bytes| parse(&bytes)).transpose()
    }
}

/// The key that an entry names for itself: who joins signs with it.
fn joining_key(entry: &Envelope, from: &Principal) -> Result<PublicKey, No> {
    let malformed = |error: cohortium_messages::EnvelopeError| refusal("malformed", error.to_string());
    match from.kind {
        PrincipalKind::Organisation => Ok(entry.peek::<RosterEntry>().map_err(malformed)?.claims().identity_key),
        PrincipalKind::Researcher => Ok(entry.peek::<ResearcherEntry>().map_err(malformed)?.claims().key),
    }
}

fn organisation(from: &Principal) -> Result<&Name, No> {
    match from.kind {
        PrincipalKind::Organisation => Ok(&from.name),
        PrincipalKind::Researcher => {
            no("denied", String::from("only an organisation's node or custodian may call this"))
        }
    }
}

/// Opens a document that `key` and nobody else must have signed, or refuses: the envelope is stored and logged as it came,
/// so there must be nothing in it that was not checked.
pub(crate) fn open<T: Document>(envelope: &Envelope, key: &PublicKey) -> Result<Verified<T>, No> {
    if envelope.signature_count() != 1 {
        return no("malformed", format!("{} signatures stand where one must", envelope.signature_count()));
    }
    envelope.open::<T>(key).map_err(|error| refusal("signature", error.to_string()))
}

/// Where an item stands in the inboxes.
pub(crate) fn inbox_key(node: &Name, number: u64) -> String {
    format!("{node}/{}", sequence_key(number))
}

/// The number at the end of a key.
pub(crate) fn number_of(key: &str) -> Option<u64> {
    u64::from_str_radix(key.rsplit('/').next()?, 16).ok()
}

/// What is too long is the doing of whoever sent it; everything else is the hub's own trouble.
fn log_trouble(error: LogError) -> No {
    match error {
        LogError::Limit { .. } => refusal("limit", error.to_string()),
        error => own(error),
    }
}

/// As [`log_trouble`].
fn store_trouble(error: StoreError) -> No {
    match error {
        StoreError::Limit { .. } => refusal("limit", error.to_string()),
        error => own(error),
    }
}

/// Where nobody is there to be refused.
pub(crate) fn in_own_words(no: No) -> HubError {
    match no {
        No::Own(error) => error,
        No::Refused(refused) => HubError(refused.why),
    }
}

pub(crate) fn refused(code: &str, why: impl Into<String>) -> Refused {
    Refused { clauses: Vec::new(), code: code.to_owned(), why: why.into() }
}

pub(crate) fn refusal(code: &str, why: impl Into<String>) -> No {
    No::Refused(refused(code, why))
}

pub(crate) fn no<T>(code: &str, why: String) -> Result<T, No> {
    Err(refusal(code, why))
}

pub(crate) fn own(error: impl std::fmt::Display) -> No {
    No::Own(own_error(error))
}

pub(crate) fn own_error(error: impl std::fmt::Display) -> HubError {
    HubError(error.to_string())
}

impl From<HubError> for No {
    fn from(error: HubError) -> Self {
        Self::Own(error)
    }
}

pub(crate) fn damaged() -> HubError {
    HubError(String::from("a record of the hub's store is damaged"))
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, HubError> {
    serde_json::to_vec(value).map_err(own_error)
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, No> {
    serde_json::from_slice(bytes).map_err(|error| own(format!("a record of the hub's store is damaged: {error}")))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use cohortium_messages::{Name, SigningKey};
    use cohortium_store::MemoryStore;
    use getrandom::SysRng;
    use rand_core::UnwrapErr;

    use super::*;

    /// A store of which one commit fails, and no other.
    struct FailsOnce {
        inner: MemoryStore,
        fails: Arc<Mutex<bool>>,
    }

    impl Store for FailsOnce {
        fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
            self.inner.get(table, key)
        }

        fn scan(
            &self,
            table: Table,
            prefix: &str,
            after: Option<&str>,
            limit: usize,
        ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
            self.inner.scan(table, prefix, after, limit)
        }

        fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
            match std::mem::take(&mut *self.fails.lock().unwrap()) {
                true => Err(StoreError::Crashed),
                false => self.inner.commit(batch),
            }
        }
    }

    /// The hub answered trouble of its own once and went on, though nobody knew whether what had failed was on the disk.
    #[test]
    fn repro_a_hub_that_failed_does_nothing_more() {
        let dir = std::env::temp_dir().join(format!("cohortium-hub-{}", std::process::id()));
        let mut rng = UnwrapErr(SysRng);
        let key = SigningKey::generate(&mut rng);
        let config = HubConfig {
            invitations: dir.join("invitations"),
            log_key: SigningKey::generate(&mut rng),
            message_key: SigningKey::generate(&mut rng),
            name: Name::new("hub").unwrap(),
            phase_timeout_s: 60,
            watch: None,
        };
        let fails = Arc::new(Mutex::new(false));
        let store = FailsOnce { inner: MemoryStore::new(), fails: Arc::clone(&fails) };
        let mut hub = Hub::open(config, Box::new(store), &dir.join("log")).unwrap();
        let now = Timestamp::from_seconds(1_795_305_600);
        let from = Principal { kind: PrincipalKind::Researcher, name: Name::new("rosa").unwrap() };
        let call = Call::Directory { after: None };
        let request = Request { call, from, nonce: Hash::of(b"1"), protocol: PROTOCOL_VERSION, time: now };
        let request = Envelope::sign(&request, &key).unwrap();
        hub.answer(&request, now).unwrap();
        // What the call leaves for the house is written with the next look at the deadlines.
        *fails.lock().unwrap() = true;
        let _ = hub.tick(now).unwrap_err();
        assert!(!*fails.lock().unwrap());
        for error in [hub.answer(&request, now).unwrap_err(), hub.tick(now).unwrap_err()] {
            assert!(error.0.contains("must be started again"), "{error}");
        }
        let error = hub.receive_vector(Hash::of(b"2"), 0, b"piece", now).unwrap_err();
        assert!(error.0.contains("must be started again"), "{error}");
        std::fs::remove_dir_all(dir).unwrap();
    }
}
