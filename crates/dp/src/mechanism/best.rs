//! The best of many runs, of which only the best is released: tuning, restarts, the choice among whole analyses.
//!
//! Running a mechanism several times and keeping the best result is not free, and a *fixed* number of runs may cost nearly
//! as much as releasing them all. With a secret random number of runs from the truncated negative binomial
//!
//! ```text
//! P(K = k) ∝ (1 − γ)^k · Π_{l=0..k−1} (l + η)/(l + 1),   k ≥ 1
//! ```
//!
//! it costs (2 + η)·ε if one run is ε-private, however many runs are expected (Papernot and Steinke 2022, "Hyperparameter
//! Tuning with Rényi Differential Privacy", Definition 1; the curve is their Theorem 2). η = 1 is geometric (Liu and Talwar
//! 2019), η = 0 logarithmic; a smaller η is cheaper, spreads wider and more often runs once only.
//!
//! **The draw.** All coins are quotients of integers, so that K has exactly this law, and its price is not one of another
//! number. Count runs from k = 1: a coin of γ ends with k; else a coin of (k + η)/(k + 1) goes on to k + 1, or starts again
//! from 1. From one start, k comes out with probability γ·(1 − γ)^(k−1)·Π_{l=1..k−1} (l + η)/(l + 1), which is the law above
//! up to a constant; starting again divides by the sum. Every turn ends it with probability γ, whatever η is.
//!
//! Does not: hide K. Whoever learns K, from a log, a bill or the time it took, sees more than the price says. Assumes: every
//! run costs at most the base price, draws its own randomness, and is ranked by what it would release, nothing else.
//!
//! **Why a rank and not a comparison.** The theorem is about the largest in a fixed order. A rule of two arguments that is no
//! order, say one in which 2 beats only 1 and 1 beats only 0, counts what it has seen in what it keeps, and costs more:
//! `tests/enumeration/best.rs` has one at 4.9·ε where the price says 3·ε.

use rand_core::CryptoRng;

use super::{MechanismError, check_range};
use crate::accounting::rdp::{Runs, selection_price};
use crate::price::Price;
use crate::sampler::uniform_below;

/// Largest denominator of γ and of η, and so largest 1/γ.
pub const MAX_RUNS_DENOMINATOR: u64 = 1 << 20;
/// Turns of the draw times γ: all of them fail to end it with probability below e^−208 < 2^−300.
const TURNS: u64 = 208;

/// A random number of runs with what it costs to release the best of them.
///
/// The law of the number and the price are made together, and [`PrivateSelection::select`] uses the one with the other.
///
/// ```
/// use chacha20::ChaCha20Rng;
/// use cohortium_dp::mechanism::{Laplace, MechanismError, PrivateSelection};
/// use cohortium_dp::{NanoNats, Raw};
/// use rand_core::SeedableRng;
///
/// let count = Laplace::with_epsilon(1, NanoNats::new(100_000_000))?;
/// // η = 0, γ = 1/100: 21 runs on average.
/// let best = PrivateSelection::new(&count.price(), (0, 1), (1, 100))?;
/// assert!((best.mean_runs() - 21.5).abs() < 0.1);
/// let price = best.price(); // charged before the first run; not 21 times the price of one
/// assert!(price.curve.orders()[20] < NanoNats::new(300_000_000));
///
/// let mut rng = ChaCha20Rng::from_seed([1; 32]); // a node hands in its operating system's
/// let largest = best.select(&mut rng, |rng| count.release(Raw::new(vec![120]), rng), |counts| counts.first().copied());
/// assert_eq!(largest.len(), 1);
/// # Ok::<(), MechanismError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct PrivateSelection {
    /// η as numerator and denominator.
    shape: (i64, u64),
    gamma: (u64, u64),
    runs: Runs,
    price: Price,
}

