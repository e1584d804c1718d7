//! The pairs of distributions of the mechanisms we know.
//!
//! P is the output with the person, Q without (for REPLACE: with one person and with another). Poisson sampling with
//! probability q turns the pair (A, B) into ((1−q)·B + q·A, B); that the pair dominates every pair of neighbouring
//! data sets is proven for Gaussian and Laplace noise by Zhu, Dong, Wang 2022 (AISTATS), Theorem 11. Under
//! replacement the sampled Gaussian has the pair ((1−q)·N(0) + q·N(μ), (1−q)·N(0) + q·N(−μ)), where both persons may
//! pull in opposite directions; without sampling that is sensitivity doubled. Those are the conventions of Google's
//! dp-accounting, with whose version 0.6.0 the numbers are compared (`tests/interop/accounting.py`).
//!
//! What has no proof is refused by not existing: there is no `Pld::<Replace>::laplace`.

use super::pmf::{Cells, Family, normal_pair, normal_triple};
use super::{Grid, Pld, PldError, within};
use crate::accounting::special::{LN_SQRT_2PI, phi, phi_inverse};
use crate::accounting::{AddRemove, Adjacency, Replace};

/// Noise multipliers (σ/Δ, b/Δ) from here to its inverse are accepted.
const MIN_NOISE: f64 = 1e-6;
const MAX_NOISE: f64 = 1e12;
/// Most outcomes of a discrete mechanism.
const MAX_OUTCOMES: usize = 1 << 22;
/// Most components of a mixture.
const MAX_COMPONENTS: usize = 1000;

impl Pld<AddRemove> {
    /// Gaussian noise of standard deviation `noise_multiplier` times the L2 sensitivity, on a Poisson sample.
    ///
    /// Promise: given a release to which each person contributes with probability `q`, independently and secretly,
    /// returns upper bounds of its privacy-loss distribution; never less. Proven (module text).
    ///
    /// # Errors
    /// [`PldError::Argument`] unless 0 ≤ q ≤ 1 and the noise is positive; [`PldError::TooWide`].
    pub fn sampled_gaussian(grid: Grid, q: f64, noise_multiplier: f64) -> Result<Self, PldError> {
        within("q", q, 0.0, 1.0)?;
        within("noise_multiplier", noise_multiplier, MIN_NOISE, MAX_NOISE)?;
        if q == 0.0 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let family = Sampled { q, ln_q: q.ln(), mu: noise_multiplier.recip() };
        let low = phi_inverse(grid.tail);
        let high = upper_point(grid.tail, -low, family.mu - low, |z| (1.0 - q) * phi(-z) + q * phi(family.mu - z));
        let p_below = |z: f64| (1.0 - q) * phi(z) + q * phi(z - family.mu);
        let cells =
            normal_cells(grid, &family, low, high, [p_below(low), phi(low), p_above(&family, high), phi(-high)])?;
        Ok(if q < 1.0 { Self::two_sided(grid, &cells) } else { Self::symmetric(grid, &cells) })
    }

    /// Laplace noise of scale `noise_multiplier` times the L1 sensitivity, on a Poisson sample.
    ///
    /// Promise: as [`Pld::sampled_gaussian`].
    ///
    /// # Errors
    /// As [`Pld::sampled_gaussian`].
    pub fn sampled_laplace(grid: Grid, q: f64, noise_multiplier: f64) -> Result<Self, PldError> {
        within("q", q, 0.0, 1.0)?;
        within("noise_multiplier", noise_multiplier, MIN_NOISE, MAX_NOISE)?;
        if q == 0.0 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let family = SampledLaplace { q, ln_q: q.ln(), widest: noise_multiplier.recip() };
        let w = family.widest;
        let mut cells = Cells::new(grid, family.loss(-w), family.loss(w))?;
        // Both ends of the unsampled loss are atoms: outcomes on one side of both centres.
        let ends = [(-w, 0.5 * (-w).exp(), 0.5), (w, 0.5, 0.5 * (-w).exp())];
        for (base, a, b) in ends {
            cells.add_atom(family.loss(base), (1.0 - q).mul_add(b, q * a), b);
        }
        cells.add_family(&family, -w, w);
        Ok(if q < 1.0 { Self::two_sided(grid, &cells) } else { Self::symmetric(grid, &cells) })
    }

    /// Noise on the integers with P(x) ∝ e^(−parameter·|x|), for a sum of this integer sensitivity.
    ///
    /// Promise: as [`Pld::from_pmfs`].
    ///
    /// # Errors
    /// [`PldError::Argument`], [`PldError::TooWide`].
    pub fn discrete_laplace(grid: Grid, parameter: f64, sensitivity: u32) -> Result<Self, PldError> {
        within("parameter", parameter, 1e-9, 1e6)?;
        within("sensitivity", f64::from(sensitivity), 1.0, MAX_OUTCOMES as f64)?;
        let (a, last) = (parameter, f64::from(sensitivity));
        let widest = a * last;
        let mut cells = Cells::new(grid, -widest, widest)?;
        // Outcomes outside of both centres, then each between them; 1/(1 + e^−a) is the mass at or beyond a centre.
        let outside = (1.0 + (-a).exp()).recip();
        cells.add_atom(widest, outside, outside * (-widest).exp());
        cells.add_atom(-widest, outside * (-widest).exp(), outside);
        let peak = -(-a).exp_m1() * outside;
        for step in 1..sensitivity {
            let y = f64::from(step);
            cells.add_atom(a * (last - 2.0 * y), peak * (-a * y).exp(), peak * (-a * (last - y)).exp());
        }
        Ok(Self::symmetric(grid, &cells))
    }

