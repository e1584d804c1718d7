//! The project's own chores: `tidy` keeps the rules of the house, `test` runs everything that a change must pass.
//!
//! It is a program of this workspace and not a script, so that a newcomer needs nothing but Cargo, and so that the
//! rules are tested like the rest. Plain `std`, no dependency on any room of the house: the examiner does not live with
//! the examined.
//!
//! Adversary: none. What it reads is the working copy of whoever runs it.

mod bench;
mod peers;
mod shell;
mod test;
mod tidy;

use std::path::PathBuf;
use std::process::ExitCode;

const HELP: &str = "\
The project's chores.

cargo xtask tidy [--bless]
    Checks the rules of the house: walls between crates, purity, committed lists, words, dependencies, documents.
    --bless       writes the committed lists under docs/lists, for a human to look at; lowers, never raises,
                  xtask/long-functions.txt

cargo xtask test [--with-peers] [--slow]
    Formatting, lints, tidy, all tests, the examples in the documentation; stops at the first that fails.
    --with-peers  also checks our bytes with other people's implementations; installs them (Python packages under
                  target/peers, Debian packages as root)
    --slow        random tests try sixteen times as many inputs, the secure sum twenty times as many schedules

    The end-to-end tests run on real hospitals' data when COHORTIUM_TEST_DATA names a directory that has it.

cargo xtask peer NAME
    One of the checks by other people's implementations alone. A name that is not known lists them.

cargo xtask bench SUBJECT
    Measures, in the release profile, ours and others' side by side in one run; installs the others (Python packages
    under target/peers). SUBJECT is: dp, hub, log, mpc
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let good = match words.as_slice() {
        ["tidy", options @ ..] if options.iter().all(|option| *option == "--bless") => {
            tidy::run(&root(), options.contains(&"--bless")).broken == 0
        }
        ["test", options @ ..] if options.iter().all(|option| ["--with-peers", "--slow"].contains(option)) => {
            let options =
                test::Options { with_peers: options.contains(&"--with-peers"), slow: options.contains(&"--slow") };
            test::run(&root(), options)
        }
        ["peer", name] => peers::run_one(&root(), name),
        ["bench", subject] => bench::run(&root(), subject),
        [] | ["help" | "--help" | "-h", ..] => {
            print!("{HELP}");
            true
        }
        _ => {
            eprint!("xtask: no such chore: {}\n\n{HELP}", words.join(" "));
            return ExitCode::from(2);
        }
    };
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// The root of the repository. Cargo says where this crate is when it runs it; the place where it was compiled may have
/// moved since.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    here.parent().map_or_else(|| PathBuf::from("."), PathBuf::from)
}
