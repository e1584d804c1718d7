//! `cohortium node`: make a node, run it, add datasets and people, see what it does, what it waits for and what leaves.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_api::Connection;
use cohortium_messages::{Agreement, Author, Call, Decimal, Entry, Envelope, Fact, Hash, Name, PersonEntry};
use cohortium_node::home::Home;
use cohortium_node::{HeldRecord, NodeError, RunRecord, RunState, TakenIn, service};

use crate::dataset::{self, Declaration, Total};
use crate::hub::read_invitation;
use crate::output::{Failure, Output, plain, table};
use crate::sandbox::{command_line, shown};
use crate::session::{Session, fingerprint, node_home, open_view};
use crate::{desk, person, show};

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
    /// The tasks that reached this node: those that wait for people first
    Tasks,
    /// All that is needed to say yes or no to one task, in plain words
    Show {
        /// The task: its hash, or enough of its first digits
        task: String,
    },
    #[command(flatten)]
    Desk(desk::Command),
    /// Everything that left this node or will leave it, in plain words
    Outbox {
        /// Show only the last so many
        #[arg(long, default_value_t = 50)]
        last: usize,
        /// Show what is held back until a person lets it out
        #[arg(long)]
        held: bool,
    },
    /// People who act for this organisation
    #[command(subcommand)]
    Person(PersonCommand),
    /// What this node noticed and a person should look at
    Alerts,
    /// Who asked for or changed what at this node
    Access {
        /// Show only the last so many
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
}

