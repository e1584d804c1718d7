//! Computing together without showing: how organisations add up vectors so that nobody sees any one of them.
//!
//! The protocol is that of Bonawitz, Ivanov, Kreuter, Marcedone, McMahan, Patel, Ramage, Segal, Seth 2017, "Practical
//! Secure Aggregation for Privacy-Preserving Machine Learning", section 4, in the variant against a malicious server
//! (figure 4, with the consistency check), on the complete graph, for 2 to 100 organisations whose keys are pinned by
//! a signed agreement. What differs from the paper: pairwise secrets are agreed once and ratcheted instead of per
//! round; a drop-out exposes the mask keys of one round instead of a key-agreement key; every key is bound to the
//! round's context; what is masked must be noised, and noise in excess is taken off again (Jiang, Wang, Chen 2024).
//! Wire bytes are specified in `docs/spec/secure-sum.md`.
//!
//! | module | one line |
//! |---|---|
//! | `pairwise` | a secret between two organisations, from X25519 and ML-KEM-768 |
//! | `chain` | its ratchet: one key per position of the log, each usable once |
//! | `shamir` | threshold sharing of 32-byte secrets |
//! | `keystream` | masks: AES-256 in counter mode, added into a vector in Z_2^32, Z_2^64 or Z_2^128 |
//! | `cleared` | what may be masked without noise: nothing yet |
//! | `member` | one organisation's side of a round |
//! | `coordinator` | the hub's side of a round |
//! | `unmask` | opening the sum, chunk by chunk |
//! | `sum` | what a carrier needs of these, or of another way to sum: [`SumMember`], [`SumHub`] |
//!
//! The way of a vector: `dp::add_noise` → `Noised` → [`Member::mask`] → [`Masked`] → [`Coordinator::accept_masked`] →
//! [`Coordinator::total`] → [`Total`]; or, with vectors kept elsewhere, [`Coordinator::accept_masked_stored`] →
//! [`Coordinator::total_of_stored`]. A vector that does not fit in memory: [`Member::mask_stream_of_noised`] →
//! [`MaskedStream`] → [`Coordinator::accept_masked_stored`] → [`Coordinator::unmasker`] → [`Unmasker::excess_stream`] →
//! [`Unmasker::unmask`].
//!
//! **Adversary.** The hub and up to `c` members are malicious and pool what they know; the network is theirs. They
//! may spoil a round or the sum (a member may always lie about its own input), never learn more than the noised sum
//! over one survivor set, that set, the length and the timing. Standing: argued, not proven, in the specification.
//!
//! **What this room does not do.** No clock, no socket, no file, no signature checks (it takes
//! [`cohortium_messages::Verified`] as evidence that somebody did), no pricing, no check that an input is honest. It
//! refuses to mask a value with which the sum could wrap around ([`cohortium_messages::Ring::node_bound`]); that this
//! never happens to an honest member is the planner's part ([`cohortium_messages::Ring::for_inputs`]).

mod chain;
mod cleared;
mod context;
mod coordinator;
mod error;
mod keystream;
mod member;
mod pairwise;
mod schedule;
mod shamir;
mod state;
mod sum;
mod unmask;

pub use chain::{Chain, MAX_JUMP};
pub use cleared::Cleared;
pub use coordinator::{Coordinator, Disagreement, Inconsistency, Total};
pub use error::MpcError;
pub use keystream::CHUNK_ELEMENTS;
pub use member::{Masked, MaskedStream, Member};
pub use pairwise::{accept, encapsulate};
pub use sum::{Answer, FromHub, FromMember, SumHub, SumMember, ToHub, ToMember};
pub use unmask::{Excess, ExcessStream, Unmasker};
