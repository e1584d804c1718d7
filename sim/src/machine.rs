//! One organisation's house: a node, its disk, its folder, its rows and its generator.
//!
//! The node may be gone (crashed) while the disk and the folder stay; [`Machine::open`] is how it comes back, the same
//! way as it came the first time.

use std::path::{Path, PathBuf};

use chacha20::ChaCha20Rng;
use cohortium_messages::{HubEntry, InboxItem, Name, OrganisationSecrets, Refused, Schema, Timestamp};
use cohortium_node::home::{CsvOptions, Home, NewDataset};
use cohortium_node::{DatasetRecord, DeskItem, Heard, JournalRecord, Node, NodeConfig, NodeError};
use cohortium_policy::watch::Rules;

use crate::Disk;
use crate::keys;
use crate::rows::{RowsRead, WatchedRows};
use crate::world::{Config, DATASET, Hospital, SimError, broken};

/// What a node has still to send: numbers, records, and perhaps the bytes that follow.
pub(crate) type Unsent = Vec<(u64, JournalRecord, Option<Vec<u8>>)>;

/// A node's house.
pub struct Machine {
    /// Its disk.
    pub disk: Disk,
    dir: PathBuf,
    hub: HubEntry,
    /// The organisation.
    pub name: Name,
    node: Option<Node>,
    /// Whether it is connected.
    pub online: bool,
    record: DatasetRecord,
    pub(crate) rng: ChaCha20Rng,
    rows: WatchedRows,
    /// The rules by which its house wants to be told.
    rules: Option<Rules>,
    /// Its keys.
    pub secrets: OrganisationSecrets,
    seed: u64,
    /// By how much the node's numbers of items run ahead of the honest hub's: one for each item that was put in, less
    /// one for each that was withheld.
    shift: i64,
}

impl Machine {
    /// Builds a house: keys, rows, an empty disk; the node runs.
    pub(crate) fn build(
        config: &Config,
        hospital: &Hospital,
        schema: &Schema,
        hub: &HubEntry,
        dir: &Path,
    ) -> Result<Self, SimError> {
        let secrets = keys::organisation(config.seed, &hospital.name);
        let (home, dataset) = (Home::new(dir), Name::new(DATASET).map_err(broken)?);
        std::fs::create_dir_all(dir.join("datasets")).map_err(broken)?;
        let new = NewDataset {
            csv: &CsvOptions::default(),
            delta: config.delta.parse().map_err(broken)?,
            epsilon: hospital.epsilon.parse().map_err(broken)?,
            name: &dataset,
            schema,
        };
        let mut chance = keys::generator(config.seed, &format!("snapshot of {}", hospital.name));
        home.add_dataset(&secrets, new, hospital.csv.as_bytes(), &mut chance).map_err(broken)?.map_err(broken)?;
        let record = home.datasets().map_err(broken)?.pop().ok_or_else(|| broken("no dataset"))?;
        let disk = Disk::default();
        let mut machine = Self {
            dir: dir.to_owned(),
            hub: hub.clone(),
            name: Name::new(hospital.name.as_str()).map_err(broken)?,
            node: None,
            online: true,
            record,
            rng: keys::generator(config.seed, &format!("chance of {}", hospital.name)),
            rows: WatchedRows::new(home, disk.clone()),
            rules: config.rules.clone(),
            secrets,
            seed: config.seed,
            shift: 0,
            disk,
        };
        machine.open()?;
        Ok(machine)
    }

    /// The same house in another world: same records, same files (copied to `dir` by the caller), same chance ahead.
    pub(crate) fn copy(&self, dir: &Path) -> Result<Self, SimError> {
        let disk = self.disk.copy();
        let mut machine = Self {
            dir: dir.to_owned(),
            hub: self.hub.clone(),
            name: self.name.clone(),
            node: None,
            online: self.online,
            record: self.record.clone(),
            rng: keys::copy(&self.rng),
            rows: WatchedRows::new(Home::new(dir), disk.clone()),
            rules: self.rules.clone(),
            secrets: keys::organisation(self.seed, self.name.as_str()),
            seed: self.seed,
            shift: self.shift,
            disk,
        };
        machine.open()?;
        Ok(machine)
    }

    /// Starts the node from what is durable.
    pub(crate) fn open(&mut self) -> Result<(), SimError> {
        self.node = None;
        self.disk.restart();
        let config = NodeConfig {
            datasets: vec![self.record.clone()],
            hub: self.hub.clone(),
            organisation: self.name.clone(),
            rules: self.rules.clone(),
            secrets: keys::organisation(self.seed, self.name.as_str()),
        };
        let node = Node::open(config, Box::new(self.disk.clone()), &self.dir.join("log")).map_err(broken)?;
        self.node = Some(node);
        Ok(())
    }

    /// The node.
    ///
    /// # Errors
    /// [`SimError::Down`] after a crash.
    pub fn node(&self) -> Result<&Node, SimError> {
        self.node.as_ref().ok_or_else(|| SimError::Down(self.name.to_string()))
    }

