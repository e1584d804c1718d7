//! Rounds under way, in memory: what follows from a task's signed documents, and the state of the secure sum.
//!
//! A cache and nothing else. Everything in it can be made again from the store, and is, for the first message of a round
//! after the hub was started again; a message after that costs its own checks and not those of all before it. The state
//! in memory must never be ahead of the store: a step that fails after the protocol took a message throws it away.
//!
//! Masked vectors are not in it: they wait in the store ([`crate::uploads`]) until the sum is opened, and are then read
//! once.

use cohortium_messages::{Agreement, Envelope, Hash, MaskedHeader, Name, Phase, RoundContext, Task, Verified};
use cohortium_mpc::{Coordinator, MpcError, Total};
use cohortium_policy::Policy;
use cohortium_query::Priced;
use serde::de::DeserializeOwned;

use crate::hub::{Changes, Hub, No, open, own, parse, refusal};
use crate::records::{Kind, MESSAGES, TaskRecord, message_key};

/// What follows from a task's signed documents, and the protocol's state once it was needed.
pub(crate) struct Live {
    /// The agreement under which the task runs.
    pub agreement: Verified<Agreement>,
    /// What the round is about.
    pub context: RoundContext,
    coordinator: Option<Coordinator>,
    /// The agreement's clauses.
    pub policy: Policy,
    /// The plan with its price.
    pub priced: Priced,
    /// The task.
    pub task: Verified<Task>,
}

/// A task in its round: its record, and everything that follows from what was signed.
pub(crate) struct Round {
    /// Whether the protocol took a message that is not durable yet.
    is_ahead: bool,
    /// What follows from what was signed.
    pub live: Live,
    /// The record as it is in the store, or as it will be.
    pub record: TaskRecord,
}

impl Round {
    /// The task.
    pub fn task(&self) -> Hash {
        self.live.task.hash()
    }

    /// Notes that record and protocol agree: what was taken is durable.
    pub const fn is_durable(&mut self) {
        self.is_ahead = false;
    }
}

impl Hub {
    /// Takes a step in a task's round.
    pub(crate) fn in_round<T>(
        &mut self,
        task: Hash,
        step: impl FnOnce(&mut Self, &mut Round) -> Result<T, No>,
    ) -> Result<T, No> {
        let record = self.task(task)?;
        let live = match self.live.remove(&task) {
            Some(live) => live,
            None => self.read_live(&record)?,
        };
        let mut round = Round { is_ahead: false, live, record };
        let done = step(self, &mut round);
        if round.is_ahead {
            round.live.coordinator = None; // whatever the protocol took is not in the store
        }
        if round.record.phase != Phase::Ended {
            self.live.insert(task, round.live);
        }
        done
    }

    /// Hands a message to the protocol. What it refuses has changed nothing.
    pub(crate) fn accept(
        &self,
        round: &mut Round,
        give: impl FnOnce(&mut Coordinator) -> Result<(), MpcError>,
    ) -> Result<(), No> {
        give(self.coordinator(round)?).map_err(misfit)?;
        round.is_ahead = true;
        Ok(())
    }

