//! The evidence of one release, as a folder that other people's tools can read and check.
//!
//! Why this exists. A data access committee, a journal or a court asks about one answer, years later, and has neither the
//! log nor this program. What it gets is a BagIt bag (RFC 8493) around an RO-Crate 1.1 (Sefton et al.) with the Process Run
//! Crate 0.5 profile, laid out as the Five Safes RO-Crate 0.4 has it (Soiland-Reyes and Wheater 2023): the release, the
//! question, the agreement, every log entry about it with a proof that it is in the log (C2SP tlog-proof) under a head that
//! the members cosigned, and two kinds of word: what nodes, hub and researcher signed themselves, and what an auditor
//! says to have checked, as in-toto Statements with the Simple Verification Result predicate in DSSE envelopes.
//!
//! | file | what it makes |
//! |---|---|
//! | `parts` | the files of a crate while they are collected |
//! | `proof` | the proof that an entry is in the log |
//! | `attest` | the auditor's statements |
//! | `metadata` | `ro-crate-metadata.json`: people, project, data, setting, output, each with its evidence |
//! | `preview` | the same for eyes |
//! | `bag` | the bag around it, written last and checked first |
//!
//! **Whose word.** The documents and entries carry the signatures of those who made them, and are the evidence. The
//! statements are signed with the key that is handed in, and are worth as much as whoever holds it: they spare a reader
//! who trusts that auditor the audit. The rest of the crate (metadata, preview, the table of the answer) is signed by
//! nobody and follows from the signed files.
//!
//! **Privacy.** The crate holds times, names, hashes, the question and the released cells with their noise; nothing else
//! about rows is in a log. It does hold the text of the question and the names of researchers: whoever passes a crate on
//! passes these on.
//!
//! **Does not** say that the released numbers are the sum, for the reasons in the crate's first page; does not carry the
//! whole log, so that a reader of the crate alone cannot see what else was asked, nor replay the accounts: that much is
//! the auditor's word.
//!
//! **Adversary.** Whoever wrote the log: nothing is exported before all of it verified. Whoever hands the crate on: each
//! byte is under a signature or under the bag's manifest, and the manifest is nobody's signature.

mod attest;
mod bag;
mod metadata;
mod parts;
mod preview;
pub(crate) mod proof;

use std::path::{Path, PathBuf};

use cohortium_messages::{
    Agreement, CanonicalError, Envelope, EnvelopeError, Fact, Hash, Name, Receipt, SigningKey, Timestamp,
    canonical_bytes,
};
use serde::Serialize;

pub use attest::{Statement, Verification, Verifier};

use crate::AuditError;
use crate::body::Bodies;
use crate::examine::Examined;
use crate::leaf::Leaf;
use crate::outcome::{LogReport, who};
use crate::report::asked;
use crate::task::{Released, TaskRecord};
use parts::Parts;

/// Where those amendments stand that lead from the agreement to the one whose log policy the head meets.
pub(crate) const AMENDMENTS: &str = "log/amendments/";

/// Who says to have checked.
pub struct Attester<'a> {
    /// When, by the attester's clock.
    pub at: Timestamp,
    /// The key that signs the statements, used for nothing else.
    pub key: &'a SigningKey,
    /// The name of the person who answers for the key.
    pub name: &'a Name,
}

/// What was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Exported {
    /// Whether the agreement knows the attester's key.
    pub attester: AttesterPart,
    /// How many files the bag has, its own included.
    pub files: u64,
    /// The bag's name for itself, from the release's hash.
    pub identifier: String,
    /// SHA-512 of the bag's payload manifest: what to write down beside a crate that is handed over.
    pub manifest_sha512: String,
}

/// What part the agreement gives to whoever holds the attester's key. A reader must know it to weigh the statements.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum AttesterPart {
    /// It names the key as that of a person of this organisation: the attester belongs to who is examined.
    Of(Name),
    /// It does not name the key: nothing in the crate says whose it is.
    Unknown,
}

impl AttesterPart {
    /// A sentence for readers.
    #[must_use]
    pub fn in_words(&self, attester: &Name) -> String {
        match self {
            Self::Of(organisation) => format!(
                "By the agreement {attester} is a person of {organisation}, which takes part in the study: who attests here is \
                 not independent of it."
            ),
            Self::Unknown => format!(
                "The agreement does not name the key of {attester}: nothing here shows whose it is. Believe the statements only if \
                 you have the key from somebody whom you trust."
            ),
        }
    }
}

/// Why no crate was written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The log cannot be believed.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// A member of the study contradicts itself: its receipts and prices are evidence of nothing.
    #[error("{node} contradicts its own account at log entry {entry}: no evidence is exported that rests on its word")]
    Contradicted {
        /// Where it came out.
        entry: u64,
        /// Which member.
        node: Name,
    },
    /// There is no such release under the agreement. The caller must name another.
    #[error("study {study} has no release {} in this log", .release.short())]
    NoRelease {
        /// What was asked for.
        release: Hash,
        /// Where.
        study: Name,
    },
    /// The folder is there already, or cannot be written. The caller must act.
    #[error("{}: {why}", .path.display())]
    Folder {
        /// Which file or folder.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// Something has no canonical form or is too long to be signed. Ours to mend.
    #[error("us: the evidence cannot be written down: {0}")]
    Internal(String),
}

