//! SSIM-AE: an autoencoder trained with SSIM, the baseline of PAEDID's tables (Bergmann et al.
//! 2018, "Improving unsupervised defect segmentation by applying structural similarity to
//! autoencoders", table 1).
//!
//! Encoder: 4x4 s2 32, 4x4 s2 32, 3x3 32, 4x4 s2 64, 3x3 64, 4x4 s2 128, 3x3 64, 3x3 32, then an 8x8
//! convolution without padding to the latent vector; one more 4x4 s2 32 in front for each doubling
//! of the image beyond 128. Decoder mirrored, LeakyReLU 0.2; the output is a sigmoid, which the
//! paper leaves open. The anomaly map is 1 - SSIM, averaged over channels.

use std::collections::BTreeMap;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::ops::{ConvParams, conv_transpose2d, conv2d, ssim_loss};
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Error, Result, random};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::conv::ConvOptions;
use hotad_kernels::ssim::{SsimOptions, ssim_mask};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Settings, require};
use crate::detector::{Detector, FitContext, Schedule, Score, Training};
use crate::paedid::Channels;
use crate::segmentation::scores;

const LEAKY: Activation = Activation::LeakyRelu(0.2);

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Config {
    /// 128, 256 or 512.
    pub image_size: usize,
    /// `auto`, 1 or 3.
    pub channels: Channels,
    /// Elements of the latent vector.
    pub latent: usize,
    /// Most epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate.
    pub lr: f64,
    /// Epochs without improvement before stopping.
    pub patience: usize,
    /// Blur of the anomaly map before its maximum is taken, in pixels.
    pub score_blur: f64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            image_size: 128,
            channels: Channels::Word("auto".into()),
            latent: 100,
            epochs: 200,
            batch: 16,
            lr: 2e-4,
            patience: 20,
            score_blur: 1.0,
        }
    }
}

impl Settings for Config {
    const DOCS: &'static [(&'static str, &'static str)] = &[
        ("image_size", "rows and columns the images are brought to: 128, 256 or 512"),
        ("channels", "\"auto\" (1 when all images are gray, else 3), 1 or 3"),
        ("latent", "elements of the latent vector (paper: 100)"),
        ("epochs", "most epochs"),
        ("batch", "images of one step"),
        ("lr", "learning rate (Adam; paper: 2e-4)"),
        ("patience", "epochs without a lower validation loss before stopping; 0 never stops early"),
        ("score_blur", "blur in pixels before the largest value of the anomaly map is taken as score; 0 for none"),
    ];

    fn check(&self) -> Result<()> {
        require(matches!(self.image_size, 128 | 256 | 512), "image_size", self.image_size, "128, 256 or 512")?;
        self.channels.resolve(true)?;
        require((1..=4096).contains(&self.latent), "latent", self.latent, "1 to 4096")?;
        require(self.epochs >= 1, "epochs", self.epochs, "1 or more")?;
        require((1..=1024).contains(&self.batch), "batch", self.batch, "1 to 1024")?;
        require(self.lr > 0.0 && self.lr < 1.0, "lr", self.lr, "above 0, below 1")?;
        require((0.0..=20.0).contains(&self.score_blur), "score_blur", self.score_blur, "0 to 20")
    }
}

/// One layer of the encoder; the decoder has its transpose.
#[derive(Clone, Copy)]
struct Layer {
    kernel: usize,
    from: usize,
    to: usize,
    opts: ConvOptions,
}

fn layers(config: &Config, channels: usize) -> Vec<Layer> {
    let halve = ConvOptions { stride: 2, padding: 1, ..ConvOptions::default() };
    let doublings = (config.image_size / 128).ilog2() as usize;
    let mut shape = vec![(4, 32, halve); doublings];
    shape.extend([(4, 32, halve), (4, 32, halve), (3, 32, ConvOptions::same(3)), (4, 64, halve)]);
    shape.extend([(3, 64, ConvOptions::same(3)), (4, 128, halve), (3, 64, ConvOptions::same(3))]);
    shape.extend([(3, 32, ConvOptions::same(3)), (8, config.latent, ConvOptions::default())]);
    let mut from = channels;
    shape
        .into_iter()
        .map(|(kernel, to, opts)| Layer { kernel, from: std::mem::replace(&mut from, to), to, opts })
        .collect()
}

