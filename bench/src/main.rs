//! What we measure, beside what others need for the same, in one run.
//!
//! `cargo xtask bench` builds this in the release profile, where there is another side with it compiled in, and installs
//! the Python peers.
//! Numbers in documents come from here and nowhere else. Nothing here decides whether a change may land.

mod audit;
mod clock;
mod dp;
mod hub;
mod log;
mod mpc;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
cargo xtask bench SUBJECT

    audit  every signature, decision, price, account and release of a large log, repeated
    dp     samplers (against opendp), privacy-loss distributions (against dp-accounting), the account
    hub    calls per second that leave an entry in the log, by one caller and by many
    log    durable entries per second, the tree of a large log, one entry's proof
    mpc    the secure sum: masking, upload, opening, memory (against Flower's SecAgg+)

Run as `cohortium-bench SUBJECT [PYTHON]`, where PYTHON is an interpreter that has the Python peers.
";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (subject, python) = (arguments.next(), arguments.next().map(PathBuf::from));
    let done = match subject.as_deref() {
        Some("audit") => audit::run(),
        Some("dp") => dp::run(python.as_deref()),
        Some("hub") => hub::run(),
        Some("log") => log::run(),
        Some("mpc") => mpc::run(python.as_deref()),
        // Started by `mpc`: what it measures is a process.
        Some(mpc::stream::SUBJECT) => mpc::stream::run(),
        _ => Err(HELP.to_owned()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(why) => {
            eprintln!("{why}");
            ExitCode::FAILURE
        }
    }
}
