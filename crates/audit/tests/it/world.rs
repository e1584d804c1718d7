//! A log built with the real keys, accounts, prices and tree, before it is written: tests make one thing wrong with it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use chacha20::ChaCha20Rng;
use cohortium_audit::{AuditError, AuditReport, verify};
use cohortium_dp::account::Reservation;
use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, NanoNats, Next};
use cohortium_ledger::tile::{self, TileKind};
use cohortium_ledger::{Checkpoint, Frontier, KeyKind, SignedCheckpoint, SignerKey, VerifierKey, tree};
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Author, Bounding, Budgets,
    DatasetTerms, Document, Entry, Envelope, Fact, Hash, HubEntry, Measure, Name, OrganisationSecrets, Output,
    OutputColumn, Ownership, PLAN_VERSION, PROTOCOL_VERSION, Party, PersonEntry, Plan, RELEASE_VERSION, Receipt,
    ReleaseDocument, ReleaseMode, ResearcherSecrets, ResearcherTerms, RiskAcceptance, Role, RosterEntry, RoundContext,
    SecureSumTerms, SigningKey, SurvivorSet, Task, Timestamp, Verified, canonical_bytes, encode_cells,
};
use cohortium_policy::{LogTerms, log_policy};
use cohortium_query::Priced;
use rand_core::SeedableRng as _;

/// Four organisations, of which `a`, `b` and `c` are in the study, a researcher, and a hub.
pub struct World {
    pub agreement: Verified<Agreement>,
    pub envelope: Envelope,
    pub houses: Vec<(Name, OrganisationSecrets)>,
    pub hub_key: SigningKey,
    pub log_key: SigningKey,
    /// The keys of the people of each house.
    pub people: Vec<Vec<SigningKey>>,
    pub researcher: ResearcherSecrets,
}

/// The people of each house.
pub const PEOPLE: [(&str, Role); 4] =
    [("paula", Role::PrivacyOfficer), ("stella", Role::Steward), ("stefan", Role::Steward), ("otto", Role::Operator)];
pub const PAULA: usize = 0;
pub const STELLA: usize = 1;
pub const STEFAN: usize = 2;
pub const OTTO: usize = 3;

/// Who signs an entry.
#[derive(Clone, Copy)]
pub enum Key {
    Custodian(usize),
    Hub,
    Node(usize),
    /// The house, and the place in [`PEOPLE`].
    Person(usize, usize),
    Researcher,
}

/// An entry before it is signed, with the document beside it.
#[derive(Clone)]
pub struct Line {
    pub body: Option<Vec<u8>>,
    pub entry: Entry,
    pub key: Key,
}

/// A log to be: signed and written when a test has done with it what it wants.
pub struct Story {
    pub lines: Vec<Line>,
    pub world: World,
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

pub fn start() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

impl World {
    pub fn new(edit: impl FnOnce(&mut Agreement)) -> Self {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let houses: Vec<(Name, OrganisationSecrets)> =
            ["a", "b", "c", "d"].iter().map(|text| (name(text), OrganisationSecrets::generate(&mut rng))).collect();
        let researcher = ResearcherSecrets::generate(&mut rng);
        let (hub_key, log_key) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let hub = HubEntry { hub: name("hub"), log_key: log_key.public(), message_key: hub_key.public() };
        let people: Vec<Vec<SigningKey>> =
            houses.iter().map(|_| PEOPLE.map(|_| SigningKey::generate(&mut rng)).into()).collect();
        let mut agreement = agreement("heart-study", hub, &houses[..3], &researcher);
        agreement.parties.iter_mut().zip(&people).for_each(|(party, keys)| party.people = staff(keys));
        edit(&mut agreement);
        let envelope = signed_by_all(&agreement, &houses[..3]);
        let agreement = cohortium_policy::open_agreement(&envelope).unwrap();
        Self { agreement, envelope, houses, hub_key, log_key, people, researcher }
    }

    pub fn key(&self, key: Key) -> &SigningKey {
        match key {
            Key::Custodian(house) => &self.houses[house].1.agreement,
            Key::Hub => &self.hub_key,
            Key::Node(house) => &self.houses[house].1.message,
            Key::Person(house, person) => &self.people[house][person],
            Key::Researcher => &self.researcher.key,
        }
    }

