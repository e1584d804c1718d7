//! A small world with keys from fixed seeds, for this room's tests.

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use cohortium_dp::{NanoNats, Raw, add_noise};
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Author, Bounding, Budgets,
    DatasetTerms, Document, Entry, Envelope, Fact, Hash, HubEntry, Measure, Name, Offer, OrganisationSecrets, Output,
    OutputColumn, Ownership, PLAN_VERSION, PROTOCOL_VERSION, Party, PersonSecrets, Plan, ReleaseMode, ResearcherEntry,
    ResearcherSecrets, ResearcherTerms, RiskAcceptance, Role, RosterEntry, Schema, SecureSumTerms, SigningKey, Staff,
    Task, Timestamp, Verified,
};
use cohortium_mpc::{Chain, Coordinator, Member, Total, accept, encapsulate};
use cohortium_query::{Priced, check};
use rand_core::SeedableRng as _;

use crate::draft::{Draft, DraftError};
use crate::entries::{Authored, open_entry};
use crate::log_policy::{LogTerms, log_policy};
use crate::template::template;

/// Organisations `a`, `b`, …, each with the people of [`PEOPLE`], a hub, the researcher `rosa`, and the agreement they all
/// signed.
pub struct World {
    pub agreement: Verified<Agreement>,
    pub hub: HubEntry,
    pub hub_key: SigningKey,
    pub hub_log_key: SigningKey,
    pub organisations: Vec<Verified<RosterEntry>>,
    pub researcher: ResearcherSecrets,
    pub researchers: Vec<Verified<ResearcherEntry>>,
    pub secrets: Vec<(Name, OrganisationSecrets)>,
    /// Of each organisation, in the order of [`PEOPLE`].
    pub people: Vec<Vec<PersonSecrets>>,
    pub staff: Vec<Verified<Staff>>,
}

/// Who acts for every organisation.
pub const PEOPLE: [(&str, Role); 4] =
    [("paula", Role::PrivacyOfficer), ("stella", Role::Steward), ("stefan", Role::Steward), ("otto", Role::Operator)];

pub fn start() -> Timestamp {
    "2026-11-22T00:00:00Z".parse().unwrap()
}

const HEART: &str = r#"
    max_groups_per_person = 2
    max_rows_per_person = 3
    columns = [
      { name = "age", type = "integer", bounds = [0, 120], roles = ["filter", "aggregate"] },
      { name = "chol", type = "decimal", bounds = [0, 600.5], nullable = true, roles = ["filter", "aggregate"], meaning = "serum cholesterol, mg/dl" },
      { name = "sex", type = "integer", domain = [0, 1], roles = ["filter", "group"] },
      { name = "site", type = "text", domain = ["north", "south"], roles = ["group"] },
      { name = "secret", type = "integer", roles = [] },
    ]
"#;

const EMPTY: &str = r#"
    max_groups_per_person = 1
    max_rows_per_person = 1
    columns = [{ name = "secret", type = "integer", roles = [] }]
"#;

impl World {
    pub fn new(n: usize) -> Self {
        Self::with(n, |_| ())
    }

    pub fn with(n: usize, edit: impl FnOnce(&mut Agreement)) -> Self {
        Self::seeded(n, 7, edit)
    }

