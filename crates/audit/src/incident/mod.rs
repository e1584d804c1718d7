//! Incidents of a house, from its node's own log: what was written down when, and a folder to hand over.
//!
//! Why this exists. Who leads an incident is asked later what was known when, what was done, and what else happened in those
//! days. The node's own log answers, because nobody can add to its past: each step is an entry with a signed record beside
//! it, and [`export_incident`] puts the entries of the study, a proof for each, the agreements and a draft of the
//! notification (Regulation (EU) 2016/679, Art. 33(3)) into one folder.
//!
//! Does not: say whether there was a breach, or what the answers gave away. It lists which answers there were.
//!
//! Adversary: whoever had the log in hand, the house's own operator included; what is shown was signed by a person of the
//! house whom the agreement names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use cohortium_ledger::{KeyKind, VerifiedLog, VerifierKey, verify_directory};
use cohortium_messages::{
    Agreement, Author, Envelope, Fact, Hash, IncidentRecord, IncidentStep, Name, Notification, RosterEntry, Timestamp,
    Verified,
};
use cohortium_policy::{open_agreement, open_entry};
use serde::Serialize;

use crate::body::Bodies;
use crate::export::ExportError;
use crate::export::proof::Proofs;
use crate::leaf::{self, Leaf};
use crate::study::{log_key, verify_log};
use crate::{AuditError, at, unusable};

/// An incident, as its steps tell it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Incident {
    /// When somebody became aware.
    pub aware_at: Timestamp,
    /// Until when an authority must be told, if it must.
    pub deadline: Timestamp,
    /// Its name in the house.
    pub incident: Name,
    /// What is known for the notification.
    pub notification: Notification,
    /// Whether it is over.
    pub over: bool,
    /// What was done, oldest first.
    pub steps: Vec<Step>,
    /// The study.
    pub study: Name,
}

/// A step of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Step {
    /// When, by the person's clock.
    pub at: Timestamp,
    /// Who.
    pub by: Name,
    /// The entry in the node's own log.
    pub entry: u64,
    /// Which step.
    pub step: IncidentStep,
    /// What happened or was done.
    pub what: String,
}

/// A house and its own log.
pub struct House<'a> {
    /// Every agreement that was in force here, as signed by all.
    pub agreements: &'a [Envelope],
    /// The directory of the node's own log.
    pub log: &'a Path,
    /// The organisation.
    pub organisation: &'a Name,
}

/// The verified log of a house, with its agreements.
struct Opened {
    agreements: Vec<(Verified<Agreement>, Envelope)>,
    leaves: Vec<Leaf>,
    log: VerifiedLog,
}

impl House<'_> {
    /// All incidents of the house, oldest first.
    ///
    /// # Errors
    /// When the log or a record in it cannot be believed.
    pub fn incidents(&self) -> Result<Vec<Incident>, AuditError> {
        let opened = self.open()?;
        self.read(&opened)
    }

    fn open(&self) -> Result<Opened, AuditError> {
        let mut agreements = Vec::new();
        for envelope in self.agreements {
            agreements.push((open_agreement(envelope).map_err(unusable)?, envelope.clone()));
        }
        let entry = agreements.iter().rev().find_map(|(agreement, _)| agreement.party(self.organisation).cloned());
        let entry = entry.ok_or_else(|| unusable(format!("no agreement of {} is known", self.organisation)))?;
        let log = verify_directory(
            self.log,
            &log_key(self.organisation.as_str(), &entry.log_key)?,
            &witnesses(&agreements)?,
            0,
        )?;
        let leaves = leaf::read_all(log.entries())?;
        Ok(Opened { agreements, leaves, log })
    }

    fn read(&self, opened: &Opened) -> Result<Vec<Incident>, AuditError> {
        let bodies = Bodies::new(self.log, opened.log.bodies());
        let mut incidents: Vec<Incident> = Vec::new();
        for leaf in &opened.leaves {
            let Fact::Incident { body, incident, step } = &leaf.claims().fact else { continue };
            let agreement = opened.agreements.iter().find(|(known, _)| known.hash() == leaf.claims().agreement);
            let (agreement, _) =
                agreement.ok_or_else(|| at(leaf.index, "is under an agreement that is not known here"))?;
            let entry = leaf.open(agreement)?;
            let entry = entry.entry();
            let Author::Person { person, .. } = &entry.author else { continue };
            let key = agreement.person(self.organisation, person).map(|person| person.key);
            let key = key.ok_or_else(|| at(leaf.index, format!("is by nobody of {}", self.organisation)))?;
            let record = bodies.envelope(leaf.index, *body)?.open::<IncidentRecord>(&key);
            let record = record.map_err(|error| at(leaf.index, error.to_string()))?;
            if record.incident != *incident || record.step != *step || record.study != entry.study {
                return Err(at(leaf.index, "names a record of another incident or step"));
            }
            let done =
                Step { at: entry.time, by: person.clone(), entry: leaf.index, step: *step, what: record.what.clone() };
            match (incidents.iter_mut().find(|known| known.incident == *incident), record.aware_at) {
                (None, Some(aware_at)) => incidents.push(Incident {
                    aware_at,
                    deadline: IncidentRecord::deadline(aware_at),
                    incident: incident.clone(),
                    notification: record.notification.clone(),
                    over: false,
                    steps: vec![done],
                    study: entry.study.clone(),
                }),
                (Some(known), _) => {
                    known.notification.update(&record.notification);
                    known.over = *step == IncidentStep::Close;
                    known.steps.push(done);
                }
                (None, None) => {
                    return Err(at(leaf.index, format!("is a step of incident {incident}, which was not opened")));
                }
            }
        }
        Ok(incidents)
    }
}

