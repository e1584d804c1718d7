//! Attacks by name: each is tried, and comes to nothing. Those that other files try are listed here for the reader:
//! bit-flips and truncation in `flips`, random malicious hubs in `hostile`, lying members in `schedules`.

use std::collections::{BTreeMap, BTreeSet};

use chacha20::ChaCha20Rng;
use cohortium_dp::{NoisePlan, NoiseSeeds, Raw, add_noise};
use cohortium_messages::{
    Hash, KemSecretKey, MaskedHeader, Name, Reveal, Ring, RoundContext, RoundShares, SealedShare, SurvivorSet, Verified,
};
use cohortium_mpc::{Chain, Coordinator, Disagreement, Inconsistency, Member, MpcError, Total, accept, encapsulate};
use rand_core::SeedableRng as _;

use crate::party::{MOST, agreement, input, name, names, parties, round, signed, summed};

/// Members and a hub, with messages taken and given in the open.
struct Room {
    context: RoundContext,
    noise: NoisePlan,
    chains: Vec<BTreeMap<Name, Chain>>,
    members: Vec<Member>,
    dealt: Vec<RoundShares>,
    vectors: Vec<(MaskedHeader, Vec<u8>)>,
}

impl Room {
    fn new(n: usize, threshold: u32, colluders: u32, elements: u32) -> Self {
        let (context, noise) = round(n, threshold, colluders, elements, Ring::Z64);
        Self { context, noise, chains: chains(n), members: Vec::new(), dealt: Vec::new(), vectors: Vec::new() }
    }

    fn rng(&self, index: usize) -> ChaCha20Rng {
        ChaCha20Rng::from_seed([index as u8 + 50; 32])
    }

    /// Everybody deals for the same context.
    fn deal(self) -> Self {
        let contexts = vec![self.context.clone(); self.chains.len()];
        self.deal_for(&contexts)
    }

    /// Each deals for the context that the hub shows it.
    fn deal_for(mut self, contexts: &[RoundContext]) -> Self {
        for (index, context) in contexts.iter().enumerate() {
            let mut rng = self.rng(index);
            let begun = Member::begin(context.clone(), &name(index), &mut self.chains[index], &self.noise, &mut rng);
            let (member, dealt) = begun.unwrap();
            self.members.push(member);
            self.dealt.push(dealt);
        }
        self
    }

    fn shares_for(&self, to: usize) -> Vec<SealedShare> {
        self.dealt.iter().flat_map(|dealt| &dealt.shares).filter(|share| share.to == name(to)).cloned().collect()
    }

    fn mask(mut self) -> Self {
        for index in 0..self.members.len() {
            let shares = self.shares_for(index);
            self.members[index].receive_shares(&shares).unwrap();
            let raw = Raw::new(input(index, self.context.elements));
            let noised = add_noise(raw, &self.noise, self.members[index].noise_seeds().unwrap()).unwrap();
            let masked = self.members[index].mask(&noised).unwrap();
            self.vectors.push((masked.header().clone(), masked.bytes().to_vec()));
        }
        self
    }

    /// A hub that has the dealt shares and the vectors of `present`, and has proposed them.
    fn hub(&self, present: &[usize]) -> Coordinator {
        let mut hub = Coordinator::new(self.context.clone(), self.noise.clone()).unwrap();
        for (index, dealt) in self.dealt.iter().enumerate() {
            hub.accept_shares(signed(dealt, &parties()[index].signing)).unwrap();
        }
        for index in present {
            let (header, bytes) = &self.vectors[*index];
            hub.accept_masked(&signed(header, &parties()[*index].signing), bytes.clone()).unwrap();
        }
        hub.propose_survivors().unwrap();
        hub
    }

    fn set(&self, from: usize, survivors: &[Name]) -> Verified<SurvivorSet> {
        let context = self.context.hash().unwrap();
        let set = SurvivorSet { context, from: name(from), survivors: survivors.to_vec() };
        signed(&set, &parties()[from].signing)
    }