    /// Noise on the integers with P(x) ∝ e^(−x²/2σ²), on a Poisson sample, for a sum of this integer sensitivity.
    ///
    /// Promise: as [`Pld::from_pmfs`]; sampling argued as in the module text.
    ///
    /// # Errors
    /// [`PldError::Argument`], [`PldError::TooWide`].
    pub fn discrete_gaussian(grid: Grid, sigma: f64, sensitivity: u32, q: f64) -> Result<Self, PldError> {
        within("sigma", sigma, 1e-3, 1e5)?;
        within("sensitivity", f64::from(sensitivity), 1.0, 1e6)?;
        within("sampling_prob", q, 0.0, 1.0)?;
        if q == 0.0 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let shift = f64::from(sensitivity);
        // Beyond r the mass is at most 2·e^(−r²/2σ²) (Canonne, Kamath, Steinke 2020, Proposition 25 and symmetry).
        let reach = (sigma * (2.0 * (2.0 / grid.tail).ln()).sqrt()).ceil() + 1.0;
        let ln_weight = |x: f64| -0.5 * (x / sigma) * (x / sigma);
        let total = (1..=reach as u32).rev().map(|x| 2.0 * ln_weight(f64::from(x)).exp()).sum::<f64>() + 1.0;
        let base = |x: f64| ln_weight(x - shift) - ln_weight(x);
        let ln_total = total.ln();
        let mut cells = Cells::new(grid, mixed_loss(q, base(-reach)), mixed_loss(q, base(reach + shift)))?;
        for step in 0..=(2.0 * reach + shift) as u32 {
            let x = f64::from(step) - reach;
            let loss = mixed_loss(q, base(x));
            let ln_b = ln_weight(x) - ln_total;
            cells.add_atom(loss, (ln_b + loss).exp(), ln_b.exp());
        }
        cells.add_infinite(grid.tail, grid.tail);
        Ok(if q < 1.0 { Self::two_sided(grid, &cells) } else { Self::symmetric(grid, &cells) })
    }

    /// Gaussian noise of standard deviation `sigma` on a sum to which the person contributes `sensitivities[i]` with
    /// probability `probabilities[i]` (Choquette-Choo, Ganesh, Steinke, Thakurta 2023, "mixture of Gaussians").
    ///
    /// Promise: as [`Pld::sampled_gaussian`].
    ///
    /// # Errors
    /// [`PldError::Argument`], [`PldError::Probabilities`], [`PldError::TooWide`].
    pub fn mixture_gaussian(
        grid: Grid,
        sigma: f64,
        sensitivities: &[f64],
        probabilities: &[f64],
    ) -> Result<Self, PldError> {
        within("sigma", sigma, MIN_NOISE, MAX_NOISE)?;
        check_probabilities("probs", probabilities, MAX_COMPONENTS, 1e-9)?;
        if sensitivities.len() != probabilities.len() {
            return Err(PldError::Probabilities { field: "sensitivities and probs", most: MAX_COMPONENTS });
        }
        for sensitivity in sensitivities {
            within("sensitivities", sensitivity / sigma, 0.0, MIN_NOISE.recip())?;
        }
        let total: f64 = probabilities.iter().sum();
        let parts = probabilities.iter().zip(sensitivities).filter(|(p, _)| **p > 0.0);
        let family = Mixture { parts: parts.map(|(p, s)| ((p / total).ln(), s / sigma)).collect() };
        let largest = family.parts.iter().fold(0.0, |top: f64, (_, mu)| top.max(*mu));
        if largest == 0.0 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let low = phi_inverse(grid.tail);
        let mixed = |at: &dyn Fn(f64) -> f64| family.parts.iter().map(|(ln_p, mu)| ln_p.exp() * at(*mu)).sum::<f64>();
        let high = upper_point(grid.tail, -low, largest - low, |z| mixed(&|mu| phi(mu - z)));
        let tails = [mixed(&|mu| phi(low - mu)), phi(low), mixed(&|mu| phi(mu - high)), phi(-high)];
        Ok(Self::two_sided(grid, &normal_cells(grid, &family, low, high, tails)?))
    }
}

