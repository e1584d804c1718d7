//! Processor time, repeated and interleaved: the machines that this runs on are shared and noisy.
//!
//! Each side of a comparison is measured `rounds` times, turn and turn about, in processor time of the one thread
//! that works; the median of each side is reported, and ratios are ratios of medians.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// One side of a comparison: its name and the work, which returns how many units it did.
pub struct Side<'a> {
    name: &'a str,
    work: Box<dyn FnMut() -> u64 + 'a>,
    /// Seconds per unit, one entry per round.
    times: Vec<f64>,
}

impl<'a> Side<'a> {
    pub fn new(name: &'a str, work: impl FnMut() -> u64 + 'a) -> Self {
        Self { name, work: Box::new(work), times: Vec::new() }
    }

    pub fn name(&self) -> &str {
        self.name
    }

    /// Median seconds per unit.
    pub fn median(&self) -> f64 {
        median(&self.times)
    }
}

/// Measures all sides in turn, `rounds` times.
pub fn measure<'a>(rounds: u32, mut sides: Vec<Side<'a>>) -> Vec<Side<'a>> {
    for _ in 0..rounds {
        for side in &mut sides {
            let (units, seconds) = timed(&mut side.work);
            side.times.push(seconds / units.max(1) as f64);
        }
    }
    sides
}

/// What `work` returns, and the processor seconds of this thread that it took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = thread_time();
    let done = work();
    (done, (thread_time() - start).as_secs_f64())
}

/// The middle value, or the mean of the two middle ones; zero of nothing.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = |i: usize| sorted.get(i).copied().unwrap_or_default();
    let half = sorted.len() / 2;
    if sorted.len() % 2 == 1 { middle(half) } else { (middle(half.saturating_sub(1)) + middle(half)) / 2.0 }
}

/// What `work` returns, and the seconds that passed meanwhile: for work of several threads, on a machine that is idle.
pub fn timed_by_the_wall<T>(work: impl FnOnce() -> T) -> (T, f64) {
    let start = time_of(ClockId::Monotonic);
    let done = work();
    (done, time_of(ClockId::Monotonic).saturating_sub(start).as_secs_f64())
}

fn thread_time() -> Duration {
    time_of(ClockId::ThreadCPUTime)
}

fn time_of(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        for (values, expected) in [(vec![], 0.0), (vec![3.0], 3.0), (vec![1.0, 9.0, 2.0], 2.0), (vec![4.0, 1.0], 2.5)] {
            assert_eq!(median(&values), expected, "{values:?}");
        }
    }

    #[test]
    fn every_side_is_measured_every_round_per_unit() {
        let mut calls = 0;
        let sides = measure(
            3,
            vec![Side::new("counts", || {
                calls += 1;
                1000
            })],
        );
        assert!(sides.iter().all(|side| side.times.len() == 3 && side.median() >= 0.0 && side.name() == "counts"));
        drop(sides);
        assert_eq!(calls, 3);
    }
}