    /// All of `survivors` sign that set.
    fn sign(&mut self, survivors: &[usize]) -> Vec<Verified<SurvivorSet>> {
        let set = names(survivors.iter().copied());
        for index in survivors {
            self.members[*index].sign_survivors(&set).unwrap();
        }
        survivors.iter().map(|index| self.set(*index, &set)).collect()
    }

    fn total(&mut self, survivors: &[usize]) -> Total {
        let mut hub = self.hub(survivors);
        let sets = self.sign(survivors);
        sets.iter().for_each(|set| hub.accept_survivor_set(set.clone()).unwrap());
        for index in survivors {
            let reveal = self.members[*index].reveal(&sets).unwrap();
            hub.accept_reveal(signed(&reveal, &parties()[*index].signing)).unwrap();
        }
        hub.total().unwrap()
    }
}

fn chains(n: usize) -> Vec<BTreeMap<Name, Chain>> {
    let read = |bytes: &Vec<u8>| Chain::from_secret_bytes(bytes).unwrap();
    let of = |index: usize| parties()[index].chains.iter().map(|(peer, bytes)| (peer.clone(), read(bytes))).collect();
    (0..n).map(of).collect()
}

#[test]
fn attack_different_plans_to_different_members() {
    let room = Room::new(3, 3, 1, 2);
    let honest = room.context.clone();
    let other = RoundContext { plan: Hash::of(b"another plan"), ..honest.clone() };
    let mut room = room.deal_for(&[honest.clone(), honest, other]);
    for (to, stranger) in [(0, 2), (1, 2), (2, 0)] {
        let shares = room.shares_for(to);
        assert_eq!(room.members[to].receive_shares(&shares), Err(MpcError::Sealed { from: name(stranger) }));
    }
    // An honest hub does not even take them.
    let mut hub = Coordinator::new(room.context.clone(), room.noise.clone()).unwrap();
    let refused = hub.accept_shares(signed(&room.dealt[2], &parties()[2].signing));
    assert_eq!(refused, Err(MpcError::OtherContext { from: name(2) }));
}

#[test]
fn attack_different_survivor_sets_to_different_members() {
    // n = 4, t = 3, c = 1: the hub's member signs everything.
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    let (all, without_2) = (names(0..4), names([0, 1, 3]));
    room.members[0].sign_survivors(&all).unwrap();
    room.members[1].sign_survivors(&without_2).unwrap();
    room.members[2].sign_survivors(&all).unwrap();
    let for_all: Vec<_> = [0, 2, 3].map(|from| room.set(from, &all)).to_vec();
    assert!(room.members[0].reveal(&for_all).is_ok(), "the one set that t members signed");
    let for_fewer: Vec<_> = [1, 3].map(|from| room.set(from, &without_2)).to_vec();
    let refused = room.members[1].reveal(&for_fewer);
    assert!(matches!(refused, Err(MpcError::TooFew { needed: 3, found: 2, .. })));
    assert!(matches!(room.members[1].reveal(&for_all), Err(MpcError::OtherSet { .. })));
    assert!(matches!(room.members[2].sign_survivors(&without_2), Err(MpcError::Survivors(_))), "it leaves org-02 out");
    assert_eq!(room.members[0].sign_survivors(&without_2), Err(MpcError::SecondSet));
}

#[test]
fn attack_asking_for_both_halves() {
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    let sets = room.sign(&[0, 1, 2, 3]);
    let reveal = room.members[0].reveal(&sets).unwrap();
    assert!(reveal.deposit_key_shares.is_empty() && reveal.self_mask_shares.len() == 4);
    // Signatures of everybody else on the other set do not help, nor does asking to sign it.
    let without_3 = names(0..3);
    let forged: Vec<_> = (0..3).map(|from| room.set(from, &without_3)).collect();
    assert!(matches!(room.members[0].reveal(&forged), Err(MpcError::OtherSet { .. })));
    assert_eq!(room.members[0].sign_survivors(&without_3), Err(MpcError::SecondSet));
    // Nor does the state hold the other half any more: both halves of org-03 were in it before, one is now.
    let state = room.members[0].to_secret_bytes().unwrap();
    let half = reveal.self_mask_shares[3].share;
    assert!(state.windows(32).any(|window| window == half.as_bytes()));
}

