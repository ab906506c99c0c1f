//! Scoring test images one by one: what metrics are made from.

use std::path::PathBuf;

use hotad_engine::Result;
use hotad_engine::data::Item;
use hotad_engine::data::corrupt::Change;
use hotad_engine::data::groups::Thumbnail;
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::prepare::file_sha256;

use super::truth::{Truth, Truths};
use super::{EvaluateOptions, ScoredImage};
use crate::anomaly_map::AnomalyMap;
use crate::model::Model;

/// A scored test image.
pub(super) struct Observed {
    /// The score; its overlap is not known yet.
    pub image: ScoredImage,
    /// Of the image, as the model sees it.
    pub thumbnail: Thumbnail,
    /// The anomaly map at the size of the model.
    pub map: AnomalyMap,
    /// What masks say, where pixels are compared.
    pub truth: Option<Truth>,
}

/// The thumbnail of an image of a batch.
fn thumbnail(values: &[f32], spec: ImageSpec) -> Result<Thumbnail> {
    let ImageSpec { height, width, channels } = spec;
    let picture = Picture { height, width, channels, values: values.to_vec() };
    Ok(Thumbnail::new(&picture.fit(Thumbnail::SPEC)?))
}

/// Scores every test image in order and hands it to `take`; with `truths`, pixels are compared.
pub(super) fn observe(
    model: &Model,
    items: &[Item],
    options: &EvaluateOptions,
    truths: Option<&Truths>,
    mut take: impl FnMut(Observed) -> Result<()>,
) -> Result<()> {
    let spec = model.detector.image();
    let paths: Vec<PathBuf> = items.iter().map(|i| i.path.clone()).collect();
    let images = Images::new(model.files(&paths), spec).changed(options.corrupt.map(Change::Corrupt));
    let mut seen = 0;
    for_all(&images, options.batch, |loaded| {
        hotad_engine::interrupt::check()?;
        let started = std::time::Instant::now();
        let scores = model.score_files(&loaded)?;
        let ms = 1e3 * started.elapsed().as_secs_f64() / scores.len() as f64;
        let values = loaded.images.values()?;
        let images = values.chunks_exact(spec.len());
        for ((score, file), image) in scores.into_iter().zip(&loaded.files).zip(images) {
            let (score, item) = (score?, items[file.index].clone());
            let truth = truths.map(|truths| truths.of(&item, file.index, file.size)).transpose()?;
            take(Observed {
                image: ScoredImage { item, score: score.value, size: file.size, ms, overlap: None },
                thumbnail: thumbnail(image, spec)?,
                map: score.map,
                truth,
            })?;
            seen += 1;
        }
        (options.seen)(seen);
        Ok(())
    })
}

/// The test images that the model has neither learned from nor been given thresholds by, and the number of those it has.
pub(super) fn unseen(model: &Model, items: &[Item]) -> Result<(Vec<Item>, usize)> {
    let mut known = model.provenance.known();
    known.extend(model.provenance.threshold_images.iter().map(String::as_str));
    let mut kept = Vec::new();
    for item in items {
        let hash = file_sha256(&item.path)?;
        if !known.contains(hash.as_str()) {
            kept.push(item.clone());
        }
    }
    let left_out = items.len() - kept.len();
    Ok((kept, left_out))
}
