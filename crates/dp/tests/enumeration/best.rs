//! The best of a random number of runs, with every number of runs weighted by the coins that the code tosses.

use cohortium_dp::mechanism::{Gaussian, Laplace, PermuteAndFlip, PrivateSelection, Scores};
use cohortium_dp::price::Price;
use cohortium_dp::sampler::{Scale, Variance};

use super::choice::{coins, permute_and_flip};
use super::law::{Claim, Law, assert_holds, gaussian, laplace, shifted, violation};
use super::selection::nats;

/// P(K = 1), P(K = 2), …, from the coins of the draw; what is left of the tail goes to the last.
fn runs_of(selection: &PrivateSelection) -> Vec<f64> {
    let odds = |(num, den): (u128, u128)| num as f64 / den as f64;
    let (mut reached, mut masses) = (1.0, Vec::new());
    for k in 1..100_000 {
        let [stop, next] = selection.coins(k);
        masses.push(reached * odds(stop));
        reached *= (1.0 - odds(stop)) * odds(next);
        if reached < 1e-18 {
            break;
        }
    }
    // Starting again divides by the probability of coming out at all.
    let total: f64 = masses.iter().sum();
    masses.into_iter().map(|mass| mass / total).collect()
}

/// The law of the largest of K outcomes.
fn best_of(runs: &[f64], base: &Law) -> Law {
    let generating = |x: f64| runs.iter().rev().fold(0.0, |sum, mass| sum * x + mass) * x;
    let mut below = 0.0;
    let mut law = Law::new();
    for (outcome, mass) in base {
        let (from, to) = (generating(below), generating((below + mass).min(1.0)));
        law.insert(outcome.clone(), to - from);
        below += mass;
    }
    law
}

fn fixed(runs: usize) -> Vec<f64> {
    (1..=runs).map(|k| if k == runs { 1.0 } else { 0.0 }).collect()
}

fn claim(price: Price) -> Claim {
    Claim { price, epsilon: None }
}

/// Prices of one run, and the two laws of its outcome.
fn bases() -> Vec<(&'static str, Price, Law, Law)> {
    let choose = PermuteAndFlip::new(nats(1.0), 1, Scores::Any).unwrap();
    let choice = |scores: &[i64; 3]| permute_and_flip(&coins(scores, |best, score| choose.exponent(best, score)));
    let count = Laplace::new(1, Scale::new(2).unwrap()).unwrap();
    let counted = laplace(2.0);
    let sum = Gaussian::new(1, Variance::new(4).unwrap()).unwrap();
    let summed = gaussian(4.0);
    vec![
        ("a choice", choose.price(), choice(&[0, 0, 0]), choice(&[1, 1, -1])),
        ("a choice of the last", choose.price(), choice(&[3, 3, 4]), choice(&[4, 4, 3])),
        ("a Laplace count", count.price(), shifted(&counted, 0), shifted(&counted, 1)),
        ("a Gaussian sum", sum.price(), shifted(&summed, 0), shifted(&summed, 1)),
    ]
}

#[test]
fn the_best_of_many_runs_keeps_its_price() {
    for (name, price, here, there) in bases() {
        for (shape, gamma) in [
            ((0, 1), (1, 100)),
            ((1, 1), (1, 10)),
            ((1, 1), (1, 50)),
            ((1, 2), (1, 30)),
            ((-1, 2), (1, 500)),
            ((0, 1), (1, 1)),
        ] {
            let selection = PrivateSelection::new(&price, shape, gamma).unwrap();
            let runs = runs_of(&selection);
            let mean: f64 = (1u32..).zip(&runs).map(|(k, mass)| f64::from(k) * mass).sum();
            assert!((mean / selection.mean_runs() - 1.0).abs() < 1e-9, "{shape:?} {gamma:?}: {mean}");
            let [best_here, best_there] = [&here, &there].map(|law| best_of(&runs, law));
            assert_holds(&format!("{name} {shape:?} {gamma:?}"), &claim(selection.price()), &best_here, &best_there);
        }
    }
}

/// The mistakes: a fixed number of runs as large as the mean, a number that is never small, and the price of one run.
#[test]
fn wrong_numbers_of_runs_are_flagged() {
    for (name, price, here, there) in bases() {
        let selection = PrivateSelection::new(&price, (1, 1), (1, 20)).unwrap();
        let runs = runs_of(&selection);
        let mean = selection.mean_runs().round() as usize;
        let shifted: Vec<f64> = core::iter::repeat_n(0.0, mean).chain(runs.iter().copied()).collect();
        for (mistake, runs, price) in [
            ("a fixed number of runs", fixed(mean), selection.price()),
            ("a number shifted by its mean", shifted, selection.price()),
            ("the price of one run", runs, price),
        ] {
            let [best_here, best_there] = [&here, &there].map(|law| best_of(&runs, law));
            assert!(violation(&claim(price), &best_here, &best_there).is_some(), "{name}: {mistake} was not noticed");
        }
    }
}

/// The law of what is left of a geometric number of runs when outcome i + 1 beats outcome i and nothing else beats anything;
/// outcome 0 is the ordinary one. This is no order, so that what is left tells how many outcomes came up in turn.
fn last_of_a_chain(gamma: f64, base: &[f64]) -> Law {
    let mut law = Law::new();
    let mut reached = 0.0;
    for (outcome, mass) in (0_i64..).zip(base) {
        // Either the first run is this outcome, or an earlier one was overtaken.
        reached += mass;
        let overtaken = (1.0 - gamma) * base.get(outcome as usize + 1).copied().unwrap_or(0.0);
        law.insert(vec![outcome], reached * gamma / (gamma + overtaken));
        reached *= overtaken / (gamma + overtaken);
    }
    law
}

/// The law of the largest of a geometric number of runs.
fn largest_of_geometric(gamma: f64, base: &[f64]) -> Law {
    // From the top, so that a rare outcome is not a difference of two numbers near one.
    let mut above = 0.0;
    let mut law = Law::new();
    for (outcome, mass) in base.iter().enumerate().rev() {
        let more = above + mass;
        // P(some run is above) = y/(y + γ·(1 − y)) at y = P(one run is above).
        let some = |y: f64| y / (y + gamma * (1.0 - y));
        law.insert(vec![outcome as i64], some(more.min(1.0)) - some(above));
        above = more;
    }
    law
}

/// Why runs are ranked one by one: a comparison of two that is no order breaks the promise of 3·ε at ε = 1.
#[test]
fn a_comparison_that_is_no_order_is_flagged() {
    let one = PermuteAndFlip::new(nats(1.0), 1, Scores::Any).unwrap().price();
    let gamma = (1, 1_000_000);
    let selection = PrivateSelection::new(&one, (1, 1), gamma).unwrap();
    let base = |rare: f64| [vec![1.0 - 6.0 * rare], vec![rare; 6]].concat();
    let (here, there) = (base(3e-7), base(3e-7 * (-1.0_f64).exp()));
    let claim = Claim { price: selection.price(), epsilon: Some(nats(3.0)) };
    let [chain_here, chain_there] = [&here, &there].map(|base| last_of_a_chain(1e-6, base));
    let found = violation(&claim, &chain_here, &chain_there);
    assert!(found.is_some_and(|fault| fault.contains("promised")), "a counting rule passed");
    // In an order the same outcomes keep the promise.
    let [ranked_here, ranked_there] = [&here, &there].map(|base| largest_of_geometric(1e-6, base));
    assert_holds("ranked", &claim, &ranked_here, &ranked_there);
}
