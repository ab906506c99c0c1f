//! Training: images chosen, a method fitted, thresholds found, the model written.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use hotad_engine::calibration::Calibration;
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::prepare::OnBroken;
use hotad_engine::data::roi::Roi;
use hotad_engine::device::{Device, Precision};
use hotad_engine::error::shown;
use hotad_engine::model_file::Provenance;
use hotad_engine::observer::Observer;
use hotad_engine::{Error, Result};
use toml::Table;

use super::bank::{add_holdout, entries_of};
use super::{
    Begin, FALSE_ALARM_RATE, GROUP, ON_BROKEN, SEED, Selection, check_free, check_result_file, check_share,
    is_same_file, lock_result, run_job,
};
use crate::calibrate::{CalibrationRule, calibrate};
use crate::cross_validation::CrossValidationTable;
use crate::fit::{FitContext, checkpoints, remove_checkpoints};
use crate::method::{CrossValidation, names};
use crate::model::Model;
use crate::{method, methods};

/// Share of the normal images that is held out, unless told otherwise.
pub const HOLDOUT: f64 = 0.2;

/// Share of the defective images that a supervised method learns from, unless told otherwise.
pub const DEFECTIVE_SHARE: f64 = 0.5;

/// Trains a method on a data set, finds its thresholds and writes the model.
#[derive(Clone)]
pub struct TrainJob {
    /// Name of the method, one of [`methods`](crate::methods).
    pub method: String,
    /// Data set, or a plain folder of normal images.
    pub data: PathBuf,
    /// Settings of the method other than its defaults.
    pub settings: Table,
    /// Model files that an ensemble is built on.
    pub members: Vec<PathBuf>,
    /// A trained model of the same method whose weights training starts from.
    pub init: Option<PathBuf>,
    /// The region of images that is looked at, in training and ever after; `None` looks at all, or for an ensemble at the region
    /// of its members.
    pub roi: Option<Roi>,
    /// Which images are of one part, and so never on both sides of a split; as
    /// [`Grouping::of`](hotad_engine::data::groups::Grouping::of) takes it.
    pub group: String,
    /// Share of the normal images that thresholds are found on and training is watched with, above 0 and below 1; without
    /// effect where the data set names its validation images.
    pub holdout: f64,
    /// Share of the defective test images that a supervised method learns from, above 0 and below 1; `None` takes
    /// [`DEFECTIVE_SHARE`]. Other methods refuse one.
    pub defective_share: Option<f64>,
    /// Share of normal images that may be called anomalies, above 0 and below 1.
    pub false_alarm_rate: f64,
    /// Share of normal pixels that may be called defective, above 0 and below 1; `None` takes the threshold with the largest
    /// mean Dice on synthetic defects over held-out normal images.
    pub pixel_false_alarm_rate: Option<f64>,
    /// What to do with an image that cannot be decoded.
    pub on_broken: OnBroken,
    /// Seed of every random choice.
    pub seed: u64,
    /// Where to compute.
    pub device: Device,
    /// Model file to write, with checkpoints and a log beside it; `None` writes nothing.
    pub out: Option<PathBuf>,
    /// What to do with a model or a checkpoint that is there.
    pub begin: Begin,
}

impl TrainJob {
    /// A job with the defaults of `hotad train`, on the CPU, that writes nothing.
    pub fn new(method: impl Into<String>, data: impl Into<PathBuf>) -> Self {
        Self {
            method: method.into(),
            data: data.into(),
            settings: Table::new(),
            members: Vec::new(),
            init: None,
            roi: None,
            group: GROUP.into(),
            holdout: HOLDOUT,
            defective_share: None,
            false_alarm_rate: FALSE_ALARM_RATE,
            pixel_false_alarm_rate: None,
            on_broken: ON_BROKEN,
            seed: SEED,
            device: Device::CPU,
            out: None,
            begin: Begin::Afresh,
        }
    }

    /// Checks the fields that can be checked without reading a file: method, settings, shares, members.
    ///
    /// # Errors
    /// [`Error::Argument`] with the name of the field, or [`Error::Config`] with that of the setting.
    pub fn check(&self) -> Result<()> {
        let method = method(&self.method)?;
        method.check(&self.settings)?;
        check_share("holdout", self.holdout)?;
        check_share("false_alarm_rate", self.false_alarm_rate)?;
        check_share("defective_share", self.share_of_defective())?;
        self.pixel_false_alarm_rate.map_or(Ok(()), |rate| check_share("pixel_false_alarm_rate", rate))?;
        if !self.members.is_empty() && !method.ensemble {
            let (name, ensembles) = (method.name, names(methods(), |m| m.ensemble));
            let reason = format!("{name} is not built on other models; those that are: {ensembles}");
            return Err(Error::Argument { name: "members", reason });
        }
        if self.defective_share.is_some() && !method.supervised {
            let (name, those) = (method.name, names(methods(), |m| m.supervised));
            let reason = format!("{name} learns from normal images alone; those that learn from defects: {those}");
            return Err(Error::Argument { name: "defective_share", reason });
        }
        if self.init.is_some() && !method.warm_start {
            let (name, those) = (method.name, names(methods(), |m| m.warm_start));
            let reason = format!("training of {name} cannot start from a trained model; that of these can: {those}");
            return Err(Error::Argument { name: "init", reason });
        }
        Ok(())
    }

