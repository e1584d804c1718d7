//! The built binary, as people run it: real processes, real files, real sockets on this machine.
//!
//! What the rooms promise one by one is tested there; here they meet. Each test makes a federation of its own in cargo's
//! folder for tests, waits for conditions and never for a time to pass, and stops its processes also when it fails.
//! Nothing here measures speed. The noise is real, so tests of numbers have a false-alarm rate, which they state.
//!
//! The `cfg(test)` is always true here; it tells the lints that these are tests, helpers included.

#[cfg(test)]
mod asking;
#[cfg(test)]
mod by_hand;
#[cfg(test)]
mod calculator;
#[cfg(test)]
mod demo;
#[cfg(test)]
mod files;
#[cfg(test)]
mod killed;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod people;
#[cfg(test)]
mod sandbox;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod uploads;
