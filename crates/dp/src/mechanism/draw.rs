//! The draws that the mechanisms make, with rational parameters.
//!
//! Algorithms 1 to 3 of Canonne, Kamath, Steinke 2020 ("The Discrete Gaussian for Differential Privacy") for scales and
//! variances that are quotients, and an exact coin for a probability that is a multiple of 2^−256.
//!
//! Does not: run in constant time; its time depends on random bits and on public parameters, except in
//! [`bernoulli_exp`], whose time depends on its argument: what is chosen by scores takes a time that depends on scores.
//! Assumes: the generator cannot be told from uniform. Every loop has a limit, reached with probability below 1e-80.

use dashu::integer::UBig;
use rand_core::CryptoRng;

use super::Ratio;
use super::fixed::BITS;

/// Cut of the geometric tail: exceeded with probability e^−1024.
const TAIL_STEPS: u64 = 1024;
/// Cut of the series of Algorithm 1: exceeded with probability 1/64!.
const SERIES_STEPS: u128 = 64;
/// Rejections in one uniform draw, each of probability below 1/2.
const MAX_REJECTIONS: u32 = 512;
/// Attempts of a rejection sampler, each accepted with probability above 0.4.
const MAX_ATTEMPTS: u32 = 4096;

/// P(x) ∝ exp(−|x|·den/num) on the integers; |result| ≤ 1025·(num/den + 1).
///
/// Promise: exact up to 1e-80 for a uniform generator. Proven (Algorithm 2).
pub(super) fn laplace(rng: &mut dyn CryptoRng, scale: Ratio) -> i64 {
    let (t, s) = (u128::from(scale.num()), u128::from(scale.den()));
    for _ in 0..MAX_ATTEMPTS {
        let u = uniform_below(rng, t);
        if !bernoulli_exp(rng, u, t) {
            continue;
        }
        let mut v = 0;
        while v < TAIL_STEPS && bernoulli_exp_unit(rng, 1, 1) {
            v += 1;
        }
        // t < 2^64 and v ≤ 2^10, so this fits.
        let magnitude = (u + t * u128::from(v)) / s;
        let negative = uniform_below(rng, 2) == 1;
        if v == TAIL_STEPS || (negative && magnitude == 0) {
            continue; // zero has one sign, or it would come twice as often
        }
        let magnitude = i64::try_from(magnitude).unwrap_or(i64::MAX);
        return if negative { -magnitude } else { magnitude };
    }
    0
}

/// P(x) ∝ exp(−x²·den/(2·num)) on the integers, for a variance num/den within [`super::MAX_VARIANCE_NUM`].
///
/// Promise: exact up to 1e-80 for a uniform generator. Proven (Algorithm 3).
pub(super) fn gaussian(rng: &mut dyn CryptoRng, variance: Ratio) -> i64 {
    let (num, den) = (u128::from(variance.num()), u128::from(variance.den()));
    let t = (variance.num() / variance.den()).isqrt() + 1;
    let wide = u128::from(t);
    for _ in 0..MAX_ATTEMPTS {
        let y = laplace(rng, Ratio::whole(t));
        // (|y| − σ²/t)²/(2σ²) = (|y|·den·t − num)²/(2·num·den·t²). With num < 2^48: t² ≤ 2·num/den + 2 and |y| < 2^11·t,
        // so the root of the numerator is below 2^11·den·t² < 2^61 and the denominator below 2^2·num·(num + den) < 2^99.
        let gap = (u128::from(y.unsigned_abs()) * den * wide).abs_diff(num);
        if bernoulli_exp(rng, gap * gap, 2 * num * den * wide * wide) {
            return y;
        }
    }
    0
}

/// True with probability p·2^−256. Reads four words whatever p is.
///
/// Promise: exact for a uniform generator. Proven: it compares p with a uniform integer of 256 bits.
pub(super) fn bernoulli_dyadic(rng: &mut dyn CryptoRng, p: &UBig) -> bool {
    let drawn = (0..BITS / 64).fold(UBig::ZERO, |high, _| (high << 64) + rng.next_u64());
    drawn < *p
}

