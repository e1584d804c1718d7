//! Files that belong to their owner alone, written whole or not at all: keys, invitations, configuration.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts the writes of this process.
static WRITES: AtomicU64 = AtomicU64::new(0);

/// Writes `bytes` to `path`, readable by its owner only (mode 0600). When this returns the file is on the disk; a crash
/// before leaves the old file, or none.
///
/// # Errors
/// When the folder cannot be written. The operator must act.
pub fn write_private(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let name = path.file_name().ok_or_else(|| std::io::Error::other("the path names no file"))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    // A name of its own: two writers at once each write a whole file, and the last one stays.
    let number = WRITES.fetch_add(1, Ordering::Relaxed);
    let staged = folder.join(format!(".{}.{}-{number}.new", name.to_string_lossy(), std::process::id()));
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&staged)?;
    #[cfg(unix)]
    file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    file.write_all(bytes)?;
    file.sync_all()?;
    std::fs::rename(&staged, path)?;
    File::open(folder)?.sync_all()
}

/// Makes a folder, and those above it, that only its owner may enter.
///
/// # Errors
/// When it cannot be made. The operator must act.
pub fn make_private_folder(path: &Path) -> std::io::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}
