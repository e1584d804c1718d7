//! Cases in text files: `plan` or `refuse`, the SQL, a line of dashes, what must come out, an empty line.

use cohortium_query::check;

use crate::fixture::{agreement, agreement_hash, data, planned, summary};

struct Case {
    file: String,
    line: usize,
    accepted: bool,
    sql: String,
    expected: String,
}

#[test]
fn text_cases() {
    let cases = cases();
    assert!(cases.len() > 100, "the files are there: {}", cases.len());
    let mut wrong = Vec::new();
    for Case { file, line, accepted, sql, expected } in cases {
        let (got_accepted, got) = match planned(&sql) {
            Ok(plan) => {
                check(&plan, agreement(), agreement_hash())
                    .unwrap_or_else(|error| panic!("{file}:{line}: planned but not accepted by check: {error}"));
                (true, summary(&plan))
            }
            Err(error) => (false, error.to_string()),
        };
        if (got_accepted, got.as_str()) != (accepted, expected.as_str()) {
            wrong.push(format!("{file}:{line}: {sql}\n--- expected\n{expected}\n--- got\n{got}\n"));
        }
    }
    assert!(wrong.is_empty(), "{} cases differ\n{}", wrong.len(), wrong.join("\n"));
}

/// Every SQL text of the case files.
pub fn all_sql() -> Vec<String> {
    cases().into_iter().map(|case| case.sql).collect()
}

fn cases() -> Vec<Case> {
    let mut files: Vec<_> = std::fs::read_dir(data()).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "txt"));
    files.sort();
    files
        .iter()
        .flat_map(|path| read(path.file_name().unwrap().to_str().unwrap(), &std::fs::read_to_string(path).unwrap()))
        .collect()
}

fn read(file: &str, text: &str) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#')).peekable();
    while let Some((number, word)) = lines.next() {
        if word.is_empty() {
            continue;
        }
        assert!(matches!(word, "plan" | "refuse"), "{file}:{}: `{word}`", number + 1);
        let until = |end: &str, lines: &mut dyn Iterator<Item = (usize, &str)>| {
            lines.map(|(_, line)| line.to_owned()).take_while(|line| line != end).collect::<Vec<_>>().join("\n")
        };
        let sql = until("----", &mut lines);
        let expected = until("", &mut lines);
        cases.push(Case { file: file.to_owned(), line: number + 1, accepted: word == "plan", sql, expected });
    }
    cases
}
