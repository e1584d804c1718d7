//! What a training schedule costs, what noise a target needs, and what that means to someone who guesses.
//!
//! Run with `cargo run -p cohortium-dp --example plan_training`.

use std::error::Error;

use cohortium_dp::accounting::pld::{Composition, Grid, Pld};
use cohortium_dp::accounting::rdp::{RdpCurve, noise_for_schedule};
use cohortium_dp::accounting::{AddRemove, tradeoff};

/// Each person is in a batch with probability 1 %; 10,000 batches; noise of one clipping bound.
const RATE: f64 = 0.01;
const NOISE: f64 = 1.0;
const STEPS: u64 = 10_000;
const DELTA: f64 = 1e-5;

fn main() -> Result<(), Box<dyn Error>> {
    let grid = Grid::new(1e-4)?;
    let mut schedule = Composition::<AddRemove>::new(grid);
    schedule.add(&Pld::<AddRemove>::sampled_gaussian(grid, RATE, NOISE)?, STEPS)?;
    println!("ε by privacy-loss distribution: {:.4}", schedule.epsilon(DELTA)?);

    let curve = RdpCurve::<AddRemove>::sampled_gaussian(RATE, NOISE)?.repeat(STEPS)?;
    println!("ε by Rényi divergence:          {:.4}", curve.epsilon(DELTA)?);

    let enough = noise_for_schedule(RATE, STEPS, 2.0, DELTA)?;
    println!("noise for ε = 2:                {enough:.4}");

    // Who accuses one in twenty wrongly still misses this share of those who are there.
    let profile = |epsilon: f64| schedule.delta(epsilon).unwrap_or(1.0);
    println!("misses at 5 % false alarms:     {:.4}", tradeoff::type_two_error(profile, 0.05));
    Ok(())
}
