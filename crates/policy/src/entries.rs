//! Log entries whose author has been checked, and what people and custodians said in them.
//!
//! An entry counts only with the signature of the key that the agreement states for its author, and only if such an
//! author may say such a thing: a person approves, a custodian revokes, a node permits. [`open_entry`] is the one place
//! where this is decided; node, hub and auditor stand on it.
//!
//! What a custodian took back is [`Revoked`], what a word means for whether a study stands still at an organisation is
//! [`Stop`]. Both follow from the entries that are known *now*: what nobody showed us cannot be taken into account.
//!
//! Does not: check that an entry is in the log ([`crate::verify_inclusion`]), or that its time is true.
//!
//! Assumes: whoever relays entries is hostile and may withhold them; authors may lie in everything but their keys.

use std::collections::BTreeSet;

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, EnvelopeError, Fact, Hash, Name, PersonEntry, PublicKey, RevocationSubject,
    Unverified, Verified,
};

/// A log entry whose signature was checked with the key that the agreement states for its author, who may say such a
/// thing. Made by [`open_entry`] alone.
#[derive(Debug, Clone)]
pub struct Authored {
    entry: Verified<Entry>,
    key: PublicKey,
}

/// Why an entry is not believed. Whoever shows it must act.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A wrong signature, shape or size.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// An author whom the agreement does not know.
    #[error("the agreement of study `{study}` does not know the author of this {kind}: {author}")]
    Author {
        /// Who claims to speak.
        author: String,
        /// The kind of entry.
        kind: &'static str,
        /// Which study.
        study: Name,
    },
    /// An author who may not say such a thing.
    #[error("{author} cannot be the author of an entry of kind {kind}")]
    Kind {
        /// Who claims to speak.
        author: String,
        /// The kind of entry.
        kind: &'static str,
    },
    /// A role that may not do this.
    #[error("{author} is {role} and may not do this ({kind})")]
    Role {
        /// Who claims to speak.
        author: String,
        /// The kind of entry.
        kind: &'static str,
        /// In which role.
        role: cohortium_messages::Role,
    },
    /// An entry under another agreement.
    #[error("the entry belongs to agreement {}, here applies {}", found.short(), expected.short())]
    Agreement {
        /// The one that applies.
        expected: Hash,
        /// The one in the entry.
        found: Hash,
    },
    /// An entry about another study.
    #[error("the entry is about study `{0}`")]
    Study(Name),
}

/// Opens an entry with the key that the agreement states for its author.
///
/// Promise: given an envelope from anywhere, returns an entry only if its author is in this agreement, signed it, may
/// make an entry of this kind (a person also by role), and it is about this very agreement. Argued: Ed25519, and a table
/// of who says what. Keys that were revoked still open entries: whether they count is decided where they are used.
///
/// # Errors
/// The first thing that is wrong.
pub fn open_entry(envelope: &Envelope, agreement: &Verified<Agreement>) -> Result<Authored, EntryError> {
    open_claimed(envelope, envelope.peek::<Entry>()?, agreement)
}

/// The same for an entry that was peeked at in this very envelope before.
///
/// # Errors
/// As [`open_entry`], and when the entry was read from another envelope.
pub fn open_claimed(
    envelope: &Envelope,
    claimed: Unverified<Entry>,
    agreement: &Verified<Agreement>,
) -> Result<Authored, EntryError> {
    let claims = claimed.claims();
    let kind = claims.fact.kind();
    let key = key_of(&claims.author, agreement).ok_or_else(|| EntryError::Author {
        author: claims.author.to_string(),
        kind,
        study: agreement.study.clone(),
    })?;
    if !may_say(&claims.author, &claims.fact) {
        return Err(EntryError::Kind { author: claims.author.to_string(), kind });
    }
    let entry = envelope.confirm(claimed, &key)?;
    if entry.agreement != agreement.hash() {
        return Err(EntryError::Agreement { expected: agreement.hash(), found: entry.agreement });
    }
    if entry.study != agreement.study {
        return Err(EntryError::Study(entry.study.clone()));
    }
    let opened = Authored { entry, key };
    match opened.person(agreement) {
        Some((_, person)) if !role_suffices(person, &opened.entry.fact) => {
            Err(EntryError::Role { author: opened.entry.author.to_string(), kind, role: person.role })
        }
        _ => Ok(opened),
    }
}

impl Authored {
    /// The entry.
    #[must_use]
    pub const fn entry(&self) -> &Verified<Entry> {
        &self.entry
    }

