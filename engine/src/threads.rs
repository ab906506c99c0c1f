//! Work on the threads that kernels use.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Barrier};
use std::time::{Duration, Instant};

use hotad_kernels::device::Device;
use rayon::{ThreadPool, ThreadPoolBuilder, Yield};

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
    note_process();
    let mut result = None;
    rayon::scope(|_| result = Some(work()));
    result.expect("the scope has run the work")
}

/// The process that the shared threads are of, once they work.
static OF_PROCESS: AtomicU32 = AtomicU32::new(NONE);
const NONE: u32 = 0;

/// Fails in a process that was forked from the one whose threads, those of `pool` or else the shared ones, it would wait for: a fork
/// has none of them.
///
/// # Errors
/// [`Error::Device`].
pub fn check_process(pool: Option<&Pool>) -> Result<()> {
    let (process, instead) = match pool {
        Some(pool) => (pool.process, "open the inspector in this one"),
        None => (note_process(), "start workers another way (spawn)"),
    };
    let own = std::process::id();
    if process == own {
        return Ok(());
    }
    Err(Error::Device(format!(
        "cpu: process {own} was forked from {process}, whose threads it does not have; {instead}"
    )))
}

/// The process that the shared threads are of: the first that asks, as it uses them next.
fn note_process() -> u32 {
    let own = std::process::id();
    match OF_PROCESS.compare_exchange(NONE, own, Ordering::Relaxed, Ordering::Relaxed) {
        Ok(_) => own,
        Err(first) => first,
    }
}

/// How long a thread that is kept awake looks for work without finding any before it sleeps, and how long it then sleeps before it
/// looks again.
const SPIN: Duration = Duration::from_secs(1);
const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Threads apart from those that the process shares.
pub struct Pool {
    threads: ThreadPool,
    /// The process that they are of.
    process: u32,
    /// Whether those that are kept awake may go.
    ended: Arc<AtomicBool>,
}

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
        let threads =
            pool.map_err(|e| Error::Device(format!("cpu: no more threads can be started: {e}; use fewer threads")))?;
        Ok(Self { threads, process: std::process::id(), ended: Arc::default() })
    }

    /// Keeps its threads awake: they look for work all the time, so that none has to be woken, until they have found none for a
    /// second; from then on they look every millisecond.
    #[must_use]
    pub fn awake(self) -> Self {
        let ended = Arc::clone(&self.ended);
        // Until every thread has begun, there is no other work: what waits for other threads may not take this up in between, as it
        // would never come back to it.
        let begun = Arc::new(Barrier::new(self.threads.current_num_threads() + 1));
        let all_begun = Arc::clone(&begun);
        self.threads.spawn_broadcast(move |_| {
            begun.wait();
            spin(&ended);
        });
        all_begun.wait();
        self
    }

    /// Runs `work` on one of them; the kernels that it calls use the others.
    pub fn run<R: Send>(&self, work: impl FnOnce() -> R + Send) -> R {
        self.threads.install(work)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
    }
}

/// Does what there is to do for the other threads of this one's pool until they end; offers other threads of the system its turn.
fn spin(ended: &AtomicBool) {
    let mut worked = Instant::now();
    while !ended.load(Ordering::Relaxed) {
        if rayon::yield_now() == Some(Yield::Executed) {
            worked = Instant::now();
        } else if worked.elapsed() < SPIN {
            std::thread::yield_now();
        } else {
            std::thread::sleep(POLL_INTERVAL);
        }
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
