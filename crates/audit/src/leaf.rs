//! The entries of a log: canonical, and signed by whom they name.
//!
//! The tree proves that an entry stands where it stands; here we find out whether it is an entry at all. One spelling per
//! entry (RFC 8785) and one signature, so that no two leaves say the same thing in different bytes. What an entry claims before its
//! signature is checked is used only to find the key to check it with.
//!
//! Who may say what, and with which key, is `policy`'s to know ([`open_claimed`]): hub and nodes ask the same function.

use cohortium_ledger::VerifiedLog;
use cohortium_messages::{Agreement, Entry, Envelope, PublicKey, Unverified, Verified, canonical_bytes};
use cohortium_policy::{Authored, EntryError, open_claimed};

use crate::{AuditError, at};

/// An entry as it stands in the log, its signature not yet checked.
pub(crate) struct Leaf {
    /// Its index, from 0.
    pub index: u64,
    entry: Unverified<Entry>,
    envelope: Envelope,
}

/// Reads all leaves.
pub(crate) fn read_all(leaves: &[Vec<u8>]) -> Result<Vec<Leaf>, AuditError> {
    (0..).zip(leaves).map(|(index, bytes)| read(index, bytes)).collect()
}

fn read(index: u64, bytes: &[u8]) -> Result<Leaf, AuditError> {
    let envelope: Envelope =
        serde_json::from_slice(bytes).map_err(|error| at(index, format!("is not a signed entry: {error}")))?;
    if !canonical_bytes(&envelope).is_ok_and(|canonical| canonical == bytes) {
        return Err(at(index, "is not in canonical form (RFC 8785)"));
    }
    if envelope.signature_count() != 1 {
        // What nobody checks could say anything.
        return Err(at(index, "has another number of signatures than one, its author's"));
    }
    let entry = envelope.peek::<Entry>().map_err(|error| at(index, error.to_string()))?;
    Ok(Leaf { index, entry, envelope })
}

impl Leaf {
    /// What the entry claims, before its signature is checked.
    pub(crate) fn claims(&self) -> &Entry {
        self.entry.claims()
    }

    /// The entry as it was signed, its signature not yet checked.
    pub(crate) const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// The bytes that stand in the log.
    pub(crate) fn bytes<'a>(&self, log: &'a VerifiedLog) -> Result<&'a [u8], AuditError> {
        let bytes = usize::try_from(self.index).ok().and_then(|index| log.entries().get(index));
        bytes.map(Vec::as_slice).ok_or_else(|| at(self.index, "is not in this log"))
    }

    /// The entry, once its author's signature has been checked under the key that the agreement states for such an author.
    pub(crate) fn open(&self, agreement: &Verified<Agreement>) -> Result<Authored, AuditError> {
        open_claimed(&self.envelope, self.entry.clone(), agreement).map_err(|error| {
            let why = match error {
                EntryError::Envelope(error) => format!("is not signed by the author it names: {error}"),
                EntryError::Author { .. } | EntryError::Kind { .. } | EntryError::Role { .. } => {
                    format!("is by someone who may not say so in this study: {error}")
                }
                EntryError::Agreement { .. } | EntryError::Study(_) => {
                    String::from("names a study that is not the one of its agreement")
                }
            };
            at(self.index, why)
        })
    }

    /// The entry, once the signature by this key has been checked.
    pub(crate) fn open_with(&self, key: &PublicKey) -> Result<Verified<Entry>, AuditError> {
        self.envelope
            .confirm(self.entry.clone(), key)
            .map_err(|error| at(self.index, format!("is not signed by the author it names: {error}")))
    }
}
