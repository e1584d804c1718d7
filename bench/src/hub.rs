//! `crates/hub` on a disk: calls per second that leave an entry in the log, by one caller after the other and by many who
//! wait at the same time.
//!
//! What is measured is the hub between a signed request and its signed answer: signatures, checks, a commit of its own for
//! each call, tiles, head, the witnesses' inboxes. Requests are signed before, and nothing travels. The store is SQLite with
//! `synchronous=FULL`; the directory is `target/bench-hub` below the current one, which must be on a disk.

use std::path::{Path, PathBuf};
use std::time::Instant;

use chacha20::ChaCha20Rng;
use cohortium_hub::{Hub, HubConfig};
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Author, Budgets, Call,
    DatasetTerms, Decimal, Entry, Envelope, Fact, Hash, HubEntry, Name, OrganisationSecrets, Ownership,
    PROTOCOL_VERSION, Party, Principal, PrincipalKind, ReleaseMode, Reply, Request, ResearcherSecrets, ResearcherTerms,
    Response, RiskAcceptance, RosterEntry, Schema, SecureSumTerms, SigningKey, Timestamp, canonical_bytes,
};
use cohortium_policy::{LogTerms, log_policy};
use cohortium_store::SqliteStore;
use rand_core::{Rng as _, SeedableRng as _};

use crate::clock::timed;

/// Members of the study, all of whom call.
const MEMBERS: usize = 8;
/// Callers who wait at the same time.
const WAITING: usize = 64;
/// Calls, by one caller after the other and by many: of a day each member has a thousand.
const CALLS: (usize, usize) = (256, 4096);
/// The hub's time.
const NOW_S: i64 = 1_795_305_600;

pub fn run() -> Result<(), String> {
    println!("{:<66}{:>12}{:>14}", "", "wall", "processor");
    let home = PathBuf::from("target/bench-hub");
    let _ = std::fs::remove_dir_all(&home);
    let done = measure(&home);
    let _ = std::fs::remove_dir_all(&home);
    done
}

fn measure(home: &Path) -> Result<(), String> {
    let mut world = World::new(home)?;
    for (calls, waiting) in [(CALLS.0, 1), (CALLS.1, WAITING)] {
        let requests = (0..calls).map(|number| world.alert(number)).collect::<Result<Vec<_>, _>>()?;
        let (start, mut accepted) = (Instant::now(), 0);
        let (done, seconds) = timed(|| {
            requests.chunks(waiting).try_for_each(|requests| {
                let answers = world.hub.answer_all(requests, now()).map_err(words)?;
                accepted += answers.iter().filter(|answer| is_accepted(answer)).count();
                Ok::<(), String>(())
            })
        });
        done?;
        if accepted != calls {
            return Err(format!("{accepted} of {calls} calls were taken"));
        }
        let (wall, calls) = (start.elapsed().as_secs_f64(), calls as f64);
        let name = format!("{calls} calls that leave an entry, {waiting} waiting at a time, calls/s");
        println!("{name:<66}{:>12.0}{:>14.0}", calls / wall, calls / seconds);
    }
    Ok(())
}

fn is_accepted(answer: &Envelope) -> bool {
    answer.peek::<Response>().is_ok_and(|answer| answer.claims().reply == Ok(Reply::Accepted))
}

/// A hub with one study.
struct World {
    agreement: Hash,
    hub: Hub,
    members: Vec<(Name, OrganisationSecrets)>,
    rng: ChaCha20Rng,
    study: Name,
}

impl World {
    fn new(home: &Path) -> Result<Self, String> {
        let invitations = home.join("invitations");
        std::fs::create_dir_all(&invitations).map_err(words)?;
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let config = HubConfig {
            invitations: invitations.clone(),
            log_key: SigningKey::generate(&mut rng),
            message_key: SigningKey::generate(&mut rng),
            name: name("hub")?,
            phase_timeout_s: 60,
            watch: None,
        };
        let store = SqliteStore::open(&home.join("store")).map_err(words)?;
        let hub = Hub::open(config, Box::new(store), &home.join("log")).map_err(words)?;
        let members = (0..MEMBERS).map(|number| name(&format!("member{number}")));
        let members = members.collect::<Result<Vec<_>, _>>()?.into_iter();
        let members = members.map(|name| (name, OrganisationSecrets::generate(&mut rng))).collect();
        let mut world = Self { agreement: Hash::of(b""), hub, members, rng, study: name("speed")? };
        world.join_all(&invitations)?;
        world.sign_all()?;
        Ok(world)
    }

    fn join_all(&mut self, invitations: &Path) -> Result<(), String> {
        for place in 0..self.members.len() {
            let (secret, nonce) = (self.draw(), self.draw());
            let (name, keys) = self.member(place)?;
            let record = serde_json::json!({ "name": name, "researcher": false });
            let file = invitations.join(format!("{}.json", Hash::of(secret.as_bytes())));
            std::fs::write(file, record.to_string()).map_err(words)?;
            let entry = Envelope::sign(&keys.entry(name), &keys.identity).map_err(words)?;
            let request = request(name, &keys.identity, Call::Join { entry, secret }, nonce)?;
            self.must(&request)?;
        }
        Ok(())
    }

