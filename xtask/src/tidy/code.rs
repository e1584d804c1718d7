//! Rules about code: what pure rooms must not touch, how files begin, what must not be left lying around, and how long
//! a function may be.
//!
//! Purity is what lets one test drive a whole federation through every crash and every seed: sockets, files, clocks and
//! randomness are handed in from outside.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::source::{Source, closing, find_all, first_outside, line_of};

/// Something that pure code does not touch.
struct Outside {
    /// What it is, for people.
    what: &'static str,
    /// How code says it. One that contains `::` between names is also looked for in grouped imports.
    words: &'static [&'static str],
    /// What to do instead.
    instead: &'static str,
}

const RUNTIME: Outside = Outside {
    what: "an async runtime",
    words: &["tokio"],
    instead: "be a function from state and message to state and messages",
};
const SOCKETS: Outside =
    Outside { what: "sockets", words: &["std::net"], instead: "return the message and let the caller send it" };
const FILES: Outside =
    Outside { what: "files", words: &["std::fs"], instead: "take bytes, or a `Store`, from the caller" };
const CLOCK: Outside =
    Outside { what: "a clock", words: &["SystemTime", "::now("], instead: "take the time as an argument" };
const ENVIRONMENT: Outside =
    Outside { what: "the environment", words: &["std::env"], instead: "take the setting as an argument" };
const RANDOMNESS: Outside = Outside {
    what: "the system's randomness",
    words: &["getrandom", "SysRng"],
    instead: "take `&mut dyn CryptoRng` as an argument",
};

/// Which code must not touch what: directories, and what is outside for them.
const PURITY: [(&[&str], &[&Outside]); 4] = [
    (
        &["crates/dp/src/", "crates/messages/src/", "crates/mpc/src/", "crates/query/src/", "crates/policy/src/"],
        &[&RUNTIME, &SOCKETS, &FILES, &CLOCK, &ENVIRONMENT, &RANDOMNESS],
    ),
    (
        &["crates/store/src/", "crates/ledger/src/", "crates/audit/src/"],
        &[&RUNTIME, &SOCKETS, &CLOCK, &ENVIRONMENT, &RANDOMNESS],
    ),
    (&["crates/engine/src/"], &[&SOCKETS, &CLOCK, &ENVIRONMENT, &RANDOMNESS]),
    // The simulated world is the same world for the same seed. `api` has a runtime, and takes its nonces from its caller.
    (&["crates/api/src/", "sim/"], &[&RANDOMNESS]),
];

/// Where an async runtime may be used at all, besides the engine's private one.
const WITH_RUNTIME: [&str; 5] = ["crates/api/", "crates/hub/", "crates/node/", "crates/cli/", "crates/engine/"];

/// Pure rooms touch nothing outside, tests excepted.
pub fn purity(sources: &[Source]) -> Vec<Violation> {
    let mut violations = Vec::new();
    for source in sources {
        let starts = |directories: &[&str]| directories.iter().any(|directory| source.path.starts_with(directory));
        let mut outside: Vec<&Outside> = PURITY
            .iter()
            .filter(|(directories, _)| starts(directories))
            .flat_map(|(_, all)| all.iter().copied())
            .collect();
        let is_runtime_listed = outside.iter().any(|one| one.what == RUNTIME.what);
        if !starts(&WITH_RUNTIME) && !is_runtime_listed {
            outside.push(&RUNTIME);
        }
        let imports = imports(&source.shipped);
        for Outside { what, words, instead } in outside {
            let mut lines: BTreeSet<usize> = BTreeSet::new();
            for word in *words {
                lines.extend(find_all(&source.shipped, word).into_iter().map(|at| line_of(&source.shipped, at)));
                let imported = imports.iter().filter(|(_, path)| !find_all(path, word).is_empty());
                lines.extend(imported.map(|(line, _)| *line));
            }
            violations.extend(
                lines.into_iter().map(|line| Violation::at(&source.path, line, format!("touches {what}: {instead}"))),
            );
        }
    }
    violations
}

