//! Random schedules with faults and lies against an honest hub, and what must hold after each.

use std::fmt::Write as _;

use cohortium_dp::{Seed, Variance, gaussian_vector};
use cohortium_messages::Ring;
use cohortium_mpc::MpcError;

use crate::hub::Hub;
use crate::node::{Crash, Kind, Lie, Node};
use crate::party::{Dice, MOST, name, round, summed};
use crate::path::{Masks, Opened, Path};

/// How many schedules are run unless `COHORTIUM_SCHEDULES` says otherwise.
pub const SCHEDULES: u64 = 10_000;

/// Numbers of members, thresholds, colluders: each line keeps the rules, and the small ones come often.
const ROUNDS: [(usize, u32, u32); 14] = [
    (2, 2, 1),
    (2, 2, 1),
    (3, 3, 1),
    (3, 3, 1),
    (3, 3, 2),
    (4, 3, 1),
    (4, 3, 1),
    (4, 4, 2),
    (5, 4, 1),
    (5, 4, 2),
    (5, 5, 3),
    (6, 4, 1),
    (7, 5, 1),
    (7, 6, 3),
];

/// A packet under way.
struct Packet {
    from: Option<usize>,
    to: Option<usize>,
    kind: Kind,
    bytes: Vec<u8>,
}

/// All members, the hub, and what is between them.
struct Federation<P: Path> {
    dice: Dice,
    nodes: Vec<Node<P>>,
    hub: Hub<P>,
    network: Vec<Packet>,
    /// Who cannot be reached for the moment.
    cut_off: Vec<usize>,
    /// Everything that happened, for a failure's message.
    story: String,
}

/// What came of a schedule.
#[derive(Debug, Default, Clone, Copy)]
pub struct Tally {
    pub sums: u64,
    pub sums_without_all: u64,
    pub sums_with_noise_left: u64,
    pub inconsistencies: u64,
    pub disagreements: u64,
    pub deposits_named: u64,
    pub unrecoverable: u64,
    pub too_few: u64,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.sums += other.sums;
        self.sums_without_all += other.sums_without_all;
        self.sums_with_noise_left += other.sums_with_noise_left;
        self.inconsistencies += other.inconsistencies;
        self.disagreements += other.disagreements;
        self.deposits_named += other.deposits_named;
        self.unrecoverable += other.unrecoverable;
        self.too_few += other.too_few;
    }
}

impl<P: Path> Federation<P> {
    fn new(seed: u64) -> Self {
        let mut dice = Dice::new(seed);
        let (n, t, c) = if dice.chance(1) { (MOST, 8, 3) } else { ROUNDS[dice.below(ROUNDS.len())] };
        let ring = Ring::ALL[dice.below(3)];
        let (context, noise) = round(n, t, c, 2 + dice.below(3) as u32, ring);
        let mut lies = vec![None; n];
        if dice.chance(40) && !P::LIES.is_empty() {
            for _ in 0..=dice.below(c as usize) {
                lies[dice.below(n)] = Some(P::LIES[dice.below(P::LIES.len())]);
            }
        }
        let nodes = (0..n).map(|index| Node::new(index, &context, &noise, seed, lies[index])).collect();
        let mut story = String::new();
        let _ = write!(story, "n {n} t {t} c {c} {ring:?} lies {lies:?}");
        let hub = Hub::new(&context, &noise);
        Self { dice, nodes, hub, network: Vec::new(), cut_off: Vec::new(), story }
    }

    fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        let _ = write!(self.story, "\n{what}");
    }

    fn send_from(&mut self, from: usize, sent: Vec<(Kind, Vec<u8>)>) {
        self.network.extend(sent.into_iter().map(|(kind, bytes)| Packet { from: Some(from), to: None, kind, bytes }));
    }

    fn send_from_hub(&mut self) {
        let mail = self.hub.resend();
        self.network.extend(mail.into_iter().map(|(to, kind, bytes)| Packet { from: None, to: Some(to), kind, bytes }));
    }

    /// Hands a packet to whom it is for. A refusal changes nothing and is told.
    fn deliver(&mut self, packet: &Packet) {
        let told = match (packet.from, packet.to) {
            (Some(from), _) => {
                let was_dealt = self.hub.is_dealt();
                let taken = self.hub.handle(from, packet.kind, &packet.bytes);
                if !was_dealt && self.hub.is_dealt() {
                    self.send_from_hub();
                }
                taken.map_err(|error| (format!("hub from {from}"), error))
            }
            (None, Some(to)) if !self.nodes[to].is_dead => match self.nodes[to].handle(packet.kind, &packet.bytes) {
                Ok(sent) => {
                    self.send_from(to, sent);
                    Ok(())
                }
                Err(error) => Err((format!("{to}"), error)),
            },
            (None, _) => Ok(()),
        };
        match told {
            Ok(()) => self.tell(format_args!("{:?} {:?} -> {:?}", packet.kind, packet.from, packet.to)),
            Err((who, error)) => self.tell(format_args!("{:?} refused by {who}: {error}", packet.kind)),
        }
    }

    fn retry(&mut self, index: usize) {
        let sent = self.nodes[index].retry().unwrap();
        self.send_from(index, sent);
    }

    fn deadline(&mut self) {
        self.hub.deadline();
        self.send_from_hub();
    }

    /// One thing happens. `storm` is how many of a hundred things are faults.
    fn happen(&mut self, storm: usize) {
        let n = self.nodes.len();
        if self.dice.chance(storm) {
            return self.fault();
        }
        let reachable =
            |packet: &Packet| ![packet.from, packet.to].into_iter().flatten().any(|end| self.cut_off.contains(&end));
        let ready: Vec<usize> = (0..self.network.len()).filter(|at| reachable(&self.network[*at])).collect();
        match self.dice.below(30) {
            0 => self.deadline(),
            1 => {
                let index = self.dice.below(n);
                self.retry(index);
            }
            _ if ready.is_empty() => self.deadline(),
            _ => {
                let at = ready[self.dice.below(ready.len())];
                let packet = self.network.swap_remove(at);
                self.deliver(&packet);
            }
        }
    }

    fn fault(&mut self) {
        let n = self.nodes.len();
        let who = self.dice.below(n);
        let packet = (!self.network.is_empty()).then(|| self.dice.below(self.network.len()));
        let what = self.dice.below(20);
        match (what, packet) {
            (0..=2, Some(at)) => drop(self.network.swap_remove(at)),
            (3..=5, Some(at)) => {
                let Packet { from, to, kind, ref bytes } = self.network[at];
                let copy = Packet { from, to, kind, bytes: bytes.clone() };
                self.network.push(copy);
            }
            (6..=9, Some(at)) => {
                let bit = self.dice.word() as usize;
                let bytes = &mut self.network[at].bytes;
                let len = bytes.len();
                if let Some(byte) = bytes.get_mut(bit / 8 % len.max(1)) {
                    *byte ^= 1 << (bit % 8);
                }
            }
            (10..=11, Some(at)) => {
                let len = self.dice.below(self.network[at].bytes.len() + 1);
                self.network[at].bytes.truncate(len);
            }
            (12, Some(at)) => {
                // Delivered to the wrong address, or as another kind of message.
                let other = self.dice.below(n);
                let packet = &mut self.network[at];
                if packet.from.is_some() { packet.from = Some(other) } else { packet.to = Some(other) }
            }
            (13..=14, _) => self.nodes[who].crash = Some(Crash::Before),
            (15..=16, _) => self.nodes[who].crash = Some(Crash::After),
            (17, _) => self.hub.restart(),
            (18, _) => match self.cut_off.iter().position(|index| *index == who) {
                Some(at) => drop(self.cut_off.swap_remove(at)),
                None => self.cut_off.push(who),
            },
            (19, _) if self.dice.chance(30) => self.nodes[who].is_dead = true,
            _ => {}
        }
        self.tell(format_args!("fault {what} at {packet:?}, {who}"));
    }

    /// The storm is over: everything is sent again until nothing changes.
    fn heal(&mut self) {
        self.cut_off.clear();
        for _ in 0..7 {
            for index in 0..self.nodes.len() {
                self.nodes[index].crash = None;
                self.retry(index);
            }
            self.send_from_hub();
            for _ in 0..2 {
                for packet in std::mem::take(&mut self.network) {
                    self.deliver(&packet);
                }
            }
            if self.hub.is_complete() {
                break;
            }
            self.deadline();
        }
    }

    /// What must hold at any time.
    fn check(&self, tally: &mut Tally) {
        for node in self.nodes.iter().filter(|node| node.is_honest()) {
            assert!(node.witness.sets.len() <= 1, "{} signed two sets", node.index);
            for reveal in &node.witness.reveals {
                let halves = reveal.deposit_key_shares.iter().filter(|share| {
                    node.witness
                        .reveals
                        .iter()
                        .any(|other| other.self_mask_shares.iter().any(|half| half.of == share.of))
                });
                assert_eq!(halves.count(), 0, "{} opened both halves", node.index);
            }
        }
        match self.hub.total() {
            Ok(total) => self.check_total(&total, tally),
            Err(error) => self.check_error(&error, tally),
        }
    }

    /// A sum is right: exactly the survivors' inputs and the noise that stays, with the variance of that noise.
    fn check_total(&self, total: &Opened, tally: &mut Tally) {
        let survivors = self.hub.survivors();
        assert_eq!(Some(total.survivors.as_slice()), self.hub.proposal());
        let kept = self.nodes[0].noise.kept(survivors.len() as u32).unwrap();
        let components = self.nodes[0].noise.components();
        let (mut cells, mut variance) = (vec![0; total.cells.len()], 0);
        for index in &survivors {
            let witness = &self.nodes[*index].witness;
            let noised = witness.noised.as_ref().unwrap();
            cells.iter_mut().zip(noised).for_each(|(cell, value)| *cell += value);
            cells[0] += i64::from(self.hub.vector_of(*index) != Some(witness.masked.clone()));
            for (component, share) in components.iter().enumerate() {
                if kept.contains(&component) || !self.hub.has_revealed(*index) {
                    variance += u128::from(*share);
                } else if *share > 0 {
                    let seed = Seed::from_bytes(witness.seeds[component]);
                    let excess = gaussian_vector(&seed, Variance::new(*share).unwrap(), cells.len()).unwrap();
                    cells.iter_mut().zip(excess).for_each(|(cell, value)| *cell -= value);
                }
            }
        }
        assert_eq!(total.cells, cells);
        assert_eq!(total.noise_variance, variance);
        for (cell, sum) in total.cells.iter().enumerate() {
            assert_eq!(summed(cell, *sum), survivors, "the sum is not over the survivors");
        }
        for liar in self.nodes.iter().filter(|node| node.lie == Some(Lie::Share) && self.hub.has_revealed(node.index)) {
            assert!(total.inconsistencies.iter().any(|found| found.holder == name(liar.index)), "a lie was not told");
        }
        let is_lie_told = |node: &Node<P>| matches!(node.lie, Some(Lie::Share));
        for found in &total.inconsistencies {
            assert!(self.nodes.iter().any(|node| name(node.index) == found.holder && is_lie_told(node)), "{found:?}");
        }
        tally.sums += 1;
        tally.sums_without_all += u64::from(survivors.len() < self.nodes.len());
        tally.sums_with_noise_left += u64::from(survivors.iter().any(|index| !self.hub.has_revealed(*index)));
        tally.inconsistencies += u64::from(!total.inconsistencies.is_empty());
    }

    /// No sum: the error names a liar, or says what is missing.
    fn check_error(&self, error: &MpcError, tally: &mut Tally) {
        let lied = |lies: &[Lie]| {
            let told = self.nodes.iter().filter(|node| node.lie.is_some_and(|lie| lies.contains(&lie)));
            told.map(|node| name(node.index)).collect::<Vec<_>>()
        };
        match error {
            MpcError::TooFew { .. } => tally.too_few += 1,
            MpcError::DepositedKey { of, .. } => {
                assert!(lied(&[Lie::Deposit]).contains(of), "{error}");
                tally.deposits_named += 1;
            }
            // Without shares to spare a false share cannot be told from a false dealer.
            MpcError::Unrecoverable { of } => {
                assert!(lied(&[Lie::SelfMask]).contains(of) || !lied(&[Lie::Share]).is_empty(), "{error}");
                tally.unrecoverable += 1;
            }
            other => panic!("neither a name nor what is missing: {other}"),
        }
    }

    /// When everybody honest is back and enough of them agree, there is a sum.
    fn check_progress(&self) {
        let is_able = |node: &&Node<P>| !node.is_dead && node.is_honest();
        let all_honest = self.nodes.iter().all(Node::is_honest);
        let threshold = self.nodes[0].context.threshold as usize;
        if !all_honest || self.nodes.iter().filter(is_able).count() < threshold || !self.hub.is_dealt() {
            return;
        }
        let Some(proposal) = self.hub.proposal() else { panic!("enough vectors and no proposal") };
        let is_misled = |node: &Node<P>| node.witness.sets.iter().any(|set| set != proposal);
        let consenting = |node: &&Node<P>| is_able(node) && proposal.contains(&name(node.index)) && !is_misled(node);
        if self.nodes.iter().filter(consenting).count() >= threshold {
            assert!(self.hub.total().is_ok(), "enough members and no sum: {:?}", self.hub.total().err());
        }
    }
}

