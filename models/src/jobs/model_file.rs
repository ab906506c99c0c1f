//! Model files that are changed in place, or written by a long training.

use std::fs::File;
use std::path::Path;

use hotad_engine::atomic_file::{check_writable, resolved};
use hotad_engine::error::shown;
use hotad_engine::file_lock::{is_locked, lock, try_lock};
use hotad_engine::observer::Observer;
use hotad_engine::signature::signature_of;
use hotad_engine::{AtPath, Error, Result};

use super::{Begin, check_result_file};
use crate::model::Model;

/// Keeps other processes from changing a model file between its reading and its writing, until the result is dropped.
///
/// # Errors
/// When the folder of the file cannot be written to.
pub fn lock_model(path: &Path, observer: &dyn Observer) -> Result<File> {
    lock(path, || observer.say(&format!("waiting for another hotad that changes {}", path.display())))
}

/// Keeps other processes from training to a file, whose checkpoints and log both would write, until the result is dropped.
///
/// # Errors
/// As [`check_free`], or when the folder of the file cannot be written to.
pub fn lock_result(out: &Path) -> Result<File> {
    try_lock(out)?.ok_or_else(|| taken(out))
}

/// Fails early where another process trains to a file or changes it.
///
/// # Errors
/// Names the file.
pub fn check_free(out: &Path) -> Result<()> {
    if is_locked(out) { Err(taken(out)) } else { Ok(()) }
}

fn taken(out: &Path) -> Error {
    Error::Config(format!("{}: another hotad is writing it; name another file or wait for its end", shown(out)))
}

/// Fails early where a changed model must not be written to `out`: the file itself may be changed, another one that is there not,
/// unless `force` says so.
///
/// # Errors
/// Names the file.
pub fn check_changed(model: &Path, out: &Path, force: bool) -> Result<()> {
    match is_same_file(model, out) {
        true => check_writable(resolved(out).at(out)?.parent().unwrap_or(Path::new("."))),
        // A checkpoint there is of no concern to it.
        false if force || !out.exists() => check_result_file(out, Begin::Over),
        false => check_result_file(out, Begin::Afresh),
    }
}

/// Whether two paths lead to one file that is there.
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// Writes a changed model; warns where the signature of the file is of the model as it was.
///
/// # Errors
/// I/O errors, with the path.
pub fn save_changed(model: &Model, path: &Path, observer: &dyn Observer) -> Result<()> {
    model.save(path)?;
    let signature = signature_of(path);
    if signature.exists() {
        observer.warn(&format!("{} is of the model as it was; sign it again", signature.display()));
    }
    Ok(())
}
