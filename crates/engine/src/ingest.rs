//! A custodian's delimited text file (RFC 4180) becomes a snapshot in which no row is wrong.
//!
//! It exists so that a query can never fail because of a row: whatever could be wrong with a value is found here, before
//! anyone asks anything, and told to the custodian who can repair it. One wrong cell rejects the whole file; a file that
//! is half there would answer wrongly without saying so.
//!
//! Errors name line, column and what was expected, never what stands in the cell: they end up in terminals, tickets and
//! mails. What the report counts are facts about rows, and for the custodian alone.
//!
//! Does not: guess types, repair, clamp. A value beyond its bounds is kept as recorded and clamped where it is summed.
//! Adversary: a careless export, also a very large or binary one; limits below.

use std::cell::Cell;
use std::collections::HashSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use cohortium_messages::{Column, ColumnError, ColumnType, Name, Schema, Value};
use datafusion::arrow::array::{ArrayRef, BooleanBuilder, Float64Builder, StringBuilder};
use datafusion::arrow::datatypes::Schema as ArrowSchema;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::parquet::arrow::ArrowWriter;
use serde::{Deserialize, Serialize};

use crate::MAX_ROWS;
use crate::snapshot::{arrow_schema, is_person};

/// How a custodian's file is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CsvOptions {
    /// The names of the file's columns in its order, where there is no header. Those that the schema does not name are
    /// skipped.
    pub columns: Option<Vec<Name>>,
    /// What stands between fields: one ASCII character, in files written as text such as `";"`.
    #[serde(with = "one_character")]
    pub delimiter: u8,
    /// Whether the first line names the columns.
    pub header: bool,
    /// Texts that mean "missing", beside nothing at all.
    pub missing: Vec<String>,
}

impl Default for CsvOptions {
    /// Commas, a header, nothing but the empty field is missing.
    fn default() -> Self {
        Self { columns: None, delimiter: b',', header: true, missing: Vec::new() }
    }
}

/// What came of a file. Facts about rows: for the custodian's screen, never for anyone else.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IngestReport {
    /// In the order of the schema.
    pub columns: Vec<ColumnReport>,
    /// How many.
    pub rows: u64,
}

/// What came of one column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ColumnReport {
    /// Which.
    pub column: Name,
    /// In how many rows the value is missing.
    pub missing: u64,
    /// In how many of these there was a value, outside the declared domain.
    pub outside_domain: u64,
}

/// Why a file was not taken. The custodian must act. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// Wrong cells.
    #[error("the file was not taken, {0}")]
    Cells(CellErrors),
    /// Columns of the schema that the file does not have.
    #[error("the file has no column {absent}; it has {found}")]
    Absent {
        /// The columns.
        absent: String,
        /// What the first line says, if it looks like a line of names.
        found: String,
    },
    /// A column of the schema that the file has twice.
    #[error("the file has two columns `{0}`")]
    Twice(Name),
    /// The options contradict themselves.
    #[error("options: {0}")]
    Options(&'static str),
    /// A record without end: a forgotten quote, or not a text file.
    #[error("line {line}: no record may have more than {MAX_RECORD_BYTES} bytes; is a quote not closed?")]
    Record {
        /// Where it begins.
        line: u64,
    },
    /// More rows than sums are argued for.
    #[error("the file has more than {MAX_ROWS} rows")]
    Rows,
    /// The schema is wrong in itself.
    #[error("schema: {0}")]
    Schema(#[from] ColumnError),
    /// The file cannot be read.
    #[error("the file cannot be read: {0}")]
    Read(#[source] io::Error),
    /// The snapshot cannot be written.
    #[error("the snapshot cannot be written: {0}")]
    Write(#[from] io::Error),
}

/// The first wrong cells, and how many more there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellErrors {
    /// At most 20.
    pub first: Vec<CellError>,
    /// How many beyond these.
    pub more: u64,
}

/// A wrong cell. Does not say what stands in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellError {
    /// Which column, or none if the whole line is wrong.
    pub column: Option<Name>,
    /// What should stand there.
    pub expected: String,
    /// The line on which the record begins, from 1.
    pub line: u64,
}

impl std::fmt::Display for CellErrors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("because of:")?;
        for error in &self.first {
            write!(f, "\n  {error}")?;
        }
        if self.more > 0 { write!(f, "\n  and {} more", self.more) } else { Ok(()) }
    }
}

