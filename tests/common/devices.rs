//! Which devices the tests run on.
//!
//! `HOTAD_TEST_DEVICES` is a list such as `cpu,wgpu`; a device named there must be usable. By default
//! `cpu`, and `wgpu` when there is an adapter.

use std::io::Write;
use std::sync::OnceLock;

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
            .map(|name| Device::open(name.trim()).unwrap_or_else(|e| panic!("HOTAD_TEST_DEVICES={names}: {e}")))
            .collect(),
        Err(_) => match Device::open("wgpu") {
            Ok(wgpu) => vec![Device::Cpu, wgpu],
            Err(e) => {
                say(&format!("not tested on wgpu: {e}"));
                vec![Device::Cpu]
            }
        },
    };
    let names: Vec<&str> = devices.iter().map(Device::name).collect();
    say(&format!("tested on: {}", names.join(", ")));
    devices
}

/// Past the test harness, which keeps what a passing test prints.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}"); // nowhere left to say it
}
