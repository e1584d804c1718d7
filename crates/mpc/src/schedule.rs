//! The key schedule: every key, associated datum and commitment of the protocol is made by the few functions here.
//!
//! HKDF with SHA-256 (RFC 5869), ChaCha20-Poly1305 (RFC 8439). Inputs are framed: each part is preceded by its length
//! as eight big-endian bytes, the label first, so that no two uses and no two lists of parts look alike.
//!
//! Zero nonces: each sealing key comes out of this schedule for one message (one round, one direction, one purpose) or
//! is fresh random (the deposit key), so (key, nonce) never repeats as long as the owner's ratchet does not go back.

use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use cohortium_messages::{Hash, Name};
use data_encoding::BASE64;
use hkdf::Hkdf;
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::MpcError;

/// A 32-byte key that is overwritten when dropped.
pub(crate) type Key = Zeroizing<[u8; 32]>;

/// Bytes that ChaCha20-Poly1305 adds to what it seals.
const TAG_BYTES: usize = 16;

pub(crate) const PAIRWISE: &str = "cohortium/secure-sum/v3/pairwise";
pub(crate) const CHAIN_STEP: &str = "cohortium/secure-sum/v3/chain-step";
pub(crate) const ROUND_KEY: &str = "cohortium/secure-sum/v3/round-key";
const MASK_KEY: &str = "cohortium/secure-sum/v3/mask-key";
const SEAL_KEY: &str = "cohortium/secure-sum/v3/seal-key";
const SELF_MASK_KEY: &str = "cohortium/secure-sum/v3/self-mask-key";
pub(crate) const SHARES_AAD: &str = "cohortium/secure-sum/v3/shares";
pub(crate) const DEPOSIT_AAD: &str = "cohortium/secure-sum/v3/deposit";
const SELF_MASK_COMMITMENT: &str = "cohortium/secure-sum/v3/self-mask-commitment";
const DEPOSIT_KEY_COMMITMENT: &str = "cohortium/secure-sum/v3/deposit-key-commitment";
const MASK_KEY_COMMITMENT: &str = "cohortium/secure-sum/v3/mask-key-commitment";
const EXCESS_COMMITMENT: &str = "cohortium/secure-sum/v3/excess-commitment";

/// HKDF-Extract over `secret`, then Expand to one key.
pub(crate) fn extract(label: &str, secret: &[u8], parts: &[&[u8]]) -> Result<Key, MpcError> {
    expand(&Hkdf::<Sha256>::new(Some(label.as_bytes()), secret), label, parts)
}

/// HKDF-Expand from a key that is already uniform.
pub(crate) fn derive(key: &[u8; 32], label: &str, parts: &[&[u8]]) -> Result<Key, MpcError> {
    let hkdf = Hkdf::<Sha256>::from_prk(key).map_err(|_| MpcError::Internal("HKDF refused a 32-byte key"))?;
    expand(&hkdf, label, parts)
}

/// The key of the pairwise mask of one round: the same on both sides.
pub(crate) fn mask_key(round: &[u8; 32], context: &Hash, one: &Name, other: &Name) -> Result<Key, MpcError> {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    derive(round, MASK_KEY, &[context.as_bytes(), low.as_str().as_bytes(), high.as_str().as_bytes()])
}

/// The key under which `from` seals its shares for `to` in one round.
pub(crate) fn seal_key(round: &[u8; 32], context: &Hash, from: &Name, to: &Name) -> Result<Key, MpcError> {
    derive(round, SEAL_KEY, &[context.as_bytes(), from.as_str().as_bytes(), to.as_str().as_bytes()])
}

/// The keystream key of a member's self-mask, from the seed that is shared.
pub(crate) fn self_mask_key(seed: &[u8; 32], context: &Hash, of: &Name) -> Result<Key, MpcError> {
    derive(seed, SELF_MASK_KEY, &[context.as_bytes(), of.as_str().as_bytes()])
}

/// Commitment to a self-mask seed. Hiding because the seed is uniform, binding because SHA-256 is collision-resistant.
pub(crate) fn self_mask_commitment(context: &Hash, of: &Name, seed: &[u8; 32]) -> Hash {
    Hash::of_parts(SELF_MASK_COMMITMENT, &[context.as_bytes(), of.as_str().as_bytes(), seed])
}

/// Commitment to a deposit key.
pub(crate) fn deposit_key_commitment(context: &Hash, of: &Name, key: &[u8; 32]) -> Hash {
    Hash::of_parts(DEPOSIT_KEY_COMMITMENT, &[context.as_bytes(), of.as_str().as_bytes(), key])
}