/// True with probability exp(−num/den), for 1 ≤ den < 2^120.
///
/// Promise: exact up to 1e-80 for a uniform generator. Proven (Algorithm 1).
pub(super) fn bernoulli_exp(rng: &mut dyn CryptoRng, num: u128, den: u128) -> bool {
    let mut rest = num;
    let mut turns = 0;
    while rest >= den {
        turns += 1;
        if turns > TAIL_STEPS || !bernoulli_exp_unit(rng, 1, 1) {
            return false;
        }
        rest -= den;
    }
    bernoulli_exp_unit(rng, rest, den)
}

/// Uniform on 0..n, for n ≥ 1.
pub(super) fn uniform_below(rng: &mut dyn CryptoRng, n: u128) -> u128 {
    if n <= 1 {
        return 0;
    }
    let mask = u128::MAX >> (n - 1).leading_zeros();
    let mut word = || {
        let low = u128::from(rng.next_u64());
        if mask > u128::from(u64::MAX) { low | u128::from(rng.next_u64()) << 64 } else { low }
    };
    (0..MAX_REJECTIONS).map(|_| word() & mask).find(|drawn| *drawn < n).unwrap_or(0)
}

/// True with probability exp(−num/den), for num ≤ den.
fn bernoulli_exp_unit(rng: &mut dyn CryptoRng, num: u128, den: u128) -> bool {
    for k in 1..=SERIES_STEPS {
        if uniform_below(rng, den.saturating_mul(k)) >= num {
            return k % 2 == 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::super::fixed::one;
    use super::*;
    use crate::testing::{CRITICAL_RATE, chi_squared, gaussian_pmf, laplace_pmf, seeded};

    const SAMPLES: usize = 200_000;

    #[test]
    fn rational_draws_agree_with_their_exact_masses() {
        for (seed, num, den) in [(71u8, 1u64, 2u64), (72, 7, 3), (73, 1_000_000_000, 123_456_789), (74, 40, 1)] {
            let (mut rng, ratio) = (seeded(seed), Ratio::new(num, den).unwrap());
            let value = num as f64 / den as f64;
            let draws: Vec<i64> = (0..SAMPLES).map(|_| laplace(&mut rng, ratio)).collect();
            let test = chi_squared(&draws, &laplace_pmf(value));
            assert!(!test.alarming(), "seed {seed}, t {value}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
            assert!(chi_squared(&draws, &laplace_pmf(value * 1.05)).alarming(), "5 % too wide passed");
            let draws: Vec<i64> = (0..SAMPLES).map(|_| gaussian(&mut rng, ratio)).collect();
            let test = chi_squared(&draws, &gaussian_pmf(value));
            assert!(!test.alarming(), "seed {seed}, σ² {value}, n {SAMPLES}, rate {CRITICAL_RATE}: {test:?}");
            assert!(chi_squared(&draws, &gaussian_pmf(value * 1.05)).alarming(), "5 % too wide passed");
        }
    }

    /// With n = 200,000 and p = 3/7 the standard deviation is 0.0011: six of them are a false-alarm rate of 2e-9, and a
    /// coin that is wrong by 2 % is missed with probability below 1e-20.
    #[test]
    fn dyadic_coins_land_as_often_as_they_should() {
        let mut rng = seeded(75);
        for (num, den) in [(0u64, 1u64), (1, 1), (3, 7)] {
            let p = one() * num / den;
            let heads = (0..SAMPLES).filter(|_| bernoulli_dyadic(&mut rng, &p)).count();
            let expected = num as f64 / den as f64;
            let deviation = (expected * (1.0 - expected) / SAMPLES as f64).sqrt();
            assert!(
                (heads as f64 / SAMPLES as f64 - expected).abs() <= 6.0 * deviation,
                "seed 75, {num}/{den}: {heads}"
            );
        }
    }
}
