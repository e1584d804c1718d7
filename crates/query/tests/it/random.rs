//! Random texts and random queries.

use std::time::{Duration, Instant};

use cohortium_messages::{Arithmetic, Measure, Plan, Scalar, Value};
use cohortium_query::{MAX_SQL_BYTES, check};
use proptest::prelude::*;

use crate::fixture::{agreement, agreement_hash, ask, planned};
use crate::text::all_sql;

/// Texts made to be slow, deep or long. Each must be refused (or planned) in time, on half the stack that threads
/// usually have: parsing or dropping a deep syntax tree would overflow it.
#[test]
fn hostile_texts_are_refused_in_time() {
    let thread = std::thread::Builder::new().stack_size(1 << 20).spawn(try_hostile_texts).unwrap();
    thread.join().unwrap();
}

fn try_hostile_texts() {
    let filtered = |condition: String| format!("SELECT COUNT(*) FROM heart WHERE {condition}");
    let nested = |open: &str, middle: &str, close: &str, depth: usize| {
        format!("{}{middle}{}", open.repeat(depth), close.repeat(depth))
    };
    let mut texts = vec![
        " ".repeat(MAX_SQL_BYTES + 1),
        ";".repeat(MAX_SQL_BYTES),
        "(".repeat(MAX_SQL_BYTES),
        "SELECT ".repeat(5000),
        "/*".repeat(10_000),
        "WITH a AS (".repeat(2000),
        filtered(format!("age IN ({}1)", "1, ".repeat(20_000))),
        format!("SELECT {}", "COUNT(*), ".repeat(2500)),
        format!("{}SELECT 1", "SELECT 1 UNION ".repeat(2000)),
        format!("SELECT COUNT(*) FROM heart{}", " JOIN heart".repeat(1400)),
        format!("SELECT COUNT(*) FROM heart{}", " |> LIMIT 1".repeat(900)),
    ];
    for chain in [
        "age + ",
        "age = 1 AND ",
        "age || ",
        "NOT ",
        "- ",
        "age::",
        "age IS NULL = ",
        "sex.",
        "age BETWEEN 1 AND ",
        "CASE WHEN ",
    ] {
        for times in [30, 700, 1400, 6000] {
            let chain = format!("{}1", chain.repeat(times));
            texts.push(filtered(format!("{chain} = 1")));
            texts.push(format!("SELECT {chain} FROM heart"));
            texts.push(format!("SELECT SUM({chain}) FROM heart"));
            texts.push(format!("SELECT COUNT(*) FROM heart GROUP BY {chain}"));
            texts.push(format!("SELECT COUNT(*) FROM heart ORDER BY {chain}"));
            texts.push(format!("SELECT COUNT(*) FROM heart LIMIT {chain}"));
        }
    }
    for depth in [8, 12, 13, 50, 1000] {
        for (open, close) in [
            ("(", ")"),
            ("[", "]"),
            ("{", "}"),
            ("f(", ")"),
            ("(SELECT ", ")"),
            ("a IN (", ")"),
            ("CAST(", " AS INT)"),
            ("a[", "]"),
        ] {
            texts.push(filtered(nested(open, "1", close, depth)));
            texts.push(format!("SELECT {} FROM heart", nested(open, "1", close, depth)));
        }
        for (open, close) in [
            ("(", ")"),
            ("(SELECT * FROM ", ")"),
            ("(heart JOIN ", ")"),
            ("LATERAL (", ")"),
            ("TABLE(", ")"),
            ("heart, (", ")"),
            ("heart CROSS APPLY (", ")"),
        ] {
            texts.push(format!("SELECT COUNT(*) FROM {}", nested(open, "heart", close, depth)));
        }
        texts.push(nested("(", "SELECT 1", ")", depth));
        texts.push(format!("SELECT COUNT(*) FROM heart WHERE {}", nested("CASE WHEN ", "1", " THEN 1 END", depth)));
    }
    for text in texts {
        let started = Instant::now();
        let outcome = planned(&text);
        let shown: String = text.chars().take(60).collect();
        assert!(started.elapsed() < Duration::from_secs(5), "{shown}… took {:?}", started.elapsed());
        if let Err(error) = outcome {
            assert!(!error.to_string().contains('\n') && error.to_string().len() < 3000, "{shown}: {error}");
        }
    }
}

#[test]
fn long_lists_are_no_problem() {
    let sql = format!("SELECT COUNT(*) FROM heart WHERE age IN ({})", vec!["50"; 9_000].join(", "));
    let plan = planned(&sql).unwrap();
    check(&plan, agreement(), agreement_hash()).unwrap();
    let sql = format!("SELECT COUNT(*) FROM heart WHERE age IN ({})", vec!["50"; 10_001].join(", "));
    assert!(planned(&sql).unwrap_err().to_string().contains("10000"));
}

