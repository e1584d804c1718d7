//! A disk in memory that outlives the machine it is in, counts its commits, and fails at a chosen one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cohortium_store::{Batch, MemoryStore, Operation, Store, StoreError, Table};

/// A disk. Clones are the same disk.
#[derive(Clone, Default)]
pub struct Disk {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    commits: u64,
    /// How many records of each table were read.
    reads: BTreeMap<Table, u64>,
    store: MemoryStore,
    /// Every table that was ever written, so that a dump leaves none out.
    tables: BTreeSet<Table>,
}

impl Disk {
    /// Lets the `commit`-th commit from now on fail, and all after it: 1 is the next.
    pub fn crash_at(&self, commit: u64) {
        self.lock().store.crash_after(commit.saturating_sub(1));
    }

    /// What a restarted machine finds: the same records, no crash ahead.
    pub fn restart(&self) {
        let mut inner = self.lock();
        inner.store = inner.store.restarted();
    }

    /// Another disk with the same records.
    #[must_use]
    pub fn copy(&self) -> Self {
        let inner = self.lock();
        let (store, tables) = (inner.store.restarted(), inner.tables.clone());
        Self { inner: Arc::new(Mutex::new(Inner { commits: 0, reads: BTreeMap::new(), store, tables })) }
    }

    /// How many commits succeeded.
    #[must_use]
    pub fn commits(&self) -> u64 {
        self.lock().commits
    }

    /// How many records of a table were read by whoever runs on this disk.
    #[must_use]
    pub fn reads(&self, table: &'static str) -> u64 {
        self.lock().reads.get(&Table::new(table)).copied().unwrap_or(0)
    }

    /// All records of a table, in the order of their keys.
    ///
    /// # Errors
    /// None in practice: memory can always be read.
    pub fn table(&self, name: &'static str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.lock().store.scan(Table::new(name), "", None, usize::MAX)
    }

    /// All records of all tables, by `table/key`.
    ///
    /// # Errors
    /// None in practice: memory can always be read.
    pub fn dump(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        let inner = self.lock();
        let mut dump = BTreeMap::new();
        for table in &inner.tables {
            for (key, value) in inner.store.scan(*table, "", None, usize::MAX)? {
                dump.insert(format!("{}/{key}", table.name()), value);
            }
        }
        Ok(dump)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for Disk {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let mut inner = self.lock();
        let found = inner.store.get(table, key)?;
        *inner.reads.entry(table).or_default() += u64::from(found.is_some());
        Ok(found)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let mut inner = self.lock();
        let found = inner.store.scan(table, prefix, after, limit)?;
        *inner.reads.entry(table).or_default() += found.len() as u64;
        Ok(found)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        let mut inner = self.lock();
        let written = batch.operations().iter().filter_map(|operation| match operation {
            Operation::Put { table, .. } => Some(*table),
            _ => None,
        });
        let written: BTreeSet<Table> = written.collect();
        inner.store.commit(batch)?;
        inner.tables.extend(written);
        inner.commits += 1;
        Ok(())
    }
}
