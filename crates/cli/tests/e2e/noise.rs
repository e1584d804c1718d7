//! Two hundred questions to running nodes, and whether their noise is what the intervals say it is.
//!
//! The whole way is judged: sampler, distributed noise, masks, removal of excess noise, decoding, intervals. Sample sizes
//! are fixed; each bound below holds for every sample size (none is an asymptotic approximation), and their false-alarm
//! rates add up to at most 1e-6 if the noise is normal and independent between cells, as it is up to its own rounding.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use chacha20::ChaCha20Rng;
use rand_core::{Rng as _, SeedableRng as _};
use serde_json::Value;

use crate::sandbox::{Estimate, HALF_WIDTH, HOSPITALS, Sandbox, audit_passes_once_quiet};

const QUESTIONS: usize = 200;
/// How many ask at the same time.
const AT_ONCE: usize = 4;
/// Each of eight one-sided bounds may be wrong with probability 1e-6 / 8, which is e to the power of minus this.
const EXPONENT: f64 = 15.895;

/// One simulated patient, as far as the questions go.
struct Patient {
    age: f64,
    sex: String,
    smoker: bool,
    diagnosis: String,
    sbp: f64,
}

/// Numbers of the answers with their truths: sums and counts (normal noise), and means (whose intervals are Fieller's).
#[derive(Default)]
struct Gathered {
    sums: Vec<(Estimate, f64)>,
    means: Vec<(Estimate, f64)>,
}

#[test]
fn two_hundred_questions_have_the_noise_that_they_say() {
    let sandbox = Sandbox::started("noise");
    let patients: Vec<Patient> = HOSPITALS.iter().flat_map(|hospital| read_patients(&sandbox, hospital)).collect();
    let (next, gathered) = (AtomicUsize::new(0), Mutex::new(Gathered::default()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= QUESTIONS {
                        break;
                    }
                    ask(&sandbox, &patients, number, &gathered);
                }
            });
        }
    });
    let gathered = gathered.into_inner().unwrap();
    assert_eq!((gathered.sums.len(), gathered.means.len()), (50 * (16 + 2 + 4), 50 * 2));
    let z: Vec<f64> = gathered.sums.iter().map(|(estimate, truth)| estimate.z(*truth)).collect();
    let missed = gathered.means.iter().filter(|(estimate, truth)| !estimate.covers(*truth)).count();
    let square = z.iter().map(|z| z * z).sum::<f64>() / z.len() as f64;
    println!("{} sums and counts: mean square of z {square:.3}; {missed} of {} means missed", z.len(), 50 * 2);
    judge(&z).unwrap();
    judge_misses("means", missed, gathered.means.len()).unwrap();

    sandbox.wait_until_quiet();
    for node in HOSPITALS {
        for line in sandbox.accounts(node, "patients") {
            let (entries, left) = (&line["entries"], line["epsilon_left"].as_f64().unwrap());
            assert_eq!(*entries, 3 * QUESTIONS, "each question is paid exactly once");
            assert!(0.0 < left && left < 20.0, "{line}");
            println!("{node}: epsilon {left:.3} of 20 is left of the budget of {}", line["scope"]);
        }
    }
    audit_passes_once_quiet(&sandbox.hub().join("log"), &sandbox.agreement());
}

fn read_patients(sandbox: &Sandbox, hospital: &str) -> Vec<Patient> {
    let rows = sandbox.rows(hospital, "patients.csv");
    let patients = rows.iter().map(|row| Patient {
        age: row[1].parse().unwrap(),
        sex: row[2].clone(),
        smoker: row[3] == "true",
        diagnosis: row[4].clone(),
        sbp: row[6].parse().unwrap(),
    });
    patients.collect()
}

