//! Each node's account for each dataset, put together from everything the log says about it.
//!
//! An account is a chain: every entry carries its number and the hash of the one before. The log shows a part of it, in
//! permits, prices and receipts, possibly of several studies. Two checks follow:
//!
//! - *One book.* Every statement fixes the hash of the account at some number; all statements about one number must agree.
//!   A node that rolled its account back, or kept two, contradicts itself here. Numbers that nobody speaks of are gaps:
//!   each task that a node has not settled can account for two, and more missing entries than that are an error.
//! - *Within budget.* The entries of one study are replayed through `dp`'s own [`Account`] under the caps of its agreement,
//!   in the order of the chain, with numbers and links made anew because entries of other studies stand between them.
//!
//! Does not check the house's own cap for the dataset, which stands in no agreement.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_dp::account::GENESIS;
use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, EntryKind, NanoNats};
use cohortium_messages::{Agreement, Decimal, Entry, Fact, Hash, Name, PublicKey, RosterEntry, Verified};

use crate::report::{AccountReport, FindingKind, Findings};
use crate::study::Study;
use crate::task::Tasks;
use crate::{AuditError, at, unusable};

/// Whose account for which dataset. A node is its message key: two studies may use one name for two houses.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AccountKey {
    pub node: Name,
    pub message_key: PublicKey,
    pub dataset: String,
}

impl AccountKey {
    pub(crate) fn new(party: &RosterEntry, dataset: &str) -> Self {
        Self { node: party.organisation.clone(), message_key: party.message_key, dataset: dataset.to_owned() }
    }
}

/// All accounts that the log speaks of.
#[derive(Default)]
pub(crate) struct Books {
    chains: BTreeMap<AccountKey, Chain>,
    /// In a node's own log: the tasks whose price is reserved and not yet settled, with their datasets.
    pending: BTreeMap<Hash, String>,
    /// In a node's own log: the tasks that were settled.
    settled: BTreeSet<Hash>,
}

/// What is known of one account.
#[derive(Default)]
struct Chain {
    /// Account entries by their numbers, each with the log entry that shows it.
    entries: BTreeMap<u64, (u64, AccountEntry)>,
    /// The hash of the account at a number, each with the first log entry that says so.
    heads: BTreeMap<u64, (u64, String)>,
}

impl Books {
    /// Takes in an account entry that a log entry shows.
    pub(crate) fn add(&mut self, index: u64, key: &AccountKey, entry: &AccountEntry) -> Result<(), AuditError> {
        let head = entry.hash_hex().map_err(|error| at(index, error.to_string()))?;
        let before = entry.sequence.checked_sub(1).ok_or_else(|| at(index, "shows an account entry with number 0"))?;
        self.state(index, key, before, &entry.previous)?;
        self.state(index, key, entry.sequence, &head)?;
        let chain = self.chains.entry(key.clone()).or_default();
        match chain.entries.insert(entry.sequence, (index, entry.clone())) {
            Some((earlier, _)) => Err(at(index, format!("shows the account entry of log entry {earlier} again"))),
            None => Ok(()),
        }
    }

    /// Takes in a statement: at this number, the account has this hash.
    pub(crate) fn state(&mut self, index: u64, key: &AccountKey, number: u64, head: &str) -> Result<(), AuditError> {
        if number == 0 {
            let whose = format!("{} at {}", key.dataset, key.node);
            return if head == GENESIS {
                Ok(())
            } else {
                Err(at(index, format!("begins the account of {whose} with something before it")))
            };
        }
        let chain = self.chains.entry(key.clone()).or_default();
        let (earlier, known) = chain.heads.entry(number).or_insert_with(|| (index, head.to_owned()));
        if known == head {
            return Ok(());
        }
        let whose = format!("account entry {number} of {} at {}", key.dataset, key.node);
        Err(at(index, format!("contradicts log entry {earlier} about {whose}: the account was altered or rolled back")))
    }

    /// Demands that every account is one chain and within its budgets.
    pub(crate) fn finish(
        &self,
        studies: &BTreeMap<Hash, Study>,
        tasks: &Tasks<'_>,
        findings: &mut Findings,
    ) -> Result<Vec<AccountReport>, AuditError> {
        for (key, chain) in &self.chains {
            // Tasks under agreements that are not covered do not excuse a gap: a hub could make them up.
            chain.check_gaps(key, tasks.hidden_at_most(key), findings)?;
        }
        let mut reports = Vec::new();
        for agreement in studies.values().map(|study| &study.agreement) {
            for (party, terms) in agreement.parties.iter().flat_map(|p| agreement.datasets.iter().map(move |d| (p, d)))
            {
                let chain = self.chains.get(&AccountKey::new(&party.entry, terms.name.as_str()));
                reports.push(AccountReport {
                    dataset: terms.name.clone(),
                    epsilon_spent: chain.map_or(Ok(0.0), |chain| chain.epsilon_spent(agreement, &terms.name))?,
                    epsilon_total: agreement.budgets.epsilon_total,
                    node: party.entry.organisation.clone(),
                    sequence: chain.map_or(0, Chain::last),
                    study: agreement.study.clone(),
                });
            }
        }
        Ok(reports)
    }

