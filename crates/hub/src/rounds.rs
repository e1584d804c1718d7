//! A round at the hub: permits and shares, masked vectors, signatures on the survivor set, reveals, the release.
//!
//! The protocol itself is `mpc`'s `Coordinator`; it is made from the signed messages ([`crate::live`]), so that what is
//! stored is only what was received.
//!
//! **Permits.** A permit is held against what the log holds when it comes, and again when all are there and are logged
//! ([`cohortium_policy::Grounds`]): meanwhile a study may have been stopped, a key taken back, a yes become a no. A permit
//! that does not stand then ends the task, and is logged after the failure, for the account alone.
//!
//! **Drop-outs.** Every member must permit and deal. From then on a phase waits for everyone until its deadline, and then
//! goes on without those who did not come, as long as `t` did: vectors fix who is in the sum, signatures and reveals
//! open it. Who comes back in time takes part; who comes too late has paid, and that is logged.

use cohortium_messages::{
    Agreement, Entry, Envelope, Fact, Hash, InboxItem, MaskedHeader, Name, Phase, Receipt, Reply, Reveal, RoundShares,
    RoundStep, SurvivorSet, TaskState, Timestamp, Verified, canonical_bytes,
};
use cohortium_mpc::{Disagreement, Total};
use cohortium_policy::{Grounds, ReceiptEvidence, Release, Revoked, Statement, StatementError};
use serde::de::DeserializeOwned;

use crate::hub::{Changes, Hub, No, json, no, open, own, refusal};
use crate::live::Round;
use crate::records::{
    Announced, INBOX_HEADS, Kind, LATE, MESSAGES, Permission, RELEASED, RELEASES, TaskRecord, message_key,
};
use crate::tasks::{end, put_task};

/// What a member sends with its masked vector: header, receipt and log entry of the price.
type Announcement = (Envelope, Envelope, Envelope);

impl Hub {
    /// Takes a message of a round from a node.
    pub(crate) fn post(&mut self, node: &Name, step: &RoundStep, now: Timestamp) -> Result<Reply, No> {
        match step {
            RoundStep::AwaitingApproval { task } => self.awaiting_approval(node, *task, now),
            RoundStep::Cosigned { lines, origin, size } if *origin == self.config.name => {
                self.cosigned(node, lines, *size, now)
            }
            RoundStep::Stale { origin, size } if *origin == self.config.name => self.stale(node, *size),
            RoundStep::Cosigned { lines, .. } if lines.is_empty() => {
                no("malformed", String::from("a cosignature has a line"))
            }
            RoundStep::Cosigned { lines, origin, size } => self.answer_head(node, origin, lines, *size),
            RoundStep::Stale { origin, size } => self.answer_head(node, origin, &[], *size),
            RoundStep::Permitted { approvals, entry, shares } => {
                self.permitted(node, (entry.clone(), approvals.clone()), shares, now)
            }
            RoundStep::Refused { approvals, entry } => self.refused_by(node, approvals, entry, now),
            RoundStep::Masked { entry, header, receipt } => self.masked(node, [entry, header, receipt], now),
            RoundStep::Survivors { set } => self.survivors_signed(node, set, now),
            RoundStep::Revealed { reveal } => self.revealed(node, reveal, now),
            RoundStep::Settled { entry } => self.settled(node, entry),
        }
    }

    /// A node permits: once all do, the permits are logged and everyone gets the shares meant for it.
    fn permitted(
        &mut self,
        node: &Name,
        permission: Permission,
        shares: &Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let logged = self.node_entry(node, &permission.0)?;
        let Fact::Permit { task, .. } = &logged.fact else {
            return no("malformed", String::from("this is no permit"));
        };
        self.in_round(*task, |hub, round| hub.permitted_in(round, node, &logged, (permission, shares), now))
    }

