//! `hotad train METHOD --cv FOLDS`.

use std::time::Instant;

use hotad_engine::{Result, atomic_file};
use hotad_models::cross_validation::{CrossValidationTable, Folds};
use hotad_models::jobs::{Selection, TrainJob};
use hotad_models::method;

use super::train;
use crate::args::Common;
use crate::{OK, output};

/// Cross-validates the method of a job on its images.
pub fn run(job: TrainJob, folds: usize, common: &Common) -> Result<u8> {
    train::check(&job, common)?;
    let selection = job.select_all(&common.terminal)?;
    validate(job, &selection, folds, common)?;
    Ok(OK)
}

/// Cross-validates on chosen images, prints the table and, with a file to write, writes everything as JSON, anew after each fold.
pub fn validate(mut job: TrainJob, selection: &Selection, folds: usize, common: &Common) -> Result<()> {
    job.device = common.device()?;
    let started = Instant::now();
    let settings = (method(&job.method)?.settings)(&job.settings)?;
    let write = |table: &CrossValidationTable| {
        let Some(path) = &job.out else { return Ok(()) };
        let (seed, data) = (job.seed, &selection.chosen);
        let json = serde_json::json!({ "settings": settings, "seed": seed, "data": data, "results": table });
        let text = serde_json::to_string_pretty(&json).expect("results are plain data");
        atomic_file::write(path, |file| writeln!(file, "{text}"))
    };
    let table = job.cross_validate(selection, folds, &common.terminal, &write)?;
    print(&table)?;
    common.say(&format!("{folds}-fold cross-validation in {:.0} s", started.elapsed().as_secs_f64()));
    Ok(())
}

/// A metric's mean and deviation.
fn both(folds: &Folds) -> String {
    format!("{:.3} ± {:.3}", folds.mean, folds.deviation)
}

/// The table in the form of the paper's: F1 mean and deviation, the point of each fold chosen on the others, and the difference from
/// the first row; beneath, every point, with precision, recall and AUROC.
fn print(table: &CrossValidationTable) -> Result<()> {
    let (p, n) = (table.positive, table.negative);
    output::line(&format!(
        "{p} positive, {n} negative, P to N ratio {:.3}; {} folds{}, F1 mean ± deviation",
        p as f64 / n as f64,
        table.folds,
        if table.seeds > 1 { format!(", means over {} seeds", table.seeds) } else { String::new() }
    ))?;
    output::line(
        "| Model | Params | F1, point chosen on the other folds | points | from the first row, 95 % interval |",
    )?;
    output::line("|---|---|---|---|---|")?;
    for row in &table.rows {
        let points: Vec<String> = row.chosen.points.iter().flatten().map(ToString::to_string).collect();
        let difference = row.difference.map_or(String::new(), |d| match d.interval {
            Some([low, high]) => format!("{:+.3} [{low:+.3}, {high:+.3}]", d.f1),
            None => format!("{:+.3}", d.f1),
        });
        let (params, f1, points) = (row.parameters as f64 / 1e6, both(&row.chosen.f1), points.join(" "));
        output::line(&format!("| {} | {params:.1}M | {f1} | {points} | {difference} |", row.model))?;
    }
    for row in &table.rows {
        for p in &row.points {
            let point = p.point.map(|point| format!(", point {point}")).unwrap_or_default();
            let [f1, precision, recall, auroc] = [&p.f1, &p.precision, &p.recall, &p.auroc].map(both);
            let name = &row.model;
            let seeds: Vec<String> = p.f1_of_seeds.iter().map(|f1| format!("{f1:.3}")).collect();
            let seeds = if table.seeds > 1 { format!(", F1 by seed {}", seeds.join(" ")) } else { String::new() };
            output::line(&format!(
                "{name}{point}: F1 {f1}, precision {precision}, recall {recall}, AUROC {auroc}{seeds}"
            ))?;
        }
    }
    Ok(())
}