/// Whoever may have cosigned a head of the house's own log: the other members, with both keys.
fn witnesses(agreements: &[(Verified<Agreement>, Envelope)]) -> Result<Vec<VerifierKey>, AuditError> {
    let mut entries: BTreeMap<String, &RosterEntry> = BTreeMap::new();
    for party in agreements.iter().flat_map(|(agreement, _)| &agreement.parties) {
        entries.insert(party.entry.witness_key.key_id(), &party.entry);
    }
    let mut keys = Vec::new();
    for entry in entries.values() {
        let name = entry.organisation.as_str();
        keys.push(VerifierKey::new(name, KeyKind::Witness, entry.witness_key.as_bytes()).map_err(unusable)?);
        let post_quantum = VerifierKey::new(name, KeyKind::WitnessMlDsa44, entry.witness_ml_dsa_key.as_bytes());
        keys.push(post_quantum.map_err(unusable)?);
    }
    Ok(keys)
}

/// What was written for an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExportedIncident {
    /// How many answers of the study the hub's log has; nothing where that log was not at hand.
    pub answers: Option<usize>,
    /// How many files.
    pub files: usize,
    /// The fields of the notification that nobody has stated.
    pub missing: Vec<String>,
}

/// Writes what an authority, a court or the other members may ask for about an incident into the new folder `out`.
///
/// Given a log that verifies and an incident in it, writes the entries of its study with a proof for each, its records, the
/// agreements, the answers of the study where the hub's log is at hand, and a draft of the notification; never rows, of
/// which a log has none. The draft holds what the privacy officer wrote: whoever passes it on passes that on.
///
/// # Errors
/// When a log cannot be believed, there is no such incident, or the folder exists or cannot be written.
pub fn export_incident(
    house: &House<'_>,
    hub_log: Option<&Path>,
    incident: &Name,
    out: &Path,
) -> Result<ExportedIncident, ExportError> {
    let opened = house.open()?;
    let known = house.read(&opened)?.into_iter().find(|known| known.incident == *incident);
    let known = known.ok_or_else(|| ExportError::Folder {
        path: out.to_owned(),
        why: format!("not written: this house's log has no incident `{incident}`"),
    })?;
    let mut files = BTreeMap::new();
    put_entries(&mut files, "own-log", &opened.log, &opened.leaves, &known.study)?;
    let bodies = Bodies::new(house.log, opened.log.bodies());
    for step in &known.steps {
        let leaf = opened.leaves.iter().find(|leaf| leaf.index == step.entry);
        if let Some(body) = leaf.and_then(|leaf| leaf.claims().fact.body()) {
            files.insert(format!("own-log/{:06}.record.json", step.entry), json(&bodies.envelope(step.entry, body)?)?);
        }
    }
    let of_study = opened.agreements.iter().filter(|(agreement, _)| agreement.study == known.study);
    let of_study: Vec<&(Verified<Agreement>, Envelope)> = of_study.collect();
    for (agreement, envelope) in &of_study {
        files.insert(format!("agreements/revision-{}.json", agreement.revision), json(envelope)?);
    }
    let answers = match (hub_log, of_study.last()) {
        (Some(dir), Some((agreement, _))) => {
            let log = verify_log(dir, agreement)?;
            let leaves = leaf::read_all(log.entries())?;
            put_entries(&mut files, "hub-log", &log, &leaves, &known.study)?;
            Some(answers(&leaves, &of_study))
        }
        _ => None,
    };
    files.insert(String::from("answers.json"), json(&answers)?);
    files.insert(String::from("incident.json"), json(&known)?);
    files.insert(
        String::from("notification.md"),
        notification(&known, answers.as_deref(), house.organisation).into_bytes(),
    );
    let missing = known.notification.fields().into_iter().filter(|(_, text)| text.is_none());
    let missing = missing.map(|(field, _)| field.to_owned()).collect();
    write(out, &files)?;
    Ok(ExportedIncident { answers: answers.map(|answers| answers.len()), files: files.len(), missing })
}

