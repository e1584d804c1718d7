//! What was paid so far, as a statement that holds at every moment at once.
//!
//! A filter promises (ε, δ) for an ε fixed in advance. Its gauge ([`super::Account::spent_epsilon`]) read as "what we have
//! seen so far is (gauge, δ)-private" promises more than is proven: the moment of reading and the prices before it may
//! have been chosen by the answers, so the gauge is a random level, and every level has a failure of its own. Rogers,
//! Roth, Ullman, Vadhan 2016 separate the two; Lécuyer 2021 buys the second by a union over a ladder of levels. Here it
//! comes without a ladder, from a supermartingale (Ville 1939; so used by Whitehouse, Ramdas, Rogers, Wu 2023):
//!
//! 1. Let P be the process on a dataset, P' on a neighbour, L_t the logarithm of P/P' of everything released up to step
//!    t, and ρ_t(α) the sum of the prices at order α of the runs released by then. A run's price is fixed before its noise
//!    is drawn, so E\[exp((α−1)(L_t − L_{t−1})) | past\] ≤ exp((α−1)(ρ_t(α) − ρ_{t−1}(α))) under P: that is what a Rényi
//!    divergence of α means. Hence M_t = exp((α−1)(L_t − ρ_t(α))) is a supermartingale under P that starts at 1.
//! 2. By Ville's inequality P\[∃t: M_t ≥ K/δ\] ≤ δ/K: but for probability δ/K, at *every* t,
//!    L_t < ρ_t(α) + ln(K/δ)/(α−1).
//! 3. Over the K orders of the grid: but for probability δ, at every t, L_t < min_α (ρ_t(α) + ln(K/δ)/(α−1)). That is the
//!    reading.
//!
//! So for every event S and every moment τ that the transcript decides, P\[S\] ≤ E'\[e^{reading at τ} ; S\] + δ: on
//! {reading ≤ ε}, whichever ε, this is (ε, δ). Reserved runs were not released, so `read` sums suffice; sums of what is
//! charged are never below them and are valid as well.
//!
//! The price of saying more is the plainer conversion: the reading is above the gauge by about
//! (ln α)/(α−1) − ln((α−1)/α) at the order α that decides: at δ = 1e-6, 0.09 at ε = 0.5, 0.15 at 1 and 0.25 at 2.
//!
//! Thresholded releases stand outside: each equals a Rényi-private one but for its own δ (approximate as in Bun, Steinke
//! 2016, section 8), their sum is held by `delta_thresholds`, and the statement holds with δ + `delta_thresholds`.
//!
//! Assumes that δ was chosen before anything was read: two readings at two δ fail together with the sum of both. The
//! reading of a study or researcher speaks of its own releases, as long as its choices depend on those alone.

use crate::price::{Curve, ORDER_COUNT, ORDERS};

/// A reading of the odometer for one scope, at the δ that was asked for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Odometer {
    /// ε of everything reserved, reading or spent: what stands against the scope even if all of it runs.
    pub epsilon_charged: f64,
    /// ε of what was read or spent: what may have been learned so far. The difference is reserved; costs do not add up
    /// in ε, so it is the cost of the reserved runs after what was read, not on their own.
    pub epsilon_read: f64,
}

/// ε at δ, valid at all times at once for sums of adaptively chosen prices.
///
/// Promise: given the sums of prices so far, returns a bound of the privacy loss of what they paid for that, but for
/// probability δ, holds at every moment of the account's life simultaneously; never less. Proven (module text); f64 with
/// the same allowance as [`crate::price::epsilon`]. Infinite unless 0 < δ < 1, zero for a curve of zeros.
pub(super) fn epsilon_at_all_times(curve: &Curve, delta: f64) -> f64 {
    if !(delta > 0.0 && delta < 1.0) {
        return f64::INFINITY;
    }
    if curve.orders().iter().all(|cost| cost.get() == 0) {
        return 0.0;
    }
    let failures = (ORDER_COUNT as f64).ln() - delta.ln();
    let at_order = |((num, den), cost): (&(u64, u64), &crate::price::NanoNats)| {
        let cost = if cost.is_unbounded() { f64::INFINITY } else { cost.as_nats() };
        cost + failures * *den as f64 / (num - den) as f64
    };
    let best = ORDERS.iter().zip(curve.orders()).map(at_order).fold(f64::INFINITY, f64::min);
    best * (1.0 + 1e-12) + 1e-12
}
