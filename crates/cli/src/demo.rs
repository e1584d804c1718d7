//! `cohortium demo`: everything at once, with the true answers beside the released ones.
//!
//! The demonstration owns all the data, so it may show what nobody else ever sees: the exact pooled value.

use std::path::{Path, PathBuf};
use std::time::Instant;

use cohortium_messages::{Agreement, Purpose, Verified};
use cohortium_node::view::View;
use cohortium_query::{AnswerCell, Priced};
use serde::Serialize;

use crate::federation::{Approval, Federation, RESEARCHER};
use crate::output::{Failure, Output, table};
use crate::query::{self, Answered};
use crate::sandbox::{Data, command_line, shown};
use crate::session::Session;
use crate::{account, audit, truth};

#[derive(clap::Args)]
pub struct Arguments {
    /// Where to leave the sandbox (default: a new folder ./cohortium-demo-N)
    #[arg(long)]
    dir: Option<PathBuf>,
    #[command(flatten)]
    data: Data,
}

/// One question of the demonstration.
#[derive(Serialize)]
struct Question {
    answered: Answered,
    sql: String,
    /// For every row of the answer and every output that is no key: the exact pooled value.
    truth: Vec<Vec<Option<f64>>>,
}

pub async fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let began = Instant::now();
    let dir = arguments.dir.map_or_else(new_folder, Ok)?;
    let source = arguments.data.source()?;
    let federation = {
        let progress = output.progress("making a federation");
        Federation::create(&dir, &source, arguments.data.study, Approval::Automatic, &progress).await?
    };
    let facts = federation.facts().clone();
    output.say(format!(
        "A hub that no one trusts and {} hospitals, each a process with its own folder and keys: {}.\nTheir custodians signed the agreement `{}`; {RESEARCHER} may ask.\n",
        facts.organisations.len(),
        query::join(&facts.organisations),
        facts.study
    ));
    let progress = output.progress("starting hub and nodes");
    let processes = federation.start().await?;
    let session = Session::open(&federation.researcher())?;
    let agreement = session.agreement(&facts.study).await?;
    let mut questions = Vec::new();
    for dataset in &facts.datasets {
        for sql in federation.declaration(dataset)?.questions {
            progress.now(format!("asking: {sql}"));
            let question = ask(&federation, &session, &agreement, &sql, &progress).await?;
            show(&question, &progress, output);
            questions.push(question);
        }
    }
    progress.now("waiting until every node has cosigned the log");
    drop(processes);
    let (budgets, left) = (budgets(&federation)?, outboxes(&federation)?);
    progress.now("checking the log offline");
    let audited = audit::verify(&federation.hub().log_dir(), &federation.agreement_file())?;
    drop(progress);
    output.say(format!("What is left of each budget (ε):\n{}\n", budget_table(&budgets)));
    output.say(format!("What left each node, in all (bytes of rows: 0):\n{}\n", outbox_table(&left)));
    output.say(format!("Offline audit of the log: passed.\n{}\n", audit::summary(&audited)));
    let value =
        serde_json::json!({"audit": audited, "budgets": budgets, "folder": dir, "left": left, "questions": questions});
    output.result(&value, || closing(&dir, &federation, began))
}

async fn ask(
    federation: &Federation,
    session: &Session,
    agreement: &Verified<Agreement>,
    sql: &str,
    progress: &crate::output::Progress,
) -> Result<Question, Failure> {
    let arguments = query::Arguments {
        sql: sql.to_owned(),
        study: agreement.study.clone(),
        epsilon: None,
        purpose: Purpose::HealthMedicalBiomedical,
        dry_run: false,
        draw: 0,
    };
    let priced = query::price(&arguments, agreement)?;
    let answered = query::ask(session, agreement, &priced, &arguments, |waits| progress.now(waits.words)).await?;
    let truth = exact(federation, &priced)?;
    Ok(Question { answered, sql: sql.to_owned(), truth })
}

/// The exact pooled values, row by row of the plan's groups; nothing for an answer that is sorted by its noised values.
fn exact(federation: &Federation, priced: &Priced) -> Result<Vec<Vec<Option<f64>>>, Failure> {
    if !priced.plan().order_by.is_empty() {
        return Ok(Vec::new());
    }
    let dataset = &priced.plan().dataset;
    let declaration = federation.declaration(dataset)?;
    let organisations = federation.facts().organisations.iter();
    let files: Vec<PathBuf> = organisations.map(|name| federation.data_file(name, dataset)).collect();
    truth::evaluate(priced.plan(), &priced.layout().groups, &declaration.schema, &declaration.csv, &files)
}

