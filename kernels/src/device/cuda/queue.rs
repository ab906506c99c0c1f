//! The work of one device in order: launches through CubeCL's client, memory and copies directly.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cubecl::client::ComputeClient;
use cubecl::device::DeviceId;
use cubecl::device_handle::DeviceHandle;
use cubecl::server::Handle;
use cubecl::stream_id::StreamId;
use cubecl_runtime::memory_management::ManagedMemoryHandle;

use super::cache::Cache;
use super::driver::{Address, Driver, Failure, Limits, Region, Result};
use super::kernels::Kernels;
use super::memory::{Arena, Pool};
use super::recording::{self, Recording};
use super::server::{Cuda, Number, Server};
use super::staging::{self, Download, Upload};
use crate::device::configuration::configure;
use crate::device::poison;

/// What the queue and its server share.
#[derive(Debug)]
pub struct Core {
    driver: Arc<dyn Driver>,
    arena: Arc<Arena>,
    upload: Mutex<Upload>,
    download: Mutex<Download>,
    /// The first failure of a launch that nobody was told of yet.
    failure: Mutex<Option<Failure>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A poisoned lock only says that another thread has panicked; what it guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Core {
    pub fn driver(&self) -> &dyn Driver {
        &*self.driver
    }

    /// Keeps a failure for the next wait.
    pub fn record(&self, failure: Failure) {
        lock(&self.failure).get_or_insert(failure);
    }

    /// The failure of a launch before the one of what came after it. A device that was lost stays so.
    pub(super) fn outcome<T>(&self, result: Result<T>) -> Result<T> {
        let mut recorded = lock(&self.failure);
        match recorded.as_ref() {
            None => result,
            Some(Failure::Lost(_)) => Err(recorded.clone().expect("matched")),
            Some(_) => Err(recorded.take().expect("matched")),
        }
    }

    /// Queues a copy to memory of at least as many bytes, on the thread of the queue.
    pub(super) fn upload(&self, to: Address, from: &[u8]) -> Result<()> {
        lock(&self.upload).copy(self.driver(), to, from)
    }

    /// Copies from memory of at least as many bytes each, after all that was queued before, on the thread of the queue. All of
    /// it fits into the pinned memory.
    pub(super) fn download(&self, from: &mut [(Address, &mut [u8])]) -> Result<()> {
        let mut download = lock(&self.download);
        let all = download.piece(self.driver(), from.iter().map(|(_, to)| to.len()).sum())?;
        let mut parts = &mut *all;
        for (address, to) in from.iter() {
            let (part, rest) = parts.split_at_mut(to.len());
            // SAFETY: the caller's buffer holds all bytes; they are read after the stream was waited for.
            unsafe { self.driver.download(part, *address)? };
            parts = rest;
        }
        self.wait()?;
        let mut parts = &*all;
        for (_, to) in from {
            let (part, rest) = parts.split_at(to.len());
            to.copy_from_slice(part);
            parts = rest;
        }
        Ok(())
    }

    fn wait(&self) -> Result<()> {
        let pieces = lock(&self.upload).pieces();
        self.driver.synchronize()?;
        lock(&self.upload).waited_for(pieces);
        Ok(())
    }
}

/// CubeCL's thread of a device, which looks for work about every 150 microseconds for as long as the process lives. Devices that
/// were found stay open; those of tests are dropped, and their thread is parked then.
struct DeviceThread(DeviceId);

impl Drop for DeviceThread {
    fn drop(&mut self) {
        let id = self.0;
        let park = move || {
            let handle = DeviceHandle::<Server>::new(id);
            handle.submit(|_| {
                loop {
                    std::thread::park();
                }
            });
            handle.flush_queue();
        };
        // From another thread: on the device's own one the task would run at once, with this drop waiting for it. A thread that
        // cannot be had leaves the device's one as it is.
        let _ = std::thread::Builder::new().spawn(park);
    }
}

/// A device's queue.
#[derive(Clone)]
pub struct Queue {
    client: ComputeClient<Cuda>,
    core: Arc<Core>,
    /// Of all clones.
    _thread: Arc<DeviceThread>,
}

impl Queue {
    /// Starts the server of a device. No other queue of the process has this id.
    pub fn new(id: DeviceId, driver: Arc<dyn Driver>, cache: PathBuf) -> Self {
        configure();
        let core = Arc::new(Core {
            driver: driver.clone(),
            arena: Arc::new(Arena::new(driver.clone())),
            upload: Mutex::default(),
            download: Mutex::default(),
            failure: Mutex::default(),
        });
        let kernels = Kernels::new(driver.clone(), Cache::new(cache, driver.toolchain()));
        let client = ComputeClient::init(&Number(id), Server::new(core.clone(), kernels));
        Self { client, core, _thread: Arc::new(DeviceThread(id)) }
    }