    /// The person who speaks and for whom, where a person does.
    pub(crate) fn person<'a>(&self, agreement: &'a Agreement) -> Option<(&'a Name, &'a PersonEntry)> {
        match &self.entry.author {
            Author::Person { organisation, person } => {
                let party = agreement.party(organisation)?;
                Some((&party.organisation, agreement.person(organisation, person)?))
            }
            _ => None,
        }
    }
}

/// The key that the agreement states for an author.
fn key_of(author: &Author, agreement: &Agreement) -> Option<PublicKey> {
    match author {
        Author::Custodian(name) => agreement.party(name).map(|entry| entry.agreement_key),
        Author::Hub(name) => (agreement.hub.hub == *name).then_some(agreement.hub.message_key),
        Author::Node(name) => agreement.party(name).map(|entry| entry.message_key),
        Author::Person { organisation, person } => agreement.person(organisation, person).map(|entry| entry.key),
        Author::Researcher(name) => agreement.researcher(name).map(|entry| entry.key),
    }
}

/// Who makes which entries.
const fn may_say(author: &Author, fact: &Fact) -> bool {
    match fact {
        Fact::Agreement { .. } | Fact::Revocation { .. } => matches!(author, Author::Custodian(_)),
        Fact::Permit { .. } | Fact::Price { .. } => matches!(author, Author::Node(_)),
        Fact::Approval { .. } | Fact::Dispatch { .. } | Fact::Freeze { .. } | Fact::Incident { .. } => {
            matches!(author, Author::Person { .. })
        }
        Fact::Failure { .. } | Fact::Release { .. } => matches!(author, Author::Hub(_)),
        Fact::Alert { .. } | Fact::Refusal { .. } => matches!(author, Author::Hub(_) | Author::Node(_)),
        Fact::Task { .. } => matches!(author, Author::Researcher(_)),
    }
}

/// What a person may do in their role.
const fn role_suffices(person: &PersonEntry, fact: &Fact) -> bool {
    match fact {
        Fact::Approval { .. } | Fact::Dispatch { .. } => person.role.may_approve(),
        Fact::Freeze { frozen: true, .. } => person.role.may_freeze(),
        Fact::Freeze { frozen: false, .. } | Fact::Incident { .. } => person.role.may_unfreeze(),
        _ => true,
    }
}

/// What custodians have taken back of one agreement, as far as is known.
///
/// Any custodian can take back the agreement or a key: each of them can stop the study alone anyway, because every task
/// needs every node. Nothing un-revokes; a new agreement does.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Revoked {
    agreement: bool,
    keys: BTreeSet<PublicKey>,
}

impl Revoked {
    /// Nothing is known to have been taken back.
    #[must_use]
    pub fn nothing() -> Self {
        Self::default()
    }

    /// What these entries take back. Other kinds of entries are passed over.
    #[must_use]
    pub fn from_entries<'a>(entries: impl IntoIterator<Item = &'a Authored>) -> Self {
        let mut revoked = Self::nothing();
        for authored in entries {
            match authored.entry.fact {
                Fact::Revocation { subject: RevocationSubject::Agreement, .. } => revoked.agreement = true,
                Fact::Revocation { subject: RevocationSubject::Key(key), .. } => drop(revoked.keys.insert(key)),
                _ => {}
            }
        }
        revoked
    }

    /// Whether the whole agreement has been taken back.
    #[must_use]
    pub const fn agreement(&self) -> bool {
        self.agreement
    }

    /// Whether this key has been taken back.
    #[must_use]
    pub fn key(&self, key: &PublicKey) -> bool {
        self.keys.contains(key)
    }
}

