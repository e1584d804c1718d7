//! The tests of this crate. They stand inside it because the sums of a run can be seen nowhere else.
//!
//! Three kinds: cases in text files (`tests/data/slt/engine`), random rows and plans against a naive evaluator that
//! shares no code with the real one, and damage (files, paths, plans at their limits).

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use chacha20::ChaCha20Rng;
use cohortium_dp::NanoNats;
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, Arithmetic, AttackThresholds, Budgets,
    Comparison, DatasetTerms, Hash, HubEntry, MAX_CELLS, Measure, Name, OrganisationSecrets, Ownership, Party, Plan,
    Predicate, Purpose, ReleaseMode, ResearcherSecrets, ResearcherTerms, RiskAcceptance, Scalar, Schema,
    SecureSumTerms, SigningKey, Timestamp, Value,
};
use cohortium_query::{Ask, Priced, check, plan};
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use rand_core::SeedableRng as _;
use sha2::Sha256;

use crate::run::partials;
use crate::{CsvOptions, IngestError, IngestReport, RunError, Snapshot, SnapshotError, commitment, ingest_csv, run};

const KEY: [u8; 32] = [7; 32];

// ---- cases in text files ----

#[test]
fn logic_cases() {
    assert_eq!(text_file("logic.txt"), 35);
}

#[test]
fn person_cases() {
    assert_eq!(text_file("persons.txt"), 5);
}

#[test]
fn ingest_cases() {
    assert_eq!(text_file("ingest.txt"), 21);
}

#[test]
fn heart_disease_cases() {
    assert_eq!(text_file("heart.txt"), 4);
}

/// What the blocks of a text file said so far.
#[derive(Default)]
struct Script {
    case: String,
    csv: String,
    options: CsvOptions,
    schema: Option<Schema>,
    sql: String,
}

/// Runs the cases of a file and returns how many expectations were met. A block is a line `--- kind name` and what
/// follows it; `cells` are exact multiples of the lattice.
fn text_file(name: &str) -> usize {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/slt/engine").join(name);
    let text = std::fs::read_to_string(path).unwrap();
    let mut script = Script::default();
    let mut met = 0;
    for block in text.split("\n--- ").skip(1) {
        let (head, body) = block.split_once('\n').unwrap_or((block, ""));
        let (kind, case) = head.split_once(' ').unwrap_or((head, ""));
        if !case.is_empty() {
            script.case = format!("{name}: {case}");
        }
        let body = if body.is_empty() { String::new() } else { format!("{body}\n") };
        match kind {
            "schema" => script.schema = Some(toml::from_str(&body).unwrap()),
            "options" => script.options = toml::from_str(&body).unwrap(),
            "csv" => script.csv = body,
            "sql" => script.sql = body.trim().to_owned(),
            "cells" | "cells-in-some-order" | "error" | "report" => {
                expect(&script, kind, body.trim());
                met += 1;
            }
            _ => panic!("{name}: no such block: {kind}"),
        }
    }
    met
}

fn expect(script: &Script, kind: &str, wanted: &str) {
    let schema = script.schema.as_ref().unwrap();
    let folder = Folder::new();
    let out = folder.file("snapshot.parquet");
    let ingested = ingest_csv(script.csv.as_bytes(), &script.options, schema, &out);
    let case = &script.case;
    match kind {
        "error" => {
            assert_eq!(ingested.unwrap_err().to_string(), wanted, "{case}");
            assert_eq!(folder.count(), 0, "{case}: something was written");
        }
        "report" => assert_eq!(shown(&ingested.unwrap()), wanted, "{case}"),
        _ => {
            ingested.unwrap();
            let priced = priced(schema, &script.sql);
            let snapshot = Snapshot::open(&out, schema).unwrap();
            let (mut cells, trouble) = partials(&snapshot, &priced, &KEY).unwrap();
            assert_eq!(trouble, None, "{case}");
            if kind == "cells-in-some-order" {
                cells.sort_unstable();
            }
            let wanted: Vec<i64> = wanted.split_whitespace().map(|word| in_steps(word, &priced)).collect();
            assert_eq!(cells, wanted, "{case}: {} (W = {})", script.sql, priced.lattice());
        }
    }
}

fn shown(report: &IngestReport) -> String {
    let mut text = format!("rows {}", report.rows);
    for column in &report.columns {
        write!(text, "\n{} missing {} outside {}", column.column, column.missing, column.outside_domain).unwrap();
    }
    text
}

