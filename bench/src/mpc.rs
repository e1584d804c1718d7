//! `crates/mpc` beside what it is meant to cost, and beside Flower's SecAgg+.
//!
//! Three parts: a round of 100 members with 10 drop-outs, at a node and at the hub; a vector of 10^8 elements in a
//! process of its own; and a member's whole round beside that of Flower's client, turn and turn about.
//!
//! Everything is in memory, without disks or networks, on one thread, in processor time.

mod federation;
mod flower;
pub mod stream;
mod upload;

use std::fmt::Display;
use std::num::NonZeroUsize;
use std::path::Path;

use cohortium_messages::{Hash, MaskedHeader};
use cohortium_mpc::Unmasker;

use crate::clock::{median, timed, timed_by_the_wall};
use federation::{Federation, Played, Steps, input};
use flower::{Flower, Round, STAGES};

/// How often each side is measured.
const ROUNDS: usize = 5;
/// Length of a vector.
const ELEMENTS: u32 = 1_000_000;
/// Bytes of a vector: 32 bits for an element.
const PACKED: usize = 4 * ELEMENTS as usize;

pub fn run(python: Option<&Path>) -> Result<(), String> {
    println!("{:<70}{:>14}   goal", "", "measured");
    beside_flower(python)?;
    large_round()?;
    stream::report()
}

/// A hundred members, of whom ten drop out after dealing.
fn large_round() -> Result<(), String> {
    let mut federation = Federation::new(100, 67, 33)?;
    let played = federation.play(ELEMENTS, 10, ROUNDS)?;
    println!("\n10^6 elements of 32 bits, 100 members (threshold 67, 33 colluders), 10 drop-outs; medians of {ROUNDS}");
    let Steps { begin, receive, noise, mask, sign, reveal } = played.steps;
    row("node: mask, hash and sign the header, s", format!("{mask:.3}"), "<= 0.15");
    row(
        "node: begin + receive shares + sign the set + reveal, s (once)",
        format!("{:.3}", begin + receive + sign + reveal),
        "",
    );
    let components = federation.noise_plan()?.components().len();
    row(&format!("node: noise ({components} components), s"), format!("{noise:.3}"), "");
    report_upload(&federation, &played)?;
    report_hub(&federation, &played)
}

fn report_upload(federation: &Federation, played: &Played) -> Result<(), String> {
    let calls = upload::weigh(federation, &played.sent)?;
    for (name, bytes) in &calls {
        row(&format!("node: {name}, bytes"), bytes.to_string(), "");
    }
    let vector = played.uploads.first().map_or(0, |(_, bytes)| bytes.len());
    let all = vector + calls.iter().map(|(_, bytes)| bytes).sum::<usize>();
    row("node: packed vector, bytes", vector.to_string(), "");
    row("node: all that it sends in a round, bytes", all.to_string(), &format!("<= {}", PACKED * 102 / 100 + 40_000));
    row("node: all, beside the packed vector", format!("{:.4}x", all as f64 / PACKED as f64), "<= 1.02x + 40 kB");
    row("node: 99 key halves, once per agreement, bytes", upload::weigh_setup(federation)?.to_string(), "");
    Ok(())
}

fn report_hub(federation: &Federation, played: &Played) -> Result<(), String> {
    let (mut take, mut recover, mut add) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut hub = federation.hub_before_vectors(played)?;
        let (taken, seconds) = timed(|| {
            played.uploads.iter().zip(&federation.organisations).try_for_each(|((header, bytes), from)| {
                let header = header.open::<MaskedHeader>(&from.key.public()).map_err(words)?;
                hub.accept_masked_stored(&header, bytes.len() as u64, Hash::of(bytes)).map_err(words)
            })
        });
        taken?;
        take.push(seconds);
        let (unmasker, seconds) = timed(|| played.hub.unmasker());
        let unmasker = unmasker.map_err(words)?;
        recover.push(seconds);
        let (sums, seconds) = timed(|| open(&unmasker, played));
        add.push(seconds);
        check(&sums?, played)?;
    }
    let (take, recover, add) = (median(&take), median(&recover), median(&add));
    row("hub: check 90 headers and hash their vectors, s", format!("{take:.3}"), "");
    row("hub: recover the secrets of 100 members, s", format!("{recover:.3}"), "");
    row("hub: add up and unmask, s", format!("{add:.3}"), "");
    row("hub: these three, s", format!("{:.3}", take + recover + add), "<= 2");
    report_excess(&played.hub.unmasker().map_err(words)?)
}

/// What it takes to draw the survivors' excess noise again, so that it can be taken off. The goal speaks of masks only.
fn report_excess(unmasker: &Unmasker) -> Result<(), String> {
    let (noise, seconds) = timed(|| unmasker.excess_noise(NonZeroUsize::MIN));
    let components: usize = unmasker.excess().iter().map(|excess| excess.seeds.len()).sum();
    let cells = noise.map_err(words)?.len();
    let name = format!("hub: draw excess noise again, {components} components, s (once)");
    row(&name, format!("{seconds:.1}"), "");
    let each = seconds / (cells * components) as f64 * 1e9;
    row("hub: the same, ns for a cell of a component", format!("{each:.1}"), "");
    let two = NonZeroUsize::MIN.saturating_add(1);
    let (noise, seconds) = timed_by_the_wall(|| unmasker.excess_noise(two));
    noise.map_err(words)?;
    row("hub: the same with two threads, s by the wall clock", format!("{seconds:.1}"), "");
    Ok(())
}

