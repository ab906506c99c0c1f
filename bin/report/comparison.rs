//! The report of a comparison: `report.html` with a table for each metric, and `comparison.csv` with all values.

use std::fmt::Write;
use std::path::Path;

use hotad_engine::{Result, atomic_file};

use super::{STYLE, escape};
use crate::commands::compare::{Block, Run, SUMMARY, file_name, shown, values};

/// Colours of cells and links.
const EXTRA: &str =
    "table.compare td,table.compare th{text-align:right;font-variant-numeric:tabular-nums;padding:5px 8px}
table.compare td:first-child,table.compare th:first-child{text-align:left}.compare th{font-weight:600;font-size:13px}
.best{font-weight:700}.wide{overflow-x:auto}a{color:var(--blue)}";

/// A text as a CSV field.
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}

fn csv(runs: &[Run]) -> String {
    let mut csv = String::from("model,method,data,change,metric,value\n");
    for run in runs {
        let start = [&run.model, &run.metrics.method, &run.category].map(|t| field(t)).join(",");
        for (metric, value) in values(run) {
            // Writing to a String cannot fail.
            let _ = writeln!(csv, "{start},{},{},{value}", run.change, field(metric));
        }
    }
    csv
}

/// A background between white and blue: 0.5 and less is white.
fn shade(value: f64) -> String {
    format!("background:rgba(36,104,178,{:.2})", 0.45 * ((value - 0.5) * 2.0).clamp(0.0, 1.0))
}

/// A value, linked to the model's own report where its column is a data set.
fn cell_text(value: Option<f64>, model: &str, column: &str, linked: bool) -> String {
    match value {
        Some(_) if linked && !SUMMARY.contains(&column) => {
            let path = format!("{column}/{}/report.html", file_name(model));
            format!("<a href=\"{}\">{}</a>", escape(&path), shown(value))
        }
        _ => shown(value),
    }
}

fn table(block: &Block, linked: bool) -> String {
    let heads: String = block.columns.iter().map(|c| format!("<th>{}</th>", escape(c))).collect();
    let mut html = format!("<table class=\"compare\"><tr><th>model</th>{heads}</tr>");
    let best = |column: usize| block.rows.iter().filter_map(|(_, v)| v[column]).reduce(f64::max);
    for (name, values) in &block.rows {
        let cell = |(i, value): (usize, &Option<f64>)| {
            let style = value.map(shade).unwrap_or_default();
            let class = if value.is_some() && *value == best(i) { " class=\"best\"" } else { "" };
            let text = cell_text(*value, name, &block.columns[i], linked);
            format!("<td{class} style=\"{style}\">{text}</td>")
        };
        let cells: String = values.iter().enumerate().map(cell).collect();
        let _ = write!(html, "<tr><td>{}</td>{cells}</tr>", escape(name));
    }
    html + "</table>"
}

/// Tables under a heading; the first one linked on request.
fn section(title: &str, blocks: &[&Block], linked: bool) -> String {
    if blocks.is_empty() {
        return String::new();
    }
    let card = |(i, block): (usize, &&Block)| {
        let table = table(block, linked && i == 0);
        format!("<div class=\"card wide\"><h3>{}</h3>{table}</div><br>", escape(&block.title))
    };
    format!("<h2>{title}</h2>{}", blocks.iter().enumerate().map(card).collect::<String>())
}

/// Notes of all runs, each once.
fn notes(runs: &[Run]) -> String {
    let mut seen: Vec<String> = Vec::new();
    for run in runs.iter().filter(|r| r.change == "none") {
        for note in &run.metrics.notes {
            let line = format!("<p>{} on {}: {}</p>", escape(&run.model), escape(&run.category), escape(note));
            if !seen.contains(&line) {
                seen.push(line);
            }
        }
    }
    if seen.is_empty() { String::new() } else { format!("<h2>Notes</h2>{}", seen.concat()) }
}

/// Writes both files into a folder.
pub fn write(folder: &Path, runs: &[Run], blocks: &[Block]) -> Result<()> {
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><title>hotad: comparison</title><style>{STYLE}{EXTRA}</style><main><h1>Comparison</h1><p>The best of each column is bold; cells are darker the higher the value. The values of the first table lead to the models' own reports.</p>"
    );
    let (plain, changed): (Vec<&Block>, Vec<&Block>) = blocks.iter().partition(|b| b.change == "none");
    html.push_str(&section("Test images", &plain, true));
    html.push_str(&section("Changed images", &changed, false));
    html.push_str(&notes(runs));
    html.push_str("</main></html>");
    let csv = csv(runs);
    atomic_file::write(&folder.join("comparison.csv"), |out| out.write_all(csv.as_bytes()))?;
    atomic_file::write(&folder.join("report.html"), |out| out.write_all(html.as_bytes()))
}