    /// A node's policy permits, and people there are asked: the task waits for them as long as its agreement says, and they
    /// see who has permitted it meanwhile.
    fn awaiting_approval(&mut self, node: &Name, task: Hash, now: Timestamp) -> Result<Reply, No> {
        let mut record = self.task(task)?;
        let agreement = self.agreement_by_hash(record.agreement)?;
        if !record.participants.contains(node) || agreement.approval.needed == 0 {
            return no("denied", format!("nobody at {node} is asked about this task"));
        }
        if record.phase == Phase::Ended || record.asking.contains(node) {
            return Ok(Reply::Accepted); // it is on its way to hear so, or said so before
        }
        demand_phase(&record, Phase::Permits)?;
        if record.permitted.contains(node) {
            return no("conflict", String::from("this node permitted the task before"));
        }
        let mut changes = Changes::default();
        for (_, entry) in self.permits(task)? {
            changes.inbox.push((node.clone(), InboxItem::Permitted { entry, task }));
        }
        if record.asking.is_empty() {
            record.deadline = record.deadline.max(people_deadline(&agreement, now));
        }
        record.asking.insert(node.clone());
        record.state = TaskState::AwaitingApproval;
        record.why = waiting_for_people(&record);
        record.step += 1;
        self.put_ended(changes, task, &record)
    }

    fn permitted_in(
        &mut self,
        round: &mut Round,
        node: &Name,
        logged: &Verified<Entry>,
        (permission, sent_shares): (Permission, &Envelope),
        now: Timestamp,
    ) -> Result<Reply, No> {
        let task = round.task();
        demand_same_terms(&round.record, node, logged)?;
        if self.already(task, Kind::Permit, node, &permission)?.is_some() {
            // Other shares under the same permit are refused as long as shares matter.
            self.already(task, Kind::Shares, node, sent_shares)?;
            // It was looked at when it came, and is again with the last one: a repetition costs nobody anything.
            if round.record.permitted.len() < round.record.participants.len() {
                return Ok(Reply::Accepted);
            }
        } else if round.record.phase == Phase::Ended && round.record.state != TaskState::Released {
            // It reserved before it heard that the task had ended: the reservation belongs in the log, and its refund too.
            return self.log_after_the_end(round, node, logged, &permission.0);
        } else {
            self.take_permit(round, node, logged, (&permission, sent_shares), now)?;
        }
        // Asked again for what is known: a crash may have come between a permit and what follows it.
        self.go_on_with_permits(round, (node, &permission.0), now)?;
        Ok(Reply::Accepted)
    }

    /// Keeps a permit and its shares until all members have permitted. What people said is logged before.
    fn take_permit(
        &mut self,
        round: &mut Round,
        node: &Name,
        logged: &Verified<Entry>,
        (permission, sent_shares): (&Permission, &Envelope),
        now: Timestamp,
    ) -> Result<(), No> {
        let task = round.task();
        demand_phase(&round.record, Phase::Permits)?;
        let _ = statement(round, logged)?;
        let shares = open::<RoundShares>(sent_shares, &self.organisation(node)?.message_key)?;
        demand_sender(node, &shares.from)?;
        self.log_approvals((task, &round.record), node, &permission.1, now)?;
        self.accept(round, |coordinator| coordinator.accept_shares(shares))?;
        round.record.permitted.insert(node.clone());
        let mut changes = Changes::default();
        changes.batch.put(MESSAGES, &message_key(task, Kind::Permit, node.as_str()), json(permission)?);
        changes.batch.put(MESSAGES, &message_key(task, Kind::Shares, node.as_str()), json(sent_shares)?);
        if round.record.permitted.len() < round.record.participants.len() {
            self.tell_who_is_asked(&mut changes, &mut round.record, task, &permission.0);
        }
        self.put(changes, round).map(drop)
    }

