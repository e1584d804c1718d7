//! A task at the hub: submitted, checked as a kindness, logged, shown to the nodes; and how it ends.
//!
//! The hub's checks spare everyone the trip; they protect nobody. Every node repeats them on its own.

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, Fact, Hash, InboxItem, MAX_LISTED_SQL_CHARS, MAX_TASKS_LISTED, Name, Phase,
    Principal, PrincipalKind, Purpose, Receipt, Refused, ReleaseDocument, Reply, Task, TaskState, TaskStatus,
    TaskSummary, Timestamp, Verified, canonical_bytes,
};
use cohortium_policy::{Clause, Revoked};
use cohortium_query::Priced;
use cohortium_store::{Batch, sequence_key};

use crate::alerts::keep_seen;
use crate::hub::{Changes, Hub, HubError, MAX_CLOCK_SKEW_S, No, inbox_key, json, no, open, own, parse, refusal};
use crate::records::{ASKED, COSIGNED, Cosigned, INBOX, OPEN_TASKS, RELEASED, RELEASES, TASKS, TaskRecord};

impl Hub {
    /// Takes a task: logs that it was asked, and either refuses it at once or shows it to the nodes.
    pub(crate) fn submit(
        &mut self,
        from: &Principal,
        envelope: &Envelope,
        entry: &Envelope,
        now: Timestamp,
    ) -> Result<Reply, No> {
        if from.kind != PrincipalKind::Researcher {
            return no("denied", String::from("only a researcher may ask"));
        }
        let claims = envelope.peek::<Task>().map_err(|error| refusal("malformed", error.to_string()))?;
        if let Some(record) = self.record::<TaskRecord>(TASKS, &claims.hash().to_string())? {
            return Ok(Reply::Status(self.status_of(claims.hash(), &record, now)?));
        }
        let agreement = self.agreement(&claims.claims().study)?;
        let Some(researcher) = agreement.researcher(&from.name) else {
            return no("denied", format!("{} is not a researcher of study {}", from.name, agreement.study));
        };
        self.demand_part(from, &agreement)?;
        let task = open::<Task>(envelope, &researcher.key)?;
        let logged = open::<Entry>(entry, &researcher.key)?;
        check_task_entry(&logged, &task, envelope, &agreement)?;
        if (task.asked_at.seconds() - now.seconds()).abs() > MAX_CLOCK_SKEW_S {
            return no(
                "clock",
                format!("the task says it was asked at {}, this hub's clock says {now}", task.asked_at),
            );
        }

        let is_hers = |record: &TaskRecord| record.study == task.study && is_asked_by(record, &task.researcher);
        let waiting = self.open_tasks()?.iter().filter(|(_, record)| is_hers(record)).count();
        if waiting >= MAX_OPEN_TASKS {
            return no(
                "limit",
                format!("{waiting} tasks of {} are under way in this study; wait for their answers", task.researcher),
            );
        }
        let mut record = self.new_record(&agreement, envelope, entry, now);
        let mut changes = Changes { entries: vec![entry.clone()], ..Changes::default() };
        self.count(&mut changes.batch, &format!("tasks of researcher {}", from.name), MAX_TASKS_A_DAY, now)?;
        changes.bodies.push(canonical_bytes(envelope).map_err(own)?);
        // The release is decided on as of the time that the task states, so it must be permitted then as well as now.
        let revoked = self.revoked(&agreement)?;
        let judged = judge(&agreement, &task, task.asked_at, &revoked);
        let judged = judged.and_then(|_| judge(&agreement, &task, now, &revoked));
        if let Ok(priced) = &judged {
            let context = priced.round_context(&agreement, task.hash(), record.position);
            record.context = Some(context.hash().map_err(own)?);
            record.analyses = priced.facts().analyses.clone();
        }
        let refusal = judged.err();
        if let Some(refusal) = &refusal {
            end(&mut record, TaskState::Refused, &refusal.why, refusal.clauses.clone());
            let fact = Fact::Refusal { clauses: refusal.clauses.clone(), task: task.hash(), why: refusal.why.clone() };
            changes.entries.push(self.hub_entry(&agreement, fact, now)?);
        }
        self.look_at(&mut changes, &agreement, &task, &mut record, now)?;
        put_task(&mut changes.batch, task.hash(), &record)?;
        for key in asked_keys(&record, &task) {
            changes.batch.put(ASKED, &key, json(&task.hash())?);
        }
        self.commit(changes)?;
        match refusal {
            Some(refusal) => Err(No::Refused(refusal)),
            None => Ok(Reply::Status(self.status_of(task.hash(), &record, now)?)),
        }
    }

