//! Distillation: a network learns to give the feature maps of another one on any images (Romero et al. 2015, "FitNets", with
//! many hints instead of one in the middle).
//!
//! Teacher and student see the same random views. The loss is the mean over the hints of the mean squared error of their maps,
//! each channel divided by the deviation that the teacher's has over some views:
//! `L = 1/H sum_h mean(((s_h - t_h) / sigma_h)^2)`, so that 1 is the loss of a student that gives the teacher's mean.
//! The result is a moving average of the student's weights, a backbone file like an imported one.

mod config;
mod hints;
mod learner;
mod maps;
mod teacher;

use std::path::{Path, PathBuf};

use hotad_engine::data::crop::Crop;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::device::Device;
use hotad_engine::observer::Observer;
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_engine::train::{Learner, TrainData, TrainOptions, argument, train};
use hotad_engine::{Error, Result};
use serde_json::{Map, Value};

use crate::config::Settings;
use crate::features::backbone::file::{Distilled, Origin};
use crate::features::backbone::{Backbone, BackboneFile, Network};
use crate::features::settings::Layers;
use crate::networks::import;
pub use config::{Config, HintChoice};
use hints::Hints;
use learner::{Pass, Student};
use maps::Places;
use teacher::Teacher;

/// Steps between checkpoints.
const CHECKPOINT_EVERY: u64 = 100;

/// What a distillation works with.
pub struct Job<'a> {
    /// Backbone file, or weights of another program.
    pub teacher: &'a Path,
    /// Weights of the same network that the student starts from, instead of random ones.
    pub start: Option<&'a Path>,
    /// Images of any kind.
    pub images: &'a [PathBuf],
    /// SHA-256 over the images.
    pub list_sha256: &'a str,
    /// Where to compute.
    pub device: &'a Device,
    /// Seed of every random choice.
    pub seed: u64,
    /// The checkpoint; it stays until the caller has stored the result.
    pub checkpoint: &'a Path,
    /// JSON-lines log.
    pub log: &'a Path,
    /// Continue from the checkpoint.
    pub resume: bool,
    /// Is told what is being done, and how far it is.
    pub observer: &'a dyn Observer,
}

/// Trains a student; returns its weights up to the last cut.
///
/// # Errors
/// A teacher that cannot be used or ends before a cut, broken images, divergence, interruption.
pub fn distill(config: &Config, job: &Job) -> Result<BackboneFile> {
    config.check()?;
    if job.images.is_empty() {
        return Err(Error::Config("there are no images to distill on".into()));
    }
    let batch = config.batch.min(job.images.len());
    if batch < config.batch {
        job.observer.say(&format!("{batch} images a step: there are no more"));
    }
    let layers = match config.cuts.is_empty() {
        true => Layers::Word("auto".into()),
        false => Layers::Names(config.cuts.clone()),
    };
    let (teacher, cuts) = Backbone::open(job.teacher, Some(config.crop.into()), &layers, job.device)?;
    let blocks = cuts.last().map_or(0, |c| c + 1);
    let student = student_of(teacher.network(), config.expansion)?;
    let start = job.start.map(|path| starting_weights(path, student, blocks)).transpose()?;
    let choice = match config.hints {
        HintChoice::Layers if student != teacher.network().distilled() => HintChoice::Blocks,
        choice => choice,
    };
    let places = Places::new(choice, &student.trunk(), &cuts);
    let teacher = Teacher::new(&teacher, places, job.device)?;
    let crop = Crop { size: config.crop, seed: job.seed };
    let shown = |images: &Tensor| teacher.maps(&images.to(job.device)?);
    let hints = Hints::measured(shown, (job.images, crop), batch, job.device)?;
    let pass = Pass { steps: job.images.len() / batch, batch };
    let mut learner = Student::new(config, (student.trunk(), teacher), hints, start, pass, job)?;
    let spec = ImageSpec { height: config.crop, width: config.crop, channels: 3 };
    let data =
        TrainData { train: ImageFiles::whole(job.images), validation: ImageFiles::whole(&[]), spec, crop: Some(crop) };
    let report = train(&mut learner, &data, &options(config, job, batch)?)?;
    job.observer.say(&format!("trained {} steps; mean loss of the last pass {:.4}", report.steps, report.best_loss));
    let tensors = import::to_torchvision(&learner.params().values()?, &student.trunk().layers(blocks))?;
    Ok(BackboneFile { network: student, blocks, tensors, origin: Some(origin(config, job, batch)?) })
}

/// The network that learns from a teacher.
fn student_of(teacher: Network, expansion: usize) -> Result<Network> {
    let name = teacher.facts().name;
    let none = || {
        Error::Config(format!("there is no student of {name} with expansion {expansion}, only of efficientnet-lite0"))
    };
    teacher.student(expansion).ok_or_else(none)
}

/// Weights of a network's first blocks from a file.
fn starting_weights(path: &Path, network: Network, blocks: usize) -> Result<State> {
    let file = BackboneFile::open(path)?;
    if file.network.distilled() != network || file.blocks < blocks {
        let wanted = network.facts().name;
        let reason = format!("the student cannot start from it: it has to hold {blocks} blocks of {wanted}");
        return Err(Error::Model { path: path.into(), reason });
    }
    import::from_torchvision(path, &file.tensors, &file.network.trunk().layers(blocks))
}

fn options<'a>(config: &Config, job: &Job<'a>, batch: usize) -> Result<TrainOptions<'a>> {
    let learning = config.learning();
    let named = learning.as_object().into_iter().flatten().map(|(key, value)| (argument(key), value.clone()));
    let mut fingerprint: Map<String, Value> = named.collect();
    fingerprint.insert(argument("seed"), job.seed.into());
    fingerprint.insert("SHA-256 of the images".into(), job.list_sha256.into());
    fingerprint.insert(format!("SHA-256 of {}", argument("teacher")), file_sha256(job.teacher)?.into());
    fingerprint.insert(format!("SHA-256 of {}", argument("start")), job.start.map(file_sha256).transpose()?.into());
    Ok(TrainOptions {
        epochs: (config.steps as usize).div_ceil((job.images.len() / batch).max(1)),
        batch,
        patience: 0,
        seed: job.seed,
        checkpoint_every: CHECKPOINT_EVERY,
        checkpoint: Some(job.checkpoint.into()),
        resume: job.resume,
        log: Some(job.log.into()),
        fingerprint,
        observer: job.observer,
    })
}

fn origin(config: &Config, job: &Job, batch: usize) -> Result<Origin> {
    let teacher = BackboneFile::open(job.teacher)?.origin;
    let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let distilled = Distilled {
        steps: config.steps,
        batch,
        crop: config.crop,
        lr: config.lr,
        seed: job.seed,
        images: job.images.len(),
        images_sha256: job.list_sha256.into(),
        start: job.start.map(name),
    };
    let origin = match teacher {
        Some(origin) => origin,
        None => Origin {
            file: name(job.teacher),
            sha256: file_sha256(job.teacher)?,
            imported: name(job.teacher),
            licence: None,
            distilled: None,
        },
    };
    Ok(Origin { distilled: Some(distilled), ..origin })
}
