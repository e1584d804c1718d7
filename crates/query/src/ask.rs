//! What the researcher is willing to pay: from ε, which people agree on, to ρ, which a plan carries.
//!
//! ε is a statement about a whole account at one δ and does not add up; zero-concentrated ρ (Bun and Steinke 2016) is
//! what one vector of Gaussian noise costs. The way from one to the other is the account's own conversion, turned
//! round by bisection in integers, so that "this query costs ε = 1" means what the account will say. Does not: charge
//! or decide anything.

use cohortium_dp::price::{ORDERS, epsilon};
use cohortium_dp::{Curve, NanoNats};
use cohortium_messages::Decimal;

/// What goes into a plan beside the SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ask {
    /// The zero-concentrated price ρ at each node; see [`rho_for_epsilon`].
    pub rho: NanoNats,
    /// 0, or which repetition: another draw of the same plan pays again.
    pub draw: u32,
}

/// Why an ε has no ρ. The researcher must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// δ is no probability.
    #[error("delta = {0} is out of range: it must be above 0 and below 1")]
    Delta(Decimal),
    /// ε is zero, negative, or too small for any price above zero.
    #[error("epsilon = {epsilon} is too small: at delta = {delta} every query costs more; ask for a larger epsilon")]
    TooSmall {
        /// The ε asked for.
        epsilon: Decimal,
        /// The δ.
        delta: Decimal,
    },
}

/// The largest ρ that, spent alone, costs at most `epsilon` at `delta`.
///
/// Promise: a plan that carries the result has `facts().epsilon_micro` at most ⌈ε·10^6⌉ at the same δ. Argued: the
/// price that `check` derives is the linear curve of ρ, stretched by what the lattice costs and rounded up per order;
/// with the scale that `check` chooses the stretch is below 10^-16, so the two units of slack per order cover both.
///
/// # Errors
/// [`AskError`] when `delta` is not between 0 and 1, or `epsilon` is smaller than what the least price costs.
pub fn rho_for_epsilon(epsilon: Decimal, delta: Decimal) -> Result<NanoNats, AskError> {
    if !(Decimal::ZERO < delta && delta < Decimal::ONE) {
        return Err(AskError::Delta(delta));
    }
    let affordable = |rho: u64| cost(rho, delta.to_f64()) <= epsilon.to_f64() * (1.0 - HAIR);
    if !affordable(1) {
        return Err(AskError::TooSmall { epsilon, delta });
    }
    // Invariant: `low` is affordable, `high` is not (the largest value stands for an infinite price).
    let (mut low, mut high) = (1, NanoNats::UNBOUNDED.get());
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if affordable(middle) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok(NanoNats::new(low))
}

/// Units of 10^-9 that every order may cost more than α·ρ: one for rounding up, one for the lattice.
const ROUNDING: u128 = 2;

/// So that ε counted in millionths and rounded up is not one too many because of a last bit of floating point.
const HAIR: f64 = 1e-12;

/// ε of the linear curve α·ρ, with the rounding of a price on top.
fn cost(rho_nano: u64, delta: f64) -> f64 {
    let at_order = |(numerator, denominator): (u64, u64)| {
        let nano = (u128::from(rho_nano) * u128::from(numerator)).div_ceil(u128::from(denominator)) + ROUNDING;
        u64::try_from(nano).map_or(NanoNats::UNBOUNDED, NanoNats::new)
    };
    epsilon(&Curve::new(ORDERS.map(at_order)), delta)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decimal(text: &str) -> Decimal {
        text.parse().unwrap()
    }

    #[test]
    fn the_result_is_the_last_affordable_price() {
        for (asked, delta) in [
            ("0.05", "0.000001"),
            ("0.5", "0.000001"),
            ("1", "0.000001"),
            ("1", "0.000000001"),
            ("8", "0.00001"),
            ("1000000", "0.5"),
        ] {
            let rho = rho_for_epsilon(decimal(asked), decimal(delta)).unwrap().get();
            let delta = decimal(delta).to_f64();
            assert!(cost(rho, delta) <= decimal(asked).to_f64(), "{asked}");
            // One more, and a billionth for what HAIR gives away.
            assert!(cost(rho + 1 + rho / 1_000_000_000, delta) > decimal(asked).to_f64(), "{asked}");
        }
    }

    /// Known value: ρ = 0.1 costs ε = 2.142 at δ = 10^-6 over all real orders; the grid of orders costs up to 3 % more.
    #[test]
    fn agrees_with_the_known_conversion() {
        let rho = rho_for_epsilon(decimal("2.142"), decimal("0.000001")).unwrap().as_nats();
        assert!((0.094..=0.1001).contains(&rho), "{rho}");
    }

    #[test]
    fn what_cannot_be_paid_is_refused() {
        for bad in ["0", "-1", "0.000001"] {
            assert!(
                matches!(rho_for_epsilon(decimal(bad), decimal("0.000001")), Err(AskError::TooSmall { .. })),
                "{bad}"
            );
        }
        for bad in ["0", "1", "-0.5", "2"] {
            assert!(matches!(rho_for_epsilon(Decimal::ONE, decimal(bad)), Err(AskError::Delta(_))), "{bad}");
        }
    }
}
