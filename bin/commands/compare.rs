//! `hotad eval` of several models, data sets or changes of the images: one comparison of all.

use std::path::{Path, PathBuf};

use hotad_engine::data::corrupt::{Corrupt, Corruption};
use hotad_engine::data::names::make_distinct;
use hotad_engine::{Error, Result};
use hotad_models::evaluate::Metrics;
use hotad_models::jobs::TestImages;
use serde::Serialize;

use super::eval::job;
use crate::args::{Common, EvalArgs};
use crate::report::comparison;
use crate::{OK, output, report};

/// What stands for the name of the data set in the path of a model.
const PLACE: &str = "{}";

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

/// What `--json` prints.
#[derive(Serialize)]
struct Comparison<'a> {
    runs: &'a [Run],
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

/// The name of a data set's folder, also where it is written as `.`.
fn name(path: &Path) -> String {
    let whole = path.canonicalize().unwrap_or_else(|_| path.into());
    whole.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The file of a model for a data set.
fn file(model: &Path, category: &str) -> PathBuf {
    match model.to_str() {
        Some(text) => text.replace(PLACE, category).into(),
        None => model.into(),
    }
}

/// Evaluates all, prints the comparison, and writes it with a report of each model on the unchanged images.
pub fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    if args.explain.is_some() {
        return Err(Error::Config("--explain: only of one model on one data set, without --corrupt".into()));
    }
    let names = labels(&args.model)?;
    let open = |root: &PathBuf| TestImages::open(root, args.on_broken, &common.terminal);
    let images = args.data.iter().map(open).collect::<Result<Vec<_>>>()?;
    let roots: Vec<&Path> = images.iter().map(|i| &*i.data.root).collect();
    let named = |(i, root): &(usize, &&Path)| roots[..*i].iter().any(|other| name(other) == name(root));
    if let Some((_, twice)) = roots.iter().enumerate().find(named) {
        return Err(Error::Config(format!("--data {}: two folders of one name cannot be compared", twice.display())));
    }
    // A model that does not exist is refused before the first is evaluated.
    for (model, root) in args.model.iter().flat_map(|m| roots.iter().map(move |r| (m, r))) {
        let file = file(model, &name(root));
        if !file.is_file() {
            let reason = "no such model; in --model, {} stands for the name of the data set's folder";
            return Err(Error::Model { path: file, reason: reason.into() });
        }
    }
    let mut runs = Vec::new();
    let mut folders: Vec<String> = names.iter().map(|label| file_name(label)).collect();
    make_distinct(folders.iter_mut());
    for ((path, label), folder) in args.model.iter().zip(&names).zip(&folders) {
        for images in &images {
            evaluate_one(args, common, &Candidate { path, label, folder }, images, &mut runs)?;
        }
    }
    let blocks = blocks(&runs);
    match args.json {
        true => output::line(&serde_json::to_string(&Comparison { runs: &runs }).expect("metrics are plain data"))?,
        false => print(&blocks)?,
    }
    if let Some(folder) = &args.out {
        comparison::write(folder, &runs, &blocks)?;
        common.say(&format!("report: {}", folder.join("report.html").display()));
    }
    Ok(OK)
}

/// Names of models: that of the file, or that of its folder where the files of several folders have one name.
fn labels(models: &[PathBuf]) -> Result<Vec<String>> {
    let stems: Vec<String> =
        models.iter().map(|m| m.file_stem().unwrap_or_default().to_string_lossy().replace(PLACE, "")).collect();
    let stems: Vec<String> = stems.iter().map(|s| s.trim_matches(['-', '_', '.']).to_string()).collect();
    let alone = |label: &String| stems.iter().filter(|s| *s == label).count() == 1 && !label.is_empty();
    let label = |(model, stem): (&PathBuf, &String)| match alone(stem) {
        true => stem.clone(),
        false => model.with_extension("").to_string_lossy().into_owned(),
    };
    let labels: Vec<String> = models.iter().zip(&stems).map(label).collect();
    match labels.iter().enumerate().find(|(i, l)| labels[..*i].contains(l)) {
        Some((_, twice)) => Err(Error::Config(format!("--model {twice} is named twice"))),
        None => Ok(labels),
    }
}

/// A model that is compared.
struct Candidate<'a> {
    path: &'a Path,
    label: &'a str,
    folder: &'a str,
}

/// One model on one data set, under every change that is asked for.
fn evaluate_one(
    args: &EvalArgs,
    common: &Common,
    candidate: &Candidate,
    images: &TestImages,
    runs: &mut Vec<Run>,
) -> Result<()> {
    let root = &images.data.root;
    let (category, label) = (name(root), candidate.label);
    let mut job = job(args, &file(candidate.path, &category), root, common)?;
    let model = job.load()?;
    let changes = args.corrupt.as_deref().map(|chosen| if chosen.is_empty() { &Corruption::ALL } else { chosen });
    let all = std::iter::once(None).chain(changes.unwrap_or_default().iter().map(|c| Some(*c)));
    for kind in all {
        let change = kind.map_or("none", Corruption::name);
        job.corrupt = kind.map(|kind| Corrupt { kind, seed: common.seed });
        let task = format!("{label}, {category}, {change}:");
        let evaluation = job.run_on_images(&model, images, &task, &common.terminal)?;
        if let (Some(folder), None) = (&args.out, kind) {
            let own = folder.join(&category).join(candidate.folder);
            output::folder(&own)?;
            report::write(&own, &model, &evaluation, args.images.into(), None)?;
        }
        let (metrics, folder) = (evaluation.metrics, candidate.folder.into());
        runs.push(Run { model: label.into(), category: category.clone(), change, metrics, folder });
    }
    Ok(())
}

/// A name that is no path.
fn file_name(label: &str) -> String {
    label.trim_start_matches(['.', '/']).replace(['/', '\\'], "_")
}

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
fn blocks(runs: &[Run]) -> Vec<Block> {
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

fn print(blocks: &[Block]) -> Result<()> {
    for (i, block) in blocks.iter().enumerate() {
        if i > 0 {
            output::line("")?;
        }
        let names = block.rows.iter().map(|r| r.model.len());
        let first = names.chain([block.title.len()]).max().unwrap_or(0);
        let widths: Vec<usize> = block.columns.iter().map(|c| c.len().max(5)).collect();
        let line = |name: &str, cells: &[String]| {
            let cells: Vec<String> = cells.iter().zip(&widths).map(|(c, w)| format!("{c:>w$}")).collect();
            format!("{name:first$}  {}", cells.join("  "))
        };
        output::line(&line(&block.title, &block.columns))?;
        for row in &block.rows {
            output::line(&line(&row.model, &row.values.iter().map(|v| shown(*v)).collect::<Vec<_>>()))?;
        }
    }
    Ok(())
}

/// The values of a run by metric, for the CSV file.
pub fn values(run: &Run) -> impl Iterator<Item = (&'static str, f64)> {
    METRICS.into_iter().filter_map(|(name, value)| Some((name, value(&run.metrics)?)))
}
