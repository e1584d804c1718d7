//! Every bit of every kind of message, turned, and every length, cut: refused by whoever it is for, or the same message.
//!
//! "The same" is possible because an envelope's key id is a hint that no signature covers. Nothing else may pass.

use cohortium_messages::{Document, Envelope, PairwiseCiphertext, Ring, Verified};
use cohortium_mpc::{Chain, Member, accept, encapsulate};

use crate::hub::Hub;
use crate::node::{Kind, Node, read_vector_packet};
use crate::party::{agreement, envelope, name, parties, round};
use crate::path::Masks;
use crate::schedules::{SCHEDULES, schedules};

/// Three members up to the step at which each kind of message is due, and those messages.
struct Stage {
    nodes: Vec<Node<Masks>>,
    hub: Hub<Masks>,
}

impl Stage {
    fn new() -> Self {
        let (context, noise) = round(3, 3, 1, 2, Ring::Z32);
        let nodes = (0..3).map(|index| Node::new(index, &context, &noise, 5, None)).collect();
        Self { nodes, hub: Hub::new(&context, &noise) }
    }

    /// All messages to the hub of one step.
    fn posts(&mut self, kind: Kind) -> Vec<Vec<u8>> {
        let mail = self.hub.resend();
        let mut sent = Vec::new();
        for index in 0..3 {
            let step = match kind {
                Kind::Dealt => self.nodes[index].deal(),
                _ => {
                    let (_, kind, bytes) = mail.iter().find(|(to, ..)| *to == index).unwrap();
                    self.nodes[index].handle(*kind, bytes)
                }
            };
            sent.push(step.unwrap().swap_remove(0).1);
        }
        sent
    }

    fn accept(&mut self, kind: Kind, sent: &[Vec<u8>]) {
        for (from, bytes) in sent.iter().enumerate() {
            self.hub.handle(from, kind, bytes).unwrap();
        }
        self.hub.deadline();
    }
}

/// The message with each bit turned, and cut to each length; every seventh when fewer schedules are run than usual.
fn changed(bytes: &[u8]) -> impl Iterator<Item = Vec<u8>> {
    let step = if schedules() < SCHEDULES { 7 } else { 1 };
    let turned = (0..8 * bytes.len()).step_by(step).map(|bit| {
        let mut other = bytes.to_vec();
        other[bit / 8] ^= 1 << (bit % 8);
        other
    });
    turned.chain((0..bytes.len()).step_by(step).map(|len| bytes[..len].to_vec()))
}

/// Whether changed bytes are still an envelope with the same payload, validly signed.
fn is_same<T: Document + PartialEq>(changed: &[u8], bytes: &[u8], from: usize) -> bool {
    let open = |bytes: &[u8]| -> Option<Verified<T>> {
        serde_json::from_slice::<Envelope>(bytes).ok()?.open(&parties()[from].signing.public()).ok()
    };
    matches!((open(changed), open(bytes)), (Some(one), Some(other)) if one.hash() == other.hash() && *one == *other)
}

fn check_to_hub<T: Document + PartialEq>(kind: Kind, stage: &mut Stage, bytes: &[u8]) {
    let mut passed = 0;
    for other in changed(bytes) {
        if stage.hub.handle(0, kind, &other).is_ok() {
            passed += 1;
            assert!(is_same::<T>(&other, bytes, 0), "{kind:?}: {}", String::from_utf8_lossy(&other));
        }
    }
    // The key id is 16 characters in all: no more than its bits.
    assert!(passed <= 16 * 8, "{kind:?}: {passed} changed messages passed");
    stage.hub.handle(0, kind, bytes).unwrap();
}

#[test]
fn flips_and_cuts_of_messages_to_the_hub() {
    let mut stage = Stage::new();
    let dealt = stage.posts(Kind::Dealt);
    check_to_hub::<cohortium_messages::RoundShares>(Kind::Dealt, &mut stage, &dealt[0]);
    stage.accept(Kind::Dealt, &dealt);

    let masked = stage.posts(Kind::Masked);
    let mut passed = 0;
    for other in changed(&masked[0]) {
        if stage.hub.handle(0, Kind::Masked, &other).is_ok() {
            passed += 1;
            let (one, two) = (read_vector_packet(&other, 0).unwrap(), read_vector_packet(&masked[0], 0).unwrap());
            assert!(*one.0 == *two.0 && one.1 == two.1, "another vector passed");
        }
    }
    assert!(passed <= 16 * 8, "{passed} changed vectors passed");
    stage.accept(Kind::Masked, &masked);

    let signed = stage.posts(Kind::Signed);
    check_to_hub::<cohortium_messages::SurvivorSet>(Kind::Signed, &mut stage, &signed[0]);
    stage.accept(Kind::Signed, &signed);

    let revealed = stage.posts(Kind::Revealed);
    check_to_hub::<cohortium_messages::Reveal>(Kind::Revealed, &mut stage, &revealed[0]);
    stage.accept(Kind::Revealed, &revealed);
    assert_eq!(stage.hub.total().unwrap().survivors.len(), 3);
}

