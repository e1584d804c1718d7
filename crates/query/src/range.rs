//! In which range a value must lie: interval arithmetic on exact decimals, rounded outward.
//!
//! The range of an aggregated expression decides how it is scaled, hence its sensitivity, so every party must derive
//! the same one to the last digit: no floating point, and rounding to what a [`Decimal`] can hold is always away from
//! the inside (Moore 1966, "Interval analysis", chapter 3). These rules belong to the plan's version.
//!
//! Does not: notice that both operands are the same column (`x - x` has the range of two independent values). That is
//! wider than need be, never narrower.
//! Assumes: the bounds are true because the engine clamps columns to them before it does anything else, and clamps the
//! result again, so that a last bit of floating point outside the range changes nothing.

use cohortium_messages::{Arithmetic, Decimal};

/// All values from `low` to `high`, with `low ≤ high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    low: Decimal,
    high: Decimal,
}

/// Why there is no range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RangeError {
    /// The divisor may be zero.
    DivisorMayBeZero,
    /// A value may be beyond ±10^15.
    TooLarge,
}

/// How a value is brought into −1 … 1: as (value − centre) / half_range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scale {
    /// What is subtracted.
    pub centre: Decimal,
    /// What it is divided by; above zero.
    pub half_range: Decimal,
}

impl Range {
    /// The range between two bounds, in either order.
    pub fn new(a: Decimal, b: Decimal) -> Self {
        Self { low: a.min(b), high: a.max(b) }
    }

    /// One value.
    pub fn exactly(value: Decimal) -> Self {
        Self { low: value, high: value }
    }

    /// All results of the operator on a value of `self` and a value of `other`.
    ///
    /// # Errors
    /// When a result may be missing because of a division by zero, or too large to hold.
    pub fn apply(self, operator: Arithmetic, other: Self) -> Result<Self, RangeError> {
        if operator == Arithmetic::Divide && other.low <= Decimal::ZERO && Decimal::ZERO <= other.high {
            return Err(RangeError::DivisorMayBeZero);
        }
        // Each operator is monotone in each operand once the other is fixed (a division where the divisor keeps its
        // sign), so smallest and largest results are taken at the ends.
        let ends = [(self.low, other.low), (self.low, other.high), (self.high, other.low), (self.high, other.high)];
        let results = ends.map(|(left, right)| Fraction::of(operator, left, right));
        let low = results.iter().filter_map(|r| r.round(false)).min();
        let high = results.iter().filter_map(|r| r.round(true)).max();
        // One end too large is one too many: `filter_map` alone would silently leave it out.
        if results.iter().any(|r| r.round(false).is_none() || r.round(true).is_none()) {
            return Err(RangeError::TooLarge);
        }
        low.zip(high).map(|(low, high)| Self { low, high }).ok_or(RangeError::TooLarge)
    }

    /// The scale of a sum: centre 0, because missing values and the number of rows must not shift it.
    /// `None` where every value is 0.
    pub fn sum_scale(self) -> Option<Scale> {
        let half_range = negated(self.low)?.max(self.high);
        (half_range > Decimal::ZERO).then_some(Scale { centre: Decimal::ZERO, half_range })
    }

    /// The scale of a mean: the middle (rounded down) and what covers the range from there (rounded up), which halves
    /// the noise or better. `None` where there is one value only, or the width is too large to hold.
    pub fn mean_scale(self) -> Option<Scale> {
        let centre = Fraction { numerator: self.low.nano() + self.high.nano(), denominator: 2 * NANO }.round(false)?;
        let reach = (self.high.nano() - centre.nano()).max(centre.nano() - self.low.nano());
        let half_range = Fraction { numerator: reach, denominator: NANO }.round(true)?;
        (half_range > Decimal::ZERO && self.low < self.high).then_some(Scale { centre, half_range })
    }
}

