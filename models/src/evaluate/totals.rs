//! Metrics of scored test images, taken one after another in the order of the data set.

use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::groups::{Thumbnail, alike};
use hotad_engine::data::roi::Roi;
use hotad_engine::data::{Dataset, Layout};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};

use super::images::ImageMetrics;
use super::looked_at::LookedAt;
use super::observe::Observed;
use super::pixels::Pixels;
use super::truth::Truths;
use super::{ByKind, Confusion, Evaluation, KINDS, Metrics, Verdict, intervals, kinds};
use crate::model::Model;

/// What metrics depend on beside the images.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Facts {
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

impl Facts {
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

/// Counts and verdicts of the images so far.
pub(super) struct Aggregate {
    facts: Facts,
    verdicts: Vec<Verdict>,
    thumbnails: Vec<Thumbnail>,
    pixels: Option<Pixels>,
}

/// How images are grouped and intervals drawn.
pub(super) struct Drawn {
    /// The group of each image, where it does not depend on what is to be seen.
    pub groups: Option<Vec<usize>>,
    pub seed: u64,
}

impl Aggregate {
    pub fn new(facts: &Facts) -> Self {
        let thresholds = (facts.pixel_threshold, facts.normal_pixel);
        let pixels = facts.without_masks.is_none().then(|| Pixels::new(thresholds, facts.loco));
        Self { facts: facts.clone(), verdicts: Vec::new(), thumbnails: Vec::new(), pixels }
    }

    /// Adds the next image.
    pub fn take(&mut self, observed: Observed) -> Result<()> {
        let Observed { mut verdict, thumbnail, pixels } = observed;
        if let (Some(all), Some((map, truth))) = (&mut self.pixels, pixels) {
            let roi = self.facts.roi.as_ref();
            let with_normal = roi.map(|roi| (roi, self.facts.normal_pixel));
            let map = map.of_whole(verdict.size, with_normal)?;
            let looked_at = LookedAt::new(roi, verdict.size)?;
            verdict.overlap = all.take(&verdict.item, truth, map, &looked_at);
        }
        self.verdicts.push(verdict);
        self.thumbnails.push(thumbnail);
        Ok(())
    }

    /// The metrics; `learned` images were left out.
    pub fn finish(self, changed: Option<String>, learned: usize, drawn: Drawn) -> Result<Evaluation> {
        let Self { facts, verdicts, thumbnails, pixels } = self;
        if verdicts.is_empty() {
            let reason = format!("all {learned} test images were learned from; nothing is left to evaluate on");
            return Err(Error::Data { path: facts.data.into(), reason });
        }
        let groups = drawn.groups.unwrap_or_else(|| alike(&thumbnails));
        let images = Ranking::new(verdicts.iter().map(|v| (v.score, v.item.defective)));
        let mut metrics = facts.metrics(&verdicts, images.classes());
        metrics.notes.extend(changed);
        facts.note(&mut metrics, &verdicts, learned);
        let pixels = pixels.map(|pixels| pixels.fill(&mut metrics));
        let (pixels, sketches) = pixels.unzip();
        if metrics.precision.is_none() && metrics.recall.is_some() {
            metrics.notes.push("precision is null: no image is called an anomaly".into());
        }
        intervals::fill(&mut metrics, &verdicts, sketches.as_deref(), &groups, drawn.seed);
        Ok(Evaluation { metrics, verdicts, images, pixels })
    }
}

impl Facts {
    /// Metrics of image scores.
    fn metrics(&self, verdicts: &[Verdict], (defective, good): (u64, u64)) -> Metrics {
        let called = verdicts.iter().map(|v| (v.score > self.image_threshold, v.item.defective));
        let mut metrics = Metrics {
            method: self.method.clone(),
            data: self.data.clone(),
            good: good as usize,
            defective: defective as usize,
            confusion: Confusion::count(called),
            kinds: kinds::metrics(verdicts, self.image_threshold),
            image_threshold: self.image_threshold,
            pixel_threshold: self.pixel_threshold,
            ms_per_image: verdicts.iter().map(|v| v.ms).sum::<f64>() / verdicts.len() as f64,
            notes: self.warnings.clone(),
            ..Metrics::default()
        };
        ImageMetrics::new(verdicts, &vec![1; verdicts.len()], self.image_threshold).fill(&mut metrics);
        metrics
    }

    /// Notes what is null and why, and fills in metrics of LOCO's kinds.
    fn note(&self, metrics: &mut Metrics, verdicts: &[Verdict], learned: usize) {
        if learned > 0 {
            metrics.notes.push(format!(
                "{learned} test images were learned from, or thresholds were fitted to them; they are left out"
            ));
        }
        let (good, defective) = (metrics.good, metrics.defective);
        if good == 0 || defective == 0 {
            metrics
                .notes
                .push(format!("image metrics need both classes: {good} good and {defective} defective test images"));
        }
        if self.loco {
            metrics.image_auroc_by_kind = Some(ByKind::of(KINDS.map(|(folder, _)| kinds::auroc(verdicts, folder))));
            for (_, kind) in KINDS.iter().filter(|(folder, _)| !verdicts.iter().any(|v| v.item.kind == *folder)) {
                metrics.notes.push(format!("metrics of {kind} defects are null: the data set has none"));
            }
        }
        metrics.notes.extend(self.without_masks.iter().map(|why| format!("pixel metrics are null: {why}")));
    }
}
