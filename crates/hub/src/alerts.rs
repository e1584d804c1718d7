//! What the hub notices across the tasks of a study, by the rules of `policy::watch`.
//!
//! Every node looks for itself at what it is asked; the hub sees all that was asked, also what it refused itself. What it
//! notices stands in the log right after the task, and is shown to the members. It freezes nothing: it holds nothing that
//! could be frozen, and a member that wants to stop does so at its own node.
//!
//! Of each task a small record is kept for this. Refused tasks are kept apart, by researcher: they cost nothing, and must
//! not push what was answered out of sight.
//!
//! Does not: look at answers (`near-minimum` is the nodes' rule), or at more than the newest [`MAX_PAST`] tasks that were
//! not refused.

use cohortium_messages::{Agreement, Fact, Task, TaskState, Timestamp, Verified};
use cohortium_policy::watch::Seen;
use cohortium_store::{Batch, sequence_key};

use crate::entries::will_tell;
use crate::hub::{Changes, Hub, HubError, No, json, own, parse};
use crate::records::{SEEN, TaskRecord};

/// How many earlier tasks of a study are looked at.
const MAX_PAST: usize = 500;

impl Hub {
    /// Adds to the changes by which a task is logged what is remarkable about it, and to its record what the rules will
    /// see of it later.
    pub(crate) fn look_at(
        &self,
        changes: &mut Changes,
        agreement: &Verified<Agreement>,
        task: &Verified<Task>,
        record: &mut TaskRecord,
        now: Timestamp,
    ) -> Result<(), No> {
        let Some(rules) = &self.config.watch else { return Ok(()) };
        let refused = record.state == TaskState::Refused;
        let new =
            Seen::new(&task.plan, record.analyses.clone(), &task.purpose, &task.researcher, task.asked_at, refused);
        let new = new.map_err(own)?;
        // A burst of refusals is noticed at its number, for which no more than that number are needed.
        let burst = usize::try_from(rules.burst_refusals).unwrap_or(MAX_PAST).min(MAX_PAST);
        let mut past = self.past(&asked(record), MAX_PAST)?;
        past.extend(self.past(&refusals(record, &new), burst)?);
        past.sort_by(|(one, _), (other, _)| other.cmp(one)); // the newest come first, and the rules want the oldest
        let past: Vec<Seen> = past.into_iter().map(|(_, seen)| seen).collect();
        for alarm in rules.look(&new, &past) {
            let (rule, task) = (alarm.rule.name().to_owned(), Some(task.hash()));
            let entry = self.hub_entry(agreement, Fact::Alert { froze: false, rule, task, why: alarm.why }, now)?;
            let index = self.log.size() + changes.entries.len() as u64;
            will_tell(&mut changes.batch, agreement.hash(), index);
            changes.entries.push(entry);
        }
        record.seen = Some(new);
        Ok(())
    }

    /// The newest tasks in a place, each with the end of its key.
    fn past(&self, place: &str, count: usize) -> Result<Vec<(String, Seen)>, No> {
        let records = self.store.scan(SEEN, place, None, count).map_err(own)?;
        records.iter().map(|(key, seen)| Ok((key.trim_start_matches(place).to_owned(), parse(seen)?))).collect()
    }
}

/// Keeps what the rules will see of a task, where it belongs now.
pub(crate) fn keep_seen(batch: &mut Batch, record: &TaskRecord) -> Result<(), HubError> {
    let Some(seen) = &record.seen else { return Ok(()) };
    let place = sequence_key(u64::MAX - record.position);
    match record.state {
        TaskState::Refused => {
            let mut seen = seen.clone();
            seen.refused = true;
            batch.delete(SEEN, &format!("{}{place}", asked(record)));
            batch.put(SEEN, &format!("{}{place}", refusals(record, &seen)), json(&seen)?);
        }
        // It stands there from the beginning.
        _ if record.step > 1 => {}
        _ => drop(batch.put(SEEN, &format!("{}{place}", asked(record)), json(seen)?)),
    }
    Ok(())
}

fn asked(record: &TaskRecord) -> String {
    format!("{}/asked/", record.study)
}

fn refusals(record: &TaskRecord, seen: &Seen) -> String {
    format!("{}/refused/{}/", record.study, seen.researcher)
}
