//! A detector with its thresholds and origin: what a model file holds.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_engine::calibration::Calibration;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::loader::{Batch, BatchFile};
use hotad_engine::data::roi::Roi;
use hotad_engine::device::{Device, InputRange, InputRanges, Precision};
use hotad_engine::model_file::{ModelFile, Provenance};
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::on;
use hotad_engine::until::Until;
use hotad_engine::{Error, Result};

use crate::anomaly_map::AnomalyMap;
use crate::detector::{Detector, Score, Scores};
use crate::explanation::Explainable;
use crate::method::{LoadContext, find};

/// A model.
pub struct Model {
    /// Name of the method.
    pub method: &'static str,
    /// Trained method.
    pub detector: Box<dyn Detector>,
    /// The region of images that it looks at; none where it looks at all of them.
    pub roi: Option<Roi>,
    /// Thresholds.
    pub calibration: Calibration,
    /// Origin.
    pub provenance: Provenance,
    /// The range of inputs of each convolution, by layer, for scoring in int8; empty where none was measured.
    pub input_ranges: BTreeMap<String, InputRange>,
    /// Where it scores.
    pub device: Device,
}

impl Model {
    /// Reads a model file.
    ///
    /// # Errors
    /// When the file is no model, damaged, of a newer format or of an unknown method.
    pub fn read(path: &Path, context: &LoadContext) -> Result<Self> {
        Self::restore(&ModelFile::load(path)?, context).map_err(|e| unreadable(path, e))
    }

    /// The model that a file holds.
    ///
    /// # Errors
    /// When it is damaged or of an unknown method.
    pub fn restore(file: &ModelFile, context: &LoadContext) -> Result<Self> {
        let device = with_ranges(context.device, file)?;
        let method = find(context.methods, &file.method)?;
        Ok(Self {
            method: method.name,
            detector: method.load(file, &LoadContext { device: &device, ..*context })?,
            roi: file.roi.clone(),
            calibration: file.calibration.clone(),
            provenance: file.provenance.clone(),
            input_ranges: file.input_ranges.clone(),
            device,
        })
    }

    /// Image files as it looks at them.
    pub fn files<'a>(&'a self, paths: &'a [PathBuf]) -> ImageFiles<'a> {
        ImageFiles::new(paths, self.roi.as_ref())
    }

    /// An anomaly map of an image of `size` (rows, columns), at that size (bilinear); outside of the region that it looks at
    /// is what the middle normal pixel has.
    ///
    /// # Errors
    /// When a side is 0, or the region does not lie in the image.
    pub fn map_at(&self, map: AnomalyMap, size: (usize, usize)) -> Result<AnomalyMap> {
        map.of_whole(size, self.roi.as_ref().map(|roi| (roi, self.calibration.normal_pixel)))
    }

    /// Scores a batch of images as part of a job; see [`Detector::score`].
    ///
    /// # Errors
    /// When the batch has another shape, what went wrong on the device, or [`hotad_engine::Error::Interrupted`].
    pub fn score(&self, images: &Tensor) -> Result<Scores> {
        Until::interruptible(|until| self.score_until(images, until))
    }

    /// Scores a batch of images with what is reached at a moment; see [`Detector::score_until`].
    ///
    /// # Errors
    /// As [`Model::score`].
    pub fn score_until(&self, images: &Tensor, until: &Until) -> Result<Scores> {
        on(&self.device, || self.detector.score_until(images, until))
    }

    /// Scores a batch of files; one whose score or map holds numbers that are not finite has an error of its own.
    ///
    /// # Errors
    /// As [`Model::score`].
    pub fn score_files(&self, batch: &Batch) -> Result<Vec<Result<Score>>> {
        let checked = |(score, file): (Score, &BatchFile)| match score.is_finite() {
            true => Ok(score),
            false => Err(Error::Image {
                path: file.path.clone(),
                reason: "the model scores it with numbers that are not finite; train the model again".into(),
            }),
        };
        Ok(self.score(&batch.images)?.into_iter().zip(&batch.files).map(checked).collect())
    }

    /// Its inside, for a report.
    ///
    /// # Errors
    /// When the method has nothing to show.
    pub fn explainable(&self) -> Result<&dyn Explainable> {
        let reason = format!("{} has nothing inside to show", self.method);
        self.detector.as_explainable().ok_or(Error::Argument { name: "explain", reason })
    }

    /// Writes the model file, whole or not at all.
    ///
    /// # Errors
    /// I/O errors, with the path.
    pub fn save(&self, path: &Path) -> Result<()> {
        self.to_file()?.save(path)
    }

    /// What its file holds.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn to_file(&self) -> Result<ModelFile> {
        Ok(ModelFile {
            method: self.method.into(),
            image: self.detector.image(),
            roi: self.roi.clone(),
            config: self.detector.config(),
            calibration: self.calibration.clone(),
            provenance: self.provenance.clone(),
            input_ranges: self.input_ranges.clone(),
            tensors: self.detector.tensors()?,
        })
    }
}

/// The error of a model file that cannot be read, with its path; what the file is not to blame for, as it is.
pub(crate) fn unreadable(path: &Path, error: Error) -> Error {
    match error {
        Error::Uncalibrated(_) | Error::Kernel(_) | Error::Device(_) | Error::Interrupted(_) => error,
        other => Error::Model { path: path.into(), reason: other.to_string() },
    }
}

/// A device that computes in int8, with the ranges of a file; a member's device has those of the model around it.
fn with_ranges(device: &Device, file: &ModelFile) -> Result<Device> {
    match device.cpu() {
        Some(cpu) if cpu.precision() == Precision::Int8 && !cpu.has_ranges() => {
            if file.input_ranges.is_empty() {
                return Err(Error::Uncalibrated("inputs".into()));
            }
            Ok(Device::Cpu(cpu.with_ranges(InputRanges::new(file.input_ranges.clone()))))
        }
        _ => Ok(device.clone()),
    }
}