    /// What follows from the permits that are here, of which this one is the newest: the end of the task, if one does not
    /// stand on what the log holds now; and once all are there, and stand, they are logged and everyone gets the shares
    /// meant for it.
    fn go_on_with_permits(
        &mut self,
        round: &mut Round,
        (node, permit): (&Name, &Envelope),
        now: Timestamp,
    ) -> Result<(), No> {
        let task = round.task();
        if round.record.phase != Phase::Permits {
            return Ok(());
        }
        let are_all_here = round.record.permitted.len() == round.record.participants.len();
        let permits = if are_all_here { self.permits(task)? } else { vec![(node.clone(), permit.clone())] };
        for (name, permit) in &permits {
            if let Some(why) = self.unfounded(round, name, permit)? {
                return self.void(task, &mut round.record, TaskState::Failed, &why, now);
            }
        }
        if !are_all_here {
            return Ok(());
        }
        if let [Disagreement { one, other }, ..] = self.coordinator(round)?.disagreements().as_slice() {
            let why = format!("{one} and {other} hold different keys for this round: one of them is wrong");
            return self.void(task, &mut round.record, TaskState::Failed, &why, now);
        }
        let entries = permits.into_iter().map(|(_, permit)| permit).collect();
        let mut changes = Changes { entries, ..Changes::default() };
        for name in &round.live.context.participants.clone() {
            let shares = self.coordinator(round)?.shares_for(name).ok_or_else(|| own("shares are missing"))?;
            let last: Option<u64> = self.record(INBOX_HEADS, name.as_str())?;
            round.record.shares_at.insert(name.clone(), last.unwrap_or(0) + 1);
            changes.inbox.push((name.clone(), InboxItem::Shares { shares, task }));
        }
        self.next_phase(&mut round.record, Phase::Vectors, "waiting for the masked vectors", now);
        if round.live.agreement.approval.hold {
            let record = &mut round.record;
            record.deadline = record.deadline.max(people_deadline(&round.live.agreement, now));
            record.why = String::from("waiting for the masked vectors, which people at each member let out");
        }
        round.record.state = TaskState::Running;
        self.put(changes, round).map(drop)
    }

    /// Why a node's permit does not stand on what the log holds now, if it does not. An auditor of the log asks the same
    /// function the same.
    fn unfounded(&self, round: &Round, node: &Name, permit: &Envelope) -> Result<Option<String>, No> {
        let (agreement, task, priced) = (&round.live.agreement, &round.live.task, &round.live.priced);
        let permit = permit.peek::<Entry>().map_err(own)?;
        let grounds = Grounds {
            about_plan: &self.said_about_plan(agreement, node, priced.plan_hash())?,
            about_task: &self.said_about_task(agreement, node, task.hash())?,
            revoked: &self.revoked(agreement)?,
            stands_still: self.stands_still(&agreement.study, node)?,
        };
        Ok(match round.live.policy.read_statement(permit.claims(), task, priced, Some(&grounds)) {
            Ok(_) => None,
            Err(StatementError::Denied(denial)) => {
                Some(format!("the permit of {node} does not stand on what the log holds before it: {}", denial.why))
            }
            Err(error) => Some(format!("the permit of {node} {error}")),
        })
    }

    /// Shows a permit to those members whose people are asked, and says who is still waited for.
    fn tell_who_is_asked(&self, changes: &mut Changes, record: &mut TaskRecord, task: Hash, permit: &Envelope) {
        if record.asking.is_empty() {
            return;
        }
        let asking = record.still_asking();
        if asking.is_empty() {
            record.state = TaskState::Proposed;
            record.why = String::from(WAITING_FOR_PERMITS);
        } else {
            record.why = waiting_for_people(record);
        }
        record.step += 1;
        for name in asking {
            changes.inbox.push((name, InboxItem::Permitted { entry: permit.clone(), task }));
        }
    }

    /// A node refuses: the task ends, with its clauses; everyone else is told that the round is void.
    fn refused_by(
        &mut self,
        node: &Name,
        approvals: &[Envelope],
        entry: &Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let logged = self.node_entry(node, entry)?;
        let Fact::Refusal { clauses, task, why } = &logged.fact else {
            return no("malformed", String::from("this is no refusal"));
        };
        let mut record = self.task(*task)?;
        demand_same_terms(&record, node, &logged)?;
        let key = late_key(*task, node, logged.fact.kind());
        if record.permitted.contains(node) || record.state == TaskState::Released {
            return no("conflict", String::from("this node permitted the task before"));
        }
        if record.phase == Phase::Ended {
            return self.log_once(&key, entry);
        }
        demand_phase(&record, Phase::Permits)?;
        self.log_approvals((*task, &record), node, approvals, now)?;
        let why = format!("{node} refuses: {why}");
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        // The task is over with the refusal; who had permitted it has reserved its price.
        changes.entries.extend(self.permits(*task)?.into_iter().map(|(_, permit)| permit));
        changes.batch.put(LATE, &key, json(entry)?);
        for name in record.participants.iter().filter(|name| *name != node) {
            changes.inbox.push((name.clone(), InboxItem::Void { reason: why.clone(), task: *task }));
        }
        let clauses = clauses.iter().map(|clause| format!("{node}: {clause}")).collect();
        self.drop_messages(&mut changes, *task, &record);
        end(&mut record, TaskState::Refused, &why, clauses);
        self.put_ended(changes, *task, &record)
    }

