//! A first draft with good defaults, for a person to edit.
//!
//! The template takes over what can be known (who has joined, what they all offer alike) and proposes the cautious value
//! for what people must decide. Who accepts the remaining risk is left empty on purpose: such a draft does not resolve.
//!
//! Assumes: names, schemas and fingerprints were relayed by a hub; the comments ask people to compare. Free text from
//! others (meanings, domains) is written as TOML strings and cannot become anything else.

use std::fmt::Write as _;

use cohortium_messages::{
    Column, ColumnRole, ColumnType, HubEntry, Name, Offer, PersonEntry, ResearcherEntry, Role, RosterEntry, Schema,
    Sensitivity, Staff, Timestamp, Verified,
};

use crate::draft::{DraftError, entry_hash};

/// Seconds of the year that a study is valid at first.
const ONE_YEAR_SECONDS: i64 = 365 * 86_400;

/// Writes a draft of an agreement between `organisations`, for `researchers`, over the datasets that all of them offer
/// alike; in comments, what each value means, and which offered datasets are left out and why.
///
/// Defaults: one colluder, the smallest threshold and quorum that protect against it, post-quantum cosignatures, purpose
/// HMB, ε 1 per query and 10 in all at δ 10^-6, at most 1000 cells, groups of ten persons or more, valid for one year from
/// `now`. Where every organisation offers someone who may approve, one of them must approve each task at each node;
/// otherwise everything is approved automatically, and the draft says so. `risk_acceptance.accepted_by` is left empty and
/// must be filled in.
///
/// `staff` was opened with the message keys of the organisations that it names; of several lists of one, the last counts.
///
/// # Errors
/// [`DraftError::NoDataset`] when no dataset is offered alike by all, with the differences in words.
pub fn template(
    study: &Name,
    hub: &HubEntry,
    organisations: &[Verified<RosterEntry>],
    staff: &[Verified<Staff>],
    researchers: &[Verified<ResearcherEntry>],
    offers: &[Verified<Offer>],
    now: Timestamp,
) -> Result<String, DraftError> {
    let names: Vec<&Name> = organisations.iter().map(|entry| &entry.organisation).collect();
    let (common, left_out) = common_datasets(&names, offers);
    if common.is_empty() {
        let why = if left_out.is_empty() { String::from("nothing is offered") } else { left_out.join("; ") };
        return Err(DraftError::NoDataset(why));
    }
    let people = |organisation: &Name| {
        let latest = staff.iter().rev().find(|list| list.organisation == *organisation);
        latest.map_or(&[][..], |list| list.people.as_slice())
    };
    let by_people = names.iter().all(|name| people(name).iter().any(|entry| entry.role.may_approve()));
    let mut text = head(study, organisations.len(), now);
    text.push_str(&if by_people { approval_by_people() } else { approval_automatic(&common) });
    text.push_str(&limits(organisations.len()));
    let _ = write!(text, "\n[hub]\nname = \"{}\"\nfingerprint = \"{}\"\n", hub.hub, entry_hash(hub)?.fingerprint());
    for entry in organisations {
        let (name, fingerprint) = (&entry.organisation, entry.hash().fingerprint());
        let _ = write!(text, "\n[[party]]\norganisation = \"{name}\"\nfingerprint = \"{fingerprint}\"\n");
        text.push_str(&people_lines(people(name))?);
    }
    for entry in researchers {
        let (name, fingerprint) = (&entry.researcher, entry.hash().fingerprint());
        let _ = write!(text, "\n[[researcher]]\nname = \"{name}\"\nfingerprint = \"{fingerprint}\"\n");
    }
    text.push_str(
        "\n# Every party holds every dataset, with exactly this shape. Roles say what queries may do with a column;\n",
    );
    text.push_str(
        "# a column without roles is never used. Bounds and domains come from knowledge of the field, not from rows.\n",
    );
    text.push_str(
        "# mode = \"dp\": answers carry noise. A group whose noisy count is below that of minimum_cohort persons is not shown.\n\
         # sensitivity: \"identifying\" (never usable), \"quasi_identifying\", \"sensitive\" or \"ordinary\".\n",
    );
    for reason in &left_out {
        let _ = writeln!(text, "# Left out: {reason}.");
    }
    for (name, schema) in common {
        text.push_str(&dataset(name, schema));
    }
    Ok(text)
}

