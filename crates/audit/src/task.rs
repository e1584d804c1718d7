//! The way of each task through the log: what must come before what, and who may say it.
//!
//! Entries are taken in the order of the log, so that "before" means before. Whatever hub and node derived when they
//! acted (the checked plan, its price, the policy's decision, the round's context) is derived again here, from the
//! signed task and the signed agreement, and compared with what they logged.
//!
//! A node decides by its own clock, so its permit is judged at the time it states; the hub decides on a release at the
//! time of asking. Both times are claims; what they can change is only whether the agreement was in force. They are
//! compared with nothing else.
//!
//! **Whose fault.** The hub makes the order, and sees it before anyone else. So a permit that stands where something before
//! it forbids it, a second word of a person, a word about a task that is over are the hub's doing, whoever signed them: it
//! had to refuse them or to end the task, and the error says so.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use cohortium_dp::price::ORDER_COUNT;
use cohortium_dp::{Curve, NanoNats};
use cohortium_messages::{Author, Entry, Fact, Hash, Name, Receipt, ReleaseDocument, Task, Timestamp, Verified};
use cohortium_policy::{
    Authored, Denial, Grounds, ReceiptEvidence, Request, Revoked, Statement, StatementError, may_still_say, open_task,
    verify_release,
};
use cohortium_query::{PlanError, Priced};

use crate::account::{AccountKey, Books};
use crate::body::Bodies;
use crate::leaf::Leaf;
use crate::outcome::{ApprovalReport, FindingKind, Findings, Outcome, TaskReport, printable, who};
use crate::standing::Standing;
use crate::study::Study;
use crate::{AuditError, at};

/// All tasks of the studies that are known.
#[derive(Default)]
pub(crate) struct Tasks {
    by_hash: BTreeMap<Hash, TaskRecord>,
    standing: Standing,
    /// Tasks of agreements that are not covered: over which dataset, and who would take part.
    uncovered: Vec<(Name, Vec<Name>)>,
}

/// A task, and what the log says about it.
pub(crate) struct TaskRecord {
    /// What people said, in the order of the log.
    pub approvals: Vec<ApprovalReport>,
    /// Why it failed, and which entry says so.
    pub failure: Option<(u64, String)>,
    /// The index of its entry in the log: the position of its round.
    pub index: u64,
    /// For each node that permitted: when, by its clock, and the commitment to the rows it would read.
    pub permits: BTreeMap<Name, (Timestamp, Hash)>,
    pub plan: Hash,
    pub priced: Result<Priced, PlanError>,
    pub refusals: Vec<Refusal>,
    pub release: Option<Released>,
    /// For each node that said what became of the price: the sequence number of its spend, or nothing if it refunded.
    pub settled: BTreeMap<Name, Option<u64>>,
    pub study: Rc<Study>,
    pub task: Verified<Task>,
}

/// A node's or the hub's no.
pub(crate) struct Refusal {
    pub author: Author,
    pub clauses: Vec<String>,
    pub index: u64,
    /// Whether the hub refuses what the agreement permits.
    is_odd: bool,
    pub time: Timestamp,
    /// In its author's words.
    pub why: String,
}

/// An answer that was checked.
pub(crate) struct Released {
    pub document: Verified<ReleaseDocument>,
    /// The index of its entry in the log.
    pub index: u64,
}

