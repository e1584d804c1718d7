//! An agreement of three organisations over two datasets, and a plan in words.

use std::path::PathBuf;
use std::sync::LazyLock;

use chacha20::ChaCha20Rng;
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, Arithmetic, AttackThresholds, Budgets,
    Comparison, DatasetTerms, Decimal, Hash, HubEntry, MAX_CELLS, Measure, Name, OrganisationSecrets, OutputColumn,
    Ownership, Party, Plan, Predicate, Purpose, ReleaseMode, ResearcherEntry, ResearcherTerms, RiskAcceptance, Scalar,
    SecureSumTerms, SigningKey, Timestamp, Value,
};
use cohortium_query::{Ask, Unsupported, plan, rho_for_epsilon};
use rand_core::SeedableRng;

/// Where the cases are.
pub fn data() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/slt/plan")
}

/// The agreement of every test: three parties, threshold 3, one colluder; datasets `heart` and `visits`.
pub fn agreement() -> &'static Agreement {
    static AGREEMENT: LazyLock<Agreement> = LazyLock::new(|| made_of(3, 3, 1));
    &AGREEMENT
}

/// The hash that stands for [`agreement`].
pub fn agreement_hash() -> Hash {
    Hash::of(b"the agreement of the tests")
}

/// An ask of this ε at the agreement's δ.
pub fn ask(epsilon: &str) -> Ask {
    let rho = rho_for_epsilon(epsilon.parse().unwrap(), agreement().budgets.delta).unwrap();
    Ask { rho, draw: 0 }
}

/// The plan of some SQL at ε = 1.
pub fn planned(sql: &str) -> Result<Plan, Unsupported> {
    plan(sql, agreement(), agreement_hash(), ask("1"))
}

/// An agreement of `n` parties with threshold `t` and `c` colluders. Seed 7 for all keys.
pub fn made_of(n: u32, t: u32, c: u32) -> Agreement {
    let mut rng = ChaCha20Rng::from_seed([7; 32]);
    let name = |text: &str| Name::new(text).unwrap();
    let parties = (0..n)
        .map(|i| OrganisationSecrets::generate(&mut rng).entry(&name(&format!("organisation-{i}"))))
        .map(|entry| Party { entry, people: Vec::new() });
    let parties = parties.collect();
    let mut key = || SigningKey::generate(&mut rng).public();
    let datasets = ["heart", "visits"].map(|dataset| {
        let text = std::fs::read_to_string(data().join(format!("{dataset}.toml"))).unwrap();
        let schema = toml::from_str(&text).unwrap();
        DatasetTerms { minimum_cohort: 0, mode: ReleaseMode::Noised, name: name(dataset), schema }
    });
    let agreement = Agreement {
        analyses: [Analysis::Count, Analysis::Mean, Analysis::Sum]
            .map(|analysis| AnalysisTerms { analysis, max_cells: MAX_CELLS as u32, max_epsilon: 1.into() })
            .into(),
        approval: ApprovalTerms::everything_automatic(vec![name("heart"), name("visits")], 1.into()),
        attack_thresholds: AttackThresholds {
            attribute_advantage: Decimal::ONE,
            membership_advantage: Decimal::ONE,
            reconstruction_rate: Decimal::ONE,
        },
        budgets: Budgets {
            delta: "0.000001".parse().unwrap(),
            epsilon_per_query: 1.into(),
            epsilon_per_researcher: 10.into(),
            epsilon_total: 10.into(),
        },
        conditions: Vec::new(),
        datasets: datasets.into(),
        hub: HubEntry { hub: name("hub"), log_key: key(), message_key: key() },
        log_policy: String::from("log policies are another crate's"),
        ownership: Ownership {
            data: String::from("each party its own"),
            models: String::from("none"),
            passing_on: String::from("freely"),
            results: String::from("everyone"),
        },
        parties,
        phases: Vec::new(),
        previous: None,
        purpose_text: String::from("Tests."),
        purposes: vec![Purpose::GeneralResearch],
        researchers: vec![ResearcherTerms { entry: ResearcherEntry { key: key(), researcher: name("researcher") } }],
        retention_days: 30,
        revision: 1,
        risk_acceptance: RiskAcceptance {
            accepted_by: String::from("A. Person"),
            statement: String::from("Accepted."),
        },
        secure_sum: SecureSumTerms { colluders: c, threshold: t },
        study: name("study"),
        title: String::from("A study"),
        valid_from: Timestamp::from_seconds(0),
        valid_until: Timestamp::from_seconds(4_000_000_000),
        version: AGREEMENT_VERSION,
    };
    agreement.validate().unwrap();
    agreement
}

