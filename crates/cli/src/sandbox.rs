//! `cohortium sandbox`: a whole federation in one folder, for trying.

use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_messages::Name;

use crate::federation::{Approval, Federation, Process, RESEARCHER, Source};
use crate::output::{Failure, Output};

#[derive(Subcommand)]
pub enum Command {
    /// Make a hub, hospitals, a researcher and a signed agreement in a folder
    New {
        /// The folder
        dir: PathBuf,
        /// Each organisation has a steward and a privacy officer, one of whom must approve each task
        #[arg(long)]
        people: bool,
        /// One of them must also look at what leaves and let it out
        #[arg(long, requires = "people")]
        hold: bool,
        #[command(flatten)]
        data: Data,
    },
    /// Start its hub and nodes in the background
    Start {
        /// The folder
        dir: PathBuf,
    },
    /// Stop them
    Stop {
        /// The folder
        dir: PathBuf,
    },
}

/// Where a sandbox's data comes from.
#[derive(clap::Args)]
pub struct Data {
    /// Real data: one file or sub-folder (with one file) per organisation, CSV
    #[arg(long, requires = "schema")]
    pub data: Option<PathBuf>,
    /// How that data looks: columns, bounds, roles (see examples/heart-disease.toml)
    #[arg(long)]
    pub schema: Option<PathBuf>,
    /// Simulated patients per hospital, without --data
    #[arg(long, default_value_t = 20_000, conflicts_with = "data")]
    pub patients: u32,
    /// The seed of the simulation
    #[arg(long, default_value_t = 1, conflicts_with = "data")]
    pub seed: u64,
    /// The study's name
    #[arg(long)]
    pub study: Option<Name>,
}

impl Data {
    pub fn source(&self) -> Result<Source, Failure> {
        match (&self.data, &self.schema) {
            (Some(data), Some(schema)) => Ok(Source::Folder { data: data.clone(), schema: schema.clone() }),
            (None, Some(_)) => Err(Failure::usage("--schema goes with --data DIR")),
            _ if !(1..=1_000_000).contains(&self.patients) => {
                Err(Failure::usage("--patients must be between 1 and 1000000"))
            }
            _ => Ok(Source::Simulated { patients: self.patients, seed: self.seed }),
        }
    }
}

pub async fn run(command: Command, output: &Output) -> Result<(), Failure> {
    match command {
        Command::New { dir, people, hold, data } => {
            let progress = output.progress("making a sandbox");
            let approval = if people { Approval::People { hold } } else { Approval::Automatic };
            let federation = Federation::create(&dir, &data.source()?, data.study, approval, &progress).await?;
            drop(progress);
            output.result(&federation.facts(), || {
                format!(
                    "Made a sandbox in {}. Next:\n  {}",
                    dir.display(),
                    command_line(&["sandbox", "start", &shown(&dir)])
                )
            })
        }
        Command::Start { dir } => {
            let federation = Federation::open(&dir)?;
            let (running, down) = federation.running();
            if !running.is_empty() {
                let again = format!("`{}`, then start", command_line(&["sandbox", "stop", &shown(&dir)]));
                return Err(Failure::usage(match down.as_slice() {
                    [] => format!("{} is running already", dir.display()),
                    down => format!("{} down, the rest of {} runs: {again}", are(down), dir.display()),
                }));
            }
            // They go on when this process ends; `sandbox stop` finds them by their numbers.
            let processes: Vec<std::mem::ManuallyDrop<Process>> =
                federation.start().await?.into_iter().map(std::mem::ManuallyDrop::new).collect();
            let facts = federation.facts();
            let value = serde_json::json!({"running": processes.len(), "study": facts.study});
            output.result(&value, || {
                let researcher = shown(&federation.researcher());
                let dataset = facts.datasets.first().map_or("DATASET", Name::as_str);
                let ask = format!(
                    "{} query \"SELECT COUNT(*) FROM {dataset}\" --study {}",
                    command_line(&["--home", &researcher]),
                    facts.study
                );
                let people = if facts.people { saying_yes_or_no(&federation) } else { String::new() };
                format!(
                    "A hub and {} nodes run in the background. You are {RESEARCHER}; ask, for example:\n  {ask}\n{people}Stop them with:\n  {}",
                    facts.organisations.len(),
                    command_line(&["sandbox", "stop", &shown(&dir)])
                )
            })
        }
        Command::Stop { dir } => {
            let stopped = Federation::open(&dir)?.stop().await?;
            output.result(&serde_json::json!({ "stopped": stopped }), || match stopped.as_slice() {
                [] => String::from("Nothing was running."),
                names => format!("Stopped {}.", names.join(", ")),
            })
        }
    }
}

/// What to type, as the people of the organisations, while the question waits.
fn saying_yes_or_no(federation: &Federation) -> String {
    let mut text = String::from(
        "It waits until somebody at each organisation says yes. In another terminal, look at it as one of them, and say so:\n",
    );
    for (position, name) in federation.facts().organisations.iter().enumerate() {
        let (home, person) = (shown(federation.node(name).dir()), shown(&federation.person(name, "stella")));
        let command = |arguments: &[&str]| command_line(&[&["--home", &home, "node"], arguments].concat());
        if position == 0 {
            text.push_str(&format!("  {}\n  {}\n", command(&["tasks"]), command(&["show", "TASK"])));
        }
        text.push_str(&format!("  {}\n", command(&["approve", "TASK", "--why", "\"for trying\"", "--as", &person])));
    }
    if federation.facts().hold {
        text.push_str("What would leave is held back then; look at it and let it out at each, within the time that `node tasks` says:\n");
        for name in &federation.facts().organisations {
            let (home, person) = (shown(federation.node(name).dir()), shown(&federation.person(name, "paula")));
            let dispatch = command_line(&["--home", &home, "node", "dispatch", "TASK", "--as", &person]);
            text.push_str(&format!("  {dispatch}\n"));
        }
    }
    text.push_str("TASK is what `node tasks` shows. `refuse` in the place of `approve` ends it. Each organisation also has paula, \
                   its privacy officer.\n");
    text
}

/// `hub is`, `hub, northside are`.
fn are(names: &[String]) -> String {
    format!("{} {}", names.join(", "), if names.len() == 1 { "is" } else { "are" })
}

/// A command as the person at this keyboard would type it: through cargo, if that is how this one was started.
pub fn command_line(arguments: &[&str]) -> String {
    let program = if std::env::var_os("CARGO").is_some() { "cargo run -q --" } else { "cohortium" };
    [&[program], arguments].concat().join(" ")
}

pub fn shown(path: &Path) -> String {
    path.display().to_string()
}
