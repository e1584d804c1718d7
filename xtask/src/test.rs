//! Everything that a change must pass, in the order in which a mistake is cheapest to find.
//!
//! A stage that fails ends the run, and the closing summary says what ran, what did not, and how many tests that was.
//! The last line is for machines: `N passed, N failed, N skipped`. It counts tests, the rules of the house and the
//! checks of peers; formatting and lints count only when they fail. Skipped are the tests that a runner left out, the
//! peer checks that nobody asked for, and the stages after a failure, one each.
//!
//! What it does not do: it measures no speed and builds no release.

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::peers;
use crate::shell::{Counts, Reporter, stream};
use crate::tidy;

/// What was asked for on the command line.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Whether other people's implementations check our bytes as well.
    pub with_peers: bool,
    /// Whether random tests take their time.
    pub slow: bool,
}

/// Where the tests find real data, and where we look for it ourselves when nobody says.
const DATA_VARIABLE: &str = "COHORTIUM_TEST_DATA";
const DATA_BESIDE_US: &str = "../shared/data";

/// The hospitals of the heart-disease study: the UCI files as they were published.
const HOSPITALS: [&str; 4] = ["cleveland", "hungarian", "switzerland", "va"];

/// Proptest's own default is 256.
const SLOW_CASES: &str = "4096";
/// Schedules of the secure sum's world in a box: 10,000 unless told. So many take a quarter of an hour of one core.
const SLOW_SCHEDULES: &str = "200000";

/// Runs the stages; whether all of them are good.
pub fn run(root: &Path, options: Options) -> bool {
    let data = match find_data(root) {
        Ok(data) => data,
        Err(why) => {
            println!("xtask: {why}\n\n0 passed, 1 failed, 0 skipped");
            return false;
        }
    };
    let children = Children { root, data: data.clone(), slow: options.slow };
    println!("{}", describe_data(data.as_deref()));
    let mut report = Report::default();
    report.stage("formatting", || children.cargo(&["fmt", "--all", "--check"], Reporter::Silent));
    let lints = ["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"];
    report.stage("lints", || children.cargo(&lints, Reporter::Silent));
    report.stage("tidy", || {
        let tidy::Outcome { kept, broken } = tidy::run(root, false);
        Ok((broken == 0, Counts { passed: kept, failed: broken, skipped: 0 }))
    });
    report.tests("tests", || children.tests());
    report.tests("documentation", || children.cargo(&["test", "--doc", "--workspace"], Reporter::CargoTest));
    for peer in &peers::PEERS {
        if options.with_peers {
            report.stage(peer.name, || peers::run(peer, root));
        } else {
            report.left_out(peer.name);
        }
    }
    println!("\n{}\n{}", describe_data(data.as_deref()), report.summary());
    report.is_good()
}

/// How the programs that we start are started.
struct Children<'a> {
    root: &'a Path,
    data: Option<PathBuf>,
    slow: bool,
}

impl Children<'_> {
    /// All tests but those in documentation, by nextest where it is installed: it is not promised on every machine.
    fn tests(&self) -> Result<(bool, Counts), String> {
        let nextest = self.command(&["nextest", "--version"]).output();
        if nextest.is_ok_and(|output| output.status.success()) {
            return self.cargo(&["nextest", "run", "--workspace", "--no-fail-fast"], Reporter::Nextest);
        }
        println!("cargo-nextest is not installed: `cargo test` runs the same tests, one binary at a time");
        self.cargo(&["test", "--workspace", "--all-targets", "--no-fail-fast"], Reporter::CargoTest)
    }

    fn cargo(&self, arguments: &[&str], reporter: Reporter) -> Result<(bool, Counts), String> {
        stream(&mut self.command(arguments), reporter)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.args(arguments).current_dir(self.root);
        match &self.data {
            Some(data) => command.env(DATA_VARIABLE, data),
            None => command.env_remove(DATA_VARIABLE),
        };
        if self.slow {
            command.env("PROPTEST_CASES", SLOW_CASES).env("COHORTIUM_SCHEDULES", SLOW_SCHEDULES);
        }
        // Our pipe hides the terminal from Cargo.
        if std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none() {
            command.env("CARGO_TERM_COLOR", "always");
        }
        command
    }
}

