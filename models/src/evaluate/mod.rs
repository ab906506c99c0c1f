//! Metrics of a model on a labelled data set.
//!
//! Maps are counted and forgotten image by image (pixels.rs), so that memory does not grow with the number of images.

mod confusion;
mod pixels;

use std::collections::BTreeMap;
use std::path::PathBuf;

use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::Picture;
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::data::{Dataset, Item, Layout};
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::{Error, Result};
use serde::Serialize;

use crate::model::Model;
pub use confusion::Confusion;
use pixels::Pixels;

/// Folders of the two kinds of defects of MVTec LOCO, and what they are called here.
const KINDS: [(&str, &str); 2] = [("logical_anomalies", "logical"), ("structural_anomalies", "structural")];

/// A metric over the logical defects of MVTec LOCO, over its structural ones, and the mean of the two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct ByKind {
    /// Logical defects.
    pub logical: Option<f64>,
    /// Structural defects.
    pub structural: Option<f64>,
    /// Their mean, where there are both.
    pub mean: Option<f64>,
}

impl ByKind {
    /// With their mean.
    fn of([logical, structural]: [Option<f64>; 2]) -> Self {
        Self { logical, structural, mean: logical.zip(structural).map(|(a, b)| (a + b) / 2.0) }
    }
}

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
    /// Verdicts at the calibrated threshold, counted.
    pub confusion: Confusion,
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
    /// For LOCO: area under the ROC curve of image scores, by kind of defect.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_auroc_by_kind: Option<ByKind>,
    /// For LOCO: area under the saturated per-region overlap, up to false positive rates of 0.01, 0.05, 0.1, 0.3 and 1:
    /// `auspro_01` to `auspro_100`.
    #[serde(flatten)]
    pub auspro: BTreeMap<String, ByKind>,
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
    /// Time to score it, in milliseconds: that of its batch, shared out evenly.
    pub ms: f64,
    /// Dice at the pixel threshold, for a defective image with a mask.
    pub dice: Option<f64>,
}

/// How to evaluate.
pub struct Options<'a> {
    /// Images scored together.
    pub batch: usize,
    /// A change of the test images.
    pub corrupt: Option<Corrupt>,
    /// Called after each batch with the images done so far.
    pub seen: &'a dyn Fn(usize),
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

/// Scores every test image, and hands each map to `pixels`; returns the verdicts and the time of an image in milliseconds.
fn score_all(
    model: &Model,
    items: &[Item],
    options: &Options,
    mut pixels: Option<&mut Pixels>,
) -> Result<(Vec<Verdict>, f64)> {
    let spec = model.detector.image();
    let paths: Vec<PathBuf> = items.iter().map(|i| i.path.clone()).collect();
    let order: Vec<usize> = (0..paths.len()).collect();
    let mut verdicts = Vec::with_capacity(items.len());
    let mut seconds = 0.0;
    for_each_batch(&Images::new(&paths, spec).changed(options.corrupt), &order, options.batch, |loaded| {
        hotad_engine::interrupt::check()?;
        let started = std::time::Instant::now();
        let scores = model.score_files(&loaded, &paths)?;
        let taken = started.elapsed().as_secs_f64();
        seconds += taken;
        let ms = 1e3 * taken / scores.len() as f64;
        for ((score, index), size) in scores.into_iter().zip(&loaded.indices).zip(&loaded.original_sizes) {
            let score = score?;
            let mut verdict = Verdict { item: items[*index].clone(), score: score.value, size: *size, ms, dice: None };
            if let Some(pixels) = &mut pixels {
                let map = map_at(score.map, (spec.height, spec.width), *size)?;
                verdict.dice = pixels.take(&verdict.item, *index, &map, *size)?;
            }
            verdicts.push(verdict);
        }
        (options.seen)(verdicts.len());
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
/// When there are none, an image or mask cannot be used, or a score is not finite.
pub fn evaluate(model: &Model, data: &Dataset, options: &Options) -> Result<Evaluation> {
    if data.test.is_empty() {
        let reason = "no test images; eval wants test/good and test/DEFECT, or positive/ and negative/ (score takes plain folders)";
        return Err(Error::Data { path: data.root.clone(), reason: reason.into() });
    }
    let (test, learned) = unseen(model, &data.test)?;
    if test.is_empty() {
        let reason = format!("all {learned} test images were learned from; nothing is left to evaluate on");
        return Err(Error::Data { path: data.root.clone(), reason });
    }
    let threshold = model.calibration.pixel_threshold;
    let without_masks = data.missing_masks();
    let mut pixels = without_masks.is_none().then(|| Pixels::new(data, threshold, options.corrupt)).transpose()?;
    let (verdicts, ms_per_image) = score_all(model, &test, options, pixels.as_mut())?;
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
        confusion: Confusion::count(called(&verdicts, model.calibration.image_threshold)),
        image_threshold: model.calibration.image_threshold,
        pixel_threshold: threshold,
        ms_per_image,
        notes: model.calibration.warnings.clone(),
        ..Metrics::default()
    };
    if let Some(corrupt) = options.corrupt {
        metrics.notes.push(format!("test images were changed: {}, seed {}", corrupt.kind.name(), corrupt.seed));
    }
    if learned > 0 {
        metrics.notes.push(format!("{learned} test images were learned from and are left out"));
    }
    if good == 0 || defective == 0 {
        metrics
            .notes
            .push(format!("image metrics need both classes: {good} good and {defective} defective test images"));
    }
    if data.layout == Layout::Loco {
        metrics.image_auroc_by_kind = Some(ByKind::of(KINDS.map(|(folder, _)| auroc_of_kind(&verdicts, folder))));
        for (_, kind) in KINDS.iter().filter(|(folder, _)| !verdicts.iter().any(|v| v.item.kind == *folder)) {
            metrics.notes.push(format!("metrics of {kind} defects are null: the data set has none"));
        }
    }
    metrics.notes.extend(without_masks.map(|why| format!("pixel metrics are null: {why}")));
    let pixels = pixels.map(|pixels| pixels.fill(&mut metrics));
    Ok(Evaluation { metrics, verdicts, images, pixels })
}

/// Area under the ROC curve of one kind of defect against all good images.
fn auroc_of_kind(verdicts: &[Verdict], kind: &str) -> Option<f64> {
    let some = verdicts.iter().filter(|v| !v.item.defective || v.item.kind == kind);
    Ranking::new(some.map(|v| (v.score, v.item.defective))).auroc()
}

/// Whether each image is called an anomaly, and whether it is defective.
fn called(verdicts: &[Verdict], threshold: f32) -> impl Iterator<Item = (bool, bool)> {
    verdicts.iter().map(move |v| (v.score > threshold, v.item.defective))
}

fn f1_at(verdicts: &[Verdict], threshold: f32) -> Option<f64> {
    let overlap = Overlap::count(called(verdicts, threshold));
    (overlap.actual > 0).then(|| overlap.dice())
}
