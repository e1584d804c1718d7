//! Which keys exist: a key is shown only if enough persons have it, and nobody can tell whether one of them was needed.
//!
//! Three rules, none of which is the best for all parameters:
//!
//! * **Laplace** and **Gaussian**: add noise to the number of persons and show the key, with the noisy number, if that is
//!   *at least* the threshold (Korolova, Kenthapadi, Mishra, Ntoulas 2009). Gaussian wins from about nine keys per person.
//! * **Truncated geometric**: show the key, without a number, with the largest probability that (ε, δ) allows
//!   (Desfontaines, Voss, Gipson, Mandayam 2022, "Differentially private partition selection", Theorem 1):
//!   π(0) = 0, π(n+1) = min(e^ε·π(n) + δ, 1 − e^−ε·(1 − π(n) − δ), 1).
//!
//! **Minimum frequency** k: a key of fewer than k persons is never shown, and the rule acts on m = n − (k − 1). So m = 1 is
//! the first number that can be shown, as n = 1 is without a minimum, and neighbours still differ by one.
//!
//! **The threshold** T is met by equality, `m + noise ≥ T`, here and in [`KeySelection::decide`], which is what runs. A key
//! that only one person has (m = 1) is thus shown with probability δ₁ = P(noise ≥ T − 1), where the equality counts: leaving
//! it out reports a δ that is several times too small. T is the smallest integer for which 1 − (1 − δ₁)^l0, all l0 keys of a
//! person together, is at most the δ asked for. δ₁ is an upper bound in integers of 320 bits.
//!
//! **Why δ and the curve add up.** Let the person's keys split into j with m going from 0 to 1 and at most l0 − j others.
//! Given that none of the j is shown, which has probability (1 − δ₁)^j, the output is noise on the others, shifted by one
//! each, and a threshold is post-processing. So both worlds are within the curve of l0 shifts except for probability
//! 1 − (1 − δ₁)^l0, which is what [`Price`] means by δ.
//!
//! Does not: bound how many keys a person has, nor that a person counts once per key. Assumes both.

use std::collections::BTreeMap;

use dashu::base::SquareRoot;
use dashu::integer::UBig;
use rand_core::CryptoRng;

use super::cost::{ATTO, NANO, concentrated_curve, delta_above, price_of, pure_curve};
use super::fixed::{BITS, at_least_one_above, ceil_div, exp_neg, minus, mul_above, mul_below, one, to_f64};
use super::{MAX_MAGNITUDE, MechanismError, check_noise, check_range, laplace_scale};
use crate::exact::Probability;
use crate::price::{AttoDelta, Curve, GRID_VERSION, NanoNats, Price};
use crate::raw::{Erase, Raw};
use crate::sampler::{GaussianSampler, Scale, Variance, discrete_laplace};

/// Most keys of one person.
pub const MAX_KEYS_PER_PERSON: u64 = 1 << 20;
/// Largest minimum frequency.
pub const MAX_MIN_FREQUENCY: u64 = 1 << 40;
/// Longest table of keep probabilities: it has about (2/ε)·ln(ε/2δ) entries, so this is ε of about 4e-4 per key.
pub const MAX_TABLE: usize = 1 << 16;

/// Terms of a Gaussian tail that are added one by one; the rest is bounded by a geometric series. Up to σ of some
/// hundreds the bound is exact to many digits, beyond that at most 7 % too large in the δ of one key.
const TAIL_TERMS: u32 = 2048;
/// No threshold is searched beyond this: the noise would be useless, and the clamp of counts is far above.
const MAX_THRESHOLD: u64 = 1 << 50;
/// ⌊π·10^35⌋.
const PI_DIGITS: u128 = 314_159_265_358_979_323_846_264_338_327_950_288;
const PI_UNIT: u128 = 100_000_000_000_000_000_000_000_000_000_000_000;

/// What the rows promise, and the minimum frequency.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyBounds {
    /// Most keys that one person has: l0.
    pub max_keys_per_person: u64,
    /// Keys of fewer persons are never shown: k; 1 for no minimum.
    pub min_frequency: u64,
}

