//! `crates/audit` on a large log: what it takes to repeat every signature, decision, price, account and release of it.
//!
//! The log is one study's: three members, questions that are permitted, paid and answered, eight entries each. `log` measures
//! the tree alone; here everything that the tree holds is judged, so the time for an entry is another. Two sizes are
//! measured, because a time that grows faster than the log would show between them.
//!
//! The log is put together with the real keys, accounts and prices, and written without flushing: what is measured is reading.

use std::path::{Path, PathBuf};
use std::time::Instant;

use chacha20::ChaCha20Rng;
use cohortium_audit::verify;
use cohortium_dp::account::Reservation;
use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, NanoNats, Next};
use cohortium_ledger::{KeyKind, Log, SignerKey, VerifierKey};
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Author, Bounding, Budgets,
    DatasetTerms, Document, Entry, Envelope, Fact, Hash, HubEntry, Measure, Name, OrganisationSecrets, Output,
    OutputColumn, Ownership, PLAN_VERSION, PROTOCOL_VERSION, Party, Plan, RELEASE_VERSION, Receipt, ReleaseDocument,
    ReleaseMode, ResearcherSecrets, ResearcherTerms, RiskAcceptance, RosterEntry, SecureSumTerms, SigningKey,
    SurvivorSet, Task, Timestamp, Verified, canonical_bytes, encode_cells,
};
use cohortium_policy::{LogTerms, log_policy, open_agreement};
use cohortium_query::Priced;
use cohortium_store::{Batch, MemoryStore, Store as _};
use rand_core::SeedableRng as _;

use crate::clock::timed;
use crate::log::{row, words};

/// How many questions a log has.
const QUESTIONS: [u32; 2] = [500, 4_000];
/// 2026-11-22.
const START_S: i64 = 1_795_305_600;
/// Questions this cheap fit into the budgets by the thousand.
const RHO: u64 = 2_000;

pub fn run() -> Result<(), String> {
    println!("{:<66}{:>12}{:>14}   goal", "", "wall", "processor");
    for questions in QUESTIONS {
        let dir = PathBuf::from("target/bench-audit");
        let _ = std::fs::remove_dir_all(&dir);
        let measured = measure(&dir, questions);
        let _ = std::fs::remove_dir_all(&dir);
        measured?;
    }
    Ok(())
}

fn measure(dir: &Path, questions: u32) -> Result<(), String> {
    std::fs::create_dir_all(dir.join("body")).map_err(words)?;
    let study = Study::new()?;
    let size = study.write(dir, questions)?;
    let start = Instant::now();
    let (report, seconds) = timed(|| verify(dir, &study.envelope));
    let (wall, report) = (start.elapsed().as_secs_f64(), report.map_err(words)?);
    if report.log.size != size || report.tasks.len() as u64 != u64::from(questions) || !report.findings.is_empty() {
        return Err("the audit found another log".to_owned());
    }
    row(&format!("the judged audit of {size} entries, s"), format!("{wall:.1}"), &format!("{seconds:.1}"), "");
    let micros = |seconds: f64| format!("{:.0}", seconds / size as f64 * 1e6);
    row("    for one entry, µs", micros(wall), &micros(seconds), "");
    Ok(())
}

/// Three members, a hub and a researcher, who agreed.
struct Study {
    agreement: Verified<Agreement>,
    envelope: Envelope,
    houses: Vec<(Name, OrganisationSecrets)>,
    hub: SigningKey,
    log: SigningKey,
    researcher: ResearcherSecrets,
}

/// A log while it is put together.
#[derive(Default)]
struct Written {
    bodies: Vec<Vec<u8>>,
    leaves: Vec<Vec<u8>>,
}

