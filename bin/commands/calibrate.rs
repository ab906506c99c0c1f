//! `hotad calibrate`: thresholds anew, without training.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hotad_engine::calibration::Calibration;
use hotad_engine::data::Item;
use hotad_engine::data::groups::Grouping;
use hotad_engine::data::prepare::Prepared;
use hotad_engine::{Error, Result};
use hotad_models::calibrate::{CalibrationRule, calibrate, on_labelled};
use hotad_models::model::Model;

use super::bank::{alone, save};
use super::train::check_share;
use crate::args::{CalibrateArgs, Common};
use crate::{OK, output};

/// Finds thresholds and writes the model with them.
pub fn run(args: &CalibrateArgs, common: &Common) -> Result<u8> {
    check_share("--false-alarm-rate", args.false_alarm_rate)?;
    args.pixel_false_alarm_rate.map_or(Ok(()), |r| check_share("--pixel-false-alarm-rate", r))?;
    let _alone = alone(&args.model, common)?;
    let mut model = common.model(&args.model, &args.trust)?;
    let images = images(args, &model)?;
    let before = model.calibration.clone();
    model.calibration = match args.f1 {
        true => {
            model.provenance.threshold_images = images.hashes.clone();
            on_labelled(&model, &images.items, common.score_batch())?
        }
        false => on_normal(args, &model, &images, common.seed)?,
    };
    output::warn(&model.calibration.warnings);
    let out = args.out.as_deref().unwrap_or(&args.model);
    save(&model, out)?;
    common.say(&changed(out, &before, &model.calibration));
    Ok(OK)
}

/// What thresholds have become.
fn changed(out: &Path, before: &Calibration, now: &Calibration) -> String {
    format!(
        "wrote {}: image threshold {:.3e} (was {:.3e}; {}), pixel threshold {:.3e} (was {:.3e}; {})",
        out.display(),
        now.image_threshold,
        before.image_threshold,
        now.image_rule,
        now.pixel_threshold,
        before.pixel_threshold,
        now.pixel_rule
    )
}

/// The images to calibrate on: normal ones, or with --f1 the labelled ones; none that the model has learned from.
fn images(args: &CalibrateArgs, model: &Model) -> Result<Prepared> {
    let data = output::data_set(&args.data)?;
    let all: Vec<Item> = match args.f1 {
        true => data.test,
        false => data.train.into_iter().chain(data.validation).collect(),
    };
    let prepared = output::prepare(&all, args.on_broken)?;
    let new: Vec<bool> = prepared.hashes.iter().map(|h| !model.provenance.has_learned(h)).collect();
    let kept = prepared.only(&new);
    let learned = new.len() - kept.items.len();
    if kept.items.is_empty() {
        let what = if args.f1 { "labelled test images" } else { "normal images" };
        let reason = match learned {
            0 => format!("no {what} to calibrate on"),
            _ => format!("the model has learned from all {learned} {what}; thresholds need images it has not seen"),
        };
        return Err(Error::Data { path: data.root, reason });
    }
    if learned > 0 {
        output::note(&format!("{learned} images that the model has learned from are left out"));
    }
    Ok(kept)
}

/// Thresholds from normal images.
fn on_normal(args: &CalibrateArgs, model: &Model, images: &Prepared, seed: u64) -> Result<Calibration> {
    let paths: Vec<PathBuf> = images.items.iter().map(|i| i.path.clone()).collect();
    let groups = Grouping::of(&args.group)?.groups(&paths, &images.thumbnails)?;
    let parts = groups.iter().collect::<HashSet<_>>().len();
    let rule = CalibrationRule {
        image_false_alarm_rate: args.false_alarm_rate,
        pixel_false_alarm_rate: args.pixel_false_alarm_rate,
    };
    calibrate(model.detector.as_ref(), &paths, parts, rule, seed)
}
