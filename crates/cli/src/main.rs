//! `cohortium`: the one binary. Commands of nodes, hubs, researchers, stewards and auditors.
//!
//! This crate parses arguments, calls the rooms below, and prints. `docs/cli.md` documents the JSON shapes and the exit
//! codes, which are stable.

mod account;
mod audit;
mod budgets;
mod compare;
mod dataset;
mod demo;
mod desk;
mod dp;
mod federation;
mod hospitals;
mod hub;
mod incident;
mod node;
mod output;
mod person;
mod picture;
mod query;
mod researcher;
mod sandbox;
mod session;
mod show;
mod study;
mod task;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::output::{Failure, Format, Output};

/// Count, estimate and learn together without pooling data.
#[derive(Parser)]
#[command(version, about, max_term_width = 100)]
struct Arguments {
    /// Whose keys and which hub: the folder of a hub, a node or a researcher
    #[arg(long, global = true, value_name = "DIR", env = "COHORTIUM_HOME")]
    home: Option<PathBuf>,
    /// How to print: text for people, json for programs (shapes in docs/cli.md)
    #[arg(long, global = true, value_enum, default_value_t = Format::Text)]
    format: Format,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Show everything at once: hospitals, an agreement, questions, answers, prices, audit
    Demo(demo::Arguments),
    /// A whole federation in one folder, for trying
    #[command(subcommand)]
    Sandbox(sandbox::Command),
    /// Run the hub that coordinates and holds no data
    #[command(subcommand)]
    Hub(hub::Command),
    /// Run the node that stands next to an organisation's data
    #[command(subcommand)]
    Node(node::Command),
    /// Make a key for somebody who acts for an organisation
    #[command(subcommand)]
    Person(person::Command),
    /// Make a researcher's keys
    #[command(subcommand)]
    Researcher(researcher::Command),
    /// Draft, sign and show data-use agreements
    #[command(subcommand)]
    Study(study::Command),
    /// Ask a question in SQL
    Query(query::Arguments),
    /// See which tasks there are, how far one is, and whom it waits for
    #[command(subcommand)]
    Task(task::Command),
    /// What was spent and what is left
    #[command(subcommand)]
    Account(account::Command),
    /// Calculate what mechanisms cost in privacy, and how much noise a target needs
    #[command(subcommand)]
    Dp(dp::Command),
    /// Lead an incident: write down, stop, export, close; or drill one
    #[command(subcommand)]
    Incident(incident::Command),
    /// Check offline what happened
    #[command(subcommand)]
    Audit(audit::Command),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    start_diagnosis();
    let output = Output::new(arguments.format);
    match run(arguments, &output) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => output.fail(&failure),
    }
}

fn run(arguments: Arguments, output: &Output) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(Failure::own)?;
    let home = arguments.home;
    let need_home = || home.clone().ok_or_else(|| Failure::usage("say whose keys and which hub: --home DIR"));
    runtime.block_on(async {
        match arguments.command {
            Command::Demo(arguments) => demo::run(arguments, output).await,
            Command::Sandbox(command) => sandbox::run(command, output).await,
            Command::Hub(command) => hub::run(command, &need_home()?, output).await,
            Command::Node(command) => node::run(command, &need_home()?, output).await,
            Command::Person(command) => person::run(command, &need_home()?, output),
            Command::Researcher(command) => researcher::run(command, &need_home()?, output).await,
            Command::Study(command) => study::run(command, &need_home()?, output).await,
            Command::Query(arguments) => query::run(arguments, &need_home()?, output).await,
            Command::Task(command) => task::run(command, &need_home()?, output).await,
            Command::Account(command) => account::run(&command, &need_home()?, output),
            Command::Dp(command) => dp::run(&command, output),
            Command::Incident(command) => incident::run(command, home.as_deref(), output).await,
            Command::Audit(command) => audit::run(&command, home.as_deref(), output),
        }
    })
}

/// Diagnosis goes to standard error; `COHORTIUM_LOG` sets how much (default: warnings of our own crates).
fn start_diagnosis() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("COHORTIUM_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("error,cohortium_node=info,cohortium_hub=info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_target(false).init();
}
