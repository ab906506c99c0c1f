//! A CUDA device for tests: compiles the CUDA C++ of every kernel with the host's C++ compiler and runs it
//! on the CPU, block by block, a fiber for each thread.
//!
//! The sources are those that NVRTC would be given; `shim/` holds the headers they include, the scheduler
//! of blocks and threads, and a checker that looks at every access: bounds and alignment of buffers and of
//! shared memory, races between barriers, reads of shared memory that nothing was written to, writes to
//! read-only arguments, undefined behaviour of C++. What it finds is the error of the next read.
//! It does not see how a GPU contracts, rounds inside tensor cores, or what its assembler does.

mod compiler;
mod library;

use std::alloc::Layout;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubecl::device::DeviceId;

use self::compiler::Compiler;
use self::library::{Kernel, Scheduler};
use super::driver::{
    self, Address, Driver, Failure, Function, Launch, Limits, Listed, Pinned, Region, Sequence, Source,
};
use super::properties::has_tensor_cores;
use super::queue::Queue;
use crate::device::gpu::{Client, Gpu};
use crate::device::probe::Facts;
use crate::error::{Result, device_error};

/// CubeCL's name for the kind of device.
const KIND: u16 = 102;

/// Bytes before and behind a buffer that are nobody's: as far as the checker looks for misses, so that
/// it takes nothing else for one, and what is written there does no harm.
const GUARD: usize = 1 << 20;

/// In which order the threads of a block, and blocks, take turns.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Order {
    /// As they are numbered.
    Forward,
    /// From the last to the first.
    Reversed,
    /// Threads at random, anew after every barrier.
    Random(u16),
}

/// What goes wrong on purpose. Launches count from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Fault {
    /// This launch is refused.
    Launch(u64),
    /// The device is lost at this launch.
    Loss(u64),
}

/// An emulated device.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Turns of threads and blocks.
    pub order: Order,
    /// Whether accesses are looked at; kernels run several times as fast without.
    pub check: bool,
    /// Bytes of memory that it has.
    pub memory: u64,
    /// What goes wrong.
    pub fault: Option<Fault>,
    /// Changes every source before it is compiled, to see that the checker sees. Needs a cache of its own.
    pub alter: Option<fn(&str) -> String>,
    /// Folder of compiled kernels.
    pub cache: PathBuf,
    /// Counts the recordings that were made ready.
    pub recordings: Arc<AtomicU64>,
    /// Launches of the recording that was made ready last.
    pub launches: Arc<AtomicU64>,
    /// Counts the bytes that were copied to the host.
    pub downloaded: Arc<AtomicU64>,
    /// Counts the bytes that were copied from the host.
    pub uploaded: Arc<AtomicU64>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            order: Order::Forward,
            check: true,
            memory: 8 << 30,
            fault: None,
            alter: None,
            cache: PathBuf::from("target/emulator"),
            recordings: Arc::default(),
            launches: Arc::default(),
            downloaded: Arc::default(),
            uploaded: Arc::default(),
        }
    }
}

/// Makes an emulated device of compute capability 9.0.
///
/// # Errors
/// When there is no C++ compiler, or it does not compile the scheduler.
pub fn open(settings: &Settings) -> Result<Gpu> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let driver = match Emulator::new(settings.clone()) {
        Err(reason) => return device_error(format!("device emu: {reason}")),
        Ok(driver) => driver,
    };
    let facts = Facts {
        name: "emu".into(),
        description: "CUDA C++ on the CPU".into(),
        kind: "compute capability 9.0".into(),
        software: true,
        f16: true,
        bf16: true,
        tensor_cores: has_tensor_cores(&driver.limits()),
        planes: true,
        largest_buffer: settings.memory,
        ..Facts::default()
    };
    let id = DeviceId::new(KIND, NEXT.fetch_add(1, Ordering::Relaxed));
    let queue = Queue::new(id, Arc::new(driver), settings.cache.clone());
    Ok(Gpu::new(Client::Cuda(queue), facts))
}

#[derive(Debug)]
struct Emulator {
    settings: Settings,
    compiler: Compiler,
    scheduler: Scheduler,
    kernels: Mutex<Vec<Kernel>>,
    memory: Mutex<HashMap<Address, Layout>>,
    launches: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The scheduler: one a process, since kernels find its functions by name.
fn scheduler(compiler: &Compiler) -> std::result::Result<Scheduler, String> {
    static OPEN: Mutex<Option<Scheduler>> = Mutex::new(None);
    let mut open = lock(&OPEN);
    let scheduler = open.map_or_else(|| compiler.scheduler(), Ok)?;
    Ok(*open.insert(scheduler))
}

impl Emulator {
    fn new(settings: Settings) -> std::result::Result<Self, String> {
        let compiler = Compiler::find(&settings)?;
        let scheduler = scheduler(&compiler)?;
        Ok(Self {
            settings,
            compiler,
            scheduler,
            kernels: Mutex::default(),
            memory: Mutex::default(),
            launches: AtomicU64::new(0),
        })
    }

    /// The fault whose turn it is.
    fn fault(&self, kernel: &str) -> driver::Result<()> {
        let launch = self.launches.fetch_add(1, Ordering::Relaxed);
        match self.settings.fault {
            Some(Fault::Launch(n)) if n == launch => {
                Err(Failure::Refused(format!("launching {kernel}: refused on purpose")))
            }
            Some(Fault::Loss(n)) if n <= launch => Err(Failure::Lost("on purpose".into())),
            _ => Ok(()),
        }
    }

