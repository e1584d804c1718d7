//! A wall made of a type: what was computed from rows and has no noise yet cannot be shown.
//!
//! The idea is information-flow labelling by an opaque wrapper (Russo, Claessen, Hughes 2008, "A library for
//! light-weight information-flow security in Haskell"). Anyone may put a value in; only this crate takes it out,
//! and it does so only to add noise.
//!
//! It does not stop code that has the value *before* wrapping it, nor a debugger. The adversary it is made for
//! is our own haste: a log line, an error text, a derived `Serialize`.

/// A value computed from rows and not yet noised.
///
/// Promise: given a value, returns a box out of which it comes only with noise on it, or as a noisy choice. It has no
/// `Debug`, `Display`, `Serialize`, `Deref`, `Clone` or comparison. By type; shown by the examples below. How much the
/// noise hides is for its caller to choose and for the account to price: a generator whose output is known, a seed
/// that is known, or a variance of 2^−40 hides nothing.
///
/// Making one and asking for its public shape is fine:
///
/// ```
/// let raw = cohortium_dp::Raw::new(vec![1i64, 2, 3]);
/// assert_eq!(raw.len(), 3);
/// ```
///
/// Printing it does not compile:
///
/// ```compile_fail,E0277
/// let raw = cohortium_dp::Raw::new(vec![1i64, 2, 3]);
/// println!("{:?}", raw);
/// ```
///
/// ```compile_fail,E0277
/// let raw = cohortium_dp::Raw::new(7i64);
/// println!("{}", raw);
/// ```
///
/// Serialising it does not compile:
///
/// ```compile_fail,E0277
/// let raw = cohortium_dp::Raw::new(vec![1i64, 2, 3]);
/// let text = serde_json::to_string(&raw);
/// ```
///
/// Reaching inside does not compile:
///
/// ```compile_fail,E0616
/// let raw = cohortium_dp::Raw::new(7i64);
/// let seven = raw.0;
/// ```
///
/// Neither does comparing, which would leak a value by bisection:
///
/// ```compile_fail,E0369
/// let raw = cohortium_dp::Raw::new(7i64);
/// let seven = raw == cohortium_dp::Raw::new(7i64);
/// ```
#[must_use = "a raw value that is dropped cost a reading of the rows"]
pub struct Raw<T>(T);

impl<T> Raw<T> {
    /// Seals a value. There is no way back outside this crate.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Takes the value out. For this crate only: whoever calls it must add the noise before returning.
    pub(crate) fn into_inner(self) -> T {
        self.0
    }
}

impl Raw<Vec<i64>> {
    /// Number of cells. The shape follows from the plan, not from the rows, so it is public.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are no cells.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}
