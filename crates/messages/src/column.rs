//! What a dataset looks like to those who may not see it: columns, types, public bounds and domains, permitted roles.
//!
//! Bounds and domains are declared by people, never read off the rows: a bound taken from the data is a fact about the
//! person who has the largest value.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{Decimal, Name};

/// The columns of a dataset, whose rows belong to whom, and how much one person may contribute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The columns, in the order of the declaration.
    pub columns: Vec<Column>,
    /// At most this many groups of one answer may count one person; 1 where the grouping is an attribute of the person.
    pub max_groups_per_person: u32,
    /// At most this many rows of one person count in one group; sums are clamped accordingly.
    pub max_rows_per_person: u32,
    /// The column that tells persons apart, or nothing where every row is another person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Name>,
}

/// One column.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Lowest and highest value that counts; what lies outside is clamped. Needed to aggregate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bounds: Option<[Decimal; 2]>,
    /// All values that exist; what lies outside counts as missing. Needed to group.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Vec<Value>>,
    /// What it means, for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub meaning: Option<String>,
    /// The name used in queries.
    pub name: Name,
    /// Whether values may be missing.
    #[serde(default)]
    pub nullable: bool,
    /// What may be done with it; nothing else.
    pub roles: Vec<ColumnRole>,
    /// How much it says about a person.
    #[serde(default, skip_serializing_if = "Sensitivity::is_ordinary")]
    pub sensitivity: Sensitivity,
    /// The type.
    #[serde(rename = "type")]
    pub kind: ColumnType,
}

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// True or false.
    Boolean,
    /// Numbers with decimals.
    Decimal,
    /// Whole numbers.
    Integer,
    /// Text.
    Text,
}

impl ColumnType {
    /// Whether sums and comparisons by size make sense.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::Decimal | Self::Integer)
    }
}

/// What a query may do with a column. No role at all means: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnRole {
    /// Sums, means and counts of recorded values.
    Aggregate,
    /// What a model predicts from.
    Feature,
    /// In `WHERE`.
    Filter,
    /// In `GROUP BY`.
    Group,
    /// What a model predicts.
    Label,
}

impl std::fmt::Display for ColumnRole {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Aggregate => "aggregate",
            Self::Feature => "feature",
            Self::Filter => "filter",
            Self::Group => "group",
            Self::Label => "label",
        })
    }
}

/// How much a column says about a person: what reviewers look at, and what `study check` warns by.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sensitivity {
    /// Tells who someone is, alone: a name, a number, an address. Never usable.
    Identifying,
    /// Nothing special.
    #[default]
    Ordinary,
    /// Tells who someone is together with others: a date of birth, a postcode, an occupation.
    QuasiIdentifying,
    /// Harms if it becomes known: a diagnosis, a genetic finding, an orientation.
    Sensitive,
}

impl Sensitivity {
    /// Whether it goes without saying.
    #[must_use]
    pub fn is_ordinary(&self) -> bool {
        *self == Self::Ordinary
    }
}

impl std::fmt::Display for Sensitivity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Identifying => "identifying",
            Self::Ordinary => "ordinary",
            Self::QuasiIdentifying => "quasi-identifying",
            Self::Sensitive => "sensitive",
        })
    }
}

/// A literal value: of a domain or in a filter.
///
/// Written as a JSON boolean, a JSON string, or `{"number": "1.5"}`; people may write plain numbers in TOML.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Value {
    /// True or false.
    Boolean(bool),
    /// An exact number.
    Number(Decimal),
    /// Text.
    Text(String),
}

impl std::fmt::Display for Value {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Boolean(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(value) => f.write_str(value),
        }
    }
}

