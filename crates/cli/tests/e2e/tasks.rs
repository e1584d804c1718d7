//! `task list` and `task show`: what is said while somebody is missing, afterwards, and to whom.

use std::thread;

use serde_json::{Value, json};

use crate::sandbox::{HOSPITALS, Sandbox, fresh_folder, run, run_json, shown, wait_for};

#[test]
fn a_task_says_whom_it_waits_for_and_a_question_outlives_the_hub() {
    let mut sandbox = Sandbox::started("tasks");
    let researcher = sandbox.researcher();
    assert_eq!(run_json(Some(&researcher), &["task", "list"]).json(), json!({"tasks": []}));
    sandbox.kill("stmary");
    let question = {
        let researcher = sandbox.researcher();
        let sql = "SELECT COUNT(*) FROM patients";
        thread::spawn(move || run_json(Some(&researcher), &["query", sql, "--study", "outcomes", "--epsilon", "0.2"]))
    };
    let task = wait_for("the task is listed", || {
        let listed = run_json(Some(&researcher), &["task", "list"]).json();
        listed["tasks"].as_array().unwrap().first().map(|task| task["task"].as_str().unwrap().to_owned())
    });
    let first_digits = task.get(..8).unwrap();

    // Everyone but the one that is missing cosigns.
    let status = wait_for("two have cosigned", || {
        let status = run_json(Some(&researcher), &["task", "show", first_digits]).json();
        (status["awaited"] == json!(["stmary"])).then_some(status)
    });
    assert_eq!((&status["phase"], &status["state"]), (&json!("witnesses"), &json!("proposed")));
    assert!(status["remaining_s"].as_u64().unwrap() <= 60 && status["deadline"].is_string());
    assert_eq!(status["task"], json!(task));
    assert_eq!(done(&status), [vec!["witnesses"], vec!["witnesses"], vec![]]);
    let said = run(Some(&researcher), &["task", "show", first_digits]);
    for part in ["step 1 of 5", "waits for  stmary, for", "SELECT COUNT(*) FROM patients", "by ada in study outcomes"] {
        assert!(said.text().contains(part), "`{part}` is not said: {said}");
    }

    // The hub goes away and comes back; then the member does. The question has waited all the while.
    sandbox.kill("hub");
    run(Some(&researcher), &["task", "show", &task]).fails(5, &["cannot be reached"]);
    run(None, &["sandbox", "start", &sandbox.shown()])
        .fails(2, &["hub, stmary are down", "sandbox stop", "then start"]);
    sandbox.start_again("hub");
    sandbox.start_again("stmary");
    assert_eq!(question.join().unwrap().json()["survivors"], json!(HOSPITALS));

    let status = run_json(Some(&researcher), &["task", "show", &task]).json();
    assert_eq!((&status["phase"], &status["state"]), (&json!("ended"), &json!("released")));
    assert_eq!(
        (&status["survivors"], &status["awaited"], &status["node"]),
        (&json!(HOSPITALS), &json!([]), &json!(null))
    );
    let all = vec!["witnesses", "permits", "vectors", "signatures", "reveals"];
    assert_eq!(done(&status), [all.clone(), all.clone(), all]);

    // A node sees its own side, also when the hub is gone.
    sandbox.wait_until_quiet();
    let northside = sandbox.node("northside");
    let status = run_json(Some(&northside), &["task", "show", first_digits]).json();
    assert_eq!((&status["node"]["state"], &status["node"]["unsent"]), (&json!("released"), &json!([])));
    sandbox.kill("hub");
    let said = run(Some(&northside), &["task", "show", first_digits]);
    said.fails(5, &["cannot be reached"]);
    assert!(said.out.contains("At this node (northside)") && said.out.contains("charged"), "{said}");
}

/// The steps that each hospital has done.
fn done(status: &Value) -> Vec<Vec<&str>> {
    let members = status["members"].as_array().unwrap();
    assert!(members.iter().map(|member| member["member"].as_str().unwrap()).eq(HOSPITALS));
    members
        .iter()
        .map(|member| member["done"].as_array().unwrap().iter().map(|step| step.as_str().unwrap()).collect())
        .collect()
}

#[test]
fn what_is_no_task_is_said_so() {
    let sandbox = Sandbox::started("no-task");
    let researcher = sandbox.researcher();
    for (text, code, part) in [
        ("abc", 2, "4 to 64 digits"),
        ("ABCD", 2, "4 to 64 digits"),
        ("xyz1", 2, "4 to 64 digits"),
        ("abcd", 2, "none of the newest"),
        (&"0".repeat(64), 3, "there is no task"),
        (&"0".repeat(65), 2, "4 to 64 digits"),
    ] {
        run(Some(&researcher), &["task", "show", text]).fails(code, &[part]);
    }
}

/// Commands of a node ended with code 1, as if our own files were damaged, wherever there was no node.
#[test]
fn repro_commands_of_a_node_say_where_they_belong() {
    let sandbox = Sandbox::made("no-node");
    let empty = fresh_folder("empty");
    std::fs::create_dir(&empty).unwrap();
    let csv = shown(&sandbox.dir().join("data"));
    let commands: [&[&str]; 6] = [
        &["node", "tasks"],
        &["node", "outbox"],
        &["node", "start"],
        &["node", "dataset", "add", "more", &csv, "--schema", &csv],
        &["account", "show"],
        &["task", "list"],
    ];
    for arguments in commands {
        for (home, parts) in [
            (sandbox.hub(), ["is the home of a hub", "give the home of a node"]),
            (empty.clone(), ["is no home of a node", "node init"]),
            (sandbox.researcher(), ["the home of the researcher ada", "an organisation's with --home"]),
        ] {
            if arguments == ["task", "list"] && home == sandbox.researcher() {
                continue;
            }
            run(Some(&home), arguments).fails(2, &parts);
        }
    }
    // A node that never ran has nothing to show yet.
    let home = sandbox.node("northside");
    std::fs::remove_file(home.join("store.db")).unwrap();
    for arguments in [&["node", "tasks"], &["node", "outbox"], &["account", "show"]] {
        run(Some(&home), arguments).fails(4, &["has never run", "node start"]);
    }
    std::fs::remove_dir_all(&empty).unwrap();
}
