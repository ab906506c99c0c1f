//! Intervals of the metrics that MVTec LOCO has by kind of defect.

use std::collections::BTreeMap;

use hotad_engine::metrics::bootstrap::Bootstrap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::metrics::sketch::{Pool, Sketch};

use super::{ByKind, KINDS, KindMetrics, ScoredImage};

/// Limits of the false positive rate for AU-sPRO, and their metrics.
pub const SPRO_LIMITS: [(f64, &str); 5] =
    [(0.01, "auspro_01"), (0.05, "auspro_05"), (0.1, "auspro_10"), (0.3, "auspro_30"), (1.0, "auspro_100")];

/// Names of the intervals of AU-sPRO, those of logical defects, of structural ones and of their mean.
const NAMES: [[&str; 3]; 5] = [
    ["auspro_01_logical", "auspro_01_structural", "auspro_01_mean"],
    ["auspro_05_logical", "auspro_05_structural", "auspro_05_mean"],
    ["auspro_10_logical", "auspro_10_structural", "auspro_10_mean"],
    ["auspro_30_logical", "auspro_30_structural", "auspro_30_mean"],
    ["auspro_100_logical", "auspro_100_structural", "auspro_100_mean"],
];

/// Intervals of the mean image AUROC and, where there are sketches of the maps, of AU-sPRO.
pub fn intervals(
    bootstrap: &Bootstrap,
    scored: &[ScoredImage],
    saturating: Option<&[Sketch]>,
) -> impl Iterator<Item = (&'static str, Option<[f64; 2]>)> {
    let pool = saturating.map(Pool::new);
    let all = bootstrap.intervals::<16>(|times| {
        // Of either kind, with the good images.
        let kinds = KINDS.map(|(folder, _)| {
            let of_kind = |(v, times): (&ScoredImage, &u32)| match !v.item.defective || v.item.kind == folder {
                true => *times,
                false => 0,
            };
            let times: Vec<u32> = scored.iter().zip(times).map(of_kind).collect();
            let ranking = Ranking::weighted(scored.iter().zip(&times).map(|(v, t)| (v.score, v.item.defective, *t)));
            (ranking.auroc(), pool.as_ref().map(|p| p.overlaps(&times, SPRO_LIMITS.map(|(limit, _)| limit))))
        });
        let mean = ByKind::of([kinds[0].0, kinds[1].0]).mean;
        std::array::from_fn(|at| {
            let Some(at) = at.checked_sub(1) else { return mean };
            let metric = ByKind::of([0, 1].map(|kind: usize| kinds[kind].1?[at / 3]));
            [metric.logical, metric.structural, metric.mean][at % 3]
        })
    });
    std::iter::once("image_auroc_mean").chain(NAMES.into_iter().flatten()).zip(all)
}

/// Those of image AUROC of either kind, which are known with its other metrics.
pub fn of_kinds(kinds: &BTreeMap<String, KindMetrics>) -> impl Iterator<Item = (&'static str, [f64; 2])> {
    let names = ["image_auroc_logical", "image_auroc_structural"];
    let known = |(folder, _)| kinds.get(folder)?.intervals.get("image_auroc").copied();
    names.into_iter().zip(KINDS.map(known)).filter_map(|(name, interval)| Some((name, interval?)))
}
