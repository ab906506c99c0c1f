//! Changed views of the training images, from which banks and Gaussians are learned beside the images themselves.

use hotad_engine::data::corrupt::{Corruption, RandomChange};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

use crate::config::{Settings, checked, settings};

settings! {
    /// Settings.
    pub struct Augmentation {
        /// changes, one of which each training image is seen under once more: "brightness" (times 0.8 to 1.2), "blur" (deviation
        /// of up to 0.5 % of the longer side, or up to a pixel), "noise" (of a deviation of up to 0.05), "rotation" (up to
        /// 5 degrees); [] for none (paper)
        augment: Vec<Corruption> = vec![Corruption::Brightness, Corruption::Blur, Corruption::Noise];
    }
}

impl Settings for Augmentation {}

impl Augmentation {
    /// The images alone.
    pub fn none() -> Self {
        Self { augment: Vec::new() }
    }

    /// How often each training image is seen.
    pub fn views(&self) -> usize {
        if self.augment.is_empty() { 1 } else { 2 }
    }

    /// The change of the second view, drawn by a seed; none where there is none.
    pub fn drawn_by(&self, seed: u64) -> Option<RandomChange> {
        RandomChange::new(&self.augment, seed)
    }

    /// What is said of the views beside the number of images.
    pub fn note(&self) -> &'static str {
        if self.augment.is_empty() { "" } else { ", each once more under a change" }
    }
}

/// Settings of a model file. One that does not say how training images were changed is of a version that did not change them.
///
/// # Errors
/// Those of the settings.
pub fn of_file<'de, D: Deserializer<'de>, S: Settings>(from: D) -> std::result::Result<S, D::Error> {
    let mut all = Map::deserialize(from)?;
    all.entry("augment").or_insert_with(|| json!([]));
    checked(Value::Object(all)).map_err(D::Error::custom)
}