/// Units of 10^-9, in which [`Decimal::nano`] counts.
const NANO: i128 = 1_000_000_000;
/// The limits of [`Decimal`].
const MAX_MANTISSA: i128 = 1_000_000_000_000_000;
const MAX_SCALE: u8 = 9;

/// An exact result before rounding. `denominator > 0`.
///
/// Sizes: sums have |numerator| ≤ 2·10^24 over 10^9; products 10^30 over 10^18; quotients 10^24 over 10^24.
/// All are far inside `i128` (1.7·10^38).
#[derive(Clone, Copy)]
struct Fraction {
    numerator: i128,
    denominator: i128,
}

impl Fraction {
    /// `left operator right`; a division by zero becomes a division by one (excluded by the caller).
    fn of(operator: Arithmetic, left: Decimal, right: Decimal) -> Self {
        let (a, b) = (i128::from(left.mantissa()), i128::from(right.mantissa()));
        let power = |decimal: Decimal| 10i128.pow(u32::from(decimal.scale()));
        match operator {
            Arithmetic::Add => Self { numerator: left.nano() + right.nano(), denominator: NANO },
            Arithmetic::Subtract => Self { numerator: left.nano() - right.nano(), denominator: NANO },
            Arithmetic::Multiply => Self { numerator: a * b, denominator: power(left) * power(right) },
            Arithmetic::Divide => {
                Self { numerator: a * power(right) * b.signum(), denominator: (b.abs() * power(left)).max(1) }
            }
        }
    }

    /// The nearest decimal at or below (or, if `up`, at or above); as many digits after the point as fit.
    /// `None` beyond ±10^15.
    fn round(self, up: bool) -> Option<Decimal> {
        (0..=MAX_SCALE).rev().find_map(|scale| {
            // Where this overflows, the value has too many digits for this scale anyway: the numerator is above
            // 1.7·10^38 over at most 10^18 (only products get there), so beyond 10^20.
            let scaled = self.numerator.checked_mul(10i128.pow(u32::from(scale)))?;
            let rounded =
                if up { -(-scaled).div_euclid(self.denominator) } else { scaled.div_euclid(self.denominator) };
            if rounded.abs() > MAX_MANTISSA {
                return None;
            }
            Decimal::new(i64::try_from(rounded).ok()?, scale).ok()
        })
    }
}

