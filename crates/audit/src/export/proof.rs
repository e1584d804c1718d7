//! That an entry is in the log, as one text file (C2SP tlog-proof, `c2sp.org/tlog-proof@v1`).
//!
//! The formats are `ledger`'s ([`LogProof`]), the policy is the agreement's own. Here: the hashes of a whole tree, made once
//! for all the proofs of a crate.

use cohortium_ledger::tree::{self, Hash, TreeError};
use cohortium_ledger::{LogProof, VerifiedLog};

use crate::AuditError;
use crate::at;

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
        self.proof(index).map(|proof| proof.to_string())
    }

    /// What stands in that file before the log's head, which ends it and is the same in all.
    pub(crate) fn path_of(&self, index: u64) -> Result<String, AuditError> {
        let (proof, head) = (self.of(index)?, self.log.checkpoint().to_string());
        let path = proof.strip_suffix(head.as_str()).map(str::to_owned);
        path.ok_or_else(|| at(index, "its proof does not end in the log's head"))
    }

    fn proof(&self, index: u64) -> Result<LogProof, AuditError> {
        let size = self.log.checkpoint().checkpoint().size();
        let mut node = |level: u32, position: u64| {
            let row = usize::try_from(level).ok().and_then(|level| self.rows.get(level));
            let hash = row.zip(usize::try_from(position).ok()).and_then(|(row, position)| row.get(position));
            hash.copied().ok_or(TreeError::OutOfRange { what: "node", value: position, limit: size })
        };
        let path = tree::inclusion_proof(index, size, &mut node).map_err(|error| at(index, error.to_string()))?;
        LogProof::new(index, path, self.log.checkpoint(), &[]).map_err(|error| at(index, error.to_string()))
    }
}
