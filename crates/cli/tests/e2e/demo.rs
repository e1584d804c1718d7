//! `cohortium demo`, on simulated hospitals and on real ones, and what it leaves behind.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::sandbox::{Estimate, HOSPITALS, Sandbox, audit, run_json, shown};

/// The probability that a normal number is farther out is 2e-9.
const FAR: f64 = 6.0;

#[test]
fn demo_runs_and_leaves_a_sandbox() {
    let sandbox = Sandbox::in_folder("demo");
    let value = run_json(None, &["demo", "--patients", "500", "--dir", &sandbox.shown()]).json();
    let compared: usize = value["questions"].as_array().unwrap().iter().map(compare_with_truth).sum();
    assert_eq!(compared, 4 * 2 + 2 * 2 + 1 + 3 * 2, "every number stands beside the truth");

    let lines: Vec<&Value> = value["budgets"].as_array().unwrap().iter().map(|line| &line[1]).collect();
    assert_eq!(lines.len(), HOSPITALS.len() * 2 * 3, "everyone, study and researcher, for both datasets everywhere");
    for line in lines {
        let (budget, left) = (line["epsilon_budget"].as_f64().unwrap(), line["epsilon_left"].as_f64().unwrap());
        assert!(0.0 < left && left < budget, "{line}");
    }
    assert!(value["left"].as_array().unwrap().iter().any(|kind| kind[1] == "masked vector and receipt"));
    assert!(value["audit"]["log"]["size"].as_u64().unwrap() > 30, "{}", value["audit"]);

    for file in [
        "sandbox.toml",
        "agreement.toml",
        "agreement.json",
        "data/stmary/patients.csv",
        "schemas/encounters.toml",
        "hub/log/checkpoint",
        "nodes/northside/store.db",
        "nodes/riverbank/datasets/patients.toml",
        "nodes/stmary/log/checkpoint",
        "researcher/keys.toml",
    ] {
        assert!(sandbox.dir().join(file).is_file(), "{file} is not there");
    }
    let rows = files_under(&sandbox.node("riverbank").join("datasets"));
    assert_eq!(rows.iter().filter(|file| file.extension().is_some_and(|of| of == "parquet")).count(), 2, "{rows:?}");
    secrets_are_for_their_owner_only(&sandbox);
    let log = sandbox.hub().join("log");
    assert_eq!(audit(&log, &sandbox.agreement()).json()["log"]["root"], value["audit"]["log"]["root"]);
    one_changed_byte_is_found(&sandbox, &log);
}

/// Every estimate of an answer lies near the exact value that the demonstration shows beside it; gives how many.
#[track_caller]
fn compare_with_truth(question: &Value) -> usize {
    let (rows, truth) = (question["answered"]["answer"]["rows"].as_array().unwrap(), &question["truth"]);
    let mut compared = 0;
    for (row, cells) in rows.iter().enumerate() {
        for (column, cell) in cells.as_array().unwrap().iter().enumerate() {
            let (Some(estimate), Some(truth)) = (Estimate::of(cell), truth[row][column].as_f64()) else { continue };
            let is_far = !estimate.is_cut() && estimate.z(truth).abs() > FAR;
            assert!(!is_far, "{}: {estimate:?}, truth {truth}", question["sql"]);
            compared += 1;
        }
    }
    compared
}

#[cfg(unix)]
fn secrets_are_for_their_owner_only(sandbox: &Sandbox) {
    use std::os::unix::fs::PermissionsExt as _;
    for file in ["hub/keys.toml", "nodes/stmary/keys.toml", "nodes/stmary/store.db", "researcher/keys.toml"] {
        let mode = std::fs::metadata(sandbox.dir().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o077, 0, "{file} has mode {mode:o}");
    }
}

#[cfg(not(unix))]
fn secrets_are_for_their_owner_only(_: &Sandbox) {}

/// A byte is changed in a copy: in every kind of file beside the checkpoint, and in the agreement.
fn one_changed_byte_is_found(sandbox: &Sandbox, log: &Path) {
    let mut kinds: BTreeMap<String, PathBuf> = BTreeMap::new();
    for file in files_under(log) {
        let name = shown(file.strip_prefix(log).unwrap());
        let kind: Vec<&str> = name.split('/').take(if name.starts_with("tile") { 2 } else { 1 }).collect();
        kinds.insert(kind.join("/"), file.clone());
    }
    for kind in ["body", "checkpoint", "tile/0", "tile/entries"] {
        assert!(kinds.contains_key(kind), "the log has no {kind}: {kinds:?}");
    }
    for (kind, file) in &kinds {
        let name = shown(file.strip_prefix(log).unwrap());
        let copy = sandbox.dir().join("copies").join(kind.replace('/', "-"));
        copy_folder(log, &copy);
        flip_a_byte(&copy.join(&name));
        let said = audit(&copy, &sandbox.agreement());
        said.fails(6, &["not_verified"]);
        let names_it = said.err.contains(&name) || said.err.contains("entry ") || said.err.contains(kind.as_str());
        assert!(names_it, "the audit does not say that it is {name}: {said}");
    }
    let agreement = sandbox.dir().join("copies").join("agreement.json");
    let mut envelope: Value = serde_json::from_slice(&std::fs::read(sandbox.agreement()).unwrap()).unwrap();
    let payload = envelope["payload"].as_str().unwrap().to_owned();
    let (head, tail) = payload.split_at(80);
    let other = if tail.starts_with('A') { "B" } else { "A" };
    envelope["payload"] = Value::String(format!("{head}{other}{}", tail.split_at(1).1));
    std::fs::write(&agreement, envelope.to_string()).unwrap();
    audit(log, &agreement).fails(6, &["agreement"]);
    std::fs::write(&agreement, "{}").unwrap();
    audit(log, &agreement).fails(6, &["no signed agreement"]);
}

