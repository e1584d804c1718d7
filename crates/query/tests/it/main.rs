//! What `query` promises, tested through its public functions: cases in text files, and random ones.
//!
//! The `cfg(test)` is always true here; it tells the lints that these are tests, helpers included.

#[cfg(test)]
mod answers;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod random;
#[cfg(test)]
mod tampering;
#[cfg(test)]
mod text;
