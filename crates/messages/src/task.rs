//! A task: what a researcher asks, signed.

use serde::{Deserialize, Serialize};

use crate::{Document, Hash, Modifier, Name, PROTOCOL_VERSION, Plan, Purpose, Timestamp};

/// A task. Signed by the researcher's key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Task {
    /// The conditions that whoever asks affirms to keep, sorted: all that the agreement states.
    pub affirms: Vec<Modifier>,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// 32 random bytes in hexadecimal: two askings are two tasks.
    pub nonce: Hash,
    /// The organisations whose nodes take part, sorted.
    pub participants: Vec<Name>,
    /// What is asked.
    pub plan: Plan,
    /// [`PROTOCOL_VERSION`].
    pub protocol: u32,
    /// What for.
    pub purpose: Purpose,
    /// Who asks.
    pub researcher: Name,
    /// How many rounds the task has: 1 for a query.
    pub rounds: u32,
    /// The SQL the plan was made from, as provenance: nobody runs it.
    pub sql: String,
    /// The study.
    pub study: Name,
}

impl Document for Task {
    const TYPE: &'static str = "application/vnd.cohortium.task.v2+json";
    const MAX_BYTES: usize = 512 << 10;
    fn check(&self) -> Result<(), String> {
        if self.protocol != PROTOCOL_VERSION {
            return Err(format!("protocol version {} is not known here", self.protocol));
        }
        if self.rounds != 1 {
            return Err(String::from("a query has exactly one round"));
        }
        if self.affirms.array_windows().any(|[a, b]| a >= b) {
            return Err(String::from("the affirmed conditions must be sorted and different"));
        }
        if self.sql.len() > 64 << 10 {
            return Err(String::from("the SQL text is longer than 65536 bytes"));
        }
        if self.participants.array_windows().any(|[a, b]| a >= b) {
            return Err(String::from("the participants must be sorted and different"));
        }
        self.plan.check_shape().map_err(|error| error.to_string())
    }
}
