//! Where a training run keeps what it has reached.

use std::path::{Path, PathBuf};

use hotad_engine::beside::beside;
use hotad_engine::{AtPath, Result};

/// The stages of a run that have a checkpoint of their own.
pub mod stage {
    /// The colour network of LEA-Net.
    pub const COLOUR: &str = "color";
    /// Those that have not seen a part of the images, which make the maps of that part.
    pub const COLOUR_PARTS: [&str; 5] = ["color-1", "color-2", "color-3", "color-4", "color-5"];
    /// One of the networks that a cross-validation compares.
    pub const NETWORK: &str = "network";
    /// The autoencoder that gives features where there is no backbone.
    pub const BACKBONE: &str = "backbone";
    /// The generative network of f-AnoGAN.
    pub const GENERATOR: &str = "generator";
    /// All of them.
    pub fn all() -> impl Iterator<Item = &'static str> {
        [COLOUR, NETWORK, BACKBONE, GENERATOR].into_iter().chain(COLOUR_PARTS)
    }
}

/// The place of a checkpoint, of a whole run or of a stage.
pub(super) fn checkpoint(model: &Path, stage: Option<&str>) -> PathBuf {
    beside(model, &format!("{}.checkpoint", ending(stage)))
}

/// What tells the files of a stage apart.
pub(super) fn ending(stage: Option<&str>) -> String {
    stage.map(|s| format!(".{s}")).unwrap_or_default()
}

/// The checkpoints of a training of `model` that are there. They stay until its result is where it belongs.
pub fn checkpoints(model: &Path) -> Vec<PathBuf> {
    let stages = stage::all().map(Some);
    let all = std::iter::once(None).chain(stages).map(|stage| checkpoint(model, stage));
    all.filter(|path| path.exists()).collect()
}

/// Removes them.
///
/// # Errors
/// I/O errors, with the path.
pub fn remove_checkpoints(model: &Path) -> Result<()> {
    checkpoints(model).iter().try_for_each(|path| std::fs::remove_file(path).at(path))
}