#[test]
fn flips_and_cuts_of_messages_to_a_member() {
    let mut stage = Stage::new();
    let dealt = stage.posts(Kind::Dealt);
    stage.accept(Kind::Dealt, &dealt);
    let to_first = |stage: &Stage| stage.hub.resend().into_iter().find(|(to, ..)| *to == 0).unwrap().2;

    // Shares are unsigned: what protects them is that they do not open.
    let shares = to_first(&stage);
    let state = stage.nodes[0].member().unwrap().to_secret_bytes().unwrap();
    for other in changed(&shares) {
        let Ok(parsed) = serde_json::from_slice::<Vec<cohortium_messages::SealedShare>>(&other) else { continue };
        let mut member = Member::from_secret_bytes(&state).unwrap();
        assert!(member.receive_shares(&parsed).is_err(), "{}", String::from_utf8_lossy(&other));
        assert!(*member.to_secret_bytes().unwrap() == *state, "a refused message changed the state");
    }
    let masked = stage.posts(Kind::Masked);
    stage.accept(Kind::Masked, &masked);

    // With n = t = 3 there is one set that may be signed: any other is refused.
    let survivors = to_first(&stage);
    for other in changed(&survivors) {
        assert!(stage.nodes[0].handle(Kind::Survivors, &other).is_err(), "{}", String::from_utf8_lossy(&other));
    }
    assert!(stage.nodes[0].witness.sets.is_empty());
    let signed = stage.posts(Kind::Signed);
    stage.accept(Kind::Signed, &signed);

    let signatures = to_first(&stage);
    let good = stage.nodes[0].handle(Kind::Signatures, &signatures).unwrap();
    for other in changed(&signatures) {
        if let Ok(revealed) = stage.nodes[0].handle(Kind::Signatures, &other) {
            assert!(revealed == good, "another set was opened for");
        }
    }
}

/// The pairwise ciphertext, signed once for a year: a change is refused, or the envelope's hint.
#[test]
fn flips_and_cuts_of_a_pairwise_ciphertext() {
    use chacha20::ChaCha20Rng;
    use cohortium_messages::KemSecretKey;
    use rand_core::SeedableRng as _;
    let mut rng = ChaCha20Rng::from_seed([8; 32]);
    let (one, two) = (KemSecretKey::generate(&mut rng), KemSecretKey::generate(&mut rng));
    let (message, chain) = encapsulate(&agreement(), &name(0), &one, &name(1), &two.public(), &mut rng).unwrap();
    let bytes = envelope(&message, 0);
    let take = |bytes: &[u8]| -> Option<Chain> {
        let envelope: Envelope = serde_json::from_slice(bytes).ok()?;
        let message: Verified<PairwiseCiphertext> = envelope.open(&parties()[0].signing.public()).ok()?;
        accept(&agreement(), &name(1), &two, &name(0), &one.public(), &message).ok()
    };
    let expected = chain.to_secret_bytes();
    assert!(take(&bytes).is_some());
    // Every bit of the envelope's ends, where its fields are; of the long ciphertext every 7th byte, signed as a whole.
    let places = (0..bytes.len()).filter(|at| *at < 64 || *at + 256 > bytes.len() || at % 7 == 0);
    for (at, bit) in places.flat_map(|at| (0..8).map(move |bit| (at, bit))) {
        let mut other = bytes.clone();
        other[at] ^= 1 << bit;
        if let Some(chain) = take(&other) {
            assert!(*chain.to_secret_bytes() == *expected, "another pairwise secret was accepted");
        }
    }
    assert!((0..bytes.len()).step_by(3).all(|len| take(&bytes[..len]).is_none()));
}
