//! `cohortium dp`: a calculator for people who plan or check what a composition of mechanisms costs.
//!
//! Reads the JSON rows of [`composition`], asks the library, and prints. Nothing here touches a home, a hub or an account.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use cohortium_dp::accounting::composition::{self, Method, Neighbours, Report, Row};
use cohortium_dp::accounting::tradeoff;
use serde::Serialize;

use crate::output::{Failure, Output, table};
use crate::picture::{self, Line};

/// Longest file that is read, in bytes: a hundred thousand events fit.
const MAX_FILE_BYTES: u64 = 16 << 20;
/// Most points of a curve.
const MAX_POINTS: u16 = 1000;
/// δ at which a curve ends: below, nobody reads it.
const CURVE_DELTA: f64 = 1e-10;

#[derive(Subcommand)]
pub enum Command {
    /// ε of each composition in a file, at a δ
    Epsilon {
        #[command(flatten)]
        input: Input,
        /// δ, instead of what the rows say
        #[arg(long, allow_negative_numbers = true)]
        delta: Option<f64>,
    },
    /// δ of each composition in a file, at an ε
    Delta {
        #[command(flatten)]
        input: Input,
        /// ε
        #[arg(long, allow_negative_numbers = true)]
        epsilon: f64,
    },
    /// How much noise each composition needs to reach an ε at a δ
    ///
    /// Scales the one noise parameter (noise_multiplier or sigma) of each row.
    Sigma {
        #[command(flatten)]
        input: Input,
        /// ε
        #[arg(long, allow_negative_numbers = true)]
        epsilon: f64,
        /// δ, instead of what the rows say
        #[arg(long, allow_negative_numbers = true)]
        delta: Option<f64>,
    },
    /// The whole curve of each composition: δ over ε, and what that means for whoever guesses
    Curve {
        #[command(flatten)]
        input: Input,
        /// How many points of each
        #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u16).range(2..=i64::from(MAX_POINTS)))]
        points: u16,
        /// Also draw a picture into this file
        #[arg(long, value_name = "FILE")]
        svg: Option<PathBuf>,
    },
}

/// Which compositions.
#[derive(Args)]
pub struct Input {
    /// JSON: one row, several, or one composition of different mechanisms; - reads standard input
    file: PathBuf,
    /// Only the row with this id; may be repeated
    #[arg(long = "row", value_name = "ID")]
    rows: Vec<String>,
}

/// One row's answer.
#[derive(Serialize)]
struct Answer {
    id: String,
    #[serde(flatten)]
    report: Report,
}

/// The noise that a row needs.
#[derive(Serialize)]
struct Noise {
    adjacency: Neighbours,
    delta: f64,
    /// The target, which this noise does not exceed.
    epsilon: f64,
    id: String,
    method: Method,
    /// The noise parameter (noise_multiplier or sigma).
    noise: f64,
}

/// A row's curve.
#[derive(Serialize)]
struct Curve {
    id: String,
    method: Method,
    profile: Vec<Point>,
    trade_off: Vec<Errors>,
}

/// A point of a privacy profile.
#[derive(Clone, Copy, Serialize)]
struct Point {
    epsilon: f64,
    delta: f64,
}

/// A point of a trade-off curve.
#[derive(Clone, Copy, Serialize)]
struct Errors {
    false_alarms: f64,
    misses_at_best: f64,
}

pub fn run(command: &Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Epsilon { input, delta } => {
            let ask = |row: &Row| row.epsilon(delta_of(row, *delta)?).map_err(refused);
            answers(input, output, ask)
        }
        Command::Delta { input, epsilon } => answers(input, output, |row| row.delta(*epsilon).map_err(refused)),
        Command::Sigma { input, epsilon, delta } => noises(input, *epsilon, *delta, output),
        Command::Curve { input, points, svg } => curves(input, usize::from(*points), svg.as_deref(), output),
    }
}

fn answers(input: &Input, output: &Output, ask: impl Fn(&Row) -> Result<Report, Failure>) -> Result<(), Failure> {
    let rows = read(input)?;
    let working = output.progress("computing");
    let answers = rows.iter().map(|row| Ok(Answer { id: row.id.clone(), report: ask(row)? }));
    let answers = answers.collect::<Result<Vec<_>, Failure>>()?;
    drop(working);
    output.result(&serde_json::json!({ "rows": answers }), || {
        let rows = answers.iter().map(|Answer { id, report }| [vec![shown_id(id)], cells(report)].concat());
        table(&["row", "ε", "δ", "method", "neighbours"], rows)
    })
}

fn noises(input: &Input, epsilon: f64, delta: Option<f64>, output: &Output) -> Result<(), Failure> {
    let rows = read(input)?;
    let working = output.progress("searching");
    let search = |row: &Row| {
        let delta = delta_of(row, delta)?;
        let noise = row.noise_for(epsilon, delta).map_err(refused)?;
        Ok(Noise { adjacency: row.neighbours(), delta, epsilon, id: row.id.clone(), method: row.method(), noise })
    };
    let noises = rows.iter().map(search).collect::<Result<Vec<_>, Failure>>()?;
    drop(working);
    output.result(&serde_json::json!({ "rows": noises }), || {
        let rows = noises.iter().map(|row| {
            // Rounded up: less would miss the target.
            let noise = format!("{:.6}", (row.noise * 1e6).ceil() / 1e6);
            let (method, adjacency) = (row.method.to_string(), row.adjacency.to_string());
            vec![shown_id(&row.id), noise, row.epsilon.to_string(), format!("{:.4e}", row.delta), method, adjacency]
        });
        table(&["row", "noise", "ε", "δ", "method", "neighbours"], rows)
    })
}

