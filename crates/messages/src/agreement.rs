//! The data-use agreement: what custodians sign, every node enforces, and an auditor checks against.
//!
//! It carries the parties with their keys (peers are pinned by what custodians signed, never by what a hub says), what
//! may be asked of which columns for which purposes, the parameters of the secure sum, and budgets. People write it as
//! TOML; what is signed is this structure as canonical JSON, by *every* custodian.

use serde::{Deserialize, Serialize};

use crate::{
    Decimal, Document, HubEntry, MAX_ORGANISATIONS, Name, PublicKey, ReleaseMode, ResearcherEntry, RosterEntry, Schema,
    Timestamp, check_thresholds,
};

/// The version of this structure. A node refuses an agreement of a version that it does not know.
pub const AGREEMENT_VERSION: u32 = 1;

/// A data-use agreement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Agreement {
    /// What may be computed.
    pub analyses: Vec<Analysis>,
    /// How tasks are approved at the nodes.
    pub approval: Approval,
    /// What may be spent.
    pub budgets: Budgets,
    /// The datasets, each held by every party.
    pub datasets: Vec<DatasetTerms>,
    /// Who coordinates and keeps the log.
    pub hub: HubEntry,
    /// The custodians: each signs, each runs a node, each holds every dataset.
    pub parties: Vec<Party>,
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
}

/// A researcher who may ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResearcherTerms {
    /// Name and key.
    pub entry: ResearcherEntry,
}

/// A dataset and how it may be used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DatasetTerms {
    /// The name used after `FROM`.
    pub name: Name,
    /// Columns, bounds, domains, roles, and limits of contribution.
    pub schema: Schema,
}

/// A kind of computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Analysis {
    /// `COUNT(*)` and `COUNT(x)`.
    Count,
    /// `AVG(x)`.
    Mean,
    /// `SUM(x)`.
    Sum,
}

impl std::fmt::Display for Analysis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Count => "count",
            Self::Mean => "mean",
            Self::Sum => "sum",
        })
    }
}

/// How a node comes to run a task. There is one way so far, and it must be written down: nothing is approved by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Approval {
    /// Every task that the policy permits and the account can pay runs without asking a person.
    Automatic,
}

/// What may be spent, per dataset and node, in (ε, δ).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budgets {
    /// δ of every ε in this agreement, at least 10^-9 and at most 0.009.
    pub delta: Decimal,
    /// What one query may cost at most, as the ε it would cost alone.
    pub epsilon_per_query: Decimal,
    /// What one researcher may spend at each node.
    pub epsilon_per_researcher: Decimal,
    /// What the whole study may spend at each node.
    pub epsilon_total: Decimal,
}

/// Parameters of the secure sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecureSumTerms {
    /// `c`: how many members may pool everything with the hub and still learn nothing beyond the paid price.
    pub colluders: u32,
    /// `t`: how many must survive a round, sign the survivor set and reveal. `2t > n + c`.
    pub threshold: u32,
}

/// Who accepted the remaining risk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RiskAcceptance {
    /// Name and office of the person.
    pub accepted_by: String,
    /// In which words.
    pub statement: String,
}

/// A permitted use, in the terms of the Data Use Ontology (GA4GH DUO): `GRU` (general research use, DUO:0000042),
/// `HMB` (health, medical or biomedical research, DUO:0000006) or `DS:<disease>` (disease-specific, DUO:0000007).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Purpose {
    /// Research on one disease, named by an ontology code such as `MONDO:0005267`.
    DiseaseSpecific(String),
    /// Any research.
    GeneralResearch,
    /// Health, medical or biomedical research.
    HealthMedicalBiomedical,
}

impl Purpose {
    /// Whether data offered for `self` may be used for `requested`: DS < HMB < GRU, never the other way round.
    #[must_use]
    pub fn permits(&self, requested: &Self) -> bool {
        match (self, requested) {
            (Self::GeneralResearch, _)
            | (Self::HealthMedicalBiomedical, Self::HealthMedicalBiomedical | Self::DiseaseSpecific(_)) => true,
            (granted, requested) => granted == requested,
        }
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DiseaseSpecific(disease) => write!(f, "DS:{disease}"),
            Self::GeneralResearch => f.write_str("GRU"),
            Self::HealthMedicalBiomedical => f.write_str("HMB"),
        }
    }
}

impl TryFrom<String> for Purpose {
    type Error = AgreementError;
    fn try_from(text: String) -> Result<Self, AgreementError> {
        let is_code = |code: &str| {
            (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric() || b":_.-".contains(&b))
        };
        match (text.as_str(), text.strip_prefix("DS:")) {
            ("GRU", _) => Ok(Self::GeneralResearch),
            ("HMB", _) => Ok(Self::HealthMedicalBiomedical),
            (_, Some(disease)) if is_code(disease) => Ok(Self::DiseaseSpecific(disease.to_owned())),
            _ => Err(AgreementError::Purpose),
        }
    }
}

