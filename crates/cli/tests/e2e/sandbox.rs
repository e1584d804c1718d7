//! Running the binary, and a sandbox for each test that ends with it.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

/// The hospitals of a sandbox.
pub const HOSPITALS: [&str; 3] = ["northside", "riverbank", "stmary"];
/// Patients of each hospital, as a number and as it is written.
pub const PATIENTS: (u32, &str) = (300, "300");
/// After this long something hangs. Many times what anything takes on a busy machine with two cores.
pub const PATIENCE: Duration = Duration::from_secs(300);

/// What a finished command said.
pub struct Said {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "exit code {:?}\n--- stdout\n{}\n--- stderr\n{}", self.code, self.out, self.err)
    }
}

impl Said {
    /// The result of a command that must have gone well, with `--format json`.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert_eq!(self.code, Some(0), "{self}");
        serde_json::from_str(&self.out).unwrap_or_else(|error| panic!("no JSON ({error}): {self}"))
    }

    /// The text of a command that must have gone well.
    #[track_caller]
    pub fn text(&self) -> &str {
        assert_eq!(self.code, Some(0), "{self}");
        &self.out
    }

    /// The command must have failed with this code, saying all of these.
    #[track_caller]
    pub fn fails(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{self}");
        for part in parts {
            assert!(self.err.contains(part), "`{part}` is not said: {self}");
        }
    }
}

/// The binary with these arguments, and with nothing of the surroundings.
pub fn command(home: Option<&Path>, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cohortium"));
    if let Some(home) = home {
        command.arg("--home").arg(home);
    }
    command.args(arguments).env_remove("COHORTIUM_HOME").env_remove("COHORTIUM_LOG").stdin(Stdio::null());
    command
}

/// Runs the binary to its end.
#[track_caller]
pub fn run(home: Option<&Path>, arguments: &[&str]) -> Said {
    let mut child = command(home, arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (out, err) = (read_all(child.stdout.take().unwrap()), read_all(child.stderr.take().unwrap()));
    let began = Instant::now();
    let status = loop {
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None if began.elapsed() < PATIENCE => thread::sleep(Duration::from_millis(5)),
            None => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("hangs: {arguments:?}\n{}\n{}", out.join().unwrap(), err.join().unwrap());
            }
        }
    };
    Said { code: status.code(), out: out.join().unwrap(), err: err.join().unwrap() }
}

/// Runs the binary to its end, for programs.
#[track_caller]
pub fn run_json(home: Option<&Path>, arguments: &[&str]) -> Said {
    run(home, &[arguments, &["--format", "json"]].concat())
}

fn read_all(mut from: impl Read + Send + 'static) -> thread::JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).unwrap();
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// Looks again and again until there is something.
#[track_caller]
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    while began.elapsed() < PATIENCE {
        if let Some(found) = look() {
            return found;
        }
        thread::sleep(Duration::from_millis(20));
    }
    panic!("waited in vain: {what}");
}

/// Waits until the log of a quiet hub passes the audit: its last head may still be on its way to be cosigned.
#[track_caller]
pub fn audit_passes_once_quiet(log: &Path, agreement: &Path) -> Value {
    wait_for("the audit passes", || {
        let said = audit(log, agreement);
        match said.code {
            Some(0) => Some(said.json()),
            _ if said.err.contains("cosign") => None,
            _ => panic!("the audit fails: {said}"),
        }
    })
}

/// `audit verify`.
#[track_caller]
pub fn audit(log: &Path, agreement: &Path) -> Said {
    run_json(None, &["audit", "verify", "--log", &shown(log), "--agreement", &shown(agreement)])
}

/// An empty folder under cargo's folder for tests, of this process alone: two may run the tests at the same time.
pub fn fresh_folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("e2e").join(format!("{name}-{}", std::process::id()));
    if dir.exists() {
        std::fs::remove_dir_all(&dir).unwrap();
    }
    std::fs::create_dir_all(dir.parent().unwrap()).unwrap();
    dir
}

pub fn shown(path: &Path) -> String {
    path.display().to_string()
}

/// Hubs and nodes that a test started itself. They end with it.
#[derive(Default)]
pub struct Processes(Vec<(String, Child)>);

impl Processes {
    /// Starts the hub or node in `home`; what it says goes to `NAME.log` in `logs`.
    pub fn start(&mut self, kind: &str, name: &str, home: &Path, logs: &Path) -> u32 {
        let log = std::fs::File::options().create(true).append(true).open(logs.join(format!("{name}.log"))).unwrap();
        let child = command(Some(home), &[kind, "start"]).stdout(Stdio::null()).stderr(log).spawn().unwrap();
        let id = child.id();
        self.0.push((name.to_owned(), child));
        id
    }

    /// Waits for one that was killed, so that nothing is left of it.
    fn bury(&mut self, name: &str) {
        if let Some(at) = self.0.iter().position(|(known, _)| known == name) {
            self.0.swap_remove(at).1.wait().unwrap();
        }
    }
}

