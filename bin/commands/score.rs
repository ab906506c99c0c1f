//! `hotad score`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use hotad_engine::Result;
use hotad_engine::data::loader::{Batch, Images, for_each_batch};
use hotad_engine::data::picture::Picture;
use hotad_models::detector::Score;
use hotad_models::evaluate::map_at;
use hotad_models::model::Model;
use serde::Serialize;

use crate::args::{Common, Maps, ScoreArgs};
use crate::{ANOMALY, OK, output};

/// One line of output.
#[derive(Serialize)]
struct Line<'a> {
    path: &'a Path,
    score: f32,
    threshold: f32,
    calibrated: f32,
    label: &'static str,
    map: Option<PathBuf>,
    ms: f64,
}

/// Writes map and overlay of one image; returns the path of the map.
fn write_pictures(
    args: &ScoreArgs,
    model: &Model,
    (path, name): &(PathBuf, String),
    size: (usize, usize),
    score: Score,
) -> Result<Option<PathBuf>> {
    let Some(folder) = &args.out else { return Ok(None) };
    let spec = model.detector.image();
    let threshold = model.calibration.pixel_threshold;
    let map = map_at(score.map, (spec.height, spec.width), size)?;
    let picture = output::overlay(&Picture::read(path)?, &map, threshold);
    picture.write_png(&folder.join(format!("{name}_overlay.png")))?;
    match args.maps {
        Maps::None => Ok(None),
        Maps::Npy => {
            let file = folder.join(format!("{name}_map.npy"));
            output::write_npy(&file, &map, size.0, size.1)?;
            Ok(Some(file))
        }
        Maps::Png => {
            let file = folder.join(format!("{name}_map.png"));
            let values = map.iter().map(|v| output::relative(*v, threshold)).collect();
            Picture { height: size.0, width: size.1, channels: 1, values }.write_png(&file)?;
            Ok(Some(file))
        }
    }
}

/// Writes the images as the model would colour them, where it does.
fn write_recoloured(folder: &Path, model: &Model, batch: &Batch, images: &[(PathBuf, String)]) -> Result<()> {
    let pictures = model.detector.recoloured(&batch.images)?.unwrap_or_default();
    for ((picture, index), size) in pictures.into_iter().zip(&batch.indices).zip(&batch.original_sizes) {
        let name = &images[*index].1;
        picture.resized(size.0, size.1)?.write_png(&folder.join(format!("{name}_recoloured.png")))?;
    }
    Ok(())
}

/// Scores images, one JSON object a line.
pub fn run(args: &ScoreArgs, common: &Common) -> Result<u8> {
    let model = Model::load(&args.model, &common.device()?)?;
    let images = output::collect_images(&args.paths)?;
    if let Some(folder) = &args.out {
        output::folder(folder)?;
    }
    let paths: Vec<PathBuf> = images.iter().map(|(p, _)| p.clone()).collect();
    let order: Vec<usize> = (0..paths.len()).collect();
    let threshold = model.calibration.image_threshold;
    let mut anomaly = false;
    for_each_batch(&Images::new(&paths, model.detector.image()), &order, common.score_batch(), |batch| {
        hotad_engine::interrupt::check()?;
        let started = Instant::now();
        let scores = model.score_files(&batch, &paths)?;
        let ms = started.elapsed().as_secs_f64() * 1e3 / scores.len() as f64;
        if let Some(folder) = &args.out {
            write_recoloured(folder, &model, &batch, &images)?;
        }
        for ((score, index), size) in scores.into_iter().zip(&batch.indices).zip(&batch.original_sizes) {
            let anomalous = score.value > threshold;
            anomaly |= anomalous;
            let value = score.value;
            let map = write_pictures(args, &model, &images[*index], *size, score)?;
            let line = Line {
                path: &paths[*index],
                score: value,
                threshold,
                calibrated: model.calibration.calibrated(value),
                label: if anomalous { "anomaly" } else { "normal" },
                map,
                ms: (ms * 1e3).round() / 1e3,
            };
            output::line(&serde_json::to_string(&line).expect("a line is plain data"))?;
        }
        Ok(())
    })?;
    if images.is_empty() {
        common.say("hotad: warning: no images found");
    }
    Ok(if anomaly && args.fail_on_anomaly { ANOMALY } else { OK })
}
