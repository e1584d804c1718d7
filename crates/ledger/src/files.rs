//! Files that appear whole or not at all, and a directory listing that hides nothing.
//!
//! A file is written under a temporary name in `.staging`, flushed, and renamed to its place; the directory that received
//! it is flushed last. A crash before the rename leaves a temporary file (cleared when the directory is next opened for
//! writing); a crash after it leaves the new file. There is never half a file under a real name.
//!
//! What it does not do: locking. One writer per directory is ensured by the record store that belongs to it.
//!
//! Adversary: directories handed to an auditor. Reading is bounded, and a listing fails on anything that is neither a
//! plain file nor a directory, so that a link cannot stand in for content.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

/// Where files wait for their rename. On the same file system as their target, because it is in the same directory.
const STAGING: &str = ".staging";

/// Most files in a log directory: more than 2^30 entries need.
const FILES_MAX: usize = 10_000_000;

/// What went wrong with which file (relative to the log's directory).
#[derive(Debug, thiserror::Error)]
#[error("operator: {file}: {source}")]
pub struct FileError {
    /// Path relative to the log's directory.
    pub file: String,
    /// What the operating system said.
    pub source: io::Error,
}

/// A directory this process writes.
pub(crate) struct Files {
    root: PathBuf,
    /// In tests, the number of steps after which the machine crashes.
    #[cfg(test)]
    pub(crate) steps_left: Option<std::sync::Arc<std::sync::atomic::AtomicU64>>,
}

impl Files {
    /// A handle; touches nothing yet.
    pub(crate) fn new(root: &Path) -> Files {
        Files {
            root: root.to_owned(),
            #[cfg(test)]
            steps_left: None,
        }
    }

    /// Makes the directory if it is missing and clears what a crash left waiting.
    pub(crate) fn prepare(&self) -> Result<(), FileError> {
        self.make_dir(&self.root.join(STAGING)).map_err(at(STAGING))?;
        for waiting in fs::read_dir(self.root.join(STAGING)).map_err(at(STAGING))? {
            waiting.and_then(|file| fs::remove_file(file.path())).map_err(at(STAGING))?;
        }
        // A process may have died between renaming the checkpoint and flushing the directory. What we are about to read
        // must be durable before anything is removed on the strength of it.
        sync_dir(&self.root).map_err(at(STAGING))
    }

    /// Puts all files in their places, each whole; durable when this returns. A crash in between leaves some of them.
    pub(crate) fn write(&self, files: &[(String, Vec<u8>)]) -> Result<(), FileError> {
        let mut touched = BTreeSet::new();
        for (file, bytes) in files {
            let target = self.root.join(file);
            let parent = target.parent().unwrap_or(&self.root).to_owned();
            self.make_dir(&parent).and_then(|()| self.put(&target, bytes)).map_err(at(file))?;
            touched.insert(parent);
        }
        for directory in touched {
            self.step().and_then(|()| sync_dir(&directory)).map_err(at(&directory.display().to_string()))?;
        }
        Ok(())
    }

    /// Removes a file and its directory if that is empty now. A file that is not there is fine: the aim is reached.
    pub(crate) fn remove(&self, file: &str) -> Result<(), FileError> {
        let path = self.root.join(file);
        self.step().map_err(at(file))?;
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(file)(error)),
            _ => {}
        }
        // Fails when other files are left in it, which is not an error; an empty directory left by a crash is harmless.
        let _ = path.parent().map(fs::remove_dir);
        Ok(())
    }

    /// The file's bytes, or `None` if there is no such file.
    pub(crate) fn read(&self, file: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
        read(&self.root, file, bytes_max)
    }

    /// All files, as paths relative to the directory.
    pub(crate) fn list(&self) -> Result<BTreeSet<String>, FileError> {
        list(&self.root)
    }

    fn put(&self, target: &Path, bytes: &[u8]) -> io::Result<()> {
        let waiting = self.root.join(STAGING).join("next");
        self.step()?;
        let mut file = File::create(&waiting)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        self.step()?;
        file.write_all(second)?;
        file.sync_all()?;
        self.step()?;
        fs::rename(&waiting, target)?;
        self.step()
    }

    /// Makes a directory and all above it, each flushed into its parent.
    fn make_dir(&self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_dir(parent)?;
        }
        self.step()?;
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            _ => {}
        }
        directory.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), sync_dir)
    }

    /// Between any two durable steps. Does nothing, except in tests that end the world here.
    fn step(&self) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = &self.steps_left {
            use std::sync::atomic::Ordering::SeqCst;
            if left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
                return Err(io::Error::other("simulated crash"));
            }
        }
        Ok(())
    }
}

/// The bytes of a file below `root`, refused when longer than `bytes_max`; `None` if there is no such file.
pub(crate) fn read(root: &Path, file: &str, bytes_max: u64) -> Result<Option<Vec<u8>>, FileError> {
    let opened = match File::open(root.join(file)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(at(file))?,
    };
    let mut bytes = Vec::new();
    let length = opened.take(bytes_max.saturating_add(1)).read_to_end(&mut bytes).map_err(at(file))?;
    if u64::try_from(length).is_ok_and(|length| length <= bytes_max) {
        return Ok(Some(bytes));
    }
    Err(at(file)(io::Error::new(io::ErrorKind::InvalidData, format!("longer than {bytes_max} bytes"))))
}

/// All files below `root`, as relative paths with `/`.
pub(crate) fn list(root: &Path) -> Result<BTreeSet<String>, FileError> {
    let mut files = BTreeSet::new();
    let mut waiting = vec![String::new()];
    while let Some(directory) = waiting.pop() {
        for found in fs::read_dir(root.join(&directory)).map_err(at(&directory))? {
            let found = found.map_err(at(&directory))?;
            let name =
                found.file_name().into_string().map_err(|_| at(&directory)(odd("a file name that is not UTF-8")))?;
            let path = if directory.is_empty() { name } else { format!("{directory}/{name}") };
            let kind = found.file_type().map_err(at(&path))?;
            if kind.is_dir() {
                waiting.push(path);
            } else if kind.is_file() && files.len() < FILES_MAX {
                files.insert(path);
            } else {
                return Err(at(&path)(odd("neither a plain file nor a directory, or one file too many")));
            }
        }
    }
    Ok(files)
}

fn odd(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

fn at(file: &str) -> impl FnOnce(io::Error) -> FileError + '_ {
    move |source| FileError { file: file.to_owned(), source }
}

/// Flushes names, not contents. Only unix has this; elsewhere the rename is as durable as the system makes it.
fn sync_dir(directory: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(directory)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = directory;
    Ok(())
}
