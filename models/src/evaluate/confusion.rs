//! The confusion matrix of a threshold.

use serde::Serialize;

/// How many test images of each kind were called what at the calibrated image threshold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Confusion {
    /// Defective images called anomalies.
    pub true_positive: usize,
    /// Defective images called normal.
    pub false_negative: usize,
    /// Good images called anomalies.
    pub false_positive: usize,
    /// Good images called normal.
    pub true_negative: usize,
}

impl Confusion {
    /// Of pairs: whether an image was called an anomaly, whether it is defective.
    pub fn count(pairs: impl Iterator<Item = (bool, bool)>) -> Self {
        let mut counts = Self::default();
        for (called, defective) in pairs {
            let count = match (called, defective) {
                (true, true) => &mut counts.true_positive,
                (false, true) => &mut counts.false_negative,
                (true, false) => &mut counts.false_positive,
                (false, false) => &mut counts.true_negative,
            };
            *count += 1;
        }
        counts
    }
}
