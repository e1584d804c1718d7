//! The owner's book for one dataset: what its privacy has cost, what is reserved, and whether more may be spent.
//!
//! A pure state machine over an append-only chain of [`AccountEntry`]. The caller makes an entry durable and then
//! applies it; after a crash it replays the entries and has the same account. Accounting is a fully adaptive Rényi
//! filter (Feldman, Zrnic 2021, "Individual Privacy Accounting via a Rényi Filter", Theorem 4.3; Lécuyer 2021,
//! "Practical Privacy Filters and Odometers with Rényi Differential Privacy") over all orders of the grid at once.
//!
//! # States
//!
//! ```text
//! (none) ── reserve ──► Reserved ── reading ──► Reading ── spend ──► Spent
//!                          └────── refund ────► Refunded
//! ```
//!
//! A reservation counts as spent from the moment it exists. Once `reading` is durable it is never given back: after a
//! crash in `Reading` nobody knows what was seen, so it stays charged, and may be spent without anything being sent.
//! Asking for the same (task, round) again returns the state it is in and charges nothing.
//!
//! # Schedules
//!
//! Rounds that are all alike are reserved as one schedule and charged as a whole: R times the price of a round. Its
//! rounds go through the states above in order, one at a time. [`Account::cancel`] writes one refund entry, which names
//! the first round given back; that round and all later ones were never read, and none of them may start any more. What
//! was read stays charged, a round in `Reading` included; that one may still be spent. A crash at any point leaves one
//! round whose turn it is ([`Account::open_runs`]).
//!
//! # Why a filter over several orders is valid, and why δ is divided by their number
//!
//! The account admits a run while *some* order α has its sum, this run included, within B_α, where B_α is chosen so
//! that divergence B_α at order α implies (ε, δ/K)-differential privacy, K being the number of orders.
//!
//! 1. Fix α. Truncate the process: stop it before the α-sum would exceed B_α. That is a fully adaptive Rényi filter at
//!    one order, so the truncated process P_α has divergence at most B_α and is (ε, δ/K)-private.
//! 2. Sums of what was read never fall (a refund gives back only what was never read, and the refusals that follow
//!    from it are a function of what everyone saw). At the end of any transcript s some order is within its cap, since
//!    the last admission demanded one; let α(s) be the smallest. Then the α(s)-sum was within B_α(s) all along, and
//!    the real process P gives s the probability that P_α(s) gives it: the truncation never acted.
//! 3. With G_α = {s : α(s) = α}, a partition, and P' the neighbour's process, for every event S:
//!    P\[S\] = Σ_α P_α\[S ∩ G_α\] ≤ Σ_α (e^ε·P'_α\[S ∩ G_α\] + δ/K) = e^ε·P'\[S\] + δ.
//!
//! Without the division step 3 would not hold: which order survives depends on the answers. It costs ln K/(α−1) in ε,
//! about a tenth of ε at δ = 1e-6. An order whose B_α is negative admits nothing.
//!
//! Thresholded releases carry a δ of their own (they equal a Rényi-private mechanism except with that probability).
//! Their sum has its own cap, `delta_thresholds`, taken out of δ before the conversion (Whitehouse, Ramdas, Rogers, Wu
//! 2023, "Fully-Adaptive Composition in Differential Privacy", section 3). Argued.
//!
//! Sub-accounts of a study and of a researcher are filters of the same kind over their own runs. Only the dataset's
//! promise stands against researchers who collude.
//!
//! # Why unused rounds may come back, and what may decide it
//!
//! Steps 1 and 2 need two things of a refund: what it gives back was never released, and that it happened is a function
//! of what everyone saw. The first is the state machine's: a refund is possible only before `reading`. For the second, a
//! schedule may stop early because of its *released* answers (a refinement that is precise enough, a search that has
//! found what it sought): released answers are in the transcript, and the next price, be it zero for ever after, may
//! depend on the transcript in any way (Whitehouse et al. 2023; Rogers, Samorodnitsky, Wu, Ramdas 2023, "Adaptive Privacy
//! Composition for Accuracy-first Mechanisms"). Argued.
//!
//! A stop decided from *rows* is itself a release, with no noise and no price: "cancelled" would tell that the person was
//! there. Rows can be looked at only in `Reading`, and a round in `Reading` cannot be given back. What the state machine
//! cannot see is an owner who reads the rows of one round and cancels the *others* for what it saw there: that the
//! reason of a cancellation is a released value, a deadline or a lost peer is a duty of the caller.
//!
//! **Selective reporting.** No operation spends without charging. Whether an answer is published is not asked: choosing
//! among answers and publishing the best is a mechanism of its own with a dearer price (Papernot, Steinke 2022), which
//! must be what was reserved. A run that is read and never published stays charged.
//!
//! # Gauge and odometer
//!
//! [`Account::spent_epsilon`] is the filter's gauge: the smallest ε of a budget that would have admitted everything
//! charged. It is a promise for a level fixed in advance: who stops before the gauge passes ε has an (ε, δ)-private
//! process, by the argument above with that ε. As a reading at a moment that the answers chose, it is not.
//! [`Account::odometer`] is: it holds at all moments at once, and is a little higher (its module text has the argument).
//!
//! # Does not, assumes
//!
//! Does not store, lock, or know the time. One account per dataset, one writer: the caller serialises. The rounds of a
//! schedule have one price; runs that differ (a refinement that gets dearer) are single runs of one task, reserved
//! together by writing their entries in one commit. Assumes an honest owner, whose disk others may roll back: the
//! chain's head travels in signed receipts, so that peers notice.

