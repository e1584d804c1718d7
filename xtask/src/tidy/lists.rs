//! Lists that are committed so that a human looks when they change: what a node sends, what the log may say, where a
//! lint is switched off, which crates are compiled twice.
//!
//! Each list is made from the code; the committed file must be the same. `cargo xtask tidy --bless` writes it, and the
//! difference stands in the change for everyone to see.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::source::{Source, closing, find_all, first_outside, line_of};
use super::walls::Graph;

/// Where the closed enum of what a node sends stands.
pub const OUTGOING_SOURCE: &str = "crates/node/src/outgoing.rs";
/// Where the kinds of log entries stand.
pub const ENTRY_KINDS_SOURCE: &str = "crates/messages/src/entry.rs";

/// A list as the code says it.
pub struct List {
    /// The committed file.
    pub path: &'static str,
    header: &'static str,
    lines: Result<Vec<String>, Violation>,
}

/// The variants of `pub enum Outgoing`, in their order.
pub fn outgoing(source: Option<&Source>) -> List {
    let header =
        "Everything a node sends, and nothing else: the variants of `Outgoing` in crates/node/src/outgoing.rs.";
    let lines = source.ok_or_else(|| Violation::of(OUTGOING_SOURCE, "does not exist: it holds what a node sends"));
    let lines = lines.and_then(|source| {
        variants(&source.code).ok_or_else(|| Violation::of(OUTGOING_SOURCE, "has no `pub enum Outgoing { … }`"))
    });
    List { path: "docs/lists/outgoing.txt", header, lines }
}

/// The strings of `ENTRY_KINDS`, in their order.
pub fn entry_kinds(source: Option<&Source>) -> List {
    let header = "Everything that can stand in a log: `ENTRY_KINDS` in crates/messages/src/entry.rs.";
    let lines =
        source.ok_or_else(|| Violation::of(ENTRY_KINDS_SOURCE, "does not exist: it holds the kinds of entries"));
    let lines = lines.and_then(|source| {
        kinds(source).ok_or_else(|| Violation::of(ENTRY_KINDS_SOURCE, "has no `const ENTRY_KINDS` of string literals"))
    });
    List { path: "docs/lists/entry-kinds.txt", header, lines }
}

/// Every place where a lint is expected to be broken: file, lints, reason.
pub fn expects(sources: &[Source]) -> List {
    let header = "Every lint that is switched off somewhere, as `file: lints: reason`.";
    let lines: Result<Vec<Vec<String>>, Violation> = sources.iter().map(expects_of).collect();
    let lines = lines.map(|lines| {
        let mut lines = lines.concat();
        lines.sort();
        lines
    });
    List { path: "docs/lists/expects.txt", header, lines }
}

/// Every crate by others that is compiled in more than one version, with its versions as Cargo tells them apart.
pub fn duplicates(graph: Result<&Graph, &String>) -> List {
    let header =
        "Crates by others that are compiled in several versions: each costs time and is one more thing to review.";
    let lines = graph.map(duplicate_lines).map_err(|why| Violation::of("Cargo.lock", why.as_str()));
    List { path: "docs/lists/duplicate-dependencies.txt", header, lines }
}

/// The text of the file; `None` when the code has no list.
pub fn render(list: &List) -> Option<String> {
    let lines = list.lines.as_ref().ok()?;
    let mut text =
        format!("# {}\n# Written by `cargo xtask tidy --bless`. A change here is a change to look at.\n", list.header);
    for line in lines {
        text.push_str(line);
        text.push('\n');
    }
    Some(text)
}

/// What differs between the code and the committed file.
pub fn compare(list: &List, committed: Option<&str>) -> Vec<Violation> {
    let lines = match &list.lines {
        Ok(lines) => lines,
        Err(violation) => return vec![violation.clone()],
    };
    let bless = "look at it, then run `cargo xtask tidy --bless`";
    let Some(committed) = committed else {
        return vec![Violation::of(list.path, format!("does not exist: {bless}"))];
    };
    let old: Vec<&str> = committed.lines().filter(|line| !line.starts_with('#')).collect();
    let new: Vec<&str> = lines.iter().map(String::as_str).collect();
    let mut violations: Vec<Violation> = less(&new, &old)
        .into_iter()
        .map(|line| Violation::of(list.path, format!("`{line}` is new: {bless}")))
        .collect();
    for line in less(&old, &new) {
        let at = committed.lines().position(|other| other == line).unwrap_or_default() + 1;
        violations.push(Violation::at(list.path, at, format!("`{line}` is gone: {bless}")));
    }
    if violations.is_empty() && render(list).as_deref() != Some(committed) {
        violations.push(Violation::of(list.path, format!("is not as it would be written: {bless}")));
    }
    violations
}

