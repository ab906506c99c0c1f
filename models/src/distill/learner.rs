//! The student and how it learns.

use hotad_engine::data::loader::Batch;
use hotad_engine::ops::Mode;
use hotad_engine::params::{Params, State};
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Keep, Learner};
use hotad_engine::{Error, Result, random};
use hotad_kernels::adam::AdamOptions;

use super::hints::{Hint, Hints, total};
use super::maps::Places;
use super::teacher::Teacher;
use super::{Config, Job};
use crate::networks::layer::Weights;
use crate::networks::standardised;
use crate::networks::trunk::Trunk;

/// Share of the past in the average of the weights, after the first steps.
const DECAY: f32 = 0.995;

/// A student beside its teacher.
pub struct Student {
    trunk: Trunk,
    teacher: Teacher,
    hints: Hints,
    params: Params,
    config: Config,
    pass: Pass,
    losses: Losses,
}

/// One pass over the images.
#[derive(Clone, Copy)]
pub struct Pass {
    /// How many.
    pub steps: usize,
    /// Images of each.
    pub batch: usize,
}

/// Losses of the hints since they were last asked for.
struct Losses {
    /// Of each hint.
    sums: Vec<f64>,
    steps: usize,
}

impl Losses {
    fn none(hints: usize) -> Self {
        Self { sums: vec![0.0; hints], steps: 0 }
    }
}

impl Student {
    /// With the given weights or random ones.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(
        config: &Config,
        (trunk, teacher): (Trunk, Teacher),
        hints: Hints,
        start: Option<State>,
        pass: Pass,
        job: &Job,
    ) -> Result<Self> {
        let places = &teacher.places;
        let (mut params, mut rng) = (Params::default(), random::stream(job.seed, "student", 0));
        trunk.layers(places.blocks()).iter().for_each(|layer| layer.init(&mut params, "", &mut rng));
        let values = match start {
            Some(values) => values,
            None => scaled(params.values()?, &trunk, &hints.0, places)?,
        };
        params.set_values(&values)?;
        let losses = Losses::none(hints.0.len());
        let params = params.to(job.device)?;
        Ok(Self { trunk, teacher, hints, params, config: config.clone(), pass, losses })
    }
}

/// Share of the teacher's deviation that the first maps have, so that the loss begins little above 1.
const FIRST: f32 = 0.5;

/// Fresh weights whose normalisation before each hint has the teacher's mean and a part of its deviation; no mean where the
/// block's input is added, which has one.
fn scaled(mut values: State, trunk: &Trunk, hints: &[Hint], places: &Places) -> Result<State> {
    for ((layer, residual), hint) in places.layers(trunk).into_iter().zip(hints) {
        let Some(norm) = &layer.norm else { continue };
        let shape = [hint.mean.len()];
        let deviation = hint.variance.iter().map(|v| FIRST * v.sqrt()).collect();
        values.insert(format!("{}.weight", norm.name), Tensor::new(deviation, &shape)?);
        if !residual {
            values.insert(format!("{}.bias", norm.name), Tensor::new(hint.mean.clone(), &shape)?);
        }
    }
    Ok(values)
}

impl Learner for Student {
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32> {
        let images = batch.images.to(self.params.device())?;
        let wanted = self.teacher.maps(&images)?;
        let apart = self.config.is_apart(number);
        let mode = if apart { Mode::Train } else { Mode::Fixed };
        let weights = Weights::Learned(&self.params, "", mode);
        let given = apart.then_some(&wanted[..]);
        let maps = self.teacher.places.maps(&self.trunk, &weights, &standardised(&images)?, given)?;
        let losses = self.hints.losses(&maps, &wanted)?;
        let adam = AdamOptions { lr: self.config.lr_at(number), ..AdamOptions::default() };
        let mut grads = backward(&total(&losses)?)?;
        self.params.adam(&mut grads, &adam)?;
        let mut sum = 0.0;
        for (seen, loss) in self.losses.sums.iter_mut().zip(&losses) {
            let loss = loss.item()?;
            *seen += f64::from(loss);
            sum += loss;
        }
        self.losses.steps += 1;
        Ok(sum / losses.len() as f32)
    }

    fn loss(&self, _: &Batch) -> Result<f32> {
        Err(Error::Config("a distillation has no validation images".into()))
    }

    fn keep(&self) -> Keep {
        Keep::Average(DECAY)
    }

    /// The loss of the last hint.
    fn details(&mut self) -> Vec<(&'static str, f64)> {
        let Losses { sums, steps } = std::mem::replace(&mut self.losses, Losses::none(self.hints.0.len()));
        let last = sums.last().copied().unwrap_or(f64::NAN);
        vec![("last_hint_loss", last / steps.max(1) as f64)]
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    /// A shuffle in whole batches, and in the last pass only as many as steps are left.
    fn order(&self, n: usize, seed: u64, epoch: u64) -> Vec<usize> {
        let Pass { steps, batch } = self.pass;
        let left = self.config.steps.saturating_sub(epoch * steps as u64).min(steps as u64) as usize;
        let mut order = random::shuffled(n, seed, "epoch order", epoch);
        order.truncate(left * batch);
        order
    }
}
