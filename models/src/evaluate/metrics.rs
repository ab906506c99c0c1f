//! The metrics that an evaluation gives.

use std::collections::BTreeMap;

use serde::Serialize;

use super::against_f32::AgainstF32;
use super::confusion::Confusion;

/// Folders of the two kinds of defects of MVTec LOCO, and what they are called here.
pub(super) const KINDS: [(&str, &str); 2] = [("logical_anomalies", "logical"), ("structural_anomalies", "structural")];

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
    pub(super) fn of([logical, structural]: [Option<f64>; 2]) -> Self {
        Self { logical, structural, mean: logical.zip(structural).map(|(a, b)| (a + b) / 2.0) }
    }
}

/// Metrics of one kind of defect.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct KindMetrics {
    /// Images with it.
    pub images: usize,
    /// Area under the ROC curve of image scores, against all good images.
    pub image_auroc: Option<f64>,
    /// Share that is called an anomaly at the calibrated threshold.
    pub recall: f64,
    /// Mean Dice at the calibrated pixel threshold.
    pub dice_at_threshold: Option<f64>,
    /// 95 % intervals of these metrics, by name, as those of all images.
    pub intervals: BTreeMap<&'static str, [f64; 2]>,
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
    /// Share of the images called anomalies that are defective, at the calibrated threshold.
    pub precision: Option<f64>,
    /// Share of the defective images that are called anomalies, at the calibrated threshold.
    pub recall: Option<f64>,
    /// Share of the good images that are called anomalies, at the calibrated threshold.
    pub false_alarm_rate: Option<f64>,
    /// Area under the ROC curve over pixels.
    pub pixel_auroc: Option<f64>,
    /// Average precision over pixels.
    pub pixel_ap: Option<f64>,
    /// Area under the per-region-overlap curve up to a false positive rate of 0.3.
    pub aupro_30: Option<f64>,
    /// Largest Dice over all pixels together.
    pub dice_max: Option<f64>,
    /// Largest mean Dice of defective images that any one threshold reaches.
    pub dice_best_threshold: Option<f64>,
    /// Mean Dice of defective images at the calibrated pixel threshold.
    pub dice_at_threshold: Option<f64>,
    /// Mean intersection over union of defective images at the calibrated pixel threshold.
    pub iou_at_threshold: Option<f64>,
    /// 95 % intervals of metrics, by name: percentile bootstrap over the parts that the images are of.
    pub intervals: BTreeMap<&'static str, [f64; 2]>,
    /// Parts that the test images are of.
    pub parts: usize,
    /// Metrics of each kind of defect.
    pub kinds: BTreeMap<String, KindMetrics>,
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
    /// Where the precision is not f32: what f32 gives.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against_f32: Option<AgainstF32>,
    /// Reasons for nulls, and what to mind.
    pub notes: Vec<String>,
}
