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
    let mut wrong = 0;
    for name in cases::names().filter(|name| name.contains(&only)) {
        let mut counts = Vec::new();
        for isa in Isa::available() {
            match count::instructions(name, isa) {
                Ok(count) => counts.push(count),
                Err(why) => {
                    println!("instruction counts: skipped, this system forbids stepping ({why})");
                    return ExitCode::SUCCESS;
                }
            }
        }
        let fine = counts.windows(2).all(|pair| pair[1] as f64 <= MOST * pair[0] as f64);
        wrong += usize::from(!fine);
        println!("{name}: {counts:?} ... {}", if fine { "ok" } else { "FAILED: the wider set takes more" });
    }
    println!("{wrong} failed");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
