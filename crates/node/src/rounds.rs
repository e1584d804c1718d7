//! One round of the secure sum at a node: pay, read, noise, mask, sign who is in the sum, reveal.

use cohortium_dp::{AccountEntry, Next, Spent, add_noise};
use cohortium_messages::{
    Agreement, Call, Envelope, Fact, Hash, Name, Receipt, ReleaseDocument, RoundStep, SealedShare, SurvivorSet, Task,
    Timestamp, Verified, canonical_bytes,
};
use cohortium_mpc::Member;
use cohortium_policy::Revoked;
use cohortium_store::{Batch, sequence_key};
use data_encoding::BASE64;
use zeroize::Zeroizing;

use crate::node::{Changes, Node, NodeError, account_key, json, own, parse, peer};
use crate::outgoing::{MaskedVector, Outgoing};
use crate::records::{ACCOUNT, HELD, HeldRecord, JOURNAL, JournalRecord, RELEASES, RUNS, RunRecord, RunState, VECTORS};
use crate::rows::Rows;
use crate::tasks::{Admission, Admitted, Case, bounding_key};

/// What a run says whose round is none of this node's any more.
const LEFT_OUT: &str = "the round goes on without us";
/// What a run says whose vector leaves.
pub(crate) const AWAITS_SURVIVORS: &str = "waiting for the set of survivors";
/// How much of a reason a run keeps, characters.
const MAX_WHY_CHARS: usize = 500;

/// Everything that a step of a round starts from.
struct Step {
    agreement: Verified<Agreement>,
    member: Member,
    run: RunRecord,
    task: Verified<Task>,
}

impl Node {
    /// All shares are here: makes `reading` durable, reads, noises, masks, makes `spend` and the bytes durable.
    ///
    /// Promise: given a task whose price is reserved, journals a full-shape noised and masked vector whatever the rows
    /// say; never reads a row before `reading` is durable, never lets a byte leave before `spend` and that byte are.
    /// A crash after `reading` repeats the step with the same noise seeds and masks, hence the same bytes.
    pub(crate) fn on_shares(
        &mut self,
        task: Hash,
        shares: &[SealedShare],
        now: Timestamp,
        rows: &mut dyn Rows,
    ) -> Result<(), NodeError> {
        let Some(mut step) = self.step(task, &[RunState::Permitted, RunState::Reading])? else { return Ok(()) };
        step.member.receive_shares(shares).map_err(peer)?;
        let Admitted { permit, priced, record } = match self.admit_again(&step, now)? {
            Ok(admitted) => *admitted,
            Err(why) => return self.leave_unread(step, &why),
        };
        self.start_reading(&mut step, now)?;

        // From here on the price is charged, whatever happens.
        let salt = Zeroizing::new(bounding_key(&self.secrets.salt));
        let raw = rows.read(&record, &priced, &salt)?;
        let noised = add_noise(raw, priced.noise(), step.member.noise_seeds().map_err(own)?).map_err(own)?;
        let masked = step.member.mask(&noised).map_err(own)?;

        let account = self.accounts.get(&record.name).ok_or_else(|| own("the dataset has no account"))?;
        let spend = next_entry(account.spend(&task.to_string(), 0, Some(now.to_string())).map_err(own)?)?;
        let spent = account.clone().apply(&spend).map_err(own)?.ok_or_else(|| own("a spend gave no evidence"))?;
        let header = Envelope::sign(masked.header(), &self.secrets.message).map_err(own)?;
        let context = step.run.context.as_ref().ok_or_else(|| own("the run has no context"))?;
        let vector = MaskedVector::new(&masked, context, &permit, &spent, header)
            .ok_or_else(|| own("vector, permit and payment are about different tasks"))?;

        step.run.state = RunState::Masked;
        step.run.masked = Some(vector.sha256());
        step.run.why = String::from(AWAITS_SURVIVORS);
        let receipt = Envelope::sign(&Self::receipt(&step, &self.organisation, &spent)?, &self.secrets.message);
        let receipt = receipt.map_err(own)?;
        let entry = self.price_entry(&step, spend.clone(), now)?;
        let mut changes = Changes { account: vec![spend], decisions: vec![entry.clone()], ..Changes::default() };
        let masked = Outgoing::Masked { entry, receipt, vector };
        if step.agreement.approval.hold {
            step.run.why = String::from("held back until a person has looked at what leaves");
            changes.held = Some((masked, task));
        } else {
            changes.outgoing.push((masked, Some(task)));
        }
        self.finish(changes, step, now)
    }

