//! What a node does with a task, before any row is read: everything it says here is independent of its rows.
//!
//! A task is refused, joined, or laid before people. While people are asked nothing is reserved and nothing is promised,
//! but the round's secrets are drawn: pairwise chains only move forward, so a later task that needs nobody's approval would
//! use up the keys of this one. They leave with the permit, or are erased with the refusal.

use std::collections::BTreeSet;

use cohortium_dp::account::{Refusal, Reservation};
use cohortium_dp::{Account, AccountEntry, Next};
use cohortium_messages::{Agreement, Author, Entry, Envelope, Fact, Hash, Inclusion, Task, Timestamp, Verified};
use cohortium_mpc::Member;
use cohortium_policy::{Approval, Authored, PermitHere, Request, open_entry};
use cohortium_query::Priced;
use cohortium_store::Batch;
use data_encoding::BASE64;
use rand_core::CryptoRng;

use crate::agreements::put_chain;
use crate::node::{Changes, Node, NodeError, json, own, parse, peer, researcher_scope};
use crate::outgoing::Outgoing;
use crate::records::{DatasetRecord, RUNS, RunRecord, RunState, WORDS};
use crate::rounds::open_task;

/// A task under the agreement it was asked under, and how far this node is with it.
pub(crate) struct Case {
    pub agreement: Verified<Agreement>,
    pub run: RunRecord,
    pub task: Verified<Task>,
}

/// A task that passed everything that can be checked without rows.
pub(crate) struct Admitted {
    pub permit: PermitHere,
    pub priced: Priced,
    pub record: DatasetRecord,
}

/// Why a task is refused here: clauses, and words for the researcher.
pub(crate) struct No {
    pub clauses: Vec<String>,
    pub why: String,
}

/// What this node makes of a task.
pub(crate) enum Admission {
    /// It may run.
    Yes(Box<Admitted>),
    /// Only the approval of so many more people is missing.
    Ask(Box<Priced>, u32),
    /// It may not.
    No(No),
}

impl Case {
    pub(crate) fn no(&self, clause: &str, why: impl Into<String>) -> No {
        No { clauses: vec![format!("{}/{clause}", self.agreement.study)], why: why.into() }
    }
}

impl Node {
    /// Checks a task on its own, and joins its round, asks people, or refuses with every clause that fails.
    pub(crate) fn on_task(
        &mut self,
        envelope: &Envelope,
        entry: &Envelope,
        inclusion: &Inclusion,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), NodeError> {
        let claims = envelope.peek::<Task>().map_err(peer)?;
        if self.run(claims.hash())?.is_some() {
            return Ok(());
        }
        let study = &claims.claims().study;
        if self.agreement(study)?.is_none() {
            return Err(peer(format!("this node holds no agreement for study {study}")));
        }
        let agreement = self.agreement_by_hash(claims.claims().plan.agreement)?;
        let task = open_task(&agreement, envelope)?;
        self.check_inclusion(&agreement, &task, entry, inclusion)?;
        let mut case = Case { run: new_run(envelope, &task, inclusion.index, now), agreement, task };
        let mut changes = Changes::default();
        self.note_proven(&mut changes.batch, case.agreement.hash(), entry)?;
        let noticed = self.look_at(&case, now)?;
        let stopped = self.stopped(&case.agreement.study)?.is_some() || noticed.freezes();
        let mut admission = self.admit(&case, stopped, now)?;
        let priced = match &admission {
            Admission::Yes(admitted) => Some(admitted.priced.clone()),
            Admission::Ask(priced, _) => Some((**priced).clone()),
            Admission::No(_) => None,
        };
        // Nobody is asked about what could not be paid, and no key is used up for it.
        if let Some(priced) = priced
            && let Err(no) = match self.reserved(&case, &priced, now)? {
                Ok(_) => self.draw_secrets(&mut case, &priced, &mut changes, rng)?,
                Err(no) => Err(no),
            }
        {
            admission = Admission::No(no);
        }
        self.note_seen(&mut changes, &mut case, noticed, matches!(admission, Admission::No(_)), now)?;
        self.act(case, admission, changes, now).map(drop)
    }

