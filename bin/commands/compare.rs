//! `hotad eval` of several models, data sets or changes of the images: one comparison of all.

use std::path::{Path, PathBuf};

use hotad_engine::data::corrupt::{Corrupt, Corruption};
use hotad_engine::data::names::make_distinct;
use hotad_engine::{Error, Result};
use hotad_models::jobs::TestImages;
use hotad_models::model::Model;
use serde::Serialize;
use serde_json::{Value, json};

use super::eval::job;
use crate::args::{Common, EvalArgs};
use crate::comparison::{Block, Run, blocks, shown};
use crate::{OK, output, report};

/// What stands for the name of the data set in the path of a model.
const PLACE: &str = "{}";

/// What `--json` prints.
#[derive(Serialize)]
struct Comparison<'a> {
    runs: &'a [Run],
}

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
        report::comparison::write(folder, &runs, &blocks)?;
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
        job.keep_maps = if kind.is_none() && args.out.is_some() { args.images.into() } else { 0 };
        job.corrupt = kind.map(|kind| Corrupt { kind, seed: common.seed });
        let task = format!("{label}, {category}, {change}:");
        let evaluation = job.run_on_images(&model, images, &task, &common.terminal)?;
        if let (Some(folder), None) = (&args.out, kind) {
            let own = folder.join(&category).join(candidate.folder);
            output::folder(&own)?;
            report::write(&own, &model, &evaluation, args.images.into(), None)?;
        }
        runs.push(Run {
            model: label.into(),
            category: category.clone(),
            change,
            seed: model.provenance.seed,
            recipe: recipe(&model),
            metrics: evaluation.metrics,
            folder: candidate.folder.into(),
        });
    }
    Ok(())
}

/// What makes a model beside its method and seed.
fn recipe(model: &Model) -> Value {
    let config = model.detector.config();
    json!([config["settings"], config["decomposition"], model.provenance.init])
}

/// A name that is no path.
fn file_name(label: &str) -> String {
    label.trim_start_matches(['.', '/']).replace(['/', '\\'], "_")
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
