//! The store on disk: one SQLite file, one table, every commit flushed before it returns.
//!
//! SQLite (Hipp, since 2000) because an operator or auditor can open the file with a tool that is everywhere, once the
//! process that owns it has stopped. Its write-ahead log with `synchronous=FULL` flushes the log at each commit, which is
//! the durability [`Store::commit`] promises. A lock on a file beside it keeps every other writer out from `open` until
//! the store is dropped or the process dies, so two nodes cannot spend from the same account; readers
//! ([`SqliteStore::open_read_only`]) see what was last committed while a node runs.
//!
//! What a crash does: SQLite rolls an unfinished transaction back when the file is next opened. There is no state of our
//! own beside the file, so opening after a crash is the same code as opening at all.
//!
//! What it does not do: it does not notice that the file was replaced by an older copy (see the crate documentation).

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params};

use crate::{Batch, Operation, Store, StoreError, Table};

/// The record format written by this version, kept in `PRAGMA user_version`.
const FORMAT: i64 = 1;

/// How long to wait for a reader that holds the file at the moment SQLite tidies its log.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// Text keys compare bytewise under SQLite's default collation and encoding (BINARY, UTF-8): the order of Rust's `str`.
const CREATE: &str = "CREATE TABLE records (
    table_name TEXT NOT NULL, key TEXT NOT NULL, value BLOB NOT NULL, PRIMARY KEY (table_name, key)
) STRICT, WITHOUT ROWID";

/// A [`Store`] in one SQLite file that no other process can write meanwhile.
pub struct SqliteStore {
    connection: Connection,
    /// Held for as long as the store is; the system gives it back when the process dies.
    _lock: Option<File>,
}

impl SqliteStore {
    /// Opens the file, making it (mode 0600) if there is none, and locks it for this process.
    ///
    /// # Errors
    /// [`StoreError::InUse`] when another process (or another store of this one) has it open,
    /// [`StoreError::NewerFormat`] and [`StoreError::NotAStore`] when the file is not ours to use.
    pub fn open(path: &Path) -> Result<SqliteStore, StoreError> {
        let io = |source| StoreError::Io { path: path.to_owned(), source };
        let lock_path = path.with_extension("lock");
        make_private(&lock_path).map_err(io)?;
        let lock_file = File::options().write(true).open(&lock_path).map_err(io)?;
        match lock_file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(StoreError::InUse { path: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(io(source)),
        }
        make_private(path).map_err(io)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        Connection::open_with_flags(path, flags).and_then(configure).map_err(|error| explain(error, path)).and_then(
            |mut connection| {
                prepare_format(&mut connection, path).map(|()| SqliteStore { connection, _lock: Some(lock_file) })
            },
        )
    }

    /// Opens the file for reading only, also while another process writes it. `commit` fails on such a store.
    ///
    /// # Errors
    /// When there is no such file, or it is not a store of a format known here.
    pub fn open_read_only(path: &Path) -> Result<SqliteStore, StoreError> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags).map_err(|error| explain(error, path))?;
        connection.busy_timeout(BUSY_TIMEOUT)?;
        let found: i64 =
            connection.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(|error| explain(error, path))?;
        match found {
            FORMAT => Ok(SqliteStore { connection, _lock: None }),
            found if found > FORMAT => Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT }),
            _ => Err(StoreError::NotAStore { path: path.to_owned() }),
        }
    }
}

impl Store for SqliteStore {
    fn get(&self, table: Table, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(read(&self.connection, table, key)?)
    }

    fn scan(
        &self,
        table: Table,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let (comparison, from) = match after {
            Some(after) if after >= prefix => (">", after),
            _ => (">=", prefix),
        };
        let sql = format!("SELECT key, value FROM records WHERE table_name = ?1 AND key {comparison} ?2 ORDER BY key");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut rows = statement.query(params![table.name(), from])?;
        let mut found = Vec::new();
        while found.len() < limit {
            let Some(row) = rows.next()? else { break };
            let key: String = row.get(0)?;
            if !key.starts_with(prefix) {
                break;
            }
            found.push((key, row.get(1)?));
        }
        Ok(found)
    }