    /// Does what follows from an admission, together with `changes`: one commit. Returns what was done, in words.
    pub(crate) fn act(
        &mut self,
        case: Case,
        admission: Admission,
        changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        match admission {
            Admission::Yes(admitted) => self.join(case, *admitted, changes, now),
            Admission::Ask(_, missing) => self.ask_people(case, missing, changes, now),
            Admission::No(no) => self.refuse(case, no, changes, now),
        }
    }

    /// Demands that the task stands in the hub's log, under a head that a quorum of the study's members has cosigned.
    ///
    /// Promise: given what the hub shows, returns only if the researcher's own log entry names this very task and plan
    /// and is included under such a head; never on the hub's word. The head need not carry this node's own cosignature:
    /// any two quorums share an honest member, who cosigns one history only.
    fn check_inclusion(
        &self,
        agreement: &Verified<Agreement>,
        task: &Verified<Task>,
        entry: &Envelope,
        inclusion: &Inclusion,
    ) -> Result<(), NodeError> {
        if let Some(why) = self.halted()? {
            return Err(peer(format!("this node has stopped: {why}")));
        }
        let researcher = agreement.researcher(&task.researcher).ok_or_else(|| peer("unknown researcher"))?;
        let logged = entry.open::<Entry>(&researcher.key).map_err(peer)?;
        let plan = task.plan.hash().map_err(own)?;
        let names_this_task =
            matches!(&logged.fact, Fact::Task { task: t, plan: p, .. } if *t == task.hash() && *p == plan);
        if !names_this_task || logged.study != task.study || logged.agreement != agreement.hash() {
            return Err(peer("the log entry shown for the task is about something else"));
        }
        cohortium_policy::verify_inclusion(agreement, entry, inclusion).map(drop).map_err(peer)
    }

    /// Derives bounds, sensitivity and price from the plan again, and evaluates this node's own policy on everything that
    /// is known now: what people said, what was taken back, whether the study stands still here.
    pub(crate) fn admit(&self, case: &Case, stopped: bool, now: Timestamp) -> Result<Admission, NodeError> {
        let (agreement, task) = (&case.agreement, &case.task);
        let no = |clause: &str, why: String| Ok(Admission::No(case.no(clause, why)));
        if self.agreement(&agreement.study)?.is_none_or(|in_force| in_force.hash() != agreement.hash()) {
            return no("in-force", format!("revision {} of the agreement was amended", agreement.revision));
        }
        let priced = match cohortium_query::check(&task.plan, agreement, agreement.hash()) {
            Ok(priced) => priced,
            Err(error) => return no("plan", error.to_string()),
        };
        let policy = cohortium_policy::compile(agreement).map_err(own)?;
        let revoked = self.revoked(agreement)?;
        let said = opened(&case.run.approvals, agreement)?;
        let before = self.said_about_plan(agreement, priced.plan_hash())?;
        let approvals =
            cohortium_policy::approvals(agreement, &self.organisation, task, &priced, &said, &before, &revoked);
        let missing = match approvals.outcome() {
            Approval::Missing { have, needed } => needed.saturating_sub(*have),
            _ => 0,
        };
        let request = Request::new(task, &priced, agreement.hash(), now, &revoked);
        let decided = policy.decide_here(&request, approvals, stopped);
        let may_ask = |clauses: &[String]| missing > 0 && *clauses == [format!("{}/approval", agreement.study)];
        if let Err(denial) = &decided
            && !may_ask(&denial.clauses)
        {
            return Ok(Admission::No(No { clauses: denial.clauses.clone(), why: denial.why.clone() }));
        }
        let record = match self.datasets.get(&task.plan.dataset) {
            None => {
                let why = format!("{} has not added the dataset {}", self.organisation, task.plan.dataset);
                return no("dataset-here", why);
            }
            Some(record) => record.clone(),
        };
        if agreement.dataset(&record.name).is_none_or(|terms| terms.schema != record.schema) {
            let why =
                format!("the dataset {} at {} has another schema than the agreement", record.name, self.organisation);
            return no("dataset-here", why);
        }
        Ok(match decided {
            Ok(permit) => Admission::Yes(Box::new(Admitted { permit, priced, record })),
            Err(_) => Admission::Ask(Box::new(priced), missing),
        })
    }

