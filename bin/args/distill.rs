//! Arguments of `hotad distill`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hotad_engine::data::prepare::OnBroken;
use hotad_models::config::Declared;
use hotad_models::distill::Config;

use super::{ON_BROKEN, on_broken};

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Hints {
    /// After every layer
    Layers,
    /// After every block
    Blocks,
    /// At the cuts alone
    Cuts,
}

/// What a setting means and which values it may have, as a sentence begins.
fn help(key: &str) -> String {
    let setting = Config::declared().into_iter().find(|s| s.key == key).expect("options are settings");
    let (first, rest) = setting.help.split_at(1);
    let allowed = setting.allowed.map(|values| format!("; allowed: {values}")).unwrap_or_default();
    format!("{}{rest}{allowed}", first.to_uppercase())
}

#[derive(Args)]
#[command(
    after_help = "Example: hotad distill --teacher efficientnet-lite0 --images textures photographs --out own.safetensors --half\n         hotad train patchcore --data parts --set backbone=own.safetensors --out parts.safetensors"
)]
pub struct DistillArgs {
    /// Name of an installed backbone, or a file with its weights
    #[arg(long)]
    pub teacher: String,
    /// Images or folders of images of any kind, searched deeply; views of --crop pixels are cut from them at random
    #[arg(long, required = true, num_args = 1.., value_name = "DIR")]
    pub images: Vec<PathBuf>,
    /// Backbone file to write; checkpoint and log are written beside it
    #[arg(long)]
    pub out: PathBuf,
    #[arg(long, value_name = "BLOCKS", value_delimiter = ',', help = help("cuts"))]
    pub cuts: Vec<String>,
    #[arg(long, default_value_t = Config::default().expansion, allow_negative_numbers = true, help = help("expansion"))]
    pub expansion: usize,
    #[arg(long, value_enum, default_value = "layers", help = help("hints"))]
    pub hints: Hints,
    #[arg(long, value_name = "SHARE", default_value_t = Config::default().apart, allow_negative_numbers = true, help = help("apart"))]
    pub apart: f64,
    #[arg(long, default_value_t = Config::default().steps, allow_negative_numbers = true, help = help("steps"))]
    pub steps: u64,
    #[arg(long, default_value_t = Config::default().crop, allow_negative_numbers = true, help = help("crop"))]
    pub crop: usize,
    #[arg(long, default_value_t = Config::default().lr, allow_negative_numbers = true, help = help("lr"))]
    pub lr: f64,
    /// Start from these weights of the same network instead of random ones
    #[arg(long, value_name = "FILE")]
    pub start: Option<PathBuf>,
    /// Continue an interrupted run from OUT.checkpoint
    #[arg(long)]
    pub resume: bool,
    /// Write over a backbone or a checkpoint that is there
    #[arg(long, conflicts_with = "resume")]
    pub force: bool,
    /// What to do with an image that cannot be decoded
    #[arg(long, value_parser = on_broken(), default_value = ON_BROKEN)]
    pub on_broken: OnBroken,
    /// Half precision: half the size, slightly different maps
    #[arg(long)]
    pub half: bool,
}
