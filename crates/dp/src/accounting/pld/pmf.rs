//! One direction of a privacy-loss distribution, and how masses come onto its grid.
//!
//! The split below is Connect-the-Dots (Doroshenko, Ghazi, Kamath, Kumar, Manurangsi 2022, arXiv 2207.04380,
//! algorithm 1) written as a statement about mass instead of about second differences of δ: an outcome of loss ℓ
//! between two grid points is shared between them so that its mass under *both* distributions is kept. Every convex
//! function of the likelihood ratio, and so δ(ε) at every ε, can then only grow. Summing positive masses has no
//! cancellation, so a mass of 1e-40 in a tail is as accurate as the mass in the middle.
//!
//! Does not: know mechanisms, or compose.

use super::{Grid, MAX_CELLS, PldError};
use crate::accounting::special::LN_SQRT_2PI;

/// Masses under the first distribution by privacy loss, on the grid h·Z, and the mass at +∞.
#[derive(Clone, Debug)]
pub(super) struct Pmf {
    /// Grid index of the first cell.
    pub(super) first: i64,
    /// Mass per grid point, finite and not negative.
    pub(super) mass: Vec<f64>,
    /// Mass of outcomes that the second distribution cannot produce, and everything that was cut off.
    pub(super) infinity: f64,
}

/// A pair of distributions while its outcomes are being collected: P is the first, Q the second.
pub(super) struct Cells {
    interval: f64,
    /// e^h − 1.
    growth: f64,
    /// Mass of small losses that may be rounded up a long way.
    left: f64,
    first: i64,
    p: Vec<f64>,
    q: Vec<f64>,
    p_only: f64,
    q_only: f64,
}

/// A family of outcomes with a parameter t on the real line along which the loss rises smoothly.
pub(super) trait Family {
    /// ln dP/dQ at t.
    fn loss(&self, t: f64) -> f64;
    /// ln of the density of Q at t.
    fn ln_q(&self, t: f64) -> f64;
    /// The t with this loss, infinite beyond the range; `ratio` is e^loss, `near` is a t slightly below the result.
    fn inverse(&self, loss: f64, ratio: f64, near: f64) -> f64;
    /// A bound of the logarithmic derivatives of both densities near t: how fast things change.
    fn steepness(&self, t: f64) -> f64;
    /// The derivative of the loss at t, where e^loss is `ratio`.
    fn slope(&self, t: f64, ratio: f64) -> f64;
    /// Density of Q at `middle` ∓ `step`, for steps that are small against 1/steepness.
    fn q_pair(&self, middle: f64, step: f64) -> [f64; 2] {
        [middle - step, middle + step].map(|t| self.ln_q(t).exp())
    }
    /// Density of Q at `middle` − `step`, `middle` and `middle` + `step`, for steps up to [`MIDDLING`]/2 over steepness.
    fn q_triple(&self, middle: f64, step: f64) -> [f64; 3] {
        [middle - step, middle, middle + step].map(|t| self.ln_q(t).exp())
    }
    /// The rate r of a family whose e^loss is a + b·e^(r·t), as Poisson sampling makes it of a linear loss.
    fn rate(&self) -> Option<f64> {
        None
    }
}

/// The standard normal density at `middle` ∓ `step` with one exponential; |middle·step| and step at most [`NARROW`].
pub(super) fn normal_pair(middle: f64, step: f64) -> [f64; 2] {
    let at_middle = (-0.5 * (middle * middle + step * step) - LN_SQRT_2PI).exp();
    let x = middle * step;
    // e^x to x⁴/24 is exact to 3e-16 here.
    [x, -x].map(|x| at_middle * (1.0 + x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0))))))
}

/// The standard normal density at `middle` − `step`, `middle` and `middle` + `step` with one exponential, where
/// |middle·step| ≤ 0.03 and step ≤ 0.015: what the series leave out is below 1e-17.
pub(super) fn normal_triple(middle: f64, step: f64) -> [f64; 3] {
    let at_middle = (-0.5 * middle * middle - LN_SQRT_2PI).exp();
    let (x, y) = (middle * step, 0.5 * step * step);
    let square = x * x;
    let cosh = 1.0 + square * (0.5 + square * (1.0 / 24.0 + square * (1.0 / 720.0)));
    let sinh = x * (1.0 + square * (1.0 / 6.0 + square * (1.0 / 120.0 + square * (1.0 / 5040.0))));
    let aside = at_middle * (1.0 - y * (1.0 - y * (0.5 - y * (1.0 / 6.0))));
    [aside * (cosh + sinh), at_middle, aside * (cosh - sinh)]
}

