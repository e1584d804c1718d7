//! The messages of one secure-sum round, and the context that every key and message of it is bound to.
//!
//! The set is complete: it carries what recovery from drop-outs needs (deposits, shares of both kinds, excess noise
//! seeds), so that surviving a drop-out changes no byte. `mpc` says what the messages mean.

use serde::{Deserialize, Serialize};

use crate::{CanonicalError, Document, Hash, Name, ReleaseMode, Ring, canonical_bytes};

/// Bits of the ring in which queries are summed: Z_2^64.
pub const RING_BITS: u32 = 64;

/// What a round is about. Its hash goes into every key derivation and every message of the round: whoever is shown
/// another plan, task, agreement, release mode or participant set derives keys that do not cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundContext {
    /// The agreement.
    pub agreement: Hash,
    /// `c`.
    pub colluders: u32,
    /// How many elements the vector has.
    pub elements: u32,
    /// What protects a member's input in the sum. Nobody masks for one mode what is opened in the other.
    pub mode: ReleaseMode,
    /// Who takes part, sorted. A member's position + 1 is its evaluation point in secret sharing.
    pub participants: Vec<Name>,
    /// The plan.
    pub plan: Hash,
    /// The task's index in the hub's log: the position of the pairwise ratchet.
    pub position: u64,
    /// The protocol version.
    pub protocol: u32,
    /// The width of the ring: 32, 64 or 128 ([`Ring`]).
    pub ring_bits: u32,
    /// The round, from 0.
    pub round: u32,
    /// The guaranteed noise variance σ² in lattice steps squared.
    pub sigma2: u64,
    /// The task.
    pub task: Hash,
    /// `t`.
    pub threshold: u32,
}

impl RoundContext {
    /// SHA-256 of the canonical form.
    ///
    /// # Errors
    /// Ours alone.
    pub fn hash(&self) -> Result<Hash, CanonicalError> {
        Ok(Hash::of_parts("cohortium/round-context/v3", &[&canonical_bytes(self)?]))
    }

    /// The ring, if there is one of this width.
    #[must_use]
    pub const fn ring(&self) -> Option<Ring> {
        Ring::from_bits(self.ring_bits)
    }

    /// How many bytes a masked vector of this round has, if the ring is one.
    #[must_use]
    pub fn vector_bytes(&self) -> Option<u64> {
        self.ring().map(|ring| u64::from(self.elements) * u64::from(ring.bytes()))
    }

    /// The position of a participant.
    #[must_use]
    pub fn index_of(&self, name: &Name) -> Option<usize> {
        self.participants.iter().position(|participant| participant == name)
    }
}

/// One half of a pairwise secret: the member whose name sorts first encapsulates to the other, once per agreement.
/// Signed by the sender's message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PairwiseCiphertext {
    /// The agreement.
    pub agreement: Hash,
    /// The ML-KEM-768 ciphertext, 1088 bytes, base64.
    pub ciphertext: String,
    /// Who encapsulated.
    pub from: Name,
    /// To whom.
    pub to: Name,
}

/// A member's deposit and sealed shares. Signed by its message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RoundShares {
    /// The round (hash of its context).
    pub context: Hash,
    /// AEAD under the deposit key of this member's pairwise round keys, base64.
    pub deposit: String,
    /// Commitment to the deposit key.
    pub deposit_key_commitment: Hash,
    /// Commitments to the noise seeds that may be revealed as excess, in the order of the components.
    pub excess_commitments: Vec<Hash>,
    /// Who.
    pub from: Name,
    /// Commitments to the mask keys with every other member, in order. Both ends of a pair give the same value.
    pub mask_key_commitments: Vec<Hash>,
    /// Commitment to the self-mask seed.
    pub self_mask_commitment: Hash,
    /// For every other member, its two shares, sealed.
    pub shares: Vec<SealedShare>,
}

/// One member's shares of another's two secrets, readable only by that member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedShare {
    /// AEAD under a key from the pairwise secret, base64.
    pub ciphertext: String,
    /// Whose secrets are shared.
    pub from: Name,
    /// Who may read it.
    pub to: Name,
}

/// Announces a masked vector, whose bytes travel raw. Signed by the member's message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MaskedHeader {
    /// The round (hash of its context).
    pub context: Hash,
    /// How many bytes: elements × ring bits / 8.
    pub bytes: u64,
    /// Who.
    pub from: Name,
    /// SHA-256 of the bytes.
    pub sha256: Hash,
}

/// A member's one signature on who is in the sum. Signed by its message key, at most once per round.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SurvivorSet {
    /// The round (hash of its context).
    pub context: Hash,
    /// Who signs.
    pub from: Name,
    /// Who is in the sum, sorted.
    pub survivors: Vec<Name>,
}

/// What a member reveals once `t` members signed one survivor set. Signed by its message key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reveal {
    /// The round (hash of its context).
    pub context: Hash,
    /// Its shares of the deposit keys of those who are *not* in the sum.
    pub deposit_key_shares: Vec<RevealedShare>,
    /// Its own seeds of noise in excess of what this survivor set needs.
    pub excess_seeds: Vec<ExcessSeed>,
    /// Who.
    pub from: Name,
    /// Its shares of the self-mask seeds of those who *are* in the sum.
    pub self_mask_shares: Vec<RevealedShare>,
}

/// A share of one secret of one member.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RevealedShare {
    /// Whose secret.
    pub of: Name,
    /// The share, 32 bytes in hexadecimal.
    pub share: Hash,
}

/// The seed of one noise component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ExcessSeed {
    /// Which component, from 1.
    pub component: u32,
    /// The seed, 32 bytes in hexadecimal.
    pub seed: Hash,
}

/// A node's receipt for one round: what it sent, and the state of its account after paying. Signed by its message key,
/// and sent with the masked vector, so that whoever is in a sum has given one even if it is not heard of again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    /// SHA-256 of the node's last account entry.
    pub account_head: Hash,
    /// Its sequence number.
    pub account_sequence: u64,
    /// The agreement.
    pub agreement: Hash,
    /// The round (hash of its context).
    pub context: Hash,
    /// The dataset.
    pub dataset: Name,
    /// SHA-256 of the masked vector that was sent.
    pub masked: Hash,
    /// Who.
    pub organisation: Name,
    /// The plan that was run.
    pub plan: Hash,
    /// The commitment to the rows that were read.
    pub snapshot: Hash,
    /// The task.
    pub task: Hash,
}

macro_rules! documents {
    ($($kind:ty => $name:literal, $limit:expr;)*) => {
        $(impl Document for $kind {
            const TYPE: &'static str = concat!("application/vnd.cohortium.", $name, "+json");
            const MAX_BYTES: usize = $limit;
        })*
    };
}

documents! {
    PairwiseCiphertext => "pairwise-ciphertext.v1", 4096;
    RoundShares => "round-shares.v2", 256 << 10;
    MaskedHeader => "masked-header.v1", 2048;
    SurvivorSet => "survivor-set.v1", 16 << 10;
    Reveal => "reveal.v1", 64 << 10;
    Receipt => "receipt.v2", 16 << 10;
}
