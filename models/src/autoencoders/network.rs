//! The convolutional autoencoder of the reconstruction baselines (Bergmann et al. 2018, table 1).
//!
//! Encoder: 4x4 s2 32, 4x4 s2 32, 3x3 32, 4x4 s2 64, 3x3 64, 4x4 s2 128, 3x3 64, 3x3 32, then an 8x8
//! convolution without padding to the latent vector; one more 4x4 s2 32 in front for each doubling
//! of the image beyond 128. Decoder mirrored, LeakyReLU 0.2; the output is a sigmoid, which the
//! paper leaves open. The decoder alone is the generator of AnoGAN.

use hotad_engine::ops::{ConvParams, conv_transpose2d, conv2d};
use hotad_engine::params::Params;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};
use hotad_kernels::conv::{ConvOptions, Padding};
use rand_chacha::ChaCha8Rng;

use crate::export::{GraphValue, Writer};
use crate::networks::layer;

const LEAKY: Activation = Activation::LeakyRelu(0.2);

/// Image sizes that the layers fit.
pub const SIZES: [usize; 3] = [128, 256, 512];

/// One layer of the encoder; the decoder has its transpose.
struct Layer {
    kernel: usize,
    from: usize,
    to: usize,
    opts: ConvOptions,
    encoder: Names,
    decoder: Names,
}

/// Names of the parameters of a convolution.
struct Names {
    weight: String,
    bias: String,
}

impl Names {
    fn new(layer: &str) -> Self {
        Self { weight: format!("{layer}.weight"), bias: format!("{layer}.bias") }
    }

    fn params(&self, params: &Params, activation: Activation, tracked: bool) -> Result<ConvParams> {
        let bias = Some(params.get(&self.bias, tracked)?);
        Ok(ConvParams { weight: params.get(&self.weight, tracked)?, bias, activation })
    }
}

impl Layer {
    fn shape(&self) -> [usize; 4] {
        [self.to, self.kernel, self.kernel, self.from]
    }
}

/// An autoencoder for images of one size.
pub struct Autoencoder {
    layers: Vec<Layer>,
}

impl Autoencoder {
    /// For images of `size` pixels a side ([`SIZES`]) and a latent vector of `latent` elements.
    pub fn new(size: usize, channels: usize, latent: usize) -> Self {
        let halve = ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() };
        let doublings = (size / 128).ilog2() as usize;
        let mut shape = vec![(4, 32, halve); doublings];
        shape.extend([(4, 32, halve), (4, 32, halve), (3, 32, ConvOptions::same(3)), (4, 64, halve)]);
        shape.extend([(3, 64, ConvOptions::same(3)), (4, 128, halve), (3, 64, ConvOptions::same(3))]);
        shape.extend([(3, 32, ConvOptions::same(3)), (8, latent, ConvOptions::default())]);
        let mut from = channels;
        let layer = |(i, (kernel, to, opts))| {
            let (encoder, decoder) = (Names::new(&format!("encoder.{i}")), Names::new(&format!("decoder.{i}")));
            Layer { kernel, from: std::mem::replace(&mut from, to), to, opts, encoder, decoder }
        };
        Self { layers: shape.into_iter().enumerate().map(layer).collect() }
    }

    /// Elements of the latent vector.
    pub fn latent(&self) -> usize {
        self.layers[self.layers.len() - 1].to
    }

    /// Adds a fresh encoder and decoder.
    pub fn init(&self, params: &mut Params, rng: &mut ChaCha8Rng) {
        for i in 0..self.layers.len() {
            self.init_encoder(i, params, rng);
            self.init_decoder(i, params, rng);
        }
    }

    fn init_encoder(&self, i: usize, params: &mut Params, rng: &mut ChaCha8Rng) {
        let l = &self.layers[i];
        params.he_uniform(&l.encoder.weight, &l.shape(), l.kernel * l.kernel * l.from, rng);
        params.zeros(&l.encoder.bias, &[l.to]);
    }

    fn init_decoder(&self, i: usize, params: &mut Params, rng: &mut ChaCha8Rng) {
        let l = &self.layers[i];
        let reached = (l.kernel * l.kernel * l.to / (l.opts.stride * l.opts.stride)).max(1);
        let fan_in = if l.opts.padding == Padding::Each(0) { l.to } else { reached };
        params.he_uniform(&l.decoder.weight, &l.shape(), fan_in, rng);
        params.zeros(&l.decoder.bias, &[l.from]);
    }

    /// Images `[n, h, w, c]` to latent vectors `[n, 1, 1, latent]`.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn encode(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
        let mut x = images.clone();
        for (i, l) in self.layers.iter().enumerate() {
            let activation = if i + 1 == self.layers.len() { Activation::Identity } else { LEAKY };
            x = conv2d(&x, &l.encoder.params(params, activation, tracked)?, l.opts)?;
        }
        Ok(x)
    }

    /// Latent vectors to images in 0..1.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn decode(&self, params: &Params, latent: &Tensor, tracked: bool) -> Result<Tensor> {
        let mut x = latent.clone();
        for (i, l) in self.layers.iter().enumerate().rev() {
            let activation = if i == 0 { Activation::Sigmoid } else { LEAKY };
            x = conv_transpose2d(&x, &l.decoder.params(params, activation, tracked)?, l.opts)?;
        }
        Ok(x)
    }

    /// Both in turn.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn reconstruct(&self, params: &Params, images: &Tensor, tracked: bool) -> Result<Tensor> {
        self.decode(params, &self.encode(params, images, tracked)?, tracked)
    }

    /// [`Autoencoder::encode`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export_encoder(&self, to: &Writer, images: &GraphValue) -> Result<GraphValue> {
        self.layers.iter().enumerate().try_fold(images.clone(), |x, (i, l)| {
            let activation = if i + 1 == self.layers.len() { Activation::Identity } else { LEAKY };
            let conv = layer::Layer::conv(format!("encoder.{i}"), l.from, l.to, l.kernel, l.opts.stride);
            to.run(&layer::Layer { opts: l.opts, ..conv.then(activation) }, &x, None, None)
        })
    }

    /// [`Autoencoder::decode`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export_decoder(&self, to: &Writer, latent: &GraphValue) -> Result<GraphValue> {
        self.layers.iter().enumerate().rev().try_fold(latent.clone(), |x, (i, l)| {
            let activation = if i == 0 { Activation::Sigmoid } else { LEAKY };
            let conv = layer::Layer::conv(format!("decoder.{i}"), l.to, l.from, l.kernel, l.opts.stride);
            to.run(&layer::Layer { opts: l.opts, transposed: true, ..conv.then(activation) }, &x, None, None)
        })
    }
}