/// Gauss-Legendre nodes and weights on (−1, 1), positive half.
const TWO_POINTS: [(f64, f64); 1] = [(0.577_350_269_189_625_8, 1.0)];
const THREE_POINTS: [(f64, f64); 2] =
    [(0.774_596_669_241_483_4, 0.555_555_555_555_555_6), (0.0, 0.444_444_444_444_444_4)];
const SIX_POINTS: [(f64, f64); 3] = [
    (0.238_619_186_083_196_9, 0.467_913_934_572_691_04),
    (0.661_209_386_466_264_5, 0.360_761_573_048_138_6),
    (0.932_469_514_203_152, 0.171_324_492_379_170_36),
];
/// Width times steepness up to which two points err by less than 1e-14 of the mass: x⁴/4320.
const NARROW: f64 = 2e-3;
/// The same for three points, the middle one counted twice at half its weight: x⁶/2016000.
const MIDDLING: f64 = 0.06;
/// The same for six points: x¹²·(6!)⁴/(13·(12!)³) = x¹²·1.9e-16.
const WIDE: f64 = 1.4;
/// Pieces into which one cell is cut at most; a wider one keeps its mass but loses accuracy.
const MAX_PIECES: f64 = 4096.0;
/// At most this much mass is rounded up from far below: times a loss of 50 and 1e5 releases it is 5e-6.
const MAX_LEFT: f64 = 1e-12;
/// Losses whose exponential is far from overflow.
const MAX_RATIO: f64 = 600.0;

impl Cells {
    /// Room for losses from `lowest` to `highest`.
    ///
    /// # Errors
    /// [`PldError::TooWide`] if that is more than [`MAX_CELLS`] cells.
    pub(super) fn new(grid: Grid, lowest: f64, highest: f64) -> Result<Self, PldError> {
        let (low, high) = ((lowest / grid.interval).floor(), (highest / grid.interval).ceil());
        let cells = high - low + 2.0;
        // The comparison is false for NaN, which then is refused as well.
        if !(cells <= MAX_CELLS as f64 && low.abs() < 1e15 && high.abs() < 1e15) {
            return Err(PldError::TooWide { nats: highest - lowest, interval: grid.interval });
        }
        let len = cells as usize;
        let zeros = || vec![0.0; len];
        let (interval, growth) = (grid.interval, grid.interval.exp_m1());
        let left = (1e6 * grid.tail).min(MAX_LEFT);
        Ok(Self { interval, growth, left, first: low as i64, p: zeros(), q: zeros(), p_only: 0.0, q_only: 0.0 })
    }

    /// Adds an outcome of masses `p` and `q`, whose loss ln(p/q) is `loss` where both are positive.
    pub(super) fn add_atom(&mut self, loss: f64, p: f64, q: f64) {
        if !loss.is_finite() || p <= 0.0 || q <= 0.0 {
            self.add_infinite(p, q);
            return;
        }
        let index = (loss / self.interval).floor();
        self.share(index as i64, loss - index * self.interval, p, q);
    }

    /// Adds masses whose loss is no further from the middle than `loss`, as if it were that.
    pub(super) fn add_pinned(&mut self, loss: f64, p: f64, q: f64) {
        let index = (loss / self.interval).floor();
        self.share(index as i64, loss - index * self.interval, p, q);
    }

    /// Adds masses that are too small or too far out to place: each counts as if the other could not produce it.
    pub(super) fn add_infinite(&mut self, p: f64, q: f64) {
        self.p_only += p.max(0.0);
        self.q_only += q.max(0.0);
    }

    /// Adds the outcomes of a family between two parameters, every one of them with its own loss.
    pub(super) fn add_family<F: Family>(&mut self, family: &F, from: f64, to: f64) {
        let end = family.loss(to);
        let mut index = (family.loss(from) / self.interval).floor() as i64;
        let (mut at, mut steep) = (from, family.steepness(from));
        let rate = family.rate();
        // Known only where a cell begins on the grid.
        let mut slope = f64::NAN;
        let mut ratio = 0.0;
        // At most one turn per cell that exists.
        for turn in 0..self.p.len() {
            let floor = index as f64 * self.interval;
            // e^floor; products drift by an ulp per step.
            ratio = if turn % 64 == 0 { floor.exp() } else { ratio * (1.0 + self.growth) };
            let (top, top_ratio) = (floor + self.interval, ratio * (1.0 + self.growth));
            let next = if top >= end { to } else { family.inverse(top, top_ratio, at).clamp(at, to) };
            let next_steep = family.steepness(next);
            let next_slope = family.slope(next, top_ratio);
            let whole = !slope.is_nan() && next < to && floor.abs() < MAX_RATIO;
            let change = (next - at) * steep.max(next_steep);
            match rate {
                Some(rate) if whole && change <= MIDDLING => {
                    self.add_exponential(family, index, ratio, [at, next], rate);
                }
                None if whole && change <= NARROW => {
                    self.add_narrow(family, index, ratio, [at, next], [slope, next_slope]);
                }
                _ => self.integrate(family, index, floor, at, next),
            }
            if next >= to {
                return;
            }
            (at, steep, slope) = (next, next_steep, next_slope);
            index += 1;
        }
        self.integrate(family, index, index as f64 * self.interval, at, to);
    }

