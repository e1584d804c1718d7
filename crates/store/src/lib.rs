//! Records kept durable: a small ordered key-value trait, with SQLite behind it.
//!
//! Why this exists. A node must know, after any crash, what it has already spent, signed and sent; a hub must know what
//! it has already logged. Both need exactly one thing from a database: *these records change together or not at all, and
//! when the call returns they are on the disk*. So the trait has three verbs ([`Store::get`], [`Store::scan`],
//! [`Store::commit`]) and one unit of change, the [`Batch`], whose preconditions make it a compare-and-swap (the
//! optimistic validation of Kung and Robinson, 1981, reduced to "the records I read are still so").
//!
//! Two implementations with the same meaning, held together by one conformance suite: [`SqliteStore`] for real homes and
//! [`MemoryStore`] for simulated worlds, which can also be told to crash.
//!
//! What it does not do: no queries, no indices, no encryption at rest, no sharing between processes. Values are bytes
//! whose meaning belongs to the caller.
//!
//! Adversary. The file system is trusted to keep what it acknowledged and to keep others out (the file is made with mode
//! 0600). Someone who can write the file, or put back an older copy of it, can change history unseen *here*: the hash
//! chain of the account and the witnessed log exist for that.

mod file;
mod memory;
mod sqlite;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

pub use file::{make_private_folder, write_private};
pub use memory::MemoryStore;
pub use sqlite::SqliteStore;

/// Longest key, in bytes. An origin of 255 bytes, a separator and a sequence number fit four times over.
pub const KEY_BYTES_MAX: usize = 1024;

/// Largest value, in bytes (64 MiB): a masked vector of 2^20 ring elements of 16 bytes is 16 MiB; SQLite itself stops at 10^9.
pub const VALUE_BYTES_MAX: usize = 64 << 20;

/// Most operations in one batch: the largest log batch (65,536 leaves) with room for the records that go with it.
pub const BATCH_OPERATIONS_MAX: usize = 70_000;

/// The name of a table. Every user of a store declares its tables as constants, so that a search for `Table::new` lists
/// everything a home remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Table(&'static str);

impl Table {
    /// Names a table; two constants with the same name are the same table.
    pub const fn new(name: &'static str) -> Table {
        Table(name)
    }

    /// The name as stored.
    pub const fn name(self) -> &'static str {
        self.0
    }
}

/// An ordered, durable map from (table, key) to bytes. Keys are ordered bytewise.
pub trait Store: Send {
    /// The value under `key`, or `None`.
    ///
    /// # Errors
    /// When the medium cannot be read.
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// At most `limit` records whose key starts with `prefix` and is strictly after `after`, in ascending order of key.
    /// Fewer than `limit` records mean that there are no more.
    ///
    /// # Errors
    /// When the medium cannot be read.
    fn scan(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Makes the whole batch durable, or nothing of it.
    ///
    /// # Errors
    /// [`StoreError::Conflict`] or [`StoreError::Limit`]: nothing was written. Any other error: the batch may or may not
    /// be on the disk; the caller must stop using this store and open it again, as after a crash.
    fn commit(&mut self, batch: Batch) -> Result<(), StoreError>;
}

/// One step inside a [`Batch`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Sets the record, whether it was there or not.
    Put {
        /// Where.
        table: Table,
        /// Which.
        key: String,
        /// To what.
        value: Vec<u8>,
    },
    /// Removes the record, whether it was there or not.
    Delete {
        /// Where.
        table: Table,
        /// Which.
        key: String,
    },
    /// Precondition: there is no such record.
    ExpectAbsent {
        /// Where.
        table: Table,
        /// Which.
        key: String,
    },
    /// Precondition: the record is there and has exactly this value.
    Expect {
        /// Where.
        table: Table,
        /// Which.
        key: String,
        /// The value it must have.
        value: Vec<u8>,
    },
}

/// Changes that happen together or not at all.
///
/// Preconditions are judged against what was durable *before* the batch, wherever in the batch they stand; then puts and
/// deletes happen in the order in which they were added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    forgets: bool,
    operations: Vec<Operation>,
}

impl Batch {
    /// A batch that does nothing yet.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Says that what this batch overwrites or deletes was secret: once committed, no older copy of it may be left in
    /// the store's own files (its write-ahead log, its free pages).
    pub fn forget_overwritten(&mut self) -> &mut Batch {
        self.forgets = true;
        self
    }

    /// Whether older copies of what this batch changes must go.
    pub const fn forgets(&self) -> bool {
        self.forgets
    }

