//! Who someone is and which hub they call: the part of a home that nodes and researchers have in common.

use std::path::{Path, PathBuf};

use cohortium_messages::{HubEntry, Invitation, Name, PrincipalKind};
use serde::{Deserialize, Serialize};

use crate::{Client, ClientError};

/// The file in a home that says which hub it belongs to.
const CONNECTION_FILE: &str = "connection.toml";

/// A home's connection to its hub, as the invitation named it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// As what this home joined.
    pub kind: PrincipalKind,
    /// Under which name.
    pub name: Name,
    /// Where the hub listens.
    pub url: String,
    /// The hub's private certificate authority, PEM.
    pub certificate_authority: String,
    /// The hub's keys.
    pub hub: HubEntry,
}

/// Why a home's connection cannot be read or written. The operator of this home must act.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// There is no such file.
    #[error("{} is no home of a node or a researcher: {why} (make one with `cohortium node init` or `cohortium researcher init`)", path.display())]
    Missing {
        /// Which file was looked for.
        path: PathBuf,
        /// What the system said.
        why: String,
    },
    /// The file cannot be understood.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

impl Connection {
    /// The connection that an invitation offers.
    #[must_use]
    pub fn from_invitation(invitation: &Invitation) -> Self {
        Self {
            kind: if invitation.researcher { PrincipalKind::Researcher } else { PrincipalKind::Organisation },
            name: invitation.invited.clone(),
            url: invitation.url.clone(),
            certificate_authority: invitation.certificate_authority.clone(),
            hub: invitation.hub.clone(),
        }
    }

    /// Reads a home's connection.
    ///
    /// # Errors
    /// When the folder is no home.
    pub fn load(home: &Path) -> Result<Self, ConnectionError> {
        let path = home.join(CONNECTION_FILE);
        let text = std::fs::read_to_string(&path)
            .map_err(|error| ConnectionError::Missing { path: home.to_owned(), why: error.to_string() })?;
        toml::from_str(&text).map_err(|error| ConnectionError::Damaged { path, why: error.message().to_owned() })
    }

    /// Writes a home's connection.
    ///
    /// # Errors
    /// When the folder cannot be written.
    pub fn save(&self, home: &Path) -> Result<(), ConnectionError> {
        let path = home.join(CONNECTION_FILE);
        let damaged = |why: String| ConnectionError::Damaged { path: path.clone(), why };
        let text = toml::to_string(self).map_err(|error| damaged(error.to_string()))?;
        cohortium_store::write_private(&path, text.as_bytes()).map_err(|error| damaged(error.to_string()))
    }

    /// A client for this connection.
    ///
    /// # Errors
    /// When the certificate or the address cannot be used.
    pub fn client(&self) -> Result<Client, ClientError> {
        Client::new(&self.url, &self.certificate_authority, self.hub.clone())
    }
}
