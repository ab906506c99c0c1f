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
    for (kind, of_kind) in &mut kinds {
        let some = against_good(scored, kind);
        let some: Vec<&ScoredImage> = some.map(|i| &scored[i]).collect();
        let [auroc, recall, dice] = values(&some, &vec![1; some.len()], threshold);
        (of_kind.image_auroc, of_kind.recall, of_kind.dice_at_threshold) = (auroc, recall.unwrap_or(0.0), dice);
    }
    kinds
}

/// Fills in their intervals. Parts with a defect of the kind are drawn apart from those that are good, so that no resample lacks it.
pub fn fill(
    kinds: &mut BTreeMap<String, KindMetrics>,
    scored: &[ScoredImage],
    threshold: f32,
    (groups, seed): (&[usize], u64),
) {
    for (kind, of_kind) in kinds {
        let numbers: Vec<usize> = against_good(scored, kind).collect();
        let some: Vec<&ScoredImage> = numbers.iter().map(|i| &scored[*i]).collect();
        let own: Vec<usize> = numbers.iter().map(|i| groups[*i]).collect();
        let bootstrap = Bootstrap::new(&own, some.iter().map(|v| v.item.defective), seed);
        let intervals = bootstrap.intervals(|times| values(&some, times, threshold));
        of_kind.intervals = NAMES.into_iter().zip(intervals).filter_map(|(name, i)| Some((name, i?))).collect();
    }
}

/// Numbers of the images with one kind of defect, and of all good ones.
fn against_good(scored: &[ScoredImage], kind: &str) -> impl Iterator<Item = usize> {
    (0..scored.len()).filter(move |i| !scored[*i].item.defective || scored[*i].item.kind == kind)
}

/// Image AUROC, and recall and mean Dice of the defective images, images counting so many times.
fn values(scored: &[&ScoredImage], times: &[u32], threshold: f32) -> [Option<f64>; 3] {
    let all = || scored.iter().zip(times);
    let some = || all().filter(|(v, _)| v.item.defective);
    let auroc = Ranking::weighted(all().map(|(v, times)| (v.score, v.item.defective, *times))).auroc();
    let recall = mean(some().map(|(v, times)| (f64::from(v.score > threshold), *times)));
    [auroc, recall, mean(some().filter_map(|(v, times)| Some((v.overlap.as_ref().map(Overlap::dice)?, *times))))]
}

/// Mean of values that count so many times.
pub fn mean(values: impl Iterator<Item = (f64, u32)>) -> Option<f64> {
    let (sum, count) = values
        .fold((0.0, 0), |(sum, count), (value, times)| (sum + f64::from(times) * value, count + u64::from(times)));
    (count > 0).then(|| sum / count as f64)
}
