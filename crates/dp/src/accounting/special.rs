//! The special functions that reports stand on: normal tails, and sums and binomials in logarithms.
//!
//! They exist because the tail is where privacy is: a δ of 1e-300 is a difference of two tails, so what is needed is
//! not a small absolute but a small relative error. Elementary functions come from `libm`, which is the same code on
//! every machine, so that everything built from these gives the same bits everywhere.
//!
//! Sources: the continued fraction of Mills' ratio (Laplace 1805; Abramowitz and Stegun 1964, 26.2.14), the series of
//! Stirling's error (Abramowitz and Stegun 6.1.41) and the entropy form of the binomial (Loader 2000, "Fast and accurate
//! computation of binomial probabilities").
//!
//! Does not: check domains with errors. Everything here is total; what has no value is NaN or infinite.

use core::f64::consts::{FRAC_1_SQRT_2, LN_2};

use libm::{erfc, exp, expm1, lgamma, log, log1p, sqrt};

use crate::interval::normal_quantile;

/// ln √(2π).
pub(crate) const LN_SQRT_2PI: f64 = 0.918_938_533_204_672_8;
/// √(π/2).
const SQRT_HALF_PI: f64 = 1.253_314_137_315_500_3;
/// From here on Mills' ratio is computed by its continued fraction, below it by `erfc`.
const TAIL: f64 = 2.5;
/// Depth of the continued fraction, times x². Its error falls like exp(−2√2·x·√depth): here below 1e-27.
const TAIL_DEPTH: f64 = 500.0;

/// The normal cumulative distribution function. Relative error below 1e-15·(1 + x²).
pub(crate) fn phi(x: f64) -> f64 {
    0.5 * erfc(-x * FRAC_1_SQRT_2)
}

/// ln of the normal cumulative distribution function. Relative error about 1e-15, also far in the tail.
pub(crate) fn ln_phi(x: f64) -> f64 {
    if x > TAIL {
        return log1p(-density(x) * mills(x).0);
    }
    if x > 0.0 {
        return log1p(-phi(-x));
    }
    if x > -TAIL {
        return log(phi(x));
    }
    -0.5 * x * x - LN_SQRT_2PI + log(mills(-x).0)
}

/// The normal quantile, to the last digits: −∞ at 0, ∞ at 1, NaN outside. The very last may differ between machines,
/// because the first guess may.
pub(crate) fn phi_inverse(p: f64) -> f64 {
    if p > 0.5 {
        return -phi_inverse(1.0 - p); // 1 − p is exact here
    }
    if p == 0.0 {
        return f64::NEG_INFINITY;
    }
    if p < 0.0 || p.is_nan() {
        return f64::NAN;
    }
    // From nine digits, one step of Newton in the logarithm gives eighteen; the second is for the rounding of the first.
    let target = log(p);
    let mut x = normal_quantile(p);
    for _ in 0..2 {
        let ln_density = -0.5 * x * x - LN_SQRT_2PI;
        let ln_value = ln_phi(x);
        x -= (ln_value - target) * exp(ln_value - ln_density);
    }
    x
}

/// Mills' ratio R(x) = (1 − Φ(x))/φ(x), and S(x) = 1 − x·R(x) = −R′(x), both to about 1e-15 relative, for x > −30.
///
/// S is what a small shift of a tail costs; formed by subtraction it would lose x² in accuracy.
pub(crate) fn mills(x: f64) -> (f64, f64) {
    if x < TAIL {
        let ratio = SQRT_HALF_PI * exp(0.5 * x * x) * erfc(x * FRAC_1_SQRT_2);
        return (ratio, 1.0 - x * ratio);
    }
    let mut inner = x;
    for level in (2..=16 + (TAIL_DEPTH / (x * x)) as u32).rev() {
        inner = x + f64::from(level) / inner;
    }
    let ratio = 1.0 / (x + 1.0 / inner);
    (ratio, ratio / inner)
}

/// ln(eᵃ + eᵇ).
pub(crate) fn log_add(a: f64, b: f64) -> f64 {
    let (low, high) = if a < b { (a, b) } else { (b, a) };
    if low == f64::NEG_INFINITY || high == f64::INFINITY {
        return high;
    }
    high + log1p(exp(low - high))
}

/// ln(eᵃ − eᵇ); −∞ where nothing is left (a ≤ b).
pub(crate) fn log_sub(a: f64, b: f64) -> f64 {
    if a <= b {
        return f64::NEG_INFINITY;
    }
    a + log_one_minus_exp(b - a)
}

