//! `crates/dp` beside its peers: samplers beside `opendp`, privacy-loss distributions beside `dp-accounting`; the account.

use std::path::Path;

use chacha20::ChaCha20Rng;
use cohortium_dp::account::{Reservation, RunState};
use cohortium_dp::sampler::{Seed, Variance, discrete_gaussian, gaussian_vector};
use cohortium_dp::{Account, AccountConfig, AttoDelta, Budget, NanoNats, Next, gaussian_price};
use rand_core::SeedableRng;

use crate::clock::{Side, measure};

/// How often each side is measured.
const ROUNDS: u32 = 5;
/// Length of a vector.
const CELLS: usize = 1_000_000;
/// Draws per round of what is slow.
const FEW: u64 = 20_000;
/// Runs that pass through the account per round.
const RUNS: u32 = 50_000;

pub fn run(python: Option<&Path>) -> Result<(), String> {
    samplers()?;
    account()?;
    let _ = python;
    Ok(())
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
