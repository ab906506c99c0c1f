//! `hotad merge`.

use std::path::{Path, PathBuf};

use hotad_engine::data::prepare::file_sha256;
use hotad_engine::device::Device;
use hotad_engine::shard::file::{ShardFile, merged, open_all};
use hotad_engine::{AtPath, Error, Result, atomic_file};
use hotad_models::evaluate::shards;
use hotad_models::jobs::note;
use hotad_models::model::Model;
use toml::Table;

use super::score;
use crate::args::MergeArgs;
use crate::{ERROR, OK, output, report};

/// Prints or writes what one run would have printed.
pub fn run(args: &MergeArgs) -> Result<u8> {
    if let Some(out) = &args.out {
        output::result_file(out, output::begin(false, args.force))?;
    }
    let shards = shard_files(&args.shards)?;
    if let Some(out) = &args.out {
        output::not_over(&shards, out)?;
    }
    let files = open_all(&shards)?;
    match files[0].header.command.as_str() {
        "eval" => eval(args, &files),
        "score" if args.report.is_some() => {
            Err(Error::Config("--report: these are shards of `hotad score`; reports are of `hotad eval`".into()))
        }
        "score" => scores(args, &files),
        other => Err(Error::Config(format!("shards of {other:?} cannot be merged by this hotad; update hotad"))),
    }
}

/// Files as named, and the shards in folders.
fn shard_files(paths: &[PathBuf]) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for path in paths {
        if !path.is_dir() {
            files.push(path.clone());
            continue;
        }
        let entries = std::fs::read_dir(path).at(path)?.map(|entry| Ok(entry?.path()));
        let entries = entries.collect::<std::io::Result<Vec<PathBuf>>>().at(path)?;
        let mut found: Vec<PathBuf> =
            entries.into_iter().filter(|e| e.extension().is_some_and(|e| e == "shard")).collect();
        if found.is_empty() {
            return Err(Error::Data {
                path: path.clone(),
                reason: "holds no shards (files that end in .shard)".into(),
            });
        }
        found.sort();
        files.extend(found);
    }
    Ok(files)
}

/// Hands lines to `--out`, which appears whole or not at all, or to stdout.
fn deliver(args: &MergeArgs, fill: impl FnOnce(&mut dyn FnMut(&str) -> Result<()>) -> Result<()>) -> Result<()> {
    let Some(out) = &args.out else { return fill(&mut output::line) };
    let mut failed = None;
    let written = atomic_file::write(out, |file| {
        let mut line = |text: &str| writeln!(file, "{text}").at(out);
        fill(&mut line).map_err(|error| {
            failed = Some(error);
            std::io::Error::other("not written")
        })
    });
    failed.map_or(written, Err)
}

fn eval(args: &MergeArgs, files: &[ShardFile]) -> Result<u8> {
    let settings = files[0].header.options.get("--set").cloned().unwrap_or_default();
    let settings: Table =
        serde_json::from_value(settings).map_err(|e| Error::Config(format!("--set of a shard: {e}")))?;
    let model = args.model.as_ref().map(|model| of_shards(model, &settings, files)).transpose()?;
    let report = args.report.as_ref().zip(model);
    if let Some((folder, _)) = &report {
        output::folder(folder)?;
    }
    let keep_maps = if report.is_some() { args.images.into() } else { 0 };
    let shards::Merged { mut evaluation, broken } = shards::merge(files, keep_maps)?;
    note(&mut evaluation.metrics, broken, &settings);
    deliver(args, |line| line(&serde_json::to_string(&evaluation.metrics).expect("metrics are plain data")))?;
    if let Some((folder, model)) = &report {
        report::write(folder, model, &evaluation, args.images.into(), None)?;
    }
    Ok(OK)
}

/// The model that shards are of, under the settings that they were scored with.
fn of_shards(path: &Path, settings: &Table, files: &[ShardFile]) -> Result<Model> {
    if file_sha256(path)? != files[0].header.model {
        let reason = "not the model that the shards are of, whose SHA-256 their first lines name";
        return Err(Error::Model { path: path.into(), reason: reason.into() });
    }
    Model::load_with(path, None, settings, &Device::CPU)
}

fn scores(args: &MergeArgs, files: &[ShardFile]) -> Result<u8> {
    let mut broken = false;
    deliver(args, |line| {
        merged(files, |result: score::ScoreLine| {
            broken |= result.broken;
            line(result.line.get())
        })
    })?;
    // As the run itself would have ended.
    Ok(if broken && files[0].header.options.get("--on-broken").is_some_and(|v| v == "refuse") { ERROR } else { OK })
}