mod budget;
mod entry;
mod error;
mod odometer;
mod snapshot;
mod task;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};

use serde::{Deserialize, Serialize};

pub use budget::{Budget, BudgetError, MAX_EPSILON, Scope, Shortfall};
pub use entry::{
    AccountEntry, ENTRY_VERSION, EntryKind, GENESIS, MAX_NAME_LEN, MAX_ROUNDS, Next, Reservation, RunState,
    ScheduleReservation, Spent,
};
pub use error::{AccountError, Refusal};
pub use odometer::Odometer;
pub use snapshot::{SNAPSHOT_VERSION, Snapshot};
pub use task::ScheduleState;

use crate::price::{Curve, ORDER_COUNT, epsilon};
use budget::Book;
use entry::{check_form, check_name};
use task::Task;

/// Most entries of one account: 2^20 are about 350,000 runs, some 300 MB of state and seconds of replay. A reservation
/// is refused unless every open run has room for its entries, so a run that is under way can always be finished.
pub const MAX_ENTRIES: u64 = 1 << 20;

/// The account of one dataset.
///
/// A clone is for trying out what an entry would do. Two that both take in entries are two books, each of which spends
/// the whole budget: only the one whose entries are durable counts, and so does only its [`Spent`].
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    name: String,
    dataset: Book,
    studies: BTreeMap<String, Book>,
    researchers: BTreeMap<String, Book>,
    tasks: HashMap<String, Task>,
    sequence: u64,
    head: String,
    /// Entries that open runs may yet add.
    owed: u64,
}

impl Account {
    /// An account without entries.
    ///
    /// # Errors
    /// [`Refusal::Form`], wrapped, if a name is empty, too long or not printable ASCII.
    pub fn new(config: AccountConfig) -> Result<Self, AccountError> {
        check_name("dataset", &config.dataset)?;
        let books = |budgets: BTreeMap<String, Budget>, field| {
            budgets.into_iter().map(move |(name, budget)| {
                check_name(field, &name)?;
                Ok((name, Book::with_budget(budget)))
            })
        };
        Ok(Self {
            name: config.dataset,
            dataset: Book::with_budget(config.budget),
            studies: books(config.studies, "study").collect::<Result<_, Refusal>>()?,
            researchers: books(config.researchers, "researcher").collect::<Result<_, Refusal>>()?,
            tasks: HashMap::new(),
            sequence: 0,
            head: GENESIS.to_owned(),
            owed: 0,
        })
    }