/// Runs one schedule to its end.
fn play<P: Path>(seed: u64, federation: &mut Federation<P>) -> Tally {
    let mut tally = Tally::default();
    let n = federation.nodes.len();
    for index in 0..n {
        federation.retry(index);
    }
    // From fair weather to a storm in which every third event is a fault.
    let storm = [0, 3, 10, 33][(seed % 4) as usize];
    for _ in 0..9 * n {
        federation.happen(storm);
    }
    if federation.dice.chance(20) {
        federation.check(&mut Tally::default());
    }
    if federation.dice.chance(80) {
        federation.heal();
        federation.check_progress();
    }
    if let Some(disagreement) = &federation.hub.void {
        let lied = |who: &cohortium_messages::Name| {
            federation.nodes.iter().any(|node| name(node.index) == *who && node.lie == Some(Lie::MaskKeyCommitment))
        };
        assert!(lied(&disagreement.one) || lied(&disagreement.other), "{disagreement:?}");
        assert!(federation.nodes.iter().all(|node| node.witness.noised.is_none()), "masked in a void round");
        tally.disagreements += 1;
    }
    federation.check(&mut tally);
    tally
}

/// Plays a schedule; when it fails, says with which seed and what had happened.
pub fn run<P: Path>(seed: u64) -> Tally {
    let mut federation = Federation::<P>::new(seed);
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| play(seed, &mut federation)));
    played.unwrap_or_else(|_| panic!("seed {seed} failed after this story: {}", federation.story))
}