impl Tasks {
    /// Takes the next entry of the log.
    pub(crate) fn take(
        &mut self,
        index: u64,
        authored: &Authored,
        study: &Rc<Study>,
        bodies: &Bodies<'_>,
        (books, findings): (&mut Books, &mut Findings),
    ) -> Result<(), AuditError> {
        let (entry, revision) = (authored.entry(), study.agreement.revision);
        match &entry.fact {
            Fact::Agreement { .. } => Ok(()),
            Fact::Alert { .. } | Fact::Freeze { .. } | Fact::Incident { .. } | Fact::Revocation { .. } => {
                self.standing.take(index, authored, study, findings);
                Ok(())
            }
            Fact::Approval { plan, task, .. } => {
                let before = self.standing.said_about_task(*task);
                may_still_say(before, authored).map_err(|error| hubs(index, error))?;
                self.record(index, *task, entry)?.approve(index, entry, *plan)?;
                self.standing.take(index, authored, study, findings);
                Ok(())
            }
            Fact::Dispatch { task, .. } => self.record(index, *task, entry).map(drop),
            Fact::Task { body, plan, task } => {
                let asked = TaskRecord::ask(index, entry, (*body, *plan), study, bodies)?;
                match self.by_hash.insert(*task, asked) {
                    Some(earlier) => Err(at(index, format!("asks the task of entry {} again", earlier.index))),
                    None => Ok(()),
                }
            }
            Fact::Permit { account, task, .. } => {
                let standing = std::mem::take(&mut self.standing);
                let permitted = self.record(index, *task, entry)?.permit(index, entry, &standing)?;
                self.standing = standing;
                books.add(index, &permitted, account, revision);
                Ok(())
            }
            Fact::Price { account, task } => {
                let key = self.record(index, *task, entry)?.price(index, entry)?;
                account.iter().for_each(|account| books.add(index, &key, account, revision));
                Ok(())
            }
            Fact::Refusal { clauses, task, why } => {
                let revoked = self.standing.revoked(entry.agreement);
                self.record(index, *task, entry)?.refuse(index, entry, (clauses, why), &revoked)
            }
            Fact::Failure { reason, task } => self.record(index, *task, entry)?.fail(index, reason),
            Fact::Release { body, task, .. } => {
                let record = self.record(index, *task, entry)?;
                let asks = record.task.researcher.clone();
                if let Some(taken) = self.standing.taken_back(study, &asks) {
                    return Err(at(index, format!("releases although {taken}")));
                }
                self.record(index, *task, entry)?.release(index, *body, bodies, books)
            }
        }
    }

    /// How often a study was stopped at an organisation, and since which entry it still stands still at whom.
    pub(crate) fn stops(&self, study: &Name) -> (u64, Vec<(&Name, u64)>) {
        self.standing.stops(study)
    }

    /// Notes a task under an agreement that is not covered: what its members said about it is not judged, and may be about
    /// an account that is. Whether they took part at all nobody vouches for.
    pub(crate) fn note_uncovered(&mut self, leaf: &Leaf, bodies: &Bodies<'_>) -> Result<(), AuditError> {
        if let Fact::Task { body, .. } = leaf.claims().fact {
            let task = bodies.envelope(leaf.index, body)?;
            let task = task.peek::<Task>().map_err(|error| at(leaf.index, error.to_string()))?;
            let task = task.claims();
            self.uncovered.push((task.plan.dataset.clone(), task.participants.clone()));
        }
        Ok(())
    }

    /// How many account entries of this account the log may not show although its node is honest. A run has three
    /// (reserve, reading, spend; or two of them, with a refund), and a hub that shows a task to a node may keep what the node
    /// said about it out of the log.
    pub(crate) fn hidden_at_most(&self, key: &AccountKey) -> u64 {
        let shown: u64 = self.by_hash.values().map(|record| record.hidden_at_most(key)).sum();
        let is_about_it = |(dataset, participants): &&(Name, Vec<Name>)| {
            dataset.as_str() == key.dataset && participants.contains(&key.node)
        };
        shown + ENTRIES_OF_A_RUN * self.uncovered.iter().filter(is_about_it).count() as u64
    }

    /// The tasks that a node permitted and that the log does not settle, as accounts call them. Also those that go on as far
    /// as the log goes: a hub can tell a node that a task has ended, and log nothing of it.
    pub(crate) fn unsettled(&self, key: &AccountKey) -> BTreeSet<String> {
        let is_unsettled = |record: &&TaskRecord| {
            record.study.house(&key.node) == Some(key.message_key)
                && record.permits.contains_key(&key.node)
                && !record.settled.contains_key(&key.node)
        };
        self.by_hash.values().filter(is_unsettled).map(|record| record.task.hash().to_string()).collect()
    }

