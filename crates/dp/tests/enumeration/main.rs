//! Every discrete mechanism, enumerated: is the difference between neighbours as small as the price says?
//!
//! A proof can be about another program. Here the code that decides is run on every value of the noise, weighted by its
//! exact probability, on neighbouring inputs; the two laws of what comes out are compared. For each claim this checks,
//! in both directions,
//!
//! * the hockey-stick divergence at ε against the δ promised, where (ε, δ) is promised;
//! * the same against the conversion of the price's curve, at δ from 1e-1 to 1e-9, plus the price's δ;
//! * the Rényi divergence itself at low orders, where there is no δ.
//!
//! `wrong.rs` holds mechanisms with a mistake that was made somewhere before; each must be flagged. What is left to a
//! statistical test, that `release` draws what is enumerated, is in `sampled.rs`.
//!
//! Limits: masses are `f64` and tails are cut below 1e-16, so that a violation below 1e-12 is not seen.

#[cfg(test)]
mod best;
#[cfg(test)]
mod choice;
#[cfg(test)]
mod law;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod sampled;
#[cfg(test)]
mod selection;
#[cfg(test)]
mod stateful;
#[cfg(test)]
mod wrong;
