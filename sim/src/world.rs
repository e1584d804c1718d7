//! The federation: built from a seed, driven until nothing more happens, broken and mended on demand.
//!
//! A node here does in each turn what its service does: offers its dataset, sends its journal, asks its inbox, handles
//! item after item and sends after each. In which order the nodes have their turns, and how many items they handle in
//! one, is drawn from the seed.

use std::collections::BTreeMap;
use std::path::PathBuf;

use chacha20::ChaCha20Rng;
use cohortium_messages::{
    AGREEMENT_VERSION, Agreement, Analysis, AnalysisTerms, ApprovalTerms, AttackThresholds, Author, Budgets, Call,
    DatasetTerms, Decimal, Entry, Envelope, Fact, Hash, HubEntry, InboxItem, Name, Ownership, PROTOCOL_VERSION, Party,
    PersonEntry, Principal, PrincipalKind, Refused, ReleaseMode, Reply, Request, ResearcherTerms, Response,
    RiskAcceptance, Role, RosterEntry, Schema, SecureSumTerms, SigningKey, Timestamp, Verified, canonical_bytes,
};
use cohortium_node::{DeskItem, Heard, JournalRecord};
use cohortium_policy::watch::Rules;
use cohortium_policy::{LogTerms, log_policy, open_agreement};
use rand_core::Rng as _;

use crate::folder::{Folder, copy_files};
use crate::hub_house::HubHouse;
use crate::keys;
use crate::machine::Machine;
use crate::wire::{Fate, Report, Seen, ToHub, ToNode, Wire};

/// The name of the hub and of its log.
pub(crate) const HUB: &str = "hub";
/// The one dataset, held by every hospital.
pub const DATASET: &str = "heart";
/// The one researcher.
pub const RESEARCHER: &str = "rosa";
/// The one study.
pub const STUDY: &str = "heart-study";

/// When every world begins: 2026-11-22T00:00:00Z.
const START_S: i64 = 1_795_305_600;
/// How many bytes of a vector are sent at once: few, so that vectors travel in several pieces.
const PIECE_BYTES: usize = 2048;
/// More passes over all nodes than any story needs: a world that does not come to rest is a bug.
const MAX_PASSES: usize = 2000;

/// Why a step of the world failed.
#[derive(Debug, thiserror::Error)]
pub enum SimError {
    /// A crashed party was needed.
    #[error("{0} is down")]
    Down(String),
    /// The hub does not do what it was asked.
    #[error("refused: {0}")]
    Refused(Refused),
    /// The world itself is wrong, or a promise is broken in a way that leaves nothing to go on with.
    #[error("the world is broken: {0}")]
    Broken(String),
}

/// A hospital.
#[derive(Debug, Clone)]
pub struct Hospital {
    /// Its rows, as its custodian's file.
    pub csv: String,
    /// What its house allows all studies together to spend.
    pub epsilon: String,
    /// Its name.
    pub name: String,
}

/// What a world is made from.
#[derive(Debug, Clone)]
pub struct Config {
    /// How tasks are approved; everything automatically where nothing is said.
    pub approval: Option<ApprovalTerms>,
    /// How many members may collude.
    pub colluders: u32,
    /// δ of all budgets.
    pub delta: String,
    /// What one query may cost.
    pub epsilon_per_query: String,
    /// What the researcher may spend.
    pub epsilon_per_researcher: String,
    /// What the study may spend.
    pub epsilon_total: String,
    /// The hospitals.
    pub hospitals: Vec<Hospital>,
    /// Whether the members show one another the heads of their own logs.
    pub members_witness: bool,
    /// Who acts for every hospital: names and roles.
    pub people: Vec<(String, Role)>,
    /// How long a phase of a task may take, in seconds.
    pub phase_timeout_s: u32,
    /// The rules by which every house wants to be told of remarkable tasks.
    pub rules: Option<Rules>,
    /// The dataset's schema, as TOML.
    pub schema: String,
    /// The seed of every key and every other random bit.
    pub seed: u64,
    /// What the custodians change in the agreement before they sign; given the seed, from which keys follow.
    pub terms: fn(&mut Agreement, u64),
    /// How many must survive a round.
    pub threshold: u32,
    /// How long the agreement is in force, in seconds.
    pub valid_s: i64,
    /// What the hub finds remarkable about a task, if it looks.
    pub watch: Option<Rules>,
}

