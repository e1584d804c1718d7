//! Threshold sharing of 32-byte secrets: Shamir 1979, "How to Share a Secret", byte by byte over GF(2^8).
//!
//! The field is that of AES, modulo x^8 + x^4 + x^3 + x + 1. The share at point p of a byte s is f(p) for a random f of
//! degree t−1 with f(0) = s. Multiplication runs through all eight bits whatever its operands are, so neither time nor
//! memory access depends on a secret.
//!
//! Fewer than t shares say nothing, whatever computer looks at them. Shares carry no proof: a wrong one gives a wrong
//! secret, which the caller notices by the dealer's commitment.

use rand_core::CryptoRng;
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::MpcError;
use crate::schedule::Key;

/// A share together with the point it belongs to.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub(crate) struct Share {
    /// From 1.
    pub(crate) point: u8,
    /// One byte for each byte of the secret.
    pub(crate) bytes: [u8; 32],
}

/// Shares of `secret` at the points 1..=`n`, any `threshold` of which give it back.
///
/// Promise: given a uniform generator, any `threshold` − 1 of the returned shares are uniform and independent of the
/// secret. Proven (Shamir 1979). Coefficients are drawn from degree 1 upwards, 32 bytes each.
pub(crate) fn split(secret: &[u8; 32], n: u8, threshold: u8, rng: &mut dyn CryptoRng) -> Result<Vec<Key>, MpcError> {
    if threshold == 0 || threshold > n {
        return Err(MpcError::Internal("a secret is shared with a threshold from 1 to the number of shares"));
    }
    let mut coefficients = Zeroizing::new(vec![[0u8; 32]; usize::from(threshold)]);
    for (degree, coefficient) in coefficients.iter_mut().enumerate() {
        if degree == 0 { coefficient.copy_from_slice(secret) } else { rng.fill_bytes(coefficient) }
    }
    Ok((1..=n).map(|point| evaluate(&coefficients, point)).collect())
}

/// The polynomial through some shares (Lagrange, in barycentric form: Berrut and Trefethen 2004, section 3). What does
/// not depend on where it is evaluated is computed once.
pub(crate) struct Polynomial<'a> {
    shares: &'a [Share],
    /// For each share, 1/Π (its point − another's).
    weights: Vec<u8>,
}

impl<'a> Polynomial<'a> {
    /// The polynomial through the first `threshold` shares.
    ///
    /// # Errors
    /// [`MpcError::TooFew`] shares; ours when two are at one point or one at zero.
    pub(crate) fn through(shares: &'a [Share], threshold: usize) -> Result<Self, MpcError> {
        let too_few = MpcError::TooFew { what: "shares", needed: threshold, found: shares.len() };
        let shares = shares.get(..threshold).ok_or(too_few)?;
        let mut weights = Vec::with_capacity(threshold);
        for (i, share) in shares.iter().enumerate() {
            let others = shares.iter().enumerate().filter(|(j, _)| *j != i);
            let below = others.fold(1, |below, (_, other)| multiply(below, share.point ^ other.point));
            if below == 0 || share.point == 0 {
                return Err(MpcError::Internal("two shares at one point, or one at zero"));
            }
            weights.push(inverse(below));
        }
        Ok(Self { shares, weights })
    }

    /// The value at a point; at 0, the secret. Branches on points only, which are public.
    pub(crate) fn at(&self, point: u8) -> Key {
        if let Some(share) = self.shares.iter().find(|share| share.point == point) {
            return Zeroizing::new(share.bytes);
        }
        let mut value = Zeroizing::new([0u8; 32]);
        let above = self.shares.iter().fold(1, |above, share| multiply(above, point ^ share.point));
        for (share, weight) in self.shares.iter().zip(&self.weights) {
            let weight = multiply(multiply(above, inverse(point ^ share.point)), *weight);
            for (sum, byte) in value.iter_mut().zip(&share.bytes) {
                *sum ^= multiply(weight, *byte);
            }
        }
        value
    }
}