    fn new_record(
        &self,
        agreement: &Verified<Agreement>,
        task: &Envelope,
        entry: &Envelope,
        now: Timestamp,
    ) -> TaskRecord {
        TaskRecord {
            agreement: agreement.hash(),
            analyses: Default::default(),
            announced: Default::default(),
            arrived: Default::default(),
            asking: Default::default(),
            clauses: Vec::new(),
            context: None,
            deadline: self.deadline(now),
            entry: entry.clone(),
            inclusion: None,
            participants: agreement.participants(),
            permitted: Default::default(),
            phase: Phase::Witnesses,
            position: self.log.size(),
            released_at: None,
            revealed: Default::default(),
            seen: None,
            shares_at: Default::default(),
            signed: Default::default(),
            state: TaskState::Proposed,
            step: 1,
            study: agreement.study.clone(),
            survivors: Vec::new(),
            task: task.clone(),
            why: String::from("waiting for the members to cosign the log"),
        }
    }

    pub(crate) fn status(&self, from: &Principal, task: Hash, now: Timestamp) -> Result<Reply, No> {
        let record = self.task(task)?;
        self.demand_part(from, &self.agreement_by_hash(record.agreement)?)?;
        Ok(Reply::Status(self.status_of(task, &record, now)?))
    }

    /// Only who has a part in a study, with a key that nobody took back, may look at what happens in it.
    fn demand_part(&self, from: &Principal, agreement: &Verified<Agreement>) -> Result<(), No> {
        if !has_part(from, agreement) {
            return no("denied", format!("{} has no part in study {}", from.name, agreement.study));
        }
        match agreement.researcher(&from.name).filter(|_| from.kind == PrincipalKind::Researcher) {
            Some(entry) if self.revoked(agreement)?.key(&entry.key) => {
                let study = &agreement.study;
                let why = format!("a custodian of study {study} has taken back the key of {}", from.name);
                let clauses = vec![format!("{study}/{}", Clause::NotRevoked.name())];
                Err(No::Refused(Refused { clauses, code: String::from("denied"), why }))
            }
            _ => Ok(()),
        }
    }

    /// What the researcher and the members may know of a task.
    fn status_of(&self, task: Hash, record: &TaskRecord, now: Timestamp) -> Result<TaskStatus, No> {
        let cosigned = self.cosigned_by(&record.participants)?;
        let deadline = (record.phase != Phase::Ended).then_some(record.deadline);
        let release: Option<(Envelope, Envelope)> = match record.released_at {
            Some(_) => self.record(RELEASES, &task.to_string())?,
            None => None,
        };
        let (release, release_entry) = release.unzip();
        let left = |deadline: Timestamp| deadline.seconds().saturating_sub(now.seconds()).max(0);
        Ok(TaskStatus {
            awaited: record.awaited(&cosigned),
            clauses: record.clauses.clone(),
            deadline,
            inclusion: record.inclusion.clone(),
            members: record.progress(&cosigned),
            phase: record.phase,
            question: record.task.clone(),
            release,
            release_entry,
            remaining_s: deadline.map(|deadline| u32::try_from(left(deadline)).unwrap_or(u32::MAX)),
            state: record.state,
            step: record.step,
            survivors: record.survivors.clone(),
            task,
            threshold: self.agreement_by_hash(record.agreement)?.secure_sum.threshold,
            why: record.why.clone(),
        })
    }

