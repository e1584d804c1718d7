//! What may be masked in an exact round: values that the owner's disclosure control has cleared.
//!
//! An exact sum has no noise to protect who is in it, so each node must have looked at its own cells before they are
//! masked: enough persons in each, none that dominates (Hundepool et al. 2012, *Statistical Disclosure Control*,
//! chapter 4). The room that looks is not built. Until it is, [`Cleared`] has no value, and a round whose mode is exact is
//! refused when it begins, by members and hub.
//!
//! Does not: clear anything.

/// Values that may be masked as they are. Without a variant, so that the compiler knows what this page says: there is none.
/// The one way to make one will belong to the room that checks.
///
/// ```compile_fail,E0599
/// let cleared = cohortium_mpc::Cleared::new(vec![1]);
/// ```
pub enum Cleared {}
