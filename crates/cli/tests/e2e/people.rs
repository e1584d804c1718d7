//! People decide: what a steward sees, yes and no, who may not, what is held back, what stops, what is written down.

use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use crate::sandbox::{
    HOSPITALS, Said, Sandbox, audit_passes_once_quiet, command, fresh_folder, run, run_json, shown, wait_for,
};

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
        "takes now",
        "New here: the first count that anybody asks in this study for purpose HMB.",
        "No other member had permitted this very plan",
        "Each person counts once. A group whose noisy count is below 10 is not shown.",
        "Still to say: paula (privacy officer) or stella (steward)",
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
    wait_for("northside heard of the answer", || {
        let said = run(Some(&house.sandbox.node("northside")), &["node", "show", prefix]);
        said.text().contains("Nothing to do: the answer is out").then_some(())
    });
    house.approve("northside", prefix, "paula").fails(3, &["is over: the answer is out", "stella said yes"]);

    // The next question of the kind is shown beside the one that was approved; one no suffices.
    let question = house.ask("SELECT sex, COUNT(*) AS n FROM patients WHERE age >= 66 GROUP BY sex", "0");
    let second = house.waiting("riverbank", "waiting");
    let value = house.at("riverbank", &["node", "show", &second]).json();
    assert_eq!(value["last_approved"]["task"], json!(task));
    let different = value["last_approved"]["different"].to_string();
    assert!(different.contains("was age is at least 65; is age is at least 66"), "{different}");
    let refuse = ["node", "refuse", &second, "--why", "one year apart", "--as", &house.person("riverbank", "paula")];
    assert_eq!(house.at("riverbank", &refuse).json()["state"], "refused");
    let no = "paula, privacy officer of riverbank, said no: one year apart";
    question.join().unwrap().fails(3, &[no, "outcomes/approval"]);

    what_was_refused_before_is_said(&house, &second);
    who_stops_waiting_is_told_where_the_question_is(&house);
    evidence_is_written(&house, prefix);
    wait_for("the hub has noted who asked", || {
        let calls = run_json(Some(&house.sandbox.hub()), &["hub", "access", "--last", "1000"]).json();
        let is_asked = |call: &Value| call["who"]["name"] == "ada" && call["known"] == true && call["call"] == "submit";
        calls["access"].as_array().unwrap().iter().any(is_asked).then_some(())
    });
}