    /// A node announces its masked vector and accounts for it; the answer says how many of its bytes are here.
    fn masked(&mut self, node: &Name, message: [&Envelope; 3], now: Timestamp) -> Result<Reply, No> {
        let [entry, header, receipt] = message;
        let key = self.organisation(node)?.message_key;
        let (header, logged) = (open::<MaskedHeader>(header, &key)?, self.node_entry(node, entry)?);
        let paid = open::<Receipt>(receipt, &key)?;
        demand_sender(node, &header.from)?;
        demand_sender(node, &paid.organisation)?;
        let Fact::Price { task, .. } = &logged.fact else {
            return no("malformed", String::from("the log entry is no price"));
        };
        let [entry, sent_header, receipt] = message.map(Envelope::clone);
        self.in_round(*task, |hub, round| {
            hub.masked_in(round, node, (&header, &paid, &logged), (sent_header, receipt, entry), now)
        })
    }

    fn masked_in(
        &mut self,
        round: &mut Round,
        node: &Name,
        (header, paid, logged): (&Verified<MaskedHeader>, &Verified<Receipt>, &Verified<Entry>),
        message: Announcement,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let task = round.task();
        demand_same_terms(&round.record, node, logged)?;
        let is_known = round.record.announced.contains_key(node);
        if !matches!(round.record.phase, Phase::Permits | Phase::Vectors) && !is_known {
            // Too late to be in the sum, but what was paid belongs in the log.
            return self.log_after_the_end(round, node, logged, &message.2);
        }
        if round.record.context != Some(header.context) {
            return no("malformed", String::from("the vector is about another round than the price"));
        }
        if Some(header.bytes) != round.live.context.vector_bytes() {
            return no("malformed", String::from("the vector has another length than the plan says"));
        }
        let announced = Announced { bytes: header.bytes, sha256: header.sha256 };
        if self.already(task, Kind::Vector, node, &message)?.is_none() {
            demand_phase(&round.record, Phase::Vectors)?;
            let permit: Option<Permission> = self.message(task, Kind::Permit, node)?;
            let permit = permit.ok_or_else(|| refusal("denied", format!("{node} has not permitted this task")))?;
            demand_receipt(round, &permit.0, paid, header, &statement(round, logged)?)?;
            round.record.announced.insert(node.clone(), announced);
            let mut changes = Changes::default();
            changes.batch.put(MESSAGES, &message_key(task, Kind::Vector, node.as_str()), json(&message)?);
            self.put(changes, round)?;
        }
        if round.record.phase != Phase::Vectors || round.record.arrived.contains(node) {
            // A crash may have come between the last vector and the question that follows it.
            self.ask_in(round, now)?;
            return Ok(Reply::Vector { have: header.bytes, ticket: self.ticket(task, node, &announced) });
        }
        let have = self.uploaded(task, node, &round.record)?;
        Ok(Reply::Vector { have, ticket: self.ticket(task, node, &announced) })
    }