impl Pld<AddRemove> {
    /// Randomised response as in [`Pld::<Replace>::randomized_response`], for a person who answers or for whom a uniform
    /// answer is given.
    ///
    /// Promise: as [`Pld::from_pmfs`]. Whether somebody answers at all is not hidden: all persons must be known.
    ///
    /// # Errors
    /// [`PldError::Argument`], [`PldError::TooWide`].
    pub fn randomized_response(grid: Grid, noise_parameter: f64, buckets: u32) -> Result<Self, PldError> {
        let (truth, other) = response(noise_parameter, buckets)?;
        // Nothing to answer, nothing to tell.
        if buckets == 1 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let (rest, uniform) = (f64::from(buckets) - 1.0, f64::from(buckets).recip());
        let (low, high) = (noise_parameter.ln(), (truth / uniform).ln());
        let mut cells = Cells::new(grid, low, high)?;
        cells.add_atom(high, truth, uniform);
        cells.add_atom(low, rest * other, rest * uniform);
        Ok(Self::two_sided(grid, &cells))
    }
}

impl Pld<Replace> {
    /// Gaussian noise of standard deviation `noise_multiplier` times the L2 sensitivity, the largest influence of
    /// *one* person being there, on a Poisson sample. Without sampling the sensitivity counts twice.
    ///
    /// Promise: as for add or remove, for neighbours in which one person is another.
    ///
    /// # Errors
    /// [`PldError::Argument`] unless 0 ≤ q ≤ 1 and the noise is positive; [`PldError::TooWide`].
    pub fn sampled_gaussian(grid: Grid, q: f64, noise_multiplier: f64) -> Result<Self, PldError> {
        within("q", q, 0.0, 1.0)?;
        within("noise_multiplier", noise_multiplier, MIN_NOISE, MAX_NOISE)?;
        if q == 0.0 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let family = SampledReplace { q, mu: noise_multiplier.recip() };
        let reach = -phi_inverse(grid.tail);
        let p_above = |z: f64| (1.0 - q) * phi(-z) + q * phi(family.mu - z);
        let high = upper_point(grid.tail, reach, family.mu + reach, p_above);
        let q_above = (1.0 - q) * phi(-high) + q * phi(-family.mu - high);
        let tails = [q_above, p_above(high), p_above(high), q_above];
        Ok(Self::symmetric(grid, &normal_cells(grid, &family, -high, high, tails)?))
    }

    /// Randomised response over `buckets` answers: the truth with probability 1 − `noise_parameter`, else one of all
    /// answers uniformly.
    ///
    /// Promise: as [`Pld::from_pmfs`].
    ///
    /// # Errors
    /// [`PldError::Argument`], [`PldError::TooWide`].
    pub fn randomized_response(grid: Grid, noise_parameter: f64, buckets: u32) -> Result<Self, PldError> {
        let (truth, other) = response(noise_parameter, buckets)?;
        // Nothing to answer, nothing to tell.
        if buckets == 1 {
            return Self::epsilon_delta(grid, 0.0, 0.0);
        }
        let rest = (f64::from(buckets) - 2.0) * other;
        let widest = (truth / other).ln();
        let mut cells = Cells::new(grid, -widest, widest)?;
        for (loss, p, q) in [(widest, truth, other), (-widest, other, truth), (0.0, rest, rest)] {
            cells.add_atom(loss, p, q);
        }
        Ok(Self::symmetric(grid, &cells))
    }
}

impl<A: Adjacency> Pld<A> {
    /// Any mechanism that is known to be (ε, δ)-private and nothing else: the dominating pair of Kairouz, Oh,
    /// Viswanath 2015, Theorem 3.4.
    ///
    /// Promise: given such a mechanism, for the relation A, returns an upper bound; never less. Proven there.
    ///
    /// # Errors
    /// [`PldError::Argument`], [`PldError::TooWide`].
    pub fn epsilon_delta(grid: Grid, epsilon: f64, delta: f64) -> Result<Self, PldError> {
        within("epsilon", epsilon, 0.0, 1e6)?;
        within("delta", delta, 0.0, 1.0)?;
        let mut cells = Cells::new(grid, -epsilon, epsilon)?;
        let small = (1.0 - delta) * (-epsilon).exp() / (1.0 + (-epsilon).exp());
        let large = (1.0 - delta) / (1.0 + (-epsilon).exp());
        cells.add_atom(epsilon, large, small);
        cells.add_atom(-epsilon, small, large);
        cells.add_infinite(delta, delta);
        Ok(Self::symmetric(grid, &cells))
    }

    /// Any pair of finite distributions: `p[i]` and `q[i]` are the masses of outcome i with the one and the other
    /// data set.
    ///
    /// Promise: given masses that dominate every neighbouring pair under relation A, returns upper bounds of both
    /// directions of the loss distribution; never less. What is missing to 1 in a sum counts as infinite loss.
    /// Proven (Connect-the-Dots).
    ///
    /// # Errors
    /// [`PldError::Probabilities`] if masses are negative, sum to more than 1 + 1e-9 or to less than ½, or lengths
    /// differ; [`PldError::TooWide`].
    pub fn from_pmfs(grid: Grid, p: &[f64], q: &[f64]) -> Result<Self, PldError> {
        check_probabilities("p", p, MAX_OUTCOMES, 0.5)?;
        check_probabilities("q", q, MAX_OUTCOMES, 0.5)?;
        if p.len() != q.len() {
            return Err(PldError::Probabilities { field: "p and q", most: MAX_OUTCOMES });
        }
        let losses = || p.iter().zip(q).filter(|(p, q)| **p > 0.0 && **q > 0.0).map(|(p, q)| p.ln() - q.ln());
        let lowest = losses().fold(0.0, f64::min);
        let highest = losses().fold(0.0, f64::max);
        let mut cells = Cells::new(grid, lowest, highest)?;
        for (p, q) in p.iter().zip(q) {
            cells.add_atom(p.ln() - q.ln(), *p, *q);
        }
        cells.add_infinite(1.0 - p.iter().sum::<f64>(), 1.0 - q.iter().sum::<f64>());
        Ok(Self::two_sided(grid, &cells))
    }