/// Runs schedules on two threads and adds up what came of them.
pub fn run_all(count: u64, run: fn(u64) -> Tally) -> Tally {
    let half = |first: u64| {
        move || {
            let mut tally = Tally::default();
            (first..count).step_by(2).for_each(|seed| tally.add(run(seed)));
            tally
        }
    };
    std::thread::scope(|scope| {
        let (even, odd) = (scope.spawn(half(0)), scope.spawn(half(1)));
        let mut tally = even.join().unwrap();
        tally.add(odd.join().unwrap());
        tally
    })
}

/// How many schedules were asked for.
pub fn schedules() -> u64 {
    std::env::var("COHORTIUM_SCHEDULES").ok().map_or(SCHEDULES, |count| count.parse().unwrap())
}

/// A hub that stopped asking for signatures once it had t was left without t reveals when a signer was lost.
#[test]
fn repro_who_signs_late_is_asked_again() {
    assert_eq!(run::<Masks>(4202).sums, 1);
}

/// Every kind of outcome must have been reached, or the schedules test less than they say.
#[test]
fn random_schedules_keep_every_promise() {
    // A quarter of the schedules is the malicious hub's.
    let count = schedules() - schedules() / 4;
    let tally = run_all(count, run::<Masks>);
    println!("{count} schedules: {tally:?}");
    if count >= 1000 {
        let Tally { sums, sums_without_all, sums_with_noise_left, .. } = tally;
        assert!(sums > count / 4 && sums_without_all > count / 50 && sums_with_noise_left > count / 100, "{tally:?}");
        let Tally { inconsistencies, disagreements, deposits_named, unrecoverable, too_few, .. } = tally;
        let reached = [inconsistencies, disagreements, deposits_named, unrecoverable, too_few];
        assert!(reached.iter().all(|reached| *reached > 0), "{tally:?}");
    }
}
