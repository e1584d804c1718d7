//! `cohortium audit`: check offline what happened. Needs files only: no server, no key of anyone.

use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Subcommand;
use cohortium_audit::{
    AccountReport, Attester, AttesterPart, AuditReport, ExportError, Finding, LogReport, Outcome, OwnLogReport,
    TaskReport,
};
use cohortium_messages::{Envelope, Hash, Name, Role};
use cohortium_node::service::now;

use crate::output::{Failure, Output, plain, table};
use crate::person::{Person, Speaker};
use crate::query::micro;
use crate::session::open_view;

#[derive(Subcommand)]
pub enum Command {
    /// Check a log against a signed agreement: the hub's, or with --node a node's own
    Verify {
        /// The log's directory: `checkpoint`, `tile/`, `body/` (default: `log` in --home)
        #[arg(long)]
        log: Option<PathBuf>,
        /// The signed agreement, as `study show STUDY --out FILE` writes it. With --node it may be given several times, once
        /// for each revision and study; without it all that the node in --home holds are taken
        #[arg(long, required_unless_present = "node")]
        agreement: Vec<PathBuf>,
        /// The log is this node's own, not the hub's
        #[arg(long)]
        node: Option<Name>,
    },
    /// Write the evidence of one answer as a folder that other people's tools read (RO-Crate, docs/evidence.md)
    Export {
        #[command(flatten)]
        files: Files,
        /// The task that was answered: its hash, or enough of its first digits
        #[arg(long, value_name = "TASK")]
        release: String,
        /// The folder to write; it must not exist
        #[arg(long)]
        out: PathBuf,
        #[command(flatten)]
        speaker: Speaker,
    },
    /// Write one page on a study, for a privacy officer: who, what, why, at what price, and whether it was verified
    Report {
        #[command(flatten)]
        files: Files,
        /// The page to write (HTML)
        #[arg(long)]
        out: PathBuf,
    },
}

/// What an audit reads.
#[derive(clap::Args)]
pub struct Files {
    /// The hub's log: `checkpoint`, `tile/`, `body/` (default: `log` in --home)
    #[arg(long)]
    log: Option<PathBuf>,
    /// The signed agreement, as `study show STUDY --out FILE` writes it
    #[arg(long)]
    agreement: PathBuf,
}

/// The file of a log that says what its head is.
const CHECKPOINT: &str = "checkpoint";
/// The most bytes that are read to see whose log it is: names have at most 64.
const ORIGIN_MAX: usize = 256;
/// The fewest digits by which a task may be called.
const MIN_PREFIX: usize = 4;

pub fn run(command: &Command, home: Option<&Path>, output: &Output) -> Result<(), Failure> {
    match command {
        Command::Verify { log, agreement, node } => {
            let log = log_dir(log.as_deref(), home)?;
            let progress = output.progress("checking");
            match node {
                None => {
                    let [agreement] = agreement.as_slice() else {
                        return Err(Failure::usage("give one agreement: the hub's log has the others"));
                    };
                    demand_hubs(&log, agreement)?;
                    let report = verify(&log, agreement)?;
                    drop(progress);
                    output.result(&report, || format!("The log keeps every rule.\n{}", summary(&report)))
                }
                Some(node) => {
                    let report = verify_own(&log, agreement, home, node)?;
                    drop(progress);
                    output.result(&report, || format!("{node}'s own log keeps every rule.\n{}", own_summary(&report)))
                }
            }
        }
        Command::Export { files, release, out, speaker } => {
            export(&log_dir(files.log.as_deref(), home)?, &files.agreement, release, out, speaker, output)
        }
        Command::Report { files, out } => page(&log_dir(files.log.as_deref(), home)?, &files.agreement, out, output),
    }
}