/// In the middle of the file, so that no length and no heading changes.
fn flip_a_byte(file: &Path) {
    let mut bytes = std::fs::read(file).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(file, bytes).unwrap();
}

fn files_under(dir: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_under(&path)) } else { files.push(path) }
    }
    files.sort();
    files
}

fn copy_folder(from: &Path, to: &Path) {
    for file in files_under(from) {
        let target = to.join(file.strip_prefix(from).unwrap());
        std::fs::create_dir_all(target.parent().unwrap()).unwrap();
        std::fs::copy(&file, target).unwrap();
    }
}

/// One patient of the four heart-disease files, as far as the example's questions go.
struct Patient {
    age: f64,
    sex: f64,
    chol: Option<f64>,
    disease: f64,
}

#[test]
fn real_hospitals() {
    let folder = std::env::var_os("COHORTIUM_TEST_DATA").map(|data| PathBuf::from(data).join("heart_disease"));
    let Some(folder) = folder.filter(|folder| folder.is_dir()) else {
        println!("skipped: COHORTIUM_TEST_DATA names no folder with heart_disease/, the UCI files of four hospitals");
        return;
    };
    let patients: Vec<Patient> = files_under(&folder).iter().flat_map(|file| read_patients(file)).collect();
    let sandbox = Sandbox::in_folder("real-hospitals");
    let schema = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/heart-disease.toml");
    let (data, schema, dir) = (shown(&folder), shown(&schema), sandbox.shown());
    let value = run_json(None, &["demo", "--data", &data, "--schema", &schema, "--dir", &dir]).json();
    let questions = value["questions"].as_array().unwrap();
    assert_eq!(questions.len(), 2);

    let all = |_: &Patient| true;
    let has_cholesterol = |patient: &Patient| patient.chol.is_some_and(|chol| chol > 0.0);
    let cholesterol = |patient: &Patient| patient.chol.unwrap().clamp(80.0, 600.0);
    near(&questions[0], "patients", |sex| count(&patients, sex, all));
    near(&questions[0], "mean_age", |sex| mean(&patients, sex, all, |patient| patient.age.clamp(20.0, 100.0)));
    near(&questions[0], "share_with_disease", |sex| mean(&patients, sex, all, |patient| patient.disease.min(1.0)));
    near(&questions[1], "recorded", |sex| count(&patients, sex, has_cholesterol));
    near(&questions[1], "mean_cholesterol", |sex| mean(&patients, sex, has_cholesterol, cholesterol));
    println!("ran on the four real hospitals: {} patients", patients.len());
}

/// No headings, fourteen columns, `?` where nothing was recorded.
fn read_patients(file: &Path) -> Vec<Patient> {
    let text = std::fs::read_to_string(file).unwrap();
    let rows = text.lines().filter(|line| !line.trim().is_empty()).map(|line| {
        let cells: Vec<Option<f64>> = line.split(',').map(|cell| cell.trim().parse().ok()).collect();
        assert_eq!(cells.len(), 14);
        Patient { age: cells[0].unwrap(), sex: cells[1].unwrap(), chol: cells[4], disease: cells[13].unwrap() }
    });
    rows.collect()
}

fn count(patients: &[Patient], sex: f64, counts: impl Fn(&Patient) -> bool) -> f64 {
    patients.iter().filter(|patient| patient.sex == sex && counts(patient)).count() as f64
}

fn mean(patients: &[Patient], sex: f64, counts: impl Fn(&Patient) -> bool, of: impl Fn(&Patient) -> f64) -> f64 {
    let values: Vec<f64> = patients.iter().filter(|patient| patient.sex == sex && counts(patient)).map(of).collect();
    values.iter().sum::<f64>() / values.len() as f64
}

/// The column's estimates for both sexes lie near this test's own truth, and so does the demonstration's.
#[track_caller]
fn near(question: &Value, column: &str, truth: impl Fn(f64) -> f64) {
    let answer = &question["answered"]["answer"];
    let at = answer["columns"].as_array().unwrap().iter().position(|heading| heading == column).unwrap();
    let rows = answer["rows"].as_array().unwrap();
    assert_eq!(rows.len(), 2, "one row for each sex");
    for (row, cells) in rows.iter().enumerate() {
        let sex = [0.0, 1.0].into_iter().find(|sex| cells[0] == json!({"key": {"number": sex.to_string()}})).unwrap();
        let (estimate, truth) = (Estimate::of(&cells[at]).unwrap(), truth(sex));
        let shown = question["truth"][row][at].as_f64().unwrap();
        assert!((shown - truth).abs() < 1e-6, "{column}: the demonstration says {shown}, the files say {truth}");
        assert!(estimate.z(truth).abs() <= FAR, "{column} for sex {sex}: {estimate:?}, truth {truth}");
    }
}
