//! One dataset's budget over a few queries, a schedule drawn down and cancelled, and what the odometer says.
//!
//! Run with `cargo run -p cohortium-dp --example account`. Entries go into a vector here; a node makes each of them
//! durable before it applies it, and the vector is what it would replay after a crash.

use std::error::Error;

use cohortium_dp::account::{Refusal, Reservation, ScheduleReservation, Scope};
use cohortium_dp::{Account, AccountConfig, AccountEntry, AttoDelta, Budget, NanoNats, Next, Spent, gaussian_price};

/// δ of every promise here: one in a million.
const DELTA: f64 = 1e-6;

fn main() -> Result<(), Box<dyn Error>> {
    let nats = |epsilon: f64| NanoNats::new((epsilon * 1e9) as u64);
    let delta = AttoDelta::new(1_000_000_000_000)?;
    let config = AccountConfig {
        dataset: "ward".into(),
        budget: Budget::new(nats(2.0), delta)?,
        studies: [("heart".into(), Budget::new(nats(1.5), delta)?)].into(),
        researchers: [("heart/ann".into(), Budget::new(nats(1.2), delta)?)].into(),
    };
    let mut account = Account::new(config.clone())?;
    let mut book = Vec::new();

    // Two queries: each is reserved before anything else, and charged from then on.
    for (task, sigma2) in [("count by age", 400), ("count by sex", 900)] {
        let query = Reservation {
            researcher: "heart/ann".into(),
            study: "heart".into(),
            task: task.into(),
            round: 0,
            // One person moves one cell by one; the noise of all nodes together has variance σ².
            price: gaussian_price(1, sigma2, 1, sigma2, 1)?,
            time: None,
        };
        let next = account.reserve(&query)?;
        write(&mut account, &mut book, next)?;
        let next = account.start_reading(task, 0, None)?;
        write(&mut account, &mut book, next)?;
        // Rows are read and noise is added here; what leaves, leaves with the evidence that it is paid.
        let next = account.spend(task, 0, None)?;
        let evidence = write(&mut account, &mut book, next)?.map(|spent| spent.sequence());
        println!("{task}: paid by entry {evidence:?}");
    }
    report(&account, "after two queries");

    // Ten rounds, reserved as a whole. A released answer says after four that it is good enough.
    let mut rounds = ScheduleReservation {
        researcher: "heart/ann".into(),
        study: "heart".into(),
        task: "refine".into(),
        rounds: 10,
        price: gaussian_price(1, 1600, 1, 1600, 1)?,
        time: None,
    };
    let next = account.reserve_schedule(&rounds)?;
    write(&mut account, &mut book, next)?;
    report(&account, "ten rounds reserved");
    for round in 0..4 {
        let next = account.start_reading("refine", round, None)?;
        write(&mut account, &mut book, next)?;
        let next = account.spend("refine", round, None)?;
        write(&mut account, &mut book, next)?;
    }
    let next = account.cancel("refine", None)?;
    write(&mut account, &mut book, next)?;
    report(&account, "four rounds run, six given back");

    // Too much is refused, and every budget that falls short is named.
    (rounds.task, rounds.rounds) = ("train".into(), 300);
    match account.reserve_schedule(&rounds) {
        Err(refusal @ Refusal::OverBudget { .. }) => println!("300 rounds: {refusal}"),
        other => return Err(format!("300 rounds should be over budget: {other:?}").into()),
    }

    // After a crash: the entries give the same account, and so does a snapshot.
    let replayed = Account::replay(config.clone(), book)?;
    let restored = Account::restore(config, account.snapshot()?)?;
    println!("replayed: {}, restored: {}", replayed == account, restored == account);
    Ok(())
}

/// Makes an entry durable, then applies it.
fn write(account: &mut Account, book: &mut Vec<AccountEntry>, next: Next) -> Result<Option<Spent>, Box<dyn Error>> {
    match next {
        Next::Write(entry) => {
            book.push((*entry).clone());
            Ok(account.apply(&entry)?)
        }
        Next::Already(state) => Err(format!("this was done before: {state:?}").into()),
    }
}

fn report(account: &Account, when: &str) {
    println!("{when}:");
    for scope in [Scope::Dataset, Scope::Study("heart".into()), Scope::Researcher("heart/ann".into())] {
        let (left, odometer) = (account.remaining_epsilon_of(&scope), account.odometer(&scope, DELTA));
        if let Some((left, odometer)) = left.zip(odometer) {
            let (read, charged) = (odometer.epsilon_read, odometer.epsilon_charged);
            println!("  {scope}: epsilon {left:.3} left; odometer {read:.3}, {charged:.3} with what is reserved");
        }
    }
}
