//! How calibrated scores of members become one.

use hotad_engine::metrics::ranking::Ranking;
use serde::{Deserialize, Serialize};

use super::calibration::Scale;
use super::evidence::Sample;
use super::logistic::Logistic;

/// How calibrated scores are combined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Combine {
    /// Their mean. Of logistic or Platt's scores this is the average of two-class softmax outputs.
    Mean,
    /// Their mean by the weights.
    Weighted,
    /// Their mean by the softmax of the scores themselves: between mean and largest.
    Softmax,
    /// The largest.
    Max,
    /// The share of members that vote for an anomaly.
    Majority,
    /// A logistic regression on them.
    Stacking,
}

/// Scores are divided by this before their softmax is taken: a score 0.25 larger weighs e times as much.
const TEMPERATURE: f32 = 0.25;

/// The power of a member's skill that is its weight (CAWPE, Large et al. 2019).
const POWER: i32 = 4;

/// Penalty on the squared weights of stacking.
const RIDGE: f64 = 1e-2;

/// A combination, fitted where there is something to fit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Combination {
    combine: Combine,
    /// One for each member, 1 in all.
    weights: Vec<f32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    stack: Option<Logistic>,
}

/// The area under the ROC curve of normal images against synthetic defects: what CAWPE calls the estimated
/// skill, by a measure that wants no threshold. 0.5 where there is nothing to tell it from.
fn skill(sample: &Sample) -> f64 {
    let pairs = sample.normal.iter().map(|s| (*s, false)).chain(sample.defective.iter().map(|s| (*s, true)));
    Ranking::new(pairs).auroc().unwrap_or(0.5)
}

/// Weights by the members' skill to the fourth power, 1 in all.
pub fn by_skill(samples: &[&Sample]) -> Vec<f64> {
    let powers: Vec<f64> = samples.iter().map(|s| skill(s).max(1e-3).powi(POWER)).collect();
    let sum: f64 = powers.iter().sum();
    powers.iter().map(|p| p / sum).collect()
}

impl Combination {
    /// With weights, not negative and not all 0, one for each member.
    pub fn new(combine: Combine, weights: &[f64]) -> Self {
        let sum: f64 = weights.iter().sum();
        Self { combine, weights: weights.iter().map(|w| (w / sum) as f32).collect(), stack: None }
    }

    /// Stacking, fitted to the members' scores of normal images and synthetic defects.
    pub fn stacked(scales: &[&Scale], samples: &[&Sample]) -> Self {
        let members = scales.len();
        let rows = |of: &dyn Fn(&Sample) -> &[f32]| -> Vec<f64> {
            let count = samples.iter().map(|s| of(s).len()).min().unwrap_or(0);
            let score = |row: usize, member: usize| f64::from(scales[member].apply(of(samples[member])[row]));
            (0..count).flat_map(|row| (0..members).map(move |m| (row, m))).map(|(r, m)| score(r, m)).collect()
        };
        let (normal, defective) = (rows(&|s| &s.normal), rows(&|s| &s.defective));
        let stack = Logistic::fit(&normal, &defective, members, RIDGE);
        Self { stack: Some(stack), ..Self::new(Combine::Stacking, &vec![1.0; members]) }
    }

    /// Whether it is as a file must have it, for some members.
    pub fn is_whole(&self, members: usize) -> bool {
        let fits = match &self.stack {
            Some(stack) => self.combine == Combine::Stacking && stack.is_whole(members),
            None => self.combine != Combine::Stacking,
        };
        fits && self.weights.len() == members && self.weights.iter().all(|w| w.is_finite())
    }

    /// What a member's score is combined as.
    pub fn part(&self, scale: &Scale, score: f32) -> f32 {
        match self.combine {
            Combine::Majority => f32::from(u8::from(scale.votes(score))),
            _ => scale.apply(score),
        }
    }

    /// The members' parts as one score.
    pub fn of(&self, parts: &[f32]) -> f32 {
        match self.combine {
            Combine::Max => parts.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            Combine::Softmax => softmax_mean(parts),
            Combine::Stacking => {
                let of = |s: &Logistic| s.log_odds(parts.iter().map(|p| f64::from(*p))) as f32;
                self.stack.as_ref().map_or(0.0, of)
            }
            Combine::Mean | Combine::Weighted | Combine::Majority => {
                parts.iter().zip(&self.weights).map(|(p, w)| p * w).sum()
            }
        }
    }
}

/// `sum p exp(p / t) / sum exp(p / t)`.
fn softmax_mean(parts: &[f32]) -> f32 {
    let largest = parts.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let weights = parts.iter().map(|p| ((p - largest) / TEMPERATURE).exp());
    let (above, below) = parts.iter().zip(weights).fold((0.0, 0.0), |(a, b), (p, w)| (a + p * w, b + w));
    above / below
}
