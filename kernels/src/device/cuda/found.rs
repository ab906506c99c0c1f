//! Finding and opening CUDA devices; the driver and NVRTC are loaded when first asked for.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::device::DeviceId;
use cudarc::driver::{CudaContext, DriverError, sys};

use super::nvidia::Nvidia;
use super::nvrtc::{Nvrtc, Output};
use super::properties::{OLDEST_CAPABILITY, has_tensor_cores};
use super::queue::Queue;
use crate::device::gpu::{Client, Gpu};
use crate::device::probe::{Facts, Probe, cache_folder};
use crate::error::{Result, device_error};

/// Oldest driver that NVRTC 12 code runs on, as `cuDriverGetVersion` counts.
const OLDEST_DRIVER: i32 = 12_000;

/// CubeCL's name for the kind of device; other kinds have other threads.
const KIND: u16 = 100;

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
    let (major, minor) = Nvrtc::find(OLDEST_CAPABILITY, Output::Cubin)?.version();
    if major > driver_version() / 1000 {
        return Err(format!(
            "driver too old (CUDA {}) for NVRTC {major}.{minor}; install a newer driver, or nvidia-cuda-nvrtc of CUDA {}",
            dotted(driver_version()),
            driver_version() / 1000
        ));
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

fn refused(error: DriverError) -> String {
    format!("the driver refused it ({error:?})")
}

/// What a device is, and its compute capability times ten.
fn facts(number: usize) -> std::result::Result<(Facts, u32), String> {
    let ask = || {
        let context = CudaContext::new(number)?;
        Ok((context.name()?, context.total_mem()?, context.compute_capability()?))
    };
    let (name, memory, (major, minor)) = ask().map_err(refused)?;
    let capability = (major * 10 + minor) as u32;
    if capability < OLDEST_CAPABILITY {
        return Err(format!("{name} has compute capability {major}.{minor}; 7.0 or newer is needed"));
    }
    let facts = Facts {
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
        largest_buffer: memory as u64,
    };
    Ok((facts, capability))
}

/// All devices, or why there is none.
pub fn probe() -> Vec<Probe> {
    let outcome = |n| facts(n).map(|(facts, _)| facts);
    match count() {
        Err(reason) => vec![Probe { name: "cuda".into(), outcome: Err(reason) }],
        Ok(n) => (0..n).map(|i| Probe { name: format!("cuda:{i}"), outcome: outcome(i) }).collect(),
    }
}

/// Opens the device with this number.
pub fn open(number: usize) -> Result<Gpu> {
    let failed = |reason: String| device_error(format!("device cuda:{number}: {reason}"));
    let n = match count() {
        Err(reason) => return failed(reason),
        Ok(n) => n,
    };
    if number >= n {
        return failed(format!("there are {n} CUDA devices, numbered from 0"));
    }
    match facts(number).and_then(|(facts, capability)| Ok((facts, queue(number, capability)?))) {
        Err(reason) => failed(reason),
        Ok((mut facts, (queue, tensor_cores))) => {
            facts.tensor_cores = tensor_cores;
            Ok(Gpu::new(Client::Cuda(queue), facts))
        }
    }
}

/// The queue of a device, one a process, and whether it has tensor cores.
fn queue(number: usize, capability: u32) -> std::result::Result<(Queue, bool), String> {
    static OPEN: Mutex<Option<HashMap<usize, (Queue, bool)>>> = Mutex::new(None);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    let open = open.get_or_insert_default();
    if let Some(queue) = open.get(&number) {
        return Ok(queue.clone());
    }
    let nvrtc = Nvrtc::find(capability, Output::Cubin)?;
    let driver = Nvidia::open(number, capability, nvrtc).map_err(refused)?;
    let tensor_cores = has_tensor_cores(&super::driver::Driver::limits(&driver));
    let queue = Queue::new(DeviceId::new(KIND, number as u16), Arc::new(driver), cache_folder().join("cuda"));
    open.insert(number, (queue.clone(), tensor_cores));
    Ok((queue, tensor_cores))
}