/// A plan in words, one line per part that is there.
pub fn summary(plan: &Plan) -> String {
    let mut lines = vec![format!("from {}", plan.dataset)];
    lines.extend(plan.filter.as_ref().map(|filter| format!("where {}", condition(filter))));
    if !plan.group_by.is_empty() {
        lines.push(format!("group {}", plan.group_by.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")));
    }
    lines.extend(plan.measures.iter().enumerate().map(|(i, m)| format!("measure {i}: {}", measure(m))));
    lines.extend(plan.outputs.iter().map(|output| format!("show {}: {}", output.name, column(&output.value))));
    lines.extend(
        plan.order_by
            .iter()
            .map(|order| format!("order {}{}", order.output, if order.descending { " descending" } else { "" })),
    );
    lines.extend(plan.limit.map(|limit| format!("limit {limit}")));
    lines.push(format!("person {} groups, {} rows", plan.bounding.max_groups, plan.bounding.max_rows));
    lines.join("\n")
}

fn measure(measure: &Measure) -> String {
    match measure {
        Measure::Rows => String::from("rows"),
        Measure::Present { of } => format!("present {}", scalar(of)),
        Measure::CentredSum { centre, half_range, of } => format!("sum {} in {centre} ± {half_range}", scalar(of)),
    }
}

fn column(value: &OutputColumn) -> String {
    match value {
        OutputColumn::Key(name) => format!("key {name}"),
        OutputColumn::Count(count) => format!("count {count}"),
        OutputColumn::Sum(sum) => format!("sum {sum}"),
        OutputColumn::Mean { count, sum } => format!("mean {sum} / {count}"),
    }
}

fn condition(predicate: &Predicate) -> String {
    let joined =
        |parts: &[Predicate], word: &str| format!("({})", parts.iter().map(condition).collect::<Vec<_>>().join(word));
    match predicate {
        Predicate::And(parts) => joined(parts, " and "),
        Predicate::Or(parts) => joined(parts, " or "),
        Predicate::Not(part) => format!("not {}", condition(part)),
        Predicate::IsMissing(of) => format!("{} missing", scalar(of)),
        Predicate::In { of, values } => {
            format!("{} in [{}]", scalar(of), values.iter().map(literal).collect::<Vec<_>>().join(", "))
        }
        Predicate::Compare { left, operator, right } => {
            let operator = match operator {
                Comparison::Equal => "=",
                Comparison::NotEqual => "<>",
                Comparison::Less => "<",
                Comparison::LessOrEqual => "<=",
                Comparison::Greater => ">",
                Comparison::GreaterOrEqual => ">=",
            };
            format!("{} {operator} {}", scalar(left), scalar(right))
        }
    }
}

fn scalar(value: &Scalar) -> String {
    match value {
        Scalar::Column(name) => name.to_string(),
        Scalar::Literal(value) => literal(value),
        Scalar::Arithmetic { left, operator, right } => {
            let operator = match operator {
                Arithmetic::Add => "+",
                Arithmetic::Subtract => "-",
                Arithmetic::Multiply => "*",
                Arithmetic::Divide => "/",
            };
            format!("({} {operator} {})", scalar(left), scalar(right))
        }
    }
}

fn literal(value: &Value) -> String {
    match value {
        Value::Text(text) => format!("'{text}'"),
        other => other.to_string(),
    }
}
