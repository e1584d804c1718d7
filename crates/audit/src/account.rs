//! Each node's account for each dataset, put together from everything the log says about it.
//!
//! An account is a chain: every entry carries its number and the hash of the one before. The log shows a part of it, in
//! permits, prices and receipts, possibly of several studies. Two checks follow:
//!
//! - *One book.* Every statement fixes the hash of the account at some number; all statements about one number must agree.
//!   A node that rolled its account back, or kept two, contradicts itself here. Numbers that nobody speaks of are gaps:
//!   each task that a node has not settled can account for three, and more missing entries than that are a contradiction.
//! - *Within budget.* The entries of one study are replayed through `dp`'s own [`Account`] under the caps of its agreement,
//!   in the order of the chain, with numbers and links made anew because entries of other studies stand between them. A hub
//!   that keeps refunds out of its log must not make an honest member look as if it overspent: where a reservation does not
//!   fit, runs that are not settled in the log count as refunded, as many as account entries are missing before it.
//! - *Prices add up.* What the chain charges to a study is the sum of the prices that follow from the plans of its tasks.
//!
//! All of this a member can break alone, by what it signs, and no hub could have known better. So it is a finding that names
//! the member and ends the trust in what it says of its accounts, all of it: nobody can say which of two books is the
//! right one. What counts for it then is the sum of all prices that it ever signed, refunds not believed. The others'
//! accounts and all tasks are judged as ever.
//!
//! Does not check the house's own cap for the dataset, which stands in no agreement.

use std::collections::{BTreeMap, BTreeSet};

use std::rc::Rc;

use cohortium_dp::account::{AccountError, GENESIS, Refusal, Scope};
use cohortium_dp::price::{ORDER_COUNT, epsilon};
use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, Curve, EntryKind, NanoNats, Next};
use cohortium_messages::{Agreement, Decimal, Entry, Fact, Hash, Name, PublicKey, RosterEntry, Verified};

use crate::outcome::{AccountReport, FindingKind, Findings};
use crate::study::Study;
use crate::task::Tasks;
use crate::{AuditError, at, unusable};

/// Whose account for which dataset. A node is the message key by which its study first knew it: two studies may use one
/// name for two houses, and an amendment may state another key.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AccountKey {
    pub node: Name,
    pub message_key: PublicKey,
    pub dataset: String,
}

impl AccountKey {
    /// A party's account under its study; nothing for who is no party.
    pub(crate) fn new(study: &Study, node: &Name, dataset: &str) -> Option<Self> {
        Some(Self { node: node.clone(), message_key: study.house(node)?, dataset: dataset.to_owned() })
    }

    /// The node, whatever the dataset.
    fn whose(&self) -> (Name, PublicKey) {
        (self.node.clone(), self.message_key)
    }
}

/// A member's word against its own: which log entry it came out at, and how. Reads as what the entry does.
#[derive(Clone)]
pub(crate) struct Contradiction {
    index: u64,
    why: String,
}

/// A node's account for one dataset under one study, after each entry of its chain.
pub(crate) struct History {
    /// The node.
    pub node: Name,
    /// In the order of the chain.
    pub steps: Vec<Step>,
}

/// An account after one of its entries.
pub(crate) struct Step {
    /// ε of what was then spent or reserved by the study, and by each researcher of it, at the agreement's δ.
    pub epsilon: (f64, BTreeMap<Name, f64>),
    /// The log entry that shows it.
    pub index: u64,
}

/// All accounts that the log speaks of.
#[derive(Default)]
pub(crate) struct Books {
    chains: BTreeMap<AccountKey, Chain>,
    /// The nodes (a name and a message key) that contradict themselves, each with the first place where it came out.
    contradicted: BTreeMap<(Name, PublicKey), Contradiction>,
    /// In a node's own log: the tasks whose price is reserved and not yet settled, with their datasets.
    pending: BTreeMap<Hash, String>,
    /// In a node's own log: the tasks that were settled.
    settled: BTreeSet<Hash>,
}

/// What is known of one account.
#[derive(Default)]
struct Chain {
    /// Account entries by their numbers, each with the log entry that shows it.
    entries: BTreeMap<u64, Shown>,
    /// The hash of the account at a number, each with the first log entry that says so.
    heads: BTreeMap<u64, (u64, String)>,
}

/// An account entry, where it is shown, and under which revision of the agreement.
struct Shown {
    entry: AccountEntry,
    index: u64,
    revision: u32,
}

