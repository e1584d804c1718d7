//! What people say at a node's desk: yes or no to a task, that a held message may leave, that a study stops or goes on.
//!
//! Each is a log entry, signed with the person's own key and laid into the desk of the node's home. The node judges it;
//! what is checked here is checked so that whoever may not do this is told who may, before anything is signed.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Subcommand;
use cohortium_messages::{
    Agreement, Author, Call, Entry, Envelope, Fact, Hash, Name, PersonEntry, Role, Task, Timestamp, canonical_bytes,
};
use cohortium_node::home::Home;
use cohortium_node::service::now;
use cohortium_node::view::View;
use cohortium_node::{DeskItem, HeldRecord, JournalRecord, RunRecord, RunState};
use cohortium_policy::Revoked;
use serde::Serialize;

use crate::output::{Failure, Output, plain};
use crate::person::{Person, Speaker};
use crate::session::{node_home, open_view};
use crate::show::{held_until, left_in_words, state_in_words, still_standing, waits_until, why_here};

#[derive(Subcommand)]
pub enum Command {
    /// Say yes to a task that waits for people
    Approve(Decision),
    /// Say no to a task that waits for people: it ends, for all members, at no price
    Refuse(Decision),
    /// Let out what is held back for a task, after looking at it with `node show`
    Dispatch {
        /// The task: its hash, or enough of its first digits
        task: String,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Stop a study at this node: nothing new is permitted, nothing read, nothing let out
    Freeze(Stop),
    /// Set a study going again at this node: a privacy officer's word
    Unfreeze(Stop),
}

#[derive(clap::Args)]
pub struct Decision {
    /// The task: its hash, or enough of its first digits
    pub task: String,
    /// Why, in a sentence. It stands in the log, where members and auditors read it: nothing about patients
    #[arg(long, value_parser = reason)]
    pub why: String,
    #[command(flatten)]
    pub speaker: Speaker,
}

#[derive(clap::Args)]
pub struct Stop {
    /// The study
    pub study: Name,
    /// Why, in a sentence. It stands in the log, where members and auditors read it: nothing about patients
    #[arg(long, value_parser = reason)]
    pub why: String,
    #[command(flatten)]
    pub speaker: Speaker,
}

/// How long the node is given to act: it looks at its desk every second, unless it reads rows.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long the hub is given to take what the node sends it, before it is said that it has not.
const HUB_PATIENCE: Duration = Duration::from_secs(3);
/// The fewest digits by which a task may be called.
const MIN_PREFIX: usize = 4;
/// The fewest characters of a reason.
const MIN_REASON: usize = 3;
/// The longest item on a desk that is read for showing, bytes.
const MAX_ITEM_BYTES: u64 = 1 << 20;

/// A reason that somebody gives and a log keeps.
pub fn reason(text: &str) -> Result<String, String> {
    if text.chars().filter(|c| !c.is_whitespace() && !c.is_control()).count() < MIN_REASON {
        return Err(format!("a reason of at least {MIN_REASON} characters is needed: the log keeps it"));
    }
    Ok(text.to_owned())
}

/// What became of something on the desk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Heard {
    /// The node has acted on it.
    Acted,
    /// It lies there until the node runs.
    Waits,
}

/// Something that lies on a desk.
pub struct Laid {
    entry: Hash,
    file: PathBuf,
    home: Home,
}

/// Lays a signed entry on a node's desk.
pub fn lay(home: &Home, entry: Envelope, body: Option<Envelope>) -> Result<Laid, Failure> {
    let hash = Hash::of(&canonical_bytes(&entry).map_err(Failure::own)?);
    let file = home.lay_on_desk(&DeskItem { body, entry })?;
    Ok(Laid { entry: hash, file, home: home.clone() })
}

