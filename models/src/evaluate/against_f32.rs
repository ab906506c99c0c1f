//! What scoring in another precision costs.

use serde::Serialize;

use super::Evaluation;

/// The same images scored in f32, beside metrics of another precision.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AgainstF32 {
    /// The other precision.
    pub precision: &'static str,
    /// Area under the ROC curve of image scores in f32.
    pub image_auroc: Option<f64>,
    /// Area under the ROC curve over pixels in f32.
    pub pixel_auroc: Option<f64>,
    /// Largest difference of an image's two scores.
    pub largest_score_difference: f32,
    /// Images that are called otherwise in f32 at the calibrated threshold.
    pub other_verdicts: usize,
}

impl AgainstF32 {
    /// From evaluations of the same images.
    pub fn new(precision: &'static str, evaluation: &Evaluation, in_f32: &Evaluation) -> Self {
        let threshold = in_f32.metrics.image_threshold;
        let pairs = || evaluation.scored.iter().zip(&in_f32.scored).map(|(a, b)| (a.score, b.score));
        Self {
            precision,
            image_auroc: in_f32.metrics.image_auroc,
            pixel_auroc: in_f32.metrics.pixel_auroc,
            largest_score_difference: pairs().map(|(a, b)| (a - b).abs()).fold(0.0, f32::max),
            other_verdicts: pairs().filter(|(a, b)| (*a > threshold) != (*b > threshold)).count(),
        }
    }
}
