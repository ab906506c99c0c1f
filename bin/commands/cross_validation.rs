//! `hotad train lea-net --cv FOLDS`.

use std::path::Path;
use std::time::Instant;

use hotad_engine::{Error, Result, atomic_file};
use hotad_models::config::Settings;
use hotad_models::detector::FitContext;
use hotad_models::lea_net::{Config, Table, cross_validate};
use toml::Table as Toml;

use crate::args::Common;
use crate::{OK, output};

/// Refuses methods that have no labels to validate on.
pub fn check(method: &str) -> Result<()> {
    if method == "lea-net" {
        return Ok(());
    }
    Err(Error::Config(format!("--cv: {method} learns from normal images alone; cross-validation is for lea-net")))
}

/// Cross-validates, prints the table and, with a path, writes everything as JSON.
pub fn run(settings: &Toml, context: &FitContext, folds: usize, out: Option<&Path>, common: &Common) -> Result<u8> {
    let started = Instant::now();
    let config = Config::from_table(settings)?;
    let table = cross_validate(&config, context, folds)?;
    print(&table)?;
    if let Some(path) = out {
        let json = serde_json::json!({ "settings": config, "seed": context.seed, "results": table });
        let text = serde_json::to_string_pretty(&json).expect("results are plain data");
        atomic_file::write(path, |file| writeln!(file, "{text}"))?;
    }
    common.say(&format!("{folds}-fold cross-validation in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(OK)
}

/// The table in the form of the paper's: F1 mean and deviation, the best point in brackets; beneath, for
/// rows with attention, every point.
fn print(table: &Table) -> Result<()> {
    let (p, n) = (table.positive, table.negative);
    output::line(&format!(
        "{p} positive, {n} negative, P to N ratio {:.3}; {} folds, F1 mean ± deviation",
        p as f64 / n as f64,
        table.folds
    ))?;
    output::line("| Model | Params | F1 |\n|---|---|---|")?;
    for row in &table.rows {
        let Some(best) = row.best() else { continue };
        let point = best.point.map(|p| format!(" ({p})")).unwrap_or_default();
        let params = row.parameters as f64 / 1e6;
        output::line(&format!("| {} | {params:.1}M | {:.3} ± {:.3}{point} |", row.model, best.mean, best.deviation))?;
    }
    for row in table.rows.iter().filter(|r| r.points.len() > 1) {
        let point = |p: &hotad_models::lea_net::PointResult| {
            format!("{}: {:.3} ± {:.3}", p.point.unwrap_or_default(), p.mean, p.deviation)
        };
        let points: Vec<String> = row.points.iter().map(point).collect();
        output::line(&format!("{}, by point: {}", row.model, points.join(", ")))?;
    }
    Ok(())
}