    pub fn seeded(n: usize, seed: u8, edit: impl FnOnce(&mut Agreement)) -> Self {
        let mut rng = ChaCha20Rng::from_seed([seed; 32]);
        let names = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
        let researcher = ResearcherSecrets::generate(&mut rng);
        let (hub_key, hub_log_key) = (SigningKey::generate(&mut rng), SigningKey::generate(&mut rng));
        let hub = HubEntry { hub: name("hub"), log_key: hub_log_key.public(), message_key: hub_key.public() };
        let secrets: Vec<(Name, OrganisationSecrets)> =
            names.iter().take(n).map(|text| (name(text), OrganisationSecrets::generate(&mut rng))).collect();
        let organisations: Vec<Verified<RosterEntry>> = secrets
            .iter()
            .map(|(name, keys)| {
                Envelope::sign(&keys.entry(name), &keys.identity).unwrap().open(&keys.identity.public()).unwrap()
            })
            .collect();
        let entry = researcher.entry(&name("rosa"));
        let researchers =
            vec![Envelope::sign(&entry, &researcher.key).unwrap().open(&researcher.key.public()).unwrap()];
        let draw_people = |_: &_| PEOPLE.iter().map(|_| PersonSecrets::generate(&mut rng)).collect();
        let people: Vec<Vec<PersonSecrets>> = secrets.iter().map(draw_people).collect();
        let staff = |((organisation, keys), people): (&(Name, OrganisationSecrets), &Vec<PersonSecrets>)| {
            let entries = people.iter().zip(PEOPLE).map(|(secrets, (person, role))| secrets.entry(&name(person), role));
            verified(&Staff { organisation: organisation.clone(), people: entries.collect() }, &keys.message)
        };
        let staff: Vec<Verified<Staff>> = secrets.iter().zip(&people).map(staff).collect();
        let mut agreement = agreement(&hub, &organisations, &staff, entry);
        edit(&mut agreement);
        let agreement = signed(&agreement, &secrets).open_all(&agreement.custodian_keys()).unwrap();
        Self { agreement, hub, hub_key, hub_log_key, organisations, researcher, researchers, secrets, people, staff }
    }

    pub fn resolve(&self, draft: &Draft) -> Result<Agreement, DraftError> {
        draft.resolve(&self.hub, &self.organisations, &self.staff, &self.researchers)
    }

    /// Another agreement between (some of) the same organisations, signed by them.
    pub fn signed_again(&self, agreement: &Agreement) -> Verified<Agreement> {
        signed(agreement, &self.secrets).open_all(&agreement.custodian_keys()).unwrap()
    }

    /// The offers of all organisations for `heart`, after an edit.
    pub fn offers(&self, edit: impl Fn(&str, &mut Offer)) -> Vec<Verified<Offer>> {
        let offer = |(name, keys): &(Name, OrganisationSecrets)| {
            let terms = &self.agreement.datasets[0];
            let (dataset, schema) = (terms.name.clone(), terms.schema.clone());
            let mut offer = Offer { dataset, organisation: name.clone(), schema, snapshot: Hash::of(b"rows") };
            edit(name.as_str(), &mut offer);
            Envelope::sign(&offer, &keys.message).unwrap().open(&keys.message.public()).unwrap()
        };
        self.secrets.iter().map(offer).collect()
    }

    /// A template that has been filled in.
    pub fn draft_text(&self, staff: &[Verified<Staff>]) -> String {
        let (study, offers) = (name("heart-study"), self.offers(|_, _| ()));
        template(&study, &self.hub, &self.organisations, staff, &self.researchers, &offers, start())
            .unwrap()
            .replace("accepted_by = \"\"", "accepted_by = \"Dr. A. Nyman, data protection officer\"")
    }

    /// The world of three, made once.
    pub fn draft_world() -> &'static Self {
        static WORLD: std::sync::OnceLock<World> = std::sync::OnceLock::new();
        WORLD.get_or_init(|| Self::new(3))
    }

    /// Its draft text, made once.
    pub fn draft_once() -> &'static str {
        static TEXT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
        TEXT.get_or_init(|| Self::draft_world().draft_text(&Self::draft_world().staff))
    }
}

impl World {
    /// A task by `rosa`: how many persons of each sex. Edited before it is signed.
    pub fn task(&self, edit: impl FnOnce(&mut Task)) -> Verified<Task> {
        let plan = Plan {
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
        };
        let mut task = Task {
            affirms: Vec::new(),
            asked_at: start(),
            nonce: Hash::of(b"nonce"),
            participants: self.agreement.participants(),
            plan,
            protocol: PROTOCOL_VERSION,
            purpose: "HMB".parse().unwrap(),
            researcher: name("rosa"),
            rounds: 1,
            sql: String::from("SELECT COUNT(*) AS persons FROM heart GROUP BY sex"),
            study: name("heart-study"),
        };
        edit(&mut task);
        verified(&task, &self.researcher.key)
    }

