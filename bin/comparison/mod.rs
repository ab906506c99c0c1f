//! Several models beside each other: each metric as a table of models by data sets.

mod seeds;

use hotad_models::evaluate::{ByKind, Metrics};
use serde::Serialize;
use serde_json::Value;

/// The metrics of one model on one data set under one change.
#[derive(Serialize)]
pub struct Run {
    /// Name of the model file, without ending.
    pub model: String,
    /// Name of the data set's folder.
    pub category: String,
    /// `none`, or how the images were changed.
    pub change: &'static str,
    /// Seed of the model's training.
    pub seed: u64,
    /// What else makes a model: its settings, and what its training started from.
    #[serde(skip)]
    pub recipe: Value,
    #[serde(flatten)]
    pub metrics: Metrics,
    /// Name of the model's folder of reports.
    #[serde(skip)]
    pub folder: String,
}

/// A metric over all models and data sets, under one change.
pub struct Block {
    pub title: String,
    pub change: &'static str,
    pub better: Better,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// Values of one model, or of several that differ in their seed.
pub struct Row {
    pub model: String,
    /// Name of the model's folder of reports; none of several.
    pub folder: Option<String>,
    /// Value by column.
    pub values: Vec<Option<f64>>,
}

impl Row {
    /// Whether it is of one model.
    pub fn is_model(&self) -> bool {
        self.folder.is_some()
    }
}

/// Columns beside the data sets.
pub const SUMMARY: [&str; 2] = ["mean", "worst"];

/// Which of two values of a metric is better.
#[derive(Clone, Copy)]
pub enum Better {
    /// The larger one.
    Larger,
    /// The smaller one.
    Smaller,
}

impl Better {
    /// The best of some values.
    pub fn best(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values.reduce(match self {
            Self::Larger => f64::max,
            Self::Smaller => f64::min,
        })
    }

    /// The worst of some values.
    fn worst(self, values: impl Iterator<Item = f64>) -> Option<f64> {
        values.reduce(match self {
            Self::Larger => f64::min,
            Self::Smaller => f64::max,
        })
    }
}

/// A metric of a comparison.
#[derive(Clone, Copy)]
struct Metric {
    name: &'static str,
    /// The name of its interval in the results.
    key: &'static str,
    value: fn(&Metrics) -> Option<f64>,
    better: Better,
}

impl Metric {
    /// One that is better the larger it is.
    const fn gain(name: &'static str, key: &'static str, value: fn(&Metrics) -> Option<f64>) -> Self {
        Self { name, key, value, better: Better::Larger }
    }

