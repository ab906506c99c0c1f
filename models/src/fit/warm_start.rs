//! Training that starts from the weights of a trained model.

use std::path::{Path, PathBuf};

use hotad_engine::data::prepare::file_sha256;
use hotad_engine::model_file::{Init, ModelFile, Provenance};
use hotad_engine::params::Params;
use hotad_engine::{Error, Result, container};
use serde_json::Value;
use toml::Table;

use super::FitContext;
use crate::config::Affects;
use crate::detector::entry_name;
use crate::features::Embedding;
use crate::method::Registration;

/// Networks of which a model file may hold nothing; they start with fresh weights then.
const NOT_KEPT: &str = "discriminator.";

/// A trained model whose weights training starts from.
pub struct WarmStart {
    path: PathBuf,
    sha256: String,
    file: ModelFile,
}

impl WarmStart {
    /// Reads a model file.
    ///
    /// # Errors
    /// When it cannot be read, or is none.
    pub fn read(path: &Path) -> Result<Self> {
        Ok(Self { path: path.into(), sha256: file_sha256(path)?, file: ModelFile::load(path)? })
    }

    /// Name and SHA-256 of its file.
    pub fn origin(&self) -> Init {
        Init { file: entry_name(&self.path), sha256: self.sha256.clone() }
    }

    /// Where it comes from itself.
    pub fn provenance(&self) -> &Provenance {
        &self.file.provenance
    }

    /// Fails unless it is of the method, and its networks have the shapes and inputs that they get under `settings` on images
    /// of `channels` channels.
    ///
    /// # Errors
    /// Names the file, and the setting that differs.
    pub fn check(&self, method: &Registration, settings: &Table, channels: usize) -> Result<()> {
        let (had, name) = (&self.file.method, method.name);
        if had != name {
            return Err(self.refused(format!("is of {had}; {name} starts from a model of {name}")));
        }
        let (saved, defaults) = (&self.file.config["settings"], (method.settings)(&Table::new())?);
        let wanted = (method.settings)(settings)?;
        for setting in (method.declared)().iter().filter(|s| s.affects == Affects::Shapes) {
            let key = setting.key;
            let had = resolved(saved.get(key).unwrap_or(&defaults[key]), self.file.image.channels);
            let has = resolved(&wanted[key], channels);
            // Earlier versions wrote whole numbers as fractions.
            let same_number = had.as_f64().is_some_and(|number| has.as_f64() == Some(number));
            if had != has && !same_number {
                return Err(self
                    .refused(format!("its networks have other shapes or inputs: setting {key} was {had}, is {has}")));
            }
        }
        Ok(())
    }

    /// Fails unless its features are those of an embedding.
    ///
    /// # Errors
    /// Names the file.
    pub fn check_features(&self, embedding: &Embedding) -> Result<()> {
        if embedding.is_that_of(&self.file.config["embedding"], &self.file.tensors)? {
            return Ok(());
        }
        Err(self
            .refused("its features are of other networks, or of other layers; start from a model of the same".into()))
    }

    /// Fails where it has tensors of a network that is not trained now, by their prefix; `network` says which one, and what
    /// trains it.
    ///
    /// # Errors
    /// Names the file.
    pub fn check_without(&self, prefix: &str, network: &str) -> Result<()> {
        if self.file.tensors.keys().any(|name| name.starts_with(prefix)) {
            return Err(self.refused(format!("it has {network}")));
        }
        Ok(())
    }

    /// Its embedding, with the components that were fitted for it.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn embedding(&self, context: &FitContext) -> Result<Embedding> {
        Embedding::restore(&self.file.config["embedding"], self.file.image, &self.file.tensors, &context.reading())
            .map_err(|e| self.refused(e.to_string()))
    }

    fn refused(&self, reason: String) -> Error {
        Error::Model { path: self.path.clone(), reason }
    }
}

/// A setting that decides shapes; of these, only `channels` may be `"auto"`.
fn resolved(value: &Value, channels: usize) -> Value {
    if value == "auto" { channels.into() } else { value.clone() }
}

impl FitContext<'_> {
    /// Gives fresh parameters the weights of the model that training starts from, if there is one; they are its tensors
    /// under `prefix`.
    ///
    /// # Errors
    /// Names the tensor that is missing or has another shape.
    pub fn warm_start(&self, params: &mut Params, prefix: &str) -> Result<()> {
        let Some(start) = self.init else { return Ok(()) };
        let state = container::restore(&start.file.tensors, prefix)?;
        let fresh = params.start_from(&state).map_err(|e| start.refused(e.to_string()))?;
        match fresh.iter().find(|name| !name.starts_with(NOT_KEPT)) {
            None => Ok(()),
            Some(name) => Err(start.refused(format!("tensor \"{prefix}{name}\" is missing"))),
        }
    }
}
