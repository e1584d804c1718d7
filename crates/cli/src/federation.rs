//! A whole federation in one folder: homes, data, agreement, and the processes that run it.
//!
//! ```text
//! DIR/
//!   hub/ nodes/NAME/ researcher/   homes, as each party would have its own
//!   people/NAME/PERSON/            folders of those who act for an organisation, where people approve
//!   data/NAME/DATASET.csv          each organisation's file
//!   schemas/DATASET.toml           the declarations
//!   invitations/ logs/ run/        files handed over, diagnosis, process numbers
//!   agreement.toml agreement.json  the draft, and the agreement as all custodians signed it
//! ```

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use cohortium_hub::home::Home as HubHome;
use cohortium_messages::{MAX_CELLS, Name, Role};
use cohortium_node::home::Home as NodeHome;
use cohortium_node::service::system_rng;
use serde::{Deserialize, Serialize};

use crate::dataset::{self, Declaration, Total};
use crate::output::{Failure, Progress};
use crate::session::Session;
use crate::{hospitals, hub, node, person, researcher, study};

/// The researcher of a sandbox.
pub const RESEARCHER: &str = "ada";
/// ε of a whole sandbox study, of a sandbox dataset, and of one question unless it says otherwise.
pub const EPSILON_TOTAL: &str = "20";
/// How long processes may take to come up, or a study to begin.
const PATIENCE: Duration = Duration::from_secs(60);

/// A federation in a folder.
pub struct Federation {
    dir: PathBuf,
    facts: Facts,
}

/// What a sandbox remembers of itself.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Facts {
    /// The datasets, each held by every organisation.
    pub datasets: Vec<Name>,
    /// Whether people also let out what leaves.
    #[serde(default)]
    pub hold: bool,
    pub organisations: Vec<Name>,
    /// Whether people approve tasks.
    #[serde(default)]
    pub people: bool,
    pub study: Name,
}

/// How tasks are approved in a sandbox.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Approval {
    /// Everything runs without asking anybody.
    Automatic,
    /// A person at each organisation must say yes; with `hold`, also to what leaves.
    People {
        /// Whether what leaves is held back.
        hold: bool,
    },
}

/// Who acts for each organisation of a sandbox with people.
pub const PEOPLE: [(&str, Role); 2] = [("paula", Role::PrivacyOfficer), ("stella", Role::Steward)];

/// Where the data comes from.
pub enum Source {
    /// Simulated from a seed.
    Simulated { patients: u32, seed: u64 },
    /// A folder with one file or sub-folder per organisation, and a declaration.
    Folder { data: PathBuf, schema: PathBuf },
}

