//! MemAE (Gong et al. 2019, "Memorizing normality to detect anomaly"): an autoencoder whose latent vectors are made
//! of a memory of normal ones.
//!
//! Each latent vector z addresses the slots m_i by `w = softmax(cos(z, m_i))` (equations 3 and 4); weights below a threshold are cut
//! and the rest sum to 1 again (hard shrinkage, equations 6 and 7); the decoder sees `sum over i of w_i m_i` (equation 2). Loss: squared
//! error plus 2e-4 times the mean entropy of the weights (equations 8 and 9). Encoder: four 4x4 convolutions of stride 2 to
//! 32, 64, 128, 128, LeakyReLU 0.2; decoder mirrored. The threshold is 1 over the number of slots, the lower end of
//! the paper's range: cosines give weights of at most e^2 times the mean.

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::{
    ConvParams, add, address, conv_transpose2d, conv2d, loss, mean, normalise_rows, weight_entropy,
};
use hotad_engine::params::Params;
use hotad_engine::planned::Planned;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result, random};
use hotad_kernels::conv::{ConvOptions, Padding};
use hotad_kernels::loss::Loss;
use serde_json::Value;
use toml::Table;

use super::Shared;
use crate::config::{SHARE, Settings, require_sides, settings};
use crate::detector::{Detector, Scores};
use crate::fit::{FitContext, Training};
use crate::method::{LoadContext, Method};
use crate::residual::Residual;

const LEAKY: Activation = Activation::LeakyRelu(0.2);
const HALVE: ConvOptions = ConvOptions { stride: 2, padding: Padding::Each(1), dilation: 1, groups: 1 };
const WIDTHS: [usize; 4] = [32, 64, 128, 128];
const POINT: ConvOptions = ConvOptions { stride: 1, padding: Padding::Each(0), dilation: 1, groups: 1 };

settings! {
    /// Settings.
    pub struct Config {
        /// vectors of the memory (paper: 2000)
        slots: usize = 2000, in 2..=100_000, for Shapes;
        /// threshold of the weights, in parts of 1 / slots (paper: 1 to 3); 0 keeps all
        shrink: f64 = 1.0, in 0.0..=10.0;
        /// weight of the entropy of the weights (paper: 2e-4)
        entropy: f64 = 2e-4, in SHARE;
        ..shared: Shared = Shared { latent: WIDTHS[3], ..Shared::default() };
    }
}

impl Settings for Config {
    fn under(table: &Table) -> Result<Table> {
        Shared::under(table)
    }
}

/// In and out channels of each layer of the encoder.
fn channels(config: &Config, image: ImageSpec) -> [(usize, usize); 4] {
    let to = [WIDTHS[0], WIDTHS[1], WIDTHS[2], config.shared.latent];
    [(image.channels, to[0]), (to[0], to[1]), (to[1], to[2]), (to[2], to[3])]
}

/// Weight and bias of each layer of the encoder.
const ENCODER: [[&str; 2]; 4] = [
    ["encoder.0.weight", "encoder.0.bias"],
    ["encoder.1.weight", "encoder.1.bias"],
    ["encoder.2.weight", "encoder.2.bias"],
    ["encoder.3.weight", "encoder.3.bias"],
];

/// Those of the decoder, which has the transpose of each.
const DECODER: [[&str; 2]; 4] = [
    ["decoder.0.weight", "decoder.0.bias"],
    ["decoder.1.weight", "decoder.1.bias"],
    ["decoder.2.weight", "decoder.2.bias"],
    ["decoder.3.weight", "decoder.3.bias"],
];

/// Adds fresh parameters.
fn init(params: &mut Params, config: &Config, image: ImageSpec, seed: u64) {
    let mut rng = random::stream(seed, "memory autoencoder", 0);
    for ((from, to), (encoder, decoder)) in channels(config, image).into_iter().zip(ENCODER.iter().zip(&DECODER)) {
        params.he_uniform(encoder[0], &[to, 4, 4, from], 16 * from, &mut rng);
        params.zeros(encoder[1], &[to]);
        params.he_uniform(decoder[0], &[to, 4, 4, from], 4 * to, &mut rng);
        params.zeros(decoder[1], &[from]);
    }
    let latent = config.shared.latent;
    params.he_uniform("memory", &[config.slots, 1, 1, latent], latent, &mut rng);
}

