//! `hotad eval --shard`.

use std::path::Path;

use hotad_engine::data::groups::Grouping;
use hotad_engine::shard::file;
use hotad_engine::{Error, Result};
use hotad_models::evaluate::Options;
use hotad_models::evaluate::shards::{Listing, Sharded};
use serde_json::json;

use super::{eval, shard};
use crate::args::{Common, EvalArgs};
use crate::{OK, output};

/// Evaluates the test images of a shard and writes its file.
pub fn run(args: &EvalArgs, chosen: (&str, &Path), common: &Common) -> Result<u8> {
    let ([model_path], [data_path]) = (&args.model[..], &args.data[..]) else {
        return Err(Error::Config(
            "--shard: name one --model and one --data; each comparison is a run of its own".into(),
        ));
    };
    let shard = shard::open(chosen)?;
    let (grouping, settings) = (Grouping::of(&args.group)?, eval::settings(&args.set)?);
    let options = [
        ("--set", json!(settings)),
        ("--group", json!(args.group)),
        ("--seed", json!(common.seed)),
        ("--on-broken", json!(shard::name(args.on_broken))),
    ];
    let mut header = shard::header("eval", shard, model_path, &options, common)?;
    let model = common.model_with(model_path, &args.trust, &settings)?;
    let whole = output::data_set(data_path)?;
    let mut data = whole.clone();
    let listing = Listing::narrow(&mut data, shard)?;
    let broken = eval::leave_out_broken(&mut data, args.on_broken)?;
    let bar = eval::progress("scoring", data.test.len(), common);
    let options = Options {
        batch: common.score_batch(),
        corrupt: None,
        grouping: &grouping,
        seed: common.seed,
        seen: &|n| bar.set_position(n as u64),
    };
    let sharded = Sharded::new(&model, &data, &whole, &listing, &options)?;
    sharded.describe(&mut header, broken);
    let path = file::write(chosen.1, &header, |lines| sharded.run(lines))?;
    bar.finish_and_clear();
    shard::say(shard, &path, header.lines, common);
    Ok(OK)
}
