//! What a witness remembers about one log, and when it may cosign: the rules of C2SP tlog-witness, as a pure function.
//!
//! A witness keeps the largest head it has cosigned. It cosigns a new one only with a proof that the new tree extends the
//! old one, and only after the new head is durable: otherwise a crash between answering and remembering would let it
//! cosign a fork. The order is a type here: [`Witness::add_checkpoint`] returns a [`PendingCosignature`], which carries
//! the state to be stored and, only when asked afterwards, the cosignature.
//!
//! Who has one log to witness and keeps its state among other records makes reading the state, the check and storing the
//! next state one step (a batch with the old state as its expectation), or two requests at once could roll it back.
//! [`WitnessBook`] does that for any number of logs in one store: the hub's, and other nodes'.
//!
//! A witness may have two keys, one of each kind ([`Cosigner`]); both sign the same head at the same time, and neither
//! before the head is durable.
//!
//! What it does not do: transport, clocks. [`AddCheckpoint`] reads and writes the body of a request, and
//! [`WitnessError::status`] says which HTTP status the specification wants. In one point this is stricter: a fork of the
//! latest head is named as one also when the request assumes another old size, where the specification would answer 409.
//!
//! Adversary: the log. What it shows is either refused, or consistent with all it has shown before. Two heads of one
//! size with different roots, both signed, are proof of its misbehaviour and are handed out as such.

use std::collections::BTreeMap;
use std::fmt;

use cohortium_store::{Batch, Store, StoreError, Table};
use data_encoding::BASE64;

use crate::checkpoint::{CheckpointError, SignedCheckpoint};
use crate::key::{KeyKind, SignerKey, VerifierKey};
use crate::note::{NOTE_BYTES_MAX, Note, NoteError, NoteSignature};
use crate::tree::{self, Hash, TreeError};

/// The latest heads a [`WitnessBook`] cosigned: key = origin; value = the log's signed note.
pub const WITNESSED_LOGS: Table = Table::new("ledger_witnessed");

