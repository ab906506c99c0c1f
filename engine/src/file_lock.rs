//! One process at a time changes a file: a lock on an empty file beside it, `.NAME.lock`, which stays.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Result as IoResult};
use std::path::Path;

use crate::atomic_file::resolved;
use crate::error::{AtPath, Result};

/// Waits until no other process holds the lock of a file; `waits` is called when one does. The lock is held until the result
/// is dropped.
///
/// # Errors
/// When the folder of the file cannot be written to.
pub fn lock(path: &Path, waits: impl FnOnce()) -> Result<File> {
    let target = resolved(path).at(path)?;
    let mut name = std::ffi::OsString::from(".");
    name.push(target.file_name().unwrap_or_default());
    name.push(".lock");
    let beside = target.with_file_name(name);
    let file = File::options().create(true).append(true).open(&beside).at(&beside)?;
    acquire(&file, waits).at(&beside)?;
    Ok(file)
}

fn acquire(file: &File, waits: impl FnOnce()) -> IoResult<()> {
    let outcome = match file.try_lock() {
        Err(TryLockError::WouldBlock) => {
            waits();
            file.lock()
        }
        Err(TryLockError::Error(e)) => Err(e),
        Ok(()) => Ok(()),
    };
    match outcome {
        // A file system without locks: as good as it gets.
        Err(e) if e.kind() == ErrorKind::Unsupported => Ok(()),
        outcome => outcome,
    }
}
