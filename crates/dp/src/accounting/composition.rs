//! Compositions as people write them down: JSON rows in, ε or δ and the method out.
//!
//! A row names a mechanism, its parameters, how often it is used, the neighbouring relation and the grid:
//!
//! ```
//! let rows = cohortium_dp::accounting::composition::parse(r#"{
//!     "mechanism": "poisson_gaussian", "params": {"q": 0.01, "noise_multiplier": 1.0}, "composition": 1000,
//!     "delta": 1e-5, "neighboring": "ADD_OR_REMOVE_ONE", "discretization": 1e-4}"#)?;
//! let report = rows[0].epsilon(1e-5)?;
//! assert!((report.epsilon - 1.82824).abs() < 1e-4);
//! # Ok::<(), cohortium_dp::accounting::composition::RowError>(())
//! ```
//!
//! A file is one row, an array of rows, an object with such an array under `pld`, or one composition of different
//! mechanisms: `"events": [row, …]`, or `"mechanism": "composed"` with `"params": {"events": [[name, parameters in
//! the order of the table, count], …]}`. Fields beside those (`id`, `note`, results) are ignored; parameters are not.
//!
//! Only Gaussian noise: the exact formula. A tree: Rényi. Everything else: privacy-loss distributions.
//!
//! Does not: decide whether a release may happen. Assumes that sampling, where stated, is Poisson and secret.

use core::fmt;
use std::collections::HashMap;

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::pld::{Composition, Grid, Pld, PldError, within};
use super::rdp::{RdpCurve, RdpError};
use super::{AddRemove, Adjacency, Replace, gaussian};

/// Most rows in a file.
pub const MAX_ROWS: usize = 10_000;
/// Most events in a row.
pub const MAX_EVENTS: usize = 100_000;
/// Most numbers in a list parameter.
const MAX_LIST: usize = 1000;
/// The custom, and what a row without `discretization` gets, nats.
const DEFAULT_INTERVAL: f64 = 1e-4;
/// The share of δ that cut-off tails may take in all.
const TAIL_SHARE: f64 = 1e-7;
/// A larger δ promises nothing.
const MAX_DELTA: f64 = 0.999_999;
/// A larger ε promises nothing.
const MAX_EPSILON: f64 = 1e9;
/// What cut-off tails may take in all where δ is what is asked for: below the smallest that anyone states.
const CURVE_TAIL: f64 = 1e-22;

/// One composition of mechanisms under one neighbouring relation.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The `id` of the row, else its place in the file.
    pub id: String,
    /// The row's own δ, if it states one.
    pub delta: Option<f64>,
    neighbours: Neighbours,
    interval: f64,
    events: Vec<Event>,
}

/// What was asked and answered.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// ε, infinite if there is none at this δ.
    pub epsilon: f64,
    /// δ.
    pub delta: f64,
    /// How it was computed.
    pub method: Method,
    /// The neighbouring relation.
    pub adjacency: Neighbours,
    /// Interval of the grid, nats; `None` where no grid was used.
    pub discretization: Option<f64>,
}

/// How a row is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Method {
    /// Exact (Balle and Wang 2018).
    #[serde(rename = "analytic Gaussian")]
    AnalyticGaussian,
    /// Upper bound, tight to the grid ([`super::pld`]).
    #[serde(rename = "privacy-loss distribution")]
    PrivacyLossDistribution,
    /// Upper bound ([`super::rdp`]).
    #[serde(rename = "Rényi")]
    Renyi,
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::AnalyticGaussian => "analytic Gaussian",
            Self::PrivacyLossDistribution => "privacy-loss distribution",
            Self::Renyi => "Rényi",
        })
    }
}

/// The neighbouring relation of a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Neighbours {
    /// A person is there or not.
    AddOrRemoveOne,
    /// A person is another.
    ReplaceOne,
    /// A person is there or counts as zero, or as a uniform answer in randomised response: the same distributions as adding
    /// or removing.
    ReplaceSpecial,
}

impl Neighbours {
    const NAMES: &str = "ADD_OR_REMOVE_ONE, REPLACE_ONE, REPLACE_SPECIAL, n/a";

    fn name(self) -> &'static str {
        match self {
            Self::AddOrRemoveOne => "ADD_OR_REMOVE_ONE",
            Self::ReplaceOne => "REPLACE_ONE",
            Self::ReplaceSpecial => "REPLACE_SPECIAL",
        }
    }
}

