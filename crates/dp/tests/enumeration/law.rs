//! Laws of outcomes, and the comparison of two of them with a claim.

use core::cmp::Ordering;
use std::collections::BTreeMap;

use cohortium_dp::price::{NanoNats, ORDERS, Price, epsilon};

/// Outcomes and their probabilities.
pub type Law = BTreeMap<Vec<i64>, f64>;
/// Integers and their probabilities.
pub type Pmf = Vec<(i64, f64)>;

/// What `f64` sums of some thousand terms and cut tails can be off by.
pub const TOLERANCE: f64 = 1e-12;
/// Rényi divergences are compared at orders up to this: higher ones live in tails that are cut off.
const HIGHEST_ORDER: f64 = 8.0;

/// What a mechanism says about itself.
#[derive(Clone)]
pub struct Claim {
    pub price: Price,
    /// ε of a promise (ε, δ), δ being that of the price.
    pub epsilon: Option<NanoNats>,
}

/// What is wrong with a claim, if something is.
pub fn violation(claim: &Claim, p: &Law, q: &Law) -> Option<String> {
    for law in [p, q] {
        let total: f64 = law.values().sum();
        assert!((total - 1.0).abs() < TOLERANCE, "the law does not add up: {total}");
    }
    let there = side_by_side(p, q);
    let back: Vec<(f64, f64)> = there.iter().map(|(p, q)| (*q, *p)).collect();
    [("there", there), ("back", back)].into_iter().find_map(|(way, masses)| {
        let fault = promise_fault(claim, &masses);
        let fault = fault.or_else(|| conversion_fault(claim, &masses)).or_else(|| curve_fault(claim, &masses));
        fault.map(|fault| format!("{way}: {fault}"))
    })
}

/// Asserts that a claim holds.
pub fn assert_holds(name: &str, claim: &Claim, p: &Law, q: &Law) {
    assert_eq!(violation(claim, p, q), None, "{name}");
}

/// Σ max(0, P − e^ε·Q).
pub fn hockey_stick(p: &Law, q: &Law, epsilon: f64) -> f64 {
    excess(&side_by_side(p, q), epsilon)
}

/// The masses of every outcome under both laws.
fn side_by_side(p: &Law, q: &Law) -> Vec<(f64, f64)> {
    let mut masses = Vec::with_capacity(p.len() + q.len());
    let (mut p, mut q) = (p.iter().peekable(), q.iter().peekable());
    loop {
        match (p.peek(), q.peek()) {
            (Some((a, x)), Some((b, y))) => match a.cmp(b) {
                Ordering::Equal => {
                    masses.push((**x, **y));
                    p.next();
                    q.next();
                }
                Ordering::Less => masses.push((*p.next().unwrap().1, 0.0)),
                Ordering::Greater => masses.push((0.0, *q.next().unwrap().1)),
            },
            (Some(_), None) => masses.push((*p.next().unwrap().1, 0.0)),
            (None, Some(_)) => masses.push((0.0, *q.next().unwrap().1)),
            (None, None) => return masses,
        }
    }
}

fn excess(masses: &[(f64, f64)], epsilon: f64) -> f64 {
    let factor = epsilon.exp();
    masses.iter().map(|(p, q)| (p - factor * q).max(0.0)).sum()
}

fn promise_fault(claim: &Claim, masses: &[(f64, f64)]) -> Option<String> {
    let (epsilon, delta) = (claim.epsilon?.as_nats(), claim.price.delta.as_probability());
    let found = excess(masses, epsilon);
    (found > delta + TOLERANCE).then(|| format!("promised δ {delta:e} at ε {epsilon}, found {found:e}"))
}

fn conversion_fault(claim: &Claim, masses: &[(f64, f64)]) -> Option<String> {
    (1..=9).find_map(|digits| {
        let delta = 10f64.powi(-digits);
        let epsilon = epsilon(&claim.price.curve, delta);
        let allowed = delta + claim.price.delta.as_probability();
        let found = excess(masses, epsilon);
        (found > allowed + TOLERANCE).then(|| format!("priced δ {allowed:e} at ε {epsilon}, found {found:e}"))
    })
}