fn curves(input: &Input, points: usize, svg: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let rows = read(input)?;
    if svg.is_some() && rows.len() > picture::MAX_LINES {
        let most = picture::MAX_LINES;
        return Err(Failure::usage(format!("a picture shows at most {most} rows: choose them with --row ID")));
    }
    let working = output.progress("computing");
    let curves = rows.iter().map(|row| curve(row, points)).collect::<Result<Vec<_>, Failure>>()?;
    drop(working);
    if let Some(file) = svg {
        let text = picture::privacy_curves(&profiles(&curves), &trade_offs(&curves))?;
        std::fs::write(file, text)
            .map_err(|error| Failure::usage(format!("{} cannot be written: {error}", file.display())))?;
    }
    output.result(&serde_json::json!({ "rows": curves }), || {
        let points = curves.iter().flat_map(|curve| curve.profile.iter().map(move |point| (curve, point)));
        let rows = points.map(|(curve, Point { epsilon, delta })| {
            vec![shown_id(&curve.id), format!("{epsilon:.6}"), format!("{delta:.4e}")]
        });
        let drawn = svg.map_or_else(String::new, |file| format!("\n\nPicture: {}", file.display()));
        table(&["row", "ε", "δ"], rows) + &drawn
    })
}

/// Equal steps of ε, from 0 to where δ is below what anyone reads.
fn curve(row: &Row, points: usize) -> Result<Curve, Failure> {
    let last = row.epsilon(CURVE_DELTA).map_err(refused)?.epsilon;
    if !last.is_finite() {
        return Err(Failure::usage(format!("row {}: no ε reaches δ = {CURVE_DELTA:e}, so there is no curve", row.id)));
    }
    let epsilons: Vec<f64> = (0..points).map(|i| last * i as f64 / (points - 1) as f64).collect();
    let deltas = row.profile(&epsilons).map_err(refused)?;
    let profile: Vec<Point> =
        epsilons.into_iter().zip(deltas).map(|(epsilon, delta)| Point { epsilon, delta }).collect();
    // δ falls with ε: what holds at a point holds at every larger ε.
    let upper_bound = |epsilon: f64| {
        let below = profile.iter().take_while(|point| point.epsilon <= epsilon).last();
        below.map_or(1.0, |point| point.delta)
    };
    let trade_off = tradeoff::points(|alpha| tradeoff::type_two_error(upper_bound, alpha), points);
    let trade_off = trade_off.iter().map(|p| Errors { false_alarms: p.type_one, misses_at_best: p.type_two }).collect();
    Ok(Curve { id: row.id.clone(), method: row.method(), profile, trade_off })
}

fn profiles(curves: &[Curve]) -> Vec<Line> {
    let points = |curve: &Curve| curve.profile.iter().map(|point| (point.epsilon, point.delta)).collect();
    curves.iter().map(|curve| Line { name: shown_id(&curve.id), points: points(curve) }).collect()
}

fn trade_offs(curves: &[Curve]) -> Vec<Line> {
    let points = |curve: &Curve| curve.trade_off.iter().map(|p| (p.false_alarms, p.misses_at_best)).collect();
    curves.iter().map(|curve| Line { name: shown_id(&curve.id), points: points(curve) }).collect()
}

/// The rows of a file that were asked for.
fn read(input: &Input) -> Result<Vec<Row>, Failure> {
    let shown = input.file.display();
    let unreadable = |error: std::io::Error| Failure::usage(format!("{shown} cannot be read: {error}"));
    let reader: Box<dyn std::io::Read> = if input.file.as_os_str() == "-" {
        Box::new(std::io::stdin())
    } else {
        Box::new(std::fs::File::open(&input.file).map_err(unreadable)?)
    };
    let mut bytes = Vec::new();
    reader.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(Failure::usage(format!("{shown} is longer than {} MiB", MAX_FILE_BYTES >> 20)));
    }
    let text = String::from_utf8(bytes).map_err(|_| Failure::usage(format!("{shown} is not UTF-8 text")))?;
    let mut rows = composition::parse(&text).map_err(refused)?;
    if rows.is_empty() {
        return Err(Failure::usage(format!("{shown} has no rows")));
    }
    if let Some(missing) = input.rows.iter().find(|id| !rows.iter().any(|row| row.id == **id)) {
        return Err(Failure::usage(format!("{shown} has no row {missing}")));
    }
    if !input.rows.is_empty() {
        rows.retain(|row| input.rows.contains(&row.id));
    }
    Ok(rows)
}

/// The library says "caller" to programs; here that is whoever wrote the file or the command.
fn refused(error: composition::RowError) -> Failure {
    Failure::usage(error.to_string().replace("caller: ", ""))
}

fn delta_of(row: &Row, asked: Option<f64>) -> Result<f64, Failure> {
    asked.or(row.delta).ok_or_else(|| Failure::usage(format!("row {} states no delta: say --delta", row.id)))
}

fn cells(report: &Report) -> Vec<String> {
    let epsilon = if report.epsilon.is_finite() { format!("{:.6}", report.epsilon) } else { "none".to_owned() };
    vec![epsilon, format!("{:.4e}", report.delta), report.method.to_string(), report.adjacency.to_string()]
}

/// An id as it may be printed: it comes from a file.
fn shown_id(id: &str) -> String {
    id.chars().filter(|c| !c.is_control()).take(40).collect()
}