impl From<CanonicalError> for ExportError {
    fn from(error: CanonicalError) -> Self {
        Self::Internal(error.to_string())
    }
}

impl From<EnvelopeError> for ExportError {
    fn from(error: EnvelopeError) -> Self {
        Self::Internal(error.to_string())
    }
}

/// Writes the evidence of one release from the hub's log in `dir` into the new folder `out`.
///
/// `release` is the SHA-256 of the release's payload, as [`verify`](crate::verify) reports it. Given a log that verifies, of
/// which no member of the study contradicts itself, and a release under the agreement, writes a bag whose bytes follow from
/// the log, the agreement and the attester alone; never from a log that fails, never over an existing folder, and never
/// anything of rows beyond the released cells. Argued: everything comes from what was examined.
///
/// A crash leaves a folder without `manifest-sha512.txt`, which is no bag: the manifest is written last.
///
/// # Errors
/// [`ExportError`] says who must act.
pub fn export(
    dir: &Path,
    agreement: &Envelope,
    release: Hash,
    out: &Path,
    attester: &Attester<'_>,
) -> Result<Exported, ExportError> {
    let examined = Examined::new(dir, agreement)?;
    if let Some((node, entry)) = examined.contradicted().next() {
        return Err(ExportError::Contradicted { entry, node: node.clone() });
    }
    // That accounts stayed within budgets cannot be said where entries of the study were not checked.
    examined.demand_covered()?;
    let study = examined.given.agreement.study.clone();
    let tasks = examined.tasks.of(&study);
    let own = tasks.into_iter().filter(|task| task.study.agreement.hash() == examined.given.agreement.hash());
    let found = own.into_iter().find_map(|task| {
        let released = task.release.as_ref().filter(|released| released.document.hash() == release)?;
        Some((task, released))
    });
    let (task, released) = found.ok_or(ExportError::NoRelease { release, study })?;
    let case = Case { agreement: &examined.given.agreement, attester, examined: &examined, released, task };
    let bodies = Bodies::new(dir, examined.log.bodies());
    let parts = case.collect(&bodies, agreement)?;
    let (files, identifier, manifest_sha512) = bag::write(out, parts, release, attester.at)?;
    Ok(Exported { attester: case.part_of_attester(), files, identifier, manifest_sha512 })
}

/// A release and what belongs to it.
pub(crate) struct Case<'a> {
    pub agreement: &'a Agreement,
    pub attester: &'a Attester<'a>,
    pub examined: &'a Examined,
    pub released: &'a Released,
    pub task: &'a TaskRecord,
}

