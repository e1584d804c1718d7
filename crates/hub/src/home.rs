//! A hub's folder: keys, certificates, configuration, invitations, store and log.
//!
//! ```text
//! HOME/
//!   hub.toml              name, address, limits
//!   keys.toml             secret keys, mode 0600
//!   watch.toml            what is remarkable about a task, where the operator has other numbers than the usual ones
//!   tls/ca.pem ca-key.pem server.pem server-key.pem
//!   invitations/HASH.json who is invited, by the hash of the invitation's secret
//!   store.db              members, studies, tasks, inboxes, who called (SQLite)
//!   log/                  the transparency log, C2SP tiles and bodies: what auditors get
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;

use cohortium_messages::{Hash, HubEntry, Invitation, Name, SigningKey};
use cohortium_policy::watch::Rules;
use cohortium_store::{SqliteStore, make_private_folder, write_private};
use rand_core::CryptoRng;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::hub::{Hub, HubConfig, HubError, own_error};
use crate::members::InvitationRecord;

/// A hub's folder.
#[derive(Debug, Clone)]
pub struct Home {
    dir: PathBuf,
}

/// What an operator may set.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// Where the server listens.
    pub listen: SocketAddr,
    /// The hub's name.
    pub name: Name,
    /// How long a phase of a task may take, in seconds, before the round goes on without those who did not come, or is
    /// void where fewer than `t` did.
    pub phase_timeout_s: u32,
    /// How others reach it, `https://host:port`.
    pub url: String,
}

/// How long a phase may take unless the operator says otherwise: a node that restarts within it takes part.
pub const PHASE_TIMEOUT_S: u32 = 60;

impl Home {
    /// The home in `dir`, which need not exist yet.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// Makes a home: fresh keys, a private certificate authority, a server certificate for `host_names`.
    ///
    /// # Errors
    /// When there is a home already, or the folder cannot be written.
    pub fn init(&self, settings: &Settings, host_names: Vec<String>, rng: &mut dyn CryptoRng) -> Result<(), HubError> {
        if self.keys_file().exists() {
            return Err(HubError(format!("{} has keys already; they are never overwritten", self.dir.display())));
        }
        for folder in ["tls", "invitations"] {
            make_private_folder(&self.dir.join(folder)).map_err(own_error)?;
        }
        self.write_certificates(settings, host_names)?;
        write_private(&self.dir.join("hub.toml"), toml::to_string(settings).map_err(own_error)?.as_bytes())
            .map_err(own_error)?;
        let (log, message) = (SigningKey::generate(rng), SigningKey::generate(rng));
        let text = Zeroizing::new(format!(
            "# Secret keys. Whoever reads this file can act as this hub.\nlog = \"{}\"\nmessage = \"{}\"\n",
            *log.to_secret_text(),
            *message.to_secret_text()
        ));
        write_private(&self.keys_file(), text.as_bytes()).map_err(own_error)
    }

    /// The operator's settings.
    ///
    /// # Errors
    /// When this is no hub's home.
    pub fn settings(&self) -> Result<Settings, HubError> {
        let path = self.dir.join("hub.toml");
        let text = std::fs::read_to_string(&path).map_err(|error| {
            HubError(format!(
                "{} is no home of a hub: {error} (make one with `cohortium hub init`)",
                self.dir.display()
            ))
        })?;
        toml::from_str(&text).map_err(|error| HubError(format!("{}: {}", path.display(), error.message())))
    }

