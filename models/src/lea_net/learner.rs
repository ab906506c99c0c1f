//! Learning both networks of LEA-Net together (equation 1).

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::Batch;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::ops::{Mode, add, loss};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Learner, TrainData};
use hotad_engine::{Error, Result, random, weights};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::loss::Loss;
use serde_json::Value;

use super::LeaNet;
use super::config::Config;
use super::labelled::Labelled;
use super::networks::{ATTENTION, DETECTION, Networks};
use crate::config::Settings;
use crate::fit::{BatchNorms, FitContext, Schedule};
use crate::method::Method;
use crate::networks::layer::Weights;

struct LeaLearner<'a> {
    networks: &'a Networks,
    params: Params,
    data: &'a Labelled,
    spec: ImageSpec,
    adam: AdamOptions,
    class_aware: bool,
    norms: BatchNorms,
}

impl Learner for LeaLearner<'_> {
    fn step(&mut self, batch: &Batch, _: u64) -> Result<f32> {
        let device = self.params.device();
        let labels = batch.files.iter().map(|file| self.data.labels[file.index]).collect();
        let target = Tensor::new(labels, &[batch.files.len(), 1])?.to(device)?;
        let maps = self.data.maps_of(batch, self.spec, device)?;
        let detection = Weights::Learned(&self.params, DETECTION, Mode::Train);
        let attention = Weights::Learned(&self.params, ATTENTION, Mode::Train);
        let images = batch.images.to(device)?;
        let (logits, other) = self.networks.run(&detection, Some(&attention), &images, &maps, true)?;
        let mut total = loss(Loss::BceWithLogits, &logits, &target)?;
        if let Some(other) = other {
            total = add(&total, &loss(Loss::BceWithLogits, &other, &target)?)?;
        }
        self.params.adam(&mut backward(&total)?, &self.adam)?;
        total.item()
    }

    fn loss(&self, _: &Batch) -> Result<f32> {
        Err(Error::Config("lea-net watches no validation images".into()))
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }

    /// With class-aware batches, defective and normal images in turn, the rarer ones again and again.
    fn order(&self, n: usize, seed: u64, epoch: u64) -> Vec<usize> {
        let order = random::shuffled(n, seed, "epoch order", epoch);
        if !self.class_aware {
            return self.norms.order(order);
        }
        let (bad, good): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|i| self.data.labels[*i] > 0.5);
        let classes = [bad, good].map(|c| c.into_iter().cycle());
        let [mut bad, mut good] = classes;
        self.norms.order((0..n).filter_map(|i| if i % 2 == 0 { bad.next() } else { good.next() }).collect())
    }
}

/// The batches that networks normalise by.
pub fn norms(networks: &Networks, config: &Config) -> BatchNorms {
    BatchNorms { batch: config.batch, pixels: networks.smallest_map(config.image_size) }
}

/// Settings as checkpoints tell runs apart by them: of a file with weights, what is in it, wherever it is.
///
/// # Errors
/// When the file cannot be read.
pub fn told_apart(mut settings: Value, config: &Config) -> Result<Value> {
    if !config.weights.is_empty() {
        settings["weights"] = format!("SHA-256 {}", weights::open(config.weights.as_ref())?.sha256).into();
    }
    Ok(settings)
}

/// Trains both networks on labelled images; returns their parameters.
///
/// # Errors
/// What the training loop reports.
pub fn learn(networks: &Networks, config: &Config, data: &Labelled, context: &FitContext) -> Result<Params> {
    let mut params = networks.init(config, context.seed)?;
    context.warm_start(&mut params, "network.")?;
    let mut learner = LeaLearner {
        networks,
        params: params.to(context.device)?,
        data,
        spec: config.image(),
        adam: AdamOptions { lr: config.learning_rate() as f32, ..AdamOptions::default() },
        class_aware: config.class_aware,
        norms: norms(networks, config),
    };
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: 0 };
    let images =
        TrainData { train: data.files(), validation: ImageFiles::whole(&[]), spec: config.image(), crop: None };
    let settings = told_apart(config.learning(), config)?;
    context.run_on(&mut learner, &images, &schedule, LeaNet::NAME, &settings)?;
    Ok(learner.params)
}
