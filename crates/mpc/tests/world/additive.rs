//! Another way to sum, played through the same box: each vector is divided between two aggregators that do not collude.
//!
//! A member draws a pad, gives one aggregator its noised vector less the pad and the other the pad's seed; each adds up what it
//! has of the survivors, and the two sums together are the sum (Corrigan-Gibbs, Boneh 2017, *Prio*, section 3; the seed as
//! in Prio3, draft-irtf-cfrg-vdaf). A member speaks once, so nobody has to stay; no noise is taken off again.
//!
//! It is here to show that `SumMember` and `SumHub` are not the masks' traits under another name. It is no protocol: both
//! aggregators sit in the box's one hub, keys are made of names, and nothing proves what is in a share.

use std::collections::BTreeMap;
use std::convert::Infallible;

use chacha20::ChaCha20Rng;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use cohortium_dp::{NoisePlan, NoiseSeeds, Noised, Seed};
use cohortium_messages::{Hash, MaskedHeader, Name, Ring, RoundContext, Verified};
use cohortium_mpc::{Answer, MpcError, SumHub, SumMember};
use rand_core::{Rng as _, SeedableRng as _};
use zeroize::Zeroizing;

use crate::node::{Kind, Lie, Witness, read_vector_packet, vector_packet};
use crate::party::name;
use crate::path::{Opened, Packet, Path, Start, Stored};
use crate::schedules::{run, run_all, schedules};

/// The sealed seed of a pad.
const SEED_BYTES: usize = 32 + 16;

/// A member. Everything it has is drawn when it begins.
pub struct Sharer {
    context: RoundContext,
    me: Name,
    seeds: NoiseSeeds,
    pad: Hash,
    sent: Option<Hash>,
}

/// The two sealed shares in one upload, for the signed header beside them.
pub struct Report {
    header: MaskedHeader,
    bytes: Vec<u8>,
}

/// One aggregator: what it could open.
struct Aggregator {
    place: u8,
    context: RoundContext,
    shares: BTreeMap<Name, Vec<u128>>,
}

/// Both of them, and the hub that passes reports on.
pub struct Pair {
    context: RoundContext,
    noise: NoisePlan,
    reports: BTreeMap<Name, Hash>,
    one: Aggregator,
    other: Aggregator,
    survivors: Option<Vec<Name>>,
}

fn sealed(context: &RoundContext, member: &Name, place: u8) -> (ChaCha20Poly1305, Hash) {
    let key = Hash::of_parts("aggregator", &[member.as_str().as_bytes(), &[place]]);
    (ChaCha20Poly1305::new(key.as_bytes().into()), context.hash().unwrap())
}

fn seal(context: &RoundContext, member: &Name, place: u8, msg: &[u8]) -> Vec<u8> {
    let (cipher, aad) = sealed(context, member, place);
    cipher.encrypt(&Nonce::default(), Payload { msg, aad: aad.as_bytes() }).unwrap()
}

fn ring(context: &RoundContext) -> Ring {
    context.ring().unwrap()
}

fn words(bytes: &[u8], ring: Ring) -> Vec<u128> {
    let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u128::from(*byte));
    bytes.chunks(ring.bytes() as usize).map(word).collect()
}

fn pad(seed: &Hash, context: &RoundContext) -> Vec<u128> {
    let mut bytes = vec![0; context.vector_bytes().unwrap() as usize];
    ChaCha20Rng::from_seed(*seed.as_bytes()).fill_bytes(&mut bytes);
    words(&bytes, ring(context))
}

impl SumMember for Sharer {
    type Says = Report;
    type Hears = Infallible;

    fn hear(&mut self, told: Infallible) -> Result<Answer<Report>, MpcError> {
        match told {}
    }

    fn noise_seeds(&self) -> Result<&NoiseSeeds, MpcError> {
        Ok(&self.seeds)
    }

