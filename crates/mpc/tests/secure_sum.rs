//! The whole protocol, played through with honest and with lying parties, and its byte vectors.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "in a test a panic is a finding; helpers count as tests"
)]

use std::collections::BTreeMap;
use std::num::NonZeroUsize;

use chacha20::ChaCha20Rng;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use cohortium_dp::noise::MAX_RAW_MAGNITUDE;
use cohortium_dp::sampler::MAX_LEN;
use cohortium_dp::{NoisePlan, NoiseStream, Noised, Raw, Seed, Variance, add_noise, gaussian_vector};
use cohortium_messages::{
    Document, Envelope, Hash, KemSecretKey, Name, ReleaseMode, Reveal, Ring, RoundContext, RoundShares, SealedShare,
    SigningKey, SurvivorSet, Verified, noise_margin,
};
use cohortium_mpc::{
    CHUNK_ELEMENTS, Chain, Coordinator, Disagreement, Inconsistency, Masked, Member, MpcError, Total, accept,
    encapsulate,
};
use proptest::prelude::*;
use rand_core::SeedableRng as _;
use serde_json::{Value, json};

// ---------------------------------------------------------------- a world of organisations

/// An organisation before and during a round.
struct Organisation {
    name: Name,
    signing: SigningKey,
    kem: KemSecretKey,
    chains: BTreeMap<Name, Chain>,
    rng: ChaCha20Rng,
    input: Vec<i64>,
}

struct World {
    context: RoundContext,
    noise: NoisePlan,
    organisations: Vec<Organisation>,
    exchange: Vec<Value>,
}

