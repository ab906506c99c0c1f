//! Files that belong to a file and stand beside it.

use std::path::{Path, PathBuf};

/// `file` with an ending after its whole name: `m.safetensors` and `.sig` give `m.safetensors.sig`.
pub fn beside(file: &Path, ending: &str) -> PathBuf {
    let mut name = file.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    file.with_file_name(name)
}