    /// The newest tasks, the newest first: a researcher's own, or those of an organisation's studies.
    pub(crate) fn tasks_of(&self, from: &Principal, last: u32) -> Result<Reply, No> {
        let last = last.min(MAX_TASKS_LISTED) as usize;
        let mut places = Vec::new();
        match from.kind {
            PrincipalKind::Researcher => places.push(asked_by(&from.name)),
            PrincipalKind::Organisation => {
                places = self.in_force(|agreement| has_part(from, agreement).then(|| asked_in(&agreement.study)))?;
            }
        }
        let mut found = Vec::new();
        for place in places {
            for (key, task) in self.store.scan(ASKED, &place, None, last).map_err(own)? {
                found.push((key.strip_prefix(&place).unwrap_or_default().to_owned(), parse::<Hash>(&task)?));
            }
        }
        found.sort();
        found.truncate(last);
        let mut tasks = Vec::new();
        for (_, task) in found {
            let record = self.task(task)?;
            // Who has come with an amendment has no part in what was asked before it, and who lost the key in none.
            if self.demand_part(from, &self.agreement_by_hash(record.agreement)?).is_ok() {
                tasks.push(summary(task, record)?);
            }
        }
        Ok(Reply::Tasks(tasks))
    }

    /// Up to where each of these members has cosigned the log.
    fn cosigned_by(&self, members: &[Name]) -> Result<Cosigned, No> {
        let mut cosigned = Cosigned::new();
        for member in members {
            if let Some(size) = self.record::<u64>(COSIGNED, member.as_str())? {
                cosigned.insert(member.clone(), size);
            }
        }
        Ok(cosigned)
    }

    /// The release of the same plan on the same data, if there is one: it costs nothing to read it again.
    pub(crate) fn released(
        &self,
        from: &Principal,
        plan: Hash,
        purpose: &Purpose,
        study: &Name,
        now: Timestamp,
    ) -> Result<Reply, No> {
        let agreement = self.agreement(study)?;
        self.demand_part(from, &agreement)?;
        let is_permitted = agreement.purposes.iter().any(|granted| granted.permits(purpose));
        if !is_permitted || !agreement.is_in_force(now) || self.revoked(&agreement)?.agreement() {
            return Ok(Reply::Released(None)); // asking anew will say which clause fails
        }
        let Some(task) = self.record::<Hash>(RELEASED, &format!("{study}/{plan}"))? else {
            return Ok(Reply::Released(None));
        };
        let status = self.status_of(task, &self.task(task)?, now)?;
        let Some(release) = &status.release else { return Ok(Reply::Released(None)) };
        let document = release.peek::<ReleaseDocument>().map_err(own)?;
        for receipt in &document.claims().receipts {
            let receipt = receipt.peek::<Receipt>().map_err(own)?;
            let receipt = receipt.claims();
            if self.offered_snapshot(&receipt.dataset, &receipt.organisation)? != Some(receipt.snapshot) {
                return Ok(Reply::Released(None));
            }
        }
        Ok(Reply::Released(Some(status)))
    }

    /// Ends the wait of every task whose present phase has taken too long: without those who did not come, where enough
    /// did, or else for good. A task in which something does not fit ends, and the others go on.
    pub(crate) fn expire_tasks(&mut self, now: Timestamp) -> Result<(), No> {
        for (task, record) in self.open_tasks()? {
            if record.phase == Phase::Ended || record.deadline > now {
                continue;
            }
            match self.expire(task, record.clone(), now) {
                Err(No::Refused(refused)) => self.give_up(task, record, &refused.why, now)?,
                done => done?,
            }
        }
        Ok(())
    }

    /// Ends every task that may not go on: its agreement was amended before all had permitted it, or the agreement or its
    /// researcher's key was taken back. Nothing is released once that is in the log; who has read by then has paid.
    pub(crate) fn end_overtaken(&mut self, now: Timestamp) -> Result<(), No> {
        for (task, record) in self.open_tasks()? {
            if let Some(why) = self.overtaken_by(&record)? {
                match self.void(task, &mut record.clone(), TaskState::Failed, &why, now) {
                    Err(No::Refused(refused)) => self.give_up(task, record, &refused.why, now)?,
                    done => done?,
                }
            }
        }
        Ok(())
    }

