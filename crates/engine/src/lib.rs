//! Runs a plan over a node's own tables; DataFusion lives here and nowhere else.
//!
//! Three steps, each a module: a custodian's file becomes a typed [`Snapshot`] in which no row is wrong
//! ([`ingest_csv`]); what snapshot was used is committed to without saying what is in it ([`commitment`]); a plan that
//! `query` has checked and priced runs over the snapshot and gives sums ([`run`]).
//!
//! | what | promise | standing |
//! |---|---|---|
//! | [`run`] | the shape of the result, and whether there is one, do not depend on rows | argued in `run` |
//! | [`run`] | one person more or less changes the vector by at most the sensitivity that was priced | argued in `contribution`, tested on random rows |
//! | [`commitment`] | tells nothing about the rows to who lacks the salt | by HMAC-SHA256 |
//! | how long a run takes, how much memory it needs | depends on rows | no promise |
//!
//! **What leaves.** Only [`cohortium_dp::Raw`], which nobody but `dp` can open, to add noise. Errors and
//! [`RunOutcome::trouble`] are fixed sentences; [`IngestReport`] and [`IngestError`] are for the custodian's own screen.
//!
//! **What this crate does not do.** It adds no noise, prices nothing, asks no policy and keeps no account: whoever calls
//! [`run`] has paid before.
//!
//! **Adversary.** Whoever wrote the plan, and whoever owns a row and chose its values in order to be noticed. The
//! machine, its disk and its steward are trusted with the rows: they have them anyway.

mod contribution;
mod expression;
mod ingest;
mod run;
mod snapshot;
#[cfg(test)]
mod tests;

pub use ingest::{CellError, CellErrors, ColumnReport, CsvOptions, IngestError, IngestReport, ingest_csv};
pub use run::{RunError, RunOutcome, run};
pub use snapshot::{Snapshot, SnapshotError, commitment};

/// The most rows of one snapshot: with [`cohortium_query`]'s limits on what one person adds, no sum can leave `i64`.
pub const MAX_ROWS: u64 = 1 << 31;
