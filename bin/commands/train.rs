//! `hotad train`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use hotad_engine::data::prepare::{OnBroken, prepare};
use hotad_engine::data::{Dataset, Item};
use hotad_engine::model_file::Provenance;
use hotad_engine::{AtPath, Error, Result, random};
use hotad_models::detector::FitContext;
use hotad_models::model::{CalibrationRule, Model, calibrate};
use hotad_models::{Method, config, method};
use toml::{Table, Value};

use super::cross_validation;
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

/// Everything about the command that can be refused before looking at images.
fn check(args: &TrainArgs, common: &Common) -> Result<()> {
    check_share("--holdout", args.holdout)?;
    check_share("--false-alarm-rate", args.false_alarm_rate)?;
    check_share("--defective-share", args.defective_share)?;
    args.pixel_false_alarm_rate.map_or(Ok(()), |r| check_share("--pixel-false-alarm-rate", r))?;
    if common.precision == "f16" {
        let reason = "--precision f16: small gradients vanish in it; train with tf32 or bf16, score with any";
        return Err(Error::Config(reason.into()));
    }
    if args.cv.is_some() {
        cross_validation::check(&args.method)?;
    }
    if !args.member.is_empty() && !args.method.ends_with("ensemble") {
        let reason = format!("--member: {} is not built on other models; use ensemble or score-ensemble", args.method);
        return Err(Error::Config(reason));
    }
    let Some(out) = &args.out else { return Ok(()) };
    if out.is_dir() {
        return Err(Error::Config(format!("--out {}: is a folder; name a file", out.display())));
    }
    output::writable(out.parent().unwrap_or(Path::new(".")))
}

/// The images of a run.
struct Selection {
    /// Normal images to learn from.
    train: Vec<PathBuf>,
    /// Normal images to watch and calibrate with.
    holdout: Vec<PathBuf>,
    /// Defective images to learn from, and their SHA-256.
    defective: Vec<PathBuf>,
    defective_hashes: Vec<String>,
    gray: bool,
    sha256: String,
}

/// Normal images: to learn from, and held out for calibration.
fn split(n: usize, share: f64, seed: u64) -> (Vec<usize>, Vec<usize>) {
    let held = ((n as f64 * share).round() as usize).clamp(1.min(n.saturating_sub(1)), n.saturating_sub(1));
    let order = random::shuffled(n, seed, "holdout", 0);
    let (mut holdout, mut train) = (order[..held].to_vec(), order[held..].to_vec());
    holdout.sort_unstable();
    train.sort_unstable();
    (train, holdout)
}

/// Lists the images that a method learns from, each looked at once.
fn select(args: &TrainArgs, common: &Common, supervised: bool) -> Result<Selection> {
    let data = Dataset::open(&args.data)?;
    if data.train.is_empty() {
        let reason = "no normal images to train on; expected train/good, negative/ or a plain folder";
        return Err(Error::Data { path: data.root, reason: reason.into() });
    }
    let good = data.test.iter().filter(|i| !i.defective);
    let (normal, defective): (Vec<Item>, Vec<Item>) = match (supervised, args.cv) {
        (true, Some(_)) => {
            let normal = data.train.iter().chain(&data.validation).chain(good);
            (normal.cloned().collect(), data.test.iter().filter(|i| i.defective).cloned().collect())
        }
        (true, None) => {
            let learned = data.defective_to_learn(args.defective_share, common.seed);
            (data.train.iter().chain(&data.validation).cloned().collect(), learned)
        }
        (false, _) => (data.train.iter().chain(&data.validation).cloned().collect(), Vec::new()),
    };
    let on_broken = if args.on_broken == Broken::Skip { OnBroken::Skip } else { OnBroken::Refuse };
    let all: Vec<Item> = normal.into_iter().chain(defective).collect();
    let prepared = prepare(&all, on_broken)?;
    for line in &prepared.skipped {
        eprintln!("hotad: warning: skipped {line}");
    }
    let named: std::collections::HashSet<_> = data.validation.iter().map(|i| &i.path).collect();
    let mut selection = Selection {
        train: Vec::new(),
        holdout: Vec::new(),
        defective: Vec::new(),
        defective_hashes: Vec::new(),
        gray: prepared.gray,
        sha256: prepared.sha256,
    };
    for (item, hash) in prepared.items.into_iter().zip(prepared.hashes) {
        if item.defective {
            selection.defective.push(item.path);
            selection.defective_hashes.push(hash);
        } else if named.contains(&item.path) && args.cv.is_none() {
            selection.holdout.push(item.path);
        } else {
            selection.train.push(item.path);
        }
    }
    if data.validation.is_empty() && args.cv.is_none() {
        let (train, holdout) = split(selection.train.len(), args.holdout, common.seed);
        let paths = |items: &[usize]| items.iter().map(|i| selection.train[*i].clone()).collect::<Vec<_>>();
        (selection.train, selection.holdout) = (paths(&train), paths(&holdout));
    }
    if selection.train.is_empty() || (selection.holdout.is_empty() && args.cv.is_none()) {
        let reason = "two normal images at least are needed: one to learn from, one to calibrate with";
        return Err(Error::Data { path: data.root, reason: reason.into() });
    }
    common.detail(&format!("layout: {:?}; images: {}", data.layout, if prepared.gray { "gray" } else { "colour" }));
    Ok(selection)
}