    /// Integer noise with masses `noise[i]` at i + any constant, for a sum of this integer sensitivity: the pair is
    /// the noise and the noise shifted. For sums of several nodes' noises, Skellam noise, and the like.
    ///
    /// Promise: as [`Pld::from_pmfs`], for noise whose shift by the full sensitivity is the worst shift.
    ///
    /// # Errors
    /// As [`Pld::from_pmfs`].
    pub fn integer_noise(grid: Grid, noise: &[f64], sensitivity: u32) -> Result<Self, PldError> {
        within("sensitivity", f64::from(sensitivity), 1.0, MAX_OUTCOMES as f64)?;
        let zeros = vec![0.0; sensitivity as usize];
        let shifted: Vec<f64> = zeros.iter().chain(noise).copied().collect();
        let still: Vec<f64> = noise.iter().chain(&zeros).copied().collect();
        Self::from_pmfs(grid, &shifted, &still)
    }
}

/// Masses of the true and of one other answer.
fn response(noise_parameter: f64, buckets: u32) -> Result<(f64, f64), PldError> {
    within("noise_parameter", noise_parameter, 1e-300, 1.0)?;
    within("num_buckets", f64::from(buckets), 1.0, f64::from(u32::MAX))?;
    let other = noise_parameter / f64::from(buckets);
    Ok((1.0 - noise_parameter + other, other))
}

fn check_probabilities(field: &'static str, masses: &[f64], most: usize, missing: f64) -> Result<(), PldError> {
    let sum: f64 = masses.iter().sum();
    let fine = masses.len() <= most && masses.iter().all(|m| *m >= 0.0) && sum <= 1.0 + 1e-9 && sum >= 1.0 - missing;
    if fine { Ok(()) } else { Err(PldError::Probabilities { field, most }) }
}

/// A family over a standard normal axis, with what lies below `low` and above `high`: P and Q below, P and Q above.
fn normal_cells<F: Family>(grid: Grid, family: &F, low: f64, high: f64, tails: [f64; 4]) -> Result<Cells, PldError> {
    let (lowest, highest) = (family.loss(low), family.loss(high));
    let mut cells = Cells::new(grid, lowest, highest)?;
    cells.add_family(family, low, high);
    let [p_below, q_below, p_above, q_above] = tails;
    // Below, the loss of P is rounded up to the lowest and that of Q to infinity; above the other way round.
    cells.add_pinned(lowest, p_below, 0.0);
    cells.add_pinned(highest, 0.0, q_above);
    cells.add_infinite(p_above, q_below);
    Ok(cells)
}

fn p_above(family: &Sampled, z: f64) -> f64 {
    (1.0 - family.q) * phi(-z) + family.q * phi(family.mu - z)
}

/// A point between `low` and `high` above which `mass` falls to `tail`, from above; `high` if it does not.
fn upper_point(tail: f64, low: f64, high: f64, mass: impl Fn(f64) -> f64) -> f64 {
    let (mut bad, mut good) = (low.min(high), high);
    for _ in 0..40 {
        let middle = 0.5 * (bad + good);
        if mass(middle) <= tail { good = middle } else { bad = middle }
    }
    good
}

/// ln(1 − q + q·e^base) without overflow.
fn mixed_loss(q: f64, base: f64) -> f64 {
    if q >= 1.0 {
        base
    } else if base > 0.0 {
        base + (1.0 - q).mul_add((-base).exp(), q).ln()
    } else {
        (q * base.exp_m1()).ln_1p()
    }
}

/// The inverse of [`mixed_loss`]: infinite outside of its range. `ratio` is e^loss.
fn unmixed_loss(q: f64, ln_q: f64, loss: f64, ratio: f64) -> f64 {
    if q >= 1.0 {
        return loss;
    }
    // 1 − (1 − q)·e^−loss, the share of the sampled part in P.
    let plain = 1.0 - (1.0 - q) / ratio;
    let share = if plain > 0.01 { plain } else { -((-q).ln_1p() - loss).exp_m1() };
    if share > 0.0 { loss + share.ln() - ln_q } else { f64::NEG_INFINITY }
}

/// Q = N(0, 1), P = (1 − q)·N(0, 1) + q·N(μ, 1).
struct Sampled {
    q: f64,
    /// ln q, which every cell asks for.
    ln_q: f64,
    mu: f64,
}

