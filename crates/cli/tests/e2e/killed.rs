//! Hub and nodes are killed in the middle of questions, again and again, and started again.
//!
//! What must hold: a run that may have read rows stands in the account; nothing is charged twice; the question is
//! answered or void, and an answer is right; everyone goes on; the log passes the audit.

use std::thread::{self, JoinHandle};
use std::time::Duration;

use cohortium_messages::Hash;
use cohortium_node::home::Home;
use cohortium_node::view::View;
use serde_json::Value;

use crate::sandbox::{Estimate, HOSPITALS, PATIENTS, Said, Sandbox, audit_passes_once_quiet, run_json, wait_for};

/// When to kill.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// As soon as the node's store shows the new run in this state, or beyond.
    Seen(&'static str),
    /// So long after the question was put.
    After { delay_ms: u64 },
}

/// The states of a run in their order.
const STATES: [&str; 6] = ["permitted", "reading", "masked", "signed", "revealed", "released"];

const MOMENTS: [Moment; 12] = [
    Moment::Seen("permitted"),
    Moment::Seen("reading"),
    Moment::Seen("masked"),
    Moment::Seen("signed"),
    Moment::Seen("reading"),
    Moment::Seen("revealed"),
    Moment::Seen("reading"),
    Moment::After { delay_ms: 0 },
    Moment::After { delay_ms: 100 },
    Moment::After { delay_ms: 200 },
    Moment::After { delay_ms: 400 },
    Moment::After { delay_ms: 800 },
];

/// A hub that is away, or does not show a study, keeps no custodian from taking it back at home.
#[test]
fn repro_what_is_taken_back_at_home_needs_no_hub() {
    let mut sandbox = Sandbox::started("revoked-alone");
    sandbox.ask("SELECT COUNT(*) FROM patients", &[]).json();
    sandbox.kill("hub");
    let revoke = ["study", "revoke", "outcomes", "--why", "the ethics vote ended", "--yes"];
    let revoked = run_json(Some(&sandbox.node(HOSPITALS[0])), &revoke).json();
    assert_eq!(revoked["desk"], "acted");
    assert!(revoked["hub"].as_str().unwrap().contains("does not know yet"), "{revoked}");
}

#[test]
fn a_node_killed_at_any_step_charges_what_it_read_and_goes_on() {
    let mut sandbox = Sandbox::started("killed-node");
    let (mut answers, mut caught) = (0, Vec::new());
    for (number, moment) in MOMENTS.into_iter().enumerate() {
        let node = HOSPITALS[number % HOSPITALS.len()];
        let known = sandbox.runs(node);
        let question = put_question(&sandbox, number);
        wait_until(moment, &sandbox, node, &known, &question);
        sandbox.kill(node);
        let state = state_of_new_run(&sandbox, node, &known);
        account_agrees_with_runs(&sandbox, node);
        sandbox.start_again(node);
        answers += is_right_or_void(&question.join().unwrap());
        caught.push((moment, state));
    }
    println!("killed at: {caught:?}; {answers} of {} questions were answered", MOMENTS.len());
    let in_a_round = |state: &Option<String>| state.as_ref().is_some_and(|state| state != "released");
    assert!(caught.iter().any(|(_, state)| in_a_round(state)), "no kill fell into a round: {caught:?}");
    all_is_well_in_the_end(&sandbox, answers);
}

#[test]
fn a_hub_killed_at_any_step_loses_no_question() {
    let mut sandbox = Sandbox::started("killed-hub");
    let delays_ms = [0, 50, 100, 200, 300, 400, 600, 900, 1300];
    for (number, delay_ms) in delays_ms.into_iter().enumerate() {
        let question = put_question(&sandbox, number);
        thread::sleep(Duration::from_millis(delay_ms));
        sandbox.kill("hub");
        sandbox.start_again("hub");
        let said = question.join().unwrap();
        assert!(matches!(said.code, Some(0 | 4 | 5)), "{said}");
        // Whoever asks again has the answer: of the first task, or of a second one.
        let said = wait_for("the question is answered", || {
            let said = ask(&sandbox, number);
            assert!(matches!(said.code, Some(0 | 4 | 5)), "{said}");
            (said.code == Some(0)).then_some(said)
        });
        assert_eq!(is_right_or_void(&said), 1);
    }
    all_is_well_in_the_end(&sandbox, delays_ms.len());
}

