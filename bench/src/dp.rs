//! `crates/dp` beside its peers: samplers beside `opendp`, privacy-loss distributions beside `dp-accounting`; the account.

use std::path::Path;
use std::process::Command;

use chacha20::ChaCha20Rng;
use cohortium_dp::account::{Reservation, RunState};
use cohortium_dp::accounting::composition::{self, Row};
use cohortium_dp::sampler::{Seed, Variance, discrete_gaussian, gaussian_vector};
use cohortium_dp::{Account, AccountConfig, AttoDelta, Budget, NanoNats, Next, gaussian_price};
use rand_core::SeedableRng;

use serde_json::{Value, json};

use crate::clock::{Side, measure, median};

/// How often each side is measured.
const ROUNDS: u32 = 5;
/// Length of a vector.
const CELLS: usize = 1_000_000;
/// Draws per round of what is slow.
const FEW: u64 = 20_000;
/// Runs that pass through the account per round.
const RUNS: u32 = 50_000;

/// δ of every composition here.
const DELTA: f64 = 1e-5;
/// The script that does the same with dp-accounting, beside this crate.
const PEER_SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/google_accounting.py");

pub fn run(python: Option<&Path>) -> Result<(), String> {
    samplers()?;
    compositions(python)?;
    account()
}

/// Discrete Gaussians: a vector at one σ, and one at a time as if each had another.
fn samplers() -> Result<(), String> {
    println!("discrete Gaussian, µs per sample on one core, medians of {ROUNDS} rounds");
    println!(
        "{:<12}{:>14}{:>14}{:>14}{:>10}{:>10}",
        "σ", "vector of 10^6", "one at a time", "opendp", "ratio", "ratio"
    );
    for (shown, sigma) in [("4", 4u64), ("10^3", 1000), ("2^20", 1 << 20)] {
        let variance = Variance::new(sigma * sigma).map_err(|error| error.to_string())?;
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut seed = [0u8; 32];
        let vector = move || {
            seed[0] = seed[0].wrapping_add(1);
            gaussian_vector(&Seed::from_bytes(seed), variance, CELLS).map_or(0, |cells| cells.len() as u64)
        };
        let single = move || {
            let sum: i64 = (0..FEW * 10).map(|_| std::hint::black_box(discrete_gaussian(&mut rng, variance)) & 1).sum();
            FEW * 10 + u64::from(sum < 0)
        };
        let mut sides = vec![Side::new("vector", vector), Side::new("single", single)];
        sides.extend(peer_sampler(sigma));
        report_samplers(shown, &measure(ROUNDS, sides));
    }
    Ok(())
}

#[cfg(feature = "peers")]
fn peer_sampler(sigma: u64) -> Option<Side<'static>> {
    let scale = dashu::rational::RBig::from(sigma);
    Some(Side::new("opendp", move || {
        let draw = |_| opendp::traits::samplers::sample_discrete_gaussian(scale.clone()).is_ok();
        (0..FEW).map(draw).filter(|drawn| std::hint::black_box(*drawn)).count() as u64
    }))
}

#[cfg(not(feature = "peers"))]
fn peer_sampler(_sigma: u64) -> Option<Side<'static>> {
    None
}

