//! Bernoulli draws of probability e^−γ, and uniform draws: what every other sampler is made of.
//!
//! Canonne, Kamath, Steinke 2020 (Algorithm 1) toss several coins for one Bernoulli(e^−γ). Here one uniform word is
//! compared with bounds of e^−γ from 64-bit arithmetic; the few draws that fall between the bounds (below 2^−46) are
//! settled by `exact::Probability`. The result is the same as if the exact number had been compared at once.

use dashu::base::BitTest;
use dashu::integer::UBig;
use rand_core::CryptoRng;

use crate::exact::Probability;

/// Exponents are held in units of 2^−58, so that those below 64 fit a word.
pub(super) const EXPONENT_BITS: u32 = 58;
/// Bounds of e^−γ lie this far from the approximation, in units of 2^−64: 2^−48, see [`exp_word`].
const MARGIN: u64 = 1 << 16;
/// ⌊2^64/n⌋ for n = 1 (less one unit), 2, …, 16: the series of [`exp_word`].
const RECIPROCALS: [u64; 16] = {
    let mut table = [u64::MAX; 16];
    let mut n = 2;
    while n <= 16 {
        #[expect(clippy::indexing_slicing, reason = "evaluated by the compiler, which would refuse it")]
        {
            table[n - 1] = ((1u128 << 64) / n as u128) as u64;
        }
        n += 1;
    }
    table
};
/// Rejections in one uniform draw, each of probability below 1/2.
const MAX_REJECTIONS: u32 = 256;

/// True with probability exp(−num/den), which is 0 for den = 0.
///
/// Promise: given any num and den, returns true with that probability, cut after 320 binary digits; reads one word,
/// and with probability below 2^−46 more. Proven.
pub fn bernoulli_exp<R: CryptoRng + ?Sized>(rng: &mut R, num: u128, den: u128) -> bool {
    let word = rng.next_u64();
    exceeds(exponent(num, den), word).unwrap_or_else(|| settle(num, den, word, rng))
}

#[cold]
fn settle<R: CryptoRng + ?Sized>(num: u128, den: u128, word: u64, rng: &mut R) -> bool {
    // One is above whatever digits follow.
    let certain = num == 0 && den > 0;
    certain || Probability::exp_neg(&UBig::from(num), &UBig::from(den)).draw_from(word, rng)
}

/// The same for parameters beyond 128 bits.
pub(super) fn bernoulli_exp_big<R: CryptoRng + ?Sized>(rng: &mut R, num: &UBig, den: &UBig) -> bool {
    let word = rng.next_u64();
    // Both cut by as many bits, so that their quotient changes by a part in 2^60 or is above 64 anyway.
    let excess = num.bit_len().max(den.bit_len()).saturating_sub(127);
    let short = |n: &UBig| u128::try_from(n >> excess).unwrap_or(u128::MAX);
    exceeds(exponent(short(num), short(den)), word)
        .unwrap_or_else(|| Probability::exp_neg(num, den).draw_from(word, rng))
}

/// num/den in units of 2^−58, off by less than 2^−54; `None` from 64 upwards.
fn exponent(num: u128, den: u128) -> Option<u64> {
    if num >> 6 >= den {
        return None;
    }
    // Cut to 70 bits, so that the product below fits; then den has at least 63.
    let excess = (128 - num.leading_zeros()).saturating_sub(128 - EXPONENT_BITS);
    u64::try_from(((num >> excess) << EXPONENT_BITS) / (den >> excess).max(1)).ok()
}

/// Whether e^−γ exceeds the uniform real that starts with `word`, if that is settled by the word alone.
///
/// `exponent` is γ in units of 2^−58, off by less than 2^−51; `None` if γ is about 64 or more.
#[inline]
pub(super) fn exceeds(exponent: Option<u64>, word: u64) -> Option<bool> {
    let Some(exponent) = exponent else {
        // e^−63 < 2^−64.
        return if word > 0 { Some(false) } else { None };
    };
    // 1 − γ ≤ e^−γ settles most draws of small γ without the series.
    if exponent < 1 << EXPONENT_BITS && word < (u64::MAX - (exponent << 6)).saturating_sub(MARGIN) {
        return Some(true);
    }
    let value = exp_word(exponent);
    if word < value.saturating_sub(MARGIN) {
        Some(true)
    } else if word >= value.saturating_add(MARGIN) && value <= u64::MAX - MARGIN {
        Some(false)
    } else {
        None
    }
}

