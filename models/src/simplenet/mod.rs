//! SimpleNet (Liu et al. 2023, "SimpleNet: a simple network for image anomaly detection and localization").
//!
//! 1. Features of patches as PatchCore has them (section 3.1; [`crate::features`]).
//! 2. An adapter, one linear layer (section 3.2); its outputs with normal noise stand for anomalies (section 3.3).
//! 3. A discriminator, two linear layers with batch normalisation and LeakyReLU between, learns to tell them apart by the
//!    truncated L1 loss (section 3.4, equation 7). The negative of its verdict is the anomaly score of a patch;
//!    the anomaly map is these, enlarged and blurred, the image score the largest.
//!
//! Trained for a fixed number of epochs; the public code keeps the epoch that is best on the test images, which is not
//! done here. The noise of the paper (0.015) suits the scale of ImageNet features; for other features it is a share
//! of their own deviation. After training, adapter, hidden layer, normalisation and whatever linear map made the features
//! are folded into one ([`folded`]).

pub mod folded;
pub mod head;

use std::collections::BTreeMap;

use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Doc, Settings, join};
use crate::detector::{Detector, FitContext, Score};
use crate::features::{Embedding, Extractor, FeatureSettings};
use crate::segmentation::enlarged;

use folded::Folded;
use head::HeadSettings;

/// Settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// Adapter and discriminator.
    #[serde(flatten)]
    pub head: HeadSettings,
    /// Where features come from.
    #[serde(flatten)]
    pub features: FeatureSettings,
}

impl Settings for Config {
    const DOCS: &'static [Doc] = &join::<7, 6, 13>(HeadSettings::DOCS, FeatureSettings::DOCS);

    fn check(&self) -> Result<()> {
        self.head.check()?;
        self.features.check()
    }
}

/// Feature vectors and a discriminator of them: what SimpleNet and the feature-level ensemble are when trained.
pub struct Discriminated {
    method: &'static str,
    settings: Value,
    blur: f32,
    embedding: Embedding,
    folded: Folded,
}

/// What a model file keeps beside tensors.
#[derive(Serialize, Deserialize)]
struct Saved {
    settings: Value,
    blur: f32,
    embedding: Value,
}

/// Trains SimpleNet.
///
/// # Errors
/// Bad settings, a backbone that cannot be used, broken images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<Discriminated> {
    let embedding = config.features.embedding(context, "simplenet")?;
    let settings = serde_json::to_value(&config).expect("settings are plain data");
    let trained = Discriminated::fit("simplenet", settings, &config.head, embedding, context)?;
    config.features.forget(context)?;
    Ok(trained)
}

impl Discriminated {
    /// Trains adapter and discriminator over some features.
    ///
    /// # Errors
    /// Broken images, divergence, interruption.
    pub fn fit(
        method: &'static str,
        settings: Value,
        head: &HeadSettings,
        embedding: Embedding,
        context: &FitContext,
    ) -> Result<Self> {
        // An interruption may have come before this stage had a checkpoint.
        let resume = context.resume && context.has_checkpoint();
        let params = head::train(head, &embedding, (method, &settings), &FitContext { resume, ..*context })?;
        let folded = Folded::of(&params, head, &embedding)?;
        Ok(Self { method, settings, blur: head.blur as f32, embedding, folded })
    }

    /// Reads a model.
    pub(crate) fn load(method: &'static str, file: &ModelFile, device: &Device) -> Result<Self> {
        let saved: Saved = serde_json::from_value(file.config.clone())
            .map_err(|e| Error::Config(format!("damaged settings in the model file ({e})")))?;
        let embedding = Embedding::restore(&saved.embedding, file.image, &file.tensors, device)?;
        let folded = Folded::restore(&file.tensors, &embedding)?;
        Ok(Self { method, settings: saved.settings, blur: saved.blur, embedding, folded })
    }
}

impl Detector for Discriminated {
    fn method(&self) -> &'static str {
        self.method
    }

    fn image(&self) -> ImageSpec {
        self.embedding.image()
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let patches = self.folded.scores(&self.embedding.maps(images)?, &self.embedding)?;
        let grid = self.embedding.grid();
        let maps = enlarged(&patches, grid, self.image(), self.blur)?;
        let largest = |image: &[f32]| image.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let values = patches.chunks_exact(grid.0 * grid.1).map(largest);
        Ok(values.zip(maps).map(|(value, map)| Score { value, map }).collect())
    }

    fn config(&self) -> Value {
        let saved = Saved { settings: self.settings.clone(), blur: self.blur, embedding: self.embedding.saved() };
        serde_json::to_value(saved).expect("settings are plain data")
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        let mut tensors = self.embedding.tensors()?;
        tensors.extend(self.folded.tensors()?);
        Ok(tensors)
    }

    /// That of its only backbone; an ensemble has several.
    fn extractor(&self) -> Option<&dyn Extractor> {
        match self.embedding.parts() {
            [one] => Some(one.source.extractor()),
            _ => None,
        }
    }
}
