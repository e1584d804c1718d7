//! The documents beside the log: all that entries name are there, nothing else is, and each is the one that is named.
//!
//! `ledger` has checked that every file in `body/` has the SHA-256 in its name. Here: that the entry's other words about
//! the document (which task, which plan, which agreement) are true. Signatures on documents are checked where they are
//! used, by whom they must be.
//!
//! Files are read again after `ledger` read them, so they are hashed again: the directory may change under our hands.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use cohortium_ledger::log::BODY_BYTES_MAX;
use cohortium_messages::{
    Agreement, Document, Envelope, Fact, Hash, ReleaseDocument, Task, Unverified, canonical_bytes,
};

use crate::leaf::Leaf;
use crate::{AuditError, at};

/// The documents of a verified log.
pub(crate) struct Bodies<'a> {
    dir: &'a Path,
    present: BTreeSet<Hash>,
}

impl<'a> Bodies<'a> {
    /// The documents in `dir`, of which `present` are there.
    pub(crate) fn new(dir: &'a Path, present: &BTreeSet<[u8; 32]>) -> Self {
        Self { dir, present: present.iter().map(|hash| Hash::from_bytes(*hash)).collect() }
    }

    /// Demands that each entry's document is there and is what the entry says, and that no document is without an entry.
    pub(crate) fn check_all(&self, leaves: &[Leaf]) -> Result<(), AuditError> {
        let mut unnamed = self.present.clone();
        for leaf in leaves {
            self.check(leaf)?;
            leaf.claims().fact.body().map(|body| unnamed.remove(&body));
        }
        match unnamed.pop_first() {
            None => Ok(()),
            Some(body) => Err(AuditError::Body {
                file: file_name(body),
                why: String::from("no entry names it; if a crash left it there, erase it"),
            }),
        }
    }

    /// The document that an entry names.
    pub(crate) fn envelope(&self, index: u64, body: Hash) -> Result<Envelope, AuditError> {
        let file = file_name(body);
        if !self.present.contains(&body) {
            return Err(at(index, format!("{file} is missing")));
        }
        let bytes = read(self.dir, &file).filter(|bytes| Hash::of(bytes) == body);
        let bytes = bytes.ok_or_else(|| at(index, format!("{file} cannot be read, or changed while we looked")))?;
        let envelope: Option<Envelope> = serde_json::from_slice(&bytes).ok();
        let is_canonical = |envelope: &Envelope| canonical_bytes(envelope).is_ok_and(|canonical| canonical == bytes);
        envelope
            .filter(is_canonical)
            .ok_or_else(|| at(index, format!("{file} is not a signed document in canonical form")))
    }

    fn check(&self, leaf: &Leaf) -> Result<(), AuditError> {
        let (index, entry) = (leaf.index, leaf.claims());
        let (body, is_as_named) = match &entry.fact {
            Fact::Agreement { body, revision } => {
                let found = self.document::<Agreement>(index, *body)?;
                let claims = found.claims();
                let is_right = claims.revision == *revision && claims.study == entry.study;
                (body, found.hash() == entry.agreement && is_right)
            }
            Fact::Task { body, plan, task } => {
                let found = self.document::<Task>(index, *body)?;
                let claims = found.claims();
                let is_right = claims.plan.hash().is_ok_and(|hash| hash == *plan) && claims.study == entry.study;
                (body, found.hash() == *task && is_right)
            }
            Fact::Release { body, release, task } => {
                let found = self.document::<ReleaseDocument>(index, *body)?;
                let claims = found.claims();
                (body, found.hash() == *release && claims.task == *task && claims.agreement == entry.agreement)
            }
            Fact::Incident { body, .. } => return self.envelope(index, *body).map(drop),
            Fact::Alert { .. }
            | Fact::Approval { .. }
            | Fact::Dispatch { .. }
            | Fact::Failure { .. }
            | Fact::Freeze { .. }
            | Fact::Permit { .. }
            | Fact::Price { .. }
            | Fact::Refusal { .. }
            | Fact::Revocation { .. } => return Ok(()),
        };
        if is_as_named {
            Ok(())
        } else {
            Err(at(index, format!("{} is not the document that the entry describes", file_name(*body))))
        }
    }

    fn document<T: Document>(&self, index: u64, body: Hash) -> Result<Unverified<T>, AuditError> {
        let envelope = self.envelope(index, body)?;
        envelope.peek().map_err(|error| at(index, format!("{}: {error}", file_name(body))))
    }
}

fn file_name(body: Hash) -> String {
    format!("body/{body}")
}

/// The bytes of a file, unless it cannot be read or is over the limit of a document.
fn read(dir: &Path, file: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(dir.join(file)).ok()?.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes).ok()?;
    u64::try_from(bytes.len()).is_ok_and(|length| length <= BODY_BYTES_MAX).then_some(bytes)
}
