//! Residual networks (He et al. 2016), as torchvision names and shapes them: ResNet-18, -34 and -50, Wide ResNet-50-2, and the
//! attention network of LEA-Net (table 1: "five residual blocks", one for each stage).
//!
//! Stage 1 is the 7x7 convolution of stride 2, stage 2 the 3x3 max pooling of stride 2 and the blocks of
//! `layer1`, stages 3 to 5 those of `layer2` to `layer4`; then the average over the map and `fc`.

use hotad_engine::ops::{global_avg_pool2d, max_pool2d};
use hotad_engine::tensor::Tensor;
use hotad_engine::{Activation, Result};
use hotad_kernels::pool::PoolOptions;

use super::Classifier;
use super::layer::{Layer, Weights};
use super::trunk::{Block, Pooled, Trunk};
use crate::export::{GraphValue, Writer};

const EPS: f32 = 1e-5;

/// The max pooling before `layer1`.
const POOL: PoolOptions = PoolOptions { kernel: 3, stride: 2, padding: 1 };

/// A residual block: its convolutions in order, and the shortcut where the size changes.
struct ResidualBlock {
    convs: Vec<Layer>,
    shortcut: Option<Layer>,
}

impl Block for ResidualBlock {
    fn layers(&self) -> Vec<&Layer> {
        self.convs.iter().chain(&self.shortcut).collect()
    }

    fn run(&self, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        let known = match &self.shortcut {
            Some(layer) => weights.run(layer, x, None, None)?,
            None => x.clone(),
        };
        // A block has two convolutions or three.
        let (last, inner) = self.convs.split_last().expect("a block has convolutions");
        let y = inner.iter().try_fold(x.clone(), |x, layer| weights.run(layer, &x, None, None))?;
        weights.run(last, &y, Some(&known), attention)
    }

    fn export(&self, to: &Writer, x: &GraphValue, attention: Option<&GraphValue>) -> Result<GraphValue> {
        let known = match &self.shortcut {
            Some(layer) => to.run(layer, x, None, None)?,
            None => x.clone(),
        };
        let (last, inner) = self.convs.split_last().expect("a block has convolutions");
        let y = inner.iter().try_fold(x.clone(), |x, layer| to.run(layer, &x, None, None))?;
        to.run(last, &y, Some(&known), attention)
    }
}

/// A residual network.
pub struct ResNet {
    stem: Layer,
    stages: Vec<Vec<ResidualBlock>>,
    fc: Layer,
}

/// A convolution with its normalisation and ReLU.
fn conv(name: &str, at: usize, from: usize, to: usize, kernel: usize, stride: usize) -> Layer {
    Layer::conv(format!("{name}conv{at}"), from, to, kernel, stride)
        .norm(format!("{name}bn{at}"), EPS)
        .then(Activation::Relu)
}

fn shortcut(name: &str, from: usize, to: usize, stride: usize) -> Option<Layer> {
    let layer = || Layer::conv(format!("{name}downsample.0"), from, to, 1, stride);
    (from != to || stride != 1).then(|| layer().norm(format!("{name}downsample.1"), EPS))
}

fn basic(name: &str, from: usize, to: usize, stride: usize) -> ResidualBlock {
    let convs = vec![conv(name, 1, from, to, 3, stride), conv(name, 2, to, to, 3, 1)];
    ResidualBlock { convs, shortcut: shortcut(name, from, to, stride) }
}

/// The stride is in the 3x3 convolution, as in torchvision.
fn bottleneck(name: &str, from: usize, to: usize, stride: usize) -> ResidualBlock {
    narrowed(name, from, to, to / 4, stride)
}

/// A bottleneck twice as wide inside (Zagoruyko and Komodakis 2016).
fn wide_bottleneck(name: &str, from: usize, to: usize, stride: usize) -> ResidualBlock {
    narrowed(name, from, to, to / 2, stride)
}

fn narrowed(name: &str, from: usize, to: usize, inner: usize, stride: usize) -> ResidualBlock {
    let convs =
        vec![conv(name, 1, from, inner, 1, 1), conv(name, 2, inner, inner, 3, stride), conv(name, 3, inner, to, 1, 1)];
    ResidualBlock { convs, shortcut: shortcut(name, from, to, stride) }
}