/// A running process that ends when this is dropped.
pub struct Process {
    child: Child,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Federation {
    /// Makes a federation: data, homes, memberships, a signed agreement. Leaves it stopped.
    pub async fn create(
        dir: &Path,
        source: &Source,
        name: Option<Name>,
        approval: Approval,
        progress: &Progress,
    ) -> Result<Self, Failure> {
        if dir.join("sandbox.toml").exists() {
            return Err(Failure::usage(format!("{} holds a sandbox already", dir.display())));
        }
        for folder in ["data", "invitations", "logs", "nodes", "run", "schemas"] {
            std::fs::create_dir_all(dir.join(folder))
                .map_err(|error| Failure::own(format!("{}: {error}", dir.display())))?;
        }
        progress.now("preparing each organisation's data");
        let (organisations, datasets) = match source {
            Source::Simulated { patients, seed } => simulate(dir, *patients, *seed)?,
            Source::Folder { data, schema } => import(dir, data, schema)?,
        };
        let first = datasets.first().ok_or_else(|| Failure::usage("no dataset"))?.clone();
        let study = match (name, source) {
            (Some(name), _) => name,
            (None, Source::Simulated { .. }) => Name::new("outcomes").map_err(Failure::own)?,
            (None, Source::Folder { .. }) => first,
        };
        let (hold, people) = (approval == Approval::People { hold: true }, approval != Approval::Automatic);
        let federation = Self { dir: dir.to_owned(), facts: Facts { datasets, hold, organisations, people, study } };
        federation.enrol(approval, progress).await?;
        let text = toml::to_string(&federation.facts).map_err(Failure::own)?;
        std::fs::write(dir.join("sandbox.toml"), text).map_err(Failure::own)?;
        Ok(federation)
    }

    /// Opens a federation that was made before.
    pub fn open(dir: &Path) -> Result<Self, Failure> {
        let text = std::fs::read_to_string(dir.join("sandbox.toml"))
            .map_err(|_| Failure::usage(format!("{} is no sandbox: make one with `sandbox new`", dir.display())))?;
        Ok(Self { dir: dir.to_owned(), facts: toml::from_str(&text).map_err(Failure::own)? })
    }

    /// Hub, keys, invitations, datasets, agreement: everything short of asking. The hub runs for as long as it takes.
    async fn enrol(&self, approval: Approval, progress: &Progress) -> Result<(), Failure> {
        progress.now("making keys and certificates");
        let hub_home = self.hub();
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()?));
        hub::init(&hub_home, Name::new("hub").map_err(Failure::own)?, listen, "127.0.0.1", 60)?;
        let running = self.spawn("hub")?;
        let invitation = hub_home.invite(&Name::new(RESEARCHER).map_err(Failure::own)?, true, &mut system_rng())?;
        wait_for_port(listen).await?;
        researcher::join(&self.researcher(), &invitation).await?;
        let total = Total {
            epsilon: EPSILON_TOTAL.parse().map_err(Failure::own)?,
            delta: "0.000001".parse().map_err(Failure::own)?,
        };
        for name in &self.facts.organisations {
            progress.now(format!("{name} joins and adds its data"));
            let invitation = hub_home.invite(name, false, &mut system_rng())?;
            hub::write_invitation(&self.dir.join("invitations").join(format!("{name}.json")), &invitation)?;
            let home = self.node(name);
            node::join(&home, &invitation).await?;
            if approval != Approval::Automatic {
                self.take_people_in(name, &home).await?;
            }
            let secrets = home.secrets()?;
            for dataset in &self.facts.datasets {
                let declaration = self.declaration(dataset)?;
                dataset::add(&home, &secrets, dataset, &self.data_file(name, dataset), &declaration, total)?;
            }
        }
        progress.now("nodes offer the shapes of their data");
        let nodes = self.spawn_nodes()?;
        self.agree(approval, progress).await?;
        drop((nodes, running));
        Ok(())
    }

    /// Each person makes a key in a folder of their own, and the operator takes its public half in.
    async fn take_people_in(&self, organisation: &Name, node: &NodeHome) -> Result<(), Failure> {
        let session = Session::open(node.dir())?;
        for (person, role) in PEOPLE {
            let home = self.person(organisation, person);
            person::make(&home, &Name::new(person).map_err(Failure::own)?, role)?;
            node::take_in(&session, node, &person::read_entry(&person::entry_file(&home))?, false).await?;
        }
        Ok(())
    }

    /// The custodians draft and sign, each from its own home.
    async fn agree(&self, approval: Approval, progress: &Progress) -> Result<(), Failure> {
        let mut sessions = Vec::new();
        for name in &self.facts.organisations {
            sessions.push(Session::open(self.node(name).dir())?);
        }
        let first = sessions.first().ok_or_else(|| Failure::usage("no organisations"))?;
        let offers = self.facts.organisations.len() * self.facts.datasets.len();
        until("the nodes did not offer their datasets", async || Ok(first.directory().await?.offers.len() >= offers))
            .await?;
        let draft = study::draft(first, &self.facts.study, &self.facts.organisations).await?;
        let draft = fill_in(&draft, approval);
        let file = self.dir.join("agreement.toml");
        std::fs::write(&file, draft).map_err(Failure::own)?;
        let agreement = study::from_draft(first, &file).await?;
        for session in &sessions {
            progress.now(format!("{} signs the agreement", session.name()));
            study::put_signature(session, &agreement).await?;
        }
        let studies = first.studies().await?;
        let record = studies.into_iter().find(|record| record.study == self.facts.study && record.complete);
        let record = record.ok_or_else(|| Failure::own("the agreement is not complete"))?;
        let bytes = serde_json::to_vec_pretty(&record.agreement).map_err(Failure::own)?;
        std::fs::write(self.agreement_file(), bytes).map_err(Failure::own)
    }

    /// Starts the hub, waits until it listens, starts the nodes.
    pub async fn start(&self) -> Result<Vec<Process>, Failure> {
        let mut processes = vec![self.spawn("hub")?];
        wait_for_port(self.hub().settings()?.listen).await?;
        processes.extend(self.spawn_nodes()?);
        Ok(processes)
    }

    fn spawn_nodes(&self) -> Result<Vec<Process>, Failure> {
        self.facts.organisations.iter().map(|name| self.spawn(name.as_str())).collect()
    }

    /// Starts the hub or the node of that name as a process of this same program, with its diagnosis in a file.
    fn spawn(&self, name: &str) -> Result<Process, Failure> {
        let (kind, home) = match name {
            "hub" => ("hub", self.hub_dir()),
            _ => ("node", self.dir.join("nodes").join(name)),
        };
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.join("logs").join(format!("{name}.log")))
            .map_err(Failure::own)?;
        let program = std::env::current_exe().map_err(Failure::own)?;
        let child = std::process::Command::new(program)
            .arg("--home")
            .arg(&home)
            .args([kind, "start"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| Failure::own(format!("cannot start {name}: {error}")))?;
        std::fs::write(self.pid_file(name), child.id().to_string()).map_err(Failure::own)?;
        Ok(Process { child })
    }

    /// Stops every process that `start` left behind and waits until it is gone, so that its home and port are free;
    /// gives the names of those that ran.
    pub async fn stop(&self) -> Result<Vec<String>, Failure> {
        let names = self.facts.organisations.iter().map(Name::as_str).chain(["hub"]);
        let mut stopped = Vec::new();
        for name in names {
            let Ok(pid) = std::fs::read_to_string(self.pid_file(name)) else { continue };
            let pid = pid.trim();
            if is_ours(pid) && signal("-TERM", pid) {
                until("a process does not stop", async || Ok(!is_ours(pid))).await?;
                stopped.push(name.to_owned());
            }
            let _ = std::fs::remove_file(self.pid_file(name));
        }
        Ok(stopped)
    }

    /// Whether all of its processes run.
    pub fn is_running(&self) -> bool {
        self.running().1.is_empty()
    }

    /// Which of its processes run, and which do not.
    pub fn running(&self) -> (Vec<String>, Vec<String>) {
        let names = ["hub"].into_iter().chain(self.facts.organisations.iter().map(Name::as_str)).map(str::to_owned);
        names.partition(|name| std::fs::read_to_string(self.pid_file(name)).is_ok_and(|pid| is_ours(pid.trim())))
    }

    pub const fn facts(&self) -> &Facts {
        &self.facts
    }

    pub fn hub(&self) -> HubHome {
        HubHome::new(self.hub_dir())
    }

    pub fn node(&self, name: &Name) -> NodeHome {
        NodeHome::new(self.dir.join("nodes").join(name.as_str()))
    }

    pub fn researcher(&self) -> PathBuf {
        self.dir.join("researcher")
    }

    /// The folder of a person of an organisation.
    pub fn person(&self, organisation: &Name, person: &str) -> PathBuf {
        self.dir.join("people").join(organisation.as_str()).join(person)
    }

    pub fn agreement_file(&self) -> PathBuf {
        self.dir.join("agreement.json")
    }

    pub fn hub_dir(&self) -> PathBuf {
        self.dir.join("hub")
    }

    pub fn data_file(&self, organisation: &Name, dataset: &Name) -> PathBuf {
        self.dir.join("data").join(organisation.as_str()).join(format!("{dataset}.csv"))
    }

    pub fn declaration(&self, dataset: &Name) -> Result<Declaration, Failure> {
        Declaration::load(&self.dir.join("schemas").join(format!("{dataset}.toml")))
    }

    fn pid_file(&self, name: &str) -> PathBuf {
        self.dir.join("run").join(format!("{name}.pid"))
    }
}

