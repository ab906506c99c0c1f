//! `hotad calibrate`: thresholds anew, without training.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::calibration::Calibration;
use hotad_models::jobs::CalibrateJob;

use crate::args::{CalibrateArgs, Common};
use crate::{OK, output};

/// Finds thresholds and writes the model with them.
pub fn run(args: &CalibrateArgs, common: &Common) -> Result<u8> {
    let job = CalibrateJob {
        key: args.trust.key()?,
        out: args.out.clone(),
        force: args.force,
        false_alarm_rate: args.false_alarm_rate,
        pixel_false_alarm_rate: args.pixel_false_alarm_rate,
        f1: args.f1,
        group: args.group.clone(),
        on_broken: args.on_broken,
        batch: common.score_batch(),
        seed: common.seed,
        ..CalibrateJob::new(&args.model, &args.data)
    };
    job.check()?;
    if let Some(out) = &args.out {
        output::changed_file(&args.model, out, args.force)?;
    }
    let job = CalibrateJob { device: common.device()?, ..job };
    let done = job.run(&common.terminal)?;
    common.say(&changed(args.out.as_deref().unwrap_or(&args.model), &done.before, &done.model.calibration));
    Ok(OK)
}

/// What thresholds have become.
fn changed(out: &Path, before: &Calibration, now: &Calibration) -> String {
    format!(
        "wrote {}: image threshold {:.3e} (was {:.3e}; {}), pixel threshold {:.3e} (was {:.3e}; {})",
        out.display(),
        now.image_threshold,
        before.image_threshold,
        now.image_rule,
        now.pixel_threshold,
        before.pixel_threshold,
        now.pixel_rule
    )
}
