//! The U-Net that colours gray images (LEA-Net, table 9).
//!
//! Down: 4x4 convolutions of stride 2 with LeakyReLU 0.2 and 1, 2, 4, 8, 8, 8, 8, 8 times the first
//! width. Up: 2x2 transposed convolutions of stride 2 with ReLU, each joined with the map of its size on
//! the way down; the last gives the output through a sigmoid. Batch normalisation everywhere but in the
//! first and the last. Images of fewer than 256 pixels have fewer levels, down to a map of one pixel.

use hotad_engine::ops::{Mode, concat_channels, dropout};
use hotad_engine::params::Params;
use hotad_engine::tensor::{Tensor, Tensors};
use hotad_engine::{Activation, Result, random};
use hotad_kernels::conv::ConvOptions;

use super::layer::{Layer, Weights};
use crate::export::{GraphValue, Writer};

const EPS: f32 = 1e-5;

/// Levels of the network in the paper.
const LEVELS: usize = 8;

/// Up blocks that dropout follows, where it is asked for.
const DROPPED: usize = 3;

/// A U-Net.
pub struct UNet {
    down: Vec<Layer>,
    up: Vec<Layer>,
}

/// Dropout after the first three up blocks.
#[derive(Clone, Copy)]
pub struct Dropout {
    /// Share of the elements that become 0.
    pub probability: f32,
    /// Of the step.
    pub seed: u32,
}

impl UNet {
    /// For square images of `size` pixels, with `width` channels after the first convolution (64).
    pub fn new(from: usize, to: usize, size: usize, width: usize) -> Self {
        let levels = (size.trailing_zeros() as usize).min(LEVELS);
        let widths: Vec<usize> = (0..levels).map(|i| width << i.min(3)).collect();
        let named = |layer: Layer, norm: bool| {
            let name = format!("{}.norm", layer.name);
            if norm { layer.norm(name, EPS) } else { layer }
        };
        let down = (0..levels).map(|i| {
            let input = if i == 0 { from } else { widths[i - 1] };
            let opts = ConvOptions { stride: 2, padding: 1.into(), ..ConvOptions::default() };
            let layer = Layer { opts, ..Layer::conv(format!("down.{i}"), input, widths[i], 4, 2) };
            named(layer.then(Activation::LeakyRelu(0.2)), i > 0)
        });
        let up = (0..levels).map(|i| {
            // Block i makes the map that level `levels - 2 - i` has on the way down.
            let below = if i == 0 { widths[levels - 1] } else { 2 * widths[levels - 1 - i] };
            let last = i + 1 == levels;
            let output = if last { to } else { widths[levels - 2 - i] };
            let opts = ConvOptions { stride: 2, ..ConvOptions::default() };
            let layer = Layer { opts, transposed: true, ..Layer::conv(format!("up.{i}"), below, output, 2, 2) };
            named(layer.then(if last { Activation::Sigmoid } else { Activation::Relu }), !last)
        });
        Self { down: down.collect(), up: up.collect() }
    }

    /// Its layers, in order.
    pub fn layers(&self) -> Vec<&Layer> {
        self.down.iter().chain(&self.up).collect()
    }

    /// Fresh parameters.
    pub fn init(&self, seed: u64) -> Params {
        let (mut params, mut rng) = (Params::default(), random::stream(seed, "u-net", 0));
        self.layers().iter().for_each(|layer| layer.init(&mut params, "", &mut rng));
        params
    }

    /// Names of the layers on the way down, each of which halves the map.
    pub fn levels(&self) -> Vec<String> {
        self.down.iter().map(|l| l.name.clone()).collect()
    }

    /// Pixels of the smallest map, the last on the way down, of square images of `size` pixels.
    pub fn smallest_map(&self, size: usize) -> usize {
        (size >> self.down.len()).pow(2)
    }

    /// The first maps on the way down.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn maps(&self, weights: &Weights, x: &Tensor, levels: usize) -> Result<Tensors> {
        let mut maps = Tensors::new();
        for layer in self.down.iter().take(levels) {
            let map = weights.run(layer, maps.last().unwrap_or(x), None, None)?;
            maps.push(map);
        }
        Ok(maps)
    }

    /// `[n, h, w, from]` to `[n, h, w, to]`, in 0..1.
    ///
    /// # Errors
    /// When the batch has another shape.
    pub fn run(&self, weights: &Weights, x: &Tensor, drop: Option<Dropout>) -> Result<Tensor> {
        let mut maps = self.maps(weights, x, self.down.len())?;
        let mut y = maps.pop().unwrap_or_else(|| x.clone());
        for (i, layer) in self.up.iter().enumerate() {
            y = weights.run(layer, &y, None, None)?;
            if let Some(drop) = drop.filter(|drop| i < DROPPED && drop.probability > 0.0) {
                y = dropout(&y, drop.probability, drop.seed.wrapping_add(i as u32))?;
            }
            if let Some(known) = maps.pop() {
                y = concat_channels(&y, &known)?;
            }
        }
        Ok(y)
    }

    /// [`UNet::run`] as nodes of a graph.
    ///
    /// # Errors
    /// When a tensor is missing, or shapes do not fit.
    pub fn export(&self, to: &Writer, x: &GraphValue) -> Result<GraphValue> {
        let mut maps = Vec::with_capacity(self.down.len());
        for layer in &self.down {
            let map = to.run(layer, maps.last().unwrap_or(x), None, None)?;
            maps.push(map);
        }
        let mut y = maps.pop().unwrap_or_else(|| x.clone());
        for layer in &self.up {
            y = to.run(layer, &y, None, None)?;
            if let Some(known) = maps.pop() {
                y = y.concat(&known);
            }
        }
        Ok(y)
    }

    /// The network on the tape, or not.
    pub fn learn(&self, params: &Params, x: &Tensor, mode: Mode, drop: Option<Dropout>) -> Result<Tensor> {
        self.run(&Weights::Learned(params, "", mode), x, drop)
    }
}