/// The full paths that `use` brings in, with their lines: `use std::{fs, net::TcpStream}` brings in two.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut imports = Vec::new();
    for start in find_all(code, "use") {
        let Some(tree) = code.get(start + "use".len()..).and_then(|rest| rest.split_once(';')) else { continue };
        let mut paths = Vec::new();
        expand(String::new(), tree.0, &mut paths);
        imports.extend(paths.into_iter().map(|path| (line_of(code, start), path)));
    }
    imports
}

fn expand(prefix: String, tree: &str, paths: &mut Vec<String>) {
    let Some((head, group)) = tree.split_once('{') else {
        paths.push(format!("{prefix}{}", tree.split_whitespace().collect::<String>()));
        return;
    };
    let prefix = format!("{prefix}{}", head.split_whitespace().collect::<String>());
    let group = group.trim_end().strip_suffix('}').unwrap_or(group);
    let (mut depth, mut item) = (0usize, String::new());
    for character in group.chars() {
        match character {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                expand(prefix.clone(), &std::mem::take(&mut item), paths);
                continue;
            }
            _ => {}
        }
        item.push(character);
    }
    if !item.trim().is_empty() {
        expand(prefix, &item, paths);
    }
}

/// Files of ours begin by saying why they exist.
pub fn file_docs(sources: &[Source]) -> Vec<Violation> {
    let undocumented = sources.iter().filter(|source| is_house_code(&source.path) && !source.text.starts_with("//!"));
    let what = "begin the file with a `//!` doc: why it exists, where the idea comes from, what it does not do";
    undocumented.map(|source| Violation::at(&source.path, 1, what)).collect()
}

fn is_house_code(path: &str) -> bool {
    let in_crate = path.strip_prefix("crates/").and_then(|rest| rest.split_once('/'));
    in_crate.is_some_and(|(_, rest)| rest.starts_with("src/")) || path.starts_with("sim/") || path.starts_with("xtask/")
}

/// Nothing unfinished, switched off or meant for one afternoon is left in the code or its comments.
pub fn leftovers(sources: &[Source]) -> Vec<Violation> {
    const IN_CODE: [(&str, &str); 4] = [
        ("todo!(", "finish it, or leave it out"),
        ("unimplemented!(", "finish it, or leave it out"),
        ("dbg!(", "take it out; what an operator needs goes through `tracing`"),
        ("#[ignore", "a test that does not run is no test: make it fast or delete it"),
    ];
    const IN_WORDS: [(&str, &str); 4] = [
        ("TODO", "do it, or write down as a limit what is not done"),
        ("FIXME", "fix it"),
        ("XXX", "say in a sentence what is meant"),
        ("HACK", "say in a sentence why it must be so, or change it"),
    ];
    let mut violations = Vec::new();
    for source in sources {
        let in_code = IN_CODE.iter().map(|rule| (rule, &source.code));
        for ((word, instead), text) in in_code.chain(IN_WORDS.iter().map(|rule| (rule, &source.words))) {
            let found = find_all(text, word).into_iter().map(|at| line_of(text, at));
            violations.extend(found.map(|line| Violation::at(&source.path, line, format!("`{word}`: {instead}"))));
        }
    }
    violations
}

/// Functions that were longer than [`LINES_MAX`] when the rule was made, as `path name lines`. It may only shrink.
pub const LONG_FUNCTIONS: &str = "xtask/long-functions.txt";

/// Most functions fit on a screen; a hundred lines are two.
const LINES_MAX: usize = 100;

const LONG_FUNCTIONS_HEADER: &str = "\
# Functions longer than 100 lines, as `path name lines`. The list may only shrink: a function on it may get shorter,
# none may be added. `cargo xtask tidy --bless` takes off what has become short.
";

/// No function outside tests is longer than a hundred lines, or longer than the ratchet list says.
pub fn long_functions(sources: &[Source], list: &str) -> Vec<Violation> {
    let (listed, actual) = (parse_ratchet(list), all_long_functions(sources));
    let mut violations = Vec::new();
    for ((path, name), (line, lines)) in &actual {
        let limit = listed.get(&(path.clone(), name.clone())).copied().unwrap_or(LINES_MAX);
        if *lines > limit {
            let what = format!("`{name}` has {lines} lines, {limit} are allowed: give its parts names");
            violations.push(Violation::at(path, *line, what));
        }
    }
    for ((path, name), lines) in &listed {
        if actual.get(&(path.clone(), name.clone())).is_none_or(|(_, now)| now < lines) {
            let what =
                format!("`{name}` in {path} is shorter than {lines} lines by now: run `cargo xtask tidy --bless`");
            violations.push(Violation::of(LONG_FUNCTIONS, what));
        }
    }
    violations
}

