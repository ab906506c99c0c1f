//! Arguments of `hotad calibrate`.

use std::path::PathBuf;

use clap::Args;
use hotad_engine::data::prepare::OnBroken;
use hotad_models::jobs::{FALSE_ALARM_RATE, GROUP};

use super::shared::Trust;
use super::{ON_BROKEN, on_broken};

#[derive(Args)]
#[command(after_help = "Example: hotad calibrate parts.safetensors --data new-normal-parts --false-alarm-rate 0.005")]
pub struct CalibrateArgs {
    /// Model file; written anew
    pub model: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
    /// Data set whose normal images thresholds are found on; those that the model has learned from are left out
    #[arg(long)]
    pub data: PathBuf,
    /// Write the model to this file instead
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write over another file in the place of --out
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Share of normal images that may be called anomalies
    #[arg(long, default_value_t = FALSE_ALARM_RATE, allow_negative_numbers = true)]
    pub false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective; without it, the threshold with the
    /// largest Dice on synthetic defects over the normal images is taken
    #[arg(long, allow_negative_numbers = true)]
    pub pixel_false_alarm_rate: Option<f64>,
    /// The image threshold with the largest F1 on the labelled test images instead, and with masks the pixel threshold with the
    /// largest mean Dice; eval leaves these images out from then on
    #[arg(long, conflicts_with_all = ["false_alarm_rate", "pixel_false_alarm_rate"])]
    pub f1: bool,
    /// Which images are of one part: auto, none, a regular expression or a file, as for train
    #[arg(long, value_name = "auto|none|REGEX|FILE", default_value = GROUP)]
    pub group: String,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_parser = on_broken(), default_value = ON_BROKEN)]
    pub on_broken: OnBroken,
}
