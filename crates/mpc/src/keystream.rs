//! Masks: AES-256 in counter mode, added to or subtracted from a vector in Z_2^32, Z_2^64 or Z_2^128.
//!
//! The cipher is FIPS 197, the mode NIST SP 800-38A, section 6.5: block k of a keystream is AES-256 of k, written as 128
//! bits, most significant first. Counters start at zero: every key is used for one vector of one round. The keystream
//! is read as consecutive little-endian words of the ring, one for each element; so element k begins at byte k·w/8 of
//! the keystream, and any chunk can be made without those before it.
//!
//! **Why AES.** Masks are most of what a member computes, and processors have AES in hardware: on the machine on which
//! this was chosen ChaCha20 made 6.8 GB/s, AES-256 15 GB/s. Without such instructions the library computes AES in
//! constant time by bit slicing, ninety times slower: slow, and no weaker (`docs/decisions/0017-masks-from-aes.md`).
//!
//! **How far it goes.** Blocks of one key never repeat, where those of a random function would: after q blocks that
//! shows with a chance of q²/2^129 at most. A vector of 10^8 elements of 32 bits has 2.5·10^7 blocks: below 2^-79; of
//! 128 bits, the longest there is, 10^8: below 2^-75.
//!
//! Work goes in chunks of 4096 elements, which stay in the processor's caches. All keystreams of a chunk encrypt the
//! same counters, so these are written once, and two masks are added in one pass. The code runs through the same steps
//! whatever the values are: additions modulo a power of two, no branches on them.

use aes::Aes256Enc;
use aes::cipher::array::Array;
use aes::cipher::{BlockCipherEncrypt as _, KeyInit as _};
use cohortium_messages::Ring;
use zeroize::Zeroizing;

use crate::MpcError;

/// Elements that are masked or unmasked at a time.
pub const CHUNK_ELEMENTS: usize = 4096;
/// Bytes of a block of AES.
const BLOCK_BYTES: usize = 16;

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

/// A keystream and how it goes into the vector. The expanded key is overwritten when dropped.
pub(crate) struct Mask {
    cipher: Aes256Enc,
    sign: Sign,
}

impl Mask {
    pub(crate) fn new(key: &[u8; 32], sign: Sign) -> Self {
        Self { cipher: Aes256Enc::new(key.into()), sign }
    }

    /// Writes the keystream's blocks of these counters.
    fn write(&self, counters: &[Block], stream: &mut [Block]) -> Result<(), MpcError> {
        let blocks = Array::cast_slice_from_core_mut(stream);
        let counters = Array::cast_slice_from_core(counters);
        let unequal = |_| MpcError::Internal("a keystream has another length than its counters");
        self.cipher.encrypt_blocks_b2b(counters, blocks).map_err(unequal)
    }
}

type Block = [u8; BLOCK_BYTES];

/// An element of one of the rings, as little-endian bytes: vectors stay in the form in which they are hashed and sent.
/// Every function stops at the shortest of its slices. Sealed: the module is private.
pub(crate) trait Word {
    /// The ring's width, bytes.
    const BYTES: usize;
    /// Adds to (or subtracts from) each element the word at its place.
    fn add(elements: &mut [u8], words: &[u8], sign: Sign);
    /// The same for two at once.
    fn add_two(elements: &mut [u8], words: [&[u8]; 2], sign: Sign);
    /// The two's complement of each value. The caller has checked that it fits.
    fn write(values: &[i64], elements: &mut [u8]);
    /// The values whose two's complement the elements are.
    fn read(elements: &[u8]) -> Vec<i128>;
}

macro_rules! word {
    ($marker:ident, $unsigned:ty, $signed:ty) => {
        pub(crate) struct $marker;

        impl Word for $marker {
            const BYTES: usize = size_of::<$unsigned>();
            fn add(elements: &mut [u8], words: &[u8], sign: Sign) {
                let places = elements.as_chunks_mut().0.iter_mut().zip(words.as_chunks().0);
                let number = |bytes: &[u8; Self::BYTES]| <$unsigned>::from_le_bytes(*bytes);
                match sign {
                    Sign::Plus => places.for_each(|(x, a)| *x = number(x).wrapping_add(number(a)).to_le_bytes()),
                    Sign::Minus => places.for_each(|(x, a)| *x = number(x).wrapping_sub(number(a)).to_le_bytes()),
                }
            }
            fn add_two(elements: &mut [u8], [first, second]: [&[u8]; 2], sign: Sign) {
                let words = first.as_chunks().0.iter().zip(second.as_chunks().0);
                let places = elements.as_chunks_mut().0.iter_mut().zip(words);
                let number = |bytes: &[u8; Self::BYTES]| <$unsigned>::from_le_bytes(*bytes);
                let both = |a, b| number(a).wrapping_add(number(b));
                match sign {
                    Sign::Plus => places.for_each(|(x, (a, b))| *x = number(x).wrapping_add(both(a, b)).to_le_bytes()),
                    Sign::Minus => places.for_each(|(x, (a, b))| *x = number(x).wrapping_sub(both(a, b)).to_le_bytes()),
                }
            }
            fn write(values: &[i64], elements: &mut [u8]) {
                let places = elements.as_chunks_mut().0.iter_mut().zip(values);
                places.for_each(|(place, value)| *place = (*value as $signed).to_le_bytes());
            }
            fn read(elements: &[u8]) -> Vec<i128> {
                elements.as_chunks().0.iter().map(|bytes| i128::from(<$signed>::from_le_bytes(*bytes))).collect()
            }
        }
    };
}
word!(Z32, u32, i32);
word!(Z64, u64, i64);
word!(Z128, u128, i128);