    pub fn author(&self, key: Key) -> Author {
        match key {
            Key::Custodian(house) => Author::Custodian(self.houses[house].0.clone()),
            Key::Hub => Author::Hub(name("hub")),
            Key::Node(house) => Author::Node(self.houses[house].0.clone()),
            Key::Person(house, person) => {
                Author::Person { organisation: self.houses[house].0.clone(), person: name(PEOPLE[person].0) }
            }
            Key::Researcher => Author::Researcher(name("rosa")),
        }
    }

    pub fn line(&self, key: Key, fact: Fact, body: Option<Vec<u8>>) -> Line {
        let (agreement, study) = (self.agreement.hash(), self.agreement.study.clone());
        let entry = Entry { agreement, author: self.author(key), fact, study, time: start().plus_seconds(60) };
        Line { body, entry, key }
    }

    /// Each custodian's entry about its own copy of an agreement.
    pub fn agreed(&self, agreement: &Agreement, custodians: &[usize]) -> Vec<Line> {
        let line = |house: &usize| {
            let copy = Envelope::sign(agreement, &self.houses[*house].1.agreement).unwrap();
            let body = canonical_bytes(&copy).unwrap();
            let fact = Fact::Agreement { body: Hash::of(&body), revision: agreement.revision };
            let mut line = self.line(Key::Custodian(*house), fact, Some(body));
            line.entry.agreement = Hash::of(&canonical_bytes(agreement).unwrap());
            line.entry.study = agreement.study.clone();
            line
        };
        custodians.iter().map(line).collect()
    }

    pub fn task(&self, nonce: &str, purpose: &str) -> Task {
        Task {
            affirms: Vec::new(),
            asked_at: start(),
            nonce: Hash::of(nonce.as_bytes()),
            participants: self.agreement.participants(),
            plan: Plan {
                agreement: self.agreement.hash(),
                bounding: Bounding { max_groups: 1, max_rows: 1 },
                dataset: name("heart"),
                draw: 0,
                filter: None,
                group_by: vec![name("sex")],
                limit: None,
                measures: vec![Measure::Rows],
                order_by: Vec::new(),
                outputs: vec![Output { name: String::from("persons"), value: OutputColumn::Count(0) }],
                rho: NanoNats::new(1_000_000),
                version: PLAN_VERSION,
            },
            protocol: PROTOCOL_VERSION,
            purpose: purpose.parse().unwrap(),
            researcher: name("rosa"),
            rounds: 1,
            sql: String::from("SELECT COUNT(*) AS persons FROM heart GROUP BY sex"),
            study: self.agreement.study.clone(),
        }
    }

    pub fn asked(&self, task: &Task, signer: &SigningKey) -> Line {
        let body = canonical_bytes(&Envelope::sign(task, signer).unwrap()).unwrap();
        let fact = Fact::Task { body: Hash::of(&body), plan: task.plan.hash().unwrap(), task: hash_of(task) };
        self.line(Key::Researcher, fact, Some(body))
    }

    pub fn priced(&self, task: &Task) -> Priced {
        cohortium_query::check(&task.plan, &self.agreement, self.agreement.hash()).unwrap()
    }

    pub fn permit(&self, house: usize, account: &mut Account, task: &Task) -> Line {
        let ask = Reservation {
            researcher: format!("{}/{}", task.study, task.researcher),
            study: task.study.to_string(),
            task: hash_of(task).to_string(),
            round: 0,
            price: self.priced(task).price().clone(),
            time: None,
        };
        let next = account.reserve(&ask).unwrap();
        let entry = Box::new(write(account, next));
        let plan = task.plan.hash().unwrap();
        let fact = Fact::Permit { account: entry, plan, snapshot: Hash::of(b"rows"), task: hash_of(task) };
        self.line(Key::Node(house), fact, None)
    }

    pub fn spent(&self, house: usize, account: &mut Account, task: &Task) -> Line {
        let key = hash_of(task).to_string();
        let next = account.start_reading(&key, 0, None).unwrap();
        let reading = write(account, next);
        let next = account.spend(&key, 0, None).unwrap();
        let spend = write(account, next);
        self.line(Key::Node(house), Fact::Price { account: vec![reading, spend], task: hash_of(task) }, None)
    }

    pub fn refunded(&self, house: usize, account: &mut Account, task: &Task) -> Line {
        let next = account.refund(&hash_of(task).to_string(), 0, None).unwrap();
        let fact = Fact::Price { account: vec![write(account, next)], task: hash_of(task) };
        self.line(Key::Node(house), fact, None)
    }

    /// The round's context for a task at this position of the log.
    pub fn context(&self, task: &Task, position: u64) -> RoundContext {
        self.priced(task).round_context(&self.agreement, hash_of(task), position)
    }