/// Most logs in one [`WitnessBook`]: as many as a note has signatures.
pub const LOGS_MAX: usize = 128;

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
    /// A head of a log that is not in the book.
    #[error("peer: this witness does not know a log named {origin}")]
    UnknownLog {
        /// What the head names as its log.
        origin: String,
    },
    /// The book of logs cannot be kept.
    #[error("operator: unusable list of logs: {0}")]
    Logs(&'static str),
    /// The record store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A cosignature was asked for before the head was durable.
    #[error("caller: the head of {origin} is not committed; nothing is signed")]
    NotCommitted {
        /// The log.
        origin: String,
    },
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

impl WitnessError {
    /// The HTTP status with which tlog-witness answers (500 where the witness itself failed).
    pub fn status(&self) -> u16 {
        match self {
            WitnessError::BadRequest(_) => 400,
            WitnessError::Checkpoint(CheckpointError::Note(
                NoteError::NotSigned { .. } | NoteError::BadSignature { .. } | NoteError::DuplicateSignature { .. },
            )) => 403,
            WitnessError::Checkpoint(CheckpointError::EmptyTree) => 422,
            WitnessError::Checkpoint(_) => 400,
            WitnessError::UnknownLog { .. } => 404,
            WitnessError::Conflict { .. } | WitnessError::Rollback { .. } => 409,
            WitnessError::Fork { .. } | WitnessError::Inconsistent { .. } => 422,
            WitnessError::Logs(_) | WitnessError::Store(_) | WitnessError::NotCommitted { .. } => 500,
        }
    }

    /// What a 409 tells the log: the size of the latest head cosigned.
    pub fn latest_size(&self) -> Option<u64> {
        match self {
            WitnessError::Conflict { size } | WitnessError::Rollback { known: size, .. } => Some(*size),
            _ => None,
        }
    }
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

    /// As [`PendingCosignature::sign`], with all keys of a witness: one line for each, at the same time.
    ///
    /// # Errors
    /// [`NoteError`] when the time cannot be written.
    pub fn sign_with(self, cosigner: &Cosigner, now_s: u64) -> Result<(Vec<NoteSignature>, Witness), NoteError> {
        let lines = cosigner.cosign(self.shown.note().text(), now_s)?;
        Ok((lines, self.next))
    }
}

/// The keys of one witness: an Ed25519 key, and an ML-DSA-44 key under the same name if it has one.
pub struct Cosigner {
    first: SignerKey,
    second: Option<SignerKey>,
}

impl Cosigner {
    /// Puts the keys of a witness together.
    ///
    /// # Errors
    /// [`NoteError::WrongKind`] unless the first is of kind [`KeyKind::Witness`] and the second of kind
    /// [`KeyKind::WitnessMlDsa44`]; [`NoteError::BadKey`] when they have different names.
    pub fn new(first: SignerKey, second: Option<SignerKey>) -> Result<Cosigner, NoteError> {
        let wrong = |key: &SignerKey| NoteError::WrongKind { name: key.verifier().name().to_owned() };
        if first.verifier().kind() != KeyKind::Witness {
            return Err(wrong(&first));
        }
        if let Some(second) = &second {
            if second.verifier().kind() != KeyKind::WitnessMlDsa44 {
                return Err(wrong(second));
            }
            if second.verifier().name() != first.verifier().name() {
                return Err(NoteError::BadKey("the two keys of a witness have one name"));
            }
        }
        Ok(Cosigner { first, second })
    }

    /// The public halves, Ed25519 first.
    pub fn verifiers(&self) -> Vec<VerifierKey> {
        self.keys().map(|key| key.verifier().clone()).collect()
    }

    fn cosign(&self, text: &str, now_s: u64) -> Result<Vec<NoteSignature>, NoteError> {
        self.keys().map(|key| key.cosign(text, now_s)).collect()
    }

    fn keys(&self) -> impl Iterator<Item = &SignerKey> {
        std::iter::once(&self.first).chain(&self.second)
    }
}

/// The logs that a witness knows, each with its own latest head in one record store.
#[derive(Clone, Debug)]
pub struct WitnessBook {
    logs: BTreeMap<String, VerifierKey>,
}

impl WitnessBook {
    /// A book for these logs. Their states are found in the store under their origins, so that adding a log later does
    /// not touch the others, and one that is taken out and put back is remembered.
    ///
    /// # Errors
    /// [`WitnessError::Logs`] for a key that is not a log's, two logs of one name, or more than [`LOGS_MAX`].
    pub fn new(logs: impl IntoIterator<Item = VerifierKey>) -> Result<WitnessBook, WitnessError> {
        let mut book = BTreeMap::new();
        for log in logs {
            if log.kind() != KeyKind::Log {
                return Err(WitnessError::Logs("a key that is not a log's"));
            }
            if book.len() >= LOGS_MAX {
                return Err(WitnessError::Logs("more than 128 logs"));
            }
            if book.insert(log.name().to_owned(), log).is_some() {
                return Err(WitnessError::Logs("two logs of one name"));
            }
        }
        Ok(WitnessBook { logs: book })
    }

    /// What the witness knows of one log.
    ///
    /// # Errors
    /// [`WitnessError::UnknownLog`], [`WitnessError::Store`], and [`WitnessError::Checkpoint`] when the record is not a head
    /// that this log signed: the store is damaged.
    pub fn witness(&self, store: &dyn Store, origin: &str) -> Result<Witness, WitnessError> {
        let unknown = || WitnessError::UnknownLog { origin: origin.to_owned() };
        let log = self.logs.get(origin).ok_or_else(unknown)?.clone();
        match store.get(WITNESSED_LOGS, origin)? {
            Some(state) => Ok(Witness::from_state(log, &state)?),
            None => Ok(Witness::new(log)),
        }
    }

    /// Checks a request and adds the new head to the caller's batch, together with the expectation that the old one is
    /// still there: of two requests at once, one gets a conflict, and neither rolls the other back. Nothing is durable and
    /// nothing is signed yet.
    ///
    /// # Errors
    /// [`WitnessError`], whatever is wrong with the request; the batch is as it was.
    pub fn add_checkpoint(
        &self,
        store: &dyn Store,
        request: &AddCheckpoint,
        batch: &mut Batch,
    ) -> Result<StagedHead, WitnessError> {
        let text = Note::parse(request.note.as_bytes()).map_err(CheckpointError::from)?;
        let origin = text.text().lines().next().unwrap_or_default().to_owned();
        let witness = self.witness(store, &origin)?;
        let pending = witness.add_checkpoint(request.old_size, &request.proof, request.note.as_bytes())?;
        match witness.state() {
            Some(state) => batch.expect(WITNESSED_LOGS, &origin, state),
            None => batch.expect_absent(WITNESSED_LOGS, &origin),
        };
        batch.put(WITNESSED_LOGS, &origin, pending.state());
        Ok(StagedHead { origin, pending })
    }
}

/// A head that is in a batch and not yet cosigned. Dropping it after the commit loses nothing: the log asks again.
#[must_use = "after the commit, cosign it"]
#[derive(Debug)]
pub struct StagedHead {
    origin: String,
    pending: PendingCosignature,
}

impl StagedHead {
    /// Cosigns, at a time in seconds since 1970, once the batch is committed. The store is asked whether it was: no
    /// signature over a head exists that is not durable.
    ///
    /// # Errors
    /// [`WitnessError::NotCommitted`] when the store has another head by now, [`WitnessError::Store`],
    /// [`WitnessError::Checkpoint`] when the time cannot be written.
    pub fn cosign(
        self,
        store: &dyn Store,
        cosigner: &Cosigner,
        now_s: u64,
    ) -> Result<Vec<NoteSignature>, WitnessError> {
        if store.get(WITNESSED_LOGS, &self.origin)? != Some(self.pending.state()) {
            return Err(WitnessError::NotCommitted { origin: self.origin });
        }
        Ok(self.pending.sign_with(cosigner, now_s).map_err(CheckpointError::from)?.0)
    }
}

/// The body of an add-checkpoint request: `old <size>`, the consistency proof in base64, an empty line, and the note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddCheckpoint {
    /// Size of the latest head that the log believes this witness has cosigned.
    pub old_size: u64,
    /// The proof that the new tree extends the tree of that size.
    pub proof: Vec<Hash>,
    /// The signed checkpoint, not yet parsed.
    pub note: String,
}

