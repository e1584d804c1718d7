//! Masks: a ChaCha20 keystream (RFC 8439) added to or subtracted from a vector in Z_2^64.
//!
//! Nonce and counter start at zero: every key is used for one vector of one round. The keystream is read as
//! consecutive little-endian 64-bit words, one for each element. Work goes in chunks that stay in the first cache.
//! A vector of the longest length, 2^20 elements, uses 2^17 of the 2^32 blocks that one key has.

use chacha20::ChaCha20;
use chacha20::cipher::{KeyIvInit as _, StreamCipher as _};
use zeroize::Zeroizing;

use crate::MpcError;

/// Elements that are masked at a time: 32 KiB of keystream.
const CHUNK_ELEMENTS: usize = 4096;

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

/// Adds the keystream of `key` to `values` (or subtracts it), modulo 2^64.
///
/// Promise: given a key that is uniform and used for this vector only, returns a vector that cannot be told from
/// uniform without the key. Proven under the assumption that ChaCha20 is a pseudo-random generator.
pub(crate) fn add_keystream(key: &[u8; 32], values: &mut [u64], sign: Sign) -> Result<(), MpcError> {
    let mut cipher = ChaCha20::new(key.into(), &[0; 12].into());
    let mut stream = Zeroizing::new(vec![0u8; 8 * CHUNK_ELEMENTS.min(values.len())]);
    for chunk in values.chunks_mut(CHUNK_ELEMENTS) {
        let (words, _) = stream.as_chunks_mut::<8>();
        let words = words.get_mut(..chunk.len()).ok_or(MpcError::Internal("keystream chunk"))?;
        words.as_flattened_mut().fill(0);
        let drawn = cipher.try_apply_keystream(words.as_flattened_mut());
        drawn.map_err(|_| MpcError::Internal("the keystream is used up"))?;
        for (value, word) in chunk.iter_mut().zip(words) {
            let word = u64::from_le_bytes(*word);
            *value = match sign {
                Sign::Plus => value.wrapping_add(word),
                Sign::Minus => value.wrapping_sub(word),
            };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_on_comes_off_over_chunk_borders() {
        for len in [0, 1, CHUNK_ELEMENTS - 1, CHUNK_ELEMENTS, CHUNK_ELEMENTS + 1, 3 * CHUNK_ELEMENTS + 5] {
            let plain: Vec<u64> = (0..len as u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
            let mut masked = plain.clone();
            add_keystream(&[3; 32], &mut masked, Sign::Plus).unwrap();
            assert!(len == 0 || masked != plain);
            add_keystream(&[3; 32], &mut masked, Sign::Plus.opposite()).unwrap();
            assert_eq!(masked, plain);
        }
    }

    /// RFC 8439, appendix A.1, test vector 1: zero key, zero nonce, counter 0.
    #[test]
    fn agrees_with_rfc_8439() {
        let mut values = vec![0u64; 2];
        add_keystream(&[0; 32], &mut values, Sign::Plus).unwrap();
        assert_eq!(values[0].to_le_bytes(), [0x76, 0xb8, 0xe0, 0xad, 0xa0, 0xf1, 0x3d, 0x90]);
        assert_eq!(values[1].to_le_bytes(), [0x40, 0x5d, 0x6a, 0xe5, 0x53, 0x86, 0xbd, 0x28]);
    }
}