/// The lines that `of` has more often than `than`.
fn less<'a>(of: &[&'a str], than: &[&'a str]) -> Vec<&'a str> {
    let mut left = than.to_vec();
    let mut more = Vec::new();
    for line in of {
        match left.iter().position(|other| other == line) {
            Some(at) => drop(left.swap_remove(at)),
            None => more.push(*line),
        }
    }
    more
}

fn variants(code: &str) -> Option<Vec<String>> {
    let start = find_all(code, "pub enum Outgoing").pop()?;
    let open = first_outside(code, start, b"{;")?;
    let end = closing(code, open)?;
    let mut names = Vec::new();
    let mut at = open + 1;
    while let Some(rest) = code.get(at..end) {
        let trimmed = rest.trim_start();
        at += rest.len() - trimmed.len();
        if trimmed.starts_with('#') {
            at = closing(code, at + trimmed.find('[')?)?;
            continue;
        }
        let name: String = trimmed.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        if name.is_empty() {
            break;
        }
        names.push(name);
        at = end_of_variant(code, at, end) + 1;
    }
    (!names.is_empty()).then_some(names)
}

/// The offset of the comma that ends the variant at `at`, or of the enum's closing brace.
fn end_of_variant(code: &str, at: usize, end: usize) -> usize {
    let mut at = at;
    while let Some(stop) = first_outside(code, at, b",{}") {
        match code.as_bytes().get(stop) {
            Some(b'{') => at = closing(code, stop).unwrap_or(end),
            _ => return stop,
        }
    }
    end
}

fn kinds(source: &Source) -> Option<Vec<String>> {
    let start = find_all(&source.code, "const ENTRY_KINDS").pop()?;
    let equals = first_outside(&source.code, start, b"=")?;
    let end = first_outside(&source.code, equals, b";")?;
    let strings = source.strings.iter().filter(|(at, _)| (equals..end).contains(at));
    let kinds: Vec<String> = strings.map(|(_, kind)| kind.clone()).collect();
    (!kinds.is_empty()).then_some(kinds)
}

/// Expectations in attributes, `cfg_attr` included.
fn expects_of(source: &Source) -> Result<Vec<String>, Violation> {
    let mut lines = Vec::new();
    for start in find_all(&source.code, "expect") {
        let before = source.code.get(..start).unwrap_or_default().trim_end();
        let open = start + "expect".len();
        let in_attribute = before.ends_with("#[") || before.ends_with("#![") || is_in_cfg_attr(before);
        let Some(end) = closing(&source.code, open).filter(|_| in_attribute) else { continue };
        let arguments = source.code.get(open + 1..end - 1).unwrap_or_default();
        let lints = arguments.split(',').map(str::trim).filter(|lint| !lint.is_empty() && !lint.starts_with("reason"));
        let lints = lints.collect::<Vec<_>>().join(", ");
        let reason = source.strings.iter().find(|(at, _)| (open..end).contains(at));
        let Some((_, reason)) = reason else {
            let line = line_of(&source.code, start);
            return Err(Violation::at(&source.path, line, format!("expects `{lints}` without a reason: give one")));
        };
        let reason = reason.split_whitespace().filter(|word| *word != "\\").collect::<Vec<_>>().join(" ");
        lines.push(format!("{}: {lints}: {reason}", source.path));
    }
    Ok(lines)
}

fn is_in_cfg_attr(before: &str) -> bool {
    let attribute = before.rsplit('\n').next().unwrap_or_default();
    before.ends_with(',') && attribute.contains("cfg_attr(")
}

fn duplicate_lines(graph: &Graph) -> Vec<String> {
    let mut versions: BTreeMap<&str, BTreeSet<[u64; 3]>> = BTreeMap::new();
    for package in graph.packages().filter(|package| !package.is_ours) {
        versions.entry(&package.name).or_default().insert(compatible(&package.version));
    }
    let several = versions.into_iter().filter(|(_, versions)| versions.len() > 1);
    several
        .map(|(name, versions)| {
            let versions = versions.iter().map(|version| match version {
                [0, 0, patch] => format!("0.0.{patch}"),
                [0, minor, _] => format!("0.{minor}"),
                [major, ..] => major.to_string(),
            });
            format!("{name} {}", versions.collect::<Vec<_>>().join(" "))
        })
        .collect()
}

/// The part of a version that Cargo tells apart: up to the first number that is not zero.
fn compatible(version: &str) -> [u64; 3] {
    let plain = version.split(['-', '+']).next().unwrap_or_default();
    let mut numbers = plain.split('.').map(|number| number.parse().unwrap_or(0));
    match [(); 3].map(|()| numbers.next().unwrap_or(0)) {
        [0, 0, patch] => [0, 0, patch],
        [0, minor, _] => [0, minor, 0],
        [major, ..] => [major, 0, 0],
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::read;
    use super::super::walls::tests::graph;
    use super::*;

    fn source(text: &str) -> Source {
        read(std::iter::once(("crates/x/src/a.rs", text))).pop().unwrap()
    }

    fn lines(list: List) -> Vec<String> {
        list.lines.unwrap()
    }

    #[test]
    fn variants_are_read_in_every_shape() {
        let text = "//! pub enum Outgoing { Words }\n#[derive(Debug)]\npub enum Outgoing {\n    /// Doc, with a comma.\n    Join(Box<Call>),\n    #[serde(rename = \"x\")]\n    Masked { header: Envelope, bytes: Vec<[u8; 4]> },\n    Poll,\n    Last(fn(u8, u8) -> u8)\n}\npub enum OutgoingOther { No }";
        assert_eq!(lines(outgoing(Some(&source(text)))), ["Join", "Masked", "Poll", "Last"]);
        for bad in ["enum Incoming { A }", "pub enum Outgoing {}", "pub enum OutgoingOther { A }"] {
            assert!(outgoing(Some(&source(bad))).lines.is_err(), "{bad}");
        }
        assert!(outgoing(None).lines.is_err());
    }

    #[test]
    fn entry_kinds_are_read() {
        let text =
            "/// \"doc\"\npub const ENTRY_KINDS: [&str; 2] = [\"agreement\", \"task\"];\nconst OTHER: &str = \"no\";";
        assert_eq!(lines(entry_kinds(Some(&source(text)))), ["agreement", "task"]);
        assert!(entry_kinds(Some(&source("const OTHER: &str = \"no\";"))).lines.is_err());
        assert!(entry_kinds(None).lines.is_err());
    }

    #[test]
    fn expectations_need_a_reason_and_calls_are_none() {
        let text = "#![expect(dead_code, reason = \"r1\")]\n#[expect(\n    clippy::a, clippy::b,\n    reason = \"long \\\n   line\"\n)]\n#[cfg_attr(test, expect(clippy::c, reason = \"r3\"))]\nfn f() { x.expect(\"no\"); expect(1); }";
        let expected = [
            "crates/x/src/a.rs: clippy::a, clippy::b: long line",
            "crates/x/src/a.rs: clippy::c: r3",
            "crates/x/src/a.rs: dead_code: r1",
        ];
        assert_eq!(lines(expects(&[source(text)])), expected);
        let Err(violation) = expects(&[source("\n#[expect(dead_code)]\nfn f() {}")]).lines else { panic!("accepted") };
        assert_eq!(violation.place, "crates/x/src/a.rs:2");
    }

    #[test]
    fn versions_that_cargo_tells_apart_are_duplicates() {
        let graph =
            graph(&[("cohortium-dp", &["a@0.2.1", "a@0.10.3", "b@1.0.0", "b@2.1.0", "c@1.2.3", "d@0.0.1", "d@0.0.2"])]);
        assert_eq!(lines(duplicates(Ok(&graph))), ["a 0.2 0.10", "b 1 2", "d 0.0.1 0.0.2"]);
        assert!(duplicates(Err(&"no lock".to_owned())).lines.is_err());
    }

    #[test]
    fn the_committed_file_must_be_the_same() {
        let list = |lines: &[&str]| List {
            path: "docs/lists/x.txt",
            header: "X.",
            lines: Ok(lines.iter().map(|line| (*line).to_owned()).collect()),
        };
        let committed = render(&list(&["a", "b", "b"])).unwrap();
        let whats = |lines: &[&str], committed: Option<&str>| {
            compare(&list(lines), committed).into_iter().map(|violation| violation.what).collect::<Vec<_>>()
        };
        assert!(whats(&["a", "b", "b"], Some(&committed)).is_empty());
        assert!(whats(&["a", "b"], Some(&committed)).concat().contains("`b` is gone"));
        assert!(whats(&["a", "b", "b", "c"], Some(&committed)).concat().contains("`c` is new"));
        assert_eq!(whats(&["b", "a", "b"], Some(&committed)).len(), 1);
        assert_eq!(whats(&["a"], None).len(), 1);
    }
}
