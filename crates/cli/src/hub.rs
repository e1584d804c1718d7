//! `cohortium hub`: make a hub, run it, invite members, see who called.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_hub::home::{Home, PHASE_TIMEOUT_S, Settings};
use cohortium_messages::{Invitation, Name};
use cohortium_node::service::system_rng;

use crate::output::{Failure, Output, plain, table};

#[derive(Subcommand)]
pub enum Command {
    /// Make a hub's keys and certificates in --home
    Init {
        /// The hub's name, and the name of its log
        #[arg(long, default_value = "hub")]
        name: Name,
        /// Where to listen
        #[arg(long, default_value = "127.0.0.1:7400")]
        listen: SocketAddr,
        /// Host name or address under which nodes reach it (default: the address it listens on)
        #[arg(long)]
        host: Option<String>,
        /// Seconds that a step of a round may take before it goes on without those who did not come
        #[arg(long, default_value_t = PHASE_TIMEOUT_S)]
        phase_timeout_s: u32,
    },
    /// Run the hub until it is stopped
    Start,
    /// Invite an organisation or a researcher: writes a file to hand over, which works once
    Invite {
        /// Who
        name: Name,
        /// As a researcher, not as an organisation
        #[arg(long)]
        researcher: bool,
        /// The file to write (default: NAME.invitation.json)
        #[arg(long)]
        out: Option<PathBuf>,
    },
    /// Who called this hub for what, and what came of it
    Access {
        /// Show only the last so many
        #[arg(long, default_value_t = 50)]
        last: usize,
    },
}

pub async fn run(command: Command, home: &Path, output: &Output) -> Result<(), Failure> {
    let hub = Home::new(home);
    match command {
        Command::Init { name, listen, host, phase_timeout_s } => {
            let host = host.unwrap_or_else(|| listen.ip().to_string());
            init(&hub, name, listen, &host, phase_timeout_s)?;
            let entry = hub.entry()?;
            let value = serde_json::json!({"hub": entry, "url": hub.settings()?.url});
            output.result(&value, || {
                format!(
                    "Made the hub `{}` in {}.\nNext: cohortium --home {} hub start, and hub invite NAME for each member.",
                    entry.hub,
                    home.display(),
                    home.display()
                )
            })
        }
        Command::Start => {
            cohortium_hub::service::run(hub, || output.say("The hub is listening; stop it with Ctrl-C.")).await?;
            Ok(())
        }
        Command::Invite { name, researcher, out } => {
            let file = out.unwrap_or_else(|| PathBuf::from(format!("{name}.invitation.json")));
            let invitation = hub.invite(&name, researcher, &mut system_rng())?;
            write_invitation(&file, &invitation)?;
            output.result(&serde_json::json!({"file": file, "invited": name}), || {
                format!("Wrote {}: hand it to {name} over a channel you trust; it works once.", file.display())
            })
        }
        Command::Access { last } => access(&hub, last, output),
    }
}

/// The newest calls, the newest last. Of a caller whose signature was not checked, only what it claims is known.
fn access(hub: &Home, last: usize, output: &Output) -> Result<(), Failure> {
    let mut calls = hub.access(last)?;
    calls.reverse();
    output.result(&serde_json::json!({ "access": calls }), || {
        if calls.is_empty() {
            return String::from("Nobody has called.");
        }
        let rows = calls.iter().map(|call| {
            let who = if call.known { call.who.name.to_string() } else { format!("{} (claimed)", call.who.name) };
            let what = call.what.as_deref().map(plain).unwrap_or_default();
            vec![call.at.to_string(), who, call.call.clone(), what, call.outcome.clone()]
        });
        table(&["when", "who", "call", "about", "outcome"], rows)
    })
}

/// Makes a hub's home.
pub fn init(hub: &Home, name: Name, listen: SocketAddr, host: &str, phase_timeout_s: u32) -> Result<(), Failure> {
    let url = format!("https://{host}:{}", listen.port());
    let settings = Settings { listen, name, phase_timeout_s, url };
    let host_names = vec![host.to_owned(), String::from("localhost"), String::from("127.0.0.1")];
    Ok(hub.init(&settings, host_names, &mut system_rng())?)
}

/// Writes an invitation; its secret lets whoever reads it join.
pub fn write_invitation(file: &Path, invitation: &Invitation) -> Result<(), Failure> {
    let bytes = serde_json::to_vec_pretty(invitation).map_err(Failure::own)?;
    cohortium_store::write_private(file, &bytes).map_err(|error| Failure::own(format!("{}: {error}", file.display())))
}

/// Reads an invitation.
pub fn read_invitation(file: &Path) -> Result<Invitation, Failure> {
    let bytes = std::fs::read(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    serde_json::from_slice(&bytes).map_err(|_| Failure::usage(format!("{} is no invitation", file.display())))
}