fn ask(sandbox: &Sandbox, number: usize) -> Said {
    ask_from(&sandbox.researcher(), number)
}

fn ask_from(researcher: &std::path::Path, number: usize) -> Said {
    let sql = "SELECT COUNT(*) FROM patients";
    let draw = number.to_string();
    run_json(Some(researcher), &["query", sql, "--study", "outcomes", "--epsilon", "0.2", "--draw", &draw])
}

/// Asks in another thread.
fn put_question(sandbox: &Sandbox, number: usize) -> JoinHandle<Said> {
    let researcher = sandbox.researcher();
    thread::spawn(move || ask_from(&researcher, number))
}

/// Waits for the moment; a question that is answered meanwhile has none any more. The store is looked into from here,
/// because a command that does it takes longer than a node takes to read.
fn wait_until(moment: Moment, sandbox: &Sandbox, node: &str, known: &[Value], question: &JoinHandle<Said>) {
    let wanted = match moment {
        Moment::After { delay_ms } => return thread::sleep(Duration::from_millis(delay_ms)),
        Moment::Seen(state) => STATES.iter().position(|known| *known == state),
    };
    let view = View::open(&Home::new(sandbox.node(node))).unwrap();
    let is_new = |task: &Hash| known.iter().all(|known| known["task"] != task.to_string());
    while !question.is_finished() {
        let runs = view.runs().unwrap();
        let seen = runs.iter().find(|(task, _)| is_new(task)).map(|(_, run)| run.state.to_string());
        if seen.is_some_and(|seen| STATES.iter().position(|state| *state == seen) >= wanted) {
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// The state of the run at a node that is not among those known.
fn state_of_new_run(sandbox: &Sandbox, node: &str, known: &[Value]) -> Option<String> {
    let is_new = |run: &&Value| known.iter().all(|known| known["task"] != run["task"]);
    sandbox.runs(node).iter().find(is_new).map(|run| run["state"].as_str().unwrap().to_owned())
}

/// An answer must be right, for which it gets 1; a void question must be said to be one.
#[track_caller]
fn is_right_or_void(said: &Said) -> usize {
    if said.code == Some(4) {
        assert!(said.err.contains("the task expired") || said.err.contains("the task failed"), "{said}");
        return 0;
    }
    let estimate = Estimate::of(&said.json()["answer"]["rows"][0][0]).unwrap();
    assert!(estimate.z(f64::from(3 * PATIENTS.0)).abs() <= 6.0, "{estimate:?}");
    1
}

/// The account of a node that stands still has exactly the entries that its runs call for: whatever may have read rows
/// is charged, whatever is charged belongs to a run. Opening it checks its chain.
#[track_caller]
fn account_agrees_with_runs(sandbox: &Sandbox, node: &str) -> u64 {
    let (mut least, mut most) = (0, 0);
    for run in &sandbox.runs(node) {
        let (low, high) = match run["state"].as_str().unwrap() {
            "refused" => (0, 0),
            "permitted" => (1, 1),                                   // reserved
            "reading" => (2, 2),                                     // reserved, reading
            "masked" | "signed" | "revealed" | "released" => (3, 3), // reserved, reading, spent
            "void" => (2, 3),                                        // refunded before reading, or spent after
            state => panic!("no such state: {state}"),
        };
        (least, most) = (least + low, most + high);
    }
    let entries = sandbox.accounts(node, "patients")[0]["entries"].as_u64().unwrap();
    assert!((least..=most).contains(&entries), "{node}: {entries} entries for {:?}", sandbox.runs(node));
    entries
}

#[track_caller]
fn all_is_well_in_the_end(sandbox: &Sandbox, answers: usize) {
    sandbox.wait_until_quiet();
    sandbox.all_are_alive();
    for node in HOSPITALS {
        assert_eq!(run_json(Some(&sandbox.node(node)), &["node", "tasks"]).json()["halted"], Value::Null);
        let released = sandbox.runs(node).iter().filter(|run| run["state"] == "released").count();
        assert!(released >= answers, "{node} took part in {released} of {answers} answers");
        assert!(account_agrees_with_runs(sandbox, node) >= 3 * answers as u64);
    }
    let report = audit_passes_once_quiet(&sandbox.hub().join("log"), &sandbox.agreement());
    assert!(report["log"]["size"].as_u64().unwrap() >= 8 * answers as u64, "task, permits, prices and release of each");
}
