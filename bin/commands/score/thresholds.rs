//! Thresholds in place of those of the model.

use std::path::Path;

use hotad_engine::calibration::Calibration;
use hotad_engine::{Error, Result, input_file};
use serde::Deserialize;

use crate::args::Thresholds;

/// What is read of a threshold file; other keys are left alone, so that the output of `eval --json` serves as one.
#[derive(Deserialize)]
struct File {
    image_threshold: Option<f32>,
    pixel_threshold: Option<f32>,
}

fn read(path: &Path) -> Result<File> {
    let text = input_file::text(path)?;
    let refuse = |reason: String| Error::Config(format!("--threshold-file {}: {reason}", path.display()));
    let wanted = "expected a JSON object with image_threshold, pixel_threshold or both";
    let file: File = serde_json::from_str(&text).map_err(|e| refuse(format!("{wanted} ({e})")))?;
    let given = [file.image_threshold, file.pixel_threshold];
    if given.iter().all(Option::is_none) || given.iter().flatten().any(|v| !v.is_finite()) {
        return Err(refuse(wanted.into()));
    }
    Ok(file)
}

/// Puts given thresholds into a calibration; what is named on the command line goes before the file.
pub fn set(calibration: &mut Calibration, given: &Thresholds) -> Result<()> {
    let file = given.threshold_file.as_deref().map(read).transpose()?;
    let (image, pixel) = file.map_or((None, None), |f| (f.image_threshold, f.pixel_threshold));
    let own = (calibration.image_threshold, calibration.pixel_threshold);
    calibration.image_threshold = given.threshold.or(image).unwrap_or(own.0);
    calibration.pixel_threshold = given.pixel_threshold.or(pixel).unwrap_or(own.1);
    Ok(())
}
