//! A checked and priced plan over a snapshot: filter, project, quantise, bound, add.
//!
//! DataFusion scans the file and evaluates filter and arithmetic; from there on everything is integers. A value x of a
//! measure with centre c and half range h becomes round((x − c)/h · W), ties to even, clamped to ±W: no float is ever
//! summed, so neither the order of rows nor the width of a float shows in a sum (Casacuberta, Shoemate, Vadhan, Wagaman
//! 2022, "Widespread underestimation of sensitivity in differentially private libraries"; Mironov 2012).
//!
//! **No failure may depend on rows.** Whether an answer comes is not noised, so it must say nothing. Everything that can
//! fail without rows is done first and gives [`RunError`]. From the first batch on, a failure (a damaged page, a panic in
//! a library) gives zeros in the full shape and a remark for the local log; to everyone else the run looks like any other.
//! Ingest leaves no row that could cause one, and every expression is total.
//!
//! Does not: add noise, hide how long it takes. Adversary: who wrote the plan, who owns a row.

use std::collections::HashMap;
use std::fs::File;

use cohortium_dp::Raw;
use cohortium_messages::{Column, Measure, Name, Scalar, Schema, Value};
use cohortium_query::Priced;
use datafusion::arrow::array::{ArrayRef, AsArray as _, BooleanArray, Float64Array, StringArray};
use datafusion::arrow::datatypes::Float64Type;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::Result as DataFusionResult;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::logical_expr::Expr;
use datafusion::prelude::{ParquetReadOptions, SessionConfig, SessionContext, ident, lit};

use crate::Snapshot;
use crate::contribution::{Limits, Tally};
use crate::expression;
use crate::snapshot::arrow_schema;

/// What a run gives.
pub struct RunOutcome {
    /// One bounded sum per cell, in the plan's order. Not noised: only `dp` can open it.
    pub partials: Raw<Vec<i64>>,
    /// A remark for the node's own log if the rows could not be read to the end and `partials` are zeros. It must not
    /// leave the node: that a run had trouble may be a fact about rows. A fixed sentence, so that it cannot quote one.
    pub trouble: Option<&'static str>,
}

/// Why a plan does not run at all. Decided before the first row is read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RunError {
    /// The snapshot is gone or unreadable. The operator must act.
    #[error("the snapshot cannot be opened: {0}")]
    File(std::io::ErrorKind),
    /// The plan was checked against another schema than the snapshot was opened with. The caller must act.
    #[error("the plan was made for another schema than the snapshot's: it has other groups")]
    Schema,
    /// DataFusion does not take the plan. Ours to repair.
    #[error("the plan cannot be run here (our error): {0}")]
    Plan(&'static str),
    /// No thread or no runtime. The operator must act.
    #[error("the machine has no resources for a run: {0}")]
    Resources(std::io::ErrorKind),
}

/// What the log says when reading failed midway.
const TROUBLE: &str = "reading the snapshot failed midway; zeros were contributed instead (ingest the table again)";

/// Stack of the thread that runs a plan: DataFusion walks expressions recursively, and a plan may have 1000 operators.
const STACK_BYTES: usize = 64 << 20;

/// Runs a plan over a snapshot and returns its sums, sealed.
///
/// `priced` is what `cohortium_query::check` made of the plan under the agreement whose schema `snapshot` was opened
/// with; that the two are one is for the caller to see to (only the groups are compared here). `bounding_key` is the
/// node's secret that decides in which groups a person counts who has rows in too many. The call blocks, on a thread and
/// a runtime of its own.
///
/// Promise: given any rows, returns exactly `priced.layout().cells()` integers, which the rows of one person change by an
/// L2 norm of at most √`priced.sensitivity2()`; never a shape, a failure or a text that depends on rows. Argued, here and
/// in `contribution`; tested on random rows. Running time and memory are not covered.
///
/// # Errors
/// [`RunError`], before the first row is read.
pub fn run(snapshot: &Snapshot, priced: &Priced, bounding_key: &[u8; 32]) -> Result<RunOutcome, RunError> {
    let (cells, trouble) = partials(snapshot, priced, bounding_key)?;
    Ok(RunOutcome { partials: Raw::new(cells), trouble })
}

