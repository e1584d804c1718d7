//! The rings in which vectors are summed, and which of them a sum fits into.
//!
//! A sum modulo 2^w that wraps is a wrong answer that looks like a right one, and nobody can see it afterwards. So the
//! ring is chosen when a round is planned, from numbers that everybody knows, and every member checks its own vector
//! against the same numbers before masking. Signed values are two's complement (Bonawitz et al. 2017, section 4, leave
//! the ring open; a power of two of a machine word costs no reduction).
//!
//! Does not: bound anybody's input. Assumes that inputs are clamped to the magnitude that is stated here.

/// The most elements that one round may sum: 10^8, the parameters of a model. Longer than [`crate::MAX_CELLS`] means
/// that the vectors are masked and unmasked in chunks.
pub const MAX_ELEMENTS: u32 = 100_000_000;

/// How many standard deviations of a node's noise are kept free above its clamped input.
///
/// A sum of discrete Gaussians of variance v is subgaussian with v (Canonne, Kamath, Steinke 2020: each one's moment
/// generating function is at most that of the continuous Gaussian), so it leaves ±12√v with probability at most
/// 2·exp(−72) < 2^-102. Over 100 nodes, 10^8 elements, and both the noise added and the noise kept, below 2^-64.
const MARGIN_DEVIATIONS: u64 = 12;

/// The ring of a round. On the wire it is its width in bits.
///
/// ```
/// use cohortium_messages::Ring;
/// assert_eq!(Ring::from_bits(64), Some(Ring::Z64));
/// assert_eq!(Ring::for_bound(i32::MAX as u128), Some(Ring::Z32));
/// assert_eq!(Ring::for_bound(1 << 31), Some(Ring::Z64));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ring {
    /// Z_2^32: four bytes for an element.
    Z32,
    /// Z_2^64: eight bytes.
    Z64,
    /// Z_2^128: sixteen bytes. Each node still contributes 64-bit integers.
    Z128,
}

impl Ring {
    /// All rings, the smallest first.
    pub const ALL: [Self; 3] = [Self::Z32, Self::Z64, Self::Z128];

    /// The ring of this width, if there is one.
    #[must_use]
    pub const fn from_bits(bits: u32) -> Option<Self> {
        match bits {
            32 => Some(Self::Z32),
            64 => Some(Self::Z64),
            128 => Some(Self::Z128),
            _ => None,
        }
    }

    /// The width, bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        match self {
            Self::Z32 => 32,
            Self::Z64 => 64,
            Self::Z128 => 128,
        }
    }

    /// The width of an element on the wire, bytes.
    #[must_use]
    pub const fn bytes(self) -> u32 {
        self.bits() / 8
    }

    /// The largest magnitude that a sum may have: 2^(w−1) − 1.
    #[must_use]
    pub const fn largest_sum(self) -> u128 {
        (1 << (self.bits() - 1)) - 1
    }

    /// The smallest ring in which every sum from −`magnitude` to `magnitude` is its own two's complement.
    #[must_use]
    pub fn for_bound(magnitude: u128) -> Option<Self> {
        Self::ALL.into_iter().find(|ring| magnitude <= ring.largest_sum())
    }

    /// The smallest ring for the sum of `participants` inputs, each at most `magnitude` before noise of variance
    /// `node_variance` (lattice steps squared, `dp::NoisePlan::node_variance`) is added.
    ///
    /// Promise: given inputs that are clamped to `magnitude`, returns a ring in which no sum of a round wraps, except
    /// with probability below 2^-64 over the noise. Proven (the tail bound is above).
    #[must_use]
    pub fn for_inputs(participants: usize, magnitude: u64, node_variance: u64) -> Option<Self> {
        let value = u128::from(magnitude) + u128::from(noise_margin(node_variance));
        Self::for_bound(value.saturating_mul(participants as u128))
    }

    /// The largest magnitude that one of `participants` nodes may mask, noise included: ⌊(2^(w−1) − 1)/n⌋. As long as
    /// each keeps it, their sum cannot wrap.
    #[must_use]
    pub const fn node_bound(self, participants: usize) -> u128 {
        match self.largest_sum().checked_div(participants as u128) {
            Some(bound) => bound,
            None => 0,
        }
    }
}

/// What is kept free for one node's noise of variance `node_variance`: 12·(⌊√v⌋ + 1) lattice steps.
#[must_use]
pub const fn noise_margin(node_variance: u64) -> u64 {
    // The root is below 2^32.
    MARGIN_DEVIATIONS * (node_variance.isqrt() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_ring_that_holds_the_sum_is_chosen() {
        for (magnitude, ring) in [
            (0, Some(Ring::Z32)),
            ((1 << 31) - 1, Some(Ring::Z32)),
            (1 << 31, Some(Ring::Z64)),
            ((1 << 63) - 1, Some(Ring::Z64)),
            (1 << 63, Some(Ring::Z128)),
            ((1 << 127) - 1, Some(Ring::Z128)),
            (1 << 127, None),
            (u128::MAX, None),
        ] {
            assert_eq!(Ring::for_bound(magnitude), ring, "{magnitude}");
        }
    }

    #[test]
    fn what_every_node_may_mask_adds_up_without_wrapping_and_one_more_may_wrap() {
        for ring in Ring::ALL {
            assert_eq!(Ring::from_bits(ring.bits()), Some(ring));
            assert_eq!(ring.bytes() * 8, ring.bits());
            for n in [1usize, 2, 3, 7, 100] {
                let bound = ring.node_bound(n);
                assert!(bound * n as u128 <= ring.largest_sum());
                assert!((bound + 1) * n as u128 > ring.largest_sum());
            }
            assert_eq!(ring.node_bound(0), 0);
        }
        for bits in [0, 1, 8, 16, 31, 33, 63, 65, 256] {
            assert_eq!(Ring::from_bits(bits), None);
        }
    }

    #[test]
    fn noise_has_its_margin() {
        // 100 × (2^20 + 12·33) < 2^31, and 12 standard deviations more do not fit beside an input at the edge.
        assert_eq!(Ring::for_inputs(100, 1 << 20, 1024), Some(Ring::Z32));
        let edge = u64::try_from(Ring::Z32.node_bound(100)).unwrap();
        assert_eq!(Ring::for_inputs(100, edge - noise_margin(1024), 1024), Some(Ring::Z32));
        assert_eq!(Ring::for_inputs(100, edge - noise_margin(1024) + 1, 1024), Some(Ring::Z64));
        assert_eq!(Ring::for_inputs(100, u64::MAX, u64::MAX), Some(Ring::Z128));
        // The probability in the text: 2·exp(−72) for each of 2·100·10^8 sums.
        let log2 = 1.0 - 72.0 * std::f64::consts::LOG2_E + (2.0 * 100.0 * f64::from(MAX_ELEMENTS)).log2();
        assert!(log2 < -64.0, "{log2}");
    }
}