impl std::fmt::Display for CellError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.column {
            Some(column) => write!(f, "line {}, column `{column}`: expected {}", self.line, self.expected),
            None => write!(f, "line {}: expected {}", self.line, self.expected),
        }
    }
}

/// Longest field, in bytes: far beyond any code or name, far below what would hurt.
const MAX_FIELD_BYTES: usize = 1 << 16;
/// Longest record, in bytes, counted in whole read buffers: 4096 columns of one kilobyte.
const MAX_RECORD_BYTES: u64 = 1 << 22;
/// Errors that are shown: a screenful.
const SHOWN_ERRORS: usize = 20;
/// Rows held in memory before they are written.
const BATCH_ROWS: u64 = 8192;
/// Below this, different whole numbers are different as `f64`.
const MAX_INTEGER: f64 = 9_007_199_254_740_992.0;

/// Reads a custodian's file and writes a snapshot of the columns that `schema` names to `out`.
///
/// Spaces around a field are not part of it. Numbers are decimal, with a point, an exponent if need be (`63`, `63.0`,
/// `6.3e1`); whole-number columns take any of these if the value is whole. Booleans are `true`/`false`, `t`/`f`,
/// `yes`/`no`, `y`/`n` or `1`/`0` in any case. A value outside a declared domain becomes missing where values may be
/// missing, and is an error elsewhere. The person must be known in every row.
///
/// Promise: given any bytes, either `out` is replaced, durably and as a whole, by a snapshot in which every value has the
/// type and domain that the schema declares, or it is left as it was. The error never contains the content of a cell (but
/// shows the names in the header). Argued; tested on malformed files.
///
/// # Errors
/// [`IngestError`], with up to 20 wrong cells.
pub fn ingest_csv(
    mut reader: impl Read,
    options: &CsvOptions,
    schema: &Schema,
    out: &Path,
) -> Result<IngestReport, IngestError> {
    schema.check()?;
    check_options(options)?;
    let mut records = Records::new(&mut reader, options.delimiter);
    let names = file_columns(&mut records, options, schema)?;
    let mut columns =
        schema.columns.iter().map(|column| Reading::new(column, schema, &names)).collect::<Result<Vec<_>, _>>()?;
    let mut target = Target::new(out, schema)?;
    let mut errors = CellErrors { first: Vec::new(), more: 0 };
    let mut rows = 0u64;
    while let Some(line) = records.next()? {
        rows += 1;
        if rows > MAX_ROWS {
            return Err(IngestError::Rows);
        }
        read_row(&records.record, line, names.len(), &mut columns, options, &mut errors);
        if rows.is_multiple_of(BATCH_ROWS) {
            target.write(&mut columns, errors.first.is_empty())?;
        }
    }
    if !errors.first.is_empty() {
        return Err(IngestError::Cells(errors));
    }
    target.write(&mut columns, true)?;
    target.publish(out)?;
    Ok(IngestReport { columns: columns.into_iter().map(|column| column.report).collect(), rows })
}

fn check_options(options: &CsvOptions) -> Result<(), IngestError> {
    if !options.delimiter.is_ascii() || matches!(options.delimiter, b'"' | b'\n' | b'\r') {
        return Err(IngestError::Options("the delimiter is one ASCII character, not a quote and not a line end"));
    }
    match (options.header, &options.columns) {
        (false, None) => Err(IngestError::Options("a file without header needs `columns`, the names in its order")),
        (true, Some(_)) => {
            Err(IngestError::Options("`columns` are for files without header; this one is said to have one"))
        }
        _ => Ok(()),
    }
}

/// What the file calls its columns, in order.
fn file_columns(records: &mut Records<'_>, options: &CsvOptions, schema: &Schema) -> Result<Vec<String>, IngestError> {
    let names: Vec<String> = match &options.columns {
        Some(columns) => columns.iter().map(ToString::to_string).collect(),
        None => {
            records.next()?;
            records.record.iter().map(|name| String::from_utf8_lossy(name).trim().to_owned()).collect()
        }
    };
    let absent: Vec<String> = schema
        .columns
        .iter()
        .filter(|column| !names.iter().any(|name| name == column.name.as_str()))
        .map(|column| format!("`{}`", column.name))
        .collect();
    if absent.is_empty() {
        Ok(names)
    } else {
        Err(IngestError::Absent { absent: absent.join(", "), found: shown(&names) })
    }
}

