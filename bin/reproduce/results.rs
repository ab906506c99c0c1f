//! What has been measured so far, in a file that is written anew after every cell.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use hotad_engine::{AtPath, Error, Result, atomic_file};
use serde::{Deserialize, Serialize};

use super::Column;
use super::tables::{Row, Table};

/// A measured cell.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// The metric; null where it cannot be computed.
    pub value: Option<f64>,
    /// Its 95 % interval.
    pub interval: Option<[f64; 2]>,
}

/// All that decides what cells hold, and the cells.
#[derive(Serialize, Deserialize)]
struct Contents {
    table: String,
    metric: String,
    seed: u64,
    /// `--set`.
    settings: Vec<String>,
    /// SHA-256 of what each data set holds.
    data_sha256: BTreeMap<String, String>,
    /// By row and data set.
    cells: BTreeMap<String, BTreeMap<String, Cell>>,
}

/// The results of a table.
pub struct Results {
    file: PathBuf,
    contents: Contents,
}

impl Results {
    /// Those that a folder holds; none where it holds none.
    ///
    /// # Errors
    /// When the folder holds those of another table, seed or settings.
    pub fn open(folder: &Path, table: &Table, seed: u64, settings: &[String]) -> Result<Self> {
        let file = folder.join("table.json");
        let mut settings = settings.to_vec();
        settings.sort();
        let fresh = Contents {
            table: table.name.clone(),
            metric: table.metric.clone(),
            seed,
            settings,
            data_sha256: BTreeMap::new(),
            cells: BTreeMap::new(),
        };
        if !file.exists() {
            let results = Self { file, contents: fresh };
            results.save()?;
            return Ok(results);
        }
        let text = std::fs::read_to_string(&file).at(&file)?;
        let contents: Contents = serde_json::from_str(&text).map_err(|e| {
            Error::Config(format!("{}: no results of this command ({e}); move it away", file.display()))
        })?;
        let same = |a: &Contents, b: &Contents| (&a.table, a.seed, &a.settings) == (&b.table, b.seed, &b.settings);
        let begun = ["models", "cracks"].iter().any(|made| folder.join(made).exists());
        if !same(&contents, &fresh) && contents.cells.is_empty() && !begun {
            return Ok(Self { file, contents: fresh });
        }
        if !same(&contents, &fresh) {
            let reason = "results of another table, --seed or --set; name a new folder";
            return Err(Error::Config(format!("--out {}: holds {reason}", folder.display())));
        }
        Ok(Self { file, contents })
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.contents).expect("plain data");
        atomic_file::write(&self.file, |out| out.write_all(text.as_bytes()))
    }

    /// Remembers what a data set holds.
    ///
    /// # Errors
    /// When this folder of results was begun with other files under that name.
    pub fn begin_column(&mut self, column: &Column) -> Result<()> {
        let Column { name, train, sha256, .. } = column;
        let known = self.contents.data_sha256.entry(name.clone()).or_insert_with(|| sha256.clone());
        if known != sha256 {
            let reason =
                format!("the files of {name} differ from those that this --out was begun with; name a new folder");
            return Err(Error::Config(format!("--data {}: {reason}", train.display())));
        }
        self.save()
    }

    pub fn get(&self, row: &str, data: &str) -> Option<Cell> {
        self.contents.cells.get(row)?.get(data).copied()
    }

    /// Adds a cell and writes the file.
    pub fn put(&mut self, row: &str, data: &str, cell: Cell) -> Result<()> {
        self.contents.cells.entry(row.into()).or_default().insert(data.into(), cell);
        self.save()
    }

    /// The table as Markdown: a column for each data set, what was published in brackets.
    pub fn markdown(&self, table: &Table, data: &[String]) -> String {
        let head = ["row"].into_iter().chain(data.iter().map(String::as_str)).chain(["mean", "published mean"]);
        let mut lines = vec![bars(head.map(String::from))];
        lines.push(format!("|{}", "---|".repeat(data.len() + 3)));
        lines.extend(table.rows.iter().map(|row| self.line(row, data)));
        format!("# {}\n\n{}\n\n{}\n", table.title, self.about(), lines.join("\n"))
    }

    fn about(&self) -> String {
        let Contents { metric, seed, settings, .. } = &self.contents;
        let settings = if settings.is_empty() { "none".into() } else { settings.join(", ") };
        format!(
            "`{metric}`, 95 % interval, (published); seed {seed}, settings other than the table's: {settings}. The mean is over the \
             data sets here, the published mean over those of the paper."
        )
    }

    fn line(&self, row: &Row, data: &[String]) -> String {
        let cells: Vec<Option<Cell>> = data.iter().map(|name| self.get(&row.label, name)).collect();
        let text = |(cell, name): (&Option<Cell>, &String)| match (shown(*cell), row.published(name)) {
            (cell, Some(published)) => format!("{cell} ({published:.3})"),
            (cell, None) => cell,
        };
        let values: Option<Vec<f64>> = cells.iter().map(|cell| cell.and_then(|cell| cell.value)).collect();
        let mean = values.map(|values| values.iter().sum::<f64>() / values.len() as f64);
        let number = |value: Option<f64>| value.map_or("-".into(), |v| format!("{v:.3}"));
        let texts: Vec<String> = cells.iter().zip(data).map(text).collect();
        bars([row.label.clone()].into_iter().chain(texts).chain([number(mean), number(row.published_mean())]))
    }
}

/// Cells between bars.
fn bars(cells: impl Iterator<Item = String>) -> String {
    format!("| {} |", cells.collect::<Vec<String>>().join(" | "))
}

/// A cell as tables show it.
fn shown(cell: Option<Cell>) -> String {
    match cell {
        None => "not yet".into(),
        Some(Cell { value: None, .. }) => "-".into(),
        Some(Cell { value: Some(value), interval: None }) => format!("{value:.3}"),
        Some(Cell { value: Some(value), interval: Some([low, high]) }) => format!("{value:.3} [{low:.2}, {high:.2}]"),
    }
}
