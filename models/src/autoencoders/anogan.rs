//! AnoGAN (Schlegl et al. 2017) and f-AnoGAN (Schlegl et al. 2019): a generator of normal images, and for a test
//! image the latent vector whose image is nearest to it.
//!
//! The generator is the decoder of the autoencoders, or I3AD's, over z from N(0, 1), the discriminator that of I3AD, whose paper
//! compares them with. `anogan` finds z by Adam on `(1 - w) mean |x - G(z)| + w mean |f(x) - f(G(z))|`, f the features before the
//! discriminator's verdicts (equations 3 to 5), z starting at 0. `f-anogan` trains an encoder for it, with the
//! generator fixed, by the same with squares, `(1 - w) mean (x - G(E(x)))^2 + w mean (f(x) - f(G(E(x))))^2` ("izi_f", its
//! equation 3, whose weights 1 and kappa are divided by their sum here). The anomaly map is what is left
//! between x and G(z).

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::{add, join_rows, loss, mean, rows};
use hotad_engine::params::Params;
use hotad_engine::planned::{Outputs, Planned};
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::until::Until;
use hotad_engine::{Result, random};
use hotad_kernels::adam::{AdamOptions, adam};
use hotad_kernels::loss::Loss;
use serde_json::Value;
use toml::Table;

use super::Shared;
use super::gan::{self, Adversary, GanLearner, Made, features};
use super::generator::LatentNetwork;
use crate::config::{EPOCHS, RATE, SHARE, Settings, require_sides, settings};
use crate::detector::{Detector, Exportable, Scores};
use crate::export::{self, Exported, NOT_I3AD, not_plain};
use crate::fit::{FitContext, Schedule, Training, stage};
use crate::method::{LoadContext, Method};
use crate::networks::discriminator::{Discriminator, Normalised};
use crate::residual::Residual;
use crate::segmentation::Aggregation;

settings! {
    /// Settings.
    pub struct Config {
        /// weight of the discriminator's features beside the pixels
        feature_weight: f64 = 0.1, in SHARE;
        /// anogan: steps on the latent vector of a test image
        test_steps: usize = 500, in 1..=10_000, for Scoring;
        /// anogan: learning rate of these steps
        test_lr: f64 = 0.02, in RATE, for Scoring;
        /// f-anogan: most epochs of the encoder
        encoder_epochs: usize = 200, in EPOCHS, for Length;
        ..adversary: Adversary = Adversary::default();
        ..shared: Shared = Shared::default();
    }
}

impl Settings for Config {
    fn under(table: &Table) -> Result<Table> {
        Ok(Shared::under(table)?.into_iter().chain(Adversary::under(table)?).collect())
    }

    fn check_together(&self) -> Result<()> {
        self.adversary.check_channels(&self.shared.channels)
    }
}

/// How the latent vector is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inversion {
    /// By gradient steps on it.
    Search,
    /// By an encoder.
    Encoder,
}

impl Inversion {
    fn method(self) -> &'static str {
        match self {
            Self::Search => AnoGan::NAME,
            Self::Encoder => FAnoGan::NAME,
        }
    }
}

/// The networks without their weights.
struct Networks {
    image: ImageSpec,
    generator: LatentNetwork,
    discriminator: Discriminator,
}

impl Networks {
    fn new(config: &Config, image: ImageSpec) -> Self {
        let discriminator = Discriminator::new(image.channels, config.adversary.discriminator_width);
        Self { image, generator: LatentNetwork::new(&config.adversary, &config.shared, image), discriminator }
    }

    /// Adds fresh parameters; searching wants no encoder.
    fn init(&self, params: &mut Params, inversion: Inversion, seed: u64) {
        self.generator.init(params, seed);
        self.discriminator.init(params, seed);
        if inversion == Inversion::Search {
            params.drop_all("encoder.");
        }
    }

    /// Latent vectors of a step.
    fn noise(&self, n: usize, seed: u64, step: u64, device: &Device) -> Result<Tensor> {
        let (latent, mut rng) = (self.generator.latent(), random::stream(seed, "latent vectors", step));
        let values = (0..n * latent).map(|_| random::normal(&mut rng)).collect();
        Tensor::new(values, &[n, 1, 1, latent])?.to(device)
    }
}

