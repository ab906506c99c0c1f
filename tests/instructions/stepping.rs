//! Counts the instructions that a child process takes between two stops, by stepping through them.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use hotad_kernels::simd::Isa;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::Uncounted;

/// The argument that makes this binary the child.
pub const CHILD: &str = "--counted";

/// More than any case takes: a case that never stops is an error.
const ENDLESS: u64 = 50_000_000;

/// Marks the beginning or the end of what is counted, in the child.
pub fn stop() {
    nix::sys::signal::raise(Signal::SIGSTOP).expect("a signal to oneself");
}

/// Lets the parent step through this process, or ends it with [`FORBIDDEN`].
pub fn be_stepped_through() {
    if ptrace::traceme().is_err() {
        std::process::exit(FORBIDDEN);
    }
}

/// Exit code of a child that may not be stepped through.
const FORBIDDEN: i32 = 77;

/// Instructions of each case with an instruction set, one case on each core at a time.
pub fn all(cases: &[&str], isa: Isa) -> Result<Vec<u64>, Uncounted> {
    let next = AtomicUsize::new(0);
    let count_on = |core| {
        if let Err(why) = stay_on(core) {
            println!("this system forbids to choose a core ({why}); the steps will take longer");
        }
        let mut counted = Vec::new();
        loop {
            let i = next.fetch_add(1, Ordering::Relaxed);
            let Some(case) = cases.get(i) else { return Ok(counted) };
            counted.push((i, instructions(case, isa)?));
        }
    };
    let counted = std::thread::scope(|scope| {
        let threads: Vec<_> = cores().into_iter().map(|core| scope.spawn(move || count_on(core))).collect();
        threads.into_iter().map(|t| t.join().expect("no case panics")).collect::<nix::Result<Vec<_>>>()
    });
    let counted = counted.map_err(|why| match why {
        nix::Error::EPERM => Uncounted { text: "this system forbids stepping".to_owned(), skip: true },
        why => why.into(),
    })?;
    let mut counts = counted.concat();
    counts.sort_unstable();
    Ok(counts.into_iter().map(|(_, count)| count).collect())
}

/// The cores that this process may use; `[None]`, for one thread that is not kept on any, where the system does not say.
fn cores() -> Vec<Option<usize>> {
    let allowed = sched_getaffinity(Pid::from_raw(0));
    let known: Vec<_> = allowed.map_or_else(
        |_| Vec::new(),
        |set| (0..CpuSet::count()).filter(|core| set.is_set(*core).unwrap_or(false)).map(Some).collect(),
    );
    if known.is_empty() { vec![None] } else { known }
}

/// Keeps this thread and the processes that it starts on a core, if one is given: stepping goes back and forth between the two, and
/// waking another, idle core takes five times as long as the step (on a virtual machine about 175 microseconds, and 34).
fn stay_on(core: Option<usize>) -> nix::Result<()> {
    let Some(core) = core else { return Ok(()) };
    let mut one = CpuSet::new();
    one.set(core)?;
    sched_setaffinity(Pid::from_raw(0), &one)
}

/// Instructions of a case with an instruction set. `EPERM` says that the system forbids it.
fn instructions(case: &str, isa: Isa) -> nix::Result<u64> {
    let binary = std::env::current_exe().expect("this test has a path");
    let mut child =
        Command::new(binary).args([CHILD, case]).env("HOTAD_ISA", isa.name()).spawn().expect("this test runs");
    let pid = Pid::from_raw(child.id().cast_signed());
    let count = step_through(pid);
    let _ = child.kill();
    let _ = child.wait();
    count
}

fn step_through(pid: Pid) -> nix::Result<u64> {
    // The first stop; what the child does after it is stepped through until the second.
    match waitpid(pid, None)? {
        WaitStatus::Stopped(_, Signal::SIGSTOP) => {}
        WaitStatus::Exited(_, FORBIDDEN) => return Err(nix::Error::EPERM),
        _ => return Err(nix::Error::ECHILD),
    }
    for count in 0..ENDLESS {
        ptrace::step(pid, None)?;
        match waitpid(pid, None)? {
            WaitStatus::Stopped(_, Signal::SIGTRAP) => {}
            WaitStatus::Stopped(_, Signal::SIGSTOP) => return Ok(count),
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => return Err(nix::Error::ECHILD),
            _ => {}
        }
    }
    Err(nix::Error::ETIMEDOUT)
}
