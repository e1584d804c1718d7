//! A way to sum, as the box carries it: how a round begins, how messages become packets, how a liar lies, and what must
//! come out. Everything else in the box knows only `SumMember` and `SumHub`.

use std::collections::BTreeMap;

use chacha20::ChaCha20Rng;
use cohortium_dp::NoisePlan;
use cohortium_messages::{Hash, MaskedHeader, Name, Reveal, RoundContext, RoundShares, SealedShare, SurvivorSet};
use cohortium_mpc::{
    Answer, Chain, Coordinator, Disagreement, FromHub, FromMember, Inconsistency, Member, MpcError, SumHub, SumMember,
    ToHub, ToMember, Total,
};
use rand_core::{Rng as _, SeedableRng as _};

use crate::node::{Kind, Lie, Signatures, Witness, one_more, read_signatures, read_vector_packet, vector_packet};
use crate::party::{envelope, name, open, parties, with_deposit};

pub type Says<P> = <<P as Path>::Member as SumMember>::Says;

/// A message as it travels.
pub type Packet = (Kind, Vec<u8>);

/// Every packet that a hub took, with its sender.
pub type Stored = [(usize, Kind, Vec<u8>)];

/// What a member begins with.
pub struct Start<'a> {
    pub index: usize,
    pub context: &'a RoundContext,
    pub noise: &'a NoisePlan,
    /// Of its generator.
    pub seed: [u8; 32],
}

/// What came out.
pub struct Opened {
    pub cells: Vec<i64>,
    pub noise_variance: u128,
    pub survivors: Vec<Name>,
    pub inconsistencies: Vec<Inconsistency>,
}

