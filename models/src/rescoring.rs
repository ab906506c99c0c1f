//! A trained model under other settings of what only scoring depends on, so that one training gives all rows of a table.

use hotad_engine::model_file::ModelFile;
use hotad_engine::{Error, Result};
use serde_json::Value;
use toml::Table;

use crate::config::{Affects, Setting};
use crate::method::Registration;

/// Settings of scoring that have had their effect when training ends.
const AT_TRAINING: [&str; 5] = ["align", "bank", "bank_holdout", "bank_views", "u_limit"];

/// Where a model file keeps settings.
const PARTS: [&str; 2] = ["settings", "decomposition"];

/// Puts settings into what a model file holds, also those that it lacks because it is older. What has been chosen for `auto` gives
/// way to a number; thresholds stay.
///
/// # Errors
/// A setting that the method does not have, that training depends on, that is out of range, or `"auto"` where training has not
/// chosen.
pub fn with_settings(mut file: ModelFile, method: &Registration, settings: &Table) -> Result<ModelFile> {
    method.check(settings)?;
    let declared = (method.declared)();
    let scoring = declared.iter().filter(|s| s.affects == Affects::Scoring && !AT_TRAINING.contains(&s.key));
    let known: Vec<&Setting> = scoring.collect();
    for (key, value) in settings {
        let Some(setting) = known.iter().find(|s| s.key == key) else { return Err(of_training(key, method, &known)) };
        let value = serde_json::to_value(value).expect("settings are plain data");
        if value == "auto" && PARTS.iter().all(|part| file.config[part][key] != "auto") {
            return Err(not_chosen(setting));
        }
        let holders = PARTS.iter().filter(|part| file.config[**part].get(key).is_some());
        let holders: Vec<&str> = holders.copied().collect();
        // An older file has it nowhere; what a part does not know it takes no notice of.
        for part in if holders.is_empty() { &PARTS[..] } else { &holders } {
            if let Some(own) = file.config.get_mut(part).and_then(Value::as_object_mut) {
                own.insert(key.clone(), value.clone());
            }
        }
        if let Some(chosen) = file.config.get_mut(key).filter(|chosen| chosen.is_number() && value.is_number()) {
            *chosen = value;
        }
    }
    Ok(file)
}

/// The error of a setting that scoring alone does not depend on.
fn of_training(key: &str, method: &Registration, known: &[&Setting]) -> Error {
    let keys: Vec<&str> = known.iter().map(|s| s.key).collect();
    let those = if keys.is_empty() { "it has none such".into() } else { keys.join(", ") };
    let name = method.name;
    Error::Config(format!("setting {key}: {name} depends on it in training; scoring depends on: {those}"))
}

/// The error of `"auto"` for a setting that a model was trained with a value of. Its help has the words that it may be, in quotes.
fn not_chosen(Setting { key, help, .. }: &Setting) -> Error {
    let words: Vec<String> =
        help.split('"').skip(1).step_by(2).filter(|word| *word != "auto").map(|word| format!("{word:?}")).collect();
    let instead = if words.is_empty() { "a number".into() } else { words.join(" or ") };
    Error::Config(format!(
        "setting {key} = \"auto\": training makes that choice, and this model was trained without; use {instead}"
    ))
}