    /// The sum of the prices, as they follow from the plans, of all tasks of a study that a node permitted over a dataset:
    /// but for those that it refunded, unless `refunds_count`. Sums stop at what no budget reaches, as an account's do.
    pub(crate) fn charged(&self, study: &Name, key: &AccountKey, refunds_count: bool) -> Curve {
        // By the study's name and the node's key, as accounts have them.
        let charges = |record: &&TaskRecord| {
            record.task.study == *study
                && record.study.house(&key.node) == Some(key.message_key)
                && record.task.plan.dataset.as_str() == key.dataset
                && record.permits.contains_key(&key.node)
                && (refunds_count || record.settled.get(&key.node) != Some(&None))
        };
        let mut sums = [0u64; ORDER_COUNT];
        for priced in self.by_hash.values().filter(charges).filter_map(|record| record.priced.as_ref().ok()) {
            for (sum, cost) in sums.iter_mut().zip(priced.price().curve.orders()) {
                *sum = sum.saturating_add(cost.get());
            }
        }
        Curve::new(sums.map(NanoNats::new))
    }

    /// The tasks of a study under all revisions of its agreement, in the order of the log.
    pub(crate) fn of(&self, study: &Name) -> Vec<&TaskRecord> {
        self.in_order().into_iter().filter(|record| record.study.agreement.study == *study).collect()
    }

    /// What the report says of the tasks, in the order of the log.
    pub(crate) fn report(&self, findings: &mut Findings) -> Vec<TaskReport> {
        self.in_order().into_iter().map(|record| record.report(findings)).collect()
    }

    fn in_order(&self) -> Vec<&TaskRecord> {
        let mut records: Vec<&TaskRecord> = self.by_hash.values().collect();
        records.sort_by_key(|record| record.index);
        records
    }

    /// The task that an entry is about, which must stand before it, under the same agreement, and not be released.
    fn record(&mut self, index: u64, task: Hash, entry: &Verified<Entry>) -> Result<&mut TaskRecord, AuditError> {
        let Some(record) = self.by_hash.get_mut(&task) else {
            let kind = entry.fact.kind();
            return Err(at(
                index,
                format!("is a {kind} for the task {}, which the log does not hold before it", task.short()),
            ));
        };
        if record.study.agreement.hash() != entry.agreement {
            return Err(at(index, "is about a task of another study"));
        }
        match &record.release {
            // Who dropped out says what it had paid when it comes back.
            Some(release) if !is_price_of_a_drop_out(entry, &release.document.survivors) => {
                Err(hubs(index, format!("is about a task that was released before, at entry {}", release.index)))
            }
            _ => Ok(record),
        }
    }
}

/// How many entries an account has of one run: `reserve`, `reading`, `spend`.
const ENTRIES_OF_A_RUN: u64 = 3;

/// An error that is the hub's, whoever signed the entry.
fn hubs(index: u64, why: impl std::fmt::Display) -> AuditError {
    at(index, format!("{why}; the hub must not log that"))
}

fn is_price_of_a_drop_out(entry: &Entry, survivors: &[Name]) -> bool {
    matches!((&entry.fact, &entry.author), (Fact::Price { .. }, Author::Node(node)) if !survivors.contains(node))
}

