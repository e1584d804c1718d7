//! What data may be used for, in the terms of the Data Use Ontology (GA4GH DUO; Lawson et al. 2021, "The Data Use
//! Ontology to streamline responsible access to human biomedical datasets", Cell Genomics 1).
//!
//! Two halves, as there: a *permission* ([`Purpose`]), of which broader ones cover narrower ones, and *modifiers*
//! ([`Modifier`]), conditions on every use, which whoever asks affirms with every task.
//!
//! Does not: know which disease is a kind of which. One disease covers itself alone.

use serde::{Deserialize, Serialize};

use crate::AgreementError;

/// A permitted use: `NRES` (no restriction, DUO:0000004), `GRU` (general research use, DUO:0000042), `HMB` (health,
/// medical or biomedical research, DUO:0000006), `DS:<disease>` (disease-specific, DUO:0000007) or `POA` (population
/// origins or ancestry research only, DUO:0000011).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Purpose {
    /// Research on one disease, named by an ontology code such as `MONDO:0005267`.
    DiseaseSpecific(String),
    /// Any research.
    GeneralResearch,
    /// Health, medical or biomedical research.
    HealthMedicalBiomedical,
    /// Any use.
    NoRestriction,
    /// Research into origins or ancestry of populations.
    PopulationOrigins,
}

impl Purpose {
    /// Whether data offered for `self` may be used for `requested`: DS < HMB < GRU < NRES and POA < GRU, never the other
    /// way round.
    #[must_use]
    pub fn permits(&self, requested: &Self) -> bool {
        match (self, requested) {
            (Self::NoRestriction, _) => true,
            (Self::GeneralResearch, requested) => *requested != Self::NoRestriction,
            (Self::HealthMedicalBiomedical, Self::DiseaseSpecific(_)) => true,
            (granted, requested) => granted == requested,
        }
    }

    /// This purpose and every one that would cover it, from narrow to broad.
    #[must_use]
    pub fn and_broader(&self) -> Vec<Self> {
        let broader = [Self::HealthMedicalBiomedical, Self::GeneralResearch, Self::NoRestriction];
        let mut all = vec![self.clone()];
        all.extend(broader.into_iter().filter(|other| other != self && other.permits(self)));
        all
    }
}

impl std::fmt::Display for Purpose {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::DiseaseSpecific(disease) => write!(f, "DS:{disease}"),
            Self::GeneralResearch => f.write_str("GRU"),
            Self::HealthMedicalBiomedical => f.write_str("HMB"),
            Self::NoRestriction => f.write_str("NRES"),
            Self::PopulationOrigins => f.write_str("POA"),
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
            ("NRES", _) => Ok(Self::NoRestriction),
            ("POA", _) => Ok(Self::PopulationOrigins),
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

/// A condition on every use: a data use modifier of DUO.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Modifier {
    /// DUO:0000020.
    Col,
    /// DUO:0000022.
    Gs,
    /// DUO:0000021.
    Irb,
    /// DUO:0000028.
    Is,
    /// DUO:0000024.
    Mor,
    /// DUO:0000046.
    Ncu,
    /// DUO:0000015.
    Nmds,
    /// DUO:0000045.
    Npu,
    /// DUO:0000018.
    Npuncu,
    /// DUO:0000019.
    Pub,
    /// DUO:0000012.
    Rs,
    /// DUO:0000029.
    Rtn,
}

impl Modifier {
    /// All of them, as they are written, with their meaning.
    pub const ALL: [(Self, &'static str, &'static str); 12] = [
        (Self::Col, "COL", "collaboration with the custodians is required"),
        (Self::Gs, "GS", "use within the stated region only"),
        (Self::Irb, "IRB", "approval by an ethics committee is required"),
        (Self::Is, "IS", "use by the stated institutions only"),
        (Self::Mor, "MOR", "no publication before the stated date"),
        (Self::Ncu, "NCU", "no commercial use"),
        (Self::Nmds, "NMDS", "no research into methods"),
        (Self::Npu, "NPU", "use by organisations without profit only"),
        (Self::Npuncu, "NPUNCU", "use by organisations without profit and without commerce only"),
        (Self::Pub, "PUB", "results must be published"),
        (Self::Rs, "RS", "the stated kind of research only"),
        (Self::Rtn, "RTN", "results must be returned to the custodians"),
    ];

    /// The code and what it means.
    #[must_use]
    pub fn words(self) -> (&'static str, &'static str) {
        let found = Self::ALL.into_iter().find(|(modifier, ..)| *modifier == self);
        found.map_or(("", ""), |(_, code, meaning)| (code, meaning))
    }
}

impl std::fmt::Display for Modifier {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.words().0)
    }
}

impl std::str::FromStr for Modifier {
    type Err = AgreementError;
    fn from_str(text: &str) -> Result<Self, AgreementError> {
        let found = Self::ALL.into_iter().find(|(_, code, _)| *code == text);
        found.map(|(modifier, ..)| modifier).ok_or(AgreementError::Modifier)
    }
}

/// A modifier as an agreement states it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// What exactly: which committee, which region, from which date.
    pub detail: String,
    /// Which modifier.
    pub modifier: Modifier,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// granted, requested, whether it is covered
    #[test]
    fn purposes_follow_the_hierarchy() {
        let purpose = |text: &str| text.parse::<Purpose>().unwrap();
        for (granted, requested, covered) in [
            ("NRES", "GRU", true),
            ("NRES", "POA", true),
            ("GRU", "NRES", false),
            ("GRU", "HMB", true),
            ("GRU", "POA", true),
            ("GRU", "DS:MONDO:0005267", true),
            ("HMB", "DS:MONDO:0005267", true),
            ("HMB", "GRU", false),
            ("HMB", "POA", false),
            ("POA", "HMB", false),
            ("POA", "POA", true),
            ("DS:MONDO:0005267", "HMB", false),
            ("DS:MONDO:0005267", "DS:MONDO:0005267", true),
            ("DS:MONDO:0005267", "DS:MONDO:0000001", false),
        ] {
            let (granted, requested) = (purpose(granted), purpose(requested));
            assert_eq!(granted.permits(&requested), covered, "{granted} for {requested}");
            assert_eq!(requested.and_broader().contains(&granted), covered, "{granted} for {requested}");
        }
        for bad in ["", "gru", "DS:", "DS:a b", "NPU"] {
            assert!(bad.parse::<Purpose>().is_err(), "{bad}");
        }
    }

    #[test]
    fn modifiers_are_written_as_the_ontology_writes_them() {
        for (modifier, code, _) in Modifier::ALL {
            assert_eq!(serde_json::to_value(modifier).unwrap(), code);
            assert_eq!(code.parse::<Modifier>().unwrap(), modifier);
        }
        assert!("GRU".parse::<Modifier>().is_err());
    }
}
