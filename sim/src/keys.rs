//! Every key and every generator of the world, derived from its one seed.
//!
//! Keys of secrets cannot be cloned, on purpose; whoever needs one again (a restarted machine, a copied world, a test
//! that plays a dishonest member) derives it again. Nothing here is secret: the seed is printed by every test.

use chacha20::ChaCha20Rng;
use cohortium_messages::{Hash, OrganisationSecrets, PersonSecrets, ResearcherSecrets, SigningKey};
use rand_core::SeedableRng as _;

/// The generator of `whose` in the world of `seed`, from its beginning.
#[must_use]
pub fn generator(seed: u64, whose: &str) -> ChaCha20Rng {
    let hash = Hash::of_parts("cohortium/sim/v1", &[&seed.to_be_bytes(), whose.as_bytes()]);
    ChaCha20Rng::from_seed(*hash.as_bytes())
}

/// The keys of an organisation.
#[must_use]
pub fn organisation(seed: u64, name: &str) -> OrganisationSecrets {
    OrganisationSecrets::generate(&mut generator(seed, &format!("keys of organisation {name}")))
}

/// The key of a person who acts for an organisation.
#[must_use]
pub fn person(seed: u64, organisation: &str, name: &str) -> PersonSecrets {
    PersonSecrets::generate(&mut generator(seed, &format!("keys of {name} of {organisation}")))
}

/// The key of a researcher.
#[must_use]
pub fn researcher(seed: u64, name: &str) -> ResearcherSecrets {
    ResearcherSecrets::generate(&mut generator(seed, &format!("keys of researcher {name}")))
}

/// The hub's keys: the one that signs its log, and the one that signs its messages.
#[must_use]
pub fn hub(seed: u64) -> (SigningKey, SigningKey) {
    let mut rng = generator(seed, "keys of the hub");
    (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng))
}

/// A generator that goes on where this one stands.
pub(crate) fn copy(rng: &ChaCha20Rng) -> ChaCha20Rng {
    ChaCha20Rng::deserialize_state(&rng.serialize_state())
}
