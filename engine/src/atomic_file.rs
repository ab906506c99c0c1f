//! Files that appear whole or not at all: written beside their place, then renamed.
//!
//! A link stays a link: what it leads to is replaced. A file that was there keeps its permissions, a new one has those that
//! the umask leaves. Until then a file is named `.hotad-*.tmp` and locked; one without a lock is of a process that was
//! killed, and the next process that writes into the folder removes it.

use std::collections::BTreeSet;
use std::fs::{File, Metadata, Permissions};
use std::io::{Error as IoError, ErrorKind, Result as IoResult, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use tempfile::{Builder, NamedTempFile};

use crate::error::{AtPath, Result};

/// Start of the name of a temporary file.
const PREFIX: &str = ".hotad-";
/// Its end.
const SUFFIX: &str = ".tmp";
/// Links that are followed one after another.
const LINKS: usize = 40;

/// Writes a file through `fill`; on any error nothing is left behind.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> IoResult<()>) -> Result<()> {
    write_with(path, public(), fill)
}

/// [`write()`]; a new file is readable by its owner alone.
///
/// # Errors
/// I/O errors, with the path.
pub fn write_private(path: &Path, fill: impl FnOnce(&mut dyn Write) -> IoResult<()>) -> Result<()> {
    write_with(path, None, fill)
}

/// Writes a file that gets these permissions when it is new, without any its owner's alone.
fn write_with(
    path: &Path,
    permissions: Option<Permissions>,
    fill: impl FnOnce(&mut dyn Write) -> IoResult<()>,
) -> Result<()> {
    let target = resolved(path).at(path)?;
    let old = std::fs::metadata(&target).ok();
    if old.as_ref().is_some_and(|old| !old.is_file()) {
        return Err(IoError::other("is there and no regular file; name another")).at(path);
    }
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    sweep_once(folder);
    let mut file = temporary(folder, permissions.filter(|_| old.is_none())).at(path)?;
    {
        let mut buffered = std::io::BufWriter::new(file.as_file_mut());
        fill(&mut buffered).at(path)?;
        buffered.flush().at(path)?;
    }
    file.as_file().sync_all().at(path)?;
    if let Some(old) = old {
        keep_access(file.as_file(), &old).at(path)?;
    }
    file.persist(&target).map_err(|e| e.error).at(path)?;
    Ok(())
}

/// Fails where no file could be written into a folder; an empty path is the current one.
///
/// # Errors
/// I/O errors, with the folder.
pub fn check_writable(folder: &Path) -> Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    Builder::new().prefix(PREFIX).suffix(SUFFIX).tempfile_in(folder).map(drop).map_err(|e| of_folder(&e)).at(folder)
}

/// An error about a temporary file as one about its folder.
fn of_folder(error: &IoError) -> IoError {
    match error.kind() {
        ErrorKind::NotFound => IoError::new(ErrorKind::NotFound, "there is no such folder; make it first"),
        kind => kind.into(),
    }
}

/// What a path leads to when its last part is a link, whether or not that is there.
///
/// # Errors
/// When links lead in a circle.
pub fn resolved(path: &Path) -> IoResult<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        match std::fs::read_link(&path) {
            Ok(to) => path = path.parent().unwrap_or(Path::new("")).join(to),
            // Not a link, or nothing there yet.
            Err(_) => return Ok(path),
        }
    }
    Err(IoError::other("too many links, one leading to another"))
}

/// The permissions of a new file, which the umask takes from; temporary files are private.
#[cfg(unix)]
fn public() -> Option<Permissions> {
    Some(std::os::unix::fs::PermissionsExt::from_mode(0o666))
}

#[cfg(not(unix))]
fn public() -> Option<Permissions> {
    None
}

/// A locked temporary file.
fn temporary(folder: &Path, permissions: Option<Permissions>) -> IoResult<NamedTempFile> {
    let mut builder = Builder::new();
    builder.prefix(PREFIX).suffix(SUFFIX);
    if let Some(permissions) = permissions {
        builder.permissions(permissions);
    }
    loop {
        let file = builder.tempfile_in(folder)?;
        // Where the file system knows no locks, nothing is removed either.
        let _ = file.as_file().lock();
        // Between the two, another process may have removed it as one that was left.
        if file.path().exists() {
            return Ok(file);
        }
    }
}

/// Removes what killed processes have left in a folder, when it is written to for the first time.
fn sweep_once(folder: &Path) {
    static SWEPT: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());
    if !SWEPT.lock().unwrap_or_else(PoisonError::into_inner).insert(folder.into()) {
        return;
    }
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(PREFIX) && name.ends_with(SUFFIX);
        if ours && entry.file_type().is_ok_and(|t| t.is_file()) {
            remove_if_left(&entry.path());
        }
    }
}

fn remove_if_left(path: &Path) {
    if let Ok(file) = File::open(path)
        && file.try_lock().is_ok()
    {
        let _ = std::fs::remove_file(path); // else it stays, as it has so far
    }
}

/// Gives a file the permissions of the one that it replaces, and its owner where that is allowed.
fn keep_access(file: &File, old: &Metadata) -> IoResult<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let _ = fchown(file, Some(old.uid()), Some(old.gid()));
    }
    file.set_permissions(old.permissions())
}
