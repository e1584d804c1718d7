//! A histogram with error bars, by Laplace and by Gaussian noise: which one is narrower depends on how many cells a person
//! can be in.
//!
//! Run with `cargo run -p cohortium-dp --example histogram`.

use std::error::Error;

use chacha20::ChaCha20Rng;
use cohortium_dp::interval::{cell_interval, z_for_level};
use cohortium_dp::mechanism::{Gaussian, Laplace};
use cohortium_dp::{NanoNats, Raw, accounting::gaussian};
use rand_core::SeedableRng;

const COUNTS: [i64; 4] = [120, 33, 0, 7];
/// The promise: ε = 1, and for Gaussian noise δ = one in a million.
const EPSILON: f64 = 1.0;
const DELTA: f64 = 1e-6;

fn main() -> Result<(), Box<dyn Error>> {
    // An example prints the same every time; a node hands in its operating system's generator.
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    for cells_per_person in [1u32, 4] {
        println!("one person counts in up to {cells_per_person} cells:");
        // The L1 sensitivity is the number of cells, the squared L2 sensitivity as well.
        let laplace = Laplace::with_epsilon(cells_per_person.into(), NanoNats::new((EPSILON * 1e9) as u64))?;
        let released = laplace.release(Raw::new(COUNTS.to_vec()), &mut rng);
        println!("  Laplace   {released:?}, ε = {} at δ = 0", laplace.epsilon());

        let sigma = gaussian::sigma(EPSILON, DELTA, f64::from(cells_per_person).sqrt());
        // Whole variances are enough here; the curve of the discrete Gaussian is that of the continuous one.
        let variance = cohortium_dp::Variance::new(sigma.powi(2).ceil() as u64)?;
        let gaussian = Gaussian::new(cells_per_person.into(), variance)?;
        let released = gaussian.release(Raw::new(COUNTS.to_vec()), &mut rng);
        println!("  Gaussian  {released:?}, σ² = {}", variance.num());
        let z = z_for_level(0.95).ok_or("0.95 is a level")?;
        for value in released {
            let interval = cell_interval(value as f64, variance.num().into(), z);
            println!("            {value:>4}  95 % within {:.0} to {:.0}", interval.low, interval.high);
        }
    }
    Ok(())
}