impl PrivateSelection {
    /// From the price of one run, η and γ, both as (numerator, denominator).
    ///
    /// # Errors
    /// [`MechanismError::Unfit`] unless −1 < η ≤ 1 and 0 < γ ≤ 1: beyond η = 1 the coins of the draw are none;
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`] for denominators above [`MAX_RUNS_DENOMINATOR`];
    /// [`MechanismError::Rdp`] if the base price has a δ, for which the theorem is not.
    pub fn new(base: &Price, shape: (i64, u64), gamma: (u64, u64)) -> Result<Self, MechanismError> {
        check_range("the denominator of eta", shape.1, MAX_RUNS_DENOMINATOR)?;
        check_range("the denominator of gamma", gamma.1, MAX_RUNS_DENOMINATOR)?;
        let limit = i64::try_from(shape.1).unwrap_or(i64::MAX);
        if !(shape.0 > -limit && shape.0 <= limit) {
            return Err(MechanismError::Unfit { reason: "eta must be above -1, at most 1" });
        }
        if gamma.0 == 0 || gamma.0 > gamma.1 {
            return Err(MechanismError::Unfit { reason: "gamma must be above 0, at most 1" });
        }
        // The price rises with η and falls with γ, so both quotients are rounded towards the dearer side.
        let eta = shape.0 as f64 / shape.1 as f64;
        let eta = eta + 2.0 * f64::EPSILON * eta.abs();
        let quotient = gamma.0 as f64 / gamma.1 as f64 * (1.0 - 2.0 * f64::EPSILON);
        let runs = Runs::new(eta, if gamma.0 == gamma.1 { 1.0 } else { quotient })?;
        let price = selection_price(base, &runs)?;
        Ok(Self { shape, gamma, runs, price })
    }

    /// Runs a mechanism a random number of times and returns the result of the highest rank. Equals leave the earlier one.
    ///
    /// Promise: given that every call of `run` costs at most the base price and that `rank` looks at its argument only, what
    /// is returned costs [`PrivateSelection::price`]; never another result, nor how many there were. Proven (Papernot and
    /// Steinke 2022, Theorem 2; of equals any one may be taken, as they are independent), up to 2^−300 for the limit of turns.
    #[must_use = "the release is paid for"]
    pub fn select<T, K: Ord>(
        &self,
        rng: &mut dyn CryptoRng,
        mut run: impl FnMut(&mut dyn CryptoRng) -> T,
        rank: impl Fn(&T) -> K,
    ) -> T {
        let runs = self.draw_runs(rng);
        let mut best = run(rng);
        let mut highest = rank(&best);
        for _ in 1..runs {
            let next = run(rng);
            let here = rank(&next);
            if here > highest {
                (best, highest) = (next, here);
            }
        }
        best
    }

    /// A fresh number of runs, at least 1, where the runs are made elsewhere.
    ///
    /// Promise: exactly the law of the module text, up to 2^−300. Proven. Secret: all runs are to be made, and neither the
    /// number nor the other results may be seen.
    pub fn draw_runs(&self, rng: &mut dyn CryptoRng) -> u64 {
        let mut runs = 1;
        for _ in 0..TURNS * self.gamma.1.div_ceil(self.gamma.0) {
            let [stop, next] = self.coins(runs);
            if toss(rng, stop) {
                break;
            }
            runs = if toss(rng, next) { runs + 1 } else { 1 };
        }
        runs
    }

    /// The coins at k runs as quotients: γ to stop there, and (k + η)/(k + 1) to go on rather than start again. What
    /// [`PrivateSelection::draw_runs`] tosses; for enumeration.
    pub fn coins(&self, runs: u64) -> [(u128, u128); 2] {
        let (num, den) = self.shape;
        let (runs, wide) = (u128::from(runs), u128::from(den));
        // num > −den, so that this is positive for every number of runs from 1 on.
        let whole = runs.saturating_mul(wide).saturating_add_signed(i128::from(num));
        [(u128::from(self.gamma.0), u128::from(self.gamma.1)), (whole, runs.saturating_add(1).saturating_mul(wide))]
    }

    /// What the best of the runs costs, all of them together.
    pub fn price(&self) -> Price {
        self.price.clone()
    }

    /// The expected number of runs. Public, for planning.
    pub fn mean_runs(&self) -> f64 {
        self.runs.mean()
    }
}

/// True with probability num/den, exactly.
fn toss(rng: &mut dyn CryptoRng, (num, den): (u128, u128)) -> bool {
    uniform_below(rng, den) < num
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mechanism::{Gaussian, KeyBounds, KeySelection};
    use crate::price::{AttoDelta, NanoNats};
    use crate::sampler::Variance;
    use crate::testing::{seeded, statistic_is_alarming};

    const SAMPLES: usize = 200_000;
    /// Numbers of runs that have a cell of their own; the rest share the last.
    const CELLS: usize = 12;

    fn base() -> Price {
        Gaussian::new(1, Variance::new(100).unwrap()).unwrap().price()
    }

    /// P(1), …, and P(more), from the formula.
    fn law(eta: f64, gamma: f64) -> Vec<f64> {
        let mut weight = 1.0;
        let weights: Vec<f64> = (1..200_000)
            .map(|k| {
                let here = weight;
                weight *= (1.0 - gamma) * (f64::from(k) + eta) / (f64::from(k) + 1.0);
                here
            })
            .collect();
        let total: f64 = weights.iter().sum();
        let rest: f64 = weights.iter().skip(CELLS).sum();
        weights.iter().take(CELLS).chain([&rest]).map(|w| w / total).collect()
    }

    fn counts(runs: impl Iterator<Item = u64>) -> Vec<f64> {
        let mut counts = vec![0.0; CELLS + 1];
        runs.for_each(|k| counts[(k as usize - 1).min(CELLS)] += 1.0);
        counts
    }

    fn statistic(counts: &[f64], law: &[f64]) -> f64 {
        counts.iter().zip(law).map(|(n, p)| (n - p * SAMPLES as f64).powi(2) / (p * SAMPLES as f64)).sum()
    }

    /// Chi-squared of 12 degrees at a false-alarm rate of 1e-6, n = 200,000. A number that is one larger, or one smaller
    /// where it can be (for η = 1 the law that is not truncated, with one run for none), moves some percent of the mass at
    /// the least, and is missed with probability below 1e-6.
    #[test]
    fn runs_follow_their_law() {
        let parameters =
            [((0, 1), (1, 20)), ((1, 1), (1, 10)), ((1, 2), (1, 15)), ((-1, 2), (1, 50)), ((1, 3), (3, 20))];
        for (seed, (shape, gamma)) in (120u8..).zip(parameters) {
            let selection = PrivateSelection::new(&base(), shape, gamma).unwrap();
            let mut rng = seeded(seed);
            let drawn: Vec<u64> = (0..SAMPLES).map(|_| selection.draw_runs(&mut rng)).collect();
            let law = law(shape.0 as f64 / shape.1 as f64, gamma.0 as f64 / gamma.1 as f64);
            let alarming = |counts: &[f64]| statistic_is_alarming(statistic(counts, &law), CELLS);
            let found = counts(drawn.iter().copied());
            assert!(!alarming(&found), "seed {seed}: {found:?} {law:?}");
            assert!(alarming(&counts(drawn.iter().map(|k| k + 1))), "seed {seed}: a shifted number passed");
            let smaller = drawn.iter().map(|k| (k - 1).max(1));
            assert!(alarming(&counts(smaller)), "seed {seed}: a number that is not truncated passed");
            let mean = drawn.iter().sum::<u64>() as f64 / SAMPLES as f64;
            // Six standard errors, of a variance of at most mean/γ.
            let error = 6.0 * (mean * gamma.1 as f64 / gamma.0 as f64 / SAMPLES as f64).sqrt();
            assert!((mean - selection.mean_runs()).abs() < error, "seed {seed}: {mean} {}", selection.mean_runs());
        }
    }

    #[test]
    fn the_best_of_the_runs_is_returned() {
        let selection = PrivateSelection::new(&base(), (1, 1), (1, 50)).unwrap();
        for seed in 130..140u8 {
            let runs = selection.draw_runs(&mut seeded(seed));
            let mut made = 0;
            // The best run is the one numbered highest in this order: odd before even, late before early.
            let run = |_: &mut dyn CryptoRng| {
                made += 1;
                made
            };
            let best = selection.select(&mut seeded(seed), run, |a| (a % 2, *a));
            assert_eq!((made, best), (runs, runs - (runs + 1) % 2), "seed {seed}");
        }
    }

    #[test]
    fn one_run_costs_one_run() {
        let selection = PrivateSelection::new(&base(), (0, 1), (7, 7)).unwrap();
        assert!((0..100).all(|_| selection.draw_runs(&mut seeded(141)) == 1));
        assert!(selection.mean_runs() < 1.0 + 1e-9);
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let big = MAX_RUNS_DENOMINATOR + 1;
        for (shape, gamma) in [
            ((-1, 1), (1, 2)),
            ((2, 1), (1, 2)),
            ((i64::MIN, 1), (1, 2)),
            ((0, 0), (1, 2)),
            ((0, big), (1, 2)),
            ((0, 1), (0, 2)),
            ((0, 1), (3, 2)),
            ((0, 1), (1, 0)),
            ((0, 1), (1, big)),
        ] {
            assert!(PrivateSelection::new(&base(), shape, gamma).is_err(), "{shape:?} {gamma:?}");
        }
        let bounds = KeyBounds { max_keys_per_person: 1, min_frequency: 1 };
        let with_delta =
            KeySelection::laplace(NanoNats::new(1_000_000_000), AttoDelta::new(1_000_000).unwrap(), bounds);
        let found = PrivateSelection::new(&with_delta.unwrap().price(), (0, 1), (1, 2));
        assert!(matches!(found, Err(MechanismError::Rdp(_))));
    }
}
