//! Files that appear whole or not at all: written beside their place, then renamed.

use std::io::Write;
use std::path::Path;

use crate::error::{AtPath, Result};

/// Writes a file through `fill`; on any error nothing is left behind.
///
/// # Errors
/// I/O errors, with the path.
pub fn write(path: &Path, fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut file = tempfile::Builder::new().prefix(".hotad-").tempfile_in(folder).at(path)?;
    {
        let mut buffered = std::io::BufWriter::new(file.as_file_mut());
        fill(&mut buffered).at(path)?;
        buffered.flush().at(path)?;
    }
    file.as_file().sync_all().at(path)?;
    allow_reading(file.path()).at(path)?;
    file.persist(path).map_err(|e| e.error).at(path)?;
    Ok(())
}

/// Temporary files are private; results get the usual permissions.
#[cfg(unix)]
fn allow_reading(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn allow_reading(_: &Path) -> std::io::Result<()> {
    Ok(())
}
