//! Runs a program, passes on what it says as it says it, and counts the tests it reports.
//!
//! Test runners have no common report. Each says one summary line per run that has not changed for years; those lines
//! are read here, and a runner that says none has run nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Command, Stdio};

/// How many checks passed, failed and were skipped.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Ran and found nothing wrong.
    pub passed: u64,
    /// Ran and found something wrong, or could not run to its end.
    pub failed: u64,
    /// Did not run.
    pub skipped: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped += other.skipped;
    }
}

/// Whose summary lines to read.
#[derive(Debug, Clone, Copy)]
pub enum Reporter {
    /// Nobody's: the program reports nothing but its exit code.
    Silent,
    /// `cargo nextest`: `Summary [ 1.0s] 5 tests run: 4 passed (1 slow), 1 failed, 2 skipped`.
    Nextest,
    /// `cargo test`, one line per binary: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    CargoTest,
    /// A peer check: `name: 12 passed, 0 failed`.
    Peer(&'static str),
}

/// Runs to the end, streaming; whether it exited well, and what it counted.
///
/// # Errors
/// When the program cannot be started; in words, for the operator.
pub fn stream(command: &mut Command, reporter: Reporter) -> Result<(bool, Counts), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let failed = |error: std::io::Error| format!("{name} cannot be run: {error}");
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(failed)?;
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let counts = std::thread::scope(|scope| {
        let out = scope.spawn(|| out.map(|pipe| pass_on(pipe, std::io::stdout(), reporter)).unwrap_or_default());
        let err = scope.spawn(|| err.map(|pipe| pass_on(pipe, std::io::stderr(), reporter)).unwrap_or_default());
        let mut counts = out.join().unwrap_or_default();
        counts += err.join().unwrap_or_default();
        counts
    });
    let status = child.wait().map_err(failed)?;
    Ok((status.success(), counts))
}

