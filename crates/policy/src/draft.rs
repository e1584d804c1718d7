//! What people write: an agreement as TOML, and the way from there to what is signed.
//!
//! A person names each party, researcher and the hub together with the *fingerprint* they compared over another channel;
//! the keys themselves come from self-signed entries that a hub may relay. An entry whose fingerprint is not the one that
//! was written is refused, so a hub that shows other keys gains nothing.
//!
//! Does not: sign, send, or decide. The agreement's own rules (thresholds, budgets, schemas) are
//! [`Agreement::validate`]'s and are applied before a draft becomes an agreement.
//!
//! Assumes: the entries handed in were opened with their own identity keys; the hub that relayed them may be hostile; the
//! person who writes is not, but makes mistakes, and is told where and what instead.

use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, AgreementError, AnalysisTerms, ApprovalTerms, AttackThresholds, Budgets,
    CanonicalError, Column, Condition, DatasetTerms, Hash, HubEntry, MAX_ORGANISATIONS, Name, Ownership, Party,
    PersonEntry, ProjectPhase, Purpose, ReleaseMode, ResearcherEntry, ResearcherTerms, RiskAcceptance, Role,
    RosterEntry, Schema, SecureSumTerms, Staff, Timestamp, Verified, canonical_bytes,
};
use serde::{Deserialize, Serialize};

use crate::log_policy::{LogPolicyError, LogTerms, log_policy};

/// The longest draft that is read, in bytes: what a signed agreement may have.
const MAX_DRAFT_BYTES: usize = 4 << 20;

/// An agreement as people write it. Everything must be written, for nothing is agreed by default, except `revision`,
/// `previous` and the sections `[[phase]]` and `[[condition]]`, of which there may be none.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Draft {
    /// What may be computed.
    pub analyses: Vec<AnalysisTerms>,
    /// How tasks are approved at the nodes.
    pub approval: ApprovalTerms,
    /// What attacks on a model may achieve at most.
    pub attack_thresholds: AttackThresholds,
    /// What may be spent.
    pub budgets: Budgets,
    /// Conditions on every use.
    #[serde(default)]
    pub condition: Vec<Condition>,
    /// The datasets.
    pub dataset: Vec<DraftDataset>,
    /// Who coordinates.
    pub hub: DraftPerson,
    /// Whose cosignatures make a head of the hub's log count.
    pub log: LogTerms,
    /// Who owns what.
    pub ownership: Ownership,
    /// The custodians.
    pub party: Vec<DraftParty>,
    /// What may be done when.
    #[serde(default)]
    pub phase: Vec<ProjectPhase>,
    /// The agreement that this one amends: its hash, as the tool writes it.
    #[serde(default)]
    pub previous: Option<Hash>,
    /// What the answers are for, in words.
    pub purpose_text: String,
    /// What the answers may be used for.
    pub purposes: Vec<Purpose>,
    /// Who may ask.
    pub researcher: Vec<DraftPerson>,
    /// Days after which each operator erases bodies.
    pub retention_days: u32,
    /// Counts amendments; 1 where it is not written.
    #[serde(default = "first_revision")]
    pub revision: u32,
    /// Who accepted the remaining risk.
    pub risk_acceptance: RiskAcceptance,
    /// How the sum is protected.
    pub secure_sum: SecureSumTerms,
    /// The study's name.
    pub study: Name,
    /// What it is about, for people.
    pub title: String,
    /// From when it is in force.
    pub valid_from: Timestamp,
    /// Until when.
    pub valid_until: Timestamp,
}

/// A party, as a person names it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftParty {
    /// Its fingerprint, as compared over another channel.
    pub fingerprint: String,
    /// Its name.
    pub organisation: Name,
    /// Who acts for it.
    pub people: Vec<DraftStaff>,
}

/// Someone who acts for a party, as a person names them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftStaff {
    /// Their fingerprint, as compared over another channel.
    pub fingerprint: String,
    /// The name.
    pub person: Name,
    /// In which role.
    pub role: Role,
}

