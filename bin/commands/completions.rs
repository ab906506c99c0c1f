//! `hotad completions`.

use clap::CommandFactory;
use hotad_engine::Result;

use crate::args::{Cli, CompletionsArgs};
use crate::{OK, output};

/// Prints shell completions.
pub fn run(args: &CompletionsArgs) -> Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "hotad", &mut script);
    output::line(String::from_utf8_lossy(&script).trim_end())?;
    Ok(OK)
}
