//! Masks: ChaCha20 keystreams (RFC 8439) added to or subtracted from a vector in Z_2^32, Z_2^64 or Z_2^128.
//!
//! Nonce and counter start at zero: every key is used for one vector of one round. The keystream is read as
//! consecutive little-endian words of the ring, one for each element; so element k begins at byte k·w/8 of the
//! keystream, and any chunk can be made without those before it. Work goes in chunks of 4096 elements, which stay in
//! the first cache (32-bit words) or the second. The longest vector, 10^8 elements of 16 bytes, uses 2.5·10^7 of the
//! 2^32 blocks that one key has.
//!
//! The code runs through the same steps whatever the values are: additions modulo a power of two, no branches on them.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _, StreamCipherSeek as _};
use cohortium_messages::Ring;
use zeroize::{Zeroize, Zeroizing};

use crate::MpcError;
use crate::schedule::Key;

/// Elements that are masked or unmasked at a time.
pub const CHUNK_ELEMENTS: usize = 4096;

/// Whether a mask is put on with plus or with minus.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sign {
    Plus,
    Minus,
}

impl Sign {
    /// What takes off what `self` put on.
    pub(crate) const fn opposite(self) -> Self {
        match self {
            Self::Plus => Self::Minus,
            Self::Minus => Self::Plus,
        }
    }
}

/// A keystream and how it goes into the vector.
pub(crate) struct Mask {
    pub(crate) key: Key,
    pub(crate) sign: Sign,
}

/// An element of one of the rings. Sealed: the module is private.
pub(crate) trait Word: Copy + Default + Zeroize {
    /// The ring's width, bytes.
    const BYTES: usize;
    /// Adds to (or subtracts from) each value the little-endian word at its place; stops at the shorter of the two.
    fn add_bytes(values: &mut [Self], bytes: &[u8], sign: Sign);
    /// The two's complement of a value. The caller has checked that it fits.
    fn of(value: i64) -> Self;
    /// The value whose two's complement this is.
    fn signed(self) -> i128;
    /// Appends the little-endian bytes of all values.
    fn write(values: &[Self], bytes: &mut Vec<u8>);
}

macro_rules! word {
    ($unsigned:ty, $signed:ty) => {
        impl Word for $unsigned {
            const BYTES: usize = size_of::<$unsigned>();
            fn add_bytes(values: &mut [Self], bytes: &[u8], sign: Sign) {
                let (words, _) = bytes.as_chunks::<{ size_of::<$unsigned>() }>();
                match sign {
                    Sign::Plus => values
                        .iter_mut()
                        .zip(words)
                        .for_each(|(value, word)| *value = value.wrapping_add(Self::from_le_bytes(*word))),
                    Sign::Minus => values
                        .iter_mut()
                        .zip(words)
                        .for_each(|(value, word)| *value = value.wrapping_sub(Self::from_le_bytes(*word))),
                }
            }
            fn of(value: i64) -> Self {
                (value as $signed).cast_unsigned()
            }
            fn signed(self) -> i128 {
                i128::from(self.cast_signed())
            }
            fn write(values: &[Self], bytes: &mut Vec<u8>) {
                bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }
        }
    };
}
word!(u32, i32);
word!(u64, i64);
word!(u128, i128);

/// Puts masks on (or takes them off) one chunk after another. Its buffer holds keystream and is overwritten.
pub(crate) struct Masker<'a> {
    masks: &'a [Mask],
    stream: Zeroizing<Vec<u8>>,
}

impl<'a> Masker<'a> {
    pub(crate) fn new(masks: &'a [Mask], ring: Ring) -> Self {
        Self { masks, stream: Zeroizing::new(vec![0; CHUNK_ELEMENTS * ring.bytes() as usize]) }
    }

