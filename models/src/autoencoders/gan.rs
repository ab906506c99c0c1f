//! Adversarial steps for networks that make whole images (the GAN baselines of I3AD, tables 4 and 5, with its
//! spectrally normalised discriminator and hinge losses).

use hotad_engine::data::loader::Batch;
use hotad_engine::ops::{add, hinge_loss, mean};
use hotad_engine::params::Params;
use hotad_engine::planned::Outputs;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Keep, Learner};
use hotad_engine::{Error, Result};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::device::{Buffer, HostBuffer};
use hotad_kernels::pool::global_avg_pool2d;
use toml::{Table, Value};

use super::generator::GeneratorKind;
use crate::config::{Channels, RATE, Settings, WEIGHT, settings};
use crate::detector::Scores;
use crate::networks::discriminator::{Discriminator, Normalised};
use crate::residual::Residual;
use crate::segmentation::Aggregation;

settings! {
    /// Settings of generator and discriminator.
    pub struct Adversary {
        /// network that makes images: "autoencoder", that of l2-ae, or "i3ad", I3AD's generator (paper, appendix D), which takes 3
        /// channels
        generator: GeneratorKind = GeneratorKind::Autoencoder, for Shapes;
        /// channels of I3AD's generator, features and gates together (paper: 48)
        generator_width: usize = 48, allowed "a multiple of 4 from 8 to 256" if |v| (8..=256).contains(v) && v.is_multiple_of(4), for Shapes;
        /// channels after the discriminator's first convolution
        discriminator_width: usize = 32, in 4..=256, for Shapes;
        /// learning rate of the discriminator (Adam, betas 0.5 and 0.999)
        discriminator_lr: f64 = 4e-4, in RATE;
        /// weight of the discriminator in the image score: its mean squared difference of features before the verdicts, between image
        /// and reconstruction, is added to the score of the map (1 for the paper's L2 + LD, with score = "mean")
        feature_score: f64 = 0.0, in WEIGHT, for Scoring;
    }
}

impl Settings for Adversary {
    /// I3AD's generator paints in colour.
    fn under(table: &Table) -> Result<Table> {
        let colour = table.get("generator").and_then(Value::as_str) == Some("i3ad");
        Ok(colour.then(|| ("channels".into(), Value::Integer(3))).into_iter().collect())
    }
}

impl Adversary {
    /// Fails for channels that the generator does not take.
    ///
    /// # Errors
    /// Says which it takes.
    pub fn check_channels(&self, channels: &Channels) -> Result<()> {
        if self.generator == GeneratorKind::I3ad && *channels != Channels::Count(3) {
            return Err(Error::Config("setting channels: generator = \"i3ad\" takes 3".into()));
        }
        Ok(())
    }

    /// Whether the discriminator has a part in the image score.
    pub fn judges(&self) -> bool {
        self.feature_score > 0.0
    }

    /// What [`Adversary::scores`] takes scores from, on the device: that of the maps, and behind it what the discriminator finds
    /// between images and what was made of them.
    ///
    /// # Errors
    /// When shapes differ.
    pub fn prepared(
        &self,
        aggregation: &Aggregation,
        maps: Buffer,
        judge: Option<&Normalised>,
        (images, made): (&Tensor, &Tensor),
    ) -> Result<Outputs> {
        let mut prepared = aggregation.prepared(maps)?;
        if let Some(judge) = judge.filter(|_| self.judges()) {
            prepared.push(feature_distances(judge, images, made)?);
        }
        Ok(prepared)
    }

    /// Scores from the values of what [`Adversary::prepared`] has made.
    pub fn scores(&self, aggregation: &Aggregation, prepared: &[HostBuffer<f32>]) -> Scores {
        let Some((distances, maps)) = prepared.split_last().filter(|_| self.judges()) else {
            return aggregation.scores(prepared);
        };
        let mut scores = aggregation.scores(maps);
        for (score, distance) in scores.iter_mut().zip(distances) {
            score.value += self.feature_score as f32 * distance;
        }
        scores
    }
}

/// The maps before the discriminator's verdicts.
///
/// # Errors
/// When the images have other channels.
pub fn features(judge: &Normalised, x: &Tensor) -> Result<Tensor> {
    let mut maps = judge.features(x)?;
    Ok(maps.swap_remove(maps.len() - 2))
}

/// Mean squared differences of these maps, one for each image, where the images are.
fn feature_distances(judge: &Normalised, images: &Tensor, made: &Tensor) -> Result<Buffer> {
    let (a, b) = (features(judge, images)?, features(judge, made)?);
    let [n, h, w, _] = a.nhwc()?;
    let squares = Residual::L2.maps(&a, &b)?;
    let mut distances = a.device().alloc(n)?;
    global_avg_pool2d(&squares, [n, h, w, 1], &mut distances)?;
    Ok(distances)
}

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

#[cfg(test)]
mod tests {
    use super::*;

    /// The maps before the last convolution, compared image by image.
    #[test]
    fn features_are_compared_image_by_image() {
        let (discriminator, mut params) = (Discriminator::new(1, 4), Params::default());
        discriminator.init(&mut params, 1);
        let judge = discriminator.weights(&params, 1, false).expect("normalised");
        let batch =
            |f: fn(usize) -> f32| Tensor::new((0..2 * 64 * 64).map(f).collect(), &[2, 64, 64, 1]).expect("fits");
        let (a, b) = (batch(|i| (i % 7) as f32 / 7.0), batch(|i| if i < 64 * 64 { (i % 7) as f32 / 7.0 } else { 0.5 }));
        let distances = feature_distances(&judge, &a, &b).and_then(|d| Ok(d.into_vec()?)).expect("compared");
        assert!(distances[0] == 0.0 && distances[1] > 0.0, "{distances:?}");
        let maps =
            [&a, &b].map(|x| judge.features(x).expect("maps").swap_remove(4).values().expect("host").into_owned());
        let half = maps[0].len() / 2;
        let want: f32 = (half..2 * half).map(|i| (maps[0][i] - maps[1][i]).powi(2)).sum::<f32>() / half as f32;
        assert!((distances[1] - want).abs() < 1e-5 * want, "{distances:?} {want}");
    }
}
