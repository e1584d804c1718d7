//! Which rule for group keys? Thresholds, δ and keep probabilities of the three rules for one set of parameters.
//!
//! `cargo run -p cohortium-dp --example select_keys`
//!
//! Everything printed follows from parameters alone: a researcher may see it before anything is spent.

use cohortium_dp::mechanism::{KeyBounds, KeySelection, MechanismError};
use cohortium_dp::price::{AttoDelta, NanoNats, epsilon};

fn main() -> Result<(), MechanismError> {
    let (target, delta) = (NanoNats::new(1_000_000_000), AttoDelta::new(10_000_000_000_000)?);
    for max_keys_per_person in [1, 10] {
        let bounds = KeyBounds { max_keys_per_person, min_frequency: 5 };
        // σ² such that the Gaussian rule costs about ε = 1 at δ = 1e-5, too.
        let rho = NanoNats::new(31_000_000);
        let rules = [
            ("Laplace", KeySelection::laplace(target, delta, bounds)?),
            ("Gaussian", KeySelection::gaussian_with_rho(rho, delta, bounds)?),
            ("truncated geometric", KeySelection::truncated_geometric(target, delta, bounds)?),
        ];
        println!("at most {max_keys_per_person} keys per person, none of fewer than 5 persons");
        for (name, rule) in rules {
            let price = rule.price();
            let reported = epsilon(&price.curve, 1e-5);
            let threshold = rule.threshold().map_or("-".to_owned(), |t| t.to_string());
            println!("  {name}: threshold {threshold}, δ {:.2e}, ε {reported:.3}", price.delta.as_probability());
            let odds = [5, 15, 25, 50, 100, 200].map(|n| format!("{n}: {:.4}", rule.keep_probability(n)));
            println!("    shown with probability  {}", odds.join("  "));
        }
    }
    Ok(())
}
