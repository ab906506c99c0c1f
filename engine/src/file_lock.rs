//! One process at a time changes a file: a lock on an empty file beside it, `.NAME.lock`, which stays.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Result as IoResult};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::atomic_file::resolved;
use crate::error::{AtPath, Result};
use crate::interrupt;

/// How often a lock is asked for that another process holds.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Waits until no other process holds the lock of a file; `waits` is called when one does. The lock is held until the result
/// is dropped.
///
/// # Errors
/// When the folder of the file cannot be written to, or [`crate::Error::Interrupted`].
pub fn lock(path: &Path, waits: impl FnOnce()) -> Result<File> {
    let beside = lock_path(path)?;
    let file = open(&beside)?;
    if !try_acquire(&file).at(&beside)? {
        waits();
        while !try_acquire(&file).at(&beside)? {
            interrupt::check()?;
            std::thread::sleep(POLL_INTERVAL);
        }
    }
    Ok(file)
}

/// The lock of a file, held until the result is dropped; `None` while another process holds it.
///
/// # Errors
/// When the folder of the file cannot be written to.
pub fn try_lock(path: &Path) -> Result<Option<File>> {
    let beside = lock_path(path)?;
    let file = open(&beside)?;
    // Another that only looked whether it is held lets go of it at once.
    let had = try_acquire(&file).at(&beside)? || {
        std::thread::sleep(POLL_INTERVAL);
        try_acquire(&file).at(&beside)?
    };
    Ok(had.then_some(file))
}

/// Whether another process holds the lock of a file; writes nothing.
pub fn is_locked(path: &Path) -> bool {
    let file = lock_path(path).ok().and_then(|beside| File::open(beside).ok());
    file.is_some_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
}

/// The file that a lock is on.
fn lock_path(path: &Path) -> Result<PathBuf> {
    let target = resolved(path).at(path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    Ok(target.with_file_name(name))
}

fn open(beside: &Path) -> Result<File> {
    File::options().create(true).append(true).open(beside).at(beside)
}

/// Whether the lock of a file was had.
fn try_acquire(file: &File) -> IoResult<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        // A file system without locks: as good as it gets.
        Err(TryLockError::Error(e)) if e.kind() == ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}
