//! Tree heads: C2SP tlog-checkpoint v1.0.0, and a quorum of cosignatures as evidence.
//!
//! A checkpoint is a note whose text is three lines: origin, size, base64 root. [`SignedCheckpoint`] exists only when the
//! log's own signature has been verified, [`QuorumCheckpoint`] only when enough witnesses have cosigned: the next step
//! asks for the type and cannot be reached without the check.
//!
//! Stricter than the specification in two places, both of which it allows a profile to choose: the log's key name must
//! equal the origin, and extension lines are refused (they would be signed bytes that nobody audits).
//!
//! Adversary: the log may sign different heads for different readers. Promise of a quorum (argued; the condition
//! `2q > n + c` is checked where the agreement is signed): two quorum checkpoints of one log are consistent as long as at
//! most `c` of the `n` witnesses cosign what they must not.

use std::collections::BTreeSet;
use std::fmt;

use data_encoding::BASE64;

use crate::key::{KeyKind, SignerKey, VerifierKey};
use crate::note::{Note, NoteError, NoteSignature, check_name};
use crate::tree::{self, Hash};

/// Why a checkpoint is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The note or a signature on it is wrong.
    #[error(transparent)]
    Note(#[from] NoteError),
    /// The text is not a checkpoint.
    #[error("peer: malformed checkpoint: {0}")]
    Malformed(&'static str),
    /// An empty tree has one root, the hash of nothing.
    #[error("peer: malformed checkpoint: an empty tree has another root")]
    EmptyTree,
    /// It is another log's.
    #[error("peer: the checkpoint is of {found}, not of {expected}")]
    WrongOrigin {
        /// The origin expected.
        expected: String,
        /// The origin found.
        found: String,
    },
    /// The list of witnesses cannot carry a quorum.
    #[error("operator: unusable list of witnesses: {0}")]
    Witnesses(&'static str),
    /// A line is signed by nobody we know, where everybody must be known.
    #[error("peer: the checkpoint carries a signature by an unknown key named {name}")]
    UnknownSigner {
        /// The name on the line.
        name: String,
    },
    /// Too few witnesses cosigned.
    #[error("peer: {found} of {needed} needed witnesses cosigned the checkpoint")]
    NoQuorum {
        /// How many must.
        needed: usize,
        /// How many did.
        found: usize,
    },
}

/// A tree head: which log, how many entries, which root. Its text form is the text of a note.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    size: u64,
    root: Hash,
}

impl Checkpoint {
    /// Puts a tree head together.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] for a bad origin or a size over [`tree::SIZE_MAX`], [`CheckpointError::EmptyTree`] for a
    /// root that no empty tree has.
    pub fn new(origin: &str, size: u64, root: Hash) -> Result<Checkpoint, CheckpointError> {
        check_name(origin).map_err(CheckpointError::Malformed)?;
        tree::check_size("tree size", size).map_err(|_| CheckpointError::Malformed("tree size over 2^62"))?;
        if size == 0 && root != tree::empty_root() {
            return Err(CheckpointError::EmptyTree);
        }
        Ok(Checkpoint { origin: origin.to_owned(), size, root })
    }

    /// Reads the text of a note.
    ///
    /// # Errors
    /// [`CheckpointError::Malformed`] unless it is exactly what [`fmt::Display`] writes; [`CheckpointError::EmptyTree`].
    pub fn parse(text: &str) -> Result<Checkpoint, CheckpointError> {
        let mut lines = text.strip_suffix('\n').ok_or(CheckpointError::Malformed("no final newline"))?.split('\n');
        let (Some(origin), Some(size), Some(root)) = (lines.next(), lines.next(), lines.next()) else {
            return Err(CheckpointError::Malformed("fewer than three lines"));
        };
        if lines.next().is_some() {
            return Err(CheckpointError::Malformed("extension lines"));
        }
        let size = size.parse().map_err(|_| CheckpointError::Malformed("the size is not a number"))?;
        let root =
            BASE64.decode(root.as_bytes()).map_err(|_| CheckpointError::Malformed("the root is not strict base64"))?;
        let root = Hash::try_from(root).map_err(|_| CheckpointError::Malformed("the root is not 32 bytes"))?;
        let checkpoint = Checkpoint::new(origin, size, root)?;
        if checkpoint.to_string() != text {
            return Err(CheckpointError::Malformed("not in its one form"));
        }
        Ok(checkpoint)
    }

    /// The log's name.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// Number of entries.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Root of the tree of these entries.
    pub fn root(&self) -> &Hash {
        &self.root
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "{}\n{}\n{}", self.origin, self.size, BASE64.encode(&self.root))
    }
}

/// A tree head that its log has signed. Its text form is the whole note, cosignatures included.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedCheckpoint {
    log: VerifierKey,
    checkpoint: Checkpoint,
    note: Note,
}