/// Commitment to the mask key of a pair: the same on both sides. Hiding because the key is uniform and SHA-256 of a
/// framed, labelled input says nothing about an AES-256 keystream under it (argued, SHA-256 as a random oracle).
pub(crate) fn mask_key_commitment(context: &Hash, one: &Name, other: &Name, key: &[u8; 32]) -> Hash {
    let (low, high) = if one < other { (one, other) } else { (other, one) };
    let parts: [&[u8]; 4] = [context.as_bytes(), low.as_str().as_bytes(), high.as_str().as_bytes(), key];
    Hash::of_parts(MASK_KEY_COMMITMENT, &parts)
}

/// Commitment to the seed of one noise component.
pub(crate) fn excess_commitment(context: &Hash, of: &Name, component: u32, seed: &[u8; 32]) -> Hash {
    let parts: [&[u8]; 4] = [context.as_bytes(), of.as_str().as_bytes(), &component.to_be_bytes(), seed];
    Hash::of_parts(EXCESS_COMMITMENT, &parts)
}

/// Seals `plaintext` under a key that is used for nothing else; base64.
pub(crate) fn seal(key: &[u8; 32], label: &str, parts: &[&[u8]], plaintext: &[u8]) -> Result<String, MpcError> {
    let payload = Payload { msg: plaintext, aad: &frame(label, parts) };
    let sealed = ChaCha20Poly1305::new(key.into()).encrypt(&Nonce::default(), payload);
    Ok(BASE64.encode(&sealed.map_err(|_| MpcError::Internal("ChaCha20-Poly1305 refused a short message"))?))
}

/// Opens what [`seal`] made, when it is exactly `len` bytes and was made with the same key and parts.
pub(crate) fn open(
    key: &[u8; 32],
    label: &str,
    parts: &[&[u8]],
    sealed: &str,
    len: usize,
) -> Option<Zeroizing<Vec<u8>>> {
    let sealed = sealed_bytes(sealed, len)?;
    let payload = Payload { msg: &sealed, aad: &frame(label, parts) };
    ChaCha20Poly1305::new(key.into()).decrypt(&Nonce::default(), payload).ok().map(Zeroizing::new)
}

/// The bytes of something sealed, when they have the length of `len` sealed bytes.
pub(crate) fn sealed_bytes(sealed: &str, len: usize) -> Option<Vec<u8>> {
    if sealed.len() > BASE64.encode_len(len + TAG_BYTES) {
        return None;
    }
    BASE64.decode(sealed.as_bytes()).ok().filter(|bytes| bytes.len() == len + TAG_BYTES)
}

/// A fresh uniform key.
pub(crate) fn draw(rng: &mut dyn rand_core::CryptoRng) -> Key {
    let mut key = Zeroizing::new([0; 32]);
    rng.fill_bytes(&mut *key);
    key
}

fn expand(hkdf: &Hkdf<Sha256>, label: &str, parts: &[&[u8]]) -> Result<Key, MpcError> {
    let mut key = Zeroizing::new([0; 32]);
    hkdf.expand(&frame(label, parts), &mut *key).map_err(|_| MpcError::Internal("HKDF refused 32 bytes of output"))?;
    Ok(key)
}

/// Label and parts, each preceded by its length. Public values only.
fn frame(label: &str, parts: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in std::iter::once(&label.as_bytes()).chain(parts) {
        bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
        bytes.extend_from_slice(part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealed_opens_only_as_it_was_sealed() {
        let parts: [&[u8]; 2] = [b"a", b"b"];
        let sealed = seal(&[1; 32], "label", &parts, b"secret").unwrap();
        assert_eq!(open(&[1; 32], "label", &parts, &sealed, 6).unwrap().as_slice(), b"secret");
        assert!(open(&[2; 32], "label", &parts, &sealed, 6).is_none(), "other key");
        assert!(open(&[1; 32], "labem", &parts, &sealed, 6).is_none(), "other label");
        assert!(open(&[1; 32], "label", &[b"ab", b""], &sealed, 6).is_none(), "parts moved");
        assert!(open(&[1; 32], "label", &parts, &sealed, 7).is_none(), "other length");
        assert!(open(&[1; 32], "label", &parts, &sealed.replace('=', "!"), 6).is_none(), "not base64");
        for position in 0..sealed.len() {
            let mut bytes = sealed.clone().into_bytes();
            bytes[position] = if bytes[position] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(open(&[1; 32], "label", &parts, &changed, 6).is_none(), "character {position} changed");
        }
    }
}
