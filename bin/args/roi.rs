//! Arguments of `hotad roi`.

use std::path::PathBuf;

use clap::Args;

use super::shared::{Quiet, Trust};

#[derive(Args)]
#[command(
    after_help = "Example: hotad roi parts.safetensors --set box:120,80,640,480\n         hotad roi parts.safetensors --clear --out whole.safetensors"
)]
pub struct RoiArgs {
    /// Model file; written anew where the region is changed
    pub model: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
    /// Look at this region: box:LEFT,TOP,WIDTH,HEIGHT or polygon:X,Y,X,Y,... in pixels, repeated for more of them, or mask:FILE,
    /// an image that is above 0 inside
    #[arg(long, value_name = "REGION")]
    pub set: Vec<String>,
    /// Look at all of an image
    #[arg(long, conflicts_with = "set")]
    pub clear: bool,
    /// Write the changed model to this file instead
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write over another file in the place of --out
    #[arg(long, requires = "out")]
    pub force: bool,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub quiet: Quiet,
}
