//! The desk: where people of this house say what a node must not decide alone.
//!
//! A person signs a log entry and lays it into the folder `desk` of the node's home (the command line does both). The node
//! takes it from there, checks who speaks and whether they may, and makes two things true in one commit: the entry is in the
//! node's own log, and its effect holds. What cannot be acted on is refused with a sentence, and changes nothing.
//! An entry that was acted upon is skipped when it comes again: whoever can write into the folder can repeat what people
//! said, and nothing else.
//!
//! | who | says | and then |
//! |---|---|---|
//! | steward, privacy officer | `approval` | the task is decided on again, with everything that is known by then |
//! | the same | `dispatch` | what is held back leaves |
//! | operator, steward, privacy officer | `freeze` | the study stands still here: nothing new is permitted, nothing read, nothing let out |
//! | privacy officer | the end of a freeze | the study goes on |
//! | privacy officer | `incident` | it is in the own log, with its record beside it; it stays in this house |
//! | the custodian | `revocation` | agreement or key are dead here at once; the hub is told |
//! | the custodian | `agreement` | this amendment may come into force, though it undoes what the custodian took back before |
//!
//! A custodian's `agreement` stands in the hub's log and not in the node's own: it is about a text that the node may not
//! hold yet. What people say about tasks, freezes and revocations goes to the hub as soon as it is heard, in that order.
//!
//! Assumes: keys of people are theirs alone. A node that ignores its own desk deceives its own house; nobody else can see it.

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Hash, IncidentRecord, IncidentStep, Name, PersonEntry, Timestamp,
    Verified, canonical_bytes,
};
use cohortium_policy::{Authored, may_still_say, open_entry};
use cohortium_store::Batch;
use rand_core::CryptoRng;

use crate::node::{Changes, Node, NodeError, entry_hash, json, own, peer, said};
use crate::outgoing::Outgoing;
use crate::records::{
    ACCESS, AccessRecord, DeskItem, HEARD, HELD, Heard, HeldRecord, INCIDENTS, RUNS, RunState, STOPS, WORDS,
};
use crate::rounds::AWAITS_SURVIVORS;
use crate::tasks::opened;

/// How far ahead of this house's clock an entry may be dated, seconds: what a hub allows, so that what is heard here is
/// also logged there.
const MAX_AHEAD_S: i64 = 300;

/// Something said at the desk, checked: who speaks is of this house and in the agreement.
struct Said {
    agreement: Verified<Agreement>,
    authored: Authored,
    body: Option<Envelope>,
    envelope: Envelope,
}

impl Said {
    fn entry(&self) -> &Verified<Entry> {
        self.authored.entry()
    }

    /// The person who speaks.
    fn person(&self) -> Result<&PersonEntry, NodeError> {
        let person = match &self.entry().author {
            Author::Person { organisation, person } => self.agreement.person(organisation, person),
            _ => None,
        };
        person.ok_or_else(|| peer("only a person can say this"))
    }
}

impl Node {
    /// Acts on what lies on the desk. What it does is durable when this returns.
    ///
    /// # Errors
    /// [`NodeError::Own`] when this node's store or log fail: the item must stay on the desk.
    pub fn hear(&mut self, bytes: &[u8], now: Timestamp, rng: &mut dyn CryptoRng) -> Result<Heard, NodeError> {
        let item: DeskItem = match serde_json::from_slice(bytes) {
            Ok(item) => item,
            Err(error) => return Ok(Heard::Refused(format!("this is no signed entry: {error}"))),
        };
        let who = item.entry.peek::<Entry>().map(|claims| claims.claims().author.to_string());
        let what = item.entry.peek::<Entry>().map(|claims| said(&claims.claims().fact));
        let heard = match self.act_on(item, now, rng) {
            Ok(heard) => heard,
            Err(NodeError::Peer(why)) => Heard::Refused(why),
            Err(own) => return Err(own),
        };
        let outcome = match &heard {
            Heard::Acted(words) => words.clone(),
            Heard::Before => return Ok(heard),
            Heard::Refused(why) => format!("refused: {why}"),
        };
        let (who, what) = (who.unwrap_or_else(|_| String::from("somebody")), what.unwrap_or("unreadable"));
        let record = AccessRecord { at: now, outcome, what: format!("{what} at the desk"), who };
        let mut batch = Batch::new();
        self.append(&mut batch, ACCESS, "", json(&record)?)?;
        self.store.commit(batch).map_err(own)?;
        Ok(heard)
    }

