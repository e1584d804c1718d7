//! Threshold sharing of 32-byte secrets: Shamir 1979, "How to Share a Secret", byte by byte over GF(2^8).
//!
//! The field is that of AES, modulo x^8 + x^4 + x^3 + x + 1. The share at point p of a byte s is f(p) for a random f of
//! degree t−1 with f(0) = s. Multiplication runs through all eight bits whatever its operands are, so neither time nor
//! memory access depends on a secret.
//!
//! Fewer than t shares say nothing, whatever computer looks at them. Shares carry no proof: a wrong one gives a wrong
//! secret, which the caller notices by the dealer's commitment.
//!
//! **Finding wrong shares.** The shares of a secret are 32 words of one Reed–Solomon code, one for each byte, whose
//! errors lie at the same places: whoever lies. So the places are found from all bytes together: syndromes, and one system
//! of linear equations for the error locator (Peterson 1960 for one word; Bleichenbacher, Kiayias, Yung 2003, "Decoding
//! of Interleaved Reed Solomon Codes over Noisy Data", for many). Of m shares, ⌊(m−t)/2⌋ wrong ones are always found, as
//! by any decoder of one word, and up to 32/33·(m−t) unless those who lie arranged it otherwise. Nothing here is in
//! constant time: it runs at the hub, on shares that were revealed to it.

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
        let weights = weights(shares)?;
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

/// For each share 1/Π (its point − another's).
fn weights(shares: &[Share]) -> Result<Vec<u8>, MpcError> {
    let mut weights = Vec::with_capacity(shares.len());
    for (i, share) in shares.iter().enumerate() {
        let others = shares.iter().enumerate().filter(|(j, _)| *j != i);
        let below = others.fold(1, |below, (_, other)| multiply(below, share.point ^ other.point));
        if below == 0 || share.point == 0 {
            return Err(MpcError::Internal("two shares at one point, or one at zero"));
        }
        weights.push(inverse(below));
    }
    Ok(weights)
}

/// What is left of shares when every polynomial of degree below the threshold is taken out: zeros if all lie on one.
pub(crate) struct Syndromes<'a> {
    shares: &'a [Share],
    /// Σ weight · point^a · share, for a from 0 to m − t − 1; one byte for each byte of the secret.
    powers: Vec<[u8; 32]>,
}

impl<'a> Syndromes<'a> {
    /// The syndromes of all shares there are.
    ///
    /// # Errors
    /// Ours, when two shares are at one point or one at zero.
    pub(crate) fn of(shares: &'a [Share], threshold: usize) -> Result<Self, MpcError> {
        let mut terms: Vec<[u8; 32]> = Vec::with_capacity(shares.len());
        for (share, weight) in shares.iter().zip(weights(shares)?) {
            terms.push(share.bytes.map(|byte| multiply(weight, byte)));
        }
        let mut powers = Vec::new();
        for _ in threshold..shares.len() {
            let mut sum = [0; 32];
            for (term, share) in terms.iter_mut().zip(shares) {
                sum.iter_mut().zip(*term).for_each(|(sum, byte)| *sum ^= byte);
                *term = term.map(|byte| multiply(share.point, byte));
            }
            powers.push(sum);
        }
        Ok(Self { shares, powers })
    }

    /// The most wrong shares that may be found at all: one syndrome must be left to tell.
    pub(crate) fn most(&self) -> usize {
        self.powers.len().saturating_sub(1)
    }

    /// Which shares are wrong if exactly `errors` are; nothing if that does not fit or cannot be told.
    ///
    /// With locator L(x) = x^e + l_(e−1)·x^(e−1) + … + l_0, zero at the points of wrong shares, every syndrome byte has
    /// Σ l_i·S_(a+i) = S_(a+e) for all a. If `errors` is the number of wrong shares and at most ⌊(m−t)/2⌋, L is the only
    /// solution: with at least as many equations for each byte as there are errors in it, another one would be zero at
    /// all of their points as well. A smaller number has no solution then, for the same reason.
    pub(crate) fn locate(&self, errors: usize) -> Option<Vec<bool>> {
        let mut system = System::new(errors);
        for window in self.powers.windows(errors + 1) {
            for byte in 0..32 {
                system.add(window.iter().filter_map(|power| power.get(byte)).copied().collect())?;
            }
        }
        let locator = system.solve()?;
        let value = |point: u8| locator.iter().rev().fold(1, |value, factor| multiply(value, point) ^ factor);
        let wrong: Vec<bool> = self.shares.iter().map(|share| value(share.point) == 0).collect();
        (wrong.iter().filter(|is_wrong| **is_wrong).count() == errors).then_some(wrong)
    }
}

/// Linear equations over GF(2^8) in a few unknowns, of which there may be many more than needed.
struct System {
    unknowns: usize,
    /// Independent equations: the place of a leading 1, the factors of all unknowns, and the sum they make. Each has zeros
    /// where those before it lead.
    reduced: Vec<(usize, Vec<u8>)>,
}

