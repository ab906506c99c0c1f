//! Adapter and discriminator, and how they learn.

use std::path::PathBuf;

use hotad_engine::container::sha256_of;
use hotad_engine::data::loader::Batch;
use hotad_engine::data::prepare::list_sha256;
use hotad_engine::ops::{Mode, add, add_noise, channel_scale, hinge_loss, join_rows, reshape, rows};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Keep, Learner};
use hotad_engine::{Activation, Error, Result, random};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::gather::gather;
use rand::Rng;
use serde_json::Value;

use crate::config::{BATCH, BLUR, RATE, Settings, settings};
use crate::features::Embedding;
use crate::features::pca::Covariance;
use crate::fit::{FitContext, Schedule};
use crate::networks::layer::{Layer, Weights};

/// Margin of the truncated L1 loss, on either side.
const MARGIN: f32 = 0.5;

/// Prefix of the discriminator's parameters.
const DISCRIMINATOR: &str = "head.";

/// Prefix of all of them in a model file, as they were learned.
pub const LEARNED: &str = "network.";

/// Prefix of the adapter's parameters.
const ADAPTER: &str = "adapter";

settings! {
    /// Settings.
    pub struct HeadSettings {
        /// epochs of the discriminator, all of them
        epochs: usize = 40, in 1..=10_000, for Length;
        /// images of one step
        batch: usize = 8, in BATCH;
        /// patches of each image of a step, drawn anew; 0 for all (paper)
        patches: usize = 128, in 0..=1_000_000;
        /// learning rate of the discriminator (Adam, weight decay 1e-5; paper: 2e-4)
        lr: f64 = 8e-3, in RATE;
        /// whether learning rates fall to 0 along a cosine (paper: no)
        decay: bool = true;
        /// elements of the discriminator's hidden layer (paper: 1024)
        hidden: usize = 1024, in 8..=8192, for Shapes;
        /// deviation of the blur of the anomaly map, in pixels; 0 for none
        blur: f64 = 4.0, in BLUR, for Scoring;
    }
}

impl Settings for HeadSettings {}

/// The layers, for vectors of `d` elements.
pub struct Head {
    /// `d` to `d`, where there is one.
    pub adapter: Option<Layer>,
    /// `d` to the hidden layer, with normalisation and LeakyReLU.
    pub hidden: Layer,
    /// To one verdict.
    pub verdict: Layer,
}

impl Head {
    /// With a hidden layer of `hidden` elements.
    pub fn new(d: usize, hidden: usize, adapter: bool) -> Self {
        let name = |layer: &str| format!("{DISCRIMINATOR}{layer}");
        Self {
            adapter: adapter.then(|| Layer::linear(ADAPTER, d, d)),
            hidden: Layer::linear(name("hidden"), d, hidden).norm(name("norm"), 1e-5).then(Activation::LeakyRelu(0.2)),
            verdict: Layer::linear(name("verdict"), hidden, 1),
        }
    }

    /// Its layers in order.
    pub fn layers(&self) -> impl Iterator<Item = &Layer> {
        self.adapter.iter().chain([&self.hidden, &self.verdict])
    }

    fn init(&self, seed: u64) -> Params {
        let (mut params, mut rng) = (Params::default(), random::stream(seed, "simplenet", 0));
        self.layers().for_each(|l| l.init(&mut params, "", &mut rng));
        params
    }