/// e^−γ in units of 2^−64, for γ in units of 2^−58, with an error below 2^−50; 1 is held as 2^64 − 1.
///
/// γ is halved h ≤ 7 times to r < 1/2. Sixteen terms of the series leave out (1/2)^17/17! < 2^−65; a step of Horner's
/// rule loses at most 4 units of 2^−63 and halves what was lost before; each squaring at most doubles the error and
/// adds 2 units. Together below 2^7·(8 + 2 + 1) units of 2^−63, less than 2^−52.
fn exp_word(exponent: u64) -> u64 {
    const ONE: u64 = 1 << 63;
    let halvings = 7u32.saturating_sub(exponent.leading_zeros());
    // r in units of 2^−64.
    let r = if halvings > 6 { exponent >> (halvings - 6) } else { exponent << (6 - halvings) };
    let step = |sum: u64, reciprocal: &u64| ONE - high_word(high_word(r, sum), *reciprocal);
    let mut value = RECIPROCALS.iter().rev().fold(ONE, step);
    for _ in 0..halvings {
        value = high_word(value, value) << 1;
    }
    if value >= ONE { u64::MAX } else { value << 1 }
}

fn high_word(a: u64, b: u64) -> u64 {
    ((u128::from(a) * u128::from(b)) >> 64) as u64
}

/// Uniform on 0..n; 0 for n ≤ 1.
///
/// The low bits of a word (of two beyond 64 bits), again while they are not below n.
pub(crate) fn uniform_below<R: CryptoRng + ?Sized>(rng: &mut R, n: u128) -> u128 {
    if n <= 1 {
        return 0;
    }
    let top = n - 1;
    // The same draw in one word where it suffices, only faster than in 128 bits.
    if let Ok(top) = u64::try_from(top) {
        let mask = u64::MAX >> top.leading_zeros();
        let drawn = (0..MAX_REJECTIONS).map(|_| rng.next_u64() & mask).find(|drawn| *drawn <= top);
        return u128::from(drawn.unwrap_or(0));
    }
    let mask = u128::MAX >> top.leading_zeros();
    let mut two_words = || u128::from(rng.next_u64()) | u128::from(rng.next_u64()) << 64;
    (0..MAX_REJECTIONS).map(|_| two_words() & mask).find(|drawn| *drawn <= top).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::exp_neg;
    use crate::testing::seeded;
    use rand_core::Rng;

    /// The margin is four times what the proof promises of the error, and the error keeps the promise.
    #[test]
    fn exponentials_err_less_than_the_proof_says() {
        let mut rng = seeded(1);
        let edges = [0, 1, 1 << 57, (1 << 57) - 1, 1 << 58, (1 << 58) - 1, 1 << 63, u64::MAX];
        let random = (0..3000).map(|i| rng.next_u64() >> (i % 12));
        for exponent in edges.into_iter().chain(random) {
            let (lower, upper) = exp_neg(&UBig::from(exponent), &(UBig::ONE << EXPONENT_BITS as usize), 64);
            let found = UBig::from(exp_word(exponent));
            let promised = UBig::from(MARGIN >> 4);
            assert!(found <= upper + &promised && found + promised >= lower, "seed 1, exponent {exponent:#x}");
        }
    }

    /// Whatever a word decides, it decides like the exact number; and all but words next to the number decide.
    #[test]
    fn words_decide_like_the_exact_number() {
        let mut rng = seeded(2);
        for i in 0..4000 {
            let mut wide = || (u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())) >> (i * 7 % 128);
            let (num, den) = (wide(), wide().max(1));
            // Up to 90, beyond what an exponent can hold.
            let num = num % den.saturating_mul(90);
            let exact = exp_neg(&UBig::from(num), &UBig::from(den), 64).0;
            let exact = u64::try_from(exact).unwrap_or(u64::MAX);
            for distance in [0, 1, 2, 3, 1 << 10, MARGIN - 1, MARGIN, 2 * MARGIN + 4] {
                for word in [exact.saturating_sub(distance), exact.saturating_add(distance)] {
                    let decided = exceeds(exponent(num, den), word);
                    let far = word.abs_diff(exact) > 2 * MARGIN && exact < u64::MAX - 2 * MARGIN;
                    assert!(decided.is_some() || !far, "seed 2, {num}/{den}, {word:#x}");
                    // Bounds to 64 digits are two apart, so nothing is said of the words between.
                    if word.abs_diff(exact) > 2 {
                        assert!(decided.is_none_or(|below| below == (word < exact)), "seed 2, {num}/{den}, {word:#x}");
                    }
                }
            }
        }
    }

    #[test]
    fn exponents_err_less_than_the_proof_says() {
        for (num, den) in
            [(1u128, 3u128), (u128::MAX / 5, u128::MAX / 300), (u128::MAX, u128::MAX), ((1 << 70) - 1, 1 << 64)]
        {
            let found = UBig::from(exponent(num, den).unwrap());
            // In units of 2^−54, sixteen times coarser.
            let exact = (UBig::from(num) << 54) / UBig::from(den);
            assert!(
                (found >> 4).max(exact.clone()) - (UBig::from(exponent(num, den).unwrap()) >> 4).min(exact)
                    <= UBig::ONE
            );
        }
        assert_eq!(exponent(64, 1), None);
        assert_eq!(exponent(u128::MAX, 0), None);
        assert_eq!(exponent(0, 0), None);
    }
}
