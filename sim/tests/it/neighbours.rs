//! Neighbours: two worlds of one seed, in the second of which one hospital has one person more. Everything that the hub
//! is given or stores is the same, message for message and byte for byte, but for what is listed here by name.
//!
//! Both worlds draw the same noise and masks, so this shows exactly what depends on rows at all: the one hospital's
//! masked vector, the salted commitment to its rows, the noised total, and what is hashed or signed over these. That
//! the masked vector looks uniform and the total is noised enough are other rooms' promises.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use cohortium_sim::people::patients;
use cohortium_sim::{Seen, World};
use data_encoding::BASE64;
use serde_json::Value;

use crate::common::{QUESTION, config_of, demand_promises};

/// Everything in the hub's messages, records and files that may differ, and why. A place is named by the kind of the
/// innermost signed document and the field in it; `note` is a checkpoint, taken apart line by line.
const MAY_DIFFER: [(&str, &str); 21] = [
    ("masked-header sha256", "the hash of the masked vector"),
    ("record of tasks announced/b/sha256", "the same, in the hub's record of the task"),
    ("record of cosignatures ", "a witness's signature over the root"),
    ("offer snapshot", "the salted commitment to the rows"),
    ("entry fact/permit/snapshot", "the same, where the node says which rows it will read"),
    ("receipt snapshot", "the same, where it says which it has read"),
    ("receipt masked", "the hash of the masked vector"),
    ("release cells", "the noised total"),
    ("entry fact/release/body", "the hash of the release"),
    ("entry fact/release/release", "the hash of the release"),
    ("offer signature", "over the commitment"),
    ("entry signature", "over the above"),
    ("masked-header signature", "over the above"),
    ("receipt signature", "over the above"),
    ("release signature", "over the above"),
    ("request signature", "over the above"),
    ("note root", "the log's root, which hashes the entries"),
    ("note signature", "over the root"),
    ("request call/post/step/cosigned/lines", "a witness's signature over the root"),
    ("hash of the log", "a proof or a tile: hashes over the entries"),
    ("file name of a body", "the hash of the release"),
];

#[test]
fn one_person_more_changes_only_what_is_listed() {
    const SEED: u64 = 701;
    let tell = |more: usize| {
        let people = [patients(SEED, "a", 40), patients(SEED, "b", 40 + more), patients(SEED, "c", 40)];
        let mut world = World::new(config_of(SEED, people)).unwrap();
        let first = world.ask(QUESTION, "1").unwrap();
        world.ask("SELECT COUNT(*) AS n FROM heart WHERE age > 30", "1").unwrap();
        // A question that is refused, and one that ends in a void round.
        let refused = world.prepare("SELECT COUNT(*) AS n FROM heart", "500", 0).unwrap();
        world.ask_prepared(&refused).err().unwrap();
        demand_promises(&world);
        (world, first.cells)
    };
    let ((one, cells), (other, more_cells)) = (tell(0), tell(1));
    let mut found = BTreeSet::new();
    compare_wires(&one, &other, &mut found);
    compare_records(&one, &other, &mut found);
    compare_files(&one.hub.log_dir(), &other.hub.log_dir(), &mut found);
    let listed: BTreeSet<String> = MAY_DIFFER.iter().map(|(place, _)| (*place).to_owned()).collect();
    assert_eq!(found, listed, "left: what differs; right: what is listed");

    // The same noise in both worlds: what is left between the totals is the one person, in the cells of one group.
    let person = patients(SEED, "b", 41).pop().unwrap();
    let changed: Vec<usize> = (0..cells.len()).filter(|cell| cells[*cell] != more_cells[*cell]).collect();
    let per_group = cells.len() / 2;
    let group = usize::from(person.sex == "m");
    assert!(!changed.is_empty() && changed.iter().all(|cell| cell / per_group == group), "{changed:?}");
}

/// The same requests in the same order from the same senders, of the same sizes; vectors differ at one hospital only.
fn compare_wires(one: &World, other: &World, found: &mut BTreeSet<String>) {
    assert_eq!(one.wire.seen.len(), other.wire.seen.len());
    let mut vectors: BTreeMap<String, bool> = BTreeMap::new();
    for (a, b) in one.wire.seen.iter().zip(&other.wire.seen) {
        match (a, b) {
            (Seen::Request { bytes: a, from: x, .. }, Seen::Request { bytes: b, from: y, .. }) => {
                assert_eq!((x, a.len()), (y, b.len()));
                compare_bytes(a, b, "request", found);
            }
            (Seen::Vector { bytes: a, from: x, .. }, Seen::Vector { bytes: b, from: y, .. }) => {
                assert_eq!((x, a.len()), (y, b.len()));
                *vectors.entry(x.to_string()).or_default() |= a != b;
            }
            _ => panic!("a request in one world is a vector in the other"),
        }
    }
    let changed: Vec<(&str, bool)> = vectors.iter().map(|(name, changed)| (name.as_str(), *changed)).collect();
    assert_eq!(changed, [("a", false), ("b", true), ("c", false)]);
}

/// The same records under the same keys, of the same sizes.
fn compare_records(one: &World, other: &World, found: &mut BTreeSet<String>) {
    let (one, other) = (one.hub.disk.dump().unwrap(), other.hub.disk.dump().unwrap());
    assert!(one.keys().eq(other.keys()));
    for ((key, a), b) in one.iter().zip(other.values()) {
        assert_eq!(a.len(), b.len());
        compare_bytes(a, b, &format!("record of {}", key.split('/').next().unwrap()), found);
    }
}

