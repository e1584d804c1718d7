//! `cohortium dp`: the numbers of people who compute them with other software, and files that make no sense.

use std::path::{Path, PathBuf};

use crate::sandbox::{run, run_json, shown};

fn folder(name: &str) -> PathBuf {
    let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("calculator-{name}-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

const SCHEDULE: &str = r#"{"id": "training", "mechanism": "poisson_gaussian", "composition": 1000, "delta": 1e-5,
    "params": {"q": 0.01, "noise_multiplier": 1.0}, "neighboring": "ADD_OR_REMOVE_ONE", "discretization": 1e-4}"#;

/// dp-accounting 0.6.0 says 1.82824 for the schedule and 4.377178 for one Gaussian of σ = 1 at δ = 1e-5.
#[test]
fn rows_are_answered_with_their_method() {
    let dir = folder("rows");
    let file = dir.join("rows.json");
    let gaussian = r#"{"id": "once", "mechanism": "gaussian", "params": {"noise_multiplier": 1.0}, "delta": 1e-5}"#;
    std::fs::write(&file, format!("[{SCHEDULE}, {gaussian}]")).unwrap();
    let said = run_json(None, &["dp", "epsilon", &shown(&file)]).json();
    let row = |index: usize, field: &str| said["rows"][index][field].clone();
    assert!((row(0, "epsilon").as_f64().unwrap() - 1.828_24).abs() < 2e-4, "{said}");
    assert!((row(1, "epsilon").as_f64().unwrap() - 4.377_178).abs() < 1e-6, "{said}");
    assert_eq!((row(0, "id"), row(0, "method")), ("training".into(), "privacy-loss distribution".into()));
    assert_eq!(row(1, "method"), "analytic Gaussian");

    let said = run_json(None, &["dp", "delta", &shown(&file), "--epsilon", "4.377178", "--row", "once"]).json();
    assert!((said["rows"][0]["delta"].as_f64().unwrap() - 1e-5).abs() < 1e-9, "{said}");
    let said =
        run_json(None, &["dp", "sigma", &shown(&file), "--epsilon", "1", "--delta", "1e-6", "--row", "once"]).json();
    let noise = said["rows"][0]["noise"].as_f64().unwrap();
    assert!((4.224_678..4.224_690).contains(&noise), "σ for ε = 1, δ = 1e-6 is 4.224679 (Balle, Wang 2018): {said}");
}

#[test]
fn a_curve_falls_and_is_drawn() {
    let dir = folder("curve");
    let (file, svg) = (dir.join("row.json"), dir.join("curve.svg"));
    std::fs::write(&file, SCHEDULE).unwrap();
    let said = run_json(None, &["dp", "curve", &shown(&file), "--points", "20", "--svg", &shown(&svg)]).json();
    let deltas: Vec<f64> =
        said["rows"][0]["profile"].as_array().unwrap().iter().map(|point| point["delta"].as_f64().unwrap()).collect();
    assert_eq!(deltas.len(), 20);
    assert!(deltas.array_windows().all(|[more, less]| more >= less), "{deltas:?}");
    let picture = std::fs::read_to_string(&svg).unwrap();
    assert!(picture.starts_with("<svg") && picture.trim_end().ends_with("</svg>") && picture.contains("training"));
}

/// What is wrong, the file, and what must be said. One line, exit code 2.
#[test]
fn what_makes_no_sense_is_one_line() {
    let row = |mechanism: &str, params: &str, rest: &str| {
        format!(r#"{{"mechanism": "{mechanism}", "params": {params}, "neighboring": "ADD_OR_REMOVE_ONE"{rest}}}"#)
    };
    let cases = [
        ("no noise", row("gaussian", r#"{"noise_multiplier": 0}"#, r#", "delta": 1e-5"#), "noise_multiplier = 0"),
        ("q", row("poisson_gaussian", r#"{"q": 2, "noise_multiplier": 1}"#, r#", "delta": 1e-5"#), "q = 2"),
        ("δ of zero", row("laplace", r#"{"noise_multiplier": 1}"#, r#", "delta": 0"#), "delta = 0"),
        ("negative δ", row("laplace", r#"{"noise_multiplier": 1}"#, r#", "delta": -1e-5"#), "delta = -1e-5"),
        ("no δ", row("laplace", r#"{"noise_multiplier": 1}"#, ""), "--delta"),
        ("unknown mechanism", row("magic", "{}", r#", "delta": 1e-5"#), "\"magic\" is none of gaussian"),
        ("unknown parameter", row("gaussian", r#"{"sigma": 1}"#, r#", "delta": 1e-5"#), "sigma"),
        (
            "a billion compositions",
            row("laplace", r#"{"noise_multiplier": 1}"#, r#", "delta": 1e-5, "composition": 1000000000"#),
            "too many cells",
        ),
        ("not a number", row("gaussian", r#"{"noise_multiplier": NaN}"#, ""), "not JSON"),
        ("beyond numbers", row("gaussian", r#"{"noise_multiplier": 1e400}"#, ""), "not JSON"),
        ("nothing", String::new(), "not JSON"),
        ("no rows", "[]".to_owned(), "has no rows"),
        ("deep nesting", "[".repeat(100_000), "not JSON"),
        ("a huge file", " ".repeat((16 << 20) + 1), "longer than 16 MiB"),
    ];
    let file = folder("wrong").join("row.json");
    for (wrong, text, part) in cases {
        std::fs::write(&file, text).unwrap();
        let said = run(None, &["dp", "epsilon", &shown(&file)]);
        said.fails(2, &[part]);
        assert_eq!(said.err.trim_end().lines().count(), 1, "{wrong}: {}", said.err);
    }
    std::fs::write(&file, SCHEDULE).unwrap();
    for (arguments, part) in [
        (["dp", "delta", "--epsilon", "-1"], "epsilon = -1"),
        (["dp", "delta", "--epsilon", "nan"], "epsilon = NaN"),
        (["dp", "epsilon", "--row", "other"], "no row other"),
        (["dp", "epsilon", "--delta", "2"], "delta = 2"),
    ] {
        let said = run(None, &[&arguments[..], &[&shown(&file)]].concat());
        said.fails(2, &[part]);
        assert_eq!(said.err.trim_end().lines().count(), 1, "{}", said.err);
    }
}