impl Laid {
    /// Waits for the node to act on it, for a while. That it lies there no more is not enough: the node must have kept it as
    /// something that it acted on.
    pub async fn wait(&self) -> Result<Heard, Failure> {
        let began = Instant::now();
        while self.file.exists() {
            if began.elapsed() > PATIENCE {
                return Ok(Heard::Waits);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if View::open(&self.home)?.has_heard(self.entry)? {
            return Ok(Heard::Acted);
        }
        let refused = self.home.refused_on_desk()?;
        let refused = refused.into_iter().find(|(path, _)| path.file_name() == self.file.file_name());
        let why = refused
            .map_or_else(|| String::from("somebody took it off the desk before the node saw it"), |(_, why)| why);
        Err(Failure::refused(format!("the node did not act on it: {why}"), Vec::new()))
    }
}

pub async fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Approve(decision) => decide(home, &decision, true, output).await,
        Command::Refuse(decision) => decide(home, &decision, false, output).await,
        Command::Dispatch { task, speaker } => dispatch(home, &task, &speaker, output).await,
        Command::Freeze(stop) => freeze(home, &stop, true, output).await,
        Command::Unfreeze(stop) => freeze(home, &stop, false, output).await,
    }
}

/// A node's home, and who speaks there.
pub struct Desk {
    pub home: Home,
    pub organisation: Name,
    pub person: Person,
    pub view: View,
}

impl Desk {
    pub fn open(home: &Path, speaker: &Speaker) -> Result<Self, Failure> {
        let (node, view) = (node_home(home)?, open_view(home)?);
        let organisation = node.connection()?.name;
        Ok(Self { home: node, organisation, person: Person::open(&speaker.person)?, view })
    }

    /// Demands that the agreement names this person at this organisation, with this key.
    pub fn demand_named(&self, agreement: &Agreement) -> Result<(), Failure> {
        let Person { entry, .. } = &self.person;
        let (study, organisation) = (&agreement.study, &self.organisation);
        let mut others = agreement.parties.iter().filter(|party| party.entry.organisation != *organisation);
        let elsewhere = others.find(|party| party.people.contains(entry));
        let why = match agreement.person(organisation, &entry.person) {
            Some(known) if known == entry => return Ok(()),
            _ if elsewhere.is_some() => format!(
                "that folder's key is {} of {}: give the folder of somebody of {organisation}",
                entry.person,
                elsewhere.map_or("another house", |party| party.entry.organisation.as_str())
            ),
            Some(_) => format!(
                "the agreement of study {study} names {} of {organisation} with another key or role than this folder has: a new \
                 key counts after an amendment (`study amend`)",
                entry.person
            ),
            None => format!(
                "the agreement of study {study} does not name {} at {organisation}: only people whom it names can speak here; \
                 it takes an amendment (`study amend`) to add one",
                entry.person
            ),
        };
        Err(Failure::refused(why, Vec::new()))
    }

    /// Signs what the person says, and lays it on the desk.
    pub fn say(&self, agreement: (Hash, &Name), fact: Fact, body: Option<Envelope>) -> Result<Laid, Failure> {
        let (agreement, study) = agreement;
        let person = self.person.entry.person.clone();
        let author = Author::Person { organisation: self.organisation.clone(), person };
        let entry = Entry { agreement, author, fact, study: study.clone(), time: now() };
        let entry = Envelope::sign(&entry, &self.person.secrets.key).map_err(Failure::usage)?;
        lay(&self.home, entry, body)
    }

    /// The agreement in force of a study, as this node holds it.
    pub fn in_force(&self, study: &Name) -> Result<(Agreement, Hash), Failure> {
        let held = self.view.agreements()?;
        let known: Vec<&str> = held.iter().map(|(agreement, _)| agreement.study.as_str()).collect();
        let known = known.join(", ");
        let (agreement, envelope) = held
            .into_iter()
            .find(|(agreement, _)| agreement.study == *study)
            .ok_or_else(|| Failure::usage(format!("this node has no study `{study}` (it has: {known})")))?;
        let hash = envelope.peek::<Agreement>().map_err(Failure::own)?.hash();
        Ok((agreement, hash))
    }
}

/// A task at this node: its hash, its run, and what was asked.
pub struct Case {
    pub agreement: Agreement,
    pub hash: Hash,
    pub run: RunRecord,
    /// What custodians took back of the agreement, as far as this home knows.
    taken_back: Revoked,
    pub task: Task,
}