fn head(study: &Name, organisations: usize, now: Timestamp) -> String {
    let until = now.plus_seconds(ONE_YEAR_SECONDS);
    format!(
        r#"# A draft of a data-use agreement between {organisations} organisations. Edit it; nothing holds until every custodian has signed.
# Compare each fingerprint below with its owner over another channel (in person, by telephone) before signing.

study = "{study}"
title = "Study {study}"

# What for. NRES: anything. GRU: any research. HMB: health, medical or biomedical research. DS:<code>: research on one
# disease. POA: origins or ancestry of populations. (GA4GH Data Use Ontology.) A broader one covers a narrower one.
purposes = ["HMB"]
purpose_text = "To answer the questions of the study plan of {study}."

valid_from = "{now}"
valid_until = "{until}"

# The parties agree to erase the bodies of tasks and releases after this many days. The log keeps their hashes, and
# every proof stays valid. This version states the term and leaves the erasing to each operator.
retention_days = 3650

# What may be computed ("count", "mean", "sum"); how many numbers one answer may have; what a query with it may cost.
analyses = [
  {{ analysis = "count", max_cells = 1000, max_epsilon = 1 }},
  {{ analysis = "mean", max_cells = 1000, max_epsilon = 1 }},
  {{ analysis = "sum", max_cells = 1000, max_epsilon = 1 }},
]

# Conditions that everyone who asks must affirm with every task, each in a section of its own, for example:
#   [[condition]]
#   modifier = "IRB"
#   detail = "Approved by the ethics committee of ... under number ..."
# Codes: COL, GS, IRB, IS, MOR, NCU, NMDS, NPU, NPUNCU, PUB, RS, RTN. None are stated here.

# Phases narrow what may be done while they last; outside all phases nothing may be asked. For example:
#   [[phase]]
#   kind = "explore"            # or "analyse", "publish"
#   from = "{now}"
#   until = "{until}"
#   analyses = ["count"]
#   epsilon_per_query = 0.1
# None are stated here: the rights below hold for the whole term.

"#
    )
}

/// Every organisation has someone who may approve: one of them must, at each node, for every task.
fn approval_by_people() -> String {
    String::from(
        r#"# Who approves. At each node this many different people in these roles must approve every task before a row is read;
# one refusal refuses. A task that waits longer than `wait_hours` expires. With `hold`, a person also looks at what leaves.
[approval]
needed = 1
roles = ["privacy_officer", "steward"]
hold = false
wait_hours = 72

# What runs without asking anybody. Nothing: each class that is written here is a decision of these custodians.
[approval.automatic]
approved_plans = false
classes = []

"#,
    )
}

/// Nobody offered to approve: then everything that the rest of the agreement permits runs, and the draft says so.
fn approval_automatic(datasets: &[(&Name, &Schema)]) -> String {
    let names: Vec<String> = datasets.iter().map(|(name, _)| format!("\"{name}\"")).collect();
    format!(
        r#"# Who approves. NOBODY IS ASKED: not every organisation has named a steward or privacy officer, so this draft
# proposes that every task which this agreement permits, and which the account can pay, runs without asking a person.
# To have people approve: name them at every node, then set `needed` to 1 or more and empty `classes`.
[approval]
needed = 0
roles = []
hold = false
wait_hours = 72

# What runs without asking anybody: everything, over all datasets.
[approval.automatic]
approved_plans = false
classes = [
  {{ analyses = ["count", "mean", "sum"], datasets = [{}], max_cells = 1000, max_epsilon = 1 }},
]

"#,
        names.join(", ")
    )
}

