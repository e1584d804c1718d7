//! What people, custodians and nodes said that holds at a place in the log until something else is said: who approved
//! what, where a study stands still, what was taken back.
//!
//! "Before" is before in the log, and nothing else. A hub that hears a stop, a no or a revocation while permits of a task
//! wait for the rest of them ends the task; so nobody is accused for a word that crossed another on its way, and no clock
//! is asked. What one custodian takes back counts at every node from its place in the log on.
//!
//! A stop is about the study at one organisation and survives amendments, as at the nodes; what is taken back is about one
//! agreement, and an amendment begins anew.

use std::collections::BTreeMap;

use cohortium_messages::{Fact, Hash, IncidentStep, Name, RevocationSubject};
use cohortium_policy::{Authored, Revoked, Stop};

use crate::outcome::{FindingKind, Findings, printable};
use crate::study::Study;

/// All that was said so far.
#[derive(Default)]
pub(crate) struct Standing {
    /// What people said, by task.
    about_tasks: BTreeMap<Hash, Vec<Authored>>,
    /// The same, by agreement and plan, where the agreement says that an approved plan counts again.
    about_plans: BTreeMap<(Hash, Hash), Vec<Authored>>,
    /// By agreement, with their places in the log.
    revocations: BTreeMap<Hash, Vec<(u64, Authored)>>,
    /// How often each study was stopped at some organisation where it went on before.
    begun: BTreeMap<Name, u64>,
    /// By study and organisation: since which entry the study stands still there.
    stops: BTreeMap<(Name, Name), u64>,
}

impl Standing {
    /// Takes the next entry that is about no task's course alone.
    pub(crate) fn take(&mut self, index: u64, authored: &Authored, study: &Study, findings: &mut Findings) {
        let entry = authored.entry();
        let who = &entry.author;
        let stop = authored.stop(&self.revoked(entry.agreement));
        match stop {
            Some(Stop::Begins(at)) => {
                let before = self.stops.insert((entry.study.clone(), at.clone()), index);
                // Who stops what stands still already stops nothing more.
                *self.begun.entry(entry.study.clone()).or_default() += u64::from(before.is_none());
            }
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
                self.about_tasks.entry(*task).or_default().push(authored.clone());
                if study.agreement.approval.automatic.approved_plans {
                    self.about_plans.entry((entry.agreement, *plan)).or_default().push(authored.clone());
                }
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
    pub(crate) fn said_about_task(&self, task: Hash) -> &[Authored] {
        self.about_tasks.get(&task).map_or(&[], Vec::as_slice)
    }

    /// What people said about a plan under an agreement, in whatever task.
    pub(crate) fn said_about_plan(&self, agreement: Hash, plan: Hash) -> &[Authored] {
        self.about_plans.get(&(agreement, plan)).map_or(&[], Vec::as_slice)
    }

    /// Since which entry a study stands still at an organisation, if it does.
    pub(crate) fn stopped(&self, study: &Name, organisation: &Name) -> Option<u64> {
        self.stops.get(&(study.clone(), organisation.clone())).copied()
    }

    /// How often a study was stopped, and since which entry it still stands still at whom.
    pub(crate) fn stops(&self, study: &Name) -> (u64, Vec<(&Name, u64)>) {
        let standing = self.stops.iter().filter(|((stopped, _), _)| stopped == study);
        let standing = standing.map(|((_, organisation), index)| (organisation, *index)).collect();
        (self.begun.get(study).copied().unwrap_or_default(), standing)
    }

    /// What was taken back of an agreement, by anybody.
    pub(crate) fn revoked(&self, agreement: Hash) -> Revoked {
        Revoked::from_entries(self.revoking(agreement).map(|(_, authored)| authored))
    }

    /// Where the agreement itself, or the key of whoever asks under it, was first taken back, in words.
    pub(crate) fn taken_back(&self, study: &Study, researcher: &Name) -> Option<String> {
        let key = study.agreement.researcher(researcher).map(|entry| entry.key);
        self.revoking(study.agreement.hash()).find_map(|(index, authored)| {
            let entry = authored.entry();
            let Fact::Revocation { subject, .. } = &entry.fact else { return None };
            let is_about_it = match subject {
                RevocationSubject::Agreement => true,
                RevocationSubject::Key(taken) => Some(*taken) == key,
            };
            let text = format!("{} took back {} at entry {index}", entry.author, taken(subject, study));
            is_about_it.then_some(text)
        })
    }

    /// What the log holds against a permit of whatever this researcher asks at this node, in words: where it is to be found.
    pub(crate) fn against(&self, study: &Study, researcher: &Name, node: &Name) -> Vec<String> {
        let stopped = self.stopped(&study.agreement.study, node);
        let stopped = stopped.map(|index| format!("the study stands still there since entry {index}"));
        stopped.into_iter().chain(self.taken_back(study, researcher)).collect()
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
