//! The node's state, and the one door through which it changes.
//!
//! Every handler computes what should become true ([`Changes`]) and hands it to [`Node::commit`], which makes it
//! durable at once: account entries, run records, the node's own log, and the journal of what leaves. Nothing leaves
//! that is not in the journal, and nothing is in the journal that was not committed together with its reasons.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::Path;

use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, NanoNats};
use cohortium_ledger::{Cosigner, KeyKind, Log, SignerKey, VerifierKey};
use cohortium_messages::{
    Agreement, Author, Decimal, Entry, Envelope, Fact, Hash, HubEntry, InboxItem, Name, Offer, OrganisationSecrets,
    Refused, Task, Timestamp, Verified, canonical_bytes,
};
use cohortium_policy::watch::Rules;
use cohortium_store::{Batch, Store, Table, sequence_key};
use rand_core::CryptoRng;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::outgoing::Outgoing;
use crate::records::{
    ACCESS, ACCOUNT, AGREEMENTS, AccessRecord, DatasetRecord, HELD, HeldRecord, JOURNAL, JournalRecord, META, OFFERS,
    RUNS, RunRecord, RunState, VECTORS, VERSIONS, kept,
};
use crate::rows::Rows;

/// Why a node could not do something.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A peer or the hub sent something that cannot be accepted. It is ignored; nothing changed.
    #[error("refused: {0}")]
    Peer(String),
    /// The node's own store, log or keys fail. The operator must act; the item will be handled again after a restart.
    #[error("{0}")]
    Own(String),
}

/// What a node is given at start.
pub struct NodeConfig {
    /// The datasets in its house.
    pub datasets: Vec<DatasetRecord>,
    /// The hub, as the invitation named it.
    pub hub: HubEntry,
    /// The organisation.
    pub organisation: Name,
    /// The rules by which the house wants to be told of remarkable tasks; nothing is noticed without them.
    pub rules: Option<Rules>,
    /// Its keys.
    pub secrets: OrganisationSecrets,
}

/// A stored agreement, byte for byte, and what was verified in it.
type Checked = (Vec<u8>, Verified<Agreement>);

/// A node.
pub struct Node {
    pub(crate) accounts: BTreeMap<Name, Account>,
    /// By table and key.
    checked: RefCell<BTreeMap<(Table, String), Checked>>,
    /// Both keys with which this node cosigns others' logs.
    pub(crate) cosigner: Cosigner,
    pub(crate) datasets: BTreeMap<Name, DatasetRecord>,
    pub(crate) hub: HubEntry,
    pub(crate) log: Log,
    log_signer: SignerKey,
    /// Whether every dataset's present shape has been journaled since this process began.
    offered: bool,
    pub(crate) organisation: Name,
    pub(crate) rules: Option<Rules>,
    pub(crate) secrets: OrganisationSecrets,
    pub(crate) store: Box<dyn Store>,
}

/// What should become true at once.
#[derive(Default)]
pub(crate) struct Changes {
    /// Account entries, in order, all of one dataset.
    pub account: Vec<AccountEntry>,
    /// Records for numbered lists: the table, what the key begins with, the record.
    pub append: Vec<(Table, String, Vec<u8>)>,
    /// Further records.
    pub batch: Batch,
    /// Documents kept beside the node's own log.
    pub bodies: Vec<Vec<u8>>,
    /// Entries for the node's own log.
    pub decisions: Vec<Envelope>,
    /// What was held back and leaves now.
    pub dispatched: Vec<JournalRecord>,
    /// What is held back until a person looked at it, and the task it belongs to.
    pub held: Option<(Outgoing, Hash)>,
    /// What leaves, and the task it belongs to.
    pub outgoing: Vec<(Outgoing, Option<Hash>)>,
}

/// How long a run may stay open: far beyond what any hub's own deadline allows.
pub(crate) const RUN_PATIENCE_S: i64 = 86_400;
const INBOX_CURSOR: &str = "inbox_handled";
const JOURNAL_HEAD: &str = "journal_head";
const JOURNAL_SENT: &str = "journal_sent";
pub(crate) const HALTED: &str = "halted";

