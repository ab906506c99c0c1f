//! Arguments of `hotad bank`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::shared::{Quiet, Scoring, Trust, With};

#[derive(Subcommand)]
pub enum BankAction {
    /// Add normal images
    Add(With<BankAddArgs, Scoring>),
    /// Remove images by file name
    Remove(With<BankRemoveArgs, Quiet>),
    /// List the images in the bank
    List {
        /// Model file
        model: PathBuf,
    },
}

#[derive(Args)]
pub struct BankAddArgs {
    /// Model file; written anew
    pub model: PathBuf,
    /// Images or folders of images
    #[arg(required = true)]
    pub paths: Vec<PathBuf>,
    #[command(flatten)]
    pub trust: Trust,
    /// Leave out images whose content is in the bank, instead of refusing them
    #[arg(long)]
    pub skip_known: bool,
}

#[derive(Args)]
pub struct BankRemoveArgs {
    /// Model file; written anew
    pub model: PathBuf,
    #[command(flatten)]
    pub trust: Trust,
    /// File names as `bank list` prints them
    #[arg(required = true)]
    pub names: Vec<String>,
}

#[derive(Args)]
#[command(after_help = "Example: hotad bank add parts.safetensors new-normal-parts/")]
pub struct BankArgs {
    #[command(subcommand)]
    pub action: BankAction,
}
