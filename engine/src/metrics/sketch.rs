//! Counts of the pixels of each map by score, scores quantised to a few bits: some ten kilobytes a map. For what would be too
//! slow or too large pixel by pixel: the best threshold over images, and resampled metrics.

use super::ranking::{Point, Ranking};
use super::region::{CurvePoint, DefectRegion, area};
use super::tally::{Entry, Tally, score};

/// Counts of the pixels of one map by score.
#[derive(Clone, Debug)]
pub struct Sketch {
    /// By falling score.
    entries: Vec<Entry>,
    regions: u64,
    /// Defective pixels.
    defective: u64,
}

impl Sketch {
    /// Of a map, which of its pixels are defective, and its regions. `bits` of the 32 of a score, ordered as numbers, tell scores
    /// apart: of 16 numbers are known to one part in 128, of 20 to one in 2048. Scores should be given less what normal ones are.
    pub fn new(map: &[f32], defect: &[bool], regions: &[DefectRegion], bits: u32) -> Self {
        let mut tally = Tally::with_bits(bits);
        tally.add(map, defect, regions);
        let entries = tally.into_entries();
        let defective = entries.iter().map(|e| u64::from(e.defective)).sum();
        Self { entries, regions: regions.len() as u64, defective }
    }

    /// What the map's Dice rises by at each entry, when its pixels are called defective too; 0 without defective pixels.
    fn rises(&self) -> Vec<f64> {
        let (mut hit, mut called, mut last) = (0, 0, 0.0);
        let rise = |entry: &Entry| {
            hit += u64::from(entry.defective);
            called += u64::from(entry.defective) + u64::from(entry.normal);
            let dice = if self.defective > 0 { 2.0 * hit as f64 / (called + self.defective) as f64 } else { 0.0 };
            dice - std::mem::replace(&mut last, dice)
        };
        self.entries.iter().map(rise).collect()
    }
}

/// The largest sum of the maps' Dice.
fn largest_dice(sums: &[Sum]) -> f64 {
    let mut dice = 0.0;
    sums.iter().fold(0.0, |largest, sum| {
        dice += sum.rise;
        f64::max(largest, dice)
    })
}

/// The threshold with the largest mean Dice of the maps that have defective pixels, a pixel being called defective above it, and
/// that Dice. `None` without such a map.
pub fn best_mean_dice(sketches: &[Sketch]) -> Option<(f64, f32)> {
    let some: Vec<&Sketch> = sketches.iter().filter(|s| s.defective > 0).collect();
    let mut steps: Vec<(u32, usize, Entry)> =
        some.iter().enumerate().flat_map(|(i, s)| s.entries.iter().map(move |e| (e.key, i, *e))).collect();
    steps.sort_by_key(|(key, image, _)| (std::cmp::Reverse(*key), *image));
    // Pixels above the threshold, the defective ones among them.
    let (mut hit, mut called) = (vec![0u64; some.len()], vec![0u64; some.len()]);
    let dice = |i: usize, hit: u64, called: u64| 2.0 * hit as f64 / (called + some[i].defective) as f64;
    let (mut sum, mut best) = (0.0, None::<(f64, u32)>);
    for (at, (key, i, entry)) in steps.iter().enumerate() {
        sum -= dice(*i, hit[*i], called[*i]);
        hit[*i] += u64::from(entry.defective);
        called[*i] += u64::from(entry.defective) + u64::from(entry.normal);
        sum += dice(*i, hit[*i], called[*i]);
        let last = steps.get(at + 1).is_none_or(|next| next.0 != *key);
        if last && best.is_none_or(|(b, _)| sum > b) {
            best = Some((sum, *key));
        }
    }
    // A key stands for the lowest of its scores.
    best.map(|(sum, key)| (sum / some.len() as f64, score(key).next_down()))
}

/// Metrics over the pixels of some maps together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct PixelMetrics {
    /// Area under the ROC curve.
    pub auroc: Option<f64>,
    /// Average precision.
    pub ap: Option<f64>,
    /// Largest Dice over all pixels together.
    pub dice_max: Option<f64>,
    /// Area under the per-region overlap up to a false positive rate of `pro_limit`.
    pub aupro: Option<f64>,
    /// Largest mean Dice of the maps with defective pixels that any one threshold reaches.
    pub best_mean_dice: Option<f64>,
}

/// Pixels of pooled maps with one score, and the sum of their overlaps with regions.
#[derive(Clone, Default)]
struct Sum {
    normal: u64,
    defective: u64,
    overlap: f64,
    /// What the sum of the maps' Dice rises by when these pixels are called defective too.
    rise: f64,
}

