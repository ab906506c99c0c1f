//! Work on the threads that kernels use.

use hotad_kernels::device::Device;
use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// Runs `work`, which uses `device`, where its kernels start at once: on the thread of the queue of a CUDA device, else
/// [`pooled`].
pub fn on<R: Send>(device: &Device, work: impl FnOnce() -> R + Send) -> R {
    if device.has_thread() { device.run(work) } else { pooled(work) }
}

/// Runs `work` on one of the threads that kernels share. A kernel called from there finds the others
/// at once; from any other thread each kernel would wake them, which takes longer than a small one.
/// Nothing that waits for another thread belongs in here.
pub fn pooled<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    let mut result = None;
    rayon::scope(|_| result = Some(work()));
    result.expect("the scope has run the work")
}

/// Threads apart from those that the process shares.
pub struct Pool(ThreadPool);

impl Pool {
    /// So many threads.
    ///
    /// # Errors
    /// When the system starts no more.
    pub fn new(threads: usize) -> Result<Self> {
        let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("hotad-{i}")).build();
        pool.map(Self).map_err(|e| Error::Device(format!("cpu: no more threads can be started: {e}; use fewer threads")))
    }

    /// Runs `work` on one of them; the kernels that it calls use the others.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}