/// The directory with real data, if there is one.
///
/// # Errors
/// When the operator named one that has no hospitals: silently testing less than was asked for would be worse.
fn find_data(root: &Path) -> Result<Option<PathBuf>, String> {
    let named = std::env::var_os(DATA_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
    let beside = root.join(DATA_BESIDE_US);
    match named {
        Some(named) if has_hospitals(&named) => Ok(Some(absolute(named))),
        Some(named) => {
            Err(format!("{DATA_VARIABLE} is {}, which has no heart_disease/processed.*.data", named.display()))
        }
        None => Ok(has_hospitals(&beside).then(|| absolute(beside))),
    }
}

/// Tests run in the directories of their crates: a relative path would mean something else there.
fn absolute(path: PathBuf) -> PathBuf {
    path.canonicalize().unwrap_or(path)
}

fn has_hospitals(data: &Path) -> bool {
    HOSPITALS.iter().all(|hospital| data.join(format!("heart_disease/processed.{hospital}.data")).is_file())
}

fn describe_data(data: Option<&Path>) -> String {
    match data {
        Some(data) => {
            format!("real data: the end-to-end tests run on the heart-disease hospitals in {}", data.display())
        }
        None => format!(
            "real data: none found, so the end-to-end tests do NOT run on the real heart-disease hospitals; set {DATA_VARIABLE} to a directory that has heart_disease/processed.*.data"
        ),
    }
}

/// How far a stage came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Good,
    Bad,
    /// An earlier stage failed.
    NotReached,
    /// Nobody asked for it.
    LeftOut,
}

#[derive(Debug)]
struct Stage {
    name: &'static str,
    standing: Standing,
    counts: Counts,
    seconds: f64,
    has_tests: bool,
}

/// What ran so far.
#[derive(Debug, Default)]
struct Report {
    stages: Vec<Stage>,
}

impl Report {
    /// Runs a stage, unless an earlier one failed.
    fn stage(&mut self, name: &'static str, run: impl FnOnce() -> Result<(bool, Counts), String>) {
        self.push(name, false, run);
    }

    /// Runs a stage whose counts are tests. One in which no test ran is a failure: something is not as it seems.
    fn tests(&mut self, name: &'static str, run: impl FnOnce() -> Result<(bool, Counts), String>) {
        self.push(name, true, run);
    }

    fn push(&mut self, name: &'static str, has_tests: bool, run: impl FnOnce() -> Result<(bool, Counts), String>) {
        if !self.is_good() {
            let counts = Counts { skipped: 1, ..Counts::default() };
            self.stages.push(Stage { name, standing: Standing::NotReached, counts, seconds: 0.0, has_tests });
            return;
        }
        println!("\n=== {name} ===");
        let start = Instant::now();
        let (exited_well, mut counts) = run().unwrap_or_else(|why| {
            println!("{name}: {why}");
            (false, Counts::default())
        });
        let good = exited_well && counts.failed == 0;
        if !good && counts.failed == 0 {
            counts.failed = 1;
        }
        let standing = if good { Standing::Good } else { Standing::Bad };
        self.stages.push(Stage { name, standing, counts, seconds: start.elapsed().as_secs_f64(), has_tests });
    }

    fn left_out(&mut self, name: &'static str) {
        let counts = Counts { skipped: 1, ..Counts::default() };
        self.stages.push(Stage { name, standing: Standing::LeftOut, counts, seconds: 0.0, has_tests: false });
    }

    fn is_good(&self) -> bool {
        self.stages.iter().all(|stage| matches!(stage.standing, Standing::Good | Standing::LeftOut))
    }

