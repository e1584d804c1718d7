//! Who is who: the public keys of organisations, researchers and the hub, as each of them signs them for itself.
//!
//! A roster entry binds a name to keys by the entry's own identity key, and nothing more. Trust comes from people
//! comparing fingerprints and from the agreement, which carries the entries of all its parties and is signed by them.

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};

use crate::{Document, Hash, KemPublicKey, MlDsaPublicKey, Name, PublicKey};

/// An organisation's public keys, one per role. Signed by `identity`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RosterEntry {
    /// Signs agreements: the custodian's hand.
    pub agreement_key: PublicKey,
    /// The long-term key that signs this entry.
    pub identity_key: PublicKey,
    /// Agrees on pairwise secrets for masks and shares.
    pub kem_key: KemPublicKey,
    /// Signs the checkpoints of the node's own log.
    pub log_key: PublicKey,
    /// Signs the node's messages: permits, round messages, receipts.
    pub message_key: PublicKey,
    /// The organisation's name.
    pub organisation: Name,
    /// Cosigns the checkpoints of others' logs.
    pub witness_key: PublicKey,
    /// Cosigns them a second time, for when Ed25519 is broken.
    pub witness_ml_dsa_key: MlDsaPublicKey,
}

impl Document for RosterEntry {
    const TYPE: &'static str = "application/vnd.cohortium.roster-entry.v2+json";
    const MAX_BYTES: usize = 8192;
}

impl RosterEntry {
    /// The Ed25519 keys, one per role.
    #[must_use]
    pub const fn signing_keys(&self) -> [PublicKey; 5] {
        [self.agreement_key, self.identity_key, self.log_key, self.message_key, self.witness_key]
    }

    /// Whether some key of this entry is also one of the other's, of whatever kind and in whatever role.
    #[must_use]
    pub fn shares_a_key_with(&self, other: &Self) -> bool {
        self.witness_ml_dsa_key == other.witness_ml_dsa_key
            || self.kem_key == other.kem_key
            || self.signing_keys().iter().any(|key| other.signing_keys().contains(key))
    }
}

/// A researcher's public key. Signed by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResearcherEntry {
    /// Signs tasks.
    pub key: PublicKey,
    /// The researcher's name.
    pub researcher: Name,
}

impl Document for ResearcherEntry {
    const TYPE: &'static str = "application/vnd.cohortium.researcher-entry.v1+json";
    const MAX_BYTES: usize = 1024;
}

/// What a person may do at an organisation. Each role has keys of its own, and nobody has two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and verifies; changes nothing.
    Auditor,
    /// Runs the node, and may freeze a study there.
    Operator,
    /// Answers for privacy: approves, freezes, leads incidents.
    PrivacyOfficer,
    /// Minds the data: approves tasks and lets held messages out.
    Steward,
}

impl Role {
    /// Whether a person in this role can approve tasks and let held messages out.
    #[must_use]
    pub const fn may_approve(self) -> bool {
        matches!(self, Self::PrivacyOfficer | Self::Steward)
    }

    /// Whether a person in this role can freeze a study. Whoever minds the machine must be able to stop it; only who
    /// [`may_unfreeze`](Self::may_unfreeze) sets it going again.
    #[must_use]
    pub const fn may_freeze(self) -> bool {
        matches!(self, Self::Operator | Self::PrivacyOfficer | Self::Steward)
    }

    /// Whether a person in this role can end a freeze and lead incidents.
    #[must_use]
    pub const fn may_unfreeze(self) -> bool {
        matches!(self, Self::PrivacyOfficer)
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Auditor => "auditor",
            Self::Operator => "operator",
            Self::PrivacyOfficer => "privacy officer",
            Self::Steward => "steward",
        })
    }
}

/// A person's public key in one role at an organisation. Signed by itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PersonEntry {
    /// Signs what the person says.
    pub key: PublicKey,
    /// The person's name, unique in the organisation.
    pub person: Name,
    /// In which role.
    pub role: Role,
}

impl Document for PersonEntry {
    const TYPE: &'static str = "application/vnd.cohortium.person-entry.v1+json";
    const MAX_BYTES: usize = 1024;
}

/// Who acts for an organisation, as it tells the others so that an agreement can name them. Signed by its message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Staff {
    /// Whose.
    pub organisation: Name,
    /// The people.
    pub people: Vec<PersonEntry>,
}

impl Document for Staff {
    const TYPE: &'static str = "application/vnd.cohortium.staff.v1+json";
    const MAX_BYTES: usize = 64 << 10;
}

/// The hub's public keys. Signed by `message_key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HubEntry {
    /// The hub's name, which is also the origin of its log.
    pub hub: Name,
    /// Signs the checkpoints of the hub's log.
    pub log_key: PublicKey,
    /// Signs the hub's answers and releases.
    pub message_key: PublicKey,
}

impl Document for HubEntry {
    const TYPE: &'static str = "application/vnd.cohortium.hub-entry.v1+json";
    const MAX_BYTES: usize = 1024;
}

/// What a newcomer needs in order to join a hub: where it is, how to recognise it, and a secret that works once.
/// A file handed over by the hub's operator.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Invitation {
    /// The hub's private certificate authority, PEM.
    pub certificate_authority: String,
    /// The hub's keys.
    pub hub: HubEntry,
    /// Who is invited.
    pub invited: Name,
    /// As a node (`false`) or as a researcher (`true`).
    pub researcher: bool,
    /// 32 random bytes in hexadecimal; the hub keeps only their hash.
    pub secret: String,
    /// Where the hub listens, `https://host:port`.
    pub url: String,
}

/// A fingerprint for people to compare over another channel: 32 hexadecimal digits in groups of four.
pub(crate) fn fingerprint(hash: Hash) -> String {
    let digits = HEXLOWER.encode(hash.as_bytes());
    let groups: Vec<String> =
        digits.chars().take(32).collect::<Vec<_>>().chunks(4).map(|group| group.iter().collect()).collect();
    groups.join("-")
}

impl Hash {
    /// The fingerprint of what this is the hash of: 128 bits in groups that people can compare by eye or voice.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(*self)
    }
}
