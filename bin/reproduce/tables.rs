//! The tables of the papers, as tables.toml describes them.

use std::collections::BTreeMap;

use hotad_engine::{Error, Result};
use serde::Deserialize;
use toml::Table as Settings;

/// The contents of tables.toml.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tables {
    model: BTreeMap<String, Model>,
    table: Vec<Table>,
}

/// A model that rows are of.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Model {
    pub method: String,
    /// Settings other than the method's defaults.
    #[serde(default)]
    pub set: Settings,
}

/// A table of a paper.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    pub name: String,
    pub title: String,
    /// The metric of its cells, as `eval --json` calls it; of cross-validated tables F1.
    pub metric: String,
    /// Where rows are cross-validated: the number of folds. Labels are then those of the cross-validation's rows.
    pub folds: Option<usize>,
    /// Where defects are drawn on normal images.
    pub cracks: Option<Cracks>,
    #[serde(rename = "row")]
    pub rows: Vec<Row>,
}

/// Drawn defects.
#[derive(Clone, Copy, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cracks {
    /// Defective images.
    pub count: u32,
    /// Rows and columns of all images.
    pub size: u32,
}

/// A row of a table.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub label: String,
    /// Name of its model.
    pub model: String,
    /// Settings of scoring other than the model's.
    #[serde(default)]
    pub score: Settings,
    /// What was published, by data set.
    pub published: BTreeMap<String, f64>,
}

impl Row {
    /// What was published for a data set whose folder has this name, with `mvtec_` before it or not.
    pub fn published(&self, folder: &str) -> Option<f64> {
        let folder = folder.to_lowercase().replace([' ', '-'], "_");
        self.published.get(folder.strip_prefix("mvtec_").unwrap_or(&folder)).copied()
    }

    /// The mean of all that was published.
    pub fn published_mean(&self) -> Option<f64> {
        let values: Vec<f64> = self.published.values().copied().collect();
        (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
    }
}

impl Tables {
    /// All of them.
    pub fn all() -> Self {
        toml::from_str(include_str!("tables.toml")).expect("tables.toml is part of the program")
    }

    /// The table with a name.
    pub fn named(&self, name: &str) -> Result<&Table> {
        self.table.iter().find(|table| table.name == name).ok_or_else(|| {
            let names: Vec<&str> = self.table.iter().map(|table| &*table.name).collect();
            Error::Config(format!("no table is called {name:?}; there are {}", names.join(", ")))
        })
    }

    /// The model of a row.
    pub fn model(&self, row: &Row) -> &Model {
        &self.model[&row.model]
    }

    pub fn iter(&self) -> impl Iterator<Item = &Table> {
        self.table.iter()
    }
}

#[cfg(test)]
mod tests {
    use hotad_models::config::Settings as _;
    use hotad_models::lea_net::{Config, LeaNet};
    use hotad_models::{Method, method};

    use super::*;

    #[test]
    fn every_row_names_a_model_settings_and_a_metric_that_exist() {
        let tables = Tables::all();
        let metrics = serde_json::to_value(hotad_models::evaluate::Metrics::default()).expect("plain data");
        for table in tables.iter() {
            let known = if table.folds.is_some() { table.metric == "f1" } else { metrics.get(&table.metric).is_some() };
            assert!(known, "{}: {}", table.name, table.metric);
            for row in &table.rows {
                let model = tables.model.get(&row.model).unwrap_or_else(|| panic!("{}: no such model", row.label));
                let mut settings = model.set.clone();
                settings.extend(row.score.clone());
                let checked = method(&model.method).and_then(|method| method.check(&settings));
                assert!(checked.is_ok(), "{}, {}: {:?}", table.name, row.label, checked.err());
            }
        }
    }

    /// A cell is found by the title that the cross-validation gives its row.
    #[test]
    fn cross_validated_rows_have_the_labels_of_their_cross_validation() {
        let tables = Tables::all();
        for table in tables.iter().filter(|table| table.folds.is_some()) {
            for row in &table.rows {
                let model = tables.model(row);
                assert_eq!(model.method, LeaNet::NAME, "the method that names rows");
                let config = Config::from_table(&model.set).expect("checked above");
                let titles = config.rows.iter().map(|name| config.row(name).expect("a row").0.title());
                let titles: Vec<String> = titles.collect();
                assert!(titles.contains(&row.label), "{}: {} is none of {titles:?}", table.name, row.label);
            }
        }
    }

    #[test]
    fn rows_agree_with_the_averages_that_the_papers_print() {
        let tables = Tables::all();
        let printed = [
            ("i3ad-1", "L2 autoencoder, SSIM", 0.764),
            ("i3ad-1", "iterative projection, L2 autoencoder, L2", 0.793),
            ("i3ad-1", "I3AD, L2", 0.863),
            ("i3ad-3", "SSIM autoencoder, L2", 0.785),
            ("i3ad-3", "I3AD, SSIM", 0.832),
            ("i3ad-4", "f-AnoGAN, L2 + L_D", 0.494),
            ("i3ad-4", "AE-GAN, SSIM", 0.675),
            ("i3ad-5", "AE-GAN, SSIM", 0.815),
        ];
        for (table, label, mean) in printed {
            let row = tables.named(table).expect("it is there").rows.iter().find(|row| row.label == label);
            let found = row.and_then(Row::published_mean).expect("it has figures");
            assert!((found - mean).abs() < 0.0015, "{table}, {label}: {found}, {mean} printed");
        }
    }

    #[test]
    fn published_figures_are_found_by_the_name_of_the_folder() {
        let tables = Tables::all();
        let row = &tables.named("i3ad-1").expect("it is there").rows[0];
        assert_eq!(row.published("mvtec_Transistor"), Some(0.820));
        assert_eq!(row.published("metal nut"), Some(0.613));
        for other in ["magnetic_tile", "mvtec_leather_crops", "my-parts"] {
            assert_eq!(row.published(other), None, "{other}");
        }
    }
}
