//! Points in time, to the second, in UTC. Clocks are handed in; nothing in the pure rooms reads one.

use serde::{Deserialize, Serialize};

/// A point in time: whole seconds since 1970-01-01T00:00:00Z, written as RFC 3339 (`2026-11-22T03:05:13Z`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Timestamp(i64);

/// The text is not an RFC 3339 time in UTC with whole seconds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a time: write it in UTC like 2026-11-22T03:05:13Z")]
pub struct TimeError(String);

/// 9999-12-31T23:59:59Z, the last time that RFC 3339 can write.
const MAX_SECONDS: i64 = 253_402_300_799;

impl Timestamp {
    /// The time `seconds` after the epoch, held to the years 1970 to 9999.
    #[must_use]
    pub fn from_seconds(seconds: i64) -> Self {
        Self(seconds.clamp(0, MAX_SECONDS))
    }

    /// Seconds since the epoch.
    #[must_use]
    pub const fn seconds(self) -> i64 {
        self.0
    }

    /// This time and `seconds` more, held to the years 1970 to 9999.
    #[must_use]
    pub fn plus_seconds(self, seconds: i64) -> Self {
        Self::from_seconds(self.0.saturating_add(seconds))
    }
}

impl std::fmt::Display for Timestamp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match jiff::Timestamp::from_second(self.0) {
            Ok(time) => write!(f, "{time}"),
            Err(_) => Err(std::fmt::Error), // excluded by the constructor
        }
    }
}

impl std::str::FromStr for Timestamp {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let refuse = || TimeError(text.chars().take(40).filter(|c| !c.is_control()).collect());
        let time: jiff::Timestamp = text.parse().map_err(|_| refuse())?;
        let parsed = Self(time.as_second());
        // One text per time: what does not print back the same is refused.
        if (0..=MAX_SECONDS).contains(&parsed.0) && parsed.to_string() == text { Ok(parsed) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for Timestamp {
    type Error = TimeError;
    fn try_from(text: String) -> Result<Self, TimeError> {
        text.parse()
    }
}

impl From<Timestamp> for String {
    fn from(time: Timestamp) -> Self {
        time.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_text_per_time() {
        let time: Timestamp = "2026-11-22T03:05:13Z".parse().unwrap();
        assert_eq!(time.to_string(), "2026-11-22T03:05:13Z");
        assert_eq!(time.plus_seconds(47).to_string(), "2026-11-22T03:06:00Z");
        for bad in ["2026-11-22", "2026-11-22T03:05:13+01:00", "2026-11-22T03:05:13.5Z", "1969-01-01T00:00:00Z", "x"] {
            assert!(bad.parse::<Timestamp>().is_err(), "{bad}");
        }
    }
}