    pub fn released(&self, task: &Task, accounts: &[Account], edit: impl Fn(&mut Receipt)) -> Line {
        let priced = self.priced(task);
        let receipt = |house: usize| {
            let mut receipt = Receipt {
                account_head: accounts[house].head().parse().unwrap(),
                account_sequence: accounts[house].sequence(),
                agreement: self.agreement.hash(),
                context: self.context(task, 3).hash().unwrap(),
                dataset: name("heart"),
                masked: Hash::of(b"masked"),
                organisation: self.houses[house].0.clone(),
                plan: priced.plan_hash(),
                snapshot: Hash::of(b"rows"),
                task: hash_of(task),
            };
            edit(&mut receipt);
            Envelope::sign(&receipt, &self.houses[house].1.message).unwrap()
        };
        let consent = |(from, secrets): &(Name, OrganisationSecrets)| {
            let (context, survivors) = (self.context(task, 3).hash().unwrap(), self.agreement.participants());
            Envelope::sign(&SurvivorSet { context, from: from.clone(), survivors }, &secrets.message).unwrap()
        };
        let document = ReleaseDocument {
            agreement: self.agreement.hash(),
            cells: encode_cells(&vec![7; priced.layout().cells()]),
            consents: self.houses.iter().take(3).map(consent).collect(),
            noise_variance: priced.noise().remaining_total_variance(3).unwrap().to_string(),
            plan: priced.plan_hash(),
            receipts: (0..3).map(receipt).collect(),
            released_at: start().plus_seconds(60),
            study: self.agreement.study.clone(),
            suppressed: Vec::new(),
            survivors: self.agreement.participants(),
            task: hash_of(task),
            version: RELEASE_VERSION,
        };
        let body = canonical_bytes(&Envelope::sign(&document, &self.hub_key).unwrap()).unwrap();
        let fact = Fact::Release { body: Hash::of(&body), release: hash_of(&document), task: hash_of(task) };
        self.line(Key::Hub, fact, Some(body))
    }
}

pub fn agreement(
    study: &str,
    hub: HubEntry,
    houses: &[(Name, OrganisationSecrets)],
    researcher: &ResearcherSecrets,
) -> Agreement {
    let schema = r#"{"columns": [
        {"name": "age", "type": "integer", "bounds": ["0", "120"], "roles": ["filter", "aggregate"]},
        {"name": "sex", "type": "integer", "domain": [{"number": "0"}, {"number": "1"}], "roles": ["group"]}
    ], "max_groups_per_person": 1, "max_rows_per_person": 1}"#;
    let secure_sum = SecureSumTerms { colluders: 1, threshold: (houses.len() as u32).div_ceil(2) + 1 };
    let parties: Vec<Party> =
        houses.iter().map(|(name, keys)| Party { entry: keys.entry(name), people: Vec::new() }).collect();
    Agreement {
        analyses: vec![AnalysisTerms { analysis: Analysis::Count, max_cells: 1000, max_epsilon: 1.into() }],
        approval: ApprovalTerms::everything_automatic(vec![name("heart")], 1.into()),
        attack_thresholds: AttackThresholds {
            attribute_advantage: 1.into(),
            membership_advantage: 1.into(),
            reconstruction_rate: 1.into(),
        },
        budgets: Budgets {
            delta: "0.000001".parse().unwrap(),
            epsilon_per_query: 1.into(),
            epsilon_per_researcher: 5.into(),
            epsilon_total: 10.into(),
        },
        conditions: Vec::new(),
        datasets: vec![DatasetTerms {
            minimum_cohort: 0,
            mode: ReleaseMode::Noised,
            name: name("heart"),
            schema: serde_json::from_str(schema).unwrap(),
        }],
        log_policy: policy_of(
            &hub,
            &parties,
            secure_sum,
            LogTerms { post_quantum: false, quorum: secure_sum.threshold },
        ),
        hub,
        ownership: Ownership {
            data: "each its own".into(),
            models: "all".into(),
            passing_on: "results only".into(),
            results: "all".into(),
        },
        parties,
        phases: Vec::new(),
        previous: None,
        purpose_text: "age and sex".into(),
        purposes: vec!["HMB".parse().unwrap()],
        researchers: vec![ResearcherTerms { entry: researcher.entry(&name("rosa")) }],
        retention_days: 365,
        revision: 1,
        risk_acceptance: RiskAcceptance { accepted_by: "the board".into(), statement: "accepted".into() },
        secure_sum,
        study: name(study),
        title: "Age and sex".into(),
        valid_from: start(),
        valid_until: start().plus_seconds(365 * 86_400),
        version: AGREEMENT_VERSION,
    }
}

