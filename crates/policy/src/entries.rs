//! Log entries whose author has been checked, and what people and custodians said in them.
//!
//! An entry counts only with the signature of the key that the agreement states for its author, and only if such an
//! author may say such a thing: a person approves, a custodian revokes, a node permits. [`open_entry`] is the one place
//! where this is decided; node, hub and auditor stand on it.
//!
//! What a custodian took back is [`Revoked`], whether a study stands still at an organisation is [`is_frozen`]. Both are
//! computed from the entries that are known *now*: what nobody showed us cannot be taken into account.
//!
//! Does not: check that an entry is in the log ([`crate::verify_inclusion`]), or that its time is true.
//!
//! Assumes: whoever relays entries is hostile and may withhold them; authors may lie in everything but their keys.

use std::collections::BTreeSet;

use cohortium_messages::{
    Agreement, Author, Entry, Envelope, EnvelopeError, Fact, Hash, Name, PersonEntry, PublicKey, RevocationSubject,
    Verified,
};

/// A log entry whose signature was checked with the key that the agreement states for its author, who may say such a
/// thing. Made by [`open_entry`] alone.
#[derive(Debug, Clone)]
pub struct Authored {
    entry: Verified<Entry>,
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
    let claimed = envelope.peek::<Entry>()?;
    let claims = claimed.claims();
    let kind = claims.fact.kind();
    let key = key_of(&claims.author, agreement).ok_or_else(|| EntryError::Author {
        author: shown(&claims.author),
        kind,
        study: agreement.study.clone(),
    })?;
    if !may_say(&claims.author, &claims.fact) {
        return Err(EntryError::Kind { author: shown(&claims.author), kind });
    }
    let entry = envelope.open::<Entry>(&key)?;
    if entry.agreement != agreement.hash() {
        return Err(EntryError::Agreement { expected: agreement.hash(), found: entry.agreement });
    }
    if entry.study != agreement.study {
        return Err(EntryError::Study(entry.study.clone()));
    }
    let opened = Authored { entry };
    match opened.person(agreement) {
        Some((_, person)) if !role_suffices(person, &opened.entry.fact) => {
            Err(EntryError::Role { author: shown(&opened.entry.author), kind, role: person.role })
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
        Fact::Alert { .. } | Fact::Permit { .. } | Fact::Price { .. } => matches!(author, Author::Node(_)),
        Fact::Approval { .. } | Fact::Dispatch { .. } | Fact::Freeze { .. } | Fact::Incident { .. } => {
            matches!(author, Author::Person { .. })
        }
        Fact::Failure { .. } | Fact::Release { .. } => matches!(author, Author::Hub(_)),
        Fact::Refusal { .. } => matches!(author, Author::Hub(_) | Author::Node(_)),
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

fn shown(author: &Author) -> String {
    match author {
        Author::Custodian(name) => format!("the custodian of `{name}`"),
        Author::Hub(name) => format!("the hub `{name}`"),
        Author::Node(name) => format!("the node of `{name}`"),
        Author::Person { organisation, person } => format!("`{person}` of `{organisation}`"),
        Author::Researcher(name) => format!("the researcher `{name}`"),
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

/// Whether the study stands still at an organisation: the last freeze, alert that froze, or end of a freeze decides.
///
/// `entries` are in the order of the organisation's own log. What a person with a revoked key says sets nothing going
/// again; that it stops something is heard.
#[must_use]
pub fn is_frozen<'a>(
    agreement: &Verified<Agreement>,
    organisation: &Name,
    entries: impl IntoIterator<Item = &'a Authored>,
    revoked: &Revoked,
) -> bool {
    let mut frozen = false;
    for authored in entries {
        match (&authored.entry.fact, authored.person(agreement)) {
            (Fact::Alert { froze: true, .. }, None) if authored.entry.author == Author::Node(organisation.clone()) => {
                frozen = true;
            }
            (Fact::Freeze { frozen: stops, .. }, Some((name, person))) if name == organisation => {
                frozen = *stops || (frozen && revoked.key(&person.key));
            }
            _ => {}
        }
    }
    frozen
}
