//! Reading images and data sets: what is honoured, what is refused, what is said about it, and that nothing panics, hangs or
//! takes memory without end.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/mutation.rs"]
mod mutation;

mod decoding;
mod files;
mod folders;
mod limits;
mod mutated;
mod random_folders;

use std::sync::Mutex;

use peak_alloc::PeakAlloc;

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// Held by tests that measure memory.
static MEASURED: Mutex<()> = Mutex::new(());

/// Runs something; returns what it gives and how much more memory than before it took.
fn measured<T>(work: impl FnOnce() -> T) -> (T, usize) {
    MEMORY.reset_peak_usage();
    let before = MEMORY.current_usage();
    let outcome = work();
    (outcome, MEMORY.peak_usage().saturating_sub(before))
}

/// How many cases a test of random input takes.
fn cases(default: u64) -> u64 {
    std::env::var("HOTAD_FUZZ_CASES").ok().map_or(default, |v| v.parse().expect("HOTAD_FUZZ_CASES is a number"))
}