/// Why a schema cannot be used. The steward who wrote it must act.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ColumnError {
    /// A column may be aggregated but nothing bounds it.
    #[error(
        "column `{0}` has the role aggregate but no bounds: declare `bounds = [lowest, highest]` from knowledge of the field, not from the rows"
    )]
    BoundsMissing(Name),
    /// The bounds are no interval, or the column is not a number.
    #[error("column `{0}`: bounds must be two numbers, the lower first, on a number column")]
    BoundsWrong(Name),
    /// A column may be grouped by but its values are not declared.
    #[error("column `{0}` has the role group but no domain: declare `domain = [...]`")]
    DomainMissing(Name),
    /// A value of the domain has another type, or occurs twice, or there are none or too many.
    #[error("column `{0}`: the domain must list 1 to {MAX_DOMAIN} different values of the column's type")]
    DomainWrong(Name),
    /// A column that tells who someone is, with a role.
    #[error("column `{0}` is identifying and has a role: take its roles away; nobody may ask about it")]
    Identifying(Name),
    /// Two columns of one name.
    #[error("column `{0}` is declared twice")]
    Twice(Name),
    /// The person column is missing or usable.
    #[error(
        "person column `{0}` must be declared as text or integer, and with no roles: it tells persons apart and is never \
         asked about"
    )]
    Person(Name),
    /// A limit of zero or beyond what sums can hold.
    #[error("{0} must be between 1 and {1}")]
    Limit(&'static str, u32),
    /// No columns, or too many.
    #[error("a dataset has 1 to {MAX_COLUMNS} columns")]
    Columns,
}

/// The most columns a dataset may have.
const MAX_COLUMNS: usize = 4096;
/// The most values a domain may list.
const MAX_DOMAIN: usize = 10_000;
/// The most rows of one person that may count in one group: keeps one person's contribution inside 20 bits of rows.
const MAX_ROWS_PER_PERSON: u32 = 1 << 16;
/// The most groups that one person may count in.
const MAX_GROUPS_PER_PERSON: u32 = 1 << 16;

impl Schema {
    /// The column of that name.
    #[must_use]
    pub fn column(&self, name: &Name) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == *name)
    }

    /// Checks that everything the roles need is declared.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ColumnError> {
        if self.columns.is_empty() || self.columns.len() > MAX_COLUMNS {
            return Err(ColumnError::Columns);
        }
        if !(1..=MAX_ROWS_PER_PERSON).contains(&self.max_rows_per_person) {
            return Err(ColumnError::Limit("max_rows_per_person", MAX_ROWS_PER_PERSON));
        }
        if !(1..=MAX_GROUPS_PER_PERSON).contains(&self.max_groups_per_person) {
            return Err(ColumnError::Limit("max_groups_per_person", MAX_GROUPS_PER_PERSON));
        }
        let mut names: Vec<&Name> = self.columns.iter().map(|column| &column.name).collect();
        names.sort();
        if let Some([name, _]) = names.array_windows().find(|[a, b]| a == b) {
            return Err(ColumnError::Twice((*name).clone()));
        }
        if let Some(person) = &self.person
            && !self.column(person).is_some_and(Column::tells_persons_apart)
        {
            return Err(ColumnError::Person(person.clone()));
        }
        self.columns.iter().try_for_each(Column::check)
    }
}

impl Column {
    /// Whether queries may use the column so.
    #[must_use]
    pub fn allows(&self, role: ColumnRole) -> bool {
        self.roles.contains(&role)
    }

    /// Whether two persons can never be taken for one: a decimal would merge long numbers.
    fn tells_persons_apart(&self) -> bool {
        self.roles.is_empty() && matches!(self.kind, ColumnType::Integer | ColumnType::Text)
    }

    fn check(&self) -> Result<(), ColumnError> {
        let name = || self.name.clone();
        if self.sensitivity == Sensitivity::Identifying && !self.roles.is_empty() {
            return Err(ColumnError::Identifying(name()));
        }
        match self.bounds {
            Some([low, high]) if !self.kind.is_number() || low >= high => return Err(ColumnError::BoundsWrong(name())),
            None if self.allows(ColumnRole::Aggregate) && self.kind.is_number() => {
                return Err(ColumnError::BoundsMissing(name()));
            }
            _ => {}
        }
        match &self.domain {
            Some(domain) if !self.is_domain(domain) => Err(ColumnError::DomainWrong(name())),
            None if self.allows(ColumnRole::Group) && self.kind != ColumnType::Boolean => {
                Err(ColumnError::DomainMissing(name()))
            }
            _ => Ok(()),
        }
    }

