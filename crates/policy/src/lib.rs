//! What was agreed: from a signed agreement to Cedar policies to a [`Permit`], and the one door through which a
//! [`Release`] is made.
//!
//! Three rooms:
//!
//! - *Drafting* ([`template`], [`parse`], [`Draft::resolve`], [`describe`], [`lint`], [`diff`]): people write TOML,
//!   compare fingerprints, read back in plain words what they are about to sign, what to think about again, and what an
//!   amendment changes.
//! - *Deciding* ([`compile`], [`Policy::decide`]): an agreement becomes one Cedar `permit` and one named `forbid` per
//!   clause, so that a refusal lists every clause that fails. Evidence that a task passed is a value, [`Permit`]. What
//!   nodes then log about it is held against the same policy ([`Policy::read_statement`]).
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
//! # What does not compile
//!
//! The walls that are types. Each of these is a test; the error code says why it fails.
//!
//! ```compile_fail,E0451
//! use cohortium_messages::{Hash, Task, Timestamp, Verified};
//! use cohortium_policy::Permit;
//! fn forge(agreement: Hash, decided_at: Timestamp, priced: cohortium_query::Priced, task: Verified<Task>) -> Permit {
//!     Permit { agreement, decided_at, priced, task }
//! }
//! ```
//! ```compile_fail,E0451
//! fn forge(approvals: cohortium_policy::Approvals, permit: cohortium_policy::Permit) -> cohortium_policy::PermitHere {
//!     cohortium_policy::PermitHere { approvals, permit }
//! }
//! ```
//! ```compile_fail,E0308
//! fn read_rows(permit: &cohortium_policy::PermitHere) {}
//! fn at_the_hub(permit: cohortium_policy::Permit) {
//!     read_rows(&permit);
//! }
//! ```
//! ```compile_fail,E0451
//! use cohortium_messages::{Entry, PublicKey, Verified};
//! fn forge(entry: Verified<Entry>, key: PublicKey) -> cohortium_policy::Authored {
//!     cohortium_policy::Authored { entry, key }
//! }
//! ```
//! ```compile_fail,E0616
//! fn redirect(mut permit: cohortium_policy::Permit, agreement: cohortium_messages::Hash) {
//!     permit.agreement = agreement;
//! }
//! ```
//! ```compile_fail,E0277
//! fn needs_clone<T: Clone>() {}
//! needs_clone::<cohortium_policy::Permit>();
//! ```
//! ```compile_fail,E0277
//! fn needs_read<T: serde::de::DeserializeOwned>() {}
//! needs_read::<cohortium_policy::Release>();
//! ```
//! ```compile_fail,E0451
//! use cohortium_messages::{Envelope, Receipt, Verified};
//! fn forge(envelope: Envelope, receipt: Verified<Receipt>) -> cohortium_policy::ReceiptEvidence {
//!     cohortium_policy::ReceiptEvidence { envelope, receipt }
//! }
//! ```
//! ```compile_fail,E0451
//! fn forge(document: cohortium_messages::ReleaseDocument) -> cohortium_policy::Release {
//!     cohortium_policy::Release { document }
//! }
//! ```
//!
//! [`Verified`]: cohortium_messages::Verified

mod approval;
mod clause;
mod compile;
mod decide;
mod describe;
mod diff;
mod draft;
mod entries;
#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod fuzz;
mod identifiers;
#[cfg(test)]
mod interpreter;
mod lint;
mod log_policy;
#[cfg(test)]
mod random;
mod release;
mod statement;
mod template;
#[cfg(test)]
mod vectors;
pub mod watch;
pub mod words;

pub use approval::{Approval, Approvals, Automatic, SecondWord, approvals, may_still_say};
pub use clause::Clause;
pub use compile::{CompileError, Policy, compile};
pub use decide::{Denial, OpenError, Permit, PermitHere, Request, open_agreement, open_task};
pub use describe::describe;
pub use diff::{Change, Direction, diff};
pub use draft::{Draft, DraftError, parse};
pub use entries::{Authored, EntryError, Revoked, Stop, open_claimed, open_entry};
pub use lint::{Actor, Finding, Severity, lint};
pub use log_policy::{
    Included, InclusionError, LogPolicyError, LogTerms, agreed_log_policy, log_policy, log_terms, verify_inclusion,
};
pub use release::{ReceiptEvidence, Release, ReleaseError, verify_release};
pub use statement::{Grounds, Statement, StatementError};
pub use template::template;