fn in_steps(word: &str, priced: &Priced) -> i64 {
    let steps = word.parse::<f64>().unwrap() * priced.lattice() as f64;
    assert_eq!(steps.fract(), 0.0, "{word} is no multiple of the lattice");
    steps as i64
}

// ---- a malformed file that text cannot show ----

#[test]
fn hostile_bytes_are_refused_and_leave_the_old_snapshot() {
    let folder = Folder::new();
    let out = folder.file("snapshot.parquet");
    std::fs::write(&out, "as it was").unwrap();
    let schema: Schema = toml::from_str(TABLE).unwrap();
    let header = b"patient,sex,age,x,smoker,site\n".to_vec();
    let with = |tail: &[u8]| [header.as_slice(), tail].concat();
    let long = "a".repeat(70_000);
    let cases: [(&str, Vec<u8>, &str); 4] = [
        ("not UTF-8", with(b"a,f,\xff\xfe,1,,1\n"), "line 2, column `age`: expected text in UTF-8"),
        (
            "field too long",
            with(format!("{long},f,1,1,,1\n").as_bytes()),
            "column `patient`: expected at most 65536 bytes",
        ),
        ("quote not closed", with(format!("\"{}", "a\n".repeat(3_000_000)).as_bytes()), "line 2: no record may have"),
        ("zeros", vec![0; 5_000_000], "line 1: no record may have"),
    ];
    for (case, bytes, wanted) in cases {
        let error = ingest_csv(bytes.as_slice(), &CsvOptions::default(), &schema, &out).unwrap_err().to_string();
        assert!(error.contains(wanted), "{case}: {error}");
        assert_eq!(std::fs::read(&out).unwrap(), b"as it was", "{case}");
        assert_eq!(folder.count(), 1, "{case}: a partial file was left");
    }
    let marked = [b"\xef\xbb\xbf", header.as_slice()].concat();
    assert_eq!(
        ingest_csv(marked.as_slice(), &CsvOptions::default(), &schema, &out).unwrap().rows,
        0,
        "byte order mark"
    );
    assert_eq!(folder.count(), 1);
}

#[test]
fn a_reader_that_fails_is_an_error() {
    struct Failing;
    impl std::io::Read for Failing {
        fn read(&mut self, _: &mut [u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::ConnectionReset.into())
        }
    }
    let folder = Folder::new();
    let schema: Schema = toml::from_str(TABLE).unwrap();
    let failed = ingest_csv(Failing, &CsvOptions::default(), &schema, &folder.file("s.parquet"));
    assert!(matches!(failed, Err(IngestError::Read(_))));
    let nowhere = ingest_csv(
        "patient,sex,age,x,smoker,site\n".as_bytes(),
        &CsvOptions::default(),
        &schema,
        Path::new("/nowhere/s"),
    );
    assert!(matches!(nowhere, Err(IngestError::Write(_))));
}

#[test]
fn options_are_read_as_people_write_them() {
    let options: CsvOptions = toml::from_str("delimiter = \";\"\nmissing = [\"NA\"]").unwrap();
    assert_eq!(options, CsvOptions { delimiter: b';', missing: vec!["NA".to_owned()], ..CsvOptions::default() });
    let again: CsvOptions = toml::from_str(&toml::to_string(&options).unwrap()).unwrap();
    assert_eq!(again, options);
    for bad in ["delimiter = \";;\"", "delimiter = \"\"", "delimiter = \"é\"", "delimeter = \";\""] {
        assert!(toml::from_str::<CsvOptions>(bad).is_err(), "{bad}");
    }
}

// ---- snapshots ----

/// HMAC-SHA256(00…1f, SHA-256("abc")), computed with Python's `hmac` and `hashlib`.
#[test]
fn commitments_are_salted() {
    let folder = Folder::new();
    let file = folder.file("abc");
    std::fs::write(&file, "abc").unwrap();
    let salt: [u8; 32] = std::array::from_fn(|i| i as u8);
    assert_eq!(
        commitment(&file, &salt).unwrap().to_string(),
        "910ec338f64892dfc0288e343162e996b71c39c67dd1cad13923f2d67a79cff6"
    );
    assert_ne!(commitment(&file, &salt).unwrap(), commitment(&file, &[0; 32]).unwrap());
    std::fs::write(&file, "abd").unwrap();
    assert_ne!(
        commitment(&file, &salt).unwrap().to_string(),
        "910ec338f64892dfc0288e343162e996b71c39c67dd1cad13923f2d67a79cff6"
    );
    assert!(matches!(commitment(&folder.file("absent"), &salt), Err(SnapshotError::File(_))));
}

