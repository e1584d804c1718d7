//! `cohortium task`: which tasks there are, how far one is, whom it waits for, and how it ended.
//!
//! What is shown is the hub's word, and in a node's home the node's own record beside it. The question is the one that
//! was hashed into the task's name; nothing else here is proven. An answer is believed by `query` alone.

use std::path::Path;

use clap::Subcommand;
use cohortium_messages::{
    Agreement, Call, Hash, MAX_TASKS_LISTED, Name, Phase, PrincipalKind, Progress, Reply, Task, TaskState, TaskStatus,
    TaskSummary,
};
use cohortium_node::view::View;
use cohortium_node::{RunRecord, RunState};

use crate::output::{Failure, Output, plain, table};
use crate::query::join;
use crate::session::{Session, open_view, unexpected};
use crate::show::state_in_words as state_here;
use cohortium_policy::words;

#[derive(Subcommand)]
pub enum Command {
    /// The newest tasks: yours as a researcher, your studies' as an organisation
    List {
        /// How many at most
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_TASKS_LISTED)))]
        last: u32,
    },
    /// How far a task is, whom it waits for and until when, or how it ended
    Show {
        /// The task's hash, or enough of its first digits that no other known task begins with them
        task: String,
    },
}

/// The fewest digits by which a task may be called.
const MIN_PREFIX: usize = 4;

pub async fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    let session = Session::open(home)?;
    match command {
        Command::List { last } => list(&session, last, output).await,
        Command::Show { task } => show(&session, &task, output).await,
    }
}

async fn list(session: &Session, last: u32, output: &Output) -> Result<(), Failure> {
    let tasks = known_to_hub(session, last).await?;
    let agreements = agreements(session).await?;
    output.result(&serde_json::json!({ "tasks": tasks }), || {
        if tasks.is_empty() {
            return String::from("No task yet. Ask with `query`.");
        }
        let rows = tasks.iter().map(|task| {
            let why = how_it_ended(&agreements, &task.study, &task.why);
            let what = [task.study.to_string(), task.researcher.to_string(), task.sql.clone(), why];
            [vec![task.task.short(), task.asked_at.to_string(), state_in_words(task.state).to_owned()], what.to_vec()]
                .concat()
        });
        table(&["task", "asked", "state", "study", "by", "question", "remark"], rows)
    })
}

async fn show(session: &Session, text: &str, output: &Output) -> Result<(), Failure> {
    let own = match session.connection.kind {
        PrincipalKind::Organisation => Some(OwnView::open(session)?),
        PrincipalKind::Researcher => None,
    };
    let task = find(session, own.as_ref(), text).await?;
    let here = own.as_ref().map(|own| own.of(task)).transpose()?.flatten();
    let status = match session.call(Call::Status { known: 0, task, wait_ms: 0 }).await {
        Ok(Reply::Status(status)) => Ok(status),
        Ok(_) => return Err(unexpected()),
        Err(error) => Err(Failure::from(error)),
    };
    let status = match (status, &here) {
        (Ok(status), _) => status,
        // What this node knows by itself is worth the more when the hub says nothing.
        (Err(failure), Some(here)) => {
            output.result(&serde_json::json!({"node": here.value, "task": task}), || here.text.clone())?;
            return Err(failure);
        }
        (Err(failure), None) => return Err(failure),
    };
    let question = status.question.peek::<Task>().map_err(Failure::not_verified)?;
    if status.task != task || question.hash() != task {
        return Err(Failure::not_verified("the hub shows another task than was asked for"));
    }
    let agreements = agreements(session).await?;
    let why = how_it_ended(&agreements, &question.claims().study, &status.why);
    let shown = Shown { question: question.claims(), status: &status, why };
    output.result(&shown.value(here.as_ref()), || {
        let here = here.as_ref().map(|here| format!("\n\n{}", here.text));
        shown.text() + &here.unwrap_or_default()
    })
}

