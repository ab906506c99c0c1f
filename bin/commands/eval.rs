//! `hotad eval`.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::data::Dataset;
use hotad_engine::data::groups::Grouping;
use hotad_engine::data::prepare::OnBroken;
use hotad_models::config;
use hotad_models::evaluate::{Metrics, Options, Verdict, evaluate};
use hotad_models::model::Model;
use hotad_models::sweep::curves;
use indicatif::{ProgressBar, ProgressStyle};
use toml::Table;

use super::{compare, eval_shard};
use crate::args::{Common, EvalArgs, Trust};
use crate::report::{Inside, rows};
use crate::{OK, output, report};

/// Evaluates a model, prints metrics, writes the report.
pub fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    if let Some(chosen) = args.shards.chosen() {
        return eval_shard::run(args, chosen, common);
    }
    if let Some(folder) = &args.out {
        output::folder(folder)?;
    }
    let ([model], [data], None) = (&args.model[..], &args.data[..], &args.corrupt) else {
        return compare::run(args, common);
    };
    let report = args.out.as_deref().map(|folder| ReportTo {
        folder,
        images: args.images.into(),
        explain: args.explain.as_deref(),
    });
    let grouping = Grouping::of(&args.group)?;
    let settings = settings(&args.set)?;
    let from =
        From { model, settings: &settings, trust: &args.trust, data, on_broken: args.on_broken, grouping: &grouping };
    let metrics = evaluate_to(&from, report.as_ref(), common)?;
    if args.json {
        output::line(&serde_json::to_string(&metrics).expect("metrics are plain data"))?;
    } else {
        print(&metrics)?;
        for note in &metrics.notes {
            output::line(&format!("note: {note}"))?;
        }
    }
    if let Some(folder) = &args.out {
        common.say(&format!("report: {}", folder.join("report.html").display()));
    }
    Ok(OK)
}

/// Prints metrics: all of them, then a line for each kind of defect.
pub fn print(metrics: &Metrics) -> Result<()> {
    for (name, value) in rows::rows(metrics) {
        output::line(&format!("{name:24} {value}"))?;
    }
    for line in std::iter::once(rows::KINDS.map(String::from)).chain(rows::kinds(metrics)) {
        output::line(&format!("{:24} {:>8} {:>12} {:>8} {:>18}", line[0], line[1], line[2], line[3], line[4]))?;
    }
    Ok(())
}

/// Opens a data set; test images that cannot be decoded are left out on request, and their number returned.
pub fn open(path: &Path, on_broken: OnBroken) -> Result<(Dataset, usize)> {
    let mut data = output::data_set(path)?;
    let broken = leave_out_broken(&mut data, on_broken)?;
    Ok((data, broken))
}

/// Leaves test images out that cannot be decoded, on request; returns their number.
pub fn leave_out_broken(data: &mut Dataset, on_broken: OnBroken) -> Result<usize> {
    if on_broken == OnBroken::Refuse {
        return Ok(0);
    }
    let prepared = output::prepare(&data.test, on_broken)?;
    data.test = prepared.items;
    Ok(prepared.skipped.len())
}

/// Notes how many test images were left out.
pub fn note_broken(metrics: &mut Metrics, broken: usize) {
    if broken > 0 {
        metrics.notes.push(format!("{broken} test images cannot be decoded and are left out"));
    }
}

/// Settings of the command line.
pub fn settings(assignments: &[String]) -> Result<Table> {
    let mut table = Table::new();
    assignments.iter().try_for_each(|assignment| config::set(&mut table, assignment))?;
    Ok(table)
}

/// Notes which settings were not the model's.
pub fn note_settings(metrics: &mut Metrics, settings: &Table) {
    if !settings.is_empty() {
        let all = settings.to_string().trim().replace('\n', ", ");
        metrics.notes.push(format!("scored under {all}; thresholds are those of the model, found without"));
    }
}

/// A report that is to be written.
pub struct ReportTo<'a> {
    pub folder: &'a Path,
    /// Images of each gallery.
    pub images: usize,
    /// Images whose treatment is shown; empty for a choice.
    pub explain: Option<&'a [String]>,
}

/// What is evaluated.
pub struct From<'a> {
    pub model: &'a Path,
    /// Settings of scoring that are not the model's.
    pub settings: &'a Table,
    pub trust: &'a Trust,
    pub data: &'a Path,
    pub on_broken: OnBroken,
    pub grouping: &'a Grouping,
}

/// Evaluates and writes a report on request.
pub fn evaluate_to(from: &From, report: Option<&ReportTo>, common: &Common) -> Result<Metrics> {
    let model = common.model_with(from.model, from.trust, from.settings)?;
    let explain = report.and_then(|r| r.explain);
    if explain.is_some() {
        model.detector.explanation()?;
    }
    let (data, broken) = open(from.data, from.on_broken)?;
    let bar = progress("scoring", data.test.len(), common);
    let options = Options {
        batch: common.score_batch(),
        corrupt: None,
        grouping: from.grouping,
        seed: common.seed,
        seen: &|n| bar.set_position(n as u64),
    };
    let mut evaluation = evaluate(&model, &data, &options)?;
    bar.finish_and_clear();
    note_broken(&mut evaluation.metrics, broken);
    note_settings(&mut evaluation.metrics, from.settings);
    if let Some(report) = report {
        let inside = explain.map(|images| inside(&model, &evaluation.verdicts, images, common)).transpose()?;
        report::write(report.folder, &model, &evaluation, report.images, inside.as_ref())?;
    }
    Ok(evaluation.metrics)
}

/// What the report is to show of the model's inside.
fn inside<'a>(model: &Model, verdicts: &[Verdict], images: &'a [String], common: &Common) -> Result<Inside<'a>> {
    let bar = progress("curves over", verdicts.len(), common);
    let curves = curves(model, verdicts, common.score_batch(), &|n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    Ok(Inside { images, curves })
}

/// A bar on stderr over images.
pub fn progress(what: &str, images: usize, common: &Common) -> ProgressBar {
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new(images as u64) };
    let style = "{prefix} [{bar:30}] {pos}/{len} images, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed").progress_chars("=> "));
    bar.set_prefix(what.to_string());
    bar
}
