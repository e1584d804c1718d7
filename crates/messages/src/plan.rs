//! The closed plan: the only thing a node ever runs.
//!
//! SQL is what people write; a plan is what is priced, signed, hashed, logged and run. The operators are few and total,
//! so that a node can check every one of them, re-derive bounds and sensitivity itself, and know that running it cannot
//! fail in a way that depends on rows. `query` makes plans from SQL and derives their price; `engine` runs them.

use cohortium_dp::NanoNats;
use serde::{Deserialize, Serialize};

use crate::{Decimal, Document, Hash, Name, Value};

/// The version of the plan's meaning *and* of the rules that derive its sensitivity and price.
/// A node refuses a plan of a version that it does not know.
pub const PLAN_VERSION: u32 = 1;

/// A query in closed form.
///
/// All cells of the answer form one integer vector: for every group (the cartesian product of the group columns'
/// values, first column slowest) the measures in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The agreement (hash of its payload) under which the plan was made.
    pub agreement: Hash,
    /// How much one person may contribute.
    pub bounding: Bounding,
    /// The dataset.
    pub dataset: Name,
    /// 0, or which repetition: the same plan with another draw pays again and gets fresh noise.
    pub draw: u32,
    /// Which rows count: those for which this is true (not false, not unknown).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<Predicate>,
    /// By which columns.
    pub group_by: Vec<Name>,
    /// How many rows of the answer are shown, after sorting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// What is summed.
    pub measures: Vec<Measure>,
    /// By which columns of the answer its rows are sorted.
    pub order_by: Vec<Order>,
    /// What the answer shows, computed from the noised sums.
    pub outputs: Vec<Output>,
    /// The zero-concentrated price ρ that the researcher is willing to pay at each node.
    pub rho: NanoNats,
    /// [`PLAN_VERSION`].
    pub version: u32,
}

/// How much one person may contribute to the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounding {
    /// To at most this many groups.
    pub max_groups: u32,
    /// With at most this many rows in each.
    pub max_rows: u32,
}

/// A sum over persons. Every measure is scaled to the same range before noise is added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Measure {
    /// The sum of `of - centre`, where `of` lies within `centre ± half_range`; missing values add nothing.
    CentredSum {
        /// The middle of the range.
        centre: Decimal,
        /// Half the width of the range, above zero.
        half_range: Decimal,
        /// What is summed.
        of: Scalar,
    },
    /// How many rows have a value.
    Present {
        /// The value.
        of: Scalar,
    },
    /// How many rows.
    Rows,
}

/// A value computed from one row. Numbers are double precision; a missing operand, a division by zero or a result that
/// is not finite is "missing". In a measure, columns are clamped to their bounds before anything else; a filter sees
/// what was recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Scalar {
    /// Arithmetic on two numbers.
    Arithmetic {
        /// The left operand.
        left: Box<Scalar>,
        /// Which.
        operator: Arithmetic,
        /// The right operand.
        right: Box<Scalar>,
    },
    /// A column.
    Column(Name),
    /// A literal.
    Literal(Value),
}

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Arithmetic {
    /// `+`
    Add,
    /// `/`
    Divide,
    /// `*`
    Multiply,
    /// `-`
    Subtract,
}

/// A condition on one row, in SQL's three-valued logic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Predicate {
    /// All of these.
    And(Vec<Predicate>),
    /// `left operator right`
    Compare {
        /// The left operand.
        left: Scalar,
        /// Which.
        operator: Comparison,
        /// The right operand.
        right: Scalar,
    },
    /// One of these values.
    In {
        /// The value.
        of: Scalar,
        /// The list.
        values: Vec<Value>,
    },
    /// No value recorded.
    IsMissing(Scalar),
    /// The opposite.
    Not(Box<Predicate>),
    /// Any of these.
    Or(Vec<Predicate>),
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Comparison {
    /// `=`
    Equal,
    /// `>`
    Greater,
    /// `>=`
    GreaterOrEqual,
    /// `<`
    Less,
    /// `<=`
    LessOrEqual,
    /// `<>`
    NotEqual,
}

/// A column of the answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Output {
    /// Its heading.
    pub name: String,
    /// How it follows from the noised sums. Numbers are positions in [`Plan::measures`].
    pub value: OutputColumn,
}

/// How a column of the answer follows from the noised sums.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum OutputColumn {
    /// A count measure as it is.
    Count(u32),
    /// A group key.
    Key(Name),
    /// `centre + sum / count`
    Mean {
        /// The position of a [`Measure::Present`] or [`Measure::Rows`].
        count: u32,
        /// The position of a [`Measure::CentredSum`].
        sum: u32,
    },
    /// A [`Measure::CentredSum`] with centre 0, as it is.
    Sum(u32),
}

