//! A node's folder: keys, connection, store, own log, datasets.
//!
//! ```text
//! HOME/
//!   connection.toml        which hub, under which name
//!   keys.toml              secret keys, mode 0600
//!   store.db               account, journal, runs (SQLite)
//!   log/                   the node's own log, C2SP tiles
//!   datasets/NAME.toml     schema and budget of a dataset, with the commitment to its rows
//!   datasets/NAME-*.parquet  its rows, typed and clean, named after the commitment to them
//!   desk/HASH.json         what a person of this house says, until the node has acted on it
//!   desk/refused/          what it did not act on, each with a sentence beside it
//!   watch.toml             the rules by which the house wants to be told; defaults where it is absent
//! ```

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use cohortium_api::Connection;
use cohortium_engine::ingest_csv;
use cohortium_messages::{
    Decimal, Entry, Envelope, Fact, Hash, Invitation, Name, OrganisationSecrets, Schema, canonical_bytes,
};
use cohortium_policy::watch::Rules;
use cohortium_store::{SqliteStore, make_private_folder, write_private};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::node::{Node, NodeConfig, NodeError, own};
use crate::records::{DatasetRecord, DeskItem};

pub use cohortium_engine::{CsvOptions, IngestError, IngestReport};

/// A dataset to take in.
pub struct NewDataset<'a> {
    /// How its file is written.
    pub csv: &'a CsvOptions,
    /// δ of the total budget.
    pub delta: Decimal,
    /// ε that all studies and researchers together may spend.
    pub epsilon: Decimal,
    /// Its name.
    pub name: &'a Name,
    /// Its declared shape.
    pub schema: &'a Schema,
}

/// The most items of the desk that are taken at once, and the most bytes of each: a signed entry has a few hundred.
const MAX_DESK_ITEMS: usize = 64;
/// The longest name of a file that was laid there.
const MAX_DESK_NAME: usize = 96;
const MAX_DESK_BYTES: u64 = 64 << 10;
/// The most refused items that are kept to be looked at.
const MAX_REFUSED: usize = 1_000;
/// The longest `watch.toml`, bytes.
const MAX_WATCH_BYTES: u64 = 64 << 10;

/// Something on the desk.
pub struct OnDesk {
    /// Its bytes, or why they are not taken.
    pub bytes: Result<Vec<u8>, String>,
    file: String,
}

/// A node's folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
    /// What could not be taken from the desk, by name, with when it was written. It is passed over until it is written anew
    /// or the process begins anew, so that it hides nothing else.
    stuck: Arc<Mutex<BTreeMap<String, Option<SystemTime>>>>,
}

