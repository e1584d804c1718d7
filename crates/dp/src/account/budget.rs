//! A promise (ε, δ), its caps at every Rényi order, and what one scope has charged against them.
//!
//! Caps are the inverse of the conversion from Rényi divergence to (ε, δ) (Canonne, Kamath, Steinke 2020, Proposition
//! 12; Balle et al. 2020, Theorem 21), exact and rounded down; why δ is divided over the orders is argued in the module
//! above. Does not know runs or entries.

use core::fmt;
use std::sync::LazyLock;

use dashu::float::FBig;
use dashu::float::round::mode::Down;
use dashu::integer::UBig;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::entry::{AccountEntry, EntryKind};
use super::odometer::{Odometer, epsilon_at_all_times};
use crate::price::{AttoDelta, Curve, NanoNats, ORDER_COUNT, ORDERS, Price, epsilon};

/// Largest ε of a budget, in units of 1e-9: a thousand nats promise nothing.
pub const MAX_EPSILON: NanoNats = NanoNats::new(1_000_000_000_000);

/// A promise (ε, δ), of which `delta_thresholds` is set aside for releases that hide keys below a threshold.
///
/// A budget may be so small that no order of the grid has a cap ([`Budget::caps`] are all `None`), for instance ε = 0.01
/// at δ = 1e-18: then it admits nothing, not even what costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BudgetFields")]
pub struct Budget {
    delta: AttoDelta,
    delta_thresholds: AttoDelta,
    epsilon: NanoNats,
}

impl Budget {
    /// A budget without thresholded releases.
    ///
    /// # Errors
    /// [`BudgetError`] if δ is zero or ε above [`MAX_EPSILON`].
    pub fn new(epsilon: NanoNats, delta: AttoDelta) -> Result<Self, BudgetError> {
        Self::with_thresholds(epsilon, delta, AttoDelta::ZERO)
    }

    /// A budget that sets `delta_thresholds` of its δ aside.
    ///
    /// # Errors
    /// [`BudgetError`] if nothing of δ is left for the conversion or ε is above [`MAX_EPSILON`].
    pub fn with_thresholds(
        epsilon: NanoNats,
        delta: AttoDelta,
        delta_thresholds: AttoDelta,
    ) -> Result<Self, BudgetError> {
        if epsilon > MAX_EPSILON {
            Err(BudgetError::Epsilon { epsilon })
        } else if delta <= delta_thresholds {
            Err(BudgetError::Delta)
        } else {
            Ok(Self { delta, delta_thresholds, epsilon })
        }
    }

    /// Total ε.
    pub fn epsilon(&self) -> NanoNats {
        self.epsilon
    }

    /// Total δ.
    pub fn delta(&self) -> AttoDelta {
        self.delta
    }

    /// δ set aside for thresholded releases.
    pub fn delta_thresholds(&self) -> AttoDelta {
        self.delta_thresholds
    }

    /// B_α: the largest divergence at each order that implies (ε, δ/K), in units of 1e-9, rounded down; `None` where
    /// an order can promise nothing.
    ///
    /// B_α = ε + ln(α/(α−1)) + (ln(δ/K) + ln α)/(α−1), inverse of the conversion in [`epsilon`]. Computed with 128
    /// bits and then lowered by one unit, so that it is the same on every machine and below the true value.
    pub fn caps(&self) -> [Option<u64>; ORDER_COUNT] {
        let delta_atto = u128::from(self.delta.get().saturating_sub(self.delta_thresholds.get()));
        let ln_delta_share = ln(delta_atto) - ln(1_000_000_000_000_000_000 * ORDER_COUNT as u128);
        ORDER_LOGS.each_ref().map(|order| {
            let nats =
                &order.ln_num - &order.ln_over + &order.inverse * (&ln_delta_share + &order.ln_num - &order.ln_den);
            let nano = real(u128::from(self.epsilon.get())) + nats * real(1_000_000_000) - real(1);
            u64::try_from(nano.floor().to_int().value()).ok()
        })
    }

