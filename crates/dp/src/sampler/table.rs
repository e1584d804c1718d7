//! Exact inversion of a table: which integer a uniform real falls to, mostly from its first 64 digits.
//!
//! A law on the indices 0, 1, 2, … is a list of weights. Let F(j) be the exact probability of an index at most j and
//! T_j = ⌊F(j)·2^320⌋, up to J, the first with F(J) > 1 − 2^−320. The draw is the first j with u < T_j for a uniform
//! 320-bit integer u (J if there is none). The words of u are read from the top, the first always, and another only
//! while those read so far are the leading words of some T_j.
//!
//! The table holds the first word of each T_j, taken from 128-bit arithmetic and hence perhaps one too small. When the
//! first word of u is not clear of it, all T_j are computed to the full 320 digits, once for a table: this happens about
//! every 2^55 draws of a Gaussian, 2^48 of a Poisson. A guide (Chen and Asau 1974) finds the place to search from in one step.

use std::sync::OnceLock;

use dashu::integer::UBig;
use rand_core::CryptoRng;

use crate::exact::{DIGITS, WORDS, exp_neg};

/// Digits of the weights that the first words are computed from: 64 more than those.
const QUICK_DIGITS: usize = 128;
/// Digits of the weights that T_j are computed from.
const FULL_DIGITS: usize = DIGITS + 128;
/// Bound of the error of a sum of weights, as a power of two in units of the last digit; see [`Law::weights`].
const SUM_ERROR_BITS: usize = 40;
/// More weights than any law has: 2·25·1024 for a Poisson of mean 2^20.
const MAX_WEIGHTS: usize = 1 << 17;
/// Limits of the guide's size, as powers of two.
const GUIDE_BITS: (u32, u32) = (8, 14);

/// A distribution on 0, 1, 2, …, by its weights. Fractions are num/den > 0.
#[derive(Clone, Copy, Debug)]
pub(super) enum Law {
    /// exp(−x²/2σ²) for x = 0, 1, 2, …, where σ² = num/den ≤ 256.
    HalfGaussian { num: u64, den: u128 },
    /// The same for the integers in the order 0, 1, −1, 2, −2, ….
    Gaussian { num: u64, den: u128 },
    /// λ^x/x! with λ = num/den ≤ 2^20.
    Poisson { num: u64, den: u128 },
}

/// Weights of the indices from `first` on, in units of 2^−`digits`, relative to the largest, which is 1.
pub(super) struct Weights {
    pub(super) first: u64,
    pub(super) values: Vec<UBig>,
}

impl Law {
    /// All weights that are at least one unit of 2^−`digits`; the sum of any of them, and that of all the others, is
    /// off by less than 2^40 units, and never above the exact one.
    ///
    /// Proven. Gaussian: with g = exp(−1/2σ²), weight e_{x+1} = e_x·r_x and r_{x+1} = r_x·g². g is off by at most 2
    /// units, g² by 5; rounding down, r_x is off by 6x + 2 and e_x by 3x² + 3x, and there are at most 25·16 = 400 values
    /// of x for 448 digits: less than 2^19 each, 2^29 in sum. Poisson: from the mode each step multiplies by at most one
    /// and rounds down once, so a weight is off by its distance, at most 2^15, and the sum by 2^31. Left out: the first
    /// missing weight is below its error bound plus a unit, 2^20, and the following fall at least by 1/(1 + 13/1024)
    /// each: together below 2^28.
    pub(super) fn weights(&self, digits: usize) -> Weights {
        match *self {
            Self::HalfGaussian { num, den } => Weights { first: 0, values: half_gaussian(num, den, digits) },
            Self::Gaussian { num, den } => {
                let half = half_gaussian(num, den, digits);
                let copies =
                    half.into_iter().enumerate().flat_map(|(x, e)| core::iter::repeat_n(e, 1 + usize::from(x > 0)));
                Weights { first: 0, values: copies.collect() }
            }
            Self::Poisson { num, den } => poisson(num, den, digits),
        }
    }
}

