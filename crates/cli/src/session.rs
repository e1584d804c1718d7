//! A home's keys and its hub, ready to call.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use cohortium_api::{Caller, Client, ClientError, Connection};
use cohortium_messages::{
    Agreement, Call, Directory, Hash, Name, Principal, PrincipalKind, Reply, ResearcherEntry, ResearcherSecrets,
    RosterEntry, SigningKey, Staff, StudyRecord, Verified, canonical_bytes,
};
use cohortium_node::home::Home;
use cohortium_node::service::{nonce, now, system_rng};
use cohortium_node::view::View;
use zeroize::Zeroizing;

use crate::output::Failure;

/// How long a question that was put waits for a hub that cannot be reached: twice what the hub gives the members for one
/// step, which it gives them anew when it has started again.
const HUB_PATIENCE: Duration = Duration::from_secs(120);
/// How many pages of a list are asked for at most: a hub that never ends is not believed.
const MAX_PAGES: usize = 10_000;
/// The first and the longest pause between two tries.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));

/// Someone who can call the hub.
pub struct Session {
    client: Client,
    pub connection: Connection,
    pub home: PathBuf,
    pub key: SigningKey,
}

impl Session {
    /// Opens the home of a node or a researcher.
    pub fn open(home: &Path) -> Result<Self, Failure> {
        let connection = connection(home)?;
        let key = match connection.kind {
            PrincipalKind::Organisation => {
                let text = Home::new(home).secrets()?.message.to_secret_text();
                SigningKey::from_secret_text(&text).map_err(Failure::own)?
            }
            PrincipalKind::Researcher => researcher_secrets(home)?.key,
        };
        Ok(Self { client: connection.client()?, connection, home: home.to_owned(), key })
    }

    /// Whose session this is.
    pub const fn name(&self) -> &Name {
        &self.connection.name
    }

    /// Calls the hub.
    pub async fn call(&self, call: Call) -> Result<Reply, ClientError> {
        let principal = Principal { kind: self.connection.kind, name: self.connection.name.clone() };
        let caller = Caller { key: &self.key, nonce: nonce(&mut system_rng()), now: now(), principal };
        self.client.call(&caller, call).await
    }

    /// Calls the hub, again and again for a while if it cannot be reached: it may be starting anew. For calls that do
    /// nothing when they are made twice.
    pub async fn call_patiently(&self, call: Call, waiting: impl Fn(String)) -> Result<Reply, ClientError> {
        let (began, mut pause) = (Instant::now(), PAUSE.0);
        loop {
            match self.call(call.clone()).await {
                Err(error @ ClientError::Unreachable { .. }) if began.elapsed() < HUB_PATIENCE => {
                    waiting(format!("{error}; trying again"));
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(PAUSE.1);
                }
                done => return done,
            }
        }
    }

    pub async fn directory(&self) -> Result<Directory, Failure> {
        let mut all = Directory::default();
        for _ in 0..MAX_PAGES {
            let Reply::Directory(page) = self.call(Call::Directory { after: all.next.take() }).await? else {
                return Err(unexpected());
            };
            all.offers.extend(page.offers);
            all.organisations.extend(page.organisations);
            all.researchers.extend(page.researchers);
            all.staff.extend(page.staff);
            all.next = page.next;
            if all.next.is_none() {
                return Ok(all);
            }
        }
        Err(unexpected())
    }

    pub async fn studies(&self) -> Result<Vec<StudyRecord>, Failure> {
        let mut all: Vec<StudyRecord> = Vec::new();
        for _ in 0..MAX_PAGES {
            let after = all.last().map(|record| record.study.clone());
            match self.call(Call::Studies { after }).await? {
                Reply::Studies(page) if page.is_empty() => return Ok(all),
                Reply::Studies(page) => all.extend(page),
                _ => return Err(unexpected()),
            }
        }
        Err(unexpected())
    }

    /// The agreement of a study that has begun, with every custodian's signature checked and pinned: a study whose
    /// agreement changes under the same revision is not believed again.
    pub async fn agreement(&self, study: &Name) -> Result<Verified<Agreement>, Failure> {
        let studies = self.studies().await?;
        let known: Vec<String> = studies.iter().map(|record| record.study.to_string()).collect();
        let record = studies.into_iter().find(|record| record.study == *study).ok_or_else(|| {
            Failure::usage(format!("there is no study `{study}` at this hub (there are: {})", known.join(", ")))
        })?;
        if !record.complete {
            return Err(Failure::not_ready(format!("study `{study}` waits for custodians' signatures")));
        }
        let agreement = cohortium_policy::open_agreement(&record.agreement).map_err(Failure::not_verified)?;
        if agreement.hub != self.connection.hub {
            return Err(Failure::not_verified("the agreement names another hub than this home's invitation"));
        }
        self.pin(&agreement)?;
        Ok(agreement)
    }

