//! Reading images and data sets: what is honoured, what is refused, what is said about it, and that nothing panics, hangs or
//! takes memory without end.

#[path = "../fuzz/bodies/mod.rs"]
mod bodies;
#[path = "../common/mod.rs"]
mod common;
#[path = "../common/mutation.rs"]
mod mutation;
#[path = "../common/peak_memory.rs"]
mod peak_memory;

mod decoding;
mod files;
mod folders;
mod limits;
mod mutated;
mod random_folders;

/// How many cases a test of random input takes.
fn cases(default: u64) -> u64 {
    std::env::var("HOTAD_FUZZ_CASES").ok().map_or(default, |v| v.parse().expect("HOTAD_FUZZ_CASES is a number"))
}