fn init(layers: &[Layer], seed: u64) -> Params {
    let mut rng = random::stream(seed, "ssim autoencoder", 0);
    let mut params = Params::default();
    for (i, l) in layers.iter().enumerate() {
        let (k, shape) = (l.kernel, [l.to, l.kernel, l.kernel, l.from]);
        params.he_uniform(&format!("encoder.{i}.weight"), &shape, k * k * l.from, &mut rng);
        params.zeros(&format!("encoder.{i}.bias"), &[l.to]);
        let reached = (k * k * l.to / (l.opts.stride * l.opts.stride)).max(1);
        let fan_in = if l.opts.padding == 0 { l.to } else { reached };
        params.he_uniform(&format!("decoder.{i}.weight"), &shape, fan_in, &mut rng);
        params.zeros(&format!("decoder.{i}.bias"), &[l.from]);
    }
    params
}

fn reconstruct(layers: &[Layer], params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
    let layer = |name: String, activation| -> Result<ConvParams> {
        Ok(ConvParams {
            weight: params.get(&format!("{name}.weight"), tracked)?,
            bias: Some(params.get(&format!("{name}.bias"), tracked)?),
            activation,
        })
    };
    let mut x = images.clone();
    for (i, l) in layers.iter().enumerate() {
        let activation = if i + 1 == layers.len() { Activation::Identity } else { LEAKY };
        x = conv2d(&x, &layer(format!("encoder.{i}"), activation)?, l.opts)?;
    }
    for (i, l) in layers.iter().enumerate().rev() {
        let activation = if i == 0 { Activation::Sigmoid } else { LEAKY };
        x = conv_transpose2d(&x, &layer(format!("decoder.{i}"), activation)?, l.opts)?;
    }
    Ok(x)
}

/// A trained SSIM-AE.
pub struct SsimAe {
    config: Config,
    image: ImageSpec,
    params: Params,
}

/// Trains SSIM-AE.
///
/// # Errors
/// Bad settings or images, divergence, interruption.
pub fn fit(config: Config, context: &FitContext) -> Result<SsimAe> {
    let channels = config.channels.resolve(context.gray)?;
    let image = ImageSpec { height: config.image_size, width: config.image_size, channels };
    let layers = layers(&config, channels);
    let mut learner = Training {
        params: init(&layers, context.seed).to(context.device)?,
        adam: AdamOptions { lr: config.lr as f32, ..AdamOptions::default() },
        loss: |params: &_, images: &_, tracked| {
            ssim_loss(&reconstruct(&layers, params, images, tracked)?, images, &SsimOptions::default())
        },
    };
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: config.patience };
    let settings = serde_json::to_value(&config).expect("settings are plain data");
    context.run(&mut learner, image, &schedule, "ssim-ae", &settings)?;
    Ok(SsimAe { params: learner.params, config, image })
}

impl SsimAe {
    /// Reads a model.
    pub(crate) fn load(file: &ModelFile, device: &Device) -> Result<Self> {
        let config: Config = serde_json::from_value(file.config["settings"].clone())
            .map_err(|e| Error::Config(format!("damaged settings in the model file ({e})")))?;
        let mut params = init(&layers(&config, file.image.channels), 0).to(device)?;
        params.set_values(&container::restore(&file.tensors, "network.")?)?;
        Ok(Self { config, image: file.image, params })
    }
}

impl Detector for SsimAe {
    fn method(&self) -> &'static str {
        "ssim-ae"
    }

    fn image(&self) -> ImageSpec {
        self.image
    }

    fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        let device = self.params.device();
        let images = images.to(device)?;
        let y = reconstruct(&layers(&self.config, self.image.channels), &self.params, &images, false)?;
        let shape = images.nhwc()?;
        let pixels = shape[0] * shape[1] * shape[2];
        let (mut maps, mut mask, mut changed) = (device.alloc(pixels)?, device.zeros(pixels)?, device.alloc(shape[0])?);
        let opts = SsimOptions::default();
        ssim_mask(images.view(), y.view(), shape, &opts, 1.0, &mut maps, &mut mask, &mut changed)?;
        scores(maps.into_vec()?, self.image, self.config.score_blur as f32)
    }

    fn config(&self) -> Value {
        serde_json::json!({ "settings": self.config })
    }

    fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        container::store(&self.params.values()?, "network.")
    }
}
