//! Every kernel, in each variant that a CUDA device would take, compiles to PTX for sm_80 and sm_90.
//!
//! The golden cases, the operations of tests/cases and the device tests are driven on a device that compiles and runs nothing; what it
//! reads back is not looked at. Needs NVRTC and the CUDA headers (see `.ci/run`), not a GPU. Without
//! them the test is skipped with a line, unless `HOTAD_REQUIRE_NVRTC=1`. `HOTAD_PTX` names a folder that
//! the PTX is kept in, with the source of each kernel and what `benches/nvidia/static` needs to know of its launches.

#[path = "../../benches/hot_paths/backbones.rs"]
mod backbones;
#[path = "../devices/bodies/mod.rs"]
mod bodies;
#[allow(dead_code)] // nothing is compared here
#[path = "../golden/case.rs"]
mod case;
#[path = "../cases/mod.rs"]
mod cases;
mod launches;
#[path = "../../benches/hot_paths/networks.rs"]
mod networks;
#[path = "../golden/operations/mod.rs"]
mod operations;
#[path = "../../benches/hot_paths/patches.rs"]
mod patches;
#[path = "../../benches/hot_paths/operations.rs"]
mod timed;
#[allow(dead_code)] // nothing is timed here
#[path = "../../benches/hot_paths/work.rs"]
mod work;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use case::Case;
use hotad_kernels::device::offline::{self, Compiled};
use hotad_kernels::device::{Device, Gpu, Precision};

/// Times ten: Ampere and Hopper.
const CAPABILITIES: [u32; 2] = [80, 90];

/// Drives every kernel on a device; the error is the first kernel's that does not compile.
fn drive(gpu: &Gpu) -> Result<(), String> {
    let folder = PathBuf::from(std::env::var("HOTAD_GOLDEN").unwrap_or_else(|_| "../shared/golden".into()));
    let files = case::files(&folder, "").map_err(|e| format!("{}: {e}", folder.display()))?;
    for precision in [Precision::F32, Precision::Tf32, Precision::F16, Precision::Bf16] {
        let device = Device::Gpu(gpu.with_precision(precision).map_err(|e| e.to_string())?);
        for file in &files {
            let case = Case::read(file, &device);
            if precision == Precision::F32 || case.op.contains("conv") {
                operations::run(&case);
            }
        }
        for (_, body) in bodies::ALL {
            body(&device);
        }
        let all: Vec<&cases::Case> =
            if precision == Precision::F32 { cases::all().collect() } else { cases::rounded().collect() };
        for case in all {
            case.checked.iter().for_each(|inputs| drop(cases::results(case, inputs, &device)));
        }
    }
    gpu.synchronize().map_err(|e| e.to_string())
}

/// `map_kernel` of `hotad_kernels::ssim::map_kernel::MapKernel<...>`.
fn base_name(kernel: &str) -> &str {
    kernel.split('<').next().unwrap_or_default().rsplit("::").next().unwrap_or_default()
}

/// Writes PTX and source of every kernel, and `kernels.jsonl`: what else a launch of it needs.
fn keep(compiled: &[Compiled], folder: &Path) {
    let mut lines = Vec::new();
    for (i, entry) in compiled.iter().enumerate() {
        let Ok(ptx) = &entry.ptx else { continue };
        let name = format!("sm_{}_{}_{i}", entry.capability, base_name(&entry.kernel));
        let written = std::fs::write(folder.join(format!("{name}.ptx")), ptx)
            .and_then(|()| std::fs::write(folder.join(format!("{name}.cu")), &entry.code));
        written.expect("the folder can be written to");
        let Compiled { kernel, capability, block, shared, .. } = entry;
        lines.push(format!(
            r#"{{"variant": {i}, "name": {name:?}, "kernel": {kernel:?}, "capability": {capability}, "block": {block:?}, "shared": {shared}}}"#
        ));
    }
    std::fs::write(folder.join("kernels.jsonl"), lines.join("\n")).expect("the folder can be written to");
}

fn report(compiled: &[Compiled]) -> bool {
    let mut good = true;
    for entry in compiled {
        if let Err(log) = &entry.ptx {
            println!("sm_{}: {} ... FAILED\n{log}", entry.capability, entry.kernel);
            good = false;
        }
    }
    for capability in CAPABILITIES {
        let of_it: Vec<_> = compiled.iter().filter(|c| c.capability == capability).collect();
        let names: BTreeSet<&str> = of_it.iter().map(|c| base_name(&c.kernel)).collect();
        let products = of_it.iter().filter(|c| c.ptx.as_ref().is_ok_and(|p| p.contains("wmma"))).count();
        println!("sm_{capability}: {} variants of {} kernels, {products} on tensor cores", of_it.len(), names.len());
        good &= names.len() >= 40 && products >= 3;
    }
    good
}

/// Drives every kernel on a device of compute capability `capability / 10`; the error is what is printed.
fn compile(capability: u32) -> Result<Gpu, String> {
    let gpu = offline::open(capability).map_err(|why| {
        let demanded = std::env::var("HOTAD_REQUIRE_NVRTC").is_ok_and(|v| v == "1");
        format!("{}: {why}", if demanded { "FAILED" } else { "skipped" })
    })?;
    drive(&gpu).map_err(|why| format!("FAILED: {why}"))?;
    Ok(gpu)
}

fn main() -> ExitCode {
    // Each device has a queue of its own, which waits for NVRTC.
    let results = std::thread::scope(|scope| {
        let threads = CAPABILITIES.map(|capability| scope.spawn(move || compile(capability)));
        threads.map(|thread| thread.join().unwrap_or_else(|_| Err("FAILED: see the panic above".into())))
    });
    let told: Vec<&String> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    told.iter().for_each(|line| println!("{line}"));
    let failed = told.iter().any(|line| line.starts_with("FAILED"));
    let skipped = !told.is_empty() && !failed;
    if let (Ok(folder), [_, Ok(hopper)]) = (std::env::var("HOTAD_PTX").map(PathBuf::from), &results) {
        launches::write(&folder, hopper);
        keep(&offline::compiled(), &folder);
    }
    let good = skipped || report(&offline::compiled());
    if good && !failed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
