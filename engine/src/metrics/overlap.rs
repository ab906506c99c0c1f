//! Overlap of a predicted mask with the true one: Dice and intersection over union.

/// Pixels of a predicted and a true mask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Overlap {
    /// Defective in both masks.
    pub both: u64,
    /// Defective in the predicted mask.
    pub predicted: u64,
    /// Defective in the true mask.
    pub actual: u64,
}

impl Overlap {
    /// Counts pixels of two masks of the same size.
    pub fn count(pairs: impl IntoIterator<Item = (bool, bool)>) -> Self {
        pairs.into_iter().fold(Self::default(), |o, (p, a)| Self {
            both: o.both + u64::from(p && a),
            predicted: o.predicted + u64::from(p),
            actual: o.actual + u64::from(a),
        })
    }

    /// 2 both / (predicted + actual); 1 if both masks are empty.
    pub fn dice(&self) -> f64 {
        let sum = self.predicted + self.actual;
        if sum == 0 { 1.0 } else { 2.0 * self.both as f64 / sum as f64 }
    }

    /// both / either; 1 if both masks are empty.
    pub fn iou(&self) -> f64 {
        let either = self.predicted + self.actual - self.both;
        if either == 0 { 1.0 } else { self.both as f64 / either as f64 }
    }
}
