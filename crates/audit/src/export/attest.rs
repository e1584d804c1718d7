//! What an auditor says to have checked: in-toto Statements (v1) with the Simple Verification Result predicate (v0.2), in
//! DSSE envelopes.
//!
//! One statement per permit, and one for the release. A statement names files by their SHA-256, the policy (the signed
//! agreement, and what it was compiled to), the time, and what was found to hold, each as a property whose meaning stands
//! in `docs/evidence.md`. It is made only after all of it was checked, so a property that does not hold makes no
//! statement.
//!
//! The verifier is named by its key (RFC 6920: `ni:///sha-256;…` over the 32 bytes of the Ed25519 public key), because a name
//! is what anybody can write.

use std::collections::BTreeMap;

use cohortium_messages::{Author, Document, Envelope, Fact, Hash, Name, PublicKey, Timestamp, canonical_bytes};
use data_encoding::{BASE64, BASE64URL_NOPAD};
use serde::{Deserialize, Serialize};

use crate::export::parts::{self, Parts};
use crate::export::{AMENDMENTS, Attester, Case, ExportError, entry_path};
use crate::leaf::Leaf;

/// What holds of a permit.
const PERMIT: [&str; 4] = [
    "COHORTIUM_ENTRY_IN_COSIGNED_LOG",
    "COHORTIUM_ENTRY_SIGNED_BY_NODE",
    "COHORTIUM_POLICY_PERMITS_TASK",
    "COHORTIUM_PRICE_RESERVED_AS_PLANNED",
];

/// What holds of a release.
const RELEASE: [&str; 8] = [
    "COHORTIUM_ACCOUNTS_WITHIN_BUDGETS",
    "COHORTIUM_CONSENTS_OF_THRESHOLD",
    "COHORTIUM_ENTRY_IN_COSIGNED_LOG",
    "COHORTIUM_NOISE_FOLLOWS_FROM_PLAN",
    "COHORTIUM_PERMITS_OF_ALL_PARTICIPANTS",
    "COHORTIUM_PRICES_SPENT_BY_ALL_SURVIVORS",
    "COHORTIUM_RECEIPTS_OF_ALL_SURVIVORS",
    "COHORTIUM_RELEASE_SIGNED_BY_HUB",
];

const STATEMENT_TYPE: &str = "https://in-toto.io/Statement/v1";
const PREDICATE_TYPE: &str = "https://in-toto.io/attestation/svr/v0.2";

/// An in-toto Statement about files. Signed by the attester's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// `https://in-toto.io/Statement/v1`.
    #[serde(rename = "_type")]
    pub kind: String,
    /// What was verified.
    pub predicate: Verification,
    /// `https://in-toto.io/attestation/svr/v0.2`.
    #[serde(rename = "predicateType")]
    pub predicate_type: String,
    /// About which files.
    pub subject: Vec<Resource>,
}

/// A Simple Verification Result.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verification {
    /// What holds, as listed in `docs/evidence.md`.
    pub properties: Vec<String>,
    /// When it was verified, by the verifier's clock.
    #[serde(rename = "timeCreated")]
    pub time_created: Timestamp,
    /// By whom.
    pub verifier: Verifier,
}

/// Who verified, and by what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verifier {
    /// The key, as RFC 6920 names it.
    pub id: String,
    /// The person who answers for the key, as that person says.
    pub name: Name,
    /// What was verified against.
    pub policies: Vec<Resource>,
    /// The program that verified.
    pub version: String,
}

/// A file, by name and hash.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Resource {
    /// `sha256` to its hexadecimal digits.
    pub digest: BTreeMap<String, Hash>,
    /// The path in the crate.
    pub name: String,
}

impl Document for Statement {
    const TYPE: &'static str = "application/vnd.in-toto+json";
    const MAX_BYTES: usize = 64 << 10;
    fn check(&self) -> Result<(), String> {
        if (self.kind.as_str(), self.predicate_type.as_str()) == (STATEMENT_TYPE, PREDICATE_TYPE) {
            Ok(())
        } else {
            Err(String::from("this is no in-toto statement v1 with a simple verification result v0.2"))
        }
    }
}

/// The URI of a verifier that is known by its key alone.
pub(crate) fn key_uri(key: &PublicKey) -> String {
    format!("ni:///sha-256;{}", BASE64URL_NOPAD.encode(Hash::of(key.as_bytes()).as_bytes()))
}

/// Signs a statement for each permit and one for the release.
pub(crate) fn write(case: &Case<'_>, parts: &mut Parts) -> Result<(), ExportError> {
    let key = BASE64.encode(case.attester.key.public().as_bytes());
    parts.put(
        "attestations/public-key.txt",
        "The attester's Ed25519 public key",
        parts::TEXT,
        format!("{key}\n").into_bytes(),
    );
    for leaf in case.leaves() {
        let (file, name, about, properties) = match (&leaf.claims().fact, &leaf.claims().author) {
            (Fact::Permit { .. }, Author::Node(node)) => {
                (format!("permit-{}", leaf.index), format!("the permit of {node}"), "task.json", &PERMIT[..])
            }
            (Fact::Release { .. }, _) => {
                (String::from("release"), String::from("the release"), "release.json", &RELEASE[..])
            }
            _ => continue,
        };
        let statement = statement(case.attester, parts, leaf, about, properties)?;
        let envelope = Envelope::sign(&statement, case.attester.key)?;
        let name = format!("What {} says to have checked about {name}", case.attester.name);
        parts.put(&format!("attestations/{file}.json"), &name, parts::DSSE, canonical_bytes(&envelope)?);
    }
    Ok(())
}

fn statement(
    attester: &Attester<'_>,
    parts: &Parts,
    leaf: &Leaf,
    about: &str,
    properties: &[&str],
) -> Result<Statement, ExportError> {
    let resource = |path: &str| {
        let hash = parts.sha256(path).ok_or_else(|| ExportError::Internal(format!("{path} was not collected")))?;
        Ok(Resource { digest: BTreeMap::from([(String::from("sha256"), hash)]), name: path.to_owned() })
    };
    let policies = ["agreement.json", "policy.cedar", "log/log-policy.txt"].into_iter();
    let policies = policies.chain(parts.under(AMENDMENTS)).map(resource);
    let verifier = Verifier {
        id: key_uri(&attester.key.public()),
        name: attester.name.clone(),
        policies: policies.collect::<Result<_, ExportError>>()?,
        version: format!("cohortium-audit {}", env!("CARGO_PKG_VERSION")),
    };
    let properties = properties.iter().map(|property| String::from(*property)).collect();
    Ok(Statement {
        kind: STATEMENT_TYPE.to_owned(),
        predicate: Verification { properties, time_created: attester.at, verifier },
        predicate_type: PREDICATE_TYPE.to_owned(),
        subject: vec![resource(&entry_path(leaf))?, resource(about)?],
    })
}