    /// Rebuilds the account from its entries, oldest first.
    ///
    /// Checks the chain and every transition but not the caps: an entry was admitted when it was written, and a budget
    /// that an amendment has narrowed since must not make the book unreadable. What is over budget then shows as
    /// nothing remaining, and everything new is refused.
    ///
    /// # Errors
    /// The first entry that does not fit is named by its sequence number in an [`AccountError`].
    pub fn replay(
        config: AccountConfig,
        entries: impl IntoIterator<Item = AccountEntry>,
    ) -> Result<Self, AccountError> {
        Self::new(config)?.replay_onto(entries)
    }

    /// Takes in the entries that follow, oldest first, as [`Account::replay`] does: after [`Account::restore`].
    ///
    /// # Errors
    /// As [`Account::replay`].
    pub fn replay_onto(mut self, entries: impl IntoIterator<Item = AccountEntry>) -> Result<Self, AccountError> {
        for entry in entries {
            self.check_link(&entry)?;
            self.check_transition(&entry)?;
            self.absorb(&entry)?;
        }
        Ok(self)
    }

    /// The entry that would reserve this run's price, or the state it is already in.
    ///
    /// Promise: given a price that bounds the run's divergence, returns an entry only if dataset, study and researcher
    /// each keep an order within its cap; never changes anything. Proven (module text). Durable nothing yet: a crash
    /// after this costs nothing.
    ///
    /// # Errors
    /// [`Refusal::OverBudget`] with every scope that falls short; [`Refusal::Conflict`] if the same (task, round) was
    /// reserved on other terms; [`Refusal::PriceVersion`], [`Refusal::Form`], [`Refusal::Full`].
    pub fn reserve(&self, request: &Reservation) -> Result<Next, Refusal> {
        self.admit(AccountEntry {
            dataset: self.name.clone(),
            kind: EntryKind::Reserve,
            previous: self.head.clone(),
            price: request.price.clone(),
            researcher: request.researcher.clone(),
            round: request.round,
            rounds: None,
            sequence: self.sequence + 1,
            study: request.study.clone(),
            task: request.task.clone(),
            time: request.time.clone(),
            version: ENTRY_VERSION,
        })
    }

    /// The entry that would reserve a whole schedule, or the state of the round whose turn it is.
    ///
    /// Promise: as [`Account::reserve`], for the price of a round times the number of rounds, exactly. Proven. The rounds
    /// are then read and spent in order; [`Account::cancel`] gives back what was not begun.
    ///
    /// # Errors
    /// As [`Account::reserve`]; [`Refusal::Rounds`] for no rounds or too many.
    pub fn reserve_schedule(&self, request: &ScheduleReservation) -> Result<Next, Refusal> {
        self.admit(AccountEntry {
            dataset: self.name.clone(),
            kind: EntryKind::Reserve,
            previous: self.head.clone(),
            price: request.price.clone(),
            researcher: request.researcher.clone(),
            round: 0,
            rounds: Some(request.rounds),
            sequence: self.sequence + 1,
            study: request.study.clone(),
            task: request.task.clone(),
            time: request.time.clone(),
            version: ENTRY_VERSION,
        })
    }

    /// The entry after which rows may be read. Once it is durable the price is never given back.
    ///
    /// `Already(Reading)` means that an earlier attempt got this far: reading again is harmless as long as nothing was
    /// sent, and nothing was, or the state would be `Spent`.
    ///
    /// # Errors
    /// [`AccountError::UnknownRun`], [`AccountError::Transition`]; [`AccountError::Order`] if it is not the turn of this
    /// round of a schedule.
    pub fn start_reading(&self, task: &str, round: u32, time: Option<String>) -> Result<Next, AccountError> {
        self.advance(task, round, EntryKind::Reading, time)
    }

