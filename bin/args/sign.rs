//! Arguments of `hotad sign`.

use std::path::PathBuf;

use clap::Args;

#[derive(Args)]
#[command(
    after_help = "Example: hotad sign --new-key plant\n         hotad sign --key plant parts.safetensors\n         hotad score --model parts.safetensors --verify-key plant.pub new-parts/"
)]
pub struct SignArgs {
    /// Files to sign; the signature is written beside each, with the ending .sig
    #[arg(required_unless_present = "new_key", requires = "key")]
    pub files: Vec<PathBuf>,
    /// Secret key (Ed25519, PEM; `openssl genpkey -algorithm ed25519` makes one too)
    #[arg(long, value_name = "FILE", requires = "files")]
    pub key: Option<PathBuf>,
    /// Make a secret key in this file, and its public key beside it with the ending .pub
    #[arg(long, value_name = "FILE", exclusive = true)]
    pub new_key: Option<PathBuf>,
}