/// The directory of the log that is meant, in which a log is.
fn log_dir(log: Option<&Path>, home: Option<&Path>) -> Result<PathBuf, Failure> {
    let log = log.map(Path::to_owned).or_else(|| home.map(|home| home.join("log")));
    let log = log.ok_or_else(|| Failure::usage("say which log: --log DIR (or --home of the hub)"))?;
    if log.join(CHECKPOINT).is_file() {
        return Ok(log);
    }
    let what = if log.is_dir() { "holds no log: the file `checkpoint` is not in it" } else { "is no directory" };
    Err(Failure::usage(format!("{} {what}. Name the log's own directory with --log", log.display())))
}

/// Whose log it says it is: the first line of its head (C2SP tlog-checkpoint). A kindness, not a check.
fn origin(log: &Path) -> Option<String> {
    let mut start = [0; ORIGIN_MAX];
    let read = std::fs::File::open(log.join(CHECKPOINT)).and_then(|mut file| file.read(&mut start)).ok()?;
    let text = String::from_utf8_lossy(start.get(..read)?).into_owned();
    text.lines().next().map(plain)
}

/// Refuses a log that says it is a member's own, where the hub's is meant: nothing else would be said of it than that a
/// signature is missing.
fn demand_hubs(log: &Path, agreement: &Path) -> Result<(), Failure> {
    let Ok(agreement) = cohortium_policy::open_agreement(&read(agreement)?) else { return Ok(()) };
    let party = agreement.parties.iter().map(|party| party.entry.organisation.as_str());
    match origin(log).filter(|origin| party.into_iter().any(|party| party == origin)) {
        Some(name) => Err(Failure::usage(format!(
            "{} is {name}'s own log, not the hub's: `audit verify --node {name}` checks it",
            log.display()
        ))),
        None => Ok(()),
    }
}

/// Writes the evidence of a task's answer, attested with a person's key.
fn export(
    log: &Path,
    agreement: &Path,
    task: &str,
    out: &Path,
    speaker: &Speaker,
    output: &Output,
) -> Result<(), Failure> {
    let person = Person::open(&speaker.person)?;
    if person.entry.role != Role::Auditor {
        // Whoever approves must not vouch with the same key that what was approved was right.
        return Err(Failure::refused(
            format!(
                "{} is {}: only an auditor attests, with a key that is used for nothing else (`person init --role auditor`)",
                person.entry.person, person.entry.role
            ),
            Vec::new(),
        ));
    }
    if out.exists() {
        return Err(Failure::usage(format!(
            "{} is there already, and nothing is written over: name a new folder with --out",
            out.display()
        )));
    }
    demand_hubs(log, agreement)?;
    let progress = output.progress("checking the log, then writing");
    let (task, release) = released(&verify(log, agreement)?, task)?;
    let attester = Attester { at: now(), key: &person.secrets.key, name: &person.entry.person };
    let exported = cohortium_audit::export(log, &read(agreement)?, release, out, &attester).map_err(export_failure)?;
    drop(progress);
    let name = &person.entry.person;
    let (known_at, warning) = match &exported.attester {
        AttesterPart::Of(organisation) => (Some(organisation), exported.attester.in_words(name)),
        AttesterPart::Unknown => (None, format!("WARNING: {}", exported.attester.in_words(name))),
    };
    let value = serde_json::json!({"attested_by": name, "attester_of": known_at, "files": exported.files,
        "identifier": exported.identifier, "manifest_sha512": exported.manifest_sha512, "out": out,
        "release": release, "task": task});
    output.result(&value, || {
        format!(
            "Wrote the evidence of task {}: {} files in {}. The statements in it are {}'s word, signed with the key in {}.\n\
             {warning}\nSHA-512 of its manifest, to be written down beside it:\n  {}",
            task.short(),
            exported.files,
            out.display(),
            person.entry.person,
            speaker.person.display(),
            exported.manifest_sha512
        )
    })
}

/// Who must act when nothing was exported.
pub fn export_failure(error: ExportError) -> Failure {
    match error {
        ExportError::Audit(_) | ExportError::Contradicted { .. } => Failure::not_verified(error),
        ExportError::NoRelease { .. } | ExportError::Folder { .. } => Failure::usage(error),
        ExportError::Internal(_) => Failure::own(error),
    }
}

