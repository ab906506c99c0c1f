//! Numbers on a device, and views of them that kernels take.

use std::borrow::Cow;
use std::marker::PhantomData;

use bytemuck::Pod;
use cubecl::prelude::{ArrayArg, Runtime};
use cubecl::server::Handle;
use half::f16;

use super::gpu::Memory;
use super::{Device, Gpu, HostBuffer, mixed};
use crate::error::Result;

/// An element of a buffer. On a GPU, bytes lie four to a 32-bit word.
pub trait Element: Pod + Default + Send + Sync + 'static {}

impl Element for f32 {}
impl Element for u32 {}
impl Element for f16 {}
impl Element for u8 {}

/// Numbers in the memory of a GPU.
#[derive(Clone)]
pub struct GpuBuffer<T = f32> {
    gpu: Gpu,
    memory: Memory,
    len: usize,
    element: PhantomData<T>,
}

impl<T> std::fmt::Debug for GpuBuffer<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} elements on {}", self.len, self.gpu.name())
    }
}

impl<T: Element> GpuBuffer<T> {
    pub(super) fn new(gpu: Gpu, memory: Memory, len: usize) -> Self {
        Self { gpu, memory, len, element: PhantomData }
    }

    /// Elements.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Where it lives.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }

    pub(super) fn memory(&self) -> &Memory {
        &self.memory
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.memory.handle
    }

    /// The same memory as 32-bit words, the last of bytes filled up.
    pub(crate) fn words(&self) -> GpuBuffer<u32> {
        let len = (self.len * size_of::<T>()).div_ceil(size_of::<u32>());
        GpuBuffer { gpu: self.gpu.clone(), memory: self.memory.clone(), len, element: PhantomData }
    }

    /// Copies the numbers to the host; waits for all queued work.
    ///
    /// # Errors
    /// What went wrong on the device since the last read.
    pub fn read(&self) -> Result<Vec<T>> {
        self.gpu.read(self)
    }

    /// As a kernel argument. Bytes are seen as 32-bit words.
    pub(crate) fn arg<R: Runtime>(&self) -> ArrayArg<R> {
        let len = if size_of::<T>() == 1 { self.len.div_ceil(4) } else { self.len };
        // SAFETY: `Gpu::alloc` and `Gpu::upload`, which alone reserve memory of buffers, reserve at least this many
        // elements, whole words of bytes included; `words` sees no more of it.
        unsafe { ArrayArg::from_raw_parts(self.handle().clone(), len.max(1)) }
    }
}

/// Numbers on a device. Cloning one on a GPU shares its memory; [`Buffer::duplicate`] does not.
#[derive(Clone, Debug)]
pub enum Buffer<T: Element = f32> {
    /// In host memory.
    Host(HostBuffer<T>),
    /// In the memory of a GPU.
    Gpu(GpuBuffer<T>),
}

/// No numbers.
impl<T: Element> Default for Buffer<T> {
    fn default() -> Self {
        Self::Host(HostBuffer::default())
    }
}

impl<T: Element> Buffer<T> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(v) => v.len(),
            Self::Gpu(b) => b.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The numbers on the host.
    ///
    /// # Errors
    /// What went wrong on the device since the last read.
    pub fn into_vec(self) -> Result<Vec<T>> {
        match self {
            Self::Host(v) => v.try_into_vec(),
            Self::Gpu(b) => b.read(),
        }
    }

    /// The numbers in host memory, as they are where they lie there.
    ///
    /// # Errors
    /// What went wrong on the device since the last read.
    pub fn into_host(self) -> Result<HostBuffer<T>> {
        match self {
            Self::Host(v) => Ok(v),
            Self::Gpu(b) => b.read().map(HostBuffer::from),
        }
    }

    /// The numbers, copied to the host where they do not lie there.
    ///
    /// # Errors
    /// What went wrong on the device since the last read.
    pub fn values(&self) -> Result<Cow<'_, [T]>> {
        match self {
            Self::Host(v) => Ok(Cow::Borrowed(v)),
            Self::Gpu(b) => b.read().map(Cow::Owned),
        }
    }

    /// A copy of the numbers on the host.
    ///
    /// # Errors
    /// What went wrong on the device since the last read.
    pub fn to_vec(&self) -> Result<Vec<T>> {
        match self {
            Self::Host(v) => Ok(v.to_vec()),
            Self::Gpu(b) => b.read(),
        }
    }

    /// Where it lives.
    pub fn device(&self) -> Device {
        match self {
            Self::Host(_) => Device::CPU,
            Self::Gpu(b) => Device::Gpu(b.gpu().clone()),
        }
    }

    /// To read from.
    pub fn view(&self) -> View<'_, T> {
        self.into()
    }

    /// To write to.
    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        self.into()
    }
}

impl Buffer {
    /// A copy on the same device that shares nothing with this one.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn duplicate(&self) -> Result<Self> {
        match self {
            Self::Host(v) => Ok(Self::Host(v.clone())),
            Self::Gpu(b) => {
                let mut copy = b.gpu().alloc(b.len())?;
                super::copy(b, &mut copy);
                Ok(Self::Gpu(copy))
            }
        }
    }
}