/// The ratchet list with what has become shorter lowered or taken off, and nothing added.
pub fn lowered(sources: &[Source], list: &str) -> String {
    let actual = all_long_functions(sources);
    let mut text = LONG_FUNCTIONS_HEADER.to_owned();
    for ((path, name), lines) in parse_ratchet(list) {
        if let Some((_, now)) = actual.get(&(path.clone(), name.clone())) {
            text.push_str(&format!("{path} {name} {}\n", lines.min(*now)));
        }
    }
    text
}

type Name = (String, String);

fn parse_ratchet(list: &str) -> BTreeMap<Name, usize> {
    let lines = list.lines().filter(|line| !line.starts_with('#'));
    lines
        .filter_map(|line| {
            let mut words = line.split_whitespace();
            let (path, name) = (words.next()?, words.next()?);
            Some(((path.to_owned(), name.to_owned()), words.next()?.parse().ok()?))
        })
        .collect()
}

/// The line and length of each long function; of those with one name in one file, the longest.
fn all_long_functions(sources: &[Source]) -> BTreeMap<Name, (usize, usize)> {
    let mut found: BTreeMap<Name, (usize, usize)> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.path.contains("/tests/")) {
        for (name, line, lines) in functions(&source.shipped).into_iter().filter(|(_, _, lines)| *lines > LINES_MAX) {
            let longest = found.entry((source.path.clone(), name)).or_insert((line, lines));
            if lines > longest.1 {
                *longest = (line, lines);
            }
        }
    }
    found
}

