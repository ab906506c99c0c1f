//! What else than its training images the features of a method are taken from.

use hotad_engine::data::corrupt::{Augment, Corruption};

use crate::config::{Settings, settings};

settings! {
    /// Settings.
    pub struct Augmentation {
        /// changes, one of which each training image is seen under once more: "brightness" (times 0.8 to 1.2), "blur" (deviation
        /// of up to 0.5 % of the longer side), "noise" (of a deviation of up to 0.05), "rotation" (up to 5 degrees); [] for none (paper)
        augment: Vec<Corruption> = vec![Corruption::Brightness, Corruption::Blur, Corruption::Noise];
    }
}

impl Settings for Augmentation {}

impl Augmentation {
    /// How often each training image is seen.
    pub fn views(&self) -> usize {
        if self.augment.is_empty() { 1 } else { 2 }
    }

    /// The changes, drawn by a seed.
    pub fn drawn_by(&self, seed: u64) -> Augment {
        Augment { kinds: self.augment.clone(), seed }
    }

    /// What is said of them beside the number of images.
    pub fn note(&self) -> &'static str {
        if self.augment.is_empty() { "" } else { ", each once more under a change" }
    }
}