/// The same question, refused at riverbank a moment ago, is asked again, twice; then the study stands still.
fn what_was_refused_before_is_said(house: &House, refused: &str) {
    let sql = "SELECT sex, COUNT(*) AS n FROM patients WHERE age >= 66 GROUP BY sex";
    let first = house.ask(sql, "0");
    house.waiting("riverbank", "waiting");
    let again = [first, house.ask(sql, "1")];
    let both = |hospital: &str| {
        wait_for("both wait", || {
            let tasks = house.at(hospital, &["node", "tasks"]).json();
            let waiting = tasks["tasks"].as_array().unwrap().iter().filter(|task| task["state"] == "waiting");
            let waiting: Vec<String> = waiting.map(|task| task["task"].as_str().unwrap().to_owned()).collect();
            (waiting.len() == 2).then_some(waiting)
        })
    };
    let refused = refused.get(..12).unwrap();
    for (hospital, by) in [("riverbank", "by paula of riverbank"), ("stmary", "by paula, privacy officer of riverbank")]
    {
        let waiting = both(hospital);
        let show = |task: &str| run(Some(&house.sandbox.node(hospital)), &["node", "show", task]);
        let text = show(&waiting[0]);
        for part in [
            &format!("REFUSED BEFORE, asked again unchanged: task {refused} {by}"),
            "“one year apart”",
            &format!("also waits as task {}", waiting[1].get(..12).unwrap()),
            "WATCH OUT: almost the same question as task",
            "answered): one condition on the same columns is another",
        ] {
            let said = text.text().split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(said.contains(part), "`{part}` is not said: {text}");
        }
        assert!(show(&waiting[1]).text().contains("REFUSED BEFORE"), "{hospital}");
    }
    let stmary = house.person("stmary", "paula");
    let freeze = |verb: &'static str, why: &'static str| {
        run(Some(&house.sandbox.node("stmary")), &["node", verb, "outcomes", "--why", why, "--as", &stmary])
    };
    assert!(freeze("freeze", "for a look").text().contains("The hub knows"));
    assert!(freeze("freeze", "once more").text().contains("It stood still before: paula of stmary: for a look on"));
    let task = both("stmary").remove(0);
    let shown = house.at("stmary", &["node", "show", &task]).json();
    assert!(shown["stopped"].as_str().unwrap().starts_with("paula of stmary: for a look on"), "{shown}");
    let commands = shown["commands"].to_string();
    assert!(!commands.contains("node approve") && commands.contains("node unfreeze outcomes"), "{commands}");
    let yes = house.approve("stmary", &task, "stella");
    yes.fails(3, &["The study is stopped here", "node unfreeze outcomes", "Nothing was signed; the task can wait"]);
    freeze("unfreeze", "looked at it").text();
    assert!(!house.at("stmary", &["node", "show", &task]).json()["commands"].to_string().contains("unfreeze"));
    let access = house.at("stmary", &["node", "access"]).json();
    assert!(access["access"].as_array().unwrap().iter().any(|record| record["what"] == "unfreeze at the desk"));
    for task in both("stmary") {
        let refuse = ["node", "refuse", &task, "--why", "asked before", "--as", &stmary];
        assert!(run(Some(&house.sandbox.node("stmary")), &refuse).text().contains("It is over, for all members"));
    }
    for question in again {
        question.join().unwrap().fails(3, &["paula, privacy officer of stmary, said no: asked before"]);
    }
}

fn who_stops_waiting_is_told_where_the_question_is(house: &House) {
    wait_for("northside has heard that all tasks so far are over", || {
        let tasks = house.at("northside", &["node", "tasks"]).json();
        let waiting = tasks["tasks"].as_array().unwrap().iter().any(|task| task["state"] == "waiting");
        (!waiting).then_some(())
    });
    let ask = ["query", "SELECT AVG(age) FROM patients", "--study", "outcomes"];
    let mut waits = command(Some(&house.sandbox.researcher()), &ask);
    let waits = waits.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let task = house.waiting("northside", "waiting");
    // The hub tells the one who asks a moment after it tells the node.
    thread::sleep(Duration::from_secs(1));
    let interrupted = Command::new("kill").args(["-INT", &waits.id().to_string()]).status().unwrap();
    assert!(interrupted.success());
    let said = waits.wait_with_output().unwrap();
    let (code, text) = (said.status.code(), String::from_utf8_lossy(&said.stderr).into_owned());
    let prefix = task.get(..12).unwrap();
    assert_eq!(code, Some(4), "{text}");
    for part in
        [format!("the question stands, as task {prefix}"), format!("task show {prefix}"), "people are asked".to_owned()]
    {
        assert!(text.contains(&part), "`{part}` is not said: {text}");
    }
    let stella = house.person("northside", "stella");
    let refuse = ["node", "refuse", &task, "--why", "nobody waits", "--as", &stella];
    house.at("northside", &refuse).json();
}

