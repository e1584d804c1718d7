//! Keys: Ed25519 for signing (RFC 8032), ML-DSA-44 beside it where a signature must outlive it (FIPS 204), X25519 +
//! ML-KEM-768 for agreeing on secrets (RFC 7748, FIPS 203).
//!
//! Every key has one role; which role is a matter of the field of [`crate::RosterEntry`] it stands in. Secret keys do
//! not print, do not serialise and are overwritten when dropped; writing one to disk is said aloud
//! ([`SigningKey::to_secret_text`]).

use data_encoding::BASE64;
use ed25519_dalek::Signer as _;
use ml_kem::kem::KeyExport as _;
use ml_kem::{DecapsulationKey768, EncapsulationKey768};
use rand_core::CryptoRng;
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::Hash;

/// A text is not the key it should be. The sender (or whoever wrote the file) must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not base64, or of another length.
    #[error("not a key: expected {expected} bytes in base64")]
    Shape {
        /// How many bytes the key has.
        expected: usize,
    },
    /// The bytes are no valid point or module element.
    #[error("not a valid {0} public key")]
    Invalid(&'static str),
}

/// An Ed25519 public key, written as base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// When the bytes are no point, or a point of small order (for which signatures mean nothing).
    pub fn from_bytes(bytes: [u8; 32]) -> Result<Self, KeyError> {
        let key = ed25519_dalek::VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Invalid("Ed25519"))?;
        if key.is_weak() { Err(KeyError::Invalid("Ed25519")) } else { Ok(Self(bytes)) }
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The identifier used in DSSE signatures: a name, not a proof.
    #[must_use]
    pub fn key_id(&self) -> String {
        Hash::of_parts("cohortium/key-id/v1", &[&self.0]).to_string().chars().take(16).collect()
    }

    /// Whether `signature` over `message` was made with the secret half (strict RFC 8032 verification).
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8; 64]) -> bool {
        ed25519_dalek::VerifyingKey::from_bytes(&self.0)
            .is_ok_and(|key| key.verify_strict(message, &ed25519_dalek::Signature::from_bytes(signature)).is_ok())
    }
}

impl std::fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "PublicKey({})", self.key_id())
    }
}

impl TryFrom<String> for PublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        Self::from_bytes(decode(&text)?)
    }
}

impl From<PublicKey> for String {
    fn from(key: PublicKey) -> Self {
        BASE64.encode(&key.0)
    }
}

/// An Ed25519 secret key.
#[derive(ZeroizeOnDrop)]
pub struct SigningKey(ed25519_dalek::SigningKey);

impl SigningKey {
    /// A fresh key from the generator that is handed in.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(&mut *seed);
        Self(ed25519_dalek::SigningKey::from_bytes(&seed))
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> PublicKey {
        PublicKey(self.0.verifying_key().to_bytes())
    }

    /// Signs raw bytes. Documents are signed through [`crate::Envelope`], which separates their types.
    #[must_use]
    pub fn sign_bytes(&self, message: &[u8]) -> [u8; 64] {
        self.0.sign(message).to_bytes()
    }

    /// The secret seed itself, for signers that speak another format (the log's signed notes).
    #[must_use]
    pub fn expose_seed(&self) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(self.0.to_bytes())
    }

    /// The secret itself, for the owner's key file and for nothing else.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&*self.expose_seed()))
    }

    /// Reads what [`Self::to_secret_text`] wrote.
    ///
    /// # Errors
    /// When the text is no key.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let bytes: Zeroizing<[u8; 32]> = Zeroizing::new(decode(text)?);
        Ok(Self(ed25519_dalek::SigningKey::from_bytes(&bytes)))
    }
}

/// Bytes of an ML-DSA-44 public key (FIPS 204, table 2).
const ML_DSA_PUBLIC_BYTES: usize = 1312;

/// An ML-DSA-44 public key (FIPS 204), written as base64: a witness's second key, whose cosignatures hold against a
/// quantum computer. Every string of this length is a key.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MlDsaPublicKey(Vec<u8>);

impl MlDsaPublicKey {
    /// The public half of the key that comes from a seed.
    #[must_use]
    pub fn of_seed(seed: &[u8; 32]) -> Self {
        let secret = ml_dsa::SigningKey::<ml_dsa::MlDsa44>::from_seed(&(*seed).into());
        Self(secret.expanded_key().verifying_key().encode().to_vec())
    }

    /// The 1312 bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl std::fmt::Debug for MlDsaPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "MlDsaPublicKey({})", Hash::of(&self.0).short())
    }
}

impl TryFrom<String> for MlDsaPublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        Ok(Self(decode::<ML_DSA_PUBLIC_BYTES>(&text)?.to_vec()))
    }
}

impl From<MlDsaPublicKey> for String {
    fn from(key: MlDsaPublicKey) -> Self {
        BASE64.encode(&key.0)
    }
}

/// Bytes of an ML-KEM-768 encapsulation key (FIPS 203, table 3).
const ML_KEM_PUBLIC_BYTES: usize = 1184;

/// The public half of a hybrid key-agreement key: X25519 and ML-KEM-768, each of which must be broken.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct KemPublicKey {
    x25519: [u8; 32],
    ml_kem_768: Vec<u8>,
}

