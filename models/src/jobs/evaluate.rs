//! Metrics of a model on a labelled data set.

use std::path::{Path, PathBuf};

use hotad_engine::Result;
use hotad_engine::data::Dataset;
use hotad_engine::data::corrupt::Corrupt;
use hotad_engine::data::groups::Grouping;
use hotad_engine::data::prepare::OnBroken;
use hotad_engine::device::{Device, Precision};
use hotad_engine::observer::{Observer, Task};
use hotad_engine::signature::PublicKey;
use toml::Table;

use super::{GROUP, ON_BROKEN, SCORE_BATCH, SEED, data_set, prepare, run_job};
use crate::evaluate::{AgainstF32, EvaluateOptions, Evaluation, Metrics, evaluate};
use crate::model::Model;

/// Evaluates a model on the test images of a data set.
#[derive(Clone)]
pub struct EvaluateJob {
    /// Model file.
    pub model: PathBuf,
    /// Key that the model has to be signed by.
    pub key: Option<PublicKey>,
    /// Settings of scoring instead of the model's own; thresholds stay those of the model.
    pub settings: Table,
    /// Labelled data set.
    pub data: PathBuf,
    /// A change of the test images.
    pub corrupt: Option<Corrupt>,
    /// Which test images are of one part, which intervals draw together; as [`Grouping::of`] takes it.
    pub group: String,
    /// What to do with a test image that cannot be decoded.
    pub on_broken: OnBroken,
    /// Images scored together.
    pub batch: usize,
    /// Seed of the resamples that intervals come from.
    pub seed: u64,
    /// Anomaly maps that the evaluation keeps of good images by highest score, and as many of defective ones by highest and by lowest.
    pub keep_maps: usize,
    /// Where to compute.
    pub device: Device,
}

impl EvaluateJob {
    /// A job with the defaults of `hotad eval`, on the CPU.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            key: None,
            settings: Table::new(),
            data: data.into(),
            corrupt: None,
            group: GROUP.into(),
            on_broken: ON_BROKEN,
            batch: SCORE_BATCH,
            seed: SEED,
            keep_maps: 0,
            device: Device::CPU,
        }
    }

    /// Reads the model and the data set, and evaluates.
    ///
    /// # Errors
    /// A model, setting or data set that cannot be used, scores that are not finite, or
    /// [`Error::Interrupted`](hotad_engine::Error::Interrupted).
    pub fn run(&self, observer: &dyn Observer) -> Result<Evaluation> {
        run_job(observer, || {
            let mut evaluation = self.run_on(&self.load()?, observer)?;
            self.compare_with_f32(&mut evaluation, observer)?;
            Ok(evaluation)
        })
    }

    /// Where the job's precision is not f32, scores the images in f32 too and puts the differences into the metrics.
    ///
    /// # Errors
    /// As [`EvaluateJob::run`].
    pub fn compare_with_f32(&self, evaluation: &mut Evaluation, observer: &dyn Observer) -> Result<()> {
        let precision = self.device.precision();
        if precision != Precision::F32 {
            let job = Self { device: self.device.with_precision(Precision::F32)?, ..self.clone() };
            let in_f32 = job.run_on(&job.load()?, observer)?;
            evaluation.metrics.against_f32 = Some(AgainstF32::new(precision.name(), evaluation, &in_f32));
        }
        Ok(())
    }

    /// Evaluates a model that is in memory: what [`EvaluateJob::load`] has read, or where there are no settings, any.
    ///
    /// # Errors
    /// As [`EvaluateJob::run`].
    pub fn run_on(&self, model: &Model, observer: &dyn Observer) -> Result<Evaluation> {
        let data = TestImages::open(&self.data, self.on_broken, observer)?;
        self.run_on_images(model, &data, "scoring", observer)
    }

    /// Reads the model under the job's settings.
    ///
    /// # Errors
    /// As [`Model::load_with`].
    pub fn load(&self) -> Result<Model> {
        Model::load_with(&self.model, self.key.as_ref(), &self.settings, &self.device)
    }

    /// As [`EvaluateJob::run_on`], on images that have been opened; `task` is the name under which progress is told.
    ///
    /// # Errors
    /// As [`EvaluateJob::run`].
    pub fn run_on_images(
        &self,
        model: &Model,
        images: &TestImages,
        task: &str,
        observer: &dyn Observer,
    ) -> Result<Evaluation> {
        let TestImages { data, broken } = images;
        let grouping = Grouping::of(&self.group)?;
        let task = Task::new(observer, task, data.test.len() as u64, "images");
        let options = EvaluateOptions {
            batch: self.batch,
            corrupt: self.corrupt,
            grouping: &grouping,
            seed: self.seed,
            keep_maps: self.keep_maps,
            seen: &|n| task.at(n as u64),
        };
        let mut evaluation = evaluate(model, data, &options)?;
        note(&mut evaluation.metrics, *broken, &self.settings);
        Ok(evaluation)
    }
}

/// Notes in metrics how many test images were left out, and which settings were not the model's.
pub fn note(metrics: &mut Metrics, broken: usize, settings: &Table) {
    if broken > 0 {
        metrics.notes.push(format!("{broken} test images cannot be decoded and are left out"));
    }
    if !settings.is_empty() {
        let all = settings.to_string().trim().replace('\n', ", ");
        metrics.notes.push(format!("scored under {all}; thresholds are those of the model, found without"));
    }
}

/// The test images of a data set.
pub struct TestImages {
    /// The data set, its test images those that can be decoded.
    pub data: Dataset,
    /// Test images that cannot be decoded and are left out.
    pub broken: usize,
}

impl TestImages {
    /// Opens a data set; under [`OnBroken::Skip`], test images that cannot be decoded are left out with a warning.
    ///
    /// # Errors
    /// As [`data_set`].
    pub fn open(root: &Path, on_broken: OnBroken, observer: &dyn Observer) -> Result<Self> {
        Self::of(data_set(root, observer)?, on_broken, observer)
    }

    /// Those of a data set that is open; under [`OnBroken::Skip`], images that cannot be decoded are left out with a warning.
    ///
    /// # Errors
    /// When an image cannot be read.
    pub fn of(mut data: Dataset, on_broken: OnBroken, observer: &dyn Observer) -> Result<Self> {
        if on_broken == OnBroken::Refuse {
            return Ok(Self { data, broken: 0 });
        }
        let prepared = prepare(&data.test, None, on_broken, observer)?;
        data.test = prepared.items;
        Ok(Self { data, broken: prepared.skipped.len() })
    }
}
