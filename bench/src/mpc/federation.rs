//! Organisations that agreed on their pairwise secrets, and whole rounds between them, step by step and timed.
//!
//! The first member is the one that is measured. Its input has its noise in, as at a node; the others mask their inputs
//! as they are, because their noise would take longer than all else and shows in nothing that is measured. So the opened
//! sum is known to the last bit, and a round that was played wrongly is noticed.
//!
//! Does not: send anything, store anything, or use anybody's secrets: all generators start from fixed seeds.

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use cohortium_dp::{NoisePlan, Noised, Raw, add_noise};
use cohortium_messages::{
    Envelope, Hash, KemPublicKey, KemSecretKey, Name, PROTOCOL_VERSION, PairwiseCiphertext, ReleaseMode, Ring,
    RoundContext, SigningKey, SurvivorSet, Verified,
};
use cohortium_mpc::{
    Answer, Chain, Coordinator, FromHub, FromMember, Masked, Member, MpcError, SumHub as _, SumMember as _, ToHub,
    ToMember, accept, encapsulate,
};
use rand_core::SeedableRng as _;

use super::words;
use crate::clock::{median, timed};

/// The noise variance that is guaranteed, lattice steps squared: σ = 2^16, so that components are drawn the slower way.
const SIGMA2: u64 = 1 << 32;
/// Levels of an input: those of Flower's quantisation by default.
const LEVELS: u64 = 1 << 22;

/// Element `index` of everybody's input. `flower_secagg.py` computes the same.
pub fn input(index: usize) -> i64 {
    (index as u64 * 2_654_435_761 % LEVELS) as i64 - (LEVELS / 2) as i64
}

/// Organisations under one agreement.
pub struct Federation {
    pub organisations: Vec<Organisation>,
    pub agreement: Hash,
    threshold: u32,
    colluders: u32,
    /// Position of the next round in the log.
    position: u64,
    pub setup: Setup,
}

/// What agreeing on pairwise secrets takes, once per agreement: a member encapsulates to all whose names sort after its
/// own and accepts from all others.
#[derive(Default)]
pub struct Setup {
    /// Seconds for each peer, signing included.
    pub encapsulate: Vec<f64>,
    /// Seconds for each peer, checking the signature included.
    pub accept: Vec<f64>,
    /// What the first member sent: as many as anybody.
    pub sent: Vec<Envelope>,
}

/// An organisation between rounds.
pub struct Organisation {
    pub name: Name,
    pub key: SigningKey,
    kem: KemSecretKey,
    chains: BTreeMap<Name, Chain>,
    rng: ChaCha20Rng,
}

/// A round in which everybody has its shares.
pub struct Dealt {
    /// About to mask.
    pub members: Vec<Member>,
    pub hub: Coordinator,
    /// Everybody's share messages.
    shares: Vec<Envelope>,
    /// What the first member spent: beginning, receiving.
    seconds: [f64; 2],
}

/// A round in which enough members revealed.
pub struct Played {
    /// What the first member spent.
    pub steps: Steps,
    /// What the first member signed.
    pub sent: Sent,
    /// Everybody's share messages.
    pub dealt: Vec<Envelope>,
    pub hub: Coordinator,
    /// Headers and vectors of the survivors, in their order.
    pub uploads: Vec<(Envelope, Vec<u8>)>,
    /// What the first member put in.
    pub noised: Noised,
}

/// Processor seconds of one member, signing its messages and checking those of others included.
#[derive(Clone, Copy)]
pub struct Steps {
    pub begin: f64,
    pub receive: f64,
    pub noise: f64,
    pub mask: f64,
    pub sign: f64,
    pub reveal: f64,
}

impl Steps {
    /// All that Flower's client does as well: everything but noise.
    pub fn without_noise(&self) -> f64 {
        self.begin + self.receive + self.mask + self.sign + self.reveal
    }
}