    /// Evaluates the policy again for a task that was admitted before, so that what changed in between counts: time, what
    /// people and custodians said, the agreement, the rows. Or why the rows must not be read.
    fn admit_again(&self, step: &Step, now: Timestamp) -> Result<Result<Box<Admitted>, String>, NodeError> {
        let case = Case { agreement: step.agreement.clone(), run: step.run.clone(), task: step.task.clone() };
        let stopped = self.stopped(&case.agreement.study)?.is_some();
        Ok(match self.admit(&case, stopped, now)? {
            Admission::Yes(admitted) if step.run.snapshot == Some(admitted.record.snapshot) => Ok(admitted),
            Admission::Yes(_) => Err(String::from("the rows were replaced since the task was permitted")),
            Admission::Ask(..) => Err(String::from("no longer permitted: its approvals count no more")),
            Admission::No(no) => Err(format!("no longer permitted: {}", no.why)),
        })
    }

    /// The rows of a permitted task are not read. Its price stays reserved until the hub has ended the round, or has gone
    /// on without this node, because only then can the refund stand in the hub's log.
    fn leave_unread(&mut self, mut step: Step, why: &str) -> Result<(), NodeError> {
        step.run.why = format!("its rows are not read: {why}").chars().take(MAX_WHY_CHARS).collect();
        let mut batch = Batch::new();
        self.put_run(&mut batch, &mut step)?;
        self.store.commit(batch).map_err(own)?;
        Err(peer(why))
    }

    /// Makes `reading` durable. Opening the account after a crash finds it there.
    fn start_reading(&mut self, step: &mut Step, now: Timestamp) -> Result<(), NodeError> {
        let account = self.accounts.get(&step.run.dataset).ok_or_else(|| own("the dataset has no account"))?;
        match account.start_reading(&step.task.hash().to_string(), 0, Some(now.to_string())).map_err(own)? {
            Next::Already(_) => Ok(()),
            Next::Write(entry) => {
                step.run.state = RunState::Reading;
                step.run.reading_at = Some(entry.sequence);
                let mut changes = Changes { account: vec![*entry], ..Changes::default() };
                self.put_run(&mut changes.batch, step)?;
                self.commit(changes, now)
            }
        }
    }

    /// Signs who is in the sum, once; or learns that it is not.
    ///
    /// Promise: given any number of proposed sets, signs one at most, of at least `t` members and itself among them; after
    /// a set without it this node signs none, reads no row, and has forgotten how. Never signs while the study stands still
    /// here or after the agreement or the researcher's key was taken back, and has then forgotten how.
    pub(crate) fn on_survivors(&mut self, task: Hash, survivors: &[Name], now: Timestamp) -> Result<(), NodeError> {
        let waits = [RunState::Permitted, RunState::Reading, RunState::Masked];
        let Some(mut step) = self.step(task, &waits)? else { return Ok(()) };
        let is_large_enough = survivors.len() >= step.agreement.secure_sum.threshold as usize;
        let is_left_out = is_large_enough && !survivors.contains(&self.organisation);
        match (step.run.state, is_left_out) {
            (RunState::Masked, true) => {
                return self.end_run(step.run, task, RunState::LeftOut, LEFT_OUT, Changes::default(), now);
            }
            (RunState::Masked, false) if self.store.get(HELD, &task.to_string()).map_err(own)?.is_some() => {
                return Err(peer("a set of survivors with us, whose vector is held back here"));
            }
            (RunState::Masked, false) => {}
            (_, true) => return self.on_void(task, LEFT_OUT, now),
            (_, false) => return Err(peer("a set of survivors with us, who have masked nothing")),
        }
        if let Some(why) = self.forbids(&step.agreement, &step.run.researcher)? {
            return self.step_aside(step.run, task, &why, Changes::default(), now);
        }
        let set = step.member.sign_survivors(survivors).map_err(peer)?;
        let signed = Envelope::sign(&set, &self.secrets.message).map_err(own)?;
        step.run.state = RunState::Signed;
        step.run.survivors = survivors.to_vec();
        step.run.why = String::from("waiting for the other members' signatures on the set of survivors");
        let mut changes = Changes::default();
        changes.outgoing.push((Outgoing::Survivors(signed), Some(task)));
        self.finish(changes, step, now)
    }