impl Case<'_> {
    /// All files of the crate.
    fn collect(&self, bodies: &Bodies<'_>, agreement: &Envelope) -> Result<Parts, ExportError> {
        let mut parts = Parts::default();
        self.documents(&mut parts, bodies, agreement)?;
        self.workflow(&mut parts)?;
        self.log(&mut parts)?;
        attest::write(self, &mut parts)?;
        parts.put("verification.json", "What was checked", parts::JSON, canonical_bytes(&self.verification()?)?);
        preview::write(self, &mut parts);
        metadata::write(self, &mut parts)?;
        Ok(parts)
    }

    fn documents(&self, parts: &mut Parts, bodies: &Bodies<'_>, agreement: &Envelope) -> Result<(), ExportError> {
        let document = &self.released.document;
        parts.put(
            "agreement.json",
            "The agreement, signed by all custodians",
            parts::DSSE,
            canonical_bytes(agreement)?,
        );
        parts.put("policy.cedar", "The agreement as compiled policies", parts::TEXT, self.policy_text().into_bytes());
        for (index, path, name) in [
            (self.task.index, "task.json", "The question, signed by its researcher"),
            (self.released.index, "release.json", "The release, signed by the hub"),
        ] {
            let body = self.leaves().find(|leaf| leaf.index == index).and_then(|leaf| leaf.claims().fact.body());
            let body = body.ok_or_else(|| crate::at(index, "names no document"))?;
            parts.put(path, name, parts::DSSE, canonical_bytes(&bodies.envelope(index, body)?)?);
        }
        for (number, receipt) in document.receipts.iter().enumerate() {
            // Whose it is, it says itself, under its signature: their order is the hub's.
            let name = receipt.peek::<Receipt>()?.claims().organisation.clone();
            let path = format!("receipts/{:03}-{name}.json", number + 1);
            parts.put(&path, &format!("The receipt of {name}"), parts::DSSE, canonical_bytes(receipt)?);
        }
        if let Some(answer) = asked::table_of(self.task, document) {
            parts.put(
                "answer.json",
                "The table that the question asks for, from the released cells",
                parts::JSON,
                canonical_bytes(&answer)?,
            );
        }
        Ok(())
    }

    /// The program that ran: the plan, as a crate of its own, with the SQL that it was made from.
    fn workflow(&self, parts: &mut Parts) -> Result<(), ExportError> {
        let task = &self.task.task;
        parts.put("workflow/plan.json", "The plan that every node ran", parts::JSON, canonical_bytes(&task.plan)?);
        parts.put(
            "workflow/query.sql",
            "The SQL that the plan was made from",
            parts::SQL,
            task.sql.clone().into_bytes(),
        );
        metadata::write_workflow(self, parts)
    }

    fn log(&self, parts: &mut Parts) -> Result<(), ExportError> {
        let head = self.examined.log.checkpoint().to_string();
        parts.put("log/checkpoint", "The log's head with the members' cosignatures", parts::TEXT, head.into_bytes());
        for amendment in &self.examined.amended {
            let revision = amendment.agreement.revision;
            parts.put(
                &format!("{AMENDMENTS}revision-{revision}.json"),
                &format!("Revision {revision} of the agreement, signed by all its custodians"),
                parts::DSSE,
                canonical_bytes(&amendment.envelope)?,
            );
        }
        let policy = self.examined.met().log_policy.clone().into_bytes();
        parts.put("log/log-policy.txt", "Whose cosignatures make a head count", parts::TEXT, policy);
        let proofs = proof::Proofs::new(&self.examined.log);
        for leaf in self.leaves() {
            let path = entry_path(leaf);
            let claims = leaf.claims();
            let name = format!("Log entry {}: {} by {}", leaf.index, claims.fact.kind(), who(&claims.author));
            parts.put(&path, &name, parts::DSSE, leaf.bytes(&self.examined.log)?.to_vec());
            let proof = proofs.of(leaf.index)?;
            let name = format!("Proof that entry {} is in the log", leaf.index);
            parts.put(&proof_path(&path), &name, parts::TEXT, proof.into_bytes());
        }
        Ok(())
    }

    /// The entries that the release rests on, in the order of the log.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = &Leaf> {
        let (agreement, task) = (self.examined.given.agreement.hash(), self.task.task.hash());
        self.examined.leaves.iter().filter(move |leaf| {
            let claims = leaf.claims();
            let is_agreement = matches!(claims.fact, Fact::Agreement { .. }) && claims.agreement == agreement;
            is_agreement || claims.fact.task() == Some(task)
        })
    }

    /// What part the study's agreement, in whatever revision, gives to the attester.
    pub(crate) fn part_of_attester(&self) -> AttesterPart {
        let key = self.attester.key.public();
        let revisions = self.examined.revisions.iter().rev().map(|study| &*study.agreement);
        let parties = revisions.chain([self.agreement]).flat_map(|agreement| &agreement.parties);
        let mut named = parties.filter(|party| party.people.iter().any(|person| person.key == key));
        named.next().map_or(AttesterPart::Unknown, |party| AttesterPart::Of(party.entry.organisation.clone()))
    }

    fn policy_text(&self) -> String {
        self.examined.given.policy.cedar_text().to_owned()
    }

    fn verification(&self) -> Result<VerificationSummary, ExportError> {
        let own: Vec<u64> = self.leaves().map(|leaf| leaf.index).collect();
        let is_own = |finding: &&crate::Finding| finding.entry.is_some_and(|entry| own.contains(&entry));
        let findings = self.examined.findings.iter().filter(is_own).cloned().collect();
        Ok(VerificationSummary {
            agreement: self.examined.given.agreement.hash(),
            attester: self.attester.name.clone(),
            checked_at: self.attester.at,
            entries: own,
            findings,
            log: LogReport::of(&self.examined.log),
            quorum: cohortium_policy::log_terms(self.examined.met()).map_err(crate::unusable)?.quorum,
            release: self.released.document.hash(),
            version: env!("CARGO_PKG_VERSION"),
        })
    }
}

/// `verification.json`.
#[derive(Serialize)]
struct VerificationSummary {
    agreement: Hash,
    attester: Name,
    checked_at: Timestamp,
    /// The log entries in the crate.
    entries: Vec<u64>,
    /// What was found about these entries.
    findings: Vec<crate::Finding>,
    log: LogReport,
    /// How many parties must have cosigned the head.
    quorum: u32,
    release: Hash,
    /// Of the program that checked.
    version: &'static str,
}

/// Where an entry stands in the crate.
pub(crate) fn entry_path(leaf: &Leaf) -> String {
    format!("log/entries/{}-{}.json", leaf.index, leaf.claims().fact.kind())
}

fn proof_path(entry: &str) -> String {
    format!("{}.tlog-proof", entry.trim_end_matches(".json"))
}
