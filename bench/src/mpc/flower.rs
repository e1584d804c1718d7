//! Flower's SecAgg+ client, as a process that plays one round whenever it is asked to.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use serde_json::Value;

use super::words;

/// The client's four stages.
pub const STAGES: [&str; 4] = ["setup", "share_keys", "collect", "unmask"];

/// A running interpreter; ended when dropped.
pub struct Flower {
    process: Child,
    ask: ChildStdin,
    answers: BufReader<ChildStdout>,
}

/// What one client spent in one round.
pub struct Round {
    /// Processor seconds of each stage.
    pub seconds: [f64; 4],
    /// Processor seconds of quantisation alone, which is in the third stage.
    pub quantisation: f64,
    /// What it sent, as protobuf.
    pub bytes: u64,
}

impl Flower {
    /// Starts it, and waits until it has opened one whole round correctly.
    pub fn start(python: &Path, clients: usize, threshold: u32, elements: u32) -> Result<Self, String> {
        let mut command = Command::new(python);
        command.args(["-B", concat!(env!("CARGO_MANIFEST_DIR"), "/flower_secagg.py")]);
        command.args([clients.to_string(), threshold.to_string(), elements.to_string()]);
        let mut process = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(words)?;
        let (Some(ask), Some(answers)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("the peer has no standard input and output".to_owned());
        };
        let mut flower = Self { process, ask, answers: BufReader::new(answers) };
        flower.answer()?;
        Ok(flower)
    }

    pub fn round(&mut self) -> Result<Round, String> {
        self.ask.write_all(b"\n").and_then(|()| self.ask.flush()).map_err(words)?;
        let answer = self.answer()?;
        let mut round = Round { seconds: [0.0; 4], quantisation: number(&answer, "/quantisation")?, bytes: 0 };
        for (stage, seconds) in STAGES.iter().zip(&mut round.seconds) {
            *seconds = number(&answer, &format!("/stages/{stage}/seconds"))?;
            round.bytes += number(&answer, &format!("/stages/{stage}/bytes"))? as u64;
        }
        Ok(round)
    }

    fn answer(&mut self) -> Result<Value, String> {
        let mut line = String::new();
        self.answers.read_line(&mut line).map_err(words)?;
        serde_json::from_str(&line).map_err(|_| "the peer ended; what it printed says why".to_owned())
    }
}

impl Drop for Flower {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn number(answer: &Value, pointer: &str) -> Result<f64, String> {
    answer.pointer(pointer).and_then(Value::as_f64).ok_or_else(|| format!("the peer's answer has no {pointer}"))
}
