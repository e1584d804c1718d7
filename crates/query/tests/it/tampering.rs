//! Plans from strangers: every edit of a good plan is refused or priced for what it then is, and nothing panics.

use cohortium_messages::{
    Arithmetic, Hash, Measure, Name, Order, Output, OutputColumn, Plan, Predicate, Scalar, Schema, Value,
};
use cohortium_query::{Priced, check};
use proptest::prelude::*;

use crate::fixture::{agreement, agreement_hash, made_of, planned};

const SQL: &str = "SELECT sex, COUNT(*) AS n, AVG(chol) AS mean_chol, SUM(oldpeak) AS total FROM heart \
                   WHERE age BETWEEN 40 AND 60 AND site IN ('basel') GROUP BY sex ORDER BY mean_chol DESC LIMIT 2";

fn good() -> Plan {
    planned(SQL).unwrap()
}

#[test]
fn facts_list_what_the_policy_decides_upon() {
    let priced = check(&good(), agreement(), agreement_hash()).unwrap();
    let facts = priced.facts();
    let names = |set: &std::collections::BTreeSet<Name>| set.iter().map(Name::to_string).collect::<Vec<_>>().join(" ");
    assert_eq!(facts.dataset.as_str(), "heart");
    assert_eq!(names(&facts.filter_columns), "age site");
    assert_eq!(names(&facts.group_columns), "sex");
    assert_eq!(names(&facts.aggregate_columns), "chol oldpeak");
    assert_eq!(format!("{:?}", facts.analyses), "{Count, Mean, Sum}");
    assert_eq!(priced.plan(), &good());
    assert_eq!(priced.plan_hash(), good().hash().unwrap());
    let layout = priced.layout();
    assert_eq!((layout.groups.len(), layout.measures, layout.cells()), (2, 4, 8));
}

#[test]
fn groups_stand_in_order_first_column_slowest() {
    let plan = planned("SELECT COUNT(*) FROM heart GROUP BY exang, sex").unwrap();
    let priced = check(&plan, agreement(), agreement_hash()).unwrap();
    let shown: Vec<String> = priced
        .layout()
        .groups
        .iter()
        .map(|group| {
            group.iter().map(|v| v.as_ref().map_or("-".into(), Value::to_string)).collect::<Vec<_>>().join(" ")
        })
        .collect();
    assert_eq!(shown, ["false 0", "false 1", "true 0", "true 1", "- 0", "- 1"]);
}

type Edit = (&'static str, fn(&mut Plan), &'static str);

