//! What the server asks of a device: memory by address, images of kernels, one stream of work.

use std::fmt::Debug;
use std::sync::Arc;

use crate::device::gpu::{Told, mebibytes};

/// Where memory of the device begins, as its kernels see it.
pub type Address = u64;

/// What went wrong. The text is one line without the name of the device.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Failure {
    /// No memory for a buffer.
    #[error("out of memory: {} was asked for, {} is free", mebibytes(*asked), free.map_or("unknown".into(), mebibytes))]
    Memory {
        /// Bytes.
        asked: u64,
        /// Bytes, where the driver tells.
        free: Option<u64>,
    },
    /// The compiler refused a kernel.
    #[error("a kernel failed to compile: {kernel}: {}", first_error(log))]
    Compilation {
        /// Which one.
        kernel: String,
        /// What the compiler said, then the source.
        log: String,
    },
    /// The emulator saw a kernel do what a GPU would not have told of.
    #[error("{kernel}: {}", first_error(report))]
    Checked {
        /// Which one.
        kernel: String,
        /// All that was seen, a line each.
        report: String,
    },
    /// The driver refused a call; the device goes on.
    #[error("{0}")]
    Refused(String),
    /// Nothing works any more until the program is started again.
    #[error("the device was lost: {0}; start again")]
    Lost(String),
}

impl Told for Failure {
    fn line(&self) -> String {
        self.to_string()
    }

    fn is_memory(&self) -> bool {
        matches!(self, Self::Memory { .. })
    }

    fn log(&self) -> Option<String> {
        match self {
            Self::Compilation { log, .. } | Self::Checked { report: log, .. } => Some(log.clone()),
            _ => None,
        }
    }
}

/// The first line of a compiler's log that names an error.
fn first_error(log: &str) -> String {
    let named = log.lines().find(|l| l.contains("error")).or(log.lines().find(|l| !l.trim().is_empty()));
    named.unwrap_or("no reason given").trim().chars().take(200).collect()
}

/// Result of a driver's call.
pub type Result<T> = std::result::Result<T, Failure>;

/// What a device is, as far as compiling and launching depend on it.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Compute capability times ten.
    pub capability: u32,
    /// Bytes of shared memory that a block can have.
    pub shared_memory: usize,
    /// Streaming multiprocessors.
    pub multiprocessors: u32,
    /// Whether it launches kernels whose blocks wait for each other.
    pub cooperative: bool,
    /// Bytes of memory.
    pub memory: u64,
}

/// A kernel in CUDA C++, with what its launch needs.
#[derive(Clone, Debug)]
pub struct Source {
    /// Path of the Rust function.
    pub name: String,
    /// Name of the function in `code`.
    pub entry: String,
    /// CUDA C++.
    pub code: String,
    /// Threads of a block.
    pub block: [u32; 3],
    /// Bytes of shared memory of a block.
    pub shared: u32,
    /// For each buffer, in the order of the arguments, whether the kernel may write to it.
    pub writable: Vec<bool>,
    /// Whether the last argument is a struct of lengths and scalars.
    pub has_info: bool,
    /// Whether its blocks wait for each other, so that all of them have to be on the device at once.
    pub cooperative: bool,
}

/// A loaded kernel, by a number that its driver knows.
#[derive(Clone, Copy, Debug)]
pub struct Function(pub u64);

/// Memory that a kernel is given.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    /// First byte.
    pub address: Address,
    /// Bytes.
    pub bytes: u64,
}

/// A kernel and all that it is given.
#[derive(Debug)]
pub struct Launch<'a> {
    /// What `load` returned.
    pub function: Function,
    /// What it was loaded from.
    pub source: &'a Source,
    /// Blocks.
    pub grid: [u32; 3],
    /// Buffers, as many as the source has.
    pub buffers: &'a [Region],
    /// The bytes of the last argument.
    pub info: &'a [u64],
}

/// A launch that can be queued any number of times.
#[derive(Clone, Debug)]
pub struct Listed {
    /// As in [`Launch`].
    pub function: Function,
    /// As in [`Launch`].
    pub source: Arc<Source>,
    /// Blocks.
    pub grid: [u32; 3],
    /// Buffers, as many as the source has.
    pub buffers: Vec<Region>,
    /// The bytes of the last argument.
    pub info: Vec<u64>,
}

