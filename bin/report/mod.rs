//! The report of an evaluation: one HTML file with everything in it.

mod charts;
pub mod comparison;
mod explain;

use std::fmt::Write;
use std::path::Path;

use base64::Engine;
use hotad_engine::data::picture::Picture;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, atomic_file};
use hotad_models::evaluate::{Evaluation, Verdict, map_at};
use hotad_models::model::Model;
use hotad_models::sweep::Curve;

use crate::commands::eval::rows;
use crate::output;

/// Images of each gallery.
const GALLERY: usize = 8;
/// Longest side of a picture in the report.
const SIDE: usize = 256;

const STYLE: &str = "
:root{--ink:#1c2430;--soft:#5b6675;--line:#dde2e8;--back:#f6f7f9;--blue:#2468b2;--red:#c8372d}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0}h2{font-size:18px;margin:34px 0 10px}
p{margin:4px 0;color:var(--soft)}.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(400px,1fr));gap:16px}
.card{background:#fff;border:1px solid var(--line);border-radius:8px;padding:14px}.card h3{font-size:14px;margin:0 0 6px}
table{border-collapse:collapse;width:100%}td{padding:5px 4px;border-bottom:1px solid var(--line)}td:last-child{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;font-size:10px;fill:var(--soft)}.grid{stroke:var(--line);fill:none}.label{font-size:11px}
.curve{fill:none;stroke:var(--blue);stroke-width:2}.curve.other{stroke:var(--red)}.chance{fill:none;stroke:#aab;stroke-dasharray:4 4}
.good{fill:var(--blue)}.bad{fill:var(--red)}.threshold{stroke:var(--ink);stroke-dasharray:5 3;stroke-width:1.5}
.key i{display:inline-block;width:10px;height:10px;margin:0 5px 0 12px;border-radius:2px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(270px,1fr));gap:14px}
figure{margin:0}.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px}img{width:100%;display:block;border-radius:4px;background:#eee}
.inside{overflow-x:auto}.inside table{width:auto}.inside td,.inside th{padding:3px;border:0;text-align:center;font-size:12px;font-weight:400;color:var(--soft)}.inside td img{width:120px;image-rendering:pixelated}
figcaption{font-size:12px;color:var(--soft);margin-top:4px;overflow-wrap:anywhere}";

/// Text that HTML may contain.
fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// A picture as a data URL, shrunk to the report's size.
fn embed(picture: Picture) -> Result<String> {
    let longest = picture.height.max(picture.width);
    let scale = |n: usize| if longest > SIDE { (n * SIDE / longest).max(1) } else { n };
    let (h, w) = (scale(picture.height), scale(picture.width));
    let small = picture.with_channels(3).resized(h, w)?;
    let bytes: Vec<u8> = small.values.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect();
    let mut jpeg = Vec::new();
    image::codecs::jpeg::JpegEncoder::new_with_quality(&mut jpeg, 88)
        .encode(&bytes, w as u32, h as u32, image::ExtendedColorType::Rgb8)
        .map_err(|e| Error::Config(format!("report picture: {e}")))?;
    Ok(format!("data:image/jpeg;base64,{}", base64::engine::general_purpose::STANDARD.encode(jpeg)))
}

/// The map of a verdict, computed again: evaluating keeps none.
fn map_of(model: &Model, verdict: &Verdict) -> Result<Vec<f32>> {
    let spec = model.detector.image();
    let picture = Picture::read(&verdict.item.path)?.fit(spec)?;
    let images = Tensor::new(picture.values, &[1, spec.height, spec.width, spec.channels])?;
    let map = model.score(&images)?.swap_remove(0).map;
    map_at(map, (spec.height, spec.width), verdict.size)
}

/// Image and overlay side by side; the overlay is also written as a file of its own.
fn figure(folder: &Path, model: &Model, verdict: &Verdict) -> Result<String> {
    let picture = Picture::read(&verdict.item.path)?;
    let map = map_of(model, verdict)?;
    let overlay = output::overlay(&picture, &map, model.calibration.pixel_threshold);
    let stem = verdict.item.path.file_stem().unwrap_or_default().to_string_lossy();
    overlay.write_png(&folder.join("overlays").join(format!("{}_{stem}.png", verdict.item.kind)))?;
    let dice = verdict.dice.map(|d| format!(", Dice {d:.3}")).unwrap_or_default();
    Ok(format!(
        r#"<figure><div class="pair"><img alt="image" src="{}"><img alt="anomaly map" src="{}"></div><figcaption>{} / {stem}: score {:.3e}{dice}</figcaption></figure>"#,
        embed(picture)?,
        embed(overlay)?,
        escape(&verdict.item.kind),
        verdict.score
    ))
}

fn gallery(folder: &Path, model: &Model, title: &str, about: &str, verdicts: &[&Verdict]) -> Result<String> {
    if verdicts.is_empty() {
        return Ok(String::new());
    }
    let figures: Vec<String> =
        verdicts.iter().take(GALLERY).map(|v| figure(folder, model, v)).collect::<Result<_>>()?;
    Ok(format!(r#"<h2>{title}</h2><p>{about}</p><div class="gallery">{}</div>"#, figures.concat()))
}

fn card(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!(r#"<div class="card"><h3>{title}</h3>{body}</div>"#) }
}

/// What a report shows of a model's inside: images by name, and curves.
pub struct Inside<'a> {
    pub images: &'a [String],
    pub curves: Vec<Curve>,
}

/// Writes `report.html` and `overlays/` into a folder.
pub fn write(folder: &Path, model: &Model, evaluation: &Evaluation, inside: Option<&Inside>) -> Result<()> {
    let m = &evaluation.metrics;
    let mut ranked: Vec<&Verdict> = evaluation.verdicts.iter().collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let defective: Vec<&Verdict> = ranked.iter().copied().filter(|v| v.item.defective).collect();
    let good: Vec<&Verdict> = ranked.iter().copied().filter(|v| !v.item.defective).collect();
    // A name that does not exist is refused before anything is written.
    let explained = inside.map(|i| explain::chosen(&defective, &good, &ranked, i.images)).transpose()?;
    output::folder(&folder.join("overlays"))?;
    let mut html = format!(
        r#"<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>hotad: {0} on {1}</title><style>{STYLE}</style><main><h1>{0} on {1}</h1><p>hotad {2}, seed {3}, trained on {4} images; {5} good and {6} defective test images.</p>"#,
        escape(&m.method),
        escape(&m.data),
        escape(&model.provenance.version),
        model.provenance.seed,
        model.provenance.training_images,
        m.good,
        m.defective
    );
    let table: String = rows(m).iter().map(|(k, v)| format!("<tr><td>{k}</td><td>{v}</td></tr>")).collect();
    let scores: Vec<(f32, bool)> = evaluation.verdicts.iter().map(|v| (v.score, v.item.defective)).collect();
    let key = r#"<p class="key"><i style="background:var(--blue)"></i>good<i style="background:var(--red)"></i>defective<i style="background:var(--ink)"></i>threshold</p>"#;
    let histogram = format!("{}{key}", charts::histogram(&scores, m.image_threshold));
    html.push_str("<h2>Metrics</h2><div class=\"row\">");
    html.push_str(&card("Results", &format!("<table>{table}</table>")));
    html.push_str(&card("Image scores and threshold", &histogram));
    html.push_str("</div><h2>Curves</h2><div class=\"row\">");
    html.push_str(&card("ROC, images", &charts::roc(&evaluation.images)));
    html.push_str(&card("Precision and recall, images", &charts::precision_recall(&evaluation.images)));
    if let Some(pixels) = &evaluation.pixels {
        html.push_str(&card("ROC, pixels", &charts::roc(pixels)));
        html.push_str(&card("Precision and recall, pixels", &charts::precision_recall(pixels)));
    }
    html.push_str("</div>");
    let weakest: Vec<&Verdict> = defective.iter().rev().copied().collect();
    let outline = "Left the image, right the anomaly map; red outlines what exceeds the pixel threshold.";
    html.push_str(&gallery(folder, model, "Clearest defects", outline, &defective)?);
    html.push_str(&gallery(folder, model, "Weakest defects", "Defective images with the lowest scores.", &weakest)?);
    html.push_str(&gallery(
        folder,
        model,
        "Most suspicious good images",
        "Good images with the highest scores.",
        &good,
    )?);
    if let (Some(inside), Some(verdicts)) = (inside, explained) {
        html.push_str(&explain::section(model, &verdicts, &inside.curves)?);
    }
    if !m.notes.is_empty() {
        html.push_str("<h2>Notes</h2>");
    }
    for note in &m.notes {
        // Writing to a String cannot fail.
        let _ = write!(html, "<p>{}</p>", escape(note));
    }
    let _ = write!(
        html,
        "<h2>Calibration</h2><p>Image threshold {}: false-alarm rate {} on {} held-out normal images. Pixel threshold {}: {}.</p></main></html>",
        m.image_threshold,
        model.calibration.image_false_alarm_rate,
        model.calibration.images,
        m.pixel_threshold,
        escape(&model.calibration.pixel_rule)
    );
    atomic_file::write(&folder.join("report.html"), |out| out.write_all(html.as_bytes()))
}
