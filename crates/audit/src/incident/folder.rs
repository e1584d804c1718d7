//! What is handed over about an incident: entries with their proofs, records, agreements, the questions and answers of the
//! study, a draft of the notification, and a manifest.
//!
//! Every document is in the bytes whose SHA-256 stands in its entry. A proof is a C2SP tlog-proof in two files: what differs
//! from entry to entry (`NNNNNN.path`), and the cosigned head, once for each log (`checkpoint`): one after the other they are
//! the proof. So a folder grows with what happened, and not with that times the number of witnesses.
//!
//! Durable steps: both logs are verified before anything is written; then the files one by one; the manifest last. Where
//! writing fails the folder is taken away again. A crash leaves one without `manifest-sha256.txt`, which is not whole.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cohortium_ledger::VerifiedLog;
use cohortium_messages::{Envelope, Fact, Hash, Name, ReleaseDocument, Timestamp, canonical_bytes};
use cohortium_policy::open_entry;
use serde::Serialize;

use crate::body::Bodies;
use crate::export::ExportError;
use crate::export::proof::Proofs;
use crate::head::{self, Head};
use crate::incident::draft::notification;
use crate::incident::{Held, House, Incident, Opened, PassedOver};
use crate::leaf::Leaf;
use crate::{AuditError, at};

/// The hub's log, and which of its entries are handed over.
pub struct HubLog<'a> {
    /// Its directory.
    pub dir: &'a Path,
    /// The first entry, from 0.
    pub first: u64,
    /// The last; those that are not there yet are none.
    pub last: u64,
}

/// What was written for an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedIncident {
    /// How many answers of the study are listed; nothing where the hub's log was not at hand.
    pub answers: Option<usize>,
    /// How many files.
    pub files: usize,
    /// The SHA-256 of the manifest, to be written down beside a folder that is handed over.
    pub manifest_sha256: Hash,
    /// The fields of the notification that nobody has stated.
    pub missing: Vec<String>,
    /// How many entries could not be taken for what they say they are; `problems.json` has them.
    pub problems: usize,
}

/// An answer that left the study.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct AnswerOut {
    pub at: Timestamp,
    /// Whether the entry and the release beside it are signed by the hub of an agreement that the house holds.
    pub checked: bool,
    pub entry: u64,
    pub release: Hash,
    pub task: Hash,
}

/// What could not be taken for what it says it is, by log.
#[derive(Default, Serialize)]
struct Problems {
    hub_log: Vec<PassedOver>,
    own_log: Vec<PassedOver>,
}

/// Writes what an authority, a court or the other members may ask for about an incident into the new folder `out`.
///
/// Given a log that verifies and an incident in it, writes the entries of its study with a proof for each, its records, the
/// agreements, the study's questions and answers where the hub's log is at hand, and a draft of the notification; never
/// rows, of which a log has none. The draft holds what the privacy officer wrote: whoever passes it on passes that on.
///
/// # Errors
/// When a log cannot be believed, there is no such incident, or the folder exists or cannot be written; then none is left.
pub fn export_incident(
    house: &House<'_>,
    hub_log: Option<&HubLog<'_>>,
    incident: &Name,
    out: &Path,
) -> Result<ExportedIncident, ExportError> {
    let opened = house.open()?;
    let read = house.read(&opened);
    let known = read.incidents.into_iter().find(|known| known.incident == *incident);
    let known = known.ok_or_else(|| ExportError::Folder {
        path: out.to_owned(),
        why: format!("not written: this house's log has no incident `{incident}`"),
    })?;
    let last = opened.agreements.iter().rfind(|held| held.agreement.study == known.study);
    let hub = match (hub_log, last) {
        (Some(hub), Some(held)) => Some((hub, head::verify_log(hub.dir, &held.agreement)?)),
        _ => None,
    };
    let case = Case { house, incident: &known, opened: &opened };
    let problems = Problems { own_log: read.passed_over, ..Problems::default() };
    let mut folder = Folder::new(out)?;
    let written = case.write(&mut folder, hub, problems);
    if written.is_err() {
        // This folder is ours: it was not there before. What matters to the caller is why it could not be filled.
        let _ = fs::remove_dir_all(out);
    }
    written
}