    fn is_domain(&self, domain: &[Value]) -> bool {
        let mut sorted = domain.to_vec();
        sorted.sort();
        sorted.dedup();
        (1..=MAX_DOMAIN).contains(&domain.len()) && sorted.len() == domain.len() && domain.iter().all(|v| self.holds(v))
    }

    /// Whether `value` is of this column's type.
    #[must_use]
    pub fn holds(&self, value: &Value) -> bool {
        match (self.kind, value) {
            (ColumnType::Boolean, Value::Boolean(_))
            | (ColumnType::Decimal, Value::Number(_))
            | (ColumnType::Text, Value::Text(_)) => true,
            (ColumnType::Integer, Value::Number(number)) => number.scale() == 0,
            _ => false,
        }
    }

    /// All values a group key of this column can take, in the declared order; `None` stands for "missing".
    #[must_use]
    pub fn group_values(&self) -> Vec<Option<Value>> {
        let declared = match (&self.domain, self.kind) {
            (Some(domain), _) => domain.clone(),
            (None, ColumnType::Boolean) => vec![Value::Boolean(false), Value::Boolean(true)],
            (None, _) => Vec::new(),
        };
        let missing = if self.nullable { vec![None] } else { Vec::new() };
        declared.into_iter().map(Some).chain(missing).collect()
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Boolean(value) => serializer.serialize_bool(*value),
            Self::Text(value) => serializer.serialize_str(value),
            Self::Number(value) => {
                use serde::ser::SerializeMap as _;
                let mut map = serializer.serialize_map(Some(1))?;
                map.serialize_entry("number", value)?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(deny_unknown_fields)]
        struct Tagged {
            number: Decimal,
        }
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Written {
            Boolean(bool),
            Text(String),
            Tagged(Tagged),
            Plain(Decimal),
        }
        Ok(match Written::deserialize(deserializer)? {
            Written::Boolean(value) => Self::Boolean(value),
            Written::Text(value) => Self::Text(value),
            Written::Tagged(Tagged { number }) | Written::Plain(number) => Self::Number(number),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        max_groups_per_person = 1
        max_rows_per_person = 1
        [[columns]]
        name = "sex"
        type = "integer"
        domain = [0, 1]
        roles = ["filter", "group"]
        [[columns]]
        name = "chol"
        type = "decimal"
        bounds = [0, 600.5]
        nullable = true
        roles = ["filter", "aggregate"]
    "#;

    #[test]
    fn a_schema_is_read_from_toml_and_survives_canonical_json() {
        let schema: Schema = toml::from_str(GOOD).unwrap();
        schema.check().unwrap();
        let bytes = crate::canonical_bytes(&schema).unwrap();
        let again: Schema = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(schema, again);
        assert_eq!(crate::canonical_bytes(&again).unwrap(), bytes);
        let sex = schema.column(&Name::new("sex").unwrap()).unwrap();
        assert_eq!(sex.group_values().len(), 2);
    }

    #[test]
    fn each_defect_is_named() {
        let cases = [
            ("bounds = [0, 600.5]", "", "bounds"),
            ("bounds = [0, 600.5]", "bounds = [600, 0]", "bounds"),
            ("domain = [0, 1]", "", "domain"),
            ("domain = [0, 1]", "domain = [0, 0]", "domain"),
            ("domain = [0, 1]", "domain = [0, 1.5]", "domain"),
            ("domain = [0, 1]", "domain = [\"m\"]", "domain"),
            ("name = \"chol\"", "name = \"sex\"", "twice"),
            ("max_rows_per_person = 1", "max_rows_per_person = 0", "max_rows_per_person"),
            ("max_groups_per_person = 1", "max_groups_per_person = 1\nperson = \"sex\"", "person"),
            (
                "max_rows_per_person = 1",
                "max_rows_per_person = 1\nperson = \"id\"\n[[columns]]\nname = \"id\"\ntype = \"decimal\"\nroles = []",
                "person",
            ),
        ];
        for (from, to, word) in cases {
            let schema: Schema = toml::from_str(&GOOD.replace(from, to)).unwrap();
            let message = schema.check().unwrap_err().to_string();
            assert!(message.contains(word), "{from} -> {to}: {message}");
        }
    }
}
