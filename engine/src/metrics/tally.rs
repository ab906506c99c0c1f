//! Pixels by score, image after image, in bounded memory: what AUROC, average precision, Dice and per-region overlap over
//! all pixels of a data set are computed from.
//!
//! Only counts are kept, one entry for each distinct score: normal pixels, and apart from them the far fewer defective ones,
//! with how much overlap the regions gain there. As regions saturate by their own pixels alone, `min(pixels in P /
//! saturation, 1)`, each image's share is known at once. Exact as long as there are no more distinct scores than a limit
//! (32 million by default: 256 MB, as much again while new ones are sorted in, and three times as much for a ranking); beyond
//! it scores are quantised to fewer bits, and [`Tally::auroc_bound`] bounds the error.

use super::buckets::Buckets;
use super::ranking::{Point, Ranking};
use super::region::{CurvePoint, DefectRegion};

/// Most distinct scores of normal pixels.
const LIMIT: usize = 32 << 20;

/// Normal pixels that are collected, at least, before they are sorted in.
const WAITING: usize = 8 << 20;

/// Normal pixels of one score.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Normal {
    /// The score in the order of its bits.
    key: u32,
    count: u32,
}

/// Defective pixels of one score.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Defective {
    key: u32,
    count: u32,
    /// Overlap that the regions gain, summed over regions.
    overlap: f64,
}

/// What there is at one score.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Entry {
    pub key: u32,
    pub normal: u32,
    pub defective: u32,
    pub overlap: f64,
}

/// Counts of pixels by score.
pub struct Tally {
    limit: usize,
    /// Low bits of keys that are dropped.
    coarse: u32,
    /// By rising key, each once, as long as a count fits.
    normal: Vec<Normal>,
    defective: Vec<Defective>,
    /// What is not yet sorted in.
    new_normal: Vec<u32>,
    new_defective: Vec<Defective>,
    /// Overlap that is gained at each pixel of a map; zeros between maps.
    gained: Vec<f64>,
    regions: u64,
}

impl Default for Tally {
    fn default() -> Self {
        Self::with_limit(LIMIT)
    }
}

/// Bits of a number in the order of numbers, the `coarse` low ones zero.
fn key(score: f32, coarse: u32) -> u32 {
    // Both zeros are one number.
    let bits = (score + 0.0).to_bits();
    let key = if bits >> 31 == 0 { bits | 1 << 31 } else { !bits };
    key & u32::MAX << coarse
}

/// The number of a key.
pub(super) fn score(key: u32) -> f32 {
    f32::from_bits(if key >> 31 == 1 { key & !(1 << 31) } else { !key })
}

/// Adds a pixel, or the pixels of an entry, to entries of rising keys.
fn count_normal(entries: &mut Vec<Normal>, new: Normal) {
    match entries.last_mut() {
        Some(last) if last.key == new.key && u32::MAX - last.count >= new.count => last.count += new.count,
        _ => entries.push(new),
    }
}

fn count_defective(entries: &mut Vec<Defective>, new: Defective) {
    match entries.last_mut() {
        Some(last) if last.key == new.key => {
            last.count += new.count;
            last.overlap += new.overlap;
        }
        _ => entries.push(new),
    }
}

impl Tally {
    /// Keeps no more than about `limit` distinct scores of normal pixels apart.
    pub fn with_limit(limit: usize) -> Self {
        Self {
            limit,
            coarse: 0,
            normal: Vec::new(),
            defective: Vec::new(),
            new_normal: Vec::new(),
            new_defective: Vec::new(),
            gained: Vec::new(),
            regions: 0,
        }
    }

    /// Takes the map of an image, which of its pixels are defective, and its regions, whose pixels all are.
    pub fn add(&mut self, map: &[f32], defect: &[bool], regions: &[DefectRegion]) {
        // Room that is not used costs nothing.
        self.new_normal.reserve(if self.new_normal.is_empty() { WAITING + map.len() } else { map.len() });
        if !defect.contains(&true) {
            self.new_normal.extend(map.iter().map(|v| key(*v, self.coarse)));
        } else {
            self.add_defective(map, defect, regions);
        }
        self.regions += regions.len() as u64;
        if self.new_normal.len() > self.normal.len().max(WAITING) {
            self.settle();
        }
    }