impl Home {
    /// The home in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), stuck: Arc::default() }
    }

    /// Makes a home with fresh keys for the organisation that `invitation` invites.
    ///
    /// # Errors
    /// When there is a home already, or the folder cannot be written.
    pub fn init(&self, invitation: &Invitation, rng: &mut dyn CryptoRng) -> Result<OrganisationSecrets, NodeError> {
        if self.keys_file().exists() {
            return Err(own(format!("{} has keys already; they are never overwritten", self.dir.display())));
        }
        make_private_folder(&self.dir.join("datasets")).map_err(own)?;
        let secrets = OrganisationSecrets::generate(rng);
        Connection::from_invitation(invitation).save(&self.dir).map_err(own)?;
        write_private(&self.keys_file(), secrets.to_secret_text().as_bytes()).map_err(own)?;
        Ok(secrets)
    }

    /// The connection to the hub.
    ///
    /// # Errors
    /// When this is no home.
    pub fn connection(&self) -> Result<Connection, NodeError> {
        Connection::load(&self.dir).map_err(own)
    }

    /// Whether the node that lives here has ever run.
    #[must_use]
    pub fn has_run(&self) -> bool {
        self.store_file().exists()
    }

    /// The organisation's keys.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn secrets(&self) -> Result<OrganisationSecrets, NodeError> {
        let path = self.keys_file();
        let text = std::fs::read_to_string(&path).map_err(|error| own(format!("{}: {error}", path.display())))?;
        OrganisationSecrets::from_secret_text(&Zeroizing::new(text))
            .map_err(|error| own(format!("{}: {error}", path.display())))
    }

    /// All datasets that were added here.
    ///
    /// # Errors
    /// When a record cannot be read.
    pub fn datasets(&self) -> Result<Vec<DatasetRecord>, NodeError> {
        let folder = self.dir.join("datasets");
        let mut records = Vec::new();
        for file in std::fs::read_dir(&folder).map_err(|error| own(format!("{}: {error}", folder.display())))? {
            let path = file.map_err(own)?.path();
            if path.extension().is_some_and(|extension| extension == "toml") {
                let text = std::fs::read_to_string(&path).map_err(own)?;
                let record: DatasetRecord =
                    toml::from_str(&text).map_err(|error| own(format!("{}: {}", path.display(), error.message())))?;
                records.push(record);
            }
        }
        records.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(records)
    }

    /// Writes a dataset's record, after its snapshot.
    ///
    /// # Errors
    /// When the folder cannot be written.
    fn put_dataset(&self, record: &DatasetRecord) -> Result<(), NodeError> {
        let text = toml::to_string(record).map_err(own)?;
        write_private(&self.dir.join("datasets").join(format!("{}.toml", record.name)), text.as_bytes()).map_err(own)
    }

    /// The file that holds these rows of a dataset and no others: it is named after the commitment to them.
    #[must_use]
    pub fn snapshot_file(&self, dataset: &Name, snapshot: Hash) -> PathBuf {
        self.dir.join("datasets").join(format!("{dataset}-{}.parquet", snapshot.short()))
    }

    /// Takes a CSV file in: typed, clean, committed to under the house's salt.
    ///
    /// # Errors
    /// [`IngestError`] when the file does not fit the schema: its steward must act, and nothing was written.
    pub fn add_dataset(
        &self,
        secrets: &OrganisationSecrets,
        dataset: NewDataset<'_>,
        file: impl std::io::Read,
        rng: &mut dyn CryptoRng,
    ) -> Result<Result<IngestReport, IngestError>, NodeError> {
        let NewDataset { csv, delta, epsilon, name, schema } = dataset;
        let staged = self.dir.join("datasets").join(format!("{name}.staged"));
        let report = match ingest_csv(file, csv, schema, &staged) {
            Ok(report) => report,
            Err(error) => return Ok(Err(error)),
        };
        // A salt of its own for every snapshot: the same rows taken in again are another commitment.
        let mut draw = [0; 32];
        rng.fill_bytes(&mut draw);
        let salt = Hash::of_parts("cohortium/snapshot-salt/v1", &[&*secrets.salt, &draw]);
        let snapshot = cohortium_engine::commitment(&staged, salt.as_bytes()).map_err(own)?;
        let before = self.datasets()?.into_iter().find(|record| record.name == *name);
        // The rows are there under a name of their own before the record names them; a crash between leaves a file that
        // nothing names, and the rows that the record named are untouched.
        std::fs::rename(&staged, self.snapshot_file(name, snapshot)).map_err(own)?;
        let draw = Hash::from_bytes(draw);
        let schema = schema.clone();
        self.put_dataset(&DatasetRecord { delta, draw, epsilon, name: name.clone(), schema, snapshot })?;
        if let Some(before) = before {
            // A round that was permitted on these rows and has not read them yet will be void.
            std::fs::remove_file(self.snapshot_file(name, before.snapshot)).map_err(own)?;
        }
        Ok(Ok(report))
    }

    /// The rules by which this house wants to be told: those in `watch.toml`, or the defaults.
    ///
    /// # Errors
    /// When the file says something that is no rule.
    pub fn rules(&self) -> Result<Rules, NodeError> {
        let path = self.dir.join("watch.toml");
        if !path.exists() {
            return Ok(Rules::default());
        }
        let wrong = |why: String| own(format!("{}: {why}", path.display()));
        let bytes = read_at_most(&path, MAX_WATCH_BYTES).map_err(wrong)?;
        let text = String::from_utf8(bytes).map_err(|error| wrong(error.to_string()))?;
        toml::from_str(&text).map_err(|error| wrong(error.message().to_owned()))
    }

    /// Lays something on the desk: under another name first, so that the node never sees half of it. Returns where it lies.
    ///
    /// The order of names is the order in which a node hears what came while it did not run: first what forbids or stops,
    /// then the rest as it was said. So a *no* counts although somebody else's *yes* lies beside it.
    ///
    /// # Errors
    /// When it is too long, or the folder cannot be written.
    pub fn lay_on_desk(&self, item: &DeskItem) -> Result<PathBuf, NodeError> {
        let bytes = serde_json::to_vec(item).map_err(own)?;
        if bytes.len() as u64 > MAX_DESK_BYTES {
            return Err(own(format!("this has {} bytes, and a desk takes {MAX_DESK_BYTES}", bytes.len())));
        }
        make_private_folder(&self.desk()).map_err(own)?;
        let name = desk_name(&item.entry)?;
        let (staged, path) = (self.desk().join(format!("{name}.staged")), self.desk().join(format!("{name}.json")));
        write_private(&staged, &bytes).map_err(own)?;
        std::fs::rename(&staged, &path).map_err(own)?;
        Ok(path)
    }

    /// What lies on the desk, in the order of names; not all at once if it is much, and without what could not be taken
    /// from it.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn on_desk(&self) -> Result<Vec<OnDesk>, NodeError> {
        let mut files = self.to_hear().map_err(own)?;
        files.truncate(MAX_DESK_ITEMS);
        let read = |file: String| OnDesk { bytes: read_at_most(&self.desk().join(&file), MAX_DESK_BYTES), file };
        Ok(files.into_iter().map(read).collect())
    }

    /// Whether something lies on the desk that can be acted on.
    #[must_use]
    pub fn is_desk_laid(&self) -> bool {
        self.to_hear().is_ok_and(|files| !files.is_empty())
    }

    /// The files on the desk, but for those that could not be taken from it and are as they were then.
    fn to_hear(&self) -> std::io::Result<Vec<String>> {
        let mut files = names_in(&self.desk(), ".json")?;
        let mut stuck = self.stuck();
        stuck.retain(|file, _| files.binary_search(file).is_ok());
        if !stuck.is_empty() {
            files.retain(|file| stuck.get(file).is_none_or(|written| *written != self.written_at(file)));
        }
        Ok(files)
    }

    fn stuck(&self) -> MutexGuard<'_, BTreeMap<String, Option<SystemTime>>> {
        self.stuck.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When a file of the desk was last written.
    fn written_at(&self, file: &str) -> Option<SystemTime> {
        std::fs::metadata(self.desk().join(file)).and_then(|about| about.modified()).ok()
    }

    /// Remembers what could not be taken from the desk.
    fn or_stuck(&self, item: &OnDesk, taken: Result<(), NodeError>) -> Result<(), NodeError> {
        if taken.is_err() {
            self.stuck().insert(item.file.clone(), self.written_at(&item.file));
        }
        taken
    }

    /// Takes from the desk what was acted upon.
    ///
    /// # Errors
    /// When the folder cannot be written. The item is then passed over.
    pub fn clear_from_desk(&self, item: &OnDesk) -> Result<(), NodeError> {
        self.or_stuck(item, std::fs::remove_file(self.desk().join(&item.file)).map_err(own))
    }

    /// Puts aside what was not acted upon, with the reason beside it. Of more than a thousand such the oldest are thrown
    /// away: whoever waits for the newest finds it.
    ///
    /// # Errors
    /// When the folder cannot be written. The item is then passed over.
    pub fn put_aside(&self, item: &OnDesk, why: &str) -> Result<(), NodeError> {
        self.or_stuck(item, self.try_put_aside(item, why))
    }

    fn try_put_aside(&self, item: &OnDesk, why: &str) -> Result<(), NodeError> {
        let folder = self.desk().join("refused");
        make_private_folder(&folder).map_err(own)?;
        make_room(&folder).map_err(own)?;
        let file = refused_name(&item.file);
        let reason = folder.join(format!("{file}.txt"));
        if reason.exists() {
            std::fs::remove_file(&reason).map_err(own)?; // of a file that had the same name
        }
        write_private(&reason, format!("{why}\n").as_bytes()).map_err(own)?;
        std::fs::rename(self.desk().join(&item.file), folder.join(file)).map_err(own)
    }

    /// What was not acted upon, and why.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn refused_on_desk(&self) -> Result<Vec<(PathBuf, String)>, NodeError> {
        let folder = self.desk().join("refused");
        let files = names_in(&folder, ".json").map_err(own)?;
        let with_reason = |file: String| {
            let why = read_at_most(&folder.join(format!("{file}.txt")), MAX_DESK_BYTES).unwrap_or_default();
            (folder.join(&file), String::from_utf8_lossy(&why).trim().to_owned())
        };
        Ok(files.into_iter().map(with_reason).collect())
    }

    fn desk(&self) -> PathBuf {
        self.dir.join("desk")
    }

    /// Opens the node that lives here. Only one process can at a time.
    ///
    /// # Errors
    /// When the home is damaged or in use.
    pub fn open(&self) -> Result<Node, NodeError> {
        let connection = self.connection()?;
        let config = NodeConfig {
            datasets: self.datasets()?,
            hub: connection.hub,
            organisation: connection.name,
            rules: Some(self.rules()?),
            secrets: self.secrets()?,
        };
        let store = SqliteStore::open(&self.store_file()).map_err(own)?;
        Node::open(config, Box::new(store), &self.log_dir())
    }

    /// The store's file.
    #[must_use]
    pub fn store_file(&self) -> PathBuf {
        self.dir.join("store.db")
    }

    /// The directory of the node's own log.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    fn keys_file(&self) -> PathBuf {
        self.dir.join("keys.toml")
    }
}

