//! The discrete Laplace and the truncated geometric, one draw at a time, for any rational scale.
//!
//! Canonne, Kamath, Steinke 2020, Algorithm 2, with scale t = p/q: U + p·V is geometric with ratio e^(−1/p) when U is
//! uniform below p and kept with probability e^(−U/p), and V counts successes of probability 1/e; its quotient by q,
//! rounded down, is geometric with ratio e^(−q/p).
//!
//! Sizes: p < 2^64 and V < 1024, hence U + p·V < 2^74; the magnitude is at most 1025·t < 2^51.

use rand_core::CryptoRng;

use super::bernoulli::{bernoulli_exp, uniform_below};
use super::{MAX_ATTEMPTS, Scale};
use crate::exact::Probability;

/// Cut of the geometric tail: exceeded with probability e^−1024.
const TAIL_STEPS: u64 = 1024;

/// One draw from the discrete Laplace: P(x) ∝ exp(−|x|/t) on the integers. |result| < 2^51.
///
/// Promise: exact up to 2^−300 for a uniform generator. Proven (Algorithm 2).
pub fn discrete_laplace<R: CryptoRng + ?Sized>(rng: &mut R, scale: Scale) -> i64 {
    laplace(rng, scale.num(), scale.den())
}

/// One draw from the two-sided geometric P(x) ∝ exp(−|x|/t), given that |x| ≤ `bound`.
///
/// Promise: exact up to 2^−300 for a uniform generator; |result| ≤ `bound`. The law is that of Desfontaines, Voss,
/// Gipson, Mandayam 2022, "Differentially private partition selection". Proven (rejection).
pub fn truncated_geometric<R: CryptoRng + ?Sized>(rng: &mut R, scale: Scale, bound: u64) -> i64 {
    let (num, den) = (u128::from(scale.num()), u128::from(scale.den()));
    let inside = |x: &i64| x.unsigned_abs() <= bound;
    // From a bound of one scale upwards, most Laplace draws are inside.
    if u128::from(bound) * den >= num {
        return (0..MAX_ATTEMPTS).map(|_| discrete_laplace(rng, scale)).find(inside).unwrap_or(0);
    }
    // Below, a uniform draw is kept with probability above 1/e. The bound is below t ≤ 2^40, so nothing overflows.
    for _ in 0..MAX_ATTEMPTS {
        let x = uniform_below(rng, 2 * u128::from(bound) + 1) as i64 - bound as i64;
        if bernoulli_exp(rng, u128::from(x.unsigned_abs()) * den, num) {
            return x;
        }
    }
    0
}

/// The discrete Laplace of scale num/den ≤ 2^40.
pub(super) fn laplace<R: CryptoRng + ?Sized>(rng: &mut R, num: u64, den: u64) -> i64 {
    let (num, den) = (u128::from(num), u128::from(den));
    for _ in 0..MAX_ATTEMPTS {
        let u = uniform_below(rng, num);
        if !bernoulli_exp(rng, u, num) {
            continue;
        }
        let mut v = 0;
        while v < TAIL_STEPS && Probability::ONE_OVER_E.draw(rng) {
            v += 1;
        }
        if v == TAIL_STEPS {
            return 0; // so that a generator that is stuck ends here
        }
        let negative = uniform_below(rng, 2) == 1;
        let magnitude = ((u + num * u128::from(v)) / den) as i64;
        if negative && magnitude == 0 {
            continue; // zero has one sign, or it would come twice as often
        }
        return if negative { -magnitude } else { magnitude };
    }
    0
}
