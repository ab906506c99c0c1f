//! Tests in a process of their own: of what others of the same binary would change or see.

use std::process::Command;

/// Set in a process that runs one test.
const ALONE: &str = "HOTAD_TEST_ALONE";

/// Whether this process runs the test of this name and no other; if not, runs it in one that does and expects it to pass.
pub fn alone(test: &str) -> bool {
    if std::env::var(ALONE).is_ok_and(|name| name == test) {
        return true;
    }
    let this = std::env::current_exe().expect("a path");
    let child = Command::new(this).args(["--exact", test, "--nocapture"]).env(ALONE, test).output();
    let child = child.expect("the test starts again");
    let told = String::from_utf8_lossy(&child.stdout) + String::from_utf8_lossy(&child.stderr);
    assert!(child.status.success() && told.contains("1 passed"), "{told}");
    println!("{told}");
    false
}
