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
//! # Why a filter over several orders is valid, and why δ is divided by their number
//!
//! The account admits a run while *some* order α has its sum, this run included, within B_α, where B_α is chosen so
//! that divergence B_α at order α implies (ε, δ/K)-differential privacy, K being the number of orders.
//!
//! 1. Fix α. Truncate the process: stop it before the α-sum would exceed B_α. That is a fully adaptive Rényi filter at
//!    one order, so the truncated process P_α has divergence at most B_α and is (ε, δ/K)-private.
//! 2. Sums of what was spent never fall (a refund gives back only what was never read, and the refusals that follow
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
//! # Does not, assumes
//!
//! Does not store, lock, or know the time. One account per dataset, one writer: the caller serialises. A training
//! schedule is not yet one reservation: each round reserves. Assumes an honest owner, whose disk others may roll back:
//! the chain's head travels in signed receipts, so that peers notice.

use core::fmt;
use std::collections::BTreeMap;

use dashu::float::FBig;
use dashu::float::round::mode::Down;
use dashu::integer::UBig;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::price::{AttoDelta, Curve, GRID_VERSION, NanoNats, ORDER_COUNT, ORDERS, Price, epsilon};

/// Version of [`AccountEntry`] and of the rules here.
pub const ENTRY_VERSION: u32 = 1;
/// Most entries of one account: 2^20 are about 350,000 runs, some 200 MB of state and seconds of replay. Runs that are
/// under way may still be finished beyond it.
pub const MAX_ENTRIES: u64 = 1 << 20;
/// Longest name in an entry, in characters.
pub const MAX_NAME_LEN: usize = 128;
/// Largest ε of a budget, in units of 1e-9: a thousand nats promise nothing.
pub const MAX_EPSILON: NanoNats = NanoNats::new(1_000_000_000_000);
/// `previous` of the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// The account of one dataset.
#[derive(Clone, Debug, PartialEq)]
pub struct Account {
    name: String,
    dataset: Book,
    studies: BTreeMap<String, Book>,
    researchers: BTreeMap<String, Book>,
    runs: BTreeMap<(String, u32), Run>,
    sequence: u64,
    head: String,
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
            runs: BTreeMap::new(),
            sequence: 0,
            head: GENESIS.to_owned(),
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
        let entry = AccountEntry {
            dataset: self.name.clone(),
            kind: EntryKind::Reserve,
            previous: self.head.clone(),
            price: request.price.clone(),
            researcher: request.researcher.clone(),
            round: request.round,
            sequence: self.sequence + 1,
            study: request.study.clone(),
            task: request.task.clone(),
            time: request.time.clone(),
            version: ENTRY_VERSION,
        };
        check_form(&entry)?;
        if let Some(run) = self.run(&entry.task, entry.round) {
            return if run.is_on_the_terms_of(&entry) { Ok(Next::Already(run.state)) } else { Err(Refusal::Conflict) };
        }
        self.check_caps(&entry)?;
        Ok(Next::Write(Box::new(entry)))
    }

    /// The entry after which rows may be read. Once it is durable the price is never given back.
    ///
    /// `Already(Reading)` means that an earlier attempt got this far: reading again is harmless as long as nothing was
    /// sent, and nothing was, or the state would be `Spent`.
    ///
    /// # Errors
    /// [`AccountError::UnknownRun`], [`AccountError::Transition`].
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

    /// The entry that gives a reservation back; possible only while no row was read.
    ///
    /// # Errors
    /// [`AccountError::UnknownRun`], [`AccountError::Transition`].
    pub fn refund(&self, task: &str, round: u32, time: Option<String>) -> Result<Next, AccountError> {
        self.advance(task, round, EntryKind::Refund, time)
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
        let run = self.run(task, round)?;
        (run.state == RunState::Spent).then(|| Spent {
            dataset: self.name.clone(),
            task: task.to_owned(),
            round,
            price: run.price.clone(),
            sequence: run.sequence,
            head: run.head.clone(),
        })
    }

    /// The state of a run, if it was ever reserved.
    pub fn state(&self, task: &str, round: u32) -> Option<RunState> {
        self.run(task, round).map(|run| run.state)
    }

    /// Runs that are reserved or reading, as (task, round, state): what recovery has to look at.
    pub fn open_runs(&self) -> impl Iterator<Item = (&str, u32, RunState)> {
        self.runs
            .iter()
            .filter(|(_, run)| run.state.is_open())
            .map(|((task, round), run)| (task.as_str(), *round, run.state))
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

    /// ε of everything spent or reserved on this dataset, at the account's δ. An odometer: valid at any time.
    pub fn spent_epsilon(&self) -> f64 {
        self.dataset.spent_epsilon()
    }

    /// ε of everything spent or reserved on this dataset at another δ, the division over orders included.
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

    fn replay_onto(mut self, entries: impl IntoIterator<Item = AccountEntry>) -> Result<Self, AccountError> {
        for entry in entries {
            self.check_link(&entry)?;
            self.check_transition(&entry)?;
            self.absorb(&entry)?;
        }
        Ok(self)
    }

    fn advance(&self, task: &str, round: u32, kind: EntryKind, time: Option<String>) -> Result<Next, AccountError> {
        let run = self.run(task, round).ok_or(AccountError::UnknownRun)?;
        if run.state == kind.leads_to() {
            return Ok(Next::Already(run.state));
        }
        let entry = AccountEntry {
            dataset: self.name.clone(),
            kind,
            previous: self.head.clone(),
            price: run.price.clone(),
            researcher: run.researcher.clone(),
            round,
            sequence: self.sequence + 1,
            study: run.study.clone(),
            task: task.to_owned(),
            time,
            version: ENTRY_VERSION,
        };
        self.check_transition(&entry)?;
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
        let run = self.run(&entry.task, entry.round);
        if run.is_some_and(|run| !run.is_on_the_terms_of(entry)) {
            return Err(AccountError::Terms { sequence: entry.sequence });
        }
        match (run.map(|run| run.state), entry.kind) {
            (None, EntryKind::Reserve)
            | (Some(RunState::Reserved), EntryKind::Reading | EntryKind::Refund)
            | (Some(RunState::Reading), EntryKind::Spend) => Ok(()),
            (from, kind) => Err(AccountError::Transition { from, kind }),
        }
    }

    fn check_caps(&self, entry: &AccountEntry) -> Result<(), Refusal> {
        if self.sequence >= MAX_ENTRIES {
            return Err(Refusal::Full);
        }
        let scopes = [Scope::Dataset, Scope::Study(entry.study.clone()), Scope::Researcher(entry.researcher.clone())];
        let shortfalls: Vec<Shortfall> =
            scopes.into_iter().filter_map(|scope| self.book(&scope)?.shortfall(scope, &entry.price)).collect();
        if shortfalls.is_empty() { Ok(()) } else { Err(Refusal::OverBudget { shortfalls }) }
    }

    /// Changes the state. Everything was checked; hashing comes first because it alone can fail.
    fn absorb(&mut self, entry: &AccountEntry) -> Result<(), AccountError> {
        let head = entry.hash_hex()?;
        let books = [
            &mut self.dataset,
            self.studies.entry(entry.study.clone()).or_default(),
            self.researchers.entry(entry.researcher.clone()).or_default(),
        ];
        for book in books {
            match entry.kind {
                EntryKind::Reserve => book.charged.charge(&entry.price),
                EntryKind::Refund => book.charged.give_back(&entry.price),
                EntryKind::Reading | EntryKind::Spend => {}
            }
        }
        let run = Run {
            state: entry.kind.leads_to(),
            price: entry.price.clone(),
            study: entry.study.clone(),
            researcher: entry.researcher.clone(),
            sequence: entry.sequence,
            head: head.clone(),
        };
        self.runs.insert((entry.task.clone(), entry.round), run);
        self.sequence = entry.sequence;
        self.head = head;
        Ok(())
    }

    fn run(&self, task: &str, round: u32) -> Option<&Run> {
        self.runs.get(&(task.to_owned(), round))
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

/// A promise (ε, δ), of which `delta_thresholds` is set aside for releases that hide keys below a threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BudgetFields")]
pub struct Budget {
    delta: AttoDelta,
    delta_thresholds: AttoDelta,
    epsilon: NanoNats,
}

impl Budget {
    /// A budget without thresholded releases.
    ///
    /// # Errors
    /// [`BudgetError`] if δ is zero or ε above [`MAX_EPSILON`].
    pub fn new(epsilon: NanoNats, delta: AttoDelta) -> Result<Self, BudgetError> {
        Self::with_thresholds(epsilon, delta, AttoDelta::ZERO)
    }

    /// A budget that sets `delta_thresholds` of its δ aside.
    ///
    /// # Errors
    /// [`BudgetError`] if nothing of δ is left for the conversion or ε is above [`MAX_EPSILON`].
    pub fn with_thresholds(
        epsilon: NanoNats,
        delta: AttoDelta,
        delta_thresholds: AttoDelta,
    ) -> Result<Self, BudgetError> {
        if epsilon > MAX_EPSILON {
            Err(BudgetError::Epsilon { epsilon })
        } else if delta <= delta_thresholds {
            Err(BudgetError::Delta)
        } else {
            Ok(Self { delta, delta_thresholds, epsilon })
        }
    }

    /// Total ε.
    pub fn epsilon(&self) -> NanoNats {
        self.epsilon
    }

    /// Total δ.
    pub fn delta(&self) -> AttoDelta {
        self.delta
    }

    /// δ set aside for thresholded releases.
    pub fn delta_thresholds(&self) -> AttoDelta {
        self.delta_thresholds
    }

    /// B_α: the largest divergence at each order that implies (ε, δ/K), in units of 1e-9, rounded down; `None` where
    /// an order can promise nothing.
    ///
    /// B_α = ε + ln(α/(α−1)) + (ln(δ/K) + ln α)/(α−1), inverse of the conversion in [`epsilon`]. Computed with 128
    /// bits and then lowered by one unit, so that it is the same on every machine and below the true value.
    pub fn caps(&self) -> [Option<u64>; ORDER_COUNT] {
        let delta_atto = u128::from(self.delta.get().saturating_sub(self.delta_thresholds.get()));
        let ln_delta_share = ln(delta_atto) - ln(1_000_000_000_000_000_000 * ORDER_COUNT as u128);
        ORDERS.map(|(num, den)| {
            let (num, den) = (u128::from(num), u128::from(den));
            let (over, ln_num) = (num - den, ln(num));
            let inverse = real(den) / real(over);
            let nats = &ln_num - ln(over) + inverse * (&ln_delta_share + &ln_num - ln(den));
            let nano = real(u128::from(self.epsilon.get())) + nats * real(1_000_000_000) - real(1);
            u64::try_from(nano.floor().to_int().value()).ok()
        })
    }

    /// The δ at which one order's curve is converted: what is left after thresholds, divided over the orders.
    fn delta_per_order(&self) -> f64 {
        (self.delta.as_probability() - self.delta_thresholds.as_probability()) / ORDER_COUNT as f64
    }
}

/// Why a budget makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum BudgetError {
    /// ε promises nothing.
    #[error("custodian: epsilon {epsilon} is above the limit of {MAX_EPSILON}")]
    Epsilon {
        /// What was asked for.
        epsilon: NanoNats,
    },
    /// Nothing left to convert with.
    #[error("custodian: delta must be positive and above delta_thresholds")]
    Delta,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BudgetFields {
    delta: AttoDelta,
    #[serde(default)]
    delta_thresholds: AttoDelta,
    epsilon: NanoNats,
}

impl TryFrom<BudgetFields> for Budget {
    type Error = BudgetError;
    fn try_from(fields: BudgetFields) -> Result<Self, BudgetError> {
        Self::with_thresholds(fields.epsilon, fields.delta, fields.delta_thresholds)
    }
}

/// What a run asks the account for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    /// Who asks.
    pub researcher: String,
    /// Under which study.
    pub study: String,
    /// The task's hash.
    pub task: String,
    /// Its round; 0 for a query.
    pub round: u32,
    /// What it costs, as the owner computed it.
    pub price: Price,
    /// When, for readers; has no effect.
    pub time: Option<String>,
}

/// What to do next about a run.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "an entry that is not made durable and applied has no effect"]
pub enum Next {
    /// Make this entry durable, then apply it.
    Write(Box<AccountEntry>),
    /// Nothing: the run is in this state already.
    Already(RunState),
}

/// One line of the book. Fields stand in alphabetical order and hold only integers and printable ASCII, so that
/// compact JSON is canonical (RFC 8785); its SHA-256 is the `previous` of the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountEntry {
    /// The dataset whose account this is.
    pub dataset: String,
    /// What happens.
    pub kind: EntryKind,
    /// Hash of the entry before, lowercase hex; [`GENESIS`] for the first.
    pub previous: String,
    /// The price reserved; the same in every entry of a run.
    pub price: Price,
    /// Who asked.
    pub researcher: String,
    /// The task's round.
    pub round: u32,
    /// 1 for the first entry, then rising by one.
    pub sequence: u64,
    /// The study under which it runs.
    pub study: String,
    /// The task's hash.
    pub task: String,
    /// When it was written, for readers; has no effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// [`ENTRY_VERSION`].
    pub version: u32,
}

