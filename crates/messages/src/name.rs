//! Names of organisations, people, studies, datasets and columns: short, ASCII, and safe in paths, URLs and policies.

use serde::{Deserialize, Serialize};

/// A name: a letter, then up to 62 letters, digits, `_` or `-`.
///
/// The alphabet is small on purpose: a name is used as a file name, in log entries and in compiled policies, and must
/// mean the same to everyone who reads it (no look-alike letters, no spaces, no path separators).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a name: use a letter, then up to 62 letters, digits, `_` or `-`")]
pub struct NameError {
    shown: String,
}

/// The longest name, in bytes: fits a file name with a suffix on every file system.
const MAX_NAME_BYTES: usize = 63;

impl Name {
    /// Parses a name.
    ///
    /// # Errors
    /// When the text is empty, too long, or has other characters than letters, digits, `_` and `-`.
    pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
        let text = text.into();
        let mut bytes = text.bytes();
        let starts_well = bytes.next().is_some_and(|first| first.is_ascii_alphabetic());
        let goes_on_well = bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-');
        if starts_well && goes_on_well && text.len() <= MAX_NAME_BYTES {
            Ok(Self(text))
        } else {
            Err(NameError { shown: text.chars().take(MAX_NAME_BYTES).filter(|c| !c.is_control()).collect() })
        }
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for Name {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;
    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(text)
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_plain_and_refuses_the_rest() {
        for good in ["a", "heart_disease", "VA-2", "Z9"] {
            assert!(Name::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in ["", "9a", "a b", "../x", "é", "a/b", "-a", long.as_str()] {
            assert!(Name::new(bad).is_err(), "{bad}");
        }
    }
}