pub trait Path: Sized + 'static {
    type Member: SumMember;
    type Hub: SumHub;
    /// What an organisation keeps from before the round, as stored.
    type Ties: Clone + Default;

    /// How its members may lie.
    const LIES: &'static [Lie];

    fn ties(index: usize) -> Self::Ties;
    /// Uses up its ties when it begins.
    fn begin(start: &Start<'_>, ties: &mut Self::Ties) -> Result<(Self::Member, Answer<Says<Self>>), MpcError>;
    fn hub(context: &RoundContext, noise: &NoisePlan) -> Self::Hub;

    /// The packets of what a member says, after it lied if it does.
    fn packets(said: Says<Self>, start: &Start<'_>, lie: Option<Lie>, witness: &mut Witness) -> Vec<Packet>;
    fn to_hub(kind: Kind, bytes: &[u8], from: usize) -> Result<<Self::Hub as SumHub>::Hears, String>;
    fn mail(told: <Self::Hub as SumHub>::Says, stored: &Stored) -> Packet;
    fn to_member(kind: Kind, bytes: &[u8]) -> Result<<Self::Member as SumMember>::Hears, String>;

    /// Whether everybody has done what must be done before anybody contributes.
    fn is_dealt(_hub: &Self::Hub) -> bool {
        true
    }
    /// Why nobody will contribute.
    fn disagreement(_hub: &Self::Hub) -> Option<Disagreement> {
        None
    }
    /// Whether this survivor has taken its excess noise off.
    fn has_revealed(hub: &Self::Hub, who: &Name) -> bool;
    fn opened(total: <Self::Hub as SumHub>::Total) -> Opened;
}

/// Masks in pairs: `Member` and `Coordinator`.
pub struct Masks;

impl Path for Masks {
    type Member = Member;
    type Hub = Coordinator;
    type Ties = BTreeMap<Name, Vec<u8>>;

    const LIES: &'static [Lie] = &Lie::ALL;

    fn ties(index: usize) -> Self::Ties {
        parties()[index].chains.clone()
    }

    fn begin(start: &Start<'_>, ties: &mut Self::Ties) -> Result<(Member, Answer<FromMember>), MpcError> {
        let read = |(peer, bytes): (&Name, &Vec<u8>)| (peer.clone(), Chain::from_secret_bytes(bytes).unwrap());
        let mut chains: BTreeMap<Name, Chain> = ties.iter().map(read).collect();
        let mut rng = ChaCha20Rng::from_seed(start.seed);
        let me = name(start.index);
        let (member, dealt) = Member::begin(start.context.clone(), &me, &mut chains, start.noise, &mut rng)?;
        *ties = chains.iter().map(|(peer, chain)| (peer.clone(), chain.to_secret_bytes().to_vec())).collect();
        Ok((member, Answer::Say(FromMember::Shares(dealt))))
    }

    fn hub(context: &RoundContext, noise: &NoisePlan) -> Coordinator {
        Coordinator::new(context.clone(), noise.clone()).unwrap()
    }

    fn packets(said: FromMember, start: &Start<'_>, lie: Option<Lie>, witness: &mut Witness) -> Vec<Packet> {
        let index = start.index;
        match said {
            FromMember::Shares(mut dealt) => {
                lie_about_shares(lie, &mut dealt, start.seed);
                vec![(Kind::Dealt, envelope(&dealt, index))]
            }
            FromMember::Masked(masked) => {
                witness.masked = masked.bytes().to_vec();
                let mut sent = vec![(Kind::Masked, vector_packet(masked.header(), masked.bytes(), index))];
                if lie == Some(Lie::TwoVectors) {
                    let other = one_more(masked.bytes(), start.context.ring_bits as usize / 8);
                    let header = MaskedHeader { sha256: Hash::of(&other), ..masked.header().clone() };
                    sent.push((Kind::Masked, vector_packet(&header, &other, index)));
                }
                sent
            }
            FromMember::Survivors(set) => {
                let mut sent = vec![(Kind::Signed, envelope(&set, index))];
                if lie == Some(Lie::TwoSets) {
                    let other = SurvivorSet { survivors: start.context.participants.clone(), ..set.clone() };
                    sent.push((Kind::Signed, envelope(&other, index)));
                }
                witness.sets.insert(set.survivors);
                sent
            }
            FromMember::Reveal(mut reveal) => {
                lie_about_reveal(lie, &mut reveal);
                let sent = vec![(Kind::Revealed, envelope(&reveal, index))];
                witness.reveals.push(reveal);
                sent
            }
        }
    }

    fn to_hub(kind: Kind, bytes: &[u8], from: usize) -> Result<ToHub, String> {
        Ok(match kind {
            Kind::Dealt => ToHub::Shares(open::<RoundShares>(bytes, from)?),
            Kind::Masked => {
                let (header, vector) = read_vector_packet(bytes, from)?;
                ToHub::Masked(header, vector)
            }
            Kind::Signed => ToHub::Survivors(open::<SurvivorSet>(bytes, from)?),
            Kind::Revealed => ToHub::Reveal(open::<Reveal>(bytes, from)?),
            Kind::Shares | Kind::Survivors | Kind::Signatures => return Err(String::from("not for the hub")),
        })
    }

    fn mail(told: FromHub, stored: &Stored) -> Packet {
        match told {
            FromHub::Shares(shares) => (Kind::Shares, serde_json::to_vec(&shares).unwrap()),
            FromHub::Survivors(survivors) => (Kind::Survivors, serde_json::to_vec(&survivors).unwrap()),
            FromHub::Signatures(of) => {
                let sets = stored.iter().filter(|(from, kind, _)| *kind == Kind::Signed && of.contains(&name(*from)));
                let sets: Signatures =
                    sets.map(|(from, _, bytes)| (*from, String::from_utf8(bytes.clone()).unwrap())).collect();
                (Kind::Signatures, serde_json::to_vec(&sets).unwrap())
            }
        }
    }

    fn to_member(kind: Kind, bytes: &[u8]) -> Result<ToMember, String> {
        let malformed = |_| String::from("malformed");
        Ok(match kind {
            Kind::Shares => ToMember::Shares(serde_json::from_slice::<Vec<SealedShare>>(bytes).map_err(malformed)?),
            Kind::Survivors => ToMember::Survivors(serde_json::from_slice(bytes).map_err(malformed)?),
            Kind::Signatures => ToMember::Signatures(read_signatures(bytes)?),
            Kind::Dealt | Kind::Masked | Kind::Signed | Kind::Revealed => {
                return Err(String::from("not for a member"));
            }
        })
    }

    fn is_dealt(hub: &Coordinator) -> bool {
        hub.shares_missing().is_empty()
    }

    fn disagreement(hub: &Coordinator) -> Option<Disagreement> {
        hub.disagreements().pop()
    }

    fn has_revealed(hub: &Coordinator, who: &Name) -> bool {
        hub.revealed_from().contains(who)
    }

    fn opened(total: Total) -> Opened {
        Opened {
            cells: total.cells().to_vec(),
            noise_variance: total.noise_variance(),
            survivors: total.survivors().to_vec(),
            inconsistencies: total.inconsistencies().to_vec(),
        }
    }
}

fn lie_about_shares(lie: Option<Lie>, dealt: &mut RoundShares, rng_seed: [u8; 32]) {
    match lie {
        Some(Lie::MaskKeyCommitment) => dealt.mask_key_commitments[0] = Hash::of(b"lie"),
        Some(Lie::SelfMask) => dealt.self_mask_commitment = Hash::of(b"lie"),
        Some(Lie::Deposit) => {
            // b is drawn first, then r.
            let mut drawn = [0; 64];
            ChaCha20Rng::from_seed(rng_seed).fill_bytes(&mut drawn);
            let key = drawn[32..].try_into().unwrap();
            dealt.deposit = with_deposit(dealt, &key, |keys| keys.iter_mut().for_each(|byte| *byte ^= 1));
        }
        _ => {}
    }
}

fn lie_about_reveal(lie: Option<Lie>, reveal: &mut Reveal) {
    match lie {
        Some(Lie::Share) => reveal.self_mask_shares[0].share = Hash::of(b"lie"),
        Some(Lie::NoiseSeed) => {
            if let Some(seed) = reveal.excess_seeds.first_mut() {
                seed.seed = Hash::of(b"lie");
            }
        }
        _ => {}
    }
}
