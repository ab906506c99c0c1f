//! `hotad train`.

use std::path::Path;
use std::time::Instant;

use hotad_engine::data::Dataset;
use hotad_engine::data::prepare::{OnBroken, prepare};
use hotad_engine::model_file::Provenance;
use hotad_engine::{AtPath, Error, Result, random};
use hotad_models::detector::FitContext;
use hotad_models::model::{CalibrationRule, Model, calibrate};
use hotad_models::{config, method};
use toml::{Table, Value};

use crate::OK;
use crate::args::{Broken, Common, TrainArgs};
use crate::output;

/// Settings: file, then `--set`, then `--epochs` and `--batch`.
fn settings(args: &TrainArgs, common: &Common) -> Result<Table> {
    let mut table = Table::new();
    if let Some(path) = &args.config {
        let text = std::fs::read_to_string(path).at(path)?;
        table = text.parse().map_err(|e: toml::de::Error| {
            Error::Config(format!("{}: not a TOML file: {}", path.display(), e.message()))
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

fn check_share(name: &str, value: f64) -> Result<()> {
    config::require(value > 0.0 && value < 1.0, name, value, "above 0, below 1")
}

/// Normal images: to learn from, and held out for calibration.
fn split(data: &Dataset, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let n = data.train.len();
    let held = ((n as f64 * share).round() as usize).clamp(1.min(n.saturating_sub(1)), n.saturating_sub(1));
    let order = random::shuffled(n, seed, "holdout", 0);
    let (mut holdout, mut train) = (order[..held].to_vec(), order[held..].to_vec());
    holdout.sort_unstable();
    train.sort_unstable();
    (train, holdout)
}

/// Trains, calibrates and writes the model.
pub fn run(args: &TrainArgs, common: &Common) -> Result<u8> {
    let started = Instant::now();
    let method = method(&args.method)?;
    let table = settings(args, common)?;
    (method.check)(&table)?;
    check_share("--holdout", args.holdout)?;
    check_share("--false-alarm-rate", args.false_alarm_rate)?;
    if common.precision == "f16" {
        let reason = "--precision f16: small gradients vanish in it; train with tf32 or bf16, score with any";
        return Err(Error::Config(reason.into()));
    }
    args.pixel_false_alarm_rate.map_or(Ok(()), |r| check_share("--pixel-false-alarm-rate", r))?;
    if args.out.is_dir() {
        return Err(Error::Config(format!("--out {}: is a folder; name a file", args.out.display())));
    }
    output::writable(args.out.parent().unwrap_or(Path::new(".")))?;
    let data = Dataset::open(&args.data)?;
    if data.train.is_empty() {
        let reason = "no normal images to train on; expected train/good, negative/ or a plain folder";
        return Err(Error::Data { path: data.root, reason: reason.into() });
    }
    let on_broken = if args.on_broken == Broken::Skip { OnBroken::Skip } else { OnBroken::Refuse };
    let all: Vec<_> = data.train.iter().chain(&data.validation).cloned().collect();
    let prepared = prepare(&all, on_broken)?;
    for line in &prepared.skipped {
        eprintln!("hotad: warning: skipped {line}");
    }
    let named: std::collections::HashSet<_> = data.validation.iter().map(|i| &i.path).collect();
    let (validation, train): (Vec<_>, Vec<_>) = prepared.items.into_iter().partition(|i| named.contains(&i.path));
    let data = Dataset { train, validation, ..data.clone() };
    let paths = |items: &[usize]| items.iter().map(|i| data.train[*i].path.clone()).collect::<Vec<_>>();
    let (train, holdout) = if data.validation.is_empty() {
        let (train, holdout) = split(&data, args.holdout, common.seed);
        (paths(&train), paths(&holdout))
    } else {
        let all: Vec<usize> = (0..data.train.len()).collect();
        (paths(&all), data.validation.iter().map(|i| i.path.clone()).collect())
    };
    if train.is_empty() || holdout.is_empty() {
        let reason = "two normal images at least are needed: one to learn from, one to calibrate with";
        return Err(Error::Data { path: data.root, reason: reason.into() });
    }
    common.say(&format!("{}: {} normal images to learn from, {} held out", args.method, train.len(), holdout.len()));
    common.detail(&format!("layout: {:?}; images: {}", data.layout, if prepared.gray { "gray" } else { "colour" }));
    common.detail(&format!("settings other than the defaults: {}", table.to_string().trim().replace('\n', ", ")));
    for path in &holdout {
        common.detail(&format!("held out: {}", path.display()));
    }
    let device = common.device()?;
    let say = |line: &str| common.say(line);
    let context = FitContext {
        train: &train,
        holdout: &holdout,
        gray: prepared.gray,
        device: &device,
        seed: common.seed,
        list_sha256: &prepared.sha256,
        model_path: Some(&args.out),
        resume: args.resume,
        progress: !common.quiet,
        say: &say,
    };
    let detector = (method.fit)(&table, &context)?;
    common.say("calibrating on held-out normal images");
    let rule = CalibrationRule {
        image_false_alarm_rate: args.false_alarm_rate,
        pixel_false_alarm_rate: args.pixel_false_alarm_rate,
    };
    let calibration = calibrate(detector.as_ref(), &holdout, rule, common.seed)?;
    for warning in &calibration.warnings {
        common.say(&format!("hotad: warning: {warning}"));
    }
    let provenance = Provenance {
        seed: common.seed,
        version: env!("CARGO_PKG_VERSION").into(),
        training_list_sha256: prepared.sha256.clone(),
        training_images: train.len(),
    };
    let model = Model { detector, calibration, provenance };
    model.save(&args.out)?;
    common.say(&format!(
        "wrote {} in {:.0} s: image threshold {:.3e}, pixel threshold {:.3e}",
        args.out.display(),
        started.elapsed().as_secs_f64(),
        model.calibration.image_threshold,
        model.calibration.pixel_threshold
    ));
    Ok(OK)
}
