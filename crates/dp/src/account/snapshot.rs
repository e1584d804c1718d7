//! The account's state as one document, so that a start does not have to replay every entry.
//!
//! A snapshot is a cache of the chain up to one entry, not evidence: the chain's hash does not cover it, so it is to be
//! trusted exactly as the disk it lies on. It carries a SHA-256 of itself, which shows damage, and is checked for
//! contradictions: the states of its runs must add up to its sequence number, and the entries that follow must continue
//! its head. Sums are not stored; they are made anew from the runs, under the budgets of the day. Whoever must not trust
//! the disk, an auditor for one, replays the entries.

use std::collections::{BTreeMap, HashSet};

use serde::{Deserialize, Serialize};

use super::budget::Book;
use super::entry::{check_name, hash_hex};
use super::task::{Mark, Tally, Task, Terms};
use super::{Account, AccountConfig, AccountError, GENESIS, MAX_ROUNDS, change};
use crate::price::GRID_VERSION;

/// Version of [`Snapshot`].
pub const SNAPSHOT_VERSION: u32 = 1;

/// The state of an account after some entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// SHA-256 of the compact JSON of `state`, lowercase hex.
    digest: String,
    state: State,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct State {
    dataset: String,
    head: String,
    sequence: u64,
    tasks: BTreeMap<String, Task>,
    version: u32,
}

impl Snapshot {
    /// Sequence number of the last entry it contains: replay goes on with the next.
    pub fn sequence(&self) -> u64 {
        self.state.sequence
    }

    /// Hash of the last entry it contains: compare it with the stored entry of that number, or with a receipt.
    pub fn head(&self) -> &str {
        &self.state.head
    }
}

impl Account {
    /// The account's state as a document.
    ///
    /// # Errors
    /// [`AccountError::Encoding`] cannot happen for this type; it is here so that nothing panics.
    pub fn snapshot(&self) -> Result<Snapshot, AccountError> {
        let state = State {
            dataset: self.name.clone(),
            head: self.head.clone(),
            sequence: self.sequence,
            tasks: self.tasks.iter().map(|(task, held)| (task.clone(), held.clone())).collect(),
            version: SNAPSHOT_VERSION,
        };
        Ok(Snapshot { digest: hash_hex(&state, 0)?, state })
    }

    /// Rebuilds the account from a snapshot; [`Account::replay_onto`] then takes in the entries that follow it.
    ///
    /// Promise: given an undamaged snapshot, returns the account that replay of the same entries returns; given one that
    /// is damaged or contradicts itself, never an account. Caps are not checked, as in [`Account::replay`].
    ///
    /// # Errors
    /// [`AccountError::Snapshot`] saying what is wrong with it; [`AccountError::Refused`] for a malformed name.
    pub fn restore(config: AccountConfig, snapshot: Snapshot) -> Result<Self, AccountError> {
        Self::new(config)?.restored(snapshot)
    }

    /// Turns an account without entries into the one that the snapshot holds.
    pub(super) fn restored(mut self, snapshot: Snapshot) -> Result<Self, AccountError> {
        let Snapshot { digest, state } = snapshot;
        if state.version != SNAPSHOT_VERSION {
            return Err(unusable("its version is unknown here"));
        }
        if hash_hex(&state, 0)? != digest {
            return Err(unusable("its digest does not match"));
        }
        if state.dataset != self.name {
            return Err(unusable("it belongs to another dataset"));
        }
        if !is_hash(&state.head) || (state.sequence == 0) != (state.head == GENESIS) {
            return Err(unusable("its head is no hash"));
        }
        check_places(&state)?;
        let mut entries = 0u64;
        for (name, task) in &state.tasks {
            check_name("task", name)?;
            check_shape(task)?;
            for (terms, tally) in task.tallies() {
                self.count(terms, tally)?;
                entries = entries.saturating_add(tally.entries);
            }
        }
        if entries != state.sequence {
            return Err(unusable("its runs do not add up to its sequence number"));
        }
        self.tasks = state.tasks.into_iter().collect();
        self.sequence = state.sequence;
        self.head = state.head;
        Ok(self)
    }

    /// Adds what a run or schedule comes to.
    fn count(&mut self, terms: &Terms, tally: Tally) -> Result<(), AccountError> {
        check_name("study", &terms.study)?;
        check_name("researcher", &terms.researcher)?;
        if terms.price.version != GRID_VERSION {
            return Err(unusable("a price is on another grid"));
        }
        let add = |book: &mut Book| {
            book.charged.charge(&terms.price, tally.charged);
            book.read.charge(&terms.price, tally.read);
        };
        add(&mut self.dataset);
        change(&mut self.studies, &terms.study, add);
        change(&mut self.researchers, &terms.researcher, add);
        self.owed = self.owed.saturating_add(tally.owed);
        Ok(())
    }
}

/// Demands of a task what its transitions would have ensured.
fn check_shape(task: &Task) -> Result<(), AccountError> {
    let Some(state) = task.schedule() else {
        return if task.tallies().is_empty() { Err(unusable("a task has no runs")) } else { Ok(()) };
    };
    let overdrawn = state.started() > state.rounds || (state.cancelled && state.started() == state.rounds);
    if overdrawn || !(1..=MAX_ROUNDS).contains(&state.rounds) {
        return Err(unusable("a schedule has impossible rounds"));
    }
    if task.marks().windows(2).any(|pair| matches!(pair, [a, b] if a.sequence >= b.sequence)) {
        return Err(unusable("the rounds of a schedule are out of order"));
    }
    Ok(())
}

/// Demands that every remembered place in the chain is one, that no two are the same, and that the last is the head.
fn check_places(state: &State) -> Result<(), AccountError> {
    let mut seen = HashSet::new();
    for Mark { head, sequence } in state.tasks.values().flat_map(Task::marks) {
        let is_last = *sequence == state.sequence;
        let fits = is_hash(head) && (1..=state.sequence).contains(sequence) && is_last == (*head == state.head);
        if !fits || !seen.insert(*sequence) {
            return Err(unusable("a spend stands where it cannot"));
        }
    }
    Ok(())
}

fn is_hash(text: &str) -> bool {
    text.len() == GENESIS.len() && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

fn unusable(reason: &'static str) -> AccountError {
    AccountError::Snapshot { reason }
}
