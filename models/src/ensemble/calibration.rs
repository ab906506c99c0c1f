//! Scores of different methods on one scale, by the scores of held-out normal images.
//!
//! All are made of 101 quantiles q(0) .. q(1) of normal scores. Min-max: `(s - q(0)) / (q(1) - q(0))`. Quantile: the share of
//! normal scores below s; above all of them it goes on with the slope of the upper half, so that anomalies are still
//! ranked. Logistic: `1 / (1 + exp(-(s - q(0.99)) / (q(0.99) - q(0.5))))`.

use hotad_engine::calibration::quantile;
use serde::{Deserialize, Serialize};

/// How scores are brought to one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// By smallest and largest normal score.
    Minmax,
    /// By rank among normal scores.
    Quantile,
    /// By a logistic curve.
    Logistic,
}

/// The quantile of normal scores above which a member votes for an anomaly, and the middle of the logistic curve.
const VOTE: usize = 99;

/// The scale of one member's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    /// 101 quantiles of normal scores.
    quantiles: Vec<f32>,
}

impl Scale {
    /// Of normal scores.
    pub fn of(mut scores: Vec<f32>) -> Self {
        scores.sort_unstable_by(f32::total_cmp);
        Self { quantiles: (0..=100).map(|i| quantile(&scores, f64::from(i) / 100.0)).collect() }
    }

    /// Whether its quantiles are whole, as a file must have them.
    pub fn is_whole(&self) -> bool {
        self.quantiles.len() == 101
    }

    /// A spread that can be divided by.
    fn spread(&self, from: usize, to: usize) -> f32 {
        (self.quantiles[to] - self.quantiles[from]).max(1e-12)
    }

    /// A score on the common scale.
    pub fn apply(&self, rule: Rule, score: f32) -> f32 {
        let q = &self.quantiles;
        match rule {
            Rule::Minmax => (score - q[0]) / self.spread(0, 100),
            Rule::Quantile if score >= q[100] => 1.0 + 0.5 * (score - q[100]) / self.spread(50, 100),
            Rule::Quantile => {
                let above = q.partition_point(|v| *v <= score);
                let Some(low) = above.checked_sub(1) else { return 0.0 };
                (low as f32 + (score - q[low]) / self.spread(low, above)) / 100.0
            }
            Rule::Logistic => 1.0 / (1.0 + (-(score - q[VOTE]) / self.spread(50, VOTE)).exp()),
        }
    }

    /// Whether a score is a vote for an anomaly.
    pub fn votes(&self, score: f32) -> bool {
        score > self.quantiles[VOTE]
    }
}
