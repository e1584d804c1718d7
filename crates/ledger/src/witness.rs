//! What a witness remembers about one log, and when it may cosign: the rules of C2SP tlog-witness, as a pure function.
//!
//! A witness keeps the largest head it has cosigned. It cosigns a new one only with a proof that the new tree extends the
//! old one, and only after the new head is durable: otherwise a crash between answering and remembering would let it
//! cosign a fork. The order is a type here: [`Witness::add_checkpoint`] returns a [`PendingCosignature`], which carries
//! the state to be stored and, only when asked afterwards, the cosignature.
//!
//! What it does not do: transport, storage, clocks. The caller must make reading the state, the check and storing the
//! next state one step (a batch with the old state as its expectation), or two requests at once could roll it back.
//!
//! Adversary: the log. What it shows is either refused, or consistent with all it has shown before. Two heads of one
//! size with different roots, both signed, are proof of its misbehaviour and are handed out as such.

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::note::{NoteError, NoteSignature, SignerKey, VerifierKey};
use crate::tree::{self, Hash, TreeError};

/// Most hashes in a consistency proof (tlog-witness).
pub const PROOF_HASHES_MAX: usize = 63;

/// What a witness knows of one log. Its durable form ([`Witness::state`]) is the log's own signed note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witness {
    log: VerifierKey,
    latest: Option<SignedCheckpoint>,
}

/// Why a witness does not cosign.
#[derive(Debug, thiserror::Error)]
pub enum WitnessError {
    /// Not a checkpoint signed by this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The request itself is wrong.
    #[error("peer: bad request: {0}")]
    BadRequest(&'static str),
    /// The log assumed another latest head; it should ask again with a proof from this size.
    #[error("peer: the latest head cosigned has {size} entries; prove consistency from there")]
    Conflict {
        /// Size of the latest head cosigned.
        size: u64,
    },
    /// The head is older than one already cosigned.
    #[error("peer: head of {shown} entries after one of {known} was cosigned")]
    Rollback {
        /// Size of the latest head cosigned.
        known: u64,
        /// Size shown.
        shown: u64,
    },
    /// Two signed heads of the same size: proof that the log shows different books. Keep both.
    #[error("operator: log {} has signed two different trees of {} entries; keep both checkpoints as evidence", known.checkpoint().origin(), known.checkpoint().size())]
    Fork {
        /// The head cosigned before.
        known: Box<SignedCheckpoint>,
        /// The head shown now.
        shown: Box<SignedCheckpoint>,
    },
    /// The new head is not shown to extend the latest one. Perhaps a bad proof, perhaps a fork.
    #[error("peer: head of {} entries is not proven to extend the one of {old}: {source}", shown.checkpoint().size())]
    Inconsistent {
        /// Size of the latest head cosigned.
        old: u64,
        /// The head shown now.
        shown: Box<SignedCheckpoint>,
        /// What is wrong with the proof.
        source: TreeError,
    },
}

impl Witness {
    /// A witness that has seen nothing of this log.
    pub fn new(log: VerifierKey) -> Witness {
        Witness { log, latest: None }
    }

    /// A witness as it was stored.
    ///
    /// # Errors
    /// [`CheckpointError`] when the stored note is not signed by this log: the operator's store is damaged.
    pub fn from_state(log: VerifierKey, state: &[u8]) -> Result<Witness, CheckpointError> {
        let latest = Some(SignedCheckpoint::open(state, &log)?);
        Ok(Witness { log, latest })
    }

    /// The bytes to store; `None` before the first head.
    pub fn state(&self) -> Option<Vec<u8>> {
        self.latest.as_ref().map(|latest| latest.to_string().into_bytes())
    }

    /// The latest head cosigned.
    pub fn latest(&self) -> Option<&SignedCheckpoint> {
        self.latest.as_ref()
    }

    /// Number of entries in the latest head cosigned.
    pub fn size(&self) -> u64 {
        self.latest.as_ref().map_or(0, |latest| latest.checkpoint().size())
    }

    /// Judges a checkpoint that a log wants cosigned. Given the size the log believes to be our latest, the proof from
    /// there and the signed note, returns the cosignature to be; never one for a head that is not proven to extend the
    /// latest. Asking again for the latest head itself is fine (the answer may have been lost).
    ///
    /// # Errors
    /// [`WitnessError`]; the state does not change.
    pub fn add_checkpoint(
        &self,
        old_size: u64,
        proof: &[Hash],
        note: &[u8],
    ) -> Result<PendingCosignature, WitnessError> {
        // Foreign signatures are dropped: they were not checked, and the state must be no larger than it needs to be.
        let shown = SignedCheckpoint::open(note, &self.log)?.without_cosignatures()?;
        let (new, known) = (shown.checkpoint(), self.size());
        if old_size > new.size() {
            return Err(WitnessError::BadRequest("the old size is above the new one"));
        }
        if proof.len() > PROOF_HASHES_MAX {
            return Err(WitnessError::BadRequest("more than 63 hashes in the proof"));
        }
        let same_size = self.latest.as_ref().filter(|latest| latest.checkpoint().size() == new.size());
        if let Some(latest) = same_size.filter(|latest| latest.checkpoint() != new) {
            return Err(WitnessError::Fork { known: Box::new(latest.clone()), shown: Box::new(shown) });
        }
        if new.size() < known {
            return Err(WitnessError::Rollback { known, shown: new.size() });
        }
        if old_size != known {
            return Err(WitnessError::Conflict { size: known });
        }
        let old_root = self.latest.as_ref().map_or_else(tree::empty_root, |latest| *latest.checkpoint().root());
        match tree::verify_consistency(known, new.size(), &old_root, new.root(), proof) {
            Ok(()) => {
                Ok(PendingCosignature { next: Witness { log: self.log.clone(), latest: Some(shown.clone()) }, shown })
            }
            Err(source) => Err(WitnessError::Inconsistent { old: known, shown: Box::new(shown), source }),
        }
    }
}

/// A head that may be cosigned as soon as [`PendingCosignature::state`] is durable.
#[derive(Clone, Debug)]
pub struct PendingCosignature {
    next: Witness,
    shown: SignedCheckpoint,
}

impl PendingCosignature {
    /// The bytes that must be durable before the cosignature exists.
    pub fn state(&self) -> Vec<u8> {
        self.shown.to_string().into_bytes()
    }

    /// The head about to be cosigned.
    pub fn checkpoint(&self) -> &SignedCheckpoint {
        &self.shown
    }

    /// Cosigns, at a time in seconds since 1970, and returns the witness in its next state. Call it only after
    /// [`PendingCosignature::state`] is durable: a crash before that forgets the request, a crash after it answers again.
    ///
    /// # Errors
    /// [`NoteError`] when the key is not a witness key or the time cannot be written.
    pub fn sign(self, key: &SignerKey, now_s: u64) -> Result<(NoteSignature, Witness), NoteError> {
        let line = key.cosign(self.shown.note().text(), now_s)?;
        Ok((line, self.next))
    }
}