    /// The entry that must be durable, together with the exact masked bytes, before the first byte leaves.
    ///
    /// # Errors
    /// [`AccountError::UnknownRun`], [`AccountError::Transition`].
    pub fn spend(&self, task: &str, round: u32, time: Option<String>) -> Result<Next, AccountError> {
        self.advance(task, round, EntryKind::Spend, time)
    }

    /// The entry that gives a single run's reservation back; possible only while no row was read.
    ///
    /// # Errors
    /// [`AccountError::UnknownRun`], [`AccountError::Transition`]; [`AccountError::NotThisWay`] for a schedule.
    pub fn refund(&self, task: &str, round: u32, time: Option<String>) -> Result<Next, AccountError> {
        if self.schedule(task).is_some() {
            return Err(AccountError::NotThisWay);
        }
        self.advance(task, round, EntryKind::Refund, time)
    }

    /// The entry that ends a schedule and gives back every round whose reading was never durable.
    ///
    /// Promise: given a reason that is not in the rows (a released value, a deadline, a lost peer), returns an entry that
    /// gives back only rounds of which nothing was read; never what was. Argued (module text). A crash before it is
    /// durable leaves the schedule as it was; asking again after it is `Already(Refunded)`.
    ///
    /// # Errors
    /// [`AccountError::UnknownRun`]; [`AccountError::NotThisWay`] for single runs; [`AccountError::Transition`] if every
    /// round has begun.
    pub fn cancel(&self, task: &str, time: Option<String>) -> Result<Next, AccountError> {
        let held = self.tasks.get(task).ok_or(AccountError::UnknownRun)?;
        let schedule = held.schedule().ok_or(AccountError::NotThisWay)?;
        if schedule.cancelled {
            return Ok(Next::Already(RunState::Refunded));
        }
        if schedule.started() >= schedule.rounds {
            let from = schedule.round(schedule.rounds.saturating_sub(1));
            return Err(AccountError::Transition { from, kind: EntryKind::Refund });
        }
        self.advance(task, schedule.started(), EntryKind::Refund, time)
    }

    /// Takes in an entry that the caller has made durable. A spend returns the evidence for it.
    ///
    /// Nothing changes unless everything fits: sequence, chain, transition, terms and caps. A crash between durability
    /// and this call loses nothing: replay does the same.
    ///
    /// # Errors
    /// An [`AccountError`] saying what does not fit.
    pub fn apply(&mut self, entry: &AccountEntry) -> Result<Option<Spent>, AccountError> {
        self.check_link(entry)?;
        self.check_transition(entry)?;
        if entry.kind == EntryKind::Reserve {
            self.check_caps(entry)?;
        }
        self.absorb(entry)?;
        Ok(if entry.kind == EntryKind::Spend { self.spend_evidence(&entry.task, entry.round) } else { None })
    }

    /// The evidence that a run was spent, if it was: to resend the very same bytes after a crash.
    pub fn spend_evidence(&self, task: &str, round: u32) -> Option<Spent> {
        let held = self.tasks.get(task)?;
        let (mark, terms) = (held.mark(round)?, held.terms(round)?);
        Some(Spent {
            dataset: self.name.clone(),
            task: task.to_owned(),
            round,
            price: terms.price.clone(),
            sequence: mark.sequence,
            head: mark.head.clone(),
        })
    }

    /// The state of a run or of a round of a schedule, if it was ever reserved.
    pub fn state(&self, task: &str, round: u32) -> Option<RunState> {
        self.tasks.get(task)?.state(round)
    }

    /// How far a schedule was drawn down; `None` for single runs and unknown tasks.
    pub fn schedule(&self, task: &str) -> Option<ScheduleState> {
        self.tasks.get(task)?.schedule()
    }

    /// Runs that are reserved or reading, as (task, round, state), in order of both: what recovery has to look at. Of a
    /// schedule it is the round whose turn it is.
    pub fn open_runs(&self) -> impl Iterator<Item = (&str, u32, RunState)> {
        let mut open: Vec<_> = self
            .tasks
            .iter()
            .flat_map(|(task, held)| held.open().into_iter().map(|(round, state)| (task.as_str(), round, state)))
            .collect();
        open.sort_unstable_by_key(|(task, round, _)| (*task, *round));
        open.into_iter()
    }