/// Selection of keys that enough persons have.
///
/// ```
/// use cohortium_dp::mechanism::{KeyBounds, KeySelection, MechanismError};
/// use cohortium_dp::{AttoDelta, NanoNats};
///
/// // ε = 1, δ = 1e-6, one diagnosis per person, and none that fewer than 10 persons have.
/// let bounds = KeyBounds { max_keys_per_person: 1, min_frequency: 10 };
/// let (epsilon, delta) = (NanoNats::new(1_000_000_000), AttoDelta::new(1_000_000_000_000)?);
/// let rule = KeySelection::truncated_geometric(epsilon, delta, bounds)?;
/// assert_eq!(rule.keep_probability(9), 0.0);
/// assert!(rule.keep_probability(20) < 0.1 && rule.keep_probability(30) > 0.99);
/// # Ok::<(), MechanismError>(())
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct KeySelection {
    rule: Rule,
    bounds: KeyBounds,
    epsilon: Option<NanoNats>,
    price: Price,
}

#[derive(Clone, Debug, PartialEq)]
enum Rule {
    Laplace {
        scale: Scale,
        threshold: i64,
    },
    Gaussian {
        variance: Variance,
        threshold: i64,
    },
    /// π(0), π(1), … until it is one.
    TruncatedGeometric {
        keep: Vec<Keep>,
    },
}

/// A keep probability, to toss and to report.
#[derive(Clone, Debug, PartialEq)]
struct Keep {
    coin: Probability,
    odds: f64,
}

