//! The CUDA emulator: kernels in every precision and in any order of threads, what its checker sees, and how
//! failures of a device are told.
//!
//! Needs a C++ compiler. Without one the tests are skipped with a line, unless `HOTAD_TEST_DEVICES` has `emu`.
#![cfg(all(unix, target_arch = "x86_64"))]

#[path = "../common/alone.rs"]
mod alone;
#[path = "../devices/bodies/mod.rs"]
mod bodies;
#[path = "../cases/mod.rs"]
mod cases;
#[path = "../common/mod.rs"]
mod common;
mod failures;
mod mutations;
mod neighbours;
mod orders;
mod precisions;
mod recording;
mod repeated;
mod scoring;
#[path = "../common/small_models.rs"]
mod small_models;
mod transfers;

use hotad_kernels::device::emulator::{self, Settings};
use hotad_kernels::device::{Device, Gpu};

/// An emulated GPU, if there is a C++ compiler.
fn open(settings: &Settings) -> Option<Gpu> {
    match emulator::open(settings) {
        Ok(gpu) => Some(gpu),
        Err(e) => {
            let demanded = std::env::var("HOTAD_TEST_DEVICES").is_ok_and(|names| names.contains("emu"));
            let missing = e.to_string().contains("no C++ compiler");
            assert!(missing && !demanded, "{e}");
            common::skipped(&e.to_string());
            None
        }
    }
}

/// The body with this name.
fn body(name: &str) -> bodies::Body {
    let found = bodies::ALL.iter().find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("no body is called {name:?}")).1
}

/// Runs a body on the CPU and on an emulated GPU and compares.
fn agrees(name: &str, gpu: Gpu) {
    let run = body(name);
    bodies::compare(name, &run(&Device::Gpu(gpu)), &run(&Device::CPU));
}