impl Config {
    /// A world of these hospitals (names and files) over this schema, with room to spend and all members needed.
    #[must_use]
    pub fn new(seed: u64, hospitals: Vec<(String, String)>, schema: &str) -> Self {
        let threshold = u32::try_from(hospitals.len()).unwrap_or(u32::MAX);
        let hospital = |(name, csv)| Hospital { csv, epsilon: String::from("900"), name };
        Self {
            approval: None,
            colluders: 1,
            delta: String::from("0.000001"),
            epsilon_per_query: String::from("10"),
            epsilon_per_researcher: String::from("500"),
            epsilon_total: String::from("500"),
            hospitals: hospitals.into_iter().map(hospital).collect(),
            members_witness: false,
            people: Vec::new(),
            phase_timeout_s: 60,
            rules: None,
            schema: schema.to_owned(),
            seed,
            terms: |_, _| (),
            threshold,
            valid_s: 365 * 86_400,
            watch: None,
        }
    }
}

/// A federation in a box.
pub struct World {
    agreement: Verified<Agreement>,
    clock: Timestamp,
    config: Config,
    envelope: Envelope,
    fresh: u64,
    folder: Folder,
    /// The hub's house.
    pub hub: HubHouse,
    machines: BTreeMap<String, Machine>,
    pub(crate) rng: ChaCha20Rng,
    /// The network and its memory.
    pub wire: Wire,
}

