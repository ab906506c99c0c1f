//! What every method implements, and what it gets to learn from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_engine::container::Stored;
use hotad_engine::data::loader::Batch;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Learner, TrainData, TrainOptions, TrainReport, train};
use hotad_engine::{AtPath, Error, Result};
use serde_json::Value;

use crate::features::Extractor;

/// The verdict on one image.
#[derive(Clone, Debug, PartialEq)]
pub struct Score {
    /// Larger is more anomalous.
    pub value: f32,
    /// Anomaly map, `height x width` of the model's [`ImageSpec`], row by row.
    pub map: Vec<f32>,
}

impl Score {
    /// Whether every number is one.
    pub fn is_finite(&self) -> bool {
        self.value.is_finite() && self.map.iter().all(|v| v.is_finite())
    }
}

/// A trained method.
pub trait Detector: Send + Sync {
    /// Its name on the command line.
    fn method(&self) -> &'static str;

    /// What images it takes.
    fn image(&self) -> ImageSpec;

    /// Scores a batch `[n, height, width, channels]` with values in 0..1, on the device that the
    /// method was trained or loaded on.
    ///
    /// # Errors
    /// When the batch has another shape, or what went wrong on the device.
    fn score(&self, images: &Tensor) -> Result<Vec<Score>>;

    /// Settings and whatever else is not a tensor, for the model file.
    fn config(&self) -> Value;

    /// Weights and banks, for the model file.
    ///
    /// # Errors
    /// When they live on a device that is lost.
    fn tensors(&self) -> Result<BTreeMap<String, Stored>>;

    /// The images as the method thinks a normal one would be coloured, for a method that recolours.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn recoloured(&self, _images: &Tensor) -> Result<Option<Vec<Picture>>> {
        Ok(None)
    }

    /// What happened inside on the way to the scores, image by image, for a method that can tell.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn explain(&self, _images: &Tensor) -> Result<Vec<Vec<Illustration>>> {
        Ok(Vec::new())
    }

    /// What [`Detector::explain`] shows.
    ///
    /// # Errors
    /// When there is nothing; says why.
    fn explanation(&self) -> Result<Explanation> {
        Err(Error::Config(format!("--explain: {} has nothing inside to show", self.method())))
    }

    /// Image scores, image by image, as they would be at other values of a setting; none for most methods.
    ///
    /// # Errors
    /// When the batch has another shape.
    fn sweeps(&self, _images: &Tensor) -> Result<Vec<Vec<Sweep>>> {
        Ok(Vec::new())
    }

    /// Its network as a source of feature maps, when it has one that can be cut.
    fn extractor(&self) -> Option<&dyn Extractor> {
        None
    }

    /// The memory bank, when the method has one that can change after training.
    fn bank(&mut self) -> Option<&mut dyn EditableBank> {
        None
    }
}

/// What a report says about a method's inside.
#[derive(Clone, Copy, Debug)]
pub struct Explanation {
    /// A few words.
    pub heading: &'static str,
    /// What is to be seen.
    pub text: &'static str,
}

/// Scores of one image along a setting.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// The setting.
    pub chart: &'static str,
    /// Which score.
    pub name: &'static str,
    /// Values of the setting.
    pub x: Vec<f32>,
    /// Score at each.
    pub scores: Vec<f32>,
}

/// A picture of something inside a method.
#[derive(Clone, Debug)]
pub struct Illustration {
    /// The row of the table it belongs to.
    pub row: String,
    /// The column.
    pub column: String,
    /// Values in 0..1.
    pub picture: Picture,
}

/// A memory bank that can be extended and pruned after training, without retraining.
pub trait EditableBank {
    /// Names of its entries, one per image.
    fn entries(&self) -> &[String];

    /// Adds the images of a batch under the given names.
    ///
    /// # Errors
    /// When the batch has another shape than the model takes.
    fn add(&mut self, images: &Tensor, names: &[String]) -> Result<()>;

    /// Removes entries by name; returns how many. The last entry cannot be removed.
    ///
    /// # Errors
    /// When nothing would be left.
    fn remove(&mut self, names: &[String]) -> Result<usize>;
}