/// Whose cosignatures make a head count.
pub fn policy_of(hub: &HubEntry, parties: &[Party], secure_sum: SecureSumTerms, terms: LogTerms) -> String {
    let entries: Vec<&RosterEntry> = parties.iter().map(|party| &party.entry).collect();
    log_policy(hub, &entries, secure_sum, terms).unwrap().to_string()
}

/// The people of a house, with these keys.
pub fn staff(keys: &[SigningKey]) -> Vec<PersonEntry> {
    let entry = |((person, role), key): (&(&str, Role), &SigningKey)| PersonEntry {
        key: key.public(),
        person: name(person),
        role: *role,
    };
    PEOPLE.iter().zip(keys).map(entry).collect()
}

pub fn signed_by_all(agreement: &Agreement, houses: &[(Name, OrganisationSecrets)]) -> Envelope {
    let mut envelope = Envelope::sign(agreement, &houses[0].1.agreement).unwrap();
    houses.iter().for_each(|(_, keys)| envelope.also_sign(&keys.agreement).unwrap());
    envelope
}

/// The document beside a line.
pub fn opened<T: Document + Clone>(line: &Line) -> T {
    let envelope: Envelope = serde_json::from_slice(line.body.as_ref().unwrap()).unwrap();
    envelope.peek::<T>().unwrap().claims().clone()
}

pub fn hash_of<T: Document>(document: &T) -> Hash {
    Hash::of(&canonical_bytes(document).unwrap())
}

/// An account that never refuses: the agreement's caps are the audit's to check.
pub fn account() -> Account {
    let budget = Budget::new(NanoNats::new(900_000_000_000), AttoDelta::new(1_000_000_000_000).unwrap()).unwrap();
    let (studies, researchers) = Default::default();
    Account::new(AccountConfig { dataset: "heart".into(), budget, studies, researchers }).unwrap()
}

pub fn write(account: &mut Account, next: Next) -> AccountEntry {
    let Next::Write(entry) = next else { panic!("expected an entry") };
    drop(account.apply(&entry).unwrap());
    *entry
}

// Where what stands in the good story.
pub const TASK: usize = 3;
pub const PERMIT_A: usize = 4;
pub const PERMIT_B: usize = 5;
pub const PRICE_A: usize = 7;
pub const PRICE_B: usize = 8;
pub const PRICE_C: usize = 9;
pub const RELEASE: usize = 10;
pub const SECOND_PERMIT_A: usize = 12;
pub const FAILURE: usize = 15;
pub const SECOND_PRICE_A: usize = 16;
pub const REFUSED: usize = 18;
pub const REFUSAL: usize = 19;

impl Story {
    /// Three custodians agree; one task is released; one fails, and `c` has not settled it; one is refused by the hub.
    pub fn good() -> Self {
        Self::with(|_| (), |_| ())
    }

    pub fn with(edit: impl FnOnce(&mut Agreement), edit_receipt: impl Fn(&mut Receipt)) -> Self {
        let world = World::new(edit);
        let mut accounts = [account(), account(), account()];
        let mut lines = world.agreed(&world.agreement, &[0, 1, 2]);
        let first = world.task("first", "HMB");
        lines.push(world.asked(&first, &world.researcher.key));
        lines.extend((0..3).map(|house| world.permit(house, &mut accounts[house], &first)));
        lines.extend((0..3).map(|house| world.spent(house, &mut accounts[house], &first)));
        lines.push(world.released(&first, &accounts, edit_receipt));
        let second = world.task("second", "HMB");
        lines.push(world.asked(&second, &world.researcher.key));
        lines.extend((0..3).map(|house| world.permit(house, &mut accounts[house], &second)));
        let failed = Fact::Failure { reason: String::from("no answer in time from c"), task: hash_of(&second) };
        lines.push(world.line(Key::Hub, failed, None));
        lines.extend((0..2).map(|house| world.refunded(house, &mut accounts[house], &second)));
        let third = world.task("third", "GRU");
        lines.push(world.asked(&third, &world.researcher.key));
        let clauses = vec![String::from("heart-study/purpose")];
        let refusal = Fact::Refusal { clauses, task: hash_of(&third), why: String::from("not for this") };
        lines.push(world.line(Key::Hub, refusal, None));
        Self { lines, world }
    }

