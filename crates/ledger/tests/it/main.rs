//! What others may show a log's readers and witnesses, and what becomes of it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "in a test a panic is a finding; helpers count as tests"
)]

mod cosignatures;

mod policies;
mod proofs;
mod witnesses;
mod world;
