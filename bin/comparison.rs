//! Several models beside each other: each metric as a table of models by data sets.

use hotad_models::evaluate::Metrics;
use serde::Serialize;

/// The metrics of one model on one data set under one change.
#[derive(Serialize)]
pub struct Run {
    /// Name of the model file, without ending.
    pub model: String,
    /// Name of the data set's folder.
    pub category: String,
    /// `none`, or how the images were changed.
    pub change: &'static str,
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
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// Values of one model.
pub struct Row {
    pub model: String,
    /// Name of its folder of reports.
    pub folder: String,
    /// Value by column.
    pub values: Vec<Option<f64>>,
}

/// Columns beside the data sets.
pub const SUMMARY: [&str; 2] = ["mean", "worst"];

/// A metric's name and value.
type Metric = (&'static str, fn(&Metrics) -> Option<f64>);

/// The metrics of a comparison.
const METRICS: [Metric; 18] = [
    ("image AUROC", |m| m.image_auroc),
    ("image AP", |m| m.image_ap),
    ("image F1-max", |m| m.image_f1_max),
    ("image F1 at threshold", |m| m.image_f1_at_threshold),
    ("precision", |m| m.precision),
    ("recall", |m| m.recall),
    ("image AUROC, logical", |m| m.image_auroc_by_kind.and_then(|k| k.logical)),
    ("image AUROC, structural", |m| m.image_auroc_by_kind.and_then(|k| k.structural)),
    ("pixel AUROC", |m| m.pixel_auroc),
    ("pixel AP", |m| m.pixel_ap),
    ("AU-PRO 0.3", |m| m.aupro_30),
    ("AU-sPRO 0.05, logical", |m| m.auspro.get("auspro_05").and_then(|k| k.logical)),
    ("AU-sPRO 0.05, structural", |m| m.auspro.get("auspro_05").and_then(|k| k.structural)),
    ("AU-sPRO 0.05, mean", |m| m.auspro.get("auspro_05").and_then(|k| k.mean)),
    ("Dice max", |m| m.dice_max),
    ("Dice, best threshold", |m| m.dice_best_threshold),
    ("Dice at threshold", |m| m.dice_at_threshold),
    ("IoU at threshold", |m| m.iou_at_threshold),
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
/// the worst of them.
pub fn blocks(runs: &[Run]) -> Vec<Block> {
    let models = distinct(runs, |r| (r.model.clone(), r.folder.clone()));
    let categories = distinct(runs, |r| r.category.clone());
    let mut blocks = Vec::new();
    for (metric, value) in METRICS {
        for change in distinct(runs, |r| r.change) {
            let of = |model: &String, category: &String| {
                let run = runs.iter().find(|r| r.model == *model && r.category == *category && r.change == change);
                run.and_then(|r| value(&r.metrics))
            };
            let known = |c: &&String| models.iter().any(|(m, _)| of(m, c).is_some());
            let mut columns: Vec<String> = categories.iter().filter(known).cloned().collect();
            if columns.is_empty() {
                continue;
            }
            let row = |(model, folder): &(String, String)| Row {
                model: model.clone(),
                folder: folder.clone(),
                values: columns.iter().map(|c| of(model, c)).collect(),
            };
            let mut rows: Vec<Row> = models.iter().map(row).collect();
            if columns.len() > 1 {
                columns.extend(SUMMARY.map(String::from));
                rows.iter_mut().for_each(|r| r.values.extend(summary(&r.values)));
            }
            let title = if change == "none" { metric.to_string() } else { format!("{metric}, {change}") };
            blocks.push(Block { title, change, columns, rows });
        }
    }
    blocks
}

/// Mean and smallest of what is known.
fn summary(values: &[Option<f64>]) -> [Option<f64>; 2] {
    let known: Vec<f64> = values.iter().flatten().copied().collect();
    if known.is_empty() {
        return [None; 2];
    }
    let mean = known.iter().sum::<f64>() / known.len() as f64;
    [Some(mean), known.into_iter().reduce(f64::min)]
}

/// A value as tables show it.
pub fn shown(value: Option<f64>) -> String {
    value.map_or("-".into(), |v| format!("{v:.3}"))
}

/// The values of a run by metric, for the CSV file.
pub fn values(run: &Run) -> impl Iterator<Item = (&'static str, f64)> {
    METRICS.into_iter().filter_map(|(name, value)| Some((name, value(&run.metrics)?)))
}
