//! The entries of a log: canonical, and signed by whom they name.
//!
//! The tree proves that an entry stands where it stands; here we find out whether it is an entry at all. One spelling per
//! entry (RFC 8785) and one signature, so that no two leaves say the same thing in different bytes. What an entry claims before its
//! signature is checked is used only to find the key to check it with.
//!
//! Assumes the agreement, which states one key per author and role; a key of one role signs nothing in another, because
//! [`author_key`] asks for the key of exactly the author that the kind of entry demands.

use cohortium_ledger::VerifiedLog;
use cohortium_messages::{Agreement, Author, Entry, Envelope, Fact, PublicKey, Unverified, Verified, canonical_bytes};

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

    /// The bytes that stand in the log.
    pub(crate) fn bytes<'a>(&self, log: &'a VerifiedLog) -> Result<&'a [u8], AuditError> {
        let bytes = usize::try_from(self.index).ok().and_then(|index| log.entries().get(index));
        bytes.map(Vec::as_slice).ok_or_else(|| at(self.index, "is not in this log"))
    }

    /// The entry, once its author's signature has been checked under the key that the agreement states.
    pub(crate) fn open(&self, agreement: &Verified<Agreement>) -> Result<Verified<Entry>, AuditError> {
        let claims = self.claims();
        if claims.agreement != agreement.hash() || claims.study != agreement.study {
            return Err(at(self.index, "names a study that is not the one of its agreement"));
        }
        let key = author_key(agreement, claims).ok_or_else(|| {
            at(self.index, format!("is a {} by someone who may not say so in this study", claims.fact.kind()))
        })?;
        self.open_with(&key)
    }

    /// The entry, once the signature by this key has been checked.
    pub(crate) fn open_with(&self, key: &PublicKey) -> Result<Verified<Entry>, AuditError> {
        self.envelope
            .open(key)
            .map_err(|error| at(self.index, format!("is not signed by the author it names: {error}")))
    }
}

/// The key that must have signed: of the author named, in the one role that says this kind of thing.
fn author_key(agreement: &Agreement, entry: &Entry) -> Option<PublicKey> {
    match (&entry.fact, &entry.author) {
        (Fact::Agreement { .. }, Author::Custodian(name)) => Some(agreement.party(name)?.agreement_key),
        (Fact::Task { .. }, Author::Researcher(name)) => Some(agreement.researcher(name)?.key),
        (Fact::Permit { .. } | Fact::Price { .. } | Fact::Refusal { .. }, Author::Node(name)) => {
            Some(agreement.party(name)?.message_key)
        }
        (Fact::Refusal { .. } | Fact::Failure { .. } | Fact::Release { .. }, Author::Hub(name)) => {
            (*name == agreement.hub.hub).then_some(agreement.hub.message_key)
        }
        (Fact::Revocation { .. }, Author::Custodian(name)) => Some(agreement.party(name)?.agreement_key),
        (Fact::Alert { .. }, Author::Node(name)) => Some(agreement.party(name)?.message_key),
        (
            Fact::Approval { .. } | Fact::Dispatch { .. } | Fact::Freeze { .. } | Fact::Incident { .. },
            Author::Person { organisation, person },
        ) => Some(agreement.person(organisation, person)?.key),
        _ => None,
    }
}
