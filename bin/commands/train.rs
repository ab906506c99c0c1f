//! `hotad train`.

use std::path::Path;
use std::time::Instant;

use hotad_engine::model_file::Provenance;
use hotad_engine::{Error, Result, input_file};
use hotad_models::calibrate::{CalibrationRule, calibrate};
use hotad_models::detector::{FitContext, checkpoints, remove_checkpoints};
use hotad_models::model::Model;
use hotad_models::{Method, config, method};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::cross_validation;
use super::selection::{Selection, select};
use crate::OK;
use crate::args::{Common, TrainArgs};
use crate::output::{self, Begin};

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

/// Fails for a share that is none.
pub fn check_share(name: &str, value: f64) -> Result<()> {
    config::require(value > 0.0 && value < 1.0, name, value, "above 0, below 1")
}

/// Refuses an option that is short for a setting which the method does not have.
fn check_settable(key: &str, given: bool, method: &Method) -> Result<()> {
    if !given || method.has(key) {
        return Ok(());
    }
    let name = method.name;
    Err(Error::Config(format!("--{key}: {name} has no setting {key}; hotad config {name} prints those it has")))
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
    output::result_file(out, Begin::of(args.resume, args.force))
}

/// Says what is learned from.
fn announce(args: &TrainArgs, common: &Common, selection: &Selection, settings: &Table) {
    let Selection { train, holdout, defective, parts, .. } = selection;
    if *parts < train.len() + holdout.len() + defective.len() {
        common.say(&format!(
            "{} images are of {parts} parts{}; the images of a part stay on one side of every split",
            train.len() + holdout.len() + defective.len(),
            if args.group == "auto" { ", by their likeness (--group says otherwise)" } else { "" }
        ));
    }
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
    check_settable("epochs", args.epochs.is_some(), method)?;
    check_settable("batch", common.batch.is_some(), method)?;
    let table = settings(args, common)?;
    (method.check)(&table).map_err(|e| of_file(e, args))?;
    check(args, common)?;
    let selection = select(args, common, method.supervised)?;
    announce(args, common, &selection, &table);
    let device = common.device()?;
    let say = |line: &str| common.say(line);
    let chosen = chosen_by(args, &selection);
    let context = FitContext {
        train: &selection.train,
        defective: &selection.defective,
        holdout: &selection.holdout,
        groups: &selection.groups,
        gray: selection.gray,
        members: &args.member,
        device: &device,
        seed: common.seed,
        chosen: &chosen,
        model_path: args.out.as_deref(),
        stage: None,
        resume: args.resume,
        progress: !common.quiet,
        say: &say,
    };
    match (args.cv, &args.out) {
        (None, Some(out)) => {
            if args.force {
                remove_checkpoints(out)?;
            }
            let trained = fit(method, &table, &context, args, &selection).and_then(|m| m.save(out).map(|()| m));
            let model = trained.map_err(|e| kept(e, out, common))?;
            remove_checkpoints(out)?;
            common.say(&format!(
                "wrote {} in {:.0} s: image threshold {:.3e} (promises {:.3} false alarms), pixel threshold {:.3e}",
                out.display(),
                started.elapsed().as_secs_f64(),
                model.calibration.image_threshold,
                model.calibration.promised_false_alarm_rate,
                model.calibration.pixel_threshold
            ));
            Ok(OK)
        }
        // Without --cv, the parser has asked for --out.
        (folds, out) => cross_validation::run(&table, &context, folds.unwrap_or(5).into(), out.as_deref(), common),
    }
}

/// What decides which images are learned from, for checkpoints.
fn chosen_by(args: &TrainArgs, selection: &Selection) -> Map<String, Json> {
    let mut chosen = Map::new();
    for (part, hashes) in
        ["images to learn from", "held-out images", "defective images"].iter().zip(&selection.sha256_of_lists)
    {
        chosen.insert(format!("SHA-256 of the {part}"), hashes.as_str().into());
    }
    chosen.insert("--holdout".into(), args.holdout.into());
    if !selection.defective.is_empty() {
        chosen.insert("--defective-share".into(), args.defective_share.into());
    }
    chosen
}

/// Says what of a training is not lost with an error.
fn kept(error: Error, out: &Path, common: &Common) -> Error {
    match (checkpoints(out).pop(), error) {
        (Some(path), Error::Interrupted(None)) => Error::Interrupted(Some(path)),
        (Some(path), other) if !matches!(other, Error::Model { .. } | Error::NotFinite { .. }) => {
            common.say(&format!("what was learned is in {}: continue with --resume", path.display()));
            other
        }
        (_, other) => other,
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
    let calibration = calibrate(detector.as_ref(), context.holdout, &selection.holdout_groups, rule, context.seed)?;
    for warning in &calibration.warnings {
        (context.say)(&format!("hotad: warning: {warning}"));
    }
    let provenance = Provenance {
        seed: context.seed,
        version: env!("CARGO_PKG_VERSION").into(),
        training_list_sha256: selection.sha256.clone(),
        training_images: context.train.len() + context.defective.len(),
        learned_images: selection.learned.clone(),
        lists_all_images: selection.lists_all_images,
        ..Provenance::default()
    };
    Ok(Model { detector, calibration, provenance, device: context.device.clone() })
}
