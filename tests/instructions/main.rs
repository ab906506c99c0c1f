//! A wider instruction set must not take more instructions: a loop that the compiler has pulled apart does.
//!
//! Every case runs on one thread and one instruction set, and what it takes is counted: by callgrind for the sets that valgrind
//! knows, by stepping through the others. No clock, no hardware counter. A set may take a fifth more than the next narrower one.
//! `HOTAD_REQUIRE_CC=1` allows no skip for want of valgrind. Linux alone has the system call.

#[cfg(target_os = "linux")]
mod callgrind;
#[cfg(target_os = "linux")]
mod cases;
#[cfg(target_os = "linux")]
mod stepping;

use std::process::ExitCode;

#[cfg(not(target_os = "linux"))]
fn main() -> ExitCode {
    println!("instruction counts: not on this system");
    ExitCode::SUCCESS
}

#[cfg(target_os = "linux")]
fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [callgrind::CHILD, only] => cases::run_counted(only),
        [stepping::CHILD, name] => cases::run_stopped(name),
        others => return compare(others.iter().find(|a| !a.starts_with('-')).unwrap_or(&"")),
    }
    ExitCode::SUCCESS
}

/// Counts and compares the cases with a part of a name.
#[cfg(target_os = "linux")]
fn compare(only: &str) -> ExitCode {
    use hotad_kernels::simd::Isa;

    /// Instructions of a set for each one of the next narrower set, at most.
    const MOST: f64 = 1.2;

    let names: Vec<_> = cases::names(only).collect();
    if names.is_empty() {
        return ExitCode::SUCCESS;
    }
    let (mut sets, mut counts) = (Vec::new(), Vec::new());
    for isa in Isa::available() {
        let counted = if callgrind::knows(isa) {
            callgrind::instructions(isa, only, names.len())
        } else {
            stepping::all(&names, isa)
        };
        match counted {
            Ok(of_set) => {
                sets.push(isa.name());
                counts.push(of_set);
            }
            Err(why) if why.skip => println!("instruction counts of {}: skipped, {}", isa.name(), why.text),
            Err(why) => {
                println!("instruction counts of {}: {}", isa.name(), why.text);
                return ExitCode::FAILURE;
            }
        }
    }
    println!("instructions with {}:", sets.join(", "));
    let mut wrong = 0;
    for (i, name) in names.iter().enumerate() {
        let of_case: Vec<u64> = counts.iter().map(|of_set: &Vec<u64>| of_set[i]).collect();
        let fine = of_case.windows(2).all(|pair| pair[1] as f64 <= MOST * pair[0] as f64);
        wrong += usize::from(!fine);
        println!("{name}: {of_case:?} ... {}", if fine { "ok" } else { "FAILED: a wider set takes more" });
    }
    println!("{wrong} failed");
    if wrong > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Why a set was not counted, and whether that is no fault of hotad's.
#[cfg(target_os = "linux")]
struct Uncounted {
    text: String,
    skip: bool,
}

#[cfg(target_os = "linux")]
impl<E: std::fmt::Display> From<E> for Uncounted {
    fn from(error: E) -> Self {
        Self { text: error.to_string(), skip: false }
    }
}