impl AccountEntry {
    /// SHA-256 of the canonical JSON, lowercase hex.
    ///
    /// # Errors
    /// [`AccountError::Encoding`] cannot happen for this type; it is here so that nothing panics.
    pub fn hash_hex(&self) -> Result<String, AccountError> {
        let bytes = serde_json::to_vec(self).map_err(|_| AccountError::Encoding)?;
        Ok(Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect())
    }
}

/// What an entry does to its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Charges the price.
    Reserve,
    /// From here on rows may have been read; the price stays.
    Reading,
    /// Noised and masked bytes may leave.
    Spend,
    /// Gives the price back.
    Refund,
}

impl EntryKind {
    fn leads_to(self) -> RunState {
        match self {
            Self::Reserve => RunState::Reserved,
            Self::Reading => RunState::Reading,
            Self::Spend => RunState::Spent,
            Self::Refund => RunState::Refunded,
        }
    }
}

/// Where a run stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Charged, no row read.
    Reserved,
    /// Charged, rows may have been read, nothing has left.
    Reading,
    /// Charged, bytes may have left. Final.
    Spent,
    /// Not charged, no row was read. Final.
    Refunded,
}

impl RunState {
    fn is_open(self) -> bool {
        match self {
            Self::Reserved | Self::Reading => true,
            Self::Spent | Self::Refunded => false,
        }
    }
}