    /// Vectors `[1, 1, n, d]` as the discriminator takes them.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn adapted(&self, weights: &Weights, vectors: &Tensor) -> Result<Tensor> {
        match &self.adapter {
            Some(adapter) => weights.run(adapter, vectors, None, None),
            None => Ok(vectors.clone()),
        }
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

/// What differs between the methods that train a head.
pub struct Plan {
    /// Learning rate of the adapter, where there is one.
    pub adapter: Option<f64>,
    /// The noise that stands for anomalies.
    pub noise: Noise,
}

/// Least and largest deviation of noise; one is drawn for each patch of a step, evenly by its logarithm.
#[derive(Clone, Copy, Debug)]
pub enum Noise {
    /// At the scale of the features.
    Fixed(f32, f32),
    /// Shares of the deviation of what the discriminator takes, as it is before training.
    Share(f32, f32),
}

struct HeadLearner<'a> {
    head: Head,
    params: Params,
    embedding: &'a Embedding,
    noise: (f32, f32),
    /// Patches of each image of a step; 0 for all.
    patches: usize,
    /// Over which the learning rates fall to 0, where they do.
    decay: Option<u64>,
    seed: u64,
    discriminator: AdamOptions,
    adapter: AdamOptions,
}

impl HeadLearner<'_> {
    /// Vectors `[1, 1, n, d]` of patches of images: of each as many as are wanted, drawn by the number of the step, any of
    /// them more than once.
    fn vectors(&self, images: &Tensor, number: u64) -> Result<Tensor> {
        let (vectors, d) = (self.embedding.embed(images)?, self.embedding.dimensions());
        let (count, all) = (vectors.shape()[0], vectors.len() / d);
        let each = all / count.max(1);
        if self.patches == 0 || self.patches >= each {
            return vectors.reshaped(&[1, 1, all, d]);
        }
        let mut rng = random::stream(self.seed, "patches of a step", number);
        let drawn = (0..count * self.patches).map(|i| i / self.patches * each + rng.random_range(0..each));
        let drawn: Vec<usize> = drawn.collect();
        Tensor::from_buffer(gather(vectors.view(), d, &drawn)?, &[1, 1, drawn.len(), d])
    }

    /// Vectors `[n, d]` with noise, by the number of the step.
    fn noisy(&self, vectors: &Tensor, number: u64) -> Result<Tensor> {
        let mut rng = random::stream(self.seed, "feature noise", number);
        let (least, most) = self.noise;
        if least == most {
            return add_noise(vectors, least, rng.random());
        }
        let (n, device) = (vectors.shape()[0], self.embedding.device());
        let zeros = Tensor::new(vec![0.0; vectors.len()], &[n, 1, vectors.len() / n.max(1), 1])?.to(device)?;
        let noise = add_noise(&zeros, 1.0, rng.random())?;
        let deviations = (0..n).map(|_| least * (most / least).powf(rng.random())).collect();
        let noise = channel_scale(&noise, &Tensor::new(deviations, &[n, 1])?.to(device)?)?;
        add(vectors, &reshape(&noise, vectors.shape())?)
    }

    /// Options of an optimiser at a step.
    fn at(&self, options: &AdamOptions, number: u64) -> AdamOptions {
        let share = self.decay.map_or(0.0, |steps| (number as f64 / steps.max(1) as f64).min(1.0));
        let factor = 0.5 * (1.0 + (std::f64::consts::PI * share).cos());
        AdamOptions { lr: (f64::from(options.lr) * factor) as f32, ..*options }
    }
}

impl Learner for HeadLearner<'_> {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let vectors = self.vectors(&batch.images, number)?;
        let [_, _, n, d] = vectors.nhwc()?;
        let weights = Weights::Learned(&self.params, "", Mode::Train);
        let adapted = reshape(&self.head.adapted(&weights, &vectors)?, &[n, d])?;
        let both = join_rows(&adapted, &self.noisy(&adapted, number)?)?;
        let verdicts = self.head.verdicts(&weights, &reshape(&both, &[1, 1, 2 * n, d])?)?;
        let normal = hinge_loss(&rows(&verdicts, 0, n)?, MARGIN, 1.0, 1.0)?;
        let loss = add(&normal, &hinge_loss(&rows(&verdicts, n, n)?, MARGIN, -1.0, 1.0)?)?;
        let mut grads = backward(&loss)?;
        self.params.adam_of(DISCRIMINATOR, &mut grads, &self.at(&self.discriminator, number))?;
        if self.head.adapter.is_some() {
            self.params.adam_of(ADAPTER, &mut grads, &self.at(&self.adapter, number))?;
        }
        loss.item()
    }

    fn loss(&self, _: &Batch) -> Result<f32> {
        Err(Error::Config("noise that is drawn anew has no validation loss".into()))
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    fn keep(&self) -> Keep {
        Keep::Last
    }
}

