//! Trains PaDiM on a folder of normal images and scores images with the model.
//!
//!     cargo run --release --example train_and_score -- DATA IMAGE...
//!
//! Without arguments it draws a few striped images, one of them with a dark spot.

use std::error::Error;
use std::path::{Path, PathBuf};

use hotad::jobs::{Begin, TrainJob};
use hotad::{Format, Frame, Inspector, Options, Verdict};
use image::{Rgb, RgbImage};

/// Trains on `data`, writes the model beside it and prints the verdict on every image; returns the scores.
pub fn run(data: &Path, images: &[PathBuf]) -> Result<Vec<f32>, Box<dyn Error>> {
    let model = data.with_extension("safetensors");
    let mut job = TrainJob::new("padim", data);
    job.settings = "image_size = 64\ndimensions = 20".parse()?;
    job.out = Some(model.clone());
    job.begin = Begin::Over;
    job.run(&())?; // an observer in place of `()` is told the progress

    let mut inspector = Inspector::open(&model, Options::default())?;
    let mut verdict = Verdict::default();
    let mut scores = Vec::new();
    for path in images {
        let image = image::open(path)?.into_rgb8();
        let (height, width) = (image.height() as usize, image.width() as usize);
        let frame = Frame::new(image.as_raw(), height, width, 3 * width, Format::Rgb8)?;
        inspector.inspect(&frame, &mut verdict)?;
        println!("{}: {} with a score of {}", path.display(), verdict.label, verdict.score);
        scores.push(verdict.score);
    }
    Ok(scores)
}

/// Stripes that are nowhere twice the same, with a dark spot when `defective`.
fn stripes(seed: u32, defective: bool) -> RgbImage {
    RgbImage::from_fn(64, 64, |x, y| {
        let noise = (x * 7 + y * 13 + seed * 29) % 17;
        let spot = defective && (24..36).contains(&x) && (24..36).contains(&y);
        let light = if spot { 20 } else { 100 + 10 * (x / 8 % 2) + noise };
        Rgb([light as u8; 3])
    })
}

/// Draws normal images into `folder`/normal; returns that folder, a new normal image and a defective one.
pub fn draw(folder: &Path) -> Result<(PathBuf, Vec<PathBuf>), Box<dyn Error>> {
    let data = folder.join("normal");
    std::fs::create_dir_all(&data)?;
    for i in 0..20 {
        stripes(i, false).save(data.join(format!("{i:02}.png")))?;
    }
    let images = vec![folder.join("good.png"), folder.join("spot.png")];
    stripes(20, false).save(&images[0])?;
    stripes(21, true).save(&images[1])?;
    Ok((data, images))
}

#[allow(dead_code)] // tests/examples.rs calls `run`
fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1).map(PathBuf::from);
    if let Some(data) = arguments.next() {
        return run(&data, &arguments.collect::<Vec<_>>()).map(drop);
    }
    let folder = tempfile::tempdir()?;
    let (data, images) = draw(folder.path())?;
    run(&data, &images).map(drop)
}