    fn add_defective(&mut self, map: &[f32], defect: &[bool], regions: &[DefectRegion]) {
        self.gained.resize(self.gained.len().max(map.len()), 0.0);
        for region in regions {
            let mut pixels: Vec<u32> = region.pixels.clone();
            pixels.sort_unstable_by(|a, b| map[*b as usize].total_cmp(&map[*a as usize]));
            let found = |count: usize| (count as f64 / region.saturation).min(1.0);
            for (i, at) in pixels.iter().enumerate() {
                self.gained[*at as usize] += found(i + 1) - found(i);
            }
        }
        for ((value, defect), gained) in map.iter().zip(defect).zip(&mut self.gained) {
            match defect {
                true => {
                    let overlap = std::mem::take(gained);
                    self.new_defective.push(Defective { key: key(*value, self.coarse), count: 1, overlap });
                }
                false => self.new_normal.push(key(*value, self.coarse)),
            }
        }
    }

    /// Sorts in what waits.
    fn settle(&mut self) {
        self.settle_defective();
        let mut keys = std::mem::take(&mut self.new_normal);
        let old = std::mem::take(&mut self.normal);
        let mut merged: Vec<Normal> = Vec::with_capacity(old.len() + keys.len());
        let mut rest = old.into_iter().rev().peekable();
        for (key, count) in Buckets::new(&mut keys).falling() {
            while let Some(entry) = rest.next_if(|e| e.key >= key) {
                count_normal(&mut merged, entry);
            }
            count_normal(&mut merged, Normal { key, count });
        }
        rest.for_each(|entry| count_normal(&mut merged, entry));
        merged.reverse();
        self.normal = merged;
        while self.normal.len() > self.limit {
            self.coarsen();
        }
    }

    /// Sorts in what waits of the defective pixels.
    fn settle_defective(&mut self) {
        // Stable, so that overlaps of equal scores are summed in the order they came.
        let mut defective = std::mem::take(&mut self.defective);
        defective.append(&mut self.new_defective);
        defective.sort_by_key(|d| d.key);
        defective.into_iter().for_each(|d| count_defective(&mut self.defective, d));
    }

    /// Tells scores apart by one bit less.
    fn coarsen(&mut self) {
        self.coarse += 1;
        let mask = u32::MAX << self.coarse;
        let coarser = |n: Normal| Normal { key: n.key & mask, ..n };
        std::mem::take(&mut self.normal).into_iter().for_each(|n| count_normal(&mut self.normal, coarser(n)));
        let coarser = |d: Defective| Defective { key: d.key & mask, ..d };
        std::mem::take(&mut self.defective).into_iter().for_each(|d| count_defective(&mut self.defective, coarser(d)));
    }

    /// Regions so far.
    pub fn regions(&self) -> u64 {
        self.regions
    }

    /// Whether every distinct score was kept apart.
    pub fn is_exact(&self) -> bool {
        self.coarse == 0
    }

    /// Tells scores apart by the `bits` upper bits of their keys.
    pub(super) fn with_bits(bits: u32) -> Self {
        Self { coarse: u32::BITS - bits, ..Self::with_limit(usize::MAX) }
    }

    /// Both classes, by falling score.
    pub(super) fn into_entries(mut self) -> Vec<Entry> {
        self.settle();
        self.entries().collect()
    }

    /// Both classes, by falling score.
    fn entries(&self) -> impl Iterator<Item = Entry> {
        let (mut normal, mut defective) = (self.normal.iter().rev().peekable(), self.defective.iter().rev().peekable());
        std::iter::from_fn(move || {
            let keys = (normal.peek().map(|n| n.key), defective.peek().map(|d| d.key));
            let key = keys.0.max(keys.1)?;
            let mut entry = Entry { key, normal: 0, defective: 0, overlap: 0.0 };
            if keys.0 == Some(key) {
                entry.normal = normal.next().map_or(0, |n| n.count);
            }
            if keys.1 == Some(key) {
                let d = defective.next();
                (entry.defective, entry.overlap) = d.map_or((0, 0.0), |d| (d.count, d.overlap));
            }
            Some(entry)
        })
    }

    /// Counts of both classes.
    fn classes(&self) -> (f64, f64) {
        let settled: u64 = self.normal.iter().map(|n| u64::from(n.count)).sum();
        let normal = settled + self.new_normal.len() as u64;
        let defective: u64 = self.defective.iter().map(|d| u64::from(d.count)).sum();
        (normal as f64, defective as f64)
    }

