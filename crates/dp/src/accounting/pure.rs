//! Composition of mechanisms of which only (ε, δ) is known.
//!
//! Where the mechanism is known, a Rényi curve or a privacy-loss distribution is tighter. Where it is not, such as for a
//! tool that states ε and nothing else, three theorems remain: basic composition (Dwork, Kenthapadi, McSherry, Mironov,
//! Naor 2006), advanced composition (Dwork, Rothblum, Vadhan 2010, in the form of Dwork and Roth 2014, Theorem 3.20), and
//! the exact answer for k equal mechanisms (Kairouz, Oh, Viswanath 2015, Theorem 3.3), which none can improve.
//!
//! The exact answer is a sum over a binomial distribution. With p = e^ε0/(1 + e^ε0) and the loss (2j − k)·ε0 of j
//! successes in k, its tail above ε gives δ(ε) = Σ_j P(j)·(1 − e^(ε − loss))₊, which together with k chances of δ0 is
//! 1 − (1 − δ0)^k·(1 − δ(ε)). Probabilities are computed by the deviance (Loader 2000), which does not cancel.
//!
//! Does not: hold for mechanisms chosen after seeing answers with other ε; basic composition does. Results are rounded up.

use libm::{exp, expm1, log, log1p, sqrt};
use thiserror::Error;

use super::special::binomial_probability;

/// Most equal mechanisms for the exact answer, whose time is proportional to them: 1e6 take about a tenth of a second.
pub const MAX_EXACT: u64 = 1_000_000;
/// Most mechanisms for the closed forms.
pub const MAX_COUNT: u64 = 1_000_000_000_000;
/// Largest ε of one mechanism: e^700 is the end of `f64`.
pub const MAX_EPSILON: f64 = 700.0;
/// Above the rounding of the closed forms.
const HAIR: f64 = 1e-12;

/// An (ε, δ) guarantee. The fields are public, so whoever computes with one checks it again.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Guarantee {
    /// ε, nats.
    pub epsilon: f64,
    /// δ, a probability.
    pub delta: f64,
}

impl Guarantee {
    /// # Errors
    /// [`PureError::Parameter`] unless 0 ≤ ε ≤ [`MAX_EPSILON`] and 0 ≤ δ < 1.
    pub fn new(epsilon: f64, delta: f64) -> Result<Self, PureError> {
        if !(0.0..=MAX_EPSILON).contains(&epsilon) {
            return Err(PureError::Parameter { field: "epsilon", allowed: "from 0 to 700" });
        }
        if !(0.0..1.0).contains(&delta) {
            return Err(PureError::Parameter { field: "delta", allowed: "at least 0, below 1" });
        }
        Ok(Self { epsilon, delta })
    }
}

/// Basic composition: ε and δ add.
///
/// Promise: given mechanisms with these guarantees, also chosen adaptively, all their answers together have the returned
/// one. Proven (Dwork, Kenthapadi, McSherry, Mironov, Naor 2006, Theorem 1). δ is at most 1, ε may exceed [`MAX_EPSILON`].
/// A part whose ε or δ is negative or no number promises nothing, so the whole has ε = ∞ or δ = 1.
pub fn compose_basic(parts: &[Guarantee]) -> Guarantee {
    let slack = 1.0 + f64::EPSILON * (parts.len() as f64 + 1.0);
    let or_nothing = |x: f64| if x >= 0.0 { x } else { f64::INFINITY };
    let epsilon = parts.iter().map(|part| or_nothing(part.epsilon)).sum::<f64>() * slack;
    let delta = parts.iter().map(|part| or_nothing(part.delta)).sum::<f64>() * slack;
    Guarantee { epsilon, delta: delta.min(1.0) }
}

/// Advanced composition of `count` mechanisms: ε = ε0·√(2k·ln(1/δ′)) + k·ε0·(e^ε0 − 1), δ = k·δ0 + δ′.
///
/// Promise: given `count` adaptively chosen mechanisms with the guarantee `each`, their answers together have the returned
/// one, or basic composition's if its ε is smaller. Proven (Dwork and Roth 2014, Theorem 3.20).
///
/// # Errors
/// [`PureError::Parameter`] unless 0 < `slack_delta` < 1 and `each` is what [`Guarantee::new`] makes;
/// [`PureError::TooMany`] above [`MAX_COUNT`].
pub fn compose_advanced(each: Guarantee, count: u64, slack_delta: f64) -> Result<Guarantee, PureError> {
    let each = Guarantee::new(each.epsilon, each.delta)?;
    if count > MAX_COUNT {
        return Err(PureError::TooMany { limit: MAX_COUNT });
    }
    if !(slack_delta > 0.0 && slack_delta < 1.0) {
        return Err(PureError::Parameter { field: "slack_delta", allowed: "between 0 and 1, without them" });
    }
    let k = count as f64;
    let basic = k * each.epsilon;
    let advanced = each.epsilon * sqrt(-2.0 * k * log(slack_delta)) + basic * expm1(each.epsilon);
    let delta = (k * each.delta + slack_delta) * (1.0 + HAIR);
    Ok(Guarantee { epsilon: advanced.min(basic) * (1.0 + HAIR), delta: delta.min(1.0) })
}

