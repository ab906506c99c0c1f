//! Arguments of `hotad distill`.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use hotad_engine::data::prepare::OnBroken;

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
    /// Blocks that the student will be cut after, separated by commas; by default where the network usually is. It ends
    /// at the last one
    #[arg(long, value_name = "BLOCKS", value_delimiter = ',')]
    pub cuts: Vec<String>,
    /// A student with half the channels within its blocks: about half the weights and time; of efficientnet-lite0 only
    #[arg(long)]
    pub narrow: bool,
    /// Where student and teacher are compared; a narrow student has no hints after layers, but after blocks
    #[arg(long, value_enum, default_value = "layers")]
    pub hints: Hints,
    /// Share of the steps in which each part between two hints is given the teacher's map before it, so that all learn at
    /// once and apart; then they are fitted to each other
    #[arg(long, value_name = "SHARE", default_value_t = 0.5)]
    pub apart: f64,
    /// Optimiser steps, over which the learning rate falls to 0; may differ when resumed
    #[arg(long, default_value_t = 20_000)]
    pub steps: u64,
    /// Rows and columns of a view; the network's stride is 16 or 32
    #[arg(long, default_value_t = 128)]
    pub crop: usize,
    /// Largest learning rate
    #[arg(long, default_value_t = 3e-3)]
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