/// A researcher or the hub, as a person names them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftPerson {
    /// The fingerprint, as compared over another channel.
    pub fingerprint: String,
    /// The name.
    pub name: Name,
}

/// A dataset with its schema written out.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DraftDataset {
    /// The columns.
    pub columns: Vec<Column>,
    /// At most this many groups of one answer may count one person.
    pub max_groups_per_person: u32,
    /// At most this many rows of one person count in one group.
    pub max_rows_per_person: u32,
    /// A group that counts fewer persons is not shown; 0 shows every group.
    pub minimum_cohort: u32,
    /// `dp`: answers carry noise. `exact`: they do not.
    pub mode: ReleaseMode,
    /// The name used after `FROM`.
    pub name: Name,
    /// The column that tells persons apart, if one does.
    #[serde(default)]
    pub person: Option<Name>,
}

/// Why a draft is no agreement. Whoever wrote it must act, except for [`DraftError::Canonical`], which is ours.
#[derive(Debug, thiserror::Error)]
pub enum DraftError {
    /// Longer than an agreement may be.
    #[error("the draft is longer than {MAX_DRAFT_BYTES} bytes")]
    TooLong,
    /// Not TOML, an unknown key, a missing key, or a value of the wrong kind.
    #[error("line {line}: {why}")]
    Text {
        /// Where, from 1.
        line: usize,
        /// What is wrong.
        why: String,
    },
    /// No entry of that name.
    #[error("{kind} `{name}` is not known here: has it joined the hub, and is the name spelled as it joined?")]
    Unknown {
        /// `organisation`, `person` or `researcher`.
        kind: &'static str,
        /// The name.
        name: Name,
    },
    /// The entry that was compared is for another role.
    #[error("person `{person}` of `{organisation}` offered to act as {found}, and the draft says {written}")]
    Role {
        /// As which.
        found: Role,
        /// For whom.
        organisation: Name,
        /// Who.
        person: Name,
        /// As written.
        written: Role,
    },
    /// The draft is for another hub.
    #[error("the draft names hub `{written}`, and this is hub `{found}`: use a draft that was made for this hub")]
    OtherHub {
        /// The hub at hand.
        found: Name,
        /// As written.
        written: Name,
    },
    /// The entry that is here is not the one the person compared.
    #[error(
        "{kind} `{name}`: the draft says fingerprint {written}, the entry here has {found}: compare again over another \
         channel, and do not sign until they are the same"
    )]
    Fingerprint {
        /// `organisation`, `person`, `researcher` or `hub`.
        kind: &'static str,
        /// Of the entry at hand.
        found: String,
        /// The name.
        name: Name,
        /// As written, shortened to the length of a fingerprint.
        written: String,
    },
    /// The fields do not go together.
    #[error(transparent)]
    Agreement(#[from] AgreementError),
    /// No quorum that protects, or a key that no log can have.
    #[error(transparent)]
    Log(#[from] LogPolicyError),
    /// No dataset is offered alike by all organisations.
    #[error("no dataset is offered alike by all organisations: {0}")]
    NoDataset(String),
    /// We could not serialise an entry.
    #[error(transparent)]
    Canonical(#[from] CanonicalError),
}

/// Reads a draft.
///
/// # Errors
/// With the line, in plain words: what is unknown, missing or of the wrong kind.
pub fn parse(text: &str) -> Result<Draft, DraftError> {
    if text.len() > MAX_DRAFT_BYTES {
        return Err(DraftError::TooLong);
    }
    toml::from_str(text).map_err(|error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
        DraftError::Text { line, why: plain_words(&error.message().lines().collect::<Vec<_>>().join("; ")) }
    })
}

/// The reader's message, in words for those who do not know its terms.
fn plain_words(message: &str) -> String {
    if let Some(field) = message.strip_prefix("missing field ") {
        return format!("{field} is missing: it must be written, there is no default");
    }
    if let Some((field, known)) = message.strip_prefix("unknown field ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{field} is not known here, expected {known}");
    }
    if let Some((value, known)) =
        message.strip_prefix("unknown variant ").and_then(|rest| rest.split_once(", expected "))
    {
        return format!("{value} is not possible here, expected {known}");
    }
    if message.starts_with("invalid type: ") && message.contains(", expected struct ") {
        return String::from("expected several keys, in a section of their own or in braces: { key = value, ... }");
    }
    message
        .replace("invalid type: map, expected a string", "expected a text in quotes")
        .replace("expected u32", "expected a whole number from 0 to 4294967295")
}

