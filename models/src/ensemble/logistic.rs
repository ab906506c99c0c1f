//! Logistic regression: the probability of a defect from one or several scores, `p = 1 / (1 + exp(-(w x + b)))`.
//!
//! Minimises `sum_i v_i (log(1 + exp z_i) - t_i z_i) + ridge / 2 |w|^2` over `w` and `b`, `z_i = w x_i + b`, by Newton's
//! method with halved steps. Targets are those of Platt (1999, "Probabilistic outputs for support vector machines",
//! section 2.2), `(N+ + 1) / (N+ + 2)` for N+ defects and `1 / (N- + 2)` for N- normals, so that classes that can be told
//! apart without error do not make the weights grow without end. Either class weighs 1 in all: the numbers of synthetic
//! defects and of held-out normals say nothing of how often defects are met.

use faer::linalg::solvers::Solve;
use faer::{Col, Mat};
use serde::{Deserialize, Serialize};

/// Newton steps at most.
const STEPS: usize = 100;

/// Weights and intercept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Logistic {
    /// One for each score.
    pub weights: Vec<f64>,
    /// b.
    pub intercept: f64,
}

impl Logistic {
    /// Whether it has finite numbers for so many scores, as a file must have them.
    pub fn is_whole(&self, scores: usize) -> bool {
        self.weights.len() == scores && self.weights.iter().chain([&self.intercept]).all(|v| v.is_finite())
    }
}

/// Rows of scores with targets and weights.
struct Problem<'a> {
    rows: Vec<&'a [f64]>,
    targets: Vec<f64>,
    weights: Vec<f64>,
    ridge: f64,
}

/// `log(1 + exp z)` without overflow.
fn softplus(z: f64) -> f64 {
    z.max(0.0) + (-z.abs()).exp().ln_1p()
}

fn sigmoid(z: f64) -> f64 {
    1.0 / (1.0 + (-z).exp())
}

impl Problem<'_> {
    /// `w x + b`, b the last of `w`.
    fn log_odds(w: &Col<f64>, row: &[f64]) -> f64 {
        row.iter().zip(w.iter()).map(|(x, w)| x * w).sum::<f64>() + w[row.len()]
    }

    fn loss(&self, w: &Col<f64>) -> f64 {
        let d = w.nrows() - 1;
        let fit = self.rows.iter().zip(self.targets.iter().zip(&self.weights)).map(|(row, (t, v))| {
            let z = Self::log_odds(w, row);
            v * (softplus(z) - t * z)
        });
        fit.sum::<f64>() + 0.5 * self.ridge * w.subrows(0, d).squared_norm_l2()
    }

    fn slopes(&self, w: &Col<f64>) -> (Col<f64>, Mat<f64>) {
        let d = w.nrows() - 1;
        let (mut gradient, mut hessian) = (Col::zeros(d + 1), Mat::<f64>::identity(d + 1, d + 1) * 1e-12);
        for (row, (t, v)) in self.rows.iter().zip(self.targets.iter().zip(&self.weights)) {
            let p = sigmoid(Self::log_odds(w, row));
            let x = Col::from_fn(d + 1, |i| row.get(i).copied().unwrap_or(1.0));
            gradient += &x * (v * (p - t));
            hessian += &x * x.transpose() * (v * p * (1.0 - p));
        }
        for i in 0..d {
            gradient[i] += self.ridge * w[i];
            hessian[(i, i)] += self.ridge;
        }
        (gradient, hessian)
    }

    fn solved(&self, d: usize) -> Col<f64> {
        let mut w = Col::zeros(d + 1);
        let mut loss = self.loss(&w);
        for _ in 0..STEPS {
            let (gradient, hessian) = self.slopes(&w);
            let step = hessian.partial_piv_lu().solve(&gradient);
            if !step.is_all_finite() {
                break;
            }
            let mut size = 1.0;
            let (next, lower) = loop {
                let next: Col<f64> = &w - &step * size;
                let lower = self.loss(&next);
                if lower <= loss || size < 1e-9 {
                    break (next, lower);
                }
                size /= 2.0;
            };
            let gained = loss - lower;
            if lower <= loss {
                (w, loss) = (next, lower);
            }
            if gained <= 1e-14 * loss.abs() {
                break;
            }
        }
        w
    }
}

impl Logistic {
    /// Of rows of `d` scores of normal images and of defects; a weight is never negative: a score that falls with
    /// defects has no say, and the others are fitted without it.
    pub fn fit(normal: &[f64], defective: &[f64], d: usize, ridge: f64) -> Self {
        let mut used: Vec<usize> = (0..d).collect();
        loop {
            let pick = |rows: &[f64]| -> Vec<f64> {
                rows.chunks_exact(d).flat_map(|row| used.iter().map(|i| row[*i]).collect::<Vec<_>>()).collect()
            };
            let found = Self::unbounded(&pick(normal), &pick(defective), used.len(), normal.len() / d, ridge);
            let least = (0..used.len()).min_by(|a, b| found[*a].total_cmp(&found[*b])).filter(|i| found[*i] < 0.0);
            let Some(least) = least else {
                let mut weights = vec![0.0; d];
                used.iter().zip(found.iter()).for_each(|(i, w)| weights[*i] = *w);
                return Self { weights, intercept: found[used.len()] };
            };
            used.remove(least);
        }
    }

    /// Weights and, last, the intercept.
    fn unbounded(normal: &[f64], defective: &[f64], d: usize, normals: usize, ridge: f64) -> Col<f64> {
        if d == 0 {
            return Col::zeros(1);
        }
        let defects = defective.len() / d;
        let (low, high) = (1.0 / (normals as f64 + 2.0), (defects as f64 + 1.0) / (defects as f64 + 2.0));
        let each = |n: usize, value: f64| vec![value; n];
        let share = |n: usize| 1.0 / n.max(1) as f64;
        let problem = Problem {
            rows: normal.chunks_exact(d).chain(defective.chunks_exact(d)).collect(),
            targets: [each(normals, low), each(defects, high)].concat(),
            weights: [each(normals, share(normals)), each(defects, share(defects))].concat(),
            ridge,
        };
        problem.solved(d)
    }

    /// `w x + b`.
    pub fn log_odds(&self, scores: impl Iterator<Item = f64>) -> f64 {
        self.weights.iter().zip(scores).map(|(w, x)| w * x).sum::<f64>() + self.intercept
    }

    /// The probability of a defect.
    pub fn probability(&self, scores: impl Iterator<Item = f64>) -> f64 {
        sigmoid(self.log_odds(scores))
    }
}
