//! ML-DSA-44 (FIPS 204, 2024), as cosignatures use it: keys from 32-byte seeds, the deterministic variant, an empty context.
//!
//! Why this exists. A log's evidence must hold for as long as an agreement is disputed, which is longer than Ed25519 may
//! last. The crate `ml-dsa` has no independent audit; so an ML-DSA key never stands alone here but beside an Ed25519 key
//! of the same witness, and both must have signed ([`crate::LogPolicy::of_members`]). A flaw in this file's dependency then
//! leaves what Ed25519 gives.
//!
//! Deterministic, because this crate has no randomness, and because asking again gives the same bytes. What that costs: a
//! fault during signing could give the key away (FIPS 204, section 3.4), so a signature is verified before it leaves.
//!
//! What it does not do: it cannot overwrite what the dependency leaves on the stack while it expands a seed.
//!
//! Adversary: whoever sends keys and signatures. Every 1,312 bytes are a key. A signature has one encoding: FIPS 204's
//! decoder refuses others, and what was decoded must encode to the same bytes.

use std::fmt;

use data_encoding::HEXLOWER;
use ml_dsa::{MlDsa44, Signature, Signer as _, SigningKey, Verifier as _, VerifyingKey};

/// Bytes of a public key (FIPS 204, table 2).
pub(crate) const PUBLIC_KEY_BYTES: usize = 1312;

/// Bytes of a signature (FIPS 204, table 2).
pub(crate) const SIGNATURE_BYTES: usize = 2420;

/// A public key, with the matrix that verifying needs already expanded (16 KiB: shared, not copied).
pub(crate) struct PublicKey {
    bytes: [u8; PUBLIC_KEY_BYTES],
    key: VerifyingKey<MlDsa44>,
}

impl fmt::Debug for PublicKey {
    /// The first bytes: the key has thousands of numbers, and a failed assertion would print them all.
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "ML-DSA-44 {}…", HEXLOWER.encode(self.bytes.first_chunk::<8>().map_or(&[], |first| first)))
    }
}

impl PublicKey {
    /// The key with these bytes; `None` if there are not 1,312.
    pub(crate) fn new(bytes: &[u8]) -> Option<PublicKey> {
        let bytes: [u8; PUBLIC_KEY_BYTES] = bytes.try_into().ok()?;
        Some(PublicKey { bytes, key: VerifyingKey::decode((&bytes).into()) })
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Whether these bytes are this key's signature over the message.
    pub(crate) fn has_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let decoded = Signature::<MlDsa44>::try_from(signature).ok();
        let decoded = decoded.filter(|decoded| decoded.encode().as_slice() == signature);
        decoded.is_some_and(|decoded| self.key.verify(message, &decoded).is_ok())
    }
}

/// A private key. The dependency overwrites it when it is dropped.
pub(crate) struct SecretKey(SigningKey<MlDsa44>);

impl SecretKey {
    pub(crate) fn from_seed(seed: &[u8; 32]) -> SecretKey {
        SecretKey(SigningKey::from_seed(seed.into()))
    }

    pub(crate) fn public_key_bytes(&self) -> Vec<u8> {
        let key: &VerifyingKey<MlDsa44> = self.0.as_ref();
        key.encode().to_vec()
    }

