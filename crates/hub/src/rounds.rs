//! A round at the hub: permits and shares, masked vectors, signatures on the survivor set, reveals, the release.
//!
//! The protocol itself is `mpc`'s [`Coordinator`]; it is rebuilt from the signed messages at every step, so that what
//! is stored is only what was received.
//!
//! **Drop-outs.** Every member must permit and deal. From then on a phase waits for everyone until its deadline, and then
//! goes on without those who did not come, as long as `t` did: vectors fix who is in the sum, signatures and reveals
//! open it. Who comes back in time takes part; who comes too late has paid, and that is logged.

use cohortium_messages::{
    Agreement, Entry, Envelope, Fact, Hash, InboxItem, MaskedHeader, Name, Receipt, Reply, Reveal, RoundContext,
    RoundShares, RoundStep, SurvivorSet, Task, TaskState, Timestamp, Verified, canonical_bytes,
};
use cohortium_mpc::{Coordinator, Disagreement, MpcError};
use cohortium_policy::{ReceiptEvidence, Release, Statement};
use cohortium_query::Priced;

use crate::hub::{Changes, Hub, No, json, no, open, own, refusal};
use crate::records::{INBOX_HEADS, LATE, Phase, RELEASED, TaskRecord, VECTORS};
use crate::tasks::{end, put_task, vector_key};

/// A task in its round, with everything derived from what was signed.
struct Round {
    agreement: Verified<Agreement>,
    context: RoundContext,
    priced: Priced,
    record: TaskRecord,
    task: Verified<Task>,
}

impl Hub {
    /// Takes a message of a round from a node.
    pub(crate) fn post(&mut self, node: &Name, step: &RoundStep, now: Timestamp) -> Result<Reply, No> {
        match step {
            RoundStep::Cosigned { line, size } => self.cosigned(node, line, *size, now),
            RoundStep::Permitted { entry, shares } => self.permitted(node, entry, shares, now),
            RoundStep::Refused { entry } => self.refused_by(node, entry),
            RoundStep::Masked { entry, header, receipt } => self.masked(node, [entry, header, receipt], now),
            RoundStep::Survivors { set } => self.survivors_signed(node, set, now),
            RoundStep::Revealed { reveal } => self.revealed(node, reveal, now),
            RoundStep::Settled { entry } => self.settled(node, entry),
        }
    }

    /// A node permits: once all do, the permits are logged and everyone gets the shares meant for it.
    fn permitted(&mut self, node: &Name, entry: &Envelope, shares: &Envelope, now: Timestamp) -> Result<Reply, No> {
        let logged = self.node_entry(node, entry)?;
        let Fact::Permit { task, .. } = &logged.fact else {
            return no("malformed", String::from("this is no permit"));
        };
        let mut round = self.round(*task)?;
        demand_same_terms(&round.record, node, &logged)?;
        if let Some(reply) = already(round.record.permits.get(node).map(|(e, s)| (e == entry, s == shares)))? {
            return Ok(reply);
        }
        if round.record.phase == Phase::Ended && round.record.state != TaskState::Released {
            // It reserved before it heard that the task had ended: the reservation belongs in the log, and its refund too.
            return self.log_after_the_end(&round, node, &logged, entry);
        }
        demand_phase(&round.record, Phase::Permits)?;
        let _ = self.statement(&round, &logged)?;
        demand_sender(node, &open::<RoundShares>(shares, &self.organisation(node)?.message_key)?.from)?;
        round.record.permits.insert(node.clone(), (entry.clone(), shares.clone()));
        self.coordinator(&round)?; // refuses shares that do not fit the round
        let mut changes = Changes::default();
        if round.record.permits.len() == round.record.participants.len() {
            let coordinator = self.coordinator(&round)?;
            if let [Disagreement { one, other }, ..] = coordinator.disagreements().as_slice() {
                let why = format!("{one} and {other} hold different keys for this round: one of them is wrong");
                self.void(*task, round.record, TaskState::Failed, &why, now)?;
                return Ok(Reply::Accepted);
            }
            for name in &round.record.participants {
                let shares = coordinator.shares_for(name).ok_or_else(|| own("shares are missing"))?;
                let last: Option<u64> = self.record(INBOX_HEADS, name.as_str())?;
                round.record.shares_at.insert(name.clone(), last.unwrap_or(0) + 1);
                changes.inbox.push((name.clone(), InboxItem::Shares { shares, task: *task }));
            }
            changes.entries.extend(round.record.permits.values().map(|(entry, _)| entry.clone()));
            self.next_phase(&mut round.record, Phase::Vectors, "waiting for the masked vectors", now);
            round.record.state = TaskState::Running;
        }
        self.put(changes, *task, &round.record)
    }