    /// The closing lines. The last one is for machines.
    fn summary(&self) -> String {
        let mut text =
            format!("{:<16}{:<14}{:>9}{:>9}{:>9}{:>9}\n", "stage", "", "seconds", "passed", "failed", "skipped");
        let mut total = Counts::default();
        for Stage { name, standing, counts, seconds, .. } in &self.stages {
            let standing = match standing {
                Standing::Good => "good",
                Standing::Bad => "FAILED",
                Standing::NotReached => "not reached",
                Standing::LeftOut => "left out",
            };
            let Counts { passed, failed, skipped } = *counts;
            text.push_str(&format!("{name:<16}{standing:<14}{seconds:>9.1}{passed:>9}{failed:>9}{skipped:>9}\n"));
            total += *counts;
        }
        let ran = self.stages.iter().filter(|stage| stage.has_tests && stage.standing != Standing::NotReached);
        let ran: u64 = ran.map(|stage| stage.counts.passed + stage.counts.failed).sum();
        text.push_str(&format!("\ntests that ran: {ran}\n"));
        let left_out = self.stages.iter().filter(|stage| stage.standing == Standing::LeftOut);
        let left_out: Vec<&str> = left_out.map(|stage| stage.name).collect();
        if !left_out.is_empty() {
            text.push_str(&format!("peer checks left out: {} (run them with --with-peers)\n", left_out.join(", ")));
        }
        let Counts { passed, failed, skipped } = total;
        text.push_str(&format!("\n{passed} passed, {failed} failed, {skipped} skipped"));
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(good: bool, passed: u64, failed: u64, skipped: u64) -> Result<(bool, Counts), String> {
        Ok((good, Counts { passed, failed, skipped }))
    }

    #[test]
    fn a_good_run_adds_up_and_names_what_was_left_out() {
        let mut report = Report::default();
        report.stage("lints", || outcome(true, 0, 0, 0));
        report.stage("tidy", || outcome(true, 9, 0, 0));
        report.tests("tests", || outcome(true, 100, 0, 2));
        report.left_out("dsse");
        assert!(report.is_good());
        let summary = report.summary();
        assert!(summary.contains("tests that ran: 100\n"), "{summary}");
        assert!(summary.contains("peer checks left out: dsse "), "{summary}");
        assert_eq!(summary.lines().last(), Some("109 passed, 0 failed, 3 skipped"));
    }

    #[test]
    fn the_first_failure_ends_the_run_and_is_counted() {
        let mut report = Report::default();
        report.stage("lints", || outcome(false, 0, 0, 0));
        report.tests("tests", || panic!("a stage ran after a failure"));
        report.stage("peer", || panic!("a stage ran after a failure"));
        assert!(!report.is_good());
        let summary = report.summary();
        assert!(summary.contains("tests that ran: 0\n"), "{summary}");
        assert!(summary.contains("not reached"), "{summary}");
        assert_eq!(summary.lines().last(), Some("0 passed, 1 failed, 2 skipped"));
    }

    #[test]
    fn failed_tests_unstartable_programs_and_lying_exit_codes_are_failures() {
        for (run, last) in [
            (outcome(false, 5, 2, 0), "5 passed, 2 failed, 0 skipped"),
            (outcome(true, 5, 2, 0), "5 passed, 2 failed, 0 skipped"),
            (Err("no such program".to_owned()), "0 passed, 1 failed, 0 skipped"),
        ] {
            let mut report = Report::default();
            report.tests("tests", || run);
            assert!(!report.is_good());
            assert_eq!(report.summary().lines().last(), Some(last));
        }
    }

    #[test]
    fn data_needs_all_hospitals() {
        let directory = std::env::temp_dir().join(format!("xtask-data-{}", std::process::id()));
        std::fs::create_dir_all(directory.join("heart_disease")).unwrap();
        for hospital in HOSPITALS {
            assert!(!has_hospitals(&directory));
            std::fs::write(directory.join(format!("heart_disease/processed.{hospital}.data")), "").unwrap();
        }
        assert!(has_hospitals(&directory));
        std::fs::remove_dir_all(&directory).unwrap();
        assert!(describe_data(None).contains("NOT"));
    }
}