impl std::str::FromStr for Purpose {
    type Err = AgreementError;
    fn from_str(text: &str) -> Result<Self, AgreementError> {
        text.to_owned().try_into()
    }
}

impl From<Purpose> for String {
    fn from(purpose: Purpose) -> Self {
        purpose.to_string()
    }
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
    #[error("a purpose is GRU, HMB or DS:<disease code>")]
    Purpose,
    /// An empty list that must not be empty.
    #[error("`{0}` must not be empty")]
    Empty(&'static str),
    /// More than can be compiled into a policy and looked at.
    #[error("`{0}` lists more than {1}")]
    TooMany(&'static str, usize),
    /// A name or key twice.
    #[error("`{0}` has the same name or key twice")]
    Twice(&'static str),
    /// Too few or too many organisations.
    #[error("a study has 2 to {MAX_ORGANISATIONS} organisations, here are {0}")]
    Organisations(usize),
    /// The threshold does not protect against the colluders.
    #[error(
        "secure_sum: with {organisations} organisations and colluders = {colluders}, the threshold must satisfy 2·threshold > organisations + colluders, threshold ≤ organisations and colluders ≥ 1"
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
    #[error("`{0}` must have 1 to {MAX_TEXT} characters")]
    Text(&'static str),
    /// Zero or absurdly many days.
    #[error("retention_days must be between 1 and 36500")]
    Retention,
}

/// The most datasets of an agreement.
const MAX_DATASETS: usize = 64;
/// The most researchers of an agreement.
const MAX_RESEARCHERS: usize = 10_000;
/// The longest free text in an agreement.
const MAX_TEXT: usize = 4000;

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
        self.validate_people()?;
        self.validate_secure_sum()?;
        self.validate_budgets()?;
        if self.valid_from >= self.valid_until {
            return Err(AgreementError::Times);
        }
        if !(1..=36_500).contains(&self.retention_days) {
            return Err(AgreementError::Retention);
        }
        for (what, text) in [
            ("title", &self.title),
            ("risk_acceptance.accepted_by", &self.risk_acceptance.accepted_by),
            ("risk_acceptance.statement", &self.risk_acceptance.statement),
        ] {
            if text.trim().is_empty() || text.len() > MAX_TEXT {
                return Err(AgreementError::Text(what));
            }
        }
        self.datasets.iter().try_for_each(|terms| {
            let dataset = terms.name.clone();
            terms.schema.check().map_err(|why| AgreementError::Dataset { dataset, why })
        })
    }

    /// No name and no key may stand for two: a key used twice would let one party speak for another.
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
        let party_keys = self.parties.iter().flat_map(|Party { entry }| {
            [entry.agreement_key, entry.identity_key, entry.log_key, entry.message_key, entry.witness_key]
        });
        let researcher_keys = self.researchers.iter().map(|terms| terms.entry.key);
        let mut keys: Vec<PublicKey> =
            party_keys.chain(researcher_keys).chain([self.hub.log_key, self.hub.message_key]).collect();
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
        check_thresholds(organisations, threshold, colluders, ReleaseMode::Noised)
            .map_err(|_| AgreementError::Threshold { organisations, colluders })
    }

    fn validate_budgets(&self) -> Result<(), AgreementError> {
        let Budgets { delta, epsilon_per_query, epsilon_per_researcher, epsilon_total } = self.budgets;
        // What an account can hold exactly (`dp::Budget`): a thousand nats, and δ in units of 10^-18 below 2^53.
        let delta_is_right = delta > Decimal::ZERO && delta.nano() <= 9_000_000;
        let epsilons_are_right = epsilon_per_query > Decimal::ZERO
            && epsilon_per_query <= epsilon_per_researcher
            && epsilon_per_researcher <= epsilon_total
            && epsilon_total <= Decimal::from(1000);
        if delta_is_right && epsilons_are_right { Ok(()) } else { Err(AgreementError::Budgets) }
    }
}

fn has_duplicates<T: Ord>(items: &mut [T]) -> bool {
    items.sort();
    items.array_windows().any(|[a, b]| a == b)
}

impl Document for Agreement {
    const TYPE: &'static str = "application/vnd.cohortium.agreement.v1+json";
    const MAX_BYTES: usize = 4 << 20;
    fn check(&self) -> Result<(), String> {
        self.validate().map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn purposes_follow_the_hierarchy() {
        let purpose = |text: &str| text.parse::<Purpose>().unwrap();
        assert!(purpose("GRU").permits(&purpose("HMB")));
        assert!(purpose("HMB").permits(&purpose("DS:MONDO:0005267")));
        assert!(!purpose("HMB").permits(&purpose("GRU")));
        assert!(!purpose("DS:MONDO:0005267").permits(&purpose("HMB")));
        assert!(!purpose("DS:MONDO:0005267").permits(&purpose("DS:MONDO:0000001")));
        for bad in ["", "gru", "DS:", "DS:a b", "POA"] {
            assert!(bad.parse::<Purpose>().is_err(), "{bad}");
        }
    }
}
