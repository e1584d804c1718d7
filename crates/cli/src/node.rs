//! `cohortium node`: make a node, run it, add datasets and people, see what it does, what it waits for and what leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_api::Connection;
use cohortium_messages::{
    Agreement, Author, Call, Decimal, Entry, Envelope, Fact, Hash, Name, PersonEntry, Task, Timestamp,
};
use cohortium_node::home::Home;
use cohortium_node::view::View;
use cohortium_node::{AccessRecord, NodeError, RunRecord, RunState, TakenIn, service};
use cohortium_policy::words::counted;
use serde::Serialize;

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

/// A task in the list, with what decides where it stands there.
struct Listed {
    hash: Hash,
    held: bool,
    run: RunRecord,
    /// Until when people can still act, where they are waited for.
    until: Option<Timestamp>,
    /// What is waited for, or how it ended, for people.
    why: String,
}

impl Listed {
    fn all(view: &View, here: &Name) -> Result<Vec<Self>, Failure> {
        let held = view.held()?;
        let mut versions = BTreeMap::new();
        for (agreement, envelope) in view.versions()? {
            versions.insert(envelope.peek::<Agreement>().map_err(Failure::own)?.hash(), agreement);
        }
        let mut all = Vec::new();
        for (hash, run) in view.runs()? {
            let held = held.iter().find(|(of, _)| *of == hash).map(|(_, held)| held);
            let task = run.task.peek::<Task>().map_err(Failure::own)?;
            let agreement = versions.get(&task.claims().plan.agreement);
            let until = agreement.and_then(|agreement| match held {
                Some(held) => Some(show::held_until(agreement, held)),
                None => (run.state == RunState::Waiting).then(|| show::waits_until(agreement, &run)),
            });
            let why = agreement.map(|agreement| show::why_here(&agreement.parties, here, &run));
            all.push(Self { hash, held: held.is_some(), why: why.unwrap_or_else(|| run.why.clone()), run, until });
        }
        all.sort_by_key(Self::urgency);
        Ok(all)
    }

    /// What is held back comes first: rows were read for it, and its time runs. Then what waits for a yes or a no.
    fn urgency(&self) -> u8 {
        match (self.held, self.run.state) {
            (true, _) => 0,
            (false, RunState::Waiting) => 1,
            (false, _) => 2,
        }
    }

    fn value(&self) -> serde_json::Value {
        let run = &self.run;
        serde_json::json!({"alarms": run.alarms, "began_at": run.began_at, "dataset": run.dataset, "held": self.held,
            "researcher": run.researcher, "state": run.state, "study": run.study, "task": self.hash,
            "waits_until": self.until, "why": run.why})
    }

    fn row(&self) -> Vec<String> {
        let run = &self.run;
        let state = if self.held { String::from("held") } else { show::state_in_words(run.state) };
        let alarms = match (run.alarms.is_empty(), run.why.is_empty()) {
            (true, _) => "",
            (false, true) => "NOTICED, see `node show`",
            (false, false) => "NOTICED, see `node show`; ",
        };
        let left = self.until.map_or_else(String::new, show::left_in_words);
        let begun = vec![self.hash.short(), run.began_at.to_string(), state, left];
        let fields = [&run.study, &run.dataset, &run.researcher].map(ToString::to_string);
        [begun, fields.to_vec(), vec![format!("{alarms}{}", plain(&self.why))]].concat()
    }
}

fn tasks(home: &Path, output: &Output) -> Result<(), Failure> {
    let view = open_view(home)?;
    let house = node_home(home)?;
    let listed = Listed::all(&view, &house.connection()?.name)?;
    let aside = aside(&house)?;
    let halted = view.halted()?;
    let rows: Vec<serde_json::Value> = listed.iter().map(Listed::value).collect();
    let value = serde_json::json!({"halted": halted, "refused_on_desk": aside, "tasks": rows});
    output.result(&value, || {
        let mut text = String::new();
        if let Some(why) = halted {
            text.push_str(&format!("THIS NODE HAS STOPPED believing the hub: {}\n", plain(&why)));
        }
        for (urgency, what) in [(0, "held back until somebody here lets it out"), (1, "waiting for people here")] {
            let mut such = listed.iter().filter(|listed| listed.urgency() == urgency);
            if let Some(first) = such.next() {
                let number = u32::try_from(such.count()).unwrap_or(u32::MAX).saturating_add(1);
                let show = command_line(&["--home", &shown(home), "node", "show", &first.hash.short()]);
                text.push_str(&format!("{} {what}. To look at the first:\n  {show}\n", counted(number, "task")));
            }
        }
        if listed.is_empty() {
            text.push_str("No task has reached this node.");
        } else {
            let headings = ["task", "began", "state", "time left", "study", "dataset", "researcher", "remark"];
            text.push_str(&table(&headings, listed.iter().map(Listed::row)));
        }
        text.push_str(&aside_in_words(&aside, home));
        text
    })
}

