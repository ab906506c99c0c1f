//! Which devices this machine has, and why one is not usable.

use std::path::PathBuf;

/// What a GPU is and can do.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// `cuda:N` or `wgpu:N`.
    pub name: String,
    /// The maker's name.
    pub description: String,
    /// Bytes of memory, where the driver tells.
    pub memory: Option<u64>,
    /// Driver and its version.
    pub driver: String,
    /// `compute capability 9.0`, or the adapter's type and API.
    pub kind: String,
    /// Whether it is a CPU that plays GPU.
    pub software: bool,
    /// Half-precision storage and arithmetic.
    pub f16: bool,
    /// bfloat16 storage and arithmetic.
    pub bf16: bool,
    /// 16x16x16 matrix products with f32 sums.
    pub tensor_cores: bool,
    /// Units that run in step and exchange values.
    pub planes: bool,
    /// Bytes of the largest buffer.
    pub largest_buffer: u64,
}

/// A device, or a kind of device and the reason why there is none.
#[derive(Clone, Debug)]
pub struct Probe {
    /// `cuda:N`, `wgpu:N`, or `cuda` or `wgpu` where there is none.
    pub name: String,
    /// What it is, or why it is not usable.
    pub outcome: Result<Facts, String>,
}

/// Looks for GPUs of every kind that this build knows.
pub fn probe() -> Vec<Probe> {
    let mut found = Vec::new();
    #[cfg(feature = "cuda")]
    found.extend(super::cuda::probe());
    #[cfg(not(feature = "cuda"))]
    found.push(Probe { name: "cuda".into(), outcome: Err("this hotad was built without it".into()) });
    #[cfg(feature = "wgpu")]
    found.extend(super::wgpu::probe());
    #[cfg(not(feature = "wgpu"))]
    found.push(Probe { name: "wgpu".into(), outcome: Err("this hotad was built without it".into()) });
    found
}

/// The device that `auto` takes, when it is not the CPU: never a software GPU.
pub(super) fn automatic() -> Option<String> {
    let hardware = |p: &Probe| matches!(&p.outcome, Ok(facts) if !facts.software);
    probe().into_iter().find(hardware).map(|p| p.name)
}

/// Where compiled kernels and the last error log are kept: `HOTAD_CACHE`, or the user's cache folder.
pub(super) fn cache_folder() -> PathBuf {
    let from = |key: &str| std::env::var_os(key).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("HOTAD_CACHE")
        .or_else(|| from("XDG_CACHE_HOME").map(|p| p.join("hotad")))
        .or_else(|| from("HOME").map(|p| p.join(".cache/hotad")))
        .unwrap_or_else(|| std::env::temp_dir().join("hotad"))
}

/// Keeps Mesa's device selection layer from writing to stderr where there is no desktop session. To be
/// called first thing in a program; does nothing once there are several threads.
pub fn hush_drivers() {
    #[cfg(target_os = "linux")]
    {
        let alone = std::fs::read_dir("/proc/self/task").is_ok_and(|tasks| tasks.count() == 1);
        if alone && std::env::var_os("XDG_RUNTIME_DIR").is_none() {
            // SAFETY: this is the only thread, so nobody reads the environment meanwhile.
            unsafe { std::env::set_var("NODEVICE_SELECT", "1") };
        }
    }
}