    fn contribute(&mut self, noised: &Noised) -> Result<Report, MpcError> {
        let (ring, pad) = (ring(&self.context), pad(&self.pad, &self.context));
        let (expected, found) = (pad.len() as u64, noised.values().len() as u64);
        if expected != found {
            return Err(MpcError::Length { expected, found });
        }
        let bound = ring.node_bound(self.context.participants.len());
        if noised.values().iter().any(|value| u128::from(value.unsigned_abs()) > bound) {
            return Err(MpcError::OutOfBound);
        }
        let less = noised.values().iter().zip(pad).map(|(value, pad)| (i128::from(*value) as u128).wrapping_sub(pad));
        let share: Vec<u8> = less.flat_map(|word| word.to_le_bytes()[..ring.bytes() as usize].to_vec()).collect();
        let seed = seal(&self.context, &self.me, 1, self.pad.as_bytes());
        let bytes = [seed, seal(&self.context, &self.me, 0, &share)].concat();
        let sha256 = Hash::of(&bytes);
        if self.sent.is_some_and(|sent| sent != sha256) {
            return Err(MpcError::SecondVector);
        }
        self.sent = Some(sha256);
        let context = self.context.hash().unwrap();
        let header = MaskedHeader { bytes: bytes.len() as u64, context, from: self.me.clone(), sha256 };
        Ok(Report { header, bytes })
    }

    fn to_secret_bytes(&self) -> Result<Zeroizing<Vec<u8>>, MpcError> {
        let seed = |component| Hash::from_bytes(*self.seeds.expose_seed_bytes(component).unwrap());
        let seeds: Vec<Hash> = (0..self.seeds.count()).map(seed).collect();
        let state = (&self.context, &self.me, seeds, self.pad, self.sent);
        Ok(Zeroizing::new(serde_json::to_vec(&state).unwrap()))
    }

    fn from_secret_bytes(bytes: &[u8]) -> Result<Self, MpcError> {
        type State = (RoundContext, Name, Vec<Hash>, Hash, Option<Hash>);
        let read = serde_json::from_slice::<State>(bytes);
        let (context, me, seeds, pad, sent) = read.map_err(|_| MpcError::State("it is no sharer's"))?;
        let n = context.participants.len() as u32;
        let noise = NoisePlan::new(context.sigma2, n, context.threshold, context.colluders)?;
        let seeds = seeds.iter().map(|seed| Seed::from_bytes(*seed.as_bytes())).collect();
        let seeds = NoiseSeeds::restore(&noise, seeds)?;
        Ok(Self { context, me, seeds, pad, sent })
    }
}

impl Aggregator {
    fn new(place: u8, context: &RoundContext) -> Self {
        Self { place, context: context.clone(), shares: BTreeMap::new() }
    }

    fn open(&self, from: &Name, sealed_share: &[u8]) -> Result<Vec<u8>, MpcError> {
        let (cipher, aad) = sealed(&self.context, from, self.place);
        let opened = cipher.decrypt(&Nonce::default(), Payload { msg: sealed_share, aad: aad.as_bytes() });
        opened.map_err(|_| MpcError::Sealed { from: from.clone() })
    }

    fn add_up(&self, survivors: &[Name]) -> Vec<u128> {
        let mut sums = vec![0u128; self.context.elements as usize];
        for share in survivors.iter().map(|name| &self.shares[name]) {
            sums.iter_mut().zip(share).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
        }
        sums
    }
}

impl SumHub for Pair {
    type Hears = (Verified<MaskedHeader>, Vec<u8>);
    type Says = Infallible;
    type Total = Opened;

    fn hear(&mut self, (header, bytes): Self::Hears) -> Result<(), MpcError> {
        let from = header.from.clone();
        if header.context != self.context.hash().unwrap() {
            return Err(MpcError::OtherContext { from });
        }
        if header.sha256 != Hash::of(&bytes) {
            return Err(MpcError::VectorHash { from });
        }
        match self.reports.get(&from) {
            Some(before) if *before == header.sha256 => return Ok(()),
            Some(_) => return Err(MpcError::Equivocation { from }),
            None if self.survivors.is_some() => return Err(MpcError::TooLate { from }),
            None => {}
        }
        let (seed, share) = bytes.split_at_checked(SEED_BYTES).ok_or(MpcError::Sealed { from: from.clone() })?;
        let share = words(&self.one.open(&from, share)?, ring(&self.context));
        let seed = self.other.open(&from, seed)?.try_into().map_err(|_| MpcError::Sealed { from: from.clone() })?;
        self.one.shares.insert(from.clone(), share);
        self.other.shares.insert(from.clone(), pad(&Hash::from_bytes(seed), &self.context));
        self.reports.insert(from, header.sha256);
        Ok(())
    }