    /// Why a task may not go on, if it may not.
    pub(crate) fn overtaken_by(&self, record: &TaskRecord) -> Result<Option<String>, No> {
        if record.phase == Phase::Ended {
            return Ok(None);
        }
        let agreement = self.agreement_by_hash(record.agreement)?;
        let revoked = self.revoked(&agreement)?;
        let asked = record.task.peek::<Task>().map_err(own)?;
        let researcher = &asked.claims().researcher;
        if revoked.agreement() {
            return Ok(Some(format!("taken back: a custodian has revoked the agreement of study {}", record.study)));
        }
        if agreement.researcher(researcher).is_some_and(|entry| revoked.key(&entry.key)) {
            return Ok(Some(format!("taken back: a custodian has revoked the key of {researcher}")));
        }
        let in_force = self.agreement(&record.study)?;
        let is_before_permits = matches!(record.phase, Phase::Witnesses | Phase::Permits);
        if in_force.hash() == record.agreement || !is_before_permits {
            return Ok(None);
        }
        let (revision, short) = (in_force.revision, in_force.hash().short());
        Ok(Some(format!("amended: study {} is now under revision {revision}, {short}; ask again", record.study)))
    }

    fn expire(&mut self, task: Hash, mut record: TaskRecord, now: Timestamp) -> Result<(), No> {
        if self.go_on_without(task, now)? {
            return Ok(());
        }
        let awaited = record.awaited(&self.cosigned_by(&record.participants)?);
        let awaited: Vec<String> = awaited.iter().map(ToString::to_string).collect();
        let why = format!("no answer in time from {} ({})", awaited.join(", "), record.why);
        self.void(task, &mut record, TaskState::Expired, &why, now)
    }

    /// Ends a task whose messages do not fit together: as any other that fails, or if not even that can be logged, then
    /// without a word in the log. The auditor sees the task stay open.
    fn give_up(&mut self, task: Hash, mut record: TaskRecord, why: &str, now: Timestamp) -> Result<(), No> {
        let why = format!("the round cannot go on: {why}");
        match self.void(task, &mut record.clone(), TaskState::Failed, &why, now) {
            Err(No::Refused(_)) => {}
            done => return done,
        }
        let mut changes = Changes::default();
        for node in &record.participants {
            changes.inbox.push((node.clone(), InboxItem::Void { reason: why.clone(), task }));
        }
        self.drop_vectors(&mut changes, task, &record)?;
        self.drop_messages(&mut changes, task, &record);
        end(&mut record, TaskState::Failed, &why, Vec::new());
        put_task(&mut changes.batch, task, &record)?;
        self.commit(changes)
    }

    /// Gives every open task at least the whole time of its phase from now on.
    pub(crate) fn renew_deadlines(&mut self, now: Timestamp) -> Result<(), No> {
        let deadline = self.deadline(now);
        let mut changes = Changes::default();
        for (task, mut record) in self.open_tasks()? {
            if record.phase != Phase::Ended && record.deadline < deadline {
                record.deadline = deadline;
                put_task(&mut changes.batch, task, &record)?;
            }
        }
        if changes.batch.is_empty() { Ok(()) } else { self.commit(changes) }
    }