    /// The δ at which one order's curve is converted: what is left after thresholds, divided over the orders.
    pub(super) fn delta_per_order(&self) -> f64 {
        (self.delta.as_probability() - self.delta_thresholds.as_probability()) / ORDER_COUNT as f64
    }
}

/// Why a budget makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BudgetError {
    /// ε promises nothing.
    #[error("custodian: epsilon {epsilon} is above the limit of {MAX_EPSILON}")]
    Epsilon {
        /// What was asked for.
        epsilon: NanoNats,
    },
    /// Nothing left to convert with.
    #[error("custodian: delta must be positive and above delta_thresholds")]
    Delta,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetFields {
    delta: AttoDelta,
    #[serde(default)]
    delta_thresholds: AttoDelta,
    epsilon: NanoNats,
}

impl TryFrom<BudgetFields> for Budget {
    type Error = BudgetError;
    fn try_from(fields: BudgetFields) -> Result<Self, BudgetError> {
        Self::with_thresholds(fields.epsilon, fields.delta, fields.delta_thresholds)
    }
}

/// Whose budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that touches the dataset.
    Dataset,
    /// One study's runs.
    Study(String),
    /// One researcher's runs.
    Researcher(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dataset => f.write_str("the dataset"),
            Self::Study(name) => write!(f, "study {name}"),
            Self::Researcher(name) => write!(f, "researcher {name}"),
        }
    }
}

/// One budget that does not suffice, in ε at that budget's own δ.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortfall {
    /// Whose budget.
    pub scope: Scope,
    /// Its total ε.
    pub epsilon_budget: f64,
    /// ε of what is spent or reserved.
    pub epsilon_charged: f64,
    /// ε if this run were admitted.
    pub epsilon_after: f64,
    /// Whether the δ set aside for thresholded releases falls short, too.
    pub delta_exceeded: bool,
}

impl Shortfall {
    /// What is left, in ε.
    pub fn epsilon_left(&self) -> f64 {
        (self.epsilon_budget - self.epsilon_charged).max(0.0)
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has epsilon {:.4} left of {:.4}, and this run would make it {:.4}",
            self.scope,
            self.epsilon_left(),
            self.epsilon_budget,
            self.epsilon_after
        )?;
        if self.delta_exceeded { f.write_str("; its delta for thresholds is exceeded") } else { Ok(()) }
    }
}

/// One scope's charges and, where it has a budget, its caps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Book {
    budget: Option<(Budget, Caps)>,
    /// Everything that is reserved, reading or spent.
    pub(super) charged: Totals,
    /// The part of it whose rows may have been read.
    pub(super) read: Totals,
}

/// B_α at every order; `None` where an order admits nothing.
type Caps = [Option<u64>; ORDER_COUNT];

impl Book {
    pub(super) fn with_budget(budget: Budget) -> Self {
        Self { budget: Some((budget, budget.caps())), ..Self::default() }
    }

    /// Charges or gives back what an entry says.
    pub(super) fn enter(&mut self, entry: &AccountEntry) {
        match entry.kind {
            EntryKind::Reserve => self.charged.charge(&entry.price, entry.rounds_affected()),
            EntryKind::Refund => self.charged.give_back(&entry.price, entry.rounds_affected()),
            EntryKind::Reading => self.read.charge(&entry.price, 1),
            EntryKind::Spend => {}
        }
    }

    /// Whether this price fits so many times on top of what is charged. A scope without a budget fits everything.
    pub(super) fn fits(&self, price: &Price, times: u32) -> bool {
        let Some((budget, caps)) = &self.budget else { return true };
        let after = self.charged.with(price, times);
        let within = |(sum, cap): (&u128, &Option<u64>)| cap.is_some_and(|cap| *sum <= u128::from(cap));
        after.orders.iter().zip(caps).any(within) && after.delta <= u128::from(budget.delta_thresholds.get())
    }

