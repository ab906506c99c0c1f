//! Which devices the tests run on.
//!
//! `HOTAD_TEST_DEVICES` is a list such as `cpu,wgpu,emu`; a device named there must be usable. By default
//! `cpu`, and `wgpu` when there is an adapter. `emu` is CUDA C++ on the CPU, `emu:bf16` (or `f16`, `tf32`)
//! with its convolutions on tensor cores; `HOTAD_EMULATOR` says in which order threads take turns:
//! `forward`, `reversed`, or the seed of a random one.

use std::io::Write;
use std::sync::OnceLock;

use hotad_kernels::KernelError;
use hotad_kernels::device::Device;

/// The devices under test, with a line about them.
pub fn under_test() -> Vec<Device> {
    static DEVICES: OnceLock<Vec<Device>> = OnceLock::new();
    DEVICES.get_or_init(find).clone()
}

fn find() -> Vec<Device> {
    let devices = match std::env::var("HOTAD_TEST_DEVICES") {
        Ok(names) => names
            .split(',')
            .map(|name| open(name.trim()).unwrap_or_else(|e| panic!("HOTAD_TEST_DEVICES={names}: {e}")))
            .collect(),
        Err(_) => match Device::open("wgpu") {
            Ok(wgpu) => vec![Device::CPU, wgpu],
            Err(e) => {
                say(&format!("not tested on wgpu: {e}"));
                vec![Device::CPU]
            }
        },
    };
    let names: Vec<&str> = devices.iter().map(Device::name).collect();
    say(&format!("tested on: {}", names.join(", ")));
    devices
}

fn open(name: &str) -> Result<Device, KernelError> {
    match name.split_once(':').unwrap_or((name, "f32")) {
        #[cfg(all(feature = "cuda", unix, target_arch = "x86_64"))]
        ("emu", precision) => {
            use hotad_kernels::device::emulator::{self, Order, Settings};
            let order = match std::env::var("HOTAD_EMULATOR").as_deref() {
                Err(_) | Ok("forward") => Order::Forward,
                Ok("reversed") => Order::Reversed,
                Ok(seed) => Order::Random(seed.parse().expect("HOTAD_EMULATOR is forward, reversed or a number")),
            };
            Device::Gpu(emulator::open(&Settings { order, ..Settings::default() })?).with_precision(precision.parse()?)
        }
        _ => Device::open(name),
    }
}

/// Past the test harness, which keeps what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}"); // nowhere left to say it
}