    /// Whether the node runs and is connected.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.node.is_some() && self.online
    }

    /// Every look at the rows since the world began or was copied.
    #[must_use]
    pub fn reads(&self) -> &[RowsRead] {
        &self.rows.reads
    }

    /// The directory of the node's own log.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    pub(crate) fn give_up_old_runs(&mut self, now: Timestamp) -> Result<(), SimError> {
        self.step(|node| node.give_up_old_runs(now))
    }

    /// The custodian takes in other rows under the same name and starts the node again.
    ///
    /// # Errors
    /// When the file is refused or the node does not start.
    pub fn replace_rows(&mut self, csv: &str) -> Result<(), SimError> {
        let (home, record) = (Home::new(&self.dir), &self.record);
        let new = NewDataset {
            csv: &CsvOptions::default(),
            delta: record.delta,
            epsilon: record.epsilon,
            name: &record.name,
            schema: &record.schema,
        };
        home.add_dataset(&self.secrets, new, csv.as_bytes(), &mut self.rng).map_err(broken)?.map_err(broken)?;
        self.record = home.datasets().map_err(broken)?.pop().ok_or_else(|| broken("no dataset"))?;
        self.open()
    }

    /// Lays something on the node's desk, and lets it act on it at once.
    ///
    /// # Errors
    /// [`SimError::Down`].
    pub fn hear(&mut self, item: &DeskItem, now: Timestamp) -> Result<Heard, SimError> {
        let bytes = serde_json::to_vec(item).map_err(broken)?;
        self.hear_bytes(&bytes, now)
    }

    /// Lays any bytes on the node's desk.
    ///
    /// # Errors
    /// [`SimError::Down`].
    pub fn hear_bytes(&mut self, bytes: &[u8], now: Timestamp) -> Result<Heard, SimError> {
        let Some(node) = self.node.as_mut() else { return Err(SimError::Down(self.name.to_string())) };
        let heard = node.hear(bytes, now, &mut self.rng);
        heard.map_err(|error| self.fail(error))
    }

    /// Looks for what the hub took and does not show.
    pub(crate) fn look_for_withheld(&mut self, now: Timestamp) -> Result<(), SimError> {
        self.step(|node| node.look_for_withheld(now))
    }

    /// Shows the head of the node's own log to the other members, where it has grown.
    pub(crate) fn show_own_log(&mut self, now: Timestamp) -> Result<(), SimError> {
        self.step(|node| node.show_own_log(now))
    }

    /// Offers the dataset, where that has not been done.
    pub(crate) fn offer(&mut self, now: Timestamp) -> Result<(), SimError> {
        let record = self.record.clone();
        self.step(|node| node.offer_datasets(vec![record], now))
    }

    /// The number of the hub's item that was handled last.
    pub(crate) fn cursor(&mut self) -> Result<u64, SimError> {
        let shift = self.shift;
        self.step(|node| node.inbox_cursor()).map(|cursor| cursor.saturating_add_signed(-shift))
    }

    /// Hands an item of the hub's inbox to the node. Returns what the node did not accept, in its words.
    pub(crate) fn handle(&mut self, number: u64, item: &InboxItem, now: Timestamp) -> Result<Option<String>, SimError> {
        let number = number.saturating_add_signed(self.shift);
        self.rows.task = match item {
            InboxItem::Shares { task, .. } => Some(*task),
            _ => None,
        };
        let Some(node) = self.node.as_mut() else { return Err(SimError::Down(self.name.to_string())) };
        let handled = node.handle(number, item, now, &mut self.rng, &mut self.rows);
        handled.map_err(|error| self.fail(error))
    }

    /// Hands in an item that the hub's inbox does not hold.
    pub(crate) fn inject(&mut self, item: &InboxItem, now: Timestamp) -> Result<Option<String>, SimError> {
        let next = self.cursor()? + 1;
        let report = self.handle(next, item, now)?;
        self.shift += 1;
        Ok(report)
    }

    /// Hands in an item under a number that is not the next.
    pub(crate) fn inject_after_a_gap(&mut self, item: &InboxItem, now: Timestamp) -> Result<Option<String>, SimError> {
        let next = self.cursor()? + 2;
        self.handle(next, item, now)
    }

    /// Leaves the next item of the hub's inbox out.
    pub(crate) const fn withhold(&mut self) {
        self.shift -= 1;
    }

    pub(crate) fn unsent(&mut self, now: Timestamp) -> Result<Unsent, SimError> {
        self.step(|node| node.unsent(now))
    }

    /// The hub refused what has this number. Returns whether for good.
    pub(crate) fn mark_refused(&mut self, number: u64, refused: &Refused) -> Result<bool, SimError> {
        self.step(|node| node.mark_refused(number, refused))
    }

    pub(crate) fn mark_sent(&mut self, number: u64) -> Result<(), SimError> {
        self.step(|node| node.mark_sent(number))
    }

    fn step<T>(&mut self, step: impl FnOnce(&mut Node) -> Result<T, NodeError>) -> Result<T, SimError> {
        match self.node.as_mut() {
            Some(node) => step(node).map_err(|error| self.fail(error)),
            None => Err(SimError::Down(self.name.to_string())),
        }
    }

    /// A node whose own store fails is gone, as a process would be.
    fn fail(&mut self, error: NodeError) -> SimError {
        match error {
            NodeError::Own(_) => {
                self.node = None;
                SimError::Down(self.name.to_string())
            }
            NodeError::Peer(why) => broken(why),
        }
    }
}