/// One edit each, named after what is wrong, with a word of the refusal.
const EDITS: &[Edit] = &[
    ("a version from the future", |p| p.version += 1, "version 2"),
    ("another agreement", |p| p.agreement = Hash::of(b"another"), "agreement"),
    ("an unknown dataset", |p| p.dataset = Name::new("elsewhere").unwrap(), "dataset"),
    ("a dataset with other columns", |p| p.dataset = Name::new("visits").unwrap(), "column"),
    ("a narrower half range of a mean", |p| scale(p, 2, None, Some("300")), "half_range"),
    ("a wider half range of a mean", |p| scale(p, 2, None, Some("301")), "half_range"),
    ("a shifted centre", |p| scale(p, 2, Some("300"), None), "centre"),
    ("a narrower half range of a sum", |p| scale(p, 3, None, Some("6.249999999")), "half_range"),
    ("a half range of zero", |p| scale(p, 3, None, Some("0")), "half_range"),
    ("a negative half range", |p| scale(p, 3, None, Some("-6.25")), "half_range"),
    ("a mean scaled like a sum", |p| scale(p, 2, Some("0"), Some("600.5")), "outputs[2]"),
    ("a sum scaled like a mean", |p| scale(p, 3, Some("1.875"), Some("4.375")), "outputs[3]"),
    ("no rows per person", |p| p.bounding.max_rows = 0, "max_rows"),
    ("too many rows per person", |p| p.bounding.max_rows = 2, "max_rows"),
    ("no groups per person", |p| p.bounding.max_groups = 0, "max_groups"),
    ("too many groups per person", |p| p.bounding.max_groups = 2, "max_groups"),
    ("no measures", |p| p.measures.clear(), "at least one"),
    ("a measure less", |p| drop(p.measures.pop()), "outputs[3]"),
    ("a measure that is not shown", |p| p.measures.push(present("age")), "used by no output"),
    ("a sum that is not shown", |p| drop(p.outputs.pop()), "used by no output"),
    ("a measure twice", |p| p.measures.push(Measure::Rows), "twice"),
    ("a sum of a text", |p| p.measures[3] = sum_of(column("site")), "a text"),
    ("a sum of an unknown column", |p| p.measures[3] = sum_of(column("nothing")), "no column"),
    ("a sum of an unbounded column", |p| p.measures[3] = sum_of(column("unbounded")), "bounds"),
    ("a sum of a constant", |p| p.measures[3] = sum_of(Scalar::Literal(Value::Number(1.into()))), "constant"),
    ("a sum of more than declared", |p| p.measures[3] = sum_of(twice("oldpeak")), "half_range"),
    ("a count of an unknown column", |p| p.measures[1] = present("nothing"), "no column"),
    ("a group column twice", |p| p.group_by.push(Name::new("sex").unwrap()), "twice"),
    ("a group column without a domain", |p| p.group_by[0] = Name::new("age").unwrap(), "declared"),
    ("an unknown group column", |p| p.group_by[0] = Name::new("nothing").unwrap(), "no column"),
    ("a key that is not grouped by", |p| p.group_by[0] = Name::new("cp").unwrap(), "group column"),
    ("a count of a sum", |p| p.outputs[1].value = OutputColumn::Count(3), "outputs[1]"),
    ("a sum of a count", |p| p.outputs[3].value = OutputColumn::Sum(0), "outputs[3]"),
    ("a mean by another count", |p| p.outputs[2].value = OutputColumn::Mean { count: 0, sum: 2 }, "outputs[2]"),
    ("a mean by a sum", |p| p.outputs[2].value = OutputColumn::Mean { count: 3, sum: 2 }, "outputs[2]"),
    ("an output of nothing", |p| p.outputs[1].value = OutputColumn::Count(u32::MAX), "outputs[1]"),
    ("a heading that breaks the line", |p| p.outputs[1].name = String::from("a\nb"), "heading"),
    ("an empty heading", |p| p.outputs[1].name.clear(), "heading"),
    ("a long heading", |p| p.outputs[1].name = "x".repeat(129), "heading"),
    ("a sort key of nothing", |p| p.order_by.push(Order { descending: true, output: 4 }), "order_by"),
    ("a filter on an unknown column", |p| p.filter = Some(Predicate::IsMissing(column("nothing"))), "no column"),
    ("a filter of nothing", |p| p.filter = Some(Predicate::And(Vec::new())), "without parts"),
    ("an empty list", |p| p.filter = Some(Predicate::In { of: column("age"), values: Vec::new() }), "empty IN"),
    ("a text among numbers", |p| p.filter = Some(in_list("age", Value::Text("x".into()))), "a text"),
    (
        "a deep filter",
        |p| p.filter = p.filter.take().map(|f| (0..40).fold(f, |f, _| Predicate::Not(Box::new(f)))),
        "nested",
    ),
    ("no price", |p| p.rho = cohortium_dp::NanoNats::ZERO, "too small"),
    ("a price that buys only noise", |p| p.rho = cohortium_dp::NanoNats::new(1), "too small"),
];

#[test]
fn each_edit_is_refused_by_name() {
    assert!(check(&good(), agreement(), agreement_hash()).is_ok());
    for (name, edit, word) in EDITS {
        let mut plan = good();
        edit(&mut plan);
        let error = check(&plan, agreement(), agreement_hash()).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains(word), "{name}: {error}");
        assert!(!error.contains('\n'), "{name}: {error}");
    }
}

