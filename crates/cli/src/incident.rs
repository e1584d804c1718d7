//! `cohortium incident`: from the moment a privacy officer becomes aware until it is over, with what must be handed over.
//!
//! Each step is a signed entry in the node's own log with a record beside it (`messages::IncidentRecord`); what is shown and
//! exported is read back from that log (`audit::incident`), never from notes beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use cohortium_audit::{ExportError, ExportedIncident, House, Incident, export_incident};
use cohortium_messages::{
    Envelope, Fact, Hash, IncidentRecord, IncidentStep, Name, Notification, Purpose, Timestamp, canonical_bytes,
};
use cohortium_node::service::now;
use cohortium_node::view::View;

use crate::desk::{self, Desk, Heard, demand_role, say_freeze, waiting};
use crate::federation::Federation;
use crate::output::{Failure, Output, plain, table};
use crate::person::Speaker;
use crate::query;
use crate::session::{Session, node_home, open_view};
use crate::show::left_in_words;

#[derive(Subcommand)]
pub enum Command {
    /// Write down that somebody became aware of something: the 72 hours of GDPR Art. 33 begin
    Open {
        /// A name for it
        incident: Name,
        /// The study
        #[arg(long)]
        study: Name,
        /// What happened
        #[arg(long)]
        what: String,
        /// When somebody became aware, UTC, such as 2026-11-22T08:30:00Z (default: now)
        #[arg(long, value_name = "TIME")]
        aware_at: Option<Timestamp>,
        #[command(flatten)]
        known: Known,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Stop the study at this node because of it, and write that down
    Freeze {
        /// The incident
        incident: Name,
        /// Why
        #[arg(long)]
        why: String,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Write down what was done about it, or what is known by now
    Action {
        /// The incident
        incident: Name,
        /// What was done
        #[arg(long)]
        what: String,
        #[command(flatten)]
        known: Known,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Write down that it is over
    Close {
        /// The incident
        incident: Name,
        /// How it ended
        #[arg(long)]
        what: String,
        #[command(flatten)]
        known: Known,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Write a folder with what may be asked for: entries with proofs, records, agreements, answers, a draft notification
    Export {
        /// The incident
        incident: Name,
        /// The folder to write; it must not exist
        #[arg(long)]
        out: PathBuf,
        /// A copy of the hub's log, to list the answers that left
        #[arg(long)]
        hub_log: Option<PathBuf>,
    },
    /// All incidents of this house
    List,
    /// Play one through, in a running sandbox with people, against the clock
    Drill {
        /// The sandbox's folder
        dir: PathBuf,
    },
}

/// What is known for a notification by Art. 33(3). What is not given stays as it was.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct Known {
    /// Nature of the breach
    #[arg(long)]
    nature: Option<String>,
    /// Categories of data subjects, and about how many
    #[arg(long)]
    people: Option<String>,
    /// Categories of records, and about how many
    #[arg(long)]
    records: Option<String>,
    /// Name and contact of the data protection officer
    #[arg(long)]
    contact: Option<String>,
    /// Likely consequences
    #[arg(long)]
    consequences: Option<String>,
    /// Measures taken or proposed
    #[arg(long)]
    measures: Option<String>,
}

impl From<Known> for Notification {
    fn from(known: Known) -> Self {
        let Known { nature, people, records, contact, consequences, measures } = known;
        Self { consequences, contact, measures, nature, people, records }
    }
}

/// How often the node's own log is read again that changes under our hands, and both logs: the newest head of the hub's may
/// still be on its way to be cosigned.
const TRIES: (u32, u32) = (5, 150);
/// How long a drill waits for the node to have the agreement.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn run(command: Command, home: Option<&Path>, output: &Output) -> Result<(), Failure> {
    let home = match (&command, home) {
        (Command::Drill { dir }, _) => return drill(dir, output).await,
        (_, Some(home)) => home,
        (_, None) => return Err(Failure::usage("say whose incident: --home with the node's folder")),
    };
    match command {
        Command::Open { incident, study, what, aware_at, known, speaker } => {
            if all(home)?.iter().any(|other| other.incident == incident) {
                return Err(Failure::usage(format!(
                    "there is an incident `{incident}` already: give this one another name"
                )));
            }
            let aware_at = aware_at.unwrap_or_else(now);
            let record = IncidentRecord {
                aware_at: Some(aware_at),
                incident,
                notification: known.into(),
                step: IncidentStep::Open,
                study,
                what,
            };
            step(home, record, &speaker, output).await
        }
        Command::Action { incident, what, known, speaker } => {
            let record = later(home, &incident, IncidentStep::Action, what, known)?;
            step(home, record, &speaker, output).await
        }
        Command::Close { incident, what, known, speaker } => {
            let record = later(home, &incident, IncidentStep::Close, what, known)?;
            step(home, record, &speaker, output).await
        }
        Command::Freeze { incident, why, speaker } => {
            let record = later(
                home,
                &incident,
                IncidentStep::Action,
                format!("the study was stopped here: {why}"),
                Known::default(),
            )?;
            let desk = Desk::open(home, &speaker)?;
            let laid = say_freeze(&desk, &record.study, &why, true)?;
            waiting(&laid, output).await?;
            step(home, record, &speaker, output).await
        }
        Command::Export { incident, out, hub_log } => export(home, &incident, hub_log.as_deref(), &out, output),
        Command::List => list(home, output),
        Command::Drill { .. } => Ok(()),
    }
}

/// A step of an incident that is open.
fn later(
    home: &Path,
    incident: &Name,
    step: IncidentStep,
    what: String,
    known: Known,
) -> Result<IncidentRecord, Failure> {
    let all = all(home)?;
    let found = all.iter().find(|other| other.incident == *incident).ok_or_else(|| {
        let names: Vec<&str> = all.iter().map(|other| other.incident.as_str()).collect();
        Failure::usage(format!("there is no incident `{incident}` here (there are: {})", names.join(", ")))
    })?;
    if found.over {
        return Err(Failure::usage(format!("incident `{incident}` is over: open another")));
    }
    let study = found.study.clone();
    Ok(IncidentRecord { aware_at: None, incident: incident.clone(), notification: known.into(), step, study, what })
}

/// Signs a step, lays it on the desk and says what it means.
async fn step(home: &Path, record: IncidentRecord, speaker: &Speaker, output: &Output) -> Result<(), Failure> {
    let desk = Desk::open(home, speaker)?;
    let laid = say(&desk, &record)?;
    let heard = waiting(&laid, output).await?;
    let (incident, study) = (&record.incident, &record.study);
    let value = serde_json::json!({"desk": heard, "incident": incident, "step": record.step, "study": study,
        "deadline": record.aware_at.map(IncidentRecord::deadline)});
    output.result(&value, || {
        let done = match heard {
            Heard::Acted => "It stands in this node's own log.",
            Heard::Waits => "It lies on the node's desk and stands in its log as soon as the node runs.",
        };
        let next = match (record.step, record.aware_at) {
            (IncidentStep::Open, Some(aware_at)) => {
                let deadline = IncidentRecord::deadline(aware_at);
                format!(
                    " If people are at risk, the authority must be told by {deadline}: {} left.\nNext: `incident freeze {incident}` \
                     stops the study here, `incident action {incident}` writes down what is done and known, `incident export \
                     {incident} --out DIR` drafts the notification.",
                    left_in_words(deadline)
                )
            }
            (IncidentStep::Close, _) => format!(
                " If the study stands still here, a privacy officer sets it going again: `node unfreeze {study}`."
            ),
            _ => String::new(),
        };
        format!("Written down for incident {incident}. {done}{next}")
    })
}

fn say(desk: &Desk, record: &IncidentRecord) -> Result<desk::Laid, Failure> {
    let (agreement, hash) = desk.in_force(&record.study)?;
    desk.demand_named(&agreement)?;
    demand_role(desk, &agreement, cohortium_messages::Role::may_unfreeze, "lead an incident")?;
    let body = Envelope::sign(record, &desk.person.secrets.key).map_err(Failure::usage)?;
    let (incident, step) = (record.incident.clone(), record.step);
    let fact = Fact::Incident { body: Hash::of(&canonical_bytes(&body).map_err(Failure::own)?), incident, step };
    desk.say((hash, &record.study), fact, Some(body))
}

/// All incidents in a node's own log, which may grow while it is read.
fn all(home: &Path) -> Result<Vec<Incident>, Failure> {
    with_house(home, TRIES.0, |house| house.incidents())?.map_err(Failure::not_verified)
}

/// Looks at a house's own log, again if it changed under our hands.
fn with_house<T, E>(
    home: &Path,
    tries: u32,
    look: impl Fn(&House<'_>) -> Result<T, E>,
) -> Result<Result<T, E>, Failure> {
    let node = node_home(home)?;
    let view: View = open_view(home)?;
    let agreements: Vec<Envelope> = view.versions()?.into_iter().map(|(_, envelope)| envelope).collect();
    if agreements.is_empty() {
        return Err(Failure::not_ready("this node has no agreement yet: people are named by one"));
    }
    let (log, organisation) = (node.log_dir(), node.connection()?.name);
    let house = House { agreements: &agreements, log: &log, organisation: &organisation };
    let mut left = tries;
    loop {
        left = left.saturating_sub(1);
        match look(&house) {
            Err(_) if left > 0 => std::thread::sleep(Duration::from_millis(100)),
            done => return Ok(done),
        }
    }
}

fn list(home: &Path, output: &Output) -> Result<(), Failure> {
    let all = all(home)?;
    output.result(&serde_json::json!({ "incidents": all }), || {
        if all.is_empty() {
            return String::from("No incident is written down here.");
        }
        let rows = all.iter().map(|incident| {
            let last = incident.steps.last().map_or_else(String::new, |step| plain(&step.what));
            let stands = if incident.over { String::from("over") } else { left_in_words(incident.deadline) };
            let [name, study, aware, steps] = [
                incident.incident.to_string(),
                incident.study.to_string(),
                incident.aware_at.to_string(),
                incident.steps.len().to_string(),
            ];
            vec![name, study, aware, stands, steps, last]
        });
        table(&["incident", "study", "aware since", "of the 72 hours", "steps", "last"], rows)
    })
}

fn export(home: &Path, incident: &Name, hub_log: Option<&Path>, out: &Path, output: &Output) -> Result<(), Failure> {
    let exported = {
        let _progress = output.progress("checking the logs, then writing");
        write_export(home, incident, hub_log, out)?
    };
    output.result(&exported, || exported_in_words(&exported, out))
}

fn write_export(home: &Path, incident: &Name, hub_log: Option<&Path>, out: &Path) -> Result<ExportedIncident, Failure> {
    if out.exists() {
        return Err(Failure::usage(format!("{} is there already: name a new folder with --out", out.display())));
    }
    if !all(home)?.iter().any(|known| known.incident == *incident) {
        return Err(Failure::usage(format!("there is no incident `{incident}` here: `incident list` shows them")));
    }
    let tries = if hub_log.is_some() { TRIES.1 } else { TRIES.0 };
    let exported = with_house(home, tries, |house| export_incident(house, hub_log, incident, out))?;
    exported.map_err(|error| match error {
        ExportError::Folder { .. } | ExportError::NoRelease { .. } => Failure::usage(error),
        ExportError::Internal(_) => Failure::own(error),
        ExportError::Audit(_) | ExportError::Contradicted { .. } => Failure::not_verified(error),
    })
}

fn exported_in_words(exported: &ExportedIncident, out: &Path) -> String {
    let answers = match exported.answers {
        None => String::from("The hub's log was not at hand (--hub-log): the answers that left are not listed."),
        Some(number) => format!("{number} answers of the study are listed."),
    };
    let missing = if exported.missing.is_empty() {
        String::from("Every field of Art. 33(3) is stated.")
    } else {
        format!("Still to be stated: {}.", exported.missing.join("; "))
    };
    format!(
        "Wrote {} files to {}; the draft of the notification is notification.md. {answers} {missing}",
        exported.files,
        out.display()
    )
}

/// Plays an incident in a sandbox: what a privacy officer would do in the first hour, and that each step has its effect.
async fn drill(dir: &Path, output: &Output) -> Result<(), Failure> {
    let federation = Federation::open(dir)?;
    if !federation.facts().people || !federation.is_running() {
        return Err(Failure::usage(format!(
            "a drill needs a running sandbox with people: `sandbox new {0} --people`, then `sandbox start {0}`",
            dir.display()
        )));
    }
    let (began, study) = (Instant::now(), federation.facts().study.clone());
    let first = federation.facts().organisations.first().ok_or_else(|| Failure::own("no organisation"))?;
    let home = federation.node(first).dir().to_owned();
    // A sandbox that was started a moment ago: its node fetches the agreement first.
    while open_view(&home)?.agreements()?.is_empty() && began.elapsed() < PATIENCE {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let desk = Desk::open(&home, &Speaker { person: federation.person(first, "paula") })?;
    let mut done: Vec<serde_json::Value> = Vec::new();
    let mut note = |what: String| {
        let at_s = began.elapsed().as_secs_f64();
        output.say(format!("{at_s:6.1} s  {what}"));
        done.push(serde_json::json!({"at_s": at_s, "what": what}));
    };
    let incident = drill_name(&home)?;
    let record = |step, aware_at, what: &str, notification| IncidentRecord {
        aware_at,
        incident: incident.clone(),
        notification,
        step,
        study: study.clone(),
        what: what.to_owned(),
    };
    let nothing = Notification::default;
    let opened = record(IncidentStep::Open, Some(now()), "Drill: a researcher's laptop was stolen.", nothing());
    acted(&say(&desk, &opened)?, output).await?;
    note(format!("paula of {first} opened incident {incident}; the 72 hours run"));
    acted(&say_freeze(&desk, &study, "drill: a researcher's laptop was stolen", true)?, output).await?;
    note(format!("study {study} stands still at {first}"));
    let refused = refused_while_frozen(&federation).await?;
    note(format!("a question of ada was refused: {refused}"));
    let known = Notification {
        measures: Some(String::from("The study was stopped; the key is being taken back.")),
        nature: Some(String::from("Drill: theft of a laptop with a researcher's key.")),
        ..Notification::default()
    };
    acted(
        &say(&desk, &record(IncidentStep::Action, None, "Drill: asked ada which questions are hers.", known))?,
        output,
    )
    .await?;
    note(String::from("what was done and is known is written down"));
    let out = dir.join(format!("incident-{incident}"));
    let exported = write_export(&home, &incident, Some(&federation.hub().log_dir()), &out)?;
    note(exported_in_words(&exported, &out));
    acted(&say(&desk, &record(IncidentStep::Close, None, "Drill: over.", nothing()))?, output).await?;
    acted(&say_freeze(&desk, &study, "drill: over", false)?, output).await?;
    note(format!("closed; study {study} goes on at {first}"));
    let value = serde_json::json!({"exported": exported, "incident": incident, "out": out, "steps": done});
    output.result(&value, || {
        format!(
            "The drill is over. Look at {}/notification.md, and at `{}`.",
            out.display(),
            crate::sandbox::command_line(&["--home", &crate::sandbox::shown(&home), "incident", "list"])
        )
    })
}

/// A name that no drill had before.
fn drill_name(home: &Path) -> Result<Name, Failure> {
    let all = all(home)?;
    let mut names = (1..=10_000).filter_map(|number| Name::new(format!("drill-{number}")).ok());
    let free = names.find(|name| all.iter().all(|known| known.incident != *name));
    free.ok_or_else(|| Failure::usage("ten thousand drills are enough"))
}

async fn acted(laid: &desk::Laid, output: &Output) -> Result<(), Failure> {
    match waiting(laid, output).await? {
        Heard::Acted => Ok(()),
        Heard::Waits => Err(Failure::not_ready("the node did not act on its desk in time: see logs/ in the sandbox")),
    }
}

/// Asks a question that must be refused because a node stands still; gives the reason.
async fn refused_while_frozen(federation: &Federation) -> Result<String, Failure> {
    let session = Session::open(&federation.researcher())?;
    let study = federation.facts().study.clone();
    let agreement = session.agreement(&study).await?;
    let dataset = federation.facts().datasets.first().ok_or_else(|| Failure::own("no dataset"))?;
    let arguments = query::Arguments {
        sql: format!("SELECT COUNT(*) FROM {dataset}"),
        study,
        epsilon: None,
        purpose: Purpose::HealthMedicalBiomedical,
        dry_run: false,
        // Another draw each time: a stored answer would be given while the study stands still, for it has left already.
        draw: u32::try_from(now().seconds() % 1_000_000_000).unwrap_or(1),
    };
    let priced = query::price(&arguments, &agreement)?;
    match query::ask(&session, &agreement, &priced, &arguments, |_| {}).await {
        Err(failure) if failure.clauses().iter().any(|clause| clause.ends_with("/frozen")) => {
            Ok(failure.message().to_owned())
        }
        Err(failure) => Err(failure),
        Ok(_) => Err(Failure::own("the question was answered though the study stands still: tell the developers")),
    }
}