    /// A full cell in which everything is nearly linear: two points, the loss between both ends by Hermite's cubic.
    ///
    /// The cubic errs by width³·steepness³/384 of a cell in where a mass is shared, and by nothing in how much it is.
    fn add_narrow<F: Family>(&mut self, family: &F, index: i64, ratio: f64, [from, to]: [f64; 2], slopes: [f64; 2]) {
        let [(node, _)] = TWO_POINTS;
        let half = 0.5 * (to - from);
        let densities = family.q_pair(from + half, node * half);
        let [start, end] = slopes.map(|slope| 2.0 * half * slope);
        let (mut low, mut high) = (0.0, 0.0);
        for (density, u) in densities.into_iter().zip([0.5 - 0.5 * node, 0.5 + 0.5 * node]) {
            let (v, mass) = (1.0 - u, half * density);
            let above = u * v * v * start + u * u * (3.0 - 2.0 * u) * self.interval - u * u * v * end;
            let up = (small_exp_m1(above) / self.growth).clamp(0.0, 1.0);
            low += mass * (1.0 - up);
            high += mass * up;
        }
        self.put(index, ratio, low, high);
    }

    /// A full cell of a family with e^loss = a + b·e^(rate·t): three points.
    ///
    /// Of the mass at t the share (e^(rate·(t − from)) − 1)/(e^(rate·(to − from)) − 1) goes up, for any a and b: the loss
    /// itself is not needed, and nothing is interpolated. The quadrature errs as [`Cells::integrate`] does.
    fn add_exponential<F: Family>(&mut self, family: &F, index: i64, ratio: f64, [from, to]: [f64; 2], rate: f64) {
        let [(node, outer), (_, inner)] = THREE_POINTS;
        let half = 0.5 * (to - from);
        let densities = family.q_triple(from + half, node * half);
        let whole = small_exp_m1(2.0 * half * rate).recip();
        // The point in the middle is there once, with both of its halves of a weight.
        let points = [(1.0 - node, outer), (1.0, 2.0 * inner), (1.0 + node, outer)];
        let (mut low, mut high) = (0.0, 0.0);
        for (density, (place, weight)) in densities.into_iter().zip(points) {
            let mass = weight * half * density;
            let up = (small_exp_m1(place * half * rate) * whole).clamp(0.0, 1.0);
            low += mass * (1.0 - up);
            high += mass * up;
        }
        self.put(index, ratio, low, high);
    }

    /// Q-masses at grid point `index`, where e^loss is `ratio`, and at the next.
    fn put(&mut self, index: i64, ratio: f64, low: f64, high: f64) {
        let cell = usize::try_from(index.saturating_sub(self.first)).ok();
        let slots = cell.and_then(|c| Some((self.p.get_mut(c..c + 2)?, self.q.get_mut(c..c + 2)?)));
        if let Some(([p_low, p_high], [q_low, q_high])) = slots {
            *q_low += low;
            *q_high += high;
            // At a grid point P is e^loss times Q.
            *p_low += low * ratio;
            *p_high += high * ratio * (1.0 + self.growth);
        }
    }

    fn integrate<F: Family>(&mut self, family: &F, index: i64, floor: f64, from: f64, to: f64) {
        let width = to - from;
        if width <= 0.0 {
            return;
        }
        let change = width * family.steepness(from).max(family.steepness(to));
        let (points, pieces): (&[(f64, f64)], f64) = if change <= NARROW {
            (&TWO_POINTS, 1.0)
        } else if change <= MIDDLING {
            (&THREE_POINTS, 1.0)
        } else {
            (&SIX_POINTS, (change / WIDE).ceil().clamp(1.0, MAX_PIECES))
        };
        let half = 0.5 * width / pieces;
        for piece in 0..pieces as u32 {
            let middle = (2.0 * f64::from(piece) + 1.0).mul_add(half, from);
            for &(node, weight) in points {
                for t in [middle - node * half, middle + node * half] {
                    let (loss, ln_q) = (family.loss(t), family.ln_q(t));
                    self.share(index, loss - floor, weight * half * (ln_q + loss).exp(), weight * half * ln_q.exp());
                }
            }
        }
    }

