//! The data-use agreement: what custodians sign, every node enforces, and an auditor checks against.
//!
//! It carries the parties with their keys and their people (peers are pinned by what custodians signed, never by what a
//! hub says), what may be asked of which columns for which purposes and in which phase, who must approve, the parameters
//! of the secure sum, whose cosignatures make a log head count, and budgets. People write it as TOML; what is signed is
//! this structure as canonical JSON, by *every* custodian.
//!
//! An amendment is a whole new agreement with the next revision and the hash of the one before; every custodian signs it
//! anew, also where it changes nothing but keys.

use serde::{Deserialize, Serialize};

use crate::terms::{check_epsilon, check_phases};
use crate::{
    Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Budgets, Condition, DatasetTerms, Decimal, Document,
    Hash, HubEntry, MAX_CELLS, MAX_ORGANISATIONS, Name, Ownership, PersonEntry, ProjectPhase, PublicKey, Purpose,
    ReleaseMode, ResearcherEntry, RiskAcceptance, RosterEntry, SecureSumTerms, Timestamp, check_thresholds,
};

/// The version of this structure. A node refuses an agreement of a version that it does not know.
pub const AGREEMENT_VERSION: u32 = 2;

/// A data-use agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// What may be computed, each kind once.
    pub analyses: Vec<AnalysisTerms>,
    /// How tasks are approved at the nodes.
    pub approval: ApprovalTerms,
    /// What attacks on a model may achieve at most.
    pub attack_thresholds: AttackThresholds,
    /// What may be spent.
    pub budgets: Budgets,
    /// Conditions on every use, which every task affirms.
    pub conditions: Vec<Condition>,
    /// The datasets, each held by every party.
    pub datasets: Vec<DatasetTerms>,
    /// Who coordinates and keeps the log.
    pub hub: HubEntry,
    /// Whose cosignatures make a head of the hub's log count: a C2SP tlog-policy over the parties' witness keys, a flat
    /// quorum of `q` with `2q > n + c`. `policy::open_agreement` checks it.
    pub log_policy: String,
    /// Who owns data, models and results.
    pub ownership: Ownership,
    /// The custodians: each signs, each runs a node, each holds every dataset.
    pub parties: Vec<Party>,
    /// What may be done when; one after the other. Without any, all rights hold over the whole term.
    pub phases: Vec<ProjectPhase>,
    /// The agreement that this one amends; none for the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<Hash>,
    /// What the answers are for, in words.
    pub purpose_text: String,
    /// What the answers may be used for.
    pub purposes: Vec<Purpose>,
    /// Who may ask.
    pub researchers: Vec<ResearcherTerms>,
    /// Days after which each operator erases the bodies of tasks and releases; stated here, not automated in this version.
    pub retention_days: u32,
    /// Counts amendments: 1 for the first agreement of a study.
    pub revision: u32,
    /// Who accepted the remaining risk, and in which words.
    pub risk_acceptance: RiskAcceptance,
    /// How the sum is protected.
    pub secure_sum: SecureSumTerms,
    /// The study's name.
    pub study: Name,
    /// What the study is about, for people.
    pub title: String,
    /// From when it is in force.
    pub valid_from: Timestamp,
    /// Until when it is in force.
    pub valid_until: Timestamp,
    /// [`AGREEMENT_VERSION`].
    pub version: u32,
}

/// A custodian.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Party {
    /// Its name and keys, as it signed them for itself.
    pub entry: RosterEntry,
    /// Who acts for it, each with a key of their own.
    pub people: Vec<PersonEntry>,
}

/// A researcher who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResearcherTerms {
    /// Name and key.
    pub entry: ResearcherEntry,
}

