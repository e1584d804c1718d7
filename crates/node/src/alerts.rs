//! What this node notices and tells people: tasks that are permitted and still unlike what was agreed, logs of others that
//! contradict themselves.
//!
//! The rules are `policy`'s ([`cohortium_policy::watch`]); the numbers are the house's own, from `watch.toml`. Every alarm is an entry
//! in the node's own log, made in the same commit as what it is about, and goes to the hub so that all members know. An
//! alarm of a rule that the house lets freeze stops the study here until a privacy officer looked.
//!
//! Does not: decide on a task otherwise, or look at rows. What is noticed follows from tasks, and from releases, which are
//! public to the study.

use cohortium_messages::{Agreement, Fact, Hash, Measure, Name, ReleaseDocument, Timestamp, Verified, decode_cells};
use cohortium_policy::watch::{Alarm, Rule, Seen};
use cohortium_query::Priced;

use crate::node::{Changes, Node, NodeError, json, own, parse};
use crate::outgoing::Outgoing;
use crate::records::{ALERTS, SEEN, SEEN_REFUSED, STOPS, kept};
use crate::tasks::Case;

/// The longest reason of an alert, characters: an entry has 40,000 bytes.
const MAX_WHY_CHARS: usize = 2_000;

/// What the rules found remarkable about a task, and what they will remember of it.
pub(crate) struct Noticed {
    alarms: Vec<Alarm>,
    past: Vec<Seen>,
    seen: Seen,
}

/// Something that a person should look at, as it will be logged.
pub(crate) struct Alert<'a> {
    /// Whether it stops the study here.
    pub froze: bool,
    /// Whether it goes to the hub.
    pub leaves: bool,
    pub rule: &'a str,
    pub task: Option<Hash>,
    pub why: &'a str,
}

impl Noticed {
    /// Whether the house lets one of the rules stop the study.
    pub(crate) fn freezes(&self) -> bool {
        self.alarms.iter().any(|alarm| alarm.freezes)
    }
}

impl Node {
    /// What the house's rules say about a task, before it is decided on.
    pub(crate) fn look_at(&self, case: &Case, now: Timestamp) -> Result<Noticed, NodeError> {
        let plan = &case.task.plan;
        let priced = cohortium_query::check(plan, &case.agreement, case.agreement.hash());
        let analyses = priced.map(|priced| priced.facts().analyses.clone()).unwrap_or_default();
        let seen = Seen::new(plan, analyses, &case.task.purpose, &case.task.researcher, now, false).map_err(own)?;
        let Some(rules) = &self.rules else { return Ok(Noticed { alarms: Vec::new(), past: Vec::new(), seen }) };
        let past = self.past(&case.agreement.study)?;
        Ok(Noticed { alarms: rules.look(&seen, &past), past, seen })
    }

    /// Earlier tasks of a study, oldest first: as many as are kept.
    fn past(&self, study: &Name) -> Result<Vec<Seen>, NodeError> {
        let mut past = Vec::new();
        for table in [SEEN, SEEN_REFUSED] {
            let limit = kept(table).and_then(|kept| usize::try_from(kept).ok()).unwrap_or(usize::MAX);
            for (_, bytes) in self.store.scan(table, &format!("{study}/"), None, limit).map_err(own)? {
                past.push(parse::<Seen>(&bytes)?);
            }
        }
        past.sort_by_key(|seen| seen.at);
        Ok(past)
    }

    /// Remembers the task for the rules, and raises an alert for each alarm.
    pub(crate) fn note_seen(
        &self,
        changes: &mut Changes,
        case: &mut Case,
        noticed: Noticed,
        refused: bool,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let Noticed { mut alarms, past, mut seen } = noticed;
        seen.refused = refused;
        if refused {
            let again = rules.look(&seen, &past);
            alarms.extend(again.into_iter().filter(|alarm| alarm.rule == Rule::BurstOfRefusals));
        }
        let table = if refused { SEEN_REFUSED } else { SEEN };
        changes.append.push((table, format!("{}/", case.agreement.study), json(&seen)?));
        let task = Some(case.task.hash());
        for alarm in alarms {
            let alert = Alert { froze: alarm.freezes, leaves: true, rule: alarm.rule.name(), task, why: &alarm.why };
            self.raise(changes, &case.agreement, &alert, now)?;
            case.run.alarms.push(format!("{}: {}", alarm.rule.name(), alarm.why));
        }
        Ok(())
    }

    /// What the rules say about an answer.
    pub(crate) fn look_at_release(
        &self,
        changes: &mut Changes,
        agreement: &Verified<Agreement>,
        priced: &Priced,
        release: &ReleaseDocument,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let Some(rules) = &self.rules else { return Ok(()) };
        let counts = shown_counts(priced, release);
        if let Some(alarm) = rules.near_minimum(&counts, priced.facts().minimum_cohort) {
            let (rule, task) = (alarm.rule.name(), Some(release.task));
            let alert = Alert { froze: alarm.freezes, leaves: true, rule, task, why: &alarm.why };
            self.raise(changes, agreement, &alert, now)?;
        }
        Ok(())
    }

    /// Adds an alert to what will be true: in the own log, before people, and where it stops the study, as a stop.
    pub(crate) fn raise(
        &self,
        changes: &mut Changes,
        agreement: &Verified<Agreement>,
        alert: &Alert<'_>,
        now: Timestamp,
    ) -> Result<(), NodeError> {
        let Alert { froze, leaves, rule, task, why } = *alert;
        let why = why.chars().filter(|c| !c.is_control()).take(MAX_WHY_CHARS).collect();
        let fact = Fact::Alert { froze, rule: rule.to_owned(), task, why };
        let entry = self.entry(agreement.hash(), &agreement.study, fact, now)?;
        changes.decisions.push(entry.clone());
        changes.append.push((ALERTS, String::new(), json(&entry)?));
        if froze {
            changes.append.push((STOPS, format!("{}/", agreement.study), json(&entry)?));
        }
        if leaves {
            changes.outgoing.push((Outgoing::Alert(entry), task));
        }
        Ok(())
    }
}

/// The noised counts of the groups that are shown, in persons' rows: the smallest counting measure of each.
fn shown_counts(priced: &Priced, release: &ReleaseDocument) -> Vec<i64> {
    let cells = decode_cells(&release.cells).unwrap_or_default();
    let groups = (0u32..).zip(cells.chunks(priced.layout().measures.max(1)));
    let shown = groups.filter(|(position, _)| release.suppressed.binary_search(position).is_err());
    let lattice = i64::try_from(priced.lattice()).unwrap_or(i64::MAX).max(1);
    let smallest = |cells: &[i64]| {
        let measures = priced.plan().measures.iter().zip(cells);
        let counting = measures.filter(|(measure, _)| matches!(measure, Measure::Present { .. } | Measure::Rows));
        counting.map(|(_, cell)| cell.div_euclid(lattice)).min()
    };
    shown.filter_map(|(_, cells)| smallest(cells)).collect()
}
