//! Metrics of a model on a labelled data set.

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::{Mask, Picture};
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::data::{Dataset, Item, Layout};
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::metrics::region::{area, components, curve};
use hotad_engine::{Error, Result};
use serde::Serialize;

use crate::model::Model;

/// Limit of the false positive rate for AU-PRO.
const PRO_LIMIT: f64 = 0.3;

/// One object of results; what cannot be computed is null, with the reason in `notes`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Metrics {
    /// Method of the model.
    pub method: String,
    /// Data set.
    pub data: String,
    /// Normal test images.
    pub good: usize,
    /// Defective test images.
    pub defective: usize,
    /// Area under the ROC curve of image scores.
    pub image_auroc: Option<f64>,
    /// Average precision of image scores.
    pub image_ap: Option<f64>,
    /// Largest F1 of image scores.
    pub image_f1_max: Option<f64>,
    /// F1 at the calibrated threshold.
    pub image_f1_at_threshold: Option<f64>,
    /// Area under the ROC curve over pixels.
    pub pixel_auroc: Option<f64>,
    /// Average precision over pixels.
    pub pixel_ap: Option<f64>,
    /// Area under the per-region-overlap curve up to a false positive rate of 0.3.
    pub aupro_30: Option<f64>,
    /// Largest Dice over all pixels together.
    pub dice_max: Option<f64>,
    /// Mean Dice of defective images at the calibrated pixel threshold.
    pub dice_at_threshold: Option<f64>,
    /// Mean intersection over union of defective images at the calibrated pixel threshold.
    pub iou_at_threshold: Option<f64>,
    /// For LOCO: saturated PRO up to 0.05.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auspro_05: Option<BTreeMap<String, Option<f64>>>,
    /// Calibrated image threshold.
    pub image_threshold: f32,
    /// Calibrated pixel threshold.
    pub pixel_threshold: f32,
    /// Mean time to score an image, in milliseconds.
    pub ms_per_image: f64,
    /// Reasons for nulls, and what to mind.
    pub notes: Vec<String>,
}

/// The verdict on one test image.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Image and label.
    pub item: Item,
    /// Raw score.
    pub score: f32,
    /// Rows and columns of the file.
    pub size: (usize, usize),
    /// Anomaly map at the size of the file; kept where the data set has masks.
    pub map: Option<Vec<f32>>,
    /// Dice at the pixel threshold, for a defective image with a mask.
    pub dice: Option<f64>,
}

/// Metrics and what they come from.
pub struct Evaluation {
    /// Results.
    pub metrics: Metrics,
    /// Image by image, in the order of the data set.
    pub verdicts: Vec<Verdict>,
    /// Ranking of image scores.
    pub images: Ranking,
    /// Ranking of pixels.
    pub pixels: Option<Ranking>,
}

/// Resizes an anomaly map to the size of its image (bilinear).
///
/// # Errors
/// When a side is 0.
pub fn map_at(map: Vec<f32>, from: (usize, usize), to: (usize, usize)) -> Result<Vec<f32>> {
    Ok(Picture { height: from.0, width: from.1, channels: 1, values: map }.resized(to.0, to.1)?.values)
}

/// Scores every test image; `seen` is called after each batch with the images done so far.
///
/// # Errors
/// When an image cannot be read.
fn score_all(
    model: &Model,
    items: &[Item],
    batch: usize,
    keep_maps: bool,
    seen: &dyn Fn(usize),
) -> Result<(Vec<Verdict>, f64)> {
    let spec = model.detector.image();
    let paths: Vec<PathBuf> = items.iter().map(|i| i.path.clone()).collect();
    let order: Vec<usize> = (0..paths.len()).collect();
    let mut verdicts = Vec::with_capacity(items.len());
    let mut seconds = 0.0;
    for_each_batch(&Images::new(&paths, spec), &order, batch, |loaded| {
        hotad_engine::interrupt::check()?;
        let started = std::time::Instant::now();
        let scores = model.score_files(&loaded, &paths)?;
        seconds += started.elapsed().as_secs_f64();
        for ((score, index), size) in scores.into_iter().zip(&loaded.indices).zip(&loaded.original_sizes) {
            let map = if keep_maps { Some(map_at(score.map, (spec.height, spec.width), *size)?) } else { None };
            verdicts.push(Verdict { item: items[*index].clone(), score: score.value, size: *size, map, dice: None });
        }
        seen(verdicts.len());
        Ok(())
    })?;
    Ok((verdicts, 1e3 * seconds / items.len().max(1) as f64))
}

/// The test images that the model has not learned from, and the number of those it has.
fn unseen(model: &Model, items: &[Item]) -> Result<(Vec<Item>, usize)> {
    let learned = &model.provenance.learned_test_images;
    if learned.is_empty() {
        return Ok((items.to_vec(), 0));
    }
    let mut kept = Vec::new();
    for item in items {
        if !learned.contains(&file_sha256(&item.path)?) {
            kept.push(item.clone());
        }
    }
    let left_out = items.len() - kept.len();
    Ok((kept, left_out))
}

