//! What must be refused is refused, by name, and costs nothing.

use cohortium_dp::{EntryKind, RunState as Charge};
use cohortium_messages::{Comparison, InboxItem, Name, Predicate, Scalar, TaskState, Value};
use cohortium_node::RunState;
use cohortium_sim::{Unanswered, World};

use crate::common::{
    HOSPITALS, QUESTION, account_kinds, account_sequence, charge, config, cut_off, demand_no_answer, demand_promises,
    log_of, run_state, spent, world,
};

#[test]
fn an_expired_agreement_permits_nothing() {
    let mut config = config(401, 10);
    config.valid_s = 1000;
    let mut world = World::new(config).unwrap();
    world.ask(QUESTION, "1").unwrap();
    let before = HOSPITALS.map(|name| account_sequence(&world, name));
    world.advance(1000).unwrap();

    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    let Err(Unanswered::Refused { clauses, why }) = world.ask_prepared(&asked) else { panic!("it was not refused") };
    assert_eq!(clauses, ["heart-study/in-force"]);
    assert!(why.contains("in force"), "{why}");

    // A hub that shows the task to the nodes all the same gains a refusal from each.
    world.run_until_quiet().unwrap();
    show_all_the_same(&mut world, &asked);
    for name in HOSPITALS {
        assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Refused));
    }
    assert_eq!(HOSPITALS.map(|name| account_sequence(&world, name)), before);
    demand_promises(&world);
}

/// Asks until it is refused: the refusal names the clause and what is left, and nobody's account moves.
#[test]
fn an_exhausted_budget_refuses_and_the_refusal_is_free() {
    let mut config = config(402, 10);
    (config.epsilon_total, config.epsilon_per_researcher) = (String::from("2.5"), String::from("2"));
    config.epsilon_per_query = String::from("1");
    let mut world = World::new(config).unwrap();
    let mut answered = 0;
    let status = loop {
        let before = HOSPITALS.map(|name| account_sequence(&world, name));
        let asked = world.prepare(QUESTION, "1", answered).unwrap();
        match world.ask_prepared(&asked) {
            Ok(_) => answered += 1,
            Err(Unanswered::Ended(status)) => {
                assert_eq!(HOSPITALS.map(|name| account_sequence(&world, name)), before);
                let mut log = log_of(&mut world, asked.hash);
                log.sort();
                assert_eq!(log, ["a refusal", "b refusal", "c refusal", "rosa task"]);
                break status;
            }
            Err(other) => panic!("{other}"),
        }
        assert!(HOSPITALS.iter().all(|name| spent(&world, name) <= 2.0), "more is spent than agreed");
        assert!(answered < 20, "the budget never ends");
    };
    assert!(answered >= 2, "two queries of epsilon 1 fit into 2: {answered}");
    assert_eq!(status.state, TaskState::Refused);
    let [clause] = status.clauses.as_slice() else { panic!("{:?}", status.clauses) };
    assert!(clause.ends_with(": heart-study/budget"), "{clause}");
    assert!(status.why.contains("researcher heart-study/rosa has epsilon"), "{}", status.why);
    assert!(status.why.contains("left of 2.0000"), "{}", status.why);
    // A cheaper question still fits: a refusal closes nothing.
    world.ask("SELECT COUNT(*) AS n FROM heart", "0.05").unwrap();
    demand_promises(&world);
}

/// One house allows less than the others: it refuses alone, and the others get their reservations back.
#[test]
fn one_house_that_cannot_pay_ends_the_task_and_the_others_are_refunded() {
    let mut config = config(403, 10);
    config.hospitals[2].epsilon = String::from("1");
    let mut world = World::new(config).unwrap();
    let asked = world.prepare(QUESTION, "3", 0).unwrap();
    let Err(Unanswered::Ended(status)) = world.ask_prepared(&asked) else { panic!("it was answered") };
    assert_eq!(
        (status.state, status.clauses.as_slice()),
        (TaskState::Refused, [String::from("c: heart-study/budget")].as_slice())
    );
    for name in ["a", "b"] {
        assert_eq!(account_kinds(&world, name, asked.hash), [EntryKind::Reserve, EntryKind::Refund]);
    }
    assert!(HOSPITALS.iter().all(|name| spent(&world, name) == 0.0));
    let mut log = log_of(&mut world, asked.hash);
    log.sort();
    assert_eq!(log, ["a permit", "a price", "b permit", "b price", "c refusal", "rosa task"]);
    demand_no_answer(&mut world, &asked);
}