impl ResNet {
    /// ResNet-18 for images of `channels`; `width` channels after the first convolution (64).
    pub fn resnet18(channels: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, width, &[2, 2, 2, 2], 1, basic, outputs)
    }

    /// ResNet-34.
    pub fn resnet34(channels: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, width, &[3, 4, 6, 3], 1, basic, outputs)
    }

    /// ResNet-50.
    pub fn resnet50(channels: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, width, &[3, 4, 6, 3], 4, bottleneck, outputs)
    }

    /// Wide ResNet-50-2.
    pub fn wide_resnet50(channels: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, width, &[3, 4, 6, 3], 4, wide_bottleneck, outputs)
    }

    /// The attention network of LEA-Net: one block of two 3x3 convolutions in each stage.
    pub fn attention(channels: usize, width: usize, outputs: usize) -> Self {
        Self::new(channels, width, &[1, 1, 1, 1], 1, basic, outputs)
    }

    fn new(
        channels: usize,
        width: usize,
        depths: &[usize; 4],
        expansion: usize,
        block: fn(&str, usize, usize, usize) -> ResidualBlock,
        outputs: usize,
    ) -> Self {
        let mut from = width;
        let mut stages = Vec::new();
        for (stage, depth) in depths.iter().enumerate() {
            let to = (width << stage) * expansion;
            let blocks = (0..*depth).map(|i| {
                let stride = if i == 0 && stage > 0 { 2 } else { 1 };
                block(&format!("layer{}.{i}.", stage + 1), std::mem::replace(&mut from, to), to, stride)
            });
            stages.push(blocks.collect());
        }
        let fc = Layer::linear("fc", from, outputs);
        Self { stem: conv("", 1, channels, width, 7, 2), stages, fc }
    }

    /// Without the classifier: cuts `conv1`, then each block, of which the last of a stage bears the name of the stage
    /// (`layer1.0`, `layer1`, `layer2.0`, ...).
    pub fn into_trunk(self) -> Trunk {
        let mut blocks: Vec<(String, Box<dyn Block>)> = vec![("conv1".into(), Box::new(self.stem))];
        for (stage, residuals) in self.stages.into_iter().enumerate() {
            let last = residuals.len() - 1;
            for (i, block) in residuals.into_iter().enumerate() {
                let number = if i == last { String::new() } else { format!(".{i}") };
                let name = format!("layer{}{number}", stage + 1);
                let pooled = (stage, i) == (0, 0);
                let block: Box<dyn Block> =
                    if pooled { Box::new(Pooled { window: POOL, block }) } else { Box::new(block) };
                blocks.push((name, block));
            }
        }
        Trunk::new(blocks)
    }
}

impl Classifier for ResNet {
    fn layers(&self) -> Vec<&Layer> {
        let blocks = self.stages.iter().flatten().flat_map(Block::layers);
        std::iter::once(&self.stem).chain(blocks).chain([&self.fc]).collect()
    }

    fn stage(&self, point: usize, weights: &Weights, x: &Tensor, attention: Option<&Tensor>) -> Result<Tensor> {
        let Some(stage) = point.checked_sub(2) else { return weights.run(&self.stem, x, None, attention) };
        let mut x = if stage == 0 { max_pool2d(x, POOL)? } else { x.clone() };
        let blocks = &self.stages[stage];
        for (i, block) in blocks.iter().enumerate() {
            x = block.run(weights, &x, attention.filter(|_| i + 1 == blocks.len()))?;
        }
        Ok(x)
    }

    fn head(&self, weights: &Weights, x: &Tensor) -> Result<Tensor> {
        weights.linear(&self.fc, &global_avg_pool2d(x)?)
    }

    fn export_stage(
        &self,
        point: usize,
        to: &Writer,
        x: &GraphValue,
        attention: Option<&GraphValue>,
    ) -> Result<GraphValue> {
        let Some(stage) = point.checked_sub(2) else { return to.run(&self.stem, x, None, attention) };
        let mut x = if stage == 0 { x.max_pooled(POOL)? } else { x.clone() };
        let blocks = &self.stages[stage];
        for (i, block) in blocks.iter().enumerate() {
            x = block.export(to, &x, attention.filter(|_| i + 1 == blocks.len()))?;
        }
        Ok(x)
    }

    fn export_head(&self, to: &Writer, x: &GraphValue) -> Result<GraphValue> {
        to.linear(&self.fc, &x.averaged())
    }
}
