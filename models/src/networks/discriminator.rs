//! The spectrally normalised patch discriminator (SN-PatchGAN; Yu et al. 2019, section 3.3).
//!
//! Six 5x5 convolutions of stride 2 to 1, 2, 4, 4, 4, 4 times the first width, each with LeakyReLU 0.2, the last
//! too, as the public code has it; every value that comes out is a verdict on a patch.

use hotad_engine::ops::{ConvParams, conv2d, spectral_norm};
use hotad_engine::params::Params;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Activation, Result, random};
use hotad_kernels::conv::{ConvOptions, Padding};
use rand::Rng;

/// Widths, as multiples of the first.
const WIDTHS: [usize; 6] = [1, 2, 4, 4, 4, 4];
const OPTIONS: ConvOptions = ConvOptions { stride: 2, padding: Padding::Each(2), dilation: 1, groups: 1 };

/// A discriminator over images of some channels.
pub struct Discriminator {
    /// In and out channels of each layer.
    channels: Vec<(usize, usize)>,
}

/// Normalised weights of one step.
pub struct Normalised(Vec<ConvParams>);

impl Discriminator {
    /// For inputs of `from` channels, with `width` channels after the first convolution (64 in the paper).
    pub fn new(from: usize, width: usize) -> Self {
        let to = WIDTHS.map(|w| w * width);
        Self { channels: std::iter::once(from).chain(to).zip(to).collect() }
    }

    fn name(i: usize, kind: &str) -> String {
        format!("discriminator.{i}.{kind}")
    }

    /// Adds fresh parameters, and the vectors of the power iteration.
    pub fn init(&self, params: &mut Params, seed: u64) {
        let mut rng = random::stream(seed, "discriminator", 0);
        for (i, (from, to)) in self.channels.iter().enumerate() {
            params.he_uniform(&Self::name(i, "weight"), &[*to, 5, 5, *from], 25 * from, &mut rng);
            params.zeros(&Self::name(i, "bias"), &[*to]);
            params.keep(&Self::name(i, "u"), *to, || (0..*to).map(|_| rng.random::<f32>() - 0.5).collect());
            params.keep(&Self::name(i, "v"), 25 * from, || vec![0.0; 25 * from]);
        }
    }

    /// The weights over their largest singular values, after so many power iterations; on the tape when `tracked`.
    ///
    /// # Errors
    /// When a parameter is missing.
    pub fn weights(&self, params: &Params, iterations: usize, tracked: bool) -> Result<Normalised> {
        let layer = |i: usize| -> Result<ConvParams> {
            let vectors = [params.running(&Self::name(i, "u"))?, params.running(&Self::name(i, "v"))?];
            let weight = spectral_norm(&params.get(&Self::name(i, "weight"), tracked)?, vectors, iterations)?;
            let bias = Some(params.get(&Self::name(i, "bias"), tracked)?);
            Ok(ConvParams { weight, bias, activation: Activation::LeakyRelu(0.2) })
        };
        (0..self.channels.len()).map(layer).collect::<Result<_>>().map(Normalised)
    }
}

impl Normalised {
    /// Features after each convolution; the last are the verdicts: positive for real.
    ///
    /// # Errors
    /// When the images have other channels.
    pub fn features(&self, images: &Tensor) -> Result<Tensors> {
        let mut maps = Tensors::new();
        for layer in &self.0 {
            let map = conv2d(maps.last().unwrap_or(images), layer, OPTIONS)?;
            maps.push(map);
        }
        Ok(maps)
    }

    /// The verdicts alone.
    ///
    /// # Errors
    /// When the images have other channels.
    pub fn verdicts(&self, images: &Tensor) -> Result<Tensor> {
        Ok(self.features(images)?.swap_remove(self.0.len() - 1))
    }
}