/// Reconstructions, and the weights `[n, h, w, slots]` of the memory.
fn run(config: &Config, params: &Params, images: &Tensor, tracked: bool) -> Result<(Tensor, Tensor)> {
    let layer = |[weight, bias]: [&str; 2], activation| -> Result<ConvParams> {
        let bias = Some(params.get(bias, tracked)?);
        Ok(ConvParams { weight: params.get(weight, tracked)?, bias, activation })
    };
    let last = WIDTHS.len() - 1;
    let mut x = images.clone();
    for (i, names) in ENCODER.into_iter().enumerate() {
        let activation = if i == last { Activation::Identity } else { LEAKY };
        x = conv2d(&x, &layer(names, activation)?, HALVE)?;
    }
    let memory = params.get("memory", tracked)?;
    let plain = |weight| ConvParams { weight, bias: None, activation: Activation::Identity };
    let cosines = conv2d(&normalise_rows(&x)?, &plain(normalise_rows(&memory)?), POINT)?;
    let weights = address(&cosines, (config.shrink / config.slots as f64) as f32)?;
    x = conv_transpose2d(&weights, &plain(memory), POINT)?;
    for (i, names) in DECODER.into_iter().enumerate().rev() {
        let activation = if i == 0 { Activation::Sigmoid } else { LEAKY };
        x = conv_transpose2d(&x, &layer(names, activation)?, HALVE)?;
    }
    Ok((x, weights))
}

/// A trained MemAE.
pub struct MemAe {
    config: Config,
    image: ImageSpec,
    params: Params,
    planned: Planned,
}

impl Method for MemAe {
    type Config = Config;
    type Trained = Self;

    const NAME: &'static str = "mem-ae";
    const SUMMARY: &'static str = "autoencoder with a memory of normal latent vectors (baseline)";
    const WARM_START: bool = true;

    fn fit(config: Config, context: &FitContext) -> Result<Self> {
        let image = config.shared.image(context.gray)?;
        let mut params = Params::default();
        init(&mut params, &config, image, context.seed);
        context.warm_start(&mut params, "network.")?;
        let mut learner = Training {
            params: params.to(context.device)?,
            adam: config.shared.adam(),
            loss: |params: &Params, images: &Tensor, tracked| {
                let (made, weights) = run(&config, params, images, tracked)?;
                let entropy = mean(&weight_entropy(&weights)?, config.entropy as f32)?;
                add(&loss(Loss::Mse, &made, images)?, &entropy)
            },
        };
        let settings = config.learning();
        context.run(&mut learner, image, &config.shared.schedule(context.train.len()), Self::NAME, &settings)?;
        Ok(Self { params: learner.params, config, image, planned: Planned::default() })
    }

    fn load(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let config = Config::of_file(&file.config["settings"])?;
        require_sides(file.image, config.shared.image_size)?;
        let state = container::restore(&file.tensors, "network.")?;
        let params = Params::restored(&state, context.device, |p| init(p, &config, file.image, 0))?;
        Ok(Self { config, image: file.image, params, planned: Planned::default() })
    }
}

impl Detector for MemAe {
    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Scores> {
        let shared = &self.config.shared;
        let aggregation = shared.aggregation(self.image);
        let queued = |images: &Tensor| {
            let images = images.to(self.params.device())?;
            let (made, _) = run(&self.config, &self.params, &images, false)?;
            aggregation.prepared(shared.residual.or(Residual::L2).maps(&images, &made)?)
        };
        Ok(aggregation.scores(&self.planned.run(images, self.params.device(), queued)?))
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.params.values()?, "network.")
    }
}