    /// The protocol's state.
    pub(crate) fn coordinator<'a>(&self, round: &'a mut Round) -> Result<&'a mut Coordinator, No> {
        if round.live.coordinator.is_none() {
            let coordinator = self.replay(round, |header, bytes, coordinator| {
                coordinator.accept_masked_stored(header, bytes, header.sha256)
            })?;
            round.live.coordinator = Some(coordinator);
        }
        round.live.coordinator.as_mut().ok_or_else(|| own("a round has no state"))
    }

    /// The sum, opened. This is where the vectors are in memory, each once.
    ///
    /// The outer error is the hub's trouble, or messages that do not fit together; the inner one is what stands in the
    /// way of the sum.
    pub(crate) fn total(&self, round: &Round) -> Result<Result<Total, MpcError>, No> {
        let task = round.task();
        let coordinator = self.replay(round, |header, _, coordinator| {
            let bytes = self.vector(task, &header.from).map_err(|_| MpcError::Internal("a vector cannot be read"))?;
            coordinator.accept_masked(header, bytes)
        })?;
        Ok(coordinator.total())
    }

    /// The messages of this kind that members have sent, by member.
    pub(crate) fn messages<T: DeserializeOwned>(&self, task: Hash, kind: Kind) -> Result<Vec<(Name, T)>, No> {
        let prefix = message_key(task, kind, "");
        let records = self.store.scan(MESSAGES, &prefix, None, usize::MAX).map_err(own)?;
        let records = records.into_iter().map(|(key, bytes)| {
            let node = key.strip_prefix(&prefix).unwrap_or_default();
            Ok((Name::new(node).map_err(own)?, parse(&bytes)?))
        });
        records.collect()
    }

    /// A member's message of this kind, if it sent one.
    pub(crate) fn message<T: DeserializeOwned>(&self, task: Hash, kind: Kind, node: &Name) -> Result<Option<T>, No> {
        self.record(MESSAGES, &message_key(task, kind, node.as_str()))
    }

    /// Erases what the members said to one another in a round that is over, and its state.
    pub(crate) fn drop_messages(&mut self, changes: &mut Changes, task: Hash, record: &TaskRecord) {
        for (kind, node) in
            Kind::OF_THE_ROUND.iter().flat_map(|kind| record.participants.iter().map(move |n| (kind, n)))
        {
            changes.batch.delete(MESSAGES, &message_key(task, *kind, node.as_str()));
        }
        self.live.remove(&task);
    }

    fn read_live(&self, record: &TaskRecord) -> Result<Live, No> {
        let agreement = self.agreement_by_hash(record.agreement)?;
        let claims = record.task.peek::<Task>().map_err(own)?;
        let researcher = agreement.researcher(&claims.claims().researcher).ok_or_else(|| own("unknown researcher"))?;
        let task = record.task.open::<Task>(&researcher.key).map_err(own)?;
        // A task whose plan does not fit was refused when it came; whoever speaks of its round is in error, not this hub.
        let priced = cohortium_query::check(&task.plan, &agreement, agreement.hash())
            .map_err(|error| refusal("denied", error.to_string()))?;
        let context = priced.round_context(&agreement, task.hash(), record.position);
        let policy = cohortium_policy::compile(&agreement).map_err(own)?;
        Ok(Live { agreement, context, coordinator: None, policy, priced, task })
    }

    /// The protocol's state, from the stored messages. How it gets a vector that has arrived is the caller's choice.
    fn replay(
        &self,
        round: &Round,
        give_vector: impl Fn(&Verified<MaskedHeader>, u64, &mut Coordinator) -> Result<(), MpcError>,
    ) -> Result<Coordinator, No> {
        let (record, live, task) = (&round.record, &round.live, round.task());
        let mut coordinator = Coordinator::new(live.context.clone(), live.priced.noise().clone()).map_err(own)?;
        let key = |node: &Name| self.organisation(node).map(|entry| entry.message_key);
        for (node, shares) in self.messages::<Envelope>(task, Kind::Shares)? {
            coordinator.accept_shares(open(&shares, &key(&node)?)?).map_err(misfit)?;
        }
        for (node, (header, ..)) in self.messages::<(Envelope, Envelope, Envelope)>(task, Kind::Vector)? {
            if let Some(announced) = record.announced.get(&node).filter(|_| record.arrived.contains(&node)) {
                let header = open::<MaskedHeader>(&header, &key(&node)?)?;
                give_vector(&header, announced.bytes, &mut coordinator).map_err(misfit)?;
            }
        }
        if matches!(record.phase, Phase::Signatures | Phase::Reveals) {
            coordinator.restore_proposal(record.survivors.clone()).map_err(misfit)?;
        }
        for (node, set) in self.messages::<Envelope>(task, Kind::Set)? {
            coordinator.accept_survivor_set(open(&set, &key(&node)?)?).map_err(misfit)?;
        }
        for (node, reveal) in self.messages::<Envelope>(task, Kind::Reveal)? {
            coordinator.accept_reveal(open(&reveal, &key(&node)?)?).map_err(misfit)?;
        }
        Ok(coordinator)
    }
}

fn misfit(error: MpcError) -> No {
    refusal("malformed", error.to_string())
}
