//! Finding and opening CUDA devices; the driver and NVRTC are loaded when first asked for.

use cubecl::Runtime;
use cubecl::cuda::{CudaDevice, CudaRuntime};
use cubecl::ir::features::MmaConfig;
use cubecl::ir::{DeviceProperties, ElemType, FloatKind};
use cudarc::driver::{CudaContext, sys};

use super::configuration::configure;
use super::gpu::{Client, Gpu};
use super::probe::{Facts, Probe};
use crate::error::{Result, device_error};

/// Oldest driver that NVRTC 12 code runs on, as `cuDriverGetVersion` counts.
const OLDEST_DRIVER: i32 = 12_000;

/// Devices, or why CUDA is not usable.
fn count() -> std::result::Result<usize, String> {
    // SAFETY: only tries to load the library.
    if !unsafe { sys::is_culib_present() } {
        return Err("no NVIDIA driver (libcuda was not found)".into());
    }
    let count = CudaContext::device_count().map_err(|e| format!("the driver found no device ({e:?})"))?;
    if count == 0 {
        return Err("the driver found no device".into());
    }
    if driver_version() < OLDEST_DRIVER {
        return Err(format!("driver too old (CUDA {}); install one for CUDA 12 or newer", dotted(driver_version())));
    }
    // SAFETY: only tries to load the library.
    if !unsafe { cudarc::nvrtc::sys::is_culib_present() } {
        return Err("NVRTC was not found; install it (pip install nvidia-cuda-nvrtc) and put its lib folder into LD_LIBRARY_PATH".into());
    }
    let headers = cubecl::cuda::install::cuda_path().map(|p| p.join("include/cuda_runtime.h"));
    if !headers.as_ref().is_some_and(|p| p.is_file()) {
        return Err("CUDA headers were not found; install the toolkit, or pip install nvidia-cuda-runtime nvidia-cuda-crt, and set CUDA_PATH to the folder that holds include/".into());
    }
    Ok(count as usize)
}

fn driver_version() -> i32 {
    let mut version = 0;
    // SAFETY: writes one integer; every caller comes after `count` has found the library.
    let status = unsafe { sys::cuDriverGetVersion(&mut version) };
    if status == sys::CUresult::CUDA_SUCCESS { version } else { 0 }
}

fn dotted(version: i32) -> String {
    format!("{}.{}", version / 1000, version % 1000 / 10)
}

fn facts(number: usize) -> std::result::Result<Facts, String> {
    let ask = || {
        let context = CudaContext::new(number)?;
        Ok((context.name()?, context.total_mem()?, context.compute_capability()?))
    };
    let (name, memory, (major, minor)) =
        ask().map_err(|e: cudarc::driver::DriverError| format!("the driver refused it ({e:?})"))?;
    Ok(Facts {
        name: format!("cuda:{number}"),
        description: name,
        memory: Some(memory as u64),
        driver: format!("CUDA {}", dotted(driver_version())),
        kind: format!("compute capability {major}.{minor}"),
        software: false,
        f16: true,
        bf16: major >= 8,
        tensor_cores: major >= 8,
        planes: true,
        largest_buffer: memory as u64 / 4,
    })
}

/// All devices, or why there is none.
pub fn probe() -> Vec<Probe> {
    match count() {
        Err(reason) => vec![Probe { name: "cuda".into(), outcome: Err(reason) }],
        Ok(n) => (0..n).map(|i| Probe { name: format!("cuda:{i}"), outcome: facts(i) }).collect(),
    }
}

/// Opens the device with this number.
pub fn open(number: usize) -> Result<Gpu> {
    let n = match count() {
        Err(reason) => return device_error(format!("device cuda:{number}: {reason}")),
        Ok(n) => n,
    };
    if number >= n {
        return device_error(format!("device cuda:{number}: there are {n} CUDA devices, numbered from 0"));
    }
    let mut facts = match facts(number) {
        Err(reason) => return device_error(format!("device cuda:{number}: {reason}")),
        Ok(facts) => facts,
    };
    configure();
    let client = CudaRuntime::client(&CudaDevice::new(number));
    facts.tensor_cores = has_tensor_cores(client.properties());
    facts.largest_buffer = client.properties().memory.max_page_size;
    Ok(Gpu::new(Client::Cuda(client), facts))
}

/// Whether 16x16x16 products of f16 and bf16 with f32 sums are there, and the tf32 ones.
pub(super) fn has_tensor_cores(properties: &DeviceProperties) -> bool {
    let has = |kind: FloatKind, k: u32| {
        let t = ElemType::Float(kind).into();
        let cd_type = ElemType::Float(FloatKind::F32).into();
        properties.features.matmul.cmma.contains(&MmaConfig { a_type: t, b_type: t, cd_type, m: 16, n: 16, k })
    };
    has(FloatKind::F16, 16) && has(FloatKind::BF16, 16) && has(FloatKind::TF32, 8)
}

/// Bytes free on the device with this number.
pub fn free_memory(number: usize) -> Option<u64> {
    let context = CudaContext::new(number).ok()?;
    context.mem_get_info().ok().map(|(free, _)| free as u64)
}