    fn pin(&self, agreement: &Verified<Agreement>) -> Result<(), Failure> {
        let file = self.home.join("studies").join(format!("{}.pin", agreement.study));
        let line = format!("{} {}", agreement.revision, agreement.hash());
        match std::fs::read_to_string(&file) {
            Ok(known) if known == line => Ok(()),
            Ok(known) if known.split(' ').next().and_then(|r| r.parse().ok()) >= Some(agreement.revision) => {
                Err(Failure::not_verified(format!(
                    "study `{}` is shown with another agreement than before; ask the custodians, then remove {}",
                    agreement.study,
                    file.display()
                )))
            }
            _ => {
                std::fs::create_dir_all(self.home.join("studies")).map_err(Failure::own)?;
                match cohortium_store::write_private(&file, line.as_bytes()) {
                    Ok(()) => Ok(()),
                    // Another question of ours, asked at the same moment, may have pinned the same agreement first.
                    Err(_) if std::fs::read_to_string(&file).is_ok_and(|known| known == line) => Ok(()),
                    Err(error) => Err(Failure::own(format!("{}: {error}", file.display()))),
                }
            }
        }
    }
}

/// The connection of a node's or a researcher's home; in any other folder, what that is.
fn connection(home: &Path) -> Result<Connection, Failure> {
    Connection::load(home).map_err(|error| {
        let is = |file: &str| home.join(file).is_file();
        let what = match () {
            () if is("hub.toml") => "the home of a hub",
            () if is("person.json") => "the folder of a person, who speaks with --as",
            () if is("sandbox.toml") => "a whole sandbox: its nodes are in `nodes`, its researcher in `researcher`",
            () => return Failure::usage(error),
        };
        Failure::usage(format!(
            "{} is {what}: give the home of a node or of a researcher with --home DIR",
            home.display()
        ))
    })
}

/// The node's home in this folder; in any other folder, what to do about it.
pub fn node_home(home: &Path) -> Result<Home, Failure> {
    let connection = connection(home)?;
    match connection.kind {
        PrincipalKind::Organisation => Ok(Home::new(home)),
        PrincipalKind::Researcher => Err(Failure::usage(format!(
            "{} is the home of the researcher {}: give an organisation's with --home DIR",
            home.display(),
            connection.name
        ))),
    }
}

/// A look into the node's home in this folder.
pub fn open_view(home: &Path) -> Result<View, Failure> {
    let node = node_home(home)?;
    if !node.has_run() {
        return Err(Failure::not_ready(format!(
            "the node in {} has never run, so there is nothing to show yet: run it with `node start`",
            home.display()
        )));
    }
    Ok(View::open(&node)?)
}

/// Who is here, each as it signed itself.
pub struct Members {
    pub organisations: Vec<Verified<RosterEntry>>,
    pub researchers: Vec<Verified<ResearcherEntry>>,
    /// Who acts for the organisations, as each says of itself.
    pub staff: Vec<Verified<Staff>>,
}

/// The verified entries of a directory.
pub fn members(directory: &Directory) -> Result<Members, Failure> {
    let organisations = directory.organisations.iter().map(|envelope| {
        let claims = envelope.peek::<RosterEntry>().map_err(Failure::not_verified)?;
        envelope.open::<RosterEntry>(&claims.claims().identity_key).map_err(Failure::not_verified)
    });
    let organisations = organisations.collect::<Result<Vec<_>, Failure>>()?;
    let researchers = directory.researchers.iter().map(|envelope| {
        let claims = envelope.peek::<ResearcherEntry>().map_err(Failure::not_verified)?;
        envelope.open::<ResearcherEntry>(&claims.claims().key).map_err(Failure::not_verified)
    });
    let researchers = researchers.collect::<Result<_, Failure>>()?;
    let mut staff = Vec::new();
    for envelope in &directory.staff {
        let claims = envelope.peek::<Staff>().map_err(Failure::not_verified)?;
        if let Some(entry) = organisations.iter().find(|entry| entry.organisation == claims.claims().organisation) {
            staff.push(envelope.open::<Staff>(&entry.message_key).map_err(Failure::not_verified)?);
        }
    }
    Ok(Members { organisations, researchers, staff })
}

/// The file in which a researcher's key is kept.
pub fn researcher_keys_file(home: &Path) -> PathBuf {
    home.join("keys.toml")
}

/// A researcher's key.
pub fn researcher_secrets(home: &Path) -> Result<ResearcherSecrets, Failure> {
    let path = researcher_keys_file(home);
    let text = std::fs::read_to_string(&path).map(Zeroizing::new);
    let text = text.map_err(|error| Failure::own(format!("{}: {error}", path.display())))?;
    ResearcherSecrets::from_secret_text(&text).map_err(|error| Failure::own(format!("{}: {error}", path.display())))
}

/// What people compare over another channel: the fingerprint of what somebody signed for themselves.
pub fn fingerprint<T: serde::Serialize>(entry: &T) -> Result<String, Failure> {
    Ok(Hash::of(&canonical_bytes(entry).map_err(Failure::own)?).fingerprint())
}

pub fn unexpected() -> Failure {
    Failure::not_verified("the hub answers something else than was asked")
}
