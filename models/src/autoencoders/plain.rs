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
use hotad_engine::planned::{Outputs, Planned};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, random};
use hotad_kernels::device::HostBuffer;
use serde_json::Value;

use super::Shared;
use super::network::Autoencoder;
use crate::config::{Settings, require_sides};
use crate::detector::{Detector, Exportable, Scores};
use crate::export::{self, Exported};
use crate::fit::{FitContext, Training};
use crate::method::{LoadContext, Method};
use crate::residual::Residual;

/// Settings.
pub type Config = Shared;

/// Adds fresh parameters of encoder and decoder.
fn init(network: &Autoencoder, params: &mut Params, seed: u64) {
    network.init(params, &mut random::stream(seed, "ssim autoencoder", 0));
}

/// A trained autoencoder.
pub(super) struct Trained {
    pub config: Config,
    pub loss: Residual,
    pub image: ImageSpec,
    pub network: Autoencoder,
    pub params: Params,
    pub planned: Planned,
}

impl Trained {
    /// Trains an autoencoder with a loss.
    ///
    /// # Errors
    /// Bad settings or images, divergence, interruption.
    pub(super) fn fit(config: Config, loss: Residual, context: &FitContext, method: &str) -> Result<Self> {
        let image = config.image(context.gray)?;
        let network = config.network(image);
        let mut params = Params::default();
        init(&network, &mut params, context.seed);
        context.warm_start(&mut params, "network.")?;
        let mut learner = Training {
            params: params.to(context.device)?,
            adam: config.adam(),
            loss: |params: &_, images: &_, tracked| loss.loss(&network.reconstruct(params, images, tracked)?, images),
        };
        let settings = config.learning();
        context.run(&mut learner, image, &config.schedule(context.train.len()), method, &settings)?;
        let params = learner.params;
        Ok(Self { config, loss, image, network, params, planned: Planned::default() })
    }

    /// Reads a trained one.
    pub(super) fn load(config: Config, loss: Residual, file: &ModelFile, device: &Device) -> Result<Self> {
        require_sides(file.image, config.image_size)?;
        let network = config.network(file.image);
        let state = container::restore(&file.tensors, "network.")?;
        let params = Params::restored(&state, device, |p| init(&network, p, 0))?;
        Ok(Self { config, loss, image: file.image, network, params, planned: Planned::default() })
    }

    /// The autoencoder as a graph of ONNX.
    pub(super) fn export(&self, left_out: &'static str) -> Result<Exported> {
        export::reconstruction(&self.network, &self.params, self.image, left_out)
    }

    /// What [`Trained::scores`] are taken from, on the device: images and some reconstructions of them, compared.
    pub(super) fn compared(&self, images: &Tensor, made: &Tensor) -> Result<Outputs> {
        self.config.aggregation(self.image).prepared(self.config.residual.or(self.loss).maps(images, made)?)
    }

    /// Scores from the values of what [`Trained::compared`] has made.
    pub(super) fn scores(&self, compared: &[HostBuffer<f32>]) -> Scores {
        self.config.aggregation(self.image).scores(compared)
    }

    /// All that is computed on the device.
    fn queued(&self, images: &Tensor) -> Result<Outputs> {
        let images = images.to(self.params.device())?;
        self.compared(&images, &self.network.reconstruct(&self.params, &images, false)?)
    }
}

/// A trained `l2-ae` or `ssim-ae`.
pub struct PlainAutoencoder(Trained);

impl PlainAutoencoder {
    fn load(file: &ModelFile, loss: Residual, device: &Device) -> Result<Self> {
        Trained::load(Config::of_file(&file.config["settings"])?, loss, file, device).map(Self)
    }
}

/// The autoencoder that learns with squared error.
pub struct L2Ae;

impl Method for L2Ae {
    type Config = Config;
    type Trained = PlainAutoencoder;

    const NAME: &'static str = "l2-ae";
    const SUMMARY: &'static str = "autoencoder trained with squared error (baseline)";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<PlainAutoencoder> {
        Trained::fit(config, Residual::L2, context, Self::NAME).map(PlainAutoencoder)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<PlainAutoencoder> {
        PlainAutoencoder::load(file, Residual::L2, context.device)
    }
}

/// The autoencoder that learns with SSIM.
pub struct SsimAe;

impl Method for SsimAe {
    type Config = Config;
    type Trained = PlainAutoencoder;

    const NAME: &'static str = "ssim-ae";
    const SUMMARY: &'static str = "autoencoder trained with SSIM (baseline)";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<PlainAutoencoder> {
        Trained::fit(config, Residual::Ssim, context, Self::NAME).map(PlainAutoencoder)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<PlainAutoencoder> {
        PlainAutoencoder::load(file, Residual::Ssim, context.device)
    }
}

impl Detector for PlainAutoencoder {
    fn image(&self) -> ImageSpec {
        self.0.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let values = self.0.planned.run(images, self.0.params.device(), |images| self.0.queued(images))?;
        Ok(self.0.scores(&values))
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.0.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.0.params.values()?, "network.")
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for PlainAutoencoder {
    fn export(&self) -> Result<Exported> {
        self.0.export(export::COMPARISON)
    }
}