impl SignedCheckpoint {
    /// Signs a tree head as its log.
    ///
    /// # Errors
    /// [`CheckpointError::WrongOrigin`] when the key is another log's, [`CheckpointError::Note`] for a witness key.
    pub fn sign(checkpoint: Checkpoint, signer: &SignerKey) -> Result<SignedCheckpoint, CheckpointError> {
        let log = signer.verifier().clone();
        check_origin(&checkpoint, &log)?;
        let text = checkpoint.to_string();
        let note = Note::new(&text, vec![signer.sign(&text)?])?;
        Ok(SignedCheckpoint { log, checkpoint, note })
    }

    /// Reads a note and verifies that this log signed it. Other signatures are kept, unverified.
    ///
    /// # Errors
    /// [`CheckpointError`], whatever is wrong with it.
    pub fn open(note: &[u8], log: &VerifierKey) -> Result<SignedCheckpoint, CheckpointError> {
        if log.kind() != KeyKind::Log {
            return Err(NoteError::WrongKind { name: log.name().to_owned() }.into());
        }
        let note = Note::parse(note)?;
        let checkpoint = Checkpoint::parse(note.text())?;
        check_origin(&checkpoint, log)?;
        if note.verify(std::slice::from_ref(log))?.is_empty() {
            return Err(NoteError::NotSigned { name: log.name().to_owned() }.into());
        }
        Ok(SignedCheckpoint { log: log.clone(), checkpoint, note })
    }

    /// The tree head.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The note as it came, cosignatures included.
    pub fn note(&self) -> &Note {
        &self.note
    }

    /// The key that signed.
    pub fn log_key(&self) -> &VerifierKey {
        &self.log
    }

    /// The same head with only the log's signature.
    ///
    /// # Errors
    /// None in practice; the note is put together anew.
    pub fn without_cosignatures(&self) -> Result<SignedCheckpoint, CheckpointError> {
        self.with_only(&[])
    }

    /// The same head with only the signatures of the log and of these keys, unverified as they are. Lines are left out for
    /// readers with smaller limits: 60 witnesses with two keys each are 121 lines, and Go's package reads 100.
    ///
    /// # Errors
    /// None in practice; the note is put together anew.
    pub fn with_only(&self, keys: &[VerifierKey]) -> Result<SignedCheckpoint, CheckpointError> {
        let is_kept = |line: &&NoteSignature| self.log.claims(line) || keys.iter().any(|key| key.claims(line));
        let kept = self.note.signatures().iter().filter(is_kept).cloned().collect();
        Ok(SignedCheckpoint { note: Note::new(self.note.text(), kept)?, ..self.clone() })
    }

    /// The same head with one more cosignature, which replaces an earlier one by the same key.
    ///
    /// # Errors
    /// [`CheckpointError::UnknownSigner`] when the line is by none of the witnesses, [`CheckpointError::Note`] when it does
    /// not verify, [`CheckpointError::Witnesses`] for an unusable list.
    pub fn with_cosignature(
        &self,
        line: NoteSignature,
        witnesses: &[VerifierKey],
    ) -> Result<SignedCheckpoint, CheckpointError> {
        check_witnesses(&self.log, witnesses)?;
        let witness = witnesses.iter().find(|witness| witness.claims(&line));
        let witness = witness.ok_or_else(|| CheckpointError::UnknownSigner { name: line.name().to_owned() })?;
        witness.verify(self.note.text(), &line)?;
        let mut lines: Vec<NoteSignature> =
            self.note.signatures().iter().filter(|other| !witness.claims(other)).cloned().collect();
        lines.push(line);
        Ok(SignedCheckpoint { note: Note::new(self.note.text(), lines)?, ..self.clone() })
    }

    /// Which of the witnesses' keys cosigned, and when. A witness may be in the list with a key of each kind; who wants both
    /// states it in a [`crate::LogPolicy`].
    ///
    /// # Errors
    /// [`CheckpointError::Note`] when a line claims to be by one of them and is not, [`CheckpointError::Witnesses`] for an
    /// unusable list (a key that is not a witness key, one name with two keys of one kind, one key twice, or the log's own
    /// key).
    pub fn cosigned_by(&self, witnesses: &[VerifierKey]) -> Result<Vec<Witnessed>, CheckpointError> {
        check_witnesses(&self.log, witnesses)?;
        let signed = self.note.verify(witnesses)?;
        let named = signed.into_iter().filter_map(|(position, time_s)| Some((witnesses.get(position)?, time_s?)));
        Ok(named.map(|(witness, time_s)| Witnessed { witness: witness.clone(), time_s }).collect())
    }