#[test]
fn attack_replaying_an_old_round() {
    let mut room = Room::new(3, 3, 1, 2).deal().mask();
    let old = room.dealt.clone();
    // The same position again, and an older one.
    for position in [room.context.position, 0] {
        let context = RoundContext { position, ..room.context.clone() };
        let mut rng = room.rng(9);
        let again = Member::begin(context, &name(0), &mut room.chains[0], &room.noise, &mut rng).err();
        assert_eq!(again, Some(MpcError::Replayed { position, stands_at: 2 }));
    }
    // The old round's shares in a new round.
    room.context.position += 1;
    room.members.clear();
    room.dealt.clear();
    let mut room = room.deal();
    let shares: Vec<_> = old.iter().flat_map(|dealt| &dealt.shares).filter(|s| s.to == name(0)).cloned().collect();
    assert_eq!(room.members[0].receive_shares(&shares), Err(MpcError::Sealed { from: name(1) }));
    // The old round's messages at the hub of the new one.
    let mut hub = Coordinator::new(room.context.clone(), room.noise.clone()).unwrap();
    let refused = hub.accept_shares(signed(&old[1], &parties()[1].signing));
    assert_eq!(refused, Err(MpcError::OtherContext { from: name(1) }));
}

/// The hub passes on its own key as a member's: the ciphertext for it is nothing to the member, and neither are shares.
#[test]
fn attack_replacing_a_public_key() {
    let mut rng = ChaCha20Rng::from_seed([77; 32]);
    let [one, two, hub] = [(); 3].map(|()| KemSecretKey::generate(&mut rng));
    let (honest, _) = encapsulate(&agreement(), &name(0), &one, &name(1), &two.public(), &mut rng).unwrap();
    let (misled, chain) = encapsulate(&agreement(), &name(0), &one, &name(1), &hub.public(), &mut rng).unwrap();
    let take = |message| {
        let evidence = signed(message, &parties()[0].signing);
        accept(&agreement(), &name(1), &two, &name(0), &one.public(), &evidence).unwrap().to_secret_bytes()
    };
    // ML-KEM rejects without saying so; the chains differ, so nothing that is sealed opens.
    assert!(*take(&misled) != *chain.to_secret_bytes());
    assert!(*take(&honest) != *take(&misled));
    let mut room = Room::new(2, 2, 1, 2);
    room.chains[0].insert(name(1), chain);
    let mut room = room.deal();
    let shares = room.shares_for(1);
    assert_eq!(room.members[1].receive_shares(&shares), Err(MpcError::Sealed { from: name(0) }));
    // An honest hub sees it in the commitments, before anything is masked.
    let mut hub = Coordinator::new(room.context.clone(), room.noise.clone()).unwrap();
    for (index, dealt) in room.dealt.iter().enumerate() {
        hub.accept_shares(signed(dealt, &parties()[index].signing)).unwrap();
    }
    assert_eq!(hub.disagreements(), [Disagreement { one: name(0), other: name(1) }]);
}

#[test]
fn attack_adding_a_fake_participant() {
    let mut room = Room::new(3, 3, 1, 2);
    let stranger = Name::new("stranger").unwrap();
    let mut context = room.context.clone();
    context.participants.push(stranger.clone());
    let noise = NoisePlan::new(context.sigma2, 4, 3, 1).unwrap();
    let mut rng = room.rng(0);
    let begun = Member::begin(context, &name(0), &mut room.chains[0], &noise, &mut rng);
    assert_eq!(begun.err(), Some(MpcError::NoChain { peer: stranger }));
    assert!(room.chains[0].values().all(|chain| chain.position() == 0));
    // In the survivor set instead.
    let mut room = room.deal().mask();
    let set = [names(0..3), vec![Name::new("zoe").unwrap()]].concat();
    assert!(matches!(room.members[0].sign_survivors(&set), Err(MpcError::Survivors(_))));
}