    fn is_lost(&self) -> driver::Result<()> {
        match self.settings.fault {
            Some(Fault::Loss(n)) if n < self.launches.load(Ordering::Relaxed) => {
                Err(Failure::Lost("on purpose".into()))
            }
            _ => Ok(()),
        }
    }

    fn free(&self, memory: &HashMap<Address, Layout>) -> u64 {
        self.settings.memory - memory.values().map(|l| (l.size() - 2 * GUARD) as u64).sum::<u64>()
    }
}

/// A buffer that is written, and read through a pointer that promises that nobody writes.
fn aliased(launch: &Launch<'_>) -> Option<String> {
    let writable = &launch.source.writable;
    let end = |r: &Region| r.address + r.bytes;
    for (i, a) in launch.buffers.iter().enumerate().filter(|(i, _)| writable[*i]) {
        for (j, b) in launch.buffers.iter().enumerate().filter(|(j, _)| !writable[*j]) {
            if a.address < end(b) && b.address < end(a) {
                return Some(format!("argument {i} is written, and is the read-only argument {j} too"));
            }
        }
    }
    None
}

impl Driver for Emulator {
    /// An H100's.
    fn limits(&self) -> Limits {
        let memory = self.settings.memory;
        Limits { capability: 90, shared_memory: 227 << 10, multiprocessors: 132, cooperative: true, memory }
    }

    fn toolchain(&self) -> String {
        self.compiler.describe()
    }

    /// Quiet NaN as f32, far out as an index.
    fn poison(&self) -> Option<u8> {
        Some(0xff)
    }

    fn compile(&self, source: &Source) -> driver::Result<Vec<u8>> {
        self.compiler.compile(source).map_err(|log| Failure::Compilation { kernel: source.name.clone(), log })
    }

    fn load(&self, source: &Source, image: &[u8]) -> driver::Result<Function> {
        let kernel = Kernel::load(&self.scheduler, source, image).map_err(Failure::Refused)?;
        let mut kernels = lock(&self.kernels);
        kernels.push(kernel);
        Ok(Function(kernels.len() as u64 - 1))
    }

    unsafe fn launch(&self, launch: &Launch<'_>) -> driver::Result<()> {
        let kernel = &launch.source.name;
        self.fault(kernel)?;
        if let Some(report) = aliased(launch) {
            return Err(Failure::Checked { kernel: kernel.clone(), report });
        }
        let kernels = lock(&self.kernels);
        // SAFETY: the caller vouches for function and buffers.
        let report = unsafe { kernels[launch.function.0 as usize].run(launch, &self.settings) };
        if report.is_empty() {
            return Ok(());
        }
        Err(Failure::Checked {
            kernel: kernel.clone(),
            report: self.compiler.explain(&kernels[launch.function.0 as usize], &report),
        })
    }

    unsafe fn sequence(&self, launches: Vec<Listed>) -> driver::Result<Box<dyn Sequence>> {
        self.settings.recordings.fetch_add(1, Ordering::Relaxed);
        self.settings.launches.store(launches.len() as u64, Ordering::Relaxed);
        Ok(Box::new(launches))
    }

    fn allocate(&self, bytes: u64) -> driver::Result<Address> {
        self.is_lost()?;
        let mut memory = lock(&self.memory);
        let free = self.free(&memory);
        let guarded = (bytes as usize).saturating_add(2 * GUARD);
        let layout = Layout::from_size_align(guarded, 512).ok().filter(|_| bytes <= free);
        let Some(layout) = layout else { return Err(Failure::Memory { asked: bytes, free: Some(free) }) };
        // SAFETY: the layout is not empty.
        let pointer = unsafe { std::alloc::alloc(layout) };
        if pointer.is_null() {
            return Err(Failure::Memory { asked: bytes, free: None });
        }
        let address = (pointer as usize + GUARD) as Address;
        memory.insert(address, layout);
        Ok(address)
    }

    unsafe fn release(&self, address: Address) -> driver::Result<()> {
        if let Some(layout) = lock(&self.memory).remove(&address) {
            // SAFETY: `allocate` has made it with this layout.
            unsafe { std::alloc::dealloc((address as usize - GUARD) as *mut u8, layout) };
        }
        Ok(())
    }

    fn pin(&self, bytes: usize) -> driver::Result<Pinned> {
        Ok(Pinned::of_host(bytes))
    }

    unsafe fn fill(&self, region: Region, byte: u8) -> driver::Result<()> {
        self.is_lost()?;
        // SAFETY: the caller vouches for the region.
        unsafe { (region.address as *mut u8).write_bytes(byte, region.bytes as usize) };
        Ok(())
    }

    unsafe fn upload(&self, to: Address, from: &[u8]) -> driver::Result<()> {
        self.is_lost()?;
        self.settings.uploaded.fetch_add(from.len() as u64, Ordering::Relaxed);
        // SAFETY: the caller vouches for the region.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), to as *mut u8, from.len()) };
        Ok(())
    }

    unsafe fn download(&self, to: &mut [u8], from: Address) -> driver::Result<()> {
        self.is_lost()?;
        self.settings.downloaded.fetch_add(to.len() as u64, Ordering::Relaxed);
        // SAFETY: the caller vouches for the region.
        unsafe { std::ptr::copy_nonoverlapping(from as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn synchronize(&self) -> driver::Result<()> {
        self.is_lost()
    }

    fn free_memory(&self) -> Option<u64> {
        Some(self.free(&lock(&self.memory)))
    }
}
