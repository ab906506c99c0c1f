//! A detector with its thresholds and origin: what a model file holds.

use std::path::{Path, PathBuf};

use hotad_engine::calibration::{Calibration, UpperQuantile};
use hotad_engine::data::loader::{Batch, Images, for_each_batch};
use hotad_engine::device::Device;
use hotad_engine::model_file::{ModelFile, Provenance};
use hotad_engine::signature::PublicKey;
use hotad_engine::tensor::Tensor;
use hotad_engine::threads::{on, pooled};
use hotad_engine::{Error, Result};

use crate::detector::{Detector, Score};
use crate::synthetic::cracks;

/// Images scored together while calibrating.
const BATCH: usize = 8;

/// How thresholds are found.
#[derive(Clone, Copy, Debug)]
pub struct CalibrationRule {
    /// Share of normal images that may be called anomalies.
    pub image_false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective; `None` takes the threshold with the
    /// largest Dice on synthetic cracks over the held-out normals.
    pub pixel_false_alarm_rate: Option<f64>,
}

/// A model.
pub struct Model {
    /// Trained method.
    pub detector: Box<dyn Detector>,
    /// Thresholds.
    pub calibration: Calibration,
    /// Origin.
    pub provenance: Provenance,
    /// Where it scores.
    pub device: Device,
}

impl Model {
    /// Reads a model file onto a device.
    ///
    /// # Errors
    /// When the file is no model, damaged, of a newer format or of an unknown method.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let file = ModelFile::load(path)?;
        Self::of_file(&file, device).map_err(|e| Error::Model { path: path.into(), reason: e.to_string() })
    }

    /// Reads a model file that has to be signed by a key.
    ///
    /// # Errors
    /// As [`Model::load`], and when it is not signed, or by another key.
    pub fn load_signed(path: &Path, key: &PublicKey, device: &Device) -> Result<Self> {
        let file = ModelFile::load_signed(path, key)?;
        Self::of_file(&file, device).map_err(|e| Error::Model { path: path.into(), reason: e.to_string() })
    }

    /// The model that a file holds, on a device.
    ///
    /// # Errors
    /// When it is damaged or of an unknown method.
    pub fn of_file(file: &ModelFile, device: &Device) -> Result<Self> {
        let detector = crate::method(&file.method)?.load(file, device)?;
        let (calibration, provenance) = (file.calibration.clone(), file.provenance.clone());
        Ok(Self { detector, calibration, provenance, device: device.clone() })
    }

    /// Scores a batch of images; see [`Detector::score`].
    ///
    /// # Errors
    /// When the batch has another shape, or what went wrong on the device.
    pub fn score(&self, images: &Tensor) -> Result<Vec<Score>> {
        on(&self.device, || self.detector.score(images))
    }

    /// Scores a batch of files, of `paths` those that it names; a file whose score or map holds numbers that are not finite has
    /// an error of its own.
    ///
    /// # Errors
    /// As [`Model::score`].
    pub fn score_files(&self, batch: &Batch, paths: &[PathBuf]) -> Result<Vec<Result<Score>>> {
        let checked = |(score, index): (Score, &usize)| match score.is_finite() {
            true => Ok(score),
            false => Err(Error::Image {
                path: paths[*index].clone(),
                reason: "the model scores it with numbers that are not finite; train the model again".into(),
            }),
        };
        Ok(self.score(&batch.images)?.into_iter().zip(&batch.indices).map(checked).collect())
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
    /// When weights live on a device that is lost.
    pub fn to_file(&self) -> Result<ModelFile> {
        Ok(ModelFile {
            method: self.detector.method().into(),
            image: self.detector.image(),
            config: self.detector.config(),
            calibration: self.calibration.clone(),
            provenance: self.provenance.clone(),
            tensors: self.detector.tensors()?,
        })
    }
}

/// Thresholds from held-out normal images.
///
/// # Errors
/// When an image cannot be read.
pub fn calibrate(
    detector: &dyn Detector,
    holdout: &[PathBuf],
    rule: CalibrationRule,
    seed: u64,
) -> Result<Calibration> {
    let spec = detector.image();
    let order: Vec<usize> = (0..holdout.len()).collect();
    let mut values = Vec::with_capacity(holdout.len());
    let rate = rule.pixel_false_alarm_rate.unwrap_or(0.001);
    let mut pixels = UpperQuantile::new(rate, holdout.len() * spec.height * spec.width);
    for_each_batch(&Images::new(holdout, spec), &order, BATCH, |batch| {
        hotad_engine::interrupt::check()?;
        for score in pooled(|| detector.score(&batch.images))? {
            if !score.is_finite() {
                let reason = "scores of held-out images are not finite: training has diverged; lower the learning rate";
                return Err(Error::Config(format!("{reason} (--set lr=...)")));
            }
            values.push(score.value);
            pixels.extend(&score.map);
        }
        Ok(())
    })?;
    let mut calibration = Calibration::of_scores(values, rule.image_false_alarm_rate);
    calibration.pixel_threshold = pixels.value();
    calibration.pixel_rule = format!("{rate} of held-out normal pixels are above it");
    if rule.pixel_false_alarm_rate.is_none() && !holdout.is_empty() {
        let cracks = cracks(holdout, spec, seed)?;
        let maps: Vec<f32> = pooled(|| detector.score(&cracks.images))?.into_iter().flat_map(|s| s.map).collect();
        if let Some((dice, threshold)) = cracks.best_dice(&maps) {
            calibration.pixel_threshold = threshold;
            calibration.pixel_rule =
                format!("largest Dice ({dice:.3}) on synthetic cracks over {} held-out normals", cracks.len());
        }
    }
    Ok(calibration)
}
