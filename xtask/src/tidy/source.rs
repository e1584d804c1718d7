//! Rust files as the rules read them: with strings, comments and tests blanked out, every byte at its place.
//!
//! Blanking keeps offsets, so that what is found in the blanked text can be looked up in the original. The reader knows
//! the literals and comments of Rust 2024 (raw strings, nested comments, lifetimes that look like characters) and
//! nothing of its grammar.

use std::collections::BTreeSet;
use std::ops::Range;

/// A Rust file.
pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    /// As it stands in the file.
    pub text: String,
    /// Without strings: code and comments.
    pub words: String,
    /// Without strings and comments: code.
    pub code: String,
    /// Without strings, comments and what is compiled for tests only.
    pub shipped: String,
    /// The contents of string literals, with where they start.
    pub strings: Vec<(usize, String)>,
}

/// Reads files given by path and text. A module that is declared for tests only is blanked out in its own file.
pub fn read<'a>(files: impl Iterator<Item = (&'a str, &'a str)>) -> Vec<Source> {
    let mut test_files = BTreeSet::new();
    let mut sources = Vec::new();
    for (path, text) in files {
        let pieces = pieces(text);
        let strings = pieces.iter().filter(|piece| piece.is_string);
        let words = blank(text, strings.clone().map(|piece| piece.range.clone()));
        let code = blank(text, pieces.iter().map(|piece| piece.range.clone()));
        let tests = test_items(&code);
        for module in tests.iter().filter_map(|range| declared_module(code.get(range.clone())?)) {
            test_files.extend(module_paths(path, module));
        }
        let shipped = blank(&code, tests.into_iter());
        let strings =
            strings.filter_map(|piece| Some((piece.range.start, text.get(piece.content.clone())?.to_owned())));
        let strings = strings.collect();
        sources.push(Source { path: path.to_owned(), text: text.to_owned(), words, code, shipped, strings });
    }
    for source in sources.iter_mut().filter(|source| test_files.contains(&source.path)) {
        source.shipped = blank(&source.code, std::iter::once(0..source.code.len()));
    }
    sources
}

/// The line of an offset, from 1.
pub fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}

/// Where `needle` stands in `code` and is not part of a longer name.
pub fn find_all(code: &str, needle: &str) -> Vec<usize> {
    let is_part_of_name = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    let starts_with_name = is_part_of_name(needle.chars().next());
    let ends_with_name = is_part_of_name(needle.chars().next_back());
    let found = code.match_indices(needle).filter(|(start, _)| {
        let before = code.get(..*start).and_then(|text| text.chars().next_back());
        let after = code.get(start + needle.len()..).and_then(|text| text.chars().next());
        !(starts_with_name && is_part_of_name(before) || ends_with_name && is_part_of_name(after))
    });
    found.map(|(start, _)| start).collect()
}

/// The offset after the bracket that closes the one at `open`; `None` when it is never closed. Counts all three kinds of
/// bracket as one: code that compiles nests them properly.
pub fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(open) {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(offset + 1);
                }
            }
            _ => {}
        }
    }
    None
}

/// From `start`, the offset of the first of the `wanted` bytes that stands outside parentheses and square brackets.
pub fn first_outside(code: &str, start: usize, wanted: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    for (offset, byte) in code.bytes().enumerate().skip(start) {
        match byte {
            b'(' | b'[' => depth += 1,
            b')' | b']' => depth = depth.checked_sub(1)?,
            byte if depth == 0 && wanted.contains(&byte) => return Some(offset),
            _ => {}
        }
    }
    None
}

/// A literal or a comment.
struct Piece {
    range: Range<usize>,
    /// The range without quotes; for a comment, all of it.
    content: Range<usize>,
    is_string: bool,
}

fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let name = rest.find(|c: char| !(c.is_alphanumeric() || c == '_')).unwrap_or(rest.len());
        let (prefix, tail) = rest.split_at(name);
        if let Some(length) = comment(rest) {
            pieces.push(Piece { range: at..at + length, content: at..at + length, is_string: false });
            at += length;
        } else if let Some((quote, length)) = literal(prefix, tail) {
            let start = at + name;
            let content = start + quote..(start + length).saturating_sub(quote);
            pieces.push(Piece { range: at..start + length, content, is_string: true });
            at = start + length;
        } else if name > 0 {
            at += name;
        } else {
            at += lifetime(rest).unwrap_or_else(|| rest.chars().next().map_or(1, char::len_utf8));
        }
    }
    pieces
}

/// The length of the comment that `rest` begins with.
fn comment(rest: &str) -> Option<usize> {
    if rest.starts_with("//") {
        return Some(rest.find('\n').unwrap_or(rest.len()));
    }
    if !rest.starts_with("/*") {
        return None;
    }
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(rest) = rest.get(at..).filter(|rest| !rest.is_empty()) {
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return Some(at);
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    Some(rest.len())
}

/// The lengths of the opening quote and of the whole literal that `tail` begins with, after a prefix such as `br`.
fn literal(prefix: &str, tail: &str) -> Option<(usize, usize)> {
    match prefix {
        "r" | "br" | "cr" => {
            let hashes = tail.bytes().take_while(|byte| *byte == b'#').count();
            let body = tail.get(hashes..)?.strip_prefix('"')?;
            let end = format!("\"{}", "#".repeat(hashes));
            let length = body.find(&end).map_or(tail.len(), |found| hashes + 1 + found + end.len());
            Some((hashes + 1, length))
        }
        "" | "b" | "c" if tail.starts_with('"') => Some((1, escaped(tail, '"'))),
        "" | "b" if tail.starts_with('\'') && lifetime(tail).is_none() => Some((1, escaped(tail, '\''))),
        _ => None,
    }
}

/// The length of the literal up to the quote that ends it; a backslash takes the next character with it.
fn escaped(tail: &str, quote: char) -> usize {
    let mut characters = tail.char_indices().skip(1);
    while let Some((offset, character)) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if character == quote {
            return offset + 1;
        }
    }
    tail.len()
}