    /// Adds: set this record.
    pub fn put(&mut self, table: Table, key: &str, value: Vec<u8>) -> &mut Batch {
        self.push(Operation::Put { table, key: key.to_owned(), value })
    }

    /// Adds: remove this record.
    pub fn delete(&mut self, table: Table, key: &str) -> &mut Batch {
        self.push(Operation::Delete { table, key: key.to_owned() })
    }

    /// Adds the precondition that there is no such record.
    pub fn expect_absent(&mut self, table: Table, key: &str) -> &mut Batch {
        self.push(Operation::ExpectAbsent { table, key: key.to_owned() })
    }

    /// Adds the precondition that the record has this value.
    pub fn expect(&mut self, table: Table, key: &str, value: Vec<u8>) -> &mut Batch {
        self.push(Operation::Expect { table, key: key.to_owned(), value })
    }

    /// What the batch does, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// Whether the batch does nothing and demands nothing.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }

    fn push(&mut self, operation: Operation) -> &mut Batch {
        self.operations.push(operation);
        self
    }

    /// Every implementation calls this first, so that a batch is refused or taken alike everywhere.
    ///
    /// # Errors
    /// [`StoreError::Limit`] naming what is too long or too many.
    pub fn check_limits(&self) -> Result<(), StoreError> {
        if self.operations.len() > BATCH_OPERATIONS_MAX {
            return Err(StoreError::Limit { what: "number of operations in a batch", limit: BATCH_OPERATIONS_MAX });
        }
        self.operations.iter().try_for_each(|operation| match operation {
            Operation::Put { key, value, .. } | Operation::Expect { key, value, .. } => {
                check_key(key).and_then(|()| check_value(value))
            }
            Operation::Delete { key, .. } | Operation::ExpectAbsent { key, .. } => check_key(key),
        })
    }
}

/// A number as a key, such that the order of keys is the order of numbers: sixteen lower-case hexadecimal digits.
pub fn sequence_key(number: u64) -> String {
    format!("{number:016x}")
}

/// Why a store refused or failed. Names tables and keys, never values.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A precondition of the batch did not hold; nothing was written.
    #[error("caller: record {table}/{key} is not as the batch expected; read again and decide again")]
    Conflict {
        /// Table of the record that differs.
        table: &'static str,
        /// Its key.
        key: String,
    },
    /// A key, value or batch is outside its limit; nothing was written.
    #[error("caller: {what} is outside its limit of {limit}")]
    Limit {
        /// What is too long or too many.
        what: &'static str,
        /// The limit, in the unit of `what`.
        limit: usize,
    },
    /// Another process holds the lock.
    #[error("operator: another process has this home open: {}", path.display())]
    InUse {
        /// The file that is locked.
        path: PathBuf,
    },
    /// The file was written by a later version of this program.
    #[error("operator: {} has record format {found}, this program knows up to {known}; use a newer program", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: i64,
        /// The newest format known here.
        known: i64,
    },
    /// The file exists and is something else.
    #[error("operator: {} is not a record store of this program", path.display())]
    NotAStore {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be made or protected.
    #[error("operator: cannot prepare {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// SQLite failed: full or broken disk, damaged file.
    #[error("operator: the record store failed: {0}")]
    Sqlite(#[from] rusqlite::Error),
    /// A [`MemoryStore`] was told to crash and did.
    #[error("the simulated machine has crashed")]
    Crashed,
}

/// Several owners of one store, one at a time: how a simulated machine's disk outlives the machine.
impl<S: Store + ?Sized> Store for Arc<Mutex<S>> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).scan(table, prefix, after, limit)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        self.lock().unwrap_or_else(PoisonError::into_inner).commit(batch)
    }
}

impl<S: Store + ?Sized> Store for Box<S> {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        (**self).get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        (**self).scan(table, prefix, after, limit)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        (**self).commit(batch)
    }
}

/// Keys are 1 to [`KEY_BYTES_MAX`] bytes. NUL is refused because SQLite's own tools cut text there.
fn check_key(key: &str) -> Result<(), StoreError> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX || key.contains('\0') {
        return Err(StoreError::Limit {
            what: "length in bytes of a key (not empty, without NUL)",
            limit: KEY_BYTES_MAX,
        });
    }
    Ok(())
}

fn check_value(value: &[u8]) -> Result<(), StoreError> {
    if value.len() > VALUE_BYTES_MAX {
        return Err(StoreError::Limit { what: "length in bytes of a value", limit: VALUE_BYTES_MAX });
    }
    Ok(())
}