/// Name, first line and number of lines of each function with a body, from `fn` to the closing brace.
fn functions(code: &str) -> Vec<(String, usize, usize)> {
    let found = find_all(code, "fn").into_iter().filter_map(|start| {
        let rest = code.get(start + "fn".len()..)?;
        let name: String = rest.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let body = first_outside(code, start, b"{;").filter(|at| code.as_bytes().get(*at) == Some(&b'{'))?;
        let (first, last) = (line_of(code, start), line_of(code, closing(code, body)?));
        // A pointer type, `fn(u64)`, has no name.
        (!name.is_empty()).then_some((name, first, last - first + 1))
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::super::source::read;
    use super::*;

    fn places(violations: &[Violation]) -> Vec<&str> {
        violations.iter().map(|violation| violation.place.as_str()).collect()
    }

    fn sources(files: &[(&str, &str)]) -> Vec<Source> {
        read(files.iter().copied())
    }

    #[test]
    fn pure_code_is_accepted_and_what_it_touches_is_found() {
        let pure = "//! A use of `std::fs`, tokio and SystemTime in words.\nuse std::fmt;\nfn now(a: Time) { let s = \"std::net\"; }\n#[cfg(test)]\nmod tests { use std::fs; }";
        assert_eq!(purity(&sources(&[("crates/dp/src/lib.rs", pure)])), []);
        let cases = [
            ("crates/dp/src/lib.rs", "use tokio::sync::Mutex;"),
            ("crates/messages/src/a.rs", "fn f() { std::fs::read(p); }"),
            ("crates/mpc/src/a.rs", "use std::{collections::BTreeMap, net::{TcpStream, IpAddr}};"),
            ("crates/mpc/src/a.rs", "use std::{fmt, fs};"),
            ("crates/query/src/a.rs", "use std::time::SystemTime;"),
            ("crates/query/src/a.rs", "let t = Instant::now();"),
            ("crates/policy/src/a.rs", "let v = std::env::var(x);"),
            ("crates/messages/src/a.rs", "let t = jiff::Timestamp::now();"),
            ("crates/dp/src/a.rs", "getrandom::fill(&mut b);"),
            ("crates/ledger/src/a.rs", "let t = std::time::SystemTime::UNIX_EPOCH;"),
            ("crates/store/src/a.rs", "use std::net::TcpStream;"),
            ("crates/audit/src/a.rs", "use std::net::TcpStream;"),
            ("crates/engine/src/a.rs", "let r = SysRng;"),
            ("crates/api/src/a.rs", "let r = SysRng;"),
            ("sim/src/a.rs", "tokio::spawn(x);"),
            ("sim/src/a.rs", "use getrandom::SysRng;"),
            ("crates/new/src/a.rs", "tokio::spawn(x);"),
        ];
        for (path, text) in cases {
            assert_eq!(places(&purity(&sources(&[(path, text)]))), [format!("{path}:1")], "{path} {text}");
        }
    }

    #[test]
    fn rooms_may_touch_what_they_are_for() {
        let fine = [
            ("crates/ledger/src/a.rs", "use std::fs;"),
            ("crates/engine/src/a.rs", "use tokio::runtime::Builder; use std::fs;"),
            ("crates/node/src/a.rs", "use tokio::net; use std::{env, fs}; let r = SysRng; SystemTime::now();"),
            ("crates/api/src/a.rs", "use tokio::net;"),
        ];
        assert_eq!(purity(&sources(&fine)), []);
    }

    #[test]
    fn files_begin_with_their_reason() {
        let files = [
            ("crates/x/src/lib.rs", "//! Why.\n"),
            ("crates/x/src/a.rs", "\n//! Late.\n"),
            ("sim/src/lib.rs", "fn a() {}"),
            ("crates/x/tests/ui/bad.rs", "fn a() {}"),
        ];
        assert_eq!(places(&file_docs(&sources(&files))), ["crates/x/src/a.rs:1", "sim/src/lib.rs:1"]);
    }

    #[test]
    fn leftovers_are_found_in_code_and_comments_but_not_in_strings() {
        let clean = "fn f() { let s = \"FIXME todo!(\"; my_todo!(); } // todo!( in words is fine";
        assert_eq!(leftovers(&sources(&[("a.rs", clean)])), []);
        let bad = [
            "todo!()",
            "unimplemented!()",
            "dbg!(x)",
            "#[ignore]",
            "#[ignore = \"slow\"]",
            "// FIXME: x",
            "/* XXX */",
            "// HACK",
            "// TODO",
        ];
        for text in bad {
            assert_eq!(places(&leftovers(&sources(&[("a.rs", text)]))), ["a.rs:1"], "{text}");
        }
    }

    fn function(name: &str, lines: usize) -> String {
        format!("fn {name}(a: [u8; 3]) -> fn(u8) {{\n{}}}\n", "    a();\n".repeat(lines - 2))
    }

    #[test]
    fn long_functions_are_measured() {
        let text = format!(
            "{}{}trait T {{ fn c(); }}\n#[cfg(test)]\nmod tests {{\n{}}}",
            function("a", 100),
            function("b", 101),
            function("d", 300)
        );
        let sources = sources(&[("a.rs", &text)]);
        assert_eq!(places(&long_functions(&sources, "")), ["a.rs:101"]);
        assert_eq!(functions(&text).iter().map(|f| f.2).collect::<Vec<_>>(), [100, 101, 300]);
    }

    #[test]
    fn the_ratchet_only_goes_down() {
        let text = format!("{}{}", function("a", 120), function("b", 150));
        let sources = sources(&[("a.rs", &text)]);
        assert_eq!(long_functions(&sources, "# x\na.rs a 120\na.rs b 150\n"), []);
        assert_eq!(long_functions(&sources, "a.rs a 119\na.rs b 150\n").len(), 1);
        assert_eq!(places(&long_functions(&sources, "a.rs a 120\na.rs b 160\n")), [LONG_FUNCTIONS]);
        assert_eq!(long_functions(&sources, "a.rs a 120\na.rs b 150\na.rs gone 200\n").len(), 1);
        let lowered = lowered(&sources, "a.rs a 119\na.rs b 160\na.rs gone 200\n");
        assert_eq!(lowered.strip_prefix(LONG_FUNCTIONS_HEADER), Some("a.rs a 119\na.rs b 150\n"));
    }
}