/// What is wrong with something, and how to make it so.
type Defect<T> = (&'static str, fn(&mut T));

fn name(index: usize) -> Name {
    Name::new(format!("org-{index:02}")).unwrap()
}

fn names(indices: impl IntoIterator<Item = usize>) -> Vec<Name> {
    indices.into_iter().map(name).collect()
}

fn signed<T: Document>(document: &T, key: &SigningKey) -> Verified<T> {
    Envelope::sign(document, key).unwrap().open(&key.public()).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// `n` organisations with exchanged pairwise secrets and inputs, about to begin a round of `elements` at position 3.
fn world(n: usize, threshold: u32, colluders: u32, elements: u32) -> World {
    let sigma2 = 1000;
    let context = RoundContext {
        agreement: Hash::of(b"agreement"),
        colluders,
        elements,
        mode: ReleaseMode::Noised,
        participants: names(0..n),
        plan: Hash::of(b"plan"),
        position: 3,
        protocol: 3,
        ring_bits: 64,
        round: 0,
        sigma2,
        task: Hash::of(b"task"),
        threshold,
    };
    let mut organisations: Vec<Organisation> = (0..n)
        .map(|index| {
            let mut keys = ChaCha20Rng::from_seed([index as u8 + 1; 32]);
            Organisation {
                name: name(index),
                signing: SigningKey::generate(&mut keys),
                kem: KemSecretKey::generate(&mut keys),
                chains: BTreeMap::new(),
                rng: ChaCha20Rng::from_seed([index as u8 + 101; 32]),
                input: (0..i64::from(elements))
                    .map(|cell| (index as i64 + 1) * 1000 * (1 - 2 * (cell % 2)) + cell)
                    .collect(),
            }
        })
        .collect();
    let mut exchange = Vec::new();
    if n > 5 {
        // The exchange is the same for every pair; large rounds start from chains made up instead.
        for (low, high) in (0..n).flat_map(|high| (0..high).map(move |low| (low, high))) {
            let mut bytes = [7; 41];
            bytes[..11].copy_from_slice(&[1, 0, 0, 0, 0, 0, 0, 0, 0, low as u8, high as u8]);
            for (one, other) in [(low, high), (high, low)] {
                organisations[one].chains.insert(name(other), Chain::from_secret_bytes(&bytes).unwrap());
            }
        }
    }
    for second in 1..if n > 5 { 1 } else { n } {
        let (before, rest) = organisations.split_at_mut(second);
        for low in before {
            let high = &mut rest[0];
            let (message, chain) =
                encapsulate(&context.agreement, &low.name, &low.kem, &high.name, &high.kem.public(), &mut low.rng)
                    .unwrap();
            let evidence = signed(&message, &low.signing);
            let taken =
                accept(&context.agreement, &high.name, &high.kem, &low.name, &low.kem.public(), &evidence).unwrap();
            assert!(*taken.to_secret_bytes() == *chain.to_secret_bytes());
            exchange.push(json!({
                "chain": hex(&chain.to_secret_bytes()),
                "message": message,
                "ml_kem_shared_key": ml_kem_shared_key(high, &message.ciphertext),
            }));
            low.chains.insert(high.name.clone(), chain);
            high.chains.insert(low.name.clone(), taken);
        }
    }
    let noise = NoisePlan::new(sigma2, n as u32, threshold, colluders).unwrap();
    World { context, noise, organisations, exchange }
}

impl World {
    fn begin(&mut self, index: usize) -> (Member, RoundShares) {
        let who = &mut self.organisations[index];
        Member::begin(self.context.clone(), &who.name, &mut who.chains, &self.noise, &mut who.rng).unwrap()
    }

    fn key(&self, name: &Name) -> &SigningKey {
        &self.organisations[self.context.index_of(name).unwrap()].signing
    }

    /// Signs in the name of whoever `from` says.
    fn sign<T: Document>(&self, from: &Name, document: &T) -> Verified<T> {
        signed(document, self.key(from))
    }

    /// This round's noise of a member, one vector for each component, from its seeds.
    fn noise_components(&self, member: &Member) -> Vec<Vec<i64>> {
        let len = self.context.elements as usize;
        let component = |(component, variance): (usize, &u64)| {
            let seed = Seed::from_bytes(*member.noise_seeds().unwrap().expose_seed_bytes(component).unwrap());
            let drawn = || gaussian_vector(&seed, Variance::new(*variance).unwrap(), len).unwrap();
            if *variance > 0 { drawn() } else { vec![0; len] }
        };
        self.noise.components().iter().enumerate().map(component).collect()
    }

    /// All of it added up.
    fn noise_of(&self, member: &Member) -> Vec<i64> {
        let mut sum = vec![0; self.context.elements as usize];
        for noise in self.noise_components(member) {
            sum.iter_mut().zip(noise).for_each(|(total, noise)| *total += noise);
        }
        sum
    }

    fn noised(&self, index: usize, member: &Member) -> Noised {
        let raw = Raw::new(self.organisations[index].input.clone());
        add_noise(raw, &self.noise, member.noise_seeds().unwrap()).unwrap()
    }

    fn mask(&self, index: usize, member: &mut Member) -> Masked {
        member.mask(&self.noised(index, member)).unwrap()
    }
}

// ---------------------------------------------------------------- a round in steps

/// A round up to some step, so that tests can meddle with the next one.
struct Round {
    world: World,
    members: Vec<Member>,
    dealt: Vec<RoundShares>,
    hub: Coordinator,
    /// Full noise of each member, taken before anything is forgotten.
    all_noise: Vec<Vec<i64>>,
    /// The signatures on the survivor set.
    sets: Vec<Verified<SurvivorSet>>,
    transcript: Vec<Value>,
    /// Whether every member is written to bytes and read back after every step.
    reload: bool,
}

impl Round {
    fn begun(mut world: World, reload: bool) -> Self {
        let hub = Coordinator::new(world.context.clone(), world.noise.clone()).unwrap();
        let (members, dealt) = (0..world.organisations.len()).map(|index| world.begin(index)).unzip();
        let mut round =
            Self { world, members, dealt, hub, all_noise: vec![], sets: vec![], transcript: vec![], reload };
        round.all_noise = round.members.iter().map(|m| round.world.noise_of(m)).collect();
        round.reload_all();
        round
    }

    fn reload_all(&mut self) {
        if self.reload {
            for member in &mut self.members {
                *member = Member::from_secret_bytes(&member.to_secret_bytes().unwrap()).unwrap();
            }
        }
    }

    fn shared(mut self) -> Self {
        for dealt in &self.dealt {
            self.transcript.push(json!(dealt));
            self.hub.accept_shares(self.world.sign(&dealt.from, dealt)).unwrap();
        }
        for (index, member) in self.members.iter_mut().enumerate() {
            member.receive_shares(&self.hub.shares_for(&name(index)).unwrap()).unwrap();
        }
        self.reload_all();
        self
    }

    /// All but `absent` mask and upload.
    fn masked(mut self, absent: &[usize]) -> Self {
        for index in present(self.members.len(), absent) {
            let masked = self.world.mask(index, &mut self.members[index]);
            self.transcript.push(json!({ "bytes": hex(masked.bytes()), "header": masked.header() }));
            let header = self.world.sign(&name(index), masked.header());
            self.hub.accept_masked(&header, masked.bytes().to_vec()).unwrap();
        }
        self.reload_all();
        self
    }

    /// All but `silent` of the proposed survivors sign.
    fn signed(mut self, silent: &[usize]) -> Self {
        let survivors = self.hub.propose_survivors().unwrap();
        for index in self.survivors().into_iter().filter(|index| !silent.contains(index)) {
            let set = self.members[index].sign_survivors(&survivors).unwrap();
            self.transcript.push(json!(set));
            let set = self.world.sign(&set.from, &set);
            self.hub.accept_survivor_set(set.clone()).unwrap();
            self.sets.push(set);
        }
        self.reload_all();
        self
    }

    /// The masked vectors as they were uploaded.
    fn vectors(&self) -> Vec<Vec<u8>> {
        let hex = self.transcript.iter().filter_map(|message| message.get("bytes").and_then(Value::as_str));
        hex.map(|hex| data_encoding::HEXLOWER.decode(hex.as_bytes()).unwrap()).collect()
    }

    fn vector_lengths(&self) -> Vec<usize> {
        self.vectors().iter().map(Vec::len).collect()
    }

    fn survivors(&self) -> Vec<usize> {
        let named = self.hub.masked_from();
        named.iter().map(|name| self.world.context.index_of(name).unwrap()).collect()
    }

    fn reveal(&self, index: usize) -> Reveal {
        self.members[index].reveal(&self.sets).unwrap()
    }

    fn accept_reveal(&mut self, reveal: &Reveal) -> Result<(), MpcError> {
        self.hub.accept_reveal(self.world.sign(&reveal.from, reveal))
    }

    /// All who signed, but `silent`, reveal.
    fn revealed(mut self, silent: &[usize]) -> Self {
        let signers: Vec<Name> = self.hub.signatures().keys().cloned().collect();
        for signer in signers {
            let index = self.world.context.index_of(&signer).unwrap();
            if !silent.contains(&index) {
                let reveal = self.reveal(index);
                self.transcript.push(json!(reveal));
                self.accept_reveal(&reveal).unwrap();
            }
        }
        self
    }

    /// What the total must be: the survivors' inputs and the noise that stays.
    fn expected(&self) -> (Vec<i64>, u128) {
        let survivors = self.survivors();
        let kept = self.world.noise.kept(survivors.len() as u32).unwrap();
        let (mut cells, mut variance) = (vec![0; self.world.context.elements as usize], 0);
        for index in survivors {
            let has_revealed = self.hub.revealed_from().contains(&name(index));
            let components = self.world.noise.components().iter().enumerate();
            let left = components.filter(|(component, _)| !has_revealed || kept.contains(component));
            variance += left.map(|(_, variance)| u128::from(*variance)).sum::<u128>();
            let noise = if has_revealed { self.kept_noise(index, &kept) } else { self.all_noise[index].clone() };
            for (cell, (input, noise)) in cells.iter_mut().zip(self.world.organisations[index].input.iter().zip(noise))
            {
                *cell += input + noise;
            }
        }
        (cells, variance)
    }

    /// All noise of a member but what its reveal gives away.
    fn kept_noise(&self, index: usize, kept: &[usize]) -> Vec<i64> {
        let mut noise = self.all_noise[index].clone();
        for seed in self.reveal(index).excess_seeds {
            assert!(!kept.contains(&(seed.component as usize)));
            let variance = self.world.noise.components()[seed.component as usize];
            if variance > 0 {
                let seed = Seed::from_bytes(*seed.seed.as_bytes());
                let excess = gaussian_vector(&seed, Variance::new(variance).unwrap(), noise.len()).unwrap();
                noise.iter_mut().zip(excess).for_each(|(noise, excess)| *noise -= excess);
            }
        }
        noise
    }

    fn checked_total(&self) -> Total {
        let total = self.hub.total().unwrap();
        let (cells, variance) = self.expected();
        assert_eq!(total.cells(), cells);
        assert_eq!(total.noise_variance(), variance);
        assert_eq!(total.survivors(), self.hub.masked_from());
        assert_eq!(total.context_hash(), self.world.context.hash().unwrap());
        assert_eq!((total.task(), total.plan()), (self.world.context.task, self.world.context.plan));
        total
    }
}

/// One of the length-prefixed parts behind the version line of a member's state.
fn state_part(bytes: &[u8], part: usize) -> Vec<u8> {
    let mut rest = bytes.strip_prefix(b"cohortium/member-state/v3\n").unwrap();
    for _ in 0..part {
        rest = &rest[4 + u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize..];
    }
    rest[4..4 + u32::from_be_bytes(rest[..4].try_into().unwrap()) as usize].to_vec()
}

fn present(n: usize, absent: &[usize]) -> Vec<usize> {
    (0..n).filter(|index| !absent.contains(index)).collect()
}

/// Four organisations of which one may drop out; shares exchanged.
fn four() -> Round {
    Round::begun(world(4, 3, 1, 5), false).shared()
}

// ---------------------------------------------------------------- it adds up

#[test]
fn sums_come_out_whoever_drops_out() {
    // n, t, c, elements, absent from masking, silent at signing, silent at revealing
    type Case = (usize, u32, u32, u32, &'static [usize], &'static [usize], &'static [usize]);
    let cases: [Case; 15] = [
        (2, 2, 1, 4, &[], &[], &[]),
        (3, 3, 1, 7, &[], &[], &[]),
        (4, 3, 1, 5, &[], &[], &[]),
        (4, 3, 1, 5, &[0], &[], &[]),
        (4, 3, 1, 5, &[3], &[], &[]),
        (4, 3, 1, 5, &[], &[1], &[]),
        (4, 3, 1, 5, &[], &[], &[2]),
        (5, 4, 1, 1, &[], &[], &[]),
        (5, 4, 1, 4097, &[2], &[], &[]),
        (10, 7, 3, 9, &[], &[], &[]),
        (10, 7, 3, 9, &[0, 4, 9], &[], &[]),
        (10, 7, 3, 9, &[1], &[3], &[8]),
        (10, 7, 3, 9, &[], &[0, 1], &[9]),
        // More drop-outs are planned for than there are pieces of noise.
        (31, 21, 10, 2, &[3, 4, 30], &[5], &[6, 7]),
        (31, 21, 10, 2, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9], &[], &[]),
    ];
    for (n, t, c, elements, absent, unsigned, silent) in cases {
        let round = Round::begun(world(n, t, c, elements), false).shared().masked(absent).signed(unsigned);
        let total = round.revealed(silent).checked_total();
        assert_eq!(total.survivors().len(), n - absent.len());
        assert!(total.inconsistencies().is_empty());
    }
}

/// The largest round: 100 organisations of which 33 collude, drop out at each step.
#[test]
fn a_hundred_organisations_add_up() {
    let round = Round::begun(world(100, 67, 33, 3), false).shared().masked(&[0, 50, 99]).signed(&[7]).revealed(&[8, 9]);
    assert_eq!(round.checked_total().survivors().len(), 97);
}

/// Who does not deal makes the round void: nobody gets shares, and it is known who is waited for.
#[test]
fn a_round_in_which_somebody_does_not_deal_stops_there() {
    let mut round = Round::begun(world(4, 3, 1, 2), false);
    for dealt in &round.dealt[..3] {
        round.hub.accept_shares(round.world.sign(&dealt.from, dealt)).unwrap();
    }
    assert_eq!(round.hub.shares_missing(), [name(3)]);
    assert!((0..4).all(|index| round.hub.shares_for(&name(index)).is_none()));
    assert!(matches!(round.hub.propose_survivors(), Err(MpcError::TooFew { found: 0, needed: 3, .. })));
}

/// A sum can be had from t reveals; a reveal that comes later takes its excess noise off, and the variance says so.
#[test]
fn a_late_reveal_takes_its_excess_noise_off() {
    let mut round = four().masked(&[]).signed(&[3]).revealed(&[]);
    let early = round.checked_total();
    // The fourth signs and reveals when the others are done.
    let survivors = round.hub.propose_survivors().unwrap();
    let set = round.members[3].sign_survivors(&survivors).unwrap();
    round.hub.accept_survivor_set(round.world.sign(&name(3), &set)).unwrap();
    let reveal = round.reveal(3);
    round.accept_reveal(&reveal).unwrap();
    let late = round.checked_total();
    let components = round.world.noise.components();
    assert_eq!(early.noise_variance() - late.noise_variance(), u128::from(components[1]));
    assert_eq!(late.noise_variance(), round.world.noise.remaining_total_variance(4).unwrap());
}

#[test]
fn noise_left_is_what_the_plan_says_when_all_reveal() {
    let round = Round::begun(world(10, 7, 3, 2), false).shared().masked(&[5]).signed(&[]).revealed(&[]);
    assert_eq!(round.checked_total().noise_variance(), round.world.noise.remaining_total_variance(9).unwrap());
}

/// A world whose sums are in the ring of this width.
fn world_in(ring_bits: u32, n: usize, threshold: u32, colluders: u32, elements: u32) -> World {
    let mut world = world(n, threshold, colluders, elements);
    world.context.ring_bits = ring_bits;
    world
}

#[test]
fn sums_come_out_in_every_ring() {
    for ring in Ring::ALL {
        for (n, t, absent, silent) in
            [(2, 2, &[][..], &[][..]), (4, 3, &[1], &[]), (4, 3, &[], &[3]), (7, 5, &[0, 6], &[])]
        {
            let round = Round::begun(world_in(ring.bits(), n, t, 1, 5), false).shared().masked(absent);
            assert!(round.vector_lengths().iter().all(|len| *len == 5 * ring.bytes() as usize));
            round.signed(&[]).revealed(silent).checked_total();
        }
    }
}

/// What `dp` noises always fits the ring of queries, however many take part.
#[test]
fn noised_values_never_leave_the_ring_of_queries() {
    let largest_noise = 1i64 << 39;
    let bound = Ring::Z64.node_bound(cohortium_dp::noise::MAX_PARTICIPANTS as usize);
    assert!(u128::from((MAX_RAW_MAGNITUDE + largest_noise).unsigned_abs()) <= bound);
}

/// What every member may mask is masked and summed at the edge; one step further is an error, never a wrapped sum.
#[test]
fn a_value_with_which_the_sum_could_wrap_is_not_masked() {
    let n = 3;
    for (ring, edge) in [(Ring::Z32, Ring::Z32.node_bound(n) as i64), (Ring::Z64, MAX_RAW_MAGNITUDE)] {
        // Input and noise together stay within 12 standard deviations of the input.
        let margin = if ring == Ring::Z32 { noise_margin(1000) as i64 } else { 0 };
        for sign in [1, -1] {
            let mut world = world_in(ring.bits(), n, 3, 1, 1);
            world.organisations.iter_mut().for_each(|who| who.input = vec![sign * (edge - margin)]);
            Round::begun(world, false).shared().masked(&[]).signed(&[]).revealed(&[]).checked_total();
        }
    }
    for (ring, n, t, input) in
        [(Ring::Z32, 3, 3, Ring::Z32.node_bound(3) as i64 + noise_margin(1000) as i64), (Ring::Z32, 3, 3, i64::MIN)]
    {
        let mut round = Round::begun(world_in(ring.bits(), n, t, 1, 2), false).shared();
        let noised = |cells: [i64; 2]| {
            let seeds = round.members[0].noise_seeds().unwrap();
            add_noise(Raw::new(cells.to_vec()), &round.world.noise, seeds).unwrap()
        };
        let (bad, good) = (noised([0, input]), noised([0, 0]));
        assert_eq!(round.members[0].mask(&bad).err(), Some(MpcError::OutOfBound));
        assert!(round.members[0].mask(&good).is_ok(), "a refused vector counts as masked");
    }
}

/// Ten inputs of 2^60 need more than 64 bits: Z_2^128 sums them, chunk by chunk. (`dp` clamps what it noises to less; a
/// stream brings its own values.)
#[test]
fn a_sum_beyond_64_bits_comes_out_of_the_widest_ring() {
    let mut round = Round::begun(world_in(128, 10, 6, 1, 2), false).shared();
    let mut vectors = Vec::new();
    for index in 0..10 {
        let mut bytes = Vec::new();
        let streamed = round.members[index]
            .mask_stream_of_noised::<MpcError>(
                &mut |chunk| {
                    chunk.copy_from_slice(&[1 << 60, -(1 << 60)]);
                    Ok(())
                },
                &mut |piece| {
                    bytes.extend_from_slice(piece);
                    Ok(())
                },
            )
            .unwrap();
        let header = round.world.sign(&name(index), streamed.header());
        round.hub.accept_masked(&header, bytes.clone()).unwrap();
        vectors.push(bytes);
    }
    let round = round.signed(&[]).revealed(&[]);
    assert_eq!(round.hub.total().err(), Some(MpcError::TooWide));
    let unmasker = round.hub.unmasker().unwrap();
    let vectors: Vec<&[u8]> = vectors.iter().map(Vec::as_slice).collect();
    assert_eq!(unmasker.unmask(0, &vectors, &[0, 0]).unwrap(), [10i128 << 60, -(10i128 << 60)]);
}

// ---------------------------------------------------------------- in chunks

/// A vector of three chunks, masked and opened chunk by chunk in any order, and in one piece: the same bytes and sums.
#[test]
fn chunks_give_what_the_whole_vector_gives() {
    for ring in Ring::ALL {
        let elements = 2 * CHUNK_ELEMENTS + 5;
        let mut round = Round::begun(world_in(ring.bits(), 4, 3, 1, elements as u32), false).shared();
        let mut files = Vec::new();
        for index in [0, 1, 3] {
            let whole = round.world.mask(index, &mut round.members[index]);
            let noised = round.world.noised(index, &round.members[index]);
            let (mut at, mut file) = (0, Vec::new());
            let member = &mut round.members[index];
            let streamed = member
                .mask_stream_of_noised::<MpcError>(
                    &mut |chunk| {
                        chunk.copy_from_slice(&noised.values()[at..at + chunk.len()]);
                        at += chunk.len();
                        Ok(())
                    },
                    &mut |bytes| {
                        file.extend_from_slice(bytes);
                        Ok(())
                    },
                )
                .unwrap();
            assert_eq!((streamed.header(), file.as_slice()), (whole.header(), whole.bytes()));
            assert_eq!(member.restore_masked_stream(Hash::of(&file)).unwrap().header(), whole.header());
            assert!(member.restore_masked_stream(Hash::of(b"other")).is_err());
            let header = round.world.sign(&name(index), streamed.header());
            let stored = |round: &mut Round, len, hash| round.hub.accept_masked_stored(&header, len, hash);
            let refused = stored(&mut round, file.len() as u64, Hash::of(b"other"));
            assert_eq!(refused, Err(MpcError::VectorHash { from: name(index) }));
            assert!(matches!(stored(&mut round, 1, Hash::of(&file)), Err(MpcError::Length { .. })));
            stored(&mut round, file.len() as u64, Hash::of(&file)).unwrap();
            files.push(file);
        }
        let round = round.signed(&[]).revealed(&[]);
        assert_eq!(round.hub.total().err(), Some(MpcError::NotInMemory { from: name(0) }));
        let (expected, variance) = round.expected();
        let unmasker = round.hub.unmasker().unwrap();
        assert_eq!((unmasker.survivors(), unmasker.noise_variance()), (names([0, 1, 3]).as_slice(), variance));
        let excess = unmasker.excess_noise(NonZeroUsize::MIN).unwrap();
        for threads in [2, 3, 8] {
            assert_eq!(
                unmasker.excess_noise(NonZeroUsize::new(threads).unwrap()).unwrap(),
                excess,
                "{threads} threads"
            );
        }
        let (mut stream, mut pieces) = (unmasker.excess_stream(NonZeroUsize::MIN).unwrap(), vec![7; elements]);
        pieces.chunks_mut(CHUNK_ELEMENTS - 3).for_each(|piece| stream.next(piece).unwrap());
        assert_eq!(pieces, excess);
        let stored =
            |name: &Name| Ok(files[[0, 1, 3].iter().position(|index| *name == crate::name(*index)).unwrap()].clone());
        let total = round.hub.total_of_stored::<MpcError>(NonZeroUsize::new(2).unwrap(), &mut { stored }).unwrap();
        assert_eq!((total.cells(), total.noise_variance()), (expected.as_slice(), variance));
        let wrong = round.hub.total_of_stored::<MpcError>(NonZeroUsize::MIN, &mut |_| Ok(files[1].clone()));
        assert_eq!(wrong.err(), Some(MpcError::VectorHash { from: name(0) }));
        assert_eq!((unmasker.chunks(), unmasker.elements_of(3).len()), (3, 0));
        for chunk in [2, 0, 1] {
            let pieces: Vec<&[u8]> = files.iter().map(|file| &file[unmasker.bytes_of(chunk)]).collect();
            let excess = &excess[unmasker.elements_of(chunk)];
            let sums = unmasker.unmask(chunk, &pieces, excess).unwrap();
            assert!(
                sums.iter().zip(&expected[unmasker.elements_of(chunk)]).all(|(sum, cell)| *sum == i128::from(*cell))
            );
            let short: Vec<&[u8]> = pieces.iter().map(|piece| &piece[1..]).collect();
            for refused in [
                unmasker.unmask(chunk, &pieces[1..], excess),
                unmasker.unmask(chunk, &short, excess),
                unmasker.unmask(chunk, &pieces, &excess[1..]),
                unmasker.unmask(chunk + 3, &pieces, excess),
            ] {
                assert!(matches!(refused, Err(MpcError::Length { .. })));
            }
        }
    }
}

/// A vector longer than `dp` draws noise for at once is opened with its noise, chunk by chunk, in the memory of a few.
#[test]
fn a_vector_of_any_length_is_opened_with_its_noise_taken_off() {
    const CHUNKS: usize = 3;
    let mut world = world_in(32, 4, 3, 1, 1);
    world.context.elements = MAX_LEN as u32 + 5;
    let mut hub = Coordinator::new(world.context.clone(), world.noise.clone()).unwrap();
    let (mut members, dealt): (Vec<Member>, Vec<RoundShares>) = (0..4).map(|index| world.begin(index)).unzip();
    dealt.iter().for_each(|dealt| hub.accept_shares(world.sign(&dealt.from, dealt)).unwrap());
    let mut first_chunks = Vec::new();
    let mut kept = vec![0; CHUNKS * CHUNK_ELEMENTS];
    for (index, member) in members.iter_mut().enumerate() {
        member.receive_shares(&hub.shares_for(&name(index)).unwrap()).unwrap();
        // Noise in the chunks that are looked at: what is in excess, to be taken off, and the first component, to stay.
        let mut noise = NoiseStream::of_node(&world.noise, member.noise_seeds().unwrap()).unwrap();
        let stays = Seed::from_bytes(*member.noise_seeds().unwrap().expose_seed_bytes(0).unwrap());
        let stays = gaussian_vector(&stays, Variance::new(world.noise.components()[0]).unwrap(), kept.len()).unwrap();
        kept.iter_mut().zip(stays).for_each(|(sum, noise)| *sum += noise);
        let (mut chunk, mut bytes) = (0, Vec::new());
        let mut fill = |values: &mut [i64]| {
            values.fill(0);
            if chunk < CHUNKS {
                noise.add_to(values);
            }
            chunk += 1;
            Ok(())
        };
        let mut keep = |masked: &[u8]| {
            if bytes.len() < CHUNKS * CHUNK_ELEMENTS * 4 {
                bytes.extend_from_slice(masked);
            }
            Ok(())
        };
        let streamed = member.mask_stream_of_noised::<MpcError>(&mut fill, &mut keep).unwrap();
        let header = world.sign(&name(index), streamed.header());
        hub.accept_masked_stored(&header, streamed.header().bytes, streamed.header().sha256).unwrap();
        first_chunks.push(bytes);
    }
    let survivors = hub.propose_survivors().unwrap();
    let sets = members.iter_mut().map(|member| member.sign_survivors(&survivors).unwrap());
    let sets: Vec<_> = sets.map(|set| world.sign(&set.from, &set)).collect();
    sets.iter().for_each(|set| hub.accept_survivor_set(set.clone()).unwrap());
    let reveals = members.iter().map(|member| member.reveal(&sets).unwrap());
    reveals.for_each(|reveal| hub.accept_reveal(world.sign(&reveal.from, &reveal)).unwrap());
    let unmasker = hub.unmasker().unwrap();
    let mut stream = unmasker.excess_stream(NonZeroUsize::new(2).unwrap()).unwrap();
    for chunk in 0..CHUNKS {
        let pieces: Vec<&[u8]> = first_chunks.iter().map(|bytes| &bytes[unmasker.bytes_of(chunk)]).collect();
        let mut excess = vec![0; CHUNK_ELEMENTS];
        stream.next(&mut excess).unwrap();
        let sums = unmasker.unmask(chunk, &pieces, &excess).unwrap();
        assert!(sums.iter().zip(&kept[unmasker.elements_of(chunk)]).all(|(sum, kept)| *sum == i128::from(*kept)));
    }
    assert_eq!(unmasker.chunks(), MAX_LEN / CHUNK_ELEMENTS + 1);
}

#[test]
fn a_stream_is_masked_once_and_its_errors_pass_through() {
    #[derive(Debug, PartialEq)]
    enum Failure {
        Disk,
        Mpc(MpcError),
    }
    impl From<MpcError> for Failure {
        fn from(error: MpcError) -> Self {
            Self::Mpc(error)
        }
    }
    let mut round = four();
    let member = &mut round.members[0];
    let mut write = |value: i64, disk: bool| {
        let mut fill = |chunk: &mut [i64]| {
            chunk.fill(value);
            Ok(())
        };
        let masked = member.mask_stream_of_noised(&mut fill, &mut |_| if disk { Ok(()) } else { Err(Failure::Disk) });
        masked.map(|masked| masked.header().sha256)
    };
    assert_eq!(write(7, false), Err(Failure::Disk));
    let first = write(8, true).unwrap();
    assert_eq!(write(8, true), Ok(first));
    assert_eq!(write(7, true), Err(Failure::Mpc(MpcError::SecondVector)));
}

#[test]
fn state_read_back_at_every_step_gives_the_same_bytes() {
    let play = |reload| {
        let round = Round::begun(world(4, 3, 1, 5), reload).shared().masked(&[1]).signed(&[]).revealed(&[]);
        (round.transcript.clone(), round.checked_total().cells().to_vec())
    };
    assert_eq!(play(false), play(true));
}

#[test]
fn a_hub_that_starts_again_from_stored_messages_gets_the_same_total() {
    let round = four().masked(&[3]).signed(&[]).revealed(&[]);
    let world = &round.world;
    let mut again = Coordinator::new(world.context.clone(), world.noise.clone()).unwrap();
    for dealt in &round.dealt {
        again.accept_shares(world.sign(&dealt.from, dealt)).unwrap();
    }
    for index in [0, 1, 2] {
        let message = &round.transcript[4 + index];
        let header = serde_json::from_value(message["header"].clone()).unwrap();
        let bytes = data_encoding::HEXLOWER.decode(message["bytes"].as_str().unwrap().as_bytes()).unwrap();
        again.accept_masked(&world.sign(&name(index), &header), bytes).unwrap();
    }
    assert!(again.restore_proposal(names([0, 1, 3])).is_err(), "a vector is missing");
    assert!(again.restore_proposal(names([0, 1])).is_err(), "below the threshold");
    again.restore_proposal(names([0, 1, 2])).unwrap();
    assert_eq!(again.propose_survivors().unwrap(), names([0, 1, 2]));
    for set in round.hub.signatures().values() {
        again.accept_survivor_set(world.sign(&set.from, set)).unwrap();
    }
    for index in [0, 1, 2] {
        again.accept_reveal(world.sign(&name(index), &round.reveal(index))).unwrap();
    }
    assert_eq!(again.total().unwrap().cells(), round.checked_total().cells());
}

// ---------------------------------------------------------------- beginning

#[test]
fn contexts_that_break_a_rule_are_refused_by_both_sides() {
    let cases: [Defect<RoundContext>; 15] = [
        ("other_protocol", |c| c.protocol = 1),
        ("other_ring", |c| c.ring_bits = 48),
        ("no_elements", |c| c.elements = 0),
        ("too_many_elements", |c| c.elements = 100_000_001),
        ("position_beyond_json", |c| c.position = 1 << 53),
        ("one_participant", |c| c.participants.truncate(1)),
        ("unsorted", |c| c.participants.reverse()),
        ("twice", |c| c.participants[1] = c.participants[0].clone()),
        ("too_many_participants", |c| {
            c.participants = (0..101).map(|i| Name::new(format!("x{i:03}")).unwrap()).collect()
        }),
        ("no_colluders", |c| c.colluders = 0),
        ("threshold_too_low", |c| c.threshold = 2),
        ("threshold_too_high", |c| c.threshold = 5),
        ("all_collude", |c| c.colluders = 3),
        ("other_noise", |c| c.sigma2 += 1),
        ("other_participants_than_noise", |c| c.participants = names(0..3)),
    ];
    for (defect, edit) in cases {
        let mut world = world(4, 3, 1, 5);
        let mut bad = world.context.clone();
        edit(&mut bad);
        let who = &mut world.organisations[0];
        let member = Member::begin(bad.clone(), &who.name, &mut who.chains, &world.noise, &mut who.rng);
        let refused = matches!(member.err(), Some(MpcError::Context(_) | MpcError::NoisePlan));
        assert!(refused, "{defect}");
        assert!(who.chains.values().all(|chain| chain.position() == 0), "{defect}");
        assert!(Coordinator::new(bad, world.noise.clone()).is_err(), "{defect}");
    }
}

/// Exact sums have a rule more, and beyond that nothing that may be masked: each is said, by both sides, and no chain moves.
#[test]
fn exact_rounds_are_refused_by_name() {
    let alone = "an exact sum needs 3 participants and a threshold of colluders + 2";
    let nothing_to_mask = "exact sums need cleared values, which this version cannot make";
    let rounds =
        [(2, 2, 1, alone), (3, 3, 2, alone), (4, 4, 3, alone), (3, 3, 1, nothing_to_mask), (4, 3, 1, nothing_to_mask)];
    for (n, t, c, why) in rounds {
        let mut world = world(n, t, c, 5);
        let exact = RoundContext { mode: ReleaseMode::Exact, ..world.context.clone() };
        assert!(exact.hash().unwrap() != world.context.hash().unwrap(), "the mode is not bound");
        let who = &mut world.organisations[0];
        let member = Member::begin(exact.clone(), &who.name, &mut who.chains, &world.noise, &mut who.rng);
        assert_eq!(member.err(), Some(MpcError::Context(why)), "n {n} t {t} c {c}");
        assert!(who.chains.values().all(|chain| chain.position() == 0));
        assert_eq!(Coordinator::new(exact, world.noise.clone()).err(), Some(MpcError::Context(why)));
        // With noise the same numbers will do.
        Coordinator::new(world.context.clone(), world.noise.clone()).unwrap();
        world.begin(0);
    }
    // Nor does a stored round change its mode.
    let stored = four().members[0].to_secret_bytes().unwrap();
    let context = state_part(&stored, 0);
    let edited = String::from_utf8(context.clone()).unwrap().replace(r#""mode":"dp""#, r#""mode":"exact""#);
    assert_eq!(edited.len(), context.len() + 3);
    let rest = &stored[b"cohortium/member-state/v3\n".len() + 4 + context.len()..];
    let len = (edited.len() as u32).to_be_bytes();
    let bytes = [b"cohortium/member-state/v3\n", &len[..], edited.as_bytes(), rest].concat();
    assert_eq!(Member::from_secret_bytes(&bytes).err(), Some(MpcError::Context(nothing_to_mask)));
}

#[test]
fn a_position_is_used_once() {
    let mut world = world(3, 3, 1, 2);
    world.begin(0);
    let who = &mut world.organisations[0];
    for position in [0, 3] {
        let context = RoundContext { position, plan: Hash::of(b"another plan"), ..world.context.clone() };
        let again = Member::begin(context, &who.name, &mut who.chains, &world.noise, &mut who.rng);
        assert_eq!(again.err(), Some(MpcError::Replayed { position, stands_at: 4 }));
    }
    let far = RoundContext { position: 1 << 30, ..world.context.clone() };
    let jump = Member::begin(far, &who.name, &mut who.chains, &world.noise, &mut who.rng);
    assert!(matches!(jump.err(), Some(MpcError::Jump { .. })));
}

#[test]
fn a_missing_chain_or_a_stranger_is_refused_and_no_chain_moves() {
    let mut world = world(3, 3, 1, 2);
    let who = &mut world.organisations[0];
    who.chains.remove(&name(2));
    let result = Member::begin(world.context.clone(), &who.name, &mut who.chains, &world.noise, &mut who.rng);
    assert_eq!(result.err(), Some(MpcError::NoChain { peer: name(2) }));
    assert_eq!(who.chains[&name(1)].position(), 0);
    let stranger = Name::new("stranger").unwrap();
    let result = Member::begin(world.context.clone(), &stranger, &mut who.chains, &world.noise, &mut who.rng);
    assert_eq!(result.err(), Some(MpcError::NotParticipant { name: stranger }));
}

#[test]
fn steps_out_of_order_are_refused() {
    let mut round = Round::begun(world(4, 3, 1, 5), false);
    let raw = || Raw::new(round.world.organisations[0].input.clone());
    let noised = add_noise(raw(), &round.world.noise, round.members[0].noise_seeds().unwrap()).unwrap();
    let wrong = |error: Option<MpcError>| assert!(matches!(error, Some(MpcError::WrongStep { .. })), "{error:?}");
    wrong(round.members[0].mask(&noised).err());
    wrong(round.members[0].sign_survivors(&names(0..4)).err());
    wrong(round.members[0].reveal(&[]).err());
    wrong(round.members[0].restore_masked(vec![0; 40]).err());
    assert!(round.hub.shares_for(&name(0)).is_none());
    assert_eq!(round.hub.shares_missing(), names(0..4));
    let mut round = round.shared();
    wrong(round.members[0].sign_survivors(&names(0..4)).err());
    assert!(matches!(round.hub.propose_survivors(), Err(MpcError::TooFew { .. })));
    let mut round = round.masked(&[]);
    wrong(round.members[0].reveal(&[]).err());
    let set = SurvivorSet { context: round.hub.context_hash(), from: name(0), survivors: names(0..4) };
    wrong(round.hub.accept_survivor_set(round.world.sign(&name(0), &set)).err());
    assert!(matches!(round.hub.total().err(), Some(MpcError::TooFew { .. })));
    let mut round = round.signed(&[1]);
    assert!(matches!(round.hub.total().err(), Some(MpcError::TooFew { .. })));
    wrong(round.members[0].mask(&noised).err());
    wrong(round.members[0].noise_seeds().err());
    let reveal = round.reveal(0);
    round.accept_reveal(&reveal).unwrap();
    assert!(matches!(round.hub.total().err(), Some(MpcError::TooFew { found: 1, needed: 3, .. })));
}

#[test]
fn a_hub_must_have_t_signatures_before_it_takes_a_reveal() {
    let round = four().masked(&[]).signed(&[]);
    let reveal = round.reveal(0);
    let mut other = four().masked(&[]).signed(&[0, 1]);
    assert!(matches!(other.accept_reveal(&reveal), Err(MpcError::WrongStep { .. })));
}

// ---------------------------------------------------------------- lies

/// A member that was shown another plan seals under keys that nobody else has: the others name it, and it them.
#[test]
fn another_context_is_noticed_when_shares_are_opened() {
    let mut world = world(3, 3, 1, 2);
    let honest = world.context.clone();
    let (mut first, _) = world.begin(0);
    let (_, second) = world.begin(1);
    world.context.plan = Hash::of(b"another plan");
    let (_, misled) = world.begin(2);
    let hash = honest.hash().unwrap();
    assert!(misled.context != hash);

    let mut hub = Coordinator::new(honest, world.noise.clone()).unwrap();
    let refused = hub.accept_shares(world.sign(&name(2), &misled));
    assert_eq!(refused, Err(MpcError::OtherContext { from: name(2) }));
    // A hub in league would pass the shares on all the same.
    let to_first = |dealt: &RoundShares| dealt.shares.iter().find(|share| share.to == name(0)).unwrap().clone();
    let refused = first.receive_shares(&[to_first(&second), to_first(&misled)]);
    assert_eq!(refused, Err(MpcError::Sealed { from: name(2) }));
}

/// Even when nobody looked: mask keys (the fifth part of the state) made for different plans are not the same.
#[test]
fn masks_of_different_contexts_do_not_cancel() {
    let mask_key = |index: usize, plan: &[u8]| {
        let mut world = world(2, 2, 1, 4);
        world.context.plan = Hash::of(plan);
        state_part(&world.begin(index).0.to_secret_bytes().unwrap(), 4)
    };
    assert_eq!(mask_key(0, b"plan"), mask_key(1, b"plan"));
    assert_ne!(mask_key(0, b"plan"), mask_key(1, b"another plan"));
}

#[test]
fn sealed_shares_that_are_wrong_are_refused_and_right_ones_still_work() {
    let cases: [Defect<Vec<SealedShare>>; 8] = [
        ("flipped", |s| flip(&mut s[0].ciphertext)),
        ("swapped", |s| {
            let other = s[1].ciphertext.clone();
            s[1].ciphertext = std::mem::replace(&mut s[0].ciphertext, other);
        }),
        ("missing", |s| s.truncate(2)),
        ("twice", |s| s[2] = s[0].clone()),
        ("extra", |s| s.push(s[0].clone())),
        ("from_myself", |s| s[0].from = name(3)),
        ("from_a_stranger", |s| s[0].from = Name::new("stranger").unwrap()),
        ("for_another", |s| s[0].to = name(1)),
    ];
    for (defect, edit) in cases {
        let mut round = Round::begun(world(4, 3, 1, 5), false);
        let dealt = round.dealt.iter().flat_map(|dealt| &dealt.shares);
        let good: Vec<SealedShare> = dealt.filter(|share| share.to == name(3)).cloned().collect();
        let mut bad = good.clone();
        edit(&mut bad);
        let before = round.members[3].to_secret_bytes().unwrap();
        assert!(round.members[3].receive_shares(&bad).is_err(), "{defect}");
        assert!(*round.members[3].to_secret_bytes().unwrap() == *before, "{defect}");
        round.members[3].receive_shares(&good).unwrap();
        round.members[3].receive_shares(&good.iter().rev().cloned().collect::<Vec<_>>()).unwrap();
        let mut other = good;
        flip(&mut other[0].ciphertext);
        assert_eq!(round.members[3].receive_shares(&other), Err(MpcError::OtherShares), "{defect}");
    }
}

#[test]
fn dealt_shares_of_the_wrong_shape_are_refused() {
    let cases: [Defect<RoundShares>; 10] = [
        ("other_context", |m| m.context = Hash::of(b"other")),
        ("stranger", |m| m.from = Name::new("stranger").unwrap()),
        ("missing_share", |m| m.shares.truncate(2)),
        ("unordered", |m| m.shares.reverse()),
        ("dealt_by_another", |m| m.shares[0].from = name(2)),
        ("short_share", |m| m.shares[0].ciphertext.truncate(40)),
        ("long_deposit", |m| m.deposit = format!("{0}{0}", m.deposit)),
        ("deposit_not_base64", |m| m.deposit.replace_range(0..1, "!")),
        ("missing_commitment", |m| m.excess_commitments.clear()),
        ("missing_mask_key_commitment", |m| m.mask_key_commitments.truncate(2)),
    ];
    let round = Round::begun(world(4, 3, 1, 5), false);
    for (defect, edit) in cases {
        let mut hub = Coordinator::new(round.world.context.clone(), round.world.noise.clone()).unwrap();
        let mut bad = round.dealt[0].clone();
        edit(&mut bad);
        assert!(hub.accept_shares(signed(&bad, round.world.key(&name(0)))).is_err(), "{defect}");
        hub.accept_shares(round.world.sign(&name(0), &round.dealt[0])).unwrap();
        hub.accept_shares(round.world.sign(&name(0), &round.dealt[0])).unwrap();
        let mut other = round.dealt[0].clone();
        other.self_mask_commitment = Hash::of(b"other");
        let refused = hub.accept_shares(round.world.sign(&name(0), &other));
        assert_eq!(refused, Err(MpcError::Equivocation { from: name(0) }));
    }
}

#[test]
fn vectors_are_masked_once_and_have_one_length() {
    let mut round = four();
    let noised = |len: usize, round: &Round| {
        let raw = Raw::new(vec![7; len]);
        add_noise(raw, &round.world.noise, round.members[0].noise_seeds().unwrap()).unwrap()
    };
    let (good, short, long) = (noised(5, &round), noised(4, &round), noised(6, &round));
    for bad in [&short, &long] {
        assert!(matches!(round.members[0].mask(bad).err(), Some(MpcError::Length { expected: 5, .. })));
    }
    let masked = round.members[0].mask(&good).unwrap();
    assert_eq!(round.members[0].mask(&good).unwrap().bytes(), masked.bytes());
    let other = add_noise(Raw::new(vec![8; 5]), &round.world.noise, round.members[0].noise_seeds().unwrap()).unwrap();
    assert_eq!(round.members[0].mask(&other).err(), Some(MpcError::SecondVector));
    assert_eq!(round.members[0].restore_masked(masked.bytes().to_vec()).unwrap().header(), masked.header());
    assert!(round.members[0].restore_masked(vec![0; 40]).is_err());

    let header = round.world.sign(&name(0), masked.header());
    let mut flipped = masked.bytes().to_vec();
    flipped[39] ^= 1;
    assert_eq!(round.hub.accept_masked(&header, flipped.clone()), Err(MpcError::VectorHash { from: name(0) }));
    assert!(matches!(round.hub.accept_masked(&header, vec![0; 39]), Err(MpcError::Length { .. })));
    let mut lying = masked.header().clone();
    lying.bytes = 48;
    let lying = round.world.sign(&name(0), &lying);
    assert!(matches!(round.hub.accept_masked(&lying, masked.bytes().to_vec()), Err(MpcError::Length { .. })));
    round.hub.accept_masked(&header, masked.bytes().to_vec()).unwrap();
    round.hub.accept_masked(&header, masked.bytes().to_vec()).unwrap();
    let mut second = masked.header().clone();
    second.sha256 = Hash::of(&flipped);
    let second = round.world.sign(&name(0), &second);
    assert_eq!(round.hub.accept_masked(&second, flipped), Err(MpcError::Equivocation { from: name(0) }));
}

#[test]
fn a_vector_after_the_proposal_stays_out() {
    let mut round = four().masked(&[2]);
    round.hub.propose_survivors().unwrap();
    let masked = round.world.mask(2, &mut round.members[2]);
    let header = round.world.sign(&name(2), masked.header());
    let late = round.hub.accept_masked(&header, masked.bytes().to_vec());
    assert_eq!(late, Err(MpcError::TooLate { from: name(2) }));
    round.signed(&[]).revealed(&[]).checked_total();
}

#[test]
fn a_member_signs_one_proper_set() {
    let mut round = four().masked(&[]);
    let bad: [(&str, Vec<Name>); 6] = [
        ("below_threshold", names([0, 1])),
        ("without_me", names([1, 2, 3])),
        ("unsorted", names([0, 2, 1])),
        ("twice", names([0, 0, 1])),
        ("stranger", [names([0, 1]), vec![Name::new("stranger").unwrap()]].concat()),
        ("empty", vec![]),
    ];
    for (defect, set) in bad {
        assert!(matches!(round.members[0].sign_survivors(&set), Err(MpcError::Survivors(_))), "{defect}");
    }
    let signed = round.members[0].sign_survivors(&names([0, 1, 3])).unwrap();
    assert_eq!(round.members[0].sign_survivors(&names([0, 1, 3])).unwrap(), signed);
    assert_eq!(round.members[0].signed_survivors(), Some(names([0, 1, 3]).as_slice()));
    for other in [names(0..4), names([0, 1, 2])] {
        assert_eq!(round.members[0].sign_survivors(&other), Err(MpcError::SecondSet));
    }
}

#[test]
fn a_reveal_takes_t_signatures_on_the_very_set() {
    /// Name, what is offered, whether the error is the right one.
    type Signatures = (&'static str, Vec<Verified<SurvivorSet>>, fn(&MpcError) -> bool);
    let round = four().masked(&[]).signed(&[]);
    let good = round.sets.clone();
    let set = |from: usize, survivors: Vec<Name>, context: Hash| {
        round.world.sign(&name(from), &SurvivorSet { context, from: name(from), survivors })
    };
    let here = round.hub.context_hash();
    let with = |other: Verified<SurvivorSet>| [&good[..2], &[other]].concat();
    let cases: [Signatures; 5] = [
        ("none", vec![], |e| matches!(e, MpcError::TooFew { needed: 3, found: 0, .. })),
        ("too_few", good[..2].to_vec(), |e| matches!(e, MpcError::TooFew { needed: 3, found: 2, .. })),
        ("one_twice", with(good[0].clone()), |e| matches!(e, MpcError::Signature { .. })),
        ("another_set", with(set(2, names([0, 1, 2]), here)), |e| matches!(e, MpcError::OtherSet { .. })),
        ("another_round", with(set(2, names(0..4), Hash::of(b"x"))), |e| matches!(e, MpcError::OtherContext { .. })),
    ];
    for (defect, sets, is_right) in cases {
        let error = round.members[0].reveal(&sets).err().unwrap();
        assert!(is_right(&error), "{defect}: {error}");
    }
    assert_eq!(round.members[0].reveal(&good).unwrap(), round.members[0].reveal(&good[..3]).unwrap());

    let dropped = four().masked(&[3]).signed(&[]);
    let outsider = SurvivorSet { context: dropped.hub.context_hash(), from: name(3), survivors: names(0..3) };
    let sets = [&dropped.sets[..2], &[dropped.world.sign(&name(3), &outsider)]].concat();
    assert!(matches!(dropped.members[0].reveal(&sets), Err(MpcError::Signature { .. })));
}

#[test]
fn nobody_can_open_both_halves() {
    let round = four().masked(&[]);
    let twin = |bytes: &[u8]| Member::from_secret_bytes(bytes).unwrap();
    let before = round.members[0].to_secret_bytes().unwrap();
    let world = &round.world;
    let reveal = |survivors: &[Name]| {
        let mut member = twin(&before);
        member.sign_survivors(survivors).unwrap();
        let context = round.hub.context_hash();
        let set = |from: &Name| SurvivorSet { context, from: from.clone(), survivors: survivors.to_vec() };
        let sets: Vec<_> = survivors.iter().map(|from| world.sign(from, &set(from))).collect();
        (member.reveal(&sets).unwrap(), member.to_secret_bytes().unwrap())
    };
    let contains = |bytes: &[u8], part: &[u8]| bytes.windows(part.len()).any(|window| window == part);
    let (all, state_all) = reveal(&names(0..4));
    let (three, state_three) = reveal(&names([0, 1, 3]));
    for opened in [&all, &three] {
        let self_masks: Vec<&Name> = opened.self_mask_shares.iter().map(|share| &share.of).collect();
        assert!(opened.deposit_key_shares.iter().all(|share| !self_masks.contains(&&share.of)));
        assert_eq!(opened.self_mask_shares.len() + opened.deposit_key_shares.len(), 4);
    }
    // The other half is not only kept back: it is gone from the state.
    let self_mask_of_2 = all.self_mask_shares[2].share.as_bytes();
    let deposit_key_of_2 = three.deposit_key_shares[0].share.as_bytes();
    assert!(contains(&before, self_mask_of_2) && contains(&before, deposit_key_of_2));
    assert!(contains(&state_all, self_mask_of_2) && !contains(&state_all, deposit_key_of_2));
    assert!(!contains(&state_three, self_mask_of_2) && contains(&state_three, deposit_key_of_2));
    // And so are the masks, and the seed of the noise that stays.
    let kept = *round.members[0].noise_seeds().unwrap().expose_seed_bytes(0).unwrap();
    assert!(contains(&before, &kept) && !contains(&state_all, &kept));
}

#[test]
fn signatures_that_do_not_count_are_refused_by_the_hub() {
    let mut round = four().masked(&[3]);
    let survivors = round.hub.propose_survivors().unwrap();
    let set = |from: usize, survivors: &[Name], context| SurvivorSet {
        context,
        from: name(from),
        survivors: survivors.to_vec(),
    };
    let here = round.hub.context_hash();
    let mut offer =
        |set: SurvivorSet| round.hub.accept_survivor_set(signed(&set, &round.world.organisations[0].signing));
    assert_eq!(offer(set(0, &survivors, Hash::of(b"x"))), Err(MpcError::OtherContext { from: name(0) }));
    assert_eq!(offer(set(0, &names(0..4), here)), Err(MpcError::OtherSet { from: name(0) }));
    assert!(matches!(offer(set(3, &survivors, here)), Err(MpcError::Signature { .. })));
    offer(set(0, &survivors, here)).unwrap();
    offer(set(0, &survivors, here)).unwrap();
    assert_eq!(offer(set(0, &names(0..4), here)), Err(MpcError::Equivocation { from: name(0) }));
    assert!(round.hub.agreed().is_none());
}

#[test]
fn reveals_of_the_wrong_shape_are_refused() {
    let cases: [Defect<Reveal>; 9] = [
        ("other_context", |m| m.context = Hash::of(b"other")),
        ("drop_out_speaks", |m| m.from = name(0)),
        ("share_missing", |m| m.self_mask_shares.truncate(8)),
        ("share_of_a_drop_out", |m| m.self_mask_shares[0].of = name(0)),
        ("unordered", |m| m.self_mask_shares.reverse()),
        ("no_deposit_share", |m| m.deposit_key_shares.clear()),
        ("seed_missing", |m| m.excess_seeds.truncate(1)),
        ("seed_of_another_component", |m| m.excess_seeds[0].component = 1),
        ("seed_not_committed", |m| m.excess_seeds[1].seed = Hash::of(b"other")),
    ];
    let mut round = Round::begun(world(10, 7, 3, 2), false).shared().masked(&[0]).signed(&[]);
    let good = round.reveal(4);
    assert_eq!(good.excess_seeds.len(), 2);
    for (defect, edit) in cases {
        let mut bad = good.clone();
        edit(&mut bad);
        assert!(round.accept_reveal(&bad).is_err(), "{defect}");
    }
    round.accept_reveal(&good).unwrap();
    round.accept_reveal(&good).unwrap();
    let mut other = good;
    other.self_mask_shares[0].share = Hash::of(b"other");
    assert_eq!(round.accept_reveal(&other), Err(MpcError::Equivocation { from: name(4) }));
}

#[test]
fn a_wrong_share_is_named_when_there_are_others_and_stops_the_round_when_not() {
    for liar in 0..4 {
        let mut round = four().masked(&[]).signed(&[]).revealed(&[liar]);
        let mut lie = round.reveal(liar);
        lie.self_mask_shares[1].share = Hash::of(b"lie");
        round.accept_reveal(&lie).unwrap();
        let total = round.checked_total();
        assert_eq!(total.inconsistencies(), [Inconsistency { dealer: name(1), holder: name(liar) }]);
    }
    let mut round = four().masked(&[3]).signed(&[]).revealed(&[2]);
    let mut lie = round.reveal(2);
    lie.deposit_key_shares[0].share = Hash::of(b"lie");
    round.accept_reveal(&lie).unwrap();
    assert_eq!(round.hub.total().err(), Some(MpcError::Unrecoverable { of: name(3) }));
}

/// Of 31 shares 21 are needed, so five wrong ones are corrected wherever they are and however they were chosen; the liars,
/// and only they, are named for every secret. Lies that were not arranged are corrected up to nine.
#[test]
fn repro_five_liars_of_31_do_not_stop_the_sum() {
    type Edit = fn(&mut [u8; 32]);
    let cases: [(&[usize], Edit); 4] = [
        (&[0, 7, 14, 21, 28], |share| *share = *Hash::of(share).as_bytes()),
        (&[0, 2, 4, 6, 8], |share| share[31] ^= 1),
        (&[26, 27, 28, 29, 30], |share| share.fill(0)),
        (&[1, 4, 7, 10, 13, 16, 19, 22, 25], |share| *share = *Hash::of(share).as_bytes()),
    ];
    for (liars, edit) in cases {
        let mut round = Round::begun(world(31, 21, 10, 1), false).shared().masked(&[]).signed(&[]).revealed(liars);
        for liar in liars {
            let mut reveal = round.reveal(*liar);
            for share in &mut reveal.self_mask_shares {
                let mut bytes = *share.share.as_bytes();
                edit(&mut bytes);
                share.share = Hash::from_bytes(bytes);
            }
            round.accept_reveal(&reveal).unwrap();
        }
        let total = round.checked_total();
        let mut named: Vec<(Name, Name)> =
            total.inconsistencies().iter().map(|found| (found.dealer.clone(), found.holder.clone())).collect();
        named.sort_unstable();
        let everyone = names(0..31);
        let expected: Vec<(Name, Name)> =
            everyone.iter().flat_map(|dealer| liars.iter().map(|liar| (dealer.clone(), name(*liar)))).collect();
        assert_eq!(named, expected);
    }
}

#[test]
fn a_dealer_that_lied_is_named() {
    /// Name, edit, who drops out, what comes of it.
    type Lie = (&'static str, fn(&mut RoundShares), &'static [usize], Option<MpcError>);
    let cases: [Lie; 4] = [
        ("self_mask", |m| m.self_mask_commitment = Hash::of(b"x"), &[], Some(MpcError::Unrecoverable { of: name(3) })),
        (
            "deposit_key",
            |m| m.deposit_key_commitment = Hash::of(b"x"),
            &[3],
            Some(MpcError::Unrecoverable { of: name(3) }),
        ),
        ("deposit", |m| flip(&mut m.deposit), &[3], Some(MpcError::Deposit { of: name(3) })),
        ("deposit_not_needed", |m| flip(&mut m.deposit), &[], None),
    ];
    for (defect, edit, absent, error) in cases {
        let mut round = Round::begun(world(4, 3, 1, 5), false);
        edit(&mut round.dealt[3]);
        let round = round.shared().masked(absent).signed(&[]).revealed(&[]);
        assert_eq!(round.hub.total().err(), error, "{defect}");
    }
}

/// A member that commits to another mask key than its peer is noticed, with its peer, before anything is masked.
#[test]
fn mask_keys_that_differ_are_named_before_anything_is_masked() {
    let mut round = Round::begun(world(4, 3, 1, 5), false);
    round.dealt[3].mask_key_commitments[1] = Hash::of(b"x");
    for dealt in &round.dealt {
        round.hub.accept_shares(round.world.sign(&dealt.from, dealt)).unwrap();
    }
    assert_eq!(round.hub.disagreements(), [Disagreement { one: name(1), other: name(3) }]);
    assert!((0..4).all(|index| round.hub.shares_for(&name(index)).is_none()));
    // Were a member to mask all the same, its vector is not taken.
    let to_first: Vec<SealedShare> = round.dealt[1..].iter().map(|dealt| dealt.shares[0].clone()).collect();
    round.members[0].receive_shares(&to_first).unwrap();
    let masked = round.world.mask(0, &mut round.members[0]);
    let refused = round.hub.accept_masked(&round.world.sign(&name(0), masked.header()), masked.bytes().to_vec());
    assert_eq!(refused, Err(MpcError::MaskKeys { one: name(1), other: name(3) }));
}

/// A deposit that opens but holds another key than both ends committed to spoils no sum: its owner is named.
#[test]
fn a_drop_out_that_deposited_another_key_is_named() {
    for (place, error) in [(0, Some(MpcError::DepositedKey { of: name(3), with: name(0) })), (1, None)] {
        let mut world = world(4, 3, 1, 5);
        // The generator is handed in, so the world knows what is drawn: first b, then r.
        world.organisations[3].rng = ChaCha20Rng::from_seed([3; 32]);
        let mut rng = ChaCha20Rng::from_seed([3; 32]);
        let members: Vec<_> = (0..4).map(|index| world.begin(index)).collect();
        let (_, deposit_key) = (draw(&mut rng), draw(&mut rng));
        let (members, mut dealt): (Vec<_>, Vec<_>) = members.into_iter().unzip();
        dealt[3].deposit = with_deposit(&dealt[3], &deposit_key, |keys| keys[32 * place] ^= 1);
        let hub = Coordinator::new(world.context.clone(), world.noise.clone()).unwrap();
        let all_noise = members.iter().map(|m| world.noise_of(m)).collect();
        let round =
            Round { world, members, dealt, hub, all_noise, sets: vec![], transcript: vec![], reload: false }.shared();
        // Nobody looks into the deposit of one that survives.
        let absent: &[usize] = if error.is_some() { &[3] } else { &[] };
        let round = round.masked(absent).signed(&[]).revealed(&[]);
        match error {
            Some(error) => assert_eq!(round.hub.total().err(), Some(error)),
            None => drop(round.checked_total()),
        }
    }
}

fn draw(rng: &mut ChaCha20Rng) -> [u8; 32] {
    let mut bytes = [0; 32];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// The deposit, opened with its key, edited and sealed again.
fn with_deposit(dealt: &RoundShares, key: &[u8; 32], edit: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut aad = Vec::new();
    for part in [&b"cohortium/secure-sum/v3/deposit"[..], dealt.context.as_bytes(), dealt.from.as_str().as_bytes()] {
        aad.extend_from_slice(&(part.len() as u64).to_be_bytes());
        aad.extend_from_slice(part);
    }
    let cipher = ChaCha20Poly1305::new(key.into());
    let sealed = data_encoding::BASE64.decode(dealt.deposit.as_bytes()).unwrap();
    let mut plain = cipher.decrypt(&Nonce::default(), Payload { msg: &sealed, aad: &aad }).unwrap();
    edit(&mut plain);
    data_encoding::BASE64.encode(&cipher.encrypt(&Nonce::default(), Payload { msg: &plain, aad: &aad }).unwrap())
}

/// Changes one bit of something in base64.
fn flip(text: &mut String) {
    let mut bytes = data_encoding::BASE64.decode(text.as_bytes()).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    *text = data_encoding::BASE64.encode(&bytes);
}

#[test]
fn state_bytes_that_are_wrong_are_refused() {
    let round = four().masked(&[]);
    let good = round.members[0].to_secret_bytes().unwrap();
    for len in 0..good.len() {
        assert!(matches!(Member::from_secret_bytes(&good[..len]), Err(MpcError::State(_))), "{len}");
    }
    assert!(Member::from_secret_bytes(&[&good[..], &[0]].concat()).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Whatever is changed in stored state: no panic, and nothing that then panics.
    #[test]
    fn changed_state_bytes_never_panic(at in 0usize..4000, to: u8) {
        thread_local!(static GOOD: Vec<u8> = four().members[0].to_secret_bytes().unwrap().to_vec());
        let mut bytes = GOOD.with(Clone::clone);
        let at = at % bytes.len();
        bytes[at] = to;
        if let Ok(mut member) = Member::from_secret_bytes(&bytes) {
            let _ = member.sign_survivors(&names(0..4));
            let _ = member.to_secret_bytes().unwrap();
        }
    }
}

// ---------------------------------------------------------------- byte vectors

/// All inputs and every message of three rounds, one in each ring. Written anew with COHORTIUM_WRITE_VECTORS=1,
/// compared otherwise.
#[test]
fn messages_are_those_of_the_vectors() {
    vector("v3-n3.json", world(3, 3, 1, 3), &[]);
    vector("v3-n4-excess-z32.json", world_in(32, 4, 3, 1, 3), &[]);
    vector("v3-n4-drop-out-z128.json", world_in(128, 4, 3, 1, 3), &[1]);
}

/// How noise is divided, and what is kept for every number of survivors. Written and compared as the rounds are.
#[test]
fn noise_is_divided_as_in_the_vectors() {
    let rounds: [(u64, u32, u32, u32); 9] = [
        (1000, 4, 3, 1),
        (1 << 40, 10, 7, 3),
        // Eight drop-outs at most, and nine.
        (1 << 33, 25, 17, 8),
        (1 << 33, 26, 17, 7),
        (1_000_000, 31, 21, 10),
        (1 << 40, 100, 67, 33),
        // A unit of one lattice step squared, one piece, none.
        (1000, 100, 67, 33),
        (10_000, 100, 52, 1),
        (33, 100, 67, 33),
    ];
    let cases = rounds.map(|(sigma2, n, t, c)| {
        let plan = NoisePlan::new(sigma2, n, t, c).unwrap();
        let kept: Vec<_> = (t..=n).map(|survivors| plan.kept(survivors).unwrap()).collect();
        let numbers = json!({ "sigma2": sigma2, "n": n, "t": t, "c": c });
        json!({ "plan": numbers, "components": plan.components(), "kept": kept })
    });
    let about =
        "Variances of a member's noise components, and which of them are kept when t, t + 1, …, n members survive.";
    compare("noise-division.json", &json!({ "about": about, "cases": cases }));
}

/// The shared key of an ML-KEM ciphertext, which a checker without ML-KEM takes as given.
fn ml_kem_shared_key(to: &Organisation, ciphertext: &str) -> String {
    use ml_kem::kem::Decapsulate as _;
    let key = ml_kem::DecapsulationKey768::from_seed(ml_kem::Seed::from(*to.kem.ml_kem_seed_secret()));
    let ciphertext = data_encoding::BASE64.decode(ciphertext.as_bytes()).unwrap();
    hex(&key.decapsulate(ciphertext.as_slice().try_into().unwrap()))
}

/// A message of a good vector with one defect, which must be refused in the words of the vector. Named after what is
/// wrong with it; written anew with COHORTIUM_WRITE_VECTORS=1.
#[test]
fn bad_messages_are_refused_as_the_vectors_say() {
    /// Name, step (0 deal, 1 mask, 2 sign, 3 reveal), edit of that step's first message.
    type Bad = (&'static str, usize, fn(&mut Value));
    let cases: [Bad; 16] = [
        ("shares-of-another-context", 0, |m| m["context"] = json!(Hash::of(b"other"))),
        ("shares-one-missing", 0, |m| drop(m["shares"].as_array_mut().unwrap().pop())),
        ("shares-out-of-order", 0, |m| m["shares"].as_array_mut().unwrap().reverse()),
        ("shares-deposit-too-short", 0, |m| m["deposit"] = json!("AAAA")),
        ("shares-without-excess-commitment", 0, |m| m["excess_commitments"] = json!([])),
        ("shares-mask-key-commitment-missing", 0, |m| m["mask_key_commitments"] = json!([Hash::of(b"x")])),
        ("shares-mask-key-of-another", 0, |m| m["mask_key_commitments"][0] = json!(Hash::of(b"x"))),
        ("vector-of-another-length", 1, |m| m["header"]["bytes"] = json!(40)),
        ("vector-of-another-hash", 1, |m| m["header"]["sha256"] = json!(Hash::of(b"x"))),
        ("survivors-without-one-that-is-there", 2, |m| m["survivors"] = json!(["org-00", "org-02"])),
        ("survivors-with-one-that-is-not", 2, |m| m["survivors"][2] = json!("org-01")),
        ("reveal-both-halves", 3, |m| {
            let other = json!({ "of": "org-00", "share": Hash::of(b"x") });
            m["deposit_key_shares"].as_array_mut().unwrap().insert(0, other);
        }),
        ("reveal-self-mask-of-a-drop-out", 3, |m| m["self_mask_shares"][1]["of"] = json!("org-01")),
        ("reveal-without-drop-out", 3, |m| m["deposit_key_shares"] = json!([])),
        ("reveal-noise-that-stays", 3, |m| {
            m["excess_seeds"] = json!([{ "component": 1, "seed": Hash::of(b"x") }]);
        }),
        ("reveal-of-another-context", 3, |m| m["context"] = json!(Hash::of(b"other"))),
    ];
    for (defect, step, edit) in cases {
        let begun = Round::begun(world_in(128, 4, 3, 1, 3), false);
        let mut message = json!(begun.dealt[0]);
        let mut round = begun;
        if step > 0 {
            round = round.shared();
            let masked = round.world.mask(0, &mut round.members[0]);
            message = json!({ "bytes": hex(masked.bytes()), "header": masked.header() });
        }
        if step > 1 {
            round = round.masked(&[1]);
            let survivors = round.hub.propose_survivors().unwrap();
            message = json!(round.members[0].sign_survivors(&survivors).unwrap());
        }
        if step > 2 {
            round = round.signed(&[]);
            message = json!(round.reveal(0));
        }
        edit(&mut message);
        let error = offer(&mut round, step, &message).expect_err(defect).to_string();
        let about = "A message that stands in the place of the first of its step in v3-n4-drop-out-z128.json and must be refused.";
        compare(
            &format!("bad-{defect}.json"),
            &json!({ "about": about, "error": error, "message": message, "step": step }),
        );
    }
}

/// Offers the hub a message of a step in the name of org-00; after shares, those of all others too.
fn offer(round: &mut Round, step: usize, message: &Value) -> Result<(), MpcError> {
    let key = &round.world.organisations[0].signing;
    fn read<T: Document>(message: &Value, key: &SigningKey) -> Verified<T> {
        signed(&serde_json::from_value::<T>(message.clone()).unwrap(), key)
    }
    match step {
        0 => {
            round.hub.accept_shares(read(message, key))?;
            for dealt in &round.dealt[1..] {
                round.hub.accept_shares(round.world.sign(&dealt.from, dealt))?;
            }
            round
                .hub
                .disagreements()
                .pop()
                .map_or(Ok(()), |Disagreement { one, other }| Err(MpcError::MaskKeys { one, other }))
        }
        1 => {
            let bytes = data_encoding::HEXLOWER.decode(message["bytes"].as_str().unwrap().as_bytes()).unwrap();
            round.hub.accept_masked(&read(&message["header"], key), bytes)
        }
        2 => round.hub.accept_survivor_set(read(message, key)),
        _ => round.hub.accept_reveal(read(message, key)),
    }
}

fn vector(file: &str, world: World, absent: &[usize]) {
    let inputs: Vec<Value> = world
        .organisations
        .iter()
        .enumerate()
        .map(|(index, who)| {
            json!({
                "input": who.input,
                "kem_secret_key": who.kem.to_secret_text().as_str(),
                "name": who.name,
                "randomness_seed": hex(&[index as u8 + 101; 32]),
            })
        })
        .collect();
    let (context, exchange) = (world.context.clone(), world.exchange.clone());
    let begun = Round::begun(world, false);
    let noise: Vec<Vec<Vec<i64>>> = begun.members.iter().map(|member| begun.world.noise_components(member)).collect();
    let round = begun.shared().masked(absent).signed(&[]).revealed(&[]);
    let total = round.checked_total();
    let found = json!({
        "about": "One round of the secure sum, version 3: inputs, pairwise exchange, every message in order, result. \
            Noise is given, for each organisation one vector for each component. Each organisation's randomness is the ChaCha20 keystream under its seed (64-bit counter and nonce zero), \
            read without gaps: first what its encapsulations take, in the order of the exchange, then the round.",
        "context": context,
        "context_hash": round.hub.context_hash(),
        "exchange": exchange,
        "messages": round.transcript,
        "noise_components": noise,
        "organisations": inputs,
        "total": {
            "cells": total.cells(),
            "noise_variance": u64::try_from(total.noise_variance()).unwrap(),
            "survivors": total.survivors(),
        },
    });
    compare(file, &found);
}

/// Compares with a file of the vectors, or writes it.
fn compare(file: &str, found: &Value) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/data/vectors/secure-sum").join(file);
    if std::env::var_os("COHORTIUM_WRITE_VECTORS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, serde_json::to_string_pretty(found).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    assert!(*found == expected, "{file}: the bytes of the protocol have changed");
}