impl fmt::Display for Neighbours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Event {
    mechanism: Mechanism,
    count: u64,
}

/// A mechanism with its parameters; checked where the distribution is built.
#[derive(Clone, Debug, PartialEq)]
enum Mechanism {
    /// Gaussian noise on a Poisson sample; rate 1 is everybody.
    Gaussian {
        q: f64,
        noise: f64,
    },
    Laplace {
        q: f64,
        noise: f64,
    },
    DiscreteLaplace {
        parameter: f64,
        sensitivity: u32,
    },
    DiscreteGaussian {
        sigma: f64,
        sensitivity: u32,
        q: f64,
    },
    EpsilonDelta {
        epsilon: f64,
        delta: f64,
    },
    RandomizedResponse {
        noise: f64,
        buckets: u32,
    },
    MixtureGaussian {
        sigma: f64,
        sensitivities: Vec<f64>,
        probs: Vec<f64>,
    },
    Tree {
        noise: f64,
        step_counts: Vec<u64>,
    },
}

/// Names of mechanisms and of their parameters, in the order of the array form.
const SHAPES: [(&str, &[&str]); 10] = [
    ("gaussian", &["noise_multiplier"]),
    ("laplace", &["noise_multiplier"]),
    ("poisson_gaussian", &["q", "noise_multiplier"]),
    ("poisson_laplace", &["q", "noise_multiplier"]),
    ("discrete_laplace", &["parameter", "sensitivity"]),
    ("discrete_gaussian", &["sigma", "sensitivity", "sampling_prob"]),
    ("epsilon_delta", &["epsilon", "delta"]),
    ("randomized_response", &["noise_parameter", "num_buckets"]),
    ("mixture_gaussian", &["sigma", "sensitivities", "probs"]),
    ("single_epoch_tree_aggregation", &["noise_multiplier", "step_counts"]),
];

/// Why a row cannot be read or answered.
#[derive(Clone, Debug, PartialEq, Error)]
#[error("caller: row {row}: {problem}")]
pub struct RowError {
    /// Which row: its id, or its place counted from 0.
    pub row: String,
    /// What is wrong.
    pub problem: Problem,
}

/// What is wrong with a row.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Problem {
    /// Not JSON.
    #[error("not JSON at line {line}, column {column}")]
    Json {
        /// Line, from 1.
        line: usize,
        /// Column, from 1.
        column: usize,
    },
    /// The shape is none of those in the module text.
    #[error("expected {expected}")]
    Shape {
        /// What should stand there.
        expected: &'static str,
    },
    /// A mechanism that is not known.
    #[error("mechanism {name:?} is none of {}", Names)]
    Mechanism {
        /// The name given, cut to 40 characters.
        name: String,
    },
    /// A field is missing or has the wrong type.
    #[error("field {field:?} must be {allowed}")]
    Field {
        /// Which.
        field: &'static str,
        /// What may stand there.
        allowed: &'static str,
    },
    /// A parameter that the mechanism does not have.
    #[error("parameter {name:?} is unknown to {mechanism}, which has {}", .allowed.join(", "))]
    Unknown {
        /// The parameter, cut to 40 characters.
        name: String,
        /// The mechanism.
        mechanism: &'static str,
        /// Its parameters.
        allowed: &'static [&'static str],
    },
    /// A limit.
    #[error("more than {limit} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are allowed.
        limit: usize,
    },
    /// No distribution is proven for the mechanism under this relation.
    #[error("{mechanism} is not defined under {}; use {allowed}", .neighbours.name())]
    Undefined {
        /// The mechanism.
        mechanism: &'static str,
        /// The relation of the row.
        neighbours: Neighbours,
        /// Relations under which it is.
        allowed: &'static str,
    },
    /// A tree beside other mechanisms.
    #[error("single_epoch_tree_aggregation cannot be mixed with other mechanisms")]
    MixedTree,
    /// Noise for a target is only defined where one mechanism has a noise parameter.
    #[error("noise can be scaled only where exactly one event has noise_multiplier or sigma")]
    NoNoise,
    /// No noise in range meets the target.
    #[error("no noise from 1e-6 to 1e9 times the row's meets epsilon = {epsilon} at delta = {delta}")]
    OutOfReach {
        /// Target.
        epsilon: f64,
        /// Target.
        delta: f64,
    },
    /// From the distributions.
    #[error(transparent)]
    Pld(#[from] PldError),
    /// From the Rényi curves.
    #[error(transparent)]
    Rdp(#[from] RdpError),
}

/// The names of all mechanisms, for messages.
struct Names;

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        SHAPES.iter().try_for_each(|(name, _)| write!(f, "{name}, "))?;
        f.write_str("composed")
    }
}