impl Node {
    /// Opens a node over its store and the directory of its own log.
    ///
    /// # Errors
    /// When records are damaged or the keys do not fit them. The operator must act.
    pub fn open(config: NodeConfig, store: Box<dyn Store>, log_dir: &Path) -> Result<Self, NodeError> {
        let NodeConfig { datasets, hub, organisation, rules, secrets } = config;
        let name = organisation.as_str();
        let log_signer = SignerKey::from_seed(name, KeyKind::Log, &secrets.log.expose_seed()).map_err(own)?;
        let witness = SignerKey::from_seed(name, KeyKind::Witness, &secrets.witness.expose_seed()).map_err(own)?;
        let second = SignerKey::from_seed(name, KeyKind::WitnessMlDsa44, &secrets.witness_ml_dsa).map_err(own)?;
        let cosigner = Cosigner::new(witness, Some(second)).map_err(own)?;
        let log = Log::open(log_dir, &*store, &log_signer).map_err(own)?;
        let datasets = datasets.into_iter().map(|record| (record.name.clone(), record)).collect();
        let accounts = BTreeMap::new();
        let checked = RefCell::default();
        let mut node = Self {
            accounts,
            checked,
            cosigner,
            datasets,
            hub,
            log,
            log_signer,
            offered: false,
            organisation,
            rules,
            secrets,
            store,
        };
        node.open_accounts()?;
        Ok(node)
    }

    /// Handles one item of the inbox. Items that were handled before are skipped; what a peer did wrong is reported and
    /// changes nothing.
    ///
    /// # Errors
    /// The item was not handled and must come again: [`NodeError::Own`] when this node fails, [`NodeError::Peer`] when
    /// the hub left items out.
    pub fn handle(
        &mut self,
        number: u64,
        item: &InboxItem,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
        rows: &mut dyn Rows,
    ) -> Result<Option<String>, NodeError> {
        let handled = self.inbox_cursor()?;
        if number <= handled {
            return Ok(None);
        }
        if number != handled + 1 {
            return Err(peer(format!("the hub shows item {number} after item {handled}: items are missing")));
        }
        let outcome = match item {
            // Nothing goes on at a node that has caught its hub lying, but what was not read is given back.
            item if self.halted()?.is_some() && !matches!(item, InboxItem::Void { .. }) => {
                Err(peer("this node has stopped believing the hub"))
            }
            InboxItem::Agreement { agreement } => self.on_agreement(agreement, now, rng),
            InboxItem::Checkpoint { consistency, note, old_size } => {
                self.on_checkpoint(*old_size, consistency, note, now)
            }
            InboxItem::Pairwise { message } => self.on_pairwise(message),
            InboxItem::Task { entry, inclusion, task } => self.on_task(task, entry, inclusion, now, rng),
            InboxItem::Shares { shares, task } => self.on_shares(*task, shares, now, rows),
            InboxItem::Survivors { survivors, task } => self.on_survivors(*task, survivors, now),
            InboxItem::Signatures { sets, task } => self.on_signatures(*task, sets, now),
            InboxItem::Void { reason, task } => self.on_void(*task, reason, now),
            InboxItem::Released { release, task } => self.on_released(*task, release, now),
            InboxItem::Logged { entry, inclusion, .. } => self.on_logged(entry, inclusion, now),
            InboxItem::PeerCheckpoint { consistency, note, old_size } => {
                self.on_peer_checkpoint(*old_size, consistency, note, now)
            }
            InboxItem::PeerCosigned { from, lines, size } => self.on_peer_cosigned(from, lines, *size, now),
            InboxItem::Permitted { entry, task } => self.on_permitted(*task, entry),
        };
        let report = match outcome {
            Ok(()) => None,
            Err(NodeError::Peer(why)) => Some(why),
            Err(own) => return Err(own),
        };
        let mut batch = Batch::new();
        batch.put(META, INBOX_CURSOR, number.to_string().into_bytes());
        if let Some((who, what)) = asks_for(item) {
            let outcome = report.clone().unwrap_or_else(|| String::from("taken in"));
            self.append(&mut batch, ACCESS, "", json(&AccessRecord { at: now, outcome, what, who })?)?;
        }
        self.store.commit(batch).map_err(own)?;
        Ok(report)
    }

