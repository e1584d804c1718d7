//! What the account remembers of one task: single runs by round, or one schedule drawn down.
//!
//! ```text
//! single run   (none) ── reserve ──► Reserved ── reading ──► Reading ── spend ──► Spent
//!                                       └────── refund ────► Refunded
//! schedule     (none) ── reserve ──► round 0 Reserved … round R−1 Reserved
//!              each round, in order, one at a time:  Reserved ── reading ──► Reading ── spend ──► Spent
//!              cancel: every round still Reserved ──► Refunded; none may start any more
//! ```
//!
//! Does not know budgets. Everything here is reached only through [`super::Account`].

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::entry::{AccountEntry, EntryKind, RunState};
use super::{AccountError, Refusal};
use crate::price::Price;

/// One task. A task is a schedule or single runs, never both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Task {
    Runs(BTreeMap<u32, Box<Run>>),
    Schedule(Box<Schedule>),
}

/// What was agreed at reservation and never changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Terms {
    pub price: Price,
    pub researcher: String,
    pub study: String,
}

/// Where in the chain a spend stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mark {
    pub head: String,
    pub sequence: u64,
}

/// A single run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Run {
    stage: Stage,
    terms: Terms,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Reserved,
    Reading,
    Spent(Mark),
    Refunded,
}

/// A schedule: `spent` rounds are spent, at most one more is reading, all others wait or were given back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Schedule {
    cancelled: bool,
    reading: bool,
    rounds: u32,
    spent: Vec<Mark>,
    terms: Terms,
}

/// How far a schedule was drawn down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleState {
    /// How many rounds were reserved.
    pub rounds: u32,
    /// How many were spent: rounds 0 to this, exclusive.
    pub spent: u32,
    /// Whether the round after those is reading.
    pub reading: bool,
    /// Whether what had not started was given back.
    pub cancelled: bool,
}

impl ScheduleState {
    /// How many rounds stay charged whatever happens: those whose rows may have been read.
    pub fn started(&self) -> u32 {
        self.spent.saturating_add(u32::from(self.reading))
    }

    /// How many rounds are charged now.
    pub fn charged(&self) -> u32 {
        if self.cancelled { self.started() } else { self.rounds }
    }

    /// The state of a round; `None` beyond the last.
    pub fn round(&self, round: u32) -> Option<RunState> {
        if round >= self.rounds {
            None
        } else if round < self.spent {
            Some(RunState::Spent)
        } else if round < self.started() {
            Some(RunState::Reading)
        } else if self.cancelled {
            Some(RunState::Refunded)
        } else {
            Some(RunState::Reserved)
        }
    }

    /// The round to act on, with its state: the one reading, else the next; the last once all are spent.
    fn current(&self) -> (u32, RunState) {
        let round = self.spent.min(self.rounds.saturating_sub(1));
        (round, self.round(round).unwrap_or(RunState::Spent))
    }
}

impl Task {
    /// The task that a reservation brings into being.
    pub(super) fn reserved(entry: &AccountEntry) -> Self {
        match entry.rounds {
            None => Self::Runs(BTreeMap::from([(entry.round, Box::new(Run::reserved(entry)))])),
            Some(rounds) => Self::Schedule(Box::new(Schedule {
                cancelled: false,
                reading: false,
                rounds,
                spent: Vec::new(),
                terms: Terms::of(entry),
            })),
        }
    }

    /// Where a reservation on these terms stands already; `None` if it is new.
    pub(super) fn already(&self, entry: &AccountEntry) -> Option<Result<RunState, Refusal>> {
        if self.rounds() != entry.rounds {
            return Some(Err(Refusal::Conflict));
        }
        if !self.terms(entry.round)?.are_those_of(entry) {
            return Some(Err(Refusal::Conflict));
        }
        match self {
            Self::Runs(_) => self.state(entry.round).map(Ok),
            Self::Schedule(schedule) => Some(Ok(schedule.state().current().1)),
        }
    }

    /// Whether this entry may follow.
    pub(super) fn check(&self, entry: &AccountEntry) -> Result<(), AccountError> {
        let terms = self.terms(entry.round);
        if self.rounds() != entry.rounds || terms.is_some_and(|terms| !terms.are_those_of(entry)) {
            return Err(AccountError::Terms { sequence: entry.sequence });
        }
        let from = self.state(entry.round);
        match (from, entry.kind) {
            (None, EntryKind::Reserve) if entry.rounds.is_none() => Ok(()),
            (Some(RunState::Reserved), EntryKind::Reading | EntryKind::Refund) => self.check_turn(entry),
            (Some(RunState::Reading), EntryKind::Spend) => Ok(()),
            (from, kind) => Err(AccountError::Transition { from, kind }),
        }
    }

    /// Takes in an entry that [`Task::check`] has passed.
    pub(super) fn advance(&mut self, entry: &AccountEntry, head: &str) {
        let mark = || Mark { head: head.to_owned(), sequence: entry.sequence };
        match self {
            Self::Runs(runs) => {
                let run = runs.entry(entry.round).or_insert_with(|| Box::new(Run::reserved(entry)));
                run.stage = match entry.kind {
                    EntryKind::Reserve => Stage::Reserved,
                    EntryKind::Reading => Stage::Reading,
                    EntryKind::Spend => Stage::Spent(mark()),
                    EntryKind::Refund => Stage::Refunded,
                };
            }
            Self::Schedule(schedule) => match entry.kind {
                EntryKind::Reserve => {}
                EntryKind::Reading => schedule.reading = true,
                EntryKind::Spend => {
                    schedule.reading = false;
                    schedule.spent.push(mark());
                }
                EntryKind::Refund => schedule.cancelled = true,
            },
        }
    }

