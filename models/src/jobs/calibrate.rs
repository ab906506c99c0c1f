//! Thresholds of a model anew, without training.

use std::collections::HashSet;
use std::path::PathBuf;

use hotad_engine::calibration::Calibration;
use hotad_engine::data::Item;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::groups::Grouping;
use hotad_engine::data::prepare::{OnBroken, Prepared};
use hotad_engine::device::Device;
use hotad_engine::error::shown;
use hotad_engine::observer::Observer;
use hotad_engine::signature::PublicKey;
use hotad_engine::{Error, Result};
use toml::Table;

use super::{
    FALSE_ALARM_RATE, GROUP, ON_BROKEN, SCORE_BATCH, SEED, check_changed, check_share, data_set, lock_model, prepare,
    run_job, save_changed,
};
use crate::calibrate::{CalibrationRule, calibrate, on_labelled};
use crate::model::Model;

/// Finds the thresholds of a model anew and writes the model with them.
#[derive(Clone)]
pub struct CalibrateJob {
    /// Model file.
    pub model: PathBuf,
    /// Key that the model has to be signed by.
    pub key: Option<PublicKey>,
    /// Data set; images of parts that the model has learned from are left out.
    pub data: PathBuf,
    /// File to write; `None` writes the model file anew.
    pub out: Option<PathBuf>,
    /// Whether to write over another file at `out`.
    pub force: bool,
    /// Share of normal images that may be called anomalies, above 0 and below 1.
    pub false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective, above 0 and below 1; `None` takes the threshold with the largest
    /// mean Dice on synthetic defects over the normal images.
    pub pixel_false_alarm_rate: Option<f64>,
    /// Instead of both rates: the image threshold with the largest F1 on the labelled test images, and with masks the pixel
    /// threshold with the largest mean Dice.
    pub f1: bool,
    /// Which images are of one part, as [`Grouping::of`] takes it.
    pub group: String,
    /// What to do with an image that cannot be decoded.
    pub on_broken: OnBroken,
    /// Images scored together.
    pub batch: usize,
    /// Seed of the synthetic defects.
    pub seed: u64,
    /// Where to compute.
    pub device: Device,
}

/// A model with new thresholds.
pub struct Calibrated {
    /// The model.
    pub model: Model,
    /// Its thresholds before.
    pub before: Calibration,
}

/// Images to calibrate on, and the part that each is of.
struct Images {
    prepared: Prepared,
    parts: Vec<usize>,
}

impl CalibrateJob {
    /// A job with the defaults of `hotad calibrate`, on the CPU.
    pub fn new(model: impl Into<PathBuf>, data: impl Into<PathBuf>) -> Self {
        Self {
            model: model.into(),
            key: None,
            data: data.into(),
            out: None,
            force: false,
            false_alarm_rate: FALSE_ALARM_RATE,
            pixel_false_alarm_rate: None,
            f1: false,
            group: GROUP.into(),
            on_broken: ON_BROKEN,
            batch: SCORE_BATCH,
            seed: SEED,
            device: Device::CPU,
        }
    }

    /// Checks the fields that can be checked without reading a file.
    ///
    /// # Errors
    /// [`Error::Argument`] with the name of the field.
    pub fn check(&self) -> Result<()> {
        check_share("false_alarm_rate", self.false_alarm_rate)?;
        self.pixel_false_alarm_rate.map_or(Ok(()), |rate| check_share("pixel_false_alarm_rate", rate))
    }

    /// Reads the model, finds thresholds and writes the model with them. Meanwhile no other process that locks the file changes
    /// it.
    ///
    /// # Errors
    /// A field out of range, a model or data set that cannot be used, no images that are new to the model, scores that are not
    /// finite, or [`Error::Interrupted`].
    pub fn run(&self, observer: &dyn Observer) -> Result<Calibrated> {
        self.check()?;
        let out = self.out.as_deref().unwrap_or(&self.model);
        check_changed(&self.model, out, self.force)?;
        run_job(observer, || {
            let _lock = lock_model(out, observer)?;
            // Another may have ended meanwhile.
            check_changed(&self.model, out, self.force)?;
            let mut model = Model::load_with(&self.model, self.key.as_ref(), &Table::new(), &self.device)?;
            let before = model.calibration.clone();
            self.run_on(&mut model, observer)?;
            save_changed(&model, out, observer)?;
            Ok(Calibrated { model, before })
        })
    }

