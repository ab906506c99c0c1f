//! Scores of different methods on one scale.
//!
//! By the scores of held-out normal images, of which 101 quantiles q(0) .. q(1) are kept. Min-max:
//! `(s - q(0)) / (q(1) - q(0))`. Quantile: the share of normal scores below s; above all of them it goes on with the slope
//! of the upper half, so that anomalies are still ranked. Logistic: `1 / (1 + exp(-(s - q(0.99)) / (q(0.99) - q(0.5))))`.
//! By these and the scores of synthetic defects on the same images: Platt, a logistic curve that is fitted
//! ([`super::logistic`]), and isotonic ([`super::isotonic`]).

use hotad_engine::calibration::quantile;
use serde::{Deserialize, Serialize};

use super::evidence::Sample;
use super::isotonic::{Isotonic, rises};
use super::logistic::Logistic;

/// How scores are brought to one scale.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// By smallest and largest normal score.
    Minmax,
    /// By rank among normal scores.
    Quantile,
    /// By a logistic curve that normal scores determine.
    Logistic,
    /// By a logistic curve fitted to normal images and synthetic defects.
    Platt,
    /// By the rising function that fits normal images and synthetic defects best.
    Isotonic,
}

impl Rule {
    /// Whether it is fitted to synthetic defects too.
    pub fn wants_defects(self) -> bool {
        matches!(self, Self::Platt | Self::Isotonic)
    }
}

/// The quantile of normal scores above which a member votes for an anomaly, and the middle of the logistic curve.
const VOTE: usize = 99;

/// What is fitted to defects too.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Curve {
    Platt(Logistic),
    Isotonic(Isotonic),
}

/// The scale of one member's scores.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    rule: Rule,
    /// 101 quantiles of normal scores.
    quantiles: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    curve: Option<Curve>,
}

impl Scale {
    /// Of the scores of normal images, and of defects for a rule that wants them.
    pub fn of(rule: Rule, sample: &Sample) -> Self {
        let mut sorted = sample.normal.clone();
        sorted.sort_unstable_by(f32::total_cmp);
        let quantiles = (0..=100).map(|i| quantile(&sorted, f64::from(i) / 100.0)).collect();
        let mut scale = Self { rule, quantiles, curve: None };
        let standard = |scores: &[f32]| scores.iter().map(|s| scale.standard(*s)).collect::<Vec<f64>>();
        scale.curve = match rule {
            Rule::Platt => {
                let (normal, defective) = (standard(&sample.normal), standard(&sample.defective));
                Some(Curve::Platt(Logistic::fit(&normal, &defective, 1, 0.0)))
            }
            Rule::Isotonic => Some(Curve::Isotonic(Isotonic::fit(&sample.normal, &sample.defective))),
            _ => None,
        };
        scale
    }

    /// Whether it is as a file must have it.
    pub fn is_whole(&self) -> bool {
        let curve = match (&self.curve, self.rule) {
            (Some(Curve::Platt(p)), Rule::Platt) => p.is_whole(1),
            (Some(Curve::Isotonic(i)), Rule::Isotonic) => i.is_whole(),
            (None, rule) => !rule.wants_defects(),
            _ => false,
        };
        curve && self.quantiles.len() == 101 && rises(&self.quantiles)
    }

    /// A spread that can be divided by.
    fn spread(&self, from: usize, to: usize) -> f32 {
        (self.quantiles[to] - self.quantiles[from]).max(1e-12)
    }

    /// A score in units of the spread of normal ones, which a curve can be fitted to whatever the method.
    fn standard(&self, score: f32) -> f64 {
        f64::from(score - self.quantiles[50]) / f64::from(self.spread(50, VOTE))
    }

    /// A score on the common scale.
    pub fn apply(&self, score: f32) -> f32 {
        let q = &self.quantiles;
        match (self.rule, &self.curve) {
            (_, Some(Curve::Platt(curve))) => curve.probability(std::iter::once(self.standard(score))) as f32,
            (_, Some(Curve::Isotonic(curve))) => curve.apply(score),
            (Rule::Minmax, _) => (score - q[0]) / self.spread(0, 100),
            (Rule::Quantile, _) if score >= q[100] => 1.0 + 0.5 * (score - q[100]) / self.spread(50, 100),
            (Rule::Quantile, _) => {
                let above = q.partition_point(|v| *v <= score);
                let Some(low) = above.checked_sub(1) else { return 0.0 };
                (low as f32 + (score - q[low]) / self.spread(low, above)) / 100.0
            }
            _ => 1.0 / (1.0 + (-(score - q[VOTE]) / self.spread(50, VOTE)).exp()),
        }
    }

    /// Whether a score is a vote for an anomaly.
    pub fn votes(&self, score: f32) -> bool {
        score > self.quantiles[VOTE]
    }
}