    /// A node refuses: the task ends, with its clauses; everyone else is told that the round is void.
    fn refused_by(&mut self, node: &Name, entry: &Envelope) -> Result<Reply, No> {
        let logged = self.node_entry(node, entry)?;
        let Fact::Refusal { clauses, task, why } = &logged.fact else {
            return no("malformed", String::from("this is no refusal"));
        };
        let mut record = self.task(*task)?;
        demand_same_terms(&record, node, &logged)?;
        if record.permits.contains_key(node) || record.state == TaskState::Released {
            return no("conflict", String::from("this node permitted the task before"));
        }
        if record.phase == Phase::Ended {
            return self.log_once(&late_key(*task, node, logged.fact.kind()), entry);
        }
        demand_phase(&record, Phase::Permits)?;
        let why = format!("{node} refuses: {why}");
        let mut changes = Changes::default();
        changes.entries.extend(record.permits.values().map(|(entry, _)| entry.clone()));
        changes.entries.push(entry.clone());
        changes.batch.put(LATE, &late_key(*task, node, logged.fact.kind()), json(entry)?);
        for name in record.participants.iter().filter(|name| *name != node) {
            changes.inbox.push((name.clone(), InboxItem::Void { reason: why.clone(), task: *task }));
        }
        let clauses = clauses.iter().map(|clause| format!("{node}: {clause}")).collect();
        end(&mut record, TaskState::Refused, &why, clauses);
        self.put(changes, *task, &record)
    }

    /// A node announces its masked vector and accounts for it; the answer says how many of its bytes are here.
    fn masked(&mut self, node: &Name, message: [&Envelope; 3], now: Timestamp) -> Result<Reply, No> {
        let [entry, header, receipt] = message;
        let key = self.organisation(node)?.message_key;
        let (opened, logged) = (open::<MaskedHeader>(header, &key)?, self.node_entry(node, entry)?);
        let paid = open::<Receipt>(receipt, &key)?;
        demand_sender(node, &opened.from)?;
        demand_sender(node, &paid.organisation)?;
        let Fact::Price { task, .. } = &logged.fact else {
            return no("malformed", String::from("the log entry is no price"));
        };
        let (task, mut round) = (*task, self.round(*task)?);
        demand_same_terms(&round.record, node, &logged)?;
        if !matches!(round.record.phase, Phase::Permits | Phase::Vectors) && !round.record.headers.contains_key(node) {
            // Too late to be in the sum, but what was paid belongs in the log.
            return self.log_after_the_end(&round, node, &logged, entry);
        }
        if round.context.hash().map_err(own)? != opened.context {
            return no("malformed", String::from("the vector is about another round than the price"));
        }
        if Some(opened.bytes) != round.context.vector_bytes() {
            return no("malformed", String::from("the vector has another length than the plan says"));
        }
        let message = (header.clone(), receipt.clone(), entry.clone());
        if already(round.record.headers.get(node).map(|known| (*known == message, true)))?.is_none() {
            demand_phase(&round.record, Phase::Vectors)?;
            demand_receipt(&round, &paid, &opened, &self.statement(&round, &logged)?)?;
            round.record.headers.insert(node.clone(), message);
            self.put(Changes::default(), task, &round.record)?;
        }
        if round.record.phase != Phase::Vectors || round.record.arrived.contains(node) {
            // A crash may have come between the last vector and the question that follows it.
            self.ask_for_signatures(task, now)?;
            return Ok(Reply::Vector { have: opened.bytes });
        }
        let have = self.partial.get(&(task, node.clone())).map_or(0, |bytes| bytes.len() as u64);
        Ok(Reply::Vector { have })
    }

