//! Rules about what we build on: every dependency has its reason beside it, in one place, under a licence we may use.
//!
//! A dependency is code that we answer for and did not write. The reason is a comment because a person has to judge it;
//! that it is there can be checked.

use toml::{Table, Value};

use super::Violation;
use super::walls::Graph;

/// Licences under which we may distribute what we build, by their SPDX names.
const LICENCES: [&str; 14] = [
    "0BSD",
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Every dependency in the workspace's manifest that is not our own carries a `# comment` on its line.
pub fn reasons(manifest: &str) -> Vec<Violation> {
    const PATH: &str = "Cargo.toml";
    let parsed: Table = match manifest.parse() {
        Ok(parsed) => parsed,
        Err(error) => return vec![Violation::of(PATH, format!("cannot be read: {error}"))],
    };
    let Some(dependencies) = parsed.get("workspace").and_then(|workspace| workspace.get("dependencies")?.as_table())
    else {
        return vec![Violation::of(PATH, "has no [workspace.dependencies]")];
    };
    let section =
        manifest.lines().enumerate().skip_while(|(_, line)| line.trim() != "[workspace.dependencies]").skip(1);
    let section: Vec<(usize, &str)> = section.take_while(|(_, line)| !line.trim_start().starts_with('[')).collect();
    let theirs = dependencies.iter().filter(|(_, value)| value.get("path").is_none());
    theirs
        .filter_map(|(name, _)| {
            let is_its_line =
                |line: &str| line.split_once('=').is_some_and(|(key, _)| key.trim().trim_matches('"') == name);
            match section.iter().find(|(_, line)| is_its_line(line)) {
                Some((_, line)) if has_comment(line) => None,
                Some((at, _)) => Some(Violation::at(
                    PATH,
                    at + 1,
                    format!("`{name}` has no reason: add `# what for, which standard`"),
                )),
                None => Some(Violation::of(
                    PATH,
                    format!("`{name}` must stand on one line of [workspace.dependencies], with a comment"),
                )),
            }
        })
        .collect()
}

/// Crates take their dependencies from the workspace, where the reasons stand. Takes paths and texts of manifests.
pub fn inherited(manifests: &[(&str, &str)]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for (path, text) in manifests {
        match text.parse::<Table>() {
            Ok(manifest) => violations.extend(not_inherited(&manifest).into_iter().map(|name| {
                let what =
                    format!("`{name}` must be `{name}.workspace = true`: name it with its reason in the workspace");
                Violation::of(path, what)
            })),
            Err(error) => violations.push(Violation::of(path, format!("cannot be read: {error}"))),
        }
    }
    violations
}

/// Every crate by others is under a licence on our list; of `A OR B` one suffices.
pub fn licences(graph: &Graph) -> Vec<Violation> {
    let theirs = graph.packages().filter(|package| !package.is_ours);
    let refused = theirs.filter(|package| !package.licence.as_deref().is_some_and(is_allowed));
    refused
        .map(|package| {
            let licence = package.licence.as_deref().unwrap_or("no licence in words of SPDX");
            let what = format!("is under `{licence}`: do without it, or argue for the licence in xtask's list");
            Violation::of(&format!("{} {}", package.name, package.version), what)
        })
        .collect()
}

fn not_inherited(manifest: &Table) -> Vec<String> {
    let targets = manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    let tables = std::iter::once(manifest).chain(targets.filter_map(Value::as_table));
    let kinds = ["dependencies", "dev-dependencies", "build-dependencies"];
    let sections = tables.flat_map(|table| kinds.iter().filter_map(|kind| table.get(*kind)?.as_table()));
    let is_inherited = |value: &Value| value.get("workspace").and_then(Value::as_bool) == Some(true);
    sections.flatten().filter(|(_, value)| !is_inherited(value)).map(|(name, _)| name.clone()).collect()
}

/// Whether something follows a `#` that is not inside a string.
fn has_comment(line: &str) -> bool {
    let mut in_string = false;
    for (offset, character) in line.char_indices() {
        match character {
            '"' => in_string = !in_string,
            '#' if !in_string => return line.get(offset + 1..).is_some_and(|comment| !comment.trim().is_empty()),
            _ => {}
        }
    }
    false
}

/// Evaluates an SPDX expression (annex D of SPDX 2.3) over our list; `/` is an old way to write OR. What is not an
/// expression is not allowed.
fn is_allowed(expression: &str) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace('/', " OR ");
    let mut words: Vec<&str> = spaced.split_whitespace().rev().collect();
    let allowed = any(&mut words);
    allowed == Some(true) && words.is_empty()
}

