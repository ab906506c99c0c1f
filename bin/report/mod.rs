//! The report of an evaluation: one HTML file with everything in it.

mod charts;
pub mod comparison;
mod csv;
mod explain;
mod gallery;
mod html;
pub mod imbalance;
pub mod latency;
pub mod rows;

use std::path::Path;

use hotad_engine::{Result, atomic_file};
use hotad_models::evaluate::{Confusion, Evaluation, Metrics, ScoredImage};
use hotad_models::model::Model;
use hotad_models::sweep::Curve;

use crate::output;
use gallery::Gallery;
use html::Html;
use rows::{KINDS, kinds, rows};

const STYLE: &str = "
:root{color-scheme:light dark;--ink:#1c2430;--soft:#5b6675;--line:#dde2e8;--back:#f6f7f9;--card:#fff;--blue:#2468b2;--red:#c8372d;--green:#2c8a57;--amber:#b97b10;--violet:#7d52b8}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ee;--soft:#a3acb9;--line:#343c48;--back:#14181e;--card:#1d232b;--blue:#6aa6e8;--red:#ef7a70;--green:#5fc48c;--amber:#e3b04b;--violet:#b494ea}}
*{box-sizing:border-box}body{margin:0;background:var(--back);color:var(--ink);font:15px/1.5 system-ui,sans-serif}
main{max-width:1180px;margin:0 auto;padding:28px 20px 60px}h1{font-size:26px;margin:0;overflow-wrap:anywhere}h2{font-size:18px;margin:34px 0 10px}
p{margin:4px 0;color:var(--soft)}.row{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(400px,100%),1fr));gap:16px}
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:14px;overflow-x:auto}.card+.card,.row+.card{margin-top:16px}.row>.card{margin-top:0}.card h3{font-size:14px;margin:0 0 6px}
table{border-collapse:collapse;width:100%}td{padding:5px 4px;border-bottom:1px solid var(--line)}td:last-child{text-align:right;font-variant-numeric:tabular-nums}
svg{width:100%;height:auto;font-size:10px;fill:var(--soft)}.grid{stroke:var(--line);fill:none}.label{font-size:11px}
.curve{fill:none;stroke:var(--blue);stroke-width:2}.curve.other{stroke:var(--red)}.curve.third{stroke:var(--green)}.curve.fourth{stroke:var(--amber)}.curve.fifth{stroke:var(--violet)}.curve.sixth{stroke:var(--soft)}
.chance{fill:none;stroke:var(--soft);stroke-dasharray:4 4}
.good{fill:var(--blue)}.bad{fill:var(--red)}.threshold{stroke:var(--ink);stroke-dasharray:5 3;stroke-width:1.5}
.key i{display:inline-block;width:10px;height:10px;margin:0 5px 0 12px;border-radius:2px}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(270px,100%),1fr));gap:14px}
figure{margin:0}.pair{display:grid;grid-template-columns:1fr 1fr;gap:4px}img{width:100%;display:block;border-radius:4px;background:var(--line)}
.inside table{width:auto}.inside td,.inside th{padding:3px;border:0;text-align:center;font-size:12px;font-weight:400;color:var(--soft)}.inside td img{width:120px;image-rendering:pixelated}
.confusion td,.confusion th{text-align:right;font-variant-numeric:tabular-nums;padding:5px 8px;border-bottom:1px solid var(--line)}.confusion th{font-weight:400;color:var(--soft)}.confusion th:first-child{text-align:left}
table.compare td,table.compare th{text-align:right;font-variant-numeric:tabular-nums;padding:5px 8px}
table.compare td:first-child,table.compare th:first-child{text-align:left}.compare th{font-weight:600;font-size:13px}
.best{font-weight:700}a{color:var(--blue)}
figcaption{font-size:12px;color:var(--soft);margin-top:4px;overflow-wrap:anywhere}
@media(max-width:600px){main{padding:20px 12px 40px}.confusion,table.compare,table.compare th{font-size:12px}
.confusion td,.confusion th,table.compare td,table.compare th{padding:5px 3px}}";

