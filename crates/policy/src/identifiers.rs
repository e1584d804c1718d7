//! Columns that by their name tell who someone is: the eighteen identifiers of the Safe Harbor method of HIPAA
//! (45 CFR 164.514(b)(2)(i), A to R), and quasi-identifiers (Dalenius 1986; Sweeney 2000: date of birth, sex and ZIP
//! code single out most people of a country).
//!
//! Does not: look at values, which nobody outside the house may do, or know names in other languages. What it does not
//! find can still identify: the rule also demands that nobody *knows* of a way (164.514(b)(2)(ii)), which is a person's
//! to judge.

use cohortium_messages::{Column, ColumnType, Decimal, Name, Value};

/// What a column is by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspicion {
    /// One of the eighteen: the letter of the rule, and what it is called there.
    Identifier(char, &'static str),
    /// Tells who someone is together with others.
    Quasi,
}

/// The letter of 164.514(b)(2)(i), what it lists there, and words by which columns of it are named: a word of the name,
/// or several that stand together.
const IDENTIFIERS: [(char, &str, &[&str]); 18] = [
    (
        'A',
        "names",
        &["name", "surname", "forename", "firstname", "lastname", "fullname", "maidenname", "initials", "patientname"],
    ),
    (
        'B',
        "geographic subdivisions smaller than a state",
        &[
            "address",
            "street",
            "city",
            "town",
            "village",
            "county",
            "district",
            "parish",
            "precinct",
            "zip",
            "zipcode",
            "postcode",
            "postalcode",
            "postal",
            "geocode",
            "latitude",
            "longitude",
            "lat",
            "lon",
            "lng",
            "coordinates",
        ],
    ),
    (
        'C',
        "dates finer than a year",
        &[
            "date",
            "dob",
            "birthday",
            "birthdate",
            "birthmonth",
            "dod",
            "timestamp",
            "datetime",
            "admission",
            "discharge",
        ],
    ),
    ('D', "telephone numbers", &["phone", "telephone", "mobile", "cellphone", "tel"]),
    ('E', "fax numbers", &["fax", "telefax"]),
    ('F', "email addresses", &["email", "mail", "emailaddress"]),
    ('G', "social security numbers", &["ssn", "socialsecurity", "nino", "nationalid", "personnummer", "cpr"]),
    (
        'H',
        "medical record numbers",
        &["mrn", "medicalrecord", "recordnumber", "patientid", "patientnumber", "chartnumber"],
    ),
    (
        'I',
        "health plan beneficiary numbers",
        &["beneficiary", "healthplan", "insurance", "insuranceid", "planid", "nhs"],
    ),
    ('J', "account numbers", &["account", "iban", "accountnumber", "creditcard"]),
    ('K', "certificate and licence numbers", &["certificate", "license", "licence", "passport"]),
    ('L', "vehicle identifiers and serial numbers", &["vehicle", "vin", "licenseplate", "numberplate", "plate"]),
    (
        'M',
        "device identifiers and serial numbers",
        &["device", "serial", "serialnumber", "deviceid", "imei", "udi", "mac"],
    ),
    ('N', "web addresses", &["url", "uri", "website", "homepage"]),
    ('O', "IP addresses", &["ip", "ipaddress", "ipv4", "ipv6"]),
    ('P', "biometric identifiers", &["fingerprint", "voiceprint", "biometric", "iris", "retina", "faceid"]),
    ('Q', "full-face photographs", &["photo", "photograph", "picture", "portrait", "faceimage"]),
    (
        'R',
        "other unique numbers, characteristics or codes",
        &["id", "identifier", "uuid", "guid", "pid", "pseudonym", "hash"],
    ),
];

/// Words of columns that single people out together with others.
const QUASI: [&str; 24] = [
    "age",
    "sex",
    "gender",
    "race",
    "ethnicity",
    "ethnic",
    "religion",
    "occupation",
    "profession",
    "job",
    "employer",
    "education",
    "marital",
    "maritalstatus",
    "country",
    "nationality",
    "birthplace",
    "language",
    "income",
    "state",
    "region",
    "site",
    "household",
    "children",
];

/// What a column is by its name and what is declared of it.
pub(crate) fn suspicion(column: &Column) -> Option<Suspicion> {
    let words = words(&column.name);
    let has = |list: &[&str]| together(&words).iter().any(|word| list.contains(&word.as_str()));
    let is_year = has(&["year"]) && is_year(column);
    let found = IDENTIFIERS.iter().find(|(_, _, list)| has(list)).map(|(letter, what, _)| (*letter, *what));
    match found {
        // The first three digits of a ZIP code may stay (B), and the year of a date (C).
        Some(('B', _)) if has(&ZIP) && is_coarse_zip(column) => Some(Suspicion::Quasi),
        Some(('C', _)) if is_year => Some(Suspicion::Quasi),
        Some((letter, what)) => Some(Suspicion::Identifier(letter, what)),
        None if is_year || has(&QUASI) => Some(Suspicion::Quasi),
        None => None,
    }
}

/// The oldest age that a column can tell, where it is one that tells ages.
pub(crate) fn oldest(column: &Column) -> Option<Decimal> {
    let is_age = together(&words(&column.name)).iter().any(|word| word == "age");
    let highest = column.bounds.map(|[_, high]| high);
    let listed = column.domain.iter().flatten().filter_map(|value| match value {
        Value::Number(number) => Some(*number),
        Value::Boolean(_) | Value::Text(_) => None,
    });
    listed.chain(highest).max().filter(|_| is_age && column.kind.is_number())
}

const ZIP: [&str; 5] = ["zip", "zipcode", "postcode", "postalcode", "postal"];

