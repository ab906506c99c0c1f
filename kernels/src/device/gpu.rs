//! One GPU: its queue, its memory, what it can do.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use cubecl::MemoryUsage;
use cubecl::bytes::Bytes;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
use cubecl::client::ComputeClient;
use cubecl::server::{Handle, IoError, LaunchError, ServerError};

use super::buffer::{Element, GpuBuffer};
use super::probe::Facts;
use crate::error::{KernelError, Result, device_error};

/// A queue of one of the runtimes.
pub(crate) enum Client {
    /// CUDA C++ compiled by NVRTC.
    #[cfg(feature = "cuda")]
    Cuda(ComputeClient<cubecl::cuda::CudaRuntime>),
    /// WGSL through Vulkan, Metal or DX12.
    #[cfg(feature = "wgpu")]
    Wgpu(ComputeClient<cubecl::wgpu::WgpuRuntime>),
    /// Compiles, runs nothing.
    #[cfg(feature = "cuda")]
    Offline(ComputeClient<super::offline::OfflineCuda>),
}

/// Runs the same expression on the client of each runtime.
macro_rules! with_client {
    ($gpu:expr, $client:ident => $body:expr) => {
        match *$gpu.client() {
            #[cfg(feature = "cuda")]
            Client::Cuda(ref $client) => $body,
            #[cfg(feature = "wgpu")]
            Client::Wgpu(ref $client) => $body,
            #[cfg(feature = "cuda")]
            Client::Offline(ref $client) => $body,
        }
    };
}

/// What the operands of convolutions are rounded to before they are multiplied; sums are f32 always.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Precision {
    /// No rounding.
    #[default]
    F32,
    /// 10 bits of mantissa, on tensor cores.
    Tf32,
    /// 10 bits of mantissa, values up to 65,504, on tensor cores.
    F16,
    /// 7 bits of mantissa, on tensor cores.
    Bf16,
}

impl FromStr for Precision {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            _ => device_error(format!("precision {name:?}: use f32, tf32, f16 or bf16")),
        }
    }
}

struct Inner {
    client: Client,
    facts: Facts,
    /// Bytes of the last request, for the message when memory runs out.
    requested: AtomicU64,
    /// Small tables that every call of an operation needs, by content. Handles, since a buffer would hold
    /// the GPU that holds it.
    constants: Mutex<HashMap<Vec<u32>, Handle>>,
}

/// A GPU.
#[derive(Clone)]
pub struct Gpu {
    inner: Arc<Inner>,
    precision: Precision,
}

impl std::fmt::Debug for Gpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

impl Gpu {
    #[allow(dead_code)] // without any runtime nothing makes one
    pub(super) fn new(client: Client, facts: Facts) -> Self {
        let inner = Inner { client, facts, requested: AtomicU64::new(0), constants: Mutex::default() };
        Self { inner: Arc::new(inner), precision: Precision::F32 }
    }

    /// Opens `cuda:N` or `wgpu:N`; without a number, the first.
    ///
    /// # Errors
    /// When there is no such device; the message says why.
    pub fn open(name: &str) -> Result<Self> {
        let (kind, number) = name.split_once(':').unwrap_or((name, "0"));
        let Ok(number) = number.parse::<usize>() else {
            return device_error(format!("device {name:?}: use auto, cpu, cuda[:N] or wgpu[:N]"));
        };
        match kind {
            #[cfg(feature = "cuda")]
            "cuda" => super::cuda::open(number),
            #[cfg(feature = "wgpu")]
            "wgpu" => super::wgpu::open(number),
            #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
            "cuda" | "wgpu" => {
                device_error(format!("device {kind}:{number}: this hotad was built without {kind}; use --device cpu"))
            }
            _ => device_error(format!("device {name:?}: use auto, cpu, cuda[:N] or wgpu[:N]")),
        }
    }

    /// The same GPU with convolutions in another precision.
    ///
    /// # Errors
    /// When it has no tensor cores for it.
    pub fn with_precision(&self, precision: Precision) -> Result<Self> {
        if precision != Precision::F32 && !self.facts().tensor_cores {
            return device_error(format!("{}: no tensor cores for {precision:?}; use f32", self.name()));
        }
        Ok(Self { inner: self.inner.clone(), precision })
    }

    /// Precision of convolutions.
    pub fn precision(&self) -> Precision {
        self.precision
    }

    /// `cuda:N` or `wgpu:N`.
    pub fn name(&self) -> &str {
        &self.inner.facts.name
    }