    /// Share of the defective test images that a supervised method learns from.
    pub(super) fn share_of_defective(&self) -> f64 {
        self.defective_share.unwrap_or(DEFECTIVE_SHARE)
    }

    /// Does everything: [`TrainJob::select`], then [`TrainJob::train`].
    ///
    /// # Errors
    /// Those of both.
    pub fn run(&self, observer: &dyn Observer) -> Result<Model> {
        run_job(observer, || self.train(&self.select(observer)?, observer))
    }

    /// Chooses the images that are learned from and held out, and says how many.
    ///
    /// # Errors
    /// A field out of range, a file in the way of the model, a data set, member or image that cannot be used, or too few images.
    pub fn select(&self, observer: &dyn Observer) -> Result<Selection> {
        self.selection(false, observer)
    }

    /// Chooses all labelled images, for cross-validation; none is held out.
    ///
    /// # Errors
    /// As [`TrainJob::select`].
    pub fn select_all(&self, observer: &dyn Observer) -> Result<Selection> {
        self.selection(true, observer)
    }

    fn selection(&self, cross_validation: bool, observer: &dyn Observer) -> Result<Selection> {
        self.check()?;
        if cross_validation {
            self.cross_validation()?;
        }
        if let Some(out) = &self.out {
            check_free(out)?;
            check_result_file(out, self.begin)?;
        }
        let selection = Selection::new(self, cross_validation, observer)?;
        if let Some(out) = self.out.as_deref().filter(|out| out.exists()) {
            check_no_image(out, &selection)?;
        }
        self.announce(&selection, observer);
        Ok(selection)
    }

    /// Says what is learned from.
    fn announce(&self, selection: &Selection, observer: &dyn Observer) {
        let Selection { train, holdout, defective, parts, .. } = selection;
        let all = train.len() + holdout.len() + defective.len();
        if *parts < all {
            let apart = "the images of a part stay on one side of every split";
            match self.group == GROUP {
                true => {
                    observer.assume(&format!("{all} images are of {parts} parts, by their likeness; {apart}"), "group")
                }
                false => observer.say(&format!("{all} images are of {parts} parts; {apart}")),
            }
        }
        let more = if defective.is_empty() { String::new() } else { format!(", {} defective", defective.len()) };
        observer.say(&format!(
            "{}: {} normal images to learn from{more}, {} held out",
            self.method,
            train.len(),
            holdout.len()
        ));
        let settings = self.settings.to_string().trim().replace('\n', ", ");
        observer.detail(&format!("settings other than the defaults: {settings}"));
        for path in holdout {
            observer.detail(&format!("held out: {}", path.display()));
        }
        for path in defective {
            observer.detail(&format!("defective, learned from: {}", path.display()));
        }
    }