#[test]
fn a_snapshot_of_another_schema_is_refused() {
    let table = Table::new(&schema(true, 2, 2), &[]);
    for (case, from, to) in [
        ("another type", "name = \"age\"\n        type = \"integer\"", "name = \"age\"\n        type = \"text\""),
        ("another column", "name = \"age\"", "name = \"years\""),
        ("values may no longer be missing", "bounds = [0, 128]\n        nullable = true", "bounds = [0, 128]"),
    ] {
        let text = TABLE
            .replace(from, to)
            .replace("bounds = [0, 128]", if case == "another type" { "" } else { "bounds = [0, 128]" });
        let other: Schema = toml::from_str(&text).unwrap();
        assert_ne!(text, TABLE, "{case}");
        assert!(matches!(Snapshot::open(&table.path, &other), Err(SnapshotError::Column(_))), "{case}");
    }
    let mut fewer = schema(true, 2, 2);
    fewer.columns.pop();
    assert!(matches!(Snapshot::open(&table.path, &fewer), Err(SnapshotError::Columns)));
    let file = table.folder.file("text.parquet");
    std::fs::write(&file, "no Parquet").unwrap();
    assert!(matches!(Snapshot::open(&file, &fewer), Err(SnapshotError::Format)));
    assert!(matches!(Snapshot::open(&table.folder.file("absent"), &fewer), Err(SnapshotError::File(_))));
}

// ---- runs at their limits ----

#[test]
fn a_run_seals_as_many_cells_as_the_plan_has() {
    let schema = schema(true, 2, 2);
    let table = Table::new(&schema, &[]);
    let priced = priced(&schema, "SELECT sex, site, COUNT(*), AVG(x) FROM t GROUP BY sex, site");
    let outcome = run(&table.open(&schema), &priced, &KEY).unwrap();
    assert_eq!(outcome.partials.len(), priced.layout().cells());
    assert_eq!(outcome.trouble, None);
}

#[test]
fn a_damaged_snapshot_gives_zeros_in_full_shape() {
    let schema = schema(true, 2, 2);
    let rows: Vec<Row> =
        (0..20_000).map(|i| Row { person: i, sex: Some(true), age: Some(5), x: 1, smoker: None, site: 1 }).collect();
    let table = Table::new(&schema, &rows);
    let snapshot = table.open(&schema);
    let priced = priced(&schema, "SELECT site, COUNT(*), SUM(x) FROM t GROUP BY site");
    let (whole, trouble) = partials(&snapshot, &priced, &KEY).unwrap();
    assert_eq!((whole.first().copied(), trouble), (Some(20_000 * priced.lattice() as i64), None));
    let mut bytes = std::fs::read(&table.path).unwrap();
    let end = bytes.len() - 4096;
    bytes[4..end].fill(0xff);
    std::fs::write(&table.path, bytes).unwrap();
    let (cells, trouble) = partials(&snapshot, &priced, &KEY).unwrap();
    assert_eq!(cells, vec![0; priced.layout().cells()]);
    assert!(trouble.is_some());
    std::fs::remove_file(&table.path).unwrap();
    assert_eq!(partials(&snapshot, &priced, &KEY).unwrap_err(), RunError::File(std::io::ErrorKind::NotFound));
}

#[test]
fn paths_are_not_patterns() {
    let schema = schema(false, 1, 1);
    let folder = Folder::new();
    let odd = folder.file("a b[1]*?%20#é");
    std::fs::create_dir(&odd).unwrap();
    let out = odd.join("{s}.snapshot");
    ingest_csv(csv(&Row::some(3)).as_bytes(), &CsvOptions::default(), &schema, &out).unwrap();
    let priced = priced(&schema, "SELECT COUNT(*) FROM t");
    let (cells, trouble) = partials(&Snapshot::open(&out, &schema).unwrap(), &priced, &KEY).unwrap();
    assert_eq!((cells, trouble), (vec![3 * priced.lattice() as i64], None));
}

/// The widest and the deepest plan that `Plan::check_shape` lets through.
#[test]
fn the_largest_plans_run() {
    let schema = schema(true, 1, 1);
    let rows = Row::some(40);
    let table = Table::new(&schema, &rows);
    let age = || Scalar::Column(name("age"));
    let above = |bound: i32| compare(age(), Comparison::Greater, number(bound));
    let deep_scalar = (0..29).fold(age(), |left, _| arithmetic(left, Arithmetic::Add, number(0)));
    let filters = [
        ("wide and", Predicate::And((0..330).map(above).collect())),
        ("wide or", Predicate::Or((0..330).map(above).collect())),
        ("deep not", (0..29).fold(above(10), |part, _| Predicate::Not(Box::new(part)))),
        ("deep scalar", compare(deep_scalar, Comparison::Greater, number(10))),
        ("long list", Predicate::In { of: age(), values: (0..10_000).map(|n| Value::Number(n.into())).collect() }),
    ];
    for (case, filter) in filters {
        let priced = with_filter(&schema, "SELECT COUNT(*) FROM t", filter);
        let (cells, trouble) = partials(&table.open(&schema), &priced, &KEY).unwrap();
        assert_eq!(trouble, None, "{case}");
        assert_eq!(cells, reference(&schema, &priced, &rows), "{case}");
    }
}