impl KeySelection {
    /// With discrete Laplace noise of scale l0/ε. Shows the noisy numbers, too.
    ///
    /// Promise: [`KeySelection::release`] is (ε, δ)-private for all l0 keys together. Proven (module text).
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`].
    pub fn laplace(epsilon: NanoNats, delta: AttoDelta, bounds: KeyBounds) -> Result<Self, MechanismError> {
        let l0 = bounds.checked()?;
        let scale = laplace_scale(l0, epsilon.get())?;
        let (step, width) = (UBig::from(scale.den()), UBig::from(scale.num()));
        let a = exp_neg(&step, &width);
        let tail = |x: u64| ceil_div(exp_neg(&(&step * x), &width).upper << BITS, one() + &a.lower);
        let (threshold, delta) = threshold(&tail, delta, l0)?;
        // Every key moves by at most one, so l0 cells at ε/l0 each are the worst, not one cell at ε.
        let curve = pure_curve(&UBig::from(epsilon.get()), &(UBig::from(NANO) * l0), l0);
        Ok(Self::new(Rule::Laplace { scale, threshold }, bounds, Some(epsilon), curve, delta))
    }

    /// With discrete Gaussian noise of variance σ², lattice steps squared. Shows the noisy numbers, too.
    ///
    /// Promise: [`KeySelection::release`] is within the Rényi curve α·l0/2σ² except with probability δ, for all l0 keys
    /// together. Proven (module text).
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`], also for noise that is next to none.
    pub fn gaussian(variance: Variance, delta: AttoDelta, bounds: KeyBounds) -> Result<Self, MechanismError> {
        let l0 = bounds.checked()?;
        let curve = concentrated_curve(&(UBig::from(l0) * variance.den()), &(UBig::from(variance.num()) * 2u64));
        let curve = check_noise(price_of(curve))?.curve;
        let norm = gaussian_norm_below(variance);
        let (threshold, delta) = threshold(&|x| gaussian_tail_above(variance, &norm, x), delta, l0)?;
        Ok(Self::new(Rule::Gaussian { variance, threshold }, bounds, None, curve, delta))
    }

    /// As [`KeySelection::gaussian`], with σ² = l0/2ρ.
    ///
    /// # Errors
    /// As [`KeySelection::gaussian`].
    pub fn gaussian_with_rho(rho: NanoNats, delta: AttoDelta, bounds: KeyBounds) -> Result<Self, MechanismError> {
        let l0 = bounds.checked()?;
        let den = rho.get().checked_mul(2).ok_or(MechanismError::TooLarge { field: "rho", limit: u64::MAX / 2 })?;
        Self::gaussian(Variance::ratio(l0 * NANO, den)?, delta, bounds)
    }

    /// With the best keep probability of all (ε, δ)-private rules; each of the l0 keys gets ε/l0 and δ/l0.
    ///
    /// Promise: [`KeySelection::release`] is (ε, δ)-private for all l0 keys together. Proven (Desfontaines et al. 2022,
    /// Theorem 1). The probabilities are multiples of 2^−320 that satisfy the two inequalities of the proof themselves,
    /// and the coins are exact, so that no rounding is left to be argued away.
    ///
    /// # Errors
    /// [`MechanismError::Zero`], [`MechanismError::TooLarge`]; [`MechanismError::Unfit`] if ε/l0 is so small that the
    /// table would be longer than [`MAX_TABLE`].
    pub fn truncated_geometric(epsilon: NanoNats, delta: AttoDelta, bounds: KeyBounds) -> Result<Self, MechanismError> {
        let l0 = bounds.checked()?;
        check_range("epsilon, in units of 1e-9", epsilon.get(), super::MAX_EPSILON_NANO)?;
        check_range("delta, in units of 1e-18", delta.get(), ATTO)?;
        let (num, den) = (UBig::from(epsilon.get()), UBig::from(NANO) * l0);
        let delta_key = one() * delta.get() / (UBig::from(ATTO) * l0);
        let table = keep_table(&num, &den, &delta_key)?;
        let keep = table.iter().map(|p| Keep { coin: Probability::from_bits(p), odds: to_f64(p) }).collect();
        let all = delta_above(&at_least_one_above(&delta_key, l0)).unwrap_or(delta).min(delta);
        let curve = pure_curve(&num, &den, l0);
        Ok(Self::new(Rule::TruncatedGeometric { keep }, bounds, Some(epsilon), curve, all))
    }

    fn new(rule: Rule, bounds: KeyBounds, epsilon: Option<NanoNats>, curve: Curve, delta: AttoDelta) -> Self {
        Self { rule, bounds, epsilon, price: Price { curve, delta, version: GRID_VERSION } }
    }

    /// The keys that may be shown, in their own order, with their noisy numbers where the rule has them.
    ///
    /// Promise: given the number of persons of every key that occurs, returns keys and numbers at the price of
    /// [`KeySelection::price`]; never the raw numbers, never a key of fewer than k persons, nor how many keys were left
    /// out. Proven (module text). The time it takes depends on how many keys there are. Numbers just above the threshold are
    /// biased upwards, because those whose noise was low are not shown.
    #[must_use = "the release is paid for"]
    pub fn release<K: Ord>(&self, raw: Raw<BTreeMap<K, u64>>, rng: &mut dyn CryptoRng) -> BTreeMap<K, Option<i64>> {
        // Noise is drawn for every key, also where the minimum frequency has already decided.
        match &self.rule {
            Rule::Laplace { scale, .. } => {
                show(raw, |count| self.decide(count, discrete_laplace(rng, *scale)).map(Some))
            }
            Rule::Gaussian { variance, .. } => {
                let sampler = GaussianSampler::new(*variance);
                show(raw, |count| self.decide(count, sampler.draw(rng)).map(Some))
            }
            Rule::TruncatedGeometric { keep } => {
                show(raw, |count| self.entry(keep, count).is_none_or(|keep| keep.coin.draw(rng)).then_some(None))
            }
        }
    }

    /// What [`KeySelection::release`] does with a count and a draw of noise: the noisy count, if it may be shown.
    ///
    /// For enumeration: pure, and nothing that holds a raw count outside this crate can call it. `None` always for the
    /// truncated geometric rule, which adds no noise.
    pub fn decide(&self, count: u64, noise: i64) -> Option<i64> {
        let threshold = match self.rule {
            Rule::Laplace { threshold, .. } | Rule::Gaussian { threshold, .. } => threshold,
            Rule::TruncatedGeometric { .. } => return None,
        };
        let counted = self.counted(count)?;
        let noisy = counted.saturating_add(noise);
        (noisy >= threshold).then(|| noisy.saturating_add(self.hidden_below()))
    }

    /// The probability that a key of `count` persons is shown. For reports: which keys a researcher can hope for.
    pub fn keep_probability(&self, count: u64) -> f64 {
        let Some(counted) = self.counted(count) else { return 0.0 };
        match &self.rule {
            Rule::Laplace { scale, threshold } => {
                laplace_tail(scale.num() as f64 / scale.den() as f64, (threshold - counted) as f64)
            }
            Rule::Gaussian { variance, threshold } => {
                gaussian_tail(variance.num() as f64 / variance.den() as f64, threshold - counted)
            }
            Rule::TruncatedGeometric { keep } => self.entry(keep, count).map_or(1.0, |keep| keep.odds),
        }
    }

    /// The smallest noisy number that is shown, in persons; `None` for the rule without noise.
    pub fn threshold(&self) -> Option<i64> {
        match self.rule {
            Rule::Laplace { threshold, .. } | Rule::Gaussian { threshold, .. } => {
                Some(threshold.saturating_add(self.hidden_below()))
            }
            Rule::TruncatedGeometric { .. } => None,
        }
    }

    /// Variance parameter or scale of the noise on the numbers, for error bars: (scale of Laplace, σ² of Gaussian).
    pub fn noise(&self) -> (Option<Scale>, Option<Variance>) {
        match self.rule {
            Rule::Laplace { scale, .. } => (Some(scale), None),
            Rule::Gaussian { variance, .. } => (None, Some(variance)),
            Rule::TruncatedGeometric { .. } => (None, None),
        }
    }

    /// Curve and δ of everything shown, numbers included, for all l0 keys of a person.
    pub fn price(&self) -> Price {
        self.price.clone()
    }

    /// ε of the whole release next to [`KeySelection::delta`]; `None` for Gaussian noise, which has a curve only.
    pub fn epsilon(&self) -> Option<NanoNats> {
        self.epsilon
    }

    /// δ of the whole release: at most what was asked for, and less where the threshold is rounded up.
    pub fn delta(&self) -> AttoDelta {
        self.price.delta
    }

    /// m = n − (k − 1) if it is positive.
    fn counted(&self, count: u64) -> Option<i64> {
        let counted = (count.saturating_add(1)).checked_sub(self.bounds.min_frequency).filter(|m| *m > 0)?;
        Some(i64::try_from(counted).unwrap_or(MAX_MAGNITUDE).min(MAX_MAGNITUDE))
    }

    /// k − 1.
    fn hidden_below(&self) -> i64 {
        i64::try_from(self.bounds.min_frequency.saturating_sub(1)).unwrap_or(MAX_MAGNITUDE)
    }

    /// π(m), which is one where the table has no entry any more.
    fn entry<'a>(&self, keep: &'a [Keep], count: u64) -> Option<&'a Keep> {
        keep.get(usize::try_from(self.counted(count).unwrap_or(0)).unwrap_or(usize::MAX))
    }
}