    /// The number of the last item that was handled.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn inbox_cursor(&self) -> Result<u64, NodeError> {
        self.number(INBOX_CURSOR)
    }

    /// What is in the journal and not yet sent, oldest first, with the bytes that follow a masked vector's call. What must
    /// not leave any more is withdrawn first, and what nothing forbids any more is in it again.
    ///
    /// # Errors
    /// When the store fails.
    #[expect(clippy::type_complexity, reason = "a number, a record and perhaps bytes; a struct would name nothing new")]
    pub fn unsent(&mut self, now: Timestamp) -> Result<Vec<(u64, JournalRecord, Option<Vec<u8>>)>, NodeError> {
        self.go_on(now)?;
        let sent = self.number(JOURNAL_SENT)?;
        let records = self.store.scan(JOURNAL, "", Some(&sequence_key(sent)), 64).map_err(own)?;
        let mut unsent = Vec::new();
        for (number, (_, bytes)) in (sent + 1..).zip(records) {
            let record: JournalRecord = parse(&bytes)?;
            if record.withdrawn.is_some() || self.withdraw(number, &record, now)? {
                if unsent.is_empty() {
                    self.mark_sent(number)?;
                    continue;
                }
                break; // after what stands before it
            }
            let vector = match record.vector {
                Some(hash) => self.store.get(VECTORS, &hash.to_string()).map_err(own)?,
                None => None,
            };
            unsent.push((number, record, vector));
        }
        Ok(unsent)
    }

    /// Notes that the hub has everything up to this number. A crash before this sends the same bytes again.
    ///
    /// # Errors
    /// When the store fails.
    pub fn mark_sent(&mut self, number: u64) -> Result<(), NodeError> {
        let mut batch = Batch::new();
        batch.put(META, JOURNAL_SENT, number.to_string().into_bytes());
        self.store.commit(batch).map_err(own)
    }

    /// The hub did not take what has this number in the journal. Returns whether that is its last word: then it is not
    /// sent again; otherwise it stays the next to be sent, in the same bytes.
    ///
    /// # Errors
    /// When the store fails.
    pub fn mark_refused(&mut self, number: u64, refused: &Refused) -> Result<bool, NodeError> {
        if !refused.is_final() {
            return Ok(false);
        }
        let mut batch = Batch::new();
        self.note_refused(&mut batch, number, refused)?;
        if let Some(record) = self.record::<JournalRecord>(JOURNAL, &sequence_key(number))? {
            let why = refused.why.chars().filter(|c| !c.is_control()).take(200).collect();
            batch.put(JOURNAL, &sequence_key(number), json(&JournalRecord { refused: Some(why), ..record })?);
        }
        batch.put(META, JOURNAL_SENT, number.to_string().into_bytes());
        self.store.commit(batch).map_err(own)?;
        Ok(true)
    }

    /// Journals an offer for every dataset whose shape or rows changed since it was last offered.
    ///
    /// # Errors
    /// When the store fails.
    pub fn offer_datasets(&mut self, datasets: Vec<DatasetRecord>, now: Timestamp) -> Result<(), NodeError> {
        let datasets: BTreeMap<Name, DatasetRecord> = datasets.into_iter().map(|r| (r.name.clone(), r)).collect();
        if datasets == self.datasets && !self.accounts.is_empty() && self.offered {
            return Ok(());
        }
        let mut changes = Changes::default();
        for record in datasets.values().filter(|record| self.datasets.get(&record.name) != Some(record)) {
            let (what, who) = (format!("dataset {} added or replaced", record.name), String::from("this house"));
            let record = AccessRecord { at: now, outcome: String::from("done"), what, who };
            changes.append.push((ACCESS, String::new(), json(&record)?));
        }
        self.datasets = datasets;
        for record in self.datasets.values() {
            let offer = Offer {
                dataset: record.name.clone(),
                organisation: self.organisation.clone(),
                schema: record.schema.clone(),
                snapshot: record.snapshot,
            };
            let bytes = canonical_bytes(&offer).map_err(own)?;
            if self.store.get(OFFERS, record.name.as_str()).map_err(own)?.as_ref() != Some(&bytes) {
                let envelope = Envelope::sign(&offer, &self.secrets.message).map_err(own)?;
                changes.outgoing.push((Outgoing::Offer(envelope), None));
                changes.batch.put(OFFERS, record.name.as_str(), bytes);
            }
        }
        if !changes.outgoing.is_empty() || !changes.append.is_empty() {
            self.commit(changes, now)?;
        }
        self.offered = true;
        self.open_accounts()
    }

    /// Gives up on runs of which the hub has not spoken for long: what was not read is refunded, what was is charged.
    ///
    /// # Errors
    /// When the store fails.
    pub fn give_up_old_runs(&mut self, now: Timestamp) -> Result<(), NodeError> {
        for (key, bytes) in self.store.scan(RUNS, "", None, usize::MAX).map_err(own)? {
            let run: RunRecord = parse(&bytes)?;
            let is_open = matches!(
                run.state,
                RunState::Waiting | RunState::Permitted | RunState::Reading | RunState::Masked | RunState::Signed
            );
            if is_open && run.began_at.plus_seconds(self.patience_s(&run)?) <= now {
                self.on_void(key.parse().map_err(own)?, "the hub has not spoken of this task for a day", now)?;
            }
        }
        Ok(())
    }

    /// How long a run may stay open: a day, and twice as long as people may take, who are asked before and after it.
    fn patience_s(&self, run: &RunRecord) -> Result<i64, NodeError> {
        let approval = self.case(run.clone())?.agreement.approval.clone();
        let hours = if approval.may_wait() { i64::from(approval.wait_hours) } else { 0 };
        Ok(RUN_PATIENCE_S + 2 * 3_600 * hours)
    }

    /// The account of a dataset, if a study or the house uses it.
    #[must_use]
    pub fn account(&self, dataset: &Name) -> Option<&Account> {
        self.accounts.get(dataset)
    }

    /// Makes everything in `changes` durable at once, then tells the parts of the node that keep state in memory.
    ///
    /// Before the commit a crash leaves nothing of it; after it, everything: the accounts are replayed from their
    /// entries, the log finds its entries in the store, and the journal is sent again from where it was.
    pub(crate) fn commit(&mut self, changes: Changes, now: Timestamp) -> Result<(), NodeError> {
        let Changes { account, append, mut batch, bodies, decisions, dispatched, held, outgoing } = changes;
        for body in &bodies {
            self.log.put_body(body).map_err(own)?;
        }
        self.append_all(&mut batch, append)?;
        for entry in &account {
            let key = account_key(&entry.dataset, entry.sequence);
            batch.expect_absent(ACCOUNT, &key);
            batch.put(ACCOUNT, &key, json(entry)?);
        }
        let mut head = self.number(JOURNAL_HEAD)?;
        for (item, task) in &outgoing {
            head += 1;
            let record = journal_record(&mut batch, item, *task, now);
            batch.put(JOURNAL, &sequence_key(head), json(&record)?);
            self.wait_for(&mut batch, item, *task, now)?;
        }
        for record in &dispatched {
            head += 1;
            batch.put(JOURNAL, &sequence_key(head), json(record)?);
        }
        if let Some((item, task)) = &held {
            let record = journal_record(&mut batch, item, Some(*task), now);
            let message = Hash::of(&canonical_bytes(&record.call).map_err(own)?);
            batch.put(HELD, &task.to_string(), json(&HeldRecord { message, record })?);
        }
        batch.put(META, JOURNAL_HEAD, head.to_string().into_bytes());
        let leaves = decisions.iter().map(canonical_bytes).collect::<Result<Vec<_>, _>>().map_err(own)?;
        let staged = match leaves.as_slice() {
            [] => None,
            leaves => Some(self.log.stage(leaves, &mut batch).map_err(own)?),
        };
        self.store.commit(batch).map_err(own)?;
        for entry in &account {
            if let Some(book) = self.accounts.values_mut().find(|book| book.dataset() == entry.dataset) {
                book.apply(entry).map_err(own)?;
            }
        }
        if let Some(staged) = staged {
            self.log.apply(staged, &*self.store, &self.log_signer).map_err(own)?;
        }
        Ok(())
    }

    /// Adds a record to a numbered list, and drops what the list no longer keeps.
    pub(crate) fn append(
        &self,
        batch: &mut Batch,
        table: Table,
        prefix: &str,
        record: Vec<u8>,
    ) -> Result<(), NodeError> {
        self.append_all(batch, vec![(table, prefix.to_owned(), record)])
    }

    fn append_all(&self, batch: &mut Batch, records: Vec<(Table, String, Vec<u8>)>) -> Result<(), NodeError> {
        let mut heads: BTreeMap<String, u64> = BTreeMap::new();
        for (table, prefix, record) in records {
            let name = format!("length/{}/{prefix}", table.name());
            let before = match heads.get(&name) {
                Some(before) => *before,
                None => self.number(&name)?,
            };
            let number = before + 1;
            batch.put(table, &format!("{prefix}{}", sequence_key(number)), record);
            if let Some(old) = kept(table).and_then(|kept| number.checked_sub(kept)).filter(|old| *old > 0) {
                batch.delete(table, &format!("{prefix}{}", sequence_key(old)));
            }
            heads.insert(name, number);
        }
        for (name, number) in heads {
            batch.put(META, &name, number.to_string().into_bytes());
        }
        Ok(())
    }

    /// An entry of the log in this node's name.
    pub(crate) fn entry(
        &self,
        agreement: Hash,
        study: &Name,
        fact: Fact,
        now: Timestamp,
    ) -> Result<Envelope, NodeError> {
        let author = Author::Node(self.organisation.clone());
        let entry = Entry { agreement, author, fact, study: study.clone(), time: now };
        Envelope::sign(&entry, &self.secrets.message).map_err(own)
    }

    /// The agreement in this node's hands for a study, with all signatures checked (once per process and stored record).
    pub(crate) fn agreement(&self, study: &Name) -> Result<Option<Verified<Agreement>>, NodeError> {
        self.checked(AGREEMENTS, study.as_str())
    }

    /// An agreement that is or was in force here.
    pub(crate) fn agreement_by_hash(&self, hash: Hash) -> Result<Verified<Agreement>, NodeError> {
        let found = self.checked(VERSIONS, &hash.to_string())?;
        found.ok_or_else(|| peer(format!("this node holds no agreement {}", hash.short())))
    }

    /// All agreements in force here.
    pub(crate) fn agreements_in_force(&self) -> Result<Vec<Verified<Agreement>>, NodeError> {
        let records = self.store.scan(AGREEMENTS, "", None, 10_000).map_err(own)?;
        records.iter().filter_map(|(study, _)| self.checked(AGREEMENTS, study).transpose()).collect()
    }

    fn checked(&self, table: Table, key: &str) -> Result<Option<Verified<Agreement>>, NodeError> {
        let Some(stored) = self.store.get(table, key).map_err(own)? else { return Ok(None) };
        let place = (table, key.to_owned());
        if let Some((_, agreement)) = self.checked.borrow().get(&place).filter(|(known, _)| *known == stored) {
            return Ok(Some(agreement.clone()));
        }
        let agreement = self.verify_agreement(&parse(&stored)?)?;
        self.checked.borrow_mut().insert(place, (stored, agreement.clone()));
        Ok(Some(agreement))
    }

    /// The run of a task, if it reached this node.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn run(&self, task: Hash) -> Result<Option<RunRecord>, NodeError> {
        self.record(RUNS, &task.to_string())
    }

    /// The key of the hub's log.
    pub(crate) fn hub_log_key(&self) -> Result<VerifierKey, NodeError> {
        VerifierKey::new(self.hub.hub.as_str(), KeyKind::Log, self.hub.log_key.as_bytes()).map_err(own)
    }

    /// Why this node stopped believing the hub, if it did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn halted(&self) -> Result<Option<String>, NodeError> {
        Ok(self.store.get(META, HALTED).map_err(own)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Replays every dataset's account under the caps of the agreements in force here.
    pub(crate) fn open_accounts(&mut self) -> Result<(), NodeError> {
        let agreements: Vec<Agreement> =
            self.agreements_in_force()?.into_iter().map(|agreement| agreement.into_inner()).collect();
        for record in self.datasets.values() {
            self.accounts.insert(record.name.clone(), replay_account(&*self.store, record, &agreements)?);
        }
        Ok(())
    }

    pub(crate) fn record<T: DeserializeOwned>(
        &self,
        table: cohortium_store::Table,
        key: &str,
    ) -> Result<Option<T>, NodeError> {
        self.store.get(table, key).map_err(own)?.map(|bytes| parse(&bytes)).transpose()
    }

    pub(crate) fn number(&self, key: &str) -> Result<u64, NodeError> {
        let Some(bytes) = self.store.get(META, key).map_err(own)? else { return Ok(0) };
        let text = String::from_utf8_lossy(&bytes);
        text.parse().map_err(|_| NodeError::Own(format!("the record `{key}` of the node's store is damaged")))
    }
}