    /// Takes a piece of an announced vector. When all vectors are complete, everyone is asked to sign who is in the sum.
    ///
    /// # Errors
    /// A [`cohortium_messages::Refused`] in the signed answer; [`crate::HubError`] when the hub's own store fails.
    pub fn receive_vector(
        &mut self,
        sha256: Hash,
        offset: u64,
        piece: &[u8],
        now: Timestamp,
    ) -> Result<Envelope, crate::HubError> {
        match self.take_piece(sha256, offset, piece, now) {
            Ok(have) => self.sign(sha256, Ok(Reply::Vector { have })),
            Err(No::Refused(refused)) => self.sign(sha256, Err(refused)),
            Err(No::Own(error)) => Err(error),
        }
    }

    /// A piece belongs to everyone who announced a vector with this hash and has so much of it here: the same bytes may be
    /// announced in two rounds, and who sends them does not say for which.
    fn take_piece(&mut self, sha256: Hash, offset: u64, piece: &[u8], now: Timestamp) -> Result<u64, No> {
        let (mut have, mut taken, mut complete) = (0, false, Vec::new());
        for (task, node, length, is_here) in self.announced(sha256)? {
            if is_here {
                (have, taken) = (length, true);
                continue;
            }
            let key = (task, node);
            let bytes = self.partial.entry(key.clone()).or_default();
            if offset != bytes.len() as u64 || offset + piece.len() as u64 > length {
                have = have.max(bytes.len() as u64);
                continue;
            }
            bytes.extend_from_slice(piece);
            (have, taken) = (have.max(bytes.len() as u64), true);
            if bytes.len() as u64 == length {
                complete.push((key.clone(), self.partial.remove(&key).unwrap_or_default()));
            }
        }
        if !taken {
            return no("conflict", format!("{have} bytes of this vector are here; go on from there"));
        }
        for ((task, node), bytes) in complete {
            if Hash::of(&bytes) != sha256 {
                return no("malformed", String::from("the bytes are not those that were announced"));
            }
            let mut record = self.task(task)?;
            let mut changes = Changes::default();
            changes.batch.put(VECTORS, &vector_key(task, &node), bytes);
            record.arrived.insert(node);
            self.put(changes, task, &record)?;
            self.ask_for_signatures(task, now)?;
        }
        Ok(have)
    }

    /// Whose vector with this hash was announced in rounds that wait for vectors: the task, the member, how many bytes it
    /// has, and whether it is here.
    fn announced(&self, sha256: Hash) -> Result<Vec<(Hash, Name, u64, bool)>, No> {
        let mut found = Vec::new();
        for (task, record) in self.tasks_in(Phase::Vectors)? {
            for (node, (header, ..)) in &record.headers {
                let header = header.peek::<MaskedHeader>().map_err(own)?;
                if header.claims().sha256 == sha256 {
                    found.push((task, node.clone(), header.claims().bytes, record.arrived.contains(node)));
                }
            }
        }
        if found.is_empty() {
            return no("unknown", String::from("nobody announced a vector with this hash, or its round is over"));
        }
        Ok(found)
    }

    /// Goes on without those who did not come in time, if enough did; whether it did.
    pub(crate) fn go_on_without(&mut self, task: Hash, now: Timestamp) -> Result<bool, No> {
        let round = self.round(task)?;
        let threshold = round.agreement.secure_sum.threshold as usize;
        let here = match round.record.phase {
            Phase::Vectors => self.coordinator(&round)?.masked_from().len(),
            Phase::Signatures => round.record.sets.len(),
            Phase::Reveals => round.record.reveals.len(),
            Phase::Witnesses | Phase::Permits | Phase::Ended => 0,
        };
        if here < threshold {
            return Ok(false);
        }
        match round.record.phase {
            Phase::Vectors => self.fix_survivors(round, now)?,
            Phase::Signatures => self.send_signatures(round, now)?,
            _ => self.open_sum(round, now)?,
        }
        Ok(true)
    }

