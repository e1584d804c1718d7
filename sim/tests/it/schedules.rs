//! Random schedules: two questions at a time, and whatever can happen on the way happens in an order drawn from a seed.
//!
//! Calls, answers and items are lost, old calls come again, nodes and the hub are started again, disks fail at some
//! commit, members are cut off for a while or for good, deadlines pass. Then the faults stop. Whatever happened:
//!
//! * every task comes to its end within a bounded time, and none *fails*: nobody here is dishonest;
//! * an answer is that of its question over exactly the members it names, which can be read off it, since every set of
//!   members has another sum;
//! * once all are back, every run at every node is over, the account holds no price or one for each, a whole one for
//!   who is in an answer; the logs of hub and nodes pass the audit and nothing is left open;
//! * the hub keeps no vector, share, signature on survivors or reveal.
//!
//! `COHORTIUM_SIM_SCHEDULES` sets how many schedules are tried, `COHORTIUM_SIM_SEED` the first of them (that one alone
//! unless it is said how many).

use std::collections::BTreeMap;

use cohortium_dp::EntryKind;
use cohortium_messages::{Call, Name, TaskState, TaskStatus};
use cohortium_node::RunState;
use cohortium_sim::people::{self, Patient};
use cohortium_sim::{Asked, Config, Fate, SimError, World, keys};
use rand_core::Rng as _;

use crate::common::{account_kinds, demand_promises, run_state};

/// How many schedules are tried unless the environment says otherwise: what takes some ten seconds.
const SCHEDULES: u64 = 16;
/// The seed of the federation itself; that of a schedule is its number.
const SEED: u64 = 1000;
/// Three of four suffice. Whoever is in a sum can be read off it.
const MEMBERS: [(&str, usize); 4] = [("a", 60), ("b", 200), ("c", 600), ("d", 1800)];
/// Whether a question counts a patient.
type Counts = fn(&Patient) -> bool;
/// The questions, and whom they count.
const QUESTIONS: [(&str, Counts); 2] = [
    ("SELECT COUNT(*) AS persons FROM heart", |_| true),
    ("SELECT COUNT(*) AS persons FROM heart WHERE sex = 'f'", |patient| patient.sex == "f"),
];
/// How far an answer may be from the truth. ε = 8 leaves noise of a standard deviation below 2, and two sets of members
/// are at least 30 apart: beyond 10⁻⁹ in all runs ever made, an answer that is further off is wrong.
const TOLERANCE: f64 = 14.0;
/// How many steps a schedule of faults has.
const STEPS: u32 = 60;

#[test]
fn schedules_of_even_seeds() {
    try_schedules(0);
}

/// The same again, so that two processors have something to do.
#[test]
fn schedules_of_odd_seeds() {
    try_schedules(1);
}

fn try_schedules(remainder: u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let base = base();
    let (from, count) = match (number("COHORTIUM_SIM_SEED"), number("COHORTIUM_SIM_SCHEDULES")) {
        (Some(seed), count) => (seed, count.unwrap_or(1)),
        (None, count) => (0, count.unwrap_or(SCHEDULES)),
    };
    let mut outcomes: BTreeMap<TaskState, u32> = BTreeMap::new();
    for seed in (from..from + count).filter(|seed| seed % 2 == remainder) {
        for state in try_schedule(&base, seed) {
            *outcomes.entry(state).or_default() += 1;
        }
    }
    println!("outcomes: {outcomes:?}");
    // The schedules are neither so mild that nothing goes wrong nor so wild that nothing goes well.
    let of = |state| outcomes.get(&state).copied().unwrap_or(0);
    let is_mixed = of(TaskState::Released) > 0 && of(TaskState::Expired) > 0;
    assert!(is_mixed || count < SCHEDULES, "{outcomes:?}");
}

fn base() -> World {
    let hospitals = MEMBERS.map(|(name, count)| (name.to_owned(), people::csv(&people::patients(SEED, name, count))));
    let config = Config { threshold: 3, ..Config::new(SEED, hospitals.to_vec(), people::SCHEMA) };
    World::new(config).unwrap()
}