fn curve_fault(claim: &Claim, masses: &[(f64, f64)]) -> Option<String> {
    if claim.price.delta.get() > 0 {
        return None;
    }
    let curve = ORDERS.iter().zip(claim.price.curve.orders());
    let low = curve.map(|((num, den), cost)| (*num as f64 / *den as f64, cost.as_nats()));
    low.take_while(|(alpha, _)| *alpha <= HIGHEST_ORDER).find_map(|(alpha, allowed)| {
        let found = renyi(masses, alpha);
        (found > allowed + 1e-8).then(|| format!("priced {allowed} at order {alpha}, found {found}"))
    })
}

/// Rényi divergence; infinite if something worth mentioning happens in P only.
fn renyi(masses: &[(f64, f64)], alpha: f64) -> f64 {
    let term = |(p, q): &(f64, f64)| match (*p, *q) {
        (p, q) if p > 0.0 && q > 0.0 => (alpha * p.ln() + (1.0 - alpha) * q.ln()).exp(),
        (p, _) if p > TOLERANCE => f64::INFINITY,
        _ => 0.0,
    };
    masses.iter().map(term).sum::<f64>().ln() / (alpha - 1.0)
}

/// P(x) ∝ exp(−|x|/t), tails cut below 1e-17.
pub fn laplace(scale: f64) -> Pmf {
    let r = (40.0 * scale).ceil() as i64 + 1;
    normalised((-r..=r).map(|x| (x, (-(x.abs() as f64) / scale).exp())).collect())
}

/// P(x) ∝ exp(−x²/2σ²), tails cut below 1e-17.
pub fn gaussian(sigma2: f64) -> Pmf {
    let r = (9.0 * sigma2.sqrt()).ceil() as i64 + 1;
    normalised((-r..=r).map(|x| (x, (-((x * x) as f64) / (2.0 * sigma2)).exp())).collect())
}

/// Poisson of a mean, tails cut.
pub fn poisson(mean: f64) -> Pmf {
    let last = (mean + 12.0 * mean.sqrt() + 30.0) as i64;
    let mut mass = (-mean).exp();
    let step = |x: i64| {
        let here = mass;
        mass *= mean / (x + 1) as f64;
        (x, here)
    };
    normalised((0..=last).map(step).collect())
}

/// The law of the sum of two independent integers.
pub fn convolve(a: &Pmf, b: &Pmf) -> Pmf {
    let mut sum = BTreeMap::new();
    for (x, p) in a {
        for (y, q) in b {
            *sum.entry(x + y).or_insert(0.0) += p * q;
        }
    }
    sum.into_iter().collect()
}

/// The law of what a function makes of noise.
pub fn law_of(noise: &Pmf, outcome: impl Fn(i64) -> Vec<i64>) -> Law {
    let mut law = Law::new();
    for (x, mass) in noise {
        *law.entry(outcome(*x)).or_insert(0.0) += mass;
    }
    law
}

/// The law of value + noise.
pub fn shifted(noise: &Pmf, value: i64) -> Law {
    law_of(noise, |x| vec![value + x])
}

/// The law of two independent outcomes, one after the other.
pub fn product(a: &Law, b: &Law) -> Law {
    let mut both = Law::new();
    for (x, p) in a {
        for (y, q) in b {
            *both.entry([x.as_slice(), y.as_slice()].concat()).or_insert(0.0) += p * q;
        }
    }
    both
}

/// The law of nothing.
pub fn nothing() -> Law {
    Law::from([(Vec::new(), 1.0)])
}

/// Prices of several releases in a row.
pub fn times(price: &Price, n: u32) -> Price {
    let mut sum = price.clone();
    for _ in 1..n {
        sum.curve = sum.curve.checked_add(&price.curve).unwrap();
    }
    sum
}

fn normalised(weights: Pmf) -> Pmf {
    let total: f64 = weights.iter().map(|(_, w)| w).sum();
    weights.into_iter().map(|(x, w)| (x, w / total)).collect()
}
