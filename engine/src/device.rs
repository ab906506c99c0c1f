//! Where work runs.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::error::{Error, Result};

/// A device that tensors live on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// Native loops on all cores.
    #[default]
    Cpu,
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cpu")
    }
}

impl FromStr for Device {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" | "cpu" => Ok(Self::Cpu),
            _ => Err(Error::Device(format!("device {name:?} is not in this build; use cpu or auto"))),
        }
    }
}

/// What `hotad devices` tells of one device.
#[derive(Debug, Serialize)]
pub struct DeviceInfo {
    /// Name for `--device`.
    pub device: String,
    /// Hardware.
    pub name: String,
    /// Threads that work is spread over.
    pub threads: usize,
    /// Instruction set chosen at run time.
    pub instruction_set: String,
    /// Whether `auto` takes it.
    pub auto: bool,
}

/// All devices of this machine that this build can use.
pub fn devices() -> Vec<DeviceInfo> {
    vec![DeviceInfo {
        device: Device::Cpu.to_string(),
        name: cpu_name(),
        threads: rayon::current_num_threads(),
        instruction_set: format!("{:?}", hotad_kernels::simd::isa()),
        auto: true,
    }]
}

/// The processor's name where the system tells it, else the architecture.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, n)| n.trim()));
    model.unwrap_or(std::env::consts::ARCH).to_string()
}
