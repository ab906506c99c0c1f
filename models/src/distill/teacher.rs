//! The network whose maps are learned.

use hotad_engine::Result;
use hotad_engine::device::Device;
use hotad_engine::tensor::{Tensor, Tensors};

use super::maps::Places;
use crate::features::backbone::Backbone;
use crate::networks::layer::{Prepared, Weights};
use crate::networks::standardised;
use crate::networks::trunk::Trunk;

/// A network for inference, and where its maps are taken.
pub struct Teacher {
    /// Where student and teacher are compared.
    pub places: Places,
    trunk: Trunk,
    ready: Prepared,
}

impl Teacher {
    /// Of a backbone; layer by layer where their maps are wanted, else as fast as blocks can be run.
    ///
    /// # Errors
    /// When the device is out of memory.
    pub fn new(backbone: &Backbone, places: Places, device: &Device) -> Result<Self> {
        let (trunk, blocks) = (backbone.network().trunk(), places.blocks());
        let state = backbone.state(blocks - 1);
        let ready = match places {
            Places::Layers(_) => Prepared::new(&trunk.layers(blocks), &state, device)?,
            Places::Blocks(_) => trunk.prepared(blocks, &state, device)?,
        };
        Ok(Self { places, trunk, ready })
    }

    /// The maps of images in 0..1, on their device.
    ///
    /// # Errors
    /// When shapes do not fit.
    pub fn maps(&self, images: &Tensor) -> Result<Tensors> {
        self.places.maps(&self.trunk, &Weights::Prepared(&self.ready), &standardised(images)?, None)
    }
}