/// The least δ at `epsilon` of `count` mechanisms with the guarantee `each`.
///
/// Promise: returns at least the least δ for which every such composition is (ε, δ)-differentially private, adaptively
/// chosen or not, and not above it by more than about 1e-11 of the tail it is the difference of. Proven (Kairouz, Oh,
/// Viswanath 2015, Theorem 3.3) up to the bound on rounding, which is argued.
///
/// # Errors
/// [`PureError::Parameter`] unless ε is finite and not negative and `each` is what [`Guarantee::new`] makes;
/// [`PureError::TooMany`] above [`MAX_EXACT`].
pub fn optimal_delta(each: Guarantee, count: u64, epsilon: f64) -> Result<f64, PureError> {
    if !(epsilon >= 0.0 && epsilon.is_finite()) {
        return Err(PureError::Parameter { field: "epsilon", allowed: "finite and not negative" });
    }
    let losses = Losses::new(each, count)?;
    let mut tail = Tail::default();
    for successes in (0..=count).rev() {
        if losses.loss(successes) <= epsilon {
            break;
        }
        losses.extend(&mut tail, successes);
    }
    let pure = losses.delta(&tail, epsilon).min(1.0);
    // 1 − (1 − δ0)^k·(1 − δ)
    let kept = count as f64 * log1p(-each.delta) + log1p(-pure);
    Ok((-expm1(kept) * (1.0 + HAIR)).min(1.0))
}

