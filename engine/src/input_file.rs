//! Files that are read: regular ones, since a pipe would be waited on forever and a device need not end; and no text that
//! is longer than settings can be.

use std::fs::File;
use std::io::{Error as IoError, Read};
use std::path::Path;

use crate::error::{AtPath, Result};

/// Longest text that is read: settings, thresholds, keys. In bytes.
const TEXT_LIMIT: u64 = 16 << 20;

/// Opens a regular file.
///
/// # Errors
/// When it is missing or something else; names it.
pub fn open(path: &Path) -> Result<File> {
    check(path)?;
    File::open(path).at(path)
}

/// Refuses what is no regular file.
///
/// # Errors
/// When it is missing or something else; names it.
pub fn check(path: &Path) -> Result<()> {
    if std::fs::metadata(path).at(path)?.is_file() {
        return Ok(());
    }
    Err(IoError::other("not a regular file but a folder, pipe, socket or device; name a file")).at(path)
}

/// The bytes of a regular file.
///
/// # Errors
/// As [`open`].
pub fn read(path: &Path) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.read_to_end(&mut bytes).at(path)?;
    Ok(bytes)
}

/// The text of a regular file.
///
/// # Errors
/// As [`open`], and when it is longer than 16 MiB or not UTF-8.
pub fn text(path: &Path) -> Result<String> {
    let mut text = String::new();
    let length = open(path)?.take(TEXT_LIMIT + 1).read_to_string(&mut text).at(path)?;
    if length as u64 > TEXT_LIMIT {
        return Err(IoError::other("longer than 16 MiB; this is no text of settings")).at(path);
    }
    Ok(text)
}
