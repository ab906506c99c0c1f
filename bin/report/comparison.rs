//! The report of a comparison: `report.html` with a table for each metric, and `comparison.csv` with all values.

use std::path::Path;

use hotad_engine::{Result, atomic_file};

use super::html::{Html, link};
use super::{csv, page};
use crate::comparison::{Block, Cell, Row, Run, SUMMARY, shown, values};

fn lines(runs: &[Run]) -> Vec<String> {
    let mut lines = vec![csv::line(&["model", "method", "data", "change", "metric", "value", "low", "high"])];
    for run in runs {
        for Cell { metric, value, interval } in values(run) {
            let [low, high] = interval.map_or_else(Default::default, |bounds| bounds.map(|v| v.to_string()));
            let of = [&run.model, &run.metrics.method, &run.category, run.change, metric];
            lines.push(csv::line(&[&of[..], &[&value.to_string(), &low, &high]].concat()));
        }
    }
    lines
}

/// A background between white and blue: 0.5 and less is white.
fn shade(value: f64) -> String {
    format!("background:rgba(36,104,178,{:.2})", 0.45 * ((value - 0.5) * 2.0).clamp(0.0, 1.0))
}

/// A value, linked to the model's own report where its column is a data set.
fn cell_text(value: Option<f64>, folder: Option<&String>, column: &str, linked: bool) -> Html {
    let text = shown(value);
    match folder {
        Some(folder) if value.is_some() && linked && !SUMMARY.contains(&column) => {
            let path = link(&format!("{column}/{folder}/report.html"));
            Html::of(r#"<a href="{}">{}</a>"#, &[&path, &text])
        }
        _ => Html::of("{}", &[&text]),
    }
}

fn table(block: &Block, linked: bool) -> Html {
    let models: Vec<&Row> = block.rows.iter().filter(|r| r.is_model()).collect();
    let best = |column: usize| block.better.best(models.iter().filter_map(|r| r.values[column]));
    let row = |row: &Row| {
        let cell = |(i, value): (usize, &Option<f64>)| {
            let model = row.is_model();
            let style = value.filter(|_| model).map(shade).unwrap_or_default();
            let class = if model && value.is_some() && *value == best(i) { "best" } else { "" };
            let text = cell_text(*value, row.folder.as_ref(), &block.columns[i], linked);
            Html::of(r#"<td class="{}" style="{}">{}</td>"#, &[&class, &style, &text])
        };
        let cells: Html = row.values.iter().enumerate().map(cell).collect();
        Html::of("<tr><td>{}</td>{}</tr>", &[&row.model, &cells])
    };
    let heads: Html = block.columns.iter().map(|c| Html::of("<th>{}</th>", &[c])).collect();
    let rows: Html = block.rows.iter().map(row).collect();
    Html::of(r#"<table class="compare"><tr><th>model</th>{}</tr>{}</table>"#, &[&heads, &rows])
}

/// Tables under a heading; the first one linked on request.
fn section(title: &str, blocks: &[&Block], linked: bool) -> Html {
    if blocks.is_empty() {
        return Html::default();
    }
    let card = |(i, block): (usize, &&Block)| {
        let table = table(block, linked && i == 0);
        Html::of(r#"<div class="card"><h3>{}</h3>{}</div><br>"#, &[&block.title, &table])
    };
    let cards: Html = blocks.iter().enumerate().map(card).collect();
    Html::of("<h2>{}</h2>{}", &[&title, &cards])
}

/// Notes of all runs, each once.
fn notes(runs: &[Run]) -> Html {
    let mut seen: Vec<(&str, &str, &str)> = Vec::new();
    for run in runs.iter().filter(|r| r.change == "none") {
        for note in &run.metrics.notes {
            let line = (run.model.as_str(), run.category.as_str(), note.as_str());
            if !seen.contains(&line) {
                seen.push(line);
            }
        }
    }
    if seen.is_empty() {
        return Html::default();
    }
    let notes: Html =
        seen.iter().map(|(model, data, note)| Html::of("<p>{} on {}: {}</p>", &[model, data, note])).collect();
    Html::of("<h2>Notes</h2>{}", &[&notes])
}

/// Writes both files into a folder.
pub fn write(folder: &Path, runs: &[Run], blocks: &[Block]) -> Result<()> {
    let (plain, changed): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|b| b.change == "none");
    let about = "The best of each column is bold; cells are darker the higher the value. The values of the first table lead to the models' own reports.";
    let mut body = Html::of("<h1>Comparison</h1><p>{}</p>", &[&about]);
    body.add(section("Test images", &plain, true));
    body.add(section("Changed images", &changed, false));
    body.add(notes(runs));
    let html = page("hotad: comparison", &body);
    csv::write(&folder.join("comparison.csv"), &lines(runs))?;
    atomic_file::write(&folder.join("report.html"), |out| out.write_all(html.as_bytes()))
}