impl KemPublicKey {
    /// The X25519 half.
    #[must_use]
    pub const fn x25519(&self) -> &[u8; 32] {
        &self.x25519
    }

    /// The encoded ML-KEM-768 encapsulation key: 1184 bytes, checked when this value was made.
    #[must_use]
    pub fn ml_kem_768(&self) -> &[u8] {
        &self.ml_kem_768
    }
}

impl std::fmt::Debug for KemPublicKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "KemPublicKey({})", Hash::of_parts("", &[&self.x25519, &self.ml_kem_768]).short())
    }
}

impl TryFrom<String> for KemPublicKey {
    type Error = KeyError;
    fn try_from(text: String) -> Result<Self, KeyError> {
        let bytes: [u8; 32 + ML_KEM_PUBLIC_BYTES] = decode(&text)?;
        let (x25519, ml_kem) = bytes.split_first_chunk::<32>().ok_or(KeyError::Invalid("X25519"))?;
        let encoded = ml_kem.try_into().map_err(|_| KeyError::Invalid("ML-KEM-768"))?;
        EncapsulationKey768::new(encoded).map_err(|_| KeyError::Invalid("ML-KEM-768"))?;
        Ok(Self { x25519: *x25519, ml_kem_768: ml_kem.to_vec() })
    }
}

impl From<KemPublicKey> for String {
    fn from(key: KemPublicKey) -> Self {
        BASE64.encode(&[key.x25519.as_slice(), &key.ml_kem_768].concat())
    }
}

/// The secret half of a hybrid key-agreement key: an X25519 scalar and an ML-KEM-768 seed.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct KemSecretKey {
    x25519: [u8; 32],
    ml_kem_seed: [u8; 64],
}

impl KemSecretKey {
    /// A fresh key from the generator that is handed in.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut key = Self { x25519: [0; 32], ml_kem_seed: [0; 64] };
        rng.fill_bytes(&mut key.x25519);
        rng.fill_bytes(&mut key.ml_kem_seed);
        key
    }

    /// The public half.
    #[must_use]
    pub fn public(&self) -> KemPublicKey {
        let x25519 = x25519_dalek::PublicKey::from(&x25519_dalek::StaticSecret::from(self.x25519)).to_bytes();
        let ml_kem_768 =
            DecapsulationKey768::from_seed(self.ml_kem_seed.into()).encapsulation_key().to_bytes().to_vec();
        KemPublicKey { x25519, ml_kem_768 }
    }

    /// The X25519 scalar, for the key agreement in `mpc`.
    #[must_use]
    pub const fn x25519_secret(&self) -> &[u8; 32] {
        &self.x25519
    }

    /// The ML-KEM-768 seed, for the key agreement in `mpc`.
    #[must_use]
    pub const fn ml_kem_seed_secret(&self) -> &[u8; 64] {
        &self.ml_kem_seed
    }

    /// The secret itself, for the owner's key file and for nothing else.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(BASE64.encode(&Zeroizing::new([self.x25519.as_slice(), &self.ml_kem_seed].concat())))
    }

    /// Reads what [`Self::to_secret_text`] wrote.
    ///
    /// # Errors
    /// When the text is no key.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let bytes: Zeroizing<[u8; 96]> = Zeroizing::new(decode(text)?);
        let mut key = Self { x25519: [0; 32], ml_kem_seed: [0; 64] };
        let (x25519, seed) = bytes.split_at(32);
        key.x25519.copy_from_slice(x25519);
        key.ml_kem_seed.copy_from_slice(seed);
        Ok(key)
    }
}

/// Strict base64 of exactly `N` bytes.
fn decode<const N: usize>(text: &str) -> Result<[u8; N], KeyError> {
    let shape = KeyError::Shape { expected: N };
    let bytes = Zeroizing::new(BASE64.decode(text.as_bytes()).map_err(|_| shape.clone())?);
    bytes.as_slice().try_into().map_err(|_| shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn keys_survive_their_text_and_sign() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let key = SigningKey::generate(&mut rng);
        let again = SigningKey::from_secret_text(&key.to_secret_text()).unwrap();
        assert!(key.public().verifies(b"message", &again.sign_bytes(b"message")));
        assert!(!key.public().verifies(b"messagf", &again.sign_bytes(b"message")));
        let text: String = key.public().into();
        assert_eq!(PublicKey::try_from(text).unwrap(), key.public());
    }

    #[test]
    fn kem_keys_survive_their_text() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let key = KemSecretKey::generate(&mut rng);
        let again = KemSecretKey::from_secret_text(&key.to_secret_text()).unwrap();
        assert_eq!(key.public(), again.public());
        let text: String = key.public().into();
        assert_eq!(KemPublicKey::try_from(text.clone()).unwrap(), key.public());
        assert!(KemPublicKey::try_from(text.replacen(|_: char| true, "!", 1)).is_err());
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let mut identity = [0u8; 32];
        identity[0] = 1;
        assert_eq!(PublicKey::from_bytes(identity), Err(KeyError::Invalid("Ed25519")));
    }
}
