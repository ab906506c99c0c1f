//! The training loop, written once: epochs in a seeded order, progress, JSON-lines log, early
//! stopping, checkpoints, Ctrl-C, and continuing from them bit-identically.

mod fingerprint;
mod keep;
mod log;
mod rate;

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::container::{self, Contents};
use crate::data::crop::Crop;
use crate::data::files::ImageFiles;
use crate::data::loader::{Batch, Images, for_all, for_each_batch};
use crate::data::picture::ImageSpec;
use crate::error::{Error, Result, shown};
use crate::interrupt;
use crate::observer::{Observer, Task};
use crate::params::{Params, State};
use crate::random;
use crate::threads::pooled;
pub use fingerprint::{Difference, argument};
pub use keep::Keep;
use log::Log;
use rate::Rate;

/// The kind of a checkpoint's file; its `meta` has the `fingerprint` of the run that it was made for.
pub const CHECKPOINT: &str = "checkpoint";

/// Something that learns from batches of images.
pub trait Learner: Send + Sync {
    /// One optimiser step, the `number`-th of the run, counted from 0; the loss before it. Random choices
    /// are drawn from the number, so that a continued run draws the same.
    ///
    /// # Errors
    /// What operations refuse.
    fn step(&mut self, batch: &Batch, number: u64) -> Result<f32>;

    /// The loss of validation images without learning; asked for only where there are such images and the best epoch is
    /// [kept](Learner::keep).
    ///
    /// # Errors
    /// What operations refuse.
    fn loss(&self, batch: &Batch) -> Result<f32>;

    /// Which weights are kept.
    fn keep(&self) -> Keep {
        Keep::Best
    }

    /// Numbers for the log, beside the loss, over the steps since they were last asked for.
    fn details(&mut self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }

    /// What is learned.
    fn params(&mut self) -> &mut Params;

    /// The order of `n` training images in an epoch; a shuffle unless the learner wants another.
    fn order(&self, n: usize, seed: u64, epoch: u64) -> Vec<usize> {
        random::shuffled(n, seed, "epoch order", epoch)
    }
}

/// How to train.
#[derive(Clone)]
pub struct TrainOptions<'a> {
    /// Most epochs.
    pub epochs: usize,
    /// Images of one step.
    pub batch: usize,
    /// Epochs without improvement of the validation loss before stopping; 0 never stops early.
    pub patience: usize,
    /// Seed of the order of images.
    pub seed: u64,
    /// Steps between checkpoints; 0 writes one only when interrupted and at the end.
    pub checkpoint_every: u64,
    /// Checkpoint file. It stays as it is at the end, so that nothing is lost before the result is where it belongs:
    /// resuming from it gives the result at once.
    pub checkpoint: Option<PathBuf>,
    /// Continue from the checkpoint.
    pub resume: bool,
    /// JSON-lines log.
    pub log: Option<PathBuf>,
    /// What a checkpoint must have been made for, by name: settings, seed, images.
    pub fingerprint: serde_json::Map<String, Value>,
    /// Is told the steps that are done, and what is worth knowing.
    pub observer: &'a dyn Observer,
}

/// Images for training and for watching it.
pub struct TrainData<'a> {
    /// Images that are learned from.
    pub train: ImageFiles<'a>,
    /// Images whose loss is watched, for early stopping; without any, that of the training images is.
    pub validation: ImageFiles<'a>,
    /// Size they are brought to.
    pub spec: ImageSpec,
    /// Instead of whole images, random views of the training images.
    pub crop: Option<Crop>,
}

/// How training went.
#[derive(Clone, Debug)]
pub struct TrainReport {
    /// Epochs trained.
    pub epochs: usize,
    /// Steps trained.
    pub steps: u64,
    /// The best epoch, counted from 1; the last where it is not the best that is kept.
    pub best_epoch: usize,
    /// Its validation loss, or its training loss where nothing was watched.
    pub best_loss: f64,
}

/// The progress of a run, as a checkpoint keeps it.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct Position {
    epoch: usize,
    batches: usize,
    step: u64,
    epoch_loss: f64,
    best_loss: Option<f64>,
    best_epoch: usize,
}

struct Run<'a> {
    options: &'a TrainOptions<'a>,
    data: &'a TrainData<'a>,
    train: Images<'a>,
    validation: Images<'a>,
    at: Position,
    /// What has been kept so far.
    kept: State,
    /// Whether there is a checkpoint of this run.
    saved: bool,
    log: Option<Log>,
    task: Task<'a>,
    /// Steps of the whole run.
    steps: u64,
    rate: Rate,
}

