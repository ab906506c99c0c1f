//! Scoring test images one by one: what metrics are made from.

use std::collections::HashSet;
use std::path::PathBuf;

use hotad_engine::Result;
use hotad_engine::data::Item;
use hotad_engine::data::corrupt::Change;
use hotad_engine::data::files::read;
use hotad_engine::data::groups::{Grouping, Thumbnail, alike};
use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::data::picture::{ImageSpec, Picture};
use hotad_engine::data::prepare::file_sha256;
use rayon::prelude::*;

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

/// Which test images the model has neither learned from nor been given thresholds by, nor are of the part of one that it has.
pub(super) fn unseen(model: &Model, items: &[Item], grouping: &Grouping) -> Result<Vec<bool>> {
    let mut known = model.provenance.known();
    known.extend(model.provenance.threshold_images.iter().map(String::as_str));
    let is_known = |item: &Item| Ok(known.contains(file_sha256(&item.path)?.as_str()));
    let seen: Vec<bool> = items.par_iter().map(is_known).collect::<Result<_>>()?;
    if !seen.contains(&true) {
        return Ok(vec![true; items.len()]);
    }
    let parts = parts(model, items, grouping)?;
    let of_seen: HashSet<usize> =
        parts.iter().zip(&seen).filter(|(_, seen)| **seen).filter_map(|(part, _)| *part).collect();
    let unseen = |(part, seen): (&Option<usize>, &bool)| !seen && part.is_none_or(|part| !of_seen.contains(&part));
    Ok(parts.iter().zip(&seen).map(unseen).collect())
}

/// The part that each image is of; none of a file that cannot be decoded.
fn parts(model: &Model, items: &[Item], grouping: &Grouping) -> Result<Vec<Option<usize>>> {
    let paths: Vec<&PathBuf> = items.iter().map(|item| &item.path).collect();
    if let Some(groups) = grouping.by_names(&paths)? {
        return Ok(groups.into_iter().map(Some).collect());
    }
    let small = |item: &Item| read(&item.path, Thumbnail::SPEC, model.roi.as_ref()).ok();
    let small: Vec<_> = items.par_iter().map(small).collect();
    let mut parts = alike(&small.iter().flatten().map(Thumbnail::new).collect::<Vec<_>>()).into_iter();
    Ok(small.iter().map(|small| small.as_ref().and_then(|_| parts.next())).collect())
}