    /// Goes on without those who did not come in time, if enough did; whether it did.
    pub(crate) fn go_on_without(&mut self, task: Hash, now: Timestamp) -> Result<bool, No> {
        self.in_round(task, |hub, round| {
            let here = match round.record.phase {
                Phase::Vectors => round.record.arrived.len(),
                Phase::Signatures => round.record.signed.len(),
                Phase::Reveals => round.record.revealed.len(),
                Phase::Witnesses | Phase::Permits | Phase::Ended => 0,
            };
            if here < round.live.agreement.secure_sum.threshold as usize {
                return Ok(false);
            }
            match round.record.phase {
                Phase::Vectors => hub.fix_survivors(round, now)?,
                Phase::Signatures => {
                    let sets = hub.messages::<Envelope>(task, Kind::Set)?;
                    hub.send_signatures(sets, Changes::default(), round, now)?;
                }
                _ => hub.open_sum(round, now)?,
            }
            Ok(true)
        })
    }

    /// Once all vectors are here there is nothing to wait for.
    pub(crate) fn ask_for_signatures(&mut self, task: Hash, now: Timestamp) -> Result<(), No> {
        self.in_round(task, |hub, round| hub.ask_in(round, now))
    }

    fn ask_in(&mut self, round: &mut Round, now: Timestamp) -> Result<(), No> {
        let record = &round.record;
        let is_complete = record.phase == Phase::Vectors && record.arrived.iter().eq(&record.participants);
        if is_complete { self.fix_survivors(round, now) } else { Ok(()) }
    }

    /// Names who is in the sum, once and for all: those whose vectors are here. The others are told that they are not.
    fn fix_survivors(&mut self, round: &mut Round, now: Timestamp) -> Result<(), No> {
        let task = round.task();
        let mut survivors = Vec::new();
        self.accept(round, |coordinator| {
            survivors = coordinator.propose_survivors()?;
            Ok(())
        })?;
        let mut changes = Changes::default();
        self.take_back_shares(&mut changes, task, &round.record, "the round goes on without us")?;
        for name in &round.record.participants {
            changes.inbox.push((name.clone(), InboxItem::Survivors { survivors: survivors.clone(), task }));
        }
        round.record.survivors = survivors;
        let why = "waiting for the members to sign who is in the sum";
        self.next_phase(&mut round.record, Phase::Signatures, why, now);
        self.put(changes, round).map(drop)
    }

    /// A node signed who is in the sum: once all have, everyone who did is asked to reveal.
    fn survivors_signed(&mut self, node: &Name, set: &Envelope, now: Timestamp) -> Result<Reply, No> {
        let signed = open::<SurvivorSet>(set, &self.organisation(node)?.message_key)?;
        demand_sender(node, &signed.from)?;
        let task = self.task_of_context(signed.context, &[Phase::Signatures, Phase::Reveals])?;
        self.in_round(task, |hub, round| hub.survivors_signed_in(round, node, signed, set, now))
    }

    fn survivors_signed_in(
        &mut self,
        round: &mut Round,
        node: &Name,
        signed: Verified<SurvivorSet>,
        set: &Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let task = round.task();
        if let Some(reply) = self.already(task, Kind::Set, node, set)? {
            return Ok(reply);
        }
        self.accept(round, |coordinator| coordinator.accept_survivor_set(signed))?;
        round.record.signed.insert(node.clone());
        let mut changes = Changes::default();
        changes.batch.put(MESSAGES, &message_key(task, Kind::Set, node.as_str()), json(set)?);
        let is_late = round.record.phase == Phase::Reveals;
        if !is_late && round.record.signed.len() < round.record.survivors.len() {
            return self.put(changes, round);
        }
        let mut sets = self.messages::<Envelope>(task, Kind::Set)?;
        sets.push((node.clone(), set.clone()));
        sets.sort_by(|(one, _), (other, _)| one.cmp(other));
        if is_late {
            // Late, but perhaps in time to reveal in the place of one who signed and is lost.
            let sets = sets.into_iter().map(|(_, set)| set).collect();
            changes.inbox.push((node.clone(), InboxItem::Signatures { sets, task }));
            return self.put(changes, round);
        }
        self.send_signatures(sets, changes, round, now)?;
        Ok(Reply::Accepted)
    }

