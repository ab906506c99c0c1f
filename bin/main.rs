//! The `hotad` command: parse, dispatch, map errors to exit codes.

mod args;
mod commands;
mod output;
mod report;

use std::process::ExitCode;

use clap::Parser;
use hotad_engine::Error;

use args::{Cli, Command};

/// Training and scoring free and allocate large maps all the time; this keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Exit codes: fine, anomaly found with `--fail-on-anomaly`, error, interrupted.
const OK: u8 = 0;
const ANOMALY: u8 = 1;
const ERROR: u8 = 2;
const INTERRUPTED: u8 = 130;

fn run(cli: &Cli) -> Result<u8, Error> {
    let common = &cli.common;
    common.apply()?;
    match &cli.command {
        Command::Demo(a) => commands::demo::run(a, common),
        Command::Train(a) => commands::train::run(a, common),
        Command::Score(a) => commands::score::run(a, common),
        Command::Eval(a) => commands::eval::run(a, common),
        Command::Synth(a) => commands::synth::run(a, common),
        Command::Backbone(a) => commands::backbone::run(a, common),
        Command::Distill(a) => commands::distill::run(a, common),
        Command::Bank(a) => commands::bank::run(a, common),
        Command::Info(a) => commands::info::run(a),
        Command::Devices(a) => commands::devices::run(a),
        Command::Config(a) => commands::config::run(a),
        Command::Completions(a) => commands::completions::run(a),
    }
}

/// A reader that has left (`hotad score | head -1`) is no error.
fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == std::io::ErrorKind::BrokenPipe)
}

fn main() -> ExitCode {
    hotad_engine::device::hush_drivers();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(e) => {
            // Help and version go to stdout and are fine; a closed pipe there is no error either.
            let _ = e.print();
            return ExitCode::from(if e.use_stderr() { ERROR } else { OK });
        }
    };
    let handler = ctrlc::set_handler(|| {
        if hotad_engine::interrupt::requested() {
            std::process::exit(i32::from(INTERRUPTED));
        }
        hotad_engine::interrupt::request();
    });
    if let Err(e) = handler {
        eprintln!("hotad: warning: Ctrl-C cannot be caught ({e}); it will stop without a checkpoint");
    }
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(e) if is_closed_pipe(&e) => ExitCode::from(OK),
        Err(e) => {
            eprintln!("hotad: error: {}", e.to_string().replace('\n', " "));
            ExitCode::from(if matches!(e, Error::Interrupted(_)) { INTERRUPTED } else { ERROR })
        }
    }
}