/// The keys for which something is to be shown, with it. The counts are overwritten before the keys are taken over.
fn show<K: Ord>(
    raw: Raw<BTreeMap<K, u64>>,
    mut shown: impl FnMut(u64) -> Option<Option<i64>>,
) -> BTreeMap<K, Option<i64>> {
    let mut counts = raw.into_inner();
    let entries: Vec<Option<Option<i64>>> = counts.values().map(|count| shown(*count)).collect();
    counts.erase();
    counts.into_keys().zip(entries).filter_map(|(key, entry)| Some((key, entry?))).collect()
}

impl KeyBounds {
    fn checked(&self) -> Result<u64, MechanismError> {
        check_range("min_frequency", self.min_frequency, MAX_MIN_FREQUENCY)?;
        check_range("max_keys_per_person", self.max_keys_per_person, MAX_KEYS_PER_PERSON)?;
        Ok(self.max_keys_per_person)
    }
}

/// The smallest threshold whose δ over l0 keys is at most the one asked for, and that δ. `tail` is an upper bound of
/// P(noise ≥ x) that does not rise in x.
fn threshold(tail: &dyn Fn(u64) -> UBig, delta: AttoDelta, l0: u64) -> Result<(i64, AttoDelta), MechanismError> {
    check_range("delta, in units of 1e-18", delta.get(), ATTO)?;
    let target = one() * delta.get() / ATTO;
    let spent = |x: u64| at_least_one_above(&tail(x), l0);
    let mut high = 1;
    while spent(high) > target {
        high *= 2;
        check_range("threshold", high, MAX_THRESHOLD)?;
    }
    // spent(high) ≤ target, and spent(low) > target unless low is zero.
    let mut low = high / 2;
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if spent(middle) > target { low = middle } else { high = middle }
    }
    // P(1 + noise ≥ T) = P(noise ≥ T − 1), so T = high + 1.
    let threshold = i64::try_from(high + 1).unwrap_or(MAX_MAGNITUDE);
    Ok((threshold, delta_above(&spent(high)).unwrap_or(delta).min(delta)))
}

