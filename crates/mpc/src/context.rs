//! What a round may be: the rules that both sides check before anything else.

use cohortium_dp::NoisePlan;
use cohortium_messages::{Hash, MAX_CELLS, MAX_ORGANISATIONS, Name, PROTOCOL_VERSION, RING_BITS, RoundContext};

use crate::MpcError;

/// Positions are integers that canonical JSON can express exactly (RFC 8785, section 3.2.2.3).
const MAX_POSITION: u64 = (1 << 53) - 2;

/// The hash of the context, when it keeps every rule and the noise plan is its own.
///
/// Promise: given any context, accepts only those in which 2t > n + c, so that no two survivor sets can both get t
/// signatures and no member can be made to open both halves of a mask. Argued in the specification.
pub(crate) fn check(context: &RoundContext, noise: &NoisePlan) -> Result<Hash, MpcError> {
    let refuse = |why| Err(MpcError::Context(why));
    if context.protocol != PROTOCOL_VERSION {
        return refuse("unknown protocol version");
    }
    if context.ring_bits != RING_BITS {
        return refuse("the ring must be Z_2^64");
    }
    if !(1..=MAX_CELLS).contains(&(context.elements as usize)) {
        return refuse("elements must be from 1 to 2^20");
    }
    if context.position > MAX_POSITION {
        return refuse("position must be below 2^53 - 1");
    }
    let n = context.participants.len();
    if !(2..=MAX_ORGANISATIONS).contains(&n) {
        return refuse("participants must be from 2 to 100");
    }
    if !is_sorted(&context.participants) {
        return refuse("participants must be sorted, each once");
    }
    let (n, t, c) = (n as u64, u64::from(context.threshold), u64::from(context.colluders));
    if !(c >= 1 && c < t && t <= n && 2 * t > n + c) {
        return refuse("need 1 <= colluders < threshold <= participants and 2 threshold > participants + colluders");
    }
    if (noise.sigma2(), u64::from(noise.participants()), noise.threshold(), noise.colluders())
        != (context.sigma2, n, context.threshold, context.colluders)
    {
        return Err(MpcError::NoisePlan);
    }
    context.hash().map_err(|_| MpcError::Internal("a round context has no canonical form"))
}

/// Whether names rise strictly.
pub(crate) fn is_sorted(names: &[Name]) -> bool {
    names.array_windows().all(|[a, b]| a < b)
}

/// Checks a survivor set: sorted, of participants, at least `t`.
pub(crate) fn check_survivors(context: &RoundContext, survivors: &[Name]) -> Result<(), MpcError> {
    if !is_sorted(survivors) {
        return Err(MpcError::Survivors("it must be sorted, each name once"));
    }
    if !survivors.iter().all(|name| context.index_of(name).is_some()) {
        return Err(MpcError::Survivors("it names somebody who does not take part"));
    }
    if survivors.len() < context.threshold as usize {
        return Err(MpcError::Survivors("it has fewer members than the threshold: the round is void"));
    }
    Ok(())
}

/// How many bytes a masked vector of this round has.
pub(crate) fn vector_bytes(context: &RoundContext) -> u64 {
    u64::from(context.elements) * u64::from(RING_BITS / 8)
}
