//! Arguments of `hotad train`.

use std::path::PathBuf;

use clap::Args;
use hotad_engine::data::prepare::OnBroken;
use hotad_models::jobs::{DEFECTIVE_SHARE, FALSE_ALARM_RATE, GROUP, HOLDOUT};

use super::methods::{Methods, for_those};
use super::{ON_BROKEN, on_broken};

#[derive(Args)]
#[command(
    after_help = "Example: hotad train paedid --data parts --out parts.safetensors --set alpha=0.05\n         hotad train lea-net --data parts --cv 5 --set image_size=128 --set width=16"
)]
pub struct TrainArgs {
    /// Method; `hotad methods` tells what each is
    #[arg(value_parser = Methods)]
    pub method: String,
    /// Data set: MVTec AD, LOCO, positive/negative or a plain folder of normal images
    #[arg(long)]
    pub data: PathBuf,
    /// Model file to write; with --cv, a JSON file for the results
    #[arg(long, required_unless_present = "cv")]
    pub out: Option<PathBuf>,
    #[arg(long, value_name = "FOLDS", value_parser = clap::value_parser!(u16).range(2..=100), allow_negative_numbers = true,
        help = for_those(|m| m.cross_validation.is_some(), "instead of a model, cross-validate in this many folds over all \
            labelled images and print the table of F1 scores (settings rows and points say what it holds)"))]
    pub cv: Option<u16>,
    #[arg(long, value_name = "SHARE,...", value_delimiter = ',', requires_all = ["cv", "out"], allow_negative_numbers = true,
        help = for_those(|m| m.cross_validation.is_some(), "with --cv, do it once for each share of defective images, by leaving some \
            out: --out study.json writes study-0.25.json and so on, and study.html with F1 over the share"))]
    pub imbalance: Vec<f64>,
    #[arg(long, value_name = "SHARE", conflicts_with = "cv", allow_negative_numbers = true,
        help = for_those(|m| m.supervised, &format!("share of the defective test images that are learned from, \
            {DEFECTIVE_SHARE} by default; eval leaves these out")))]
    pub defective_share: Option<f64>,
    #[arg(long, value_name = "MODEL", help = for_those(|m| m.ensemble, "a trained model to build on; to be repeated"))]
    pub member: Vec<PathBuf>,
    #[arg(long, value_name = "MODEL", help = for_those(|m| m.warm_start, "a trained model of the method whose weights training starts from"))]
    pub init: Option<PathBuf>,
    /// Look at a region of images alone, in training and ever after: box:LEFT,TOP,WIDTH,HEIGHT or polygon:X,Y,X,Y,... in pixels,
    /// repeated for more of them, or mask:FILE, an image that is above 0 inside
    #[arg(long, value_name = "REGION")]
    pub roi: Vec<String>,
    /// Settings (hotad config METHOD prints them)
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// One setting, e.g. alpha=0.05; may be repeated
    #[arg(long = "set", value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// Most epochs
    #[arg(long, allow_negative_numbers = true)]
    pub epochs: Option<u32>,
    /// Continue an interrupted run from the checkpoints beside --out
    #[arg(long, requires = "out")]
    pub resume: bool,
    /// Write over a model or a checkpoint that is there
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_parser = on_broken(), default_value = ON_BROKEN)]
    pub on_broken: OnBroken,
    /// Share of the normal images that thresholds are found on and training is watched with
    #[arg(long, default_value_t = HOLDOUT, allow_negative_numbers = true)]
    pub holdout: f64,
    /// Which images are of one part, and so never on both sides of a split: auto (near-duplicates are found), none, a regular
    /// expression whose first group, or whose whole match in a file's name, names the part, or a file of lines FILE,PART
    #[arg(long, value_name = "auto|none|REGEX|FILE", default_value = GROUP)]
    pub group: String,
    /// Share of normal images that may be called anomalies
    #[arg(long, default_value_t = FALSE_ALARM_RATE, allow_negative_numbers = true)]
    pub false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective; without it, the threshold with the
    /// largest Dice on synthetic defects over held-out normal images is taken
    #[arg(long, allow_negative_numbers = true)]
    pub pixel_false_alarm_rate: Option<f64>,
}