/// Evidence that a run's price is spent: what masked bytes may not leave without.
///
/// Made only by an account that took in the spend entry. It cannot be made by hand:
///
/// ```compile_fail,E0451
/// fn forge(price: cohortium_dp::Price) -> cohortium_dp::Spent {
///     cohortium_dp::Spent { dataset: String::new(), task: String::new(), round: 0, price, sequence: 1, head: String::new() }
/// }
/// ```
///
/// nor used twice by copying:
///
/// ```compile_fail,E0599
/// fn copy(spent: cohortium_dp::Spent) -> (cohortium_dp::Spent, cohortium_dp::Spent) {
///     (spent.clone(), spent)
/// }
/// ```
#[derive(Debug, PartialEq, Eq)]
#[must_use = "evidence of payment is for whoever sends"]
pub struct Spent {
    dataset: String,
    task: String,
    round: u32,
    price: Price,
    sequence: u64,
    head: String,
}

impl Spent {
    /// The dataset that was charged.
    pub fn dataset(&self) -> &str {
        &self.dataset
    }

    /// The task it was charged for.
    pub fn task(&self) -> &str {
        &self.task
    }

    /// The round it was charged for.
    pub fn round(&self) -> u32 {
        self.round
    }

    /// What was charged.
    pub fn price(&self) -> &Price {
        &self.price
    }

