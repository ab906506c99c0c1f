//! A trained model under other settings of what only scoring depends on, so that one training gives all rows of a table.

use hotad_engine::model_file::ModelFile;
use hotad_engine::{Error, Result};
use toml::Table;

use crate::config::Affects;
use crate::method::Registration;

/// Settings of scoring that have had their effect when training ends.
const AT_TRAINING: [&str; 2] = ["bank", "u_limit"];

/// Puts settings into what a model file holds. What has been chosen for `auto` gives way to a number; thresholds stay.
///
/// # Errors
/// A setting that the method does not have, that training depends on, or that is out of range.
pub fn with_settings(mut file: ModelFile, method: &Registration, settings: &Table) -> Result<ModelFile> {
    method.check(settings)?;
    let scoring = (method.declared)().into_iter().filter(|s| s.affects == Affects::Scoring).map(|s| s.key);
    let known: Vec<&str> = scoring.filter(|key| !AT_TRAINING.contains(key)).collect();
    if let Some(key) = settings.keys().find(|key| !known.contains(&key.as_str())) {
        let those = if known.is_empty() { "it has none such".into() } else { known.join(", ") };
        let name = method.name;
        return Err(Error::Config(format!(
            "setting {key}: {name} depends on it in training; scoring depends on: {those}"
        )));
    }
    for (key, value) in settings {
        let value = serde_json::to_value(value).expect("settings are plain data");
        for part in ["settings", "decomposition"] {
            if let Some(own) = file.config.get_mut(part).and_then(|settings| settings.get_mut(key)) {
                *own = value.clone();
            }
        }
        if let Some(chosen) = file.config.get_mut(key).filter(|chosen| chosen.is_number() && value.is_number()) {
            *chosen = value;
        }
    }
    Ok(file)
}
