//! `cohortium query`: plan, price, ask, wait, check, print.

use std::path::Path;
use std::time::{Duration, Instant};

use cohortium_messages::{
    Agreement, Author, Call, Decimal, Entry, Envelope, Fact, Hash, Inclusion, Modifier, Name, PROTOCOL_VERSION,
    Purpose, ReleaseDocument, Reply, Task, TaskState, TaskStatus, Verified, canonical_bytes, decode_cells,
};
use cohortium_node::service::{nonce, now, system_rng};
use cohortium_policy::Revoked;
use cohortium_query::{Answer, AnswerCell, Ask, Priced};
use serde::Serialize;

use crate::output::{Failure, Output, table};
use crate::sandbox::{command_line, shown};
use crate::session::{Session, unexpected};
use cohortium_policy::words;

/// How long to wait for the members to cosign the log after a release. They cosigned it moments before, for the task
/// itself, so a member that takes longer has gone away.
const COSIGN_PATIENCE: Duration = Duration::from_secs(120);

#[derive(clap::Args)]
pub struct Arguments {
    /// The question, in SQL
    pub sql: String,
    /// The study under which to ask
    #[arg(long)]
    pub study: Name,
    /// What you are willing to pay at each node, as the ε that this query costs alone (default: the agreement's limit
    /// for one query, at most 1)
    #[arg(long)]
    pub epsilon: Option<Decimal>,
    /// What the answer is for: GRU, HMB or DS:<disease code>
    #[arg(long, default_value = "HMB")]
    pub purpose: Purpose,
    /// Print price and expected error; spend nothing, tell nobody
    #[arg(long)]
    pub dry_run: bool,
    /// Ask for fresh noise: 0 returns a stored answer to the same question if there is one, any other number pays again
    #[arg(long, default_value_t = 0)]
    pub draw: u32,
}

/// An answered question, as it is printed with `--format json`.
#[derive(Debug, Clone, Serialize)]
pub struct Answered {
    /// Column headings and rows with 95 % intervals.
    pub answer: Answer,
    /// ε that it cost at each node, alone, at the agreement's δ; 0 for a stored answer.
    pub epsilon: f64,
    /// Index of the release in the hub's log.
    pub log_index: u64,
    /// Whether it was stored: asked before, paid before.
    pub stored: bool,
    /// The organisations in it.
    pub survivors: Vec<Name>,
    /// The task.
    pub task: Hash,
}

pub async fn run(arguments: Arguments, home: &Path, output: &Output) -> Result<(), Failure> {
    let session = Session::open(home)?;
    let agreement = session.agreement(&arguments.study).await?;
    let priced = price(&arguments, &agreement)?;
    if arguments.dry_run {
        return dry_run(&priced, &agreement, output);
    }
    let answered = {
        let progress = output.progress("asking");
        let task = std::cell::Cell::new(None);
        let tell = |waits: Waits| {
            task.set(Some(waits.task));
            progress.tell(waits.words);
        };
        tokio::select! {
            answered = ask(&session, &agreement, &priced, &arguments, tell) => answered?,
            _ = tokio::signal::ctrl_c() => return Err(no_longer_waiting(home, task.get())),
        }
    };
    output.result(&answered, || {
        let price = if answered.stored {
            String::from("a stored answer to the same question: free")
        } else {
            format!("ε = {:.3} at each node", answered.epsilon)
        };
        format!(
            "{}\n\n95 % intervals. Price: {price}. In the sum: {}. Release {} at index {} of the log.",
            render(&answered.answer),
            join(&answered.survivors),
            answered.task.short(),
            answered.log_index
        )
    })
}

/// What a question waits for.
pub struct Waits {
    pub task: Hash,
    pub words: String,
}

impl Waits {
    /// What the hub says, with until when people are waited for.
    fn of(status: &TaskStatus) -> Self {
        let (task, awaited) = (status.task, join(&status.awaited));
        let words = match (status.state, status.deadline) {
            (TaskState::AwaitingApproval, Some(until)) if !awaited.is_empty() => {
                format!("task {}: people are asked; waiting for {awaited}, until {until}", task.short())
            }
            _ if awaited.is_empty() => status.why.clone(),
            _ => format!("{}: {awaited}", status.why),
        };
        Self { task, words }
    }
}

/// What to tell somebody who stops waiting for an answer: nobody has taken the question back.
fn no_longer_waiting(home: &Path, task: Option<Hash>) -> Failure {
    let command = |arguments: &[&str]| command_line(&[&["--home", &shown(home), "task"], arguments].concat());
    Failure::not_ready(match task {
        Some(task) => format!(
            "no longer waiting here, but the question stands, as task {0}:\n  {1}\nOnce it is answered the same question gives \
             the answer, free. Asked again before that, it is a second task",
            task.short(),
            command(&["show", &task.short()])
        ),
        None => format!("no longer waiting; whether the hub has taken the question says {}", command(&["list"])),
    })
}