/// The names, unless they look like a row: where a header was forgotten, the first line is somebody.
fn shown(names: &[String]) -> String {
    if names.is_empty() {
        "no columns: it is empty".to_owned()
    } else if names.iter().any(|name| name.is_empty() || name.parse::<f64>().is_ok() || name == "?") {
        format!("{} columns whose first line looks like values, not names (no header?)", names.len())
    } else {
        let names: Vec<String> =
            names.iter().take(100).map(|name| name.chars().filter(|c| !c.is_control()).take(64).collect()).collect();
        names.join(", ")
    }
}

/// Reads one record into all columns, or notes what is wrong with it.
fn read_row(
    record: &csv::ByteRecord,
    line: u64,
    width: usize,
    columns: &mut [Reading<'_>],
    options: &CsvOptions,
    errors: &mut CellErrors,
) {
    let mut note = |column: Option<&Name>, expected: String| {
        if errors.first.len() < SHOWN_ERRORS {
            errors.first.push(CellError { column: column.cloned(), expected, line });
        } else {
            errors.more += 1;
        }
    };
    if record.len() != width {
        note(None, format!("{width} fields, found {}", record.len()));
        return;
    }
    for column in columns {
        let field = record.get(column.position).unwrap_or_default();
        if let Err(expected) = column.read(field, &options.missing) {
            note(Some(&column.column.name), expected);
        }
    }
}

/// One column on its way from text to typed values.
struct Reading<'a> {
    builder: Builder,
    column: &'a Column,
    domain: Option<Domain>,
    is_person: bool,
    position: usize,
    report: ColumnReport,
}

enum Builder {
    Boolean(BooleanBuilder),
    Number(Float64Builder),
    Text(StringBuilder),
}

/// A domain in the form in which values are compared. Numbers by their bits: both sides are the nearest `f64` of a
/// decimal, and there is no −0.
#[derive(Default)]
struct Domain {
    booleans: HashSet<bool>,
    numbers: HashSet<u64>,
    texts: HashSet<String>,
}

enum Parsed<'a> {
    Boolean(bool),
    Missing,
    Number(f64),
    Text(&'a str),
}

impl<'a> Reading<'a> {
    fn new(column: &'a Column, schema: &Schema, names: &[String]) -> Result<Self, IngestError> {
        let mut positions =
            names.iter().enumerate().filter(|(_, name)| *name == column.name.as_str()).map(|(at, _)| at);
        // Absent names were refused before; a position beyond every record would read empty fields.
        let position = positions.next().unwrap_or(usize::MAX);
        if positions.next().is_some() {
            return Err(IngestError::Twice(column.name.clone()));
        }
        let is_person = is_person(schema, column);
        let builder = match column.kind {
            _ if is_person => Builder::Text(StringBuilder::new()),
            ColumnType::Boolean => Builder::Boolean(BooleanBuilder::new()),
            ColumnType::Decimal | ColumnType::Integer => Builder::Number(Float64Builder::new()),
            ColumnType::Text => Builder::Text(StringBuilder::new()),
        };
        let report = ColumnReport { column: column.name.clone(), missing: 0, outside_domain: 0 };
        let domain = column.domain.as_deref().map(Domain::new);
        Ok(Self { builder, column, domain, is_person, position, report })
    }

    /// Takes one cell, or says what was expected.
    fn read(&mut self, field: &[u8], missing: &[String]) -> Result<(), String> {
        if field.len() > MAX_FIELD_BYTES {
            return Err(format!("at most {MAX_FIELD_BYTES} bytes"));
        }
        let text = std::str::from_utf8(field).map_err(|_| "text in UTF-8".to_owned())?.trim();
        let mut parsed = if text.is_empty() || missing.iter().any(|word| word.trim() == text) {
            Parsed::Missing
        } else {
            parse(text, self.column.kind)?
        };
        let may_be_missing = self.column.nullable && !self.is_person;
        if let Some(domain) = &self.domain
            && !domain.holds(&parsed)
        {
            if !may_be_missing {
                return Err("one of the values of the declared domain".to_owned());
            }
            parsed = Parsed::Missing;
            self.report.outside_domain += 1;
        }
        if matches!(parsed, Parsed::Missing) {
            if !may_be_missing {
                return Err("a value (none may be missing here)".to_owned());
            }
            self.report.missing += 1;
        }
        self.append(&parsed);
        Ok(())
    }