#[derive(Subcommand)]
pub enum PersonCommand {
    /// Take in somebody's own file, so that agreements can name them; tells the hub
    Add {
        /// What `person init` wrote
        file: PathBuf,
        /// In the place of another key or role of that name
        #[arg(long)]
        replace: bool,
    },
    /// Who acts for this organisation, with the fingerprints that agreements name
    List,
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
        Command::Show { task } => show::run(home, &task, output),
        Command::Desk(command) => desk::run(command, home, output).await,
        Command::Outbox { held: true, .. } => held(home, output),
        Command::Outbox { last, held: false } => outbox(home, last, output),
        Command::Person(PersonCommand::Add { file, replace }) => add_person(home, &file, replace, output).await,
        Command::Person(PersonCommand::List) => people(home, output),
        Command::Alerts => alerts(home, output),
        Command::Access { last } => access(home, last, output),
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

async fn add_person(home: &Path, file: &Path, replace: bool, output: &Output) -> Result<(), Failure> {
    let session = Session::open(home)?;
    let node = node_home(home)?;
    let (person, taken) = take_in(&session, &node, &person::read_entry(file)?, replace).await?;
    let fingerprint = fingerprint(&person)?;
    let value = serde_json::json!({"fingerprint": fingerprint, "person": person.person, "role": person.role,
        "replaced": taken == TakenIn::Replaced});
    output.result(&value, || {
        let how = match taken {
            TakenIn::Known => "was taken in before",
            TakenIn::New => "is taken in",
            TakenIn::Replaced => "is taken in, in the place of another of that name",
        };
        format!(
            "{} ({}) {how}, and the hub knows.\nFingerprint: {fingerprint}\nAsk {} whether theirs is the same. What they may do \
             follows from the next agreement or amendment that names them, and from nothing before.",
            person.person, person.role, person.person
        )
    })
}

/// Takes a person in, and tells the hub the whole list.
pub async fn take_in(
    session: &Session,
    node: &Home,
    entry: &Envelope,
    replace: bool,
) -> Result<(PersonEntry, TakenIn), Failure> {
    let taken = node.put_person(entry, replace).map_err(|error| match error {
        NodeError::Peer(why) => Failure::usage(why),
        NodeError::Own(why) => Failure::own(why),
    })?;
    session.call(Call::Staff { staff: node.staff(session.name())? }).await?;
    Ok(taken)
}

fn people(home: &Path, output: &Output) -> Result<(), Failure> {
    let node = node_home(home)?;
    let people = node.people()?;
    let held = if node.has_run() { open_view(home)?.agreements()? } else { Vec::new() };
    let organisation = node.connection()?.name;
    let mut rows = Vec::new();
    for entry in &people {
        let named = |agreement: &Agreement| agreement.person(&organisation, &entry.person) == Some(entry);
        let studies: Vec<String> = held
            .iter()
            .filter(|(agreement, _)| named(agreement))
            .map(|(agreement, _)| agreement.study.to_string())
            .collect();
        rows.push((entry, fingerprint(entry)?, studies));
    }
    let values: Vec<serde_json::Value> = rows
        .iter()
        .map(|(entry, fingerprint, studies)| {
            serde_json::json!({"fingerprint": fingerprint, "person": entry.person, "role": entry.role, "studies": studies})
        })
        .collect();
    output.result(&serde_json::json!({ "people": values }), || {
        if rows.is_empty() {
            return String::from(
                "Nobody acts for this organisation yet. Somebody makes a key with `person init`; take their file in with `node \
                 person add FILE`.",
            );
        }
        let rows = rows.iter().map(|(entry, fingerprint, studies)| {
            let studies = if studies.is_empty() { String::from("no agreement yet") } else { studies.join(", ") };
            vec![entry.person.to_string(), entry.role.to_string(), fingerprint.clone(), studies]
        });
        table(&["person", "role", "fingerprint", "named in"], rows)
    })
}

/// Where a run stands in the list: those that wait for people first, then what is held back, then the rest.
fn urgency(task: &Hash, run: &RunRecord, held: &[(Hash, HeldRecord)]) -> u8 {
    match run.state {
        RunState::Waiting => 0,
        _ if held.iter().any(|(of, _)| of == task) => 1,
        _ => 2,
    }
}

fn tasks(home: &Path, output: &Output) -> Result<(), Failure> {
    let view = open_view(home)?;
    let held = view.held()?;
    let versions = view.versions()?;
    let mut runs = view.runs()?;
    runs.sort_by_key(|(task, run)| urgency(task, run, &held));
    let refused = node_home(home)?.refused_on_desk()?;
    let until = |run: &RunRecord| {
        let agreement = versions.iter().rev().find(|(agreement, _)| agreement.study == run.study);
        let waits = run.state == RunState::Waiting;
        agreement.filter(|_| waits).map(|(agreement, _)| show::waits_until(agreement, run))
    };
    let rows: Vec<serde_json::Value> = runs
        .iter()
        .map(|(task, run)| {
            serde_json::json!({"alarms": run.alarms, "began_at": run.began_at, "dataset": run.dataset,
                "held": urgency(task, run, &held) == 1, "researcher": run.researcher, "state": run.state,
                "study": run.study, "task": task, "waits_until": until(run), "why": run.why})
        })
        .collect();
    let aside: Vec<serde_json::Value> =
        refused.iter().map(|(file, why)| serde_json::json!({"file": file, "why": why})).collect();
    let value = serde_json::json!({"halted": view.halted()?, "refused_on_desk": aside, "tasks": rows});
    let halted = view.halted()?;
    output.result(&value, || {
        let mut text = String::new();
        if let Some(why) = halted {
            text.push_str(&format!("THIS NODE HAS STOPPED believing the hub: {}\n", plain(&why)));
        }
        let waiting: Vec<&Hash> =
            runs.iter().filter(|(_, run)| run.state == RunState::Waiting).map(|(task, _)| task).collect();
        if let Some(first) = waiting.first() {
            let show = command_line(&["--home", &shown(home), "node", "show", &first.short()]);
            text.push_str(&format!("{} for people here. To look at the first:\n  {show}\n", tasks_wait(waiting.len())));
        }
        if runs.is_empty() {
            text.push_str("No task has reached this node.");
        } else {
            let rows = runs.iter().map(|(task, run)| {
                let fields = [&run.study, &run.dataset, &run.researcher].map(ToString::to_string);
                let left = until(run).map_or_else(String::new, show::left_in_words);
                let state = if urgency(task, run, &held) == 1 { String::from("held") } else { run.state.to_string() };
                let alarms = match (run.alarms.is_empty(), run.why.is_empty()) {
                    (true, _) => "",
                    (false, true) => "NOTICED, see `node show`",
                    (false, false) => "NOTICED, see `node show`; ",
                };
                let begun = vec![task.short(), run.began_at.to_string(), state, left];
                [begun, fields.to_vec(), vec![format!("{alarms}{}", plain(&run.why))]].concat()
            });
            let headings = ["task", "began", "state", "time left", "study", "dataset", "researcher", "remark"];
            text.push_str(&table(&headings, rows));
        }
        for (file, why) in refused.iter().rev().take(5) {
            text.push_str(&format!("\nNot acted on: {}: {}", file.display(), plain(why)));
        }
        text
    })
}

fn tasks_wait(number: usize) -> String {
    if number == 1 { String::from("1 task waits") } else { format!("{number} tasks wait") }
}

/// What is made and waits for a person to let it out.
fn held(home: &Path, output: &Output) -> Result<(), Failure> {
    let held = open_view(home)?.held()?;
    let values: Vec<serde_json::Value> = held
        .iter()
        .map(|(task, held)| {
            serde_json::json!({"kind": held.record.kind, "made_at": held.record.made_at, "message": held.message,
                "task": task, "words": held.record.words})
        })
        .collect();
    output.result(&serde_json::json!({ "held": values }), || {
        if held.is_empty() {
            return String::from("Nothing is held back.");
        }
        let mut text = String::from("Made, paid for, and held back until a steward or privacy officer lets it out:\n");
        for (task, held) in &held {
            let command =
                command_line(&["--home", &shown(home), "node", "dispatch", &task.short(), "--as", "YOUR_FOLDER"]);
            text.push_str(&format!(
                "Task {}, made {}\n  what       {}\n  in words   {}\n  message    {}\n  let it out {command}\n",
                task.short(),
                held.record.made_at,
                held.record.kind,
                plain(&held.record.words),
                held.message
            ));
        }
        text
    })
}

/// Alerts, evidence against logs of others, what others told, and which studies stand still.
fn alerts(home: &Path, output: &Output) -> Result<(), Failure> {
    let view = open_view(home)?;
    let (alerts, evidence) = (view.alerts()?, view.evidence()?);
    let ours = Author::Node(node_home(home)?.connection()?.name);
    let mut stopped = Vec::new();
    let mut news = Vec::new();
    for (agreement, _) in view.agreements()? {
        if let Some(stop) = view.stopped(&agreement.study)? {
            stopped.push((agreement.study.clone(), format!("{} on {}", stop.why, stop.since)));
        }
        // The hub tells everybody, so it tells us what we said ourselves.
        let of_others = view.news(&agreement.study)?.into_iter().filter(|entry| entry.author != ours);
        news.extend(of_others);
    }
    let value = serde_json::json!({"alerts": alerts, "evidence": evidence, "news": news, "stopped": stopped});
    output.result(&value, || {
        let mut lines: Vec<String> =
            stopped.iter().map(|(study, why)| format!("STUDY {study} STANDS STILL HERE: {}", plain(why))).collect();
        for (log, evidence) in &evidence {
            let proven = if evidence.proven { "proven by its own signatures" } else { "not proven" };
            lines.push(format!("The log of {log}, {}: {} ({proven})", evidence.at, plain(&evidence.why)));
        }
        for (entry, whose) in
            alerts.iter().map(|entry| (entry, "here")).chain(news.iter().map(|entry| (entry, "elsewhere")))
        {
            lines.push(said(entry, whose));
        }
        if lines.is_empty() { String::from("Nothing was noticed.") } else { lines.join("\n") }
    })
}

/// An entry for people, on one line.
fn said(entry: &Entry, whose: &str) -> String {
    let what = match &entry.fact {
        Fact::Alert { froze, rule, task, why } => {
            let task = task.map_or_else(String::new, |task| format!(" about task {}", task.short()));
            let froze = if *froze { "; it stopped the study there" } else { "" };
            format!("alert {rule}{task}: {}{froze}", plain(why))
        }
        Fact::Freeze { frozen, why } => {
            format!("the study {} there: {}", if *frozen { "stands still" } else { "goes on" }, plain(why))
        }
        Fact::Revocation { why, .. } => format!("agreement or key taken back: {}", plain(why)),
        fact => fact.kind().to_owned(),
    };
    format!("{}  {whose}, study {}, {}: {what}", entry.time, entry.study, entry.author)
}

fn access(home: &Path, last: usize, output: &Output) -> Result<(), Failure> {
    let records = open_view(home)?.access(last)?;
    output.result(&serde_json::json!({ "access": records }), || {
        if records.is_empty() {
            return String::from("Nobody asked for or changed anything here.");
        }
        let rows = records
            .iter()
            .map(|record| vec![record.at.to_string(), plain(&record.who), plain(&record.what), plain(&record.outcome)]);
        table(&["when", "who", "what", "outcome"], rows)
    })
}

fn outbox(home: &Path, last: usize, output: &Output) -> Result<(), Failure> {
    let journal = open_view(home)?.journal()?;
    let shown = journal.iter().skip(journal.len().saturating_sub(last));
    let values: Vec<serde_json::Value> = shown
        .clone()
        .map(|(record, sent)| {
            serde_json::json!({"kind": record.kind, "made_at": record.made_at, "message": record.call,
                "sent": *sent && record.withdrawn.is_none(), "task": record.task, "withdrawn": record.withdrawn,
                "words": record.words})
        })
        .collect();
    output.result(&serde_json::json!({"outbox": values, "total": journal.len()}), || {
        let rows = shown.map(|(record, sent)| {
            let task = record.task.map_or_else(String::new, |task| task.short());
            let sent = match (&record.withdrawn, *sent) {
                (Some(_), _) => "did not leave",
                (None, true) => "sent",
                (None, false) => "waiting",
            };
            vec![record.made_at.to_string(), sent.to_owned(), record.kind.clone(), task, record.words.clone()]
        });
        table(&["made", "", "what", "task", "in words"], rows)
    })
}
