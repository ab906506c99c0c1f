//! Arguments of `hotad score`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hotad_engine::data::prepare::OnBroken;

use super::methods::for_those;
use super::shards::Shards;
use super::shared::Trust;
use super::{ON_BROKEN, on_broken};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Maps {
    /// 8-bit PNG: 0 at the median of normal pixels and below, 128 at the pixel threshold
    Png,
    /// NumPy array of raw f32 values
    Npy,
    /// No map files
    None,
}

#[derive(Args)]
#[command(after_help = "Example: hotad score --model parts.safetensors new-parts/ --out results --fail-on-anomaly")]
pub struct ScoreArgs {
    /// Model file
    #[arg(long)]
    pub model: PathBuf,
    /// Images or folders of images
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub trust: Trust,
    /// Folder for maps and overlays
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Format of the anomaly maps
    #[arg(long, value_enum, default_value = "png", requires = "out")]
    pub maps: Maps,
    /// Write over files in --out that were there before; images that are scored are never written over
    #[arg(long, requires = "out")]
    pub force: bool,
    #[arg(long, requires = "out", help = for_those(|m| m.explainable, "write to --out what happens inside for each image: PAEDID's \
        background prior and defect |S|, masks and reconstructions, attention, as NAME_STEP.png"))]
    pub explain: bool,
    #[command(flatten)]
    pub thresholds: Thresholds,
    /// Exit with 1 when an anomaly was found, and with 2 when none was but an image was not scored
    #[arg(long, conflicts_with = "shard")]
    pub fail_on_anomaly: bool,
    /// With --fail-on-anomaly: let pass a path without images
    #[arg(long, requires = "fail_on_anomaly")]
    pub allow_empty: bool,
    /// What to do with an image that cannot be decoded; the others are scored in either case
    #[arg(long, value_parser = on_broken(), default_value = ON_BROKEN)]
    pub on_broken: OnBroken,
    #[command(flatten)]
    pub shards: Shards,
}

impl Maps {
    /// The ending of its files.
    pub fn extension(self) -> Option<&'static str> {
        match self {
            Self::Png => Some("png"),
            Self::Npy => Some("npy"),
            Self::None => None,
        }
    }
}

/// Thresholds in place of the model's own.
#[derive(Args)]
pub struct Thresholds {
    /// Image scores above this are anomalies; by default the model's own threshold
    #[arg(long, value_name = "SCORE", value_parser = finite, allow_negative_numbers = true)]
    pub threshold: Option<f32>,
    /// Map values above this are outlined in overlays, and a PNG map is 128 at this; by default the model's own threshold
    #[arg(long, value_name = "VALUE", value_parser = finite, allow_negative_numbers = true, requires = "out")]
    pub pixel_threshold: Option<f32>,
    /// JSON object with image_threshold, pixel_threshold or both
    #[arg(long, value_name = "FILE")]
    pub threshold_file: Option<PathBuf>,
}

/// A number that is neither infinite nor none.
fn finite(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|v: &f32| v.is_finite()).ok_or_else(|| "expected a number".into())
}