#[test]
fn a_plan_for_another_schema_does_not_run() {
    let ours = schema(true, 1, 1);
    let table = Table::new(&ours, &Row::some(3));
    for (case, domain) in
        [("fewer groups", vec![1, 2]), ("another order", vec![1, 3, 2]), ("another value", vec![1, 2, 4])]
    {
        let mut theirs = ours.clone();
        let sites = theirs.columns.iter_mut().find(|column| column.name.as_str() == "site").unwrap();
        sites.domain = Some(domain.into_iter().map(|site: i32| Value::Number(site.into())).collect());
        let priced = priced(&theirs, "SELECT site, COUNT(*) FROM t GROUP BY site");
        let refused = partials(&table.open(&ours), &priced, &KEY);
        assert!(matches!(refused, Err(RunError::Schema)), "{case}");
    }
}

/// Which groups count is decided by the key, the plan and the person: not by the order of rows.
#[test]
fn the_choice_of_groups_is_keyed_and_stable() {
    let schema = schema(true, 1, 1);
    let mut rows: Vec<Row> =
        (0..60).map(|i| Row { person: i / 3, site: i % 3 + 1, sex: None, age: None, x: 0, smoker: None }).collect();
    let priced = priced(&schema, "SELECT site, COUNT(*) FROM t GROUP BY site");
    let cells =
        |rows: &[Row], key: &[u8; 32]| partials(&Table::new(&schema, rows).open(&schema), &priced, key).unwrap().0;
    let forward = cells(&rows, &KEY);
    assert_eq!(forward.iter().sum::<i64>(), 20 * priced.lattice() as i64);
    assert!((0..20u8).any(|key| cells(&rows, &[key; 32]) != forward), "the key decides nothing");
    rows.reverse();
    assert_eq!(cells(&rows, &KEY), forward);
}

// ---- random rows and plans ----

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    /// DataFusion and the naive evaluator agree to the last integer.
    #[test]
    fn runs_agree_with_a_naive_evaluator(world in worlds()) {
        let table = Table::new(&world.schema, &world.rows);
        let (cells, trouble) = partials(&table.open(&world.schema), &world.priced, &KEY).unwrap();
        prop_assert_eq!(trouble, None);
        prop_assert_eq!(cells, reference(&world.schema, &world.priced, &world.rows), "{:?}", world.priced.plan());
    }

    /// One person less changes the vector by no more than what was priced.
    #[test]
    fn one_person_changes_the_vector_within_the_sensitivity(world in worlds(), who in any::<prop::sample::Index>()) {
        prop_assume!(!world.rows.is_empty());
        let at = who.index(world.rows.len());
        let mut others = world.rows.clone();
        if world.schema.person.is_some() {
            others.retain(|row| row.person != world.rows[at].person);
        } else {
            others.remove(at);
        }
        let cells = |rows: &[Row]| {
            partials(&Table::new(&world.schema, rows).open(&world.schema), &world.priced, &KEY).unwrap().0
        };
        let (with, without) = (cells(&world.rows), cells(&others));
        let squares = with.iter().zip(&without).map(|(a, b)| u128::from(a.abs_diff(*b)).pow(2));
        prop_assert!(squares.sum::<u128>() <= world.priced.sensitivity2());
    }
}

/// A schema, rows and a plan.
#[derive(Debug)]
struct World {
    priced: Shown,
    rows: Vec<Row>,
    schema: Schema,
}

/// A priced plan that a failing test can print.
struct Shown(Priced);

impl std::fmt::Debug for Shown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.plan().fmt(f)
    }
}

impl std::ops::Deref for Shown {
    type Target = Priced;
    fn deref(&self) -> &Priced {
        &self.0
    }
}

