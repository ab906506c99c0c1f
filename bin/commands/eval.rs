//! `hotad eval`.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::observer::Task;
use hotad_models::config;
use hotad_models::evaluate::{Evaluation, Metrics, ScoredImage};
use hotad_models::jobs::EvaluateJob;
use hotad_models::model::Model;
use hotad_models::sweep::curves;
use toml::Table;

use super::{compare, eval_shard};
use crate::args::{Common, EvalArgs};
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
    let Evaluated { metrics, written } = evaluate_to(&job(args, model, data, common)?, report.as_ref(), common)?;
    if args.json {
        output::line(&serde_json::to_string(&metrics).expect("metrics are plain data"))?;
    } else {
        print(&metrics)?;
        for note in &metrics.notes {
            output::line(&format!("note: {note}"))?;
        }
    }
    written?;
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
        output::line(&format!("{:24} {:>8} {:>20} {:>20} {:>20}", line[0], line[1], line[2], line[3], line[4]))?;
    }
    Ok(())
}

/// The job of one model on one data set.
pub fn job(args: &EvalArgs, model: &Path, data: &Path, common: &Common) -> Result<EvaluateJob> {
    let mut settings = Table::new();
    args.set.iter().try_for_each(|assignment| config::set(&mut settings, assignment))?;
    Ok(EvaluateJob {
        key: args.trust.key()?,
        settings,
        group: args.group.clone(),
        on_broken: args.on_broken,
        batch: common.score_batch(),
        seed: common.seed,
        device: common.device()?,
        ..EvaluateJob::new(model, data)
    })
}

/// A report that is to be written.
pub struct ReportTo<'a> {
    pub folder: &'a Path,
    /// Images of each gallery.
    pub images: usize,
    /// Images whose treatment is shown; empty for a choice.
    pub explain: Option<&'a [String]>,
}

/// What an evaluation has found.
pub struct Evaluated {
    pub metrics: Metrics,
    /// Whether the report was written, where one was to be: metrics are not lost with it.
    pub written: Result<()>,
}

/// Evaluates and writes a report on request.
pub fn evaluate_to(job: &EvaluateJob, report: Option<&ReportTo>, common: &Common) -> Result<Evaluated> {
    let model = job.load()?;
    if report.is_some_and(|report| report.explain.is_some()) {
        model.explainable()?.explanation()?;
    }
    let keeping = EvaluateJob { keep_maps: report.map_or(0, |r| r.images), ..job.clone() };
    let mut evaluation = keeping.run_on(&model, &common.terminal)?;
    job.compare_with_f32(&mut evaluation, &common.terminal)?;
    let written = report.map_or(Ok(()), |report| write(report, &model, &evaluation, common));
    Ok(Evaluated { metrics: evaluation.metrics, written })
}

/// Writes a report.
fn write(report: &ReportTo, model: &Model, evaluation: &Evaluation, common: &Common) -> Result<()> {
    let inside = report.explain.map(|images| inside(model, &evaluation.scored, images, common)).transpose()?;
    report::write(report.folder, model, evaluation, report.images, inside.as_ref())
}

/// What the report is to show of the model's inside.
fn inside<'a>(model: &Model, scored: &[ScoredImage], images: &'a [String], common: &Common) -> Result<Inside<'a>> {
    let task = Task::new(&common.terminal, "curves over", scored.len() as u64, "images");
    let curves = curves(model, scored, common.score_batch(), &|n| task.at(n as u64))?;
    Ok(Inside { images, curves })
}
