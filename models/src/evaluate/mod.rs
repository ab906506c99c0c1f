//! Metrics of a model on a labelled data set.
//!
//! Maps are counted and forgotten image by image (pixels.rs): of each stay some ten kilobytes, which intervals are drawn from.

mod confusion;
mod images;
mod intervals;
mod kinds;
mod metrics;
mod pixels;

use std::path::PathBuf;

use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::groups::{Grouping, Thumbnail, alike};
use hotad_engine::data::loader::{Images, for_each_batch};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::data::{Dataset, Item, Layout};
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::{Error, Result};

use crate::model::Model;
pub use confusion::Confusion;
use images::ImageMetrics;
use metrics::KINDS;
pub use metrics::{ByKind, KindMetrics, Metrics};
use pixels::Pixels;

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
    /// Overlap with the mask at the pixel threshold, for a defective image with a mask.
    pub overlap: Option<Overlap>,
}

/// How to evaluate.
pub struct Options<'a> {
    /// Images scored together.
    pub batch: usize,
    /// A change of the test images.
    pub corrupt: Option<Corrupt>,
    /// Which images are of one part; intervals draw parts.
    pub grouping: &'a Grouping,
    /// Seed of the resamples.
    pub seed: u64,
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

/// The thumbnail of an image of a batch.
fn thumbnail(values: &[f32], spec: ImageSpec) -> Result<Thumbnail> {
    let ImageSpec { height, width, channels } = spec;
    let picture = Picture { height, width, channels, values: values.to_vec() };
    Ok(Thumbnail::new(&picture.fit(Thumbnail::SPEC)?))
}

/// Verdicts, the thumbnails of their images, and the time of one in milliseconds.
type Scored = (Vec<Verdict>, Vec<Thumbnail>, f64);

/// Scores every test image, and hands each map to `pixels`.
fn score_all(model: &Model, items: &[Item], options: &Options, mut pixels: Option<&mut Pixels>) -> Result<Scored> {
    let spec = model.detector.image();
    let paths: Vec<PathBuf> = items.iter().map(|i| i.path.clone()).collect();
    let order: Vec<usize> = (0..paths.len()).collect();
    let mut verdicts = Vec::with_capacity(items.len());
    let mut thumbnails = Vec::with_capacity(items.len());
    let mut seconds = 0.0;
    for_each_batch(&Images::new(&paths, spec).changed(options.corrupt), &order, options.batch, |loaded| {
        hotad_engine::interrupt::check()?;
        let started = std::time::Instant::now();
        let scores = model.score_files(&loaded, &paths)?;
        let taken = started.elapsed().as_secs_f64();
        seconds += taken;
        let ms = 1e3 * taken / scores.len() as f64;
        for values in loaded.images.values()?.chunks_exact(spec.len()) {
            thumbnails.push(thumbnail(values, spec)?);
        }
        for ((score, index), size) in scores.into_iter().zip(&loaded.indices).zip(&loaded.original_sizes) {
            let score = score?;
            let item = items[*index].clone();
            let mut verdict = Verdict { item, score: score.value, size: *size, ms, overlap: None };
            if let Some(pixels) = &mut pixels {
                let map = map_at(score.map, (spec.height, spec.width), *size)?;
                verdict.overlap = pixels.take(&verdict.item, *index, &map, *size)?;
            }
            verdicts.push(verdict);
        }
        (options.seen)(verdicts.len());
        Ok(())
    })?;
    Ok((verdicts, thumbnails, 1e3 * seconds / items.len().max(1) as f64))
}

/// The test images that the model has neither learned from nor been given thresholds by, and the number of those it has.
fn unseen(model: &Model, items: &[Item]) -> Result<(Vec<Item>, usize)> {
    let mut known = model.provenance.known();
    known.extend(model.provenance.threshold_images.iter().map(String::as_str));
    let mut kept = Vec::new();
    for item in items {
        let hash = file_sha256(&item.path)?;
        if !known.contains(hash.as_str()) {
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
    let paths: Vec<&PathBuf> = test.iter().map(|i| &i.path).collect();
    // What names say of parts is known before anything is scored.
    let named = options.grouping.by_names(&paths)?;
    let threshold = model.calibration.pixel_threshold;
    let without_masks = data.missing_masks();
    let mut pixels = without_masks
        .is_none()
        .then(|| Pixels::new(data, (threshold, model.calibration.normal_pixel), options.corrupt))
        .transpose()?;
    let (verdicts, thumbnails, ms_per_image) = score_all(model, &test, options, pixels.as_mut())?;
    let groups = named.unwrap_or_else(|| alike(&thumbnails));
    let images = Ranking::new(verdicts.iter().map(|v| (v.score, v.item.defective)));
    let (defective, good) = images.classes();
    let mut metrics = Metrics {
        method: model.detector.method().into(),
        data: data.root.display().to_string(),
        good: good as usize,
        defective: defective as usize,
        confusion: Confusion::count(called(&verdicts, model.calibration.image_threshold)),
        kinds: kinds::metrics(&verdicts, model.calibration.image_threshold),
        image_threshold: model.calibration.image_threshold,
        pixel_threshold: threshold,
        ms_per_image,
        notes: model.calibration.warnings.clone(),
        ..Metrics::default()
    };
    ImageMetrics::new(&verdicts, &vec![1; verdicts.len()], metrics.image_threshold).fill(&mut metrics);
    if let Some(corrupt) = options.corrupt {
        metrics.notes.push(format!("test images were changed: {}, seed {}", corrupt.kind.name(), corrupt.seed));
    }
    if learned > 0 {
        metrics.notes.push(format!(
            "{learned} test images were learned from, or thresholds were fitted to them; they are left out"
        ));
    }
    if good == 0 || defective == 0 {
        metrics
            .notes
            .push(format!("image metrics need both classes: {good} good and {defective} defective test images"));
    }
    if data.layout == Layout::Loco {
        metrics.image_auroc_by_kind = Some(ByKind::of(KINDS.map(|(folder, _)| kinds::auroc(&verdicts, folder))));
        for (_, kind) in KINDS.iter().filter(|(folder, _)| !verdicts.iter().any(|v| v.item.kind == *folder)) {
            metrics.notes.push(format!("metrics of {kind} defects are null: the data set has none"));
        }
    }
    metrics.notes.extend(without_masks.map(|why| format!("pixel metrics are null: {why}")));
    let pixels = pixels.map(|pixels| pixels.fill(&mut metrics));
    let (pixels, sketches) = pixels.unzip();
    if metrics.precision.is_none() && metrics.recall.is_some() {
        metrics.notes.push("precision is null: no image is called an anomaly".into());
    }
    intervals::fill(&mut metrics, &verdicts, sketches.as_deref(), &groups, options.seed);
    Ok(Evaluation { metrics, verdicts, images, pixels })
}

/// Whether each image is called an anomaly, and whether it is defective.
fn called(verdicts: &[Verdict], threshold: f32) -> impl Iterator<Item = (bool, bool)> {
    verdicts.iter().map(move |v| (v.score > threshold, v.item.defective))
}
