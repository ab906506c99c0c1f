//! F1 over the share of defective images, as a page with a figure and a table.

use std::path::Path;

use hotad_engine::{Result, atomic_file};
use serde_json::Value;

use super::charts::Plot;
use super::html::Html;
use super::{card, page};

/// Colours of lines, in turn.
const COLOURS: [&str; 6] = ["#2468b2", "#c8372d", "#3a8a3f", "#a0651a", "#7b4bb0", "#4d8f9c"];

/// F1 of a row of the table.
struct Line<'a> {
    model: &'a str,
    /// Share of defective images, mean and deviation over folds.
    points: Vec<(f64, f64, f64)>,
}

fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or(f64::NAN)
}

/// The share of defective images in a cross-validation.
fn share(results: &Value) -> f64 {
    let [positive, negative] = ["positive", "negative"].map(|class| number(&results["results"][class]));
    positive / (positive + negative)
}

/// The rows that all cross-validations share, along rising shares.
fn lines<'a>(all: &[&'a Value]) -> Vec<Line<'a>> {
    let rows = |results: &'a Value| results["results"]["rows"].as_array().map_or(&[][..], Vec::as_slice);
    let points = |model: &str| {
        let point = |results: &&'a Value| {
            let f1 = &rows(results).iter().find(|row| row["model"] == model)?["chosen"]["f1"];
            Some((share(results), number(&f1["mean"]), number(&f1["deviation"])))
        };
        all.iter().filter_map(point).collect()
    };
    let models = all.first().map_or(&[][..], |first| rows(first)).iter().filter_map(|row| row["model"].as_str());
    models.map(|model| Line { model, points: points(model) }).collect()
}

fn figure(lines: &[Line]) -> Html {
    let shares = || lines.iter().flat_map(|line| line.points.iter().map(|(share, ..)| *share));
    let most = shares().fold(0.0, f64::max);
    let labels = ("share of defective images", "F1, mean and deviation over folds");
    let mut plot = Plot::new("F1 over the share of defective images", labels, (0.0, most), (0.0, 1.0));
    let mut key = Html::default();
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        plot.coloured(&line.points.iter().map(|(share, mean, _)| (*share, *mean)).collect::<Vec<_>>(), colour);
        for (share, mean, deviation) in &line.points {
            let ends = [(mean - deviation).max(0.0), (mean + deviation).min(1.0)];
            plot.coloured(&ends.map(|f1| (*share, f1)), colour);
        }
        key.push(r#"<i style="background:{}"></i>{}"#, &[colour, &line.model]);
    }
    Html::of(r#"{}<p class="key">{}</p>"#, &[&plot.finish(), &key])
}

fn table(lines: &[Line]) -> Html {
    let Some(first) = lines.first() else { return Html::default() };
    let heads: Html =
        first.points.iter().map(|(share, ..)| Html::of("<th>{}</th>", &[&format!("{share:.3}")])).collect();
    let row = |line: &Line| {
        let cell =
            |(_, mean, deviation): &(f64, f64, f64)| Html::of("<td>{}</td>", &[&format!("{mean:.3} ± {deviation:.3}")]);
        let cells: Html = line.points.iter().map(cell).collect();
        Html::of("<tr><td>{}</td>{}</tr>", &[&line.model, &cells])
    };
    let rows: Html = lines.iter().map(row).collect();
    Html::of(r#"<table class="compare"><tr><th>share of defective images</th>{}</tr>{}</table>"#, &[&heads, &rows])
}

/// Writes the page of some cross-validations, each as `train --cv --out` writes it.
pub fn write(path: &Path, method: &str, all: &[Value]) -> Result<()> {
    let mut all: Vec<&Value> = all.iter().collect();
    all.sort_by(|a, b| share(a).total_cmp(&share(b)));
    let lines = lines(&all);
    let about = "Cross-validated F1 at a probability of 0.5, the attention point of each fold chosen on the others.";
    let mut body = Html::of("<h1>{} under imbalance</h1><p>{}</p>", &[&method, &about]);
    body.add(card("F1 over the share of defective images", figure(&lines)));
    body.add(card("Mean and deviation over folds", table(&lines)));
    let html = page("hotad: imbalance", &body);
    atomic_file::write(path, |out| out.write_all(html.as_bytes()))
}