    /// Gives a model that is in memory new thresholds; nothing is written. [`CalibrateJob::model`] is what warnings call it.
    ///
    /// # Errors
    /// As [`CalibrateJob::run`]; the model is then as it was.
    pub fn run_on(&self, model: &mut Model, observer: &dyn Observer) -> Result<()> {
        self.check()?;
        let images = self.images(model, observer)?;
        if self.f1 {
            (model.calibration, model.provenance.threshold_images) = self.on_labels(model, &images, observer)?;
        } else {
            self.on_normal(model, &images, observer)?;
            // The new thresholds depend on no labelled image.
            model.provenance.threshold_images = Vec::new();
        }
        model.calibration.warnings.iter().for_each(|warning| observer.warn(warning));
        Ok(())
    }

    /// Normal images, or under `f1` the labelled ones; none that is of a part that the model has learned from.
    fn images(&self, model: &Model, observer: &dyn Observer) -> Result<Images> {
        let grouping = Grouping::of(&self.group)?;
        let data = data_set(&self.data, observer)?;
        let all: Vec<Item> = match self.f1 {
            true => data.test,
            false => data.train.into_iter().chain(data.validation).collect(),
        };
        if !model.provenance.lists_all_images {
            let what =
                "does not say which images it learned from; thresholds are too low where some of these are among them";
            observer.warn(&format!("{} {what}", shown(&self.model)));
        }
        let prepared = prepare(&all, model.roi.as_ref(), self.on_broken, observer)?;
        let paths: Vec<&PathBuf> = prepared.items.iter().map(|i| &i.path).collect();
        let groups = grouping.groups(&paths, &prepared.thumbnails)?;
        let known = model.provenance.known();
        let of_learned = groups.iter().zip(&prepared.hashes).filter(|(_, hash)| known.contains(hash.as_str()));
        let learned: HashSet<usize> = of_learned.map(|(group, _)| *group).collect();
        let new: Vec<bool> = groups.iter().map(|group| !learned.contains(group)).collect();
        let parts: Vec<usize> = groups.into_iter().filter(|group| !learned.contains(group)).collect();
        let left_out = new.len() - parts.len();
        if parts.is_empty() {
            return Err(Error::Data { path: data.root, reason: self.none_left(left_out) });
        }
        if left_out > 0 {
            observer.say(&format!("{left_out} images of parts that the model has learned from are left out"));
        }
        Ok(Images { prepared: prepared.only(&new), parts })
    }

    /// Why there are no images to calibrate on.
    fn none_left(&self, left_out: usize) -> String {
        let what = if self.f1 { "labelled test images" } else { "normal images" };
        match left_out {
            0 => format!("no {what} to calibrate on"),
            _ => format!(
                "the model has learned from the parts of all {left_out} {what}; thresholds need some it has not seen"
            ),
        }
    }

    /// Thresholds from normal images.
    fn on_normal(&self, model: &mut Model, images: &Images, observer: &dyn Observer) -> Result<()> {
        let paths: Vec<PathBuf> = images.prepared.items.iter().map(|i| i.path.clone()).collect();
        let rule = CalibrationRule {
            image_false_alarm_rate: self.false_alarm_rate,
            pixel_false_alarm_rate: self.pixel_false_alarm_rate,
        };
        let roi = model.roi.clone();
        calibrate(model, ImageFiles::new(&paths, roi.as_ref()), &images.parts, rule, self.seed, observer)
    }

    /// Thresholds from labelled images, and the SHA-256 of all images that thresholds depend on then: these, and those that a
    /// pixel threshold which stays was fitted to.
    fn on_labels(&self, model: &Model, images: &Images, observer: &dyn Observer) -> Result<(Calibration, Vec<String>)> {
        let found = on_labelled(model, &images.prepared.items, self.batch, observer)?;
        let mut fitted_to = images.prepared.hashes.clone();
        if found.pixel_rule == model.calibration.pixel_rule {
            fitted_to.extend_from_slice(&model.provenance.threshold_images);
        }
        fitted_to.sort_unstable();
        fitted_to.dedup();
        Ok((found, fitted_to))
    }
}
