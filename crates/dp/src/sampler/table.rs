//! Exact inversion of a table: which integer a uniform real falls to, mostly from its first 64 digits.
//!
//! A law on the indices 0, 1, 2, … is a list of weights. Let F(j) be the exact probability of an index at most j and
//! T_j = ⌊F(j)·2^320⌋, up to J, the first with F(J) > 1 − 2^−320. The draw is the first j with u < T_j for a uniform
//! 320-bit integer u (J if there is none). The words of u are read from the top, the first always, and another only
//! while those read so far are the leading words of some T_j.
//!
//! The table holds the first word of each T_j, taken from 128-bit arithmetic and hence perhaps one too small. When the
//! first word of u is not clear of it, all T_j are computed to the full 320 digits: about once in 2^55 draws of a
//! Gaussian, 2^48 of a Poisson. A guide (Chen and Asau 1974) finds the place to search from in one step.

use dashu::integer::UBig;
use rand_core::CryptoRng;

use crate::exact::{DIGITS, WORDS, exp_neg};

/// Digits of the weights that the first words are computed from.
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
    /// missing weight is below its error bound plus a unit, 2^20, and the following fall at least by 1/(1 + 20/1024)
    /// each: together below 2^26.
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
        // The quotient cannot tell what is this close to one.
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
        Self { law, first, guide: guide.collect(), above, guide_shift }
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
            _ => settle(self.law, word, rng),
        }
    }
}

/// The draw for a first word that decides nothing, from all T_j.
#[cold]
pub(super) fn settle<R: CryptoRng + ?Sized>(law: Law, word: u64, rng: &mut R) -> u64 {
    let (first, thresholds) = thresholds(law);
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
