//! A wider instruction set must not take more instructions: a loop that the compiler has pulled apart does.
//!
//! Every case runs in a process of its own, on one thread and one instruction set, while this one steps through it and
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
    use hotad_kernels::simd::Isa;

    /// Instructions of a set for each one of the next narrower set, at most.
    const MOST: f64 = 1.2;

    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, name] = &arguments[..]
        && flag == count::CHILD
    {
        cases::run_stopped(name);
        return ExitCode::SUCCESS;
    }
    let only = arguments.into_iter().find(|a| !a.starts_with('-')).unwrap_or_default();
    if let Err(why) = count::stay_on_one_core() {
        println!("instruction counts: this system forbids to choose a core ({why}); the steps will take longer");
    }
    let mut wrong = 0;
    for name in cases::names().filter(|name| name.contains(&only)) {
        let (mut counts, mut fine) = (Vec::new(), true);
        for isa in Isa::available().into_iter().rev() {
            let least = counts.last().map_or(0, |wider| (*wider as f64 / MOST).ceil() as u64);
            // The narrowest set is compared with the next one alone, so that it is enough to know that it takes so many.
            let enough = if isa == Isa::Portable { least.max(1) } else { count::ENDLESS };
            match count::instructions(name, isa, enough) {
                Ok(count) => {
                    fine &= count >= least;
                    counts.push(count);
                }
                Err(why @ nix::Error::EPERM) => {
                    println!("instruction counts: skipped, this system forbids stepping ({why})");
                    return ExitCode::SUCCESS;
                }
                Err(why) => {
                    println!("{name}, {}: {why} ... FAILED", isa.name());
                    fine = false;
                }
            }
        }
        wrong += usize::from(!fine);
        let verdict = if fine { "ok" } else { "FAILED: the wider set takes more" };
        println!("{name}, widest set first, the last at least: {counts:?} ... {verdict}");
    }
    println!("{wrong} failed");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