/// The length of a quote that begins a lifetime and no character: `'a` is one, `'a'` and `'\n'` are not.
fn lifetime(rest: &str) -> Option<usize> {
    let mut characters = rest.strip_prefix('\'')?.chars();
    let first = characters.next()?;
    let is_character = first == '\\' || characters.next() == Some('\'');
    (!is_character).then_some(1)
}

/// The text with the ranges replaced by as many spaces as they have bytes; ends of lines stay.
fn blank(text: &str, ranges: impl Iterator<Item = Range<usize>>) -> String {
    let mut blanked = String::with_capacity(text.len());
    let mut at = 0;
    for range in ranges {
        blanked.push_str(text.get(at..range.start.max(at)).unwrap_or_default());
        for byte in text.bytes().take(range.end).skip(range.start.max(at)) {
            blanked.push(if byte == b'\n' { '\n' } else { ' ' });
        }
        at = at.max(range.end);
    }
    blanked.push_str(text.get(at..).unwrap_or_default());
    blanked
}

/// The ranges of items that are compiled for tests only, with their attribute.
fn test_items(code: &str) -> Vec<Range<usize>> {
    const ATTRIBUTE: &str = "#[cfg(test)]";
    let starts = code.match_indices(ATTRIBUTE).map(|(start, _)| start);
    starts
        .filter_map(|start| {
            let stop = first_outside(code, start + ATTRIBUTE.len(), b"{;")?;
            let is_block = code.as_bytes().get(stop) == Some(&b'{');
            Some(start..if is_block { closing(code, stop)? } else { stop + 1 })
        })
        .collect()
}

/// The name in `mod name;`, if the item is that.
fn declared_module(item: &str) -> Option<&str> {
    let start = find_all(item, "mod").pop()?;
    let name = item.get(start + "mod".len()..)?.trim().strip_suffix(';')?.trim();
    name.chars().all(|c| c.is_alphanumeric() || c == '_').then_some(name)
}

/// The files in which the module `name` of the file `path` may stand.
fn module_paths(path: &str, name: &str) -> [String; 2] {
    let (directory, file) = path.rsplit_once('/').unwrap_or(("", path));
    let directory = match file {
        "lib.rs" | "main.rs" | "mod.rs" => directory.to_owned(),
        _ => format!("{directory}/{}", file.trim_end_matches(".rs")),
    };
    [format!("{directory}/{name}.rs"), format!("{directory}/{name}/mod.rs")]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Source {
        read(std::iter::once(("crates/x/src/lib.rs", text))).pop().unwrap()
    }

    #[test]
    fn literals_and_comments_are_blanked_and_offsets_stay() {
        let cases = [
            ("let a = \"b{\"; c", "let a =     ; c"),
            (r##"f(r#"a"b"#, d)"##, "f(        , d)"),
            ("x // é {\ny", "x        \ny"),
            ("a /* b /* c */ d */ e", "a                   e"),
            ("'{' 'a 'b: '\\'' '\\\\' b'x' 'é'", "    'a 'b:                    "),
            ("fn f<'a>(x: &'a str) {}", "fn f<'a>(x: &'a str) {}"),
            ("r#type br\"z\" c\"z\" var\"", "r#type            var "),
            ("\"a\\\"b\" c", "       c"),
        ];
        for (text, code) in cases {
            let source = one(text);
            assert_eq!(source.code, code, "{text}");
            assert_eq!(source.code.len(), text.len());
        }
        assert_eq!(one("a \"s\" // w").words, "a     // w");
        assert_eq!(one("f(\"one\", r#\"two\"#)").strings, [(2, "one".to_owned()), (9, "two".to_owned())]);
    }

    #[test]
    fn tests_are_not_shipped() {
        let source = one("fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { if c {} }\n}\nfn d() {}");
        assert!(source.shipped.contains("fn a") && source.shipped.contains("fn d"), "{}", source.shipped);
        assert!(!source.shipped.contains("fn b"), "{}", source.shipped);
        assert!(source.code.contains("fn b"));
        let files = [
            ("crates/x/src/lib.rs", "#[cfg(test)]\nmod bench;\nmod real;"),
            ("crates/x/src/bench.rs", "fn b() {}"),
            ("crates/x/src/real.rs", "#[cfg(test)]\nmod deep;\nfn r() {}"),
            ("crates/x/src/real/deep.rs", "fn d() {}"),
        ];
        let shipped: Vec<String> = read(files.into_iter()).iter().map(|s| s.shipped.trim().to_owned()).collect();
        assert_eq!(shipped, ["mod real;", "", "fn r() {}", ""]);
    }

    #[test]
    fn words_are_whole_and_lines_count_from_one() {
        assert_eq!(find_all("tokio tokio_x x::tokio mytokio", "tokio"), [0, 17]);
        assert_eq!(find_all("Instant::now() a.now()", "::now("), [7]);
        assert_eq!(line_of("a\nb\nc", 4), 3);
    }
}
