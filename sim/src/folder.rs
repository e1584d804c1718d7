//! A folder of files that goes away with the world: snapshots of rows, logs, invitations.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::SimError;
use crate::world::broken;

/// A temporary folder, removed when dropped.
pub struct Folder {
    path: PathBuf,
}

/// Tells apart the folders of one process.
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Where there is one, files go to a file system in memory: the logs flush every file, and crashes of real disks are
/// not simulated here, so waiting for one would test nothing.
const IN_MEMORY: &str = "/dev/shm";

impl Folder {
    /// A fresh, empty folder.
    ///
    /// # Errors
    /// When the file system refuses.
    pub fn new() -> Result<Self, SimError> {
        let name = format!("cohortium-sim-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let in_memory = Path::new(IN_MEMORY).join(&name);
        if std::fs::create_dir(&in_memory).is_ok() {
            return Ok(Self { path: in_memory });
        }
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&path).map_err(broken)?;
        Ok(Self { path })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What cannot be removed is left to the operator of the machine; a test must not fail for it.
        let _ = std::fs::remove_dir_all(&self.path);
    }
}

/// Copies all files below `from` to the same places below `to`.
pub(crate) fn copy_files(from: &Path, to: &Path) -> Result<(), SimError> {
    std::fs::create_dir_all(to).map_err(broken)?;
    for entry in std::fs::read_dir(from).map_err(broken)? {
        let entry = entry.map_err(broken)?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(broken)?.is_dir() {
            copy_files(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target).map_err(broken)?;
        }
    }
    Ok(())
}
