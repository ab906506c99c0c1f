//! The patch autoencoder of PAEDID: an encoder whose latent map keeps one vector per patch, and the
//! mirrored decoder.
//!
//! Encoder: conv 3x3 to each width, ReLU, max pool 2. Decoder: for each width backwards, nearest x2
//! up-sampling and conv 3x3 with ReLU, the last one linear to the image (section 3.1: conv 64, pool,
//! conv 128, pool; section 4: 3, 9, 27, 81). The paper's ELPV decoder puts up-sampling after each
//! convolution; here it comes before, in one fused operation, so that the output is not made of
//! 2x2 blocks.

use hotad_engine::data::picture::ImageSpec;
use hotad_engine::device::Device;
use hotad_engine::ops::{ConvParams, conv2d_max_pool2, loss, upsample_conv2d};
use hotad_engine::params::{Params, State};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result, random};
use hotad_kernels::conv::ConvOptions;
use hotad_kernels::loss::Loss;

/// Widths of the network that the paper takes from VGG.
pub const VGG: [usize; 2] = [64, 128];
/// Widths of the network of the paper's case study.
pub const ELPV: [usize; 4] = [3, 9, 27, 81];

/// Layout of the network.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchAutoencoder {
    widths: Vec<usize>,
    image: ImageSpec,
}

impl PatchAutoencoder {
    /// A network for images whose sides are multiples of `2^widths.len()`.
    pub fn new(widths: &[usize], image: ImageSpec) -> Self {
        Self { widths: widths.to_vec(), image }
    }

    /// Latent rows, columns and elements per patch.
    pub fn latent(&self) -> (usize, usize, usize) {
        let shrink = 1 << self.widths.len();
        (self.image.height / shrink, self.image.width / shrink, *self.widths.last().unwrap_or(&0))
    }

    /// In and out channels of each encoder layer.
    fn steps(&self) -> Vec<(usize, usize)> {
        let from = std::iter::once(self.image.channels).chain(self.widths.iter().copied());
        from.zip(self.widths.iter().copied()).collect()
    }

    /// Fresh parameters.
    pub fn init(&self, seed: u64) -> Params {
        let mut rng = random::stream(seed, "patch autoencoder", 0);
        let mut params = Params::default();
        let mut layer = |name: String, from: usize, to: usize| {
            params.he_uniform(&format!("{name}.weight"), &[to, 3, 3, from], 9 * from, &mut rng);
            params.zeros(&format!("{name}.bias"), &[to]);
        };
        for (i, (from, to)) in self.steps().into_iter().enumerate() {
            layer(format!("encoder.{i}"), from, to);
        }
        for (i, (to, from)) in self.steps().into_iter().enumerate().rev() {
            layer(format!("decoder.{i}"), from, to);
        }
        params
    }

    /// Parameters from a model file, on a device.
    ///
    /// # Errors
    /// When one is missing or has another shape, or the device is out of memory.
    pub fn load(&self, state: &State, device: &Device) -> Result<Params> {
        let mut params = self.init(0).to(device)?;
        params.set_values(state)?;
        Ok(params)
    }

    fn layer(&self, params: &Params, name: &str, activation: Activation, tracked: bool) -> Result<ConvParams> {
        Ok(ConvParams {
            weight: params.get(&format!("{name}.weight"), tracked)?,
            bias: Some(params.get(&format!("{name}.bias"), tracked)?),
            activation,
        })
    }

    /// `[n, h, w, c]` to the latent map `[n, p1, p2, d]`.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encode(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
        let mut x = images.clone();
        for i in 0..self.widths.len() {
            let layer = self.layer(params, &format!("encoder.{i}"), Activation::Relu, tracked)?;
            x = conv2d_max_pool2(&x, &layer, ConvOptions::same(3))?;
        }
        Ok(x)
    }

    /// The latent map back to images.
    ///
    /// # Errors
    /// When the map has another shape.
    pub fn decode(&self, params: &Params, latent: &Tensor, tracked: bool) -> Result<Tensor> {
        let mut x = latent.clone();
        for i in (0..self.widths.len()).rev() {
            let activation = if i == 0 { Activation::Identity } else { Activation::Relu };
            x = upsample_conv2d(&x, &self.layer(params, &format!("decoder.{i}"), activation, tracked)?)?;
        }
        Ok(x)
    }

    /// Mean squared error of the reconstruction (algorithm 1, step 1).
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn reconstruction_loss(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
        let latent = self.encode(params, images, tracked)?;
        loss(Loss::Mse, &self.decode(params, &latent, tracked)?, images)
    }
}
