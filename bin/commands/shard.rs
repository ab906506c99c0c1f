//! What commands that run in shards have in common.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::data::prepare::file_sha256;
use hotad_engine::shard::Shard;
use hotad_engine::shard::file::Header;
use serde_json::Value;

use crate::args::Common;
use crate::output;

/// The shard that was asked for; makes its folder.
pub fn open((shard, folder): (&str, &Path)) -> Result<Shard> {
    let shard = Shard::of(shard, |name| std::env::var(name).ok())?;
    output::folder(folder)?;
    Ok(shard)
}

/// The header of a file of results, but for what they are of.
pub fn header(command: &str, shard: Shard, model: &Path, options: &[(&str, Value)], common: &Common) -> Result<Header> {
    let mut header = Header::new(command, shard);
    header.model = file_sha256(model)?;
    header.options.extend(options.iter().map(|(name, value)| (name.to_string(), value.clone())));
    header.options.insert("--precision".into(), common.precision.clone().into());
    Ok(header)
}

/// Says where results are.
pub fn say(shard: Shard, path: &Path, lines: usize, common: &Common) {
    common.say(&format!("shard {shard}: {lines} results in {}", path.display()));
}