/// [`run`] before sealing: apart only because tests must see the sums.
pub(crate) fn partials(
    snapshot: &Snapshot,
    priced: &Priced,
    bounding_key: &[u8; 32],
) -> Result<(Vec<i64>, Option<&'static str>), RunError> {
    let job = Job::new(snapshot, priced)?;
    if job.measures.is_empty() {
        return Ok((Vec::new(), None));
    }
    let finished = std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, || job.sum(bounding_key));
        // A panic of a library ends its thread only, and counts as trouble. Its message goes to the node's own stderr.
        thread.map(|thread| thread.join().unwrap_or(Ok(None))).map_err(|error| RunError::Resources(error.kind()))
    })?;
    Ok(match finished? {
        Some(cells) => (cells, None),
        None => (vec![0; priced.layout().cells()], Some(TROUBLE)),
    })
}

/// A plan made ready, before any row.
struct Job<'a> {
    filter: Option<Expr>,
    keys: Vec<Key>,
    lattice: f64,
    limits: Limits,
    measures: Vec<Reading>,
    plan_hash: [u8; 32],
    /// The person if there is one, then the keys, then what the measures need.
    projection: Vec<Expr>,
    snapshot: &'a Snapshot,
}

/// A group column: which values it has, and how they are numbered.
#[derive(Default)]
struct Key {
    booleans: HashMap<bool, u32>,
    missing: Option<u32>,
    numbers: HashMap<u64, u32>,
    /// How many values.
    size: u32,
    texts: HashMap<String, u32>,
}

/// How a measure is read from a batch.
enum Reading {
    /// The next column is a number, to be quantised.
    Centred { centre: f64, half_range: f64 },
    /// The next column says whether a value is there.
    Present,
    /// No column.
    Rows,
}

impl<'a> Job<'a> {
    fn new(snapshot: &'a Snapshot, priced: &Priced) -> Result<Self, RunError> {
        let (plan, layout, schema) = (priced.plan(), priced.layout(), snapshot.schema());
        // An absent column has no values, hence no groups, and is refused with the rest.
        let values = |name: &Name| schema.column(name).map(Column::group_values).unwrap_or_default();
        let keys: Vec<Key> = plan.group_by.iter().map(|name| Key::new(&values(name))).collect();
        if !groups_agree(&keys, &layout.groups) || plan.measures.len() != layout.measures {
            return Err(RunError::Schema);
        }
        let filter = plan.filter.as_ref().map(expression::filter).transpose().map_err(|_| RunError::Plan("filter"))?;
        let mut projection = vec![lit(true).alias("row")];
        projection.extend(
            schema.person.iter().chain(&plan.group_by).map(|name| ident(name.as_str()).alias(format!("key {name}"))),
        );
        let mut measures = Vec::with_capacity(plan.measures.len());
        for (at, measure) in plan.measures.iter().enumerate() {
            let (reading, expression) = reading(measure, schema)?;
            measures.push(reading);
            projection.extend(expression.map(|expression| expression.alias(format!("measure {at}"))));
        }
        let lattice = i64::try_from(priced.lattice()).map_err(|_| RunError::Plan("lattice"))?;
        let limits = Limits {
            groups: layout.groups.len(),
            measures: layout.measures,
            max_groups: plan.bounding.max_groups as usize,
            max_sum: lattice.saturating_mul(i64::from(plan.bounding.max_rows)),
        };
        let plan_hash = *priced.plan_hash().as_bytes();
        Ok(Self { filter, keys, lattice: lattice as f64, limits, measures, plan_hash, projection, snapshot })
    }