/// An incident and the house that wrote it down.
struct Case<'a> {
    house: &'a House<'a>,
    incident: &'a Incident,
    opened: &'a Opened,
}

impl Case<'_> {
    fn write(
        &self,
        folder: &mut Folder,
        hub: Option<(&HubLog<'_>, Head)>,
        mut problems: Problems,
    ) -> Result<ExportedIncident, ExportError> {
        self.write_own(folder)?;
        for Held { agreement, envelope } in self.agreements() {
            folder.put(&format!("agreements/revision-{}.json", agreement.revision), &canonical_bytes(envelope)?)?;
        }
        let answers = match &hub {
            Some((hub, head)) => Some(self.write_hub(folder, hub, head, &mut problems.hub_log)?),
            None => None,
        };
        folder.put_json("answers.json", &answers)?;
        folder.put_json("incident.json", self.incident)?;
        folder.put_json("problems.json", &problems)?;
        let draft = notification(self.incident, answers.as_deref(), self.house.organisation);
        folder.put("notification.md", draft.as_bytes())?;
        let missing = self.incident.notification.fields().into_iter().filter(|(_, text)| text.is_none());
        let missing = missing.map(|(field, _)| field.to_owned()).collect();
        let (files, manifest_sha256) = folder.finish()?;
        Ok(ExportedIncident {
            answers: answers.map(|answers| answers.len()),
            files,
            manifest_sha256,
            missing,
            problems: problems.hub_log.len() + problems.own_log.len(),
        })
    }

    /// The agreements of the study, in order.
    fn agreements(&self) -> impl Iterator<Item = &Held> {
        self.opened.agreements.iter().filter(|held| held.agreement.study == self.incident.study)
    }

    /// The study's entries in the node's own log, and the records of the incident.
    fn write_own(&self, folder: &mut Folder) -> Result<(), ExportError> {
        let log = &self.opened.log;
        folder.put("own-log/checkpoint", log.checkpoint().to_string().as_bytes())?;
        let (proofs, bodies) = (Proofs::new(log), Bodies::new(self.house.log, log.bodies()));
        for leaf in self.opened.leaves.iter().filter(|leaf| leaf.claims().study == self.incident.study) {
            put_entry(folder, "own-log", leaf, log, &proofs)?;
            let is_step = self.incident.steps.iter().any(|step| step.entry == leaf.index);
            if let Some(body) = leaf.claims().fact.body().filter(|_| is_step) {
                let record = bodies.envelope(leaf.index, body)?;
                folder.put(&format!("own-log/{:06}.body.json", leaf.index), &canonical_bytes(&record)?)?;
            }
        }
        Ok(())
    }

    /// The study's entries in the hub's log with their documents; which answers there were among them.
    fn write_hub(
        &self,
        folder: &mut Folder,
        hub: &HubLog<'_>,
        head: &Head,
        problems: &mut Vec<PassedOver>,
    ) -> Result<Vec<AnswerOut>, ExportError> {
        folder.put("hub-log/checkpoint", head.log.checkpoint().to_string().as_bytes())?;
        for amendment in &head.amended {
            let path = format!("hub-log/amendments/revision-{}.json", amendment.agreement.revision);
            folder.put(&path, &canonical_bytes(&amendment.envelope)?)?;
        }
        let met = head.amended.last().map(|amendment| &amendment.agreement);
        if let Some(agreement) = met.or(self.agreements().last().map(|held| &held.agreement)) {
            folder.put("hub-log/log-policy.txt", agreement.log_policy.as_bytes())?;
        }
        let (proofs, bodies) = (Proofs::new(&head.log), Bodies::new(hub.dir, head.log.bodies()));
        let mut answers = Vec::new();
        let meant =
            |leaf: &&Leaf| leaf.claims().study == self.incident.study && (hub.first..=hub.last).contains(&leaf.index);
        for leaf in head.leaves.iter().filter(meant) {
            put_entry(folder, "hub-log", leaf, &head.log, &proofs)?;
            let document = leaf.claims().fact.body().map(|body| bodies.envelope(leaf.index, body)).transpose();
            let document = document.unwrap_or_else(|error| {
                problems.push(PassedOver::new(leaf.index, &error));
                None
            });
            if let Some(document) = &document {
                folder.put(&format!("hub-log/{:06}.body.json", leaf.index), &canonical_bytes(document)?)?;
            }
            let Fact::Release { release, task, .. } = &leaf.claims().fact else { continue };
            let checked = self.check_answer(leaf, document.as_ref(), *release);
            if let Err(error) = &checked {
                problems.push(PassedOver::new(leaf.index, error));
            }
            let (at, entry) = (leaf.claims().time, leaf.index);
            answers.push(AnswerOut { at, checked: checked.is_ok(), entry, release: *release, task: *task });
        }
        Ok(answers)
    }

    /// Whether an answer and its entry are signed by the hub of an agreement that the house holds.
    fn check_answer(&self, leaf: &Leaf, document: Option<&Envelope>, release: Hash) -> Result<(), AuditError> {
        let under = self.agreements().find(|held| held.agreement.hash() == leaf.claims().agreement);
        let Held { agreement, .. } =
            under.ok_or_else(|| at(leaf.index, "is under an agreement that is not known here"))?;
        open_entry(leaf.envelope(), agreement).map_err(|error| at(leaf.index, error.to_string()))?;
        let document = document.ok_or_else(|| at(leaf.index, "its document is not there"))?;
        let document = document.open::<ReleaseDocument>(&agreement.hub.message_key);
        match document.map(|document| document.hash()) {
            Ok(hash) if hash == release => Ok(()),
            Ok(_) => Err(at(leaf.index, "names another release than the document beside it")),
            Err(error) => Err(at(leaf.index, format!("the release: {error}"))),
        }
    }
}

