//! The account against a plain model, hostile entries, pinned bytes.

use super::odometer::epsilon_at_all_times;
use super::*;
use crate::price::gaussian_price;
use crate::price::{AttoDelta, NanoNats, ORDERS};
use proptest::prelude::*;
use std::sync::LazyLock;

fn budget(epsilon: f64) -> Budget {
    Budget::new(NanoNats::new((epsilon * 1e9) as u64), AttoDelta::new(1_000_000_000_000).unwrap()).unwrap()
}

/// Dataset 2, study `small` 1, researcher `ann` 1.5, at δ = 1e-6.
fn config() -> AccountConfig {
    AccountConfig {
        dataset: "ward".into(),
        budget: budget(2.0),
        studies: [("small".into(), budget(1.0))].into(),
        researchers: [("ann".into(), budget(1.5))].into(),
    }
}

fn request(task: &str, round: u32, sigma2: u64, study: &str, researcher: &str) -> Reservation {
    Reservation {
        researcher: researcher.into(),
        study: study.into(),
        task: task.into(),
        round,
        price: gaussian_price(1, sigma2, 1, sigma2, 1).unwrap(),
        time: None,
    }
}

fn write(account: &mut Account, next: Next) -> (Box<AccountEntry>, Option<Spent>) {
    let Next::Write(entry) = next else { panic!("expected an entry, got {next:?}") };
    let spent = account.apply(&entry).unwrap();
    (entry, spent)
}

#[test]
fn one_run_from_reservation_to_evidence() {
    let mut account = Account::new(config()).unwrap();
    let ask = request("t1", 0, 50, "small", "ann");
    let next = account.reserve(&ask).unwrap();
    write(&mut account, next);
    assert_eq!(account.reserve(&ask).unwrap(), Next::Already(RunState::Reserved));
    let charged = account.spent_epsilon();
    assert!(charged > 0.0 && account.remaining_epsilon() < 2.0);
    assert_eq!(account.open_runs().collect::<Vec<_>>(), [("t1", 0, RunState::Reserved)]);

    assert!(account.spend_evidence("t1", 0).is_none());
    assert!(matches!(account.spend("t1", 0, None), Err(AccountError::Transition { .. })));
    let next = account.start_reading("t1", 0, Some("2025-01-01T00:00:00Z".into())).unwrap();
    write(&mut account, next);
    assert!(matches!(account.refund("t1", 0, None), Err(AccountError::Transition { .. })));
    let next = account.spend("t1", 0, None).unwrap();
    let (entry, spent) = write(&mut account, next);
    let spent = spent.unwrap();
    assert_eq!((spent.task(), spent.round(), spent.sequence(), spent.dataset()), ("t1", 0, 3, "ward"));
    assert_eq!((spent.head(), spent.price()), (account.head(), &ask.price));
    assert_eq!(spent.head(), entry.hash_hex().unwrap());
    assert_eq!(account.spend_evidence("t1", 0), Some(spent));
    assert_eq!(account.spend("t1", 0, None).unwrap(), Next::Already(RunState::Spent));
    assert_eq!(account.spent_epsilon(), charged, "charged once, at reservation");
}

#[test]
fn refund_restores_exactly() {
    let mut account = Account::new(config()).unwrap();
    let next = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
    write(&mut account, next);
    let next = account.refund("t1", 0, None).unwrap();
    write(&mut account, next);
    assert_eq!(account.spent_epsilon(), 0.0);
    assert_eq!(account.remaining_epsilon_of(&Scope::Study("small".into())), Some(1.0));
    assert!(account.start_reading("t1", 0, None).is_err());
    let again = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
    assert_eq!(again, Next::Already(RunState::Refunded));
}

