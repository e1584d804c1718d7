//! The one way a value becomes bytes to be signed or hashed: RFC 8785 (JSON Canonicalization Scheme).
//!
//! Two implementations that agree on the value agree on the bytes, so a signature made here can be checked by anyone's
//! JSON library. Integers beyond 2^53 have no place in canonical JSON; such numbers travel as strings or raw bytes.

use serde::Serialize;

/// A value that has no canonical form, such as a number that is not finite. Ours to fix: no peer can cause it.
#[derive(Debug, thiserror::Error)]
#[error("no canonical JSON form: {0}")]
pub struct CanonicalError(String);

/// The largest integer that a double can tell from its neighbours (RFC 7493 section 2.2).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// The RFC 8785 bytes of `value`.
///
/// # Errors
/// When the value holds something canonical JSON cannot express.
pub fn canonical_bytes<T: Serialize>(value: &T) -> Result<Vec<u8>, CanonicalError> {
    check_integers(&serde_json::to_value(value).map_err(|error| CanonicalError(error.to_string()))?)?;
    serde_json_canonicalizer::to_vec(value).map_err(|error| CanonicalError(error.to_string()))
}

/// The canonicalizer would round a larger integer without a word: what is signed would not be what was meant.
fn check_integers(value: &serde_json::Value) -> Result<(), CanonicalError> {
    use serde_json::Value;
    match value {
        Value::Number(number) => {
            let magnitude = number.as_u64().or_else(|| number.as_i64().map(i64::unsigned_abs));
            if magnitude.is_some_and(|magnitude| magnitude > INTEGER_MAX) {
                return Err(CanonicalError("an integer beyond 2^53".to_owned()));
            }
            Ok(())
        }
        Value::Array(items) => items.iter().try_for_each(check_integers),
        Value::Object(fields) => fields.values().try_for_each(check_integers),
        Value::Null | Value::Bool(_) | Value::String(_) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same corpus is checked with PyPI's `rfc8785` in `tests/interop/canonical_json.py`.
    #[test]
    fn vectors_agree_with_another_implementation() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vectors/canonical");
        let (mut accepted, mut refused) = (0, 0);
        for file in std::fs::read_dir(directory).unwrap() {
            let text = std::fs::read_to_string(file.unwrap().path()).unwrap();
            let cases: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            for case in cases {
                let (name, input) = (case["name"].as_str().unwrap(), case["input"].as_str().unwrap());
                let value = serde_json::from_str::<serde_json::Value>(input).ok();
                let found = value.and_then(|value| canonical_bytes(&value).ok());
                let expected = case.get("canonical").map(|text| text.as_str().unwrap().as_bytes().to_vec());
                *(if expected.is_some() { &mut accepted } else { &mut refused }) += 1;
                assert_eq!(found, expected, "{name}");
            }
        }
        assert!(accepted >= 30 && refused >= 10, "{accepted} accepted, {refused} refused: the corpus is not there");
    }

    #[test]
    fn keys_are_sorted_and_numbers_are_ecmascript() {
        let value: serde_json::Value = serde_json::from_str(r#"{"b": 1.0, "a": "é\u0007", "A": [1e21, 0.1]}"#).unwrap();
        let bytes = canonical_bytes(&value).unwrap();
        assert_eq!(String::from_utf8(bytes).unwrap(), "{\"A\":[1e+21,0.1],\"a\":\"é\\u0007\",\"b\":1}");
    }
}
