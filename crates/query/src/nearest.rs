//! "Did you mean …?": the nearest of a few names. Names are matched exactly everywhere; this only helps people who
//! mistyped one. Edit distance by dynamic programming (Wagner and Fischer 1974). Assumes that the names are public:
//! they stand in the agreement.

/// The name nearest to `wanted`, if one is near enough to be meant: equal but for case, or one character in three wrong.
pub(crate) fn nearest<'a>(wanted: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Longer texts are no mistyped names (a name has at most 63 characters), and would cost time.
    let wanted: Vec<char> = wanted.chars().take(64).flat_map(char::to_lowercase).collect();
    let near_enough = (wanted.len() / 3).max(1);
    names
        .map(|name| (distance(&wanted, &name.to_lowercase()), name))
        .filter(|(distance, _)| *distance <= near_enough)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, name)| name)
}

/// How many characters must be changed, added or left out to make one text of the other.
fn distance(a: &[char], b: &str) -> usize {
    let mut row: Vec<usize> = (0..=a.len()).collect();
    for (i, in_b) in b.chars().enumerate() {
        let mut next = vec![i + 1];
        for (in_a, above) in a.iter().zip(row.array_windows::<2>()) {
            let [diagonal, up] = *above;
            let left = next.last().copied().unwrap_or(usize::MAX - 1);
            next.push((diagonal + usize::from(*in_a != in_b)).min(up + 1).min(left + 1));
        }
        row = next;
    }
    row.last().copied().unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_names_are_found_and_far_ones_are_not() {
        let names = ["age", "chol", "trestbps", "heart_rate"];
        for (wanted, expected) in [
            ("AGE", Some("age")),
            ("cholesterol", None),
            ("col", Some("chol")),
            ("trestbp", Some("trestbps")),
            ("heartrate", Some("heart_rate")),
            ("zzz", None),
            ("", None),
        ] {
            assert_eq!(nearest(wanted, names.into_iter()), expected, "{wanted}");
        }
        let long: String = "x".repeat(100_000);
        assert_eq!(nearest(&long, names.into_iter()), None);
    }
}