    fn act_on(&mut self, item: DeskItem, now: Timestamp, rng: &mut dyn CryptoRng) -> Result<Heard, NodeError> {
        let DeskItem { body, entry: envelope } = item;
        let key = entry_hash(&envelope)?.to_string();
        if self.store.get(HEARD, &key).map_err(own)?.is_some() {
            return Ok(Heard::Before);
        }
        if envelope.signature_count() != 1 {
            return Err(peer("an entry has one author, so one signature"));
        }
        let claims = envelope.peek::<Entry>().map_err(peer)?;
        if let Fact::Agreement { .. } = claims.claims().fact {
            return self.hear_consent(&envelope, &key, now, rng).map(Heard::Acted);
        }
        let agreement = self.agreement_by_hash(claims.claims().agreement)?;
        let authored = open_entry(&envelope, &agreement).map_err(peer)?;
        let said = Said { agreement, authored, body, envelope };
        self.demand_may_speak(&said, now)?;
        let mut changes = Changes::default();
        changes.batch.put(HEARD, &key, json(&now)?);
        changes.decisions.push(said.envelope.clone());
        let words = match said.entry().fact.clone() {
            Fact::Approval { approved, plan, task, .. } => {
                self.hear_approval(&said, approved, plan, task, changes, now)?
            }
            Fact::Dispatch { message, task } => self.hear_dispatch(&said, message, task, changes, now)?,
            Fact::Freeze { frozen, .. } => self.hear_freeze(&said, frozen, changes, now)?,
            Fact::Incident { body, incident, step } => {
                self.hear_incident(&said, (body, &incident, step), changes, now)?
            }
            Fact::Revocation { .. } => self.hear_revocation(&said, changes, now)?,
            fact => return Err(peer(format!("a {} is nothing that is said at the desk", fact.kind()))),
        };
        Ok(Heard::Acted(words))
    }

    /// Demands that a person or the custodian of this house speaks, with a key that nobody took back, and now.
    fn demand_may_speak(&self, said: &Said, now: Timestamp) -> Result<(), NodeError> {
        let entry = said.entry();
        let of_this_house = match &entry.author {
            Author::Custodian(name) | Author::Person { organisation: name, .. } => *name == self.organisation,
            Author::Hub(_) | Author::Node(_) | Author::Researcher(_) => false,
        };
        if !of_this_house {
            return Err(peer(format!("{} has nothing to say at the desk of {}", entry.author, self.organisation)));
        }
        self.demand_not_ahead(entry, now)?;
        // That somebody stops something is heard whoever says it.
        let stops = matches!(entry.fact, Fact::Freeze { frozen: true, .. });
        if let Author::Person { .. } = &entry.author
            && !stops
            && self.revoked(&said.agreement)?.key(&said.person()?.key)
        {
            return Err(peer(format!("the key of {} was taken back", entry.author)));
        }
        Ok(())
    }

    pub(crate) fn demand_not_ahead(&self, entry: &Entry, now: Timestamp) -> Result<(), NodeError> {
        if entry.time <= now.plus_seconds(MAX_AHEAD_S) {
            return Ok(());
        }
        Err(peer(format!("the entry is dated {}, and here it is {now}: set the clock and sign again", entry.time)))
    }

