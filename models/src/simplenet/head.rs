//! Adapter and discriminator, and how they learn.

use hotad_engine::data::loader::Batch;
use hotad_engine::ops::{Mode, add, add_noise, hinge_loss, join_rows, reshape, rows};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_engine::{Activation, Error, Result, random};
use hotad_kernels::adam::AdamOptions;
use rand::Rng;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::{Choice, Doc, require};
use crate::detector::{FitContext, Schedule};
use crate::features::pca::Covariance;
use crate::features::{Embedding, Source};
use crate::networks::layer::{Layer, Weights};

/// Deviation of the noise for ImageNet's features (SimpleNet, section 4.3).
const IMAGENET_NOISE: f32 = 0.015;

/// Deviation of the noise for other features, as a share of theirs.
const NOISE_SHARE: f32 = 0.25;

/// Margin of the truncated L1 loss, on either side.
const MARGIN: f32 = 0.5;

/// Prefix of the discriminator's parameters.
const DISCRIMINATOR: &str = "discriminator.";

/// Prefix of the adapter's parameters.
const ADAPTER: &str = "adapter";

/// Settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HeadSettings {
    /// Epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Learning rate of the discriminator.
    pub lr: f64,
    /// Learning rate of the adapter.
    pub adapter_lr: f64,
    /// Deviation of the noise.
    pub noise: Choice,
    /// Elements of the discriminator's hidden layer.
    pub hidden: usize,
    /// Blur of the anomaly map.
    pub blur: f64,
}

impl Default for HeadSettings {
    fn default() -> Self {
        Self {
            epochs: 40,
            batch: 8,
            lr: 2e-4,
            adapter_lr: 1e-4,
            noise: Choice::Word("auto".into()),
            hidden: 1024,
            blur: 4.0,
        }
    }
}

impl HeadSettings {
    /// What the keys mean.
    pub const DOCS: [Doc; 7] = [
        ("epochs", "epochs of adapter and discriminator, all of them"),
        ("batch", "images of one step"),
        ("lr", "learning rate of the discriminator (Adam, weight decay 1e-5; paper: 2e-4)"),
        ("adapter_lr", "learning rate of the adapter (AdamW; paper: 1e-4)"),
        (
            "noise",
            "deviation of the noise that stands for anomalies, or \"auto\": 0.015 for a ResNet (the paper's), else a quarter of the features' own",
        ),
        ("hidden", "elements of the discriminator's hidden layer (paper: 1024)"),
        ("blur", "deviation of the blur of the anomaly map, in pixels; 0 for none"),
    ];

    /// Fails for values out of range.
    ///
    /// # Errors
    /// Names the setting.
    pub fn check(&self) -> Result<()> {
        require((1..=10_000).contains(&self.epochs), "epochs", self.epochs, "1 to 10000")?;
        require((1..=1024).contains(&self.batch), "batch", self.batch, "1 to 1024")?;
        require(self.lr > 0.0 && self.lr < 1.0, "lr", self.lr, "above 0, below 1")?;
        require(self.adapter_lr > 0.0 && self.adapter_lr < 1.0, "adapter_lr", self.adapter_lr, "above 0, below 1")?;
        self.noise.check("noise", "a number above 0, or \"auto\"", |v| v > 0.0 && v.is_finite())?;
        require((8..=8192).contains(&self.hidden), "hidden", self.hidden, "8 to 8192")?;
        require((0.0..=20.0).contains(&self.blur), "blur", self.blur, "0 to 20")
    }
}

/// The layers, for vectors of `d` elements.
pub struct Head {
    /// `d` to `d`.
    pub adapter: Layer,
    /// `d` to the hidden layer, with normalisation and LeakyReLU.
    pub hidden: Layer,
    /// To one verdict.
    pub verdict: Layer,
}

impl Head {
    /// With a hidden layer of `hidden` elements.
    pub fn new(d: usize, hidden: usize) -> Self {
        let name = |layer: &str| format!("{DISCRIMINATOR}{layer}");
        Self {
            adapter: Layer::linear(ADAPTER, d, d),
            hidden: Layer::linear(name("hidden"), d, hidden).norm(name("norm"), 1e-5).then(Activation::LeakyRelu(0.2)),
            verdict: Layer::linear(name("verdict"), hidden, 1),
        }
    }