/// Evaluates a model on the test images of a data set.
///
/// # Errors
/// When there are none, or an image or mask cannot be used.
pub fn evaluate(model: &Model, data: &Dataset, batch: usize, seen: &dyn Fn(usize)) -> Result<Evaluation> {
    if data.test.is_empty() {
        let reason = "no test images; eval wants test/good and test/DEFECT, or positive/ and negative/ (score takes plain folders)";
        return Err(Error::Data { path: data.root.clone(), reason: reason.into() });
    }
    let (test, learned) = unseen(model, &data.test)?;
    if test.is_empty() {
        let reason = format!("all {learned} test images were learned from; nothing is left to evaluate on");
        return Err(Error::Data { path: data.root.clone(), reason });
    }
    let (mut verdicts, ms_per_image) = score_all(model, &test, batch, data.has_masks(), seen)?;
    let images = Ranking::new(verdicts.iter().map(|v| (v.score, v.item.defective)));
    let (defective, good) = images.classes();
    let mut metrics = Metrics {
        method: model.detector.method().into(),
        data: data.root.display().to_string(),
        good: good as usize,
        defective: defective as usize,
        image_auroc: images.auroc(),
        image_ap: images.average_precision(),
        image_f1_max: images.f1_max().map(|(f, _)| f),
        image_f1_at_threshold: f1_at(&verdicts, model.calibration.image_threshold),
        image_threshold: model.calibration.image_threshold,
        pixel_threshold: model.calibration.pixel_threshold,
        ms_per_image,
        notes: model.calibration.warnings.clone(),
        ..Metrics::default()
    };
    if learned > 0 {
        metrics.notes.push(format!("{learned} test images were learned from and are left out"));
    }
    if good == 0 || defective == 0 {
        metrics
            .notes
            .push(format!("image metrics need both classes: {good} good and {defective} defective test images"));
    }
    let pixels = if data.has_masks() {
        Some(pixel_metrics(&mut verdicts, &mut metrics)?)
    } else {
        metrics.notes.push("pixel metrics are null: the data set has no masks for its defective images".into());
        None
    };
    if data.layout == Layout::Loco {
        metrics.auspro_05 = Some(["logical", "structural", "mean"].map(|k| (k.to_string(), None)).into());
        metrics.notes.push("auspro_05 is null: this version does not look saturation thresholds up".into());
    }
    Ok(Evaluation { metrics, verdicts, images, pixels })
}

fn f1_at(verdicts: &[Verdict], threshold: f32) -> Option<f64> {
    let pairs = verdicts.iter().map(|v| (v.score > threshold, v.item.defective));
    let overlap = Overlap::count(pairs);
    (overlap.actual > 0).then(|| overlap.dice())
}

/// Fills in pixel metrics; reads the masks.
fn pixel_metrics(verdicts: &mut [Verdict], metrics: &mut Metrics) -> Result<Ranking> {
    let threshold = metrics.pixel_threshold;
    let (mut regions, mut truth) = (Vec::new(), Vec::new());
    let (mut dice, mut iou, mut found) = (0.0, 0.0, 0);
    for (index, verdict) in verdicts.iter_mut().enumerate() {
        let mask = Mask::of_item(&verdict.item, verdict.size.0, verdict.size.1)?;
        regions.extend(components(index, &mask.defect, mask.width));
        if mask.defect.contains(&true) {
            let map = verdict.map.as_deref().unwrap_or_default();
            let overlap = Overlap::count(map.iter().map(|v| *v > threshold).zip(mask.defect.iter().copied()));
            verdict.dice = Some(overlap.dice());
            (dice, iou, found) = (dice + overlap.dice(), iou + overlap.iou(), found + 1);
        }
        truth.push(mask.defect);
    }
    let maps: Vec<Vec<f32>> = verdicts.iter().map(|v| v.map.clone().unwrap_or_default()).collect();
    metrics.aupro_30 = curve(&maps, &regions).map(|c| area(&c, PRO_LIMIT));
    let pixels = Ranking::new(maps.into_iter().flatten().zip(truth.into_iter().flatten()));
    metrics.pixel_auroc = pixels.auroc();
    metrics.pixel_ap = pixels.average_precision();
    metrics.dice_max = pixels.f1_max().map(|(f, _)| f);
    if found > 0 {
        metrics.dice_at_threshold = Some(dice / f64::from(found));
        metrics.iou_at_threshold = Some(iou / f64::from(found));
    } else {
        metrics.notes.push("pixel metrics are null: every mask is empty".into());
    }
    Ok(pixels)
}
