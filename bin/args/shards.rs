//! Arguments of shards: one of several machines takes a part of the images.

use std::path::PathBuf;

use clap::Args;

use super::eval::{IMAGES, images};

#[derive(Args)]
pub struct Shards {
    /// Take the images of shard I of N alone (I from 0 on), those whose names fall to it; auto: the shard that a task of a Slurm
    /// array or a pod of a Kubernetes indexed Job has
    #[arg(long, value_name = "I/N|auto", requires = "shard_folder")]
    pub shard: Option<String>,
    /// Folder for the shard's results, a file that hotad merge reads; nothing is printed
    #[arg(long, value_name = "FOLDER", requires = "shard")]
    pub shard_folder: Option<PathBuf>,
}

impl Shards {
    /// The shard and the folder, where there are some.
    pub fn chosen(&self) -> Option<(&str, &std::path::Path)> {
        self.shard.as_deref().zip(self.shard_folder.as_deref())
    }
}

#[derive(Args)]
#[command(
    after_help = "Example: hotad merge shards/eval-*.shard --out metrics.json --report report --model parts.safetensors"
)]
pub struct MergeArgs {
    /// The files of all shards of one run, or folders that hold them and no other shards
    #[arg(required = true, value_name = "SHARD_FILE")]
    pub shards: Vec<PathBuf>,
    /// File for what one run would have printed; stdout by default
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write over a file in the place of --out
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Folder for the report.html and overlays of an evaluation; its images and masks are read where the shards read them
    #[arg(long, value_name = "DIR", requires = "model")]
    pub report: Option<PathBuf>,
    /// The model that the shards are of, for the report
    #[arg(long, value_name = "FILE", requires = "report")]
    pub model: Option<PathBuf>,
    /// Images in each gallery of the report
    #[arg(long, value_name = "N", default_value_t = IMAGES, requires = "report", value_parser = images(), allow_negative_numbers = true)]
    pub images: u16,
}
