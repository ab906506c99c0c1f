//! `hotad roi`: the region of images that a model looks at.

use hotad_engine::data::roi::Roi;
use hotad_engine::device::Device;
use hotad_engine::model_file::ModelFile;
use hotad_engine::observer::Observer;
use hotad_engine::{Error, Result};
use hotad_models::jobs::{lock_model, save_changed};
use hotad_models::model::Model;
use serde_json::json;
use toml::Table;

use crate::args::{RoiArgs, Shared};
use crate::{OK, output};

/// Prints the region, after changing it where that is asked for.
pub fn run(args: &RoiArgs) -> Result<u8> {
    let roi = match args.clear || !args.set.is_empty() {
        true => change(args)?,
        false if args.out.is_some() => {
            return Err(Error::Config("--out: nothing is changed; --set or --clear says what to write".into()));
        }
        false => unchanged(args)?,
    };
    output::line(&if args.json { json!({ "roi": roi }).to_string() } else { shown(roi.as_ref()) })?;
    Ok(OK)
}

/// The region as text that `--set` takes, where it is no mask.
fn shown(roi: Option<&Roi>) -> String {
    roi.map_or_else(|| "none: all of an image is looked at".into(), ToString::to_string)
}

fn unchanged(args: &RoiArgs) -> Result<Option<Roi>> {
    let file = match args.trust.key()? {
        Some(key) => ModelFile::load_signed(&args.model, &key)?,
        None => ModelFile::load(&args.model)?,
    };
    Ok(file.roi)
}

/// Writes the model with another region.
fn change(args: &RoiArgs) -> Result<Option<Roi>> {
    let terminal = args.quiet.values().terminal;
    let roi = Roi::parse(&args.set)?;
    let out = args.out.as_deref().unwrap_or(&args.model);
    output::changed_file(&args.model, out, args.force)?;
    let _lock = lock_model(out, &terminal)?;
    // Another may have ended meanwhile.
    output::changed_file(&args.model, out, args.force)?;
    let mut model = Model::load_with(&args.model, args.trust.key()?.as_ref(), &Table::new(), &Device::CPU)?;
    if model.roi == roi && args.out.is_none() {
        terminal.say(&format!("{} looks at this region already; nothing is written", args.model.display()));
        return Ok(roi);
    }
    let differs = model.roi != roi;
    model.roi.clone_from(&roi);
    save_changed(&model, out, &terminal)?;
    terminal.say(&format!("wrote {}", out.display()));
    if differs {
        terminal.say("thresholds may have been found with another region of interest; hotad calibrate finds them anew");
    }
    Ok(roi)
}
