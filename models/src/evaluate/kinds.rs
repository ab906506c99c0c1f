//! Metrics by kind of defect.

use std::collections::BTreeMap;

use hotad_engine::metrics::bootstrap::Bootstrap;
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;

use super::{KindMetrics, ScoredImage};

/// Names of [`values`] in their order.
const NAMES: [&str; 3] = ["image_auroc", "recall", "dice_at_threshold"];

/// Of each kind of defect.
pub fn metrics(scored: &[ScoredImage], threshold: f32) -> BTreeMap<String, KindMetrics> {
    let mut kinds = BTreeMap::<String, KindMetrics>::new();
    for image in scored.iter().filter(|v| v.item.defective) {
        kinds.entry(image.item.kind.clone()).or_default().images += 1;
    }
    let once = vec![1; scored.len()];
    for (kind, of_kind) in &mut kinds {
        let [auroc, recall, dice] = values(scored, &once, kind, threshold);
        (of_kind.image_auroc, of_kind.recall, of_kind.dice_at_threshold) = (auroc, recall.unwrap_or(0.0), dice);
    }
    kinds
}

/// Fills in their intervals.
pub fn fill(kinds: &mut BTreeMap<String, KindMetrics>, scored: &[ScoredImage], threshold: f32, bootstrap: &Bootstrap) {
    for (kind, of_kind) in kinds {
        let intervals = bootstrap.intervals(|times| values(scored, times, kind, threshold));
        of_kind.intervals = NAMES.into_iter().zip(intervals).filter_map(|(name, i)| Some((name, i?))).collect();
    }
}

/// Image AUROC, recall and mean Dice of one kind of defect, images counting so many times.
fn values(scored: &[ScoredImage], times: &[u32], kind: &str, threshold: f32) -> [Option<f64>; 3] {
    let some = || scored.iter().zip(times).filter(|(v, _)| v.item.defective && v.item.kind == kind);
    let recall = mean(some().map(|(v, times)| (f64::from(v.score > threshold), *times)));
    let dice = mean(some().filter_map(|(v, times)| Some((v.overlap.as_ref().map(Overlap::dice)?, *times))));
    [auroc(scored, times, kind), recall, dice]
}

/// Area under the ROC curve of one kind of defect against all good images, images counting so many times.
pub fn auroc(scored: &[ScoredImage], times: &[u32], kind: &str) -> Option<f64> {
    let some = scored.iter().zip(times).filter(|(v, _)| !v.item.defective || v.item.kind == kind);
    Ranking::weighted(some.map(|(v, times)| (v.score, v.item.defective, *times))).auroc()
}

/// Mean of values that count so many times.
pub fn mean(values: impl Iterator<Item = (f64, u32)>) -> Option<f64> {
    let (sum, count) = values
        .fold((0.0, 0), |(sum, count), (value, times)| (sum + f64::from(times) * value, count + u64::from(times)));
    (count > 0).then(|| sum / count as f64)
}
