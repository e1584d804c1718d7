//! A member in the box: it keeps what is durable, starts from that after a crash, and may lie.

use std::collections::BTreeSet;

use cohortium_dp::{NoisePlan, Raw, add_noise};
use cohortium_messages::{MaskedHeader, Name, Reveal, RoundContext, SurvivorSet, Verified};
use cohortium_mpc::{Answer, MpcError, SumMember};

use crate::party::{envelope, input, name, open, parties};
use crate::path::{Packet, Path, Says, Start};

/// What a packet on the network holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// To the hub: deposit and shares.
    Dealt,
    /// To a member: the shares for it.
    Shares,
    /// To the hub: header and vector.
    Masked,
    /// To a member: the proposed survivors.
    Survivors,
    /// To the hub: a signature on them.
    Signed,
    /// To a member: the signatures.
    Signatures,
    /// To the hub: what is opened.
    Revealed,
}

/// When a step is cut short.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// Before anything is durable: the step did not happen.
    Before,
    /// After: the message is durable but does not leave.
    After,
}

/// How a malicious member lies. Each is noticed by somebody, or harms nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lie {
    /// Commits to another mask key with somebody.
    MaskKeyCommitment,
    /// Commits to another self-mask seed than it shares.
    SelfMask,
    /// Deposits another mask key, and drops out.
    Deposit,
    /// Reveals a wrong share.
    Share,
    /// Reveals a wrong noise seed.
    NoiseSeed,
    /// Signs a second set.
    TwoSets,
    /// Sends a second vector. Whichever comes first counts as its input, as with any lie about one's own data.
    TwoVectors,
}

impl Lie {
    pub const ALL: [Self; 7] = [
        Self::MaskKeyCommitment,
        Self::SelfMask,
        Self::Deposit,
        Self::Share,
        Self::NoiseSeed,
        Self::TwoSets,
        Self::TwoVectors,
    ];
}

/// A member.
pub struct Node<P: Path> {
    pub index: usize,
    pub context: RoundContext,
    pub noise: NoisePlan,
    pub lie: Option<Lie>,
    /// Runs from an older copy of its state after it has signed, against the rule.
    pub is_forgetful: bool,
    /// For good.
    pub is_dead: bool,
    /// At the next step.
    pub crash: Option<Crash>,
    seed: u64,
    attempts: u8,
    durable: Durable<P::Ties>,
    /// The same in memory, as long as it has not crashed.
    live: Option<P::Member>,
    /// The state after signing that a forgetful member opens from before it forgets.
    signed_twin: Option<P::Member>,
    pub witness: Witness,
}

/// What survives a crash.
#[derive(Default)]
struct Durable<T> {
    ties: T,
    member: Option<Vec<u8>>,
    sent: Vec<Packet>,
}

/// What the test knows about a member that nobody else does.
#[derive(Default, Clone)]
pub struct Witness {
    /// What every component of its noise grows from.
    pub seeds: Vec<[u8; 32]>,
    /// Its noised vector.
    pub noised: Option<Vec<i64>>,
    /// The same, masked.
    pub masked: Vec<u8>,
    /// Every set it ever signed.
    pub sets: BTreeSet<Vec<Name>>,
    /// Every reveal it ever sent.
    pub reveals: Vec<Reveal>,
}

/// What a step sends, or why there was none.
pub type Step = Result<Vec<Packet>, String>;

impl<P: Path> Node<P> {
    pub fn new(index: usize, context: &RoundContext, noise: &NoisePlan, seed: u64, lie: Option<Lie>) -> Self {
        let durable = Durable { ties: P::ties(index), ..Durable::default() };
        let (context, noise) = (context.clone(), noise.clone());
        let witness = Witness::default();
        let (is_forgetful, is_dead, crash, attempts) = (false, false, None, 0);
        Self {
            index,
            context,
            noise,
            lie,
            is_forgetful,
            is_dead,
            crash,
            seed,
            attempts,
            durable,
            live: None,
            signed_twin: None,
            witness,
        }
    }

    pub fn is_honest(&self) -> bool {
        self.lie.is_none()
    }

    /// Joins the round. Each attempt that was lost in a crash is made again with fresh randomness.
    pub fn deal(&mut self) -> Step {
        self.attempts += 1;
        // What is used up is durable together with the first message, or not at all.
        let mut ties = self.durable.ties.clone();
        let (mut member, answer) = P::begin(&self.start(), &mut ties).map_err(refused)?;
        let seeds = member.noise_seeds().map_err(refused)?;
        let seeds = (0..seeds.count()).map(|component| *seeds.expose_seed_bytes(component).unwrap()).collect();
        let mut witness = Witness { seeds, ..Witness::default() };
        let sent = self.answer(&mut member, answer, &mut witness)?;
        let is_durable = self.commit(Some(&member), sent.clone());
        if is_durable {
            self.witness = witness;
            self.durable.ties = ties;
            self.is_dead |= self.lie == Some(Lie::Deposit);
        }
        self.leave(is_durable, sent)
    }

