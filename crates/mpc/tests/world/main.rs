//! A federation in a box: all members and one hub of a secure sum, with the network between them, from one seed.
//!
//! Every message is bytes on a network that loses, repeats, reorders, delays and changes them; members crash before and
//! after what they do is durable, and start anew from what is; members lie and the hub is malicious. Inputs are
//! powers of two, so that the set that was summed can be read off the sum. After every schedule the promises of
//! `docs/spec/secure-sum.md` must hold: a right sum over exactly the agreed set with its variance as stated, or an
//! error that says who must act; and no honest member ever consented to two sets or opened both halves of a mask.
//!
//! In the manner of deterministic simulation (FoundationDB; Zhou et al. 2021): a failure is its seed. A seed that failed
//! becomes a test named `repro_…` in `schedules.rs`.
//!
//! The box knows a way to sum by the traits `SumMember` and `SumHub` and what `path` says of it. Masks in pairs are one; `additive`
//! is another, to show that there is room. Attacks, flips and malicious hubs are the masks' own.
//!
//! It does not search the state space: it samples it, `COHORTIUM_SCHEDULES` times (10,000 unless told).

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in a test a panic is a finding; helpers count as tests"
)]

mod additive;
mod attacks;
mod flips;
mod hostile;
mod hub;
mod node;
mod party;
mod path;
mod schedules;
