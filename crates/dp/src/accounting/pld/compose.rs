//! ε and δ of a multiset of mechanisms, by one tilted Fourier transform per direction and question.
//!
//! A plain transform has an absolute error near 1e-16 times the number of compositions, which drowns a small δ. So
//! masses are tilted first: cell i of loss ℓ_i is multiplied by e^(θℓ_i) and divided by the sum M(θ), which moves the
//! middle of the composition to where the question is; the result is tilted back. (Exponential change of measure,
//! Esscher 1932; for convolutions Keich 2005, Wilson and Keich 2016.) An absolute error in the tilted masses is then a
//! *relative* error of δ. One window holds the whole multiset; outside of it Chernoff's bound of the tilted sum, from
//! Σ count·ln M, is below [`TAIL`]. Spectra are multiplied once and transformed back once.
//!
//! **Why the answer is an upper bound.** With y the exact tilted masses in the window, κ = Σ count·ln M(θ):
//! 1. Mass above the window: at most [`TAIL`]·e^(κ − θ·top), added as infinite loss. Mass below wraps to the top of the
//!    window, where it can only add.
//! 2. Rounding: every output of a transform of length N is a sum over inputs along paths of log₂ N butterflies, so a
//!    spectrum errs by at most η = 8u·(log₂ N + 3) per frequency where Σ|inputs| ≤ 1 (u = 2^−53; Higham 2002, §24.1,
//!    with 7u per butterfly). All spectra are at most 1, so the product of n factors errs by at most n·(η + 5u) per
//!    frequency, and by Parseval the masses err by R = n·(η + 5u) + η in Euclidean norm. δ weighs cell i with at most
//!    e^(κ − θℓ_i), so by Cauchy and Schwarz errs by at most R·e^(κ − θε)/√(1 − e^(−2θh)), which is added. Argued: the
//!    factor of 8 leaves room for other radices, and is compared with exact sums in the tests.
//! 3. Cell masses are accurate to 1e-13 relative, so δ is scaled by 1 + n·1e-13.

use core::cell::RefCell;
use std::sync::Arc;

use realfft::num_complex::Complex;
use realfft::{FftError, RealFftPlanner};

use super::pmf::{Pmf, solve};
use super::{Grid, MAX_CELLS, MAX_COMPOSITIONS, MIN_DELTA, Pld, PldError, within};
use crate::accounting::Adjacency;

/// Share of the tilted mass that may lie outside of the window on either side.
const TAIL: f64 = 2e-7;
/// The same where the answer is within a few cells, so that a tilt cannot tell the middle from the tail.
const FINE_TAIL: f64 = 1e-14;
/// Spectra below this are not multiplied out; 1e-22 of them in every frequency is far below u.
const LN_NOTHING: f64 = -50.0;
/// Tilts tried for one answer; each is half of the one before.
const MAX_TILTS: u32 = 48;
/// Tilts in a row that may bring nothing before the search ends.
const MAX_STALLED: u32 = 2;
/// The share of δ that the error bounds may have at most; more is refused.
const MAX_DOUBT: f64 = 0.5;
/// The share of δ up to which no other tilt is tried; of ε it is a smaller share.
const GOOD_DOUBT: f64 = 2e-4;
/// The share of δ up to which a window is used for another question.
const FINE_DOUBT: f64 = 1e-6;
/// Most cells of all parts together: 2^27 of 8 bytes are 1 GiB.
const MAX_TOTAL_CELLS: usize = 1 << 27;
/// Cells from which a narrower window is looked for at length, and from which plans are not kept: they are large themselves.
const MANY_CELLS: f64 = (1 << 20) as f64;
/// Most different parts.
const MAX_PARTS: usize = 100_000;

/// A fixed multiset of releases under one neighbouring relation.
#[derive(Clone, Debug)]
pub struct Composition<A: Adjacency> {
    grid: Grid,
    parts: Vec<(Pld<A>, u64)>,
    total: u64,
    /// Cells of all parts.
    cells: usize,
}

impl<A: Adjacency> Composition<A> {
    /// No release yet.
    pub fn new(grid: Grid) -> Self {
        Self { grid, parts: Vec::new(), total: 0, cells: 0 }
    }

    /// Adds `count` releases with this distribution.
    ///
    /// # Errors
    /// [`PldError::Grids`] if it is on another grid; [`PldError::Compositions`] above [`MAX_COMPOSITIONS`];
    /// [`PldError::TooWide`] if all parts together do not fit into memory.
    pub fn add(&mut self, pld: &Pld<A>, count: u64) -> Result<(), PldError> {
        if pld.grid.interval != self.grid.interval {
            return Err(PldError::Grids { expected: self.grid.interval, found: pld.grid.interval });
        }
        let total = self.total.checked_add(count).filter(|total| *total <= MAX_COMPOSITIONS);
        let total = total.filter(|_| self.parts.len() < MAX_PARTS).ok_or(PldError::Compositions)?;
        let cells = self.cells + pld.forward.mass.len() + pld.reverse.as_ref().map_or(0, |pmf| pmf.mass.len());
        if cells > MAX_TOTAL_CELLS {
            return Err(PldError::TooWide { nats: cells as f64 * self.grid.interval, interval: self.grid.interval });
        }
        (self.total, self.cells) = (total, cells);
        if count > 0 {
            self.parts.push((pld.clone(), count));
        }
        Ok(())
    }

