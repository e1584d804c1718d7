//! Wrong mechanisms, each with a mistake that was made somewhere before. The instrument must flag every one.
//!
//! A case is a claim made by the right code and the two laws of the wrong one. The right laws of the same kind pass in the
//! other files, so that what is flagged here is the mistake.

use cohortium_dp::accounting::Relation;
use cohortium_dp::mechanism::{
    DistributedGaussian, ExponentialMechanism, Gaussian, KeySelection, Laplace, PermuteAndFlip, Scores, SparseVector,
};
use cohortium_dp::noise::NoisePlan;
use cohortium_dp::sampler::{Scale, Variance};

use super::choice::{coins, permute_and_flip, proportional};
use super::law::{Claim, Law, Pmf, convolve, gaussian, laplace, law_of, product, shifted, times, violation};
use super::noise::vector;
use super::selection::{atto, claim_of, keys, nats, noise_of, several_keys};
use super::stateful::{clip_round, refinement_law, sparse_law};

struct Case {
    name: &'static str,
    claim: Claim,
    here: Law,
    there: Law,
}

fn assert_flagged(cases: impl IntoIterator<Item = Case>) {
    for Case { name, claim, here, there } in cases {
        assert!(violation(&claim, &here, &there).is_some(), "{name} was not noticed");
    }
}

fn laplace_claim(l1: u64, scale: u64) -> Claim {
    let mechanism = Laplace::new(l1, Scale::new(scale).unwrap()).unwrap();
    Claim { price: mechanism.price(), epsilon: Some(mechanism.epsilon()) }
}

fn gaussian_claim(delta2: u128, sigma2: u64) -> Claim {
    let mechanism = Gaussian::new(delta2, Variance::new(sigma2).unwrap()).unwrap();
    Claim { price: mechanism.price(), epsilon: None }
}

#[test]
fn wrong_noise_is_flagged() {
    let (wide, narrow) = (laplace(2.0), laplace(1.0));
    let cut: Pmf = wide.iter().copied().filter(|(x, _)| x.abs() <= 8).collect();
    let kept: f64 = cut.iter().map(|(_, p)| p).sum();
    let cut: Pmf = cut.into_iter().map(|(x, p)| (x, p / kept)).collect();
    let normal = gaussian(9.0);
    let twice = |here: [i64; 2]| law_of(&normal, |x| vec![here[0] + x, here[1] + x]);
    let rounded_variance = gaussian(3.0);
    assert_flagged([
        Case {
            name: "Laplace noise for sensitivity 1 under a difference of 3",
            claim: laplace_claim(1, 2),
            here: shifted(&wide, 0),
            there: shifted(&wide, 3),
        },
        Case {
            name: "Laplace noise of half the scale",
            claim: laplace_claim(1, 2),
            here: shifted(&narrow, 0),
            there: shifted(&narrow, 1),
        },
        Case {
            name: "Laplace noise scaled to one cell where a person moves two",
            claim: laplace_claim(1, 2),
            here: vector(&wide, &[0, 0]),
            there: vector(&wide, &[1, 1]),
        },
        Case {
            name: "Laplace noise with its tail cut off",
            claim: laplace_claim(1, 2),
            here: shifted(&cut, 0),
            there: shifted(&cut, 1),
        },
        Case {
            name: "Laplace noise clamped where its tail begins",
            claim: laplace_claim(1, 2),
            here: law_of(&wide, |x| vec![x.clamp(-4, 4)]),
            there: law_of(&wide, |x| vec![1 + x.clamp(-4, 4)]),
        },
        Case {
            name: "the same Gaussian noise in two cells",
            claim: gaussian_claim(1, 9),
            here: twice([0, 0]),
            there: twice([1, 0]),
        },
        Case {
            name: "a standard deviation taken for a variance",
            claim: gaussian_claim(1, 9),
            here: shifted(&rounded_variance, 0),
            there: shifted(&rounded_variance, 1),
        },
        Case {
            name: "sensitivity not squared",
            claim: gaussian_claim(3, 9),
            here: shifted(&normal, 0),
            there: shifted(&normal, 3),
        },
        Case {
            name: "noise that is zero one time in a thousand, as of a generator that failed",
            claim: laplace_claim(1, 2),
            here: failing(&wide, 0),
            there: failing(&wide, 1),
        },
    ]);
}

