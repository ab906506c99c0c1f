//! Every operation against the golden vectors, on every device under test, and on the CPU with every instruction set
//! that it has, or the one that `HOTAD_ISA` names.
//!
//! A few are part of the repository; `HOTAD_GOLDEN` names the folder of all, `../shared/golden` by default.
//! `HOTAD_TEST_DEVICES` names the devices (see tests/common). A case of an operation that does not exist yet is
//! listed as `unknown`, and fails the run when `HOTAD_GOLDEN_STRICT=1`.

mod case;
#[path = "../common/devices.rs"]
mod devices;
mod metrics;
mod operations;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::Case;
use hotad_kernels::device::Device;
use hotad_kernels::simd::{self, Isa};

/// Vectors that are part of the repository, made by the script beside them.
const OWN: &str = "tests/vectors/golden";

/// Passed, failed, unknown.
type Counts = [usize; 3];

/// Runs every file on one device, on the CPU with every instruction set.
fn on_device(files: &[PathBuf], device: &Device) -> Counts {
    if device.gpu().is_some() {
        return run(files, device, device.name());
    }
    let widest = simd::isa();
    let sets = if std::env::var_os("HOTAD_ISA").is_some() { vec![widest] } else { Isa::available() };
    let mut total = [0; 3];
    for isa in &sets {
        simd::select(*isa).expect("the CPU has it");
        let counts = run(files, device, &format!("cpu {}", isa.name()));
        (0..3).for_each(|i| total[i] += counts[i]);
    }
    simd::select(widest).expect("it was in use");
    total
}

/// Runs every file; `name` says where.
fn run(files: &[PathBuf], device: &Device, name: &str) -> Counts {
    let mut counts: BTreeMap<String, Counts> = BTreeMap::new();
    for file in files {
        let case = Case::read(file, device);
        let found = match operations::run(&case) {
            None if device.gpu().is_some() && metrics::knows(&case) => continue, // metrics run on the host
            None => metrics::run(&case),
            found => found,
        };
        let (column, verdict) = match found {
            None => (2, "unknown".to_string()),
            Some(outputs) => match case.compare(&outputs) {
                Ok(margin) => (0, format!("ok ({margin:.2} of the tolerance)")),
                Err(why) => (1, format!("FAILED: {why}")),
            },
        };
        counts.entry(case.op.clone()).or_default()[column] += 1;
        println!("{}: {} ... {verdict}", name, case.name);
    }
    let mut total = [0; 3];
    for (op, count) in &counts {
        println!("{}: {op}: {} passed, {} failed, {} unknown", name, count[0], count[1], count[2]);
        (0..3).for_each(|i| total[i] += count[i]);
    }
    println!("{}: {} passed, {} failed, {} unknown", name, total[0], total[1], total[2]);
    total
}

fn main() -> ExitCode {
    let folder = PathBuf::from(std::env::var("HOTAD_GOLDEN").unwrap_or_else(|_| "../shared/golden".into()));
    let strict = std::env::var("HOTAD_GOLDEN_STRICT").is_ok_and(|v| v == "1");
    let only = std::env::args().nth(1).filter(|a| !a.starts_with('-')).unwrap_or_default();
    let mut files = case::files(Path::new(OWN), &only).expect("they are part of the repository");
    match case::files(&folder, &only) {
        Ok(more) => files.extend(more),
        Err(e) => {
            let demanded = strict || std::env::var("HOTAD_REQUIRE_DATA").is_ok_and(|v| v == "1");
            let verdict = if demanded { "FAILED" } else { "skipped" };
            println!("{verdict}: no golden vectors in {} ({e}); HOTAD_GOLDEN names their folder", folder.display());
            if demanded {
                return ExitCode::FAILURE;
            }
        }
    }
    let mut total = [0; 3];
    for device in devices::under_test() {
        let counts = on_device(&files, &device);
        (0..3).for_each(|i| total[i] += counts[i]);
    }
    println!("{} files: {} passed, {} failed, {} unknown", files.len(), total[0], total[1], total[2]);
    println!("{} passed, {} failed", total[0], total[1]);
    let wrong = total[1] > 0 || files.is_empty() || (strict && total[2] > 0);
    if wrong { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
