//! The rules of the house, as tests: a rule that nobody checks is a wish.
//!
//! Each rule is a function from texts to violations and knows no files; this module reads the working copy (what Git
//! tracks or would track), runs every rule, and prints every violation: where, what, and what to do instead.
//!
//! What it does not do: it does not parse Rust. It reads code with comments and strings blanked out
//! ([`source`]), which is enough to find words and count braces, and can be fooled by a macro that wants to. It keeps
//! honest people honest; the walls that matter most are also types.

mod code;
mod dependencies;
mod documents;
mod lists;
mod source;
mod walls;

use std::path::Path;
use std::process::Command;

use crate::shell::capture;
use source::Source;
use walls::Graph;

/// A rule that is broken somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// `file:line`, or what is concerned where there is no line.
    pub place: String,
    /// What is wrong, and what to do instead.
    pub what: String,
}

impl Violation {
    /// At a line of a file.
    pub fn at(path: &str, line: usize, what: impl Into<String>) -> Self {
        Self { place: format!("{path}:{line}"), what: what.into() }
    }

    /// Of a file or a crate as a whole.
    pub fn of(place: &str, what: impl Into<String>) -> Self {
        Self { place: place.to_owned(), what: what.into() }
    }
}

/// How many rules are kept and how many are broken.
#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    /// Rules without a violation.
    pub kept: u64,
    /// Rules with at least one.
    pub broken: u64,
}

/// Checks every rule of the repository at `root` and prints every violation. With `bless`, writes the committed lists
/// before it looks.
pub fn run(root: &Path, bless: bool) -> Outcome {
    let mut project = match Project::read(root) {
        Ok(project) => project,
        Err(why) => {
            println!("tidy: {why}");
            return Outcome { kept: 0, broken: 1 };
        }
    };
    if bless {
        let unwritten = project.bless(root);
        unwritten.iter().for_each(|Violation { place, what }| println!("{place}: {what}"));
    }
    let rules = project.rules();
    for (rule, violations) in &rules {
        for Violation { place, what } in violations {
            println!("{place}: {what} [{rule}]");
        }
    }
    let broken = rules.iter().filter(|(_, violations)| !violations.is_empty()).count();
    let outcome = Outcome { kept: (rules.len() - broken) as u64, broken: broken as u64 };
    println!("tidy: {} rules kept, {} broken", outcome.kept, outcome.broken);
    outcome
}

/// A file of the working copy, and its text (not valid UTF-8 is replaced: rules look for words).
pub struct File {
    /// Relative to the root, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// What the rules look at.
struct Project {
    files: Vec<File>,
    sources: Vec<Source>,
    graph: Result<Graph, String>,
}

impl Project {
    fn read(root: &Path) -> Result<Self, String> {
        let mut list = Command::new("git");
        list.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root);
        let mut paths: Vec<String> = capture(&mut list)?.split_terminator('\0').map(str::to_owned).collect();
        paths.sort();
        paths.dedup();
        let mut files = Vec::new();
        for path in paths {
            let whole = root.join(&path);
            // Git still lists a file that was deleted and not yet staged; a link's target is judged where it lies.
            if whole.is_symlink() || !whole.is_file() {
                continue;
            }
            let bytes = std::fs::read(&whole).map_err(|error| format!("{path} cannot be read: {error}"))?;
            files.push(File { path, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
        let rust = files.iter().filter(|file| file.path.ends_with(".rs"));
        let sources = source::read(rust.map(|file| (file.path.as_str(), file.text.as_str())));
        let mut metadata = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        metadata.args(["metadata", "--format-version", "1", "--locked"]).current_dir(root);
        let graph = capture(&mut metadata).and_then(|json| Graph::parse(&json));
        Ok(Self { files, sources, graph })
    }

    /// Every rule by its name, with what breaks it.
    fn rules(&self) -> Vec<(&'static str, Vec<Violation>)> {
        let text = |path: &str| self.text(path);
        let mut rules = vec![
            ("levels", self.on_graph(walls::levels)),
            ("query engine", self.on_graph(walls::query_engine)),
            ("rooms apart", self.on_graph(walls::apart)),
            ("purity", code::purity(&self.sources)),
            ("file docs", code::file_docs(&self.sources)),
            ("leftovers", code::leftovers(&self.sources)),
            ("long functions", code::long_functions(&self.sources, text(code::LONG_FUNCTIONS).unwrap_or_default())),
            ("dependency reasons", dependencies::reasons(text("Cargo.toml").unwrap_or_default())),
            ("workspace dependencies", dependencies::inherited(&self.manifests())),
            ("licences", self.on_graph(dependencies::licences)),
            ("machine paths", documents::machine_paths(&self.files)),
            ("documents", documents::expected(&self.paths())),
            ("links", documents::links(&self.files)),
            ("architecture", self.on_graph(|graph| documents::architecture(graph, text("ARCHITECTURE.md")))),
        ];
        for list in self.lists() {
            rules.push((list.path, lists::compare(&list, text(list.path))));
        }
        rules
    }

    /// Writes the committed lists; what could not be written.
    fn bless(&mut self, root: &Path) -> Vec<Violation> {
        let mut texts: Vec<(&str, String)> =
            self.lists().iter().filter_map(|list| Some((list.path, lists::render(list)?))).collect();
        let listed = self.text(code::LONG_FUNCTIONS).unwrap_or_default();
        texts.push((code::LONG_FUNCTIONS, code::lowered(&self.sources, listed)));
        let mut unwritten = Vec::new();
        for (path, text) in texts {
            let whole = root.join(path);
            let directory = whole.parent().map_or(Ok(()), std::fs::create_dir_all);
            if let Err(error) = directory.and_then(|()| std::fs::write(&whole, &text)) {
                unwritten.push(Violation::of(path, format!("cannot be written: {error}")));
                continue;
            }
            self.files.retain(|file| file.path != path);
            self.files.push(File { path: path.to_owned(), text });
        }
        unwritten
    }

    fn lists(&self) -> Vec<lists::List> {
        let source = |path: &str| self.sources.iter().find(|source| source.path == path);
        vec![
            lists::outgoing(source(lists::OUTGOING_SOURCE)),
            lists::entry_kinds(source(lists::ENTRY_KINDS_SOURCE)),
            lists::expects(&self.sources),
            lists::duplicates(self.graph.as_ref()),
        ]
    }

    fn on_graph(&self, rule: impl Fn(&Graph) -> Vec<Violation>) -> Vec<Violation> {
        match &self.graph {
            Ok(graph) => rule(graph),
            Err(why) => vec![Violation::of("Cargo.lock", why.as_str())],
        }
    }

    fn text(&self, path: &str) -> Option<&str> {
        self.files.iter().find(|file| file.path == path).map(|file| file.text.as_str())
    }

    fn paths(&self) -> Vec<&str> {
        self.files.iter().map(|file| file.path.as_str()).collect()
    }

    /// The manifests of our crates; the workspace's own has no dependencies of its own.
    fn manifests(&self) -> Vec<(&str, &str)> {
        let manifests = self.files.iter().filter(|file| file.path.ends_with("/Cargo.toml"));
        manifests.map(|file| (file.path.as_str(), file.text.as_str())).collect()
    }
}
