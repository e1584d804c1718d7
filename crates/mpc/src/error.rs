//! Everything that can be refused, and who must act. No error carries a value of a row, a key or a share.

use cohortium_dp::noise::NoiseError;
use cohortium_messages::Name;

/// Why a step is refused. The first word of each message says who must act. State is unchanged after any of these.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MpcError {
    /// The context breaks a rule or limit of the protocol.
    #[error("hub: the round's context is refused: {0}")]
    Context(&'static str),
    /// The noise plan was made for other numbers than the context's.
    #[error("caller: the noise plan is not that of the round's context")]
    NoisePlan,
    /// A name that has no place in this round.
    #[error("caller: {name} does not take part in this round")]
    NotParticipant {
        /// Who.
        name: Name,
    },
    /// No pairwise secret is stored for this peer.
    #[error("operator: there is no pairwise secret with {peer}; its key exchange must be completed first")]
    NoChain {
        /// With whom.
        peer: Name,
    },
    /// The position was used before, or is older than one that was.
    #[error("hub: log position {position} is already used up; the ratchet stands at {stands_at}")]
    Replayed {
        /// What was asked for.
        position: u64,
        /// The first position still possible.
        stands_at: u64,
    },
    /// The position is further ahead than the ratchet goes in one step.
    #[error("hub: log position {position} is too far ahead; the ratchet stands at {stands_at} and goes 2^24 at most")]
    Jump {
        /// What was asked for.
        position: u64,
        /// The first position still possible.
        stands_at: u64,
    },
    /// The key agreement with this peer's public key has no secret result.
    #[error("peer: the key-agreement key of {peer} is of small order or malformed")]
    PeerKey {
        /// Whose key.
        peer: Name,
    },
    /// A pairwise ciphertext that is not for this pair or not one.
    #[error("peer: the pairwise ciphertext of {from} is refused: {why}")]
    Ciphertext {
        /// Who sent it.
        from: Name,
        /// What is wrong.
        why: &'static str,
    },
    /// Stored secret bytes that are not what this version wrote.
    #[error("operator: stored secret state cannot be read: {0}")]
    State(&'static str),
    /// A step out of order.
    #[error("caller: out of order, first {first}")]
    WrongStep {
        /// What has to be done first.
        first: &'static str,
    },
    /// A message of another round, or bound to another context.
    #[error("peer: {from} speaks about another round or another context")]
    OtherContext {
        /// Who sent it.
        from: Name,
    },
    /// A deposit-and-shares message of the wrong shape.
    #[error("peer: the shares of {from} are refused: {why}")]
    Shares {
        /// Who sent it.
        from: Name,
        /// What is wrong.
        why: &'static str,
    },
    /// Sealed shares that do not open.
    #[error("peer: the shares sealed by {from} do not open: they were changed, or it is in another round or context")]
    Sealed {
        /// Who sealed them.
        from: Name,
    },
    /// The hub delivered other shares than those accepted before.
    #[error("hub: other shares were delivered than those accepted before")]
    OtherShares,
    /// A vector of the wrong length.
    #[error("sender: the vector has {found} elements or bytes where {expected} are due")]
    Length {
        /// What is due, in elements or bytes as the sender counts.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// The bytes are not those the signed header announces, or not those this member masked.
    #[error("peer: the vector of {from} does not match its announced hash")]
    VectorHash {
        /// Whose vector.
        from: Name,
    },
    /// Another vector under masks that were used already.
    #[error("caller: another vector was already masked in this round; masks are used once")]
    SecondVector,
    /// A survivor set that breaks a rule.
    #[error("hub: the survivor set is refused: {0}")]
    Survivors(&'static str),
    /// Another survivor set than the one this member signed.
    #[error("hub: this member already signed another survivor set of this round")]
    SecondSet,
    /// A signature on another survivor set than the one at hand.
    #[error("peer: {from} signed another survivor set")]
    OtherSet {
        /// Who signed.
        from: Name,
    },
    /// A signature that does not count.
    #[error("hub: the signature of {from} on the survivor set does not count: {why}")]
    Signature {
        /// Who signed.
        from: Name,
        /// Why it does not count.
        why: &'static str,
    },
    /// Too few of something: the round waits, or is void.
    #[error("hub: there are {found} {what}, and {needed} are needed")]
    TooFew {
        /// Of what.
        what: &'static str,
        /// How many are needed.
        needed: usize,
        /// How many there are.
        found: usize,
    },
    /// A different message for the same step than before.
    #[error("peer: {from} sent two different messages for one step of one round")]
    Equivocation {
        /// Who.
        from: Name,
    },
    /// A vector that came after the survivor set was proposed without it.
    #[error("peer: the vector of {from} came after the survivor set was fixed")]
    TooLate {
        /// Whose vector.
        from: Name,
    },
    /// A reveal of the wrong shape or with seeds that were not committed to.
    #[error("peer: the reveal of {from} is refused: {why}")]
    Reveal {
        /// Who revealed.
        from: Name,
        /// What is wrong.
        why: &'static str,
    },
    /// No choice of `t` revealed shares that was tried gives what the dealer committed to. Whose doing that is cannot be
    /// told: not every choice is tried where there are many.
    #[error(
        "peer: no choice of revealed shares that was tried gives what {of} committed to: it dealt wrong shares, or \
         others revealed wrong ones; which of them cannot be told"
    )]
    Unrecoverable {
        /// Whose secret.
        of: Name,
    },
    /// The deposit of a drop-out does not open with the key it committed to.
    #[error("peer: the deposit of {of} does not open with the key it committed to")]
    Deposit {
        /// Whose deposit.
        of: Name,
    },
    /// The two ends of a pair committed to different mask keys: their masks would not cancel.
    #[error(
        "peer: {one} and {other} committed to different mask keys: one of them lied or was shown another round; \
         which one cannot be told, the round is void"
    )]
    MaskKeys {
        /// One end.
        one: Name,
        /// The other end.
        other: Name,
    },
    /// A drop-out deposited another mask key than both ends committed to.
    #[error("peer: {of} deposited another mask key with {with} than both committed to")]
    DepositedKey {
        /// Whose deposit.
        of: Name,
        /// With whom the mask key is shared.
        with: Name,
    },
    /// A noised value that is too large for the ring that was planned.
    #[error(
        "caller: a noised value is beyond what each member may mask in this ring: inputs must be clamped as planned"
    )]
    OutOfBound,
    /// A sum beyond 64 bits, which a `Total` cannot hold.
    #[error("caller: a sum has more than 64 bits; take the sums chunk by chunk")]
    TooWide,
    /// A vector that the hub keeps elsewhere than in memory.
    #[error("caller: the vector of {from} is not in memory; take the sums chunk by chunk")]
    NotInMemory {
        /// Whose vector.
        from: Name,
    },
    /// The system starts no more threads.
    #[error("operator: a thread could not be started; give fewer")]
    Threads,
    /// Noise that does not fit its plan.
    #[error(transparent)]
    Noise(#[from] NoiseError),
    /// An invariant of ours is broken.
    #[error("us: {0}")]
    Internal(&'static str),
}