/// Plans the question and derives its price, as every node will.
pub fn price(arguments: &Arguments, agreement: &Verified<Agreement>) -> Result<Priced, Failure> {
    let budgets = &agreement.budgets;
    let epsilon = arguments.epsilon.unwrap_or_else(|| budgets.epsilon_per_query.min(Decimal::ONE));
    let rho = cohortium_query::rho_for_epsilon(epsilon, budgets.delta).map_err(Failure::usage)?;
    let ask = Ask { rho, draw: arguments.draw };
    let plan = cohortium_query::plan(&arguments.sql, agreement, agreement.hash(), ask).map_err(Failure::usage)?;
    cohortium_query::check(&plan, agreement, agreement.hash()).map_err(Failure::usage)
}

fn dry_run(priced: &Priced, agreement: &Verified<Agreement>, output: &Output) -> Result<(), Failure> {
    let survivors = u32::try_from(agreement.parties.len()).map_err(Failure::own)?;
    let errors = cohortium_query::expected_error(priced, survivors).map_err(Failure::own)?;
    let facts = priced.facts();
    let epsilon = micro(facts.epsilon_micro);
    let value = serde_json::json!({
        "cells": priced.layout().cells(), "epsilon": epsilon, "expected_error": errors, "plan": priced.plan_hash()});
    output.result(&value, || {
        let rows = errors.iter().map(|error| {
            vec![error.output.clone(), format!("± {}", number(error.half_width)), format!("per {}", error.per)]
        });
        format!(
            "Price: ε = {epsilon:.3} at each node, at δ = {} (nothing was spent, nobody was asked).\nExpected half width of the 95 % interval:\n{}",
            agreement.budgets.delta,
            table(&["output", "half width", ""], rows)
        )
    })
}

/// Asks, waits for the release, and checks it from signatures to inclusion.
pub async fn ask(
    session: &Session,
    agreement: &Verified<Agreement>,
    priced: &Priced,
    arguments: &Arguments,
    progress: impl Fn(Waits),
) -> Result<Answered, Failure> {
    let (purpose, study) = (arguments.purpose.clone(), agreement.study.clone());
    let stored = Call::Released { plan: priced.plan_hash(), purpose, study };
    if let Reply::Released(Some(status)) = session.call(stored).await? {
        let task = cohortium_policy::open_task(&status.question, agreement, &Revoked::nothing())
            .map_err(Failure::not_verified)?;
        let status = wait_for_end(session, status, &progress).await?;
        return read_release(agreement, priced, &task, &status, true);
    }
    let (task, envelope, entry) = sign_task(session, agreement, priced, arguments)?;
    let submit = Call::Submit { entry, task: envelope };
    let hash = task.hash();
    let away = |words| progress(Waits { task: hash, words });
    let Reply::Status(status) = session.call_patiently(submit, away).await? else { return Err(unexpected()) };
    let status = wait_for_end(session, status, &progress).await?;
    match status.state {
        TaskState::Released => read_release(agreement, priced, &task, &status, false),
        TaskState::Refused => {
            Err(Failure::refused(words::how_it_ended(&agreement.parties, &status.why), status.clauses))
        }
        _ => Err(Failure::not_ready(format!("the task {}: {}", status.state, status.why))),
    }
}

/// Waits until a task has ended and, where there is a release, until it stands in the log under a cosigned head. Also a
/// release found stored may be so new that its head is not cosigned yet. The hub sees to it that tasks end.
async fn wait_for_end(
    session: &Session,
    mut status: TaskStatus,
    progress: &impl Fn(Waits),
) -> Result<TaskStatus, Failure> {
    let mut released_at = None;
    while !status.state.is_terminal() || (status.release.is_some() && status.inclusion.is_none()) {
        if status.release.is_some() && released_at.get_or_insert_with(Instant::now).elapsed() > COSIGN_PATIENCE {
            return Err(Failure::not_ready(
                "the answer is out and paid, but too few members have cosigned the log that proves it; ask the same \
                 question again later, which is free",
            ));
        }
        progress(Waits::of(&status));
        let wait = Call::Status { known: status.step, task: status.task, wait_ms: 10_000 };
        let away = |words| progress(Waits { task: status.task, words });
        let Reply::Status(next) = session.call_patiently(wait, away).await? else { return Err(unexpected()) };
        status = next;
    }
    Ok(status)
}

/// The conditions of the agreement, in the order in which a task affirms them.
fn affirmed(agreement: &Agreement) -> Vec<Modifier> {
    let mut modifiers: Vec<Modifier> = agreement.conditions.iter().map(|condition| condition.modifier).collect();
    modifiers.sort_unstable();
    modifiers
}