impl System {
    const fn new(unknowns: usize) -> Self {
        Self { unknowns, reduced: Vec::new() }
    }

    /// Adds an equation: factors, then the sum. Nothing if it contradicts those before it.
    fn add(&mut self, mut equation: Vec<u8>) -> Option<()> {
        for (place, reduced) in &self.reduced {
            let times = *equation.get(*place)?;
            take_off(&mut equation, reduced, times);
        }
        match equation.iter().position(|factor| *factor != 0) {
            None => {}
            Some(place) if place >= self.unknowns => return None,
            Some(place) => {
                let lead = inverse(*equation.get(place)?);
                equation.iter_mut().for_each(|factor| *factor = multiply(*factor, lead));
                self.reduced.push((place, equation));
            }
        }
        Some(())
    }

    /// The only solution; nothing if there are several.
    fn solve(&self) -> Option<Vec<u8>> {
        if self.reduced.len() < self.unknowns {
            return None;
        }
        let mut solution = vec![0; self.unknowns];
        for (place, equation) in self.reduced.iter().rev() {
            // The unknown itself is still zero in `solution`.
            let known = solution.iter().zip(equation).fold(0, |sum, (value, factor)| sum ^ multiply(*value, *factor));
            *solution.get_mut(*place)? = known ^ equation.get(self.unknowns)?;
        }
        Some(solution)
    }
}

/// Takes `times` an equation off another.
fn take_off(equation: &mut [u8], other: &[u8], times: u8) {
    if times != 0 {
        equation.iter_mut().zip(other).for_each(|(factor, other)| *factor ^= multiply(times, *other));
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

    /// How liars choose what they reveal.
    #[derive(Debug, Clone, Copy)]
    enum Lies {
        Random,
        /// In one byte only.
        OneByte,
        /// On another polynomial, the same for all of them: together they look like honest members of another round.
        Together,
    }

    /// `liars` of the shares are made wrong; which ones.
    fn lie(shares: &mut [Share], t: u8, liars: usize, lies: Lies, rng: &mut ChaCha20Rng) -> Vec<bool> {
        let mut order: Vec<usize> = (0..shares.len()).collect();
        order.sort_by_cached_key(|_| rng.next_u64());
        let other = split(&[rng.next_u32() as u8; 32], shares.len() as u8, t, rng).unwrap();
        let mut wrong = vec![false; shares.len()];
        for place in order.into_iter().take(liars) {
            let (right, to) = (shares[place].bytes, &mut shares[place].bytes);
            match lies {
                Lies::Random => rng.fill_bytes(to),
                Lies::OneByte => to[7] ^= 1 + (rng.next_u32() % 255) as u8,
                Lies::Together => *to = *other[place],
            }
            wrong[place] = *to != right;
        }
        wrong
    }

    fn first_that_fits(shares: &[Share], t: u8) -> Option<Vec<bool>> {
        let syndromes = Syndromes::of(shares, t.into()).unwrap();
        (0..=syndromes.most()).find_map(|errors| syndromes.locate(errors))
    }

    proptest! {
        /// Up to half of the spare shares may be wrong, however they were chosen.
        #[test]
        fn half_of_the_spare_shares_may_be_wrong(
            t in 1u8..=67, spare in 1u8..=33, part in 0usize..=16, lies in 0usize..3, seed: u8,
        ) {
            let liars = part.min(usize::from(spare) / 2);
            let mut shares = shares_of(&[seed; 32], t + spare, t, seed);
            let lies = [Lies::Random, Lies::OneByte, Lies::Together][lies];
            let wrong = lie(&mut shares, t, liars, lies, &mut ChaCha20Rng::from_seed([seed ^ 1; 32]));
            prop_assert_eq!(first_that_fits(&shares, t), Some(wrong), "{:?}", lies);
        }
    }

    /// Lies that were not arranged are found beyond half, up to 32/33 of what is spare; arranged ones are not.
    #[test]
    fn more_are_found_unless_they_were_arranged() {
        let (n, t) = (31, 21);
        for (lies, liars, is_found) in [
            (Lies::Random, 9, true),
            (Lies::Random, 10, false),
            (Lies::OneByte, 5, true),
            (Lies::OneByte, 6, false),
            (Lies::Together, 5, true),
        ] {
            let mut shares = shares_of(&[9; 32], n, t, 4);
            let wrong = lie(&mut shares, t, liars, lies, &mut ChaCha20Rng::from_seed([5; 32]));
            assert_eq!(first_that_fits(&shares, t) == Some(wrong), is_found, "{lies:?} {liars}");
        }
        assert_eq!(Syndromes::of(&shares_of(&[9; 32], 3, 3, 1), 3).unwrap().most(), 0);
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
