//! What the stories share: small worlds, and the promises that hold in every one of them whatever happens.

use std::collections::{BTreeMap, BTreeSet};

use cohortium_dp::{EntryKind, RunState as Charge};
use cohortium_messages::{
    ApprovalTerms, AutomaticApproval, Call, Entry, Envelope, Fact, Hash, InboxItem, Name, Role, TaskState, TaskStatus,
};
use cohortium_node::{JournalRecord, RunState};
use cohortium_sim::people::{self, Patient};
use cohortium_sim::{Asked, Config, DATASET, Fate, Seen, World};

/// The hospitals of every world here.
pub const HOSPITALS: [&str; 3] = ["a", "b", "c"];

/// The question of stories in which the question does not matter.
pub const QUESTION: &str = "SELECT sex, COUNT(*) AS persons, AVG(chol) AS chol FROM heart GROUP BY sex";

/// A world's configuration: three hospitals with this many patients each.
pub fn config(seed: u64, patients: usize) -> Config {
    config_of(seed, HOSPITALS.map(|name| people::patients(seed, name, patients)))
}

/// A world's configuration with these patients.
pub fn config_of(seed: u64, patients: [Vec<Patient>; 3]) -> Config {
    println!("seed {seed}");
    let hospitals = HOSPITALS.iter().zip(patients).map(|(name, patients)| ((*name).to_owned(), people::csv(&patients)));
    Config::new(seed, hospitals.collect(), people::SCHEMA)
}

/// A small world in which nobody has asked anything.
pub fn world(seed: u64) -> World {
    World::new(config(seed, 30)).unwrap()
}

/// Who acts for every hospital of a world with people.
pub const PEOPLE: [(&str, Role); 4] =
    [("otto", Role::Operator), ("paula", Role::PrivacyOfficer), ("stella", Role::Steward), ("stefan", Role::Steward)];

/// A configuration in which one person at each hospital must approve whatever is asked.
pub fn config_with_people(seed: u64) -> Config {
    let mut config = config(seed, 30);
    config.people = PEOPLE.iter().map(|(name, role)| ((*name).to_owned(), *role)).collect();
    config.approval = Some(ApprovalTerms {
        automatic: AutomaticApproval { approved_plans: false, classes: Vec::new() },
        hold: false,
        needed: 1,
        roles: vec![Role::Steward, Role::PrivacyOfficer],
        wait_hours: 48,
    });
    config
}

/// Asks, and lets the task come to rest before people.
pub fn ask_people(world: &mut World) -> Asked {
    let asked = world.prepare(QUESTION, "1", 0).unwrap();
    world.submit(&asked).unwrap();
    world.run_until_quiet().unwrap();
    asked
}

/// A yes to what was asked.
pub fn yes(asked: &Asked) -> Fact {
    Fact::Approval { approved: true, plan: asked.plan.hash().unwrap(), task: asked.hash, why: String::from("agreed") }
}

/// What must be true at any moment of any story, crash or no crash:
///
/// * no row was read before its price was durable;
/// * what left a node stands in its durable journal;
/// * no node let two masked vectors of one round go, or signed two survivor sets of one round;
/// * the bytes that the hub was given are those that a node announced.
pub fn demand_promises(world: &World) {
    for name in world.machine_names() {
        let machine = world.machine(&name).unwrap();
        assert!(machine.reads().iter().all(cohortium_sim::RowsRead::was_paid), "{name} read rows before paying");
        let journal = journal(world, &name);
        for (_, call) in world.wire.left.iter().filter(|(node, _)| node.as_str() == name) {
            assert!(journal.contains(call), "{name} let go what is not in its journal");
        }
    }
    let mut vectors: BTreeMap<(Name, Hash), BTreeSet<Hash>> = BTreeMap::new();
    for header in world.wire.masked() {
        vectors.entry((header.from, header.context)).or_default().insert(header.sha256);
    }
    assert!(vectors.values().all(|vectors| vectors.len() == 1), "two vectors under one mask");
    let mut sets: BTreeMap<(Name, Hash), BTreeSet<Vec<Name>>> = BTreeMap::new();
    for set in world.wire.survivor_sets() {
        sets.entry((set.from, set.context)).or_default().insert(set.survivors);
    }
    assert!(sets.values().all(|sets| sets.len() == 1), "two survivor sets of one round");
    let announced: BTreeSet<(Name, Hash)> = vectors
        .into_iter()
        .flat_map(|((from, _), hashes)| hashes.into_iter().map(move |h| (from.clone(), h)))
        .collect();
    for seen in &world.wire.seen {
        if let Seen::Vector { from, sha256, .. } = seen {
            assert!(announced.contains(&(from.clone(), *sha256)), "{from} sent bytes that it had not announced");
        }
    }
}

/// Everyone can be started again from what is durable: accounts replay, logs agree with records.
pub fn demand_restartable(world: &mut World) {
    for name in world.machine_names() {
        let before = account_sequence(world, &name);
        world.restart(&name).unwrap();
        assert_eq!(account_sequence(world, &name), before);
    }
    world.restart("hub").unwrap();
    world.run_until_quiet().unwrap();
}