/// What a method learns from, and how its training run behaves.
#[derive(Clone, Copy)]
pub struct FitContext<'a> {
    /// Normal images to learn from.
    pub train: &'a [PathBuf],
    /// Defective images to learn from, for a method that is supervised.
    pub defective: &'a [PathBuf],
    /// Normal images that are only watched and calibrated with.
    pub holdout: &'a [PathBuf],
    /// Whether all images are gray.
    pub gray: bool,
    /// Trained models to build on, for an ensemble.
    pub members: &'a [PathBuf],
    /// Where to compute.
    pub device: &'a Device,
    /// Seed of every random choice.
    pub seed: u64,
    /// SHA-256 of the training list.
    pub list_sha256: &'a str,
    /// Beside this file, checkpoint and log are written.
    pub model_path: Option<&'a Path>,
    /// Name of a run within a longer one, whose checkpoint is kept until the whole is done.
    pub stage: Option<&'a str>,
    /// Continue from the checkpoint.
    pub resume: bool,
    /// Show progress on a terminal.
    pub progress: bool,
    /// Takes a line about what is being done.
    pub say: &'a dyn Fn(&str),
}

/// Settings of a training run that all networks share.
pub struct Schedule {
    /// Most epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Epochs without improvement before stopping; 0 never stops early.
    pub patience: usize,
}

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 200;

/// A file beside the model.
fn beside(model: &Path, ending: &str) -> PathBuf {
    let mut name = model.file_name().unwrap_or_default().to_os_string();
    name.push(ending);
    model.with_file_name(name)
}

impl FitContext<'_> {
    /// A file beside the model, of this stage.
    fn file(&self, ending: &str) -> Option<PathBuf> {
        let stage = self.stage.map(|s| format!(".{s}")).unwrap_or_default();
        self.model_path.map(|p| beside(p, &format!("{stage}{ending}")))
    }

    /// Whether this stage has a checkpoint to continue from.
    pub fn has_checkpoint(&self) -> bool {
        self.file(".checkpoint").is_some_and(|p| p.is_file())
    }

    /// Removes the checkpoint of this stage, when the whole is done.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn forget(&self) -> Result<()> {
        self.file(".checkpoint").filter(|p| p.is_file()).map_or(Ok(()), |p| std::fs::remove_file(&p).at(&p))
    }

    /// Trains a network on the context's images.
    ///
    /// # Errors
    /// What the training loop reports.
    pub fn run(
        &self,
        learner: &mut dyn Learner,
        spec: ImageSpec,
        schedule: &Schedule,
        method: &str,
        settings: &Value,
    ) -> Result<TrainReport> {
        let data = TrainData { train: self.train, validation: self.holdout, spec, crop: None };
        self.run_on(learner, &data, schedule, method, settings)
    }

    /// Trains a network on other images than the context's normal ones.
    ///
    /// # Errors
    /// What the training loop reports.
    pub fn run_on(
        &self,
        learner: &mut dyn Learner,
        data: &TrainData,
        schedule: &Schedule,
        method: &str,
        settings: &Value,
    ) -> Result<TrainReport> {
        let mut settings = settings.clone();
        if let Some(map) = settings.as_object_mut() {
            // A run may be continued for longer.
            map.remove("epochs");
            map.remove("iterations");
        }
        let options = TrainOptions {
            epochs: schedule.epochs,
            batch: schedule.batch,
            patience: schedule.patience,
            seed: self.seed,
            checkpoint_every: CHECKPOINT_EVERY,
            checkpoint: self.file(".checkpoint"),
            keep_checkpoint: self.stage.is_some(),
            resume: self.resume,
            log: self.file(".log.jsonl"),
            progress: self.progress,
            fingerprint: format!("{method} {} {settings} {}", self.seed, self.list_sha256),
        };
        let report = train(learner, data, &options)?;
        let watched = if data.validation.is_empty() { "training" } else { "validation" };
        (self.say)(&format!(
            "trained {} epochs ({} steps); kept epoch {} with {watched} loss {:.6}",
            report.epochs, report.steps, report.best_epoch, report.best_loss
        ));
        Ok(report)
    }
}

/// A learner made of parameters and a loss of them.
pub struct Training<F> {
    /// What is learned.
    pub params: Params,
    /// Optimiser.
    pub adam: hotad_kernels::adam::AdamOptions,
    /// The loss of a batch under the parameters, recorded on the tape when the flag is set.
    pub loss: F,
}

impl<F: Fn(&Params, &Tensor, bool) -> Result<Tensor> + Send + Sync> Learner for Training<F> {
    fn step(&mut self, batch: &Batch, _: u64) -> Result<f32> {
        let loss = (self.loss)(&self.params, &batch.images.to(self.params.device())?, true)?;
        let mut grads = hotad_engine::tape::backward(&loss)?;
        self.params.adam(&mut grads, &self.adam)?;
        loss.item()
    }

    fn loss(&self, batch: &Batch) -> Result<f32> {
        (self.loss)(&self.params, &batch.images.to(self.params.device())?, false)?.item()
    }

    fn params(&mut self) -> &mut Params {
        &mut self.params
    }
}
