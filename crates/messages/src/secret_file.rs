//! The secret keys of an organisation or a researcher, and the text file that its owner keeps them in.
//!
//! The file is the only place where secrets become text. It never leaves its house; the caller writes it readable by
//! its owner alone.

use rand_core::CryptoRng;
use zeroize::Zeroizing;

use crate::{
    KemSecretKey, KeyError, MlDsaPublicKey, Name, PersonEntry, ResearcherEntry, Role, RosterEntry, SigningKey,
};

/// All secret keys of one organisation, one per role.
pub struct OrganisationSecrets {
    /// Signs agreements.
    pub agreement: SigningKey,
    /// Signs the roster entry.
    pub identity: SigningKey,
    /// Agrees on pairwise secrets.
    pub kem: KemSecretKey,
    /// Signs the node's own log.
    pub log: SigningKey,
    /// Signs the node's messages.
    pub message: SigningKey,
    /// The salt of commitments to data and the key of contribution bounding: 32 bytes that stay here.
    pub salt: Zeroizing<[u8; 32]>,
    /// Cosigns others' logs.
    pub witness: SigningKey,
    /// Cosigns others' logs a second time, with ML-DSA-44: the key's seed (FIPS 204, algorithm 6).
    pub witness_ml_dsa: Zeroizing<[u8; 32]>,
}

impl OrganisationSecrets {
    /// Fresh keys.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        let mut salt = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(&mut *salt);
        let mut witness_ml_dsa = Zeroizing::new([0u8; 32]);
        rng.fill_bytes(&mut *witness_ml_dsa);
        Self {
            agreement: SigningKey::generate(rng),
            identity: SigningKey::generate(rng),
            kem: KemSecretKey::generate(rng),
            log: SigningKey::generate(rng),
            message: SigningKey::generate(rng),
            salt,
            witness: SigningKey::generate(rng),
            witness_ml_dsa,
        }
    }

    /// The public half under `organisation`'s name.
    #[must_use]
    pub fn entry(&self, organisation: &Name) -> RosterEntry {
        RosterEntry {
            agreement_key: self.agreement.public(),
            identity_key: self.identity.public(),
            kem_key: self.kem.public(),
            log_key: self.log.public(),
            message_key: self.message.public(),
            organisation: organisation.clone(),
            witness_key: self.witness.public(),
            witness_ml_dsa_key: MlDsaPublicKey::of_seed(&self.witness_ml_dsa),
        }
    }

    /// The text of the owner's key file: one `role = "secret"` line per key.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut text =
            Zeroizing::new(String::from("# Secret keys. Whoever reads this file can act as this organisation.\n"));
        let keys = [
            ("agreement", self.agreement.to_secret_text()),
            ("identity", self.identity.to_secret_text()),
            ("kem", self.kem.to_secret_text()),
            ("log", self.log.to_secret_text()),
            ("message", self.message.to_secret_text()),
            ("salt", Zeroizing::new(data_encoding::BASE64.encode(&*self.salt))),
            ("witness", self.witness.to_secret_text()),
            ("witness_ml_dsa", Zeroizing::new(data_encoding::BASE64.encode(&*self.witness_ml_dsa))),
        ];
        for (role, secret) in keys {
            push_line(&mut text, role, &secret);
        }
        text
    }

    /// Reads what [`Self::to_secret_text`] wrote.
    ///
    /// # Errors
    /// When a role is missing or its text is no key. The operator must restore the file.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        let signing = |role| SigningKey::from_secret_text(line(text, role)?);
        Ok(Self {
            agreement: signing("agreement")?,
            identity: signing("identity")?,
            kem: KemSecretKey::from_secret_text(line(text, "kem")?)?,
            log: signing("log")?,
            message: signing("message")?,
            salt: seed(text, "salt")?,
            witness: signing("witness")?,
            witness_ml_dsa: seed(text, "witness_ml_dsa")?,
        })
    }
}

/// The secret key of one researcher.
pub struct ResearcherSecrets {
    /// Signs tasks.
    pub key: SigningKey,
}

