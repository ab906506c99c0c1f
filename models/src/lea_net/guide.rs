//! What gives the anomaly maps that attention is made of: a colour network, or any trained model.

use std::collections::BTreeMap;
use std::path::Path;

use hotad_engine::container::{self, Stored};
use hotad_engine::data::files::ImageFiles;
use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Error, Result};
use hotad_kernels::device::{Buffer, HostBuffer};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::config::Config;
use crate::color_unet::Recolouring;
use crate::config::damaged;
use crate::ensemble::evidence::scored;
use crate::fit::FitContext;
use crate::member::Member;
use crate::method::LoadContext;
use crate::normal_pixels::NormalPixels;

/// Prefix of the tensors of a colour network.
pub(super) const COLOUR: &str = "color.";
/// Prefix of the tensors of a model.
const MODEL: &str = "guide.";

/// Least distance between the ends of a scale, where the maps of normal images are all alike; absolute, and as a share.
const LEAST: f32 = 1e-12;
const RELATIVE_LEAST: f32 = 1e-6;

/// Images that a model scores together.
const BATCH: usize = 8;

/// Gives anomaly maps on a scale that normal pixels hardly exceed 1 on.
pub enum Guide {
    /// The colour network of the paper.
    Colour(Box<Recolouring>),
    /// Another model.
    Model(Box<GuideModel>),
}

/// A trained model, and how its maps are standardised.
pub struct GuideModel {
    member: Member,
    scale: Scale,
    /// Where the maps are wanted.
    device: Device,
}

/// What of a model's maps becomes 0, and what 1: median and 99.9 % quantile of normal pixels.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scale {
    zero: f32,
    one: f32,
}

impl Scale {
    fn is_whole(&self) -> bool {
        self.zero.is_finite() && self.one.is_finite() && self.one - self.zero >= f32::MIN_POSITIVE
    }
}

/// What a model file says of a guide, beside its tensors.
#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
enum Saved {
    Color { unit: f32 },
    Model { member: Value, scale: Scale },
}

impl Guide {
    /// Anomaly maps `[n, h, w, 1]` of RGB images `[n, h, w, 3]`, on the device of the networks.
    ///
    /// # Errors
    /// When the batch has another shape, or what the model reports.
    pub fn maps(&self, images: &Tensor) -> Result<Tensor> {
        match self {
            Self::Colour(network) => network.maps(images),
            Self::Model(model) => model.maps_on(model.scale, images),
        }
    }

    /// The colour network, if it is one.
    pub fn colour(&self) -> Option<&Recolouring> {
        match self {
            Self::Colour(network) => Some(network),
            Self::Model(_) => None,
        }
    }

    /// Everything but its tensors.
    pub fn saved(&self) -> Value {
        let saved = match self {
            Self::Colour(network) => Saved::Color { unit: network.unit() },
            Self::Model(model) => Saved::Model { member: model.member.saved(), scale: model.scale },
        };
        serde_json::to_value(saved).expect("a guide is plain data")
    }

    /// Its tensors, names prefixed.
    ///
    /// # Errors
    /// When the device of the weights is lost.
    pub fn tensors(&self) -> Result<BTreeMap<String, Stored>> {
        match self {
            Self::Colour(network) => container::store(network.state(), COLOUR),
            Self::Model(model) => model.member.tensors(MODEL),
        }
    }

    /// Reads what [`Guide::saved`] and [`Guide::tensors`] have given.
    ///
    /// # Errors
    /// When it is damaged.
    pub fn restore(
        config: &Config,
        saved: &Value,
        tensors: &BTreeMap<String, Stored>,
        context: &LoadContext,
    ) -> Result<Self> {
        let saved = serde_json::from_value(saved.clone());
        match saved.map_err(|e| damaged(format!("the guide: {e}; train it again")))? {
            Saved::Color { unit } => {
                let state = container::restore(tensors, COLOUR)?;
                Recolouring::new(config.colour(), state, unit, context.device).map(Box::new).map(Self::Colour)
            }
            Saved::Model { scale, .. } if !scale.is_whole() => Err(damaged(format!("the guide's scale is {scale:?}"))),
            Saved::Model { member, scale } => {
                let member = Member::restore(&member, MODEL, tensors, context)?;
                Ok(Self::Model(Box::new(GuideModel { member, scale, device: context.device.clone() })))
            }
        }
    }
}

impl GuideModel {
    /// Reads a model, for images of a size; its scale is that of its maps of the context's held-out images.
    ///
    /// # Errors
    /// When it is no model, or as [`GuideModel::scale_of`].
    pub fn read(path: &Path, image: ImageSpec, context: &FitContext) -> Result<Self> {
        let member = Member::read(path, &context.reading())?;
        let mut model = Self { member, scale: Scale { zero: 0.0, one: 1.0 }, device: context.device.clone() };
        model.scale = model.scale_of(context.holdout, image, context)?;
        Ok(model)
    }

    /// The scale of its maps of normal images.
    ///
    /// # Errors
    /// When there are none, one cannot be read, or a map is not finite.
    pub fn scale_of(&self, normal: ImageFiles, image: ImageSpec, context: &FitContext) -> Result<Scale> {
        let (name, count) = (&self.member.name, normal.len());
        if count == 0 {
            return Err(Error::Config("setting guide: no normal images are left to standardise its maps by".into()));
        }
        context.observer.say(&format!("standardising the maps of {name} by {count} normal images"));
        let own = Scale { zero: 0.0, one: 1.0 };
        let maps = |images: &Tensor| Ok(self.maps_on(own, images)?.values()?.into_owned());
        let NormalPixels { median, high } = NormalPixels::of(normal, image, BATCH, maps)?;
        let least = LEAST.max(median.abs() * RELATIVE_LEAST);
        Ok(Scale { zero: median, one: high.max(median + least) })
    }

    /// Anomaly maps `[n, h, w, 1]` of images on a scale.
    ///
    /// # Errors
    /// As [`Guide::maps`].
    pub fn maps_on(&self, Scale { zero, one }: Scale, images: &Tensor) -> Result<Tensor> {
        let [n, height, width, _] = images.nhwc()?;
        let scores = scored(&self.member, images, (height, width))?;
        let mut values = HostBuffer::try_uninit(n * height * width)?;
        let all = scores.iter().flat_map(|score| &score.map.values);
        values.iter_mut().zip(all).for_each(|(to, v)| *to = (v - zero) / (one - zero));
        Tensor::from_buffer(Buffer::Host(values), &[n, height, width, 1])?.to(&self.device)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.member.name
    }
}
