//! ResNets with the weights of torchvision, as feature extractors (PatchCore, section 3.1; SimpleNet, section 3.1).
//!
//! Which one is told by the tensors of the file: `resnet18`, `resnet50` or `wide_resnet50_2`. Images are standardised by
//! ImageNet's colours. The cuts are `conv1` and `layer1` to `layer4`; layers beyond the last cut are not kept.

use std::path::Path;

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::params::State;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result, weights};
use serde::{Deserialize, Serialize};

use super::Extractor;
use crate::networks::layer::{Layer, Prepared, Weights};
use crate::networks::resnet::ResNet;
use crate::networks::{POINTS, features, import, standardised};

/// Which network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Network {
    /// ResNet-18.
    Resnet18,
    /// ResNet-50.
    Resnet50,
    /// Wide ResNet-50-2.
    #[serde(rename = "wide_resnet50_2")]
    WideResnet50,
}

impl Network {
    fn build(self) -> ResNet {
        match self {
            Self::Resnet18 => ResNet::resnet18(3, 64, 1000),
            Self::Resnet50 => ResNet::resnet50(3, 64, 1000),
            Self::WideResnet50 => ResNet::wide_resnet50(3, 64, 1000),
        }
    }

    /// The network that a file holds.
    fn of(path: &Path, file: &State) -> Result<Self> {
        let refuse = |reason: &str| Err(Error::Model { path: path.into(), reason: reason.into() });
        let inner = file.get("layer1.0.conv1.weight").and_then(|t| t.shape().first().copied());
        match (inner, file.contains_key("layer1.0.conv3.weight"), file.contains_key("layer1.2.conv1.weight")) {
            (Some(64), true, _) => Ok(Self::Resnet50),
            (Some(128), true, _) => Ok(Self::WideResnet50),
            (Some(64), false, false) => Ok(Self::Resnet18),
            (Some(64), false, true) => {
                refuse("these are the weights of ResNet-34; resnet18, resnet50 and wide_resnet50_2 are known")
            }
            _ => refuse(
                "no torchvision ResNet (tensor \"layer1.0.conv1.weight\" is missing or of another width) and no model of hotad",
            ),
        }
    }
}

/// A ResNet with weights.
pub struct Backbone {
    network: Network,
    size: usize,
    resnet: ResNet,
    state: State,
    ready: Prepared,
    device: Device,
    /// Last point that there are weights for.
    last: usize,
}

/// Names of tensors that carry no weights of the maps: the classifier, and counters.
fn beside(name: &str) -> bool {
    name.starts_with("fc.") || name.ends_with(".num_batches_tracked")
}

impl Backbone {
    /// Reads a safetensors file with torchvision's names; images are brought to `size` pixels.
    ///
    /// # Errors
    /// When the file holds no such network: names the tensor that is missing, of another shape, or not of the network.
    pub fn read(path: &Path, size: usize, device: &Device) -> Result<Self> {
        let file = weights::read(path)?;
        let network = Network::of(path, &file)?;
        let resnet = network.build();
        let state = import::from_torchvision(path, &file, &resnet.until(POINTS))?;
        if let Some(extra) = file.keys().find(|k| !state.contains_key(*k) && !beside(k)) {
            let reason = format!("tensor {extra:?} is none of {network:?}: these are the weights of another network");
            return Err(Error::Model { path: path.into(), reason });
        }
        Self::new(network, size, state, POINTS, device)
    }

    /// From the weights of a model file, as far as they go.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(network: Network, size: usize, state: State, last: usize, device: &Device) -> Result<Self> {
        let resnet = network.build();
        let ready = Prepared::new(&resnet.until(last), &state, device)?;
        Ok(Self { network, size, resnet, state, ready, device: device.clone(), last })
    }

    /// Which network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The weights that are needed for maps up to a cut.
    pub fn state(&self, cut: usize) -> State {
        let layers: Vec<&Layer> = self.resnet.until(cut + 1);
        let needed = |name: &str| {
            layers.iter().any(|l| {
                let norm = l.norm.as_ref().is_some_and(|n| is_of(name, &n.name));
                norm || is_of(name, &l.name)
            })
        };
        self.state.iter().filter(|(name, _)| needed(name)).map(|(k, t)| (k.clone(), t.clone())).collect()
    }
}

/// Whether a parameter belongs to a layer.
fn is_of(name: &str, layer: &str) -> bool {
    name.strip_prefix(layer).is_some_and(|rest| rest.starts_with('.') && !rest[1..].contains('.'))
}

impl Extractor for Backbone {
    fn image(&self) -> ImageSpec {
        ImageSpec { height: self.size, width: self.size, channels: 3 }
    }

    fn cuts(&self) -> Vec<String> {
        std::iter::once("conv1".into()).chain((1..self.last).map(|l| format!("layer{l}"))).collect()
    }

    fn usual(&self) -> Vec<usize> {
        vec![2, 3]
    }

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Vec<Tensor>> {
        let last = cuts.last().map_or(0, |c| c + 1);
        let images = standardised(&images.to(&self.device)?)?;
        let taps = features(&self.resnet, &Weights::Prepared(&self.ready), &images, last)?;
        Ok(cuts.iter().map(|c| taps[*c].clone()).collect())
    }
}