/// ln(1 − eˣ) for x < 0: by whichever of the two forms does not cancel (Mächler 2012).
pub(crate) fn log_one_minus_exp(x: f64) -> f64 {
    if x > -LN_2 { log(-expm1(x)) } else { log1p(-exp(x)) }
}

/// ln Γ(x) for x > 0.
pub(crate) fn ln_gamma(x: f64) -> f64 {
    lgamma(x)
}

/// ln of the binomial coefficient for real 0 ≤ k ≤ n, −∞ outside; absolute error about 1e-15 of the result plus 1e-14.
///
/// Three values of ln Γ would cancel: at n = 1e12 they are 3e13 each and agree in all but the last digits.
pub(crate) fn ln_binomial(n: f64, k: f64) -> f64 {
    let rest = n - k;
    if !(k >= 0.0 && rest >= 0.0) {
        return f64::NEG_INFINITY;
    }
    if k == 0.0 || rest == 0.0 {
        return 0.0;
    }
    if n < 30.0 {
        return ln_gamma(n + 1.0) - ln_gamma(k + 1.0) - ln_gamma(rest + 1.0);
    }
    let (few, many) = if k < rest { (k, rest) } else { (rest, k) };
    let entropy = few * log(n / few) - many * log1p(-few / n);
    // few·many/n in an order that cannot overflow.
    let spread = 0.5 * log(few * (many / n));
    entropy - spread - LN_SQRT_2PI + stirling_error(n) - stirling_error(k) - stirling_error(rest)
}

/// The probability of k successes in n, each of probability p, with q = 1 − p given for when p is near 1.
///
/// Relative error about 1e-15 times the exponent: the deviances of Loader 2000 are small where the probability is not,
/// while the logarithms of coefficient and powers are of the size of n.
pub(crate) fn binomial_probability(n: f64, k: f64, p: f64, q: f64) -> f64 {
    let rest = n - k;
    // By whichever of the two is small, because ln of what is near 1 is not.
    let (ln_p, ln_q) = if p < q { (log(p), log1p(-p)) } else { (log1p(-q), log(q)) };
    if n < 30.0 || k == 0.0 || rest == 0.0 {
        return exp(ln_binomial(n, k) + k * ln_p + rest * ln_q);
    }
    let spread = 0.5 * log(k * (rest / n));
    let correction = stirling_error(n) - stirling_error(k) - stirling_error(rest);
    exp(correction - spread - LN_SQRT_2PI - deviance(k, n * p) - deviance(rest, n * q))
}

/// x·ln(x/m) + m − x for x, m > 0, without cancellation where they are close (Loader 2000, section 4).
fn deviance(x: f64, m: f64) -> f64 {
    let difference = x - m;
    if difference.abs() > 0.1 * (x + m) {
        return x * log(x / m) - difference;
    }
    let v = difference / (x + m);
    let mut sum = difference * v;
    let mut term = 2.0 * x * v;
    // v² ≤ 0.01: ten terms reach the last bit.
    for j in 1..12 {
        term *= v * v;
        sum += term / f64::from(2 * j + 1);
    }
    sum
}

/// ln Γ(x + 1) − (x + ½)·ln x + x − ln √(2π), for x > 0: what Stirling's formula leaves out.
fn stirling_error(x: f64) -> f64 {
    if x < 16.0 {
        return ln_gamma(x + 1.0) - (x + 0.5) * log(x) + x - LN_SQRT_2PI;
    }
    let square = x * x;
    // The next term, 1/(1188·x⁹), is below 2e-14 at 16.
    (1.0 / 12.0 - (1.0 / 360.0 - (1.0 / 1260.0 - 1.0 / (1680.0 * square)) / square) / square) / x
}

/// Integral of a smooth function over a short interval by Gauss and Legendre's rule with eight nodes.
pub(crate) fn integrate_short<F: Fn(f64) -> f64>(f: F, from: f64, width: f64) -> f64 {
    const RULE: [(f64, f64); 4] = [
        (0.183_434_642_495_649_8, 0.362_683_783_378_362),
        (0.525_532_409_916_329, 0.313_706_645_877_887_3),
        (0.796_666_477_413_626_7, 0.222_381_034_453_374_48),
        (0.960_289_856_497_536_3, 0.101_228_536_290_376_26),
    ];
    let half = 0.5 * width;
    let middle = from + half;
    let sum: f64 = RULE.iter().map(|(node, weight)| weight * (f(middle - half * node) + f(middle + half * node))).sum();
    half * sum
}

/// The normal density at x.
pub(crate) fn density(x: f64) -> f64 {
    exp(-0.5 * x * x) / (2.0 * SQRT_HALF_PI)
}