/// Lets the task end, and demands that nothing came out of it: no release, no reveal, no broken promise.
pub fn demand_no_answer(world: &mut World, asked: &Asked) -> TaskStatus {
    let status = world.settle(asked).unwrap();
    assert_ne!(status.state, TaskState::Released);
    assert!(status.release.is_none());
    assert_eq!(world.wire.reveals(), 0);
    demand_promises(world);
    status
}

/// From the first such item on, nothing that the hub sends reaches these nodes.
pub fn cut_off(world: &mut World, names: &'static [&'static str], at: fn(&InboxItem) -> bool) {
    let mut gone: BTreeSet<Name> = BTreeSet::new();
    world.between_hub_and_node(move |node, item| {
        if names.contains(&node.as_str()) && at(item) {
            gone.insert(node.clone());
        }
        if gone.contains(node) { Fate::Lose } else { Fate::Deliver }
    });
}

/// What a node's journal holds.
pub fn journal(world: &World, name: &str) -> Vec<Call> {
    let records = world.machine(name).unwrap().disk.table("journal").unwrap();
    records.iter().map(|(_, bytes)| serde_json::from_slice::<JournalRecord>(bytes).unwrap().call).collect()
}

/// Where a task stands at a node, if it reached it.
pub fn run_state(world: &World, name: &str, task: Hash) -> Option<RunState> {
    world.machine(name).unwrap().node().unwrap().run(task).unwrap().map(|run| run.state)
}

/// What a node's account says about a task.
pub fn charge(world: &World, name: &str, task: Hash) -> Option<Charge> {
    account(world, name).state(&task.to_string(), 0)
}

/// ε of everything spent or reserved at a node.
pub fn spent(world: &World, name: &str) -> f64 {
    account(world, name).spent_epsilon()
}

/// How many entries a node's account has.
pub fn account_sequence(world: &World, name: &str) -> u64 {
    account(world, name).sequence()
}

fn account<'a>(world: &'a World, name: &str) -> &'a cohortium_dp::Account {
    let dataset = Name::new(DATASET).unwrap();
    world.machine(name).unwrap().node().unwrap().account(&dataset).unwrap()
}

/// The account entries of a task at a node, from its disk.
pub fn account_kinds(world: &World, name: &str, task: Hash) -> Vec<EntryKind> {
    let records = world.machine(name).unwrap().disk.table("account").unwrap();
    let entries = records.iter().map(|(_, bytes)| serde_json::from_slice::<cohortium_dp::AccountEntry>(bytes).unwrap());
    entries.filter(|entry| entry.task == task.to_string()).map(|entry| entry.kind).collect()
}

/// The kinds of a node's own log's entries about a task, in order.
pub fn own_log_of(world: &World, name: &str, task: Hash) -> Vec<&'static str> {
    let entries = own_log(world, name).into_iter().filter(|entry| entry.fact.task() == Some(task));
    entries.map(|entry| entry.fact.kind()).collect()
}

/// All entries of a node's own log.
pub fn own_log(world: &World, name: &str) -> Vec<Entry> {
    let machine = world.machine(name).unwrap();
    let seed = machine.secrets.log.expose_seed();
    let signer = cohortium_ledger::SignerKey::from_seed(name, cohortium_ledger::KeyKind::Log, &seed).unwrap();
    let log = cohortium_ledger::Log::open(&machine.log_dir(), &machine.disk.copy(), &signer).unwrap();
    (0..log.size())
        .map(|index| {
            let envelope: Envelope = serde_json::from_slice(&log.entry(index).unwrap()).unwrap();
            envelope.peek::<Entry>().unwrap().claims().clone()
        })
        .collect()
}

/// All entries of the hub's log.
pub fn log_entries(world: &mut World) -> Vec<Entry> {
    let log = world.hub_log().unwrap();
    (0..log.size())
        .map(|index| {
            let envelope: Envelope = serde_json::from_slice(&log.entry(index).unwrap()).unwrap();
            envelope.peek::<Entry>().unwrap().claims().clone()
        })
        .collect()
}

/// The kinds of the log's entries about a task, with their authors, in order.
pub fn log_of(world: &mut World, task: Hash) -> Vec<String> {
    let entries = log_entries(world).into_iter().filter(|entry| entry.fact.task() == Some(task));
    let author = |entry: &Entry| match &entry.author {
        cohortium_messages::Author::Custodian(name)
        | cohortium_messages::Author::Hub(name)
        | cohortium_messages::Author::Node(name)
        | cohortium_messages::Author::Researcher(name) => name.to_string(),
        cohortium_messages::Author::Person { person, .. } => person.to_string(),
    };
    entries.map(|entry| format!("{} {}", author(&entry), entry.fact.kind())).collect()
}

/// A party's disk, on which stories end a machine at a commit.
pub fn disk<'a>(world: &'a World, who: &str) -> &'a cohortium_sim::Disk {
    if who == "hub" { &world.hub.disk } else { &world.machine(who).unwrap().disk }
}

/// Whether a party's machine has stopped.
pub fn is_down(world: &World, who: &str) -> bool {
    if who == "hub" { !world.hub.is_up() } else { !world.machine(who).unwrap().is_up() }
}