/// Something that the node has not acted on, and why.
#[derive(Serialize)]
struct Aside {
    at: Option<Timestamp>,
    file: PathBuf,
    /// Who says what; nothing where it is no entry.
    said: Option<String>,
    why: String,
}

/// What the node has put aside, the newest first.
fn aside(node: &Home) -> Result<Vec<Aside>, Failure> {
    let mut aside: Vec<Aside> = Vec::new();
    for (file, why) in node.refused_on_desk()? {
        let said = desk::Said::in_file(&file);
        aside.push(Aside { at: said.as_ref().map(desk::Said::at), file, said: said.map(|said| said.in_words()), why });
    }
    aside.sort_by_key(|aside| std::cmp::Reverse(aside.at));
    Ok(aside)
}

/// How many refused items of the desk are shown: the newest.
const MAX_ASIDE: usize = 3;

fn aside_in_words(aside: &[Aside], home: &Path) -> String {
    if aside.is_empty() {
        return String::new();
    }
    let mut text = String::from(
        "\n\nSaid at the desk and not acted on, the newest first (mend what is said, and say it again):\n",
    );
    for Aside { file, said, why, .. } in aside.iter().take(MAX_ASIDE) {
        let what = said.as_ref().map_or_else(|| format!("{} is no entry", file.display()), |said| plain(said));
        text.push_str(&format!("  {what}\n    {}\n", plain(why)));
    }
    if let Some(more) = aside.len().checked_sub(MAX_ASIDE).filter(|more| *more > 0) {
        text.push_str(&format!("  and {more} more.\n"));
    }
    let folder = home.join("desk").join("refused");
    text.push_str(&format!("Read? Then clear them away: rm {}/*", folder.display()));
    text
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
        let mut text =
            String::from("Made, paid for, and held back until a person lets it out; look with `node show` before:\n");
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
        if let Some(why) = desk::standstill(&view, &agreement.study)? {
            stopped.push((agreement.study.clone(), why));
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
        let is_claimed = records.iter().any(|record| record.who.ends_with(CLAIMED));
        let rows = records.iter().map(|record| {
            let [who, what, outcome] = accessed(record).map(|text| plain(&text));
            vec![record.at.to_string(), who, what, outcome]
        });
        let mut text = table(&["when", "who", "what", "outcome"], rows);
        if is_claimed {
            text.push_str(
                "\n(claimed): so says what came; whether it was really theirs was checked after this was written.",
            );
        }
        text
    })
}

/// How a record says that nobody had checked yet who speaks.
const CLAIMED: &str = "(claimed)";

/// Who did what with which outcome. The shares of a round are what lets this node read: it reads, and not the hub.
fn accessed(record: &AccessRecord) -> [String; 3] {
    let AccessRecord { outcome, what, who, .. } = record;
    match what.strip_prefix("rows for task ") {
        Some(task) if outcome == "taken in" => {
            let told = format!("{who} brought all members' shares");
            [String::from("this node"), format!("read its rows for task {task}"), told]
        }
        Some(task) => [String::from("this node"), format!("did not read its rows for task {task}"), outcome.clone()],
        None => [who.clone(), what.clone(), outcome.clone()],
    }
}

fn outbox(home: &Path, last: usize, output: &Output) -> Result<(), Failure> {
    let journal = open_view(home)?.journal()?;
    let shown = journal.iter().skip(journal.len().saturating_sub(last));
    let values: Vec<serde_json::Value> = shown
        .clone()
        .map(|(record, sent)| {
            serde_json::json!({"kind": record.kind, "made_at": record.made_at, "message": record.call,
                "refused": record.refused,
                "sent": *sent && record.withdrawn.is_none() && record.refused.is_none(), "task": record.task, "withdrawn": record.withdrawn,
                "words": record.words})
        })
        .collect();
    output.result(&serde_json::json!({"outbox": values, "total": journal.len()}), || {
        let rows = shown.map(|(record, sent)| {
            let task = record.task.map_or_else(String::new, |task| task.short());
            let (sent, words) = match (&record.withdrawn, &record.refused, *sent) {
                (Some(_), ..) => ("did not leave", record.words.clone()),
                (None, Some(why), _) => {
                    ("refused", format!("{}; the hub refused it for good: {}", record.words, plain(why)))
                }
                (None, None, true) => ("sent", record.words.clone()),
                (None, None, false) => ("waiting", record.words.clone()),
            };
            vec![record.made_at.to_string(), sent.to_owned(), record.kind.clone(), task, words]
        });
        table(&["made", "", "what", "task", "in words"], rows)
    })
}
