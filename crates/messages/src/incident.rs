//! What is written down about an incident: the documents that entries of kind `incident` name.
//!
//! From the moment somebody becomes aware that personal data may have been breached, a supervisory authority must be told
//! within 72 hours (Regulation (EU) 2016/679, Art. 33(1)), and what it must be told is a list (Art. 33(3)). Each step says
//! what is known by then; later steps add to it or correct it. The records stay in the house: the log has their hashes.
//!
//! Does not: decide whether something is a breach, or tell an authority. People do.

use serde::{Deserialize, Serialize};

use crate::{Document, IncidentStep, Name, Timestamp};

/// Art. 33(1): 72 hours, in seconds.
const NOTIFY_WITHIN_S: i64 = 72 * 3600;
/// The longest text of a record, characters.
const MAX_TEXT: usize = 4000;

/// A step in dealing with an incident. Signed by the privacy officer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentRecord {
    /// When somebody became aware: stated when it is opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub aware_at: Option<Timestamp>,
    /// Which incident: a name that the house gave it.
    pub incident: Name,
    /// What is known for the notification; what is not stated stays as it was.
    pub notification: Notification,
    /// Which step.
    pub step: IncidentStep,
    /// The study.
    pub study: Name,
    /// What happened, or was done.
    pub what: String,
}

/// What a notification contains (Art. 33(3)), as far as it is known, and when it was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Notification {
    /// When the authority was told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority_at: Option<Timestamp>,
    /// (c) The likely consequences.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub consequences: Option<String>,
    /// (b) Name and contact of the data protection officer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<String>,
    /// Why the authority is told later than within 72 hours (Art. 33(1)), if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub late: Option<String>,
    /// (d) Measures that were taken or are proposed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub measures: Option<String>,
    /// (a) The nature of the breach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nature: Option<String>,
    /// (a) Categories of data subjects, and about how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people: Option<String>,
    /// When the data subjects were told (Art. 34).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub people_at: Option<Timestamp>,
    /// (a) Categories of records, and about how many.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub records: Option<String>,
}

impl Notification {
    /// Each field with what the regulation calls it.
    #[must_use]
    pub fn fields(&self) -> [(&'static str, Option<&String>); 6] {
        [
            ("Nature of the breach (a)", self.nature.as_ref()),
            ("Categories and approximate number of data subjects (a)", self.people.as_ref()),
            ("Categories and approximate number of records (a)", self.records.as_ref()),
            ("Data protection officer or other contact (b)", self.contact.as_ref()),
            ("Likely consequences (c)", self.consequences.as_ref()),
            ("Measures taken or proposed (d)", self.measures.as_ref()),
        ]
    }

    /// Takes over what `later` states.
    pub fn update(&mut self, later: &Self) {
        fn take<T>(known: &mut Option<T>, stated: Option<T>) {
            if stated.is_some() {
                *known = stated;
            }
        }
        let Self { authority_at, consequences, contact, late, measures, nature, people, people_at, records } =
            later.clone();
        take(&mut self.authority_at, authority_at);
        take(&mut self.consequences, consequences);
        take(&mut self.contact, contact);
        take(&mut self.late, late);
        take(&mut self.measures, measures);
        take(&mut self.nature, nature);
        take(&mut self.people, people);
        take(&mut self.people_at, people_at);
        take(&mut self.records, records);
    }
}

impl IncidentRecord {
    /// Until when an authority must be told, if this is a breach that must be notified.
    #[must_use]
    pub fn deadline(aware_at: Timestamp) -> Timestamp {
        aware_at.plus_seconds(NOTIFY_WITHIN_S)
    }
}

impl Document for IncidentRecord {
    const TYPE: &'static str = "application/vnd.cohortium.incident.v1+json";
    /// A node's desk takes 64 KiB, in which this stands in base64 beside its entry.
    const MAX_BYTES: usize = 40 << 10;
    fn check(&self) -> Result<(), String> {
        let stated = self.notification.fields();
        let texts = stated.iter().filter_map(|(_, text)| *text).chain(&self.notification.late).chain([&self.what]);
        for text in texts {
            if text.trim().is_empty() || text.chars().count() > MAX_TEXT {
                return Err(format!("a text of an incident has 1 to {MAX_TEXT} characters"));
            }
        }
        if (self.step == IncidentStep::Open) != self.aware_at.is_some() {
            return Err(String::from("aware_at is stated when an incident is opened, and only then"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Envelope, SigningKey};
    use chacha20::ChaCha20Rng;
    use rand_core::SeedableRng as _;

    fn record(step: IncidentStep, aware_at: Option<Timestamp>, what: &str) -> IncidentRecord {
        let name = |text: &str| Name::new(text).unwrap();
        let notification = Notification::default();
        IncidentRecord {
            aware_at,
            incident: name("leak"),
            notification,
            step,
            study: name("heart"),
            what: what.to_owned(),
        }
    }

    #[test]
    fn records_are_signed_only_when_they_are_whole() {
        let key = SigningKey::generate(&mut ChaCha20Rng::from_seed([1; 32]));
        let now = Some(Timestamp::from_seconds(1_800_000_000));
        for (record, right) in [
            (record(IncidentStep::Open, now, "a laptop is gone"), true),
            (record(IncidentStep::Action, None, "keys were changed"), true),
            (record(IncidentStep::Open, None, "a laptop is gone"), false),
            (record(IncidentStep::Close, now, "over"), false),
            (record(IncidentStep::Close, None, " "), false),
            (record(IncidentStep::Close, None, &"x".repeat(4001)), false),
        ] {
            assert_eq!(Envelope::sign(&record, &key).is_ok(), right, "{record:?}");
        }
    }

    #[test]
    fn later_words_replace_earlier_ones_and_silence_does_not() {
        let text = |text: &str| Some(text.to_owned());
        let mut known = Notification { nature: text("a"), people: text("b"), ..Notification::default() };
        known.update(&Notification { people: text("c"), measures: text("d"), ..Notification::default() });
        assert_eq!((known.nature, known.people, known.measures), (text("a"), text("c"), text("d")));
        let aware_at = Timestamp::from_seconds(1_800_000_000);
        assert_eq!(IncidentRecord::deadline(aware_at).seconds() - aware_at.seconds(), 259_200);
    }
}