    /// The sums; none if reading failed midway.
    fn sum(&self, bounding_key: &[u8; 32]) -> Result<Option<Vec<i64>>, RunError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .map_err(|error| RunError::Resources(error.kind()))?;
        File::open(self.snapshot.path()).map_err(|error| RunError::File(error.kind()))?;
        runtime.block_on(async {
            let mut batches = self.open().await.map_err(|_| RunError::Plan("DataFusion refuses it"))?;
            let mut tally = Tally::new(self.limits, self.snapshot.schema().person.is_none());
            // From here on nothing may return an error: rows are being read.
            while let Some(batch) = next(&mut batches).await {
                if batch.ok().and_then(|batch| self.add(&batch, &mut tally)).is_none() {
                    return Ok(None);
                }
            }
            Ok(Some(tally.finish(bounding_key, &self.plan_hash)))
        })
    }

    /// Plans the scan. One partition, no statistics, no skipping of row groups: one way through the file, the same for
    /// all rows.
    async fn open(&self) -> DataFusionResult<SendableRecordBatchStream> {
        let config = SessionConfig::new()
            .with_target_partitions(1)
            .with_collect_statistics(false)
            .with_parquet_bloom_filter_pruning(false)
            .with_parquet_page_index_pruning(false)
            .with_parquet_pruning(false)
            .set_bool("datafusion.execution.parquet.schema_force_view_types", false);
        let context = SessionContext::new_with_config(config);
        let schema = arrow_schema(self.snapshot.schema());
        let options = ParquetReadOptions::default().file_extension("").parquet_pruning(false).schema(&schema);
        let mut frame = context.read_parquet(file_url(self.snapshot), options).await?;
        if let Some(filter) = &self.filter {
            frame = frame.filter(filter.clone())?;
        }
        frame.select(self.projection.clone())?.execute_stream().await
    }

    /// Adds a batch of rows that passed the filter; none if the batch is not of the shape that was asked for.
    fn add(&self, batch: &RecordBatch, tally: &mut Tally) -> Option<()> {
        let mut columns = batch.columns().iter().skip(1);
        let persons: Option<&StringArray> = match self.snapshot.schema().person {
            Some(_) => Some(columns.next()?.as_string_opt()?),
            None => None,
        };
        let mut groups: Vec<Option<u32>> = vec![Some(0); batch.num_rows()];
        for key in &self.keys {
            key.refine(columns.next()?, &mut groups)?;
        }
        let width = self.measures.len();
        let mut values = vec![0i64; batch.num_rows().checked_mul(width)?];
        for (at, measure) in self.measures.iter().enumerate() {
            let places = values.iter_mut().skip(at).step_by(width);
            measure.quantise(&mut columns, self.lattice, places)?;
        }
        let mut names = persons.map(StringArray::iter);
        for (group, values) in groups.iter().zip(values.chunks_exact(width)) {
            let person = names.as_mut().and_then(|names| names.next().flatten());
            // A group outside the declared domains cannot occur after ingest; its row would count nowhere.
            if let Some(group) = group {
                tally.add(person, *group, values);
            }
        }
        Some(())
    }
}

impl Key {
    fn new(values: &[Option<Value>]) -> Self {
        let mut key = Self::default();
        for value in values {
            let number = key.size;
            match value {
                None => key.missing = Some(number),
                Some(Value::Boolean(value)) => drop(key.booleans.insert(*value, number)),
                Some(Value::Number(value)) => drop(key.numbers.insert(value.to_f64().to_bits(), number)),
                Some(Value::Text(value)) => drop(key.texts.insert(value.clone(), number)),
            }
            key.size = key.size.saturating_add(1);
        }
        key
    }

    fn number(&self, value: Option<&Value>) -> Option<u32> {
        match value {
            None => self.missing,
            Some(Value::Boolean(value)) => self.booleans.get(value).copied(),
            Some(Value::Number(value)) => self.numbers.get(&value.to_f64().to_bits()).copied(),
            Some(Value::Text(value)) => self.texts.get(value).copied(),
        }
    }