/// π(0), π(1), … until it is one.
fn keep_table(epsilon_num: &UBig, epsilon_den: &UBig, delta: &UBig) -> Result<Vec<UBig>, MechanismError> {
    let shrink = exp_neg(epsilon_num, epsilon_den).upper;
    let grow = (one() << BITS) / &shrink;
    let mut table = vec![UBig::ZERO];
    let mut last = UBig::ZERO;
    while last < one() {
        if table.len() >= MAX_TABLE {
            return Err(MechanismError::Unfit { reason: "epsilon per key is too small for the table of this rule" });
        }
        last = next_keep(&last, &grow, &shrink, delta);
        table.push(last.clone());
    }
    Ok(table)
}

/// π(n+1) from π(n), rounded down: `grow` ≤ e^ε and `shrink` ≥ e^−ε.
fn next_keep(keep: &UBig, grow: &UBig, shrink: &UBig, delta: &UBig) -> UBig {
    let rising = mul_below(grow, keep) + delta;
    let hidden = minus(&minus(&one(), keep), delta);
    let falling = if hidden.is_zero() { one() } else { minus(&one(), &mul_above(shrink, &hidden)) };
    // Neither half is below π(n): the factor is at least one, and δ is more than the unit that rounding takes.
    rising.min(falling).min(one())
}

/// A lower bound of Σ exp(−x²/2σ²) over the integers, in units of 2^−320.
///
/// By Poisson's summation formula it is √(2πσ²)·(1 + 2·Σ exp(−2π²σ²k²)), above √(2πσ²); and it is above its middle three
/// terms, which is better below σ² = 1/2.
fn gaussian_norm_below(variance: Variance) -> UBig {
    let square =
        ((UBig::from(PI_DIGITS) * 2u64 * variance.num()) << (2 * BITS)) / (UBig::from(PI_UNIT) * variance.den());
    let middle = one() + exp_neg(&UBig::from(variance.den()), &(UBig::from(variance.num()) * 2u64)).lower * 2u64;
    square.sqrt().max(middle)
}

/// An upper bound of P(noise ≥ x) for x ≥ 1, given a lower bound of the norm. Terms fall by factors that themselves
/// fall, exp(−(2x+1)/2σ²), so what is not added up is below a geometric series.
fn gaussian_tail_above(variance: Variance, norm: &UBig, x: u64) -> UBig {
    let (den, twice_num) = (UBig::from(variance.den()), UBig::from(variance.num()) * 2u64);
    let mut term = exp_neg(&(&den * x * x), &twice_num).upper;
    let mut factor = exp_neg(&(&den * (2 * u128::from(x) + 1)), &twice_num).upper;
    let factor_falls = exp_neg(&(&den * 2u64), &twice_num).upper;
    let mut sum = UBig::ZERO;
    for _ in 0..TAIL_TERMS {
        if term <= UBig::ONE {
            break;
        }
        sum += &term;
        term = mul_above(&term, &factor);
        factor = mul_above(&factor, &factor_falls);
    }
    // With a variance of at most 2^40 no factor rounds to one; were it one, the bound would be the whole.
    let gap = minus(&one(), &factor);
    if gap.is_zero() {
        return one();
    }
    sum += ceil_div(term << BITS, gap);
    ceil_div(sum << BITS, norm.clone()).min(one())
}

