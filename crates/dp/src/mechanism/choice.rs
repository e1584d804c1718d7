//! Choosing the best of several candidates without letting one person decide.
//!
//! * [`PermuteAndFlip`] (McKenna and Sheldon 2020, "Permute-and-Flip"): go through the candidates in random order and stop
//!   at the first whose coin of probability exp(−ε·(q* − q)/2Δ) shows heads. Never worse than the exponential mechanism in
//!   expected score; the same law as report-noisy-max with exponential noise (Ding, Kifer, Steinke, Wang, Xiao, Zhang
//!   2021, "The Permute-and-Flip Mechanism is Identical to Report-Noisy-Max with Exponential Noise"), drawn here without
//!   any real number. The choice for one release.
//! * [`ExponentialMechanism`] (McSherry and Talwar 2007), drawn by rejection. Its range is bounded, so that it costs ε²/8
//!   per order (Cesar and Rogers 2021; Dong, Durfee, Rogers 2020): the choice for many releases in an account.
//! * [`NoisyMax`] with discrete Laplace noise (Dwork and Roth 2014, Claim 3.9), ties included: for whoever needs the noise
//!   to be additive.
//!
//! **Monotone scores** ([`Scores::Monotone`]) all move the same way when a person comes or goes, as counts do; then the
//! factor 2 is not needed. All three are proven for it: the range of the exponential mechanism stays ε, and the argument
//! at [`NoisyMax::release`] covers both other mechanisms.
//!
//! Does not: run in constant time: the time depends on how far scores lie apart, so answers must leave in time buckets.
//! Assumes: Δ bounds how much one person moves any one score; the number of candidates is public.

use dashu::integer::UBig;
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use super::cost::{NANO, concentrated_curve, price_of, pure_curve, smaller};
use super::{MAX_EPSILON_NANO, MAX_MAGNITUDE, MechanismError, check_range, laplace_scale};
use crate::price::{AttoDelta, Curve, NanoNats, Price};
use crate::raw::Raw;
use crate::sampler::{Scale, bernoulli_exp, discrete_laplace};

/// Most candidates of one choice.
pub const MAX_CANDIDATES: usize = 1 << 16;
/// Attempts per candidate of the rejection sampler: one accepts with probability at least 1/n, so that all of them fail
/// with probability below e^−256.
const ATTEMPTS_PER_CANDIDATE: usize = 256;

/// How scores move when one person comes or goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scores {
    /// Each by at most Δ, up or down.
    Any,
    /// Each by at most Δ, and none up while another goes down.
    Monotone,
}

impl Scores {
    /// Over how many sensitivities two scores move apart.
    pub(super) fn factor(self) -> u64 {
        match self {
            Self::Any => 2,
            Self::Monotone => 1,
        }
    }
}

/// Chooses by coins in random order.
#[derive(Clone, Debug, PartialEq)]
pub struct PermuteAndFlip(Terms);

/// Chooses with probability ∝ exp(ε·q/2Δ).
#[derive(Clone, Debug, PartialEq)]
pub struct ExponentialMechanism(Terms);

/// Chooses the largest score after noise.
#[derive(Clone, Debug, PartialEq)]
pub struct NoisyMax {
    terms: Terms,
    scale: Scale,
}

impl PermuteAndFlip {
    /// From the ε to spend and the sensitivity Δ of one score, in its own integer steps.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`].
    pub fn new(epsilon: NanoNats, sensitivity: u64, scores: Scores) -> Result<Self, MechanismError> {
        Terms::new(epsilon, sensitivity, scores, false).map(Self)
    }

    /// The index of the chosen candidate.
    ///
    /// Promise: given scores of which one person moves each by at most Δ, returns an index with ε-differential privacy;
    /// never a score. Proven (McKenna and Sheldon 2020; Ding et al. 2021; monotone scores by the
    /// argument at [`NoisyMax::release`]), up to the 2^−300 of the coins.
    ///
    /// # Errors
    /// [`MechanismError::Shape`] without candidates or above [`MAX_CANDIDATES`].
    pub fn release(&self, raw: Raw<Vec<i64>>, rng: &mut dyn CryptoRng) -> Result<usize, MechanismError> {
        let (scores, best) = candidates(raw)?;
        let mut order: Vec<usize> = (0..scores.len()).collect();
        while order.len() > 1 {
            let next = uniform_index(rng, order.len());
            let index = order.swap_remove(next);
            let (num, den) = self.exponent(best, scores.get(index).copied().unwrap_or(best));
            if bernoulli_exp(rng, num, den) {
                return Ok(index);
            }
        }
        // The best has a coin of probability one: if it is not gone, it is the last.
        Ok(order.first().copied().unwrap_or(0))
    }