    /// Once all vectors are here there is nothing to wait for.
    fn ask_for_signatures(&mut self, task: Hash, now: Timestamp) -> Result<(), No> {
        let round = self.round(task)?;
        let is_complete = round.record.phase == Phase::Vectors
            && self.coordinator(&round)?.masked_from() == round.record.participants;
        if is_complete { self.fix_survivors(round, now) } else { Ok(()) }
    }

    /// Names who is in the sum, once and for all: those whose vectors are here. The others are told that they are not.
    fn fix_survivors(&mut self, mut round: Round, now: Timestamp) -> Result<(), No> {
        let task = round.task.hash();
        let survivors = self.coordinator(&round)?.masked_from();
        let mut changes = Changes::default();
        self.take_back_shares(&mut changes, task, &round.record, "the round goes on without us")?;
        for name in &round.record.participants {
            changes.inbox.push((name.clone(), InboxItem::Survivors { survivors: survivors.clone(), task }));
        }
        round.record.survivors = survivors;
        self.next_phase(&mut round.record, Phase::Signatures, "waiting for the members to sign who is in the sum", now);
        self.put(changes, task, &round.record).map(drop)
    }

    /// A node signed the survivor set: once all have, everyone gets all signatures.
    fn survivors_signed(&mut self, node: &Name, envelope: &Envelope, now: Timestamp) -> Result<Reply, No> {
        let set = open::<SurvivorSet>(envelope, &self.organisation(node)?.message_key)?;
        demand_sender(node, &set.from)?;
        let task = self.task_of_context(set.context, &[Phase::Signatures, Phase::Reveals])?;
        let mut round = self.round(task)?;
        if let Some(reply) = already(round.record.sets.get(node).map(|known| (known == envelope, true)))? {
            return Ok(reply);
        }
        round.record.sets.insert(node.clone(), envelope.clone());
        self.coordinator(&round)?;
        if round.record.phase == Phase::Reveals {
            // Late, but perhaps in time to reveal in the place of one who signed and is lost.
            let sets = round.record.sets.values().cloned().collect();
            let inbox = vec![(node.clone(), InboxItem::Signatures { sets, task })];
            return self.put(Changes { inbox, ..Changes::default() }, task, &round.record);
        }
        if round.record.awaited().is_empty() {
            self.send_signatures(round, now)?;
            return Ok(Reply::Accepted);
        }
        self.put(Changes::default(), task, &round.record)
    }

    /// Sends the signatures to those who signed: the others could not reveal.
    fn send_signatures(&mut self, mut round: Round, now: Timestamp) -> Result<(), No> {
        let task = round.task.hash();
        let mut changes = Changes::default();
        for name in round.record.sets.keys() {
            let sets = round.record.sets.values().cloned().collect();
            changes.inbox.push((name.clone(), InboxItem::Signatures { sets, task }));
        }
        self.next_phase(&mut round.record, Phase::Reveals, "waiting for the members to open the sum", now);
        self.put(changes, task, &round.record).map(drop)
    }

    /// A node revealed: once all who signed have, the sum is opened and released.
    fn revealed(&mut self, node: &Name, reveal: &Envelope, now: Timestamp) -> Result<Reply, No> {
        let opened = open::<Reveal>(reveal, &self.organisation(node)?.message_key)?;
        demand_sender(node, &opened.from)?;
        let task = self.task_of_context(opened.context, &[Phase::Reveals])?;
        let mut round = self.round(task)?;
        if let Some(reply) = already(round.record.reveals.get(node).map(|known| (known == reveal, true)))? {
            return Ok(reply);
        }
        round.record.reveals.insert(node.clone(), reveal.clone());
        self.coordinator(&round)?; // refuses a reveal that does not fit the round
        if round.record.awaited().is_empty() {
            self.open_sum(round, now)?;
            return Ok(Reply::Accepted);
        }
        self.put(Changes::default(), task, &round.record)
    }

    /// Opens the sum and releases it, or ends the task with what stands in the way.
    fn open_sum(&mut self, round: Round, now: Timestamp) -> Result<(), No> {
        match self.coordinator(&round)?.total() {
            Ok(total) => self.release(round, total, now).map(drop),
            Err(error) => {
                let task = round.task.hash();
                self.void(task, round.record, TaskState::Failed, &error.to_string(), now)
            }
        }
    }