    /// Sequence number of the spend entry.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Hash of the spend entry, lowercase hex: goes into the signed receipt.
    pub fn head(&self) -> &str {
        &self.head
    }
}

/// Whose budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Everything that touches the dataset.
    Dataset,
    /// One study's runs.
    Study(String),
    /// One researcher's runs.
    Researcher(String),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dataset => f.write_str("the dataset"),
            Self::Study(name) => write!(f, "study {name}"),
            Self::Researcher(name) => write!(f, "researcher {name}"),
        }
    }
}

/// Why a reservation is refused. The researcher must ask for less, or the custodians must widen a budget.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum Refusal {
    /// Some budgets do not suffice.
    #[error("researcher: over budget: {}", listed(shortfalls))]
    OverBudget {
        /// Every scope that falls short.
        shortfalls: Vec<Shortfall>,
    },
    /// The same (task, round) is in the book on other terms.
    #[error("researcher: this task and round were reserved with another price, study or researcher")]
    Conflict,
    /// The price was computed on a grid we do not know.
    #[error("caller: price version {found} is unknown here; this account speaks version {GRID_VERSION}")]
    PriceVersion {
        /// What the price says.
        found: u32,
    },
    /// A field is malformed.
    #[error("caller: {field} must be 1 to {MAX_NAME_LEN} characters of printable ASCII")]
    Form {
        /// Which.
        field: &'static str,
    },
    /// The book is full.
    #[error("operator: the account has reached {MAX_ENTRIES} entries; open a new dataset version")]
    Full,
}

/// One budget that does not suffice, in ε at that budget's own δ.
#[derive(Clone, Debug, PartialEq)]
pub struct Shortfall {
    /// Whose budget.
    pub scope: Scope,
    /// Its total ε.
    pub epsilon_budget: f64,
    /// ε of what is spent or reserved.
    pub epsilon_charged: f64,
    /// ε if this run were admitted.
    pub epsilon_after: f64,
    /// Whether the δ set aside for thresholded releases falls short, too.
    pub delta_exceeded: bool,
}

impl Shortfall {
    /// What is left, in ε.
    pub fn epsilon_left(&self) -> f64 {
        (self.epsilon_budget - self.epsilon_charged).max(0.0)
    }
}

impl fmt::Display for Shortfall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} has epsilon {:.4} left of {:.4}, and this run would make it {:.4}",
            self.scope,
            self.epsilon_left(),
            self.epsilon_budget,
            self.epsilon_after
        )?;
        if self.delta_exceeded { f.write_str("; its delta for thresholds is exceeded") } else { Ok(()) }
    }
}

/// Why an entry does not fit the book.
#[derive(Clone, Debug, PartialEq, Error)]
pub enum AccountError {
    /// A gap or a repetition.
    #[error("operator: account entry {found} where {expected} must follow: the book is incomplete or out of order")]
    Sequence {
        /// What must follow.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The chain is broken.
    #[error("operator: account entry {sequence} does not continue the chain: the book was altered or rolled back")]
    Previous {
        /// Which entry.
        sequence: u64,
    },
    /// An entry of another account.
    #[error("operator: account entry {sequence} belongs to another dataset")]
    OtherDataset {
        /// Which entry.
        sequence: u64,
    },
    /// An entry of rules we do not know.
    #[error("operator: account entry version {found} is unknown here; this is version {ENTRY_VERSION}")]
    Version {
        /// What the entry says.
        found: u32,
    },
    /// A run's later entry names another price, study or researcher.
    #[error("operator: account entry {sequence} differs in price, study or researcher from its reservation")]
    Terms {
        /// Which entry.
        sequence: u64,
    },
    /// An illegal step.
    #[error("caller: {kind:?} is not possible for a run in state {from:?}")]
    Transition {
        /// Where the run stands; `None` if it was never reserved.
        from: Option<RunState>,
        /// What was asked.
        kind: EntryKind,
    },
    /// No such run.
    #[error("caller: this task and round were never reserved")]
    UnknownRun,
    /// A reservation that must be refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// An entry could not be encoded.
    #[error("us: an account entry could not be encoded")]
    Encoding,
}

/// A run as the account remembers it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Run {
    state: RunState,
    price: Price,
    study: String,
    researcher: String,
    sequence: u64,
    head: String,
}

