//! The "basic CNN" of LEA-Net's tables 7 and 8: 4.0 M parameters, of which the paper says no more.
//!
//! Here: five stages of a 3x3 convolution, batch normalisation, ReLU and 2x2 max pooling (64, 128, 256,
//! 512, 512 channels), the average over the map, a layer of 128 and the output; 3.98 M.

use hotad_engine::ops::global_avg_pool2d;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};

use super::layer::{Layer, Weights};
use super::{Classifier, POINTS};
use crate::export::{GraphValue, Writer};

/// A plain convolutional network.
pub struct BasicCnn {
    stages: Vec<Layer>,
    hidden: Layer,
    output: Layer,
}

impl BasicCnn {
    /// For images of `channels`; `width` channels in the first stage (64).
    pub fn new(channels: usize, width: usize, outputs: usize) -> Self {
        let mut from = channels;
        let stages: Vec<Layer> = (0..POINTS)
            .map(|i| {
                let to = width << i.min(3);
                Layer::conv(format!("conv{}", i + 1), std::mem::replace(&mut from, to), to, 3, 1)
                    .norm(format!("bn{}", i + 1), 1e-5)
                    .then(Activation::Relu)
            })
            .collect();
        let hidden = Layer::linear("hidden", from, 2 * width).then(Activation::Relu);
        Self { stages, hidden, output: Layer::linear("output", 2 * width, outputs) }
    }
}

impl Classifier for BasicCnn {
    fn layers(&self) -> Vec<&Layer> {
        self.stages.iter().chain([&self.hidden, &self.output]).collect()
    }

    fn stage(&self, point: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        weights.run_pooled(&self.stages[point - 1], x, attention)
    }

    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        weights.linear(&self.output, &weights.linear(&self.hidden, &global_avg_pool2d(x)?)?)
    }

    fn export_stage(
        &self,
        point: usize,
        to: &Writer,
        x: &GraphValue,
        attention: Option<&GraphValue>,
    ) -> Result<GraphValue> {
        to.run_pooled(&self.stages[point - 1], x, attention)
    }

    fn export_head(&self, to: &Writer, x: &GraphValue) -> Result<GraphValue> {
        to.linear(&self.output, &to.linear(&self.hidden, &x.averaged())?)
    }
}