/// What an entry means for whether its study stands still at an organisation. The last word decides, in the order of that
/// organisation's own log.
///
/// It is about the study and not about one text: a stop outlives an amendment until somebody who may ends it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop<'a> {
    /// From here on the study stands still at this organisation.
    Begins(&'a Name),
    /// From here on it goes on there.
    Ends(&'a Name),
    /// It would go on there, had the key of whoever says so not been taken back: nothing changes.
    EndsInVain(&'a Name),
}

impl Authored {
    /// Whether this stops its study at the author's organisation, or ends a stop. `revoked` is what is known to have been
    /// taken back of the agreement under which the entry was opened.
    ///
    /// Promise: given any entry, returns [`Stop::Ends`] only for the word of a person of that very organisation whose role
    /// may end a stop (checked by [`open_entry`]) and whose key was not taken back. That such a key *stops* something is heard.
    #[must_use]
    pub fn stop(&self, revoked: &Revoked) -> Option<Stop<'_>> {
        match (&self.entry.fact, &self.entry.author) {
            (Fact::Alert { froze: true, .. }, Author::Node(name)) => Some(Stop::Begins(name)),
            (Fact::Freeze { frozen: true, .. }, Author::Person { organisation, .. }) => {
                Some(Stop::Begins(organisation))
            }
            (Fact::Freeze { frozen: false, .. }, Author::Person { organisation, .. }) => {
                Some(match revoked.key(&self.key) {
                    true => Stop::EndsInVain(organisation),
                    false => Stop::Ends(organisation),
                })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{IncidentStep, Role};

    use super::*;
    use crate::fixtures::{World, name};

    fn freeze(frozen: bool) -> Fact {
        Fact::Freeze { frozen, why: String::from("to look at it") }
    }

    /// One fact of every kind, and who alone may say it.
    #[test]
    fn each_kind_of_entry_has_its_authors() {
        let world = World::new(3);
        let (hash, why) = (Hash::of(b"x"), || String::from("x"));
        let (a, keys) = (name("a"), &world.secrets[0].1);
        let person = Author::Person { organisation: a.clone(), person: name("paula") };
        let authors = [
            ("custodian", Author::Custodian(a.clone()), &keys.agreement),
            ("hub", Author::Hub(name("hub")), &world.hub_key),
            ("node", Author::Node(a.clone()), &keys.message),
            ("person", person, &world.people[0][0].key),
            ("researcher", Author::Researcher(name("rosa")), &world.researcher.key),
        ];
        let alert = Fact::Alert { froze: true, rule: why(), task: None, why: why() };
        let incident = Fact::Incident { body: hash, incident: name("x"), step: IncidentStep::Open };
        let facts = [
            (Fact::Agreement { body: hash, revision: 1 }, &["custodian"][..]),
            (Fact::Revocation { subject: RevocationSubject::Agreement, why: why() }, &["custodian"]),
            (alert, &["hub", "node"]),
            (Fact::Price { account: Vec::new(), task: hash }, &["node"]),
            (Fact::Refusal { clauses: Vec::new(), task: hash, why: why() }, &["hub", "node"]),
            (Fact::Approval { approved: true, plan: hash, task: hash, why: why() }, &["person"]),
            (Fact::Dispatch { message: hash, task: hash }, &["person"]),
            (freeze(true), &["person"]),
            (freeze(false), &["person"]),
            (incident, &["person"]),
            (Fact::Failure { reason: why(), task: hash }, &["hub"]),
            (Fact::Release { body: hash, release: hash, task: hash }, &["hub"]),
            (Fact::Task { body: hash, plan: hash, task: hash }, &["researcher"]),
        ];
        for (fact, allowed) in facts {
            for (who, author, key) in &authors {
                let opened = open_entry(&world.entry(author.clone(), fact.clone(), key), &world.agreement);
                assert_eq!(opened.is_ok(), allowed.contains(who), "{who} says {}: {opened:?}", fact.kind());
                // The right author with another's key.
                let forged = world.entry(author.clone(), fact.clone(), &world.secrets[1].1.message);
                assert!(open_entry(&forged, &world.agreement).is_err(), "{who} says {}", fact.kind());
            }
        }
    }

    /// Position in the fixtures' list of people, what they do, whether their role may.
    #[test]
    fn people_do_what_their_role_may() {
        let world = World::new(3);
        let hash = Hash::of(b"x");
        let approve = || Fact::Approval { approved: true, plan: hash, task: hash, why: String::from("x") };
        let dispatch = || Fact::Dispatch { message: hash, task: hash };
        let [officer, steward, operator] = [0, 1, 3];
        for (who, fact, may) in [
            (officer, approve(), true),
            (steward, approve(), true),
            (operator, approve(), false),
            (officer, dispatch(), true),
            (operator, dispatch(), false),
            (officer, freeze(true), true),
            (steward, freeze(true), true),
            (operator, freeze(true), true),
            (officer, freeze(false), true),
            (steward, freeze(false), false),
            (operator, freeze(false), false),
        ] {
            let opened = open_entry(&world.signed_by(0, who, fact.clone()), &world.agreement);
            assert_eq!(opened.is_ok(), may, "{who} {fact:?}");
            if let Err(error) = opened {
                assert!(matches!(error, EntryError::Role { role: Role::Operator | Role::Steward, .. }), "{error}");
            }
        }
    }

    #[test]
    fn entries_of_strangers_and_of_other_agreements_do_not_open() {
        let world = World::new(3);
        let stranger = Author::Person { organisation: name("a"), person: name("mallory") };
        let envelope = world.entry(stranger, freeze(true), &world.people[0][0].key);
        assert!(matches!(open_entry(&envelope, &world.agreement), Err(EntryError::Author { .. })));
        let elsewhere = Author::Person { organisation: name("z"), person: name("paula") };
        let envelope = world.entry(elsewhere, freeze(true), &world.people[0][0].key);
        assert!(matches!(open_entry(&envelope, &world.agreement), Err(EntryError::Author { .. })));
        let amended = World::with(3, |agreement| agreement.title.push('!'));
        let envelope = amended.signed_by(0, 0, freeze(true));
        assert!(matches!(open_entry(&envelope, &world.agreement), Err(EntryError::Agreement { .. })));
        let other = World::with(3, |agreement| agreement.study = name("other"));
        let mut entry = (**other.said(0, 0, freeze(true)).entry()).clone();
        entry.agreement = world.agreement.hash();
        let envelope = Envelope::sign(&entry, &world.people[0][0].key).unwrap();
        assert!(
            matches!(open_entry(&envelope, &world.agreement), Err(EntryError::Study(study)) if study == name("other"))
        );
    }

    /// Whether the study stands still at `a` after these words.
    fn stands_still<'a>(entries: impl IntoIterator<Item = &'a Authored>, revoked: &Revoked) -> bool {
        entries.into_iter().filter_map(|entry| entry.stop(revoked)).fold(false, |stands_still, word| match word {
            Stop::Begins(at) if *at == name("a") => true,
            Stop::Ends(at) if *at == name("a") => false,
            _ => stands_still,
        })
    }

    /// What is said at `a` and elsewhere, in order, and whether the study stands still at `a` then.
    #[test]
    fn the_last_word_of_those_who_may_decides_about_a_freeze() {
        let world = World::new(3);
        let (officer, steward, operator) = (0, 1, 3);
        let said = |organisation, who, frozen| world.said(organisation, who, freeze(frozen));
        let alert = |organisation: usize, froze| {
            let fact = Fact::Alert { froze, rule: String::from("x"), task: None, why: String::from("x") };
            let (name, keys) = &world.secrets[organisation];
            open_entry(&world.entry(Author::Node(name.clone()), fact, &keys.message), &world.agreement).unwrap()
        };
        let nothing = Revoked::nothing();
        for (case, entries, frozen) in [
            ("nothing", vec![], false),
            ("operator", vec![said(0, operator, true)], true),
            ("elsewhere", vec![said(1, officer, true), alert(1, true)], false),
            ("frozen and ended", vec![said(0, steward, true), said(0, officer, false)], false),
            ("ended elsewhere", vec![said(0, steward, true), said(1, officer, false)], true),
            ("again", vec![said(0, steward, true), said(0, officer, false), said(0, operator, true)], true),
            ("an alert that froze", vec![alert(0, true)], true),
            ("an alert that did not", vec![alert(0, false)], false),
            ("an alert, ended", vec![alert(0, true), said(0, officer, false)], false),
        ] {
            assert_eq!(stands_still(&entries, &nothing), frozen, "{case}");
        }
        // Under the amended agreement, which has nobody of that name, the freeze of before still holds.
        let amended =
            World::with(3, |agreement| agreement.parties[0].people.retain(|entry| entry.role != Role::Steward));
        let before = [said(0, steward, true)];
        assert!(stands_still(&before, &nothing));
        let after = amended.said(0, officer, freeze(false));
        assert!(!stands_still(before.iter().chain([&after]), &nothing));

        let subject = RevocationSubject::Key(world.people[0][officer].key.public());
        let taken = Fact::Revocation { subject, why: String::from("stolen") };
        let taken = world.entry(Author::Custodian(name("a")), taken, &world.secrets[0].1.agreement);
        let revoked = Revoked::from_entries(&[open_entry(&taken, &world.agreement).unwrap()]);
        let ended_by_a_thief = [said(0, steward, true), said(0, officer, false)];
        assert!(stands_still(&ended_by_a_thief, &revoked));
        assert!(stands_still(&[said(0, officer, true)], &revoked), "a stop is heard from anybody");
    }
}
