//! Thresholds of a trained method, from normal images that it has not learned from.
//!
//! The image threshold is conformal ([`Calibration::of_scores`]). The pixel threshold is the one with the largest mean Dice over
//! images with synthetic defects of every kind, faint and strong, drawn on the same normal images; but never so low that more
//! than a stated share of normal pixels lies above it. No test image is looked at.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotad_engine::calibration::{Calibration, UpperQuantile, quantile};
use hotad_engine::data::Item;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::Mask;
use hotad_engine::device::{Cpu, InputRange};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::metrics::sketch::{Sketch, best_mean_dice};
use hotad_engine::observer::{Observer, Task};
use hotad_engine::threads::pooled;
use hotad_engine::{Error, Result, interrupt};

use crate::detector::{Detector, Score};
use crate::evaluate::looked_at::LookedAt;
use crate::model::Model;
use crate::normal_pixels::{Inside, STRIDE};
use crate::synthetic::{Purpose, defects};

/// Images scored together.
const BATCH: usize = 8;

/// Most normal pixels above a threshold that synthetic defects choose.
const NORMAL_PIXELS: f64 = 0.02;

/// Bits of a value that tell pixels apart: one part in 2048.
const BITS: u32 = 20;

/// How thresholds are found.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationRule {
    /// Share of normal images that may be called anomalies.
    pub image_false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective; `None` takes the threshold with the largest Dice on synthetic
    /// defects over the normal images.
    pub pixel_false_alarm_rate: Option<f64>,
}

/// Gives a model thresholds from normal images that it has not learned from, and, where it computes on the CPU in f32, the ranges
/// of its convolutions' inputs on these images. `groups` tells which images are of one part.
///
/// # Errors
/// When an image cannot be read, or scores are not finite; the model is then as it was.
pub fn calibrate(
    model: &mut Model,
    normal: ImageFiles,
    groups: &[usize],
    rule: CalibrationRule,
    seed: u64,
    observer: &dyn Observer,
) -> Result<()> {
    let calibration = thresholds(model.detector.as_ref(), normal, groups, rule, seed, observer)?;
    if let Some(ranges) = input_ranges(model, normal)? {
        model.input_ranges = ranges;
    }
    model.calibration = calibration;
    Ok(())
}

/// The ranges of convolutions' inputs over images, where a model computes on the CPU in f32. Another model than that which finds
/// thresholds is asked: to see all inputs it runs one by one what else is one pass, and its scores may differ in their last bits.
fn input_ranges(model: &Model, images: ImageFiles) -> Result<Option<BTreeMap<String, InputRange>>> {
    let Some(observing) = model.observing()? else { return Ok(None) };
    for_all(&Images::new(images, observing.detector.image()), BATCH, |batch| {
        interrupt::check()?;
        pooled(|| observing.detector.score(&batch.images)).map(drop)
    })?;
    Ok(observing.device.cpu().and_then(Cpu::observed).map(|ranges| ranges.all()))
}

/// Thresholds from normal images.
fn thresholds(
    detector: &dyn Detector,
    normal: ImageFiles,
    groups: &[usize],
    rule: CalibrationRule,
    seed: u64,
    observer: &dyn Observer,
) -> Result<Calibration> {
    let spec = detector.image();
    let mut values = Vec::with_capacity(normal.len());
    let rate = rule.pixel_false_alarm_rate.unwrap_or(NORMAL_PIXELS);
    let inside = Inside::new(normal.roi(), spec);
    let mut pixels = UpperQuantile::new(rate, normal.len() * inside.pixels());
    let mut some = Vec::new();
    let task = Task::new(observer, "scoring normal images", normal.len() as u64, "images");
    for_all(&Images::new(normal, spec), BATCH, |batch| {
        interrupt::check()?;
        for score in pooled(|| detector.score(&batch.images))? {
            check_finite(&score)?;
            values.push((score.value, groups[values.len()]));
            let map = inside.of(score.map.values.into_vec());
            pixels.extend(&map);
            some.extend(map.iter().step_by(STRIDE));
        }
        task.at(values.len() as u64);
        Ok(())
    })?;
    drop(task);
    let mut calibration = Calibration::of_scores(values, rule.image_false_alarm_rate);
    some.sort_unstable_by(f32::total_cmp);
    calibration.normal_pixel = quantile(&some, 0.5);
    let floor = pixels.value();
    (calibration.pixel_threshold, calibration.pixel_rule) = match rule.pixel_false_alarm_rate {
        Some(rate) => (floor, of_pixels(rate)),
        None => of_defects(detector, normal, (floor, calibration.normal_pixel), seed, observer)?,
    };
    Ok(calibration)
}