/// Why an agreement cannot be signed. Whoever drafted it must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AgreementError {
    /// Not a version we know.
    #[error(
        "agreement version {0} is not known here (this is version {AGREEMENT_VERSION}): update, or ask for an agreement of this version"
    )]
    Version(u32),
    /// Not a purpose.
    #[error("a purpose is NRES, GRU, HMB, POA or DS:<disease code>")]
    Purpose,
    /// Not a modifier.
    #[error("a condition is one of DUO's modifiers: COL, GS, IRB, IS, MOR, NCU, NMDS, NPU, NPUNCU, PUB, RS, RTN")]
    Modifier,
    /// An empty list that must not be empty.
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
    /// More than can be compiled into a policy and looked at.
    #[error("`{0}` lists more than {1}")]
    TooMany(&'static str, usize),
    /// A name or key twice.
    #[error("`{0}` has the same name or key twice")]
    Twice(&'static str),
    /// One person in two roles that must be apart.
    #[error(
        "{0} appears twice among people and researchers: whoever asks, approves, operates and audits are different people. Whoever \
         drafts takes {0} out of `people` under [[party]] or out of [[researcher]]; somebody else of that name needs another name"
    )]
    Duties(Name),
    /// Fewer people than approvals are needed from.
    #[error("approval.needed is {needed}, but {organisation} has {found} people who may approve")]
    Approvers {
        /// How many it has.
        found: usize,
        /// How many approvals are needed.
        needed: u32,
        /// Where.
        organisation: Name,
    },
    /// Terms of approval under which nothing or anything could happen.
    #[error("approval: {0}")]
    Approval(&'static str),
    /// Phases out of order.
    #[error("phases: {0}")]
    Phases(&'static str),
    /// A rate outside 0 to 1.
    #[error("attack_thresholds must be between 0 and 1")]
    AttackThresholds,
    /// An ε that cannot be accounted for.
    #[error("`{0}` must be above 0 and at most 1000")]
    Epsilon(&'static str),
    /// A number of cells that no answer can have.
    #[error("`{0}` must be between 1 and {MAX_CELLS}")]
    Cells(&'static str),
    /// The first revision with a predecessor, or a later one without.
    #[error("revision 1 has no `previous`, and every later one names the agreement it amends")]
    Revision,
    /// Something names a dataset that is not in the agreement.
    #[error("approval.automatic.classes names dataset `{0}`, which is not in the agreement")]
    NoDataset(Name),
    /// Too few or too many organisations.
    #[error("a study has 2 to {MAX_ORGANISATIONS} organisations, here are {0}")]
    Organisations(usize),
    /// The threshold does not protect against the colluders.
    #[error(
        "secure_sum: with {organisations} organisations and colluders = {colluders}, the threshold must satisfy \
         2·threshold > organisations + colluders, threshold ≤ organisations and colluders ≥ 1; with a dataset in exact \
         mode also organisations ≥ 3 and threshold ≥ colluders + 2"
    )]
    Threshold {
        /// How many organisations.
        organisations: usize,
        /// `c`.
        colluders: u32,
    },
    /// The times are the wrong way round.
    #[error("valid_from must be before valid_until")]
    Times,
    /// Budgets that allow nothing, or that are beyond what can be accounted for.
    #[error(
        "budgets: epsilons must be above 0 and at most 1000, delta at least 0.000000001 and at most 0.009, and epsilon_per_query ≤ epsilon_per_researcher ≤ epsilon_total"
    )]
    Budgets,
    /// A dataset's schema is wrong.
    #[error("dataset `{dataset}`: {why}")]
    Dataset {
        /// Which.
        dataset: Name,
        /// What is wrong.
        why: crate::ColumnError,
    },
    /// A text is too long.
    #[error("`{0}` must have 1 to {1} characters")]
    Text(&'static str, usize),
    /// Zero or absurdly many days.
    #[error("retention_days must be between 1 and 36500")]
    Retention,
}

/// The most datasets of an agreement.
const MAX_DATASETS: usize = 64;
/// The most researchers of an agreement.
const MAX_RESEARCHERS: usize = 10_000;
/// The most people of a party.
const MAX_PEOPLE: usize = 100;
/// The longest free text in an agreement.
const MAX_TEXT: usize = 4000;
/// The longest log policy: two keys and a group for each of 100 witnesses.
const MAX_LOG_POLICY: usize = 512 << 10;

impl Agreement {
    /// The names of the parties, sorted: the participant set of every task.
    #[must_use]
    pub fn participants(&self) -> Vec<Name> {
        let mut names: Vec<Name> = self.parties.iter().map(|party| party.entry.organisation.clone()).collect();
        names.sort();
        names
    }

    /// The roster entry of an organisation.
    #[must_use]
    pub fn party(&self, organisation: &Name) -> Option<&RosterEntry> {
        self.parties.iter().map(|party| &party.entry).find(|entry| entry.organisation == *organisation)
    }

    /// The entry of a researcher.
    #[must_use]
    pub fn researcher(&self, name: &Name) -> Option<&ResearcherEntry> {
        self.researchers.iter().map(|terms| &terms.entry).find(|entry| entry.researcher == *name)
    }

    /// The terms of a dataset.
    #[must_use]
    pub fn dataset(&self, name: &Name) -> Option<&DatasetTerms> {
        self.datasets.iter().find(|terms| terms.name == *name)
    }

    /// A party's people.
    #[must_use]
    pub fn people(&self, organisation: &Name) -> &[PersonEntry] {
        let party = self.parties.iter().find(|party| party.entry.organisation == *organisation);
        party.map_or(&[], |party| &party.people)
    }

