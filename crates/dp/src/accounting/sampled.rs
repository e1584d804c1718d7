//! The one integral behind the Poisson-subsampled Gaussian, at any real order.
//!
//! With μ0 = N(0, σ²), μ1 = N(1, σ²) and sampling rate q, the Rényi divergence of order α is ln A/(α − 1), where
//!
//! ```text
//! A = E over z from μ0 of (1 + u)^α,   u = q·(μ1(z)/μ0(z) − 1)
//! ```
//!
//! (Mironov, Talwar, Zhang 2019, "Rényi differential privacy of the sampled Gaussian mechanism", Theorems 4 and 5: this
//! direction of the two is the larger one.) The paper evaluates A by a binomial sum for integers and by two slowly
//! converging alternating series otherwise. Here A − 1 = E[(1 + u)^α − 1 − αu] is integrated directly, since E[u] = 0:
//! the integrand is never negative, so nothing cancels, and A − 1 keeps its relative accuracy when q is 1e-9.
//!
//! **Error.** In x = z/σ the integrand is analytic for |Im x| < πσ, where 1 + u first vanishes, and at height d it has
//! grown by e^(d²/2) and a factor below 16. The trapezoidal rule of step h is therefore wrong by at most about
//! 16·2·e^(d²/2 − 2πd/h) relative (Trefethen and Weideman 2014, Theorem 5.1). With d = π·min(σ, 1) and
//! h ≤ 0.45·min(σ, 1) that is below 1e-15. What is left out is below e^−44 of the largest cell, per cell. Argued; the
//! tests compare with binomial sums, with another quadrature and with many digits.
//!
//! Does not: round up; it says how far off it may be. Uses only `libm` and the five operations that IEEE 754 rounds
//! exactly, so that all machines find the same bits.

use libm::{ceil, exp, expm1, log, log1p};

use super::special::{LN_SQRT_2PI, log_add};

/// Step of the trapezoidal rule in units of min(σ, 1).
const STEP: f64 = 0.45;
/// Cells further than this below the largest, in nats, are left out.
const NEGLIGIBLE: f64 = 45.0;
/// How far beyond the outermost peaks is looked, in standard deviations: e^−72 of them.
const MARGIN: f64 = 12.0;
/// Narrower noise than this is not evaluated: sampling hardly helps there and the rule would need many points.
const LEAST_SIGMA: f64 = 0.01;
/// Limit on α/σ, in cells of one standard deviation.
const MAX_CELLS: f64 = 20_000.0;

/// ln A and a bound on its absolute error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogMoment {
    pub(crate) value: f64,
    pub(crate) error: f64,
}

/// ln A for 0 < q < 1, σ > 0 and order > 1; `None` where it would take too many points or is not accurate.
pub(crate) fn ln_moment(q: f64, sigma: f64, order: f64) -> Option<LogMoment> {
    let last = ceil(order.max(2.0) / sigma + MARGIN);
    if !(q > 0.0 && q < 1.0 && sigma >= LEAST_SIGMA && order > 1.0 && last <= MAX_CELLS) {
        return None;
    }
    let integrand = |x: f64| {
        let y = (x - 0.5 / sigma) / sigma;
        ln_excess(q, y, order) - 0.5 * x * x - LN_SQRT_2PI
    };
    // One value per cell, to see where the integral is. Between two of them the logarithm rises at most 1/8 above the
    // chord, because nowhere does it bend down more than −x²/2 does.
    let first = -MARGIN;
    let count = (last - first) as usize + 1;
    let samples: Vec<f64> = (0..count).map(|i| integrand(first + i as f64)).collect();
    let (peak_at, peak) = samples
        .iter()
        .enumerate()
        .fold((0, f64::NEG_INFINITY), |best, (i, value)| if *value > best.1 { (i, *value) } else { best });
    let points = ceil(1.0 / (STEP * sigma.min(1.0)));
    let mut sum = 0.0;
    for (i, around) in samples.windows(2).enumerate() {
        if around.iter().all(|value| *value < peak - NEGLIGIBLE) {
            continue;
        }
        let from = first + i as f64;
        for j in 0..points as u32 {
            sum += exp(integrand(from + f64::from(j) / points) - peak);
        }
    }
    let ln_excess = peak + log(sum / points);
    // Rounding: of the exponents, in proportion to their size where the integral is, and of the sum.
    let x = first + peak_at as f64;
    let exponents = x * x + order * (x.abs() + 0.5 / sigma) / sigma;
    let relative = 1e-13 + 4.0 * f64::EPSILON * exponents;
    let value = if ln_excess > 0.0 { log_add(0.0, ln_excess) } else { log1p(exp(ln_excess)) };
    value.is_finite().then(|| LogMoment { value, error: relative * exp(ln_excess.min(0.0)) + f64::MIN_POSITIVE })
}

