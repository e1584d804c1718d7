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
