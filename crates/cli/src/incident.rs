//! `cohortium incident`: from the moment a privacy officer becomes aware until it is over, with what must be handed over.
//!
//! Each step is a signed entry in the node's own log with a record beside it (`messages::IncidentRecord`); what is shown and
//! exported is read back from that log (`audit::incident`), never from notes beside it.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use cohortium_audit::{AuditError, ExportError, ExportedIncident, House, HubLog, Incident, Incidents, export_incident};
use cohortium_messages::{
    Envelope, Fact, Hash, IncidentRecord, IncidentStep, Name, Notification, Purpose, Timestamp, canonical_bytes,
};
use cohortium_node::service::now;
use cohortium_node::view::View;

use crate::audit::export_failure;
use crate::desk::{self, Desk, Heard, demand_role, say_freeze, waiting};
use crate::federation::Federation;
use crate::output::{Failure, Output, plain, table};
use crate::person::Speaker;
use crate::query;
use crate::session::{Session, node_home, open_view};

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
        #[arg(long, value_parser = desk::reason)]
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
        #[arg(long, value_parser = desk::reason)]
        why: String,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Write down what was done about it, or what is known by now
    Action {
        /// The incident
        incident: Name,
        /// What was done
        #[arg(long, value_parser = desk::reason)]
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
        #[arg(long, value_parser = desk::reason)]
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
        #[command(flatten)]
        hub: HubFiles,
    },
    /// All incidents of this house
    List,
    /// Play one through, in a running sandbox with people, against the clock
    Drill {
        /// The sandbox's folder
        dir: PathBuf,
    },
}

/// The hub's log, for the questions and answers of the study.
#[derive(Debug, Clone, Default, clap::Args)]
pub struct HubFiles {
    /// A copy of the hub's log, to hand over the study's questions and answers
    #[arg(long)]
    hub_log: Option<PathBuf>,
    /// The first entry of the hub's log that is handed over
    #[arg(long, value_name = "ENTRY", default_value_t = 0, requires = "hub_log")]
    from: u64,
    /// The last entry of the hub's log that is handed over (default: all that are there)
    #[arg(long, value_name = "ENTRY", requires = "hub_log")]
    to: Option<u64>,
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
    /// When the authority was told, UTC, such as 2026-11-22T08:30:00Z
    #[arg(long, value_name = "TIME")]
    authority_at: Option<Timestamp>,
    /// When the people whose data it is were told (Art. 34), UTC
    #[arg(long, value_name = "TIME")]
    people_at: Option<Timestamp>,
    /// Why the authority is told later than within 72 hours, if it is
    #[arg(long, value_name = "REASON")]
    late: Option<String>,
}

impl From<Known> for Notification {
    fn from(known: Known) -> Self {
        let Known { nature, people, records, contact, consequences, measures, authority_at, people_at, late } = known;
        Self { authority_at, consequences, contact, late, measures, nature, people, people_at, records }
    }
}

