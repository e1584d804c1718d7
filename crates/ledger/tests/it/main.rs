//! What others may show a log's readers and witnesses, and what becomes of it.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    reason = "in a test a panic is a finding; helpers count as tests"
)]

mod cosignatures;
mod hostile;
mod policies;
mod proofs;
mod witnesses;
mod world;
