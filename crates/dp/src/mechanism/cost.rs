//! Rényi curves of the mechanisms here, as exact integers on the account's grid, rounded up.
//!
//! Three families are enough. Let a = exp(−ε/Δ) and r = a^(2α−1), α an order of [`ORDERS`].
//!
//! * **Discrete Laplace** of scale t, shifted by Δ (ε = Δ/t). Summing p(x)^α·p(x−Δ)^(1−α) in its three pieces gives
//!   exactly R_α = ε + ln(Q)/(α−1) with 1 − Q = (a − g·r − (1−g)·r^Δ)/(1 + a) and g = (1−a)/(1−r). As a function of Δ
//!   the sum is A·a^((1−α)Δ) + B·a^(αΔ) with A, B > 0, so R_α is convex in Δ and zero at zero: of all ways to spread an
//!   L1 sensitivity over cells, one cell is the worst. Proven here; the continuous form is Mironov 2017, Proposition 6.
//! * **Anything ε-private** is a post-processing of randomised response (Kairouz, Oh, Viswanath 2015), whose
//!   curve is the one above at Δ = 1.
//! * **Concentrated**: R_α ≤ ρ·α (Bun and Steinke 2016): ρ = Δ²/2σ² for discrete Gaussians (Canonne, Kamath, Steinke
//!   2020, Theorem 4), ρ = ε²/8 for choices of bounded range (Cesar and Rogers 2021).
//!
//! Does not: know sensitivities. They are arguments.

use dashu::integer::UBig;

use super::fixed::{BITS, Bounds, ceil_div, exp_neg, minus, mul_above, neg_ln_one_minus_below, one};
use crate::price::{AttoDelta, Curve, GRID_VERSION, NanoNats, ORDERS, Price};

/// Units of [`NanoNats`] in one nat.
pub(super) const NANO: u64 = 1_000_000_000;
/// Units of [`AttoDelta`] in one.
pub(super) const ATTO: u64 = 1_000_000_000_000_000_000;

/// A price without δ.
pub(super) fn price_of(curve: Curve) -> Price {
    Price { curve, delta: AttoDelta::ZERO, version: GRID_VERSION }
}

/// The curve of `times` releases that are each (num/den)-private.
pub(super) fn pure_curve(num: &UBig, den: &UBig, times: u64) -> Curve {
    laplace_curve(num, den, 1, times)
}

/// The curve of `times` discrete Laplace vectors of L1 sensitivity `shift` ≥ 1 and scale shift·den/num, so that each
/// is (num/den)-private.
pub(super) fn laplace_curve(num: &UBig, den: &UBig, shift: u64, times: u64) -> Curve {
    let step_den = den * shift;
    let a = exp_neg(num, &step_den);
    let at_order = |(alpha_num, alpha_den): (u64, u64)| {
        let twice_less_one = 2 * alpha_num - alpha_den;
        let r = exp_neg(&(num * twice_less_one), &(&step_den * alpha_den));
        let r_shift = exp_neg(&(num * twice_less_one), &(den * alpha_den)).upper;
        let log = neg_ln_one_minus_below(&below_one(&a, &r, &r_shift));
        // times·(num/den − log·alpha_den/(alpha_num − alpha_den)), over one denominator; rounding up is once, here.
        let spread = alpha_num - alpha_den;
        let gain = log * den * alpha_den;
        let cost = minus(&((num * spread) << BITS), &gain) * times * NANO;
        nano_above(cost, (den * spread) << BITS)
    };
    Curve::new(ORDERS.map(at_order))
}

/// The curve ρ·α with ρ = num/den.
pub(super) fn concentrated_curve(num: &UBig, den: &UBig) -> Curve {
    let at_order = |(alpha_num, alpha_den): (u64, u64)| nano_above(num * alpha_num * NANO, den * alpha_den);
    Curve::new(ORDERS.map(at_order))
}

/// The smaller of two upper bounds at every order.
pub(super) fn smaller(a: &Curve, b: &Curve) -> Curve {
    let mut values = *a.orders();
    for (value, other) in values.iter_mut().zip(b.orders()) {
        *value = (*value).min(*other);
    }
    Curve::new(values)
}

/// num/den nats, rounded up.
pub(super) fn nano_above(num: UBig, den: UBig) -> NanoNats {
    u64::try_from(ceil_div(num, den)).map_or(NanoNats::UNBOUNDED, NanoNats::new)
}

/// A probability in units of 2^−320 as δ, rounded up; `None` above what an account can hold.
pub(super) fn delta_above(p: &UBig) -> Option<AttoDelta> {
    let atto = u64::try_from(ceil_div(p * ATTO, one())).ok()?;
    AttoDelta::new(atto).ok()
}

/// A lower bound of 1 − Q, at most 1/2.
fn below_one(a: &Bounds, r: &Bounds, r_shift: &UBig) -> UBig {
    let (narrow, wide) = (minus(&one(), &r.upper), minus(&one(), &r.lower));
    if narrow.is_zero() {
        return UBig::ZERO;
    }
    let share_lower = (minus(&one(), &a.upper) << BITS) / wide;
    let share_upper = ceil_div(minus(&one(), &a.lower) << BITS, narrow).min(one());
    let taken = mul_above(&share_upper, &r.upper) + mul_above(&minus(&one(), &share_lower), r_shift);
    (minus(&a.lower, &taken) << BITS) / (one() + &a.upper)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// R_α of the discrete Laplace, summed in logarithms.
    fn summed(epsilon: f64, shift: i64, alpha: f64) -> f64 {
        let rate = epsilon / shift as f64;
        let norm = ((1.0 - (-rate).exp()) / (1.0 + (-rate).exp())).ln();
        let r = (50.0 / rate) as i64;
        let log = |x: i64| norm - rate * x.abs() as f64;
        let terms: Vec<f64> = (-r..=r + shift).map(|x| alpha * log(x) + (1.0 - alpha) * log(x - shift)).collect();
        let top = terms.iter().copied().fold(f64::MIN, f64::max);
        (top + terms.iter().map(|t| (t - top).exp()).sum::<f64>().ln()) / (alpha - 1.0)
    }

    #[test]
    fn laplace_curves_are_the_summed_divergence_rounded_up() {
        for (num, den, shift) in [(1u64, 1u64, 1u64), (1, 10, 1), (3, 1, 4), (1, 100, 3), (7, 2, 1), (1, 3, 20)] {
            let curve = laplace_curve(&UBig::from(num), &UBig::from(den), shift, 1);
            for ((alpha_num, alpha_den), cost) in ORDERS.iter().zip(curve.orders()) {
                let truth = summed(num as f64 / den as f64, shift as i64, *alpha_num as f64 / *alpha_den as f64);
                let cost = cost.as_nats();
                assert!(
                    cost >= truth - 1e-11 && cost <= truth + 1.1e-9,
                    "{num}/{den} {shift} α {alpha_num}: {cost} {truth}"
                );
            }
        }
    }

    #[test]
    fn curves_are_below_the_known_bounds_and_never_above_epsilon() {
        for (num, den) in [(1u64, 1_000_000u64), (1, 1000), (1, 2), (10, 1), (300, 1)] {
            let (n, d) = (UBig::from(num), UBig::from(den));
            let (pure, zcdp) = (pure_curve(&n, &d, 1), concentrated_curve(&(&n * &n), &(&d * &d * 2u64)));
            for ((p, z), order) in pure.orders().iter().zip(zcdp.orders()).zip(ORDERS) {
                assert!(p <= z && *p <= nano_above(&n * NANO, d.clone()), "{num}/{den} at {order:?}: {p} {z}");
            }
        }
    }
}