    /// Enough members signed the same set: reveals, and forgets the round's secrets; or forgets them without revealing,
    /// where the study stands still here or what it rests on was taken back.
    pub(crate) fn on_signatures(&mut self, task: Hash, sets: &[Envelope], now: Timestamp) -> Result<(), NodeError> {
        let Some(step) = self.step(task, &[RunState::Signed])? else { return Ok(()) };
        if let Some(why) = self.forbids(&step.agreement, &step.run.researcher)? {
            return self.step_aside(step.run, task, &why, Changes::default(), now);
        }
        let sets = sets
            .iter()
            .map(|envelope| open_from_member::<SurvivorSet>(&step.agreement, envelope, |set| &set.from))
            .collect::<Result<Vec<_>, _>>()?;
        let reveal = step.member.reveal(&sets).map_err(peer)?;
        let reveal = Envelope::sign(&reveal, &self.secrets.message).map_err(own)?;
        let mut changes = Changes::default();
        changes.outgoing.push((Outgoing::Reveal(reveal), Some(task)));
        self.end_run(step.run, task, RunState::Revealed, "waiting for the release", changes, now)
    }

    /// The round is void: refunds what was not read, charges what was, forgets the secrets.
    pub(crate) fn on_void(&mut self, task: Hash, reason: &str, now: Timestamp) -> Result<(), NodeError> {
        if let Some(mut run) = self.run(task)?.filter(|run| matches!(run.state, RunState::Waiting | RunState::Revealed))
        {
            // Nothing was reserved yet; or all is paid, the secrets are gone, and too few others revealed.
            run.shares = None;
            return self.end_run(run, task, RunState::Void, reason, Changes::default(), now);
        }
        let open = [RunState::Permitted, RunState::Reading, RunState::Masked, RunState::Signed];
        let Some(step) = self.step(task, &open)? else { return Ok(()) };
        let account = self.accounts.get(&step.run.dataset).ok_or_else(|| own("the dataset has no account"))?;
        let (key, time) = (task.to_string(), Some(now.to_string()));
        let last = match step.run.state {
            RunState::Permitted => Some(next_entry(account.refund(&key, 0, time).map_err(own)?)?),
            RunState::Reading => Some(next_entry(account.spend(&key, 0, time).map_err(own)?)?),
            _ => None, // accounted for with the masked vector
        };
        let mut changes = Changes::default();
        if let Some(last) = last {
            let entry = self.price_entry(&step, last.clone(), now)?;
            changes = Changes { account: vec![last], decisions: vec![entry.clone()], ..changes };
            changes.outgoing.push((Outgoing::Settlement(entry), Some(task)));
        }
        self.end_run(step.run, task, RunState::Void, reason, changes, now)
    }

    /// Takes this node out of a round in which its vector is paid for: it signs and reveals nothing any more, because it
    /// has forgotten how. The price stays charged.
    fn step_aside(
        &mut self,
        run: RunRecord,
        task: Hash,
        why: &str,
        changes: Changes,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        self.end_run(run, task, RunState::LeftOut, &format!("this node takes no further part: {why}"), changes, now)
    }

    /// Takes what has this number in the journal out of it, if it belongs to a round in which nothing more may leave. A
    /// vector is held back until the study goes on, and where people let out what leaves, until they do; when the round ends
    /// without it, what was paid is said. A signature on survivors or a reveal that has not left never does. Returns whether it is out.
    pub(crate) fn withdraw(&mut self, number: u64, record: &JournalRecord, now: Timestamp) -> Result<bool, NodeError> {
        let (is_vector, task) = match (&record.call, record.task) {
            (Call::Post { step: RoundStep::Masked { .. } }, Some(task)) => (true, task),
            (Call::Post { step: RoundStep::Revealed { .. } | RoundStep::Survivors { .. } }, Some(task)) => {
                (false, task)
            }
            _ => return Ok(false),
        };
        let Some(run) = self.run(task)? else { return Ok(false) };
        let Case { agreement, mut run, .. } = self.case(run)?;
        let Some(why) = self.forbids(&agreement, &run.researcher)? else { return Ok(false) };
        let mut changes = Changes::default();
        let withdrawn = JournalRecord { withdrawn: Some(why.clone()), ..record.clone() };
        changes.batch.put(JOURNAL, &sequence_key(number), json(&withdrawn)?);
        match (run.state, is_vector) {
            (RunState::Masked, true) => {
                run.why = format!("held back: {why}").chars().take(MAX_WHY_CHARS).collect();
                let message = Hash::of(&canonical_bytes(&record.call).map_err(own)?);
                let held = HeldRecord { message, record: record.clone() };
                changes.batch.put(HELD, &task.to_string(), json(&held)?);
                changes.batch.put(RUNS, &task.to_string(), json(&run)?);
                self.commit(changes, now)?;
            }
            (RunState::Signed | RunState::Revealed, false) => self.step_aside(run, task, &why, changes, now)?,
            // The round is over for this node. That it paid is all that is left to say.
            _ => {
                if let Call::Post { step: RoundStep::Masked { entry, .. } } = &record.call {
                    changes.outgoing.push((Outgoing::Settlement(entry.clone()), Some(task)));
                }
                self.commit(changes, now)?;
            }
        }
        Ok(true)
    }