    /// What the device is.
    pub fn limits(&self) -> Limits {
        self.core.driver.limits()
    }

    /// For launches.
    pub fn client(&self) -> &ComputeClient<Cuda> {
        &self.client
    }

    /// Runs a task after everything that was queued so far has been given to the driver.
    pub(super) fn in_order(&self, task: impl FnOnce() -> Result<()> + Send) -> Result<()> {
        let done = self.client.exclusive(task);
        done.unwrap_or_else(|e| Err(Failure::Lost(format!("the thread of its queue has ended: {e}"))))
    }

    /// Runs work on the thread of the queue, where each launch is given to the driver at once; from other threads
    /// launches arrive in batches. The work must not wait for another thread that uses the device, and no other thread
    /// may use it meanwhile: its launches would come later than the reuse of the memory that it has given back.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        let mut result = None;
        let done = self.client.exclusive(|| result = Some(work()));
        match (done, result) {
            (Ok(()), Some(result)) => result,
            _ => panic!("work on the thread of a CUDA queue has panicked"),
        }
    }

    /// [`Queue::run`] that records what the work does; none where it cannot be repeated.
    pub fn record<R: Send>(&self, work: impl FnOnce() -> R + Send) -> (R, Option<Recording>) {
        let pool = Arc::new(Pool::new(self.core.arena.clone()));
        self.run(|| recording::record(pool, work))
    }

    /// Memory for a buffer, and whoever gives it back when dropped.
    pub fn allocate(&self, bytes: u64) -> Result<(Handle, Arc<dyn Send + Sync>)> {
        let Core { arena, driver, .. } = &*self.core;
        let taken = match self.take(bytes) {
            Err(Failure::Memory { .. }) if arena.retire() => {
                self.in_order(|| arena.release())?;
                self.take(bytes)
            }
            taken => taken,
        };
        let (address, owner) = taken?;
        if let Some(byte) = driver.poison().or_else(poison::byte) {
            // SAFETY: the block has at least so many bytes.
            self.in_order(|| unsafe { driver.fill(Region { address, bytes }, byte) })?;
        }
        let handle = Handle::from_memory(ManagedMemoryHandle::new(), StreamId { value: 0 }, address + bytes);
        Ok((handle.offset_start(address), owner))
    }

    /// A block of the arena, or of the recording of this thread.
    fn take(&self, bytes: u64) -> Result<(Address, Arc<dyn Send + Sync>)> {
        let arena = &self.core.arena;
        match recording::pool().filter(|pool| pool.is_of(arena)) {
            Some(pool) => pool.take(bytes).map(|block| (block.address(), Arc::new(block) as Arc<dyn Send + Sync>)),
            None => arena.take(bytes).map(|block| (block.address(), Arc::new(block) as Arc<dyn Send + Sync>)),
        }
    }

    /// Queues a copy to a buffer of at least as many bytes.
    pub fn upload(&self, to: &Handle, from: &[u8]) -> Result<()> {
        recording::end();
        let copied = self.in_order(|| self.core.upload(address(to), from));
        self.core.outcome(copied)
    }

    /// Copies from a buffer of at least as many bytes, after all that was queued before.
    pub fn read(&self, from: &Handle, to: &mut [u8]) -> Result<()> {
        recording::end();
        let copied = self.copy(address(from), to);
        self.core.outcome(copied)
    }

    fn copy(&self, from: Address, to: &mut [u8]) -> Result<()> {
        for (i, piece) in to.chunks_mut(staging::BYTES).enumerate() {
            let begin = from + (i * staging::BYTES) as u64;
            // The pinned memory is taken on the queue's thread: nobody who holds it waits for that thread.
            self.in_order(|| self.core.download(&mut [(begin, piece)]))?;
        }
        Ok(())
    }

    /// Waits for all that was queued before.
    pub fn synchronize(&self) -> Result<()> {
        let waited = self.in_order(|| Ok(())).and_then(|()| self.core.wait());
        self.core.outcome(waited)
    }

    /// What the queue shares with its server.
    pub(super) fn core(&self) -> &Core {
        &self.core
    }

    /// Bytes in use, and bytes held for reuse.
    pub fn usage(&self) -> (u64, u64) {
        self.core.arena.usage()
    }
}

/// Where a buffer of this device begins.
pub(super) fn address(handle: &Handle) -> Address {
    handle.offset_start.unwrap_or_default()
}