    /// The coin of a score is exp(−num/den). What [`PermuteAndFlip::release`] uses; for enumeration.
    pub fn exponent(&self, best: i64, score: i64) -> (u128, u128) {
        self.0.exponent(best, score)
    }

    /// The curve of ε-privacy (randomised response is the worst).
    pub fn price(&self) -> Price {
        self.0.price.clone()
    }

    /// What was asked for.
    pub fn epsilon(&self) -> NanoNats {
        self.0.epsilon
    }

    /// None.
    pub fn delta(&self) -> AttoDelta {
        AttoDelta::ZERO
    }
}

impl ExponentialMechanism {
    /// From the ε to spend and the sensitivity Δ of one score, in its own integer steps.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`].
    pub fn new(epsilon: NanoNats, sensitivity: u64, scores: Scores) -> Result<Self, MechanismError> {
        Terms::new(epsilon, sensitivity, scores, true).map(Self)
    }

    /// The index of the chosen candidate.
    ///
    /// Promise: given scores of which one person moves each by at most Δ, returns an index with ε-differential privacy and
    /// ε²/8-concentrated privacy; never a score. Proven (McSherry and Talwar 2007; Cesar and Rogers 2021), up to
    /// e^−256 for the limit of attempts and 2^−300 for the coins.
    ///
    /// # Errors
    /// [`MechanismError::Shape`] without candidates or above [`MAX_CANDIDATES`].
    pub fn release(&self, raw: Raw<Vec<i64>>, rng: &mut dyn CryptoRng) -> Result<usize, MechanismError> {
        let (scores, best) = candidates(raw)?;
        let mut index = 0;
        for _ in 0..scores.len() * ATTEMPTS_PER_CANDIDATE {
            index = uniform_index(rng, scores.len());
            let (num, den) = self.exponent(best, scores.get(index).copied().unwrap_or(best));
            if bernoulli_exp(rng, num, den) {
                return Ok(index);
            }
        }
        // A uniform index, which says nothing.
        Ok(index)
    }

    /// A score's weight is exp(−num/den). What [`ExponentialMechanism::release`] uses; for enumeration.
    pub fn exponent(&self, best: i64, score: i64) -> (u128, u128) {
        self.0.exponent(best, score)
    }

    /// At every order the smaller of α·ε²/8 and the curve of ε-privacy.
    pub fn price(&self) -> Price {
        self.0.price.clone()
    }

    /// What was asked for.
    pub fn epsilon(&self) -> NanoNats {
        self.0.epsilon
    }

    /// None.
    pub fn delta(&self) -> AttoDelta {
        AttoDelta::ZERO
    }
}

impl NoisyMax {
    /// From the ε to spend and the sensitivity Δ of one score, in its own integer steps.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`].
    pub fn new(epsilon: NanoNats, sensitivity: u64, scores: Scores) -> Result<Self, MechanismError> {
        let terms = Terms::new(epsilon, sensitivity, scores, false)?;
        let scale = laplace_scale(sensitivity.saturating_mul(scores.factor()), epsilon.get())?;
        Ok(Self { terms, scale })
    }

    /// The index of the largest noisy score, the first of equals.
    ///
    /// Promise: given scores of which one person moves each by at most Δ, returns an index with ε-differential privacy;
    /// never a score. Proven: fix the noise of all but candidate i, and let r* be the smallest integer noise with which i
    /// wins, ties being settled by position. For the neighbour, i wins with r* + 2Δ (r* + Δ if all scores move the same
    /// way), and P(noise ≥ r + s) ≥ e^(−s/t)·P(noise ≥ r) for discrete Laplace noise of scale t at every integer r.
    ///
    /// # Errors
    /// [`MechanismError::Shape`] without candidates or above [`MAX_CANDIDATES`].
    pub fn release(&self, raw: Raw<Vec<i64>>, rng: &mut dyn CryptoRng) -> Result<usize, MechanismError> {
        let (scores, _) = candidates(raw)?;
        let noise: Zeroizing<Vec<i64>> =
            Zeroizing::new(scores.iter().map(|_| discrete_laplace(rng, self.scale)).collect());
        Ok(Self::decide(&scores, &noise))
    }

