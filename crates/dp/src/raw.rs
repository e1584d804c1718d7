//! A wall made of a type: what was computed from rows and has no noise yet cannot be shown.
//!
//! The idea is information-flow labelling by an opaque wrapper (Russo, Claessen, Hughes 2008, "A library for
//! light-weight information-flow security in Haskell"). Anyone may put a value in; only this crate takes it out,
//! and it does so only to add noise.
//!
//! What is dropped is overwritten first (`zeroize`), so that it is not found later in memory that was given back. Copies
//! that a vector left behind when it grew, and those in registers and on the stack, are not reached.
//!
//! It does not stop code that has the value *before* wrapping it, nor a debugger. The adversary it is made for
//! is our own haste: a log line, an error text, a derived `Serialize`.

use std::collections::BTreeMap;

use zeroize::Zeroize;

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
pub struct Raw<T: Erase>(T);

impl<T: Erase> Raw<T> {
    /// Seals a value. There is no way back outside this crate.
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// Takes the value out. For this crate only: whoever calls it must add the noise before returning, in place or on a
    /// copy, and then erase the value.
    pub(crate) fn into_inner(mut self) -> T {
        core::mem::take(&mut self.0)
    }
}

impl<T: Erase> Drop for Raw<T> {
    fn drop(&mut self) {
        self.0.erase();
    }
}

/// What can be overwritten in place. The default is what stays where a value is taken out.
pub trait Erase: Default {
    /// Overwrites what is secret.
    fn erase(&mut self);
}

impl Erase for i64 {
    fn erase(&mut self) {
        self.zeroize();
    }
}

impl Erase for Vec<i64> {
    fn erase(&mut self) {
        self.zeroize();
    }
}

/// The numbers are overwritten; keys cannot be, they are dropped.
impl<K: Ord> Erase for BTreeMap<K, u64> {
    fn erase(&mut self) {
        self.values_mut().for_each(Zeroize::zeroize);
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

#[cfg(test)]
mod tests {
    use super::*;
    use core::cell::Cell;
    use std::rc::Rc;

    /// Counts how often it is erased while it holds something.
    #[derive(Default)]
    struct Witness(Option<Rc<Cell<u32>>>);

    impl Erase for Witness {
        fn erase(&mut self) {
            if let Some(seen) = &self.0 {
                seen.set(seen.get() + 1);
            }
        }
    }

    #[test]
    fn what_is_dropped_is_erased_and_what_is_taken_out_is_not() {
        let seen = Rc::new(Cell::new(0));
        drop(Raw::new(Witness(Some(Rc::clone(&seen)))));
        assert_eq!(seen.get(), 1);
        let taken = Raw::new(Witness(Some(Rc::clone(&seen)))).into_inner();
        assert!(seen.get() == 1 && taken.0.is_some());
    }

    #[test]
    fn erased_values_are_gone() {
        let (mut one, mut vector, mut map) = (7i64, vec![1i64, 2, 3], BTreeMap::from([("a", 5u64), ("b", 6)]));
        one.erase();
        vector.erase();
        map.erase();
        assert_eq!((one, vector.len()), (0, 0));
        assert!(map.len() == 2 && map.values().all(|count| *count == 0));
    }
}
