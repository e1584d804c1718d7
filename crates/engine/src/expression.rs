//! From the closed plan to DataFusion expressions, so that evaluating one cannot fail because of a row.
//!
//! Three rules make every expression total. Numbers are `Float64`, whose operations never raise an error. Every
//! arithmetic result passes through `finite`, which turns infinities and NaN into "missing" and −0 into 0 (Arrow compares
//! by IEEE 754 total order, in which −0 < 0 and NaN = NaN; DataFusion mends that for comparisons, not for `IN`). Ingest
//! stores none of these. Logic is SQL's, with three values.
//!
//! Which value of a column is meant depends on the place. In a *filter* it is the recorded value, also inside
//! arithmetic: a condition decides whether a row counts, never how much. In a *measure* it is the value clamped to the
//! column's bounds, because the price was derived from those.
//!
//! Does not: check types. `query::check` has refused what is ill-typed.

use std::sync::{Arc, LazyLock};

use cohortium_messages::{Arithmetic, Comparison, Name, Predicate, Scalar, Schema, Value};
use datafusion::arrow::array::Float64Array;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::cast::as_float64_array;
use datafusion::common::exec_err;
use datafusion::error::Result;
use datafusion::logical_expr::{ColumnarValue, Expr, Operator, ScalarUDF, Volatility, binary_expr, create_udf};
use datafusion::prelude::{ident, in_list, lit, when};
use datafusion::scalar::ScalarValue;

/// The condition, over recorded values.
pub(crate) fn filter(predicate: &Predicate) -> Result<Expr> {
    Ok(match predicate {
        Predicate::And(parts) => balanced(parts, Operator::And)?.unwrap_or_else(|| lit(true)),
        Predicate::Or(parts) => balanced(parts, Operator::Or)?.unwrap_or_else(|| lit(false)),
        Predicate::Not(part) => Expr::Not(Box::new(filter(part)?)),
        Predicate::IsMissing(of) => scalar(of, None)?.is_null(),
        Predicate::Compare { left, operator, right } => {
            binary_expr(scalar(left, None)?, comparison(*operator), scalar(right, None)?)
        }
        // Nothing equals one of no values, not even a missing one.
        Predicate::In { values, .. } if values.is_empty() => lit(false),
        Predicate::In { of, values } => in_list(scalar(of, None)?, values.iter().map(literal).collect(), false),
    })
}

/// The value that a measure sums, over values clamped to the bounds that `schema` declares.
pub(crate) fn measured(of: &Scalar, schema: &Schema) -> Result<Expr> {
    scalar(of, Some(schema))
}

/// Halves rather than a chain: the depth stays logarithmic in the number of parts.
fn balanced(parts: &[Predicate], operator: Operator) -> Result<Option<Expr>> {
    match parts {
        [] => Ok(None),
        [part] => filter(part).map(Some),
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            let halves = balanced(left, operator)?.zip(balanced(right, operator)?);
            Ok(halves.map(|(left, right)| binary_expr(left, operator, right)))
        }
    }
}

fn scalar(scalar_: &Scalar, bounds: Option<&Schema>) -> Result<Expr> {
    match scalar_ {
        Scalar::Column(name) => column(name, bounds),
        Scalar::Literal(value) => Ok(literal(value)),
        Scalar::Arithmetic { left, operator, right } => {
            let operator = match operator {
                Arithmetic::Add => Operator::Plus,
                Arithmetic::Divide => Operator::Divide,
                Arithmetic::Multiply => Operator::Multiply,
                Arithmetic::Subtract => Operator::Minus,
            };
            Ok(FINITE.call(vec![binary_expr(scalar(left, bounds)?, operator, scalar(right, bounds)?)]))
        }
    }
}

fn column(name: &Name, bounds: Option<&Schema>) -> Result<Expr> {
    let recorded = ident(name.as_str());
    match bounds.and_then(|schema| schema.column(name)).and_then(|column| column.bounds) {
        None => Ok(recorded),
        Some(bounds) => {
            let [low, high] = bounds.map(|bound| lit(bound.to_f64()));
            // A missing value is neither below nor above, and stays missing.
            when(recorded.clone().lt(low.clone()), low)
                .when(recorded.clone().gt(high.clone()), high)
                .otherwise(recorded)
        }
    }
}

fn literal(value: &Value) -> Expr {
    match value {
        Value::Boolean(value) => lit(*value),
        Value::Number(value) => lit(value.to_f64()),
        Value::Text(value) => lit(value.as_str()),
    }
}

const fn comparison(operator: Comparison) -> Operator {
    match operator {
        Comparison::Equal => Operator::Eq,
        Comparison::Greater => Operator::Gt,
        Comparison::GreaterOrEqual => Operator::GtEq,
        Comparison::Less => Operator::Lt,
        Comparison::LessOrEqual => Operator::LtEq,
        Comparison::NotEqual => Operator::NotEq,
    }
}

/// `finite(x)`: x if it is finite, else missing; 0 for −0.
static FINITE: LazyLock<ScalarUDF> = LazyLock::new(|| {
    let kernel = Arc::new(finite);
    create_udf("finite", vec![DataType::Float64], DataType::Float64, Volatility::Immutable, kernel)
});

fn finite(arguments: &[ColumnarValue]) -> Result<ColumnarValue> {
    // −0 + 0 is 0 in IEEE 754 when rounding to nearest.
    let keep = |x: Option<f64>| x.filter(|x| x.is_finite()).map(|x| x + 0.0);
    match arguments {
        [ColumnarValue::Scalar(ScalarValue::Float64(x))] => Ok(ColumnarValue::Scalar(ScalarValue::Float64(keep(*x)))),
        [ColumnarValue::Array(array)] => {
            let kept: Float64Array = as_float64_array(array)?.iter().map(keep).collect();
            Ok(ColumnarValue::Array(Arc::new(kept)))
        }
        _ => exec_err!("finite takes one Float64"),
    }
}