fn limits(n: usize) -> String {
    let colluders = 1;
    let threshold = (n + colluders) / 2 + 1; // the smallest t with 2t > n + c, and the smallest such q
    format!(
        r#"# What may be spent at each node, as (epsilon, delta) of differential privacy. Smaller protects more.
[budgets]
epsilon_per_query = 1
epsilon_per_researcher = 10
epsilon_total = 10
delta = 0.000001

# Of {n} organisations, this many may pool all they know with the hub and still learn nothing beyond the paid price;
# all must be there when a round begins, at least `threshold` must stay to its end. 2 * threshold > {n} + colluders.
[secure_sum]
colluders = {colluders}
threshold = {threshold}

# So many parties must have cosigned the hub's log before an entry in it counts. 2 * quorum > {n} + colluders. With
# `post_quantum` a party counts only with two signatures, of which one withstands a quantum computer.
[log]
quorum = {threshold}
post_quantum = true

# What attacks on a trained model may achieve before it may leave, from 0 (nothing) to 1. Queries are not touched by this.
[attack_thresholds]
membership_advantage = 0.1
attribute_advantage = 0.1
reconstruction_rate = 0.01

# Who owns what, in words. No software enforces this.
[ownership]
data = "Each organisation keeps what it holds; no row leaves it."
models = "The organisations together."
results = "The organisations and the researchers together."
passing_on = "Released results may be published; nothing else is passed on."

# Who accepts the risk that remains, by name and office. A draft without it does not become an agreement.
[risk_acceptance]
accepted_by = ""
statement = "The remaining risk has been assessed and is accepted for the purposes, limits and period stated here."
"#
    )
}

/// The people of a party as the draft names them.
fn people_lines(people: &[PersonEntry]) -> Result<String, DraftError> {
    if people.is_empty() {
        return Ok(String::from("people = []\n"));
    }
    let mut text = String::from("people = [\n");
    for entry in people {
        let role = match entry.role {
            Role::Auditor => "auditor",
            Role::Operator => "operator",
            Role::PrivacyOfficer => "privacy_officer",
            Role::Steward => "steward",
        };
        let (person, fingerprint) = (&entry.person, entry_hash(entry)?.fingerprint());
        let _ = writeln!(text, "  {{ person = \"{person}\", role = \"{role}\", fingerprint = \"{fingerprint}\" }},");
    }
    text.push_str("]\n");
    Ok(text)
}

/// The datasets that all organisations offer alike, and in words why others are left out. Names are sorted.
fn common_datasets<'a>(
    organisations: &[&Name],
    offers: &'a [Verified<Offer>],
) -> (Vec<(&'a Name, &'a Schema)>, Vec<String>) {
    let mut names: Vec<&Name> = offers
        .iter()
        .filter(|offer| organisations.contains(&&offer.organisation))
        .map(|offer| &offer.dataset)
        .collect();
    names.sort();
    names.dedup();
    let (mut common, mut left_out) = (Vec::new(), Vec::new());
    for name in names {
        let offered: Vec<(&Name, Option<&Schema>)> = organisations
            .iter()
            .map(|organisation| {
                let latest = offers.iter().rev().find(|o| o.dataset == *name && o.organisation == **organisation);
                (*organisation, latest.map(|offer| &offer.schema))
            })
            .collect();
        match agree(name, &offered) {
            Ok(schema) => common.push((name, schema)),
            Err(why) => left_out.push(why),
        }
    }
    (common, left_out)
}

/// The schema that all offer, or in words how the offers differ.
fn agree<'a>(dataset: &Name, offered: &[(&Name, Option<&'a Schema>)]) -> Result<&'a Schema, String> {
    let missing: Vec<String> =
        offered.iter().filter(|(_, schema)| schema.is_none()).map(|(name, _)| format!("`{name}`")).collect();
    if !missing.is_empty() {
        return Err(format!("`{dataset}` is not offered by {}", missing.join(", ")));
    }
    let mut schemas = offered.iter().filter_map(|(name, schema)| schema.map(|schema| (*name, schema)));
    let Some((first_name, first)) = schemas.next() else {
        return Err(format!("`{dataset}` is offered by nobody"));
    };
    let differences: Vec<String> =
        schemas.flat_map(|(name, schema)| differences((first_name, first), (name, schema))).collect();
    if differences.is_empty() { Ok(first) } else { Err(format!("`{dataset}` differs: {}", differences.join(", "))) }
}

