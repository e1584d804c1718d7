//! What was agreed: from a signed agreement to Cedar policies to a [`Permit`], and the one door through which a
//! [`Release`] is made.
//!
//! Three rooms:
//!
//! - *Drafting* ([`template`], [`parse`], [`Draft::resolve`], [`describe`]): people write TOML, compare fingerprints and
//!   read back in plain words what they are about to sign.
//! - *Deciding* ([`compile`], [`Policy::decide`]): an agreement becomes one Cedar `permit` and one named `forbid` per
//!   clause, so that a refusal lists every clause that fails. Evidence that a task passed is a value, [`Permit`].
//! - *Releasing* ([`Release::make`], [`verify_release`]): a release is made only from a total that went through the
//!   secure sum, a permit, and the signed receipts of all survivors; anyone repeats the checks from the document alone.
//!
//! Cedar is an authorisation language with a typed validator and a machine-checked semantics (Cutler et al. 2024,
//! "Cedar: A New Language for Expressive, Fast, Safe, and Analyzable Authorization", OOPSLA).
//!
//! Does not: price anything (`query`, `dp`), keep accounts (`dp`), read rows (`engine`), send or store anything. It
//! holds no secret. Clock and documents are handed in.
//!
//! Assumes: whoever asks is hostile, and so may be the hub; what is handed in as [`Verified`] was opened with the right
//! keys, for which [`open_agreement`] and [`open_task`] are the safe way.
//!
//! [`Verified`]: cohortium_messages::Verified

mod clause;
mod compile;
mod decide;
mod describe;
mod draft;
#[cfg(test)]
mod fixtures;
mod release;
mod template;

pub use clause::Clause;
pub use compile::{CompileError, MAX_DATASETS, MAX_RESEARCHERS, Policy, compile};
pub use decide::{Denial, OpenError, Permit, Request, open_agreement, open_task};
pub use describe::describe;
pub use draft::{Draft, DraftError, parse};
pub use release::{ReceiptEvidence, Release, ReleaseError, verify_release};
pub use template::template;
