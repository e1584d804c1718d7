//! What this house remembers that is like a task: the same question asked before and what became of it, a question about
//! almost the same rows, the last of its kind that people here approved.
//!
//! Everything is read from the runs in the house's own store. What other members said is known here only as far as the hub
//! told it when it ended the task, and is said to be so.

use cohortium_messages::{Agreement, Author, Entry, Fact, Hash, Plan, Task, Timestamp};
use cohortium_node::view::View;
use cohortium_node::{RunRecord, RunState};
use cohortium_policy::watch;
use serde::Serialize;

use crate::desk::{Case, agreement_of};
use crate::output::{Failure, plain};
use crate::query::micro;
use cohortium_policy::words;

/// How many tasks of one sort are shown: the newest.
const SHOWN: usize = 3;

/// What is like a task among those that reached this node.
#[derive(Default)]
pub struct Compared {
    /// The last task of this kind that people here approved, and what is different now.
    pub last: Option<(Hash, Timestamp, Vec<String>)>,
    /// Earlier tasks about almost the same rows, the newest first.
    pub near: Vec<Near>,
    /// Other tasks that ask the same question, the newest first.
    pub same: Vec<Other>,
}

/// Another task, and how it stands here.
#[derive(Serialize)]
pub struct Other {
    pub asked_at: Timestamp,
    /// Whether it is the same plan to the last digit.
    pub same_plan: bool,
    /// What else than the question is different in the new task, in words.
    #[serde(skip)]
    change: &'static str,
    /// Whether it was asked before the task that is shown, by the order of the hub's log.
    is_earlier: bool,
    /// Who said no and why, where somebody did.
    pub refused: Vec<Refused>,
    pub state: RunState,
    pub task: Hash,
}

/// A no.
#[derive(Serialize)]
pub struct Refused {
    /// When, where a person here said it.
    pub at: Option<Timestamp>,
    pub by: String,
    pub why: String,
}

/// A task about almost the same rows.
#[derive(Serialize)]
pub struct Near {
    /// How the rows of the new task differ from its rows.
    pub how: &'static str,
    #[serde(flatten)]
    pub other: Other,
}

impl Compared {
    pub fn find(view: &View, case: &Case, here: &cohortium_messages::Name) -> Result<Self, Failure> {
        let mut compared = Self { last: last_approved(view, case)?, ..Self::default() };
        let plan = &case.task.plan;
        for (hash, run) in view.runs()?.into_iter().rev() {
            if hash == case.hash || run.study != case.run.study {
                continue;
            }
            let claims = run.task.peek::<Task>().map_err(Failure::own)?;
            let task = claims.claims();
            let other = || -> Result<Other, Failure> {
                let agreement = agreement_of(view, task.plan.agreement)?;
                let refused = agreement.map_or_else(Vec::new, |agreement| refusals(&run, &agreement, here.as_str()));
                let same_plan = task.plan == *plan;
                let change = change(&task.plan, plan);
                let is_earlier = run.position < case.run.position;
                Ok(Other {
                    asked_at: task.asked_at,
                    same_plan,
                    change,
                    is_earlier,
                    refused,
                    state: run.state,
                    task: hash,
                })
            };
            if is_same_question(&task.plan, plan) {
                compared.same.push(other()?);
            } else if run.position < case.run.position
                && let Some(how) = watch::near(&task.plan, plan)
            {
                compared.near.push(Near { how, other: other()? });
            }
        }
        Ok(compared)
    }

    /// What must be known first: that it was refused before, or waits twice. Lines, none if there is nothing.
    pub fn first_of_all(&self, state: RunState) -> Vec<String> {
        let mut lines = Vec::new();
        for other in self.same.iter().filter(|other| other.is_earlier && !other.refused.is_empty()).take(SHOWN) {
            for no in &other.refused {
                let at = no.at.map_or_else(String::new, |at| format!(" on {at}"));
                let task = other.task.short();
                let (by, why) = (&no.by, plain(&no.why));
                lines.push(format!("REFUSED BEFORE, asked again {}: task {task} by {by}{at}: “{why}”", other.change));
            }
        }
        let waits = self.same.iter().filter(|other| other.state == RunState::Waiting);
        for other in waits.take(SHOWN).filter(|_| state == RunState::Waiting) {
            let what = match other.same_plan {
                true => String::from("The same plan"),
                false => format!("The same question, {},", other.change),
            };
            lines.push(format!(
                "{what} also waits as task {}: each is answered, and paid, by itself.",
                other.task.short()
            ));
        }
        lines
    }

    /// What tells about few people together with this task, as lines.
    pub fn warnings(&self) -> Vec<String> {
        let (ended, live): (Vec<&Near>, Vec<&Near>) =
            self.near.iter().partition(|near| near.other.state == RunState::Refused);
        let mut lines: Vec<String> = live
            .iter()
            .take(SHOWN)
            .map(|near| {
                format!(
                    "WATCH OUT: almost the same question as task {} ({}): {}. Subtracting two such answers can tell something \
                     about few people.",
                    near.other.task.short(),
                    standing(&near.other),
                    near.how
                )
            })
            .collect();
        lines.extend(ended.iter().take(1).map(|near| {
            format!(
                "Almost the same question as task {}, which was refused here: {}. There is nothing to subtract.",
                near.other.task.short(),
                near.how
            )
        }));
        lines
    }
}