/// Trains `learner` and leaves it with the weights that it wants to [keep](Learner::keep).
///
/// # Errors
/// Broken images, a loss that is not finite, a checkpoint that does not fit, or an interruption.
pub fn train(learner: &mut dyn Learner, data: &TrainData, options: &TrainOptions) -> Result<TrainReport> {
    let mut run = Run::new(learner, data, options)?;
    while run.at.epoch < options.epochs && !run.exhausted() {
        run.epoch(learner)?;
    }
    run.save_or_warn(learner.params())?;
    if !run.kept.is_empty() {
        learner.params().set_values(&run.kept)?;
    }
    Ok(TrainReport {
        epochs: run.at.epoch,
        steps: run.at.step,
        best_epoch: run.at.best_epoch,
        best_loss: run.at.best_loss.unwrap_or(f64::NAN),
    })
}

impl<'a> Run<'a> {
    fn new(learner: &mut dyn Learner, data: &'a TrainData, options: &'a TrainOptions) -> Result<Self> {
        let (mut at, mut kept) = (Position::default(), State::new());
        if options.resume {
            (at, kept) = load_checkpoint(learner.params(), options)?;
        }
        if kept.is_empty() && matches!(learner.keep(), Keep::Average(_)) {
            kept = learner.params().values()?;
        }
        let done = options.resume.then_some(at.epoch);
        let log = options.log.as_deref().map(|path| Log::open(path, done)).transpose()?;
        let batches = data.train.len().div_ceil(options.batch.max(1)) as u64;
        let steps = (options.epochs as u64).saturating_mul(batches);
        let mut task = Task::new(options.observer, "training", steps, "steps");
        task.set_state(String::new());
        task.at(at.step);
        let train = match data.crop {
            Some(crop) => Images::cropped(data.train.paths(), crop),
            None => Images::kept(data.train, data.spec),
        };
        let validation = Images::kept(data.validation, data.spec);
        let rate = Rate::new(at.step);
        Ok(Self { options, data, train, validation, at, kept, saved: options.resume, log, task, steps, rate })
    }

    /// Whether patience has run out.
    fn exhausted(&self) -> bool {
        let waited = self.at.epoch - self.at.best_epoch.min(self.at.epoch);
        self.options.patience > 0 && self.at.best_loss.is_some() && waited >= self.options.patience
    }

    fn epoch(&mut self, learner: &mut dyn Learner) -> Result<()> {
        let started = Instant::now();
        let (data, batch) = (self.data, self.options.batch.max(1));
        let order = learner.order(data.train.len(), self.options.seed, self.at.epoch as u64);
        let rest = &order[(self.at.batches * batch).min(order.len())..];
        let images = self.train.clone().pass(self.at.epoch as u64);
        for_each_batch(&images, rest, batch, |loaded| self.step(learner, &loaded))?;
        let train_loss = self.at.epoch_loss / self.at.batches.max(1) as f64;
        let keep = learner.keep();
        let watched = match &data.validation[..] {
            [_, ..] if keep == Keep::Best => validation_loss(learner, &self.validation, batch)?,
            _ => train_loss,
        };
        self.at.epoch += 1;
        (self.at.batches, self.at.epoch_loss) = (0, 0.0);
        if keep != Keep::Best || self.at.best_loss.is_none_or(|b| watched < b) {
            (self.at.best_loss, self.at.best_epoch) = (Some(watched), self.at.epoch);
            if !matches!(keep, Keep::Average(_)) {
                self.kept = learner.params().values()?;
            }
        }
        self.task.set_state(format!("epoch {}, validation loss {watched:.5}", self.at.epoch));
        self.task.at(self.at.step);
        let mut line = json!({
            "epoch": self.at.epoch,
            "step": self.at.step,
            "loss": train_loss,
            "validation_loss": watched,
            "seconds": started.elapsed().as_secs_f64(),
        });
        learner.details().into_iter().for_each(|(name, value)| line[name] = value.into());
        self.write_log(&line);
        Ok(())
    }