/// Where an entry of a dataset's account is kept.
pub(crate) fn account_key(dataset: &str, sequence: u64) -> String {
    format!("{dataset}/{}", sequence_key(sequence))
}

/// What stands in the journal for something that leaves. The bytes of a vector are kept beside it.
fn journal_record(batch: &mut Batch, item: &Outgoing, task: Option<Hash>, now: Timestamp) -> JournalRecord {
    let vector = match item {
        Outgoing::Masked { vector, .. } => {
            batch.put(VECTORS, &vector.sha256().to_string(), vector.bytes().to_vec());
            Some(vector.sha256())
        }
        _ => None,
    };
    let (call, kind, words) = (item.call(), item.kind().to_owned(), item.in_words());
    JournalRecord { call, kind, made_at: now, refused: None, task, vector, withdrawn: None, words }
}

/// Who asks for what with an item, as far as it asks for anything that the house should be able to look up.
fn asks_for(item: &InboxItem) -> Option<(String, String)> {
    match item {
        InboxItem::Agreement { agreement } => {
            let study = agreement.peek::<Agreement>().ok()?.claims().study.clone();
            Some((String::from("the hub"), format!("an agreement of study {study}")))
        }
        InboxItem::Logged { entry, .. } => {
            let claims = entry.peek::<Entry>().ok()?;
            let (author, fact) = (&claims.claims().author, &claims.claims().fact);
            Some((format!("{} (claimed)", author), format!("{} in the hub's log", said(fact))))
        }
        InboxItem::Task { task, .. } => {
            let claims = task.peek::<Task>().ok()?;
            let who = format!("the researcher {} (claimed)", claims.claims().researcher);
            Some((who, format!("task {} in study {}", claims.hash().short(), claims.claims().study)))
        }
        InboxItem::Shares { task, .. } => Some((String::from("the hub"), format!("rows for task {}", task.short()))),
        _ => None,
    }
}