fn sign_task(
    session: &Session,
    agreement: &Verified<Agreement>,
    priced: &Priced,
    arguments: &Arguments,
) -> Result<(Verified<Task>, Envelope, Envelope), Failure> {
    let task = Task {
        affirms: affirmed(agreement),
        asked_at: now(),
        nonce: nonce(&mut system_rng()),
        participants: agreement.participants(),
        plan: priced.plan().clone(),
        protocol: PROTOCOL_VERSION,
        purpose: arguments.purpose.clone(),
        researcher: session.name().clone(),
        rounds: 1,
        sql: arguments.sql.clone(),
        study: agreement.study.clone(),
    };
    let envelope = Envelope::sign(&task, &session.key).map_err(Failure::own)?;
    let task = envelope.open::<Task>(&session.key.public()).map_err(Failure::own)?;
    let fact = Fact::Task {
        body: Hash::of(&canonical_bytes(&envelope).map_err(Failure::own)?),
        plan: priced.plan_hash(),
        task: task.hash(),
    };
    let author = Author::Researcher(session.name().clone());
    let entry =
        Entry { agreement: agreement.hash(), author, fact, study: agreement.study.clone(), time: task.asked_at };
    let entry = Envelope::sign(&entry, &session.key).map_err(Failure::own)?;
    Ok((task, envelope, entry))
}

/// Promise: given a status from the hub, returns an answer only if the release carries the hub's signature, the receipts
/// of all survivors, the consents of `t` of them, the noise that the plan promises, and stands in the log under a head
/// that a quorum of the members cosigned; never on the hub's word.
fn read_release(
    agreement: &Verified<Agreement>,
    priced: &Priced,
    task: &Verified<Task>,
    status: &TaskStatus,
    stored: bool,
) -> Result<Answered, Failure> {
    let missing = || Failure::not_verified("the hub shows no complete release");
    let release = status.release.as_ref().ok_or_else(missing)?;
    let document = release.open::<ReleaseDocument>(&agreement.hub.message_key).map_err(Failure::not_verified)?;
    cohortium_policy::verify_release(&document, agreement, task, priced).map_err(Failure::not_verified)?;
    let entry = status.release_entry.as_ref().ok_or_else(missing)?;
    let inclusion = status.inclusion.as_ref().ok_or_else(missing)?;
    check_inclusion(agreement, entry, &document, inclusion)?;
    let cells = decode_cells(&document.cells).ok_or_else(missing)?;
    let variance: u128 = document.noise_variance.parse().map_err(Failure::not_verified)?;
    let answer = cohortium_query::answer(priced, &cells, variance).map_err(Failure::not_verified)?;
    Ok(Answered {
        answer,
        epsilon: if stored { 0.0 } else { micro(priced.facts().epsilon_micro) },
        log_index: inclusion.index,
        stored,
        survivors: document.survivors.clone(),
        task: document.task,
    })
}

fn check_inclusion(
    agreement: &Verified<Agreement>,
    entry: &Envelope,
    document: &Verified<ReleaseDocument>,
    inclusion: &Inclusion,
) -> Result<(), Failure> {
    let logged = entry.open::<Entry>(&agreement.hub.message_key).map_err(Failure::not_verified)?;
    if !matches!(logged.fact, Fact::Release { release, task, .. } if release == document.hash() && task == document.task)
    {
        return Err(Failure::not_verified("the log entry shown for the release is about something else"));
    }
    cohortium_policy::verify_inclusion(agreement, entry, inclusion).map(drop).map_err(Failure::not_verified)
}

/// The answer as a table: estimates with their 95 % intervals.
pub fn render(answer: &Answer) -> String {
    let headings: Vec<&str> = answer.columns.iter().map(String::as_str).collect();
    table(&headings, answer.rows.iter().map(|row| row.iter().map(cell).collect()))
}

fn cell(cell: &AnswerCell) -> String {
    match cell {
        AnswerCell::Key(None) => String::from("(missing)"),
        AnswerCell::Key(Some(value)) => value.to_string(),
        AnswerCell::Estimate { value, low, high } => {
            format!("{} [{}, {}]", number(*value), number(*low), number(*high))
        }
        AnswerCell::Suppressed { fewer_than } => format!("(fewer than {fewer_than})"),
    }
}

/// A number with four significant digits or more, as people write it.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 1000.0 => format!("{value:.0}"),
        size if size >= 100.0 => format!("{value:.1}"),
        size if size >= 10.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

pub fn join(names: &[Name]) -> String {
    names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

pub fn micro(value: u64) -> f64 {
    value as f64 / 1e6
}
