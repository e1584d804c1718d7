//! Real numbers that decide about privacy, enclosed between two integers.
//!
//! A threshold, a keep probability or a δ must come out alike on every machine and must err against ourselves. So
//! these numbers are multiples of 2^−[`BITS`], each known as a lower and an upper bound, made of integer additions,
//! products and quotients whose rounding is written out.
//!
//! The exponential is the one of the samplers (`crate::exact`). The logarithm is its series at 1 − y, a sum of positive
//! terms, so that cutting it off is a lower bound.
//!
//! Does not: take secrets. Its running time depends on its arguments, which are parameters and public.

use dashu::base::BitTest;
use dashu::integer::UBig;

use crate::exact;

/// Numbers are multiples of 2^−320: the rounding of some ten thousand operations stays below 1e-92.
pub(super) const BITS: usize = exact::DIGITS;

/// A real number in [0, 1] between two multiples of 2^−320.
#[derive(Clone, Debug)]
pub(super) struct Bounds {
    pub(super) lower: UBig,
    pub(super) upper: UBig,
}

/// The number one.
pub(super) fn one() -> UBig {
    UBig::ONE << BITS
}

/// exp(−num/den). A denominator of zero is taken for infinity.
pub(super) fn exp_neg(num: &UBig, den: &UBig) -> Bounds {
    let (lower, upper) = exact::exp_neg(num, den, BITS);
    Bounds { lower, upper }
}

/// A lower bound of −ln(1 − y), for y ≤ 1/2 in units of 2^−320.
pub(super) fn neg_ln_one_minus_below(y: &UBig) -> UBig {
    let mut sum = UBig::ZERO;
    let mut power = y.clone();
    // y ≤ 1/2 loses at least one bit per turn, so the power is zero after at most 320.
    for k in 1..=BITS as u64 {
        if power.is_zero() {
            break;
        }
        sum += &power / k;
        power = (&power * y) >> BITS;
    }
    sum
}

/// The product of two numbers, rounded up.
pub(super) fn mul_above(a: &UBig, b: &UBig) -> UBig {
    ((a * b) >> BITS) + 1u64
}

/// The product of two numbers, rounded down.
pub(super) fn mul_below(a: &UBig, b: &UBig) -> UBig {
    (a * b) >> BITS
}

/// a − b, or zero if that is negative.
pub(super) fn minus(a: &UBig, b: &UBig) -> UBig {
    if a > b { a - b } else { UBig::ZERO }
}

/// An upper bound of 1 − (1 − p)^n: that at least one of n independent events of probability at most p happens.
pub(super) fn at_least_one_above(p: &UBig, n: u64) -> UBig {
    let mut base = minus(&one(), p);
    let mut none = one();
    let mut left = n;
    while left > 0 {
        if left % 2 == 1 {
            none = mul_below(&none, &base);
        }
        base = mul_below(&base, &base);
        left /= 2;
    }
    one() - none
}

/// num/den rounded up, for den ≥ 1.
pub(super) fn ceil_div(num: UBig, den: UBig) -> UBig {
    (num + &den - 1u64) / den
}

/// For reports only.
pub(super) fn to_f64(x: &UBig) -> f64 {
    // The 64 leading bits are dropped into an f64 with room to spare.
    let shift = x.bit_len().saturating_sub(64);
    let head = u64::try_from(x >> shift).unwrap_or(u64::MAX);
    head as f64 * 2f64.powi(shift as i32 - BITS as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_enclose_the_truth_tightly() {
        for (num, den) in [(1u64, 1u64), (1, 1_000_000_000_000), (3, 7), (1, 2), (50, 1), (150, 1), (99_999, 1_000)] {
            let bounds = exp_neg(&UBig::from(num), &UBig::from(den));
            let truth = (-(num as f64) / den as f64).exp();
            assert!(bounds.lower <= bounds.upper && &bounds.upper - &bounds.lower <= UBig::from(2u64), "{num}/{den}");
            assert!((to_f64(&bounds.lower) / truth - 1.0).abs() < 1e-13, "{num}/{den}");
        }
        assert_eq!(exp_neg(&UBig::ZERO, &UBig::ONE).lower, one());
        assert_eq!(exp_neg(&UBig::from(BITS), &UBig::ONE).lower, UBig::ZERO);
    }

    /// exp(−x)·exp(−y) and exp(−x−y) enclose the same number: finds an error in any one digit.
    #[test]
    fn exponentials_multiply() {
        for (x, y) in [(1u64, 2u64), (17, 1000), (12_345, 54_321), (100_000, 70_000)] {
            let [a, b, c] = [x, y, x + y].map(|n| exp_neg(&UBig::from(n), &UBig::from(1000u64)));
            assert!(mul_below(&a.lower, &b.lower) <= c.upper && c.lower <= mul_above(&a.upper, &b.upper));
        }
    }

    #[test]
    fn logarithms_undo_exponentials() {
        // exp(−(−ln(1 − y))) = 1 − y, for y = 1/2, 1/10, 1e-9.
        for (num, den) in [(1u64, 2u64), (1, 10), (1, 1_000_000_000)] {
            let y = (UBig::from(num) << BITS) / den;
            let log = neg_ln_one_minus_below(&y);
            let back = exp_neg(&log, &one());
            let gap = minus(&back.upper, &(one() - &y));
            assert!(back.upper >= one() - &y && gap < UBig::ONE << 12, "{num}/{den}");
        }
    }

    #[test]
    fn at_least_one_of_many() {
        let p = one() / 1000u64;
        let any = to_f64(&at_least_one_above(&p, 10));
        assert!((any - (1.0 - 0.999f64.powi(10))).abs() < 1e-15);
        assert_eq!(at_least_one_above(&UBig::ZERO, 7), UBig::ZERO);
    }
}
