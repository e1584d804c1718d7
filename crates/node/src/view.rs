//! Looking into a node's home without disturbing the node that may run there: what stewards and auditors see.

use cohortium_dp::Account;
use cohortium_messages::{Agreement, Entry, Envelope, Fact, Hash, Name, Verified};
use cohortium_policy::Revoked;
use cohortium_store::{SqliteStore, Store, Table};

use crate::home::Home;
use crate::node::{NodeError, own, parse, replay_account};
use crate::records::{
    ACCESS, AGREEMENTS, ALERTS, AccessRecord, DatasetRecord, EVIDENCE, Evidence, HEARD, HELD, HeldRecord, JOURNAL,
    JournalRecord, META, NEWS, RUNS, RunRecord, VERSIONS,
};
use crate::standing::{self, Stopped};

/// A home, for reading only.
pub struct View {
    datasets: Vec<DatasetRecord>,
    store: SqliteStore,
}

impl View {
    /// Opens a home for reading. The node may be running.
    ///
    /// # Errors
    /// When this is no home, or its node never ran.
    pub fn open(home: &Home) -> Result<Self, NodeError> {
        if !home.store_file().exists() {
            return Err(own(format!("the node in {} never ran: start it once", home.dir().display())));
        }
        let store = SqliteStore::open_read_only(&home.store_file()).map_err(own)?;
        Ok(Self { datasets: home.datasets()?, store })
    }

    /// Every dataset with its account.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn accounts(&self) -> Result<Vec<(DatasetRecord, Account)>, NodeError> {
        let agreements: Vec<Agreement> = self.agreements()?.into_iter().map(|(agreement, _)| agreement).collect();
        self.datasets
            .iter()
            .map(|record| Ok((record.clone(), replay_account(&self.store, record, &agreements)?)))
            .collect()
    }

    /// The agreements in this node's hands, with their envelopes. Their signatures were checked when they were taken in.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn agreements(&self) -> Result<Vec<(Agreement, Envelope)>, NodeError> {
        let records = self.all::<Envelope>(AGREEMENTS)?;
        records
            .into_iter()
            .map(|(_, envelope)| Ok((envelope.peek::<Agreement>().map_err(own)?.claims().clone(), envelope)))
            .collect()
    }

    /// Every run, with its task's hash, in the order in which they began here; those of one second in the order of the
    /// hub's log.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn runs(&self) -> Result<Vec<(Hash, RunRecord)>, NodeError> {
        let mut runs = self
            .all::<RunRecord>(RUNS)?
            .into_iter()
            .map(|(key, run)| Ok((key.parse().map_err(own)?, run)))
            .collect::<Result<Vec<(Hash, RunRecord)>, NodeError>>()?;
        runs.sort_by_key(|(_, run)| (run.began_at, run.position));
        Ok(runs)
    }

    /// Everything that left or will leave, oldest first, and whether it was sent.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn journal(&self) -> Result<Vec<(JournalRecord, bool)>, NodeError> {
        let sent = self.store.get(META, "journal_sent").map_err(own)?.unwrap_or_default();
        let sent: usize = String::from_utf8_lossy(&sent).parse().unwrap_or(0);
        let records = self.all::<JournalRecord>(JOURNAL)?;
        Ok(records.into_iter().enumerate().map(|(index, (_, record))| (record, index < sent)).collect())
    }

    /// Why the node stopped believing the hub, if it did.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn halted(&self) -> Result<Option<String>, NodeError> {
        let why = self.store.get(META, "halted").map_err(own)?;
        Ok(why.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// Every agreement that was ever in force here, oldest revision first, with their envelopes.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn versions(&self) -> Result<Vec<(Agreement, Envelope)>, NodeError> {
        let mut versions = self
            .all::<Envelope>(VERSIONS)?
            .into_iter()
            .map(|(_, envelope)| Ok((envelope.peek::<Agreement>().map_err(own)?.claims().clone(), envelope)))
            .collect::<Result<Vec<_>, NodeError>>()?;
        versions.sort_by_key(|(agreement, _)| (agreement.study.clone(), agreement.revision));
        Ok(versions)
    }

    /// What is held back until a person lets it out, by task.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn held(&self) -> Result<Vec<(Hash, HeldRecord)>, NodeError> {
        let held = self.all::<HeldRecord>(HELD)?.into_iter();
        held.map(|(task, record)| Ok((task.parse().map_err(own)?, record))).collect()
    }

    /// Why a study stands still here: everything that stopped it since it last went on, oldest first. Nothing: it goes on.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn stops(&self, study: &Name) -> Result<Vec<Stopped>, NodeError> {
        standing::stops(&self.store, study, |hash| self.version(hash))
    }

    /// What custodians have taken back of an agreement, or of a later revision of it, as far as is known here.
    ///
    /// # Errors
    /// When a record is damaged, or this home never held the agreement.
    pub fn revoked(&self, agreement: Hash) -> Result<Revoked, NodeError> {
        standing::revoked(&self.store, &self.version(agreement)?, |hash| self.version(hash))
    }

    fn version(&self, hash: Hash) -> Result<Verified<Agreement>, NodeError> {
        let stored = self.store.get(VERSIONS, &hash.to_string()).map_err(own)?;
        let stored = stored.ok_or_else(|| own(format!("this home holds no agreement {}", hash.short())))?;
        cohortium_policy::open_agreement(&parse(&stored)?).map_err(own)
    }

    /// Whether the node has acted on what somebody laid on its desk, by the hash of the entry in canonical JSON.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn has_heard(&self, entry: Hash) -> Result<bool, NodeError> {
        Ok(self.store.get(HEARD, &entry.to_string()).map_err(own)?.is_some())
    }

    /// Alerts of this node, oldest first: what each says, about which study, and when.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn alerts(&self) -> Result<Vec<Entry>, NodeError> {
        let alerts = self.entries(ALERTS, "", usize::MAX)?;
        Ok(alerts.into_iter().filter(|entry| matches!(entry.fact, Fact::Alert { .. })).collect())
    }

    /// What other members let a study know, oldest first.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn news(&self, study: &Name) -> Result<Vec<Entry>, NodeError> {
        self.entries(NEWS, &format!("{study}/"), usize::MAX)
    }

    /// What logs of others showed that contradicts what they showed before, by log.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn evidence(&self) -> Result<Vec<(String, Evidence)>, NodeError> {
        self.all(EVIDENCE)
    }

    /// The newest `last` records of who asked or changed what, oldest first.
    ///
    /// # Errors
    /// When a record is damaged.
    pub fn access(&self, last: usize) -> Result<Vec<AccessRecord>, NodeError> {
        let mut records: Vec<AccessRecord> = self.all(ACCESS)?.into_iter().map(|(_, record)| record).collect();
        Ok(records.split_off(records.len().saturating_sub(last)))
    }

    fn entries(&self, table: Table, prefix: &str, limit: usize) -> Result<Vec<Entry>, NodeError> {
        let records = self.store.scan(table, prefix, None, limit).map_err(own)?;
        let read = |bytes: &[u8]| Ok(parse::<Envelope>(bytes)?.peek::<Entry>().map_err(own)?.claims().clone());
        records.iter().map(|(_, bytes)| read(bytes)).collect()
    }

    fn all<T: serde::de::DeserializeOwned>(&self, table: Table) -> Result<Vec<(String, T)>, NodeError> {
        let records = self.store.scan(table, "", None, usize::MAX).map_err(own)?;
        records.into_iter().map(|(key, bytes)| Ok((key, parse(&bytes)?))).collect()
    }
}