    /// What a method gets to learn from and to compute with.
    pub fn context<'a>(&'a self, selection: &'a Selection, observer: &'a dyn Observer) -> FitContext<'a> {
        let files = |paths: &'a [PathBuf]| ImageFiles::new(paths, selection.roi.as_ref());
        FitContext {
            train: files(&selection.train),
            defective: files(&selection.defective),
            holdout: files(&selection.holdout),
            groups: &selection.groups,
            gray: selection.gray,
            members: &self.members,
            init: selection.init.as_ref(),
            device: &self.device,
            methods: methods(),
            seed: self.seed,
            chosen: &selection.chosen,
            model_path: self.out.as_deref(),
            stage: None,
            resume: self.begin == Begin::Resume,
            observer,
        }
    }

    /// Trains and calibrates on the images that [`TrainJob::select`] has chosen, writes the model and removes its checkpoints.
    ///
    /// # Errors
    /// A precision that is not trained in, images that cannot be read, divergence, a checkpoint of another run, I/O errors, or
    /// [`Error::Interrupted`], which names the checkpoint to continue from.
    pub fn train(&self, selection: &Selection, observer: &dyn Observer) -> Result<Model> {
        check_device(&self.device)?;
        let Some(out) = &self.out else { return self.fit(selection, observer) };
        let _lock = self.begin_at(out)?;
        let trained = self.fit(selection, observer).and_then(|model| model.save(out).map(|()| model));
        let model = trained.map_err(|e| kept(e, out, observer))?;
        remove_checkpoints(out)?;
        Ok(model)
    }

    /// Has the place of the result for this job alone, until what comes back is dropped.
    fn begin_at(&self, out: &Path) -> Result<File> {
        let lock = lock_result(out)?;
        // Another job may have come to its end since the images were selected.
        check_result_file(out, self.begin)?;
        if self.begin == Begin::Over {
            remove_checkpoints(out)?;
        }
        Ok(lock)
    }

    /// How the method is cross-validated.
    fn cross_validation(&self) -> Result<CrossValidation> {
        let method = method(&self.method)?;
        method.cross_validation.ok_or_else(|| {
            let (name, able) = (method.name, names(methods(), |m| m.cross_validation.is_some()));
            let reason = format!("{name} learns from normal images alone; cross-validation is for {able}");
            Error::Argument { name: "folds", reason }
        })
    }

    /// Cross-validates on the images that [`TrainJob::select_all`] has chosen. `watch` sees the table of the folds so far when a
    /// fold is done. With a file to write, which is left to `watch`, checkpoints stand beside it until the table is whole.
    ///
    /// # Errors
    /// As [`TrainJob::train`], too few images for so many folds, or what `watch` reports.
    pub fn cross_validate(
        &self,
        selection: &Selection,
        folds: usize,
        observer: &dyn Observer,
        watch: &dyn Fn(&CrossValidationTable) -> Result<()>,
    ) -> Result<CrossValidationTable> {
        check_device(&self.device)?;
        let run = || self.cross_validation()?(&self.settings, &self.context(selection, observer), folds, watch);
        let Some(out) = &self.out else { return run() };
        let _lock = self.begin_at(out)?;
        let table = run().map_err(|e| kept(e, out, observer))?;
        remove_checkpoints(out)?;
        Ok(table)
    }

    /// Trains and calibrates.
    fn fit(&self, selection: &Selection, observer: &dyn Observer) -> Result<Model> {
        let context = self.context(selection, observer);
        let method = method(&self.method)?;
        let detector = (method.fit)(&self.settings, &context)?;
        observer.say("calibrating on held-out normal images");
        let rule = CalibrationRule {
            image_false_alarm_rate: self.false_alarm_rate,
            pixel_false_alarm_rate: self.pixel_false_alarm_rate,
        };
        let provenance = Provenance {
            seed: self.seed,
            version: env!("CARGO_PKG_VERSION").into(),
            training_list_sha256: selection.sha256.clone(),
            training_images: selection.train.len() + selection.defective.len(),
            learned_images: selection.learned.clone(),
            lists_all_images: selection.lists_all_images,
            bank_images: if method.bank { entries_of(selection) } else { BTreeMap::new() },
            init: selection.init.as_ref().map(|init| Box::new(init.origin())),
            ..Provenance::default()
        };
        let mut model = Model {
            method: method.name,
            detector,
            roi: selection.roi.clone(),
            // Replaced below, where the thresholds are found.
            calibration: Calibration::of_scores(vec![(0.0, 0)], self.false_alarm_rate),
            provenance,
            input_ranges: BTreeMap::new(),
            device: self.device.clone(),
        };
        calibrate(&mut model, context.holdout, &selection.holdout_groups, rule, self.seed, observer)?;
        for warning in &model.calibration.warnings {
            observer.warn(warning);
        }
        if model.detector.bank_takes_holdout() {
            add_holdout(&mut model, selection, observer)?;
        }
        Ok(model)
    }
}

/// Fails for a precision in which nothing is learned.
///
/// # Errors
/// [`Error::Argument`] with the reason.
pub fn check_precision(precision: Precision) -> Result<()> {
    let reason = match precision {
        Precision::F16 => "small gradients vanish in f16; train with tf32 or bf16, score with any",
        Precision::Int8 => "nothing is learned in whole numbers; train in f32, score in int8",
        Precision::F32 | Precision::Tf32 | Precision::Bf16 => return Ok(()),
    };
    Err(Error::Argument { name: "precision", reason: reason.into() })
}

/// Fails for a device that nothing is learned on.
fn check_device(device: &Device) -> Result<()> {
    if device.cpu().is_some() && device.precision() == Precision::Bf16 {
        let reason = "the CPU learns in f32 alone; train in it, score in bf16".into();
        return Err(Error::Argument { name: "precision", reason });
    }
    check_precision(device.precision())
}

/// Fails where a model would be written over an image that it learns from.
fn check_no_image(out: &Path, selection: &Selection) -> Result<()> {
    let Selection { train, holdout, defective, .. } = selection;
    match [train, holdout, defective].into_iter().flatten().any(|image| is_same_file(image, out)) {
        true => Err(Error::Config(format!("{}: is an image that is learned from; name another file", shown(out)))),
        false => Ok(()),
    }
}

/// Names the checkpoint in the error of an interruption; tells after an error that does not name it that there is one to
/// continue from.
fn kept(error: Error, out: &Path, observer: &dyn Observer) -> Error {
    match (checkpoints(out).pop(), error) {
        (Some(path), Error::Interrupted(None)) => Error::Interrupted(Some(path)),
        (Some(path), other)
            if !matches!(
                other,
                Error::Model { .. }
                    | Error::Checkpoint { .. }
                    | Error::OtherRun { .. }
                    | Error::Diverged { .. }
                    | Error::Interrupted(Some(_))
            ) =>
        {
            observer.kept(&path);
            other
        }
        (_, other) => other,
    }
}