fn report_samplers(sigma: &str, sides: &[Side<'_>]) {
    let micros: Vec<f64> = sides.iter().map(|side| side.median() * 1e6).collect();
    match micros.as_slice() {
        [vector, single, opendp] => {
            let (first, second) = (opendp / vector, opendp / single);
            println!("{sigma:<12}{vector:>14.4}{single:>14.4}{opendp:>14.4}{first:>9.1}x{second:>9.1}x");
        }
        [vector, single] => println!("{sigma:<12}{vector:>14.4}{single:>14.4}{:>14}", "(not built)"),
        _ => {}
    }
}

/// ε of compositions by privacy-loss distribution, on a grid of 1e-4, in turn with dp-accounting.
fn compositions(python: Option<&Path>) -> Result<(), String> {
    println!("\nε at δ = {DELTA:e} by privacy-loss distribution, grid 1e-4, processor seconds");
    println!(
        "{:<34}{:>12}{:>10}{:>16}{:>10}{:>9}",
        "composition", "ε", "seconds", "dp-accounting ε", "seconds", "ratio"
    );
    // (what, its name in the script or nothing, rounds, rows)
    let cases = [
        ("10,000 steps of q = 0.01, σ = 1", Some("schedule"), ROUNDS, schedule()),
        ("1,000 different mechanisms", Some("ledger"), 1, ledger()),
        ("1,000 different sampled Gaussians", None, 1, sampled_ledger()),
    ];
    for (what, peer, rounds, rows) in cases {
        composition(what, peer.zip(python), rounds, &rows)?;
    }
    Ok(())
}

fn composition(what: &str, peer: Option<(&str, &Path)>, rounds: u32, rows: &Value) -> Result<(), String> {
    let rows = composition::parse(&rows.to_string()).map_err(|error| error.to_string())?;
    let row = rows.first().ok_or("no row")?;
    let mut epsilon = f64::NAN;
    let (mut theirs, mut their_seconds) = (f64::NAN, Vec::new());
    let mut seconds = Vec::new();
    for round in 0..=rounds {
        let sides = measure(1, vec![Side::new("ours", || ask(row, &mut epsilon))]);
        // The first round also makes the transforms ready; it is shown apart where there are others.
        if round > 0 {
            seconds.extend(sides.iter().map(Side::median));
            if let Some((name, python)) = peer {
                let answer = ask_peer(python, name)?;
                theirs = answer.0;
                their_seconds.push(answer.1);
            }
        } else if rounds > 1 {
            println!(
                "{:<34}{:>12}{:>10.4}",
                "  (first call of the process)",
                "",
                sides.iter().map(Side::median).sum::<f64>()
            );
        }
    }
    let (ours, other) = (median(&seconds), median(&their_seconds));
    if their_seconds.is_empty() {
        println!("{what:<34}{epsilon:>12.6}{ours:>10.4}{:>16}", "(not run)");
    } else {
        println!("{what:<34}{epsilon:>12.6}{ours:>10.4}{theirs:>16.6}{other:>10.4}{:>8.1}x", other / ours);
    }
    Ok(())
}

fn ask(row: &Row, epsilon: &mut f64) -> u64 {
    *epsilon = row.epsilon(DELTA).map_or(f64::NAN, |report| report.epsilon);
    1
}

/// ε and processor seconds, imports left out, as the script says.
fn ask_peer(python: &Path, name: &str) -> Result<(f64, f64), String> {
    // One thread each: what is compared is work.
    let output = Command::new(python).args([PEER_SCRIPT, name]).env("OMP_NUM_THREADS", "1").output();
    let output = output.map_err(|error| format!("{} cannot be run: {error}", python.display()))?;
    let answer: Value = serde_json::from_slice(&output.stdout)
        .map_err(|_| format!("{PEER_SCRIPT} says no JSON: {}", String::from_utf8_lossy(&output.stderr)))?;
    let field = |field: &str| answer.pointer(&format!("/{name}/{field}")).and_then(Value::as_f64);
    field("epsilon").zip(field("seconds")).ok_or_else(|| format!("{PEER_SCRIPT} gives no {name}"))
}

fn schedule() -> Value {
    json!({"mechanism": "poisson_gaussian", "params": {"q": 0.01, "noise_multiplier": 1.0}, "composition": 10_000,
        "neighboring": "ADD_OR_REMOVE_ONE"})
}

/// The same thousand as in the script: Laplace, Gaussian, sampled Gaussian in turn.
fn ledger() -> Value {
    let event = |i: u32| {
        let share = f64::from(i) / 1000.0;
        match i % 3 {
            0 => json!({"mechanism": "laplace", "params": {"noise_multiplier": 100.0 + 100.0 * share}}),
            1 => json!({"mechanism": "gaussian", "params": {"noise_multiplier": 100.0 + 100.0 * share}}),
            _ => sampled(share),
        }
    };
    json!({"neighboring": "ADD_OR_REMOVE_ONE", "events": (0..1000).map(event).collect::<Vec<_>>()})
}

fn sampled_ledger() -> Value {
    let events: Vec<Value> = (0..1000).map(|i| sampled(f64::from(i) / 1000.0)).collect();
    json!({"neighboring": "ADD_OR_REMOVE_ONE", "events": events})
}

fn sampled(share: f64) -> Value {
    json!({"mechanism": "poisson_gaussian", "params": {"q": 0.01 + 0.01 * share, "noise_multiplier": 1.0 + share}})
}

/// Runs from reservation to evidence, each entry hashed and applied, in memory.
fn account() -> Result<(), String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let delta = AttoDelta::new(1_000_000_000_000).map_err(|error| words(&error))?;
    let budget = Budget::new(NanoNats::new(1_000_000_000_000), delta).map_err(|error| words(&error))?;
    let config = AccountConfig {
        dataset: "ward".into(),
        budget,
        studies: [("study".to_owned(), budget)].into(),
        researchers: [("ada".to_owned(), budget)].into(),
    };
    let price = gaussian_price(1, 1 << 40, 1, 1 << 40, 1).map_err(|error| words(&error))?;
    let empty = Account::new(config).map_err(|error| words(&error))?;
    let run = || {
        let mut account = empty.clone();
        (0..RUNS).filter(|round| one_run(&mut account, *round, &price) == Some(RunState::Spent)).count() as u64
    };
    for side in measure(ROUNDS, vec![Side::new("reserve, read and spend, with the chain of entries", run)]) {
        println!("\naccount: {}: {:.0} runs per second", side.name(), 1.0 / side.median());
    }
    Ok(())
}

fn one_run(account: &mut Account, round: u32, price: &cohortium_dp::Price) -> Option<RunState> {
    const TASK: &str = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
    let request = Reservation {
        researcher: "ada".into(),
        study: "study".into(),
        task: TASK.into(),
        round,
        price: price.clone(),
        time: None,
    };
    let next = account.reserve(&request).ok()?;
    write(account, next)?;
    let next = account.start_reading(TASK, round, None).ok()?;
    write(account, next)?;
    let next = account.spend(TASK, round, None).ok()?;
    write(account, next)?;
    account.state(TASK, round)
}

fn write(account: &mut Account, next: Next) -> Option<()> {
    let Next::Write(entry) = next else { return None };
    account.apply(&entry).ok().map(drop)
}