    /// Invites someone: the file to hand over. The hub keeps only the hash of the secret in it.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn invite(&self, name: &Name, researcher: bool, rng: &mut dyn CryptoRng) -> Result<Invitation, HubError> {
        let mut secret = [0u8; 32];
        rng.fill_bytes(&mut secret);
        let record = InvitationRecord { name: name.clone(), researcher };
        let file = self.invitations().join(format!("{}.json", Hash::of(&secret)));
        write_private(&file, &crate::hub::json(&record)?).map_err(own_error)?;
        let settings = self.settings()?;
        Ok(Invitation {
            certificate_authority: std::fs::read_to_string(self.tls("ca.pem")).map_err(own_error)?,
            hub: self.entry()?,
            invited: name.clone(),
            researcher,
            secret: Hash::from_bytes(secret).to_string(),
            url: settings.url,
        })
    }

    /// The hub's public keys.
    ///
    /// # Errors
    /// When the keys cannot be read.
    pub fn entry(&self) -> Result<HubEntry, HubError> {
        let (log, message) = self.keys()?;
        Ok(HubEntry { hub: self.settings()?.name, log_key: log.public(), message_key: message.public() })
    }

    /// Opens the hub that lives here. Only one process can at a time.
    ///
    /// # Errors
    /// When the home is damaged or in use.
    pub fn open(&self) -> Result<Hub, HubError> {
        let settings = self.settings()?;
        let (log_key, message_key) = self.keys()?;
        let store = SqliteStore::open(&self.dir.join("store.db")).map_err(own_error)?;
        let config = HubConfig {
            invitations: self.invitations(),
            log_key,
            message_key,
            name: settings.name,
            phase_timeout_s: settings.phase_timeout_s,
            watch: Some(self.rules()?),
        };
        Hub::open(config, Box::new(store), &self.log_dir())
    }

    /// The newest calls, the newest first; also while the hub runs, up to the last second.
    ///
    /// # Errors
    /// When this is no hub's home, or it has never been opened.
    pub fn access(&self, last: usize) -> Result<Vec<crate::Access>, HubError> {
        let _ = self.settings()?; // says what is wrong where this is no home
        let store = SqliteStore::open_read_only(&self.dir.join("store.db")).map_err(own_error)?;
        crate::access::read(&store, last)
    }

    /// The directory of the transparency log.
    #[must_use]
    pub fn log_dir(&self) -> PathBuf {
        self.dir.join("log")
    }

    /// A file of the TLS folder.
    #[must_use]
    pub(crate) fn tls(&self, file: &str) -> PathBuf {
        self.dir.join("tls").join(file)
    }

    /// The house's own numbers for what is remarkable about a task, or the usual ones.
    fn rules(&self) -> Result<Rules, HubError> {
        let path = self.dir.join("watch.toml");
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                toml::from_str(&text).map_err(|error| HubError(format!("{}: {}", path.display(), error.message())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Rules::default()),
            Err(error) => Err(HubError(format!("{}: {error}", path.display()))),
        }
    }

    fn invitations(&self) -> PathBuf {
        self.dir.join("invitations")
    }

    fn keys_file(&self) -> PathBuf {
        self.dir.join("keys.toml")
    }

    fn keys(&self) -> Result<(SigningKey, SigningKey), HubError> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Keys {
            log: Zeroizing<String>,
            message: Zeroizing<String>,
        }
        let path = self.keys_file();
        let text = std::fs::read_to_string(&path).map(Zeroizing::new);
        let text = text.map_err(|error| HubError(format!("{}: {error}", path.display())))?;
        // The parser's message could quote the line, and the line is a key.
        let keys: Keys = toml::from_str(&text).map_err(|_| HubError(format!("{} is damaged", path.display())))?;
        let key = |text: &str| SigningKey::from_secret_text(text).map_err(own_error);
        Ok((key(&keys.log)?, key(&keys.message)?))
    }

    /// A certificate authority that signs this one server and nothing else.
    fn write_certificates(&self, settings: &Settings, host_names: Vec<String>) -> Result<(), HubError> {
        let ca_key = KeyPair::generate().map_err(own_error)?;
        let mut ca = CertificateParams::default();
        ca.distinguished_name.push(DnType::CommonName, format!("{} certificate authority", settings.name));
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca_certificate = ca.self_signed(&ca_key).map_err(own_error)?;
        let server_key = KeyPair::generate().map_err(own_error)?;
        let server = CertificateParams::new(host_names).map_err(own_error)?;
        let issuer = Issuer::new(ca, &ca_key);
        let server_certificate = server.signed_by(&server_key, &issuer).map_err(own_error)?;
        for (file, text) in [
            ("ca.pem", ca_certificate.pem()),
            ("ca-key.pem", ca_key.serialize_pem()),
            ("server.pem", server_certificate.pem()),
            ("server-key.pem", server_key.serialize_pem()),
        ] {
            write_private(&self.tls(file), text.as_bytes()).map_err(own_error)?;
        }
        Ok(())
    }
}