/// Fills in what a person would: who accepts the risk, and budgets for trying things out.
fn fill_in(draft: &str, approval: Approval) -> String {
    let mut text = String::new();
    for line in draft.lines() {
        let line = match line.split_once(" = ").map(|(key, _)| key.trim()) {
            Some("accepted_by") => "accepted_by = \"the person at this keyboard, for trying\"".to_owned(),
            Some("epsilon_total") => format!("epsilon_total = {EPSILON_TOTAL}"),
            Some("epsilon_per_researcher") => format!("epsilon_per_researcher = {EPSILON_TOTAL}"),
            Some("epsilon_per_query") => String::from("epsilon_per_query = 2"),
            // Who tries things out alone wants to see small groups, sums without counts, and large tables.
            Some("minimum_cohort") if approval == Approval::Automatic => String::from("minimum_cohort = 0"),
            Some("hold") if approval == (Approval::People { hold: true }) => String::from("hold = true"),
            _ if approval == Approval::Automatic => {
                line.replace("max_cells = 1000", &format!("max_cells = {MAX_CELLS}"))
            }
            _ => line.to_owned(),
        };
        text.push_str(&line);
        text.push('\n');
    }
    text
}

fn simulate(dir: &Path, patients: u32, seed: u64) -> Result<(Vec<Name>, Vec<Name>), Failure> {
    let mut organisations = Vec::new();
    for (number, name) in hospitals::NAMES.iter().enumerate() {
        let tables = hospitals::simulate(seed, number as u64, patients);
        let folder = dir.join("data").join(name);
        std::fs::create_dir_all(&folder).map_err(Failure::own)?;
        std::fs::write(folder.join("patients.csv"), tables.patients).map_err(Failure::own)?;
        std::fs::write(folder.join("encounters.csv"), tables.encounters).map_err(Failure::own)?;
        organisations.push(Name::new(*name).map_err(Failure::own)?);
    }
    let mut datasets = Vec::new();
    for text in [hospitals::PATIENTS, hospitals::ENCOUNTERS] {
        let declaration = Declaration::parse(text, "the built-in declaration")?;
        let name = declaration.name.ok_or_else(|| Failure::own("a built-in declaration has no name"))?;
        std::fs::write(dir.join("schemas").join(format!("{name}.toml")), text).map_err(Failure::own)?;
        datasets.push(name);
    }
    Ok((organisations, datasets))
}