fn put_entry(
    folder: &mut Folder,
    log: &str,
    leaf: &Leaf,
    of: &VerifiedLog,
    proofs: &Proofs<'_>,
) -> Result<(), ExportError> {
    let name = format!("{log}/{:06}", leaf.index);
    folder.put(&format!("{name}.json"), leaf.bytes(of)?)?;
    folder.put(&format!("{name}.path"), proofs.path_of(leaf.index)?.as_bytes())
}

/// A new folder while it is filled, and its manifest.
struct Folder {
    files: usize,
    manifest: String,
    out: PathBuf,
}

impl Folder {
    fn new(out: &Path) -> Result<Self, ExportError> {
        fs::create_dir(out).map_err(|error| failed(out, &error))?;
        Ok(Self { files: 0, manifest: String::new(), out: out.to_owned() })
    }

    fn put(&mut self, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
        let file = self.out.join(path);
        if let Some(parent) = file.parent() {
            fs::create_dir_all(parent).map_err(|error| failed(parent, &error))?;
        }
        fs::write(&file, bytes).map_err(|error| failed(&file, &error))?;
        let _ = writeln!(self.manifest, "{}  {path}", Hash::of(bytes));
        self.files += 1;
        Ok(())
    }

    fn put_json<T: Serialize>(&mut self, path: &str, value: &T) -> Result<(), ExportError> {
        let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| ExportError::Internal(error.to_string()))?;
        bytes.push(b'\n');
        self.put(path, &bytes)
    }

    /// Writes the manifest, as `sha256sum --check` reads it: now the folder is whole.
    fn finish(&mut self) -> Result<(usize, Hash), ExportError> {
        let manifest = std::mem::take(&mut self.manifest);
        self.put("manifest-sha256.txt", manifest.as_bytes())?;
        Ok((self.files, Hash::of(manifest.as_bytes())))
    }
}

fn failed(path: &Path, error: &std::io::Error) -> ExportError {
    ExportError::Folder { path: path.to_owned(), why: error.to_string() }
}