fn who_may_not_is_told_who_may(house: &House, task: &str) {
    let stranger = fresh_folder("people-stranger");
    let file = shown(&stranger.with_extension("json"));
    let init = ["person", "init", "--name", "olaf", "--role", "operator", "--out", &file];
    run_json(Some(&stranger), &init).json();
    run(Some(&stranger), &init).fails(2, &["never overwritten"]);
    let as_stranger = ["node", "approve", task, "--why", "for a test", "--as", &shown(&stranger)];
    house.at("northside", &as_stranger).fails(3, &["does not name olaf", "study amend"]);
    house.approve("northside", "abcd", "stella").fails(2, &["no task that begins with `abcd`"]);
    house.approve("northside", "zz", "stella").fails(2, &["is no task"]);
    let other = ["node", "approve", task, "--why", "for a test", "--as", &house.person("riverbank", "stella")];
    house.at("northside", &other).fails(3, &["that folder's key is stella of riverbank", "somebody of northside"]);
    let homes = [
        (house.sandbox.researcher(), "the researcher ada, who asks. Who asks cannot decide"),
        (house.sandbox.node("northside"), "the home of the node of northside"),
    ];
    for (home, part) in homes {
        let as_home = ["node", "approve", task, "--why", "for a test", "--as", &shown(&home)];
        house.at("northside", &as_home).fails(2, &[part]);
    }
    let blank = ["node", "approve", task, "--why", " \u{a0} ", "--as", &house.person("northside", "stella")];
    house.at("northside", &blank).fails(2, &["a reason of at least 3 characters is needed: the log keeps it"]);
    let unfreeze =
        ["node", "unfreeze", "outcomes", "--why", "for a test", "--as", &house.person("northside", "stella")];
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
        let person = house.person(hospital, "paula");
        let refuse = ["node", "refuse", &task, "--why", "for a test", "--as", &person];
        house.at(hospital, &refuse).fails(3, &["nothing needs to be refused", "not letting it out is the no"]);
        let said = shown.text().split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains("there is no answer at all"), "all three are needed: {shown}");
        let listed = run(Some(&house.sandbox.node(hospital)), &["node", "tasks"]);
        assert!(listed.text().starts_with("1 task held back until somebody here lets it out"), "{listed}");
        let dispatch = ["node", "dispatch", &task, "--as", &person];
        assert_eq!(house.at(hospital, &dispatch).json()["desk"], "acted");
        assert_eq!(house.at(hospital, &["node", "outbox", "--held"]).json()["held"], json!([]));
    }
    assert_eq!(question.join().unwrap().json()["survivors"], json!(HOSPITALS));
    what_lies_on_the_desk_of_a_node_that_is_away_is_shown(&house);
}

/// The last task is over; its study is stopped by a word that nobody can hear yet, and by one that is no entry.
fn what_lies_on_the_desk_of_a_node_that_is_away_is_shown(house: &House) {
    let node = house.sandbox.node("stmary");
    let refused = node.join("desk/refused");
    std::fs::write(node.join("desk/zero.json"), "{}").unwrap();
    wait_for("the node puts it aside", || refused.join("zero.json").exists().then_some(()));
    let listed = run(Some(&node), &["node", "tasks"]);
    for part in ["Said at the desk and not acted on", "zero.json is no entry", &format!("rm {}/*", shown(&refused))] {
        assert!(listed.text().contains(part), "`{part}` is not said: {listed}");
    }
    let task = house.at("stmary", &["node", "tasks"]).json()["tasks"][0]["task"].as_str().unwrap().to_owned();
    run_json(None, &["sandbox", "stop", &house.sandbox.shown()]).json();
    let freeze = ["node", "freeze", "outcomes", "--why", "nobody hears", "--as", &house.person("stmary", "paula")];
    assert_eq!(house.at("stmary", &freeze).json()["desk"], "waits");
    let text = run(Some(&node), &["node", "show", &task]);
    let waits = "Signed, and not looked at by the node yet (is it running?): paula of stmary on ";
    assert!(text.text().starts_with(waits) && text.text().contains(": stop study outcomes: nobody hears"), "{text}");
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
    let open = ["incident", "open", "leak", "--study", "outcomes", "--what", "for a test", "--as", &northside];
    house.at("northside", &open).fails(3, &["stella is steward and cannot lead an incident", "paula"]);
    let action = ["incident", "action", "drill-1", "--what", "for a test", "--as", &northside];
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
    assert!(text.text().starts_with("TAKEN BACK by stmary") && text.text().contains("the ethics vote ended"), "{text}");
    assert!(!text.text().contains("): in force."), "{text}");
    house.ask(COUNT, "0").join().unwrap().fails(3, &["not-revoked"]);
}