/// One schedule; gives how its tasks ended.
fn try_schedule(base: &World, seed: u64) -> Vec<TaskState> {
    println!("seed {seed}");
    let mut world = base.fork().unwrap();
    world.reseed(seed);
    let mut schedule = Schedule::new(seed, &mut world);
    schedule.faults(&mut world);
    let ends = schedule.calm(&mut world);
    for (task, end) in schedule.tasks.iter().zip(&ends) {
        demand_right_answer(&world, task, end);
        demand_fair_prices(&world, &task.asked, end);
    }
    demand_promises(&world);
    for table in ["vectors", "uploads"] {
        assert_eq!(world.hub.disk.table(table).unwrap().len(), 0, "{table}");
    }
    for (key, _) in world.hub.disk.table("round_messages").unwrap() {
        assert!(key.contains("/permit/") || key.contains("/vector/"), "{key} is of no use any more");
    }
    let report = cohortium_audit::verify(&world.hub.log_dir(), world.agreement_envelope()).unwrap();
    assert_eq!(report.findings, []);
    for (name, _) in MEMBERS {
        let machine = world.machine(name).unwrap();
        let agreements = std::slice::from_ref(world.agreement());
        cohortium_audit::verify_own_log(&machine.log_dir(), &machine.name, agreements).unwrap();
    }
    ends.iter().map(|end| end.state).collect()
}

/// A question on its way.
struct Question {
    asked: Asked,
    counts: Counts,
    sql: &'static str,
    /// Whether the hub is known to have it.
    is_submitted: bool,
    /// In which step it is asked.
    step: u32,
}

struct Schedule {
    /// Whoever is gone for good, and from which step on.
    dead: Option<(&'static str, u32)>,
    rng: chacha20::ChaCha20Rng,
    tasks: Vec<Question>,
}

impl Schedule {
    fn new(seed: u64, world: &mut World) -> Self {
        let mut rng = keys::generator(seed, "schedule");
        let mut below = |limit: u32| rng.next_u32() % limit;
        // In each schedule another share of what is sent gets lost; in some nothing does.
        let loss = [0, 1, 4, 10][below(4) as usize];
        let dead = (below(3) == 0).then(|| (MEMBERS[below(4) as usize].0, below(STEPS)));
        let mut tasks = Vec::new();
        for (sql, counts) in QUESTIONS {
            let asked = world.prepare(sql, "8", 0).unwrap();
            tasks.push(Question { asked, counts, sql, is_submitted: false, step: below(STEPS / 3) });
        }
        let (mut in_chance, mut out_chance) = (keys::generator(seed, "items"), keys::generator(seed, "calls"));
        world.between_hub_and_node(move |_, _| match in_chance.next_u32() % 40 {
            chance if chance < loss => Fate::Lose,
            _ => Fate::Deliver,
        });
        world.between_node_and_hub(move |_, _| match out_chance.next_u32() % 40 {
            chance if chance < loss / 2 => Fate::Lose,
            chance if chance < loss => Fate::Unanswered,
            _ => Fate::Deliver,
        });
        Self { dead, rng, tasks }
    }

    fn below(&mut self, limit: u32) -> u32 {
        self.rng.next_u32() % limit
    }

    fn member(&mut self) -> &'static str {
        MEMBERS[self.below(4) as usize].0
    }

    /// The time in which anything may go wrong.
    fn faults(&mut self, world: &mut World) {
        for step in 0..STEPS {
            self.submit(world, step);
            if let Some((name, _)) = self.dead.filter(|(_, from)| *from <= step) {
                world.machine_mut(name).unwrap().online = false;
            }
            let (name, chance) = (self.member(), self.below(100));
            match chance {
                0..60 => drop(world.turn(name).unwrap()),
                60..66 => world.machine_mut(name).unwrap().online ^= true,
                66..72 => world.restart(name).unwrap(),
                72..76 => world.restart("hub").unwrap(),
                76..80 => world.machine(name).unwrap().disk.crash_at(1 + u64::from(self.below(6))),
                80..83 => world.hub.disk.crash_at(1 + u64::from(self.below(10))),
                83..90 => self.again(world),
                90..97 => drop(world.advance(i64::from(self.below(20)))), // the hub may be down
                _ => drop(world.advance(61)),
            }
            // Several things happen between two faults.
            for _ in 0..self.below(8) {
                let name = self.member();
                world.turn(name).unwrap();
            }
        }
    }