impl Family for Sampled {
    fn loss(&self, z: f64) -> f64 {
        mixed_loss(self.q, self.mu * (z - 0.5 * self.mu))
    }
    fn ln_q(&self, z: f64) -> f64 {
        -0.5 * z * z - LN_SQRT_2PI
    }
    fn inverse(&self, loss: f64, ratio: f64, _: f64) -> f64 {
        unmixed_loss(self.q, self.ln_q, loss, ratio) / self.mu + 0.5 * self.mu
    }
    fn steepness(&self, z: f64) -> f64 {
        z.abs() + self.mu + 2.0
    }
    fn slope(&self, _: f64, ratio: f64) -> f64 {
        self.mu * (1.0 - (1.0 - self.q) / ratio)
    }
    fn q_triple(&self, middle: f64, step: f64) -> [f64; 3] {
        normal_triple(middle, step)
    }
    fn rate(&self) -> Option<f64> {
        Some(self.mu)
    }
}

/// Q = N(0, 1), P = Σ e^(ln p)·N(μ, 1) over (ln p, μ), every μ ≥ 0: the loss is convex and rising in z.
struct Mixture {
    parts: Vec<(f64, f64)>,
}

impl Mixture {
    /// The loss and its derivative.
    fn both(&self, z: f64) -> (f64, f64) {
        let exponent = |(ln_p, mu): &(f64, f64)| ln_p + mu * (z - 0.5 * mu);
        let top = self.parts.iter().map(exponent).fold(f64::NEG_INFINITY, f64::max);
        let (sum, slope) = self.parts.iter().fold((0.0, 0.0), |(sum, slope), part| {
            let weight = (exponent(part) - top).exp();
            (sum + weight, slope + weight * part.1)
        });
        (top + sum.ln(), slope / sum)
    }
}

impl Family for Mixture {
    fn loss(&self, z: f64) -> f64 {
        self.both(z).0
    }
    fn ln_q(&self, z: f64) -> f64 {
        -0.5 * z * z - LN_SQRT_2PI
    }
    fn inverse(&self, loss: f64, _: f64, near: f64) -> f64 {
        // Newton on a convex rising function: the first step lands above the root, then they descend to it.
        let mut z = near;
        for _ in 0..100 {
            let (value, slope) = self.both(z);
            if slope <= 0.0 {
                return f64::INFINITY;
            }
            // A nearly flat start would leap to where everything overflows.
            let step = ((loss - value) / slope).min(8.0);
            z += step;
            if step.abs() <= 1e-13 * (1.0 + z.abs()) {
                break;
            }
        }
        z
    }
    fn steepness(&self, z: f64) -> f64 {
        z.abs() + self.parts.iter().fold(0.0, |top: f64, (_, mu)| top.max(*mu)) + 2.0
    }
    fn slope(&self, z: f64, _: f64) -> f64 {
        self.both(z).1
    }
    fn q_pair(&self, middle: f64, step: f64) -> [f64; 2] {
        normal_pair(middle, step)
    }
}

/// Q = (1 − q)·N(0, 1) + q·N(−μ, 1), P the same with +μ. With q = 1 the pair of means ±μ.
struct SampledReplace {
    q: f64,
    mu: f64,
}

impl Family for SampledReplace {
    fn loss(&self, z: f64) -> f64 {
        let against = |z: f64| mixed_loss(self.q, self.mu * (z - 0.5 * self.mu));
        against(z) - against(-z)
    }
    fn ln_q(&self, z: f64) -> f64 {
        mixed_loss(self.q, self.mu * (-z - 0.5 * self.mu)) - 0.5 * z * z - LN_SQRT_2PI
    }
    /// With u = e^(μz) and c = e^(μ²/2)·(1−q)/q the loss is ln((c + u)/(c + 1/u)), so that
    /// u = e^(loss/2)·(s + √(s² + 1)) with s = c·sinh(loss/2).
    fn inverse(&self, loss: f64, _: f64, _: f64) -> f64 {
        let half = 0.5 * loss;
        let magnitude = half.abs();
        let ln_c = 0.5 * self.mu * self.mu + (-self.q).ln_1p() - self.q.ln();
        let ln_s = ln_c + magnitude - core::f64::consts::LN_2 + (-(-2.0 * magnitude).exp_m1()).ln();
        let arsinh = if ln_s > 20.0 { ln_s + core::f64::consts::LN_2 } else { ln_s.exp().asinh() };
        (half + arsinh.copysign(loss)) / self.mu
    }
    fn steepness(&self, z: f64) -> f64 {
        z.abs() + 2.0 * self.mu + 2.0
    }
    fn slope(&self, z: f64, _: f64) -> f64 {
        let share = |z: f64| 1.0 - (1.0 - self.q) * (-mixed_loss(self.q, self.mu * (z - 0.5 * self.mu))).exp();
        self.mu * (share(z) + share(-z))
    }
}

/// The continuous part of sampled Laplace noise; t is the loss without sampling, between ∓1/b.
struct SampledLaplace {
    q: f64,
    /// ln q.
    ln_q: f64,
    widest: f64,
}