/// One member's signed messages.
pub struct Sent {
    pub shares: Envelope,
    pub header: Envelope,
    pub set: Envelope,
    pub reveal: Envelope,
}

impl Federation {
    pub fn new(n: usize, threshold: u32, colluders: u32) -> Result<Self, String> {
        let agreement = Hash::of(b"agreement");
        let mut organisations = (0..n).map(Organisation::new).collect::<Result<Vec<_>, _>>()?;
        let public: Vec<KemPublicKey> = organisations.iter().map(|organisation| organisation.kem.public()).collect();
        let mut setup = Setup::default();
        for later in 1..n {
            let (before, rest) = organisations.split_at_mut(later);
            let (Some(high), Some(high_public)) = (rest.first_mut(), public.get(later)) else { continue };
            for (place, (low, low_public)) in before.iter_mut().zip(&public).enumerate() {
                let (sent, seconds) = timed(|| low.encapsulate(&agreement, &high.name, high_public));
                let sent = sent?;
                setup.encapsulate.push(seconds);
                let (taken, seconds) = timed(|| high.accept(&agreement, low, low_public, &sent));
                taken?;
                setup.accept.push(seconds);
                if place == 0 {
                    setup.sent.push(sent);
                }
            }
        }
        Ok(Self { organisations, agreement, threshold, colluders, position: 0, setup })
    }

    /// The context and noise of the next round.
    fn next_round(&mut self, elements: u32) -> Result<(RoundContext, NoisePlan), String> {
        self.position += 1;
        let context = RoundContext {
            agreement: self.agreement,
            colluders: self.colluders,
            elements,
            mode: ReleaseMode::Noised,
            participants: self.organisations.iter().map(|organisation| organisation.name.clone()).collect(),
            plan: Hash::of(b"plan"),
            position: self.position,
            protocol: PROTOCOL_VERSION,
            ring_bits: Ring::Z32.bits(),
            round: 0,
            sigma2: SIGMA2,
            task: Hash::of(b"task"),
            threshold: self.threshold,
        };
        Ok((context, self.noise_plan()?))
    }

    /// Begins a round and hands out the shares.
    pub fn deal(&mut self, elements: u32) -> Result<Dealt, String> {
        let (context, noise) = self.next_round(elements)?;
        let mut hub = Coordinator::new(context.clone(), noise.clone()).map_err(words)?;
        let (mut members, mut shares, mut begin) = (Vec::new(), Vec::new(), None);
        for organisation in &mut self.organisations {
            let (begun, seconds) = timed(|| organisation.begin(&context, &noise));
            let (member, dealt) = begun?;
            hub.hear(ToHub::Shares(dealt.open(&organisation.key.public()).map_err(words)?)).map_err(words)?;
            members.push(member);
            shares.push(dealt);
            begin.get_or_insert(seconds);
        }
        let mut receive = None;
        for (member, organisation) in members.iter_mut().zip(&self.organisations) {
            let Some(FromHub::Shares(sealed)) = hub.says(&organisation.name) else {
                return Err("somebody has not dealt".to_owned());
            };
            let (answer, seconds) = timed(|| member.hear(ToMember::Shares(sealed)));
            let Answer::Contribute = answer.map_err(words)? else { return Err("shares were answered".to_owned()) };
            receive.get_or_insert(seconds);
        }
        let seconds = [begin.unwrap_or_default(), receive.unwrap_or_default()];
        Ok(Dealt { members, hub, shares, seconds })
    }