    /// Ends a task without an answer: logs why, tells every member that the round is void.
    pub(crate) fn void(
        &mut self,
        task: Hash,
        record: &mut TaskRecord,
        state: TaskState,
        why: &str,
        now: Timestamp,
    ) -> Result<(), No> {
        let mut changes = Changes::default();
        if matches!(record.phase, Phase::Vectors | Phase::Signatures | Phase::Reveals) {
            // Who announced a vector has paid: what it paid belongs in the log, whatever became of the round.
            changes.entries.extend(self.prices(task)?);
        }
        let agreement = self.agreement_by_hash(record.agreement)?;
        let why: &str = &why.chars().take(MAX_REASON_CHARS).collect::<String>();
        let fact = Fact::Failure { reason: why.to_owned(), task };
        changes.entries.push(self.hub_entry(&agreement, fact, now)?);
        if record.phase == Phase::Permits {
            // Nothing rests on these permits any more; who gave them has reserved the price.
            changes.entries.extend(self.permits(task)?.into_iter().map(|(_, permit)| permit));
        }
        // Who was never shown the task need not hear of its end: a member that is gone would find one item for each.
        let told = if record.phase == Phase::Witnesses { &[] } else { record.participants.as_slice() };
        for node in told {
            changes.inbox.push((node.clone(), InboxItem::Void { reason: why.to_owned(), task }));
        }
        self.take_back_shares(&mut changes, task, record, why)?;
        self.drop_vectors(&mut changes, task, record)?;
        self.drop_messages(&mut changes, task, record);
        end(record, state, why, Vec::new());
        put_task(&mut changes.batch, task, record)?;
        self.commit(changes)
    }

    /// Puts "void" in the place of shares that a member has not fetched, once it can no longer be in the sum: it would
    /// read and pay for nothing. Whoever has handled the item of this number skips it.
    pub(crate) fn take_back_shares(
        &self,
        changes: &mut Changes,
        task: Hash,
        record: &TaskRecord,
        why: &str,
    ) -> Result<(), No> {
        for (node, number) in record.shares_at.iter().filter(|(node, _)| !record.announced.contains_key(*node)) {
            let key = inbox_key(node, *number);
            let stored: Option<InboxItem> = self.record(INBOX, &key)?;
            if matches!(stored, Some(InboxItem::Shares { task: t, .. }) if t == task) {
                changes.batch.put(INBOX, &key, json(&InboxItem::Void { reason: why.to_owned(), task })?);
            }
        }
        Ok(())
    }

    /// Every task that still waits for something.
    pub(crate) fn open_tasks(&self) -> Result<Vec<(Hash, TaskRecord)>, No> {
        let keys = self.store.scan(OPEN_TASKS, "", None, usize::MAX).map_err(own)?;
        keys.into_iter()
            .map(|(key, _)| {
                let task: Hash = key.parse().map_err(own)?;
                Ok((task, self.task(task)?))
            })
            .collect()
    }

    pub(crate) fn task(&self, task: Hash) -> Result<TaskRecord, No> {
        let record = self.store.get(TASKS, &task.to_string()).map_err(own)?;
        parse(&record.ok_or_else(|| refusal("unknown", format!("there is no task {} here", task.short())))?)
    }

    pub(crate) fn deadline(&self, now: Timestamp) -> Timestamp {
        now.plus_seconds(i64::from(self.config.phase_timeout_s))
    }

    /// An entry in the hub's own name.
    pub(crate) fn hub_entry(
        &self,
        agreement: &Verified<Agreement>,
        fact: Fact,
        now: Timestamp,
    ) -> Result<Envelope, No> {
        let author = Author::Hub(self.config.name.clone());
        let entry = Entry { agreement: agreement.hash(), author, fact, study: agreement.study.clone(), time: now };
        Envelope::sign(&entry, &self.config.message_key).map_err(own)
    }
}

fn summary(task: Hash, record: TaskRecord) -> Result<TaskSummary, No> {
    let asked = record.task.peek::<Task>().map_err(own)?;
    let asked = asked.claims();
    Ok(TaskSummary {
        asked_at: asked.asked_at,
        dataset: asked.plan.dataset.clone(),
        phase: record.phase,
        researcher: asked.researcher.clone(),
        sql: asked.sql.chars().take(MAX_LISTED_SQL_CHARS).collect(),
        state: record.state,
        study: record.study,
        task,
        why: record.why.chars().take(MAX_LISTED_SQL_CHARS).collect(),
    })
}