#[test]
fn refusals_name_every_scope_that_falls_short() {
    let account = Account::new(config()).unwrap();
    // σ² = 8: ρ = 1/16, ε ≈ 1.66 (a tenth more with δ divided over the orders); σ² = 4 is above everything.
    let scopes = |sigma2, study, researcher| match account.reserve(&request("t", 0, sigma2, study, researcher)) {
        Ok(Next::Write(_)) => vec![],
        Err(Refusal::OverBudget { shortfalls }) => shortfalls.into_iter().map(|s| s.scope).collect(),
        other => panic!("{other:?}"),
    };
    let (small, ann) = (Scope::Study("small".into()), Scope::Researcher("ann".into()));
    assert_eq!(scopes(8, "large", "bob"), vec![]);
    assert_eq!(scopes(8, "small", "bob"), vec![small.clone()]);
    assert_eq!(scopes(8, "large", "ann"), vec![ann.clone()]);
    assert_eq!(scopes(2, "small", "ann"), vec![Scope::Dataset, small, ann]);
    let refusal = account.reserve(&request("t", 0, 8, "small", "bob")).unwrap_err();
    let text = refusal.to_string();
    assert!(text.contains("study small has epsilon 1.0000 left of 1.0000, and this run would make it 1."), "{text}");
}

#[test]
fn other_terms_for_the_same_run_conflict() {
    let mut account = Account::new(config()).unwrap();
    let next = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
    write(&mut account, next);
    for other in
        [request("t1", 0, 51, "small", "ann"), request("t1", 0, 50, "x", "ann"), request("t1", 0, 50, "small", "x")]
    {
        assert_eq!(account.reserve(&other), Err(Refusal::Conflict));
    }
    assert!(matches!(account.reserve(&request("t1", 1, 500, "small", "ann")), Ok(Next::Write(_))));
}

#[test]
fn bad_entries_are_refused_and_change_nothing() {
    let mut account = Account::new(config()).unwrap();
    let next = account.reserve(&request("t1", 0, 50, "small", "ann")).unwrap();
    let (first, _) = write(&mut account, next);
    let Next::Write(good) = account.start_reading("t1", 0, None).unwrap() else { panic!("expected an entry") };
    let altered = |change: fn(&mut AccountEntry)| {
        let mut entry = good.clone();
        change(&mut entry);
        entry
    };
    let bad = [
        ("replayed", first),
        ("gap", altered(|e| e.sequence += 1)),
        ("other chain", altered(|e| e.previous = GENESIS.into())),
        ("other dataset", altered(|e| e.dataset = "x".into())),
        ("unknown version", altered(|e| e.version = 2)),
        ("unknown grid", altered(|e| e.price.version = 2)),
        ("cheaper price", altered(|e| e.price.curve = Curve::default())),
        ("other study", altered(|e| e.study = "x".into())),
        ("skipped reading", altered(|e| e.kind = EntryKind::Spend)),
        ("second reservation", altered(|e| e.kind = EntryKind::Reserve)),
        ("unreserved run", altered(|e| e.round = 7)),
        ("empty name", altered(|e| e.study = String::new())),
        ("control character", altered(|e| e.time = Some("\n".into()))),
        ("not ASCII", altered(|e| e.task = "ä".into())),
        ("too long", altered(|e| e.task = "a".repeat(MAX_NAME_LEN + 1))),
    ];
    let before = account.clone();
    for (name, entry) in bad {
        assert!(account.apply(&entry).is_err(), "{name}");
        assert_eq!(account, before, "{name}");
    }
    account.apply(&good).unwrap();
}

#[test]
fn an_entry_over_budget_is_not_applied_but_a_narrowed_budget_still_replays() {
    let mut account = Account::new(config()).unwrap();
    let next = account.reserve(&request("t1", 0, 8, "large", "bob")).unwrap();
    let (entry, _) = write(&mut account, next);
    let narrow = AccountConfig { budget: budget(0.5), ..config() };
    let applied = Account::new(narrow.clone()).unwrap().apply(&entry);
    assert!(matches!(applied, Err(AccountError::Refused(Refusal::OverBudget { .. }))));
    let mut replayed = Account::replay(narrow, [*entry]).unwrap();
    assert_eq!(replayed.remaining_epsilon(), 0.0);
    assert!(replayed.reserve(&request("t2", 0, 1_000_000, "large", "bob")).is_err());
    let next = replayed.start_reading("t1", 0, None).unwrap();
    write(&mut replayed, next);
}

