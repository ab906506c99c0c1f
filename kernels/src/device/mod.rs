//! Where kernels run: the CPU, or a GPU through CubeCL (CUDA, or Vulkan/Metal/DX12 through wgpu).
//!
//! A [`Gpu`] is found by probing, never by a panic; a [`Buffer`] lives on one device; kernels take
//! [`View`]s, which are host slices or GPU buffers alike. Work on a GPU is queued: an error of a
//! launch shows when a result is read, so every read is checked.

mod buffer;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod configuration;
mod cpu;
#[cfg(feature = "cuda")]
mod cuda;
mod fill;
mod gpu;
mod host;
mod launch;
mod line;
mod name;
mod poison;
mod probe;
mod recorded;
mod reused;
#[cfg(feature = "wgpu")]
mod wgpu;

pub use buffer::{Buffer, Element, GpuBuffer, View, ViewMut};
pub use cpu::{Cpu, InputRange, InputRanges, Rounding};
#[cfg(all(feature = "cuda", unix, target_arch = "x86_64"))]
#[doc(hidden)]
pub use cuda::emulator;
#[cfg(feature = "cuda")]
#[doc(hidden)]
pub use cuda::offline;
pub use gpu::{Gpu, Precision};
pub use host::HostBuffer;
pub use name::DeviceName;
#[doc(hidden)]
pub use poison::poison_new_buffers;
pub use probe::{Facts, Probe, hush_drivers, probe};
pub use recorded::{Recorded, RecordedStep};

pub(crate) use buffer::{Place, place};
#[cfg(feature = "cuda")]
pub(crate) use cuda::{COOPERATIVE, Cuda, Queue, WARP, Written, launch_written, macros};
pub(crate) use fill::{copy, fill};
#[allow(unused_imports)] // some clients exist only with their feature
pub(crate) use gpu::Client;
pub(crate) use launch::{UNITS, grid, launch, units};
pub(crate) use reused::Reused;

use rayon::prelude::*;

use crate::error::{Result, device_error};

/// Where kernels run.
#[derive(Clone, Debug)]
pub enum Device {
    /// Native loops on all cores.
    Cpu(Cpu),
    /// CubeCL kernels.
    Gpu(Gpu),
}

impl Default for Device {
    fn default() -> Self {
        Self::CPU
    }
}

impl Device {
    /// The CPU in f32.
    pub const CPU: Self = Self::Cpu(Cpu::F32);

    /// Whether [`Device::run`] runs work on a thread of the device's own.
    pub fn has_thread(&self) -> bool {
        #[cfg(feature = "cuda")]
        if let Self::Gpu(gpu) = self {
            return gpu.cuda().is_some();
        }
        false
    }

    /// Runs work that launches many kernels and waits for none of other threads: where the device takes each launch at once.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "cuda")]
        if let Self::Gpu(gpu) = self
            && let Some(queue) = gpu.cuda()
        {
            return queue.run(work);
        }
        work()
    }

    /// Opens a device by its [name](DeviceName).
    ///
    /// # Errors
    /// When there is no such device, or `HOTAD_ISA` names no instruction set of this CPU; the message says why and
    /// what to do.
    pub fn open(name: &str) -> Result<Self> {
        crate::simd::check()?;
        match name.parse()? {
            DeviceName::Cpu => Ok(Self::CPU),
            DeviceName::Auto => probe::automatic().map_or(Ok(Self::CPU), |name| Self::open(&name)),
            #[cfg(feature = "cuda")]
            DeviceName::Cuda(number) => cuda::open(number.into()).map(Self::Gpu),
            #[cfg(feature = "wgpu")]
            DeviceName::Wgpu(number) => wgpu::open(number.into()).map(Self::Gpu),
            #[cfg(not(all(feature = "cuda", feature = "wgpu")))]
            _ => device_error(format!("device {name}: this hotad was built without it; use cpu")),
        }
    }

    /// `cpu`, `cuda:N` or `wgpu:N`.
    pub fn name(&self) -> &str {
        match self {
            Self::Cpu(_) => "cpu",
            Self::Gpu(gpu) => gpu.name(),
        }
    }

    /// The GPU, if it is one.
    pub fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Cpu(_) => None,
            Self::Gpu(gpu) => Some(gpu),
        }
    }

    /// The same device with convolutions in another precision.
    ///
    /// # Errors
    /// When it does not multiply in it.
    pub fn with_precision(&self, precision: Precision) -> Result<Self> {
        match self {
            Self::Cpu(_) => Cpu::new(precision).map(Self::Cpu),
            Self::Gpu(gpu) => gpu.with_precision(precision).map(Self::Gpu),
        }
    }

    /// What operands of convolutions are rounded to.
    pub fn precision(&self) -> Precision {
        match self {
            Self::Cpu(cpu) => cpu.precision(),
            Self::Gpu(gpu) => gpu.precision(),
        }
    }

    /// The CPU, if it is one.
    pub fn cpu(&self) -> Option<&Cpu> {
        match self {
            Self::Cpu(cpu) => Some(cpu),
            Self::Gpu(_) => None,
        }
    }

    /// Whether both are the same device, in whatever precision.
    pub fn is(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Cpu(_), Self::Cpu(_)) => true,
            (Self::Gpu(a), Self::Gpu(b)) => a.is(b),
            _ => false,
        }
    }

    /// Room for `len` elements; what it holds is not defined.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub fn alloc<T: Element>(&self, len: usize) -> Result<Buffer<T>> {
        match self {
            Self::Cpu(_) => HostBuffer::try_uninit(len).map(Buffer::Host),
            Self::Gpu(gpu) => Ok(Buffer::Gpu(gpu.alloc(len)?)),
        }
    }

    /// `len` zeros.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub fn zeros(&self, len: usize) -> Result<Buffer> {
        self.filled(len, 0.0)
    }

    /// `len` times the same number.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub fn filled(&self, len: usize, value: f32) -> Result<Buffer> {
        let mut buffer = self.alloc(len)?;
        match &mut buffer {
            Buffer::Host(values) => values.par_chunks_mut(1 << 16).for_each(|part| part.fill(value)),
            Buffer::Gpu(b) => fill::fill(b, value),
        }
        Ok(buffer)
    }

    /// A small table on the device, which a GPU keeps and gives again for the same numbers: for what an operation is given at every
    /// call. Nobody writes to it.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub fn constants<T: Element>(&self, table: &[T]) -> Result<Buffer<T>> {
        match self {
            Self::Cpu(_) => Ok(Buffer::Host(HostBuffer::copied(table))),
            Self::Gpu(gpu) => gpu.constants(table).map(Buffer::Gpu),
        }
    }

    /// Moves numbers from the host to the device.
    ///
    /// # Errors
    /// When the device cannot have a buffer of this size.
    pub fn upload<T: Element>(&self, data: Vec<T>) -> Result<Buffer<T>> {
        match self {
            Self::Cpu(_) => Ok(Buffer::Host(data.into())),
            Self::Gpu(gpu) => Ok(Buffer::Gpu(gpu.upload(&data)?)),
        }
    }
}

/// The error of operands on different devices.
pub(crate) fn mixed<T>(op: &'static str) -> Result<T> {
    device_error(format!("{op}: operands live on different devices; move them to one first"))
}