/// A sort key: a column of the answer, by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Largest first.
    pub descending: bool,
    /// The position in [`Plan::outputs`].
    pub output: u32,
}

/// A plan that is too deep or too long to look at. Whoever made it must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the plan has too many {0} (at most {1})")]
pub struct PlanShapeError(pub &'static str, pub usize);

/// Limits that keep every walk over a plan short.
const MAX_NODES: usize = 1000;
const MAX_DEPTH: usize = 32;
const MAX_LIST: usize = 10_000;
/// The longest text literal, in bytes: a value of a domain is a word or a code, not a document.
const MAX_LITERAL: usize = 256;

impl Plan {
    /// SHA-256 of the canonical form: what a plan is called by.
    ///
    /// # Errors
    /// Never for a plan that was read or built here; the error is our own.
    pub fn hash(&self) -> Result<Hash, crate::CanonicalError> {
        Ok(Hash::of(&crate::canonical_bytes(self)?))
    }

    /// Checks sizes, so that everything after can walk the plan without limits of its own.
    ///
    /// # Errors
    /// What there is too much of.
    pub fn check_shape(&self) -> Result<(), PlanShapeError> {
        let lists = [
            ("group columns", self.group_by.len(), 16),
            ("measures", self.measures.len(), 256),
            ("outputs", self.outputs.len(), 256),
            ("sort keys", self.order_by.len(), 16),
        ];
        for (what, length, limit) in lists {
            if length > limit {
                return Err(PlanShapeError(what, limit));
            }
        }
        if self.outputs.iter().any(|output| output.name.len() > 128) {
            return Err(PlanShapeError("characters in a heading", 128));
        }
        let mut budget = MAX_NODES;
        for measure in &self.measures {
            if let Measure::CentredSum { of, .. } | Measure::Present { of } = measure {
                scalar_shape(of, 0, &mut budget)?;
            }
        }
        self.filter.as_ref().map_or(Ok(()), |filter| predicate_shape(filter, 0, &mut budget))
    }
}

impl Document for Plan {
    const TYPE: &'static str = "application/vnd.cohortium.plan.v1+json";
    const MAX_BYTES: usize = 256 << 10;
    fn check(&self) -> Result<(), String> {
        self.check_shape().map_err(|error| error.to_string())
    }
}

fn enter(depth: usize, budget: &mut usize) -> Result<(), PlanShapeError> {
    *budget = budget.checked_sub(1).ok_or(PlanShapeError("operators", MAX_NODES))?;
    if depth > MAX_DEPTH { Err(PlanShapeError("nested operators", MAX_DEPTH)) } else { Ok(()) }
}

fn scalar_shape(scalar: &Scalar, depth: usize, budget: &mut usize) -> Result<(), PlanShapeError> {
    enter(depth, budget)?;
    match scalar {
        Scalar::Column(_) => Ok(()),
        Scalar::Literal(value) => literal_shape(value),
        Scalar::Arithmetic { left, right, .. } => {
            scalar_shape(left, depth + 1, budget)?;
            scalar_shape(right, depth + 1, budget)
        }
    }
}

fn literal_shape(value: &Value) -> Result<(), PlanShapeError> {
    match value {
        Value::Text(text) if text.len() > MAX_LITERAL => Err(PlanShapeError("bytes in a text", MAX_LITERAL)),
        _ => Ok(()),
    }
}

fn predicate_shape(predicate: &Predicate, depth: usize, budget: &mut usize) -> Result<(), PlanShapeError> {
    enter(depth, budget)?;
    match predicate {
        Predicate::And(parts) | Predicate::Or(parts) => {
            parts.iter().try_for_each(|part| predicate_shape(part, depth + 1, budget))
        }
        Predicate::Not(part) => predicate_shape(part, depth + 1, budget),
        Predicate::Compare { left, right, .. } => {
            scalar_shape(left, depth + 1, budget)?;
            scalar_shape(right, depth + 1, budget)
        }
        Predicate::In { of, values } => {
            if values.len() > MAX_LIST {
                return Err(PlanShapeError("values in a list", MAX_LIST));
            }
            values.iter().try_for_each(literal_shape)?;
            scalar_shape(of, depth + 1, budget)
        }
        Predicate::IsMissing(of) => scalar_shape(of, depth + 1, budget),
    }
}