impl Books {
    /// Takes in an account entry that a log entry shows, under this revision of its agreement.
    pub(crate) fn add(&mut self, index: u64, key: &AccountKey, entry: &AccountEntry, revision: u32) {
        let added = if self.is_believed(key) { self.link(index, key, entry, revision) } else { Ok(()) };
        self.note(key, added);
    }

    /// Takes in a statement: at this number, the account has this hash.
    pub(crate) fn state(&mut self, index: u64, key: &AccountKey, number: u64, head: &str) {
        let stated = if self.is_believed(key) { self.pin(index, key, number, head) } else { Ok(()) };
        self.note(key, stated);
    }

    /// Whether what this node says of its accounts agrees with itself, as far as the log was read.
    fn is_believed(&self, key: &AccountKey) -> bool {
        !self.contradicted.contains_key(&key.whose())
    }

    /// The log entry at which it came out that a node contradicts itself, if it does.
    pub(crate) fn contradiction(&self, study: &Study, node: &Name) -> Option<u64> {
        self.contradicted.get(&(node.clone(), study.house(node)?)).map(|found| found.index)
    }

    fn note(&mut self, key: &AccountKey, outcome: Result<(), Contradiction>) {
        if let Err(contradiction) = outcome {
            self.contradicted.entry(key.whose()).or_insert(contradiction);
        }
    }

    fn link(&mut self, index: u64, key: &AccountKey, entry: &AccountEntry, revision: u32) -> Result<(), Contradiction> {
        let contradicts = |why: String| Contradiction { index, why };
        let head = entry.hash_hex().map_err(|error| contradicts(error.to_string()))?;
        let before = entry.sequence.checked_sub(1);
        let before = before.ok_or_else(|| contradicts(String::from("shows an account entry with number 0")))?;
        self.pin(index, key, before, &entry.previous)?;
        self.pin(index, key, entry.sequence, &head)?;
        let chain = self.chains.entry(key.clone()).or_default();
        match chain.entries.insert(entry.sequence, Shown { entry: entry.clone(), index, revision }) {
            Some(Shown { index: earlier, .. }) => {
                Err(contradicts(format!("shows the account entry of log entry {earlier} again")))
            }
            None => Ok(()),
        }
    }

    fn pin(&mut self, index: u64, key: &AccountKey, number: u64, head: &str) -> Result<(), Contradiction> {
        let whose = format!("{} at {}", key.dataset, key.node);
        if number == 0 {
            let why = format!("begins the account of {whose} with something before it");
            return if head == GENESIS { Ok(()) } else { Err(Contradiction { index, why }) };
        }
        let chain = self.chains.entry(key.clone()).or_default();
        let (earlier, known) = chain.heads.entry(number).or_insert_with(|| (index, head.to_owned()));
        if known == head {
            return Ok(());
        }
        let why = format!(
            "contradicts log entry {earlier} about account entry {number} of {whose}: the account was altered or rolled back"
        );
        Err(Contradiction { index, why })
    }

    /// Judges every account: one chain, within its budgets, and the sum of its prices. Whoever contradicts itself is
    /// found and named.
    pub(crate) fn finish(
        &mut self,
        studies: &BTreeMap<Hash, Rc<Study>>,
        tasks: &Tasks,
        findings: &mut Findings,
    ) -> Result<Vec<AccountReport>, AuditError> {
        let mut noted = Vec::new();
        for (key, chain) in self.chains.iter().filter(|(key, _)| self.is_believed(key)) {
            // Tasks under agreements that are not covered excuse a gap too. A hub could make them up; it could also keep the
            // agreement of honest members out of its log, and their accounts must not look skipped for that.
            noted.push((key.clone(), chain.check_gaps(key, tasks.hidden_at_most(key), findings)));
        }
        let places = places(studies);
        for place in &places {
            let Some(chain) = self.chains.get(&place.key).filter(|_| self.is_believed(&place.key)) else { continue };
            noted.push((place.key.clone(), chain.check_sum(place, tasks)?));
        }
        noted.into_iter().for_each(|(key, outcome)| self.note(&key, outcome));
        for ((node, _), Contradiction { index, why }) in &self.contradicted {
            let text = format!("{why}; nothing that {node} says about its accounts is believed");
            findings.push(FindingKind::Contradiction, Some(*index), text);
        }
        places.iter().map(|place| self.report(place, tasks)).collect()
    }

