//! People decide: what a steward sees, yes and no, who may not, what is held back, what stops, what is written down.

use std::path::PathBuf;
use std::thread;

use serde_json::{Value, json};

use crate::sandbox::{HOSPITALS, Said, Sandbox, audit_passes_once_quiet, fresh_folder, run, run_json, shown, wait_for};

const COUNT: &str = "SELECT sex, COUNT(*) AS n FROM patients WHERE age >= 65 GROUP BY sex";

/// A running sandbox in which people approve, and the folders of those who do.
struct House {
    sandbox: Sandbox,
}

impl House {
    fn started(name: &str, more: &[&str]) -> Self {
        let sandbox = Sandbox::in_folder(name);
        let dir = sandbox.shown();
        let new = [&["sandbox", "new", &dir, "--people", "--patients", "300"], more].concat();
        assert_eq!(run_json(None, &new).json()["people"], json!(true));
        run_json(None, &["sandbox", "start", &sandbox.shown()]).json();
        Self { sandbox }
    }

    fn person(&self, hospital: &str, name: &str) -> String {
        shown(&self.sandbox.dir().join("people").join(hospital).join(name))
    }

    /// A command at a node, for programs.
    fn at(&self, hospital: &str, arguments: &[&str]) -> Said {
        run_json(Some(&self.sandbox.node(hospital)), arguments)
    }

    fn ask(&self, sql: &'static str, draw: &'static str) -> thread::JoinHandle<Said> {
        let researcher = self.sandbox.researcher();
        let ask = ["query", sql, "--study", "outcomes", "--epsilon", "0.5", "--draw", draw];
        thread::spawn(move || run_json(Some(&researcher), &ask))
    }

    /// The task that waits at a hospital, once one does.
    fn waiting(&self, hospital: &str, state: &str) -> String {
        wait_for("a task waits", || {
            let tasks = self.at(hospital, &["node", "tasks"]).json();
            let first = tasks["tasks"].as_array().unwrap().first()?.clone();
            let is_so = first["state"] == state || (state == "held" && first["held"] == true);
            is_so.then(|| first["task"].as_str().unwrap().to_owned())
        })
    }

    fn approve(&self, hospital: &str, task: &str, person: &str) -> Said {
        self.at(hospital, &["node", "approve", task, "--why", "fits the plan", "--as", &self.person(hospital, person)])
    }
}

#[test]
fn a_steward_sees_what_is_asked_and_the_answer_needs_a_yes_everywhere() {
    let house = House::started("people", &[]);
    let question = house.ask(COUNT, "0");
    let task = house.waiting("northside", "waiting");
    let prefix = task.get(..6).unwrap();

    let text = run(Some(&house.sandbox.node("northside")), &["node", "show", prefix]);
    for part in [
        "WAITS FOR YOU",
        "asked by ada (fingerprint ",
        "HMB: health, medical or biomedical research",
        "how many rows there are, for each value of sex. Only rows count where age is at least 65.",
        "chooses rows",
        "groups by it",
        "ε = 0.5",
        "left after this",
        "is within ±",
        "Nothing of this kind",
        "On yes:",
        "On no:",
        "node approve",
        "node refuse",
    ] {
        // Lines are broken anywhere between words.
        let said = text.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(part), "`{part}` is not said: {text}");
    }
    let value = house.at("northside", &["node", "show", prefix]).json();
    assert_eq!((&value["sql_is_plan"], &value["may_decide"]), (&json!(true), &json!(["paula", "stella"])));
    let budget = &value["budgets"][0];
    let (left, after) = (budget["left"].as_f64().unwrap(), budget["after"].as_f64().unwrap());
    // What several tasks cost together is no sum: more than ε alone may go from what is left, and not twice as much.
    assert!(after < left && left - after < 1.0, "{budget}");

    who_may_not_is_told_who_may(&house, prefix);
    for hospital in HOSPITALS {
        house.waiting(hospital, "waiting");
        assert_eq!(house.approve(hospital, prefix, "stella").json()["desk"], "acted");
    }
    assert_eq!(question.join().unwrap().json()["survivors"], json!(HOSPITALS));
    house.approve("northside", prefix, "paula").fails(3, &["decided already", "stella said yes"]);

    // The next question of the kind is shown beside the one that was approved; one no suffices.
    let question = house.ask("SELECT sex, COUNT(*) AS n FROM patients WHERE age >= 66 GROUP BY sex", "0");
    let second = house.waiting("riverbank", "waiting");
    let value = house.at("riverbank", &["node", "show", &second]).json();
    assert_eq!(value["last_approved"]["task"], json!(task));
    let different = value["last_approved"]["different"].to_string();
    assert!(different.contains("was age is at least 65; is age is at least 66"), "{different}");
    let refuse = ["node", "refuse", &second, "--why", "one year apart", "--as", &house.person("riverbank", "paula")];
    assert_eq!(house.at("riverbank", &refuse).json()["state"], "refused");
    question.join().unwrap().fails(3, &["one year apart", "outcomes/approval"]);

    evidence_is_written(&house, prefix);
    wait_for("the hub has noted who asked", || {
        let calls = run_json(Some(&house.sandbox.hub()), &["hub", "access", "--last", "1000"]).json();
        let is_asked = |call: &Value| call["who"]["name"] == "ada" && call["known"] == true && call["call"] == "submit";
        calls["access"].as_array().unwrap().iter().any(is_asked).then_some(())
    });
}