/// Horner's rule on every byte, from the highest degree down.
fn evaluate(coefficients: &[[u8; 32]], point: u8) -> Key {
    let mut value = Zeroizing::new([0u8; 32]);
    for coefficient in coefficients.iter().rev() {
        for (sum, byte) in value.iter_mut().zip(coefficient) {
            *sum = multiply(*sum, point) ^ byte;
        }
    }
    value
}

/// Multiplication in GF(2^8), without branches or tables.
const fn multiply(a: u8, b: u8) -> u8 {
    let (mut a, mut product, mut bit) = (a, 0u8, 0);
    while bit < 8 {
        product ^= a & 0u8.wrapping_sub((b >> bit) & 1);
        a = (a << 1) ^ (0x1b & 0u8.wrapping_sub(a >> 7));
        bit += 1;
    }
    product
}

/// The inverse of a non-zero element: a^254.
const fn inverse(a: u8) -> u8 {
    // 254 = 2 + 4 + … + 128: the product of all squarings after the first.
    let (mut square, mut result, mut step) = (a, 1, 0);
    while step < 7 {
        square = multiply(square, square);
        result = multiply(result, square);
        step += 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use proptest::prelude::*;
    use rand_core::SeedableRng as _;

    /// FIPS 197, sections 4.2 and 4.2.1: {57}·{83} = {c1}, {57}·{13} = {fe}.
    #[test]
    fn the_field_is_that_of_aes() {
        assert_eq!(multiply(0x57, 0x83), 0xc1);
        assert_eq!(multiply(0x57, 0x13), 0xfe);
        for a in 1..=255 {
            assert_eq!(multiply(a, inverse(a)), 1, "{a}");
        }
    }

    fn shares_of(secret: &[u8; 32], n: u8, t: u8, seed: u8) -> Vec<Share> {
        let shares = split(secret, n, t, &mut ChaCha20Rng::from_seed([seed; 32])).unwrap();
        (1..).zip(&shares).map(|(point, bytes)| Share { point, bytes: **bytes }).collect()
    }

    proptest! {
        #[test]
        fn any_t_shares_give_the_secret(secret: [u8; 32], n in 1u8..=100, t in 1u8..=100, seed: u8, from in 0usize..100) {
            prop_assume!(t <= n);
            let mut shares = shares_of(&secret, n, t, seed);
            shares.rotate_left(from % usize::from(n));
            let polynomial = Polynomial::through(&shares, t.into()).unwrap();
            prop_assert_eq!(*polynomial.at(0), secret);
            for share in &shares {
                prop_assert_eq!(*polynomial.at(share.point), share.bytes);
            }
        }
    }

    #[test]
    fn fewer_than_t_do_not_and_bad_points_are_refused() {
        let mut shares = shares_of(&[5; 32], 5, 3, 1);
        assert!(matches!(Polynomial::through(&shares[..2], 3).err(), Some(MpcError::TooFew { .. })));
        assert!(*Polynomial::through(&shares[..2], 2).unwrap().at(0) != [5; 32]);
        shares[1].point = 1;
        assert!(Polynomial::through(&shares, 3).is_err());
        shares[1].point = 0;
        assert!(Polynomial::through(&shares, 3).is_err());
        assert!(split(&[5; 32], 3, 4, &mut ChaCha20Rng::from_seed([1; 32])).is_err());
        assert!(split(&[5; 32], 3, 0, &mut ChaCha20Rng::from_seed([1; 32])).is_err());
    }

    /// With t = 2, for one fixed share every secret byte is possible, each with exactly one polynomial.
    #[test]
    fn one_share_of_two_says_nothing() {
        for secret in 0..=255u8 {
            let reached = (0..=255u8).filter(|slope| (secret ^ multiply(*slope, 1)) == 0x42).count();
            assert_eq!(reached, 1);
        }
    }
}