    /// Takes an entry of a node's own log.
    pub(crate) fn take_own(
        &mut self,
        index: u64,
        entry: &Verified<Entry>,
        node: &RosterEntry,
    ) -> Result<(), AuditError> {
        let (task, account) = match &entry.fact {
            Fact::Permit { account, task, .. } => (*task, std::slice::from_ref(&**account)),
            Fact::Price { account, task } => (*task, account.as_slice()),
            _ => return Ok(()),
        };
        let is_permit = matches!(entry.fact, Fact::Permit { .. });
        let kinds: Vec<EntryKind> = account.iter().map(|account| account.kind).collect();
        let fits = match kinds.as_slice() {
            [EntryKind::Reserve] => is_permit && !self.pending.contains_key(&task) && !self.settled.contains(&task),
            [EntryKind::Reading, EntryKind::Spend] | [EntryKind::Refund] => {
                !is_permit && self.pending.contains_key(&task)
            }
            _ => false,
        };
        if !fits || account.iter().any(|account| account.task != task.to_string()) {
            return Err(at(index, format!("has account entries that do not follow for the task {}", task.short())));
        }
        for account in account {
            self.add(index, &AccountKey::new(node, &account.dataset), account)?;
            match account.kind {
                EntryKind::Reserve => drop(self.pending.insert(task, account.dataset.clone())),
                EntryKind::Reading => {}
                EntryKind::Spend | EntryKind::Refund => {
                    self.pending.remove(&task);
                    self.settled.insert(task);
                }
            }
        }
        Ok(())
    }

    /// Demands that every account in a node's own log is one chain; the number of its last entry, by dataset.
    pub(crate) fn finish_own(&self, findings: &mut Findings) -> Result<BTreeMap<String, u64>, AuditError> {
        for (key, chain) in &self.chains {
            let open = self.pending.values().filter(|dataset| **dataset == key.dataset).count() as u64;
            chain.check_gaps(key, 2 * open, findings)?;
        }
        Ok(self.chains.iter().map(|(key, chain)| (key.dataset.clone(), chain.last())).collect())
    }
}

impl Chain {
    /// The last number that anything is known of.
    fn last(&self) -> u64 {
        self.heads.last_key_value().map_or(0, |(number, _)| *number)
    }

    /// Demands that no more account entries are missing than `hidden_at_most`; those that are, are worth knowing.
    fn check_gaps(&self, key: &AccountKey, hidden_at_most: u64, findings: &mut Findings) -> Result<(), AuditError> {
        let (mut expected, mut missing, mut gap) = (1, 0u64, None);
        // The end counts as one more entry: a receipt may speak of an account entry that the log does not show.
        let end = (self.last().saturating_add(1), self.heads.last_key_value().map_or(0, |(_, (index, _))| *index));
        let shown = self.entries.iter().map(|(number, (index, _))| (*number, *index)).chain([end]);
        for (number, index) in shown {
            if number > expected {
                missing = missing.saturating_add(number - expected);
                gap.get_or_insert((index, expected));
            }
            expected = number.saturating_add(1);
        }
        let Some((index, first)) = gap else { return Ok(()) };
        let text = format!(
            "the log does not show {missing} entries of the account of {} at {}, from number {first} on",
            key.dataset, key.node
        );
        if missing > hidden_at_most {
            return Err(at(index, format!("{text}; no task in the log can account for so many")));
        }
        findings.push(FindingKind::Gap, Some(index), text);
        Ok(())
    }

    /// ε of what a study spent or reserved here, once it is known to be within the agreement's budgets.
    ///
    /// Numbers and links are made anew, because entries of other studies stand between those of this one; where there
    /// are none, they come out as they were.
    fn epsilon_spent(&self, agreement: &Agreement, dataset: &Name) -> Result<f64, AuditError> {
        let mut entries = self.entries.values().filter(|(_, entry)| entry.study == agreement.study.as_str()).peekable();
        if entries.peek().is_none() {
            return Ok(0.0);
        }
        let mut account = Account::new(config(agreement, dataset)?).map_err(unusable)?;
        for (index, entry) in entries {
            let (previous, sequence) = (account.head().to_owned(), account.sequence() + 1);
            let again = AccountEntry { previous, sequence, ..entry.clone() };
            let refused = |error| at(*index, format!("account entry {} does not fit: {error}", entry.sequence));
            account.apply(&again).map_err(refused)?;
        }
        Ok(account.spent_epsilon())
    }
}

/// The caps of one study's part of an account: the study's own in place of the house's, and each researcher's.
fn config(agreement: &Agreement, dataset: &Name) -> Result<AccountConfig, AuditError> {
    let terms = &agreement.budgets;
    let researchers = agreement.researchers.iter().map(|researcher| {
        let scope = format!("{}/{}", agreement.study, researcher.entry.researcher);
        Ok((scope, budget(terms.epsilon_per_researcher, terms.delta)?))
    });
    Ok(AccountConfig {
        dataset: dataset.to_string(),
        budget: budget(terms.epsilon_total, terms.delta)?,
        studies: BTreeMap::new(),
        researchers: researchers.collect::<Result<_, AuditError>>()?,
    })
}

/// (ε, δ) as exact integers: ε in units of 10^-9, δ in units of 10^-18.
fn budget(epsilon: Decimal, delta: Decimal) -> Result<Budget, AuditError> {
    let nano = |value: Decimal| u64::try_from(value.nano()).map_err(unusable);
    let delta = AttoDelta::new(nano(delta)?.saturating_mul(1_000_000_000)).map_err(unusable)?;
    Budget::new(NanoNats::new(nano(epsilon)?), delta).map_err(unusable)
}