/// The answer of the task that begins with these digits.
fn released(report: &AuditReport, text: &str) -> Result<(Hash, Hash), Failure> {
    let is_digits = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    if !is_digits || text.len() < MIN_PREFIX {
        return Err(Failure::usage(format!(
            "`{text}` is no task: give {MIN_PREFIX} digits (0-9, a-f) or more of its hash"
        )));
    }
    let tasks: Vec<&TaskReport> = report.tasks.iter().filter(|task| task.task.to_string().starts_with(text)).collect();
    match tasks.as_slice() {
        [] => Err(Failure::usage(format!("no task in this log begins with `{text}`"))),
        [task] => match &task.outcome {
            Outcome::Released { release, .. } => Ok((task.task, *release)),
            Outcome::Failed { .. } | Outcome::Open | Outcome::Refused { .. } => Err(Failure::usage(format!(
                "task {} has no answer, so there is nothing to export; the report of the study (`audit report`) has it",
                task.task.short()
            ))),
        },
        many => {
            let many: Vec<String> = many.iter().map(|task| task.task.to_string()).collect();
            Err(Failure::usage(format!("several tasks begin with `{text}`: {}", many.join(", "))))
        }
    }
}

/// Writes the page of a study; one that is not verified says so at its top, and fails.
fn page(log: &Path, agreement: &Path, out: &Path, output: &Output) -> Result<(), Failure> {
    demand_hubs(log, agreement)?;
    let progress = output.progress("checking the log, then writing");
    let page = cohortium_audit::report(log, &read(agreement)?).map_err(Failure::not_verified)?;
    let written_over = out.exists();
    std::fs::write(out, &page.html).map_err(|error| Failure::own(format!("{}: {error}", out.display())))?;
    drop(progress);
    let over = if written_over { " (over the file that was there)" } else { "" };
    if !page.verified {
        let wrong = page.wrong.unwrap_or_else(|| String::from("not all that the log says can be believed"));
        return Err(Failure::not_verified(format!(
            "{wrong}. Wrote {}{over}, which says at its top that it is not verified, and why",
            out.display()
        )));
    }
    output.result(&serde_json::json!({"out": out, "verified": page.verified, "written_over": written_over}), || {
        format!("Wrote {}{over}: open it in a browser, or print it. The log keeps every rule.", out.display())
    })
}

/// Checks a hub's log directory against a signed agreement in a file.
pub fn verify(log: &Path, agreement: &Path) -> Result<AuditReport, Failure> {
    cohortium_audit::verify(log, &read(agreement)?).map_err(Failure::not_verified)
}

/// Checks a node's own log under the agreements in these files, or else under all that the node's home holds.
fn verify_own(log: &Path, files: &[PathBuf], home: Option<&Path>, node: &Name) -> Result<OwnLogReport, Failure> {
    let envelopes: Vec<Envelope> = match (files, home) {
        ([], Some(home)) => open_view(home)?.versions()?.into_iter().map(|(_, envelope)| envelope).collect(),
        ([], None) => {
            return Err(Failure::usage("say under which agreements: --agreement FILE (or the node's --home)"));
        }
        (files, _) => files.iter().map(|file| read(file)).collect::<Result<_, Failure>>()?,
    };
    let opened = envelopes.iter().map(cohortium_policy::open_agreement).collect::<Result<Vec<_>, _>>();
    let agreements = opened.map_err(Failure::not_verified)?;
    if agreements.iter().all(|agreement| agreement.party(node).is_none()) {
        return Err(Failure::usage(format!("{node} is a party of none of these agreements")));
    }
    if let Some(other) = origin(log).filter(|origin| origin != node.as_str()) {
        return Err(Failure::usage(format!("{} is the log of {other}, not {node}'s own", log.display())));
    }
    cohortium_audit::verify_own_log(log, node, &agreements).map_err(Failure::not_verified)
}