#[test]
fn attack_shrinking_the_set_below_the_threshold() {
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    for set in [names([0, 1]), names([0]), Vec::new()] {
        assert!(matches!(room.members[0].sign_survivors(&set), Err(MpcError::Survivors(_))));
    }
    // By a context with a lower threshold, from the start.
    let mut room = Room::new(4, 3, 1, 2);
    let context = RoundContext { threshold: 2, ..room.context.clone() };
    let noise = NoisePlan::new(context.sigma2, 4, 2, 1).unwrap();
    let mut rng = room.rng(0);
    let begun = Member::begin(context, &name(0), &mut room.chains[0], &noise, &mut rng);
    assert!(matches!(begun.err(), Some(MpcError::Context(_))));
}

/// The hub has a vector, says that its member dropped out, and asks for the same sum once more without it.
#[test]
fn attack_claiming_a_drop_after_receipt_and_running_again() {
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    let total = room.total(&[0, 1, 3]);
    assert_eq!(summed(0, total.cells()[0]), [0, 1, 3]);
    // org-02's vector is there too. For its self-mask the hub would need three shares, and three members have forgotten
    // theirs: they refuse every other set.
    for index in [0, 1, 3] {
        assert_eq!(room.members[index].sign_survivors(&names(0..4)), Err(MpcError::SecondSet));
    }
    // In a second run of the round nobody takes part.
    for index in 0..4 {
        let mut rng = room.rng(index);
        let context = room.context.clone();
        let again = Member::begin(context, &name(index), &mut room.chains[index], &room.noise, &mut rng);
        assert!(matches!(again.err(), Some(MpcError::Replayed { .. })));
    }
}

/// What the attack above gets when members run from restored copies: org-02's noised vector, from two sums.
#[test]
fn attack_on_members_restored_from_older_copies_works_which_is_why_they_must_not_be() {
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    let copies: Vec<_> = room.members.iter().map(|member| member.to_secret_bytes().unwrap()).collect();
    let without = room.total(&[0, 1, 3]);
    room.members = copies.iter().map(|bytes| Member::from_secret_bytes(bytes).unwrap()).collect();
    let with = room.total(&[0, 1, 2, 3]);
    assert_eq!(summed(0, with.cells()[0] - without.cells()[0]), [2]);
}

#[test]
fn attack_revealing_wrong_shares() {
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    let mut hub = room.hub(&[0, 1, 2, 3]);
    let sets = room.sign(&[0, 1, 2, 3]);
    sets.iter().for_each(|set| hub.accept_survivor_set(set.clone()).unwrap());
    for index in 0..4 {
        let mut reveal: Reveal = room.members[index].reveal(&sets).unwrap();
        if index == 2 {
            reveal.self_mask_shares.iter_mut().for_each(|share| share.share = Hash::of(b"lie"));
        }
        hub.accept_reveal(signed(&reveal, &parties()[index].signing)).unwrap();
    }
    let total = hub.total().unwrap();
    assert_eq!(summed(0, total.cells()[0]), [0, 1, 2, 3]);
    let told: BTreeSet<&Name> = total.inconsistencies().iter().map(|Inconsistency { holder, .. }| holder).collect();
    assert_eq!(told, BTreeSet::from([&name(2)]));
}

#[test]
fn attack_signing_two_sets() {
    let mut room = Room::new(4, 3, 1, 2).deal().mask();
    let (all, fewer) = (names(0..4), names([0, 1, 3]));
    let mut hub = room.hub(&[0, 1, 2, 3]);
    hub.accept_survivor_set(room.set(3, &all)).unwrap();
    assert_eq!(hub.accept_survivor_set(room.set(3, &fewer)), Err(MpcError::Equivocation { from: name(3) }));
    // With every signature on both sets that one malicious member can give, only one set gets t.
    let sets = room.sign(&[0, 1, 2, 3]);
    assert!(room.members[0].reveal(&sets).is_ok());
    assert!((0..3).all(|index| room.members[index].sign_survivors(&fewer).is_err()));
}

// ---------------------------------------------------------------- pooling