#[test]
fn thresholded_releases_need_delta_set_aside() {
    let mut ask = request("t1", 0, 50, "large", "bob");
    ask.price.delta = AttoDelta::new(400).unwrap();
    let refused = Account::new(config()).unwrap().reserve(&ask).unwrap_err();
    assert!(refused.to_string().contains("delta for thresholds"), "{refused}");
    let delta = |atto| AttoDelta::new(atto).unwrap();
    let aside = Budget::with_thresholds(NanoNats::new(2_000_000_000), delta(1_000_000_001_000), delta(1000)).unwrap();
    let mut account = Account::new(AccountConfig { budget: aside, ..config() }).unwrap();
    for (task, fits) in [("t1", true), ("t2", true), ("t3", false)] {
        ask.task = task.into();
        match account.reserve(&ask) {
            Ok(next) => assert!(fits && write(&mut account, next).1.is_none()),
            Err(refusal) => assert!(!fits, "{task}: {refusal}"),
        }
    }
}

#[test]
fn budgets_that_promise_nothing_are_refused() {
    let (delta, zero) = (AttoDelta::new(1).unwrap(), AttoDelta::ZERO);
    assert_eq!(Budget::new(NanoNats::ZERO, zero), Err(BudgetError::Delta));
    assert_eq!(Budget::with_thresholds(NanoNats::ZERO, delta, delta), Err(BudgetError::Delta));
    assert!(Budget::new(NanoNats::new(MAX_EPSILON.get() + 1), delta).is_err());
    assert!(serde_json::from_str::<Budget>(r#"{"delta":0,"epsilon":1}"#).is_err());
    assert_eq!(serde_json::from_str::<Budget>(r#"{"delta":1000000000000,"epsilon":2000000000}"#).unwrap(), budget(2.0));
}

/// The cap is the inverse of the conversion: at the cap ε is within the budget, a few units above it is not.
#[test]
fn caps_invert_the_conversion() {
    for (eps, atto) in [(0.01, 1u64), (0.1, 1_000_000), (1.0, 1_000_000_000_000), (20.0, 10_000_000_000)] {
        let budget = Budget::new(NanoNats::new((eps * 1e9) as u64), AttoDelta::new(atto).unwrap()).unwrap();
        for (i, cap) in budget.caps().into_iter().enumerate() {
            // All other orders unbounded, so that only this one converts.
            let at = |nano| {
                let mut curve = [NanoNats::UNBOUNDED; ORDER_COUNT];
                curve[i] = NanoNats::new(nano);
                epsilon(&Curve::new(curve), budget.delta_per_order())
            };
            match cap {
                Some(cap) => {
                    assert!(at(cap) <= eps + 1e-10, "ε {eps} order {i}");
                    assert!(at(cap + 4) > eps, "ε {eps} order {i}: the cap is wastefully low");
                }
                None => assert!(at(1) > eps, "ε {eps} order {i}: the order could have promised something"),
            }
        }
    }
}

/// The bytes that are hashed, and the hash: a change here breaks every chain that exists.
#[test]
fn entry_bytes_are_pinned() {
    let mut account = Account::new(config()).unwrap();
    let mut ask = request("t1", 0, 5, "large", "bob");
    ask.price.curve = Curve::new(ORDERS.map(|(num, _)| NanoNats::new(num)));
    let next = account.reserve(&ask).unwrap();
    let (entry, _) = write(&mut account, next);
    let text = concat!(
        r#"{"dataset":"ward","kind":"reserve","#,
        r#""previous":"0000000000000000000000000000000000000000000000000000000000000000","#,
        r#""price":{"curve":[5,3,7,2,5,3,4,5,6,8,10,12,16,20,24,32,48,64,96,128,192,256,384,512,768,1024],"#,
        r#""delta":0,"version":1},"researcher":"bob","round":0,"sequence":1,"study":"large","task":"t1","version":1}"#
    );
    assert_eq!(serde_json::to_string(&entry).unwrap(), text);
    assert_eq!(serde_json::from_str::<AccountEntry>(text).unwrap(), *entry);
    assert_eq!(account.head(), "76cb4fb59fbf48cdced7f735c79fef101083554ef1dab04f5303cac93d6954cf");
}

/// A plain model to compare with: what each run costs, if it is charged.
type Model = BTreeMap<(usize, u32), (RunState, Reservation)>;

fn model_sum(model: &Model, of: impl Fn(&Reservation) -> bool) -> [u64; ORDER_COUNT] {
    let mut sum = [0; ORDER_COUNT];
    for (_, ask) in model.values().filter(|(state, ask)| *state != RunState::Refunded && of(ask)) {
        for (total, cost) in sum.iter_mut().zip(ask.price.curve.orders()) {
            *total += cost.get();
        }
    }
    sum
}

fn within(sum: &[u64; ORDER_COUNT], caps: &[Option<u64>; ORDER_COUNT]) -> bool {
    sum.iter().zip(caps).any(|(sum, cap)| cap.is_some_and(|cap| *sum <= cap))
}

/// Caps take milliseconds in a debug build, so the empty account is made once.
static EMPTY: LazyLock<Account> = LazyLock::new(|| Account::new(config()).unwrap());
static CAPS: LazyLock<[[Option<u64>; ORDER_COUNT]; 3]> =
    LazyLock::new(|| [2.0, 1.0, 1.5].map(|eps| budget(eps).caps()));

proptest! {
    #[test]
    fn random_histories(ops in prop::collection::vec((0usize..4, 0u32..2, 0usize..4, 0usize..5), 1..60)) {
        let sigmas = [20, 40, 100, 1000];
        let (studies, researchers) = (["small", "large"], ["ann", "bob"]);
        let mut account = EMPTY.clone();
        let (mut entries, mut model) = (Vec::new(), Model::new());
        for (task, round, what, op) in ops {
            let name = format!("t{task}");
            let ask = request(&name, round, sigmas[what], studies[task % 2], researchers[what % 2]);
            let next = match op {
                0 | 1 => account.reserve(&ask).map_err(AccountError::from),
                2 => account.start_reading(&name, round, None),
                3 => account.spend(&name, round, None),
                _ => account.refund(&name, round, None),
            };
            let Ok(Next::Write(entry)) = next else { continue };
            let spent = account.apply(&entry).unwrap();
            prop_assert_eq!(spent.is_some(), entry.kind == EntryKind::Spend);
            let run = model.entry((task, round)).or_insert((RunState::Reserved, ask));
            run.0 = entry.kind.leads_to();
            entries.push(*entry);

            let all = model_sum(&model, |_| true);
            let small = model_sum(&model, |ask| ask.study == "small");
            let ann = model_sum(&model, |ask| ask.researcher == "ann");
            prop_assert_eq!(account.charged(&Scope::Dataset).unwrap().orders().map(NanoNats::get), all);
            prop_assert!(within(&all, &CAPS[0]) && within(&small, &CAPS[1]) && within(&ann, &CAPS[2]));
            prop_assert!(account.spent_epsilon() <= 2.0 + 1e-9);
        }
        let last = entries.last().map(|entry| entry.hash_hex().unwrap());
        prop_assert_eq!(account.head(), last.as_deref().unwrap_or(GENESIS));
        let replayed = EMPTY.clone().replay_onto(entries.clone()).unwrap();
        prop_assert_eq!(&replayed, &account);
        // A missing entry anywhere but at the end is noticed.
        if entries.len() > 1 {
            entries.remove(entries.len() / 2 - 1);
            prop_assert!(EMPTY.clone().replay_onto(entries).is_err());
        }
    }
}