/// Asks question `number`, one of four kinds with another literal or another draw each time, and notes what comes back.
fn ask(sandbox: &Sandbox, patients: &[Patient], number: usize, gathered: &Mutex<Gathered>) {
    let (kind, turn) = (number % 4, number / 4);
    let (limit, draw) = (30 + turn % 25, turn / 25);
    let (what, by, epsilon) = match kind {
        0 => ("COUNT(*)", "diagnosis, sex, smoker", "0.05"),
        1 => ("SUM(age)", "sex", "0.05"),
        2 => ("COUNT(*)", "diagnosis", "0.08"),
        _ => ("AVG(sbp)", "sex", "0.6"),
    };
    let sql = format!("SELECT {by}, {what} FROM patients WHERE age >= {limit} GROUP BY {by}");
    let answered = sandbox.ask(&sql, &["--epsilon", epsilon, "--draw", &draw.to_string()]).json();
    assert_eq!(answered["stored"], false, "{sql}");
    let counted: Vec<&Patient> = patients.iter().filter(|patient| patient.age >= limit as f64).collect();
    for row in answered["answer"]["rows"].as_array().unwrap() {
        let key = |at: usize| &row[at]["key"];
        let is_in_group = |patient: &&&Patient| match kind {
            0 => *key(0) == *patient.diagnosis && *key(1) == *patient.sex && *key(2) == Value::Bool(patient.smoker),
            2 => *key(0) == *patient.diagnosis,
            _ => *key(0) == *patient.sex,
        };
        let group: Vec<&Patient> = counted.iter().filter(is_in_group).copied().collect();
        let estimate = Estimate::of(row.as_array().unwrap().last().unwrap()).unwrap();
        let mut gathered = gathered.lock().unwrap();
        match kind {
            0 | 2 => gathered.sums.push((estimate, group.len() as f64)),
            1 => gathered.sums.push((estimate, group.iter().map(|patient| patient.age).sum())),
            _ => {
                let sum: f64 = group.iter().map(|patient| patient.sbp).sum();
                gathered.means.push((estimate, sum / group.len() as f64));
            }
        }
    }
}

/// Judges numbers that should be standard normal: their mean (Chernoff), their variance (Laurent and Massart 2000,
/// lemma 1, for chi-square), and how many 95 % intervals miss the truth.
fn judge(z: &[f64]) -> Result<(), String> {
    let n = z.len() as f64;
    let mean_limit = (2.0 * EXPONENT / n).sqrt();
    let mean = z.iter().sum::<f64>() / n;
    if mean.abs() > mean_limit {
        return Err(format!("the noise is biased: mean {mean:.3} of {n} numbers, limit {mean_limit:.3}"));
    }
    let square: f64 = z.iter().map(|z| z * z).sum();
    let (low, high) = (n - 2.0 * (n * EXPONENT).sqrt(), n + 2.0 * (n * EXPONENT).sqrt() + 2.0 * EXPONENT);
    if !(low..=high).contains(&square) {
        return Err(format!(
            "the noise has another size than the intervals say: sum of squares {square:.0} is not in {low:.0}..{high:.0}"
        ));
    }
    judge_misses("sums and counts", z.iter().filter(|z| z.abs() > HALF_WIDTH).count(), z.len())
}

/// Whether so many of `n` intervals may miss when each does with probability 5 % (Chernoff, with relative entropy).
fn judge_misses(what: &str, misses: usize, n: usize) -> Result<(), String> {
    let (share, expected) = (misses as f64 / n as f64, 0.05_f64);
    let term = |of: f64, against: f64| if of > 0.0 { of * (of / against).ln() } else { 0.0 };
    let entropy = term(share, expected) + term(1.0 - share, 1.0 - expected);
    if n as f64 * entropy > EXPONENT {
        return Err(format!("{what}: {misses} of {n} intervals miss the truth, expected are 5 %"));
    }
    Ok(())
}

#[test]
fn wrong_noise_is_noticed() {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let mut unit = || ((rng.next_u64() >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
    let normal: Vec<f64> =
        (0..1100).map(|_| (-2.0 * unit().ln()).sqrt() * (std::f64::consts::TAU * unit()).cos()).collect();
    judge(&normal).unwrap();
    let wrong =
        |change: &dyn Fn(f64) -> f64| judge(&normal.iter().map(|z| change(*z)).collect::<Vec<_>>()).unwrap_err();
    assert!(wrong(&|z| z + 0.25).contains("biased"));
    // As if one node of three added no noise, or what is in excess was left in.
    assert!(wrong(&|z| z * (2.0_f64 / 3.0).sqrt()).contains("another size"));
    assert!(wrong(&|z| z * 1.5_f64.sqrt()).contains("another size"));
    // The right mean and variance, and no tails.
    assert!(wrong(&|z| z.signum()).contains("intervals miss"));
    judge_misses("some", 5, 100).unwrap();
    judge_misses("some", 30, 100).unwrap_err();
}
