//! Pixels by score, image after image, in bounded memory: what AUROC, average precision, Dice and per-region overlap over
//! all pixels of a data set are computed from.
//!
//! Only counts are kept, one entry for each distinct score: normal and defective pixels, and how much overlap the regions gain
//! there. As regions saturate by their own pixels alone, `min(pixels in P / saturation, 1)`, each image's share is known at
//! once. Exact as long as there are no more distinct scores than a limit (16 million by default, 400 MB); beyond it
//! scores are told apart to fewer bits, and [`Tally::auroc_bound`] says how far off that can be.

use rayon::prelude::*;

use super::ranking::{Point, Ranking};
use super::region::{CurvePoint, Region};

/// Distinct scores that are kept apart.
const LIMIT: usize = 16 << 20;

/// Pixels that wait, at least, before they are sorted in.
const WAITING: usize = 1 << 20;

/// What there is at one score.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Entry {
    /// The score in the order of its bits.
    key: u32,
    defective: u32,
    normal: u64,
    /// Overlap that the regions gain, summed over regions.
    overlap: f64,
}

/// Counts of pixels by score.
pub struct Tally {
    limit: usize,
    /// Low bits of keys that are no longer told apart.
    coarse: u32,
    /// By falling key, each once.
    sorted: Vec<Entry>,
    normal: Vec<u32>,
    defective: Vec<(u32, f64)>,
    regions: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

/// Bits of a number in the order of numbers.
fn key(score: f32) -> u32 {
    // Both zeros are one number.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

/// The number of a key.
fn score(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

impl Tally {
    /// Keeps no more than about `limit` distinct scores apart.
    pub fn with_limit(limit: usize) -> Self {
        Self { limit, coarse: 0, sorted: Vec::new(), normal: Vec::new(), defective: Vec::new(), regions: 0 }
    }

    /// Takes the map of an image, which of its pixels are defective, and its regions, whose pixels all are.
    pub fn add(&mut self, map: &[f32], defect: &[bool], regions: &[Region]) {
        let mut gained = vec![0.0; if regions.is_empty() { 0 } else { map.len() }];
        for region in regions {
            let mut pixels: Vec<u32> = region.pixels.clone();
            pixels.sort_unstable_by(|a, b| map[*b as usize].total_cmp(&map[*a as usize]));
            let found = |count: usize| (count as f64 / region.saturation).min(1.0);
            for (i, at) in pixels.iter().enumerate() {
                gained[*at as usize] += found(i + 1) - found(i);
            }
        }
        self.regions += regions.len() as u64;
        for (at, (value, defect)) in map.iter().zip(defect).enumerate() {
            match defect {
                true => self.defective.push((key(*value), gained.get(at).copied().unwrap_or(0.0))),
                false => self.normal.push(key(*value)),
            }
        }
        if self.normal.len() + self.defective.len() > self.sorted.len().max(WAITING) {
            self.settle();
        }
    }

    /// Sorts in what waits.
    fn settle(&mut self) {
        let mask = u32::MAX << self.coarse;
        let (mut normal, mut defective) = (std::mem::take(&mut self.normal), std::mem::take(&mut self.defective));
        normal.par_iter_mut().for_each(|k| *k &= mask);
        defective.iter_mut().for_each(|(k, _)| *k &= mask);
        normal.par_sort_unstable_by(|a, b| b.cmp(a));
        // Overlaps of equal scores are summed in the order they came.
        defective.sort_by_key(|(key, _)| std::cmp::Reverse(*key));
        let old = std::mem::take(&mut self.sorted);
        let mut all: Vec<Entry> = Vec::with_capacity(old.len() + normal.len() / 2);
        let (mut o, mut n, mut d) = (0, 0, 0);
        while o < old.len() || n < normal.len() || d < defective.len() {
            let keys = [old.get(o).map(|e| e.key), normal.get(n).copied(), defective.get(d).map(|(k, _)| *k)];
            // One of the three is left.
            let key = keys.into_iter().flatten().max().expect("not all lists are at their end");
            let mut entry = Entry { key, defective: 0, normal: 0, overlap: 0.0 };
            if keys[0] == Some(key) {
                entry = old[o];
                o += 1;
            }
            while normal.get(n) == Some(&key) {
                entry.normal += 1;
                n += 1;
            }
            while let Some((_, gained)) = defective.get(d).filter(|(k, _)| *k == key) {
                entry.defective += 1;
                entry.overlap += gained;
                d += 1;
            }
            all.push(entry);
        }
        self.sorted = all;
        while self.sorted.len() > self.limit {
            self.coarsen();
        }
    }

    /// Tells scores apart by one bit less.
    fn coarsen(&mut self) {
        self.coarse += 1;
        let mask = u32::MAX << self.coarse;
        for entry in &mut self.sorted {
            entry.key &= mask;
        }
        self.sorted.dedup_by(|next, kept| {
            let same = next.key == kept.key;
            if same {
                kept.normal += next.normal;
                kept.defective += next.defective;
                kept.overlap += next.overlap;
            }
            same
        });
    }

    /// Regions so far.
    pub fn regions(&self) -> u64 {
        self.regions
    }

    /// Whether every distinct score was kept apart.
    pub fn is_exact(&self) -> bool {
        self.coarse == 0
    }

    /// Counts of both classes.
    fn classes(&self) -> (f64, f64) {
        let sum = |count: fn(&Entry) -> u64| self.sorted.iter().map(count).sum::<u64>() as f64;
        (sum(|e| e.normal), sum(|e| e.defective.into()))
    }

    /// How far the area under the ROC curve over pixels can be from the exact one, given what was not told apart: half of all
    /// pairs of a normal and a defective pixel that share an entry.
    pub fn auroc_bound(&mut self) -> f64 {
        self.settle();
        let (normal, defective) = self.classes();
        if self.is_exact() || normal * defective == 0.0 {
            return 0.0;
        }
        let pairs: f64 = self.sorted.iter().map(|e| e.normal as f64 * f64::from(e.defective)).sum();
        0.5 * pairs / (normal * defective)
    }

    /// The ranking of all pixels.
    pub fn ranking(&mut self) -> Ranking {
        self.settle();
        let (mut true_positives, mut false_positives) = (0, 0);
        let point = |e: &Entry| {
            true_positives += u64::from(e.defective);
            false_positives += e.normal;
            Point { threshold: score(e.key), true_positives, false_positives }
        };
        Ranking::of_points(self.sorted.iter().map(point).collect())
    }

    /// Overlap of the regions over the false positive rate, from (0, 0) on. `None` without regions or without pixels outside
    /// them.
    pub fn curve(&mut self) -> Option<Vec<CurvePoint>> {
        self.settle();
        let (normal, _) = self.classes();
        if self.regions == 0 || normal == 0.0 {
            return None;
        }
        let (mut outside, mut overlap) = (0u64, 0.0);
        let point = |e: &Entry| {
            outside += e.normal;
            overlap += e.overlap;
            CurvePoint { fpr: outside as f64 / normal, overlap: overlap / self.regions as f64, threshold: score(e.key) }
        };
        let first = CurvePoint { fpr: 0.0, overlap: 0.0, threshold: f32::INFINITY };
        Some(std::iter::once(first).chain(self.sorted.iter().map(point)).collect())
    }
}