    /// Makes the release out of the total, this hub's own permit and the receipts; logs it with everyone's prices.
    fn release(&mut self, mut round: Round, total: cohortium_mpc::Total, now: Timestamp) -> Result<Reply, No> {
        let task = round.task.hash();
        let policy = cohortium_policy::compile(&round.agreement).map_err(own)?;
        let request = cohortium_policy::Request::new(
            &round.task,
            &round.priced,
            round.agreement.hash(),
            round.task.asked_at,
            false,
        );
        // Decided when the task was submitted; if it fails now, the task fails, and not the hub.
        let permit = policy.decide(&request).map_err(|denial| refusal("denied", denial.to_string()))?;
        let paid = round.record.survivors.iter().filter_map(|name| round.record.headers.get(name));
        let receipts = paid.map(|(_, receipt, _)| receipt.clone());
        let receipts = receipts.map(|receipt| ReceiptEvidence::new(receipt, &round.agreement));
        let receipts =
            receipts.collect::<Result<Vec<_>, _>>().map_err(|error| refusal("malformed", error.to_string()))?;
        let consents = round.record.sets.values().cloned().collect();
        let release = match Release::make(total, &permit, &round.agreement, receipts, consents, now) {
            Ok(release) => release,
            Err(error) => {
                self.void(task, round.record, TaskState::Failed, &error.to_string(), now)?;
                return Ok(Reply::Accepted);
            }
        };
        let envelope = Envelope::sign(release.document(), &self.config.message_key);
        let envelope = envelope.map_err(|error| refusal("limit", error.to_string()))?;
        let body = canonical_bytes(&envelope).map_err(own)?;
        let payload = Hash::of(&canonical_bytes(release.document()).map_err(own)?);
        let fact = Fact::Release { body: Hash::of(&body), release: payload, task };
        let entry = self.hub_entry(&round.agreement, fact, now)?;
        let mut changes = Changes { bodies: vec![body], ..Changes::default() };
        changes.entries.extend(round.record.headers.values().map(|(_, _, price)| price.clone()));
        changes.entries.push(entry.clone());
        let index = self.log.size() + changes.entries.len() as u64 - 1;
        for name in &round.record.participants {
            changes.inbox.push((name.clone(), InboxItem::Released { release: envelope.clone(), task }));
        }
        self.drop_vectors(&mut changes, task, &round.record);
        changes.batch.put(RELEASED, &format!("{}/{}", round.record.study, round.priced.plan_hash()), json(&task)?);
        round.record.release = Some((envelope, entry, index));
        end(&mut round.record, TaskState::Released, "", Vec::new());
        self.put(changes, task, &round.record)
    }

    /// What became of the price of a round that is void, or that went on without the node.
    fn settled(&mut self, node: &Name, entry: &Envelope) -> Result<Reply, No> {
        let logged = self.node_entry(node, entry)?;
        let Fact::Price { task, .. } = &logged.fact else {
            return no("malformed", String::from("this is no price"));
        };
        let round = self.round(*task)?;
        let record = &round.record;
        demand_same_terms(record, node, &logged)?;
        if let Some(reply) = already(record.headers.get(node).map(|(_, _, price)| (price == entry, true)))? {
            return Ok(reply);
        }
        if !matches!(record.phase, Phase::Signatures | Phase::Reveals) || record.survivors.contains(node) {
            demand_phase(record, Phase::Ended)?;
        }
        self.log_after_the_end(&round, node, &logged, entry)
    }

    /// Logs what a node says about a task that has ended, or that goes on without it, once: what it sends again after a
    /// crash changes nothing. It must be what an auditor will accept.
    fn log_after_the_end(&mut self, round: &Round, node: &Name, logged: &Entry, entry: &Envelope) -> Result<Reply, No> {
        let task = round.task.hash();
        match self.statement(round, logged)? {
            Statement::Permitted { .. } => {}
            Statement::Refunded { refund: first } | Statement::Spent { reading: first, .. } => {
                let late = || self.record::<Envelope>(LATE, &late_key(task, node, "permit"));
                let permit = match round.record.permits.get(node) {
                    Some((permit, _)) => Some(permit.clone()),
                    None => late()?,
                };
                let permit = permit.ok_or_else(|| refusal("denied", format!("{node} has not permitted this task")))?;
                demand_after(&permit, first.sequence)?;
            }
        }
        self.log_once(&late_key(task, node, logged.fact.kind()), entry)
    }