/// How two schemas differ, in words: which organisation, which column, what.
fn differences((a, left): (&Name, &Schema), (b, right): (&Name, &Schema)) -> Vec<String> {
    let mut found = Vec::new();
    let limits = [
        ("max_groups_per_person", left.max_groups_per_person, right.max_groups_per_person),
        ("max_rows_per_person", left.max_rows_per_person, right.max_rows_per_person),
    ];
    for (what, at_a, at_b) in limits {
        if at_a != at_b {
            found.push(format!("{what} is {at_a} at `{a}` and {at_b} at `{b}`"));
        }
    }
    if left.person != right.person {
        found.push(format!("the person column of `{b}` is not that of `{a}`"));
    }
    for (has, lacks, from, other) in [(a, b, left, right), (b, a, right, left)] {
        let only = from.columns.iter().filter(|column| other.column(&column.name).is_none());
        found.extend(only.map(|column| format!("`{has}` has column `{}` and `{lacks}` does not", column.name)));
    }
    for column in &left.columns {
        if let Some(other) = right.column(&column.name) {
            let fields = column_differences(column, other);
            if !fields.is_empty() {
                found.push(format!("column `{}`: {} at `{b}` is not as at `{a}`", column.name, fields.join(" and ")));
            }
        }
    }
    if found.is_empty() && left != right {
        found.push(format!("the columns of `{b}` are in another order than those of `{a}`"));
    }
    found
}

fn column_differences(left: &Column, right: &Column) -> Vec<&'static str> {
    let fields = [
        ("type", left.kind != right.kind),
        ("bounds", left.bounds != right.bounds),
        ("domain", left.domain != right.domain),
        ("meaning", left.meaning != right.meaning),
        ("nullable", left.nullable != right.nullable),
        ("roles", left.roles != right.roles),
        ("sensitivity", left.sensitivity != right.sensitivity),
    ];
    fields.into_iter().filter(|(_, differs)| *differs).map(|(field, _)| field).collect()
}

fn dataset(name: &Name, schema: &Schema) -> String {
    let mut text = format!(
        "\n[[dataset]]\nname = \"{name}\"\nmode = \"dp\"\nminimum_cohort = 10\nmax_groups_per_person = {}\n\
         max_rows_per_person = {}\n",
        schema.max_groups_per_person, schema.max_rows_per_person
    );
    if let Some(person) = &schema.person {
        let _ = writeln!(text, "person = \"{person}\"");
    }
    text.push_str("columns = [\n");
    for column in &schema.columns {
        let _ = writeln!(text, "  {},", column_line(column));
    }
    text.push_str("]\n");
    text
}

/// A column as one inline table: people read a schema as lines.
fn column_line(column: &Column) -> String {
    let kind = match column.kind {
        ColumnType::Boolean => "boolean",
        ColumnType::Decimal => "decimal",
        ColumnType::Integer => "integer",
        ColumnType::Text => "text",
    };
    let mut parts = vec![format!("name = \"{}\"", column.name), format!("type = \"{kind}\"")];
    if let Some([low, high]) = column.bounds {
        parts.push(format!("bounds = [{low}, {high}]"));
    }
    if let Some(domain) = &column.domain {
        let values: Vec<String> = domain.iter().map(value).collect();
        parts.push(format!("domain = [{}]", values.join(", ")));
    }
    if column.nullable {
        parts.push(String::from("nullable = true"));
    }
    let roles: Vec<String> = column.roles.iter().map(|role: &ColumnRole| format!("\"{role}\"")).collect();
    parts.push(format!("roles = [{}]", roles.join(", ")));
    let sensitivity = match column.sensitivity {
        Sensitivity::Identifying => "identifying",
        Sensitivity::Ordinary => "ordinary",
        Sensitivity::QuasiIdentifying => "quasi_identifying",
        Sensitivity::Sensitive => "sensitive",
    };
    parts.push(format!("sensitivity = \"{sensitivity}\""));
    if let Some(meaning) = &column.meaning {
        parts.push(format!("meaning = {}", quoted(meaning)));
    }
    format!("{{ {} }}", parts.join(", "))
}

