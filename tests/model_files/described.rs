//! What model files hold is what docs/formats.md and the schema say.

use std::collections::{BTreeMap, BTreeSet};

use hotad_engine::container;
use hotad_engine::model_file::ModelFile;

use crate::MODELS;
use crate::schema::Schema;

/// Keys beside the settings, and tensors by the first part of their names.
type Kept = (BTreeSet<String>, BTreeSet<String>);

/// Names in a cell of a table, parts of others aside.
fn names(cell: &str) -> BTreeSet<String> {
    let quoted = cell.split('`').skip(1).step_by(2).filter(|name| !name.starts_with('.'));
    quoted.map(String::from).collect()
}

/// What the table of docs/formats.md says of each method.
fn described() -> BTreeMap<String, Kept> {
    let text = std::fs::read_to_string("docs/formats.md").expect("docs/formats.md");
    let table = text.lines().skip_while(|line| *line != "| methods | in `config` | tensors |").skip(2);
    let rows = table.take_while(|line| line.starts_with('|')).map(|line| line.split('|').collect::<Vec<_>>());
    rows.flat_map(|row| names(row[1]).into_iter().map(move |method| (method, (names(row[2]), names(row[3]))))).collect()
}

/// What a file holds.
fn kept(file: &ModelFile) -> Kept {
    let keys = file.config.as_object().expect("an object").keys().filter(|key| *key != "settings").cloned();
    let tensors = file.tensors.keys().filter_map(|name| name.split('.').next()).map(String::from);
    (keys.collect(), tensors.collect())
}

#[test]
fn a_method_keeps_what_the_documentation_says() {
    let mut found: BTreeMap<String, Kept> = BTreeMap::new();
    for (_, file) in MODELS.iter() {
        let (keys, tensors) = kept(file);
        let of_method = found.entry(file.method.clone()).or_default();
        of_method.0.extend(keys);
        of_method.1.extend(tensors);
    }
    let described = described();
    assert!(described.len() > 15, "{described:?}");
    found.retain(|method, _| described.contains_key(method));
    assert_eq!(found, described, "as found, and as docs/formats.md says");
}

#[test]
fn headers_fit_the_schema() {
    let dir = tempfile::tempdir().expect("a folder");
    let schema = Schema::read("model.schema.json");
    for (name, file) in MODELS.iter() {
        let path = dir.path().join(name);
        file.save(&path).expect("written");
        let meta = container::read(&path, "model").expect("a model").meta;
        assert_eq!(schema.faults(&meta), Vec::<String>::new(), "{name}");
    }
}