    /// The position of the largest sum, the first of equals. What [`NoisyMax::release`] uses; for enumeration.
    pub fn decide(scores: &[i64], noise: &[i64]) -> usize {
        let sums = scores.iter().zip(noise).map(|(score, noise)| score.saturating_add(*noise));
        let first_best = |best: (usize, i64), (index, sum)| if sum > best.1 { (index, sum) } else { best };
        sums.enumerate().fold((0, i64::MIN), first_best).0
    }

    /// Scale of the noise, in steps of the score.
    pub fn scale(&self) -> Scale {
        self.scale
    }

    /// The curve of ε-privacy (randomised response is the worst).
    pub fn price(&self) -> Price {
        self.terms.price.clone()
    }

    /// What was asked for.
    pub fn epsilon(&self) -> NanoNats {
        self.terms.epsilon
    }

    /// None.
    pub fn delta(&self) -> AttoDelta {
        AttoDelta::ZERO
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Terms {
    epsilon: NanoNats,
    sensitivity: u64,
    scores: Scores,
    price: Price,
}

impl Terms {
    fn new(epsilon: NanoNats, sensitivity: u64, scores: Scores, bounded_range: bool) -> Result<Self, MechanismError> {
        check_range("epsilon, in units of 1e-9", epsilon.get(), MAX_EPSILON_NANO)?;
        check_range("sensitivity", sensitivity, MAX_MAGNITUDE.unsigned_abs())?;
        let (num, den) = (UBig::from(epsilon.get()), UBig::from(NANO));
        let pure = pure_curve(&num, &den, 1);
        let curve: Curve = if bounded_range {
            smaller(&pure, &concentrated_curve(&(&num * &num), &(&den * &den * 8u64)))
        } else {
            pure
        };
        Ok(Self { epsilon, sensitivity, scores, price: price_of(curve) })
    }

    /// ε·(best − score)/(factor·Δ). ε < 2^40 and the gap ≤ 2^61 make a numerator below 2^101; the denominator is below
    /// 2^30·2·2^60.
    fn exponent(&self, best: i64, score: i64) -> (u128, u128) {
        let gap = u128::from(best.max(score).abs_diff(score));
        let den = u128::from(NANO) * u128::from(self.scores.factor()) * u128::from(self.sensitivity);
        (u128::from(self.epsilon.get()) * gap, den)
    }
}

/// The clamped scores and the best of them. Clamping keeps sensitivity and monotonicity.
fn candidates(raw: Raw<Vec<i64>>) -> Result<(Zeroizing<Vec<i64>>, i64), MechanismError> {
    let mut scores = Zeroizing::new(raw.into_inner());
    if scores.len() > MAX_CANDIDATES {
        return Err(MechanismError::Shape { expected: MAX_CANDIDATES, found: scores.len() });
    }
    for score in scores.iter_mut() {
        *score = (*score).clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE);
    }
    let best = scores.iter().copied().max().ok_or(MechanismError::Shape { expected: 1, found: 0 })?;
    Ok((scores, best))
}

/// Uniform on 0..n, for 1 ≤ n ≤ 2^16.
fn uniform_index(rng: &mut dyn CryptoRng, n: usize) -> usize {
    let n = n.max(1) as u64;
    // Words at or above the largest multiple of n are drawn again, with probability below 2^−48 each time; 64 of them in
    // a row do not happen.
    let limit = u64::MAX - u64::MAX % n;
    let word = (0..64).map(|_| rng.next_u64()).find(|word| *word < limit).unwrap_or(0);
    (word % n) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{seeded, statistic_is_alarming};

    const SAMPLES: usize = 60_000;

    fn statistic(counts: &[f64], law: &[f64]) -> f64 {
        counts.iter().zip(law).map(|(n, p)| (n - p * SAMPLES as f64).powi(2) / (p * SAMPLES as f64)).sum()
    }

    /// Each mechanism follows its own law and not the next one's: chi-squared at a false-alarm rate of 1e-6, n = 60,000;
    /// the laws differ by at least 2 % in one cell, which is missed with probability below 1e-6.
    #[test]
    fn choices_follow_their_laws() {
        let scores = vec![3i64, 5, 4];
        let epsilon = NanoNats::new(1_000_000_000);
        // ε = 1, Δ = 1: coins e^-1, 1, e^-1/2; the law of permute-and-flip summed over the six orders.
        let coins = [(-1.0f64).exp(), 1.0, (-0.5f64).exp()];
        let mut flip = [0.0; 3];
        for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
            let mut left = 1.0 / 6.0;
            for i in order {
                flip[i] += left * coins[i];
                left *= 1.0 - coins[i];
            }
        }
        let total: f64 = coins.iter().sum();
        let exponential = coins.map(|c| c / total);
        let permute = PermuteAndFlip::new(epsilon, 1, Scores::Any).unwrap();
        let mechanism = ExponentialMechanism::new(epsilon, 1, Scores::Any).unwrap();
        let mut rng = seeded(95);
        let (mut flipped, mut exponentials) = ([0.0; 3], [0.0; 3]);
        for _ in 0..SAMPLES {
            flipped[permute.release(Raw::new(scores.clone()), &mut rng).unwrap()] += 1.0;
            exponentials[mechanism.release(Raw::new(scores.clone()), &mut rng).unwrap()] += 1.0;
        }
        assert!(!statistic_is_alarming(statistic(&flipped, &flip), 2), "seed 95: {flipped:?} {flip:?}");
        assert!(!statistic_is_alarming(statistic(&exponentials, &exponential), 2), "seed 95: {exponentials:?}");
        assert!(statistic_is_alarming(statistic(&flipped, &exponential), 2), "one law passed for the other");
    }

