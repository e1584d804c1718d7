//! The closed list of what may leave a node. A new variant changes `docs/lists/outgoing.txt`, so that a person looks.
//!
//! A masked vector can be made only from [`Masked`] (which `mpc` makes only from noised values) together with a
//! [`PermitHere`] (which only `policy` makes, from what people here approved) and [`Spent`] (which only the account makes): skip a check and it does not
//! compile. Everything else carries no value computed from rows: signatures, proofs of payment, protocol shares.

use cohortium_dp::Spent;
use cohortium_messages::{Call, Envelope, Hash, Name, RoundContext, RoundStep};
use cohortium_mpc::Masked;
use cohortium_policy::PermitHere;

/// What may leave.
pub enum Outgoing {
    /// Something remarkable that this node noticed about tasks or logs.
    Alert(Envelope),
    /// What a person here said about a task.
    Approval(Envelope),
    /// The policy permits a task, and people here are asked.
    Awaiting(Hash),
    /// Cosignatures on a checkpoint of the hub's log or another member's.
    Cosignature {
        /// A signature line for each of the node's witness keys.
        lines: Vec<String>,
        /// Whose log.
        origin: Name,
        /// The tree size.
        size: u64,
    },
    /// A person stopped the study here, or set it going again.
    Freeze(Envelope),
    /// A masked vector: noised, paid, permitted; with the receipt and the price. See [`MaskedVector`].
    Masked {
        /// The log entry of the price.
        entry: Envelope,
        /// The receipt.
        receipt: Envelope,
        /// The vector.
        vector: MaskedVector,
    },
    /// The shape of a dataset, and a salted commitment to it.
    Offer(Envelope),
    /// The head of this node's own log, for the other members to cosign.
    OwnHead {
        /// Consistency from `old_size` to the head.
        consistency: Vec<Hash>,
        /// The head as a signed note.
        note: String,
        /// The size from which consistency is shown.
        old_size: u64,
    },
    /// This node's half of a pairwise secret.
    Pairwise(Envelope),
    /// The node's permit with its reserved price, and its deposit and sealed shares.
    Permitted {
        /// What people here said about the task.
        approvals: Vec<Envelope>,
        /// The log entry.
        entry: Envelope,
        /// The shares.
        shares: Envelope,
    },
    /// A refusal, with every failing clause.
    Refusal {
        /// What people here said about the task.
        approvals: Vec<Envelope>,
        /// The log entry.
        entry: Envelope,
    },
    /// Shares of masks and seeds of excess noise.
    Reveal(Envelope),
    /// The custodian took back the agreement or a key.
    Revocation(Envelope),
    /// What became of a void round's price.
    Settlement(Envelope),
    /// That this node does not cosign a head, because consistency is shown from another size than it cosigned last.
    Stale {
        /// Whose log.
        origin: Name,
        /// The size that was cosigned last.
        size: u64,
    },
    /// The signature on the survivor set.
    Survivors(Envelope),
}

/// A masked vector that may leave. Only [`MaskedVector::new`] makes one:
///
/// ```compile_fail,E0451
/// use cohortium_messages::{Envelope, Hash};
/// fn smuggle(header: Envelope, bytes: Vec<u8>, sha256: Hash) -> cohortium_node::outgoing::MaskedVector {
///     cohortium_node::outgoing::MaskedVector { header, bytes, sha256 }
/// }
/// ```
pub struct MaskedVector {
    header: Envelope,
    bytes: Vec<u8>,
    sha256: Hash,
}

impl MaskedVector {
    /// Promise: given evidence that the vector was noised and masked ([`Masked`]), that this node's own policy permits
    /// the task and its approval here ([`PermitHere`]) and that its price is in the account ([`Spent`]), returns what may leave; never without
    /// all three about the same task and round. `header` announces the bytes. Argued: by the constructors of the three types.
    ///
    /// Returns `None` when the three are about different tasks.
    #[must_use]
    pub fn new(
        masked: &Masked,
        context: &RoundContext,
        permit: &PermitHere,
        spent: &Spent,
        header: Envelope,
    ) -> Option<Self> {
        let permit = permit.permit();
        let is_of_this_round = context.hash().is_ok_and(|hash| hash == masked.header().context);
        let is_permitted = context.task == permit.task().hash() && context.plan == permit.plan();
        let is_paid = spent.task() == context.task.to_string() && spent.price() == permit.price();
        (is_of_this_round && is_permitted && is_paid).then(|| Self {
            header,
            bytes: masked.bytes().to_vec(),
            sha256: masked.header().sha256,
        })
    }

    /// The vector as it leaves: ring elements, little-endian.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// What the bytes are called by.
    #[must_use]
    pub const fn sha256(&self) -> Hash {
        self.sha256
    }
}

