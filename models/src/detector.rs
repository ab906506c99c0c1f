//! What every method implements, and what it gets to learn from.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_engine::beside::beside;
use hotad_engine::container::Stored;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::Batch;
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::device::Device;
use hotad_engine::observer::Observer;
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Keep, Learner, TrainData, TrainOptions, TrainReport, train};
use hotad_engine::until::Until;
use hotad_engine::{AtPath, Error, Result};
use serde_json::{Map, Value};

use crate::export::{Exported, not_plain};
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

    /// [`Detector::score`] with what is reached at a moment, for a method that goes on in steps; others take no notice of it.
    ///
    /// # Errors
    /// As [`Detector::score`].
    fn score_until(&self, images: &Tensor, _until: &Until) -> Result<Vec<Score>> {
        self.score(images)
    }

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

    /// Its network as a graph of ONNX, when it has a plain one.
    ///
    /// # Errors
    /// When it has none: says why.
    fn export(&self) -> Result<Exported> {
        let why = "its scores come from no plain network; those of backbones, patchcore, padim, simplenet, autoencoders, color-unet and lea-net can be";
        Err(not_plain(self.method(), why))
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
    pub train: ImageFiles<'a>,
    /// Defective images to learn from, for a method that is supervised.
    pub defective: ImageFiles<'a>,
    /// Normal images that are only watched and calibrated with.
    pub holdout: ImageFiles<'a>,
    /// The part that each image of `train`, then of `defective`, is of; folds never divide the images of a part.
    pub groups: &'a [usize],
    /// Whether all images are gray.
    pub gray: bool,
    /// Trained models to build on, for an ensemble.
    pub members: &'a [PathBuf],
    /// Where to compute.
    pub device: &'a Device,
    /// Seed of every random choice.
    pub seed: u64,
    /// What decides which images are learned from, by name: their SHA-256, the share that is held out.
    pub chosen: &'a Map<String, Value>,
    /// Beside this file, checkpoint and log are written.
    pub model_path: Option<&'a Path>,
    /// Name of a run within a longer one, whose checkpoint is kept until the whole is done.
    pub stage: Option<&'a str>,
    /// Continue from the checkpoint.
    pub resume: bool,
    /// Is told what is being done, and how far it is.
    pub observer: &'a dyn Observer,
}

/// The stages of a run that have a checkpoint of their own.
pub mod stage {
    /// The colour network of LEA-Net.
    pub const COLOR: &str = "color";
    /// The autoencoder that gives features where there is no backbone.
    pub const BACKBONE: &str = "backbone";
    /// The generative network of f-AnoGAN.
    pub const GENERATOR: &str = "generator";
    /// All of them.
    pub const ALL: [&str; 3] = [COLOR, BACKBONE, GENERATOR];
}

/// The place of a checkpoint, of a whole run or of a stage.
fn checkpoint(model: &Path, stage: Option<&str>) -> PathBuf {
    beside(model, &format!("{}.checkpoint", ending(stage)))
}

fn ending(stage: Option<&str>) -> String {
    stage.map(|s| format!(".{s}")).unwrap_or_default()
}

/// The checkpoints of a training of `model` that are there. They stay until its result is where it belongs.
pub fn checkpoints(model: &Path) -> Vec<PathBuf> {
    let stages = stage::ALL.into_iter().map(Some);
    let all = std::iter::once(None).chain(stages).map(|stage| checkpoint(model, stage));
    all.filter(|path| path.exists()).collect()
}

/// Removes them.
///
/// # Errors
/// I/O errors, with the path.
pub fn remove_checkpoints(model: &Path) -> Result<()> {
    checkpoints(model).iter().try_for_each(|path| std::fs::remove_file(path).at(path))
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

impl FitContext<'_> {
    /// The checkpoint of this stage.
    fn checkpoint(&self) -> Option<PathBuf> {
        self.model_path.map(|model| checkpoint(model, self.stage))
    }

    /// Whether this stage has a checkpoint to continue from.
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint().is_some_and(|path| path.is_file())
    }

    /// What a checkpoint of this run has to be of.
    fn fingerprint(&self, method: &str, settings: &Value) -> Map<String, Value> {
        let mut fingerprint = self.chosen.clone();
        fingerprint.insert("method".into(), method.into());
        fingerprint.insert("--seed".into(), self.seed.into());
        let settings = settings.as_object().into_iter().flatten();
        fingerprint.extend(settings.map(|(key, value)| (format!("setting {key}"), value.clone())));
        fingerprint
    }

    /// Trains a network on the context's images. `settings` are those that training depends on
    /// ([`Settings::learning`](crate::config::Settings::learning)).
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
        let options = TrainOptions {
            epochs: schedule.epochs,
            batch: schedule.batch,
            patience: schedule.patience,
            seed: self.seed,
            checkpoint_every: CHECKPOINT_EVERY,
            checkpoint: self.checkpoint(),
            resume: self.resume,
            log: self.model_path.map(|model| beside(model, &format!("{}.log.jsonl", ending(self.stage)))),
            fingerprint: self.fingerprint(method, settings),
            observer: self.observer,
        };
        let report = train(learner, data, &options)?;
        let watched = if data.validation.is_empty() { "training" } else { "validation" };
        let kept = match learner.keep() {
            Keep::Best => format!("epoch {} with {watched} loss {:.6}", report.best_epoch, report.best_loss),
            Keep::Last => format!("the last weights, training loss {:.6}", report.best_loss),
            Keep::Average(_) => format!("the average of the weights, last training loss {:.6}", report.best_loss),
        };
        self.observer.say(&format!("trained {} epochs ({} steps); kept {kept}", report.epochs, report.steps));
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
