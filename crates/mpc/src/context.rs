//! What a round may be: the rules that both sides check before anything else.

use cohortium_dp::NoisePlan;
use cohortium_messages::{
    Hash, MAX_ELEMENTS, Name, PROTOCOL_VERSION, ReleaseMode, Ring, RoundContext, ThresholdError, check_thresholds,
};

use crate::MpcError;

/// Positions are integers that canonical JSON can express exactly (RFC 8785, section 3.2.2.3).
const MAX_POSITION: u64 = (1 << 53) - 2;

/// The hash of the context, when it keeps every rule and the noise plan is its own.
///
/// Promise: given any context, accepts only those in which 2t > n + c, so that no two survivor sets can both get t
/// signatures and no member can be made to open both halves of a mask, and only those in whose mode something may be
/// masked. Argued in the specification.
pub(crate) fn check(context: &RoundContext, noise: &NoisePlan) -> Result<Hash, MpcError> {
    let refuse = |why| Err(MpcError::Context(why));
    if context.protocol != PROTOCOL_VERSION {
        return refuse("unknown protocol version");
    }
    if context.ring().is_none() {
        return refuse("the ring must be Z_2^32, Z_2^64 or Z_2^128");
    }
    if !(1..=MAX_ELEMENTS).contains(&context.elements) {
        return refuse("elements must be from 1 to 10^8");
    }
    if context.position > MAX_POSITION {
        return refuse("position must be below 2^53 - 1");
    }
    let (n, t, c) = (context.participants.len(), context.threshold, context.colluders);
    if let Err(broken) = check_thresholds(n, t, c, context.mode) {
        return refuse(rule(broken));
    }
    if !is_sorted(&context.participants) {
        return refuse("participants must be sorted, each once");
    }
    match context.mode {
        ReleaseMode::Noised => {}
        // Then only what is `Cleared` may be masked, and there is no such value.
        ReleaseMode::Exact => return refuse("exact sums need cleared values, which this version cannot make"),
    }
    if (noise.sigma2(), noise.participants() as usize, noise.threshold(), noise.colluders())
        != (context.sigma2, n, t, c)
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

/// The ring of a context that was checked.
pub(crate) fn ring(context: &RoundContext) -> Result<Ring, MpcError> {
    context.ring().ok_or(MpcError::Context("the ring must be Z_2^32, Z_2^64 or Z_2^128"))
}

/// How many bytes a masked vector of this round has.
pub(crate) fn vector_bytes(context: &RoundContext) -> Result<u64, MpcError> {
    Ok(u64::from(context.elements) * u64::from(ring(context)?.bytes()))
}

/// A broken rule of the thresholds in words. Every one is the planner's to mend.
const fn rule(broken: ThresholdError) -> &'static str {
    match broken {
        ThresholdError::Participants => "participants must be from 2 to 100",
        ThresholdError::Colluders => "colluders must be at least 1",
        ThresholdError::Threshold => "the threshold must be above the colluders and at most the participants",
        ThresholdError::TwoSets => "2 threshold > participants + colluders is needed",
        ThresholdError::Alone => "an exact sum needs 3 participants and a threshold of colluders + 2",
    }
}
