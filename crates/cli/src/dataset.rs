//! The file in which a steward declares a dataset: how its CSV is written, its columns, bounds and roles.

use std::fmt::Write as _;
use std::path::Path;

use cohortium_messages::{Decimal, Name, OrganisationSecrets, Schema};
use cohortium_node::home::{CsvOptions, Home, IngestReport, NewDataset};
use cohortium_node::service::system_rng;
use serde::Deserialize;

use crate::output::Failure;

/// A declaration, as TOML.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Declaration {
    /// How the file is written.
    #[serde(default)]
    pub csv: CsvOptions,
    /// The dataset's name, where the command line does not say it.
    pub name: Option<Name>,
    /// Questions to ask in a demonstration.
    #[serde(default)]
    pub questions: Vec<String>,
    /// Columns, bounds, roles, contribution limits.
    pub schema: Schema,
}

impl Declaration {
    /// Reads a declaration and checks that its schema can be used.
    pub fn parse(text: &str, shown: &str) -> Result<Self, Failure> {
        let declaration: Self = toml::from_str(text).map_err(|error| {
            let start = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(start).filter(|byte| *byte == b'\n').count();
            Failure::usage(format!("{shown}, line {line}: {}", error.message()))
        })?;
        declaration.schema.check().map_err(|error| Failure::usage(format!("{shown}: {error}")))?;
        Ok(declaration)
    }

    pub fn load(path: &Path) -> Result<Self, Failure> {
        let text =
            std::fs::read_to_string(path).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
        Self::parse(&text, &path.display().to_string())
    }
}

/// What the house allows to be spent on a dataset in all.
#[derive(Debug, Clone, Copy)]
pub struct Total {
    pub epsilon: Decimal,
    pub delta: Decimal,
}

/// Takes a CSV file into a node's home: typed, clean, committed to under the house's salt.
pub fn add(
    home: &Home,
    secrets: &OrganisationSecrets,
    name: &Name,
    file: &Path,
    declaration: &Declaration,
    total: Total,
) -> Result<IngestReport, Failure> {
    let (nano_epsilon, nano_delta) = (total.epsilon.nano(), total.delta.nano());
    if !(1..=1_000_000_000_000).contains(&nano_epsilon) || !(1..=9_000_000).contains(&nano_delta) {
        // What an account can hold exactly; see `dp::Budget`.
        return Err(Failure::usage(
            "a dataset's --epsilon must be above 0 and at most 1000, its --delta above 0 and at most 0.009",
        ));
    }
    let reader = std::fs::File::open(file).map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let Declaration { csv, schema, .. } = declaration;
    let dataset = NewDataset { csv, delta: total.delta, epsilon: total.epsilon, name, schema };
    let taken = home.add_dataset(secrets, dataset, reader, &mut system_rng())?;
    taken.map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

/// A declaration to fill in: names and types are guessed from the file, bounds and domains are left to people, because
/// a bound read off the rows is a fact about the person with the largest value.
pub fn sketch(file: &Path) -> Result<String, Failure> {
    let mut reader = csv::ReaderBuilder::new()
        .flexible(true)
        .trim(csv::Trim::All)
        .from_path(file)
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))?;
    let headings: Vec<String> = reader.headers().map_err(Failure::usage)?.iter().map(str::to_owned).collect();
    let sample: Vec<csv::StringRecord> = reader.records().take(1000).filter_map(Result::ok).collect();
    let mut text = String::from(
        "# Fill in bounds (lowest and highest value that counts) from knowledge of the field, not from the rows,\n\
         # and domains (all values that exist). Give each column its roles: \"filter\", \"group\", \"aggregate\".\n\
         # A column without roles is never used.\n\n[schema]\n# person = \"NAME\"   # the column that tells persons apart; without it every row is another person\n\
         max_rows_per_person = 1     # rows of one person that count in one group\n\
         max_groups_per_person = 1   # groups that one person may count in\n",
    );
    for (position, heading) in headings.iter().enumerate() {
        let values: Vec<&str> = sample.iter().filter_map(|row| row.get(position)).filter(|v| !v.is_empty()).collect();
        let is = |test: fn(&str) -> bool| !values.is_empty() && values.iter().all(|value| test(value));
        let (kind, hint) = if is(|v| v.parse::<i64>().is_ok()) {
            ("integer", "# bounds = [LOWEST, HIGHEST]\n# domain = [0, 1]\n")
        } else if is(|v| v.parse::<f64>().is_ok_and(f64::is_finite)) {
            ("decimal", "# bounds = [LOWEST, HIGHEST]\n")
        } else if is(|v| v == "true" || v == "false") {
            ("boolean", "")
        } else {
            ("text", "# domain = [\"A\", \"B\"]\n")
        };
        let nullable = values.len() < sample.len();
        let _ = write!(
            text,
            "\n[[schema.columns]]\nname = {heading:?}\ntype = \"{kind}\"\nnullable = {nullable}\n{hint}roles = []\n"
        );
    }
    Ok(text)
}
