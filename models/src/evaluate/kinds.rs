//! Metrics by kind of defect.

use std::collections::BTreeMap;

use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;

use super::{KindMetrics, ScoredImage};

/// Of each kind of defect.
pub fn metrics(scored: &[ScoredImage], threshold: f32) -> BTreeMap<String, KindMetrics> {
    let mut kinds: BTreeMap<String, Vec<&ScoredImage>> = BTreeMap::new();
    for image in scored.iter().filter(|v| v.item.defective) {
        kinds.entry(image.item.kind.clone()).or_default().push(image);
    }
    kinds.into_iter().map(|(kind, some)| (kind.clone(), of_kind(&kind, &some, scored, threshold))).collect()
}

fn of_kind(kind: &str, some: &[&ScoredImage], all: &[ScoredImage], threshold: f32) -> KindMetrics {
    let called = some.iter().filter(|v| v.score > threshold).count();
    let dice: Vec<f64> = some.iter().filter_map(|v| v.overlap.as_ref().map(Overlap::dice)).collect();
    KindMetrics {
        images: some.len(),
        image_auroc: auroc(all, kind),
        recall: called as f64 / some.len() as f64,
        dice_at_threshold: (!dice.is_empty()).then(|| dice.iter().sum::<f64>() / dice.len() as f64),
    }
}

/// Area under the ROC curve of one kind of defect against all good images.
pub fn auroc(scored: &[ScoredImage], kind: &str) -> Option<f64> {
    let some = scored.iter().filter(|v| !v.item.defective || v.item.kind == kind);
    Ranking::new(some.map(|v| (v.score, v.item.defective))).auroc()
}