    /// A person who acts for a party.
    #[must_use]
    pub fn person(&self, organisation: &Name, person: &Name) -> Option<&PersonEntry> {
        self.people(organisation).iter().find(|entry| entry.person == *person)
    }

    /// The terms of a kind of computation.
    #[must_use]
    pub fn analysis(&self, analysis: Analysis) -> Option<&AnalysisTerms> {
        self.analyses.iter().find(|terms| terms.analysis == analysis)
    }

    /// The phase at `now`, where the agreement has phases and it lies in one.
    #[must_use]
    pub fn phase(&self, now: Timestamp) -> Option<&ProjectPhase> {
        self.phases.iter().find(|phase| phase.from <= now && now < phase.until)
    }

    /// The keys that must all have signed.
    #[must_use]
    pub fn custodian_keys(&self) -> Vec<PublicKey> {
        self.parties.iter().map(|party| party.entry.agreement_key).collect()
    }

    /// Whether the agreement is in force at `now`.
    #[must_use]
    pub fn is_in_force(&self, now: Timestamp) -> bool {
        self.valid_from <= now && now < self.valid_until
    }

    /// Checks what must hold between the fields.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn validate(&self) -> Result<(), AgreementError> {
        if self.version != AGREEMENT_VERSION {
            return Err(AgreementError::Version(self.version));
        }
        for (what, empty) in [
            ("analyses", self.analyses.is_empty()),
            ("datasets", self.datasets.is_empty()),
            ("purposes", self.purposes.is_empty()),
            ("researchers", self.researchers.is_empty()),
        ] {
            if empty {
                return Err(AgreementError::Empty(what));
            }
        }
        for (what, count, limit) in
            [("datasets", self.datasets.len(), MAX_DATASETS), ("researchers", self.researchers.len(), MAX_RESEARCHERS)]
        {
            if count > limit {
                return Err(AgreementError::TooMany(what, limit));
            }
        }
        if (self.revision == 0) || (self.revision == 1) != self.previous.is_none() {
            return Err(AgreementError::Revision);
        }
        self.validate_people()?;
        self.validate_secure_sum()?;
        self.validate_budgets()?;
        self.validate_analyses()?;
        self.validate_approval()?;
        self.attack_thresholds.check()?;
        if self.valid_from >= self.valid_until {
            return Err(AgreementError::Times);
        }
        check_phases(&self.phases, self.valid_from, self.valid_until)?;
        if !(1..=36_500).contains(&self.retention_days) {
            return Err(AgreementError::Retention);
        }
        self.validate_texts()?;
        self.datasets.iter().try_for_each(|terms| {
            let dataset = terms.name.clone();
            terms.schema.check().map_err(|why| AgreementError::Dataset { dataset, why })
        })
    }

    fn validate_texts(&self) -> Result<(), AgreementError> {
        let texts = [
            ("log_policy", &self.log_policy, MAX_LOG_POLICY),
            ("purpose_text", &self.purpose_text, MAX_TEXT),
            ("title", &self.title, MAX_TEXT),
            ("risk_acceptance.accepted_by", &self.risk_acceptance.accepted_by, MAX_TEXT),
            ("risk_acceptance.statement", &self.risk_acceptance.statement, MAX_TEXT),
        ];
        let owners = self.ownership.texts().map(|(what, text)| (what, text, MAX_TEXT));
        let conditions = self.conditions.iter().map(|condition| ("conditions.detail", &condition.detail, MAX_TEXT));
        for (what, text, limit) in texts.into_iter().chain(owners).chain(conditions) {
            if text.trim().is_empty() || text.len() > limit {
                return Err(AgreementError::Text(what, limit));
            }
        }
        Ok(())
    }

    fn validate_analyses(&self) -> Result<(), AgreementError> {
        let mut kinds: Vec<Analysis> = self.analyses.iter().map(|terms| terms.analysis).collect();
        if has_duplicates(&mut kinds) {
            return Err(AgreementError::Twice("analyses"));
        }
        let mut modifiers: Vec<_> = self.conditions.iter().map(|condition| condition.modifier).collect();
        if has_duplicates(&mut modifiers) {
            return Err(AgreementError::Twice("conditions"));
        }
        self.analyses.iter().try_for_each(AnalysisTerms::check)
    }

    fn validate_approval(&self) -> Result<(), AgreementError> {
        self.approval.check()?;
        let named = self.approval.automatic.classes.iter().flat_map(|class| &class.datasets);
        if let Some(missing) = named.into_iter().find(|name| self.dataset(name).is_none()) {
            return Err(AgreementError::NoDataset(missing.clone()));
        }
        let counts = |entry: &&PersonEntry| self.approval.roles.contains(&entry.role);
        let needed = self.approval.needed.max(u32::from(self.approval.hold));
        for Party { entry, people } in &self.parties {
            let found = people.iter().filter(counts).count();
            if found < needed as usize {
                return Err(AgreementError::Approvers { found, needed, organisation: entry.organisation.clone() });
            }
        }
        Ok(())
    }

    /// No name and no key, of whatever kind, may stand for two: a key used twice would let one party speak for another, and one person in
    /// two roles could approve what they asked.
    fn validate_people(&self) -> Result<(), AgreementError> {
        let mut names: Vec<&Name> = self.parties.iter().map(|party| &party.entry.organisation).collect();
        if has_duplicates(&mut names) {
            return Err(AgreementError::Twice("parties"));
        }
        let mut researchers: Vec<&Name> = self.researchers.iter().map(|terms| &terms.entry.researcher).collect();
        if has_duplicates(&mut researchers) {
            return Err(AgreementError::Twice("researchers"));
        }
        let mut datasets: Vec<&Name> = self.datasets.iter().map(|terms| &terms.name).collect();
        if has_duplicates(&mut datasets) {
            return Err(AgreementError::Twice("datasets"));
        }
        let entries = || self.parties.iter().map(|party| &party.entry);
        if entries().enumerate().any(|(place, one)| entries().take(place).any(|other| one.shares_a_key_with(other))) {
            return Err(AgreementError::Twice("keys"));
        }
        let party_keys = entries().flat_map(RosterEntry::signing_keys);
        let people = || self.parties.iter().flat_map(|party| party.people.iter().map(move |person| (party, person)));
        if self.parties.iter().any(|party| party.people.len() > MAX_PEOPLE) {
            return Err(AgreementError::TooMany("people", MAX_PEOPLE));
        }
        for (party, entry) in people() {
            let again = party.people.iter().filter(|other| other.person == entry.person).count() > 1;
            if again || self.researcher(&entry.person).is_some() {
                return Err(AgreementError::Duties(entry.person.clone()));
            }
        }
        let people_keys = people().map(|(_, entry)| entry.key);
        let researcher_keys = self.researchers.iter().map(|terms| terms.entry.key);
        let mut keys: Vec<PublicKey> = party_keys
            .chain(people_keys)
            .chain(researcher_keys)
            .chain([self.hub.log_key, self.hub.message_key])
            .collect();
        if has_duplicates(&mut keys) { Err(AgreementError::Twice("keys")) } else { Ok(()) }
    }

    /// `2t > n + c` (Bonawitz et al. 2017, section 6.2, counting signatures on one survivor set): no two sets can both
    /// collect `t` signatures when at most `c` members sign twice. `c ≥ 1`: every member sees the answer and knows its
    /// own part of the noise.
    fn validate_secure_sum(&self) -> Result<(), AgreementError> {
        let organisations = self.parties.len();
        if !(2..=MAX_ORGANISATIONS).contains(&organisations) {
            return Err(AgreementError::Organisations(organisations));
        }
        let SecureSumTerms { colluders, threshold } = self.secure_sum;
        let any_exact = self.datasets.iter().any(|terms| terms.mode == ReleaseMode::Exact);
        let mode = if any_exact { ReleaseMode::Exact } else { ReleaseMode::Noised };
        check_thresholds(organisations, threshold, colluders, mode)
            .map_err(|_| AgreementError::Threshold { organisations, colluders })
    }

    fn validate_budgets(&self) -> Result<(), AgreementError> {
        let Budgets { delta, epsilon_per_query, epsilon_per_researcher, epsilon_total } = self.budgets;
        // What an account can hold exactly (`dp::Budget`): a thousand nats, and δ in units of 10^-18 below 2^53.
        let delta_is_right = delta > Decimal::ZERO && delta.nano() <= 9_000_000;
        let all = [epsilon_per_query, epsilon_per_researcher, epsilon_total];
        let in_range = all.iter().all(|epsilon| check_epsilon("budgets", *epsilon).is_ok());
        if delta_is_right && in_range && all.is_sorted() { Ok(()) } else { Err(AgreementError::Budgets) }
    }
}

fn has_duplicates<T: Ord>(items: &mut [T]) -> bool {
    items.sort();
    items.array_windows().any(|[a, b]| a == b)
}

impl Document for Agreement {
    const TYPE: &'static str = "application/vnd.cohortium.agreement.v2+json";
    const MAX_BYTES: usize = 4 << 20;
    fn check(&self) -> Result<(), String> {
        self.validate().map_err(|error| error.to_string())
    }
}
