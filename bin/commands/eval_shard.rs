//! `hotad eval --shard`.

use std::path::Path;

use hotad_engine::data::groups::Grouping;
use hotad_engine::observer::Task;
use hotad_engine::shard::file;
use hotad_engine::{Error, Result};
use hotad_models::evaluate::EvaluateOptions;
use hotad_models::evaluate::shards::{Listing, Sharded};
use hotad_models::jobs::{TestImages, data_set};
use serde_json::json;

use super::{eval, shard};
use crate::OK;
use crate::args::{Common, EvalArgs};

/// Evaluates the test images of a shard and writes its file.
pub fn run(args: &EvalArgs, chosen: (&str, &Path), common: &Common) -> Result<u8> {
    let ([model_path], [data_path]) = (&args.model[..], &args.data[..]) else {
        return Err(Error::Config(
            "--shard: name one --model and one --data; each comparison is a run of its own".into(),
        ));
    };
    let shard = shard::open(chosen)?;
    let (grouping, job) = (Grouping::of(&args.group)?, eval::job(args, model_path, data_path, common)?);
    let options = [
        ("--set", json!(job.settings)),
        ("--group", json!(args.group)),
        ("--seed", json!(common.seed)),
        ("--on-broken", json!(args.on_broken.name())),
    ];
    let mut header = shard::header("eval", shard, model_path, &options, common)?;
    let model = job.load()?;
    let whole = data_set(data_path, &common.terminal)?;
    let mut data = whole.clone();
    let listing = Listing::narrow(&mut data, shard)?;
    let TestImages { data, broken } = TestImages::of(data, args.on_broken, &common.terminal)?;
    let task = Task::new(&common.terminal, "scoring", data.test.len() as u64, "images");
    let options = EvaluateOptions {
        batch: common.score_batch(),
        corrupt: None,
        grouping: &grouping,
        seed: common.seed,
        keep_maps: 0,
        seen: &|n| task.at(n as u64),
    };
    let sharded = Sharded::new(&model, &data, &whole, &listing, &options)?;
    sharded.describe(&mut header, broken);
    let path = file::write(chosen.1, &header, |lines| sharded.run(lines))?;
    drop(task);
    shard::say(shard, &path, header.lines, common);
    Ok(OK)
}
