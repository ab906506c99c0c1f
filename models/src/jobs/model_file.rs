//! Model files that are changed in place.

use std::fs::File;
use std::path::Path;

use hotad_engine::Result;
use hotad_engine::file_lock::lock;
use hotad_engine::observer::Observer;
use hotad_engine::signature::signature_of;

use crate::model::Model;

/// Keeps other processes from changing a model file between its reading and its writing, until the result is dropped.
///
/// # Errors
/// When the folder of the file cannot be written to.
pub fn lock_model(path: &Path, observer: &dyn Observer) -> Result<File> {
    lock(path, || observer.say(&format!("waiting for another hotad that changes {}", path.display())))
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
