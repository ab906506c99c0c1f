//! Regions of interest: what is inside, what models see of a frame, and what the library and the command line say then.

mod commands;
#[path = "../common/mod.rs"]
mod common;
mod pixels;
mod refusals;
mod scores;
mod shapes;

use std::path::Path;

use common::{small_data, text, train_small};
use hotad_engine::data::picture::Picture;
use hotad_engine::random;
use rand::Rng;

/// Rows and columns of the framed pictures.
const FRAME: (usize, usize) = (52, 60);

/// First column and row of a picture in its frame.
const AT: (usize, usize) = (9, 6);

/// Rows and columns of a picture.
const SIZE: usize = 40;

/// The region of the picture.
const BOX: &str = "box:9,6,40,40";

/// A region within it.
const POLYGON: &str = "polygon:12,8,45.5,10,40,44.5,25,30,11,43";

/// A gray picture within a frame of noise.
fn framed(picture: &Picture, seed: u64) -> Picture {
    let mut rng = random::stream(seed, "around", 0);
    let (height, width) = FRAME;
    let mut values: Vec<f32> = (0..height * width).map(|_| rng.random()).collect();
    for y in 0..SIZE {
        values[(AT.1 + y) * width + AT.0..][..SIZE].copy_from_slice(&picture.values[y * SIZE..][..SIZE]);
    }
    Picture { height, width, channels: 1, values }
}

/// The images below a folder, changed.
fn rewrite(from: &Path, to: &Path, change: &dyn Fn(&Picture, u64) -> Picture) {
    std::fs::create_dir_all(to).expect("a folder");
    let mut entries: Vec<_> = std::fs::read_dir(from).expect("a folder").map(|e| e.expect("an entry")).collect();
    entries.sort_by_key(std::fs::DirEntry::file_name);
    for (i, entry) in entries.into_iter().enumerate() {
        let target = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => rewrite(&entry.path(), &target, change),
            false => {
                let picture = Picture::read(&entry.path()).expect("a picture");
                change(&picture, i as u64).write_png(&target).expect("written");
            }
        }
    }
}

/// A small data set (`data`), and the same within frames (`frames`) whose masks have defects outside of the picture too.
fn data_in_frames(dir: &Path) {
    small_data(&dir.join("data"), SIZE);
    for folder in ["train", "test"] {
        rewrite(&dir.join("data").join(folder), &dir.join("frames").join(folder), &framed);
    }
    let truth = |mask: &Picture, seed| {
        let mut frame = framed(mask, seed);
        frame.values.iter_mut().for_each(|v| *v = v.round());
        frame
    };
    rewrite(&dir.join("data/ground_truth"), &dir.join("frames/ground_truth"), &truth);
}

/// Settings without what is drawn for each pixel of whole frames.
const UNCHANGED: [&str; 4] = ["--epochs", "2", "--set", "augment=[]"];

/// A small model trained on the frames within a region.
fn trained_within(dir: &Path, roi: &str) -> std::path::PathBuf {
    let model = dir.join("within.safetensors");
    train_small(&dir.join("frames"), &model, &[&UNCHANGED[..], &["--roi", roi]].concat());
    model
}

/// Scores of images by the command line, by name, and the bytes of their maps.
fn scored(model: &Path, images: &Path, out: &Path) -> Vec<(f64, Vec<f32>)> {
    let args = ["score", "--model", text(model), text(images), "--out", text(out), "--maps", "npy", "--force", "-q"];
    let lines = common::ok(&[&args[..], &["--device", "cpu"]].concat());
    let line = |line: &str| {
        let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
        let file = std::fs::read(line["map"].as_str().expect("a map")).expect("the map");
        let header = usize::from(u16::from_le_bytes([file[8], file[9]])) + 10;
        let map = file[header..].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        (line["score"].as_f64().expect("a score"), map)
    };
    lines.lines().map(line).collect()
}
