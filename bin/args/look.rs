//! Arguments of the commands that tell about models, devices, methods and hotad itself.

use std::path::PathBuf;

use clap::Args;

use super::methods::Methods;
use super::shared::Trust;

#[derive(Args)]
#[command(after_help = "Example: hotad info parts.safetensors --json")]
pub struct InfoArgs {
    /// Model file
    pub model: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub trust: Trust,
    /// List the tensors too
    #[arg(short, long)]
    pub verbose: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad devices --json")]
pub struct DevicesArgs {
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad methods --json")]
pub struct MethodsArgs {
    /// Print one JSON array
    #[arg(long)]
    pub json: bool,
}

#[derive(Args)]
#[command(after_help = "Example: hotad config paedid > paedid.toml")]
pub struct ConfigArgs {
    /// Method
    #[arg(value_parser = Methods)]
    pub method: String,
}

#[derive(Args)]
#[command(after_help = "Example: hotad completions bash > /etc/bash_completion.d/hotad")]
pub struct CompletionsArgs {
    /// Shell
    pub shell: clap_complete::Shell,
}