/// Lower limits per person are the researcher's choice: the engine keeps to the plan, so the sensitivity follows.
#[test]
fn lower_limits_are_priced_as_such() {
    let plan = planned("SELECT year, COUNT(*) FROM visits GROUP BY year").unwrap();
    let mut lower = plan.clone();
    (lower.bounding.max_groups, lower.bounding.max_rows) = (1, 5);
    let [full, less] = [plan, lower].map(|plan| check(&plan, agreement(), agreement_hash()).unwrap());
    let per_lattice = |priced: &Priced| priced.sensitivity2() / u128::from(priced.lattice()).pow(2);
    assert_eq!((per_lattice(&full), per_lattice(&less)), (3 * 10 * 10, 5 * 5));
}

#[test]
fn the_person_column_is_never_read() {
    let mut plan = planned("SELECT COUNT(*) FROM visits").unwrap();
    plan.filter = Some(Predicate::IsMissing(column("patient")));
    assert!(check(&plan, agreement(), agreement_hash()).unwrap_err().to_string().contains("tells persons apart"));
}

#[test]
fn the_largest_answer_is_the_limit() {
    let mut agreement = agreement().clone();
    let schema: &mut Schema = &mut agreement.datasets[0].schema;
    for name in ["sex", "cp"] {
        let column = schema.columns.iter_mut().find(|column| column.name.as_str() == name).unwrap();
        column.nullable = false;
        column.domain = Some((0..1024).map(|i| Value::Number(i.into())).collect());
    }
    let plan = |sql| cohortium_query::plan(sql, &agreement, agreement_hash(), crate::fixture::ask("1"));
    let largest = plan("SELECT COUNT(*) FROM heart GROUP BY sex, cp").unwrap();
    assert_eq!(check(&largest, &agreement, agreement_hash()).unwrap().layout().cells(), 1 << 20);
    assert!(plan("SELECT COUNT(*), SUM(age) FROM heart GROUP BY sex, cp").unwrap_err().to_string().contains("1048576"));
    let mut larger = largest;
    larger.measures.push(present("chol"));
    larger.outputs.push(Output { name: String::from("n"), value: OutputColumn::Count(1) });
    assert!(check(&larger, &agreement, agreement_hash()).unwrap_err().to_string().contains("1048576"));
}

