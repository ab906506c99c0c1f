//! Adversarial steps for networks that make whole images (the GAN baselines of I3AD, tables 4 and 5, with its
//! spectrally normalised discriminator and hinge losses).

use hotad_engine::data::loader::Batch;
use hotad_engine::ops::{add, hinge_loss, mean};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Keep, Learner};
use hotad_engine::{Error, Result};
use hotad_kernels::adam::AdamOptions;

use crate::config::{RATE, Settings, settings};
use crate::networks::discriminator::Discriminator;

settings! {
    /// Settings of the discriminator.
    pub struct Adversary {
        /// channels after the discriminator's first convolution
        discriminator_width: usize = 32, in 4..=256, for Shapes;
        /// learning rate of the discriminator (Adam, betas 0.5 and 0.999)
        discriminator_lr: f64 = 4e-4, in RATE;
    }
}

impl Settings for Adversary {}

/// Adam as GANs have it.
pub fn adam(lr: f64) -> AdamOptions {
    AdamOptions { lr: lr as f32, beta1: 0.5, beta2: 0.999, ..AdamOptions::default() }
}

/// What a generator made of a batch, and what it has to answer for besides being found out.
pub struct Made {
    pub images: Tensor,
    pub loss: Option<Tensor>,
}

/// A generator and a discriminator that take steps in turn.
pub struct GanLearner<'a, F> {
    pub params: Params,
    pub discriminator: &'a Discriminator,
    pub lr: f64,
    pub adversary: Adversary,
    /// Weight of the adversarial loss.
    pub weight: f32,
    /// Makes images from a batch in step `number`, on the tape when told so.
    pub make: F,
    /// Whether what is made answers to the images, so that a validation loss exists.
    pub reconstructs: bool,
}

impl<F: Fn(&Params, &Tensor, u64, bool) -> Result<Made> + Send + Sync> Learner for GanLearner<'_, F> {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let images = batch.images.to(self.params.device())?;
        let made = (self.make)(&self.params, &images, number, true)?;
        let judge = self.discriminator.weights(&self.params, 1, true)?;
        let on_real = hinge_loss(&judge.verdicts(&images)?, 1.0, 1.0, 1.0)?;
        let judged = add(&on_real, &hinge_loss(&judge.verdicts(&made.images.detached())?, 1.0, -1.0, 1.0)?)?;
        self.params.adam(&mut backward(&judged)?, &adam(self.adversary.discriminator_lr))?;
        let judge = self.discriminator.weights(&self.params, 0, false)?;
        let mut total = mean(&judge.verdicts(&made.images)?, -self.weight)?;
        if let Some(loss) = &made.loss {
            total = add(&total, loss)?;
        }
        self.params.adam(&mut backward(&total)?, &adam(self.lr))?;
        let (judged, total) = (judged.item()?, total.item()?);
        // A discriminator that diverges must stop the run as well.
        Ok(if judged.is_finite() { total } else { judged })
    }

    fn loss(&self, batch: &Batch) -> Result<f32> {
        let made = (self.make)(&self.params, &batch.images.to(self.params.device())?, 0, false)?;
        let loss = made.loss.ok_or_else(|| Error::Config("a generator alone has no validation loss".into()))?;
        loss.item()
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    fn keep(&self) -> Keep {
        if self.reconstructs { Keep::Best } else { Keep::Last }
    }
}