    fn append(&mut self, parsed: &Parsed<'_>) {
        match (&mut self.builder, parsed) {
            (Builder::Boolean(builder), Parsed::Boolean(value)) => builder.append_value(*value),
            (Builder::Boolean(builder), _) => builder.append_null(),
            (Builder::Number(builder), Parsed::Number(value)) => builder.append_value(*value),
            (Builder::Number(builder), _) => builder.append_null(),
            (Builder::Text(builder), Parsed::Text(value)) => builder.append_value(value),
            // A person with a number is one person, however the number is written.
            (Builder::Text(builder), Parsed::Number(value)) => builder.append_value(value.to_string()),
            (Builder::Text(builder), Parsed::Boolean(value)) => builder.append_value(value.to_string()),
            (Builder::Text(builder), Parsed::Missing) => builder.append_null(),
        }
    }

    fn take(&mut self) -> ArrayRef {
        match &mut self.builder {
            Builder::Boolean(builder) => Arc::new(builder.finish()),
            Builder::Number(builder) => Arc::new(builder.finish()),
            Builder::Text(builder) => Arc::new(builder.finish()),
        }
    }
}

impl Domain {
    fn new(values: &[Value]) -> Self {
        let mut domain = Self::default();
        for value in values {
            match value {
                Value::Boolean(value) => drop(domain.booleans.insert(*value)),
                Value::Number(value) => drop(domain.numbers.insert(value.to_f64().to_bits())),
                Value::Text(value) => drop(domain.texts.insert(value.clone())),
            }
        }
        domain
    }

    /// Whether the value is declared. Being missing is another matter.
    fn holds(&self, parsed: &Parsed<'_>) -> bool {
        match parsed {
            Parsed::Boolean(value) => self.booleans.contains(value),
            Parsed::Missing => true,
            Parsed::Number(value) => self.numbers.contains(&value.to_bits()),
            Parsed::Text(value) => self.texts.contains(*value),
        }
    }
}

fn parse(text: &str, kind: ColumnType) -> Result<Parsed<'_>, String> {
    match kind {
        ColumnType::Boolean => boolean(text).map(Parsed::Boolean).ok_or_else(|| "true or false".to_owned()),
        ColumnType::Decimal => number(text).map(Parsed::Number).ok_or_else(|| "a number, such as 63.5".to_owned()),
        ColumnType::Integer => number(text)
            .filter(|number| number.fract() == 0.0 && number.abs() < MAX_INTEGER)
            .map(Parsed::Number)
            .ok_or_else(|| "a whole number below 2^53, such as 63".to_owned()),
        ColumnType::Text => Ok(Parsed::Text(text)),
    }
}

fn boolean(text: &str) -> Option<bool> {
    match text.to_ascii_lowercase().as_str() {
        "true" | "t" | "yes" | "y" | "1" => Some(true),
        "false" | "f" | "no" | "n" | "0" => Some(false),
        _ => None,
    }
}

/// The nearest `f64`. Not the words `inf` and `nan`, not what is too large; never −0.
fn number(text: &str) -> Option<f64> {
    let looks_like_one = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
    let number: f64 = text.parse().ok()?;
    (looks_like_one && number.is_finite()).then_some(number + 0.0)
}

/// Records with a limit on their length.
struct Records<'a> {
    csv: csv::Reader<Limited<'a>>,
    read_bytes: Rc<Cell<u64>>,
    record: csv::ByteRecord,
}

impl<'a> Records<'a> {
    fn new(input: &'a mut dyn Read, delimiter: u8) -> Self {
        let read_bytes = Rc::new(Cell::new(0));
        let limited = Limited { input, read_bytes: Rc::clone(&read_bytes) };
        let csv = csv::ReaderBuilder::new().delimiter(delimiter).flexible(true).has_headers(false).from_reader(limited);
        Self { csv, read_bytes, record: csv::ByteRecord::new() }
    }