    #[test]
    fn clear_winners_win_and_extremes_do_not_overflow() {
        let epsilon = NanoNats::new(MAX_EPSILON_NANO);
        let scores = vec![i64::MIN, i64::MAX, 0];
        let mut rng = seeded(96);
        for sensitivity in [1, 1 << 29] {
            let permute = PermuteAndFlip::new(epsilon, sensitivity, Scores::Monotone).unwrap();
            let mechanism = ExponentialMechanism::new(epsilon, sensitivity, Scores::Any).unwrap();
            let noisy = NoisyMax::new(epsilon, sensitivity, Scores::Any).unwrap();
            assert_eq!(permute.release(Raw::new(scores.clone()), &mut rng), Ok(1));
            assert_eq!(mechanism.release(Raw::new(scores.clone()), &mut rng), Ok(1));
            assert_eq!(noisy.release(Raw::new(scores.clone()), &mut rng), Ok(1));
        }
    }

    #[test]
    fn prices_are_of_bounded_range_only_where_proven() {
        let epsilon = NanoNats::new(500_000_000);
        let at_two = |price: Price| price.curve.orders()[3].get();
        assert_eq!(at_two(ExponentialMechanism::new(epsilon, 1, Scores::Any).unwrap().price()), 62_500_000);
        let pure = at_two(PermuteAndFlip::new(epsilon, 1, Scores::Any).unwrap().price());
        assert!(pure > 200_000_000 && pure < 250_000_000, "{pure}");
    }

    #[test]
    fn nothing_to_choose_is_refused() {
        let permute = PermuteAndFlip::new(NanoNats::new(1), 1, Scores::Any).unwrap();
        assert!(permute.release(Raw::new(vec![]), &mut seeded(97)).is_err());
        assert!(permute.release(Raw::new(vec![0; MAX_CANDIDATES + 1]), &mut seeded(97)).is_err());
        assert_eq!(permute.release(Raw::new(vec![7]), &mut seeded(97)), Ok(0));
        assert!(PermuteAndFlip::new(NanoNats::ZERO, 1, Scores::Any).is_err());
        assert!(PermuteAndFlip::new(NanoNats::new(1), 0, Scores::Any).is_err());
        assert!(NoisyMax::new(NanoNats::new(1), u64::MAX, Scores::Any).is_err());
    }
}
