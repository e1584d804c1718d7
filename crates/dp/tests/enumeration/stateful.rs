//! Mechanisms that answer more than once: sparse vector, adaptive clip, refinement.

use cohortium_dp::accounting::Relation;
use cohortium_dp::mechanism::{
    AdaptiveClip, ClipConfig, ClipRound, Estimate, Gaussian, Refinement, Scores, SparseVector,
};
use cohortium_dp::raw::Raw;
use cohortium_dp::sampler::Variance;

use super::law::{Claim, Law, Pmf, assert_holds, gaussian, laplace, times};
use super::noise::vector;
use super::selection::nats;

/// The law of the answers (1 above, 0 below, −1 exhausted) to a stream of values against one threshold.
///
/// `decide(value, query noise, threshold noise)` is the comparison; the noise of the threshold is drawn anew per round.
pub fn sparse_law(
    values: &[i64],
    rounds: u32,
    (threshold_noise, query_noise): (&Pmf, &Pmf),
    decide: &dyn Fn(i64, i64, i64) -> bool,
) -> Law {
    let mut law = Law::new();
    if rounds == 0 {
        return Law::from([(vec![-1; values.len()], 1.0)]);
    }
    let above = |value: i64, rho: i64| -> f64 {
        query_noise.iter().filter(|(nu, _)| decide(value, *nu, rho)).map(|(_, mass)| mass).sum()
    };
    // Mass of "all below up to here", by threshold noise.
    let mut below: Pmf = threshold_noise.clone();
    for (i, value) in values.iter().enumerate() {
        let odds: Vec<f64> = below.iter().map(|(rho, _)| above(*value, *rho)).collect();
        let ends: f64 = below.iter().zip(&odds).map(|((_, mass), p)| mass * p).sum();
        for (rest, mass) in sparse_law(&values[i + 1..], rounds - 1, (threshold_noise, query_noise), decide) {
            let answers = [vec![0; i], vec![1], rest].concat();
            *law.entry(answers).or_insert(0.0) += ends * mass;
        }
        below.iter_mut().zip(&odds).for_each(|((_, mass), p)| *mass *= 1.0 - p);
    }
    *law.entry(vec![0; values.len()]).or_insert(0.0) += below.iter().map(|(_, mass)| mass).sum::<f64>();
    law
}

#[test]
fn sparse_vector_keeps_its_promise() {
    let any: [(&[i64], &[i64]); 5] = [
        (&[0, 0, 0], &[1, -1, 1]),
        (&[0, 0, 0, 0], &[1, 1, 1, 1]),
        (&[-3, -3, -3, 5], &[-2, -2, -2, 4]),
        (&[1, 1, 1, -1], &[0, 0, 0, 0]),
        (&[-9, 9, -9], &[-8, 8, -10]),
    ];
    let monotone: [(&[i64], &[i64]); 3] =
        [(&[0, 0, 0], &[1, 0, 1]), (&[-2, -2, 3, 3], &[-1, -1, 3, 4]), (&[5, 0, 0], &[4, -1, 0])];
    let cases = any.map(|c| (Scores::Any, c)).into_iter().chain(monotone.map(|c| (Scores::Monotone, c)));
    for (questions, (here, there)) in cases {
        for (epsilon, rounds) in [(1.0, 1), (1.0, 2), (3.0, 3)] {
            let sparse = SparseVector::new(nats(epsilon), 1, questions, rounds).unwrap();
            let (threshold, query) = sparse.scales();
            let [threshold, query] = [threshold, query].map(|s| laplace(s.num() as f64 / s.den() as f64));
            let decide =
                |value, query_noise, threshold_noise| SparseVector::decide(value, 0, query_noise, threshold_noise);
            let law = |values: &[i64]| sparse_law(values, rounds, (&threshold, &query), &decide);
            let claim = Claim {
                price: times(&sparse.price_per_round(), rounds),
                epsilon: Some(nats(epsilon * f64::from(rounds))),
            };
            assert_holds(&format!("{questions:?} ε {epsilon} c {rounds} {here:?}"), &claim, &law(here), &law(there));
        }
    }
}

pub fn clip_round(relation: Relation, bit_share_ppm: u32) -> ClipRound {
    let config = ClipConfig {
        first_bound: 4,
        smallest_bound: 1,
        largest_bound: 100,
        quantile_ppm: 500_000,
        rate_ppm: 200_000,
        bit_share_ppm,
        persons: 10,
        relation,
    };
    AdaptiveClip::new(config).unwrap().round()
}

/// One person who comes, goes or is replaced, with values that fit and that are clipped.
#[test]
fn clipped_sum_and_bit_keep_their_joint_price() {
    for share in [250_000, 500_000, 1_000_000] {
        for rho in [0.25, 0.5] {
            let round = clip_round(Relation::AddOrRemoveOne, share);
            let sigma2 = round.sigma2(nats(rho)).unwrap();
            let claim = Claim { price: round.price(sigma2).unwrap(), epsilon: None };
            let noise = gaussian(sigma2 as f64);
            for gradient in [0i64, 2, 4, -4, 5, -1000] {
                let there = round.contribution(&[gradient]);
                let name = format!("share {share} ρ {rho} gradient {gradient}");
                assert_holds(&name, &claim, &vector(&noise, &[0, 0]), &vector(&noise, &there));
            }
        }
        let round = clip_round(Relation::ReplaceOne, share);
        let sigma2 = round.sigma2(nats(0.5)).unwrap();
        let claim = Claim { price: round.price(sigma2).unwrap(), epsilon: None };
        let noise = gaussian(sigma2 as f64);
        for (one, other) in [(4i64, -4i64), (4, -1000), (0, 7), (3, 3)] {
            let [here, there] = [one, other].map(|g| vector(&noise, &round.contribution(&[g])));
            assert_holds(&format!("share {share}: {one} becomes {other}"), &claim, &here, &there);
        }
    }
}

/// The law of a refinement of at most two draws that goes on unless `stop(first draw)`.
pub fn refinement_law(noise: &Pmf, value: i64, stop: &dyn Fn(i64) -> bool) -> Law {
    let mut law = Law::new();
    for (first, p) in noise {
        if stop(value + first) {
            *law.entry(vec![value + first]).or_insert(0.0) += p;
            continue;
        }
        for (second, q) in noise {
            *law.entry(vec![value + first, value + second]).or_insert(0.0) += p * q;
        }
    }
    law
}

#[test]
fn refinement_keeps_the_sum_of_its_prices_however_it_stops() {
    for (sigma2, value, step) in [(4u64, 6i64, 1i64), (9, 10, 2), (1, 3, -1), (25, 0, 3)] {
        let variance = Variance::new(sigma2).unwrap();
        let mechanism = Gaussian::new(u128::from(step.unsigned_abs()).pow(2), variance).unwrap();
        let refinement = Refinement::start(Raw::new(vec![value]), mechanism, 2).unwrap();
        let claim = Claim { price: times(&refinement.price_per_draw(), refinement.max_draws()), epsilon: None };
        let noise = gaussian(sigma2 as f64);
        let precise = |first: i64| Estimate::from_released(vec![i128::from(first)], 1, variance).is_within(0.5, 1.0);
        let rules: [(&str, &dyn Fn(i64) -> bool); 4] =
            [("never", &|_| false), ("always", &|_| true), ("when precise", &precise), ("when odd", &|x| x % 2 != 0)];
        for (name, stop) in rules {
            let [here, there] = [value, value + step].map(|v| refinement_law(&noise, v, stop));
            assert_holds(&format!("σ² {sigma2} value {value} stops {name}"), &claim, &here, &there);
        }
    }
}