/// Puts masks on (or takes them off) one chunk after another. Its buffers hold keystream and are overwritten.
pub(crate) struct Masker<'a> {
    masks: &'a [Mask],
    counters: Vec<Block>,
    streams: [Zeroizing<Vec<Block>>; 2],
}

impl<'a> Masker<'a> {
    /// For a vector of so many elements: its chunks are not longer.
    pub(crate) fn new(masks: &'a [Mask], ring: Ring, elements: usize) -> Self {
        let blocks = (CHUNK_ELEMENTS.min(elements) * ring.bytes() as usize).div_ceil(BLOCK_BYTES);
        let stream = || Zeroizing::new(vec![[0; BLOCK_BYTES]; blocks]);
        Self { masks, counters: vec![[0; BLOCK_BYTES]; blocks], streams: [stream(), stream()] }
    }

    /// Adds all masks to one chunk: the elements from `chunk`·[`CHUNK_ELEMENTS`] on, at most so many of them.
    ///
    /// Promise: given keys that are uniform and used for this vector only, returns elements that cannot be told from
    /// uniform without the keys. Proven under the assumption that AES-256 is a pseudo-random permutation, up to
    /// q²/2^129 for each key (module text; Bellare, Desai, Jokipii, Rogaway 1997, on the counter mode).
    pub(crate) fn add<W: Word>(&mut self, chunk: u64, elements: &mut [u8]) -> Result<(), MpcError> {
        let too_long = || MpcError::Internal("a chunk is too long");
        let blocks = elements.len().div_ceil(BLOCK_BYTES);
        let counters = self.counters.get_mut(..blocks).ok_or_else(too_long)?;
        let [first, second] = &mut self.streams;
        let (first, second) =
            (first.get_mut(..blocks).ok_or_else(too_long)?, second.get_mut(..blocks).ok_or_else(too_long)?);
        // A chunk of any ring is whole blocks, and 10^8 elements are below 2^27 of them: no product overflows.
        let mut counter = chunk * (CHUNK_ELEMENTS * W::BYTES / BLOCK_BYTES) as u64;
        for block in counters.iter_mut() {
            *block = u128::from(counter).to_be_bytes();
            counter = counter.wrapping_add(1);
        }
        for sign in [Sign::Plus, Sign::Minus] {
            let mut of_sign = self.masks.iter().filter(|mask| mask.sign == sign);
            while let Some(mask) = of_sign.next() {
                mask.write(counters, first)?;
                match of_sign.next() {
                    None => W::add(elements, first.as_flattened(), sign),
                    Some(mask) => {
                        mask.write(counters, second)?;
                        W::add_two(elements, [first.as_flattened(), second.as_flattened()], sign);
                    }
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mask(key: u8, sign: Sign) -> Mask {
        Mask::new(&[key; 32], sign)
    }

    /// Adds masks to a vector of any length, chunk by chunk.
    fn add<W: Word>(masks: &[Mask], ring: Ring, elements: &mut [u8]) {
        let mut masker = Masker::new(masks, ring, elements.len() / W::BYTES);
        for (chunk, elements) in (0..).zip(elements.chunks_mut(CHUNK_ELEMENTS * W::BYTES)) {
            masker.add::<W>(chunk, elements).unwrap();
        }
    }

    fn comes_off<W: Word>(ring: Ring) {
        use Sign::{Minus, Plus};
        for len in [0, 1, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 3 * CHUNK_ELEMENTS + 5] {
            let plain: Vec<u8> = (0..len * W::BYTES).map(|i| (i * i + i / 7) as u8).collect();
            // One alone, and an odd and an even number of each sign.
            for masks in [&[(3, Plus)][..], &[(3, Plus), (4, Minus), (5, Minus), (6, Minus)], &[(3, Minus), (4, Minus)]]
            {
                let mut masked = plain.clone();
                add::<W>(&masks.iter().map(|(key, sign)| mask(*key, *sign)).collect::<Vec<_>>(), ring, &mut masked);
                assert!(len == 0 || masked != plain);
                let opposite: Vec<_> = masks.iter().rev().map(|(key, sign)| mask(*key, sign.opposite())).collect();
                add::<W>(&opposite, ring, &mut masked);
                assert!(masked == plain, "{len}");
            }
        }
    }

    #[test]
    fn what_is_put_on_comes_off_over_chunk_borders_in_every_ring() {
        comes_off::<Z32>(Ring::Z32);
        comes_off::<Z64>(Ring::Z64);
        comes_off::<Z128>(Ring::Z128);
    }

    /// Element by element, in plain arithmetic: words of all masks added, each once and with its sign.
    #[test]
    fn two_at_once_are_as_one_after_the_other() {
        let (keys, len) =
            ([(1, Sign::Plus), (2, Sign::Minus), (3, Sign::Plus), (4, Sign::Plus), (5, Sign::Minus)], 100);
        let mut together = vec![0u8; len * 4];
        add::<Z32>(&keys.map(|(key, sign)| mask(key, sign)), Ring::Z32, &mut together);
        let mut expected = vec![0u32; len];
        for (key, sign) in keys {
            let mut stream = vec![0u8; len * 4];
            add::<Z32>(&[mask(key, Sign::Plus)], Ring::Z32, &mut stream);
            for (sum, word) in expected.iter_mut().zip(stream.as_chunks().0) {
                let word = u32::from_le_bytes(*word);
                *sum = if sign == Sign::Plus { sum.wrapping_add(word) } else { sum.wrapping_sub(word) };
            }
        }
        assert!(expected.iter().flat_map(|sum| sum.to_le_bytes()).eq(together));
    }

    /// Chunk after chunk, the mask is one keystream without gaps or repetitions.
    #[test]
    fn chunks_are_pieces_of_one_keystream() {
        let mut elements = vec![0u8; (2 * CHUNK_ELEMENTS + 3) * 8];
        add::<Z64>(&[mask(7, Sign::Plus)], Ring::Z64, &mut elements);
        for (counter, found) in (0u128..).zip(elements.chunks(BLOCK_BYTES)) {
            let mut block = counter.to_be_bytes().into();
            Aes256Enc::new(&[7; 32].into()).encrypt_block(&mut block);
            assert_eq!(found, &block[..found.len()], "block {counter}");
        }
    }

    #[test]
    fn values_are_two_s_complement() {
        fn come_back<W: Word>(values: &[i64]) {
            let mut elements = vec![0; values.len() * W::BYTES];
            W::write(values, &mut elements);
            assert!(W::read(&elements).into_iter().eq(values.iter().map(|value| i128::from(*value))));
        }
        come_back::<Z32>(&[0, 1, -1, i64::from(i32::MAX), i64::from(i32::MIN)]);
        come_back::<Z64>(&[0, 1, -1, i64::MAX, i64::MIN]);
        come_back::<Z128>(&[0, 1, -1, i64::MAX, i64::MIN]);
    }

    /// FIPS 197, appendix C.3, and NIST SP 800-38A, section F.5.5: the cipher is AES-256, and a mask's blocks are its
    /// encryptions of the counters as they are written there. The counters of F.5.5 start elsewhere than ours, so its
    /// key and first counter are given to the cipher as it stands in a mask.
    #[test]
    fn agrees_with_fips_197_and_sp_800_38a() {
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        for (key, counter, expected) in [
            (
                "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f",
                "00112233445566778899aabbccddeeff",
                "8ea2b7ca516745bfeafc49904b496089",
            ),
            (
                "603deb1015ca71be2b73aef0857d77811f352c073b6108d72d9810a30914dff4",
                "f0f1f2f3f4f5f6f7f8f9fafbfcfdfeff",
                "0bdf7df1591716335e9a8b15c860c502",
            ),
        ] {
            let mut stream = [[0; BLOCK_BYTES]];
            let mask = Mask::new(&hex(key).try_into().unwrap(), Sign::Plus);
            mask.write(&[hex(counter).try_into().unwrap()], &mut stream).unwrap();
            assert_eq!(stream.as_flattened(), hex(expected), "{key}");
        }
    }

    /// A zero key and a zero counter: the first blocks that any implementation of AES-256 in counter mode gives.
    #[test]
    fn the_first_words_are_those_of_the_first_block_in_every_ring() {
        let expected = data_encoding::HEXLOWER.decode(b"dc95c078a2408989ad48a21492842087").unwrap();
        let first = |add: fn(&[Mask], Ring, &mut [u8]), ring| {
            let mut elements = vec![0; BLOCK_BYTES];
            add(&[mask(0, Sign::Plus)], ring, &mut elements);
            elements
        };
        assert_eq!(first(add::<Z32>, Ring::Z32), expected);
        assert_eq!(first(add::<Z64>, Ring::Z64), expected);
        assert_eq!(first(add::<Z128>, Ring::Z128), expected);
    }
}