    /// Demands the agreement that is in force: people of earlier ones may have left.
    fn demand_in_force(&self, said: &Said) -> Result<(), NodeError> {
        match self.agreement(&said.agreement.study)? {
            Some(in_force) if in_force.hash() == said.agreement.hash() => Ok(()),
            _ => Err(peer(format!(
                "the entry was signed under revision {} of study {}, which is no longer in force: sign it again",
                said.agreement.revision, said.agreement.study
            ))),
        }
    }

    /// A yes or no to a task that waits for people: laid before the hub, and decided on again, with what is known now. A yes
    /// can be turned into a no while the task waits, here or elsewhere; nothing else that somebody said can be said
    /// otherwise.
    ///
    /// Promise: after a no that was heard before the rows of the task were read, they are not read.
    fn hear_approval(
        &mut self,
        said: &Said,
        approved: bool,
        plan: Hash,
        task: Hash,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        if let Some(why) = self.halted()? {
            return Err(peer(format!("this node has stopped: {why}")));
        }
        let run = self.run(task)?.ok_or_else(|| peer(format!("no task {} has reached this node", task.short())))?;
        let is_permitted = run.state == RunState::Permitted;
        if run.state != RunState::Waiting && (approved || !is_permitted) {
            return Err(peer(format!("task {} is {}: nobody is asked about it", task.short(), run.state)));
        }
        let hours = i64::from(said.agreement.approval.wait_hours);
        if !is_permitted && now > run.began_at.plus_seconds(3_600 * hours) {
            return Err(peer(format!("task {} has waited for people for {hours} hours, and is over", task.short())));
        }
        let mut case = self.case(run)?;
        if case.agreement.hash() != said.agreement.hash() || case.task.plan.hash().map_err(own)? != plan {
            return Err(peer("the entry speaks of another plan than the task's"));
        }
        let person = said.person()?;
        let is_whoever_asks =
            case.agreement.researcher(&case.task.researcher).is_some_and(|asks| asks.key == person.key);
        if is_whoever_asks || person.person == case.task.researcher {
            return Err(peer("whoever asks does not approve: somebody else must"));
        }
        if approved {
            demand_role(&case.agreement, person)?;
        }
        let before = opened(&case.run.approvals, &case.agreement)?;
        may_still_say(&before, &said.authored).map_err(|error| peer(format!("this {error}")))?;
        case.run.approvals.push(said.envelope.clone());
        let key = format!("{}/{plan}/{}", case.agreement.hash(), entry_hash(&said.envelope)?);
        changes.batch.put(WORDS, &key, json(&said.envelope)?);
        changes.outgoing.push((Outgoing::Approval(said.envelope.clone()), Some(task)));
        if is_permitted {
            // The price is reserved and the permit may have left: the hub ends the task, and gives the price back.
            case.run.why = format!("its rows are not read: {} said no", person.person);
            changes.batch.put(RUNS, &task.to_string(), json(&case.run)?);
            self.commit(changes, now)?;
            return Ok(case.run.why);
        }
        let stopped = self.stopped(&case.agreement.study)?.is_some();
        let admission = self.admit(&case, stopped, now)?;
        self.act(case, admission, changes, now)
    }

    /// Lets what is held back for a task leave: exactly what the person looked at.
    fn hear_dispatch(
        &mut self,
        said: &Said,
        message: Hash,
        task: Hash,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        let held: HeldRecord = self
            .record(HELD, &task.to_string())?
            .ok_or_else(|| peer(format!("nothing is held back for task {}", task.short())))?;
        let mut case = self.case(self.run(task)?.ok_or_else(|| own("a held message without a run"))?)?;
        if case.agreement.hash() != said.agreement.hash() || held.message != message {
            return Err(peer(format!("what is held back for task {} is another message", task.short())));
        }
        let person = said.person()?;
        demand_role(&case.agreement, person)?;
        if person.person == case.task.researcher {
            return Err(peer("whoever asks does not let the answer out: somebody else must"));
        }
        if let Some(why) = self.forbids(&case.agreement, &case.run.researcher)? {
            return Err(peer(format!("{why}: nothing is let out")));
        }
        case.run.why = String::from(AWAITS_SURVIVORS);
        changes.batch.delete(HELD, &task.to_string());
        changes.batch.put(RUNS, &task.to_string(), json(&case.run)?);
        changes.dispatched.push(held.record);
        self.commit(changes, now)?;
        Ok(String::from("it leaves"))
    }

