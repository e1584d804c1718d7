//! What a hub that cheats can make out of its own log and keys: proofs and checkpoints for whatever it wrote there.
//!
//! It cannot make others' signatures. Tests that need a dishonest member or researcher take its keys from
//! [`crate::keys`].

use cohortium_ledger::{KeyKind, Log, SignerKey};
use cohortium_messages::{Envelope, Hash, InboxItem, Inclusion, Name};

use crate::folder::copy_files;
use crate::keys;
use crate::world::{HUB, SimError, World, broken};

impl World {
    /// A copy of the hub's log, opened with the hub's key.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn hub_log(&mut self) -> Result<Log, SimError> {
        let dir = self.fresh_dir("copy-of-log");
        copy_files(&self.hub.log_dir(), &dir)?;
        let seed = keys::hub(self.seed()).0.expose_seed();
        let signer = SignerKey::from_seed(HUB, KeyKind::Log, &seed).map_err(broken)?;
        Log::open(&dir, &self.hub.disk.copy(), &signer).map_err(broken)
    }

    /// The proof that the log holds the entry with this index, under its published head with all cosignatures it has.
    ///
    /// # Errors
    /// When there is no such entry.
    pub fn inclusion_of(&mut self, index: u64) -> Result<Inclusion, SimError> {
        let log = self.hub_log()?;
        let path = log.inclusion_proof(index, log.size()).map_err(broken)?;
        let path = path.into_iter().map(Hash::from_bytes).collect();
        Ok(Inclusion { index, note: log.checkpoint().to_string(), path })
    }

    /// The item that asks a witness which has cosigned `old_size` entries to cosign the log as it stands here.
    ///
    /// # Errors
    /// When the log is shorter.
    pub fn checkpoint_item(&mut self, old_size: u64) -> Result<InboxItem, SimError> {
        let log = self.hub_log()?;
        let proof = log.consistency_proof(old_size, log.size()).map_err(broken)?;
        let note = log.checkpoint().without_cosignatures().map_err(broken)?.to_string();
        Ok(InboxItem::Checkpoint { consistency: proof.into_iter().map(Hash::from_bytes).collect(), note, old_size })
    }

    /// Puts an item into a node's inbox that the hub's own records do not hold. Returns what the node did not accept.
    ///
    /// # Errors
    /// When the node is down.
    pub fn inject(&mut self, node: &str, item: &InboxItem) -> Result<Option<String>, SimError> {
        let now = self.clock();
        self.machine_mut(node)?.inject(item, now)
    }

    /// The same under a number that is not the next one.
    ///
    /// # Errors
    /// When the node is down, or does not take the item in at all.
    pub fn inject_after_a_gap(&mut self, node: &str, item: &InboxItem) -> Result<Option<String>, SimError> {
        let now = self.clock();
        self.machine_mut(node)?.inject_after_a_gap(item, now)
    }

    /// The item by which the hub shows a task to a node, made from whatever stands in the log at `index`.
    ///
    /// # Errors
    /// When there is no such entry.
    pub fn task_item(&mut self, task: &Envelope, entry: &Envelope, index: u64) -> Result<InboxItem, SimError> {
        Ok(InboxItem::Task { entry: entry.clone(), inclusion: self.inclusion_of(index)?, task: task.clone() })
    }

    /// Where in the log an entry stands.
    ///
    /// # Errors
    /// When it does not.
    pub fn index_of(&mut self, entry: &Envelope) -> Result<u64, SimError> {
        let log = self.hub_log()?;
        let leaf = cohortium_messages::canonical_bytes(entry).map_err(broken)?;
        let mut found = None;
        for index in 0..log.size() {
            if log.entry(index).map_err(broken)? == leaf {
                found = Some(index);
            }
        }
        found.ok_or_else(|| broken("the entry is not in the log"))
    }

    /// The names of all organisations, sorted.
    #[must_use]
    pub fn names(&self) -> Vec<Name> {
        self.agreement().participants()
    }
}
