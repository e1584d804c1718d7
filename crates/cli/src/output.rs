//! How results and failures are printed, and which exit code says what.
//!
//! Whatever is printed may hold what others wrote: reasons, titles, and what a parser or a hub says is wrong. So everything
//! goes through here, and nothing that moves the cursor, hides text or turns its direction comes out.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use cohortium_api::ClientError;
use cohortium_hub::HubError;
use cohortium_messages::{ascii_json, plain_lines};
use cohortium_node::NodeError;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

pub use cohortium_messages::plain;

/// Text for people, JSON for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// Where results go.
pub struct Output {
    format: Format,
}

/// A failure: what to tell, and the exit code. The codes are documented in docs/cli.md and stable.
#[derive(Debug)]
pub struct Failure {
    clauses: Vec<String>,
    kind: Kind,
    message: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// 1: our own files, or a bug.
    Own,
    /// 2: the command line, a file or an SQL text.
    Usage,
    /// 3: an agreement, an account or the hub refuses.
    Refused,
    /// 4: somebody else must act first, or did not answer in time.
    NotReady,
    /// 5: the hub cannot be reached.
    Unreachable,
    /// 6: a signature, proof or file does not verify.
    NotVerified,
}

impl Failure {
    pub fn own(error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Own, error)
    }

    pub fn usage(error: impl std::fmt::Display) -> Self {
        Self::new(Kind::Usage, error)
    }

    pub fn refused(error: impl std::fmt::Display, clauses: Vec<String>) -> Self {
        Self { clauses, ..Self::new(Kind::Refused, error) }
    }

    pub fn not_ready(error: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotReady, error)
    }

    pub fn not_verified(error: impl std::fmt::Display) -> Self {
        Self::new(Kind::NotVerified, error)
    }

    /// Every failing clause, where a policy refused.
    pub fn clauses(&self) -> &[String] {
        &self.clauses
    }

    /// What is told.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same failure with one more thing to tell.
    pub fn and(self, more: &str) -> Self {
        Self { message: format!("{}\n{more}", self.message), ..self }
    }

    fn new(kind: Kind, error: impl std::fmt::Display) -> Self {
        Self { clauses: Vec::new(), kind, message: error.to_string() }
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Unreachable { .. } => Self::new(Kind::Unreachable, error),
            ClientError::Untrusted(_) => Self::new(Kind::NotVerified, error),
            ClientError::Refused(refused) => Self::refused(&refused.why, refused.clauses),
            ClientError::Request(_) => Self::own(error),
        }
    }
}

impl From<NodeError> for Failure {
    fn from(error: NodeError) -> Self {
        Self::own(error)
    }
}

impl From<HubError> for Failure {
    fn from(error: HubError) -> Self {
        Self::own(error)
    }
}

impl Output {
    pub const fn new(format: Format) -> Self {
        Self { format }
    }

    /// Prints a result: `text` for people, `value` for programs.
    pub fn result<T: Serialize>(&self, value: &T, text: impl FnOnce() -> String) -> Result<(), Failure> {
        let printed = match self.format {
            Format::Text => plain_lines(&text()),
            Format::Json => ascii_json(&serde_json::to_string_pretty(value).map_err(Failure::own)?),
        };
        print_line(printed.trim_end());
        Ok(())
    }

    /// Prints a line for people only.
    pub fn say(&self, line: impl AsRef<str>) {
        if self.format == Format::Text {
            print_line(&plain_lines(line.as_ref()));
        }
    }

    /// Shows on standard error that something takes a while; gone when dropped.
    pub fn progress(&self, what: impl Into<String>) -> Progress {
        let bar = match self.format {
            Format::Text => ProgressBar::new_spinner(),
            Format::Json => ProgressBar::hidden(),
        };
        if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} ({elapsed})") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(120));
        bar.set_message(plain(&what.into()));
        let is_piped = self.format == Format::Text && !std::io::stderr().is_terminal();
        Progress { bar, is_piped, told: Mutex::default() }
    }

    /// Prints a failure on standard error and gives its exit code.
    pub fn fail(&self, failure: &Failure) -> ExitCode {
        let code = match failure.kind {
            Kind::Own => 1,
            Kind::Usage => 2,
            Kind::Refused => 3,
            Kind::NotReady => 4,
            Kind::Unreachable => 5,
            Kind::NotVerified => 6,
        };
        match self.format {
            Format::Json => {
                let error = serde_json::json!({"error": {
                    "clauses": failure.clauses, "code": code, "kind": failure.kind, "message": failure.message}});
                eprintln!("{}", ascii_json(&error.to_string()));
            }
            Format::Text => {
                eprintln!("cohortium: {}", plain_lines(&failure.message));
                for clause in &failure.clauses {
                    eprintln!("  failing clause: {}", plain(clause));
                }
            }
        }
        ExitCode::from(code)
    }
}

/// A sign of life.
pub struct Progress {
    bar: ProgressBar,
    /// Standard error is no terminal: a sign of life is not seen there.
    is_piped: bool,
    /// What was told last.
    told: Mutex<String>,
}

impl Progress {
    /// Says what is being waited for now.
    pub fn now(&self, what: impl Into<String>) {
        self.bar.set_message(plain(&what.into()));
    }

    /// Says what is being waited for now; where nobody sees a sign of life, as a line of its own, once.
    pub fn tell(&self, what: impl Into<String>) {
        let what = plain(&what.into());
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_piped && *told != what {
            eprintln!("{what}");
        }
        told.clone_from(&what);
        self.bar.set_message(what);
    }

    /// Prints without disturbing the sign of life.
    pub fn suspend(&self, print: impl FnOnce()) {
        self.bar.suspend(print);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

/// Prints a line; a reader that went away (`| head`) is no error.
fn print_line(line: &str) {
    use std::io::Write as _;
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A table with aligned columns; numbers stand to the right.
pub fn table(headings: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = comfy_table::Table::new();
    table.load_preset(comfy_table::presets::NOTHING).set_header(headings.iter().copied());
    let mut numeric = vec![true; headings.len()];
    for row in rows {
        for (is_number, cell) in numeric.iter_mut().zip(&row) {
            *is_number &= cell.chars().next().is_none_or(|c| c.is_ascii_digit() || "-[–".contains(c));
        }
        table.add_row(row);
    }
    for (column, is_number) in table.column_iter_mut().zip(numeric) {
        if is_number {
            column.set_cell_alignment(comfy_table::CellAlignment::Right);
        }
    }
    table.lines().map(|line| line.trim_end().to_owned()).collect::<Vec<_>>().join("\n")
}
