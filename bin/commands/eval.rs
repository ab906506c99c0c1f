//! `hotad eval`.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::data::Dataset;
use hotad_models::evaluate::{Metrics, Verdict, evaluate};
use hotad_models::model::Model;
use hotad_models::sweep::curves;
use indicatif::{ProgressBar, ProgressStyle};

use crate::args::{Common, EvalArgs};
use crate::report::Inside;
use crate::{OK, output, report};

/// Evaluates a model, prints metrics, writes the report.
pub fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    if let Some(folder) = &args.out {
        output::folder(folder)?;
    }
    let metrics = evaluate_to(&args.model, &args.data, args.out.as_deref(), args.explain.as_deref(), common)?;
    if args.json {
        output::line(&serde_json::to_string(&metrics).expect("metrics are plain data"))?;
    } else {
        for (name, value) in rows(&metrics) {
            output::line(&format!("{name:24} {value}"))?;
        }
        for note in &metrics.notes {
            output::line(&format!("note: {note}"))?;
        }
    }
    if let Some(folder) = &args.out {
        common.say(&format!("report: {}", folder.join("report.html").display()));
    }
    Ok(OK)
}

/// Evaluates and, with a folder, writes the report there, with what is to be explained.
pub fn evaluate_to(
    model: &Path,
    data: &Path,
    out: Option<&Path>,
    explain: Option<&[String]>,
    common: &Common,
) -> Result<Metrics> {
    let model = Model::load(model, &common.device()?)?;
    if explain.is_some() {
        model.detector.explanation()?;
    }
    let data = Dataset::open(data)?;
    let bar = progress("scoring", data.test.len(), common);
    let evaluation = evaluate(&model, &data, common.score_batch(), &|n| bar.set_position(n as u64))?;
    bar.finish_and_clear();
    if let Some(folder) = out {
        let inside = explain.map(|images| inside(&model, &evaluation.verdicts, images, common)).transpose()?;
        report::write(folder, &model, &evaluation, inside.as_ref())?;
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

fn progress(what: &str, images: usize, common: &Common) -> ProgressBar {
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new(images as u64) };
    let style = "{prefix} [{bar:30}] {pos}/{len} images, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed").progress_chars("=> "));
    bar.set_prefix(what.to_string());
    bar
}

/// Names and values of the metrics, for tables.
pub fn rows(m: &Metrics) -> Vec<(&'static str, String)> {
    let number = |v: Option<f64>| v.map_or("null".to_string(), |v| format!("{v:.4}"));
    let mut rows = vec![
        ("test images", format!("{} good, {} defective", m.good, m.defective)),
        ("image AUROC", number(m.image_auroc)),
        ("image AP", number(m.image_ap)),
        ("image F1-max", number(m.image_f1_max)),
        ("image F1 at threshold", number(m.image_f1_at_threshold)),
    ];
    if m.pixel_auroc.is_some() {
        rows.extend([
            ("pixel AUROC", number(m.pixel_auroc)),
            ("pixel AP", number(m.pixel_ap)),
            ("AU-PRO 0.3", number(m.aupro_30)),
            ("Dice max", number(m.dice_max)),
            ("Dice at threshold", number(m.dice_at_threshold)),
            ("IoU at threshold", number(m.iou_at_threshold)),
        ]);
    }
    rows.push(("time per image", format!("{:.1} ms", m.ms_per_image)));
    rows
}