/// Reads a file of rows; see the module text for the shapes.
///
/// # Errors
/// [`RowError`] naming the row, the field and what is allowed. Limits: [`MAX_ROWS`], [`MAX_EVENTS`].
pub fn parse(json: &str) -> Result<Vec<Row>, RowError> {
    let in_file = |problem| RowError { row: "(file)".to_owned(), problem };
    let not_json = |e: serde_json::Error| in_file(Problem::Json { line: e.line(), column: e.column() });
    let value: Value = serde_json::from_str(json).map_err(not_json)?;
    let rows = match &value {
        Value::Array(rows) => rows.as_slice(),
        Value::Object(object) => match object.get("pld") {
            Some(Value::Array(rows)) => rows.as_slice(),
            Some(_) => return Err(in_file(Problem::Field { field: "pld", allowed: "an array of rows" })),
            None => core::slice::from_ref(&value),
        },
        _ => {
            return Err(in_file(Problem::Shape {
                expected: "a row, an array of rows, or an object with pld or events",
            }));
        }
    };
    if rows.len() > MAX_ROWS {
        return Err(in_file(Problem::TooMany { what: "rows", limit: MAX_ROWS }));
    }
    rows.iter().enumerate().map(|(place, row)| parse_row(place, row)).collect()
}

fn parse_row(place: usize, value: &Value) -> Result<Row, RowError> {
    let id = value.get("id").and_then(Value::as_str).map_or_else(|| format!("#{place}"), cut);
    let read = || {
        let Value::Object(object) = value else {
            return Err(Problem::Shape { expected: "an object with mechanism or events" });
        };
        let events = read_events(object)?;
        if events.len() > MAX_EVENTS {
            return Err(Problem::TooMany { what: "events", limit: MAX_EVENTS });
        }
        let neighbours = match object.get("neighboring") {
            None => inherited(object)?,
            Some(value) => read_neighbours(value)?,
        };
        let interval = optional_number(object, "discretization")?.unwrap_or(DEFAULT_INTERVAL);
        Grid::new(interval)?;
        let delta = optional_number(object, "delta")?;
        let neighbours = neighbours.unwrap_or_else(|| default_neighbours(&events));
        Ok(Row { id: id.clone(), delta, neighbours, interval, events })
    };
    read().map_err(|problem| RowError { row: id.clone(), problem })
}

/// The mechanisms of a row with their counts, before equal ones are merged.
fn read_events(object: &Map<String, Value>) -> Result<Vec<Event>, Problem> {
    let repeat = optional_count(object, "composition")?.unwrap_or(1);
    let empty = Map::new();
    let mut events = Vec::new();
    if let Some(list) = object.get("events") {
        let Value::Array(list) = list else {
            return Err(Problem::Field {
                field: "events",
                allowed: "an array of rows or of [name, parameters…, count]",
            });
        };
        // Which of both is meant would be a guess, and the cheaper guess would be wrong.
        if object.get("mechanism").is_some_and(|name| name != "composed") {
            return Err(Problem::Field { field: "mechanism", allowed: "absent or composed where there are events" });
        }
        if object.contains_key("params") {
            return Err(Problem::Field { field: "params", allowed: "absent where there are events" });
        }
        for entry in list.iter().take(MAX_EVENTS + 1) {
            match entry {
                Value::Array(items) => events.push(read_positional(items)?),
                // A row inside of a row has no events of its own.
                Value::Object(row) if !row.contains_key("events") => {
                    events.extend(read_events(row)?);
                    let (outer, inner) = (object.get("neighboring"), row.get("neighboring"));
                    if let (Some(outer), Some(inner)) = (outer, inner)
                        && read_neighbours(inner)?.is_some_and(|inner| read_neighbours(outer) != Ok(Some(inner)))
                    {
                        return Err(Problem::Field { field: "neighboring", allowed: "the same in all events" });
                    }
                }
                _ => return Err(Problem::Shape { expected: "an event: a row without events, or an array" }),
            }
        }
    } else {
        let params = match object.get("params") {
            None => &empty,
            Some(Value::Object(params)) => params,
            Some(_) => return Err(Problem::Field { field: "params", allowed: "an object" }),
        };
        let Some(Value::String(name)) = object.get("mechanism") else {
            return Err(Problem::Field { field: "mechanism", allowed: "the name of a mechanism" });
        };
        if name == "composed" {
            let Some(Value::Array(list)) = params.get("events") else {
                return Err(Problem::Field {
                    field: "params.events",
                    allowed: "an array of [name, parameters…, count]",
                });
            };
            if let Some(name) = params.keys().find(|key| *key != "events") {
                return Err(Problem::Unknown { name: cut(name), mechanism: "composed", allowed: &["events"] });
            }
            for entry in list.iter().take(MAX_EVENTS + 1) {
                let Value::Array(items) = entry else {
                    return Err(Problem::Shape { expected: "[name, parameters…, count]" });
                };
                events.push(read_positional(items)?);
            }
        } else {
            events.push(read_named(name, params)?);
            // One more step of the same mechanism with other parameters, as often as stated there.
            let mut next = params.get("then");
            while let Some(then) = next {
                let Value::Object(params) = then else {
                    return Err(Problem::Field { field: "then", allowed: "parameters of the same mechanism" });
                };
                events.push(read_named(name, params)?);
                next = params.get("then");
            }
        }
    }
    for event in &mut events {
        event.count = event.count.checked_mul(repeat).ok_or(PldError::Compositions)?;
    }
    Ok(events)
}

