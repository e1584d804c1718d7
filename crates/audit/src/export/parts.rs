//! The files of a crate while they are collected: bytes, and what each of them is.

use std::collections::BTreeMap;

use cohortium_messages::Hash;

/// Media types of what a crate holds.
pub(crate) const DSSE: &str = "application/vnd.dsse.envelope.v1+json";
pub(crate) const HTML: &str = "text/html";
pub(crate) const JSON: &str = "application/json";
pub(crate) const SQL: &str = "application/sql";
pub(crate) const TEXT: &str = "text/plain";

/// A file of the crate.
pub(crate) struct Part {
    pub bytes: Vec<u8>,
    /// Its media type.
    pub encoding: &'static str,
    /// What it is, in words.
    pub name: String,
}

/// The files, by their paths in the crate.
#[derive(Default)]
pub(crate) struct Parts(pub BTreeMap<String, Part>);

impl Parts {
    /// Adds a file.
    pub(crate) fn put(&mut self, path: &str, name: &str, encoding: &'static str, bytes: Vec<u8>) {
        self.0.insert(path.to_owned(), Part { bytes, encoding, name: name.to_owned() });
    }

    /// SHA-256 of a file that is there.
    pub(crate) fn sha256(&self, path: &str) -> Option<Hash> {
        self.0.get(path).map(|part| Hash::of(&part.bytes))
    }

    /// The paths that begin so.
    pub(crate) fn under<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.keys().map(String::as_str).filter(move |path| path.starts_with(prefix))
    }
}
