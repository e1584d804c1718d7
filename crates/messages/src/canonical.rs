//! The one way a value becomes bytes to be signed or hashed: RFC 8785 (JSON Canonicalization Scheme).
//!
//! Two implementations that agree on the value agree on the bytes, so a signature made here can be checked by anyone's
//! JSON library. Integers beyond 2^53 have no place in canonical JSON; such numbers travel as strings or raw bytes.

use serde::Serialize;

/// A value that has no canonical form, such as a number that is not finite. Ours to fix: no peer can cause it.
#[derive(Debug, thiserror::Error)]
#[error("no canonical JSON form: {0}")]
pub struct CanonicalError(String);

/// The RFC 8785 bytes of `value`.
///
/// # Errors
/// When the value holds something canonical JSON cannot express.
pub fn canonical_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    serde_json_canonicalizer::to_vec(value).map_err(|error| CanonicalError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_and_numbers_are_ecmascript() {
        let value: serde_json::Value = serde_json::from_str(r#"{"b": 1.0, "a": "é\u0007", "A": [1e21, 0.1]}"#).unwrap();
        let bytes = canonical_bytes(&value).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "{\"A\":[1e+21,0.1],\"a\":\"é\\u0007\",\"b\":1}");
    }
}
