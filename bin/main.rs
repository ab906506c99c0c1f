//! The `hotad` command: parse, dispatch, map errors to exit codes.

#![deny(clippy::print_stderr)] // it panics where stderr cannot be written
#![forbid(unsafe_code)]

mod args;
mod commands;
mod comparison;
mod continued;
mod latency;
mod memory;
mod output;
mod overlay;
mod report;
mod reproduce;
mod terminal;

use std::process::ExitCode;

use clap::Parser;
use hotad_engine::Error;

use args::{Cli, Command, Shared};

/// Exit codes: fine, anomaly found with `--fail-on-anomaly`, error, interrupted. Also in docs/formats.md.
const OK: u8 = 0;
const ANOMALY: u8 = 1;
const ERROR: u8 = 2;
const INTERRUPTED: u8 = 130;

fn run(cli: &Cli) -> Result<u8, Error> {
    hotad_engine::device::check_instruction_set()?;
    let common = |shared: &dyn Shared| shared.common(cli.command.continued());
    match &cli.command {
        Command::Demo(a) => commands::demo::run(&a.own, &common(&a.shared)?),
        Command::Train(a) => commands::train::run(&a.own, &common(&a.shared)?),
        Command::Score(a) => commands::score::run(&a.own, &common(&a.shared)?),
        Command::Eval(a) => commands::eval::run(&a.own, &common(&a.shared)?),
        Command::Merge(a) => commands::merge::run(a),
        Command::Calibrate(a) => commands::calibrate::run(&a.own, &common(&a.shared)?),
        Command::Reproduce(a) => reproduce::run(&a.own, &common(&a.shared)?),
        Command::Synth(a) => commands::synth::run(&a.own, &common(&a.shared)?),
        Command::Export(a) => commands::export::run(&a.own, &common(&a.shared)?),
        Command::Backbone(a) => commands::backbone::run(a),
        Command::Distill(a) => commands::distill::run(&a.own, &common(&a.shared)?),
        Command::Bench(a) => commands::bench::run(&a.own, &common(&a.shared)?),
        Command::Bank(a) => commands::bank::run(a),
        Command::Roi(a) => commands::roi::run(a),
        Command::Info(a) => commands::info::run(a),
        Command::Sign(a) => commands::sign::run(a),
        Command::Devices(a) => commands::devices::run(a),
        Command::Methods(a) => commands::methods::run(a),
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
        output::warn(&format!("Ctrl-C cannot be caught ({e}); it will stop without a checkpoint"));
    }
    let result = run(&cli);
    hotad_engine::data::notices::take().iter().for_each(|warning| output::warn(warning));
    match result {
        Ok(code) => ExitCode::from(code),
        Err(e) if is_closed_pipe(&e) => ExitCode::from(OK),
        Err(e) => {
            let line = format!("hotad: error: {}{}", output::told(&e), cli.command.continued().after(&e));
            memory::begin_to_end();
            output::note(&line);
            ExitCode::from(if matches!(e, Error::Interrupted(_)) { INTERRUPTED } else { ERROR })
        }
    }
}
