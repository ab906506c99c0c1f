//! Arguments of `hotad export`.

use std::path::PathBuf;

use clap::Args;

use super::shared::Trust;

#[derive(Args)]
#[command(after_help = "Example: hotad export --onnx parts.safetensors --out parts.onnx")]
pub struct ExportArgs {
    /// Model file, file of a backbone, or name of an installed backbone
    #[arg(long, value_name = "MODEL_FILE")]
    pub onnx: PathBuf,
    /// File to write
    #[arg(long)]
    pub out: PathBuf,
    /// Write over a file in the place of --out
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub trust: Trust,
}