/// Adds and unmasks all chunks. Excess noise stays in: only the first member's vector has noise here.
fn open(unmasker: &Unmasker, played: &Played) -> Result<Vec<i128>, String> {
    let mut sums = Vec::with_capacity(ELEMENTS as usize);
    for chunk in 0..unmasker.chunks() {
        let range = unmasker.bytes_of(chunk);
        let bytes = played.uploads.iter().map(|(_, bytes)| bytes.get(range.clone()).unwrap_or_default());
        let excess = vec![0; unmasker.elements_of(chunk).len()];
        sums.extend(unmasker.unmask(chunk, &bytes.collect::<Vec<_>>(), &excess).map_err(words)?);
    }
    Ok(sums)
}

/// Whether the sum is that of the inputs.
fn check(sums: &[i128], played: &Played) -> Result<(), String> {
    let others = played.uploads.len() as i128 - 1;
    let expected = played.noised.values().iter().enumerate();
    let expected = expected.map(|(index, first)| i128::from(*first) + others * i128::from(input(index)));
    if expected.eq(sums.iter().copied()) { Ok(()) } else { Err("the opened sum is not that of the inputs".to_owned()) }
}

/// Ten members, all of whom stay: one member's round beside one Flower client's.
fn beside_flower(python: Option<&Path>) -> Result<(), String> {
    let mut federation = Federation::new(10, 7, 3)?;
    let mut flower = python.map(|python| Flower::start(python, 10, 7, ELEMENTS)).transpose()?;
    let (mut ours, mut theirs, mut calls) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let played = federation.play(ELEMENTS, 0, 1)?;
        check(&open(&played.hub.unmasker().map_err(words)?, &played)?, &played)?;
        ours.push(played.steps);
        calls = upload::weigh(&federation, &played.sent)?;
        theirs.extend(flower.as_mut().map(Flower::round).transpose()?);
    }
    println!("10^6 elements, 10 members (threshold 7), all stay; ms of processor of one member, medians of {ROUNDS}");
    let ms = |of: fn(&Steps) -> f64| median(&ours.iter().map(of).collect::<Vec<_>>()) * 1e3;
    println!("  ours");
    for (name, value) in [
        ("begin (secrets, shares, deposit, signature)", ms(|steps| steps.begin)),
        ("receive shares", ms(|steps| steps.receive)),
        ("mask (10 masks, hash, signature)", ms(|steps| steps.mask)),
        ("sign the survivor set", ms(|steps| steps.sign)),
        ("reveal (7 signatures checked)", ms(|steps| steps.reveal)),
        ("all of these", ms(Steps::without_noise)),
        ("noise, which Flower does not add (4 components)", ms(|steps| steps.noise)),
    ] {
        row(name, format!("{value:.2}"), "");
    }
    let setup = [&federation.setup.encapsulate, &federation.setup.accept].map(|times| median(times) * 1e3);
    let [encapsulate, accept] = setup.map(|ms| format!("{ms:.2}"));
    row("once per agreement and peer: encapsulate, sign / check, accept", format!("{encapsulate} / {accept}"), "");
    let sent = PACKED + calls.iter().map(|(_, bytes)| bytes).sum::<usize>();
    row("sent, bytes", sent.to_string(), "");
    report_flower(&theirs, ms(Steps::without_noise), ms(|steps| steps.without_noise() + steps.noise));
    Ok(())
}

fn report_flower(rounds: &[Round], ours: f64, ours_with_noise: f64) {
    let ms = |of: &dyn Fn(&Round) -> f64| median(&rounds.iter().map(of).collect::<Vec<_>>()) * 1e3;
    let Some(last) = rounds.last() else {
        println!("  Flower: not measured, no interpreter was given");
        return;
    };
    println!("  Flower's SecAgg+ client, all shares, its default quantisation");
    for (index, stage) in STAGES.iter().enumerate() {
        row(stage, format!("{:.2}", ms(&|round| round.seconds.get(index).copied().unwrap_or_default())), "");
    }
    let all = ms(&|round| round.seconds.iter().sum());
    let bare = ms(&|round| round.seconds.iter().sum::<f64>() - round.quantisation);
    row("all of these", format!("{all:.2}"), "");
    row("all but quantisation", format!("{bare:.2}"), "");
    row("sent, bytes", last.bytes.to_string(), "");
    row("Flower beside ours", format!("{:.1}x", all / ours), ">= 20x");
    row("without its quantisation", format!("{:.1}x", bare / ours), "");
    row("Flower beside ours with our noise", format!("{:.1}x", all / ours_with_noise), "");
}

/// A line of a table.
fn row(what: &str, measured: impl Display, goal: &str) {
    println!("    {what:<66}{measured:>14}   {goal}");
}

/// An error in words.
fn words(error: impl Display) -> String {
    error.to_string()
}