fn half_gaussian(num: u64, den: u128, digits: usize) -> Vec<UBig> {
    // 1/2σ² = den/(2·num).
    let (g, _) = exp_neg(&UBig::from(den), &(UBig::from(num) << 1), digits);
    let square = (&g * &g) >> digits;
    let (mut e, mut r) = (UBig::ONE << digits, g);
    let mut values = Vec::new();
    while !e.is_zero() && values.len() < MAX_WEIGHTS {
        let next = (&e * &r) >> digits;
        r = (r * &square) >> digits;
        values.push(core::mem::replace(&mut e, next));
    }
    values
}

fn poisson(num: u64, den: u128, digits: usize) -> Weights {
    let mode = u64::try_from(u128::from(num) / den).unwrap_or(0);
    let mut values = Vec::new();
    let (mut x, mut weight) = (mode, UBig::ONE << digits);
    while x > 0 && values.len() < MAX_WEIGHTS {
        weight = weight * x * den / num;
        if weight.is_zero() {
            break;
        }
        values.push(weight.clone());
        x -= 1;
    }
    values.reverse();
    let (mut x, mut weight) = (mode, UBig::ONE << digits);
    let first = mode - values.len() as u64;
    while !weight.is_zero() && values.len() < 2 * MAX_WEIGHTS {
        x += 1;
        let next = &weight * num / (UBig::from(den) * x);
        values.push(core::mem::replace(&mut weight, next));
    }
    Weights { first, values }
}

/// T_j for j = first, first + 1, …, J. What is left of `first` has T_j = 0.
///
/// Promise: T_j = ⌊F(j)·2^320⌋ unless F(j)·2^320 is within 2^−86 above a whole number; then it may be one less, which
/// one draw in 2^320 would meet. Argued.
pub(super) fn thresholds(law: Law) -> (u64, Vec<UBig>) {
    let Weights { first, values } = law.weights(FULL_DIGITS);
    let most = (UBig::ONE << DIGITS) - 1u8;
    let total = values.iter().sum::<UBig>() + (UBig::ONE << SUM_ERROR_BITS);
    let mut sum = UBig::ZERO;
    let mut found = Vec::with_capacity(values.len());
    for value in &values {
        sum += value;
        let threshold = (&sum << DIGITS) / &total;
        // Whether the weights that follow, which is the difference less what the total was raised by, are below 2^−320.
        let last = (&total - &sum) << DIGITS < &total + (UBig::ONE << (DIGITS + SUM_ERROR_BITS));
        found.push(if last { most.clone() } else { threshold });
        if last {
            break;
        }
    }
    (first, found)
}

/// A law made ready for many draws.
pub(super) struct Table {
    law: Law,
    first: u64,
    /// For each index from `first`, two more than a lower bound of the first word of T_j, which is at most one off.
    above: Vec<u64>,
    /// By the leading bits of a word: the first place in `above` that is larger than any smaller word.
    guide: Vec<u32>,
    guide_shift: u32,
    /// `first` and all T_j, from the first draw that needed them.
    full: OnceLock<(u64, Vec<UBig>)>,
}

impl Table {
    pub(super) fn new(law: Law) -> Self {
        let Weights { first, values } = law.weights(QUICK_DIGITS);
        let total = values.iter().sum::<UBig>() + (UBig::ONE << SUM_ERROR_BITS);
        let mut above = Vec::with_capacity(values.len());
        let mut sum = UBig::ZERO;
        for value in &values {
            sum += value;
            // The bound is below F(j)·2^64 by less than 2^−22: F errs by 2^41 of 2^128.
            let bound = u64::try_from((&sum << 64) / &total).unwrap_or(u64::MAX);
            // The last few have no word above them: they are left to the full comparison.
            let Some(next) = bound.checked_add(2) else { break };
            above.push(next);
        }
        let bits = (usize::BITS - above.len().leading_zeros()).clamp(GUIDE_BITS.0, GUIDE_BITS.1);
        let guide_shift = 64 - bits;
        let mut place = 0;
        let guide = (0..1u64 << bits).map(|lead| {
            let rest = above.get(place..).unwrap_or_default();
            place += rest.iter().take_while(|next| **next <= lead << guide_shift).count();
            place as u32
        });
        Self { law, first, guide: guide.collect(), above, guide_shift, full: OnceLock::new() }
    }