    fn hear_freeze(
        &mut self,
        said: &Said,
        frozen: bool,
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        self.demand_in_force(said)?;
        let study = &said.agreement.study;
        if !frozen {
            let stopped =
                self.stopped(study)?.ok_or_else(|| peer(format!("study {study} does not stand still here")))?;
            // A stop that is dated ahead was said by a clock that ran ahead. Nothing tells when it was said; so its end must
            // be said now.
            let is_ahead = stopped.since > now.plus_seconds(MAX_AHEAD_S);
            let since = if is_ahead { now.plus_seconds(-MAX_AHEAD_S) } else { stopped.since };
            if said.entry().time < since {
                return Err(peer("the end of a freeze must be said after what it ends: sign it again"));
            }
        }
        changes.append.push((STOPS, format!("{study}/"), json(&said.envelope)?));
        changes.outgoing.push((Outgoing::Freeze(said.envelope.clone()), None));
        self.commit(changes, now)?;
        Ok(format!("study {study} {}", if frozen { "stands still here" } else { "goes on here" }))
    }

    /// An incident stays in this house: what is in its record is for people to tell. What is no step of an incident would
    /// stand in the way of everybody who reads the log afterwards, so it does not get there.
    fn hear_incident(
        &mut self,
        said: &Said,
        (body, incident, step): (Hash, &Name, IncidentStep),
        mut changes: Changes,
        now: Timestamp,
    ) -> Result<String, NodeError> {
        self.demand_in_force(said)?;
        let document =
            said.body.as_ref().ok_or_else(|| peer("the record of the incident is missing beside its entry"))?;
        let bytes = canonical_bytes(document).map_err(peer)?;
        if Hash::of(&bytes) != body || document.signature_count() != 1 {
            return Err(peer("the record beside the entry is not the one that the entry names"));
        }
        let record = document.open::<IncidentRecord>(&said.person()?.key).map_err(peer)?;
        if (&record.incident, record.step, &record.study) != (incident, step, &said.agreement.study) {
            return Err(peer("the record beside the entry is of another incident, step or study"));
        }
        let was_opened = self.store.get(INCIDENTS, incident.as_str()).map_err(own)?.is_some();
        if (step == IncidentStep::Open) == was_opened {
            let how = if was_opened { "was opened before" } else { "was never opened" };
            return Err(peer(format!("incident {incident} {how}")));
        }
        changes.batch.put(INCIDENTS, incident.as_str(), json(&step)?);
        changes.bodies.push(bytes);
        self.commit(changes, now)?;
        Ok(String::from("the incident is in this node's log"))
    }

    fn hear_revocation(&mut self, said: &Said, mut changes: Changes, now: Timestamp) -> Result<String, NodeError> {
        self.demand_in_force(said)?;
        self.demand_not_taken_back(&said.agreement, said.entry())?;
        self.put_revocation(&mut changes, &said.agreement, &said.envelope)?;
        changes.outgoing.push((Outgoing::Revocation(said.envelope.clone()), None));
        self.commit(changes, now)?;
        Ok(String::from("it holds here, and the hub is told"))
    }
}

/// A person whose word the agreement counts.
fn demand_role(agreement: &Agreement, person: &PersonEntry) -> Result<(), NodeError> {
    let roles = &agreement.approval.roles;
    if roles.contains(&person.role) {
        return Ok(());
    }
    let names: Vec<String> = roles.iter().map(ToString::to_string).collect();
    Err(peer(format!("{} is {}, and here only {} counts", person.person, person.role, names.join(" or "))))
}
