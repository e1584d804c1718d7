//! What the hub notices across the tasks of a study, by the rules of `policy::watch`.
//!
//! Every node looks for itself at what it is asked; the hub sees all that was asked, also what it refused itself. What it
//! notices stands in the log right after the task, and is shown to the members. It freezes nothing: it holds nothing that
//! could be frozen, and a member that wants to stop does so at its own node.
//!
//! Does not: look at answers (`near-minimum` is the nodes' rule), or at more than the newest [`MAX_PAST`] tasks.

use cohortium_messages::{Agreement, Fact, Task, TaskState, Timestamp, Verified};
use cohortium_policy::watch::Seen;
use cohortium_store::sequence_key;

use crate::hub::{Changes, Hub, No, json, own, parse};
use crate::records::{ASKED, TaskRecord, UNTOLD};
use crate::tasks::asked_in;

/// How many earlier tasks of a study are looked at.
const MAX_PAST: usize = 500;

impl Hub {
    /// Adds to the changes by which a task is logged what is remarkable about it.
    pub(crate) fn look_at(
        &self,
        changes: &mut Changes,
        agreement: &Verified<Agreement>,
        task: &Verified<Task>,
        record: &TaskRecord,
        now: Timestamp,
    ) -> Result<(), No> {
        let Some(rules) = &self.config.watch else { return Ok(()) };
        let mut past = Vec::new();
        for (_, hash) in self.store.scan(ASKED, &asked_in(&agreement.study), None, MAX_PAST).map_err(own)? {
            let record = self.task(parse(&hash)?)?;
            past.push(seen(record.task.peek::<Task>().map_err(own)?.claims(), &record)?);
        }
        past.reverse(); // the newest come first, and the rules want the oldest
        for alarm in rules.look(&seen(task, record)?, &past) {
            let (rule, task) = (alarm.rule.name().to_owned(), Some(task.hash()));
            let entry = self.hub_entry(agreement, Fact::Alert { froze: false, rule, task, why: alarm.why }, now)?;
            let index = self.log.size() + changes.entries.len() as u64;
            changes.batch.put(UNTOLD, &sequence_key(index), json(&agreement.hash())?);
            changes.entries.push(entry);
        }
        Ok(())
    }
}

/// A task as the rules see it.
fn seen(task: &Task, record: &TaskRecord) -> Result<Seen, No> {
    let refused = record.state == TaskState::Refused;
    Seen::new(&task.plan, record.analyses.clone(), &task.purpose, &task.researcher, task.asked_at, refused).map_err(own)
}
