//! What programs do with data sets and model files: [`TrainJob`], [`CalibrateJob`] and [`EvaluateJob`]. The command line, other
//! bindings and tests call the same code.
//!
//! A job is a plain description with the defaults of the command line. What it does while it runs goes to an
//! [`Observer`], which can also stop it.

mod bank;
mod calibrate;
mod evaluate;
mod model_file;
mod result_file;
mod selection;
mod train;

use std::path::Path;

use hotad_engine::data::notices;
use hotad_engine::data::prepare::{self, OnBroken, Prepared};
use hotad_engine::data::roi::Roi;
use hotad_engine::data::{Dataset, Item};
use hotad_engine::observer::Observer;
use hotad_engine::threads::check_process;
use hotad_engine::{Error, Result};

use crate::config::Interval;

pub use calibrate::{CalibrateJob, Calibrated};
pub use evaluate::{EvaluateJob, TestImages, note};
pub use model_file::{check_changed, check_free, is_same_file, lock_model, lock_result, save_changed};
pub use result_file::{Begin, Conflict, check_result_file};
pub use selection::Selection;
pub use train::{DEFECTIVE_SHARE, HOLDOUT, TrainJob, check_precision};

/// Which images are of one part, unless told otherwise: near-duplicates are found.
pub const GROUP: &str = "auto";

/// What is done with an image that cannot be decoded, unless told otherwise.
pub const ON_BROKEN: OnBroken = OnBroken::Refuse;

/// Share of normal images that may be called anomalies, unless told otherwise.
pub const FALSE_ALARM_RATE: f64 = 0.01;

/// Seed of every random choice, unless told otherwise.
pub const SEED: u64 = 0;

/// Images scored together, unless told otherwise.
pub const SCORE_BATCH: usize = 8;

/// Most images of one step, or scored together.
pub const MOST_BATCH: u16 = 1024;

/// Does a whole job, in a process that can; what images gave notice of is told at its end.
fn run_job<T>(observer: &dyn Observer, job: impl FnOnce() -> Result<T>) -> Result<T> {
    check_process(None)?;
    notices::forget();
    let result = job();
    notices::take().iter().for_each(|notice| observer.warn(notice));
    result
}

/// Fails unless a share is above 0 and below 1; `name` is that of the field.
fn check_share(name: &'static str, value: f64) -> Result<()> {
    let allowed = Interval::Open(0.0, 1.0);
    match allowed.contains(&value) {
        true => Ok(()),
        false => Err(Error::Argument { name, reason: format!("{value} is out of range; allowed: {allowed}") }),
    }
}

/// Opens a data set and warns of what the user should know about it.
///
/// # Errors
/// When the folder is missing, holds no images, or its masks do not belong to its images.
pub fn data_set(root: &Path, observer: &dyn Observer) -> Result<Dataset> {
    let data = Dataset::open(root)?;
    data.warnings.iter().for_each(|warning| observer.warn(warning));
    Ok(data)
}

/// Looks at every image once, within a region or at all of it; warns of those that were skipped, and of what the user should know about the others.
///
/// # Errors
/// The first file in order that is broken, or that the region does not lie in, under [`OnBroken::Refuse`].
pub fn prepare(items: &[Item], roi: Option<&Roi>, on_broken: OnBroken, observer: &dyn Observer) -> Result<Prepared> {
    let prepared = prepare::prepare(items, roi, on_broken)?;
    prepared.skipped.iter().for_each(|error| observer.skipped(error));
    prepared.warnings.iter().for_each(|warning| observer.warn(warning));
    Ok(prepared)
}
