//! That an entry is in the log, as one text file (C2SP tlog-proof, `c2sp.org/tlog-proof@v1`), and whose cosignatures make
//! its head count, as another (C2SP tlog-policy).
//!
//! A proof is the entry's index, the hashes beside its way to the root (RFC 6962, section 2.1.1), and the log's checkpoint
//! with all its cosignatures. With the entry and the policy it needs nothing else.

use std::fmt::Write as _;

use cohortium_ledger::VerifiedLog;
use cohortium_ledger::tree::{self, Hash, TreeError};
use cohortium_messages::Agreement;
use data_encoding::BASE64;

use crate::AuditError;
use crate::at;
use crate::study::{log_key, witness_keys};

/// Makes proofs for the entries of a verified log.
pub(crate) struct Proofs<'a> {
    log: &'a VerifiedLog,
    /// The complete subtrees, level by level.
    rows: Vec<Vec<Hash>>,
}

impl<'a> Proofs<'a> {
    /// Hashes the tree.
    pub(crate) fn new(log: &'a VerifiedLog) -> Self {
        let mut row: Vec<Hash> = log.entries().iter().map(|entry| tree::leaf_hash(entry)).collect();
        let mut rows = Vec::new();
        while !row.is_empty() {
            let above = row.as_chunks::<2>().0.iter().map(|[left, right]| tree::node_hash(left, right)).collect();
            rows.push(std::mem::replace(&mut row, above));
        }
        Self { log, rows }
    }

    /// The proof of the entry at `index`, as the file's text.
    pub(crate) fn of(&self, index: u64) -> Result<String, AuditError> {
        let size = self.log.checkpoint().checkpoint().size();
        let mut node = |level: u32, position: u64| {
            let row = usize::try_from(level).ok().and_then(|level| self.rows.get(level));
            let hash = row.zip(usize::try_from(position).ok()).and_then(|(row, position)| row.get(position));
            hash.copied().ok_or(TreeError::OutOfRange { what: "node", value: position, limit: size })
        };
        let path = tree::inclusion_proof(index, size, &mut node).map_err(|error| at(index, error.to_string()))?;
        let mut text = format!("c2sp.org/tlog-proof@v1\nindex {index}\n");
        for hash in path {
            let _ = writeln!(text, "{}", BASE64.encode(&hash));
        }
        let _ = write!(text, "\n{}", self.log.checkpoint());
        Ok(text)
    }
}

/// The log, its witnesses, and that `t` of them must have cosigned.
pub(crate) fn log_policy(agreement: &Agreement) -> Result<String, AuditError> {
    let log = log_key(agreement.hub.hub.as_str(), &agreement.hub.log_key)?;
    let mut text = format!("log {log}\n");
    let mut names = Vec::new();
    for witness in witness_keys(agreement)? {
        let _ = writeln!(text, "witness {} {witness}", witness.name());
        names.push(witness.name().to_owned());
    }
    let threshold = agreement.secure_sum.threshold;
    // No witness can have this name: names of organisations have no full stop.
    let _ = write!(text, "group members.all {threshold} {}\nquorum members.all\n", names.join(" "));
    Ok(text)
}
