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
    /// So many threads; thread `i` stays on the core `cores[i]`, if there is one.
    ///
    /// # Errors
    /// When the system starts no more, or cannot keep a thread on a core.
    pub fn new(threads: usize, cores: &[usize]) -> Result<Self> {
        cores.iter().take(threads).try_for_each(|core| check_core(*core))?;
        let cores = cores.to_vec();
        // `check_core` has found that it can be done.
        let start = move |i: usize| cores.get(i).map_or((), |core| drop(stay_on(*core)));
        let builder = ThreadPoolBuilder::new().num_threads(threads).thread_name(|i| format!("hotad-{i}"));
        let pool = builder.start_handler(start).build();
        pool.map(Self)
            .map_err(|e| Error::Device(format!("cpu: no more threads can be started: {e}; use fewer threads")))
    }

    /// Runs `work` on one of them; the kernels that it calls use the others.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.0.install(work)
    }
}

/// Fails for a core that a thread cannot be kept on.
fn check_core(core: usize) -> Result<()> {
    let tried = std::thread::spawn(move || stay_on(core)).join();
    let reason = match tried {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(reason)) => reason,
        Err(_) => "the thread has ended".into(),
    };
    Err(Error::Device(format!("cpu: no thread can be kept on core {core}: {reason}")))
}

/// Keeps this thread on a core.
#[cfg(target_os = "linux")]
fn stay_on(core: usize) -> std::result::Result<(), String> {
    use nix::sched::{CpuSet, sched_setaffinity};
    let mut set = CpuSet::new();
    set.set(core).and_then(|()| sched_setaffinity(nix::unistd::Pid::from_raw(0), &set)).map_err(|e| e.to_string())
}

/// Keeps this thread on a core.
#[cfg(not(target_os = "linux"))]
fn stay_on(_: usize) -> std::result::Result<(), String> {
    Err("only Linux can".into())
}