impl TaskRecord {
    fn ask(
        index: u64,
        entry: &Verified<Entry>,
        (body, plan): (Hash, Hash),
        study: &Rc<Study>,
        bodies: &Bodies<'_>,
    ) -> Result<Self, AuditError> {
        let envelope = bodies.envelope(index, body)?;
        let task = open_task(&envelope, &study.agreement, &Revoked::nothing())
            .map_err(|error| at(index, format!("the task: {error}")))?;
        if entry.author != Author::Researcher(task.researcher.clone()) {
            return Err(at(index, "logs a task that somebody else asks"));
        }
        Ok(Self {
            approvals: Vec::new(),
            failure: None,
            index,
            permits: BTreeMap::new(),
            plan,
            priced: cohortium_query::check(&task.plan, &study.agreement, study.agreement.hash()),
            refusals: Vec::new(),
            release: None,
            settled: BTreeMap::new(),
            study: Rc::clone(study),
            task,
        })
    }

    /// A person says yes or no.
    fn approve(&mut self, index: u64, entry: &Verified<Entry>, about: Hash) -> Result<(), AuditError> {
        let (Fact::Approval { approved, why, .. }, Author::Person { organisation, person }) =
            (&entry.fact, &entry.author)
        else {
            return Err(at(index, "is no approval by a person"));
        };
        let role = self.study.agreement.person(organisation, person).map(|entry| entry.role);
        let role = role.ok_or_else(|| at(index, format!("{person} is nobody at {organisation}")))?;
        if about != self.plan {
            return Err(hubs(index, "approves or refuses another plan than the task's"));
        }
        if self.is_over() {
            return Err(hubs(index, "approves or refuses a task that had ended"));
        }
        self.approvals.push(ApprovalReport {
            approved: *approved,
            entry: index,
            organisation: organisation.clone(),
            person: person.clone(),
            role,
            time: entry.time,
            why: printable(why),
        });
        Ok(())
    }

    /// A node permits: the plan fits, what is reserved is the price; and as long as the task goes on, the policy permits on
    /// what the log holds before.
    fn permit(&mut self, index: u64, entry: &Verified<Entry>, standing: &Standing) -> Result<AccountKey, AuditError> {
        let (node, priced) = (who(&entry.author), self.priced(index)?);
        let revoked = standing.revoked(self.study.agreement.hash());
        let grounds = Grounds {
            about_plan: standing.said_about_plan(self.study.agreement.hash(), self.plan),
            about_task: standing.said_about_task(self.task.hash()),
            revoked: &revoked,
            stands_still: standing.stopped(&self.task.study, node).is_some(),
        };
        let grounds = (!self.is_over()).then_some(&grounds);
        let statement = self.study.policy.read_statement(entry, &self.task, &priced, grounds);
        let statement = statement.map_err(|error| match &error {
            StatementError::Denied(_) => {
                let since = standing.against(&self.study, &self.task.researcher, node);
                let since: String = since.into_iter().map(|why| format!("; {why}")).collect();
                hubs(index, format!("{error}{since}"))
            }
            _ => at(index, error.to_string()),
        })?;
        let Statement::Permitted { snapshot, .. } = statement else {
            return Err(at(index, "is no permit"));
        };
        match self.permits.insert(node.clone(), (entry.time, snapshot)) {
            Some(_) => Err(at(index, format!("is the second permit of {node} for this task"))),
            None => self.account_key(index, node),
        }
    }

    /// Whether it ended without an answer: nothing follows any more but what is said for the accounts.
    fn is_over(&self) -> bool {
        !self.refusals.is_empty() || self.failure.is_some()
    }

    /// A node says what became of the price.
    fn price(&mut self, index: u64, entry: &Verified<Entry>) -> Result<AccountKey, AuditError> {
        let (node, priced) = (who(&entry.author), self.priced(index)?);
        if !self.permits.contains_key(node) {
            return Err(hubs(index, format!("settles a price for which the log holds no permit of {node} before it")));
        }
        let statement = self.study.policy.read_statement(entry, &self.task, &priced, None);
        let spent = match statement.map_err(|error| at(index, error.to_string()))? {
            Statement::Spent { spend, .. } => Some(spend.sequence),
            Statement::Refunded { .. } => None,
            Statement::Permitted { .. } => return Err(at(index, "is no price")),
        };
        match self.settled.insert(node.clone(), spent) {
            Some(_) => Err(at(index, format!("is the second settlement of {node} for this task"))),
            None => self.account_key(index, node),
        }
    }

