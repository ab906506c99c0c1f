//! Metrics of scored test images, taken one after another in the order of the data set.

use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::groups::{Thumbnail, alike};
use hotad_engine::data::roi::Roi;
use hotad_engine::data::{Dataset, Layout};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::images::ImageMetrics;
use super::kept_maps::KeptMaps;
use super::looked_at::LookedAt;
use super::observe::Observed;
use super::pixels::Pixels;
use super::truth::Truths;
use super::{ByKind, Confusion, Evaluation, KINDS, Metrics, ScoredImage, intervals, kinds};
use crate::model::Model;

/// What is evaluated: what metrics depend on beside the images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Subject {
    method: String,
    data: String,
    loco: bool,
    /// Rows and columns of anomaly maps.
    pub size: (usize, usize),
    /// Where pixels are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    roi: Option<Roi>,
    image_threshold: f32,
    pixel_threshold: f32,
    /// Median of normal pixels.
    normal_pixel: f32,
    warnings: Vec<String>,
    /// Why pixels are not compared.
    pub without_masks: Option<String>,
}

impl Subject {
    /// Of a model on a data set.
    pub fn new(model: &Model, data: &Dataset) -> Self {
        let (image, calibration) = (model.detector.image(), &model.calibration);
        Self {
            method: model.method.into(),
            data: data.root.display().to_string(),
            loco: data.layout == Layout::Loco,
            size: (image.height, image.width),
            roi: model.roi.clone(),
            image_threshold: calibration.image_threshold,
            pixel_threshold: calibration.pixel_threshold,
            normal_pixel: calibration.normal_pixel,
            warnings: calibration.warnings.clone(),
            without_masks: data.missing_masks(),
        }
    }

    /// What masks say, where pixels are compared.
    pub fn truths(&self, data: &Dataset, corrupt: Option<Corrupt>) -> Result<Option<Truths>> {
        self.without_masks.is_none().then(|| Truths::new(data, corrupt, self.roi.clone())).transpose()
    }
}

/// Counts and scores of the images so far.
pub(super) struct Totals {
    subject: Subject,
    scored: Vec<ScoredImage>,
    thumbnails: Vec<Thumbnail>,
    pixels: Option<Pixels>,
    maps: KeptMaps,
}

/// How images are grouped and intervals drawn.
pub(super) struct Drawn {
    /// The group of each image, where it does not depend on what is to be seen.
    pub groups: Option<Vec<usize>>,
    pub seed: u64,
}

impl Totals {
    /// Of no images; `keep_maps` as in [`super::EvaluateOptions`].
    pub fn new(subject: &Subject, keep_maps: usize) -> Self {
        let thresholds = (subject.pixel_threshold, subject.normal_pixel);
        let pixels = subject.without_masks.is_none().then(|| Pixels::new(thresholds, subject.loco));
        Self {
            subject: subject.clone(),
            scored: Vec::new(),
            thumbnails: Vec::new(),
            pixels,
            maps: KeptMaps::new(keep_maps),
        }
    }

    /// Adds the next image.
    pub fn take(&mut self, observed: Observed) -> Result<()> {
        let Observed { mut image, thumbnail, map, truth } = observed;
        self.maps.take(&image, &map);
        if let (Some(all), Some(truth)) = (&mut self.pixels, truth) {
            let roi = self.subject.roi.as_ref();
            let with_normal = roi.map(|roi| (roi, self.subject.normal_pixel));
            let map = map.of_whole(image.size, with_normal)?;
            let looked_at = LookedAt::new(roi, image.size)?;
            image.overlap = all.take(&image.item, truth, map, &looked_at);
        }
        self.scored.push(image);
        self.thumbnails.push(thumbnail);
        Ok(())
    }

    /// The metrics; `learned` images were left out.
    pub fn finish(self, changed: Option<String>, learned: usize, drawn: Drawn) -> Result<Evaluation> {
        let Self { subject, scored, thumbnails, pixels, maps } = self;
        if scored.is_empty() {
            let reason = format!(
                "all {learned} test images were learned from, or are of the same part as such an image; nothing is left to evaluate on"
            );
            return Err(Error::Data { path: subject.data.into(), reason });
        }
        let groups = drawn.groups.unwrap_or_else(|| alike(&thumbnails));
        let images = Ranking::new(scored.iter().map(|v| (v.score, v.item.defective)));
        let mut metrics = subject.metrics(&scored, images.classes());
        metrics.notes.extend(changed);
        subject.note(&mut metrics, &scored, learned);
        let pixels = pixels.map(|pixels| pixels.fill(&mut metrics));
        let (pixels, sketches) = pixels.unzip();
        if metrics.precision.is_none() && metrics.recall.is_some() {
            metrics.notes.push("precision is null: no image is called an anomaly".into());
        }
        intervals::fill(&mut metrics, &scored, sketches.as_ref(), &groups, drawn.seed);
        Ok(Evaluation { metrics, scored, images, pixels, maps })
    }
}

impl Subject {
    /// Metrics of image scores.
    fn metrics(&self, scored: &[ScoredImage], (defective, good): (u64, u64)) -> Metrics {
        let called = scored.iter().map(|v| (v.score > self.image_threshold, v.item.defective));
        let mut metrics = Metrics {
            method: self.method.clone(),
            data: self.data.clone(),
            good: good as usize,
            defective: defective as usize,
            confusion: Confusion::count(called),
            kinds: kinds::metrics(scored, self.image_threshold),
            image_threshold: self.image_threshold,
            pixel_threshold: self.pixel_threshold,
            ms_per_image: scored.iter().map(|v| v.ms).sum::<f64>() / scored.len() as f64,
            notes: self.warnings.clone(),
            ..Metrics::default()
        };
        ImageMetrics::new(scored, &vec![1; scored.len()], self.image_threshold).fill(&mut metrics);
        metrics
    }

    /// Notes what is null and why, and fills in metrics of LOCO's kinds.
    fn note(&self, metrics: &mut Metrics, scored: &[ScoredImage], learned: usize) {
        if learned > 0 {
            metrics.notes.push(format!(
                "{learned} test images were learned from, thresholds were fitted to them, or they are of the same part as such an image; they are left out"
            ));
        }
        let (good, defective) = (metrics.good, metrics.defective);
        if good == 0 || defective == 0 {
            metrics
                .notes
                .push(format!("image metrics need both classes: {good} good and {defective} defective test images"));
        }
        if self.loco {
            let auroc = |folder| metrics.kinds.get(folder).and_then(|kind| kind.image_auroc);
            metrics.image_auroc_by_kind = Some(ByKind::of(KINDS.map(|(folder, _)| auroc(folder))));
            for (_, kind) in KINDS.iter().filter(|(folder, _)| !scored.iter().any(|v| v.item.kind == *folder)) {
                metrics.notes.push(format!("metrics of {kind} defects are null: the data set has none"));
            }
        }
        metrics.notes.extend(self.without_masks.iter().map(|why| format!("pixel metrics are null: {why}")));
    }
}