    /// Journals again what was withdrawn from the journal, once nothing forbids it any more: the same bytes. Where people let
    /// out what leaves, it stays held back for them.
    pub(crate) fn go_on(&mut self, now: Timestamp) -> Result<(), NodeError> {
        for (key, bytes) in self.store.scan(HELD, "", None, usize::MAX).map_err(own)? {
            let HeldRecord { record, .. } = parse(&bytes)?;
            let task = key.parse().map_err(own)?;
            let run = self.run(task)?.ok_or_else(|| own("a held message without a run"))?;
            let Case { agreement, mut run, .. } = self.case(run)?;
            let is_free = run.state == RunState::Masked && !agreement.approval.hold;
            if !is_free || self.forbids(&agreement, &run.researcher)?.is_some() {
                continue;
            }
            run.why = String::from(AWAITS_SURVIVORS);
            let mut changes = Changes { dispatched: vec![record], ..Changes::default() };
            changes.batch.delete(HELD, &key);
            changes.batch.put(RUNS, &key, json(&run)?);
            self.commit(changes, now)?;
        }
        Ok(())
    }

    /// The last step of a run here: forgets its secrets together with everything else that changes.
    fn end_run(
        &mut self,
        mut run: RunRecord,
        task: Hash,
        state: RunState,
        why: &str,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        run.state = state;
        run.why = why.chars().take(MAX_WHY_CHARS).filter(|c| !c.is_control()).collect();
        self.drop_held(&mut changes, task)?;
        self.forget_secrets(&mut changes.batch, &mut run);
        changes.batch.put(RUNS, &task.to_string(), json(&run)?);
        self.commit(changes, now)
    }

    /// What is held back for a run that is over never leaves. It was paid for, and that is said.
    fn drop_held(&self, changes: &mut Changes, task: Hash) -> Result<(), NodeError> {
        let Some(held) = self.record::<HeldRecord>(HELD, &task.to_string())? else { return Ok(()) };
        changes.batch.delete(HELD, &task.to_string());
        if let Call::Post { step: RoundStep::Masked { entry, .. } } = held.record.call {
            changes.outgoing.push((Outgoing::Settlement(entry), Some(task)));
        }
        Ok(())
    }

    /// Keeps the release of a task that this node took part in, once it checks out. Who has masked nothing is not in it, and
    /// accounts for its price as for a void round.
    pub(crate) fn on_released(&mut self, task: Hash, release: &Envelope, now: Timestamp) -> Result<(), NodeError> {
        let waits = [
            RunState::Permitted,
            RunState::Reading,
            RunState::Masked,
            RunState::Signed,
            RunState::Revealed,
            RunState::LeftOut,
        ];
        let Some(mut run) = self.run(task)?.filter(|run| waits.contains(&run.state)) else { return Ok(()) };
        let Case { agreement, task: signed_task, .. } = self.case(run.clone())?;
        let document = release.open::<ReleaseDocument>(&self.hub.message_key).map_err(peer)?;
        let priced = cohortium_query::check(&signed_task.plan, &agreement, agreement.hash()).map_err(peer)?;
        cohortium_policy::verify_release(&document, &agreement, &signed_task, &priced).map_err(peer)?;
        if matches!(run.state, RunState::Permitted | RunState::Reading) {
            return self.on_void(task, LEFT_OUT, now);
        }
        run.why = if document.survivors.contains(&self.organisation) {
            run.state = RunState::Released;
            String::new()
        } else {
            run.state = RunState::LeftOut;
            String::from("the answer was made without us")
        };
        let mut changes = Changes::default();
        self.drop_held(&mut changes, task)?;
        self.look_at_release(&mut changes, &agreement, &priced, &document, now)?;
        self.forget_secrets(&mut changes.batch, &mut run);
        changes.batch.put(RELEASES, &task.to_string(), json(release)?);
        changes.batch.put(RUNS, &task.to_string(), json(&run)?);
        self.commit(changes, now)
    }