impl ResearcherSecrets {
    /// A fresh key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self { key: SigningKey::generate(rng) }
    }

    /// The public half under the researcher's name.
    #[must_use]
    pub fn entry(&self, researcher: &Name) -> ResearcherEntry {
        ResearcherEntry { key: self.key.public(), researcher: researcher.clone() }
    }

    /// The text of the owner's key file.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut text =
            Zeroizing::new(String::from("# Secret key. Whoever reads this file can ask in this researcher's name.\n"));
        push_line(&mut text, "researcher", &self.key.to_secret_text());
        text
    }

    /// Reads what [`Self::to_secret_text`] wrote.
    ///
    /// # Errors
    /// When the key is missing or no key. The researcher must restore the file.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        Ok(Self { key: SigningKey::from_secret_text(line(text, "researcher")?)? })
    }
}

/// The secret key of one person in one role at an organisation.
pub struct PersonSecrets {
    /// Signs what the person says.
    pub key: SigningKey,
}

impl PersonSecrets {
    /// A fresh key.
    pub fn generate(rng: &mut dyn CryptoRng) -> Self {
        Self { key: SigningKey::generate(rng) }
    }

    /// The public half under the person's name and role.
    #[must_use]
    pub fn entry(&self, person: &Name, role: Role) -> PersonEntry {
        PersonEntry { key: self.key.public(), person: person.clone(), role }
    }

    /// The text of the owner's key file.
    #[must_use]
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        let mut text =
            Zeroizing::new(String::from("# Secret key. Whoever reads this file can decide in this person's name.\n"));
        push_line(&mut text, "person", &self.key.to_secret_text());
        text
    }

    /// Reads what [`Self::to_secret_text`] wrote.
    ///
    /// # Errors
    /// When the key is missing or no key. The person must restore the file.
    pub fn from_secret_text(text: &str) -> Result<Self, KeyError> {
        Ok(Self { key: SigningKey::from_secret_text(line(text, "person")?)? })
    }
}

fn push_line(text: &mut String, role: &str, secret: &str) {
    for part in [role, " = \"", secret, "\"\n"] {
        text.push_str(part);
    }
}

/// The 32 bytes that stand behind `role =`.
fn seed(text: &str, role: &str) -> Result<Zeroizing<[u8; 32]>, KeyError> {
    let wrong = || KeyError::Shape { expected: 32 };
    let bytes = data_encoding::BASE64.decode(line(text, role)?.as_bytes()).map_err(|_| wrong())?;
    let bytes = Zeroizing::new(bytes);
    Ok(Zeroizing::new(bytes.as_slice().try_into().map_err(|_| wrong())?))
}

/// The text between the quotes of the line that begins with `role =`.
fn line<'a>(text: &'a str, role: &str) -> Result<&'a str, KeyError> {
    text.lines()
        .filter_map(|line| line.split_once(" = "))
        .find(|(key, _)| *key == role)
        .and_then(|(_, value)| value.trim().strip_prefix('"')?.strip_suffix('"'))
        .ok_or(KeyError::Shape { expected: 32 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    #[test]
    fn key_files_round_trip_and_say_what_is_missing() {
        let name = Name::new("cleveland").unwrap();
        let secrets = OrganisationSecrets::generate(&mut ChaCha20Rng::from_seed([3; 32]));
        let text = secrets.to_secret_text();
        let again = OrganisationSecrets::from_secret_text(&text).unwrap();
        assert_eq!(again.entry(&name), secrets.entry(&name));
        assert_eq!((*again.salt, *again.witness_ml_dsa), (*secrets.salt, *secrets.witness_ml_dsa));
        assert!(OrganisationSecrets::from_secret_text(&text.replace("witness =", "witless =")).is_err());
        let person = PersonSecrets::generate(&mut ChaCha20Rng::from_seed([4; 32]));
        let again = PersonSecrets::from_secret_text(&person.to_secret_text()).unwrap();
        assert_eq!(again.entry(&name, Role::Steward), person.entry(&name, Role::Steward));
        assert!(ResearcherSecrets::from_secret_text(&person.to_secret_text()).is_err());
    }
}