fn who_may_not_is_told_who_may(house: &House, task: &str) {
    let stranger = fresh_folder("people-stranger");
    let file = shown(&stranger.with_extension("json"));
    let init = ["person", "init", "--name", "olaf", "--role", "operator", "--out", &file];
    run_json(Some(&stranger), &init).json();
    run(Some(&stranger), &init).fails(2, &["never overwritten"]);
    let as_stranger = ["node", "approve", task, "--why", "x", "--as", &shown(&stranger)];
    house.at("northside", &as_stranger).fails(3, &["does not name olaf", "study amend"]);
    house.approve("northside", "abcd", "stella").fails(2, &["no task that begins with `abcd`"]);
    house.approve("northside", "zz", "stella").fails(2, &["is no task"]);
    let other = ["node", "approve", task, "--why", "x", "--as", &house.person("riverbank", "stella")];
    house.at("northside", &other).fails(3, &["another key or role"]);
    let unfreeze = ["node", "unfreeze", "outcomes", "--why", "x", "--as", &house.person("northside", "stella")];
    house.at("northside", &unfreeze).fails(3, &["stella is steward and cannot", "paula (privacy officer) can"]);
    let added = house.at("northside", &["node", "person", "add", &file]).json();
    assert_eq!((&added["person"], &added["role"]), (&json!("olaf"), &json!("operator")));
    let people = house.at("northside", &["node", "person", "list"]).json();
    let named: Vec<Value> = people["people"].as_array().unwrap().iter().map(|p| p["studies"].clone()).collect();
    assert_eq!(named, [json!([]), json!(["outcomes"]), json!(["outcomes"])], "olaf, paula, stella");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_dir_all(stranger).unwrap();
}

fn evidence_is_written(house: &House, task: &str) {
    house.sandbox.wait_until_quiet();
    let (log, agreement) = (house.sandbox.hub().join("log"), house.sandbox.agreement());
    audit_passes_once_quiet(&log, &agreement);
    let folder = |name: &str| -> PathBuf { house.sandbox.dir().join(name) };
    let (log, agreement, person) = (shown(&log), shown(&agreement), shown(&folder("ines")));
    let init = ["person", "init", "--name", "ines", "--role", "auditor", "--out", &shown(&folder("ines.json"))];
    run_json(Some(&folder("ines")), &init).json();
    let (out, page) = (folder("evidence"), folder("page.html"));
    let export =
        ["audit", "export", "--log", &log, "--agreement", &agreement, "--release", task, "--out", &shown(&out)];
    let steward = house.person("northside", "stella");
    run_json(None, &[&export[..], &["--as", &steward]].concat()).fails(3, &["only an auditor attests"]);
    let exported = run_json(None, &[&export[..], &["--as", &person]].concat()).json();
    assert_eq!(exported["attested_by"], "ines");
    assert!(out.join("manifest-sha512.txt").is_file() && out.join("data/ro-crate-metadata.json").is_file());
    run_json(None, &[&export[..], &["--as", &person]].concat()).fails(2, &["evidence"]);
    let report = ["audit", "report", "--log", &log, "--agreement", &agreement, "--out", &shown(&page)];
    assert_eq!(run_json(None, &report).json()["verified"], json!(true));
    assert!(std::fs::read_to_string(page).unwrap().contains("WHERE age &gt;= 65"));
}

#[test]
fn what_is_held_leaves_only_when_somebody_lets_it_out() {
    let house = House::started("hold", &["--hold"]);
    let question = house.ask(COUNT, "0");
    for hospital in HOSPITALS {
        let task = house.waiting(hospital, "waiting");
        house.approve(hospital, &task, "stella").json();
    }
    for hospital in HOSPITALS {
        let task = house.waiting(hospital, "held");
        let held = house.at(hospital, &["node", "outbox", "--held"]).json();
        assert_eq!(
            (&held["held"][0]["task"], &held["held"][0]["kind"]),
            (&json!(task), &json!("masked vector and receipt"))
        );
        let shown = run(Some(&house.sandbox.node(hospital)), &["node", "show", &task]);
        assert!(
            shown.text().contains("Held back until one of you lets it out") && shown.text().contains("node dispatch")
        );
        let dispatch = ["node", "dispatch", &task, "--as", &house.person(hospital, "paula")];
        assert_eq!(house.at(hospital, &dispatch).json()["desk"], "acted");
        assert_eq!(house.at(hospital, &["node", "outbox", "--held"]).json()["held"], json!([]));
    }
    assert_eq!(question.join().unwrap().json()["survivors"], json!(HOSPITALS));
}