/// Numbers that a kernel reads: a host slice or a GPU buffer.
#[derive(Clone, Copy, Debug)]
pub enum View<'a, T = f32> {
    /// In host memory.
    Host(&'a [T]),
    /// In the memory of a GPU.
    Gpu(&'a GpuBuffer<T>),
}

/// Numbers that a kernel writes: a host slice or a GPU buffer.
#[derive(Debug)]
pub enum ViewMut<'a, T = f32> {
    /// In host memory.
    Host(&'a mut [T]),
    /// In the memory of a GPU.
    Gpu(&'a mut GpuBuffer<T>),
}

impl<'a, T> From<&'a [T]> for View<'a, T> {
    fn from(v: &'a [T]) -> Self {
        Self::Host(v)
    }
}

impl<'a, T> From<&'a mut [T]> for ViewMut<'a, T> {
    fn from(v: &'a mut [T]) -> Self {
        Self::Host(v)
    }
}

impl<'a, T> From<&'a Vec<T>> for View<'a, T> {
    fn from(v: &'a Vec<T>) -> Self {
        Self::Host(v)
    }
}

impl<'a, T> From<&'a mut Vec<T>> for ViewMut<'a, T> {
    fn from(v: &'a mut Vec<T>) -> Self {
        Self::Host(v)
    }
}

impl<'a, T, const N: usize> From<&'a [T; N]> for View<'a, T> {
    fn from(v: &'a [T; N]) -> Self {
        Self::Host(v)
    }
}

impl<'a, T, const N: usize> From<&'a mut [T; N]> for ViewMut<'a, T> {
    fn from(v: &'a mut [T; N]) -> Self {
        Self::Host(v)
    }
}

impl<'a, T: Element> From<&'a Buffer<T>> for View<'a, T> {
    fn from(b: &'a Buffer<T>) -> Self {
        match b {
            Buffer::Host(v) => Self::Host(v),
            Buffer::Gpu(b) => Self::Gpu(b),
        }
    }
}

impl<'a, T: Element> From<&'a mut Buffer<T>> for ViewMut<'a, T> {
    fn from(b: &'a mut Buffer<T>) -> Self {
        match b {
            Buffer::Host(v) => Self::Host(v),
            Buffer::Gpu(b) => Self::Gpu(b),
        }
    }
}

impl<'a, T> From<&'a GpuBuffer<T>> for View<'a, T> {
    fn from(b: &'a GpuBuffer<T>) -> Self {
        Self::Gpu(b)
    }
}

impl<'a, T> From<&'a mut GpuBuffer<T>> for ViewMut<'a, T> {
    fn from(b: &'a mut GpuBuffer<T>) -> Self {
        Self::Gpu(b)
    }
}

/// Why host access cannot fail: a kernel has asked [`place`] first.
const PLACED: &str = "all operands were found to be in one place";

impl<'a, T: Element> View<'a, T> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(v) => v.len(),
            Self::Gpu(b) => b.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn host(self) -> &'a [T] {
        match self {
            Self::Host(v) => v,
            Self::Gpu(_) => unreachable!("{PLACED}"),
        }
    }

    pub(crate) fn device(self) -> &'a GpuBuffer<T> {
        match self {
            Self::Gpu(b) => b,
            Self::Host(_) => unreachable!("{PLACED}"),
        }
    }
}

impl<'a, T: Element> ViewMut<'a, T> {
    /// Elements.
    pub fn len(&self) -> usize {
        match self {
            Self::Host(v) => v.len(),
            Self::Gpu(b) => b.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn host(self) -> &'a mut [T] {
        match self {
            Self::Host(v) => v,
            Self::Gpu(_) => unreachable!("{PLACED}"),
        }
    }

    pub(crate) fn device(self) -> &'a mut GpuBuffer<T> {
        match self {
            Self::Gpu(b) => b,
            Self::Host(_) => unreachable!("{PLACED}"),
        }
    }
}

/// Something that lies on the host or on a GPU.
pub(crate) trait Place {
    /// The GPU, if it lies on one.
    fn gpu(&self) -> Option<&Gpu>;
}

impl<T: Element> Place for View<'_, T> {
    fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Host(_) => None,
            Self::Gpu(b) => Some(b.gpu()),
        }
    }
}

impl<T: Element> Place for ViewMut<'_, T> {
    fn gpu(&self) -> Option<&Gpu> {
        match self {
            Self::Host(_) => None,
            Self::Gpu(b) => Some(b.gpu()),
        }
    }
}

/// The GPU that all operands share; `None` when all are on the host.
pub(crate) fn place(op: &'static str, operands: &[&dyn Place]) -> Result<Option<Gpu>> {
    let first = operands.first().and_then(|o| o.gpu());
    let same = operands.iter().all(|o| match (first, o.gpu()) {
        (None, None) => true,
        (Some(a), Some(b)) => a.is(b),
        _ => false,
    });
    if same { Ok(first.cloned()) } else { mixed(op) }
}
