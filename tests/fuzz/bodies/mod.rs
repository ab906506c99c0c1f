//! What is fuzzed. Each `check` takes any bytes, says whether they are accepted, and panics where something is wrong. They run
//! under `cargo fuzz` (fuzz/) and, on changed seeds, in the tests.

#![allow(dead_code)] // every program uses a part

pub mod container;
pub mod folder;
pub mod image;
pub mod name;
pub mod region;
pub mod settings;

/// Fails for an error that is not one line of bounded length.
fn is_one_line(error: &impl ToString, most: usize) {
    let line = error.to_string();
    assert!(!line.contains('\n') && line.len() < most, "{line}");
}