/// Takes a folder in: each file, or each sub-folder with one file, is an organisation of that name.
fn import(dir: &Path, data: &Path, schema: &Path) -> Result<(Vec<Name>, Vec<Name>), Failure> {
    let declaration = Declaration::load(schema)?;
    let dataset = declaration.name.unwrap_or(Name::new("data").map_err(Failure::own)?);
    std::fs::copy(schema, dir.join("schemas").join(format!("{dataset}.toml"))).map_err(Failure::own)?;
    let list = |folder: &Path| -> Result<Vec<PathBuf>, Failure> {
        let entries =
            std::fs::read_dir(folder).map_err(|error| Failure::usage(format!("{}: {error}", folder.display())))?;
        let mut paths = entries.map(|e| e.map(|e| e.path())).collect::<Result<Vec<_>, _>>().map_err(Failure::usage)?;
        paths.retain(|path| path.file_name().is_some_and(|name| !name.to_string_lossy().starts_with('.')));
        paths.sort();
        Ok(paths)
    };
    let is_data = |path: &PathBuf| {
        path.is_dir() || path.extension().is_some_and(|e| ["csv", "data", "txt"].iter().any(|known| e == *known))
    };
    let mut organisations = Vec::new();
    for path in list(data)?.into_iter().filter(is_data) {
        let name = organisation_name(&path)?;
        let file = if path.is_dir() {
            match list(&path)?.as_slice() {
                [file] => file.clone(),
                files => {
                    let why = format!("{} must hold exactly one file, and holds {}", path.display(), files.len());
                    return Err(Failure::usage(why));
                }
            }
        } else {
            path
        };
        let to = dir.join("data").join(name.as_str());
        std::fs::create_dir_all(&to).map_err(Failure::own)?;
        std::fs::copy(&file, to.join(format!("{dataset}.csv"))).map_err(Failure::own)?;
        organisations.push(name);
    }
    if organisations.len() < 2 {
        return Err(Failure::usage(format!(
            "{} holds {} organisation(s): a federation needs two or more files or sub-folders",
            data.display(),
            organisations.len()
        )));
    }
    Ok((organisations, vec![dataset]))
}

/// `processed.cleveland.data` is `cleveland`: the last part of the stem that is no file extension.
fn organisation_name(path: &Path) -> Result<Name, Failure> {
    let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
    let last = stem.rsplit('.').next().unwrap_or_default();
    let text: String =
        last.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    Name::new(text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// A port that nothing listens on at this moment.
fn free_port() -> Result<u16, Failure> {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(Failure::own)?;
    Ok(listener.local_addr().map_err(Failure::own)?.port())
}

async fn wait_for_port(address: SocketAddr) -> Result<(), Failure> {
    until("the hub did not come up: see logs/hub.log in the sandbox", async || {
        Ok(tokio::net::TcpStream::connect(address).await.is_ok())
    })
    .await
}

/// Asks again and again until it is so, or patience ends.
async fn until(otherwise: &str, is_so: impl AsyncFn() -> Result<bool, Failure>) -> Result<(), Failure> {
    let give_up = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < give_up {
        if is_so().await? {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Err(Failure::not_ready(otherwise))
}

/// Whether a process of this program has this number. Where the system does not tell whose it is, its word is taken.
fn is_ours(pid: &str) -> bool {
    let own = std::env::current_exe().ok();
    match std::fs::read_to_string(format!("/proc/{pid}/cmdline")) {
        Ok(line) => {
            let program = line.split('\0').next().map(Path::new).and_then(Path::file_name);
            program.is_some() && program == own.as_deref().and_then(Path::file_name)
        }
        Err(_) => !Path::new("/proc/self").exists() && signal("-0", pid),
    }
}

fn signal(which: &str, pid: &str) -> bool {
    let status = std::process::Command::new("kill").args([which, pid]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;
    use cohortium_messages::Decimal;

    #[test]
    fn organisations_are_named_after_their_files() {
        for (file, name) in [("processed.cleveland.data", "cleveland"), ("St Mary.csv", "st-mary"), ("va", "va")] {
            assert_eq!(organisation_name(Path::new(file)).unwrap().as_str(), name);
        }
        assert!(organisation_name(Path::new("9.csv")).is_err());
        assert!(EPSILON_TOTAL.parse::<Decimal>().is_ok());
    }
}
