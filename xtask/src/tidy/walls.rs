//! The walls between rooms, read from what Cargo resolved: the hub cannot read a row because it has nothing to read
//! one with.
//!
//! The table of levels is the architecture in one place. A new crate or a new edge is a change of design: change the
//! table and ARCHITECTURE.md in the same breath, and say why.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use serde_json::Value;

use super::Violation;

/// Our crates and their levels: an edge, also one for tests only, goes to a strictly lower level.
const LEVELS: [(&str, u8); 15] = [
    ("cohortium-dp", 0),
    ("cohortium-messages", 1),
    ("cohortium-store", 1),
    ("cohortium-mpc", 2),
    ("cohortium-ledger", 2),
    ("cohortium-query", 2),
    ("cohortium-api", 2),
    ("cohortium-policy", 3),
    ("cohortium-engine", 3),
    ("cohortium-audit", 4),
    ("cohortium-hub", 4),
    ("cohortium-node", 4),
    ("cohortium-cli", 5),
    ("cohortium-sim", 5),
    ("cohortium-bench", 5),
];

const ENGINE: &str = "cohortium-engine";
/// Who may run a plan over rows.
const ENGINE_USERS: [&str; 2] = ["cohortium-node", "cohortium-sim"];

/// Who contains nothing that could read a row, and anyone can check it with `cargo tree -p`.
const WITHOUT_ROWS: [&str; 2] = ["cohortium-hub", "cohortium-audit"];

/// Who never contains whom, on whatever way. The auditor stands apart from the houses it audits.
const APART: [(&str, &[&str]); 3] = [
    ("cohortium-hub", &["cohortium-node", ENGINE]),
    ("cohortium-node", &["cohortium-hub"]),
    ("cohortium-audit", &["cohortium-node", "cohortium-hub", "cohortium-api", ENGINE]),
];

/// Everything that is compiled, ours and others'.
pub struct Graph {
    /// By Cargo's identifier.
    packages: BTreeMap<String, Package>,
}

/// A crate at one version.
pub struct Package {
    /// As others name it.
    pub name: String,
    /// `major.minor.patch`.
    pub version: String,
    /// SPDX expression, if its author gave one.
    pub licence: Option<String>,
    /// Whether it is a member of this workspace.
    pub is_ours: bool,
    needs: Vec<Need>,
}

struct Need {
    id: String,
    for_tests_only: bool,
}

impl Graph {
    /// Reads what `cargo metadata --format-version 1` prints.
    ///
    /// # Errors
    /// When it is not that.
    pub fn parse(json: &str) -> Result<Self, String> {
        let malformed = || "what cargo metadata printed is not what it should be".to_owned();
        let metadata: Value = serde_json::from_str(json).map_err(|error| format!("{}: {error}", malformed()))?;
        let list = |pointer: &str| metadata.pointer(pointer).and_then(Value::as_array).ok_or_else(malformed);
        let ours: BTreeSet<&str> = list("/workspace_members")?.iter().filter_map(Value::as_str).collect();
        let mut needs: BTreeMap<&str, Vec<Need>> = BTreeMap::new();
        for node in list("/resolve/nodes")? {
            let id = text(node, "id").ok_or_else(malformed)?;
            let deps = node.get("deps").and_then(Value::as_array).ok_or_else(malformed)?;
            needs.insert(id, deps.iter().map(parse_need).collect::<Option<_>>().ok_or_else(malformed)?);
        }
        let mut packages = BTreeMap::new();
        for package in list("/packages")? {
            let (id, name) = (text(package, "id").ok_or_else(malformed)?, text(package, "name").ok_or_else(malformed)?);
            let package = Package {
                name: name.to_owned(),
                version: text(package, "version").ok_or_else(malformed)?.to_owned(),
                licence: text(package, "license").map(str::to_owned),
                is_ours: ours.contains(id),
                needs: needs.remove(id).unwrap_or_default(),
            };
            packages.insert(id.to_owned(), package);
        }
        Ok(Self { packages })
    }

    /// All packages.
    pub fn packages(&self) -> impl Iterator<Item = &Package> {
        self.packages.values()
    }

    /// Our packages.
    pub fn ours(&self) -> impl Iterator<Item = &Package> {
        self.packages().filter(|package| package.is_ours)
    }

    /// What a package needs directly, tests included.
    fn needed_by<'a>(&'a self, package: &'a Package) -> impl Iterator<Item = &'a Package> {
        package.needs.iter().filter_map(|need| self.packages.get(&need.id))
    }

