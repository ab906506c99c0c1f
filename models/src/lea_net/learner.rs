//! Learning both networks of LEA-Net together (equation 1).

use std::path::PathBuf;

use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Batch, Images, for_all};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::data::roi::Roi;
use hotad_engine::device::Device;
use hotad_engine::ops::{Mode, add, loss};
use hotad_engine::params::Params;
use hotad_engine::tape::backward;
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::pooled;
use hotad_engine::train::{Learner, TrainData};
use hotad_engine::{Error, Result, interrupt, random};
use hotad_kernels::adam::AdamOptions;
use hotad_kernels::loss::Loss;

use super::LeaNet;
use super::config::Config;
use super::networks::{ATTENTION, DETECTION, Networks};
use crate::color_unet::Recolouring;
use crate::config::Settings;
use crate::fit::{FitContext, Schedule};
use crate::method::Method;
use crate::networks::layer::Weights;

/// Labelled images with their anomaly maps.
pub struct Labelled {
    /// Image files.
    pub paths: Vec<PathBuf>,
    /// The region of them that is looked at.
    roi: Option<Roi>,
    /// 1 for defective, 0 for normal.
    pub labels: Vec<f32>,
    /// Anomaly map of each image.
    pub maps: Vec<Vec<f32>>,
}

impl Labelled {
    /// Makes the anomaly maps of images. Memory: one map for each image.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn new(files: ImageFiles, labels: Vec<f32>, recolouring: &Recolouring, batch: usize) -> Result<Self> {
        let spec = recolouring.image();
        let mut maps = Vec::with_capacity(files.len());
        for_all(&Images::new(files, spec), batch, |loaded| {
            interrupt::check()?;
            let values = pooled(|| recolouring.maps(&loaded.images))?;
            maps.extend(values.values()?.chunks_exact(spec.height * spec.width).map(<[f32]>::to_vec));
            Ok(())
        })?;
        Ok(Self { paths: files.to_vec(), roi: files.roi().cloned(), labels, maps })
    }

    /// The images as they are looked at.
    pub fn files(&self) -> ImageFiles<'_> {
        ImageFiles::new(&self.paths, self.roi.as_ref())
    }

    /// The anomaly maps of the images of a batch, `[n, h, w, 1]`.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn maps_of(&self, batch: &Batch, spec: ImageSpec, device: &Device) -> Result<Tensor> {
        let values = batch.files.iter().flat_map(|file| self.maps[file.index].iter().copied()).collect();
        Tensor::new(values, &[batch.files.len(), spec.height, spec.width, 1])?.to(device)
    }
}

struct LeaLearner<'a> {
    networks: &'a Networks,
    params: Params,
    data: &'a Labelled,
    spec: ImageSpec,
    adam: AdamOptions,
    class_aware: bool,
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
            return order;
        }
        let (bad, good): (Vec<usize>, Vec<usize>) = order.into_iter().partition(|i| self.data.labels[*i] > 0.5);
        let classes = [bad, good].map(|c| c.into_iter().cycle());
        let [mut bad, mut good] = classes;
        (0..n).filter_map(|i| if i % 2 == 0 { bad.next() } else { good.next() }).collect()
    }
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
    };
    let schedule = Schedule { epochs: config.epochs, batch: config.batch, patience: 0 };
    let images =
        TrainData { train: data.files(), validation: ImageFiles::whole(&[]), spec: config.image(), crop: None };
    let settings = config.learning();
    context.run_on(&mut learner, &images, &schedule, LeaNet::NAME, &settings)?;
    Ok(learner.params)
}