    /// Sends the signatures to those who signed: the others could not reveal.
    fn send_signatures(
        &mut self,
        sets: Vec<(Name, Envelope)>,
        mut changes: Changes,
        round: &mut Round,
        now: Timestamp,
    ) -> Result<(), No> {
        let task = round.task();
        let (names, sets): (Vec<Name>, Vec<Envelope>) = sets.into_iter().unzip();
        for name in names {
            changes.inbox.push((name, InboxItem::Signatures { sets: sets.clone(), task }));
        }
        self.next_phase(&mut round.record, Phase::Reveals, "waiting for the members to open the sum", now);
        self.put(changes, round).map(drop)
    }

    /// A node revealed: once all who signed have, the sum is opened and released.
    fn revealed(&mut self, node: &Name, reveal: &Envelope, now: Timestamp) -> Result<Reply, No> {
        let opened = open::<Reveal>(reveal, &self.organisation(node)?.message_key)?;
        demand_sender(node, &opened.from)?;
        let task = self.task_of_context(opened.context, &[Phase::Reveals])?;
        self.in_round(task, |hub, round| {
            if hub.already(task, Kind::Reveal, node, reveal)?.is_none() {
                hub.accept(round, |coordinator| coordinator.accept_reveal(opened))?;
                round.record.revealed.insert(node.clone());
                let mut changes = Changes::default();
                changes.batch.put(MESSAGES, &message_key(task, Kind::Reveal, node.as_str()), json(reveal)?);
                hub.put(changes, round)?;
            }
            // Asked again for what is known: a crash may have come between the last reveal and what follows it.
            if round.record.revealed == round.record.signed {
                hub.open_sum(round, now)?;
            }
            Ok(Reply::Accepted)
        })
    }

    /// Opens the sum and releases it, or ends the task with what stands in the way.
    fn open_sum(&mut self, round: &mut Round, now: Timestamp) -> Result<(), No> {
        match self.total(round)? {
            Ok(total) => self.release(round, total, now),
            Err(error) => self.void(round.task(), &mut round.record, TaskState::Failed, &error.to_string(), now),
        }
    }

    /// Makes the release out of the total, this hub's own permit and the receipts; logs it with everyone's prices.
    fn release(&mut self, round: &mut Round, total: Total, now: Timestamp) -> Result<(), No> {
        let task = round.task();
        if let Some(why) = self.overtaken_by(&round.record)? {
            return self.void(task, &mut round.record, TaskState::Failed, &why, now);
        }
        let live = &round.live;
        let agreement = &live.agreement;
        let (revoked, asked_at) = (Revoked::nothing(), live.task.asked_at);
        let request = cohortium_policy::Request::new(&live.task, &live.priced, agreement.hash(), asked_at, &revoked);
        // Decided when the task was submitted; if it fails now, the task fails, and not the hub.
        let permit = live.policy.decide(&request).map_err(|denial| refusal("denied", denial.to_string()))?;
        let announcements = self.messages::<Announcement>(task, Kind::Vector)?;
        let paid = announcements.iter().filter(|(name, _)| round.record.survivors.contains(name));
        let receipts = paid.map(|(_, (_, receipt, _))| ReceiptEvidence::new(receipt.clone(), agreement));
        let receipts =
            receipts.collect::<Result<Vec<_>, _>>().map_err(|error| refusal("malformed", error.to_string()))?;
        let consents = self.messages::<Envelope>(task, Kind::Set)?.into_iter().map(|(_, set)| set).collect();
        let release = match Release::make(total, &permit, agreement, receipts, consents, now) {
            Ok(release) => release,
            Err(error) => return self.void(task, &mut round.record, TaskState::Failed, &error.to_string(), now),
        };
        let envelope = Envelope::sign(release.document(), &self.config.message_key);
        let envelope = envelope.map_err(|error| refusal("limit", error.to_string()))?;
        let body = canonical_bytes(&envelope).map_err(own)?;
        let payload = Hash::of(&canonical_bytes(release.document()).map_err(own)?);
        let fact = Fact::Release { body: Hash::of(&body), release: payload, task };
        let entry = self.hub_entry(agreement, fact, now)?;
        let mut changes = Changes { bodies: vec![body], ..Changes::default() };
        changes.entries.extend(announcements.into_iter().map(|(_, (_, _, price))| price));
        changes.entries.push(entry.clone());
        let index = self.log.size() + changes.entries.len() as u64 - 1;
        for name in &round.record.participants {
            changes.inbox.push((name.clone(), InboxItem::Released { release: envelope.clone(), task }));
        }
        self.drop_vectors(&mut changes, task, &round.record)?;
        self.drop_messages(&mut changes, task, &round.record);
        let plan = format!("{}/{}", round.record.study, live.priced.plan_hash());
        changes.batch.put(RELEASED, &plan, json(&task)?);
        changes.batch.put(RELEASES, &task.to_string(), json(&(envelope, entry))?);
        round.record.released_at = Some(index);
        end(&mut round.record, TaskState::Released, "", Vec::new());
        self.put(changes, round).map(drop)
    }