    /// The dataset's name.
    pub fn dataset(&self) -> &str {
        &self.name
    }

    /// Sequence number of the last entry; 0 if there is none.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Hash of the last entry in lowercase hex, [`GENESIS`] if there is none: goes into signed receipts.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// What is spent or reserved of a scope, order by order. `None` for a study or researcher without entry or budget.
    pub fn charged(&self, scope: &Scope) -> Option<Curve> {
        self.book(scope).map(|book| book.charged.curve())
    }

    /// The part of [`Account::charged`] whose rows may have been read; the rest is reserved.
    pub fn read(&self, scope: &Scope) -> Option<Curve> {
        self.book(scope).map(|book| book.read.curve())
    }

    /// What the scope's runs have cost at δ, valid at every moment at once under full adaptivity; `None` as for
    /// [`Account::charged`].
    ///
    /// Promise: but for probability `delta` (and what is set aside for thresholded releases), the privacy loss of
    /// everything released never, at any moment, exceeds the reading of that moment. Proven (module text of the
    /// odometer) for a `delta` chosen before anything was read.
    pub fn odometer(&self, scope: &Scope, delta: f64) -> Option<Odometer> {
        self.book(scope).map(|book| book.odometer(delta))
    }

    /// The filter's gauge: the smallest ε of a budget with this dataset's δ that would have admitted everything spent or
    /// reserved. A promise for a level fixed in advance; [`Account::odometer`] for one read at any moment.
    pub fn spent_epsilon(&self) -> f64 {
        self.dataset.spent_epsilon()
    }

    /// The gauge at another δ, the division over orders included.
    pub fn spent_epsilon_at(&self, delta: f64) -> f64 {
        epsilon(&self.dataset.charged.curve(), delta / ORDER_COUNT as f64)
    }

    /// What is left of the dataset's ε at the account's δ. Costs do not add up in ε, so one run may take less or more
    /// of it than its own ε.
    pub fn remaining_epsilon(&self) -> f64 {
        self.dataset.remaining_epsilon().unwrap_or(0.0)
    }

    /// What is left of a scope's ε; `None` if the scope has no budget of its own.
    pub fn remaining_epsilon_of(&self, scope: &Scope) -> Option<f64> {
        self.book(scope)?.remaining_epsilon()
    }

    fn admit(&self, entry: AccountEntry) -> Result<Next, Refusal> {
        check_form(&entry)?;
        if let Some(already) = self.tasks.get(&entry.task).and_then(|held| held.already(&entry)) {
            return already.map(Next::Already);
        }
        self.check_caps(&entry)?;
        Ok(Next::Write(Box::new(entry)))
    }

    fn advance(&self, task: &str, round: u32, kind: EntryKind, time: Option<String>) -> Result<Next, AccountError> {
        let held = self.tasks.get(task).ok_or(AccountError::UnknownRun)?;
        let (state, terms) = held.state(round).zip(held.terms(round)).ok_or(AccountError::UnknownRun)?;
        if state == kind.leads_to() {
            return Ok(Next::Already(state));
        }
        let entry = AccountEntry {
            dataset: self.name.clone(),
            kind,
            previous: self.head.clone(),
            price: terms.price.clone(),
            researcher: terms.researcher.clone(),
            round,
            rounds: held.rounds(),
            sequence: self.sequence + 1,
            study: terms.study.clone(),
            task: task.to_owned(),
            time,
            version: ENTRY_VERSION,
        };
        held.check(&entry)?;
        check_form(&entry)?;
        Ok(Next::Write(Box::new(entry)))
    }

