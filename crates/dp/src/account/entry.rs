//! The lines of the book: their form, their canonical bytes, and what one of them does.
//!
//! Compact JSON with fields in alphabetical order is canonical (RFC 8785) because every field is an integer or
//! printable ASCII. An auditor needs nothing else: what is charged is the sum over the entries of `price` times
//! [`AccountEntry::rounds_affected`], added for a reservation and taken off for a refund. Does not decide whether a line
//! fits the book.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::{AccountError, Refusal};
use crate::price::{GRID_VERSION, Price};

/// Version of [`AccountEntry`] and of the rules here.
pub const ENTRY_VERSION: u32 = 1;
/// Longest name in an entry, in characters.
pub const MAX_NAME_LEN: usize = 128;
/// Most rounds of a schedule: their two entries each are half of a full book.
pub const MAX_ROUNDS: u32 = 1 << 18;
/// `previous` of the first entry.
pub const GENESIS: &str = "0000000000000000000000000000000000000000000000000000000000000000";
/// An entry with names of usual length is 500 to 700 bytes of JSON.
const USUAL_ENTRY_LEN: usize = 1024;

/// What a single run asks the account for.
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
/// What a schedule asks the account for: rounds that are all alike, paid as a whole and drawn down in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ScheduleReservation {
    /// Who asks.
    pub researcher: String,
    /// Under which study.
    pub study: String,
    /// The task's hash. A task is either one schedule or single runs.
    pub task: String,
    /// How many rounds, 1 to [`MAX_ROUNDS`].
    pub rounds: u32,
    /// What one round costs, as the owner computed it.
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
    /// The price of a run; of a schedule, that of each of its rounds. The same in every entry of the run or schedule.
    pub price: Price,
    /// Who asked.
    pub researcher: String,
    /// The task's round. Of a schedule: 0 when it is reserved, and when it is cancelled the first round given back.
    pub round: u32,
    /// Of a schedule, how many rounds it has, in each of its entries; absent from the entries of single runs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rounds: Option<u32>,
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
        hash_hex(self, USUAL_ENTRY_LEN)
    }

    /// How many times `price` this entry charges (a reservation) or gives back (a refund); 0 for the others.
    pub fn rounds_affected(&self) -> u32 {
        match self.kind {
            EntryKind::Reserve => self.rounds.unwrap_or(1),
            EntryKind::Refund => self.rounds.map_or(1, |rounds| rounds.saturating_sub(self.round)),
            EntryKind::Reading | EntryKind::Spend => 0,
        }
    }
}

/// What an entry does to its run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum EntryKind {
    /// Charges the price; of a schedule, that of all its rounds.
    Reserve,
    /// From here on rows may have been read; the price stays.
    Reading,
    /// Noised and masked bytes may leave.
    Spend,
    /// Gives the price back; of a schedule, that of `round` and every later one.
    Refund,
}

impl EntryKind {
    pub(super) fn leads_to(self) -> RunState {
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
    pub(super) fn is_open(self) -> bool {
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
    pub(super) dataset: String,
    pub(super) task: String,
    pub(super) round: u32,
    pub(super) price: Price,
    pub(super) sequence: u64,
    pub(super) head: String,
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

    /// What was charged for this run; of a schedule, for this round.
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

/// Whether every field is of the form that the canonical bytes rely on.
pub(super) fn check_form(entry: &AccountEntry) -> Result<(), Refusal> {
    if entry.price.version != GRID_VERSION {
        return Err(Refusal::PriceVersion { found: entry.price.version });
    }
    if let Some(rounds) = entry.rounds {
        let begins_late = entry.kind == EntryKind::Reserve && entry.round != 0;
        if begins_late || !(1..=MAX_ROUNDS).contains(&rounds) {
            return Err(Refusal::Rounds);
        }
    }
    check_name("dataset", &entry.dataset)?;
    check_name("study", &entry.study)?;
    check_name("researcher", &entry.researcher)?;
    check_name("task", &entry.task)?;
    check_name("time", entry.time.as_deref().unwrap_or("-"))?;
    check_name("previous", &entry.previous)
}

pub(super) fn check_name(field: &'static str, name: &str) -> Result<(), Refusal> {
    // Without an early end, sixteen bytes at a time: this runs on every field of every entry.
    let printable = |name: &str| name.bytes().fold(true, |fits, byte| fits & (b' '..=b'~').contains(&byte));
    if (1..=MAX_NAME_LEN).contains(&name.len()) && printable(name) { Ok(()) } else { Err(Refusal::Form { field }) }
}

/// SHA-256 of a value's compact JSON, lowercase hex.
pub(super) fn hash_hex(value: &impl Serialize, usual_len: usize) -> Result<String, AccountError> {
    let mut bytes = Vec::with_capacity(usual_len);
    serde_json::to_writer(&mut bytes, value).map_err(|_| AccountError::Encoding)?;
    let mut hex = String::with_capacity(GENESIS.len());
    for byte in Sha256::digest(&bytes) {
        for nibble in [byte >> 4, byte & 15] {
            hex.push(char::from(if nibble < 10 { b'0' + nibble } else { b'a' + (nibble - 10) }));
        }
    }
    Ok(hex)
}
