//! A log built with the real keys, accounts, prices and tree; then one thing is wrong with it, and the audit must say
//! what and where.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use chacha20::ChaCha20Rng;
use cohortium_dp::account::{GENESIS, Reservation};
use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, NanoNats, Next};
use cohortium_ledger::{KeyKind, Log, SignerKey};
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Bounding, Budgets,
    DatasetTerms, Document, Entry, Hash, HubEntry, Measure, Name, OrganisationSecrets, Output, OutputColumn, Ownership,
    PLAN_VERSION, PROTOCOL_VERSION, Party, Plan, RELEASE_VERSION, Receipt, ReleaseDocument, ReleaseMode,
    ResearcherSecrets, ResearcherTerms, RiskAcceptance, RosterEntry, RoundContext, SecureSumTerms, SigningKey,
    SurvivorSet, Task, Timestamp, Verified, canonical_bytes, encode_cells,
};
use cohortium_policy::{LogTerms, log_policy};
use cohortium_query::Priced;
use cohortium_store::{Batch, MemoryStore, Store as _};
use rand_core::SeedableRng as _;

use super::*;

// ---------------------------------------------------------------- the world

/// Four organisations, of which `a`, `b` and `c` are in the study, a researcher, and a hub.
struct World {
    agreement: Verified<Agreement>,
    envelope: Envelope,
    houses: Vec<(Name, OrganisationSecrets)>,
    hub_key: SigningKey,
    log_key: SigningKey,
    researcher: ResearcherSecrets,
}

/// Who signs an entry.
#[derive(Clone, Copy)]
enum Key {
    Custodian(usize),
    Hub,
    Node(usize),
    Researcher,
}

/// An entry before it is signed, with the document beside it.
#[derive(Clone)]
struct Line {
    body: Option<Vec<u8>>,
    entry: Entry,
    key: Key,
}

/// A log to be: signed and written when a test has done with it what it wants.
struct Story {
    lines: Vec<Line>,
    world: World,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn start() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

impl World {
    fn new(edit: impl FnOnce(&mut Agreement)) -> Self {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let houses: Vec<(Name, OrganisationSecrets)> =
            ["a", "b", "c", "d"].iter().map(|text| (name(text), OrganisationSecrets::generate(&mut rng))).collect();
        let researcher = ResearcherSecrets::generate(&mut rng);
        let (hub_key, log_key) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let hub = HubEntry { hub: name("hub"), log_key: log_key.public(), message_key: hub_key.public() };
        let mut agreement = agreement("heart-study", hub, &houses[..3], &researcher);
        edit(&mut agreement);
        let envelope = signed_by_all(&agreement, &houses[..3]);
        let agreement = cohortium_policy::open_agreement(&envelope).unwrap();
        Self { agreement, envelope, houses, hub_key, log_key, researcher }
    }

    fn key(&self, key: Key) -> &SigningKey {
        match key {
            Key::Custodian(house) => &self.houses[house].1.agreement,
            Key::Hub => &self.hub_key,
            Key::Node(house) => &self.houses[house].1.message,
            Key::Researcher => &self.researcher.key,
        }
    }

    fn author(&self, key: Key) -> Author {
        match key {
            Key::Custodian(house) => Author::Custodian(self.houses[house].0.clone()),
            Key::Hub => Author::Hub(name("hub")),
            Key::Node(house) => Author::Node(self.houses[house].0.clone()),
            Key::Researcher => Author::Researcher(name("rosa")),
        }
    }

    fn line(&self, key: Key, fact: Fact, body: Option<Vec<u8>>) -> Line {
        let (agreement, study) = (self.agreement.hash(), self.agreement.study.clone());
        let entry = Entry { agreement, author: self.author(key), fact, study, time: start().plus_seconds(60) };
        Line { body, entry, key }
    }

