//! A typed copy of a custodian's table in one Parquet file, made by `ingest` and only read afterwards.
//!
//! It exists so that a plan meets columns of known types and values inside declared domains, and so that an answer can
//! be tied to the rows it was computed from. A snapshot is never changed in place; a new ingest renames a new file over
//! it, which must not happen while a run reads it.
//!
//! Does not: encrypt (that is the disk's work), keep history. Adversary: none; the file is as trusted as the table.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cohortium_messages::{Column, ColumnError, ColumnType, Hash, Name, Schema};
use datafusion::arrow::datatypes::{DataType, Field, Schema as ArrowSchema};
use datafusion::parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::{Digest as _, Sha256};

use crate::MAX_ROWS;

/// A snapshot whose columns and types are those of a schema.
#[derive(Debug, Clone)]
pub struct Snapshot {
    path: PathBuf,
    schema: Schema,
}

/// Why a file is not a snapshot for a schema. The operator must act: ingest again.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The file cannot be read.
    #[error("the snapshot cannot be read: {0}")]
    File(#[from] std::io::Error),
    /// The path cannot be handed on.
    #[error("the snapshot's path must be UTF-8")]
    Path,
    /// Not Parquet, or damaged.
    #[error("the snapshot is no readable Parquet file: ingest again")]
    Format,
    /// Another column or type than the schema wants.
    #[error("the snapshot was made for another schema (column `{0}` is absent or of another type): ingest again")]
    Column(Name),
    /// Columns that the schema does not have.
    #[error("the snapshot was made for another schema (it has more columns): ingest again")]
    Columns,
    /// More rows than sums are argued for.
    #[error("the snapshot has more than {MAX_ROWS} rows")]
    Rows,
    /// The schema is wrong in itself.
    #[error("schema: {0}")]
    Schema(#[from] ColumnError),
}

impl Snapshot {
    /// Opens the snapshot at `path` and compares its columns with `schema`, which must be the one in the agreement.
    ///
    /// # Errors
    /// [`SnapshotError`]; nothing in it depends on rows.
    pub fn open(path: &Path, schema: &Schema) -> Result<Self, SnapshotError> {
        schema.check()?;
        let path = path.canonicalize()?;
        if path.to_str().is_none() {
            return Err(SnapshotError::Path);
        }
        let footer = ParquetRecordBatchReaderBuilder::try_new(File::open(&path)?).map_err(|_| SnapshotError::Format)?;
        let (found, wanted) = (footer.schema(), arrow_schema(schema));
        for (column, field) in schema.columns.iter().zip(wanted.fields()) {
            if found.field_with_name(field.name()).ok() != Some(field) {
                return Err(SnapshotError::Column(column.name.clone()));
            }
        }
        if found.fields().len() != wanted.fields().len() {
            return Err(SnapshotError::Columns);
        }
        let rows = footer.metadata().file_metadata().num_rows();
        if u64::try_from(rows).is_ok_and(|rows| rows <= MAX_ROWS) {
            Ok(Self { path, schema: schema.clone() })
        } else {
            Err(SnapshotError::Rows)
        }
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its columns.
    #[must_use]
    pub const fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// What a node may say about which snapshot it used: HMAC-SHA256 (RFC 2104) under `salt` of the file's SHA-256.
///
/// Promise: given a file and a salt that stays at the node, returns a hash that fixes the file and tells nothing about
/// it to who lacks the salt. A bare hash would be an oracle: whoever can guess a table (or all but one of its rows) could
/// confirm the guess. Argued, from HMAC being a pseudorandom function. Draw a salt per snapshot and show it to an
/// auditor only.
///
/// # Errors
/// [`SnapshotError::File`].
pub fn commitment(path: &Path, salt: &[u8; 32]) -> Result<Hash, SnapshotError> {
    let mut file = File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let read = file.read(&mut buffer)?;
        match buffer.get(..read) {
            Some(bytes) if !bytes.is_empty() => hasher.update(bytes),
            _ => break,
        }
    }
    let mut mac = keyed(salt);
    mac.update(&hasher.finalize());
    Ok(Hash::from_bytes(mac.finalize().into_bytes().into()))
}

/// HMAC-SHA256 under a 32-byte key.
#[expect(clippy::expect_used, reason = "HMAC takes keys of every length: RFC 2104, section 2")]
pub(crate) fn keyed(key: &[u8; 32]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("any length")
}

/// How a schema's columns are stored: every number as `Float64`, which holds whole numbers below 2^53 exactly. The
/// person column is text whatever its type, because it is only ever compared with itself.
pub(crate) fn arrow_schema(schema: &Schema) -> Arc<ArrowSchema> {
    let field = |column: &Column| {
        let is_person = is_person(schema, column);
        Field::new(column.name.as_str(), stored_type(column, is_person), column.nullable && !is_person)
    };
    Arc::new(ArrowSchema::new(schema.columns.iter().map(field).collect::<Vec<_>>()))
}

/// Whether the column tells persons apart.
pub(crate) fn is_person(schema: &Schema, column: &Column) -> bool {
    schema.person.as_ref() == Some(&column.name)
}

fn stored_type(column: &Column, is_person: bool) -> DataType {
    match column.kind {
        _ if is_person => DataType::Utf8,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Decimal | ColumnType::Integer => DataType::Float64,
        ColumnType::Text => DataType::Utf8,
    }
}