/// How long a log is read again that changes under our hands: the node's own, and both. The newest head of the hub's may
/// still be on its way to be cosigned.
const LOG_PATIENCE: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));
/// However long reading takes, it is tried so often.
const TRIES: u32 = 3;
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
            if all(home)?.incidents.iter().any(|other| other.incident == incident) {
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
        Command::Export { incident, out, hub } => export(home, &incident, &hub, &out, output),
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
    let all = all(home)?.incidents;
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
    demand_past(&record, now())?;
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
                let at = now();
                let left = if at <= deadline {
                    format!("{} left", span(deadline.seconds().saturating_sub(at.seconds())))
                } else {
                    String::from("that is over, so tell it now and say why only now (`incident action`, --late)")
                };
                format!(
                    " If people are at risk, the authority must be told by {deadline}: {left}.\nNext: `incident freeze {incident}` \
                     stops the study here, `incident action {incident}` writes down what is done and known, `incident export \
                     {incident} --out DIR` drafts the notification; `incident action {incident} --authority-at TIME` writes down \
                     that the authority was told."
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

/// Refuses a time that has not come: 72 hours that begin tomorrow are too many, and nobody was told yet.
fn demand_past(record: &IncidentRecord, now: Timestamp) -> Result<(), Failure> {
    let known = &record.notification;
    let times = [("aware-at", record.aware_at), ("authority-at", known.authority_at), ("people-at", known.people_at)];
    match times.into_iter().find(|(_, time)| time.is_some_and(|time| time > now)) {
        Some((option, _)) => Err(Failure::usage(format!(
            "--{option} is in the future; by this machine's clock it is {now}: give the time at which it happened, in UTC"
        ))),
        None => Ok(()),
    }
}

/// How it stands with telling the authority.
fn notification(incident: &Incident, now: Timestamp) -> String {
    let past = |from: Timestamp, to: Timestamp| to.seconds().saturating_sub(from.seconds());
    match incident.notification.authority_at {
        Some(at) if at <= incident.deadline => format!("told {at}"),
        Some(at) => format!("told {at}, {} LATE", span(past(incident.deadline, at))),
        None if incident.over => String::from("closed"),
        None if now <= incident.deadline => format!("{} left", span(past(now, incident.deadline))),
        None => format!("DUE {} AGO", span(past(incident.deadline, now))),
    }
}

/// A span of time in a word, rounded down.
fn span(seconds: i64) -> String {
    if seconds >= 2 * 3600 { format!("{} h", seconds / 3600) } else { format!("{} min", seconds / 60) }
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

/// What a node's own log says of incidents, which may grow while it is read.
fn all(home: &Path) -> Result<Incidents, Failure> {
    with_house(home, LOG_PATIENCE.0, |house| Ok(house.incidents()?))
}

/// Looks at a house's own log, again if it changed under our hands: an error of anything but a log is final.
fn with_house<T>(
    home: &Path,
    patience: Duration,
    look: impl Fn(&House<'_>) -> Result<T, ExportError>,
) -> Result<T, Failure> {
    let node = node_home(home)?;
    let view: View = open_view(home)?;
    let agreements: Vec<Envelope> = view.versions()?.into_iter().map(|(_, envelope)| envelope).collect();
    if agreements.is_empty() {
        return Err(Failure::not_ready("this node has no agreement yet: people are named by one"));
    }
    let (log, organisation) = (node.log_dir(), node.connection()?.name);
    let house = House { agreements: &agreements, log: &log, organisation: &organisation };
    let (began, mut tries) = (Instant::now(), 0);
    loop {
        tries += 1;
        match look(&house) {
            Err(ExportError::Audit(AuditError::Log(_))) if tries < TRIES || began.elapsed() < patience => {
                std::thread::sleep(Duration::from_millis(100));
            }
            done => return done.map_err(export_failure),
        }
    }
}

fn list(home: &Path, output: &Output) -> Result<(), Failure> {
    let (all, at) = (all(home)?, now());
    output.result(&all, || {
        let rows = all.incidents.iter().map(|incident| {
            let last = incident.steps.last().map_or_else(String::new, |step| plain(&step.what));
            let stands = if incident.over { "closed" } else { "open" };
            let notification = notification(incident, at);
            let [name, study, aware, steps] = [
                incident.incident.to_string(),
                incident.study.to_string(),
                incident.aware_at.to_string(),
                incident.steps.len().to_string(),
            ];
            vec![name, study, aware, stands.to_owned(), notification, steps, last]
        });
        let listed = match all.incidents.as_slice() {
            [] => String::from("No incident is written down here."),
            _ => table(&["incident", "study", "aware since", "state", "notification", "steps", "last"], rows),
        };
        let passed_over = all
            .passed_over
            .iter()
            .map(|other| format!("\nEntry {} is passed over: {}", other.entry, plain(&other.why)));
        listed + &passed_over.collect::<String>()
    })
}

fn export(home: &Path, incident: &Name, hub: &HubFiles, out: &Path, output: &Output) -> Result<(), Failure> {
    let exported = {
        let _progress = output.progress("checking the logs, then writing");
        write_export(home, incident, hub, out)?
    };
    output.result(&exported, || exported_in_words(&exported, out))
}

fn write_export(home: &Path, incident: &Name, hub: &HubFiles, out: &Path) -> Result<ExportedIncident, Failure> {
    if out.exists() {
        return Err(Failure::usage(format!("{} is there already: name a new folder with --out", out.display())));
    }
    if !all(home)?.incidents.iter().any(|known| known.incident == *incident) {
        return Err(Failure::usage(format!("there is no incident `{incident}` here: `incident list` shows them")));
    }
    let log = hub.hub_log.as_deref().map(|dir| HubLog { dir, first: hub.from, last: hub.to.unwrap_or(u64::MAX) });
    let patience = if log.is_some() { LOG_PATIENCE.1 } else { LOG_PATIENCE.0 };
    with_house(home, patience, |house| export_incident(house, log.as_ref(), incident, out))
}

fn exported_in_words(exported: &ExportedIncident, out: &Path) -> String {
    let answers = match exported.answers {
        None => String::from(
            "The hub's log was not at hand (--hub-log): the answers that left are not listed. Ask the hub's operator for a copy of \
             the folder `log` in the hub's home.",
        ),
        Some(number) => format!("{number} answers of the study are listed."),
    };
    let missing = if exported.missing.is_empty() {
        String::from("Every field of Art. 33(3) is stated.")
    } else {
        format!("Still to be stated: {}.", exported.missing.join("; "))
    };
    let problems = match exported.problems {
        0 => String::new(),
        number => format!(" {number} entries could not be taken for what they say they are: see problems.json."),
    };
    format!(
        "Wrote {} files to {}; the draft of the notification is notification.md. {answers} {missing}{problems}\nSHA-256 of its \
         manifest, to be written down beside it:\n  {}",
        exported.files,
        out.display(),
        exported.manifest_sha256
    )
}

/// The stage of a drill: a house, and a person who leads.
struct Drill {
    began: Instant,
    desk: Desk,
    federation: Federation,
    first: Name,
    home: PathBuf,
    incident: Name,
    study: Name,
}

/// How far a drill went, for whoever must put things right.
#[derive(Default)]
struct Played {
    closed: bool,
    /// What was done when.
    done: Vec<serde_json::Value>,
    frozen: bool,
    opened: bool,
}

/// Plays an incident in a sandbox: what a privacy officer would do in the first hour, and that each step has its effect. A
/// step that fails ends it, and leaves the sandbox as it was found.
async fn drill(dir: &Path, output: &Output) -> Result<(), Failure> {
    let drill = Drill::open(dir).await?;
    let mut played = Played::default();
    let exported = match drill.play(dir, &mut played, output).await {
        Ok(exported) => exported,
        Err(failure) => return Err(drill.break_off(&played, output, failure).await),
    };
    let Drill { home, incident, .. } = &drill;
    let out = drill.out(dir);
    let value = serde_json::json!({"exported": exported, "incident": incident, "out": out, "steps": played.done});
    output.result(&value, || {
        format!(
            "The drill is over. Look at {}/notification.md, and at `{}`.",
            out.display(),
            crate::sandbox::command_line(&["--home", &crate::sandbox::shown(home), "incident", "list"])
        )
    })
}

impl Drill {
    async fn open(dir: &Path) -> Result<Self, Failure> {
        let federation = Federation::open(dir)?;
        if !federation.facts().people || !federation.is_running() {
            return Err(Failure::usage(format!(
                "a drill needs a running sandbox with people: `sandbox new {0} --people`, then `sandbox start {0}`",
                dir.display()
            )));
        }
        let (began, study) = (Instant::now(), federation.facts().study.clone());
        let first = federation.facts().organisations.first().ok_or_else(|| Failure::own("no organisation"))?.clone();
        let home = federation.node(&first).dir().to_owned();
        // A sandbox that was started a moment ago: its node fetches the agreement first.
        while open_view(&home)?.agreements()?.is_empty() && began.elapsed() < PATIENCE {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let desk = Desk::open(&home, &Speaker { person: federation.person(&first, "paula") })?;
        let incident = drill_name(&home)?;
        Ok(Self { began, desk, federation, first, home, incident, study })
    }

    fn out(&self, dir: &Path) -> PathBuf {
        dir.join(format!("incident-{}", self.incident))
    }

    fn note(&self, played: &mut Played, output: &Output, what: String) {
        let at_s = self.began.elapsed().as_secs_f64();
        output.say(format!("{at_s:6.1} s  {what}"));
        played.done.push(serde_json::json!({"at_s": at_s, "what": what}));
    }

    async fn step(
        &self,
        step: IncidentStep,
        what: &str,
        notification: Notification,
        output: &Output,
    ) -> Result<(), Failure> {
        let record = IncidentRecord {
            aware_at: (step == IncidentStep::Open).then(now),
            incident: self.incident.clone(),
            notification,
            step,
            study: self.study.clone(),
            what: what.to_owned(),
        };
        acted(&say(&self.desk, &record)?, output).await
    }

    async fn play(&self, dir: &Path, played: &mut Played, output: &Output) -> Result<ExportedIncident, Failure> {
        let Self { desk, federation, first, incident, study, .. } = self;
        let stolen = "a researcher's laptop was stolen";
        // From here on something may be true though we do not hear of it.
        played.opened = true;
        self.step(IncidentStep::Open, &format!("Drill: {stolen}."), Notification::default(), output).await?;
        self.note(played, output, format!("paula of {first} opened incident {incident}; the 72 hours run"));
        played.frozen = true;
        acted(&say_freeze(desk, study, &format!("drill: {stolen}"), true)?, output).await?;
        self.note(played, output, format!("study {study} stands still at {first}"));
        let refused = refused_while_frozen(federation).await?;
        self.note(played, output, format!("a question of ada was refused: {refused}"));
        let known = Notification {
            measures: Some(String::from("The study was stopped; the key is being taken back.")),
            nature: Some(String::from("Drill: theft of a laptop with a researcher's key.")),
            ..Notification::default()
        };
        self.step(IncidentStep::Action, "Drill: asked ada which questions are hers.", known, output).await?;
        self.note(played, output, String::from("what was done and is known is written down"));
        let (out, hub_log) = (self.out(dir), Some(federation.hub().log_dir()));
        let hub = HubFiles { hub_log, ..HubFiles::default() };
        let exported = write_export(&self.home, incident, &hub, &out)?;
        self.note(played, output, exported_in_words(&exported, &out));
        self.step(IncidentStep::Close, "Drill: over.", Notification::default(), output).await?;
        played.closed = true;
        acted(&say_freeze(desk, study, "drill: over", false)?, output).await?;
        played.frozen = false;
        self.note(played, output, format!("closed; study {study} goes on at {first}"));
        Ok(exported)
    }

    /// Puts right what an unfinished drill left behind, and says what could not be.
    async fn break_off(&self, played: &Played, output: &Output, failure: Failure) -> Failure {
        let mut failure = failure;
        if played.opened && !played.closed {
            let closed = self.step(IncidentStep::Close, "Drill: broken off.", Notification::default(), output).await;
            if let Err(why) = closed {
                failure = failure.and(&format!("Incident {} may still be open: {}", self.incident, why.message()));
            }
        }
        if played.frozen {
            let went_on = match say_freeze(&self.desk, &self.study, "drill: broken off", false) {
                Ok(laid) => acted(&laid, output).await,
                Err(failure) => Err(failure),
            };
            failure = match went_on {
                Ok(()) => failure.and(&format!("The drill was broken off; study {} goes on.", self.study)),
                Err(why) => failure.and(&format!(
                    "Study {0} may still stand still at {1} (`node unfreeze {0}`): {2}",
                    self.study,
                    self.first,
                    why.message()
                )),
            };
        }
        failure
    }
}

/// A name that no drill had before.
fn drill_name(home: &Path) -> Result<Name, Failure> {
    let all = all(home)?.incidents;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn aware() -> Timestamp {
        Timestamp::from_seconds(1_800_000_000)
    }

    fn hours(number: i64) -> Timestamp {
        aware().plus_seconds(number * 3600)
    }

    /// told at, now (hours since somebody became aware), over, what the list says. "over" stood there for what was overdue.
    #[test]
    fn repro_what_is_overdue_reads_as_overdue() {
        for (told, now, over, says) in [
            (None, 1, false, "71 h left"),
            (None, 71, false, "60 min left"),
            (None, 77, false, "DUE 5 h AGO"),
            (None, 77, true, "closed"),
            (Some(70), 77, false, "told 2027-01-18T06:00:00Z"),
            (Some(75), 77, true, "told 2027-01-18T11:00:00Z, 3 h LATE"),
        ] {
            let incident = Incident {
                aware_at: aware(),
                deadline: IncidentRecord::deadline(aware()),
                incident: Name::new("leak").unwrap(),
                notification: Notification { authority_at: told.map(hours), ..Notification::default() },
                over,
                steps: Vec::new(),
                study: Name::new("heart").unwrap(),
            };
            assert_eq!(notification(&incident, hours(now)), says);
        }
    }

    /// With --aware-at tomorrow an incident had more than 72 hours.
    #[test]
    fn repro_what_has_not_happened_yet_is_not_written_down() {
        let record = |aware_at: Option<i64>, authority_at: Option<i64>, people_at: Option<i64>| IncidentRecord {
            aware_at: aware_at.map(hours),
            incident: Name::new("leak").unwrap(),
            notification: Notification {
                authority_at: authority_at.map(hours),
                people_at: people_at.map(hours),
                ..Notification::default()
            },
            step: IncidentStep::Action,
            study: Name::new("heart").unwrap(),
            what: String::from("a laptop is gone"),
        };
        for (record, option) in [
            (record(Some(0), Some(0), Some(0)), None),
            (record(None, None, None), None),
            (record(Some(1), None, None), Some("--aware-at")),
            (record(None, Some(1), None), Some("--authority-at")),
            (record(None, None, Some(1)), Some("--people-at")),
        ] {
            let refused = demand_past(&record, aware()).err();
            assert_eq!(refused.is_some(), option.is_some());
            assert!(refused.is_none_or(|failure| option.is_some_and(|option| failure.message().starts_with(option))));
        }
    }
}