/// Images that tell the features' deviation.
const SCALE_IMAGES: usize = 32;

/// The root of the mean variance of the elements that the discriminator takes, told by up to 32 images drawn by the seed: of an
/// embedding's, or where there is an adapter, of what it makes of them before it has learned.
///
/// # Errors
/// Broken images, interruption.
fn deviation(head: &Head, params: &Params, embedding: &Embedding, context: &FitContext) -> Result<f32> {
    let order = random::shuffled(context.train.len(), context.seed, "images of the noise's scale", 0);
    let some: Vec<PathBuf> = order.into_iter().take(SCALE_IMAGES).map(|i| context.train[i].clone()).collect();
    let weights = Weights::Learned(params, "", Mode::Eval);
    let mut covariance = Covariance::new(embedding.device());
    embedding.for_each(context.train.with(&some), |x| {
        let d = embedding.dimensions();
        let vectors = x.reshaped(&[1, 1, x.len() / d, d])?;
        covariance.add(&head.adapted(&weights, &vectors)?.reshaped(&[x.len() / d, d])?)
    })?;
    let variances = covariance.variances();
    Ok((variances.iter().sum::<f64>() / variances.len().max(1) as f64).sqrt() as f32)
}

/// Trains a head over features; returns it and its parameters.
///
/// # Errors
/// Broken images, divergence, interruption.
pub fn train(
    settings: &HeadSettings,
    plan: &Plan,
    embedding: &Embedding,
    (method, all): (&str, &Value),
    context: &FitContext,
) -> Result<(Head, Params)> {
    let head = Head::new(embedding.dimensions(), settings.hidden, plan.adapter.is_some());
    let mut params = head.init(context.seed);
    if let Some(start) = context.init {
        start.check_features(embedding)?;
        if plan.adapter.is_none() {
            start.check_without(
                &format!("{LEARNED}{ADAPTER}."),
                "an adapter, which is trained on where adapter_lr is above 0",
            )?;
        }
    }
    context.warm_start(&mut params, LEARNED)?;
    let params = params.to(context.device)?;
    let noise = match plan.noise {
        Noise::Fixed(least, most) => (least, most),
        Noise::Share(least, most) => {
            let own = deviation(&head, &params, embedding, context)?;
            context.observer.say(&format!("noise of deviation {:.3e} to {:.3e}", least * own, most * own));
            (least * own, most * own)
        }
    };
    let mut learner = HeadLearner {
        params,
        head,
        embedding,
        noise,
        patches: settings.patches,
        decay: settings.decay.then_some((settings.epochs * context.train.len().div_ceil(settings.batch)) as u64),
        seed: context.seed,
        discriminator: AdamOptions { lr: settings.lr as f32, weight_decay: 1e-5, ..AdamOptions::default() },
        adapter: AdamOptions {
            lr: plan.adapter.unwrap_or(0.0) as f32,
            weight_decay: 1e-2,
            decoupled: true,
            ..AdamOptions::default()
        },
    };
    let schedule = Schedule { epochs: settings.epochs, batch: settings.batch, patience: 0 };
    // An interruption may have come before this stage had a checkpoint.
    let resume = context.resume && context.has_checkpoint();
    let context = FitContext { resume, ..*context };
    let mut all = all.clone();
    // Tensors and what a model file says beside them, such as the settings of a model that gives features.
    all["features"] = list_sha256([&sha256_of(&embedding.tensors()?), &embedding.saved().to_string()]).into();
    context.run(&mut learner, embedding.image(), &schedule, method, &all)?;
    Ok((learner.head, learner.params))
}
