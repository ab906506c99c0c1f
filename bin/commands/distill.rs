//! `hotad distill`.

use std::path::PathBuf;

use hotad_engine::beside::beside;
use hotad_engine::data::Item;
use hotad_engine::data::prepare::{Prepared, list_sha256};
use hotad_engine::{AtPath, Error, Result};
use hotad_models::config::Settings;
use hotad_models::distill::{Config, HintChoice, Job, distill};
use hotad_models::features::backbone::{installed, shipped};
use hotad_models::jobs::{check_free, lock_result, prepare};

use crate::OK;
use crate::args::{Common, DistillArgs, Hints};
use crate::output;

/// All images under the given paths, each looked at once.
fn images(args: &DistillArgs, common: &Common) -> Result<Prepared> {
    let item = |(path, _)| Item { path, kind: String::new(), defective: false, masks: Vec::new() };
    let items: Vec<Item> = output::collect_images(&args.images)?.into_iter().map(item).collect();
    let prepared = prepare(&items, None, args.on_broken, &common.terminal)?;
    if prepared.items.is_empty() {
        let reason = "no images found; expected PNG, JPEG, BMP or TIFF files, in folders within it too";
        return Err(Error::Data { path: args.images[0].clone(), reason: reason.into() });
    }
    Ok(prepared)
}

/// The weight file of a teacher.
fn teacher(name: &str) -> Result<PathBuf> {
    installed::find(name).map_err(|error| match name == shipped::NAME {
        true => Error::Config(format!("--teacher {name}: is part of hotad; name the file of a larger network")),
        false => error,
    })
}

/// Trains a student and writes its backbone file.
pub fn run(args: &DistillArgs, common: &Common) -> Result<u8> {
    let config = Config {
        cuts: args.cuts.clone(),
        expansion: args.expansion,
        hints: match args.hints {
            Hints::Layers => HintChoice::Layers,
            Hints::Blocks => HintChoice::Blocks,
            Hints::Cuts => HintChoice::Cuts,
        },
        apart: args.apart,
        steps: args.steps,
        batch: common.batch.map_or(Config::default().batch, usize::from),
        crop: args.crop,
        lr: args.lr,
    };
    config.check()?;
    check_free(&args.out)?;
    output::result_file(&args.out, output::begin(args.resume, args.force))?;
    let teacher = teacher(&args.teacher)?;
    if teacher.is_dir() {
        let reason = "a folder cannot be told from another when a run is resumed; give the weight file in it";
        return Err(Error::Config(format!("--teacher {}: {reason}", teacher.display())));
    }
    let prepared = images(args, common)?;
    let paths: Vec<PathBuf> = prepared.items.iter().map(|i| i.path.clone()).collect();
    let small = prepared.smaller(args.crop);
    let enlarged =
        if small > 0 { format!(", {small} of them smaller than a view and enlarged") } else { String::new() };
    common.say(&format!("distilling {} on {} images{enlarged}", args.teacher, paths.len()));
    let device = common.device()?;
    let _lock = lock_result(&args.out)?;
    // Another may have ended meanwhile.
    output::result_file(&args.out, output::begin(args.resume, args.force))?;
    let beside = |ending| beside(&args.out, ending);
    let (checkpoint, log) = (beside(".checkpoint"), beside(".log.jsonl"));
    let job = Job {
        teacher: &teacher,
        start: args.start.as_deref(),
        images: &paths,
        list_sha256: &list_sha256(&prepared.hashes),
        device: &device,
        seed: common.seed,
        checkpoint: &checkpoint,
        log: &log,
        resume: args.resume,
        observer: &common.terminal,
    };
    distill(&config, &job)?.write(&args.out, args.half)?;
    std::fs::remove_file(&checkpoint).at(&checkpoint)?;
    common.say(&format!("wrote {}", args.out.display()));
    Ok(OK)
}