impl Study {
    fn new() -> Result<Self, String> {
        let mut rng = ChaCha20Rng::from_seed([5; 32]);
        let names = ["a", "b", "c"].into_iter().map(name).collect::<Result<Vec<_>, _>>()?;
        let houses: Vec<_> = names.into_iter().map(|name| (name, OrganisationSecrets::generate(&mut rng))).collect();
        let researcher = ResearcherSecrets::generate(&mut rng);
        let (hub, log) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let entry = HubEntry { hub: name("hub")?, log_key: log.public(), message_key: hub.public() };
        let agreement = agreement(entry, &houses, &researcher)?;
        let (_, first) = houses.first().ok_or("no house")?;
        let mut envelope = Envelope::sign(&agreement, &first.agreement).map_err(words)?;
        for (_, keys) in &houses {
            envelope.also_sign(&keys.agreement).map_err(words)?;
        }
        let agreement = open_agreement(&envelope).map_err(words)?;
        Ok(Self { agreement, envelope, houses, hub, log, researcher })
    }

    /// Writes the log of so many answered questions; gives its size.
    fn write(&self, dir: &Path, questions: u32) -> Result<u64, String> {
        let mut written = Written::default();
        for (name, keys) in &self.houses {
            let copy = Envelope::sign(&*self.agreement, &keys.agreement).map_err(words)?;
            let body = written.body(&copy)?;
            let fact = Fact::Agreement { body, revision: self.agreement.revision };
            written.leaf(self, Author::Custodian(name.clone()), &keys.agreement, fact)?;
        }
        let mut accounts = self.houses.iter().map(|_| account()).collect::<Result<Vec<_>, _>>()?;
        for number in 0..questions {
            self.question(number, &mut accounts, &mut written)?;
        }
        for body in &written.bodies {
            std::fs::write(dir.join(format!("body/{}", Hash::of(body))), body).map_err(words)?;
        }
        let signer = SignerKey::from_seed("hub", KeyKind::Log, &self.log.expose_seed()).map_err(words)?;
        let (mut store, mut batch) = (MemoryStore::new(), Batch::new());
        let mut log = Log::open(dir, &store, &signer).map_err(words)?;
        let staged = log.stage(&written.leaves, &mut batch).map_err(words)?;
        store.commit(batch).map_err(words)?;
        let mut head = log.apply(staged, &store, &signer).map_err(words)?;
        let mut keys: Vec<VerifierKey> = Vec::new();
        for (name, secrets) in &self.houses {
            let seed = secrets.witness.expose_seed();
            let witness = SignerKey::from_seed(name.as_str(), KeyKind::Witness, &seed).map_err(words)?;
            keys.push(witness.verifier().clone());
            let line = witness.cosign(head.note().text(), 1_795_400_000).map_err(words)?;
            head = head.with_cosignature(line, &keys).map_err(words)?;
        }
        log.set_cosigned(head.to_string().as_bytes(), &keys).map_err(words)?;
        Ok(log.size())
    }

    /// One question: asked, permitted and paid at each house, answered.
    fn question(&self, number: u32, accounts: &mut [Account], written: &mut Written) -> Result<(), String> {
        let task = self.task(number)?;
        let signed = Envelope::sign(&task, &self.researcher.key).map_err(words)?;
        let (position, hash, body) = (written.leaves.len() as u64, hash_of(&task)?, written.body(&signed)?);
        let plan = task.plan.hash().map_err(words)?;
        let asked = Fact::Task { body, plan, task: hash };
        written.leaf(self, Author::Researcher(task.researcher.clone()), &self.researcher.key, asked)?;
        let priced = cohortium_query::check(&task.plan, &self.agreement, self.agreement.hash()).map_err(words)?;
        for ((name, keys), account) in self.houses.iter().zip(accounts.iter_mut()) {
            let reservation = Reservation {
                researcher: format!("{}/{}", task.study, task.researcher),
                study: task.study.to_string(),
                task: hash.to_string(),
                round: 0,
                price: priced.price().clone(),
                time: None,
            };
            let next = account.reserve(&reservation).map_err(words)?;
            let reserve = Box::new(apply(account, next)?);
            let fact = Fact::Permit { account: reserve, plan, snapshot: Hash::of(b"rows"), task: hash };
            written.leaf(self, Author::Node(name.clone()), &keys.message, fact)?;
        }
        for ((name, keys), account) in self.houses.iter().zip(accounts.iter_mut()) {
            let next = account.start_reading(&hash.to_string(), 0, None).map_err(words)?;
            let reading = apply(account, next)?;
            let next = account.spend(&hash.to_string(), 0, None).map_err(words)?;
            let spend = apply(account, next)?;
            let fact = Fact::Price { account: vec![reading, spend], task: hash };
            written.leaf(self, Author::Node(name.clone()), &keys.message, fact)?;
        }
        let document = self.release(&task, &priced, position, accounts)?;
        let signed = Envelope::sign(&document, &self.hub).map_err(words)?;
        let fact = Fact::Release { body: written.body(&signed)?, release: hash_of(&document)?, task: hash };
        written.leaf(self, Author::Hub(name("hub")?), &self.hub, fact)
    }