    fn check_link(&self, entry: &AccountEntry) -> Result<(), AccountError> {
        if entry.version != ENTRY_VERSION {
            return Err(AccountError::Version { found: entry.version });
        }
        check_form(entry)?;
        if entry.dataset != self.name {
            return Err(AccountError::OtherDataset { sequence: entry.sequence });
        }
        if entry.sequence != self.sequence + 1 {
            return Err(AccountError::Sequence { expected: self.sequence + 1, found: entry.sequence });
        }
        if entry.previous != self.head {
            return Err(AccountError::Previous { sequence: entry.sequence });
        }
        Ok(())
    }

    fn check_transition(&self, entry: &AccountEntry) -> Result<(), AccountError> {
        match (self.tasks.get(&entry.task), entry.kind) {
            (Some(held), _) => held.check(entry),
            (None, EntryKind::Reserve) => Ok(()),
            (None, kind) => Err(AccountError::Transition { from: None, kind }),
        }
    }

    /// Whether a reservation fits every budget and the book.
    fn check_caps(&self, entry: &AccountEntry) -> Result<(), Refusal> {
        let times = entry.rounds_affected();
        let entries = self.sequence.saturating_add(self.owed).saturating_add(1 + 2 * u64::from(times));
        if entries > MAX_ENTRIES {
            return Err(Refusal::Full);
        }
        let study = self.studies.get(&entry.study);
        let researcher = self.researchers.get(&entry.researcher);
        let fits = |book: Option<&Book>| book.is_none_or(|book| book.fits(&entry.price, times));
        if fits(Some(&self.dataset)) && fits(study) && fits(researcher) {
            return Ok(());
        }
        let scopes = [Scope::Dataset, Scope::Study(entry.study.clone()), Scope::Researcher(entry.researcher.clone())];
        let shortfall = |scope: Scope| self.book(&scope)?.shortfall(scope, &entry.price, times);
        Err(Refusal::OverBudget { shortfalls: scopes.into_iter().filter_map(shortfall).collect() })
    }

    /// Changes the state. Everything was checked; hashing comes first because it alone can fail.
    fn absorb(&mut self, entry: &AccountEntry) -> Result<(), AccountError> {
        let head = entry.hash_hex()?;
        self.dataset.enter(entry);
        change(&mut self.studies, &entry.study, |book| book.enter(entry));
        change(&mut self.researchers, &entry.researcher, |book| book.enter(entry));
        // Each round takes two more entries, reading and spend.
        let entries = 2 * u64::from(entry.rounds_affected());
        self.owed = match entry.kind {
            EntryKind::Reserve => self.owed.saturating_add(entries),
            EntryKind::Refund => self.owed.saturating_sub(entries),
            EntryKind::Reading | EntryKind::Spend => self.owed.saturating_sub(1),
        };
        match self.tasks.get_mut(&entry.task) {
            Some(held) => held.advance(entry, &head),
            None => drop(self.tasks.insert(entry.task.clone(), Task::reserved(entry))),
        }
        self.sequence = entry.sequence;
        self.head = head;
        Ok(())
    }

    fn book(&self, scope: &Scope) -> Option<&Book> {
        match scope {
            Scope::Dataset => Some(&self.dataset),
            Scope::Study(name) => self.studies.get(name),
            Scope::Researcher(name) => self.researchers.get(name),
        }
    }
}

/// What an account is opened with; from the signed agreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// The dataset, printable ASCII.
    pub dataset: String,
    /// What all researchers together may learn: the only cap that stands against collusion.
    pub budget: Budget,
    /// Sub-caps per study. A study not listed is held by the dataset's cap alone.
    #[serde(default)]
    pub studies: BTreeMap<String, Budget>,
    /// Sub-caps per researcher. A researcher not listed is held by the other caps alone.
    #[serde(default)]
    pub researchers: BTreeMap<String, Budget>,
}

/// Changes a scope's book, which is made if there is none; the name is copied only then.
fn change(books: &mut BTreeMap<String, Book>, name: &str, change: impl FnOnce(&mut Book)) {
    match books.get_mut(name) {
        Some(book) => change(book),
        None => change(books.entry(name.to_owned()).or_default()),
    }
}