#[test]
fn too_many_cells_are_refused() {
    // 2 · 5 · 3 · 2 = 60 groups, 256 measures: 15,360 cells are fine; more outputs than a plan holds are not.
    let sums: Vec<String> = (1..=255).map(|i| format!("SUM(age * {i})")).collect();
    let sql = format!("SELECT COUNT(*), {} FROM heart GROUP BY sex, cp, exang, site", sums.join(", "));
    let priced = check(&planned(&sql).unwrap(), agreement(), agreement_hash()).unwrap();
    assert_eq!(priced.layout().cells(), 60 * 256);
    let sql = format!("SELECT COUNT(*), SUM(chol), {} FROM heart", sums.join(", "));
    assert!(planned(&sql).unwrap_err().to_string().contains("256"), "{:?}", planned(&sql));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn no_text_panics(sql in "\\PC{0,200}") {
        let _ = planned(&sql);
    }

    #[test]
    fn no_words_panic(words in proptest::collection::vec(proptest::sample::select(WORDS), 0..40)) {
        let _ = planned(&words.join(" "));
    }

    /// Parts of known queries, cut, doubled and mixed.
    #[test]
    fn no_mutation_panics(
        (first, second) in (proptest::sample::select(all_sql()), proptest::sample::select(all_sql())),
        edits in proptest::collection::vec((any::<u8>(), any::<u16>(), any::<u16>(), proptest::sample::select(WORDS)), 1..6),
    ) {
        let mut text: Vec<char> = first.chars().collect();
        let other: Vec<char> = second.chars().collect();
        for (kind, a, b, word) in edits {
            let at = usize::from(a) % (text.len() + 1);
            let to = (at + usize::from(b) % 12).min(text.len());
            match kind % 4 {
                0 => drop(text.drain(at..to)),
                1 => drop(text.splice(at..at, word.chars())),
                2 => drop(text.splice(at..to, other.iter().copied().skip(usize::from(b) % (other.len() + 1)))),
                _ => {
                    let part: Vec<char> = text[at..to].to_vec();
                    text.splice(at..at, part);
                }
            }
        }
        let sql: String = text.into_iter().collect();
        if let Ok(plan) = planned(&sql) {
            prop_assert!(check(&plan, agreement(), agreement_hash()).is_ok(), "{sql}");
        }
    }

    /// Every supported query is planned, survives its canonical form, is accepted by the check, and costs what was
    /// asked for and not a millionth more.
    #[test]
    fn supported_queries_are_planned_and_accepted(sql in query(), epsilon in proptest::sample::select(vec!["0.1", "0.29", "1", "7.7"])) {
        let plan = cohortium_query::plan(&sql, agreement(), agreement_hash(), ask(epsilon));
        let plan = plan.map_err(|error| TestCaseError::fail(format!("{sql}: {error}")))?;
        let bytes = cohortium_messages::canonical_bytes(&plan).unwrap();
        prop_assert_eq!(&serde_json::from_slice::<Plan>(&bytes).unwrap(), &plan);
        let priced = check(&plan, agreement(), agreement_hash());
        let priced = priced.map_err(|error| TestCaseError::fail(format!("{sql}: {error}")))?;
        let asked: f64 = epsilon.parse().unwrap();
        prop_assert!(priced.facts().epsilon_micro <= (asked * 1e6).round() as u64, "{sql}: {}", priced.facts().epsilon_micro);
        prop_assert!(priced.facts().epsilon_micro as f64 >= asked * 1e6 * 0.99, "{sql}: {}", priced.facts().epsilon_micro);
    }

    /// Rows within the declared bounds evaluate inside the derived range, up to the last bits of floating point.
    #[test]
    fn values_lie_in_their_range(
        expression in aggregated(),
        rows in proptest::collection::vec((0.0..=1.0f64, 0.0..=1.0f64, 0.0..=1.0f64), 20),
    ) {
        let plan = planned(&format!("SELECT SUM({expression}) AS s, AVG({expression}) AS m FROM heart")).unwrap();
        let corners = (0..8).map(|i| (f64::from(i & 1), f64::from(i >> 1 & 1), f64::from(i >> 2)));
        for (age, chol, oldpeak) in rows.into_iter().chain(corners) {
            let row = [("age", 18.0 + 82.0 * age), ("chol", 600.5 * chol), ("oldpeak", -2.5 + 8.75 * oldpeak)];
            for measure in &plan.measures {
                let Measure::CentredSum { centre, half_range, of } = measure else { continue };
                let value = evaluate(of, &row);
                let (centre, half) = (centre.to_f64(), half_range.to_f64());
                prop_assert!((value - centre).abs() <= half * (1.0 + 1e-9), "{expression}: {value} not in {centre} ± {half}");
            }
        }
    }
}

/// The scalar operators in floating point, as an engine computes them.
fn evaluate(scalar: &Scalar, row: &[(&str, f64)]) -> f64 {
    match scalar {
        Scalar::Column(name) => row.iter().find(|(column, _)| *column == name.as_str()).unwrap().1,
        Scalar::Literal(Value::Number(number)) => number.to_f64(),
        Scalar::Literal(other) => panic!("not a number: {other}"),
        Scalar::Arithmetic { left, operator, right } => {
            let (left, right) = (evaluate(left, row), evaluate(right, row));
            match operator {
                Arithmetic::Add => left + right,
                Arithmetic::Subtract => left - right,
                Arithmetic::Multiply => left * right,
                Arithmetic::Divide => left / right,
            }
        }
    }
}