    fn task(&self, number: u32) -> Result<Task, String> {
        Ok(Task {
            affirms: Vec::new(),
            asked_at: Timestamp::from_seconds(START_S),
            nonce: Hash::of(&number.to_be_bytes()),
            participants: self.agreement.participants(),
            plan: Plan {
                agreement: self.agreement.hash(),
                bounding: Bounding { max_groups: 1, max_rows: 1 },
                dataset: name("heart")?,
                draw: number,
                filter: None,
                group_by: vec![name("sex")?],
                limit: None,
                measures: vec![Measure::Rows],
                order_by: Vec::new(),
                outputs: vec![Output { name: String::from("persons"), value: OutputColumn::Count(0) }],
                rho: NanoNats::new(RHO),
                version: PLAN_VERSION,
            },
            protocol: PROTOCOL_VERSION,
            purpose: "HMB".parse().map_err(words)?,
            researcher: name("rosa")?,
            rounds: 1,
            sql: String::from("SELECT COUNT(*) AS persons FROM heart GROUP BY sex"),
            study: self.agreement.study.clone(),
        })
    }

    fn release(
        &self,
        task: &Task,
        priced: &Priced,
        position: u64,
        accounts: &[Account],
    ) -> Result<ReleaseDocument, String> {
        let hash = hash_of(task)?;
        let context = priced.round_context(&self.agreement, hash, position).hash().map_err(words)?;
        let (mut receipts, mut consents) = (Vec::new(), Vec::new());
        for ((organisation, keys), account) in self.houses.iter().zip(accounts) {
            let receipt = Receipt {
                account_head: account.head().parse().map_err(words)?,
                account_sequence: account.sequence(),
                agreement: self.agreement.hash(),
                context,
                dataset: task.plan.dataset.clone(),
                masked: Hash::of(b"masked"),
                organisation: organisation.clone(),
                plan: priced.plan_hash(),
                snapshot: Hash::of(b"rows"),
                task: hash,
            };
            receipts.push(Envelope::sign(&receipt, &keys.message).map_err(words)?);
            let (from, survivors) = (organisation.clone(), self.agreement.participants());
            let consent = SurvivorSet { context, from, survivors };
            consents.push(Envelope::sign(&consent, &keys.message).map_err(words)?);
        }
        let variance = priced.noise().remaining_total_variance(3).map_err(words)?;
        Ok(ReleaseDocument {
            agreement: self.agreement.hash(),
            cells: encode_cells(&vec![7; priced.layout().cells()]),
            consents,
            noise_variance: variance.to_string(),
            plan: priced.plan_hash(),
            receipts,
            released_at: Timestamp::from_seconds(START_S + 60),
            study: self.agreement.study.clone(),
            suppressed: Vec::new(),
            survivors: self.agreement.participants(),
            task: hash,
            version: RELEASE_VERSION,
        })
    }
}

impl Written {
    /// Puts a document beside the log.
    fn body(&mut self, document: &Envelope) -> Result<Hash, String> {
        let bytes = canonical_bytes(document).map_err(words)?;
        let hash = Hash::of(&bytes);
        self.bodies.push(bytes);
        Ok(hash)
    }