/// An answer that left the study.
#[derive(Debug, Clone, Serialize)]
struct AnswerOut {
    at: Timestamp,
    entry: u64,
    release: Hash,
    task: Hash,
}

/// The answers of a study, as its hub signed them.
fn answers(leaves: &[Leaf], agreements: &[&(Verified<Agreement>, Envelope)]) -> Vec<AnswerOut> {
    let released = leaves.iter().filter_map(|leaf| {
        let Fact::Release { release, task, .. } = &leaf.claims().fact else { return None };
        let (agreement, _) = agreements.iter().find(|(known, _)| known.hash() == leaf.claims().agreement)?;
        let entry = open_entry(leaf.envelope(), agreement).ok()?;
        Some(AnswerOut { at: entry.entry().time, entry: leaf.index, release: *release, task: *task })
    });
    released.collect()
}

fn put_entries(
    files: &mut BTreeMap<String, Vec<u8>>,
    folder: &str,
    log: &VerifiedLog,
    leaves: &[Leaf],
    study: &Name,
) -> Result<(), ExportError> {
    let proofs = Proofs::new(log);
    for leaf in leaves.iter().filter(|leaf| leaf.claims().study == *study) {
        let name = format!("{folder}/{:06}", leaf.index);
        files.insert(format!("{name}.json"), leaf.bytes(log)?.to_vec());
        files.insert(format!("{name}.tlog-proof"), proofs.of(leaf.index)?.into_bytes());
    }
    Ok(())
}

fn json<T: Serialize>(value: &T) -> Result<Vec<u8>, ExportError> {
    let mut bytes = serde_json::to_vec_pretty(value).map_err(|error| ExportError::Internal(error.to_string()))?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// The draft of a notification, for a person to finish.
fn notification(incident: &Incident, answers: Option<&[AnswerOut]>, organisation: &Name) -> String {
    let mut text = format!(
        "# Draft of a notification under Art. 33 GDPR: {}\n\nController: {organisation}. Study: {}. Aware since {}; to be \
         notified by {} unless there is no risk to people.\n\n",
        incident.incident, incident.study, incident.aware_at, incident.deadline
    );
    for (field, stated) in incident.notification.fields() {
        let stated = stated.map_or_else(|| String::from("**TO BE FILLED IN**"), |stated| quoted(stated));
        let _ = writeln!(text, "## {field}\n\n{stated}\n");
    }
    text.push_str("## What was done\n\n");
    for step in &incident.steps {
        let word = match step.step {
            IncidentStep::Action => "action",
            IncidentStep::Close => "closed",
            IncidentStep::Open => "opened",
        };
        let _ = writeln!(
            text,
            "- {} ({}, {word}, entry {} of the node's own log):\n\n{}\n",
            step.at,
            step.by,
            step.entry,
            quoted(&step.what)
        );
    }
    text.push_str("## Answers that left the study\n\n");
    match answers {
        None => text.push_str("The hub's log was not at hand: export again with it to list them.\n"),
        Some([]) => text.push_str("None.\n"),
        Some(answers) => {
            for answer in answers {
                let _ =
                    writeln!(text, "- {}: task {} (entry {} of the hub's log)", answer.at, answer.task, answer.entry);
            }
        }
    }
    text.push_str(
        "\nEach is a noised sum over members; no row ever left a node by this system. `own-log` and `hub-log` hold the signed \
         entries of the study with a proof for each that it is in its log (C2SP tlog-proof).\n",
    );
    text
}

/// A person's words as a Markdown block that ends nothing but itself.
fn quoted(text: &str) -> String {
    text.lines().map(|line| format!("> {}", line.trim())).collect::<Vec<_>>().join("\n")
}

fn write(out: &Path, files: &BTreeMap<String, Vec<u8>>) -> Result<(), ExportError> {
    let failed =
        |path: &Path, error: &std::io::Error| ExportError::Folder { path: path.to_owned(), why: error.to_string() };
    std::fs::create_dir(out).map_err(|error| failed(out, &error))?;
    for (name, bytes) in files {
        let path = out.join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        }
        std::fs::write(&path, bytes).map_err(|error| failed(&path, &error))?;
    }
    Ok(())
}