impl Family for SampledLaplace {
    fn loss(&self, t: f64) -> f64 {
        mixed_loss(self.q, t)
    }
    /// An outcome between the centres at distance y from one has density e^(−y/b)/2b and loss 1/b − 2y/b.
    fn ln_q(&self, t: f64) -> f64 {
        -0.5 * (self.widest + t) - 2.0 * core::f64::consts::LN_2
    }
    fn inverse(&self, loss: f64, ratio: f64, _: f64) -> f64 {
        unmixed_loss(self.q, self.ln_q, loss, ratio)
    }
    fn steepness(&self, _: f64) -> f64 {
        2.0
    }
    fn slope(&self, _: f64, ratio: f64) -> f64 {
        1.0 - (1.0 - self.q) / ratio
    }
    fn rate(&self) -> Option<f64> {
        Some(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::pld::pmf::Pmf;

    const EPSILONS: [f64; 9] = [0.0, 0.01, 0.1, 0.5, 1.0, 2.0, 4.0, 8.0, 20.0];

    /// Whether masses give an upper bound of an exact δ, and one that is tight to the grid.
    fn is_tight_upper_bound(pmf: &Pmf, interval: f64, exact: impl Fn(f64) -> f64) -> Result<(), String> {
        for epsilon in EPSILONS {
            let (ours, exact) = (pmf.delta(interval, epsilon), exact(epsilon));
            if ours < exact * (1.0 - 1e-11) - 1e-18 || ours > exact + interval * interval + 1e-4 * exact {
                return Err(format!("at {epsilon}: {ours:e}, exactly {exact:e}"));
            }
        }
        Ok(())
    }

    /// δ of a pair of normal mixtures whose loss rises: P(z > c) − e^ε·Q(z > c) at the cut c, found by bisection.
    fn exact_delta(family: &impl Family, p: &[(f64, f64)], q: &[(f64, f64)], epsilon: f64) -> f64 {
        let (mut low, mut high) = (-60.0, 60.0);
        for _ in 0..200 {
            let middle = 0.5 * (low + high);
            if family.loss(middle) > epsilon { high = middle } else { low = middle }
        }
        let above = |parts: &[(f64, f64)]| parts.iter().map(|(w, mu)| w * phi(mu - high)).sum::<f64>();
        (above(p) - epsilon.exp() * above(q)).max(0.0)
    }

    /// A family as the general quadrature sees it, in pieces that are forty times finer.
    struct Careful<'a, F>(&'a F);

    impl<F: Family> Family for Careful<'_, F> {
        fn loss(&self, t: f64) -> f64 {
            self.0.loss(t)
        }
        fn ln_q(&self, t: f64) -> f64 {
            self.0.ln_q(t)
        }
        fn inverse(&self, loss: f64, ratio: f64, near: f64) -> f64 {
            self.0.inverse(loss, ratio, near)
        }
        fn steepness(&self, t: f64) -> f64 {
            40.0 * self.0.steepness(t)
        }
        fn slope(&self, t: f64, ratio: f64) -> f64 {
            self.0.slope(t, ratio)
        }
    }

    /// How far masses are from the careful ones, relative to those around.
    fn gap_to_careful(family: &impl Family, grid: Grid, low: f64, high: f64) -> f64 {
        let empty = || Cells::new(grid, family.loss(low), family.loss(high)).unwrap();
        let (mut fast, mut careful) = (empty(), empty());
        fast.add_family(family, low, high);
        careful.add_family(&Careful(family), low, high);
        let gap = |fast: &Pmf, careful: &Pmf| {
            assert_eq!((fast.first, fast.mass.len()), (careful.first, careful.mass.len()));
            let around = careful.mass.windows(3).map(|cells| cells.iter().copied().fold(0.0, f64::max));
            let gaps = fast.mass.iter().zip(&careful.mass).skip(1).map(|(a, b)| (a - b).abs());
            gaps.zip(around).map(|(gap, around)| gap / around).fold(0.0, f64::max)
        };
        gap(&fast.forward(), &careful.forward()).max(gap(&fast.reverse(), &careful.reverse()))
    }

    #[test]
    fn masses_by_exponentials_are_those_of_the_general_quadrature() {
        for interval in [1e-4, 1e-3] {
            let grid = Grid::new(interval).unwrap();
            // e^loss drifts by an ulp per cell for 64 cells, so that the edge of a cell is off by this share of it.
            let allowed = 64.0 * f64::EPSILON / interval;
            for (q, noise) in [(0.01_f64, 1.0_f64), (0.3, 4.0), (1.0, 0.7), (1e-3, 0.5), (0.9, 30.0)] {
                let (ln_q, mu) = (q.ln(), noise.recip());
                let gap = gap_to_careful(&Sampled { q, ln_q, mu }, grid, -8.0, 8.0 + mu);
                assert!(gap < allowed, "Gaussian {q} {noise} {interval}: {gap:e}");
                let gap = gap_to_careful(&SampledLaplace { q, ln_q, widest: mu }, grid, -mu, mu);
                assert!(gap < allowed, "Laplace {q} {noise} {interval}: {gap:e}");
            }
        }
    }

