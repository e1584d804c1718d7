//! How many members a round needs: one rule, for the agreement that states it and for every round that keeps it.
//!
//! With `n` participants, `c` of them malicious, an honest member signs one survivor set and reveals only when `t`
//! members signed it. Two sets with `t` signatures each would need 2(t − c) honest signatures of n − c honest members,
//! so 2t > n + c makes the set unique (Bonawitz et al. 2017, section 6.2, malicious server). `c ≥ 1` always, because
//! every member sees the release and knows its own input and noise. `docs/spec/secure-sum.md` has the whole argument.
//!
//! Does not: say whether members really are independent of one another.

use serde::{Deserialize, Serialize};

use crate::MAX_ORGANISATIONS;

/// What protects a single member's input in the sum.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReleaseMode {
    /// Nothing but the other honest inputs: exact sums under disclosure control.
    Exact,
    /// Noise: the sum less what the colluders know still carries σ². Differential privacy.
    #[serde(rename = "dp")]
    Noised,
}

impl std::fmt::Display for ReleaseMode {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Noised => "dp",
        })
    }
}

/// Why numbers of participants, threshold and colluders are refused. Whoever wrote them must act.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    /// Too few or too many.
    #[error("participants must be from 2 to {MAX_ORGANISATIONS}")]
    Participants,
    /// Nobody is assumed to collude.
    #[error("colluders must be at least 1: every member sees the sum and knows its own part of it")]
    Colluders,
    /// Not from c + 1 to n.
    #[error("the threshold must be above the colluders and at most the participants")]
    Threshold,
    /// Two survivor sets could both be agreed on.
    #[error("2 threshold > participants + colluders is needed, or two survivor sets could both be agreed on")]
    TwoSets,
    /// An exact sum over one honest input.
    #[error(
        "an exact sum needs 3 participants and a threshold of colluders + 2: one honest input must not stand alone"
    )]
    Alone,
}

/// Checks the numbers of a round or an agreement.
///
/// Promise: given any numbers, accepts only those for which, with at most `colluders` malicious members, no two survivor
/// sets can both be agreed on and what remains of a sum is protected by noise or by a second honest input. Argued in
/// the specification. With two participants and noise, t − c = 1: each adds the full amount.
///
/// # Errors
/// The first rule that is broken.
pub fn check_thresholds(
    participants: usize,
    threshold: u32,
    colluders: u32,
    mode: ReleaseMode,
) -> Result<(), ThresholdError> {
    if !(2..=MAX_ORGANISATIONS).contains(&participants) {
        return Err(ThresholdError::Participants);
    }
    let (n, t, c) = (participants as u64, u64::from(threshold), u64::from(colluders));
    if c < 1 {
        return Err(ThresholdError::Colluders);
    }
    if !(c < t && t <= n) {
        return Err(ThresholdError::Threshold);
    }
    if 2 * t <= n + c {
        return Err(ThresholdError::TwoSets);
    }
    match mode {
        ReleaseMode::Noised => Ok(()),
        ReleaseMode::Exact if n >= 3 && t - c >= 2 => Ok(()),
        ReleaseMode::Exact => Err(ThresholdError::Alone),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_refused_by_name() {
        use ThresholdError::{Alone, Colluders, Participants, Threshold, TwoSets};
        // n, t, c, with noise, exact
        for (n, t, c, noised, exact) in [
            (0, 2, 1, Err(Participants), Err(Participants)),
            (1, 1, 1, Err(Participants), Err(Participants)),
            (101, 60, 1, Err(Participants), Err(Participants)),
            (2, 2, 1, Ok(()), Err(Alone)),
            (3, 3, 1, Ok(()), Ok(())),
            (3, 2, 1, Err(TwoSets), Err(TwoSets)),
            (3, 3, 2, Ok(()), Err(Alone)),
            (4, 3, 1, Ok(()), Ok(())),
            (4, 3, 0, Err(Colluders), Err(Colluders)),
            (4, 3, 3, Err(Threshold), Err(Threshold)),
            (4, 5, 1, Err(Threshold), Err(Threshold)),
            (10, 7, 3, Ok(()), Ok(())),
            (10, 6, 3, Err(TwoSets), Err(TwoSets)),
            (100, 67, 33, Ok(()), Ok(())),
            (100, u32::MAX, u32::MAX, Err(Threshold), Err(Threshold)),
        ] {
            assert_eq!(check_thresholds(n, t, c, ReleaseMode::Noised), noised, "n {n} t {t} c {c}");
            assert_eq!(check_thresholds(n, t, c, ReleaseMode::Exact), exact, "n {n} t {t} c {c} exact");
        }
    }

    /// The rule against its reason, for all small numbers: two sets of size t of signatures, of which the c colluders'
    /// count for both, exist exactly when there are enough honest members to sign once each.
    #[test]
    fn two_sets_can_be_agreed_on_exactly_where_the_rule_forbids_it() {
        for n in 2..=40u32 {
            for (t, c) in (1..=n).flat_map(|t| (1..t).map(move |c| (t, c))) {
                let honest_signatures_needed = 2 * (t - c);
                let can_both = honest_signatures_needed <= n - c;
                let refused = check_thresholds(n as usize, t, c, ReleaseMode::Noised) == Err(ThresholdError::TwoSets);
                assert_eq!(refused, can_both, "n {n} t {t} c {c}");
            }
        }
    }
}
