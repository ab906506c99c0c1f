//! What an extractor is: a network that has learned on ImageNet, a patch autoencoder trained on the same images, or a trained model.

use std::collections::BTreeMap;
use std::path::Path;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::{Error, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Extractor;
use super::backbone::{Backbone, Network, file};
use super::settings::Layers;
use crate::autoencoder::{PatchAutoencoder, TrainedAutoencoder};
use crate::config::Sides;
use crate::member::Member;
use crate::method::LoadContext;

/// Rows and columns that images may have.
pub const SIZES: std::ops::RangeInclusive<usize> = 32..=1024;

/// Where feature maps come from.
pub enum Source {
    /// A network that has learned on ImageNet.
    Backbone(Box<Backbone>),
    /// An autoencoder trained for this.
    Encoder(Box<TrainedAutoencoder>),
    /// A model that hotad has trained before.
    Member(Box<Member>),
}

/// What a model file says of a source, beside its tensors.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Saved {
    Backbone { network: Network, size: Sides, blocks: usize },
    Encoder { widths: Vec<usize>, image: ImageSpec },
    Member { member: Value },
}

impl Source {
    /// Whether a file is a model of hotad, not a backbone.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn is_model(path: &Path) -> Result<bool> {
        Ok(container::kind(path)?.is_some_and(|kind| kind != file::KIND))
    }

    /// Reads a model of hotad or a backbone, told by the file itself, and finds the cuts. `size` is the image size for the
    /// latter, by default that of its network.
    ///
    /// # Errors
    /// When the file is neither, a model without feature maps, or has no such layers.
    pub fn read(
        path: &Path,
        size: Option<Sides>,
        layers: &Layers,
        context: &LoadContext,
    ) -> Result<(Self, Vec<usize>)> {
        if !Self::is_model(path)? {
            let (backbone, cuts) = Backbone::open(path, size, layers, context.device)?;
            return Ok((Self::Backbone(Box::new(backbone)), cuts));
        }
        let member = Member::read(path, context)?;
        let Some(extractor) = member.model.detector.as_extractor() else {
            let reason = format!("{} has no feature maps to give", member.model.method);
            return Err(Error::Model { path: path.into(), reason });
        };
        let cuts = layers.of(extractor)?;
        Ok((Self::Member(Box::new(member)), cuts))
    }

    /// The backbone that is part of the program, and its cuts.
    ///
    /// # Errors
    /// When it has no such layers.
    pub fn shipped(size: Option<Sides>, layers: &Layers, device: &Device) -> Result<(Self, Vec<usize>)> {
        let (backbone, cuts) = Backbone::shipped(size, layers, device)?;
        Ok((Self::Backbone(Box::new(backbone)), cuts))
    }

    /// The network.
    pub fn extractor(&self) -> &dyn Extractor {
        match self {
            Self::Backbone(b) => &**b,
            Self::Encoder(e) => &**e,
            Self::Member(m) => m.model.detector.as_extractor().expect("checked when it was read"),
        }
    }

    /// Everything but its tensors, for maps up to a cut.
    pub fn saved(&self, last: usize) -> Value {
        let saved = match self {
            Self::Backbone(b) => Saved::Backbone { network: b.network(), size: b.image().into(), blocks: last + 1 },
            Self::Encoder(e) => Saved::Encoder { widths: e.network.widths().to_vec(), image: e.network.image() },
            Self::Member(m) => Saved::Member { member: m.saved() },
        };
        serde_json::to_value(saved).expect("a source is plain data")
    }

    /// Its tensors, names prefixed, as far as they are needed for maps up to a cut.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn tensors(&self, last: usize, prefix: &str) -> Result<BTreeMap<String, Stored>> {
        match self {
            Self::Backbone(b) => container::store(&b.state(last), prefix),
            Self::Encoder(e) => container::store(&e.params.values()?, prefix),
            Self::Member(m) => m.tensors(prefix),
        }
    }

    /// Reads what [`Source::saved`] and [`Source::tensors`] have given.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn restore(
        saved: &Value,
        prefix: &str,
        tensors: &BTreeMap<String, Stored>,
        context: &LoadContext,
    ) -> Result<Self> {
        let damaged = |e: serde_json::Error| Error::Config(format!("damaged backbone in the model file ({e})"));
        let state = || container::restore(tensors, prefix);
        match serde_json::from_value(saved.clone()).map_err(damaged)? {
            Saved::Backbone { size, .. } if !size.are_in(&SIZES) => {
                Err(Error::Config(format!("damaged backbone in the model file (images of {size} pixels)")))
            }
            Saved::Backbone { network, size, blocks } => {
                Ok(Self::Backbone(Box::new(Backbone::new(network, size, state()?, blocks, context.device)?)))
            }
            Saved::Encoder { widths, image } => {
                let network = PatchAutoencoder::checked(&widths, image)?;
                let params = network.load(&state()?, context.device)?;
                Ok(Self::Encoder(Box::new(TrainedAutoencoder::new(network, params)?)))
            }
            Saved::Member { member } => {
                let member = Member::restore(&member, prefix, tensors, context)?;
                match member.model.detector.as_extractor() {
                    Some(_) => Ok(Self::Member(Box::new(member))),
                    None => Err(Error::Config(format!("member {} has no feature maps to give", member.name))),
                }
            }
        }
    }
}
