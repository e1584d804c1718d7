//! Rules about what people read: the documents that must exist, links that lead somewhere, and no word that makes sense
//! on one machine only.

use std::collections::BTreeSet;

use super::source::{find_all, line_of};
use super::walls::Graph;
use super::{File, Violation};

/// What every reader may look for.
const DOCUMENTS: [&str; 5] = ["ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "LICENSE", "README.md"];

/// Directories that are somebody's own, at the root of a machine. The slashes are added below, so that this file does
/// not break its own rule.
const PRIVATE_ROOTS: [&str; 4] = ["home", "root", "Users", "work"];

/// A directory beside the repository that others do not have; the one file that may look there, and what it may say.
const BESIDE: &str = "shared";
const MAY_LOOK_BESIDE: (&str, &str) = ("xtask/src/test.rs", "data");

/// No file names a path of somebody's machine.
pub fn machine_paths(files: &[File]) -> Vec<Violation> {
    let beside = format!("../{BESIDE}");
    let allowed = format!("\"{beside}/{}\"", MAY_LOOK_BESIDE.1);
    let mut violations = Vec::new();
    for File { path, text } in files {
        let mut found = BTreeSet::new();
        for root in PRIVATE_ROOTS {
            let root = format!("/{root}/");
            let absolute = text.match_indices(&root).filter(|(at, _)| {
                let before = text.get(..*at).and_then(|text| text.chars().next_back());
                !before.is_some_and(|c| c.is_alphanumeric() || "_-.~}>)".contains(c))
            });
            found.extend(absolute.map(|(at, _)| (line_of(text, at), root.clone())));
        }
        let exceptions = if path == MAY_LOOK_BESIDE.0 { text.match_indices(&allowed).take(1).count() } else { 0 };
        let looks = text.match_indices(&beside).skip(exceptions);
        found.extend(looks.map(|(at, _)| (line_of(text, at), beside.clone())));
        violations.extend(found.into_iter().map(|(line, word)| {
            Violation::at(
                path,
                line,
                format!("`{word}` is a path of one machine: take it as a setting, or leave it out"),
            )
        }));
    }
    violations
}

/// The documents that must exist.
pub fn expected(paths: &[&str]) -> Vec<Violation> {
    let missing = DOCUMENTS.iter().filter(|document| !paths.contains(document));
    missing.map(|document| Violation::of(document, "does not exist: write it")).collect()
}

/// ARCHITECTURE.md names every crate, by package name or directory.
pub fn architecture(graph: &Graph, text: Option<&str>) -> Vec<Violation> {
    let text = text.unwrap_or_default();
    let mut violations = Vec::new();
    for package in graph.ours() {
        let short = package.name.strip_prefix("cohortium-").unwrap_or(&package.name);
        let names = [package.name.clone(), format!("crates/{short}"), format!("{short}/"), format!("`{short}`")];
        if names.iter().all(|name| find_all(text, name).is_empty()) {
            let what = format!("does not name {}: say what it is for and on what it stands", package.name);
            violations.push(Violation::of("ARCHITECTURE.md", what));
        }
    }
    violations
}

/// Every relative link in a Markdown file leads to a file or directory of the repository.
pub fn links(files: &[File]) -> Vec<Violation> {
    let mut targets: BTreeSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
    let directories =
        files.iter().flat_map(|file| file.path.match_indices('/').filter_map(|(at, _)| file.path.get(..at)));
    targets.extend(directories);
    targets.insert("");
    let mut violations = Vec::new();
    for File { path, text } in files.iter().filter(|file| file.path.ends_with(".md")) {
        for (line, link) in markdown_links(text) {
            let resolved = resolve(path, link.split(['#', '?']).next().unwrap_or_default());
            if !resolved.is_some_and(|target| targets.contains(target.as_str())) {
                violations.push(Violation::at(
                    path,
                    line,
                    format!("`{link}` leads nowhere: correct the link, or add the file"),
                ));
            }
        }
    }
    violations
}

/// Relative links with their lines: `[…](link)` and `[…]: link`, outside code.
fn markdown_links(text: &str) -> Vec<(usize, &str)> {
    let mut found = Vec::new();
    let mut in_code = false;
    for (number, line) in text.lines().enumerate() {
        if line.trim_start().starts_with("```") {
            in_code = !in_code;
        }
        if in_code {
            continue;
        }
        // Between backticks is code: every second part.
        for part in line.split('`').step_by(2) {
            let inline = part.split("](").skip(1).filter_map(|rest| rest.split([')', ' ']).next());
            found.extend(inline.map(|link| (number + 1, link)));
        }
        if let Some((_, link)) =
            line.split_once("]: ").filter(|(label, _)| label.starts_with('[') && !label.contains(']'))
        {
            found.push((number + 1, link.split_whitespace().next().unwrap_or_default()));
        }
    }
    found.retain(|(_, link)| !link.starts_with('#') && !link.starts_with("mailto:") && !link.contains("://"));
    found
}

/// The path a link from the file `from` leads to; `None` when it leads out of the repository.
fn resolve(from: &str, link: &str) -> Option<String> {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in link.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()?),
            part => parts.push(part),
        }
    }
    (!link.starts_with('/')).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use super::super::walls::tests::graph;
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn paths_of_one_machine_are_found() {
        let slash = |words: &str| words.replace('|', "/");
        for bad in ["see |work|x", "a\n\"|root|x\"", "=|home|me|x", "..|shared|data", "file:|||Users|me"] {
            assert_eq!(machine_paths(&[file("docs/a.md", &slash(bad))]).len(), 1, "{bad}");
        }
        for good in
            ["framework|x", "tests|root|x", "https:||example.org|work|x", "$HOME|work|x", "~|work|x", "|var|lib|x"]
        {
            assert_eq!(machine_paths(&[file("docs/a.md", &slash(good))]), [], "{good}");
        }
    }

    #[test]
    fn one_file_may_look_beside_the_repository_once() {
        let once = format!("const A: &str = \"../{BESIDE}/data\";");
        assert_eq!(machine_paths(&[file("xtask/src/test.rs", &once)]), []);
        assert_eq!(machine_paths(&[file("xtask/src/main.rs", &once)]).len(), 1);
        let twice = format!("{once}\n{once}");
        assert_eq!(machine_paths(&[file("xtask/src/test.rs", &twice)]).len(), 1);
        let other = format!("\"../{BESIDE}/other\"");
        assert_eq!(machine_paths(&[file("xtask/src/test.rs", &other)]).len(), 1);
    }

    #[test]
    fn documents_must_exist() {
        assert_eq!(expected(&DOCUMENTS), []);
        assert_eq!(expected(&["README.md"]).len(), 4);
    }

    #[test]
    fn every_crate_is_named() {
        let graph = graph(&[("cohortium-dp", &["serde"]), ("cohortium-hub", &[]), ("xtask", &[])]);
        let good = "crates/\n  dp/   noise\n`hub` and xtask/";
        assert_eq!(architecture(&graph, Some(good)), []);
        assert_eq!(architecture(&graph, Some("odp/ github xtask/")).len(), 2);
        assert_eq!(architecture(&graph, None).len(), 3);
    }

    #[test]
    fn relative_links_must_lead_somewhere() {
        let good = "[a](b.md#part) [c](../README.md) [d](sub/) [e](https://x.y/z) [f](#here) [g](mailto:a@b)\n`[x](no)`\n```\n[y](no)\n```\n[r]: sub/c.md\n[up](..)\n";
        let rest = [file("docs/b.md", ""), file("README.md", ""), file("docs/sub/c.md", "")];
        let with = |text: &str| {
            let mut files = vec![file("docs/a.md", text)];
            files.extend(rest.iter().map(|other| file(&other.path, "")));
            links(&files)
        };
        assert_eq!(with(good), []);
        for bad in [
            "[a](no.md)",
            "x [a](b.md) [c](sub/no.md)",
            "[r]: no.md",
            "[a](../../out.md)",
            "[a](/README.md)",
            "[a](../b.md \"title\")",
        ] {
            assert_eq!(with(bad).len(), 1, "{bad}");
        }
    }
}