    fn sign_all(&mut self) -> Result<(), String> {
        let entries: Vec<RosterEntry> = self.members.iter().map(|(name, keys)| keys.entry(name)).collect();
        let researcher = ResearcherSecrets::generate(&mut self.rng).entry(&name("ada")?);
        let agreement = agreement(&self.study, &self.hub.entry(), entries, ResearcherTerms { entry: researcher })?;
        self.agreement = Hash::of(&canonical_bytes(&agreement).map_err(words)?);
        for place in 0..self.members.len() {
            let nonce = self.draw();
            let (name, keys) = self.member(place)?;
            let envelope = Envelope::sign(&agreement, &keys.agreement).map_err(words)?;
            let body = Hash::of(&canonical_bytes(&envelope).map_err(words)?);
            let fact = Fact::Agreement { body, revision: 1 };
            let entry = self.entry(Author::Custodian(name.clone()), fact, &keys.agreement)?;
            let call = Call::Sign { agreement: envelope, entry };
            let request = request(name, &keys.message, call, nonce)?;
            self.must(&request)?;
        }
        Ok(())
    }

    /// A call by which one of the members says that it has noticed something.
    fn alert(&mut self, number: usize) -> Result<Envelope, String> {
        let nonce = self.draw();
        let (name, keys) = self.member(number)?;
        let why = format!("the {number}-th thing in this run, by {nonce}");
        let fact = Fact::Alert { froze: false, rule: String::from("first-pair"), task: None, why };
        let entry = self.entry(Author::Node(name.clone()), fact, &keys.message)?;
        request(name, &keys.message, Call::Log { body: None, entry }, nonce)
    }

    fn entry(&self, author: Author, fact: Fact, key: &SigningKey) -> Result<Envelope, String> {
        let entry = Entry { agreement: self.agreement, author, fact, study: self.study.clone(), time: now() };
        Envelope::sign(&entry, key).map_err(words)
    }

    fn must(&mut self, request: &Envelope) -> Result<(), String> {
        let answer = self.hub.answer(request, now()).map_err(words)?;
        if is_accepted(&answer) { Ok(()) } else { Err(format!("{:?}", answer.peek::<Response>())) }
    }

    fn member(&self, number: usize) -> Result<&(Name, OrganisationSecrets), String> {
        self.members.get(number % MEMBERS).ok_or_else(|| String::from("no member"))
    }

    fn draw(&mut self) -> Hash {
        let mut bytes = [0; 32];
        self.rng.fill_bytes(&mut bytes);
        Hash::from_bytes(bytes)
    }
}

fn request(from: &Name, key: &SigningKey, call: Call, nonce: Hash) -> Result<Envelope, String> {
    let from = Principal { kind: PrincipalKind::Organisation, name: from.clone() };
    let request = Request { call, from, nonce, protocol: PROTOCOL_VERSION, time: now() };
    Envelope::sign(&request, key).map_err(words)
}

fn agreement(
    study: &Name,
    hub: &HubEntry,
    entries: Vec<RosterEntry>,
    researcher: ResearcherTerms,
) -> Result<Agreement, String> {
    let (dataset, epsilon) = (name("rows")?, Decimal::from(10));
    let secure_sum = SecureSumTerms { colluders: 1, threshold: 6 };
    let terms = LogTerms { post_quantum: false, quorum: 6 };
    let policy = log_policy(hub, &entries.iter().collect::<Vec<_>>(), secure_sum, terms).map_err(words)?;
    let text = String::from("to measure a hub");
    Ok(Agreement {
        analyses: vec![AnalysisTerms { analysis: Analysis::Count, max_cells: 100, max_epsilon: epsilon }],
        approval: ApprovalTerms::everything_automatic(vec![dataset.clone()], epsilon),
        attack_thresholds: AttackThresholds {
            attribute_advantage: Decimal::from(1),
            membership_advantage: Decimal::from(1),
            reconstruction_rate: Decimal::from(1),
        },
        budgets: Budgets {
            delta: "0.000001".parse().map_err(words)?,
            epsilon_per_query: epsilon,
            epsilon_per_researcher: epsilon,
            epsilon_total: epsilon,
        },
        conditions: Vec::new(),
        datasets: vec![DatasetTerms { minimum_cohort: 0, mode: ReleaseMode::Noised, name: dataset, schema: schema()? }],
        hub: hub.clone(),
        log_policy: policy.to_string(),
        ownership: Ownership {
            data: text.clone(),
            models: text.clone(),
            passing_on: text.clone(),
            results: text.clone(),
        },
        parties: entries.into_iter().map(|entry| Party { entry, people: Vec::new() }).collect(),
        phases: Vec::new(),
        previous: None,
        purpose_text: text.clone(),
        purposes: vec!["HMB".parse().map_err(words)?],
        researchers: vec![researcher],
        retention_days: 1,
        revision: 1,
        risk_acceptance: RiskAcceptance { accepted_by: text.clone(), statement: text.clone() },
        secure_sum,
        study: study.clone(),
        title: text,
        valid_from: now(),
        valid_until: now().plus_seconds(86_400),
        version: AGREEMENT_VERSION,
    })
}

fn schema() -> Result<Schema, String> {
    let schema = serde_json::json!({
        "columns": [{ "name": "secret", "type": "integer", "roles": [] }],
        "max_groups_per_person": 1,
        "max_rows_per_person": 1,
    });
    serde_json::from_value(schema).map_err(words)
}

fn now() -> Timestamp {
    Timestamp::from_seconds(NOW_S)
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(words)
}

fn words(error: impl std::fmt::Display) -> String {
    error.to_string()
}