#[test]
fn a_drill_stops_a_study_and_leaves_what_must_be_handed_over() {
    let house = House::started("drill", &[]);
    let drill = run_json(None, &["incident", "drill", &house.sandbox.shown()]).json();
    assert_eq!(drill["incident"], "drill-1");
    let out = PathBuf::from(drill["out"].as_str().unwrap());
    let draft = std::fs::read_to_string(out.join("notification.md")).unwrap();
    for part in ["Art. 33", "theft of a laptop", "TO BE FILLED IN", "asked ada which questions are hers"] {
        assert!(draft.contains(part), "`{part}` is not in {draft}");
    }
    let listed = house.at("northside", &["incident", "list"]).json();
    assert_eq!(
        (&listed["incidents"][0]["over"], listed["incidents"][0]["steps"].as_array().unwrap().len()),
        (&json!(true), 3)
    );
    let northside = house.person("northside", "stella");
    let open = ["incident", "open", "leak", "--study", "outcomes", "--what", "x", "--as", &northside];
    house.at("northside", &open).fails(3, &["stella is steward and cannot lead an incident", "paula"]);
    let action = ["incident", "action", "drill-1", "--what", "x", "--as", &northside];
    house.at("northside", &action).fails(2, &["is over"]);
    assert_eq!(house.at("northside", &["node", "alerts"]).json()["stopped"], json!([]));
}

#[test]
fn an_agreement_is_amended_and_then_taken_back() {
    let house = House::started("amend", &[]);
    let draft = house.sandbox.dir().join("agreement.toml");
    let text = std::fs::read_to_string(&draft).unwrap();
    let narrower = house.sandbox.dir().join("narrower.toml");
    std::fs::write(&narrower, text.replace("epsilon_per_query = 2", "epsilon_per_query = 1")).unwrap();
    let (draft, narrower) = (shown(&draft), shown(&narrower));
    assert_eq!(house.at("northside", &["study", "diff", "outcomes", &draft]).json()["changes"], json!([]));
    let changes = house.at("northside", &["study", "diff", "outcomes", &narrower]).json();
    assert_eq!(changes["changes"][0]["direction"], "narrows", "{changes}");
    let findings = house.at("northside", &["study", "check", &narrower]).json();
    let is_error = |finding: &Value| finding["severity"] == "error";
    assert!(!findings["findings"].as_array().unwrap().iter().any(is_error), "{findings}");
    let bad = house.sandbox.dir().join("bad.toml");
    std::fs::write(&bad, text.replace("epsilon_per_query = 2", "epsilon_per_query = 0.000001")).unwrap();
    let refused = house.at("northside", &["study", "amend", "outcomes", "--draft", &shown(&bad), "--yes"]);
    refused.fails(2, &["cannot be meant", "--accept-findings"]);

    let amend = ["study", "amend", "outcomes", "--draft", &narrower, "--yes"];
    let signed = house.at("northside", &amend).json();
    assert_eq!((&signed["revision"], &signed["missing"]), (&json!(2), &json!(["riverbank", "stmary"])));
    let shown_now = house.at("riverbank", &["study", "show", "outcomes"]).json();
    assert_eq!((&shown_now["agreement"]["revision"], &shown_now["amendments"][0]["revision"]), (&json!(1), &json!(2)));
    for hospital in ["riverbank", "stmary"] {
        house.at(hospital, &["study", "sign", "outcomes", "--yes"]).json();
    }
    wait_for("the node has both revisions", || {
        let shown = house.at("northside", &["study", "show", "outcomes"]).json();
        let revisions = shown["revisions"].as_array().unwrap();
        (revisions.len() == 2 && revisions[1]["in_force"] == true).then_some(())
    });

    let revoke = ["study", "revoke", "outcomes", "--why", "the ethics vote ended", "--yes"];
    let revoked = house.at("stmary", &revoke).json();
    assert_eq!(
        (&revoked["desk"], &revoked["taken_back"]),
        (&json!("acted"), &json!("the agreement of study `outcomes`"))
    );
    let text = run(Some(&house.sandbox.node("northside")), &["study", "show", "outcomes"]);
    assert!(text.text().contains("TAKEN BACK by stmary") && text.text().contains("the ethics vote ended"), "{text}");
    house.ask(COUNT, "0").join().unwrap().fails(3, &["not-revoked"]);
}