impl Case {
    /// The task that begins with these digits, with the agreement under which it was asked.
    pub fn find(view: &View, text: &str) -> Result<Self, Failure> {
        let is_digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        if !is_digits || !(MIN_PREFIX..=64).contains(&text.len()) {
            return Err(Failure::usage(format!(
                "`{text}` is no task: give {MIN_PREFIX} to 64 digits (0-9, a-f) of its hash; `node tasks` lists them"
            )));
        }
        let mut known = view.runs()?;
        known.retain(|(hash, _)| hash.to_string().starts_with(text));
        if known.len() > 1 {
            let many: Vec<String> = known.iter().map(|(hash, _)| hash.to_string()).collect();
            return Err(Failure::usage(format!("several tasks begin with `{text}`: {}", many.join(", "))));
        }
        let (hash, run) = known.pop().ok_or_else(|| {
            Failure::usage(format!(
                "no task that begins with `{text}` has reached this node; `node tasks` lists those that have, and the \
                 researcher sees with `task show` where it is"
            ))
        })?;
        let task = run.task.peek::<Task>().map_err(Failure::own)?.claims().clone();
        let agreement = agreement_of(view, task.plan.agreement)?
            .ok_or_else(|| Failure::own("the agreement of this task is not in this home"))?;
        let taken_back = view.revoked(task.plan.agreement).map_err(Failure::own)?;
        Ok(Self { agreement, hash, run, taken_back, task })
    }

    /// The people of an organisation whose word counts for this task: not the one who asks.
    pub fn approvers<'a>(&'a self, organisation: &Name) -> Vec<&'a PersonEntry> {
        let roles = &self.agreement.approval.roles;
        let people = self.agreement.people(organisation).iter();
        let may =
            |person: &&PersonEntry| roles.contains(&person.role) && !self.is_asked_by(person) && self.counts(person);
        people.filter(may).collect()
    }

    /// Whether the word of this person counts while the task waits: not with a key that was taken back.
    fn counts(&self, person: &PersonEntry) -> bool {
        self.run.state != RunState::Waiting || !self.taken_back.key(&person.key)
    }

    /// What people here have said so far, as far as it counts: who, yes or no, why.
    pub fn said(&self) -> Vec<(Name, bool, String)> {
        let entries = self.run.approvals.iter().filter_map(|envelope| envelope.peek::<Entry>().ok());
        let said = entries.filter_map(|entry| match (&entry.claims().author, &entry.claims().fact) {
            (Author::Person { organisation, person }, Fact::Approval { approved, why, .. }) => {
                let entry = self.agreement.person(organisation, person)?;
                self.counts(entry).then(|| (person.clone(), *approved, why.clone()))
            }
            _ => None,
        });
        said.collect()
    }

    fn is_asked_by(&self, person: &PersonEntry) -> bool {
        let asks = self.agreement.researcher(&self.task.researcher);
        person.person == self.task.researcher || asks.is_some_and(|asks| asks.key == person.key)
    }

    /// Demands that this person may say yes or let out, or says who may.
    fn demand_may_decide(&self, desk: &Desk) -> Result<(), Failure> {
        desk.demand_named(&self.agreement)?;
        let person = &desk.person.entry;
        let why = if self.is_asked_by(person) {
            format!("{} asks this, and whoever asks does not decide", person.person)
        } else if !self.agreement.approval.roles.contains(&person.role) {
            format!("{} is {}, and that role does not decide in study {}", person.person, person.role, self.run.study)
        } else {
            return Ok(());
        };
        Err(Failure::refused(
            format!("{why}. At {} {} can.", desk.organisation, self.who_can(&desk.organisation)),
            Vec::new(),
        ))
    }

    /// Demands that the study does not stand still here, or says who can let it go on and how long the task can wait.
    fn demand_going_on(&self, desk: &Desk, until: Timestamp) -> Result<(), Failure> {
        match standstill(&desk.view, &self.run.study)? {
            None => Ok(()),
            Some(why) => Err(Failure::refused(
                format!(
                    "{} Nothing was signed; the task can wait {} more",
                    still_standing(&why, self.run.study.as_str()),
                    left_in_words(until)
                ),
                Vec::new(),
            )),
        }
    }

    /// Who may decide at an organisation, in words.
    pub fn who_can(&self, organisation: &Name) -> String {
        named(&self.approvers(organisation))
    }
}

