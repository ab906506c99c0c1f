//! `hotad calibrate`: thresholds anew, without training.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use hotad_engine::calibration::Calibration;
use hotad_engine::data::Item;
use hotad_engine::data::groups::Grouping;
use hotad_engine::data::prepare::Prepared;
use hotad_engine::error::shown;
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
        true => on_labels(&mut model, &images, common.score_batch())?,
        false => on_normal(args, &mut model, &images, common.seed)?,
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

/// Images to calibrate on, and the part that each is of.
struct Images {
    prepared: Prepared,
    parts: Vec<usize>,
}

/// Normal images, or with --f1 the labelled ones; none that is of a part that the model has learned from.
fn images(args: &CalibrateArgs, model: &Model) -> Result<Images> {
    let grouping = Grouping::of(&args.group)?;
    let data = output::data_set(&args.data)?;
    let all: Vec<Item> = match args.f1 {
        true => data.test,
        false => data.train.into_iter().chain(data.validation).collect(),
    };
    if !model.provenance.lists_all_images {
        let what =
            "does not say which images it learned from; thresholds are too low where some of these are among them";
        output::note(&format!("hotad: warning: {} {what}", shown(&args.model)));
    }
    let prepared = output::prepare(&all, args.on_broken)?;
    let paths: Vec<&PathBuf> = prepared.items.iter().map(|i| &i.path).collect();
    let groups = grouping.groups(&paths, &prepared.thumbnails)?;
    let known = model.provenance.known();
    let of_learned = groups.iter().zip(&prepared.hashes).filter(|(_, hash)| known.contains(hash.as_str()));
    let learned: HashSet<usize> = of_learned.map(|(group, _)| *group).collect();
    let new: Vec<bool> = groups.iter().map(|group| !learned.contains(group)).collect();
    let parts: Vec<usize> = groups.into_iter().filter(|group| !learned.contains(group)).collect();
    let left_out = new.len() - parts.len();
    if parts.is_empty() {
        let what = if args.f1 { "labelled test images" } else { "normal images" };
        let reason = match left_out {
            0 => format!("no {what} to calibrate on"),
            _ => format!(
                "the model has learned from the parts of all {left_out} {what}; thresholds need some it has not seen"
            ),
        };
        return Err(Error::Data { path: data.root, reason });
    }
    if left_out > 0 {
        output::note(&format!("{left_out} images of parts that the model has learned from are left out"));
    }
    Ok(Images { prepared: prepared.only(&new), parts })
}

/// Thresholds from normal images; none depends on labelled ones any more.
fn on_normal(args: &CalibrateArgs, model: &mut Model, images: &Images, seed: u64) -> Result<Calibration> {
    let paths: Vec<PathBuf> = images.prepared.items.iter().map(|i| i.path.clone()).collect();
    let rule = CalibrationRule {
        image_false_alarm_rate: args.false_alarm_rate,
        pixel_false_alarm_rate: args.pixel_false_alarm_rate,
    };
    model.provenance.threshold_images.clear();
    calibrate(model.detector.as_ref(), &paths, &images.parts, rule, seed)
}

/// Thresholds from labelled images, which are remembered beside those that a threshold that stays was fitted to.
fn on_labels(model: &mut Model, images: &Images, batch: usize) -> Result<Calibration> {
    let found = on_labelled(model, &images.prepared.items, batch)?;
    let remembered = &mut model.provenance.threshold_images;
    if found.pixel_rule != model.calibration.pixel_rule {
        remembered.clear();
    }
    remembered.extend(images.prepared.hashes.iter().cloned());
    remembered.sort_unstable();
    remembered.dedup();
    Ok(found)
}