    fn submit(&mut self, world: &mut World, step: u32) {
        for task in self.tasks.iter_mut().filter(|task| task.step <= step && !task.is_submitted) {
            match world.submit(&task.asked) {
                Ok(_) => task.is_submitted = true,
                Err(SimError::Down(_)) => {}
                // The hub was down for so long that the question has to be signed anew.
                Err(SimError::Refused(refused)) if refused.code == "clock" => {
                    task.asked = world.prepare(task.sql, "8", 0).unwrap();
                    task.is_submitted = world.submit(&task.asked).is_ok();
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Some call that left a node before comes to the hub once more, however long after.
    fn again(&mut self, world: &mut World) {
        let count = u32::try_from(world.wire.left.len()).unwrap();
        if count == 0 || !world.hub.is_up() {
            return;
        }
        let (node, call): (Name, Call) = world.wire.left[self.below(count) as usize].clone();
        match world.call_as_node(node.as_str(), call) {
            Ok(_) | Err(SimError::Refused(_) | SimError::Down(_)) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// The faults stop; who is dead stays so until the tasks have ended.
    fn calm(&mut self, world: &mut World) -> Vec<TaskStatus> {
        world.honest_again();
        world.restart("hub").unwrap();
        for (name, _) in MEMBERS {
            world.restart(name).unwrap();
            world.machine_mut(name).unwrap().online = self.dead.is_none_or(|(dead, _)| dead != name);
        }
        self.submit(world, STEPS);
        assert!(self.tasks.iter().all(|task| task.is_submitted));
        let ends: Vec<TaskStatus> = self.tasks.iter().map(|task| world.settle(&task.asked).unwrap()).collect();
        for (name, _) in MEMBERS {
            world.machine_mut(name).unwrap().online = true;
        }
        world.run_until_quiet().unwrap();
        ends
    }
}

/// The answer is that of the question, over those who are named.
fn demand_right_answer(world: &World, task: &Question, end: &TaskStatus) {
    assert!(matches!(end.state, TaskState::Released | TaskState::Expired), "{}: {}", end.state, end.why);
    if end.state != TaskState::Released {
        assert!(end.release.is_none());
        return;
    }
    let answered = world.verify(&task.asked, end).unwrap();
    let survivors = &answered.release.survivors;
    assert!(survivors.len() >= 3, "{survivors:?}");
    let of = |(name, count): &(&str, usize)| {
        people::patients(SEED, name, *count).iter().filter(|patient| (task.counts)(patient)).count() as f64
    };
    let in_sum = MEMBERS.iter().filter(|(name, _)| survivors.iter().any(|survivor| survivor.as_str() == *name));
    let truth: f64 = in_sum.map(of).sum();
    let counted = answered.cells[0] as f64 / answered.priced.lattice() as f64;
    assert!((counted - truth).abs() < TOLERANCE, "{counted} instead of {truth} over {survivors:?}");
}

/// At every node the run is over and the price is whole, given back, or was never reserved.
fn demand_fair_prices(world: &World, asked: &Asked, end: &TaskStatus) {
    for (name, _) in MEMBERS {
        let state = run_state(world, name, asked.hash);
        let kinds = account_kinds(world, name, asked.hash);
        println!("{name}: {state:?} {kinds:?}");
        let is_in_sum = end.state == TaskState::Released && end.survivors.iter().any(|member| member.as_str() == name);
        match kinds.as_slice() {
            [] => assert!(!is_in_sum && matches!(state, None | Some(RunState::Void | RunState::Refused)), "{name}"),
            [EntryKind::Reserve, EntryKind::Refund] => assert!(!is_in_sum && state == Some(RunState::Void), "{name}"),
            [EntryKind::Reserve, EntryKind::Reading, EntryKind::Spend] => {
                let over = [RunState::Released, RunState::LeftOut, RunState::Void];
                assert!(state.is_some_and(|state| over.contains(&state)), "{name}: {state:?}");
                assert!(!is_in_sum || state == Some(RunState::Released), "{name}: {state:?}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}
