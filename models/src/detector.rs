//! What every trained method can do, and what some can beside.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use hotad_engine::Result;
use hotad_engine::container::Stored;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::error::shown;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use serde_json::Value;
use smallvec::SmallVec;

use crate::anomaly_map::AnomalyMap;
use crate::explanation::Explainable;
use crate::export::Exported;
use crate::features::Extractor;

/// Score and anomaly map of one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Larger is more anomalous.
    pub value: f32,
    /// Anomaly map, of the size of the model's [`ImageSpec`].
    pub map: AnomalyMap,
}

impl Score {
    /// Whether all values are finite.
    pub fn is_finite(&self) -> bool {
        self.value.is_finite() && self.map.values.iter().all(|v| v.is_finite())
    }
}

/// Scores of a batch; those of up to sixteen images are on the stack.
pub type Scores = SmallVec<[Score; 16]>;

/// A trained method. What only some can do is asked for by `as_` functions, which give nothing for the others.
pub trait Detector: Send + Sync {
    /// What images it takes.
    fn image(&self) -> ImageSpec;

    /// Scores a batch `[n, height, width, channels]` with values in 0..1, on the device that the
    /// method was trained or loaded on.
    ///
    /// # Errors
    /// When the batch has another shape, or what went wrong on the device.
    fn score(&self, images: &Tensor) -> Result<Scores>;

    /// [`Detector::score`] with what is reached at a moment, for a method that goes on in steps; others take no notice of it.
    ///
    /// # Errors
    /// As [`Detector::score`].
    fn score_until(&self, images: &Tensor, _until: &Until) -> Result<Scores> {
        self.score(images)
    }

    /// Settings and whatever else is not a tensor, for the model file.
    fn config(&self) -> Value;

    /// Weights and banks, for the model file.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    fn tensors(&self) -> Result<BTreeMap<String, Stored>>;

    /// As a network whose inner maps can be had.
    fn as_extractor(&self) -> Option<&dyn Extractor> {
        None
    }

    /// As one that recolours images.
    fn as_recolouring(&self) -> Option<&dyn Recolours> {
        None
    }

    /// As one that shows what happens inside.
    fn as_explainable(&self) -> Option<&dyn Explainable> {
        None
    }

    /// As one that has a network for ONNX.
    fn as_exportable(&self) -> Option<&dyn Exportable> {
        None
    }

    /// As a memory bank that can change after training.
    fn as_bank(&mut self) -> Option<&mut dyn EditableBank> {
        None
    }

    /// Whether training puts the held-out images into its bank once thresholds have been found without them.
    fn bank_takes_holdout(&self) -> bool {
        false
    }
}

/// A method that knows how a normal image would be coloured.
pub trait Recolours {
    /// The images with predicted colours.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn recoloured(&self, images: &Tensor) -> Result<Vec<Picture>>;
}

/// A method that has a network of its own.
pub trait Exportable {
    /// The network as a graph of ONNX.
    ///
    /// # Errors
    /// When it is no plain network: says why.
    fn export(&self) -> Result<Exported>;
}

/// The name of an image in a bank: its file name, in one line of text.
pub fn entry_name(path: &Path) -> String {
    shown(Path::new(path.file_name().unwrap_or_default()))
}

/// A name for another image than those of the names that are taken: [`entry_name`], or with as many folders before it as it takes.
/// `None` where even the whole path is taken.
pub fn free_entry_name(path: &Path, taken: &HashSet<String>) -> Option<String> {
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    let mut names = whole.ancestors().skip(1).scan(entry_name(&whole), |name, folder| {
        let longer = format!("{}/{name}", entry_name(folder));
        Some(std::mem::replace(name, longer))
    });
    names.find(|name| !taken.contains(name))
}

/// The names of images that are put into a bank together: each its own, [`entry_name`] where that is free.
pub fn entry_names(paths: &[PathBuf]) -> Vec<String> {
    let mut taken = HashSet::new();
    let name = |path: &PathBuf| {
        let name = free_entry_name(path, &taken).unwrap_or_else(|| entry_name(path));
        taken.insert(name.clone());
        name
    };
    paths.iter().map(name).collect()
}

/// A memory bank that can be extended and pruned after training, without retraining.
pub trait EditableBank {
    /// Names of its entries, one per image: [`entry_name`].
    fn entries(&self) -> &[String];

    /// Adds the images of a batch under the given names.
    ///
    /// # Errors
    /// When the batch has another shape than the model takes.
    fn add(&mut self, images: &Tensor, names: &[String]) -> Result<()>;

    /// Removes entries by name; returns how many. The last entry cannot be removed.
    ///
    /// # Errors
    /// When nothing would be left.
    fn remove(&mut self, names: &[String]) -> Result<usize>;
}