const WORDS: &[&str] = &[
    "SELECT",
    "COUNT",
    "SUM",
    "AVG",
    "(",
    ")",
    "*",
    "FROM",
    "heart",
    "visits",
    "WHERE",
    "AND",
    "OR",
    "NOT",
    "IN",
    ",",
    "BETWEEN",
    "IS",
    "NULL",
    "GROUP BY",
    "ORDER BY",
    "LIMIT",
    "AS",
    "age",
    "chol",
    "sex",
    "site",
    "exang",
    "\"note-1\"",
    "1",
    "-1",
    "0",
    "2.5",
    "'basel'",
    "'",
    "\"",
    "=",
    "<>",
    "<",
    ">=",
    "+",
    "-",
    "/",
    "TRUE",
    "DESC",
    ";",
    "DISTINCT",
    "JOIN",
    "UNION",
    "CASE",
    "WHEN",
    "END",
    "OVER",
    "[",
    "]",
    "{",
    "}",
    ".",
    "::",
    "?",
    "$1",
    "--",
    "/*",
    "*/",
    "\0",
    "é",
];

/// A number expression without zeros in it, of at most four leaves, so that it stays below 10^15.
fn number() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec!["age", "chol", "oldpeak", "2", "-0.5", "38.67", "(-7)", ".25"]);
    leaf.prop_map(String::from).prop_recursive(2, 6, 2, |inner| {
        let divisor = proptest::sample::select(vec!["age", "2", "0.5", "(age * age)", "-38.67"]);
        prop_oneof![
            (inner.clone(), proptest::sample::select(vec!["+", "-", "*"]), inner.clone())
                .prop_map(|(a, operator, b)| format!("({a} {operator} {b})")),
            (inner.clone(), divisor).prop_map(|(a, b)| format!("({a} / {b})")),
            inner.prop_map(|a| format!("(- {a})")),
        ]
    })
}

/// A number expression that reads a column and has more than one value.
fn aggregated() -> impl Strategy<Value = String> {
    prop_oneof![
        proptest::sample::select(vec!["age", "chol", "oldpeak"]).prop_map(String::from),
        number().prop_map(|expression| format!("age + {expression}")),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let compare = proptest::sample::select(vec!["=", "<>", "<", "<=", ">", ">="]);
    let leaf = prop_oneof![
        (number(), compare, number()).prop_map(|(a, operator, b)| format!("{a} {operator} {b}")),
        (number(), number(), number()).prop_map(|(a, b, c)| format!("{a} BETWEEN {b} AND {c}")),
        proptest::sample::select(vec![
            "site = 'basel'",
            "site <> \"note-1\"",
            "exang",
            "NOT exang",
            "exang = FALSE",
            "cp IN (1, 2, -3)",
            "site NOT IN ('basel', 'x')",
            "chol IS NULL",
            "\"note-1\" IS NOT NULL",
            "(age + chol) IS NULL",
            "TRUE",
        ])
        .prop_map(String::from),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" AND "))),
            proptest::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" OR "))),
            inner.prop_map(|part| format!("NOT ({part})")),
        ]
    })
}

fn query() -> impl Strategy<Value = String> {
    let aggregate = prop_oneof![
        Just(String::from("COUNT(*)")),
        proptest::sample::select(vec!["COUNT(chol)", "COUNT(age)", "COUNT(\"note-1\")"]).prop_map(String::from),
        aggregated().prop_map(|expression| format!("SUM({expression})")),
        aggregated().prop_map(|expression| format!("AVG({expression})")),
    ];
    let groups = proptest::sample::subsequence(vec!["sex", "cp", "exang", "site"], 0..=4);
    (
        proptest::collection::vec(aggregate, 1..5),
        groups,
        proptest::option::of(condition()),
        proptest::option::of(any::<bool>()),
        proptest::option::of(any::<u32>()),
    )
        .prop_map(|(aggregates, groups, condition, order, limit)| {
            let aggregates = aggregates.iter().enumerate().map(|(i, text)| format!("{text} AS a{i}"));
            let select: Vec<String> = groups.iter().map(ToString::to_string).chain(aggregates).collect();
            let mut sql = format!("SELECT {} FROM heart", select.join(", "));
            if let Some(condition) = condition {
                sql += &format!(" WHERE {condition}");
            }
            if !groups.is_empty() {
                sql += &format!(" GROUP BY {}", groups.join(", "));
            }
            if let Some(descending) = order {
                sql += &format!(" ORDER BY a0 {}, 1", if descending { "DESC" } else { "ASC" });
            }
            if let Some(limit) = limit {
                sql += &format!(" LIMIT {limit}");
            }
            sql
        })
}