/// What a made image is to be like.
struct Target<'a> {
    images: &'a Tensor,
    judge: &'a Normalised,
    /// The discriminator's features of the images, off the tape.
    features: Tensor,
    kind: Loss,
    /// Weight of the features.
    weight: f32,
}

impl<'a> Target<'a> {
    fn new(images: &'a Tensor, judge: &'a Normalised, kind: Loss, weight: f32) -> Result<Self> {
        Ok(Self { images, judge, features: features(judge, images)?.detached(), kind, weight })
    }

    /// `(1 - w) l(x, made) + w l(f(x), f(made))` on the tape of `made`.
    fn difference(&self, made: &Tensor) -> Result<Tensor> {
        let inside = loss(self.kind, &features(self.judge, made)?, &self.features)?;
        add(&mean(&loss(self.kind, made, self.images)?, 1.0 - self.weight)?, &mean(&inside, self.weight)?)
    }
}

/// A trained AnoGAN or f-AnoGAN.
pub struct AnoGan {
    config: Config,
    inversion: Inversion,
    networks: Networks,
    params: Params,
    /// The discriminator's weights as they are used; none where neither the search nor the score needs them.
    judge: Option<Normalised>,
    planned: Planned,
}

impl Method for AnoGan {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "anogan";
    const SUMMARY: &'static str = "generative network, its latent space searched for each test image (baseline)";
    const WARM_START: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        fit(config, Inversion::Search, context)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        Self::restored(file, Inversion::Search, context.device)
    }
}

/// f-AnoGAN.
pub struct FAnoGan;

impl Method for FAnoGan {
    type Config = Config;
    type Trained = AnoGan;

    const NAME: &'static str = "f-anogan";
    const SUMMARY: &'static str = "generative network with an encoder for test images (baseline)";
    const WARM_START: bool = true;
    const EXPORTABLE: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<AnoGan> {
        fit(config, Inversion::Encoder, context)
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<AnoGan> {
        AnoGan::restored(file, Inversion::Encoder, context.device)
    }
}

/// Trains the generator, and the encoder where there is one.
fn fit(config: Config, inversion: Inversion, context: &FitContext) -> Result<AnoGan> {
    let networks = Networks::new(&config, config.shared.image(context.gray)?);
    let stage = (inversion == Inversion::Encoder).then_some(stage::GENERATOR);
    let first = FitContext { stage, ..*context };
    let mut params = generator(&config, &networks, inversion, &first)?;
    if inversion == Inversion::Encoder {
        // An interruption may have come before this stage had a checkpoint.
        let resume = context.resume && context.has_checkpoint();
        params = encoder(&config, &networks, params, &FitContext { resume, ..*context })?;
    }
    AnoGan::new(config, inversion, networks, params)
}

fn generator(config: &Config, networks: &Networks, inversion: Inversion, context: &FitContext) -> Result<Params> {
    let (mut params, seed) = (Params::default(), context.seed);
    networks.init(&mut params, inversion, seed);
    context.warm_start(&mut params, "network.")?;
    let mut learner = GanLearner {
        params: params.to(context.device)?,
        discriminator: &networks.discriminator,
        lr: config.shared.lr,
        adversary: config.adversary.clone(),
        weight: 1.0,
        make: |params: &Params, images: &Tensor, number, tracked| {
            let z = networks.noise(images.shape()[0], seed, number, params.device())?;
            Ok(Made { images: networks.generator.decode(params, &z, tracked)?, loss: None })
        },
        reconstructs: false,
    };
    let schedule = Schedule { patience: 0, ..config.shared.schedule(context.train.len()) };
    let settings = config.learning();
    context.run(&mut learner, networks.image, &schedule, inversion.method(), &settings)?;
    Ok(learner.params)
}

fn encoder(config: &Config, networks: &Networks, params: Params, context: &FitContext) -> Result<Params> {
    let weight = config.feature_weight as f32;
    let mut learner = Training {
        params,
        adam: gan::adam(config.shared.lr),
        loss: |params: &Params, images: &Tensor, tracked| {
            let z = networks.generator.encode(params, images, tracked)?;
            let made = networks.generator.decode(params, &z, false)?;
            let judge = networks.discriminator.weights(params, 0, false)?;
            Target::new(images, &judge, Loss::Mse, weight)?.difference(&made)
        },
    };
    let schedule = Schedule { epochs: config.encoder_epochs, ..config.shared.schedule(context.train.len()) };
    let settings = config.learning();
    context.run(&mut learner, networks.image, &schedule, &format!("{} encoder", FAnoGan::NAME), &settings)?;
    Ok(learner.params)
}

impl AnoGan {
    /// Reads a model.
    fn restored(file: &ModelFile, inversion: Inversion, device: &Device) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        require_sides(file.image, config.shared.image_size)?;
        let networks = Networks::new(&config, file.image);
        let state = container::restore(&file.tensors, "network.")?;
        let params = Params::restored(&state, device, |p| networks.init(p, inversion, 0))?;
        Self::new(config, inversion, networks, params)
    }