/// Fails for scores that a training which has diverged gives.
fn check_finite(score: &Score) -> Result<()> {
    if score.is_finite() {
        return Ok(());
    }
    Err(Error::Diverged { what: "training has diverged: scores of normal images are".into(), checkpoint: None })
}

fn of_pixels(rate: f64) -> String {
    format!("{rate} of held-out normal pixels are above it")
}

/// The pixel threshold by synthetic defects, not below `floor`, and how it was found; `middle` is the median of normal pixels.
fn of_defects(
    detector: &dyn Detector,
    normal: ImageFiles,
    (floor, middle): (f32, f32),
    seed: u64,
    observer: &dyn Observer,
) -> Result<(f32, String)> {
    let mut sketches = Vec::new();
    let drawn = defects(normal, detector.image(), seed, Purpose::Thresholds)?;
    let all: usize = drawn.iter().map(|batch| batch.masks.len()).sum();
    let task = Task::new(observer, "scoring synthetic defects", all as u64, "images");
    for batch in drawn {
        interrupt::check()?;
        let scores = pooled(|| detector.score(&batch.images))?;
        scores.iter().try_for_each(check_finite)?;
        for (score, mask) in scores.iter().zip(&batch.masks) {
            let above: Vec<f32> = score.map.values.iter().map(|v| v - middle).collect();
            sketches.push(Sketch::new(&above, mask, &[], BITS));
        }
        task.at(sketches.len() as u64);
    }
    let Some((dice, threshold)) = best_mean_dice(&sketches) else { return Ok((floor, of_pixels(NORMAL_PIXELS))) };
    let threshold = threshold + middle;
    if threshold < floor {
        let rule = format!("{}; synthetic defects would have it lower, at {threshold:.3e}", of_pixels(NORMAL_PIXELS));
        return Ok((floor, rule));
    }
    let count = sketches.len();
    Ok((
        threshold,
        format!("largest mean Dice ({dice:.3}) on {count} synthetic defects of several kinds over held-out normals"),
    ))
}

/// Thresholds from labelled images: of images the one with the largest F1; where every defective image has a mask, of pixels
/// the one with the largest mean Dice over defective images, else the model's own.
///
/// # Errors
/// When a class is missing, an image or mask cannot be used, or scores are not finite.
pub fn on_labelled(model: &Model, items: &[Item], batch: usize, observer: &dyn Observer) -> Result<Calibration> {
    let spec = model.detector.image();
    let paths: Vec<PathBuf> = items.iter().map(|i| i.path.clone()).collect();
    let masks = items.iter().all(|i| !i.defective || !i.masks.is_empty());
    let (mut scores, mut sketches) = (Vec::new(), Vec::new());
    let task = Task::new(observer, "scoring labelled images", items.len() as u64, "images");
    for_all(&Images::new(model.files(&paths), spec), batch, |loaded| {
        interrupt::check()?;
        for (score, file) in model.score_files(&loaded)?.into_iter().zip(loaded.files) {
            let (score, item) = (score?, &items[file.index]);
            scores.push((score.value, item.defective));
            if masks && item.defective {
                let map = model.map_at(score.map, file.size)?;
                let mask = Mask::of_item(item, map.height, map.width)?;
                let mask = LookedAt::new(model.roi.as_ref(), file.size)?.mask(mask);
                sketches.push(Sketch::new(&map.values, &mask.defect, &[], BITS));
            }
        }
        task.at(scores.len() as u64);
        Ok(())
    })?;
    drop(task);
    let ranking = Ranking::new(scores.iter().copied());
    let (Some((f1, threshold)), (_, 1..)) = (ranking.f1_max(), ranking.classes()) else {
        return Err(Error::Argument { name: "f1", reason: "there have to be good and defective test images".into() });
    };
    let mut calibration = model.calibration.clone();
    // The ranking counts the threshold itself as an anomaly.
    calibration.image_threshold = threshold.next_down();
    calibration.promised_false_alarm_rate = 0.0;
    calibration.image_rule = format!("largest F1 ({f1:.3}) on {} labelled images", items.len());
    calibration.warnings.clear();
    if let Some((dice, threshold)) = best_mean_dice(&sketches) {
        calibration.pixel_threshold = threshold;
        calibration.pixel_rule = format!("largest mean Dice ({dice:.3}) on {} labelled images", sketches.len());
    }
    Ok(calibration)
}
