//! Settings of PatchCore.

use crate::config::{BLUR, BankType, CORESET, Settings, settings};
use crate::features::{Augmentation, FeatureSettings};

settings! {
    /// Settings.
    pub struct Config {
        /// most elements of a patch's vector; more are averaged in groups of neighbours (paper: 1024)
        dimensions: usize = 1024, in 8..=8192;
        /// vectors that the bank keeps: a share of the patches of the training images (paper: 0.1 or 0.01), or their number from 1 on
        coreset: f64 = 0.1, allowed CORESET if |v| CORESET.contains(*v);
        /// milliseconds that scoring one image may take on this machine; the bank is made as large as that allows, whatever
        /// coreset says; 0: no limit
        max_latency_ms: f64 = 0.0, allowed "0, or 0.01 to 60000" if |v| *v == 0.0 || (0.01..=60_000.0).contains(v);
        /// mebibytes of patches held at most while the bank is built; where all take more, they are drawn evenly from each part
        reservoir: f64 = 512.0, in 0.01..=1e6;
        /// dimensions that distances are measured in while the coreset is chosen
        projection: usize = 128, in 8..=1024;
        /// bank vectors that the image score is weighted with (paper: 9); 1 for the largest distance as it is
        neighbours: usize = 1, in 1..=100;
        /// deviation of the blur of the anomaly map, in pixels; 0 for none
        blur: f64 = 4.0, in BLUR;
        /// "f16" or "f32": precision of the memory bank in the model file
        bank: BankType = BankType::F16;
        ..augmentation: Augmentation = Augmentation::default();
        ..features: FeatureSettings = FeatureSettings::default();
    }
}

impl Settings for Config {}

impl Config {
    /// Most vectors of `d` elements that are held while the bank is built, at least one.
    pub(super) fn held(&self, d: usize) -> usize {
        ((self.reservoir * f64::from(1 << 20)) as usize / (d * size_of::<f32>())).max(1)
    }

    /// Vectors that the bank keeps of `held` patches: of a share of those of the images as they are, as many as are held.
    pub(super) fn kept(&self, held: usize, of_images: usize) -> usize {
        let all = held.min(of_images) as f64;
        let wanted = if self.coreset < 1.0 { (all * self.coreset).round() } else { self.coreset };
        (wanted as usize).clamp(1, held)
    }
}
