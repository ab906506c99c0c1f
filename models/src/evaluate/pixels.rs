//! Metrics over the pixels of anomaly maps, map after map.

use hotad_engine::data::Item;
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use hotad_engine::metrics::region::{area, components};
use hotad_engine::metrics::sketch::{Sketch, best_mean_dice};
use hotad_engine::metrics::tally::Tally;

use super::loco::SPRO_LIMITS;
use super::looked_at::LookedAt;
use super::truth::Truth;
use super::{ByKind, KINDS, Metrics};
use crate::anomaly_map::AnomalyMap;

/// Limit of the false positive rate for AU-PRO.
pub(super) const PRO_LIMIT: f64 = 0.3;

/// What has been counted of the maps so far.
pub struct Pixels {
    threshold: f32,
    /// Sketches tell scores apart from here.
    normal: f32,
    all: Tally,
    /// For LOCO: counts of either kind with the good images, by regions that saturate.
    loco: Option<[Tally; 2]>,
    dice: f64,
    iou: f64,
    /// Defective images with a mask.
    found: u32,
    sketches: Sketches,
}

/// Sketches of every map.
#[derive(Default)]
pub struct Sketches {
    /// With the regions of defective pixels.
    pub maps: Vec<Sketch>,
    /// For LOCO: with the regions that saturate.
    pub saturating: Vec<Sketch>,
}

/// Bits of a score that a sketch keeps.
const BITS: u32 = 16;

impl Pixels {
    /// Of no maps; `threshold` is that of defective pixels, `normal` the median of normal ones.
    pub fn new((threshold, normal): (f32, f32), loco: bool) -> Self {
        Self {
            threshold,
            normal,
            all: Tally::default(),
            loco: loco.then(|| [Tally::default(), Tally::default()]),
            dice: 0.0,
            iou: 0.0,
            found: 0,
            sketches: Sketches::default(),
        }
    }

    /// Counts those pixels of a test image's map, at the size of its file, that are looked at; its overlap with the mask where it
    /// is defective.
    pub fn take(&mut self, item: &Item, truth: Truth, map: AnomalyMap, looked_at: &LookedAt) -> Option<Overlap> {
        let Truth { mut defect, mut saturating } = truth;
        let mut regions = components(&defect, map.width);
        let mut map = map.values.into_vec();
        looked_at.keep(&mut map);
        looked_at.keep(&mut defect);
        [Some(&mut regions), saturating.as_mut()].into_iter().flatten().for_each(|some| looked_at.renumber(some));
        let (map, defect) = (&map[..], &defect[..]);
        self.all.add(map, defect, &regions);
        let above: Vec<f32> = map.iter().map(|v| v - self.normal).collect();
        self.sketches.maps.push(Sketch::new(&above, defect, &regions, BITS));
        if let (Some(tallies), Some(regions)) = (&mut self.loco, &saturating) {
            self.sketches.saturating.push(Sketch::new(&above, defect, regions, BITS));
            for (tally, (folder, _)) in tallies.iter_mut().zip(KINDS) {
                if !item.defective || item.kind == folder {
                    tally.add(map, defect, regions);
                }
            }
        }
        if !defect.contains(&true) {
            return None;
        }
        let overlap = Overlap::count(map.iter().map(|v| *v > self.threshold).zip(defect.iter().copied()));
        (self.dice, self.iou, self.found) = (self.dice + overlap.dice(), self.iou + overlap.iou(), self.found + 1);
        Some(overlap)
    }

    /// Fills in the metrics; returns the ranking of all pixels, and sketches of the maps.
    pub fn fill(mut self, metrics: &mut Metrics) -> (Ranking, Sketches) {
        metrics.aupro_30 = self.all.bends().map(|c| area(c, PRO_LIMIT));
        let bound = self.all.auroc_bound();
        if !self.all.is_exact() {
            let what = "too many distinct pixel scores to keep all apart";
            let overlap = self.all.overlap_bound(PRO_LIMIT);
            metrics.notes.push(format!(
                "{what}: pixel AUROC is within {bound:.1e} and AU-PRO 0.3 within {overlap:.1e} of the exact ones"
            ));
        }
        let pixels = self.all.ranking();
        metrics.pixel_auroc = pixels.auroc();
        metrics.pixel_ap = pixels.average_precision();
        metrics.dice_max = pixels.f1_max().map(|(f, _)| f);
        if self.found > 0 {
            let at_threshold = self.dice / f64::from(self.found);
            metrics.dice_at_threshold = Some(at_threshold);
            // Sketches may pass over a threshold that is a little better.
            metrics.dice_best_threshold = best_mean_dice(&self.sketches.maps).map(|(dice, _)| dice.max(at_threshold));
            metrics.iou_at_threshold = Some(self.iou / f64::from(self.found));
        } else {
            metrics.notes.push("pixel metrics are null: every mask is empty".into());
        }
        if let Some(tallies) = &mut self.loco {
            for (limit, name) in SPRO_LIMITS {
                let areas = tallies.each_mut().map(|t| t.bends().map(|c| area(c, limit)));
                metrics.auspro.insert(name.into(), ByKind::of(areas));
            }
            metrics.notes.extend(spro_bounds(tallies));
        }
        (pixels, self.sketches)
    }
}

/// What to say of AU-sPRO where scores were quantised.
fn spro_bounds(tallies: &mut [Tally; 2]) -> Option<String> {
    if tallies.iter().all(Tally::is_exact) {
        return None;
    }
    let mut bound = |limit| tallies.iter_mut().map(|tally| tally.overlap_bound(limit)).fold(0.0, f64::max);
    let bounds: Vec<String> = SPRO_LIMITS.map(|(limit, _)| format!("{:.1e} up to {limit}", bound(limit))).into();
    Some(format!(
        "too many distinct pixel scores to keep all apart: AU-sPRO is within {} of the exact one",
        bounds.join(", ")
    ))
}