    fn init(&self, seed: u64) -> Params {
        let (mut params, mut rng) = (Params::default(), random::stream(seed, "simplenet", 0));
        [&self.adapter, &self.hidden, &self.verdict].iter().for_each(|l| l.init(&mut params, "", &mut rng));
        params
    }

    /// Verdicts `[n]` on vectors `[1, 1, n, d]` after the adapter; normal ones are above 0.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn verdicts(&self, weights: &Weights, adapted: &Tensor) -> Result<Tensor> {
        let hidden = weights.run(&self.hidden, adapted, None, None)?;
        let verdicts = weights.run(&self.verdict, &hidden, None, None)?;
        reshape(&verdicts, &[verdicts.len()])
    }
}

struct HeadLearner<'a> {
    head: Head,
    params: Params,
    embedding: &'a Embedding,
    noise: f32,
    seed: u64,
    discriminator: AdamOptions,
    adapter: AdamOptions,
}

impl Learner for HeadLearner<'_> {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let d = self.embedding.dimensions();
        let vectors = self.embedding.embed(&batch.images)?;
        let n = vectors.len() / d;
        let weights = Weights::Learned(&self.params, "", Mode::Train);
        let adapted = weights.run(&self.head.adapter, &vectors.reshaped(&[1, 1, n, d])?, None, None)?;
        let seed = random::stream(self.seed, "feature noise", number).random();
        let both =
            join_rows(&reshape(&adapted, &[n, d])?, &reshape(&add_noise(&adapted, self.noise, seed)?, &[n, d])?)?;
        let verdicts = self.head.verdicts(&weights, &reshape(&both, &[1, 1, 2 * n, d])?)?;
        let normal = hinge_loss(&rows(&verdicts, 0, n)?, MARGIN, 1.0, 1.0)?;
        let loss = add(&normal, &hinge_loss(&rows(&verdicts, n, n)?, MARGIN, -1.0, 1.0)?)?;
        let mut grads = backward(&loss)?;
        self.params.adam_of(DISCRIMINATOR, &mut grads, &self.discriminator)?;
        self.params.adam_of(ADAPTER, &mut grads, &self.adapter)?;
        loss.item()
    }

    fn loss(&self, _: &Batch) -> Result<f32> {
        Err(Error::Config("noise that is drawn anew has no validation loss".into()))
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    fn watched(&self) -> bool {
        false
    }
}

/// Deviation of the noise: as the settings say, or by the features' own scale.
fn noise(settings: &HeadSettings, embedding: &Embedding, context: &FitContext) -> Result<f32> {
    if let Some(noise) = settings.noise.fixed() {
        return Ok(noise as f32);
    }
    let imagenet = matches!(embedding.parts(), [one] if matches!(one.source, Source::Backbone(_)));
    if imagenet && embedding.linear().is_none() {
        return Ok(IMAGENET_NOISE);
    }
    // A few images tell the scale.
    let some = &context.train[..context.train.len().min(32)];
    let mut covariance = Covariance::new(embedding.device());
    embedding.for_each(some, |x| covariance.add(&x))?;
    let variances = covariance.variances();
    let noise = NOISE_SHARE * (variances.iter().sum::<f64>() / variances.len() as f64).sqrt() as f32;
    (context.say)(&format!("noise of deviation {noise:.3e}"));
    Ok(noise)
}

/// Trains adapter and discriminator over features.
///
/// # Errors
/// Broken images, divergence, interruption.
pub fn train(
    settings: &HeadSettings,
    embedding: &Embedding,
    (method, all): (&str, &Value),
    context: &FitContext,
) -> Result<Params> {
    let head = Head::new(embedding.dimensions(), settings.hidden);
    let mut learner = HeadLearner {
        params: head.init(context.seed).to(context.device)?,
        head,
        embedding,
        noise: noise(settings, embedding, context)?,
        seed: context.seed,
        discriminator: AdamOptions { lr: settings.lr as f32, weight_decay: 1e-5, ..AdamOptions::default() },
        adapter: AdamOptions {
            lr: settings.adapter_lr as f32,
            weight_decay: 1e-2,
            decoupled: true,
            ..AdamOptions::default()
        },
    };
    let schedule = Schedule { epochs: settings.epochs, batch: settings.batch, patience: 0 };
    context.run(&mut learner, embedding.image(), &schedule, method, all)?;
    Ok(learner.params)
}