    fn log_once(&mut self, key: &str, entry: &Envelope) -> Result<Reply, No> {
        if let Some(reply) = already(self.record::<Envelope>(LATE, key)?.map(|known| (known == *entry, true)))? {
            return Ok(reply);
        }
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        changes.batch.put(LATE, key, json(entry)?);
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    /// What a node says in an entry about a task, by the rules by which auditors will read it.
    fn statement<'a>(&self, round: &Round, logged: &'a Entry) -> Result<Statement<'a>, No> {
        let policy = cohortium_policy::compile(&round.agreement).map_err(own)?;
        let statement = policy.read_statement(logged, &round.task, &round.priced);
        statement.map_err(|error| refusal("malformed", format!("the log entry {error}")))
    }

    fn round(&self, task: Hash) -> Result<Round, No> {
        let record = self.task(task)?;
        let agreement = self.agreement(&record.study)?;
        let claims = record.task.peek::<Task>().map_err(own)?;
        let researcher = agreement.researcher(&claims.claims().researcher).ok_or_else(|| own("unknown researcher"))?;
        let opened = record.task.open::<Task>(&researcher.key).map_err(own)?;
        // A task whose plan does not fit was refused when it came; whoever speaks of its round is in error, not this hub.
        let priced = cohortium_query::check(&opened.plan, &agreement, agreement.hash())
            .map_err(|error| refusal("denied", error.to_string()))?;
        let context = priced.round_context(&agreement, task, record.position);
        Ok(Round { agreement, context, priced, record, task: opened })
    }

    /// The protocol's state, rebuilt from the messages received so far.
    fn coordinator(&self, round: &Round) -> Result<Coordinator, No> {
        let (record, task) = (&round.record, round.task.hash());
        let mut coordinator = Coordinator::new(round.context.clone(), round.priced.noise().clone()).map_err(own)?;
        let refuse = |error: MpcError| refusal("malformed", error.to_string());
        for (node, (_, shares)) in &record.permits {
            coordinator.accept_shares(open(shares, &self.organisation(node)?.message_key)?).map_err(refuse)?;
        }
        for (node, (header, ..)) in &record.headers {
            let header = open::<MaskedHeader>(header, &self.organisation(node)?.message_key)?;
            if let Some(bytes) = self.store.get(VECTORS, &vector_key(task, node)).map_err(own)? {
                coordinator.accept_masked(&header, bytes).map_err(refuse)?;
            }
        }
        if matches!(record.phase, Phase::Signatures | Phase::Reveals) {
            coordinator.restore_proposal(record.survivors.clone()).map_err(refuse)?;
        }
        for (node, set) in &record.sets {
            coordinator.accept_survivor_set(open(set, &self.organisation(node)?.message_key)?).map_err(refuse)?;
        }
        for (node, reveal) in &record.reveals {
            coordinator.accept_reveal(open(reveal, &self.organisation(node)?.message_key)?).map_err(refuse)?;
        }
        Ok(coordinator)
    }

    /// A log entry that `node` itself signed.
    fn node_entry(&self, node: &Name, envelope: &Envelope) -> Result<Verified<Entry>, No> {
        let entry = open::<Entry>(envelope, &self.organisation(node)?.message_key)?;
        let is_by_node = matches!(&entry.author, cohortium_messages::Author::Node(author) if author == node);
        if is_by_node { Ok(entry) } else { no("signature", String::from("the log entry is in another's name")) }
    }

    fn task_of_context(&self, context: Hash, phases: &[Phase]) -> Result<Hash, No> {
        for (task, record) in self.open_tasks()? {
            if phases.contains(&record.phase) && self.round(task)?.context.hash().map_err(own)? == context {
                return Ok(task);
            }
        }
        no("conflict", String::from("no round under way has this context and waits for this message"))
    }

    fn tasks_in(&self, phase: Phase) -> Result<Vec<(Hash, TaskRecord)>, No> {
        let mut found = self.open_tasks()?;
        found.retain(|(_, record)| record.phase == phase);
        Ok(found)
    }

    pub(crate) fn next_phase(&self, record: &mut TaskRecord, phase: Phase, why: &str, now: Timestamp) {
        record.phase = phase;
        record.why = why.to_owned();
        record.deadline = self.deadline(now);
        record.step += 1;
    }

    fn put(&mut self, mut changes: Changes, task: Hash, record: &TaskRecord) -> Result<Reply, No> {
        put_task(&mut changes.batch, task, record)?;
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }
}

