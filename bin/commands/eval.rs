//! `hotad eval`.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::data::Dataset;
use hotad_models::evaluate::{ByKind, Metrics, Options, Verdict, evaluate};
use hotad_models::model::Model;
use hotad_models::sweep::curves;
use indicatif::{ProgressBar, ProgressStyle};

use super::compare;
use crate::args::{Common, EvalArgs};
use crate::report::Inside;
use crate::{OK, output, report};

/// Evaluates a model, prints metrics, writes the report.
pub fn run(args: &EvalArgs, common: &Common) -> Result<u8> {
    if let Some(folder) = &args.out {
        output::folder(folder)?;
    }
    let ([model], [data], None) = (&args.model[..], &args.data[..], &args.corrupt) else {
        return compare::run(args, common);
    };
    let metrics = evaluate_to(model, data, args.out.as_deref(), args.explain.as_deref(), common)?;
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
    let options = Options { batch: common.score_batch(), corrupt: None, seen: &|n| bar.set_position(n as u64) };
    let evaluation = evaluate(&model, &data, &options)?;
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

/// A bar on stderr over images.
pub fn progress(what: &str, images: usize, common: &Common) -> ProgressBar {
    let bar = if common.quiet { ProgressBar::hidden() } else { ProgressBar::new(images as u64) };
    let style = "{prefix} [{bar:30}] {pos}/{len} images, {eta} left";
    bar.set_style(ProgressStyle::with_template(style).expect("the template is fixed").progress_chars("=> "));
    bar.set_prefix(what.to_string());
    bar
}

/// Names of the metrics of MVTec LOCO by kind of defect.
const LOCO_ROWS: [[&str; 3]; 2] = [
    ["image AUROC, logical", "image AUROC, structural", "image AUROC, mean"],
    ["AU-sPRO 0.05, logical", "AU-sPRO 0.05, structural", "AU-sPRO 0.05, mean"],
];

fn of_kind(m: &ByKind) -> [String; 3] {
    [m.logical, m.structural, m.mean].map(number)
}

fn number(value: Option<f64>) -> String {
    value.map_or("null".to_string(), |v| format!("{v:.4}"))
}

/// Names and values of the metrics, for tables.
pub fn rows(m: &Metrics) -> Vec<(&'static str, String)> {
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
    if let Some(by_kind) = &m.image_auroc_by_kind {
        rows.extend(LOCO_ROWS[0].iter().copied().zip(of_kind(by_kind)));
    }
    if let Some(by_kind) = m.auspro.get("auspro_05") {
        rows.extend(LOCO_ROWS[1].iter().copied().zip(of_kind(by_kind)));
    }
    rows.push(("time per image", format!("{:.1} ms", m.ms_per_image)));
    rows
}
