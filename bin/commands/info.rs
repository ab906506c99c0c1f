//! `hotad info`.

use hotad_engine::Result;
use hotad_engine::model_file::ModelFile;
use serde_json::json;

use crate::args::InfoArgs;
use crate::{OK, output};

/// Prints what a model file holds.
pub fn run(args: &InfoArgs) -> Result<u8> {
    let file = ModelFile::load(&args.model)?;
    let tensors: serde_json::Map<_, _> =
        file.tensors.iter().map(|(name, t)| (name.clone(), json!(t.shape()))).collect();
    if args.json {
        let all = json!({
            "method": file.method,
            "image": file.image,
            "config": file.config,
            "calibration": file.calibration,
            "provenance": file.provenance,
            "tensors": tensors,
        });
        output::line(&all.to_string())?;
        return Ok(OK);
    }
    let (image, c, p) = (file.image, &file.calibration, &file.provenance);
    output::line(&format!("method           {}", file.method))?;
    output::line(&format!("images           {}x{}, {} channel(s)", image.height, image.width, image.channels))?;
    output::line(&format!(
        "image threshold  {} (false-alarm rate {}, {} held-out images)",
        c.image_threshold, c.image_false_alarm_rate, c.images
    ))?;
    output::line(&format!("pixel threshold  {} ({})", c.pixel_threshold, c.pixel_rule))?;
    output::line(&format!("trained by       hotad {}, seed {}, {} images", p.version, p.seed, p.training_images))?;
    output::line(&format!("training list    sha256 {}", p.training_list_sha256))?;
    if let Some(settings) = file.config["settings"].as_object() {
        for (key, value) in settings {
            output::line(&format!("  {key} = {value}"))?;
        }
    }
    for (name, shape) in tensors {
        output::line(&format!("  tensor {name} {shape}"))?;
    }
    Ok(OK)
}