fn worlds() -> impl Strategy<Value = World> {
    let outputs = prop::sample::subsequence(
        vec![
            "COUNT(*)",
            "COUNT(age)",
            "SUM(age)",
            "AVG(x)",
            "SUM(age * x - 3)",
            "AVG(age / (x + 5))",
            "SUM(-x)",
            "COUNT(sex)",
            "SUM(2 * age / (x + 4.5))",
            "AVG((age - 64) * (age - 64))",
            "COUNT(age + x)",
            "SUM(x / 3)",
        ],
        1..4,
    );
    let keys = prop::sample::subsequence(vec!["sex", "smoker", "site"], 0..=3);
    let rows = prop::collection::vec(rows(), 0..60);
    let limits = (any::<bool>(), 1..4u32, 1..4u32);
    (outputs, keys, rows, limits, prop::option::weighted(0.8, predicates())).prop_map(
        |(outputs, keys, rows, (person, max_groups, max_rows), filter)| {
            let schema = schema(person, max_groups, max_rows);
            let group = if keys.is_empty() { String::new() } else { format!(" GROUP BY {}", keys.join(", ")) };
            let sql = format!("SELECT {} FROM t{group}", outputs.join(", "));
            let priced = match filter {
                Some(filter) => with_filter(&schema, &sql, filter),
                None => priced(&schema, &sql),
            };
            World { priced: Shown(priced), rows, schema }
        },
    )
}

fn rows() -> impl Strategy<Value = Row> {
    let age = prop::option::weighted(0.8, -20..200i32);
    let flag = || prop::option::weighted(0.8, any::<bool>());
    (0..12u16, flag(), age, -20..20i32, flag(), 1..4u16).prop_map(|(person, sex, age, x, smoker, site)| Row {
        person,
        sex,
        age,
        x,
        smoker,
        site,
    })
}

fn predicates() -> impl Strategy<Value = Predicate> {
    let comparisons = || {
        prop::sample::select(vec![
            Comparison::Equal,
            Comparison::Greater,
            Comparison::GreaterOrEqual,
            Comparison::Less,
            Comparison::LessOrEqual,
            Comparison::NotEqual,
        ])
    };
    let text = prop::sample::select(vec!["f", "m", "q"]).prop_map(|text| Value::Text(text.to_owned()));
    let sex = || Scalar::Column(name("sex"));
    let leaf = prop_oneof![
        4 => (scalars(), comparisons(), scalars()).prop_map(|(left, operator, right)| compare(left, operator, right)),
        1 => (any::<bool>(), text.clone()).prop_map(move |(equal, value)| {
            compare(sex(), if equal { Comparison::Equal } else { Comparison::NotEqual }, Scalar::Literal(value))
        }),
        1 => any::<bool>().prop_map(|value| {
            compare(Scalar::Column(name("smoker")), Comparison::Equal, Scalar::Literal(Value::Boolean(value)))
        }),
        1 => (scalars(), prop::collection::vec((-3..4i32).prop_map(|n| Value::Number(n.into())), 1..5))
            .prop_map(|(of, values)| Predicate::In { of, values }),
        1 => prop::collection::vec(text, 1..3).prop_map(move |values| Predicate::In { of: sex(), values }),
        1 => scalars().prop_map(Predicate::IsMissing),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..4).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 1..4).prop_map(Predicate::Or),
            inner.prop_map(|part| Predicate::Not(Box::new(part))),
        ]
    })
}

fn scalars() -> impl Strategy<Value = Scalar> {
    let column = prop::sample::select(vec!["age", "x", "site"]).prop_map(|column| Scalar::Column(name(column)));
    let leaf = prop_oneof![2 => column, 1 => (-3..4i32).prop_map(number)];
    let operators =
        prop::sample::select(vec![Arithmetic::Add, Arithmetic::Divide, Arithmetic::Multiply, Arithmetic::Subtract]);
    leaf.prop_recursive(3, 8, 2, move |inner| {
        (inner.clone(), operators.clone(), inner).prop_map(|(left, operator, right)| arithmetic(left, operator, right))
    })
}

// ---- the naive evaluator: one row at a time, nothing shared with the crate ----

