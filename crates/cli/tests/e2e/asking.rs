//! Asking in a running sandbox: what is refused and by whom, what costs and what does not, and what stewards see.

use std::thread;

use serde_json::{Value, json};

use crate::sandbox::{Estimate, HOSPITALS, PATIENTS, Sandbox, run, run_json, wait_for};

/// A question, more arguments, the exit code, what is said, the failing clauses.
type Case = (&'static str, &'static [&'static str], i32, &'static [&'static str], &'static [&'static str]);

const COUNT: &str = "SELECT COUNT(*) FROM patients";

const BAD_QUESTIONS: &[Case] = &[
    ("", &[], 2, &["the query is empty"], &[]),
    ("SELEC COUNT(*) FROM patients", &[], 2, &[], &[]),
    ("SELECT * FROM patients", &[], 2, &["rows never leave a node"], &[]),
    ("DROP TABLE patients", &[], 2, &["DROP is not supported"], &[]),
    ("SELECT COUNT(*) FROM patients; SELECT COUNT(*) FROM patients", &[], 2, &[], &[]),
    ("SELECT COUNT(*) FROM patients JOIN encounters ON true", &[], 2, &["JOIN is not supported"], &[]),
    ("SELECT MEDIAN(age) FROM patients", &[], 2, &["MEDIAN is not supported"], &[]),
    ("SELECT COUNT(*) FROM nowhere", &[], 2, &["no dataset `nowhere`", "`patients`"], &[]),
    ("SELECT AVG(shoe_size) FROM patients", &[], 2, &["no column `shoe_size`", "hba1c"], &[]),
    ("SELECT COUNT(*) FROM patients WHERE shoe_size > 40", &[], 2, &["no column `shoe_size`"], &[]),
    ("SELECT patient, COUNT(*) FROM patients GROUP BY patient", &[], 2, &["`patient` tells persons apart"], &[]),
    ("SELECT COUNT(*) FROM patients WHERE patient = 'p000001'", &[], 2, &["`patient` tells persons apart"], &[]),
    ("SELECT age, COUNT(*) FROM patients GROUP BY age", &[], 2, &["GROUP BY `age`"], &[]),
    (COUNT, &["--epsilon", "0"], 2, &["too small"], &[]),
    (COUNT, &["--epsilon", "much"], 2, &["not a number"], &[]),
    (COUNT, &["--purpose", "curiosity"], 2, &["--purpose"], &[]),
    (COUNT, &["--purpose", "GRU"], 3, &["the task is for GRU"], &["outcomes/purpose"]),
    (
        COUNT,
        &["--epsilon", "2.5"],
        3,
        &["may cost epsilon 2 at most"],
        &["outcomes/price-per-query", "outcomes/price-per-analysis"],
    ),
    (
        COUNT,
        &["--purpose", "GRU", "--epsilon", "2.5"],
        3,
        &[],
        &["outcomes/purpose", "outcomes/price-per-query", "outcomes/price-per-analysis"],
    ),
];

#[test]
fn bad_questions_are_refused_by_name_and_cost_nothing() {
    let sandbox = Sandbox::started("bad-questions");
    for (sql, more, code, parts, clauses) in BAD_QUESTIONS {
        let said = sandbox.ask(sql, more);
        said.fails(*code, parts);
        if *code == 3 {
            let error: Value = serde_json::from_str(said.err.trim()).unwrap();
            assert_eq!(error["error"]["clauses"], json!(clauses), "{sql} {more:?}");
            assert_eq!(error["error"]["code"], 3);
        }
    }
    let researcher = sandbox.researcher();
    let other_study = ["query", COUNT, "--study", "incomes"];
    run(Some(&researcher), &other_study).fails(2, &["no study `incomes`", "outcomes"]);
    run(Some(&sandbox.dir().join("nobody")), &other_study).fails(2, &["is no home"]);
    run(None, &["query", COUNT, "--study", "outcomes"]).fails(2, &["--home"]);
    // A custodian is a member, but not a researcher of the agreement.
    run(Some(&sandbox.node("stmary")), &["query", COUNT, "--study", "outcomes"])
        .fails(3, &["only a researcher may ask"]);
    run(Some(&researcher), &["study", "sign", "outcomes", "--yes"]).fails(2, &["only an organisation"]);
    run(None, &["sandbox", "start", &sandbox.shown()]).fails(2, &["is running already"]);
    run(Some(&sandbox.node("stmary")), &["node", "start"]).fails(1, &["another process has this home open"]);
    run(Some(&sandbox.node("stmary")), &["account", "show", "nothing"]).fails(2, &["no dataset `nothing`"]);
    for node in HOSPITALS {
        assert_eq!(sandbox.runs(node).len(), 0, "a task that the hub refuses reaches nobody");
        assert!(sandbox.accounts(node, "patients").iter().all(|line| line["entries"] == 0));
    }
    run(None, &["sandbox", "stop", &sandbox.shown()]).text();
    run(Some(&researcher), &["query", COUNT, "--study", "outcomes"]).fails(5, &["https://127.0.0.1:"]);
}

/// How many entries the account of the patients has at each node, and the ε left of the dataset at the first one.
fn spent(sandbox: &Sandbox) -> (Vec<u64>, f64) {
    let everyone = |node: &str| {
        let lines = sandbox.accounts(node, "patients");
        lines.into_iter().find(|line| line["scope"] == "everyone").unwrap()
    };
    let entries = HOSPITALS.iter().map(|node| everyone(node)["entries"].as_u64().unwrap()).collect();
    (entries, everyone(HOSPITALS[0])["epsilon_left"].as_f64().unwrap())
}

#[test]
fn a_dry_run_and_a_repetition_are_free_and_a_new_draw_is_not() {
    let sandbox = Sandbox::started("prices");
    let sql = "SELECT sex, COUNT(*) AS n, AVG(age) AS mean_age FROM patients GROUP BY sex";
    let untouched = spent(&sandbox);
    assert_eq!(untouched, (vec![0; 3], 20.0));

    // The first ones from this home, so all of them pin the agreement at the same moment.
    thread::scope(|scope| {
        let asking: Vec<_> = (0..8).map(|_| scope.spawn(|| sandbox.ask(sql, &["--dry-run"]).json())).collect();
        asking.into_iter().for_each(|asked| assert_eq!(asked.join().unwrap()["epsilon"], 1.0));
    });
    let dry = sandbox.ask(sql, &["--dry-run"]).json();
    assert_eq!(dry["epsilon"], 1.0);
    assert_eq!(dry["expected_error"].as_array().unwrap().len(), 2);
    assert_eq!(spent(&sandbox), untouched);

    let first = sandbox.ask(sql, &[]).json();
    assert_eq!(
        (&first["stored"], &first["epsilon"], &first["survivors"]),
        (&json!(false), &json!(1.0), &json!(HOSPITALS))
    );
    let after_one = spent(&sandbox);
    assert_eq!(after_one.0, [3; 3], "reserved, read, spent");
    assert!(after_one.1 < untouched.1);

    let second = sandbox.ask(sql, &[]).json();
    assert_eq!((&second["stored"], &second["epsilon"]), (&json!(true), &json!(0.0)));
    assert_eq!(
        (&second["answer"], &second["task"], &second["log_index"]),
        (&first["answer"], &first["task"], &first["log_index"])
    );
    assert_eq!(spent(&sandbox), after_one);

    let third = sandbox.ask(sql, &["--draw", "1"]).json();
    assert_eq!(third["stored"], false);
    assert_ne!(third["answer"]["rows"], first["answer"]["rows"], "fresh noise");
    let after_two = spent(&sandbox);
    assert_eq!(after_two.0, [6; 3]);
    assert!(after_two.1 < after_one.1);

    let rows = first["answer"]["rows"].as_array().unwrap();
    assert_eq!(
        rows.iter().map(|row| &row[0]).collect::<Vec<_>>(),
        [&json!({"key": "female"}), &json!({"key": "male"})]
    );
    let total: f64 = rows.iter().map(|row| Estimate::of(&row[1]).unwrap().value).sum();
    assert!((total - f64::from(3 * PATIENTS.0)).abs() < 200.0, "twice twelve standard deviations of these counts");
    the_steward_sees_everything(&sandbox, &first["task"]);
    everyone_can_read_the_agreement(&sandbox);
}

fn the_steward_sees_everything(sandbox: &Sandbox, task: &Value) {
    sandbox.wait_until_quiet();
    let home = sandbox.node("northside");
    let runs = sandbox.runs("northside");
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().any(|run| run["task"] == *task), "{runs:?}");
    assert!(runs.iter().all(|run| run["state"] == "released" && run["researcher"] == "ada"), "{runs:?}");
    let text = run(Some(&home), &["node", "tasks"]);
    assert!(text.text().contains(task.as_str().unwrap().split_at(12).0) && text.text().contains("released"), "{text}");

    let outbox = wait_for("everything is sent", || {
        let value = run_json(Some(&home), &["node", "outbox", "--last", "1000"]).json();
        value["outbox"].as_array().unwrap().iter().all(|item| item["sent"] == true).then_some(value)
    });
    let items = outbox["outbox"].as_array().unwrap();
    let of = |kind: &str| items.iter().filter(|item| item["kind"] == kind).count();
    let kinds =
        ["offer", "pairwise key half", "permit and shares", "masked vector and receipt", "survivor set", "reveal"];
    assert_eq!(kinds.map(of), [2, 2, 2, 2, 2, 2], "{items:?}");
    // How often heads of logs are shown and cosigned, and whether the hour is odd, depends on the clock.
    let of_logs = ["cosignature", "head of our log", "no cosignature", "alert"].map(of).iter().sum::<usize>();
    assert_eq!(kinds.map(of).iter().sum::<usize>() + of_logs, items.len(), "something else left");
    assert!(items.iter().filter(|item| item["task"] == *task && item["kind"] != "alert").count() == 4);
    no_patient_has_left(sandbox, &outbox);
    let last = run_json(Some(&home), &["node", "outbox", "--last", "1"]).json();
    assert_eq!((last["outbox"].as_array().unwrap().len(), &last["total"]), (1, &json!(items.len())));
    let text = run(Some(&home), &["node", "outbox"]);
    assert!(text.text().contains("under masks that only the sum over many members removes"), "{text}");

    let text = run(Some(&home), &["account", "show"]);
    for part in ["encounters", "patients", "everyone", "study outcomes", "ada in outcomes"] {
        assert!(text.text().contains(part), "{part}: {text}");
    }
    assert_eq!(run_json(Some(&home), &["account", "show"]).json()["accounts"].as_array().unwrap().len(), 6);
}

/// No pseudonym stands in what left, neither openly nor in the payload of a signed envelope.
fn no_patient_has_left(sandbox: &Sandbox, outbox: &Value) {
    let mut text = outbox.to_string();
    let envelopes = text.matches("\"payload\":\"").count();
    let payloads: Vec<String> = text.split("\"payload\":\"").skip(1).map(from_base64).collect();
    assert!(envelopes > 10 && payloads.iter().all(|payload| payload.starts_with('{')), "{payloads:?}");
    text.extend(payloads);
    for row in sandbox.rows("northside", "patients.csv") {
        assert!(!text.contains(&row[0]), "{} has left the house", row[0]);
    }
}

/// The text whose base64 `encoded` begins with.
fn from_base64(encoded: &str) -> String {
    const ALPHABET: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits: Vec<usize> = encoded.bytes().map_while(|b| ALPHABET.iter().position(|known| *known == b)).collect();
    let bytes = digits.chunks(4).flat_map(|chunk| {
        let word = chunk.iter().enumerate().fold(0, |word, (at, digit)| word | digit << (18 - 6 * at));
        [word >> 16, word >> 8, word].into_iter().take(chunk.len() - 1).map(|byte| byte as u8)
    });
    String::from_utf8_lossy(&bytes.collect::<Vec<u8>>()).into_owned()
}

fn everyone_can_read_the_agreement(sandbox: &Sandbox) {
    for home in [sandbox.researcher(), sandbox.node("riverbank")] {
        let list = run_json(Some(&home), &["study", "show"]).json();
        assert_eq!(
            list,
            json!({"studies": [{"amendments": 0, "complete": true, "revocations": 0, "study": "outcomes"}]})
        );
        let value = run_json(Some(&home), &["study", "show", "outcomes"]).json();
        assert_eq!(
            (&value["agreement"]["study"], &value["complete"], &value["policy"]),
            (&json!("outcomes"), &json!(true), &Value::Null)
        );
        let text = run(Some(&home), &["study", "show", "outcomes"]);
        let hash = value["hash"].as_str().unwrap();
        for part in ["Study outcomes", "Purposes: HMB.", "northside", "Signed by all custodians: yes", hash] {
            assert!(text.text().contains(part), "{part}: {text}");
        }
        let policy = run(Some(&home), &["study", "show", "outcomes", "--policy"]);
        let value = run_json(Some(&home), &["study", "show", "outcomes", "--policy"]).json();
        assert_eq!(value["policy"].as_str().unwrap().trim_end(), policy.text().trim_end());
        assert!(policy.text().contains("forbid") && policy.text().contains("price-per-query"), "{policy}");
        run(Some(&home), &["study", "show", "incomes"]).fails(2, &["no study `incomes`"]);
    }
}
