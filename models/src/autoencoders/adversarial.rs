//! AE-GAN: an autoencoder whose reconstructions also have to pass a discriminator (the "AEGAN" of I3AD, appendix D).
//!
//! The autoencoder is that of the other baselines, or, as the paper has it, I3AD's generator with the difference that nothing of an
//! image is hidden: the fine network then sees the coarse result alone, and squared errors are those of both.

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::add;
use hotad_engine::params::Params;
use hotad_engine::planned::{Outputs, Planned};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Error, Result, random};
use serde_json::Value;
use toml::Table;

use super::Shared;
use super::gan::{Adversary, GanLearner, Made};
use super::generator::{GeneratorKind, learned};
use super::network::Autoencoder;
use crate::config::{Settings, WEIGHT, require_sides, settings};
use crate::detector::{Detector, Exportable, Scores};
use crate::export::{self, Exported, NOT_I3AD, not_plain};
use crate::fit::FitContext;
use crate::method::{LoadContext, Method};
use crate::networks::discriminator::{Discriminator, Normalised};
use crate::networks::inpainting::{Generator, Inpainted};
use crate::residual::Residual;
use crate::segmentation::Aggregation;

settings! {
    /// Settings.
    pub struct Config {
        /// weight of the adversarial loss beside the squared error
        adversarial: f64 = 0.01, in WEIGHT;
        ..adversary: Adversary = Adversary::default();
        ..autoencoder: Shared = Shared::default();
    }
}

impl Settings for Config {
    fn under(table: &Table) -> Result<Table> {
        Ok(Shared::under(table)?.into_iter().chain(Adversary::under(table)?).collect())
    }

    fn check_together(&self) -> Result<()> {
        self.adversary.check_channels(&self.autoencoder.channels)
    }
}

/// What reconstructs images, without its weights.
enum Network {
    Autoencoder(Autoencoder),
    Inpainting(Box<Generator>),
}

impl Network {
    fn new(config: &Config, image: ImageSpec) -> Self {
        match config.adversary.generator {
            GeneratorKind::Autoencoder => Self::Autoencoder(config.autoencoder.network(image)),
            GeneratorKind::I3ad => {
                let generator = Generator::in_range(config.adversary.generator_width, Activation::Sigmoid);
                Self::Inpainting(Box::new(generator))
            }
        }
    }

    fn init(&self, params: &mut Params, seed: u64) {
        match self {
            Self::Autoencoder(network) => network.init(params, &mut random::stream(seed, AeGan::NAME, 0)),
            Self::Inpainting(generator) => generator.init(params, seed),
        }
    }

    /// Reconstructions in 0..1, and the coarse ones they were made of.
    fn run(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<(Tensor, Option<Tensor>)> {
        match self {
            Self::Autoencoder(network) => Ok((network.reconstruct(params, images, tracked)?, None)),
            Self::Inpainting(generator) => {
                let Inpainted { coarse, fine } = generator.reconstruct(&learned(params, tracked), images)?;
                Ok((fine, Some(coarse)))
            }
        }
    }
}

/// The discriminator as the score takes it; files of earlier versions have none.
fn judge(config: &Config, discriminator: Option<&Discriminator>, params: &Params) -> Result<Option<Normalised>> {
    let wanted = discriminator.filter(|_| config.adversary.judges());
    wanted.map(|d| d.weights(params, 0, false)).transpose()
}

/// A trained AE-GAN.
pub struct AeGan {
    config: Config,
    image: ImageSpec,
    network: Network,
    params: Params,
    /// The discriminator's weights as they are used, where the score counts them.
    judge: Option<Normalised>,
    planned: Planned,
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
        let network = Network::new(&config, image);
        let discriminator = Discriminator::new(image.channels, config.adversary.discriminator_width);
        let mut params = Params::default();
        network.init(&mut params, context.seed);
        discriminator.init(&mut params, context.seed);
        context.warm_start(&mut params, "network.")?;
        let mut learner = GanLearner {
            params: params.to(context.device)?,
            discriminator: &discriminator,
            lr: shared.lr,
            adversary: config.adversary.clone(),
            weight: config.adversarial as f32,
            make: |params: &Params, images: &Tensor, _, tracked| {
                let (made, coarse) = network.run(params, images, tracked)?;
                let mut error = Residual::L2.loss(&made, images)?;
                if let Some(coarse) = coarse {
                    error = add(&error, &Residual::L2.loss(&coarse, images)?)?;
                }
                Ok(Made { images: made, loss: Some(error) })
            },
            reconstructs: true,
        };
        let settings = config.learning();
        context.run(&mut learner, image, &shared.schedule(context.train.len()), Self::NAME, &settings)?;
        let params = learner.params;
        let judge = judge(&config, Some(&discriminator), &params)?;
        Ok(Self { config, image, network, params, judge, planned: Planned::default() })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let (config, image) = (Config::of_file(&file.config["settings"])?, file.image);
        require_sides(image, config.autoencoder.image_size)?;
        let network = Network::new(&config, image);
        let state = container::restore(&file.tensors, "network.")?;
        let kept = state.keys().any(|name| name.starts_with("discriminator."));
        let discriminator = kept.then(|| Discriminator::new(image.channels, config.adversary.discriminator_width));
        let params = Params::restored(&state, context.device, |params| {
            network.init(params, 0);
            discriminator.iter().for_each(|d| d.init(params, 0));
        })?;
        if config.adversary.judges() && !kept {
            let reason = "feature_score: an earlier hotad trained it, and kept no discriminator; train it again";
            return Err(Error::Config(reason.into()));
        }
        let judge = judge(&config, discriminator.as_ref(), &params)?;
        Ok(Self { config, image, network, params, judge, planned: Planned::default() })
    }
}

impl AeGan {
    fn aggregation(&self) -> Aggregation {
        self.config.autoencoder.aggregation(self.image)
    }

    /// What scores are taken from, on the device.
    fn queued(&self, images: &Tensor) -> Result<Outputs> {
        let Config { adversary, autoencoder: shared, .. } = &self.config;
        let images = images.to(self.params.device())?;
        let (made, _) = self.network.run(&self.params, &images, false)?;
        let maps = shared.residual.or(Residual::L2).maps(&images, &made)?;
        adversary.prepared(&self.aggregation(), maps, self.judge.as_ref(), (&images, &made))
    }
}

impl Detector for AeGan {
    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let values = self.planned.run(images, self.params.device(), |images| self.queued(images))?;
        Ok(self.config.adversary.scores(&self.aggregation(), &values))
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.params.values()?, "network.")
    }

    fn as_exportable(&self) -> Option<&dyn Exportable> {
        Some(self)
    }
}

impl Exportable for AeGan {
    fn export(&self) -> Result<Exported> {
        match &self.network {
            Network::Autoencoder(network) => {
                export::reconstruction(network, &self.params, self.image, export::COMPARISON)
            }
            Network::Inpainting(_) => Err(not_plain(Self::NAME, NOT_I3AD)),
        }
    }
}