    /// Evidence that at least `quorum` of the witnesses cosigned. Each witness is here with one key.
    ///
    /// # Errors
    /// As [`SignedCheckpoint::cosigned_by`]; [`CheckpointError::NoQuorum`]; [`CheckpointError::Witnesses`] for a witness with
    /// two keys, which would count twice, and for a quorum of 0, which would be evidence of nothing.
    pub fn verify_quorum(&self, witnesses: &[VerifierKey], quorum: usize) -> Result<QuorumCheckpoint, CheckpointError> {
        if quorum == 0 {
            return Err(CheckpointError::Witnesses("a quorum of none"));
        }
        let names: BTreeSet<&str> = witnesses.iter().map(VerifierKey::name).collect();
        if names.len() < witnesses.len() {
            return Err(CheckpointError::Witnesses("one witness with two keys would count twice: state a policy"));
        }
        let cosigned_by = self.cosigned_by(witnesses)?;
        if cosigned_by.len() < quorum {
            return Err(CheckpointError::NoQuorum { needed: quorum, found: cosigned_by.len() });
        }
        Ok(QuorumCheckpoint::new(self.clone(), cosigned_by))
    }

    /// Who cosigned, where every line must be the log's or by one of these keys. A key stands for itself: two of them may have
    /// one name, and of those that a line could be by, it is the one that verifies. For readers who know more signers than
    /// they count on.
    ///
    /// # Errors
    /// [`CheckpointError::UnknownSigner`] for a line that none of the keys is named by, [`CheckpointError::Note`] for one that
    /// verifies under none, or a second one by a key.
    pub fn signers_among(&self, known: &[VerifierKey]) -> Result<Vec<Witnessed>, CheckpointError> {
        let mut signers: Vec<Witnessed> = Vec::new();
        for line in self.note.signatures().iter().filter(|line| !self.log.claims(line)) {
            let mut failed = CheckpointError::UnknownSigner { name: line.name().to_owned() };
            let mut signer = None;
            for witness in known.iter().filter(|key| key.kind().is_witness() && key.claims(line)) {
                match witness.verify(self.note.text(), line) {
                    Ok(time_s) => signer = time_s.map(|time_s| Witnessed { witness: witness.clone(), time_s }),
                    Err(error) => failed = error.into(),
                }
            }
            let signer = signer.ok_or(failed)?;
            if signers.iter().any(|earlier| earlier.witness == signer.witness) {
                return Err(NoteError::DuplicateSignature { name: line.name().to_owned() }.into());
            }
            signers.push(signer);
        }
        Ok(signers)
    }

    /// Demands that every line is by the log or by one of the witnesses, so that no byte of the note is unaccounted for.
    ///
    /// # Errors
    /// [`CheckpointError::UnknownSigner`] naming the first other one.
    pub fn demand_known_signers(&self, witnesses: &[VerifierKey]) -> Result<(), CheckpointError> {
        let unknown = self
            .note
            .signatures()
            .iter()
            .find(|line| !self.log.claims(line) && !witnesses.iter().any(|key| key.claims(line)));
        unknown.map_or(Ok(()), |line| Err(CheckpointError::UnknownSigner { name: line.name().to_owned() }))
    }
}

impl fmt::Display for SignedCheckpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.note.fmt(out)
    }
}

/// A witness's word that, at this time, the head was the largest it had seen and extended all before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Witnessed {
    /// Who.
    pub witness: VerifierKey,
    /// When, in seconds since 1970, by the witness's clock.
    pub time_s: u64,
}

/// Evidence that a quorum cosigned a head. Made only by [`SignedCheckpoint::verify_quorum`] and [`crate::LogPolicy::is_met`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuorumCheckpoint {
    signed: SignedCheckpoint,
    cosigned_by: Vec<Witnessed>,
}

impl QuorumCheckpoint {
    pub(crate) fn new(signed: SignedCheckpoint, cosigned_by: Vec<Witnessed>) -> QuorumCheckpoint {
        QuorumCheckpoint { signed, cosigned_by }
    }

    /// The tree head.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.signed.checkpoint
    }

    /// The signed note that proves it.
    pub fn signed(&self) -> &SignedCheckpoint {
        &self.signed
    }

    /// Who cosigned, and when.
    pub fn cosigned_by(&self) -> &[Witnessed] {
        &self.cosigned_by
    }
}

fn check_origin(checkpoint: &Checkpoint, log: &VerifierKey) -> Result<(), CheckpointError> {
    if checkpoint.origin == log.name() {
        return Ok(());
    }
    Err(CheckpointError::WrongOrigin { expected: log.name().to_owned(), found: checkpoint.origin.clone() })
}

/// Every line has at most one key here, no key stands here twice, and none is the log itself.
fn check_witnesses(log: &VerifierKey, witnesses: &[VerifierKey]) -> Result<(), CheckpointError> {
    for (position, witness) in witnesses.iter().enumerate() {
        if !witness.kind().is_witness() {
            return Err(CheckpointError::Witnesses("a key that is not a cosigning key"));
        }
        if witness.public_key() == log.public_key() {
            return Err(CheckpointError::Witnesses("the log's own key"));
        }
        let is_same = |other: &VerifierKey| {
            other.public_key() == witness.public_key()
                || (other.name() == witness.name() && other.kind() == witness.kind())
        };
        if witnesses.iter().take(position).any(is_same) {
            return Err(CheckpointError::Witnesses("one name or key twice"));
        }
    }
    Ok(())
}