impl Draft {
    /// Puts keys to names and checks the whole.
    ///
    /// Given the verified entries at hand, returns an agreement in which every party, its people, every researcher and the
    /// hub have the very entry whose fingerprint the person wrote; never an entry that merely has the right name.
    ///
    /// `staff` was opened with the message keys of the organisations that it names.
    ///
    /// # Errors
    /// When an entry is missing or has another fingerprint, or the agreement breaks its own rules.
    pub fn resolve(
        &self,
        hub: &HubEntry,
        organisations: &[Verified<RosterEntry>],
        staff: &[Verified<Staff>],
        researchers: &[Verified<ResearcherEntry>],
    ) -> Result<Agreement, DraftError> {
        let (hub, parties) = (self.resolve_hub(hub)?, self.resolve_parties(organisations, staff)?);
        if !(2..=MAX_ORGANISATIONS).contains(&parties.len()) {
            // Before the quorum is looked at, which would be wrong for that reason alone.
            return Err(AgreementError::Organisations(parties.len()).into());
        }
        let entries: Vec<&RosterEntry> = parties.iter().map(|party| &party.entry).collect();
        let agreement = Agreement {
            analyses: self.analyses.clone(),
            approval: self.approval.clone(),
            attack_thresholds: self.attack_thresholds.clone(),
            budgets: self.budgets.clone(),
            conditions: self.condition.clone(),
            datasets: self.dataset.iter().map(DraftDataset::terms).collect(),
            log_policy: log_policy(&hub, &entries, self.secure_sum, self.log)?.to_string(),
            hub,
            ownership: self.ownership.clone(),
            parties,
            phases: self.phase.clone(),
            previous: self.previous,
            purpose_text: self.purpose_text.clone(),
            purposes: self.purposes.clone(),
            researchers: self
                .researcher
                .iter()
                .map(|DraftPerson { fingerprint, name }| {
                    let named = researchers.iter().filter(|entry| entry.researcher == *name);
                    let named = named.map(|entry| (&**entry, entry.hash()));
                    pick("researcher", name, fingerprint, named).map(|entry| ResearcherTerms { entry })
                })
                .collect::<Result<_, _>>()?,
            retention_days: self.retention_days,
            revision: self.revision,
            risk_acceptance: self.risk_acceptance.clone(),
            secure_sum: self.secure_sum,
            study: self.study.clone(),
            title: self.title.clone(),
            valid_from: self.valid_from,
            valid_until: self.valid_until,
            version: AGREEMENT_VERSION,
        };
        agreement.validate()?;
        Ok(agreement)
    }

    fn resolve_parties(
        &self,
        organisations: &[Verified<RosterEntry>],
        staff: &[Verified<Staff>],
    ) -> Result<Vec<Party>, DraftError> {
        let party = |DraftParty { fingerprint, organisation, people }: &DraftParty| {
            let named = organisations.iter().filter(|entry| entry.organisation == *organisation);
            let entry = pick("organisation", organisation, fingerprint, named.map(|entry| (&**entry, entry.hash())))?;
            let people = people.iter().map(|person| person.resolve(organisation, staff)).collect::<Result<_, _>>()?;
            Ok(Party { entry, people })
        };
        self.party.iter().map(party).collect()
    }