    fn leaf(&mut self, study: &Study, author: Author, key: &SigningKey, fact: Fact) -> Result<(), String> {
        let (agreement, name) = (study.agreement.hash(), study.agreement.study.clone());
        let entry = Entry { agreement, author, fact, study: name, time: Timestamp::from_seconds(START_S + 60) };
        let signed = Envelope::sign(&entry, key).map_err(words)?;
        self.leaves.push(canonical_bytes(&signed).map_err(words)?);
        Ok(())
    }
}

fn name(text: &str) -> Result<Name, String> {
    Name::new(text).map_err(words)
}

fn hash_of<T: Document>(document: &T) -> Result<Hash, String> {
    canonical_bytes(document).map(|bytes| Hash::of(&bytes)).map_err(words)
}

fn account() -> Result<Account, String> {
    let delta = AttoDelta::new(1_000_000_000_000).map_err(words)?;
    let budget = Budget::new(NanoNats::new(900_000_000_000), delta).map_err(words)?;
    let (studies, researchers) = Default::default();
    Account::new(AccountConfig { dataset: "heart".to_owned(), budget, studies, researchers }).map_err(words)
}

fn apply(account: &mut Account, next: Next) -> Result<AccountEntry, String> {
    let Next::Write(entry) = next else { return Err("the account has this entry already".to_owned()) };
    account.apply(&entry).map_err(words)?;
    Ok(*entry)
}

fn agreement(
    hub: HubEntry,
    houses: &[(Name, OrganisationSecrets)],
    researcher: &ResearcherSecrets,
) -> Result<Agreement, String> {
    let schema = r#"{"columns": [
        {"name": "age", "type": "integer", "bounds": ["0", "120"], "roles": ["filter", "aggregate"]},
        {"name": "sex", "type": "integer", "domain": [{"number": "0"}, {"number": "1"}], "roles": ["group"]}
    ], "max_groups_per_person": 1, "max_rows_per_person": 1}"#;
    let secure_sum = SecureSumTerms { colluders: 1, threshold: 3 };
    let parties: Vec<Party> =
        houses.iter().map(|(name, keys)| Party { entry: keys.entry(name), people: Vec::new() }).collect();
    let entries: Vec<&RosterEntry> = parties.iter().map(|party| &party.entry).collect();
    let terms = LogTerms { post_quantum: false, quorum: 3 };
    let log_policy = log_policy(&hub, &entries, secure_sum, terms).map_err(words)?.to_string();
    let text = |text: &str| text.to_owned();
    Ok(Agreement {
        analyses: vec![AnalysisTerms { analysis: Analysis::Count, max_cells: 1000, max_epsilon: 1.into() }],
        approval: ApprovalTerms::everything_automatic(vec![name("heart")?], 1.into()),
        attack_thresholds: AttackThresholds {
            attribute_advantage: 1.into(),
            membership_advantage: 1.into(),
            reconstruction_rate: 1.into(),
        },
        budgets: Budgets {
            delta: "0.000001".parse().map_err(words)?,
            epsilon_per_query: 1.into(),
            epsilon_per_researcher: 5.into(),
            epsilon_total: 10.into(),
        },
        conditions: Vec::new(),
        datasets: vec![DatasetTerms {
            minimum_cohort: 0,
            mode: ReleaseMode::Noised,
            name: name("heart")?,
            schema: serde_json::from_str(schema).map_err(words)?,
        }],
        hub,
        log_policy,
        ownership: Ownership {
            data: text("each its own"),
            models: text("all"),
            passing_on: text("results only"),
            results: text("all"),
        },
        parties,
        phases: Vec::new(),
        previous: None,
        purpose_text: text("age and sex"),
        purposes: vec!["HMB".parse().map_err(words)?],
        researchers: vec![ResearcherTerms { entry: researcher.entry(&name("rosa")?) }],
        retention_days: 365,
        revision: 1,
        risk_acceptance: RiskAcceptance { accepted_by: text("the board"), statement: text("accepted") },
        secure_sum,
        study: name("heart-study")?,
        title: text("Age and sex"),
        valid_from: Timestamp::from_seconds(START_S),
        valid_until: Timestamp::from_seconds(START_S + 365 * 86_400),
        version: AGREEMENT_VERSION,
    })
}
