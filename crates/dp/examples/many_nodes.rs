//! Five nodes add noise before anyone sees a number; one does not come back; what is too much is taken off again.
//!
//! Run with `cargo run -p cohortium-dp --example many_nodes`. In the house a secure sum lies between the nodes and the sum:
//! a node's own vector has too little noise to be shown.

use std::error::Error;

use chacha20::ChaCha20Rng;
use cohortium_dp::mechanism::DistributedGaussian;
use cohortium_dp::{NoisePlan, NoiseSeeds, Raw, excess_noise};
use rand_core::SeedableRng;

fn main() -> Result<(), Box<dyn Error>> {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    // σ² = 10,000 must be left by any four of five, one of whom may be dishonest and know its own noise.
    let plan = NoisePlan::new(10_000, 5, 4, 1)?;
    let mechanism = DistributedGaussian::new(1, 1, plan.clone())?;
    println!("each node adds variance {}, so that {} is safe", plan.node_variance(), plan.sigma2());
    println!("Rényi cost at order 2: {}", mechanism.price().curve.orders()[3]);

    // All five survive, which is more than was planned for: each reveals the seeds of its excess.
    let survivors = 5;
    let mut sum = 0;
    for node in 0..5 {
        let seeds = NoiseSeeds::draw(&plan, &mut rng);
        let noised = mechanism.add_share(Raw::new(vec![100 + node]), &seeds)?;
        let excess = excess_noise(&plan, survivors, &seeds.excess(&plan, survivors)?, 1)?;
        sum += noised.values().iter().sum::<i64>() - excess.iter().sum::<i64>();
    }
    println!("sum {sum} (without noise 510), variance left {}", plan.remaining_total_variance(survivors)?);
    Ok(())
}