    fn report(&self, place: &Place, tasks: &Tasks) -> Result<AccountReport, AuditError> {
        let Place { dataset, key, revisions } = place;
        let study = place.last()?;
        let (agreement, chain) = (&study.agreement, self.chains.get(key));
        let contradicted = !self.is_believed(key);
        let epsilon_spent = match chain {
            // All that it ever signed for: an upper bound on what any of its books could say.
            _ if contradicted => epsilon_of(&tasks.charged(&agreement.study, key, true), agreement),
            // It is believed, so it was replayed to its end before.
            Some(chain) => {
                let replayed = chain.replay(revisions, dataset, tasks.unsettled(key), |_, _| ())?;
                replayed.map_or(0.0, |replayed| replayed.account.spent_epsilon())
            }
            None => 0.0,
        };
        Ok(AccountReport {
            contradicted,
            dataset: dataset.clone(),
            epsilon_spent,
            epsilon_total: agreement.budgets.epsilon_total,
            node: key.node.clone(),
            sequence: chain.map_or(0, Chain::last),
            study: agreement.study.clone(),
        })
    }

    /// How the accounts of one dataset under one study went, for each node that is believed.
    pub(crate) fn histories(
        &self,
        revisions: &[Rc<Study>],
        dataset: &Name,
        tasks: &Tasks,
    ) -> Result<Vec<History>, AuditError> {
        let Some(last) = revisions.last() else { return Ok(Vec::new()) };
        let mut histories = Vec::new();
        // Who takes part now, and then who did before and left.
        let parties = revisions.iter().rev().flat_map(|study| {
            let of = |node: Name| Some((AccountKey::new(study, &node, dataset.as_str())?, node));
            study.agreement.participants().into_iter().filter_map(of)
        });
        let mut seen = BTreeSet::new();
        for (key, node) in parties {
            if !seen.insert(key.clone()) || !self.is_believed(&key) {
                continue;
            }
            let mut steps = Vec::new();
            if let Some(chain) = self.chains.get(&key) {
                let step = |index, account: &Account| steps.push(step(index, account, &last.agreement));
                let _ = chain.replay(revisions, dataset, tasks.unsettled(&key), step)?;
            }
            histories.push(History { node, steps });
        }
        Ok(histories)
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
            let key = AccountKey {
                node: node.organisation.clone(),
                message_key: node.message_key,
                dataset: account.dataset.clone(),
            };
            self.link(index, &key, account, 0)?;
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
    fn check_gaps(&self, key: &AccountKey, hidden_at_most: u64, findings: &mut Findings) -> Result<(), Contradiction> {
        let (mut expected, mut missing, mut gap) = (1, 0u64, None);
        // The end counts as one more entry: a receipt may speak of an account entry that the log does not show.
        let end = (self.last().saturating_add(1), self.heads.last_key_value().map_or(0, |(_, (index, _))| *index));
        let shown = self.entries.iter().map(|(number, shown)| (*number, shown.index)).chain([end]);
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
            return Err(Contradiction {
                index,
                why: format!(
                    "{text}; no task in the log can account for so many: either the node skipped them, or the log withholds what it said"
                ),
            });
        }
        findings.push(FindingKind::Gap, Some(index), text);
        Ok(())
    }

    /// Demands that what a study was charged here is within its agreement's budgets, and is the sum of the prices of its
    /// tasks: the one from the account entries, the other from the plans.
    fn check_sum(&self, place: &Place, tasks: &Tasks) -> Result<Result<(), Contradiction>, AuditError> {
        let (agreement, key) = (&place.last()?.agreement, &place.key);
        let replayed = match self.replay(&place.revisions, &place.dataset, tasks.unsettled(key), |_, _| ())? {
            Ok(replayed) => replayed,
            Err(contradiction) => return Ok(Err(contradiction)),
        };
        if replayed.charged_as_shown() == tasks.charged(&agreement.study, key, false) {
            return Ok(Ok(()));
        }
        let why = format!(
            "leaves the account of {} at {} at another sum than the prices of the tasks of study {}",
            key.dataset, key.node, agreement.study
        );
        Ok(Err(Contradiction { index: replayed.last, why }))
    }

