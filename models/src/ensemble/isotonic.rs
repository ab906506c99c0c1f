//! Isotonic regression: the probability of a defect as a function of a score that never falls, by pooling adjacent
//! violators (Ayer et al. 1955; as a calibration Zadrozny and Elkan 2002).
//!
//! The fit is constant over blocks of scores; between two blocks it is linear. Above all known scores it goes on with the
//! slope of the whole, so that anomalies are still ranked. Either class weighs 1 in all.

use serde::{Deserialize, Serialize};

/// Blocks of scores, ascending, and their values.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Isotonic {
    /// First and last score of each block.
    blocks: Vec<(f32, f32)>,
    /// The fit over each.
    values: Vec<f32>,
}

/// Whether numbers are finite and never fall.
pub(super) fn rises(numbers: &[f32]) -> bool {
    numbers.is_sorted() && numbers.iter().all(|v| v.is_finite())
}

/// Scores that share one value.
struct Block {
    first: f32,
    last: f32,
    /// Weight of all its scores, and of the defects among them.
    weight: f64,
    defects: f64,
}

impl Block {
    fn value(&self) -> f64 {
        self.defects / self.weight
    }
}

impl Isotonic {
    /// Of the scores of normal images and of defects.
    pub fn fit(normal: &[f32], defective: &[f32]) -> Self {
        let weighed = |scores: &[f32], defect: f64| {
            let weight = 1.0 / scores.len().max(1) as f64;
            scores.iter().map(|s| (*s, weight, defect * weight)).collect::<Vec<_>>()
        };
        let mut all = [weighed(normal, 0.0), weighed(defective, 1.0)].concat();
        all.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut blocks: Vec<Block> = Vec::new();
        for (score, weight, defects) in all {
            // Equal scores are one.
            match blocks.last_mut().filter(|b| b.last == score && b.first == score) {
                Some(same) => {
                    same.weight += weight;
                    same.defects += defects;
                }
                None => blocks.push(Block { first: score, last: score, weight, defects }),
            }
        }
        let mut pooled: Vec<Block> = Vec::with_capacity(blocks.len());
        for mut block in blocks {
            while let Some(before) = pooled.pop_if(|before| before.value() >= block.value()) {
                block = Block {
                    first: before.first,
                    last: block.last,
                    weight: before.weight + block.weight,
                    defects: before.defects + block.defects,
                };
            }
            pooled.push(block);
        }
        Self {
            blocks: pooled.iter().map(|b| (b.first, b.last)).collect(),
            values: pooled.iter().map(|b| b.value() as f32).collect(),
        }
    }

    /// Whether it has blocks that rise and a value for each, as a file must have them.
    pub fn is_whole(&self) -> bool {
        let scores: Vec<f32> = self.blocks.iter().flat_map(|(first, last)| [*first, *last]).collect();
        !scores.is_empty() && self.blocks.len() == self.values.len() && rises(&scores) && rises(&self.values)
    }

    /// The fit at a score.
    pub fn apply(&self, score: f32) -> f32 {
        let (first, last) = (self.blocks[0].0, self.blocks[self.blocks.len() - 1].1);
        if score > last {
            return self.values[self.values.len() - 1] + (score - last) / (last - first).max(1e-12);
        }
        // The first block that does not end below the score.
        let at = self.blocks.partition_point(|b| b.1 < score);
        let (from, value) = (self.blocks[at].0, self.values[at]);
        if score >= from || at == 0 {
            return value;
        }
        let (end, before) = (self.blocks[at - 1].1, self.values[at - 1]);
        before + (value - before) * (score - end) / (from - end)
    }
}