    /// What became of the price of a round that is void, or that went on without the node.
    fn settled(&mut self, node: &Name, entry: &Envelope) -> Result<Reply, No> {
        let logged = self.node_entry(node, entry)?;
        let Fact::Price { task, .. } = &logged.fact else {
            return no("malformed", String::from("this is no price"));
        };
        self.in_round(*task, |hub, round| {
            let record = &round.record;
            demand_same_terms(record, node, &logged)?;
            let known: Option<Announcement> = hub.message(*task, Kind::Vector, node)?;
            if let Some(reply) = already(known.map(|(_, _, price)| price == *entry))? {
                return Ok(reply);
            }
            if !matches!(record.phase, Phase::Signatures | Phase::Reveals) || record.survivors.contains(node) {
                demand_phase(record, Phase::Ended)?;
            }
            hub.log_after_the_end(round, node, &logged, entry)
        })
    }

    /// Logs what a node says about a task that has ended, or that goes on without it, once: what it sends again after a
    /// crash changes nothing. It is for the account, and must be on the task's terms, as an auditor will demand.
    fn log_after_the_end(&mut self, round: &Round, node: &Name, logged: &Entry, entry: &Envelope) -> Result<Reply, No> {
        let task = round.task();
        match statement(round, logged)? {
            Statement::Permitted { .. } => {}
            Statement::Refunded { refund: first } | Statement::Spent { reading: first, .. } => {
                let permit = match self.message::<Permission>(task, Kind::Permit, node)? {
                    Some((permit, ..)) => Some(permit),
                    None => self.record::<Envelope>(LATE, &late_key(task, node, "permit"))?,
                };
                let permit = permit.ok_or_else(|| refusal("denied", format!("{node} has not permitted this task")))?;
                demand_after(&permit, first.sequence)?;
            }
        }
        self.log_once(&late_key(task, node, logged.fact.kind()), entry)
    }

    fn log_once(&mut self, key: &str, entry: &Envelope) -> Result<Reply, No> {
        if let Some(reply) = already(self.record::<Envelope>(LATE, key)?.map(|known| known == *entry))? {
            return Ok(reply);
        }
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        changes.batch.put(LATE, key, json(entry)?);
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }

    /// What to say to a message of a kind of which this member has sent one before; nothing if it has not.
    fn already<T: DeserializeOwned + PartialEq>(
        &self,
        task: Hash,
        kind: Kind,
        node: &Name,
        message: &T,
    ) -> Result<Option<Reply>, No> {
        already(self.message::<T>(task, kind, node)?.map(|known| known == *message))
    }

    /// The log entries by which members permit a task, by member.
    pub(crate) fn permits(&self, task: Hash) -> Result<Vec<(Name, Envelope)>, No> {
        let permissions = self.messages::<Permission>(task, Kind::Permit)?;
        Ok(permissions.into_iter().map(|(name, (permit, _))| (name, permit)).collect())
    }

    /// The log entries by which members account for the vectors that they announced.
    pub(crate) fn prices(&self, task: Hash) -> Result<Vec<Envelope>, No> {
        let announcements = self.messages::<Announcement>(task, Kind::Vector)?;
        Ok(announcements.into_iter().map(|(_, (_, _, price))| price).collect())
    }

    /// A log entry that `node` itself signed.
    fn node_entry(&self, node: &Name, envelope: &Envelope) -> Result<Verified<Entry>, No> {
        let entry = open::<Entry>(envelope, &self.organisation(node)?.message_key)?;
        let is_by_node = matches!(&entry.author, cohortium_messages::Author::Node(author) if author == node);
        if is_by_node { Ok(entry) } else { no("signature", String::from("the log entry is in another's name")) }
    }

