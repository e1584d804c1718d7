//! Exact numbers behind the samplers: e^−x between two integers, and probabilities that are drawn without rounding.
//!
//! A sampler that decides with floating point has another distribution than its proof (Mironov 2012). Here a
//! probability is a real p, represented by T = ⌊p·2^320⌋, and it is drawn by comparing T with a uniform 320-bit integer
//! whose words are read from the generator only as far as the comparison needs them. One word decides all but 2^−64 of
//! the draws, so exactness costs nothing; what is left between T/2^320 and p is below 2^−320, which no δ can see.
//!
//! The exponential is the series on an argument that was halved until it is below 2^−8, squared back (Brent and
//! Zimmermann 2010, "Modern Computer Arithmetic", section 4.3), on integers that are rounded down everywhere.
//!
//! Does not: run in constant time, or read randomness of its own. Assumes: parameters are public.

use dashu::base::BitTest;
use dashu::integer::UBig;
use rand_core::CryptoRng;

/// Binary digits of a probability, and of the uniform integer that is compared with it.
pub(crate) const DIGITS: usize = 320;
/// The same in words of 64 bits: at most this many are read for one draw.
pub(crate) const WORDS: usize = DIGITS / 64;
/// Digits that intermediate results have beyond the asked ones; the error analysis of [`exp_neg`] needs 30.
const GUARD: usize = 64;
/// The argument of the series is below 2 to minus this.
const SMALL: usize = 8;

/// Bounds of e^−(num/den) in units of 2^−`bits`: `lower` ≤ exact ≤ `upper`, and `upper` − `lower` ≤ 2.
///
/// For den = 0 the exponent counts as infinite. Proven:
/// let the unit be 2^−(bits+64). The argument x < bits is halved h times to y ≤ 2^−8, h ≤ 8 + bit length of `bits`.
/// Series: y is off by less than a unit, and term n is the one before times y/n, rounded down, hence off by at most 3;
/// the sum of N terms is off by 3N, and what is left out is less than one unit. A square of something off by E is off by
/// at most 2E + 2. For bits ≤ 2^14 there are N ≤ 2^11 terms and h ≤ 23 squares: at most 2^(11 + 2 + 1 + 23) = 2^37 units,
/// and the bounds are taken 2^40 units away on either side, which is below one unit of 2^−bits.
pub(crate) fn exp_neg(num: &UBig, den: &UBig, bits: usize) -> (UBig, UBig) {
    let one = UBig::ONE << bits;
    if num.is_zero() && !den.is_zero() {
        return (one.clone(), one);
    }
    // e^−bits is below 2^−bits.
    if *num >= den * UBig::from(bits) {
        return (UBig::ZERO, UBig::ONE);
    }
    let work = bits + GUARD;
    // num/den < 2^magnitude.
    let magnitude = (num.bit_len() + 1).saturating_sub(den.bit_len());
    let halvings = magnitude + SMALL;
    let y = (num << work) / (den << halvings);
    let (mut plus, mut minus) = (UBig::ONE << work, UBig::ZERO);
    let mut term = UBig::ONE << work;
    for n in 1..=bits {
        term = ((term * &y) >> work) / UBig::from(n);
        if term.is_zero() {
            break;
        }
        if n % 2 == 0 { plus += &term } else { minus += &term }
    }
    let mut value = plus - minus;
    for _ in 0..halvings {
        value = (&value * &value) >> work;
    }
    let slack = UBig::ONE << (GUARD - 24);
    let lower = if value > slack { &value - &slack } else { UBig::ZERO };
    let upper = ((value + slack) >> GUARD) + UBig::ONE;
    (lower >> GUARD, if upper > one { one } else { upper })
}

/// A real probability, known to 320 binary digits, rounded down; drawn exactly as known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Probability {
    /// ⌊p·2^320⌋, most significant word first; not read when `certain`.
    words: [u64; WORDS],
    /// p = 1, for which the words have no room.
    certain: bool,
}

impl Probability {
    /// 1/e, which the Laplace sampler tosses again and again.
    pub(crate) const ONE_OVER_E: Self = Self {
        words: [
            0x5e2d_58d8_b3bc_df1a,
            0xbade_c782_9054_f90d,
            0xda98_05aa_b56c_7733,
            0x3024_b9d0_a507_daed,
            0xb164_00bf_472b_4215,
        ],
        certain: false,
    };

    /// From ⌊p·2^320⌋; whatever is above one counts as one.
    pub(crate) fn from_bits(bits: &UBig) -> Self {
        let certain = bits.bit_len() > DIGITS;
        let words = core::array::from_fn(|i| (bits >> (DIGITS - 64 * (i + 1))) & u64::MAX);
        Self { words, certain }
    }

    /// e^−(num/den), with infinity for den = 0.
    ///
    /// 64 digits more than are kept decide how to round down. They fail to with probability 2^−64 over the parameters,
    /// and even then the wrong last digit is met once in 2^320 draws.
    pub(crate) fn exp_neg(num: &UBig, den: &UBig) -> Self {
        let (lower, _) = exp_neg(num, den, DIGITS + 64);
        Self::from_bits(&(lower >> 64))
    }