    /// Each custodian's entry about its own copy of an agreement.
    fn agreed(&self, agreement: &Agreement, custodians: &[usize]) -> Vec<Line> {
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

    fn task(&self, nonce: &str, purpose: &str) -> Task {
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

    fn asked(&self, task: &Task, signer: &SigningKey) -> Line {
        let body = canonical_bytes(&Envelope::sign(task, signer).unwrap()).unwrap();
        let fact = Fact::Task { body: Hash::of(&body), plan: task.plan.hash().unwrap(), task: hash_of(task) };
        self.line(Key::Researcher, fact, Some(body))
    }

    fn priced(&self, task: &Task) -> Priced {
        cohortium_query::check(&task.plan, &self.agreement, self.agreement.hash()).unwrap()
    }

    fn permit(&self, house: usize, account: &mut Account, task: &Task) -> Line {
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

    fn spent(&self, house: usize, account: &mut Account, task: &Task) -> Line {
        let key = hash_of(task).to_string();
        let next = account.start_reading(&key, 0, None).unwrap();
        let reading = write(account, next);
        let next = account.spend(&key, 0, None).unwrap();
        let spend = write(account, next);
        self.line(Key::Node(house), Fact::Price { account: vec![reading, spend], task: hash_of(task) }, None)
    }

    fn refunded(&self, house: usize, account: &mut Account, task: &Task) -> Line {
        let next = account.refund(&hash_of(task).to_string(), 0, None).unwrap();
        let fact = Fact::Price { account: vec![write(account, next)], task: hash_of(task) };
        self.line(Key::Node(house), fact, None)
    }

    /// The round's context for a task at this position of the log.
    fn context(&self, task: &Task, position: u64) -> RoundContext {
        self.priced(task).round_context(&self.agreement, hash_of(task), position)
    }

    fn released(&self, task: &Task, accounts: &[Account], edit: impl Fn(&mut Receipt)) -> Line {
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
            survivors: self.agreement.participants(),
            task: hash_of(task),
            suppressed: Vec::new(),
            version: RELEASE_VERSION,
        };
        let body = canonical_bytes(&Envelope::sign(&document, &self.hub_key).unwrap()).unwrap();
        let fact = Fact::Release { body: Hash::of(&body), release: hash_of(&document), task: hash_of(task) };
        self.line(Key::Hub, fact, Some(body))
    }
}

fn agreement(
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
    let entries: Vec<&RosterEntry> = parties.iter().map(|party| &party.entry).collect();
    let log_terms = LogTerms { post_quantum: false, quorum: secure_sum.threshold };
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
        log_policy: log_policy(&hub, &entries, secure_sum, log_terms).unwrap().to_string(),
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

fn signed_by_all(agreement: &Agreement, houses: &[(Name, OrganisationSecrets)]) -> Envelope {
    let mut envelope = Envelope::sign(agreement, &houses[0].1.agreement).unwrap();
    houses.iter().for_each(|(_, keys)| envelope.also_sign(&keys.agreement).unwrap());
    envelope
}

fn hash_of<T: Document>(document: &T) -> Hash {
    Hash::of(&canonical_bytes(document).unwrap())
}

/// An account that never refuses: the agreement's caps are the audit's to check.
fn account() -> Account {
    let budget = Budget::new(NanoNats::new(900_000_000_000), AttoDelta::new(1_000_000_000_000).unwrap()).unwrap();
    let (studies, researchers) = Default::default();
    Account::new(AccountConfig { dataset: "heart".into(), budget, studies, researchers }).unwrap()
}

fn write(account: &mut Account, next: Next) -> AccountEntry {
    let Next::Write(entry) = next else { panic!("expected an entry") };
    drop(account.apply(&entry).unwrap());
    *entry
}

// Where what stands in the good story.
const TASK: usize = 3;
const PERMIT_A: usize = 4;
const PERMIT_B: usize = 5;
const PRICE_A: usize = 7;
const PRICE_B: usize = 8;
const PRICE_C: usize = 9;
const RELEASE: usize = 10;
const SECOND_PERMIT_A: usize = 12;
const SECOND_PRICE_A: usize = 16;
const REFUSED: usize = 18;
const REFUSAL: usize = 19;

impl Story {
    /// Three custodians agree; one task is released; one fails, and `c` has not settled it; one is refused by the hub.
    fn good() -> Self {
        Self::with(|_| (), |_| ())
    }

    fn with(edit: impl FnOnce(&mut Agreement), edit_receipt: impl Fn(&mut Receipt)) -> Self {
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

    fn leaves(&self) -> Vec<Vec<u8>> {
        let sign = |line: &Line| canonical_bytes(&Envelope::sign(&line.entry, self.world.key(line.key)).unwrap());
        self.lines.iter().map(|line| sign(line).unwrap()).collect()
    }

    fn write(&self) -> Scratch {
        self.write_leaves(&self.leaves(), &[0, 1, 2])
    }

    fn write_leaves(&self, leaves: &[Vec<u8>], witnesses: &[usize]) -> Scratch {
        let bodies: Vec<&[u8]> = self.lines.iter().filter_map(|line| line.body.as_deref()).collect();
        let scratch = Scratch::new();
        write_log(&scratch, "hub", &self.world.log_key, leaves, &bodies, |mut head| {
            let signers: Vec<SignerKey> = witnesses.iter().map(|house| self.witness(*house)).collect();
            let keys: Vec<_> = signers.iter().map(|signer| signer.verifier().clone()).collect();
            for signer in &signers {
                let line = signer.cosign(head.note().text(), 1_800_000_000).unwrap();
                head = head.with_cosignature(line, &keys).unwrap();
            }
            (head.to_string(), keys)
        });
        scratch
    }

    fn witness(&self, house: usize) -> SignerKey {
        let (name, keys) = &self.world.houses[house];
        SignerKey::from_seed(name.as_str(), KeyKind::Witness, &keys.witness.expose_seed()).unwrap()
    }

    fn verify(&self) -> Result<AuditReport, AuditError> {
        verify(&self.write().0, &self.world.envelope)
    }

    fn account(&mut self, line: usize, position: usize) -> &mut AccountEntry {
        match &mut self.lines[line].entry.fact {
            Fact::Permit { account, .. } => account,
            Fact::Price { account, .. } => &mut account[position],
            other => panic!("{} has no account entry", other.kind()),
        }
    }
}

fn write_log(
    scratch: &Scratch,
    origin: &str,
    key: &SigningKey,
    leaves: &[Vec<u8>],
    bodies: &[&[u8]],
    cosign: impl FnOnce(cohortium_ledger::SignedCheckpoint) -> (String, Vec<cohortium_ledger::VerifierKey>),
) {
    let mut store = MemoryStore::new();
    let signer = SignerKey::from_seed(origin, KeyKind::Log, &key.expose_seed()).unwrap();
    let mut log = Log::open(&scratch.0, &store, &signer).unwrap();
    for body in bodies {
        log.put_body(body).unwrap();
    }
    let mut batch = Batch::new();
    let staged = log.stage(leaves, &mut batch).unwrap();
    store.commit(batch).unwrap();
    let head = log.apply(staged, &store, &signer).unwrap();
    let (note, keys) = cosign(head);
    log.set_cosigned(note.as_bytes(), &keys).unwrap();
}

/// A directory that goes when the test is over.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
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

// ---------------------------------------------------------------- what is right

#[test]
fn a_good_log_is_reported() {
    let story = Story::good();
    let report = story.verify().unwrap();
    let kinds =
        [("agreement", 3), ("failure", 1), ("permit", 6), ("price", 5), ("refusal", 1), ("release", 1), ("task", 3)];
    let found: Vec<(&str, u64)> = report.entries.clone().into_iter().filter(|(_, count)| *count > 0).collect();
    assert_eq!(found, kinds);
    assert_eq!((report.log.size, report.log.origin.as_str()), (20, "hub"));
    assert_eq!(report.log.cosigned_by.len(), 3);
    assert_eq!(report.studies.len(), 1);

    let release = hash_of(&opened::<ReleaseDocument>(&story.lines[RELEASE]));
    let outcomes: Vec<&Outcome> = report.tasks.iter().map(|task| &task.outcome).collect();
    let reason = String::from("no answer in time from c");
    let clauses = vec![String::from("hub: heart-study/purpose")];
    let expected =
        [&Outcome::Released { entry: 10, release }, &Outcome::Failed { reason }, &Outcome::Refused { clauses }];
    assert_eq!(outcomes, expected);

    // ε of the one task at δ = 10^-6, as `query` states it; the account's own is a little more (δ over all orders).
    let alone = report.tasks[0].epsilon_micro.unwrap() as f64 / 1e6;
    let [a, b, c] = report.accounts.as_slice() else { panic!("three accounts") };
    assert!(a.epsilon_spent >= alone && a.epsilon_spent < 1.3 * alone, "{} of {alone}", a.epsilon_spent);
    assert_eq!((a.sequence, b.sequence, c.sequence), (5, 5, 4));
    assert_eq!(a.epsilon_spent, b.epsilon_spent);
    assert!(c.epsilon_spent > a.epsilon_spent, "c holds a reservation that it has not given back");
    let findings: Vec<_> = report.findings.iter().map(|finding| (finding.kind, finding.entry)).collect();
    assert_eq!(findings, [(FindingKind::Unsettled, Some(11))]);
    assert!(serde_json::to_string(&report).unwrap().contains(r#""outcome":{"state":"released""#));
}

fn opened<T: Document + Clone>(line: &Line) -> T {
    let envelope: Envelope = serde_json::from_slice(line.body.as_ref().unwrap()).unwrap();
    envelope.peek::<T>().unwrap().claims().clone()
}

/// The head is cosigned by a member of another study; an unfinished agreement is not judged; a complete one is.
#[test]
fn other_studies_are_covered_when_their_agreement_is_complete() {
    for (custodians, covered) in [(&[2usize, 3][..], true), (&[2][..], false)] {
        let mut story = Story::good();
        let world = &story.world;
        let other = agreement("other-study", world.agreement.hub.clone(), &world.houses[2..], &world.researcher);
        story.lines.extend(world.agreed(&other, custodians));
        let leaves = story.leaves();
        let witnesses: &[usize] = if covered { &[0, 1, 2, 3] } else { &[0, 1, 2] };
        let report = verify(&story.write_leaves(&leaves, witnesses).0, &story.world.envelope).unwrap();
        let not_covered = report.findings.iter().any(|finding| finding.kind == FindingKind::NotCovered);
        assert_eq!((report.studies.len() == 2, not_covered), (covered, !covered));
        let given: Vec<bool> = report.studies.iter().map(|study| study.given).collect();
        assert_eq!(given.iter().filter(|given| **given).count(), 1);
        assert_eq!(report.accounts.len(), if covered { 5 } else { 3 });
    }
    // A signer whom no agreement in the log knows is nobody.
    let story = Story::good();
    let found = verify(&story.write_leaves(&story.leaves(), &[0, 1, 2, 3]).0, &story.world.envelope);
    assert!(matches!(found, Err(AuditError::Log(_))), "{found:?}");
}

/// A task that is still open can account for two entries that the log does not show, and for no third.
#[test]
fn a_gap_is_a_finding_if_a_task_can_account_for_it_and_an_error_if_none_can() {
    for (missing, fits) in [(1, true), (2, true), (3, false)] {
        let mut story = Story::good();
        let number = story.account(SECOND_PERMIT_A, 0).sequence + missing;
        let permit = story.account(SECOND_PERMIT_A, 0);
        (permit.sequence, permit.previous) = (number, Hash::of(b"what the log does not show").to_string());
        let head = permit.hash_hex().unwrap();
        let refund = story.account(SECOND_PRICE_A, 0);
        (refund.sequence, refund.previous) = (number + 1, head);
        match story.verify() {
            Ok(report) => {
                assert!(fits, "{missing}");
                let gap = report.findings.iter().find(|finding| finding.kind == FindingKind::Gap).unwrap();
                assert_eq!(gap.entry, Some(SECOND_PERMIT_A as u64));
                assert!(gap.text.contains(&format!("{missing} entries of the account of heart at a")), "{}", gap.text);
            }
            Err(error) => {
                assert!(!fits, "{missing}: {error}");
                assert!(error.to_string().contains("no task in the log can account for so many"), "{error}");
            }
        }
    }
}

/// Two tasks under way at once: the second is reserved before the first is paid, and permitted in the log only later.
#[test]
fn tasks_that_overlap_are_one_chain_in_the_end() {
    let world = World::new(|_| ());
    let mut accounts = [account(), account(), account()];
    let (first, second) = (world.task("first", "HMB"), world.task("second", "HMB"));
    let mut lines = world.agreed(&world.agreement, &[0, 1, 2]);
    lines.extend([&first, &second].map(|task| world.asked(task, &world.researcher.key)));
    lines.extend((0..3).map(|house| world.permit(house, &mut accounts[house], &first)));
    let later: Vec<Line> = (0..3).map(|house| world.permit(house, &mut accounts[house], &second)).collect();
    lines.extend((0..3).map(|house| world.spent(house, &mut accounts[house], &first)));
    lines.push(world.released(&first, &accounts, |_| ()));
    let mut story = Story { lines, world };
    let report = story.verify().unwrap();
    assert!(report.findings.len() == 3 && report.findings.iter().all(|finding| finding.kind == FindingKind::Gap));
    let before = report.accounts[0].epsilon_spent;
    story.lines.extend(later);
    let report = story.verify().unwrap();
    assert!(report.findings.is_empty() && report.accounts[0].epsilon_spent > before, "{:?}", report.findings);
    assert_eq!(report.tasks[1].outcome, Outcome::Open);
}

#[test]
fn a_hub_that_refuses_what_is_agreed_is_noticed() {
    let mut story = Story::good();
    let task = story.world.task("fourth", "HMB");
    let asked = story.world.asked(&task, &story.world.researcher.key);
    let fact = Fact::Refusal { clauses: Vec::new(), task: hash_of(&task), why: String::from("no") };
    let refusal = story.world.line(Key::Hub, fact, None);
    story.lines.extend([asked, refusal]);
    let report = story.verify().unwrap();
    assert!(report.findings.iter().any(|finding| finding.kind == FindingKind::Refusal && finding.entry == Some(21)));
}

// ---------------------------------------------------------------- what is wrong

/// Each case makes one thing wrong in a good story before it is signed; the audit names the entry and the reason.
#[test]
fn what_is_wrong_is_found_where_it_is() {
    type Edit = fn(&mut Story);
    let cases: [(&str, Edit, u64, &str); 32] = [
        ("price_altered", |s| cheaper(s.account(PRICE_A, 1)), 7, "another price"),
        ("permit_at_another_price", |s| cheaper(s.account(PERMIT_A, 0)), 4, "another price"),
        ("permit_without_task", |s| drop(s.lines.remove(TASK)), 3, "which the log does not hold before it"),
        ("permit_before_task", |s| s.lines.swap(TASK, PERMIT_A), 3, "which the log does not hold before it"),
        ("permit_twice", |s| repeat(s, PERMIT_A, 5), 5, "second permit of a"),
        ("price_after_release", |s| repeat(s, PRICE_A, 11), 11, "released before, at entry 10"),
        ("permit_missing", |s| drop(s.lines.remove(PERMIT_B)), 7, "no permit of b"),
        ("member_missing", |s| drop((s.lines.remove(PRICE_B), s.lines.remove(PERMIT_B))), 8, "without a permit of b"),
        ("permit_of_other_plan", |s| other_plan(s), 4, "another plan"),
        ("permit_of_forbidden_purpose", |s| permit_refused(s), 20, "permits what is forbidden"),
        (
            "permit_out_of_force",
            |s| s.lines[PERMIT_A].entry.time = start().plus_seconds(-9),
            4,
            "permits what is forbidden",
        ),
        (
            "permit_with_a_spend",
            |s| s.account(PERMIT_A, 0).kind = cohortium_dp::EntryKind::Spend,
            4,
            "without reserving",
        ),
        ("permit_for_a_schedule", |s| schedule(s), 4, "another number of rounds"),
        ("price_without_permit", |s| s.lines.swap(PERMIT_A, PRICE_A), 4, "no permit of a"),
        ("price_twice", |s| repeat(s, SECOND_PRICE_A, 17), 17, "second settlement of a"),
        ("price_read_and_not_spent", |s| s.account(PRICE_A, 1).kind = cohortium_dp::EntryKind::Reading, 7, "neither"),
        ("price_of_other_researcher", |s| s.account(PRICE_A, 0).researcher = "x/y".into(), 7, "another researcher"),
        ("released_twice", |s| repeat(s, RELEASE, 11), 11, "released before"),
        ("released_before_paid", |s| s.lines.swap(PRICE_C, RELEASE), 9, "without a spent price of c"),
        ("released_after_refusal", |s| refuse(s), 11, "refused or had failed"),
        ("release_hash_altered", |s| other_release(s), 10, "not the document that the entry describes"),
        ("chain_broken", |s| s.account(PRICE_A, 0).previous = GENESIS.into(), 7, "contradicts log entry 4"),
        ("chain_forked", |s| s.account(SECOND_PERMIT_A, 0).previous = GENESIS.into(), 12, "contradicts log entry 7"),
        ("chain_not_from_the_start", |s| s.account(PERMIT_A, 0).previous = "x".into(), 4, "something before it"),
        ("sequence_zero", |s| s.account(PERMIT_A, 0).sequence = 0, 4, "another number than"),
        ("task_twice", |s| repeat(s, TASK, 4), 4, "asks the task of entry 3 again"),
        ("task_of_a_stranger", |s| stranger(s), 3, "the task: no valid signature"),
        ("entry_signed_by_another", |s| s.lines[PERMIT_A].key = Key::Node(1), 4, "not signed by the author it names"),
        ("entry_by_no_party", |s| by(s, PERMIT_A, Key::Node(3)), 4, "may not say so"),
        ("release_by_a_node", |s| by(s, RELEASE, Key::Node(0)), 10, "may not say so"),
        ("refusal_of_the_hub_twice", |s| repeat(s, REFUSAL, 20), 20, "second refusal of hub"),
        ("entry_of_another_study", |s| s.lines[PERMIT_A].entry.study = name("x"), 4, "not the one of its agreement"),
    ];
    for (defect, edit, index, expected) in cases {
        let mut story = Story::good();
        edit(&mut story);
        let error = story.verify().err().unwrap_or_else(|| panic!("{defect} was accepted"));
        let AuditError::Entry { index: found, why } = &error else { panic!("{defect}: {error}") };
        assert!(*found == index && why.contains(expected), "{defect}: {error}");
    }
}

fn schedule(story: &mut Story) {
    story.account(PERMIT_A, 0).rounds = Some(5);
}

fn cheaper(entry: &mut AccountEntry) {
    entry.price.curve = cohortium_dp::Curve::default();
}

fn repeat(story: &mut Story, line: usize, at: usize) {
    let again = story.lines[line].clone();
    story.lines.insert(at, again);
}

fn by(story: &mut Story, line: usize, key: Key) {
    story.lines[line].key = key;
    story.lines[line].entry.author = story.world.author(key);
}

fn other_plan(story: &mut Story) {
    if let Fact::Permit { plan, .. } = &mut story.lines[PERMIT_A].entry.fact {
        *plan = Hash::of(b"another plan");
    }
}

fn other_release(story: &mut Story) {
    if let Fact::Release { release, .. } = &mut story.lines[RELEASE].entry.fact {
        *release = Hash::of(b"another release");
    }
}

fn permit_refused(story: &mut Story) {
    let task = opened::<Task>(&story.lines[REFUSED]);
    let permit = story.world.permit(0, &mut account(), &task);
    story.lines.push(permit);
}

fn refuse(story: &mut Story) {
    let task = hash_of(&opened::<Task>(&story.lines[TASK]));
    let fact = Fact::Refusal { clauses: Vec::new(), task, why: String::from("no") };
    let refusal = story.world.line(Key::Node(0), fact, None);
    story.lines.insert(RELEASE, refusal);
}

fn stranger(story: &mut Story) {
    let task = opened::<Task>(&story.lines[TASK]);
    story.lines[TASK] = story.world.asked(&task, &story.world.houses[3].1.message);
}

/// What a receipt says must follow from the log.
#[test]
fn receipts_that_do_not_follow_from_the_log_are_found() {
    type Edit = fn(&mut Receipt);
    let cases: [(&str, Edit, &str); 5] = [
        ("other_rows", |r| r.snapshot = Hash::of(b"other rows"), "snapshot"),
        ("other_position", |r| r.context = Hash::of(b"elsewhere"), "context"),
        ("before_paying", |r| r.account_sequence = 1, "account_sequence"),
        ("forged_head", |r| r.account_head = Hash::of(b"another book"), "contradicts log entry"),
        ("another_plan", |r| r.plan = Hash::of(b"another plan"), "states another plan"),
    ];
    for (defect, edit, expected) in cases {
        let error = Story::with(|_| (), edit).verify().err().unwrap_or_else(|| panic!("{defect} was accepted"));
        assert!(error.to_string().contains("entry 10") && error.to_string().contains(expected), "{defect}: {error}");
    }
}

#[test]
fn spending_more_than_agreed_is_found() {
    // One task costs about 0.27 with δ over all orders, two about 0.39.
    for (limit, fits) in [("0.3", false), ("0.5", true)] {
        let story = Story::with(
            |agreement| {
                agreement.budgets.epsilon_per_query = limit.parse().unwrap();
                agreement.budgets.epsilon_per_researcher = limit.parse().unwrap();
                agreement.budgets.epsilon_total = limit.parse().unwrap();
            },
            |_| (),
        );
        match story.verify() {
            Ok(_) => assert!(fits, "{limit}"),
            Err(error) => {
                let text = error.to_string();
                assert!(!fits && text.contains("entry 12") && text.contains("over budget"), "{limit}: {text}");
            }
        }
    }
}

#[test]
fn leaves_must_be_canonical_signed_entries() {
    let story = Story::good();
    let mut spaced = story.leaves();
    spaced[4].insert(1, b' ');
    let cases = [(spaced, 4, "canonical"), (vec![b"hello".to_vec()], 0, "not a signed entry")];
    for (leaves, index, expected) in cases {
        let error = verify(&story.write_leaves(&leaves, &[0, 1, 2]).0, &story.world.envelope).unwrap_err();
        assert!(
            matches!(&error, AuditError::Entry { index: i, why } if *i == index && why.contains(expected)),
            "{error}"
        );
    }
}

#[test]
fn documents_that_are_missing_altered_or_too_many_are_found() {
    let story = Story::good();
    let body = story.lines[TASK].entry.fact.body().unwrap();
    type Edit = fn(PathBuf, Hash);
    let cases: [(Edit, &str); 3] = [
        (|dir, body| std::fs::remove_file(dir.join(body.to_string())).unwrap(), "is missing"),
        (|dir, body| std::fs::write(dir.join(body.to_string()), b"{}").unwrap(), "does not have the hash in its name"),
        (|dir, _| std::fs::write(dir.join(Hash::of(b"{}").to_string()), b"{}").unwrap(), "no entry names it"),
    ];
    for (edit, expected) in cases {
        let scratch = story.write();
        edit(scratch.0.join("body"), body);
        let error = verify(&scratch.0, &story.world.envelope).unwrap_err().to_string();
        assert!(error.contains(expected), "{expected}: {error}");
    }
}

#[test]
fn the_agreement_must_be_signed_by_all_logged_and_its_parties_must_have_cosigned() {
    let story = Story::good();
    let scratch = story.write();
    let one = Envelope::sign(&*story.world.agreement, &story.world.houses[0].1.agreement).unwrap();
    let unsigned = verify(&scratch.0, &one).unwrap_err();
    assert!(matches!(&unsigned, AuditError::Agreement { why } if why.contains("no valid signature")), "{unsigned}");

    let unknown = World::new(|agreement| agreement.study = name("never-begun"));
    let unlogged = verify(&scratch.0, &unknown.envelope).unwrap_err();
    assert!(matches!(&unlogged, AuditError::Agreement { why } if why.contains("does not record it")), "{unlogged}");

    for witnesses in [&[0, 1][..], &[0, 1, 3][..]] {
        let scratch = story.write_leaves(&story.leaves(), witnesses);
        let error = verify(&scratch.0, &story.world.envelope).unwrap_err();
        assert!(matches!(error, AuditError::Log(_)), "{witnesses:?}: {error}");
    }

    // Custodian c's own entry is missing: the agreement is signed all the same.
    let mut quiet = Story::good();
    drop(quiet.lines.drain(2..3));
    quiet.lines.truncate(2);
    let report = quiet.verify().unwrap();
    assert_eq!(report.findings.len(), 1);
    assert_eq!(report.findings[0].kind, FindingKind::Agreement);
}

// ---------------------------------------------------------------- a node's own log

/// The decisions of node `a`, as it logs them for itself.
fn own(story: &Story) -> Vec<Line> {
    [PERMIT_A, PRICE_A, SECOND_PERMIT_A, SECOND_PRICE_A].map(|line| story.lines[line].clone()).to_vec()
}

fn verify_own(story: &Story, lines: Vec<Line>) -> Result<OwnLogReport, AuditError> {
    let (name, keys) = &story.world.houses[0];
    let sign = |line: &Line| Envelope::sign(&line.entry, story.world.key(line.key)).unwrap();
    let leaves: Vec<Vec<u8>> = lines.iter().map(|line| canonical_bytes(&sign(line)).unwrap()).collect();
    let scratch = Scratch::new();
    write_log(&scratch, name.as_str(), &keys.log, &leaves, &[], |head| (head.to_string(), Vec::new()));
    verify_own_log(&scratch.0, &keys.entry(name))
}

#[test]
fn a_nodes_own_log_is_its_own_and_one_chain() {
    let story = Story::good();
    let report = verify_own(&story, own(&story)).unwrap();
    assert_eq!((report.log.size, report.sequences["heart"], report.findings.len()), (4, 5, 0));

    type Edit = fn(&Story, &mut Vec<Line>);
    let cases: [(&str, Edit, &str); 6] = [
        ("anothers_decision", |s, lines| lines.push(s.lines[PERMIT_B].clone()), "no decision of a"),
        ("not_a_decision", |s, lines| lines.push(s.lines[RELEASE].clone()), "no decision of a"),
        ("signed_by_another", |_, lines| lines[1].key = Key::Node(1), "not signed"),
        ("price_before_permit", |_, lines| lines.swap(0, 1), "do not follow"),
        ("price_dropped", |_, lines| drop(lines.drain(0..2)), "no task in the log can account"),
        (
            "chain_broken",
            |_, lines| {
                if let Fact::Permit { account, .. } = &mut lines[2].entry.fact {
                    account.previous = GENESIS.into();
                }
            },
            "contradicts log entry 1",
        ),
    ];
    for (defect, edit, expected) in cases {
        let mut lines = own(&story);
        edit(&story, &mut lines);
        let error = verify_own(&story, lines).err().unwrap_or_else(|| panic!("{defect} was accepted"));
        assert!(error.to_string().contains(expected), "{defect}: {error}");
    }

    // A run that is under way may have written two entries that no decision shows yet.
    let mut lines = own(&story);
    drop(lines.remove(1));
    let report = verify_own(&story, lines).unwrap();
    assert_eq!(report.findings.iter().map(|finding| finding.kind).collect::<Vec<_>>(), [FindingKind::Gap]);
}