    /// One draw.
    #[inline]
    pub(super) fn draw<R: CryptoRng + ?Sized>(&self, rng: &mut R) -> u64 {
        let word = rng.next_u64();
        let start = self.guide.get((word >> self.guide_shift) as usize).map_or(0, |place| *place as usize);
        let rest = self.above.get(start..).unwrap_or_default();
        match rest.iter().enumerate().find(|(_, next)| word < **next) {
            // Below the lower bound, so surely below T_j; and not below T of the index before.
            Some((steps, next)) if word < next - 2 => self.first + (start + steps) as u64,
            _ => self.settle(word, rng),
        }
    }

    /// The draw for a first word that decides nothing, from all T_j.
    #[cold]
    fn settle<R: CryptoRng + ?Sized>(&self, word: u64, rng: &mut R) -> u64 {
        let (first, thresholds) = self.full.get_or_init(|| thresholds(self.law));
        let (mut drawn, mut read) = (UBig::from(word), 1);
        while read < WORDS {
            let lead = |threshold: &UBig| threshold >> (DIGITS - 64 * read);
            let place = thresholds.partition_point(|threshold| lead(threshold) < drawn);
            if thresholds.get(place).is_none_or(|threshold| lead(threshold) != drawn) {
                break;
            }
            drawn = (drawn << 64) | UBig::from(rng.next_u64());
            read += 1;
        }
        // The words read are clear of every T_j, so the digits that would follow are of no matter.
        let padded = drawn << (DIGITS - 64 * read);
        let place = thresholds.partition_point(|threshold| *threshold <= padded);
        first + place.min(thresholds.len().saturating_sub(1)) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exact::tests::{Oracle, is_close, oracle, oracle_exp_neg};
    use crate::testing::{Scripted, seeded};

    const LAWS: [Law; 17] = [
        Law::Gaussian { num: 1, den: 1 },
        Law::Gaussian { num: 7, den: 2 },
        Law::Gaussian { num: 1, den: 5 },
        Law::Gaussian { num: 1, den: 3 },
        Law::Gaussian { num: 7, den: 5 },
        Law::Gaussian { num: 1, den: 1 << 30 },
        Law::Gaussian { num: u64::MAX, den: (1 << 56) + 1 },
        Law::Gaussian { num: 1, den: 1 << 40 },
        Law::Gaussian { num: 256, den: 1 },
        Law::HalfGaussian { num: 257, den: 4 },
        Law::HalfGaussian { num: 1 << 40, den: 1 << 32 },
        Law::Poisson { num: 1, den: 1 << 41 },
        Law::Poisson { num: 1, den: 2 },
        Law::Poisson { num: 37, den: 3 },
        Law::Poisson { num: 200, den: 1 },
        Law::Poisson { num: 3000, den: 1 },
        Law::Poisson { num: (1 << 32) - 1, den: 1 << 16 },
    ];

    /// The masses that the sampler really has, against the formula in other people's arithmetic: to 1e-90.
    #[test]
    fn masses_are_those_of_the_law() {
        for law in LAWS {
            let (first, thresholds) = thresholds(law);
            let len = thresholds.len();
            if len > 2000 {
                continue; // Poissons from 3000: the reference takes seconds there; the next test still looks at them
            }
            let weights: Vec<Oracle> = (0..len as u64 + 40).map(|i| reference_weight(law, first, i)).collect();
            let total = weights.iter().fold(Oracle::ZERO, |sum, weight| sum + weight);
            let mut below = UBig::ZERO;
            for (threshold, weight) in thresholds.iter().zip(&weights) {
                let mass = oracle(&(threshold - &below)) / oracle(&(UBig::ONE << DIGITS));
                // 2^−300 is 5e-91.
                assert!(is_close(&mass, &(weight / &total), 300), "{law:?} above {below}");
                below = threshold.clone();
            }
            assert!(below == (UBig::ONE << DIGITS) - 1u8, "{law:?} ends early");
        }
    }

    /// Relative to the index `first` (Poisson) or 0.
    fn reference_weight(law: Law, first: u64, i: u64) -> Oracle {
        let gaussian =
            |x: u64, num: u64, den: u128| oracle_exp_neg(&(UBig::from(x) * x * den), &(UBig::from(num) * 2u8));
        match law {
            Law::HalfGaussian { num, den } => gaussian(i, num, den),
            Law::Gaussian { num, den } => gaussian(i.div_ceil(2), num, den),
            Law::Poisson { num, den } => (first + 1..=first + i)
                .fold(oracle(&UBig::ONE), |w, x| w * oracle(&UBig::from(num)) / oracle(&(UBig::from(den) * x))),
        }
    }

    /// What the proof of the fast way needs: the first word of T_j is within one of what the table holds.
    #[test]
    fn first_words_are_at_most_one_off() {
        for law in LAWS {
            let table = Table::new(law);
            let (first, thresholds) = thresholds(law);
            let skipped = (table.first - first) as usize;
            // What the table leaves out begins below its smallest word.
            assert!(thresholds[..skipped].iter().all(|t| t >> (DIGITS - 64) <= UBig::ONE), "{law:?}");
            for (above, threshold) in table.above.iter().zip(&thresholds[skipped..]) {
                let word = u64::try_from(threshold >> (DIGITS - 64)).unwrap();
                assert!(word == above - 2 || word == above - 1, "{law:?}: {word:#x} against {above:#x}");
            }
        }
    }

    /// The table against the definition, on words that come close to a threshold far more often than chance would.
    #[test]
    fn draws_are_those_of_the_definition() {
        let mut rng = seeded(41);
        for law in LAWS {
            let table = Table::new(law);
            let (first, thresholds) = thresholds(law);
            for _ in 0..if thresholds.len() > 2000 { 40 } else { 200 } {
                let pick = rand_core::Rng::next_u64(&mut rng);
                let near = &thresholds[(pick >> 8) as usize % thresholds.len()];
                let kept = (pick % 6) as usize;
                let words: Vec<u64> = (1..=WORDS)
                    .map(|i| (near >> (DIGITS - 64 * i)) & u64::MAX)
                    .enumerate()
                    .map(|(i, word)| match i.cmp(&kept) {
                        core::cmp::Ordering::Less => word,
                        core::cmp::Ordering::Equal => word.wrapping_add(pick >> 32 & 3).wrapping_sub(1),
                        core::cmp::Ordering::Greater => rand_core::Rng::next_u64(&mut rng),
                    })
                    .collect();
                let (expected, read) = defined_draw(first, &thresholds, &words);
                let mut script = Scripted::new(words.clone());
                assert_eq!((table.draw(&mut script), script.read()), (expected, read), "seed 41, {law:?}, {words:x?}");
            }
        }
    }

    /// The words of the module text, one after the other.
    fn defined_draw(first: u64, thresholds: &[UBig], words: &[u64]) -> (u64, usize) {
        let join = |n: usize| words[..n].iter().fold(UBig::ZERO, |u, word| (u << 64) | UBig::from(*word));
        let open = |n: usize| thresholds.iter().any(|t| t >> (DIGITS - 64 * n) == join(n));
        let read = (1..WORDS).find(|n| !open(*n)).unwrap_or(WORDS);
        let u = join(read) << (DIGITS - 64 * read);
        let place = thresholds.iter().position(|t| u < *t).unwrap_or(thresholds.len() - 1);
        (first + place as u64, read)
    }
}