    #[test]
    fn normal_noise_is_bounded_tightly_in_both_directions() {
        for interval in [1e-4, 1e-3, 1e-2] {
            let grid = Grid::new(interval).unwrap();
            for (q, sigma) in [(1.0, 1.0), (1.0, 30.0), (0.01, 1.0), (0.5, 0.5), (0.9999, 3.0), (1e-5, 0.4), (0.2, 0.3)]
            {
                let mu = 1.0 / sigma;
                let (with, without) = ([(1.0 - q, 0.0), (q, mu)], [(1.0, 0.0)]);
                let family = Sampled { q, ln_q: q.ln(), mu };
                let pld = Pld::<AddRemove>::sampled_gaussian(grid, q, sigma).unwrap();
                let exact = |epsilon| exact_delta(&family, &with, &without, epsilon);
                is_tight_upper_bound(&pld.forward, interval, exact).unwrap_or_else(|e| panic!("{q} {sigma}: {e}"));
                // δ of (Q, P) at ε is 1 − e^ε + e^ε·δ of (P, Q) at −ε; the difference of masses below the cut.
                let reverse = |epsilon: f64| {
                    let cut = family.inverse(-epsilon, (-epsilon).exp(), 0.0).max(-60.0);
                    (phi(cut) - epsilon.exp() * ((1.0 - q) * phi(cut) + q * phi(cut - mu))).max(0.0)
                };
                let pmf = pld.reverse.as_ref().unwrap_or(&pld.forward);
                is_tight_upper_bound(pmf, interval, reverse).unwrap_or_else(|e| panic!("{q} {sigma} reverse: {e}"));

                let family = SampledReplace { q, mu };
                let other = [(1.0 - q, 0.0), (q, -mu)];
                let pld = Pld::<Replace>::sampled_gaussian(grid, q, sigma).unwrap();
                let exact = |epsilon| exact_delta(&family, &with, &other, epsilon);
                is_tight_upper_bound(&pld.forward, interval, exact)
                    .unwrap_or_else(|e| panic!("{q} {sigma} replace: {e}"));
            }
            let parts = [(0.2, 0.0), (0.5, 0.4), (0.3, 1.5)];
            let family = Mixture { parts: parts.iter().map(|(p, mu): &(f64, f64)| (p.ln(), *mu)).collect() };
            let pld = Pld::mixture_gaussian(grid, 2.0, &[0.0, 0.8, 3.0], &[0.2, 0.5, 0.3]).unwrap();
            let exact = |epsilon| exact_delta(&family, &parts, &[(1.0, 0.0)], epsilon);
            is_tight_upper_bound(&pld.forward, interval, exact).unwrap_or_else(|e| panic!("mixture: {e}"));
        }
    }

    #[test]
    fn laplace_is_bounded_tightly() {
        let grid = Grid::new(1e-4).unwrap();
        for b in [0.3, 1.0, 7.3, 100.0] {
            let pld = Pld::sampled_laplace(grid, 1.0, b).unwrap();
            // Balle, Barthe, Gaboardi 2018, Theorem 3: δ = 1 − e^((ε − 1/b)/2) below 1/b.
            let exact = |epsilon: f64| -(0.5 * (epsilon - 1.0 / b)).min(0.0).exp_m1();
            is_tight_upper_bound(&pld.forward, 1e-4, exact).unwrap_or_else(|e| panic!("{b}: {e}"));
            for q in [0.01_f64, 0.4] {
                let sampled = Pld::sampled_laplace(grid, q, b).unwrap();
                // Sampling amplifies: δ(ln(1 + q(e^ε − 1))) = q·δ0(ε), exactly in the direction of removal.
                let amplified = |epsilon: f64| q * exact((epsilon.exp_m1() / q).ln_1p());
                is_tight_upper_bound(&sampled.forward, 1e-4, amplified).unwrap_or_else(|e| panic!("{b} {q}: {e}"));
            }
        }
    }

    /// The bench above has to notice losses that are rounded down, and masses that are lost.
    #[test]
    fn optimistic_masses_are_noticed() {
        let grid = Grid::new(1e-3).unwrap();
        let exact = |epsilon| crate::accounting::gaussian::delta(epsilon, 1.0) * (1.0 - 1e-12);
        let pld = Pld::<AddRemove>::sampled_gaussian(grid, 1.0, 1.0).unwrap();
        let honest = pld.forward.as_ref().clone();
        assert_eq!(is_tight_upper_bound(&honest, 1e-3, exact), Ok(()));
        let mut rounded_down = honest.clone();
        rounded_down.first -= 1;
        let mut cut = honest.clone();
        cut.mass.truncate(cut.mass.len() * 3 / 4);
        let mut thinner = honest.clone();
        thinner.mass.iter_mut().for_each(|m| *m *= 1.0 - 1e-9);
        let mut rounded_up = honest;
        rounded_up.first += 1;
        for (name, wrong) in [("down", rounded_down), ("cut", cut), ("thinner", thinner), ("up", rounded_up)] {
            assert!(is_tight_upper_bound(&wrong, 1e-3, exact).is_err(), "{name}");
        }
    }

    /// δ of integer noise against its shift, by enumeration.
    fn enumerated(noise: &[f64], shift: usize, epsilon: f64) -> f64 {
        let zeros = vec![0.0; shift];
        let shifted = zeros.iter().chain(noise);
        let still = noise.iter().chain(&zeros);
        shifted.zip(still).map(|(p, q)| (p - epsilon.exp() * q).max(0.0)).sum()
    }

