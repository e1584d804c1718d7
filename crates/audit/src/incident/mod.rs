//! Incidents of a house, from its node's own log: what was written down when, and a folder to hand over.
//!
//! Why this exists. Who leads an incident is asked later what was known when, what was done, and what else happened in those
//! days. The node's own log answers, because nobody can add to its past: each step is an entry with a signed record beside
//! it, and [`export_incident`] puts the entries of the study, a proof for each, the agreements and a draft of the
//! notification (Regulation (EU) 2016/679, Art. 33(3)) into one folder.
//!
//! | file | what it does |
//! |---|---|
//! | `mod` | reads the steps back |
//! | `folder` | what is handed over |
//! | `draft` | the draft of a notification |
//!
//! An entry that is no step of an incident is passed over and reported: it must not hide the others.
//!
//! Does not: say whether there was a breach, or what the answers gave away. It lists which answers there were.
//!
//! Adversary: whoever had the log in hand, the house's own operator included; what is shown was signed by a person of the
//! house whom the agreement names.

mod draft;
mod folder;

use std::path::Path;

use cohortium_ledger::VerifiedLog;
use cohortium_messages::{
    Agreement, Author, Envelope, Fact, Hash, IncidentRecord, IncidentStep, Name, Notification, Timestamp, Verified,
};
use cohortium_policy::open_agreement;
use serde::Serialize;

pub use folder::{ExportedIncident, HubLog, export_incident};

use crate::body::Bodies;
use crate::leaf::Leaf;
use crate::outcome::printable;
use crate::own::OwnLog;
use crate::{AuditError, at, unusable};

/// What a house wrote down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Incidents {
    /// All incidents, oldest first.
    pub incidents: Vec<Incident>,
    /// Entries that say they are a step of an incident and are none, in the order of the log.
    pub passed_over: Vec<PassedOver>,
}

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

/// An entry that could not be taken for what it says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PassedOver {
    /// Its index in its log.
    pub entry: u64,
    /// Why, in words.
    pub why: String,
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
    agreements: Vec<Held>,
    leaves: Vec<Leaf>,
    log: VerifiedLog,
}

/// An agreement that the house holds.
struct Held {
    agreement: Verified<Agreement>,
    envelope: Envelope,
}

impl House<'_> {
    /// What the house wrote down of its incidents.
    ///
    /// # Errors
    /// When the log or an agreement cannot be believed.
    pub fn incidents(&self) -> Result<Incidents, AuditError> {
        let opened = self.open()?;
        Ok(self.read(&opened))
    }

    fn open(&self) -> Result<Opened, AuditError> {
        let mut agreements = Vec::new();
        for envelope in self.agreements {
            let agreement = open_agreement(envelope).map_err(unusable)?;
            agreements.push(Held { agreement, envelope: envelope.clone() });
        }
        let known = agreements.iter().map(|held| &*held.agreement);
        let OwnLog { leaves, log, .. } = OwnLog::open(self.log, self.organisation, known)?;
        Ok(Opened { agreements, leaves, log })
    }

    fn read(&self, opened: &Opened) -> Incidents {
        let bodies = Bodies::new(self.log, opened.log.bodies());
        let mut read = Incidents::default();
        for leaf in &opened.leaves {
            let Fact::Incident { body, .. } = &leaf.claims().fact else { continue };
            let record = self.record(leaf, *body, opened, &bodies);
            if let Err(error) = record.and_then(|(step, record)| read.take(step, &record)) {
                read.passed_over.push(PassedOver::new(leaf.index, &error));
            }
        }
        read
    }

    /// The record of a step, by a person of this house who may write one.
    fn record(
        &self,
        leaf: &Leaf,
        body: Hash,
        opened: &Opened,
        bodies: &Bodies<'_>,
    ) -> Result<(Step, IncidentRecord), AuditError> {
        let under = opened.agreements.iter().find(|held| held.agreement.hash() == leaf.claims().agreement);
        let Held { agreement, .. } =
            under.ok_or_else(|| at(leaf.index, "is under an agreement that is not known here"))?;
        let authored = leaf.open(agreement)?;
        let entry = authored.entry();
        let (Author::Person { organisation, person }, Fact::Incident { incident, step, .. }) =
            (&entry.author, &entry.fact)
        else {
            return Err(at(leaf.index, "is no word of a person"));
        };
        let key = agreement.person(organisation, person).filter(|_| organisation == self.organisation);
        let key = key.map(|person| person.key);
        let key = key.ok_or_else(|| at(leaf.index, format!("is by nobody of {}", self.organisation)))?;
        let record = bodies.envelope(leaf.index, body)?.open::<IncidentRecord>(&key);
        let record = record.map_err(|error| at(leaf.index, format!("its record: {error}")))?.into_inner();
        if record.incident != *incident || record.step != *step || record.study != entry.study {
            return Err(at(leaf.index, "names a record of another incident or step"));
        }
        let step =
            Step { at: entry.time, by: person.clone(), entry: leaf.index, step: *step, what: record.what.clone() };
        Ok((step, record))
    }
}

impl Incidents {
    /// Takes a step where it fits: an incident is opened once, then acted on, and closed once.
    fn take(&mut self, step: Step, record: &IncidentRecord) -> Result<(), AuditError> {
        let (entry, incident) = (step.entry, &record.incident);
        match (self.incidents.iter_mut().find(|known| known.incident == *incident), record.aware_at) {
            (None, Some(aware_at)) => self.incidents.push(Incident {
                aware_at,
                deadline: IncidentRecord::deadline(aware_at),
                incident: incident.clone(),
                notification: record.notification.clone(),
                over: false,
                steps: vec![step],
                study: record.study.clone(),
            }),
            (Some(_), Some(_)) => return Err(at(entry, format!("opens incident {incident} a second time"))),
            (None, None) => {
                return Err(at(entry, format!("is a step of incident {incident}, which was not opened")));
            }
            (Some(known), None) if known.over => {
                return Err(at(entry, format!("is a step of incident {incident}, which is over")));
            }
            (Some(known), None) if known.study != record.study => {
                return Err(at(entry, format!("is a step of incident {incident} in another study")));
            }
            (Some(known), None) => {
                known.notification.update(&record.notification);
                known.over = step.step == IncidentStep::Close;
                known.steps.push(step);
            }
        }
        Ok(())
    }
}

impl PassedOver {
    fn new(entry: u64, error: &AuditError) -> Self {
        let why = match error {
            AuditError::Entry { why, .. } => why.clone(),
            other => printable(&other.to_string()),
        };
        Self { entry, why }
    }
}
