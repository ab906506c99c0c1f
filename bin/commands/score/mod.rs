//! `hotad score`.

mod pictures;
mod shard;
mod thresholds;

use std::path::{Path, PathBuf};
use std::time::Instant;

use hotad_engine::data::collect::{Collected, collect_images};
use hotad_engine::data::left_out::{LeftOut, Reason};
use hotad_engine::data::loader::{Batch, BatchFile, Images, Loaded, for_each_loaded};
use hotad_engine::data::prepare::OnBroken;
use hotad_engine::{Error, Result};
use hotad_models::detector::Score;
use hotad_models::model::Model;
use serde::Serialize;

use crate::args::{Common, ScoreArgs};
use crate::{ANOMALY, ERROR, OK, output};
use pictures::Folder;
pub use shard::ScoreLine;
use shard::Selection;

/// One line of output for an image that was scored.
#[derive(Serialize)]
struct Line {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    score: f32,
    threshold: f32,
    calibrated: f32,
    label: &'static str,
    map: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    map_bytes: Option<String>,
    ms: f64,
}

/// One line of output for an image that was not.
#[derive(Serialize)]
struct BrokenLine {
    path: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    error: String,
}

/// An image that was scored.
struct Scored {
    score: Score,
    file: BatchFile,
    ms: f64,
}

fn json(line: &impl Serialize) -> String {
    serde_json::to_string(line).expect("a line is plain data")
}

/// A run over images, and what it has seen so far.
struct Run<'a> {
    args: &'a ScoreArgs,
    model: &'a Model,
    images: &'a [(PathBuf, String)],
    paths: &'a [PathBuf],
    left_out: &'a [LeftOut],
    folder: Option<Folder<'a>>,
    anomaly: bool,
    /// Files that count as broken.
    broken: usize,
}

/// A line of output.
struct Outcome {
    /// Its number: images come first, then the files that were left out.
    at: usize,
    /// Whether the file counts as broken.
    broken: bool,
    line: String,
}

/// Takes the lines of a run.
type Take<'a> = &'a mut dyn FnMut(Outcome) -> Result<()>;

impl Run<'_> {
    /// Scores all images that can be decoded, one line of output each; the others, and at the end the files that were left out,
    /// get one that says why.
    fn all(&mut self, batch: usize, selection: Option<&Selection>, take: Take) -> Result<()> {
        let own = |path: &Path| selection.is_none_or(|s| s.takes(path));
        let order: Vec<usize> = (0..self.paths.len()).filter(|i| own(&self.paths[*i])).collect();
        let images = Images::new(self.model.files(self.paths), self.model.detector.image());
        let images = images.with_originals(self.folder.is_some());
        for_each_loaded(&images, &order, batch, |loaded| {
            hotad_engine::interrupt::check()?;
            self.report(loaded, take)
        })?;
        let (left_out, images) = (self.left_out, self.paths.len());
        for (i, file) in left_out.iter().enumerate().filter(|(_, file)| own(&file.path)) {
            let before = self.broken;
            let line = self.left_out_line(file);
            take(Outcome { at: images + i, broken: self.broken > before, line })?;
        }
        Ok(())
    }

    /// Reports some images, in their order.
    fn report(&mut self, loaded: Loaded, take: Take) -> Result<()> {
        let mut outcomes: Vec<(usize, Result<Scored>)> = loaded.broken.into_iter().map(|(i, e)| (i, Err(e))).collect();
        if let Some(batch) = loaded.batch {
            outcomes.extend(self.scored(batch)?);
        }
        outcomes.sort_by_key(|(index, _)| *index);
        for (at, outcome) in outcomes {
            let broken = outcome.is_err();
            let line = match outcome {
                Ok(scored) => self.line(at, scored)?,
                Err(error) => self.broken_line(&self.paths[at], &error),
            };
            take(Outcome { at, broken, line })?;
        }
        Ok(())
    }

    fn scored(&mut self, batch: Batch) -> Result<Vec<(usize, Result<Scored>)>> {
        let started = Instant::now();
        let scores = self.model.score_files(&batch)?;
        let ms = started.elapsed().as_secs_f64() * 1e3 / scores.len() as f64;
        self.anomaly |= scores.iter().flatten().any(|s| s.value > self.model.calibration.image_threshold);
        if let Some(folder) = &self.folder {
            folder.write_recoloured(self.model, &batch, self.images)?;
            folder.write_steps(self.model, &batch, self.images)?;
        }
        let scored =
            |(score, file): (Result<Score>, BatchFile)| (file.index, score.map(|score| Scored { score, file, ms }));
        Ok(scores.into_iter().zip(batch.files).map(scored).collect())
    }

    fn line(&self, index: usize, Scored { score, file, ms }: Scored) -> Result<String> {
        let (path, value, calibration) = (&self.paths[index], score.value, &self.model.calibration);
        let map = match &self.folder {
            Some(folder) => folder.write(self.model, &self.images[index].1, file, score)?,
            None => None,
        };
        Ok(json(&Line {
            path: path.to_string_lossy().into(),
            path_bytes: output::bytes_of(path),
            score: value,
            threshold: calibration.image_threshold,
            calibrated: calibration.calibrated(value),
            label: if value > calibration.image_threshold { "anomaly" } else { "normal" },
            map_bytes: map.as_deref().and_then(output::bytes_of),
            map: map.map(|m| m.to_string_lossy().into()),
            ms: (ms * 1e3).round() / 1e3,
        }))
    }

    /// The line of an image that counts as broken.
    fn broken_line(&mut self, path: &Path, error: &Error) -> String {
        self.broken += 1;
        unseen_line(path, error, self.args.on_broken)
    }

    /// The line of a file that was left out. Types that are not read are no failure, but the gate does not pass them.
    fn left_out_line(&mut self, file: &LeftOut) -> String {
        match file.reason == Reason::OtherType && !self.args.fail_on_anomaly {
            true => unseen_line(&file.path, &file.error(), OnBroken::Skip),
            false => self.broken_line(&file.path, &file.error()),
        }
    }

    /// The exit code. Nothing that was not looked at passes the gate.
    fn code(&self) -> Result<u8> {
        match (self.broken > 0, self.args.on_broken) {
            (true, OnBroken::Refuse) => Ok(ERROR),
            _ if !self.args.fail_on_anomaly => Ok(OK),
            _ if self.anomaly => Ok(ANOMALY),
            (true, OnBroken::Skip) => {
                let reason =
                    "without an anomaly in the others, --fail-on-anomaly cannot pass them; look at these yourself";
                Err(Error::Config(format!("{} images were skipped: {reason}", self.broken)))
            }
            (false, _) => Ok(OK),
        }
    }
}