    /// Subdivides the groups by this column: the first column varies slowest.
    fn refine(&self, column: &ArrayRef, groups: &mut [Option<u32>]) -> Option<()> {
        let numbers: Vec<Option<u32>> = if let Some(array) = column.as_boolean_opt() {
            array.iter().map(|value| value.map_or(self.missing, |value| self.booleans.get(&value).copied())).collect()
        } else if let Some(array) = column.as_primitive_opt::<Float64Type>() {
            let of = |value: f64| self.numbers.get(&value.to_bits()).copied();
            array.iter().map(|value| value.map_or(self.missing, of)).collect()
        } else {
            let array: &StringArray = column.as_string_opt()?;
            array.iter().map(|value| value.map_or(self.missing, |value| self.texts.get(value).copied())).collect()
        };
        for (group, number) in groups.iter_mut().zip(numbers) {
            *group = self.within(*group, number);
        }
        Some(())
    }

    /// The number of a group within a group of the columns before.
    fn within(&self, group: Option<u32>, number: Option<u32>) -> Option<u32> {
        group?.checked_mul(self.size)?.checked_add(number?)
    }
}

/// Whether the groups that the plan was priced with are numbered as rows will be.
fn groups_agree(keys: &[Key], groups: &[Vec<Option<Value>>]) -> bool {
    let product = keys.iter().try_fold(1usize, |product, key| product.checked_mul(key.size as usize));
    let number = |group: &[Option<Value>]| {
        keys.iter().zip(group).try_fold(0, |number, (key, value)| key.within(Some(number), key.number(value.as_ref())))
    };
    let in_order =
        |(at, group): (usize, &Vec<Option<Value>>)| number(group).is_some_and(|number| number as usize == at);
    product == Some(groups.len()) && groups.iter().enumerate().all(in_order)
}

impl Reading {
    /// Writes one integer per row into `places`.
    fn quantise<'a, 'b>(
        &self,
        columns: &mut impl Iterator<Item = &'a ArrayRef>,
        lattice: f64,
        places: impl Iterator<Item = &'b mut i64>,
    ) -> Option<()> {
        match self {
            Self::Rows => places.for_each(|place| *place = lattice as i64),
            Self::Present => {
                let array: &BooleanArray = columns.next()?.as_boolean_opt()?;
                places
                    .zip(array)
                    .for_each(|(place, there)| *place = if there == Some(true) { lattice as i64 } else { 0 });
            }
            Self::Centred { centre, half_range } => {
                let array: &Float64Array = columns.next()?.as_primitive_opt()?;
                for (place, x) in places.zip(array) {
                    *place = x.map_or(0, |x| quantised(x, *centre, *half_range, lattice));
                }
            }
        }
        Some(())
    }
}

/// round((x − c)/h · W), ties to even, within ±W. The conversion to `i64` is exact for |W| ≤ 2^20, and 0 for NaN.
fn quantised(x: f64, centre: f64, half_range: f64, lattice: f64) -> i64 {
    ((x - centre) / half_range * lattice).round_ties_even().clamp(-lattice, lattice) as i64
}

/// How a measure is read, and the column it needs.
fn reading(measure: &Measure, schema: &Schema) -> Result<(Reading, Option<Expr>), RunError> {
    let expression = |of: &Scalar| expression::measured(of, schema).map_err(|_| RunError::Plan("measure"));
    Ok(match measure {
        Measure::Rows => (Reading::Rows, None),
        Measure::Present { of } => (Reading::Present, Some(expression(of)?.is_not_null())),
        Measure::CentredSum { centre, half_range, of } => {
            let (centre, half_range) = (centre.to_f64(), half_range.to_f64());
            (Reading::Centred { centre, half_range }, Some(expression(of)?))
        }
    })
}

/// The file's address. As a URL, so that no character of the path is taken for a pattern.
fn file_url(snapshot: &Snapshot) -> String {
    let path = snapshot.path().to_str().unwrap_or_default(); // `Snapshot::open` checked that it is UTF-8.
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte);
    let encoded =
        path.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") });
    format!("file://{}", encoded.collect::<String>())
}

/// The next batch.
async fn next(batches: &mut SendableRecordBatchStream) -> Option<DataFusionResult<RecordBatch>> {
    std::future::poll_fn(|context| batches.as_mut().poll_next(context)).await
}
