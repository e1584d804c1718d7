//! Who acts for this house: the entries that its people signed for themselves, as its operator took them in.
//!
//! A person makes a key in a folder of their own and hands over the public half. The operator compares the fingerprint and
//! takes it in here; from here it goes to the hub as one signed list, so that agreements can name these people.
//!
//! Does not: give anybody a right. What a person may do is said by an agreement that names them, and by nothing here.

use std::path::PathBuf;

use cohortium_messages::{Envelope, Name, PersonEntry, Staff};
use cohortium_store::{make_private_folder, write_private};

use crate::home::Home;
use crate::node::{NodeError, own, peer};

/// The most people of a house: what an agreement takes of one party.
const MAX_PEOPLE: usize = 100;
/// The longest file of a person's entry, bytes: an envelope around [`PersonEntry`]'s limit.
const MAX_FILE_BYTES: u64 = 4096;

/// What became of an entry that was taken in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakenIn {
    /// It is new here.
    New,
    /// It was here before, in the same words.
    Known,
    /// It stands in the place of another of that name.
    Replaced,
}

impl Home {
    /// Everybody who acts for this house, by name.
    ///
    /// # Errors
    /// When a file cannot be read, or is no entry that its person signed.
    pub fn people(&self) -> Result<Vec<PersonEntry>, NodeError> {
        let folder = self.people_folder();
        let entries = match std::fs::read_dir(&folder) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.map_err(own)?,
        };
        let mut people = Vec::new();
        for entry in entries {
            let path = entry.map_err(own)?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let wrong = |why: String| own(format!("{}: {why}", path.display()));
                if std::fs::metadata(&path).map_err(own)?.len() > MAX_FILE_BYTES {
                    return Err(wrong(format!("it has more than {MAX_FILE_BYTES} bytes")));
                }
                let envelope = serde_json::from_slice(&std::fs::read(&path).map_err(own)?);
                let envelope = envelope.map_err(|error| wrong(error.to_string()))?;
                people.push(open_person(&envelope).map_err(|error| wrong(error.to_string()))?);
            }
        }
        people.sort_by(|a, b| a.person.cmp(&b.person));
        Ok(people)
    }

    /// Takes a person's own entry in. Another key or role under a name that is known here needs `replace`.
    ///
    /// # Errors
    /// [`NodeError::Peer`] when whoever brings the entry must act, [`NodeError::Own`] when it cannot be kept.
    pub fn put_person(&self, envelope: &Envelope, replace: bool) -> Result<(PersonEntry, TakenIn), NodeError> {
        let entry = open_person(envelope)?;
        let people = self.people()?;
        let taken = match people.iter().find(|known| known.person == entry.person) {
            Some(known) if *known == entry => TakenIn::Known,
            Some(_) if !replace => {
                return Err(peer(format!(
                    "{} is known here with another key or role: --replace puts this one in its place",
                    entry.person
                )));
            }
            Some(_) => TakenIn::Replaced,
            None => TakenIn::New,
        };
        if let Some(other) = people.iter().find(|known| known.key == entry.key && known.person != entry.person) {
            return Err(peer(format!("this is the key of {}: everybody needs a key of their own", other.person)));
        }
        if taken == TakenIn::New && people.len() >= MAX_PEOPLE {
            return Err(peer(format!("there are {MAX_PEOPLE} people here, and an agreement takes no more")));
        }
        make_private_folder(&self.people_folder()).map_err(own)?;
        let path = self.people_folder().join(format!("{}.json", entry.person));
        if taken != TakenIn::Known {
            write_private(&path, &serde_json::to_vec_pretty(envelope).map_err(own)?).map_err(own)?;
        }
        Ok((entry, taken))
    }

    /// The whole list, signed by this house, as the hub takes it.
    ///
    /// # Errors
    /// When the list or the keys cannot be read.
    pub fn staff(&self, organisation: &Name) -> Result<Envelope, NodeError> {
        let staff = Staff { organisation: organisation.clone(), people: self.people()? };
        Envelope::sign(&staff, &self.secrets()?.message).map_err(own)
    }

    fn people_folder(&self) -> PathBuf {
        self.dir().join("people")
    }
}

/// The entry, if it is signed with the key that it names.
fn open_person(envelope: &Envelope) -> Result<PersonEntry, NodeError> {
    let claims = envelope.peek::<PersonEntry>().map_err(peer)?;
    Ok(envelope.open::<PersonEntry>(&claims.claims().key).map_err(peer)?.into_inner())
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{PersonSecrets, Role};

    use super::*;
    use crate::service::system_rng;

    fn signed(secrets: &PersonSecrets, name: &str, role: Role) -> Envelope {
        Envelope::sign(&secrets.entry(&Name::new(name).unwrap(), role), &secrets.key).unwrap()
    }

    #[test]
    fn people_are_taken_in_once_and_replaced_only_when_that_is_said() {
        let dir = std::env::temp_dir().join(format!("cohortium-people-{}", std::process::id()));
        let home = Home::new(&dir);
        let [first, second, third] = [(); 3].map(|()| PersonSecrets::generate(&mut system_rng()));
        assert_eq!(home.people().unwrap(), []);
        let stella = signed(&first, "stella", Role::Steward);
        assert_eq!(home.put_person(&stella, false).unwrap().1, TakenIn::New);
        assert_eq!(home.put_person(&stella, false).unwrap().1, TakenIn::Known);
        for other in [signed(&second, "stella", Role::Steward), signed(&first, "stella", Role::PrivacyOfficer)] {
            assert!(home.put_person(&other, false).unwrap_err().to_string().contains("another key or role"));
        }
        let two_names = home.put_person(&signed(&first, "paula", Role::PrivacyOfficer), false);
        assert!(two_names.unwrap_err().to_string().contains("the key of stella"));
        let replaced = signed(&second, "stella", Role::Steward);
        assert_eq!(home.put_person(&replaced, true).unwrap().1, TakenIn::Replaced);
        assert_eq!(home.people().unwrap(), [open_person(&replaced).unwrap()]);
        // Signed by another than the key that it names.
        let claimed = open_person(&signed(&third, "olaf", Role::Operator)).unwrap();
        assert!(home.put_person(&Envelope::sign(&claimed, &first.key).unwrap(), false).is_err());
        assert_eq!(home.people().unwrap().len(), 1);
        std::fs::remove_dir_all(dir).unwrap();
    }
}