    /// What people here said about this plan under this agreement, in whatever task.
    fn said_about_plan(&self, agreement: &Verified<Agreement>, plan: Hash) -> Result<Vec<Authored>, NodeError> {
        if !agreement.approval.automatic.approved_plans {
            return Ok(Vec::new());
        }
        let said = self.store.scan(WORDS, &format!("{}/{plan}/", agreement.hash()), None, usize::MAX).map_err(own)?;
        let said = said.iter().map(|(_, bytes)| parse(bytes)).collect::<Result<Vec<Envelope>, _>>()?;
        opened(&said, agreement)
    }

    /// Moves the pairwise chains to the task and draws the secrets of its round. Nothing of them leaves with this.
    fn draw_secrets(
        &self,
        case: &mut Case,
        priced: &Priced,
        changes: &mut Changes,
        rng: &mut dyn CryptoRng,
    ) -> Result<Result<(), No>, NodeError> {
        let context = priced.round_context(&case.agreement, case.task.hash(), case.run.position);
        let begun = self.chains(&case.agreement).and_then(|mut chains| {
            let begun = Member::begin(context.clone(), &self.organisation, &mut chains, priced.noise(), rng);
            begun.map(|(member, shares)| (chains, member, shares)).map_err(peer)
        });
        let (chains, member, shares) = match begun {
            Ok(begun) => begun,
            Err(NodeError::Peer(why)) => return Ok(Err(case.no("round", why))),
            Err(own) => return Err(own),
        };
        for (name, chain) in &chains {
            put_chain(&mut changes.batch, &case.agreement, name, chain);
        }
        case.run.context = Some(context);
        case.run.member = Some(BASE64.encode(&member.to_secret_bytes().map_err(own)?));
        case.run.shares = Some(Envelope::sign(&shares, &self.secrets.message).map_err(own)?);
        Ok(Ok(()))
    }

    /// The account entry that would reserve the price of a task, or why it cannot be paid here.
    fn reserved(&self, case: &Case, priced: &Priced, now: Timestamp) -> Result<Result<AccountEntry, No>, NodeError> {
        let account = self.accounts.get(&case.run.dataset).ok_or_else(|| own("the dataset has no account"))?;
        Ok(reserve(account, &case.task, priced, now).map_err(|why| case.no("budget", why)))
    }

    /// Lays the task before people: reserves nothing, promises nothing.
    fn ask_people(
        &mut self,
        mut case: Case,
        missing: u32,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        let task = case.task.hash();
        let is_new = case.run.approvals.is_empty();
        case.run.state = RunState::Waiting;
        case.run.why = match missing {
            1 => String::from("one person must approve"),
            missing => format!("{missing} people must approve"),
        };
        let words = case.run.why.clone();
        changes.batch.put(RUNS, &task.to_string(), json(&case.run)?);
        if is_new {
            changes.outgoing.push((Outgoing::Awaiting(task), Some(task)));
        }
        self.commit(changes, now)?;
        Ok(words)
    }

    /// Reserves the price and says yes: one commit, with what people said.
    fn join(
        &mut self,
        mut case: Case,
        admitted: Admitted,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        let Admitted { priced, record, .. } = admitted;
        let (agreement, task) = (&case.agreement, case.task.hash());
        let reserved = match self.reserved(&case, &priced, now)? {
            Ok(entry) => entry,
            Err(no) => return self.refuse(case, no, changes, now),
        };
        let fact = Fact::Permit {
            account: Box::new(reserved.clone()),
            plan: priced.plan_hash(),
            snapshot: record.snapshot,
            task,
        };
        let entry = self.entry(agreement.hash(), &agreement.study, fact, now)?;
        let shares = case.run.shares.take().ok_or_else(|| own("the run has no shares"))?;
        case.run.state = RunState::Permitted;
        case.run.snapshot = Some(record.snapshot);
        case.run.why = String::from("waiting for the other members' shares");
        changes.account.push(reserved);
        changes.decisions.push(entry.clone());
        changes.batch.put(RUNS, &task.to_string(), json(&case.run)?);
        let approvals = case.run.approvals;
        changes.outgoing.push((Outgoing::Permitted { approvals, entry, shares }, Some(task)));
        self.commit(changes, now)?;
        Ok(String::from("the task is permitted, and its price reserved"))
    }