/// The sums that a plan should give, computed person by person.
fn reference(schema: &Schema, priced: &Priced, rows: &[Row]) -> Vec<i64> {
    let (plan, layout) = (priced.plan(), priced.layout());
    let mut of_person: BTreeMap<String, BTreeMap<usize, Vec<i64>>> = BTreeMap::new();
    for (at, row) in rows.iter().enumerate() {
        if plan.filter.as_ref().is_some_and(|filter| truth(filter, row) != Some(true)) {
            continue;
        }
        let key: Vec<Option<Value>> = plan.group_by.iter().map(|column| row.value(column.as_str())).collect();
        let group = layout.groups.iter().position(|group| *group == key).unwrap();
        let person = if schema.person.is_some() { format!("p{}", row.person) } else { format!("row {at}") };
        let sums = of_person.entry(person).or_default().entry(group).or_insert_with(|| vec![0; plan.measures.len()]);
        for (sum, measure) in sums.iter_mut().zip(&plan.measures) {
            *sum += steps(measure, schema, row, priced.lattice() as f64);
        }
    }
    let most = i64::from(plan.bounding.max_rows) * priced.lattice() as i64;
    let mut cells = vec![0; layout.cells()];
    for (person, groups) in of_person {
        let mut order: Vec<usize> = groups.keys().copied().collect();
        order.sort_by_key(|group| {
            let mut mac = <Hmac<Sha256>>::new_from_slice(&KEY).unwrap();
            mac.update(priced.plan_hash().as_bytes());
            mac.update(person.as_bytes());
            mac.update(&(*group as u32).to_be_bytes());
            mac.finalize().into_bytes().to_vec()
        });
        let kept: BTreeSet<usize> = order.into_iter().take(plan.bounding.max_groups as usize).collect();
        for (group, sums) in groups.into_iter().filter(|(group, _)| kept.contains(group)) {
            for (measure, sum) in sums.into_iter().enumerate() {
                cells[group * plan.measures.len() + measure] += sum.max(-most).min(most);
            }
        }
    }
    cells
}

fn steps(measure: &Measure, schema: &Schema, row: &Row, lattice: f64) -> i64 {
    match measure {
        Measure::Rows => lattice as i64,
        Measure::Present { of } => match of {
            Scalar::Column(column) if row.value(column.as_str()).is_none() => 0,
            Scalar::Arithmetic { .. } if evaluated(of, row, Some(schema)).is_none() => 0,
            _ => lattice as i64,
        },
        Measure::CentredSum { centre, half_range, of } => match evaluated(of, row, Some(schema)) {
            None => 0,
            Some(x) => {
                let scaled = (x - centre.to_f64()) / half_range.to_f64() * lattice;
                let rounded =
                    if (scaled - scaled.trunc()).abs() == 0.5 { 2.0 * (scaled / 2.0).round() } else { scaled.round() };
                rounded.max(-lattice).min(lattice) as i64
            }
        },
    }
}

fn evaluated(scalar: &Scalar, row: &Row, clamped: Option<&Schema>) -> Option<f64> {
    match scalar {
        Scalar::Column(column) => {
            let Some(Value::Number(number)) = row.value(column.as_str()) else { return None };
            let bounds = clamped.and_then(|schema| schema.column(column)).and_then(|column| column.bounds);
            Some(bounds.map_or(number, |[low, high]| number.max(low).min(high)).to_f64())
        }
        Scalar::Literal(Value::Number(number)) => Some(number.to_f64()),
        Scalar::Literal(_) => None,
        Scalar::Arithmetic { left, operator, right } => {
            let (left, right) = (evaluated(left, row, clamped)?, evaluated(right, row, clamped)?);
            let result = match operator {
                Arithmetic::Add => left + right,
                Arithmetic::Divide => left / right,
                Arithmetic::Multiply => left * right,
                Arithmetic::Subtract => left - right,
            };
            result.is_finite().then_some(result)
        }
    }
}

fn truth(predicate: &Predicate, row: &Row) -> Option<bool> {
    match predicate {
        Predicate::And(parts) => {
            let parts: Vec<Option<bool>> = parts.iter().map(|part| truth(part, row)).collect();
            if parts.contains(&Some(false)) { Some(false) } else { (!parts.contains(&None)).then_some(true) }
        }
        Predicate::Or(parts) => {
            let parts: Vec<Option<bool>> = parts.iter().map(|part| truth(part, row)).collect();
            if parts.contains(&Some(true)) { Some(true) } else { (!parts.contains(&None)).then_some(false) }
        }
        Predicate::Not(part) => truth(part, row).map(|truth| !truth),
        Predicate::IsMissing(of) => Some(plain(of, row).is_none()),
        Predicate::In { of, values } => {
            let value = plain(of, row)?;
            Some(values.iter().any(|other| ordering(&value, &Plain::from(other)) == Some(std::cmp::Ordering::Equal)))
        }
        Predicate::Compare { left, operator, right } => {
            let ordering = ordering(&plain(left, row)?, &plain(right, row)?).unwrap();
            Some(match operator {
                Comparison::Equal => ordering.is_eq(),
                Comparison::Greater => ordering.is_gt(),
                Comparison::GreaterOrEqual => ordering.is_ge(),
                Comparison::Less => ordering.is_lt(),
                Comparison::LessOrEqual => ordering.is_le(),
                Comparison::NotEqual => ordering.is_ne(),
            })
        }
    }
}