    /// Replays the entries of a study, showing the account after each to `see`; ends at the first that does not fit.
    ///
    /// Each entry must fit under the caps of its own revision. Where an amendment comes into force, what is there is taken
    /// over as it is, as `dp` does: caps may be smaller than what was spent before, and then nothing more is reserved.
    ///
    /// Numbers and links are made anew, because entries of other studies stand between those of this one; where there
    /// are none, they come out as they were. Of the tasks in `unsettled`, refunds may have been kept out of the log.
    fn replay(
        &self,
        revisions: &[Rc<Study>],
        dataset: &Name,
        unsettled: BTreeSet<String>,
        mut see: impl FnMut(u64, &Account),
    ) -> Result<Result<Replayed, Contradiction>, AuditError> {
        let first = revisions.first().ok_or_else(|| unusable("a study without an agreement"))?;
        let (mut last, mut place, mut expected) = (0, 0, 1);
        let mut account = Account::new(config(&first.agreement, dataset)?).map_err(unusable)?;
        let mut past: Vec<AccountEntry> = Vec::new();
        let mut withheld = Withheld { unsettled, ..Withheld::default() };
        for (number, Shown { entry, index, revision }) in &self.entries {
            withheld.missing = withheld.missing.saturating_add(number.saturating_sub(expected));
            expected = number.saturating_add(1);
            if entry.study != first.agreement.study.as_str() {
                continue;
            }
            let under = revisions.iter().position(|study| study.agreement.revision == *revision).unwrap_or(place);
            if under > place {
                (place, account) = (under, taken_over(revisions, under, dataset, &past)?);
            }
            if let Err(error) = withheld.fit(&mut account, &mut past, entry) {
                let why = format!("account entry {number} of {dataset} does not fit: {error}");
                return Ok(Err(Contradiction { index: *index, why }));
            }
            last = *index;
            see(*index, &account);
        }
        if place + 1 < revisions.len() {
            account = taken_over(revisions, revisions.len() - 1, dataset, &past)?;
        }
        Ok(Ok(Replayed { account, last, let_go: withheld.let_go }))
    }
}

/// A study's part of an account, replayed to its end.
struct Replayed {
    /// Under the caps of the last revision.
    account: Account,
    /// The log entry that shows the last of its entries.
    last: u64,
    /// The reservations that count as refunded although the log shows no refund.
    let_go: Vec<AccountEntry>,
}

impl Replayed {
    /// What the entries charge that the log shows, and nothing else.
    fn charged_as_shown(&self) -> Curve {
        let mut sums = self.account.charged(&Scope::Dataset).unwrap_or_default().orders().map(NanoNats::get);
        for cost in self.let_go.iter().map(|run| run.price.curve.orders()) {
            sums.iter_mut().zip(cost).for_each(|(sum, cost)| *sum = sum.saturating_add(cost.get()));
        }
        Curve::new(sums.map(NanoNats::new))
    }
}

/// What a hub may have kept out of its log of an account: refunds of runs that it shows as reserved for ever.
#[derive(Default)]
struct Withheld {
    let_go: Vec<AccountEntry>,
    /// How many entries of the account the log does not show before the present one, but for those used up.
    missing: u64,
    /// The reservations so far of tasks that are not settled in the log.
    open: Vec<AccountEntry>,
    /// The tasks that the node permitted and that are not settled in the log.
    unsettled: BTreeSet<String>,
}

impl Withheld {
    /// Applies an entry as the next one. Where it is over budget, runs that are not settled are refunded first, one for each
    /// entry that is missing, until it fits.
    fn fit(
        &mut self,
        account: &mut Account,
        past: &mut Vec<AccountEntry>,
        entry: &AccountEntry,
    ) -> Result<(), AccountError> {
        loop {
            let (previous, sequence) = (account.head().to_owned(), account.sequence() + 1);
            let again = AccountEntry { previous, sequence, ..entry.clone() };
            match account.apply(&again) {
                Ok(_) => {
                    if entry.kind == EntryKind::Reserve && self.unsettled.contains(&entry.task) {
                        self.open.push(entry.clone());
                    }
                    past.push(again);
                    return Ok(());
                }
                // Each turn takes one of the runs that are open.
                Err(error) => {
                    let refund = self.refund(account, &error).ok_or(error)?;
                    account.apply(&refund)?;
                    past.push(refund);
                }
            }
        }
    }

    /// The refund of the dearest run that helps: of the researcher whose budget falls short, or else of anybody. Nobody can
    /// say which refund it was that is missing, and the doubt is the member's.
    fn refund(&mut self, account: &Account, error: &AccountError) -> Option<AccountEntry> {
        let AccountError::Refused(Refusal::OverBudget { shortfalls }) = error else { return None };
        let researcher = shortfalls.iter().find_map(|shortfall| match &shortfall.scope {
            Scope::Researcher(name) => Some(name),
            Scope::Dataset | Scope::Study(_) => None,
        });
        let cost =
            |run: &AccountEntry| run.price.curve.orders().iter().map(|cost| u128::from(cost.get())).sum::<u128>();
        let helps = |(_, run): &(usize, &AccountEntry)| researcher.is_none_or(|name| *name == run.researcher);
        let (place, _) = self.open.iter().enumerate().filter(helps).max_by_key(|(_, run)| cost(run))?;
        self.missing = self.missing.checked_sub(1)?;
        let run = self.open.swap_remove(place);
        let Ok(Next::Write(refund)) = account.refund(&run.task, run.round, None) else { return None };
        self.let_go.push(run);
        Some(*refund)
    }
}

