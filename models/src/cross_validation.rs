//! What a cross-validation reports (tables 3 to 8 of LEA-Net's paper), and how its figures follow from the verdicts of each fold.
//! Of several seeds, every metric of a fold is the mean over them.
//!
//! The paper gives, for rows with attention, the best of the swept points, which is the largest of several noisy numbers. Here
//! the point of each fold is the one with the largest mean F1 over the other folds, so that no fold chooses for itself; the best
//! point is given beside.

use std::collections::BTreeSet;

use hotad_engine::metrics::bootstrap::Bootstrap;
use hotad_engine::metrics::overlap::Overlap;
use hotad_engine::metrics::ranking::Ranking;
use serde::Serialize;

/// Probability above which an image is called defective.
const CALLED: f32 = 0.5;

/// The verdict on an image by a network that has not learned from it.
#[derive(Clone, Debug, Serialize)]
pub struct Prediction {
    /// File.
    pub path: String,
    /// Fold that it was tested in, from 1 on.
    pub fold: usize,
    /// Whether it is defective.
    pub defective: bool,
    /// Seed of the network.
    pub seed: u64,
    /// Probability of a defect.
    pub probability: f32,
    /// The part that it is of.
    #[serde(skip)]
    pub part: usize,
}

/// F1 of predictions: 2 precision recall / (precision + recall).
pub fn f1<'a>(predictions: impl IntoIterator<Item = &'a Prediction>) -> f64 {
    overlap(predictions).dice()
}

fn overlap<'a>(predictions: impl IntoIterator<Item = &'a Prediction>) -> Overlap {
    Overlap::count(predictions.into_iter().map(|p| (p.probability > CALLED, p.defective)))
}

/// A metric of each fold.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Folds {
    /// Fold by fold, the mean over seeds.
    pub folds: Vec<f64>,
    /// Mean over folds.
    pub mean: f64,
    /// Standard deviation over folds (population).
    pub deviation: f64,
}

impl Folds {
    fn of(folds: Vec<f64>) -> Self {
        let n = folds.len().max(1) as f64;
        let mean = folds.iter().sum::<f64>() / n;
        let deviation = (folds.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
        Self { folds, mean, deviation }
    }
}

/// One point of one row.
#[derive(Clone, Debug, Serialize)]
pub struct PointResult {
    /// Attention point; none for rows without attention.
    pub point: Option<usize>,
    /// 2 precision recall / (precision + recall).
    pub f1: Folds,
    /// The mean F1 over folds of each seed.
    pub f1_of_seeds: Vec<f64>,
    /// Share of the images called defective that are; 0 where none is called so.
    pub precision: Folds,
    /// Share of the defective images that are called so.
    pub recall: Folds,
    /// Area under the ROC curve of probabilities.
    pub auroc: Folds,
    /// Of every image that was tested, by the network of each seed.
    pub predictions: Vec<Prediction>,
}

impl PointResult {
    /// Of the predictions of some folds.
    pub fn new(point: Option<usize>, predictions: Vec<Prediction>) -> Self {
        let folds: BTreeSet<usize> = predictions.iter().map(|p| p.fold).collect();
        let seeds: BTreeSet<u64> = predictions.iter().map(|p| p.seed).collect();
        let of = |metric: &dyn Fn(&[&Prediction]) -> f64, fold: usize, seed: u64| {
            metric(&predictions.iter().filter(|p| (p.fold, p.seed) == (fold, seed)).collect::<Vec<_>>())
        };
        let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len().max(1) as f64;
        let each = |metric: &dyn Fn(&[&Prediction]) -> f64| {
            let fold = |fold: &usize| mean(seeds.iter().map(|seed| of(metric, *fold, *seed)).collect());
            Folds::of(folds.iter().map(fold).collect())
        };
        let share = |part: u64, of: u64| if of == 0 { 0.0 } else { part as f64 / of as f64 };
        let counts = |some: &[&Prediction]| overlap(some.iter().copied());
        let ranking = |some: &[&Prediction]| Ranking::new(some.iter().map(|p| (p.probability, p.defective)));
        let dice = |some: &[&Prediction]| counts(some).dice();
        Self {
            point,
            f1: each(&dice),
            f1_of_seeds: seeds
                .iter()
                .map(|seed| mean(folds.iter().map(|fold| of(&dice, *fold, *seed)).collect()))
                .collect(),
            precision: each(&|some| share(counts(some).both, counts(some).predicted)),
            recall: each(&|some| share(counts(some).both, counts(some).actual)),
            auroc: each(&|some| ranking(some).auroc().unwrap_or(0.5)),
            predictions,
        }
    }
}

/// A row whose point is chosen, fold by fold, on the other folds.
#[derive(Clone, Debug, Serialize)]
pub struct Chosen {
    /// The point of each fold; none for rows without attention.
    pub points: Vec<Option<usize>>,
    /// F1 of each fold at its point.
    pub f1: Folds,
}

/// The difference of a row's F1, over the images of all folds and seeds together, from that of the first row.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Difference {
    /// Of the F1 of all images.
    pub f1: f64,
    /// 95 % interval: percentile bootstrap over parts, both rows on the same images.
    pub interval: Option<[f64; 2]>,
}

