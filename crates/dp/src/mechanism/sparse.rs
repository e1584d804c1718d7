//! Which of many questions exceed a threshold, paid for only where the answer is "above".
//!
//! The sparse vector technique (Dwork, Naor, Reingold, Rothblum, Vadhan 2009; Dwork and Roth 2014, section 3.6), in the
//! form whose proof stands: Algorithm 1 of Lyu, Su, Li 2017 ("Understanding the Sparse Vector Technique for Differential
//! Privacy") with a cut-off of one, run anew for every "above". So each round is an AboveThreshold of its own with fresh
//! threshold noise, rounds compose like any releases, and rounds that were never started can be given back.
//!
//! Per round ε = ε₁ + ε₂: the threshold gets noise of scale Δ/ε₁, every question noise of scale 2Δ/ε₂ (Δ/ε₂ if all
//! questions move the same way). ε₂/ε₁ = 2^(2/3), or 1 for monotone questions, makes the variance of their difference
//! smallest (Lyu, Su, Li 2017).
//!
//! The known wrong variants, which the enumeration finds: no noise on the questions, no noise on the threshold, noise
//! that does not grow with the number of "above" answers, and handing out the noisy value that was compared.
//!
//! **Interleaving.** A round is an interactive mechanism: it keeps the noise of its threshold between questions, and other
//! releases, other runs among them, may come in between and choose its next question. Adaptive composition of releases
//! that are over once they have answered does not cover that. *Concurrent* composition does: interleaving gains nothing
//! under pure privacy (Vadhan and Wang 2021) or under Rényi divergence (Lyu 2022, "Composition Theorems for Interactive
//! Differential Privacy"), and a filter that is valid for releases is valid for interactive mechanisms that start at any
//! time, with prices chosen as one goes, if loss is measured by Rényi divergence of a fixed order (Haney, Shoemate, Tian,
//! Vadhan, Vyrros, Xu, Zhang 2023, "Concurrent Composition for Interactive Differential Privacy with Adaptive Privacy-Loss
//! Parameters"). The account's argument ([`crate::account`]) takes one filter per fixed order, which that theorem then
//! supplies, and adds up the δ of all orders over transcripts, which does not ask how they came about. So it should hold
//! for interleaved rounds; argued, not proven here.
//!
//! Does not: release values. Assumes that one person moves every question by at most Δ. How many "below" answers come
//! is not limited by privacy.

use dashu::integer::UBig;
use rand_core::CryptoRng;
use zeroize::Zeroize;

use super::choice::Scores;
use super::cost::{NANO, price_of, pure_curve};
use super::{MAX_EPSILON_NANO, MAX_MAGNITUDE, MechanismError, check_range, laplace_scale};
use crate::price::{NanoNats, Price};
use crate::raw::Raw;
use crate::sampler::{Scale, discrete_laplace};

/// Most rounds of one run.
pub const MAX_ROUNDS: u32 = 1 << 16;
/// ε₁ of 1000 parts of ε: 1/(1 + 2^(2/3)), rounded.
const THRESHOLD_SHARE: u64 = 386;
/// The same for monotone questions.
const MONOTONE_SHARE: u64 = 500;

/// The parameters of AboveThreshold, and how often it may say "above".
#[derive(Clone, Debug, PartialEq)]
pub struct SparseVector {
    threshold_scale: Scale,
    query_scale: Scale,
    rounds: u32,
    epsilon: NanoNats,
    price: Price,
}

/// What may be known about a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SparseAnswer {
    /// It reached the threshold, as far as the noise tells. A round is over.
    Above,
    /// It did not. This cost nothing more.
    Below,
    /// All rounds are over: the question was not looked at.
    Exhausted,
}

impl SparseVector {
    /// From the ε of one round, the sensitivity Δ of every question in its own integer steps, and the number of rounds.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`]; an ε of less than 2e-9 cannot be divided.
    pub fn new(
        epsilon_per_round: NanoNats,
        sensitivity: u64,
        questions: Scores,
        rounds: u32,
    ) -> Result<Self, MechanismError> {
        let epsilon = epsilon_per_round.get();
        check_range("epsilon, in units of 1e-9", epsilon, MAX_EPSILON_NANO)?;
        check_range("sensitivity", sensitivity, MAX_MAGNITUDE.unsigned_abs())?;
        check_range("rounds", u64::from(rounds), u64::from(MAX_ROUNDS))?;
        let share = if questions == Scores::Monotone { MONOTONE_SHARE } else { THRESHOLD_SHARE };
        // ε < 2^40, so the product fits; both parts sum to ε exactly.
        let first = (epsilon * share / 1000).max(1);
        let threshold_scale = laplace_scale(sensitivity, first)?;
        let query_scale = laplace_scale(sensitivity.saturating_mul(questions.factor()), epsilon.saturating_sub(first))?;
        let price = price_of(pure_curve(&UBig::from(epsilon), &UBig::from(NANO), 1));
        Ok(Self { threshold_scale, query_scale, rounds, epsilon: epsilon_per_round, price })
    }

    /// Starts a run with all rounds unused. Nothing is drawn and nothing is owed yet.
    pub fn start(&self) -> SparseVectorRun {
        SparseVectorRun { mechanism: self.clone(), threshold_noise: None, started: 0 }
    }

