//! Arguments of `hotad bench`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use super::shared::Trust;

/// Where the frames come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchFrom {
    /// Memory, as from a camera
    Memory,
    /// A file in memory, which is decoded for each frame
    File,
}

#[derive(Args)]
#[command(
    after_help = "Example: hotad bench parts.safetensors --image part.png --rate 20 --seconds 60 --deadline 40 --out latency"
)]
pub struct BenchArgs {
    /// Model file
    pub model: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
    /// The image that every frame shows; by default noise
    #[arg(long, value_name = "FILE")]
    pub image: Option<PathBuf>,
    /// Columns and rows of frames without --image
    #[arg(long, value_name = "WxH", default_value = "1280x1024", value_parser = size, conflicts_with = "image")]
    pub size: (usize, usize),
    /// What a frame begins as
    #[arg(long, value_enum, default_value = "memory")]
    pub from: BenchFrom,
    /// Frames a second, at even times whether or not the one before is done
    #[arg(long, value_name = "HZ", default_value_t = 20.0, value_parser = rate, allow_negative_numbers = true)]
    pub rate: f64,
    /// How long frames come
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: f64,
    /// Most milliseconds from the arrival of a frame to its verdict; later ones are undecided, and counted
    #[arg(long, value_name = "MS", value_parser = milliseconds, allow_negative_numbers = true)]
    pub deadline: Option<f64>,
    /// Keep each thread on a core of its own, from the first core on (Linux)
    #[arg(long)]
    pub pin: bool,
    /// Have the threads spin between frames, so that none has to be woken: they take the whole time of their cores
    #[arg(long)]
    pub awake: bool,
    /// Keep all memory of the process from being swapped out (Unix; needs the right to)
    #[arg(long)]
    pub lock_memory: bool,
    /// Folder for bench.json and a page with pictures
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// `WxH`.
fn size(text: &str) -> Result<(usize, usize), String> {
    let sides = text.split_once('x').and_then(|(w, h)| Some((w.parse().ok()?, h.parse().ok()?)));
    sides
        .filter(|(w, h)| (1..=65_536).contains(w) && (1..=65_536).contains(h))
        .ok_or_else(|| "expected columns x rows, each 1 to 65536, such as 1280x1024".into())
}

fn within(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let value = text.parse().ok().filter(|v| (least..=most).contains(v));
    value.ok_or_else(|| format!("expected a number from {least} to {most}"))
}

fn rate(text: &str) -> Result<f64, String> {
    within(text, 0.01, 100_000.0)
}

fn seconds(text: &str) -> Result<f64, String> {
    within(text, 0.1, 1_000_000.0)
}

fn milliseconds(text: &str) -> Result<f64, String> {
    within(text, 0.001, 1e9)
}