/// Names an image that was not scored on stderr; returns its line of output.
fn unseen_line(path: &Path, error: &Error, on_broken: OnBroken) -> String {
    let error = output::told(error);
    match on_broken {
        OnBroken::Refuse => output::note(&format!("hotad: error: {error}")),
        OnBroken::Skip => output::warn(&format!("skipped {error}")),
    }
    json(&BrokenLine { path: path.to_string_lossy().into(), path_bytes: output::bytes_of(path), error })
}

/// Names a folder that no image comes from: a gate must not pass what it has not seen.
fn check_empty(args: &ScoreArgs, empty: &[PathBuf]) -> Result<()> {
    let Some(path) = empty.first() else { return Ok(()) };
    let found = format!("{}: no images found; expected PNG, JPEG, BMP or TIFF files", path.display());
    if args.fail_on_anomaly && !args.allow_empty {
        return Err(Error::Config(format!("{found} (--allow-empty lets pass a path without images)")));
    }
    output::warn(&found);
    Ok(())
}

/// Scores images, one JSON object a line.
pub fn run(args: &ScoreArgs, common: &Common) -> Result<u8> {
    let mut model = common.model(&args.model, &args.trust)?;
    thresholds::set(&mut model.calibration, &args.thresholds)?;
    if args.explain {
        model.explainable()?.explanation()?;
    }
    let Collected { images, left_out, empty } = collect_images(&args.paths)?;
    let paths: Vec<PathBuf> = images.iter().map(|(path, _)| path.clone()).collect();
    check_empty(args, &empty)?;
    let chosen = args.shards.chosen();
    let selection = chosen.map(|chosen| Selection::open(args, chosen)).transpose()?;
    let own = |path: &Path| selection.as_ref().is_none_or(|s| s.takes(path));
    let folder = Folder::open(args, &images, own)?;
    let mut run = Run {
        args,
        model: &model,
        images: &images,
        paths: &paths,
        left_out: &left_out,
        folder,
        anomaly: false,
        broken: 0,
    };
    if let (Some((_, folder)), Some(selection)) = (chosen, &selection) {
        return shard::run(run, folder, selection, common);
    }
    match run.all(common.score_batch(), None, &mut |outcome| output::line(&outcome.line)) {
        Err(e) if args.fail_on_anomaly && crate::is_closed_pipe(&e) => match run.anomaly {
            true => Ok(ANOMALY),
            false => {
                Err(Error::Config("stdout was closed before all images were scored; none was an anomaly yet".into()))
            }
        },
        outcome => outcome.and_then(|()| run.code()),
    }
}