/// Where another task stands, in brackets.
fn standing(other: &Other) -> String {
    let at = other.asked_at;
    match other.state {
        RunState::Waiting => format!("asked on {at}, waits for people too"),
        RunState::Released => format!("asked on {at}, answered"),
        RunState::LeftOut => {
            format!("asked on {at}, this node took no further part; whether there is an answer the hub knows")
        }
        RunState::Void => format!("asked on {at}, the hub says that it ended without an answer"),
        _ => format!("asked on {at}, under way"),
    }
}

/// What else than the question is different in a new plan.
fn change(old: &Plan, new: &Plan) -> &'static str {
    match (old.agreement == new.agreement, old.rho == new.rho, old.draw == new.draw) {
        (false, ..) => "under another revision of the agreement",
        (true, false, _) => "at another price",
        (true, true, false) => "as a repetition with fresh noise",
        (true, true, true) => "unchanged",
    }
}

/// Whether two plans ask the same, whatever they pay and how often it was asked.
fn is_same_question(one: &Plan, other: &Plan) -> bool {
    let question = Plan { agreement: other.agreement, draw: other.draw, rho: other.rho, ..one.clone() };
    question == *other
}

/// Who said no to a task and why: people here, or as the hub told when it ended the task; the policy where nobody did.
pub fn refusals(run: &RunRecord, agreement: &Agreement, here: &str) -> Vec<Refused> {
    match run.state {
        RunState::Refused => {
            let said = run.approvals.iter().filter_map(|envelope| envelope.peek::<Entry>().ok());
            let people: Vec<Refused> = said
                .filter_map(|entry| match (&entry.claims().author, &entry.claims().fact) {
                    (Author::Person { .. }, Fact::Approval { approved: false, why, .. }) => Some(Refused {
                        at: Some(entry.claims().time),
                        by: entry.claims().author.to_string(),
                        why: why.clone(),
                    }),
                    _ => None,
                })
                .collect();
            if people.is_empty() {
                return vec![Refused { at: None, by: format!("the policy of {here}"), why: run.why.clone() }];
            }
            people
        }
        RunState::Void => words::refusal(&agreement.parties, &run.why)
            .map(|no| Refused { at: None, by: format!("{} (as the hub told)", no.by), why: no.why })
            .into_iter()
            .collect(),
        _ => Vec::new(),
    }
}

/// The last task with the same dataset and computations that people here approved, and what is different in this one.
fn last_approved(view: &View, case: &Case) -> Result<Option<(Hash, Timestamp, Vec<String>)>, Failure> {
    let plan: &Plan = &case.task.plan;
    let mut last = None;
    for (hash, run) in view.runs()? {
        if hash == case.hash || run.study != case.run.study || run.began_at > case.run.began_at {
            continue;
        }
        // Half of the words that are needed approve nothing: a run that never permitted was ended some other way.
        let was_approved = !run.approvals.is_empty() && run.snapshot.is_some();
        let task = run.task.peek::<Task>().map_err(Failure::own)?;
        let task = task.claims();
        let is_alike = task.plan.dataset == plan.dataset && words::analyses(&task.plan) == words::analyses(plan);
        if was_approved && is_alike {
            let mut different = words::differences(&task.plan, plan);
            let epsilon = |plan: &Plan| -> Result<Option<u64>, Failure> {
                let agreement = agreement_of(view, plan.agreement)?;
                let priced =
                    agreement.and_then(|agreement| cohortium_query::check(plan, &agreement, plan.agreement).ok());
                Ok(priced.map(|priced| priced.facts().epsilon_micro))
            };
            if let (Some(old), Some(new)) = (epsilon(&task.plan)?, epsilon(plan)?)
                && old != new
            {
                different.push(format!("price: was ε = {:.3}; is ε = {:.3}", micro(old), micro(new)));
            }
            last = Some((hash, task.asked_at, different));
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other(state: RunState, is_earlier: bool) -> Other {
        let refused = vec![Refused { at: None, by: String::from("stella"), why: String::from("no") }];
        let asked_at = Timestamp::from_seconds(0);
        Other { asked_at, same_plan: true, change: "unchanged", is_earlier, refused, state, task: Hash::of(b"task") }
    }

    /// A task that the hub called void was said to have no answer, though the others can have made one without this node.
    #[test]
    fn repro_only_what_was_refused_here_leaves_nothing_to_subtract() {
        let lines = |state| {
            let near = vec![Near { how: "one row more", other: other(state, true) }];
            Compared { near, ..Compared::default() }.warnings().join("\n")
        };
        assert!(lines(RunState::Refused).contains("nothing to subtract"));
        for state in [RunState::Void, RunState::LeftOut, RunState::Revealed, RunState::Released] {
            let said = lines(state);
            assert!(said.starts_with("WATCH OUT") && !said.contains("nothing to subtract"), "{said}");
        }
        assert!(lines(RunState::Void).contains("the hub says"));
        assert!(lines(RunState::LeftOut).contains("whether there is an answer the hub knows"));
    }

    /// A no to a task that was asked later was shown as one from before.
    #[test]
    fn repro_a_later_no_was_not_said_before() {
        let lines = |is_earlier| {
            let same = vec![other(RunState::Refused, is_earlier)];
            Compared { same, ..Compared::default() }.first_of_all(RunState::Waiting)
        };
        assert!(lines(true)[0].starts_with("REFUSED BEFORE"));
        assert!(lines(false).is_empty());
    }
}
