//! Adversarial training (I3AD, section 2.2): discriminator and generator take a step in turn.
//!
//! `L_D = mean of max(0, 1 - D(x)) + mean of max(0, 1 + D(G(x, M)))`; `L_G = -a mean of D(G(x, M)) + l(coarse) + l(fine)`, l the
//! spatially discounted L1. Both use one forward pass of the generator, whose result is pasted into what is known.

use hotad_engine::data::loader::Batch;
use hotad_engine::ops::{Mode, add, concat_channels, hinge_loss, mean, paste, weighted_l1};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::Learner;
use hotad_engine::{Error, Result};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::discounted_l1::discount_weights;

use super::config::Config;
use super::masks;
use super::picture::seen;
use crate::networks::discriminator::Discriminator;
use crate::networks::inpainting::{Generator, Inpainting};

/// Masks of a step and the weights of its L1 loss.
struct Masks {
    masks: Tensor,
    weights: Tensor,
}

/// Losses of an epoch so far.
#[derive(Default)]
struct Sums {
    steps: f64,
    discriminator: f64,
    adversarial: f64,
    l1: f64,
}

/// Both networks while they learn.
pub struct AdversarialLearner {
    pub params: Params,
    generator: Generator,
    discriminator: Discriminator,
    config: Config,
    side: usize,
    seed: u64,
    /// Made while the device was busy with the step before: its number and size.
    ahead: Option<((u64, usize), Masks)>,
    sums: Sums,
}

impl AdversarialLearner {
    /// With fresh parameters, for images of `side` pixels.
    pub fn new(config: &Config, side: usize, seed: u64, device: &hotad_engine::device::Device) -> Result<Self> {
        let (generator, discriminator) =
            (Generator::new(config.width), Discriminator::new(4, config.discriminator_width));
        let mut params = Params::default();
        generator.init(&mut params, seed);
        discriminator.init(&mut params, seed);
        Ok(Self {
            params: params.to(device)?,
            generator,
            discriminator,
            config: config.clone(),
            side,
            seed,
            ahead: None,
            sums: Sums::default(),
        })
    }

    fn masks(&self, n: usize, purpose: &str, number: u64) -> Result<Masks> {
        let masks = masks::of_step(n, self.side, self.seed, purpose, number);
        let (gamma, known) = (self.config.discount as f32, self.config.known_weight as f32);
        let weights = discount_weights(&masks, (self.side, self.side), gamma, known)?;
        let shape = [n, self.side, self.side, 1];
        let put = |values| Tensor::new(values, &shape)?.to(self.params.device());
        Ok(Masks { masks: put(masks)?, weights: put(weights)? })
    }

    fn adam(lr: f64) -> AdamOptions {
        AdamOptions { lr: lr as f32, beta1: 0.5, beta2: 0.999, ..AdamOptions::default() }
    }
}

impl Learner for AdversarialLearner {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let n = batch.indices.len();
        let images = seen(&batch.images, self.side)?.to(self.params.device())?;
        let Masks { masks, weights } = match self.ahead.take() {
            Some((of, masks)) if of == (number, n) => masks,
            _ => self.masks(n, "free-form masks", number)?,
        };
        let made = self.generator.run(&Inpainting::Learned(&self.params, Mode::Train), &images, &masks)?;
        let fake = concat_channels(&paste(&made.fine, &images, &masks)?, &masks)?;
        let real = concat_channels(&images, &masks)?;

        let judge = self.discriminator.weights(&self.params, 1, true)?;
        let on_real = hinge_loss(&judge.verdicts(&real)?, 1.0, 1.0, 1.0)?;
        let judged = add(&on_real, &hinge_loss(&judge.verdicts(&fake.detached())?, 1.0, -1.0, 1.0)?)?;
        self.params.adam(&mut backward(&judged)?, &Self::adam(self.config.discriminator_lr))?;

        let judge = self.discriminator.weights(&self.params, 0, false)?;
        let fooled = mean(&judge.verdicts(&fake)?, -self.config.adversarial as f32)?;
        let l1 = add(&weighted_l1(&made.coarse, &images, &weights)?, &weighted_l1(&made.fine, &images, &weights)?)?;
        let total = add(&fooled, &l1)?;
        self.params.adam(&mut backward(&total)?, &Self::adam(self.config.lr))?;

        self.ahead = Some(((number + 1, n), self.masks(n, "free-form masks", number + 1)?));
        let (judged, fooled, l1) = (judged.item()?, fooled.item()?, l1.item()?);
        self.sums.steps += 1.0;
        self.sums.discriminator += f64::from(judged);
        self.sums.adversarial += f64::from(fooled);
        self.sums.l1 += f64::from(l1);
        // A discriminator that diverges must stop the run as well.
        Ok(if judged.is_finite() { fooled + l1 } else { judged })
    }

    /// The L1 losses alone, under masks that are the same every time.
    fn loss(&self, batch: &Batch) -> Result<f32> {
        let images = seen(&batch.images, self.side)?.to(self.params.device())?;
        let first = batch.indices.first().copied().ok_or_else(|| Error::Config("a batch has no images".into()))?;
        let Masks { masks, weights } = self.masks(batch.indices.len(), "validation masks", first as u64)?;
        let made = self.generator.run(&Inpainting::Learned(&self.params, Mode::Eval), &images, &masks)?;
        let coarse = weighted_l1(&made.coarse, &images, &weights)?;
        add(&coarse, &weighted_l1(&made.fine, &images, &weights)?)?.item()
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    fn details(&mut self) -> Vec<(&'static str, f64)> {
        let Sums { steps, discriminator, adversarial, l1 } = std::mem::take(&mut self.sums);
        let mean = |sum: f64| sum / steps.max(1.0);
        vec![
            ("discriminator_loss", mean(discriminator)),
            ("adversarial_loss", mean(adversarial)),
            ("l1_loss", mean(l1)),
        ]
    }
}