impl AddCheckpoint {
    /// Reads the body of a request.
    ///
    /// # Errors
    /// [`WitnessError::BadRequest`] unless it is exactly what [`fmt::Display`] writes.
    pub fn parse(body: &[u8]) -> Result<AddCheckpoint, WitnessError> {
        let bad = WitnessError::BadRequest;
        if body.len() > NOTE_BYTES_MAX + (PROOF_HASHES_MAX + 2) * 64 {
            return Err(bad("the request is too long"));
        }
        let body = std::str::from_utf8(body).map_err(|_| bad("not UTF-8"))?;
        let (head, note) = body.split_once("\n\n").ok_or(bad("no empty line before the checkpoint"))?;
        let mut lines = head.split('\n');
        let old =
            lines.next().and_then(|line| line.strip_prefix("old ")).ok_or(bad("the first line is not the old size"))?;
        let old_size: u64 = old.parse().map_err(|_| bad("the old size is not a number"))?;
        let proof: Vec<Hash> = lines
            .take(PROOF_HASHES_MAX + 1)
            .map(|line| BASE64.decode(line.as_bytes()).ok().and_then(|hash| Hash::try_from(hash).ok()))
            .collect::<Option<_>>()
            .ok_or(bad("a line of the proof is not a hash in base64"))?;
        if proof.len() > PROOF_HASHES_MAX {
            return Err(bad("more than 63 hashes in the proof"));
        }
        let request = AddCheckpoint { old_size, proof, note: note.to_owned() };
        if request.to_string() != body {
            return Err(bad("not in its one form"));
        }
        Ok(request)
    }
}

impl fmt::Display for AddCheckpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "old {}", self.old_size)?;
        self.proof.iter().try_for_each(|hash| writeln!(out, "{}", BASE64.encode(hash)))?;
        write!(out, "\n{}", self.note)
    }
}
