//! Trade-off curves: how well the best attack can do, in the words of a test.
//!
//! An attacker who must tell two neighbouring data sets apart makes two errors: type I, seeing a person who is not there,
//! with probability α; type II, missing one who is, with probability β. A trade-off function f (Dong, Roth, Su 2019,
//! "Gaussian differential privacy", Definition 2.1) says that no attack with type I error α has a β below f(α). It is
//! the whole privacy profile δ(ε) in another form, and the one that people understand: f(0.05) = 0.92 means that an attack
//! which falsely accuses one in twenty finds at most eight in a hundred.
//!
//! Does not: treat the two directions of an asymmetric mechanism apart; give it the larger of the two profiles. Everything
//! is rounded downwards, so that what is shown is never more private than what is.

use super::special::{minimise, phi, phi_inverse};

/// ε at which a profile is looked at, beside 0, before refining around the best.
const LEAST_EPSILON: f64 = 1e-6;
const LARGEST_EPSILON: f64 = 1e4;
/// Twenty per decade.
const GRID_POINTS: u32 = 201;
/// Above the rounding of the few operations below.
const HAIR: f64 = 1e-12;
/// Most points of one curve.
pub const MAX_POINTS: usize = 100_000;

/// A point of a trade-off curve.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct TradeOffPoint {
    /// Probability of seeing a person who is not there.
    pub type_one: f64,
    /// Least probability of missing a person who is there.
    pub type_two: f64,
}

/// The least type II error at `type_one` under a privacy profile ε ↦ δ(ε).
///
/// f(α) = sup over ε ≥ 0 of max(0, 1 − δ(ε) − e^ε·α, e^−ε·(1 − δ(ε) − α)) (Dong, Roth, Su 2019, Proposition 2.12).
///
/// Promise: given upper bounds of δ at every ε, in both directions, returns a lower bound of the type II error of every
/// test; every ε is valid, so the search only decides how tight it is. Proven. Returns 0, which promises nothing, for an
/// α that is no probability.
pub fn type_two_error<P: Fn(f64) -> f64>(profile: P, type_one: f64) -> f64 {
    if !(0.0..=1.0).contains(&type_one) {
        return 0.0;
    }
    let at = |epsilon: f64| {
        let left = 1.0 - profile(epsilon);
        let grown = libm::exp(epsilon);
        let bound = (left - grown * type_one).max((left - type_one) / grown);
        if bound.is_nan() { 0.0 } else { bound.max(0.0) }
    };
    let (negative, _) = minimise(|epsilon| -at(epsilon), LEAST_EPSILON, LARGEST_EPSILON, GRID_POINTS);
    ((-negative).max(at(0.0)) - HAIR).max(0.0)
}

/// The least type II error at `type_one` of a μ-Gaussian differentially private mechanism: Φ(−Φ⁻¹(α) − μ).
///
/// Promise: as [`type_two_error`]. Proven (Dong, Roth, Su 2019, Definition 2.6). Returns 0 unless 0 ≤ α ≤ 1, 0 ≤ μ.
pub fn gaussian_type_two_error(type_one: f64, mu: f64) -> f64 {
    if !((0.0..=1.0).contains(&type_one) && mu >= 0.0 && mu.is_finite()) {
        return 0.0;
    }
    (phi(-phi_inverse(type_one) - mu) - HAIR).max(0.0)
}

/// `count` points of a curve, for plotting: (0, f(0)) and (1, f(1)), and between them equal steps of the normal quantile
/// of α from −4 to 4, so that the corners, where privacy is, have as many points as the middle.
///
/// `error` is [`type_two_error`] or [`gaussian_type_two_error`] of some mechanism. At most [`MAX_POINTS`] points.
pub fn points<F: Fn(f64) -> f64>(error: F, count: usize) -> Vec<TradeOffPoint> {
    const REACH: f64 = 4.0;
    let count = count.min(MAX_POINTS);
    let last = count.saturating_sub(1);
    let steps = last.saturating_sub(2).max(1) as f64;
    let type_one = |index: usize| match index {
        0 => 0.0,
        _ if index == last => 1.0,
        _ => phi(2.0 * REACH * (index - 1) as f64 / steps - REACH),
    };
    (0..count).map(type_one).map(|type_one| TradeOffPoint { type_one, type_two: error(type_one) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::gaussian;

    /// Two independent ways: the closed form, and the profile of Balle and Wang turned into a curve.
    #[test]
    fn the_gaussian_curve_is_the_curve_of_its_profile() {
        for mu in [0.01, 0.3, 1.0, 2.5, 6.0] {
            for type_one in [0.0, 1e-6, 0.001, 0.05, 0.3, 0.5, 0.8, 0.99, 1.0] {
                let closed = gaussian_type_two_error(type_one, mu);
                let found = type_two_error(|epsilon| gaussian::delta(epsilon, mu), type_one);
                assert!(found <= closed + 2e-12, "μ {mu}, α {type_one}: {found} above {closed}");
                assert!(found > closed - 1e-6, "μ {mu}, α {type_one}: {found} far below {closed}");
            }
        }
    }

    /// For randomized response of ε the curve is two straight lines (Dong, Roth, Su 2019, equation 5).
    #[test]
    fn a_pure_mechanism_has_two_lines() {
        let limit = 1.3f64;
        let profile = |epsilon: f64| (1.0 - (epsilon - limit).exp()).max(0.0) / (1.0 + (-limit).exp());
        for type_one in [0.0, 0.01, 0.1, 0.2, 0.5, 0.9, 1.0] {
            let lines = (1.0 - limit.exp() * type_one).max((-limit).exp() * (1.0 - type_one));
            let found = type_two_error(profile, type_one);
            assert!((found - lines).abs() < 1e-6 && found <= lines, "{type_one}: {found} {lines}");
        }
    }

    #[test]
    fn points_span_the_square_and_fall() {
        let curve = points(|type_one| gaussian_type_two_error(type_one, 1.0), 101);
        assert_eq!(curve.len(), 101);
        assert_eq!((curve[0].type_one, curve[100].type_one), (0.0, 1.0));
        assert!(curve[0].type_two > 1.0 - 1e-9 && curve[100].type_two < 1e-9);
        for pair in curve.windows(2) {
            assert!(pair[0].type_one < pair[1].type_one && pair[0].type_two >= pair[1].type_two, "{pair:?}");
        }
        for count in [0, 1, 2, 3, 4] {
            let few = points(|_| 0.5, count);
            assert_eq!(few.len(), count);
            assert!(few.iter().all(|point| (0.0..=1.0).contains(&point.type_one)), "{few:?}");
        }
        assert_eq!(points(|_| 0.5, usize::MAX).len(), MAX_POINTS);
    }

    #[test]
    fn arguments_without_a_meaning_promise_nothing() {
        for bad in [f64::NAN, -0.1, 1.1] {
            assert_eq!(type_two_error(|_| 0.0, bad), 0.0);
            assert_eq!(gaussian_type_two_error(bad, 1.0), 0.0);
        }
        assert_eq!(gaussian_type_two_error(0.5, f64::NAN), 0.0);
        assert_eq!(type_two_error(|_| f64::NAN, 0.5), 0.0);
        assert_eq!(type_two_error(|_| 1.0, 0.5), 0.0);
    }
}