#[test]
fn a_column_outside_its_role_is_refused_by_everyone() {
    let mut world = world(404);
    let unknown = world.prepare("SELECT SUM(nothing) AS s FROM heart", "1", 0);
    assert!(matches!(unknown, Err(Unanswered::NotAsked(_))), "a column that is not there cannot even be planned");
    // Someone who writes the plan without the planner.
    let honest = world.prepare("SELECT COUNT(*) AS n FROM heart", "1", 0).unwrap();
    let over = |column: &str| {
        let mut plan = honest.plan.clone();
        plan.filter = Some(Predicate::Compare {
            left: Scalar::Column(Name::new(column).unwrap()),
            operator: Comparison::Greater,
            right: Scalar::Literal(Value::Number(0.into())),
        });
        plan
    };
    for (column, clause) in [("diary", "heart-study/columns-filter"), ("nothing", "heart-study/plan")] {
        let asked = world.sign_task(over(column), "SELECT COUNT(*) AS n FROM heart").unwrap();
        let Err(Unanswered::Refused { clauses, .. }) = world.ask_prepared(&asked) else { panic!("{column}") };
        assert_eq!(clauses, [clause]);
        world.run_until_quiet().unwrap();
        show_all_the_same(&mut world, &asked);
        for name in HOSPITALS {
            assert_eq!(run_state(&world, name, asked.hash), Some(RunState::Refused), "{column}");
            assert_eq!(account_sequence(&world, name), 0);
        }
        demand_no_answer(&mut world, &asked);
    }
}

#[test]
fn a_task_that_is_submitted_twice_has_one_price() {
    let mut world = world(405);
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.submit(&asked).unwrap();
    let first = world.settle(&asked).unwrap();
    assert_eq!(world.submit(&asked).unwrap(), first);
    assert_eq!(world.settle(&asked).unwrap(), first);
    for name in HOSPITALS {
        assert_eq!(account_kinds(&world, name, asked.hash).len(), 3);
    }
    let tasks = log_of(&mut world, asked.hash).into_iter().filter(|line| line == "rosa task").count();
    assert_eq!(tasks, 1);
    demand_promises(&world);
}

/// One node does not answer before anyone has read: the round is void and costs nobody anything, then and later.
#[test]
fn a_round_with_a_missing_node_is_void_and_refunded() {
    let mut world = world(406);
    cut_off(&mut world, &["c"], |item| matches!(item, InboxItem::Task { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    let status = demand_no_answer(&mut world, &asked);
    assert_eq!(status.state, TaskState::Expired);
    assert!(status.why.contains("no answer in time from c"), "{}", status.why);
    for name in ["a", "b"] {
        assert_eq!(charge(&world, name, asked.hash), Some(Charge::Refunded));
    }
    // It comes back, finds the task in its inbox, reserves; and finds that the round is void, and takes it back.
    world.honest_again();
    world.run_until_quiet().unwrap();
    assert_eq!(account_kinds(&world, "c", asked.hash), [EntryKind::Reserve, EntryKind::Refund]);
    assert!(HOSPITALS.iter().all(|name| spent(&world, name) == 0.0));
    assert!(HOSPITALS.iter().all(|name| world.machine(name).unwrap().reads().is_empty()));
    world.ask(QUESTION, "1").unwrap();
}

/// One node goes silent after the others have read: the round is void, and what was read is charged.
#[test]
fn a_round_that_loses_a_node_after_reading_is_void_and_charged() {
    let mut world = world(407);
    cut_off(&mut world, &["c"], |item| matches!(item, InboxItem::Shares { .. }));
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    let status = demand_no_answer(&mut world, &asked);
    assert_eq!(status.state, TaskState::Expired);
    world.honest_again();
    world.inject("c", &InboxItem::Void { reason: status.why, task: asked.hash }).unwrap();
    world.run_until_quiet().unwrap();
    for (name, expected) in [("a", Charge::Spent), ("b", Charge::Spent), ("c", Charge::Refunded)] {
        assert_eq!(charge(&world, name, asked.hash), Some(expected), "{name}");
    }
    assert!(world.machine("c").unwrap().reads().is_empty());
    let mut log = log_of(&mut world, asked.hash);
    log.sort();
    assert_eq!(log, ["a permit", "a price", "b permit", "b price", "c permit", "c price", "hub failure", "rosa task"]);
}

/// Asking the same plan again is another draw and another price, and the budget sees both.
#[test]
fn two_askings_are_two_prices() {
    let mut world = world(408);
    let first = world.ask(QUESTION, "1").unwrap();
    let once = spent(&world, "a");
    let second = world.ask(QUESTION, "1").unwrap();
    assert_ne!(first.cells, second.cells);
    assert!(spent(&world, "a") > once * 1.2);
}

/// What a hub does that does not care: shows the nodes a task that it refused itself.
fn show_all_the_same(world: &mut World, asked: &cohortium_sim::Asked) {
    let index = world.index_of(&asked.entry).unwrap();
    let item = world.task_item(&asked.task, &asked.entry, index).unwrap();
    for name in HOSPITALS {
        assert_eq!(world.inject(name, &item).unwrap(), None);
    }
    world.run_until_quiet().unwrap();
}