/// A whole page. It runs no script and loads nothing.
fn page(title: &str, body: &Html) -> Html {
    Html::of(
        concat!(
            r#"<!doctype html><html lang="en"><meta charset="utf-8">"#,
            r#"<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">"#,
            r#"<meta name="viewport" content="width=device-width"><title>{}</title><style>{}</style><main>{}</main></html>"#
        ),
        &[&title, &Html::of(STYLE, &[]), body],
    )
}

fn card(title: &str, body: Html) -> Html {
    if body.is_empty() {
        return body;
    }
    Html::of(r#"<div class="card"><h3>{}</h3>{}</div>"#, &[&title, &body])
}

/// What a report shows of a model's inside: images by name, and curves.
pub struct Inside<'a> {
    pub images: &'a [String],
    pub curves: Vec<Curve>,
}

fn title(model: &Model, evaluation: &Evaluation) -> Html {
    let (m, p) = (&evaluation.metrics, &model.provenance);
    Html::of(
        "<h1>{} on {}</h1><p>hotad {}, seed {}, trained on {} images; {} good and {} defective test images.</p>",
        &[&m.method, &m.data, &p.version, &p.seed, &p.training_images, &m.good, &m.defective],
    )
}

fn confusion(c: &Confusion) -> Html {
    Html::of(
        concat!(
            r#"<table class="confusion"><tr><th></th><th>called anomaly</th><th>called normal</th></tr>"#,
            "<tr><th>defective</th><td>{}</td><td>{}</td></tr><tr><th>good</th><td>{}</td><td>{}</td></tr></table>"
        ),
        &[&c.true_positive, &c.false_negative, &c.false_positive, &c.true_negative],
    )
}