/// The least ε at `delta` of `count` mechanisms with the guarantee `each`.
///
/// Promise: every such composition is (ε, δ)-differentially private for the returned ε, and no ε smaller by more than
/// rounding will do. Proven, as [`optimal_delta`].
///
/// # Errors
/// [`PureError::Parameter`] unless 0 < δ < 1 and `each` is what [`Guarantee::new`] makes; [`PureError::TooMany`] above
/// [`MAX_EXACT`]; [`PureError::DeltaTooSmall`] if the mechanisms' own δ already exceed it.
pub fn optimal_epsilon(each: Guarantee, count: u64, delta: f64) -> Result<f64, PureError> {
    if !(delta > 0.0 && delta < 1.0) {
        return Err(PureError::Parameter { field: "delta", allowed: "between 0 and 1, without them" });
    }
    let losses = Losses::new(each, count)?;
    // What is left of δ once each mechanism has failed as it may: 1 − (1 − δ)/(1 − δ0)^k.
    let left = -expm1(log1p(-delta) - count as f64 * log1p(-each.delta));
    let left = left - HAIR * (left.abs() + if each.delta > 0.0 { delta } else { 0.0 });
    if left <= 0.0 || left.is_nan() {
        return Err(PureError::DeltaTooSmall);
    }
    // δ(ε) falls with ε. From the largest loss down, take in one loss at a time until δ at the next one is too much; there
    // δ(ε) = S − e^ε·T with the sums S, T over the losses above, which is solved for ε.
    let mut tail = Tail::default();
    for successes in (0..=count).rev() {
        let loss = losses.loss(successes);
        if loss < 0.0 || losses.delta(&tail, loss) > left {
            return Ok(losses.solve(&tail, left));
        }
        losses.extend(&mut tail, successes);
    }
    Ok(losses.solve(&tail, left))
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PureError {
    /// An argument is outside its range.
    #[error("caller: {field} must be {allowed}")]
    Parameter {
        /// Which.
        field: &'static str,
        /// What it may be.
        allowed: &'static str,
    },
    /// Too many mechanisms.
    #[error("caller: more than {limit} mechanisms")]
    TooMany {
        /// The limit.
        limit: u64,
    },
    /// The composition fails more often than the target allows.
    #[error("caller: the mechanisms' own deltas add up to more than this delta")]
    DeltaTooSmall,
}

/// Sums over the losses from `loss` up: of P(j), and of P(j)·e^(`loss` − its loss).
#[derive(Clone, Copy, Debug, Default)]
struct Tail {
    probability: f64,
    discounted: f64,
    loss: f64,
}

/// The distribution of the privacy loss of k randomized responses.
struct Losses {
    epsilon: f64,
    count: u64,
    /// Bound on the relative error of the sums.
    error: f64,
}

impl Losses {
    fn new(each: Guarantee, count: u64) -> Result<Self, PureError> {
        let Guarantee { epsilon, .. } = Guarantee::new(each.epsilon, each.delta)?;
        if count > MAX_EXACT {
            return Err(PureError::TooMany { limit: MAX_EXACT });
        }
        // A few ulps of a deviance that matters (below 745); and, as many standard deviations are about √k terms, what
        // the rounding of p and of so many additions does.
        Ok(Self { epsilon, count, error: 1e-12 + 1e-14 * sqrt(count as f64) })
    }

    fn loss(&self, successes: u64) -> f64 {
        (2.0 * successes as f64 - self.count as f64) * self.epsilon
    }

    /// Takes in the next loss below.
    fn extend(&self, tail: &mut Tail, successes: u64) {
        let p = 1.0 / (1.0 + exp(-self.epsilon));
        let q = 1.0 / (1.0 + exp(self.epsilon));
        let probability = binomial_probability(self.count as f64, successes as f64, p, q);
        tail.probability += probability;
        tail.discounted = tail.discounted * exp(-2.0 * self.epsilon) + probability;
        tail.loss = self.loss(successes);
    }

    /// An upper bound of δ(ε), for a tail of exactly the losses above ε.
    fn delta(&self, tail: &Tail, epsilon: f64) -> f64 {
        let discounted = tail.discounted * exp(epsilon - tail.loss);
        tail.probability * (1.0 + self.error) - discounted * (1.0 - self.error)
    }

    /// The ε at which that bound is `delta`; zero if it is below at every ε ≥ 0.
    fn solve(&self, tail: &Tail, delta: f64) -> f64 {
        let excess = tail.probability * (1.0 + self.error) - delta;
        if excess <= 0.0 {
            return 0.0;
        }
        let least = tail.loss + log(excess / (tail.discounted * (1.0 - self.error)));
        // The largest loss of all suffices for any δ.
        let most = self.count as f64 * self.epsilon;
        (least.min(most) * (1.0 + HAIR) + HAIR).max(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn each(epsilon: f64, delta: f64) -> Guarantee {
        Guarantee::new(epsilon, delta).unwrap()
    }

    /// Computed with mpmath at 50 digits from the binomial sum.
    #[test]
    fn the_exact_answer_agrees_with_many_digits() {
        for (epsilon0, count, delta, expected) in [
            (0.1, 100, 1e-6, 4.774_567_588_107_986_5),
            (1.0, 10, 1e-6, 9.999_977_065_820_733),
            (0.5, 29, 1e-09, 14.499_064_627_437_896),
            (0.01, 1000, 1e-05, 1.197_732_798_308_673),
            (0.001, 100_000, 1e-08, 1.658_619_739_057_396_5),
            (3.0, 40, 1e-10, 119.999_999_999_301_69),
            (0.2, 64, 0.3, 1.294_267_900_450_899_7),
            (0.05, 500, 1e-100, 22.042_733_776_998_062),
        ] {
            let found = optimal_epsilon(each(epsilon0, 0.0), count, delta).unwrap();
            let above = found - expected;
            assert!((-1e-15..1e-9).contains(&above), "{epsilon0} {count} {delta:e}: {found}, {above:e} above");
            let back = optimal_delta(each(epsilon0, 0.0), count, found).unwrap();
            assert!(back <= delta * (1.0 + 1e-6), "{epsilon0} {count}: δ {back:e}, not {delta:e}");
        }
    }

    /// All 2^k outcomes of k mechanisms that fail with δ0 and respond with ε0 otherwise, one by one.
    #[test]
    fn the_exact_answer_is_the_sum_over_all_outcomes() {
        for (epsilon0, delta0) in [(0.5, 0.0), (0.5, 0.01), (1.7, 1e-3), (0.0, 0.1)] {
            for count in [1u32, 2, 5, 9] {
                for epsilon in [0.0, 0.3, 1.0, 2.5] {
                    // Four values: revealing one, likely under one, likely under the other, revealing the other.
                    let odds = 1.0 / (1.0 + exp(epsilon0));
                    let p = [delta0, (1.0 - delta0) * (1.0 - odds), (1.0 - delta0) * odds, 0.0];
                    let q = [0.0, p[2], p[1], delta0];
                    let expected: f64 = (0..4u32.pow(count))
                        .map(|outcome| {
                            let digits = (0..count).map(|i| (outcome / 4u32.pow(i) % 4) as usize);
                            let (a, b) = digits.fold((1.0, 1.0), |(a, b), d| (a * p[d], b * q[d]));
                            f64::max(a - exp(epsilon) * b, 0.0)
                        })
                        .sum();
                    let found = optimal_delta(each(epsilon0, delta0), u64::from(count), epsilon).unwrap();
                    assert!(
                        (found - expected).abs() < 1e-11,
                        "{epsilon0} {delta0} {count} {epsilon}: {found} {expected}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_three_theorems_are_in_order() {
        for (epsilon0, delta0, count) in [(0.01, 0.0, 1000), (0.1, 1e-9, 50), (1.0, 0.0, 20), (0.001, 1e-12, 100_000)] {
            let one = each(epsilon0, delta0);
            let slack = 1e-6;
            let advanced = compose_advanced(one, count, slack).unwrap();
            let optimal = optimal_epsilon(one, count, advanced.delta).unwrap();
            let basic = epsilon0 * count as f64;
            assert!(optimal <= advanced.epsilon && advanced.epsilon <= basic * (1.0 + 1e-9), "{epsilon0} {count}");
            let parts = vec![one; count as usize];
            assert!((compose_basic(&parts).epsilon / basic - 1.0).abs() < 1e-9);
        }
        let formula = 0.1 * (2.0f64 * 50.0 * 1e6f64.ln()).sqrt() + 50.0 * 0.1 * 0.1f64.exp_m1();
        let found = compose_advanced(each(0.1, 1e-9), 50, 1e-6).unwrap();
        assert!((found.epsilon - formula.min(5.0)).abs() < 1e-9 && (found.delta - 1.05e-6).abs() < 1e-15, "{found:?}");
    }

    #[test]
    fn epsilon_falls_with_delta_and_rises_with_the_count() {
        for epsilon0 in [0.001, 0.05, 1.0, 8.0] {
            let at = |count, delta| optimal_epsilon(each(epsilon0, 0.0), count, delta).unwrap();
            let mut last = 0.0;
            for count in [0, 1, 2, 5, 29, 30, 31, 100, 3000] {
                let now = at(count, 1e-7);
                assert!(
                    now >= last - 1e-9 && now <= epsilon0 * count as f64 * (1.0 + 1e-9) + 1e-9,
                    "{epsilon0} {count}"
                );
                assert!(at(count, 1e-3) <= now && at(count, 1e-15) >= now - 1e-9, "{epsilon0} {count}");
                last = now;
            }
        }
    }

    /// An ε that is no number once made the least ε of the composition zero: no loss at all.
    #[test]
    fn repro_guarantees_made_by_hand_promise_nothing() {
        for (epsilon, delta) in [(f64::NAN, 0.0), (-1.0, 0.0), (701.0, 0.0), (1.0, f64::NAN), (1.0, -0.5)] {
            let forged = Guarantee { epsilon, delta };
            assert!(optimal_epsilon(forged, 10, 1e-6).is_err(), "{forged:?}");
            assert!(optimal_delta(forged, 10, 1.0).is_err(), "{forged:?}");
            assert!(compose_advanced(forged, 10, 1e-6).is_err(), "{forged:?}");
            let basic = compose_basic(&[each(3.0, 0.1), forged]);
            assert!(basic.epsilon >= 3.0 && basic.delta >= 0.1, "{basic:?}");
        }
        assert_eq!(compose_basic(&[Guarantee { epsilon: f64::NAN, delta: f64::NAN }]).epsilon, f64::INFINITY);
    }

    #[test]
    fn limits_and_arguments() {
        for (epsilon, delta) in [(f64::NAN, 0.0), (-1.0, 0.0), (701.0, 0.0), (1.0, 1.0), (1.0, f64::NAN), (1.0, -0.1)] {
            assert!(Guarantee::new(epsilon, delta).is_err(), "{epsilon} {delta}");
        }
        for bad in [f64::NAN, f64::INFINITY, -1.0] {
            assert!(optimal_epsilon(each(1.0, 0.0), 3, bad).is_err());
            assert!(optimal_delta(each(1.0, 0.0), 3, bad).is_err());
            assert!(compose_advanced(each(1.0, 0.0), 3, bad).is_err());
        }
        assert_eq!(optimal_epsilon(each(0.1, 1e-3), 100, 1e-6), Err(PureError::DeltaTooSmall));
        assert_eq!(optimal_epsilon(each(0.1, 0.0), MAX_EXACT + 1, 1e-6), Err(PureError::TooMany { limit: MAX_EXACT }));
        assert!(compose_advanced(each(0.1, 0.0), MAX_COUNT + 1, 1e-6).is_err());
        assert!(optimal_epsilon(each(MAX_EPSILON, 0.0), 1000, 1e-6).unwrap() <= MAX_EPSILON * 1001.0);
        assert_eq!(optimal_epsilon(each(1.0, 0.0), 0, 1e-6), Ok(0.0));
        assert_eq!(compose_basic(&[]), Guarantee { epsilon: 0.0, delta: 0.0 });
        assert_eq!(compose_basic(&[each(1.0, 0.9), each(1.0, 0.9)]).delta, 1.0);
    }
}
