//! Backbones: networks that have learned on ImageNet, cut at named blocks (PatchCore, section 3.1; SimpleNet, section 3.1).
//!
//! Which networks are known says network.rs, which files file.rs, where imported ones are kept installed.rs, which one is part of the program shipped.rs. Images are
//! standardised by ImageNet's colours. Layers beyond the last cut are not kept.

pub mod file;
pub mod installed;
pub mod network;
pub mod shipped;

use std::path::Path;

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::params::State;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Error, Result};

use super::Extractor;
use super::settings::Layers;
use crate::config::Sides;
use crate::export::{self, Exported};
use crate::networks::import;
use crate::networks::layer::{Layer, Prepared, Weights};
use crate::networks::standardised;
use crate::networks::trunk::Trunk;

pub use file::{BackboneFile, Origin};
pub use network::Network;

/// A network with weights for its first blocks.
pub struct Backbone {
    network: Network,
    size: Sides,
    trunk: Trunk,
    /// Blocks that there are weights for.
    blocks: usize,
    state: State,
    ready: Prepared,
    device: Device,
}

impl Backbone {
    /// From a file, up to its usual cuts or to named ones; images are brought to `size` pixels, or to those that the network
    /// has learned on. Returns the numbers of the cuts, ascending.
    ///
    /// # Errors
    /// When the file is none, or ends before a cut.
    pub fn open(path: &Path, size: Option<Sides>, layers: &Layers, device: &Device) -> Result<(Self, Vec<usize>)> {
        Self::of(BackboneFile::open(path)?, path, size, layers, device)
    }

    /// [`Backbone::open`] of the one that is part of the program.
    ///
    /// # Errors
    /// When it has no such layers.
    pub fn shipped(size: Option<Sides>, layers: &Layers, device: &Device) -> Result<(Self, Vec<usize>)> {
        Self::of(shipped::open()?, shipped::label(), size, layers, device)
    }

    fn of(
        file: BackboneFile,
        path: &Path,
        size: Option<Sides>,
        layers: &Layers,
        device: &Device,
    ) -> Result<(Self, Vec<usize>)> {
        let facts = file.network.facts();
        let known = file.network.trunk().cuts();
        let usual: Vec<usize> =
            known.iter().enumerate().filter(|(_, k)| facts.usual.contains(&k.as_str())).map(|(i, _)| i).collect();
        let cuts = layers.among(&known, &usual)?;
        let last = cuts.last().map_or(0, |c| c + 1);
        if last > file.blocks {
            let (wanted, held) = (&known[last - 1], &known[file.blocks - 1]);
            let reason =
                format!("holds the blocks of {} up to {held}, and {wanted} is wanted; import it again", facts.name);
            return Err(Error::Model { path: path.into(), reason });
        }
        let file = file.until(last);
        let state = import::from_torchvision(path, &file.tensors, &file.network.trunk().layers(last))?;
        let size = size.unwrap_or(facts.size.into());
        Ok((Self::new(file.network, size, state, last, device)?, cuts))
    }

    /// From the weights of a model file, for the first `blocks` blocks.
    ///
    /// # Errors
    /// When one is missing or has another shape.
    pub fn new(network: Network, size: impl Into<Sides>, state: State, blocks: usize, device: &Device) -> Result<Self> {
        let trunk = network.trunk();
        if blocks > trunk.len() {
            return Err(Error::Config(format!("{} has {} blocks, not {blocks}", network.facts().name, trunk.len())));
        }
        let ready = trunk.prepared(blocks, &state, device)?;
        Ok(Self { network, size: size.into(), trunk, blocks, state, ready, device: device.clone() })
    }

    /// Which network.
    pub fn network(&self) -> Network {
        self.network
    }

    /// Its maps at some cuts, given in ascending order, as a graph of ONNX.
    ///
    /// # Errors
    /// When it does not reach them.
    pub fn export(&self, cuts: &[usize]) -> Result<Exported> {
        export::trunk(self.network.facts().name, &self.trunk, &self.state, self.image(), cuts)
    }

    /// The weights that are needed for maps up to a cut.
    pub fn state(&self, cut: usize) -> State {
        let layers = self.trunk.layers(cut + 1);
        let needed = |name: &str| layers.iter().any(|layer| is_of(name, layer));
        self.state.iter().filter(|(name, _)| needed(name)).map(|(k, t)| (k.clone(), t.clone())).collect()
    }
}

/// Whether a parameter belongs to a layer.
fn is_of(name: &str, layer: &Layer) -> bool {
    let belongs =
        |prefix: &str| name.strip_prefix(prefix).is_some_and(|rest| rest.starts_with('.') && !rest[1..].contains('.'));
    belongs(&layer.name) || layer.norm.as_ref().is_some_and(|n| belongs(&n.name))
}

impl Extractor for Backbone {
    fn image(&self) -> ImageSpec {
        self.size.image(3)
    }

    fn cuts(&self) -> Vec<String> {
        self.trunk.cuts().into_iter().take(self.blocks).collect()
    }

    fn usual(&self) -> Vec<usize> {
        let usual = self.network.facts().usual;
        (0..).zip(self.cuts()).filter(|(_, name)| usual.contains(&name.as_str())).map(|(i, _)| i).collect()
    }

    fn maps(&self, images: &Tensor, cuts: &[usize]) -> Result<Tensors> {
        let images = standardised(&images.to(&self.device)?)?;
        self.trunk.maps(&Weights::Prepared(&self.ready), &images, cuts)
    }
}
