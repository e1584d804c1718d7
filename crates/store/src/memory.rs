//! A store in memory, for simulated worlds: the same meaning as SQLite, no disk, and a crash on demand.
//!
//! The value of the struct is exactly what would be on the disk. A clone is therefore a copy of the disk, and a crash is
//! modelled by making commits fail from a chosen one on: the process under test gets [`StoreError::Crashed`], is thrown
//! away, and a new one starts from [`MemoryStore::restarted`].

use std::collections::BTreeMap;
use std::ops::Bound;

use crate::{Batch, Operation, Store, StoreError, Table};

/// An ordered map that follows the contract of [`Store`] and forgets everything with the process.
#[derive(Clone, Debug, Default)]
pub struct MemoryStore {
    tables: BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>,
    commits_left: Option<u64>,
}

impl MemoryStore {
    /// An empty store that never crashes.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }

    /// Lets `commits` more commits succeed; every later one writes nothing and returns [`StoreError::Crashed`].
    pub fn crash_after(&mut self, commits: u64) {
        self.commits_left = Some(commits);
    }

    /// What a restarted machine finds on its disk: the same records, no crash ahead.
    pub fn restarted(&self) -> MemoryStore {
        MemoryStore { tables: self.tables.clone(), commits_left: None }
    }

    fn record(&self, table: Table, key: &str) -> Option<&Vec<u8>> {
        self.tables.get(table.name())?.get(key)
    }

    /// The key of the first precondition that does not hold.
    fn violated(&self, batch: &Batch) -> Option<StoreError> {
        batch.operations().iter().find_map(|operation| match operation {
            Operation::ExpectAbsent { table, key } if self.record(*table, key).is_some() => Some(conflict(*table, key)),
            Operation::Expect { table, key, value } if self.record(*table, key) != Some(value) => {
                Some(conflict(*table, key))
            }
            _ => None,
        })
    }
}

impl Store for MemoryStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.record(table, key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let Some(records) = self.tables.get(table.name()) else {
            return Ok(Vec::new());
        };
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        let found = records.range::<str, _>((from, Bound::Unbounded));
        let found = found.take_while(|(key, _)| key.starts_with(prefix)).take(limit);
        Ok(found.map(|(key, value)| (key.clone(), value.clone())).collect())
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        batch.check_limits()?;
        if self.commits_left == Some(0) {
            return Err(StoreError::Crashed);
        }
        if let Some(conflict) = self.violated(&batch) {
            return Err(conflict);
        }
        self.commits_left = self.commits_left.map(|left| left.saturating_sub(1));
        for operation in batch.operations {
            match operation {
                Operation::Put { table, key, value } => {
                    self.tables.entry(table.name()).or_default().insert(key, value);
                }
                Operation::Delete { table, key } => {
                    if let Some(records) = self.tables.get_mut(table.name()) {
                        records.remove(&key);
                    }
                }
                Operation::ExpectAbsent { .. } | Operation::Expect { .. } => {}
            }
        }
        Ok(())
    }
}

fn conflict(table: Table, key: &str) -> StoreError {
    StoreError::Conflict { table: table.name(), key: key.to_owned() }
}