    /// The run and its member, if the run is in one of these states; `None` if the item comes too late or twice.
    fn step(&self, task: Hash, states: &[RunState]) -> Result<Option<Step>, NodeError> {
        let Some(run) = self.run(task)?.filter(|run| states.contains(&run.state)) else { return Ok(None) };
        let Case { agreement, run, task } = self.case(run)?;
        let text = run.member.as_ref().ok_or_else(|| own("the round's secrets are gone"))?;
        let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(own)?);
        let member = Member::from_secret_bytes(&bytes).map_err(own)?;
        Ok(Some(Step { agreement, member, run, task }))
    }

    fn put_run(&self, batch: &mut Batch, step: &mut Step) -> Result<(), NodeError> {
        step.run.member = Some(BASE64.encode(&step.member.to_secret_bytes().map_err(own)?));
        batch.put(RUNS, &step.task.hash().to_string(), json(&step.run)?);
        Ok(())
    }

    fn finish(&mut self, mut changes: Changes, mut step: Step, now: Timestamp) -> Result<(), NodeError> {
        self.put_run(&mut changes.batch, &mut step)?;
        self.commit(changes, now)
    }

    /// Drops the round's secrets and the masked bytes, which the hub has by now or will never need.
    pub(crate) fn forget_secrets(&self, batch: &mut Batch, run: &mut RunRecord) {
        if run.member.take().is_some() {
            batch.forget_overwritten();
        }
        if let Some(masked) = run.masked {
            batch.delete(VECTORS, &masked.to_string());
        }
    }

    fn receipt(step: &Step, organisation: &Name, spent: &Spent) -> Result<Receipt, NodeError> {
        let context = step.run.context.as_ref().ok_or_else(|| own("the run has no context"))?;
        Ok(Receipt {
            account_head: spent.head().parse().map_err(own)?,
            account_sequence: spent.sequence(),
            agreement: step.agreement.hash(),
            context: context.hash().map_err(own)?,
            dataset: step.run.dataset.clone(),
            masked: step.run.masked.ok_or_else(|| own("nothing was masked"))?,
            organisation: organisation.clone(),
            plan: context.plan,
            snapshot: step.run.snapshot.ok_or_else(|| own("the run has no snapshot"))?,
            task: step.task.hash(),
        })
    }

    /// The log entry that shows what became of the price: this task's account entries after the reservation.
    fn price_entry(&self, step: &Step, last: AccountEntry, now: Timestamp) -> Result<Envelope, NodeError> {
        let mut account = Vec::new();
        if let Some(sequence) = step.run.reading_at {
            let reading = self.record(ACCOUNT, &account_key(step.run.dataset.as_str(), sequence))?;
            account.push(reading.ok_or_else(|| own("an entry of the account is gone"))?);
        }
        account.push(last);
        let fact = Fact::Price { account, task: step.task.hash() };
        self.entry(step.agreement.hash(), &step.agreement.study, fact, now)
    }
}

/// A message of a round, once its claimed sender's signature has been checked.
fn open_from_member<T: cohortium_messages::Document>(
    agreement: &Agreement,
    envelope: &Envelope,
    sender: impl Fn(&T) -> &Name,
) -> Result<Verified<T>, NodeError> {
    let claims = envelope.peek::<T>().map_err(peer)?;
    let entry =
        agreement.party(sender(claims.claims())).ok_or_else(|| peer("the sender is not a member of the study"))?;
    envelope.open::<T>(&entry.message_key).map_err(peer)
}

/// Whether the researcher's key has been taken back is a clause of the policy, so that it is refused in its words.
pub(crate) fn open_task(agreement: &Agreement, envelope: &Envelope) -> Result<Verified<Task>, NodeError> {
    cohortium_policy::open_task(envelope, agreement, &Revoked::nothing()).map_err(peer)
}

fn next_entry(next: Next) -> Result<AccountEntry, NodeError> {
    match next {
        Next::Write(entry) => Ok(*entry),
        Next::Already(state) => Err(own(format!("the account is already {state:?} for this task"))),
    }
}
