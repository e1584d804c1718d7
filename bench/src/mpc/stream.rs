//! Masking a vector that does not fit in memory, in a process of its own, so that the peak of memory is its own.
//!
//! Noise is drawn on from chunk to chunk; masked bytes are counted and dropped: what a node does with them (disk, network)
//! is not measured.

use std::process::Command;

use cohortium_dp::NoiseStream;
use cohortium_messages::MAX_ELEMENTS;
use cohortium_mpc::{CHUNK_ELEMENTS, MpcError};
use serde_json::{Value, json};

use super::federation::{Federation, input};
use super::{row, words};
use crate::clock::timed;

/// How the process is called.
pub const SUBJECT: &str = "mpc-stream";

/// Starts the process and prints what it found.
pub fn report() -> Result<(), String> {
    let program = std::env::current_exe().map_err(words)?;
    let output = Command::new(program).arg(SUBJECT).output().map_err(words)?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    let found: Value = serde_json::from_slice(&output.stdout).map_err(words)?;
    let number = |key: &str| found.get(key).and_then(Value::as_f64).ok_or_else(|| format!("{key} is missing"));
    println!("\n10^8 elements of 32 bits, 10 members (threshold 7), one node, in chunks of {CHUNK_ELEMENTS}; once");
    row("peak memory of the process (VmHWM), MiB", format!("{:.1}", number("peak_kib")? / 1024.0), "< 256");
    row("masking and hashing, s of processor", format!("{:.2}", number("masking")?), "<= 3.2 (a 1 Gb/s link)");
    row("input and noise (4 components), s of processor", format!("{:.2}", number("filling")?), "");
    Ok(())
}

/// The process.
pub fn run() -> Result<(), String> {
    let mut federation = Federation::new(10, 7, 3)?;
    let mut member = federation.deal(MAX_ELEMENTS)?.members.into_iter().next().ok_or("a round needs members")?;
    let seeds = member.noise_seeds().map_err(words)?;
    let mut noise = NoiseStream::of_node(&federation.noise_plan()?, seeds).map_err(words)?;
    let (mut filling, mut first, mut kept) = (0.0, 0, 0u64);
    let fill = &mut |values: &mut [i64]| {
        let ((), seconds) = timed(|| {
            values.iter_mut().zip(first..).for_each(|(value, index)| *value = input(index));
            noise.add_to(values);
        });
        first += values.len();
        filling += seconds;
        Ok(())
    };
    let keep = &mut |bytes: &[u8]| {
        kept += std::hint::black_box(bytes).len() as u64;
        Ok(())
    };
    let (masked, all) = timed(|| member.mask_stream_of_noised::<MpcError>(fill, keep));
    let expected = masked.map_err(words)?.header().bytes;
    if kept != expected {
        return Err(format!("{kept} bytes were masked and {expected} announced"));
    }
    println!("{}", json!({ "peak_kib": peak_kib()?, "masking": all - filling, "filling": filling }));
    Ok(())
}

/// The most memory that this process ever had, KiB.
fn peak_kib() -> Result<u64, String> {
    let status = std::fs::read_to_string("/proc/self/status").map_err(words)?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.ok_or_else(|| "/proc/self/status has no VmHWM".to_owned())
}