    /// Takes a message of the hub. After a crash, from what is durable.
    pub fn handle(&mut self, kind: Kind, bytes: &[u8]) -> Step {
        let opened_before_forgetting = self.signed_twin.take_if(|_| kind == Kind::Signatures);
        let member = opened_before_forgetting.or_else(|| self.live.take()).or_else(|| self.member());
        let mut member = member.ok_or("no round")?;
        let is_lost = self.crash.is_some() || self.is_forgetful;
        let step = self.step(&mut member, kind, bytes);
        if self.is_forgetful && kind == Kind::Survivors && step.is_ok() {
            self.signed_twin = Some(member);
        } else if !is_lost {
            self.live = Some(member);
        }
        step
    }

    fn step(&mut self, member: &mut P::Member, kind: Kind, bytes: &[u8]) -> Step {
        let answer = member.hear(P::to_member(kind, bytes)?).map_err(refused)?;
        let mut witness = self.witness.clone();
        let sent = self.answer(member, answer, &mut witness)?;
        let older = self.durable.member.clone().filter(|_| self.is_forgetful && kind == Kind::Survivors);
        let forgets = self.is_forgetful && kind == Kind::Signatures;
        let is_durable = self.commit((!forgets).then_some(&*member), sent.clone());
        if is_durable {
            self.witness = witness;
        }
        if older.is_some() {
            self.durable.member = older;
        }
        self.leave(is_durable, sent)
    }

    /// What a member sends: what it says, or its noised vector.
    fn answer(&self, member: &mut P::Member, answer: Answer<Says<P>>, witness: &mut Witness) -> Step {
        let said = match answer {
            Answer::Say(said) => said,
            Answer::Contribute => {
                let raw = Raw::new(input(self.index, self.context.elements));
                let noised = add_noise(raw, &self.noise, member.noise_seeds().map_err(refused)?).unwrap();
                let said = member.contribute(&noised).map_err(refused)?;
                witness.noised = Some(noised.values().to_vec());
                said
            }
        };
        Ok(P::packets(said, &self.start(), self.lie, witness))
    }

    fn start(&self) -> Start<'_> {
        let mut seed = [self.attempts; 32];
        seed[..8].copy_from_slice(&self.seed.to_le_bytes());
        seed[8] = self.index as u8;
        Start { index: self.index, context: &self.context, noise: &self.noise, seed }
    }

    /// Everything it sent so far once more; or its first step, if that was lost.
    pub fn retry(&mut self) -> Step {
        match (self.is_dead, self.durable.member.is_some()) {
            (true, _) => Ok(Vec::new()),
            (false, false) => self.deal(),
            (false, true) => Ok(self.durable.sent.clone()),
        }
    }

    /// The member, from what is durable.
    pub fn member(&self) -> Option<P::Member> {
        self.durable.member.as_ref().map(|bytes| P::Member::from_secret_bytes(bytes).unwrap())
    }

    /// State and messages of a step become durable together, unless the crash comes first.
    fn commit(&mut self, member: Option<&P::Member>, sent: Vec<Packet>) -> bool {
        if self.crash.take_if(|crash| *crash == Crash::Before).is_some() {
            return false;
        }
        if let Some(member) = member {
            self.durable.member = Some(member.to_secret_bytes().unwrap().to_vec());
        }
        for message in sent {
            if !self.durable.sent.contains(&message) {
                self.durable.sent.push(message);
            }
        }
        true
    }

    fn leave(&mut self, is_durable: bool, sent: Vec<Packet>) -> Step {
        let is_cut = self.crash.take().is_some() || !is_durable;
        Ok(if is_cut { Vec::new() } else { sent })
    }
}

/// A vector whose first element is one more: another input under the same masks.
pub fn one_more(vector: &[u8], width: usize) -> Vec<u8> {
    let mut other = vector.to_vec();
    for byte in &mut other[..width] {
        *byte = byte.wrapping_add(1);
        if *byte != 0 {
            break;
        }
    }
    other
}

/// Header and vector in one packet: the length of the envelope, the envelope, the vector.
pub fn vector_packet(header: &MaskedHeader, vector: &[u8], from: usize) -> Vec<u8> {
    let envelope = envelope(header, from);
    [&(envelope.len() as u32).to_be_bytes()[..], &envelope, vector].concat()
}

/// What [`vector_packet`] wrote.
pub fn read_vector_packet(bytes: &[u8], from: usize) -> Result<(Verified<MaskedHeader>, Vec<u8>), String> {
    let (len, rest) = bytes.split_first_chunk::<4>().ok_or("malformed")?;
    let (header, vector) = rest.split_at_checked(u32::from_be_bytes(*len) as usize).ok_or("malformed")?;
    Ok((open(header, from)?, vector.to_vec()))
}

/// Signatures on survivor sets as they go to members: each with its envelope as it came and its claimed sender.
pub type Signatures = Vec<(usize, String)>;

/// Opens each with the key of the member that is said to have signed it.
pub fn read_signatures(bytes: &[u8]) -> Result<Vec<Verified<SurvivorSet>>, String> {
    let signatures: Signatures = serde_json::from_slice(bytes).map_err(|_| "malformed")?;
    let read = |(from, envelope): &(usize, String)| {
        parties().get(*from).ok_or("a stranger")?;
        let set = open::<SurvivorSet>(envelope.as_bytes(), *from)?;
        if set.from == name(*from) { Ok(set) } else { Err(String::from("in another's name")) }
    };
    signatures.iter().map(read).collect()
}

/// An error says who must act, and it is never us.
pub fn refused(error: MpcError) -> String {
    let text = error.to_string();
    assert!(!text.starts_with("us:"), "an invariant of ours broke: {text}");
    text
}