/// A line for each kind of defect.
fn by_kind(m: &Metrics) -> Html {
    let head: Html = KINDS.iter().map(|name| Html::of("<th>{}</th>", &[name])).collect();
    let line = |fields: [String; 5]| -> Html {
        let [kind, rest @ ..] = &fields;
        let cells: Html = rest.iter().map(|field| Html::of("<td>{}</td>", &[field])).collect();
        Html::of("<tr><th>{}</th>{}</tr>", &[kind, &cells])
    };
    let lines: Html = kinds(m).into_iter().map(line).collect();
    Html::of(r#"<table class="confusion"><tr>{}</tr>{}</table>"#, &[&head, &lines])
}

/// Metrics, scores and curves.
fn results(evaluation: &Evaluation) -> Html {
    let m = &evaluation.metrics;
    let table: Html = rows(m).iter().map(|(k, v)| Html::of("<tr><td>{}</td><td>{}</td></tr>", &[k, v])).collect();
    let scores: Vec<(f32, bool)> = evaluation.scored.iter().map(|v| (v.score, v.item.defective)).collect();
    let key = r#"{}<p class="key"><i style="background:var(--blue)"></i>good<i style="background:var(--red)"></i>defective<i style="background:var(--ink)"></i>threshold</p>"#;
    let histogram = Html::of(key, &[&charts::histogram(&scores, m.image_threshold)]);
    let mut html = Html::of(r#"<h2>Metrics</h2><div class="row">"#, &[]);
    let about = r#"<table>{}</table><p class="key">in brackets 95 % intervals, from resampling the {} parts that the images are of</p>"#;
    html.add(card("Results", Html::of(about, &[&table, &m.parts])));
    html.add(card("Image scores and threshold", histogram));
    html.add(card("Images at the threshold", confusion(&m.confusion)));
    if !m.kinds.is_empty() {
        html.add(card("By kind of defect", by_kind(m)));
    }
    html.push(r#"</div><h2>Curves</h2><div class="row">"#, &[]);
    html.add(card("ROC, images", charts::roc(&evaluation.images)));
    html.add(card("Precision and recall, images", charts::precision_recall(&evaluation.images)));
    if let Some(pixels) = &evaluation.pixels {
        html.add(card("ROC, pixels", charts::roc(pixels)));
        html.add(card("Precision and recall, pixels", charts::precision_recall(pixels)));
    }
    html.push("</div>", &[]);
    html
}

/// Notes and how the thresholds were found.
fn small_print(model: &Model, evaluation: &Evaluation) -> Html {
    let (m, c) = (&evaluation.metrics, &model.calibration);
    let notes: Html = m.notes.iter().map(|note| Html::of("<p>{}</p>", &[note])).collect();
    let mut html = Html::default();
    if !notes.is_empty() {
        html.push("<h2>Notes</h2>{}", &[&notes]);
    }
    let promised = match c.promised_false_alarm_rate {
        0.0 => String::new(),
        rate => format!(", which promises a false-alarm rate of {rate:.3} ({} asked for)", c.image_false_alarm_rate),
    };
    let rule = if c.image_rule.is_empty() { "not told by the file" } else { &c.image_rule };
    html.push(
        "<h2>Calibration</h2><p>Image threshold {}: {}{}; {} held-out normal images of {} parts. Pixel threshold {}: {}.</p>",
        &[&m.image_threshold, &rule, &promised, &c.images, &c.groups, &m.pixel_threshold, &c.pixel_rule],
    );
    html
}

/// What is said of an image, as a word.
fn word(anomaly: bool) -> &'static str {
    if anomaly { "anomaly" } else { "normal" }
}

/// Columns of the table of images.
const IMAGE_COLUMNS: [&str; 7] = ["path", "kind", "label", "score", "predicted", "threshold", "ms"];

/// One line for each image.
fn image_lines(evaluation: &Evaluation) -> Vec<String> {
    let threshold = evaluation.metrics.image_threshold;
    let line = |v: &ScoredImage| {
        let (path, score, ms) = (v.item.path.to_string_lossy(), v.score.to_string(), format!("{:.3}", v.ms));
        let (label, predicted) = (word(v.item.defective), word(v.score > threshold));
        csv::line(&[&path, &v.item.kind, label, &score, predicted, &threshold.to_string(), &ms])
    };
    std::iter::once(csv::line(&IMAGE_COLUMNS)).chain(evaluation.scored.iter().map(line)).collect()
}

/// Writes `report.html`, `images.csv` and `overlays/` into a folder, at most `images` pictures to each gallery.
pub fn write(
    folder: &Path,
    model: &Model,
    evaluation: &Evaluation,
    images: usize,
    inside: Option<&Inside>,
) -> Result<()> {
    let mut ranked: Vec<&ScoredImage> = evaluation.scored.iter().collect();
    ranked.sort_by(|a, b| b.score.total_cmp(&a.score));
    let (defective, good): (Vec<&ScoredImage>, Vec<&ScoredImage>) = ranked.iter().partition(|v| v.item.defective);
    // A name that does not exist is refused before anything is written.
    let explained = inside.map(|i| explain::chosen(&defective, &good, &ranked, i.images)).transpose()?;
    let (overlays, table) = (folder.join("overlays"), folder.join("images.csv"));
    output::folder(&overlays)?;
    gallery::remove_earlier(&overlays, &table)?;
    // Before the overlays: also those of a report that fails half-way are then known to the next.
    csv::write(&table, &image_lines(evaluation))?;
    let gallery = Gallery::new(&overlays, model, evaluation, images);
    // Of equal scores the first comes first, as among the maps that were kept.
    let mut weakest = defective.clone();
    weakest.sort_by(|a, b| a.score.total_cmp(&b.score));
    let about = "Left the image, its ground truth outlined in cyan; right the anomaly map, outlined in red where it exceeds the pixel threshold.";
    let mut body = title(model, evaluation);
    body.add(results(evaluation));
    body.add(gallery.section("Clearest defects", about, &defective)?);
    body.add(gallery.section("Weakest defects", "Defective images with the lowest scores.", &weakest)?);
    body.add(gallery.section("Most suspicious good images", "Good images with the highest scores.", &good)?);
    if let (Some(inside), Some(scored)) = (inside, explained) {
        body.add(explain::section(model, &scored, &inside.curves)?);
    }
    body.add(small_print(model, evaluation));
    let m = &evaluation.metrics;
    let html = page(&format!("hotad: {} on {}", m.method, m.data), &body);
    atomic_file::write(&folder.join("report.html"), |out| out.write_all(html.as_bytes()))
}