    /// Adds all masks to `values`, which are the elements from `first` on; at most [`CHUNK_ELEMENTS`] of them.
    ///
    /// Promise: given keys that are uniform and used for this vector only, returns values that cannot be told from
    /// uniform without the keys. Proven under the assumption that ChaCha20 is a pseudo-random generator.
    pub(crate) fn add<W: Word>(&mut self, first: u64, values: &mut [W]) -> Result<(), MpcError> {
        let stream = self.stream.get_mut(..values.len() * W::BYTES).ok_or(MpcError::Internal("a chunk is too long"))?;
        for Mask { key, sign } in self.masks {
            let mut cipher = ChaCha20::new((&**key).into(), &[0; 12].into());
            let used_up = |_| MpcError::Internal("the keystream is used up");
            cipher.try_seek(first * W::BYTES as u64).map_err(used_up)?;
            cipher.try_write_keystream(stream).map_err(used_up)?;
            W::add_bytes(values, stream, *sign);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(key: u8, sign: Sign) -> Mask {
        Mask { key: Zeroizing::new([key; 32]), sign }
    }

    /// Adds masks to a vector of any length, chunk by chunk.
    fn add<W: Word>(masks: &[Mask], ring: Ring, values: &mut [W]) {
        let mut masker = Masker::new(masks, ring);
        for (first, chunk) in (0..).step_by(CHUNK_ELEMENTS).zip(values.chunks_mut(CHUNK_ELEMENTS)) {
            masker.add(first, chunk).unwrap();
        }
    }

    fn comes_off<W: Word + PartialEq + std::fmt::Debug>(ring: Ring) {
        for len in [0, 1, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 3 * CHUNK_ELEMENTS + 5] {
            let plain: Vec<W> = (0..len as i64).map(|i| W::of(i.wrapping_mul(0x1e37_79b9_7f4a_7c15))).collect();
            let mut masked = plain.clone();
            add(&[mask(3, Sign::Plus), mask(4, Sign::Minus)], ring, &mut masked);
            assert!(len == 0 || masked != plain);
            add(&[mask(4, Sign::Minus.opposite()), mask(3, Sign::Plus.opposite())], ring, &mut masked);
            assert_eq!(masked, plain);
        }
    }

    #[test]
    fn what_is_put_on_comes_off_over_chunk_borders_in_every_ring() {
        comes_off::<u32>(Ring::Z32);
        comes_off::<u64>(Ring::Z64);
        comes_off::<u128>(Ring::Z128);
    }

    /// Chunk after chunk, the mask is one keystream without gaps or repetitions.
    #[test]
    fn chunks_are_pieces_of_one_keystream() {
        let mut values = vec![0u64; 2 * CHUNK_ELEMENTS + 3];
        add(&[mask(7, Sign::Plus)], Ring::Z64, &mut values);
        let mut bytes = vec![0u8; values.len() * 8];
        ChaCha20::new(&[7; 32].into(), &[0; 12].into()).apply_keystream(&mut bytes);
        assert!(values.iter().flat_map(|value| value.to_le_bytes()).eq(bytes));
    }

    #[test]
    fn values_are_two_s_complement() {
        for value in [0, 1, -1, i64::from(i32::MAX), i64::from(i32::MIN)] {
            assert_eq!(u32::of(value).signed(), i128::from(value));
        }
        for value in [0, 1, -1, i64::MAX, i64::MIN] {
            assert_eq!(u64::of(value).signed(), i128::from(value));
            assert_eq!(u128::of(value).signed(), i128::from(value));
        }
    }

    /// RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, counter 0.
    #[test]
    fn agrees_with_rfc_8439() {
        let expected = [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90, 0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28];
        let mut narrow = vec![0u32; 4];
        add(&[mask(0, Sign::Plus)], Ring::Z32, &mut narrow);
        let mut middle = vec![0u64; 2];
        add(&[mask(0, Sign::Plus)], Ring::Z64, &mut middle);
        let mut wide = vec![0u128; 1];
        add(&[mask(0, Sign::Plus)], Ring::Z128, &mut wide);
        assert!(narrow.iter().flat_map(|word| word.to_le_bytes()).eq(expected));
        assert!(middle.iter().flat_map(|word| word.to_le_bytes()).eq(expected));
        assert!(wide.iter().flat_map(|word| word.to_le_bytes()).eq(expected));
    }
}