    fn awaited(&self) -> Vec<Name> {
        let missing = self.context.participants.iter().filter(|name| !self.reports.contains_key(name));
        if self.survivors.is_some() { Vec::new() } else { missing.cloned().collect() }
    }

    fn says(&self, _to: &Name) -> Option<Infallible> {
        None
    }

    fn fix_survivors(&mut self) -> Result<Vec<Name>, MpcError> {
        let (needed, found) = (self.context.threshold as usize, self.reports.len());
        if self.survivors.is_none() && found < needed {
            return Err(MpcError::TooFew { what: "reports", needed, found });
        }
        Ok(self.survivors.get_or_insert_with(|| self.reports.keys().cloned().collect()).clone())
    }

    fn restore_survivors(&mut self, survivors: Vec<Name>) -> Result<(), MpcError> {
        if !survivors.iter().all(|name| self.reports.contains_key(name)) {
            return Err(MpcError::Survivors("it names somebody whose report is not here"));
        }
        self.survivors = Some(survivors);
        Ok(())
    }

    fn total(&self) -> Result<Opened, MpcError> {
        let needed = self.context.threshold as usize;
        let too_few = MpcError::TooFew { what: "reports", needed, found: self.reports.len() };
        let survivors = self.survivors.clone().ok_or(too_few)?;
        let unused = 128 - ring(&self.context).bits();
        let sums = self.one.add_up(&survivors).into_iter().zip(self.other.add_up(&survivors));
        let signed = |(one, other): (u128, u128)| (one.wrapping_add(other) << unused) as i128 >> unused;
        let cells = sums.map(signed).map(|sum| i64::try_from(sum).unwrap()).collect();
        let noise_variance = u128::from(self.noise.node_variance()) * survivors.len() as u128;
        Ok(Opened { cells, noise_variance, survivors, inconsistencies: Vec::new() })
    }
}

/// Two aggregators.
pub struct Shares;

impl Path for Shares {
    type Member = Sharer;
    type Hub = Pair;
    type Ties = ();

    const LIES: &'static [Lie] = &[];

    fn ties(_index: usize) {}

    fn begin(start: &Start<'_>, _ties: &mut ()) -> Result<(Sharer, Answer<Report>), MpcError> {
        let mut rng = ChaCha20Rng::from_seed(start.seed);
        let seeds = NoiseSeeds::draw(start.noise, &mut rng);
        let mut pad = [0; 32];
        rng.fill_bytes(&mut pad);
        let (context, pad) = (start.context.clone(), Hash::from_bytes(pad));
        Ok((Sharer { context, me: name(start.index), seeds, pad, sent: None }, Answer::Contribute))
    }

    fn hub(context: &RoundContext, noise: &NoisePlan) -> Pair {
        Pair {
            context: context.clone(),
            noise: noise.clone(),
            reports: BTreeMap::new(),
            one: Aggregator::new(0, context),
            other: Aggregator::new(1, context),
            survivors: None,
        }
    }

    fn packets(said: Report, start: &Start<'_>, _lie: Option<Lie>, witness: &mut Witness) -> Vec<Packet> {
        let packet = vector_packet(&said.header, &said.bytes, start.index);
        witness.masked = said.bytes;
        vec![(Kind::Masked, packet)]
    }

    fn to_hub(kind: Kind, bytes: &[u8], from: usize) -> Result<(Verified<MaskedHeader>, Vec<u8>), String> {
        if kind == Kind::Masked { read_vector_packet(bytes, from) } else { Err(String::from("not for the hub")) }
    }

    fn mail(told: Infallible, _stored: &Stored) -> Packet {
        match told {}
    }

    fn to_member(_kind: Kind, _bytes: &[u8]) -> Result<Infallible, String> {
        Err(String::from("nothing is for a member"))
    }

    fn has_revealed(_hub: &Pair, _who: &Name) -> bool {
        false
    }

    fn opened(total: Opened) -> Opened {
        total
    }
}

/// The box's promises of a sum hold for two aggregators as for masks, with the same faults of network, disks and members.
#[test]
fn two_aggregators_sum_in_the_same_box() {
    let count = schedules().div_ceil(10);
    let tally = run_all(count, run::<Shares>);
    println!("{count} schedules: {tally:?}");
    if count >= 100 {
        assert!(tally.sums > count / 4 && tally.sums_without_all > count / 50, "{tally:?}");
    }
}
