//! Counts the instructions that a child process takes between two stops, by stepping through them.

use std::process::Command;

use hotad_kernels::simd::Isa;
use nix::sys::ptrace;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

/// The argument that makes this binary the child.
pub const CHILD: &str = "--counted";

/// More than any case takes: a case that never stops is an error.
const MOST: u64 = 50_000_000;

/// Marks the beginning or the end of what is counted, in the child.
pub fn stop() {
    nix::sys::signal::raise(Signal::SIGSTOP).expect("a signal to oneself");
}

/// Instructions of a case with an instruction set.
pub fn instructions(case: &str, isa: Isa) -> Result<u64, String> {
    let binary = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut child =
        Command::new(binary).args([CHILD, case]).env("HOTAD_ISA", isa.name()).spawn().map_err(|e| e.to_string())?;
    let pid = Pid::from_raw(child.id().cast_signed());
    let count = step_through(pid).map_err(|e| e.to_string());
    let _ = child.kill();
    let _ = child.wait();
    count
}

fn step_through(pid: Pid) -> nix::Result<u64> {
    // The first stop; what the child does after it is stepped through until the second.
    if !matches!(waitpid(pid, None)?, WaitStatus::Stopped(_, Signal::SIGSTOP)) {
        return Err(nix::Error::EPERM);
    }
    for count in 0..MOST {
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