    /// True with this probability.
    ///
    /// Reads one word w. Smaller than the first word of T: true. Larger: false. Equal: the same with the next word of
    /// either. All five equal: false.
    pub(crate) fn draw<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> bool {
        self.draw_from(rng.next_u64(), rng)
    }

    /// As [`Probability::draw`] when the first word has been read already.
    pub(crate) fn draw_from<R: CryptoRng + ?Sized>(&self, first: u64, rng: &mut R) -> bool {
        if self.certain {
            return true;
        }
        let mut drawn = first;
        for (i, word) in self.words.iter().enumerate() {
            if i > 0 {
                drawn = rng.next_u64();
            }
            if drawn != *word {
                return drawn < *word;
            }
        }
        false
    }

    /// T = ⌊p·2^320⌋.
    #[cfg(test)]
    pub(crate) fn to_bits(&self) -> UBig {
        if self.certain {
            return UBig::ONE << DIGITS;
        }
        self.words.iter().fold(UBig::ZERO, |bits, word| (bits << 64) | UBig::from(*word))
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::testing::seeded;
    use dashu::base::Abs;
    use dashu::float::{FBig, round::mode::HalfEven};

    /// Someone else's reals, to judge ours by: binary floating point of [`ORACLE_DIGITS`] digits.
    pub(crate) type Oracle = FBig<HalfEven>;
    pub(crate) const ORACLE_DIGITS: usize = 600;

    pub(crate) fn oracle(n: &UBig) -> Oracle {
        Oracle::from(n.clone()).with_precision(ORACLE_DIGITS).value()
    }

    pub(crate) fn oracle_exp_neg(num: &UBig, den: &UBig) -> Oracle {
        (-(oracle(num) / oracle(den))).exp()
    }

    /// Whether a ≈ b up to 2^−digits.
    pub(crate) fn is_close(a: &Oracle, b: &Oracle, digits: usize) -> bool {
        (a - b).abs() <= oracle(&UBig::ONE) / oracle(&(UBig::ONE << digits))
    }

    const ARGUMENTS: [(u128, u128); 14] = [
        (1, 1),
        (1, 2),
        (1, 512),
        (7, 3),
        (1, 1 << 41),
        (1, u128::MAX),
        (u128::MAX, u128::MAX - 1),
        (63, 1),
        (64, 1),
        (199, 1),
        (319, 2),
        (383, 1),
        (123_456_789, 1_000_000),
        (u128::MAX, u128::MAX >> 7),
    ];

    #[test]
    fn exponentials_lie_within_their_bounds() {
        for (num, den) in ARGUMENTS {
            let (num, den) = (UBig::from(num), UBig::from(den));
            let exact = oracle_exp_neg(&num, &den);
            for bits in [64, 128, 384, 448] {
                let (lower, upper) = exp_neg(&num, &den, bits);
                let scaled = &exact * oracle(&(UBig::ONE << bits));
                assert!(oracle(&lower) <= scaled && scaled <= oracle(&upper), "{num}/{den} to {bits}");
                assert!(&upper - &lower <= UBig::from(2u8), "{num}/{den} to {bits}");
            }
        }
    }

    #[test]
    fn exponentials_at_the_edges() {
        let (zero, one) = (UBig::ZERO, UBig::ONE);
        assert_eq!(exp_neg(&zero, &one, 64), (UBig::ONE << 64, UBig::ONE << 64));
        for (num, den) in [(&zero, &zero), (&one, &zero), (&(UBig::ONE << 400), &one)] {
            assert_eq!(exp_neg(num, den, 64), (UBig::ZERO, UBig::ONE));
        }
    }

    #[test]
    fn one_over_e_is_what_the_series_gives() {
        assert_eq!(Probability::ONE_OVER_E, Probability::exp_neg(&UBig::ONE, &UBig::ONE));
        assert_eq!(Probability::from_bits(&Probability::ONE_OVER_E.to_bits()), Probability::ONE_OVER_E);
    }

    /// A draw is the comparison of two integers of 320 bits, whichever word decides it.
    #[test]
    fn a_draw_compares_with_every_digit() {
        let third = (UBig::ONE << DIGITS) / UBig::from(3u8);
        let small = UBig::from(5u8);
        for bits in [UBig::ZERO, small, third, (UBig::ONE << DIGITS) - 1u8, UBig::ONE << DIGITS] {
            let probability = Probability::from_bits(&bits);
            assert_eq!(probability.to_bits(), bits);
            for (nudge, up) in [(0u8, true), (1, true), (1, false)] {
                let u = if up {
                    &bits + nudge
                } else if bits.is_zero() {
                    continue;
                } else {
                    &bits - nudge
                };
                if u.bit_len() > DIGITS {
                    continue;
                }
                let words = (1..=WORDS).map(|i| (&u >> (DIGITS - 64 * i)) & u64::MAX).collect();
                let mut rng = crate::testing::Scripted::new(words);
                assert_eq!(probability.draw(&mut rng), u < bits, "{u} against {bits}");
            }
        }
        assert!(Probability::from_bits(&(UBig::ONE << 400)).draw(&mut seeded(1)));
    }
}