fn failing(noise: &Pmf, value: i64) -> Law {
    let mut law: Law = law_of(noise, |x| vec![value + x, 0]).into_iter().map(|(o, p)| (o, p * 0.999)).collect();
    law.insert(vec![value, 1], 0.001);
    // The failure does not show, but the value does.
    let shown: Vec<(i64, f64)> = law.iter().map(|(o, p)| (o[0], *p)).collect();
    law_of(&shown, |x| vec![x])
}

/// Floating-point noise, in the numbers that a textbook sampler makes of uniform numbers of few bits. With 53 bits there are
/// more of them, and as few that two neighbouring values share.
#[test]
fn float_noise_is_flagged() {
    let bits = 12;
    let uniform = || (0..1 << bits).map(|i| (f64::from(i) + 0.5) / f64::from(1 << bits));
    let law = |noises: Vec<f64>, value: f64| {
        let mass = 1.0 / noises.len() as f64;
        let mut law = Law::new();
        for noise in noises {
            *law.entry(vec![(value + noise).to_bits() as i64]).or_insert(0.0) += mass;
        }
        law
    };
    let inverse = |u: f64| {
        let centred = u - 0.5;
        -2.0 * centred.signum() * (1.0 - 2.0 * centred.abs()).ln()
    };
    let laplace: Vec<f64> = uniform().map(inverse).collect();
    let coarse = || uniform().step_by(64);
    let box_muller: Vec<f64> = coarse()
        .flat_map(|u| coarse().map(move |v| 3.0 * (-2.0 * f64::ln(u)).sqrt() * (core::f64::consts::TAU * v).cos()))
        .collect();
    assert_flagged([
        Case {
            name: "Laplace noise by the inverse distribution function in f64",
            claim: laplace_claim(1, 2),
            here: law(laplace.clone(), 0.0),
            there: law(laplace, 1.0),
        },
        Case {
            name: "Gaussian noise by Box and Muller in f64",
            claim: gaussian_claim(1, 9),
            here: law(box_muller.clone(), 0.0),
            there: law(box_muller, 1.0),
        },
    ]);
}

#[test]
fn wrong_shares_of_nodes_are_flagged() {
    // n = 4, c = 2, all survive: two honest nodes are left.
    let plan = NoisePlan::new(24, 4, 4, 2).unwrap();
    let node = DistributedGaussian::new(1, 1, plan).unwrap();
    let claim = Claim { price: node.price(), epsilon: None };
    let share_of_all = convolve(&gaussian(6.0), &gaussian(6.0));
    // n = 4, t = 3, c = 1: the kept component is for three honest nodes, but only two of them remain.
    let dropout = DistributedGaussian::new(1, 1, NoisePlan::new(24, 4, 3, 1).unwrap()).unwrap();
    let first = *dropout.plan().components().first().unwrap() as f64;
    let excess_removed_twice = convolve(&gaussian(first), &gaussian(first));
    assert_flagged([
        Case {
            name: "the share σ²/n instead of σ²/(n−c)",
            claim,
            here: shifted(&share_of_all, 0),
            there: shifted(&share_of_all, 1),
        },
        Case {
            name: "excess removed although a node dropped out",
            claim: Claim { price: dropout.price(), epsilon: None },
            here: shifted(&excess_removed_twice, 0),
            there: shifted(&excess_removed_twice, 1),
        },
    ]);
}