    fn commit(&mut self, batch: Batch) -> Result<(), StoreError> {
        batch.check_limits()?;
        // Dropping the transaction on any early return rolls it back.
        let transaction = self.connection.transaction()?;
        check_expectations(&transaction, &batch)?;
        for operation in batch.operations() {
            write(&transaction, operation)?;
        }
        // Before this line a crash leaves nothing of the batch; after it, all of the batch is on the disk.
        transaction.commit()?;
        if batch.forgets() {
            forget_old_pages(&self.connection)?;
        }
        Ok(())
    }
}

/// Moves the write-ahead log into the file and empties it: overwritten pages (zeroed there by `secure_delete`) are then
/// nowhere. While a reader holds on to an old page this does nothing, and the next such commit does it.
fn forget_old_pages(connection: &Connection) -> Result<(), rusqlite::Error> {
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))
}

fn check_expectations(transaction: &Transaction<'_>, batch: &Batch) -> Result<(), StoreError> {
    for operation in batch.operations() {
        let (table, key, expected) = match operation {
            Operation::ExpectAbsent { table, key } => (table, key, None),
            Operation::Expect { table, key, value } => (table, key, Some(value)),
            Operation::Put { .. } | Operation::Delete { .. } => continue,
        };
        if read(transaction, *table, key)?.as_ref() != expected {
            return Err(StoreError::Conflict { table: table.name(), key: key.clone() });
        }
    }
    Ok(())
}

fn write(transaction: &Transaction<'_>, operation: &Operation) -> Result<(), rusqlite::Error> {
    match operation {
        Operation::Put { table, key, value } => transaction
            .prepare_cached(
                "INSERT INTO records (table_name, key, value) VALUES (?1, ?2, ?3)
                 ON CONFLICT (table_name, key) DO UPDATE SET value = excluded.value",
            )?
            .execute(params![table.name(), key, value])?,
        Operation::Delete { table, key } => transaction
            .prepare_cached("DELETE FROM records WHERE table_name = ?1 AND key = ?2")?
            .execute(params![table.name(), key])?,
        Operation::ExpectAbsent { .. } | Operation::Expect { .. } => 0,
    };
    Ok(())
}

fn read(connection: &Connection, table: Table, key: &str) -> Result<Option<Vec<u8>>, rusqlite::Error> {
    connection
        .prepare_cached("SELECT value FROM records WHERE table_name = ?1 AND key = ?2")?
        .query_row(params![table.name(), key], |row| row.get(0))
        .optional()
}

/// Makes the file if it is missing and takes everybody else's rights away; SQLite gives its side files the same mode.
fn make_private(path: &Path) -> std::io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        made => drop(made?),
    }
    #[cfg(unix)]
    std::fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    Ok(())
}

/// Deleted records are overwritten: some of them held the secrets of a round.
fn configure(connection: Connection) -> Result<Connection, rusqlite::Error> {
    connection.busy_timeout(BUSY_TIMEOUT)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "fullfsync", true)?;
    connection.pragma_update(None, "secure_delete", true)?;
    forget_old_pages(&connection)?; // what a crash left
    Ok(connection)
}

fn explain(error: rusqlite::Error, path: &Path) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => StoreError::InUse { path: path.to_owned() },
        Some(ErrorCode::NotADatabase) => StoreError::NotAStore { path: path.to_owned() },
        _ => StoreError::Sqlite(error),
    }
}

/// Lays out an empty file, accepts a known format, refuses everything else.
fn prepare_format(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let found: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if found == FORMAT {
        return Ok(());
    }
    if found > FORMAT {
        return Err(StoreError::NewerFormat { path: path.to_owned(), found, known: FORMAT });
    }
    let tables: i64 = connection.query_row("SELECT count(*) FROM sqlite_master", [], |row| row.get(0))?;
    if found != 0 || tables != 0 {
        return Err(StoreError::NotAStore { path: path.to_owned() });
    }
    let transaction = connection.transaction()?;
    transaction.execute_batch(CREATE)?;
    transaction.pragma_update(None, "user_version", FORMAT)?;
    transaction.commit()?;
    Ok(())
}
