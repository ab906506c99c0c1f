//! Adversarial training (I3AD, section 2.2): discriminator and generator take a step in turn.
//!
//! `L_D = mean of max(0, 1 - D(x)) + mean of max(0, 1 + D(G(x, M)))`; `L_G = -a mean of D(G(x, M)) + l(coarse) + l(fine)`, l the
//! spatially discounted L1 over the sum of its weights. Both use one forward pass of the generator, whose result is pasted
//! into what is known. Before the discriminator takes part ([`Phases`]) the generator learns by L1 alone.

use hotad_engine::data::loader::Batch;
use hotad_engine::device::Device;
use hotad_engine::ops::{Mode, add, concat_channels, hinge_loss, mean, paste, weighted_l1};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Keep, Learner};
use hotad_engine::{Error, Result, random};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::discounted_l1::discount_weights;

use super::augment::{Augment, seen, turned};
use super::config::{Config, Kept};
use super::masks;
use super::phases::Phases;
use super::picture::signed;
use crate::networks::discriminator::Discriminator;
use crate::networks::inpainting::{Generator, Inpainted, Inpainting};

/// Masks of a step and the weights of its L1 loss.
struct StepMasks {
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

/// Masks of a step that is to come.
struct Ahead {
    /// Its number.
    step: u64,
    /// Its images.
    images: usize,
    masks: StepMasks,
}

/// Both networks while they learn.
pub struct AdversarialLearner {
    pub params: Params,
    generator: Generator,
    discriminator: Discriminator,
    config: Config,
    phases: Phases,
    side: usize,
    seed: u64,
    /// Made while the device was busy with the step before.
    ahead: Option<Ahead>,
    sums: Sums,
}

impl AdversarialLearner {
    /// With fresh parameters, for a training of `steps` steps.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(config: &Config, steps: u64, seed: u64, device: &Device) -> Result<Self> {
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
            phases: Phases::new(config, steps),
            side: config.side(),
            seed,
            ahead: None,
            sums: Sums::default(),
        })
    }

    fn masks(&self, n: usize, purpose: &str, number: u64) -> Result<StepMasks> {
        let masks = masks::of_step(self.config.masks, n, self.side, self.seed, (purpose, number))?;
        let (gamma, known) = (self.config.discount as f32, self.config.known_weight as f32);
        let mut weights = discount_weights(&masks, (self.side, self.side), gamma, known)?;
        // The loss divides by the number of pixels, and is to divide by the sum of weights.
        let sum: f64 = weights.iter().map(|w| f64::from(*w)).sum();
        let factor = (weights.len() as f64 / sum) as f32;
        weights.iter_mut().for_each(|w| *w *= factor);
        let shape = [n, self.side, self.side, 1];
        let put = |values| Tensor::new(values, &shape)?.to(self.params.device());
        Ok(StepMasks { masks: put(masks)?, weights: put(weights)? })
    }

    /// The images of a step as the generator sees them.
    fn images(&self, batch: &Batch, number: u64) -> Result<Tensor> {
        let mut images = seen(&self.config, &batch.images, &mut random::stream(self.seed, "tiles", number))?;
        if self.config.augment == Augment::Turn {
            images = turned(&images, &mut random::stream(self.seed, "turned images", number))?;
        }
        signed(&images.to(self.params.device())?)
    }

    fn adam(&self, lr: f64, number: u64) -> AdamOptions {
        let lr = (lr * self.phases.rate(number)) as f32;
        AdamOptions { lr, beta1: 0.5, beta2: 0.999, ..AdamOptions::default() }
    }

    /// `l(coarse) + l(fine)`.
    fn l1(&self, made: &Inpainted, images: &Tensor, weights: &Tensor) -> Result<Tensor> {
        add(&weighted_l1(&made.coarse, images, weights)?, &weighted_l1(&made.fine, images, weights)?)
    }

    /// The discriminator's step; its loss, and what the generator has to lower to mislead it.
    fn judged(&mut self, made: &Inpainted, images: &Tensor, masks: &Tensor, number: u64) -> Result<(Tensor, Tensor)> {
        let fake = concat_channels(&paste(&made.fine, images, masks)?, masks)?;
        let real = concat_channels(images, masks)?;
        let judge = self.discriminator.weights(&self.params, 1, true)?;
        let on_real = hinge_loss(&judge.verdicts(&real)?, 1.0, 1.0, 1.0)?;
        let judged = add(&on_real, &hinge_loss(&judge.verdicts(&fake.detached())?, 1.0, -1.0, 1.0)?)?;
        let adam = self.adam(self.config.discriminator_lr, number);
        self.params.adam(&mut backward(&judged)?, &adam)?;
        let judge = self.discriminator.weights(&self.params, 0, false)?;
        let misled = mean(&judge.verdicts(&fake)?, -self.config.adversarial as f32)?;
        Ok((judged, misled))
    }
}

impl Learner for AdversarialLearner {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let n = batch.files.len();
        let images = self.images(batch, number)?;
        let StepMasks { masks, weights } = match self.ahead.take() {
            Some(ahead) if (ahead.step, ahead.images) == (number, n) => ahead.masks,
            _ => self.masks(n, "training masks", number)?,
        };
        let made = self.generator.run(&Inpainting::Learned(&self.params, Mode::Train), &images, &masks)?;
        let verdict = match self.phases.is_adversarial(number) {
            true => Some(self.judged(&made, &images, &masks, number)?),
            false => None,
        };
        let l1 = self.l1(&made, &images, &weights)?;
        let total = match &verdict {
            Some((_, misled)) => add(misled, &l1)?,
            None => l1.clone(),
        };
        let adam = self.adam(self.config.lr, number);
        self.params.adam(&mut backward(&total)?, &adam)?;

        let masks = self.masks(n, "training masks", number + 1)?;
        self.ahead = Some(Ahead { step: number + 1, images: n, masks });
        let (judged, misled) = match verdict {
            Some((judged, misled)) => (judged.item()?, misled.item()?),
            None => (0.0, 0.0),
        };
        let l1 = l1.item()?;
        self.sums.steps += 1.0;
        self.sums.discriminator += f64::from(judged);
        self.sums.adversarial += f64::from(misled);
        self.sums.l1 += f64::from(l1);
        // A discriminator that diverges must stop the run as well.
        Ok(if judged.is_finite() { misled + l1 } else { judged })
    }

    fn loss(&self, _: &Batch) -> Result<f32> {
        Err(Error::Config("an adversarial generator is not judged by a validation loss".into()))
    }

    fn keep(&self) -> Keep {
        match self.config.keep {
            Kept::Average => Keep::Average(self.config.average_decay as f32),
            Kept::Last => Keep::Last,
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What is known is bypassed (appendix F); however little is hidden, its loss has the same scale.
    #[test]
    fn the_loss_is_a_mean_over_what_is_painted() {
        let config = Config { image_size: 64, width: 8, discriminator_width: 4, ..Config::default() };
        let learner = AdversarialLearner::new(&config, 10, 1, &Device::CPU).expect("memory");
        let StepMasks { masks, weights } = learner.masks(2, "test", 0).expect("drawn");
        let (masks, weights) = (masks.values().expect("host"), weights.values().expect("host"));
        assert!(masks.iter().zip(weights.iter()).all(|(m, w)| (*m == 1.0) == (*w > 0.0)));
        let mean = weights.iter().map(|w| f64::from(*w)).sum::<f64>() / weights.len() as f64;
        assert!((mean - 1.0).abs() < 1e-4, "{mean}");
    }
}