    fn refuse(
        &mut self,
        index: u64,
        entry: &Verified<Entry>,
        (clauses, why): (&[String], &str),
        revoked: &Revoked,
    ) -> Result<(), AuditError> {
        let author = entry.author.clone();
        if self.refusals.iter().any(|refusal| refusal.author == author) {
            return Err(at(index, format!("is the second refusal of {} for this task", who(&author))));
        }
        let (clauses, time, why) = (clauses.to_vec(), entry.time, why.to_owned());
        // The hub judges as a kindness; a hub that refuses what all custodians agreed to is none.
        let permits = |priced: &Priced, time| self.decide(priced, time, revoked).is_ok();
        let is_odd = matches!(author, Author::Hub(_))
            && self.priced.as_ref().is_ok_and(|priced| permits(priced, time) && permits(priced, self.task.asked_at));
        self.refusals.push(Refusal { author, clauses, index, is_odd, time, why });
        Ok(())
    }

    fn fail(&mut self, index: u64, reason: &str) -> Result<(), AuditError> {
        match self.failure.replace((index, reason.to_owned())) {
            Some(_) => Err(at(index, "says a second time that the task failed")),
            None => Ok(()),
        }
    }

    /// The hub releases: everything that a release needs stands before it, and the document holds what it must.
    fn release(&mut self, index: u64, body: Hash, bodies: &Bodies<'_>, books: &mut Books) -> Result<(), AuditError> {
        if self.is_over() {
            return Err(at(index, "releases a task that was refused or had failed"));
        }
        let (agreement, priced) = (&self.study.agreement, self.priced(index)?);
        self.decide(&priced, self.task.asked_at, &Revoked::nothing())
            .map_err(|denial| at(index, format!("releases what is forbidden: {denial}")))?;
        let bad = |error: &dyn std::fmt::Display| at(index, format!("the release: {error}"));
        let envelope = bodies.envelope(index, body)?;
        let document = envelope.open::<ReleaseDocument>(&agreement.hub.message_key).map_err(|error| bad(&error))?;
        verify_release(&document, agreement, &self.task, &priced).map_err(|error| bad(&error))?;
        if let Some(missing) = agreement.participants().iter().find(|name| !self.permits.contains_key(*name)) {
            return Err(at(index, format!("releases without a permit of {missing} before it")));
        }
        let context = priced.round_context(agreement, self.task.hash(), self.index);
        let context = context.hash().map_err(|error| bad(&error))?;
        for receipt in &document.receipts {
            let evidence = ReceiptEvidence::new(receipt.clone(), agreement).map_err(|error| bad(&error))?;
            let receipt = evidence.receipt();
            self.check_receipt(index, receipt, context)?;
            let key = self.account_key(index, &receipt.organisation)?;
            books.state(index, &key, receipt.account_sequence, &receipt.account_head.to_string());
        }
        self.release = Some(Released { document, index });
        Ok(())
    }

    /// A survivor's receipt: it paid before, for the rows that it permitted, in the round that this log position makes.
    fn check_receipt(&self, index: u64, receipt: &Receipt, context: Hash) -> Result<(), AuditError> {
        let name = &receipt.organisation;
        let Some(Some(spent)) = self.settled.get(name) else {
            return Err(at(index, format!("releases without a spent price of {name} before it")));
        };
        for (field, agrees) in [
            ("account_sequence", receipt.account_sequence >= *spent),
            ("context", receipt.context == context),
            ("snapshot", self.permits.get(name).is_some_and(|(_, snapshot)| *snapshot == receipt.snapshot)),
        ] {
            if !agrees {
                return Err(at(
                    index,
                    format!("the receipt of {name} has a {field} that does not follow from the log"),
                ));
            }
        }
        Ok(())
    }