    pub(super) fn state(&self, round: u32) -> Option<RunState> {
        match self {
            Self::Runs(runs) => runs.get(&round).map(|run| run.state()),
            Self::Schedule(schedule) => schedule.state().round(round),
        }
    }

    /// The terms of a round; those of a schedule hold for any.
    pub(super) fn terms(&self, round: u32) -> Option<&Terms> {
        match self {
            Self::Runs(runs) => runs.get(&round).map(|run| &run.terms),
            Self::Schedule(schedule) => Some(&schedule.terms),
        }
    }

    /// How many rounds a schedule has; `None` for single runs.
    pub(super) fn rounds(&self) -> Option<u32> {
        match self {
            Self::Runs(_) => None,
            Self::Schedule(schedule) => Some(schedule.rounds),
        }
    }

    pub(super) fn schedule(&self) -> Option<ScheduleState> {
        match self {
            Self::Runs(_) => None,
            Self::Schedule(schedule) => Some(schedule.state()),
        }
    }

    pub(super) fn mark(&self, round: u32) -> Option<&Mark> {
        match self {
            Self::Runs(runs) => runs.get(&round)?.mark(),
            Self::Schedule(schedule) => schedule.spent.get(usize::try_from(round).ok()?),
        }
    }

    /// What recovery has to look at: every open run, or the one round of a schedule whose turn it is.
    pub(super) fn open(&self) -> Vec<(u32, RunState)> {
        match self {
            Self::Runs(runs) => {
                runs.iter().map(|(round, run)| (*round, run.state())).filter(|(_, state)| state.is_open()).collect()
            }
            Self::Schedule(schedule) => {
                Some(schedule.state().current()).filter(|(_, state)| state.is_open()).into_iter().collect()
            }
        }
    }

    /// What the task adds up to, for every terms it was reserved on.
    pub(super) fn tallies(&self) -> Vec<(&Terms, Tally)> {
        match self {
            Self::Runs(runs) => runs.values().map(|run| (&run.terms, run.tally())).collect(),
            Self::Schedule(schedule) => vec![(&schedule.terms, schedule.tally())],
        }
    }

    /// All places in the chain that the task remembers.
    pub(super) fn marks(&self) -> Vec<&Mark> {
        match self {
            Self::Runs(runs) => runs.values().filter_map(|run| run.mark()).collect(),
            Self::Schedule(schedule) => schedule.spent.iter().collect(),
        }
    }

    /// The rounds of a schedule take turns; single runs do not.
    fn check_turn(&self, entry: &AccountEntry) -> Result<(), AccountError> {
        let Some(state) = self.schedule() else { return Ok(()) };
        let next = state.started();
        let waits = entry.kind == EntryKind::Reading && state.reading;
        if waits {
            Err(AccountError::Order { next: state.spent })
        } else if entry.round != next {
            Err(AccountError::Order { next })
        } else {
            Ok(())
        }
    }
}

/// What part of a task was charged and read, in rounds, and how many entries it has and may yet have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tally {
    pub charged: u32,
    pub read: u32,
    pub entries: u64,
    pub owed: u64,
}

impl Terms {
    fn of(entry: &AccountEntry) -> Self {
        Self { price: entry.price.clone(), researcher: entry.researcher.clone(), study: entry.study.clone() }
    }

    fn are_those_of(&self, entry: &AccountEntry) -> bool {
        self.price == entry.price && self.study == entry.study && self.researcher == entry.researcher
    }
}

impl Run {
    fn reserved(entry: &AccountEntry) -> Self {
        Self { stage: Stage::Reserved, terms: Terms::of(entry) }
    }

    fn state(&self) -> RunState {
        match self.stage {
            Stage::Reserved => RunState::Reserved,
            Stage::Reading => RunState::Reading,
            Stage::Spent(_) => RunState::Spent,
            Stage::Refunded => RunState::Refunded,
        }
    }

    fn mark(&self) -> Option<&Mark> {
        match &self.stage {
            Stage::Spent(mark) => Some(mark),
            Stage::Reserved | Stage::Reading | Stage::Refunded => None,
        }
    }

    fn tally(&self) -> Tally {
        match self.stage {
            Stage::Reserved => Tally { charged: 1, read: 0, entries: 1, owed: 2 },
            Stage::Reading => Tally { charged: 1, read: 1, entries: 2, owed: 1 },
            Stage::Spent(_) => Tally { charged: 1, read: 1, entries: 3, owed: 0 },
            Stage::Refunded => Tally { charged: 0, read: 0, entries: 2, owed: 0 },
        }
    }
}

impl Schedule {
    fn state(&self) -> ScheduleState {
        ScheduleState {
            rounds: self.rounds,
            // Never more than `rounds`; a snapshot that says otherwise is refused before this is read.
            spent: u32::try_from(self.spent.len()).unwrap_or(u32::MAX),
            reading: self.reading,
            cancelled: self.cancelled,
        }
    }

    fn tally(&self) -> Tally {
        let state = self.state();
        let (charged, read) = (state.charged(), state.started());
        let entries = 1 + u64::from(state.spent) + u64::from(read) + u64::from(state.cancelled);
        let owed = 2 * u64::from(charged.saturating_sub(read)) + u64::from(state.reading);
        Tally { charged, read, entries, owed }
    }
}
