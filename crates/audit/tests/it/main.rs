//! The audit from outside: good logs and bad ones, the evidence that is written, the page that is shown.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in a test a panic is a finding; helpers count as tests"
)]

mod agreements;
mod audit;
mod export;
mod hostile;
mod incident;
mod page;
mod people;
mod world;