    /// Whether a question is "above". What [`SparseVectorRun::ask`] uses; for enumeration.
    pub fn decide(value: i64, threshold: i64, query_noise: i64, threshold_noise: i64) -> bool {
        value.saturating_add(query_noise) >= threshold.saturating_add(threshold_noise)
    }

    /// What one round costs: charge it before the question that starts it ([`SparseVectorRun::starts_round`]). A schedule
    /// reserves [`SparseVector::rounds`] of them and gives back those that were not started.
    pub fn price_per_round(&self) -> Price {
        self.price.clone()
    }

    /// ε of one round; no δ.
    pub fn epsilon_per_round(&self) -> NanoNats {
        self.epsilon
    }

    /// How often "above" may be said.
    pub fn rounds(&self) -> u32 {
        self.rounds
    }

    /// Scales of the noise on the threshold and on every question.
    pub fn scales(&self) -> (Scale, Scale) {
        (self.threshold_scale, self.query_scale)
    }
}

/// A run: remembers the noise of the threshold, which is secret, so that it neither prints nor copies and is overwritten
/// when its round is over and when it is dropped.
pub struct SparseVectorRun {
    mechanism: SparseVector,
    threshold_noise: Option<i64>,
    started: u32,
}

impl SparseVectorRun {
    /// Answers one question against a public threshold.
    ///
    /// Promise: given values that one person moves by at most Δ each, chosen adaptively, the answers of one round
    /// together are ε-differentially private, however many there are; never a value. Proven (Lyu, Su, Li 2017, for Algorithm 1;
    /// it only shifts noise by Δ and 2Δ, which are integers, so it holds for discrete Laplace noise and for `>=`), up to
    /// 2^−300 per draw.
    pub fn ask(&mut self, raw: Raw<i64>, threshold: i64, rng: &mut dyn CryptoRng) -> SparseAnswer {
        let threshold_noise = match self.threshold_noise {
            Some(noise) => noise,
            None if self.started >= self.mechanism.rounds => return SparseAnswer::Exhausted,
            None => {
                self.started += 1;
                discrete_laplace(rng, self.mechanism.threshold_scale)
            }
        };
        let [value, threshold] = [raw.into_inner(), threshold].map(|v| v.clamp(-MAX_MAGNITUDE, MAX_MAGNITUDE));
        let query_noise = discrete_laplace(rng, self.mechanism.query_scale);
        let above = SparseVector::decide(value, threshold, query_noise, threshold_noise);
        if !above {
            self.threshold_noise = Some(threshold_noise);
            return SparseAnswer::Below;
        }
        // The noise of the threshold never outlives an "above".
        self.threshold_noise.zeroize();
        SparseAnswer::Above
    }

    /// Whether the next question starts a round, and must be charged for.
    pub fn starts_round(&self) -> bool {
        self.threshold_noise.is_none() && self.started < self.mechanism.rounds
    }

    /// Rounds that were started and are owed.
    pub fn rounds_started(&self) -> u32 {
        self.started
    }

    /// Rounds that were never started: their price may be given back once the run is over.
    pub fn rounds_unused(&self) -> u32 {
        self.mechanism.rounds.saturating_sub(self.started)
    }
}

impl Drop for SparseVectorRun {
    fn drop(&mut self) {
        self.threshold_noise.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::seeded;

    #[test]
    fn rounds_are_used_one_per_above() {
        // ε = 1000 per round: the noise is zero except with probability below e^-300.
        let sparse = SparseVector::new(NanoNats::new(MAX_EPSILON_NANO), 1, Scores::Any, 2).unwrap();
        let mut run = sparse.start();
        let mut rng = seeded(101);
        assert_eq!((run.starts_round(), run.rounds_started(), run.rounds_unused()), (true, 0, 2));
        let stream = [(3, SparseAnswer::Below, 1), (4, SparseAnswer::Below, 1), (5, SparseAnswer::Above, 1)];
        let rest = [(i64::MIN, SparseAnswer::Below, 2), (i64::MAX, SparseAnswer::Above, 2)];
        for (value, answer, started) in stream.into_iter().chain(rest) {
            assert_eq!(run.ask(Raw::new(value), 5, &mut rng), answer, "seed 101: {value}");
            assert_eq!(run.rounds_started(), started);
        }
        assert!(!run.starts_round());
        assert_eq!(run.ask(Raw::new(9), 5, &mut rng), SparseAnswer::Exhausted);
        assert_eq!(run.rounds_unused(), 0);
    }

    #[test]
    fn noise_follows_the_split() {
        let epsilon = NanoNats::new(1_000_000_000);
        let (threshold, query) = SparseVector::new(epsilon, 3, Scores::Any, 1).unwrap().scales();
        assert_eq!((threshold, query), (Scale::ratio(3000, 386).unwrap(), Scale::ratio(6000, 614).unwrap()));
        let (threshold, query) = SparseVector::new(epsilon, 3, Scores::Monotone, 1).unwrap().scales();
        assert_eq!((threshold, query), (Scale::ratio(6, 1).unwrap(), Scale::ratio(6, 1).unwrap()));
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let epsilon = NanoNats::new(1_000_000_000);
        for (epsilon, sensitivity, rounds) in [
            (NanoNats::ZERO, 1, 1),
            (NanoNats::new(1), 1, 1),
            (epsilon, 0, 1),
            (epsilon, 1, 0),
            (epsilon, 1, MAX_ROUNDS + 1),
        ] {
            assert!(SparseVector::new(epsilon, sensitivity, Scores::Any, rounds).is_err());
        }
    }
}