    fn new(config: Config, inversion: Inversion, networks: Networks, params: Params) -> Result<Self> {
        let judged = inversion == Inversion::Search || config.adversary.judges();
        let judge = judged.then(|| networks.discriminator.weights(&params, 0, false)).transpose()?;
        Ok(Self { config, inversion, networks, params, judge, planned: Planned::default() })
    }

    fn aggregation(&self) -> Aggregation {
        self.config.shared.aggregation(self.networks.image)
    }

    /// What scores are taken from, on the device.
    fn queued(&self, images: &Tensor, until: &Until) -> Result<Outputs> {
        let Config { shared, adversary, .. } = &self.config;
        let images = images.to(self.params.device())?;
        let made = self.networks.generator.decode(&self.params, &self.latent(&images, until)?, false)?;
        let maps = shared.residual.or(Residual::L2).maps(&images, &made)?;
        adversary.prepared(&self.aggregation(), maps, self.judge.as_ref(), (&images, &made))
    }

    /// The latent vectors whose images are nearest to some.
    fn latent(&self, images: &Tensor, until: &Until) -> Result<Tensor> {
        let (Inversion::Search, Some(judge)) = (self.inversion, &self.judge) else {
            return self.networks.generator.encode(&self.params, images, false);
        };
        let apart = |i| self.searched(&rows(images, i, 1)?, judge, until);
        (1..images.shape()[0]).try_fold(apart(0)?, |joined, i| join_rows(&joined, &apart(i)?))
    }

    /// The latent vector whose image is nearest to one. Images of a batch are searched for apart: what their common loss gives
    /// is divided by their number, and Adam does not quite make up for it.
    fn searched(&self, image: &Tensor, judge: &Normalised, until: &Until) -> Result<Tensor> {
        let (generator, device) = (&self.networks.generator, self.params.device());
        let shape = [1, 1, 1, generator.latent()];
        let zeros = || device.zeros(generator.latent());
        let (mut z, mut first, mut second) = (Tensor::from_buffer(zeros()?, &shape)?, zeros()?, zeros()?);
        let options = AdamOptions { lr: self.config.test_lr as f32, ..AdamOptions::default() };
        let target = Target::new(image, judge, Loss::L1, self.config.feature_weight as f32)?;
        for taken in (0..self.config.test_steps as u32).take_while(|taken| until.goes_on(*taken)) {
            let seen = z.leaf();
            let difference = target.difference(&generator.decode(&self.params, &seen, false)?)?;
            let Some(grad) = backward(&difference)?.take(&seen) else { break };
            drop((seen, difference));
            let mut next = z.into_buffer()?;
            adam(&mut next, &grad, &mut first, &mut second, &options, taken + 1)?;
            z = Tensor::from_buffer(next, &shape)?;
        }
        Ok(z)
    }
}

impl Detector for AnoGan {
    fn image(&self) -> ImageSpec {
        self.networks.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        Until::interruptible(|until| self.score_until(images, until))
    }

    fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        // An encoder has no steps that a moment could end.
        let steps = if self.inversion == Inversion::Search { until } else { &Until::done() };
        let queued = |images: &Tensor| self.queued(images, steps);
        let values = self.planned.run_until(images, self.params.device(), steps, queued)?;
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

impl Exportable for AnoGan {
    fn export(&self) -> Result<Exported> {
        if self.inversion == Inversion::Search {
            return Err(not_plain(Self::NAME, "it searches the latent vector of each image; f-anogan has an encoder"));
        }
        match &self.networks.generator {
            LatentNetwork::Autoencoder(network) => {
                export::reconstruction(network, &self.params, self.image(), export::COMPARISON)
            }
            LatentNetwork::Inpainting(_) => Err(not_plain(FAnoGan::NAME, NOT_I3AD)),
        }
    }
}