/// What a file of the desk is called: its weight, when it was said, and the hash of the entry.
fn desk_name(envelope: &Envelope) -> Result<String, NodeError> {
    let hash = Hash::of(&canonical_bytes(envelope).map_err(own)?);
    let claims = envelope.peek::<Entry>().map_err(own)?;
    let forbids = matches!(
        claims.claims().fact,
        Fact::Approval { approved: false, .. } | Fact::Freeze { frozen: true, .. } | Fact::Revocation { .. }
    );
    let weight = if forbids { 0 } else { 1 };
    Ok(format!("{weight}-{:012}-{hash}", claims.claims().time.seconds().max(0)))
}

/// What a file of the desk is called once it is put aside: as before, or by the hash of its name where that is longer than
/// any that was laid there. Such names may be as long as a folder takes, and leave no room for the reason's.
fn refused_name(file: &str) -> String {
    if file.len() <= MAX_DESK_NAME { file.to_owned() } else { format!("{}.json", Hash::of(file.as_bytes())) }
}

/// Throws away the oldest of what was put aside, until one more finds room.
fn make_room(folder: &Path) -> std::io::Result<()> {
    let mut files = names_in(folder, ".json")?;
    if files.len() < MAX_REFUSED {
        return Ok(());
    }
    let put_at = |file: &String| std::fs::metadata(folder.join(file)).and_then(|about| about.modified()).ok();
    files.sort_by_cached_key(put_at);
    for file in files.iter().take(files.len() + 1 - MAX_REFUSED) {
        std::fs::remove_file(folder.join(file))?;
        match std::fs::remove_file(folder.join(format!("{file}.txt"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The files of a folder that end so, sorted; none where there is no folder. Links and folders are left out: what a name
/// points to is not what was laid there.
fn names_in(folder: &Path, end: &str) -> std::io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name().into_string().unwrap_or_default();
        if name.ends_with(end) && entry.file_type()?.is_file() {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// The bytes of a file, unless it is longer, or the reason in words.
fn read_at_most(path: &Path, limit: u64) -> Result<Vec<u8>, String> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(|error| error.to_string())?;
    file.take(limit + 1).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() as u64 > limit { Err(format!("it has more than {limit} bytes")) } else { Ok(bytes) }
}