/// ln((1 + u)^α − 1 − αu) for u = q·(e^y − 1), to about 1e-14 where it is not far below its neighbourhood.
fn ln_excess(q: f64, y: f64, order: f64) -> f64 {
    /// Above this the exponential would overflow.
    const LARGE: f64 = 700.0;
    /// Above this one exponential leaves the other terms behind.
    const DOMINANT: f64 = 30.0;
    let above = order - 1.0;
    let (u, w) = if y < LARGE {
        let u = q * expm1(y);
        (u, log1p(u))
    } else {
        let w = log_add(log1p(-q), log(q) + y);
        (expm1(w.min(LARGE)), w)
    };
    if above * w > DOMINANT {
        // (1 + u)^α·(1 − (1 + u)^(1−α)·(1 + (α − 1)·u/(1 + u)))
        return order * w + log1p(-exp(-above * w) * (1.0 - above * expm1(-w)));
    }
    if w > DOMINANT {
        // The next form with 1 + u = e^w taken out, because u itself may not fit.
        return w + log(expm1(above * w) + above * expm1(-w));
    }
    if u.abs() * order > 0.5 {
        // (1 + u)·((1 + u)^(α−1) − 1) − (α − 1)·u: for α near 1 both terms have the factor α − 1.
        return log((1.0 + u) * expm1(above * w) - above * u);
    }
    // The binomial series from its second power on: each term is at most half of the one before, 60 suffice.
    let mut term = 0.5 * order * above * u * u;
    let mut sum = 0.0;
    for k in 2..62 {
        sum += term;
        if term.abs() < 1e-18 * sum {
            break;
        }
        let k = f64::from(k);
        term *= (order - k) / (k + 1.0) * u;
    }
    log(sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::special::ln_binomial;
    use crate::testing::seeded;
    use rand_core::Rng;

    fn relative_gap(q: f64, sigma: f64, order: f64, expected: f64) -> f64 {
        let found = ln_moment(q, sigma, order).unwrap();
        assert!(found.error < 1e-6 * found.value, "error bound {found:?} at {q} {sigma} {order}");
        (found.value - expected).abs() / expected
    }

    /// At integer orders A is a finite sum (Mironov, Talwar, Zhang 2019, section 3.3); −1 taken off term by term.
    #[test]
    fn integer_orders_agree_with_the_binomial_sum() {
        for q in [1e-9, 1e-6, 1e-3, 0.01, 0.1, 0.5, 0.9, 0.999_999] {
            for sigma in [0.05, 0.3, 0.7, 1.0, 1.3, 4.0, 30.0, 1000.0] {
                for order in [2u32, 3, 5, 16, 64, 256, 1024] {
                    let alpha = f64::from(order);
                    if alpha / sigma > 19_000.0 {
                        continue;
                    }
                    // Σ_k C(α,k)·(1−q)^(α−k)·q^k·(e^(k(k−1)/2σ²) − 1); terms 0 and 1 vanish.
                    let ln_excess = (2..=order).fold(f64::NEG_INFINITY, |sum, k| {
                        let k = f64::from(k);
                        let exponent = k * (k - 1.0) / (2.0 * sigma * sigma);
                        let grown =
                            if exponent > 30.0 { exponent + log1p(-exp(-exponent)) } else { log(expm1(exponent)) };
                        log_add(sum, ln_binomial(alpha, k) + (alpha - k) * log1p(-q) + k * log(q) + grown)
                    });
                    let expected = if ln_excess > 0.0 { log_add(0.0, ln_excess) } else { log1p(exp(ln_excess)) };
                    let gap = relative_gap(q, sigma, alpha, expected);
                    assert!(gap < 2e-10, "q {q} σ {sigma} α {order}: {gap:e}");
                    let bound = ln_moment(q, sigma, alpha).unwrap();
                    assert!(bound.value + bound.error >= expected * (1.0 - 1e-11), "q {q} σ {sigma} α {order}: below");
                }
            }
        }
    }

    /// Any order, against Simpson's rule with a step unrelated to ours, on A itself rather than on A − 1.
    #[test]
    fn real_orders_agree_with_another_quadrature() {
        for q in [0.003, 0.03, 0.3, 0.8] {
            for sigma in [0.5, 0.9, 1.7, 6.0] {
                for order in [1.01, 1.25, 1.5, 2.5, 7.3, 31.7, 100.1] {
                    let exponent = |x: f64| {
                        let w = log_add(log1p(-q), log(q) + x / sigma - 0.5 / (sigma * sigma));
                        order * w - 0.5 * x * x - LN_SQRT_2PI
                    };
                    let (low, high, steps) = (-11.0, order / sigma + 11.0, 12_000);
                    let h = (high - low) / f64::from(steps);
                    let peak = (0..=steps).map(|i| exponent(low + h * f64::from(i))).fold(f64::NEG_INFINITY, f64::max);
                    let sum: f64 = (0..=steps)
                        .map(|i| {
                            let weight = if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
                            weight * exp(exponent(low + h * f64::from(i)) - peak)
                        })
                        .sum();
                    let expected = peak + log(sum * h / 3.0);
                    let found = ln_moment(q, sigma, order).unwrap();
                    // A itself is known to 1e-14, so where it is near 1 its logarithm is known to as much only.
                    let gap = (found.value - expected).abs();
                    assert!(gap < 1e-8 * expected.min(1e-4) + 2e-13 + 1e-10 * expected, "{q} {sigma} {order}: {gap:e}");
                }
            }
        }
    }

    /// ln A is convex in the order and zero at 1, whatever the parameters: a real order lies below the chord of its
    /// integer neighbours and above the chords continued from either side.
    #[test]
    fn real_orders_lie_between_their_neighbours() {
        for seed in 1..=2u8 {
            let mut rng = seeded(seed);
            let mut uniform = || (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
            for _ in 0..150 {
                let (q, sigma) = (exp(-20.0 * uniform()), exp(6.0 * uniform() - 2.0));
                let below = libm::floor(exp(5.0 * uniform())) + 2.0;
                let share = uniform();
                let at = |order: f64| ln_moment(q, sigma, order).unwrap().value;
                let (before, low, high, after) = (at(below - 0.5), at(below), at(below + 1.0), at(below + 1.5));
                let found = at(below + share);
                let chord = low + share * (high - low);
                let continued =
                    f64::max(low + 2.0 * share * (low - before), high - 2.0 * (1.0 - share) * (after - high));
                let context = format!("seed {seed}: q {q} σ {sigma} order {}: {found}", below + share);
                assert!(found <= chord * (1.0 + 1e-9) && found >= continued - 1e-9 * chord, "{context}");
            }
        }
    }

    #[test]
    fn limits_are_kept() {
        assert!(ln_moment(0.1, 0.001, 2.0).is_none());
        assert!(ln_moment(0.1, 1.0, 1e9).is_none());
        assert!(ln_moment(f64::NAN, 1.0, 2.0).is_none());
        assert!(ln_moment(0.1, f64::NAN, 2.0).is_none());
        assert!(ln_moment(0.1, 1.0, f64::NAN).is_none());
        assert!(ln_moment(1e-300, 0.5, 3.5).is_none_or(|moment| moment.value >= 0.0));
        assert!(ln_moment(0.3, 1e100, 3.5).is_some_and(|moment| moment.value >= 0.0));
    }
}
