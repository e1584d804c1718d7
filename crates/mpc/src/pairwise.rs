//! A secret between two organisations, from two key agreements of which both must be broken.
//!
//! X25519 (RFC 7748) between the two long-term keys, and ML-KEM-768 (FIPS 203) from the member whose name sorts first
//! to the other, combined by HKDF-SHA256 over the concatenated results, with everything public in the info string
//! (Giacon, Heuer, Poettering 2018, "KEM Combiners": a combiner that hashes the ciphertexts in is as strong as the
//! stronger half). What is recorded today stays masked when X25519 falls; ML-KEM's youth costs nothing while it stands.
//!
//! Public keys come from the signed agreement, never from the hub. The ciphertext is signed by its sender.
//! No forward secrecy against theft of the long-term keys themselves: who gets the key of the member that decapsulated,
//! and has recorded the ciphertext, has every round under this agreement. Only new keys in a new agreement end that.

use cohortium_messages::{Hash, KemPublicKey, KemSecretKey, Name, PairwiseCiphertext, Verified};
use data_encoding::BASE64;
use ml_kem::kem::Decapsulate as _;
use ml_kem::{DecapsulationKey768, EncapsulationKey768};
use rand_core::CryptoRng;
use zeroize::{Zeroize as _, Zeroizing};

use crate::schedule::{self, PAIRWISE};
use crate::{Chain, MpcError};

/// Bytes of an ML-KEM-768 ciphertext (FIPS 203, table 3).
const CIPHERTEXT_BYTES: usize = 1088;

/// Makes the pairwise secret with `peer`, as the member whose name sorts first. The ciphertext goes to the peer, signed;
/// the chain stays here, and is durable before the ciphertext leaves.
///
/// Promise: given the peer's key from the signed agreement, returns a chain that only the holder of that key can
/// follow. Argued from either X25519 (gap Diffie-Hellman) or ML-KEM-768 (IND-CCA).
///
/// # Errors
/// [`MpcError::Ciphertext`] when it is the peer who has to encapsulate, [`MpcError::PeerKey`] for a key of small order.
pub fn encapsulate(
    agreement: &Hash,
    me: &Name,
    my_key: &KemSecretKey,
    peer: &Name,
    peer_key: &KemPublicKey,
    rng: &mut dyn CryptoRng,
) -> Result<(PairwiseCiphertext, Chain), MpcError> {
    if me >= peer {
        return Err(MpcError::Ciphertext { from: me.clone(), why: "the name that sorts first encapsulates" });
    }
    let wrong_key = || MpcError::PeerKey { peer: peer.clone() };
    let encoded = peer_key.ml_kem_768().try_into().map_err(|_| wrong_key())?;
    let key = EncapsulationKey768::new(encoded).map_err(|_| wrong_key())?;
    let mut message = ml_kem::B32::from(*schedule::draw(rng));
    let (ciphertext, mut shared) = key.encapsulate_deterministic(&message);
    message.as_mut_slice().zeroize();
    let post_quantum = Zeroizing::new(shared.to_vec());
    shared.as_mut_slice().zeroize();

    let classical = diffie_hellman(my_key, peer, peer_key)?;
    let my_public = my_key.public();
    let ends = [End { name: me, key: &my_public }, End { name: peer, key: peer_key }];
    let chain = combine(agreement, &classical, &post_quantum, &ends, &ciphertext)?;
    let ciphertext = BASE64.encode(&ciphertext);
    Ok((PairwiseCiphertext { agreement: *agreement, ciphertext, from: me.clone(), to: peer.clone() }, chain))
}

/// Takes the pairwise secret from `peer`'s ciphertext, as the member whose name sorts second.
///
/// The evidence must have been made with the peer's message key from the agreement.
/// A changed ciphertext that is still signed gives a chain that fits nothing (ML-KEM's implicit rejection): the first
/// round's shares do not open.
///
/// # Errors
/// [`MpcError::Ciphertext`] when it is not for this pair or not one, [`MpcError::PeerKey`] for a key of small order.
pub fn accept(
    agreement: &Hash,
    me: &Name,
    my_key: &KemSecretKey,
    peer: &Name,
    peer_key: &KemPublicKey,
    message: &Verified<PairwiseCiphertext>,
) -> Result<Chain, MpcError> {
    let refuse = |why| MpcError::Ciphertext { from: peer.clone(), why };
    if message.agreement != *agreement {
        return Err(refuse("it belongs to another agreement"));
    }
    if message.from != *peer || message.to != *me {
        return Err(refuse("it is between others"));
    }
    if peer >= me {
        return Err(refuse("the name that sorts first encapsulates"));
    }
    if message.ciphertext.len() > BASE64.encode_len(CIPHERTEXT_BYTES) {
        return Err(refuse("it is not 1088 bytes in base64"));
    }
    let bytes = BASE64.decode(message.ciphertext.as_bytes()).map_err(|_| refuse("it is not 1088 bytes in base64"))?;
    let ciphertext = bytes.as_slice().try_into().map_err(|_| refuse("it is not 1088 bytes in base64"))?;
    let mut seed = ml_kem::Seed::from(*my_key.ml_kem_seed_secret());
    let key = DecapsulationKey768::from_seed(seed);
    seed.as_mut_slice().zeroize();
    let mut shared = key.decapsulate(ciphertext);
    let post_quantum = Zeroizing::new(shared.to_vec());
    shared.as_mut_slice().zeroize();

    let classical = diffie_hellman(my_key, peer, peer_key)?;
    let my_public = my_key.public();
    let ends = [End { name: peer, key: peer_key }, End { name: me, key: &my_public }];
    combine(agreement, &classical, &post_quantum, &ends, &bytes)
}