/// One row of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// As in the paper's tables.
    pub model: String,
    /// Scalars that are learned, without the colour network.
    pub parameters: usize,
    /// Results, point by point.
    pub points: Vec<PointResult>,
    /// The row's figure.
    pub chosen: Chosen,
    /// From the first row; none for that.
    pub difference: Option<Difference>,
}

impl Row {
    /// Of the results of its points.
    pub fn new(model: String, parameters: usize, points: Vec<PointResult>) -> Self {
        let count = points.first().map_or(0, |p| p.f1.folds.len());
        let others = |point: &PointResult, fold: usize| {
            let f1 = &point.f1.folds;
            // Of one fold alone there are no others.
            if count > 1 { (f1.iter().sum::<f64>() - f1[fold]) / (count - 1) as f64 } else { 0.0 }
        };
        let best = |fold: usize| points.iter().rev().max_by(|a, b| others(a, fold).total_cmp(&others(b, fold)));
        let of_fold: Vec<&PointResult> = (0..count).filter_map(best).collect();
        let f1 = Folds::of(of_fold.iter().enumerate().map(|(fold, p)| p.f1.folds[fold]).collect());
        let chosen = Chosen { points: of_fold.iter().map(|p| p.point).collect(), f1 };
        Self { model, parameters, points, chosen, difference: None }
    }

    /// The point with the highest mean F1, which is the paper's figure.
    pub fn best(&self) -> Option<&PointResult> {
        self.points.iter().max_by(|a, b| a.f1.mean.total_cmp(&b.f1.mean))
    }

    /// The predictions of each fold at its chosen point, by path and seed.
    fn chosen_predictions(&self) -> Vec<&Prediction> {
        let at = |point: &PointResult, p: &Prediction| self.chosen.points[p.fold - 1] == point.point;
        let all = self.points.iter().flat_map(|point| point.predictions.iter().filter(move |p| at(point, p)));
        let mut all: Vec<&Prediction> = all.collect();
        all.sort_by(|a, b| (&a.path, a.seed).cmp(&(&b.path, b.seed)));
        all
    }
}

/// The whole table.
#[derive(Clone, Debug, Serialize)]
pub struct CrossValidationTable {
    /// Defective images.
    pub positive: usize,
    /// Normal images.
    pub negative: usize,
    /// Folds.
    pub folds: usize,
    /// Seeds, that is trainings of each network.
    pub seeds: usize,
    /// Folds that are done.
    pub done: usize,
    /// Rows in the order of the setting.
    pub rows: Vec<Row>,
}

impl CrossValidationTable {
    /// Fills in the differences from the first row.
    pub fn compare(&mut self, seed: u64) {
        let Some((first, rest)) = self.rows.split_first_mut() else { return };
        let base = first.chosen_predictions();
        for row in rest {
            row.difference = difference(&base, &row.chosen_predictions(), seed);
        }
    }
}

/// F1 of predictions that count so many times.
fn weighted_f1(predictions: &[&Prediction], times: &[u32]) -> f64 {
    f1(predictions.iter().zip(times).flat_map(|(p, times)| std::iter::repeat_n(*p, *times as usize)))
}

fn difference(base: &[&Prediction], row: &[&Prediction], seed: u64) -> Option<Difference> {
    if base.is_empty() || base.len() != row.len() {
        return None;
    }
    let parts: Vec<usize> = row.iter().map(|p| p.part).collect();
    let bootstrap = Bootstrap::new(&parts, row.iter().map(|p| p.defective), seed);
    let [interval] = bootstrap.intervals(|times| [Some(weighted_f1(row, times) - weighted_f1(base, times))]);
    let all = |some: &[&Prediction]| f1(some.iter().copied());
    Some(Difference { f1: all(row) - all(base), interval })
}