    /// Plays a round in which the last `drop_outs` members are not heard of again after dealing. The first member
    /// noises and masks `repeats` times the same; medians of these are reported.
    pub fn play(&mut self, elements: u32, drop_outs: usize, repeats: usize) -> Result<Played, String> {
        let Dealt { mut members, mut hub, shares: dealt, seconds: [begin, receive] } = self.deal(elements)?;
        members.truncate(members.len().saturating_sub(drop_outs));
        let noise = self.noise_plan()?;
        let (mut uploads, mut first) = (Vec::new(), None);
        for (member, organisation) in members.iter_mut().zip(&self.organisations) {
            let (header, bytes) = if first.is_none() {
                let masked = organisation.noise_and_mask(member, &noise, repeats)?;
                let upload = (masked.header, masked.masked.bytes().to_vec());
                first = Some((masked.noised, masked.seconds));
                upload
            } else {
                organisation.mask_bare(member)?
            };
            let verified = header.open(&organisation.key.public()).map_err(words)?;
            hub.hear(ToHub::MaskedStored(verified, bytes.len() as u64, Hash::of(&bytes))).map_err(words)?;
            uploads.push((header, bytes));
        }
        let (noised, [noise, mask]) = first.ok_or("nobody is left")?;
        let (set, reveal, [sign, open]) = self.reveal(&mut members, &mut hub)?;
        let header = uploads.first().ok_or("nobody is left")?.0.clone();
        let sent = Sent { shares: dealt.first().ok_or("nobody is left")?.clone(), header, set, reveal };
        let steps = Steps { begin, receive, noise, mask, sign, reveal: open };
        Ok(Played { steps, sent, dealt, hub, uploads, noised })
    }

    /// Survivor set and reveals, from every member; the first one's messages and seconds.
    fn reveal(&self, members: &mut [Member], hub: &mut Coordinator) -> Result<(Envelope, Envelope, [f64; 2]), String> {
        let survivors = hub.fix_survivors().map_err(words)?;
        let (mut sets, mut sign) = (Vec::new(), None);
        for (member, organisation) in members.iter_mut().zip(&self.organisations) {
            let (set, seconds) = timed(|| {
                let answer = member.hear(ToMember::Survivors(survivors.clone())).map_err(words)?;
                let Answer::Say(FromMember::Survivors(set)) = answer else { return Err("a set was due".to_owned()) };
                Envelope::sign(&set, &organisation.key).map_err(words)
            });
            let set = set?;
            hub.hear(ToHub::Survivors(set.open(&organisation.key.public()).map_err(words)?)).map_err(words)?;
            sets.push(set);
            sign.get_or_insert(seconds);
        }
        let first_set = sets.first().ok_or("nobody is left")?.clone();
        sets.truncate(self.threshold as usize);
        let mut first = None;
        for (member, organisation) in members.iter_mut().zip(&self.organisations) {
            let (reveal, seconds) = timed(|| {
                let answer = member.hear(ToMember::Signatures(self.open_sets(&sets)?)).map_err(words)?;
                let Answer::Say(FromMember::Reveal(reveal)) = answer else { return Err("a reveal was due".to_owned()) };
                Envelope::sign(&reveal, &organisation.key).map_err(words)
            });
            let reveal = reveal?;
            hub.hear(ToHub::Reveal(reveal.open(&organisation.key.public()).map_err(words)?)).map_err(words)?;
            first.get_or_insert((reveal, seconds));
        }
        let (reveal, seconds) = first.ok_or("nobody is left")?;
        Ok((first_set, reveal, [sign.unwrap_or_default(), seconds]))
    }

    fn open_sets(&self, sets: &[Envelope]) -> Result<Vec<Verified<SurvivorSet>>, String> {
        let open = |(set, signer): (&Envelope, &Organisation)| set.open(&signer.key.public()).map_err(words);
        sets.iter().zip(&self.organisations).map(open).collect()
    }

    /// How noise is divided in every round.
    pub fn noise_plan(&self) -> Result<NoisePlan, String> {
        NoisePlan::new(SIGMA2, self.organisations.len() as u32, self.threshold, self.colluders).map_err(words)
    }

    /// The hub of a round as it was before the first vector came.
    pub fn hub_before_vectors(&self, played: &Played) -> Result<Coordinator, String> {
        let mut hub = Coordinator::new(played.hub.context().clone(), self.noise_plan()?).map_err(words)?;
        for (dealt, from) in played.dealt.iter().zip(&self.organisations) {
            hub.hear(ToHub::Shares(dealt.open(&from.key.public()).map_err(words)?)).map_err(words)?;
        }
        Ok(hub)
    }
}

