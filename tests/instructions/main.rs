//! A wider instruction set must not take more instructions: a loop that the compiler has pulled apart does.
//!
//! Every case runs in a process of its own, on one thread and one instruction set, while a thread of this one steps through it and
//! counts: no clock, no hardware counter. A set may take a fifth more than the next narrower one. Linux
//! alone has the system call.

#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod count;

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("instruction counts: not on this system");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    use std::sync::atomic::{AtomicUsize, Ordering};

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == count::CHILD
    {
        cases::run_stopped(name);
        return ExitCode::SUCCESS;
    }
    let only = arguments.into_iter().find(|a| !a.starts_with('-')).unwrap_or_default();
    let names: Vec<&str> = cases::names().filter(|name| name.contains(&only)).collect();
    let next = AtomicUsize::new(0);
    let compare_on = |core| {
        if let Err(why) = count::stay_on(core) {
            println!("instruction counts: this system forbids to choose a core ({why}); the steps will take longer");
        }
        let mut wrong = 0;
        while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
            match compared(name) {
                Ok((counts, fine)) => {
                    wrong += usize::from(!fine);
                    let verdict = if fine { "ok" } else { "FAILED: the wider set takes more" };
                    println!("{name}, widest set first, the last at least: {counts:?} ... {verdict}");
                }
                Err((_, why @ nix::Error::EPERM)) => {
                    println!("instruction counts: skipped, this system forbids stepping ({why})");
                    break;
                }
                Err((isa, why)) => {
                    println!("{name}, {isa}: {why} ... FAILED");
                    wrong += 1;
                }
            }
        }
        wrong
    };
    let wrong: usize = std::thread::scope(|scope| {
        let threads: Vec<_> = count::cores().into_iter().map(|core| scope.spawn(move || compare_on(core))).collect();
        threads.into_iter().map(|thread| thread.join().expect("no case panics")).sum()
    });
    println!("{wrong} failed");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Instructions of a case for each set that this machine has, the widest first, and whether none takes too many; or the set that
/// could not be counted.
#[cfg(target_os = "linux")]
fn compared(name: &str) -> Result<(Vec<u64>, bool), (&'static str, nix::Error)> {
    use hotad_kernels::simd::Isa;

    /// Instructions of a set for each one of the next narrower set, at most.
    const MOST: f64 = 1.2;

    let (mut counts, mut fine) = (Vec::new(), true);
    for isa in Isa::available().into_iter().rev() {
        let least = counts.last().map_or(0, |wider| (*wider as f64 / MOST).ceil() as u64);
        // The narrowest set is compared with the next one alone, so that it is enough to know that it takes so many.
        let enough = if isa == Isa::Portable { least.max(1) } else { count::ENDLESS };
        let count = count::instructions(name, isa, enough).map_err(|why| (isa.name(), why))?;
        fine &= count >= least;
        counts.push(count);
    }
    Ok((counts, fine))
}
