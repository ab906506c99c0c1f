//! `hotad export`.

use std::path::Path;

use hotad_engine::device::Device;
use hotad_engine::{Error, Result, atomic_file, container};
use hotad_models::export::{Exported, Port};
use hotad_models::features::backbone::{Backbone, installed, shipped};
use hotad_models::features::settings::Layers;
use hotad_models::model::Model;
use toml::Table;

use crate::OK;
use crate::args::{Common, ExportArgs};
use crate::output;

/// Writes an ONNX file and says what is in it.
pub fn run(args: &ExportArgs, common: &Common) -> Result<u8> {
    output::result_file(&args.out, output::begin(false, args.force))?;
    output::not_over(std::slice::from_ref(&args.onnx), &args.out)?;
    let exported = exported(args, common)?;
    let name = args.onnx.file_stem().unwrap_or_default().to_string_lossy();
    let bytes = exported.file(&name);
    // Others read no message that is longer.
    if i32::try_from(bytes.len()).is_err() {
        let reason = "its network takes more than the 2 GiB that an ONNX file may have".into();
        return Err(Error::Model { path: args.onnx.clone(), reason });
    }
    atomic_file::write(&args.out, |file| file.write_all(&bytes))?;
    common.say(&format!("{}: wrote {}", exported.holds, args.out.display()));
    if !exported.left_out.is_empty() {
        common.say(&format!("left out: {}", exported.left_out));
    }
    let ports = [("input", exported.graph.inputs()), ("output", exported.graph.outputs())];
    ports
        .iter()
        .flat_map(|(what, ports)| ports.iter().map(move |port| line(what, port)))
        .try_for_each(|l| output::line(&l))?;
    Ok(OK)
}

/// A line about a tensor of the file.
fn line(what: &str, port: &Port) -> String {
    let extents: String = port.extents.iter().map(|e| format!(" x {e}")).collect();
    format!("{what:7} {:16} n{extents}", port.name)
}

/// The network of a model file, or the trunk of a backbone up to where it is usually cut.
fn exported(args: &ExportArgs, common: &Common) -> Result<Exported> {
    let (given, device) = (args.onnx.as_path(), Device::CPU);
    if given.exists() && container::kind(given)?.as_deref() == Some("model") {
        let model = Model::load_with(given, args.trust.key()?.as_ref(), &Table::new(), &device)?;
        if let Some(roi) = &model.roi {
            let what = "images have to be cropped to it, and gray outside, before the file takes them";
            common.say(&format!("region of interest {roi}: {what}"));
        }
        return model.export();
    }
    if args.trust.key()?.is_some() {
        let reason = "--verify-key is for model files; a backbone file has no signature that is looked at".into();
        return Err(Error::Model { path: given.into(), reason });
    }
    let (backbone, cuts) = backbone(given, &device)?;
    backbone.export(&cuts)
}

fn backbone(given: &Path, device: &Device) -> Result<(Backbone, Vec<usize>)> {
    let layers = Layers::Word("auto".into());
    match installed::find(&given.to_string_lossy()) {
        Err(_) if given == Path::new(shipped::NAME) => Backbone::shipped(None, &layers, device),
        found => Backbone::open(&found?, None, &layers, device),
    }
}