#[test]
fn wrong_key_selections_are_flagged() {
    let bounds = keys(1, 1);
    let rules = [
        KeySelection::laplace(nats(1.0), atto(1e-5), bounds).unwrap(),
        KeySelection::gaussian_with_rho(nats(0.1), atto(1e-5), bounds).unwrap(),
    ];
    for rule in rules {
        let noise = noise_of(&rule).unwrap();
        let threshold = rule.threshold().unwrap();
        let show = |count: i64, shown: bool, noisy: i64| if shown && count > 0 { vec![1, noisy] } else { vec![0, 0] };
        let at = |threshold: i64, count: i64| law_of(&noise, |x| show(count, count + x >= threshold, count + x));
        let both = |law: &Law| product(law, law);
        // The right rule, written once more, is not flagged.
        assert_eq!(violation(&claim_of(&rule), &at(threshold, 0), &at(threshold, 1)), None);
        let late =
            |count: i64| law_of(&noise, |x| show(count, count >= threshold + 5 && count + x >= threshold, count + x));
        assert_flagged([
            Case {
                name: "keys equal to the threshold shown but not counted in δ",
                claim: claim_of(&rule),
                here: at(threshold - 1, 0),
                there: at(threshold - 1, 1),
            },
            Case {
                name: "δ of one key where a person has two",
                claim: claim_of(&rule),
                here: both(&at(threshold, 0)),
                there: both(&at(threshold, 1)),
            },
            Case {
                name: "noise for one key where a person has two",
                claim: claim_of(&rule),
                here: both(&at(threshold, threshold)),
                there: both(&at(threshold, threshold + 1)),
            },
            Case {
                name: "a minimum frequency on the true count, after noise and threshold",
                claim: claim_of(&rule),
                here: late(threshold + 4),
                there: late(threshold + 5),
            },
            Case {
                name: "the threshold on the true count, and noise only on what is shown",
                claim: claim_of(&rule),
                here: law_of(&noise, |x| show(threshold - 1, false, x)),
                there: law_of(&noise, |x| show(threshold, true, threshold + x)),
            },
            Case {
                name: "the true count shown with the key",
                claim: claim_of(&rule),
                here: law_of(&noise, |x| show(20, 20 + x >= threshold, 20)),
                there: law_of(&noise, |x| show(21, 21 + x >= threshold, 21)),
            },
        ]);
    }
}

#[test]
fn wrong_keep_probabilities_are_flagged() {
    let rule = KeySelection::truncated_geometric(nats(1.0), atto(1e-5), keys(1, 1)).unwrap();
    let coin = |keep: f64| Law::from([(vec![0], 1.0 - keep), (vec![1], keep)]);
    // The rising half without the bending one: min(e^ε·π + δ, 1).
    let rising = |n: i32| (1e-5 * (1..n).fold(1.0, |sum, _| sum * core::f64::consts::E + 1.0)).min(1.0);
    let steep = (1..).find(|n| rising(*n) >= 1.0).unwrap();
    let one_key_only = several_keys(&rule, None, &[1, 1]);
    assert_flagged([
        Case {
            name: "keep probabilities of one person more",
            claim: claim_of(&rule),
            here: coin(0.0),
            there: coin(rule.keep_probability(2)),
        },
        Case {
            name: "keep probabilities that rise to one without bending",
            claim: claim_of(&rule),
            here: coin(rising(steep - 1)),
            there: coin(1.0),
        },
        Case {
            name: "keep probabilities of one key where a person has two",
            claim: claim_of(&rule),
            here: several_keys(&rule, None, &[0, 0]),
            there: one_key_only,
        },
    ]);
}