/// A small value of `f` on positive `low..=high`, and where: the best of a logarithmic grid, refined by golden section
/// between its neighbours. For a function with one valley it is the minimum; for any other still a value of `f`.
pub(crate) fn minimise<F: Fn(f64) -> f64>(f: F, low: f64, high: f64, points: u32) -> (f64, f64) {
    const GOLDEN: f64 = 0.618_033_988_749_894_9;
    /// Each step keeps 0.618 of the bracket: after 40 of them 4e-9 of it, and a minimum is flat.
    const STEPS: u32 = 40;

    let points = points.max(2);
    let step = log(high / low) / f64::from(points - 1);
    let mut best = (f64::INFINITY, low);
    for i in 0..points {
        let x = low * exp(step * f64::from(i));
        let value = f(x);
        if value < best.0 {
            best = (value, x);
        }
        // Far up the other side. Large arguments are also the dear ones.
        if value > 4.0 * best.0.abs() + 100.0 && best.0 < f64::INFINITY {
            break;
        }
    }
    let mut from = (best.1 * exp(-step)).max(low);
    let mut to = (best.1 * exp(step)).min(high);
    let mut left = to - GOLDEN * (to - from);
    let mut right = from + GOLDEN * (to - from);
    let (mut at_left, mut at_right) = (f(left), f(right));
    for _ in 0..STEPS {
        if at_left < best.0 {
            best = (at_left, left);
        }
        if at_right < best.0 {
            best = (at_right, right);
        }
        if at_left <= at_right {
            (to, right, at_right) = (right, left, at_left);
            left = to - GOLDEN * (to - from);
            at_left = f(left);
        } else {
            (from, left, at_left) = (left, right, at_right);
            right = from + GOLDEN * (to - from);
            at_right = f(right);
        }
    }
    best
}

