//! Work on the threads that kernels use.

use crate::device::Device;

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
