//! Methods by name, and models of them.

use std::path::Path;

use hotad_engine::Result;
use hotad_engine::device::{Cpu, Device, Precision};
use hotad_engine::model_file::ModelFile;
use hotad_engine::signature::PublicKey;
use toml::Table;

use crate::export::{Exported, not_plain};
use crate::method::{LoadContext, Registration, find, names};
use crate::methods;
use crate::model::{Model, unreadable};
use crate::rescoring::with_settings;

/// A method by name.
///
/// # Errors
/// When there is none of that name; lists those there are.
pub fn method(name: &str) -> Result<&'static Registration> {
    find(methods(), name)
}

/// Models of all methods.
impl Model {
    /// Reads a model file onto a device.
    ///
    /// # Errors
    /// When the file is no model, damaged, of a newer format or of an unknown method.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        Self::read(path, &LoadContext { device, methods: methods() })
    }

    /// Reads a model file onto a device, signed by `key` where there is one, under `settings` of scoring instead of its own.
    ///
    /// # Errors
    /// As [`Model::load`]; when it is not signed, or by another key; and those of [`with_settings`].
    pub fn load_with(path: &Path, key: Option<&PublicKey>, settings: &Table, device: &Device) -> Result<Self> {
        let mut file = match key {
            Some(key) => ModelFile::load_signed(path, key)?,
            None => ModelFile::load(path)?,
        };
        if !settings.is_empty() {
            let method = method(&file.method)?;
            file = with_settings(file, method, settings)?;
        }
        Self::of_file(&file, device).map_err(|e| unreadable(path, e))
    }

    /// The model that a file holds, on a device.
    ///
    /// # Errors
    /// When it is damaged or of an unknown method.
    pub fn of_file(file: &ModelFile, device: &Device) -> Result<Self> {
        Self::restore(file, &LoadContext { device, methods: methods() })
    }

    /// Its network as a graph of ONNX.
    ///
    /// # Errors
    /// When it has no plain one: says why.
    pub fn export(&self) -> Result<Exported> {
        let others = || {
            format!(
                "its scores come from no plain network; those of backbones, {} can be",
                names(methods(), |m| m.exportable)
            )
        };
        self.detector.as_exportable().ok_or_else(|| not_plain(self.method, &others()))?.export()
    }

    /// The same model once more, whose convolutions note the ranges of their inputs; `None` where it does not compute on the
    /// CPU in f32.
    ///
    /// # Errors
    /// When the model is damaged.
    pub fn observing(&self) -> Result<Option<Self>> {
        match self.device.cpu() {
            Some(cpu) if cpu.precision() == Precision::F32 => {
                Self::of_file(&self.to_file()?, &Device::Cpu(Cpu::observing())).map(Some)
            }
            _ => Ok(None),
        }
    }
}
