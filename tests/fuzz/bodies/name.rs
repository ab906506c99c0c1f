//! Bytes of the name of an image: in a bank, in results.

use std::path::{Path, PathBuf};

use hotad_models::detector::entry_name;

#[cfg(unix)]
fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    std::ffi::OsStr::from_bytes(bytes).into()
}

#[cfg(not(unix))]
fn path(bytes: &[u8]) -> PathBuf {
    String::from_utf8_lossy(bytes).into_owned().into()
}

/// Whether a path has a file name; it is one line, and what is printed finds the image again, as text and as JSON.
pub fn check(bytes: &[u8]) -> bool {
    let name = entry_name(&path(bytes));
    assert!(!name.contains(char::is_control), "one line without what a terminal obeys: {name:?}");
    assert_eq!(entry_name(Path::new(&name)), name, "what is printed is its own name");
    let json = serde_json::to_string(&name).expect("text prints");
    assert!(!json.contains('\n'), "one line");
    assert_eq!(serde_json::from_str::<String>(&json).expect("what was printed"), name);
    !name.is_empty()
}