/// The last `x` of `bad..=good` or `good..=bad` at which `holds` is still true, for a property that changes once between
/// positive ends; `good` itself when nothing nearer is found. What is returned has been tested, unless it is `good`.
pub(crate) fn bisect<F: Fn(f64) -> bool>(holds: F, good: f64, bad: f64) -> f64 {
    let (mut good, mut bad) = (good, bad);
    // Geometric first, as the ends may be hundreds of decades apart; 130 halvings reach the last bit from there.
    for _ in 0..130 {
        let (low, high) = if good < bad { (good, bad) } else { (bad, good) };
        let middle = if high > 2.0 * low { sqrt(low) * sqrt(high) } else { low + 0.5 * (high - low) };
        if middle <= low || middle >= high {
            break;
        }
        if holds(middle) {
            good = middle;
        } else {
            bad = middle;
        }
    }
    good
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: f64, expected: f64, relative: f64) -> bool {
        (found - expected).abs() <= relative * expected.abs()
    }

    /// Reference values computed with mpmath at 60 digits.
    #[test]
    fn the_normal_cdf_in_logarithms() {
        for (x, expected) in [
            (-1e6, -500_000_000_014.734_44),
            (-300.0, -45_006.622_732_118_66),
            (-38.0, -726.557_216_018_820_1),
            (-37.0, -689.030_585_576_890_6),
            (-20.0, -203.917_155_371_097_27),
            (-8.0, -35.013_437_159_914_55),
            (-5.0, -15.064_998_393_988_725),
            (-2.5, -5.081_648_277_278_69),
            (-2.0, -3.783_184_333_682_032),
            (-1.0, -1.841_021_645_009_263_6),
            (-0.3, -0.962_102_818_168_850_7),
            (0.0, -LN_2),
            (0.3, -0.481_410_161_588_481_2),
            (1.0, -0.172_753_779_023_449_88),
            (2.0, -0.023_012_909_328_963_49),
            (5.0, -2.866_516_129_637_636e-7),
            (8.0, -6.220_960_574_271_786e-16),
        ] {
            assert!(close(ln_phi(x), expected, 4e-15), "ln Φ({x}) = {:e}, not {expected:e}", ln_phi(x));
        }
    }

    /// Reference values computed with mpmath at 340 digits.
    #[test]
    fn the_normal_quantile() {
        for (p, expected) in [
            (1e-300, -37.047_096_299_361_2),
            (1e-100, -21.273_453_560_965_326),
            (1e-20, -9.262_340_089_798_407),
            (1e-9, -5.997_807_015_007_686_5),
            (0.001, -3.090_232_306_167_813_6),
            (0.02425, -1.972_961_051_311_885),
            (0.1, -1.281_551_565_544_600_4),
            (0.3, -0.524_400_512_708_041),
            (0.5, 0.0),
            (0.7, 0.524_400_512_708_040_7),
            (0.975, 1.959_963_984_540_053_8),
            (0.999_999, 4.753_424_308_817_087),
        ] {
            let found = phi_inverse(p);
            assert!((found - expected).abs() <= 1e-15 * expected.abs() + 1e-16, "Φ⁻¹({p}) = {found}, not {expected}");
        }
        assert_eq!(phi_inverse(0.0), f64::NEG_INFINITY);
        assert_eq!(phi_inverse(1.0), f64::INFINITY);
        for p in [-0.1, 1.1, f64::NAN] {
            assert!(phi_inverse(p).is_nan(), "{p}");
        }
    }

    /// The two ways of computing Mills' ratio agree where they meet, and its derivative is what S says.
    #[test]
    fn mills_ratio_is_continuous() {
        let (below, above) = (mills(TAIL.next_down()), mills(TAIL));
        assert!(close(below.0, above.0, 2e-15) && close(below.1, above.1, 2e-14), "{below:?} {above:?}");
        for x in [-3.0, -0.5, 0.0, 0.7, 2.0, 4.0, 30.0] {
            let h = 1e-4;
            let slope = (mills(x - h).0 - mills(x + h).0) / (2.0 * h);
            assert!(close(slope, mills(x).1, 1e-6), "x {x}: {slope:e} {:e}", mills(x).1);
        }
    }

    #[test]
    fn sums_and_differences_in_logarithms() {
        for (a, b) in [(0.0, 0.0), (1.0, -3.0), (-700.0, -701.0), (5.0, 4.999_999), (900.0, 100.0)] {
            let sum = log_add(a, b);
            assert!((log_sub(sum, b) - a).abs() < 1e-9, "{a} {b}");
            assert!(close(sum, log_add(b, a), 1e-15));
        }
        assert_eq!(log_add(f64::NEG_INFINITY, f64::NEG_INFINITY), f64::NEG_INFINITY);
        assert_eq!(log_add(f64::NEG_INFINITY, 3.0), 3.0);
        assert_eq!(log_sub(2.0, 2.0), f64::NEG_INFINITY);
        assert_eq!(log_sub(2.0, f64::NEG_INFINITY), 2.0);
    }

    /// Reference values computed with mpmath at 60 digits.
    #[test]
    fn binomials_in_logarithms() {
        for (n, k, expected) in [
            (6.0, 3.0, 2.995_732_273_553_991),
            (20.5, 3.25, 7.515_034_476_069_734),
            (100.0, 50.0, 66.783_841_652_017_43),
            (1000.0, 3.0, 18.928_503_864_714_1),
            (1e6, 5e5, 693_140.047_013_063_7),
            (1e12, 1e6, 14_815_502.231_270_712),
            (1e12, 3.0, 81.101_303_878_554_59),
        ] {
            let found = ln_binomial(n, k);
            assert!((found - expected).abs() < 1e-13 + 3e-15 * expected, "ln C({n}, {k}) = {found}, not {expected}");
        }
        assert_eq!(ln_binomial(7.0, 0.0), 0.0);
        assert_eq!(ln_binomial(7.0, 8.0), f64::NEG_INFINITY);
    }

    /// Where both ways are accurate they agree, and the probabilities add up.
    #[test]
    fn binomial_probabilities() {
        for (n, p) in [(29u32, 0.3), (30, 0.3), (200, 0.5), (2000, 0.731), (100_000, 1e-3)] {
            let at = |k: u32| binomial_probability(f64::from(n), f64::from(k), p, 1.0 - p);
            let total: f64 = (0..=n).map(at).sum();
            assert!((total - 1.0).abs() < 1e-11, "n {n}: {total}");
            let k = n / 3;
            let (n, k) = (f64::from(n), f64::from(k));
            let plain = ln_binomial(n, k) + k * log(p) + (n - k) * log1p(-p);
            assert!((log(at(k as u32)) - plain).abs() < 1e-9 || plain < -700.0, "n {n}");
        }
    }

    #[test]
    fn short_integrals_and_minima() {
        assert!(close(integrate_short(libm::exp, -1.0, 0.5), exp(-0.5) - exp(-1.0), 1e-15));
        let (value, at) = minimise(|x| (x - 3.0) * (x - 3.0) + 1.0, 1e-3, 1e3, 40);
        assert!(close(value, 1.0, 1e-12) && close(at, 3.0, 1e-5), "{value} at {at}");
        assert!(close(bisect(|x| x * x <= 2.0, 1e-300, 1e300), core::f64::consts::SQRT_2, 3e-16));
        assert!(close(bisect(|x| x * x >= 2.0, 1e300, 1e-300), core::f64::consts::SQRT_2, 3e-16));
    }
}
