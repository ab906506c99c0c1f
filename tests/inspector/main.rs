//! The inspector: its verdicts are those of the command line, to the bit, for every method; frames of all formats; regions;
//! thresholds, deadlines and what is refused.

mod awake;
#[path = "../common/mod.rs"]
mod common;
mod deadlines;
mod formats;
mod methods;
mod regions;
#[path = "../common/small_models.rs"]
mod small_models;
mod thresholds;

use std::path::Path;

use hotad::{Inspector, Options};

/// The small model that is part of hotad, on the CPU.
fn shipped(options: Options) -> Inspector {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/weights/plate.safetensors");
    Inspector::open(Path::new(path), Options { device: "cpu".into(), ..options }).expect("the shipped model opens")
}

/// Colours that differ from pixel to pixel.
fn noise(height: usize, width: usize, samples: usize) -> Vec<u8> {
    (0..height * width * samples).map(|i| ((i as u32).wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}
