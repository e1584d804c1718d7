//! The vectors of `docs/spec/noise.md`, which `tests/interop/noise.py` computes again from the specification alone.

use dashu::integer::UBig;
use serde_json::{Value, json};

use super::table::{Law, thresholds};
use super::{GaussianSampler, Seed, Variance, gaussian_vector};
use crate::exact::{DIGITS, Probability, WORDS};
use crate::testing::Scripted;

const VARIANCES: [(u64, u64); 11] = [
    (1, 1),
    (3, 1),
    (255, 1),
    (256, 1),
    (257, 1),
    (1_000_000, 1),
    (1 << 40, 1),
    (7, 2),
    (1, 5),
    (2_000_003, 7),
    (1, 1 << 40),
];
const CELLS: usize = 32;

/// Written anew with COHORTIUM_WRITE_VECTORS=1, compared otherwise.
#[test]
fn noise_is_that_of_the_vectors() {
    let streams = [narrow_streams(), wide_streams()].concat();
    let found = json!({
        "about": "Seeded noise vectors and single draws from given words, as docs/spec/noise.md has them. Words are \
            hexadecimal 64-bit numbers; `read` is how many of them the draw takes.",
        "seeded": seeded_vectors(),
        "streams": streams,
    });
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/data/vectors/noise.json");
    if std::env::var_os("COHORTIUM_WRITE_VECTORS").is_some() {
        std::fs::write(path, serde_json::to_string_pretty(&found).unwrap() + "\n").unwrap();
    }
    let expected: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(found == expected, "seeded noise has changed: that breaks the wire format");
}

fn seeded_vectors() -> Vec<Value> {
    let seeds: [[u8; 32]; 3] = [[0; 32], core::array::from_fn(|i| i as u8), [0xa5; 32]];
    let vector = |seed: &[u8; 32], (num, den): (u64, u64)| {
        let variance = Variance::ratio(num, den).unwrap();
        json!({
            "seed": seed.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
            "variance": format!("{num}/{den}"),
            "noise": gaussian_vector(&Seed::from_bytes(*seed), variance, CELLS).unwrap(),
        })
    };
    seeds.iter().flat_map(|seed| VARIANCES.iter().map(move |v| vector(seed, *v))).collect()
}

/// Words that agree with a threshold for one, two, … all five words, then fall below or above it.
fn narrow_streams() -> Vec<Value> {
    let (_, thresholds) = thresholds(Law::Gaussian { num: 3, den: 1 });
    let mut streams = Vec::new();
    for place in [0, 3, 20] {
        for (name, words) in around(&words_of(&thresholds[place])) {
            streams.push(stream(&format!("threshold {place}, {name}"), (3, 1), words));
        }
    }
    streams.push(stream("all ones", (3, 1), vec![u64::MAX; WORDS]));
    streams.push(stream("all zeros", (3, 1), vec![0; WORDS]));
    streams
}

fn wide_streams() -> Vec<Value> {
    // σ² = 257: k = 2, and the table is of variance 257/4.
    let (_, thresholds) = thresholds(Law::HalfGaussian { num: 257, den: 4 });
    let above = words_of(&thresholds[4])[0] + 2;
    let mut streams = Vec::new();
    for (name, mut words) in around(&words_of(&thresholds[4])) {
        words.extend([1 << 63 | 1, 0]);
        streams.push(stream(&format!("base, threshold 4, {name}"), (257, 1), words));
    }
    // x = 5 and y = 1: exponent 1·(1 + 2·2·5)/(2·257). After a refusal all is zero.
    let keep = Probability::exp_neg(&UBig::from(21u8), &UBig::from(514u16));
    for (name, decided) in around(&words_of(&keep.to_bits())) {
        let words = [vec![above, 1], decided, vec![0, 0, 0]].concat();
        streams.push(stream(&format!("keep, {name}"), (257, 1), words));
    }
    streams.push(stream("negative zero, then a positive one", (257, 1), vec![0, 1 << 63, 0, 0, 0, 7]));
    streams.push(stream("certain to be kept", (257, 1), vec![above, 1 << 63, u64::MAX]));
    streams.push(stream("middle bits of the second word are ignored", (257, 1), vec![above, (u64::MAX >> 1) - 1, 0]));
    streams.push(stream("all ones in the table, then zeros", (257, 1), [vec![u64::MAX; WORDS], vec![0; 3]].concat()));
    streams
}

/// The words themselves, and those that differ by one unit in one of them.
fn around(words: &[u64; WORDS]) -> Vec<(String, Vec<u64>)> {
    let mut variants = vec![("equal".to_owned(), words.to_vec())];
    for at in 0..WORDS {
        for (side, changed) in [("below", words[at].checked_sub(1)), ("above", words[at].checked_add(1))] {
            let Some(changed) = changed else { continue };
            let name = format!("{side} in word {}", at + 1);
            variants.push((name, [&words[..at], &[changed]].concat()));
        }
    }
    variants
}

fn stream(name: &str, (num, den): (u64, u64), words: Vec<u64>) -> Value {
    let mut script = Scripted::new([words.clone(), vec![0]].concat());
    let noise = GaussianSampler::new(Variance::ratio(num, den).unwrap()).draw(&mut script);
    assert!(script.read() <= words.len(), "{name} wants more words");
    json!({
        "name": name,
        "variance": format!("{num}/{den}"),
        "words": words.iter().map(|word| format!("{word:016x}")).collect::<Vec<_>>(),
        "noise": noise,
        "read": script.read(),
    })
}

fn words_of(threshold: &UBig) -> [u64; WORDS] {
    core::array::from_fn(|i| (threshold >> (DIGITS - 64 * (i + 1))) & u64::MAX)
}