impl Run {
    fn is_on_the_terms_of(&self, entry: &AccountEntry) -> bool {
        self.price == entry.price && self.study == entry.study && self.researcher == entry.researcher
    }
}

/// One scope's charges and, where it has a budget, its caps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Book {
    budget: Option<(Budget, [Option<u64>; ORDER_COUNT])>,
    charged: Totals,
}

impl Book {
    fn with_budget(budget: Budget) -> Self {
        Self { budget: Some((budget, budget.caps())), charged: Totals::default() }
    }

    /// What is missing to admit this price, if anything is.
    fn shortfall(&self, scope: Scope, price: &Price) -> Option<Shortfall> {
        let (budget, caps) = self.budget.as_ref()?;
        let mut after = self.charged.clone();
        after.charge(price);
        let within = |(sum, cap): (&u128, &Option<u64>)| cap.is_some_and(|cap| *sum <= u128::from(cap));
        let order_survives = after.orders.iter().zip(caps).any(within);
        let delta_exceeded = after.delta > u128::from(budget.delta_thresholds.get());
        (!order_survives || delta_exceeded).then(|| Shortfall {
            scope,
            epsilon_budget: budget.epsilon.as_nats(),
            epsilon_charged: self.spent_epsilon(),
            epsilon_after: epsilon(&after.curve(), budget.delta_per_order()),
            delta_exceeded,
        })
    }

    fn spent_epsilon(&self) -> f64 {
        let delta = self.budget.as_ref().map_or(0.0, |(budget, _)| budget.delta_per_order());
        epsilon(&self.charged.curve(), delta)
    }

    fn remaining_epsilon(&self) -> Option<f64> {
        let (budget, _) = self.budget.as_ref()?;
        Some((budget.epsilon.as_nats() - self.spent_epsilon()).max(0.0))
    }
}

/// Sums of charges. Wide enough that 2^64 entries of the largest price cannot overflow, so a refund is exact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Totals {
    orders: [u128; ORDER_COUNT],
    delta: u128,
}

impl Totals {
    fn charge(&mut self, price: &Price) {
        for (sum, cost) in self.orders.iter_mut().zip(price.curve.orders()) {
            *sum += u128::from(cost.get());
        }
        self.delta += u128::from(price.delta.get());
    }

    /// Only for what was charged before, so nothing goes below zero; saturating keeps it total.
    fn give_back(&mut self, price: &Price) {
        for (sum, cost) in self.orders.iter_mut().zip(price.curve.orders()) {
            *sum = sum.saturating_sub(u128::from(cost.get()));
        }
        self.delta = self.delta.saturating_sub(u128::from(price.delta.get()));
    }

    fn curve(&self) -> Curve {
        Curve::new(self.orders.map(|sum| NanoNats::new(u64::try_from(sum).unwrap_or(u64::MAX))))
    }
}

fn check_form(entry: &AccountEntry) -> Result<(), Refusal> {
    if entry.price.version != GRID_VERSION {
        return Err(Refusal::PriceVersion { found: entry.price.version });
    }
    check_name("dataset", &entry.dataset)?;
    check_name("study", &entry.study)?;
    check_name("researcher", &entry.researcher)?;
    check_name("task", &entry.task)?;
    check_name("time", entry.time.as_deref().unwrap_or("-"))?;
    check_name("previous", &entry.previous)
}

fn check_name(field: &'static str, name: &str) -> Result<(), Refusal> {
    let printable = name.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && (1..=MAX_NAME_LEN).contains(&name.len()) { Ok(()) } else { Err(Refusal::Form { field }) }
}

