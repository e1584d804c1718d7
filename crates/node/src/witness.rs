//! The node as a witness of the hub's log: it cosigns only heads that extend everything it cosigned before.
//!
//! A hub that shows two histories cannot get both cosigned here. When it tries, the node stops believing it: the study
//! halts at this node, with both heads kept as evidence.

use cohortium_ledger::{Witness, WitnessError};
use cohortium_messages::{Hash, Timestamp};

use crate::node::{Changes, Node, NodeError, own, peer};
use crate::outgoing::Outgoing;
use crate::records::WITNESS;

const HUB: &str = "hub";

impl Node {
    /// Checks consistency and cosigns. The new head is durable in the same commit that puts the cosignature into the
    /// journal, so it is remembered before the cosignature leaves; a crash in between leaves neither.
    pub(crate) fn on_checkpoint(
        &mut self,
        old_size: u64,
        consistency: &[Hash],
        note: &str,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let witness = self.witness()?;
        if witness.size() > 0 && old_size < witness.size() && is_same_head(&witness, note) {
            return Ok(()); // handled before a crash that came between the commit and the inbox cursor
        }
        let proof: Vec<[u8; 32]> = consistency.iter().map(|hash| *hash.as_bytes()).collect();
        let pending = match witness.add_checkpoint(old_size, &proof, note.as_bytes()) {
            Ok(pending) => pending,
            Err(
                error @ (WitnessError::Fork { .. } | WitnessError::Inconsistent { .. } | WitnessError::Rollback { .. }),
            ) => {
                self.halt(&error.to_string(), note)?;
                return Err(peer(error));
            }
            Err(error) => return Err(peer(error)),
        };
        let (state, size) = (pending.state(), pending.checkpoint().checkpoint().size());
        let seconds = u64::try_from(now.seconds()).map_err(own)?;
        let (line, _) = pending.sign(&self.witness_signer, seconds).map_err(own)?;
        let mut changes = Changes::default();
        changes.batch.put(WITNESS, HUB, state);
        changes
            .outgoing
            .push((Outgoing::Cosignature { lines: vec![line.to_string()], origin: self.hub.hub.clone(), size }, None));
        self.commit(changes, now)
    }

    /// What this node has witnessed of the hub's log.
    pub(crate) fn witness(&self) -> Result<Witness, NodeError> {
        let log = self.hub_log_key()?;
        match self.store.get(WITNESS, HUB).map_err(own)? {
            Some(state) => Witness::from_state(log, &state).map_err(own),
            None => Ok(Witness::new(log)),
        }
    }
}

fn is_same_head(witness: &Witness, note: &str) -> bool {
    let shown = cohortium_ledger::Note::parse(note.as_bytes());
    shown.is_ok_and(|shown| witness.latest().is_some_and(|latest| latest.note().text() == shown.text()))
}