/// One end of the pair, in the order in which it is hashed: the encapsulating end first.
struct End<'a> {
    name: &'a Name,
    key: &'a KemPublicKey,
}

/// X25519 between the two long-term keys. A peer key of small order would give zero whatever our key is: refused.
fn diffie_hellman(
    my_key: &KemSecretKey,
    peer: &Name,
    peer_key: &KemPublicKey,
) -> Result<Zeroizing<[u8; 32]>, MpcError> {
    let secret = x25519_dalek::StaticSecret::from(*my_key.x25519_secret());
    let shared = secret.diffie_hellman(&x25519_dalek::PublicKey::from(*peer_key.x25519()));
    if shared.was_contributory() {
        Ok(Zeroizing::new(shared.to_bytes()))
    } else {
        Err(MpcError::PeerKey { peer: peer.clone() })
    }
}

fn combine(
    agreement: &Hash,
    classical: &[u8; 32],
    post_quantum: &[u8],
    [first, second]: &[End<'_>; 2],
    ciphertext: &[u8],
) -> Result<Chain, MpcError> {
    let secret = Zeroizing::new([classical, post_quantum].concat());
    let parts: [&[u8]; 8] = [
        agreement.as_bytes(),
        first.name.as_str().as_bytes(),
        second.name.as_str().as_bytes(),
        first.key.x25519(),
        first.key.ml_kem_768(),
        second.key.x25519(),
        second.key.ml_kem_768(),
        ciphertext,
    ];
    Ok(Chain::new(&schedule::extract(PAIRWISE, &secret, &parts)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use cohortium_messages::{Envelope, SigningKey};
    use rand_core::SeedableRng as _;

    struct Pair {
        agreement: Hash,
        alice: (Name, KemSecretKey, SigningKey),
        bob: (Name, KemSecretKey, SigningKey),
        rng: ChaCha20Rng,
    }

    fn pair() -> Pair {
        let mut rng = ChaCha20Rng::from_seed([9; 32]);
        let mut party =
            |name: &str| (Name::new(name).unwrap(), KemSecretKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let (alice, bob) = (party("alice"), party("bob"));
        Pair { agreement: Hash::of(b"agreement"), alice, bob, rng }
    }

    /// What is wrong with a ciphertext, and how to make it so.
    type Defect = (&'static str, fn(&mut PairwiseCiphertext));

    fn signed(message: &PairwiseCiphertext, key: &SigningKey) -> Verified<PairwiseCiphertext> {
        Envelope::sign(message, key).unwrap().open(&key.public()).unwrap()
    }

    #[test]
    fn both_ends_get_the_same_chain_and_each_change_another_or_a_refusal() {
        let Pair { agreement, alice: (alice, alice_key, signing), bob: (bob, bob_key, _), mut rng } = pair();
        let (message, ours) = encapsulate(&agreement, &alice, &alice_key, &bob, &bob_key.public(), &mut rng).unwrap();
        let take = |agreement: &Hash, message: &PairwiseCiphertext| {
            accept(agreement, &bob, &bob_key, &alice, &alice_key.public(), &signed(message, &signing))
        };
        assert!(*take(&agreement, &message).unwrap().to_secret_bytes() == *ours.to_secret_bytes());

        let cases: [Defect; 5] = [
            ("other_agreement", |m| m.agreement = Hash::of(b"other")),
            ("other_sender", |m| m.from = Name::new("aaron").unwrap()),
            ("other_receiver", |m| m.to = Name::new("carol").unwrap()),
            ("short", |m| m.ciphertext.truncate(1000)),
            ("not_base64", |m| m.ciphertext.replace_range(0..1, "!")),
        ];
        for (defect, edit) in cases {
            let mut bad = message.clone();
            edit(&mut bad);
            assert!(matches!(take(&agreement, &bad), Err(MpcError::Ciphertext { .. })), "{defect}");
        }
        let mut flipped = message.clone();
        let first = if message.ciphertext.starts_with('A') { "B" } else { "A" };
        flipped.ciphertext.replace_range(0..1, first);
        assert!(*take(&agreement, &flipped).unwrap().to_secret_bytes() != *ours.to_secret_bytes());
    }

    #[test]
    fn the_wrong_end_may_not_encapsulate() {
        let Pair { agreement, alice: (alice, alice_key, _), bob: (bob, bob_key, _), mut rng } = pair();
        let result = encapsulate(&agreement, &bob, &bob_key, &alice, &alice_key.public(), &mut rng);
        assert!(matches!(result, Err(MpcError::Ciphertext { .. })));
    }

    #[test]
    fn a_public_key_of_small_order_is_refused() {
        let Pair { agreement, alice: (alice, alice_key, _), bob: (bob, bob_key, _), mut rng } = pair();
        let text: String = bob_key.public().into();
        let mut bytes = BASE64.decode(text.as_bytes()).unwrap();
        bytes[..32].fill(0);
        let weak = KemPublicKey::try_from(BASE64.encode(&bytes)).unwrap();
        let result = encapsulate(&agreement, &alice, &alice_key, &bob, &weak, &mut rng);
        assert_eq!(result.err(), Some(MpcError::PeerKey { peer: bob }));
    }
}