    /// An entry by a person, by position in the world and in [`PEOPLE`], opened.
    pub fn said(&self, organisation: usize, person: usize, fact: Fact) -> Authored {
        open_entry(&self.signed_by(organisation, person, fact), &self.agreement).unwrap()
    }

    pub fn signed_by(&self, organisation: usize, person: usize, fact: Fact) -> Envelope {
        let author =
            Author::Person { organisation: self.secrets[organisation].0.clone(), person: name(PEOPLE[person].0) };
        self.entry(author, fact, &self.people[organisation][person].key)
    }

    pub fn entry(&self, author: Author, fact: Fact, key: &SigningKey) -> Envelope {
        let (agreement, study) = (self.agreement.hash(), self.agreement.study.clone());
        Envelope::sign(&Entry { agreement, author, fact, study, time: start() }, key).unwrap()
    }

    /// What `query` derives from the task's plan.
    pub fn priced(&self, task: &Task) -> Priced {
        check(&task.plan, &self.agreement, self.agreement.hash()).unwrap()
    }

    /// A whole round of the secure sum: `absent` drop out before they send, `silent` ones after they signed.
    pub fn round(&self, task: &Verified<Task>, priced: &Priced, absent: &[&str], silent: &[&str]) -> Total {
        let mut rng = ChaCha20Rng::from_seed([11; 32]);
        let context = priced.round_context(&self.agreement, task.hash(), 5);
        let mut chains = self.chains(&mut rng);
        let mut coordinator = Coordinator::new(context.clone(), priced.noise().clone()).unwrap();
        let mut members: Vec<(&OrganisationSecrets, Member)> = Vec::new();
        for (me, keys) in &self.secrets {
            let mine = chains.get_mut(me).unwrap();
            let (member, shares) = Member::begin(context.clone(), me, mine, priced.noise(), &mut rng).unwrap();
            coordinator.accept_shares(verified(&shares, &keys.message)).unwrap();
            members.push((keys, member));
        }
        let is = |list: &[&str], keys: &OrganisationSecrets| {
            let owner = self.secrets.iter().find(|(_, other)| other.message.public() == keys.message.public());
            list.contains(&owner.unwrap().0.as_str())
        };
        members.retain(|(keys, _)| !is(absent, keys));
        for ((keys, member), name) in members.iter_mut().zip(self.names_without(absent)) {
            member.receive_shares(&coordinator.shares_for(&name).unwrap()).unwrap();
            let cells = vec![1 << 20; priced.layout().cells()];
            let noised = add_noise(Raw::new(cells), priced.noise(), member.noise_seeds().unwrap()).unwrap();
            let masked = member.mask(&noised).unwrap();
            coordinator.accept_masked(&verified(masked.header(), &keys.message), masked.bytes().to_vec()).unwrap();
        }
        let survivors = coordinator.propose_survivors().unwrap();
        let sign = |(keys, member): &mut (&OrganisationSecrets, Member)| {
            verified(&member.sign_survivors(&survivors).unwrap(), &keys.message)
        };
        let sets: Vec<_> = members.iter_mut().map(sign).collect();
        sets.iter().for_each(|set| coordinator.accept_survivor_set(set.clone()).unwrap());
        for (keys, member) in members.iter_mut().filter(|(keys, _)| !is(silent, keys)) {
            coordinator.accept_reveal(verified(&member.reveal(&sets).unwrap(), &keys.message)).unwrap();
        }
        coordinator.total().unwrap()
    }

    fn names_without(&self, absent: &[&str]) -> Vec<Name> {
        self.agreement.participants().into_iter().filter(|name| !absent.contains(&name.as_str())).collect()
    }

