//! `hotad info`.

use hotad_engine::Result;
use hotad_engine::model_file::ModelFile;
use hotad_models::config::Sides;
use hotad_models::features::backbone::Network;
use serde_json::{Map, Value, json};

use crate::args::InfoArgs;
use crate::{OK, output};

/// The layers that feature maps are taken at, of the first source.
fn layers(embedding: &Value) -> Option<Value> {
    let network: Network = serde_json::from_value(embedding["sources"][0]["network"].clone()).ok()?;
    let all = network.trunk().cuts();
    let name = |cut: &Value| all.get(usize::try_from(cut.as_u64()?).ok()?).map(|c| json!(c));
    embedding["cuts"][0].as_array()?.iter().map(name).collect()
}

/// What has been chosen for a setting, where the file tells.
fn chosen(file: &ModelFile, key: &str) -> Option<Value> {
    let (config, image) = (&file.config, file.image);
    let source = &config["embedding"]["sources"][0];
    match key {
        "channels" => Some(json!(image.channels)),
        "image_size" => Some(json!(Sides::from(image))),
        "backbone" => source.get("network").cloned(),
        "layers" => layers(&config["embedding"]),
        _ => config.get(key).filter(|v| v.is_number()).cloned(),
    }
}

/// The settings that were `"auto"`, with what has been chosen for them.
fn choices(file: &ModelFile) -> Map<String, Value> {
    // PAEDID over I3AD has settings of both.
    let settings = ["decomposition", "settings"].into_iter().filter_map(|part| file.config[part].as_object());
    let auto = settings.flatten().filter(|(_, value)| *value == "auto");
    auto.filter_map(|(key, _)| Some((key.clone(), chosen(file, key)?))).collect()
}

/// A setting as it is shown: fractions in single precision, in which they are kept.
fn shown(value: &Value) -> String {
    match value.as_f64().filter(|_| value.is_f64()) {
        Some(fraction) => (fraction as f32).to_string(),
        None => value.to_string(),
    }
}

/// Prints what a model file holds.
pub fn run(args: &InfoArgs) -> Result<u8> {
    let file = match args.trust.key()? {
        Some(key) => ModelFile::load_signed(&args.model, &key)?,
        None => ModelFile::load(&args.model)?,
    };
    if args.json {
        output::line(&as_json(&file).to_string())?;
    } else {
        describe(&file, args.verbose)?;
    }
    Ok(OK)
}

fn as_json(file: &ModelFile) -> Value {
    let tensors: Map<_, _> = file.tensors.iter().map(|(name, t)| (name.clone(), json!(t.shape()))).collect();
    json!({
        "method": file.method,
        "image": file.image,
        "roi": file.roi,
        "config": file.config,
        "chosen": choices(file),
        "calibration": file.calibration,
        "provenance": file.provenance,
        "tensors": tensors,
    })
}

fn describe(file: &ModelFile, tensors: bool) -> Result<()> {
    let (image, c, p) = (file.image, &file.calibration, &file.provenance);
    output::line(&format!("method           {}", file.method))?;
    output::line(&format!("images           {}x{}, {} channel(s)", image.height, image.width, image.channels))?;
    if let Some(roi) = &file.roi {
        output::line(&format!("region           {roi}"))?;
    }
    output::line(&format!(
        "image threshold  {} (false-alarm rate {}, {} held-out images)",
        c.image_threshold, c.image_false_alarm_rate, c.images
    ))?;
    output::line(&format!("pixel threshold  {} ({})", c.pixel_threshold, c.pixel_rule))?;
    output::line(&format!("trained by       hotad {}, seed {}, {} images", p.version, p.seed, p.training_images))?;
    output::line(&format!("training list    sha256 {}", p.training_list_sha256))?;
    if let Some(init) = &p.init {
        output::line(&format!("started from     {}, sha256 {}", init.file, init.sha256))?;
    }
    let choices = choices(file);
    for (key, value) in file.config["settings"].as_object().into_iter().flatten() {
        match choices.get(key) {
            Some(chosen) => output::line(&format!("  {key} = {} (auto)", shown(chosen)))?,
            None => output::line(&format!("  {key} = {}", shown(value)))?,
        }
    }
    if tensors {
        for (name, tensor) in &file.tensors {
            output::line(&format!("  tensor {name} {:?}", tensor.shape()))?;
        }
    } else {
        let values: usize = file.tensors.values().map(|t| t.shape().iter().product::<usize>()).sum();
        output::line(&format!("tensors          {}, {values} values; -v lists them", file.tensors.len()))?;
    }
    Ok(())
}