enum Plain {
    Boolean(bool),
    Number(f64),
    Text(String),
}

impl From<&Value> for Plain {
    fn from(value: &Value) -> Self {
        match value {
            Value::Boolean(value) => Self::Boolean(*value),
            Value::Number(value) => Self::Number(value.to_f64()),
            Value::Text(value) => Self::Text(value.clone()),
        }
    }
}

fn plain(scalar: &Scalar, row: &Row) -> Option<Plain> {
    match scalar {
        Scalar::Column(column) => row.value(column.as_str()).as_ref().map(Plain::from),
        Scalar::Literal(value) => Some(value.into()),
        Scalar::Arithmetic { .. } => evaluated(scalar, row, None).map(Plain::Number),
    }
}

fn ordering(left: &Plain, right: &Plain) -> Option<std::cmp::Ordering> {
    match (left, right) {
        (Plain::Boolean(left), Plain::Boolean(right)) => Some(left.cmp(right)),
        (Plain::Number(left), Plain::Number(right)) => left.partial_cmp(right),
        (Plain::Text(left), Plain::Text(right)) => Some(left.cmp(right)),
        _ => None,
    }
}

// ---- tables, plans, agreements ----

const TABLE: &str = r#"
        max_groups_per_person = 1
        max_rows_per_person = 1
        person = "patient"
        [[columns]]
        name = "patient"
        type = "text"
        roles = []
        [[columns]]
        name = "sex"
        type = "text"
        domain = ["f", "m"]
        nullable = true
        roles = ["filter", "group", "aggregate"]
        [[columns]]
        name = "age"
        type = "integer"
        bounds = [0, 128]
        nullable = true
        roles = ["filter", "aggregate"]
        [[columns]]
        name = "x"
        type = "decimal"
        bounds = [-4, 4]
        roles = ["filter", "aggregate"]
        [[columns]]
        name = "smoker"
        type = "boolean"
        nullable = true
        roles = ["filter", "group"]
        [[columns]]
        name = "site"
        type = "integer"
        domain = [1, 2, 3]
        roles = ["filter", "group"]
"#;

fn schema(person: bool, max_groups: u32, max_rows: u32) -> Schema {
    let mut schema: Schema = toml::from_str(TABLE).unwrap();
    schema.max_groups_per_person = max_groups;
    schema.max_rows_per_person = max_rows;
    if !person {
        schema.person = None;
    }
    schema
}

/// A row of [`TABLE`].
#[derive(Debug, Clone)]
struct Row {
    age: Option<i32>,
    person: u16,
    /// True for `f`.
    sex: Option<bool>,
    site: u16,
    smoker: Option<bool>,
    /// In quarters.
    x: i32,
}

impl Row {
    /// Rows of different persons.
    fn some(count: u16) -> Vec<Self> {
        let row = |i: u16| Self {
            age: (!i.is_multiple_of(7)).then_some(i32::from(i) * 4),
            person: i,
            sex: Some(i.is_multiple_of(2)),
            site: i % 3 + 1,
            smoker: None,
            x: i32::from(i) - 10,
        };
        (0..count).map(row).collect()
    }

    fn value(&self, column: &str) -> Option<Value> {
        match column {
            "age" => self.age.map(|age| Value::Number(age.into())),
            "sex" => self.sex.map(|f| Value::Text(if f { "f" } else { "m" }.to_owned())),
            "site" => Some(Value::Number(i32::from(self.site).into())),
            "smoker" => self.smoker.map(Value::Boolean),
            "x" => Some(Value::Number((f64::from(self.x) / 4.0).to_string().parse().unwrap())),
            _ => panic!("no such column: {column}"),
        }
    }
}

fn csv(rows: &[Row]) -> String {
    let mut text = "patient,sex,age,x,smoker,site\n".to_owned();
    for row in rows {
        let cell = |column: &str| row.value(column).map_or(String::new(), |value| value.to_string());
        writeln!(
            text,
            "p{},{},{},{},{},{}",
            row.person,
            cell("sex"),
            cell("age"),
            cell("x"),
            cell("smoker"),
            cell("site")
        )
        .unwrap();
    }
    text
}

/// A snapshot in a folder of its own.
struct Table {
    folder: Folder,
    path: PathBuf,
}

impl Table {
    fn new(schema: &Schema, rows: &[Row]) -> Self {
        let folder = Folder::new();
        let path = folder.file("snapshot.parquet");
        let report = ingest_csv(csv(rows).as_bytes(), &CsvOptions::default(), schema, &path).unwrap();
        assert_eq!(report.rows, rows.len() as u64);
        Self { folder, path }
    }

