//! What people, custodians and nodes said that holds at a place in the log until something else is said: who approved
//! what, where a study stands still, what was taken back.
//!
//! A hub logs such a word when it hears it, and a permit when all permits of a task are there. So a node that permits, and
//! is stopped a moment later, stands in the log the other way round and did nothing wrong. A permit that is dated before the
//! word is therefore a finding; one that is dated at or after it is an error.
//!
//! A stop is about the study at one organisation and survives amendments, as at the nodes; what is taken back is about one
//! agreement, and an amendment begins anew.
//!
//! Assumes: dates are their authors' own. A node that dates a permit back deceives its own house first, and is shown.

use std::collections::BTreeMap;

use cohortium_messages::{Author, Fact, Hash, IncidentStep, Name, RevocationSubject, Timestamp};
use cohortium_policy::{Authored, Revoked, Stop};

use crate::outcome::{FindingKind, Findings, printable};
use crate::study::Study;

/// All that was said so far.
#[derive(Default)]
pub(crate) struct Standing {
    approvals: BTreeMap<Hash, Vec<Authored>>,
    /// By agreement and plan.
    approvals_of_plans: BTreeMap<(Hash, Hash), Vec<Authored>>,
    /// By agreement, with their places in the log.
    revocations: BTreeMap<Hash, Vec<(u64, Authored)>>,
    /// By study and organisation.
    stops: BTreeMap<(Name, Name), Said>,
}

/// Where and when something was said.
#[derive(Clone, Copy)]
pub(crate) struct Said {
    pub index: u64,
    pub time: Timestamp,
}

impl Standing {
    /// Takes the next entry that is about no task's course alone.
    pub(crate) fn take(&mut self, index: u64, authored: &Authored, study: &Study, findings: &mut Findings) {
        let entry = authored.entry();
        let said = Said { index, time: entry.time };
        let who = &entry.author;
        let stop = authored.stop(&self.revoked(entry.agreement));
        match stop {
            Some(Stop::Begins(at)) => drop(self.stops.insert((entry.study.clone(), at.clone()), said)),
            Some(Stop::Ends(at)) => drop(self.stops.remove(&(entry.study.clone(), at.clone()))),
            Some(Stop::EndsInVain(_)) | None => {}
        }
        match &entry.fact {
            Fact::Alert { froze, rule, why, .. } => {
                let then = if *froze { "; the study stands still there" } else { "" };
                let text = format!("{who} reports an alert ({}): {}{then}", printable(rule), printable(why));
                findings.push(FindingKind::Alert, Some(index), text);
            }
            Fact::Approval { plan, task, .. } => {
                self.approvals.entry(*task).or_default().push(authored.clone());
                self.approvals_of_plans.entry((entry.agreement, *plan)).or_default().push(authored.clone());
            }
            Fact::Freeze { frozen, why } => {
                let does = match (frozen, stop) {
                    (true, _) => "stops the study there",
                    (false, Some(Stop::EndsInVain(_))) => {
                        "would let the study go on there, with a key that was taken back; it stands still"
                    }
                    (false, _) => "lets the study go on there",
                };
                findings.push(FindingKind::Freeze, Some(index), format!("{who} {does}: {}", printable(why)));
            }
            Fact::Incident { incident, step, .. } => {
                let step = match step {
                    IncidentStep::Open => "opens",
                    IncidentStep::Action => "records what was done about",
                    IncidentStep::Close => "closes",
                };
                findings.push(FindingKind::Incident, Some(index), format!("{who} {step} the incident {incident}"));
            }
            Fact::Revocation { subject, why } => {
                self.revocations.entry(entry.agreement).or_default().push((index, authored.clone()));
                let text = format!("{who} takes back {}: {}", taken(subject, study), printable(why));
                findings.push(FindingKind::Revocation, Some(index), text);
            }
            _ => {}
        }
    }

    /// What people said about a task.
    pub(crate) fn approvals(&self, task: Hash) -> &[Authored] {
        self.approvals.get(&task).map_or(&[], Vec::as_slice)
    }

    /// What people said about a plan under an agreement, in whatever task.
    pub(crate) fn approvals_of_plan(&self, agreement: Hash, plan: Hash) -> &[Authored] {
        self.approvals_of_plans.get(&(agreement, plan)).map_or(&[], Vec::as_slice)
    }

    /// Since when a study stands still at an organisation, if it does.
    pub(crate) fn stopped(&self, study: &Name, organisation: &Name) -> Option<Said> {
        self.stops.get(&(study.clone(), organisation.clone())).copied()
    }

    /// What was taken back of an agreement, by anybody.
    pub(crate) fn revoked(&self, agreement: Hash) -> Revoked {
        Revoked::from_entries(self.revoking(agreement).map(|(_, authored)| authored))
    }

    /// What a custodian itself took back up to a time.
    pub(crate) fn revoked_by(&self, agreement: Hash, custodian: &Name, until: Timestamp) -> Revoked {
        let author = Author::Custodian(custodian.clone());
        let own = self.revoking(agreement).map(|(_, authored)| authored);
        Revoked::from_entries(own.filter(|authored| {
            let entry = authored.entry();
            entry.author == author && entry.time <= until
        }))
    }

    /// Where the agreement itself, or the key of whoever asks under it, was first taken back: by this custodian, or by any.
    pub(crate) fn taken_back(&self, study: &Study, researcher: &Name, by: Option<&Name>) -> Option<(Said, String)> {
        let key = study.agreement.researcher(researcher).map(|entry| entry.key);
        self.revoking(study.agreement.hash()).find_map(|(index, authored)| {
            let entry = authored.entry();
            let Fact::Revocation { subject, .. } = &entry.fact else { return None };
            let is_about_it = match subject {
                RevocationSubject::Agreement => true,
                RevocationSubject::Key(taken) => Some(*taken) == key,
            };
            let is_by = by.is_none_or(|name| entry.author == Author::Custodian(name.clone()));
            let text = format!("{} took back {} at entry {index}", entry.author, taken(subject, study));
            (is_about_it && is_by).then_some((Said { index: *index, time: entry.time }, text))
        })
    }

    fn revoking(&self, agreement: Hash) -> impl Iterator<Item = &(u64, Authored)> {
        self.revocations.get(&agreement).into_iter().flatten()
    }
}

/// What was taken back, in words.
pub(crate) fn taken(subject: &RevocationSubject, study: &Study) -> String {
    let agreement = &study.agreement;
    match subject {
        RevocationSubject::Agreement => String::from("the agreement"),
        RevocationSubject::Key(key) => {
            let researcher = agreement.researchers.iter().map(|terms| &terms.entry).find(|entry| entry.key == *key);
            let people = agreement.parties.iter().flat_map(|party| &party.people);
            match (researcher, people.into_iter().find(|entry| entry.key == *key)) {
                (Some(entry), _) => format!("the key of the researcher {}", entry.researcher),
                (None, Some(entry)) => format!("the key of {}", entry.person),
                (None, None) => format!("the key {}, which the agreement does not name", key.key_id()),
            }
        }
    }
}