/// The same files, of the same sizes.
fn compare_files(one: &Path, other: &Path, found: &mut BTreeSet<String>) {
    let (one, other) = (files(one, ""), files(other, ""));
    let shape = |files: &BTreeMap<String, Vec<u8>>| {
        let place = |name: &str| if name.starts_with("body/") { String::from("body") } else { name.to_owned() };
        let mut shape: Vec<(String, usize)> = files.iter().map(|(name, bytes)| (place(name), bytes.len())).collect();
        shape.sort();
        shape
    };
    assert_eq!(shape(&one), shape(&other));
    for (name, a) in &one {
        match other.get(name) {
            None => found.insert(String::from("file name of a body")),
            Some(b) if a == b => false,
            Some(b) if name == "checkpoint" => {
                compare(&text(a).unwrap().into(), &text(b).unwrap().into(), "", "", found);
                false
            }
            Some(b) if name.starts_with("tile/entries/") => {
                bundle(a).iter().zip(bundle(b)).for_each(|(a, b)| compare_bytes(a, b, "leaf", found));
                false
            }
            Some(_) => found.insert(String::from("hash of the log")),
        };
    }
}

/// Compares two records: JSON structurally, a checkpoint line by line; other bytes must be equal.
fn compare_bytes(a: &[u8], b: &[u8], kind: &str, found: &mut BTreeSet<String>) {
    if a == b {
        return;
    }
    match (serde_json::from_slice::<Value>(a), serde_json::from_slice::<Value>(b)) {
        (Ok(a), Ok(b)) => compare(&a, &b, kind, "", found),
        _ => compare(&text(a).unwrap().into(), &text(b).unwrap().into(), kind, "", found),
    }
}

/// Adds the place of every difference. `kind` is the innermost signed document, `place` the way from there.
fn compare(a: &Value, b: &Value, kind: &str, place: &str, found: &mut BTreeSet<String>) {
    if a == b {
        return;
    }
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            assert!(x.keys().eq(y.keys()), "{kind} {place}");
            if let (Some((kind, p)), Some((_, q))) = (opened(a), opened(b)) {
                compare(&p, &q, &kind, "", found);
                if x["signatures"] != y["signatures"] {
                    found.insert(format!("{kind} signature"));
                }
                return;
            }
            for ((key, a), b) in x.iter().zip(y.values()) {
                let place = if place.is_empty() { key.clone() } else { format!("{place}/{key}") };
                compare(a, b, kind, &place, found);
            }
        }
        (Value::Array(x), Value::Array(y)) => {
            assert_eq!(x.len(), y.len(), "{kind} {place}");
            x.iter().zip(y).for_each(|(a, b)| compare(a, b, kind, place, found));
        }
        (Value::String(x), Value::String(y)) if x.starts_with("hub\n") => compare_notes(x, y, found),
        (Value::String(x), Value::String(y)) => {
            assert_eq!(x.len(), y.len(), "{kind} {place}");
            let is_proof = place.ends_with("consistency") || place.ends_with("path");
            found.insert(if is_proof { String::from("hash of the log") } else { format!("{kind} {place}") });
        }
        _ => panic!("{kind} {place}: {a} became {b}"),
    }
}

/// A checkpoint: origin and size are the same, the root and what is signed over it may differ.
fn compare_notes(a: &str, b: &str, found: &mut BTreeSet<String>) {
    let (a, b): (Vec<&str>, Vec<&str>) = (a.lines().collect(), b.lines().collect());
    assert_eq!((a.len(), a[0], a[1]), (b.len(), b[0], b[1]));
    for (a, b) in a.iter().zip(&b).skip(2).filter(|(a, b)| a != b) {
        assert_eq!(a.len(), b.len());
        let is_signature = a.starts_with('\u{2014}');
        found.insert(String::from(if is_signature { "note signature" } else { "note root" }));
    }
}

/// The kind and the payload of a signed document.
fn opened(value: &Value) -> Option<(String, Value)> {
    let kind = value.get("payloadType")?.as_str()?;
    let (kind, _version) = kind.strip_prefix("application/vnd.cohortium.")?.strip_suffix("+json")?.rsplit_once(".v")?;
    let payload = BASE64.decode(value.get("payload")?.as_str()?.as_bytes()).ok()?;
    Some((kind.to_owned(), serde_json::from_slice(&payload).ok()?))
}

/// The entries of a bundle: each after its length in two bytes.
fn bundle(mut bytes: &[u8]) -> Vec<&[u8]> {
    let mut entries = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let (entry, rest) = rest.split_at(usize::from(u16::from_be_bytes(*length)));
        entries.push(entry);
        bytes = rest;
    }
    entries
}

fn files(dir: &Path, prefix: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{prefix}{}", entry.file_name().to_str().unwrap());
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path(), &format!("{name}/")));
        } else {
            found.insert(name, std::fs::read(entry.path()).unwrap());
        }
    }
    found
}

fn text(bytes: &[u8]) -> Result<String, std::string::FromUtf8Error> {
    String::from_utf8(bytes.to_vec())
}
