//! A trained model inside another one: its tensors under a prefix, everything else in the settings of the whole, so that
//! the whole is one self-contained file.

use std::collections::BTreeMap;
use std::path::Path;

use hotad_engine::calibration::Calibration;
use hotad_engine::container::Stored;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::model_file::{ModelFile, Provenance};
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::method::LoadContext;
use crate::model::Model;

/// A model and its name.
pub struct Member {
    /// Name of the file it was read from, without ending.
    pub name: String,
    /// The model.
    pub model: Model,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    name: String,
    method: String,
    image: ImageSpec,
    config: Value,
    calibration: Calibration,
    provenance: Provenance,
}

impl Member {
    /// Reads a model file; the region that it looks at becomes that of the whole.
    ///
    /// # Errors
    /// When it is none.
    pub fn read(path: &Path, context: &LoadContext) -> Result<Self> {
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self { name, model: Model::read(path, context)? })
    }

    /// Everything but its tensors and the lists of images it has learned from: the one of the whole has all, and nothing is added to
    /// its bank any more.
    pub fn saved(&self) -> Value {
        let Model { method, detector, calibration, provenance, .. } = &self.model;
        let provenance = Provenance { learned_images: Vec::new(), bank_images: BTreeMap::new(), ..provenance.clone() };
        let saved = Saved {
            name: self.name.clone(),
            method: (*method).into(),
            image: detector.image(),
            config: detector.config(),
            calibration: calibration.clone(),
            provenance,
        };
        serde_json::to_value(saved).expect("a member is plain data")
    }

    /// Its tensors, names prefixed.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn tensors(&self, prefix: &str) -> Result<BTreeMap<String, Stored>> {
        let own = self.model.detector.tensors()?;
        Ok(own.into_iter().map(|(k, t)| (format!("{prefix}{k}"), t)).collect())
    }

    /// Reads what [`Member::saved`] and [`Member::tensors`] have given.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn restore(
        saved: &Value,
        prefix: &str,
        tensors: &BTreeMap<String, Stored>,
        context: &LoadContext,
    ) -> Result<Self> {
        let damaged = |e: serde_json::Error| Error::Config(format!("a damaged model within the model file ({e})"));
        let saved: Saved = serde_json::from_value(saved.clone()).map_err(damaged)?;
        let own = tensors.iter().filter_map(|(k, t)| Some((k.strip_prefix(prefix)?.to_string(), t.clone())));
        let file = ModelFile {
            method: saved.method,
            image: saved.image,
            roi: None,
            config: saved.config,
            calibration: saved.calibration,
            provenance: saved.provenance,
            // The model that it is a member of has those of all layers.
            input_ranges: BTreeMap::new(),
            tensors: own.collect(),
        };
        let model = Model::restore(&file, context)
            .map_err(|e| Error::Config(format!("{} within the model file: {e}", saved.name)))?;
        Ok(Self { name: saved.name, model })
    }
}
