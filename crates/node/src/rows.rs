//! The one place where rows are read.
//!
//! Behind a trait, so that a simulated world can watch *when* rows are read and compare with what was durable then.

use cohortium_dp::Raw;
use cohortium_engine::Snapshot;
use cohortium_query::Priced;

use crate::home::Home;
use crate::node::{NodeError, own};
use crate::records::DatasetRecord;

/// Whoever can read an organisation's rows.
pub trait Rows: Send {
    /// Runs a priced plan over the rows of `dataset`.
    ///
    /// Promise: given a plan whose price is already durable in the account, returns clamped and capped integer sums of
    /// the shape the plan dictates, whatever the rows say; never anything that was not wrapped in [`Raw`].
    /// `bounding_key` orders persons' contributions and stays in this house.
    ///
    /// # Errors
    /// When the snapshot cannot be read at all, which does not depend on what the rows say.
    fn read(
        &mut self,
        dataset: &DatasetRecord,
        priced: &Priced,
        bounding_key: &[u8; 32],
    ) -> Result<Raw<Vec<i64>>, NodeError>;
}

/// The rows in a node's home, read by the engine.
pub struct HomeRows {
    home: Home,
}

impl HomeRows {
    /// The rows of `home`.
    #[must_use]
    pub const fn new(home: Home) -> Self {
        Self { home }
    }
}

impl Rows for HomeRows {
    fn read(
        &mut self,
        dataset: &DatasetRecord,
        priced: &Priced,
        bounding_key: &[u8; 32],
    ) -> Result<Raw<Vec<i64>>, NodeError> {
        let snapshot =
            Snapshot::open(&self.home.snapshot_file(&dataset.name, dataset.snapshot), &dataset.schema).map_err(own)?;
        let outcome = cohortium_engine::run(&snapshot, priced, bounding_key).map_err(own)?;
        if let Some(trouble) = &outcome.trouble {
            // Stays in this house: an operator's log, with a fixed text that holds no value of any row.
            tracing::error!(dataset = %dataset.name, trouble, "the engine failed; a vector of zeros contributes instead");
        }
        Ok(outcome.partials)
    }
}