/// The task of that name, or the only known one whose name begins so.
async fn find(session: &Session, own: Option<&OwnView>, text: &str) -> Result<Hash, Failure> {
    if let Ok(task) = text.parse() {
        return Ok(task);
    }
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_digits || !(MIN_PREFIX..64).contains(&text.len()) {
        return Err(Failure::usage(format!(
            "`{text}` is no task: give {MIN_PREFIX} to 64 digits (0-9, a-f) of its hash; `task list` shows the newest"
        )));
    }
    let listed = match known_to_hub(session, MAX_TASKS_LISTED).await {
        Ok(listed) => listed,
        // A node may look at its own runs without the hub.
        Err(_) if own.is_some() => Vec::new(),
        Err(failure) => return Err(failure),
    };
    let mut known: Vec<Hash> = listed.iter().map(|listed| listed.task).collect();
    known.extend(own.iter().flat_map(|own| own.runs.iter().map(|(task, _)| *task)));
    known.retain(|task| task.to_string().starts_with(text));
    known.sort();
    known.dedup();
    match known.as_slice() {
        [task] => Ok(*task),
        [] => Err(Failure::usage(format!(
            "none of the newest {MAX_TASKS_LISTED} tasks known here begins with `{text}`: give the whole hash, or see `task list`"
        ))),
        many => {
            let many: Vec<String> = many.iter().map(ToString::to_string).collect();
            Err(Failure::usage(format!("several tasks begin with `{text}`: {}", many.join(", "))))
        }
    }
}

async fn known_to_hub(session: &Session, last: u32) -> Result<Vec<TaskSummary>, Failure> {
    match session.call(Call::Tasks { last }).await? {
        Reply::Tasks(tasks) => Ok(tasks),
        _ => Err(unexpected()),
    }
}

/// The agreements of the hub's studies, as the hub shows them: for words, not for belief.
async fn agreements(session: &Session) -> Result<Vec<Agreement>, Failure> {
    let studies = session.studies().await?.into_iter();
    Ok(studies.filter_map(|record| Some(record.agreement.peek::<Agreement>().ok()?.claims().clone())).collect())
}

fn how_it_ended(agreements: &[Agreement], study: &Name, why: &str) -> String {
    let agreement = agreements.iter().find(|agreement| agreement.study == *study);
    plain(&agreement.map_or_else(|| why.to_owned(), |agreement| words::how_it_ended(&agreement.parties, why)))
}

/// A task as the hub tells it, with the question that its name is the hash of.
struct Shown<'a> {
    question: &'a Task,
    status: &'a TaskStatus,
    /// How it ended or what it waits for, for people.
    why: String,
}

impl Shown<'_> {
    fn value(&self, here: Option<&Here>) -> serde_json::Value {
        let (question, status) = (self.question, self.status);
        serde_json::json!({
            "asked_at": question.asked_at, "awaited": status.awaited, "clauses": status.clauses,
            "dataset": question.plan.dataset, "deadline": status.deadline, "members": status.members,
            "node": here.map(|here| &here.value), "phase": status.phase, "remaining_s": status.remaining_s,
            "researcher": question.researcher, "sql": question.sql, "state": status.state, "study": question.study,
            "survivors": status.survivors, "task": status.task, "threshold": status.threshold, "why": status.why,
        })
    }

    fn text(&self) -> String {
        let (question, status) = (self.question, self.status);
        let mut lines = vec![
            format!("Task {}", status.task),
            format!("  asked      {} by {} in study {}", question.asked_at, question.researcher, question.study),
            format!("  question   {}", question.sql.split_whitespace().collect::<Vec<_>>().join(" ")),
            format!("  state      {}", self.state()),
        ];
        if let Some(wait) = self.wait() {
            lines.push(format!("  waits for  {wait}"));
        }
        if !status.survivors.is_empty() {
            let needed = format!("{} of {} are needed", status.threshold, status.members.len());
            lines.push(format!("  in the sum {} ({needed})", join(&status.survivors)));
        }
        lines.extend(status.clauses.iter().map(|clause| format!("  failing clause: {clause}")));
        lines.push(String::new());
        let headings: Vec<&str> = std::iter::once("member").chain(Phase::STEPS.map(heading)).collect();
        lines.push(table(&headings, status.members.iter().map(|member| self.row(member))));
        lines.join("\n")
    }

    /// Where it is, or how it ended.
    fn state(&self) -> String {
        let status = self.status;
        match (Phase::STEPS.iter().position(|step| *step == status.phase), status.state) {
            (Some(place), _) => format!("step {} of {}: {}", place + 1, Phase::STEPS.len(), in_words(status.phase)),
            (None, TaskState::Released) if status.inclusion.is_none() => {
                String::from("answered; the members have not yet cosigned the log that proves it")
            }
            (None, TaskState::Released) => String::from("answered"),
            (None, state) => format!("{}: {}", state_in_words(state), self.why),
        }
    }

    /// Whom it waits for, for how long, and what then.
    fn wait(&self) -> Option<String> {
        let status = self.status;
        let left = status.remaining_s?;
        let then = match status.phase {
            Phase::Witnesses | Phase::Permits => String::from("is over, without an answer and at no price"),
            _ if status.threshold as usize >= status.members.len() => {
                String::from("is over, without an answer, for none may be missing; who has read its rows has paid")
            }
            _ => format!(
                "goes on without who is missing, if {} or more are there; else it is over, and who has read its rows has paid",
                status.threshold
            ),
        };
        let whom = if status.awaited.is_empty() { String::from("the hub") } else { join(&status.awaited) };
        let asked = match status.state {
            TaskState::AwaitingApproval => " (people there are asked; they say yes or no with `node show`)",
            _ if status.why.contains("let out") => " (people there look at what leaves, and let it out)",
            _ => "",
        };
        Some(format!("{whom}{asked}, for {} more; then the task {then}", span(left)))
    }

    fn row(&self, member: &Progress) -> Vec<String> {
        let is_awaited = self.status.awaited.contains(&member.member);
        let cell = |step: Phase| match member.done.contains(&step) {
            true => "done",
            false if is_awaited && step == self.status.phase => "awaited",
            false => "",
        };
        let cells = Phase::STEPS.map(|step| cell(step).to_owned());
        std::iter::once(member.member.to_string()).chain(cells).collect()
    }
}

