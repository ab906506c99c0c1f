//! `hotad train`.

use std::time::Instant;

use hotad_engine::data::roi::Roi;
use hotad_engine::{Error, Result, input_file};
use hotad_models::jobs::{TrainJob, check_free, check_precision};
use hotad_models::{Registration, config, method};
use toml::{Table, Value};

use super::{cross_validation, imbalance};
use crate::args::{Common, TrainArgs};
use crate::{OK, memory, output};

/// Settings: file, then `--set`, then `--epochs` and `--batch`.
fn settings(args: &TrainArgs, common: &Common) -> Result<Table> {
    let mut table = Table::new();
    if let Some(path) = &args.config {
        let text = input_file::text(path)?;
        table = text.parse().map_err(|e: toml::de::Error| {
            let line = e.span().map_or(1, |span| text[..span.start].matches('\n').count() + 1);
            Error::Config(format!("{}, line {line}: not TOML: {}", path.display(), e.message().replace('\n', " ")))
        })?;
    }
    for assignment in &args.set {
        config::set(&mut table, assignment)?;
    }
    if let Some(epochs) = args.epochs {
        table.insert("epochs".into(), Value::Integer(epochs.into()));
    }
    if let Some(batch) = common.batch {
        table.insert("batch".into(), Value::Integer(batch.into()));
    }
    Ok(table)
}

/// An error about settings, with the file that they may come from.
fn of_file(error: Error, args: &TrainArgs) -> Error {
    match (error, &args.config) {
        (Error::Config(reason), Some(path)) => Error::Config(format!("{reason} (settings: {}, --set)", path.display())),
        (error, _) => error,
    }
}

/// Refuses an option that is short for a setting which the method does not have.
fn check_settable(key: &str, given: bool, method: &Registration) -> Result<()> {
    if !given || method.has(key) {
        return Ok(());
    }
    let name = method.name;
    Err(Error::Config(format!("--{key}: {name} has no setting {key}; hotad config {name} prints those it has")))
}

/// What takes less memory in a training of a method, if anything does.
fn remedy(method: &Registration) -> String {
    let known = [("batch", "--batch"), ("reservoir", "--set reservoir=N"), ("image_size", "--set image_size=N")];
    known.iter().filter(|(key, _)| method.has(key)).map(|(_, option)| *option).collect::<Vec<_>>().join(", ")
}

/// Everything about a job that can be refused before looking at images.
pub fn check(job: &TrainJob, common: &Common) -> Result<()> {
    job.check()?;
    check_precision(common.precision.parse()?)?;
    let Some(out) = &job.out else { return Ok(()) };
    check_free(out)?;
    output::result_file(out, job.begin)
}

/// The job that the command asks for; its device is opened when images have been chosen.
fn job(args: &TrainArgs, common: &Common, settings: Table) -> Result<TrainJob> {
    Ok(TrainJob {
        settings,
        members: args.member.clone(),
        init: args.init.clone(),
        roi: Roi::parse(&args.roi)?,
        group: args.group.clone(),
        holdout: args.holdout,
        defective_share: args.defective_share,
        false_alarm_rate: args.false_alarm_rate,
        pixel_false_alarm_rate: args.pixel_false_alarm_rate,
        on_broken: args.on_broken,
        seed: common.seed,
        out: args.out.clone(),
        begin: output::begin(args.resume, args.force),
        ..TrainJob::new(&args.method, &args.data)
    })
}

/// Trains, calibrates and writes the model; or cross-validates.
pub fn run(args: &TrainArgs, common: &Common) -> Result<u8> {
    let started = Instant::now();
    let method = method(&args.method)?;
    check_settable("epochs", args.epochs.is_some(), method)?;
    check_settable("batch", common.batch.is_some(), method)?;
    memory::set_remedy(&remedy(method));
    let table = settings(args, common)?;
    method.check(&table).map_err(|e| of_file(e, args))?;
    let job = job(args, common, table)?;
    match (args.cv, &args.out) {
        (Some(folds), Some(out)) if !args.imbalance.is_empty() => {
            imbalance::run(&job, out, folds.into(), &args.imbalance, common)
        }
        (Some(folds), _) => cross_validation::run(job, folds.into(), common),
        // Without --cv, the parser has asked for --out.
        (None, _) => train(job, started, common),
    }
}

/// Does a job that writes a model, and says so.
pub fn train(mut job: TrainJob, started: Instant, common: &Common) -> Result<u8> {
    check(&job, common)?;
    let selection = job.select(&common.terminal)?;
    job.device = common.device()?;
    let model = job.train(&selection, &common.terminal)?;
    common.say(&format!(
        "wrote {} in {:.0} s: image threshold {:.3e} (promises {:.3} false alarms), pixel threshold {:.3e}",
        job.out.unwrap_or_default().display(),
        started.elapsed().as_secs_f64(),
        model.calibration.image_threshold,
        model.calibration.promised_false_alarm_rate,
        model.calibration.pixel_threshold
    ));
    Ok(OK)
}

#[cfg(test)]
mod tests {
    use hotad_models::methods;

    use super::*;

    #[test]
    fn the_remedy_for_memory_is_one_that_the_method_takes() {
        for method in methods() {
            for option in remedy(method).split(", ").filter(|option| !option.is_empty()) {
                let key = option.trim_start_matches("--set ").trim_start_matches("--").trim_end_matches("=N");
                assert!(method.has(key), "{}: {option}", method.name);
            }
        }
        assert_eq!(remedy(method("patchcore").expect("a method")), "--set reservoir=N, --set image_size=N");
    }
}
