//! One GPU: its queue, its memory, what it can do.

use std::collections::HashMap;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

#[cfg(feature = "wgpu")]
use cubecl::client::ComputeClient;
use cubecl::server::Handle;

use super::buffer::{Element, GpuBuffer};
use super::poison;
use super::probe::Facts;
use crate::error::{KernelError, Result, device_error};

/// A queue of one of the runtimes.
pub(crate) enum Client {
    /// CUDA C++, on hotad's own server.
    #[cfg(feature = "cuda")]
    Cuda(super::cuda::Queue),
    /// WGSL through Vulkan, Metal or DX12.
    #[cfg(feature = "wgpu")]
    Wgpu(ComputeClient<cubecl::wgpu::WgpuRuntime>),
}

/// Memory of a buffer. Shared by all that refer to the same numbers.
#[derive(Clone)]
pub(super) struct Memory {
    /// By which kernels are given it.
    pub handle: Handle,
    /// What gives it back when the last reference is dropped, where the handle does not.
    _owner: Option<Arc<dyn Send + Sync>>,
}

/// Compute capability, times ten, from which kernels written in CUDA C++ run: they copy asynchronously.
#[cfg(feature = "cuda")]
const WRITTEN_FOR: u32 = 80;

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
    /// 7 bits of mantissa, on tensor cores or on the CPU.
    Bf16,
    /// Bytes, on the CPU.
    Int8,
}

impl Precision {
    /// As [`Precision::from_str`] takes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Tf32 => "tf32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Int8 => "int8",
        }
    }
}

impl FromStr for Precision {
    type Err = KernelError;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "f32" => Ok(Self::F32),
            "tf32" => Ok(Self::Tf32),
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            "int8" => Ok(Self::Int8),
            _ => device_error(format!("precision {name:?}: use f32, tf32, f16, bf16 or int8")),
        }
    }
}