fn negated(value: Decimal) -> Option<Decimal> {
    Decimal::new(-value.mantissa(), value.scale()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    fn range(low: &str, high: &str) -> Range {
        Range::new(decimal(low), decimal(high))
    }

    #[test]
    fn known_ranges() {
        use Arithmetic::{Add, Divide, Multiply, Subtract};
        let cases = [
            (range("0", "10"), Add, range("-1", "2.5"), Ok(range("-1", "12.5"))),
            (range("0", "10"), Subtract, range("-1", "2.5"), Ok(range("-2.5", "11"))),
            (range("-2", "3"), Multiply, range("-2", "3"), Ok(range("-6", "9"))),
            (range("1", "2"), Divide, range("3", "4"), Ok(range("0.25", "0.666666667"))),
            (range("1", "2"), Divide, range("-3", "-1"), Ok(range("-2", "-0.333333333"))),
            (range("1", "2"), Divide, range("-1", "1"), Err(RangeError::DivisorMayBeZero)),
            (range("1", "2"), Divide, range("0", "1"), Err(RangeError::DivisorMayBeZero)),
            (range("0", "1000000000"), Multiply, range("0", "1000000001"), Err(RangeError::TooLarge)),
            (range("0.000000001", "1"), Multiply, range("0.000000001", "1"), Ok(range("0", "1"))),
            // 11 digits before the point leave four of the 18 after it, rounded outward.
            (
                Range::exactly(decimal("123456.123456789")),
                Multiply,
                Range::exactly(decimal("123456.123456789")),
                Ok(range("15241414418.9779", "15241414418.9780")),
            ),
            (range("0", "1000000"), Divide, range("0.000000001", "1"), Ok(range("0", "1000000000000000"))),
            (range("0", "1000001"), Divide, range("0.000000001", "1"), Err(RangeError::TooLarge)),
        ];
        for (left, operator, right, expected) in cases {
            assert_eq!(left.apply(operator, right), expected, "{left:?} {operator:?} {right:?}");
        }
    }

    #[test]
    fn scales_cover_the_range() {
        let cases = [
            (range("0", "600.5"), Some(("0", "600.5")), Some(("300.25", "300.25"))),
            (range("-5", "3"), Some(("0", "5")), Some(("-1", "4"))),
            (range("0", "0.000000001"), Some(("0", "0.000000001")), Some(("0", "0.000000001"))),
            (range("0", "0"), None, None),
            (range("7", "7"), Some(("0", "7")), None),
            (
                range("-1000000000000000", "1000000000000000"),
                Some(("0", "1000000000000000")),
                Some(("0", "1000000000000000")),
            ),
        ];
        for (range, sum, mean) in cases {
            let scale = |texts: Option<(&str, &str)>| {
                texts.map(|(centre, half_range)| Scale { centre: decimal(centre), half_range: decimal(half_range) })
            };
            assert_eq!(range.sum_scale(), scale(sum), "{range:?}");
            assert_eq!(range.mean_scale(), scale(mean), "{range:?}");
        }
    }

    fn any_decimal() -> impl Strategy<Value = Decimal> {
        (-1_000_000_000_000_000i64..=1_000_000_000_000_000, 0u8..=9, 0u32..=15)
            .prop_map(|(mantissa, scale, shift)| Decimal::new(mantissa / 10i64.pow(shift), scale).unwrap())
    }

    proptest! {
        /// Exact, by cross-multiplication: every result of the ends lies between the rounded bounds, and rounding
        /// gives away at most one unit in the last of 15 digits or of 9 decimals.
        #[test]
        fn rounding_is_outward_and_tight(a in any_decimal(), b in any_decimal(), op in 0usize..4) {
            let operator = [Arithmetic::Add, Arithmetic::Subtract, Arithmetic::Multiply, Arithmetic::Divide][op];
            prop_assume!(operator != Arithmetic::Divide || b != Decimal::ZERO);
            let exact = Fraction::of(operator, a, b);
            if let (Some(low), Some(high)) = (exact.round(false), exact.round(true)) {
                let value = exact.numerator as f64 / exact.denominator as f64;
                let slack = (value.abs() * 1e-14).max(1.1e-9);
                prop_assert!(low <= high);
                prop_assert!((high.nano() - low.nano()) as f64 / 1e9 <= slack, "{low} {high}");
                // low ≤ n/d ⇔ low_mantissa·d ≤ n·10^scale, exactly where it fits.
                if let (Some(l), Some(n)) = (
                    i128::from(low.mantissa()).checked_mul(exact.denominator),
                    exact.numerator.checked_mul(10i128.pow(u32::from(low.scale()))),
                ) {
                    prop_assert!(l <= n);
                }
                if let (Some(h), Some(n)) = (
                    i128::from(high.mantissa()).checked_mul(exact.denominator),
                    exact.numerator.checked_mul(10i128.pow(u32::from(high.scale()))),
                ) {
                    prop_assert!(h >= n);
                }
            } else {
                let value = exact.numerator as f64 / exact.denominator as f64;
                prop_assert!(value.abs() > 0.999_999e15);
            }
        }

        /// Both scales cover the range: centre ± half_range contains both ends.
        #[test]
        fn scales_contain_both_ends(a in any_decimal(), b in any_decimal()) {
            let range = Range::new(a, b);
            for scale in [range.sum_scale(), range.mean_scale()].into_iter().flatten() {
                let (centre, half) = (scale.centre.nano(), scale.half_range.nano());
                prop_assert!(half > 0);
                prop_assert!(centre - half <= range.low.nano() && range.high.nano() <= centre + half);
            }
        }
    }
}