    fn discrete_gaussian_masses(sigma: f64, reach: i32) -> Vec<f64> {
        let weights: Vec<f64> = (-reach..=reach).map(|x| (-0.5 * (f64::from(x) / sigma).powi(2)).exp()).collect();
        let total: f64 = weights.iter().sum();
        weights.iter().map(|w| w / total).collect()
    }

    fn convolved(a: &[f64], b: &[f64]) -> Vec<f64> {
        let mut sum = vec![0.0; a.len() + b.len() - 1];
        for (i, x) in a.iter().enumerate() {
            for (j, y) in b.iter().enumerate() {
                sum[i + j] += x * y;
            }
        }
        sum
    }

    #[test]
    fn integer_noise_agrees_with_enumeration() {
        let grid = Grid::new(1e-4).unwrap();
        let sum_of_three = {
            let one = discrete_gaussian_masses(1.1547, 15);
            convolved(&convolved(&one, &one), &one)
        };
        let cases = [
            ("discrete Gaussian", Pld::discrete_gaussian(grid, 3.0, 2, 1.0), discrete_gaussian_masses(3.0, 45), 2),
            ("narrow", Pld::discrete_gaussian(grid, 0.5, 1, 1.0), discrete_gaussian_masses(0.5, 8), 1),
            ("sum of three", Pld::integer_noise(grid, &sum_of_three, 1), sum_of_three.clone(), 1),
            (
                "discrete Laplace",
                Pld::discrete_laplace(grid, 0.4, 3),
                {
                    let weight = |x: i32| (-0.4 * f64::from(x.abs())).exp() * 0.2_f64.tanh();
                    (-150..=150).map(weight).collect()
                },
                3,
            ),
        ];
        for (name, pld, masses, shift) in cases {
            let exact = |epsilon| enumerated(&masses, shift, epsilon) - 1e-15;
            is_tight_upper_bound(&pld.unwrap().forward, 1e-4, exact).unwrap_or_else(|e| panic!("{name}: {e}"));
        }
        // Three nodes of σ = 1.1547 make σ = 2: at δ = 1e-6 that is 2.275793362834029 (numpy convolution).
        let epsilon = Pld::<AddRemove>::integer_noise(grid, &sum_of_three, 1).unwrap().epsilon(1e-6).unwrap();
        assert!((0.0..2e-6).contains(&(epsilon - 2.275_793_362_834_029)), "{epsilon}");
    }

    #[test]
    fn nonsense_is_refused() {
        let grid = Grid::new(1e-4).unwrap();
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.0, -1.0] {
            assert!(Pld::<AddRemove>::sampled_gaussian(grid, 0.1, bad).is_err());
            assert!(Pld::<Replace>::sampled_gaussian(grid, 0.1, bad).is_err());
            assert!(Pld::sampled_laplace(grid, 0.1, bad).is_err());
            assert!(Pld::discrete_laplace(grid, bad, 1).is_err());
            assert!(Pld::discrete_gaussian(grid, bad, 1, 1.0).is_err());
            assert!(Pld::mixture_gaussian(grid, bad, &[1.0], &[1.0]).is_err());
            assert!(Pld::<Replace>::randomized_response(grid, bad, 4).is_err());
            assert!(Grid::new(bad).is_err());
        }
        for bad in [f64::NAN, 1.0 + 1e-12, -1e-300, f64::INFINITY] {
            assert!(Pld::<AddRemove>::sampled_gaussian(grid, bad, 1.0).is_err());
            assert!(Pld::<Replace>::sampled_gaussian(grid, bad, 1.0).is_err());
            assert!(Pld::sampled_laplace(grid, bad, 1.0).is_err());
            assert!(Pld::discrete_gaussian(grid, 1.0, 1, bad).is_err());
            assert!(Pld::<AddRemove>::epsilon_delta(grid, 1.0, bad).is_err());
            assert!(Pld::<AddRemove>::from_pmfs(grid, &[bad, 0.5], &[0.5, 0.5]).is_err());
        }
        assert!(Pld::discrete_laplace(grid, 1.0, 0).is_err() && Pld::discrete_gaussian(grid, 1.0, 0, 1.0).is_err());
        assert!(Pld::<Replace>::randomized_response(grid, 0.5, 0).is_err());
        assert!(Pld::mixture_gaussian(grid, 1.0, &[1.0, 2.0], &[1.0]).is_err());
        assert!(Pld::mixture_gaussian(grid, 1.0, &[-1.0], &[1.0]).is_err());
        assert!(matches!(Pld::sampled_laplace(grid, 1.0, 1e-4), Err(PldError::TooWide { .. })));
        // Extremes that must answer: nobody is sampled, noise without end.
        for (q, sigma) in [(0.0, 1.0), (1e-300, 1.0), (0.5, 1e12), (1.0, 1e12)] {
            let pld = Pld::<AddRemove>::sampled_gaussian(grid, q, sigma).unwrap();
            assert!(pld.epsilon(1e-6).unwrap() < 1e-4, "{q} {sigma}");
        }
    }
}
