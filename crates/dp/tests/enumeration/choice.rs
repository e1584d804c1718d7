//! Choices among candidates.

use cohortium_dp::mechanism::{ExponentialMechanism, NoisyMax, PermuteAndFlip, Scores};

use super::law::{Claim, Law, Pmf, assert_holds, laplace};
use super::selection::nats;

/// The law of permute-and-flip from the coins of the candidates, over all orders.
pub fn permute_and_flip(coins: &[f64]) -> Law {
    let mut law = Law::new();
    walk(coins, &mut (0..coins.len()).collect(), 1.0, &mut law);
    law
}

fn walk(coins: &[f64], left: &mut Vec<usize>, mass: f64, law: &mut Law) {
    for place in 0..left.len() {
        let index = left.remove(place);
        let here = mass / (left.len() + 1) as f64;
        // The last one is taken whatever its coin: all others were tossed, and the best has a coin of one.
        let coin = if left.is_empty() { 1.0 } else { coins[index] };
        *law.entry(vec![index as i64]).or_insert(0.0) += here * coin;
        if coin < 1.0 {
            walk(coins, left, here * (1.0 - coin), law);
        }
        left.insert(place, index);
    }
}

/// The law of a choice in proportion to weights.
pub fn proportional(weights: &[f64]) -> Law {
    let total: f64 = weights.iter().sum();
    (0i64..).zip(weights).map(|(i, w)| (vec![i], w / total)).collect()
}

/// The law of the largest noisy score, for three candidates.
pub fn noisy_max(scores: &[i64; 3], noise: &Pmf) -> Law {
    let mut masses = [0.0; 3];
    for (a, p) in noise {
        for (b, q) in noise {
            for (c, r) in noise {
                masses[NoisyMax::decide(scores, &[*a, *b, *c])] += p * q * r;
            }
        }
    }
    (0i64..).zip(masses).map(|(i, mass)| (vec![i], mass)).collect()
}

pub fn coins(scores: &[i64], exponent: impl Fn(i64, i64) -> (u128, u128)) -> Vec<f64> {
    let best = scores.iter().copied().max().unwrap();
    scores.iter().map(|score| exponent(best, *score)).map(|(num, den)| (-(num as f64) / den as f64).exp()).collect()
}

/// Scores and how one person moves them, for Δ = 1.
type Move = ([i64; 3], [i64; 3]);
const ANY: [Move; 7] = [
    ([5, 5, 5], [1, -1, -1]),
    ([5, 5, 5], [1, 1, -1]),
    ([3, 5, 4], [-1, 1, 0]),
    ([3, 5, 4], [1, -1, 1]),
    ([0, 1, 30], [1, 1, -1]),
    ([9, 8, 8], [-1, 1, 1]),
    ([2, 2, 0], [-1, 1, 1]),
];
const MONOTONE: [Move; 6] = [
    ([5, 5, 5], [1, 0, 0]),
    ([5, 5, 5], [0, 1, 1]),
    ([3, 5, 4], [1, 0, 0]),
    ([3, 5, 4], [0, 1, 0]),
    ([9, 8, 8], [0, 1, 1]),
    ([0, 1, 30], [-1, -1, 0]),
];

/// Each move with each ε, multiplied to another sensitivity.
fn each(check: impl Fn(&str, Scores, f64, u64, &[i64; 3], &[i64; 3])) {
    let moves = ANY.map(|m| (Scores::Any, m)).into_iter().chain(MONOTONE.map(|m| (Scores::Monotone, m)));
    for (scores, (here, step)) in moves {
        for (epsilon, sensitivity) in [(0.2, 1), (1.0, 1), (1.0, 4), (5.0, 3)] {
            let wide = sensitivity as i64;
            let there: [i64; 3] = core::array::from_fn(|i| here[i] * wide + step[i] * wide);
            let name = format!("{scores:?} ε {epsilon} Δ {sensitivity} {here:?} {step:?}");
            check(&name, scores, epsilon, sensitivity, &here.map(|s| s * wide), &there);
        }
    }
}

#[test]
fn permute_and_flip_keeps_its_promise() {
    each(|name, scores, epsilon, sensitivity, here, there| {
        let mechanism = PermuteAndFlip::new(nats(epsilon), sensitivity, scores).unwrap();
        let claim = Claim { price: mechanism.price(), epsilon: Some(mechanism.epsilon()) };
        let law = |s: &[i64; 3]| permute_and_flip(&coins(s, |best, score| mechanism.exponent(best, score)));
        assert_holds(name, &claim, &law(here), &law(there));
    });
}

#[test]
fn exponential_mechanism_keeps_its_promise() {
    each(|name, scores, epsilon, sensitivity, here, there| {
        let mechanism = ExponentialMechanism::new(nats(epsilon), sensitivity, scores).unwrap();
        let claim = Claim { price: mechanism.price(), epsilon: Some(mechanism.epsilon()) };
        let law = |s: &[i64; 3]| proportional(&coins(s, |best, score| mechanism.exponent(best, score)));
        assert_holds(name, &claim, &law(here), &law(there));
    });
}

#[test]
fn noisy_max_keeps_its_promise_with_ties() {
    each(|name, scores, epsilon, sensitivity, here, there| {
        // Enumerating three noises takes the cube of their range.
        if epsilon < 1.0 || sensitivity > 3 {
            return;
        }
        let mechanism = NoisyMax::new(nats(epsilon), sensitivity, scores).unwrap();
        let claim = Claim { price: mechanism.price(), epsilon: Some(mechanism.epsilon()) };
        let noise = laplace(mechanism.scale().num() as f64 / mechanism.scale().den() as f64);
        assert_holds(name, &claim, &noisy_max(here, &noise), &noisy_max(there, &noise));
    });
}
