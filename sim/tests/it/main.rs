//! The federation's promises, tried on whole worlds: right answers, noise as stated, crashes at every commit, a hub
//! that cheats, refusals that cost nothing, neighbours that cannot be told apart, and an audit that notices one byte.
//!
//! Every world prints its seed; the same seed is the same world.
//!
//! The `cfg(test)` is always true here; it tells the lints that these are tests, helpers included.

#[cfg(test)]
mod amendments;
#[cfg(test)]
mod answers;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod common;
#[cfg(test)]
mod crashes;
#[cfg(test)]
mod desk;
#[cfg(test)]
mod dropouts;
#[cfg(test)]
mod governance;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod hostile_hub;
#[cfg(test)]
mod house;
#[cfg(test)]
mod neighbours;
#[cfg(test)]
mod noise;
#[cfg(test)]
mod one_member;
#[cfg(test)]
mod order;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod repairs;
#[cfg(test)]
mod review;
#[cfg(test)]
mod schedules;
#[cfg(test)]
mod spoken;
#[cfg(test)]
mod statistics;
#[cfg(test)]
mod uploads;
#[cfg(test)]
mod watching;
