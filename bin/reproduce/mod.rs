//! `hotad reproduce`: trains and evaluates what a table of a paper compares, and puts it beside what was published.

mod results;
mod tables;

use std::path::{Path, PathBuf};

use hotad_engine::data::synth::Kind;
use hotad_engine::{AtPath, Error, Result, atomic_file};
use hotad_models::config;
use hotad_models::evaluate::Metrics;
use hotad_models::jobs::{Begin, Conflict, EvaluateJob, TrainJob};
use toml::Table as Settings;

use crate::args::{Common, ReproduceArgs};
use crate::commands::synth::{Defects, draw_data_set};
use crate::{OK, output};
use results::{Cell, Results};
use tables::{Cracks, Row, Table, Tables};

/// A data set that is a column.
struct Column {
    /// Name of its folder.
    name: String,
    /// Images that are learned from.
    train: PathBuf,
    /// Images that are evaluated.
    test: PathBuf,
}

/// Fills the table, cell by cell.
pub fn run(args: &ReproduceArgs, common: &Common) -> Result<u8> {
    let tables = Tables::all();
    let (Some(name), Some(folder)) = (&args.table, &args.out) else { return list(&tables) };
    let table = tables.named(name)?;
    let work = Work { tables: &tables, table, folder, common, overrides: overrides(&args.set, &tables, table)? };
    output::folder(folder)?;
    let mut results = Results::open(folder, table, common.seed, &args.set)?;
    let columns = work.columns(&args.data)?;
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    for column in &columns {
        for row in &table.rows {
            if results.get(&row.label, &column.name).is_none() {
                let metrics = work.evaluate(row, column)?;
                results.put(&row.label, &column.name, cell(&metrics, &table.metric))?;
                write(folder, &results.markdown(table, &names))?;
            }
        }
    }
    let markdown = results.markdown(table, &names);
    write(folder, &markdown)?;
    output::line(markdown.trim_end())?;
    Ok(OK)
}

fn write(folder: &Path, markdown: &str) -> Result<()> {
    atomic_file::write(&folder.join("table.md"), |out| out.write_all(markdown.as_bytes()))
}

/// Prints the names and titles of all tables.
fn list(tables: &Tables) -> Result<u8> {
    tables.iter().try_for_each(|table| output::line(&format!("{:10} {}", table.name, table.title)))?;
    Ok(OK)
}

/// A metric and its interval.
fn cell(metrics: &Metrics, metric: &str) -> Cell {
    let all = serde_json::to_value(metrics).expect("metrics are plain data");
    Cell { value: all[metric].as_f64(), interval: metrics.intervals.get(metric).copied() }
}

/// Settings by method, from `METHOD.KEY=VALUE`.
fn overrides(assignments: &[String], tables: &Tables, table: &Table) -> Result<Vec<(String, Settings)>> {
    let methods: Vec<&str> = table.rows.iter().map(|row| &*tables.model(row).method).collect();
    let parse = |assignment: &String| {
        let refuse = |reason: String| Err(Error::Config(format!("--set {assignment}: {reason}")));
        let Some((method, assignment)) = assignment.split_once('.') else {
            return refuse("expected METHOD.KEY=VALUE, e.g. i3ad.preset=small".into());
        };
        if !methods.contains(&method) {
            return refuse(format!("no row of the table is of the method {method:?}"));
        }
        let mut settings = Settings::new();
        config::set(&mut settings, assignment)?;
        Ok((method.to_string(), settings))
    };
    assignments.iter().map(parse).collect()
}

/// What all cells of a table have in common.
struct Work<'a> {
    tables: &'a Tables,
    table: &'a Table,
    folder: &'a Path,
    common: &'a Common,
    overrides: Vec<(String, Settings)>,
}

impl Work<'_> {
    /// The data sets; defects are drawn where the table wants them.
    fn columns(&self, data: &[PathBuf]) -> Result<Vec<Column>> {
        let mut columns: Vec<Column> = Vec::new();
        for train in data {
            let whole = train.canonicalize().at(train)?;
            let name = whole.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if columns.iter().any(|column| column.name == name) {
                let reason = "two folders of one name cannot be columns of one table";
                return Err(Error::Config(format!("--data {}: {reason}", train.display())));
            }
            let test = match self.table.cracks {
                Some(cracks) => self.cracked(train, &name, cracks)?,
                None => train.clone(),
            };
            columns.push(Column { name, train: train.clone(), test });
        }
        Ok(columns)
    }

    /// A data set of cracks over the normal test images of another; drawn once.
    fn cracked(&self, from: &Path, name: &str, cracks: Cracks) -> Result<PathBuf> {
        let out = self.folder.join("cracks").join(name);
        if out.exists() {
            return Ok(out);
        }
        let unfinished = self.folder.join("cracks").join(format!("{name}.unfinished"));
        if unfinished.exists() {
            std::fs::remove_dir_all(&unfinished).at(&unfinished)?;
        }
        let defects = Defects { kind: Kind::Crack, count: cracks.count, size: Some(cracks.size) };
        draw_data_set(from, &unfinished, defects, self.common)?;
        std::fs::rename(&unfinished, &out).at(&out)?;
        Ok(out)
    }

    /// Settings of a method that `--set` gives.
    fn overrides_of(&self, method: &str) -> impl Iterator<Item = Settings> {
        self.overrides.iter().filter(move |(name, _)| name == method).map(|(_, settings)| settings.clone())
    }

    /// The model of a row on a data set, trained where it is not there yet.
    fn model(&self, row: &Row, column: &Column) -> Result<PathBuf> {
        let folder = self.folder.join("models").join(&column.name);
        let out = folder.join(format!("{}.safetensors", row.model));
        if out.exists() {
            return Ok(out);
        }
        output::folder(&folder)?;
        let model = self.tables.model(row);
        let mut settings = model.set.clone();
        self.overrides_of(&model.method).for_each(|more| settings.extend(more));
        let begin = match Conflict::of(&out, Begin::Resume) {
            None => Begin::Resume,
            Some(_) => Begin::Afresh,
        };
        self.common.say(&format!("training {} on {}", row.model, column.name));
        let job = TrainJob {
            settings,
            seed: self.common.seed,
            device: self.common.device()?,
            out: Some(out.clone()),
            begin,
            ..TrainJob::new(&model.method, &column.train)
        };
        job.run(&self.common.terminal)?;
        Ok(out)
    }

    fn evaluate(&self, row: &Row, column: &Column) -> Result<Metrics> {
        let model = self.model(row, column)?;
        self.common.say(&format!("{}: {} on {}", self.table.name, row.label, column.name));
        let job = EvaluateJob {
            settings: row.score.clone(),
            batch: self.common.score_batch(),
            seed: self.common.seed,
            device: self.common.device()?,
            ..EvaluateJob::new(model, &column.test)
        };
        Ok(job.run(&self.common.terminal)?.metrics)
    }
}