    /// How far the area under the ROC curve over pixels can be from the exact one, given the quantised scores: half of all
    /// pairs of a normal and a defective pixel that share an entry.
    pub fn auroc_bound(&mut self) -> f64 {
        self.settle();
        let (normal, defective) = self.classes();
        if self.is_exact() || normal * defective == 0.0 {
            return 0.0;
        }
        let pairs: f64 = self.entries().map(|e| f64::from(e.normal) * f64::from(e.defective)).sum();
        0.5 * pairs / (normal * defective)
    }

    /// How far the area under the curve of overlap up to a false positive rate of `limit` can be from the exact one, given the quantised
    /// scores: within an entry the curve runs somewhere in the rectangle between its ends.
    pub fn overlap_bound(&mut self, limit: f64) -> f64 {
        if self.is_exact() {
            return 0.0;
        }
        let Some(curve) = self.curve() else { return 0.0 };
        let (mut sum, mut before) = (0.0, None::<CurvePoint>);
        for point in curve {
            if let Some(a) = before.filter(|a| a.fpr < limit) {
                // The trapezoid is at most half a rectangle off, and all of one that the limit cuts.
                let share = if point.fpr <= limit { 0.5 } else { 1.0 };
                sum += share * (point.fpr.min(limit) - a.fpr) * (point.overlap - a.overlap);
            }
            before = Some(point);
        }
        sum / limit
    }

    /// The ranking of all pixels.
    pub fn ranking(&mut self) -> Ranking {
        self.settle();
        let (mut true_positives, mut false_positives) = (0, 0);
        let point = |e: Entry| {
            true_positives += u64::from(e.defective);
            false_positives += u64::from(e.normal);
            Point { threshold: score(e.key), true_positives, false_positives }
        };
        Ranking::of_points(self.entries().map(point).collect())
    }

    /// Overlap of the regions over the false positive rate, by falling threshold, from (0, 0) on. `None` without regions or
    /// without pixels outside them.
    pub fn curve(&mut self) -> Option<impl Iterator<Item = CurvePoint>> {
        self.settle();
        let ((normal, _), regions) = (self.classes(), self.regions as f64);
        if regions == 0.0 || normal == 0.0 {
            return None;
        }
        let (mut outside, mut overlap) = (0u64, 0.0);
        let point = move |e: Entry| {
            outside += u64::from(e.normal);
            overlap += e.overlap;
            CurvePoint { fpr: outside as f64 / normal, overlap: overlap / regions, threshold: score(e.key) }
        };
        let first = CurvePoint { fpr: 0.0, overlap: 0.0, threshold: f32::INFINITY };
        Some(std::iter::once(first).chain(self.entries().map(point)))
    }

    /// The points of [`Tally::curve`] where it bends, one before and one after each score of a defective pixel, and its ends: the area
    /// is the same, and most scores of normal pixels need not be sorted.
    pub fn bends(&mut self) -> Option<impl Iterator<Item = CurvePoint>> {
        if self.normal.len() + self.new_normal.len() > self.limit {
            self.settle();
        }
        self.settle_defective();
        let ((normal, _), regions) = (self.classes(), self.regions as f64);
        if regions == 0.0 || normal == 0.0 {
            return None;
        }
        let mut waiting = Buckets::new(&mut self.new_normal);
        let (mut settled, mut outside) = (self.normal.iter().rev().peekable(), 0);
        let mut rate = move |key: u32| {
            while let Some(entry) = settled.next_if(|n| n.key >= key) {
                outside += u64::from(entry.count);
            }
            (outside + waiting.at_least(key) as u64) as f64 / normal
        };
        let (mut overlap, step) = (0.0, 1 << self.coarse);
        let bends = self.defective.iter().rev().flat_map(move |d| {
            let higher = d.key.saturating_add(step);
            let before = CurvePoint { fpr: rate(higher), overlap: overlap / regions, threshold: score(higher) };
            overlap += d.overlap;
            [before, CurvePoint { fpr: rate(d.key), overlap: overlap / regions, threshold: score(d.key) }]
        });
        let point = |fpr, overlap, threshold| std::iter::once(CurvePoint { fpr, overlap, threshold });
        let whole: f64 = self.defective.iter().rev().map(|d| d.overlap).sum();
        Some(point(0.0, 0.0, f32::INFINITY).chain(bends).chain(point(1.0, whole / regions, f32::NEG_INFINITY)))
    }
}