impl World {
    /// A world in which everyone has joined, every custodian has signed, and nobody has asked anything yet.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn new(config: Config) -> Result<Self, SimError> {
        let mut world = Self::joined(config)?;
        world.sign_all()?;
        world.run_until_quiet()?;
        Ok(world)
    }

    /// A world in which everyone has joined and offered, and nobody has signed.
    ///
    /// # Errors
    /// When the configuration cannot work.
    pub fn joined(config: Config) -> Result<Self, SimError> {
        let folder = Folder::new()?;
        let hub = HubHouse::build(&config, &folder.path().join("hub"))?;
        let schema: Schema = toml::from_str(&config.schema).map_err(broken)?;
        let mut machines = BTreeMap::new();
        for hospital in &config.hospitals {
            let dir = folder.path().join(&hospital.name);
            let machine = Machine::build(&config, hospital, &schema, &hub.entry, &dir)?;
            machines.insert(hospital.name.clone(), machine);
        }
        let (agreement, envelope) = agree(&config, schema, &hub.entry, &machines)?;
        let rng = keys::generator(config.seed, "order of events");
        let clock = Timestamp::from_seconds(START_S);
        let wire = Wire::default();
        let mut world = Self { agreement, clock, config, envelope, fresh: 0, folder, hub, machines, rng, wire };
        world.join_all()?;
        world.run_until_quiet()?;
        Ok(world)
    }

    /// Every custodian signs the agreement, and nothing is carried further yet.
    ///
    /// # Errors
    /// When the hub refuses one.
    pub fn sign_all(&mut self) -> Result<(), SimError> {
        let agreement = (*self.agreement).clone();
        self.machine_names().iter().try_for_each(|name| self.sign(name, &agreement))
    }

    /// One custodian signs an agreement.
    ///
    /// # Errors
    /// When the hub refuses it.
    pub fn sign(&mut self, name: &str, agreement: &Agreement) -> Result<(), SimError> {
        let machine = self.machine(name)?;
        let call = self.signature(agreement, (&machine.name, &machine.secrets.agreement), &[])?;
        self.call_as_node(name, call).map(drop)
    }

    /// The agreement's next revision, with what `edit` changes. Nobody has signed it.
    #[must_use]
    pub fn amended(&self, edit: impl FnOnce(&mut Agreement)) -> Agreement {
        let mut next = Agreement {
            previous: Some(self.agreement.hash()),
            revision: self.agreement.revision + 1,
            ..(*self.agreement).clone()
        };
        edit(&mut next);
        next
    }

    /// The researcher and the world's checks go by this agreement from now on: all custodians have signed it.
    ///
    /// # Errors
    /// When it is no agreement.
    pub fn adopt(&mut self, agreement: &Agreement) -> Result<(), SimError> {
        (self.agreement, self.envelope) = signed_by_all(agreement, &self.machines)?;
        Ok(())
    }

    /// The agreement of this world amended: the next revision, signed by all its custodians.
    ///
    /// # Errors
    /// When it is no agreement.
    pub fn signed_amendment(
        &self,
        edit: impl FnOnce(&mut Agreement),
    ) -> Result<(Verified<Agreement>, Envelope), SimError> {
        let mut agreement = (*self.agreement).clone();
        agreement.revision += 1;
        agreement.previous = Some(self.agreement.hash());
        edit(&mut agreement);
        let names = agreement.participants();
        let entries: Vec<&RosterEntry> = agreement.parties.iter().map(|party| &party.entry).collect();
        let log_terms = LogTerms { post_quantum: false, quorum: agreement.secure_sum.threshold };
        agreement.log_policy =
            log_policy(&agreement.hub, &entries, agreement.secure_sum, log_terms).map_err(broken)?.to_string();
        let mut envelope: Option<Envelope> = None;
        for name in names {
            let key = keys::organisation(self.config.seed, name.as_str()).agreement;
            match envelope.as_mut() {
                Some(envelope) => envelope.also_sign(&key).map_err(broken)?,
                None => envelope = Some(Envelope::sign(&agreement, &key).map_err(broken)?),
            }
        }
        let envelope = envelope.ok_or_else(|| broken("a world needs hospitals"))?;
        Ok((open_agreement(&envelope).map_err(broken)?, envelope))
    }

    /// From now on researchers ask, and people speak, under this agreement.
    pub fn take_agreement(&mut self, agreement: Verified<Agreement>, envelope: Envelope) {
        (self.agreement, self.envelope) = (agreement, envelope);
    }

    /// A log entry under the agreement, now, signed with this key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn entry(&self, author: Author, fact: Fact, key: &SigningKey) -> Result<Envelope, SimError> {
        let (agreement, study) = (self.agreement.hash(), self.agreement.study.clone());
        Envelope::sign(&Entry { agreement, author, fact, study, time: self.clock }, key).map_err(broken)
    }

    /// The same world once more: same records, files and chance ahead; nothing on the wire yet, nobody on the network.
    ///
    /// # Errors
    /// When files cannot be copied or a party does not start from its copy.
    pub fn fork(&self) -> Result<Self, SimError> {
        let folder = Folder::new()?;
        copy_files(self.folder.path(), folder.path())?;
        let mut machines = BTreeMap::new();
        for (name, machine) in &self.machines {
            machines.insert(name.clone(), machine.copy(&folder.path().join(name))?);
        }
        Ok(Self {
            agreement: self.agreement.clone(),
            clock: self.clock,
            config: self.config.clone(),
            envelope: self.envelope.clone(),
            fresh: self.fresh,
            hub: self.hub.copy(&folder.path().join("hub"))?,
            folder,
            machines,
            rng: keys::copy(&self.rng),
            wire: Wire::default(),
        })
    }

    /// Carries everything until nothing more happens. Who is down or not connected is left out.
    ///
    /// # Errors
    /// When the world does not come to rest, or something happens that no fault explains.
    pub fn run_until_quiet(&mut self) -> Result<(), SimError> {
        for _ in 0..MAX_PASSES {
            let mut names = self.machine_names();
            shuffle(&mut names, &mut self.rng);
            let mut progress = false;
            for name in &names {
                progress |= self.turn(name)?;
            }
            if !progress {
                return Ok(());
            }
        }
        Err(broken(format!("still not quiet after {MAX_PASSES} passes")))
    }

    /// Lets chance in the order of events go on from another seed: forks of one world then go different ways.
    pub fn reseed(&mut self, seed: u64) {
        self.rng = keys::generator(seed, "order of events");
    }

    /// Lets time pass, and the hub look at its deadlines.
    ///
    /// # Errors
    /// [`SimError::Down`] when the hub is down or crashes.
    pub fn advance(&mut self, seconds: i64) -> Result<(), SimError> {
        self.clock = self.clock.plus_seconds(seconds);
        self.hub.tick(self.clock)
    }

    /// Lets a node look for runs that the hub has forgotten, as its service does every hour.
    ///
    /// # Errors
    /// [`SimError::Down`] when the node is down or crashes.
    pub fn give_up_old_runs(&mut self, name: &str) -> Result<(), SimError> {
        let now = self.clock;
        self.machine_mut(name)?.give_up_old_runs(now)
    }

    /// Starts a node (or `hub`) again from what is durable.
    ///
    /// # Errors
    /// When it does not start: nothing that a crash leaves may prevent that.
    pub fn restart(&mut self, name: &str) -> Result<(), SimError> {
        if name == HUB { self.hub.open() } else { self.machine_mut(name)?.open() }
    }

    /// Puts someone between hub and nodes. Nobody else is there any more.
    pub fn between_hub_and_node(&mut self, hook: impl FnMut(&Name, &mut InboxItem) -> Fate + 'static) {
        let hook: ToNode = Box::new(hook);
        self.wire.to_node = Some(hook);
    }

    /// Puts someone between nodes and hub. Nobody else is there any more.
    pub fn between_node_and_hub(&mut self, hook: impl FnMut(&Name, &mut Call) -> Fate + 'static) {
        let hook: ToHub = Box::new(hook);
        self.wire.to_hub = Some(hook);
    }

    /// Takes everyone off the network who was put there.
    pub fn honest_again(&mut self) {
        (self.wire.to_node, self.wire.to_hub) = (None, None);
    }

    /// A hospital's house.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn machine(&self, name: &str) -> Result<&Machine, SimError> {
        self.machines.get(name).ok_or_else(|| broken(format!("there is no machine {name}")))
    }

    /// A hospital's house.
    ///
    /// # Errors
    /// When there is none of this name.
    pub fn machine_mut(&mut self, name: &str) -> Result<&mut Machine, SimError> {
        self.machines.get_mut(name).ok_or_else(|| broken(format!("there is no machine {name}")))
    }

    /// The names of all hospitals, sorted.
    #[must_use]
    pub fn machine_names(&self) -> Vec<String> {
        self.machines.keys().cloned().collect()
    }

    /// The agreement.
    #[must_use]
    pub const fn agreement(&self) -> &Verified<Agreement> {
        &self.agreement
    }

    /// The agreement with all signatures: what an auditor is given.
    #[must_use]
    pub const fn agreement_envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// What the world was made from.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The time.
    #[must_use]
    pub const fn clock(&self) -> Timestamp {
        self.clock
    }

    /// The seed.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.config.seed
    }

    /// What a person of a hospital says, signed under the agreement of this world.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn said(&self, hospital: &str, person: &str, fact: Fact) -> Result<Envelope, SimError> {
        let name = |text: &str| Name::new(text).map_err(broken);
        let author = Author::Person { organisation: name(hospital)?, person: name(person)? };
        self.signed(author, fact, &keys::person(self.config.seed, hospital, person).key)
    }

    /// An entry under the agreement of this world, signed with any key.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn signed(&self, author: Author, fact: Fact, key: &SigningKey) -> Result<Envelope, SimError> {
        let (agreement, study) = (self.agreement.hash(), self.agreement.study.clone());
        Envelope::sign(&Entry { agreement, author, fact, study, time: self.clock }, key).map_err(broken)
    }

    /// Lays what a person says on the desk of their hospital; its node acts on it at once.
    ///
    /// # Errors
    /// [`SimError::Down`].
    pub fn say(&mut self, hospital: &str, person: &str, fact: Fact) -> Result<Heard, SimError> {
        let entry = self.said(hospital, person, fact)?;
        self.lay_on_desk(hospital, entry)
    }

    /// Lays an entry on the desk of a hospital; its node acts on it at once.
    ///
    /// # Errors
    /// [`SimError::Down`].
    pub fn lay_on_desk(&mut self, hospital: &str, entry: Envelope) -> Result<Heard, SimError> {
        let now = self.clock;
        self.machine_mut(hospital)?.hear(&DeskItem { body: None, entry }, now)
    }

    /// A directory that nobody has used yet.
    pub(crate) fn fresh_dir(&mut self, label: &str) -> PathBuf {
        self.fresh += 1;
        self.folder.path().join(format!("{label}-{}", self.fresh))
    }

    fn join_all(&mut self) -> Result<(), SimError> {
        for name in self.machine_names() {
            let machine = self.machine(&name)?;
            let secret = self.hub.invite(&machine.name, false)?;
            let entry = machine.secrets.entry(&machine.name);
            let entry = Envelope::sign(&entry, &machine.secrets.identity).map_err(broken)?;
            let request =
                self.request(organisation(&machine.name), Call::Join { entry, secret }, Hash::of(name.as_bytes()));
            let request = Envelope::sign(&request, &machine.secrets.identity).map_err(broken)?;
            self.carry(&request)?;
        }
        self.join_researcher(RESEARCHER)
    }

    /// One node's turn, if it and the hub are up; returns whether anything happened.
    ///
    /// # Errors
    /// When something happens that no fault explains.
    pub fn turn(&mut self, name: &str) -> Result<bool, SimError> {
        if !self.machine(name)?.is_up() || !self.hub.is_up() {
            return Ok(false);
        }
        match self.try_turn(name) {
            Err(SimError::Down(who)) => {
                self.wire.crashes.push(who);
                Ok(true)
            }
            other => other,
        }
    }

    fn try_turn(&mut self, name: &str) -> Result<bool, SimError> {
        let now = self.clock;
        self.machine_mut(name)?.offer(now)?;
        if self.config.members_witness {
            self.machine_mut(name)?.show_own_log(now)?;
        }
        let mut progress = self.send_journal(name)?;
        let after = self.machine_mut(name)?.cursor()?;
        let Reply::Inbox(items) = self.call_as_node(name, Call::Inbox { after, wait_ms: 0 })? else {
            return Err(broken("the hub answers something else than an inbox"));
        };
        let at_most = 1 + self.rng.next_u32() as usize % 4;
        for (number, item) in items.into_iter().take(at_most) {
            if !self.hand_over(name, number, item)? {
                break;
            }
            progress = true;
            self.send_journal(name)?;
        }
        self.machine_mut(name)?.look_for_withheld(now)?;
        Ok(progress)
    }

    fn hand_over(&mut self, name: &str, number: u64, mut item: InboxItem) -> Result<bool, SimError> {
        let node = self.machine(name)?.name.clone();
        match self.wire.inbound(&node, &mut item) {
            Fate::Deliver => {}
            Fate::Later | Fate::Lose | Fate::Unanswered => return Ok(false),
            Fate::Withhold => {
                self.machine_mut(name)?.withhold();
                return Ok(true);
            }
        }
        let now = self.clock;
        if let Some(why) = self.machine_mut(name)?.handle(number, &item, now)? {
            self.wire.reports.push(Report { node, why });
        }
        Ok(true)
    }

    /// Sends what the journal holds, oldest first; returns whether anything was sent.
    fn send_journal(&mut self, name: &str) -> Result<bool, SimError> {
        let mut progress = false;
        loop {
            let now = self.clock;
            let unsent = self.machine_mut(name)?.unsent(now)?;
            if unsent.is_empty() {
                return Ok(progress);
            }
            for (number, record, bytes) in unsent {
                match self.send_with_bytes(name, &record, bytes.as_deref()) {
                    Ok(true) => self.machine_mut(name)?.mark_sent(number)?,
                    Ok(false) => return Ok(progress),
                    Err(SimError::Refused(refused)) => {
                        let is_final = self.machine_mut(name)?.mark_refused(number, &refused)?;
                        let node = self.machine(name)?.name.clone();
                        self.wire.refusals.push((node, refused));
                        if !is_final {
                            return Ok(progress);
                        }
                    }
                    Err(error) => return Err(error),
                }
                progress = true;
            }
        }
    }

    /// Lets one record of a journal leave a node, with the bytes that follow it. A hub that has fewer of them than it said
    /// was started again, and is asked again, as the service does. Returns whether it arrived.
    fn send_with_bytes(&mut self, name: &str, record: &JournalRecord, bytes: Option<&[u8]>) -> Result<bool, SimError> {
        for _ in 0..5 {
            match self.send(name, record.call.clone())? {
                Some(Reply::Vector { have, ticket })
                    if !self.send_vector(name, (record.vector, ticket), have, bytes)? => {}
                reply => return Ok(reply.is_some()),
            }
        }
        Ok(false) // it is announced again later, until the round is over
    }

    /// Lets one call leave a node. `None` when it was lost on the way.
    fn send(&mut self, name: &str, mut call: Call) -> Result<Option<Reply>, SimError> {
        let node = self.machine(name)?.name.clone();
        self.wire.left.push((node.clone(), call.clone()));
        match self.wire.outbound(&node, &mut call) {
            Fate::Deliver => self.call_as_node(name, call).map(Some),
            Fate::Later => {
                let (code, why) = (String::from("later"), String::from("there is no room for your requests just now"));
                Err(SimError::Refused(Refused { clauses: Vec::new(), code, why }))
            }
            Fate::Lose | Fate::Withhold => Ok(None),
            Fate::Unanswered => match self.call_as_node(name, call) {
                Ok(_) | Err(SimError::Refused(_)) => Ok(None),
                Err(error) => Err(error),
            },
        }
    }

    fn send_vector(
        &mut self,
        name: &str,
        (sha256, ticket): (Option<Hash>, Hash),
        have: u64,
        bytes: Option<&[u8]>,
    ) -> Result<bool, SimError> {
        let (Some(sha256), Some(bytes)) = (sha256, bytes) else { return Ok(true) };
        let from = self.machine(name)?.name.clone();
        let mut have = usize::try_from(have).map_err(broken)?;
        while let Some(rest) = bytes.get(have..).filter(|rest| !rest.is_empty()) {
            let piece = rest.get(..PIECE_BYTES).unwrap_or(rest).to_vec();
            self.wire.seen.push(Seen::Vector { bytes: piece.clone(), from: from.clone(), sha256 });
            match self.put_bytes(ticket, have as u64, &piece) {
                Ok(now) if now > have as u64 => have = usize::try_from(now).map_err(broken)?,
                Err(SimError::Refused(refused)) if refused.code == "conflict" => return Ok(false),
                Err(error) => return Err(error),
                _ => return Err(broken("the hub takes no bytes")),
            }
            if let Some(pieces) = self.wire.hub_restarts_after.as_mut() {
                *pieces -= 1;
                if *pieces == 0 {
                    self.wire.hub_restarts_after = None;
                    self.hub.open()?;
                }
            }
        }
        Ok(true)
    }

    /// Bytes for an announced vector, from whoever knows where they go; gives how many the hub has then.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn put_bytes(&mut self, ticket: Hash, offset: u64, piece: &[u8]) -> Result<u64, SimError> {
        let answer = self.hub.receive_vector(ticket, offset, piece, self.clock)?;
        match self.read(&answer, ticket)? {
            Reply::Vector { have, .. } => Ok(have),
            _ => Err(broken("the hub answers something else than how much it has")),
        }
    }

    /// A call signed by a node's message key.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn call_as_node(&mut self, name: &str, call: Call) -> Result<Reply, SimError> {
        let nonce = draw(&mut self.machine_mut(name)?.rng);
        let machine = self.machine(name)?;
        let request = self.request(organisation(&machine.name), call, nonce);
        let request = Envelope::sign(&request, &machine.secrets.message).map_err(broken)?;
        self.carry(&request)
    }

    /// Calls of nodes that wait for the hub at the same time, and what each is answered.
    ///
    /// # Errors
    /// [`SimError::Down`].
    pub fn call_together(&mut self, calls: Vec<(&str, Call)>) -> Result<Vec<Result<Reply, SimError>>, SimError> {
        let (mut requests, mut nonces) = (Vec::new(), Vec::new());
        for (name, call) in calls {
            let nonce = draw(&mut self.machine_mut(name)?.rng);
            let machine = self.machine(name)?;
            let request = self.request(organisation(&machine.name), call, nonce);
            requests.push(Envelope::sign(&request, &machine.secrets.message).map_err(broken)?);
            nonces.push(nonce);
        }
        let answers = self.hub.answer_all(&requests, self.clock)?;
        Ok(answers.iter().zip(nonces).map(|(answer, nonce)| self.read(answer, nonce)).collect())
    }

    /// A call signed by the researcher's key.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn call_as_researcher(&mut self, call: Call) -> Result<Reply, SimError> {
        self.call_as(RESEARCHER, call)
    }

    /// Invites a researcher.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn join_researcher(&mut self, name: &str) -> Result<(), SimError> {
        let (as_name, key) = (Name::new(name).map_err(broken)?, keys::researcher(self.config.seed, name));
        let secret = self.hub.invite(&as_name, true)?;
        let entry = Envelope::sign(&key.entry(&as_name), &key.key).map_err(broken)?;
        self.call_as(name, Call::Join { entry, secret }).map(drop)
    }

    /// Lets an organisation that has no house here join, with this entry, whose identity key this is.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn join_organisation(&mut self, entry: &RosterEntry, identity: &SigningKey) -> Result<(), SimError> {
        let secret = self.hub.invite(&entry.organisation, false)?;
        let call = Call::Join { entry: Envelope::sign(entry, identity).map_err(broken)?, secret };
        self.call_as_organisation(&entry.organisation, call, identity).map(drop)
    }

    /// A call in the name of an organisation that has no house here, signed with its message key.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn call_as_organisation(&mut self, name: &Name, call: Call, key: &SigningKey) -> Result<Reply, SimError> {
        let nonce = draw(&mut self.rng);
        let request = Envelope::sign(&self.request(organisation(name), call, nonce), key).map_err(broken)?;
        self.carry(&request)
    }

    /// The first agreement of another study, with the terms of this world's and these parties, of whom all are needed.
    ///
    /// # Errors
    /// When they can make none.
    pub fn other_study(&self, study: &str, entries: &[RosterEntry]) -> Result<Agreement, SimError> {
        let threshold = u32::try_from(entries.len()).map_err(broken)?;
        let secure_sum = SecureSumTerms { colluders: 1, threshold };
        let log_terms = LogTerms { post_quantum: false, quorum: threshold };
        let policy = log_policy(&self.hub.entry, &entries.iter().collect::<Vec<_>>(), secure_sum, log_terms);
        Ok(Agreement {
            log_policy: policy.map_err(broken)?.to_string(),
            parties: entries.iter().map(|entry| Party { entry: entry.clone(), people: Vec::new() }).collect(),
            previous: None,
            revision: 1,
            secure_sum,
            study: Name::new(study).map_err(broken)?,
            ..(*self.agreement).clone()
        })
    }

    /// The call by which a custodian signs an agreement that others may have signed before.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn signature(
        &self,
        agreement: &Agreement,
        (custodian, key): (&Name, &SigningKey),
        others: &[&SigningKey],
    ) -> Result<Call, SimError> {
        let mut envelope = Envelope::sign(agreement, key).map_err(broken)?;
        others.iter().try_for_each(|other| envelope.also_sign(other)).map_err(broken)?;
        let entry = Entry {
            agreement: Hash::of(&canonical_bytes(agreement).map_err(broken)?),
            author: Author::Custodian(custodian.clone()),
            fact: Fact::Agreement {
                body: Hash::of(&canonical_bytes(&envelope).map_err(broken)?),
                revision: agreement.revision,
            },
            study: agreement.study.clone(),
            time: self.clock,
        };
        Ok(Call::Sign { agreement: envelope, entry: Envelope::sign(&entry, key).map_err(broken)? })
    }

    /// A call signed by any researcher's key.
    ///
    /// # Errors
    /// [`SimError::Refused`], [`SimError::Down`].
    pub fn call_as(&mut self, name: &str, call: Call) -> Result<Reply, SimError> {
        let nonce = draw(&mut self.rng);
        let from = Principal { kind: PrincipalKind::Researcher, name: Name::new(name).map_err(broken)? };
        let request = self.request(from, call, nonce);
        let request = Envelope::sign(&request, &keys::researcher(self.config.seed, name).key).map_err(broken)?;
        self.carry(&request)
    }

    /// The researcher's key.
    #[must_use]
    pub fn researcher_key(&self) -> SigningKey {
        keys::researcher(self.config.seed, RESEARCHER).key
    }

    fn request(&self, from: Principal, call: Call, nonce: Hash) -> Request {
        Request { call, from, nonce, protocol: PROTOCOL_VERSION, time: self.clock }
    }

    /// Brings a signed request to the hub, as bytes, and its answer back.
    fn carry(&mut self, request: &Envelope) -> Result<Reply, SimError> {
        let bytes = serde_json::to_vec(request).map_err(broken)?;
        let arrived: Envelope = serde_json::from_slice(&bytes).map_err(broken)?;
        let claims = arrived.peek::<Request>().map_err(broken)?;
        let Request { call, from, nonce, .. } = claims.claims().clone();
        self.wire.seen.push(Seen::Request { bytes, call: Box::new(call), from });
        let answer = self.hub.answer(&arrived, self.clock)?;
        self.read(&answer, nonce)
    }

    fn read(&self, answer: &Envelope, nonce: Hash) -> Result<Reply, SimError> {
        let response = answer.open::<Response>(&self.hub.entry.message_key).map_err(broken)?.into_inner();
        if response.nonce != nonce {
            return Err(broken("the hub answers another request"));
        }
        response.reply.map_err(SimError::Refused)
    }
}