#[test]
fn wrong_choices_are_flagged() {
    let (here, there) = ([5i64, 5, 5], [6i64, 4, 4]);
    // Coins for scores that all move the same way, given scores that do not.
    let permute = PermuteAndFlip::new(nats(1.0), 1, Scores::Monotone).unwrap();
    let right = PermuteAndFlip::new(nats(1.0), 1, Scores::Any).unwrap();
    let flip = |scores: &[i64]| permute_and_flip(&coins(scores, |best, score| permute.exponent(best, score)));
    let exponential = ExponentialMechanism::new(nats(1.0), 1, Scores::Monotone).unwrap();
    let weigh = |scores: &[i64]| proportional(&coins(scores, |best, score| exponential.exponent(best, score)));
    let bounded = ExponentialMechanism::new(nats(1.0), 1, Scores::Any).unwrap();
    let in_order = |scores: &[i64]| {
        let coins = coins(scores, |best, score| right.exponent(best, score));
        let mut left = 1.0;
        let mut law = Law::new();
        for (index, coin) in (0i64..).zip(coins) {
            law.insert(vec![index], left * coin);
            left *= 1.0 - coin;
        }
        law
    };
    let noisy_best = |scores: &[i64]| {
        let best = scores.iter().copied().max().unwrap();
        law_of(&laplace(2.0), |x| vec![i64::from(best + x > 5), best])
    };
    let claim = Claim { price: right.price(), epsilon: Some(right.epsilon()) };
    assert_flagged([
        Case {
            name: "permute-and-flip without the factor 2",
            claim: claim.clone(),
            here: flip(&here),
            there: flip(&there),
        },
        Case {
            name: "the exponential mechanism without the factor 2",
            claim: Claim { price: bounded.price(), epsilon: Some(bounded.epsilon()) },
            here: weigh(&here),
            there: weigh(&there),
        },
        Case {
            name: "coins in a fixed order",
            claim: claim.clone(),
            here: in_order(&[5, 5, 6]),
            there: in_order(&[6, 5, 5]),
        },
        Case {
            name: "permute-and-flip at the price of bounded range",
            claim: Claim { price: bounded.price(), epsilon: None },
            here: permute_and_flip(&coins(&[0, 1], |best, score| permute.exponent(best, score))),
            there: permute_and_flip(&coins(&[0, 0], |best, score| permute.exponent(best, score))),
        },
        Case {
            name: "the best score shown with the choice",
            claim,
            here: noisy_best(&here),
            there: noisy_best(&there),
        },
    ]);
}

/// The variants that Lyu, Su, Li 2017 collected, and the ones that a refactoring could bring in.
#[test]
fn wrong_sparse_vectors_are_flagged() {
    let sparse = SparseVector::new(nats(1.0), 1, Scores::Any, 1).unwrap();
    let monotone = SparseVector::new(nats(1.0), 1, Scores::Monotone, 1).unwrap();
    let claim = Claim { price: sparse.price_per_round(), epsilon: Some(sparse.epsilon_per_round()) };
    let noise = |scale: Scale| laplace(scale.num() as f64 / scale.den() as f64);
    let [threshold, query] = [sparse.scales().0, sparse.scales().1].map(noise);
    let none = vec![(0, 1.0)];
    let decide = |value, query_noise, threshold_noise| SparseVector::decide(value, 0, query_noise, threshold_noise);
    let law =
        |values: &[i64], rounds, threshold: &Pmf, query: &Pmf| sparse_law(values, rounds, (threshold, query), &decide);
    let (low, high) = ([-1i64; 8], [0i64; 8]);
    // The noise of the threshold kept over all "above" answers, with the price of one.
    let kept = |values: &[i64]| {
        let mut law = Law::new();
        for (rho, mass) in &threshold {
            let mut here = Law::from([(vec![], *mass)]);
            for value in values {
                here = product(&here, &law_of(&query, |nu| vec![i64::from(decide(*value, nu, *rho))]));
            }
            here.into_iter().for_each(|(answers, p)| *law.entry(answers).or_insert(0.0) += p);
        }
        law
    };
    // Seven questions "below", then one whose noisy value is shown: it says how low the noisy threshold must have been.
    let shown = |value: i64, last: i64| {
        let mut law = Law::new();
        for (rho, mass) in &threshold {
            let below: f64 = query.iter().filter(|(nu, _)| !decide(value, *nu, *rho)).map(|(_, p)| p).sum();
            let all_below = below.powi(7);
            *law.entry(vec![1]).or_insert(0.0) += mass * (1.0 - all_below);
            for (nu, p) in &query {
                let answer = if decide(last, *nu, *rho) { vec![0, last + nu] } else { vec![0] };
                *law.entry(answer).or_insert(0.0) += mass * all_below * p;
            }
        }
        law
    };
    let alternating = |sign: i64| -> Vec<i64> { (0..6).map(|i| if i % 2 == 0 { sign } else { -sign }).collect() };
    assert_flagged([
        Case {
            name: "no noise on the threshold",
            claim: claim.clone(),
            here: law(&low, 1, &none, &query),
            there: law(&high, 1, &none, &query),
        },
        Case {
            name: "no noise on the questions",
            claim: claim.clone(),
            here: law(&[1, -1], 1, &threshold, &none),
            there: law(&[-1, 1], 1, &threshold, &none),
        },
        Case {
            name: "noise on the threshold that is never drawn anew, at the price of one round",
            claim: claim.clone(),
            here: kept(&alternating(1)),
            there: kept(&alternating(0)),
        },
        Case {
            name: "three rounds at the price of one",
            claim: claim.clone(),
            here: law(&[4, -4, 4, -4, 4, -4], 3, &threshold, &query),
            there: law(&[5, -5, 5, -5, 5, -5], 3, &threshold, &query),
        },
        Case {
            name: "the noisy value that was compared is shown",
            claim: claim.clone(),
            here: shown(0, 1),
            there: shown(1, 0),
        },
        Case {
            name: "noise for questions that move the same way, given others",
            claim: Claim { price: monotone.price_per_round(), epsilon: Some(nats(1.0)) },
            here: law(&[2, 2, 2, 2, 2, 2, 2, -4], 1, &noise(monotone.scales().0), &noise(monotone.scales().1)),
            there: law(&[3, 3, 3, 3, 3, 3, 3, -5], 1, &noise(monotone.scales().0), &noise(monotone.scales().1)),
        },
    ]);
}