/// What somebody says, in a word for the house's own record: the end of a freeze is no freeze.
pub(crate) const fn said(fact: &Fact) -> &'static str {
    match fact {
        Fact::Freeze { frozen: false, .. } => "unfreeze",
        fact => fact.kind(),
    }
}

/// What an entry is called by: the SHA-256 of its envelope in canonical form.
pub(crate) fn entry_hash(entry: &Envelope) -> Result<Hash, NodeError> {
    Ok(Hash::of(&canonical_bytes(entry).map_err(own)?))
}

/// The account of a dataset, replayed from its entries under the caps of `agreements`.
pub(crate) fn replay_account(
    store: &dyn Store,
    record: &DatasetRecord,
    agreements: &[Agreement],
) -> Result<Account, NodeError> {
    let config = account_config(record, agreements)?;
    let entries = store.scan(ACCOUNT, &format!("{}/", record.name), None, usize::MAX).map_err(own)?;
    let entries = entries.iter().map(|(_, bytes)| parse(bytes)).collect::<Result<Vec<AccountEntry>, _>>()?;
    Account::replay(config, entries).map_err(own)
}

/// The caps of a dataset's account: the house's own total, and what each study's agreement allows below it.
fn account_config(record: &DatasetRecord, agreements: &[Agreement]) -> Result<AccountConfig, NodeError> {
    let mut config = AccountConfig {
        dataset: record.name.to_string(),
        budget: budget(record.epsilon, record.delta)?,
        studies: BTreeMap::new(),
        researchers: BTreeMap::new(),
    };
    for agreement in agreements.iter().filter(|agreement| agreement.dataset(&record.name).is_some()) {
        let terms = &agreement.budgets;
        config.studies.insert(agreement.study.to_string(), budget(terms.epsilon_total, terms.delta)?);
        for researcher in &agreement.researchers {
            let scope = researcher_scope(&agreement.study, &researcher.entry.researcher);
            config.researchers.insert(scope, budget(terms.epsilon_per_researcher, terms.delta)?);
        }
    }
    Ok(config)
}

/// A researcher's sub-account is kept per study: two agreements may allow the same person different amounts.
pub(crate) fn researcher_scope(study: &Name, researcher: &Name) -> String {
    format!("{study}/{researcher}")
}

/// (ε, δ) as exact integers: ε in units of 10^-9, δ in units of 10^-18.
fn budget(epsilon: Decimal, delta: Decimal) -> Result<Budget, NodeError> {
    let nano = |value: Decimal| u64::try_from(value.nano()).map_err(own);
    let delta = AttoDelta::new(nano(delta)?.saturating_mul(1_000_000_000)).map_err(own)?;
    Budget::new(NanoNats::new(nano(epsilon)?), delta).map_err(own)
}

pub(crate) fn own(error: impl std::fmt::Display) -> NodeError {
    NodeError::Own(error.to_string())
}

pub(crate) fn peer(error: impl std::fmt::Display) -> NodeError {
    NodeError::Peer(error.to_string())
}

pub(crate) fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, NodeError> {
    serde_json::to_vec(value).map_err(own)
}

pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, NodeError> {
    serde_json::from_slice(bytes)
        .map_err(|error| NodeError::Own(format!("a record of the node's store is damaged: {error}")))
}
