//! What this node laid before the hub, until it is shown to be in the hub's log.
//!
//! A hub that takes an entry and does not log it keeps a freeze, a revocation or a refusal from the other members, and its
//! own log looks in order. Only the author can notice: the hub shows every such entry to all members of the study with the
//! proof, its author among them. What was laid before it and does not come back is told to people here, and the study stops
//! here until a privacy officer looked.
//!
//! An honest hub can be slow: nothing is proven while too few members cosign, and this node may be away. So the wait counts
//! only while this node runs and the hub answers it, and ends only when the hub has proven something else of the same
//! agreement so much later.
//!
//! Does not: cover permits, prices and refusals of tasks (the audit does), or entries under an agreement that was amended
//! meanwhile, under which nothing is proven any more.

use std::collections::BTreeMap;

use cohortium_messages::{Call, Entry, Envelope, Fact, Hash, Name, Refused, Timestamp};
use cohortium_store::{Batch, sequence_key};

use crate::alerts::Alert;
use crate::node::{Changes, Node, NodeError, entry_hash, json, own, parse};
use crate::outgoing::Outgoing;
use crate::records::{JOURNAL, JournalRecord, LAID, LaidRecord, META, RunState, WORDS};

/// The rule by which it is told.
const RULE: &str = "withheld";
/// How long an entry may be missing while others are shown, seconds: far longer than an honest hub needs for the next head.
const PATIENCE_S: u64 = 86_400;
/// How much longer, seconds: what proves that it is late may stand before it in the same answer of the hub.
const GRACE_S: u64 = 3_600;
/// How often it is looked at, and how much time one look counts at most, seconds.
const LOOK_S: u64 = 60;
const MAX_STEP_S: u64 = 600;
/// For how many seconds this node has waited for something while the hub answered.
const WAITED: &str = "withheld/waited";
/// When that was counted last, seconds since 1970.
const LOOKED: &str = "withheld/looked";

impl Node {
    /// Adds to a commit what is waited for from now on: what people, the custodian, and rules that stop a study have said.
    pub(crate) fn wait_for(
        &self,
        batch: &mut Batch,
        item: &Outgoing,
        task: Option<Hash>,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let (Outgoing::Alert(entry)
        | Outgoing::Approval(entry)
        | Outgoing::Freeze(entry)
        | Outgoing::Revocation(entry)) = item
        else {
            return Ok(());
        };
        let claims = entry.peek::<Entry>().map_err(own)?;
        let claims = claims.claims();
        match &claims.fact {
            Fact::Alert { froze: false, .. } => return Ok(()), // a hub logs so many of them a day and no more
            Fact::Alert { rule, .. } if rule == RULE => return Ok(()),
            _ => {}
        }
        let record = LaidRecord {
            agreement: claims.agreement,
            at: now,
            laid_s: self.number(WAITED)?,
            late_s: None,
            refused: None,
            study: claims.study.clone(),
            task,
            what: format!("{} by {}", claims.fact.kind(), claims.author),
        };
        batch.put(LAID, &entry_hash(entry)?.to_string(), json(&record)?);
        Ok(())
    }

    /// The hub has proven something under an agreement. If it is what this node waits for, it waits no more.
    pub(crate) fn note_proven(&self, batch: &mut Batch, agreement: Hash, entry: &Envelope) -> Result<(), NodeError> {
        batch.put(META, &proven_key(agreement), self.number(WAITED)?.to_string().into_bytes());
        batch.delete(LAID, &entry_hash(entry)?.to_string());
        Ok(())
    }

