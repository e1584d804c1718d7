//! What a node does with a task, before any row is read: everything it says here is independent of its rows.

use std::collections::BTreeSet;

use cohortium_dp::account::{Refusal, Reservation};
use cohortium_dp::{Account, Next};
use cohortium_messages::{Agreement, Entry, Envelope, Fact, Hash, Inclusion, Task, Timestamp, Verified};
use cohortium_mpc::Member;
use cohortium_policy::{Permit, PermitHere, Revoked};
use cohortium_query::Priced;
use data_encoding::BASE64;
use rand_core::CryptoRng;

use crate::agreements::put_chain;
use crate::node::{Changes, Node, NodeError, json, own, peer, researcher_scope};
use crate::outgoing::Outgoing;
use crate::records::{DatasetRecord, RUNS, RunRecord, RunState};
use crate::rounds::open_task;

/// A task that passed everything that can be checked without rows.
struct Admitted {
    permit: PermitHere,
    priced: Priced,
    record: DatasetRecord,
}

/// Why a task is refused here: clauses, and words for the researcher.
struct No {
    clauses: Vec<String>,
    why: String,
}

impl Node {
    /// Checks a task on its own, reserves its price and joins the round, or refuses with every clause that fails.
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
        let agreement =
            self.agreement(study)?.ok_or_else(|| peer(format!("this node holds no agreement for study {study}")))?;
        let task = open_task(&agreement, envelope)?;
        self.check_inclusion(&agreement, &task, entry, inclusion)?;
        match self.admit(&agreement, &task, now)? {
            Ok(admitted) => self.join(&agreement, envelope, &task, admitted, inclusion.index, now, rng),
            Err(no) => self.refuse(&agreement, envelope, &task, no, inclusion.index, now),
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

    /// Derives bounds, sensitivity and price from the plan again, and evaluates this node's own policy.
    fn admit(
        &self,
        agreement: &Verified<Agreement>,
        task: &Verified<Task>,
        now: Timestamp,
    ) -> Result<Result<Admitted, No>, NodeError> {
        let no =
            |clause: &str, why: String| Ok(Err(No { clauses: vec![format!("{}/{clause}", agreement.study)], why }));
        let priced = match cohortium_query::check(&task.plan, agreement, agreement.hash()) {
            Ok(priced) => priced,
            Err(error) => return no("plan", error.to_string()),
        };
        let policy = cohortium_policy::compile(agreement).map_err(own)?;
        let revoked = Revoked::nothing();
        let request = cohortium_policy::Request::new(task, &priced, agreement.hash(), now, &revoked);
        let approvals =
            cohortium_policy::approvals(agreement, &self.organisation, task, &priced, &[], &BTreeSet::new(), &revoked);
        let permit = match policy.decide_here(&request, approvals, false) {
            Ok(permit) => permit,
            Err(denial) => return Ok(Err(No { clauses: denial.clauses, why: denial.why })),
        };
        match self.datasets.get(&task.plan.dataset) {
            None => {
                no("dataset-here", format!("{} has not added the dataset {}", self.organisation, task.plan.dataset))
            }
            Some(record) => match agreement.dataset(&record.name) {
                Some(terms) if terms.schema == record.schema => {
                    Ok(Ok(Admitted { permit, priced, record: record.clone() }))
                }
                _ => no(
                    "dataset-here",
                    format!(
                        "the dataset {} at {} has another schema than the agreement",
                        record.name, self.organisation
                    ),
                ),
            },
        }
    }

    /// Evaluates the policy again for a task that was admitted before, so that what changed in between counts.
    pub(crate) fn admit_again(
        &self,
        agreement: &Verified<Agreement>,
        task: &Verified<Task>,
        now: Timestamp,
    ) -> Result<(PermitHere, Priced, DatasetRecord), NodeError> {
        match self.admit(agreement, task, now)? {
            Ok(Admitted { permit, priced, record }) => Ok((permit, priced, record)),
            Err(no) => Err(peer(format!("no longer permitted: {}", no.why))),
        }
    }

    /// Reserves the price, makes this round's secrets, and says yes: one commit.
    #[expect(clippy::too_many_arguments, reason = "each is a separate fact of one decision")]
    fn join(
        &mut self,
        agreement: &Verified<Agreement>,
        envelope: &Envelope,
        task: &Verified<Task>,
        admitted: Admitted,
        position: u64,
        now: Timestamp,
        rng: &mut dyn CryptoRng,
    ) -> Result<(), NodeError> {
        let Admitted { permit, priced, record } = admitted;
        let account = self.accounts.get(&record.name).ok_or_else(|| own("the dataset has no account"))?;
        let reserved = match reserve(account, task, permit.permit(), now) {
            Ok(entry) => entry,
            Err(why) => {
                let clauses = vec![format!("{}/budget", agreement.study)];
                return self.refuse(agreement, envelope, task, No { clauses, why }, position, now);
            }
        };
        let context = priced.round_context(agreement, task.hash(), position);
        let begun = self.chains(agreement).and_then(|mut chains| {
            let begun = Member::begin(context.clone(), &self.organisation, &mut chains, priced.noise(), rng);
            begun.map(|(member, shares)| (chains, member, shares)).map_err(peer)
        });
        let (chains, member, shares) = match begun {
            Ok(begun) => begun,
            Err(NodeError::Peer(why)) => {
                let clauses = vec![format!("{}/round", agreement.study)];
                return self.refuse(agreement, envelope, task, No { clauses, why }, position, now);
            }
            Err(own) => return Err(own),
        };
        let fact = Fact::Permit {
            account: Box::new(reserved.clone()),
            plan: priced.plan_hash(),
            snapshot: record.snapshot,
            task: task.hash(),
        };
        let entry = self.entry(agreement.hash(), &agreement.study, fact, now)?;
        let shares = Envelope::sign(&shares, &self.secrets.message).map_err(own)?;
        let mut run = new_run(envelope, task, RunState::Permitted, position, now);
        run.context = Some(context);
        run.member = Some(BASE64.encode(&member.to_secret_bytes().map_err(own)?));
        run.snapshot = Some(record.snapshot);
        run.why = String::from("waiting for the other members' shares");
        let mut changes = Changes { account: vec![reserved], decisions: vec![entry.clone()], ..Changes::default() };
        for (name, chain) in &chains {
            put_chain(&mut changes.batch, agreement, name, chain);
        }
        changes.batch.put(RUNS, &task.hash().to_string(), json(&run)?);
        changes.outgoing.push((Outgoing::Permitted { approvals: Vec::new(), entry, shares }, Some(task.hash())));
        self.commit(changes, now)
    }

    /// Says no, with every clause that fails: one commit.
    fn refuse(
        &mut self,
        agreement: &Verified<Agreement>,
        envelope: &Envelope,
        task: &Verified<Task>,
        no: No,
        position: u64,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let fact = Fact::Refusal { clauses: no.clauses, task: task.hash(), why: no.why.clone() };
        let entry = self.entry(agreement.hash(), &agreement.study, fact, now)?;
        let mut run = new_run(envelope, task, RunState::Refused, position, now);
        run.why = no.why;
        let mut changes = Changes { decisions: vec![entry.clone()], ..Changes::default() };
        changes.batch.put(RUNS, &task.hash().to_string(), json(&run)?);
        changes.outgoing.push((Outgoing::Refusal { approvals: Vec::new(), entry }, Some(task.hash())));
        self.commit(changes, now)
    }
}

/// The account entry that reserves the task's price, or why it cannot be paid.
fn reserve(
    account: &Account,
    task: &Verified<Task>,
    permit: &Permit,
    now: Timestamp,
) -> Result<cohortium_dp::AccountEntry, String> {
    let reservation = Reservation {
        researcher: researcher_scope(&task.study, &task.researcher),
        study: task.study.to_string(),
        task: task.hash().to_string(),
        round: 0,
        price: permit.price().clone(),
        time: Some(now.to_string()),
    };
    match account.reserve(&reservation) {
        Ok(Next::Write(entry)) => Ok(*entry),
        Ok(Next::Already(_)) => Err(String::from("the task was charged here before")),
        Err(error @ Refusal::OverBudget { .. }) => Err(error.to_string()),
        Err(error) => Err(format!("the account refuses: {error}")),
    }
}

fn new_run(envelope: &Envelope, task: &Verified<Task>, state: RunState, position: u64, now: Timestamp) -> RunRecord {
    RunRecord {
        began_at: now,
        context: None,
        dataset: task.plan.dataset.clone(),
        masked: None,
        member: None,
        position,
        reading_at: None,
        researcher: task.researcher.clone(),
        snapshot: None,
        state,
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