/// The agreement of that hash, in force or past.
pub fn agreement_of(view: &View, hash: Hash) -> Result<Option<Agreement>, Failure> {
    for (agreement, envelope) in view.versions()? {
        if envelope.peek::<Agreement>().map_err(Failure::own)?.hash() == hash {
            return Ok(Some(agreement));
        }
    }
    Ok(None)
}

/// People with their roles, in words.
pub fn named(people: &[&PersonEntry]) -> String {
    let people: Vec<String> = people.iter().map(|person| format!("{} ({})", person.person, person.role)).collect();
    if people.is_empty() { String::from("nobody") } else { people.join(" or ") }
}

/// What people have said that lies on the desk, signed, and that the node has not looked at yet.
pub fn lying(home: &Home, is_about: impl Fn(&Entry) -> bool) -> Result<Vec<String>, Failure> {
    let items = home.on_desk()?.into_iter().filter_map(|item| item.bytes.ok());
    let said = items.filter_map(|bytes| Said::read(&bytes)).filter(|said| is_about(&said.entry));
    Ok(said.map(|said| said.in_words()).collect())
}

/// An entry on a desk, as it claims to be: nothing was checked.
pub struct Said {
    entry: Entry,
}

impl Said {
    fn read(bytes: &[u8]) -> Option<Self> {
        let item: DeskItem = serde_json::from_slice(bytes).ok()?;
        Some(Self { entry: item.entry.peek::<Entry>().ok()?.claims().clone() })
    }

    /// What a file holds that the node has put aside; nothing where it is no entry.
    pub fn in_file(file: &Path) -> Option<Self> {
        let length = std::fs::metadata(file).ok()?.len();
        if length > MAX_ITEM_BYTES {
            return None;
        }
        Self::read(&std::fs::read(file).ok()?)
    }

    /// When it was signed, by its author's clock.
    pub const fn at(&self) -> Timestamp {
        self.entry.time
    }

    /// Who says what, and when.
    pub fn in_words(&self) -> String {
        let what = match &self.entry.fact {
            Fact::Approval { approved: true, task, why, .. } => format!("yes to task {}: {}", task.short(), plain(why)),
            Fact::Approval { task, why, .. } => format!("no to task {}: {}", task.short(), plain(why)),
            Fact::Dispatch { task, .. } => format!("let out what is held back for task {}", task.short()),
            Fact::Freeze { frozen: true, why } => format!("stop study {}: {}", self.entry.study, plain(why)),
            Fact::Freeze { why, .. } => format!("let study {} go on: {}", self.entry.study, plain(why)),
            fact => format!("{} in study {}", fact.kind(), self.entry.study),
        };
        format!("{} on {}: {what}", self.entry.author, self.entry.time)
    }
}

/// Why a study stands still here, if it does: what stopped it first, and whether that was said again.
pub fn standstill(view: &View, study: &Name) -> Result<Option<String>, Failure> {
    let stops = view.stops(study)?;
    let Some((first, again)) = stops.split_first() else { return Ok(None) };
    let mut text = format!("{} on {}", first.why, first.since);
    if let Some(last) = again.last() {
        text.push_str(&format!("; said again since, last {} on {}", last.why, last.since));
    }
    Ok(Some(text))
}

/// What becomes of a task whose vector does not leave this node.
pub fn without_this_node(agreement: &Agreement) -> String {
    let (threshold, members) = (agreement.secure_sum.threshold as usize, agreement.parties.len());
    let then = if threshold < members {
        format!(
            "the answer is made without this node if {threshold} of {members} members are there, otherwise there is none"
        )
    } else {
        String::from("there is no answer at all")
    };
    format!("If it stays here until the time is over, {then}; the price stays charged, because rows were read.")
}