    /// What is missing to admit this price so many times; `None` if it fits.
    pub(super) fn shortfall(&self, scope: Scope, price: &Price, times: u32) -> Option<Shortfall> {
        let (budget, _) = self.budget.as_ref().filter(|_| !self.fits(price, times))?;
        let after = self.charged.with(price, times);
        Some(Shortfall {
            scope,
            epsilon_budget: budget.epsilon.as_nats(),
            epsilon_charged: self.spent_epsilon(),
            epsilon_after: epsilon(&after.curve(), budget.delta_per_order()),
            delta_exceeded: after.delta > u128::from(budget.delta_thresholds.get()),
        })
    }

    /// The smallest ε of a budget that would have admitted everything charged; infinite without a budget, whose δ it is.
    pub(super) fn spent_epsilon(&self) -> f64 {
        let delta = self.budget.as_ref().map_or(0.0, |(budget, _)| budget.delta_per_order());
        epsilon(&self.charged.curve(), delta)
    }

    pub(super) fn remaining_epsilon(&self) -> Option<f64> {
        let (budget, _) = self.budget.as_ref()?;
        Some((budget.epsilon.as_nats() - self.spent_epsilon()).max(0.0))
    }

    pub(super) fn odometer(&self, delta: f64) -> Odometer {
        Odometer {
            epsilon_charged: epsilon_at_all_times(&self.charged.curve(), delta),
            epsilon_read: epsilon_at_all_times(&self.read.curve(), delta),
        }
    }
}

/// Sums of charges, exact. A price is below 2^53, a schedule at most 2^18 of them and a book at most 2^20 reservations:
/// 2^91, so that sums do not overflow and a refund gives back exactly what was taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    orders: [u128; ORDER_COUNT],
    delta: u128,
}

impl Totals {
    /// Adds a price so many times. Saturating keeps it total; the bound above says that it never saturates.
    pub(super) fn charge(&mut self, price: &Price, times: u32) {
        let times = u128::from(times);
        for (sum, cost) in self.orders.iter_mut().zip(price.curve.orders()) {
            *sum = sum.saturating_add(u128::from(cost.get()).saturating_mul(times));
        }
        self.delta = self.delta.saturating_add(u128::from(price.delta.get()).saturating_mul(times));
    }

    /// Only for what was charged before, so nothing goes below zero; saturating keeps it total.
    pub(super) fn give_back(&mut self, price: &Price, times: u32) {
        let times = u128::from(times);
        for (sum, cost) in self.orders.iter_mut().zip(price.curve.orders()) {
            *sum = sum.saturating_sub(u128::from(cost.get()).saturating_mul(times));
        }
        self.delta = self.delta.saturating_sub(u128::from(price.delta.get()).saturating_mul(times));
    }

    /// For reports: an order beyond the range of [`NanoNats`] shows as unbounded.
    pub(super) fn curve(&self) -> Curve {
        Curve::new(self.orders.map(|sum| NanoNats::new(u64::try_from(sum).unwrap_or(u64::MAX))))
    }

    fn with(&self, price: &Price, times: u32) -> Self {
        let mut after = self.clone();
        after.charge(price, times);
        after
    }
}

type Real = FBig<Down>;
/// Bits carried in caps: their error is then far below one unit of 1e-9, by which they are lowered.
const PRECISION: usize = 128;

/// What the caps need of an order α = num/den: logarithms take most of the time, so they are taken once.
struct OrderLogs {
    ln_num: Real,
    ln_den: Real,
    /// ln(num − den).
    ln_over: Real,
    /// 1/(α−1).
    inverse: Real,
}

static ORDER_LOGS: LazyLock<[OrderLogs; ORDER_COUNT]> = LazyLock::new(|| {
    ORDERS.map(|(num, den)| {
        let (num, den) = (u128::from(num), u128::from(den));
        let over = num - den;
        OrderLogs { ln_num: ln(num), ln_den: ln(den), ln_over: ln(over), inverse: real(den) / real(over) }
    })
});

fn real(n: u128) -> Real {
    Real::from(UBig::from(n)).with_precision(PRECISION).value()
}

fn ln(n: u128) -> Real {
    real(n).ln()
}
