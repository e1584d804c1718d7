//! Which keys exist: all three rules, with minimum frequencies and several keys per person.

use cohortium_dp::mechanism::{KeyBounds, KeySelection};
use cohortium_dp::price::{AttoDelta, NanoNats};
use cohortium_dp::sampler::Variance;

use super::law::{Claim, Law, Pmf, assert_holds, gaussian, laplace, law_of, nothing, product};

pub fn nats(epsilon: f64) -> NanoNats {
    NanoNats::new((epsilon * 1e9).round() as u64)
}

pub fn atto(delta: f64) -> AttoDelta {
    AttoDelta::new((delta * 1e18).round() as u64).unwrap()
}

pub fn keys(max_keys_per_person: u64, min_frequency: u64) -> KeyBounds {
    KeyBounds { max_keys_per_person, min_frequency }
}

/// What a rule does with the noise it draws, or the coin.
fn one_key(rule: &KeySelection, noise: Option<&Pmf>, count: u64) -> Law {
    match noise {
        Some(noise) => law_of(noise, |x| rule.decide(count, x).map_or(vec![0, 0], |shown| vec![1, shown])),
        None => {
            let keep = rule.keep_probability(count);
            Law::from([(vec![0, 0], 1.0 - keep), (vec![1, 0], keep)])
        }
    }
}

pub fn several_keys(rule: &KeySelection, noise: Option<&Pmf>, counts: &[u64]) -> Law {
    counts.iter().fold(nothing(), |law, count| product(&law, &one_key(rule, noise, *count)))
}

pub fn noise_of(rule: &KeySelection) -> Option<Pmf> {
    match rule.noise() {
        (Some(scale), _) => Some(laplace(scale.num() as f64 / scale.den() as f64)),
        (_, Some(variance)) => Some(gaussian(variance.num() as f64 / variance.den() as f64)),
        _ => None,
    }
}

pub fn claim_of(rule: &KeySelection) -> Claim {
    Claim { price: rule.price(), epsilon: rule.epsilon() }
}

fn rules(epsilon: f64, delta: f64, bounds: KeyBounds) -> [KeySelection; 3] {
    [
        KeySelection::laplace(nats(epsilon), atto(delta), bounds).unwrap(),
        KeySelection::gaussian_with_rho(nats(epsilon * epsilon / 8.0), atto(delta), bounds).unwrap(),
        KeySelection::truncated_geometric(nats(epsilon), atto(delta), bounds).unwrap(),
    ]
}

/// A key comes and goes by one person, from none to far above the threshold.
#[test]
fn one_key_per_person() {
    for (epsilon, delta) in [(1.0, 1e-5), (0.3, 1e-3), (3.0, 1e-8), (0.1, 5e-3), (8.0, 1e-6)] {
        for k in [1, 2, 10, 100] {
            for rule in rules(epsilon, delta, keys(1, k)) {
                let noise = noise_of(&rule);
                let claim = claim_of(&rule);
                let far = rule.threshold().map_or(k + 60, |t| t as u64) + 3;
                for count in [0, k.saturating_sub(2), k - 1, k, k + 1, k + 5, far - 6, far - 4, far - 3, far - 2, far] {
                    let [here, there] = [count, count + 1].map(|n| several_keys(&rule, noise.as_ref(), &[n]));
                    let name = format!("ε {epsilon} δ {delta} k {k} n {count} {:?}", rule.noise());
                    assert_holds(&name, &claim, &here, &there);
                }
            }
        }
    }
}

/// A person brings or takes away several keys at once: all new, all old, and some of each.
#[test]
fn several_keys_per_person() {
    for (epsilon, delta, k) in [(2.0, 1e-3, 1), (2.0, 5e-3, 4), (4.0, 1e-6, 2)] {
        for rule in rules(epsilon, delta, keys(2, k)) {
            let noise = noise_of(&rule);
            let near = rule.threshold().map_or(k + 9, |t| t as u64);
            for counts in [[k - 1, k - 1], [k - 1, near], [near - 1, near - 1], [near, near + 4], [k, k]] {
                let here = several_keys(&rule, noise.as_ref(), &counts);
                let there = several_keys(&rule, noise.as_ref(), &counts.map(|n| n + 1));
                let name = format!("ε {epsilon} δ {delta} k {k} {counts:?} {:?}", rule.noise());
                assert_holds(&name, &claim_of(&rule), &here, &there);
            }
        }
    }
    let rule = KeySelection::truncated_geometric(nats(1.0), atto(1e-3), keys(5, 3)).unwrap();
    for counts in [[2; 5], [2, 3, 9, 20, 40], [30; 5], [2, 2, 30, 30, 30]] {
        let [here, there] = [0, 1].map(|d| several_keys(&rule, None, &counts.map(|n| n + d)));
        assert_holds(&format!("{counts:?}"), &claim_of(&rule), &here, &there);
    }
}

/// The δ of a price is not only enough, it is all used by a person whose keys are all new.
#[test]
fn delta_is_reached() {
    for l0 in [1usize, 2] {
        for rule in rules(1.0, 1e-3, keys(l0 as u64, 7)) {
            let noise = noise_of(&rule);
            let [here, there] = [6, 7].map(|n| several_keys(&rule, noise.as_ref(), &vec![n; l0]));
            let found = super::law::hockey_stick(&there, &here, 0.0);
            let delta = rule.delta().as_probability();
            assert!((found / delta - 1.0).abs() < 1e-7, "l0 {l0} {:?}: {found:e} {delta:e}", rule.noise());
        }
    }
}

/// Neighbours by one person among other variances than those from ρ.
#[test]
fn gaussian_rule_with_rational_variances() {
    for (num, den) in [(1, 1), (7, 3), (50, 1), (1, 2)] {
        let rule = KeySelection::gaussian(Variance::ratio(num, den).unwrap(), atto(1e-4), keys(1, 1)).unwrap();
        let noise = noise_of(&rule);
        for count in 0..20 {
            let [here, there] = [count, count + 1].map(|n| several_keys(&rule, noise.as_ref(), &[n]));
            assert_holds(&format!("{num}/{den} n {count}"), &claim_of(&rule), &here, &there);
        }
    }
}