    /// Signs; `None` when no signature was found in as many attempts as the standard foresees (never, in practice) or
    /// when the one found does not verify: a fault.
    pub(crate) fn sign(&self, message: &[u8]) -> Option<Vec<u8>> {
        let signature = self.0.try_sign(message).ok()?;
        let key: &VerifyingKey<MlDsa44> = self.0.as_ref();
        key.verify(message, &signature).ok()?;
        Some(signature.encode().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};
    use shake::Shake128;
    use shake::digest::{ExtendableOutput as _, Update as _, XofReader as _};

    use super::*;

    /// C2SP Wycheproof, `mldsa_44_sign_seed_test`, tests 1 and 6: seed, message, and SHA-256 of public key and signature.
    #[test]
    fn keys_and_signatures_are_those_of_wycheproof() {
        let mut five = [0; 32];
        five[0] = 5;
        let public_key = "d87f8ca136ac1aa55e2d6c4521680efb3a378cbb9bc0bfb446e9c60893931ea3";
        let cases: [(&[u8], &str); 2] = [
            (b"Hello world", "8cd6fc03daa72e87210a4e721523e84c14f27733789075e65736744d4787fdd5"),
            (&five, "abbc313b9c81e6a372a5a3502fc329ef278a2b34df1308194e005048581957d7"),
        ];
        let secret = SecretKey::from_seed(&[0x2a; 32]);
        assert_eq!(HEXLOWER.encode(&Sha256::digest(secret.public_key_bytes())), public_key);
        for (message, expected) in cases {
            assert_eq!(HEXLOWER.encode(&Sha256::digest(secret.sign(message).unwrap())), expected);
        }
    }

    /// C2SP CCTV, "accumulated ML-DSA tests", 100 iterations: a hash over the public keys and deterministic signatures that
    /// a hundred seeds make.
    #[test]
    fn a_hundred_keys_and_signatures_are_those_of_cctv() {
        let (mut seeds, mut found) = (Shake128::default().finalize_xof(), Shake128::default());
        for _ in 0..100 {
            let mut seed = [0; 32];
            seeds.read(&mut seed);
            let secret = SecretKey::from_seed(&seed);
            let public = PublicKey::new(&secret.public_key_bytes()).unwrap();
            found.update(public.as_bytes());
            let signature = secret.sign(b"").unwrap();
            found.update(&signature);
            assert!(public.has_signed(b"", &signature));
        }
        let mut hash = [0; 32];
        found.finalize_xof().read(&mut hash);
        assert_eq!(HEXLOWER.encode(&hash), "d51148e1f9f4fa1a723a6cf42e25f2a99eb5c1b378b3d2dbbd561b1203beeae4");
    }

    /// Each byte of a signature counts, and bytes that nobody signed are refused without a panic; the dependency's
    /// arithmetic is compiled with overflow checks here as everywhere.
    #[test]
    fn what_was_not_signed_is_refused() {
        let secret = SecretKey::from_seed(&[7; 32]);
        let public = PublicKey::new(&secret.public_key_bytes()).unwrap();
        let signature = secret.sign(b"message").unwrap();
        assert_eq!(secret.sign(b"message").unwrap(), signature, "the same bytes when asked again");
        assert!(public.has_signed(b"message", &signature) && !public.has_signed(b"massage", &signature));
        for position in (0..SIGNATURE_BYTES).step_by(7).chain(SIGNATURE_BYTES - 84..SIGNATURE_BYTES) {
            let mut changed = signature.clone();
            changed[position] ^= 1;
            assert!(!public.has_signed(b"message", &changed), "byte {position}");
        }
        for (length, fill) in [(0, 0), (2419, 0), (2421, 0), (2420, 0), (2420, 255), (2420, 128)] {
            assert!(!public.has_signed(b"message", &vec![fill; length]), "{length} bytes of {fill}");
        }
        let mut noise = Shake128::default().finalize_xof();
        for round in 0..50 {
            let (mut key, mut bytes) = (vec![0; PUBLIC_KEY_BYTES], vec![0; SIGNATURE_BYTES]);
            noise.read(&mut key);
            noise.read(&mut bytes);
            // A hint that decodes, so that the rest of the verifier runs too: no ones, as FIPS 204 writes that.
            bytes[SIGNATURE_BYTES - 84..].fill(0);
            assert!(!PublicKey::new(&key).unwrap().has_signed(b"message", &bytes), "round {round}");
        }
        assert!(PublicKey::new(&[0; PUBLIC_KEY_BYTES - 1]).is_none());
    }
}