/// What the module text of `check` promises about the lattice, over every kind of price and limit.
#[test]
fn lattice_and_noise_keep_their_limits() {
    let agreements = [made_of(2, 2, 1), made_of(10, 7, 3)];
    let mut plan = planned("SELECT COUNT(*), AVG(cost) FROM visits").unwrap();
    for (agreement, max_rows) in agreements.iter().flat_map(|a| [1, 10, 999, 1 << 16].map(|rows| (a, rows))) {
        let mut agreement = agreement.clone();
        agreement.datasets[1].schema.max_rows_per_person = max_rows;
        plan.bounding.max_rows = max_rows;
        for rho_nano in [1, 10, 1_000, 100_000, 10_000_000, 1_000_000_000, 1_000_000_000_000_000] {
            plan.rho = cohortium_dp::NanoNats::new(rho_nano);
            let Ok(priced) = check(&plan, &agreement, agreement_hash()) else {
                // 2 measures · max_rows² · 2^12 · 10^9 / 2ρ above 2^40: too small even for the coarsest lattice.
                assert!(u128::from(max_rows).pow(2) * 4096 * 1_000_000_000 / u128::from(rho_nano) >= 1 << 40);
                continue;
            };
            let (w, d2, s2) = (u128::from(priced.lattice()), priced.sensitivity2(), u128::from(priced.sigma2()));
            let limits = |w: u128| {
                let sigma2 = 2 * (u128::from(max_rows) * w).pow(2) * 1_000_000_000;
                u128::from(max_rows) * w <= 1 << 24 && sigma2.div_ceil(2 * u128::from(rho_nano)) <= 1 << 40
            };
            assert!(
                w.is_power_of_two() && (64..=1 << 20).contains(&w) && limits(w),
                "ρ {rho_nano} rows {max_rows}: {w}"
            );
            assert!(w == 1 << 20 || !limits(2 * w), "ρ {rho_nano} rows {max_rows}: {w} is not the finest");
            assert_eq!(d2, 2 * (u128::from(max_rows) * w).pow(2));
            assert!(s2 * 2 * u128::from(rho_nano) >= d2 * 1_000_000_000);
            assert_eq!(u128::from(priced.noise().sigma2()), s2);
            assert_eq!(priced.noise().participants() as usize, agreement.parties.len());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    /// Any part of a good plan replaced by any other part or by something from outside.
    #[test]
    fn no_edit_panics_or_lowers_the_price(
        sql in proptest::sample::select(crate::text::all_sql()),
        edits in proptest::collection::vec((any::<u32>(), any::<u32>(), 0usize..12), 1..4),
    ) {
        let Ok(plan) = planned(&sql) else { return Ok(()) };
        let mut json = serde_json::to_value(&plan).unwrap();
        for (target, source, kind) in edits {
            let outside = [
                "0", "1", "-1", "4294967295", "null", "\"\"", "\"age\"", "[]", "{}", "\"rows\"", "{\"column\":\"sex\"}",
            ];
            let nodes = count(&json);
            let with = match outside.get(kind) {
                Some(text) => serde_json::from_str(text).unwrap(),
                None => at(&mut json, source as usize % nodes).unwrap().clone(),
            };
            *at(&mut json, target as usize % nodes).unwrap() = with;
        }
        if let Ok(edited) = serde_json::from_value::<Plan>(json)
            && let Ok(priced) = check(&edited, agreement(), agreement_hash())
        {
            let p = priced.plan();
            let groups = u128::from(p.bounding.max_groups) * p.measures.len() as u128;
            let contribution = u128::from(p.bounding.max_rows) * u128::from(priced.lattice());
            prop_assert_eq!(priced.sensitivity2(), groups * contribution * contribution);
            prop_assert!(u128::from(priced.sigma2()) * 2 * u128::from(p.rho.get()) >= priced.sensitivity2() * 1_000_000_000);
            prop_assert!(priced.layout().cells() >= p.measures.len() && !p.measures.is_empty());
            let answer = cohortium_query::answer(&priced, &vec![1; priced.layout().cells()], 100);
            prop_assert!(answer.is_ok());
            prop_assert!(cohortium_query::expected_error(&priced, 3).is_ok());
        }
    }
}

fn count(json: &serde_json::Value) -> usize {
    1 + match json {
        serde_json::Value::Array(items) => items.iter().map(count).sum(),
        serde_json::Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0usize,
    }
}

/// The node of that number, in depth-first order.
fn at(json: &mut serde_json::Value, number: usize) -> Option<&mut serde_json::Value> {
    if number == 0 {
        return Some(json);
    }
    let mut left = number - 1;
    let children: Vec<&mut serde_json::Value> = match json {
        serde_json::Value::Array(items) => items.iter_mut().collect(),
        serde_json::Value::Object(fields) => fields.values_mut().collect(),
        _ => Vec::new(),
    };
    for child in children {
        let size = count(child);
        if left < size {
            return at(child, left);
        }
        left -= size;
    }
    None
}

fn scale(plan: &mut Plan, position: usize, new_centre: Option<&str>, new_half_range: Option<&str>) {
    let Measure::CentredSum { centre, half_range, .. } = &mut plan.measures[position] else { panic!("not a sum") };
    if let Some(text) = new_centre {
        *centre = text.parse().unwrap();
    }
    if let Some(text) = new_half_range {
        *half_range = text.parse().unwrap();
    }
}

fn column(name: &str) -> Scalar {
    Scalar::Column(Name::new(name).unwrap())
}

fn present(name: &str) -> Measure {
    Measure::Present { of: column(name) }
}

fn sum_of(of: Scalar) -> Measure {
    Measure::CentredSum { centre: 0.into(), half_range: "6.25".parse().unwrap(), of }
}

fn twice(name: &str) -> Scalar {
    Scalar::Arithmetic { left: Box::new(column(name)), operator: Arithmetic::Add, right: Box::new(column(name)) }
}

fn in_list(name: &str, value: Value) -> Predicate {
    Predicate::In { of: column(name), values: vec![value] }
}