    fn task_of_context(&self, context: Hash, phases: &[Phase]) -> Result<Hash, No> {
        let found = self
            .open_tasks()?
            .into_iter()
            .find(|(_, record)| phases.contains(&record.phase) && record.context == Some(context));
        let none = || refusal("conflict", "no round under way has this context and waits for this message");
        found.map(|(task, _)| task).ok_or_else(none)
    }

    pub(crate) fn next_phase(&self, record: &mut TaskRecord, phase: Phase, why: &str, now: Timestamp) {
        record.phase = phase;
        record.why = why.to_owned();
        record.deadline = self.deadline(now);
        record.step += 1;
    }

    fn put(&mut self, changes: Changes, round: &mut Round) -> Result<Reply, No> {
        let reply = self.put_ended(changes, round.task(), &round.record)?;
        round.is_durable();
        Ok(reply)
    }

    fn put_ended(&mut self, mut changes: Changes, task: Hash, record: &TaskRecord) -> Result<Reply, No> {
        put_task(&mut changes.batch, task, record)?;
        self.commit(changes)?;
        Ok(Reply::Accepted)
    }
}

/// What a task waits for when nobody is asked.
pub(crate) const WAITING_FOR_PERMITS: &str = "waiting for the nodes' permits";

fn waiting_for_people(record: &TaskRecord) -> String {
    let names: Vec<String> = record.still_asking().iter().map(ToString::to_string).collect();
    format!("waiting for people to approve at {}", names.join(", "))
}

/// Until when people are waited for, who are asked now.
fn people_deadline(agreement: &Agreement, now: Timestamp) -> Timestamp {
    now.plus_seconds(3600 * i64::from(agreement.approval.wait_hours))
}

/// What to say to a message that was received before: yes if it is the same, a conflict if it is not.
fn already(is_the_same: Option<bool>) -> Result<Option<Reply>, No> {
    match is_the_same {
        None => Ok(None),
        Some(true) => Ok(Some(Reply::Accepted)),
        Some(false) => no("conflict", String::from("another message was received for this step before")),
    }
}

/// What a node says in an entry about a task, on the task's terms.
fn statement<'a>(round: &Round, logged: &'a Entry) -> Result<Statement<'a>, No> {
    let statement = round.live.policy.read_statement(logged, &round.live.task, &round.live.priced, None);
    statement.map_err(|error| refusal("malformed", format!("the log entry {error}")))
}

fn late_key(task: Hash, node: &Name, kind: &str) -> String {
    format!("{task}/{node}/{kind}")
}

/// A receipt must be about this vector, this round and this payment, and about the rows that its node permitted: it is
/// evidence in the release, and an auditor will hold it against the log.
fn demand_receipt(
    round: &Round,
    permit: &Envelope,
    paid: &Verified<Receipt>,
    header: &Verified<MaskedHeader>,
    statement: &Statement<'_>,
) -> Result<(), No> {
    let Statement::Spent { reading, spend } = statement else {
        return no("malformed", String::from("the log entry is no spent price"));
    };
    demand_after(permit, reading.sequence)?;
    let permitted = permit.peek::<Entry>().map_err(own)?;
    let snapshot = match &permitted.claims().fact {
        Fact::Permit { snapshot, .. } => Some(*snapshot),
        _ => None,
    };
    let head = spend.hash_hex().map_err(own)?;
    for (field, agrees) in [
        ("account_head", paid.account_head.to_string() == head),
        ("account_sequence", paid.account_sequence == spend.sequence),
        ("agreement", paid.agreement == round.live.agreement.hash()),
        ("context", paid.context == header.context),
        ("dataset", paid.dataset == round.live.task.plan.dataset),
        ("masked", paid.masked == header.sha256),
        ("plan", paid.plan == round.live.priced.plan_hash()),
        ("snapshot", Some(paid.snapshot) == snapshot),
        ("task", paid.task == round.task()),
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