/// Says what is learned from.
fn announce(args: &TrainArgs, common: &Common, selection: &Selection, settings: &Table) {
    let Selection { train, holdout, defective, .. } = selection;
    let more = if defective.is_empty() { String::new() } else { format!(", {} defective", defective.len()) };
    common.say(&format!(
        "{}: {} normal images to learn from{more}, {} held out",
        args.method,
        train.len(),
        holdout.len()
    ));
    common.detail(&format!("settings other than the defaults: {}", settings.to_string().trim().replace('\n', ", ")));
    for path in holdout {
        common.detail(&format!("held out: {}", path.display()));
    }
    for path in defective {
        common.detail(&format!("defective, learned from: {}", path.display()));
    }
}

/// Trains, calibrates and writes the model; or cross-validates.
pub fn run(args: &TrainArgs, common: &Common) -> Result<u8> {
    let started = Instant::now();
    let method = method(&args.method)?;
    if args.epochs.is_some() && !(method.settings)().contains("\nepochs = ") {
        let reason =
            format!("--epochs: {0} is not trained in epochs; hotad config {0} prints its settings", method.name);
        return Err(Error::Config(reason));
    }
    let table = settings(args, common)?;
    (method.check)(&table)?;
    check(args, common)?;
    let selection = select(args, common, method.supervised)?;
    announce(args, common, &selection, &table);
    let device = common.device()?;
    let say = |line: &str| common.say(line);
    let context = FitContext {
        train: &selection.train,
        defective: &selection.defective,
        holdout: &selection.holdout,
        gray: selection.gray,
        members: &args.member,
        device: &device,
        seed: common.seed,
        list_sha256: &selection.sha256,
        model_path: args.out.as_deref(),
        stage: None,
        resume: args.resume,
        progress: !common.quiet,
        say: &say,
    };
    match (args.cv, &args.out) {
        (None, Some(out)) => {
            let model = fit(method, &table, &context, args, &selection)?;
            model.save(out)?;
            common.say(&format!(
                "wrote {} in {:.0} s: image threshold {:.3e}, pixel threshold {:.3e}",
                out.display(),
                started.elapsed().as_secs_f64(),
                model.calibration.image_threshold,
                model.calibration.pixel_threshold
            ));
            Ok(OK)
        }
        // Without --cv, the parser has asked for --out.
        (folds, out) => cross_validation::run(&table, &context, folds.unwrap_or(5).into(), out.as_deref(), common),
    }
}

/// Trains and calibrates.
fn fit(
    method: &Method,
    settings: &Table,
    context: &FitContext,
    args: &TrainArgs,
    selection: &Selection,
) -> Result<Model> {
    let detector = (method.fit)(settings, context)?;
    (context.say)("calibrating on held-out normal images");
    let rule = CalibrationRule {
        image_false_alarm_rate: args.false_alarm_rate,
        pixel_false_alarm_rate: args.pixel_false_alarm_rate,
    };
    let calibration = calibrate(detector.as_ref(), context.holdout, rule, context.seed)?;
    for warning in &calibration.warnings {
        (context.say)(&format!("hotad: warning: {warning}"));
    }
    let provenance = Provenance {
        seed: context.seed,
        version: env!("CARGO_PKG_VERSION").into(),
        training_list_sha256: selection.sha256.clone(),
        training_images: context.train.len() + context.defective.len(),
        learned_test_images: selection.defective_hashes.clone(),
    };
    Ok(Model { detector, calibration, provenance })
}
