//! Exact decimal numbers for bounds and literals.
//!
//! A bound that is signed must mean the same number at every node. Binary floating point would round `0.1` before
//! anyone could check it, and canonical JSON would print it back differently; so numbers in agreements and plans are
//! decimals, written as strings in canonical JSON and as plain numbers in TOML.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An exact decimal number `mantissa · 10^-scale`, with `|mantissa| ≤ 10^15` and `scale ≤ 9`, in lowest terms.
///
/// The limits keep every sum and product that sensitivity needs inside `i128`, and every value exact in an `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Decimal {
    mantissa: i64,
    scale: u8,
}

/// Why a text is not a number that we can hold exactly.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a number with at most 15 digits, 9 of them after the point")]
pub struct DecimalError(String);

const MAX_MANTISSA: i64 = 1_000_000_000_000_000;
const MAX_SCALE: u8 = 9;

impl Decimal {
    /// Zero.
    pub const ZERO: Self = Self { mantissa: 0, scale: 0 };
    /// One.
    pub const ONE: Self = Self { mantissa: 1, scale: 0 };

    /// `mantissa · 10^-scale`.
    ///
    /// # Errors
    /// When it needs more than 15 digits or more than 9 decimals.
    pub fn new(mantissa: i64, scale: u8) -> Result<Self, DecimalError> {
        let (mut mantissa, mut scale) = (mantissa, scale);
        while scale > 0 && mantissa % 10 == 0 {
            mantissa /= 10;
            scale -= 1;
        }
        if mantissa.unsigned_abs() <= MAX_MANTISSA.unsigned_abs() && scale <= MAX_SCALE {
            Ok(Self { mantissa, scale })
        } else {
            Err(DecimalError(format!("{mantissa}e-{scale}")))
        }
    }

    /// The digits without the point.
    #[must_use]
    pub const fn mantissa(self) -> i64 {
        self.mantissa
    }

    /// How many digits stand after the point.
    #[must_use]
    pub const fn scale(self) -> u8 {
        self.scale
    }

    /// The nearest `f64`.
    #[must_use]
    pub fn to_f64(self) -> f64 {
        // Both operands are exact (|mantissa| ≤ 10^15 < 2^53, 10^9 < 2^53), so one correctly rounded division remains.
        self.mantissa as f64 / 10f64.powi(i32::from(self.scale))
    }

    /// The number in units of 10^-9: exact, and comparable with every other decimal.
    #[must_use]
    pub fn nano(self) -> i128 {
        i128::from(self.mantissa) * 10i128.pow(u32::from(MAX_SCALE - self.scale))
    }
}

impl PartialOrd for Decimal {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Decimal {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.nano().cmp(&other.nano())
    }
}

impl std::fmt::Display for Decimal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sign = if self.mantissa < 0 { "-" } else { "" };
        let unit = 10u64.pow(u32::from(self.scale));
        let (whole, part) = (self.mantissa.unsigned_abs() / unit, self.mantissa.unsigned_abs() % unit);
        if self.scale == 0 {
            write!(f, "{sign}{whole}")
        } else {
            write!(f, "{sign}{whole}.{part:0width$}", width = usize::from(self.scale))
        }
    }
}

impl std::str::FromStr for Decimal {
    type Err = DecimalError;
    fn from_str(text: &str) -> Result<Self, DecimalError> {
        let refuse = || DecimalError(text.chars().take(40).filter(|c| !c.is_control()).collect());
        let (negative, digits) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (whole, part) = digits.split_once('.').unwrap_or((digits, ""));
        let has_point = digits.contains('.');
        let all_digits = |s: &str| s.bytes().all(|b| b.is_ascii_digit());
        let shape_is_right = !whole.is_empty() && has_point != part.is_empty() && all_digits(whole) && all_digits(part);
        if !shape_is_right || whole.len() > 18 || part.len() > 18 {
            return Err(refuse());
        }
        let part = part.trim_end_matches('0');
        let magnitude: i64 = format!("{whole}{part}").parse().map_err(|_| refuse())?;
        let scale = u8::try_from(part.len()).map_err(|_| refuse())?;
        Self::new(if negative { -magnitude } else { magnitude }, scale).map_err(|_| refuse())
    }
}

impl From<i32> for Decimal {
    fn from(value: i32) -> Self {
        Self { mantissa: i64::from(value), scale: 0 }
    }
}

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Accepts the canonical string (`"63.5"`), and for files that people write also a plain integer or decimal number.
impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Decimal;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a number")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Decimal, E> {
                text.parse().map_err(E::custom)
            }
            fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Decimal, E> {
                Decimal::new(value, 0).map_err(E::custom)
            }
            fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Decimal, E> {
                i64::try_from(value).map_err(E::custom).and_then(|v| self.visit_i64(v))
            }
            fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Decimal, E> {
                // The shortest text that reads back as this number is what the person wrote.
                format!("{value}").parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_round_trips_in_lowest_terms() {
        for (text, canonical) in [
            ("0", "0"),
            ("-0", "0"),
            ("1.50", "1.5"),
            ("-3.25", "-3.25"),
            ("600", "600"),
            ("0.000000001", "0.000000001"),
        ] {
            let value: Decimal = text.parse().unwrap();
            assert_eq!(value.to_string(), canonical);
            assert_eq!(canonical.parse::<Decimal>().unwrap(), value);
        }
        for bad in ["", "-", ".5", "1.", "1e3", "NaN", "+1", "1.0000000001", "9999999999999999", "0x1", "1 "] {
            assert!(bad.parse::<Decimal>().is_err(), "{bad}");
        }
    }

    #[test]
    fn order_is_numeric() {
        let mut values: Vec<Decimal> = ["2", "-1.5", "1.999999999", "10"].iter().map(|t| t.parse().unwrap()).collect();
        values.sort();
        let shown: Vec<String> = values.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["-1.5", "1.999999999", "2", "10"]);
    }

    #[test]
    fn people_may_write_plain_numbers() {
        #[derive(serde::Deserialize)]
        struct Row {
            bounds: [Decimal; 3],
        }
        let row: Row = toml::from_str("bounds = [0, 0.1, \"-7.25\"]").unwrap();
        assert_eq!(row.bounds.map(|b| b.to_string()), ["0", "0.1", "-7.25"]);
        assert!(toml::from_str::<Row>("bounds = [0, nan, 1]").is_err());
    }
}