impl Outgoing {
    /// The name of the kind, as the steward sees it.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Alert(_) => "alert",
            Self::Approval(_) => "approval",
            Self::Awaiting(_) => "waiting for people",
            Self::Cosignature { .. } => "cosignature",
            Self::Freeze(_) => "freeze",
            Self::Masked { .. } => "masked vector and receipt",
            Self::Offer(_) => "offer",
            Self::OwnHead { .. } => "head of our log",
            Self::Pairwise(_) => "pairwise key half",
            Self::Permitted { .. } => "permit and shares",
            Self::Refusal { .. } => "refusal",
            Self::Reveal(_) => "reveal",
            Self::Revocation(_) => "revocation",
            Self::Settlement(_) => "settlement",
            Self::Stale { .. } => "no cosignature",
            Self::Survivors(_) => "survivor set",
        }
    }

    /// What it means that this leaves, in words for the steward.
    #[must_use]
    pub fn in_words(&self) -> String {
        match self {
            Self::Alert(_) => String::from("what we noticed about tasks or logs, in words; nothing about rows"),
            Self::Approval(_) => String::from("what a person here said about a task, yes or no, and why"),
            Self::Awaiting(_) => String::from("our policy permits the task, and people here are asked about it"),
            Self::Cosignature { origin, size, .. } => {
                format!("we have seen the log of {origin} up to entry {size} and it only grew")
            }
            Self::Freeze(_) => {
                String::from("a person here stopped the study at this node, or set it going again, and why")
            }
            Self::Masked { vector, .. } => format!(
                "{} bytes: sums with our noise in them, under masks that only the sum over many members removes; what it cost",
                vector.bytes.len()
            ),
            Self::Offer(_) => String::from("a dataset's columns and bounds, and a salted commitment to its rows"),
            Self::OwnHead { .. } => {
                String::from("size and root hash of our own log, for the other members to cosign; none of its entries")
            }
            Self::Pairwise(_) => String::from("our half of a secret that we share with one other member"),
            Self::Permitted { .. } => String::from(
                "our policy permits the task, the price is reserved; what people here said about it; sealed shares of \
                     this round's masks",
            ),
            Self::Refusal { .. } => {
                String::from("we refuse the task, with every clause that fails, and what people here said about it")
            }
            Self::Reveal(_) => String::from("shares that open the sum of the signed survivors, seeds of excess noise"),
            Self::Revocation(_) => String::from("our custodian takes back the agreement or a key, and why"),
            Self::Stale { origin, size } => {
                format!(
                    "we do not cosign: we saw the log of {origin} up to entry {size} and are shown more from elsewhere"
                )
            }
            Self::Settlement(_) => String::from("the round was void; what became of its price"),
            Self::Survivors(_) => String::from("who is in the sum, signed once"),
        }
    }

    /// The call that carries it.
    #[must_use]
    pub fn call(&self) -> Call {
        let step = match self {
            Self::Offer(offer) => return Call::Offer { offer: offer.clone() },
            Self::Alert(entry) | Self::Approval(entry) | Self::Freeze(entry) | Self::Revocation(entry) => {
                return Call::Log { body: None, entry: entry.clone() };
            }
            Self::OwnHead { consistency, note, old_size } => {
                let (consistency, note) = (consistency.clone(), note.clone());
                return Call::Witness { consistency, note, old_size: *old_size };
            }
            Self::Awaiting(task) => RoundStep::AwaitingApproval { task: *task },
            Self::Stale { origin, size } => RoundStep::Stale { origin: origin.clone(), size: *size },
            Self::Pairwise(message) => return Call::Pairwise { message: message.clone() },
            Self::Cosignature { lines, origin, size } => {
                RoundStep::Cosigned { lines: lines.clone(), origin: origin.clone(), size: *size }
            }
            Self::Masked { entry, receipt, vector } => {
                let (entry, header, receipt) = (entry.clone(), vector.header.clone(), receipt.clone());
                RoundStep::Masked { entry, header, receipt }
            }
            Self::Permitted { approvals, entry, shares } => {
                let (approvals, entry, shares) = (approvals.clone(), entry.clone(), shares.clone());
                RoundStep::Permitted { approvals, entry, shares }
            }
            Self::Refusal { approvals, entry } => {
                RoundStep::Refused { approvals: approvals.clone(), entry: entry.clone() }
            }
            Self::Reveal(reveal) => RoundStep::Revealed { reveal: reveal.clone() },
            Self::Settlement(entry) => RoundStep::Settled { entry: entry.clone() },
            Self::Survivors(set) => RoundStep::Survivors { set: set.clone() },
        };
        Call::Post { step }
    }
}