    pub fn leaves(&self) -> Vec<Vec<u8>> {
        let sign = |line: &Line| canonical_bytes(&Envelope::sign(&line.entry, self.world.key(line.key)).unwrap());
        self.lines.iter().map(|line| sign(line).unwrap()).collect()
    }

    pub fn write(&self) -> Scratch {
        self.write_leaves(&self.leaves(), &[0, 1, 2])
    }

    pub fn write_leaves(&self, leaves: &[Vec<u8>], witnesses: &[usize]) -> Scratch {
        let bodies: Vec<&[u8]> = self.lines.iter().filter_map(|line| line.body.as_deref()).collect();
        let scratch = Scratch::new();
        let cosign = |head| self.cosigned(head, witnesses);
        write_log(&scratch, "hub", &self.world.log_key, leaves, &bodies, cosign);
        scratch
    }

    /// The head, with the cosignatures of these houses.
    pub fn cosigned(&self, head: SignedCheckpoint, witnesses: &[usize]) -> SignedCheckpoint {
        let signers: Vec<SignerKey> = witnesses.iter().map(|house| self.witness(*house)).collect();
        cosigned_by(head, &signers)
    }

    pub fn witness(&self, house: usize) -> SignerKey {
        let (name, keys) = &self.world.houses[house];
        SignerKey::from_seed(name.as_str(), KeyKind::Witness, &keys.witness.expose_seed()).unwrap()
    }

    pub fn verify(&self) -> Result<AuditReport, AuditError> {
        verify(&self.write().0, &self.world.envelope)
    }

    pub fn account(&mut self, line: usize, position: usize) -> &mut AccountEntry {
        match &mut self.lines[line].entry.fact {
            Fact::Permit { account, .. } => account,
            Fact::Price { account, .. } => &mut account[position],
            other => panic!("{} has no account entry", other.kind()),
        }
    }
}

/// The head, with the cosignatures of these keys.
pub fn cosigned_by(head: SignedCheckpoint, signers: &[SignerKey]) -> SignedCheckpoint {
    let keys: Vec<VerifierKey> = signers.iter().map(|signer| signer.verifier().clone()).collect();
    let cosign = |head: SignedCheckpoint, signer: &SignerKey| {
        let line = signer.cosign(head.note().text(), 1_800_000_000).unwrap();
        head.with_cosignature(line, &keys).unwrap()
    };
    signers.iter().fold(head, cosign)
}

/// Writes the files of a log of at most 255 entries, as `Log` does but for making each of them durable: tests write hundreds.
pub fn write_log(
    scratch: &Scratch,
    origin: &str,
    key: &SigningKey,
    leaves: &[Vec<u8>],
    bodies: &[&[u8]],
    cosign: impl FnOnce(SignedCheckpoint) -> SignedCheckpoint,
) {
    let hashes: Vec<tree::Hash> = leaves.iter().map(|leaf| tree::leaf_hash(leaf)).collect();
    let mut frontier = Frontier::new();
    hashes.iter().for_each(|hash| frontier.append(*hash).unwrap());
    let size = frontier.size();
    assert!(size < 256);
    for (kind, bytes) in
        [(TileKind::Entries, tile::encode_bundle(leaves).unwrap()), (TileKind::Hashes(0), tile::encode_hashes(&hashes))]
    {
        let tile = tile::tile_at(kind, 0, size).unwrap();
        put(scratch, &tile.path(), &bytes);
    }
    bodies.iter().for_each(|body| put(scratch, &format!("body/{}", Hash::of(body)), body));
    let signer = SignerKey::from_seed(origin, KeyKind::Log, &key.expose_seed()).unwrap();
    let head = Checkpoint::new(origin, size, frontier.root()).unwrap();
    put(scratch, "checkpoint", cosign(SignedCheckpoint::sign(head, &signer).unwrap()).to_string().as_bytes());
}

/// Writes a file of a log.
pub fn put(scratch: &Scratch, path: &str, bytes: &[u8]) {
    let file = scratch.0.join(path);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
}

/// Every file under a folder, by its path.
pub fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for item in std::fs::read_dir(folder).unwrap() {
            let path = item.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                found.insert(name, std::fs::read(path).unwrap());
            }
        }
    }
    found
}

/// A directory that goes when the test is over.
pub struct Scratch(pub PathBuf);

impl Scratch {
    pub fn new() -> Self {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let unique = format!("cohortium-audit-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