/// A number of seconds, for people.
fn span(seconds: u32) -> String {
    match seconds {
        ..=120 => format!("{seconds} s"),
        121..=7_200 => format!("{} minutes", seconds / 60),
        _ => format!("{} hours", seconds / 3600),
    }
}

/// What a step is, for people.
const fn in_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Witnesses => "all members cosign the hub's log, which now holds the task",
        Phase::Permits => "all members check the task by the agreement and reserve its price",
        Phase::Vectors => "the members read their rows, add noise, and send the sums under masks",
        Phase::Signatures => "the members sign who is in the sum",
        Phase::Reveals => "the members reveal what takes the masks off the sum",
        Phase::Ended => "nothing more happens",
    }
}

const fn heading(phase: Phase) -> &'static str {
    match phase {
        Phase::Witnesses => "cosigned",
        Phase::Permits => "permitted",
        Phase::Vectors => "sent vector",
        Phase::Signatures => "signed",
        Phase::Reveals => "revealed",
        Phase::Ended => "",
    }
}

const fn state_in_words(state: TaskState) -> &'static str {
    match state {
        TaskState::Proposed => "asked",
        TaskState::AwaitingApproval => "awaiting approval",
        TaskState::Approved => "approved",
        TaskState::Running => "running",
        TaskState::Released => "answered",
        TaskState::Refused => "refused",
        TaskState::Failed => "failed",
        TaskState::Expired => "expired",
    }
}

/// What a node knows by itself.
struct OwnView {
    name: Name,
    runs: Vec<(Hash, RunRecord)>,
    view: View,
}

/// A task at this node.
struct Here {
    text: String,
    value: serde_json::Value,
}

impl OwnView {
    fn open(session: &Session) -> Result<Self, Failure> {
        let view = open_view(&session.home)?;
        Ok(Self { name: session.name().clone(), runs: view.runs()?, view })
    }

    fn of(&self, task: Hash) -> Result<Option<Here>, Failure> {
        let Some((_, run)) = self.runs.iter().find(|(known, _)| *known == task) else { return Ok(None) };
        let halted = self.view.halted()?;
        let journal = self.view.journal()?;
        let unsent = journal.iter().filter(|(record, sent)| record.task == Some(task) && !sent);
        let unsent: Vec<String> = unsent.map(|(record, _)| record.kind.clone()).collect();
        let value = serde_json::json!({
            "began_at": run.began_at, "dataset": run.dataset, "halted": halted, "state": run.state, "unsent": unsent,
            "why": run.why,
        });
        let why = if run.why.is_empty() { String::new() } else { format!("; {}", run.why) };
        let mut lines = vec![format!("At this node ({})", self.name)];
        lines.push(format!("  reached us {}", run.began_at));
        lines.push(format!("  state      {}{why}", state_here(run.state)));
        lines.push(format!("  price      {}", price_in_words(run.state)));
        if !unsent.is_empty() {
            lines.push(format!("  unsent     {}: is the node running?", unsent.join(", ")));
        }
        lines.extend(halted.map(|why| format!("  halted     this node no longer believes the hub: {why}")));
        Ok(Some(Here { text: lines.join("\n"), value }))
    }
}

const fn price_in_words(state: RunState) -> &'static str {
    match state {
        RunState::Waiting => "none yet: people here are asked, see `node show`",
        RunState::Permitted => "reserved",
        RunState::Reading
        | RunState::Masked
        | RunState::Signed
        | RunState::Revealed
        | RunState::LeftOut
        | RunState::Released => "charged",
        RunState::Refused => "none",
        RunState::Void => "given back if nothing was read; `account show` says what is left",
    }
}