/// Whether everything that the column can say is at most three digits.
fn is_coarse_zip(column: &Column) -> bool {
    let is_coarse = |value: &Value| match value {
        Value::Boolean(_) => false,
        Value::Number(number) => *number < Decimal::from(1000),
        Value::Text(text) => text.chars().count() <= 3,
    };
    column.domain.as_ref().is_some_and(|domain| domain.iter().all(is_coarse))
}

/// Whether everything that the column can say is a year: a whole number between bounds that are years.
fn is_year(column: &Column) -> bool {
    let years = Decimal::from(1800)..=Decimal::from(2200);
    column.kind == ColumnType::Integer
        && match (&column.bounds, &column.domain) {
            (Some(bounds), _) => bounds.iter().all(|bound| years.contains(bound)),
            (None, Some(domain)) => {
                domain.iter().all(|value| matches!(value, Value::Number(number) if years.contains(number)))
            }
            (None, None) => true,
        }
}

/// The words of a name, in lower case: parted by `_`, `-`, digits after letters, and capitals after small letters.
fn words(name: &Name) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut before = '_';
    for c in name.as_str().chars() {
        let begins = (c.is_ascii_uppercase() && before.is_ascii_lowercase())
            || (c.is_ascii_digit() && before.is_ascii_alphabetic());
        if begins || c == '_' || c == '-' {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut().filter(|_| c.is_ascii_alphanumeric()) {
            word.push(c.to_ascii_lowercase());
        }
        before = c;
    }
    words.retain(|word| !word.is_empty());
    words
}

/// Each word, and each two and three that stand together, without what parts them.
fn together(words: &[String]) -> Vec<String> {
    (1..=3).flat_map(|count| words.windows(count).map(|window| window.concat())).collect()
}

#[cfg(test)]
mod tests {
    use cohortium_messages::{ColumnRole, Sensitivity};

    use super::*;

    fn column(name: &str, declared: &str) -> Column {
        toml::from_str(&format!("name = \"{name}\"\nroles = []\n{declared}")).unwrap()
    }

    const TEXT: &str = "type = \"text\"";
    const NUMBER: &str = "type = \"integer\"";

    /// What the column is called, what is declared of it, the letter of the rule (`q`: quasi-identifier, `-`: nothing)
    #[test]
    fn columns_are_recognised_by_their_names() {
        for (name, declared, expected) in [
            ("last_name", TEXT, 'A'),
            ("LastName", TEXT, 'A'),
            ("surname", TEXT, 'A'),
            ("home_address", TEXT, 'B'),
            ("zip", TEXT, 'B'),
            ("zip", "type = \"text\"\ndomain = [\"123\", \"45\"]", 'q'),
            ("zip", "type = \"text\"\ndomain = [\"123\", \"4567\"]", 'B'),
            ("postal-code", "type = \"integer\"\ndomain = [100, 999]", 'q'),
            ("postal-code", "type = \"integer\"\ndomain = [100, 1000]", 'B'),
            ("city", TEXT, 'B'),
            ("birth_date", TEXT, 'C'),
            ("dateOfAdmission", TEXT, 'C'),
            ("discharge_year", "type = \"integer\"\nbounds = [1990, 2026]", 'q'),
            ("discharge_year", "type = \"integer\"\nbounds = [0, 99999999]", 'C'),
            ("date_year_month", TEXT, 'C'),
            ("birth_year", "type = \"integer\"\nbounds = [1920, 2026]", 'q'),
            ("phone2", TEXT, 'D'),
            ("fax", TEXT, 'E'),
            ("e-mail", TEXT, 'F'),
            ("SSN", TEXT, 'G'),
            ("medical_record_no", TEXT, 'H'),
            ("patient-id", NUMBER, 'H'),
            ("health_plan", TEXT, 'I'),
            ("account", NUMBER, 'J'),
            ("driving_licence", TEXT, 'K'),
            ("vin", TEXT, 'L'),
            ("serial_number", TEXT, 'M'),
            ("url", TEXT, 'N'),
            ("ip_address", TEXT, 'B'),
            ("ip", TEXT, 'O'),
            ("fingerprint", TEXT, 'P'),
            ("photo", TEXT, 'Q'),
            ("id", NUMBER, 'R'),
            ("age", NUMBER, 'q'),
            ("ethnic_group", NUMBER, 'q'),
            ("chol", NUMBER, '-'),
            ("stage", NUMBER, '-'),
            ("ipsilateral", NUMBER, '-'),
            ("updated", NUMBER, '-'),
        ] {
            let found = match suspicion(&column(name, declared)) {
                Some(Suspicion::Identifier(letter, _)) => letter,
                Some(Suspicion::Quasi) => 'q',
                None => '-',
            };
            assert_eq!(found, expected, "{name} {declared}");
        }
        let letters: String = IDENTIFIERS.iter().map(|(letter, ..)| *letter).collect();
        assert_eq!(letters, "ABCDEFGHIJKLMNOPQR");
    }

    #[test]
    fn ages_are_read_from_bounds_and_domains() {
        for (name, declared, expected) in [
            ("age", "type = \"integer\"\nbounds = [0, 120]", Some(120)),
            ("age_at_diagnosis", "type = \"integer\"\ndomain = [40, 95, 50]", Some(95)),
            ("age", NUMBER, None),
            ("stage", "type = \"integer\"\nbounds = [0, 120]", None),
            ("age", "type = \"text\"\ndomain = [\"95\"]", None),
        ] {
            assert_eq!(oldest(&column(name, declared)), expected.map(Decimal::from), "{name} {declared}");
        }
        let plain = column("age", NUMBER);
        assert!(!plain.allows(ColumnRole::Filter) && plain.sensitivity == Sensitivity::Ordinary);
    }
}
