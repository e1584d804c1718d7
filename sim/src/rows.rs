//! The node's real reader of rows, watched: whenever it reads, what was durable at that moment is written down.
//!
//! "Charge the account before you look at a row" is a promise about an order; this is the instrument that sees it.

use cohortium_dp::{AccountEntry, EntryKind, Price, Raw};
use cohortium_messages::Hash;
use cohortium_node::home::Home;
use cohortium_node::rows::{HomeRows, Rows};
use cohortium_node::{DatasetRecord, NodeError};
use cohortium_query::Priced;

use crate::Disk;

/// One look at the rows.
pub struct RowsRead {
    /// The account as it was on the disk at that moment.
    pub durable: Vec<AccountEntry>,
    /// What the plan costs.
    pub price: Price,
    /// The task whose item was being handled.
    pub task: Option<Hash>,
}

impl RowsRead {
    /// Whether the disk said at that moment that the task's price is charged for good.
    #[must_use]
    pub fn was_paid(&self) -> bool {
        self.durable.iter().any(|entry| {
            Some(&entry.task) == self.task.map(|task| task.to_string()).as_ref()
                && entry.kind == EntryKind::Reading
                && entry.price == self.price
        })
    }
}

/// The rows in a node's home, with a record of every look at them.
pub struct WatchedRows {
    disk: Disk,
    inner: HomeRows,
    pub(crate) reads: Vec<RowsRead>,
    pub(crate) task: Option<Hash>,
}

impl WatchedRows {
    pub(crate) fn new(home: Home, disk: Disk) -> Self {
        Self { disk, inner: HomeRows::new(home), reads: Vec::new(), task: None }
    }
}

impl Rows for WatchedRows {
    fn read(
        &mut self,
        dataset: &DatasetRecord,
        priced: &Priced,
        bounding_key: &[u8; 32],
    ) -> Result<Raw<Vec<i64>>, NodeError> {
        let records = self.disk.table("account").map_err(|error| NodeError::Own(error.to_string()))?;
        let durable = records.iter().map(|(_, bytes)| serde_json::from_slice(bytes)).collect::<Result<Vec<_>, _>>();
        let durable = durable.map_err(|error| NodeError::Own(error.to_string()))?;
        self.reads.push(RowsRead { durable, price: priced.price().clone(), task: self.task });
        self.inner.read(dataset, priced, bounding_key)
    }
}