fn show(question: &Question, progress: &crate::output::Progress, output: &Output) {
    let answer = &question.answered.answer;
    let headings: Vec<String> = answer
        .columns
        .iter()
        .zip(answer.rows.first().map(Vec::as_slice).unwrap_or_default())
        .flat_map(|(name, cell)| match cell {
            AnswerCell::Key(_) => vec![name.clone()],
            AnswerCell::Estimate { .. } | AnswerCell::Suppressed { .. } => {
                vec![name.clone(), String::from("95 % interval"), String::from("true")]
            }
        })
        .collect();
    let rows = answer.rows.iter().enumerate().map(|(at, row)| {
        let truth = question.truth.get(at);
        let truth = |column: usize| truth.and_then(|truth| truth.get(column)).copied().flatten();
        let cells = row.iter().enumerate().flat_map(|(column, cell)| match cell {
            AnswerCell::Key(None) => vec![String::from("(missing)")],
            AnswerCell::Key(Some(value)) => vec![value.to_string()],
            AnswerCell::Estimate { value, low, high } => vec![
                query::number(*value),
                format!("[{}, {}]", query::number(*low), query::number(*high)),
                truth(column).map_or_else(|| String::from("–"), query::number),
            ],
            AnswerCell::Suppressed { fewer_than } => vec![
                format!("(fewer than {fewer_than})"),
                String::new(),
                truth(column).map_or_else(|| String::from("–"), query::number),
            ],
        });
        cells.collect()
    });
    let headings: Vec<&str> = headings.iter().map(String::as_str).collect();
    let text = format!(
        "{}\n{}\nPrice: ε = {:.3} at each hospital.\n",
        question.sql,
        table(&headings, rows),
        question.answered.epsilon
    );
    progress.suspend(|| output.say(text));
}

/// Every budget at every hospital.
fn budgets(federation: &Federation) -> Result<Vec<(String, account::Line)>, Failure> {
    let mut all = Vec::new();
    for name in &federation.facts().organisations {
        all.extend(account::lines(federation.node(name).dir())?.into_iter().map(|line| (name.to_string(), line)));
    }
    Ok(all)
}

fn budget_table(budgets: &[(String, account::Line)]) -> String {
    let everyone = budgets.iter().filter(|(_, line)| line.scope == "everyone");
    let rows = everyone.map(|(name, line)| {
        let spent = line.epsilon_budget - line.epsilon_left;
        vec![
            name.clone(),
            line.dataset.to_string(),
            format!("{:.3}", line.epsilon_budget),
            format!("{spent:.3}"),
            format!("{:.3}", line.epsilon_left),
        ]
    });
    table(&["hospital", "dataset", "budget", "spent", "left"], rows)
}

/// How many of each kind of message left each hospital, in plain words.
fn outboxes(federation: &Federation) -> Result<Vec<(String, String, usize, String)>, Failure> {
    let mut left: Vec<(String, String, usize, String)> = Vec::new();
    for name in &federation.facts().organisations {
        for (record, _) in View::open(&federation.node(name))?.journal()? {
            match left.iter_mut().find(|(node, kind, ..)| *node == name.to_string() && *kind == record.kind) {
                Some((_, _, count, _)) => *count += 1,
                None => left.push((name.to_string(), record.kind, 1, record.words)),
            }
        }
    }
    Ok(left)
}

fn outbox_table(left: &[(String, String, usize, String)]) -> String {
    let mut nodes: Vec<&String> = left.iter().map(|(node, ..)| node).collect();
    nodes.dedup();
    let mut kinds: Vec<(&String, &String)> = Vec::new();
    for (_, kind, _, words) in left {
        if !kinds.iter().any(|(known, _)| *known == kind) {
            kinds.push((kind, words));
        }
    }
    let count = |node: &String, kind: &String| {
        left.iter().find(|(n, k, ..)| n == node && k == kind).map_or(0, |(_, _, count, _)| *count).to_string()
    };
    let rows = kinds.iter().map(|(kind, words)| {
        let counts: Vec<String> = nodes.iter().map(|node| count(node, kind)).collect();
        vec![(*kind).clone(), counts.join(" / "), (*words).clone()]
    });
    table(&["what", "how many", "for example"], rows)
}

fn closing(dir: &Path, federation: &Federation, began: Instant) -> String {
    let study = &federation.facts().study;
    let dataset = federation.facts().datasets.first().map(ToString::to_string).unwrap_or_default();
    let (researcher, first) = (shown(&federation.researcher()), federation.facts().organisations.first());
    let node = first.map(|name| shown(federation.node(name).dir())).unwrap_or_default();
    format!(
        "Done in {:.1} s. The sandbox is in {}. Try next:\n  {}\n  {} query \"SELECT COUNT(*) FROM {dataset}\" --study {study} --epsilon 0.5\n  {} node outbox",
        began.elapsed().as_secs_f64(),
        dir.display(),
        command_line(&["sandbox", "start", &shown(dir)]),
        command_line(&["--home", &researcher]),
        command_line(&["--home", &node]),
    )
}

/// The first folder `cohortium-demo-N` that is not there yet.
fn new_folder() -> Result<PathBuf, Failure> {
    let mut names = (1..=10_000).map(|number| PathBuf::from(format!("cohortium-demo-{number}")));
    names.find(|path| !path.exists()).ok_or_else(|| Failure::usage("too many demo folders here: say --dir DIR"))
}
