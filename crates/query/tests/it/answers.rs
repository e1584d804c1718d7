//! From cells back to tables.

use cohortium_query::{
    Answer, AnswerCell, AnswerError, Per, Priced, answer, check, expected_error, groups_below_minimum,
};
use proptest::prelude::*;

use crate::fixture::{agreement, agreement_hash, planned};

fn priced(sql: &str) -> Priced {
    check(&planned(sql).unwrap(), agreement(), agreement_hash()).unwrap()
}

/// Cells of a truth without noise, in units of one row or one half range.
fn cells(priced: &Priced, truth: &[f64]) -> Vec<i64> {
    truth.iter().map(|value| (value * priced.lattice() as f64).round() as i64).collect()
}

fn estimate(cell: &AnswerCell) -> (f64, f64, f64) {
    match cell {
        AnswerCell::Estimate { value, low, high } => (*value, *low, *high),
        other => panic!("{other:?}"),
    }
}

#[test]
fn counts_sums_and_means_come_back() {
    let priced = priced("SELECT COUNT(*), SUM(oldpeak), AVG(age), AVG(chol) FROM heart");
    // rows, sum of oldpeak / 6.25, Σ(age − 59) / 41, rows with chol, Σ(chol − 300.25) / 300.25
    let cells = cells(&priced, &[200.0, 40.0, -100.0, 150.0, 15.0]);
    let table = answer(&priced, &cells, 0).unwrap();
    assert_eq!(table.columns, ["COUNT(*)", "SUM(oldpeak)", "AVG(age)", "AVG(chol)"]);
    let values: Vec<f64> = table.rows[0].iter().map(|cell| estimate(cell).0).collect();
    for (got, expected) in values.iter().zip([200.0, 250.0, 59.0 - 41.0 * 0.5, 300.25 * 1.1]) {
        assert!((got - expected).abs() < 1e-4, "{got} for {expected}");
    }
}

/// The half width that a dry run announces is the one that the answer has; a mean over 1000 rows is at most that wide.
#[test]
fn the_dry_run_is_right() {
    let priced = priced("SELECT sex, COUNT(*) AS n, SUM(age) AS s, AVG(age) AS m FROM heart GROUP BY sex");
    let announced = expected_error(&priced, 3).unwrap();
    let names: Vec<&str> = announced.iter().map(|error| error.output.as_str()).collect();
    assert_eq!(names, ["n", "s", "m"]);
    assert_eq!(announced.iter().map(|error| error.per).collect::<Vec<_>>(), [Per::Cell, Per::Cell, Per::ThousandRows]);
    let variance = priced.noise().remaining_total_variance(3).unwrap();
    for theta in [-0.9, 0.0, 0.7] {
        let truth = [1000.0, 900.0, 1000.0 * theta];
        let table = answer(&priced, &cells(&priced, &[truth, truth].concat()), variance).unwrap();
        for (cell, error) in table.rows[1].iter().skip(1).zip(&announced) {
            let (value, low, high) = estimate(cell);
            assert!(low < value && value < high);
            let half = (high - low) / 2.0;
            assert!(half <= error.half_width * 1.001, "{}: {half} for {}", error.output, error.half_width);
            assert!(half >= error.half_width * 0.7, "{}: {half} for {}", error.output, error.half_width);
        }
    }
    // ε = 1 at δ = 10^-6 means ρ of about 0.0257; 3 survivors of whom 1 may collude leave 3/2·σ², and three measures
    // give Δ² = 3: 1.96·√(1.5·3/(2·0.0257)) is about 18 rows.
    let n = announced[0].half_width;
    assert!((15.0..21.0).contains(&n), "{n}");
    assert!(matches!(expected_error(&priced, 2), Err(AnswerError::Survivors(_))));
    assert!(matches!(expected_error(&priced, 4), Err(AnswerError::Survivors(_))));
}

