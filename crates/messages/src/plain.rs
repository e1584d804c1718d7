//! Text that somebody else wrote, fit to be shown: on a terminal, on a page, in a message about an error.
//!
//! Names and numbers have types of their own; titles, reasons, questions and whatever a parser repeats of what it could not
//! read have none. A character that moves the cursor, hides text or turns its direction (Boucher and Anderson 2021, "Trojan
//! Source") could make a reader see what is not there. Everything that shows foreign text asks this file which those are.
//!
//! Does not: find letters that only look alike, or text that is merely untrue.

/// Whether a character moves the cursor, hides text or turns its direction.
#[must_use]
pub fn hides(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// A text on one line, with a sign in the place of every character that hides something.
#[must_use]
pub fn plain(text: &str) -> String {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    words.chars().map(replaced).collect()
}

/// A text of several lines, which stay, with a sign in the place of every other character that hides something; a tabulator
/// becomes a space.
#[must_use]
pub fn plain_lines(text: &str) -> String {
    let shown = |c| match c {
        '\n' => c,
        '\t' => ' ',
        c => replaced(c),
    };
    text.chars().map(shown).collect()
}

/// JSON that says the same in ASCII alone, so that it can be shown and still be compared to the last character.
#[must_use]
pub fn ascii_json(json: &str) -> String {
    let mut ascii = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || (c.is_ascii() && !c.is_ascii_control()) {
            ascii.push(c);
        } else {
            // Outside its strings JSON has nothing else, so this is inside one.
            let mut units = [0; 2];
            for unit in c.encode_utf16(&mut units) {
                ascii.push_str(&format!("\\u{unit:04x}"));
            }
        }
    }
    ascii
}

fn replaced(c: char) -> char {
    if hides(c) { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_hides_is_seen() {
        let hostile = "a\u{1b}[2J\r\nb\u{202e}c\u{200b}\u{7f}\u{9b}d\u{3164}";
        assert_eq!(plain(hostile), "a\u{fffd}[2J b\u{fffd}c\u{fffd}\u{fffd}\u{fffd}d\u{fffd}");
        assert_eq!(plain_lines("a\tb\r\nc"), "a b\u{fffd}\nc");
        assert_eq!(plain("Größe ≥ 5 für 日本"), "Größe ≥ 5 für 日本");
    }

    #[test]
    fn ascii_json_says_the_same() {
        let value = serde_json::json!({"text": "a\u{202e}\u{7f}\u{e0041}ü\n\"", "more": ["\u{1f600}"]});
        for json in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            let ascii = ascii_json(&json);
            assert!(ascii.chars().all(|c| c == '\n' || (c.is_ascii() && !c.is_ascii_control())), "{ascii}");
            assert_eq!(serde_json::from_str::<serde_json::Value>(&ascii).unwrap(), value);
        }
    }
}