#[test]
fn wrong_clipping_is_flagged() {
    let round = clip_round(Relation::AddOrRemoveOne, 1_000_000);
    let sigma2 = round.sigma2(nats(0.5)).unwrap();
    let claim = Claim { price: round.price(sigma2).unwrap(), epsilon: None };
    let vector_only =
        Claim { price: Gaussian::new(16, Variance::new(sigma2).unwrap()).unwrap().price(), epsilon: None };
    let noise = gaussian(sigma2 as f64);
    let none = vector(&noise, &[0, 0]);
    let fitting = round.contribution(&[4]);
    let replaced = round.contribution(&[-1000]);
    assert_flagged([
        Case {
            name: "a bit of 0 or 2w instead of −w or w",
            claim: claim.clone(),
            here: none.clone(),
            there: vector(&noise, &[fitting[0], 2 * fitting[1]]),
        },
        Case {
            name: "a bit that is not priced",
            claim: vector_only,
            here: none.clone(),
            there: vector(&noise, &fitting),
        },
        Case {
            name: "a person replaced at the price of one who comes",
            claim: claim.clone(),
            here: vector(&noise, &fitting),
            there: vector(&noise, &replaced),
        },
        Case { name: "values clipped after they were added up", claim, here: none, there: vector(&noise, &[7, 4]) },
    ]);
}

#[test]
fn wrong_refinements_are_flagged() {
    let mechanism = Gaussian::new(1, Variance::new(4).unwrap()).unwrap();
    let noise = gaussian(4.0);
    let one = Claim { price: mechanism.price(), epsilon: None };
    let two = Claim { price: times(&mechanism.price(), 2), epsilon: None };
    let by_error = |value: i64| refinement_law(&noise, value, &move |first| (first - value).abs() <= 1);
    assert_flagged([
        Case {
            name: "two draws at the price of one",
            claim: one,
            here: refinement_law(&noise, 6, &|_| false),
            there: refinement_law(&noise, 7, &|_| false),
        },
        Case { name: "stopping by the true error", claim: two, here: by_error(6), there: by_error(7) },
    ]);
}