/// Groups of `sex` with these counts, a minimum of ten persons with at most two rows each: a count below twenty rows,
/// however negative, is not shown, nor is anything else of its group; sorting puts it last.
#[test]
fn groups_of_too_few_are_not_shown() {
    let mut agreement = agreement().clone();
    let heart = agreement.datasets.iter_mut().find(|terms| terms.name.as_str() == "heart").unwrap();
    (heart.minimum_cohort, heart.schema.max_rows_per_person) = (10, 2);
    let priced = |sql: &str| {
        let plan = cohortium_query::plan(sql, &agreement, agreement_hash(), crate::fixture::ask("1")).unwrap();
        check(&plan, &agreement, agreement_hash()).unwrap()
    };
    let by_sex = priced("SELECT sex, COUNT(*) AS n, AVG(chol) AS m FROM heart GROUP BY sex ORDER BY 2");
    assert_eq!((by_sex.plan().bounding.max_rows, by_sex.plan().measures.len()), (2, 3));
    // rows, rows with chol, centred sum of chol: for each of two groups
    let cases: [([f64; 6], &[u32]); 5] = [
        ([20.0, 20.0, 0.0, 20.0, 20.0, 0.0], &[]),
        ([19.9, 19.9, 0.0, 20.0, 20.0, 0.0], &[0]),
        ([100.0, 19.9, 0.0, 20.0, 20.0, 0.0], &[0]),
        ([20.0, 20.0, 0.0, -5.0, 30.0, 0.0], &[1]),
        ([0.0, 0.0, 9.0, -1.0, -1.0, 50.0], &[0, 1]),
    ];
    for (truth, expected) in cases {
        let mut cells = cells(&by_sex, &truth);
        assert_eq!(groups_below_minimum(&by_sex, &cells).unwrap(), expected, "{truth:?}");
        let shown = answer(&by_sex, &cells, 4).unwrap();
        for (position, group) in cells.chunks_mut(3).enumerate() {
            if expected.contains(&(position as u32)) {
                group.fill(0);
            }
        }
        assert_eq!(groups_below_minimum(&by_sex, &cells).unwrap(), expected, "blanked {truth:?}");
        assert_eq!(answer(&by_sex, &cells, 4).unwrap(), shown, "the hidden numbers are nowhere in the answer");
        let is_hidden =
            |row: &&Vec<AnswerCell>| row[1..].iter().all(|cell| *cell == AnswerCell::Suppressed { fewer_than: 10 });
        assert_eq!(shown.rows.iter().rev().take_while(is_hidden).count(), expected.len(), "{shown:?}");
        assert_eq!(shown.rows.iter().filter(is_hidden).count(), expected.len());
    }
    // A plan that counts nothing shows nothing; the policy refuses it by name before that.
    let sums = priced("SELECT SUM(age) FROM heart");
    assert!(!sums.facts().counts_groups && by_sex.facts().counts_groups);
    assert_eq!(groups_below_minimum(&sums, &cells(&sums, &[1e6])).unwrap(), [0]);
    assert!(matches!(groups_below_minimum(&sums, &[1, 2]), Err(AnswerError::Cells { expected: 1, found: 2 })));
    let json = serde_json::to_string(&AnswerCell::Suppressed { fewer_than: 10 }).unwrap();
    assert_eq!(json, r#"{"suppressed":{"fewer_than":10}}"#);
}

#[test]
fn rows_are_sorted_and_cut() {
    let shown = |sql: &str, truth: &[f64]| {
        let priced = priced(sql);
        let table = answer(&priced, &cells(&priced, truth), 4).unwrap();
        let key = |row: &Vec<AnswerCell>| match &row[0] {
            AnswerCell::Key(key) => key.as_ref().map_or(String::from("-"), ToString::to_string),
            other => panic!("{other:?}"),
        };
        table.rows.iter().map(key).collect::<Vec<_>>().join(" ")
    };
    let cases = [
        ("", "1 2 3 4 -"),
        ("ORDER BY cp", "1 2 3 4 -"),
        ("ORDER BY cp DESC", "4 3 2 1 -"),
        ("ORDER BY 2", "2 4 1 3 -"),
        ("ORDER BY 2 DESC", "- 1 3 4 2"),
        ("ORDER BY 2 DESC, 1 DESC", "- 3 1 4 2"),
        ("ORDER BY 2 DESC LIMIT 2", "- 1"),
        ("LIMIT 0", ""),
        ("LIMIT 100", "1 2 3 4 -"),
    ];
    for (tail, expected) in cases {
        let sql = format!("SELECT cp, COUNT(*) FROM heart GROUP BY cp {tail}");
        assert_eq!(shown(&sql, &[20.0, 5.0, 20.0, 7.0, 50.0]), expected, "{tail}");
    }
}

#[test]
fn a_mean_of_nothing_is_the_whole_range() {
    let priced = priced("SELECT AVG(age) FROM heart");
    for (count, sum) in [(0.0, 0.0), (-3.0, 20.0), (-1.0, -1.0)] {
        let table = answer(&priced, &cells(&priced, &[count, sum]), 1 << 40).unwrap();
        assert_eq!(estimate(&table.rows[0][0]), (59.0, 18.0, 100.0));
    }
    // A sum that is beyond what the count allows is held to the range.
    let table = answer(&priced, &cells(&priced, &[10.0, 5000.0]), 1 << 30).unwrap();
    assert_eq!(estimate(&table.rows[0][0]).0, 100.0);
}

#[test]
fn cells_of_another_plan_are_refused() {
    let priced = priced("SELECT AVG(age) FROM heart");
    for found in [0, 1, 3] {
        let error = answer(&priced, &vec![1; found], 1).unwrap_err();
        assert_eq!(error, AnswerError::Cells { expected: 2, found });
    }
}

#[test]
fn the_json_shape_is_the_documented_one() {
    let priced = priced("SELECT cp, COUNT(*) AS n FROM heart GROUP BY cp ORDER BY n LIMIT 1");
    let table = answer(&priced, &cells(&priced, &[1.0, 2.0, 3.0, 4.0, 0.0]), 0).unwrap();
    let json = serde_json::to_value(&table).unwrap();
    assert_eq!(json["columns"], serde_json::json!(["cp", "n"]));
    assert_eq!(json["rows"][0][0], serde_json::json!({"key": null}));
    assert_eq!(json["rows"][0][1]["estimate"]["value"], serde_json::json!(0.0));
    assert_eq!(serde_json::from_value::<Answer>(json).unwrap(), table);
    let keyed = AnswerCell::Key(Some(cohortium_messages::Value::Number(1.into())));
    assert_eq!(serde_json::to_value(keyed).unwrap(), serde_json::json!({"key": {"number": "1"}}));
    let error = &expected_error(&priced, 3).unwrap()[0];
    assert_eq!(serde_json::to_value(error).unwrap()["per"], "cell");
}

proptest! {
    /// Any integers give finite numbers in order, and means within the range.
    #[test]
    fn any_cells_give_finite_answers(mut cells in proptest::collection::vec(any::<i64>(), 4), small in any::<bool>(), variance in any::<u128>()) {
        if small {
            cells.iter_mut().for_each(|cell| *cell >>= 40);
        }
        let priced = priced("SELECT COUNT(*), SUM(oldpeak), AVG(chol) FROM heart");
        let table = answer(&priced, &cells, variance).unwrap();
        for cell in &table.rows[0] {
            let (value, low, high) = estimate(cell);
            prop_assert!(value.is_finite() && low.is_finite() && high.is_finite());
            prop_assert!(low <= value && value <= high, "{low} {value} {high}");
        }
        let (_, low, high) = estimate(&table.rows[0][2]);
        prop_assert!((0.0..=600.5).contains(&low) && (0.0..=600.5).contains(&high));
    }
}