    /// The smallest ε at a δ; infinite if more mass than δ has infinite loss.
    ///
    /// Promise: given the distributions, returns an ε for which the composition is (ε, δ)-private if its mechanisms
    /// and counts were fixed beforehand; never less than the truth by more than rounding of ε itself. Argued (module
    /// text of `compose.rs`).
    ///
    /// # Errors
    /// [`PldError::Argument`] unless [`MIN_DELTA`] ≤ δ < 1; [`PldError::TooWide`] if the window does not fit;
    /// [`PldError::Unresolved`] if the error bounds would decide.
    pub fn epsilon(&self, delta: f64) -> Result<f64, PldError> {
        within("delta", delta, MIN_DELTA, 1.0 - f64::EPSILON)?;
        let mut worst = 0.0;
        for direction in self.directions() {
            worst = direction.epsilon(delta)?.max(worst);
        }
        Ok(worst)
    }

    /// δ at an ε ≥ 0.
    ///
    /// Promise: as [`Composition::epsilon`].
    ///
    /// # Errors
    /// As [`Composition::epsilon`].
    pub fn delta(&self, epsilon: f64) -> Result<f64, PldError> {
        self.profile([epsilon]).next().unwrap_or(Ok(0.0))
    }

    /// δ at each of these ε, for curves. Windows are kept from one question to the next where they are accurate, so
    /// ask in rising or falling order.
    pub fn profile<'a, I>(&'a self, epsilons: I) -> impl Iterator<Item = Result<f64, PldError>> + 'a
    where
        I: IntoIterator<Item = f64>,
        I::IntoIter: 'a,
    {
        let mut sides: Vec<(Direction<'a>, Option<Window>)> = self.directions().map(|side| (side, None)).collect();
        epsilons.into_iter().map(move |epsilon| {
            within("epsilon", epsilon, 0.0, f64::MAX)?;
            let mut worst = 0.0;
            for (side, window) in &mut sides {
                worst = side.delta(epsilon, window)?.max(worst);
            }
            Ok(worst)
        })
    }

    /// The forward direction, and the reverse unless both are the same.
    fn directions(&self) -> impl Iterator<Item = Direction<'_>> {
        let forward = self.parts.iter().map(|(pld, count)| (&pld.forward, *count)).collect();
        let symmetric = self.parts.iter().all(|(pld, _)| pld.reverse.is_none());
        let reverse =
            || self.parts.iter().map(|(p, count)| (p.reverse.as_ref().unwrap_or(&p.forward), *count)).collect();
        let second: Option<Vec<_>> = (!symmetric).then(reverse);
        core::iter::once(forward).chain(second).map(|parts| Direction::new(self.grid.interval, parts))
    }
}

struct Direction<'a> {
    interval: f64,
    parts: Vec<Part<'a>>,
    /// Number of releases.
    total: f64,
    /// Mass at +∞ of all together.
    infinity: f64,
}

struct Part<'a> {
    pmf: &'a Arc<Pmf>,
    count: u64,
    bound: MgfBound,
}