impl Listed {
    /// For [`Driver::launch`].
    pub fn launch(&self) -> Launch<'_> {
        let Self { function, source, grid, buffers, info } = self;
        Launch { function: *function, source, grid: *grid, buffers, info }
    }
}

/// Launches that are queued as one.
pub trait Sequence: Debug + Send + Sync {
    /// Queues them in their order.
    ///
    /// # Safety
    /// As [`Driver::launch`], for each launch; `driver` has made the sequence.
    unsafe fn queue(&self, driver: &dyn Driver) -> Result<()>;
}

/// Launch by launch.
impl Sequence for Vec<Listed> {
    unsafe fn queue(&self, driver: &dyn Driver) -> Result<()> {
        // SAFETY: the caller vouches for every launch.
        self.iter().try_for_each(|listed| unsafe { driver.launch(&listed.launch()) })
    }
}

/// Host memory that copies can be queued from and to.
#[derive(Debug)]
pub struct Pinned {
    pub(super) pointer: *mut u8,
    pub(super) bytes: usize,
}

// SAFETY: it points to memory of its own, which no other value refers to.
unsafe impl Send for Pinned {}

impl Pinned {
    /// Ordinary memory, for drivers that copy at once.
    pub fn of_host(bytes: usize) -> Self {
        let memory: &'static mut [u8] = Box::leak(vec![0; bytes].into_boxed_slice());
        Self { pointer: memory.as_mut_ptr(), bytes }
    }

    /// The bytes, whose copies have been waited for or are read only.
    pub fn as_mut(&mut self) -> &mut [u8] {
        // SAFETY: `Driver::pin` gives so many bytes for the life of the process, and fills them once.
        unsafe { std::slice::from_raw_parts_mut(self.pointer, self.bytes) }
    }
}

/// A device with one stream: what is queued runs in the order of the calls.
pub trait Driver: Debug + Send + Sync + 'static {
    /// What the device is.
    fn limits(&self) -> Limits;

    /// All that an image depends on beside the source.
    fn toolchain(&self) -> String;

    /// A value for every byte of new memory, so that tests see what is read before it is written.
    fn poison(&self) -> Option<u8> {
        None
    }

    /// Makes an image that this and later processes can load.
    fn compile(&self, source: &Source) -> Result<Vec<u8>>;

    /// Makes an image ready to launch.
    fn load(&self, source: &Source, image: &[u8]) -> Result<Function>;

    /// Queues a kernel.
    ///
    /// # Safety
    /// The function was loaded from the source by this driver, every region lies in memory that it has
    /// allocated and not released, and the kernel stays within them.
    unsafe fn launch(&self, launch: &Launch<'_>) -> Result<()>;

    /// Makes launches ready to be queued as one.
    ///
    /// # Safety
    /// As [`Driver::launch`], for each launch.
    unsafe fn sequence(&self, launches: Vec<Listed>) -> Result<Box<dyn Sequence>> {
        Ok(Box::new(launches))
    }

    /// Memory of the device, at least 256 bytes aligned.
    fn allocate(&self, bytes: u64) -> Result<Address>;

    /// Gives memory back once nothing queued uses it.
    ///
    /// # Safety
    /// The address came from `allocate` and is not used again.
    unsafe fn release(&self, address: Address) -> Result<()>;

    /// Host memory for copies, zeros, kept until the process ends.
    fn pin(&self, bytes: usize) -> Result<Pinned>;

    /// Queues a fill.
    ///
    /// # Safety
    /// The region lies in memory that this driver has allocated and not released.
    unsafe fn fill(&self, region: Region, byte: u8) -> Result<()>;

    /// Queues a copy to the device.
    ///
    /// # Safety
    /// The memory at `to` holds as many bytes, and the pinned ones stay as they are until the copy is done.
    unsafe fn upload(&self, to: Address, from: &[u8]) -> Result<()>;

    /// Queues a copy from the device.
    ///
    /// # Safety
    /// The memory at `from` holds as many bytes, and nobody reads the pinned ones until the copy is done.
    unsafe fn download(&self, to: &mut [u8], from: Address) -> Result<()>;

    /// Waits for all that was queued before.
    fn synchronize(&self) -> Result<()>;

    /// Bytes free, where the device tells.
    fn free_memory(&self) -> Option<u64>;
}
