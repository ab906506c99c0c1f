//! 95 % intervals of the metrics, by resampling parts.

use hotad_engine::metrics::bootstrap::Bootstrap;
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::sketch::Pool;

use super::images::ImageMetrics;
use super::pixels::{PRO_LIMIT, Sketches};
use super::{Metrics, ScoredImage, kinds, loco};

/// Names of the metrics over pixels, in the order that they are computed in.
const PIXELS: [&str; 7] =
    ["pixel_auroc", "pixel_ap", "dice_max", "aupro_30", "dice_best_threshold", "dice_at_threshold", "iou_at_threshold"];

/// Fills in the intervals of the metrics that there are.
pub fn fill(metrics: &mut Metrics, scored: &[ScoredImage], sketches: Option<&Sketches>, groups: &[usize], seed: u64) {
    let bootstrap = Bootstrap::new(groups, scored.iter().map(|v| v.item.defective), seed);
    metrics.parts = bootstrap.groups();
    let threshold = metrics.image_threshold;
    let images = bootstrap.intervals(|times| ImageMetrics::new(scored, times, threshold).values());
    let mut all: Vec<_> = ImageMetrics::NAMES.into_iter().zip(images).collect();
    if let Some(sketches) = sketches {
        let pool = Pool::new(&sketches.maps);
        let pixels = bootstrap.intervals(|times| {
            let pooled = pool.metrics(times, PRO_LIMIT);
            let mean = |of: fn(&Overlap) -> f64| mean_overlap(scored, times, of);
            let best = pooled.best_mean_dice;
            [pooled.auroc, pooled.ap, pooled.dice_max, pooled.aupro, best, mean(Overlap::dice), mean(Overlap::iou)]
        });
        all.extend(PIXELS.into_iter().zip(pixels));
    }
    if metrics.image_auroc_by_kind.is_some() {
        all.extend(loco::intervals(&bootstrap, scored, sketches.map(|s| &s.saturating[..])));
    }
    kinds::fill(&mut metrics.kinds, scored, threshold, (groups, seed));
    metrics.intervals = all.into_iter().filter_map(|(name, interval)| Some((name, interval?))).collect();
    if metrics.image_auroc_by_kind.is_some() {
        metrics.intervals.extend(loco::of_kinds(&metrics.kinds));
    }
}

/// Mean over the defective images with a mask.
fn mean_overlap(scored: &[ScoredImage], times: &[u32], of: fn(&Overlap) -> f64) -> Option<f64> {
    kinds::mean(scored.iter().zip(times).filter_map(|(v, times)| Some((of(v.overlap.as_ref()?), *times))))
}