    /// What a package contains: all that it needs, tests included, and all that those need when they are not tested;
    /// each with the names on the way to it. The same as `cargo tree -p` shows.
    fn contents<'a>(&'a self, root: &'a Package) -> BTreeMap<&'a str, Vec<&'a str>> {
        let mut found = BTreeMap::new();
        let mut queue = VecDeque::from([(root, vec![root.name.as_str()])]);
        while let Some((package, way)) = queue.pop_front() {
            let is_root = way.len() == 1;
            for need in package.needs.iter().filter(|need| is_root || !need.for_tests_only) {
                let Some((id, next)) = self.packages.get_key_value(&need.id) else { continue };
                if !found.contains_key(id.as_str()) {
                    let way: Vec<&str> = way.iter().copied().chain([next.name.as_str()]).collect();
                    found.insert(id.as_str(), way.clone());
                    queue.push_back((next, way));
                }
            }
        }
        found
    }
}

/// Every crate of ours has a level, and stands on lower ones only.
pub fn levels(graph: &Graph) -> Vec<Violation> {
    let level = |name: &str| LEVELS.iter().find(|(other, _)| *other == name).map(|(_, level)| *level);
    let mut violations = Vec::new();
    for package in graph.ours() {
        let name = package.name.as_str();
        if level(name).is_none() && name != "xtask" {
            violations.push(Violation::of(name, "has no level: give it one in xtask and say in ARCHITECTURE.md why"));
        }
        for needed in graph.needed_by(package).filter(|needed| needed.is_ours) {
            if level(name).is_none_or(|above| level(&needed.name).is_none_or(|below| below >= above)) {
                let what = format!("depends on {}, which is not below it: move what both need downwards", needed.name);
                violations.push(Violation::of(name, what));
            }
        }
    }
    let missing = LEVELS.iter().filter(|(name, _)| graph.ours().all(|package| package.name != *name));
    violations
        .extend(missing.map(|(name, _)| Violation::of(name, "has a level and does not exist: take it off the table")));
    violations
}

/// DataFusion lives only in `engine`, and only a node runs it.
pub fn query_engine(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for package in graph.ours() {
        for needed in graph.needed_by(package) {
            if reads_rows(&needed.name) && package.name != ENGINE {
                let what = format!("depends on {}: only {ENGINE} may; ask it through a plan", needed.name);
                violations.push(Violation::of(&package.name, what));
            }
            if needed.name == ENGINE && !ENGINE_USERS.contains(&package.name.as_str()) {
                let what = format!("depends on {ENGINE}: only {} may", ENGINE_USERS.join(" and "));
                violations.push(Violation::of(&package.name, what));
            }
        }
    }
    violations
}

/// Rooms that must stand apart do not contain one another, and the hub contains nothing that could read a row.
pub fn apart(graph: &Graph) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (name, never) in APART {
        let Some(room) = graph.ours().find(|package| package.name == name) else {
            violations.push(Violation::of(name, "is not in the workspace: this wall has nothing to keep"));
            continue;
        };
        for way in graph.contents(room).values() {
            let last = way.last().copied().unwrap_or_default();
            if never.contains(&last) || WITHOUT_ROWS.contains(&name) && reads_rows(last) {
                let what =
                    format!("must not contain {last}; it comes by {}: cut the way where it leaves us", way.join(" > "));
                violations.push(Violation::of(name, what));
            }
        }
    }
    violations
}

fn reads_rows(name: &str) -> bool {
    name.starts_with("datafusion") || name == "arrow" || name.starts_with("arrow-") || name == "parquet"
}

fn parse_need(need: &Value) -> Option<Need> {
    let kinds = need.get("dep_kinds")?.as_array()?;
    let for_tests_only = kinds.iter().all(|kind| text(kind, "kind") == Some("dev"));
    Some(Need { id: text(need, "pkg")?.to_owned(), for_tests_only })
}

