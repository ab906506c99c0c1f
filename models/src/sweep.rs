//! How well image scores rank at other values of a setting: the curves of a method over its test images.

use std::path::PathBuf;

use hotad_engine::data::loader::{Images, for_all};
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::threads::pooled;
use hotad_engine::{Result, interrupt};

use crate::evaluate::ScoredImage;
use crate::explanation::Sweep;
use crate::model::Model;

/// Image AUROC along a setting.
#[derive(Clone, Debug)]
pub struct Curve {
    /// The setting.
    pub chart: &'static str,
    /// Which score.
    pub name: &'static str,
    /// Value of the setting, AUROC.
    pub points: Vec<(f64, f64)>,
}

/// The curves of a model over images that have been evaluated; none where the method has none, or where one of
/// the classes is missing. `seen` is called with the number of images done.
///
/// # Errors
/// When an image cannot be read.
pub fn curves(model: &Model, scored: &[ScoredImage], batch: usize, seen: &dyn Fn(usize)) -> Result<Vec<Curve>> {
    let Some(inside) = model.detector.as_explainable() else { return Ok(Vec::new()) };
    let paths: Vec<PathBuf> = scored.iter().map(|v| v.item.path.clone()).collect();
    let mut all: Vec<Vec<Sweep>> = Vec::with_capacity(paths.len());
    for_all(&Images::new(model.files(&paths), model.detector.image()), batch, |loaded| {
        interrupt::check()?;
        all.extend(pooled(|| inside.sweeps(&loaded.images))?);
        seen(all.len());
        Ok(())
    })?;
    let Some(first) = all.first() else { return Ok(Vec::new()) };
    let curve = |(which, sweep): (usize, &Sweep)| Curve {
        chart: sweep.chart,
        name: sweep.name,
        points: (0..sweep.x.len())
            .filter_map(|i| Some((f64::from(sweep.x[i]), auroc(&all, scored, which, i)?)))
            .collect(),
    };
    Ok(first.iter().enumerate().map(curve).collect())
}

/// AUROC of all images at value `i` of sweep `which`.
fn auroc(all: &[Vec<Sweep>], scored: &[ScoredImage], which: usize, i: usize) -> Option<f64> {
    let pairs = all.iter().zip(scored).map(|(sweeps, v)| (sweeps[which].scores[i], v.item.defective));
    Ranking::new(pairs).auroc()
}