/// P(noise ≥ x) of discrete Laplace noise, for reports.
fn laplace_tail(scale: f64, x: f64) -> f64 {
    let a = (-1.0 / scale).exp();
    if x >= 1.0 { (-x / scale).exp() / (1.0 + a) } else { 1.0 - ((x - 1.0) / scale).exp() / (1.0 + a) }
}

/// P(noise ≥ x) of discrete Gaussian noise, for reports: summed where it is narrow, the normal tail at x − 1/2 where it
/// is wide (then the relative error is below 1e-3 for all that can be told from 0 and 1).
fn gaussian_tail(sigma2: f64, x: i64) -> f64 {
    if sigma2 > 4096.0 {
        return 0.5 * libm::erfc((x as f64 - 0.5) / (2.0 * sigma2).sqrt());
    }
    let reach = (40.0 * sigma2.sqrt()).ceil() as i64;
    let mass = |from: i64| (from.max(-reach)..=reach).map(|x| (-((x * x) as f64) / (2.0 * sigma2)).exp()).sum::<f64>();
    mass(x) / mass(-reach)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{gaussian_pmf, seeded};
    use proptest::prelude::*;

    const fn keys(max_keys_per_person: u64, min_frequency: u64) -> KeyBounds {
        KeyBounds { max_keys_per_person, min_frequency }
    }

    fn nats(epsilon: f64) -> NanoNats {
        NanoNats::new((epsilon * 1e9).round() as u64)
    }

    fn atto(delta: f64) -> AttoDelta {
        AttoDelta::new((delta * 1e18).round() as u64).unwrap()
    }

    /// Probabilities that another implementation reports for the same rule: Google's building blocks in C++.
    #[test]
    fn keep_probabilities_agree_with_another_implementation() {
        type Row<'a> = (f64, f64, u64, &'a [(u64, f64)]);
        let rows: [Row<'_>; 3] = [
            (
                1.0,
                1e-5,
                1,
                &[
                    (1, 1e-5),
                    (5, 0.000_857_910_248_837),
                    (10, 0.128_183_080_505_246),
                    (12, 0.760_310_996_922_627),
                    (15, 0.988_072_117_234_690),
                    (20, 0.999_925_411_120_903),
                ],
            ),
            (0.1, 1e-6, 1, &[(50, 0.001_401_653_249_775), (100, 0.209_425_440_015_311), (150, 0.991_973_547_857_915)]),
            (1.0, 1e-6, 10, &[(50, 0.000_140_165_388_052), (100, 0.020_942_553_425_682), (200, 0.999_459_428_065_203)]),
        ];
        for (epsilon, delta, l0, expected) in rows {
            let rule = KeySelection::truncated_geometric(nats(epsilon), atto(delta), keys(l0, 1)).unwrap();
            for (count, keep) in expected {
                let found = rule.keep_probability(*count);
                assert!((found / keep - 1.0).abs() < 1e-6, "ε {epsilon} δ {delta} l0 {l0} n {count}: {found} {keep}");
            }
        }
    }

    /// The same library's thresholds, which are real numbers: ours are the next integers up, or one more, for
    /// a discrete tail is the heavier one.
    #[test]
    fn thresholds_are_next_to_those_of_another_implementation() {
        for (epsilon, delta, l0, theirs) in [(1.0, 1e-5, 4, 49.824), (2.0, 1e-8, 1, 9.864)] {
            let rule = KeySelection::laplace(nats(epsilon), atto(delta), keys(l0, 1)).unwrap();
            let ours = rule.threshold().unwrap() as f64;
            assert!((0.0..2.0).contains(&(ours - theirs)), "ε {epsilon} δ {delta} l0 {l0}: {ours} {theirs}");
        }
    }

    /// δ is the exact probability that one of l0 lone keys is shown, and one less on the threshold would be too much.
    #[test]
    fn thresholds_are_the_smallest_that_keep_delta() {
        for (sigma2, delta, l0) in [(1u64, 1e-5, 1u64), (4, 1e-3, 1), (30, 1e-6, 5), (100, 1e-9, 100), (2000, 1e-4, 3)]
        {
            let rule = KeySelection::gaussian(Variance::new(sigma2).unwrap(), atto(delta), keys(l0, 1)).unwrap();
            let pmf = gaussian_pmf(sigma2 as f64);
            let r = (pmf.len() / 2) as i64;
            let shown = |threshold: i64| -> f64 {
                let one: f64 = (threshold - 1..=r).map(|x| pmf[(x + r) as usize]).sum();
                -(l0 as f64 * (-one).ln_1p()).exp_m1()
            };
            let threshold = rule.threshold().unwrap();
            let spent = rule.delta().as_probability();
            assert!((shown(threshold) / spent - 1.0).abs() < 1e-8, "σ² {sigma2}: {} {spent}", shown(threshold));
            assert!(spent <= delta && shown(threshold - 1) > delta, "σ² {sigma2} l0 {l0}");
        }
        for (epsilon, delta, l0) in [(1.0f64, 1e-5f64, 1u64), (0.1, 1e-3, 1), (3.0, 1e-8, 7)] {
            let rule = KeySelection::laplace(nats(epsilon), atto(delta), keys(l0, 1)).unwrap();
            let scale = l0 as f64 / epsilon;
            let shown = |threshold: i64| -(l0 as f64 * (-laplace_tail(scale, (threshold - 1) as f64)).ln_1p()).exp_m1();
            let threshold = rule.threshold().unwrap();
            let spent = rule.delta().as_probability();
            assert!((shown(threshold) / spent - 1.0).abs() < 1e-8, "ε {epsilon}: {} {spent}", shown(threshold));
            assert!(spent <= delta && shown(threshold - 1) > delta, "ε {epsilon} l0 {l0}");
        }
    }

    /// At the widest noise the tail is a bound, still within a tenth of the normal one.
    #[test]
    fn wide_gaussian_tails_are_above_the_truth_and_near_it() {
        for (num, z) in [(1u64 << 40, 4.0f64), (1 << 40, 6.0), (1 << 20, 5.0)] {
            let variance = Variance::new(num).unwrap();
            let x = (z * (num as f64).sqrt()) as u64;
            let bound = to_f64(&gaussian_tail_above(variance, &gaussian_norm_below(variance), x));
            let truth = gaussian_tail(num as f64, x as i64);
            assert!(bound >= truth * (1.0 - 1e-4) && bound <= truth * 1.1, "σ² {num} z {z}: {bound} {truth}");
        }
    }

    /// The two inequalities of the proof, in exact integers, for every entry of some tables.
    #[test]
    fn keep_tables_satisfy_the_inequalities_of_the_proof() {
        for (num, den, delta) in [(1u64, 1u64, 1e-5f64), (1, 10, 1e-6), (1, 100, 1e-9), (10, 1, 1e-3), (300, 1, 1e-3)] {
            let (num, den) = (UBig::from(num), UBig::from(den));
            let delta = one() * ((delta * 1e18) as u64) / ATTO;
            let e_neg = exp_neg(&num, &den).lower;
            let table = keep_table(&num, &den, &delta).unwrap();
            for pair in table.windows(2) {
                // π(n+1) − δ ≤ e^ε·π(n), multiplied by a lower bound of e^−ε; and 1 − π(n) − δ ≤ e^ε·(1 − π(n+1)).
                assert!((minus(&pair[1], &delta) * &e_neg) >> BITS <= pair[0]);
                assert!((minus(&(one() - &pair[0]), &delta) * &e_neg) >> BITS <= one() - &pair[1]);
                assert!(pair[0] <= pair[1]);
            }
            assert_eq!(table.last(), Some(&one()));
        }
    }

    #[test]
    fn impossible_parameters_are_refused() {
        let (e, d) = (nats(1.0), atto(1e-6));
        for bounds in [keys(0, 1), keys(1, 0), keys(MAX_KEYS_PER_PERSON + 1, 1), keys(1, MAX_MIN_FREQUENCY + 1)] {
            assert!(KeySelection::laplace(e, d, bounds).is_err());
            assert!(KeySelection::gaussian_with_rho(e, d, bounds).is_err());
            assert!(KeySelection::truncated_geometric(e, d, bounds).is_err());
        }
        for (epsilon, delta) in [(NanoNats::ZERO, d), (e, AttoDelta::ZERO), (NanoNats::UNBOUNDED, d)] {
            assert!(KeySelection::laplace(epsilon, delta, keys(1, 1)).is_err());
            assert!(KeySelection::truncated_geometric(epsilon, delta, keys(1, 1)).is_err());
        }
        assert!(KeySelection::gaussian_with_rho(NanoNats::ZERO, d, keys(1, 1)).is_err());
        // 5/4 of 801 nats.
        let none = KeySelection::gaussian_with_rho(nats(801.0), d, keys(1, 1));
        assert!(matches!(none, Err(MechanismError::TooLarge { .. })));
        assert!(KeySelection::gaussian_with_rho(e, AttoDelta::ZERO, keys(1, 1)).is_err());
        let slow = KeySelection::truncated_geometric(NanoNats::new(1000), d, keys(1, 1));
        assert!(matches!(slow, Err(MechanismError::Unfit { .. })));
    }

    /// Rare keys never, common keys always; the odds of failing are below 1e-12 either way.
    #[test]
    fn releases_follow_the_rule() {
        let (e, d) = (nats(1.0), atto(1e-6));
        let rules = [
            KeySelection::laplace(e, d, keys(1, 30)).unwrap(),
            KeySelection::gaussian_with_rho(nats(0.5), d, keys(1, 30)).unwrap(),
            KeySelection::truncated_geometric(e, d, keys(1, 30)).unwrap(),
        ];
        for (seed, rule) in (90u8..).zip(rules) {
            let counts: BTreeMap<u64, u64> = (0..30).map(|n| (n, n)).chain([(100, 100), (200, u64::MAX)]).collect();
            let shown = rule.release(Raw::new(counts), &mut seeded(seed));
            assert_eq!(shown.keys().copied().collect::<Vec<_>>(), [100, 200], "seed {seed}");
            let number = shown[&100];
            assert_eq!(number.is_some(), rule.threshold().is_some());
            assert!(number.is_none_or(|n| (n - 100).abs() < 40), "seed {seed}: {number:?}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

        #[test]
        fn more_persons_never_lower_the_odds(e in 1u64..30, d in 3i32..12, l0 in 1u64..20, k in 1u64..50) {
            let (epsilon, delta) = (nats(e as f64 / 10.0), atto(10f64.powi(-d)));
            for rule in [
                KeySelection::laplace(epsilon, delta, keys(l0, k)).unwrap(),
                KeySelection::gaussian_with_rho(epsilon, delta, keys(l0, k)).unwrap(),
                KeySelection::truncated_geometric(epsilon, delta, keys(l0, k)).unwrap(),
            ] {
                prop_assert!(rule.delta() <= delta);
                prop_assert_eq!(rule.keep_probability(k - 1), 0.0);
                let odds: Vec<f64> = (k..k + 200).map(|n| rule.keep_probability(n)).collect();
                prop_assert!(odds.windows(2).all(|pair| pair[0] <= pair[1] + 1e-15));
                prop_assert!(odds[0] <= delta.as_probability() * (1.0 + 1e-9));
            }
        }

        #[test]
        fn stricter_parameters_raise_the_threshold(e in 1u64..30, d in 3i32..12, l0 in 1u64..20) {
            let threshold = |e: u64, d: i32, l0: u64| {
                let (epsilon, delta) = (nats(e as f64 / 10.0), atto(10f64.powi(-d)));
                let laplace = KeySelection::laplace(epsilon, delta, keys(l0, 1)).unwrap();
                let gaussian = KeySelection::gaussian_with_rho(epsilon, delta, keys(l0, 1)).unwrap();
                [laplace.threshold().unwrap(), gaussian.threshold().unwrap()]
            };
            let base = threshold(e, d, l0);
            for stricter in [threshold(e, d + 1, l0), threshold(e, d, l0 + 1)] {
                prop_assert!(stricter[0] >= base[0] && stricter[1] >= base[1]);
            }
            let looser = threshold(e + 1, d, l0);
            prop_assert!(looser[0] <= base[0] && looser[1] <= base[1]);
        }
    }
}