    /// Reads the next record into `self.record` and returns the line on which it begins.
    fn next(&mut self) -> Result<Option<u64>, IngestError> {
        self.read_bytes.set(0);
        let line = self.csv.position().line();
        match self.csv.read_byte_record(&mut self.record) {
            Ok(true) => Ok(Some(self.record.position().map_or(line, csv::Position::line))),
            Ok(false) => Ok(None),
            Err(_) if self.read_bytes.get() > MAX_RECORD_BYTES => Err(IngestError::Record { line }),
            Err(error) => Err(IngestError::Read(match error.into_kind() {
                csv::ErrorKind::Io(error) => error,
                _ => io::Error::from(io::ErrorKind::InvalidData),
            })),
        }
    }
}

/// Stops when too much was read since the count was last set to zero.
struct Limited<'a> {
    input: &'a mut dyn Read,
    read_bytes: Rc<Cell<u64>>,
}

impl Read for Limited<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.read_bytes.get() > MAX_RECORD_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let read = self.input.read(buffer)?;
        self.read_bytes.set(self.read_bytes.get().saturating_add(read as u64));
        Ok(read)
    }
}

/// A snapshot that is not there yet.
///
/// It is written beside its destination and renamed when it is complete and durable. A crash leaves the destination as
/// it was, and a file ending in `.partial` that can be deleted. Dropped before it is published, it deletes that file.
struct Target {
    partial: PathBuf,
    schema: Arc<ArrowSchema>,
    /// None once published.
    writer: Option<ArrowWriter<File>>,
}

impl Target {
    fn new(out: &Path, schema: &Schema) -> Result<Self, IngestError> {
        let mut name = out.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidFilename))?.to_os_string();
        // The process in the name keeps two ingests apart.
        name.push(format!(".{}.partial", std::process::id()));
        let partial = out.with_file_name(name);
        let mut open = OpenOptions::new();
        open.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut open, 0o600); // Rows of persons: for the node's user alone.
        let file = open.open(&partial)?;
        let schema = arrow_schema(schema);
        match ArrowWriter::try_new(file, Arc::clone(&schema), None) {
            Ok(writer) => Ok(Self { partial, schema, writer: Some(writer) }),
            Err(_) => {
                let _ = fs::remove_file(&partial);
                Err(unwritable())
            }
        }
    }

    /// Empties the columns into the file, or nowhere if the file is rejected already.
    fn write(&mut self, columns: &mut [Reading<'_>], keep: bool) -> Result<(), IngestError> {
        let arrays: Vec<ArrayRef> = columns.iter_mut().map(Reading::take).collect();
        let Some(writer) = self.writer.as_mut().filter(|_| keep) else { return Ok(()) };
        let batch = RecordBatch::try_new(Arc::clone(&self.schema), arrays).map_err(|_| unwritable())?;
        writer.write(&batch).map_err(|_| unwritable())
    }

    /// Makes the file durable, then visible.
    fn publish(mut self, out: &Path) -> Result<(), IngestError> {
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let published = writer.into_inner().map_err(|_| unwritable()).and_then(|file| {
            file.sync_all()?;
            // The rows are durable under the temporary name; a crash here loses nothing but the work.
            fs::rename(&self.partial, out)?;
            // The rename is visible; it is durable when the folder is.
            match out.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                Some(folder) => File::open(folder)?.sync_all()?,
                None => File::open(".")?.sync_all()?,
            }
            Ok(())
        });
        if published.is_err() {
            let _ = fs::remove_file(&self.partial);
        }
        published
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        if self.writer.take().is_some() {
            let _ = fs::remove_file(&self.partial);
        }
    }
}

/// The library's own message could quote values.
fn unwritable() -> IngestError {
    IngestError::Write(io::Error::other("writing Parquet failed (is the disk full?)"))
}

/// A byte as a text of one character, for files that people write.
mod one_character {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(byte: &u8, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&char::from(*byte))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u8, D::Error> {
        match String::deserialize(deserializer)?.as_bytes() {
            [byte] if byte.is_ascii() => Ok(*byte),
            _ => Err(D::Error::custom("expected one ASCII character")),
        }
    }
}
