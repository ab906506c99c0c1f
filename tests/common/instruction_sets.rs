//! The tests of a binary again, with every other instruction set that the CPU has.

use std::process::Command;

use hotad_kernels::simd::{Isa, isa};

/// Runs this test binary once more for every instruction set but the one in use, on the CPU alone. Where `HOTAD_ISA` says
/// which set is meant, as in those runs, nothing is done.
pub fn run_again() {
    if std::env::var_os("HOTAD_ISA").is_some() {
        return;
    }
    let binary = std::env::current_exe().expect("a test binary");
    for other in Isa::available().into_iter().filter(|other| *other != isa()) {
        let output = Command::new(&binary)
            .env("HOTAD_ISA", other.name())
            .env("HOTAD_TEST_DEVICES", "cpu")
            .output()
            .expect("the test binary runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "with HOTAD_ISA={}:\n{said}", other.name());
        assert!(said.contains("test result: ok"), "tests were run: {said}");
    }
}