impl Drop for Processes {
    fn drop(&mut self) {
        for (_, child) in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// A sandbox. Its processes stop when this is dropped; its folder stays when the test failed.
pub struct Sandbox {
    dir: PathBuf,
    again: Processes,
}

impl Sandbox {
    /// A folder for a sandbox that some command will make.
    pub fn in_folder(name: &str) -> Self {
        Self { dir: fresh_folder(name), again: Processes::default() }
    }

    /// A small sandbox that does not run.
    #[track_caller]
    pub fn made(name: &str) -> Self {
        let sandbox = Self::in_folder(name);
        let value = run_json(None, &["sandbox", "new", &sandbox.shown(), "--patients", PATIENTS.1]).json();
        assert_eq!(value["organisations"], serde_json::json!(HOSPITALS));
        sandbox
    }

    /// A small sandbox that runs.
    #[track_caller]
    pub fn started(name: &str) -> Self {
        let sandbox = Self::made(name);
        assert_eq!(run_json(None, &["sandbox", "start", &sandbox.shown()]).json()["running"], 1 + HOSPITALS.len());
        sandbox
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn shown(&self) -> String {
        shown(&self.dir)
    }

    pub fn hub(&self) -> PathBuf {
        self.dir.join("hub")
    }

    pub fn node(&self, name: &str) -> PathBuf {
        self.dir.join("nodes").join(name)
    }

    pub fn researcher(&self) -> PathBuf {
        self.dir.join("researcher")
    }

    pub fn agreement(&self) -> PathBuf {
        self.dir.join("agreement.json")
    }

    /// The rows of one table at one hospital, as they were written, without the headings.
    pub fn rows(&self, hospital: &str, table: &str) -> Vec<Vec<String>> {
        let text = std::fs::read_to_string(self.dir.join("data").join(hospital).join(table)).unwrap();
        text.lines().skip(1).map(|line| line.split(',').map(str::to_owned).collect()).collect()
    }

    /// Asks as the researcher of the sandbox.
    #[track_caller]
    pub fn ask(&self, sql: &str, more: &[&str]) -> Said {
        run_json(Some(&self.researcher()), &[&["query", sql, "--study", "outcomes"], more].concat())
    }

    /// The budget lines of `dataset` at a node.
    #[track_caller]
    pub fn accounts(&self, node: &str, dataset: &str) -> Vec<Value> {
        let said = run_json(Some(&self.node(node)), &["account", "show", dataset]);
        said.json()["accounts"].as_array().unwrap().clone()
    }

    /// The runs at a node.
    #[track_caller]
    pub fn runs(&self, node: &str) -> Vec<Value> {
        run_json(Some(&self.node(node)), &["node", "tasks"]).json()["tasks"].as_array().unwrap().clone()
    }

    /// Waits until no run is under way at any node.
    #[track_caller]
    pub fn wait_until_quiet(&self) {
        let is_over = |run: &Value| ["released", "refused", "void"].contains(&run["state"].as_str().unwrap());
        wait_for("every run is over", || {
            HOSPITALS.iter().all(|node| self.runs(node).iter().all(is_over)).then_some(())
        });
    }

    /// Kills the hub or a node without warning.
    pub fn kill(&mut self, name: &str) {
        let pid = self.pid(name);
        assert!(Command::new("kill").args(["-9", &pid]).status().unwrap().success(), "{name} had ended on its own");
        self.again.bury(name);
        wait_for("the killed process is gone", || (!is_alive(&pid)).then_some(()));
    }

    /// Starts the hub or a node again, as its operator would.
    pub fn start_again(&mut self, name: &str) {
        let (kind, home) = if name == "hub" { ("hub", self.hub()) } else { ("node", self.node(name)) };
        let id = self.again.start(kind, name, &home, &self.dir.join("logs"));
        std::fs::write(self.pid_file(name), id.to_string()).unwrap();
    }

    /// Hub and nodes must all be running.
    #[track_caller]
    pub fn all_are_alive(&self) {
        for name in HOSPITALS.into_iter().chain(["hub"]) {
            assert!(is_alive(&self.pid(name)), "{name} has ended on its own: {}", self.log(name));
        }
    }

    pub fn log(&self, name: &str) -> String {
        std::fs::read_to_string(self.dir.join("logs").join(format!("{name}.log"))).unwrap_or_default()
    }

    fn pid(&self, name: &str) -> String {
        std::fs::read_to_string(self.pid_file(name)).unwrap().trim().to_owned()
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(format!("{name}.pid"))
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        let _ = command(None, &["sandbox", "stop", &self.shown()]).output();
        self.again = Processes::default();
        if !thread::panicking() {
            let _ = std::fs::remove_dir_all(&self.dir);
        }
    }
}

/// Whether a process runs. One that has ended and that nobody has asked after counts as gone.
fn is_alive(pid: &str) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X'])),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => Command::new("kill").args(["-0", pid]).stderr(Stdio::null()).status().unwrap().success(),
    }
}

/// A number of an answer with its 95 % interval.
#[derive(Debug, Clone, Copy)]
pub struct Estimate {
    pub value: f64,
    pub low: f64,
    pub high: f64,
}

/// Half the width of a 95 % interval in standard deviations.
pub const HALF_WIDTH: f64 = 1.959_964;

impl Estimate {
    /// A cell of an answer, if it is an estimate.
    pub fn of(cell: &Value) -> Option<Self> {
        let of = |what: &str| cell["estimate"][what].as_f64();
        Some(Self { value: of("value")?, low: of("low")?, high: of("high")? })
    }

    /// How many standard deviations of the noise the estimate is from the truth. The longer side of the interval counts:
    /// the other may have been cut at a bound of the column.
    pub fn z(&self, truth: f64) -> f64 {
        (self.value - truth) * HALF_WIDTH / (self.high - self.value).max(self.value - self.low)
    }

    /// Whether the estimate itself was cut at a bound of the column, so that its interval says nothing about the noise: a
    /// mean over few persons whose noisy sum came out negative.
    pub fn is_cut(&self) -> bool {
        self.value <= self.low || self.value >= self.high
    }

    pub fn covers(&self, truth: f64) -> bool {
        self.low <= truth && truth <= self.high
    }
}