    /// The hub refused for good what has this number in the journal. What a person said about a task counts for that task
    /// alone then: nobody else can know it. Anything else stays to be told, with the hub's reason.
    pub(crate) fn note_refused(&self, batch: &mut Batch, number: u64, refused: &Refused) -> Result<(), NodeError> {
        let Some(JournalRecord { call: Call::Log { entry, .. }, .. }) = self.record(JOURNAL, &sequence_key(number))?
        else {
            return Ok(());
        };
        let key = entry_hash(&entry)?.to_string();
        let claims = entry.peek::<Entry>().map_err(own)?;
        if let Fact::Approval { plan, .. } = claims.claims().fact {
            batch.delete(LAID, &key);
            batch.delete(WORDS, &format!("{}/{plan}/{key}", claims.claims().agreement));
        } else if let Some(record) = self.record::<LaidRecord>(LAID, &key)? {
            let why = refused.why.chars().filter(|c| !c.is_control()).take(200).collect();
            batch.put(LAID, &key, json(&LaidRecord { refused: Some(why), ..record })?);
        }
        Ok(())
    }

    /// Looks for entries that the hub took and does not show. To be called when the hub has answered and all that it showed
    /// was handled.
    ///
    /// # Errors
    /// When the store fails.
    pub fn look_for_withheld(&mut self, now: Timestamp) -> Result<(), NodeError> {
        let laid = self.store.scan(LAID, "", None, usize::MAX).map_err(own)?;
        let looked = self.number(LOOKED)?;
        let seconds = u64::try_from(now.seconds()).map_err(own)?;
        let step = seconds.saturating_sub(looked);
        if laid.is_empty() || step < LOOK_S {
            return Ok(());
        }
        let waited = self.number(WAITED)?.saturating_add(step.min(MAX_STEP_S));
        let mut changes = Changes::default();
        changes.batch.put(META, WAITED, waited.to_string().into_bytes());
        changes.batch.put(META, LOOKED, seconds.to_string().into_bytes());
        let mut missing: BTreeMap<Name, Vec<LaidRecord>> = BTreeMap::new();
        for (key, bytes) in laid {
            let record: LaidRecord = parse(&bytes)?;
            match record.late_s {
                _ if self.is_over(&record)? => drop(changes.batch.delete(LAID, &key)),
                None if self.number(&proven_key(record.agreement))? >= record.laid_s.saturating_add(PATIENCE_S) => {
                    changes.batch.put(LAID, &key, json(&LaidRecord { late_s: Some(waited), ..record })?);
                }
                Some(late) if waited >= late.saturating_add(GRACE_S) => {
                    changes.batch.delete(LAID, &key);
                    missing.entry(record.study.clone()).or_default().push(record);
                }
                _ => {}
            }
        }
        for (study, records) in missing {
            self.tell_missing(&mut changes, &study, &records, now)?;
        }
        self.commit(changes, now)
    }

    /// Whether nothing is to be expected any more: a word about a task that is over is not logged.
    fn is_over(&self, record: &LaidRecord) -> Result<bool, NodeError> {
        let Some(task) = record.task.filter(|_| record.what.starts_with("approval")) else { return Ok(false) };
        let run = self.run(task)?;
        Ok(run.is_none_or(|run| {
            matches!(run.state, RunState::LeftOut | RunState::Refused | RunState::Released | RunState::Void)
        }))
    }

    /// Tells people here, and stops the study here.
    fn tell_missing(
        &self,
        changes: &mut Changes,
        study: &Name,
        records: &[LaidRecord],
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let (Some(agreement), Some(first)) = (self.agreement(study)?, records.first()) else { return Ok(()) };
        let refused = first.refused.as_ref().map_or_else(String::new, |why| format!(" (it refused it: {why})"));
        let others = match records.len() {
            1 => String::new(),
            count => format!(" and {} more", count - 1),
        };
        let why = format!(
            "the hub does not show in its log what this node laid before it on {}: {}{refused}{others}. Other members may not \
             know of it",
            first.at, first.what
        );
        self.raise(changes, &agreement, &Alert { froze: true, leaves: true, rule: RULE, task: None, why: &why }, now)
    }
}

/// Where it is kept when something was last proven under an agreement, by the time that was waited.
fn proven_key(agreement: Hash) -> String {
    format!("withheld/proven/{agreement}")
}