fn listed(shortfalls: &[Shortfall]) -> String {
    shortfalls.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

type Real = FBig<Down>;
/// Bits carried in caps: their error is then far below one unit of 1e-9, by which they are lowered.
const PRECISION: usize = 128;

fn real(n: u128) -> Real {
    Real::from(UBig::from(n)).with_precision(PRECISION).value()
}

fn ln(n: u128) -> Real {
    real(n).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::price::gaussian_price;
    use proptest::prelude::*;
    use std::sync::LazyLock;

    fn budget(epsilon: f64) -> Budget {
        Budget::new(NanoNats::new((epsilon * 1e9) as u64), AttoDelta::new(1_000_000_000_000).unwrap()).unwrap()
    }

    /// Dataset 2, study `small` 1, researcher `ann` 1.5, at δ = 1e-6.
    fn config() -> AccountConfig {
        AccountConfig {
            dataset: "ward".into(),
            budget: budget(2.0),
            studies: [("small".into(), budget(1.0))].into(),
            researchers: [("ann".into(), budget(1.5))].into(),
        }
    }

    fn request(task: &str, round: u32, sigma2: u64, study: &str, researcher: &str) -> Reservation {
        Reservation {
            researcher: researcher.into(),
            study: study.into(),
            task: task.into(),
            round,
            price: gaussian_price(1, sigma2, 1, sigma2, 1).unwrap(),
            time: None,
        }
    }

    fn write(account: &mut Account, next: Next) -> (Box<AccountEntry>, Option<Spent>) {
        let Next::Write(entry) = next else { panic!("expected an entry, got {next:?}") };
        let spent = account.apply(&entry).unwrap();
        (entry, spent)
    }

    #[test]
    fn one_run_from_reservation_to_evidence() {
        let mut account = Account::new(config()).unwrap();
        let ask = request("t1", 0, 50, "small", "ann");
        let next = account.reserve(&ask).unwrap();
        write(&mut account, next);
        assert_eq!(account.reserve(&ask).unwrap(), Next::Already(RunState::Reserved));
        let charged = account.spent_epsilon();
        assert!(charged > 0.0 && account.remaining_epsilon() < 2.0);
        assert_eq!(account.open_runs().collect::<Vec<_>>(), [("t1", 0, RunState::Reserved)]);

        assert!(account.spend_evidence("t1", 0).is_none());
        assert!(matches!(account.spend("t1", 0, None), Err(AccountError::Transition { .. })));
        let next = account.start_reading("t1", 0, Some("2025-01-01T00:00:00Z".into())).unwrap();
        write(&mut account, next);
        assert!(matches!(account.refund("t1", 0, None), Err(AccountError::Transition { .. })));
        let next = account.spend("t1", 0, None).unwrap();
        let (entry, spent) = write(&mut account, next);
        let spent = spent.unwrap();
        assert_eq!((spent.task(), spent.round(), spent.sequence(), spent.dataset()), ("t1", 0, 3, "ward"));
        assert_eq!((spent.head(), spent.price()), (account.head(), &ask.price));
        assert_eq!(spent.head(), entry.hash_hex().unwrap());
        assert_eq!(account.spend_evidence("t1", 0), Some(spent));
        assert_eq!(account.spend("t1", 0, None).unwrap(), Next::Already(RunState::Spent));
        assert_eq!(account.spent_epsilon(), charged, "charged once, at reservation");
    }

    #[test]
    fn refund_restores_exactly() {
        let mut account = Account::new(config()).unwrap();
        let next = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
        write(&mut account, next);
        let next = account.refund("t1", 0, None).unwrap();
        write(&mut account, next);
        assert_eq!(account.spent_epsilon(), 0.0);
        assert_eq!(account.remaining_epsilon_of(&Scope::Study("small".into())), Some(1.0));
        assert!(account.start_reading("t1", 0, None).is_err());
        let again = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
        assert_eq!(again, Next::Already(RunState::Refunded));
    }

    #[test]
    fn refusals_name_every_scope_that_falls_short() {
        let account = Account::new(config()).unwrap();
        // σ² = 8: ρ = 1/16, ε ≈ 1.66 (a tenth more with δ divided over the orders); σ² = 4 is above everything.
        let scopes = |sigma2, study, researcher| match account.reserve(&request("t", 0, sigma2, study, researcher)) {
            Ok(Next::Write(_)) => vec![],
            Err(Refusal::OverBudget { shortfalls }) => shortfalls.into_iter().map(|s| s.scope).collect(),
            other => panic!("{other:?}"),
        };
        let (small, ann) = (Scope::Study("small".into()), Scope::Researcher("ann".into()));
        assert_eq!(scopes(8, "large", "bob"), vec![]);
        assert_eq!(scopes(8, "small", "bob"), vec![small.clone()]);
        assert_eq!(scopes(8, "large", "ann"), vec![ann.clone()]);
        assert_eq!(scopes(2, "small", "ann"), vec![Scope::Dataset, small, ann]);
        let refusal = account.reserve(&request("t", 0, 8, "small", "bob")).unwrap_err();
        let text = refusal.to_string();
        assert!(
            text.contains("study small has epsilon 1.0000 left of 1.0000, and this run would make it 1."),
            "{text}"
        );
    }

    #[test]
    fn other_terms_for_the_same_run_conflict() {
        let mut account = Account::new(config()).unwrap();
        let next = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
        write(&mut account, next);
        for other in
            [request("t1", 0, 51, "small", "ann"), request("t1", 0, 50, "x", "ann"), request("t1", 0, 50, "small", "x")]
        {
            assert_eq!(account.reserve(&other), Err(Refusal::Conflict));
        }
        assert!(matches!(account.reserve(&request("t1", 1, 500, "small", "ann")), Ok(Next::Write(_))));
    }

    #[test]
    fn bad_entries_are_refused_and_change_nothing() {
        let mut account = Account::new(config()).unwrap();
        let next = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
        let (first, _) = write(&mut account, next);
        let Next::Write(good) = account.start_reading("t1", 0, None).unwrap() else { panic!("expected an entry") };
        let altered = |change: fn(&mut AccountEntry)| {
            let mut entry = good.clone();
            change(&mut entry);
            entry
        };
        let bad = [
            ("replayed", first),
            ("gap", altered(|e| e.sequence += 1)),
            ("other chain", altered(|e| e.previous = GENESIS.into())),
            ("other dataset", altered(|e| e.dataset = "x".into())),
            ("unknown version", altered(|e| e.version = 2)),
            ("unknown grid", altered(|e| e.price.version = 2)),
            ("cheaper price", altered(|e| e.price.curve = Curve::default())),
            ("other study", altered(|e| e.study = "x".into())),
            ("skipped reading", altered(|e| e.kind = EntryKind::Spend)),
            ("second reservation", altered(|e| e.kind = EntryKind::Reserve)),
            ("unreserved run", altered(|e| e.round = 7)),
            ("empty name", altered(|e| e.study = String::new())),
            ("control character", altered(|e| e.time = Some("\n".into()))),
            ("not ASCII", altered(|e| e.task = "ä".into())),
            ("too long", altered(|e| e.task = "a".repeat(MAX_NAME_LEN + 1))),
        ];
        let before = account.clone();
        for (name, entry) in bad {
            assert!(account.apply(&entry).is_err(), "{name}");
            assert_eq!(account, before, "{name}");
        }
        account.apply(&good).unwrap();
    }

    #[test]
    fn an_entry_over_budget_is_not_applied_but_a_narrowed_budget_still_replays() {
        let mut account = Account::new(config()).unwrap();
        let next = account.reserve(&request("t1", 0, 8, "large", "bob")).unwrap();
        let (entry, _) = write(&mut account, next);
        let narrow = AccountConfig { budget: budget(0.5), ..config() };
        let applied = Account::new(narrow.clone()).unwrap().apply(&entry);
        assert!(matches!(applied, Err(AccountError::Refused(Refusal::OverBudget { .. }))));
        let mut replayed = Account::replay(narrow, [*entry]).unwrap();
        assert_eq!(replayed.remaining_epsilon(), 0.0);
        assert!(replayed.reserve(&request("t2", 0, 1_000_000, "large", "bob")).is_err());
        let next = replayed.start_reading("t1", 0, None).unwrap();
        write(&mut replayed, next);
    }

    #[test]
    fn thresholded_releases_need_delta_set_aside() {
        let mut ask = request("t1", 0, 50, "large", "bob");
        ask.price.delta = AttoDelta::new(400).unwrap();
        let refused = Account::new(config()).unwrap().reserve(&ask).unwrap_err();
        assert!(refused.to_string().contains("delta for thresholds"), "{refused}");
        let delta = |atto| AttoDelta::new(atto).unwrap();
        let aside =
            Budget::with_thresholds(NanoNats::new(2_000_000_000), delta(1_000_000_001_000), delta(1000)).unwrap();
        let mut account = Account::new(AccountConfig { budget: aside, ..config() }).unwrap();
        for (task, fits) in [("t1", true), ("t2", true), ("t3", false)] {
            ask.task = task.into();
            match account.reserve(&ask) {
                Ok(next) => assert!(fits && write(&mut account, next).1.is_none()),
                Err(refusal) => assert!(!fits, "{task}: {refusal}"),
            }
        }
    }

    #[test]
    fn budgets_that_promise_nothing_are_refused() {
        let (delta, zero) = (AttoDelta::new(1).unwrap(), AttoDelta::ZERO);
        assert_eq!(Budget::new(NanoNats::ZERO, zero), Err(BudgetError::Delta));
        assert_eq!(Budget::with_thresholds(NanoNats::ZERO, delta, delta), Err(BudgetError::Delta));
        assert!(Budget::new(NanoNats::new(MAX_EPSILON.get() + 1), delta).is_err());
        assert!(serde_json::from_str::<Budget>(r#"{"delta":0,"epsilon":1}"#).is_err());
        assert_eq!(
            serde_json::from_str::<Budget>(r#"{"delta":1000000000000,"epsilon":2000000000}"#).unwrap(),
            budget(2.0)
        );
    }

    /// The cap is the inverse of the conversion: at the cap ε is within the budget, a few units above it is not.
    #[test]
    fn caps_invert_the_conversion() {
        for (eps, atto) in [(0.01, 1u64), (0.1, 1_000_000), (1.0, 1_000_000_000_000), (20.0, 10_000_000_000)] {
            let budget = Budget::new(NanoNats::new((eps * 1e9) as u64), AttoDelta::new(atto).unwrap()).unwrap();
            for (i, cap) in budget.caps().into_iter().enumerate() {
                // All other orders unbounded, so that only this one converts.
                let at = |nano| {
                    let mut curve = [NanoNats::UNBOUNDED; ORDER_COUNT];
                    curve[i] = NanoNats::new(nano);
                    epsilon(&Curve::new(curve), budget.delta_per_order())
                };
                match cap {
                    Some(cap) => {
                        assert!(at(cap) <= eps + 1e-10, "ε {eps} order {i}");
                        assert!(at(cap + 4) > eps, "ε {eps} order {i}: the cap is wastefully low");
                    }
                    None => assert!(at(1) > eps, "ε {eps} order {i}: the order could have promised something"),
                }
            }
        }
    }

    /// The bytes that are hashed, and the hash: a change here breaks every chain that exists.
    #[test]
    fn entry_bytes_are_pinned() {
        let mut account = Account::new(config()).unwrap();
        let mut ask = request("t1", 0, 5, "large", "bob");
        ask.price.curve = Curve::new(ORDERS.map(|(num, _)| NanoNats::new(num)));
        let next = account.reserve(&ask).unwrap();
        let (entry, _) = write(&mut account, next);
        let text = concat!(
            r#"{"dataset":"ward","kind":"reserve","#,
            r#""previous":"0000000000000000000000000000000000000000000000000000000000000000","#,
            r#""price":{"curve":[5,3,7,2,5,3,4,5,6,8,10,12,16,20,24,32,48,64,96,128,192,256,384,512,768,1024],"#,
            r#""delta":0,"version":1},"researcher":"bob","round":0,"sequence":1,"study":"large","task":"t1","version":1}"#
        );
        assert_eq!(serde_json::to_string(&entry).unwrap(), text);
        assert_eq!(serde_json::from_str::<AccountEntry>(text).unwrap(), *entry);
        assert_eq!(account.head(), "76cb4fb59fbf48cdced7f735c79fef101083554ef1dab04f5303cac93d6954cf");
    }

    /// A plain model to compare with: what each run costs, if it is charged.
    type Model = BTreeMap<(usize, u32), (RunState, Reservation)>;

    fn model_sum(model: &Model, of: impl Fn(&Reservation) -> bool) -> [u64; ORDER_COUNT] {
        let mut sum = [0; ORDER_COUNT];
        for (_, ask) in model.values().filter(|(state, ask)| *state != RunState::Refunded && of(ask)) {
            for (total, cost) in sum.iter_mut().zip(ask.price.curve.orders()) {
                *total += cost.get();
            }
        }
        sum
    }

    fn within(sum: &[u64; ORDER_COUNT], caps: &[Option<u64>; ORDER_COUNT]) -> bool {
        sum.iter().zip(caps).any(|(sum, cap)| cap.is_some_and(|cap| *sum <= cap))
    }

    /// Caps take milliseconds in a debug build, so the empty account is made once.
    static EMPTY: LazyLock<Account> = LazyLock::new(|| Account::new(config()).unwrap());
    static CAPS: LazyLock<[[Option<u64>; ORDER_COUNT]; 3]> =
        LazyLock::new(|| [2.0, 1.0, 1.5].map(|eps| budget(eps).caps()));

    proptest! {
        #[test]
        fn random_histories(ops in prop::collection::vec((0usize..4, 0u32..2, 0usize..4, 0usize..5), 1..60)) {
            let sigmas = [20, 40, 100, 1000];
            let (studies, researchers) = (["small", "large"], ["ann", "bob"]);
            let mut account = EMPTY.clone();
            let (mut entries, mut model) = (Vec::new(), Model::new());
            for (task, round, what, op) in ops {
                let name = format!("t{task}");
                let ask = request(&name, round, sigmas[what], studies[task % 2], researchers[what % 2]);
                let next = match op {
                    0 | 1 => account.reserve(&ask).map_err(AccountError::from),
                    2 => account.start_reading(&name, round, None),
                    3 => account.spend(&name, round, None),
                    _ => account.refund(&name, round, None),
                };
                let Ok(Next::Write(entry)) = next else { continue };
                let spent = account.apply(&entry).unwrap();
                prop_assert_eq!(spent.is_some(), entry.kind == EntryKind::Spend);
                let run = model.entry((task, round)).or_insert((RunState::Reserved, ask));
                run.0 = entry.kind.leads_to();
                entries.push(*entry);

                let all = model_sum(&model, |_| true);
                let small = model_sum(&model, |ask| ask.study == "small");
                let ann = model_sum(&model, |ask| ask.researcher == "ann");
                prop_assert_eq!(account.charged(&Scope::Dataset).unwrap().orders().map(NanoNats::get), all);
                prop_assert!(within(&all, &CAPS[0]) && within(&small, &CAPS[1]) && within(&ann, &CAPS[2]));
                prop_assert!(account.spent_epsilon() <= 2.0 + 1e-9);
            }
            let last = entries.last().map(|entry| entry.hash_hex().unwrap());
            prop_assert_eq!(account.head(), last.as_deref().unwrap_or(GENESIS));
            let replayed = EMPTY.clone().replay_onto(entries.clone()).unwrap();
            prop_assert_eq!(&replayed, &account);
            // A missing entry anywhere but at the end is noticed.
            if entries.len() > 1 {
                entries.remove(entries.len() / 2 - 1);
                prop_assert!(EMPTY.clone().replay_onto(entries).is_err());
            }
        }
    }
}
