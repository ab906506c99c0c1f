//! `hotad eval`.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::data::Dataset;
use hotad_engine::data::prepare::OnBroken;
use hotad_models::evaluate::{ByKind, Metrics, Options, Verdict, evaluate};
use hotad_models::model::Model;
use hotad_models::sweep::curves;
use indicatif::{ProgressBar, ProgressStyle};

use super::compare;
use crate::args::{Common, EvalArgs, Trust};
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
    let report = args.out.as_deref().map(|folder| ReportTo {
        folder,
        images: args.images.into(),
        explain: args.explain.as_deref(),
    });
    let metrics = evaluate_to((model, &args.trust), data, args.on_broken, report.as_ref(), common)?;
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

/// Opens a data set; test images that cannot be decoded are left out on request, and their number returned.
pub fn open(path: &Path, on_broken: OnBroken) -> Result<(Dataset, usize)> {
    let mut data = output::data_set(path)?;
    if on_broken == OnBroken::Refuse {
        return Ok((data, 0));
    }
    let prepared = output::prepare(&data.test, on_broken)?;
    data.test = prepared.items;
    Ok((data, prepared.skipped.len()))
}

/// Notes how many test images were left out.
pub fn note_broken(metrics: &mut Metrics, broken: usize) {
    if broken > 0 {
        metrics.notes.push(format!("{broken} test images cannot be decoded and are left out"));
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

/// Evaluates and writes a report on request.
pub fn evaluate_to(
    (model, trust): (&Path, &Trust),
    data: &Path,
    on_broken: OnBroken,
    report: Option<&ReportTo>,
    common: &Common,
) -> Result<Metrics> {
    let model = common.model(model, trust)?;
    let explain = report.and_then(|r| r.explain);
    if explain.is_some() {
        model.detector.explanation()?;
    }
    let (data, broken) = open(data, on_broken)?;
    let bar = progress("scoring", data.test.len(), common);
    let options = Options { batch: common.score_batch(), corrupt: None, seen: &|n| bar.set_position(n as u64) };
    let mut evaluation = evaluate(&model, &data, &options)?;
    bar.finish_and_clear();
    note_broken(&mut evaluation.metrics, broken);
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
    let c = &m.confusion;
    let mut rows = vec![
        ("test images", format!("{} good, {} defective", m.good, m.defective)),
        ("image AUROC", number(m.image_auroc)),
        ("image AP", number(m.image_ap)),
        ("image F1-max", number(m.image_f1_max)),
        ("image F1 at threshold", number(m.image_f1_at_threshold)),
        ("defective at threshold", format!("{} anomaly, {} normal", c.true_positive, c.false_negative)),
        ("good at threshold", format!("{} anomaly, {} normal", c.false_positive, c.true_negative)),
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