fn read(agreement: &Path) -> Result<Envelope, Failure> {
    let text = std::fs::read(agreement).map_err(|error| Failure::usage(format!("{}: {error}", agreement.display())))?;
    serde_json::from_slice(&text)
        .map_err(|_| Failure::not_verified(format!("{} is no signed agreement", agreement.display())))
}

/// What was checked and found, in words.
pub fn summary(report: &AuditReport) -> String {
    let mut text = head(&report.log, report.entries.iter().map(|(kind, count)| format!("{count} {kind}")));
    let tasks = report.tasks.iter().map(task_row);
    if !report.tasks.is_empty() {
        let _ =
            writeln!(text, "{}", table(&["entry", "task", "asked", "researcher", "dataset", "ε", "outcome"], tasks));
    }
    if !report.accounts.is_empty() {
        let _ = writeln!(
            text,
            "{}",
            table(&["node", "dataset", "study", "ε spent", "of"], report.accounts.iter().map(account_row))
        );
    }
    text + &findings(&report.findings)
}

fn own_summary(report: &OwnLogReport) -> String {
    head(&report.log, report.entries.iter().map(|(kind, count)| format!("{count} {kind}")))
        + &findings(&report.findings)
}

fn head(log: &LogReport, entries: impl Iterator<Item = String>) -> String {
    let cosigners: Vec<&str> = log.cosigned_by.iter().map(|cosigner| cosigner.organisation.as_str()).collect();
    let cosigned = if cosigners.is_empty() { String::new() } else { format!(", cosigned by {}", cosigners.join(", ")) };
    format!("Log `{}`: {} entries ({}){cosigned}.\n", log.origin, log.size, entries.collect::<Vec<_>>().join(", "))
}

fn task_row(task: &TaskReport) -> Vec<String> {
    let outcome = match &task.outcome {
        Outcome::Failed { reason } => format!("failed: {reason}"),
        Outcome::Open => String::from("open"),
        Outcome::Refused { clauses } => format!("refused: {}", clauses.join(", ")),
        Outcome::Released { entry, .. } => format!("released at entry {entry}"),
    };
    vec![
        task.entry.to_string(),
        task.task.short(),
        task.asked_at.to_string(),
        task.researcher.to_string(),
        task.dataset.to_string(),
        task.epsilon_micro.map_or_else(|| String::from("–"), |epsilon| format!("{:.3}", micro(epsilon))),
        outcome,
    ]
}

fn account_row(account: &AccountReport) -> Vec<String> {
    vec![
        account.node.to_string(),
        account.dataset.to_string(),
        account.study.to_string(),
        format!("{:.3}", account.epsilon_spent),
        account.epsilon_total.to_string(),
    ]
}

fn findings(findings: &[Finding]) -> String {
    let line = |finding: &Finding| match finding.entry {
        Some(entry) => format!("Note on entry {entry}: {}\n", finding.text),
        None => format!("Note: {}\n", finding.text),
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A folder of this test alone, taken away at its end.
    struct Scratch(PathBuf);

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    /// A path with no log was said to be a log of which a file is missing, by a name relative to nobody knew what.
    #[test]
    fn repro_a_path_without_a_log_is_named() {
        let scratch = Scratch(std::env::temp_dir().join(format!("cohortium-audit-{}", std::process::id())));
        let nowhere = scratch.0.join("nowhere");
        let message = |log: &Path| log_dir(Some(log), None).err().map(|failure| failure.message().to_owned());
        assert_eq!(
            message(&nowhere),
            Some(format!("{} is no directory. Name the log's own directory with --log", nowhere.display()))
        );
        std::fs::create_dir_all(&scratch.0).unwrap();
        assert!(message(&scratch.0).is_some_and(|message| message.contains("holds no log")));
        assert_eq!(origin(&scratch.0), None);
        std::fs::write(scratch.0.join(CHECKPOINT), "north\u{202e}side\n3\nroot\n").unwrap();
        assert_eq!(message(&scratch.0), None);
        assert_eq!(origin(&scratch.0).as_deref(), Some("north\u{fffd}side"));
    }
}