/// `all OR all OR …`, taking words from the end of the list.
fn any(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = all(words)?;
    while words.last() == Some(&"OR") {
        words.pop();
        allowed |= all(words)?;
    }
    Some(allowed)
}

/// `one AND one AND …`.
fn all(words: &mut Vec<&str>) -> Option<bool> {
    let mut allowed = one(words)?;
    while words.last() == Some(&"AND") {
        words.pop();
        allowed &= one(words)?;
    }
    Some(allowed)
}

/// `( any )`, or a licence, perhaps `WITH` an exception. The depth is bounded by the length of the expression.
fn one(words: &mut Vec<&str>) -> Option<bool> {
    let word = words.pop()?;
    if word == "(" {
        let allowed = any(words)?;
        return (words.pop()? == ")").then_some(allowed);
    }
    let mut allowed = LICENCES.contains(&word);
    if words.last() == Some(&"WITH") {
        words.pop();
        allowed &= words.pop()? == "LLVM-exception";
    }
    Some(allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_dependency_has_its_reason() {
        let good = "[workspace]\n[workspace.dependencies]\n# ours\nours = { path = \"x\" }\na = \"1\" # what for\nb = { version = \"1\", features = [\"#\"] } # c\n[profile.dev]\n";
        assert_eq!(reasons(good), []);
        let cases = [
            ("[workspace.dependencies]\na = \"1\"\n", "Cargo.toml:2"),
            ("[workspace.dependencies]\na = \"1\" #  \n", "Cargo.toml:2"),
            ("[workspace.dependencies]\nb = \"1\" # x\na = { version = \"#1\" }\n", "Cargo.toml:3"),
            ("[workspace.dependencies.a]\nversion = \"1\" # x\n", "Cargo.toml"),
            ("[workspace]\n", "Cargo.toml"),
            ("= broken", "Cargo.toml"),
        ];
        for (manifest, place) in cases {
            let places: Vec<String> = reasons(manifest).into_iter().map(|violation| violation.place).collect();
            assert_eq!(places, [place], "{manifest}");
        }
    }

    #[test]
    fn crates_inherit() {
        let good = "[dependencies]\na.workspace = true\nb = { workspace = true, features = [\"x\"] }\n";
        assert_eq!(inherited(&[("crates/x/Cargo.toml", good)]), []);
        let bad = [
            "[dependencies]\na = \"1\"",
            "[dev-dependencies]\na = { version = \"1\" }",
            "[build-dependencies]\na = \"1\"",
            "[target.'cfg(unix)'.dependencies]\na = \"1\"",
            "[dependencies]\na.workspace = false",
            "=",
        ];
        for manifest in bad {
            assert_eq!(inherited(&[("crates/x/Cargo.toml", manifest)]).len(), 1, "{manifest}");
        }
    }

    #[test]
    fn licences_are_expressions() {
        let good = [
            "MIT",
            "MIT OR GPL-3.0",
            "MIT/Apache-2.0",
            "Apache-2.0 / MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception",
            "GPL-3.0 AND MIT OR ISC",
            "LGPL-2.1-or-later OR (Zlib AND BSL-1.0)",
        ];
        for expression in good {
            assert!(is_allowed(expression), "{expression}");
        }
        let bad = [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "MIT OR",
            "MIT MIT",
            "(MIT",
            "MIT)",
            "Apache-2.0 WITH Classpath-exception-2.0",
            "MIT WITH",
            "(MIT OR Apache-2.0) AND OpenSSL",
            "AND MIT",
            "mit",
        ];
        for expression in bad {
            assert!(!is_allowed(expression), "{expression}");
        }
    }

    #[test]
    fn packages_are_judged_by_licence_unless_they_are_ours() {
        let json = |licence: &str| {
            format!(
                r#"{{"packages":[{{"id":"a","name":"a","version":"1.0.0","license":{licence}}},{{"id":"x","name":"x","version":"1.0.0","license":null}}],"workspace_members":["x"],"resolve":{{"nodes":[]}}}}"#
            )
        };
        let broken = |licence: &str| licences(&Graph::parse(&json(licence)).unwrap()).len();
        assert_eq!(broken("\"MIT\""), 0);
        assert_eq!(broken("\"AGPL-3.0\""), 1);
        assert_eq!(broken("null"), 1);
    }
}