/// Maps that are pooled again and again, each a number of times.
pub struct Pool<'a> {
    sketches: &'a [Sketch],
    /// Distinct keys, falling.
    keys: Vec<u32>,
    /// For each entry of each sketch, its position among the keys.
    at: Vec<Vec<u32>>,
    /// For each entry of each sketch, what its map's Dice rises by there.
    rises: Vec<Vec<f64>>,
}

/// Maps that count some number of times, together.
struct Sums {
    /// By falling score.
    by_key: Vec<Sum>,
    regions: u64,
    /// Maps with defective pixels.
    with_defects: u32,
}

impl<'a> Pool<'a> {
    /// Of some maps.
    pub fn new(sketches: &'a [Sketch]) -> Self {
        let mut keys: Vec<u32> = sketches.iter().flat_map(|s| s.entries.iter().map(|e| e.key)).collect();
        keys.sort_unstable_by(|a, b| b.cmp(a));
        keys.dedup();
        let position = |key: u32| keys.binary_search_by(|k| key.cmp(k)).expect("every key is there") as u32;
        let at = sketches.iter().map(|s| s.entries.iter().map(|e| position(e.key)).collect()).collect();
        Self { sketches, keys, at, rises: sketches.iter().map(Sketch::rises).collect() }
    }

    fn sums(&self, times: &[u32]) -> Sums {
        let mut sums = vec![Sum::default(); self.keys.len()];
        let (mut regions, mut with_defects) = (0, 0);
        let maps = self.sketches.iter().zip(&self.at).zip(&self.rises).zip(times);
        for (((sketch, at), rises), times) in maps.filter(|(_, times)| **times > 0) {
            for ((entry, at), rise) in sketch.entries.iter().zip(at).zip(rises) {
                let sum = &mut sums[*at as usize];
                sum.normal += u64::from(*times) * u64::from(entry.normal);
                sum.defective += u64::from(*times) * u64::from(entry.defective);
                sum.overlap += f64::from(*times) * entry.overlap;
                sum.rise += f64::from(*times) * rise;
            }
            regions += u64::from(*times) * sketch.regions;
            with_defects += if sketch.defective > 0 { *times } else { 0 };
        }
        Sums { by_key: sums, regions, with_defects }
    }

    /// The metrics when each map counts so many times; AU-PRO up to a false positive rate of `pro_limit`.
    pub fn metrics(&self, times: &[u32], pro_limit: f64) -> PixelMetrics {
        let sums = self.sums(times);
        let (mut true_positives, mut false_positives) = (0, 0);
        // Scores of maps that do not count are none.
        let counted = self.keys.iter().zip(&sums.by_key).filter(|(_, sum)| sum.normal + sum.defective > 0);
        let points = counted.map(|(key, sum)| {
            true_positives += sum.defective;
            false_positives += sum.normal;
            Point { threshold: score(*key), true_positives, false_positives }
        });
        let ranking = Ranking::of_points(points.collect());
        PixelMetrics {
            auroc: ranking.auroc(),
            ap: ranking.average_precision(),
            dice_max: ranking.f1_max().map(|(f, _)| f),
            aupro: self.overlap(&sums, pro_limit),
            best_mean_dice: (sums.with_defects > 0).then(|| largest_dice(&sums.by_key) / f64::from(sums.with_defects)),
        }
    }

    /// Areas under the per-region overlap up to some false positive rates when each map counts so many times.
    pub fn overlaps<const N: usize>(&self, times: &[u32], limits: [f64; N]) -> [Option<f64>; N] {
        let sums = self.sums(times);
        limits.map(|limit| self.overlap(&sums, limit))
    }

    fn overlap(&self, sums: &Sums, limit: f64) -> Option<f64> {
        let normal: u64 = sums.by_key.iter().map(|s| s.normal).sum();
        if sums.regions == 0 || normal == 0 {
            return None;
        }
        let (mut outside, mut overlap) = (0, 0.0);
        let points = self.keys.iter().zip(&sums.by_key).map(|(key, sum)| {
            outside += sum.normal;
            overlap += sum.overlap;
            CurvePoint {
                fpr: outside as f64 / normal as f64,
                overlap: overlap / sums.regions as f64,
                threshold: score(*key),
            }
        });
        let first = CurvePoint { fpr: 0.0, overlap: 0.0, threshold: f32::INFINITY };
        Some(area(std::iter::once(first).chain(points), limit))
    }
}