/// Runs to the end without showing anything; what it printed.
///
/// # Errors
/// When the program cannot be started or fails; in words, with what it said last.
pub fn capture(command: &mut Command) -> Result<String, String> {
    let name = format!("{} {}", command.get_program().display(), first_arguments(command));
    let output = command.output().map_err(|error| format!("{name} cannot be run: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
    said.push_str(&String::from_utf8_lossy(&output.stderr));
    let lines: Vec<&str> = said.lines().collect();
    let last = lines.iter().skip(lines.len().saturating_sub(20)).copied().collect::<Vec<_>>().join("\n");
    Err(format!("{name} failed:\n{last}"))
}

fn first_arguments(command: &Command) -> String {
    command.get_args().take(3).map(|argument| argument.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn pass_on(from: impl Read, mut to: impl Write, reporter: Reporter) -> Counts {
    let mut counts = Counts::default();
    let mut from = BufReader::new(from);
    let mut line = Vec::new();
    // A closed terminal must not stop the run: what cannot be shown is dropped, what is counted stays counted.
    while from.read_until(b'\n', &mut line).is_ok_and(|bytes| bytes > 0) {
        drop(to.write_all(&line).and_then(|()| to.flush()));
        counts += counted(&String::from_utf8_lossy(&line), reporter);
        line.clear();
    }
    counts
}

/// What a line adds to the counts: nothing, unless it is the reporter's summary line.
fn counted(line: &str, reporter: Reporter) -> Counts {
    let line = without_colours(line);
    let line = line.trim();
    let items = match reporter {
        Reporter::Silent => None,
        Reporter::Nextest if line.starts_with("Summary [") => {
            line.split_once(" run: ").map(|(_, items)| items.to_owned())
        }
        Reporter::Nextest => None,
        Reporter::CargoTest => line
            .strip_prefix("test result: ")
            .and_then(|rest| rest.split_once(". "))
            .map(|(_, items)| items.replace(';', ",")),
        Reporter::Peer(name) => line.strip_prefix(name).and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned),
    };
    items.map(|items| tally(&items)).unwrap_or_default()
}

/// Reads `4 passed (1 slow), 1 failed, 2 timed out, 3 skipped`; words that are none of ours count nothing.
fn tally(items: &str) -> Counts {
    let mut counts = Counts::default();
    for item in items.split(',') {
        let mut words = item.split_whitespace();
        let Some(number) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
        match words.next() {
            Some("passed") => counts.passed += number,
            Some("failed" | "timed" | "exec") => counts.failed += number,
            Some("skipped" | "ignored" | "filtered") => counts.skipped += number,
            _ => {}
        }
    }
    counts
}

/// The text without ANSI colour sequences, `ESC [ … m`.
fn without_colours(text: &str) -> String {
    let mut parts = text.split('\u{1b}');
    let mut plain = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        plain.push_str(part.split_once('m').map_or("", |(_, rest)| rest));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn summary_lines_are_counted_and_others_are_not() {
        let counts = |passed, failed, skipped| Counts { passed, failed, skipped };
        let nothing = Counts::default();
        let cases = [
            (Reporter::Nextest, "     Summary [   0.123s] 12 tests run: 12 passed, 0 skipped", counts(12, 0, 0)),
            (Reporter::Nextest, "Summary [1s] 1 test run: 1 passed, 3 skipped", counts(1, 0, 3)),
            (
                Reporter::Nextest,
                "     Summary [  61.0s] 9/20 tests run: 5 passed (1 slow, 2 leaky), 3 failed, 1 timed out, 4 skipped",
                counts(5, 4, 4),
            ),
            (
                Reporter::Nextest,
                "\u{1b}[32;1m     Summary\u{1b}[0m [   0.1s] \u{1b}[1m2\u{1b}[0m tests run: \u{1b}[1m2\u{1b}[0m \u{1b}[32;1mpassed\u{1b}[0m, 0 skipped",
                counts(2, 0, 0),
            ),
            (Reporter::Nextest, "        PASS [   0.005s] cohortium-dp a::b", nothing),
            (Reporter::Nextest, "test result: ok. 3 passed; 0 failed", nothing),
            (
                Reporter::CargoTest,
                "test result: FAILED. 3 passed; 2 failed; 1 ignored; 0 measured; 4 filtered out; finished in 0.00s",
                counts(3, 2, 5),
            ),
            (Reporter::CargoTest, "test a::b ... ok", nothing),
            (Reporter::Peer("dsse"), "dsse: 12 passed, 1 failed", counts(12, 1, 0)),
            (Reporter::Peer("dsse"), "other: 12 passed, 1 failed", nothing),
            (Reporter::Silent, "dsse: 12 passed, 1 failed", nothing),
        ];
        for (reporter, line, expected) in cases {
            assert_eq!(counted(line, reporter), expected, "{line}");
        }
    }

    #[test]
    fn a_program_is_streamed_counted_and_its_failure_noticed() {
        let mut good = Command::new("sh");
        good.args(["-c", "echo 'p: 2 passed, 0 failed'; echo 'p: 1 passed, 1 failed' >&2"]);
        let (success, counts) = stream(&mut good, Reporter::Peer("p")).unwrap();
        assert!(success);
        assert_eq!(counts, Counts { passed: 3, failed: 1, skipped: 0 });
        let (success, _) = stream(Command::new("sh").args(["-c", "exit 3"]), Reporter::Silent).unwrap();
        assert!(!success);
        assert!(stream(&mut Command::new("./no such program"), Reporter::Silent).is_err());
    }

    #[test]
    fn captured_failures_carry_the_last_words() {
        assert_eq!(capture(Command::new("sh").args(["-c", "echo yes"])).unwrap(), "yes\n");
        let error = capture(Command::new("sh").args(["-c", "echo why >&2; exit 1"])).unwrap_err();
        assert!(error.contains("why"), "{error}");
    }
}
