//! The hub's house: the hub, its disk, the directory of its log, and its invitations.

use std::path::{Path, PathBuf};

use cohortium_hub::{Access, Hub, HubConfig};
use cohortium_messages::{Envelope, Hash, HubEntry, Name, Timestamp};
use cohortium_policy::watch::Rules;

use crate::Disk;
use crate::keys;
use crate::world::{Config, HUB, SimError, broken};

/// The hub's house.
pub struct HubHouse {
    dir: PathBuf,
    /// Its disk.
    pub disk: Disk,
    /// Its public keys.
    pub entry: HubEntry,
    hub: Option<Hub>,
    phase_timeout_s: u32,
    seed: u64,
    watch: Option<Rules>,
}

impl HubHouse {
    pub(crate) fn build(config: &Config, dir: &Path) -> Result<Self, SimError> {
        std::fs::create_dir_all(dir.join("invitations")).map_err(broken)?;
        let (log, message) = keys::hub(config.seed);
        let hub = Name::new(HUB).map_err(broken)?;
        let mut house = Self {
            dir: dir.to_owned(),
            disk: Disk::default(),
            entry: HubEntry { hub, log_key: log.public(), message_key: message.public() },
            hub: None,
            phase_timeout_s: config.phase_timeout_s,
            seed: config.seed,
            watch: config.watch.clone(),
        };
        house.open()?;
        Ok(house)
    }

    /// The same house in another world; its files were copied to `dir` by the caller.
    pub(crate) fn copy(&self, dir: &Path) -> Result<Self, SimError> {
        let mut house = Self {
            dir: dir.to_owned(),
            disk: self.disk.copy(),
            entry: self.entry.clone(),
            hub: None,
            phase_timeout_s: self.phase_timeout_s,
            seed: self.seed,
            watch: self.watch.clone(),
        };
        house.open()?;
        Ok(house)
    }

    /// Starts the hub from what is durable. It looks at its deadlines a second later at the earliest, as its service does.
    pub(crate) fn open(&mut self) -> Result<(), SimError> {
        self.hub = None;
        self.disk.restart();
        let (log_key, message_key) = keys::hub(self.seed);
        let config = HubConfig {
            invitations: self.dir.join("invitations"),
            log_key,
            message_key,
            name: self.entry.hub.clone(),
            phase_timeout_s: self.phase_timeout_s,
            watch: self.watch.clone(),
        };
        self.hub = Some(Hub::open(config, Box::new(self.disk.clone()), &self.log_dir()).map_err(broken)?);
        Ok(())
    }

    /// Whether the hub runs.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.hub.is_some()
    }

    /// The directory of the transparency log: what auditors get.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// Invites someone: returns the secret, of which the hub keeps only the hash.
    pub(crate) fn invite(&self, name: &Name, is_researcher: bool) -> Result<Hash, SimError> {
        let secret = Hash::of_parts("cohortium/sim/invitation", &[&self.seed.to_be_bytes(), name.as_str().as_bytes()]);
        let file = self.dir.join("invitations").join(format!("{}.json", Hash::of(secret.as_bytes())));
        let record = serde_json::json!({ "name": name, "researcher": is_researcher });
        std::fs::write(file, record.to_string()).map_err(broken)?;
        Ok(secret)
    }

    /// The newest calls that the hub noted, the newest first.
    ///
    /// # Errors
    /// [`SimError::Down`].
    pub fn access(&mut self, last: usize) -> Result<Vec<Access>, SimError> {
        self.running()?.access(last).map_err(broken)
    }

    pub(crate) fn answer(&mut self, request: &Envelope, now: Timestamp) -> Result<Envelope, SimError> {
        let answered = self.running()?.answer(request, now);
        answered.map_err(|_| self.fail())
    }

    /// Answers requests as the hub's service does with those that wait at the same time.
    pub(crate) fn answer_all(&mut self, requests: &[Envelope], now: Timestamp) -> Result<Vec<Envelope>, SimError> {
        let answered = self.running()?.answer_all(requests, now);
        answered.map_err(|_| self.fail())
    }

    pub(crate) fn receive_vector(
        &mut self,
        ticket: Hash,
        offset: u64,
        piece: &[u8],
        now: Timestamp,
    ) -> Result<Envelope, SimError> {
        let answered = self.running()?.receive_vector(ticket, offset, piece, now);
        answered.map_err(|_| self.fail())
    }

    pub(crate) fn tick(&mut self, now: Timestamp) -> Result<(), SimError> {
        let ticked = self.running()?.tick(now);
        ticked.map_err(|_| self.fail())
    }

    fn running(&mut self) -> Result<&mut Hub, SimError> {
        self.hub.as_mut().ok_or_else(|| SimError::Down(HUB.to_owned()))
    }

    /// A hub whose own store fails is gone, as a process would be.
    fn fail(&mut self) -> SimError {
        self.hub = None;
        SimError::Down(HUB.to_owned())
    }
}