/// What to say to a message that was received before: yes if it is the same, a conflict if it is not.
fn already(known: Option<(bool, bool)>) -> Result<Option<Reply>, No> {
    match known {
        None => Ok(None),
        Some((true, true)) => Ok(Some(Reply::Accepted)),
        Some(_) => no("conflict", String::from("another message was received for this step before")),
    }
}

fn late_key(task: Hash, node: &Name, kind: &str) -> String {
    format!("{task}/{node}/{kind}")
}

/// A receipt must be about this vector, this round and this payment, and about the rows that its node permitted: it is
/// evidence in the release, and an auditor will hold it against the log.
fn demand_receipt(
    round: &Round,
    paid: &Verified<Receipt>,
    header: &Verified<MaskedHeader>,
    statement: &Statement<'_>,
) -> Result<(), No> {
    let Statement::Spent { reading, spend } = statement else {
        return no("malformed", String::from("the log entry is no spent price"));
    };
    let permit = round.record.permits.get(&paid.organisation);
    let permit =
        permit.ok_or_else(|| refusal("denied", format!("{} has not permitted this task", paid.organisation)))?;
    demand_after(&permit.0, reading.sequence)?;
    let permitted = permit.0.peek::<Entry>().map_err(own)?;
    let snapshot = match &permitted.claims().fact {
        Fact::Permit { snapshot, .. } => Some(*snapshot),
        _ => None,
    };
    let head = spend.hash_hex().map_err(own)?;
    for (field, agrees) in [
        ("account_head", paid.account_head.to_string() == head),
        ("account_sequence", paid.account_sequence == spend.sequence),
        ("agreement", paid.agreement == round.agreement.hash()),
        ("context", paid.context == header.context),
        ("dataset", paid.dataset == round.task.plan.dataset),
        ("masked", paid.masked == header.sha256),
        ("plan", paid.plan == round.priced.plan_hash()),
        ("snapshot", Some(paid.snapshot) == snapshot),
        ("task", paid.task == round.task.hash()),
    ] {
        if !agrees {
            return no("malformed", format!("the receipt has another {field} than vector, price and permit"));
        }
    }
    Ok(())
}

/// What became of a price has a later number in the account than its reservation.
fn demand_after(permit: &Envelope, sequence: u64) -> Result<(), No> {
    let permit = permit.peek::<Entry>().map_err(own)?;
    match &permit.claims().fact {
        Fact::Permit { account, .. } if account.sequence < sequence => Ok(()),
        _ => no("malformed", String::from("the price stands before its reservation in the account")),
    }
}

/// A member speaks for itself only.
fn demand_sender(node: &Name, from: &Name) -> Result<(), No> {
    if from == node { Ok(()) } else { no("denied", format!("{node} cannot speak for {from}")) }
}

/// What a member has logged about a task must be about this study and agreement, and by someone who takes part.
fn demand_same_terms(record: &TaskRecord, node: &Name, logged: &Entry) -> Result<(), No> {
    let is_same = logged.study == record.study && logged.agreement == record.agreement;
    if is_same && record.participants.contains(node) {
        Ok(())
    } else {
        no("denied", String::from("the log entry is about another study, or its author does not take part"))
    }
}

fn demand_phase(record: &TaskRecord, phase: Phase) -> Result<(), No> {
    if record.phase == phase {
        Ok(())
    } else {
        no("conflict", format!("the task is {} and does not wait for this", record.state))
    }
}