    fn step(&mut self, learner: &mut dyn Learner, batch: &Batch) -> Result<()> {
        if interrupt::requested() {
            self.save_checkpoint(learner.params())?;
            return Err(Error::Interrupted(self.options.checkpoint.clone()));
        }
        let number = self.at.step;
        let loss = pooled(|| learner.step(batch, number))?;
        self.at.step += 1;
        if !loss.is_finite() {
            return Err(self.diverged());
        }
        if let Keep::Average(decay) = learner.keep() {
            Keep::follow(decay, &mut self.kept, learner.params(), number)?;
        }
        self.at.batches += 1;
        self.at.epoch_loss += f64::from(loss);
        self.task.at(self.at.step);
        if self.options.checkpoint_every > 0 && self.at.step.is_multiple_of(self.options.checkpoint_every) {
            self.save_or_warn(learner.params())?;
        }
        if let Some(estimate) = self.rate.estimate(self.at.step, self.steps) {
            self.options.observer.say(&estimate);
        }
        Ok(())
    }

    /// Writes a line of the log. Training is worth more than its log: on a full disk the log ends here.
    fn write_log(&mut self, line: &Value) {
        if let Some(Err(reason)) = self.log.as_mut().map(|log| log.write(line)) {
            self.log = None;
            self.options.observer.warn(&format!("{reason}; training goes on without its log"));
        }
    }

    /// Writes the checkpoint; on a full disk training goes on with the one before.
    fn save_or_warn(&mut self, params: &Params) -> Result<()> {
        match self.save_checkpoint(params) {
            Err(Error::Io { path, source }) => {
                let warning = format!("{}: {source}; training goes on without it", shown(&path));
                self.options.observer.warn(&warning);
                Ok(())
            }
            other => other,
        }
    }

    fn diverged(&self) -> Error {
        let checkpoint = self.options.checkpoint.clone().filter(|_| self.saved);
        Error::Diverged { what: format!("loss at step {} is", self.at.step), checkpoint }
    }

    fn save_checkpoint(&mut self, params: &Params) -> Result<()> {
        let Some(path) = &self.options.checkpoint else { return Ok(()) };
        let current = params.full_state()?;
        for tensor in current.iter().filter(|(name, _)| name.starts_with("value.")).map(|(_, t)| t) {
            if tensor.values()?.iter().any(|v| !v.is_finite()) {
                // The checkpoint before is good; this one would not be.
                return Err(self.diverged());
            }
        }
        let mut tensors = container::store(&current, "now.")?;
        tensors.extend(container::store(&self.kept, "kept.")?);
        let meta = json!({ "fingerprint": self.options.fingerprint, "position": self.at });
        container::write(path, &Contents { kind: CHECKPOINT.into(), meta, tensors })?;
        self.saved = true;
        Ok(())
    }
}

fn validation_loss(learner: &dyn Learner, images: &Images, batch: usize) -> Result<f64> {
    let mut sum = 0.0;
    for_all(images, batch, |loaded| {
        sum += f64::from(pooled(|| learner.loss(&loaded))?) * loaded.files.len() as f64;
        Ok(())
    })?;
    Ok(sum / images.len() as f64)
}

/// Reads a checkpoint that has been made for a fingerprint.
///
/// # Errors
/// When there is none, it is damaged or of another run; says in what it differs.
pub fn read_checkpoint(path: &Path, fingerprint: &serde_json::Map<String, Value>) -> Result<Contents> {
    let refuse = |reason: String| Error::Checkpoint { path: path.into(), reason };
    if !path.is_file() {
        return Err(refuse("no checkpoint to resume from; begin afresh".into()));
    }
    let contents = container::read(path, CHECKPOINT).map_err(|error| match error {
        Error::Model { reason, .. } => refuse(reason),
        other => other,
    })?;
    match Difference::between(&contents.meta["fingerprint"], fingerprint) {
        Some(difference) => Err(Error::OtherRun { path: path.into(), difference }),
        None => Ok(contents),
    }
}

fn load_checkpoint(params: &mut Params, options: &TrainOptions) -> Result<(Position, State)> {
    let path = options.checkpoint.as_deref().unwrap_or(Path::new(""));
    let contents = read_checkpoint(path, &options.fingerprint)?;
    let position = serde_json::from_value(contents.meta["position"].clone()).map_err(|e| Error::Checkpoint {
        path: path.into(),
        reason: format!("damaged checkpoint ({e}); begin afresh"),
    })?;
    params.set_full_state(&container::restore(&contents.tensors, "now.")?)?;
    Ok((position, container::restore(&contents.tensors, "kept.")?))
}
