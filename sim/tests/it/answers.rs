//! Answers are right: three hospitals, every kind of question, compared with the truth added up in the plainest way.

use cohortium_query::AnswerCell;
use cohortium_sim::World;
use cohortium_sim::people::{Patient, patients};

use crate::common::{HOSPITALS, config_of, demand_promises};

/// The truth: for each row of the answer its numbers, in order.
type Truth = fn(&[Patient]) -> Vec<Vec<f64>>;

/// A question, and the truth it asks for.
const CASES: [(&str, Truth); 7] = [
    ("SELECT COUNT(*) AS n FROM heart", |all| vec![vec![all.len() as f64]]),
    ("SELECT COUNT(chol) AS n FROM heart", |all| vec![vec![chols(all.iter()).len() as f64]]),
    ("SELECT SUM(chol) AS s FROM heart", |all| vec![vec![chols(all.iter()).iter().sum()]]),
    ("SELECT AVG(chol) AS m, AVG(age) AS a FROM heart", |all| {
        vec![vec![mean(&chols(all.iter())), mean(&ages(all.iter()))]]
    }),
    ("SELECT sex, COUNT(*) AS n, AVG(chol) AS m FROM heart GROUP BY sex", |all| {
        let of = |sex| all.iter().filter(move |patient| patient.sex == sex);
        ["f", "m"].map(|sex| vec![of(sex).count() as f64, mean(&chols(of(sex)))]).into()
    }),
    ("SELECT stage, SUM(age) AS s FROM heart WHERE age > 60 AND sex = 'f' GROUP BY stage", |all| {
        let of = |stage| all.iter().filter(move |p| p.stage == stage && p.age > 60 && p.sex == "f");
        [0, 1, 2, 3].map(|stage| vec![ages(of(stage)).iter().sum()]).into()
    }),
    ("SELECT COUNT(*) AS n, SUM(age) AS s FROM heart WHERE chol < 150 OR chol IS NULL", |all| {
        let of = || all.iter().filter(|p| p.chol().is_none_or(|chol| chol < 150.0));
        vec![vec![of().count() as f64, ages(of()).iter().sum()]]
    }),
];

#[test]
fn answers_are_right() {
    const SEED: u64 = 101;
    let people = [300, 310, 290].into_iter().zip(HOSPITALS).map(|(count, name)| patients(SEED, name, count));
    let people: [Vec<Patient>; 3] = people.collect::<Vec<_>>().try_into().unwrap();
    let mut world = World::new(config_of(SEED, people.clone())).unwrap();
    let all = people.concat();
    let (mut cells, mut missed) = (0, 0);
    for (sql, truth) in CASES {
        let answered = world.ask(sql, "5").unwrap();
        let truth = truth(&all);
        assert_eq!(answered.answer.rows.len(), truth.len(), "{sql}");
        for (row, truth) in answered.answer.rows.iter().zip(truth) {
            let numbers = row.iter().filter_map(|cell| match cell {
                AnswerCell::Estimate { value, low, high } => Some((*value, *low, *high)),
                AnswerCell::Key(_) | AnswerCell::Suppressed { .. } => None,
            });
            let numbers: Vec<_> = numbers.collect();
            assert_eq!(numbers.len(), truth.len(), "{sql}");
            for ((value, low, high), truth) in numbers.into_iter().zip(truth) {
                // The 95 % interval reaches 1.96 standard deviations; six of them are missed once in 5·10^8 cells.
                let sd = (value - low).max(high - value) / 1.959_964;
                assert!((value - truth).abs() < 6.0 * sd, "{sql}: {value} for {truth}, sd {sd}");
                cells += 1;
                missed += usize::from(!(low..=high).contains(&truth));
            }
        }
    }
    // Of 15 intervals of 95 %, six or more miss once in 10^4 worlds; this world is always the same one.
    assert!(cells == 15 && missed < 6, "{missed} of {cells} intervals miss the truth");
    demand_promises(&world);
}

fn chols<'a>(patients: impl Iterator<Item = &'a Patient>) -> Vec<f64> {
    patients.filter_map(Patient::chol).collect()
}

fn ages<'a>(patients: impl Iterator<Item = &'a Patient>) -> Vec<f64> {
    patients.map(|patient| patient.age as f64).collect()
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
