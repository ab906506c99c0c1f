//! How the colour network learns: squared error of a\*b\*, colours varied by Fancy PCA.

use hotad_engine::data::loader::Batch;
use hotad_engine::ops::{Mode, loss};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_engine::{Result, random};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::loss::Loss;
use hotad_kernels::recolour::split_colour;
use rand::Rng;

use super::{ColorUnet, Config};
use crate::config::Settings;
use crate::fancy_pca::FancyPca;
use crate::fit::{BatchNorms, FitContext, Schedule};
use crate::method::Method;
use crate::networks::unet::{Dropout, UNet};

struct ColourLearner {
    unet: UNet,
    params: Params,
    adam: AdamOptions,
    augmentation: Option<FancyPca>,
    dropout: f32,
    norms: BatchNorms,
    seed: u64,
}

impl ColourLearner {
    fn loss_of(&self, images: &Tensor, mode: Mode, drop: Option<Dropout>) -> Result<Tensor> {
        let (lightness, colour) = split(&images.to(self.params.device())?)?;
        loss(Loss::Mse, &self.unet.learn(&self.params, &lightness, mode, drop)?, &colour)
    }

    /// Images with their colours shifted.
    fn augmented(&self, images: &Tensor, number: u64) -> Result<Tensor> {
        let Some(pca) = &self.augmentation else { return Ok(images.clone()) };
        let mut rng = random::stream(self.seed, "fancy pca", number);
        let mut values = images.values()?.into_owned();
        let image = images.len() / images.shape()[0].max(1);
        values.chunks_exact_mut(image).for_each(|image| pca.apply(image, &mut rng));
        Tensor::new(values, images.shape())
    }
}

impl Learner for ColourLearner {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let seed = random::stream(self.seed, "colour dropout", number).random();
        let drop = Dropout { probability: self.dropout, seed };
        let loss = self.loss_of(&self.augmented(&batch.images, number)?, Mode::Train, Some(drop))?;
        self.params.adam(&mut backward(&loss)?, &self.adam)?;
        loss.item()
    }

    fn loss(&self, batch: &Batch) -> Result<f32> {
        self.loss_of(&batch.images, Mode::Eval, None)?.item()
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    fn order(&self, n: usize, seed: u64, epoch: u64) -> Vec<usize> {
        self.norms.order(random::shuffled(n, seed, "epoch order", epoch))
    }
}

/// Trains on the context's normal images; returns the parameters. With a prefix training may start from the tensors under it.
///
/// # Errors
/// Broken images, batches of one image, divergence, interruption.
pub fn learn(config: &Config, context: &FitContext, prefix: Option<&str>) -> Result<Params> {
    let (unet, image) = (config.network(), config.image());
    let norms = BatchNorms { batch: config.batch, pixels: unet.smallest_map(config.image_size) };
    norms.check(context.train.len(), context.observer)?;
    let augmentation = match config.fancy_pca > 0.0 {
        true => Some(FancyPca::of(context.train, image, config.fancy_pca as f32, context.seed)?),
        false => None,
    };
    let mut params = unet.init(context.seed);
    prefix.map_or(Ok(()), |prefix| context.warm_start(&mut params, prefix))?;
    let mut learner = ColourLearner {
        params: params.to(context.device)?,
        unet,
        adam: AdamOptions { lr: config.lr as f32, ..AdamOptions::default() },
        augmentation,
        dropout: config.dropout as f32,
        norms,
        seed: context.seed,
    };
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: config.patience };
    context.run(&mut learner, image, &schedule, ColorUnet::NAME, &config.learning())?;
    Ok(learner.params)
}

/// Lightness `[n, h, w, 1]` and colour `[n, h, w, 2]` of RGB images.
pub fn split(images: &Tensor) -> Result<(Tensor, Tensor)> {
    let [n, h, w, _] = images.nhwc()?;
    let device = images.device();
    let (mut lightness, mut colour) = (device.alloc(n * h * w)?, device.alloc(2 * n * h * w)?);
    split_colour::<f32>(images.view(), &mut lightness, &mut colour)?;
    Ok((Tensor::from_buffer(lightness, &[n, h, w, 1])?, Tensor::from_buffer(colour, &[n, h, w, 2])?))
}
