//! `cohortium node`: make a node, run it, add datasets, see what it does and what leaves.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_api::Connection;
use cohortium_messages::{Decimal, Hash, Name};
use cohortium_node::home::Home;
use cohortium_node::service;

use crate::dataset::{self, Declaration, Total};
use crate::hub::read_invitation;
use crate::output::{Failure, Output, table};
use crate::session::{node_home, open_view};

#[derive(Subcommand)]
pub enum Command {
    /// Make an organisation's keys in --home and join the hub
    Init {
        /// The file from `hub invite NAME`
        #[arg(long)]
        invitation: PathBuf,
    },
    /// Run the node until it is stopped; it only calls out
    Start,
    /// Datasets of this node
    #[command(subcommand)]
    Dataset(DatasetCommand),
    /// The tasks that reached this node, and how they stand
    Tasks,
    /// Everything that left this node or will leave it, in plain words
    Outbox {
        /// Show only the last so many
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
}

#[derive(Subcommand)]
pub enum DatasetCommand {
    /// Take a CSV file in: check it, type it, offer its shape to the hub
    Add {
        /// The dataset's name, the same at all organisations
        name: Name,
        /// The CSV file
        file: PathBuf,
        /// The declaration of columns, bounds and roles (without it, one to fill in is printed)
        #[arg(long)]
        schema: Option<PathBuf>,
        /// ε that all studies and researchers together may ever spend on it
        #[arg(long, default_value = "10")]
        epsilon: Decimal,
        /// δ of that ε
        #[arg(long, default_value = "0.000001")]
        delta: Decimal,
    },
}

pub async fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Init { invitation } => init(&Home::new(home), &invitation, output).await,
        Command::Start => Ok(service::run(node_home(home)?).await?),
        Command::Dataset(DatasetCommand::Add { name, file, schema, epsilon, delta }) => {
            let Some(schema) = schema else {
                output.say(dataset::sketch(&file)?);
                return Err(Failure::usage(
                    "no --schema: save the text above, fill it in, and give it with --schema FILE",
                ));
            };
            add_dataset(&node_home(home)?, &name, &file, &schema, Total { epsilon, delta }, output)
        }
        Command::Tasks => tasks(home, output),
        Command::Outbox { last } => outbox(home, last, output),
    }
}

async fn init(node: &Home, invitation: &Path, output: &Output) -> Result<(), Failure> {
    let invitation = read_invitation(invitation)?;
    if invitation.researcher {
        return Err(Failure::usage(format!(
            "this invitation is for the researcher {}: use `researcher init`",
            invitation.invited
        )));
    }
    let fingerprint = join(node, &invitation).await?;
    let value =
        serde_json::json!({"fingerprint": fingerprint, "hub": invitation.url, "organisation": invitation.invited});
    output.result(&value, || {
        format!(
            "{} has joined {}.\nFingerprint: {fingerprint}\nTell it to the other custodians over another channel, so that they can compare.",
            invitation.invited, invitation.url
        )
    })
}

/// Makes the keys and joins the hub; gives the fingerprint. Keys that an earlier attempt with this invitation made are
/// taken again: the hub may have been out of reach, or its answer lost.
pub async fn join(node: &Home, invitation: &cohortium_messages::Invitation) -> Result<String, Failure> {
    let tried_before = node.connection().is_ok_and(|known| known == Connection::from_invitation(invitation));
    let secrets = match node.secrets() {
        Ok(secrets) if tried_before => secrets,
        _ => node.init(invitation, &mut service::system_rng())?,
    };
    let secret: Hash = invitation.secret.parse().map_err(Failure::usage)?;
    service::join(node, &secrets, secret).await?;
    let entry = cohortium_messages::canonical_bytes(&secrets.entry(&invitation.invited)).map_err(Failure::own)?;
    Ok(Hash::of(&entry).fingerprint())
}

fn add_dataset(
    node: &Home,
    name: &Name,
    file: &Path,
    schema: &Path,
    total: Total,
    output: &Output,
) -> Result<(), Failure> {
    let declaration = Declaration::load(schema)?;
    let secrets = node.secrets()?;
    let report = {
        let _progress = output.progress(format!("reading {}", file.display()));
        dataset::add(node, &secrets, name, file, &declaration, total)?
    };
    output.result(&serde_json::json!({"dataset": name, "report": report}), || {
        let columns = report.columns.iter().map(|column| {
            vec![column.column.to_string(), column.missing.to_string(), column.outside_domain.to_string()]
        });
        format!(
            "Added `{name}`: {} rows (this number stays here).\n{}\nThe node offers its shape to the hub when it runs.",
            report.rows,
            table(&["column", "missing", "outside domain"], columns)
        )
    })
}

fn tasks(home: &Path, output: &Output) -> Result<(), Failure> {
    let view = open_view(home)?;
    let runs = view.runs()?;
    let rows: Vec<serde_json::Value> = runs
        .iter()
        .map(|(task, run)| {
            serde_json::json!({"began_at": run.began_at, "dataset": run.dataset, "researcher": run.researcher,
                "state": run.state, "study": run.study, "task": task, "why": run.why})
        })
        .collect();
    output.result(&serde_json::json!({"halted": view.halted()?, "tasks": rows}), || {
        if runs.is_empty() {
            return String::from("No task has reached this node.");
        }
        let rows = runs.iter().map(|(task, run)| {
            let fields = [&run.study, &run.dataset, &run.researcher].map(ToString::to_string);
            [
                vec![task.short(), run.began_at.to_string(), run.state.to_string()],
                fields.to_vec(),
                vec![run.why.clone()],
            ]
            .concat()
        });
        table(&["task", "began", "state", "study", "dataset", "researcher", "remark"], rows)
    })
}

fn outbox(home: &Path, last: usize, output: &Output) -> Result<(), Failure> {
    let journal = open_view(home)?.journal()?;
    let shown = journal.iter().skip(journal.len().saturating_sub(last));
    let values: Vec<serde_json::Value> = shown
        .clone()
        .map(|(record, sent)| {
            serde_json::json!({"kind": record.kind, "made_at": record.made_at, "message": record.call, "sent": sent,
                "task": record.task, "words": record.words})
        })
        .collect();
    output.result(&serde_json::json!({"outbox": values, "total": journal.len()}), || {
        let rows = shown.map(|(record, sent)| {
            let task = record.task.map_or_else(String::new, |task| task.short());
            let sent = if *sent { "sent" } else { "waiting" };
            vec![record.made_at.to_string(), sent.to_owned(), record.kind.clone(), task, record.words.clone()]
        });
        table(&["made", "", "what", "task", "in words"], rows)
    })
}
