//! What a method gets to learn from, and how its training runs.

mod batch_norms;
mod checkpoints;
mod training;
mod warm_start;

use std::path::{Path, PathBuf};

use hotad_engine::beside::beside;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::observer::Observer;
use hotad_engine::train::{Keep, Learner, TrainData, TrainOptions, TrainReport, argument, train};
use hotad_engine::{AtPath, Result};
use serde_json::{Map, Value};

use crate::method::{LoadContext, Methods};

pub use batch_norms::BatchNorms;
use checkpoints::{checkpoint, ending};
pub use checkpoints::{checkpoints, remove_checkpoints, stage};
pub use training::Training;
pub use warm_start::WarmStart;

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
    /// The trained model whose weights training starts from.
    pub init: Option<&'a WarmStart>,
    /// Where to compute.
    pub device: &'a Device,
    /// What the members may be.
    pub methods: Methods,
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
    /// What members are read with.
    pub fn reading(&self) -> LoadContext<'_> {
        LoadContext { device: self.device, methods: self.methods }
    }

    /// The same for a stage, or for what follows all stages: it continues where it has a checkpoint, as an interruption may have
    /// come before it began.
    #[must_use]
    pub fn of_stage(&self, stage: Option<&'static str>) -> Self {
        let own = Self { stage, ..*self };
        Self { resume: self.resume && own.has_checkpoint(), ..own }
    }

    /// The checkpoint of this stage.
    pub(crate) fn checkpoint(&self) -> Option<PathBuf> {
        self.model_path.map(|model| checkpoint(model, self.stage))
    }

    /// Whether this stage has a checkpoint to continue from.
    pub fn has_checkpoint(&self) -> bool {
        self.checkpoint().is_some_and(|path| path.is_file())
    }

    /// Removes the checkpoints of stages whose result is kept elsewhere.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn remove_stages(&self, stages: impl IntoIterator<Item = &'static str>) -> Result<()> {
        let Some(model) = self.model_path else { return Ok(()) };
        let files = stages.into_iter().map(|stage| checkpoint(model, Some(stage)));
        files.filter(|path| path.exists()).try_for_each(|path| std::fs::remove_file(&path).at(&path))
    }

    /// What a checkpoint of this run has to be of.
    pub(crate) fn fingerprint(&self, method: &str, settings: &Value) -> Map<String, Value> {
        let mut fingerprint = self.chosen.clone();
        fingerprint.insert("method".into(), method.into());
        fingerprint.insert(argument("seed"), self.seed.into());
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
