//! Files that custodians hand in: what is wrong is said by line and column, never by value, and nothing is written.

use std::path::Path;

use crate::sandbox::{Sandbox, run, run_json, shown};

const SCHEMA: &str = r#"
[schema]
max_rows_per_person = 1
max_groups_per_person = 1

[[schema.columns]]
name = "age"
type = "integer"
bounds = [0, 120]
roles = ["filter", "aggregate"]

[[schema.columns]]
name = "sex"
type = "text"
domain = ["female", "male"]
roles = ["filter", "group"]
"#;

const GOOD: &str = "age,sex\n40,male\n50,female\n";

/// What is wrong, the file, what is changed in the schema and into what, what must be said.
type Case = (&'static str, &'static str, (&'static str, &'static str), &'static [&'static str]);

const CASES: &[Case] = &[
    ("a bad number", "age,sex\n40,male\nfourty-two,female\n", ("", ""), &["line 3", "`age`"]),
    ("two bad numbers", "age,sex\nfourty-two,male\n41,male\nfourty-two,male\n", ("", ""), &["line 2", "line 4"]),
    ("a column is missing", "age\n40\n", ("", ""), &["sex"]),
    ("a column is there twice", "age,sex,age\n40,male,40\n", ("", ""), &["`age`"]),
    ("a cell too many", "age,sex\n40,male,fourty-two\n", ("", ""), &["line 2"]),
    ("no bounds", GOOD, ("bounds = [0, 120]", ""), &["`age`", "no bounds", "bounds = [lowest, highest]"]),
    ("no domain", GOOD, ("domain = [\"female\", \"male\"]", ""), &["`sex`", "no domain"]),
    ("bounds upside down", GOOD, ("[0, 120]", "[120, 0]"), &["`age`", "bounds"]),
    ("an unknown key", GOOD, ("bounds", "boundaries"), &["line 9", "boundaries"]),
    ("no TOML", GOOD, ("[schema]", "[schema"), &["line 2"]),
    ("a column twice in the schema", GOOD, ("\"sex\"", "\"age\""), &["`age`", "twice"]),
];

#[test]
fn bad_files_are_refused_and_nothing_is_written() {
    let sandbox = Sandbox::made("files");
    let home = sandbox.node("northside");
    let before = listing(&home.join("datasets"));
    let (file, schema) = (sandbox.dir().join("new.csv"), sandbox.dir().join("new.toml"));
    let (shown_file, shown_schema) = (shown(&file), shown(&schema));
    let with_schema = ["node", "dataset", "add", "new", &shown_file, "--schema", &shown_schema];
    for (wrong, csv, (from, to), parts) in CASES {
        assert!(from.is_empty() || SCHEMA.contains(from), "{wrong}: nothing is changed");
        std::fs::write(&file, csv).unwrap();
        std::fs::write(&schema, if from.is_empty() { SCHEMA.to_owned() } else { SCHEMA.replacen(from, to, 1) })
            .unwrap();
        let said = run(Some(&home), &with_schema);
        said.fails(2, parts);
        assert!(
            !said.err.contains("fourty-two") && !said.out.contains("fourty-two"),
            "{wrong}: a value is said: {said}"
        );
        assert_eq!(listing(&home.join("datasets")), before, "{wrong}: something was written");
    }

    std::fs::write(&file, GOOD).unwrap();
    std::fs::write(&schema, SCHEMA).unwrap();
    run(Some(&home), &["node", "dataset", "add", "new", &shown_file]).fails(2, &["--schema"]);
    let sketch = run(Some(&home), &["node", "dataset", "add", "new", &shown_file]).out;
    assert!(
        sketch.contains("name = \"sex\"") && !sketch.contains("female"),
        "bounds and domains are for people: {sketch}"
    );
    run(Some(&home), &["node", "dataset", "add", "new", "absent.csv", "--schema", &shown_schema])
        .fails(2, &["absent.csv"]);
    run(None, &with_schema).fails(2, &["--home"]);
    run(Some(&home), &["node", "dataset", "add", "New Data", &shown_file]).fails(2, &[]);
    assert_eq!(listing(&home.join("datasets")), before);

    assert_eq!(run_json(Some(&home), &with_schema).json()["report"]["rows"], 2);
    assert_eq!(listing(&home.join("datasets")).len(), before.len() + 2, "its shape and its rows");
}

#[test]
fn a_sandbox_is_not_made_over_another_and_nothing_runs_without_one() {
    let sandbox = Sandbox::made("twice");
    let keys = std::fs::read(sandbox.researcher().join("keys.toml")).unwrap();
    run(None, &["sandbox", "new", &sandbox.shown(), "--patients", "10"]).fails(2, &["holds a sandbox already"]);
    assert_eq!(std::fs::read(sandbox.researcher().join("keys.toml")).unwrap(), keys);
    run(None, &["sandbox", "new", &sandbox.shown(), "--patients", "0"]).fails(2, &["--patients"]);
    run(None, &["sandbox", "start", &shown(&sandbox.dir().join("elsewhere"))]).fails(2, &["is no sandbox"]);
    run(None, &["demo", "--schema", "some.toml"]).fails(2, &["--data"]);
    let question = ["query", "SELECT COUNT(*) FROM patients", "--study", "outcomes"];
    run_json(Some(&sandbox.researcher()), &question).fails(5, &["unreachable", "https://127.0.0.1:"]);
    assert_eq!(run_json(None, &["sandbox", "stop", &sandbox.shown()]).json()["stopped"], serde_json::json!([]));

    // Stopped is stopped: homes and port are free again when the command returns.
    for _ in 0..3 {
        run(None, &["sandbox", "start", &sandbox.shown()]).text();
        assert_eq!(
            run_json(None, &["sandbox", "stop", &sandbox.shown()]).json()["stopped"].as_array().unwrap().len(),
            4
        );
    }
    run(None, &["sandbox", "start", &sandbox.shown()]).text();
    assert_eq!(sandbox.ask(question[1], &[]).json()["stored"], false);
    sandbox.all_are_alive();
}

fn listing(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
