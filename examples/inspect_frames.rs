//! Frames in memory, as a camera gives them, become verdicts with regions.
//!
//!     cargo run --release --example inspect_frames -- MODEL IMAGE...
//!
//! Without arguments it takes the model and the images that ship with hotad.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use hotad::{Format, Frame, Inspector, Label, Options, Verdict};

/// Prints the verdict on every image; returns the labels.
pub fn run(model: &Path, images: &[PathBuf]) -> Result<Vec<Label>, Box<dyn Error>> {
    // Opened once; after the first frames of a size inspecting allocates nothing.
    let mut inspector = Inspector::open(model, Options { device: "cpu".into(), ..Options::default() })?;
    let mut verdict = Verdict::default();
    let mut labels = Vec::new();
    for path in images {
        let image = image::open(path)?.into_rgb8();
        let (height, width) = (image.height() as usize, image.width() as usize);
        // Rows may be padded: the fourth number is the bytes from one row to the next.
        let frame = Frame::new(image.as_raw(), height, width, 3 * width, Format::Rgb8)?;
        let start = Instant::now();
        inspector.inspect(&frame, &mut verdict)?;
        println!("{}: {}, score {}, {:?}", path.display(), verdict.label, verdict.score, start.elapsed());
        for region in &verdict.regions {
            println!(
                "    {} x {} pixels at {}, {}: {} of them defective, at most {}",
                region.width, region.height, region.left, region.top, region.area, region.peak
            );
        }
        labels.push(verdict.label);
    }
    Ok(labels)
}

/// The model and the images that ship with hotad.
pub fn shipped() -> (PathBuf, Vec<PathBuf>) {
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");
    let image = |name: &str| weights.join("samples").join(name);
    (weights.join("plate.safetensors"), ["good_000.png", "good_001.png", "crack_005.png"].map(image).into())
}

#[allow(dead_code)] // tests/examples.rs calls `run`
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    let (model, images) = arguments.next().map_or_else(shipped, |model| (model, arguments.collect()));
    run(&model, &images).map(drop)
}