/// Whether someone is a party or a researcher of a study.
pub(crate) fn has_part(from: &Principal, agreement: &Agreement) -> bool {
    match from.kind {
        PrincipalKind::Organisation => agreement.party(&from.name).is_some(),
        PrincipalKind::Researcher => agreement.researcher(&from.name).is_some(),
    }
}

/// Puts a task's record into a batch, and keeps the list of those that still wait for something.
pub(crate) fn put_task(batch: &mut Batch, task: Hash, record: &TaskRecord) -> Result<(), HubError> {
    batch.put(TASKS, &task.to_string(), json(record)?);
    keep_seen(batch, record)?;
    if record.is_open() {
        batch.put(OPEN_TASKS, &task.to_string(), Vec::new());
    } else {
        batch.delete(OPEN_TASKS, &task.to_string());
    }
    Ok(())
}

/// Where a researcher's tasks are listed.
fn asked_by(researcher: &Name) -> String {
    format!("researcher/{researcher}/")
}

/// Where a study's tasks are listed.
pub(crate) fn asked_in(study: &Name) -> String {
    format!("study/{study}/")
}

/// Where a task is listed. The order of the keys is the order of the log backwards, so that the newest come first.
fn asked_keys(record: &TaskRecord, task: &Task) -> [String; 2] {
    let place = sequence_key(u64::MAX - record.position);
    [asked_by(&task.researcher) + &place, asked_in(&task.study) + &place]
}

/// How much of a reason is logged: an entry has 40,000 bytes, a character at most 6 of them.
const MAX_REASON_CHARS: usize = 4000;
/// How many tasks one researcher may ask in a day: a refused one costs nobody anything, and stays in the log all the same.
const MAX_TASKS_A_DAY: u32 = 1000;
/// How many tasks of one researcher may be under way in one study at a time.
const MAX_OPEN_TASKS: usize = 16;

fn is_asked_by(record: &TaskRecord, researcher: &Name) -> bool {
    record.phase != Phase::Ended && record.task.peek::<Task>().is_ok_and(|task| task.claims().researcher == *researcher)
}

/// Marks a task as ended.
pub(crate) fn end(record: &mut TaskRecord, state: TaskState, why: &str, clauses: Vec<String>) {
    record.state = state;
    record.phase = Phase::Ended;
    record.why = why.to_owned();
    record.clauses = clauses;
    record.step += 1;
}

/// The same checks that every node makes.
fn judge(
    agreement: &Verified<Agreement>,
    task: &Verified<Task>,
    now: Timestamp,
    revoked: &Revoked,
) -> Result<Priced, Refused> {
    let refused = |clauses: Vec<String>, why: String| Refused { clauses, code: String::from("denied"), why };
    let priced = cohortium_query::check(&task.plan, agreement, agreement.hash())
        .map_err(|error| refused(vec![format!("{}/plan", agreement.study)], error.to_string()))?;
    let policy = cohortium_policy::compile(agreement).map_err(|error| refused(Vec::new(), error.to_string()))?;
    let request = cohortium_policy::Request::new(task, &priced, agreement.hash(), now, revoked);
    match policy.decide(&request) {
        Ok(_) => Ok(priced),
        Err(denial) => Err(refused(denial.clauses, denial.why)),
    }
}

/// The researcher's log entry must name this very task.
fn check_task_entry(
    logged: &Verified<Entry>,
    task: &Verified<Task>,
    envelope: &Envelope,
    agreement: &Verified<Agreement>,
) -> Result<(), No> {
    let body = Hash::of(&canonical_bytes(envelope).map_err(own)?);
    let plan = task.plan.hash().map_err(own)?;
    let names_it = logged.fact == Fact::Task { body, plan, task: task.hash() };
    let author_is_right = logged.author == Author::Researcher(task.researcher.clone());
    if names_it && author_is_right && logged.study == task.study && logged.agreement == agreement.hash() {
        Ok(())
    } else {
        no("malformed", String::from("the log entry does not name this task"))
    }
}