/// Whether the hub has taken an entry that the node journaled: then the other members hear of it.
async fn others_hear(view: &View, entry: Hash) -> Result<String, Failure> {
    let began = Instant::now();
    loop {
        if let Some(told) = told(&view.journal()?, entry) {
            return Ok(told);
        }
        if began.elapsed() > HUB_PATIENCE {
            return Ok(String::from("The other members will be told when the hub is reached."));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// What became of an entry at the hub, by the journal; nothing as long as it waits there.
fn told(journal: &[(JournalRecord, bool)], entry: Hash) -> Option<String> {
    let is_it = |record: &JournalRecord| match &record.call {
        Call::Log { entry: journaled, .. } => canonical_bytes(journaled).is_ok_and(|bytes| Hash::of(&bytes) == entry),
        _ => false,
    };
    let (record, sent) = journal.iter().rfind(|(record, _)| is_it(record))?;
    match &record.refused {
        Some(why) => Some(format!("The hub refused it for good, and tells nobody: {}", plain(why))),
        None => sent.then(|| String::from("The hub knows, and tells the other members.")),
    }
}

async fn decide(home: &Path, decision: &Decision, approved: bool, output: &Output) -> Result<(), Failure> {
    let desk = Desk::open(home, &decision.speaker)?;
    let case = Case::find(&desk.view, &decision.task)?;
    demand_undecided(&desk, &case, approved)?;
    case.demand_may_decide(&desk)?;
    if approved {
        case.demand_going_on(&desk, waits_until(&case.agreement, &case.run))?;
    }
    let person = &desk.person.entry.person;
    // A yes can be taken back as long as the task waits; a no cannot.
    let before = case.said().into_iter().rfind(|(who, ..)| who == person);
    if let Some((_, before, _)) = before.filter(|(_, before, _)| approved || !before) {
        let word = if before { "yes" } else { "no" };
        let others: Vec<&PersonEntry> = case.approvers(&desk.organisation);
        let others: Vec<&PersonEntry> = others.into_iter().filter(|other| other.person != *person).collect();
        let why = format!("{person} has said {word} to this task already; now {} must act", named(&others));
        return Err(Failure::refused(why, Vec::new()));
    }
    let plan = case.task.plan.hash().map_err(Failure::own)?;
    let fact = Fact::Approval { approved, plan, task: case.hash, why: decision.why.clone() };
    let laid = desk.say((case.task.plan.agreement, &case.run.study), fact, None)?;
    let heard = waiting(&laid, output).await?;
    let after = Case::find(&desk.view, &case.hash.to_string())?.run;
    let value = serde_json::json!({"approved": approved, "desk": heard, "person": person, "state": after.state,
        "task": case.hash, "why": after.why});
    output.result(&value, || {
        let word = if approved { "yes" } else { "no" };
        let task = case.hash.short();
        match heard {
            Heard::Waits => format!("{person} says {word} to task {task}. {}", NOT_YET),
            Heard::Acted if after.state == RunState::Waiting => {
                format!("{person} says {word} to task {task}. It still waits here: {}.", after.why)
            }
            Heard::Acted if !approved && after.state == RunState::Refused => format!(
                "{person} says no to task {task}. It is over, for all members and at no price; the reason goes to {}.",
                case.task.researcher
            ),
            Heard::Acted => {
                let state = state_in_words(after.state);
                format!("{person} says {word} to task {task}. Here it is {state} now: {}.", plain(&after.why))
            }
        }
    })
}

const NOT_YET: &str = "The node has not acted on it yet: is it running (`node start`)? It lies on the node's desk, signed, and \
                       holds as soon as the node looks.";

/// Demands that the task waits for people, or says how it stands instead, and who can still do what. Nothing is signed.
///
/// A no is taken until the rows are read: the task may be permitted here and wait for people elsewhere.
fn demand_undecided(desk: &Desk, case: &Case, approved: bool) -> Result<(), Failure> {
    let (run, task) = (&case.run, case.hash.short());
    if run.state == RunState::Waiting || (run.state == RunState::Permitted && !approved) {
        return Ok(());
    }
    let freeze = format!("to stop the whole study, `node freeze {}`", run.study);
    if let Some(held) = held_for(&desk.view, case.hash)? {
        let left = left_in_words(held_until(&case.agreement, &held));
        let why = if !case.agreement.approval.hold {
            format!(
                "task {task} is decided already: what it would give out is kept here while the study stands still, and leaves if \
                 the study goes on before the round is over. Nothing was signed"
            )
        } else if approved {
            format!(
                "task {task} was approved here before, and what leaves is held back ({left} left): look at it with `node show \
                 {task}`, and let it out with `node dispatch {task}`"
            )
        } else {
            format!(
                "nothing needs to be refused: what task {task} would give out is held back here, and not letting it out is the \
                 no ({left} left). {} Nothing was signed; {freeze}",
                without_this_node(&case.agreement)
            )
        };
        return Err(Failure::refused(why, Vec::new()));
    }
    let said = case.said();
    let by: Vec<String> =
        said.iter().map(|(who, yes, _)| format!("{who} said {}", if *yes { "yes" } else { "no" })).collect();
    let by = match (by.is_empty(), run.state) {
        (false, _) => by.join(", "),
        (true, RunState::Refused) => String::from("the policy refused it; nobody was asked"),
        (true, _) => String::from("nobody was asked, or nobody answered"),
    };
    let state = match run.state {
        RunState::LeftOut => String::from("went on without this node"),
        RunState::Refused => String::from("was refused here"),
        state => state_in_words(state),
    };
    let why = match run.state {
        RunState::Released => format!("task {task} is over: the answer is out ({by}). Nothing was signed"),
        RunState::LeftOut | RunState::Refused | RunState::Void => {
            let why = plain(&why_here(&case.agreement.parties, &desk.organisation, run));
            format!("task {task} is over. It {state}: {why} ({by}). Nothing was signed, and nobody needs to act")
        }
        _ => format!("task {task} is decided already: it is {state} here ({by}). Nobody needs to act; {freeze}"),
    };
    Err(Failure::refused(why, Vec::new()))
}

/// What is held back for a task.
pub fn held_for(view: &View, task: Hash) -> Result<Option<HeldRecord>, Failure> {
    Ok(view.held()?.into_iter().find(|(of, _)| *of == task).map(|(_, held)| held))
}

async fn dispatch(home: &Path, task: &str, speaker: &Speaker, output: &Output) -> Result<(), Failure> {
    let desk = Desk::open(home, speaker)?;
    let case = Case::find(&desk.view, task)?;
    let Some(held) = held_for(&desk.view, case.hash)? else {
        return Err(Failure::refused(
            format!(
                "nothing is held back for task {}: it is {} here. `node outbox --held` lists what waits",
                case.hash.short(),
                state_in_words(case.run.state)
            ),
            Vec::new(),
        ));
    };
    case.demand_may_decide(&desk)?;
    case.demand_going_on(&desk, held_until(&case.agreement, &held))?;
    let fact = Fact::Dispatch { message: held.message, task: case.hash };
    let laid = desk.say((case.task.plan.agreement, &case.run.study), fact, None)?;
    let heard = waiting(&laid, output).await?;
    let person = &desk.person.entry.person;
    let value = serde_json::json!({"desk": heard, "message": held.message, "person": person, "task": case.hash});
    output.result(&value, || {
        let rest = match heard {
            Heard::Acted => "It leaves.",
            Heard::Waits => NOT_YET,
        };
        format!("{person} lets message {} out for task {}. {rest}", held.message.short(), case.hash.short())
    })
}

async fn freeze(home: &Path, stop: &Stop, frozen: bool, output: &Output) -> Result<(), Failure> {
    let desk = Desk::open(home, &stop.speaker)?;
    let before = standstill(&desk.view, &stop.study)?;
    let laid = say_freeze(&desk, &stop.study, &stop.why, frozen)?;
    let heard = waiting(&laid, output).await?;
    let told = match heard {
        Heard::Acted => others_hear(&desk.view, laid.entry).await?,
        Heard::Waits => String::from(NOT_YET),
    };
    let (person, study) = (&desk.person.entry.person, &stop.study);
    let value =
        serde_json::json!({"before": before, "desk": heard, "frozen": frozen, "person": person, "study": study});
    output.result(&value, || {
        let at = &desk.organisation;
        let first = match frozen {
            true => format!("{person} stops study {study} at {at}."),
            false => format!("{person} lets study {study} go on at {at}."),
        };
        let known = match &before {
            Some(why) if frozen => format!(" It stood still before: {}.", plain(why)),
            _ => String::new(),
        };
        let then = match (heard, frozen) {
            (Heard::Acted, true) => format!(
                " Nothing new of it is permitted, read or let out here. Only a privacy officer of {} sets it going again \
                 (`node unfreeze {study}`).",
                desk.organisation
            ),
            _ => String::new(),
        };
        format!("{first}{known}{then} {told}")
    })
}

/// Signs that a study stops here or goes on, if this person may say so.
pub fn say_freeze(desk: &Desk, study: &Name, why: &str, frozen: bool) -> Result<Laid, Failure> {
    let (agreement, hash) = desk.in_force(study)?;
    desk.demand_named(&agreement)?;
    let may = |role: Role| if frozen { role.may_freeze() } else { role.may_unfreeze() };
    demand_role(desk, &agreement, may, if frozen { "stop a study" } else { "set a study going again" })?;
    desk.say((hash, study), Fact::Freeze { frozen, why: why.to_owned() }, None)
}

/// Demands a role, or says who has one that suffices.
pub fn demand_role(desk: &Desk, agreement: &Agreement, may: impl Fn(Role) -> bool, what: &str) -> Result<(), Failure> {
    let person = &desk.person.entry;
    if may(person.role) {
        return Ok(());
    }
    let others: Vec<&PersonEntry> =
        agreement.people(&desk.organisation).iter().filter(|other| may(other.role)).collect();
    let why = format!(
        "{} is {} and cannot {what}. At {} {} can.",
        person.person,
        person.role,
        desk.organisation,
        named(&others)
    );
    Err(Failure::refused(why, Vec::new()))
}

/// Waits for the node, and shows that.
pub async fn waiting(laid: &Laid, output: &Output) -> Result<Heard, Failure> {
    let _progress = output.progress("waiting for the node to act on it");
    laid.wait().await
}

#[cfg(test)]
mod tests {
    use cohortium_messages::SigningKey;

    use super::*;

    /// What the hub refused for good counted as sent, and the last stop of any study was taken for the one just said.
    #[test]
    fn repro_what_the_hub_refused_is_not_said_to_be_known() {
        let name = |text: &str| Name::new(text).unwrap();
        let record = |study: &str, refused: Option<&str>| {
            let (agreement, fact) = (Hash::of(b"x"), Fact::Freeze { frozen: true, why: String::from("to look") });
            let (author, time) = (Author::Node(name("a")), Timestamp::from_seconds(0));
            let entry = Entry { agreement, author, fact, study: name(study), time };
            let entry =
                Envelope::sign(&entry, &SigningKey::generate(&mut cohortium_node::service::system_rng())).unwrap();
            let hash = Hash::of(&canonical_bytes(&entry).unwrap());
            let (kind, words) = (String::from("freeze"), String::from("a stop"));
            let (call, refused) = (Call::Log { body: None, entry }, refused.map(str::to_owned));
            let record =
                JournalRecord { call, kind, made_at: time, refused, task: None, vector: None, withdrawn: None, words };
            (hash, record)
        };
        let ((ours, refused), (other, sent)) = (record("ours", Some("too many")), record("other", None));
        let journal = [(refused, true), (sent.clone(), true)];
        assert!(told(&journal, ours).unwrap().contains("too many"));
        assert_eq!(told(&journal, other).unwrap(), "The hub knows, and tells the other members.");
        assert_eq!(told(&[(sent, false)], other), None);
    }

    #[test]
    fn repro_a_blank_reason_is_none() {
        for blank in ["", " ", "ab", "a  b", "\u{a0}\t\n \u{2003}", "\u{7}\u{7}\u{7}"] {
            assert!(reason(blank).is_err(), "{blank:?}");
        }
        assert_eq!(reason(" a b c").unwrap(), " a b c");
    }
}