impl<'a> Direction<'a> {
    fn new(interval: f64, parts: Vec<(&'a Arc<Pmf>, u64)>) -> Self {
        let part = |(pmf, count): (&'a Arc<Pmf>, u64)| Part { pmf, count, bound: MgfBound::new(interval, pmf) };
        let parts: Vec<Part<'a>> = parts.into_iter().map(part).collect();
        let ln_finite: f64 = parts.iter().map(|p| p.count as f64 * (-p.pmf.infinity.min(1.0)).ln_1p()).sum();
        let total = parts.iter().map(|p| p.count as f64).sum();
        Self { interval, parts, total, infinity: -ln_finite.exp_m1() }
    }

    /// The only distribution, where there is nothing to compose.
    fn single(&self) -> Option<&Pmf> {
        match self.parts.as_slice() {
            [Part { pmf, count: 1, .. }] => Some(pmf),
            _ => None,
        }
    }

    fn epsilon(&self, delta: f64) -> Result<f64, PldError> {
        if let Some(pmf) = self.single() {
            return Ok(pmf.epsilon(self.interval, delta));
        }
        if self.infinity >= delta {
            return Ok(f64::INFINITY);
        }
        if self.parts.is_empty() {
            return Ok(0.0);
        }
        // What infinite losses leave of δ has to be resolved, not δ itself.
        let left = delta - self.infinity;
        // The ε that Rényi divergence of order t + 1 gives (Canonne, Kamath, Steinke 2020, Proposition 12).
        let theta = self.best_tilt(|t| (self.ln_mgf(t) - left.ln() + ln_factor(t)) / t);
        let ask = |window: &Window| window.epsilon(delta);
        let best = self.least_bound(theta, ask, |_, doubt| doubt <= GOOD_DOUBT * left)?;
        let best = best.map(|(epsilon, doubt, _)| (epsilon, doubt));
        let largest = self.largest_loss().max(0.0);
        match best {
            Some((epsilon, doubt)) if doubt <= MAX_DOUBT * delta => Ok(epsilon.min(largest)),
            // At the largest loss there is, δ is the mass at +∞; near it, error bounds cost less than a cell or two.
            Some((epsilon, _)) if epsilon >= largest - 2.0 * self.interval => Ok(largest),
            Some((_, floor)) => Err(PldError::Unresolved { delta, floor }),
            None => Err(PldError::Unresolved { delta, floor: delta }),
        }
    }

    fn delta(&self, epsilon: f64, cached: &mut Option<Window>) -> Result<f64, PldError> {
        if let Some(pmf) = self.single() {
            return Ok(pmf.delta(self.interval, epsilon));
        }
        if self.parts.is_empty() || self.infinity >= 1.0 || epsilon >= self.largest_loss() {
            return Ok(self.infinity);
        }
        if let Some((delta, doubt)) = cached.as_ref().and_then(|window| window.delta(epsilon))
            && doubt <= FINE_DOUBT * (delta - self.infinity)
        {
            return Ok(delta.min(1.0));
        }
        let theta = self.best_tilt(|t| self.ln_mgf(t) - t * epsilon + ln_factor(t));
        let ask = |window: &Window| window.delta(epsilon);
        let best = self.least_bound(theta, ask, |delta, doubt| doubt <= GOOD_DOUBT * delta)?;
        let (delta, _, window) = best.ok_or(PldError::Unresolved { delta: 0.0, floor: 1.0 })?;
        *cached = Some(window);
        Ok(delta.min(1.0))
    }

    /// The smallest upper bound that windows of falling tilts give, with its doubt and its window. Every tilt gives a
    /// bound; a smaller one is tried until the bound is good, or while it makes ours better.
    fn least_bound(
        &self,
        mut theta: f64,
        ask: impl Fn(&Window) -> Option<(f64, f64)>,
        is_good: impl Fn(f64, f64) -> bool,
    ) -> Result<Option<(f64, f64, Window)>, PldError> {
        let (mut best, mut tail, mut stalled): (Option<(f64, f64, Window)>, f64, u32) = (None, TAIL, 0);
        for _ in 0..MAX_TILTS {
            let window = match self.window(theta, tail) {
                Err(_) if best.is_some() => break,
                window => window?,
            };
            if let Some((bound, doubt)) = ask(&window) {
                let better = best.as_ref().is_none_or(|(least, ..)| bound <= *least);
                if better {
                    best = Some((bound, doubt, window));
                }
                if is_good(bound, doubt) {
                    break;
                }
                if tail > FINE_TAIL {
                    tail = FINE_TAIL;
                    continue;
                }
                stalled += u32::from(!better);
                if stalled > MAX_STALLED {
                    break;
                }
            }
            theta = if theta > 1e-6 { 0.5 * theta } else { 0.0 };
        }
        Ok(best)
    }

    /// The largest finite loss, at which δ is the mass at +∞.
    fn largest_loss(&self) -> f64 {
        let last = |p: &Part<'_>| p.count as f64 * (p.pmf.first as f64 + p.pmf.mass.len() as f64 - 1.0);
        self.parts.iter().map(last).sum::<f64>() * self.interval
    }

    /// An upper bound of ln E e^(t·loss) over the finite part.
    fn ln_mgf(&self, t: f64) -> f64 {
        self.parts.iter().map(|part| part.count as f64 * part.bound.ln_mgf(t)).sum()
    }

    /// A t > 0 with a small value of a function: the best of a ladder, then golden section in ln t around it. Heavy
    /// tails make several valleys. A few percent are near enough: any tilt gives an upper bound.
    fn best_tilt(&self, f: impl Fn(f64) -> f64) -> f64 {
        const GOLDEN: f64 = 0.618_033_988_749_894_9;
        const LADDER: u32 = 24;
        // At the largest tilt neighbouring cells differ by a factor of e⁴, and a block of them by less than overflow.
        let (lowest, highest) = (1e-5_f64.ln(), (4.0 / self.interval).ln());
        let step = (highest - lowest) / f64::from(LADDER);
        let rungs = (0..=LADDER).map(|rung| lowest + step * f64::from(rung)).map(|ln_t| (f(ln_t.exp()), ln_t));
        let (_, best) = rungs.fold((f64::INFINITY, lowest), |a, b| if b.0 < a.0 { b } else { a });
        let (mut low, mut high) = ((best - step).max(lowest), (best + step).min(highest));
        let (mut left, mut right) = (high - GOLDEN * (high - low), low + GOLDEN * (high - low));
        let (mut at_left, mut at_right) = (f(left.exp()), f(right.exp()));
        while high - low > 0.1 {
            if at_left <= at_right {
                (high, right, at_right) = (right, left, at_left);
                left = high - GOLDEN * (high - low);
                at_left = f(left.exp());
            } else {
                (low, left, at_left) = (left, right, at_right);
                right = low + GOLDEN * (high - low);
                at_right = f(right.exp());
            }
        }
        (0.5 * (low + high)).exp()
    }

    /// The tilted composition where nearly all of its mass is.
    fn window(&self, theta: f64, tail: f64) -> Result<Window, PldError> {
        let tilt = |part: &Part<'a>| (part.count, Tilted::new(self.interval, part.pmf, theta));
        let mut tilted: Vec<(u64, Tilted<'a>)> = self.parts.iter().map(tilt).collect();
        let kappa: f64 = tilted.iter().map(|(count, t)| *count as f64 * t.ln_mgf).sum();
        let variance: f64 = tilted.iter().map(|(count, t)| *count as f64 * t.variance).sum();
        let (first, low, high, last) = self.bounds(theta, tail, kappa, variance.sqrt().max(self.interval));
        let cells = (high as f64 - low as f64) + 1.0;
        if cells > MAX_CELLS as f64 {
            return Err(PldError::TooWide { nats: cells * self.interval, interval: self.interval });
        }
        let len = fast_len((cells as usize).max(2));
        // What wrapped to the top is missing below the window: nothing if there is none, at most the tail if none is tilted.
        let missing = (low <= first).then_some(0.0).or_else(|| (theta == 0.0).then_some(tail));
        // The widest first: after them few frequencies are left.
        tilted.sort_by(|(m, a), (n, b)| (*n as f64 * b.variance).total_cmp(&(*m as f64 * a.variance)));
        let mut mass = convolve(&tilted, len)?;
        // Output m is the cell congruent to m + Σ count·first; the window starts at `low`.
        let offset: i128 = self.parts.iter().map(|p| i128::from(p.count) * i128::from(p.pmf.first)).sum();
        mass.rotate_left((i128::from(low) - offset).rem_euclid(len as i128) as usize);
        let eta = 8.0 * (0.5 * f64::EPSILON) * ((len as f64).log2() + 3.0);
        let norm = self.total * (eta + 2.5 * f64::EPSILON) + eta;
        let spread = (-(-2.0 * theta * self.interval).exp_m1()).recip().min(len as f64).sqrt();
        // Nothing is above the end of the support.
        let above = if high < last { tail * (kappa - theta * high as f64 * self.interval).exp() } else { 0.0 };
        let scale = self.total.mul_add(1e-13, 1.0);
        Ok(Window {
            interval: self.interval,
            low,
            mass,
            theta,
            kappa: kappa + scale.ln(),
            missing,
            beyond: self.infinity + above,
            above,
            rounding: norm * spread,
        })
    }

    /// First cell of the support, first and last of the window, by Chernoff's bounds of the tilted sum, and last of the support.
    fn bounds(&self, theta: f64, tail: f64, kappa: f64, deviation: f64) -> (i64, i64, i64, i64) {
        let end = |f: fn(&Pmf) -> i64| {
            let sum: i128 = self.parts.iter().map(|p| i128::from(p.count) * i128::from(f(p.pmf))).sum();
            sum.clamp(i128::from(i64::MIN / 4), i128::from(i64::MAX / 4)) as i64
        };
        let first = end(|pmf| pmf.first);
        let last = end(|pmf| pmf.first.saturating_add(pmf.mass.len() as i64 - 1));
        let (mut low, mut high) = (first as f64, last as f64);
        // For a normal sum the best is √(2·ln(1/TAIL)) = 5.6 over the deviation; heavy tails need much less, and less still
        // where nearly all of the variance comes from steps that are rare and large.
        for step in (-32_i32..=3).rev() {
            if step < -9 && high - low < MANY_CELLS {
                break;
            }
            let s = 5.6 * (f64::from(step) / 2.0).exp2() / deviation;
            high = high.min((self.ln_mgf(theta + s) - kappa - tail.ln()) / (s * self.interval));
            low = low.max((tail.ln() - self.ln_mgf(theta - s) + kappa) / (s * self.interval));
        }
        // A cell more on both sides is for rounding here; NaN becomes the ends of the support.
        let high = if high < last as f64 { high.ceil() as i64 + 1 } else { last };
        let low = if low > first as f64 { low.floor() as i64 - 1 } else { first };
        (first, low.min(high).max(first), high.min(last).max(low.max(first)), last)
    }
}

/// ln of the largest (1 − e^(ε − ℓ))₊/e^(t(ℓ − ε)): how much less δ is than Chernoff's bound at tilt t.
fn ln_factor(t: f64) -> f64 {
    t * t.ln() - (1.0 + t) * t.ln_1p()
}

/// Tilted masses of the composition; cell i of loss ℓ stands for mass·e^(κ − θℓ).
struct Window {
    interval: f64,
    low: i64,
    mass: Vec<f64>,
    theta: f64,
    kappa: f64,
    /// Mass that may be missing from δ at an ε below the window, if that is known.
    missing: Option<f64>,
    /// Mass at +∞, and the bound of what lies above the window.
    beyond: f64,
    /// That bound alone.
    above: f64,
    /// Bound of the rounding error of δ in units of e^(κ − θε).
    rounding: f64,
}

impl Window {
    /// Cells from the top: loss, mass without tilt, weight e^(κ − θ·loss).
    fn cells(&self) -> impl Iterator<Item = (f64, f64, f64)> {
        let growth = (self.theta * self.interval).exp();
        let mut weight = 0.0;
        self.mass.iter().enumerate().rev().enumerate().map(move |(turn, (index, tilted))| {
            let loss = (self.low + index as i64) as f64 * self.interval;
            // Products drift by an ulp per step.
            weight = if turn % 64 == 0 { (self.kappa - self.theta * loss).exp() } else { weight * growth };
            (loss, tilted.max(0.0) * weight, weight)
        })
    }

    /// ε at δ and the part of δ that is error bounds, or `None` if ε is below the window.
    fn epsilon(&self, delta: f64) -> Option<(f64, f64)> {
        let (mut upper, mut lower) = (self.beyond, 0.0);
        let decay = (-self.interval).exp();
        for (loss, mass, weight) in self.cells() {
            lower *= decay;
            let doubt = self.rounding * weight + self.above;
            // The bound of rounding at this cell holds for every ε above it as well.
            if upper + self.rounding * weight - lower > delta || loss < 0.0 {
                let upper = upper + self.rounding * weight;
                return Some((solve(upper, lower / decay, loss + self.interval, delta), doubt));
            }
            upper += mass;
            lower += mass;
        }
        let (lowest, missing) = (self.low as f64 * self.interval, self.missing?);
        let doubt = self.rounding * (self.kappa - self.theta * lowest).exp() + missing;
        Some((solve(upper + doubt, lower, lowest, delta), doubt + self.above))
    }

    /// δ at ε and the part of it that is error bounds, or `None` if ε is below the window.
    fn delta(&self, epsilon: f64) -> Option<(f64, f64)> {
        let lowest = self.low as f64 * self.interval;
        let missing = if epsilon < lowest { self.missing? } else { 0.0 };
        let cells = self.cells().take_while(|(loss, ..)| *loss > epsilon);
        let sum: f64 = cells.map(|(loss, mass, _)| -(epsilon - loss).exp_m1() * mass).sum();
        // No cell below the window weighs more than the lowest that is there.
        let rounding = self.rounding * (self.kappa - self.theta * epsilon.max(lowest)).exp() + missing;
        Some((self.beyond + sum + rounding, rounding + self.above))
    }
}

/// One distribution with what its tilt needs; the tilted masses are made where they are used.
struct Tilted<'a> {
    pmf: &'a Pmf,
    /// θh.
    exponent: f64,
    ln_mgf: f64,
    variance: f64,
    /// 1/Σ of the masses tilted relative to the last cell.
    scale: f64,
}

/// Cells between exact exponentials.
const BLOCK: usize = 64;

impl<'a> Tilted<'a> {
    fn new(interval: f64, pmf: &'a Pmf, theta: f64) -> Self {
        let mut tilted = Self { pmf, exponent: theta * interval, ln_mgf: 0.0, variance: 0.0, scale: 1.0 };
        let last = (pmf.mass.len() as f64 - 1.0).max(0.0);
        let (mut sum, mut first, mut second, mut away) = (0.0, 0.0, 0.0, -last);
        tilted.for_each(|m| {
            sum += m;
            first += m * away;
            second += m * away * away;
            away += 1.0;
        });
        let mean = first / sum;
        tilted.ln_mgf = sum.ln() + tilted.exponent * (pmf.first as f64 + last);
        tilted.variance = (second / sum - mean * mean).max(0.0) * interval * interval;
        tilted.scale = sum.recip();
        tilted
    }

    /// Every tilted mass from the first cell on. Relative to the last cell no factor exceeds 1.
    fn for_each(&self, mut f: impl FnMut(f64)) {
        let growth = self.exponent.exp();
        let len = self.pmf.mass.len();
        for (block, chunk) in self.pmf.mass.chunks(BLOCK).enumerate() {
            let before_last = len as f64 - 1.0 - (BLOCK * block) as f64;
            let mut factor = self.scale * (-self.exponent * before_last).exp();
            for m in chunk {
                f(m * factor);
                factor *= growth;
            }
        }
    }

    /// All tilted masses, index modulo the length.
    fn fold_into(&self, input: &mut [f64]) {
        input.fill(0.0);
        let len = input.len();
        if self.pmf.mass.len() <= len {
            let mut slots = input.iter_mut();
            self.for_each(|m| {
                if let Some(slot) = slots.next() {
                    *slot = m;
                }
            });
        } else {
            let mut at = 0;
            self.for_each(|m| {
                if let Some(slot) = input.get_mut(at) {
                    *slot += m;
                }
                at = if at + 1 == len { 0 } else { at + 1 };
            });
        }
    }
}

/// An upper bound of a moment generating function on fewer cells.
///
/// e^(tℓ) is convex, so moving mass to both ends of a block of cells, keeping its mean, can only raise it.
struct MgfBound {
    first: f64,
    step: f64,
    mass: Vec<f64>,
}

impl MgfBound {
    fn new(interval: f64, pmf: &Pmf) -> Self {
        let total: f64 = pmf.mass.iter().sum();
        let mean = pmf.mass.iter().enumerate().map(|(i, m)| m * i as f64).sum::<f64>() / total;
        let away = |(i, m): (usize, &f64)| m * (i as f64 - mean) * (i as f64 - mean);
        let deviation = (pmf.mass.iter().enumerate().map(away).sum::<f64>() / total).sqrt();
        // Blocks of a fifth of a deviation raise the exponent of a bound by a fiftieth of what it is.
        // Not a number where all losses are infinite.
        let block = if deviation > 5.0 { (0.2 * deviation).min(4096.0) as usize } else { 1 };
        let mut mass = vec![0.0; pmf.mass.len().div_ceil(block) + 1];
        for (chunk, index) in pmf.mass.chunks(block).zip(0..) {
            let (mut low, mut high) = (0.0, 0.0);
            for (m, place) in chunk.iter().zip(0..) {
                let share = f64::from(place) / block as f64;
                low += m * (1.0 - share);
                high += m * share;
            }
            if let Some([a, b]) = mass.get_mut(index..index + 2) {
                *a += low;
                *b += high;
            }
        }
        // Both ends are positive, so that the sum is however steep the tilt.
        mass.truncate(mass.iter().rposition(|m| *m > 0.0).map_or(0, |last| last + 1));
        Self { first: pmf.first as f64 * interval, step: block as f64 * interval, mass }
    }

    /// ln Σ mass·e^(t·loss), by Horner from the end where the factor is 1.
    fn ln_mgf(&self, t: f64) -> f64 {
        let x = (-t.abs() * self.step).exp();
        let last = self.first + self.step * (self.mass.len() as f64 - 1.0);
        if t >= 0.0 {
            horner(self.mass.iter(), x).ln() + t * last
        } else {
            horner(self.mass.iter().rev(), x).ln() + t * self.first
        }
    }
}

fn horner<'a>(coefficients: impl Iterator<Item = &'a f64>, x: f64) -> f64 {
    coefficients.fold(0.0, |sum, c| sum * x + c)
}

thread_local! {
    /// Twiddle factors of the lengths used so far by this thread.
    static PLANNER: RefCell<RealFftPlanner<f64>> = RefCell::new(RealFftPlanner::new());
}

/// The circular convolution of all of them, count times each.
fn convolve(parts: &[(u64, Tilted<'_>)], len: usize) -> Result<Vec<f64>, PldError> {
    // The lengths below are those the plan asks for, so an error of the library is a bug; it is refused as too wide.
    let refused = |_: FftError| PldError::TooWide { nats: len as f64, interval: 1.0 };
    let both = |p: &mut RealFftPlanner<f64>| (p.plan_fft_forward(len), p.plan_fft_inverse(len));
    let (forward, inverse) =
        if len as f64 > MANY_CELLS { both(&mut RealFftPlanner::new()) } else { PLANNER.with_borrow_mut(both) };
    let mut scratch = forward.make_scratch_vec();
    let mut input = forward.make_input_vec();
    let mut spectrum = forward.make_output_vec();
    // Frequencies beyond the end of `product` are nothing.
    let mut product = vec![Complex::new(1.0, 0.0); len / 2 + 1];
    for (count, tilted) in parts {
        tilted.fold_into(&mut input);
        let block = block_for(len, product.len());
        if block >= MIN_BLOCK {
            let used = tilted.pmf.mass.len();
            low_frequencies(&input, used, block, product.len(), &mut spectrum).map_err(refused)?;
        } else {
            spectrum.resize(len / 2 + 1, Complex::default());
            forward.process_with_scratch(&mut input, &mut spectrum, &mut scratch).map_err(refused)?;
        }
        raise(&mut spectrum, *count);
        product.iter_mut().zip(&spectrum).for_each(|(a, b)| *a *= b);
        let left = product.iter().rposition(|y| y.norm_sqr() > (2.0 * LN_NOTHING).exp()).map_or(1, |last| last + 1);
        product.truncate(left);
    }
    product.resize(len / 2 + 1, Complex::default());
    // Real by symmetry; the library refuses rounding there.
    if let [first, .., last] = product.as_mut_slice() {
        (first.im, last.im) = (0.0, 0.0);
    }
    let mut output = inverse.make_output_vec();
    let mut scratch = inverse.make_scratch_vec();
    inverse.process_with_scratch(&mut product, &mut output, &mut scratch).map_err(refused)?;
    let scale = (len as f64).recip();
    output.iter_mut().for_each(|m| *m *= scale);
    Ok(output)
}

/// Moments per block of cells, of order 0 to 11.
const MOMENTS: usize = 12;
/// Largest phase between the middle and the edge of a block: 0.3^12/12! = 1.1e-15 is left out.
const MAX_PHASE: f64 = 0.3;
/// Smaller blocks are not faster than the full transform.
const MIN_BLOCK: usize = 16;
const MAX_BLOCK: usize = 512;

/// The largest block, a power of two, in which the first `wanted` frequencies turn by little.
fn block_for(len: usize, wanted: usize) -> usize {
    let mut block = MAX_BLOCK;
    while block > 1
        && (!len.is_multiple_of(block) || core::f64::consts::PI * (wanted * block) as f64 > MAX_PHASE * len as f64)
    {
        block /= 2;
    }
    block
}

/// The first `wanted` frequencies of a transform, for a product in which the others have vanished.
///
/// Within a block of cells e^(−iωx) is a short Taylor series around the middle, so the transform is that of the blocks'
/// moments, which is shorter by the size of a block.
fn low_frequencies(
    input: &[f64],
    used: usize,
    block: usize,
    wanted: usize,
    spectrum: &mut Vec<Complex<f64>>,
) -> Result<(), FftError> {
    let middle = 0.5 * (block as f64 - 1.0);
    let powers = |cell: usize| {
        let x = (cell as f64 - middle) / block as f64;
        let mut power = 1.0;
        [(); MOMENTS].map(|()| {
            let this = power;
            power *= x;
            this
        })
    };
    let table: Vec<[f64; MOMENTS]> = (0..block).map(powers).collect();
    let blocks = input.len() / block;
    let forward = PLANNER.with_borrow_mut(|p| p.plan_fft_forward(blocks));
    let mut moments: [Vec<f64>; MOMENTS] = core::array::from_fn(|_| Vec::with_capacity(blocks));
    for chunk in input.chunks(block).take(used.div_ceil(block)) {
        let mut sums = [0.0; MOMENTS];
        for (m, powers) in chunk.iter().zip(&table) {
            sums.iter_mut().zip(powers).for_each(|(sum, power)| *sum += m * power);
        }
        moments.iter_mut().zip(sums).for_each(|(list, sum)| list.push(sum));
    }
    // What follows the cells in use is empty.
    moments.iter_mut().for_each(|list| list.resize(blocks, 0.0));
    let step = core::f64::consts::TAU / input.len() as f64;
    spectrum.clear();
    spectrum.resize(wanted, Complex::default());
    let mut part = forward.make_output_vec();
    let mut scratch = forward.make_scratch_vec();
    let mut factorial = 1.0;
    for (order, moments) in (0_i32..).zip(&mut moments) {
        forward.process_with_scratch(moments, &mut part, &mut scratch)?;
        for (frequency, (total, value)) in spectrum.iter_mut().zip(&part).enumerate() {
            // (−iωD)^order/order!
            let size = (step * frequency as f64 * block as f64).powi(order) / factorial;
            *total += match order % 4 {
                0 => value * size,
                1 => Complex::new(value.im, -value.re) * size,
                2 => -value * size,
                _ => Complex::new(-value.im, value.re) * size,
            };
        }
        factorial *= f64::from(order + 1);
    }
    for (frequency, total) in spectrum.iter_mut().enumerate() {
        *total *= Complex::from_polar(1.0, -step * frequency as f64 * middle);
    }
    Ok(())
}

/// Every frequency to the power `count`, by squaring; what would become nothing is set to nothing.
fn raise(spectrum: &mut [Complex<f64>], count: u64) {
    if count == 1 {
        return;
    }
    let nothing = (2.0 * LN_NOTHING / count as f64).exp();
    for value in spectrum {
        if value.norm_sqr() < nothing {
            *value = Complex::new(0.0, 0.0);
            continue;
        }
        let (mut base, mut power, mut left) = (*value, Complex::new(1.0, 0.0), count);
        while left > 0 {
            if left & 1 == 1 {
                power *= base;
            }
            base *= base;
            left >>= 1;
        }
        *value = power;
    }
}

/// The next length 2^a, 3·2^a, 5·2^a or 9·2^a, a ≥ 1: transforms of these are fast, real ones need an even length.
fn fast_len(cells: usize) -> usize {
    let power = cells.next_power_of_two().max(32);
    [power / 16 * 9, power / 8 * 5, power / 4 * 3].into_iter().find(|len| *len >= cells).unwrap_or(power)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accounting::{AddRemove, Replace, gaussian};

    fn composed(grid: Grid, parts: &[(Pld<AddRemove>, u64)]) -> Composition<AddRemove> {
        let mut composition = Composition::new(grid);
        for (pld, count) in parts {
            composition.add(pld, *count).unwrap();
        }
        composition
    }

    /// δ of k copies of (ε0, 0): Σ over Binomial of (1 − e^(ε − loss))₊ (Kairouz, Oh, Viswanath 2015), in logarithms.
    fn kov_delta(epsilon0: f64, k: u32, epsilon: f64) -> f64 {
        let (n, ln_p, ln_q) = (f64::from(k), -(-epsilon0).exp().ln_1p(), -epsilon0.exp().ln_1p());
        let term = |wins: u32| {
            let w = f64::from(wins);
            let loss = epsilon0 * (2.0 * w - n);
            let ln_choose = libm::lgamma(n + 1.0) - libm::lgamma(w + 1.0) - libm::lgamma(n - w + 1.0);
            (ln_choose + w * ln_p + (n - w) * ln_q).exp() * -(epsilon - loss).min(0.0).exp_m1()
        };
        (0..=k).map(term).sum()
    }

    #[test]
    fn compositions_of_pure_privacy_agree_with_the_exact_sum() {
        for (epsilon0, k, delta) in
            [(0.1, 100, 1e-6), (1.0, 10, 1e-6), (0.03, 1000, 1e-9), (0.5, 40, 0.1), (2.0, 3, 0.1), (0.25, 200, 1e-20)]
        {
            let grid = Grid::new(1e-4).unwrap().with_tail(1e-40);
            let composition = composed(grid, &[(Pld::epsilon_delta(grid, epsilon0, 0.0).unwrap(), k.into())]);
            let epsilon = composition.epsilon(delta).unwrap();
            let (at, just_below) = (kov_delta(epsilon0, k, epsilon + 1e-9), kov_delta(epsilon0, k, epsilon - 1e-6));
            assert!(at <= delta && just_below > delta, "{epsilon0} {k} {delta}: {epsilon}, {at:e}, {just_below:e}");
        }
    }

    #[test]
    fn compositions_of_gaussians_agree_with_the_formula() {
        for (sigma, k, delta, interval) in [
            (2.0, 4, 1e-5, 1e-4),
            (20.0, 400, 0.3, 1e-4),
            (30.0, 1000, 1e-11, 1e-4),
            (50.0, 2500, 1e-40, 1e-3),
            (1000.0, 1_000_000, 1e-6, 1e-4),
        ] {
            let grid = Grid::new(interval).unwrap().with_tail(1e-60);
            let pld = Pld::<AddRemove>::sampled_gaussian(grid, 1.0, sigma).unwrap();
            let epsilon = composed(grid, &[(pld, k)]).epsilon(delta).unwrap();
            let exact = gaussian::epsilon(delta, (k as f64).sqrt() / sigma);
            // Connect-the-Dots adds at most h²/4 of variance per release.
            let slack = k as f64 * interval * interval * (1.0 + exact) + 1e-6 * exact;
            assert!(epsilon >= exact - 1e-9 && epsilon <= exact + slack, "{sigma} {k} {delta}: {epsilon} {exact}");
        }
    }

    /// Losses of several nodes' answers by enumeration of every combination.
    #[test]
    fn different_mechanisms_agree_with_enumeration() {
        let grid = Grid::new(1e-4).unwrap();
        let pairs = [
            ([0.5, 0.3, 0.2], [0.2, 0.3, 0.5], 3_u32),
            ([0.9, 0.05, 0.05], [0.6, 0.3, 0.1], 2),
            ([0.25, 0.25, 0.5], [0.3, 0.3, 0.4], 4),
        ];
        let mut outcomes = vec![(1.0_f64, 1.0_f64)];
        let mut composition = Composition::<Replace>::new(grid);
        for (p, q, count) in &pairs {
            composition.add(&Pld::from_pmfs(grid, p, q).unwrap(), u64::from(*count)).unwrap();
            for _ in 0..*count {
                outcomes =
                    outcomes.iter().flat_map(|(a, b)| p.iter().zip(q).map(move |(p, q)| (a * p, b * q))).collect();
            }
        }
        for epsilon in [0.0_f64, 0.3, 1.0, 2.0, 4.0] {
            let one_way = |(a, b): &(f64, f64)| (a - epsilon.exp() * b).max(0.0);
            let forward: f64 = outcomes.iter().map(one_way).sum();
            let reverse: f64 = outcomes.iter().map(|(a, b)| one_way(&(*b, *a))).sum();
            let (exact, ours) = (forward.max(reverse), composition.delta(epsilon).unwrap());
            assert!(ours >= exact - 1e-12 && ours <= exact + 1e-6, "{epsilon}: {ours} {exact}");
            let back = composition.epsilon(ours.max(1e-9)).unwrap();
            assert!((back - epsilon).abs() < 1e-6 || exact < 1e-9, "{epsilon}: back {back}");
        }
    }

    #[test]
    fn epsilon_falls_with_delta_and_rises_with_count() {
        let grid = Grid::new(1e-3).unwrap();
        let mechanisms = [
            Pld::<AddRemove>::sampled_gaussian(grid, 0.02, 0.9).unwrap(),
            Pld::sampled_laplace(grid, 0.3, 2.0).unwrap(),
            Pld::discrete_laplace(grid, 0.3, 2).unwrap(),
            Pld::discrete_gaussian(grid, 3.0, 1, 0.2).unwrap(),
            Pld::mixture_gaussian(grid, 2.0, &[0.0, 1.0, 3.0], &[0.5, 0.4, 0.1]).unwrap(),
            Pld::epsilon_delta(grid, 0.2, 1e-9).unwrap(),
        ];
        for (index, pld) in mechanisms.iter().enumerate() {
            let mut before = vec![0.0; 9];
            for count in [1, 2, 3, 10, 50, 300] {
                let composition = composed(grid, &[(pld.clone(), count)]);
                let deltas = [1e-10, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-2, 0.1, 0.3];
                let now: Vec<f64> = deltas.iter().map(|delta| composition.epsilon(*delta).unwrap()).collect();
                let falls = now.is_sorted_by(|a, b| *a >= b - 1e-7);
                let rises = before.iter().zip(&now).all(|(before, now)| *now >= before - 1e-7);
                assert!(falls && rises, "mechanism {index}, count {count}: {now:?} after {before:?}");
                before = now;
            }
        }
    }

    #[test]
    fn curves_agree_with_single_questions() {
        let grid = Grid::new(1e-4).unwrap();
        let pld = Pld::<AddRemove>::sampled_gaussian(grid, 0.01, 1.0).unwrap();
        let composition = composed(grid, &[(pld, 1000)]);
        let ladder: Vec<f64> = (0..40).map(|i| 0.1 * f64::from(i)).collect();
        let curve: Vec<f64> = composition.profile(ladder.iter().copied()).map(Result::unwrap).collect();
        for (epsilon, delta) in ladder.iter().zip(&curve) {
            let alone = composition.delta(*epsilon).unwrap();
            assert!((alone / delta - 1.0).abs() < 1e-4, "{epsilon}: {delta:e} {alone:e}");
            if *epsilon > 0.0 {
                let back = composition.epsilon(*delta).unwrap();
                assert!((back - epsilon).abs() < 1e-5 * (1.0 + epsilon), "{epsilon}: {back}");
            }
        }
        assert!(curve.is_sorted_by(|a, b| a >= b), "{curve:?}");
    }

    /// Answers within a few cells of zero, where the first window was once refused.
    #[test]
    fn tiny_losses_are_answered() {
        let grid = Grid::new(1e-4).unwrap().with_tail(1e-18);
        for (q, sigma, count, delta, theirs) in
            [(0.001_275_189_3, 30.825_372, 5, 2.614_089e-8, 3.984_194e-4), (1e-4, 50.0, 3, 1e-7, 0.0)]
        {
            let pld = Pld::<AddRemove>::sampled_gaussian(grid, q, sigma).unwrap();
            let epsilon = composed(grid, &[(pld, count)]).epsilon(delta).unwrap();
            assert!((epsilon - theirs).abs() < 1e-4, "{q} {sigma}: {epsilon} {theirs}");
        }
    }

    #[test]
    fn too_much_is_refused() {
        let grid = Grid::new(1e-4).unwrap();
        let other = Grid::new(1e-3).unwrap();
        let pld = Pld::<AddRemove>::sampled_laplace(grid, 1.0, 0.5).unwrap();
        let mut composition = Composition::new(grid);
        assert_eq!(composition.add(&pld, MAX_COMPOSITIONS + 1), Err(PldError::Compositions));
        let wrong = Pld::sampled_laplace(other, 1.0, 0.5).unwrap();
        assert!(matches!(composition.add(&wrong, 1), Err(PldError::Grids { .. })));
        composition.add(&pld, MAX_COMPOSITIONS).unwrap();
        assert!(matches!(composition.epsilon(1e-6), Err(PldError::TooWide { .. })));
        // The largest number that still fits: tiny losses, a billion times.
        let mut tiny = Composition::new(grid);
        tiny.add(&Pld::<AddRemove>::epsilon_delta(grid, 1e-5, 0.0).unwrap(), MAX_COMPOSITIONS).unwrap();
        let epsilon = tiny.epsilon(1e-6).unwrap();
        assert!(epsilon.is_finite() && epsilon > 1.0, "{epsilon}");
        for delta in [0.0, -1.0, 1.0, f64::NAN, 1e-60] {
            assert!(matches!(tiny.epsilon(delta), Err(PldError::Argument { .. })), "{delta}");
        }
        assert_eq!(Composition::<AddRemove>::new(grid).epsilon(1e-6), Ok(0.0));
    }
}