    fn resolve_hub(&self, hub: &HubEntry) -> Result<HubEntry, DraftError> {
        if hub.hub != self.hub.name {
            return Err(DraftError::OtherHub { found: hub.hub.clone(), written: self.hub.name.clone() });
        }
        compare("hub", &self.hub.name, &self.hub.fingerprint, entry_hash(hub)?)?;
        Ok(hub.clone())
    }
}

impl DraftStaff {
    /// The person's entry out of the lists of their organisation.
    fn resolve(&self, organisation: &Name, staff: &[Verified<Staff>]) -> Result<PersonEntry, DraftError> {
        let lists = staff.iter().filter(|list| list.organisation == *organisation);
        let named = lists.flat_map(|list| &list.people).filter(|entry| entry.person == self.person);
        let hashed = named.map(|entry| Ok((entry, entry_hash(entry)?))).collect::<Result<Vec<_>, CanonicalError>>()?;
        let entry = pick("person", &self.person, &self.fingerprint, hashed.into_iter())?;
        if entry.role == self.role {
            Ok(entry)
        } else {
            let (organisation, person) = (organisation.clone(), self.person.clone());
            Err(DraftError::Role { found: entry.role, organisation, person, written: self.role })
        }
    }
}

impl DraftDataset {
    fn terms(&self) -> DatasetTerms {
        let schema = Schema {
            columns: self.columns.clone(),
            max_groups_per_person: self.max_groups_per_person,
            max_rows_per_person: self.max_rows_per_person,
            person: self.person.clone(),
        };
        DatasetTerms { minimum_cohort: self.minimum_cohort, mode: self.mode, name: self.name.clone(), schema }
    }
}

/// What an entry is called by: the hash of its canonical form, whose fingerprint people compare.
pub(crate) fn entry_hash<T: Serialize>(entry: &T) -> Result<Hash, CanonicalError> {
    Ok(Hash::of(&canonical_bytes(entry)?))
}

