//! `hotad score --shard`.

use std::path::{Path, PathBuf};

use hotad_engine::Result;
use hotad_engine::data::left_out::LeftOut;
use hotad_engine::shard::file::{self, At, Header};
use hotad_engine::shard::{Shard, listing_sha256};
use serde::{Deserialize, Serialize};
use serde_json::json;
use serde_json::value::RawValue;

use super::{Outcome, Run};
use crate::OK;
use crate::args::{Common, ScoreArgs};
use crate::commands::shard;

/// A line of output in a file.
#[derive(Serialize, Deserialize)]
pub struct ScoreLine {
    /// Whether it says that a file counts as broken.
    pub broken: bool,
    /// As `score` prints it.
    pub line: Box<RawValue>,
}

/// What files fall to a shard, by the paths that a user has named.
pub struct Selection<'a> {
    named: &'a [PathBuf],
    shard: Shard,
}

impl<'a> Selection<'a> {
    /// As the options say; makes the folder of results.
    pub fn open(args: &'a ScoreArgs, chosen: (&str, &Path)) -> Result<Self> {
        Ok(Self { named: &args.paths, shard: shard::open(chosen)? })
    }

    /// A path relative to the named folder that it is in; of a named file its name.
    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        let inside = self.named.iter().filter_map(|named| path.strip_prefix(named).ok());
        match inside.min_by_key(|relative| relative.components().count()) {
            Some(relative) if relative != Path::new("") => relative,
            _ => Path::new(path.file_name().unwrap_or_default()),
        }
    }

    /// Whether a file falls to the shard.
    pub fn takes(&self, path: &Path) -> bool {
        self.shard.takes(self.relative(path))
    }

    /// Says in a header which files all shards are of.
    fn describe(&self, header: &mut Header, images: &[PathBuf], left_out: &[LeftOut]) -> Result<()> {
        let all = || images.iter().chain(left_out.iter().map(|file| &file.path));
        header.listing = listing_sha256(all().map(|path| (self.relative(path), path.as_path(), "")))?;
        header.files = all().count();
        header.lines = all().filter(|path| self.takes(path)).count();
        Ok(())
    }
}

/// Scores the images of a shard and writes its file.
pub fn run(mut run: Run, folder: &Path, selection: &Selection, common: &Common) -> Result<u8> {
    let args = run.args;
    let calibration = &run.model.calibration;
    let options = [
        ("--on-broken", json!(args.on_broken.name())),
        ("--threshold", json!(calibration.image_threshold)),
        ("--pixel-threshold", json!(calibration.pixel_threshold)),
        ("--out", json!(args.out)),
        ("--maps", json!(args.maps.extension())),
        ("--explain", json!(args.explain)),
    ];
    let mut header = shard::header("score", selection.shard, &args.model, &options, common)?;
    selection.describe(&mut header, run.paths, run.left_out)?;
    let path = file::write(folder, &header, |lines| {
        run.all(common.score_batch(), Some(selection), &mut |Outcome { at, broken, line }| {
            let line = RawValue::from_string(line).expect("a line is JSON");
            lines.add(&At { at, result: ScoreLine { broken, line } })
        })
    })?;
    shard::say(selection.shard, &path, header.lines, common);
    Ok(OK)
}
