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
//! ```

use std::path::{Path, PathBuf};

use cohortium_api::Connection;
use cohortium_engine::ingest_csv;
use cohortium_messages::{Decimal, Hash, Invitation, Name, OrganisationSecrets, Schema};
use cohortium_store::{SqliteStore, make_private_folder, write_private};
use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::node::{Node, NodeConfig, NodeError, own};
use crate::records::DatasetRecord;

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

/// A node's folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

impl Home {
    /// The home in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
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