    /// What it is and can do.
    pub fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// Whether both are the same queue.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    pub(crate) fn client(&self) -> &Client {
        &self.inner.client
    }

    /// Room for `len` elements, whole words of at least one.
    pub(crate) fn alloc<T: Element>(&self, len: usize) -> Result<GpuBuffer<T>> {
        let bytes = (len * size_of::<T>()).next_multiple_of(4).max(4);
        self.check_size(bytes)?;
        let handle: Handle = with_client!(self, c => c.empty(bytes));
        Ok(GpuBuffer::new(self.clone(), handle, len))
    }

    /// Copies numbers to the GPU.
    ///
    /// # Errors
    /// When it cannot have a buffer of this size.
    pub fn upload<T: Element>(&self, data: &[T]) -> Result<GpuBuffer<T>> {
        let mut bytes = bytemuck::cast_slice::<T, u8>(data).to_vec();
        bytes.resize(bytes.len().next_multiple_of(4).max(4), 0);
        self.check_size(bytes.len())?;
        let handle: Handle = with_client!(self, c => c.create(Bytes::from_bytes_vec(bytes)));
        Ok(GpuBuffer::new(self.clone(), handle, data.len()))
    }

    /// Uploads a small table once; later calls with the same numbers get the same buffer.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub(crate) fn constants(&self, table: &[f32]) -> Result<GpuBuffer> {
        let key: Vec<u32> = table.iter().map(|v| v.to_bits()).collect();
        let mut known = self.inner.constants.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(handle) = known.get(&key) {
            return Ok(GpuBuffer::new(self.clone(), handle.clone(), table.len()));
        }
        let buffer = self.upload(table)?;
        known.insert(key, buffer.handle().clone());
        Ok(buffer)
    }

    fn check_size(&self, bytes: usize) -> Result<()> {
        self.inner.requested.store(bytes as u64, Ordering::Relaxed);
        let most = self.facts().largest_buffer;
        if bytes as u64 <= most {
            return self.check_room(bytes as u64);
        }
        device_error(format!(
            "{}: a buffer of {} was asked for, {} is the largest possible; use a smaller --batch",
            self.name(),
            mebibytes(bytes as u64),
            mebibytes(most)
        ))
    }

    /// Asks the driver, where it tells, whether a large buffer fits: CubeCL does not survive it when not.
    fn check_room(&self, bytes: u64) -> Result<()> {
        const LARGE: u64 = 32 << 20;
        if bytes < LARGE {
            return Ok(());
        }
        let Some(free) = self.facts().free_memory() else { return Ok(()) };
        let (in_use, reserved) = self.memory()?;
        if bytes <= free + reserved.saturating_sub(in_use) {
            return Ok(());
        }
        device_error(format!(
            "{}: out of memory: {} was asked for, {} is free; use a smaller --batch",
            self.name(),
            mebibytes(bytes),
            mebibytes(free)
        ))
    }

    pub(super) fn read<T: Element>(&self, buffer: &GpuBuffer<T>) -> Result<Vec<T>> {
        let handle = buffer.handle().clone();
        // On wgpu a read alone does not tell of launches that were refused.
        with_client!(self, c => c.flush().map_err(|e| self.failure(&e))?);
        let bytes: Bytes = with_client!(self, c => c.read_one(handle).map_err(|e| self.failure(&e))?);
        let wanted = &bytes[..buffer.len() * size_of::<T>()];
        Ok(bytemuck::pod_collect_to_vec(wanted))
    }

    /// Waits for all queued work.
    ///
    /// # Errors
    /// What went wrong since the last read.
    pub fn synchronize(&self) -> Result<()> {
        with_client!(self, c => cubecl::future::block_on(c.sync()).map_err(|e| self.failure(&e)))
    }

    /// Bytes in use and bytes reserved by the memory pool.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn memory(&self) -> Result<(u64, u64)> {
        let usage: MemoryUsage = with_client!(self, c => c.memory_usage().map_err(|e| self.failure(&e))?);
        Ok((usage.bytes_in_use, usage.bytes_reserved))
    }

    /// One line for what the runtime reports late; the whole text goes to a file.
    fn failure(&self, error: &ServerError) -> KernelError {
        let text = error.to_string();
        let detail = match cause(error) {
            Cause::Memory => {
                let asked = mebibytes(self.inner.requested.load(Ordering::Relaxed));
                let free = self.facts().free_memory().map_or("unknown".into(), mebibytes);
                format!("out of memory: {asked} was asked for last, {free} is free; use a smaller --batch")
            }
            Cause::Compilation => format!("a kernel failed to compile: {}{}", first_line(&text), keep_log(&text)),
            Cause::Other => format!("the device was lost or a launch failed: {}{}", first_line(&text), keep_log(&text)),
        };
        KernelError::Device(format!("{}: {detail}", self.name()))
    }
}

/// What a user can do something about.
#[derive(PartialEq)]
enum Cause {
    Memory,
    Compilation,
    Other,
}

/// The cause by the kind of the error: its text holds whole kernels and may name anything.
fn cause(error: &ServerError) -> Cause {
    let of_launch = |e: &LaunchError| match e {
        LaunchError::CompilationError(_) => Cause::Compilation,
        LaunchError::OutOfMemory { .. } | LaunchError::IoError(IoError::BufferTooBig { .. }) => Cause::Memory,
        _ => Cause::Other,
    };
    match error {
        ServerError::Launch(e) => of_launch(e),
        ServerError::Io(IoError::BufferTooBig { .. }) => Cause::Memory,
        ServerError::ServerUnhealthy { errors, .. } => {
            errors.iter().map(cause).find(|c| *c != Cause::Other).unwrap_or(Cause::Other)
        }
        _ => Cause::Other,
    }
}

/// Bytes in words.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The first line that says something of its own.
fn first_line(text: &str) -> String {
    let generic = |l: &&str| !l.is_empty() && !l.starts_with("Caused by") && !l.ends_with("during execution");
    let line = text.lines().map(str::trim).find(generic).unwrap_or("unknown error");
    line.chars().take(200).collect()
}

/// Writes the whole text beside the kernel cache and says where.
fn keep_log(text: &str) -> String {
    let path = super::probe::cache_folder().join("last-error.log");
    let written = path.parent().map(std::fs::create_dir_all).and_then(|_| std::fs::write(&path, text).ok());
    written.map_or(String::new(), |()| format!(" (log: {})", path.display()))
}