/// n = 6, t = 5, c = 2: the coalition subtracts everything it knows from the sum, and the honest inputs, which a worst
/// case knows but for one. What is left must have variance σ² at least.
///
/// n = 20,000 cells. If the variance is v, the sum of squares over v is chi-squared with n degrees of freedom up to the
/// kurtosis of rounding: standard deviation √(2n), so ±5 of them is a false-alarm rate of 6·10^-7 on each side. A variance
/// one honest member short, 3/4 of what it should be, lies 25 standard deviations off: power above 1 − 10^-100.
#[test]
fn attack_colluders_pool_everything_and_noise_remains() {
    const CELLS: u32 = 20_000;
    let (n, colluders, gone) = (6, [1, 4], 5);
    let mut room = Room::new(n, 5, 2, CELLS).deal();
    let seeds: Vec<NoiseSeeds> =
        room.members.iter().map(|member| copy(member.noise_seeds().unwrap(), &room.noise)).collect();
    room = room.mask();
    let survivors: Vec<usize> = (0..n).filter(|index| *index != gone).collect();
    let total = room.total(&survivors);
    let mut left: Vec<i64> = total.cells().to_vec();
    for index in &survivors {
        subtract(&mut left, &input(*index, CELLS));
    }
    let noise_of = |index: usize| {
        let all = add_noise(Raw::new(vec![0; CELLS as usize]), &room.noise, &seeds[index]).unwrap();
        let excess = seeds[index].excess(&room.noise, survivors.len() as u32).unwrap();
        let excess = cohortium_dp::excess_noise(&room.noise, survivors.len() as u32, &excess, CELLS as usize).unwrap();
        let mut kept = all.values().to_vec();
        subtract(&mut kept, &excess);
        kept
    };
    colluders.iter().for_each(|index| subtract(&mut left, &noise_of(*index)));
    let honest = survivors.len() - colluders.len();
    let each = room.context.sigma2.div_ceil(honest as u64);
    let deviations = |values: &[i64]| {
        let squares: i64 = values.iter().map(|value| value * value).sum();
        let variance = (each * honest as u64) as f64;
        (squares as f64 / variance - f64::from(CELLS)) / (2.0 * f64::from(CELLS)).sqrt()
    };
    assert!(each * honest as u64 >= room.context.sigma2);
    assert!(deviations(&left).abs() < 5.0, "seed 50.., {} standard deviations", deviations(&left));
    // The test can fail: with one honest member's noise taken off as well.
    subtract(&mut left, &noise_of(0));
    assert!(deviations(&left) < -5.0, "{} standard deviations", deviations(&left));
}

fn copy(seeds: &NoiseSeeds, noise: &NoisePlan) -> NoiseSeeds {
    let bytes = (0..seeds.count()).map(|k| cohortium_dp::Seed::from_bytes(*seeds.expose_seed_bytes(k).unwrap()));
    NoiseSeeds::restore(noise, bytes.collect()).unwrap()
}

fn subtract(from: &mut [i64], what: &[i64]) {
    from.iter_mut().zip(what).for_each(|(value, other)| *value -= other);
}

/// There is no short seed to try out: a mask depends on every bit of the 32 bytes of each secret that it comes from.
///
/// Each bit of a pair's chain is turned in turn; every bit turned gives another vector, no two of them alike, so that
/// all 256 bits go into the mask. What a member's self-mask comes from is drawn as 32 bytes and used as such.
#[test]
fn attack_by_trying_out_seeds_faces_256_bits() {
    let vector = |flip: Option<usize>| {
        let mut chains = chains(2).swap_remove(0);
        if let Some(bit) = flip {
            let mut bytes = parties()[0].chains[&name(1)].clone();
            // Version and position come first.
            bytes[9 + bit / 8] ^= 1 << (bit % 8);
            chains.insert(name(1), Chain::from_secret_bytes(&bytes).unwrap());
        }
        let (context, noise) = round(2, 2, 1, 4, Ring::Z32);
        let mut rng = ChaCha20Rng::from_seed([50; 32]);
        let (member, dealt) = Member::begin(context, &name(0), &mut chains, &noise, &mut rng).unwrap();
        let _ = member;
        dealt.mask_key_commitments[0]
    };
    let mut keys: BTreeSet<Hash> = (0..256).map(|bit| vector(Some(bit))).collect();
    keys.insert(vector(None));
    assert_eq!(keys.len(), 257);
    assert!(parties().len() == MOST && parties()[0].chains.values().all(|bytes| bytes.len() == 1 + 8 + 32));
}