/// `[name, parameters in the order of the table…, count]`.
fn read_positional(items: &[Value]) -> Result<Event, Problem> {
    let [Value::String(name), parameters @ .., count] = items else {
        return Err(Problem::Shape { expected: "[name, parameters…, count]" });
    };
    let (_, names) = shape(name)?;
    if names.len() != parameters.len() {
        return Err(Problem::Shape { expected: "as many parameters between name and count as the mechanism has" });
    }
    let mut params: Map<String, Value> =
        names.iter().zip(parameters).map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    params.insert("count".to_owned(), count.clone());
    read_named(name, &params)
}

fn shape(name: &str) -> Result<(&'static str, &'static [&'static str]), Problem> {
    let known = SHAPES.iter().find(|(known, _)| *known == name);
    known.copied().ok_or_else(|| Problem::Mechanism { name: cut(name) })
}

fn read_named(name: &str, params: &Map<String, Value>) -> Result<Event, Problem> {
    let (mechanism, allowed) = shape(name)?;
    let unknown = params.keys().find(|key| !allowed.contains(&key.as_str()) && *key != "count" && *key != "then");
    if let Some(name) = unknown {
        return Err(Problem::Unknown { name: cut(name), mechanism, allowed });
    }
    let count = optional_count(params, "count")?.unwrap_or(1);
    let number = |field| optional_number(params, field)?.ok_or(Problem::Field { field, allowed: "a number" });
    let integer = |field| {
        let value = params.get(field).and_then(Value::as_u64).and_then(|v| u32::try_from(v).ok());
        value.ok_or(Problem::Field { field, allowed: "a positive integer below 2^32" })
    };
    let mechanism = match mechanism {
        "gaussian" => Mechanism::Gaussian { q: 1.0, noise: number("noise_multiplier")? },
        "laplace" => Mechanism::Laplace { q: 1.0, noise: number("noise_multiplier")? },
        "poisson_gaussian" => Mechanism::Gaussian { q: number("q")?, noise: number("noise_multiplier")? },
        "poisson_laplace" => Mechanism::Laplace { q: number("q")?, noise: number("noise_multiplier")? },
        "discrete_laplace" => {
            Mechanism::DiscreteLaplace { parameter: number("parameter")?, sensitivity: integer("sensitivity")? }
        }
        "discrete_gaussian" => Mechanism::DiscreteGaussian {
            sigma: number("sigma")?,
            sensitivity: integer("sensitivity")?,
            q: number("sampling_prob")?,
        },
        "epsilon_delta" => Mechanism::EpsilonDelta { epsilon: number("epsilon")?, delta: number("delta")? },
        "randomized_response" => {
            Mechanism::RandomizedResponse { noise: number("noise_parameter")?, buckets: integer("num_buckets")? }
        }
        "mixture_gaussian" => Mechanism::MixtureGaussian {
            sigma: number("sigma")?,
            sensitivities: list(params, "sensitivities", Value::as_f64)?,
            probs: list(params, "probs", Value::as_f64)?,
        },
        _ => Mechanism::Tree {
            noise: number("noise_multiplier")?,
            step_counts: list(params, "step_counts", Value::as_u64)?,
        },
    };
    Ok(Event { mechanism, count })
}

fn list<T>(params: &Map<String, Value>, field: &'static str, read: fn(&Value) -> Option<T>) -> Result<Vec<T>, Problem> {
    let values = params.get(field).and_then(Value::as_array).filter(|values| values.len() <= MAX_LIST);
    let values = values.and_then(|values| values.iter().map(read).collect());
    values.ok_or(Problem::Field { field, allowed: "an array of at most 1000 numbers" })
}

fn optional_number(object: &Map<String, Value>, field: &'static str) -> Result<Option<f64>, Problem> {
    let number = |value: &Value| value.as_f64().ok_or(Problem::Field { field, allowed: "a number" });
    object.get(field).map(number).transpose()
}

fn optional_count(object: &Map<String, Value>, field: &'static str) -> Result<Option<u64>, Problem> {
    let number = |value: &Value| value.as_u64().ok_or(Problem::Field { field, allowed: "a count: 0, 1, 2, …" });
    object.get(field).map(number).transpose()
}

/// `None` for "n/a", which is allowed where the relation does not matter.
fn read_neighbours(value: &Value) -> Result<Option<Neighbours>, Problem> {
    match value.as_str() {
        Some("ADD_OR_REMOVE_ONE") => Ok(Some(Neighbours::AddOrRemoveOne)),
        Some("REPLACE_ONE") => Ok(Some(Neighbours::ReplaceOne)),
        Some("REPLACE_SPECIAL") => Ok(Some(Neighbours::ReplaceSpecial)),
        Some("n/a") => Ok(None),
        _ => Err(Problem::Field { field: "neighboring", allowed: Neighbours::NAMES }),
    }
}

/// The relation of the first event that states one.
fn inherited(object: &Map<String, Value>) -> Result<Option<Neighbours>, Problem> {
    let events = object.get("events").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let mut stated = None;
    for value in events.iter().filter_map(|event| event.get("neighboring")) {
        let here = read_neighbours(value)?;
        if stated.is_some() && here.is_some() && stated != here {
            return Err(Problem::Field { field: "neighboring", allowed: "the same in all events" });
        }
        stated = stated.or(here);
    }
    Ok(stated)
}

/// Where nothing is stated: adding or removing, unless a mechanism only knows replacing.
fn default_neighbours(events: &[Event]) -> Neighbours {
    let replace = |event: &Event| matches!(event.mechanism, Mechanism::RandomizedResponse { .. });
    let tree = |event: &Event| matches!(event.mechanism, Mechanism::Tree { .. });
    match events {
        events if events.iter().any(replace) => Neighbours::ReplaceOne,
        events if events.iter().any(tree) => Neighbours::ReplaceSpecial,
        _ => Neighbours::AddOrRemoveOne,
    }
}

/// The answer to a question about one number.
fn first(answers: &[f64]) -> f64 {
    answers.first().copied().unwrap_or(f64::INFINITY)
}

/// At most 40 characters, none of which breaks the line or changes its direction, so that a message stays a line.
fn cut(text: &str) -> String {
    let breaks = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    text.chars().take(40).map(|c| if breaks(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

impl Row {
    /// The neighbouring relation.
    pub fn neighbours(&self) -> Neighbours {
        self.neighbours
    }

    /// How this row is answered.
    pub fn method(&self) -> Method {
        let is_gaussian = |event: &Event| matches!(event.mechanism, Mechanism::Gaussian { q, .. } if q == 1.0);
        if self.events.iter().any(|event| matches!(event.mechanism, Mechanism::Tree { .. })) {
            Method::Renyi
        } else if self.events.iter().all(is_gaussian) {
            Method::AnalyticGaussian
        } else {
            Method::PrivacyLossDistribution
        }
    }

    /// The smallest ε at a δ.
    ///
    /// Promise: given mechanisms and counts fixed beforehand, returns an ε for which their composition is
    /// (ε, δ)-private under the row's relation; never less. Exact for Gaussian noise, else as
    /// [`Composition::epsilon`] or [`RdpCurve::epsilon`].
    ///
    /// # Errors
    /// [`RowError`]: a parameter out of range, a mechanism undefined under the relation, or a grid too fine.
    pub fn epsilon(&self, delta: f64) -> Result<Report, RowError> {
        let answer = || {
            within("delta", delta, super::pld::MIN_DELTA, MAX_DELTA)?;
            self.ask_under(TAIL_SHARE * delta / self.total(), &Question::Epsilon { delta })
        };
        let epsilon = answer().map_err(|problem| self.error(problem))?;
        Ok(self.report(first(&epsilon), delta))
    }

    /// δ at an ε ≥ 0.
    ///
    /// Promise: as [`Row::epsilon`].
    ///
    /// # Errors
    /// As [`Row::epsilon`].
    pub fn delta(&self, epsilon: f64) -> Result<Report, RowError> {
        Ok(self.report(epsilon, first(&self.profile(&[epsilon])?)))
    }

    /// δ at each of these ε ≥ 0, for curves; much faster than one by one. Rising or falling order is fastest.
    ///
    /// Promise: as [`Row::epsilon`].
    ///
    /// # Errors
    /// As [`Row::epsilon`].
    pub fn profile(&self, epsilons: &[f64]) -> Result<Vec<f64>, RowError> {
        let answer = || {
            epsilons.iter().try_for_each(|epsilon| within("epsilon", *epsilon, 0.0, MAX_EPSILON))?;
            self.ask_under(CURVE_TAIL / self.total(), &Question::Deltas { epsilons })
        };
        answer().map_err(|problem| self.error(problem))
    }

    /// The noise parameter (`noise_multiplier` or `sigma`) of the one event that has one, for which the row reaches
    /// `epsilon` at `delta`: at most a relative 1e-6 above the smallest.
    ///
    /// Promise: given the row, returns a noise at which [`Row::epsilon`] was computed to be at most `epsilon`.
    ///
    /// # Errors
    /// [`RowError`] with [`Problem::NoNoise`] unless exactly one event has such a parameter, with
    /// [`Problem::OutOfReach`] if nothing is enough, or as [`Row::epsilon`].
    pub fn noise_for(&self, epsilon: f64, delta: f64) -> Result<f64, RowError> {
        within("epsilon", epsilon, 1e-9, 1e9).map_err(|e| self.error(e.into()))?;
        let mut row = self.clone();
        let mut noises = self.events.iter().filter_map(|event| event.mechanism.noise());
        let (Some(given), None) = (noises.next(), noises.next()) else {
            return Err(self.error(Problem::NoNoise));
        };
        within("noise_multiplier or sigma", given, 1e-6, 1e12).map_err(|e| self.error(e.into()))?;
        let mut enough = |noise: f64| {
            row.events.iter_mut().for_each(|event| event.mechanism.set_noise(noise));
            match row.epsilon(delta) {
                Ok(report) => Ok(report.epsilon <= epsilon),
                // Too little noise spreads losses over more cells than fit.
                Err(RowError { problem: Problem::Pld(PldError::TooWide { .. }), .. }) => Ok(false),
                Err(error) => Err(error),
            }
        };
        // First a bracket by doublings, then halvings of its logarithm.
        let out_of_reach = || self.error(Problem::OutOfReach { epsilon, delta });
        let (mut bad, mut good) = (given, given);
        if enough(given)? {
            while enough(0.5 * bad)? {
                bad *= 0.5;
                good = bad;
                if bad < 1e-6 * given {
                    return Ok(good);
                }
            }
            bad *= 0.5;
        } else {
            while !enough(2.0 * good)? {
                good *= 2.0;
                bad = good;
                if good > 1e9 * given {
                    return Err(out_of_reach());
                }
            }
            good *= 2.0;
        }
        while good / bad > 1.0 + 1e-6 {
            let middle = (good * bad).sqrt();
            if enough(middle)? { good = middle } else { bad = middle }
        }
        Ok(good)
    }

    fn total(&self) -> f64 {
        self.events.iter().map(|event| event.count as f64).sum::<f64>().max(1.0)
    }

    fn error(&self, problem: Problem) -> RowError {
        RowError { row: self.id.clone(), problem }
    }

    fn report(&self, epsilon: f64, delta: f64) -> Report {
        let method = self.method();
        let discretization = (method == Method::PrivacyLossDistribution).then_some(self.interval);
        Report { epsilon, delta, method, adjacency: self.neighbours, discretization }
    }

    fn ask_under(&self, tail: f64, question: &Question<'_>) -> Result<Vec<f64>, Problem> {
        match self.neighbours {
            Neighbours::ReplaceOne => self.ask::<Replace>(tail, question),
            Neighbours::AddOrRemoveOne | Neighbours::ReplaceSpecial => self.ask::<AddRemove>(tail, question),
        }
    }

    /// One number for each that is asked about.
    fn ask<A: Build>(&self, tail: f64, question: &Question<'_>) -> Result<Vec<f64>, Problem> {
        if self.method() == Method::Renyi {
            return self.ask_renyi(question);
        }
        let (mu_squared, rest) = self.merged()?;
        if rest.is_empty() {
            let mu = A::SENSITIVITY * mu_squared.sqrt();
            return Ok(match *question {
                Question::Epsilon { delta } => vec![gaussian::epsilon(delta, mu)],
                Question::Deltas { epsilons } => epsilons.iter().map(|epsilon| gaussian::delta(*epsilon, mu)).collect(),
            });
        }
        let grid = Grid::new(self.interval)?.with_tail(tail);
        let mut composition = Composition::<A>::new(grid);
        if mu_squared > 0.0 {
            composition.add(&A::gaussian(grid, 1.0, mu_squared.sqrt().recip())?, 1)?;
        }
        for (mechanism, count) in rest {
            composition.add(&A::pld(grid, mechanism, self.neighbours)?, count)?;
        }
        Ok(match *question {
            Question::Epsilon { delta } => vec![composition.epsilon(delta)?],
            Question::Deltas { epsilons } => {
                composition.profile(epsilons.iter().copied()).collect::<Result<Vec<_>, _>>()?
            }
        })
    }

    /// Σ (1/σ)² over unsampled Gaussians, which are one Gaussian together, and the others, equal ones once.
    fn merged(&self) -> Result<Merged<'_>, Problem> {
        let mut mu_squared = 0.0;
        let mut rest: Vec<(&Mechanism, u64)> = Vec::new();
        let mut places: HashMap<String, usize> = HashMap::new();
        for Event { mechanism, count } in self.events.iter().filter(|event| event.count > 0) {
            match mechanism {
                Mechanism::Gaussian { q, noise } if *q == 1.0 => {
                    within("noise_multiplier", *noise, 1e-6, 1e12)?;
                    mu_squared += *count as f64 / (noise * noise);
                }
                _ => {
                    let place = *places.entry(format!("{mechanism:?}")).or_insert(rest.len());
                    match rest.get_mut(place) {
                        Some((_, sum)) => *sum = sum.checked_add(*count).ok_or(PldError::Compositions)?,
                        None => rest.push((mechanism, *count)),
                    }
                }
            }
        }
        Ok((mu_squared, rest))
    }

    fn ask_renyi(&self, question: &Question<'_>) -> Result<Vec<f64>, Problem> {
        let [Event { mechanism: Mechanism::Tree { noise, step_counts }, count }] = self.events.as_slice() else {
            return Err(Problem::MixedTree);
        };
        if self.neighbours != Neighbours::ReplaceSpecial {
            return Err(Problem::Undefined {
                mechanism: "single_epoch_tree_aggregation",
                neighbours: self.neighbours,
                allowed: "REPLACE_SPECIAL",
            });
        }
        let curve = RdpCurve::<Replace>::gaussian_tree(*noise, step_counts)?.repeat(*count)?;
        Ok(match *question {
            Question::Epsilon { delta } => vec![curve.epsilon(delta)?],
            Question::Deltas { epsilons } => {
                epsilons.iter().map(|epsilon| curve.delta(*epsilon)).collect::<Result<Vec<_>, _>>()?
            }
        })
    }
}

/// Σ (1/σ)² of the unsampled Gaussians, and the other mechanisms with their counts.
type Merged<'a> = (f64, Vec<(&'a Mechanism, u64)>);

enum Question<'a> {
    /// ε at this δ.
    Epsilon { delta: f64 },
    /// δ at each of these ε.
    Deltas { epsilons: &'a [f64] },
}

impl Mechanism {
    fn noise(&self) -> Option<f64> {
        match self {
            Self::Gaussian { noise, .. } | Self::Laplace { noise, .. } | Self::Tree { noise, .. } => Some(*noise),
            Self::DiscreteGaussian { sigma, .. } | Self::MixtureGaussian { sigma, .. } => Some(*sigma),
            Self::DiscreteLaplace { .. } | Self::EpsilonDelta { .. } | Self::RandomizedResponse { .. } => None,
        }
    }

    fn set_noise(&mut self, value: f64) {
        match self {
            Self::Gaussian { noise, .. } | Self::Laplace { noise, .. } | Self::Tree { noise, .. } => *noise = value,
            Self::DiscreteGaussian { sigma, .. } | Self::MixtureGaussian { sigma, .. } => *sigma = value,
            Self::DiscreteLaplace { .. } | Self::EpsilonDelta { .. } | Self::RandomizedResponse { .. } => {}
        }
    }
}

/// What differs between the relations: which mechanisms have a distribution.
trait Build: Adjacency {
    /// The largest influence of a neighbour, in sensitivities of one person being there.
    const SENSITIVITY: f64;
    fn gaussian(grid: Grid, q: f64, noise: f64) -> Result<Pld<Self>, PldError>;
    fn pld(grid: Grid, mechanism: &Mechanism, neighbours: Neighbours) -> Result<Pld<Self>, Problem>;
}

impl Build for AddRemove {
    const SENSITIVITY: f64 = 1.0;

    fn gaussian(grid: Grid, q: f64, noise: f64) -> Result<Pld<Self>, PldError> {
        Pld::<Self>::sampled_gaussian(grid, q, noise)
    }

    fn pld(grid: Grid, mechanism: &Mechanism, neighbours: Neighbours) -> Result<Pld<Self>, Problem> {
        Ok(match mechanism {
            Mechanism::Gaussian { q, noise } => Self::gaussian(grid, *q, *noise)?,
            Mechanism::Laplace { q, noise } => Pld::sampled_laplace(grid, *q, *noise)?,
            Mechanism::DiscreteLaplace { parameter, sensitivity } => {
                Pld::discrete_laplace(grid, *parameter, *sensitivity)?
            }
            Mechanism::DiscreteGaussian { sigma, sensitivity, q } => {
                Pld::discrete_gaussian(grid, *sigma, *sensitivity, *q)?
            }
            Mechanism::EpsilonDelta { epsilon, delta } => Pld::epsilon_delta(grid, *epsilon, *delta)?,
            Mechanism::MixtureGaussian { sigma, sensitivities, probs } => {
                Pld::mixture_gaussian(grid, *sigma, sensitivities, probs)?
            }
            Mechanism::RandomizedResponse { noise, buckets } if neighbours == Neighbours::ReplaceSpecial => {
                Pld::<Self>::randomized_response(grid, *noise, *buckets)?
            }
            Mechanism::RandomizedResponse { .. } => {
                return Err(Problem::Undefined {
                    mechanism: "randomized_response",
                    neighbours,
                    allowed: "REPLACE_ONE or REPLACE_SPECIAL",
                });
            }
            Mechanism::Tree { .. } => return Err(Problem::MixedTree),
        })
    }
}

impl Build for Replace {
    const SENSITIVITY: f64 = 2.0;

    fn gaussian(grid: Grid, q: f64, noise: f64) -> Result<Pld<Self>, PldError> {
        Pld::<Self>::sampled_gaussian(grid, q, noise)
    }

    fn pld(grid: Grid, mechanism: &Mechanism, neighbours: Neighbours) -> Result<Pld<Self>, Problem> {
        let undefined = |mechanism| {
            let allowed = "ADD_OR_REMOVE_ONE or REPLACE_SPECIAL";
            Err(Problem::Undefined { mechanism, neighbours, allowed })
        };
        match mechanism {
            Mechanism::Gaussian { q, noise } => Ok(Self::gaussian(grid, *q, *noise)?),
            Mechanism::EpsilonDelta { epsilon, delta } => Ok(Pld::epsilon_delta(grid, *epsilon, *delta)?),
            Mechanism::RandomizedResponse { noise, buckets } => {
                Ok(Pld::<Self>::randomized_response(grid, *noise, *buckets)?)
            }
            Mechanism::Laplace { .. } => undefined("laplace"),
            Mechanism::DiscreteLaplace { .. } => undefined("discrete_laplace"),
            Mechanism::DiscreteGaussian { .. } => undefined("discrete_gaussian"),
            Mechanism::MixtureGaussian { .. } => undefined("mixture_gaussian"),
            Mechanism::Tree { .. } => Err(Problem::MixedTree),
        }
    }
}