fn value(value: &cohortium_messages::Value) -> String {
    match value {
        cohortium_messages::Value::Boolean(value) => value.to_string(),
        cohortium_messages::Value::Number(value) => value.to_string(),
        cohortium_messages::Value::Text(text) => quoted(text),
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::draft::parse;
    use crate::fixtures::{World, start};

    fn filled(text: &str) -> String {
        text.replace("accepted_by = \"\"", "accepted_by = \"Dr. A. Nyman, data protection officer\"")
    }

    #[test]
    fn a_filled_in_template_becomes_an_agreement_with_the_offered_schema() {
        for n in [2, 3, 4, 5, 10] {
            let world = World::new(n);
            let offers = world.offers(|_, _| ());
            let study = Name::new("heart-study").unwrap();
            let text =
                template(&study, &world.hub, &world.organisations, &world.staff, &world.researchers, &offers, start())
                    .unwrap();
            let untouched = world.resolve(&parse(&text).unwrap());
            assert!(untouched.unwrap_err().to_string().contains("risk_acceptance.accepted_by"));
            let agreement = world.resolve(&parse(&filled(&text)).unwrap()).unwrap();
            assert_eq!(agreement.datasets.len(), 1);
            assert_eq!(agreement.datasets[0].schema, world.agreement.datasets[0].schema);
            assert_eq!(agreement.participants(), world.agreement.participants());
            let (t, c) = (agreement.secure_sum.threshold as usize, agreement.secure_sum.colluders as usize);
            assert!(2 * t > n + c && 2 * (t - 1) <= n + c, "t = {t} for n = {n}");
        }
    }

    /// Meanings and domain values are other people's text.
    #[test]
    fn hostile_text_stays_text() {
        let world = World::new(3);
        let hostile = "x\"\n[budgets]\nepsilon_total = 99 # ''' \"\"\" \\ \u{7f}\u{202e}";
        let offers = world.offers(|_, offer| {
            offer.schema.columns[1].meaning = Some(hostile.to_owned());
            offer.schema.columns[3].domain = Some(vec![cohortium_messages::Value::Text(hostile.to_owned())]);
        });
        let study = Name::new("heart-study").unwrap();
        let text =
            template(&study, &world.hub, &world.organisations, &world.staff, &world.researchers, &offers, start())
                .unwrap();
        let agreement = world.resolve(&parse(&filled(&text)).unwrap()).unwrap();
        assert_eq!(agreement.datasets[0].schema, offers[0].schema);
        assert_eq!(agreement.budgets.epsilon_total, 10.into());
    }

    #[test]
    fn differences_are_reported_in_words() {
        let world = World::new(3);
        let study = Name::new("heart-study").unwrap();
        type Edit = fn(&mut Schema);
        let cases: [(Edit, &str); 6] = [
            (
                |s| s.columns[1].bounds = Some([0.into(), 500.into()]),
                "`heart` differs: column `chol`: bounds at `b` is not as at `a`",
            ),
            (|s| drop(s.columns.remove(1)), "`a` has column `chol` and `b` does not"),
            (|s| s.max_rows_per_person = 7, "max_rows_per_person is 3 at `a` and 7 at `b`"),
            (|s| s.columns.swap(0, 1), "the columns of `b` are in another order than those of `a`"),
            (|s| s.person = Some(Name::new("secret").unwrap()), "the person column of `b` is not that of `a`"),
            (|s| s.columns[1].roles.clear(), "column `chol`: roles at `b` is not as at `a`"),
        ];
        for (edit, expected) in cases {
            let offers = world.offers(|name, offer| {
                if name == "b" {
                    edit(&mut offer.schema);
                }
            });
            let error =
                template(&study, &world.hub, &world.organisations, &world.staff, &world.researchers, &offers, start());
            let message = error.unwrap_err().to_string();
            assert!(message.contains(expected), "{message}");
        }
        let missing: Vec<_> = world.offers(|_, _| ()).into_iter().filter(|o| o.organisation.as_str() != "c").collect();
        let error =
            template(&study, &world.hub, &world.organisations, &world.staff, &world.researchers, &missing, start());
        assert!(error.unwrap_err().to_string().contains("`heart` is not offered by `c`"));
    }
}
