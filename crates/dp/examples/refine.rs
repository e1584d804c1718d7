//! An easy question costs less: a count is refined until it is known to 5 %, and the rest of the reservation is left.
//!
//! `cargo run -p cohortium-dp --example refine`
//!
//! The generator is seeded so that the example prints the same every time; a node hands in its operating system's.

use chacha20::ChaCha20Rng;
use cohortium_dp::mechanism::{Gaussian, MechanismError, Refinement};
use cohortium_dp::{NanoNats, Raw};
use rand_core::SeedableRng;

fn main() -> Result<(), MechanismError> {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    for persons in [20_000, 2_000, 500] {
        let mechanism = Gaussian::with_rho(1, NanoNats::new(200_000))?;
        let mut refinement = Refinement::start(Raw::new(vec![persons]), mechanism, 16)?;
        // A node charges refinement.price_per_draw() before each draw.
        while refinement.draw(&mut rng).is_some_and(|estimate| !estimate.is_within(0.05, 1.96)) {}
        let estimate = refinement.estimate();
        println!(
            "{:.1} ± {:.1} after {} draws, {} given back",
            estimate.means().first().copied().unwrap_or_default(),
            1.96 * estimate.standard_error(),
            estimate.draws(),
            refinement.draws_unused(),
        );
    }
    Ok(())
}
