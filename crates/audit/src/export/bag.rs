//! The bag around a crate: BagIt 1.0 (RFC 8493), with SHA-512 over every file, as the Five Safes profile demands.
//!
//! A bag's manifest is no signature: it finds accidents, and whoever writes down the manifest's own hash finds the rest.
//!
//! Durable steps: the payload, then `bagit.txt` and `bag-info.txt`, then the manifests. A crash before the last step leaves a
//! folder without a manifest of its tags, or without any, which no tool takes for a whole bag; nothing is ever written
//! over.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use cohortium_messages::{Hash, Timestamp};
use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha512};

use crate::export::ExportError;
use crate::export::parts::Parts;

/// Writes a bag into a new folder: how many files, its name for itself, and the SHA-512 of its manifest.
pub(crate) fn write(
    out: &Path,
    parts: Parts,
    release: Hash,
    at: Timestamp,
) -> Result<(u64, String, String), ExportError> {
    fs::create_dir(out).map_err(|error| folder(out, &error))?;
    let (mut manifest, mut bytes, mut files) = (String::new(), 0u64, 0u64);
    for (path, part) in &parts.0 {
        let path = format!("data/{path}");
        put(out, &path, &part.bytes)?;
        let _ = writeln!(manifest, "{}  {path}", sha512(&part.bytes));
        (bytes, files) = (bytes.saturating_add(part.bytes.len() as u64), files + 1);
    }
    let identifier = uuid(release);
    let date: String = at.to_string().chars().take(10).collect();
    let tags = [
        (
            "bag-info.txt",
            format!("Bagging-Date: {date}\nExternal-Identifier: {identifier}\nPayload-Oxum: {bytes}.{files}\n"),
        ),
        ("bagit.txt", String::from("BagIt-Version: 1.0\nTag-File-Character-Encoding: UTF-8\n")),
        ("manifest-sha512.txt", manifest.clone()),
    ];
    let mut tag_manifest = String::new();
    for (path, text) in &tags {
        put(out, path, text.as_bytes())?;
        let _ = writeln!(tag_manifest, "{}  {path}", sha512(text.as_bytes()));
    }
    put(out, "tagmanifest-sha512.txt", tag_manifest.as_bytes())?;
    Ok((files + 4, identifier, sha512(manifest.as_bytes())))
}

fn put(out: &Path, path: &str, bytes: &[u8]) -> Result<(), ExportError> {
    let file: PathBuf = out.join(path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent).map_err(|error| folder(parent, &error))?;
    }
    fs::write(&file, bytes).map_err(|error| folder(&file, &error))
}

fn folder(path: &Path, error: &std::io::Error) -> ExportError {
    ExportError::Folder { path: path.to_owned(), why: error.to_string() }
}

fn sha512(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha512::digest(bytes))
}

/// A UUID of version 8 (RFC 9562, section 5.8) from the first 128 bits of a hash: one release, one name.
fn uuid(hash: Hash) -> String {
    let mut digits: Vec<char> = hash.to_string().chars().take(32).collect();
    for (position, fixed) in [(12, '8'), (16, 'a')] {
        if let Some(digit) = digits.get_mut(position) {
            *digit = fixed;
        }
    }
    let groups = [(0, 8), (8, 4), (12, 4), (16, 4), (20, 12)];
    let group = |(from, length): (usize, usize)| digits.iter().skip(from).take(length).collect::<String>();
    format!("urn:uuid:{}", groups.map(group).join("-"))
}