    /// Shares masses between grid point `index` and the next, `above` being how far the loss is above the first.
    fn share(&mut self, index: i64, above: f64, p: f64, q: f64) {
        let q_up = (above.exp_m1() / self.growth).clamp(0.0, 1.0);
        let p_up = (q_up * (self.interval - above).exp()).clamp(0.0, 1.0);
        let cell = usize::try_from(index.saturating_sub(self.first)).ok();
        let slots = cell.and_then(|c| Some((self.p.get_mut(c..c + 2)?, self.q.get_mut(c..c + 2)?)));
        if let Some(([p_low, p_high], [q_low, q_high])) = slots {
            *p_low += p * (1.0 - p_up);
            *p_high += p * p_up;
            *q_low += q * (1.0 - q_up);
            *q_high += q * q_up;
        } else {
            self.add_infinite(p, q);
        }
    }

    /// The distribution of ln dP/dQ under P.
    pub(super) fn forward(&self) -> Pmf {
        trimmed(self.first, self.p.clone(), self.p_only, self.left)
    }

    /// The distribution of ln dQ/dP under Q.
    pub(super) fn reverse(&self) -> Pmf {
        let mass = self.q.iter().rev().copied().collect::<Vec<_>>();
        let last = self.first.saturating_add(self.q.len() as i64 - 1);
        trimmed(-last, mass, self.q_only, self.left)
    }
}

/// e^x − 1, by a series where its terms are enough: x⁴/120 and x⁸/362880 are left out, relative.
fn small_exp_m1(x: f64) -> f64 {
    if x.abs() > MIDDLING {
        return x.exp_m1();
    }
    let fifth = if x.abs() <= 5e-4 {
        0.0
    } else {
        x * (1.0 / 120.0 + x * (1.0 / 720.0 + x * (1.0 / 5040.0 + x * (1.0 / 40_320.0))))
    };
    x * (1.0 + x * (0.5 + x * (1.0 / 6.0 + x * (1.0 / 24.0 + fifth))))
}

/// Without the empty cells above and nearly empty cells below, whose mass is rounded up to the first that is kept.
fn trimmed(first: i64, mut mass: Vec<f64>, infinity: f64, left: f64) -> Pmf {
    let used = mass.iter().rposition(|m| *m > 0.0).map_or(0, |last| last + 1);
    mass.truncate(used);
    let mut sum = 0.0;
    let kept = mass.iter().position(|m| {
        sum += m;
        sum > left
    });
    let cut = kept.unwrap_or(used.saturating_sub(1));
    let below: f64 = mass.drain(..cut).sum();
    if let Some(lowest) = mass.first_mut() {
        *lowest += below;
    }
    Pmf { first: first.saturating_add(cut as i64), mass, infinity }
}

impl Pmf {
    /// δ at an ε: the mass at +∞ plus Σ mass·(1 − e^(ε − loss)) over losses above ε.
    pub(super) fn delta(&self, interval: f64, epsilon: f64) -> f64 {
        let above = |(index, mass): (usize, &f64)| {
            let loss = (self.first + index as i64) as f64 * interval;
            if loss > epsilon { -(epsilon - loss).exp_m1() * mass } else { 0.0 }
        };
        (self.infinity + self.mass.iter().enumerate().map(above).sum::<f64>()).min(1.0)
    }

    /// The smallest ε ≥ 0 with δ(ε) ≤ `delta`, or infinity.
    pub(super) fn epsilon(&self, interval: f64, delta: f64) -> f64 {
        if self.infinity > delta {
            return f64::INFINITY;
        }
        // `upper` is the P-mass above, `lower` the same weighted with e^(current − loss), so that nothing overflows.
        let (mut upper, mut lower) = (self.infinity, 0.0);
        let decay = (-interval).exp();
        for (index, mass) in self.mass.iter().enumerate().rev() {
            let loss = (self.first + index as i64) as f64 * interval;
            // δ at this grid point: the point itself contributes nothing.
            lower *= decay;
            if upper - lower > delta || loss < 0.0 {
                return solve(upper, lower / decay, loss + interval, delta);
            }
            upper += mass;
            lower += mass;
        }
        solve(upper, lower, self.first as f64 * interval, delta)
    }
}

/// The ε at or below `loss` with upper − e^(ε − loss)·lower = delta, not negative.
pub(super) fn solve(upper: f64, lower: f64, loss: f64, delta: f64) -> f64 {
    if upper <= delta { 0.0 } else { (loss + ((upper - delta) / lower).ln()).max(0.0) }
}