pub(crate) fn broken(error: impl std::fmt::Display) -> SimError {
    SimError::Broken(error.to_string())
}

/// 32 fresh bytes.
pub(crate) fn draw(rng: &mut ChaCha20Rng) -> Hash {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    Hash::from_bytes(bytes)
}

fn organisation(name: &Name) -> Principal {
    Principal { kind: PrincipalKind::Organisation, name: name.clone() }
}

/// Fisher and Yates.
fn shuffle(names: &mut [String], rng: &mut ChaCha20Rng) {
    for last in (1..names.len()).rev() {
        names.swap(last, rng.next_u32() as usize % (last + 1));
    }
}

/// Who acts for a hospital.
fn people_of(config: &Config, hospital: &Name) -> Result<Vec<PersonEntry>, SimError> {
    let entry = |(person, role): &(String, Role)| {
        let person = Name::new(person.as_str()).map_err(broken)?;
        Ok(keys::person(config.seed, hospital.as_str(), person.as_str()).entry(&person, *role))
    };
    config.people.iter().map(entry).collect()
}

/// The agreement that the custodians of this world make, with all their signatures.
fn agree(
    config: &Config,
    schema: Schema,
    hub: &HubEntry,
    machines: &BTreeMap<String, Machine>,
) -> Result<(Verified<Agreement>, Envelope), SimError> {
    let name = |text: &str| Name::new(text).map_err(broken);
    let start = Timestamp::from_seconds(START_S);
    let researcher = keys::researcher(config.seed, RESEARCHER).entry(&name(RESEARCHER)?);
    let secure_sum = SecureSumTerms { colluders: config.colluders, threshold: config.threshold };
    let parties: Vec<Party> = machines
        .values()
        .map(|machine| {
            Ok(Party { entry: machine.secrets.entry(&machine.name), people: people_of(config, &machine.name)? })
        })
        .collect::<Result<_, SimError>>()?;
    let entries: Vec<&RosterEntry> = parties.iter().map(|party| &party.entry).collect();
    // As many witnesses as a round needs members: 2t > n + c.
    let log_terms = LogTerms { post_quantum: false, quorum: config.threshold };
    let epsilon: Decimal = config.epsilon_per_query.parse().map_err(broken)?;
    let mut agreement = Agreement {
        analyses: [Analysis::Count, Analysis::Mean, Analysis::Sum]
            .map(|analysis| AnalysisTerms { analysis, max_cells: 10_000, max_epsilon: epsilon })
            .into(),
        approval: match &config.approval {
            Some(approval) => approval.clone(),
            None => ApprovalTerms::everything_automatic(vec![name(DATASET)?], epsilon),
        },
        attack_thresholds: AttackThresholds {
            attribute_advantage: Decimal::from(1),
            membership_advantage: Decimal::from(1),
            reconstruction_rate: Decimal::from(1),
        },
        budgets: Budgets {
            delta: config.delta.parse().map_err(broken)?,
            epsilon_per_query: epsilon,
            epsilon_per_researcher: config.epsilon_per_researcher.parse().map_err(broken)?,
            epsilon_total: config.epsilon_total.parse().map_err(broken)?,
        },
        conditions: Vec::new(),
        datasets: vec![DatasetTerms { minimum_cohort: 0, mode: ReleaseMode::Noised, name: name(DATASET)?, schema }],
        hub: hub.clone(),
        log_policy: log_policy(hub, &entries, secure_sum, log_terms).map_err(broken)?.to_string(),
        ownership: Ownership {
            data: String::from("each hospital owns its own"),
            models: String::from("all hospitals together"),
            passing_on: String::from("to nobody: they are made up"),
            results: String::from("all hospitals together"),
        },
        parties,
        phases: Vec::new(),
        previous: None,
        purpose_text: String::from("whether cholesterol rises with age"),
        purposes: vec!["HMB".parse().map_err(broken)?],
        researchers: vec![ResearcherTerms { entry: researcher }],
        retention_days: 365,
        revision: 1,
        risk_acceptance: RiskAcceptance {
            accepted_by: String::from("the board"),
            statement: String::from("accepted, in a world that does not exist"),
        },
        secure_sum,
        study: name(STUDY)?,
        title: String::from("Cholesterol and age"),
        valid_from: start.plus_seconds(-86_400),
        valid_until: start.plus_seconds(config.valid_s),
        version: AGREEMENT_VERSION,
    };
    (config.terms)(&mut agreement, config.seed);
    signed_by_all(&agreement, machines)
}

/// The agreement with the signatures of those of its parties that have a house here.
fn signed_by_all(
    agreement: &Agreement,
    machines: &BTreeMap<String, Machine>,
) -> Result<(Verified<Agreement>, Envelope), SimError> {
    let parties = machines.values().filter(|machine| agreement.party(&machine.name).is_some());
    let mut keys = parties.map(|machine| &machine.secrets.agreement);
    let first = keys.next().ok_or_else(|| broken("a world needs hospitals"))?;
    let mut envelope = Envelope::sign(agreement, first).map_err(broken)?;
    keys.try_for_each(|key| envelope.also_sign(key)).map_err(broken)?;
    let verified = open_agreement(&envelope).map_err(broken)?;
    Ok((verified, envelope))
}