struct Inner {
    client: Client,
    facts: Facts,
    /// Small tables that every call of an operation needs, by content. Their memory, since a buffer would
    /// hold the GPU that holds it.
    constants: Mutex<HashMap<Vec<u32>, Memory>>,
    /// Memory and length of [`Gpu::counters`].
    #[cfg(feature = "cuda")]
    counters: Mutex<Option<(Memory, usize)>>,
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
        let inner = Inner {
            client,
            facts,
            constants: Mutex::default(),
            #[cfg(feature = "cuda")]
            counters: Mutex::default(),
        };
        Self { inner: Arc::new(inner), precision: Precision::F32 }
    }

    /// The same GPU with convolutions in another precision.
    ///
    /// # Errors
    /// When it has no tensor cores for it.
    pub fn with_precision(&self, precision: Precision) -> Result<Self> {
        if precision == Precision::Int8 {
            return device_error(format!("{}: precision int8 is for the CPU; use f16 or bf16 here", self.name()));
        }
        if precision != Precision::F32 && !self.facts().tensor_cores {
            return device_error(format!("{}: no tensor cores for {}; use f32", self.name(), precision.name()));
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
        let bytes = len.saturating_mul(size_of::<T>()).checked_next_multiple_of(4).unwrap_or(usize::MAX).max(4);
        self.check_size(bytes)?;
        let memory = match self.inner.client {
            #[cfg(feature = "cuda")]
            Client::Cuda(ref queue) => {
                let (handle, block) = queue.allocate(bytes as u64).map_err(|e| self.failure(e))?;
                Memory { handle, _owner: Some(block) }
            }
            #[cfg(feature = "wgpu")]
            Client::Wgpu(ref client) => {
                let handle = match poison::byte() {
                    Some(byte) => super::wgpu::create(client, vec![byte; bytes]),
                    None => client.empty(bytes),
                };
                Memory { handle, _owner: None }
            }
        };
        Ok(GpuBuffer::new(self.clone(), memory, len))
    }

    /// Copies numbers to the GPU.
    ///
    /// # Errors
    /// When it cannot have a buffer of this size.
    pub fn upload<T: Element>(&self, data: &[T]) -> Result<GpuBuffer<T>> {
        let bytes = bytemuck::cast_slice::<T, u8>(data);
        match self.inner.client {
            #[cfg(feature = "cuda")]
            Client::Cuda(ref queue) => {
                let buffer = self.alloc(data.len())?;
                queue.upload(buffer.handle(), bytes).map_err(|e| self.failure(e))?;
                Ok(buffer)
            }
            #[cfg(feature = "wgpu")]
            Client::Wgpu(ref client) => {
                let mut bytes = bytes.to_vec();
                bytes.resize(bytes.len().next_multiple_of(4).max(4), 0);
                self.check_size(bytes.len())?;
                let memory = Memory { handle: super::wgpu::create(client, bytes), _owner: None };
                Ok(GpuBuffer::new(self.clone(), memory, data.len()))
            }
        }
    }

    /// [`Gpu::upload`] of what is kept for all later work, and is therefore no part of a recording.
    fn upload_kept<T: Element>(&self, data: &[T]) -> Result<GpuBuffer<T>> {
        #[cfg(feature = "cuda")]
        return super::cuda::aside(|| self.upload(data));
        #[cfg(not(feature = "cuda"))]
        self.upload(data)
    }

    /// Uploads a small table once; later calls with the same numbers get the same buffer.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub(crate) fn constants<T: Element>(&self, table: &[T]) -> Result<GpuBuffer<T>> {
        let key: Vec<u32> = bytemuck::cast_slice(table).to_vec();
        let known = || self.inner.constants.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known().get(&key).cloned();
        if let Some(memory) = found {
            return Ok(GpuBuffer::new(self.clone(), memory, table.len()));
        }
        // Not under the lock: an upload may wait for a thread that asks for constants.
        let buffer = self.upload_kept(table)?;
        // Another thread's may have come first.
        let kept = known().entry(key).or_insert_with(|| buffer.memory().clone()).clone();
        Ok(GpuBuffer::new(self.clone(), kept, table.len()))
    }

    /// The queue that kernels written in CUDA C++ can be launched in.
    #[cfg(feature = "cuda")]
    pub(crate) fn cuda(&self) -> Option<&super::cuda::Queue> {
        match self.inner.client {
            Client::Cuda(ref queue) => (queue.limits().capability >= WRITTEN_FOR).then_some(queue),
            #[cfg(feature = "wgpu")]
            Client::Wgpu(_) => None,
        }
    }

    /// Counters that are zero whenever a kernel begins: each kernel that counts with them sets them back.
    #[cfg(feature = "cuda")]
    pub(crate) fn counters(&self, len: usize) -> Result<GpuBuffer<u32>> {
        let kept = || self.inner.counters.lock().unwrap_or_else(PoisonError::into_inner);
        let found = kept().clone().filter(|(_, kept_len)| *kept_len >= len);
        if let Some((memory, kept_len)) = found {
            return Ok(GpuBuffer::new(self.clone(), memory, kept_len));
        }
        let buffer = self.upload_kept(&vec![0u32; len.next_power_of_two()])?;
        *kept() = Some((buffer.memory().clone(), buffer.len()));
        Ok(buffer)
    }

    fn check_size(&self, bytes: usize) -> Result<()> {
        let most = self.facts().largest_buffer;
        if bytes as u64 <= most {
            return Ok(());
        }
        let (asked, most) = (mebibytes(bytes as u64), mebibytes(most));
        let reason = format!("{}: a buffer of {asked} was asked for, {most} is the largest possible", self.name());
        Err(KernelError::Memory(reason))
    }

    pub(super) fn read<T: Element>(&self, buffer: &GpuBuffer<T>) -> Result<Vec<T>> {
        match self.inner.client {
            #[cfg(feature = "cuda")]
            Client::Cuda(ref queue) => {
                let mut values = vec![T::default(); buffer.len()];
                let bytes = bytemuck::cast_slice_mut(&mut values);
                queue.read(buffer.handle(), bytes).map_err(|e| self.failure(e))?;
                Ok(values)
            }
            #[cfg(feature = "wgpu")]
            Client::Wgpu(ref client) => {
                let bytes = super::wgpu::read(client, buffer.handle()).map_err(|e| self.failure(e))?;
                Ok(bytemuck::pod_collect_to_vec(&bytes[..buffer.len() * size_of::<T>()]))
            }
        }
    }

    /// Waits for all queued work.
    ///
    /// # Errors
    /// What went wrong since the last read.
    pub fn synchronize(&self) -> Result<()> {
        match self.inner.client {
            #[cfg(feature = "cuda")]
            Client::Cuda(ref queue) => queue.synchronize().map_err(|e| self.failure(e)),
            #[cfg(feature = "wgpu")]
            Client::Wgpu(ref client) => super::wgpu::synchronize(client).map_err(|e| self.failure(e)),
        }
    }

    /// Bytes in use and bytes reserved by the memory pool.
    ///
    /// # Errors
    /// When the device is lost.
    pub fn memory(&self) -> Result<(u64, u64)> {
        match self.inner.client {
            #[cfg(feature = "cuda")]
            Client::Cuda(ref queue) => Ok(queue.usage()),
            #[cfg(feature = "wgpu")]
            Client::Wgpu(ref client) => super::wgpu::memory(client).map_err(|e| self.failure(e)),
        }
    }

    /// One line with the name of the device; what else is known goes to a file.
    #[allow(dead_code)] // without any runtime nothing fails
    pub(super) fn failure(&self, failure: impl Told) -> KernelError {
        let log = failure.log().map_or(String::new(), |text| keep_log(&text));
        let line = format!("{}: {}{log}", self.name(), failure.line());
        if failure.is_memory() { KernelError::Memory(line) } else { KernelError::Device(line) }
    }
}

/// A failure of a runtime, as a user is told of it.
pub(super) trait Told {
    /// What happened, and what to do where something can be done.
    fn line(&self) -> String;

    /// Whether it is a lack of memory.
    fn is_memory(&self) -> bool;

    /// All that is known, where that is more.
    fn log(&self) -> Option<String>;
}

/// Bytes in words.
pub(super) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Writes a text beside the kernel cache and says where.
#[allow(dead_code)] // as above
fn keep_log(text: &str) -> String {
    let path = super::probe::cache_folder().join("last-error.log");
    let written = path.parent().map(std::fs::create_dir_all).and_then(|_| std::fs::write(&path, text).ok());
    written.map_or(String::new(), |()| format!(" (log: {})", path.display()))
}
