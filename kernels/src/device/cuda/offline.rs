//! A CUDA device that is not there: compiles every kernel launched on it to PTX and runs nothing.
//!
//! Tests drive the same launchers with it that a real device would get, with the features of its
//! compute capability, so that code which only CUDA rejects is found on a machine without a GPU.
//! Buffers hold nothing and read as zeros.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::device::DeviceId;

use super::driver::{self, Address, Driver, Failure, Function, Launch, Limits, Pinned, Region, Source};
use super::nvrtc::{Nvrtc, Output};
use super::properties::has_tensor_cores;
use super::queue::Queue;
use crate::device::gpu::{Client, Gpu};
use crate::device::probe::{Facts, cache_folder};
use crate::error::{Result, device_error};

/// CubeCL's name for the kind of device.
const KIND: u16 = 101;

/// One kernel variant and what NVRTC made of it.
#[derive(Clone, Debug)]
pub struct Compiled {
    /// Name of the kernel.
    pub kernel: String,
    /// Compute capability times ten.
    pub capability: u32,
    /// CUDA C++.
    pub code: String,
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of dynamic shared memory of a block.
    pub shared: u32,
    /// PTX, or NVRTC's log and the source.
    pub ptx: std::result::Result<String, String>,
}

/// A launch, which nothing has run.
#[derive(Clone, Debug)]
pub struct Launched {
    /// Which of [`compiled`].
    pub variant: usize,
    /// Blocks.
    pub grid: [u32; 3],
    /// Where each buffer begins, and its bytes.
    pub buffers: Vec<(u64, u64)>,
    /// The bytes of the last argument.
    pub info: Vec<u64>,
}

static COMPILED: Mutex<Vec<Compiled>> = Mutex::new(Vec::new());
static LAUNCHED: Mutex<Vec<Launched>> = Mutex::new(Vec::new());

/// Everything compiled so far in this process.
pub fn compiled() -> Vec<Compiled> {
    COMPILED.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// Everything launched since the last call, on all devices.
pub fn launched() -> Vec<Launched> {
    std::mem::take(&mut *LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner))
}

/// A device of compute capability `capability / 10`, for example 80 or 90; once a process each.
///
/// # Errors
/// When NVRTC or the CUDA headers are missing.
pub fn open(capability: u32) -> Result<Gpu> {
    let nvrtc = match Nvrtc::find(capability, Output::Ptx) {
        Err(reason) => return device_error(reason),
        Ok(nvrtc) => nvrtc,
    };
    let driver = Offline { capability, nvrtc, next: AtomicU64::new(1 << 20) };
    let facts = Facts {
        name: format!("sm_{capability}"),
        description: "compiles, runs nothing".into(),
        kind: format!("compute capability {}.{}", capability / 10, capability % 10),
        f16: true,
        bf16: true,
        tensor_cores: has_tensor_cores(&driver.limits()),
        planes: true,
        largest_buffer: driver.limits().memory,
        ..Facts::default()
    };
    let id = DeviceId::new(KIND, capability as u16);
    let queue = Queue::new(id, Arc::new(driver), cache_folder().join("ptx"));
    Ok(Gpu::new(Client::Cuda(queue), facts))
}

/// Hands out addresses that nothing lies at.
#[derive(Debug)]
struct Offline {
    capability: u32,
    nvrtc: Nvrtc,
    next: AtomicU64,
}

impl Offline {
    /// Returns its place among all.
    fn keep(&self, source: &Source, ptx: std::result::Result<String, String>) -> usize {
        let entry = Compiled {
            kernel: source.name.clone(),
            capability: self.capability,
            code: source.code.clone(),
            block: source.block,
            shared: source.shared,
            ptx,
        };
        let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
        compiled.push(entry);
        compiled.len() - 1
    }
}

impl Driver for Offline {
    /// Those of an A100, and of an H100 from 9.0 on.
    fn limits(&self) -> Limits {
        let (shared_memory, multiprocessors) = if self.capability < 90 { (160 << 10, 108) } else { (227 << 10, 132) };
        let capability = self.capability;
        Limits { capability, shared_memory, multiprocessors, cooperative: true, memory: 16 << 30 }
    }

    fn toolchain(&self) -> String {
        self.nvrtc.describe()
    }

    fn compile(&self, source: &Source) -> driver::Result<Vec<u8>> {
        self.nvrtc.compile(source).inspect_err(|failure| {
            if let Failure::Compilation { log, .. } = failure {
                self.keep(source, Err(log.clone()));
            }
        })
    }

    fn load(&self, source: &Source, image: &[u8]) -> driver::Result<Function> {
        let place = self.keep(source, Ok(String::from_utf8_lossy(image).trim_end_matches('\0').to_string()));
        Ok(Function(place as u64))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> driver::Result<()> {
        let entry = Launched {
            variant: launch.function.0 as usize,
            grid: launch.grid,
            buffers: launch.buffers.iter().map(|b| (b.address, b.bytes)).collect(),
            info: launch.info.to_vec(),
        };
        LAUNCHED.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> driver::Result<Address> {
        Ok(self.next.fetch_add(bytes, Ordering::Relaxed))
    }

    unsafe fn release(&self, _: Address) -> driver::Result<()> {
        Ok(())
    }

    fn pin(&self, bytes: usize) -> driver::Result<Pinned> {
        Ok(Pinned::of_host(bytes))
    }

    unsafe fn fill(&self, _: Region, _: u8) -> driver::Result<()> {
        Ok(())
    }

    unsafe fn upload(&self, _: Address, _: &[u8]) -> driver::Result<()> {
        Ok(())
    }

    unsafe fn download(&self, to: &mut [u8], _: Address) -> driver::Result<()> {
        to.fill(0);
        Ok(())
    }

    fn synchronize(&self) -> driver::Result<()> {
        Ok(())
    }

    fn free_memory(&self) -> Option<u64> {
        None
    }
}
