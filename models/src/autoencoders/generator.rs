//! What makes images in AnoGAN and f-AnoGAN: the decoder of the other baselines, or I3AD's generator, both over latent vectors.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::ops::Mode;
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Result, random};
use serde::{Deserialize, Serialize};

use super::Shared;
use super::gan::Adversary;
use super::network::Autoencoder;
use crate::networks::inpainting::Inpainting;
use crate::networks::latent_inpainting::LatentInpainting;

/// Which network makes images.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum GeneratorKind {
    /// That of the other baselines.
    #[default]
    Autoencoder,
    /// That of I3AD (its appendix D).
    I3ad,
}

/// An encoder of images to latent vectors and a decoder, without their weights.
pub enum LatentNetwork {
    /// Convolutions.
    Autoencoder(Autoencoder),
    /// I3AD's.
    Inpainting(Box<LatentInpainting>),
}

/// How the parameters of I3AD's networks are used; on the tape when `tracked`.
pub fn learned(params: &Params, tracked: bool) -> Inpainting<'_> {
    Inpainting::Learned(params, if tracked { Mode::Train } else { Mode::Eval })
}

impl LatentNetwork {
    /// For images of settings.
    pub fn new(adversary: &Adversary, shared: &Shared, image: ImageSpec) -> Self {
        match adversary.generator {
            GeneratorKind::Autoencoder => Self::Autoencoder(shared.network(image)),
            GeneratorKind::I3ad => {
                let network = LatentInpainting::new(shared.image_size, adversary.generator_width, shared.latent);
                Self::Inpainting(Box::new(network))
            }
        }
    }

    /// Elements of the latent vector.
    pub fn latent(&self) -> usize {
        match self {
            Self::Autoencoder(network) => network.latent(),
            Self::Inpainting(network) => network.latent(),
        }
    }

    /// Adds fresh parameters; those of the encoder begin with `encoder.`.
    pub fn init(&self, params: &mut Params, seed: u64) {
        match self {
            Self::Autoencoder(network) => network.init(params, &mut random::stream(seed, "anogan", 0)),
            Self::Inpainting(network) => network.init(params, seed),
        }
    }

    /// Images `[n, h, w, c]` to latent vectors `[n, 1, 1, latent]`.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encode(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
        match self {
            Self::Autoencoder(network) => network.encode(params, images, tracked),
            Self::Inpainting(network) => network.encode(&learned(params, tracked), images),
        }
    }

    /// Latent vectors to images in 0..1.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn decode(&self, params: &Params, latent: &Tensor, tracked: bool) -> Result<Tensor> {
        match self {
            Self::Autoencoder(network) => network.decode(params, latent, tracked),
            Self::Inpainting(network) => network.decode(&learned(params, tracked), latent),
        }
    }
}
