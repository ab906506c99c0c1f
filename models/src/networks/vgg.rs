//! VGG-16 and VGG-19 (Simonyan and Zisserman 2015), as torchvision names their convolutions.
//!
//! Stage p is the p-th group of 3x3 convolutions with ReLU and its 2x2 max pooling. The head is two fully
//! connected layers of 4096 over the whole last map, without an average before them: at 256 pixels that
//! map is 8x8, which gives the 165.7 M parameters of LEA-Net's tables; at 224 it is 7x7, and the layers
//! are torchvision's.

use hotad_engine::ops::reshape;
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};

use super::layer::{Layer, Weights};
use super::{Classifier, POINTS};
use crate::export::{GraphValue, Writer};

/// A VGG network.
pub struct Vgg {
    stages: Vec<Vec<Layer>>,
    classifier: [Layer; 3],
}

impl Vgg {
    /// VGG-16 for square images of `size` pixels; `width` channels in the first stage (64).
    pub fn vgg16(channels: usize, size: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, size, width, &[2, 2, 3, 3, 3], outputs)
    }

    /// VGG-19.
    pub fn vgg19(channels: usize, size: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, size, width, &[2, 2, 4, 4, 4], outputs)
    }

    fn new(channels: usize, size: usize, width: usize, depths: &[usize; POINTS], outputs: usize) -> Self {
        let (mut from, mut index) = (channels, 0);
        let mut stages = Vec::new();
        for (stage, depth) in depths.iter().enumerate() {
            let to = width << stage.min(3);
            let layers = (0..*depth).map(|_| {
                let name = format!("features.{index}");
                index += 2; // a ReLU follows
                Layer::conv(name, std::mem::replace(&mut from, to), to, 3, 1).then(Activation::Relu)
            });
            stages.push(layers.collect());
            index += 1; // the pooling
        }
        let (side, hidden) = (size >> POINTS, 64 * width);
        let flattened = Some((side, side));
        let first = Layer { flattened, ..Layer::linear("classifier.0", side * side * from, hidden) };
        let classifier = [
            first.then(Activation::Relu),
            Layer::linear("classifier.3", hidden, hidden).then(Activation::Relu),
            Layer::linear("classifier.6", hidden, outputs),
        ];
        Self { stages, classifier }
    }
}

impl Classifier for Vgg {
    fn layers(&self) -> Vec<&Layer> {
        self.stages.iter().flatten().chain(&self.classifier).collect()
    }

    fn stage(&self, point: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        let (last, inner) = self.stages[point - 1].split_last().expect("a stage has convolutions");
        let mut x = x.clone();
        for layer in inner {
            x = weights.run(layer, &x, None, None)?;
        }
        weights.run_pooled(last, &x, attention)
    }

    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        let [n, h, w, c] = x.nhwc()?;
        let mut x = reshape(x, &[n, h * w * c])?;
        for layer in &self.classifier {
            x = weights.linear(layer, &x)?;
        }
        Ok(x)
    }

    fn export_stage(
        &self,
        point: usize,
        to: &Writer,
        x: &GraphValue,
        attention: Option<&GraphValue>,
    ) -> Result<GraphValue> {
        let (last, inner) = self.stages[point - 1].split_last().expect("a stage has convolutions");
        let x = inner.iter().try_fold(x.clone(), |x, layer| to.run(layer, &x, None, None))?;
        to.run_pooled(last, &x, attention)
    }

    fn export_head(&self, to: &Writer, x: &GraphValue) -> Result<GraphValue> {
        self.classifier.iter().try_fold(x.clone(), |x, layer| to.linear(layer, &x))
    }
}