    fn priced(&self, index: u64) -> Result<Priced, AuditError> {
        let priced =
            self.priced.as_ref().map_err(|error| at(index, format!("acts on a plan that must be refused: {error}")));
        priced.cloned()
    }

    fn decide(&self, priced: &Priced, time: Timestamp, revoked: &Revoked) -> Result<(), Denial> {
        let request = Request::new(&self.task, priced, self.study.agreement.hash(), time, revoked);
        self.study.policy.decide(&request).map(drop)
    }

    fn account_key(&self, index: u64, node: &Name) -> Result<AccountKey, AuditError> {
        let key = AccountKey::new(&self.study, node, self.task.plan.dataset.as_str());
        key.ok_or_else(|| at(index, format!("{node} is no party")))
    }

    /// How many entries about this task this account may hold, or get, that the log does not show.
    fn hidden_at_most(&self, key: &AccountKey) -> u64 {
        let is_about_it = self.task.plan.dataset.as_str() == key.dataset;
        let takes_part = self.study.house(&key.node) == Some(key.message_key);
        let node = Author::Node(key.node.clone());
        if !is_about_it || !takes_part || self.settled.contains_key(&key.node) {
            0
        } else if self.permits.contains_key(&key.node) {
            ENTRIES_OF_A_RUN - 1
        } else if self.refusals.iter().any(|refusal| refusal.author == node) {
            0
        } else {
            ENTRIES_OF_A_RUN
        }
    }

    fn report(&self, findings: &mut Findings) -> TaskReport {
        let outcome = self.outcome();
        match outcome {
            Outcome::Open => {}
            Outcome::Released { .. } => self.note_unsettled("was answered without it", findings),
            Outcome::Failed { .. } | Outcome::Refused { .. } => {
                self.note_unsettled("ended without an answer", findings);
            }
        }
        self.note_odd_refusal(findings);
        TaskReport {
            approvals: self.approvals.clone(),
            asked_at: self.task.asked_at,
            dataset: self.task.plan.dataset.clone(),
            entry: self.index,
            epsilon_micro: self.priced.as_ref().ok().map(|priced| priced.facts().epsilon_micro),
            outcome,
            plan: self.plan,
            researcher: self.task.researcher.clone(),
            study: self.task.study.clone(),
            task: self.task.hash(),
        }
    }

    /// How it ended.
    pub(crate) fn outcome(&self) -> Outcome {
        let clauses = |refusal: &Refusal| {
            let name = who(&refusal.author).clone();
            let clauses = refusal.clauses.iter();
            clauses.map(|clause| format!("{name}: {}", printable(clause))).collect::<Vec<_>>()
        };
        match (&self.release, &self.failure) {
            (Some(release), _) => Outcome::Released {
                entry: release.index,
                release: release.document.hash(),
                suppressed: release.document.suppressed.len() as u64,
            },
            (None, _) if !self.refusals.is_empty() => {
                Outcome::Refused { clauses: self.refusals.iter().flat_map(clauses).collect() }
            }
            (None, Some((_, reason))) => Outcome::Failed { reason: printable(reason) },
            (None, None) => Outcome::Open,
        }
    }

    /// Whoever is in an answer has paid before it; so of a released task only drop-outs can be meant.
    fn note_unsettled(&self, how_it_ended: &str, findings: &mut Findings) {
        for node in self.permits.keys().filter(|node| !self.settled.contains_key(*node)) {
            let text = format!(
                "{node} permitted the task {}, which {how_it_ended}, and has not said what became of the price",
                self.task.hash().short()
            );
            findings.push(FindingKind::Unsettled, Some(self.index), text);
        }
    }

    fn note_odd_refusal(&self, findings: &mut Findings) {
        for refusal in self.refusals.iter().filter(|refusal| refusal.is_odd) {
            let text = String::from("the hub refuses a task that the agreement permits");
            findings.push(FindingKind::Refusal, Some(refusal.index), text);
        }
    }
}
