//! Who takes part: twelve organisations whose keys and pairwise secrets are made once for all schedules of a process.

use std::any::Any;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::OnceLock;

use chacha20::ChaCha20Rng;
use chacha20poly1305::aead::{Aead as _, Payload};
use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, Nonce};
use cohortium_dp::NoisePlan;
use cohortium_messages::{
    Document, Envelope, Hash, KemSecretKey, Name, PROTOCOL_VERSION, ReleaseMode, Ring, RoundContext, RoundShares,
    SigningKey, Verified,
};
use cohortium_mpc::{accept, encapsulate};
use rand_core::SeedableRng as _;

/// The most members of a schedule.
pub const MOST: usize = 12;

/// Among how many of them pairwise secrets are exchanged. With the others, who come in one schedule of a hundred, they are made
/// up: an exchange takes longer than what most tests look at.
const EXCHANGED: usize = 7;

/// The noise that must stay, lattice steps squared. The sum of all noise is far below half of the smallest input.
pub const SIGMA2: u64 = 4;

/// Inputs are 2^(10 + index).
const SMALLEST_INPUT_BITS: usize = 10;

/// What an organisation keeps from before the round.
pub struct Party {
    pub signing: SigningKey,
    /// Chains at position 0, as stored.
    pub chains: BTreeMap<Name, Vec<u8>>,
}

/// All organisations, sorted by name.
pub fn parties() -> &'static [Party] {
    static PARTIES: OnceLock<Vec<Party>> = OnceLock::new();
    PARTIES.get_or_init(|| {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let kem: Vec<KemSecretKey> = (0..MOST).map(|_| KemSecretKey::generate(&mut rng)).collect();
        let mut parties: Vec<Party> =
            (0..MOST).map(|_| Party { signing: SigningKey::generate(&mut rng), chains: BTreeMap::new() }).collect();
        for (low, high) in (0..MOST).flat_map(|high| (0..high).map(move |low| (low, high))) {
            let (one, other) = (name(low), name(high));
            if high >= EXCHANGED {
                // Version, position, chain key.
                let chain = [&[1; 1][..], &[0; 8], Hash::of(&[low as u8, high as u8]).as_bytes()].concat();
                parties[low].chains.insert(other, chain.clone());
                parties[high].chains.insert(one, chain);
                continue;
            }
            let (message, ours) =
                encapsulate(&agreement(), &one, &kem[low], &other, &kem[high].public(), &mut rng).unwrap();
            let evidence = signed(&message, &parties[low].signing);
            let theirs = accept(&agreement(), &other, &kem[high], &one, &kem[low].public(), &evidence).unwrap();
            parties[low].chains.insert(other, ours.to_secret_bytes().to_vec());
            parties[high].chains.insert(one, theirs.to_secret_bytes().to_vec());
        }
        parties
    })
}

pub fn agreement() -> Hash {
    Hash::of(b"agreement")
}

pub fn name(index: usize) -> Name {
    Name::new(format!("org-{index:02}")).unwrap()
}

pub fn names(indices: impl IntoIterator<Item = usize>) -> Vec<Name> {
    indices.into_iter().map(name).collect()
}

pub fn signed<T: Document>(document: &T, key: &SigningKey) -> Verified<T> {
    Envelope::sign(document, key).unwrap().open(&key.public()).unwrap()
}

/// The bytes of an envelope signed by a member.
pub fn envelope<T: Document>(document: &T, from: usize) -> Vec<u8> {
    serde_json::to_vec(&Envelope::sign(document, &parties()[from].signing).unwrap()).unwrap()
}

/// A document from bytes that `from` is said to have signed. Checked once for the same bytes: most of what a schedule
/// delivers was delivered before, and a signature takes longer to check than all else.
pub fn open<T: Document + Clone + 'static>(bytes: &[u8], from: usize) -> Result<Verified<T>, String> {
    /// By sender and bytes; of any type.
    type Opened = BTreeMap<(usize, Vec<u8>), Box<dyn Any>>;
    thread_local!(static OPENED: RefCell<Opened> = RefCell::default());
    let key = (from, bytes.to_vec());
    OPENED.with_borrow_mut(|opened| {
        if let Some(document) = opened.get(&key).and_then(|document| document.downcast_ref::<Verified<T>>()) {
            return Ok(document.clone());
        }
        let envelope: Envelope = serde_json::from_slice(bytes).map_err(|_| String::from("malformed"))?;
        let document = envelope.open::<T>(&parties()[from].signing.public()).map_err(|error| error.to_string())?;
        if opened.len() > 500 {
            opened.clear();
        }
        opened.insert(key, Box::new(document.clone()));
        Ok(document)
    })
}

/// What a member puts in: its power of two, with alternating signs.
pub fn input(index: usize, elements: u32) -> Vec<i64> {
    (0..elements).map(|cell| (1 << (SMALLEST_INPUT_BITS + index)) * if cell % 2 == 0 { 1 } else { -1 }).collect()
}

/// Whose inputs are in a sum, read off one of its cells.
pub fn summed(cell: usize, sum: i64) -> Vec<usize> {
    let sum = if cell.is_multiple_of(2) { sum } else { -sum };
    let rounded = (sum + (1 << (SMALLEST_INPUT_BITS - 1))) >> SMALLEST_INPUT_BITS;
    (0..62).filter(|index| rounded >> index & 1 == 1).collect()
}

/// A context for the first `n` organisations, and its noise.
pub fn round(n: usize, threshold: u32, colluders: u32, elements: u32, ring: Ring) -> (RoundContext, NoisePlan) {
    let context = RoundContext {
        agreement: agreement(),
        colluders,
        elements,
        mode: ReleaseMode::Noised,
        participants: names(0..n),
        plan: Hash::of(b"plan"),
        position: 1,
        protocol: PROTOCOL_VERSION,
        ring_bits: ring.bits(),
        round: 0,
        sigma2: SIGMA2,
        task: Hash::of(b"task"),
        threshold,
    };
    (context, NoisePlan::new(SIGMA2, n as u32, threshold, colluders).unwrap())
}

/// The deposit, opened with its key, edited and sealed again.
pub fn with_deposit(dealt: &RoundShares, key: &[u8; 32], edit: impl FnOnce(&mut Vec<u8>)) -> String {
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

/// A small generator for schedules: SplitMix64 (Steele, Lea, Flood 2014).
pub struct Dice(u64);

impl Dice {
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub const fn word(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    /// A number below `end`, which is small.
    pub const fn below(&mut self, end: usize) -> usize {
        (self.word() % end as u64) as usize
    }

    pub const fn chance(&mut self, percent: usize) -> bool {
        self.below(100) < percent
    }
}
