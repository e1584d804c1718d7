//! Files that appear whole or not at all, and a directory listing that hides nothing.
//!
//! A file is written under a temporary name in `.staging`, flushed, and renamed to its place; the directory that received
//! it is flushed last. A crash before the rename leaves a temporary file (cleared when the directory is next opened for
//! writing); a crash after it leaves the new file. There is never half a file under a real name.
//!
//! Files that appear together are all written before the first is flushed, all flushed before the first is renamed, and
//! all renamed before the first directory is flushed. The flushes of one phase run at once, on threads: a disk takes
//! several at once for little more than the price of one, and in a log that is what a batch costs.
//! (`cargo xtask bench log`; on a disk that takes 4 ms for a flush, a batch of 64 entries took 40 to 48 ms with one
//! flush after the other and takes 20 to 28.)
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

/// Most files that are open and flushed at once.
const FILES_AT_ONCE: usize = 16;

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

/// A thing done to the disk: a verb and a path.
#[cfg(test)]
type Done = (&'static str, PathBuf);

/// A directory this process writes.
pub(crate) struct Files {
    root: PathBuf,
    /// In tests, the number of steps after which the machine crashes.
    #[cfg(test)]
    pub(crate) steps_left: Option<std::sync::Arc<std::sync::atomic::AtomicU64>>,
    /// In tests, what was done, in order.
    #[cfg(test)]
    pub(crate) done: Option<std::sync::Arc<std::sync::Mutex<Vec<Done>>>>,
}

impl Files {
    /// A handle; touches nothing yet.
    pub(crate) fn new(root: &Path) -> Files {
        Files {
            root: root.to_owned(),
            #[cfg(test)]
            steps_left: None,
            #[cfg(test)]
            done: None,
        }
    }

    /// Makes the directory if it is missing and clears what a crash left waiting.
    pub(crate) fn prepare(&self) -> Result<(), FileError> {
        let mut touched = BTreeSet::new();
        self.make_dir(&self.root.join(STAGING), &mut touched).map_err(at(STAGING))?;
        for waiting in fs::read_dir(self.root.join(STAGING)).map_err(at(STAGING))? {
            waiting.and_then(|file| fs::remove_file(file.path())).map_err(at(STAGING))?;
        }
        // A process may have died between renaming the checkpoint and flushing the directory. What we are about to read
        // must be durable before anything is removed on the strength of it.
        touched.insert(self.root.clone());
        self.flush_dirs(&touched)
    }

    /// Puts all files in their places, each whole, and every group before the next one; durable when this returns. A crash
    /// in between leaves some of them, and of a group nothing unless all groups before it are durable.
    pub(crate) fn write(&self, groups: &[&[(String, Vec<u8>)]]) -> Result<(), FileError> {
        let mut number = 0;
        for files in groups.iter().flat_map(|group| group.chunks(FILES_AT_ONCE)) {
            let mut written = Vec::new();
            for (file, bytes) in files {
                written.push((file.clone(), self.put(&self.waiting(number), bytes).map_err(at(file))?));
                number += 1;
            }
            self.flush(&written)?;
        }
        // All contents are durable under temporary names; nothing of it is visible.
        let mut number = 0;
        for group in groups {
            let mut touched = BTreeSet::new();
            for (file, _) in *group {
                let target = self.root.join(file);
                let parent = target.parent().unwrap_or(&self.root).to_owned();
                self.make_dir(&parent, &mut touched).map_err(at(file))?;
                self.step("rename", &target)
                    .and_then(|()| fs::rename(self.waiting(number), &target))
                    .map_err(at(file))?;
                number += 1;
                touched.insert(parent);
            }
            self.flush_dirs(&touched)?;
        }
        Ok(())
    }

    /// Removes a file and its directory if that is empty now. A file that is not there is fine: the aim is reached.
    pub(crate) fn remove(&self, file: &str) -> Result<(), FileError> {
        let path = self.root.join(file);
        self.step("remove", &path).map_err(at(file))?;
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

    /// Flushes names, not contents. Only unix has this; elsewhere a rename is as durable as the system makes it.
    fn flush_dirs(&self, directories: &BTreeSet<PathBuf>) -> Result<(), FileError> {
        if cfg!(not(unix)) {
            return Ok(());
        }
        let open = |directory: &PathBuf| {
            let name = directory.display().to_string();
            File::open(directory).map(|handle| (name.clone(), handle)).map_err(at(&name))
        };
        self.flush(&directories.iter().map(open).collect::<Result<Vec<_>, _>>()?)
    }

    /// Makes files or directories durable, several at once. On an error some may be and others not.
    fn flush(&self, handles: &[(String, File)]) -> Result<(), FileError> {
        for group in handles.chunks(FILES_AT_ONCE) {
            group.iter().try_for_each(|(name, _)| self.step("flush", &self.root.join(name)).map_err(at(name)))?;
            let Some(((first, handle), rest)) = group.split_first() else { continue };
            std::thread::scope(|scope| {
                let others: Vec<_> =
                    rest.iter().map(|(name, handle)| (name, scope.spawn(|| handle.sync_all()))).collect();
                let own = handle.sync_all().map_err(at(first));
                others.into_iter().fold(own, |done, (name, other)| {
                    let flushed = other.join().unwrap_or_else(|_| Err(io::Error::other("a flush did not end")));
                    done.and(flushed.map_err(at(name)))
                })
            })?;
        }
        Ok(())
    }

    /// A file with these bytes, not flushed.
    fn put(&self, path: &Path, bytes: &[u8]) -> io::Result<File> {
        self.step("begin", path)?;
        let mut file = File::create(path)?;
        let (first, second) = bytes.split_at(bytes.len() / 2);
        file.write_all(first)?;
        self.step("go on", path)?;
        file.write_all(second)?;
        Ok(file)
    }

    /// The temporary name of the file with this number among those that are written together.
    fn waiting(&self, number: usize) -> PathBuf {
        self.root.join(STAGING).join(number.to_string())
    }

    /// Makes a directory and all above it, and notes in which directories a name was added: they must be flushed.
    fn make_dir(&self, directory: &Path, touched: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            self.make_dir(parent, touched)?;
            touched.insert(parent.to_owned());
        }
        self.step("make", directory)?;
        match fs::create_dir(directory) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// Before each thing that is done to the disk. Does nothing, except in tests that watch, or end the world here.
    fn step(&self, what: &'static str, path: &Path) -> io::Result<()> {
        #[cfg(test)]
        if let Some(left) = &self.steps_left {
            use std::sync::atomic::Ordering::SeqCst;
            if left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_err() {
                return Err(io::Error::other("simulated crash"));
            }
        }
        #[cfg(test)]
        if let Some(done) = &self.done {
            done.lock().unwrap().push((what, path.to_owned()));
        }
        let _ = (what, path);
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