    /// Says no, with every clause that fails and what people said: one commit.
    pub(crate) fn refuse(
        &mut self,
        mut case: Case,
        no: No,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        let (agreement, task) = (&case.agreement, case.task.hash());
        let fact = Fact::Refusal { clauses: no.clauses, task, why: no.why.clone() };
        let entry = self.entry(agreement.hash(), &agreement.study, fact, now)?;
        case.run.state = RunState::Refused;
        case.run.why = no.why;
        case.run.shares = None;
        self.forget_secrets(&mut changes.batch, &mut case.run);
        changes.decisions.push(entry.clone());
        changes.batch.put(RUNS, &task.to_string(), json(&case.run)?);
        let words = format!("the task is refused: {}", case.run.why);
        let approvals = case.run.approvals;
        changes.outgoing.push((Outgoing::Refusal { approvals, entry }, Some(task)));
        self.commit(changes, now)?;
        Ok(words)
    }

    /// Another member's node permits the task: worth knowing for who is asked here. Whoever says so must have signed it.
    pub(crate) fn on_permitted(&mut self, task: Hash, entry: &Envelope) -> Result<(), NodeError> {
        let Some(run) = self.run(task)?.filter(|run| run.state == RunState::Waiting) else { return Ok(()) };
        let mut case = self.case(run)?;
        let said = open_entry(entry, &case.agreement).map_err(peer)?;
        let plan = case.task.plan.hash().map_err(own)?;
        let is_same = matches!(&said.entry().fact, Fact::Permit { task: t, plan: p, .. } if (*t, *p) == (task, plan));
        match &said.entry().author {
            Author::Node(name) if is_same && *name != self.organisation => {
                case.run.permitted_by.insert(name.clone());
            }
            _ => return Err(peer("the entry shown is no permit of this plan by another member")),
        }
        let mut batch = Batch::new();
        batch.put(RUNS, &task.to_string(), json(&case.run)?);
        self.store.commit(batch).map_err(own)
    }

    /// A run with its agreement and its task, opened again.
    pub(crate) fn case(&self, run: RunRecord) -> Result<Case, NodeError> {
        let claims = run.task.peek::<Task>().map_err(own)?;
        let agreement = self.agreement_by_hash(claims.claims().plan.agreement).map_err(own)?;
        let task = open_task(&agreement, &run.task)?;
        Ok(Case { agreement, run, task })
    }
}

/// What people said, opened with the keys that the agreement states for them.
pub(crate) fn opened(said: &[Envelope], agreement: &Verified<Agreement>) -> Result<Vec<Authored>, NodeError> {
    said.iter().map(|said| open_entry(said, agreement).map_err(own)).collect()
}

/// The account entry that reserves the task's price, or why it cannot be paid.
fn reserve(account: &Account, task: &Verified<Task>, priced: &Priced, now: Timestamp) -> Result<AccountEntry, String> {
    let reservation = Reservation {
        researcher: researcher_scope(&task.study, &task.researcher),
        study: task.study.to_string(),
        task: task.hash().to_string(),
        round: 0,
        price: priced.price().clone(),
        time: Some(now.to_string()),
    };
    match account.reserve(&reservation) {
        Ok(Next::Write(entry)) => Ok(*entry),
        Ok(Next::Already(_)) => Err(String::from("the task was charged here before")),
        Err(error @ Refusal::OverBudget { .. }) => Err(error.to_string()),
        Err(error) => Err(format!("the account refuses: {error}")),
    }
}

fn new_run(envelope: &Envelope, task: &Verified<Task>, position: u64, now: Timestamp) -> RunRecord {
    RunRecord {
        alarms: Vec::new(),
        approvals: Vec::new(),
        began_at: now,
        context: None,
        dataset: task.plan.dataset.clone(),
        masked: None,
        member: None,
        permitted_by: BTreeSet::new(),
        position,
        reading_at: None,
        researcher: task.researcher.clone(),
        shares: None,
        snapshot: None,
        state: RunState::Waiting,
        study: task.study.clone(),
        survivors: Vec::new(),
        task: envelope.clone(),
        why: String::new(),
    }
}

/// The key under which contributions are ordered when a person has more groups than count: from the salt that stays
/// in this house, so that nobody outside can choose whose rows count.
pub(crate) fn bounding_key(salt: &[u8; 32]) -> [u8; 32] {
    *Hash::of_parts("cohortium/bounding-key/v1", &[salt]).as_bytes()
}