    /// For each organisation its chains with all others.
    fn chains(&self, rng: &mut ChaCha20Rng) -> BTreeMap<Name, BTreeMap<Name, Chain>> {
        let mut chains: BTreeMap<Name, BTreeMap<Name, Chain>> = BTreeMap::new();
        let agreement = self.agreement.hash();
        for (i, (first, first_keys)) in self.secrets.iter().enumerate() {
            for (second, second_keys) in self.secrets.iter().skip(i + 1) {
                let (message, chain) =
                    encapsulate(&agreement, first, &first_keys.kem, second, &second_keys.kem.public(), rng).unwrap();
                chains.entry(first.clone()).or_default().insert(second.clone(), chain);
                let message = verified(&message, &first_keys.message);
                let chain =
                    accept(&agreement, second, &second_keys.kem, first, &first_keys.kem.public(), &message).unwrap();
                chains.entry(second.clone()).or_default().insert(first.clone(), chain);
            }
        }
        chains
    }
}

/// Signs and opens again.
pub fn verified<T: Document>(document: &T, key: &SigningKey) -> Verified<T> {
    Envelope::sign(document, key).unwrap().open(&key.public()).unwrap()
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn agreement(
    hub: &HubEntry,
    organisations: &[Verified<RosterEntry>],
    staff: &[Verified<Staff>],
    researcher: ResearcherEntry,
) -> Agreement {
    let dataset = |text: &str, schema: &str| {
        let schema: Schema = toml::from_str(schema).unwrap();
        DatasetTerms { minimum_cohort: 0, mode: ReleaseMode::Noised, name: name(text), schema }
    };
    let threshold = (organisations.len() as u32).div_ceil(2) + 1;
    let secure_sum = SecureSumTerms { colluders: 1, threshold };
    let entries: Vec<&RosterEntry> = organisations.iter().map(|entry| &**entry).collect();
    let terms = LogTerms { post_quantum: false, quorum: threshold };
    Agreement {
        analyses: [Analysis::Count, Analysis::Mean, Analysis::Sum]
            .map(|analysis| AnalysisTerms { analysis, max_cells: 1000, max_epsilon: 1.into() })
            .into(),
        approval: ApprovalTerms::everything_automatic(vec![name("heart"), name("empty")], 1.into()),
        attack_thresholds: AttackThresholds {
            attribute_advantage: "0.1".parse().unwrap(),
            membership_advantage: "0.1".parse().unwrap(),
            reconstruction_rate: "0.01".parse().unwrap(),
        },
        budgets: Budgets {
            delta: "0.000001".parse().unwrap(),
            epsilon_per_query: 1.into(),
            epsilon_per_researcher: 5.into(),
            epsilon_total: 10.into(),
        },
        conditions: Vec::new(),
        datasets: vec![dataset("heart", HEART), dataset("empty", EMPTY)],
        hub: hub.clone(),
        log_policy: log_policy(hub, &entries, secure_sum, terms).unwrap().to_string(),
        ownership: Ownership {
            data: "each its own".into(),
            models: "all together".into(),
            passing_on: "results only".into(),
            results: "all together".into(),
        },
        parties: organisations
            .iter()
            .zip(staff)
            .map(|(entry, staff)| Party { entry: (**entry).clone(), people: staff.people.clone() })
            .collect(),
        phases: Vec::new(),
        previous: None,
        purpose_text: "Whether cholesterol rises with age".into(),
        purposes: vec!["HMB".parse().unwrap()],
        researchers: vec![ResearcherTerms { entry: researcher }],
        retention_days: 365,
        revision: 1,
        risk_acceptance: RiskAcceptance { accepted_by: "the board".into(), statement: "accepted".into() },
        secure_sum,
        study: name("heart-study"),
        title: "Cholesterol and age".into(),
        valid_from: start(),
        valid_until: start().plus_seconds(365 * 86_400),
        version: AGREEMENT_VERSION,
    }
}

fn signed(agreement: &Agreement, secrets: &[(Name, OrganisationSecrets)]) -> Envelope {
    let mut envelope = Envelope::sign(agreement, &secrets[0].1.agreement).unwrap();
    for (_, keys) in secrets {
        envelope.also_sign(&keys.agreement).unwrap();
    }
    envelope
}
