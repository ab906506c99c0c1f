//! Autoencoders trained with squared error (`l2-ae`) or with SSIM (`ssim-ae`; Bergmann et al. 2018, "Improving
//! unsupervised defect segmentation by applying structural similarity to autoencoders").
//!
//! The anomaly map is what is left between image and reconstruction, by the measure that was trained with unless
//! `residual` says otherwise.

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, random};
use serde_json::Value;

use super::Shared;
use super::network::Autoencoder;
use crate::config::Settings;
use crate::detector::{Detector, FitContext, Score, Training};
use crate::residual::Residual;

/// Settings.
pub type Config = Shared;

impl Settings for Shared {
    const DOCS: &'static [(&'static str, &'static str)] = &Self::DOCS;

    fn check(&self) -> Result<()> {
        Self::check(self)
    }
}

/// Fresh parameters of encoder and decoder.
fn fresh(network: &Autoencoder, seed: u64) -> Params {
    let mut params = Params::default();
    network.init(&mut params, &mut random::stream(seed, "ssim autoencoder", 0));
    params
}

/// A trained autoencoder.
pub(super) struct Trained {
    pub config: Config,
    pub loss: Residual,
    pub image: ImageSpec,
    pub network: Autoencoder,
    pub params: Params,
}

impl Trained {
    /// Trains an autoencoder with a loss.
    ///
    /// # Errors
    /// Bad settings or images, divergence, interruption.
    pub(super) fn fit(config: Config, loss: Residual, context: &FitContext, method: &str) -> Result<Self> {
        let image = config.image(context.gray)?;
        let network = config.network(image);
        let mut learner = Training {
            params: fresh(&network, context.seed).to(context.device)?,
            adam: config.adam(),
            loss: |params: &_, images: &_, tracked| loss.loss(&network.reconstruct(params, images, tracked)?, images),
        };
        let settings = serde_json::to_value(&config).expect("settings are plain data");
        context.run(&mut learner, image, &config.schedule(), method, &settings)?;
        let params = learner.params;
        Ok(Self { config, loss, image, network, params })
    }

    /// Reads a trained one.
    pub(super) fn load(config: Config, loss: Residual, file: &ModelFile, device: &Device) -> Result<Self> {
        let network = config.network(file.image);
        let mut params = fresh(&network, 0).to(device)?;
        params.set_values(&container::restore(&file.tensors, "network.")?)?;
        Ok(Self { config, loss, image: file.image, network, params })
    }

    /// Scores of images by some reconstructions of them.
    pub(super) fn compare(&self, images: &Tensor, made: &Tensor) -> Result<Vec<Score>> {
        let residual = self.config.residual.or(self.loss);
        residual.scores(images, made, self.image, self.config.score_blur, self.config.score)
    }
}

/// Settings as a model file has them.
pub(super) fn stored<T: serde::de::DeserializeOwned>(file: &ModelFile) -> Result<T> {
    serde_json::from_value(file.config["settings"].clone())
        .map_err(|e| Error::Config(format!("damaged settings in the model file ({e})")))
}

/// A trained `l2-ae` or `ssim-ae`.
pub struct PlainAutoencoder(Trained);

/// Trains `l2-ae` or `ssim-ae`.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, loss: Residual, context: &FitContext) -> Result<PlainAutoencoder> {
    Trained::fit(config, loss, context, name(loss)).map(PlainAutoencoder)
}

/// Reads a model.
pub(crate) fn load(file: &ModelFile, loss: Residual, device: &Device) -> Result<PlainAutoencoder> {
    Trained::load(stored(file)?, loss, file, device).map(PlainAutoencoder)
}

fn name(loss: Residual) -> &'static str {
    match loss {
        Residual::L2 => "l2-ae",
        Residual::Ssim => "ssim-ae",
    }
}

impl Detector for PlainAutoencoder {
    fn method(&self) -> &'static str {
        name(self.0.loss)
    }

    fn image(&self) -> ImageSpec {
        self.0.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let images = images.to(self.0.params.device())?;
        self.0.compare(&images, &self.0.network.reconstruct(&self.0.params, &images, false)?)
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.0.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.0.params.values()?, "network.")
    }
}
