//! `hotad reproduce`: trains and evaluates what a table of a paper compares, and puts it beside what was published.

mod results;
mod tables;

use std::path::{Path, PathBuf};

use hotad_engine::data::Dataset;
use hotad_engine::data::synth::Kind;
use hotad_engine::{AtPath, Error, Result, atomic_file};
use hotad_models::config;
use hotad_models::cross_validation::CrossValidationTable;
use hotad_models::jobs::{Begin, Conflict, EvaluateJob, TrainJob, data_set};
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
    /// SHA-256 of what the data set holds.
    sha256: String,
}

/// Fills the table, cell by cell.
pub fn run(args: &ReproduceArgs, common: &Common) -> Result<u8> {
    let tables = Tables::all();
    let (Some(name), Some(folder)) = (&args.table, &args.out) else { return list(&tables) };
    let table = tables.named(name)?;
    let work = Work { tables: &tables, table, folder, common, overrides: overrides(&args.set, &tables, table)? };
    work.check_settings()?;
    for data in &args.data {
        Dataset::open(data)?;
    }
    output::folder(folder)?;
    let mut results = Results::open(folder, table, common.seed, &args.set)?;
    let columns = work.columns(&args.data)?;
    columns.iter().try_for_each(|column| results.begin_column(column))?;
    let names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    for column in &columns {
        for row in &table.rows {
            if results.get(&row.label, &column.name).is_none() {
                results.put(&row.label, &column.name, work.cell(row, column)?)?;
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
        if let Some(key) = ["rows", "detector"].iter().find(|key| table.folds.is_some() && settings.contains_key(**key))
        {
            return refuse(format!("{key}: the rows of the table say it"));
        }
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
            let sha256 = Dataset::open(train)?.sha256()?;
            columns.push(Column { name, train: whole, test, sha256 });
        }
        Ok(columns)
    }

    /// A data set of cracks over the normal test images of another; drawn once.
    fn cracked(&self, from: &Path, name: &str, cracks: Cracks) -> Result<PathBuf> {
        let out = self.folder.join("cracks").join(name);
        if out.exists() {
            return Ok(out);
        }
        if !data_set(from, &self.common.terminal)?.test.iter().any(|item| !item.defective) {
            let reason = "no normal test images to draw cracks on; models learn from the others";
            return Err(Error::Data { path: from.into(), reason: reason.into() });
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

    /// A cell of the table.
    fn cell(&self, row: &Row, column: &Column) -> Result<Cell> {
        match self.table.folds {
            Some(folds) => self.cross_validated(row, column, folds),
            None => self.evaluated(row, column),
        }
    }

    /// The training of a row's model on a data set that leaves its result in a file, begun or continued.
    fn job(&self, row: &Row, column: &Column, ending: &str) -> Result<TrainJob> {
        let folder = self.folder.join("models").join(&column.name);
        output::folder(&folder)?;
        let out = folder.join(format!("{}.{ending}", row.model));
        let begin = match Conflict::of(&out, Begin::Resume) {
            None => Begin::Resume,
            Some(_) => Begin::Afresh,
        };
        Ok(TrainJob {
            seed: self.common.seed,
            device: self.common.device()?,
            out: Some(out),
            begin,
            ..self.described(row, &column.train)
        })
    }

    /// A row's method under its settings, on a data set.
    fn described(&self, row: &Row, data: &Path) -> TrainJob {
        let model = self.tables.model(row);
        let mut settings = model.set.clone();
        self.overrides_of(&model.method).for_each(|more| settings.extend(more));
        TrainJob { settings, ..TrainJob::new(&model.method, data) }
    }

    /// Fails for settings that a row's method does not take.
    fn check_settings(&self) -> Result<()> {
        self.table.rows.iter().try_for_each(|row| self.described(row, Path::new("")).check())
    }

    /// The metric of a trained model, which is trained where it is not there yet.
    fn evaluated(&self, row: &Row, column: &Column) -> Result<Cell> {
        let training = self.job(row, column, "safetensors")?;
        let model = training.out.clone().expect("jobs of tables write files");
        if !model.exists() {
            self.common.say(&format!("training {} on {}", row.model, column.name));
            training.run(&self.common.terminal)?;
        }
        self.common.say(&format!("{}: {} on {}", self.table.name, row.label, column.name));
        let job = EvaluateJob {
            settings: row.score.clone(),
            batch: self.common.score_batch(),
            seed: self.common.seed,
            device: self.common.device()?,
            ..EvaluateJob::new(model, &column.test)
        };
        let metrics = job.run(&self.common.terminal)?.metrics;
        let all = serde_json::to_value(&metrics).expect("metrics are plain data");
        let metric = self.table.metric.as_str();
        Ok(Cell { value: all[metric].as_f64(), interval: metrics.intervals.get(metric).copied() })
    }

    /// F1 of a row of a model's cross-validation, which is done where its results are not there yet.
    fn cross_validated(&self, row: &Row, column: &Column, folds: usize) -> Result<Cell> {
        let job = self.job(row, column, "json")?;
        let file = job.out.clone().expect("jobs of tables write files");
        if !file.exists() {
            self.common.say(&format!("cross-validating {} on {}", row.model, column.name));
            let selection = job.select_all(&self.common.terminal)?;
            // Checkpoints are there until the whole table is in its file.
            let write = |table: &CrossValidationTable| {
                if table.done < folds {
                    return Ok(());
                }
                let text = serde_json::to_string(table).expect("results are plain data");
                atomic_file::write(&file, |out| out.write_all(text.as_bytes()))
            };
            job.cross_validate(&selection, folds, &self.common.terminal, &write)?;
        }
        let text = std::fs::read_to_string(&file).at(&file)?;
        let damaged = || Error::Config(format!("{}: no results of a cross-validation; delete it", file.display()));
        let table: serde_json::Value = serde_json::from_str(&text).map_err(|_| damaged())?;
        let rows = table["rows"].as_array().ok_or_else(damaged)?;
        let own = rows.iter().find(|found| found["model"] == row.label.as_str()).ok_or_else(damaged)?;
        Ok(Cell { value: own["chosen"]["f1"]["mean"].as_f64(), interval: None })
    }
}
