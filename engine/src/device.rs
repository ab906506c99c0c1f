//! Where work runs, and what this machine has.

pub use hotad_kernels::device::{Cpu, Device, DeviceName, InputRange, InputRanges, Precision, Rounding, hush_drivers};
use hotad_kernels::device::{Facts, probe};
use hotad_kernels::peak::Arithmetic;
use hotad_kernels::simd::{self, Isa};
use serde::Serialize;

use crate::error::Result;

/// What `hotad devices` tells of one device.
#[derive(Debug, Serialize)]
pub struct DeviceInfo {
    /// Name for `--device`.
    pub device: String,
    /// Hardware; null where there is none.
    pub name: Option<String>,
    /// Why it cannot be used; null where it can.
    pub problem: Option<String>,
    /// Bytes of memory, where the driver tells.
    pub memory: Option<u64>,
    /// Driver and version.
    pub driver: Option<String>,
    /// Instruction set in use of a CPU, compute capability or adapter type of a GPU.
    pub kind: Option<String>,
    /// What the kernels use of it: `f16`, `bf16`, `tensor cores`, `planes`; threads of a CPU, the arithmetic of its
    /// instruction set, and the sets that `HOTAD_ISA` may name.
    pub features: Vec<String>,
    /// Whether `auto` takes it.
    pub auto: bool,
}

/// Chooses the CPU's instruction set: the widest, or the one that `HOTAD_ISA` names.
///
/// # Errors
/// When `HOTAD_ISA` names no set, or one that the CPU does not have.
pub fn check_instruction_set() -> Result<()> {
    Ok(simd::check().map(|_| ())?)
}

/// All devices of this machine, usable or not.
pub fn devices() -> Vec<DeviceInfo> {
    let gpus = probe();
    let best = gpus.iter().find_map(|p| p.outcome.as_ref().ok().filter(|f| !f.software)).map(|f| f.name.clone());
    let cpu = DeviceInfo {
        device: "cpu".into(),
        name: Some(cpu_name()),
        problem: None,
        memory: None,
        driver: None,
        kind: Some(simd::isa().name().into()),
        features: cpu_features(),
        auto: best.is_none(),
    };
    let gpus = gpus.into_iter().map(|p| match p.outcome {
        Ok(facts) => gpu(&facts, best.as_deref() == Some(&*facts.name)),
        Err(reason) => DeviceInfo {
            device: p.name,
            name: None,
            problem: Some(reason),
            memory: None,
            driver: None,
            kind: None,
            features: Vec::new(),
            auto: false,
        },
    });
    std::iter::once(cpu).chain(gpus).collect()
}

fn cpu_features() -> Vec<String> {
    let mut features = vec![format!("{} threads", rayon::current_num_threads())];
    features.extend(Arithmetic::ALL.iter().filter(|a| a.is_available()).map(|a| a.name().to_string()));
    let others = Isa::available().into_iter().filter(|isa| *isa != simd::isa());
    features.extend(others.map(|isa| format!("HOTAD_ISA={}", isa.name())));
    features
}

fn gpu(facts: &Facts, auto: bool) -> DeviceInfo {
    let features =
        [("f16", facts.f16), ("bf16", facts.bf16), ("tensor cores", facts.tensor_cores), ("planes", facts.planes)];
    DeviceInfo {
        device: facts.name.clone(),
        name: Some(facts.description.clone()),
        problem: None,
        memory: facts.memory,
        driver: Some(facts.driver.clone()),
        kind: Some(facts.kind.clone()),
        features: features.iter().filter(|(_, has)| *has).map(|(name, _)| (*name).to_string()).collect(),
        auto,
    }
}

/// The processor's name where the system tells it, else the architecture.
fn cpu_name() -> String {
    let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|l| l.strip_prefix("model name")?.split_once(':').map(|(_, n)| n.trim()));
    model.unwrap_or(std::env::consts::ARCH).to_string()
}