    /// One that is better the smaller it is.
    const fn loss(name: &'static str, key: &'static str, value: fn(&Metrics) -> Option<f64>) -> Self {
        Self { name, key, value, better: Better::Smaller }
    }
}

/// AU-sPRO of MVTec LOCO up to a false positive rate.
fn auspro(m: &Metrics, key: &str) -> ByKind {
    m.auspro.get(key).copied().unwrap_or_default()
}

/// Image AUROC of MVTec LOCO by kind of defect.
fn image_auroc(m: &Metrics) -> ByKind {
    m.image_auroc_by_kind.unwrap_or_default()
}

/// The metrics of a comparison.
const METRICS: [Metric; 24] = [
    Metric::gain("image AUROC", "image_auroc", |m| m.image_auroc),
    Metric::gain("image AP", "image_ap", |m| m.image_ap),
    Metric::gain("image F1-max", "image_f1_max", |m| m.image_f1_max),
    Metric::gain("image F1 at threshold", "image_f1_at_threshold", |m| m.image_f1_at_threshold),
    Metric::gain("precision", "precision", |m| m.precision),
    Metric::gain("recall", "recall", |m| m.recall),
    Metric::loss("false-alarm rate", "false_alarm_rate", |m| m.false_alarm_rate),
    Metric::gain("image AUROC, logical", "image_auroc_logical", |m| image_auroc(m).logical),
    Metric::gain("image AUROC, structural", "image_auroc_structural", |m| image_auroc(m).structural),
    Metric::gain("image AUROC, mean of kinds", "image_auroc_mean", |m| image_auroc(m).mean),
    Metric::gain("pixel AUROC", "pixel_auroc", |m| m.pixel_auroc),
    Metric::gain("pixel AP", "pixel_ap", |m| m.pixel_ap),
    Metric::gain("AU-PRO 0.3", "aupro_30", |m| m.aupro_30),
    Metric::gain("AU-sPRO 0.05, logical", "auspro_05_logical", |m| auspro(m, "auspro_05").logical),
    Metric::gain("AU-sPRO 0.05, structural", "auspro_05_structural", |m| auspro(m, "auspro_05").structural),
    Metric::gain("AU-sPRO 0.05, mean", "auspro_05_mean", |m| auspro(m, "auspro_05").mean),
    Metric::gain("AU-sPRO 0.01, mean", "auspro_01_mean", |m| auspro(m, "auspro_01").mean),
    Metric::gain("AU-sPRO 0.1, mean", "auspro_10_mean", |m| auspro(m, "auspro_10").mean),
    Metric::gain("AU-sPRO 0.3, mean", "auspro_30_mean", |m| auspro(m, "auspro_30").mean),
    Metric::gain("AU-sPRO 1, mean", "auspro_100_mean", |m| auspro(m, "auspro_100").mean),
    Metric::gain("Dice max", "dice_max", |m| m.dice_max),
    Metric::gain("Dice, best threshold", "dice_best_threshold", |m| m.dice_best_threshold),
    Metric::gain("Dice at threshold", "dice_at_threshold", |m| m.dice_at_threshold),
    Metric::gain("IoU at threshold", "iou_at_threshold", |m| m.iou_at_threshold),
];

/// What appears in runs, in the order of its first appearance.
fn distinct<T: PartialEq + Clone>(runs: &[Run], of: impl Fn(&Run) -> T) -> Vec<T> {
    let mut all: Vec<T> = Vec::new();
    for value in runs.iter().map(of) {
        if !all.contains(&value) {
            all.push(value);
        }
    }
    all
}

/// Tables: one for each metric and change, over the data sets where it is known of any model; over several with their mean and
/// the worst of them. Behind models that differ in their seed alone stand their mean and deviation.
pub fn blocks(runs: &[Run]) -> Vec<Block> {
    let models = distinct(runs, |r| (r.model.clone(), r.folder.clone()));
    let categories = distinct(runs, |r| r.category.clone());
    let sets_of_seeds = seeds::sets(runs);
    let mut blocks = Vec::new();
    for metric in METRICS {
        for change in distinct(runs, |r| r.change) {
            let of = |model: &String, category: &String| {
                let run = runs.iter().find(|r| r.model == *model && r.category == *category && r.change == change);
                run.and_then(|r| (metric.value)(&r.metrics))
            };
            let known = |c: &&String| models.iter().any(|(m, _)| of(m, c).is_some());
            let mut columns: Vec<String> = categories.iter().filter(known).cloned().collect();
            if columns.is_empty() {
                continue;
            }
            let row = |(model, folder): &(String, String)| Row {
                model: model.clone(),
                folder: Some(folder.clone()),
                values: columns.iter().map(|c| of(model, c)).collect(),
            };
            let mut rows: Vec<Row> = models.iter().map(row).collect();
            if columns.len() > 1 {
                columns.extend(SUMMARY.map(String::from));
                rows.iter_mut().for_each(|r| r.values.extend(summary(&r.values, metric.better)));
            }
            sets_of_seeds.iter().rev().for_each(|set| set.add_rows(&mut rows));
            let name = metric.name;
            let title = if change == "none" { name.to_string() } else { format!("{name}, {change}") };
            blocks.push(Block { title, change, better: metric.better, columns, rows });
        }
    }
    blocks
}

/// Mean and worst of what is known.
fn summary(values: &[Option<f64>], better: Better) -> [Option<f64>; 2] {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    if known.is_empty() {
        return [None; 2];
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    [Some(mean), better.worst(known.into_iter())]
}

/// A value as tables show it.
pub fn shown(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.3}"))
}

/// A metric of a run, for the CSV file.
pub struct Cell {
    pub metric: &'static str,
    pub value: f64,
    pub interval: Option<[f64; 2]>,
}

/// The metrics of a run that there are.
pub fn values(run: &Run) -> impl Iterator<Item = Cell> {
    METRICS.into_iter().filter_map(|Metric { name, key, value, .. }| {
        let interval = run.metrics.intervals.get(key).copied();
        Some(Cell { metric: name, value: value(&run.metrics)?, interval })
    })
}