/// The account with these entries, under the caps of one of the revisions.
fn taken_over(
    revisions: &[Rc<Study>],
    place: usize,
    dataset: &Name,
    past: &[AccountEntry],
) -> Result<Account, AuditError> {
    let study = revisions.get(place).ok_or_else(|| unusable("a revision that is not there"))?;
    Account::replay(config(&study.agreement, dataset)?, past.iter().cloned()).map_err(unusable)
}

impl From<Contradiction> for AuditError {
    fn from(Contradiction { index, why }: Contradiction) -> Self {
        at(index, why)
    }
}

/// An account that a study has.
struct Place {
    dataset: Name,
    key: AccountKey,
    /// The study's agreement, revision by revision.
    revisions: Vec<Rc<Study>>,
}

impl Place {
    /// The study under the last revision of its agreement.
    fn last(&self) -> Result<&Study, AuditError> {
        self.revisions.last().map(|study| &**study).ok_or_else(|| unusable("a study without an agreement"))
    }
}

/// Every account that a study has or had: at each of its parties, for each of its datasets, in the order of the last
/// revision and then of the earlier ones.
fn places(studies: &BTreeMap<Hash, Rc<Study>>) -> Vec<Place> {
    let names: BTreeSet<&Name> = studies.values().map(|study| &study.agreement.study).collect();
    let mut places: Vec<Place> = Vec::new();
    for name in names {
        let revisions = revisions_of(studies, name);
        for study in revisions.iter().rev() {
            for (party, terms) in study.agreement.parties.iter().flat_map(|party| {
                study.agreement.datasets.iter().map(move |terms| (&party.entry.organisation, &terms.name))
            }) {
                let key = AccountKey::new(study, party, terms.as_str());
                let is_known = |key: &AccountKey| {
                    places.iter().any(|place| {
                        place.key == *key && place.revisions.first().is_some_and(|first| first.agreement.study == *name)
                    })
                };
                if let Some(key) = key.filter(|key| !is_known(key)) {
                    places.push(Place { dataset: terms.clone(), key, revisions: revisions.clone() });
                }
            }
        }
    }
    places
}

/// All revisions of a study's agreement, in order.
pub(crate) fn revisions_of(studies: &BTreeMap<Hash, Rc<Study>>, name: &Name) -> Vec<Rc<Study>> {
    let mut revisions: Vec<Rc<Study>> =
        studies.values().filter(|study| study.agreement.study == *name).map(Rc::clone).collect();
    revisions.sort_by_key(|study| study.agreement.revision);
    revisions
}

fn step(index: u64, account: &Account, agreement: &Agreement) -> Step {
    let researchers = agreement.researchers.iter().map(|terms| &terms.entry.researcher);
    let of = |researcher: &Name| {
        let scope = Scope::Researcher(scope_of(agreement, researcher));
        (researcher.clone(), account.charged(&scope).map_or(0.0, |charged| epsilon_of(&charged, agreement)))
    };
    Step { epsilon: (account.spent_epsilon(), researchers.map(of).collect()), index }
}

/// ε of a sum of prices at the agreement's δ, as accounts state it: δ is divided over the orders.
fn epsilon_of(charged: &Curve, agreement: &Agreement) -> f64 {
    epsilon(charged, agreement.budgets.delta.to_f64() / ORDER_COUNT as f64)
}

/// A researcher's name in accounts, in which several studies meet.
fn scope_of(agreement: &Agreement, researcher: &Name) -> String {
    format!("{}/{researcher}", agreement.study)
}

/// The caps of one study's part of an account: the study's own in place of the house's, and each researcher's.
fn config(agreement: &Agreement, dataset: &Name) -> Result<AccountConfig, AuditError> {
    let terms = &agreement.budgets;
    let researchers = agreement.researchers.iter().map(|researcher| {
        Ok((scope_of(agreement, &researcher.entry.researcher), budget(terms.epsilon_per_researcher, terms.delta)?))
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