/// What the measured member made out of its input.
struct NoisedAndMasked {
    noised: Noised,
    masked: Masked,
    header: Envelope,
    /// Noise, masking.
    seconds: [f64; 2],
}

impl Organisation {
    fn new(index: usize) -> Result<Self, String> {
        let mut rng = ChaCha20Rng::seed_from_u64(index as u64);
        Ok(Self {
            name: Name::new(format!("hospital-{index:02}")).map_err(words)?,
            key: SigningKey::generate(&mut rng),
            kem: KemSecretKey::generate(&mut rng),
            chains: BTreeMap::new(),
            rng,
        })
    }

    fn encapsulate(&mut self, agreement: &Hash, peer: &Name, peer_key: &KemPublicKey) -> Result<Envelope, String> {
        let made = encapsulate(agreement, &self.name, &self.kem, peer, peer_key, &mut self.rng).map_err(words)?;
        let (message, chain): (PairwiseCiphertext, Chain) = made;
        self.chains.insert(peer.clone(), chain);
        Envelope::sign(&message, &self.key).map_err(words)
    }

    fn accept(
        &mut self,
        agreement: &Hash,
        peer: &Self,
        peer_key: &KemPublicKey,
        message: &Envelope,
    ) -> Result<(), String> {
        let message = message.open(&peer.key.public()).map_err(words)?;
        let chain = accept(agreement, &self.name, &self.kem, &peer.name, peer_key, &message).map_err(words)?;
        self.chains.insert(peer.name.clone(), chain);
        Ok(())
    }

    fn begin(&mut self, context: &RoundContext, noise: &NoisePlan) -> Result<(Member, Envelope), String> {
        let begun = Member::begin(context.clone(), &self.name, &mut self.chains, noise, &mut self.rng);
        let (member, shares) = begun.map_err(words)?;
        Ok((member, Envelope::sign(&shares, &self.key).map_err(words)?))
    }

    fn noise_and_mask(&self, member: &mut Member, plan: &NoisePlan, repeats: usize) -> Result<NoisedAndMasked, String> {
        let (mut noise, mut mask, mut last) = (Vec::new(), Vec::new(), None);
        for _ in 0..repeats {
            let raw = Raw::new((0..member.context().elements as usize).map(input).collect());
            let seeds = member.noise_seeds().map_err(words)?;
            let (noised, seconds) = timed(|| add_noise(raw, plan, seeds));
            let noised = noised.map_err(words)?;
            noise.push(seconds);
            // The same vector again, so the same bytes.
            let (masked, seconds) = timed(|| {
                let masked = member.mask(&noised).map_err(words)?;
                let header = Envelope::sign(masked.header(), &self.key).map_err(words)?;
                Ok::<_, String>((masked, header))
            });
            mask.push(seconds);
            last = Some((noised, masked?));
        }
        let (noised, (masked, header)) = last.ok_or("nothing to repeat")?;
        Ok(NoisedAndMasked { noised, masked, header, seconds: [median(&noise), median(&mask)] })
    }

    /// Masks the input without noise: nobody's data, and the sum can be checked.
    fn mask_bare(&self, member: &mut Member) -> Result<(Envelope, Vec<u8>), String> {
        let (mut next, mut bytes) = (0, Vec::new());
        let fill = &mut |values: &mut [i64]| {
            values.iter_mut().zip(next..).for_each(|(value, index)| *value = input(index));
            next += values.len();
            Ok(())
        };
        let keep = &mut |masked: &[u8]| {
            bytes.extend_from_slice(masked);
            Ok(())
        };
        let masked = member.mask_stream_of_noised::<MpcError>(fill, keep).map_err(words)?;
        Ok((Envelope::sign(masked.header(), &self.key).map_err(words)?, bytes))
    }
}