/// Of the entries under one name, the one with the fingerprint that the person wrote. A hub may show several.
fn pick<'a, T: Clone + 'a>(
    kind: &'static str,
    name: &Name,
    written: &str,
    entries: impl Iterator<Item = (&'a T, Hash)>,
) -> Result<T, DraftError> {
    let mut refusal = DraftError::Unknown { kind, name: name.clone() };
    for (entry, hash) in entries {
        match compare(kind, name, written, hash) {
            Ok(()) => return Ok(entry.clone()),
            Err(error) => refusal = error,
        }
    }
    Err(refusal)
}

fn compare(kind: &'static str, name: &Name, written: &str, hash: Hash) -> Result<(), DraftError> {
    let found = hash.fingerprint();
    if written.trim().eq_ignore_ascii_case(&found) {
        Ok(())
    } else {
        let written = written.chars().take(found.len()).filter(|c| !c.is_control()).collect();
        Err(DraftError::Fingerprint { kind, found, name: name.clone(), written })
    }
}

const fn first_revision() -> u32 {
    1
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::fixtures::World;

    /// An edit of a good draft: in which file, what is replaced by what, and the message that must come of it.
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Edit {
        name: String,
        of: String,
        from: String,
        to: String,
        error: String,
    }

    #[derive(Deserialize)]
    struct Edits {
        bad: Vec<Edit>,
    }

    fn vector(name: &str) -> PathBuf {
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vectors/agreement").join(name)
    }

    /// The first two are what the template writes with and without people; the third uses every key there is.
    #[test]
    fn good_drafts_become_agreements() {
        let world = World::new(3);
        // COHORTIUM_WRITE_VECTORS=1 writes again what the template makes.
        if std::env::var_os("COHORTIUM_WRITE_VECTORS").is_some() {
            std::fs::write(vector("good.toml"), world.draft_text(&world.staff)).unwrap();
            std::fs::write(vector("good-automatic.toml"), world.draft_text(&[])).unwrap();
        }
        let read = |name: &str| std::fs::read_to_string(vector(name)).unwrap();
        assert_eq!(read("good.toml"), world.draft_text(&world.staff));
        assert_eq!(read("good-automatic.toml"), world.draft_text(&[]));
        for name in ["good.toml", "good-automatic.toml", "good-everything.toml"] {
            let draft = parse(&read(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            let agreement = world.resolve(&draft).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_eq!(agreement.study.as_str(), "heart-study");
            let terms = crate::log_policy::log_terms(&agreement).unwrap();
            assert_eq!(terms, draft.log);
        }
    }

    #[test]
    fn bad_drafts_are_refused_as_they_say() {
        let world = World::new(3);
        let Edits { bad } = toml::from_str(&std::fs::read_to_string(vector("bad.toml")).unwrap()).unwrap();
        assert!(bad.len() >= 60, "{}", bad.len());
        let mut wrong = Vec::new();
        for Edit { name, of, from, to, error } in bad {
            let good = std::fs::read_to_string(vector(&of)).unwrap();
            assert!(good.contains(&from), "{name}: `{from}` is not in {of}");
            let found = match parse(&good.replacen(&from, &to, 1)).and_then(|draft| world.resolve(&draft)) {
                Ok(_) => String::from("accepted"),
                Err(error) => error.to_string(),
            };
            if found != error {
                wrong.push(format!("{name}\n  expected {error}\n  found    {found}"));
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn an_entry_with_the_right_name_and_other_keys_is_refused() {
        let (world, other) = (World::new(3), World::seeded(3, 99, |_| ()));
        let text = world.draft_text(&world.staff);
        let draft = parse(&text).unwrap();
        assert!(world.resolve(&draft).is_ok());
        let swapped = draft.resolve(&world.hub, &other.organisations, &world.staff, &world.researchers);
        assert!(matches!(swapped, Err(DraftError::Fingerprint { kind: "organisation", .. })));
        let swapped = draft.resolve(&world.hub, &world.organisations, &other.staff, &world.researchers);
        assert!(matches!(swapped, Err(DraftError::Fingerprint { kind: "person", .. })));
        let swapped = draft.resolve(&world.hub, &world.organisations, &world.staff, &other.researchers);
        assert!(matches!(swapped, Err(DraftError::Fingerprint { kind: "researcher", .. })));
        let swapped = draft.resolve(&other.hub, &world.organisations, &world.staff, &world.researchers);
        assert!(matches!(swapped, Err(DraftError::Fingerprint { kind: "hub", .. })));
        // A hub that shows a false entry beside the true one changes nothing.
        let both: Vec<_> = other.organisations.iter().chain(&world.organisations).cloned().collect();
        let people: Vec<_> = other.staff.iter().chain(&world.staff).cloned().collect();
        let resolved = draft.resolve(&world.hub, &both, &people, &world.researchers).unwrap();
        assert_eq!(resolved, world.resolve(&draft).unwrap());
    }

    #[test]
    fn a_fingerprint_may_be_written_in_capitals() {
        let world = World::new(3);
        let mut draft = parse(&world.draft_text(&world.staff)).unwrap();
        draft.hub.fingerprint = format!(" {} ", draft.hub.fingerprint.to_uppercase());
        assert!(world.resolve(&draft).is_ok());
    }

    #[test]
    fn too_long_a_draft_is_not_read() {
        assert!(matches!(parse(&" ".repeat(MAX_DRAFT_BYTES + 1)), Err(DraftError::TooLong)));
    }

    proptest::proptest! {
        /// Nothing a person pastes makes reading panic.
        #[test]
        fn any_text_is_read_or_refused(noise in "\\PC{0,200}", at in 0..4000usize, cut in 0..200usize) {
            let _ = parse(&noise);
            let good = World::draft_once();
            let edited: String = good.chars().take(at).chain(noise.chars()).chain(good.chars().skip(at + cut)).collect();
            let _ = parse(&edited);
        }
    }
}
