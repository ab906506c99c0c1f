//! The backbone that is part of the program: a student of EfficientNet-Lite0 (weights/README.md says how it was made).

use std::path::Path;

use hotad_engine::{Result, container};

use super::file::{BackboneFile, KIND};

/// Name of its network.
pub const NAME: &str = "hotad-lite0";

/// The file.
const BYTES: &[u8] = include_bytes!("../../../../weights/hotad-lite0.safetensors");

/// What errors name.
pub(super) fn label() -> &'static Path {
    Path::new("hotad-lite0 (part of hotad)")
}

/// Its weights.
///
/// # Errors
/// When the program itself is damaged.
pub fn open() -> Result<BackboneFile> {
    BackboneFile::of(container::read_bytes(BYTES, label(), KIND)?, label())
}