    fn open(&self, schema: &Schema) -> Snapshot {
        Snapshot::open(&self.path, schema).unwrap()
    }
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("cohortium-engine-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn count(&self) -> usize {
        std::fs::read_dir(&self.0).unwrap().count()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn number(value: i32) -> Scalar {
    Scalar::Literal(Value::Number(value.into()))
}

fn compare(left: Scalar, operator: Comparison, right: Scalar) -> Predicate {
    Predicate::Compare { left, operator, right }
}

fn arithmetic(left: Scalar, operator: Arithmetic, right: Scalar) -> Scalar {
    Scalar::Arithmetic { left: Box::new(left), operator, right: Box::new(right) }
}

const AGREED: [u8; 32] = [1; 32];

fn priced(schema: &Schema, sql: &str) -> Priced {
    let agreement = agreement(schema);
    check(&planned(&agreement, sql), &agreement, Hash::from_bytes(AGREED)).unwrap()
}

/// The plan of `sql`, with another filter.
fn with_filter(schema: &Schema, sql: &str, filter: Predicate) -> Priced {
    let agreement = agreement(schema);
    let plan = Plan { filter: Some(filter), ..planned(&agreement, sql) };
    check(&plan, &agreement, Hash::from_bytes(AGREED)).unwrap()
}

fn planned(agreement: &Agreement, sql: &str) -> Plan {
    let ask = Ask { rho: NanoNats::new(1_000_000_000), draw: 0 };
    plan(sql, agreement, Hash::from_bytes(AGREED), ask).unwrap_or_else(|refusal| panic!("{sql}: {refusal}"))
}

fn agreement(schema: &Schema) -> Agreement {
    // Drawing post-quantum keys for every random plan would take longer than running it.
    static DRAWN: OnceLock<Agreement> = OnceLock::new();
    let schema = schema.clone();
    let datasets = vec![DatasetTerms { minimum_cohort: 0, mode: ReleaseMode::Noised, name: name("t"), schema }];
    Agreement { datasets, ..DRAWN.get_or_init(drawn_agreement).clone() }
}

fn drawn_agreement() -> Agreement {
    let mut rng = ChaCha20Rng::from_seed([3; 32]);
    let parties = ["north", "east", "south"]
        .map(|party| OrganisationSecrets::generate(&mut rng).entry(&name(party)))
        .map(|entry| Party { entry, people: Vec::new() });
    let researcher = ResearcherSecrets::generate(&mut rng).entry(&name("rosa"));
    let mut key = || SigningKey::generate(&mut rng).public();
    Agreement {
        analyses: [Analysis::Count, Analysis::Mean, Analysis::Sum]
            .map(|analysis| AnalysisTerms { analysis, max_cells: MAX_CELLS as u32, max_epsilon: 1000.into() })
            .into(),
        approval: ApprovalTerms::everything_automatic(vec![name("t")], 1000.into()),
        attack_thresholds: AttackThresholds {
            attribute_advantage: 1.into(),
            membership_advantage: 1.into(),
            reconstruction_rate: 1.into(),
        },
        budgets: Budgets {
            delta: "0.000001".parse().unwrap(),
            epsilon_per_query: 100.into(),
            epsilon_per_researcher: 1000.into(),
            epsilon_total: 10_000.into(),
        },
        conditions: Vec::new(),
        datasets: Vec::new(),
        hub: HubEntry { hub: name("hub"), log_key: key(), message_key: key() },
        log_policy: "none".to_owned(),
        ownership: Ownership {
            data: "each its own".to_owned(),
            models: "all together".to_owned(),
            passing_on: "results only".to_owned(),
            results: "all together".to_owned(),
        },
        parties: parties.into(),
        phases: Vec::new(),
        previous: None,
        purpose_text: "A test.".to_owned(),
        purposes: vec![Purpose::GeneralResearch],
        researchers: vec![ResearcherTerms { entry: researcher }],
        retention_days: 30,
        revision: 1,
        risk_acceptance: RiskAcceptance { accepted_by: "A. Custodian".to_owned(), statement: "Accepted.".to_owned() },
        secure_sum: SecureSumTerms { colluders: 1, threshold: 3 },
        study: name("study"),
        title: "A test".to_owned(),
        valid_from: Timestamp::from_seconds(0),
        valid_until: Timestamp::from_seconds(1_000_000_000),
        version: AGREEMENT_VERSION,
    }
}