fn text<'a>(value: &'a Value, field: &str) -> Option<&'a str> {
    value.get(field).and_then(Value::as_str)
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// A graph of packages with the packages they need; `dev:` before a need says that it is for tests only. Packages
    /// named `cohortium-…` or `xtask` are ours. `name@version` gives a version.
    pub fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let plain = |id: &str| id.split('@').next().unwrap().to_owned();
        let is_ours = |id: &str| id.starts_with("cohortium-") || id == "xtask";
        let mut ids: BTreeSet<&str> = edges.iter().map(|(id, _)| *id).collect();
        ids.extend(edges.iter().flat_map(|(_, needs)| needs.iter().map(|need| need.trim_start_matches("dev:"))));
        let packages = ids.iter().map(|id| {
            let version = id.split('@').nth(1).unwrap_or("1.0.0");
            serde_json::json!({"id": id, "name": plain(id), "version": version, "license": "MIT"})
        });
        let nodes = edges.iter().map(|(id, needs)| {
            let deps = needs.iter().map(|need| match need.strip_prefix("dev:") {
                Some(need) => serde_json::json!({"pkg": need, "dep_kinds": [{"kind": "dev"}]}),
                None => serde_json::json!({"pkg": need, "dep_kinds": [{"kind": null}, {"kind": "dev"}]}),
            });
            serde_json::json!({"id": id, "deps": deps.collect::<Vec<_>>()})
        });
        let json = serde_json::json!({
            "packages": packages.collect::<Vec<_>>(),
            "workspace_members": ids.iter().filter(|id| is_ours(id)).collect::<Vec<_>>(),
            "resolve": {"nodes": nodes.collect::<Vec<_>>()},
        });
        Graph::parse(&json.to_string()).unwrap()
    }

    /// All our crates, each on a few lower ones, as they should be.
    const GOOD: [(&str, &[&str]); 16] = [
        ("cohortium-dp", &["serde", "dev:proptest"]),
        ("cohortium-messages", &["cohortium-dp"]),
        ("cohortium-store", &[]),
        ("cohortium-mpc", &["cohortium-messages"]),
        ("cohortium-ledger", &["cohortium-store"]),
        ("cohortium-query", &["cohortium-messages"]),
        ("cohortium-api", &["cohortium-messages"]),
        ("cohortium-policy", &["cohortium-query", "cohortium-mpc"]),
        ("cohortium-engine", &["datafusion", "cohortium-messages"]),
        ("cohortium-audit", &["cohortium-policy", "cohortium-ledger"]),
        ("cohortium-hub", &["cohortium-policy", "cohortium-api", "arrayvec"]),
        ("cohortium-node", &["cohortium-engine", "cohortium-policy"]),
        ("cohortium-cli", &["cohortium-hub", "cohortium-node"]),
        ("cohortium-sim", &["cohortium-hub", "cohortium-node", "cohortium-engine"]),
        ("cohortium-bench", &["cohortium-dp"]),
        ("xtask", &["toml"]),
    ];

    fn all(changed: &[(&'static str, &'static [&'static str])]) -> Vec<Violation> {
        let mut edges = GOOD.to_vec();
        for (name, needs) in changed {
            edges.retain(|(other, _)| other != name);
            edges.push((name, needs));
        }
        let graph = graph(&edges);
        [levels(&graph), query_engine(&graph), apart(&graph)].concat()
    }

    #[test]
    fn the_house_as_it_should_be_is_accepted() {
        assert_eq!(all(&[]), []);
        assert_eq!(all(&[("cohortium-hub", &["cohortium-api", "tokio"]), ("tokio", &["dev:arrow-array"])]), []);
    }

    #[test]
    fn each_hole_in_a_wall_is_found() {
        let holes: [(&'static str, &'static [&'static str]); 13] = [
            ("cohortium-dp", &["cohortium-messages"]),
            ("cohortium-mpc", &["cohortium-ledger"]),
            ("cohortium-messages", &["dev:cohortium-query"]),
            ("cohortium-hub", &["cohortium-node"]),
            ("cohortium-node", &["cohortium-hub"]),
            ("cohortium-hub", &["cohortium-engine"]),
            ("cohortium-hub", &["dev:arrow-array"]),
            ("cohortium-query", &["datafusion-common"]),
            ("cohortium-cli", &["cohortium-engine"]),
            ("xtask", &["cohortium-dp"]),
            ("cohortium-attack", &[]),
            ("cohortium-audit", &["cohortium-api"]),
            ("cohortium-audit", &["dev:parquet"]),
        ];
        for (name, needs) in holes {
            let violations = all(&[(name, needs)]);
            assert!(violations.iter().any(|violation| violation.place == name), "{name} {needs:?}: {violations:?}");
        }
    }

    /// A wall is no wall when one can walk around it through somebody else's crate.
    #[test]
    fn the_way_around_is_found_and_named() {
        let violations = all(&[("cohortium-api", &["web"]), ("web", &["columns"]), ("columns", &["parquet"])]);
        let [violation] = violations.as_slice() else { panic!("{violations:?}") };
        assert!(
            violation.what.contains("cohortium-hub > cohortium-api > web > columns > parquet"),
            "{}",
            violation.what
        );
    }

    #[test]
    fn a_missing_crate_is_noticed() {
        let graph = graph(&[("cohortium-dp", &[])]);
        assert!(levels(&graph).iter().any(|violation| violation.place == "cohortium-hub"));
        assert_eq!(apart(&graph).len(), APART.len());
        assert!(Graph::parse("{}").is_err());
    }
}
