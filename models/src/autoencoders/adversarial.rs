//! AE-GAN: an autoencoder whose reconstructions also have to pass a discriminator (the "AEGAN" of I3AD, appendix D).

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, random};
use serde_json::Value;

use super::Shared;
use super::gan::{Adversary, GanLearner, Made};
use super::plain::Trained;
use crate::config::{Settings, WEIGHT, settings};
use crate::detector::{Detector, Exportable, Score};
use crate::export::{self, Exported};
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};
use crate::networks::discriminator::Discriminator;
use crate::residual::Residual;

settings! {
    /// Settings.
    pub struct Config {
        /// weight of the adversarial loss beside the squared error
        adversarial: f64 = 0.01, in WEIGHT;
        ..adversary: Adversary = Adversary::default();
        ..autoencoder: Shared = Shared::default();
    }
}

impl Settings for Config {}

/// A trained AE-GAN.
pub struct AeGan {
    config: Config,
    trained: Trained,
}

impl Method for AeGan {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "ae-gan";
    const SUMMARY: &'static str = "autoencoder with a discriminator (baseline)";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let shared = &config.autoencoder;
        let image = shared.image(context.gray)?;
        let network = shared.network(image);
        let discriminator = Discriminator::new(image.channels, config.adversary.discriminator_width);
        let mut params = Params::default();
        network.init(&mut params, &mut random::stream(context.seed, Self::NAME, 0));
        discriminator.init(&mut params, context.seed);
        context.warm_start(&mut params, "network.")?;
        let mut learner = GanLearner {
            params: params.to(context.device)?,
            discriminator: &discriminator,
            lr: shared.lr,
            adversary: config.adversary.clone(),
            weight: config.adversarial as f32,
            make: |params: &Params, images: &Tensor, _, tracked| {
                let made = network.reconstruct(params, images, tracked)?;
                let loss = Some(Residual::L2.loss(&made, images)?);
                Ok(Made { images: made, loss })
            },
            reconstructs: true,
        };
        let settings = config.learning();
        context.run(&mut learner, image, &shared.schedule(), Self::NAME, &settings)?;
        let mut params = learner.params;
        params.drop_all("discriminator.");
        let trained = Trained { config: shared.clone(), loss: Residual::L2, image, network, params };
        Ok(Self { config, trained })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        let trained = Trained::load(config.autoencoder.clone(), Residual::L2, file, context.device)?;
        Ok(Self { config, trained })
    }
}

impl Detector for AeGan {
    fn image(&self) -> ImageSpec {
        self.trained.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let Trained { network, params, .. } = &self.trained;
        let images = images.to(params.device())?;
        self.trained.compare(&images, &network.reconstruct(params, &images, false)?)
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.trained.params.values()?, "network.")
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for AeGan {
    fn export(&self) -> Result<Exported> {
        self.trained.export(export::COMPARISON)
    }
}
