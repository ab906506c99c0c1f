//! Counts the instructions of cases in one run under valgrind's callgrind, which knows x86-64 up to AVX2, and NEON.

use std::io::ErrorKind;
use std::path::Path;
use std::process::Command;

use hotad_kernels::simd::Isa;

use crate::Uncounted;

/// The argument that makes this binary run the cases with a part of a name, which follows.
pub const CHILD: &str = "--all";

/// Calls a case; callgrind counts what happens inside, and writes it to a file at the end of each call.
#[inline(never)]
pub fn counted(call: &mut Box<dyn FnMut()>) {
    call();
    std::hint::black_box(()); // no jump to the case in place of this call
}

/// The name of [`counted`] in this binary.
const COUNTED: &str = "instructions::callgrind::counted";

pub fn knows(isa: Isa) -> bool {
    isa <= Isa::Avx2
}

/// Instructions of each case with a part of a name, in their order, with an instruction set; or why there are none.
pub fn instructions(isa: Isa, part: &str, cases: usize) -> Result<Vec<u64>, Uncounted> {
    let dir = tempfile::tempdir()?;
    let files = dir.path().join("calls");
    let mut run = Command::new("valgrind");
    run.args(["-q", "--tool=callgrind"]).arg(format!("--callgrind-out-file={}", files.display()));
    run.args([format!("--toggle-collect={COUNTED}"), format!("--dump-after={COUNTED}")]);
    run.arg(std::env::current_exe()?).args([CHILD, part]).env("HOTAD_ISA", isa.name());
    let output = run.output().map_err(|why| {
        let skip = why.kind() == ErrorKind::NotFound && !std::env::var("HOTAD_REQUIRE_CC").is_ok_and(|v| v == "1");
        Uncounted { text: format!("valgrind: {why}"), skip }
    })?;
    if !output.status.success() {
        return Err(format!("valgrind: {}", String::from_utf8_lossy(&output.stderr)).into());
    }
    (1..=cases).map(|call| total(&files.with_extension(call.to_string()))).collect()
}

/// The line `totals: N` of one of callgrind's files.
fn total(file: &Path) -> Result<u64, Uncounted> {
    let text = std::fs::read_to_string(file).map_err(|why| format!("{}: {why}", file.display()))?;
    let total = text.lines().find_map(|line| line.strip_prefix("totals: ")?.parse().ok());
    total.ok_or_else(|| format!("{}: no totals", file.display()).into())
}
